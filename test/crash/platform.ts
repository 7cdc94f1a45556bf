/**
 * The platform of a crash run: two nodes, a durable PostgreSQL, two carriers and a customers' server. Each is a process that can be killed
 * at any instant and is started again. An action on a process waits until the previous one is over.
 */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SimulatorOptions } from '../../simulators/simulator.ts';
import { type EmbeddedPostgres, freePort, startEmbeddedPostgres } from '../../src/db/embedded.ts';
import { ended, hasEnded, type Helper, isReady, type Node, runCommand, spawnNode, startHelper } from '../kit/processes.ts';

/** One of the processes. Everything that is done to it happens in turn. */
interface Part {
  /** SIGKILL once `aim` resolves, so long without it, and starts it again. */
  kill(forMs: number, aim?: () => Promise<void>): Promise<void>;
}

export interface NodePart extends Part {
  readonly name: string;
  readonly port: number;
  /** SIGTERM, and starts it again after so long. */
  stopFor(forMs: number): Promise<void>;
  /** SIGSTOP, and SIGCONT after so long. */
  pause(forMs: number): Promise<void>;
  start(): void;
  /** For good; SIGTERM or SIGKILL. */
  end(how: 'cleanly' | 'at once'): Promise<void>;
  /** How many messages it has said it was in doubt about, over all its lives. */
  inDoubt(): number;
  /** SIGKILLs so far. */
  kills(): number;
}

export interface CarrierPart extends Part {
  dropConnections(): void;
}

export interface CrashPlatform {
  readonly folder: string;
  readonly databaseUrl: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly nodes: readonly [NodePart, NodePart];
  readonly database: Part;
  readonly cmpp: CarrierPart & { readonly port: number };
  readonly mm7: CarrierPart & { readonly port: number; callbackTo(path: string): void };
  readonly receiver: Part & { readonly url: string };
  /** Files that tell what phones and the customers' server got. */
  readonly journals: { readonly cmpp: string; readonly mm7: string; readonly pushes: string };
  /** What should not have happened to a process: ended by itself, or did not stop cleanly. */
  readonly mishaps: readonly string[];
  /** Nothing of it runs any more when this resolves. */
  end(how: 'cleanly' | 'at once'): Promise<void>;
}

/** What the carriers know of the platform, and the platform of them. */
export const carrierAccounts = {
  cmpp: { spId: '901234', secret: 'crash', accessNumbers: ['10690001'], maxConnections: 100 },
  mm7: { spId: '800001', secret: 'crash', accessNumbers: ['10690003'] },
} as const;

/** Carriers take their time, so that there is always something on its way when a process dies. */
const responseDelayMs = 30;
const reportDelayMs = 300;
const stopWithinMs = 60_000;
const scrapeMs = 200;

/** Lets what is done to one thing happen in turn. */
function createTurns(): (work: () => Promise<void>) => Promise<void> {
  let last = Promise.resolve();
  return (work) => (last = last.then(work));
}

export async function startCrashPlatform(folder: string, tell: (line: string) => void): Promise<CrashPlatform> {
  const mishaps: string[] = [];
  const databasePort = await freePort();
  const options = { dataDir: path.join(folder, 'postgres'), port: databasePort, log: () => {}, settings: { shared_buffers: '64MB' } };
  let server: EmbeddedPostgres | null = await startEmbeddedPostgres(options);
  const databaseUrl = server.url('postgres');
  const environment = { HONGYAN_DATABASE_URL: databaseUrl, HONGYAN_SECRET_KEY: randomBytes(32).toString('hex') };
  const ending = new AbortController();
  /** A time without something; over at once when the run is. */
  const away = (forMs: number): Promise<void> => sleep(forMs, undefined, { signal: ending.signal }).catch(() => {});
  /** When the database was last away, and whether it is now. */
  let databaseBackAt = 0;

  const databaseTurns = createTurns();
  const database: Part = {
    kill: (forMs, aim) =>
      databaseTurns(async () => {
        if (!server) return;
        await aim?.();
        process.kill(server.pid, 'SIGKILL');
        await server.stop();
        server = null;
        await away(forMs);
        server = await startEmbeddedPostgres(options);
        databaseBackAt = Date.now();
      }),
  };

  const nodes = [await nodePart('node 1'), await nodePart('node 2')] as const;

  async function nodePart(name: string): Promise<NodePart> {
    const [port, metricsPort] = [await freePort(), await freePort()];
    const logFile = path.join(folder, `${name.replace(' ', '-')}.log`);
    const turns = createTurns();
    let node: Node | null = null;
    let isWanted = false;
    let kills = 0;
    /** Of former lives, and of this one. */
    let counted = 0;
    let counting = 0;

    async function scrape(): Promise<void> {
      const living = node;
      const response = await fetch(`http://127.0.0.1:${metricsPort}/metrics`, { signal: AbortSignal.timeout(1000) }).catch(() => null);
      const text = (await response?.text().catch(() => '')) ?? '';
      const value = Number(/^hongyan_in_doubt_total (\d+)/m.exec(text)?.[1] ?? 0);
      if (node === living) counting = Math.max(counting, value);
    }
    const scraping = setInterval(() => void scrape(), scrapeMs);
    scraping.unref();

    function start(): void {
      isWanted = true;
      const started = spawnNode({
        port,
        logFile,
        environment: { ...environment, HONGYAN_METRICS_ADDRESS: `127.0.0.1:${metricsPort}`, HONGYAN_PUSH_ALLOW: '127.0.0.0/8' },
      });
      node = started;
      let wasReady = false;
      void (async () => {
        while (!wasReady && !hasEnded(started.process)) {
          wasReady = await isReady(port);
          await sleep(50);
        }
      })();
      void ended(started.process).then(async () => {
        counted += counting;
        counting = 0;
        if (node !== started || !isWanted) return;
        node = null;
        const { exitCode, signalCode } = started.process;
        // What cannot reach its database when it starts gives up, and whoever supervises it starts it again.
        if (wasReady) mishaps.push(`${name} ended by itself (${exitCode ?? signalCode}), see ${logFile}`);
        else tell(`${name} could not start (${exitCode}); once more`);
        await away(300);
        if (isWanted && node === null) start();
      });
    }

    async function endAtOnce(aim?: () => Promise<void>): Promise<void> {
      isWanted = false;
      const living = node;
      if (!living) return;
      kills += 1;
      await scrape();
      await aim?.();
      await living.kill();
    }

    async function endCleanly(): Promise<void> {
      isWanted = false;
      const living = node;
      if (!living) return;
      const from = Date.now();
      const force = setTimeout(() => {
        mishaps.push(`${name} did not stop within ${stopWithinMs / 1000} s`);
        living.process.kill('SIGKILL');
      }, stopWithinMs);
      await scrape();
      const isBorn = await isReady(port);
      await living.stop();
      clearTimeout(force);
      const wasDisturbed = server === null || databaseBackAt > from;
      // A process that has not yet begun to listen to signals ends by them.
      const { exitCode, signalCode } = living.process;
      if (exitCode !== 0 && isBorn && !wasDisturbed)
        mishaps.push(`${name} did not stop cleanly (${exitCode ?? signalCode}), see ${logFile}`);
    }

    return {
      name,
      port,
      start,
      kill: (forMs, aim) =>
        turns(async () => {
          await endAtOnce(aim);
          await away(forMs);
          start();
        }),
      stopFor: (forMs) =>
        turns(async () => {
          await endCleanly();
          await away(forMs);
          start();
        }),
      pause: (forMs) =>
        turns(async () => {
          const paused = node;
          paused?.process.kill('SIGSTOP');
          await away(forMs);
          paused?.process.kill('SIGCONT');
        }),
      end: (how) => turns(how === 'cleanly' ? endCleanly : endAtOnce),
      inDoubt: () => counted + counting,
      kills: () => kills,
    };
  }

  const journals = {
    cmpp: path.join(folder, 'cmpp.journal'),
    mm7: path.join(folder, 'mm7.journal'),
    pushes: path.join(folder, 'pushes.journal'),
  };

  /** A helper that is started again on the same port, with the same memory; `first` is what it is told each time. */
  async function helperPart(file: string, argsFor: (port: string) => string[], first?: string) {
    const port = await freePort();
    const args = argsFor(String(port));
    const turns = createTurns();
    let helper: Helper<unknown> | null = null;
    /** One that ends by itself spoils the run: what it owed is not told any more. */
    async function start(): Promise<void> {
      const started = await startHelper<unknown>(file, args);
      helper = started;
      if (first !== undefined) started.tell(first);
      void ended(started.process).then(() => {
        if (helper === started) mishaps.push(`${file} ended by itself, which is not the platform's fault but spoils the run`);
      });
    }
    async function kill(): Promise<void> {
      const killed = helper;
      helper = null;
      await killed?.kill();
    }
    await start();
    const part: Part = {
      kill: (forMs) =>
        turns(async () => {
          await kill();
          await away(forMs);
          await start();
        }),
    };
    return {
      ...part,
      port,
      /** Which process of its line it is. */
      life: () => helper?.process.pid ?? 0,
      tell: (line: string) => helper?.tell(line),
      end: () => turns(kill),
    };
  }

  const carrierArgs = (kind: keyof typeof carrierAccounts, port: string, window: number): string[] => {
    const options: SimulatorOptions = { port: Number(port), accounts: [carrierAccounts[kind]], reportDelayMs, window };
    return [kind, JSON.stringify(options), journals[kind]];
  };
  const slowly = `faults ${JSON.stringify({ responseDelayMs })}`;
  const cmpp = await helperPart('simulators/process.js', (port) => carrierArgs('cmpp', port, 200), slowly);
  // It learns later where to call.
  const mm7 = await helperPart('simulators/process.js', (port) => carrierArgs('mm7', port, 16), slowly);
  const receiver = await helperPart('test/crash/receiver-process.js', (port) => [port, journals.pushes]);

  /** The carrier posts to a node that is there, as through a load balancer. */
  let callbackPath: string | null = null;
  let told = '';
  const balancing = setInterval(() => void tellCallback(), 500);
  async function tellCallback(): Promise<void> {
    if (callbackPath === null) return;
    const ready = await Promise.all(nodes.map(({ port }) => isReady(port)));
    const node = nodes.find((_, i) => ready[i]);
    if (!node) return;
    const line = `call http://127.0.0.1:${node.port}${callbackPath}`;
    // A carrier that was started again has forgotten what it was told.
    const now = `${mm7.life()} ${line}`;
    if (now !== told) mm7.tell(line);
    told = now;
  }
  balancing.unref();

  return {
    folder,
    databaseUrl,
    environment,
    nodes,
    database,
    cmpp: { ...cmpp, dropConnections: () => cmpp.tell('drop') },
    mm7: {
      ...mm7,
      dropConnections: () => mm7.tell('drop'),
      callbackTo: (callback) => {
        callbackPath = callback;
      },
    },
    receiver: { ...receiver, url: `http://127.0.0.1:${receiver.port}` },
    journals,
    mishaps,
    async end(how) {
      clearInterval(balancing);
      ending.abort();
      await Promise.all([...nodes.map((node) => node.end(how)), cmpp.end(), mm7.end(), receiver.end()]);
      await databaseTurns(async () => server?.stop());
    },
  };
}

/** The operator's token, made before any node runs. */
export async function createToken({ environment }: CrashPlatform): Promise<string> {
  const { exitCode, output } = await runCommand(['token', 'create', '--name', 'crash'], environment);
  if (exitCode !== 0) throw new Error(`no token: ${output}`);
  return output.trim();
}

/** Ends a folder that nobody wants to look at. */
export const removeFolder = (folder: string): void => fs.rmSync(folder, { recursive: true, force: true });
