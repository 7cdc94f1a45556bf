/** Events in parcels: exact limits, concurrent pulls and pushes, replays of a part, and pages over all of it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Platform, startAimPlatform } from '../../../test/kit/aim-platform.ts';
import { plainNumbers } from '../../../test/kit/platform.ts';
import { dialects } from '../../http/dialects/registry.ts';
import { shanghaiDay } from '../../std/shanghai.ts';
import { batchIdOf, chunkCapacity, chunkIdOf, indexInBatch, messageIdInBatch, messageIdOf, messagesOfBatch } from '../model/ids.ts';
import { audit } from '../watch/audit.ts';
import type { Tenancy } from '../config/directory.ts';
import type { ReportEvents } from '../model/dialect.ts';
import { type EventFilter, type ReplayFilter, searchEvents } from './history.ts';
import { createOutbox, type Outbox } from './outbox.ts';
import type { Endpoint } from './owed.ts';
import type { PushClaim } from './pushed.ts';
import { change } from '../config/management.ts';
import { changeSubscription } from '../catalogue/accounts.ts';
import { getMessage } from '../watch/reporting.ts';

const subscriptionId = 500001n;
const accountId = 1n;

let platform: Platform;
let outbox: Outbox;
let tenancy: Tenancy;
let day: string;
beforeAll(async () => {
  platform = await startAimPlatform();
  const { db, directory } = platform.app.management;
  outbox = createOutbox({ db, directory, clock: platform.clock });
  const found = directory.subscriptionsOf(accountId).find(({ subscription }) => subscription.id === subscriptionId);
  if (!found) throw new Error('no such subscription');
  tenancy = found;
  day = shanghaiDay(platform.clock());
});
afterAll(() => platform.stop());

const sql = () => platform.app.management.db.sql;

/** Messages that have ended, all reported in one set. */
async function ended(count: number): Promise<{ batchId: bigint; mobiles: string[] }> {
  const mobiles = plainNumbers(count);
  const { json } = await platform.aim('send-aim', {
    template_id: '101',
    mobiles: JSON.stringify(mobiles),
    content: '【鸿雁】您有一张优惠券 $url$',
  });
  const batchId = BigInt(String(json['msg_id']));
  await platform.deliver(batchId);
  return { batchId, mobiles };
}

const mobilesOf = (reports: readonly ReportEvents[]) => reports.flatMap(({ mobiles }) => mobiles);
const drained = async (): Promise<string[]> => {
  const all: string[] = [];
  for (let some = ['']; some.length > 0; all.push(...some)) some = mobilesOf(await outbox.pullReports(tenancy, '3yit', 2000));
  return all;
};
const sizes = async () =>
  (await sql()<{ n: number }[]>`select cardinality(indexes) as n from parcels where account_id = ${accountId} order by id`).map(
    ({ n }) => n,
  );
const filter: EventFilter = {
  kind: 'report',
  subscriptionId: null,
  state: null,
  phone: null,
  batchId: null,
  get fromDay() {
    return day;
  },
  get toDay() {
    return day;
  },
};
const replay = (more: Partial<ReplayFilter> = {}) =>
  outbox.replay(accountId, { subscriptionId, kind: 'report', fromDay: day, toDay: day, ...more });

describe('a pull', () => {
  it('gets exactly as much as it may, however parcels are cut, and each event once', async () => {
    const { mobiles } = await ended(1300);
    expect(await sizes()).toEqual([500, 500, 300]);
    const pulled: string[] = [];
    for (const limit of [7, 493, 1, 600, 198]) {
      const some = mobilesOf(await outbox.pullReports(tenancy, '3yit', limit));
      expect(some).toHaveLength(limit);
      pulled.push(...some);
      expect(await audit(platform.app.management.db)).toEqual([]);
    }
    expect(await sizes()).toEqual([1]);
    pulled.push(...mobilesOf(await outbox.pullReports(tenancy, '3yit', 100)));
    expect(pulled.sort()).toEqual(mobiles.sort());
    expect(await outbox.pullReports(tenancy, '3yit', 100)).toEqual([]);
  });

  it('gets many parcels of one as it gets one of many, the oldest first', async () => {
    const mobiles: string[] = [];
    for (let n = 0; n < 40; n++) {
      const [mobile = ''] = plainNumbers(n + 1).slice(-1);
      const { json } = await platform.aim('send-aim', {
        template_id: '101',
        mobiles: JSON.stringify([mobile]),
        content: '【鸿雁】您有一张优惠券 $url$',
      });
      await platform.deliver(BigInt(String(json['msg_id'])));
      mobiles.push(mobile);
    }
    expect(mobilesOf(await outbox.pullReports(tenancy, '3yit', 30))).toEqual(mobiles.slice(0, 30));
    expect(mobilesOf(await outbox.pullReports(tenancy, '3yit', 30))).toEqual(mobiles.slice(30));
  });

  it('with others at the same time gets what they do not get', async () => {
    const { mobiles } = await ended(3000);
    const pulled: string[] = [];
    const puller = async () => {
      while (pulled.length < mobiles.length) {
        const some = mobilesOf(await outbox.pullReports(tenancy, '3yit', 70));
        expect(some.length).toBeLessThanOrEqual(70);
        pulled.push(...some);
      }
    };
    await Promise.all([puller(), puller(), puller(), puller()]);
    expect(pulled.sort()).toEqual(mobiles.sort());
    expect(await sizes()).toEqual([]);
    expect(await audit(platform.app.management.db)).toEqual([]);
  });
});

it('a claim takes as much as a push may carry; what was cut off is claimed next, and only what was pushed has left', async () => {
  const wanted = { pushUrls: { report: 'http://127.0.0.1:1/' } };
  await change(platform.app.management, (sql) => changeSubscription(sql, null, subscriptionId, wanted));
  const { batchId, mobiles } = await ended(700);
  const endpoint: Endpoint = { accountId, dialect: '3yit', owner: subscriptionId, kind: 'report' };
  const claims = [await outbox.claim(endpoint, 450), await outbox.claim(endpoint, 450)].filter(
    (claim): claim is PushClaim => claim !== null,
  );
  expect(await outbox.claim(endpoint, 450)).toBeNull();
  const told = claims.map(({ loads }) => mobilesOf(loads.flatMap(({ events }) => (events.kind === 'report' ? events.reports : []))));
  expect(told.map(({ length }) => length)).toEqual([450, 250]);
  expect(told.flat().sort()).toEqual(mobiles.sort());

  const results = claims.map(({ id: claimId, loads }, n) => ({
    claimId,
    endpoint,
    parcels: loads.flatMap(({ parcels }) => parcels),
    fate: { kind: n === 0 ? ('done' as const) : ('pull' as const) },
    attempt: { url: 'http://127.0.0.1:1/', startedAt: platform.clock(), status: 200, answer: '' },
  }));
  await outbox.settle(results);
  await outbox.settle(results); // too late
  const attempts = await sql()<{ n: number; state: string }[]>`select events as n, state from pushes order by id limit 2`;
  expect(attempts).toEqual([
    { n: 450, state: 'done' },
    { n: 250, state: 'failed' },
  ]);
  expect((await drained()).sort()).toEqual(told[1]?.sort());
  const page = await searchEvents(sql(), dialects, accountId, { ...filter, batchId }, { limit: 1000, cursor: null });
  expect(page.data.map(({ route }) => route).sort()).toEqual([
    ...Array.from({ length: 250 }, () => 'pull'),
    ...Array.from({ length: 450 }, () => 'push'),
  ]);
  expect(await audit(platform.app.management.db)).toEqual([]);
  await change(platform.app.management, (sql) => changeSubscription(sql, null, subscriptionId, { pushUrls: { report: null } }));
});

describe('a replay', () => {
  it('of a part makes just that part wait again, once, and the timeline tells of both times', async () => {
    const { batchId, mobiles } = await ended(600);
    await drained();
    const [phone, other] = [3, 4].map((n) => BigInt(`86${mobiles[n]}`));
    expect(await replay({ batchId, phone })).toBe(1);
    expect(await replay({ batchId, phone })).toBe(0);
    const ids = [messageIdInBatch(batchId, 4), messageIdOf(chunkIdOf(batchId, 1), 599 - chunkCapacity), messageIdInBatch(batchId, 9_999)];
    expect(await replay({ ids })).toBe(2);
    expect(await replay({ batchId, phone: other, ids: [ids[1] ?? 0n] })).toBe(0);
    expect(await audit(platform.app.management.db)).toEqual([]);
    expect((await drained()).sort()).toEqual([3, 4, 599].map((n) => mobiles[n] ?? '').sort());

    const { timeline } = await getMessage(sql(), accountId, messageIdInBatch(batchId, 3));
    expect(timeline.map(({ what, detail }) => `${what} ${detail}`).slice(-2)).toEqual([
      'report_pulled by the customer',
      'report_pulled by the customer, replay 1',
    ]);
    expect(await replay({ batchId, phone })).toBe(1);
    const { data } = await searchEvents(sql(), dialects, accountId, { ...filter, batchId, state: 'waiting' }, { limit: 10, cursor: null });
    expect(data).toMatchObject([{ phone: mobiles[3], replays: 2, code: 'DELIVRD', handedAt: null }]);
    expect(await drained()).toEqual([mobiles[3]]);
    expect(await audit(platform.app.management.db)).toEqual([]);
  });

  it('of everything leaves out what waits, also when two ask for it at once and it is handed over meanwhile', async () => {
    const { batchId, mobiles } = await ended(1500);
    await outbox.pullReports(tenancy, '3yit', 800);
    expect(await replay({ batchId })).toBe(800);
    expect(await replay({ batchId })).toBe(0);
    await drained();
    const [one, two] = await Promise.all([replay({ batchId }), replay({ batchId })]);
    expect(one + two).toBe(1500);
    const pulled: string[] = [];
    for (let round = 0; round < 10; round++) {
      const [some] = await Promise.all([outbox.pullReports(tenancy, '3yit', 100), replay({ batchId })]);
      expect(mobilesOf(some)).toHaveLength(100);
      pulled.push(...mobilesOf(some));
    }
    pulled.push(...(await drained()));
    expect(new Set(pulled)).toEqual(new Set(mobiles));
    expect(pulled.length).toBeGreaterThan(1500);
    expect(await audit(platform.app.management.db)).toEqual([]);
  });
});

it('pages show every event once, newest first, whether it waits, was handed over or waits again', async () => {
  const batches = [await ended(900), await ended(1), await ended(700)];
  await outbox.pullReports(tenancy, '3yit', 1000);
  const [first] = batches;
  await replay({ batchId: first?.batchId, ids: [5, 6, 700].map((n) => messageIdInBatch(first?.batchId ?? 0n, n)) });
  const all = new Set(batches.map(({ batchId }) => batchId));
  const walk = async (more: Partial<EventFilter>, limit: number) => {
    const found: { id: bigint; state: string }[] = [];
    for (let cursor: string | null = null, pages = 0; pages === 0 || cursor !== null; pages++) {
      const page = await searchEvents(sql(), dialects, accountId, { ...filter, ...more, fromDay: day, toDay: day }, { limit, cursor });
      if (page.next !== null) expect(page.data).toHaveLength(limit);
      found.push(...page.data);
      cursor = page.next;
    }
    return found.filter(({ id }) => all.has(batchIdOf(id)));
  };
  const every = await walk({}, 37);
  expect(every).toHaveLength(1601);
  expect(every.map(({ id }) => id)).toEqual([...new Set(every.map(({ id }) => id))].sort((a, b) => (a < b ? 1 : -1)));
  expect(every.map(({ id }) => id)).toEqual((await walk({}, 500)).map(({ id }) => id));
  const waiting = await walk({ state: 'waiting' }, 100);
  const handed = await walk({ state: 'handed_over' }, 41);
  expect(waiting).toHaveLength(604);
  expect(handed).toHaveLength(997);
  expect(every.filter(({ state }) => state === 'waiting').map(({ id }) => id)).toEqual(waiting.map(({ id }) => id));
  expect(await walk({ phone: BigInt(`86${first?.mobiles[0]}`) }, 1)).toHaveLength(3);
  await drained();
});

describe('the audit', () => {
  const broken = async (doIt: () => Promise<unknown>) => {
    await doIt();
    const found = (await audit(platform.app.management.db)).map(({ check, found }) => `${check}: ${found}`);
    return [...new Set(found)];
  };
  const check = 'a message has one event once it has ended, and none before';

  it('sees what was made twice, what is lost, and what was handed over twice', async () => {
    const { batchId } = await ended(10);
    const own = sql()`account_id = ${accountId} and kind = 1 and id ${messagesOfBatch(sql(), batchId)}`;
    expect(
      await broken(
        () => sql()`
          insert into parcels (account_id, kind, id, day, subscription_id, endpoint, route, at, due_at, indexes)
          select account_id, kind, id + 3, day, subscription_id, endpoint, route, at, due_at, '{3}' from parcels where ${own}`,
      ),
    ).toEqual([`${check}: replays 0 0`]);
    expect(await broken(() => sql()`delete from parcels where ${own} and ${indexInBatch(sql(), sql()`id`)} = 3`)).toEqual([]);
    expect(await broken(() => sql()`update parcels set indexes = indexes[1:9] where ${own}`)).toEqual([`${check}: none`]);
    await sql()`update parcels set indexes = indexes || 9::smallint where ${own}`;
    await drained();
    expect(
      await broken(
        () => sql()`
          insert into handovers (account_id, kind, id, day, subscription_id, replay, at, handed_at, indexes)
          select account_id, kind, id + 1, day, subscription_id, replay, at, handed_at, '{1}' from handovers where ${own}`,
      ),
    ).toEqual([`${check}: replays 0 0`]);
    await sql()`delete from handovers where ${own} and ${indexInBatch(sql(), sql()`id`)} = 1`;
    expect(await broken(() => sql()`update handovers set replay = 1 where ${own}`)).toEqual([`${check}: replays 1`]);
    expect(await broken(() => sql()`update handovers set replay = 0 where ${own}`)).toEqual([]);
  });
});

it('looks for due events of a thousand accounts with URLs about as fast as for those of one', async () => {
  const { db, directory } = platform.app.management;
  const withUrl = directory.account(accountId);
  if (!withUrl) throw new Error('no such account');
  /** Milliseconds of a look, the middle one of five, when so many accounts have a URL. */
  const lookMs = async (count: number): Promise<number> => {
    const accounts = Array.from({ length: count }, (_, n) => ({
      ...withUrl,
      id: BigInt(1000 + n),
      pushUrls: { report: 'http://example.com/' },
    }));
    const { due } = createOutbox({ db, directory: { ...directory, accounts: () => accounts }, clock: platform.clock });
    const times: number[] = [];
    for (let n = 0; n < 6; n++) {
      const began = performance.now();
      await due();
      times.push(performance.now() - began);
    }
    // The first look reads everything in any case.
    return times.slice(1).sort((a, b) => a - b)[2] ?? 0;
  };
  await lookMs(1);
  const [one, thousand] = [await lookMs(1), await lookMs(1000)];
  expect(thousand).toBeLessThan(10 * one + 30);
});
