/**
 * Prepaid money: every balance, every hold, every settlement. The only writer of `balances` and `ledger_entries`. A subscription's rate
 * limit is kept here too, since its token bucket is in the balance's row.
 *
 * Integers in ten-thousandths of the product's unit. Each entry moves the balance by `amount_e4` and the held money by `held_e4`. So a
 * balance is always the sum of its entries, and the held money is the price of the messages that are not final. A hold takes from the
 * balance when a batch is accepted. A settlement turns held money into spent money and touches no balance row; a release gives it back.
 * Entries are per batch and flush, not per message; each entry's key makes a repeat harmless. When batches are deleted, one opening entry
 * for each subscription and day replaces their entries; top-ups stay as they are.
 */
import type { Sql } from '../../db/db.ts';
import type { RateLimit } from '../model/configuration.ts';
import { Refusal } from '../model/refusals.ts';

/** Creates a subscription's balance row. */
export async function openBalance(sql: Sql, accountId: bigint, subscriptionId: bigint): Promise<void> {
  await sql`insert into balances (account_id, subscription_id, balance_e4) values (${accountId}, ${subscriptionId}, 0)`;
}

/** The money that may still be spent; held money is not part of it. */
export async function balanceOf(sql: Sql, accountId: bigint, subscriptionId: bigint): Promise<bigint> {
  const [row] = await sql<{ balance: bigint }[]>`
    select balance_e4 as balance from balances where account_id = ${accountId} and subscription_id = ${subscriptionId}`;
  if (!row) throw new Error(`subscription ${subscriptionId} has no balance`);
  return row.balance;
}

/** Pays in. `key` is the caller's own (a repeat with the same key changes nothing and returns false). */
export async function topUp(
  sql: Sql,
  entry: { accountId: bigint; subscriptionId: bigint; amountE4: bigint; key: bigint; note: string | null; at: Date },
): Promise<boolean> {
  const [row] = await sql`
    with entry as (
      insert into ledger_entries (account_id, batch_id, kind, seq, subscription_id, amount_e4, held_e4, at, note)
      values (${entry.accountId}, 0, 'top_up', ${entry.key}, ${entry.subscriptionId}, ${entry.amountE4}, 0, ${entry.at}, ${entry.note})
      on conflict do nothing
      returning amount_e4)
    update balances set balance_e4 = balance_e4 + entry.amount_e4
    from entry
    where account_id = ${entry.accountId} and subscription_id = ${entry.subscriptionId}
    returning balance_e4`;
  return row !== undefined;
}

export interface Hold {
  readonly batchId: bigint;
  readonly amountE4: bigint;
}

/** Takes the price of these batches from one balance, all or none; refuses if the balance does not cover them. */
export async function hold(sql: Sql, accountId: bigint, subscriptionId: bigint, holds: readonly Hold[], at: Date): Promise<void> {
  const costly = holds.filter(({ amountE4 }) => amountE4 > 0n);
  if (costly.length === 0) return;
  const total = costly.reduce((sum, { amountE4 }) => sum + amountE4, 0n);
  // One writing CTE and an insert that reads it, so that a sharded database runs both on the account's node.
  const [taken] = await sql`
    with covered as (
      update balances set balance_e4 = balance_e4 - ${total}
      where account_id = ${accountId} and subscription_id = ${subscriptionId} and balance_e4 >= ${total}
      returning 1)
    insert into ledger_entries (account_id, batch_id, kind, seq, subscription_id, amount_e4, held_e4, at)
    select ${accountId}, batch_id, 'hold', 0, ${subscriptionId}, -amount, amount, ${at}
    from covered, unnest(${costly.map((h) => h.batchId)}::bigint[], ${costly.map((h) => h.amountE4)}::bigint[])
      as t(batch_id, amount)
    returning 1`;
  if (!taken) throw insufficient(total);
}

/**
 * Takes as many of these recipients as the subscription's rate allows now, from none to all, and returns how many. The bucket starts full
 * and fills by `perSecond` up to `burst`. Locks the row until the transaction ends; a rollback gives the recipients back. A negative number
 * returns recipients that the transaction has taken and not used. Time only goes forward: for an `at` earlier than the latest one, nothing
 * has flowed in.
 */
export async function takeRate(
  sql: Sql,
  accountId: bigint,
  subscriptionId: bigint,
  { perSecond, burst }: RateLimit,
  wanted: number,
  at: Date,
): Promise<number> {
  if (wanted === 0) return 0;
  // In thousandths of a recipient: milliseconds times the rate, without rounding.
  const [taken] = await sql<{ granted: number }[]>`
    with bucket as materialized (
      select least(${burst * 1000}::bigint, coalesce(rate_left_e3, ${burst * 1000}::bigint)
               + greatest(0, (extract(epoch from ${at}::timestamptz - rate_at) * 1000)::bigint) * ${perSecond}::bigint) as left_e3
      from balances where account_id = ${accountId} and subscription_id = ${subscriptionId} for update),
    taken as materialized (select left_e3, least(${wanted}::bigint, left_e3 / 1000)::int as granted from bucket)
    update balances set rate_left_e3 = taken.left_e3 - taken.granted::bigint * 1000, rate_at = greatest(rate_at, ${at}::timestamptz)
    from taken
    where account_id = ${accountId} and subscription_id = ${subscriptionId}
    returning taken.granted`;
  if (!taken) throw new Error(`subscription ${subscriptionId} has no balance`);
  return taken.granted;
}

/** The refusal of a submission with this price. */
export const insufficient = (amountE4: bigint): Refusal => new Refusal('insufficient_balance', `本次需 ${yuan(amountE4)}`);

/** The money side of a set of messages of one batch, ended (or paid for) in one transaction. */
export interface Conclusion {
  readonly subscriptionId: bigint;
  readonly batchId: bigint;
  /** The lowest message id of the set. It is the entry's key, since a message ends once. */
  readonly seq: bigint;
  readonly settledE4: bigint;
  readonly releasedE4: bigint;
}

/**
 * Settles and releases held money of one account. Balances change only by released money, once per subscription, in id order. An entry that
 * already exists changes nothing.
 */
export async function conclude(sql: Sql, accountId: bigint, conclusions: readonly Conclusion[], at: Date): Promise<void> {
  const settled = conclusions.filter((c) => c.settledE4 > 0n);
  if (settled.length > 0) {
    await sql`
      insert into ledger_entries (account_id, batch_id, kind, seq, subscription_id, amount_e4, held_e4, at)
      select ${accountId}, batch_id, 'settle', seq, subscription_id, 0, -amount, ${at}
      from unnest(${settled.map((c) => c.batchId)}::bigint[], ${settled.map((c) => c.seq)}::bigint[],
                  ${settled.map((c) => c.subscriptionId)}::bigint[], ${settled.map((c) => c.settledE4)}::bigint[])
        as t(batch_id, seq, subscription_id, amount)
      on conflict do nothing`;
  }
  const released = conclusions.filter((c) => c.releasedE4 > 0n).sort((a, b) => (a.subscriptionId < b.subscriptionId ? -1 : 1));
  if (released.length > 0) {
    const entries = sql`
      insert into ledger_entries (account_id, batch_id, kind, seq, subscription_id, amount_e4, held_e4, at)
      select ${accountId}, batch_id, 'release', seq, subscription_id, amount, -amount, ${at}
      from unnest(${released.map((c) => c.batchId)}::bigint[], ${released.map((c) => c.seq)}::bigint[],
                  ${released.map((c) => c.subscriptionId)}::bigint[], ${released.map((c) => c.releasedE4)}::bigint[])
        as t(batch_id, seq, subscription_id, amount)
      on conflict do nothing
      returning subscription_id, amount_e4`;
    // The update takes its rows in any order, so if there are several, they are locked in order first.
    const subscriptionIds = [...new Set(released.map((c) => c.subscriptionId))];
    const locking = sql`
      select 1 from balances
      where account_id = ${accountId} and subscription_id = any(${subscriptionIds}::bigint[]) order by subscription_id for update`;
    const moving = sql`
      with entries as (${entries}),
      sums as (select subscription_id, sum(amount_e4)::bigint as amount from entries group by subscription_id)
      update balances b set balance_e4 = b.balance_e4 + sums.amount
      from sums
      where b.account_id = ${accountId} and b.subscription_id = sums.subscription_id`;
    await Promise.all(subscriptionIds.length > 1 ? [locking, moving] : [moving]);
  }
}

/**
 * Replaces all entries of these batches with opening entries: the sums of each subscription and day. Balances stay as they are, and a batch
 * that has ended has no hold. The caller must know that none of their messages can still end.
 */
export async function compact(sql: Sql, accountId: bigint, batchIds: readonly bigint[]): Promise<void> {
  await sql`
    with gone as (
      delete from ledger_entries where account_id = ${accountId} and batch_id > 0 and batch_id = any(${batchIds}::bigint[])
      returning subscription_id, (at at time zone 'Asia/Shanghai')::date as day, amount_e4, held_e4),
    sums as (
      select subscription_id, day, sum(amount_e4)::bigint as amount, sum(held_e4)::bigint as held from gone group by subscription_id, day)
    insert into ledger_entries (account_id, batch_id, kind, seq, subscription_id, amount_e4, held_e4, at)
    select ${accountId}, 0, 'opening', subscription_id * 65536 + (day - date '1970-01-01'), subscription_id, amount, held,
           day::timestamp at time zone 'Asia/Shanghai'
    from sums
    on conflict (account_id, batch_id, kind, seq) do update
      set amount_e4 = ledger_entries.amount_e4 + excluded.amount_e4, held_e4 = ledger_entries.held_e4 + excluded.held_e4`;
}

/** An amount for people: two decimals, and up to four where the others are not zero. */
export function yuan(amountE4: bigint): string {
  const sign = amountE4 < 0n ? '-' : '';
  const digits = String(amountE4 < 0n ? -amountE4 : amountE4).padStart(5, '0');
  const fraction = digits.slice(-4).replace(/0{1,2}$/, '');
  return `${sign}${digits.slice(0, -4)}.${fraction}`;
}
