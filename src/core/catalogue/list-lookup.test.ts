import { afterAll, beforeAll, expect, it } from 'vitest';
import { startManagement, type TestManagement } from '../../../test/kit/management.ts';
import type { Sql } from '../../db/db.ts';
import { addNumbers, ensureBlocklist } from './blocklists.ts';
import { createGatheringLookup, listLookup } from './list-lookup.ts';
import { change } from '../config/management.ts';

let office: TestManagement;
let lists: bigint[];
let queries = 0;
const counted = (): Sql =>
  Object.assign<object, Sql>((...given: Parameters<Sql>) => {
    queries++;
    return office.db.sql(...given);
  }, office.db.sql);

const numbers = (from: number, count: number): bigint[] => Array.from({ length: count }, (_, n) => 8613900000000n + BigInt(from + n));

beforeAll(async () => {
  office = await startManagement();
  lists = await change(office, async (sql) => {
    const made = [await ensureBlocklist(sql, 'system', 0n), await ensureBlocklist(sql, 'empty', 0n)];
    await addNumbers(sql, made[0] ?? 0n, numbers(0, 500), 'operator', new Date());
    await addNumbers(sql, made[1] ?? 0n, numbers(400, 500), 'operator', new Date());
    return made;
  });
});
afterAll(() => office.stop());

it('a thousand questions at once are a few queries, and each is answered as if it were alone', async () => {
  const [alone, together] = [listLookup(office.db.sql), createGatheringLookup(counted())];
  const asked = Array.from({ length: 1000 }, (_, n) => ({ list: lists[n % 2] ?? 0n, phones: numbers(n, 1 + (n % 3)) }));
  queries = 0;
  const answers = await Promise.all(asked.map(({ list, phones }) => together(list, phones)));
  expect(queries).toBe(1);
  expect(answers).toEqual(await Promise.all(asked.map(({ list, phones }) => alone(list, phones))));
});

it('what is asked while others are being asked is asked together, next', async () => {
  const together = createGatheringLookup(counted());
  queries = 0;
  const first = together(lists[0] ?? 0n, numbers(0, 1));
  await new Promise((resolve) => setImmediate(resolve));
  const next = [together(lists[0] ?? 0n, numbers(499, 2)), together(lists[1] ?? 0n, numbers(499, 2))];
  expect([...(await first)]).toEqual(numbers(0, 1));
  expect((await Promise.all(next)).map((found) => [...found])).toEqual([numbers(499, 1), numbers(499, 2)]);
  expect(queries).toBe(2);
});

it('a question about thousands is asked alone, and one that fails leaves the next ones be', async () => {
  const together = createGatheringLookup(office.db.sql);
  expect((await together(lists[0] ?? 0n, numbers(0, 5000))).size).toBe(500);
  const failing = [together(lists[0] ?? 0n, [2n ** 70n]), together(lists[0] ?? 0n, numbers(0, 1))];
  expect((await Promise.allSettled(failing)).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect((await together(lists[0] ?? 0n, numbers(0, 1))).size).toBe(1);
});
