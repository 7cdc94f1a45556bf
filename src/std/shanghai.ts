/**
 * Wall-clock time in Asia/Shanghai, which all customers and carriers use. China has had one zone without summer time since 1991, so adding
 * eight hours replaces a time-zone library. The zone of the process does not matter.
 */
const offsetMs = 8 * 3600_000;

/** Shanghai's time as `2026-07-16T09:30:05.000Z`; the functions below cut their forms out of it. */
const shifted = (at: Date): string => new Date(at.getTime() + offsetMs).toISOString();

/** `YYYY-MM-DD` */
export const shanghaiDay = (at: Date): string => shifted(at).slice(0, 10);

/** ISO 8601: `2026-07-16T09:30:05.000+08:00` */
export const shanghaiTime = (at: Date): string => shifted(at).replace('Z', '+08:00');

/** `YYYY-MM-DD HH:mm:ss`, the form of the customers' APIs. `Intl` would be twenty times slower. */
export const wallClock = (at: Date): string => shifted(at).slice(0, 19).replace('T', ' ');

/** The day `days` after (or before) another, `YYYY-MM-DD`. */
export function addDays(day: string, days: number): string {
  return new Date(Date.parse(`${day}T00:00:00Z`) + days * 86_400_000).toISOString().slice(0, 10);
}

/** The first instant of a day. */
export const dayBegins = (day: string): Date => new Date(`${day}T00:00:00+08:00`);
