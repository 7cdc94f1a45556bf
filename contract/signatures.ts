/** Signatures, 【…】, and how far each carrier is with registering them. */
import { type Static, type TSchema, Type } from 'typebox';
import { configId, named, nullable, optional, strict, time } from './bricks.ts';

const registration = Type.Enum(['pending', 'registered', 'rejected']);
const registrations = <Value extends TSchema>(value: Value) =>
  strict(optional({ mobile: value, unicom: value, telecom: value, broadcast: value, international: value }));
export const signatureSchema = named('Signature', {
  id: configId,
  accountId: configId,
  name: Type.String(),
  registrations: Type.Unsafe<Readonly<Partial<Record<string, Static<typeof registration>>>>>({
    ...registrations(registration),
    description: 'The state of the registration with each carrier; a carrier that is not named has not been asked.',
  }),
  createdAt: time,
});
export const newSignature = strict({
  accountId: configId,
  name: Type.String({ minLength: 2, maxLength: 24 }),
  registrations: Type.Optional(registrations(registration)),
});
export const signatureChange = strict({ registrations: registrations(nullable(registration)) });
