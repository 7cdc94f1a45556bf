/** Pushes of events to customers. */
import { Type } from 'typebox';
import { named, nullable, ofSubscription, page, recordId, strict, time, whose } from './bricks.ts';
import { eventKind } from './events.ts';

const pushState = Type.Enum(['done', 'failed']);
export const pushSchema = named('Push', {
  id: recordId,
  subscriptionId: nullable(Type.Integer({ description: 'Null: pushed to a URL of the account.' })),
  kind: eventKind,
  url: Type.String(),
  events: Type.Integer({ description: 'How many events it carried.' }),
  eventId: nullable(Type.String({ description: 'The event, if the push carried only one.' })),
  state: pushState,
  startedAt: time,
  finishedAt: nullable(time),
  httpStatus: nullable(Type.Integer()),
  answer: nullable(Type.String()),
});
export const pushQuery = strict({
  ...whose,
  ...ofSubscription,
  ...page,
  kind: Type.Optional(eventKind),
  state: Type.Optional(pushState),
  eventId: Type.Optional(recordId),
});
