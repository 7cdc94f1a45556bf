import { afterAll, beforeAll, expect, test } from 'vitest';
import { startManagement, type TestManagement } from '../../../test/kit/management.ts';
import { createAccount, createSubscription } from './accounts.ts';
import { addNumbers, ensureBlocklist, getBlocklist, listBlocklists, listNumbers, optOut, removeNumbers } from './blocklists.ts';
import { createProduct } from './products.ts';
import { change } from '../config/management.ts';

let office: TestManagement;
let accountId: bigint;
let productId: bigint;
let subscriptionId: bigint;
const at = new Date();
const page = { limit: 100, cursor: null };

beforeAll(async () => {
  office = await startManagement();
  await change(office, async (sql) => {
    accountId = (await createAccount(sql, office.box, { name: 'one' })).account.id;
    productId = (await createProduct(sql, { name: 'AIM', medium: 'aim', unit: 'yuan' })).id;
    subscriptionId = (await createSubscription(sql, office, { accountId, productId, priceE4: 500n })).subscription.id;
  });
});
afterAll(() => office.stop());

test('a list is made once for its subject, also by many at once', async () => {
  const ids = await Promise.all(Array.from({ length: 4 }, () => change(office, (sql) => ensureBlocklist(sql, 'product', productId))));
  expect(new Set(ids).size).toBe(1);
  expect(office.directory.blocklist('product', productId)).toBe(ids[0]);
});

test('a list needs a subject that exists; the platform has one of each of its own', async () => {
  await expect(change(office, (sql) => ensureBlocklist(sql, 'product', 999n))).rejects.toThrow('subjectId: no such product');
  await expect(change(office, (sql) => ensureBlocklist(sql, 'empty', 5n))).rejects.toThrow('subjectId');
  expect(await change(office, (sql) => ensureBlocklist(sql, 'empty', 0n))).toBeTypeOf('bigint');
});

test('numbers go on and off as sets', async () => {
  const list = await change(office, (sql) => ensureBlocklist(sql, 'system', 0n));
  const numbers = Array.from({ length: 10_000 }, (_, i) => 8613800000000n + BigInt(i));
  expect(await addNumbers(office.db.sql, list, [...numbers, ...numbers.slice(0, 5)], 'operator', at)).toBe(10_000);
  expect(await addNumbers(office.db.sql, list, [8613800000000n, 8613900000000n], 'operator', at)).toBe(1);
  expect(await removeNumbers(office.db.sql, list, numbers)).toBe(10_000);
  expect((await listNumbers(office.db.sql, list, null, page)).data.map(({ phone }) => phone)).toEqual([8613900000000n]);
  expect((await listNumbers(office.db.sql, list, 8613800000000n, page)).data).toEqual([]);
});

test('an opt-out puts the number onto the list of its subscription, which is there from the start', async () => {
  const before = office.directory.version();
  await office.db.transaction((sql) => optOut(sql, subscriptionId, [8613811110000n], at));
  await office.directory.refresh();
  expect(office.directory.version()).toBe(before);
  const list = office.directory.blocklist('subscription', subscriptionId);
  expect(await listNumbers(office.db.sql, list ?? 0n, null, page)).toMatchObject({ data: [{ phone: 8613811110000n, source: 'opt-out' }] });
});

test('an account sees the lists of its own subscriptions only', async () => {
  const own = (await listBlocklists(office.db.sql, accountId, page)).data;
  expect(own).toEqual([expect.objectContaining({ kind: 'subscription', subjectId: subscriptionId, accountId })]);
  const [list] = own;
  expect(await getBlocklist(office.db.sql, accountId, list?.id ?? 0n)).toEqual(list);
  await expect(getBlocklist(office.db.sql, accountId + 1n, list?.id ?? 0n)).rejects.toThrow('no such blocklist');
  const product = await change(office, (sql) => ensureBlocklist(sql, 'product', productId));
  await expect(getBlocklist(office.db.sql, accountId, product)).rejects.toThrow('no such blocklist');
});
