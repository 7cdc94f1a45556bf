import { afterAll, beforeAll, expect, it } from 'vitest';
import { startManagement, type TestManagement } from '../../test/management.ts';
import { claim, enqueue, type Lease, neverClaimed, putBack, renewLeases, standing, takeLeases } from './queue.ts';

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

it('nothing is claimed or recorded under a lease that was taken by another node', async () => {
  const order = { accountId: 1n, subscriptionId: 1n, class: 1, readyAt: at, expiresAt: new Date(at.getTime() + 3600_000) };
  await management.db.transaction((sql) => enqueue(sql, order, [{ channelId, chunkId: 64n, n: 10 }]));
  const [old] = await take('a');
  if (!old) throw new Error('no lease');
  await letExpire(old);
  expect(await claimWith(old)).toEqual([]);
  const [current] = await take('b');
  expect(current).toMatchObject({ connection: old.connection, epoch: old.epoch + 1n });
  expect(await claimWith(old)).toEqual([]);
  const standingOf = (lease: Lease) => management.db.transaction((sql) => standing(sql, channelId, [lease]));
  expect([...(await standingOf(old))]).toEqual([]);
  expect(current && [...(await standingOf(current))]).toEqual([current]);
  expect(current && (await claimWith(current))).toMatchObject([{ chunkId: 64n, reservedUpto: 10 }]);
});

it('a chunk that was claimed before is known as such, also if nothing of it was reserved', async () => {
  const order = { accountId: 1n, subscriptionId: 1n, class: 0, readyAt: at, expiresAt: new Date(at.getTime() + 3600_000) };
  await management.db.transaction((sql) => enqueue(sql, order, [{ channelId, chunkId: 128n, n: 10 }]));
  const [lease] = await take('d');
  if (!lease) throw new Error('no lease');
  const claimNothing = () => management.db.transaction((sql) => claim(sql, { lease, class: 0, limit: 1, budget: 0, at }));
  expect(await claimNothing()).toMatchObject([{ doubtUpto: neverClaimed, reservedUpto: 0 }]);
  await putBack(management.db.sql, channelId, [{ lease, chunkId: 128n, upto: 0 }]);
  expect(await claimNothing()).toMatchObject([{ doubtUpto: 0, reservedUpto: 0 }]);
});

it('only the leases that their node still works under are prolonged', async () => {
  await management.db.sql`update channel_leases set until = '-infinity' where channel_id = ${channelId}`;
  const [kept, given] = await take('c', 2);
  if (!kept || !given) throw new Error('no leases');
  const untilOf = async ({ connection }: Lease) => {
    const [row] = await management.db.sql<{ until: Date }[]>`
      select until from channel_leases where channel_id = ${channelId} and connection = ${connection}`;
    return row?.until.getTime() ?? 0;
  };
  const before = await untilOf(given);
  expect(await renewLeases(management.db.sql, channelId, 'c', [kept.connection], 20)).toEqual([kept]);
  expect(await untilOf(given)).toBe(before);
  expect(await untilOf(kept)).toBeGreaterThan(before);
});
