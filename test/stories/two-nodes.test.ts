/**
 * Two nodes over one database share a channel's connections evenly, and give and take them without leaving a message in doubt. If one
 * fails, the other takes over its work within the time of a lease; a node that wakes up late sends nothing more.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, type TestContext } from 'vitest';
import { clientOf, createPuller, numberOf, type Platform, plainNumbers, startPlatform, tally, until } from '../kit/platform.ts';

const connections = 2;
const inDoubtPerConnection = 128;
const leaseMs = 10_000;
const balanceE4 = 100_000_000n;

/** How many connections each node holds. */
async function held({ management }: Platform): Promise<number[]> {
  const rows = await management.db.sql<{ n: number }[]>`
    select count(*)::int as n from channel_leases where until > now() group by node order by n desc`;
  return rows.map(({ n }) => n);
}

const areHeld = (platform: Platform, wanted: readonly number[]) =>
  until(`the connections are held as ${wanted.join(' and ')}`, async () => String(await held(platform)) === String(wanted), 30_000);

/** Two nodes that are in the middle of 6,000 messages, one connection each. */
async function busyNodes({ onTestFinished }: TestContext) {
  const platform = await startPlatform({ connections, ratePerSecond: 500, window: 16 });
  onTestFinished(() => platform.stop());
  const { carrier } = platform;
  const customer = await platform.customer({ balanceE4 });
  const first = await platform.startNode();
  await until('the first node holds both connections', () => carrier.sessions === connections);
  const second = await platform.startNode();
  await areHeld(platform, [1, 1]);
  const client = clientOf(second, customer);
  const puller = createPuller(client);
  const numbers = plainNumbers(6000);
  const { code, msgId } = await client.submit(numbers);
  expect(code).toBe(0);
  await until('messages are sent', () => carrier.counters.submits >= 1000);

  /** All is well in the end. */
  async function check(): Promise<void> {
    await puller.waitFor(numbers.length);
    await sleep(100);
    await puller.stop();
    expect(puller.rows.map((row) => `${row.msgId}/${row.mobile}`).sort()).toEqual(numbers.map((mobile) => `${msgId}/${mobile}`).sort());
    expect(puller.rows.filter(({ status }) => status !== 'DELIVRD')).toEqual([]);
    expect(await client.balanceE4()).toBe(balanceE4 - 500n * BigInt(numbers.length));
    expect(await platform.audit()).toEqual([]);
    const repeats = [...tally(platform.shown.map(({ to }) => to)).values()].reduce((sum, times) => sum + times - 1, 0);
    expect(repeats).toBeLessThanOrEqual(inDoubtPerConnection);
  }
  return { platform, first, check };
}

describe.concurrent('two nodes', () => {
  it('a node that joins gets its part of the connections, one that stops gives its own away, and no message is in doubt', async ({
    onTestFinished,
  }) => {
    const platform = await startPlatform({ connections: 5, ratePerSecond: 400, window: 50 });
    onTestFinished(() => platform.stop());
    const { carrier, shown } = platform;
    carrier.faults = { responseDelayMs: 50 };
    // Whatever were in doubt would end as UNKNOWN, so that it cannot hide.
    const customer = await platform.customer({ balanceE4, inDoubt: 'give_up' });
    const first = await platform.startNode();
    await areHeld(platform, [5]);
    const puller = createPuller(clientOf(first, customer));
    let client = clientOf(first, customer);
    // Some are throttled at first, and sent again after others behind them.
    const pool = plainNumbers(100_000).map((number, i) => (i % 20 === 0 ? numberOf('0006', i / 20) : number));
    const numbers: string[] = [];
    let isOver = false;
    const submitting = (async () => {
      // There is always something to send, and never much.
      while (!isOver) {
        if (numbers.length - shown.length < 1000) {
          const part = pool.slice(numbers.length, numbers.length + 500);
          expect((await client.submit(part)).code).toBe(0);
          numbers.push(...part);
        }
        await sleep(20);
      }
    })();
    const moreIsSent = async () => {
      const known = shown.length;
      await until('more messages are sent', () => shown.length >= known + 300, 30_000);
    };
    await moreIsSent();

    const second = await platform.startNode();
    await areHeld(platform, [3, 2]);
    await moreIsSent();
    await areHeld(platform, [3, 2]); // a heartbeat that is late on a busy machine is no reason to move for good
    client = clientOf(second, customer);
    await puller.pause();
    puller.goOn(client);
    await moreIsSent();
    await first.stop();
    expect(first.process.exitCode).toBe(0);
    await areHeld(platform, [5]);
    await moreIsSent();
    isOver = true;
    await submitting;

    await puller.waitFor(numbers.length, 60_000);
    await puller.stop();
    expect(puller.rows.filter(({ status }) => status !== 'DELIVRD')).toEqual([]);
    expect(puller.rows.map(({ mobile }) => mobile).sort()).toEqual([...numbers].sort());
    expect(shown.map(({ to }) => to).sort()).toEqual([...numbers].sort());
    expect(carrier.sessions).toBe(5);
    expect(await platform.audit()).toEqual([]);
  }, 120_000);

  it('a node that slept through its leases sends nothing more under them, and nothing is lost', async (context) => {
    const { platform, first, check } = await busyNodes(context);
    const { carrier, shown } = platform;
    first.process.kill('SIGSTOP');
    context.onTestFinished(() => void first.process.kill('SIGCONT'));
    // The lease is ten seconds; the rest is for a machine that runs other tests at the same time.
    await until(
      'the other node has logged in for the connection of the one that sleeps',
      () => carrier.sessions === connections + 1,
      25_000,
    );
    const known = shown.length;
    first.process.kill('SIGCONT');
    await check();
    // The first two logins were those of the node that slept.
    const logins = new Set(shown.slice(known).map(({ connection }) => connection));
    expect([...logins].filter((connection) => connection <= connections)).toEqual([]);
    expect(first.process.exitCode).toBeNull();
  }, 90_000);

  it('the connections of a node that was killed are taken over within the time of a lease', async (context) => {
    const { platform, first, check } = await busyNodes(context);
    const { carrier } = platform;
    await first.kill();
    const killedAt = Date.now();
    await until('its connection is gone', () => carrier.sessions === connections - 1);
    await until('the other node has taken it over', () => carrier.sessions === connections);
    expect(Date.now() - killedAt).toBeLessThan(leaseMs + 3000);
    await check();
  }, 90_000);
});
