/**
 * The measured system: the program as a user would run it (its own process, its own durable PostgreSQL, a fresh data folder), a simulated
 * carrier gateway in a separate process, and one customer configured through the management API.
 */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type AimCustomer, createOperator, type MmsCustomer as MmsAccount } from '../kit/operator.ts';
import { type Helper, runCommand, spawnNode, startHelper, untilReady } from '../kit/processes.ts';
import { simulatorKind as cmppSimulator } from '../../simulators/cmpp.ts';
import { simulatorKind as mm7Simulator } from '../../simulators/mm7.ts';
import type { SimulatorAccount, SimulatorOptions } from '../../simulators/simulator.ts';
import { freePort, runningUrl } from '../../src/db/embedded.ts';

export type Customer = AimCustomer;

export interface MmsCustomer extends MmsAccount {
  /** Where the account's reports are pushed from now on; null: nowhere, they are kept. */
  pushTo(url: string | null): Promise<void>;
}

export interface Platform {
  readonly port: number;
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
  /** Of the platform's process. */
  memory(): Promise<{ residentMiB: number; heapMiB: number }>;
  /** The management API as the operator. */
  manage(method: string, url: string, body?: unknown): Promise<Record<string, unknown>>;
  /** Of its own PostgreSQL. */
  readonly databaseUrl: string;
  stop(): Promise<void>;
}

const windowSize = 64;
const connections = 4;
const cmppAccount = { spId: '901234', secret: 'bench', accessNumbers: ['10690001'], maxConnections: 100 } as const;
const mm7Account = { spId: '800001', secret: 'bench', accessNumbers: ['10690003'] } as const;

/** Of a carrier that costs as little as it can. Reports are acknowledged after a commit, so at full speed hundreds are on their way. */
const carrierOptions = (account: SimulatorAccount, more: Partial<SimulatorOptions> = {}): string =>
  JSON.stringify({ accounts: [account], reportDelayMs: 0, window: 1000, recording: false, ...more } satisfies SimulatorOptions);

/** `profile`: writes a CPU profile of the platform's process into the current folder when it stops. */
export async function startPlatform({ profile }: { profile: boolean }): Promise<Platform> {
  const dataDir = fs.mkdtempSync(path.join(os.tmpdir(), 'hongyan-bench-'));
  fs.chmodSync(dataDir, 0o755);
  const [port, metricsPort] = [await freePort(), await freePort()];
  const base = `http://127.0.0.1:${port}`;
  const environment = {
    HONGYAN_DATA_DIR: dataDir,
    HONGYAN_SECRET_KEY: randomBytes(32).toString('hex'),
    HONGYAN_METRICS_ADDRESS: `127.0.0.1:${metricsPort}`,
    // The receiver of pushes is the bench itself.
    HONGYAN_PUSH_ALLOW: '127.0.0.1',
  };
  const token = await runCommand(['token', 'create', '--name', 'bench'], environment);
  if (token.exitCode !== 0) throw new Error(`no token: ${token.output}`);
  const carrier = await startHelper<{ port: number }>('simulators/process.js', ['cmpp', carrierOptions(cmppAccount)]);
  // As bin/hongyan.js asks for in its first line.
  const flags = ['--max-semi-space-size=32', ...(profile ? ['--cpu-prof', `--cpu-prof-dir=${process.cwd()}`] : [])];
  const server = spawnNode({ port, environment, flags });
  await untilReady(server, 60_000);
  const operator = createOperator(base, token.output.trim());

  /** One account with a product of its own, over a channel to this port. */
  async function customer(name: string, channelPort: number): Promise<Customer> {
    const { poolId } = await operator.channel({
      name,
      protocol: 'cmpp',
      accessNumber: channelPort === carrier.said.port ? cmppAccount.accessNumbers[0] : '10690002',
      connections,
      secret: cmppAccount.secret,
      // Also where nobody answers, so that what is submitted waits and is not intercepted.
      forcedHealth: 'healthy',
      settings: {
        ...cmppSimulator.address(channelPort),
        ...cmppSimulator.login(cmppAccount),
        serviceId: 'BENCH',
        ratePerSecond: 100_000,
        window: windowSize,
      },
    });
    return operator.aimCustomer({ name, poolId });
  }

  let mmsc: Helper<unknown> | undefined;
  async function startMms(): Promise<MmsCustomer> {
    const mmscPort = await freePort();
    const { channelId, poolId } = await operator.channel({
      name: 'mms',
      protocol: 'mm7',
      accessNumber: mm7Account.accessNumbers[0],
      connections,
      secret: mm7Account.secret,
      settings: { ...mm7Simulator.address(mmscPort), ...mm7Simulator.login(mm7Account), ratePerSecond: 100_000 },
    });
    const options = carrierOptions({ ...mm7Account, door: `${base}/mm7/${channelId}` }, { port: mmscPort, window: 64 });
    mmsc = await startHelper('simulators/process.js', ['mm7', options]);
    const account = await operator.mmsCustomer({ name: 'mms', poolId });
    return {
      ...account,
      pushTo: async (url) => void (await operator.call('PATCH', `/accounts/${account.accountId}`, { pushUrls: { report: url } })),
    };
  }

  const sending = await customer('sending', carrier.said.port);
  const queueing = await customer('queueing', await freePort());

  async function metric(name: string): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\S+)`, 'm').exec(text)?.[1] ?? Number.NaN);
  }

  return {
    port,
    base,
    sending,
    queueing,
    startMms,
    manage: operator.call,
    databaseUrl: runningUrl(path.join(dataDir, 'postgres'), 'postgres') ?? '',
    reports: () => metric('hongyan_reports_total'),
    cpu: async () => ({
      platform: await metric('process_cpu_seconds_total'),
      database: cpuOf((pid) => pid.cmdline.includes(dataDir) || pid.parent.includes(dataDir)),
      carrier: cpuOf(({ id }) => id === carrier.process.pid || id === mmsc?.process.pid),
    }),
    memory: async () => ({
      residentMiB: (await metric('process_resident_memory_bytes')) / 2 ** 20,
      heapMiB: (await metric('nodejs_heap_size_used_bytes')) / 2 ** 20,
    }),
    async stop() {
      await Promise.all([server.stop(), carrier.stop(), mmsc?.stop()]);
      process.stderr.write(server.log());
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
