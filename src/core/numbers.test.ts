import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parsePhone, usualForm } from './numbers.ts';

describe('numbers', () => {
  it.each([
    ['13800000000', 8613800000000n, 'mobile'],
    ['+86 138-0000-0000', 8613800000000n, 'mobile'],
    ['8613800000000', 8613800000000n, 'mobile'],
    ['0086 (138) 00000000', 8613800000000n, 'mobile'],
    ['18600000000', 8618600000000n, 'unicom'],
    ['13300000000', 8613300000000n, 'telecom'],
    ['13490000000', 8613490000000n, 'telecom'],
    ['17040000000', 8617040000000n, 'unicom'],
    ['19200000000', 8619200000000n, 'broadcast'],
    ['+14155550100', 14155550100n, 'international'],
    ['0085212345678', 85212345678n, 'international'],
  ])('reads %s', (written, e164, carrier) => {
    expect(parsePhone(written)).toMatchObject({ e164, carrier });
  });

  it.each([
    '',
    '1380000000',
    '138000000000',
    '12000000000',
    '16000000000',
    '85212345678',
    '+8612345678',
    '+0123456789',
    '02112345678',
    '1-2',
    '++1',
  ])('refuses %j', (written) => {
    expect(parsePhone(written)).toBeNull();
  });

  it('reads back the usual form of whatever it has read, and never throws', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[+0-9 ()-]{0,32}$/), (written) => {
        const phone = parsePhone(written);
        if (phone) expect(parsePhone(usualForm(phone.e164))).toEqual(phone);
      }),
    );
    fc.assert(
      fc.property(fc.constantFrom('138', '186', '133', '192'), fc.stringMatching(/^\d{8}$/), (range, rest) => {
        const phone = parsePhone(range + rest);
        expect(phone && usualForm(phone.e164)).toBe(range + rest);
      }),
    );
  });
});
