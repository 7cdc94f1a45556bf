/**
 * A carrier at its worst: it breaks connections in the middle of the window, leaves submits unanswered, throttles, and its reports come
 * twice, early, out of order or never. Every message still ends once, is reported once, and is charged if it was delivered.
 */
import { expect, it } from 'vitest';
import { clientOf, createPuller, plainNumbers, startPlatform, tally, until } from '../kit/platform.ts';

const priceE4 = 500n;
const balanceE4 = 100_000_000n;
const hour = 3600_000;

it('2,000 messages through every fault at once end once each, with the money right', async ({ onTestFinished }) => {
  const platform = await startPlatform({ connections: 2, window: 32, ratePerSecond: 3000 });
  onTestFinished(() => platform.stop());
  const { carrier } = platform;
  const customer = await platform.customer({ balanceE4, priceE4 });
  const client = clientOf(await platform.startApp(), customer);
  await until('the connections are up', () => carrier.sessions === 2);
  carrier.faults = {
    seed: 20_261_122,
    throttleShare: 0.02,
    responseDelayMs: 5,
    dropEvery: 300,
    unansweredShare: 0.01,
    duplicateReportShare: 0.2,
    earlyReportShare: 0.2,
    reorderReportShare: 0.2,
    lostReportShare: 0.1,
  };
  const phones = plainNumbers(2000);
  const accepted: string[] = [];
  for (let from = 0; from < phones.length; from += 500) {
    const { code, msgId } = await client.submit(phones.slice(from, from + 500));
    expect(code).toBe(0);
    accepted.push(...phones.slice(from, from + 500).map((phone) => `${msgId}/${phone}`));
  }
  const puller = createPuller(client);
  await until('almost everything was sent', () => carrier.counters.accepted >= 1990, 60_000);
  // What is never answered would be waited for a minute: a last break tells at once.
  carrier.faults = { lostReportShare: 0.1, duplicateReportShare: 0.2 };
  const { sql } = platform.management.db;
  await until(
    'every message was sent',
    async () => {
      carrier.dropConnections();
      await until('the connections are up', () => carrier.sessions === 2);
      const [row] = await sql<{ n: number }[]>`select count(*)::int as n from messages`;
      return row?.n === phones.length;
    },
    60_000,
  );
  await until('every report was taken', () => carrier.owed === 0);
  const [row] = await sql<{ open: number }[]>`select count(*)::int as open from messages where status = 1`;
  // About a tenth of the reports is lost.
  expect(row?.open).toBeGreaterThan(100);
  expect(row?.open).toBeLessThan(400);
  expect(await platform.expireOverdue(new Date(Date.now() + 73 * hour))).toBeGreaterThan(100);
  await puller.waitFor(phones.length);
  await until('nothing more comes', async () => (await client.reports()).length === 0);
  await puller.stop();

  expect(puller.rows.map(({ msgId, mobile }) => `${msgId}/${mobile}`).sort()).toEqual(accepted.sort());
  const statuses = tally(puller.rows.map(({ status }) => status));
  expect([...statuses.keys()].filter((status) => !['DELIVRD', 'EXPIRED', 'UNKNOWN'].includes(status))).toEqual([]);
  const delivered = statuses.get('DELIVRD') ?? 0;
  expect(delivered).toBeGreaterThan(1500);
  expect(await client.balanceE4()).toBe(balanceE4 - BigInt(delivered) * priceE4);
  // Nobody was forgotten.
  expect(new Set(platform.shown.map(({ to }) => to)).size).toBe(phones.length);
  expect(await platform.audit()).toEqual([]);
}, 180_000);
