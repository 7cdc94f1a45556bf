import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startManagement, type TestManagement } from '../../../test/kit/management.ts';
import { createDb, type Db } from '../../db/db.ts';
import { shanghaiTime } from '../../std/shanghai.ts';
import { createAccount, createSubscription } from '../catalogue/accounts.ts';
import {
  type Asked,
  type CapRefusal,
  type CapSubject,
  type CounterKey,
  cappedSubjects,
  changeCap,
  createCap,
  listCaps,
  purgeCounters,
  removeCap,
  takeCaps,
} from './caps.ts';
import { createProduct } from '../catalogue/products.ts';
import { change } from '../config/management.ts';
import type { CapPeriod, CapScope } from '../model/configuration.ts';
import { createSignature } from '../content/signatures.ts';

let office: TestManagement;
/** A second pool, as another node has one. */
let elsewhere: Db;
let nextId = 1n;

beforeAll(async () => {
  office = await startManagement();
  elsewhere = createDb(office.databaseUrl);
});

afterAll(async () => {
  await elsewhere.end();
  await office.stop();
});

const shanghai = (wallClock: string) => new Date(`${wallClock}+08:00`);

/** A subject that no other test uses, with so many messages for each of these periods. */
function subjectWith(limits: Partial<Record<CapPeriod, number>>, scope: CapScope = 'subscription', accountId = 1n): CapSubject {
  const subjectId = nextId++;
  const caps = Object.entries(limits).map(([period, count]) => ({
    id: nextId++,
    scope,
    subjectId,
    period: period as CapPeriod,
    count,
  }));
  return { accountId: scope === 'product' ? 0n : accountId, scope, subjectId, caps };
}

const asking = (phones: readonly bigint[], signatureId: bigint | null = null): Asked[] =>
  phones.map((phone, ordinal) => ({ ordinal, phone, signatureId }));

const take = (subjects: readonly CapSubject[], asked: readonly Asked[], at: Date, db: Db = office.db) =>
  db.transaction((sql) => takeCaps(sql, subjects, asked, at));

/** Whether one message to this number passes. */
const passes = async (subjects: readonly CapSubject[], phone: bigint, at: Date, db: Db = office.db) =>
  (await take(subjects, asking([phone]), at, db)).size === 0;

const countersOf = ({ accountId, scope, subjectId }: CapSubject) =>
  office.db.sql<{ phone: bigint; marks: number[] }[]>`
    select phone, marks from cap_counters
    where account_id = ${accountId} and subject_id = ${subjectId}
      and scope = ${{ subscription: 1, product: 2, signature: 3 }[scope]} order by phone`;

// ── against a model ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Keeps every message there ever was, and counts them all each time. */
function createModel() {
  const messages: { subject: CapSubject; phone: bigint; at: Date }[] = [];
  const isWithin = {
    minute: (then: Date, now: Date) => shanghaiTime(then).slice(0, 16) === shanghaiTime(now).slice(0, 16),
    hour: (then: Date, now: Date) => shanghaiTime(then).slice(0, 13) === shanghaiTime(now).slice(0, 13),
    day: (then: Date, now: Date) => shanghaiTime(then).slice(0, 10) === shanghaiTime(now).slice(0, 10),
    '24h': (then: Date, now: Date) => Math.floor(now.getTime() / 3600_000) - Math.floor(then.getTime() / 3600_000) <= 24,
  };
  const rank = { subscription: 1, product: 2, signature: 3 };
  return (subjects: readonly CapSubject[], asked: readonly Asked[], at: Date, isKept: boolean): Map<number, CapRefusal> => {
    const before = messages.length;
    const refused = new Map<number, CapRefusal>();
    for (const { ordinal, phone, signatureId } of asked) {
      const concerned = subjects
        .filter(({ scope, subjectId }) => scope !== 'signature' || subjectId === signatureId)
        .sort((a, b) => rank[a.scope] - rank[b.scope]);
      const full = concerned.flatMap((subject) =>
        subject.caps.flatMap(({ id, count: limit, ...cap }) => {
          const had = messages.filter((one) => one.subject === subject && one.phone === phone && isWithin[cap.period](one.at, at));
          return had.length >= limit ? [{ ...cap, cap: id, limit, count: had.length }] : [];
        }),
      );
      if (full[0]) refused.set(ordinal, full[0]);
      else messages.push(...concerned.map((subject) => ({ subject, phone, at })));
    }
    if (!isKept) messages.length = before;
    return refused;
  };
}

const limits = fc.dictionary(fc.constantFrom('minute', 'hour', 'day', '24h'), fc.integer({ min: 1, max: 4 }), { minKeys: 1 });
const step = fc.record({
  // Mostly close together, sometimes over the borders of hours and days.
  afterMinutes: fc.oneof(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 90 }), fc.integer({ min: 0, max: 3000 })),
  asked: fc.array(fc.record({ phone: fc.integer({ min: 0, max: 3 }), signature: fc.integer({ min: 0, max: 2 }) }), {
    minLength: 1,
    maxLength: 12,
  }),
  isKept: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
});

it('whatever is asked in whatever order, what passes and what refuses is what a model says that remembers everything', async () => {
  const scopes = fc.subarray<CapScope>(['subscription', 'product', 'signature', 'signature'], { minLength: 1 });
  await fc.assert(
    fc.asyncProperty(
      scopes,
      fc.array(limits, { minLength: 4, maxLength: 4 }),
      fc.array(step, { minLength: 1, maxLength: 12 }),
      async (scopesUsed, limitsOf, steps) => {
        const subjects = scopesUsed.map((scope, index) => subjectWith(limitsOf[index] ?? {}, scope));
        const signatures = [null, ...subjects.filter(({ scope }) => scope === 'signature').map(({ subjectId }) => subjectId), 0n];
        const model = createModel();
        let at = shanghai('2026-03-01T22:30:30');
        for (const { afterMinutes, asked, isKept } of steps) {
          at = new Date(at.getTime() + afterMinutes * 60_000);
          const wanted = asked.map(({ phone, signature }, ordinal) => ({
            ordinal,
            phone: BigInt(phone),
            signatureId: signatures[signature] ?? null,
          }));
          let refused: Map<number, CapRefusal> | undefined;
          await office.db
            .transaction(async (sql) => {
              refused = await takeCaps(sql, subjects.toReversed(), wanted.toReversed(), at);
              if (!isKept) throw new RolledBack();
            })
            .catch((error: unknown) => {
              if (!(error instanceof RolledBack)) throw error;
            });
          expect(refused).toEqual(model(subjects, wanted, at, isKept));
          for (const subject of subjects) {
            const most = Math.max(...subject.caps.map(({ count }) => count));
            for (const { marks } of await countersOf(subject)) {
              expect(marks.length).toBeLessThanOrEqual(most);
              expect(marks).toEqual([...marks].sort((a, b) => a - b));
            }
          }
        }
      },
    ),
    { numRuns: 120 },
  );
}, 120_000);

class RolledBack extends Error {}

// ── periods ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

describe('a period', () => {
  it.each<[CapPeriod, string, string, string]>([
    ['minute', '2026-03-01T10:00:00', '2026-03-01T10:00:59.999', '2026-03-01T10:01:00'],
    ['hour', '2026-03-01T10:59:59', '2026-03-01T10:59:59.999', '2026-03-01T11:00:00'],
    // 08:00 is midnight in UTC, and begins no day.
    ['day', '2026-03-01T00:00:00', '2026-03-01T08:00:00', '2026-03-02T00:00:00'],
    ['day', '2026-03-01T00:00:00', '2026-03-01T23:59:59.999', '2026-03-02T00:00:00'],
    ['24h', '2026-03-01T10:20:00', '2026-03-02T10:19:59.999', '2026-03-02T11:00:00'],
    ['24h', '2026-03-01T10:59:59', '2026-03-02T10:59:59.999', '2026-03-02T11:00:00'],
  ])('of a %s that began with a message at %s still counts it at %s, and not at %s', async (period, first, stillAt, goneAt) => {
    const subject = subjectWith({ [period]: 1 });
    expect(await passes([subject], 1n, shanghai(first))).toBe(true);
    expect(await passes([subject], 1n, shanghai(stillAt))).toBe(false);
    expect(await passes([subject], 1n, shanghai(goneAt))).toBe(true);
  });

  it('counts what a node has counted whose clock is ahead', async () => {
    const subject = subjectWith({ minute: 2, day: 3 });
    expect(await passes([subject], 1n, shanghai('2026-03-02T00:00:10'))).toBe(true);
    expect(await passes([subject], 1n, shanghai('2026-03-01T23:59:50'))).toBe(true);
    expect(await passes([subject], 1n, shanghai('2026-03-01T23:59:51'))).toBe(false);
    expect(await passes([subject], 1n, shanghai('2026-03-02T00:00:20'))).toBe(true);
    expect((await countersOf(subject)).map(({ marks }) => marks.length)).toEqual([2]);
  });
});

// ── at once ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const atOnce = shanghai('2026-03-01T12:00:00');

describe('many transactions at once', () => {
  it('let through exactly as many messages to a number as its cap, also when its counter is new', async () => {
    const subjects = [subjectWith({ day: 3, minute: 50 }), subjectWith({ '24h': 40 }, 'product')];
    for (const phone of [1n, 2n]) {
      const results = await Promise.all(
        Array.from({ length: 50 }, (_, i) => passes(subjects, phone, atOnce, i % 2 === 0 ? office.db : elsewhere)),
      );
      expect(results.filter(Boolean)).toHaveLength(3);
    }
    for (const subject of subjects) expect((await countersOf(subject)).map(({ marks }) => marks.length)).toEqual([3, 3]);
  });

  it('never wait for each other in a circle, whatever they ask in whatever order, while counters are purged', async () => {
    const shared = [subjectWith({ day: 100 }), subjectWith({ day: 100 }, 'product'), subjectWith({ day: 100 }, 'signature')];
    const [, , signature] = shared;
    const phones = Array.from({ length: 400 }, (_, i) => BigInt(i));
    // Some are there, and so old that they may be purged; most are not.
    await take(shared, asking(phones.slice(0, 150), signature?.subjectId), shanghai('2026-01-01T12:00:00'));
    const shuffled = <T>(items: readonly T[]): T[] =>
      items
        .map((item) => ({ item, key: Math.random() }))
        .sort((a, b) => a.key - b.key)
        .map(({ item }) => item);
    let attempts = 0;
    let isOver = false;
    const purging = (async () => {
      for (let after: CounterKey | null = null; !isOver; ) after = await purgeCounters(office.db.sql, after, 50, atOnce);
    })();
    const rounds = Array.from({ length: 60 }, (_, i) =>
      (i % 2 === 0 ? office.db : elsewhere).transaction(async (sql) => {
        attempts++;
        const asked = asking(shuffled(phones).slice(0, 250), signature?.subjectId);
        await takeCaps(sql, shuffled(shared), asked, atOnce);
        return asked.length;
      }),
    );
    const asked = await Promise.all(rounds).finally(() => {
      isOver = true;
    });
    await purging;
    // A deadlock would have been tried again.
    expect(attempts).toBe(60);
    for (const subject of shared) {
      const total = (await countersOf(subject)).reduce((sum, { marks }) => sum + marks.length, 0);
      expect(total).toBe(asked.reduce((sum, n) => sum + n, 0));
    }
  }, 60_000);
});

it('a number that another cap refuses uses nothing up', async () => {
  const subjects = [subjectWith({ day: 2 }), subjectWith({ day: 1 }, 'product')];
  const at = shanghai('2026-03-01T12:00:00');
  expect(await take(subjects, asking([7n, 7n, 8n]), at)).toEqual(
    new Map([[1, expect.objectContaining({ scope: 'product', period: 'day', limit: 1, count: 1 })]]),
  );
  expect(await passes(subjects.slice(1), 7n, at)).toBe(false);
  expect(await passes(subjects.slice(0, 1), 7n, at)).toBe(true);
});

// ── purge ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

it('counters that no cap counts any more are purged a stretch at a time, without waiting for those in use', async () => {
  const subject = subjectWith({ day: 5 }, 'subscription', 10n ** 15n);
  const phones = Array.from({ length: 25 }, (_, i) => BigInt(i));
  const at = shanghai('2026-03-01T12:00:00');
  await take([subject], asking(phones), at);
  const before: CounterKey = { accountId: subject.accountId, scope: 0, subjectId: 0n, phone: 0n };
  const left = async () => (await countersOf(subject)).map(({ phone }) => Number(phone));

  const tooEarly = new Date(at.getTime() + 24 * 3600_000);
  expect(await purgeCounters(office.db.sql, before, 1000, tooEarly)).toBe(null);
  expect(await left()).toHaveLength(25);

  const later = new Date(at.getTime() + 25 * 3600_000);
  await take([subject], asking([3n]), later);
  const tenth = await purgeCounters(office.db.sql, before, 10, later);
  expect(tenth).toMatchObject({ subjectId: subject.subjectId, phone: 9n });
  expect(await left()).toEqual([3, ...phones.slice(10).map(Number)]);

  await elsewhere.transaction(async (sql) => {
    await takeCaps(sql, [subject], asking([15n]), later);
    await purgeCounters(office.db.sql, tenth, 10, later);
    expect(await left()).toEqual([3, 15, 20, 21, 22, 23, 24]);
  });
  expect(await purgeCounters(office.db.sql, { ...before, ...tenth, phone: 19n }, 10, later)).toBe(null);
  expect(await left()).toEqual([3, 15]);
});

// ── configuration ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

it('caps are made for what exists, one of each period, and a submission meets those of what it uses', async () => {
  const ids = await change(office, async (sql) => {
    const accountId = (await createAccount(sql, office.box, { name: 'one' })).account.id;
    const productId = (await createProduct(sql, { name: 'AIM', medium: 'aim', unit: 'yuan' })).id;
    const subscriptionId = (await createSubscription(sql, office, { accountId, productId, priceE4: 500n })).subscription.id;
    const signatureId = (await createSignature(sql, { accountId, name: '鸿雁' })).id;
    return { accountId, productId, subscriptionId, signatureId };
  });
  const make = (scope: CapScope, subjectId: bigint, period: CapPeriod, count: number) =>
    change(office, (sql) => createCap(sql, { scope, subjectId, period, count }));
  const [minute, day] = [
    await make('subscription', ids.subscriptionId, 'minute', 1),
    await make('subscription', ids.subscriptionId, 'day', 3),
  ];
  const product = await make('product', ids.productId, 'day', 9);
  const signature = await make('signature', ids.signatureId, '24h', 2);
  await expect(make('subscription', ids.subscriptionId, 'day', 5)).rejects.toThrow('period: this subscription has a cap for day already');
  await expect(make('product', ids.subscriptionId, 'day', 5)).rejects.toThrow('subjectId: no such product');
  await expect(change(office, (sql) => changeCap(sql, minute.id, { period: 'day' }))).rejects.toThrow('has a cap for day already');

  const tenancy = office.directory.subscription(ids.subscriptionId);
  if (!tenancy) throw new Error('no subscription');
  const subjects = () => cappedSubjects(office.directory, tenancy, [ids.signatureId, ids.signatureId]);
  expect(subjects()).toMatchObject([
    { accountId: ids.accountId, scope: 'subscription', subjectId: ids.subscriptionId, caps: [{ id: minute.id }, { id: day.id, count: 3 }] },
    { accountId: 0n, scope: 'product', subjectId: ids.productId, caps: [{ id: product.id }] },
    { accountId: ids.accountId, scope: 'signature', subjectId: ids.signatureId, caps: [{ id: signature.id, period: '24h' }] },
  ]);
  expect(cappedSubjects(office.directory, tenancy, [])).toHaveLength(2);

  await change(office, (sql) => changeCap(sql, day.id, { count: 4 }));
  await change(office, (sql) => removeCap(sql, minute.id));
  await change(office, (sql) => removeCap(sql, product.id));
  expect(subjects().map(({ caps }) => caps.map(({ id, count }) => [id, count]))).toEqual([[[day.id, 4]], [[signature.id, 2]]]);
  await expect(change(office, (sql) => removeCap(sql, minute.id))).rejects.toThrow('no such cap');
  const listed = await listCaps(office.db.sql, { scope: 'subscription', subjectId: null }, { limit: 10, cursor: null });
  expect(listed.data.map(({ id }) => id)).toEqual([day.id]);
});

it('a cap that is lowered counts what was sent before, and one that looks further back begins with what was kept', async () => {
  const subject = subjectWith({ hour: 3 });
  const [cap] = subject.caps;
  if (!cap) throw new Error('no cap');
  const at = shanghai('2026-03-01T12:10:00');
  await take([subject], asking([1n, 1n]), at);
  expect(await passes([{ ...subject, caps: [{ ...cap, count: 2 }] }], 1n, at)).toBe(false);
  expect(await passes([{ ...subject, caps: [{ ...cap, count: 3, period: 'day' }] }], 1n, shanghai('2026-03-01T13:10:00'))).toBe(true);
  expect(await passes([{ ...subject, caps: [{ ...cap, count: 3, period: 'day' }] }], 1n, shanghai('2026-03-01T13:10:00'))).toBe(false);
});
