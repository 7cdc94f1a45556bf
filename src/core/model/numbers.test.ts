import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseNumber, usualForm } from './numbers.ts';

describe('numbers', () => {
  it.each([
    ['13800000000', 8613800000000n],
    ['+86 138-0000-0000', 8613800000000n],
    ['8613800000000', 8613800000000n],
    ['0086 (138) 00000000', 8613800000000n],
    ['+14155550100', 14155550100n],
    ['0085212345678', 85212345678n],
  ])('reads %s', (written, e164) => {
    expect(parseNumber(written)).toBe(e164);
  });

  it.each(['', '1380000000', '138000000000', '12000000000', '85212345678', '+8612345678', '+0123456789', '02112345678', '1-2', '++1'])(
    'refuses %j',
    (written) => {
      expect(parseNumber(written)).toBeNull();
    },
  );

  it('reads back the usual form of whatever it has read, and never throws', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[+0-9 ()-]{0,32}$/), (written) => {
        const e164 = parseNumber(written);
        if (e164 !== null) expect(parseNumber(usualForm(e164))).toBe(e164);
      }),
    );
    fc.assert(
      fc.property(fc.constantFrom('138', '186', '133', '192'), fc.stringMatching(/^\d{8}$/), (range, rest) => {
        expect(usualForm(parseNumber(range + rest) ?? 0n)).toBe(range + rest);
      }),
    );
  });
});
