/** Multimedia messages from a customer's JSON to phones over MM7 and back as pushes, even when the node is killed on the way. */
import { afterEach, expect, it } from 'vitest';
import { callMms } from '../kit/customers.ts';
import { createMmsc } from '../../simulators/mm7.ts';
import type { PhoneMms } from '../../simulators/simulator.ts';
import { changeAccount, createAccount, createSubscription, payIn } from '../../src/core/catalogue/accounts.ts';
import { createChannel } from '../../src/core/catalogue/channels.ts';
import { createPool } from '../../src/core/catalogue/pools.ts';
import { createProduct } from '../../src/core/catalogue/products.ts';
import { change } from '../../src/core/config/management.ts';
import { changeSettings } from '../../src/core/config/settings.ts';
import { createSignature } from '../../src/core/content/signatures.ts';
import { picture } from '../kit/media.ts';
import { startPushServer } from '../kit/mms-platform.ts';
import type { Node } from '../kit/processes.ts';
import { freePort, plainNumbers, startPlatform, until } from '../kit/platform.ts';
import { startTestSandbox } from '../kit/sandbox.ts';

const toClose: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const close of toClose.splice(0).toReversed()) await close();
});

/** One pixel. */
const png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const content = [
  [
    { con_type: 'text', ext_type: 'txt', data: '周末开盘' },
    { con_type: 'image', ext_type: 'png', data: png },
  ],
  [{ con_type: 'text', ext_type: 'txt', data: '到店有礼' }],
];

const demo = { apiId: 'mms-demo', apiKey: 'demo-mms-key' };

it('in the sandbox a package reaches phones as it was written, and reports and replies are pushed until they are taken', async () => {
  const sandbox = await startTestSandbox({ pushAllow: ['127.0.0.0/8'], reportDelayMs: 50 });
  toClose.push(sandbox.stop);
  const { base } = sandbox;
  const customer = await startPushServer();
  toClose.push(customer.close);
  const { management } = sandbox.app;
  const pushUrls = { report: `${customer.url}/success`, reply: `${customer.url}/success` };
  await change(management, (sql) => changeAccount(sql, 1n, { pushUrls }));

  const phone = ['13800000000', '13800000001', '13800000012', '13800000021'];
  const sent = await callMms(sandbox, demo, 'batchSend', { product_id: 1018, phone, sign_name: '鸿雁', title: '开盘通知', content });
  expect(sent).toMatchObject({ code: 'OK', task_id: expect.stringMatching(/^\d+$/) as string });

  await until('four reports and a reply are pushed', () => customer.received.length >= 5);
  const reports = customer.received.filter(({ body }) => 'report_time' in body).map(({ body }) => [body.phone, body.code, body.task_id]);
  expect(reports.sort((a, b) => String(a[0]).localeCompare(String(b[0])))).toEqual(
    [
      ['13800000000', 'DELIVERED'],
      ['13800000001', 'UNDELIV'],
      ['13800000012', 'DELIVERED'],
      ['13800000021', 'WL:KHLJ'],
    ].map((row) => [...row, sent.task_id]),
  );
  expect(customer.received.find(({ body }) => 'receive_time' in body)?.body).toMatchObject({
    phone: '13800000012',
    content: '你好,|世界',
    task_id: sent.task_id,
  });

  const shown = (await (await fetch(`${base}/sandbox/v1/messages?to=13800000000`)).json()) as {
    data: { subject: string; frames: { text: string; media: { url: string } | null }[] }[];
  };
  expect(shown.data).toMatchObject([
    {
      subject: '开盘通知',
      frames: [
        { text: '【鸿雁】周末开盘', media: { type: 'image/png' } },
        { text: '到店有礼', media: null },
      ],
    },
  ]);
  const shownPicture = await fetch(`${base}${shown.data[0]?.frames[0]?.media?.url ?? ''}`);
  expect(Buffer.from(await shownPicture.arrayBuffer()).toString('base64')).toBe(png);

  const operator = { headers: { authorization: 'Bearer sandbox-operator-token' } };
  const timelineOf = async (phone: string): Promise<string[]> => {
    const { data } = (await (await fetch(`${base}/v1/messages?accountId=1&phone=${phone}`, operator)).json()) as {
      data: { id: string }[];
    };
    const url = `${base}/v1/messages/${data[0]?.id}`;
    const { timeline } = (await (await fetch(url, operator)).json()) as { timeline: { what: string; detail: string }[] };
    return timeline.map(({ what, detail }) => `${what} ${detail}`);
  };
  await until('it is known who has read it', async () => (await timelineOf('13800000000')).includes('read Read'));
  expect(await timelineOf('13800000001')).not.toContain('read Read');

  const { data } = await callMms(sandbox, demo, 'balance');
  expect(data).toContainEqual(expect.objectContaining({ product_id: 1018, balance: 188_886 }));
});

const balance = 10_000n;

/** The platform with a multimedia centre, and a customer with a balance whose reports are pushed to its server. */
async function startMmsPlatform() {
  const platform = await startPlatform();
  toClose.push(platform.stop);
  const { management } = platform;
  const phones: PhoneMms[] = [];
  const mmsc = createMmsc({ vaspId: 'hongyan', accessNumber: '10690009', vaspUsername: 'mmsc', vaspPassword: 'secret', reportDelayMs: 20 });
  mmsc.onMessage((message) => phones.push(message));
  await mmsc.start();
  toClose.push(() => mmsc.stop());
  const customer = await startPushServer();
  toClose.push(customer.close);
  await change(management, async (sql) => {
    const { box } = management;
    await changeSettings(sql, { pushDelaysSeconds: [0.5, 0.5] });
    await createChannel(sql, management, {
      id: 9n,
      name: 'mms',
      protocol: 'mm7',
      connections: 2,
      carriers: ['mobile'],
      accessNumber: '10690009',
      secret: 'secret',
      settings: { url: mmsc.url, vaspId: 'hongyan', vasId: '10690009', ratePerSecond: 3000, callbackUsername: 'mmsc' },
    });
    const pool = await createPool(sql, { name: 'mms', channels: [{ channelId: 9n, priority: 1, weight: 1 }] });
    await createProduct(sql, { id: 1018n, name: '彩信', medium: 'mms', unit: 'messages', poolId: pool.id });
    const pushUrls = { report: `${customer.url}/success` };
    await createAccount(sql, box, { id: 900n, name: 'mms', apiId: 'mms-demo', apiKey: 'demo-mms-key', pushUrls });
    await createSignature(sql, { accountId: 900n, name: '鸿雁' });
    await createSubscription(sql, management, { id: 900n, accountId: 900n, productId: 1018n, priceE4: 10_000n });
    await payIn(sql, 900n, { amountE4: balance * 10_000n, note: null, at: new Date(), idempotencyKey: null });
  });
  /** A node, where the centre's reports go from now on. */
  async function startNode(environment: Readonly<Record<string, string>> = {}): Promise<Node> {
    const node = await platform.startNode({ HONGYAN_PUSH_ALLOW: '127.0.0.0/8', ...environment });
    mmsc.vaspUrl = `http://127.0.0.1:${node.port}/mm7/9`;
    return node;
  }
  const ends = (): Map<string, unknown> => new Map(customer.received.map(({ body }) => [String(body.phone), body.code]));
  return { ...platform, mmsc, phones, ends, startNode };
}

it('kill -9 in the middle of 5,000: each number has one end, nobody gets it twice, and what is in doubt is given up and given back', async () => {
  const platform = await startMmsPlatform();
  const { management, phones, ends } = platform;
  let node = await platform.startNode();
  const numbers = plainNumbers(5000);
  await callMms(node, demo, 'batchSend', {
    product_id: 1018,
    phone: numbers,
    sign_name: '鸿雁',
    title: '通知',
    content,
  });
  await until('a part has been sent', () => phones.length >= 1000);
  await node.kill();
  expect(phones.length).toBeLessThan(5000);
  // What the killed node was pushing is looked at again when its minute is over; here it is over at once.
  await management.db.sql`update parcels set lease_until = now() - interval '1 second' where lease_until is not null`;
  node = await platform.startNode();
  await until('every number has been reported', () => ends().size === 5000, 40_000);
  const codes = [...ends().values()];
  const unknown = codes.filter((code) => code === 'UNKNOWN').length;
  expect(codes.filter((code) => code === 'DELIVERED')).toHaveLength(5000 - unknown);
  expect(unknown).toBeLessThanOrEqual(2 * 128);
  expect(new Set(phones.map(({ to }) => to)).size).toBe(phones.length);
  const { data } = await callMms(node, demo, 'balance');
  expect(data).toMatchObject([{ balance: Number(balance) - (5000 - unknown) }]);
  await until('the books agree', async () => (await platform.audit()).length === 0);
}, 90_000);

it('10,000 numbers with a package of 1.9 MB: a hundred uploads, within 400 MB above idle', async () => {
  const platform = await startMmsPlatform();
  const { mmsc, ends } = platform;
  const metrics = `127.0.0.1:${await freePort()}`;
  const node = await platform.startNode({ HONGYAN_METRICS_ADDRESS: metrics });
  const residentMiB = async (): Promise<number> => {
    const text = await (await fetch(`http://${metrics}/metrics`)).text();
    return Number(/^process_resident_memory_bytes (\S+)$/m.exec(text)?.[1]) / 2 ** 20;
  };
  const idle = await residentMiB();
  // Noise does not compress: 800 x 800 pixels of it are 1.9 million octets.
  const film = (await picture('png', 800, 800)).toString('base64');
  expect(film.length * 0.75).toBeGreaterThan(1_900_000);
  const big = [[{ con_type: 'image', ext_type: 'png', data: film }]];
  const numbers = plainNumbers(10_000);
  await callMms(node, demo, 'batchSend', {
    product_id: 1018,
    phone: numbers,
    sign_name: '鸿雁',
    title: '通知',
    content: big,
  });
  let peak = 0;
  await until(
    'every number has been reported',
    async () => {
      peak = Math.max(peak, await residentMiB());
      return ends().size === 10_000;
    },
    60_000,
  );
  expect(new Set(ends().values())).toEqual(new Set(['DELIVERED']));
  expect(mmsc.counters.uploads).toBeLessThanOrEqual(10_000 / 100);
  expect(peak - idle).toBeLessThan(400);
}, 90_000);
