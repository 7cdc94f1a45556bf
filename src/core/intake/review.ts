/**
 * The review desk: one item for each batch that waits for a person, in whole or in part. The only writer of `review_items`.
 *
 * The money of waiting messages is held. Approval judges the numbers again, from the blocklists on and as of now, and queues them in new
 * chunks of the same batch. Rejection and expiry end the messages with the code that held them, and give the money back. A decision locks
 * the item first, so two people cannot both decide, and repeating the same decision changes nothing.
 */
import { type Db, forEachOwner, type Sql } from '../../db/db.ts';
import { type BatchRow, dispatchBodies, lastChunkNumber, removeChunks, reviewChunks } from '../queue/batches.ts';
import type { Directory, Tenancy } from '../config/directory.ts';
import { listLookup } from '../catalogue/list-lookup.ts';
import { belowId, Denial, found, type Page, type PageRequest, pageOf } from '../config/management.ts';
import { record } from '../outcome/messages.ts';
import { messageIdOf } from '../model/ids.ts';
import { messageStatus } from '../model/statuses.ts';
import type { NumberPlan } from '../numbers/number-plan.ts';
import { usualForm } from '../model/numbers.ts';
import { type Judged, place, type Price, rowsOf, type Slice, slicesOf } from './placement.ts';
import { withPorted } from '../numbers/portability.ts';
import { firstRuleAfterReview, judge, judgeCounting, type ScreeningDeps, type Verdict } from '../screening/rules.ts';

export type ReviewState = 'pending' | 'approved' | 'rejected' | 'expired' | 'cancelled';

export interface ReviewItem {
  readonly accountId: bigint;
  /** Also the item's own id. */
  readonly batchId: bigint;
  readonly subscriptionId: bigint;
  readonly templateId: bigint | null;
  readonly content: string;
  /** The final code of the messages on rejection, and which rule and entry held them. */
  readonly code: string;
  readonly rule: number;
  readonly entry: Verdict['entry'];
  readonly recipients: number;
  readonly heldE4: bigint;
  readonly state: ReviewState;
  readonly reason: string | null;
  readonly decidedBy: string | null;
  readonly createdAt: Date;
  readonly expiresAt: Date;
  readonly decidedAt: Date | null;
}

type NewReview = Pick<ReviewItem, 'accountId' | 'batchId' | 'subscriptionId' | 'code' | 'rule' | 'entry' | 'recipients' | 'heldE4'>;

/** The item of a batch that is about to be stored; null if no message waits. Rules that ask for review do so for a whole batch. */
export function reviewOf(batch: BatchRow, { verdicts }: Judged, slices: readonly Slice[]): NewReview | null {
  const waiting = slices.filter(({ kind }) => kind === 'review');
  const verdict = verdicts[waiting[0]?.indexes[0] ?? -1];
  if (!verdict) return null;
  const recipients = waiting.reduce((sum, { indexes }) => sum + indexes.length, 0);
  const heldE4 = waiting.reduce((sum, { indexes, priceE4 }) => sum + priceE4 * BigInt(indexes.length), 0n);
  const { code, rule, entry } = verdict;
  return { accountId: batch.accountId, batchId: batch.id, subscriptionId: batch.subscriptionId, code, rule, entry, recipients, heldE4 };
}

export async function insertReviews(sql: Sql, rows: readonly NewReview[], at: Date, hours: number): Promise<void> {
  if (rows.length === 0) return;
  await sql`
    insert into review_items (account_id, batch_id, subscription_id, code, rule, entry, recipients, held_e4, created_at, expires_at)
    select t.account_id, t.batch_id, t.subscription_id, t.code, t.rule, t.entry::jsonb, t.recipients, t.held_e4, ${at}::timestamptz,
           ${new Date(at.getTime() + hours * 3600_000)}::timestamptz
    from unnest(${rows.map((r) => r.accountId)}::bigint[], ${rows.map((r) => r.batchId)}::bigint[],
                ${rows.map((r) => r.subscriptionId)}::bigint[], ${rows.map((r) => r.code)}::text[], ${rows.map((r) => r.rule)}::smallint[],
                ${rows.map((r) => JSON.stringify(r.entry))}::text[], ${rows.map((r) => r.recipients)}::int[],
                ${rows.map((r) => r.heldE4)}::bigint[])
      as t(account_id, batch_id, subscription_id, code, rule, entry, recipients, held_e4)`;
}

/** Items, newest first: an account's, or all for the operator (`accountId` null); optionally of one state. */
export async function listReviews(
  sql: Sql,
  accountId: bigint | null,
  state: ReviewState | null,
  page: PageRequest,
): Promise<Page<ReviewItem>> {
  const rows = await sql<ReviewItem[]>`
    ${items(sql)}
    where (${accountId}::bigint is null or r.account_id = ${accountId}) and (${state}::text is null or r.state = ${state})
      and r.batch_id < ${belowId(page)}
    order by r.batch_id desc limit ${page.limit + 1}`;
  return pageOf(rows, page, ({ batchId }) => [batchId]);
}

/** One item; for an account, only if it is its own. */
export async function getReview(sql: Sql, accountId: bigint | null, batchId: bigint): Promise<ReviewItem> {
  const [item] = await sql<ReviewItem[]>`
    ${items(sql)} where r.batch_id = ${batchId} and (${accountId}::bigint is null or r.account_id = ${accountId})`;
  return found(item, 'review item');
}

const items = (sql: Sql) => sql`
  select r.account_id as "accountId", r.batch_id as "batchId", r.subscription_id as "subscriptionId", b.template_id as "templateId", b.content,
         r.code, r.rule::int, r.entry, r.recipients, r.held_e4 as "heldE4", r.state, r.reason, r.decided_by as "decidedBy",
         r.created_at as "createdAt", r.expires_at as "expiresAt", r.decided_at as "decidedAt"
  from review_items r join batches b on b.account_id = r.account_id and b.id = r.batch_id`;

/** Who decides, and when. */
interface Decision {
  readonly by: string;
  readonly at: Date;
}

type ReviewDeps = Omit<ScreeningDeps, 'onList'> & { readonly db: Db; readonly numberPlan: Pick<NumberPlan, 'of'> };

/** Lets the waiting messages pass, as far as blocklists, caps and channels allow it now. */
export async function approve(deps: ReviewDeps, batchId: bigint, { by, at }: Decision): Promise<ReviewItem> {
  const { db, directory, contentRules, numberPlan } = deps;
  return db.transaction(async (sql) => {
    const item = await lock(sql, batchId);
    if (item.state === 'approved') return item;
    if (item.state !== 'pending') throw decidedAlready(item);
    const tenancy = tenancyOf(directory, item);
    const found = await recipientsOf(sql, numberPlan, item);
    const waiting = { ...found, phones: await withPorted(sql, directory, found.phones) };
    const { sendAt } = waiting;
    const inquiry = {
      tenancy,
      content: item.content,
      words: item.content,
      phones: waiting.phones,
      sendAt: sendAt && sendAt > at ? sendAt : at,
    };
    const asked = {
      ...inquiry,
      verdicts: await judge({ onList: listLookup(sql), directory, contentRules }, inquiry, firstRuleAfterReview),
    };
    const [verdicts = asked.verdicts] = await judgeCounting({ sql, directory }, tenancy, [asked], at);
    const judged = { ...waiting, verdicts };
    const slices = slicesOf(directory, tenancy, judged, (index) => waiting.prices[index] as Price, { held: true });
    const firstNumber = (await lastChunkNumber(sql, item.accountId, batchId)) + 1;
    const rows = rowsOf({ batchId, tenancy, sendAt, firstNumber, afterReview: true }, judged, slices, at);
    // The messages leave the chunks in which they waited; none of them has a row yet.
    await removeChunks(sql, item.accountId, waiting.chunkIds);
    await place(sql, directory, tenancy, [rows], sendAt, at);
    return settle(sql, item, { state: 'approved', reason: null, by, at });
  });
}

/** Ends the waiting messages with the code that held them; the money goes back. */
export async function reject(
  { db, directory }: Pick<ReviewDeps, 'db' | 'directory'>,
  batchId: bigint,
  reason: string,
  { by, at }: Decision,
): Promise<ReviewItem> {
  return db.transaction(async (sql) => {
    const item = await lock(sql, batchId);
    if (item.state === 'rejected') return item;
    if (item.state !== 'pending') throw decidedAlready(item);
    await endWaiting(sql, directory, item, { status: messageStatus.intercepted, code: item.code }, at);
    return settle(sql, item, { state: 'rejected', reason, by, at });
  });
}

/** Rejects overdue items without a decision, at most `limit`. Returns how many. */
export async function expireReviews({ db, directory }: Pick<ReviewDeps, 'db' | 'directory'>, at: Date, limit: number): Promise<number> {
  return db.transaction(async (sql) => {
    const overdue = await sql<{ accountId: bigint; batchId: bigint }[]>`
      select account_id as "accountId", batch_id as "batchId" from review_items where state = 'pending' and expires_at <= ${at}
      order by expires_at limit ${limit}`;
    const locked = await forEachOwner(
      overdue,
      (row) => row.accountId,
      (accountId, own) => sql<{ accountId: bigint; batchId: bigint }[]>`
        select account_id as "accountId", batch_id as "batchId" from review_items
        where account_id = ${accountId} and batch_id = any(${own.map(({ batchId }) => batchId)}::bigint[]) and state = 'pending'
        for update skip locked`,
    );
    for (const { accountId, batchId } of locked) {
      const item = await getReview(sql, accountId, batchId);
      await endWaiting(sql, directory, item, { status: messageStatus.intercepted, code: item.code }, at);
      await settle(sql, item, { state: 'expired', reason: null, by: null, at });
    }
    return locked.length;
  });
}

/** Ends the waiting messages of a batch that its owner cancels. Returns their chunks, or none. In the caller's transaction. */
export async function cancelReview(
  sql: Sql,
  directory: Directory,
  accountId: bigint,
  batchId: bigint,
  end: { readonly code: string },
  at: Date,
): Promise<readonly bigint[]> {
  const [pending] = await sql`
    select 1 from review_items where account_id = ${accountId} and batch_id = ${batchId} and state = 'pending' for update`;
  if (!pending) return [];
  const item = await getReview(sql, accountId, batchId);
  const chunkIds = await endWaiting(sql, directory, item, { status: messageStatus.cancelled, ...end }, at);
  await settle(sql, item, { state: 'cancelled', reason: null, by: null, at });
  return chunkIds;
}

const decidedAlready = ({ state }: ReviewItem): Denial => new Denial('conflict', `the item is ${state} already`);

/** Locks an item that an operator names by id alone. Its owner never changes; its state is read after locking. */
async function lock(sql: Sql, batchId: bigint): Promise<ReviewItem> {
  const { accountId } = await getReview(sql, null, batchId);
  await sql`select 1 from review_items where account_id = ${accountId} and batch_id = ${batchId} for update`;
  return getReview(sql, accountId, batchId);
}

function tenancyOf(directory: Directory, { subscriptionId }: ReviewItem): Tenancy {
  const tenancy = directory.subscription(subscriptionId);
  if (!tenancy) throw new Error(`subscription ${subscriptionId} is not configured`);
  return tenancy;
}

/** The waiting recipients in the order of submission, each with what is held for it. */
async function recipientsOf(sql: Sql, numberPlan: Pick<NumberPlan, 'of'>, { accountId, batchId }: ReviewItem) {
  const chunks = await reviewChunks(sql, accountId, batchId);
  const rows = chunks.flatMap(({ phones, forms, parameters, segments, priceE4 }) => {
    const price = { segments, priceE4 };
    return phones.map((phone, index) => ({
      phone: numberPlan.of(phone),
      written: forms?.[index] ?? usualForm(phone),
      values: parameters?.[index] ?? [],
      price,
    }));
  });
  const prices = new Map<string, Price>();
  return {
    chunkIds: chunks.map(({ id }) => id),
    sendAt: chunks[0]?.sendAt ?? null,
    phones: rows.map(({ phone }) => phone),
    written: rows.map(({ written }) => written),
    values: rows.map(({ values }) => values),
    prices: rows.map(({ price }) => {
      const key = `${price.segments}/${price.priceE4}`;
      const known = prices.get(key);
      if (!known) prices.set(key, price);
      return known ?? price;
    }),
  };
}

async function endWaiting(
  sql: Sql,
  directory: Directory,
  { accountId, batchId }: ReviewItem,
  end: { readonly status: typeof messageStatus.intercepted | typeof messageStatus.cancelled; readonly code: string },
  at: Date,
): Promise<readonly bigint[]> {
  const chunkIds = (await reviewChunks(sql, accountId, batchId)).map(({ id }) => id);
  const bodies = await dispatchBodies(sql, accountId, chunkIds);
  const outcomes = bodies.flatMap((body) =>
    body.phones.map((phone, index) => ({
      id: messageIdOf(body.id, index),
      common: body,
      phone,
      form: body.forms?.[index] ?? null,
      channelId: null,
      carrierId: null,
      ...end,
      paid: false,
      parts: [],
    })),
  );
  await record(sql, directory, outcomes, at, false);
  return chunkIds;
}

async function settle(
  sql: Sql,
  item: ReviewItem,
  { state, reason, by, at }: { state: ReviewState; reason: string | null; by: string | null; at: Date },
): Promise<ReviewItem> {
  await sql`
    update review_items set state = ${state}, reason = ${reason}, decided_by = ${by}, decided_at = ${at}
    where account_id = ${item.accountId} and batch_id = ${item.batchId}`;
  return { ...item, state, reason, decidedBy: by, decidedAt: at };
}
