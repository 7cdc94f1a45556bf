/** Batches: what customers submitted. */
import { Type } from 'typebox';
import { batchId, configId, days, money, named, nullable, ofSubscription, page, strict, time, whose } from './bricks.ts';
import { frames, sha256 } from './frames.ts';

export const batchSchema = named('Batch', {
  id: batchId,
  accountId: configId,
  subscriptionId: configId,
  templateId: nullable(configId),
  content: Type.String(),
  ext: Type.String(),
  package: nullable(Type.Object({ subject: Type.String(), frames })),
  recipients: Type.Integer({ description: 'Distinct numbers, intercepted ones included.' }),
  createdAt: time,
  sendAt: nullable(Type.String({ format: 'date-time', description: 'The planned time; null: sent at once.' })),
  cancelledAt: nullable(time),
  purgedAt: nullable(
    Type.String({
      format: 'date-time',
      description: 'When its content and recipients were deleted at the end of retention; its totals stay.',
    }),
  ),
});
const count = Type.Integer();
export const batchDetailSchema = named('BatchDetail', {
  ...batchSchema.properties,
  totals: Type.Object({
    queued: count,
    in_review: count,
    sent: count,
    delivered: count,
    undelivered: count,
    rejected: count,
    expired: count,
    unknown: count,
    intercepted: count,
    cancelled: count,
  }),
  cost: money,
});
export const batchQuery = strict({ ...whose, ...ofSubscription, ...days, ...page });
export const batchMediaParams = Type.Object({ id: batchId, sha256: sha256 });
