/**
 * What was accepted and never changes: batches, their chunks' bodies, and the request ids that make a repeat harmless. The only
 * writer of `batches`, `chunks` and `request_ids`.
 */
import type { Sql } from '../db/db.ts';
import { type Receipt, Refusal, RepeatedRequest, type RequestKey, type RequestSubject, type StoredPackage } from './model.ts';
import { usualForm } from './numbers.ts';

/** How long a request id is remembered. */
const requestWindowMs = 2 * 3600_000;

export interface BatchRow {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly templateId: bigint | null;
  /** Of a multimedia message its words. */
  readonly content: string;
  readonly package: StoredPackage | null;
  readonly ext: string;
  readonly recipients: number;
  /** Of acceptance. */
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
  /** Its messages wait for a person, or did so until they ended. */
  readonly review: boolean;
  readonly segments: number;
  readonly priceE4: bigint;
  readonly phones: readonly bigint[];
  readonly forms: readonly (string | null)[] | null;
  readonly parameters: readonly (readonly string[])[] | null;
  readonly codes: readonly string[] | null;
  readonly verdicts: readonly unknown[] | null;
}

/** The next `count` batch ids; taken outside of any transaction, gaps do no harm. */
export async function nextBatchIds(sql: Sql, count: number): Promise<bigint[]> {
  const rows = await sql<{ id: bigint }[]>`select nextval('batch_ids') as id from generate_series(1, ${count}::int)`;
  return rows.map(({ id }) => id);
}

const json = (value: unknown): string | null => (value === null ? null : JSON.stringify(value));

export async function insertBatches(sql: Sql, rows: readonly BatchRow[], at: Date): Promise<void> {
  await sql`
    insert into batches (id, account_id, subscription_id, template_id, content, package, ext, recipients, day, send_at, created_at)
    select id, account_id, subscription_id, template_id, content, package::jsonb, ext, recipients, day, send_at, ${at}
    from unnest(${rows.map((r) => r.id)}::bigint[], ${rows.map((r) => r.accountId)}::bigint[],
                ${rows.map((r) => r.subscriptionId)}::bigint[], ${rows.map((r) => r.templateId)}::bigint[],
                ${rows.map((r) => r.content)}::text[], ${rows.map((r) => json(r.package))}::text[], ${rows.map((r) => r.ext)}::text[],
                ${rows.map((r) => r.recipients)}::int[], ${rows.map((r) => r.day)}::date[], ${rows.map((r) => r.sendAt)}::timestamptz[])
      as t(id, account_id, subscription_id, template_id, content, package, ext, recipients, day, send_at)`;
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

/** Marks a planned batch as cancelled; false if it was before. */
export async function markCancelled(sql: Sql, accountId: bigint, batchId: bigint, at: Date): Promise<boolean> {
  const rows = await sql`
    update batches set cancelled_at = ${at} where account_id = ${accountId} and id = ${batchId} and cancelled_at is null returning 1`;
  return rows.length > 0;
}

/** What the dispatcher needs of a chunk: its recipients, and the text and number they get. */
export interface DispatchBody {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly day: string;
  readonly segments: number;
  readonly priceE4: bigint;
  readonly phones: readonly bigint[];
  readonly forms: readonly (string | null)[] | null;
  readonly content: string;
  readonly package: StoredPackage | null;
  readonly ext: string;
}

export async function dispatchBodies(sql: Sql, accountId: bigint, chunkIds: readonly bigint[]): Promise<DispatchBody[]> {
  return sql<DispatchBody[]>`
    select c.id, c.account_id as "accountId", c.subscription_id as "subscriptionId", c.day, c.segments::int, c.price_e4 as "priceE4",
           c.phones, c.forms, b.content, b.package, b.ext
    from chunks c join batches b on b.id = c.id / 64 and b.account_id = ${accountId}
    where c.account_id = ${accountId} and c.id = any(${chunkIds}::bigint[])`;
}

// ── what waits for a person ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** A chunk that waits for a person, with what its messages need to be put in line. */
export type ReviewChunk = Pick<ChunkBody, 'id' | 'phones' | 'forms' | 'parameters' | 'segments' | 'priceE4'> & Pick<BatchRow, 'sendAt'>;

/** The chunks of a batch that were held for review, in their order. */
export async function reviewChunks(sql: Sql, accountId: bigint, batchId: bigint): Promise<ReviewChunk[]> {
  return sql<ReviewChunk[]>`
    select c.id, c.phones, c.forms, c.parameters, c.segments::int, c.price_e4 as "priceE4", b.send_at as "sendAt"
    from chunks c join batches b on b.account_id = ${accountId} and b.id = ${batchId}
    where c.account_id = ${accountId} and c.id between ${batchId * 64n} and ${batchId * 64n + 63n} and c.review
    order by c.id`;
}

/** The highest chunk number that a batch has used. */
export async function lastChunkNumber(sql: Sql, accountId: bigint, batchId: bigint): Promise<number> {
  const [row] = await sql<{ last: bigint | null }[]>`
    select max(id) as last from chunks where account_id = ${accountId} and id between ${batchId * 64n} and ${batchId * 64n + 63n}`;
  return Number((row?.last ?? batchId * 64n) % 64n);
}

/** Removes chunks whose recipients go on in others; none of them may have a message row. */
export async function removeChunks(sql: Sql, accountId: bigint, ids: readonly bigint[]): Promise<void> {
  await sql`delete from chunks where account_id = ${accountId} and id = any(${ids}::bigint[])`;
}

// ── request ids ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Reservation extends RequestKey {
  readonly subject: RequestSubject;
}

/** Reserves a request id, in the transaction that does what it is for; false if it belongs to a request of the last two hours. */
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

/** What this request id already stands for, or null. Refuses where a repeat is not welcome, or differs from the first. */
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

/** Forgets request ids whose window is over. */
export async function purgeRequestIds(sql: Sql, at: Date): Promise<void> {
  await sql`delete from request_ids where at <= ${new Date(at.getTime() - requestWindowMs)}`;
}

/** The first answer again, from what was stored. */
export async function rebuildReceipt(sql: Sql, accountId: bigint, batchId: bigint): Promise<Receipt> {
  const rows = await sql<{ phones: bigint[]; forms: (string | null)[] | null; codes: string[] }[]>`
    select phones, forms, codes from chunks
    where account_id = ${accountId} and id between ${batchId * 64n} and ${batchId * 64n + 63n} and intercepted order by id`;
  const intercepted = rows.flatMap(({ phones, forms, codes }) =>
    phones.map((phone, index) => ({ written: forms?.[index] ?? usualForm(phone), code: codes[index] ?? '' })),
  );
  return { batchId, intercepted };
}

/** Which of these batches exist: the answer after a commit whose outcome was lost with the connection. */
export async function existing(sql: Sql, accountId: bigint, batchIds: readonly bigint[]): Promise<ReadonlySet<bigint>> {
  const rows = await sql<{ id: bigint }[]>`
    select id from batches where account_id = ${accountId} and id = any(${batchIds}::bigint[])`;
  return new Set(rows.map(({ id }) => id));
}
