/**
 * The laptop edition: embedded PostgreSQL, every role, simulated carriers that speak the real protocols over real sockets, demo data.
 * For this machine only: it binds to 127.0.0.1 and refuses requests that do not name the loopback interface.
 */
import fs from 'node:fs';
import path from 'node:path';
import type { Simulator, SimulatorKind } from '../simulators/simulator.ts';
import { type App, type AppOptions, createApp } from '../src/app.ts';
import { channelKinds } from '../src/channels/kinds.ts';
import { type EmbeddedPostgres, freePort, startEmbeddedPostgres } from '../src/db/embedded.ts';
import type { Log } from '../src/log.ts';
import { generateKey } from '../src/std/secret-box.ts';
import { accountOf, type DemoCarrier, demoCarriers, seed } from './demo-data.ts';
import { createFaultsPart } from './faults.ts';
import { createPhones } from './phones.ts';

export interface SandboxOptions {
  readonly dataDir: string;
  /** A database to use instead of the embedded server. */
  readonly databaseUrl?: string | undefined;
  readonly secretKeys?: string | undefined;
  readonly port: number;
  /** Default: `/m` of the sandbox's own address. */
  readonly linkBase: string | undefined;
  readonly metrics: { readonly host: string; readonly port: number } | null;
  readonly pushAllow: readonly string[];
  /** Ports of the simulated carriers in their order; free ones where left out. */
  readonly carrierPorts: readonly number[];
  /** Of the listener. */
  readonly limits?: AppOptions['server']['limits'];
  readonly log: Log;
  /** How long a simulated carrier takes to report; a slow one takes 30 times as long. Tests set it low. */
  readonly reportDelayMs?: number;
  /** Of the application, for an installation that was stopped in the middle of its work, or of another day; all roles if left out. */
  readonly roles?: AppOptions['roles'];
  readonly clock?: () => Date;
}

export interface Sandbox {
  readonly port: number;
  readonly carriers: readonly { readonly name: string; readonly port: number }[];
  readonly app: App;
  stop(): Promise<void>;
}

export async function startSandbox(options: SandboxOptions): Promise<Sandbox> {
  const { dataDir, log } = options;
  fs.mkdirSync(dataDir, { recursive: true });
  const secretKeys = options.secretKeys ?? keptKey(path.join(dataDir, 'secret-key'));
  let postgres: EmbeddedPostgres | undefined;
  const carriers: { readonly demo: DemoCarrier; readonly kind: SimulatorKind; readonly simulator: Simulator }[] = [];
  let app: App | undefined;

  async function stop(): Promise<void> {
    await app?.stop();
    for (const { simulator } of carriers) await simulator.stop();
    await postgres?.stop();
  }

  try {
    let { databaseUrl } = options;
    if (databaseUrl === undefined) {
      postgres = await startEmbeddedPostgres({ dataDir: path.join(dataDir, 'postgres'), log: (message) => log.info(message) });
      databaseUrl = postgres.url('postgres');
    }
    // Links contain the port, so it must be known before the listener opens.
    const port = options.port === 0 ? await freePort() : options.port;
    const linkBase = options.linkBase ?? `http://127.0.0.1:${port}/m`;
    const phones = createPhones({
      linkBase,
      reply: (message) => carriers.some(({ simulator }) => simulator.reply(message)),
    });
    const { reportDelayMs } = options;
    const delays = reportDelayMs === undefined ? {} : { reportDelayMs, slowReportDelayMs: 30 * reportDelayMs };
    for (const [index, demo] of demoCarriers.entries()) {
      const { door, simulator: load } = channelKinds[demo.protocol];
      const kind = await load();
      const doorOf = (channelId: bigint) => (door ? { door: `http://127.0.0.1:${port}${door.prefix}/${channelId}` } : {});
      const simulator = kind.create({
        ...demo.options,
        accounts: demo.channels.map((channel) => ({ ...accountOf(channel), ...doorOf(channel.channelId) })),
        port: options.carrierPorts[index] ?? 0,
        ...delays,
      });
      simulator.onMessage(phones.received);
      await simulator.start();
      carriers.push({ demo, kind, simulator });
    }
    const kinds = await Promise.all(Object.values(channelKinds).map(({ simulator }) => simulator()));
    const running = carriers.map(({ demo, kind, simulator }) => ({ ...demo, kind, port: simulator.port }));
    app = await createApp({
      databaseUrl,
      secretKeys,
      linkBase,
      roles: options.roles ?? ['api', 'dispatch', 'push', 'janitor'],
      ...(options.clock && { clock: options.clock }),
      host: '127.0.0.1',
      port,
      server: { loopbackHostOnly: true, ...(options.limits && { limits: options.limits }) },
      metrics: options.metrics,
      pushAllow: options.pushAllow,
      log,
      prepare: (management) => seed(management, running),
      parts: [phones.part, createFaultsPart(kinds, carriers)],
    });
    return { port: app.port, carriers: running.map(({ name, port }) => ({ name, port })), app, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The sandbox makes its own key and keeps it beside its data. */
function keptKey(file: string): string {
  if (!fs.existsSync(file)) fs.writeFileSync(file, `${generateKey()}\n`, { mode: 0o600, flag: 'wx' });
  return fs.readFileSync(file, 'utf8').trim();
}
