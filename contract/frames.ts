/** The frames of a multimedia message. */
import { Type } from 'typebox';
import { nullable } from './bricks.ts';

const mediaReference = Type.Object({
  sha256: Type.String(),
  type: Type.String({ examples: ['image/jpeg'] }),
  extension: Type.String(),
  size: Type.Integer({ description: 'Bytes.' }),
});
export const frames = Type.Array(
  Type.Object({
    text: nullable(Type.String()),
    media: nullable(mediaReference),
    mediaFirst: Type.Boolean({ description: 'The medium is shown above the text.' }),
  }),
);
export const sha256 = Type.String({ pattern: '^[0-9a-f]{64}$' });
