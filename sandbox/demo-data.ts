/**
 * The demo data that the README promises: accounts, products, subscriptions with known credentials, templates and lists. Seeded once;
 * what somebody changes afterwards stays changed.
 */
import { createAccount, createSubscription, payIn } from '../src/core/accounts.ts';
import { addNumbers, ensureBlocklist } from '../src/core/blocklists.ts';
import { changeChannel, createChannel, createPool, createProduct } from '../src/core/catalogue.ts';
import { change, type Management } from '../src/core/management.ts';
import { approveTemplate, createPackageTemplate, createSignature, createTemplate } from '../src/core/templates.ts';
import { createToken } from '../src/core/tokens.ts';

const operatorToken = 'sandbox-operator-token';
const password = 'demo-aim-password';

/** One simulated carrier gateway, and the channel that leads to it. */
export interface DemoCarrier {
  readonly channelId: bigint;
  readonly name: string;
  readonly version: '2.0' | '3.0';
  readonly carriers: readonly ('mobile' | 'unicom' | 'telecom' | 'broadcast' | 'international')[];
  readonly spId: string;
  readonly secret: string;
  readonly accessNumber: string;
}

/** Two gateways, so that both versions of the protocol are spoken. */
export const demoCarriers: readonly DemoCarrier[] = [
  {
    channelId: 1n,
    name: '中国移动 CMPP 3.0(模拟)',
    version: '3.0',
    carriers: ['mobile', 'international'],
    spId: '901234',
    secret: 'sandbox-ismg-1',
    accessNumber: '10690001',
  },
  {
    channelId: 2n,
    name: '联通、电信、广电 CMPP 2.0(模拟)',
    version: '2.0',
    carriers: ['unicom', 'telecom', 'broadcast'],
    spId: '905678',
    secret: 'sandbox-ismg-2',
    accessNumber: '10690002',
  },
];

/** The simulated MMSC, and the channel that leads to it. It posts to us with the same password that we post with. */
export const demoMmsc = {
  channelId: 3n,
  name: '彩信中心 MM7(模拟)',
  vaspId: 'hongyan',
  accessNumber: '10690003',
  username: 'hongyan',
  callbackUsername: 'mmsc',
  secret: 'sandbox-mmsc',
} as const;

const accounts = { demo: 1n, locked: 2n, fenced: 3n, other: 4n };
const products = { aim: 2001n, sms: 2002n, mmsEstate: 1018n, mmsRetail: 1020n };
const connections = 2;

const imageText = (title: string) => ({
  layout: 'image_text',
  title,
  text: '您有一张满 100 减 20 的优惠券,本周内有效。',
  buttons: [
    { label: '立即领取', action: 'url', value: 'https://example.com/coupon' },
    { label: '联系客服', action: 'tel', value: '4000000000' },
  ],
});

const bill = {
  layout: 'notice',
  title: '账单通知',
  rows: [
    { label: '姓名', value: '${name}' },
    { label: '金额', value: '${amount}' },
  ],
  buttons: [{ label: '查看账单', action: 'url', value: 'https://example.com/bill' }],
};

/** Seeds an empty installation, and points the channels at the ports that the simulated carriers have got this time. */
export async function seed(management: Management, portOf: (carrier: DemoCarrier) => number, mmscUrl: string): Promise<void> {
  const { db, box, directory } = management;
  const [seeded] = await db.sql`select 1 from accounts limit 1`;
  if (!seeded) await change(management, (sql) => seedAll(sql, box, portOf));
  // Apart, so that a sandbox of before there was MMS gets it too.
  if (!directory.product(products.mmsEstate)) await change(management, (sql) => seedMms(sql, box, mmscUrl));
  for (const carrier of demoCarriers) {
    const channel = directory.channel(carrier.channelId);
    const { host, port } = channel?.settings ?? {};
    if (!channel || host !== '127.0.0.1' || port === portOf(carrier)) continue;
    const settings = { ...settingsOf(carrier, 0), ...channel.settings, port: portOf(carrier) };
    await change(management, (sql) => changeChannel(sql, box, carrier.channelId, { settings }));
  }
  const mms = directory.channel(demoMmsc.channelId);
  const url = mms?.settings.url;
  if (mms && typeof url === 'string' && url !== mmscUrl && url.startsWith('http://127.0.0.1:'))
    await change(management, (sql) =>
      changeChannel(sql, box, demoMmsc.channelId, { settings: { ...mmscSettings(mmscUrl), ...mms.settings, url: mmscUrl } }),
    );
}

const mmscSettings = (url: string) => ({
  url,
  vaspId: demoMmsc.vaspId,
  vasId: demoMmsc.accessNumber,
  username: demoMmsc.username,
  authentication: 'digest' as const,
  ratePerSecond: 500,
  readReply: true,
  callbackUsername: demoMmsc.callbackUsername,
});

async function seedMms(sql: Sql, box: Management['box'], mmscUrl: string): Promise<void> {
  const at = new Date();
  const { channelId, name, accessNumber, secret } = demoMmsc;
  const carriers = ['mobile', 'unicom', 'telecom', 'broadcast', 'international'] as const;
  const settings = mmscSettings(mmscUrl);
  await createChannel(sql, box, { id: channelId, name, protocol: 'mm7', connections: 1, carriers, accessNumber, settings, secret });
  const pool = await createPool(sql, { id: 2n, name: '模拟彩信中心', channels: [{ channelId, priority: 1, weight: 1 }] });
  const mms = [
    { id: products.mmsEstate, name: '营销彩信-房产类', balance: 188_888n },
    { id: products.mmsRetail, name: '营销彩信-商超类', balance: 200_000n },
  ];
  for (const { id, name, balance } of mms) {
    await createProduct(sql, { id, name, medium: 'mms', unit: 'messages', poolId: pool.id, limits: { packageKiB: 1900 } });
    await createSubscription(sql, box, { id: 500_000n + id, accountId: accounts.demo, productId: id, priceE4: 10_000n });
    await payIn(sql, 500_000n + id, { amountE4: balance * 10_000n, note: 'sandbox', at, idempotencyKey: 'sandbox' });
    await addNumbers(sql, await ensureBlocklist(sql, 'product', id), [8613800000022n], 'operator', at);
  }
  const frames = [{ text: '周末看房有礼,凭此彩信到店领取。', media: null, mediaFirst: false }];
  const draft = { frames, media: [] };
  await createPackageTemplate(sql, {
    id: 1001n,
    accountId: accounts.demo,
    title: '周末看房',
    purpose: '会员营销',
    signature: '鸿雁',
    draft,
    request: null,
    at,
  });
  await approveTemplate(sql, 1001n, at);
}

const settingsOf = ({ spId, version }: DemoCarrier, port: number) => ({
  host: '127.0.0.1',
  port,
  spId,
  version,
  serviceId: 'HONGYAN',
  ratePerSecond: 500,
  window: 16,
});

type Sql = Parameters<Parameters<typeof change>[1]>[0];

async function seedAll(sql: Sql, box: Management['box'], portOf: (carrier: DemoCarrier) => number): Promise<void> {
  const at = new Date();
  await createToken(sql, { name: 'sandbox', caller: { role: 'operator' }, token: operatorToken });

  for (const carrier of demoCarriers) {
    const { channelId, name, carriers, accessNumber, secret } = carrier;
    const settings = settingsOf(carrier, portOf(carrier));
    await createChannel(sql, box, { id: channelId, name, protocol: 'cmpp', connections, carriers, accessNumber, settings, secret });
  }
  const channels = demoCarriers.map(({ channelId }) => ({ channelId, priority: 1, weight: 1 }));
  const pool = await createPool(sql, { id: 1n, name: '模拟运营商', channels });
  await createProduct(sql, { id: products.aim, name: '智能短信', medium: 'aim', unit: 'yuan', poolId: pool.id });
  await createProduct(sql, { id: products.sms, name: '普通短信', medium: 'sms', unit: 'yuan', poolId: pool.id });

  await createAccount(sql, box, { id: accounts.demo, name: 'demo', apiId: 'mms-demo', apiKey: 'demo-mms-key' });
  await createAccount(sql, box, { id: accounts.locked, name: 'locked', locked: true });
  await createAccount(sql, box, { id: accounts.fenced, name: 'fenced', ipAllowList: ['203.0.113.7'] });
  await createAccount(sql, box, { id: accounts.other, name: 'other' });
  const subscriptions: [bigint, bigint, bigint, bigint][] = [
    [500001n, accounts.demo, products.aim, 1_000_000_000n],
    [500002n, accounts.demo, products.sms, 0n],
    [500003n, accounts.locked, products.aim, 1_000_000_000n],
    [500004n, accounts.demo, products.aim, 0n],
    [500005n, accounts.fenced, products.aim, 1_000_000_000n],
  ];
  for (const [spId, accountId, productId, amountE4] of subscriptions) {
    await createSubscription(sql, box, { id: spId, accountId, productId, spId, password, priceE4: 500n });
    if (amountE4 > 0n) await payIn(sql, spId, { amountE4, note: 'sandbox', at, idempotencyKey: 'sandbox' });
  }

  const signature = await createSignature(sql, { accountId: accounts.demo, name: '鸿雁' });
  const templates: [bigint, bigint, string, unknown][] = [
    [101n, accounts.demo, '优惠券', imageText('优惠券')],
    [102n, accounts.demo, '账单', bill],
    [103n, accounts.demo, '待审核', imageText('新品上市')],
    [104n, accounts.other, '别人的模板', imageText('优惠券')],
  ];
  for (const [id, accountId, name, card] of templates) {
    await createTemplate(sql, { id, accountId, name, card });
    if (id !== 103n) await approveTemplate(sql, id, at);
  }

  const lists = [
    ['empty', 0n, 8613800000021n],
    ['product', products.aim, 8613800000022n],
    ['product', products.sms, 8613800000022n],
    ['subscription', 500001n, 8613800000023n],
    ['signature', signature.id, 8613800000024n],
  ] as const;
  for (const [kind, subject, phone] of lists) await addNumbers(sql, await ensureBlocklist(sql, kind, subject), [phone], 'operator', at);
}
