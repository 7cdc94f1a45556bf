/**
 * Checks from the rows that the tables agree, and names every disagreement: balances and holds against the ledger and the messages,
 * chunks against messages, final states against events. Reads one snapshot, so a running system may be audited.
 *
 * The rows of dropped days are not expected. Their substitutes are checked instead: the totals frozen on their batches against recipients
 * and ledger, and opening entries, which hold nothing.
 */
import type { Db, Sql } from '../../db/db.ts';
import { eventsGivenUpBefore } from '../config/settings.ts';
import { batchOf, batchOfChunk, chunkOf, indexInChunk, messageInBatch, messagesOfBatch } from '../model/ids.ts';

export interface Disagreement {
  readonly check: string;
  /** The row or the sum that is wrong. */
  readonly subject: string;
  readonly expected: string;
  readonly found: string;
}

/** The data that can be checked. */
interface Kept {
  /** Days that have their partitions. */
  readonly days: readonly string[];
  /** A message or reply of a day before this may have no event any more. */
  readonly eventsFrom: string;
}

type Check = (sql: Sql, kept: Kept) => PromiseLike<Omit<Disagreement, 'check'>[]>;

const mostShown = 100;

/**
 * Events of a kind with their passages. A passage is one wait or one hand-over of an event; it has a number, 0 the first time and one more
 * with each replay. A repeated number is an event that was made or handed over twice; a missing number is an event that was lost; and the
 * waiting event has the highest number.
 */
const owed = (sql: Sql, kind: 1 | 2 | 3) => sql`
  select account_id, id, string_agg(replay::text, ' ' order by replay, waits) as replays,
         count(distinct replay) = count(*) and max(replay) = count(*) - 1
           and coalesce(min(replay) filter (where waits) = max(replay), true) as is_one
  from (
    select account_id, ${messageInBatch(sql, batchOf(sql, sql`id`), sql`unnest(indexes)`)} as id, replay, true as waits
    from parcels where kind = ${kind}
    union all
    select account_id, ${messageInBatch(sql, batchOf(sql, sql`id`), sql`unnest(indexes)`)}, replay, false
    from handovers where kind = ${kind}) as passages
  group by account_id, id`;
const foundOf = (sql: Sql) => sql`coalesce('replays ' || owed.replays, 'none')`;

const checks: Record<string, Check> = {
  'a balance is the sum of its ledger entries': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    with sums as (select account_id, subscription_id, sum(amount_e4)::bigint as total from ledger_entries group by account_id, subscription_id)
    select 'subscription ' || subscription_id as subject, coalesce(total, 0)::text as expected, coalesce(balance_e4, 0)::text as found
    from balances full join sums using (account_id, subscription_id)
    where coalesce(balance_e4, 0) <> coalesce(total, 0)`,

  'what a batch holds is the price of its messages that have not ended': (sql, { days }) => sql<Omit<Disagreement, 'check'>[]>`
    with queued as (
      select account_id, ${batchOfChunk(sql, sql`id`)} as batch_id, sum(cardinality(phones) * price_e4)::bigint as price from chunks
      where not intercepted and day = any(${days}::date[]) group by 1, 2),
    ended as (
      select account_id, ${batchOf(sql, sql`id`)} as batch_id, sum(price_e4)::bigint as price from messages
      where status >= 10 or paid group by 1, 2),
    ledger as (
      select account_id, batch_id, sum(held_e4)::bigint as held from ledger_entries where batch_id > 0 group by 1, 2)
    select 'batch ' || batch_id as subject, (coalesce(queued.price, 0) - coalesce(ended.price, 0))::text as expected, coalesce(held, 0)::text as found
    from queued full join ended using (account_id, batch_id) full join ledger using (account_id, batch_id)
    where coalesce(queued.price, 0) - coalesce(ended.price, 0) <> coalesce(held, 0)`,

  'what a batch has cost is what its messages cost': (sql, { days }) => sql<Omit<Disagreement, 'check'>[]>`
    with cost as (
      select account_id, batch_id, sum(cost)::bigint as cost from (
        select account_id, ${batchOf(sql, sql`id`)} as batch_id, sum(cost_e4) as cost from messages where cost_e4 is not null group by 1, 2
        union all
        select b.account_id, b.id, (n ->> 1)::bigint from batches b, jsonb_each(b.frozen) as d(day, totals), jsonb_each(totals) as s(status, n)
        where d.day <> all(${days}::text[])) kept_and_frozen
      group by 1, 2),
    ledger as (
      select account_id, batch_id, -sum(amount_e4 + held_e4)::bigint as spent from ledger_entries where batch_id > 0 group by 1, 2)
    select 'batch ' || batch_id as subject, coalesce(cost, 0)::text as expected, coalesce(spent, 0)::text as found
    from cost full join ledger using (account_id, batch_id)
    where coalesce(cost, 0) <> coalesce(spent, 0)`,

  'opening entries of the ledger hold nothing': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    select 'subscription ' || subscription_id as subject, '0' as expected, sum(held_e4)::text as found from ledger_entries
    where batch_id = 0 group by subscription_id having sum(held_e4) <> 0`,

  'what was frozen of a batch of which no day is left is all its recipients': (sql, { days }) => sql<Omit<Disagreement, 'check'>[]>`
    select 'batch ' || b.id as subject, b.recipients::text as expected, coalesce(sum((n ->> 0)::int), 0)::text as found
    from batches b
      left join lateral jsonb_each(b.frozen) as d(day, totals) on true
      left join lateral jsonb_each(totals) as s(status, n) on true
    where b.purged_at is not null or (b.purge_at is not null and not b.frozen ?| ${days}::text[])
    group by b.account_id, b.id, b.recipients
    having b.recipients <> coalesce(sum((n ->> 0)::int), 0)`,

  'what was frozen of a day that is there is what its messages come to': (sql, { days }) => sql<Omit<Disagreement, 'check'>[]>`
    with frozen as (
      select b.account_id, b.id as batch_id, d.day::date as day, s.status::smallint as status, (n ->> 0)::int as n, (n ->> 1)::bigint as cost
      from batches b, jsonb_each(b.frozen) as d(day, totals), jsonb_each(totals) as s(status, n)
      where d.day = any(${days}::text[])),
    days as (select distinct account_id, batch_id, day from frozen),
    counted as (
      select d.account_id, d.batch_id, d.day, m.status, count(*) as n, coalesce(sum(m.cost_e4), 0)::bigint as cost
      from days d join messages m
        on m.account_id = d.account_id and m.day = d.day and m.id ${messagesOfBatch(sql, sql`d.batch_id`)}
      group by 1, 2, 3, 4)
    select 'batch ' || batch_id || ' on ' || day as subject, coalesce(counted.n, 0) || ' × ' || status || ', ' || coalesce(counted.cost, 0) as expected,
           coalesce(frozen.n, 0) || ' × ' || status || ', ' || coalesce(frozen.cost, 0) as found
    from frozen full join counted using (account_id, batch_id, day, status)
    where (frozen.n, frozen.cost) is distinct from (counted.n, counted.cost)`,

  'a chunk that has left the queue has a message for every recipient': (sql, { days }) => sql<Omit<Disagreement, 'check'>[]>`
    with rows as (select account_id, ${chunkOf(sql, sql`id`)} as chunk_id, count(*) as n from messages group by 1, 2),
    queued as materialized (select chunk_id from dispatch_queue)
    select 'chunk ' || c.id as subject, cardinality(c.phones)::text as expected, coalesce(rows.n, 0)::text as found
    from chunks c left join rows on rows.account_id = c.account_id and rows.chunk_id = c.id
    where coalesce(rows.n, 0) <> cardinality(c.phones) and c.day = any(${days}::date[])
      and not exists (select 1 from queued q where q.chunk_id = c.id)
      and not (c.review and coalesce(rows.n, 0) = 0 and exists (
        select 1 from review_items r
        where r.account_id = c.account_id and r.batch_id = ${batchOfChunk(sql, sql`c.id`)} and r.state = 'pending'))`,

  'what waits for a person is what its item says': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    with waiting as (
      select account_id, ${batchOfChunk(sql, sql`id`)} as batch_id, sum(cardinality(phones)) as n,
             sum(cardinality(phones) * price_e4)::bigint as held
      from chunks where review group by 1, 2)
    select 'review item ' || r.batch_id as subject, r.recipients || ' held for ' || r.held_e4 as expected,
           coalesce(n, 0) || ' held for ' || coalesce(held, 0) as found
    from review_items r left join waiting using (account_id, batch_id)
    where r.state = 'pending' and (r.recipients <> coalesce(n, 0) or r.held_e4 <> coalesce(held, 0))`,

  'no message is without its chunk': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    select 'message ' || m.id as subject, 'a chunk' as expected, 'none' as found from messages m
    where not exists (
      select 1 from chunks c where c.account_id = m.account_id and c.id = ${chunkOf(sql, sql`m.id`)}
        and ${indexInChunk(sql, sql`m.id`)} < cardinality(c.phones))`,

  'a batch has as many recipients as its chunks': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    with rows as (select account_id, ${batchOfChunk(sql, sql`id`)} as batch_id, sum(cardinality(phones)) as n from chunks group by 1, 2)
    select 'batch ' || b.id as subject, b.recipients::text as expected, coalesce(rows.n, 0)::text as found
    from batches b left join rows on rows.account_id = b.account_id and rows.batch_id = b.id
    where b.recipients <> coalesce(rows.n, 0) and b.purged_at is null`,

  'a message has one event once it has ended, and none before': (sql, { eventsFrom }) => sql<Omit<Disagreement, 'check'>[]>`
    with owed as (${owed(sql, 1)})
    select 'message ' || coalesce(m.id, owed.id) as subject, case when m.status >= 10 then 'one event' else 'none' end as expected,
           ${foundOf(sql)} as found
    from messages m full join owed on owed.account_id = m.account_id and owed.id = m.id
    where (coalesce(m.status >= 10, false) <> (owed.id is not null) and (owed.id is not null or m.day >= ${eventsFrom})) or not is_one`,

  'a multimedia template has one event once it was decided on, and none before': (sql, { days, eventsFrom }) => sql<
    Omit<Disagreement, 'check'>[]
  >`
    with owed as (${owed(sql, 3)})
    select 'template ' || coalesce(t.id, owed.id) as subject,
           case when t.state in ('approved', 'rejected') then 'one event' else 'none, or one if withdrawn' end as expected,
           ${foundOf(sql)} as found
    from (
      select account_id, id, state, (decided_at at time zone 'Asia/Shanghai')::date as day from templates where medium = 'mms') t
    full join owed on owed.account_id = t.account_id and owed.id = t.id
    where t.id is null
      or (t.state in ('approved', 'rejected') and owed.id is null and t.day = any(${days}::date[]) and t.day >= ${eventsFrom})
      or (t.state = 'pending' and owed.id is not null) or not is_one`,

  'a reply has one event': (sql, { days, eventsFrom }) => sql<Omit<Disagreement, 'check'>[]>`
    with owed as (${owed(sql, 2)})
    select 'reply ' || coalesce(r.id, owed.id) as subject, case when r.id is null then 'none' else 'one event' end as expected,
           ${foundOf(sql)} as found
    from (select account_id, id, (received_at at time zone 'Asia/Shanghai')::date as day from replies where account_id > 0) r
    full join owed on owed.account_id = r.account_id and owed.id = r.id
    where r.id is null or (owed.id is null and r.day = any(${days}::date[]) and r.day >= ${eventsFrom}) or not is_one`,
};

/** Every disagreement, at most a hundred of each check; empty when all is well. */
export async function audit(db: Db): Promise<Disagreement[]> {
  return db.transaction(async (sql) => {
    await sql`set transaction isolation level repeatable read, read only`;
    // Before the snapshot is taken, which a lock does not do: partitions that exist now stay until the end.
    await sql`lock table messages, segments, handovers in access share mode`;
    const partitions = await sql<{ day: string }[]>`
      select distinct to_date(right(c.relname, 8), 'YYYYMMDD') as day from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = 'public.messages'::regclass`;
    const kept = { days: partitions.map(({ day }) => day), eventsFrom: (await eventsGivenUpBefore(sql)) ?? '0001-01-01' };
    const found: Disagreement[] = [];
    for (const [check, run] of Object.entries(checks)) {
      const rows = await run(sql, kept);
      found.push(...rows.slice(0, mostShown).map((row) => ({ check, ...row })));
    }
    return found;
  });
}
