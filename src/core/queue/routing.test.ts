import { afterAll, beforeAll, expect, it } from 'vitest';
import { startManagement, type TestManagement } from '../../../test/kit/management.ts';
import { changeChannel, createChannel } from '../catalogue/channels.ts';
import { changePool, createPool } from '../catalogue/pools.ts';
import { createProduct } from '../catalogue/products.ts';
import { change } from '../config/management.ts';
import type { Channel, Product } from '../model/configuration.ts';
import { pick, route } from './routing.ts';

let office: TestManagement;
let product: Product;
const ids = { first: 1n, second: 2n, third: 3n };

beforeAll(async () => {
  office = await startManagement();
  product = await change(office, async (sql) => {
    for (const [name, id] of Object.entries(ids))
      await createChannel(sql, office, {
        id,
        name,
        protocol: 'cmpp',
        carriers: ['mobile', 'unicom'],
        accessNumber: '10690001',
        secret: 'secret',
        settings: { host: '127.0.0.1', port: 1, spId: '901234', serviceId: 'HY', ratePerSecond: 100 },
      });
    await createPool(sql, { id: 1n, name: 'pool', channels: [] });
    return createProduct(sql, { name: 'AIM', medium: 'aim', unit: 'yuan', poolId: 1n });
  });
});
afterAll(() => office.stop());

const members = (...all: (readonly [bigint, number, number])[]) =>
  change(office, (sql) => changePool(sql, 1n, { channels: all.map(([channelId, priority, weight]) => ({ channelId, priority, weight })) }));
const health = (id: bigint, wanted: Channel['health']) =>
  change(office, async (sql) => {
    await changeChannel(sql, office, id, {}); // raises the version
    await sql`update channels set health = ${wanted} where id = ${id}`;
  });
const routed = () => route(office.directory, product, { carriers: ['mobile'], province: null });

/** How many of a hundred even throws each channel gets. */
function shares(): Record<string, number> {
  const found = routed();
  if (found.kind !== 'channels') throw new Error(found.kind);
  const counts: Record<string, number> = {};
  for (let n = 0; n < 100; n++) {
    const { name } = pick(found.candidates, (n + 0.5) / 100);
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

it('the lowest priority number goes first, and among equals the weight decides', async () => {
  await members([ids.first, 1, 1], [ids.second, 1, 3], [ids.third, 2, 100]);
  expect(shares()).toEqual({ first: 25, second: 75 });
});

it('an unhealthy channel gets nothing; the next priority takes its place when all of one are', async () => {
  await members([ids.first, 1, 1], [ids.second, 1, 3], [ids.third, 2, 100]);
  await health(ids.second, 'unhealthy');
  expect(shares()).toEqual({ first: 100 });
  await health(ids.first, 'unhealthy');
  expect(shares()).toEqual({ third: 100 });
  await health(ids.third, 'unhealthy');
  expect(routed()).toMatchObject({ kind: 'unhealthy', poolId: 1n });
  for (const id of Object.values(ids)) await health(id, 'healthy');
});

it('a channel that is probed gets a tenth of its weight beside the others, and all if it is alone', async () => {
  await members([ids.first, 1, 10], [ids.second, 2, 9]);
  await health(ids.first, 'probing');
  expect(shares()).toEqual({ first: 10, second: 90 });
  await health(ids.second, 'unhealthy');
  expect(shares()).toEqual({ first: 100 });
  await health(ids.second, 'healthy');
  await members([ids.first, 3, 10], [ids.second, 2, 9]); // it would get nothing if it were well, either
  expect(shares()).toEqual({ second: 100 });
  await health(ids.first, 'healthy');
});
