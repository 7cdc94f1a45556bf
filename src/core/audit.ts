/**
 * Recomputes from the rows what must agree, and names every disagreement: balances and holds against the ledger and the messages,
 * chunks against messages, final states against events. Reads one snapshot, so a running system may be audited.
 */
import type { Db, Sql } from '../db/db.ts';

export interface Disagreement {
  readonly check: string;
  /** Which row or sum. */
  readonly subject: string;
  readonly expected: string;
  readonly found: string;
}

type Check = (sql: Sql) => PromiseLike<Omit<Disagreement, 'check'>[]>;

const mostShown = 100;

const checks: Record<string, Check> = {
  'a balance is the sum of its ledger entries': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    with sums as (select account_id, subscription_id, sum(amount_e4)::bigint as total from ledger_entries group by account_id, subscription_id)
    select 'subscription ' || subscription_id as subject, coalesce(total, 0)::text as expected, coalesce(balance_e4, 0)::text as found
    from balances full join sums using (account_id, subscription_id)
    where coalesce(balance_e4, 0) <> coalesce(total, 0)`,

  'what a batch holds is the price of its messages that have not ended': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    with queued as (
      select account_id, id / 64 as batch_id, sum(cardinality(phones) * price_e4)::bigint as price from chunks
      where not intercepted group by 1, 2),
    ended as (
      select account_id, id / 32768 as batch_id, sum(price_e4)::bigint as price from messages
      where status >= 10 or paid group by 1, 2),
    ledger as (
      select account_id, batch_id, sum(held_e4)::bigint as held from ledger_entries where batch_id > 0 group by 1, 2)
    select 'batch ' || batch_id as subject, (coalesce(queued.price, 0) - coalesce(ended.price, 0))::text as expected, coalesce(held, 0)::text as found
    from queued full join ended using (account_id, batch_id) full join ledger using (account_id, batch_id)
    where coalesce(queued.price, 0) - coalesce(ended.price, 0) <> coalesce(held, 0)`,

  'what a batch has cost is what its messages cost': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    with cost as (
      select account_id, id / 32768 as batch_id, sum(cost_e4)::bigint as cost from messages where cost_e4 is not null group by 1, 2),
    ledger as (
      select account_id, batch_id, -sum(amount_e4 + held_e4)::bigint as spent from ledger_entries where batch_id > 0 group by 1, 2)
    select 'batch ' || batch_id as subject, coalesce(cost, 0)::text as expected, coalesce(spent, 0)::text as found
    from cost full join ledger using (account_id, batch_id)
    where coalesce(cost, 0) <> coalesce(spent, 0)`,

  'a chunk that has left the queue has a message for every recipient': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    with rows as (select account_id, id / 512 as chunk_id, count(*) as n from messages group by 1, 2)
    select 'chunk ' || c.id as subject, cardinality(c.phones)::text as expected, coalesce(rows.n, 0)::text as found
    from chunks c left join rows on rows.account_id = c.account_id and rows.chunk_id = c.id
    where coalesce(rows.n, 0) <> cardinality(c.phones)
      and not exists (select 1 from dispatch_queue q where q.chunk_id = c.id)
      and not (c.review and coalesce(rows.n, 0) = 0 and exists (
        select 1 from review_items r where r.account_id = c.account_id and r.batch_id = c.id / 64 and r.state = 'pending'))`,

  'what waits for a person is what its item says': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    with waiting as (
      select account_id, id / 64 as batch_id, sum(cardinality(phones)) as n, sum(cardinality(phones) * price_e4)::bigint as held
      from chunks where review group by 1, 2)
    select 'review item ' || r.batch_id as subject, r.recipients || ' held for ' || r.held_e4 as expected,
           coalesce(n, 0) || ' held for ' || coalesce(held, 0) as found
    from review_items r left join waiting using (account_id, batch_id)
    where r.state = 'pending' and (r.recipients <> coalesce(n, 0) or r.held_e4 <> coalesce(held, 0))`,

  'no message is without its chunk': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    select 'message ' || m.id as subject, 'a chunk' as expected, 'none' as found from messages m
    where not exists (
      select 1 from chunks c where c.account_id = m.account_id and c.id = m.id / 512 and m.id % 512 < cardinality(c.phones))`,

  'a batch has as many recipients as its chunks': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    with rows as (select account_id, id / 64 as batch_id, sum(cardinality(phones)) as n from chunks group by 1, 2)
    select 'batch ' || b.id as subject, b.recipients::text as expected, coalesce(rows.n, 0)::text as found
    from batches b left join rows on rows.account_id = b.account_id and rows.batch_id = b.id
    where b.recipients <> coalesce(rows.n, 0)`,

  'a message has one event once it has ended, and none before': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    with owed as (
      select account_id, id, count(*) as n, max(replays) as replays from (
        select account_id, id, replays from waiting_events where kind = 1
        union all
        select account_id, id, 0 from events where kind = 1) e
      group by account_id, id)
    select 'message ' || coalesce(m.id, owed.id) as subject, case when m.status >= 10 then '1' else '0' end as expected,
           coalesce(owed.n, 0)::text as found
    from messages m full join owed on owed.account_id = m.account_id and owed.id = m.id
    where case when m.status >= 10 then 1 else 0 end <> coalesce(owed.n, 0) - case when owed.replays > 0 then 1 else 0 end`,

  'a multimedia template has one event once it was decided on, and none before': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    with owed as (
      select account_id, id, count(*) as n from (
        select account_id, id from waiting_events where kind = 3
        union
        select account_id, id from events where kind = 3) e
      group by account_id, id)
    select 'template ' || coalesce(t.id, owed.id) as subject,
           case when t.state in ('approved', 'rejected') then '1' else '0 or, if withdrawn, 1' end as expected, coalesce(owed.n, 0)::text as found
    from (select account_id, id, state from templates where medium = 'mms') t
    full join owed on owed.account_id = t.account_id and owed.id = t.id
    where t.id is null or (t.state in ('approved', 'rejected') and owed.n is null) or (t.state = 'pending' and owed.n is not null)`,

  'a reply has one event': (sql) => sql<Omit<Disagreement, 'check'>[]>`
    with owed as (
      select account_id, id, count(*) as n, max(replays) as replays from (
        select account_id, id, replays from waiting_events where kind = 2
        union all
        select account_id, id, 0 from events where kind = 2) e
      group by account_id, id)
    select 'reply ' || coalesce(r.id, owed.id) as subject, '1' as expected, coalesce(owed.n, 0)::text as found
    from (select account_id, id from replies where account_id > 0) r
    full join owed on owed.account_id = r.account_id and owed.id = r.id
    where coalesce(owed.n, 0) - case when owed.replays > 0 then 1 else 0 end <> case when r.id is null then 0 else 1 end`,
};

/** Every disagreement, at most a hundred of each check; empty when all is well. */
export async function audit(db: Db): Promise<Disagreement[]> {
  return db.transaction(async (sql) => {
    await sql`set transaction isolation level repeatable read, read only`;
    const found: Disagreement[] = [];
    for (const [check, run] of Object.entries(checks)) {
      const rows = await run(sql);
      found.push(...rows.slice(0, mostShown).map((row) => ({ check, ...row })));
    }
    return found;
  });
}
