/**
 * The whole platform for stories: a database, a simulated carrier gateway in the test's own process (so that it survives kills),
 * customers, and nodes. A node runs inside the test (`startApp`, whose clock a test may set) or as a process (`startNode`, to be killed or
 * stopped). Customers call over HTTP, in the AIM dialect, as their programs would.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import type { AimCredentials, Client, ReportRow } from './customers.ts';
import { type Node, spawnNode, until, untilReady } from './processes.ts';
import { createIsmg, type Ismg, type IsmgOptions } from '../../simulators/cmpp.ts';
import type { PhoneMessage } from '../../simulators/gateway.ts';
import { type App, type AppOptions, createApp } from '../../src/app.ts';
import { kindRules } from '../../src/channels/kinds.ts';
import { createAccount, createSubscription, payIn } from '../../src/core/catalogue/accounts.ts';
import { audit, type Disagreement } from '../../src/core/watch/audit.ts';
import { createChannel } from '../../src/core/catalogue/channels.ts';
import { createPool } from '../../src/core/catalogue/pools.ts';
import { createProduct, type ProductSettings } from '../../src/core/catalogue/products.ts';
import { createDirectory } from '../../src/core/config/directory.ts';
import { change, type Management } from '../../src/core/config/management.ts';
import type { Medium } from '../../src/core/model/configuration.ts';
import { createRetention } from '../../src/core/watch/retention.ts';
import { createSignals } from '../../src/core/config/signals.ts';
import { createSignature } from '../../src/core/content/signatures.ts';
import { approveTemplate, createTemplate } from '../../src/core/content/templates.ts';
import { createDb } from '../../src/db/db.ts';
import { dialects } from '../../src/http/dialects/registry.ts';
import { freePort } from '../../src/db/embedded.ts';
import { createSecretBox, generateKey } from '../../src/std/secret-box.ts';
import { createJanitor } from '../../src/workers/janitor/janitor.ts';
import { checkLogs, keepLog, testLog } from './logs.ts';
import { freshDatabase } from './postgres.ts';

export { type Client, clientOf, type ReplyRow, type ReportRow } from './customers.ts';
export { runCommand, until } from './processes.ts';
export { freePort } from '../../src/db/embedded.ts';

const carrierAccount = { spId: '901234', secret: 'stories', accessNumber: '10690001' };
const linkBase = 'http://links.example/m';
const channelId = 1n;

export interface PlatformOptions {
  /** Instead of a fresh database on the shared server. It must have the schema. */
  readonly databaseUrl?: string;
  readonly carrier?: Omit<IsmgOptions, 'accounts'>;
  readonly connections?: number;
  readonly window?: number;
  readonly ratePerSecond?: number;
}

export interface CustomerOptions extends ProductSettings {
  readonly medium?: Medium;
  readonly balanceE4?: bigint;
  readonly priceE4?: bigint;
  readonly class?: 0 | 1;
  readonly pushUrls?: Readonly<Record<string, string>>;
}

export interface Customer extends AimCredentials {
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly productId: bigint;
  readonly extension: string;
  readonly templateId: bigint;
}

export interface Platform {
  readonly databaseUrl: string;
  /** The test's own view of the same installation. */
  readonly management: Management;
  readonly carrier: Ismg;
  readonly channelId: bigint;
  readonly accessNumber: string;
  /** What phones have received, in order. */
  readonly shown: readonly PhoneMessage[];
  /** An account with one subscription to a product of its own, and an approved template without parameters. */
  customer(options?: CustomerOptions): Promise<Customer>;
  startApp(options?: Partial<AppOptions>): Promise<App>;
  startNode(environment?: Readonly<Record<string, string>>): Promise<Node>;
  /** What a janitor does whose clock says so. */
  expireOverdue(at: Date): Promise<number>;
  /** Every disagreement in the books; empty when all is well. */
  audit(): Promise<Disagreement[]>;
  /** Stops what was started here and has not been stopped. */
  stop(): Promise<void>;
}

export async function startPlatform(options: PlatformOptions = {}): Promise<Platform> {
  const database = options.databaseUrl === undefined ? await freshDatabase() : null;
  const databaseUrl = options.databaseUrl ?? database?.url ?? '';
  const secretKeys = generateKey();
  const db = createDb(databaseUrl);
  const box = createSecretBox(secretKeys);
  const directory = createDirectory({ db, box, dialects });
  await directory.start();
  const management: Management = { db, box, directory, kinds: kindRules };

  const { spId, secret, accessNumber } = carrierAccount;
  const shown: PhoneMessage[] = [];
  const carrier = createIsmg({
    accounts: [{ spId, secret, accessNumbers: [accessNumber], maxConnections: 100 }],
    reportDelayMs: 50,
    slowReportDelayMs: 2000,
    redeliverMs: 100,
    window: 500,
    ...options.carrier,
  });
  carrier.onMessage((message) => shown.push(message));
  await carrier.start();
  await change(management, async (sql) => {
    await createChannel(sql, management, {
      id: channelId,
      name: 'stories',
      protocol: 'cmpp',
      connections: options.connections ?? 2,
      carriers: ['mobile', 'unicom', 'telecom', 'broadcast'],
      accessNumber,
      secret,
      settings: {
        host: '127.0.0.1',
        port: carrier.port,
        spId,
        serviceId: 'STORY',
        ratePerSecond: options.ratePerSecond ?? 100_000,
        window: options.window ?? 32,
      },
    });
    await createPool(sql, { id: 1n, name: 'stories', channels: [{ channelId, priority: 1, weight: 1 }] });
  });

  const apps = new Set<App>();
  const nodes = new Set<Node>();
  let customers = 0;
  return {
    databaseUrl,
    management,
    carrier,
    channelId,
    accessNumber,
    shown,

    async customer({ balanceE4 = 10_000_000_000n, priceE4 = 500n, class: priority = 1, pushUrls = {}, ...product } = {}) {
      const customer = await change(management, async (sql) => {
        const name = `customer ${++customers}`;
        const { account } = await createAccount(sql, box, { name });
        const { id: productId } = await createProduct(sql, { name, medium: 'aim', unit: 'yuan', poolId: 1n, ...product });
        const { subscription, password } = await createSubscription(sql, management, {
          accountId: account.id,
          productId,
          priceE4,
          class: priority,
          pushUrls,
        });
        if (balanceE4 > 0n) await payIn(sql, subscription.id, { amountE4: balanceE4, note: null, at: new Date(), idempotencyKey: null });
        const card = { layout: 'notice', title: '通知', rows: [{ label: '事项', value: '测试' }] };
        await createSignature(sql, { accountId: account.id, name: '鸿雁' });
        const template = await createTemplate(sql, { accountId: account.id, name, card });
        await approveTemplate(sql, dialects, template.id, new Date());
        return {
          accountId: account.id,
          subscriptionId: subscription.id,
          productId,
          extension: subscription.extension,
          templateId: template.id,
          spId: String(subscription.spId),
          password: password ?? '',
        };
      });
      await Promise.all([...apps].map((app) => app.management.directory.refresh()));
      return customer;
    },

    async startApp(changed) {
      const app = await createApp({
        databaseUrl,
        secretKeys,
        linkBase,
        roles: ['api', 'dispatch', 'push', 'janitor'],
        host: '127.0.0.1',
        port: 0,
        server: {},
        metrics: null,
        pushAllow: ['127.0.0.0/8'],
        log: testLog(),
        ...changed,
      });
      const tracked: App = {
        ...app,
        stop: async () => {
          apps.delete(tracked);
          await app.stop();
        },
      };
      apps.add(tracked);
      return tracked;
    },

    async startNode(environment = {}) {
      const node = await startNode({
        HONGYAN_DATABASE_URL: databaseUrl,
        HONGYAN_SECRET_KEY: secretKeys,
        HONGYAN_LINK_BASE: linkBase,
        HONGYAN_PUSH_ALLOW: '127.0.0.0/8',
        ...environment,
      });
      nodes.add(node);
      return node;
    },

    expireOverdue: (at) => expireOverdue(management, at),

    audit: () => audit(db),

    async stop() {
      await Promise.all([...apps].map((app) => app.stop()));
      await Promise.all([...nodes].map((node) => node.kill()));
      await carrier.stop();
      await checkLogs(management, [secretKeys, secret, new URL(databaseUrl).password]);
      await directory.stop();
      await db.end();
      await database?.drop();
    },
  };
}

/** What a janitor does whose clock says so. */
export async function expireOverdue({ db, directory }: Management, at: Date): Promise<number> {
  const clock = () => at;
  const log = pino({ level: 'silent' });
  const signals = createSignals({ db });
  const retention = createRetention({ db, dialects, clock });
  const expired = await createJanitor({ db, directory, retention, signals, log, clock }).expireOverdue();
  await signals.stop();
  return expired;
}

/** `hongyan start` in a process of its own, ready to take requests. */
export async function startNode(environment: Readonly<Record<string, string>>): Promise<Node> {
  const node = spawnNode({ port: await freePort(), environment: { HONGYAN_LOG_LEVEL: 'debug', ...environment } });
  for (const stream of [node.process.stdout, node.process.stderr]) stream?.on('data', (chunk: Buffer) => keepLog(chunk.toString()));
  await untilReady(node, 40_000).catch(async (error: unknown) => {
    await node.kill();
    throw error;
  });
  return node;
}

/** Pulls in the background, as a customer's program does, and keeps every row. */
export interface Puller {
  readonly rows: readonly ReportRow[];
  /** Resolves when no pull is under way; none begins until `goOn`. */
  pause(): Promise<void>;
  goOn(client: Client): void;
  /** Waits until so many rows have come; says how many did if not. */
  waitFor(count: number, timeoutMs?: number): Promise<void>;
  stop(): Promise<void>;
}

export function createPuller(first: Client): Puller {
  const rows: ReportRow[] = [];
  let client: Client | null = first;
  let isStopped = false;
  let pulling: Promise<void> = Promise.resolve();

  const running = (async () => {
    while (!isStopped) {
      const current = client;
      if (current) {
        pulling = current.reports().then(
          (pulled) => void rows.push(...pulled),
          () => {}, // a node that is starting, or that has lost its database, says so; the next pull may have better luck
        );
        await pulling;
      }
      await sleep(20);
    }
  })();

  return {
    rows,
    async pause() {
      client = null;
      await pulling;
    },
    goOn(next) {
      client = next;
    },
    waitFor: (count, timeoutMs = 20_000) =>
      until(`${count} reports are pulled`, () => rows.length >= count, timeoutMs).catch((error: Error) => {
        throw new Error(`${error.message} (${rows.length} came)`);
      }),
    async stop() {
      isStopped = true;
      await running;
    },
  };
}

/** Numbers without a fate of their own: they are all delivered. `seed` keeps sets apart. */
export function plainNumbers(count: number, seed = 0): string[] {
  return Array.from({ length: count }, (_, i) => {
    const n = seed * 100_000 + i;
    return `139${String(Math.floor(n / 1000)).padStart(4, '0')}${5 + (seed % 5)}${String(n % 1000).padStart(3, '0')}`;
  });
}

/** One number of a fate, see the table in simulators/fates.ts. */
export const numberOf = (fate: string, n = 0): string => `138${String(n).padStart(4, '0')}${fate}`;

/** How often each value occurs. */
export function tally(values: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}
