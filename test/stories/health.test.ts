/**
 * Channels that become unhealthy by themselves: a carrier that hangs up and refuses logins, one that throttles everything, one that
 * rejects everything for reasons of its own. The platform finds out, sends waiting messages through another channel, and returns when the
 * carrier is healthy.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, type TestContext } from 'vitest';
import { createIsmg, type Ismg } from '../../simulators/cmpp.ts';
import type { PhoneMessage } from '../../simulators/gateway.ts';
import { changeChannel, createChannel, getChannel, type StoredChannel } from '../../src/core/catalogue/channels.ts';
import { changePool } from '../../src/core/catalogue/pools.ts';
import { change } from '../../src/core/config/management.ts';
import type { HealthRules } from '../../src/core/model/configuration.ts';
import { createToken } from '../../src/core/config/tokens.ts';
import {
  type Client,
  type Customer,
  clientOf,
  createPuller,
  numberOf,
  type Platform,
  plainNumbers,
  startPlatform,
  tally,
  until,
} from '../kit/platform.ts';

const priceE4 = 500n;
const balanceE4 = 10_000_000_000n;
const connections = 2;
const window = 32;
/** As fast as a test wants it; what is left out is as in life. */
const quick: Partial<HealthRules> = { sessionSeconds: 2, steadySeconds: 1, pauseSeconds: 1, longestPauseSeconds: 4 };
const second = 2n;

interface Pair {
  readonly platform: Platform;
  readonly customer: Customer;
  /** The carriers of the two channels, and what reached phones through either. */
  readonly bad: Ismg;
  readonly good: Ismg;
  readonly shown: () => readonly PhoneMessage[];
  readonly health: () => Promise<StoredChannel>;
}

/** The shortest pauses that an operator may set: a connection that is quick to try again. */
const hasty = { reconnectMinMs: 100, reconnectMaxMs: 400, refusedMinMs: 1000, throttleTries: 2, throttleBackoffMs: 50 };

async function startOne({ onTestFinished }: TestContext, more: Readonly<Record<string, number>> = hasty) {
  const platform = await startPlatform({ connections, window });
  onTestFinished(() => platform.stop());
  const { management, channelId } = platform;
  const health = () => getChannel(management.db.sql, channelId);
  await change(management, async (sql) => {
    const { settings } = await getChannel(sql, channelId);
    await changeChannel(sql, management, channelId, { healthRules: quick, settings: { ...settings, ...more } });
  });
  return { platform, health };
}

/** Two channels of one pool, side by side, and one node; the first is the one that goes bad. */
async function startPair(context: TestContext): Promise<Pair & { readonly client: Client }> {
  const pair = await makePair(context);
  const app = await pair.platform.startApp();
  await until('all connections are up', () => pair.bad.sessions === connections && pair.good.sessions === connections);
  return { ...pair, client: clientOf(app, pair.customer) };
}

async function makePair(context: TestContext): Promise<Pair> {
  const { platform, health } = await startOne(context);
  const { management, carrier } = platform;
  const other = { spId: '905678', secret: 'other-secret', accessNumbers: ['10690002'], maxConnections: 100 };
  const good = createIsmg({ accounts: [other], reportDelayMs: 50, window: 500 });
  const messages: PhoneMessage[] = [];
  good.onMessage((message) => messages.push(message));
  await good.start();
  context.onTestFinished(() => good.stop());
  await change(management, async (sql) => {
    await createChannel(sql, management, {
      id: second,
      name: 'second',
      protocol: 'cmpp',
      connections,
      carriers: ['mobile', 'unicom', 'telecom', 'broadcast'],
      accessNumber: '10690002',
      secret: other.secret,
      settings: { host: '127.0.0.1', port: good.port, spId: other.spId, serviceId: 'STORY', ratePerSecond: 100_000, window },
    });
    const channels = [platform.channelId, second].map((channelId) => ({ channelId, priority: 1, weight: 1 }));
    await changePool(sql, 1n, { channels });
  });
  const customer = await platform.customer({ balanceE4, priceE4 });
  const shown = () => [...platform.shown, ...messages];
  return { platform, customer, bad: carrier, good, shown, health };
}

/** Submits so many, in parts; returns `msgId/phone` of each. */
async function submitAll(client: Client, count: number, meanwhile: (part: number) => Promise<void> | void): Promise<string[]> {
  const accepted: string[] = [];
  for (let part = 0; part < count / 10_000; part++) {
    const phones = plainNumbers(10_000, part);
    const { code, msgId } = await client.submit(phones);
    expect(code).toBe(0);
    for (const phone of phones) accepted.push(`${msgId}/${phone}`);
    await meanwhile(part);
  }
  return accepted;
}

const becomes = (health: Pair['health'], wanted: StoredChannel['health'], timeoutMs = 60_000) =>
  until(`the channel is ${wanted}`, async () => (await health()).health === wanted, timeoutMs);

/** How often in a row it has failed again since it first did. */
async function triesOf({ management, channelId }: Platform): Promise<number> {
  const [row] = await management.db.sql<{ tries: number }[]>`select health_tries as tries from channels where id = ${channelId}`;
  return row?.tries ?? 0;
}

/** Sends a little at a time until the channel counts as healthy again and its carrier gets messages; returns how many were sent. */
async function sendUntilBack({ client, bad, health }: Pair & { readonly client: Client }): Promise<number> {
  let sent = 0;
  const drip = async () => {
    const phones = plainNumbers(20, 20 + (sent % 7));
    expect((await client.submit(phones)).code).toBe(0);
    sent += phones.length;
    await sleep(50);
  };
  await until(
    'the channel is healthy',
    async () => {
      await drip();
      return (await health()).health === 'healthy';
    },
    60_000,
  );
  const before = bad.counters.accepted;
  await until(
    'it is sent to again',
    async () => {
      await drip();
      return bad.counters.accepted > before;
    },
    60_000,
  );
  return sent;
}

describe('one of two channels fails in the middle of 50,000 messages', () => {
  it('hung up and letting nobody in: the rest go through the other, and it is used again once a session stands', async (context) => {
    const pair = await startPair(context);
    const { platform, client, bad, shown, health } = pair;
    const puller = createPuller(client);
    const accepted = await submitAll(client, 50_000, async (part) => {
      if (part !== 2) return;
      await until('the channel is at work', () => bad.counters.accepted > 1000);
      bad.faults = { refuseLoginsMs: 600_000 };
      bad.dropConnections();
    });
    await becomes(health, 'unhealthy');
    expect(await health()).toMatchObject({ healthCause: 'no_session', healthReason: 'no session for 2 seconds', healthProbeAt: null });
    const { sql } = platform.management.db;
    await until('all are sent', async () => (await sql`select 1 from dispatch_queue`).length === 0, 120_000);
    // What was in the air when it hung up may have come twice, since this product sends again; nothing else has.
    expect(new Set(shown().map(({ to }) => to)).size).toBe(accepted.length);
    expect(shown().length).toBeLessThanOrEqual(accepted.length + connections * window);

    // Reports that it still owes come with the session.
    bad.faults = {};
    await becomes(health, 'healthy');
    await puller.waitFor(accepted.length, 60_000);
    expect(puller.rows.map(({ msgId, mobile }) => `${msgId}/${mobile}`).sort()).toEqual(accepted.sort());
    const more = await sendUntilBack(pair);
    await puller.waitFor(accepted.length + more);
    await puller.stop();
    expect([...tally(puller.rows.map(({ status }) => status))]).toEqual([['DELIVRD', accepted.length + more]]);
    expect(await client.balanceE4()).toBe(balanceE4 - BigInt(accepted.length + more) * priceE4);
    expect(await platform.audit()).toEqual([]);
  }, 240_000);

  it('throttling everything: nothing is lost or comes twice, and probes find out when it is well', async (context) => {
    const pair = await startPair(context);
    const { platform, client, bad, shown, health } = pair;
    const puller = createPuller(client);
    const accepted = await submitAll(client, 50_000, async (part) => {
      if (part !== 2) return;
      await until('the channel is at work', () => bad.counters.accepted > 1000);
      bad.faults = { throttleShare: 1 };
    });
    await becomes(health, 'unhealthy');
    expect(await health()).toMatchObject({ healthCause: 'failures' });
    await puller.waitFor(accepted.length, 120_000);
    expect(puller.rows.map(({ msgId, mobile }) => `${msgId}/${mobile}`).sort()).toEqual(accepted.sort());
    expect([...tally(puller.rows.map(({ status }) => status))]).toEqual([['DELIVRD', accepted.length]]);
    // The carrier took none of what it called too fast.
    expect(shown().length).toBe(accepted.length);

    // While it still throttles, it is tried with a few messages now and then, each of which goes the other way in the end.
    let probing = 0;
    await until(
      'two probes have failed',
      async () => {
        expect((await client.submit(plainNumbers(20, 30))).code).toBe(0);
        probing += 20;
        return (await triesOf(platform)) >= 2;
      },
      60_000,
    );
    bad.faults = {};
    const more = probing + (await sendUntilBack(pair));
    await puller.waitFor(accepted.length + more, 60_000);
    await puller.stop();
    expect(shown().length).toBe(accepted.length + more);
    expect(await client.balanceE4()).toBe(balanceE4 - BigInt(accepted.length + more) * priceE4);
    expect(await platform.audit()).toEqual([]);
  }, 240_000);

  it('refusing everything for a reason of its own: few messages are lost to it before it is found out', async (context) => {
    const { platform, client, bad, health } = await startPair(context);
    const puller = createPuller(client);
    const accepted = await submitAll(client, 20_000, async (part) => {
      if (part !== 0) return;
      await until('the channel is at work', () => bad.counters.accepted > 500);
      bad.faults = { rejectShare: 1, rejectCode: 5 };
    });
    await puller.waitFor(accepted.length, 120_000);
    await puller.stop();
    expect((await health()).healthReason).toMatch(/^\d+ of the last \d+ outcomes were failures of the channel$/);
    expect(puller.rows.map(({ msgId, mobile }) => `${msgId}/${mobile}`).sort()).toEqual(accepted.sort());
    const statuses = tally(puller.rows.map(({ status }) => status));
    expect([...statuses.keys()].sort()).toEqual(['DELIVRD', 'ER:0005']);
    const lost = statuses.get('ER:0005') ?? 0;
    // Sixty of the last two hundred, what was under way by then, and probes.
    expect(lost).toBeGreaterThan(50);
    expect(lost).toBeLessThan(400);
    expect(await client.balanceE4()).toBe(balanceE4 - BigInt(accepted.length - lost) * priceE4);
    expect(await platform.audit()).toEqual([]);
  }, 120_000);

  it('on two nodes, of which one is killed at that moment: the other finds out and moves what waits, once', async (context) => {
    const { platform, customer, bad, good, shown, health } = await makePair(context);
    const [first, other] = [await platform.startNode(), await platform.startNode()];
    await until('all connections are up', () => bad.sessions === connections && good.sessions === connections);
    const client = clientOf(other, customer);
    const accepted = await submitAll(client, 20_000, async (part) => {
      if (part !== 1) return;
      bad.faults = { throttleShare: 1 };
      await sleep(200);
      await first.kill();
    });
    await becomes(health, 'unhealthy');
    const puller = createPuller(client);
    await puller.waitFor(accepted.length, 60_000);
    await puller.stop();
    expect(puller.rows.map(({ msgId, mobile }) => `${msgId}/${mobile}`).sort()).toEqual(accepted.sort());
    expect([...tally(puller.rows.map(({ status }) => status))]).toEqual([['DELIVRD', accepted.length]]);
    // Of each of its connections so many may be in doubt.
    expect(shown().length).toBeLessThanOrEqual(accepted.length + connections * 128);
    expect(await client.balanceE4()).toBe(balanceE4 - BigInt(accepted.length) * priceE4);
    expect(await platform.audit()).toEqual([]);
  }, 120_000);

  it('a customer’s bad numbers and contents take no channel down', async (context) => {
    const { client, bad, health } = await startPair(context);
    bad.faults = { rejectShare: 0.8, rejectCode: 13 };
    const puller = createPuller(client);
    await client.submit(plainNumbers(5000));
    await puller.waitFor(5000);
    await puller.stop();
    expect(tally(puller.rows.map(({ status }) => status)).get('ER:0013')).toBeGreaterThan(500);
    expect(await health()).toMatchObject({ health: 'healthy', healthReason: '', healthBy: null });
  }, 60_000);
});

describe.concurrent('the only channel of a pool', () => {
  it('without a session: what comes gets WL:CNH, what waits goes out when it is back; operators see why', async (context) => {
    const { platform, health } = await startOne(context, {});
    const { carrier, management } = platform;
    const token = await createToken(management.db.sql, { name: 'stories', caller: { role: 'operator' } });
    const customer = await platform.customer({ balanceE4, priceE4 });
    const app = await platform.startApp();
    const client = clientOf(app, customer);
    await until('the connections are up', () => carrier.sessions === connections);
    carrier.faults = { refuseLoginsMs: 600_000 };
    carrier.dropConnections();
    const waiting = plainNumbers(700);
    const { failed } = await client.submit(waiting);
    expect(Object.keys(failed)).toEqual([]);
    await becomes(health, 'unhealthy');
    const [phone = ''] = plainNumbers(1, 7);
    await until('the node knows', async () => (await client.submit([phone])).failed[phone] === 'WL:CNH');

    const shown = await fetch(`http://127.0.0.1:${app.port}/v1/channels/${platform.channelId}`, {
      headers: { authorization: `Bearer ${token}` },
    });
    const channel = (await shown.json()) as Record<string, unknown>;
    expect(channel).toMatchObject({
      health: 'unhealthy',
      healthReason: 'no session for 2 seconds',
      forcedHealth: null,
      healthProbeAt: null,
    });
    expect(channel['healthBy']).toMatch(/-[0-9a-f]{8}$/);

    carrier.faults = {};
    await becomes(health, 'healthy');
    await until('it may be submitted again', async () => Object.keys((await client.submit([phone])).failed).length === 0);
    const before = platform.shown.length;
    await until('everything is sent', () => new Set(platform.shown.map(({ to }) => to)).size === waiting.length + 1);
    expect(platform.shown.length).toBeGreaterThanOrEqual(before);
    expect(await platform.audit()).toEqual([]);
  }, 60_000);

  it('throttling everything: what waits is the probes, and nothing is stuck', async (context) => {
    const { platform, health } = await startOne(context);
    const { carrier } = platform;
    const client = clientOf(await platform.startApp(), await platform.customer({ balanceE4, priceE4 }));
    await until('the connections are up', () => carrier.sessions === connections);
    carrier.faults = { throttleShare: 1 };
    await client.submit(plainNumbers(2000));
    await becomes(health, 'unhealthy');
    let tries = 0;
    await until('the node knows', async () => {
      const [phone = ''] = plainNumbers(1, 7 + tries++); // another one each time: what is accepted until then is sent, too
      return (await client.submit([phone])).failed[phone] === 'WL:CNH';
    });
    await until('a probe failed', async () => (await health()).healthReason.startsWith('4 of'), 30_000);
    carrier.faults = {};
    const puller = createPuller(client);
    await until('all are sent', () => new Set(platform.shown.map(({ to }) => to)).size >= 2000, 30_000);
    expect((await health()).health).toBe('healthy');
    await puller.stop();
    expect(platform.shown.length).toBe(new Set(platform.shown.map(({ to }) => to)).size);
    expect(await platform.audit()).toEqual([]);
  }, 60_000);

  it('delivering next to nothing: found by its reports where a threshold is set, and tried by them', async (context) => {
    const { platform, health } = await startOne(context);
    const { carrier, management, channelId } = platform;
    await change(management, (sql) => changeChannel(sql, management, channelId, { healthRules: { ...quick, deliveredPercent: 20 } }));
    const client = clientOf(await platform.startApp(), await platform.customer({ balanceE4, priceE4 }));
    await until('the connections are up', () => carrier.sessions === connections);
    await client.submit(Array.from({ length: 150 }, (_, n) => numberOf('0001', n)));
    await becomes(health, 'unhealthy');
    expect(await health()).toMatchObject({ healthCause: 'reports', healthReason: expect.stringMatching(/^0 of 1\d\d reports/) });
    await becomes(health, 'probing');
    await client.submit(Array.from({ length: 10 }, (_, n) => numberOf('0001', 1000 + n)));
    await until('a probe of bad numbers has failed', async () => (await triesOf(platform)) === 1);
    let seed = 0;
    await until(
      'a probe of good numbers has succeeded',
      async () => {
        await client.submit(plainNumbers(20, 40 + (seed++ % 9)));
        return (await health()).health === 'healthy';
      },
      60_000,
    );
    await until('everything is sent', async () => (await management.db.sql`select 1 from dispatch_queue`).length === 0);
    expect(await platform.audit()).toEqual([]);
  }, 120_000);

  it('forced by an operator either way, it is what they say, whatever it does', async (context) => {
    const { platform, health } = await startOne(context);
    const { carrier, management, channelId } = platform;
    const app = await platform.startApp();
    const client = clientOf(app, await platform.customer({ balanceE4, priceE4 }));
    const force = (forcedHealth: 'healthy' | 'unhealthy' | null) =>
      change(app.management, (sql) => changeChannel(sql, management, channelId, { forcedHealth }));
    await until('the connections are up', () => carrier.sessions === connections);
    carrier.faults = { responseDelayMs: 10 };
    await client.submit(plainNumbers(1500));
    await until('some are sent', () => platform.shown.length > 100);
    await force('unhealthy');
    expect(await health()).toMatchObject({ health: 'unhealthy', healthReason: 'forced', healthBy: 'operator' });
    await until('no chunk is worked on', async () => (await management.db.sql`select 1 from dispatch_queue where state = 1`).length === 0);
    const sent = platform.shown.length;
    await sleep(300);
    expect(platform.shown.length).toBe(sent);
    expect(sent).toBeLessThan(1500);
    // Its sessions stay, for reports and replies.
    expect([carrier.sessions, carrier.counters.logins]).toEqual([connections, connections]);

    await force('healthy');
    carrier.faults = { throttleShare: 0.5 };
    await until('all are sent', () => platform.shown.length === 1500, 60_000);
    expect(await health()).toMatchObject({ health: 'healthy' });
    await force(null);
    expect(await platform.audit()).toEqual([]);
  }, 90_000);
});
