/** Batches that wait for the decision of a person. */
import { Type } from 'typebox';
import { configId, money, named, nullable, page, strict, time, whose } from './bricks.ts';

const reviewState = Type.Enum(['pending', 'approved', 'rejected', 'expired', 'cancelled']);
export const reviewSchema = named('ReviewItem', {
  id: Type.String({ pattern: '^[0-9]{1,14}$', description: 'The batch’s.' }),
  accountId: configId,
  subscriptionId: configId,
  templateId: nullable(configId),
  content: Type.String(),
  code: Type.String({ description: 'What the messages end with if it is rejected.' }),
  rule: Type.Integer(),
  entry: Type.Unknown({ description: 'Which entry of the rule fired.' }),
  recipients: Type.Integer({ description: 'Messages that wait.' }),
  held: money,
  state: reviewState,
  reason: nullable(Type.String()),
  decidedBy: nullable(Type.String()),
  createdAt: time,
  expiresAt: time,
  decidedAt: nullable(time),
});
export const reviewQuery = strict({ ...whose, ...page, state: Type.Optional(reviewState) });
