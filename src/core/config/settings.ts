/**
 * Settings that an operator changes while the platform runs, and values the installation makes for itself once (the sealed key of the
 * short links). The only writer of `settings`. What is needed before PostgreSQL can be asked is in `config.ts` instead.
 */
import { randomBytes } from 'node:crypto';
import type { Db, Sql } from '../../db/db.ts';
import type { SecretBox } from '../../std/secret-box.ts';
import { raiseVersion } from './directory.ts';
import type { PlatformSettings } from '../model/configuration.ts';

/**
 * Changes what is named; null goes back to the default. What is stored are the differences from the defaults, so that a better default
 * reaches whoever has not chosen.
 */
export async function changeSettings(
  sql: Sql,
  wanted: { readonly [Key in keyof PlatformSettings]?: PlatformSettings[Key] | null | undefined },
): Promise<void> {
  await raiseVersion(sql);
  const [row] = await sql<{ value: string }[]>`select value from settings where name = 'platform'`;
  const merged = { ...(row && (JSON.parse(row.value) as Partial<PlatformSettings>)), ...wanted };
  const value = JSON.stringify(merged, (_key, setting: unknown) => setting ?? undefined);
  await sql`insert into settings (name, value) values ('platform', ${value}) on conflict (name) do update set value = excluded.value`;
}

/** The 32-byte secret that short links are derived from; the same on every node, made by whichever asks first. */
export async function linkSecret(db: Db, box: SecretBox): Promise<Buffer> {
  await db.sql`insert into settings (name, value) values ('link_secret', ${box.seal(randomBytes(32).toString('hex'))}) on conflict do nothing`;
  const [row] = await db.sql<{ value: string }[]>`select value from settings where name = 'link_secret'`;
  if (!row) throw new Error('the setting link_secret is missing');
  return Buffer.from(box.open(row.value), 'hex');
}

/** The day before which no message waits for a report any more, or null if nobody has looked yet. */
export async function overdueEndedBefore(sql: Sql): Promise<string | null> {
  const [row] = await sql<{ value: string }[]>`select value from settings where name = 'overdue_ended_before'`;
  return row?.value ?? null;
}

export async function setOverdueEndedBefore(sql: Sql, day: string): Promise<void> {
  await sql`
    insert into settings (name, value) values ('overdue_ended_before', ${day})
    on conflict (name) do update set value = excluded.value where settings.value <> excluded.value`;
}

/** Events of days before this may have been given up, although their messages and replies are still there; null if none ever was. */
export async function eventsGivenUpBefore(sql: Sql): Promise<string | null> {
  const [row] = await sql<{ value: string }[]>`select value from settings where name = 'events_given_up_before'`;
  return row?.value ?? null;
}

export async function setEventsGivenUpBefore(sql: Sql, day: string): Promise<void> {
  await sql`
    insert into settings (name, value) values ('events_given_up_before', ${day})
    on conflict (name) do update set value = excluded.value where settings.value < excluded.value`;
}
