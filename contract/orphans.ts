/** Reports of carriers that match no message. */
import { Type } from 'typebox';
import { configId, named, time } from './bricks.ts';

export const orphanSchema = named('OrphanReport', {
  channelId: configId,
  carrierId: Type.String(),
  code: Type.String(),
  phone: Type.String(),
  receivedAt: time,
  nextTryAt: time,
});
