/** The dialect in which events are owed: with a dialect that the core has never heard of, and with rows of nodes that know none. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Platform, startAimPlatform } from '../../../test/kit/aim-platform.ts';
import { dialects } from '../../http/dialects/registry.ts';
import { shanghaiDay } from '../../std/shanghai.ts';
import { changeAccount, changeDialect, createSubscription, getSubscription } from '../catalogue/accounts.ts';
import { createDirectory, type Directory, type Tenancy } from '../config/directory.ts';
import { change, type Management } from '../config/management.ts';
import type { DialectRules, Dialects, ReportEvents } from '../model/dialect.ts';
import { indexInBatch, messageIdInBatch, messagesOfBatch } from '../model/ids.ts';
import { messageStatus } from '../model/statuses.ts';
import { audit } from '../watch/audit.ts';
import { searchEvents } from './history.ts';
import { createOutbox, type Outbox } from './outbox.ts';
import { destinations, reportsFrom, wholeAccount } from './owed.ts';

/** Pushed to the account, many at once and with retries, and pulled after that: no present dialect works like this. */
const pigeon: DialectRules = {
  name: 'pigeon',
  credentials: 'api_id',
  media: ['aim'],
  canPull: true,
  push: {
    urls: 'account',
    carries: 'many',
    delaysSeconds: () => [1],
    isSuccess: ({ status }) => status === 200,
    report: (events) => ({ contentType: 'text/plain', body: String(events.length) }),
    reply: (events) => ({ contentType: 'text/plain', body: String(events.length) }),
    audit: null,
  },
};
const withPigeon: Dialects = { ...dialects, rules: new Map([...dialects.rules, [pigeon.name, pigeon]]) };

const accountId = 1n;
const subscriptionId = 500001n;
const url = 'http://127.0.0.1:1/';

let platform: Platform;
/** A node that knows the new dialect, and the platform's own, which does not. */
let newer: Management;
let newOutbox: Outbox;
let oldOutbox: Outbox;
let day: string;
beforeAll(async () => {
  platform = await startAimPlatform();
  const { management } = platform.app;
  const directory = createDirectory({ ...management, dialects: withPigeon });
  await directory.start();
  newer = { ...management, directory };
  const { db } = management;
  newOutbox = createOutbox({ db, directory, clock: platform.clock });
  oldOutbox = createOutbox({ db, directory: management.directory, clock: platform.clock });
  day = shanghaiDay(platform.clock());
});
afterAll(async () => {
  await newer.directory.stop();
  await platform.stop();
});

const sql = () => platform.app.management.db.sql;
const tenancyOf = (directory: Directory): Tenancy => {
  const found = directory.subscription(subscriptionId);
  if (!found) throw new Error('no such subscription');
  return found;
};
async function speak(dialect: string): Promise<void> {
  await change(newer, (tx) => changeDialect(tx, withPigeon, subscriptionId, dialect));
  await platform.app.management.directory.refresh();
}
const count = (reports: readonly ReportEvents[]) => reports.reduce((sum, { mobiles }) => sum + mobiles.length, 0);
const pull = async (outbox: Outbox, dialect: string, limit = 5000) =>
  count(await outbox.pullReports(tenancyOf(newer.directory), dialect, limit));

let batches = 900_000n;
/** Messages that end now, as a node with this directory ends them. */
async function end(directory: Directory, n: number): Promise<void> {
  const first = messageIdInBatch(++batches, 0);
  await sql()`
    with ended as (
      insert into messages (id, account_id, day, subscription_id, phone, segments, status, code, price_e4, paid, cost_e4, final_at)
      select ${first}::bigint + n, ${accountId}, ${day}, ${subscriptionId}, 8613800000000 + n, 1, ${messageStatus.delivered}, 'DELIVRD', 0, false, 0,
             ${platform.clock()}
      from generate_series(0, ${n - 1}::int) as n
      returning id, account_id, day, subscription_id, final_at)
    ${reportsFrom(sql(), destinations(directory, [accountId], 'report'))}`;
}
const parcels = () => sql()<{ dialect: string; endpoint: bigint; route: number; n: number }[]>`
  select dialect, endpoint, route::int, cardinality(indexes) as n from parcels where account_id = ${accountId} order by id`;

describe('a dialect more', () => {
  it('may be spoken where it fits the product and the credentials, and nowhere else', async () => {
    const { db } = newer;
    await expect(change(newer, (tx) => changeDialect(tx, withPigeon, subscriptionId, 'ihuyi-mms'))).rejects.toThrow(
      'dialect: for a product of medium aim there are 3yit, pigeon',
    );
    await expect(change(newer, (tx) => changeDialect(tx, dialects, subscriptionId, 'pigeon'))).rejects.toThrow('there are 3yit');
    const wanted = { accountId, productId: 3001n, priceE4: 1n, dialect: 'pigeon' };
    const { subscription, password } = await change(newer, (tx) => createSubscription(tx, newer, wanted));
    expect(subscription).toMatchObject({ dialect: 'pigeon', spId: null });
    expect(password).toBeNull();
    await expect(change(newer, (tx) => changeDialect(tx, withPigeon, subscription.id, '3yit'))).rejects.toThrow('with an sp_id');
    const usual = await change(newer, (tx) => createSubscription(tx, newer, { accountId, productId: 3002n, priceE4: 1n }));
    expect(usual.subscription).toMatchObject({ dialect: '3yit', spId: usual.subscription.id });
    expect((await getSubscription(db.sql, accountId, subscriptionId)).dialect).toBe('3yit');
  });

  it('has its events in its own parcels, at its own endpoint, and what was owed before stays where it was', async () => {
    await end(newer.directory, 600);
    await speak('pigeon');
    expect((await getSubscription(sql(), accountId, subscriptionId)).spId).toBe(subscriptionId);
    await change(newer, (tx) => changeAccount(tx, accountId, { pushUrls: { report: url } }));
    await end(newer.directory, 700);
    expect(await parcels()).toEqual([
      { dialect: '3yit', endpoint: subscriptionId, route: 0, n: 500 },
      { dialect: '3yit', endpoint: subscriptionId, route: 0, n: 100 },
      { dialect: 'pigeon', endpoint: wholeAccount, route: 1, n: 500 },
      { dialect: 'pigeon', endpoint: wholeAccount, route: 1, n: 200 },
    ]);
    // A parcel that is cut in two stays owed in its dialect.
    expect(await pull(newOutbox, '3yit', 450)).toBe(450);
    expect(await pull(newOutbox, '3yit')).toBe(150);
    expect(await pull(newOutbox, '3yit')).toBe(0);

    const endpoint = { accountId, dialect: 'pigeon', owner: wholeAccount, kind: 'report' } as const;
    expect(await newOutbox.due()).toEqual([endpoint]);
    const claim = await newOutbox.claim(endpoint, 650);
    if (!claim) throw new Error('nothing was claimed');
    expect(claim.url).toBe(url);
    expect(claim.loads).toHaveLength(1);
    expect(claim.loads.flatMap(({ parcels }) => parcels.map(({ size }) => size))).toEqual([500, 150]);
    const parcelsOf = claim.loads.flatMap(({ parcels }) => parcels);
    await newOutbox.settle([{ claimId: claim.id, endpoint, parcels: parcelsOf, fate: { kind: 'pull' }, attempt: null }]);
    expect(await pull(newOutbox, 'pigeon')).toBe(650);
    expect((await parcels()).map(({ n, route }) => [n, route])).toEqual([[50, 1]]);
  });

  it('is left alone by a node that does not know it', async () => {
    expect(await oldOutbox.due()).toEqual([]);
    const endpoint = { accountId, dialect: 'pigeon', owner: wholeAccount, kind: 'report' } as const;
    await newOutbox.claim(endpoint, 50);
    await sql()`update parcels set lease_until = now() - interval '1 second' where route = 2`;
    const lost = () => {
      throw new Error('asked about a dialect that it does not know');
    };
    expect(await oldOutbox.recover(lost)).toBe(0);
    const given = await newOutbox.recover(({ id: claimId, ...claim }) => [{ ...claim, claimId, fate: { kind: 'failed' }, attempt: null }]);
    expect(given).toBe(50);

    // Events of a node that does not know the dialect wait for one that does.
    await end(platform.app.management.directory, 3);
    expect((await parcels()).slice(1)).toEqual([1, 1, 1].map((n) => ({ dialect: 'pigeon', endpoint: subscriptionId, route: 0, n })));
    expect(await pull(newOutbox, 'pigeon')).toBe(3);
  });

  it('is the one of a replay, too, for what was owed in it', async () => {
    const whole = { subscriptionId, kind: 'report', fromDay: day, toDay: day } as const;
    await speak('3yit');
    // 650 and 3 were pulled in the new dialect and 50 have failed; 600 were pulled in the other one.
    expect(await newOutbox.replay(accountId, { ...whole, state: 'failed' })).toBe(50);
    expect(await newOutbox.replay(accountId, whole)).toBe(1253);
    await change(newer, (tx) => changeAccount(tx, accountId, { pushUrls: { report: null } }));
    const waiting = await sql()<{ dialect: string; n: number }[]>`
      select dialect, sum(cardinality(indexes))::int as n from parcels where account_id = ${accountId} group by 1 order by 1`;
    expect(waiting).toEqual([
      { dialect: '3yit', n: 600 },
      { dialect: 'pigeon', n: 703 },
    ]);
    for (const endpoint of await newOutbox.due()) await newOutbox.claim(endpoint, 1); // its URL has gone
    expect(await pull(newOutbox, 'pigeon')).toBe(703);
    expect(await pull(oldOutbox, '3yit')).toBe(600);
    expect(await parcels()).toEqual([]);
  });
});

describe('what a node without dialects wrote', () => {
  const insert = (id: bigint, endpoint: bigint, route: number) => sql()`
    insert into parcels (account_id, kind, id, day, subscription_id, endpoint, route, at, due_at, indexes)
    values (${accountId}, 2, ${id}, ${day}, ${subscriptionId}, ${endpoint}, ${route}, now(), now(),
            array[${indexInBatch(sql(), sql()`${id}::bigint`)}])`;

  it('is owed in the one dialect that its medium had', async () => {
    await insert(1n, subscriptionId, 0);
    await insert(2n, wholeAccount, 0);
    expect(await parcels()).toMatchObject([{ dialect: '3yit' }, { dialect: 'ihuyi-mms' }]);
    const search = { kind: 'reply', subscriptionId: null, state: null, phone: null, batchId: null, fromDay: day, toDay: day } as const;
    const { data } = await searchEvents(sql(), dialects, accountId, search, { limit: 10, cursor: null });
    expect(data.map(({ id, state }) => [id, state])).toEqual([
      [2n, 'kept'],
      [1n, 'waiting'],
    ]);
    await sql()`delete from parcels where kind = 2`;
  });

  it('a subscription speaks the one dialect of its medium', async () => {
    await sql()`
      insert into subscriptions (id, account_id, product_id, sp_id, password, price_e4, extension)
      select id + 1000, account_id, product_id, case when sp_id is not null then sp_id + 1000 end, password, price_e4, '7' || id
      from subscriptions where id = ${subscriptionId}`;
    await sql()`
      insert into subscriptions (id, account_id, product_id, price_e4, extension) values (511001, ${accountId}, 3001, 1, '8511001')`;
    const spoken = await sql()`select dialect from subscriptions where id in (501001, 511001) order by id`;
    expect(spoken).toEqual([{ dialect: '3yit' }, { dialect: 'ihuyi-mms' }]);
    await sql()`delete from subscriptions where id in (501001, 511001)`;
  });

  it('is replayed in the one dialect that its medium had, also if another is spoken now', async () => {
    await speak('3yit');
    await end(newer.directory, 2);
    expect(await pull(newOutbox, '3yit')).toBe(2);
    await sql()`update handovers set dialect = null where id ${messagesOfBatch(sql(), batches)}`;
    await speak('pigeon');
    const filter = { subscriptionId, kind: 'report', fromDay: day, toDay: day, batchId: batches } as const;
    expect(await newOutbox.replay(accountId, filter)).toBe(2);
    expect(await pull(newOutbox, 'pigeon')).toBe(0);
    expect(await pull(newOutbox, '3yit')).toBe(2);
    await speak('3yit');
    const checked = (await audit(newer.db)).map(({ check }) => check);
    expect(checked).not.toContain('a message has one event once it has ended, and none before');
  });
});
