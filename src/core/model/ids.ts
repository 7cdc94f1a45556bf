/**
 * Arithmetic on ids: message id = chunk id × 512 + index, chunk id = batch id × 64 + number. Each is computed from the other without a
 * look-up.
 *
 * Only this file knows the factors. The fragments for SQL have the factors written out, not passed as parameters, so that equal expressions
 * stay equal (`group by`) and an index can serve a range. An id that is passed to a fragment is a value, a column, or an expression in brackets.
 */
import type { Fragment, Sql } from '../../db/db.ts';

/** Recipients of a chunk at most; not all indexes are used. */
export const chunkCapacity = 500;
/** Chunk numbers of a batch. */
export const chunksPerBatch = 64;

export const chunkIdOf = (batchId: bigint, number: number): bigint => batchId * 64n + BigInt(number);
export const chunkNumberOf = (chunkId: bigint): number => Number(chunkId % 64n);
export const messageIdOf = (chunkId: bigint, index: number): bigint => chunkId * 512n + BigInt(index);
export const chunkOfMessage = (messageId: bigint): bigint => messageId / 512n;
export const indexOf = (messageId: bigint): number => Number(messageId % 512n);
export const batchIdOf = (messageId: bigint): bigint => messageId / 32768n;
/** The message with this index in its batch, as parcels and handovers store it. */
export const messageIdInBatch = (batchId: bigint, index: number): bigint => batchId * 32768n + BigInt(index);
/** The lowest and the highest message id that a batch can have. */
export const messageRangeOf = (batchId: bigint): readonly [bigint, bigint] => [batchId * 32768n, batchId * 32768n + 32767n];

// ── in SQL ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

type Id = bigint | Fragment;

/** The batch id of a message id. */
export const batchOf = (sql: Sql, messageId: Fragment) => sql`(${messageId} / 32768)`;
/** The chunk id of a message id. */
export const chunkOf = (sql: Sql, messageId: Fragment) => sql`(${messageId} / 512)`;
/** The batch id of a chunk id. */
export const batchOfChunk = (sql: Sql, chunkId: Fragment) => sql`(${chunkId} / 64)`;
export const indexInChunk = (sql: Sql, messageId: Fragment) => sql`(${messageId} % 512)`;
/** A smallint, as parcels and handovers store it. */
export const indexInBatch = (sql: Sql, messageId: Fragment) => sql`(${messageId} % 32768)::smallint`;
/** The message id of a chunk id and an index that counts from 0. */
export const messageOf = (sql: Sql, chunkId: Fragment, index: Fragment) => sql`(${chunkId} * 512 + ${index})`;
/** The message id of a batch id and an index in the batch. */
export const messageInBatch = (sql: Sql, batchId: Fragment, index: Fragment) => sql`(${batchId} * 32768 + ${index})`;
/** The lowest message id that the batch of a message can have. */
export const firstOfItsBatch = (sql: Sql, messageId: Fragment) => sql`(${messageId} / 32768 * 32768)`;

/** `between … and …`: the ids that the chunks of a batch can have. */
export const chunksOfBatch = (sql: Sql, batchId: Id) =>
  typeof batchId === 'bigint'
    ? sql`between ${batchId * 64n} and ${batchId * 64n + 63n}`
    : sql`between ${batchId} * 64 and ${batchId} * 64 + 63`;
/** `between … and …`: the ids that the messages of a batch can have. */
export const messagesOfBatch = (sql: Sql, batchId: Id) =>
  typeof batchId === 'bigint'
    ? sql`between ${batchId * 32768n} and ${batchId * 32768n + 32767n}`
    : sql`between ${batchId} * 32768 and ${batchId} * 32768 + 32767`;
/** `between … and …`: the ids that the messages of a chunk can have. */
export const messagesOfChunk = (sql: Sql, chunkId: bigint) => sql`between ${chunkId * 512n} and ${chunkId * 512n + 511n}`;
