/** Frequency caps: how many messages one number may get. */
import { Type } from 'typebox';
import { configId, named, optional, page, strict, time } from './bricks.ts';

const capScope = Type.Enum(['subscription', 'product', 'signature']);
const capSettings = {
  period: Type.Enum(['minute', 'hour', 'day', '24h'], {
    description: 'minute, hour and day: by the clock and calendar in Asia/Shanghai; 24h: any 24 hours, to the hour.',
  }),
  count: Type.Integer({ minimum: 1, maximum: 100, description: 'How many messages of the subject one number may get within the period.' }),
};
export const capSchema = named('Cap', { id: configId, scope: capScope, subjectId: configId, ...capSettings, createdAt: time });
export const newCap = strict({ scope: capScope, subjectId: configId, ...capSettings });
export const capChange = strict(optional(capSettings));
export const capQuery = strict({ ...optional({ scope: capScope, subjectId: configId }), ...page });
