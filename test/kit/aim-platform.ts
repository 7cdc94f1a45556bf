/**
 * A platform with a few customers, for tests of the HTTP API that customers and phones use: the real application on its own database and
 * port, without carriers. `deliver` and `reply` stand in for the carrier, through the same core functions.
 *
 * The customers are those of the sandbox, as far as these tests need them.
 */
import { createHmac } from 'node:crypto';
import { type App, type AppOptions, createApp } from '../../src/app.ts';
import { createAccount, createSubscription, payIn } from '../../src/core/catalogue/accounts.ts';
import { addNumbers, ensureBlocklist } from '../../src/core/catalogue/blocklists.ts';
import { createChannel } from '../../src/core/catalogue/channels.ts';
import { createPool } from '../../src/core/catalogue/pools.ts';
import { createProduct } from '../../src/core/catalogue/products.ts';
import { createInbound } from '../../src/core/outcome/inbound.ts';
import { change, type Management } from '../../src/core/config/management.ts';
import { createDb } from '../../src/db/db.ts';
import { record } from '../../src/core/outcome/messages.ts';
import { chunksOfBatch, messageIdOf } from '../../src/core/model/ids.ts';
import { messageStatus } from '../../src/core/model/statuses.ts';
import { createReports } from '../../src/core/outcome/reports.ts';
import { createSignature } from '../../src/core/content/signatures.ts';
import { approveTemplate, createTemplate } from '../../src/core/content/templates.ts';
import { generateKey } from '../../src/std/secret-box.ts';
import { checkLogs, testLog } from './logs.ts';
import { freshDatabase } from './postgres.ts';

const demoPassword = 'demo-aim-password';
/** md5 of it. */
export const demoPasswordHash = 'e9fc3f64a01b954d0cfc5cb6fa554e0e';
/** Of the channel that `seed` makes. */
const seededChannel = 1n;

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The text as JSON; empty if it is none. */
  readonly json: { readonly [key: string]: unknown };
}

export interface Platform {
  readonly app: App;
  readonly port: number;
  readonly linkBase: string;
  readonly databaseUrl: string;
  /** For other nodes on the same database. */
  readonly secretKeys: string;
  /** The business clock. */
  clock(): Date;
  call(path: string, init?: RequestInit): Promise<Answer>;
  /** A form sent to an AIM endpoint, with the password of sp_id 500001 unless it brings other credentials. */
  aim(endpoint: string, form?: Record<string, string>, init?: RequestInit): Promise<Answer>;
  /** Lets the business clock run ahead. */
  advance(ms: number): void;
  /** What a carrier does with the messages of a batch: takes them, then reports this code for all. */
  deliver(batchId: bigint, code?: string): Promise<void>;
  /** What a person writes back. */
  reply(from: string, content: string, ext?: string): Promise<void>;
  /** The same to any extension after the access number. */
  replyTo(from: string, content: string, extension: string): Promise<void>;
  stop(): Promise<void>;
}

export interface AimPlatformOptions extends Partial<AppOptions> {
  /** How far the business clock runs ahead from the beginning, in milliseconds. */
  readonly ahead?: number;
  /** The channel through which messages and replies go, for a test that makes its own. */
  readonly channelId?: bigint;
}

export async function startAimPlatform({ ahead = 0, channelId = seededChannel, ...options }: AimPlatformOptions = {}): Promise<Platform> {
  const database = await freshDatabase();
  const clock = () => new Date(Date.now() + ahead);
  const linkBase = 'http://links.example/m';
  const secretKeys = generateKey();
  const app = await createApp({
    databaseUrl: database.url,
    secretKeys,
    linkBase,
    roles: ['api'],
    host: '127.0.0.1',
    port: 0,
    // The tests are their own proxy, so that they can call from anywhere.
    server: { trustedProxies: ['127.0.0.1'] },
    metrics: null,
    pushAllow: [],
    log: testLog(),
    clock,
    prepare: (management) => seed(management, clock),
    ...options,
  });
  const { db, directory } = app.management;

  async function call(path: string, init?: RequestInit): Promise<Answer> {
    const response = await fetch(`http://127.0.0.1:${app.port}${path}`, { redirect: 'manual', ...init });
    const text = await response.text();
    let json: Answer['json'] = {};
    try {
      json = JSON.parse(text);
    } catch {
      // A page, or nothing.
    }
    return { status: response.status, headers: response.headers, text, json };
  }

  let inbound = 0;
  async function replyTo(from: string, content: string, extension: string): Promise<void> {
    await createInbound({ db, directory, clock }).receive({
      channelId,
      carrierId: `inbound-${++inbound}`,
      from,
      to: `10690000${extension}`,
      concat: null,
      encoding: 'ucs2',
      octets: Buffer.from(content, 'utf16le').swap16(),
    });
  }
  return {
    app,
    port: app.port,
    linkBase,
    databaseUrl: database.url,
    secretKeys,
    clock,
    call,
    aim(endpoint, form = {}, init = {}) {
      const credential: Record<string, string> = 'signature' in form || 'password' in form ? {} : { password: demoPasswordHash };
      return call(`/api/${endpoint}`, { method: 'POST', body: new URLSearchParams({ sp_id: '500001', ...credential, ...form }), ...init });
    },
    advance(ms) {
      ahead += ms;
    },
    async deliver(batchId, code = 'DELIVRD') {
      const chunks = await db.sql<
        {
          id: bigint;
          accountId: bigint;
          subscriptionId: bigint;
          day: string;
          priceE4: bigint;
          phones: bigint[];
          forms: (string | null)[] | null;
        }[]
      >`
        select id, account_id as "accountId", subscription_id as "subscriptionId", day, price_e4 as "priceE4", phones, forms
        from chunks where id ${chunksOfBatch(db.sql, batchId)} and not intercepted`;
      const outcomes = chunks.flatMap(({ phones, forms, ...chunk }) =>
        phones.map((phone, index) => {
          const id = messageIdOf(chunk.id, index);
          return {
            id,
            common: { ...chunk, segments: 1 },
            phone,
            form: forms?.[index] ?? null,
            channelId,
            carrierId: String(id),
            status: messageStatus.sent,
            code: null,
            paid: false,
            parts: [],
          };
        }),
      );
      await db.transaction((sql) => record(sql, directory, outcomes, clock(), false));
      await createReports({ db, directory, clock }).receive(
        outcomes.map(({ carrierId, phone }) => ({
          channelId,
          carrierId,
          code,
          delivered: code === 'DELIVRD',
          phone: String(phone),
          sent: null,
        })),
      );
    },
    reply: (from, content, ext = '') => replyTo(from, content, `01${ext}`),
    replyTo,
    async stop() {
      const { box } = app.management;
      await app.stop();
      const db = createDb(database.url, { max: 1 });
      await checkLogs({ db, box }, [secretKeys, demoPassword, demoPasswordHash, new URL(database.url).password]);
      await db.end();
      await database.drop();
    },
  };
}

const encode = (text: string): string =>
  new URLSearchParams({ '': text }).toString().slice(1).replace(/\+/g, '%20').replace(/\*/g, '%2A').replace(/%7E/g, '~');

/** The signature of a request, as the vendor's document computes it; written apart from the code under test. */
export function sign(method: string, parameters: Readonly<Record<string, string>>): string {
  const query = Object.keys(parameters)
    .sort()
    .map((key) => `${encode(key)}=${encode(parameters[key] ?? '')}`)
    .join('&');
  return createHmac('sha1', demoPassword).update(`${method}&%2F&${query}`).digest('base64');
}

async function seed(management: Management, clock: () => Date): Promise<void> {
  const { box } = management;
  await change(management, async (sql) => {
    const settings = { host: '127.0.0.1', port: 1, spId: '900001', serviceId: 'HY', ratePerSecond: 1000 };
    await createChannel(sql, management, {
      id: seededChannel,
      protocol: 'cmpp',
      name: 'nowhere',
      carriers: ['mobile', 'unicom', 'telecom'],
      accessNumber: '10690000',
      settings,
      secret: 'x',
    });
    await createPool(sql, { id: 1n, name: 'pool', channels: [{ channelId: seededChannel, priority: 1, weight: 1 }] });
    await createProduct(sql, { id: 3001n, name: '智能短信', medium: 'aim', unit: 'yuan', poolId: 1n });
    await createProduct(sql, { id: 3002n, name: '普通短信', medium: 'sms', unit: 'yuan', poolId: 1n });
    for (const [id, name, settings] of [
      [1n, 'demo', {}],
      [2n, 'locked', { locked: true }],
      [3n, 'fenced', { ipAllowList: ['203.0.113.7', '2001:db8::/32'] }],
      [4n, 'other', {}],
    ] as const)
      await createAccount(sql, box, { id, name, ...settings });
    for (const [spId, accountId, productId, balance, extension, enabled] of [
      [500001n, 1n, 3001n, 100_000n, '01', true],
      [500002n, 1n, 3002n, 100n, '02', true],
      [500003n, 2n, 3001n, 100n, '03', true],
      [500004n, 1n, 3001n, 0n, '04', true],
      [500005n, 3n, 3001n, 100n, '05', true],
      [500006n, 1n, 3001n, 100n, '06', false],
    ] as const) {
      await createSubscription(sql, management, {
        id: spId,
        accountId,
        productId,
        spId,
        password: demoPassword,
        priceE4: 500n,
        extension,
        enabled,
      });
      if (balance > 0n) await payIn(sql, spId, { amountE4: balance * 10_000n, note: null, at: clock(), idempotencyKey: null });
    }
    await createSignature(sql, { accountId: 1n, name: '鸿雁' });
    const plain = {
      layout: 'image_text',
      title: '优惠券',
      text: '满 100 减 20',
      media: [{ type: 'image', url: 'https://img.example/coupon.png' }],
    };
    const bill = {
      layout: 'notice',
      title: '${name}，您的账单',
      rows: [{ label: '金额', value: '${amount}' }],
      buttons: [
        { label: '查看', action: 'url', value: 'https://bill.example/?who=${name}' },
        { label: '致电', action: 'tel', value: '400-123-4567' },
        { label: '复制', action: 'copy', value: '${amount}' },
      ],
    };
    const templates: [bigint, bigint, object, object?][] = [
      [101n, 1n, plain],
      [102n, 1n, bill],
      [103n, 1n, plain],
      [104n, 4n, plain],
      [105n, 1n, plain, { validUntil: new Date(clock().getTime() - 1000) }],
      [106n, 1n, plain, { validUntil: new Date(clock().getTime() + 3600_000) }],
    ];
    for (const [id, accountId, card, more] of templates) {
      await createTemplate(sql, { id, accountId, name: `模板 ${id}`, card, ...more });
      if (id !== 103n) await approveTemplate(sql, management.directory.dialects, id, clock());
    }
    const now = clock();
    await addNumbers(sql, await ensureBlocklist(sql, 'empty', 0n), [8613800000021n], 'operator', now);
    await addNumbers(sql, await ensureBlocklist(sql, 'subscription', 500001n), [8613800000023n], 'operator', now);
  });
}
