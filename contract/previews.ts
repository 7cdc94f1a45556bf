/** Previews: the verdict and price that a submission would get. */
import { Type } from 'typebox';
import { configId, named, nullable, optional, phone, place, strict, time } from './bricks.ts';

export const wouldBe = strict({
  subscriptionId: configId,
  numbers: Type.Array(phone, { minItems: 1, maxItems: 10_000 }),
  content: Type.String({
    maxLength: 40_000,
    description: 'The text as it would be sent, with its signature; for a multimedia message, its texts.',
  }),
  ...optional({ title: Type.String({ maxLength: 200 }), sendAt: time }),
});
const previewVerdict = { rule: Type.Integer(), code: Type.String(), verdict: Type.Enum(['intercept', 'review']) };
export const previewSchema = named('ScreeningPreview', {
  rules: Type.Array(Type.Object({ ...previewVerdict, entry: Type.Unknown(), recipients: Type.Integer() }), {
    description: 'The verdict of each rule by itself, in the order of the rules; a rule without a verdict is left out.',
  }),
  recipients: Type.Array(
    Type.Object({
      number: Type.String(),
      rule: nullable(Type.Integer()),
      code: nullable(Type.String()),
      verdict: Type.Enum(['pass', 'intercept', 'review']),
      ...place,
    }),
    { description: 'The result for each distinct number, by the first rule that fires.' },
  ),
  segments: Type.Integer(),
  price: Type.String({ description: 'The money that the batch would hold, in the unit of the product.' }),
});
