/**
 * Every status of screening produced by its rule through the API, beside a neighbour that passes; the order of the rules; the review desk;
 * and the rules that count, on two nodes at once.
 */
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { App } from '../../src/app.ts';
import { changeAccount, changeSubscription } from '../../src/core/catalogue/accounts.ts';
import { addNumbers, ensureBlocklist } from '../../src/core/catalogue/blocklists.ts';
import { createCap } from '../../src/core/screening/caps.ts';
import { changeChannel } from '../../src/core/catalogue/channels.ts';
import { createPool } from '../../src/core/catalogue/pools.ts';
import { changeProduct } from '../../src/core/catalogue/products.ts';
import { createContentTemplate } from '../../src/core/screening/content-rules.ts';
import { change } from '../../src/core/config/management.ts';
import { createNumberPlan, dropImportedRanges, importRanges, readRanges } from '../../src/core/numbers/number-plan.ts';
import type { SendingWindow } from '../../src/core/model/configuration.ts';
import { approve, expireReviews, listReviews, reject } from '../../src/core/intake/review.ts';
import { createSignature } from '../../src/core/content/signatures.ts';
import { type Client, type Customer, clientOf, type Platform, plainNumbers, startPlatform, until } from '../kit/platform.ts';

const priceE4 = 500n;
const text = '【鸿雁】您有一张优惠券 $url$';
const [mobile = ''] = plainNumbers(1);
const unicom = '18612345678';

let platform: Platform;
let app: App;

beforeAll(async () => {
  platform = await startPlatform();
  app = await platform.startApp({ roles: ['api'] });
});

afterAll(async () => {
  expect(await platform.audit()).toEqual([]);
  await platform.stop();
});

async function newCustomer(settings: Parameters<Platform['customer']>[0] = {}): Promise<{ customer: Customer; client: Client }> {
  const customer = await platform.customer({ priceE4, ...settings });
  return { customer, client: clientOf(app, customer) };
}

/** Changes the configuration; the node knows it when this returns. */
async function configure(work: Parameters<typeof change<unknown>>[1]): Promise<void> {
  await change(platform.management, work);
  await app.management.directory.refresh();
}

/** `HH:MM` in Asia/Shanghai, so many hours from now. */
const hourFromNow = (hours: number): string => new Date(Date.now() + (8 + hours) * 3600_000).toISOString().slice(11, 16);
const closed = (mode: SendingWindow['mode']): SendingWindow => ({ from: hourFromNow(2), to: hourFromNow(4), mode });

/** What became of each number that did not pass at once. */
const refused = async (client: Client, numbers: readonly string[], content = text): Promise<Readonly<Record<string, string>>> => {
  const { code, failed } = await client.submit(numbers, { content });
  expect(code).toBe(0);
  return Array.isArray(failed) ? {} : failed;
};

/** Sends a text to two numbers and has it rejected if it waits for review: the status in which both then end; null if it does not wait. */
async function held(client: Client, { accountId }: Customer, content: string): Promise<string | null> {
  const numbers = plainNumbers(2);
  const { code, failed, msgId } = await client.submit(numbers, { content });
  expect([code, failed]).toEqual([0, []]);
  const { data } = await listReviews(app.management.db.sql, accountId, 'pending', { limit: 10, cursor: null });
  if (data.length === 0) return null;
  expect(data.map(({ batchId }) => String(batchId))).toEqual([msgId]);
  await reject(app.management, BigInt(msgId), '不合规', { by: 'story', at: new Date() });
  const reports = (await client.reports()).filter((row) => row.msgId === msgId);
  const status = data[0]?.code ?? null;
  const told = new Map(reports.map((row) => [row.mobile, [row.status, row.price]]));
  expect(told).toEqual(new Map(numbers.map((number) => [number, [status, '0']])));
  return status;
}

describe('each status has its rule', () => {
  it('1 WL:CWHM: a number that is none, and one that is', async () => {
    const { client } = await newCustomer();
    expect(await refused(client, ['12345', mobile])).toEqual({ '12345': 'WL:CWHM' });
  });

  it('2 WL:MQM: a text without a signature, unless the product does without', async () => {
    const { client, customer } = await newCustomer();
    expect(await refused(client, [mobile], '您有一张优惠券 $url$')).toEqual({ [mobile]: 'WL:MQM' });
    await configure((sql) => changeProduct(sql, customer.productId, { signatureRequired: false }));
    expect(await refused(client, [mobile], '您有一张优惠券 $url$')).toEqual({});
  });

  it('3 WL:QWBB: a signature that is not registered; of a strict product, one that the number’s carrier has not', async () => {
    const { client, customer } = await newCustomer();
    expect(await refused(client, [mobile], '【别家】您好 $url$')).toEqual({ [mobile]: 'WL:QWBB' });
    await configure(async (sql) => {
      await changeProduct(sql, customer.productId, { strictSignatures: true });
      await createSignature(sql, {
        accountId: customer.accountId,
        name: '移动',
        registrations: { mobile: 'registered', unicom: 'pending' },
      });
    });
    expect(await refused(client, [mobile, unicom], '【移动】您好 $url$')).toEqual({ [unicom]: 'WL:QWBB' });
  });

  it('4 WL:TCLJ: outside the sending window; the subscription’s own window goes before the product’s', async () => {
    const { client, customer } = await newCustomer();
    await configure((sql) => changeProduct(sql, customer.productId, { sendingWindow: closed('intercept') }));
    expect(await refused(client, [mobile])).toEqual({ [mobile]: 'WL:TCLJ' });
    const open = { from: hourFromNow(-1), to: hourFromNow(1), mode: 'intercept' } as const;
    await configure((sql) => changeSubscription(sql, null, customer.subscriptionId, { sendingWindow: open }));
    expect(await refused(client, [mobile])).toEqual({});
  });

  it('5 WL:MBLJ: a text that matches a template of that type, and one that does not; intercept beats pass', async () => {
    const { client, customer } = await newCustomer();
    const { accountId } = customer;
    await configure(async (sql) => {
      await createContentTemplate(sql, { accountId, text: '【鸿雁】恭喜中奖{20}', verdict: 'intercept', enabled: true, note: '' });
      await createContentTemplate(sql, { accountId, text: '【鸿雁】{100}', verdict: 'pass', enabled: true, note: '' });
    });
    await app.management.directory.refresh();
    await until('the template is in force', async () => (await refused(client, [mobile], '【鸿雁】恭喜中奖 $url$'))[mobile] === 'WL:MBLJ');
    expect(await refused(client, [mobile])).toEqual({});
  });

  it('6 WL:MBSH: a text that matches a template of that type waits, and ends so if rejected; another one passes', async () => {
    const { client, customer } = await newCustomer();
    const { accountId } = customer;
    await configure((sql) =>
      createContentTemplate(sql, { accountId, text: '【鸿雁】领取{20}', verdict: 'review', enabled: true, note: '' }),
    );
    await until('the template is in force', async () => (await held(client, customer, '【鸿雁】领取 $url$')) === 'WL:MBSH');
    expect(await held(client, customer, text)).toBeNull();
  });

  it('7 WL:ZJLJ and 8 WL:NMLJ: a text that no template lets pass, of a product or a subscription that insists on one', async () => {
    const { client, customer } = await newCustomer();
    await configure((sql) => changeSubscription(sql, null, customer.subscriptionId, { unmatched: 'intercept' }));
    expect(await refused(client, [mobile])).toEqual({ [mobile]: 'WL:NMLJ' });
    await configure((sql) => changeProduct(sql, customer.productId, { templatesOnly: true }));
    expect(await refused(client, [mobile])).toEqual({ [mobile]: 'WL:ZJLJ' });
    const { accountId } = customer;
    await configure((sql) => createContentTemplate(sql, { accountId, text: '【鸿雁】{100}', verdict: 'pass', enabled: true, note: '' }));
    await until('the template is in force', async () => Object.keys(await refused(client, [mobile])).length === 0);
  });

  it('9 WL:NMSH: a text that no template lets pass, of a subscription that asks a person about it', async () => {
    const { client, customer } = await newCustomer();
    const { accountId } = customer;
    await configure((sql) => changeSubscription(sql, null, customer.subscriptionId, { unmatched: 'review' }));
    expect(await held(client, customer, text)).toBe('WL:NMSH');
    await configure((sql) => createContentTemplate(sql, { accountId, text: '【鸿雁】{100}', verdict: 'pass', enabled: true, note: '' }));
    await until('the template is in force', async () => (await held(client, customer, text)) === null);
  });

  it('10 to 13: the lists, and the account’s exempt numbers', async () => {
    const { client, customer } = await newCustomer();
    const numbers = ['13900010001', '13900010002', '13900010003', '13900010004', '13900010005'];
    const e164 = numbers.map((number) => BigInt(`86${number}`));
    await configure(async (sql) => {
      const at = new Date();
      const put = async (kind: 'empty' | 'product' | 'subscription' | 'signature', subject: bigint, phone: bigint | undefined) =>
        addNumbers(sql, await ensureBlocklist(sql, kind, subject), [phone ?? 0n], 'operator', at);
      const signature = app.management.directory.signature(customer.accountId, '鸿雁');
      await put('empty', 0n, e164[0]);
      await put('product', customer.productId, e164[1]);
      await put('subscription', customer.subscriptionId, e164[2]);
      await put('signature', signature?.id ?? 0n, e164[3]);
    });
    const codes = ['WL:KHLJ', 'WL:CHLJ', 'WL:SHLJ', 'WL:QHLJ'];
    expect(await refused(client, numbers)).toEqual(Object.fromEntries(codes.map((code, i) => [numbers[i], code])));
    await configure((sql) => changeAccount(sql, customer.accountId, { exemptNumbers: e164 }));
    expect(await refused(client, numbers)).toEqual({});
  });

  it('14 WL:CPL: more than the cap; what another rule stops uses up nothing', async () => {
    const { client, customer } = await newCustomer();
    await configure((sql) => createCap(sql, { scope: 'subscription', subjectId: customer.subscriptionId, period: 'day', count: 2 }));
    expect(await refused(client, [mobile], '【别家】您好 $url$')).toEqual({ [mobile]: 'WL:QWBB' });
    expect(await refused(client, [mobile])).toEqual({});
    expect(await refused(client, [mobile])).toEqual({});
    expect(await refused(client, [mobile, unicom])).toEqual({ [mobile]: 'WL:CPL' });
  });

  it('14 WL:CPL costs nothing, so it is answered as ever when others at the same time have used up the balance', async () => {
    const { client, customer } = await newCustomer({ balanceE4: 2n * priceE4 });
    await configure((sql) => createCap(sql, { scope: 'subscription', subjectId: customer.subscriptionId, period: 'day', count: 1 }));
    expect(await refused(client, [mobile])).toEqual({});
    const capped = plainNumbers(8).map(async () => client.submit([mobile]));
    const others = plainNumbers(9)
      .slice(1)
      .map(async (number) => (await client.submit([number])).code);
    expect(await Promise.all(capped)).toEqual(capped.map(() => expect.objectContaining({ code: 0, failed: { [mobile]: 'WL:CPL' } })));
    expect((await Promise.all(others)).filter((code) => code === 0)).toHaveLength(1);
  });

  it('15 WL:CS: the overflow of a batch beyond the rate', async () => {
    const { client, customer } = await newCustomer();
    await configure((sql) => changeSubscription(sql, null, customer.subscriptionId, { rateLimit: { perSecond: 1, burst: 3 } }));
    const numbers = plainNumbers(10);
    const over = await refused(client, numbers);
    expect(new Set(Object.values(over))).toEqual(new Set(['WL:CS']));
    expect(Object.keys(over)).toEqual(numbers.slice(-Object.keys(over).length));
    expect(Object.keys(over).length).toBeGreaterThanOrEqual(6);
    expect(Object.keys(over).length).toBeLessThanOrEqual(7);
  });

  it('16 to 19: no pool, no channel of the carrier, none of the province, none that is healthy', async () => {
    const { client, customer } = await newCustomer();
    const channelId = 1n;
    const within = async (work: () => Promise<void>, restore: Parameters<typeof configure>[0]) => {
      try {
        await work();
      } finally {
        await configure(restore);
      }
    };
    await within(
      async () => {
        await configure((sql) => changeChannel(sql, platform.management, channelId, { carriers: ['unicom'] }));
        expect(await refused(client, [mobile, unicom])).toEqual({ [mobile]: 'WL:CGMT' });
      },
      (sql) => changeChannel(sql, platform.management, channelId, { carriers: ['mobile', 'unicom', 'telecom', 'broadcast'] }),
    );
    await within(
      async () => {
        await configure((sql) => changeChannel(sql, platform.management, channelId, { provinces: ['广东'] }));
        expect(await refused(client, [mobile])).toEqual({ [mobile]: 'WL:CDQC' });
      },
      (sql) => changeChannel(sql, platform.management, channelId, { provinces: null }),
    );
    await within(
      async () => {
        await configure((sql) => changeChannel(sql, platform.management, channelId, { forcedHealth: 'unhealthy' }));
        expect(await refused(client, [mobile])).toEqual({ [mobile]: 'WL:CNH' });
      },
      (sql) => changeChannel(sql, platform.management, channelId, { forcedHealth: null }),
    );
    expect(await refused(client, [mobile])).toEqual({});
    await configure((sql) => changeProduct(sql, customer.productId, { poolId: null }));
    expect(await refused(client, [mobile])).toEqual({ [mobile]: 'WL:CMT' });
  });

  it('a number that breaks three rules gets the first one’s code, and costs nothing', async () => {
    const { client, customer } = await newCustomer();
    await configure(async (sql) => {
      await addNumbers(
        sql,
        await ensureBlocklist(sql, 'subscription', customer.subscriptionId),
        [BigInt(`86${mobile}`)],
        'operator',
        new Date(),
      );
      await changeSubscription(sql, null, customer.subscriptionId, { unmatched: 'intercept', sendingWindow: closed('intercept') });
    });
    const before = await client.balanceE4();
    expect(await refused(client, [mobile])).toEqual({ [mobile]: 'WL:TCLJ' });
    expect(await client.balanceE4()).toBe(before);
  });
});

describe('the review desk', () => {
  const decision = () => ({ by: 'story', at: new Date() });
  const deps = () => ({
    ...app.management,
    contentRules: { judge: () => null },
    numberPlan: createNumberPlan({ ...app.management, onFailure: expect.fail }),
  });

  /** A customer with one batch of three in review. */
  async function waiting(settings: { balanceE4?: bigint } = {}) {
    const { client, customer } = await newCustomer(settings);
    await configure((sql) => changeSubscription(sql, null, customer.subscriptionId, { sendingWindow: closed('review') }));
    const before = await client.balanceE4();
    const numbers = plainNumbers(3);
    expect(await refused(client, numbers)).toEqual({});
    const { data } = await listReviews(app.management.db.sql, customer.accountId, 'pending', { limit: 10, cursor: null });
    const [item] = data;
    if (!item) throw new Error('there is no item');
    return { client, customer, before, numbers, item };
  }

  it('holds the money of what waits, and gives it back with the code when rejected; again changes nothing', async () => {
    const { client, before, item } = await waiting();
    expect(item).toMatchObject({ code: 'WL:TCSH', recipients: 3, heldE4: 3n * priceE4, state: 'pending' });
    expect(await client.balanceE4()).toBe(before - 3n * priceE4);
    await reject(app.management, item.batchId, '不合规', decision());
    expect(await reject(app.management, item.batchId, '再来一次', decision())).toMatchObject({ state: 'rejected', reason: '不合规' });
    expect(await client.balanceE4()).toBe(before);
    expect((await client.reports()).map(({ status }) => status)).toEqual(['WL:TCSH', 'WL:TCSH', 'WL:TCSH']);
    await expect(approve(deps(), item.batchId, decision())).rejects.toMatchObject({ code: 'conflict' });
  });

  it('two approve at once: each message is put in line once; a number that has opted out since is intercepted', async () => {
    const { client, customer, before, numbers, item } = await waiting();
    const out = BigInt(`86${numbers[0]}`);
    await configure(async (sql) =>
      addNumbers(sql, await ensureBlocklist(sql, 'subscription', customer.subscriptionId), [out], 'opt-out', new Date()),
    );
    const decided = await Promise.all([approve(deps(), item.batchId, decision()), approve(deps(), item.batchId, decision())]);
    expect(decided.map(({ state }) => state)).toEqual(['approved', 'approved']);
    const queued = await app.management.db.sql<{ n: number }[]>`
      select coalesce(sum(n), 0)::int as n from dispatch_queue where account_id = ${customer.accountId}`;
    expect(queued[0]?.n).toBe(2);
    expect((await client.reports()).map(({ mobile, status }) => [mobile, status])).toEqual([[numbers[0], 'WL:SHLJ']]);
    expect(await client.balanceE4()).toBe(before - 2n * priceE4);
  });

  it('approves what was held although the balance has been spent since', async () => {
    const { client, item } = await waiting({ balanceE4: 3n * priceE4 });
    expect((await client.submit([unicom])).code).toBe(10011);
    expect(await approve(deps(), item.batchId, decision())).toMatchObject({ state: 'approved' });
  });

  it('ends a number as invalid whose range has been taken off the number table since; the others go on', async () => {
    const { client, customer } = await newCustomer();
    const range = await readRanges(Readable.from([Buffer.from('1540,mobile')]));
    await configure((sql) => importRanges(sql, range, { replace: false, origin: 'story', at: new Date() }));
    const added = '15400001111';
    await until('the range is in force', async () => Object.keys(await refused(client, [added])).length === 0);
    await configure((sql) => changeSubscription(sql, null, customer.subscriptionId, { sendingWindow: closed('review') }));
    const before = await client.balanceE4();
    expect(await refused(client, [added, mobile])).toEqual({});
    const { data } = await listReviews(app.management.db.sql, customer.accountId, 'pending', { limit: 10, cursor: null });
    await configure(dropImportedRanges);
    expect(await approve(deps(), data[0]?.batchId ?? 0n, decision())).toMatchObject({ state: 'approved' });
    const told = (await client.reports()).filter(({ msgId }) => msgId === String(data[0]?.batchId));
    expect(told.map(({ mobile, status, price }) => [mobile, status, price])).toEqual([[added, 'WL:CWHM', '0']]);
    expect(await client.balanceE4()).toBe(before - priceE4);
  });

  it('rejects what nobody decides on in time', async () => {
    const { client, before, item } = await waiting();
    await expireReviews(app.management, item.expiresAt, 1000);
    expect(await client.balanceE4()).toBe(before);
    expect((await client.reports()).map(({ status }) => status)).toEqual(['WL:TCSH', 'WL:TCSH', 'WL:TCSH']);
  });
});

it('a cap of 3 a day with 50 submits of one number at once on two nodes: exactly 3 pass', async () => {
  const { client, customer } = await newCustomer();
  const other = await platform.startApp({ roles: ['api'] });
  await configure((sql) => createCap(sql, { scope: 'subscription', subjectId: customer.subscriptionId, period: 'day', count: 3 }));
  await other.management.directory.refresh();
  const clients = [client, clientOf(other, customer)];
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => refused(clients[i % 2] as Client, [mobile])));
  expect(answers.filter((failed) => failed[mobile] === undefined)).toHaveLength(3);
  expect(answers.filter((failed) => failed[mobile] === 'WL:CPL')).toHaveLength(47);
});

it('a pool that is made for a new carrier serves it within a second, on the node that did not make it', async () => {
  const { client, customer } = await newCustomer();
  const pool = await change(platform.management, (sql) => createPool(sql, { name: 'empty', channels: [] }));
  await change(platform.management, (sql) => changeProduct(sql, customer.productId, { poolId: pool.id }));
  await until('the change is in force', async () => (await refused(client, [mobile]))[mobile] === 'WL:CGMT', 5000);
});
