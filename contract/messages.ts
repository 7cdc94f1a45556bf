/** Messages: one for each number of a batch, with its outcome. */
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
  code: nullable(Type.String({ description: 'The final code, as in reports.' })),
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
    { description: 'The segments, if the message has several.' },
  ),
  verdict: Type.Unknown({
    description: 'The rule of screening that fired, and its entry; null unless the message was intercepted or in review.',
  }),
  timeline: Type.Array(Type.Object({ at: time, what: Type.String(), detail: Type.String() })),
});
export const messageQuery = strict({ ...whose, phone, ...days, ...page });
