import { afterAll, beforeAll, expect, test } from 'vitest';
import { startManagement, type TestManagement } from '../../test/management.ts';
import { createAccount, createSubscription } from './accounts.ts';
import {
  changeChannel,
  changePool,
  changeProduct,
  createChannel,
  createPool,
  createProduct,
  listChannels,
  listPools,
  listProducts,
  type NewChannel,
} from './catalogue.ts';
import { change } from './management.ts';

let office: TestManagement;
const page = { limit: 100, cursor: null };
const settings = { host: '127.0.0.1', port: 7890, spId: '901234', serviceId: 'HY', ratePerSecond: 100 };

beforeAll(async () => {
  office = await startManagement();
});
afterAll(() => office.stop());

const channel = (wanted: Partial<NewChannel> = {}) =>
  change(office, (sql) =>
    createChannel(sql, office.box, {
      name: 'ISMG',
      protocol: 'cmpp',
      carriers: ['mobile'],
      accessNumber: '10690001',
      settings,
      secret: 'ismg-secret',
      ...wanted,
    }),
  );
const member = (channelId: bigint, priority: number) => ({ channelId, priority, weight: 1 });

test('a product starts with what its medium needs and changes only in what is named', async () => {
  const aim = await change(office, (sql) => createProduct(sql, { name: 'AIM', medium: 'aim', unit: 'yuan' }));
  const mms = await change(office, (sql) =>
    createProduct(sql, { name: 'MMS', medium: 'mms', unit: 'messages', limits: { packageKiB: 1900 } }),
  );
  expect(aim).toMatchObject({ inDoubt: 'resend', chargeOn: 'delivered', ttlHours: 24, signatureRequired: true, poolId: null, limits: {} });
  expect(mms).toMatchObject({ inDoubt: 'give_up', limits: { packageKiB: 1900 } });
  const changed = await change(office, (sql) => changeProduct(sql, aim.id, { ttlHours: 48 }));
  expect(changed).toEqual({ ...aim, ttlHours: 48 });
  expect(office.directory.product(aim.id)?.ttlHours).toBe(48);
});

test('a product can be put onto a pool and taken off it, but not onto one that is not there', async () => {
  const pool = await change(office, (sql) => createPool(sql, { name: 'pool', channels: [] }));
  const product = await change(office, (sql) => createProduct(sql, { name: 'AIM', medium: 'aim', unit: 'yuan', poolId: pool.id }));
  expect(product.poolId).toBe(pool.id);
  expect((await change(office, (sql) => changeProduct(sql, product.id, { name: 'x' }))).poolId).toBe(pool.id);
  expect((await change(office, (sql) => changeProduct(sql, product.id, { poolId: null }))).poolId).toBeNull();
  await expect(change(office, (sql) => changeProduct(sql, product.id, { poolId: 999n }))).rejects.toThrow('poolId: no such pool');
});

test('an account sees the products it subscribes to', async () => {
  const product = await change(office, (sql) => createProduct(sql, { name: 'theirs', medium: 'sms', unit: 'yuan' }));
  const { account } = await change(office, (sql) => createAccount(sql, office.box, { name: 'a' }));
  expect((await listProducts(office.db.sql, account.id, page)).data).toEqual([]);
  await change(office, (sql) => createSubscription(sql, office.box, { accountId: account.id, productId: product.id, priceE4: 1n }));
  expect((await listProducts(office.db.sql, account.id, page)).data).toEqual([product]);
});

test('a channel keeps its secret sealed and out of what is shown', async () => {
  const made = await channel();
  expect(JSON.stringify(made, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value))).not.toContain('secret');
  expect(office.directory.channelSecret(made.id)).toBe('ismg-secret');
  await change(office, (sql) => changeChannel(sql, office.box, made.id, { secret: 'new-secret', enabled: false }));
  expect(office.directory.channelSecret(made.id)).toBe('new-secret');
  const changed = await change(office, (sql) => changeChannel(sql, office.box, made.id, { settings: { ...settings, port: 7891 } }));
  expect(changed).toEqual({ ...made, enabled: false, settings: { ...settings, port: 7891 } });
  expect(office.directory.channelSecret(made.id)).toBe('new-secret');
  expect((await listChannels(office.db.sql, page)).data).toEqual([changed]);
});

test('a pool has known channels, each once, and its members are replaced as a whole', async () => {
  const [a, b] = [await channel({ name: 'a' }), await channel({ name: 'b' })];
  const pool = await change(office, (sql) => createPool(sql, { name: 'both', channels: [member(b.id, 2), member(a.id, 1)] }));
  expect(pool.channels).toEqual([member(a.id, 1), member(b.id, 2)]);
  const changed = await change(office, (sql) => changePool(sql, pool.id, { channels: [member(b.id, 1)] }));
  expect(changed).toEqual({ ...pool, channels: [member(b.id, 1)] });
  expect(office.directory.pool(pool.id)).toEqual([member(b.id, 1)]);
  for (const channels of [[member(999n, 1)], [member(a.id, 1), member(a.id, 2)]])
    await expect(change(office, (sql) => changePool(sql, pool.id, { channels }))).rejects.toMatchObject({ code: 'invalid' });
  expect((await listPools(office.db.sql, page)).data.find(({ id }) => id === pool.id)).toEqual(changed);
});
