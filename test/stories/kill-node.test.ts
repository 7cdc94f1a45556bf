/**
 * A node is killed (SIGKILL) in the middle of a run and another one is started over the same database. Every accepted message is ended,
 * reported and charged exactly once. Phones see a message twice only within the bound of the messages in doubt.
 */
import { describe, expect, it, type TestContext } from 'vitest';
import {
  clientOf,
  createPuller,
  numberOf,
  plainNumbers,
  type ReportRow,
  runCommand,
  startPlatform,
  tally,
  until,
} from '../kit/platform.ts';

const connections = 2;
/** Messages of one connection that a crash may leave in doubt: the dispatcher's reservation. */
const inDoubtPerConnection = 128;
const priceE4 = 500n;
const balanceE4 = 100_000_000n;

const outcomes: Record<string, string> = {
  '0001': 'UNDELIV',
  '0002': 'EXPIRED',
  '0003': 'REJECTD',
  '0004': 'MK:0001',
  '0005': 'ER:0013',
  '0006': 'DELIVRD',
  '0007': 'EXPIRED', // never reported: ended by us
  '0008': 'DELIVRD',
  '0009': 'DELIVRD',
  '0010': 'DELIVRD',
  '0011': 'DELIVRD',
  '0012': 'DELIVRD',
};
const perFate = 5;
const silent = Array.from({ length: perFate }, (_, n) => numberOf('0007', n));

/** 5,000 numbers; those with a fate of their own are spread among the others. */
function numbers(): string[] {
  const special = Object.keys(outcomes).flatMap((fate) => Array.from({ length: perFate }, (_, n) => numberOf(fate, n)));
  const plain = plainNumbers(5000 - special.length);
  special.forEach((number, i) => plain.splice(i * 83, 0, number));
  return plain;
}

const expected = (mobile: string): string => outcomes[mobile.slice(-4)] ?? 'DELIVRD';
const keysOf = (rows: readonly ReportRow[]): string[] => rows.map(({ msgId, mobile }) => `${msgId}/${mobile}`);

async function killedAfter({ onTestFinished }: TestContext, sent: number, inDoubt: 'resend' | 'give_up') {
  const platform = await startPlatform({ connections, ratePerSecond: 3000, window: 400 });
  onTestFinished(() => platform.stop());
  const { carrier, shown } = platform;
  // A slow carrier and a wide window: what bounds the messages on their way is the reservation alone.
  carrier.faults = { responseDelayMs: 100 };
  const customer = await platform.customer({ balanceE4, priceE4, inDoubt });
  const accepted: string[] = [];
  const first = await platform.startNode();
  const puller = createPuller(clientOf(first, customer));
  const all = numbers();
  for (let from = 0; from < all.length; from += 1000) {
    const { code, msgId } = await clientOf(first, customer).submit(all.slice(from, from + 1000));
    expect(code).toBe(0);
    accepted.push(...all.slice(from, from + 1000).map((mobile) => `${msgId}/${mobile}`));
  }

  await until(`${sent} messages are sent`, () => carrier.counters.submits >= sent);
  // A pull whose answer the kill takes away was handed over all the same; the customer's program waits that long.
  await puller.pause();
  await first.kill();
  const atKill = carrier.counters.submits;
  expect(atKill).toBeLessThan(accepted.length);

  const second = await platform.startNode();
  const client = clientOf(second, customer);
  puller.goOn(client);
  await puller.waitFor(accepted.length - silent.length);
  await until('the silent ones are the only ones open', async () => {
    const [row] = await platform.management.db.sql<{ open: number }[]>`select count(*)::int as open from messages where status = 1`;
    return row?.open === silent.length - puller.rows.filter(({ mobile }) => silent.includes(mobile)).length;
  });
  await platform.expireOverdue(new Date(Date.now() + 73 * 3600_000));
  await puller.waitFor(accepted.length);
  await until('every reply is pulled', () => carrier.owed === 0);
  await puller.stop();

  expect(keysOf(puller.rows).sort()).toEqual(accepted.sort());
  expect(await client.reports()).toEqual([]);
  const cost = puller.rows.reduce((sum, { status }) => (status === 'DELIVRD' ? sum + priceE4 : sum), 0n);
  expect(puller.rows.filter(({ status, price }) => price !== (status === 'DELIVRD' ? '0.05' : '0'))).toEqual([]);
  expect(await client.balanceE4()).toBe(balanceE4 - cost);
  expect(await platform.audit()).toEqual([]);
  expect(await runCommand(['audit'], { HONGYAN_DATABASE_URL: platform.databaseUrl })).toMatchObject({ exitCode: 0 });
  const repeats = [...tally(shown.map(({ to }) => to)).values()].reduce((sum, times) => sum + times - 1, 0);
  return { rows: puller.rows, repeats, client, shown };
}

// Side by side: most of their time they wait for the dead node's leases.
describe.concurrent('SIGKILL', () => {
  it.for([250, 2500, 4800])(
    'a node killed after %i of 5,000 submits loses nothing, charges nothing twice and repeats no more than was in doubt',
    { timeout: 40_000 },
    async (sent, context) => {
      const { rows, repeats, client, shown } = await killedAfter(context, sent, 'resend');
      // Whoever opted out while his message was in doubt is not sent it again.
      const isRight = ({ mobile, status }: ReportRow) => status === expected(mobile) || (mobile.endsWith('0011') && status === 'WL:SHLJ');
      expect(rows.filter((row) => !isRight(row))).toEqual([]);
      expect(repeats).toBeLessThanOrEqual(inDoubtPerConnection * connections);
      // Whoever got the message twice may have answered twice.
      const replies = await client.replies();
      const answered = shown.filter(({ to }) => to.endsWith('0011') || to.endsWith('0012'));
      expect(replies.map(({ mobile }) => mobile).sort()).toEqual(answered.map(({ to }) => to).sort());
      expect(new Set(replies.map(({ content }) => content))).toEqual(new Set(['TD', '你好,|世界']));
    },
  );

  it('a product that gives up what is in doubt never repeats a message: it ends as UNKNOWN and costs nothing', async (context) => {
    const { rows, repeats } = await killedAfter(context, 2500, 'give_up');
    const given = rows.filter(({ status }) => status === 'UNKNOWN');
    expect(rows.filter(({ mobile, status }) => status !== 'UNKNOWN' && status !== expected(mobile))).toEqual([]);
    expect(given.length).toBeGreaterThan(0);
    expect(given.length).toBeLessThanOrEqual(inDoubtPerConnection * connections);
    expect(repeats).toBe(0);
  }, 40_000);
});
