/**
 * From judged recipients to chunks: each recipient goes to a channel that may carry it, waits for a person, or has already ended. Makes
 * rows and prices, and writes only through the modules that own the tables. Both acceptance of a submission and release from review use
 * this module.
 */
import type { Sql } from '../../db/db.ts';
import { groupBy } from '../../std/group.ts';
import { shanghaiDay } from '../../std/shanghai.ts';
import { type ChunkBody, insertChunks } from '../queue/batches.ts';
import type { Directory, Tenancy } from '../config/directory.ts';
import { type Outcome, record } from '../outcome/messages.ts';
import { chunkCapacity, chunkIdOf, chunksPerBatch, messageIdOf } from '../model/ids.ts';
import { Refusal } from '../model/refusals.ts';
import { messageStatus } from '../model/statuses.ts';
import type { Phone } from '../numbers/number-plan.ts';
import { usualForm } from '../model/numbers.ts';
import { enqueue, type QueueRow } from '../queue/queue.ts';
import { byDestination, pick, type Route, route } from '../queue/routing.ts';
import type { Verdict } from '../screening/rules.ts';

/** Recipients of one batch in columns, with their verdicts. */
export interface Judged {
  readonly phones: readonly (Phone | null)[];
  /** As the customer wrote them. */
  readonly written: readonly string[];
  readonly values: readonly (readonly string[])[];
  readonly verdicts: readonly (Verdict | null)[];
}

/** The price of a message. */
export interface Price {
  readonly segments: number;
  readonly priceE4: bigint;
}

/** Becomes one chunk: recipients of one price and one channel, or of no channel because they wait for a person or have ended. */
export interface Slice extends Price {
  readonly kind: 'send' | 'review' | 'ended';
  /** Null unless the slice is sent. */
  readonly channelId: bigint | null;
  readonly indexes: readonly number[];
}

const free: Price = { segments: 0, priceE4: 0n };

/**
 * Cuts recipients into slices, which become chunks. `priceOf` must return equal prices as the same object. Intercepted recipients are free;
 * but if they were `held` before (in review), they keep their price, which is given back when they end.
 */
export function slicesOf(
  directory: Directory,
  { product }: Tenancy,
  { phones, verdicts }: Judged,
  priceOf: (index: number) => Price,
  { held = false }: { held?: boolean } = {},
): Slice[] {
  const slices: Slice[] = [];
  const indexes = [...phones.keys()];
  const ended = indexes.filter((index) => verdicts[index]?.review === false);
  for (const [price, own] of groupBy(ended, (index) => (held ? priceOf(index) : free)))
    for (const part of cut(own)) slices.push({ kind: 'ended', channelId: null, ...price, indexes: part });
  const waiting = indexes.filter((index) => verdicts[index]?.review);
  for (const [price, own] of groupBy(waiting, priceOf))
    for (const part of cut(own)) slices.push({ kind: 'review', channelId: null, ...price, indexes: part });
  const passing = indexes.filter((index) => !verdicts[index]);
  for (const [price, own] of groupBy(passing, priceOf)) {
    if (own.some((index) => !phones[index])) throw new Error('screening let a number pass that is none');
    const routed = byDestination(phones, own).map(({ destination, indexes }) => ({
      found: route(directory, product, destination),
      indexes,
    }));
    // Destinations with the same channels, first choice and alternatives, share chunks: a chunk moves to another channel as a whole.
    for (const alike of groupBy(routed, ({ found }) => channelsOf(found)).values()) {
      const found = alike[0]?.found;
      // A channel may have become unhealthy since the number was screened: then the number waits there, or is moved.
      if (!found || !('serving' in found)) throw new Error('screening let a number pass that no channel serves');
      for (const part of cut(alike.flatMap(({ indexes }) => indexes).sort((a, b) => a - b)))
        slices.push({ kind: 'send', channelId: pick(found.candidates, Math.random()).id, ...price, indexes: part });
    }
  }
  return slices;
}

const channelsOf = (found: Route): string =>
  'serving' in found ? `${found.candidates.map(({ channel }) => channel.id).join()}/${found.serving.join()}` : '';

function cut(indexes: readonly number[]): number[][] {
  const parts: number[][] = [];
  for (let from = 0; from < indexes.length; from += chunkCapacity) parts.push(indexes.slice(from, from + chunkCapacity));
  return parts;
}

/** The amount to hold for these slices. */
export const priceOfSlices = (slices: readonly Slice[]): bigint =>
  slices.reduce((sum, { priceE4, indexes }) => sum + priceE4 * BigInt(indexes.length), 0n);

/** The batch of the chunks, and when they are to be sent. */
export interface Placing {
  readonly batchId: bigint;
  readonly tenancy: Tenancy;
  readonly sendAt: Date | null;
  /** The first chunk's number. */
  readonly firstNumber: number;
  /** After a review decision: recipients that end now were held until now, and were not part of the first answer. */
  readonly afterReview: boolean;
}

/** Rows of one batch, ready to be stored. */
export interface Placed {
  readonly chunks: readonly ChunkBody[];
  readonly queue: readonly QueueRow[];
  /** Messages that screening ended. */
  readonly ended: readonly Outcome[];
}

/** The rows of slices. Refuses a batch that would need too many chunks. */
export function rowsOf(
  { batchId, tenancy, sendAt, firstNumber, afterReview }: Placing,
  judged: Judged,
  slices: readonly Slice[],
  at: Date,
): Placed {
  const { phones, written, values, verdicts } = judged;
  if (firstNumber + slices.length > chunksPerBatch) throw new Refusal('invalid', `这些号码分属的线路过多(${slices.length}),请分批提交`);
  const accountId = tenancy.account.id;
  const subscriptionId = tenancy.subscription.id;
  const phoneOf = (index: number): bigint => phones[index]?.e164 ?? 0n;
  /** As written, if that differs from the usual form. */
  const formOf = (index: number): string | null => {
    const phone = phones[index];
    const form = written[index] ?? '';
    return phone && usualForm(phone.e164) === form ? null : form;
  };
  const chunks: ChunkBody[] = [];
  const queue: QueueRow[] = [];
  const ended: Outcome[] = [];
  slices.forEach(({ kind, channelId, segments, priceE4, indexes }, ordinal) => {
    const id = chunkIdOf(batchId, firstNumber + ordinal);
    // The day of sending; ended messages get today.
    const day = shanghaiDay(kind === 'ended' || sendAt === null || sendAt < at ? at : sendAt);
    const common = { accountId, subscriptionId, day, segments, priceE4 };
    const forms = indexes.map(formOf);
    const parameters = indexes.map((index) => values[index] ?? []);
    const judgements = kind === 'send' ? null : indexes.map((index) => verdicts[index]);
    chunks.push({
      id,
      ...common,
      intercepted: kind === 'ended' && !afterReview,
      review: kind === 'review',
      phones: indexes.map(phoneOf),
      forms: forms.some((form) => form !== null) ? forms : null,
      parameters: parameters.some(({ length }) => length > 0) ? parameters : null,
      codes: judgements?.map((verdict) => verdict?.code ?? '') ?? null,
      verdicts: judgements?.map((verdict) => ({ rule: verdict?.rule, ...verdict?.entry })) ?? null,
    });
    if (channelId !== null) queue.push({ channelId, chunkId: id, day, n: indexes.length });
    if (kind !== 'ended') return;
    indexes.forEach((index, position) =>
      ended.push({
        id: messageIdOf(id, position),
        common,
        phone: phoneOf(index),
        form: forms[position] ?? null,
        channelId: null,
        carrierId: null,
        status: messageStatus.intercepted,
        code: verdicts[index]?.code ?? '',
        paid: false,
        parts: [],
      }),
    );
  });
  return { chunks, queue, ended };
}

/** Stores and queues chunks of batches of one subscription, and ends the intercepted messages. In the caller's transaction. */
export async function place(
  sql: Sql,
  directory: Directory,
  { account, subscription, product }: Tenancy,
  rows: readonly Placed[],
  sendAt: Date | null,
  at: Date,
): Promise<void> {
  const readyAt = sendAt && sendAt > at ? sendAt : at;
  await Promise.all([
    insertChunks(
      sql,
      rows.flatMap(({ chunks }) => chunks),
    ),
    record(
      sql,
      directory,
      rows.flatMap(({ ended }) => ended),
      at,
      false,
    ),
    enqueue(
      sql,
      {
        accountId: account.id,
        subscriptionId: subscription.id,
        class: subscription.class,
        readyAt,
        expiresAt: new Date(readyAt.getTime() + product.ttlHours * 3600_000),
        planned: readyAt > at,
      },
      rows.flatMap(({ queue }) => queue),
    ),
  ]);
}
