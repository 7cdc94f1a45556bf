/** Replies: messages from people to an access number. */
import { Type } from 'typebox';
import { batchId, configId, named, nullable, ofSubscription, optionalPhone, page, recordId, strict, time, whose } from './bricks.ts';

export const replySchema = named('Reply', {
  id: recordId,
  subscriptionId: nullable(configId),
  channelId: configId,
  phone: Type.String(),
  dest: Type.String({ description: 'The access number to which the person wrote.' }),
  ext: Type.String({ description: 'The extension: `dest` without the channel’s access number.' }),
  content: Type.String(),
  batchId: nullable(batchId),
  optOut: Type.Boolean(),
  receivedAt: time,
});
export const replyQuery = strict({ ...whose, ...ofSubscription, ...optionalPhone, ...page });
