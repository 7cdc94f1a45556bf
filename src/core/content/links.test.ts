/** The permutation behind the short links: it loses nothing, repeats nothing, and shows no pattern. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createLinks, linkCodeLength } from './links.ts';
import { chunkCapacity, chunkIdOf, chunkOfMessage, chunksPerBatch, indexOf, messageIdOf } from '../model/ids.ts';

const links = createLinks({ secret: Buffer.alloc(32, 7) });
const chunkIds = fc.bigInt({ min: 0n, max: (1n << 49n) - 1n });

describe('short link codes', () => {
  it('a code decodes to the message it was made for', () => {
    fc.assert(
      fc.property(chunkIds, fc.array(fc.nat(499), { maxLength: 20 }), (chunkId, indexes) => {
        const codes = links.encodeMany(chunkId, indexes);
        expect(codes.map((code) => links.decode(code))).toEqual(indexes.map((index) => messageIdOf(chunkId, index)));
      }),
    );
  });

  it('codes have ten base62 characters at both ends of the domain', () => {
    for (const chunkId of [0n, 1n, (1n << 20n) - 1n, 1n << 20n, (1n << 49n) - 1n]) {
      for (const code of links.encodeMany(chunkId, 500)) expect(code).toMatch(/^[0-9A-Za-z]{10}$/);
    }
    expect(linkCodeLength).toBe(10);
  });

  it('no two messages share a code', () => {
    const codes = new Set<string>();
    for (let number = 0; number < chunksPerBatch; number++)
      for (const code of links.encodeMany(chunkIdOf(100000001n, number), 500)) codes.add(code);
    expect(codes.size).toBe(chunksPerBatch * chunkCapacity);
  });

  it('a decodable code is the code of what it decodes to, so the mapping is one to one', () => {
    let decodable = 0;
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(...'0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'.split('')), {
          minLength: 10,
          maxLength: 10,
        }),
        (characters) => {
          const code = characters.join('');
          const id = links.decode(code);
          if (id === null || indexOf(id) >= chunkCapacity) return;
          decodable++;
          expect(links.encodeMany(chunkOfMessage(id), [indexOf(id)])).toEqual([code]);
        },
      ),
      { numRuns: 1000 },
    );
    expect(decodable).toBeGreaterThan(100);
  });

  it('codes of neighbours agree in no more places than random ones do', () => {
    const codes = links.encodeMany(6400000064n, 500);
    let agreeing = 0;
    for (let i = 1; i < codes.length; i++) {
      for (let at = 1; at < linkCodeLength; at++) if (codes[i]?.[at] === codes[i - 1]?.[at]) agreeing++;
    }
    // 499 × 9 places, one in 62 agrees by chance: 72 expected, standard deviation 8.5.
    expect(agreeing).toBeGreaterThan(30);
    expect(agreeing).toBeLessThan(120);
  });

  it('another secret gives other codes', () => {
    const other = createLinks({ secret: Buffer.alloc(32, 8) });
    expect(other.encodeMany(1n, 1)).not.toEqual(links.encodeMany(1n, 1));
  });

  it('what cannot be a code decodes to null', () => {
    for (const garbage of [
      '',
      'short',
      'elevenchars',
      'zzzzzzzzzz',
      '..........',
      '00000 0000',
      '０００００００００0',
      'a\n00000000',
      '0000000000\n',
    ]) {
      expect(links.decode(garbage), garbage).toBeNull();
    }
    fc.assert(fc.property(fc.string({ maxLength: 30 }), (text) => void links.decode(text)));
  });

  it('refuses what lies outside the domain', () => {
    expect(() => links.encodeMany(1n << 49n, 1)).toThrow(RangeError);
    expect(() => links.encodeMany(-1n, 1)).toThrow(RangeError);
    expect(() => links.encodeMany(1n, 501)).toThrow(RangeError);
    expect(() => createLinks({ secret: Buffer.alloc(16) })).toThrow(RangeError);
  });
});
