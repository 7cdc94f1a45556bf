/**
 * What was accepted and never changes: batches, their chunks' bodies, and the request ids that make a repeat harmless. The only
 * writer of `batches`, `chunks` and `request_ids`.
 */
import type { Sql } from '../db/db.ts';
import type { Receipt } from './model.ts';
import { Refusal } from './model.ts';
import { usualForm } from './numbers.ts';

/** How long a request id is remembered. */
const requestWindowMs = 2 * 3600_000;

export interface BatchRow {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly templateId: bigint;
  readonly content: string;
  readonly ext: string;
  readonly recipients: number;
  readonly day: string;
}

/** A chunk's body, as it is stored. */
export interface ChunkBody {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly day: string;
  readonly intercepted: boolean;
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

export async function insertBatches(sql: Sql, rows: readonly BatchRow[], at: Date): Promise<void> {
  await sql`
    insert into batches (id, account_id, subscription_id, template_id, content, ext, recipients, day, created_at)
    select t.*, ${at}
    from unnest(${rows.map((r) => r.id)}::bigint[], ${rows.map((r) => r.accountId)}::bigint[],
                ${rows.map((r) => r.subscriptionId)}::bigint[], ${rows.map((r) => r.templateId)}::bigint[],
                ${rows.map((r) => r.content)}::text[], ${rows.map((r) => r.ext)}::text[], ${rows.map((r) => r.recipients)}::int[],
                ${rows.map((r) => r.day)}::date[]) as t`;
}

const json = (value: unknown): string | null => (value === null ? null : JSON.stringify(value));

export async function insertChunks(sql: Sql, rows: readonly ChunkBody[]): Promise<void> {
  await sql`
    insert into chunks (id, account_id, subscription_id, day, intercepted, segments, price_e4, phones, forms, parameters, codes, verdicts)
    select id, account_id, subscription_id, day, intercepted, segments, price_e4,
           phones::bigint[], forms::jsonb, parameters::jsonb, codes::jsonb, verdicts::jsonb
    from unnest(${rows.map((r) => r.id)}::bigint[], ${rows.map((r) => r.accountId)}::bigint[],
                ${rows.map((r) => r.subscriptionId)}::bigint[], ${rows.map((r) => r.day)}::date[],
                ${rows.map((r) => r.intercepted)}::boolean[], ${rows.map((r) => r.segments)}::smallint[],
                ${rows.map((r) => r.priceE4)}::bigint[], ${rows.map((r) => `{${r.phones.join(',')}}`)}::text[],
                ${rows.map((r) => json(r.forms))}::text[], ${rows.map((r) => json(r.parameters))}::text[],
                ${rows.map((r) => json(r.codes))}::text[], ${rows.map((r) => json(r.verdicts))}::text[])
      as t(id, account_id, subscription_id, day, intercepted, segments, price_e4, phones, forms, parameters, codes, verdicts)`;
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
  readonly ext: string;
}

export async function dispatchBodies(sql: Sql, accountId: bigint, chunkIds: readonly bigint[]): Promise<DispatchBody[]> {
  return sql<DispatchBody[]>`
    select c.id, c.account_id as "accountId", c.subscription_id as "subscriptionId", c.day, c.segments::int, c.price_e4 as "priceE4",
           c.phones, c.forms, b.content, b.ext
    from chunks c join batches b on b.id = c.id / 64 and b.account_id = ${accountId}
    where c.account_id = ${accountId} and c.id = any(${chunkIds}::bigint[])`;
}

// ── request ids ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface RequestId {
  readonly key: string;
  readonly digest: string;
}

/** Reserves request ids for these batches; returns the keys that were free. The others belong to a request of the last two hours. */
export async function reserveRequestIds(
  sql: Sql,
  accountId: bigint,
  rows: readonly (RequestId & { batchId: bigint })[],
  at: Date,
): Promise<ReadonlySet<string>> {
  const sorted = [...rows].sort((a, b) => (a.key < b.key ? -1 : 1));
  const free = await sql<{ key: string }[]>`
    insert into request_ids as r (account_id, key, digest, batch_id, at)
    select ${accountId}, t.key, t.digest, t.batch_id, ${at}
    from unnest(${sorted.map((r) => r.key)}::text[], ${sorted.map((r) => r.digest)}::text[], ${sorted.map((r) => r.batchId)}::bigint[])
      as t(key, digest, batch_id)
    on conflict (account_id, key) do update set digest = excluded.digest, batch_id = excluded.batch_id, at = excluded.at
      where r.at <= ${new Date(at.getTime() - requestWindowMs)}
    returning key`;
  return new Set(free.map(({ key }) => key));
}

/** The batch that this request id already stands for, or null. Refuses if it was used for other parameters. */
export async function findRequestId(sql: Sql, accountId: bigint, { key, digest }: RequestId, at: Date): Promise<bigint | null> {
  const [row] = await sql<{ digest: string; batchId: bigint }[]>`
    select digest, batch_id as "batchId" from request_ids
    where account_id = ${accountId} and key = ${key} and at > ${new Date(at.getTime() - requestWindowMs)}`;
  if (!row) return null;
  if (row.digest !== digest) throw new Refusal('invalid', 'Idempotency-Key 已用于另一个参数不同的请求');
  return row.batchId;
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
