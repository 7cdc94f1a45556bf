import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startManagement, type TestManagement } from '../../../test/kit/management.ts';
import { createDb, type Db } from '../../db/db.ts';
import { balanceOf, conclude, hold, openBalance, takeRate, topUp, yuan } from './ledger.ts';
import { Refusal } from '../model/refusals.ts';

let management: TestManagement;
let next = 1n;
const at = new Date();

beforeAll(async () => {
  management = await startManagement();
});

afterAll(() => management.stop());

type Operation =
  | { readonly kind: 'top_up'; readonly key: bigint; readonly amount: bigint }
  | { readonly kind: 'hold'; readonly batches: readonly bigint[]; readonly amount: bigint }
  | { readonly kind: 'settle' | 'release'; readonly batch: bigint; readonly seq: bigint; readonly amount: bigint };

// Few keys, so that repeats are common.
const amount = fc.bigInt({ min: 1n, max: 1000n });
const key = fc.bigInt({ min: 1n, max: 6n });
const operation: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({ kind: fc.constant('top_up' as const), key, amount }),
  fc.record({ kind: fc.constant('hold' as const), batches: fc.uniqueArray(key, { minLength: 1, maxLength: 3 }), amount }),
  fc.record({ kind: fc.constantFrom('settle' as const, 'release' as const), batch: key, seq: key, amount }),
);

/** Runs the operation as its callers do: in a transaction, which a refusal or a used key rolls back. True if it was committed. */
async function run(subscriptionId: bigint, wanted: Operation): Promise<boolean> {
  const accountId = subscriptionId;
  try {
    await management.db.transaction(async (sql) => {
      if (wanted.kind === 'top_up')
        await topUp(sql, { accountId, subscriptionId, amountE4: wanted.amount, key: wanted.key, note: null, at });
      else if (wanted.kind === 'hold')
        await hold(
          sql,
          accountId,
          subscriptionId,
          wanted.batches.map((batchId) => ({ batchId, amountE4: wanted.amount })),
          at,
        );
      else {
        const [settledE4, releasedE4] = wanted.kind === 'settle' ? [wanted.amount, 0n] : [0n, wanted.amount];
        await conclude(sql, accountId, [{ subscriptionId, batchId: wanted.batch, seq: wanted.seq, settledE4, releasedE4 }], at);
      }
    });
    return true;
  } catch (error) {
    if (error instanceof Refusal || (error instanceof Error && 'code' in error && error.code === '23505')) return false;
    throw error;
  }
}

async function books(subscriptionId: bigint) {
  const [sums] = await management.db.sql<{ amount: bigint; held: bigint }[]>`
    select coalesce(sum(amount_e4), 0)::bigint as amount, coalesce(sum(held_e4), 0)::bigint as held from ledger_entries
    where account_id = ${subscriptionId}`;
  return { balance: await balanceOf(management.db.sql, subscriptionId, subscriptionId), ...sums };
}

async function openOne(): Promise<bigint> {
  const id = next++;
  await openBalance(management.db.sql, id, id);
  return id;
}

it('whatever happens in whatever order and however often, a balance is the sum of its entries and what a model says', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { maxLength: 30 }), async (operations) => {
      const id = await openOne();
      const done = new Set<string>();
      let balance = 0n;
      let held = 0n;
      for (const one of operations) {
        const committed = await run(id, one);
        if (one.kind === 'hold') {
          const total = one.amount * BigInt(one.batches.length);
          const isNew = one.batches.every((batch) => !done.has(`hold ${batch}`));
          expect(committed).toBe(isNew && total <= balance);
          if (!committed) continue;
          for (const batch of one.batches) done.add(`hold ${batch}`);
          balance -= total;
          held += total;
          continue;
        }
        const name = one.kind === 'top_up' ? `top_up ${one.key}` : `${one.kind} ${one.batch} ${one.seq}`;
        if (done.has(name)) continue;
        done.add(name);
        if (one.kind !== 'settle') balance += one.amount;
        if (one.kind !== 'top_up') held -= one.amount;
      }
      expect(await books(id)).toEqual({ balance, amount: balance, held });
    }),
    { numRuns: 60 },
  );
}, 60_000);

it('the same at once: nothing is overdrawn, nothing is counted twice', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 5, maxLength: 30 }), async (operations) => {
      const id = await openOne();
      await run(id, { kind: 'top_up', key: 100n, amount: 1500n });
      await Promise.all(operations.map((one) => run(id, one)));
      const { balance, amount: sum } = await books(id);
      expect(balance).toBe(sum);
      expect(balance).toBeGreaterThanOrEqual(0n);
    }),
    { numRuns: 30 },
  );
}, 60_000);

const limit = fc.record({ perSecond: fc.integer({ min: 1, max: 50 }), burst: fc.integer({ min: 1, max: 100 }) });
const asking = fc.record({ atMs: fc.integer({ min: -500, max: 5000 }), wanted: fc.integer({ min: 0, max: 60 }) });
const take = (db: Db, id: bigint, rate: { perSecond: number; burst: number }, { atMs, wanted }: { atMs: number; wanted: number }) =>
  db.transaction((sql) => takeRate(sql, id, id, rate, wanted, new Date(at.getTime() + atMs)));

it('a rate grants what a bucket holds that fills steadily, and nothing for a clock that goes back', async () => {
  await fc.assert(
    fc.asyncProperty(limit, fc.array(asking, { maxLength: 12 }), async (rate, askings) => {
      const id = await openOne();
      let left = rate.burst;
      let latest: number | null = null;
      let now = 0;
      for (const { atMs, wanted } of askings) {
        now += atMs;
        // A request for none does not move the bucket's clock.
        if (wanted > 0) {
          left = Math.min(rate.burst, left + (Math.max(0, now - (latest ?? now)) * rate.perSecond) / 1000);
          latest = Math.max(now, latest ?? now);
        }
        const granted = Math.min(wanted, Math.floor(left + 1e-6));
        expect(await take(management.db, id, rate, { atMs: now, wanted })).toBe(granted);
        left -= granted;
      }
    }),
    { numRuns: 60 },
  );
}, 60_000);

it('a rate grants never more than the burst and what flowed in meanwhile, to two nodes at once, and gives back what is rolled back', async () => {
  const elsewhere = createDb(management.databaseUrl);
  try {
    await fc.assert(
      fc.asyncProperty(limit, fc.array(asking, { minLength: 20, maxLength: 40 }), async (rate, askings) => {
        const id = await openOne();
        const granted = await Promise.all(askings.map((one, i) => take(i % 2 === 0 ? management.db : elsewhere, id, rate, one)));
        const times = askings.map(({ atMs }) => atMs);
        const flowedIn = ((Math.max(...times) - Math.min(...times)) * rate.perSecond) / 1000;
        expect(granted.reduce((sum, n) => sum + n, 0)).toBeLessThanOrEqual(rate.burst + flowedIn);
        const wanted = askings.reduce((sum, one) => sum + one.wanted, 0);
        expect(granted.reduce((sum, n) => sum + n, 0)).toBeGreaterThanOrEqual(Math.min(wanted, rate.burst));
      }),
      { numRuns: 15 },
    );
    const id = await openOne();
    const rate = { perSecond: 1, burst: 5 };
    const failing = management.db.transaction(async (sql) => {
      expect(await takeRate(sql, id, id, rate, 5, at)).toBe(5);
      throw new Refusal('insufficient_balance', '');
    });
    await expect(failing).rejects.toThrow(Refusal);
    expect(await take(elsewhere, id, rate, { atMs: 0, wanted: 9 })).toBe(5);
  } finally {
    await elsewhere.end();
  }
}, 60_000);

it('amounts are written with two decimals, more only where they are not zero', () => {
  expect([0n, 500n, 1000n, 10_000n, 12_345n, -500n, 999_998_900n].map(yuan)).toEqual([
    '0.00',
    '0.05',
    '0.10',
    '1.00',
    '1.2345',
    '-0.05',
    '99999.89',
  ]);
});
