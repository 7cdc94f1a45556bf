/**
 * Customers' programs that submit, pull and take pushes while everything around them is killed. They record exactly the answers they got,
 * and record an answer that never came as such.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { callMms, type Client, clientOf, Refused, type ReplyRow, type ReportRow } from '../kit/customers.ts';
import type { AimCustomer, MmsCustomer } from '../kit/operator.ts';
import type { Random } from './random.ts';

/** What a customer knows of one request. */
export interface Request {
  readonly numbers: readonly string[];
  /** Billed segments of each message. */
  readonly segments: number;
  /** `unknown`: it was sent, and no answer came; it may have been accepted whole, or not at all. */
  readonly outcome: 'accepted' | 'refused' | 'unknown';
  readonly taskId: string | null;
  /** What the answer said, or why there was none. */
  readonly said: string;
}

export interface Pull {
  readonly kind: 'report' | 'reply';
  /** When it was sent, and when its answer came or was given up; milliseconds since 1970. */
  readonly from: number;
  readonly to: number;
  readonly outcome: 'answered' | 'refused' | 'lost';
  readonly reports: readonly ReportRow[];
  readonly replies: readonly ReplyRow[];
}

export interface Diary {
  readonly requests: readonly Request[];
  readonly pulls: readonly Pull[];
}

export interface Program {
  readonly diary: Diary;
  /** No more submits; resolves when the last has been answered or given up. */
  stopSubmitting(): Promise<void>;
  stopPulling(): Promise<void>;
  /** Pulls once more, until there is nothing. */
  goOnPulling(): void;
}

/** What all programs of a run share. */
export interface World {
  readonly ports: readonly number[];
  readonly numbers: Numbers;
  /** Called when a request leaves for a node. */
  sending(port: number): void;
  /** Whether the platform has more than enough to do: then only single messages are submitted. */
  isBusy(): boolean;
}

// ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Mainland numbers, none twice in a run, some of them with a fate at the simulated carriers. */
export interface Numbers {
  take(count: number, fates: readonly string[], random: Random): string[];
}

const shareOfFates = 0.06;
const prefixes = ['135', '136', '137', '138', '139', '150', '151', '152', '157', '158', '159'];

export function createNumbers(): Numbers {
  let plain = 0;
  let special = 0;
  const of = (n: number, tail: string): string => {
    const prefix = prefixes[Math.floor(n / 10_000)];
    if (prefix === undefined) throw new Error('a run has used up its numbers');
    return prefix + String(n % 10_000).padStart(4, '0') + tail;
  };
  return {
    take: (count, fates, random) =>
      Array.from({ length: count }, () => {
        if (fates.length > 0 && random.chance(shareOfFates)) return of(special++, random.pick(fates));
        const n = plain++;
        return of(Math.floor(n / 9000), String(1000 + (n % 9000)));
      }),
  };
}

/** How many at once: mostly one, sometimes thousands. */
function sizeOf(random: Random, isBusy: boolean, most: number): number {
  const dice = random.next();
  if (dice < 0.6 || isBusy) return 1;
  if (dice < 0.85) return random.between(2, 50);
  if (dice < 0.98) return random.between(100, 1500);
  return random.between(Math.min(2000, most), most);
}

// ── calls that may get no answer ─────────────────────────────────────────────────────────────────────────────────────────────────

/** Nobody listened: the request was certainly not heard. */
function wasNotSent(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  return code === 'ECONNREFUSED' || code === 'UND_ERR_CONNECT_TIMEOUT';
}

const wordsOf = (error: unknown): string =>
  error instanceof Error ? `${error.message}${error.cause instanceof Error ? ` (${error.cause.message})` : ''}` : String(error);

const retryMs = 150;
const pauseMs = [5, 120] as const;
/** A customer's patience with a lost answer: how likely he asks again, under the same key. */
const asksAgain = 0.7;

type Answer = { readonly kind: 'accepted'; readonly taskId: string } | { readonly kind: 'refused' };

/**
 * Submits until it is known what became of it, or until the customer loses interest. `send` throws what means "no answer"; a
 * refusal after an answer that was lost tells only about the repeat.
 */
async function submitOnce(
  world: World,
  random: Random,
  { canRepeat, isStopped }: { canRepeat: boolean; isStopped: () => boolean },
  send: (port: number) => Promise<Answer & { readonly said: string }>,
): Promise<Pick<Request, 'outcome' | 'taskId' | 'said'>> {
  let wasLost = false;
  let said = 'nobody was there';
  for (let tries = 0; ; tries++) {
    try {
      const port = random.pick(world.ports);
      world.sending(port);
      const answer = await send(port);
      if (answer.kind === 'accepted') return { outcome: 'accepted', taskId: answer.taskId, said: answer.said };
      if (!wasLost) return { outcome: 'refused', taskId: null, said: answer.said };
      said += `; then ${answer.said}`;
    } catch (error) {
      if (!wasNotSent(error)) {
        wasLost = true;
        said = wordsOf(error);
      }
    }
    if (wasLost && (!canRepeat || (tries === 0 && !random.chance(asksAgain)))) return { outcome: 'unknown', taskId: null, said };
    if (!wasLost && isStopped()) return { outcome: 'refused', taskId: null, said };
    await sleep(retryMs);
  }
}

// ── AIM ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Fates by the last four digits, see simulators/fates.ts. */
const aimFates = ['0001', '0002', '0003', '0004', '0005', '0006', '0007', '0009', '0010', '0011', '0012'];
const short = { content: '【鸿雁】您有一张优惠券 $url$', segments: 1 };
const long = { content: `【鸿雁】${'您的账单已经出来了，请点开查看。'.repeat(4)} $url$`, segments: 2 };
const pullEveryMs = 25;
const aimMost = 5000;

export function startAimProgram(world: World, random: Random, customer: AimCustomer, workers: number): Program {
  const requests: Request[] = [];
  const pulls: Pull[] = [];
  const clients = new Map<number, Client>(world.ports.map((port) => [port, clientOf({ port }, customer)]));
  const clientAt = (port: number): Client => clients.get(port) ?? clientOf({ port }, customer);
  let isStopped = false;
  let isPulling = false;

  async function work(): Promise<void> {
    while (!isStopped) {
      const isBusy = world.isBusy();
      const numbers = world.numbers.take(sizeOf(random, isBusy, aimMost), aimFates, random);
      const { content, segments } = random.chance(0.15) ? long : short;
      const key = random.chance(0.6) ? `${customer.spId} ${requests.length} ${random.next()}` : undefined;
      const result = await submitOnce(world, random, { canRepeat: key !== undefined, isStopped: () => isStopped }, async (port) => {
        const { code, msg, msgId } = await clientAt(port).submit(numbers, { content, ...(key !== undefined && { key }) });
        return code === 0 ? { kind: 'accepted', taskId: msgId, said: msg } : { kind: 'refused', said: `${code} ${msg}` };
      });
      requests.push({ numbers, segments, ...result });
      await sleep(random.between(...pauseMs));
    }
  }

  async function pullAll(kind: Pull['kind']): Promise<void> {
    while (isPulling) {
      const port = random.pick(world.ports);
      const client = clientAt(port);
      const from = Date.now();
      world.sending(port);
      const got = { reports: [] as ReportRow[], replies: [] as ReplyRow[] };
      let outcome: Pull['outcome'] | null = 'answered';
      try {
        if (kind === 'report') got.reports = await client.reports();
        else got.replies = await client.replies();
      } catch (error) {
        outcome = error instanceof Refused ? 'refused' : wasNotSent(error) ? null : 'lost';
      }
      const count = got.reports.length + got.replies.length;
      if (outcome !== null && (outcome !== 'answered' || count > 0)) pulls.push({ kind, from, to: Date.now(), outcome, ...got });
      if (count < 1000) await sleep(pullEveryMs);
    }
  }

  const submitting = Promise.all(Array.from({ length: workers }, work));
  submitting.catch(() => {}); // whoever waits for it is told
  let pulling: Promise<unknown> = Promise.resolve();
  const goOnPulling = (): void => {
    isPulling = true;
    pulling = Promise.all([pullAll('report'), pullAll('reply')]);
    pulling.catch(() => {});
  };
  goOnPulling();
  return {
    diary: { requests, pulls },
    async stopSubmitting() {
      isStopped = true;
      await submitting;
    },
    async stopPulling() {
      isPulling = false;
      await pulling;
    },
    goOnPulling,
  };
}

// ── MMS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Fates by the last four digits, see simulators/fates.ts. */
const mmsFates = ['0001', '0003', '0007', '0009', '0010', '0012'];
const mmsMost = 3000;
/** One pixel. */
const png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const content = [
  [
    { con_type: 'text', ext_type: 'txt', data: '周末开盘' },
    { con_type: 'image', ext_type: 'png', data: png },
  ],
];

export function startMmsProgram(world: World, random: Random, customer: MmsCustomer, workers: number): Program {
  const requests: Request[] = [];
  let isStopped = false;

  async function work(): Promise<void> {
    while (!isStopped) {
      const isBusy = world.isBusy();
      const numbers = world.numbers.take(sizeOf(random, isBusy, mmsMost), mmsFates, random);
      const requestId = `${requests.length} ${random.next()}`;
      const { productId, signName } = customer;
      const result = await submitOnce(world, random, { canRepeat: true, isStopped: () => isStopped }, async (port) => {
        const request = { request_id: requestId, product_id: productId, phone: numbers, sign_name: signName, title: '开盘通知', content };
        try {
          const answer = await callMms({ port }, customer, 'batchSend', request);
          return { kind: 'accepted', taskId: String(answer['task_id']), said: 'OK' };
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          // A repeat is told what the first request was given.
          if (error.code === 'RequestDuplicated') return { kind: 'accepted', taskId: String(error.answer['task_id']), said: error.message };
          return { kind: 'refused', said: error.message };
        }
      });
      requests.push({ numbers, segments: 1, ...result });
      await sleep(random.between(...pauseMs) * 2);
    }
  }

  const submitting = Promise.all(Array.from({ length: workers }, work));
  submitting.catch(() => {}); // whoever waits for it is told
  return {
    diary: { requests, pulls: [] },
    async stopSubmitting() {
      isStopped = true;
      await submitting;
    },
    async stopPulling() {},
    goOnPulling() {},
  };
}
