/** How the benchmark measures: durations, shares of the machine, and readable figures. */
import { performance } from 'node:perf_hooks';
import type { Platform } from './platform.ts';

/** What a scenario found, by name; steps of a long one are rows of a table. */
export type Figures = Readonly<Record<string, number | readonly Readonly<Record<string, number>>[]>>;

/** Milliseconds that work took. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** Median and tails of some durations in milliseconds. `what` they were stands before each name. */
export function percentiles(times: readonly number[], what = ''): Record<string, number> {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  const name = (percent: number): string => (what === '' ? `p${percent}Ms` : `${what}P${percent}Ms`);
  return { [name(50)]: at(0.5), [name(95)]: at(0.95), [name(99)]: at(0.99) };
}

/** Runs `work` and tells how long it took and what it cost: processor time of each party, as cores, and the platform's memory at its end. */
export async function watched(
  platform: Platform,
  work: () => Promise<unknown>,
): Promise<{ seconds: number; costs: Record<string, number> }> {
  const before = await platform.cpu();
  const own = process.cpuUsage();
  const seconds = (await timed(work)) / 1000;
  const { user, system } = process.cpuUsage(own);
  const after = await platform.cpu();
  const { residentMiB, heapMiB } = await platform.memory();
  return {
    seconds,
    costs: {
      platformCpu: (after.platform - before.platform) / seconds,
      databaseCpu: (after.database - before.database) / seconds,
      carrierCpu: (after.carrier - before.carrier) / seconds,
      clientCpu: (user + system) / 1e6 / seconds,
      residentMiB,
      heapMiB,
    },
  };
}

/** A figure as people read it. */
export const shown = (value: number): string => value.toFixed(Math.abs(value) < 100 ? 2 : 0);

/** A line for the plain figures, and a table for each list of steps. */
export function written(scenario: string, figures: Figures): string {
  const plain = Object.entries(figures).flatMap(([name, value]) => (typeof value === 'number' ? [`${name} ${shown(value)}`] : []));
  const tables = Object.values(figures).flatMap((steps) => {
    if (typeof steps === 'number') return [];
    const names = Object.keys(steps[0] ?? {});
    return [names, ...steps.map((step) => names.map((name) => shown(step[name] ?? Number.NaN)))].map((cells) =>
      cells.map((cell, n) => cell.padStart(Math.max(12, (names[n] ?? '').length + 2))).join(''),
    );
  });
  return [`${scenario.padEnd(14)}${plain.join('   ')}`, ...tables].join('\n');
}
