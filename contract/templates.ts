/** Templates of smart SMS and of multimedia messages, and the decisions on them. */
import { Type } from 'typebox';
import { configId, name, named, nullable, optional, page, strict, time, whose } from './bricks.ts';
import { cardSchema } from './cards.ts';
import { frames, sha256 } from './frames.ts';

const templateState = Type.Enum(['pending', 'approved', 'rejected', 'withdrawn']);
export const templateSchema = named('Template', {
  id: configId,
  accountId: configId,
  medium: Type.Enum(['aim', 'mms']),
  name: Type.String({ description: 'For mms: the title, so that people recognise it.' }),
  card: nullable(cardSchema),
  frames: nullable(frames),
  purpose: nullable(Type.String()),
  signature: nullable(Type.String()),
  parameters: Type.Array(Type.String(), { description: 'In the order of the values in a submission.' }),
  state: templateState,
  reason: nullable(Type.String({ description: 'Why it was rejected.' })),
  validUntil: nullable(time),
  linkDays: Type.Integer(),
  createdAt: time,
  decidedAt: nullable(time),
});
export const newTemplate = strict({
  name,
  card: cardSchema,
  ...optional({ ...whose, validUntil: time, linkDays: Type.Integer({ minimum: 1, maximum: 365, description: '30 if left out.' }) }),
});
export const templateQuery = strict({
  ...whose,
  ...page,
  state: Type.Optional(templateState),
  medium: Type.Optional(Type.Enum(['aim', 'mms'])),
});
export const rejection = strict({ reason: Type.String({ minLength: 1, maxLength: 500 }) });
export const mediaParams = Type.Object({ id: configId, sha256: sha256 });
