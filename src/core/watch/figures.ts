/**
 * The operator's figures of the whole installation, read from the tables: queues, waiting events, orphans, connections. The only
 * writer of `figures`.
 *
 * Reading them scans tables that may be large, so it is done on request, by one node at a time, and the result is stored in one row for
 * all nodes: whatever the number of nodes and requests, the tables are read at most once in ten seconds, and less often if a reading takes
 * long. The number of endpoints with their own lines is bounded; the others are added up.
 */
import type { Db, Sql } from '../../db/db.ts';
import { groupBy } from '../../std/group.ts';
import { shanghaiDay } from '../../std/shanghai.ts';
import type { Channel } from '../model/configuration.ts';
import { type EventKind, eventKindName } from '../model/statuses.ts';

interface Described {
  readonly help: string;
  readonly labels: readonly string[];
}

const endpointLabels = ['account', 'subscription', 'kind'] as const;

export const figures = {
  queue_messages: {
    help: 'Recipients of chunks in the queue: waiting to be claimed, sending (a chunk counts until its last message has an outcome), or planned for later.',
    labels: ['channel', 'state'],
  },
  queue_oldest_seconds: { help: 'How long the chunk that has been due longest has been so; 0 if none is.', labels: ['channel'] },
  channel_connections: { help: 'Connections of channels that are on, by what they are doing.', labels: ['channel', 'state'] },
  channel_connections_configured: { help: 'Connections that channels should have; 0 for one that is off.', labels: ['channel'] },
  channel_nodes: { help: 'Nodes that serve a channel.', labels: ['channel'] },
  channel_health: {
    help: '1 for what a channel counts as: healthy, unhealthy or probing; 0 for the others.',
    labels: ['channel', 'health'],
  },
  push_waiting_events: { help: 'Events to be pushed that have not been taken.', labels: endpointLabels },
  push_oldest_seconds: { help: 'Age of the oldest event to be pushed that has not been taken.', labels: endpointLabels },
  push_failed_events: { help: 'Events whose pushes have failed for good; they wait for a replay.', labels: endpointLabels },
  pull_waiting_events: { help: 'Events to be pulled that have not been.', labels: endpointLabels },
  pull_oldest_seconds: { help: 'Age of the oldest event to be pulled that has not been.', labels: endpointLabels },
  open_orphan_reports: { help: 'Delivery reports that match no message.', labels: ['channel'] },
  unassigned_replies: { help: 'Replies that are nobody’s.', labels: [] },
  partition_days_ahead: { help: 'Days after today for which there are partitions.', labels: [] },
  database_size_bytes: { help: 'Size of the database.', labels: [] },
} as const satisfies Readonly<Record<string, Described>>;

type FigureName = keyof typeof figures;

export interface Figure {
  readonly name: FigureName;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Reading {
  readonly figures: readonly Figure[];
  /** Their age. */
  readonly ageSeconds: number;
}

/** The shortest time between two readings, and the part of its time that a connection may spend on readings. */
const everySeconds = 10;
const restFactor = 20;
const timeoutMs = 20_000;
/** Endpoints with their own lines, for each way an event may wait. */
const mostEndpoints = 200;

const queueState = ['waiting', 'sending', 'planned'] as const;
/** The state of events by their route: see outbox.ts. Events in a running push count as waiting for a push. */
const ways: readonly { readonly routes: readonly number[]; readonly count: FigureName; readonly oldest?: FigureName }[] = [
  { routes: [1, 2], count: 'push_waiting_events', oldest: 'push_oldest_seconds' },
  { routes: [3], count: 'push_failed_events' },
  { routes: [0], count: 'pull_waiting_events', oldest: 'pull_oldest_seconds' },
];

/** The latest figures; read again if they are due and no other node is reading them. */
export async function readFigures(db: Db, at: Date): Promise<Reading> {
  const kept = await stored(db.sql);
  if (kept.isFresh) return kept;
  await db.transaction(async (sql) => {
    const [free] = await sql`select 1 from figures where id = 1 for update skip locked`;
    if (!free || (await stored(sql)).isFresh) return;
    await sql`select set_config('statement_timeout', ${String(timeoutMs)}, true)`;
    const began = performance.now();
    const read = await readAll(sql, at);
    await sql`
      update figures set at = now(), took_ms = ${Math.round(performance.now() - began)}, samples = ${JSON.stringify(read)}::text::json where id = 1`;
  });
  return stored(db.sql);
}

async function stored(sql: Sql): Promise<Reading & { readonly isFresh: boolean }> {
  const [row] = await sql<{ figures: Figure[]; ageSeconds: number; isFresh: boolean }[]>`
    select samples as figures, (extract(epoch from now()) - extract(epoch from at))::float8 as "ageSeconds",
           at > now() - make_interval(secs => greatest(${everySeconds}::float8, took_ms * ${restFactor}::float8 / 1000)) as "isFresh"
    from figures where id = 1`;
  if (!row) throw new Error('the row of figures is missing');
  return row;
}

async function readAll(sql: Sql, at: Date): Promise<Figure[]> {
  const found: Figure[] = [];
  const add = (name: FigureName, labels: Figure['labels'], value: number): void => void found.push({ name, labels, value });
  const ageOf = (time: Date | null): number => (time ? Math.max(0, (at.getTime() - time.getTime()) / 1000) : 0);

  const channels = await sql<{ id: bigint; connections: number; health: Channel['health'] }[]>`
    select id, case when enabled then connections else 0 end as connections, coalesce(health_forced, health) as health
    from channels order by id`;
  const queue = await sql<{ channelId: bigint; state: number; messages: number; oldest: Date }[]>`
    select channel_id as "channelId", state::int, sum(n)::float8 as messages, min(ready_at) as oldest
    from dispatch_queue group by channel_id, state`;
  const leases = await sql<{ channelId: bigint; state: string; n: number }[]>`
    select l.channel_id as "channelId", case when l.until > now() then l.state else 'down' end as state, count(*)::int as n
    from channel_leases l join channels c on c.id = l.channel_id and c.enabled and l.connection < c.connections
    group by 1, 2`;
  const nodes = await sql<{ channelId: bigint; n: number }[]>`
    select channel_id as "channelId", count(*)::int as n from channel_nodes where until > now() group by channel_id`;
  const orphans = await sql<{ channelId: bigint; n: number }[]>`
    select channel_id as "channelId", count(*)::int as n from orphan_reports group by channel_id`;
  for (const { id, connections, health } of channels) {
    const channel = String(id);
    const own = queue.filter(({ channelId }) => channelId === id);
    queueState.forEach((state, number) =>
      add('queue_messages', { channel, state }, own.find((row) => row.state === number)?.messages ?? 0),
    );
    const due = own.filter(({ state }) => state !== 2).map(({ oldest }) => ageOf(oldest));
    add('queue_oldest_seconds', { channel }, Math.max(0, ...due));
    const states = leases.filter(({ channelId }) => channelId === id);
    const up = states.find(({ state }) => state === 'up')?.n ?? 0;
    add('channel_connections', { channel, state: 'up' }, up);
    for (const { state, n } of states) if (state !== 'up') add('channel_connections', { channel, state }, n);
    add('channel_connections_configured', { channel }, connections);
    add('channel_nodes', { channel }, nodes.find(({ channelId }) => channelId === id)?.n ?? 0);
    for (const state of ['healthy', 'unhealthy', 'probing'] as const)
      add('channel_health', { channel, health: state }, health === state ? 1 : 0);
    add('open_orphan_reports', { channel }, orphans.find(({ channelId }) => channelId === id)?.n ?? 0);
  }

  const waiting = await sql<{ accountId: bigint; endpoint: bigint; kind: EventKind; route: number; n: number; oldest: Date }[]>`
    select account_id as "accountId", endpoint, kind::int, route::int, sum(cardinality(indexes))::float8 as n, min(at) as oldest
    from parcels group by account_id, endpoint, kind, route`;
  for (const { routes, count, oldest } of ways) {
    const lines = groupBy(
      waiting.filter(({ route }) => routes.includes(route)),
      ({ accountId, endpoint, kind }) => `${accountId}/${endpoint}/${kind}`,
    );
    const endpoints = [...lines.values()].map((rows) => ({
      rows,
      n: rows.reduce((sum, { n }) => sum + n, 0),
      since: rows.reduce((first, { oldest }) => (oldest < first ? oldest : first), at),
    }));
    endpoints.sort((a, b) => b.n - a.n);
    for (const { rows, n, since } of endpoints.slice(0, mostEndpoints)) {
      const [row] = rows;
      if (!row) continue;
      const subscription = row.endpoint === 0n ? '' : String(row.endpoint);
      const labels = { account: String(row.accountId), subscription, kind: eventKindName[row.kind] };
      add(count, labels, n);
      if (oldest) add(oldest, labels, ageOf(since));
    }
    const rest = endpoints.slice(mostEndpoints);
    if (rest.length === 0) continue;
    const labels = { account: 'other', subscription: '', kind: '' };
    add(
      count,
      labels,
      rest.reduce((sum, { n }) => sum + n, 0),
    );
    if (oldest) add(oldest, labels, Math.max(...rest.map(({ since }) => ageOf(since))));
  }

  const [rest] = await sql<{ unassigned: number; lastDay: string | null; bytes: number }[]>`
    select (select count(*)::float8 from replies where account_id = 0) as unassigned,
           (select min(last) from (
             select i.inhparent, max(to_date(right(c.relname, 8), 'YYYYMMDD')) as last
             from pg_inherits i join pg_class c on c.oid = i.inhrelid
             where i.inhparent in ('public.messages'::regclass, 'public.segments'::regclass, 'public.handovers'::regclass)
             group by i.inhparent) p) as "lastDay",
           pg_database_size(current_database())::float8 as bytes`;
  if (rest) {
    add('unassigned_replies', {}, rest.unassigned);
    add('partition_days_ahead', {}, rest.lastDay === null ? 0 : daysBetween(shanghaiDay(at), rest.lastDay));
    add('database_size_bytes', {}, rest.bytes);
  }
  return found;
}

const daysBetween = (from: string, to: string): number => (Date.parse(to) - Date.parse(from)) / 86_400_000;
