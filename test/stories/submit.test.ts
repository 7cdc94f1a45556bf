/**
 * Submits that are concurrent, repeated, not covered by the balance, or whose commit has an unknown outcome, and pulls of the same kind:
 * the answer always agrees with the stored rows.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { App } from '../../src/app.ts';
import { createChannel } from '../../src/core/catalogue/channels.ts';
import { createPool } from '../../src/core/catalogue/pools.ts';
import { changeProduct } from '../../src/core/catalogue/products.ts';
import { change } from '../../src/core/config/management.ts';
import { startMeddler } from '../kit/meddler.ts';
import { type Client, type Customer, clientOf, type Platform, plainNumbers, startPlatform } from '../kit/platform.ts';

const priceE4 = 500n;

let platform: Platform;
let app: App;

beforeAll(async () => {
  platform = await startPlatform();
  app = await platform.startApp({ roles: ['api'] });
});

afterAll(async () => {
  expect(await platform.audit()).toEqual([]);
  await platform.stop();
});

async function batchesOf({ accountId }: Customer): Promise<string[]> {
  const rows = await platform.management.db.sql<{ id: bigint }[]>`select id from batches where account_id = ${accountId} order by id`;
  return rows.map(({ id }) => String(id));
}

it('submits at once over several channels in any company wait for each other and for nothing else', async () => {
  const { management } = platform;
  const customer = await platform.customer();
  const channels = [21n, 22n];
  await change(management, async (sql) => {
    for (const [index, id] of channels.entries())
      await createChannel(sql, management, {
        id,
        name: `nowhere ${id}`,
        protocol: 'cmpp',
        carriers: index === 0 ? ['mobile'] : ['unicom'],
        accessNumber: `10690${id}`,
        secret: 'nowhere',
        settings: { host: '127.0.0.1', port: 1, spId: '901234', serviceId: 'STORY', ratePerSecond: 1 },
      });
    const pool = await createPool(sql, { name: 'two', channels: channels.map((channelId) => ({ channelId, priority: 1, weight: 1 })) });
    await changeProduct(sql, customer.productId, { poolId: pool.id });
  });
  const client = clientOf(app, customer);
  const unicom = (count: number) => plainNumbers(count).map((number) => number.replace(/^1[0-9]{2}/, '186'));
  const began = Date.now();
  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, i) => client.submit(i % 2 ? [...plainNumbers(2), ...unicom(2)] : unicom(3), { key: `mixed ${i}` })),
  );
  expect(new Set(answers.map(({ code }) => code))).toEqual(new Set([0]));
  // A deadlock is found after a second, and a storm of them took half a minute.
  expect(Date.now() - began).toBeLessThan(5000);
});

describe('money', () => {
  it('50 submits at once for a balance that covers 10 are accepted ten times and overdraw nothing', async () => {
    const customer = await platform.customer({ balanceE4: 10n * priceE4, priceE4 });
    const client = clientOf(app, customer);
    const answers = await Promise.all(plainNumbers(50).map((number) => client.submit([number])));
    const accepted = answers.filter(({ code }) => code === 0).map(({ msgId }) => msgId);
    expect(accepted).toHaveLength(10);
    expect(answers.filter(({ code }) => code === 10011)).toHaveLength(40);
    expect(await client.balanceE4()).toBe(0n);
    expect(await batchesOf(customer)).toEqual(accepted.sort());
  });

  it('the same from two nodes and in large submits', async () => {
    const customer = await platform.customer({ balanceE4: 10n * 1200n * priceE4, priceE4 });
    const other = await platform.startApp({ roles: ['api'] });
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_, i) => clientOf(i % 2 ? app : other, customer).submit(plainNumbers(1200))),
    );
    expect(answers.filter(({ code }) => code === 0)).toHaveLength(10);
    expect(await clientOf(app, customer).balanceE4()).toBe(0n);
    expect(await batchesOf(customer)).toHaveLength(10);
    await other.stop();
  });

  it('a submit that cannot be paid for does not take down those it shared a transaction with, and is told its own price', async () => {
    const customer = await platform.customer({ balanceE4: 20n * priceE4, priceE4 });
    const client = clientOf(app, customer);
    const numbers = plainNumbers(10);
    const [dear, ...cheap] = await Promise.all([client.submit(plainNumbers(21)), ...numbers.map((number) => client.submit([number]))]);
    expect(dear).toMatchObject({ code: 10011, msg: expect.stringContaining('本次需 1.05') as string });
    expect(cheap.map(({ code }) => code)).toEqual(numbers.map(() => 0));
    expect(await client.balanceE4()).toBe(10n * priceE4);
  });
});

describe('repeats', () => {
  it('ten submits at once with one Idempotency-Key make one batch and get the same answer', async () => {
    const customer = await platform.customer({ priceE4 });
    const client = clientOf(app, customer);
    const before = await client.balanceE4();
    const mobiles = ['not-a', ...plainNumbers(3)].map((mobile, i) => (i === 0 ? '123' : mobile));
    const answers = await Promise.all(Array.from({ length: 10 }, () => client.submit(mobiles, { key: 'order 1' })));
    const [first] = answers;
    expect(first).toMatchObject({ code: 0, failed: { '123': 'WL:CWHM' } });
    for (const answer of answers) expect(answer).toEqual(first);
    expect(await batchesOf(customer)).toEqual([first?.msgId]);
    expect(await client.balanceE4()).toBe(before - 3n * priceE4);
    expect(await client.submit(plainNumbers(1), { key: 'order 1' })).toMatchObject({ code: 10001 });
  });
});

describe('a connection that breaks while committing', () => {
  let meddler: Awaited<ReturnType<typeof startMeddler>>;
  let node: App;
  let customer: Customer;
  let client: Client;

  beforeAll(async () => {
    meddler = await startMeddler(platform.databaseUrl);
    node = await platform.startApp({ roles: ['api'], databaseUrl: meddler.url });
    customer = await platform.customer({ priceE4 });
    client = clientOf(node, customer);
  });

  afterAll(async () => {
    await node.stop();
    await meddler.close();
  });

  for (const how of ['answer lost', 'delayed and lost', 'never arrives'] as const)
    for (const key of [undefined, `key of ${how}`])
      it(`is found out about: the answer agrees with what is stored (${how}${key === undefined ? '' : ', with an Idempotency-Key'})`, async () => {
        const before = await batchesOf(customer);
        const balance = await client.balanceE4();
        await meddler.meddle(how, 'batches');
        const answer = await client.submit(['123', ...plainNumbers(3)], key === undefined ? {} : { key });
        expect(answer).toMatchObject({ code: 0, failed: { '123': 'WL:CWHM' } });
        expect(meddler.isDone()).toBe(true);
        await sleep(400);
        expect(await batchesOf(customer)).toEqual([...before, answer.msgId]);
        expect(await client.balanceE4()).toBe(balance - 3n * priceE4);
        if (key !== undefined) expect(await client.submit(['123', ...plainNumbers(3)], { key })).toEqual(answer);
      });

  it('is found out about also when the database is away for longer than a lease', async () => {
    const before = await batchesOf(customer);
    await meddler.meddle('answer lost', 'batches', { awayMs: 11_000 });
    const answer = await client.submit(plainNumbers(3));
    expect(answer).toMatchObject({ code: 0 });
    expect(await batchesOf(customer)).toEqual([...before, answer.msgId]);
  }, 40_000);

  for (const how of ['answer lost', 'delayed and lost'] as const)
    it(`takes no reports away with it: a pull that was committed is answered with its rows (${how})`, async () => {
      while ((await client.reports()).length > 0); // of the submits before
      const { msgId } = await client.submit(['123', '456', ...plainNumbers(1)]);
      await meddler.meddle(how, 'parcels');
      expect((await client.reports()).map((row) => [row.msgId, row.mobile])).toEqual([
        [msgId, '123'],
        [msgId, '456'],
      ]);
      expect(meddler.isDone()).toBe(true);
      expect(await client.reports()).toEqual([]);
    });

  it('before the commit arrives leaves the reports of a pull to the next one', async () => {
    const { msgId } = await client.submit(['123', ...plainNumbers(1)]);
    await meddler.meddle('never arrives', 'parcels');
    await expect(client.reports()).rejects.toThrow('10000');
    expect((await client.reports()).map((row) => [row.msgId, row.mobile])).toEqual([[msgId, '123']]);
  });
});
