/** Products: what an account can subscribe to, with the rules for sending. */
import { Type } from 'typebox';
import { configId, medium, name, named, nullable, optional, sendingWindow, strict, time } from './bricks.ts';

const productSettings = {
  poolId: nullable(configId),
  signatureRequired: Type.Boolean(),
  strictSignatures: Type.Boolean({ description: 'A signature must also be registered with the carrier of the number.' }),
  templatesOnly: Type.Boolean({ description: 'Only texts that a content template lets pass are sent.' }),
  sendingWindow,
  chargeOn: Type.Enum(['delivered', 'accepted'], { description: 'delivered: any other final status releases the hold.' }),
  inDoubt: Type.Enum(['resend', 'give_up'], { description: 'What to do with a message that may or may not have been sent.' }),
  ttlHours: Type.Integer({ minimum: 1, maximum: 72 }),
  limits: strict(
    optional({
      packageKiB: Type.Integer({ minimum: 1, maximum: 2048, description: 'Limit of the texts and media of an MMS; 1,900 if left out.' }),
      frames: Type.Integer({ minimum: 1, maximum: 60, description: '15 if left out.' }),
      textCharacters: Type.Integer({ minimum: 1, maximum: 10_000, description: 'Limit of the text of one frame; 2,000 if left out.' }),
    }),
  ),
};
export const productSchema = named('Product', { id: configId, name: Type.String(), ...medium, ...productSettings, createdAt: time });
export const newProduct = strict({ name, ...medium, ...optional(productSettings) });
export const productChange = strict(optional({ name, ...productSettings }));
