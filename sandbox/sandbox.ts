/**
 * The laptop edition: embedded PostgreSQL, every role, simulated carriers that speak the real protocols over real sockets, demo data.
 * For this machine only: it binds to 127.0.0.1 and refuses requests that do not name the loopback interface.
 */
import fs from 'node:fs';
import path from 'node:path';
import { createIsmg, type Ismg } from '../simulators/ismg.ts';
import { createMmsc } from '../simulators/mmsc.ts';
import { type App, type AppOptions, createApp } from '../src/app.ts';
import { type EmbeddedPostgres, freePort, startEmbeddedPostgres } from '../src/db/embedded.ts';
import type { Log } from '../src/log.ts';
import { generateKey } from '../src/std/secret-box.ts';
import { type DemoGateway, demoGateways, demoMmsc, seed } from './demo-data.ts';
import { createFaultsPart } from './faults.ts';
import { createPhones } from './phones.ts';

export interface SandboxOptions {
  readonly dataDir: string;
  /** Instead of the embedded server. */
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
  /** How long a simulated carrier takes to report, and 30 times that when it is slow; tests are in a hurry. */
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
  const carriers = new Map<DemoGateway, Ismg>();
  let mmsc: ReturnType<typeof createMmsc> | undefined;
  let app: App | undefined;

  async function stop(): Promise<void> {
    await app?.stop();
    for (const ismg of carriers.values()) await ismg.stop();
    await mmsc?.stop();
    await postgres?.stop();
  }

  try {
    let { databaseUrl } = options;
    if (databaseUrl === undefined) {
      postgres = await startEmbeddedPostgres({ dataDir: path.join(dataDir, 'postgres'), log: (message) => log.info(message) });
      databaseUrl = postgres.url('postgres');
    }
    // Links are made of the port, so it must be known before the listener opens.
    const port = options.port === 0 ? await freePort() : options.port;
    const linkBase = options.linkBase ?? `http://127.0.0.1:${port}/m`;
    const phones = createPhones({
      linkBase,
      reply: (message) => [...carriers.values()].some((ismg) => ismg.reply(message)) || (mmsc?.reply(message) ?? false),
    });
    const { reportDelayMs } = options;
    const delays = reportDelayMs === undefined ? {} : { reportDelayMs, slowReportDelayMs: 30 * reportDelayMs };
    for (const [index, gateway] of demoGateways.entries()) {
      const ismg = createIsmg({
        accounts: gateway.channels.map(({ spId, secret, accessNumber }) => ({ spId, secret, accessNumbers: [accessNumber] })),
        port: options.carrierPorts[index] ?? 0,
        maxVersion: gateway.version === '2.0' ? 2 : 3,
        ...delays,
      });
      ismg.onMessage(phones.received);
      await ismg.start();
      carriers.set(gateway, ismg);
    }
    mmsc = createMmsc({
      port: options.carrierPorts[demoGateways.length] ?? 0,
      vaspId: demoMmsc.vaspId,
      accessNumber: demoMmsc.accessNumber,
      authentication: 'digest',
      username: demoMmsc.username,
      password: demoMmsc.secret,
      vaspUrl: `http://127.0.0.1:${port}/mm7/${demoMmsc.channelId}`,
      vaspUsername: demoMmsc.callbackUsername,
      vaspPassword: demoMmsc.secret,
      ...delays,
    });
    mmsc.onMessage(phones.receivedMms);
    await mmsc.start();
    const mmscUrl = mmsc.url;
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
      prepare: (management) => seed(management, (gateway) => carriers.get(gateway)?.port ?? 0, mmscUrl),
      parts: [phones.part, createFaultsPart({ cmpp: [...carriers.values()], mm7: [mmsc] })],
    });
    const ports = [...[...carriers].map(([{ name }, ismg]) => ({ name, port: ismg.port })), { name: demoMmsc.name, port: mmsc.port }];
    return { port: app.port, carriers: ports, app, stop };
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
