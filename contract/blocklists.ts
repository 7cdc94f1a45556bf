/** Blocklists and the numbers on them. */
import { Type } from 'typebox';
import { configId, file, named, nullable, optional, page, phone, strict, time } from './bricks.ts';

export const blocklistKind = Type.Enum(['empty', 'system', 'product', 'subscription', 'signature']);
export const blocklistSchema = named('Blocklist', {
  id: configId,
  kind: blocklistKind,
  subjectId: nullable(Type.Integer({ description: 'The product, subscription or signature.' })),
  accountId: nullable(configId),
});
export const newBlocklist = strict({ kind: blocklistKind, subjectId: Type.Optional(configId) });
export const blockedNumberSchema = named('BlockedNumber', { phone: Type.String(), source: Type.String(), addedAt: time });
export const blockedNumberQuery = strict({ ...page, phone: Type.Optional(phone) });
export const blockedNumbers = strict({ numbers: Type.Array(phone, { minItems: 1, maxItems: 10_000 }) });
export const addedSchema = named('Added', { added: Type.Integer({ description: 'How many were not on the list before.' }) });
export const removedSchema = named('Removed', { removed: Type.Integer({ description: 'How many were on the list.' }) });
export const numberLines = file('One number per line, in any usual form; a first line `number` and empty lines are skipped.');
export const numberImportQuery = strict(
  optional({
    invalid: Type.Enum(['refuse', 'skip'], { description: 'refuse (the default): a line that is not a number refuses the whole file.' }),
  }),
);
export const numberImportSchema = named('NumberImport', {
  rows: Type.Integer({ description: 'Lines that are numbers.' }),
  added: Type.Integer(),
  present: Type.Integer({ description: 'Lines whose number was on the list already, or earlier in the file.' }),
  skipped: Type.Integer({ description: 'Lines that are not numbers, with invalid=skip.' }),
  problems: Type.Array(Type.String(), { description: 'What is wrong with the first skipped lines.' }),
});
