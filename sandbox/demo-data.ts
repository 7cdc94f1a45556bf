/**
 * The demo data that the README promises: accounts, products, subscriptions with known credentials, templates and lists. It is seeded
 * once; later changes by a user stay.
 */
import { createAccount, createSubscription, payIn } from '../src/core/catalogue/accounts.ts';
import { addNumbers, ensureBlocklist } from '../src/core/catalogue/blocklists.ts';
import { createCap } from '../src/core/screening/caps.ts';
import { changeChannel, createChannel } from '../src/core/catalogue/channels.ts';
import { createPool } from '../src/core/catalogue/pools.ts';
import { createProduct } from '../src/core/catalogue/products.ts';
import { addWords, createContentTemplate, createWordList, foldWords } from '../src/core/screening/content-rules.ts';
import { change, type Management } from '../src/core/config/management.ts';
import type { Province } from '../src/core/model/configuration.ts';
import { createSignature } from '../src/core/content/signatures.ts';
import { approveTemplate, createPackageTemplate, createTemplate } from '../src/core/content/templates.ts';
import { createToken } from '../src/core/config/tokens.ts';
import type { channelKinds } from '../src/channels/kinds.ts';
import type { ChannelSettings, SimulatorAccount, SimulatorKind } from '../simulators/simulator.ts';
import { brokenPoolId, cappedSignature, listedNumbers, listedWords, mmsProductOf, policiesOf, spIdOf, templateText } from './magic.ts';

const operatorToken = 'sandbox-operator-token';
const password = 'demo-aim-password';

/** A channel to a simulated carrier. Each channel has its own login, so that reports owed to one do not go out over another. */
interface DemoChannel {
  readonly channelId: bigint;
  readonly name: string;
  readonly carriers: readonly ('mobile' | 'unicom' | 'telecom' | 'broadcast' | 'international')[];
  readonly spId: string;
  readonly secret: string;
  readonly accessNumber: string;
  readonly connections: number;
  readonly provinces?: readonly Province[];
  readonly forcedHealth?: 'unhealthy';
}

export interface DemoCarrier {
  readonly name: string;
  readonly protocol: keyof typeof channelKinds;
  /** Options of the simulator, beside those that every simulator has. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Settings of its channels, beside address and login. */
  readonly settings: ChannelSettings;
  /** The first one carries ordinary messages. */
  readonly channels: readonly [DemoChannel, ...DemoChannel[]];
}

/** A demo carrier whose simulator listens on this port. */
export interface RunningCarrier extends DemoCarrier {
  readonly kind: SimulatorKind;
  readonly port: number;
}

/** The account of a channel at its simulator. */
export const accountOf = ({ spId, secret, accessNumber }: DemoChannel): SimulatorAccount => ({
  spId,
  secret,
  accessNumbers: [accessNumber],
});

/** The channels of a pool in which hardly any number gets a channel. */
const brokenChannels: readonly DemoChannel[] = [
  {
    channelId: 4n,
    name: '只通西藏(模拟)',
    carriers: ['unicom'],
    provinces: ['西藏'],
    spId: '900004',
    secret: 'sandbox-ismg-4',
    accessNumber: '10690004',
    connections: 1,
  },
  {
    channelId: 5n,
    name: '故障中(模拟)',
    carriers: ['telecom'],
    forcedHealth: 'unhealthy',
    spId: '900005',
    secret: 'sandbox-ismg-5',
    accessNumber: '10690005',
    connections: 1,
  },
];

const sms = { serviceId: 'HONGYAN', ratePerSecond: 500, window: 16 };

/** The channel that leads to the simulated MMSC. */
export const demoMmsc: DemoChannel = {
  channelId: 3n,
  name: '彩信中心 MM7(模拟)',
  carriers: ['mobile', 'unicom', 'telecom', 'broadcast', 'international'],
  spId: 'hongyan',
  secret: 'sandbox-mmsc',
  accessNumber: '10690003',
  connections: 1,
};

/** Two gateways, so that both versions of the protocol are spoken, and an MMSC. */
export const demoCarriers: readonly DemoCarrier[] = [
  {
    name: '中国移动 CMPP 3.0(模拟)',
    protocol: 'cmpp',
    options: { maxVersion: 3 },
    settings: { ...sms, version: '3.0' },
    channels: [
      {
        channelId: 1n,
        name: '中国移动 CMPP 3.0(模拟)',
        carriers: ['mobile', 'international'],
        spId: '901234',
        secret: 'sandbox-ismg-1',
        accessNumber: '10690001',
        connections: 2,
      },
    ],
  },
  {
    name: '联通、电信、广电 CMPP 2.0(模拟)',
    protocol: 'cmpp',
    options: { maxVersion: 2 },
    settings: { ...sms, version: '2.0' },
    channels: [
      {
        channelId: 2n,
        name: '联通、电信、广电 CMPP 2.0(模拟)',
        carriers: ['unicom', 'telecom', 'broadcast'],
        spId: '905678',
        secret: 'sandbox-ismg-2',
        accessNumber: '10690002',
        connections: 2,
      },
      ...brokenChannels,
    ],
  },
  {
    name: '彩信中心 MM7(模拟)',
    protocol: 'mm7',
    options: { authentication: 'digest' },
    settings: { authentication: 'digest', ratePerSecond: 500, readReply: true },
    channels: [demoMmsc],
  },
];

const accounts = { demo: 1n, locked: 2n, fenced: 3n, other: 4n, rules: 5n };
const products = { aim: 2001n, sms: 2002n, mmsEstate: 1018n, mmsRetail: 1020n };
const signature = '鸿雁';

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
export async function seed(management: Management, carriers: readonly RunningCarrier[]): Promise<void> {
  const { db, directory } = management;
  const [seeded] = await db.sql`select 1 from accounts limit 1`;
  if (!seeded) await change(management, (sql) => seedAll(sql, management, carriers));
  // Seeded separately, so that a sandbox older than MMS, or than the magic for every rule, gets it too.
  if (!directory.product(products.mmsEstate)) await change(management, (sql) => seedMms(sql, management, carriers));
  if (!directory.pool(brokenPoolId)) await change(management, (sql) => seedMagic(sql, management, carriers));
  for (const carrier of carriers)
    for (const channel of carrier.channels) {
      const { settings } = directory.channel(channel.channelId) ?? {};
      const address = Object.entries(carrier.kind.address(carrier.port));
      const leadsHere = address.some(([name]) => isOfThisMachine(settings?.[name]));
      if (!settings || !leadsHere || address.every(([name, value]) => settings[name] === value)) continue;
      const changed = { ...settingsOf(carrier, channel), ...settings, ...Object.fromEntries(address) };
      await change(management, (sql) => changeChannel(sql, management, channel.channelId, { settings: changed }));
    }
}

/** Whether a host, or the host of a URL, is this machine: an operator may have pointed the channel elsewhere. */
const isOfThisMachine = (value: unknown): boolean => typeof value === 'string' && /^(\w+:\/\/)?127\.0\.0\.1(:|$)/.test(value);

type Sql = Parameters<Parameters<typeof change>[1]>[0];

/** The settings of a channel that leads to a carrier. */
const settingsOf = ({ kind, port, settings }: RunningCarrier, channel: DemoChannel): ChannelSettings => ({
  ...kind.address(port),
  ...kind.login(accountOf(channel)),
  ...settings,
});

async function makeChannel(sql: Sql, management: Management, carrier: RunningCarrier, channel: DemoChannel): Promise<void> {
  const { channelId: id, spId: _, ...rest } = channel;
  await createChannel(sql, management, { id, protocol: carrier.protocol, settings: settingsOf(carrier, channel), ...rest });
}

async function seedMms(sql: Sql, management: Management, carriers: readonly RunningCarrier[]): Promise<void> {
  const { directory } = management;
  const at = new Date();
  const mmscs = carriers.filter(({ channels: [channel] }) => channel === demoMmsc);
  for (const mmsc of mmscs) await makeChannel(sql, management, mmsc, demoMmsc);
  const channels = [{ channelId: demoMmsc.channelId, priority: 1, weight: 1 }];
  const pool = await createPool(sql, { id: 2n, name: '模拟彩信中心', channels });
  const mms = [
    { id: products.mmsEstate, name: '营销彩信-房产类', balance: 188_888n },
    { id: products.mmsRetail, name: '营销彩信-商超类', balance: 200_000n },
  ];
  for (const { id, name, balance } of mms) {
    await createProduct(sql, { id, name, medium: 'mms', unit: 'messages', poolId: pool.id, limits: { packageKiB: 1900 } });
    await createSubscription(sql, management, { id: 500_000n + id, accountId: accounts.demo, productId: id, priceE4: 10_000n });
    await payIn(sql, 500_000n + id, { amountE4: balance * 10_000n, note: 'sandbox', at, idempotencyKey: 'sandbox' });
  }
  const frames = [{ text: '周末看房有礼,凭此彩信到店领取。', media: null, mediaFirst: false }];
  const draft = { frames, media: [] };
  await createPackageTemplate(sql, {
    id: 1001n,
    accountId: accounts.demo,
    title: '周末看房',
    purpose: '会员营销',
    signature,
    draft,
    request: null,
    at,
  });
  await approveTemplate(sql, directory.dialects, 1001n, at);
}

async function seedAll(sql: Sql, management: Management, carriers: readonly RunningCarrier[]): Promise<void> {
  const { box, directory } = management;
  const at = new Date();
  await createToken(sql, { name: 'sandbox', caller: { role: 'operator' }, token: operatorToken });

  const gateways = carriers.filter(({ protocol }) => protocol === 'cmpp');
  for (const gateway of gateways) await makeChannel(sql, management, gateway, gateway.channels[0]);
  const channels = gateways.map(({ channels: [{ channelId }] }) => ({ channelId, priority: 1, weight: 1 }));
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
    await createSubscription(sql, management, { id: spId, accountId, productId, spId, password, priceE4: 500n });
    if (amountE4 > 0n) await payIn(sql, spId, { amountE4, note: 'sandbox', at, idempotencyKey: 'sandbox' });
  }

  await createSignature(sql, { accountId: accounts.demo, name: signature });
  const templates: [bigint, bigint, string, unknown][] = [
    [101n, accounts.demo, '优惠券', imageText('优惠券')],
    [102n, accounts.demo, '账单', bill],
    [103n, accounts.demo, '待审核', imageText('新品上市')],
    [104n, accounts.other, '别人的模板', imageText('优惠券')],
  ];
  for (const [id, accountId, name, card] of templates) {
    await createTemplate(sql, { id, accountId, name, card });
    if (id !== 103n) await approveTemplate(sql, directory.dialects, id, at);
  }
}

/** The data needed to meet every status of screening; see magic.ts. */
async function seedMagic(sql: Sql, management: Management, carriers: readonly RunningCarrier[]): Promise<void> {
  const { box } = management;
  const at = new Date();
  await seedLists(sql, at);

  for (const carrier of carriers) for (const channel of carrier.channels.slice(1)) await makeChannel(sql, management, carrier, channel);
  const channels = brokenChannels.map(({ channelId }) => ({ channelId, priority: 1, weight: 1 }));
  // Nothing is ever sent by it, so MMS products may have it, too.
  await createPool(sql, { id: brokenPoolId, name: '残缺的通道池', channels });

  for (const { id, name, product, subscription } of policiesOf('aim')) {
    const spId = spIdOf(id);
    const productId = 2100n + BigInt(id);
    await createProduct(sql, { id: productId, name, medium: 'aim', unit: 'yuan', poolId: 1n, ...product });
    await createSubscription(sql, management, {
      id: spId,
      accountId: accounts.demo,
      productId,
      spId,
      password,
      priceE4: 500n,
      ...subscription,
    });
    await payIn(sql, spId, { amountE4: 1_000_000_000n, note: 'sandbox', at, idempotencyKey: 'sandbox' });
  }
  // A separate account, so that the balances of account demo are those of its two products only.
  await createAccount(sql, box, { id: accounts.rules, name: 'rules', apiId: 'mms-rules', apiKey: 'demo-mms-key' });
  await createSignature(sql, { accountId: accounts.rules, name: signature, registrations: { mobile: 'registered' } });
  for (const { id, name, product, subscription } of policiesOf('mms')) {
    const productId = mmsProductOf(id);
    const subscriptionId = 500_000n + productId;
    const limits = { packageKiB: 1900 };
    await createProduct(sql, { id: productId, name, medium: 'mms', unit: 'messages', poolId: 2n, limits, ...product });
    await createSubscription(sql, management, {
      id: subscriptionId,
      accountId: accounts.rules,
      productId,
      priceE4: 10_000n,
      ...subscription,
    });
    await payIn(sql, subscriptionId, { amountE4: 1_000_000_000n, note: 'sandbox', at, idempotencyKey: 'sandbox' });
  }
}

/** Lists of numbers and words, and the signature with a cap: they stop what they name, and nothing else. */
async function seedLists(sql: Sql, at: Date): Promise<void> {
  const [demo] = await sql<{ id: bigint }[]>`select id from signatures where account_id = ${accounts.demo} and name = ${signature}`;
  const subjects = {
    empty: [0n],
    product: Object.values(products),
    subscription: [500_001n, 501_018n, 501_020n],
    signature: demo ? [demo.id] : [],
  };
  for (const kind of ['empty', 'product', 'subscription', 'signature'] as const)
    for (const subject of subjects[kind]) {
      const list = await ensureBlocklist(sql, kind, subject);
      await addNumbers(sql, list, [BigInt(`86${listedNumbers[kind]}`)], 'operator', at);
    }
  for (const verdict of ['intercept', 'review'] as const) {
    const word = listedWords[verdict];
    const list = await createWordList(sql, { name: word, verdict, enabled: true });
    await addWords(sql, list.id, await foldWords([word], () => word));
  }
  for (const text of [`{200}${templateText}{200}`, `{200}${templateText}`])
    await createContentTemplate(sql, { accountId: null, text, verdict: 'pass', enabled: true, note: 'sandbox' });
  const { id: subjectId } = await createSignature(sql, { accountId: accounts.demo, name: cappedSignature });
  await createCap(sql, { scope: 'signature', subjectId, period: '24h', count: 1 });
}
