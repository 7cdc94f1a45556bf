/**
 * What is measured: the program as anyone would run it (its own process, its own durable PostgreSQL, a fresh data folder), a simulated
 * carrier gateway in a process of its own, and one customer configured through the management API.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { runningUrl } from '../src/db/embedded.ts';
import { packageRoot } from '../src/std/package-root.ts';

export interface Customer {
  readonly spId: number;
  readonly password: string;
  readonly templateId: number;
  readonly accountId: number;
  readonly subscriptionId: number;
}

export interface MmsCustomer {
  readonly apiId: string;
  readonly apiKey: string;
  readonly productId: number;
  readonly signName: string;
  /** Where the account's reports are pushed from now on; null: nowhere, they are kept. */
  pushTo(url: string | null): Promise<void>;
}

export interface Platform {
  readonly base: string;
  /** Delivers through the simulated gateway. */
  readonly sending: Customer;
  /** Its channel leads nowhere: what it submits stays queued, so that accepting is measured by itself. */
  readonly queueing: Customer;
  /** Starts a simulated MMSC in a process of its own, and a customer who sends through it. */
  startMms(): Promise<MmsCustomer>;
  /** Delivery reports taken in so far. */
  reports(): Promise<number>;
  /** CPU seconds used so far. */
  cpu(): Promise<{ platform: number; database: number; carrier: number }>;
  residentMiB(): Promise<number>;
  /** The management API as the operator. */
  manage(method: string, url: string, body?: unknown): Promise<Record<string, unknown>>;
  /** Of its own PostgreSQL. */
  readonly databaseUrl: string;
  stop(): Promise<void>;
}

const windowSize = 64;
const connections = 4;

/** `profile`: writes a CPU profile of the platform's process into the current folder when it stops. */
export async function startPlatform({ profile }: { profile: boolean }): Promise<Platform> {
  const root = packageRoot();
  const dataDir = fs.mkdtempSync(path.join(os.tmpdir(), 'hongyan-bench-'));
  fs.chmodSync(dataDir, 0o755);
  const [port, metricsPort] = [await freePort(), await freePort()];
  const base = `http://127.0.0.1:${port}`;
  const env = {
    ...process.env,
    HONGYAN_DATA_DIR: dataDir,
    HONGYAN_PORT: String(port),
    HONGYAN_HOST: '127.0.0.1',
    HONGYAN_PUBLIC_URL: base,
    HONGYAN_SECRET_KEY: randomBytes(32).toString('hex'),
    HONGYAN_METRICS_ADDRESS: `127.0.0.1:${metricsPort}`,
    HONGYAN_LOG_LEVEL: 'warn',
    // The receiver of pushes is the bench itself.
    HONGYAN_PUSH_ALLOW: '127.0.0.1',
  };
  const program = path.join(root, 'bin/hongyan.js');
  const token = (await output(spawn(process.execPath, [program, 'token', 'create', '--name', 'bench'], { env }))).trim();
  const carrier = spawn(process.execPath, [
    path.join(root, 'dist/simulators/ismg-process.js'),
    '0',
    '901234',
    'bench',
    '0',
    'counting',
    '1000',
  ]);
  const carrierPort = (JSON.parse(await firstLine(carrier)) as { port: number }).port;
  // As bin/hongyan.js asks for in its first line.
  const flags = ['--max-semi-space-size=32', ...(profile ? ['--cpu-prof', `--cpu-prof-dir=${process.cwd()}`] : [])];
  const server = spawn(process.execPath, [...flags, program, 'start'], { env, stdio: ['ignore', 'inherit', 'inherit'] });
  await ready(base);

  const call = async (method: string, url: string, body?: unknown): Promise<Record<string, unknown>> => {
    const response = await fetch(`${base}/v1${url}`, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body !== undefined && { 'content-type': 'application/json' }) },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const answer = (await response.json()) as Record<string, unknown>;
    if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${JSON.stringify(answer)}`);
    return answer;
  };
  /** One account with a product of its own, over a channel to this port. */
  async function customer(name: string, channelPort: number): Promise<Customer> {
    const channel = await call('POST', '/channels', {
      name,
      protocol: 'cmpp',
      carriers: ['mobile', 'unicom', 'telecom', 'broadcast'],
      accessNumber: channelPort === carrierPort ? '10690001' : '10690002',
      connections,
      secret: 'bench',
      settings: { host: '127.0.0.1', port: channelPort, spId: '901234', serviceId: 'BENCH', ratePerSecond: 100_000, window: windowSize },
    });
    const pool = await call('POST', '/pools', { name, channels: [{ channelId: channel.id, priority: 1, weight: 1 }] });
    const product = await call('POST', '/products', { name, medium: 'aim', unit: 'yuan', poolId: pool.id });
    const account = await call('POST', '/accounts', { name });
    const subscription = await call('POST', '/subscriptions', { accountId: account.id, productId: product.id, price: '0.05' });
    await call('POST', `/subscriptions/${String(subscription.id)}/top-ups`, { amount: '10000000', note: 'bench' });
    const template = await call('POST', '/templates', {
      accountId: account.id,
      name,
      card: { layout: 'notice', title: '通知', rows: [{ label: '事项', value: '压测' }] },
    });
    await call('POST', `/templates/${String(template.id)}/approve`, {});
    return {
      spId: Number(subscription.spId),
      password: String(subscription.password),
      templateId: Number(template.id),
      accountId: Number(account.id),
      subscriptionId: Number(subscription.id),
    };
  }

  let mmsc: ChildProcess | undefined;
  async function startMms(): Promise<MmsCustomer> {
    const port = await freePort();
    const channel = await call('POST', '/channels', {
      name: 'mms',
      protocol: 'mm7',
      carriers: ['mobile', 'unicom', 'telecom', 'broadcast'],
      accessNumber: '10690003',
      connections,
      secret: 'bench',
      settings: {
        url: `http://127.0.0.1:${port}/mm7`,
        vaspId: '800001',
        vasId: '10690003',
        username: 'bench',
        ratePerSecond: 100_000,
        callbackUsername: 'bench',
      },
    });
    const callback = `${base}/mm7/${String(channel.id)}`;
    const args = [String(port), callback, '800001', '10690003', 'bench', 'bench', '0', 'counting'];
    mmsc = spawn(process.execPath, [path.join(root, 'dist/simulators/mmsc-process.js'), ...args]);
    await firstLine(mmsc);
    const pool = await call('POST', '/pools', { name: 'mms', channels: [{ channelId: channel.id, priority: 1, weight: 1 }] });
    const product = await call('POST', '/products', { name: 'mms', medium: 'mms', unit: 'messages', poolId: pool.id });
    const account = await call('POST', '/accounts', { name: 'mms' });
    const subscription = await call('POST', '/subscriptions', { accountId: account.id, productId: product.id, price: '1' });
    await call('POST', `/subscriptions/${String(subscription.id)}/top-ups`, { amount: '10000000', note: 'bench' });
    await call('POST', '/signatures', { accountId: account.id, name: '鸿雁' });
    return {
      apiId: String(account.apiId),
      apiKey: String(account.apiKey),
      productId: Number(product.id),
      signName: '鸿雁',
      pushTo: async (url) => void (await call('PATCH', `/accounts/${String(account.id)}`, { pushUrls: { report: url } })),
    };
  }

  const sending = await customer('sending', carrierPort);
  const queueing = await customer('queueing', await freePort());

  async function metric(name: string): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\S+)`, 'm').exec(text)?.[1] ?? Number.NaN);
  }

  return {
    base,
    sending,
    queueing,
    startMms,
    manage: call,
    databaseUrl: runningUrl(path.join(dataDir, 'postgres'), 'postgres') ?? '',
    reports: () => metric('hongyan_reports_total'),
    cpu: async () => ({
      platform: await metric('process_cpu_seconds_total'),
      database: cpuOf((pid) => pid.cmdline.includes(dataDir) || pid.parent.includes(dataDir)),
      carrier: cpuOf(({ id }) => id === carrier.pid || id === mmsc?.pid),
    }),
    residentMiB: async () => (await metric('process_resident_memory_bytes')) / 2 ** 20,
    async stop() {
      server.kill('SIGTERM');
      carrier.kill('SIGTERM');
      mmsc?.kill('SIGTERM');
      await Promise.all([closed(server), closed(carrier), mmsc && closed(mmsc)]);
      fs.rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

/** CPU seconds of the processes that match, dead children of theirs included. Linux only; elsewhere NaN. */
function cpuOf(matches: (process: { id: number; cmdline: string; parent: string }) => boolean): number {
  if (!fs.existsSync('/proc/self/stat')) return Number.NaN;
  const read = (id: string | number, file: string): string => {
    try {
      return fs.readFileSync(`/proc/${id}/${file}`, 'latin1');
    } catch {
      return '';
    }
  };
  let ticks = 0;
  for (const id of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const fields = read(id, 'stat').split(') ')[1]?.split(' ') ?? [];
    const parent = read(fields[1] ?? '', 'cmdline');
    if (matches({ id: Number(id), cmdline: read(id, 'cmdline').startsWith(process.execPath) ? '' : read(id, 'cmdline'), parent }))
      ticks += fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  }
  return ticks / 100;
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const closed = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    else child.once('exit', () => resolve());
  });

async function firstLine(child: ChildProcess): Promise<string> {
  let text = '';
  for await (const chunk of child.stdout ?? []) {
    text += String(chunk);
    if (text.includes('\n')) return text;
  }
  throw new Error('the process ended without a word');
}

async function output(child: ChildProcess): Promise<string> {
  let text = '';
  let errors = '';
  child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  await closed(child);
  if (child.exitCode !== 0) throw new Error(`a command failed: ${errors}`);
  return text;
}

async function ready(base: string): Promise<void> {
  for (const until = Date.now() + 60_000; Date.now() < until; ) {
    const response = await fetch(`${base}/healthz`).catch(() => null);
    if (response?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('the platform did not get ready within a minute');
}
