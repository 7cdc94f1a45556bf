import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytes, counted, hex, layout, octets, ProtocolError, sized, trailing, u8, u32 } from './fields.ts';

const everything = layout({
  id: hex(8),
  small: u8,
  large: u32,
  name: octets(6),
  digest: bytes(4),
  list: counted(octets(5)),
  content: sized,
  rest: trailing(8),
});

const text = (max: number) => fc.string({ unit: fc.constantFrom(...'0123456789abcXYZ+:'.split('')), maxLength: max });
const value = fc.record({
  id: fc.uint8Array({ minLength: 8, maxLength: 8 }).map((octets) => Buffer.from(octets).toString('hex')),
  small: fc.nat(0xff),
  large: fc.integer({ min: 0, max: 0xffffffff }),
  name: text(6),
  digest: fc.uint8Array({ minLength: 4, maxLength: 4 }).map((octets) => Buffer.from(octets)),
  list: fc.array(text(5), { maxLength: 255 }),
  content: fc.uint8Array({ maxLength: 255 }).map((octets) => Buffer.from(octets)),
  rest: text(8),
});

function encode<T>(of: { measure(value: T): number; write(buffer: Buffer, at: number, value: T): number }, what: T): Buffer {
  const buffer = Buffer.alloc(of.measure(what), 0xee);
  expect(of.write(buffer, 0, what)).toBe(buffer.length);
  return buffer;
}

describe('a layout', () => {
  test('reads back what it wrote, whatever the values', () => {
    fc.assert(
      fc.property(value, (what) => {
        const buffer = encode(everything, what);
        expect(everything.read(buffer, { at: 0, end: buffer.length })).toEqual(what);
      }),
    );
  });

  test('survives random octets: a value or a ProtocolError, and never a look past the end', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.nat(400), (octets, cut) => {
        const buffer = Buffer.from(octets);
        const end = Math.min(cut, buffer.length);
        try {
          const cursor = { at: 0, end };
          everything.read(buffer, cursor);
          expect(cursor.at).toBeLessThanOrEqual(end);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }),
    );
  });

  test('writes a field that was left out empty', () => {
    const optional = layout({
      first: u8,
      ...({ second: u32, third: octets(2) } as { second?: typeof u32; third?: ReturnType<typeof octets> }),
    });
    expect(encode(optional, { first: 7 }).toString('hex')).toBe('07000000000000');
  });
});

describe('text of a fixed size', () => {
  const field = layout({ name: octets(6) });

  test('may fill its field without any NUL', () => {
    expect(encode(field, { name: '901234' }).toString('latin1')).toBe('901234');
    expect(field.read(Buffer.from('901234'), { at: 0, end: 6 }).name).toBe('901234');
  });

  test('is cut at the first NUL when read', () => {
    expect(field.read(Buffer.from('90\0xyz'), { at: 0, end: 6 }).name).toBe('90');
  });

  test('that does not fit is refused, not cut', () => {
    expect(() => encode(field, { name: '9012345' })).toThrow(RangeError);
    expect(() => encode(field, { name: '汉' })).toThrow(RangeError);
  });
});

test('numbers that do not fit are refused', () => {
  for (const wrong of [-1, 256, Number.NaN]) expect(() => encode(layout({ small: u8 }), { small: wrong })).toThrow(RangeError);
  expect(() => encode(layout({ large: u32 }), { large: 2 ** 32 })).toThrow(RangeError);
});

test('what is too long for its length octet, or not the size it must have, is refused', () => {
  expect(() => encode(layout({ content: sized }), { content: Buffer.alloc(256) })).toThrow(RangeError);
  expect(() => encode(layout({ list: counted(u8) }), { list: Array.from({ length: 256 }, () => 1) })).toThrow(RangeError);
  expect(() => encode(layout({ digest: bytes(4) }), { digest: Buffer.alloc(3) })).toThrow(RangeError);
  expect(() => encode(layout({ id: hex(8) }), { id: '00' })).toThrow(RangeError);
  expect(() => encode(layout({ id: hex(2) }), { id: 'zzzz' })).toThrow(RangeError);
});

test('a trailing field takes what there is, nothing included, and ignores what follows', () => {
  const field = layout({ first: u8, rest: trailing(3) });
  const read = (text: string) => field.read(Buffer.from(text), { at: 0, end: text.length }).rest;
  expect([read('x'), read('xa'), read('xabc'), read('xabcdef')]).toEqual(['', 'a', 'abc', 'abc']);
});
