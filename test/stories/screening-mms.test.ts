/**
 * The rules of screening through the MMS API. Each row sends a message that passes, lets an operator make a policy through the management
 * API, and sends the same once more, beside a neighbour that the policy lets through. What is an AIM message's alone is no row here: an MMS
 * whose signature is missing or not registered, or that has no valid number, is refused with the request (mms-v1.test.ts).
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { callMms } from '../kit/customers.ts';
import { type MmsPlatform, startMmsPlatform } from '../kit/mms-platform.ts';

let platform: MmsPlatform;

beforeAll(async () => {
  platform = await startMmsPlatform({ roles: ['api'] });
});
afterAll(() => platform.stop());

interface Customer {
  readonly accountId: number;
  readonly productId: number;
  readonly subscriptionId: number;
  readonly signatureId: number;
  readonly apiId: string;
  readonly apiKey: string;
}

interface Message {
  readonly phones?: readonly string[];
  readonly title?: string;
  readonly texts?: readonly string[];
  readonly hoursAhead?: number;
}

const mobile = '13900005001';
const unicom = '18600005001';

async function manage<T = Readonly<Record<string, unknown>>>(method: string, path: string, body?: object): Promise<T> {
  const { status, text, json } = await platform.manage(method, path, body);
  expect([status < 300, text], path).toEqual([true, text]);
  return json as T;
}
const make = async (path: string, body: object): Promise<number> => (await manage<{ id: number }>('POST', path, body)).id;

async function newCustomer(): Promise<Customer> {
  const { id: accountId, ...account } = await manage<{ id: number; apiId: string; apiKey: string }>('POST', 'accounts', { name: 'story' });
  const productId = await make('products', { name: 'story', medium: 'mms', unit: 'messages', poolId: 1 });
  const subscriptionId = await make('subscriptions', { accountId, productId, price: '1' });
  await manage('POST', `subscriptions/${subscriptionId}/top-ups`, { amount: '100' });
  const signatureId = await make('signatures', { accountId, name: '鸿雁', registrations: { mobile: 'registered', unicom: 'pending' } });
  return { accountId, productId, subscriptionId, signatureId, ...account };
}

/** `YYYY-MM-DD HH:mm:ss` in Asia/Shanghai, so many hours from now. */
const inHours = (hours: number): string => new Date(Date.now() + (8 + hours) * 3600_000).toISOString().slice(0, 19).replace('T', ' ');

/** Sends a message, and says what is known of its last number: a status of screening (also of what waits for review), or `queued`. */
async function fateOf(customer: Customer, { phones = [mobile], title = '通知', texts = ['您好'], hoursAhead = 0 }: Message) {
  const { task_id: batch } = await callMms(platform, customer, 'batchSend', {
    product_id: customer.productId,
    phone: phones,
    sign_name: '鸿雁',
    title,
    content: texts.map((data) => [{ con_type: 'text', ext_type: 'txt', data }]),
    send_time: hoursAhead === 0 ? '' : inHours(hoursAhead),
  });
  type Row = { batchId: string; status: string; code: string | null };
  // What is planned for after midnight lies under tomorrow.
  const days = `from=${inHours(0).slice(0, 10)}&to=${inHours(24).slice(0, 10)}`;
  const { data } = await manage<{ data: Row[] }>('GET', `messages?accountId=${customer.accountId}&phone=${phones.at(-1)}&${days}`);
  const found = data.find(({ batchId }) => batchId === batch);
  if (found?.status === 'in_review') return `review ${(await manage<{ code: string }>('GET', `reviews/${String(batch)}`)).code}`;
  return found?.code ?? found?.status;
}

type Policy = (customer: Customer) => Promise<unknown>;

const product =
  (settings: object): Policy =>
  ({ productId }) =>
    manage('PATCH', `products/${productId}`, settings);
const subscription =
  (settings: object): Policy =>
  ({ subscriptionId }) =>
    manage('PATCH', `subscriptions/${subscriptionId}`, settings);
const both =
  (...policies: readonly Policy[]): Policy =>
  async (customer) => {
    for (const policy of policies) await policy(customer);
  };
const template =
  (text: string, verdict: string): Policy =>
  ({ accountId }) =>
    make('content-templates', { accountId, text, verdict, enabled: true });
const word =
  (text: string, verdict: string): Policy =>
  async () => {
    const list = await make('word-lists', { name: text, verdict });
    await manage('POST', `word-lists/${list}/words`, { words: [text] });
  };
const listed =
  (kind: string, subject: 'productId' | 'subscriptionId' | 'signatureId' | null, number: string): Policy =>
  async (customer) => {
    const list = await make('blocklists', { kind, ...(subject && { subjectId: customer[subject] }) });
    await manage('POST', `blocklists/${list}/numbers`, { numbers: [number] });
  };
const pool =
  (...channels: readonly object[]): Policy =>
  async (customer) => {
    const settings = { host: '127.0.0.1', port: 1, spId: '900001', serviceId: 'HY', ratePerSecond: 100 };
    const common = { name: 'story', protocol: 'cmpp', accessNumber: '10690000', settings, secret: 'x' };
    const members = [];
    for (const channel of channels) members.push({ channelId: await make('channels', { ...common, ...channel }), priority: 1, weight: 1 });
    await product({ poolId: await make('pools', { name: 'story', channels: members }) })(customer);
  };
const closed = (mode: string): Policy =>
  subscription({ sendingWindow: { from: inHours(2).slice(11, 16), to: inHours(4).slice(11, 16), mode } });

const verification: Message = { texts: ['验证码 123456'] };
const hasCode = template('{40}【鸿雁】验证码 {6}', 'pass');

it.each<[status: string, what: string, policy: Policy, stopped: Message, passes: Message]>([
  ['WL:QWBB', 'carrier of the number', product({ strictSignatures: true }), { phones: [unicom] }, { phones: [mobile] }],
  ['WL:TCLJ', 'planned time', closed('intercept'), {}, { hoursAhead: 3 }],
  ['review WL:TCSH', 'planned time', closed('review'), {}, { hoursAhead: 3 }],
  ['WL:MBLJ', 'word in the title', word('题中拦', 'intercept'), { title: '题·中·拦' }, { title: '题中' }],
  ['WL:MBLJ', 'word in a later text', word('文中拦', 'intercept'), { texts: ['您好', '后文中拦'] }, { texts: ['后文', '您好'] }],
  [
    'WL:MBLJ',
    'template over title and text',
    template('大奖{40}领取{10}', 'intercept'),
    { title: '大奖', texts: ['领取吧'] },
    { title: '大奖' },
  ],
  ['review WL:MBSH', 'word in the title', word('题中审', 'review'), { title: '题中审' }, {}],
  ['review WL:MBSH', 'word in a later text', word('文中审', 'review'), { texts: ['您好', '文中审'] }, {}],
  ['review WL:MBSH', 'template over title and text', template('通知{40}登记{10}', 'review'), { texts: ['登记吧'] }, {}],
  ['WL:ZJLJ', 'text', both(product({ templatesOnly: true }), hasCode), {}, verification],
  ['WL:NMLJ', 'text', both(subscription({ unmatched: 'intercept' }), hasCode), {}, verification],
  ['review WL:NMSH', 'text', both(subscription({ unmatched: 'review' }), hasCode), {}, verification],
  ['WL:KHLJ', 'number', listed('empty', null, '13900005010'), { phones: ['13900005010'] }, {}],
  ['WL:CHLJ', 'number, for everybody', listed('system', null, '13900005011'), { phones: ['13900005011'] }, {}],
  ['WL:CHLJ', 'number', listed('product', 'productId', unicom), { phones: [unicom] }, {}],
  ['WL:SHLJ', 'number', listed('subscription', 'subscriptionId', unicom), { phones: [unicom] }, {}],
  ['WL:QHLJ', 'number', listed('signature', 'signatureId', unicom), { phones: [unicom] }, {}],
  ['WL:CS', 'place in the batch', subscription({ rateLimit: { perSecond: 1, burst: 1 } }), { phones: [unicom, mobile] }, {}],
  ['WL:CGMT', 'carrier', pool({ carriers: ['unicom'] }), {}, { phones: [unicom] }],
  ['WL:CDQC', 'province', pool({ carriers: ['mobile'], provinces: ['西藏'] }, { carriers: ['unicom'] }), {}, { phones: [unicom] }],
  ['WL:CNH', 'channel', pool({ carriers: ['mobile'], forcedHealth: 'unhealthy' }, { carriers: ['unicom'] }), {}, { phones: [unicom] }],
])('%s by the %s', async (status, _what, policy, stopped, passes) => {
  const customer = await newCustomer();
  expect(await fateOf(customer, stopped), 'before').toBe('queued');
  await policy(customer);
  expect(await fateOf(customer, passes), 'its neighbour').toMatch(/^(queued|planned)$/);
  expect(await fateOf(customer, stopped)).toBe(status);
});

it('WL:CWHM: a number that is none, beside one that is', async () => {
  const customer = await newCustomer();
  expect(await fateOf(customer, { phones: [mobile, '12345'] })).toBe('WL:CWHM');
  expect(await fateOf(customer, { phones: ['12345', mobile] })).toBe('queued');
});

it('WL:CPL: the second of a day, by whichever of an account’s products, where the cap is the signature’s', async () => {
  const customer = await newCustomer();
  await make('caps', { scope: 'signature', subjectId: customer.signatureId, period: '24h', count: 1 });
  expect(await fateOf(customer, {})).toBe('queued');
  expect(await fateOf(customer, {})).toBe('WL:CPL');
  expect(await fateOf(customer, { phones: [unicom] })).toBe('queued');
});

it('WL:CMT: a product whose pool is taken away, and one that keeps it', async () => {
  const [customer, other] = [await newCustomer(), await newCustomer()];
  await product({ poolId: null })(customer);
  expect(await fateOf(customer, {})).toBe('WL:CMT');
  expect(await fateOf(other, {})).toBe('queued');
});

it('a number that breaks three rules gets the first one’s code, and costs nothing', async () => {
  const customer = await newCustomer();
  const balance = async () => (await manage<{ balance: string }>('GET', `subscriptions/${customer.subscriptionId}`)).balance;
  const before = await balance();
  const policies = [
    ['WL:SHLJ', listed('subscription', 'subscriptionId', mobile)],
    ['WL:NMLJ', subscription({ unmatched: 'intercept' })],
    ['WL:MBLJ', template('三重{40}', 'intercept')],
  ] as const;
  for (const [status, policy] of policies) {
    await policy(customer);
    expect(await fateOf(customer, { title: '三重' })).toBe(status);
  }
  expect(await balance()).toBe(before);
});
