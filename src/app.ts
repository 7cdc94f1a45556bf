/**
 * The composition root: builds every part and gives it its dependencies. Read it to see which parts exist.
 */
import { randomBytes } from 'node:crypto';
import os from 'node:os';
import { channelKinds, kindOf, kindRules } from './channels/kinds.ts';
import { findRequestId } from './core/queue/batches.ts';
import { createCards } from './core/content/opened-card.ts';
import { createContentRules } from './core/screening/content-rules.ts';
import { createDirectory } from './core/config/directory.ts';
import { figures, readFigures } from './core/watch/figures.ts';
import { createInbound } from './core/outcome/inbound.ts';
import { balanceOf } from './core/money/ledger.ts';
import { createLinks } from './core/content/links.ts';
import { change, type Management } from './core/config/management.ts';
import { createNumberPlan } from './core/numbers/number-plan.ts';
import { createOutbox } from './core/events/outbox.ts';
import { createPackageLoader } from './core/content/media.ts';
import { createReports } from './core/outcome/reports.ts';
import { createRetention } from './core/watch/retention.ts';
import { linkSecret } from './core/config/settings.ts';
import { createSignals } from './core/config/signals.ts';
import { createSubmit } from './core/intake/submit.ts';
import { createPackageTemplate, usablePackage } from './core/content/templates.ts';
import { connectionRoom, createDb, type Db, type DbOptions } from './db/db.ts';
import { migrate } from './db/migrate.ts';
import type { DialectDeps } from './http/dialects/dialect.ts';
import { dialectList, dialects } from './http/dialects/registry.ts';
import { createCardPages } from './http/pages/cards.ts';
import { createDoorPart } from './http/doors.ts';
import { createCodePages } from './http/pages/codes.ts';
import { createConsoleApi } from './http/api/api.ts';
import type { HttpPart } from './http/part.ts';
import { createServer, type ServerOptions } from './http/server.ts';
import type { Config } from './config.ts';
import type { Log } from './log.ts';
import { createMetrics } from './metrics.ts';
import { createSecretBox } from './std/secret-box.ts';
import { createDoors } from './workers/doors.ts';
import { createDispatcher } from './workers/dispatcher.ts';
import { createChannelHealth } from './workers/health.ts';
import { createJanitor } from './workers/janitor/janitor.ts';
import { createPost } from './workers/post.ts';
import { createPusher } from './workers/pusher.ts';
import { createReceiver, type Receiver } from './workers/receiver.ts';
import { createRecent } from './workers/recent.ts';

/** The most connections to PostgreSQL, by purpose. */
const pools = { requests: 10, carriers: 6, figures: 1 } as const;
/** The total; one more connection listens for notifications. docs/operating.md names this number too. */
export const connectionsPerNode = pools.requests + pools.carriers + pools.figures + 1;

export interface AppOptions {
  readonly databaseUrl: string;
  readonly database?: DbOptions;
  /** Keys of the secret box, see `std/secret-box.ts`. */
  readonly secretKeys: string;
  /** The URL that `$url$` in a text becomes, without the code. */
  readonly linkBase: string;
  readonly roles: Config['roles'];
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly server: Pick<ServerOptions, 'tls' | 'trustedProxies' | 'loopbackHostOnly' | 'graceMs' | 'limits'>;
  /** Address of /metrics; null: none. */
  readonly metrics: { readonly host: string; readonly port: number } | null;
  /** Private ranges that customers' push servers may be in. */
  readonly pushAllow: readonly string[];
  readonly log: Log;
  /** The time of the business rules; tests set it. */
  readonly clock?: () => Date;
  /** Runs after the configuration is readable and before any work starts. The sandbox stores its demo data here. */
  prepare?(management: Management): Promise<void>;
  /** Further parts for the listener: the sandbox's own paths. */
  readonly parts?: readonly HttpPart[];
}

export interface App {
  readonly port: number;
  /** The port of /metrics; null: none. */
  readonly metricsPort: number | null;
  readonly management: Management;
  /** Gives back leases and claims, answers the requests under way, and closes the database last. */
  stop(): Promise<void>;
}

export async function createApp(options: AppOptions): Promise<App> {
  const { log, roles, clock = () => new Date(), linkBase } = options;
  const metrics = createMetrics();
  const openPool = (pool: keyof typeof pools, applicationName: string): Db =>
    createDb(options.databaseUrl, {
      max: pools[pool],
      applicationName,
      ...options.database,
      observe: (outcome, waitedMs, tookMs) => {
        metrics.time('db_wait_seconds', { pool }, waitedMs / 1000);
        metrics.time('db_transaction_seconds', { pool, outcome }, tookMs / 1000);
      },
    });
  const db = openPool('requests', 'hongyan');
  // The carriers' work has its own pool, so that leases are renewed and outcomes recorded even while requests fill the other pool.
  const carrierDb = openPool('carriers', 'hongyan carriers');
  // The metrics have their own pool, because operators need figures most when everything else waits.
  const figuresDb = openPool('figures', 'hongyan figures');
  const room = await connectionRoom(db.sql);
  if (room.left < connectionsPerNode)
    log.warn({ ...room, needed: connectionsPerNode }, 'PostgreSQL may not give this node enough connections');
  const box = createSecretBox(options.secretKeys);
  await migrate(db);
  const retention = createRetention({ db, dialects, clock });
  await retention.makePartitions();
  const directory = createDirectory({ db, box, dialects });
  await directory.start();
  const management: Management = { db, box, directory, kinds: kindRules };
  await options.prepare?.(management);
  const contentRules = createContentRules({
    db,
    directory,
    onFailure: (error) => log.warn({ err: error }, 'the content rules could not be loaded; the current ones stay in force'),
  });
  const numberPlan = createNumberPlan({
    db,
    directory,
    onFailure: (error) => log.warn({ err: error }, 'the imported number table could not be loaded; the current one stays in force'),
  });
  if (roles.includes('api')) await contentRules.start();
  if (roles.includes('api') || roles.includes('dispatch')) await numberPlan.start();

  const signals = createSignals({ db });
  await signals.start();
  const links = createLinks({ secret: await linkSecret(db, box) });
  const outbox = createOutbox({ db, directory, clock });

  const node = `${os.hostname()}-${randomBytes(4).toString('hex')}`;
  const health = createChannelHealth({ management: { ...management, db: carrierDb }, node, log });
  const recent = createRecent();
  const receiver = createReceiver({
    reports: createReports({ db: carrierDb, directory, clock }),
    inbound: createInbound({ db: carrierDb, directory, clock }),
    recent,
    signals,
    log,
    count: metrics.count,
  });
  /** Passes a report to the receiver; the health of its channel counts it too. */
  const onReport: Receiver['onReport'] = (channelId, report, acknowledge) => {
    health.watch(channelId).reported(report.delivered);
    receiver.onReport(channelId, report, acknowledge);
  };
  const dispatcher = createDispatcher({
    db: carrierDb,
    directory,
    health,
    numberPlan,
    signals,
    links,
    packages: createPackageLoader({ db }),
    recent,
    log,
    clock,
    node,
    linkBase,
    connect: ({ protocol, settings }, secret, deps) => kindOf(protocol).connect(settings, secret, deps),
    onReport,
    onReadReply: receiver.onReadReply,
    onInbound: receiver.onInbound,
    count: metrics.count,
  });
  const poster = createPost({ allow: options.pushAllow });
  const pusher = createPusher({
    outbox,
    directory,
    signals,
    post: poster.post,
    log,
    clock,
    count: metrics.count,
  });
  const janitor = createJanitor({ db, directory, retention, signals, log, clock });

  metrics.gauge('leases', 'Connections of a channel that this node holds.', ['channel'], () =>
    [...dispatcher.leased()].map(([id, value]) => ({ labels: { channel: String(id) }, value })),
  );
  const opened = Object.entries({ requests: db, carriers: carrierDb, figures: figuresDb });
  metrics.gauge('db_pool_connections', 'Most connections of a pool.', ['pool'], () =>
    opened.map(([pool, { max }]) => ({ labels: { pool }, value: max })),
  );
  metrics.gauge('db_transactions', 'Transactions that wait for a connection of a pool or have one.', ['pool'], () =>
    opened.map(([pool, { transactions }]) => ({ labels: { pool }, value: transactions() })),
  );
  metrics.include({ described: figures, read: () => readFigures(figuresDb, clock()) });

  const server = createServer({
    log,
    failuresPerMinute: () => directory.settings().addressFailuresPerMinute,
    ...options.server,
    answered: (part, status, ms) => metrics.time('http_request_seconds', { part, status: String(status) }, ms / 1000),
  });
  if (roles.includes('api')) {
    const submit = createSubmit({ db, directory, signals, contentRules, numberPlan, clock, linkBase, count: metrics.count });
    const dialectDeps: DialectDeps = {
      directory,
      submit,
      pullReports: outbox.pullReports,
      pullReplies: outbox.pullReplies,
      checkRequest: async (accountId, request) => void (await findRequestId(db.sql, accountId, request, clock())),
      usablePackage: (accountId, templateId) => usablePackage(db.sql, accountId, templateId),
      createTemplate: async (template) => (await change(management, (sql) => createPackageTemplate(sql, { ...template, at: clock() }))).id,
      balance: ({ accountId, id }) => balanceOf(db.sql, accountId, id),
      clock,
      count: metrics.count,
    };
    for (const { parts } of dialectList) for (const part of parts(dialectDeps)) server.register(part);
    server.register(createCardPages({ cards: createCards({ db, links, clock }), clock, linkBase }));
    server.register(createCodePages());
    const kinds = Object.values(channelKinds);
    server.register(createConsoleApi({ ...management, channelKinds: kinds, outbox, signals, contentRules, numberPlan, clock, linkBase }));
    for (const door of createDoors({ kinds, directory, receiver: { ...receiver, onReport } })) server.register(createDoorPart(door));
    for (const part of options.parts ?? []) server.register(part);
  }

  const port = await server.listen({ host: options.host, port: options.port });
  const metricsPort = options.metrics && (await metrics.listen(options.metrics));
  // Carriers also post to the listener, so the receiver runs wherever the listener does.
  if (roles.includes('dispatch') || roles.includes('api')) {
    health.start();
    receiver.start();
  }
  if (roles.includes('dispatch')) dispatcher.start();
  if (roles.includes('push')) pusher.start();
  if (roles.includes('janitor')) janitor.start();
  server.open();

  return {
    port,
    metricsPort,
    management,
    async stop() {
      // Other nodes can lease the connections while this one still answers requests.
      await Promise.all([
        server.stop(),
        roles.includes('dispatch') ? dispatcher.stop() : undefined,
        roles.includes('push') ? pusher.stop() : undefined,
      ]);
      await Promise.all([health.stop(), receiver.stop()]);
      await poster.close();
      if (roles.includes('janitor')) await janitor.stop();
      await metrics.close();
      await signals.stop();
      await Promise.all([contentRules.stop(), numberPlan.stop()]);
      await directory.stop();
      await Promise.all([figuresDb.end(), carrierDb.end(), db.end()]);
    },
  };
}
