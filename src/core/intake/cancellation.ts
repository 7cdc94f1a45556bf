/**
 * Cancels a planned batch that has not begun: nothing is sent, all its money is given back, and every message ends with an event, so that
 * the customer's books close as for any other batch.
 */
import type { Sql } from '../../db/db.ts';
import { dispatchBodies, markCancelled } from '../queue/batches.ts';
import type { Directory } from '../config/directory.ts';
import { Denial, found } from '../config/management.ts';
import { record } from '../outcome/messages.ts';
import { chunksOfBatch, messageIdOf } from '../model/ids.ts';
import { messageStatus } from '../model/statuses.ts';
import { removePlanned } from '../queue/queue.ts';
import { cancelReview } from './review.ts';

/** The final code of a message whose batch was cancelled. */
const cancelledCode = 'CANCELED';

/** Cancels a planned batch, in the caller's transaction; a repeat changes nothing. Refuses a batch that is partly due or not planned. */
export async function cancelBatch(sql: Sql, directory: Directory, accountId: bigint, batchId: bigint, at: Date): Promise<void> {
  const [batch] = await sql<{ sendAt: Date | null }[]>`
    select send_at as "sendAt" from batches where account_id = ${accountId} and id = ${batchId}`;
  if (found(batch, 'batch').sendAt === null) throw new Denial('conflict', 'only a batch that was planned for later can be cancelled');
  if (!(await markCancelled(sql, accountId, batchId, at))) return;

  const chunks = await sql<{ id: bigint }[]>`
    select id from chunks
    where account_id = ${accountId} and id ${chunksOfBatch(sql, batchId)} and not intercepted`;
  const channels = [...directory.channels()].map(({ id }) => id).sort((a, b) => (a < b ? -1 : 1));
  const removed = await removePlanned(sql, channels, accountId, batchId);
  const waiting = await cancelReview(sql, directory, accountId, batchId, { code: cancelledCode }, at);
  if (chunks.length === 0 || removed.length + waiting.length < chunks.length) throw new Denial('conflict', 'the batch has begun');

  for (const body of await dispatchBodies(sql, accountId, removed)) {
    const outcomes = body.phones.map((phone, index) => ({
      id: messageIdOf(body.id, index),
      common: body,
      phone,
      form: body.forms?.[index] ?? null,
      channelId: null,
      carrierId: null,
      status: messageStatus.cancelled,
      code: cancelledCode,
      paid: false,
      parts: [],
    }));
    await record(sql, directory, outcomes, at, false);
  }
}
