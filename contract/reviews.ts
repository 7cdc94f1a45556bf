/** Batches that wait for a person's decision. */
import { Type } from 'typebox';
import { configId, money, named, nullable, page, strict, time, whose } from './bricks.ts';

const reviewState = Type.Enum(['pending', 'approved', 'rejected', 'expired', 'cancelled']);
export const reviewSchema = named('ReviewItem', {
  id: Type.String({ pattern: '^[0-9]{1,14}$', description: 'The id of the batch.' }),
  accountId: configId,
  subscriptionId: configId,
  templateId: nullable(configId),
  content: Type.String(),
  code: Type.String({ description: 'The final code of the messages if the batch is rejected.' }),
  rule: Type.Integer(),
  entry: Type.Unknown({ description: 'The entry of the rule that fired.' }),
  recipients: Type.Integer({ description: 'How many messages wait.' }),
  held: money,
  state: reviewState,
  reason: nullable(Type.String()),
  decidedBy: nullable(Type.String()),
  createdAt: time,
  expiresAt: time,
  decidedAt: nullable(time),
});
export const reviewQuery = strict({ ...whose, ...page, state: Type.Optional(reviewState) });
