import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type FileReport, readRows, withSpool } from './imports.ts';
import { Denial } from './management.ts';

async function* cutAt(bytes: Uint8Array, places: readonly number[]): AsyncGenerator<Uint8Array> {
  const cuts = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  for (const [index, from] of [0, ...cuts].entries()) yield bytes.subarray(from, cuts[index] ?? bytes.length);
}

async function rowsOf(chunks: AsyncIterable<Uint8Array>, skipInvalid = false): Promise<FileReport & { taken: string[][] }> {
  const taken: string[][] = [];
  const report = await readRows(
    chunks,
    { columns: 'number,city', skipInvalid },
    {
      add(fields) {
        if (fields[0] === 'bad') throw new Denial('invalid', 'that is bad');
        taken.push([...fields]);
      },
    },
  );
  return { ...report, taken };
}

test('rows are the same however the file is cut into pieces', async () => {
  const field = fc.constantFrom('13800000000', '广州市', '"x y"', '', '𠮷');
  const line = fc.tuple(field, field).map((fields) => fields.join(','));
  const end = fc.constantFrom('\n', '\r\n', '\n\n');
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(line, end)), fc.boolean(), fc.array(fc.nat()), async (lines, hasHeader, places) => {
      const text = `${hasHeader ? '\ufeffNumber,City\r\n' : ''}${lines.flat().join('')}13911110000,last`;
      const { taken, rows } = await rowsOf(cutAt(Buffer.from(text), places));
      const fields = lines.map(([written]) => written.split(',').map((one) => one.replaceAll('"', '')));
      expect(taken).toEqual([...fields, ['13911110000', 'last']]);
      expect(rows).toBe(taken.length);
    }),
  );
});

test('what is wrong is told with its line, or passed over and told at the end', async () => {
  const text = Buffer.from('number,city\n1,a\n\nbad,b\n2,c\nbad,d\n');
  await expect(rowsOf(cutAt(text, [7, 16]))).rejects.toThrow('line 4: that is bad');
  expect(await rowsOf(cutAt(text, [7, 16]), true)).toEqual({
    rows: 2,
    skipped: 2,
    problems: ['line 4: that is bad', 'line 6: that is bad'],
    taken: [
      ['1', 'a'],
      ['2', 'c'],
    ],
  });
  const many = await rowsOf(cutAt(Buffer.from('bad\n'.repeat(1000)), []), true);
  expect([many.skipped, many.problems.length]).toEqual([1000, 20]);
});

test.each([
  ['GBK', Buffer.from([0x31, 0x2c, 0xb9, 0xe3, 0xd6, 0xdd, 0x0a]), 'after line 0: not UTF-8'],
  ['half a character', Buffer.from('1,a\n2,广').subarray(0, -1), 'after line 1: not UTF-8'],
  ['a line without an end', Buffer.alloc(100_000, 'x'), 'line 1: more than 200 characters'],
])('%s is refused, also where bad rows are passed over', async (_, bytes, message) => {
  await expect(rowsOf(cutAt(bytes, [3, 50_000]), true)).rejects.toThrow(message);
});

test('a spool gives back what it took, as often as wanted, in rough order, equal ones as they came', async () => {
  const bounds = { from: 1000n, to: 1_000_000n };
  const values = Array.from({ length: 165_001 }, (_, i) => BigInt((i * 7919) % 1_100_003) - 50_000n);
  const sorted = [...values].sort((a, b) => Number(a - b));
  await withSpool(bounds, async (spool) => {
    for (const [index, value] of values.entries()) {
      spool.add(value);
      if (index % 1000 === 0) await spool.flush();
    }
    for (let time = 0; time < 2; time++) {
      const read: bigint[] = [];
      for await (const batch of spool.batches()) read.push(...batch);
      expect([...read].sort((a, b) => Number(a - b))).toEqual(sorted);
      // Values come out at most one drawer out of order.
      let most = bounds.from;
      for (const value of read.filter((one) => one >= bounds.from && one < bounds.to)) {
        expect(most - value).toBeLessThan(4000n);
        if (value > most) most = value;
      }
    }
  });
  const far = { from: 0n, to: 256n << 20n };
  await withSpool(far, async (spool) => {
    // All in one drawer, so that only the order of arrival can order them.
    for (let i = 0; i < 5000; i++) {
      spool.add(BigInt((i * 7) % 5000));
      await spool.flush();
    }
    const read: bigint[] = [];
    for await (const batch of spool.batches()) read.push(...batch);
    expect(read).toEqual(Array.from({ length: 5000 }, (_, i) => BigInt((i * 7) % 5000)));
  });
});
