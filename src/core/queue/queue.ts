/**
 * The queue of chunks for each channel, and the leases of the nodes that work on it. The only writer of `dispatch_queue`, `channel_turns`,
 * `channel_leases` and `channel_nodes`.
 *
 * A node leases a connection of a channel. A lease has an epoch, which grows with each take-over. Chunks claimed under it carry
 * (connection, epoch), and everything recorded for them first checks that the epoch is still current. A chunk left behind by an older
 * epoch goes back to ready with its reservation: indexes below `reserved_upto` may have been sent, and the node that claims the chunk next
 * reads which of them have outcomes.
 *
 * The nodes that serve a channel share its connections: each keeps a row alive in `channel_nodes`, and takes its share of connections
 * (`shareOf`). If another node joins, a node gives its surplus connections back when it is ready to. No node ever takes a connection from
 * another one that is alive.
 *
 * The order is fair among accounts: a chunk's rank is its start position in its account's own line, which begins no earlier than the
 * channel's virtual time (the rank last claimed). So an account with a million in line delays a newcomer by one chunk, not a million.
 */
import { createHash } from 'node:crypto';
import { forEachOwner, planAnew, type Sql } from '../../db/db.ts';
import { groupBy, groupInOrder } from '../../std/group.ts';
import { chunksOfBatch } from '../model/ids.ts';

export interface QueueRow {
  readonly channelId: bigint;
  readonly chunkId: bigint;
  /** That its messages are recorded under. */
  readonly day: string;
  readonly n: number;
}

export interface QueueOrder {
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly class: number;
  readonly readyAt: Date;
  readonly expiresAt: Date;
  /** Not due yet: `putInLine` gives it its place once it is. */
  readonly planned?: boolean;
}

/**
 * Queues chunks of one subscription: at the end of the account's line on each channel, or apart until they are due. Lines are locked in the
 * order of the channels. All statements are sent before the first answer arrives, so the caller's next statements lock after them, and
 * every transaction locks in the same order.
 */
export async function enqueue(sql: Sql, order: QueueOrder, rows: readonly QueueRow[]): Promise<void> {
  const { planned = false } = order;
  const statements = groupInOrder(rows, ({ channelId }) => channelId).map(([channelId, own]) => {
    const { total, offsets } = lengths(own);
    const line = planned ? sql`select 0::bigint as start` : lineOf(sql, channelId, order.accountId, total);
    return sql`
      with line as (${line})
      insert into dispatch_queue (channel_id, chunk_id, account_id, subscription_id, day, n, class, rank, state, ready_at, expires_at,
                                  reserved_upto)
      select ${channelId}, chunk_id, ${order.accountId}, ${order.subscriptionId}, day, n, ${order.class},
             case when ${planned}::boolean then 0 else line.start + o end, ${planned ? 2 : 0}::smallint, ${order.readyAt},
             ${order.expiresAt}, ${neverClaimed}::smallint
      from line, unnest(${own.map(({ chunkId }) => chunkId)}::bigint[], ${own.map(({ day }) => day)}::date[],
                        ${own.map(({ n }) => n)}::smallint[], ${offsets}::bigint[]) as t(chunk_id, day, n, o)`;
  });
  await Promise.all(statements);
}

/** Extends an account's line on a channel by `total` messages, and returns where they begin. */
const lineOf = (sql: Sql, channelId: bigint, accountId: bigint, total: number) => sql`
  insert into channel_turns as t (channel_id, account_id, finish)
  select ${channelId}, ${accountId}, ${total}::bigint + coalesce(
    (select v.finish from channel_turns v where v.channel_id = ${channelId} and v.account_id = 0), 0)
  on conflict (channel_id, account_id)
    do update set finish = greatest(t.finish, excluded.finish - ${total}::bigint) + ${total}::bigint
  returning finish - ${total}::bigint as start`;

/** The number of messages in all, and the number before each chunk. */
function lengths(rows: readonly { readonly n: number }[]): { total: number; offsets: number[] } {
  let total = 0;
  const offsets = rows.map(({ n }) => (total += n) - n);
  return { total, offsets };
}

/** Gives planned chunks that are due their place in their accounts' lines, as if they had come now. Returns how many. In a transaction. */
export async function putInLine(sql: Sql, channelId: bigint, at: Date, limit: number): Promise<number> {
  const due = await sql<{ chunkId: bigint; accountId: bigint; n: number }[]>`
    select chunk_id as "chunkId", account_id as "accountId", n::int from dispatch_queue
    where channel_id = ${channelId} and state = 2 and ready_at <= ${at}
    order by ready_at, chunk_id limit ${limit} for update skip locked`;
  for (const [accountId, own] of groupInOrder(due, (row) => row.accountId)) {
    const { total, offsets } = lengths(own);
    await sql`
      with line as (${lineOf(sql, channelId, accountId, total)})
      update dispatch_queue q set state = 0, rank = line.start + t.o
      from line, unnest(${own.map(({ chunkId }) => chunkId)}::bigint[], ${offsets}::bigint[]) as t(chunk_id, o)
      where q.channel_id = ${channelId} and q.chunk_id = t.chunk_id and q.state = 2`;
  }
  return due.length;
}

/** Takes planned chunks of a batch off the queue; returns which of them were still planned. */
export async function removePlanned(sql: Sql, channelIds: readonly bigint[], accountId: bigint, batchId: bigint): Promise<bigint[]> {
  const removed: bigint[] = [];
  for (const channelId of channelIds) {
    const rows = await sql<{ chunkId: bigint }[]>`
      delete from dispatch_queue
      where channel_id = ${channelId} and account_id = ${accountId} and state = 2
        and chunk_id ${chunksOfBatch(sql, batchId)}
      returning chunk_id as "chunkId"`;
    removed.push(...rows.map(({ chunkId }) => chunkId));
  }
  return removed;
}

// ── leases ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Lease {
  readonly channelId: bigint;
  readonly connection: number;
  readonly epoch: bigint;
}

/** For one node and channel: how long a session has been up, and how long ago there was one. Null: none is up; there never was one. */
export interface SessionAges {
  readonly upForMs: number | null;
  readonly upAgoMs: number | null;
}

/**
 * Registers for the duration of a lease that this node serves a channel, and its session ages; returns all nodes that serve it. Uses the
 * database's clock, so that a node and its leases expire at the same time.
 */
export async function serveChannel(
  sql: Sql,
  channelId: bigint,
  node: string,
  leaseSeconds: number,
  { upForMs, upAgoMs }: SessionAges,
): Promise<string[]> {
  const ago = (ms: number | null) => sql`now() - make_interval(secs => ${ms === null ? null : ms / 1000}::float8)`;
  const rows = await sql<{ node: string }[]>`
    with mine as (
      insert into channel_nodes as n (channel_id, node, until, since, up_since, up_at)
      values (${channelId}, ${node}, now() + make_interval(secs => ${leaseSeconds}), now(), ${ago(upForMs)}, ${ago(upAgoMs)})
      on conflict (channel_id, node) do update
        set until = excluded.until, up_since = excluded.up_since, up_at = greatest(n.up_at, excluded.up_at),
            since = case when n.until < excluded.since then excluded.since else n.since end
      returning node)
    select node from channel_nodes where channel_id = ${channelId} and until >= now()
    union select node from mine`;
  return rows.map((row) => row.node);
}

/**
 * Takes this node out of those that share the channel's connections, and deletes the rows of nodes that are long gone. The time of this
 * node's last session is kept: otherwise the other nodes would think that the channel is silent.
 */
export async function leaveChannel(sql: Sql, channelId: bigint, node: string): Promise<void> {
  await sql`update channel_nodes set until = '-infinity', up_since = null where channel_id = ${channelId} and node = ${node}`;
  await sql`
    delete from channel_nodes
    where channel_id = ${channelId} and until < now() - interval '1 hour' and coalesce(up_at, '-infinity') < now() - interval '1 hour'`;
}

/**
 * This node's share of a channel's connections: the same number as any other node's, or one more. A hash of channel and node names decides
 * who gets one more. So all nodes agree without communication, and channels of one connection are spread over the nodes too.
 */
export function shareOf(channelId: bigint, connections: number, node: string, nodes: readonly string[]): number {
  const drawn = (name: string): string => createHash('sha256').update(`${channelId}/${name}`).digest('hex');
  const mine = drawn(node);
  const before = nodes.filter((name) => name !== node && drawn(name) < mine).length;
  const all = nodes.includes(node) ? nodes.length : nodes.length + 1;
  return Math.floor(connections / all) + (before < connections % all ? 1 : 0);
}

/** Whether any node serves any channel. */
export async function isServed(sql: Sql): Promise<boolean> {
  return (await sql`select 1 from channel_nodes where until >= now() limit 1`).length > 0;
}

/**
 * Marks everything that was due as possibly sent, and ends all leases; returns how many messages that concerns at most. For a
 * restored database: events since its backup are not known.
 */
export async function doubtQueue(sql: Sql): Promise<number> {
  await sql`update channel_leases set epoch = epoch + 1, until = '-infinity', node = null, state = 'down', reason = '', state_at = now()`;
  const rows = await sql<{ n: number }[]>`
    update dispatch_queue set state = case when state = 1 then 0 else state end, connection = null, epoch = null, reserved_upto = n
    where state <> 2 or ready_at <= now()
    returning n::int`;
  return rows.reduce((sum, { n }) => sum + n, 0);
}

/** Takes free or expired connections of a channel. */
export async function takeLeases(
  sql: Sql,
  taking: { channelId: bigint; connections: number; most: number; node: string; leaseSeconds: number },
): Promise<Lease[]> {
  const { channelId, connections, most, node, leaseSeconds } = taking;
  await sql`
    insert into channel_leases (channel_id, connection)
    select ${channelId}, c from generate_series(0, ${connections - 1}::int) as c
    on conflict do nothing`;
  return sql<Lease[]>`
    with free as materialized (
      select connection from channel_leases
      where channel_id = ${channelId} and connection < ${connections} and until < now()
      order by connection limit ${most} for update skip locked)
    update channel_leases l
    set epoch = epoch + 1, node = ${node}, until = now() + make_interval(secs => ${leaseSeconds}), state = 'down', reason = '', state_at = now()
    from free
    where l.channel_id = ${channelId} and l.connection = free.connection
    returning l.channel_id as "channelId", l.connection::int, l.epoch`;
}

/**
 * Puts chunks back to ready that were claimed under leases that are no longer current. Either the lease's epoch was raised, or it has run
 * out and no node has taken it (a channel that is off, a connection it no longer has). In the second case the epoch is raised first, so a
 * node that was only suspended finds out. Any node runs it now and then, for every channel, in a transaction.
 */
export async function recoverChunks(sql: Sql, channelId: bigint): Promise<void> {
  await planAnew(sql);
  await sql`
    update channel_leases l set epoch = epoch + 1, node = null, state = 'down', reason = '', state_at = now()
    where l.channel_id = ${channelId} and l.until < now() and exists (
      select 1 from dispatch_queue q
      where q.channel_id = ${channelId} and q.state = 1 and q.connection = l.connection and q.epoch = l.epoch)`;
  await sql`
    update dispatch_queue q set state = 0, connection = null, epoch = null
    from channel_leases l
    where q.channel_id = ${channelId} and l.channel_id = ${channelId} and q.state = 1 and l.connection = q.connection and l.epoch > q.epoch`;
}

/**
 * Prolongs leases that this node works under; returns those that are still current. A lease that the node has but no longer works under
 * must run out, so that chunks claimed under it are found.
 */
export async function renewLeases(
  sql: Sql,
  channelId: bigint,
  node: string,
  connections: readonly number[],
  leaseSeconds: number,
): Promise<Lease[]> {
  return sql<Lease[]>`
    update channel_leases set until = now() + make_interval(secs => ${leaseSeconds})
    where channel_id = ${channelId} and node = ${node} and connection = any(${connections}::smallint[]) and until >= now()
    returning channel_id as "channelId", connection::int, epoch`;
}

/** Gives connections back, so that another node can take them at once. */
export async function giveUpLeases(sql: Sql, channelId: bigint, node: string, connections: readonly number[]): Promise<void> {
  await sql`
    update channel_leases set epoch = epoch + 1, until = '-infinity', node = null, state = 'down', reason = '', state_at = now()
    where channel_id = ${channelId} and node = ${node} and connection = any(${connections}::smallint[])`;
}

/** Shows the operator the state of a connection. */
export async function showState(sql: Sql, lease: Lease, state: string, reason: string): Promise<void> {
  await sql`
    update channel_leases set state = ${state}, reason = ${reason}, state_at = now()
    where channel_id = ${lease.channelId} and connection = ${lease.connection} and epoch = ${lease.epoch}`;
}

/**
 * Which of these leases are still current. They are locked against take-over until the transaction ends, so records under a lease are
 * committed while it is current, or not at all.
 */
export async function standing(sql: Sql, channelId: bigint, leases: readonly Lease[]): Promise<ReadonlySet<Lease>> {
  const query = sql<{ connection: number; epoch: bigint }[]>`
    select connection::int, epoch from channel_leases
    where channel_id = ${channelId} and connection = any(${leases.map(({ connection }) => connection)}::smallint[])
    order by connection for share`;
  const [, rows] = await Promise.all([planAnew(sql), query]); // for the statements on the queue that follow under these leases
  const epochs = new Map(rows.map(({ connection, epoch }) => [connection, epoch]));
  return new Set(leases.filter(({ connection, epoch }) => epochs.get(connection) === epoch));
}

// ── claiming and leaving ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The `reserved_upto` of a chunk that nobody has claimed yet. */
export const neverClaimed = -1;

export interface Claim {
  readonly chunkId: bigint;
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly n: number;
  readonly expiresAt: Date;
  /** Indexes below it may have been sent by an earlier claimant, and any index may have an outcome; `neverClaimed` if there was none. */
  readonly doubtUpto: number;
  /** Indexes below it may be sent now. */
  readonly reservedUpto: number;
}

/**
 * Claims ready chunks of one class, in fair order: at most `limit`, and no more once they have `most` messages. Reserves up to `budget` of
 * their messages for sending. Nothing may be sent from a chunk beyond its reservation. Nothing is claimed under a lease that has run out:
 * the node that takes the lease next would not look for the chunk again.
 */
export async function claim(
  sql: Sql,
  { lease, class: wanted, limit, most, budget, at }: { lease: Lease; class: number; limit: number; most: number; budget: number; at: Date },
): Promise<Claim[]> {
  const { channelId, connection, epoch } = lease;
  const query = sql<(Claim & { rank: bigint })[]>`
    with lease as materialized (
      select 1 from channel_leases
      where channel_id = ${channelId} and connection = ${connection} and epoch = ${epoch} and until >= now() for share),
    c as materialized (
      select chunk_id, n, reserved_upto, rank from dispatch_queue
      where channel_id = ${channelId} and exists (select 1 from lease) and state = 0 and class = ${wanted} and ready_at <= ${at}
      order by rank limit ${limit} for update skip locked),
    o as (select *, sum(n) over (order by rank, chunk_id) - n as before from c),
    r as (
      select chunk_id, reserved_upto as doubt, greatest(reserved_upto, 0, least(n, ${budget}::bigint - before)) as upto
      from o where before < ${most})
    update dispatch_queue q set state = 1, connection = ${connection}, epoch = ${epoch}, reserved_upto = r.upto
    from r
    where q.channel_id = ${channelId} and q.chunk_id = r.chunk_id
    returning q.chunk_id as "chunkId", q.account_id as "accountId", q.subscription_id as "subscriptionId", q.n::int, q.expires_at as "expiresAt",
              r.doubt::int as "doubtUpto", q.reserved_upto::int as "reservedUpto", q.rank`;
  const [, claims] = await Promise.all([planAnew(sql), query]);
  if (claims.length === 0) return [];
  const reached = claims.reduce((most, { rank }) => (rank > most ? rank : most), 0n);
  await sql`
    insert into channel_turns as t (channel_id, account_id, finish) values (${channelId}, 0, ${reached})
    on conflict (channel_id, account_id) do update set finish = excluded.finish where t.finish < excluded.finish`;
  return claims.sort((a, b) => (a.rank < b.rank ? -1 : a.rank > b.rank ? 1 : a.chunkId < b.chunkId ? -1 : 1));
}

/** The progress of a chunk that is claimed under a lease. A chunk that is no longer claimed under that lease is left alone. */
export interface Progress {
  readonly lease: Lease;
  readonly chunkId: bigint;
  readonly upto: number;
}

const progressOf = (sql: Sql, rows: readonly Progress[]) => sql`
  unnest(${rows.map(({ chunkId }) => chunkId)}::bigint[], ${rows.map(({ lease }) => lease.connection)}::smallint[],
         ${rows.map(({ lease }) => lease.epoch)}::bigint[], ${rows.map(({ upto }) => upto)}::smallint[]) as t(chunk_id, connection, epoch, upto)`;

/** Moves the reservation of claimed chunks forward. */
export async function reserve(sql: Sql, channelId: bigint, rows: readonly Progress[]): Promise<void> {
  if (rows.length === 0) return;
  await sql`
    update dispatch_queue q set reserved_upto = t.upto
    from ${progressOf(sql, rows)}
    where q.channel_id = ${channelId} and q.chunk_id = t.chunk_id and q.connection = t.connection and q.epoch = t.epoch`;
}

/** Takes chunks off the queue that have an outcome for every message. */
export async function finish(sql: Sql, channelId: bigint, rows: readonly Progress[]): Promise<void> {
  if (rows.length === 0) return;
  await sql`
    delete from dispatch_queue q
    using ${progressOf(sql, rows)}
    where q.channel_id = ${channelId} and q.chunk_id = t.chunk_id and q.connection = t.connection and q.epoch = t.epoch`;
}

/** Puts claimed chunks back; indexes below `upto` without an outcome may have been sent. */
export async function putBack(sql: Sql, channelId: bigint, rows: readonly Progress[]): Promise<void> {
  if (rows.length === 0) return;
  await sql`
    update dispatch_queue q set state = 0, connection = null, epoch = null, reserved_upto = t.upto
    from ${progressOf(sql, rows)}
    where q.channel_id = ${channelId} and q.chunk_id = t.chunk_id and q.connection = t.connection and q.epoch = t.epoch`;
}

/** A chunk whose time to live is over, with its place in the queue. */
export interface Expired extends Claim {
  readonly channelId: bigint;
}

/**
 * Waiting chunks of any channel whose time to live is over, the oldest first, locked for the transaction that ends them. The sweep searches
 * all channels at once, so that it can follow the order of expiry alone, and then locks chunks of one channel at a time. It skips chunks
 * that another node has locked.
 */
export async function lockExpired(sql: Sql, at: Date, limit: number): Promise<Expired[]> {
  await planAnew(sql);
  const due = await sql<{ channelId: bigint; chunkId: bigint }[]>`
    select channel_id as "channelId", chunk_id as "chunkId" from dispatch_queue
    where state = 0 and expires_at <= ${at} order by expires_at limit ${limit}`;
  return forEachOwner(
    due,
    (row) => row.channelId,
    (channelId, own) => sql<Expired[]>`
      select channel_id as "channelId", chunk_id as "chunkId", account_id as "accountId", subscription_id as "subscriptionId", n::int,
             expires_at as "expiresAt", reserved_upto::int as "doubtUpto", reserved_upto::int as "reservedUpto"
      from dispatch_queue
      where channel_id = ${channelId} and chunk_id = any(${own.map(({ chunkId }) => chunkId)}::bigint[])
        and state = 0 and expires_at <= ${at}
      for update skip locked`,
  );
}

/** Takes chunks off the queue that `lockExpired` has locked in this transaction. */
export async function removeExpired(sql: Sql, expired: readonly Expired[]): Promise<void> {
  for (const [channelId, own] of groupInOrder(expired, (row) => row.channelId))
    await sql`
      delete from dispatch_queue
      where channel_id = ${channelId} and chunk_id = any(${own.map(({ chunkId }) => chunkId)}::bigint[]) and state = 0`;
}

/** Whether chunks of a day wait, or are worked on. A sweep over all channels. */
export async function isQueued(sql: Sql, day: string): Promise<boolean> {
  const [row] = await sql<[{ queued: boolean }]>`
    select exists (select 1 from dispatch_queue where day = ${day} or day is null) as queued`;
  return row.queued;
}

// ── to another channel ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A chunk that no node has claimed, with its place in line. */
export interface Waiting {
  readonly chunkId: bigint;
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly n: number;
  readonly class: number;
  readonly rank: bigint;
}

/**
 * Chunks that wait on a channel for products of these pools, in their order after `after`, locked for the transaction that moves them.
 * Claimed chunks are not included; chunks that another node is moving or claiming are skipped.
 */
export async function lockWaiting(
  sql: Sql,
  channelId: bigint,
  poolIds: readonly bigint[],
  after: Waiting | null,
  limit: number,
): Promise<Waiting[]> {
  await planAnew(sql);
  return sql<Waiting[]>`
    select q.chunk_id as "chunkId", q.account_id as "accountId", q.subscription_id as "subscriptionId", q.n::int, q.class::int, q.rank
    from dispatch_queue q
    where q.channel_id = ${channelId} and q.state = 0
      and (q.class, q.rank, q.chunk_id) > (${after?.class ?? -1}::smallint, ${after?.rank ?? 0n}::bigint, ${after?.chunkId ?? 0n}::bigint)
      and q.subscription_id in (
        select s.id from subscriptions s join products p on p.id = s.product_id where p.pool_id = any(${poolIds}::bigint[]))
    order by q.class, q.rank, q.chunk_id limit ${limit} for update of q skip locked`;
}

/**
 * Moves chunks that `lockWaiting` has locked in this transaction to the ends of their accounts' lines on other channels. Their reservation
 * and their expiry move along: the node that claims them next looks for their outcomes as if they were on the same channel.
 */
export async function moveChunks(
  sql: Sql,
  from: bigint,
  moves: readonly { readonly chunk: Waiting; readonly to: bigint }[],
): Promise<void> {
  const taken = await sql<{ chunkId: bigint; day: string | null; readyAt: Date; expiresAt: Date; reservedUpto: number }[]>`
    delete from dispatch_queue
    where channel_id = ${from} and chunk_id = any(${moves.map(({ chunk }) => chunk.chunkId)}::bigint[]) and state = 0
    returning chunk_id as "chunkId", day, ready_at as "readyAt", expires_at as "expiresAt", reserved_upto::int as "reservedUpto"`;
  const rows = new Map(taken.map((row) => [row.chunkId, row]));
  const lines = [...groupBy(moves, ({ chunk, to }) => `${to}/${chunk.accountId}`).values()].flatMap((own) => {
    const [first] = own;
    return first ? [{ to: first.to, accountId: first.chunk.accountId, chunks: own.map(({ chunk }) => chunk) }] : [];
  });
  // In the same order as a submission: by channel, then by account.
  lines.sort((a, b) => (a.to === b.to ? (a.accountId < b.accountId ? -1 : 1) : a.to < b.to ? -1 : 1));
  const statements = lines.map(({ to, accountId, chunks }) => {
    const { total, offsets } = lengths(chunks);
    const put = chunks.map((chunk) => ({ ...chunk, ...rows.get(chunk.chunkId) }));
    return sql`
      with line as (${lineOf(sql, to, accountId, total)})
      insert into dispatch_queue (channel_id, chunk_id, account_id, subscription_id, day, n, class, rank, state, ready_at, expires_at,
                                  reserved_upto)
      select ${to}, chunk_id, ${accountId}, subscription_id, day, n, class, line.start + o, 0, ready_at, expires_at, reserved_upto
      from line, unnest(${put.map((c) => c.chunkId)}::bigint[], ${put.map((c) => c.subscriptionId)}::bigint[],
                        ${put.map((c) => c.day ?? null)}::date[], ${put.map((c) => c.n)}::smallint[], ${put.map((c) => c.class)}::smallint[],
                        ${offsets}::bigint[], ${put.map((c) => c.readyAt ?? null)}::timestamptz[],
                        ${put.map((c) => c.expiresAt ?? null)}::timestamptz[], ${put.map((c) => c.reservedUpto ?? null)}::smallint[])
        as t(chunk_id, subscription_id, day, n, class, o, ready_at, expires_at, reserved_upto)`;
  });
  await Promise.all(statements);
}
