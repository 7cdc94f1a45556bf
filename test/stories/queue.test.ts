/**
 * The queue of a channel: order, rate, time to live, and what happens to waiting messages when a channel is switched off, a connection
 * drops, a node stops cleanly, or a claim fails half-way.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, type TestContext } from 'vitest';
import { createIsmg } from '../../simulators/cmpp.ts';
import { changeChannel, createChannel } from '../../src/core/catalogue/channels.ts';
import { changePool } from '../../src/core/catalogue/pools.ts';
import { change } from '../../src/core/config/management.ts';
import { clientOf, createPuller, type Platform, type PlatformOptions, plainNumbers, startPlatform, tally, until } from '../kit/platform.ts';

const hour = 3600_000;

/** Tests run side by side, so each must say itself when it is over. */
async function platformOf({ onTestFinished }: TestContext, options?: PlatformOptions): Promise<Platform> {
  const platform = await startPlatform(options);
  onTestFinished(() => platform.stop());
  return platform;
}

const switchChannel = ({ management, channelId }: Platform, enabled: boolean) =>
  change(management, (sql) => changeChannel(sql, management, channelId, { enabled }));

describe.concurrent('order and pace', () => {
  it("a newcomer's 500 numbers are not behind another account's 50,000", async (context) => {
    const platform = await platformOf(context, { connections: 1, ratePerSecond: 2000, carrier: { recording: true } });
    const [big, small] = [await platform.customer(), await platform.customer()];
    const app = await platform.startApp();
    for (let part = 0; part < 5; part++) expect((await clientOf(app, big).submit(plainNumbers(10_000, part))).code).toBe(0);
    await until('the big one is on its way', () => platform.shown.length > 200);
    const { extension } = small;
    await clientOf(app, small).submit(plainNumbers(500, 9));
    const isSmall = ({ from }: { from: string }) => from === platform.accessNumber + extension;
    await until("the newcomer's are sent", () => platform.shown.filter(isSmall).length === 500);
    expect(platform.shown.length).toBeLessThan(200 + 500 + 2500);
  }, 40_000);

  it('class 0 goes before class 1, which keeps at least a tenth', async (context) => {
    const platform = await platformOf(context, { connections: 1, ratePerSecond: 3000 });
    const [low, high] = [await platform.customer({ class: 1 }), await platform.customer({ class: 0 })];
    const app = await platform.startApp({ roles: ['api'] });
    for (const [part, who] of [low, high].entries()) await clientOf(app, who).submit(plainNumbers(10_000, part));
    await platform.startApp({ roles: ['dispatch'] });
    await until('a good part is sent', () => platform.shown.length >= 8000);
    const lows = platform.shown.slice(0, 8000).filter(({ from }) => from.endsWith(low.extension)).length;
    expect(lows).toBeGreaterThanOrEqual(500);
    expect(lows).toBeLessThan(1600);
  }, 40_000);

  it('window and rate are kept', async (context) => {
    const platform = await platformOf(context, { connections: 1, ratePerSecond: 500, window: 4, carrier: { recording: true } });
    platform.carrier.faults = { responseDelayMs: 5 };
    const customer = await platform.customer();
    const app = await platform.startApp();
    await clientOf(app, customer).submit(plainNumbers(1000));
    await until('the first are sent', () => platform.shown.length > 0);
    const [start, before] = [performance.now(), platform.carrier.counters.submits];
    await sleep(1000);
    const perSecond = (platform.carrier.counters.submits - before) / ((performance.now() - start) / 1000);
    expect(perSecond).toBeLessThan(550);
    expect(perSecond).toBeGreaterThan(0);
    expect(platform.carrier.counters.peakWindow).toBeLessThanOrEqual(4);
  }, 40_000);
});

describe.concurrent('waiting', () => {
  it('what a disabled channel was to carry waits, and goes on when it is enabled', async (context) => {
    const platform = await platformOf(context);
    const customer = await platform.customer();
    const app = await platform.startApp();
    const client = clientOf(app, customer);
    platform.carrier.faults = { responseDelayMs: 20 };
    const { msgId } = await client.submit(plainNumbers(3000));
    await until('some are sent', () => platform.carrier.counters.submits > 500);
    await switchChannel(platform, false);
    await until('the connections are closed', () => platform.carrier.sessions === 0);
    const sent = platform.carrier.counters.submits;
    await sleep(300);
    expect(platform.carrier.counters.submits).toBe(sent);
    expect(sent).toBeLessThan(3000);
    await switchChannel(platform, true);
    const puller = createPuller(client);
    await puller.waitFor(3000);
    await puller.stop();
    expect(puller.rows.filter((row) => row.status !== 'DELIVRD' || row.msgId !== msgId)).toEqual([]);
    // A clean stop of the channel left nothing in doubt, so nobody was sent anything twice.
    expect(platform.shown.length).toBe(3000);
    expect(await platform.audit()).toEqual([]);
  }, 40_000);

  it.for([
    { why: 'is disabled', disabled: true },
    { why: 'has no connection', disabled: false },
  ])(
    'what could not be sent within its time to live, because its channel $why, expires and costs nothing',
    { timeout: 40_000 },
    async ({ disabled }, context) => {
      const platform = await platformOf(context);
      const customer = await platform.customer({ balanceE4: 1_000_000n });
      let ahead = 0;
      await platform.carrier.stop();
      const app = await platform.startApp({ clock: () => new Date(Date.now() + ahead) });
      const client = clientOf(app, customer);
      const { msgId } = await client.submit(plainNumbers(700));
      expect(await client.balanceE4()).toBe(1_000_000n - 700n * 500n);
      if (disabled) await switchChannel(platform, false);
      ahead = 25 * hour;
      const puller = createPuller(client);
      await puller.waitFor(700);
      await puller.stop();
      expect(puller.rows.filter((row) => row.status !== 'EXPIRED' || row.price !== '0' || row.msgId !== msgId)).toEqual([]);
      expect(await client.balanceE4()).toBe(1_000_000n);
      expect(await platform.audit()).toEqual([]);
    },
  );
});

describe.concurrent('in doubt', () => {
  it('a clean stop leaves nothing in doubt, even for a product that would give it up', async (context) => {
    const platform = await platformOf(context, { window: 16 });
    platform.carrier.faults = { responseDelayMs: 50 };
    const customer = await platform.customer({ inDoubt: 'give_up' });
    const first = await platform.startApp();
    await clientOf(first, customer).submit(plainNumbers(1500));
    await until('some are sent', () => platform.carrier.counters.submits > 300);
    await first.stop();
    expect(platform.carrier.counters.submits).toBeLessThan(1500);
    platform.carrier.faults = {};
    const second = await platform.startApp();
    const puller = createPuller(clientOf(second, customer));
    await puller.waitFor(1500);
    await puller.stop();
    expect([...tally(puller.rows.map(({ status }) => status))]).toEqual([['DELIVRD', 1500]]);
    expect(platform.shown.length).toBe(1500);
    expect(await platform.audit()).toEqual([]);
  });

  it('a dropped connection leaves in doubt what was written to it and not answered, no more', async (context) => {
    const [window, connections] = [8, 2];
    const platform = await platformOf(context, { window, connections });
    platform.carrier.faults = { responseDelayMs: 30 };
    const customer = await platform.customer({ inDoubt: 'give_up' });
    const app = await platform.startApp();
    await clientOf(app, customer).submit(plainNumbers(1500));
    await until('some are sent', () => platform.carrier.counters.submits > 200);
    platform.carrier.dropConnections();
    platform.carrier.faults = {};
    const puller = createPuller(clientOf(app, customer));
    await puller.waitFor(1500);
    await puller.stop();
    const statuses = tally(puller.rows.map(({ status }) => status));
    expect(statuses.get('UNKNOWN')).toBeLessThanOrEqual(window * connections);
    expect((statuses.get('DELIVRD') ?? 0) + (statuses.get('UNKNOWN') ?? 0)).toBe(1500);
    expect(platform.shown.length).toBeLessThanOrEqual(1500);
    expect(await platform.audit()).toEqual([]);
  }, 40_000);

  it('a chunk that was claimed and could not be loaded is claimed again', async (context) => {
    const platform = await platformOf(context);
    const { db } = platform.management;
    const customer = await platform.customer();
    const client = clientOf(await platform.startApp({ roles: ['api'] }), customer);
    await client.submit(plainNumbers(1));
    // Claiming touches only the queue; loading needs what is locked here, until its statement gives up.
    await db.transaction(async (sql) => {
      await sql`lock table chunks in access exclusive mode`;
      await platform.startApp({ roles: ['dispatch'], database: { statementTimeoutMs: 400 } });
      await until('the chunk is claimed', async () => (await db.sql`select 1 from dispatch_queue where state = 1`).length > 0);
      await sleep(600);
    });
    const puller = createPuller(client);
    await puller.waitFor(1);
    await puller.stop();
    expect(platform.shown.length).toBe(1);
  }, 40_000);
});

it('a channel that is switched off while its carrier is silent does not hold up the others', async (context) => {
  const platform = await platformOf(context, { connections: 1, ratePerSecond: 300 });
  const { management, channelId } = platform;
  const silent = createIsmg({ accounts: [{ spId: '905678', secret: 'silent' }] });
  silent.faults = { unansweredShare: 1 };
  await silent.start();
  context.onTestFinished(() => silent.stop());
  await change(management, async (sql) => {
    await createChannel(sql, management, {
      id: 2n,
      name: 'silent',
      protocol: 'cmpp',
      carriers: ['international'],
      accessNumber: '10690002',
      secret: 'silent',
      settings: { host: '127.0.0.1', port: silent.port, spId: '905678', serviceId: 'STORY', ratePerSecond: 100 },
    });
    await changePool(sql, 1n, { channels: [channelId, 2n].map((id) => ({ channelId: id, priority: 1, weight: 1 })) });
  });
  const customer = await platform.customer();
  const client = clientOf(await platform.startApp(), customer);
  await client.submit(['0012025550101', '0012025550102']);
  await client.submit(plainNumbers(5000));
  await until('both channels have work', () => silent.counters.submits === 2 && platform.carrier.counters.submits > 0);
  await change(management, (sql) => changeChannel(sql, management, 2n, { enabled: false }));
  await sleep(8500); // what is left of a lease that is not renewed
  const before = platform.carrier.counters.submits;
  await sleep(800);
  expect(platform.carrier.counters.submits - before).toBeGreaterThan(100);
}, 40_000);
