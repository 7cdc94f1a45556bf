/** Events: reports, replies and audits for customers, waiting or handed over. */
import { Type } from 'typebox';
import {
  batchId,
  configId,
  days,
  money,
  named,
  nullable,
  ofSubscription,
  optionalPhone,
  page,
  recordId,
  strict,
  time,
  whose,
} from './bricks.ts';

export const eventKind = Type.Enum(['report', 'reply', 'audit']);
const eventState = Type.Enum(['waiting', 'failed', 'kept', 'handed_over'], {
  description:
    'failed: every push that the dialect allows has failed. kept: there was no push URL, and the dialect has no pull. Both stay until a replay.',
});
export const eventSchema = named('Event', {
  id: recordId,
  kind: eventKind,
  batchId: nullable(batchId),
  subscriptionId: nullable(configId),
  state: eventState,
  route: Type.Enum(['pull', 'push'], { description: 'How it is or was handed over.' }),
  pushId: nullable(recordId),
  tries: Type.Integer({ description: 'How many pushes of it have begun since it last began to wait.' }),
  dueAt: nullable(Type.String({ format: 'date-time', description: 'When it is pushed next.' })),
  phone: Type.String(),
  code: nullable(Type.String()),
  cost: nullable(money),
  at: time,
  handedAt: nullable(time),
  replays: Type.Integer(),
});
export const eventQuery = strict({
  ...whose,
  ...ofSubscription,
  ...days,
  ...page,
  ...optionalPhone,
  kind: Type.Optional(Type.Enum(['report', 'reply', 'audit'], { description: 'report if left out.' })),
  state: Type.Optional(eventState),
  batchId: Type.Optional(batchId),
});
export const replayFilter = strict({
  ...whose,
  subscriptionId: Type.Optional(
    Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'All subscriptions of the account if left out.' }),
  ),
  kind: eventKind,
  state: Type.Optional(
    Type.Enum(['any', 'failed'], { description: 'failed: only events that have failed or were kept. any if left out.' }),
  ),
  ...days,
  ...optionalPhone,
  batchId: Type.Optional(batchId),
  ids: Type.Optional(Type.Array(recordId, { minItems: 1, maxItems: 10_000 })),
});
export const replayedSchema = named('Replayed', {
  replayed: Type.Integer({ description: 'How many events wait to be handed over again.' }),
});
