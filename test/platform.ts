/**
 * The whole platform for stories: a database, a simulated carrier gateway in the test's own process (so that it survives what is
 * killed), customers, and nodes, either inside the test (`startApp`, whose clock a test may set) or as processes of their own
 * (`startNode`, to be killed or stopped). Customers are spoken for over HTTP, in the AIM dialect, as their programs would.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { createIsmg, type Ismg, type IsmgOptions, type PhoneMessage } from '../simulators/ismg.ts';
import { type App, type AppOptions, createApp } from '../src/app.ts';
import { createAccount, createSubscription, payIn } from '../src/core/accounts.ts';
import { audit, type Disagreement } from '../src/core/audit.ts';
import { createChannel, createPool, createProduct, type ProductSettings } from '../src/core/catalogue.ts';
import { createDirectory } from '../src/core/directory.ts';
import { change, type Management } from '../src/core/management.ts';
import { createRetention } from '../src/core/retention.ts';
import { createSignals } from '../src/core/signals.ts';
import { approveTemplate, createTemplate } from '../src/core/templates.ts';
import { createDb } from '../src/db/db.ts';
import { createSecretBox, generateKey } from '../src/std/secret-box.ts';
import { createJanitor } from '../src/workers/janitor.ts';
import { checkLogs, keepLog, testLog } from './logs.ts';
import { freshDatabase } from './postgres.ts';

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
  readonly balanceE4?: bigint;
  readonly priceE4?: bigint;
  readonly class?: 0 | 1;
  readonly pushUrls?: Readonly<Record<string, string>>;
}

export interface Customer {
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly productId: bigint;
  readonly extension: string;
  readonly templateId: bigint;
  readonly spId: string;
  readonly password: string;
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
  const directory = createDirectory({ db, box });
  await directory.start();
  const management: Management = { db, box, directory };

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
    await createChannel(sql, box, {
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
        const { subscription, password } = await createSubscription(sql, box, {
          accountId: account.id,
          productId,
          priceE4,
          class: priority,
          pushUrls,
        });
        if (balanceE4 > 0n) await payIn(sql, subscription.id, { amountE4: balanceE4, note: null, at: new Date(), idempotencyKey: null });
        const card = { layout: 'notice', title: '通知', rows: [{ label: '事项', value: '测试' }] };
        const template = await createTemplate(sql, { accountId: account.id, name, card });
        await approveTemplate(sql, template.id, new Date());
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

    async expireOverdue(at) {
      const clock = () => at;
      const log = pino({ level: 'silent' });
      const signals = createSignals({ db });
      const retention = createRetention({ db, clock });
      const expired = await createJanitor({ db, directory, retention, signals, log, clock }).expireOverdue();
      await signals.stop();
      return expired;
    },

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

// ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `hongyan start` in a process of its own. */
export interface Node {
  readonly port: number;
  readonly process: ChildProcess;
  /** What it has written to its log, for the message of a test that fails. */
  log(): string;
  /** SIGKILL: nothing of it runs any more when this resolves. */
  kill(): Promise<void>;
  /** SIGTERM, and waits for the end. */
  stop(): Promise<void>;
}

const program = fileURLToPath(new URL('../bin/hongyan.js', import.meta.url));

/** Runs a command of the program to its end. */
export async function runCommand(args: readonly string[], environment: Readonly<Record<string, string>>) {
  const child = spawn(process.execPath, [program, ...args], { env: { ...process.env, ...environment } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await ended(child);
  return { exitCode: child.exitCode, output };
}

export async function startNode(environment: Readonly<Record<string, string>>): Promise<Node> {
  const port = await freePort();
  const child = spawn(process.execPath, [program, 'start'], {
    env: {
      ...process.env,
      HONGYAN_PORT: String(port),
      HONGYAN_HOST: '127.0.0.1',
      HONGYAN_PUBLIC_URL: `http://127.0.0.1:${port}`,
      HONGYAN_METRICS_ADDRESS: 'off',
      HONGYAN_LOG_LEVEL: 'debug',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      log += chunk.toString();
      keepLog(chunk.toString());
    });
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    await ended(child);
  };
  const node: Node = { port, process: child, log: () => log, kill: () => end('SIGKILL'), stop: () => end('SIGTERM') };
  await until('the node is ready', async () => {
    if (child.exitCode !== null) throw new Error(`the node ended by itself:\n${log}`);
    return (await fetch(`http://127.0.0.1:${port}/healthz`).catch(() => null))?.ok ?? false;
  });
  return node;
}

const ended = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    else child.once('exit', () => resolve());
  });

export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Waits until something is so; fails with its name when it takes too long. */
export async function until(what: string, check: () => boolean | Promise<boolean>, timeoutMs = 15_000): Promise<void> {
  for (const last = Date.now() + timeoutMs; ; ) {
    if (await check()) return;
    if (Date.now() > last) throw new Error(`in vain for ${timeoutMs} ms: ${what}`);
    await sleep(20);
  }
}

// ── customers' programs ──────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface ReportRow {
  readonly ext: string;
  readonly msgId: string;
  readonly mobile: string;
  readonly status: string;
  readonly time: string;
  readonly price: string;
}

export interface ReplyRow {
  readonly content: string;
  readonly mobile: string;
  readonly msgId: string;
  readonly ext: string;
}

export interface Submitted {
  readonly code: number;
  readonly msg: string;
  readonly msgId: string;
  readonly failed: Readonly<Record<string, string>>;
}

export interface Client {
  submit(phones: readonly string[], more?: { content?: string; ext?: string; key?: string }): Promise<Submitted>;
  /** One pull. */
  reports(): Promise<ReportRow[]>;
  replies(): Promise<ReplyRow[]>;
  /** In ten-thousandths of a yuan. */
  balanceE4(): Promise<bigint>;
}

/** A customer's program, speaking to one node. */
export function clientOf({ port }: { readonly port: number }, { spId, password, templateId }: Customer): Client {
  const credentials = { sp_id: spId, password: createHash('md5').update(password).digest('hex') };
  async function call(endpoint: string, form: Record<string, string> = {}, headers: Record<string, string> = {}) {
    const body = new URLSearchParams({ ...credentials, ...form });
    const response = await fetch(`http://127.0.0.1:${port}/api/${endpoint}`, { method: 'POST', body, headers });
    return (await response.json()) as { code: number; msg: string; msg_id?: string; failed_data?: Submitted['failed']; data?: unknown };
  }
  async function pull(endpoint: string): Promise<string[][]> {
    const { code, msg, data } = await call(endpoint);
    if (code !== 0 || typeof data !== 'string') throw new Error(`${endpoint}: ${code} ${msg}`);
    return data === '' ? [] : data.split('|').map((row) => row.split(','));
  }
  return {
    async submit(phones, { content = '【鸿雁】您有一张优惠券 $url$', ext = '', key } = {}) {
      const form = { mobiles: JSON.stringify(phones), content, template_id: String(templateId), ...(ext && { ext }) };
      const answer = await call('send-aim', form, key === undefined ? {} : { 'idempotency-key': key });
      return { code: answer.code, msg: answer.msg, msgId: answer.msg_id ?? '', failed: answer.failed_data ?? {} };
    },
    async reports() {
      const rows = await pull('report');
      return rows.map(([ext = '', msgId = '', mobile = '', status = '', time = '', price = '']) => ({
        ext,
        msgId,
        mobile,
        status,
        time,
        price,
      }));
    },
    async replies() {
      const rows = await pull('get-reply');
      return rows.map(([content = '', mobile = '', msgId = '', ext = '']) => ({
        content: decodeURIComponent(content),
        mobile,
        msgId,
        ext,
      }));
    },
    async balanceE4() {
      const { data } = await call('balance');
      const [whole = '0', fraction = ''] = (data as { balance: string }).balance.split('.');
      return BigInt(whole + fraction.padEnd(4, '0'));
    },
  };
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

/** One number of a fate, see the table in simulators/ismg.ts. */
export const numberOf = (fate: string, n = 0): string => `138${String(n).padStart(4, '0')}${fate}`;

/** How often each value occurs. */
export function tally(values: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}
