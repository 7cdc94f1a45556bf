/**
 * Two nodes over one database: whatever becomes of one of them, the other takes its work over within the time of a lease, and what wakes
 * up late sends nothing more.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, type TestContext } from 'vitest';
import { clientOf, createPuller, plainNumbers, startPlatform, tally, until } from '../platform.ts';

const connections = 2;
const inDoubtPerConnection = 128;
const leaseMs = 10_000;
const balanceE4 = 100_000_000n;

/** One node that holds every connection and is in the middle of 6,000 messages, and one that waits. */
async function busyAndIdle({ onTestFinished }: TestContext) {
  const platform = await startPlatform({ connections, ratePerSecond: 1000, window: 16 });
  onTestFinished(() => platform.stop());
  const { carrier } = platform;
  const customer = await platform.customer({ balanceE4 });
  const busy = await platform.startNode();
  await until('the first node holds both connections', () => carrier.links === connections);
  const idle = await platform.startNode();
  const client = clientOf(idle, customer);
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
    expect(repeats).toBeLessThanOrEqual(inDoubtPerConnection * connections);
  }
  return { platform, busy, check };
}

describe.concurrent('two nodes', () => {
  it('a node that slept through its leases sends nothing more under them, and nothing is lost', async (context) => {
    const { platform, busy, check } = await busyAndIdle(context);
    const { carrier, shown } = platform;
    busy.process.kill('SIGSTOP');
    context.onTestFinished(() => void busy.process.kill('SIGCONT'));
    await sleep(200);
    const before = carrier.counters.submits;
    expect(before).toBeLessThan(5000);
    // The lease is ten seconds; the rest is for a machine that runs other tests at the same time.
    await until('the other node goes on', () => carrier.counters.submits >= before + 500, 25_000);
    const known = shown.length;
    busy.process.kill('SIGCONT');
    await check();
    const logins = new Set(shown.slice(known).map(({ connection }) => connection));
    expect([...logins].filter((connection) => connection <= connections)).toEqual([]);
    expect(busy.process.exitCode).toBeNull();
  }, 60_000);

  it('the connections of a node that was killed are taken over within the time of a lease', async (context) => {
    const { platform, busy, check } = await busyAndIdle(context);
    const { carrier } = platform;
    await busy.kill();
    const killedAt = Date.now();
    const before = carrier.counters.submits;
    await until('the other node goes on', () => carrier.counters.submits >= before + 500);
    expect(Date.now() - killedAt).toBeLessThan(leaseMs + 3000);
    await check();
  }, 40_000);
});
