/** Pushes in the MMS dialect to a customer's real HTTP server: what arrives, how often, and what a bad server costs the others. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { audit } from '../core/watch/audit.ts';
import { messageStatus } from '../core/model/statuses.ts';
import { createOutbox } from '../core/events/outbox.ts';
import { destinations, reportsFrom } from '../core/events/owed.ts';
import { changeSettings } from '../core/config/settings.ts';
import { change } from '../core/config/management.ts';
import { changeAccount } from '../core/catalogue/accounts.ts';
import {
  demoAccount,
  demoSubscription,
  type MmsPlatform,
  type PushServer,
  startMmsPlatform,
  startPushServer,
} from '../../test/kit/mms-platform.ts';
import { freePort, until } from '../../test/kit/platform.ts';
import { testLog } from '../../test/kit/logs.ts';
import { createSignals } from '../core/config/signals.ts';
import { createPusher } from './pusher.ts';

let platform: MmsPlatform;
let server: PushServer;
beforeEach(async () => {
  platform = await startMmsPlatform();
  server = await startPushServer();
});
afterEach(async () => {
  await platform.stop();
  server.close();
});

const sql = () => platform.app.management.db.sql;
const received = (path: string) => server.received.filter((one) => one.path === path);
const settings = (wanted: Parameters<typeof changeSettings>[1]) => change(platform.app.management, (sql) => changeSettings(sql, wanted));

async function send(phone: string[], more: Record<string, unknown> = {}): Promise<bigint> {
  const { json } = await platform.mms('batchSend', {
    product_id: 1018,
    phone,
    sign_name: '鸿雁',
    title: '标题',
    content: [[{ con_type: 'text', ext_type: 'txt', data: '你好' }]],
    ...more,
  });
  expect(json).toMatchObject({ code: 'OK' });
  return BigInt(String(json['task_id']));
}

/** Many reports that wait, as if so many messages had just ended. */
async function waiting(accountId: bigint, subscriptionId: bigint, count: number): Promise<void> {
  const day = new Date(platform.clock().getTime() + 8 * 3600_000).toISOString().slice(0, 10);
  const to = destinations(platform.app.management.directory, [accountId], 'report').map((one) => ({ ...one, isPushed: true }));
  await sql()`
    with ended as (
      insert into messages (id, account_id, day, subscription_id, phone, segments, status, code, price_e4, paid, cost_e4, final_at)
      select ${accountId * 1_000_000_000_000n} + n, ${accountId}, ${day}, ${subscriptionId}, 8613800000000 + n, 1, ${messageStatus.delivered},
             'DELIVRD', 0, false, 0, ${platform.clock()}
      from generate_series(1, ${count}::int) as n
      returning id, account_id, day, subscription_id, final_at)
    ${reportsFrom(sql(), to)}`;
}
const left = async (accountId: bigint) =>
  (await sql()<{ n: number }[]>`select coalesce(sum(cardinality(indexes)), 0)::int as n from parcels where account_id = ${accountId}`)[0]
    ?.n ?? 0;
const pushesOf = async (query = '') =>
  (await platform.manage('GET', `pushes?accountId=${demoAccount}${query}`)).json['data'] as Record<string, unknown>[];
const eventsOf = async (query: string) =>
  (await platform.manage('GET', `events?accountId=${demoAccount}&${query}`)).json['data'] as Record<string, unknown>[];

describe('what arrives', () => {
  const time = expect.stringMatching(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/) as string;

  it('a report for each number, as it was written; those intercepted too', async () => {
    await platform.pushTo({ report: `${server.url}/success` });
    const batchId = await send(['+86 138-0000-0005', '13800000021', '13800000006']);
    await until('the intercepted one is pushed', () => received('/success').length === 1);
    await platform.deliver(batchId);
    await until('all are pushed', () => received('/success').length === 3);
    const bodies = received('/success').map(({ body }) => body);
    const common = { task_id: String(batchId), send_time: time, report_time: time };
    expect(bodies).toEqual(
      expect.arrayContaining([
        { ...common, phone: '13800000021', code: 'WL:KHLJ', message: '空号' },
        { ...common, phone: '+86 138-0000-0005', code: 'DELIVERED', message: '用户接收成功' },
        { ...common, phone: '13800000006', code: 'DELIVERED', message: '用户接收成功' },
      ]),
    );
    expect(Object.keys(bodies[0] ?? {})).toEqual(['task_id', 'phone', 'code', 'message', 'send_time', 'report_time']);
    expect(new Set(server.received.map(({ contentType }) => contentType))).toEqual(new Set(['application/json; charset=utf-8']));
    await until('all are recorded', async () => (await left(demoAccount)) === 0);
    expect((await eventsOf('state=handed_over')).every(({ route }) => route === 'push')).toBe(true);
  });

  it('a reply, and what was decided on a template', async () => {
    await platform.pushTo({ reply: `${server.url}/success`, template: `${server.url}/success` });
    const [row] = await sql()<{ extension: string }[]>`select extension from subscriptions where id = ${demoSubscription}`;
    const extension = row?.extension ?? '';
    const batchId = await send(['13800000005']);
    await platform.deliver(batchId);
    await platform.replyTo('8613800000005', '你好,|世界', extension);
    await platform.replyTo('8613900000099', '谁?', `${extension}88`);
    await until('both are pushed', () => received('/success').length === 2);
    expect(received('/success').map(({ body }) => body)).toEqual(
      expect.arrayContaining([
        {
          task_id: String(batchId),
          phone: '13800000005',
          content: '你好,|世界',
          dest_code: extension,
          send_time: time,
          receive_time: time,
        },
        { task_id: '', phone: '13900000099', content: '谁?', dest_code: `${extension}88`, send_time: time, receive_time: time },
      ]),
    );

    const make = async () =>
      (
        await platform.mms('templateCreate', {
          title: 't',
          purpose: 'p',
          sign_name: '鸿雁',
          content: [[{ con_type: 'text', ext_type: 'txt', data: 'a' }]],
        })
      ).json['template_id'] as number;
    const [good, bad] = [await make(), await make()];
    await platform.manage('POST', `templates/${good}/approve`);
    await platform.manage('POST', `templates/${good}/approve`);
    await platform.manage('POST', `templates/${bad}/reject`, { reason: '图片不清晰' });
    await until('the audits are pushed', () => received('/success').length === 4);
    expect(received('/success').map(({ body }) => body)).toEqual(
      expect.arrayContaining([
        { template_id: good, code: 'SUCCESS', message: '审核通过' },
        { template_id: bad, code: 'FAIL', message: '图片不清晰' },
      ]),
    );
    await sleep(500);
    expect(received('/success')).toHaveLength(4);
    expect(await audit(platform.app.management.db)).toEqual([]);
  });

  it('without a URL an event is kept, and pushed once somebody replays it', async () => {
    const batchId = await send(['13800000005', '13800000006']);
    await platform.deliver(batchId, 'UNDELIV');
    expect((await eventsOf('state=kept')).map(({ state, route }) => [state, route])).toEqual([
      ['kept', 'pull'],
      ['kept', 'pull'],
    ]);
    await platform.pushTo({ report: `${server.url}/success` });
    const replay = await platform.manage('POST', 'events/replay', { accountId: Number(demoAccount), kind: 'report', state: 'failed' });
    expect(replay.json).toEqual({ replayed: 2 });
    await until('they are pushed', () => received('/success').length === 2);
    expect(received('/success')[0]?.body).toMatchObject({ code: 'UNDELIV', message: '未能送达' });
  });
});

describe('what counts, and how often', () => {
  it('only a 2xx with `success`, trimmed, is done; everything else comes three times in all, then has failed', async () => {
    await settings({ pushDelaysSeconds: [0.4, 0.8] });
    await platform.pushTo({ report: `${server.url}/padded` });
    await send(['13800000021']);
    await until('the padded answer is taken', async () => (await left(demoAccount)) === 0);
    expect(received('/padded')).toHaveLength(1);

    for (const path of ['/capital', '/500', '/successful', '/']) {
      await platform.pushTo({ report: server.url + path });
      await send(['13800000021']);
      await until(`${path} has failed`, async () => (await eventsOf('state=failed')).length > 0);
      await sleep(1500);
      const tries = received(path);
      expect(tries, path).toHaveLength(3);
      const pauses = tries.slice(1).map(({ at }, index) => at - (tries[index]?.at ?? 0));
      expect(pauses[0]).toBeGreaterThanOrEqual(400);
      expect(pauses[1]).toBeGreaterThanOrEqual(800);

      const [event] = await eventsOf('state=failed');
      const attempts = await pushesOf(`&eventId=${String(event?.['id'])}`);
      expect(attempts).toHaveLength(3);
      expect(attempts[0]).toMatchObject({ state: 'failed', kind: 'report', subscriptionId: null, url: server.url + path });
      expect(attempts[0]?.['httpStatus']).toBe(path === '/500' ? 500 : 200);
      expect(attempts[0]?.['answer']).toBe(path === '/capital' ? 'SUCCESS' : path === '/500' ? 'success' : path.slice(1));

      // An operator replays it, to a server that works again.
      await platform.pushTo({ report: `${server.url}/success` });
      const replay = await platform.manage('POST', 'events/replay', {
        accountId: Number(demoAccount),
        kind: 'report',
        ids: [String(event?.['id'])],
        state: 'failed',
      });
      expect(replay.json).toEqual({ replayed: 1 });
      await until('it is pushed', async () => (await left(demoAccount)) === 0);
    }
    expect(received('/success')).toHaveLength(4);
  }, 40_000);

  it('the schedule is the clock’s: nothing comes before 60 s, and the third try 120 s after the second', async () => {
    await platform.pushTo({ report: `${server.url}/no` });
    await send(['13800000021']);
    await until('the first try', () => received('/no').length === 1);
    for (const [ahead, tries] of [
      [55_000, 1],
      [6_000, 2],
      [110_000, 2],
      [11_000, 3],
      [3600_000, 3],
    ] as const) {
      platform.advance(ahead);
      await sleep(1400);
      expect(received('/no')).toHaveLength(tries);
    }
  });

  it('a try that was begun by a process that died counts; the next one comes on schedule, and there are three', async () => {
    await settings({ pushDelaysSeconds: [0.3, 0.3] });
    const { db, directory } = platform.app.management;
    const outbox = createOutbox({ db, directory, clock: platform.clock });
    const endpoint = { accountId: demoAccount, dialect: 'ihuyi-mms', owner: 0n, kind: 'report' } as const;
    await waiting(demoAccount, demoSubscription, 2);
    await change(platform.app.management, (sql) => changeAccount(sql, demoAccount, { pushUrls: { report: `${server.url}/no` } }));
    // Whoever comes first: the platform's own pusher, or this one, which dies.
    const claim = await outbox.claim(endpoint, 1);
    expect(claim?.loads).toHaveLength(1);
    await sleep(1500);
    await sql()`update parcels set lease_until = now() - interval '1 second' where route = 2`;
    await until('both have failed', async () => (await eventsOf('state=failed')).length === 2);
    await sleep(1000);
    const [load] = claim?.loads ?? [];
    const id = String(load?.parcels[0]?.id);
    expect((await pushesOf(`&eventId=${id}`)).map(({ answer }) => answer)).toEqual(['no', 'no', 'the process that pushed was lost']);
    expect(received('/no')).toHaveLength(5);
    // If it is alive after all, its result comes too late.
    const attempt = { url: server.url, startedAt: new Date(), status: 200, answer: 'success' };
    if (claim && load) await outbox.settle([{ claimId: claim.id, endpoint, parcels: load.parcels, fate: { kind: 'done' }, attempt }]);
    expect(await eventsOf('state=failed')).toHaveLength(2);
  });
});

describe('a bad server', () => {
  it.for(['/hang', '/no', null])('with 100,000 events waiting for it (%s) delays nobody else’s', { timeout: 60_000 }, async (path) => {
    await settings({ pushDelaysSeconds: [0.5, 0.5] });
    const dead = path === null ? `http://127.0.0.1:${await freePort()}/` : server.url + path;
    await change(platform.app.management, (sql) => changeAccount(sql, 14n, { pushUrls: { report: dead } }));
    await waiting(14n, 514n, 100_000);
    await sleep(2000); // it is at its worst
    await platform.pushTo({ report: `${server.url}/success` });
    const began = performance.now();
    await waiting(demoAccount, demoSubscription, 1000);
    await until('the thousand of another account are pushed', () => received('/success').length >= 1000, 10_000);
    expect(performance.now() - began).toBeLessThan(4000);
    // One report of a message that ends now is pushed within the second.
    const before = performance.now();
    await send(['13800000021']);
    await until('it is pushed', () => received('/success').length === 1001);
    expect(performance.now() - before).toBeLessThan(2500);
    if (path === null) {
      const [row] = await sql()<{ n: number }[]>`select count(*)::int as n from pushes where account_id = 14`;
      expect(row?.n).toBeLessThan(500); // the breaker is open most of the time
    }
  });

  it('that comes back gets what waits, once each', async () => {
    await settings({ pushDelaysSeconds: [0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3] });
    const dead = `http://127.0.0.1:${await freePort()}/`;
    await platform.pushTo({ report: dead });
    await waiting(demoAccount, demoSubscription, 200);
    await sleep(2000);
    await platform.pushTo({ report: `${server.url}/success` });
    await until('all are pushed', async () => (await left(demoAccount)) === 0);
    const phones = received('/success').map(({ body }) => body['phone']);
    expect(phones).toHaveLength(200);
    expect(new Set(phones).size).toBe(200);
  });
});

it('a quick server gets thousands a second, each once', async () => {
  const count = 20_000;
  await waiting(demoAccount, demoSubscription, count);
  const began = performance.now();
  await platform.pushTo({ report: `${server.url}/success` });
  await until('all are pushed', () => received('/success').length >= count, 30_000);
  const perSecond = Math.round(count / ((performance.now() - began) / 1000));
  await until('all are recorded', async () => (await left(demoAccount)) === 0);
  expect(new Set(received('/success').map(({ body }) => body['phone'])).size).toBe(count);
  expect(received('/success')).toHaveLength(count);
  process.stdout.write(`MMS pushes to one server in the same process: ${perSecond}/s\n`);
  expect(perSecond).toBeGreaterThan(1000);
}, 60_000);

it('a pusher that has stopped does not answer a signal any more: its database may be closed', async () => {
  const { db, directory } = platform.app.management;
  const signals = createSignals({ db });
  const outbox = createOutbox({ db, directory, clock: platform.clock });
  let looks = 0;
  const pusher = createPusher({
    outbox: { ...outbox, due: () => (looks++, outbox.due()) },
    directory,
    signals,
    post: () => Promise.reject(new Error('nothing is to be posted')),
    log: testLog(),
    clock: platform.clock,
    count() {},
  });
  pusher.start();
  await pusher.stop();
  signals.emit('push');
  await sleep(400);
  expect(looks).toBe(0);
  await signals.stop();
});
