import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { startManagement, type TestManagement } from '../../../test/kit/management.ts';
import { createAccount, createSubscription } from '../catalogue/accounts.ts';
import { chunkIdOf } from '../model/ids.ts';
import { insertChunks } from './batches.ts';
import { changeChannel, createChannel } from '../catalogue/channels.ts';
import { changePool, createPool } from '../catalogue/pools.ts';
import { createProduct } from '../catalogue/products.ts';
import type { Tenancy } from '../config/directory.ts';
import { change } from '../config/management.ts';
import type { Carrier } from '../model/configuration.ts';
import { createNumberPlan, type NumberPlan } from '../numbers/number-plan.ts';
import { slicesOf } from '../intake/placement.ts';
import { claim, enqueue, putBack, takeLeases } from './queue.ts';
import { reroute } from './rerouting.ts';

let office: TestManagement;
let tenancy: Tenancy;
let numberPlan: NumberPlan;
const [sick, wide, narrow] = [1n, 2n, 3n] as const;
const mobile = 8613800138000n;
const telecom = 8618900138000n;
const at = new Date();
const day = '2026-11-22';
let batches = 0n;

beforeAll(async () => {
  office = await startManagement();
  numberPlan = createNumberPlan({ ...office, onFailure: expect.fail });
  const subscriptionId = await change(office, async (sql) => {
    for (const [id, carriers] of [
      [sick, ['mobile', 'telecom']],
      [wide, ['mobile', 'telecom']],
      [narrow, ['mobile']],
    ] as [bigint, Carrier[]][])
      await createChannel(sql, office, {
        id,
        name: String(id),
        protocol: 'cmpp',
        carriers,
        accessNumber: '10690001',
        secret: 'secret',
        settings: { host: '127.0.0.1', port: 1, spId: '901234', serviceId: 'HY', ratePerSecond: 100 },
      });
    await createPool(sql, { id: 1n, name: 'pool', channels: [] });
    const product = await createProduct(sql, { name: 'AIM', medium: 'aim', unit: 'yuan', poolId: 1n });
    const { account } = await createAccount(sql, office.box, { name: 'account' });
    return (await createSubscription(sql, office, { accountId: account.id, productId: product.id, priceE4: 1n })).subscription.id;
  });
  const found = office.directory.subscription(subscriptionId);
  if (!found) throw new Error('no subscription');
  tenancy = found;
});
afterAll(() => office.stop());

beforeEach(async () => {
  await office.db.sql`delete from dispatch_queue`;
  await pool(sick, wide, narrow);
  await force(sick, 'unhealthy');
  await force(wide, null);
});

const pool = (...channelIds: bigint[]) =>
  change(office, (sql) =>
    changePool(sql, 1n, { channels: channelIds.map((channelId) => ({ channelId, priority: Number(channelId), weight: 1 })) }),
  );
const force = (id: bigint, forcedHealth: 'unhealthy' | null) => change(office, (sql) => changeChannel(sql, office, id, { forcedHealth }));

/** Puts a chunk of these recipients in line on the sick channel. */
async function put(phones: bigint[]): Promise<bigint> {
  const id = chunkIdOf(++batches, 0);
  const { account, subscription } = tenancy;
  const common = { accountId: account.id, subscriptionId: subscription.id };
  await office.db.transaction(async (sql) => {
    await insertChunks(sql, [
      {
        id,
        ...common,
        day,
        segments: 1,
        priceE4: 1n,
        intercepted: false,
        review: false,
        phones,
        forms: null,
        parameters: null,
        codes: null,
        verdicts: null,
      },
    ]);
    const expiresAt = new Date(at.getTime() + 3600_000);
    await enqueue(sql, { ...common, class: 1, readyAt: at, expiresAt }, [{ channelId: sick, chunkId: id, day, n: phones.length }]);
  });
  return id;
}

const queue = async () =>
  (
    await office.db.sql<{ id: bigint; channel: bigint }[]>`
      select chunk_id as id, channel_id as channel from dispatch_queue order by chunk_id`
  ).map(({ id, channel }) => [id, channel]);

it('what waits goes to the best channel that serves all of its recipients', async () => {
  const [both, only] = [await put([mobile, telecom]), await put([mobile])];
  expect(await reroute({ ...office, numberPlan }, sick)).toBe(3);
  expect(await queue()).toEqual([
    [both, wide],
    [only, wide],
  ]);
});

it('what no other channel serves as a whole, stays, and does not delay what is behind it', async () => {
  await force(wide, 'unhealthy');
  const stuck: bigint[] = [];
  for (let n = 0; n < 150; n++) stuck.push(await put([mobile, telecom]));
  const only = await put([mobile]);
  expect(await reroute({ ...office, numberPlan }, sick)).toBe(1);
  expect(await queue()).toEqual([...stuck.map((id) => [id, sick]), [only, narrow]]);
});

it('several nodes at once move each chunk once', async () => {
  const ids: bigint[] = [];
  for (let n = 0; n < 230; n++) ids.push(await put([mobile, telecom]));
  const moved = await Promise.all([1, 2, 3].map(() => reroute({ ...office, numberPlan }, sick)));
  expect(moved.reduce((sum, n) => sum + n)).toBe(460);
  expect(await queue()).toEqual(ids.map((id) => [id, wide]));
});

it('a chunk that is claimed stays; put back it moves, and takes along how far it may have been sent', async () => {
  const id = await put([mobile, telecom, mobile]);
  const [lease] = await office.db.transaction((sql) =>
    takeLeases(sql, { channelId: sick, connections: 1, most: 1, node: 'a', leaseSeconds: 60 }),
  );
  if (!lease) throw new Error('no lease');
  await office.db.transaction((sql) => claim(sql, { lease, class: 1, limit: 1, most: 500, budget: 128, at }));
  expect(await reroute({ ...office, numberPlan }, sick)).toBe(0);
  expect(await queue()).toEqual([[id, sick]]);
  await putBack(office.db.sql, sick, [{ lease, chunkId: id, upto: 2 }]);
  expect(await reroute({ ...office, numberPlan }, sick)).toBe(3);
  expect(await queue()).toEqual([[id, wide]]);
  const [other] = await office.db.transaction((sql) =>
    takeLeases(sql, { channelId: wide, connections: 1, most: 1, node: 'a', leaseSeconds: 60 }),
  );
  if (!other) throw new Error('no lease');
  const claims = await office.db.transaction((sql) => claim(sql, { lease: other, class: 1, limit: 1, most: 500, budget: 1, at }));
  expect(claims).toMatchObject([{ chunkId: id, n: 3, doubtUpto: 2, reservedUpto: 2 }]);
});

it('what moves goes to the end of its account’s line', async () => {
  const [first, second] = [await put([mobile]), await put([mobile])];
  await reroute({ ...office, numberPlan }, sick);
  const third = await put([mobile]);
  await reroute({ ...office, numberPlan }, sick);
  const rows = await office.db.sql<{ id: bigint }[]>`select chunk_id as id from dispatch_queue where channel_id = ${wide} order by rank`;
  expect(rows.map(({ id }) => id)).toEqual([first, second, third]);
});

it('recipients that other channels serve differently are in different chunks from the beginning', async () => {
  await force(sick, null);
  const phones = ['13800138000', '18900138000', '13800138001'].map((written) => numberPlan.read(written));
  const price = { segments: 1, priceE4: 1n };
  const judged = { phones, written: [], values: [], verdicts: phones.map(() => null) };
  const indexes = () => slicesOf(office.directory, tenancy, judged, () => price).map((slice) => slice.indexes);
  await pool(sick, narrow);
  expect(indexes()).toEqual([[0, 2], [1]]);
  await pool(sick, wide);
  expect(indexes()).toEqual([[0, 1, 2]]);
});

it('what was screened a moment before its channel became unhealthy is put in line there', async () => {
  await pool(sick);
  const judged = { phones: [numberPlan.read('13800138000')], written: [], values: [], verdicts: [null] };
  const slices = slicesOf(office.directory, tenancy, judged, () => ({ segments: 1, priceE4: 1n }));
  expect(slices).toMatchObject([{ kind: 'send', channelId: sick }]);
});
