/** What screening would make of a submission. */
import { Type } from 'typebox';
import { configId, named, nullable, optional, phone, place, strict, time } from './bricks.ts';

export const wouldBe = strict({
  subscriptionId: configId,
  numbers: Type.Array(phone, { minItems: 1, maxItems: 10_000 }),
  content: Type.String({ maxLength: 40_000, description: 'As it would be sent, signature included; of a multimedia message its texts.' }),
  ...optional({ title: Type.String({ maxLength: 200 }), sendAt: time }),
});
const previewVerdict = { rule: Type.Integer(), code: Type.String(), verdict: Type.Enum(['intercept', 'review']) };
export const previewSchema = named('ScreeningPreview', {
  rules: Type.Array(Type.Object({ ...previewVerdict, entry: Type.Unknown(), recipients: Type.Integer() }), {
    description: 'What each rule says by itself, in their order; a rule with nothing to say is left out.',
  }),
  recipients: Type.Array(
    Type.Object({
      number: Type.String(),
      rule: nullable(Type.Integer()),
      code: nullable(Type.String()),
      verdict: Type.Enum(['pass', 'intercept', 'review']),
      ...place,
    }),
    { description: 'What the first rule that fires makes of each number, without repeats.' },
  ),
  segments: Type.Integer(),
  price: Type.String({ description: 'What would be held, in the unit of the product.' }),
});
