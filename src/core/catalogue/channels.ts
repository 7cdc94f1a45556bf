/**
 * Channels to carriers and their health. The only writer of `channels`.
 *
 * Writers belong into a transaction and raise the configuration's version first; why is told in accounts.ts. What a channel's
 * connections are doing is not known here: that is rows of `channel_leases`, read by reporting.ts.
 */
import type { Sql } from '../../db/db.ts';
import { raiseVersion } from '../config/directory.ts';
import type { Management, Page, PageRequest } from '../config/management.ts';
import { afterId, Denial, found, nextConfigId, pageOf } from '../config/management.ts';
import type { Diagnosis } from './health.ts';
import {
  type Carrier,
  type Channel,
  type ChannelKinds,
  defaultHealthRules,
  type HealthRules,
  type Province,
} from '../model/configuration.ts';

export interface StoredChannel extends Channel {
  readonly forcedHealth: 'healthy' | 'unhealthy' | null;
  /** Why it is unhealthy or probing; empty when healthy. */
  readonly healthReason: string;
  readonly healthAt: Date;
  /** The node that found it so, or `operator`; null if nobody has looked yet. */
  readonly healthBy: string | null;
  /** When it will be tried with messages; null if it is not to be, or as soon as it has a session again. */
  readonly healthProbeAt: Date | null;
  readonly createdAt: Date;
}

export interface ChannelSettings {
  readonly name?: string;
  readonly enabled?: boolean;
  readonly connections?: number;
  readonly carriers?: readonly Carrier[];
  /** Null: all of them. */
  readonly provinces?: readonly Province[] | null;
  /** What it counts as, whatever it does; null: as it is found to be. */
  readonly forcedHealth?: 'healthy' | 'unhealthy' | null;
  /** What is left out has its default. */
  readonly healthRules?: Partial<HealthRules>;
  readonly accessNumber?: string;
  /** Of its protocol. */
  readonly settings?: Channel['settings'];
  /** The password of the login. */
  readonly secret?: string;
}

export type NewChannel = { readonly id?: bigint; readonly protocol: Channel['protocol'] } & ChannelSettings &
  Required<Pick<ChannelSettings, 'name' | 'carriers' | 'accessNumber' | 'settings' | 'secret'>>;

/** What writing a channel takes: the box seals its secret, the kinds check its settings. */
type Keeper = Pick<Management, 'box' | 'kinds'>;

/** Makes a channel; a node takes its connections up within a second or so. The secret is stored sealed and never shown. */
export async function createChannel(sql: Sql, { box, kinds }: Keeper, channel: NewChannel): Promise<StoredChannel> {
  checkSettings(kinds, channel.protocol, channel.settings);
  await raiseVersion(sql);
  const id = channel.id ?? (await nextConfigId(sql));
  const [taken] = await sql`select 1 from channels where id = ${id}`;
  if (taken) throw new Denial('conflict', 'there is a channel with this id already');
  await sql`
    insert into channels (id, name, protocol, enabled, connections, carriers, provinces, health_forced, health_rules, access_number, settings, secret)
    values (${id}, ${channel.name}, ${channel.protocol}, ${channel.enabled ?? true}, ${channel.connections ?? 1}, ${channel.carriers}::text[],
            ${channel.provinces ?? null}::text[], ${channel.forcedHealth ?? null}, ${sql.json(ownRules(channel.healthRules))}, ${channel.accessNumber},
            ${sql.json(channel.settings)}, ${box.seal(channel.secret)})`;
  return getChannel(sql, id);
}

/** Changes what is named and leaves the rest; `settings` and `healthRules` are replaced as a whole. */
export async function changeChannel(
  sql: Sql,
  { box, kinds }: Keeper,
  id: bigint,
  { secret, ...wanted }: ChannelSettings,
): Promise<StoredChannel> {
  await raiseVersion(sql);
  const channel = { ...(await getChannel(sql, id)), ...wanted };
  if (wanted.settings) checkSettings(kinds, channel.protocol, wanted.settings);
  await sql`
    update channels
    set name = ${channel.name}, enabled = ${channel.enabled}, connections = ${channel.connections}, carriers = ${channel.carriers}::text[],
        provinces = ${channel.provinces}::text[], health_forced = ${channel.forcedHealth},
        health_forced_at = case when health_forced is distinct from ${channel.forcedHealth} then present.at else health_forced_at end,
        health_rules = ${sql.json(ownRules(channel.healthRules))}, access_number = ${channel.accessNumber}, settings = ${sql.json(channel.settings)},
        secret = coalesce(${secret === undefined ? null : box.seal(secret)}, secret)
    from (select now() as at) as present
    where id = ${id}`;
  return getChannel(sql, id);
}

/** What differs from the defaults, so that a better default reaches whoever has not chosen. */
function ownRules(rules: Partial<HealthRules> = {}): Partial<HealthRules> {
  const all = { ...defaultHealthRules, ...rules };
  if (all.leastOutcomes > all.outcomes) throw new Denial('invalid', 'healthRules: leastOutcomes is more than outcomes');
  if (all.pauseSeconds > all.longestPauseSeconds) throw new Denial('invalid', 'healthRules: pauseSeconds is more than longestPauseSeconds');
  return Object.fromEntries(Object.entries(all).filter(([name, value]) => value !== defaultHealthRules[name as keyof HealthRules]));
}

function checkSettings(kinds: ChannelKinds, protocol: string, settings: Channel['settings']): void {
  const problem = kinds.problemOf(protocol, settings);
  if (problem !== null) throw new Denial('malformed', problem);
}

export async function getChannel(sql: Sql, id: bigint): Promise<StoredChannel> {
  const [channel] = await sql<StoredChannel[]>`select ${channelColumns(sql)} from channels where id = ${id}`;
  return withRules(found(channel, 'channel'));
}

export async function listChannels(sql: Sql, page: PageRequest): Promise<Page<StoredChannel>> {
  const rows = await sql<StoredChannel[]>`
    select ${channelColumns(sql)} from channels where id > ${afterId(page)} order by id limit ${page.limit + 1}`;
  return pageOf(rows.map(withRules), page, ({ id }) => [id]);
}

const withRules = (channel: StoredChannel): StoredChannel => ({
  ...channel,
  healthRules: { ...defaultHealthRules, ...channel.healthRules },
});

const channelColumns = (sql: Sql) => sql`
  id, name, protocol, enabled, connections, carriers, provinces, coalesce(health_forced, health) as health, health_forced as "forcedHealth",
  health_forced is not null as "isHealthForced", case when health_forced is null then health_cause end as "healthCause",
  case when health_forced is null then health_reason else 'forced' end as "healthReason",
  case when health_forced is null then greatest(health_at, health_forced_at) else health_forced_at end as "healthAt",
  case when health_forced is null then health_by else 'operator' end as "healthBy",
  case when health_forced is null then health_probe_at end as "healthProbeAt",
  health_rules as "healthRules", access_number as "accessNumber", settings, created_at as "createdAt"`;

// ── health ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
// Decisions are conditional: on the state that they were reached in, on the channel being on, and on nobody having forced its health.

export interface HealthChange {
  readonly channelId: bigint;
  readonly health: Channel['health'];
  readonly reason: string;
}

/** Failing again while it is probed, or before it was well for the longest pause, makes the next pause longer. */
const triesOf = (sql: Sql, longestSeconds: unknown) => sql`
  case when c.health = 'probing' or (c.health_by is not null and c.health_at > now() - make_interval(secs => ${longestSeconds as number}))
       then least(c.health_tries + 1, 20) else 0 end`;

/**
 * Writes what a node has concluded about a channel, if it is still in the state that the node saw. Whoever changes a channel has raised the
 * version first and holds its row, so what is read here stays so until the transaction ends.
 */
export async function settleHealth(sql: Sql, node: string, seen: Channel, diagnosis: Diagnosis): Promise<HealthChange[]> {
  await raiseVersion(sql);
  if (diagnosis.health === 'healthy')
    return sql<HealthChange[]>`
      update channels
      set health = 'healthy', health_cause = null, health_reason = '', health_at = now(), health_by = ${node}, health_probe_at = null
      where id = ${seen.id} and health = ${seen.health} and enabled and health_forced is null
      returning id as "channelId", health, health_reason as reason`;
  const { pauseSeconds, longestPauseSeconds: longest } = seen.healthRules;
  const [{ tries } = { tries: 0 }] = await sql<{ tries: number }[]>`
    select ${triesOf(sql, longest)} as tries from channels c where c.id = ${seen.id}`;
  return sql<HealthChange[]>`
    update channels
    set health = 'unhealthy', health_cause = ${diagnosis.cause}, health_reason = ${diagnosis.reason}, health_at = now(), health_by = ${node},
        health_tries = ${tries}, health_probe_at = now() + make_interval(secs => ${Math.min(longest, pauseSeconds * 2 ** tries)}::float8)
    where id = ${seen.id} and health = ${seen.health} and enabled and health_forced is null
    returning id as "channelId", health, health_reason as reason`;
}

/**
 * Which channels' health their sessions, or time, should change now. No session on any node for too long makes a channel unhealthy, and
 * one that came back and stood for some seconds makes it healthy; one that failed with messages is probed after its pause. A channel that
 * no node serves is not judged.
 */
const dueTurns = (sql: Sql, channels: readonly Channel[]) => sql`
  select c.id, r.silent, ${triesOf(sql, sql`r.longest`)} as tries,
         case when c.health <> 'unhealthy' then 'unhealthy'
              when coalesce(c.health_cause, 'no_session') = 'no_session' then 'healthy' else 'probing' end as health
  from unnest(${channels.map(({ id }) => id)}::bigint[], ${channels.map(({ healthRules }) => healthRules.sessionSeconds)}::float8[],
              ${channels.map(({ healthRules }) => healthRules.steadySeconds)}::float8[],
              ${channels.map(({ healthRules }) => healthRules.longestPauseSeconds)}::float8[]) as r(id, silent, steady, longest)
  join channels c on c.id = r.id
  join (select channel_id, max(up_at) as up_at, min(up_since) filter (where until >= now()) as up_since,
               min(since) filter (where until >= now()) as since
        from channel_nodes group by channel_id) n on n.channel_id = c.id
  where c.enabled and c.health_forced is null and case
    when c.health <> 'unhealthy' then
      n.since <= now() - make_interval(secs => r.silent) and coalesce(n.up_at, '-infinity') <= now() - make_interval(secs => r.silent)
    when coalesce(c.health_cause, 'no_session') = 'no_session' then n.up_since <= now() - make_interval(secs => r.steady)
    else c.health_probe_at <= now() and n.up_since is not null end`;

/** Whether `changeDueHealth` would change anything. */
export async function someHealthIsDue(sql: Sql, channels: readonly Channel[]): Promise<boolean> {
  return channels.length > 0 && (await sql`${dueTurns(sql, channels)} limit 1`).length > 0;
}

/** Changes the health of the channels of which it is due; says which. */
export async function changeDueHealth(sql: Sql, node: string, channels: readonly Channel[]): Promise<HealthChange[]> {
  await raiseVersion(sql);
  const due = await sql<{ id: bigint; health: Channel['health']; silent: number; tries: number }[]>`${dueTurns(sql, channels)}`;
  if (due.length === 0) return [];
  return sql<HealthChange[]>`
    update channels c
    set health = due.health, health_at = now(), health_by = ${node}, health_probe_at = null,
        health_cause = case when due.health = 'unhealthy' then 'no_session' when due.health = 'healthy' then null else c.health_cause end,
        health_reason = case when due.health = 'unhealthy' then 'no session for ' || due.silent || ' seconds'
                             when due.health = 'healthy' then '' else c.health_reason end,
        health_tries = case when due.health = 'unhealthy' then due.tries else c.health_tries end
    from unnest(${due.map((d) => d.id)}::bigint[], ${due.map((d) => d.health)}::text[], ${due.map((d) => d.silent)}::float8[],
                ${due.map((d) => d.tries)}::int[]) as due(id, health, silent, tries)
    where c.id = due.id
    returning c.id as "channelId", c.health, c.health_reason as reason`;
}
