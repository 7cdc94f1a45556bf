import fc from 'fast-check';
import { expect, test } from 'vitest';
import { inSlices } from '../../std/slices.ts';
import { buildPhrases } from './phrases.ts';
import { buildSensitiveWords, fold } from './sensitive-words.ts';

const wordsIn = async (words: readonly string[]) => {
  const index = await inSlices(buildSensitiveWords(words.map(fold)));
  return (text: string) => words[index.find(text)] ?? null;
};

test('a word is found however it is dressed up', async () => {
  const find = await wordsIn(['赌博', 'Free Money', 'ΣΊΣΥΦΟΣ', 'Straße', 'ｶﾞｽ', 'བོད']);
  const dressed: Record<string, readonly string[]> = {
    赌博: [
      '来赌博吧',
      '赌 博',
      '赌　博',
      '赌.博',
      '赌-*-博',
      '赌\u200b博',
      '赌\u200d\ufeff博',
      '赌★博',
      '赌😀博',
      '赌\n博',
      '赌\u0336博\u0336',
      '赌\u3164博',
    ],
    'Free Money': ['FREE MONEY', 'freemoney', 'Ｆｒｅｅ　Ｍｏｎｅｙ', 'f.r.e.e m.o.n.e.y', 'ⓕⓡⓔⓔ𝐦𝐨𝐧𝐞𝐲'],
    ΣΊΣΥΦΟΣ: ['σίσυφος', 'σίσυφοσ!'],
    Straße: ['STRASSE', 'straße'],
    ｶﾞｽ: ['ガス'],
    བོད: ['བོད་'],
  };
  for (const [word, texts] of Object.entries(dressed)) for (const text of texts) expect([text, find(text)]).toEqual([text, word]);
  for (const text of ['', '赌', '博赌', '赌x博', '赌1博', 'free mone', 'བད', '!!!']) expect([text, find(text)]).toEqual([text, null]);
});

test('of several words in a text the first of the list is found', async () => {
  const find = await wordsIn(['bcd', 'a', 'abc', 'bcd']);
  expect(find('xabcdx')).toBe('bcd');
  expect(find('abc')).toBe('a');
});

test('folding what is folded changes nothing, and dressing between letters makes no difference', () => {
  const dressing = fc.array(fc.constantFrom(' ', '　', '.', '。', '-', '*', '$', '\u200b', '\ufeff', '\u0301', '★', '😀'), {
    maxLength: 3,
  });
  const letters = fc.array(fc.constantFrom('赌', '博', 'A', 'b', 'Ｃ', 'ß', '9', '①', 'Σ', '𝐱', 'é', '한', 'ア'), { maxLength: 8 });
  fc.assert(
    fc.property(letters, fc.array(dressing, { minLength: 8, maxLength: 8 }), (word, between) => {
      const dressed = word.map(
        (letter, at) => letter + (between[at] ?? []).filter((mark) => mark !== '\u0301' || letter === '赌').join(''),
      );
      expect(fold(dressed.join(''))).toBe(fold(word.join('')));
    }),
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      expect(fold(fold(text))).toBe(fold(text));
    }),
    { numRuns: 500 },
  );
});

test('exactly the phrases that occur are found, at every place where one ends', async () => {
  const phrase = fc.string({ unit: fc.constantFrom('a', 'b', '中', '😀'), maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(phrase, { maxLength: 30 }),
      fc.string({ unit: fc.constantFrom('a', 'b', '中', '😀', 'z'), maxLength: 60 }),
      async (given, text) => {
        const phrases = [...new Set(given)];
        const found: number[] = [];
        (await inSlices(buildPhrases(phrases))).search(text, (number) => found.push(number));
        const occurring = phrases.flatMap((searched, number) =>
          Array.from(text.matchAll(/(?:)/g)).flatMap(({ index }) => (searched !== '' && text.startsWith(searched, index) ? [number] : [])),
        );
        const inOrder = (numbers: number[]) => numbers.sort((a, b) => a - b);
        expect(inOrder(found)).toEqual(inOrder(occurring));
      },
    ),
  );
});
