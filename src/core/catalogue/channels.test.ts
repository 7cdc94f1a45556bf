import { afterAll, beforeAll, expect, test } from 'vitest';
import { startManagement, type TestManagement } from '../../../test/kit/management.ts';
import { createAccount, createSubscription } from './accounts.ts';
import {
  changeChannel,
  changeDueHealth,
  createChannel,
  getChannel,
  listChannels,
  type NewChannel,
  settleHealth,
  someHealthIsDue,
} from './channels.ts';
import { changePool, createPool, listPools } from './pools.ts';
import { changeProduct, createProduct, listProducts } from './products.ts';
import { change } from '../config/management.ts';
import type { Channel } from '../model/configuration.ts';
import { leaveChannel, serveChannel } from '../queue/queue.ts';

let office: TestManagement;
const page = { limit: 100, cursor: null };
const settings = { host: '127.0.0.1', port: 7890, spId: '901234', serviceId: 'HY', ratePerSecond: 100 };

beforeAll(async () => {
  office = await startManagement();
});
afterAll(() => office.stop());

const channel = (wanted: Partial<NewChannel> = {}) =>
  change(office, (sql) =>
    createChannel(sql, office, {
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
  await change(office, (sql) => createSubscription(sql, office, { accountId: account.id, productId: product.id, priceE4: 1n }));
  expect((await listProducts(office.db.sql, account.id, page)).data).toEqual([product]);
});

test('a channel keeps its secret sealed and out of what is shown', async () => {
  const made = await channel();
  expect(JSON.stringify(made, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value))).not.toContain('secret');
  expect(office.directory.channelSecret(made.id)).toBe('ismg-secret');
  await change(office, (sql) => changeChannel(sql, office, made.id, { secret: 'new-secret', enabled: false }));
  expect(office.directory.channelSecret(made.id)).toBe('new-secret');
  const changed = await change(office, (sql) => changeChannel(sql, office, made.id, { settings: { ...settings, port: 7891 } }));
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

test('the rules of health that are named are kept, the others have their defaults, and nonsense is denied', async () => {
  const made = await channel({ healthRules: { failurePercent: 50 } });
  expect(made.healthRules).toMatchObject({ failurePercent: 50, sessionSeconds: 30, outcomes: 200, leastOutcomes: 50, deliveredPercent: 0 });
  expect(office.directory.channel(made.id)?.healthRules).toEqual(made.healthRules);
  const put = (healthRules: NewChannel['healthRules']) =>
    change(office, (sql) => changeChannel(sql, office, made.id, healthRules ? { healthRules } : {}));
  expect((await put(undefined)).healthRules).toEqual(made.healthRules);
  expect((await put({ pauseSeconds: 5 })).healthRules).toEqual({ ...made.healthRules, failurePercent: 30, pauseSeconds: 5 });
  for (const wrong of [{ leastOutcomes: 300 }, { pauseSeconds: 1000 }]) await expect(put(wrong)).rejects.toMatchObject({ code: 'invalid' });
});

test('a channel is silent when no node has had a session for long enough, and back when one stands', async () => {
  const { id } = await channel({ name: 'silent' });
  const { sql } = office.db;
  const seen = () => [office.directory.channel(id)].filter((known): known is Channel => known !== undefined);
  const due = () => someHealthIsDue(sql, seen());
  const turn = () => change(office, (sql) => changeDueHealth(sql, 'a', seen()));
  const serve = (node: string, upForMs: number | null = null) =>
    serveChannel(sql, id, node, 10, { upForMs, upAgoMs: upForMs === null ? null : 0 });
  const later = (seconds: number) =>
    sql`
      update channel_nodes set since = since - make_interval(secs => ${seconds}), up_at = up_at - make_interval(secs => ${seconds})
      where channel_id = ${id}`;
  expect(await due()).toBe(false); // nobody serves it: nobody can say
  await serve('a', 0);
  await serve('b');
  await later(29);
  expect(await due()).toBe(false);
  await serve('a', 29_000);
  await later(20);
  // The one that had the session goes; that it had one is not forgotten with it.
  await leaveChannel(sql, id, 'a');
  expect(await due()).toBe(false);
  await later(11);
  expect(await turn()).toEqual([{ channelId: id, health: 'unhealthy', reason: 'no session for 30 seconds' }]);
  expect(office.directory.channel(id)).toMatchObject({ health: 'unhealthy', healthCause: 'no_session' });
  expect(await turn()).toEqual([]);

  await serve('b', 4000);
  expect(await due()).toBe(false);
  await serve('b', 5000);
  expect(await turn()).toEqual([{ channelId: id, health: 'healthy', reason: '' }]);
  expect(await due()).toBe(false);

  // A node that comes, or comes back (the database was away), has to try first; nobody judges a channel that is off or forced.
  await later(60);
  await sql`update channel_nodes set until = now() - interval '1 second' where channel_id = ${id}`;
  expect(await due()).toBe(false);
  await serve('b');
  expect(await due()).toBe(false);
  await later(31);
  expect(await due()).toBe(true);
  for (const settings of [{ enabled: false }, { enabled: true, forcedHealth: 'healthy' as const }]) {
    await change(office, (sql) => changeChannel(sql, office, id, settings));
    expect(await turn()).toEqual([]);
  }
});

test('what one node concludes counts if the channel is still in the state it saw; pauses double while it goes wrong', async () => {
  const { id } = await channel({ name: 'failing' });
  const { sql } = office.db;
  const known = () => office.directory.channel(id) as Channel;
  const failing = { health: 'unhealthy', cause: 'failures', reason: 'it fails' } as const;
  const settle = (seen: Channel, diagnosis: Parameters<typeof settleHealth>[3]) =>
    change(office, (sql) => settleHealth(sql, 'a', seen, diagnosis));
  const pause = async () => {
    const { healthProbeAt, healthAt } = await getChannel(sql, id);
    return healthProbeAt && Math.round((healthProbeAt.getTime() - healthAt.getTime()) / 1000);
  };
  const probe = async () => {
    await sql`update channels set health_probe_at = now() where id = ${id}`;
    return change(office, (sql) => changeDueHealth(sql, 'b', [known()]));
  };
  const healthy = known();
  expect(await settle(healthy, failing)).toEqual([{ channelId: id, health: 'unhealthy', reason: 'it fails' }]);
  expect(await settle(healthy, failing)).toEqual([]);
  expect(await getChannel(sql, id)).toMatchObject({ health: 'unhealthy', healthReason: 'it fails', healthBy: 'a' });
  expect(await pause()).toBe(30);

  expect(await probe()).toEqual([]); // without a session it cannot be tried
  await serveChannel(sql, id, 'a', 60, { upForMs: 0, upAgoMs: 0 });
  for (const seconds of [60, 120, 240, 480, 900, 900]) {
    expect(await probe()).toEqual([{ channelId: id, health: 'probing', reason: 'it fails' }]);
    expect(await pause()).toBeNull();
    await settle(known(), failing);
    expect(await pause()).toBe(seconds);
  }
  await probe();
  expect(await settle(known(), { health: 'healthy' })).toEqual([{ channelId: id, health: 'healthy', reason: '' }]);
  expect(await getChannel(sql, id)).toMatchObject({ health: 'healthy', healthReason: '', healthProbeAt: null });
  await settle(known(), failing); // at once again: it only seemed well
  expect(await pause()).toBe(900);
  await sql`update channels set health = 'healthy', health_at = now() - interval '901 seconds' where id = ${id}`;
  await change(office, (sql) => changeChannel(sql, office, id, {}));
  await settle(known(), failing);
  expect(await pause()).toBe(30);
});
