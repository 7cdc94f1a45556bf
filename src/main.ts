/**
 * The process: command line → settings → app → run until a signal stops it. Only this file has effects when it is imported.
 */
import fs from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { startSandbox } from '../sandbox/sandbox.ts';
import { createApp } from './app.ts';
import { type Config, readConfig } from './config.ts';
import { audit } from './core/watch/audit.ts';
import { acknowledgeRestore } from './core/queue/restoring.ts';
import { createToken } from './core/config/tokens.ts';
import { createDb, type Db } from './db/db.ts';
import { runningUrl, startEmbeddedPostgres } from './db/embedded.ts';
import { migrate } from './db/migrate.ts';
import { createLog, type Log } from './log.ts';
import { packageRoot } from './std/package-root.ts';

const print = (line: string): void => void process.stdout.write(`${line}\n`);

const { version } = JSON.parse(fs.readFileSync(path.join(packageRoot(), 'package.json'), 'utf8')) as { version: string };
const program = new Command('hongyan').description('鸿雁 Hongyan: a self-hosted messaging platform / 自托管的消息平台').version(version);

program
  .command('start')
  .description('run the platform (needs HONGYAN_SECRET_KEY and HONGYAN_PUBLIC_URL) / 启动平台')
  .action(async () => {
    const config = readConfig(process.env, 'start');
    const log = createLog(config.logLevel);
    const database = await openDatabase(config, log);
    const { tlsCert, tlsKey } = config;
    const app = await createApp({
      databaseUrl: database.url,
      secretKeys: config.secretKey ?? '',
      linkBase: config.linkBase ?? '',
      roles: config.roles,
      host: config.host,
      port: config.port,
      server: {
        limits: limitsOf(config),
        trustedProxies: config.trustedProxies,
        graceMs: config.stopGraceSeconds * 1000,
        tls: tlsCert !== undefined && tlsKey !== undefined ? { cert: fs.readFileSync(tlsCert), key: fs.readFileSync(tlsKey) } : undefined,
      },
      metrics: config.metricsAddress ?? null,
      pushAllow: config.pushAllow,
      log,
    }).catch(async (error: unknown) => {
      await database.stop();
      throw error;
    });
    log.info({ port: app.port, roles: config.roles }, 'ready');
    stopOnSignal(log, async () => {
      await app.stop();
      await database.stop();
    });
  });

program
  .command('sandbox')
  .description('run everything on this machine: database, simulated carriers, demo data / 在本机运行全套沙箱')
  .action(async () => {
    const config = readConfig(process.env, 'sandbox');
    const log = createLog(config.logLevel);
    const sandbox = await startSandbox({
      dataDir: config.dataDir,
      databaseUrl: config.databaseUrl,
      secretKeys: config.secretKey,
      port: config.port,
      linkBase: config.linkBase,
      metrics: config.metricsAddress ?? null,
      pushAllow: config.pushAllow,
      carrierPorts: config.sandboxCarrierPorts,
      limits: limitsOf(config),
      log,
    });
    const base = `http://127.0.0.1:${sandbox.port}`;
    print(`
  鸿雁沙箱已就绪 · Hongyan sandbox is ready

  API        ${base}/api/send-aim        sp_id 500001, password demo-aim-password
  管理 API   ${base}/v1/openapi.json     Bearer sandbox-operator-token
  手机       ${base}/sandbox/v1/messages
${sandbox.carriers.map(({ name, port }) => `  运营商     127.0.0.1:${port}  ${name}`).join('\n')}

  按 Ctrl-C 停止 · Ctrl-C stops it; data is kept in ${path.resolve(config.dataDir)}
`);
    stopOnSignal(log, sandbox.stop);
  });

program
  .command('migrate')
  .description('apply the migrations that the database lacks / 升级数据库')
  .action(() =>
    withDatabase('migrate', async (db) => {
      const applied = await migrate(db);
      print(applied.length > 0 ? `applied: ${applied.join(', ')}` : 'the database is up to date');
    }),
  );

program
  .command('audit')
  .description('recompute balances, holds, messages and events; exit 1 if anything disagrees / 对账')
  .action(() =>
    withDatabase('audit', async (db) => {
      const disagreements = await audit(db);
      for (const { check, subject, expected, found } of disagreements) print(`${subject}: ${check}: expected ${expected}, found ${found}`);
      print(disagreements.length === 0 ? 'audit: all agrees' : `audit: ${disagreements.length} disagreements`);
      if (disagreements.length > 0) process.exitCode = 1;
    }),
  );

program
  .command('restored')
  .description('run after restoring a backup, before any node starts: marks due messages as in doubt / 从备份恢复后、启动节点前执行')
  .action(() =>
    withDatabase('restored', async (db) => {
      const inDoubt = await acknowledgeRestore(db);
      print(`restored: ${inDoubt} messages may have been sent since the backup; the inDoubt setting of their product decides about them`);
    }),
  );

program
  .command('token')
  .description('manage tokens of the management API / 管理 API 令牌')
  .command('create')
  .description('create a token and print it, only this once / 创建令牌')
  .requiredOption('--name <name>', 'what the token is for')
  .option('--account <id>', 'account that the token belongs to; without it, the token belongs to the operator')
  .action(({ name, account }: { name: string; account?: string }) =>
    withDatabase('token', async (db) => {
      if (account !== undefined && !/^\d{1,18}$/.test(account)) throw new Error('--account must be the id of an account');
      const caller = account === undefined ? ({ role: 'operator' } as const) : ({ role: 'account', accountId: BigInt(account) } as const);
      print(await createToken(db.sql, { name, caller }));
    }),
  );

program
  .command('version')
  .description('print the version / 版本')
  .action(() => print(version));

const limitsOf = ({ connectionsPerAddress, requestsPerAddress }: Config) => ({ connectionsPerAddress, requestsPerAddress });

const embeddedFolder = (config: Config): string => path.join(config.dataDir, 'postgres');

/** The database that the settings name: the operator's, or our own in the data directory. */
async function openDatabase(config: Config, log: Log): Promise<{ url: string; stop(): Promise<void> }> {
  if (config.databaseUrl !== undefined) return { url: config.databaseUrl, stop: async () => {} };
  const dataDir = embeddedFolder(config);
  const postgres = await startEmbeddedPostgres({ dataDir, log: (message) => log.info(message) });
  return { url: postgres.url('postgres'), stop: postgres.stop };
}

/** Runs a command that needs only the database. If an installation is running, it uses that installation's server. */
async function withDatabase(command: 'migrate' | 'audit' | 'restored' | 'token', work: (db: Db) => Promise<void>): Promise<void> {
  const config = readConfig(process.env, command);
  const running = config.databaseUrl === undefined ? runningUrl(embeddedFolder(config), 'postgres') : null;
  const database = running === null ? await openDatabase(config, createLog('warn')) : { url: running, stop: async () => {} };
  const db = createDb(database.url, { statementTimeoutMs: 0, applicationName: `hongyan ${command}` });
  try {
    if (command === 'token') await migrate(db);
    await work(db);
  } finally {
    await db.end();
    await database.stop();
  }
}

/** A second signal ends the process at once. Nothing is lost by that, but some messages may be in doubt. */
function stopOnSignal(log: Log, stop: () => Promise<void>): void {
  let stopping = false;
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.on(signal, () => {
      if (stopping) process.exit(130);
      stopping = true;
      log.info({ signal }, 'stopping');
      stop().then(
        () => process.exit(0),
        (error: unknown) => {
          log.error({ err: error }, 'did not stop cleanly');
          process.exit(1);
        },
      );
    });
}

program.parseAsync().catch((error: unknown) => {
  process.stderr.write(`hongyan: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});
