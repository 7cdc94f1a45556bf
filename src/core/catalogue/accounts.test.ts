import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startManagement, type TestManagement } from '../../../test/kit/management.ts';
import {
  changeAccount,
  changeSubscription,
  createAccount,
  createSubscription,
  listAccounts,
  listSubscriptions,
  payIn,
  rotateApiKey,
} from './accounts.ts';
import { createProduct } from './products.ts';
import { balanceOf } from '../money/ledger.ts';
import { change } from '../config/management.ts';

let office: TestManagement;
let accountId: bigint;
let productId: bigint;
const firstPage = { limit: 100, cursor: null };

beforeAll(async () => {
  office = await startManagement();
  ({ id: accountId } = (await account({ name: 'first' })).account);
  ({ id: productId } = await change(office, (sql) => createProduct(sql, { name: 'AIM', medium: 'aim', unit: 'yuan' })));
});
afterAll(() => office.stop());

const account = (wanted: Parameters<typeof createAccount>[2]) => change(office, (sql) => createAccount(sql, office.box, wanted));
const subscription = (wanted: Partial<Parameters<typeof createSubscription>[2]> = {}) =>
  change(office, (sql) => createSubscription(sql, office, { accountId, productId, priceE4: 500n, ...wanted }));

describe('an account', () => {
  test('has credentials of its own, and the node that made it knows it at once', async () => {
    const [a, b] = [await account({ name: 'a' }), await account({ name: 'b' })];
    expect(a.account.apiId).toMatch(/^[A-Z0-9]{16}$/);
    expect(a.account.apiId).not.toBe(b.account.apiId);
    expect(a.apiKey).not.toBe(b.apiKey);
    expect(office.directory.account(a.account.id)).toMatchObject({ name: 'a', apiId: a.account.apiId, locked: false });
  });

  test('keeps its api key sealed, and loses the old one by a rotation', async () => {
    const { account: made, apiKey } = await account({ name: 'keys' });
    const stored = async () =>
      (await office.db.sql<{ key: string }[]>`select api_key as key from accounts where id = ${made.id}`)[0]?.key ?? '';
    expect(await stored()).not.toContain(apiKey);
    expect(office.box.open(await stored())).toBe(apiKey);
    const rotated = await change(office, (sql) => rotateApiKey(sql, office.box, made.id));
    expect(rotated).not.toBe(apiKey);
    expect(office.box.open(await stored())).toBe(rotated);
  });

  test('changes only in what is named', async () => {
    const { account: made } = await account({ name: 'before', ipAllowList: ['203.0.113.7', '2001:db8::/32'] });
    const changed = await change(office, (sql) => changeAccount(sql, made.id, { locked: true }));
    expect(changed).toEqual({ ...made, locked: true });
    expect(office.directory.account(made.id)?.locked).toBe(true);
  });

  test('refuses an allow-list entry that is neither an address nor a range', async () => {
    for (const entry of ['', 'localhost', '10.0.0.256', '10.0.0.0/33', '10.1', '10.0.0.0/', '::/129', '10.0.0.0/8/8', '010.0.0.1'])
      await expect(account({ name: 'fenced', ipAllowList: ['10.0.0.1', entry] }), entry).rejects.toThrow('ipAllowList[1]');
  });

  test('takes push URLs one by one, and null or empty removes one', async () => {
    const { account: made } = await account({
      name: 'pushed',
      pushUrls: { report: 'http://a.example/r', template: 'https://a.example/t?x=1' },
    });
    const changed = await change(office, (sql) =>
      changeAccount(sql, made.id, { pushUrls: { reply: 'http://a.example:8080/', report: null, template: '' } }),
    );
    expect(changed.pushUrls).toEqual({ reply: 'http://a.example:8080/' });
  });

  test('refuses a push URL that cannot be one', async () => {
    for (const url of [
      'nonsense',
      'ftp://a.example/',
      'http://user:secret@a.example/',
      'javascript:alert(1)',
      `http://a.example/${'x'.repeat(2000)}`,
    ])
      await expect(account({ name: 'pushed', pushUrls: { report: url } }), url).rejects.toThrow('pushUrls.report');
    await expect(account({ name: 'pushed', pushUrls: { audit: 'http://a.example/' } })).rejects.toThrow('pushUrls.audit');
  });

  test('is listed page by page without a gap or a repeat', async () => {
    const all = await listAccounts(office.db.sql, null, firstPage);
    const ids: bigint[] = [];
    for (let cursor: string | null = null, more = true; more; more = cursor !== null) {
      const page = await listAccounts(office.db.sql, null, { limit: 2, cursor });
      ids.push(...page.data.map(({ id }) => id));
      cursor = page.next;
    }
    expect(ids).toEqual(all.data.map(({ id }) => id));
    expect((await listAccounts(office.db.sql, accountId, firstPage)).data.map(({ id }) => id)).toEqual([accountId]);
  });
});

describe('a subscription', () => {
  test('gets spId, password, extension, an empty balance and a blocklist of its own', async () => {
    const { subscription: made, password } = await subscription();
    expect(made).toMatchObject({
      accountId,
      productId,
      spId: made.id,
      medium: 'aim',
      unit: 'yuan',
      balanceE4: 0n,
      class: 1,
      enabled: true,
    });
    expect(made.extension).toMatch(/^\d{4}$/);
    expect(office.directory.bySpId(made.id)).toMatchObject({ password, subscription: { extension: made.extension } });
    expect(office.directory.blocklist('subscription', made.id)).toBeDefined();
  });

  test('of an MMS product has neither spId nor password', async () => {
    const mms = await change(office, (sql) => createProduct(sql, { name: 'MMS', medium: 'mms', unit: 'messages' }));
    const { subscription: made, password } = await subscription({ productId: mms.id });
    expect([made.spId, password]).toEqual([null, null]);
  });

  test('needs an account, a product and a free spId', async () => {
    await expect(subscription({ accountId: 999n })).rejects.toThrow('accountId: no such account');
    await expect(subscription({ productId: 999n })).rejects.toThrow('productId: no such product');
    const { subscription: made } = await subscription();
    await expect(subscription({ spId: made.id })).rejects.toThrow('spId already');
  });

  test('has an extension that begins no other and that no other begins', async () => {
    await subscription({ extension: '77' });
    for (const extension of ['77', '7', '771', '770000'])
      await expect(subscription({ extension }), extension).rejects.toMatchObject({ code: 'conflict' });
    expect((await subscription({ extension: '78' })).subscription.extension).toBe('78');
  });

  test('is never assigned an extension that a longer or a shorter one stands in the way of', async () => {
    const { subscription: next } = await subscription();
    const following = String(Number(next.extension) + 1);
    await subscription({ extension: `${following}5` });
    expect((await subscription()).subscription.extension).toBe(String(Number(following) + 1));
  });

  test('keeps extensions apart when many are made at once', async () => {
    const made = await Promise.all(Array.from({ length: 8 }, () => subscription()));
    const extensions = made.map(({ subscription: { extension } }) => extension);
    expect(new Set(extensions).size).toBe(8);
  });

  test('changes only in what is named, and only for its own account', async () => {
    const { subscription: made } = await subscription({ pushUrls: { report: 'http://a.example/r' } });
    const wanted = { priceE4: 625n, pushUrls: { reply: 'http://a.example/mo', report: null } };
    const changed = await change(office, (sql) => changeSubscription(sql, accountId, made.id, wanted));
    expect(changed).toEqual({ ...made, priceE4: 625n, pushUrls: { reply: 'http://a.example/mo' } });
    expect(office.directory.subscriptionsOf(accountId).map(({ subscription: { id } }) => id)).toContain(made.id);
    await expect(change(office, (sql) => changeSubscription(sql, accountId + 1n, made.id, wanted))).rejects.toThrow('no such subscription');
  });

  test('is listed for its account and for the operator', async () => {
    const other = await account({ name: 'somebody else' });
    const { subscription: theirs } = await subscription({ accountId: other.account.id });
    expect((await listSubscriptions(office.db.sql, other.account.id, firstPage)).data).toEqual([theirs]);
    expect((await listSubscriptions(office.db.sql, null, firstPage)).data.map(({ id }) => id)).toContain(theirs.id);
  });
});

describe('paying in', () => {
  const at = new Date();
  const pay = (id: bigint, amountE4: bigint, idempotencyKey: string | null) =>
    office.db.transaction((sql) => payIn(sql, id, { amountE4, note: null, at, idempotencyKey }));

  test('adds to the balance, each time that no key is given', async () => {
    const { id } = (await subscription()).subscription;
    expect(await pay(id, 10_000n, null)).toBe(10_000n);
    expect(await pay(id, 10_000n, null)).toBe(20_000n);
  });

  test('pays once for one key, also when both come at the same time', async () => {
    const { id } = (await subscription()).subscription;
    await Promise.all([pay(id, 10_000n, 'order-1'), pay(id, 10_000n, 'order-1')]);
    expect(await pay(id, 10_000n, 'order-1')).toBe(10_000n);
    await expect(pay(id, 20_000n, 'order-1')).rejects.toThrow('1.00');
    expect(await balanceOf(office.db.sql, accountId, id)).toBe(10_000n);
  });

  test('keeps the keys of two subscriptions apart', async () => {
    const [a, b] = [(await subscription()).subscription, (await subscription()).subscription];
    expect(await pay(a.id, 10_000n, 'order-2')).toBe(10_000n);
    expect(await pay(b.id, 10_000n, 'order-2')).toBe(10_000n);
  });
});
