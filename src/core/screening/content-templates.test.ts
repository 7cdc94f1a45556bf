import fc from 'fast-check';
import { expect, test } from 'vitest';
import { inSlices } from '../../std/slices.ts';
import { buildTemplateIndex, matches, parsePattern, type Pattern, subjectOf } from './content-templates.ts';

function patternOf(template: string): Pattern {
  const pattern = parsePattern(template);
  if ('error' in pattern) throw new Error(pattern.error);
  return pattern;
}
const isMatch = (template: string, text: string): boolean => matches(patternOf(template), subjectOf(text));

test('a wildcard in any notation stands for one to N characters, 35 if it does not say', () => {
  const notations: [string, number][] = [
    ['{6}', 6],
    ['{验证码:6}', 6],
    ['{:6}', 6],
    ['${code:6}', 6],
    ['${6}', 6],
    ['$code:6$', 6],
    ['{$var:6}', 6],
    ['{}', 35],
    ['{…}', 35],
    ['{变量}', 35],
    ['${name}', 35],
    ['$name$', 35],
    ['$名字$', 35],
    ['{$var}', 35],
    ['{}{5}', 40],
  ];
  for (const [wildcard, most] of notations) {
    const template = `【鸿雁】${wildcard}。`;
    const least = wildcard === '{}{5}' ? 2 : 1;
    for (const count of [least, 4, most])
      expect([wildcard, isMatch(template, `【鸿雁】${'好'.repeat(count)}。`)]).toEqual([wildcard, true]);
    for (const count of [least - 1, most + 1])
      expect([wildcard, count, isMatch(template, `【鸿雁】${'好'.repeat(count)}。`)]).toEqual([wildcard, count, false]);
  }
});

test('braces and dollars that are no wildcard are text', () => {
  for (const text of ['{', '}', '{a b}', 'Pay $5 or $10$', '$', '$$', '{{', '{a:b}', '100$5$']) {
    expect([text, isMatch(text, text)]).toEqual([text, true]);
    expect([text, isMatch(text, `${text}.`)]).toEqual([text, false]);
  }
  expect(parsePattern('{0}')).toHaveProperty('error');
  expect(parsePattern('{1001}')).toHaveProperty('error');
  expect(parsePattern('${name:0}')).toHaveProperty('error');
});

test('a text matches as a whole, counted in characters, whatever its line ends', () => {
  expect(isMatch('您好{2}', '您好😀😀')).toBe(true);
  expect(isMatch('您好{2}', '您好😀😀😀')).toBe(false);
  expect(isMatch('a\r\n{}b', 'a\nx\nb')).toBe(true);
  expect(isMatch('a\n{}b', 'a\r\nx\r\nb')).toBe(true);
  expect(isMatch('ab', 'ab')).toBe(true);
  expect(isMatch('ab', 'abc')).toBe(false);
  expect(isMatch('ab', 'cab')).toBe(false);
  expect(isMatch('aba{}aba', 'ababa')).toBe(false);
});

test('a literal that occurs too early does not hide one that fits', () => {
  expect(isMatch('a{3}b{1}c', 'abxbxc')).toBe(true);
  expect(isMatch('{2}aa{1}b', 'xaaaxb')).toBe(true);
  expect(isMatch('{9}aba{1}c', 'xababaxc')).toBe(true);
});

// ── against a regular expression ─────────────────────────────────────────────────────────────────────────────────────────────────

/** Text and wildcards of a few letters only, so that much fits in several ways. */
const letter = fc.constantFrom('a', 'b', '😀', '\n');
const piece = fc.oneof(
  { weight: 2, arbitrary: fc.string({ unit: letter, minLength: 1, maxLength: 3 }) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 4 }) },
);
const pieces = fc.array(piece, { maxLength: 7 });
const templateOf = (parts: readonly (string | number)[]) => parts.map((part) => (typeof part === 'number' ? `{${part}}` : part)).join('');
const oracleOf = (parts: readonly (string | number)[]) =>
  new RegExp(`^${parts.map((part) => (typeof part === 'number' ? `.{1,${part}}` : part)).join('')}$`, 'su');
/** A text that a template may well match: wildcards filled, and now and then something changed. */
const template = pieces.chain((parts) =>
  fc.record({
    parts: fc.constant(parts),
    text: fc
      .tuple(
        ...parts.map((part) =>
          typeof part === 'number' ? fc.string({ unit: letter, minLength: 1, maxLength: part + 1 }) : fc.constant(part),
        ),
      )
      .map((filled) => filled.join('')),
  }),
);

test('a template matches exactly what its regular expression matches', () => {
  let matched = 0;
  fc.assert(
    fc.property(template, fc.string({ unit: letter, maxLength: 12 }), ({ parts, text }, other) => {
      for (const subject of [text, other]) {
        const expected = oracleOf(parts).test(subject);
        if (expected) matched++;
        expect([templateOf(parts), subject, isMatch(templateOf(parts), subject)]).toEqual([templateOf(parts), subject, expected]);
      }
    }),
    { numRuns: 1500 },
  );
  expect(matched).toBeGreaterThan(250); // or the property says little
});

test('an index finds the first of the templates that match', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(template, { minLength: 1, maxLength: 30 }), async (all) => {
      const index = await inSlices(buildTemplateIndex(all.map(({ parts }) => patternOf(templateOf(parts)))));
      for (const { text } of all)
        expect([text, index.find(subjectOf(text))]).toEqual([text, all.findIndex(({ parts }) => oracleOf(parts).test(text))]);
    }),
    { numRuns: 200 },
  );
});

test('a template that fits in very many ways and fails in the end costs no more than one that fits', () => {
  const template = `${'{1000}a'.repeat(50)}{1000}b`;
  expect(isMatch(template, `${'a'.repeat(5000)}c`)).toBe(false);
  expect(isMatch(`${'{1000}a'.repeat(50)}{1}c{1000}b`, `${'a'.repeat(5000)}b`)).toBe(false);
  expect(isMatch(template, `${'a'.repeat(5000)}b`)).toBe(true);
});
