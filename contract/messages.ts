/** Messages: what became of a batch for each of its numbers. */
import { Type } from 'typebox';
import { batchId, configId, day, days, money, named, nullable, page, phone, recordId, strict, time, whose } from './bricks.ts';

const statusNames = [
  'queued',
  'in_review',
  'sent',
  'delivered',
  'undelivered',
  'rejected',
  'expired',
  'unknown',
  'intercepted',
  'cancelled',
] as const;
const messageProperties = {
  id: recordId,
  batchId,
  accountId: configId,
  subscriptionId: configId,
  day,
  phone: Type.String({ description: 'As the customer wrote it.' }),
  status: Type.Enum([...statusNames]),
  code: nullable(Type.String({ description: 'The final code, as reports have it.' })),
  channelId: nullable(configId),
  segments: Type.Integer(),
  price: money,
  cost: nullable(money),
  sentAt: nullable(time),
  finalAt: nullable(time),
};
export const messageSchema = named('Message', messageProperties);
export const messageDetailSchema = named('MessageDetail', {
  ...messageProperties,
  carrierId: nullable(Type.String()),
  parts: Type.Array(
    Type.Object({ number: Type.Integer(), channelId: configId, carrierId: nullable(Type.String()), code: nullable(Type.String()) }),
    { description: 'The segments of a message of several.' },
  ),
  verdict: Type.Unknown({
    description: 'Which rule of screening fired, and which entry of it; null unless intercepted or held for review.',
  }),
  timeline: Type.Array(Type.Object({ at: time, what: Type.String(), detail: Type.String() })),
});
export const messageQuery = strict({ ...whose, phone, ...days, ...page });
