/**
 * One crash run: customers submit, pull and take pushes while processes are killed at random. Then the run waits until the platform has
 * settled, and audits it.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { callMms, clientOf, e4 } from '../kit/customers.ts';
import { type AimCustomer, createOperator, type MmsCustomer, type Operator, paidIn, prices } from '../kit/operator.ts';
import { isReady, runCommand, until } from '../kit/processes.ts';
import { simulatorKind as cmppSimulator } from '../../simulators/cmpp.ts';
import { simulatorKind as mm7Simulator } from '../../simulators/mm7.ts';
import { createDirectory } from '../../src/core/config/directory.ts';
import { createRetention } from '../../src/core/watch/retention.ts';
import { createSignals } from '../../src/core/config/signals.ts';
import { createDb, type Db } from '../../src/db/db.ts';
import { dialects } from '../../src/http/dialects/registry.ts';
import { createSecretBox } from '../../src/std/secret-box.ts';
import { createJanitor } from '../../src/workers/janitor/janitor.ts';
import { readFailed, readForgottenReports, readPhones, readPushes, readRows, readUnsettled } from './facts.ts';
import { type CustomerFacts, type Facts, type Judgement, judge } from './judge.ts';
import { carrierAccounts, type CrashPlatform, createToken, removeFolder, startCrashPlatform } from './platform.ts';
import { randomOf } from './random.ts';
import { type Fault, type FaultName, planFaults } from './schedule.ts';
import { createNumbers, type Program, startAimProgram, startMmsProgram, type World } from './traffic.ts';

export interface RunOptions {
  readonly seed: number;
  readonly lastingMs: number;
  /** What happens, line by line. */
  readonly tell: (line: string) => void;
}

export interface RunResult extends Judgement {
  readonly seed: number;
  readonly faults: Readonly<Record<string, number>>;
  readonly seconds: { readonly faults: number; readonly settling: number };
  /** Data and logs, kept if anything was violated; null if they are gone. */
  readonly folder: string | null;
}

const cmppConnections = 3;
const mm7Connections = 2;
/** The dispatcher's reservation: messages of one connection that a crash may leave in doubt. */
const reservation = 128;
const segmentsPerSecond = 500;
const mmsPerSecond = 150;
/** Messages in the queue and events in the outbox, above which customers submit single messages only. */
const busyAbove = 2500;
/** After so long without progress, none will come. A killed node's leases, a lost push and a slow machine all take less. */
const stuckAfterMs = 90_000;

export async function run({ seed, lastingMs, tell }: RunOptions): Promise<RunResult> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hongyan-crash-'));
  fs.chmodSync(folder, 0o711); // under root the database runs as another account, which must be able to pass
  const platform = await startCrashPlatform(folder, tell);
  const endAll = (): void =>
    void platform.end('at once').finally(() => {
      removeFolder(folder);
      process.exit(130);
    });
  process.once('SIGINT', endAll).once('SIGTERM', endAll);
  const db = createDb(platform.databaseUrl, { max: 4, applicationName: 'hongyan crash', statementTimeoutMs: 0 });
  try {
    const result = await runOn(platform, db, { seed, lastingMs, tell });
    await db.end();
    await platform.end('cleanly');
    if (result.violations.length > 0) return { ...result, folder };
    removeFolder(folder);
    return { ...result, folder: null };
  } catch (error) {
    await db.end();
    await platform.end('at once');
    throw new Error(`the run of seed ${seed} could not be finished; its data and logs are in ${folder}`, { cause: error });
  } finally {
    process.off('SIGINT', endAll).off('SIGTERM', endAll);
  }
}

async function runOn(platform: CrashPlatform, db: Db, { seed, lastingMs, tell }: RunOptions): Promise<Omit<RunResult, 'folder'>> {
  const token = await createToken(platform);
  for (const node of platform.nodes) node.start();
  await untilUp(platform);
  const operator = createOperator(`http://127.0.0.1:${platform.nodes[0].port}`, token);
  const customers = await setUp(platform, operator);

  let isBusy = false;
  const watching = setInterval(() => {
    readBacklog(db).then(
      (backlog) => {
        isBusy = backlog > busyAbove;
      },
      () => {}, // there is no database just now
    );
  }, 500);
  const aiming = createAiming();
  const world: World = {
    ports: platform.nodes.map(({ port }) => port),
    numbers: createNumbers(),
    sending: aiming.sending,
    isBusy: () => isBusy,
  };
  const programs = {
    pulls: startAimProgram(world, randomOf(seed, 'pulls'), customers.pulls, 6),
    pushes: startAimProgram(world, randomOf(seed, 'pushes'), customers.pushes, 4),
    careful: startAimProgram(world, randomOf(seed, 'careful'), customers.careful, 4),
    mms: startMmsProgram(world, randomOf(seed, 'mms'), customers.mms, 3),
  };
  const all: Program[] = Object.values(programs);

  const from = performance.now();
  const happened = await disturb(platform, planFaults(randomOf(seed, 'faults'), lastingMs), lastingMs, aiming, tell);
  const faultSeconds = (performance.now() - from) / 1000;

  tell('no more faults; settling');
  const settlingFrom = performance.now();
  await untilUp(platform);
  await Promise.all(all.map((program) => program.stopSubmitting()));
  clearInterval(watching);
  await settle(db, platform, tell);
  await Promise.all(all.map((program) => program.stopPulling()));
  const forgottenReports = await readForgottenReports(db);
  // The rest waits only for time. No living process can hold it, so the clock may be put forward.
  await Promise.all(platform.nodes.map((node) => node.end('cleanly')));
  await putTimeForward(platform, db);
  const replayed = await readFailed(db);
  for (const node of platform.nodes) node.start();
  await untilUp(platform);
  for (const program of all) program.goOnPulling();
  for (const kind of ['report', 'reply'])
    await operator.call('POST', '/events/replay', { accountId: customers.mms.accountId, kind, state: 'failed' });
  await settle(db, platform, tell);
  await Promise.all(all.map((program) => program.stopPulling()));

  const facts = await gather(platform, db, customers, programs, forgottenReports, replayed);
  const judgement = judge(facts);
  return {
    ...judgement,
    seed,
    faults: happened,
    seconds: { faults: Math.round(faultSeconds), settling: Math.round((performance.now() - settlingFrom) / 1000) },
  };
}

const untilUp = ({ nodes }: CrashPlatform): Promise<void> =>
  until('both nodes are up', async () => (await Promise.all(nodes.map(({ port }) => isReady(port)))).every(Boolean), stuckAfterMs);

// ── before ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Customers {
  readonly pulls: AimCustomer;
  readonly pushes: AimCustomer;
  readonly careful: AimCustomer;
  readonly mms: MmsCustomer;
}

async function setUp({ cmpp, mm7, receiver }: CrashPlatform, operator: Operator): Promise<Customers> {
  const sms = await operator.channel({
    name: 'cmpp',
    protocol: 'cmpp',
    accessNumber: carrierAccounts.cmpp.accessNumbers[0],
    connections: cmppConnections,
    secret: carrierAccounts.cmpp.secret,
    settings: {
      ...cmppSimulator.address(cmpp.port),
      ...cmppSimulator.login(carrierAccounts.cmpp),
      serviceId: 'CRASH',
      ratePerSecond: segmentsPerSecond,
      window: 32,
    },
  });
  const multimedia = await operator.channel({
    name: 'mm7',
    protocol: 'mm7',
    accessNumber: carrierAccounts.mm7.accessNumbers[0],
    connections: mm7Connections,
    secret: carrierAccounts.mm7.secret,
    settings: { ...mm7Simulator.address(mm7.port), ...mm7Simulator.login(carrierAccounts.mm7), ratePerSecond: mmsPerSecond },
  });
  mm7.callbackTo(`/mm7/${multimedia.channelId}`);
  await operator.call('PATCH', '/settings', { pushDelaysSeconds: [2, 4], rowsPerPush: 100 });
  const urls = (name: string) => ({ report: `${receiver.url}/${name}/report`, reply: `${receiver.url}/${name}/reply` });
  const { poolId } = sms;
  const pulls = await operator.aimCustomer({ name: 'pulls', poolId });
  const pushes = await operator.aimCustomer({
    name: 'pushes',
    poolId,
    product: { chargeOn: 'accepted' },
    subscription: { pushUrls: urls('pushes') },
  });
  const careful = await operator.aimCustomer({ name: 'careful', poolId, product: { inDoubt: 'give_up' } });
  const mms = await operator.mmsCustomer({ name: 'mms', poolId: multimedia.poolId });
  await operator.call('PATCH', `/accounts/${mms.accountId}`, { pushUrls: urls('mms') });
  return { pulls, pushes, careful, mms };
}

async function readBacklog(db: Db): Promise<number> {
  const [row] = await db.sql<{ n: number }[]>`
    select coalesce((select sum(n) from dispatch_queue), 0)::int + coalesce((select sum(cardinality(indexes)) from parcels), 0)::int as n`;
  return row?.n ?? 0;
}

// ── meanwhile ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Aiming {
  sending(port: number): void;
  /** Resolves when the next request has been under way for as long as the fault says; to any node, if none is named. */
  at(fault: Fault, port: number | null): () => Promise<void>;
}

/** No customer sends to a node that is down; then a kill need not wait. */
const noRequestMs = 500;

function createAiming(): Aiming {
  let waiting: { readonly port: number | null; readonly go: () => void }[] = [];
  return {
    sending(port) {
      if (waiting.length === 0) return;
      const due = waiting.filter((one) => one.port === null || one.port === port);
      waiting = waiting.filter((one) => !due.includes(one));
      for (const { go } of due) go();
    },
    at:
      ({ afterRequestMs }, port) =>
      async () => {
        if (afterRequestMs === null) return;
        await Promise.race([new Promise<void>((go) => void waiting.push({ port, go })), sleep(noRequestMs)]);
        await sleep(afterRequestMs);
      },
  };
}

/** Carries the plan out; resolves when its time is over and everything that was taken down has been started again. */
async function disturb(
  platform: CrashPlatform,
  plan: readonly Fault[],
  lastingMs: number,
  aiming: Aiming,
  tell: (line: string) => void,
): Promise<Record<string, number>> {
  const { nodes, database, cmpp, mm7, receiver } = platform;
  const begin: Readonly<Record<FaultName, (fault: Fault) => Promise<unknown> | void>> = {
    'kill a node': (fault) => nodes[fault.node].kill(fault.forMs, aiming.at(fault, nodes[fault.node].port)),
    'kill both nodes': (fault) => Promise.all(nodes.map((node) => node.kill(fault.forMs, aiming.at(fault, node.port)))),
    'stop a node': ({ node, forMs }) => nodes[node].stopFor(forMs),
    'pause a node past its leases': ({ node, forMs }) => nodes[node].pause(forMs),
    'pause a node for a moment': ({ node, forMs }) => nodes[node].pause(forMs),
    'kill the database': (fault) => database.kill(fault.forMs, aiming.at(fault, null)),
    'kill the database for longer than leases': (fault) => database.kill(fault.forMs, aiming.at(fault, null)),
    'break the CMPP connections': () => cmpp.dropConnections(),
    'break the MM7 connections': () => mm7.dropConnections(),
    'kill the CMPP carrier': ({ forMs }) => cmpp.kill(forMs),
    'kill the MM7 carrier': ({ forMs }) => mm7.kill(forMs),
    "kill the customers' server": ({ forMs }) => receiver.kill(forMs),
  };
  const from = performance.now();
  const under: Promise<unknown>[] = [];
  const happened: Record<string, number> = {};
  for (const fault of plan) {
    await sleep(Math.max(0, fault.atMs - (performance.now() - from)));
    tell(
      `${(fault.atMs / 1000).toFixed(1).padStart(6)} s  ${fault.name}${fault.forMs > 0 ? ` for ${(fault.forMs / 1000).toFixed(1)} s` : ''}`,
    );
    happened[fault.name] = (happened[fault.name] ?? 0) + 1;
    const work = begin[fault.name](fault);
    if (!work) continue;
    under.push(work);
    work.catch(() => {}); // told of below
  }
  await sleep(Math.max(0, lastingMs - (performance.now() - from)));
  await Promise.all(under);
  return happened;
}

// ── after ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Waits until nothing moves that could: the queue is empty, every report has come, every event that may leave has left. */
async function settle(db: Db, { journals }: CrashPlatform, tell: (line: string) => void): Promise<void> {
  let best = Number.POSITIVE_INFINITY;
  let bestAt = performance.now();
  for (;;) {
    const { queued, open, waiting } = await readUnsettled(db);
    // The journals are long: they are read once the platform has nothing more to do.
    const owed = queued + open + waiting > 0 ? 1 : readPhones(journals.cmpp).owed + readPhones(journals.mm7).owed;
    const left = queued + open + waiting + owed;
    if (left === 0) return;
    if (left < best) {
      best = left;
      bestAt = performance.now();
    } else if (performance.now() - bestAt > stuckAfterMs) {
      tell(`it does not settle: ${queued} chunks queued, ${open} messages open, ${waiting} events waiting, ${owed} owed by carriers`);
      return;
    }
    await sleep(500);
  }
}

/** Ends claims of dead pushers, makes tries due, and expires what is never reported. */
async function putTimeForward({ environment }: CrashPlatform, db: Db): Promise<void> {
  const box = createSecretBox(environment['HONGYAN_SECRET_KEY'] ?? '');
  const directory = createDirectory({ db, box, dialects });
  await directory.start();
  const signals = createSignals({ db });
  const clock = () => new Date(Date.now() + 73 * 3600_000);
  const retention = createRetention({ db, dialects, clock });
  await createJanitor({ db, directory, retention, signals, log: pino({ level: 'silent' }), clock }).expireOverdue();
  await signals.stop();
  await directory.stop();
  await db.sql`update parcels set due_at = least(due_at, now()), lease_until = case when route = 2 then now() end where route in (1, 2)`;
}

async function gather(
  platform: CrashPlatform,
  db: Db,
  customers: Customers,
  programs: Readonly<Record<keyof Customers, Program>>,
  forgottenReports: number,
  replayed: ReadonlySet<string>,
): Promise<Facts> {
  const { nodes, journals, environment, mishaps } = platform;
  const pushes = readPushes(journals.pushes);
  const pushesOf = (name: string) => [...(pushes.get(`/${name}/report`) ?? []), ...(pushes.get(`/${name}/reply`) ?? [])];
  const paidInE4 = BigInt(paidIn) * 10_000n;
  const aim = async (name: 'pulls' | 'pushes' | 'careful'): Promise<CustomerFacts> => ({
    name,
    medium: 'aim',
    inDoubt: name === 'careful' ? 'give_up' : 'resend',
    chargeOn: name === 'pushes' ? 'accepted' : 'delivered',
    priceE4: e4(prices.aim),
    paidInE4,
    balanceE4: await clientOf(nodes[0], customers[name]).balanceE4(),
    diary: programs[name].diary,
    pushes: pushesOf(name),
    rows: await readRows(db, customers[name].accountId),
    replayed: new Set(),
  });
  const { data } = (await callMms(nodes[0], customers.mms, 'balance')) as { data: { product_id: number; balance: number }[] };
  const balance = data.find(({ product_id: id }) => id === customers.mms.productId)?.balance ?? 0;
  const mms: CustomerFacts = {
    name: 'mms',
    medium: 'mms',
    inDoubt: 'give_up',
    chargeOn: 'delivered',
    priceE4: e4(prices.mms),
    paidInE4,
    balanceE4: BigInt(Math.round(balance * 10_000)),
    diary: programs.mms.diary,
    pushes: pushesOf('mms'),
    rows: await readRows(db, customers.mms.accountId),
    replayed,
  };
  const { exitCode, output } = await runCommand(['audit'], { HONGYAN_DATABASE_URL: environment['HONGYAN_DATABASE_URL'] ?? '' });
  const { queued } = await readUnsettled(db);
  return {
    customers: [await aim('pulls'), await aim('pushes'), await aim('careful'), mms],
    phones: { aim: readPhones(journals.cmpp), mms: readPhones(journals.mm7) },
    audit: { isClean: exitCode === 0, output },
    queued,
    forgottenReports,
    inDoubt: {
      counted: nodes.reduce((sum, node) => sum + node.inDoubt(), 0),
      uncounted: nodes.reduce((sum, node) => sum + node.kills(), 0) * reservation * (cmppConnections + mm7Connections),
    },
    mishaps,
  };
}
