/**
 * Starts, stops and kills processes of the program and its surroundings, for tests, benchmarks and the crash run. They start as a user
 * would start them, and are told where to listen. This file knows no database and no protocol.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageRoot } from '../../src/std/package-root.ts';

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

export interface NodeOptions {
  readonly port: number;
  readonly environment: Readonly<Record<string, string>>;
  /** Its log is added to this file instead of being kept in memory. */
  readonly logFile?: string;
  /** Of Node.js. */
  readonly flags?: readonly string[];
}

const compiled = (file: string): string => path.join(packageRoot(), 'dist', file);
const program = path.join(packageRoot(), 'bin/hongyan.js');

/** Starts a node and does not wait for it. */
export function spawnNode({ port, environment, logFile, flags = [] }: NodeOptions): Node {
  const out = logFile === undefined ? ('pipe' as const) : fs.openSync(logFile, 'a');
  const child = spawn(process.execPath, [...flags, program, 'start'], {
    env: {
      ...process.env,
      HONGYAN_PORT: String(port),
      HONGYAN_HOST: '127.0.0.1',
      HONGYAN_PUBLIC_URL: `http://127.0.0.1:${port}`,
      HONGYAN_METRICS_ADDRESS: 'off',
      HONGYAN_STOP_GRACE_SECONDS: '0',
      HONGYAN_LOG_LEVEL: 'warn',
      ...environment,
    },
    stdio: ['ignore', out, out],
  });
  if (typeof out === 'number') fs.closeSync(out);
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (log += chunk.toString()));
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    await ended(child);
  };
  return {
    port,
    process: child,
    log: () => (logFile === undefined ? log : fs.readFileSync(logFile, 'utf8')),
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
  };
}

/** Whether a node takes requests. */
export const isReady = async (port: number): Promise<boolean> =>
  (await fetch(`http://127.0.0.1:${port}/healthz`, { signal: AbortSignal.timeout(2000) }).catch(() => null))?.ok ?? false;

/** Waits until a node takes requests; fails with its log if it ends instead. */
export async function untilReady(node: Node, timeoutMs?: number): Promise<void> {
  const isUp = async (): Promise<boolean> => {
    if (hasEnded(node.process)) throw new Error(`the node ended by itself:\n${node.log()}`);
    return isReady(node.port);
  };
  await until('the node is ready', isUp, timeoutMs);
}

/** Runs a command of the program to its end. */
export const runCommand = (args: readonly string[], environment: Readonly<Record<string, string>>) =>
  collect(spawn(process.execPath, [program, ...args], { env: { ...process.env, ...environment } })).done;

/** Runs one of our compiled files; `stop` (SIGTERM) need not be waited for if it has ended. */
export const runFile = (file: string, args: readonly string[]) => collect(spawn(process.execPath, [compiled(file), ...args]));

function collect(child: ChildProcess) {
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const done = new Promise<{ exitCode: number | null; output: string }>((resolve) => {
    child.once('close', () => resolve({ exitCode: child.exitCode, output }));
  });
  return {
    done,
    async stop(): Promise<void> {
      if (!hasEnded(child)) child.kill('SIGTERM');
      await done;
    },
  };
}

/** A process that runs one of our compiled files, and says in its first line of JSON where it listens. */
export interface Helper<Said> {
  readonly process: ChildProcess;
  readonly said: Said;
  /** Gives it a line to read. */
  tell(line: string): void;
  kill(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a compiled file, such as `simulators/process.js`, and returns once it has said its first line. */
export async function startHelper<Said>(file: string, args: readonly string[]): Promise<Helper<Said>> {
  const child = spawn(process.execPath, [compiled(file), ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.on('error', () => {}); // it was killed while it was told something
  const said = JSON.parse(await firstLine(child, file)) as Said;
  child.stdout.resume();
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    await ended(child);
  };
  return {
    process: child,
    said,
    tell: (line) => void child.stdin.write(`${line}\n`),
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
  };
}

function firstLine(child: ChildProcess, file: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes('\n')) resolve(text.split('\n', 1)[0] ?? '');
    });
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`${file} ended without a word`)));
  });
}

export const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

export const ended = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    if (hasEnded(child)) resolve();
    else child.once('exit', () => resolve());
  });

/** Waits until something is so; fails with its name when it takes too long. */
export async function until(what: string, check: () => boolean | Promise<boolean>, timeoutMs = 15_000): Promise<void> {
  for (const last = Date.now() + timeoutMs; ; ) {
    if (await check()) return;
    if (Date.now() > last) throw new Error(`in vain for ${timeoutMs} ms: ${what}`);
    await sleep(20);
  }
}
