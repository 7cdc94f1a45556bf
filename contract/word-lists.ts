/** Lists of sensitive words. */
import { Type } from 'typebox';
import { configId, name, named, optional, page, strict, time } from './bricks.ts';

const wordVerdict = Type.Enum(['intercept', 'review']);
export const wordListSchema = named('WordList', {
  id: configId,
  name: Type.String(),
  verdict: wordVerdict,
  enabled: Type.Boolean(),
  words: Type.Integer({ description: 'How many words are on the list.' }),
  createdAt: time,
});
export const newWordList = strict({ name, verdict: wordVerdict, ...optional({ enabled: Type.Boolean() }) });
export const wordListChange = strict(optional({ name, verdict: wordVerdict, enabled: Type.Boolean() }));
export const wordSchema = named('Word', {
  word: Type.String({ description: 'As it was written.' }),
  folded: Type.String({ description: 'The form that is searched for: without width, case, spaces and punctuation.' }),
});
export const wordQuery = strict({
  ...page,
  search: Type.Optional(Type.String({ minLength: 1, maxLength: 100, description: 'A part of the word.' })),
});
export const newWords = strict({ words: Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { minItems: 1, maxItems: 10_000 }) });
export const wordLines = Type.String({ description: 'One word per line; empty lines are skipped.' });
