import { afterAll, beforeAll, expect, it } from 'vitest';
import { startManagement, type TestManagement } from '../../test/management.ts';
import { claim, enqueue, type Lease, renewLeases, takeLeases } from './queue.ts';

const channelId = 7n;
let management: TestManagement;

beforeAll(async () => {
  management = await startManagement();
});

afterAll(() => management.stop());

const at = new Date();
const take = (node: string, most = 1) =>
  management.db.transaction((sql) => takeLeases(sql, { channelId, connections: 2, most, node, leaseSeconds: 10 }));
const claimWith = (lease: Lease) => management.db.transaction((sql) => claim(sql, { lease, class: 1, limit: 1, budget: 128, at }));
const letExpire = ({ connection }: Lease) =>
  management.db
    .sql`update channel_leases set until = now() - interval '1 second' where channel_id = ${channelId} and connection = ${connection}`;

it('nothing is claimed under a lease that has run out or was taken by another node', async () => {
  const order = { accountId: 1n, subscriptionId: 1n, class: 1, readyAt: at, expiresAt: new Date(at.getTime() + 3600_000) };
  await management.db.transaction((sql) => enqueue(sql, order, [{ channelId, chunkId: 64n, n: 10 }]));
  const [old] = await take('a');
  if (!old) throw new Error('no lease');
  await letExpire(old);
  expect(await claimWith(old)).toEqual([]);
  const [current] = await take('b');
  expect(current).toMatchObject({ connection: old.connection, epoch: old.epoch + 1n });
  expect(await claimWith(old)).toEqual([]);
  expect(current && (await claimWith(current))).toMatchObject([{ chunkId: 64n, reservedUpto: 10 }]);
});

it('only the leases that their node still works under are prolonged', async () => {
  const [first, second] = await take('c', 2).then((leases) => (leases.length === 2 ? leases : [...leases, ...leases]));
  if (!first || !second) throw new Error('no lease');
  const renewed = await renewLeases(management.db.sql, channelId, 'c', [first], 10);
  expect(renewed).toEqual([first]);
});
