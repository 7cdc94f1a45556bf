/**
 * Pushes events to customers' servers. A push claims its events and commits, then posts, then records the result. The dialect's rules say
 * how it pushes, and what follows a failure.
 *
 * Every endpoint has its own queue with a bounded number of pushes under way, so a slow or dead server does not delay the others:
 * endpoints share this process, but not their slots. A breaker pauses an endpoint that has stopped answering: nothing is claimed until the
 * pause is over, then a single event tests whether the server answers again.
 *
 * Results are written together, a few milliseconds' worth at a time.
 */
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Directory } from '../core/config/directory.ts';
import type { DialectRules, PushBody } from '../core/model/dialect.ts';
import type { Endpoint, Parcel } from '../core/events/owed.ts';
import type { Fate, Load, LostClaim, Pushes, PushClaim, PushResult } from '../core/events/pushed.ts';
import type { Signals } from '../core/config/signals.ts';
import type { Log } from '../log.ts';
import type { Answer, Post } from './post.ts';

export interface Pusher {
  start(): void;
  stop(): Promise<void>;
}

export interface PusherDeps {
  readonly outbox: Pushes;
  readonly directory: Directory;
  readonly signals: Signals;
  readonly post: Post;
  readonly log: Log;
  readonly clock: () => Date;
  count(what: 'pushed' | 'pushFailed', n: number): void;
}

const pollMs = 1000;
/** Events gather this long before a push. */
const gatherMs = 200;
const mostLines = 1000;
/** For an endpoint that takes one event per push: how many rounds of its slots are claimed at once, while it is quick. */
const roundsPerClaim = 8;
const quickMs = 1000;
/** While one claim is written, the other is pushed. */
const claimsAtOnce = 2;

const flushDelayMs = 4;
const mostPerFlush = 1000;
const settleTries = 100;
const settleRetryMs = 300;

/** A push without an answer, one with the wrong answer, and how much of either in a row opens the breaker. */
const weight = { silent: 5, wrong: 1 } as const;
const weightToOpen = 100;
const openMs = 15_000;

/** What is known about an endpoint's health. */
interface Breaker {
  weight: number;
  /** Monotonic; while it lies ahead nothing is claimed. */
  openUntil: number;
}

export function createPusher({ outbox, directory, signals, post, log, clock, count }: PusherDeps): Pusher {
  const lines = new Map<string, Promise<void>>();
  const breakers = new Map<string, Breaker>();
  const servedAt = new Map<string, number>();
  let turn = 0;
  let timer: NodeJS.Timeout | undefined;
  let soon: NodeJS.Timeout | undefined;
  let looking: Promise<void> | undefined;
  let stopping = false;

  const keyOf = ({ accountId, dialect, owner, kind }: Endpoint): string => `${accountId}/${dialect}/${owner}/${kind}`;

  /** The outbox lists only endpoints and claims in dialects that this node knows. */
  function rulesOf({ dialect }: Endpoint): DialectRules {
    const rules = directory.dialects.rules.get(dialect);
    if (!rules) throw new Error(`dialect ${dialect} is not known`);
    return rules;
  }

  /** What a failed try means for an event, by the number of its tries. */
  function afterFailure({ canPull, push }: DialectRules, tries: number): Fate {
    const delay = push.delaysSeconds(directory.settings())[tries - 1];
    if (delay !== undefined) return { kind: 'again', at: new Date(clock().getTime() + delay * 1000) };
    return { kind: canPull ? 'pull' : 'failed' };
  }

  // ── results ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  let results: { readonly result: PushResult; done(): void }[] = [];
  let flushing = false;

  /** Resolves once the result is committed, or once it cannot be committed any more: then the claim runs out and is found. */
  function settle(result: PushResult): Promise<void> {
    return new Promise((done) => {
      results.push({ result, done });
      if (!flushing) void flushAll();
    });
  }

  async function flushAll(): Promise<void> {
    flushing = true;
    while (results.length > 0) {
      await sleep(flushDelayMs);
      const batch = results.splice(0, mostPerFlush);
      for (let tries = 1; ; tries++) {
        try {
          await outbox.settle(batch.map(({ result }) => result));
          break;
        } catch (error) {
          log.error({ err: error, results: batch.length }, 'the results of pushes could not be recorded');
          if (tries >= settleTries) break;
          await sleep(settleRetryMs);
        }
      }
      for (const { done } of batch) done();
    }
    flushing = false;
  }

  // ── one endpoint ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Pushes to one endpoint until nothing is due for it. */
  async function work(endpoint: Endpoint): Promise<void> {
    const rules = rulesOf(endpoint);
    const key = keyOf(endpoint);
    const breaker = breakers.get(key) ?? { weight: 0, openUntil: 0 };
    breakers.set(key, breaker);
    const { rowsPerPush, pushConcurrency } = directory.settings();
    const alone = rules.push.carries === 'many';
    const slots = createSlots(alone ? 1 : pushConcurrency);
    const isProbe = breaker.weight >= weightToOpen;

    async function feed(): Promise<void> {
      let rounds = 1;
      while (!stopping && breaker.openUntil <= performance.now()) {
        const limit = isProbe && breaker.weight > 0 ? 1 : alone ? rowsPerPush : pushConcurrency * rounds;
        const began = performance.now();
        const claim = await outbox.claim(endpoint, limit);
        if (!claim) return;
        await pushAll(claim, rules, breaker, slots, began + claim.sendWithinMs);
        if (sizeOf(claim.loads.flatMap(({ parcels }) => parcels)) < limit) return; // let the next ones gather
        rounds = performance.now() - began < quickMs ? Math.min(rounds * 2, roundsPerClaim) : 1;
      }
    }

    await Promise.all(Array.from({ length: alone || isProbe ? 1 : claimsAtOnce }, feed));
    if (breaker.weight === 0) breakers.delete(key);
  }

  async function pushAll(claim: PushClaim, rules: DialectRules, breaker: Breaker, slots: Slots, deadline: number): Promise<void> {
    await Promise.all(
      claim.loads.map(async (load) => {
        const result = await slots.use(() => push(claim, load, rules, breaker, deadline));
        await settle(result);
      }),
    );
  }

  async function push(
    { id: claimId, endpoint, url }: PushClaim,
    { parcels, events }: Load,
    rules: DialectRules,
    breaker: Breaker,
    deadline: number,
  ): Promise<PushResult> {
    const body = bodyOf(rules, events);
    if (!body) return { claimId, endpoint, parcels, fate: { kind: 'pull' }, attempt: null };
    const now = performance.now();
    if (stopping || now > deadline || breaker.openUntil > now)
      return { claimId, endpoint, parcels, fate: { kind: 'unsent' }, attempt: null };

    const startedAt = clock();
    const { status, text } = await post(url, body.contentType, body.body);
    const isSuccess = status !== null && rules.push.isSuccess({ status, text });
    heard(endpoint, rules, breaker, isSuccess, status);
    const fate: Fate = isSuccess ? { kind: 'done' } : afterFailure(rules, parcels[0]?.tries ?? 1);
    count(isSuccess ? 'pushed' : 'pushFailed', sizeOf(parcels));
    return { claimId, endpoint, parcels, fate, attempt: { url, startedAt, status, answer: text } };
  }

  /** A dialect that falls back to pull at once needs no breaker: events that it cannot push leave the queue. */
  function heard(
    endpoint: Endpoint,
    { canPull, push }: DialectRules,
    breaker: Breaker,
    isSuccess: boolean,
    status: Answer['status'],
  ): void {
    if (isSuccess || (canPull && push.delaysSeconds(directory.settings()).length === 0)) {
      breaker.weight = 0;
      breaker.openUntil = 0;
      return;
    }
    breaker.weight += status === null ? weight.silent : weight.wrong;
    if (breaker.weight < weightToOpen || breaker.openUntil > performance.now()) return;
    // Short schedules must not wait for a long pause.
    const [firstDelay = openMs / 1000] = push.delaysSeconds(directory.settings());
    breaker.openUntil = performance.now() + Math.min(openMs, firstDelay * 250);
    log.warn({ account: String(endpoint.accountId), kind: endpoint.kind, status }, 'the customer’s server does not take pushes; pausing');
  }

  /** Handles the claims of a process that was lost during its pushes. Each counts as a try; whether it arrived is not known. */
  function judgeLost({ id: claimId, endpoint, parcels }: LostClaim): PushResult[] {
    const rules = rulesOf(endpoint);
    const attempt = { url: '', startedAt: clock(), status: null, answer: 'the process that pushed was lost' };
    const loads = rules.push.carries === 'one' ? parcels.map((parcel) => [parcel]) : [parcels];
    return loads.map((parcels) => ({ claimId, endpoint, parcels, fate: afterFailure(rules, parcels[0]?.tries ?? 1), attempt }));
  }

  // ── all endpoints ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

  async function look(): Promise<void> {
    const lost = await outbox.recover(judgeLost);
    if (lost > 0) log.warn({ events: lost }, 'recorded the pushes of a lost process as unanswered');
    const endpoints = (await outbox.due()).map((endpoint) => ({ endpoint, key: keyOf(endpoint) }));
    // The endpoint that was served longest ago goes first, so that more endpoints than lines take turns.
    endpoints.sort((a, b) => (servedAt.get(a.key) ?? 0) - (servedAt.get(b.key) ?? 0));
    for (const { endpoint, key } of endpoints) {
      if (stopping || lines.has(key) || lines.size >= mostLines) continue;
      servedAt.set(key, ++turn);
      if ((breakers.get(key)?.openUntil ?? 0) > performance.now()) continue;
      const running = work(endpoint)
        .catch((error: unknown) => log.error({ err: error, account: String(endpoint.accountId), kind: endpoint.kind }, 'pushing failed'))
        .finally(() => lines.delete(key));
      lines.set(key, running);
    }
  }

  const lookOnce = (): void => {
    looking ??= look()
      .catch((error: unknown) => log.error({ err: error }, 'looking for events to push failed'))
      .finally(() => {
        looking = undefined;
      });
  };

  return {
    start() {
      timer = setInterval(lookOnce, pollMs);
      signals.on('push', () => {
        if (stopping) return;
        soon ??= setTimeout(() => {
          soon = undefined;
          lookOnce();
        }, gatherMs);
      });
    },
    async stop() {
      stopping = true;
      clearInterval(timer);
      clearTimeout(soon);
      await looking;
      await Promise.all(lines.values());
    },
  };
}

const sizeOf = (parcels: readonly Parcel[]): number => parcels.reduce((sum, { size }) => sum + size, 0);

/** What a push says; null if the dialect has no form for these events. */
function bodyOf({ push }: DialectRules, events: Load['events']): PushBody | null {
  if (events.kind === 'report') return push.report(events.reports);
  if (events.kind === 'reply') return push.reply(events.replies);
  const [audit] = events.audits;
  return (audit && push.audit?.(audit)) ?? null;
}

interface Slots {
  use<T>(work: () => Promise<T>): Promise<T>;
}

/** Limits how many pieces of work run at once; the others wait. */
function createSlots(count: number): Slots {
  let free = count;
  const waiting: (() => void)[] = [];
  return {
    async use(work) {
      if (free > 0) free--;
      else await new Promise<void>((resolve) => waiting.push(resolve));
      try {
        return await work();
      } finally {
        const next = waiting.shift();
        if (next) next();
        else free++;
      }
    },
  };
}
