import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startManagement, type TestManagement } from '../../test/management.ts';
import { balanceOf, conclude, hold, openBalance, topUp, yuan } from './ledger.ts';
import { Refusal } from './model.ts';

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

/** Does it as its callers do: in a transaction, which a refusal or a key that is taken rolls back. True if it was committed. */
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
