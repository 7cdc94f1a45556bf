/** The cost of runs, by what a product charges for, and for every fate of a message. */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { App } from '../../src/app.ts';
import { messagesOfBatch } from '../../src/core/model/ids.ts';
import { clientOf, createPuller, numberOf, type Platform, startPlatform, until } from '../kit/platform.ts';

const priceE4 = 300n;
const balanceE4 = 10_000_000n;
const day = 24 * 3600_000;

let platform: Platform;
let app: App;

beforeAll(async () => {
  platform = await startPlatform({ carrier: { slowReportDelayMs: 100 } });
  app = await platform.startApp();
});

afterAll(() => platform.stop());

/** Whether a message of this fate was accepted by the carrier, and delivered. */
const fates: Record<string, { accepted: boolean; delivered: boolean }> = {
  '0001': { accepted: true, delivered: false },
  '0002': { accepted: true, delivered: false },
  '0004': { accepted: true, delivered: false },
  '0005': { accepted: false, delivered: false },
  '0007': { accepted: true, delivered: false },
  '0008': { accepted: true, delivered: true },
  '0009': { accepted: true, delivered: true },
  '0010': { accepted: true, delivered: true },
  '7777': { accepted: true, delivered: true },
};

async function runOf(chargeOn: 'accepted' | 'delivered', chosen: readonly string[], segments: number): Promise<void> {
  const customer = await platform.customer({ balanceE4, priceE4, chargeOn });
  const client = clientOf(app, customer);
  const content = `【鸿雁】${'长'.repeat((segments - 1) * 67)} $url$`;
  const mobiles = chosen.map((fate, n) => numberOf(fate, n));
  const { code, msgId } = await client.submit(mobiles, { content });
  expect(code).toBe(0);
  const puller = createPuller(client);
  await puller.waitFor(mobiles.filter((mobile) => !mobile.endsWith('0007')).length);
  await until('the silent ones are recorded too', async () => {
    const { sql } = platform.management.db;
    const [row] = await sql<{ n: number }[]>`
      select count(*)::int as n from messages where account_id = ${customer.accountId} and id ${messagesOfBatch(sql, BigInt(msgId))}`;
    return row?.n === mobiles.length;
  });
  await puller.pause();
  await platform.expireOverdue(new Date(Date.now() + 4 * day));
  puller.goOn(client);
  await puller.waitFor(mobiles.length);
  await puller.stop();
  let cost = 0n;
  for (const { mobile, price } of puller.rows) {
    const isPaid = fates[mobile.slice(-4)]?.[chargeOn] ?? false;
    expect(`${mobile} ${price}`).toBe(`${mobile} ${isPaid ? String((Number(priceE4) * segments) / 10_000) : '0'}`);
    if (isPaid) cost += priceE4 * BigInt(segments);
  }
  expect(await client.balanceE4()).toBe(balanceE4 - cost);
}

it.each(['accepted', 'delivered'] as const)('a product that charges for what is %s charges for nothing else', async (chargeOn) => {
  for (const segments of [1, 2]) await runOf(chargeOn, Object.keys(fates), segments);
  expect(await platform.audit()).toEqual([]);
});

it('whatever becomes of the messages of a run, the books agree', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('accepted' as const, 'delivered' as const),
      fc.array(fc.constantFrom(...Object.keys(fates)), { minLength: 1, maxLength: 60 }),
      fc.integer({ min: 1, max: 3 }),
      async (chargeOn, chosen, segments) => {
        await runOf(chargeOn, chosen, segments);
        expect(await platform.audit()).toEqual([]);
      },
    ),
    { numRuns: 8 },
  );
}, 40_000);
