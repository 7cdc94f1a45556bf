/**
 * The immutable parts of accepted requests: batches, the bodies of their chunks, and the request ids that make a repeat harmless. The only
 * writer of `batches`, `chunks` and `request_ids`.
 *
 * A batch outlives its messages. Before a day's messages are dropped, their totals are frozen on the batch. When all its days are gone, its
 * content and chunks are purged. Long after that the batch is deleted (core/watch/retention.ts says when).
 */
import type { Sql } from '../../db/db.ts';
import { groupBy } from '../../std/group.ts';
import { batchIdOf, batchOf, batchOfChunk, chunkIdOf, chunkNumberOf, chunksOfBatch, messageRangeOf } from '../model/ids.ts';
import { Refusal, RepeatedRequest, type RequestSubject } from '../model/refusals.ts';
import type { ContentKindName, Receipt, RequestKey, StoredPackage } from '../model/submission.ts';
import { usualForm } from '../model/numbers.ts';

/** How long a request id is remembered. */
const requestWindowMs = 2 * 3600_000;

export interface BatchRow {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly kind: ContentKindName;
  readonly templateId: bigint | null;
  /** For a multimedia message its words. */
  readonly content: string;
  readonly package: StoredPackage | null;
  readonly ext: string;
  readonly recipients: number;
  /** The day of acceptance. */
  readonly day: string;
  readonly sendAt: Date | null;
}

/** A chunk's body, as it is stored. */
export interface ChunkBody {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly day: string;
  /** Its messages ended when the batch was accepted, and were in the answer. */
  readonly intercepted: boolean;
  /** Its messages wait for a person, or waited until they ended. */
  readonly review: boolean;
  readonly segments: number;
  readonly priceE4: bigint;
  readonly phones: readonly bigint[];
  readonly forms: readonly (string | null)[] | null;
  readonly parameters: readonly (readonly string[])[] | null;
  readonly codes: readonly string[] | null;
  readonly verdicts: readonly unknown[] | null;
}

/** The next `count` batch ids. They are taken outside any transaction; gaps do no harm. */
export async function nextBatchIds(sql: Sql, count: number): Promise<bigint[]> {
  const rows = await sql<{ id: bigint }[]>`select nextval('batch_ids') as id from generate_series(1, ${count}::int)`;
  return rows.map(({ id }) => id);
}

const json = (value: unknown): string | null => (value === null ? null : JSON.stringify(value));

export async function insertBatches(sql: Sql, rows: readonly BatchRow[], at: Date): Promise<void> {
  await sql`
    insert into batches (id, account_id, subscription_id, kind, template_id, content, package, ext, recipients, day, send_at, created_at)
    select id, account_id, subscription_id, kind, template_id, content, package::jsonb, ext, recipients, day, send_at, ${at}
    from unnest(${rows.map((r) => r.id)}::bigint[], ${rows.map((r) => r.accountId)}::bigint[],
                ${rows.map((r) => r.subscriptionId)}::bigint[], ${rows.map((r) => r.kind)}::text[], ${rows.map((r) => r.templateId)}::bigint[],
                ${rows.map((r) => r.content)}::text[], ${rows.map((r) => json(r.package))}::text[], ${rows.map((r) => r.ext)}::text[],
                ${rows.map((r) => r.recipients)}::int[], ${rows.map((r) => r.day)}::date[], ${rows.map((r) => r.sendAt)}::timestamptz[])
      as t(id, account_id, subscription_id, kind, template_id, content, package, ext, recipients, day, send_at)`;
}

export async function insertChunks(sql: Sql, rows: readonly ChunkBody[]): Promise<void> {
  await sql`
    insert into chunks (id, account_id, subscription_id, day, intercepted, review, segments, price_e4, phones, forms, parameters, codes, verdicts)
    select id, account_id, subscription_id, day, intercepted, review, segments, price_e4,
           phones::bigint[], forms::jsonb, parameters::jsonb, codes::jsonb, verdicts::jsonb
    from unnest(${rows.map((r) => r.id)}::bigint[], ${rows.map((r) => r.accountId)}::bigint[],
                ${rows.map((r) => r.subscriptionId)}::bigint[], ${rows.map((r) => r.day)}::date[],
                ${rows.map((r) => r.intercepted)}::boolean[], ${rows.map((r) => r.review)}::boolean[], ${rows.map((r) => r.segments)}::smallint[],
                ${rows.map((r) => r.priceE4)}::bigint[], ${rows.map((r) => `{${r.phones.join(',')}}`)}::text[],
                ${rows.map((r) => json(r.forms))}::text[], ${rows.map((r) => json(r.parameters))}::text[],
                ${rows.map((r) => json(r.codes))}::text[], ${rows.map((r) => json(r.verdicts))}::text[])
      as t(id, account_id, subscription_id, day, intercepted, review, segments, price_e4, phones, forms, parameters, codes, verdicts)`;
}

/** Marks a planned batch as cancelled; false if it already was. */
export async function markCancelled(sql: Sql, accountId: bigint, batchId: bigint, at: Date): Promise<boolean> {
  const rows = await sql`
    update batches set cancelled_at = ${at} where account_id = ${accountId} and id = ${batchId} and cancelled_at is null returning 1`;
  return rows.length > 0;
}

/** What the dispatcher needs of a chunk: its recipients, their text, and the source number. */
export interface DispatchBody {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly day: string;
  readonly segments: number;
  readonly priceE4: bigint;
  readonly phones: readonly bigint[];
  readonly forms: readonly (string | null)[] | null;
  readonly kind: ContentKindName;
  readonly content: string;
  readonly package: StoredPackage | null;
  readonly ext: string;
}

/** A node of the previous version stores no kind: it knows only cards and packages. */
export async function dispatchBodies(sql: Sql, accountId: bigint, chunkIds: readonly bigint[]): Promise<DispatchBody[]> {
  return sql<DispatchBody[]>`
    select c.id, c.account_id as "accountId", c.subscription_id as "subscriptionId", c.day, c.segments::int, c.price_e4 as "priceE4",
           c.phones, c.forms, coalesce(b.kind, case when b.package is null then 'card' else 'package' end) as kind, b.content, b.package, b.ext
    from chunks c join batches b on b.id = ${batchOfChunk(sql, sql`c.id`)} and b.account_id = ${accountId}
    where c.account_id = ${accountId} and c.id = any(${chunkIds}::bigint[])`;
}

/** The recipients of chunks of an account. */
export async function phonesOf(sql: Sql, accountId: bigint, chunkIds: readonly bigint[]): Promise<Map<bigint, readonly bigint[]>> {
  const rows = await sql<{ id: bigint; phones: bigint[] }[]>`
    select id, phones from chunks where account_id = ${accountId} and id = any(${chunkIds}::bigint[])`;
  return new Map(rows.map(({ id, phones }) => [id, phones]));
}

// ── what waits for a person ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** A chunk that waits for a person, with what its messages need to be put in line. */
export type ReviewChunk = Pick<ChunkBody, 'id' | 'phones' | 'forms' | 'parameters' | 'segments' | 'priceE4'> & Pick<BatchRow, 'sendAt'>;

/** The chunks of a batch that wait for review, in their order. */
export async function reviewChunks(sql: Sql, accountId: bigint, batchId: bigint): Promise<ReviewChunk[]> {
  return sql<ReviewChunk[]>`
    select c.id, c.phones, c.forms, c.parameters, c.segments::int, c.price_e4 as "priceE4", b.send_at as "sendAt"
    from chunks c join batches b on b.account_id = ${accountId} and b.id = ${batchId}
    where c.account_id = ${accountId} and c.id ${chunksOfBatch(sql, batchId)} and c.review
    order by c.id`;
}

/** The highest chunk number that a batch has used. */
export async function lastChunkNumber(sql: Sql, accountId: bigint, batchId: bigint): Promise<number> {
  const [row] = await sql<{ last: bigint | null }[]>`
    select max(id) as last from chunks where account_id = ${accountId} and id ${chunksOfBatch(sql, batchId)}`;
  return chunkNumberOf(row?.last ?? chunkIdOf(batchId, 0));
}

/** Removes chunks whose recipients move to other chunks; none of them may have a message row. */
export async function removeChunks(sql: Sql, accountId: bigint, ids: readonly bigint[]): Promise<void> {
  await sql`delete from chunks where account_id = ${accountId} and id = any(${ids}::bigint[])`;
}

// ── past retention ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Counts and costs of a dropped day's messages by status, as stored in `frozen`. */
export type FrozenDay = Readonly<Record<string, readonly [count: number, costE4: number]>>;

/**
 * Writes the totals of a day's messages on their batches, starting with the batch `from`, until `messages` messages are passed. Returns the
 * batch to continue from, or null at the end. Call it only when nothing of the day can change any more; a repeat changes nothing. A sweep
 * over all accounts.
 */
export async function freezeDay(sql: Sql, day: string, from: bigint, messages: number, at: Date): Promise<bigint | null> {
  const [first] = messageRangeOf(from);
  const [last] = await sql<{ id: bigint }[]>`
    select id from messages where day = ${day} and id >= ${first} order by id offset ${messages} limit 1`;
  const upTo = last ? batchIdOf(last.id) : null;
  const end = upTo === null ? null : messageRangeOf(upTo)[1];
  await sql`
    with counted as (
      select account_id, ${batchOf(sql, sql`id`)} as batch_id, status, count(*) as n, coalesce(sum(cost_e4), 0)::bigint as cost
      from messages
      where day = ${day} and id >= ${first} and (${end}::bigint is null or id <= ${end})
      group by 1, 2, 3),
    totals as (
      select account_id, batch_id, jsonb_build_object(${day}::text, jsonb_object_agg(status, jsonb_build_array(n, cost))) as totals
      from counted group by 1, 2),
    ends as materialized (
      select b.account_id, b.id, t.totals,
        -- The last of its days. A card goes on opening as long as its template promises.
        case when not exists (
          select 1 from chunks c
          where c.account_id = b.account_id and c.id ${chunksOfBatch(sql, sql`b.id`)} and c.day <> ${day}
            and not coalesce(b.frozen ? c.day::text, false))
          then greatest(${at}::timestamptz, (
            select least(b.created_at + make_interval(days => p.link_days), p.valid_until) from templates p
            where p.account_id = b.account_id and p.id = b.template_id and p.medium = 'aim')) end as purge_at
      from totals t join batches b on b.account_id = t.account_id and b.id = t.batch_id
      where not coalesce(b.frozen ? ${day}::text, false))
    update batches b set frozen = coalesce(b.frozen, '{}') || e.totals, purge_at = e.purge_at
    from ends e where b.account_id = e.account_id and b.id = e.id`;
  return upTo === null ? null : upTo + 1n;
}

/** A batch that may be purged, with the media it names. */
export interface Purgeable {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly digests: readonly string[];
}

/** Batches that have nothing left on these days and whose links have expired, those expired longest first. A sweep over all accounts. */
export async function purgeable(sql: Sql, days: readonly string[], at: Date, limit: number): Promise<Purgeable[]> {
  return sql<Purgeable[]>`
    select id, account_id as "accountId", array(
             select jsonb_array_elements_text(jsonb_path_query_array(package, '$.frames[*].media.sha256'))) as digests
    from batches where purge_at <= ${at} and not frozen ?| ${days}::text[]
    order by purge_at limit ${limit}`;
}

/** Removes the content and the recipients of batches. Ids, times and the totals of the messages remain. */
export async function purgeBatches(sql: Sql, accountId: bigint, batchIds: readonly bigint[], at: Date): Promise<void> {
  await sql`
    delete from chunks c using unnest(${batchIds}::bigint[]) as b(id)
    where c.account_id = ${accountId} and c.id ${chunksOfBatch(sql, sql`b.id`)}`;
  await sql`
    update batches set content = '', package = null, purge_at = null, purged_at = ${at}
    where account_id = ${accountId} and id = any(${batchIds}::bigint[])`;
}

/** Purged batches that were accepted before this day, the oldest first. A sweep over all accounts. */
export async function forgettable(sql: Sql, before: string, limit: number): Promise<{ id: bigint; accountId: bigint }[]> {
  return sql<{ id: bigint; accountId: bigint }[]>`
    select id, account_id as "accountId" from batches where purged_at is not null and day < ${before} order by day, id limit ${limit}`;
}

/** Deletes batches. Their ledger entries must be gone first: without the batches nothing could be checked against them. */
export async function forgetBatches(sql: Sql, accountId: bigint, batchIds: readonly bigint[]): Promise<void> {
  await sql`delete from batches where account_id = ${accountId} and id = any(${batchIds}::bigint[])`;
}

// ── request ids ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Reservation extends RequestKey {
  readonly subject: RequestSubject;
}

/** Reserves a request id, in the transaction of its request; false if it belongs to a request of the last two hours. */
export async function reserveRequestId(sql: Sql, accountId: bigint, { key, digest, subject }: Reservation, at: Date): Promise<boolean> {
  const batchId = subject.kind === 'batch' ? subject.id : null;
  const templateId = subject.kind === 'template' ? subject.id : null;
  const free = await sql`
    insert into request_ids as r (account_id, key, digest, batch_id, template_id, at)
    values (${accountId}, ${key}, ${digest ?? ''}, ${batchId}, ${templateId}, ${at})
    on conflict (account_id, key)
      do update set digest = excluded.digest, batch_id = excluded.batch_id, template_id = excluded.template_id, at = excluded.at
      where r.at <= ${new Date(at.getTime() - requestWindowMs)}
    returning 1`;
  return free.length > 0;
}

/** The subject of this request id, or null. Refuses if repeats are not allowed, or if the repeat differs from the first request. */
export async function findRequestId(sql: Sql, accountId: bigint, { key, digest }: RequestKey, at: Date): Promise<RequestSubject | null> {
  const [row] = await sql<{ digest: string; batchId: bigint | null; templateId: bigint | null }[]>`
    select digest, batch_id as "batchId", template_id as "templateId" from request_ids
    where account_id = ${accountId} and key = ${key} and at > ${new Date(at.getTime() - requestWindowMs)}`;
  if (!row) return null;
  const subject: RequestSubject =
    row.batchId === null ? { kind: 'template', id: row.templateId ?? 0n } : { kind: 'batch', id: row.batchId };
  if (digest === null) throw new RepeatedRequest(subject);
  if (row.digest !== digest) throw new Refusal('invalid', 'Idempotency-Key 已用于另一个参数不同的请求');
  return subject;
}

/** Deletes request ids whose window is over, at most `limit`; returns how many. */
export async function purgeRequestIds(sql: Sql, at: Date, limit: number): Promise<number> {
  const over = new Date(at.getTime() - requestWindowMs);
  const old = await sql<{ accountId: bigint; key: string }[]>`
    select account_id as "accountId", key from request_ids where at <= ${over} order by at limit ${limit}`;
  for (const [accountId, own] of groupBy(old, (row) => row.accountId))
    await sql`
      delete from request_ids where account_id = ${accountId} and key = any(${own.map(({ key }) => key)}::text[]) and at <= ${over}`;
  return old.length;
}

/** Rebuilds the first answer from the stored rows. */
export async function rebuildReceipt(sql: Sql, accountId: bigint, batchId: bigint): Promise<Receipt> {
  const rows = await sql<{ phones: bigint[]; forms: (string | null)[] | null; codes: string[] }[]>`
    select phones, forms, codes from chunks
    where account_id = ${accountId} and id ${chunksOfBatch(sql, batchId)} and intercepted order by id`;
  const intercepted = rows.flatMap(({ phones, forms, codes }) =>
    phones.map((phone, index) => ({ written: forms?.[index] ?? usualForm(phone), code: codes[index] ?? '' })),
  );
  return { batchId, intercepted };
}

/** Which of these batches exist, after a commit whose answer was lost with the connection. */
export async function existing(sql: Sql, accountId: bigint, batchIds: readonly bigint[]): Promise<ReadonlySet<bigint>> {
  const rows = await sql<{ id: bigint }[]>`
    select id from batches where account_id = ${accountId} and id = any(${batchIds}::bigint[])`;
  return new Set(rows.map(({ id }) => id));
}
