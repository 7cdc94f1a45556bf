import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { billedSegments, concatHeader, cutText, decodeText, encodeText, joinParts, splitHeader } from './text.ts';

const hex = (octets: Buffer) => octets.toString('hex');
const sizes = (text: string, bits: 8 | 16 = 8) => cutText(text, bits).parts.map((part) => part.length);

describe('encoding', () => {
  test('the samples of the fact sheet', () => {
    expect(hex(encodeText('【测试】', 'ucs2'))).toBe('30106d4b8bd53011');
    expect(hex(encodeText('【测试】', 'gbk'))).toBe('a1beb2e2cad4a1bf');
    expect(hex(encodeText('😀', 'ucs2'))).toBe('d83dde00');
    expect(hex(encodeText('😀𠮷', 'gbk'))).toBe('9439fc369534b235');
    expect(decodeText(Buffer.from('9439fc369534b235', 'hex'), 'gbk')).toBe('😀𠮷');
    expect(hex(encodeText('ok', 'ascii'))).toBe('6f6b');
  });

  test('decoding leaves the octets as they were, and drops half a character', () => {
    const octets = Buffer.from('6d4b8b', 'hex');
    expect(decodeText(octets, 'ucs2')).toBe('测');
    expect(hex(octets)).toBe('6d4b8b');
  });
});

describe('cutting', () => {
  test('70 units of UCS2 fit one segment, 71 take 67 + 4, or 66 + 5 with a 16-bit reference', () => {
    expect(sizes('汉'.repeat(70))).toEqual([140]);
    expect(sizes('汉'.repeat(71))).toEqual([134, 8]);
    expect(sizes('汉'.repeat(71), 16)).toEqual([132, 10]);
  });

  test('159 characters of ASCII fit one segment, 160 take 153 + 7, or 152 + 8', () => {
    expect(cutText('a'.repeat(159), 8)).toMatchObject({ encoding: 'ascii' });
    expect(sizes('a'.repeat(159))).toEqual([159]);
    expect(sizes('a'.repeat(160))).toEqual([153, 7]);
    expect(sizes('a'.repeat(160), 16)).toEqual([152, 8]);
  });

  test('one character beyond printable ASCII makes the text UCS2; line ends do not', () => {
    expect(cutText('line\r\nend ~', 8).encoding).toBe('ascii');
    for (const text of ['tab\t', 'é', 'a\u0000', '，']) expect(cutText(text, 8).encoding).toBe('ucs2');
  });

  test('a pair that would be split begins the next segment', () => {
    expect(sizes(`${'汉'.repeat(66)}😀${'字'.repeat(10)}`)).toEqual([132, 24]);
    expect(sizes(`${'汉'.repeat(65)}😀${'字'.repeat(10)}`)).toEqual([134, 20]);
  });

  test('an empty text is one empty segment', () => {
    expect(sizes('')).toEqual([0]);
  });

  test('segments fit, decode one by one, and join to the text', () => {
    const characters = fc.constantFrom('a', '汉', '😀', '𠮷', '\n', 'é');
    fc.assert(
      fc.property(fc.array(characters, { maxLength: 500 }), fc.constantFrom(8, 16 as const), (units, bits) => {
        const text = units.join('');
        const { encoding, parts } = cutText(text, bits);
        const header = parts.length > 1 ? (bits === 8 ? 6 : 7) : 0;
        for (const part of parts) expect(header + part.length).toBeLessThanOrEqual(encoding === 'ucs2' ? 140 : 159);
        expect(parts.map((octets) => decodeText(octets, encoding)).join('')).toBe(text);
        expect(joinParts(parts.map((octets) => ({ encoding, octets })))).toBe(text);
      }),
    );
  });
});

describe('joining', () => {
  test('a pair that a sloppy sender split is whole again', () => {
    const octets = encodeText('好😀', 'ucs2');
    const parts = [octets.subarray(0, 4), octets.subarray(4)];
    expect(joinParts(parts.map((part) => ({ encoding: 'ucs2', octets: part })))).toBe('好😀');
  });

  test('parts of different encodings are decoded each by its own', () => {
    const parts = [
      { encoding: 'ucs2', octets: encodeText('你好', 'ucs2') },
      { encoding: 'ascii', octets: Buffer.from(' and ') },
      { encoding: 'gbk', octets: encodeText('世界', 'gbk') },
    ] as const;
    expect(joinParts(parts)).toBe('你好 and 世界');
  });
});

describe('the user data header', () => {
  test('of either reference size is read as it was written', () => {
    for (const [bits, reference] of [
      [8, 0x2a],
      [16, 0x1234],
    ] as const) {
      const concat = { reference, total: 3, number: 2 };
      const content = Buffer.concat([concatHeader(bits, concat), Buffer.from('text')]);
      expect(splitHeader(content)).toEqual({ concat, body: Buffer.from('text') });
    }
  });

  test('is walked by its elements: ports may come before the concatenation', () => {
    const content = Buffer.from('0b0504c34f0000000312030241', 'hex');
    expect(splitHeader(content)).toEqual({ concat: { reference: 0x12, total: 3, number: 2 }, body: Buffer.from('A') });
  });

  test('part 1 of 1 and impossible numbers are no concatenation', () => {
    for (const header of ['050003000101', '0500030a0300', '0500030a0304', '0500030a0001']) {
      expect(splitHeader(Buffer.from(`${header}41`, 'hex'))).toEqual({ concat: null, body: Buffer.from('A') });
    }
  });

  test('that is longer than the content is none', () => {
    const content = Buffer.from('ff0003', 'hex');
    expect(splitHeader(content)).toEqual({ concat: null, body: content });
    expect(splitHeader(Buffer.alloc(0)).concat).toBeNull();
  });
});

describe('billed segments', () => {
  test('in mainland China count UTF-16 units, 70 for one and 67 each for more, whatever the characters', () => {
    expect([0, 1, 70, 71, 134, 135, 201, 202].map((length) => billedSegments('a'.repeat(length), true))).toEqual([1, 1, 1, 2, 2, 3, 3, 4]);
    expect(billedSegments('😀'.repeat(35), true)).toBe(1);
    expect(billedSegments('😀'.repeat(36), true)).toBe(2);
  });

  test('are arithmetic, even where the wire needs one more so as not to split a pair', () => {
    const text = `${'汉'.repeat(66)}😀${'汉'.repeat(66)}`;
    expect(billedSegments(text, true)).toBe(2);
    expect(cutText(text, 8).parts).toHaveLength(3);
  });

  test('elsewhere count septets of the GSM alphabet, 160 and 153, else units', () => {
    expect([160, 161, 306, 307].map((length) => billedSegments('a'.repeat(length), false))).toEqual([1, 2, 2, 3]);
    expect(billedSegments('é'.repeat(160), false)).toBe(1);
    expect(billedSegments('€'.repeat(80), false)).toBe(1);
    expect(billedSegments('€'.repeat(81), false)).toBe(2);
    expect(billedSegments(`${'a'.repeat(70)}汉`, false)).toBe(2);
    expect(billedSegments('`'.repeat(71), false)).toBe(2);
  });
});
