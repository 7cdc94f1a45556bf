/**
 * Reports, from the carrier to the customer's pull: early, twice, late, without a message, for the segments of long messages in any order.
 * Where the simulated gateway cannot do this, the test calls the core as a connection would.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { App } from '../../src/app.ts';
import { messageIdInBatch, messagesOfBatch } from '../../src/core/model/ids.ts';
import { createReports } from '../../src/core/outcome/reports.ts';
import {
  type Client,
  type Customer,
  clientOf,
  createPuller,
  numberOf,
  type Platform,
  plainNumbers,
  startPlatform,
  until,
} from '../kit/platform.ts';

const hour = 3600_000;

let platform: Platform;
let app: App;
let customer: Customer;
let client: Client;
let ahead = 0;
const clock = () => new Date(Date.now() + ahead);

beforeAll(async () => {
  platform = await startPlatform();
  customer = await platform.customer();
  app = await platform.startApp({ clock });
  client = clientOf(app, customer);
});

afterAll(() => platform.stop());

async function restart(): Promise<void> {
  await app.stop();
  app = await platform.startApp({ clock });
  client = clientOf(app, customer);
}

/** Pulls until so many rows have come. */
async function pulled(count: number) {
  const puller = createPuller(client);
  await puller.waitFor(count);
  await sleep(50);
  await puller.stop();
  return puller.rows;
}

/** A message that the carrier has accepted and will never report: numbers of this fate are reported by the test alone. */
async function silent(n: number, content?: string): Promise<{ msgId: string; mobile: string; carrierIds: string[] }> {
  const mobile = numberOf('0007', n);
  const { msgId } = await client.submit([mobile], content === undefined ? {} : { content });
  const id = messageIdInBatch(BigInt(msgId), 0);
  const { sql } = platform.management.db;
  await until('the message is recorded as sent', async () => (await sql`select 1 from messages where id = ${id}`).length > 0);
  const rows = await sql<{ carrierId: string }[]>`
    select carrier_id as "carrierId", 0 as seg from messages where id = ${id} and carrier_id is not null
    union all
    select carrier_id, seg from segments where id = ${id} order by seg`;
  return { msgId, mobile, carrierIds: rows.map(({ carrierId }) => carrierId) };
}

/** What a connection passes on when these reports arrive together. */
async function report(...reports: [carrierId: string | undefined, code: string][]): Promise<void> {
  await createReports({ db: platform.management.db, directory: platform.management.directory, clock }).receive(
    reports.map(([carrierId = '', code]) => ({
      channelId: platform.channelId,
      carrierId,
      code,
      delivered: code === 'DELIVRD',
      phone: '',
      sent: null,
    })),
  );
}

async function timeline(msgId: string) {
  const id = messageIdInBatch(BigInt(msgId), 0);
  const { sql } = platform.management.db;
  const [message] = await sql<{ code: string | null; cost: bigint | null }[]>`select code, cost_e4 as cost from messages where id = ${id}`;
  const late = await sql<{ code: string }[]>`select code from late_reports where id = ${id} order by at`;
  return { code: message?.code, cost: message?.cost, late: late.map(({ code }) => code) };
}

it('a report that arrives before its submit response is kept and applied', async () => {
  const mobiles = [0, 1, 2, 3, 4].map((n) => numberOf('0010', n));
  await client.submit(mobiles);
  expect((await pulled(5)).map(({ mobile, status }) => `${mobile} ${status}`).sort()).toEqual(mobiles.map((mobile) => `${mobile} DELIVRD`));
});

it('a report that comes twice ends its message once; the second is kept in the timeline', async () => {
  const { msgId } = await client.submit([numberOf('0009')]);
  expect(await pulled(1)).toMatchObject([{ msgId, status: 'DELIVRD' }]);
  await until('both have come', async () => (await timeline(msgId)).late.length === 1);
  expect(await timeline(msgId)).toEqual({ code: 'DELIVRD', cost: 500n, late: ['DELIVRD'] });
  expect(await client.reports()).toEqual([]);
});

it('a report that comes again after a restart of the node changes nothing', async () => {
  const { msgId, carrierIds } = await silent(1);
  await report([carrierIds[0], 'DELIVRD']);
  expect(await pulled(1)).toMatchObject([{ msgId, status: 'DELIVRD', price: '0.05' }]);
  await restart();
  await report([carrierIds[0], 'UNDELIV'], [carrierIds[0], 'UNDELIV']);
  expect(await timeline(msgId)).toMatchObject({ code: 'DELIVRD', cost: 500n, late: ['UNDELIV', 'UNDELIV'] });
  expect(await client.reports()).toEqual([]);
});

it('reports of messages that another process has sent are applied after a restart', async () => {
  const mobiles = [10, 11, 12].map((n) => numberOf('0008', n));
  const { msgId } = await client.submit(mobiles);
  await until('they are sent', async () => {
    const rows = await platform.management.db
      .sql`select 1 from messages where id ${messagesOfBatch(platform.management.db.sql, BigInt(msgId))} and status = 1`;
    return rows.length === mobiles.length;
  });
  await restart();
  expect((await pulled(3)).map(({ mobile }) => mobile).sort()).toEqual(mobiles);
});

it('a report for an id that nobody knows is kept for the operator, and applied once the message is there', async () => {
  await report(['stray', 'DELIVRD']);
  const stored = () => platform.management.db.sql<{ carrierId: string }[]>`select carrier_id as "carrierId" from orphan_reports`;
  expect(await stored()).toMatchObject([{ carrierId: 'stray' }]);

  // The row comes later: what a node sent just before it died is recorded by nobody, here by hand.
  const { msgId } = await silent(2);
  await platform.management.db.sql`update messages set carrier_id = 'stray' where id = ${messageIdInBatch(BigInt(msgId), 0)}`;
  expect(await pulled(1)).toMatchObject([{ msgId, status: 'DELIVRD' }]);
  expect(await stored()).toEqual([]);
});

const long = `【鸿雁】${'很长的短信'.repeat(30)} $url$`;

it('a long message is delivered when all its segments are, in whatever order they are reported, and makes one row', async () => {
  const { msgId, carrierIds } = await silent(3, long);
  expect(carrierIds.length).toBeGreaterThanOrEqual(3);
  const [last, ...rest] = carrierIds.toReversed();
  await report([last, 'DELIVRD']);
  expect((await timeline(msgId)).code).toBeNull();
  await report(...rest.map((id): [string, string] => [id, 'DELIVRD']));
  expect(await pulled(1)).toMatchObject([{ msgId, status: 'DELIVRD', price: `${(5 * carrierIds.length) / 100}` }]);
  expect(await timeline(msgId)).toMatchObject({ code: 'DELIVRD', late: [] });
});

it('a long message ends at its first failing segment; what is said of the others afterwards changes nothing', async () => {
  const { msgId, carrierIds } = await silent(4, long);
  const [first, second, ...rest] = carrierIds;
  await report([second, 'MK:0001']);
  expect(await pulled(1)).toMatchObject([{ msgId, status: 'MK:0001', price: '0' }]);
  await report([first, 'UNDELIV'], ...rest.map((id): [string, string] => [id, 'DELIVRD']));
  expect(await timeline(msgId)).toMatchObject({ code: 'MK:0001', cost: 0n });
  expect((await timeline(msgId)).late).toHaveLength(carrierIds.length - 1);
  expect(await client.reports()).toEqual([]);
});

it('when several segments fail in one go the first of them decides', async () => {
  const { msgId, carrierIds } = await silent(5, long);
  await report([carrierIds[2], 'REJECTD'], [carrierIds[1], 'UNDELIV'], [carrierIds[0], 'DELIVRD']);
  expect(await pulled(1)).toMatchObject([{ msgId, status: 'UNDELIV' }]);
});

it('a message without a report for 72 hours expires and costs nothing; a report after that is kept and changes nothing', async () => {
  const { msgId, carrierIds } = await silent(6);
  const before = await client.balanceE4();
  await platform.expireOverdue(new Date(Date.now() + 71 * hour));
  expect(await client.reports()).toEqual([]);
  await platform.expireOverdue(new Date(Date.now() + 73 * hour));
  expect(await client.reports()).toMatchObject([{ msgId, status: 'EXPIRED', price: '0' }]);
  expect(await client.balanceE4()).toBe(before + 500n);
  // The clock that ended it was ahead of the one that sees the report.
  await report([carrierIds[0], 'DELIVRD']);
  expect(await timeline(msgId)).toEqual({ code: 'EXPIRED', cost: 0n, late: ['DELIVRD'] });
  expect(await client.reports()).toEqual([]);
  expect(await client.balanceE4()).toBe(before + 500n);
});

it('a message expires also when no janitor ran for a week after it was due', async () => {
  const { msgId } = await silent(7);
  await platform.expireOverdue(new Date(Date.now() + 10 * 24 * hour));
  expect(await client.reports()).toMatchObject([{ msgId, status: 'EXPIRED' }]);
});

it('four pullers at once over 10,000 reports get each row once', async () => {
  const { msgId, code } = await client.submit(plainNumbers(10_000));
  expect(code).toBe(0);
  await until(
    'all reports wait',
    async () => {
      const [row] = await platform.management.db.sql<{ n: number }[]>`select coalesce(sum(cardinality(indexes)), 0)::int as n from parcels`;
      return row?.n === 10_000;
    },
    30_000,
  );
  const pullers = [1, 2, 3, 4].map(() => createPuller(client));
  await until('all is pulled', () => pullers.reduce((sum, { rows }) => sum + rows.length, 0) >= 10_000);
  await Promise.all(pullers.map((puller) => puller.stop()));
  const mobiles = pullers.flatMap(({ rows }) => rows.filter((row) => row.msgId === msgId).map(({ mobile }) => mobile));
  expect(mobiles.sort()).toEqual(plainNumbers(10_000).sort());
  expect(await client.reports()).toEqual([]);
}, 40_000);

it('the books agree after all of this', async () => {
  expect(await platform.audit()).toEqual([]);
});
