import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytes, counted, cString, hex, layout, octets, ProtocolError, rest, sized, tlvs, trailing, u8, u16, u32 } from './fields.ts';

const everything = layout({
  id: hex(8),
  small: u8,
  middle: u16,
  large: u32,
  name: octets(6),
  address: cString(21),
  digest: bytes(4),
  list: counted(octets(5)),
  content: sized,
  rest: trailing(8),
});
const optional = tlvs({
  flag: [0x0427, u8],
  port: [0x020a, u16],
  id: [0x001e, cString(65)],
  source: [0x0010, octets(8)],
  payload: [0x0424, rest],
});

const text = (max: number) => fc.string({ unit: fc.constantFrom(...'0123456789abcXYZ+:'.split('')), maxLength: max });
const value = fc.record({
  id: fc.uint8Array({ minLength: 8, maxLength: 8 }).map((octets) => Buffer.from(octets).toString('hex')),
  small: fc.nat(0xff),
  middle: fc.nat(0xffff),
  large: fc.integer({ min: 0, max: 0xffffffff }),
  name: text(6),
  address: text(20),
  digest: fc.uint8Array({ minLength: 4, maxLength: 4 }).map((octets) => Buffer.from(octets)),
  list: fc.array(text(5), { maxLength: 255 }),
  content: fc.uint8Array({ maxLength: 255 }).map((octets) => Buffer.from(octets)),
  rest: text(8),
});
const octetsUpTo = (max: number) => fc.uint8Array({ maxLength: max }).map((octets) => Buffer.from(octets));
const parameters = fc.record(
  { flag: fc.nat(0xff), port: fc.nat(0xffff), id: text(64), source: text(8), payload: octetsUpTo(300) },
  { requiredKeys: [] },
);

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

describe('text that ends with a NUL', () => {
  const field = layout({ name: cString(4), after: u8 });
  const read = (octets: string) => field.read(Buffer.from(octets, 'latin1'), { at: 0, end: octets.length });

  test('takes as many octets as it needs, and the NUL', () => {
    expect(encode(field, { name: '', after: 7 }).toString('latin1')).toBe('\0\x07');
    expect(encode(field, { name: 'abc', after: 7 }).toString('latin1')).toBe('abc\0\x07');
    expect(read('ab\0\x07')).toEqual({ name: 'ab', after: 7 });
  });

  test('that does not end within its size or its PDU is refused', () => {
    for (const octets of ['abcd\0\x07', 'abc', '']) expect(() => read(octets)).toThrow(ProtocolError);
  });

  test('that is too long, has a NUL inside or is not one octet a character is not written', () => {
    for (const wrong of ['abcd', 'a\0b', '汉']) expect(() => encode(field, { name: wrong, after: 7 })).toThrow(RangeError);
  });
});

describe('optional parameters', () => {
  const read = (octets: string) => optional.read(Buffer.from(octets, 'hex'), { at: 0, end: octets.length / 2 });

  test('read back as they were written, whichever there are, with others in between that nobody asked for', () => {
    fc.assert(
      fc.property(parameters, fc.array(octetsUpTo(20)), (what, strangers) => {
        const unknown = strangers.map((octets) => encode(tlvs({ stranger: [0x1400, rest] }), { stranger: octets }));
        const buffer = Buffer.concat([...unknown, encode(optional, what), ...unknown]);
        const cursor = { at: 0, end: buffer.length };
        expect(optional.read(buffer, cursor)).toEqual(what);
        expect(cursor.at).toBe(buffer.length);
      }),
    );
  });

  test('survive random octets: values or a ProtocolError, and never a look past the end', () => {
    const random = fc.oneof(
      octetsUpTo(60),
      parameters.map((what) => encode(optional, what)),
    );
    fc.assert(
      fc.property(random, fc.nat(60), fc.nat(60), fc.nat(0xff), (octets, cut, at, value) => {
        const buffer = Buffer.from(octets);
        if (at < buffer.length) buffer[at] = value;
        const end = Math.min(cut, buffer.length);
        const cursor = { at: 0, end };
        try {
          const { payload } = optional.read(buffer, cursor);
          expect(cursor.at).toBe(end);
          expect(payload?.length ?? 0).toBeLessThanOrEqual(end);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }),
    );
  });

  test('are laid out as tag, length and value (SMPP 3.4 §3.2.4.1)', () => {
    const octets = '001e00093061316232633364000427000102';
    expect(read(octets)).toEqual({ id: '0a1b2c3d', flag: 2 });
    expect(encode(optional, { flag: 2, id: '0a1b2c3d' }).toString('hex')).toBe(`0427000102${octets.slice(0, 26)}`);
  });

  test('of one that comes twice the last counts', () => expect(read('04270001010427000102')).toEqual({ flag: 2 }));

  test('that are cut, reach past the end, or have a length their value does not are refused', () => {
    for (const octets of ['04', '042700', '0427000201', '04270000', '042700020102', '001e000161'])
      expect(() => read(octets)).toThrow(ProtocolError);
  });

  test('that fit no length are not written', () => {
    expect(() => encode(optional, { payload: Buffer.alloc(0x10000) })).toThrow(RangeError);
  });
});

test('numbers that do not fit are refused', () => {
  for (const wrong of [-1, 256, Number.NaN]) expect(() => encode(layout({ small: u8 }), { small: wrong })).toThrow(RangeError);
  expect(() => encode(layout({ middle: u16 }), { middle: 2 ** 16 })).toThrow(RangeError);
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
