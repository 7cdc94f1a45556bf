import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Platform, startAimPlatform } from '../../../test/kit/aim-platform.ts';
import { createInbound } from '../../core/outcome/inbound.ts';
import { createToken } from '../../core/config/tokens.ts';

interface Called {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Body;
}
/** Just enough of a type to look into answers; what they hold is what the tests are about. */
interface Body {
  readonly [key: string]: unknown;
  /** A number where it is the id of something configured; here it only goes into paths and comparisons. */
  readonly id: string;
  readonly data: readonly Body[];
  readonly next: string | null;
  readonly timeline: readonly { readonly what: string }[];
  readonly error: { readonly code: string; readonly message: string };
}

let platform: Platform;
const tokens = { operator: '', demo: '', other: '' };
const demo = 1;
const other = 4;
let othersSubscription: string;

beforeAll(async () => {
  platform = await startAimPlatform();
  const { sql } = platform.app.management.db;
  tokens.operator = await createToken(sql, { name: 'operator', caller: { role: 'operator' } });
  tokens.demo = await createToken(sql, { name: 'demo', caller: { role: 'account', accountId: BigInt(demo) } });
  tokens.other = await createToken(sql, { name: 'other', caller: { role: 'account', accountId: BigInt(other) } });
  const made = await as('operator').post('/v1/subscriptions', { accountId: other, productId: 3001, price: '0.05' });
  expect(made.status).toBe(201);
  othersSubscription = made.body.id;
});
afterAll(() => platform.stop());

async function call(method: string, path: string, token: string, body?: unknown, headers: Record<string, string> = {}): Promise<Called> {
  const response = await platform.call(path, {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body !== undefined && { 'content-type': 'application/json' }), ...headers },
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const answer: Body = JSON.parse(response.text);
  return { status: response.status, headers: response.headers, body: answer };
}

const as = (who: keyof typeof tokens) => ({
  get: (path: string) => call('GET', path, tokens[who]),
  post: (path: string, body?: unknown, headers?: Record<string, string>) => call('POST', path, tokens[who], body, headers),
  patch: (path: string, body: unknown) => call('PATCH', path, tokens[who], body),
  delete: (path: string, body: unknown) => call('DELETE', path, tokens[who], body),
});

/** Sends to these numbers through the AIM API and returns the batch's id. */
async function submit(mobiles: readonly string[]): Promise<string> {
  const { json } = await platform.aim('send-aim', {
    template_id: '101',
    mobiles: JSON.stringify(mobiles),
    content: '【鸿雁】您有一张优惠券 $url$',
  });
  expect(json).toMatchObject({ code: 0 });
  return String(json['msg_id']);
}

/** Every route with ids that are there, with a token of which it must not be possible to tell that they are. */
const foreign = (): [string, string, unknown?][] => [
  ['GET', `/v1/accounts/${demo}`],
  ['PATCH', `/v1/accounts/${demo}`, { pushUrls: { report: 'http://evil.example/' } }],
  ['GET', '/v1/subscriptions/500001'],
  ['PATCH', '/v1/subscriptions/500001', { pushUrls: { report: 'http://evil.example/' } }],
  ['PATCH', '/v1/subscriptions/500001', { price: '0.01' }],
  ['GET', '/v1/templates/101'],
  ['POST', '/v1/templates/101/withdraw'],
  ['POST', '/v1/templates', { accountId: demo, name: 'x', card: { layout: 'image_text', title: 'x' } }],
  ['GET', `/v1/subscriptions?accountId=${demo}`],
  ['GET', `/v1/templates?accountId=${demo}`],
  ['GET', `/v1/signatures?accountId=${demo}`],
  ['GET', `/v1/blocklists?accountId=${demo}`],
  ['GET', `/v1/batches?accountId=${demo}`],
  ['GET', `/v1/messages?phone=13800000000&accountId=${demo}`],
  ['GET', `/v1/events?accountId=${demo}`],
  ['GET', `/v1/replies?accountId=${demo}`],
  ['GET', `/v1/pushes?accountId=${demo}`],
  ['GET', '/v1/ledger?subscriptionId=500001'],
  ['POST', '/v1/events/replay', { subscriptionId: 500001, kind: 'report' }],
];

/** The same request about an account, a subscription or a template that nobody has. */
const nobodys = (text: string) => text.replace(/500001|\b101\b/, '999999').replace(/(accounts\/|[aA]ccountId(?:=|":))1\b/, '$1999999');

describe('who may call', () => {
  test('nobody gets anything without a valid token', async () => {
    for (const authorization of ['', 'Bearer', 'Bearer wrong', `Basic ${tokens.operator}`, `Bearer ${tokens.operator} x`]) {
      const { status, headers, json } = await platform.call('/v1/accounts', { headers: { authorization } });
      expect([status, headers.get('www-authenticate')], authorization).toEqual([401, 'Bearer']);
      expect(json).toMatchObject({ error: { code: 'unauthenticated' } });
    }
  });

  test('an account may not do what is the operator’s, whether or not the thing is its own', async () => {
    const forbidden: [string, string, unknown?][] = [
      ['POST', '/v1/accounts', { name: 'x' }],
      ['POST', `/v1/accounts/${other}/api-key`],
      ['POST', '/v1/subscriptions', { accountId: other, productId: 3001, price: '0' }],
      ['POST', `/v1/subscriptions/${othersSubscription}/top-ups`, { amount: '1' }],
      ['POST', '/v1/subscriptions/500001/top-ups', { amount: '1' }],
      ['POST', '/v1/templates/104/approve'],
      ['POST', '/v1/templates/104/reject', { reason: 'x' }],
      ['POST', '/v1/signatures', { accountId: other, name: '签名' }],
      ['POST', '/v1/blocklists', { kind: 'system' }],
      ['GET', '/v1/caps'],
      ['POST', '/v1/caps', { scope: 'subscription', subjectId: 500001, period: 'day', count: 1 }],
      ['DELETE', '/v1/caps/1'],
      ['POST', '/v1/products', {}],
      ['PATCH', '/v1/products/3001', {}],
      ['GET', '/v1/channels'],
      ['GET', '/v1/pools'],
      ['GET', '/v1/orphans'],
      ['GET', '/v1/replies/unassigned'],
      ['PATCH', `/v1/accounts/${other}`, { locked: false }],
      ['PATCH', `/v1/subscriptions/${othersSubscription}`, { price: '0', pushUrls: {} }],
    ];
    for (const [method, path, body] of forbidden) {
      const called = await call(method, path, tokens.other, body);
      expect([called.status, called.body.error.code], `${method} ${path}`).toEqual([403, 'forbidden']);
    }
  });

  test('an account cannot tell somebody else’s things from things that do not exist', async () => {
    for (const [method, path, body] of foreign()) {
      const theirs = await call(method, path, tokens.other, body);
      const missing = await call(method, nobodys(path), tokens.other, body && JSON.parse(nobodys(JSON.stringify(body))));
      expect(theirs.status, `${method} ${path}`).toBe(404);
      expect([missing.status, missing.body], `${method} ${path}`).toEqual([theirs.status, theirs.body]);
    }
    const [list] = (await as('demo').get('/v1/blocklists')).body.data;
    for (const method of ['GET', 'POST', 'DELETE']) {
      const body = method === 'GET' ? undefined : { numbers: ['13800000000'] };
      const theirs = await call(method, `/v1/blocklists/${list?.id}/numbers`, tokens.other, body);
      const missing = await call(method, '/v1/blocklists/999999/numbers', tokens.other, body);
      expect([theirs.status, theirs.body]).toEqual([404, missing.body]);
    }
    const subscription = (await as('operator').get('/v1/subscriptions/500001')).body;
    expect(subscription).toMatchObject({ pushUrls: {}, price: '0.05' });
  });

  test('an account lists its own things and nothing else', async () => {
    const mine = async (path: string) => (await as('other').get(path)).body.data.map(({ id }) => id);
    expect(await mine('/v1/accounts')).toEqual([other]);
    expect(await mine('/v1/subscriptions')).toEqual([othersSubscription]);
    expect(await mine('/v1/templates')).toEqual([104]);
    expect(await mine('/v1/signatures')).toEqual([]);
    expect(await mine('/v1/products')).toEqual([3001]);
    expect((await as('other').get('/v1/blocklists')).body.data).toMatchObject([{ kind: 'subscription', subjectId: othersSubscription }]);
    for (const path of ['batches', 'messages?phone=13800000000', 'events', 'replies', 'pushes'])
      expect(await mine(`/v1/${path}`)).toEqual([]);
  });

  test('the operator says whose records are wanted', async () => {
    for (const path of ['batches', 'messages?phone=13800000000', 'events', 'replies', 'pushes']) {
      const { status, body } = await as('operator').get(`/v1/${path}`);
      expect([status, body.error.code, body.error.message], path).toEqual([400, 'invalid', expect.stringContaining('accountId')]);
    }
  });
});

const problem = async (method: string, path: string, body?: unknown, headers?: Record<string, string>) => {
  const called = await call(method, path, tokens.operator, body, headers);
  return [called.status, called.body.error.code, called.body.error.message];
};

const countAccounts = async () => (await as('operator').get('/v1/accounts')).body.data.length;

describe('what a request must look like', () => {
  test('a wrong body is answered with the place and the reason, and changes nothing', async () => {
    const wrong: [unknown, string][] = [
      [{}, 'name: required'],
      [{ name: 5 }, 'name: must be string'],
      [{ name: '' }, 'name: must not have fewer than 1 characters'],
      [{ name: 'x', colour: 'red' }, 'colour: unknown here'],
      [{ name: 'x', id: 5 }, 'id: unknown here'],
      [{ name: 'x', locked: 'true' }, 'locked: must be boolean'],
      [{ name: 'x', pushUrls: { report: 5 } }, 'pushUrls.report: must be string or must be null'],
      [{ name: 'x', pushUrls: { mail: 'x' } }, 'pushUrls.mail: unknown here'],
      [{ name: 'x', ipAllowList: ['10.0.0.1', 5] }, 'ipAllowList[1]: must be string'],
      [{ name: 'x\0' }, 'name: holds a character that is none'],
      ['{"name":"\\ud800"}', 'name: holds a character that is none'],
      [[], 'body: must be object'],
      ['null', 'body: must be object'],
    ];
    const before = await countAccounts();
    for (const [body, message] of wrong)
      expect(await problem('POST', '/v1/accounts', body), JSON.stringify(body)).toEqual([400, 'invalid', message]);
    expect(await problem('POST', '/v1/accounts', { name: 'x', ipAllowList: ['10.0.0.1', 'home'] })).toEqual([
      422,
      'invalid',
      expect.stringContaining('ipAllowList[1]: "home"'),
    ]);
    expect(await countAccounts()).toBe(before);
  });

  test('a body that is no JSON, too large or of another type has its own status', async () => {
    expect(await problem('POST', '/v1/accounts', '{"name":')).toEqual([400, 'malformed', expect.any(String)]);
    expect(await problem('POST', '/v1/accounts', '')).toEqual([400, 'invalid', 'body: must be object']);
    expect(await problem('POST', '/v1/accounts', 'name=x', { 'content-type': 'text/plain' })).toEqual([
      415,
      'unsupported_media_type',
      expect.any(String),
    ]);
    expect(await problem('POST', '/v1/accounts', { name: 'x'.repeat(1 << 20) })).toEqual([413, 'too_large', expect.any(String)]);
    expect(await problem('DELETE', '/v1/accounts')).toEqual([405, 'method_not_allowed', expect.any(String)]);
    expect(await problem('GET', '/v1/nothing')).toEqual([404, 'not_found', expect.any(String)]);
  });

  test('a query is read as it is meant and refused when it means nothing', async () => {
    const wrong: [string, string][] = [
      ['/v1/accounts?limit=0', 'limit: must be >= 1'],
      ['/v1/accounts?limit=501', 'limit: must be <= 500'],
      ['/v1/accounts?limit=ten', 'limit: must be integer'],
      ['/v1/accounts?limit=1&limit=2', 'limit: must be integer'],
      ['/v1/accounts?colour=red', 'colour: unknown here'],
      ['/v1/accounts?cursor=made-up', 'cursor: not one that this list has given'],
      ['/v1/accounts/one', 'id: must be integer'],
      ['/v1/messages?accountId=1', 'phone: required'],
      ['/v1/messages?accountId=1&phone=13800000000&from=2026-02-30', 'from: there is no such day'],
      ['/v1/messages?accountId=1&phone=13800000000&from=2026-03-02&to=2026-03-01', 'from: comes after to'],
      ['/v1/events?accountId=1&from=2026-01-01&to=2026-02-01', 'from, to: at most 31 days at once'],
      ['/v1/events?accountId=1&phone=hello', 'phone: "hello" is no valid number'],
      ['/v1/events?accountId=1&state=lost', 'state: must be one of waiting, failed, kept, handed_over'],
      ['/v1/batches/99999999999999999999', 'id: must match pattern "^[0-9]{1,14}$"'],
    ];
    for (const [path, message] of wrong) expect(await problem('GET', path), path).toEqual([400, 'invalid', message]);
  });

  test('a list goes on where its last page ended', async () => {
    const whole = (await as('operator').get('/v1/subscriptions')).body;
    const ids: string[] = [];
    for (let next: string | null = ''; next !== null; ) {
      const page: Body = (await as('operator').get(`/v1/subscriptions?limit=2${next && `&cursor=${next}`}`)).body;
      expect(page.data.length).toBeLessThanOrEqual(2);
      ids.push(...page.data.map(({ id }) => id));
      next = page.next;
    }
    expect(whole.next).toBeNull();
    expect(ids).toEqual(whole.data.map(({ id }) => id));
  });
});

describe('accounts and subscriptions', () => {
  test('a new account’s key is shown once', async () => {
    const made = await as('operator').post('/v1/accounts', { name: '新客户', ipAllowList: ['198.51.100.0/24'] });
    expect(made).toMatchObject({
      status: 201,
      body: { name: '新客户', locked: false, ipAllowList: ['198.51.100.0/24'], pushUrls: {}, apiKey: expect.any(String) },
    });
    expect(made.body['createdAt']).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+08:00$/);
    const { apiKey, ...account } = made.body;
    expect((await as('operator').get(`/v1/accounts/${made.body.id}`)).body).toEqual(account);
    const rotated = await as('operator').post(`/v1/accounts/${made.body.id}/api-key`);
    expect(rotated.status).toBe(200);
    expect(rotated.body['apiKey']).not.toBe(apiKey);
  });

  test('an account manages its own push URLs', async () => {
    const set = await as('other').patch(`/v1/accounts/${other}`, {
      pushUrls: { report: 'http://c.example/r', template: 'https://c.example/t' },
    });
    expect(set).toMatchObject({ status: 200, body: { pushUrls: { report: 'http://c.example/r', template: 'https://c.example/t' } } });
    const path = `/v1/subscriptions/${othersSubscription}`;
    expect((await as('other').patch(path, { pushUrls: { report: 'http://c.example/r' } })).body['pushUrls']).toEqual({
      report: 'http://c.example/r',
    });
    expect((await as('other').patch(path, { pushUrls: { report: null, reply: 'http://c.example/mo' } })).body['pushUrls']).toEqual({
      reply: 'http://c.example/mo',
    });
    expect((await as('other').patch(path, { pushUrls: { reply: '' } })).body['pushUrls']).toEqual({});
    expect(await as('other').patch(path, { pushUrls: { reply: 'ftp://c.example' } })).toMatchObject({
      status: 422,
      body: { error: { code: 'invalid' } },
    });
  });

  test('a subscription is open for business as soon as it is answered', async () => {
    const made = await as('operator').post('/v1/subscriptions', {
      accountId: demo,
      productId: 3001,
      price: 0.05,
      spId: 700001,
      password: 'a-good-password',
    });
    expect(made).toMatchObject({
      status: 201,
      body: { spId: 700001, price: '0.05', balance: '0.00', medium: 'aim', unit: 'yuan', password: 'a-good-password', enabled: true },
    });
    expect((await as('demo').get(`/v1/subscriptions/${made.body.id}`)).body).not.toHaveProperty('password');
    const password = createHash('md5').update('a-good-password').digest('hex');
    expect((await platform.aim('balance', { sp_id: '700001', password })).json).toMatchObject({ code: 0, data: { balance: '0.00' } });
    await as('operator').patch(`/v1/subscriptions/${made.body.id}`, { enabled: false, price: '0.0625' });
    expect((await platform.aim('balance', { sp_id: '700001', password })).json).toMatchObject({ code: 10008 });
    expect((await as('demo').get(`/v1/subscriptions/${made.body.id}`)).body).toMatchObject({ price: '0.0625', enabled: false });
  });

  test('a rate limit is set and taken away', async () => {
    const path = `/v1/subscriptions/${othersSubscription}`;
    const rateLimit = { perSecond: 50, burst: 1000 };
    expect((await as('operator').get(path)).body).toMatchObject({ rateLimit: null });
    expect(await as('operator').patch(path, { rateLimit })).toMatchObject({ status: 200, body: { rateLimit } });
    expect(platform.app.management.directory.subscription(BigInt(othersSubscription))?.subscription.rateLimit).toEqual(rateLimit);
    expect((await as('operator').patch(path, { price: '0.05' })).body).toMatchObject({ rateLimit });
    expect((await as('other').patch(path, { rateLimit: null })).status).toBe(403);
    expect((await as('operator').patch(path, { rateLimit: { perSecond: 0, burst: 1 } })).status).toBe(400);
    expect((await as('operator').patch(path, { rateLimit: { perSecond: 1 } })).status).toBe(400);
    expect((await as('operator').patch(path, { rateLimit: null })).body).toMatchObject({ rateLimit: null });
    const made = await as('operator').post('/v1/subscriptions', { accountId: other, productId: 3001, price: '0.05', rateLimit });
    expect(made).toMatchObject({ status: 201, body: { rateLimit } });
  });

  test('frequency caps are made, changed, listed and removed', async () => {
    const wanted = { scope: 'subscription', subjectId: 500001, period: 'day', count: 3 };
    const caps = () => platform.app.management.directory.caps('subscription', 500001n);
    const made = await as('operator').post('/v1/caps', wanted);
    expect(made).toMatchObject({ status: 201, body: wanted });
    expect(await as('operator').post('/v1/caps', wanted)).toMatchObject({ status: 409, body: { error: { code: 'conflict' } } });
    expect(await as('operator').post('/v1/caps', { ...wanted, subjectId: 999999 })).toMatchObject({ status: 422 });
    for (const wrong of [{ count: 0 }, { count: 101 }, { count: 1.5 }, { period: 'week' }, { scope: 'account' }, { phone: '1' }])
      expect((await as('operator').post('/v1/caps', { ...wanted, ...wrong })).status, JSON.stringify(wrong)).toBe(400);
    const minute = (await as('operator').post('/v1/caps', { ...wanted, period: 'minute', count: 1 })).body;
    await as('operator').post('/v1/caps', { ...wanted, scope: 'product', subjectId: 3001 });
    expect(caps()).toMatchObject([{ period: 'day', count: 3 }, { period: 'minute' }]);

    const list = async (query: string) => (await as('operator').get(`/v1/caps?${query}`)).body.data.map(({ id }) => id);
    expect(await list('scope=subscription&subjectId=500001')).toEqual([made.body.id, minute.id]);
    expect(await list('')).toHaveLength(3);
    expect(await list('limit=1&scope=product')).toHaveLength(1);

    const path = `/v1/caps/${made.body.id}`;
    expect(await as('operator').patch(path, { count: 5, period: 'hour' })).toMatchObject({
      status: 200,
      body: { count: 5, period: 'hour' },
    });
    expect(await as('operator').patch(path, { period: 'minute' })).toMatchObject({ status: 409 });
    expect((await as('operator').get(path)).body).toMatchObject({ ...wanted, count: 5, period: 'hour' });
    expect(await as('operator').delete(path, undefined)).toMatchObject({ status: 200, body: { id: made.body.id } });
    expect(await as('operator').delete(path, undefined)).toMatchObject({ status: 404, body: { error: { code: 'not_found' } } });
    expect(caps()).toMatchObject([{ period: 'minute' }]);
  });

  test('extensions that could be taken for one another are refused', async () => {
    const wanted = { accountId: demo, productId: 3001, price: '0.05' };
    const first = await as('operator').post('/v1/subscriptions', { ...wanted, extension: '8800' });
    expect(first).toMatchObject({ status: 201, body: { extension: '8800' } });
    for (const extension of ['88', '8800', '88001'])
      expect(await as('operator').post('/v1/subscriptions', { ...wanted, extension })).toMatchObject({
        status: 409,
        body: { error: { code: 'conflict' } },
      });
  });

  test('a top-up with the same key pays once', async () => {
    const path = `/v1/subscriptions/${othersSubscription}/top-ups`;
    const pay = (amount: unknown, key?: string) =>
      as('operator').post(path, { amount, note: '汇款' }, key === undefined ? {} : { 'idempotency-key': key });
    expect((await pay('99.95', 'order-1')).body).toEqual({ balance: '99.95' });
    expect((await pay('99.95', 'order-1')).body).toEqual({ balance: '99.95' });
    expect(await pay('1', 'order-1')).toMatchObject({ status: 409 });
    expect((await pay(0.05)).body).toEqual({ balance: '100.00' });
    for (const amount of ['-1', '1.00001', 0.000_01, '', '1e3', true])
      expect((await pay(amount)).status, String(amount)).toBeGreaterThanOrEqual(400);
    expect(await pay('0')).toMatchObject({ status: 422 });
    expect(await as('operator').post('/v1/subscriptions/999999/top-ups', { amount: '1' })).toMatchObject({ status: 404 });

    const ledger = await as('other').get(`/v1/ledger?subscriptionId=${othersSubscription}&limit=1`);
    expect(ledger.body.data).toEqual([
      { kind: 'top_up', batchId: null, amount: '0.05', held: '0.00', note: '汇款', at: expect.any(String) },
    ]);
    const earlier = await as('other').get(`/v1/ledger?subscriptionId=${othersSubscription}&cursor=${ledger.body.next}`);
    expect(earlier.body).toMatchObject({ data: [{ amount: '99.95' }], next: null });
  });
});

describe('products, pools and channels', () => {
  const settings = { host: '127.0.0.1', port: 1, spId: '901234', serviceId: 'HY', ratePerSecond: 10 };
  const channel = {
    protocol: 'cmpp',
    name: '移动',
    carriers: ['mobile'],
    accessNumber: '10690001',
    enabled: false,
    settings,
    secret: 'ismg-secret',
  };

  test('are made, linked and changed by the operator', async () => {
    const made = await as('operator').post('/v1/channels', channel);
    expect(made).toMatchObject({ status: 201, body: { name: '移动', connections: 1, states: [], queue: { chunks: 0, messages: 0 } } });
    expect(made.body).not.toHaveProperty('secret');
    const members = [{ channelId: made.body.id, priority: 1, weight: 1 }];
    const pool = await as('operator').post('/v1/pools', { name: '池', channels: members });
    expect(pool).toMatchObject({ status: 201, body: { name: '池', channels: members } });
    const product = await as('operator').post('/v1/products', { name: '智能短信', medium: 'aim', unit: 'yuan', poolId: pool.body.id });
    expect(product).toMatchObject({ status: 201, body: { poolId: pool.body.id, chargeOn: 'delivered', inDoubt: 'resend', limits: {} } });

    expect((await as('operator').patch(`/v1/products/${product.body.id}`, { poolId: null })).body['poolId']).toBeNull();
    expect((await as('operator').patch(`/v1/pools/${pool.body.id}`, { channels: [] })).body).toMatchObject({ name: '池', channels: [] });
    const patched = await as('operator').patch(`/v1/channels/${made.body.id}`, { settings: { ...settings, window: 32 } });
    expect(patched.body).toMatchObject({ enabled: false, settings: { ...settings, window: 32 } });
    expect((await as('operator').get(`/v1/channels/${made.body.id}`)).body).toEqual(patched.body);
    expect((await as('operator').get('/v1/channels')).body.data.map(({ id }) => id)).toContain(made.body.id);
    expect((await as('operator').get('/v1/pools')).body.data.map(({ id }) => id)).toContain(pool.body.id);
  });

  test.each(['accounts/1', 'subscriptions/500001', 'products/3001', 'channels/1'])(
    'a change of nothing but what is there already leaves %s as it is',
    async (path) => {
      const { body } = await as('operator').get(`/v1/${path}`);
      const name = path.startsWith('subscriptions') ? { price: body.price } : { name: body.name };
      expect(await as('operator').patch(`/v1/${path}`, name)).toMatchObject({ status: 200, body });
    },
  );

  test('a channel says how well it is and by which rules; rules are replaced as a whole, and must make sense', async () => {
    const { body: made } = await as('operator').post('/v1/channels', channel);
    const path = `/v1/channels/${made.id}`;
    const defaults = { sessionSeconds: 30, outcomes: 200, leastOutcomes: 50, failurePercent: 30, deliveredPercent: 0, leastReports: 100 };
    const well = { health: 'healthy', healthReason: '', healthBy: null, healthProbeAt: null, forcedHealth: null };
    expect(made).toMatchObject({ ...well, healthRules: { ...defaults, pauseSeconds: 30, probeMessages: 10 } });
    const { body: changed } = await as('operator').patch(path, { healthRules: { failurePercent: 60, deliveredPercent: 5 } });
    expect(changed['healthRules']).toMatchObject({ ...defaults, failurePercent: 60, deliveredPercent: 5 });
    expect((await as('operator').patch(path, { healthRules: {} })).body['healthRules']).toEqual(made['healthRules']);
    for (const [rules, code, message] of [
      [{ failurePercent: 101 }, 400, 'healthRules.failurePercent: '],
      [{ sessionSeconds: 0 }, 400, 'healthRules.sessionSeconds: '],
      [{ patience: 1 }, 400, 'healthRules.patience: unknown here'],
      [{ leastOutcomes: 201 }, 422, 'healthRules: leastOutcomes is more than outcomes'],
    ] as const) {
      const { status, body: answer } = await as('operator').patch(path, { healthRules: rules });
      expect([status, answer.error.message], message).toEqual([code, expect.stringContaining(message)]);
    }
    const { body: forced } = await as('operator').patch(path, { forcedHealth: 'unhealthy' });
    expect(forced).toMatchObject({ health: 'unhealthy', healthReason: 'forced', healthBy: 'operator', forcedHealth: 'unhealthy' });
    expect((await as('operator').patch(path, { forcedHealth: null })).body).toMatchObject(well);
  });

  test('settings that the protocol does not know, or not so, are refused', async () => {
    const wrong: [object, string][] = [
      [{ ...channel, settings: { ...settings, spId: '12345' } }, 'settings.spId: '],
      [{ ...channel, settings: { ...settings, version: '4.0' } }, 'settings.version: must be one of 2.0, 3.0'],
      [{ ...channel, settings: { ...settings, secret: 'x' } }, 'settings.secret: unknown here'],
      [{ ...channel, settings: { host: 'x', port: 1 } }, 'settings.spId, '],
      [{ ...channel, protocol: 'smpp' }, 'protocol: must be one of cmpp'],
      [{ ...channel, carriers: [] }, 'carriers: '],
      [{ ...channel, accessNumber: '+8610690001' }, 'accessNumber: '],
    ];
    for (const [body, message] of wrong) {
      const { status, body: answer } = await as('operator').post('/v1/channels', body);
      expect([status, answer.error.message], message).toEqual([400, expect.stringContaining(message)]);
    }
  });

  test('a change is checked by the protocol that the channel has, and what it stored before is not asked for again', async () => {
    const mm7 = { url: 'https://mmsc.example.net/mm7', vaspId: '800001', vasId: '10690001', ratePerSecond: 10 };
    const { body: made } = await as('operator').post('/v1/channels', { ...channel, protocol: 'mm7', settings: mm7 });
    const path = `/v1/channels/${made.id}`;
    const wanted = { ...mm7, priority: 'High', chargedParty: 'Recipient', frameMs: 8000, responseTimeoutMs: 90_000 };
    expect((await as('operator').patch(path, { settings: wanted })).body).toMatchObject({ settings: wanted, protocol: 'mm7' });
    for (const [wrong, message] of [
      [settings, 'settings.url, settings.vaspId, settings.vasId: required'],
      [{ ...mm7, priority: 'Urgent' }, 'settings.priority: must be one of Normal, High, Low'],
      [{ ...mm7, frameMs: 10 }, 'settings.frameMs: must be >= 1000'],
      [{ ...mm7, serviceCode: 'a b' }, 'settings.serviceCode: must match pattern "^[!-~]{0,100}$"'],
    ] as const)
      expect(await as('operator').patch(path, { settings: wrong })).toMatchObject({
        status: 400,
        body: { error: { code: 'invalid', message } },
      });
    expect((await as('operator').patch(path, { name: '联通' })).body).toMatchObject({ name: '联通', settings: wanted });
  });

  test('the kinds of channels say what a form needs to know', async () => {
    const { status, body } = await as('operator').get('/v1/channel-kinds');
    expect([status, body.data.map(({ name }) => name)]).toEqual([200, ['cmpp', 'mm7']]);
    expect(body.data).toMatchObject([
      {
        title: { zh: '中国移动 CMPP 2.0/3.0' },
        secret: { title: { zh: '登录密码' } },
        door: null,
        settings: {
          required: ['host', 'port', 'spId', 'serviceId', 'ratePerSecond'],
          properties: {
            spId: { type: 'string', title: '企业代码', 'x-title-en': 'SP_Id' },
            window: { type: 'integer', minimum: 1, maximum: 1024, default: 16, title: '滑动窗口' },
          },
        },
      },
      { door: { path: '/mm7/{id}' }, settings: { properties: { chargedParty: { default: 'Sender', title: '计费类型' } } } },
    ]);
    expect(await as('other').get('/v1/channel-kinds')).toMatchObject({ status: 403 });
  });

  test('the document tells the settings of each kind', async () => {
    const { body: document } = await as('operator').get('/v1/openapi.json');
    const settings = { oneOf: [{ $ref: '#/components/schemas/CmppSettings' }, { $ref: '#/components/schemas/Mm7Settings' }] };
    const requestBody = { content: { 'application/json': { schema: { properties: { settings } } } } };
    expect(document).toMatchObject({
      paths: { '/v1/channels': { post: { requestBody } }, '/v1/channels/{id}': { patch: { requestBody } } },
      components: { schemas: { CmppSettings: { properties: { spId: { title: '企业代码' } } } } },
    });
  });
});

describe('templates and signatures', () => {
  const card = { layout: 'notice', title: '账单', rows: [{ label: '金额', value: '${amount}' }] };

  test('an account submits a template, the operator decides, and the account may use it at once', async () => {
    const made = await as('other').post('/v1/templates', { name: '账单', card });
    expect(made).toMatchObject({ status: 201, body: { accountId: other, state: 'pending', parameters: ['amount'], card, linkDays: 30 } });
    expect((await as('operator').get('/v1/templates?state=pending')).body.data.map(({ id }) => id)).toContain(made.body.id);
    // Clients that always announce JSON may have nothing to say.
    const approved = await as('operator').post(`/v1/templates/${made.body.id}/approve`, '');
    expect(approved).toMatchObject({ status: 200, body: { state: 'approved', decidedAt: expect.any(String) } });
    expect((await as('operator').post(`/v1/templates/${made.body.id}/approve`)).body).toEqual(approved.body);
    expect(await as('operator').post(`/v1/templates/${made.body.id}/reject`, { reason: 'x' })).toMatchObject({ status: 409 });
    expect((await as('other').get(`/v1/templates/${made.body.id}`)).body).toEqual(approved.body);
    expect((await as('other').post(`/v1/templates/${made.body.id}/withdraw`)).body).toMatchObject({ state: 'withdrawn' });
  });

  test('a rejection needs a reason, which the account reads', async () => {
    const made = await as('operator').post('/v1/templates', {
      accountId: other,
      name: '账单',
      card,
      linkDays: 7,
      validUntil: '2999-12-31T23:59:59+08:00',
    });
    expect(made).toMatchObject({ status: 201, body: { linkDays: 7, validUntil: '2999-12-31T23:59:59.000+08:00' } });
    const path = `/v1/templates/${made.body.id}/reject`;
    expect(await as('operator').post(path)).toMatchObject({ status: 400 });
    expect(await as('operator').post(path, {})).toMatchObject({ status: 400, body: { error: { message: 'reason: required' } } });
    expect((await as('operator').post(path, { reason: '内容不合规' })).body).toMatchObject({ state: 'rejected', reason: '内容不合规' });
    expect((await as('other').get(`/v1/templates/${made.body.id}`)).body).toMatchObject({ state: 'rejected', reason: '内容不合规' });
  });

  test('a wrong card is answered with the place and the reason', async () => {
    const wrong: [unknown, string][] = [
      [{ layout: 'poster' }, 'card.layout: '],
      [{ ...card, rows: [] }, 'card.rows: '],
      [{ ...card, colour: 'red' }, 'card.colour: '],
      [{ ...card, title: '${' }, 'card.title: '],
      [5, 'card.layout: '],
      [{ ...card, title: 'x\0' }, 'card.title: '],
    ];
    for (const [card, message] of wrong) {
      const { status, body } = await as('other').post('/v1/templates', { name: 'x', card });
      expect([400, 422], message).toContain(status);
      expect(body.error.message).toContain(message);
    }
    const past = await as('other').post('/v1/templates', { name: 'x', card, validUntil: '2000-01-01T00:00:00Z' });
    expect(past).toMatchObject({ status: 422, body: { error: { message: expect.stringContaining('validUntil') } } });
    const deep = `{"name":"x","card":${'['.repeat(200_000)}${']'.repeat(200_000)}}`;
    expect((await as('other').post('/v1/templates', deep)).status).toBe(400);
  });

  test('signatures are registered by the operator and seen by their account', async () => {
    const made = await as('operator').post('/v1/signatures', { accountId: other, name: '【别家】' });
    expect(made).toMatchObject({ status: 201, body: { accountId: other, name: '别家' } });
    expect((await as('other').get('/v1/signatures')).body.data).toEqual([made.body]);
    expect(await as('operator').post('/v1/signatures', { accountId: other, name: '别家' })).toMatchObject({ status: 409 });
  });
});

describe('blocklists', () => {
  test('an account keeps the list of its subscription', async () => {
    const [list] = (await as('other').get('/v1/blocklists')).body.data;
    const path = `/v1/blocklists/${list?.id}/numbers`;
    expect((await as('other').post(path, { numbers: ['13800000000', '+86 138-0000-0000', '+85291234567'] })).body).toEqual({ added: 2 });
    expect((await as('other').get(path)).body.data).toMatchObject([{ phone: '+85291234567' }, { phone: '13800000000', source: 'account' }]);
    expect((await as('other').get(`${path}?phone=008613800000000`)).body.data).toHaveLength(1);
    expect((await as('other').delete(path, { numbers: ['13800000000', '13900000000'] })).body).toEqual({ removed: 1 });
    const wrong = await as('other').post(path, { numbers: ['13900000000', '12345'] });
    expect(wrong).toMatchObject({ status: 422, body: { error: { message: 'numbers[1]: "12345" is no valid number' } } });
    expect((await as('other').post(path, { numbers: [] })).status).toBe(400);
    expect((await as('other').post(path, { numbers: Array(10_001).fill('13800000000') })).status).toBe(400);
    expect((await as('other').get(path)).body.data).toHaveLength(1);
  });

  test('the operator makes a list where there is none, and finds it where there is', async () => {
    const first = await as('operator').post('/v1/blocklists', { kind: 'product', subjectId: 3001 });
    expect(first).toMatchObject({ status: 200, body: { kind: 'product', subjectId: 3001, accountId: null } });
    expect((await as('operator').post('/v1/blocklists', { kind: 'product', subjectId: 3001 })).body).toEqual(first.body);
    expect((await as('operator').post('/v1/blocklists', { kind: 'system' })).body).toMatchObject({ kind: 'system', subjectId: null });
    expect(await as('operator').post('/v1/blocklists', { kind: 'product', subjectId: 999 })).toMatchObject({ status: 422 });
  });
});

describe('what happened', () => {
  test('a batch shows what became of its messages, from the queue to the end', async () => {
    const id = await submit(['13811110001', '13811110002', '13800000021', '12345']);
    const queued = await as('demo').get(`/v1/batches/${id}`);
    expect(queued.body).toMatchObject({
      id,
      accountId: demo,
      subscriptionId: 500001,
      templateId: 101,
      recipients: 4,
      totals: { queued: 2, intercepted: 2, delivered: 0 },
      cost: '0.00',
    });
    const waiting = await as('demo').get('/v1/messages?phone=13811110001');
    expect(waiting.body.data).toMatchObject([
      { batchId: id, phone: '13811110001', status: 'queued', price: '0.05', cost: null, code: null, channelId: 1 },
    ]);

    await platform.deliver(BigInt(id));
    expect((await as('operator').get(`/v1/batches/${id}`)).body).toMatchObject({
      totals: { queued: 0, delivered: 2, intercepted: 2 },
      cost: '0.10',
    });
    expect((await as('demo').get('/v1/batches?limit=1')).body.data).toMatchObject([{ id, content: '【鸿雁】您有一张优惠券 $url$' }]);
    const ended = await as('operator').get(`/v1/messages?phone=%2B8613811110001&accountId=${demo}`);
    expect(ended.body.data).toMatchObject([{ id: waiting.body.data[0]?.id, status: 'delivered', code: 'DELIVRD', cost: '0.05' }]);

    for (const token of ['other'] as const) {
      expect((await as(token).get(`/v1/batches/${id}`)).body).toEqual((await as(token).get('/v1/batches/1')).body);
      expect((await as(token).get(`/v1/messages/${ended.body.data[0]?.id}`)).status).toBe(404);
    }
  });

  test('a message tells its life', async () => {
    const id = await submit(['13811110011', '12345']);
    const [message] = (await as('demo').get('/v1/messages?phone=13811110011')).body.data;
    const life = async () => (await as('demo').get(`/v1/messages/${message?.id}`)).body.timeline.map(({ what }) => what);
    expect(await life()).toEqual(['accepted']);
    await platform.deliver(BigInt(id));
    expect(await life()).toEqual(['accepted', 'sent', 'final', 'report_waiting']);
    await platform.aim('report');
    expect(await life()).toEqual(expect.arrayContaining(['accepted', 'sent', 'final', 'report_pulled']));

    const [invalid] = (await as('demo').get('/v1/messages?phone=12345')).body.data;
    expect(invalid).toMatchObject({ phone: '12345', status: 'intercepted', code: 'WL:CWHM', cost: '0.00', channelId: null });
    const detail = await as('operator').get(`/v1/messages/${invalid?.id}`);
    expect(detail.body).toMatchObject({ verdict: { rule: 1 }, parts: [], carrierId: null });
    expect((await as('demo').get('/v1/messages/1')).status).toBe(404);
    expect((await as('demo').get(`/v1/messages/${BigInt(message?.id ?? 0) + 400n}`)).status).toBe(404);
    expect((await as('operator').get('/v1/messages/999999999999999999')).status).toBe(404);
  });

  test('events wait, are handed over, and can be replayed', async () => {
    await platform.aim('report');
    const id = await submit(['13811110021', '13811110022', '13811110023']);
    await platform.deliver(BigInt(id));
    const events = async (query = '') => (await as('demo').get(`/v1/events?batchId=${id}${query}`)).body.data;
    const waiting = await events('&state=waiting');
    expect(waiting.map((event) => event['phone'])).toEqual(['13811110023', '13811110022', '13811110021']);
    expect(waiting[0]).toMatchObject({
      kind: 'report',
      batchId: id,
      subscriptionId: 500001,
      state: 'waiting',
      route: 'pull',
      code: 'DELIVRD',
      cost: '0.05',
      handedAt: null,
    });
    expect(await events('&state=handed_over')).toEqual([]);

    await platform.aim('report');
    expect((await events()).map(({ state }) => state)).toEqual(['handed_over', 'handed_over', 'handed_over']);
    expect(await events('&phone=13811110022')).toHaveLength(1);
    const first = (await as('demo').get(`/v1/events?batchId=${id}&limit=2`)).body;
    expect((await events(`&limit=2&cursor=${first.next}`)).map((event) => event['phone'])).toEqual(['13811110021']);

    const replayed = await as('demo').post('/v1/events/replay', {
      subscriptionId: 500001,
      kind: 'report',
      batchId: id,
      phone: '13811110022',
    });
    expect(replayed.body).toEqual({ replayed: 1 });
    expect((await events()).map(({ state, replays }) => [state, replays])).toEqual([
      ['handed_over', 0],
      ['waiting', 1],
      ['handed_over', 0],
    ]);
    expect((await platform.aim('report')).json['data']).toContain('13811110022,DELIVRD');
    expect((await events('&phone=13811110022'))[0]).toMatchObject({ state: 'handed_over', replays: 1 });
  });

  test('replies are listed for their account, and those that nobody claims for the operator', async () => {
    await platform.reply('13811110031', '你好,|世界');
    const inbound = createInbound({ ...platform.app.management, clock: () => new Date() });
    const octets = Buffer.from('有人吗', 'utf16le').swap16();
    await inbound.receive({
      channelId: 1n,
      carrierId: 'mo-1',
      from: '13811110032',
      to: '1069000099',
      concat: null,
      encoding: 'ucs2',
      octets,
    });
    expect((await as('demo').get('/v1/replies?phone=13811110031')).body.data).toMatchObject([
      { phone: '13811110031', content: '你好,|世界', subscriptionId: 500001, optOut: false, batchId: null },
    ]);
    expect((await as('other').get('/v1/replies')).body.data).toEqual([]);
    const unassigned = (await as('operator').get('/v1/replies/unassigned')).body.data;
    expect(unassigned).toMatchObject([{ phone: '13811110032', content: '有人吗', subscriptionId: null }]);
    const events = (await as('demo').get('/v1/events?kind=reply&phone=13811110031')).body.data;
    expect(events).toMatchObject([{ kind: 'reply', state: 'waiting', batchId: null, code: null, cost: null }]);
  });

  test('the ledger of a subscription tells the holds, and the orphans are listed', async () => {
    const id = await submit(['13811110041']);
    const { data } = (await as('demo').get('/v1/ledger?subscriptionId=500001&limit=1')).body;
    expect(data).toMatchObject([{ kind: 'hold', batchId: id, amount: '-0.05', held: '0.05' }]);
    expect((await as('operator').get('/v1/orphans')).body).toEqual({ data: expect.any(Array), next: null });
    expect((await as('demo').get('/v1/pushes')).body).toEqual({ data: [], next: null });
  });
});

interface Document {
  readonly openapi: string;
  readonly paths: Record<string, Record<string, { summary?: string; responses: Record<string, unknown>; security: object[] }>>;
  readonly components: { schemas: Record<string, unknown> };
}
const openApi = async (): Promise<Document> => JSON.parse((await platform.call('/v1/openapi.json')).text);
const operationsOf = ({ paths }: Document) =>
  Object.entries(paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));

describe('the OpenAPI document', () => {
  test('is 3.1, needs no token, and describes every route that answers', async () => {
    const whole = await openApi();
    expect(whole.openapi).toMatch(/^3\.1\.\d$/);
    const operations = operationsOf(whole);
    expect(operations.length).toBeGreaterThan(40);
    for (const { path, method, operation } of operations) {
      expect(operation.summary, `${method} ${path}`).toBeTruthy();
      expect(Object.keys(operation.responses).sort(), `${method} ${path}`).toEqual([expect.stringMatching(/^20[01]$/), '4XX']);
      const { status, json } = await platform.call(path.replaceAll(/\{\w+\}/g, '1'), { method: method.toUpperCase() });
      if (path === '/v1/openapi.json') continue;
      // Each is there, and none answers a stranger.
      expect([status, json['error']], `${method} ${path}`).toEqual([401, expect.objectContaining({ code: 'unauthenticated' })]);
      expect(operation.security).toEqual([{ token: [] }]);
    }
  });

  test('has no reference that leads nowhere', async () => {
    const whole = await openApi();
    const text = JSON.stringify(whole);
    const names = [...text.matchAll(/"\$ref":"([^"]+)"/g)].map(([, target = '']) => target);
    expect(names.length).toBeGreaterThan(20);
    for (const target of new Set(names)) {
      expect(target).toMatch(/^#\/components\/schemas\/\w+$/);
      expect(whole.components.schemas).toHaveProperty(target.split('/').at(-1) ?? '');
    }
  });
});

describe('settings', () => {
  test('are the operator’s, take effect at once, and go back to their defaults', async () => {
    expect((await as('demo').get('/v1/settings')).status).toBe(403);
    const before = (await as('operator').get('/v1/settings')).body;
    expect(before).toMatchObject({ optOutWords: ['TD', 'T', 'R', '退订', '拒收', 'N'], rowsPerPull: 2000, reportWithinHours: 72 });
    expect(before).toMatchObject({ retentionDays: 180, waitingDays: 365, batchDays: 730 });

    const changed = await as('operator').patch('/v1/settings', { optOutWords: ['不要'], rowsPerPull: 2, retentionDays: 90 });
    expect(changed.body).toEqual({ ...before, optOutWords: ['不要'], rowsPerPull: 2, retentionDays: 90 });
    await platform.reply('13855550001', '不要', '1000');
    await platform.reply('13855550002', 'TD', '1000');
    const { json } = await platform.aim('send-aim', {
      template_id: '101',
      content: '【鸿雁】您有一张优惠券 $url$',
      mobiles: '["13855550001","13855550002"]',
    });
    expect(json['failed_data']).toEqual({ '13855550001': 'WL:SHLJ' });

    expect((await as('operator').patch('/v1/settings', { optOutWords: null, rowsPerPull: null, retentionDays: null })).body).toEqual(
      before,
    );
  });

  test('are refused where they make no sense', async () => {
    for (const wrong of [{ rowsPerPull: 0 }, { retentionDays: 0 }, { reportWithinHours: 73 }, { optOutWords: [''] }, { other: 1 }])
      expect((await as('operator').patch('/v1/settings', wrong)).status, JSON.stringify(wrong)).toBe(400);
  });
});

describe('whatever is sent', () => {
  const ids = ['0', '1', '-1', '1e3', '9007199254740991', '99999999999999', '999999999999999999', '%00', '%', 'null', '%F0%9F%98%80'];
  const values = [null, true, -1, 1.5, 1e300, '', '\0', '\ud800', '😀'.repeat(50), '9'.repeat(30), [], [[]], {}, { id: {} }];

  test('is answered, and never as a fault of ours', async () => {
    for (const { path, method } of operationsOf(await openApi())) {
      const isGet = method === 'get';
      const fields = [
        'name',
        'amount',
        'reason',
        'card',
        'numbers',
        'pushUrls',
        'accountId',
        'price',
        'settings',
        'ids',
        'kind',
        'text',
        'verdict',
        'words',
      ];
      const bodies = isGet ? [undefined] : [...values, ...values.map((value) => Object.fromEntries(fields.map((field) => [field, value])))];
      for (const id of path.includes('{id}') ? ids : ['']) {
        const query = isGet ? `?accountId=1&phone=${id || '%00'}&limit=1&subscriptionId=${id}&batchId=${id}&cursor=${id}` : '';
        for (const body of id === '' || id === '1' ? bodies : [isGet ? undefined : {}]) {
          const where = path.replace('{id}', id);
          for (const url of new Set([where, where + query])) {
            const { status } = await call(method.toUpperCase(), url, tokens.operator, body);
            expect(status, `${method} ${url} ${JSON.stringify(body)}`).toBeLessThan(500);
          }
        }
      }
    }
  }, 60_000);

  test('a cursor of one list is not taken by another, and does no harm', async () => {
    const { next } = (await as('operator').get('/v1/accounts?limit=1')).body;
    for (const list of ['ledger?subscriptionId=500001', 'orphans?', 'events?accountId=1'])
      expect((await as('operator').get(`/v1/${list}&cursor=${next}`)).status, list).toBeLessThan(500);
    const huge = Buffer.from(JSON.stringify(['9223372036854775807', '1', 'x', '1'])).toString('base64url');
    expect((await as('operator').get(`/v1/ledger?subscriptionId=500001&cursor=${huge}`)).status).toBeLessThan(500);
  });
});
