/**
 * What must happen without anybody asking: partitions ahead, statistics early, messages without a report ended in time, reviews that
 * nobody decides on rejected, old days dropped and what belonged to them purged, old request ids and counters forgotten. Every task is
 * idempotent and may run on several nodes at once.
 */
import { purgeRequestIds } from '../core/queue/batches.ts';
import { type CounterKey, purgeCounters } from '../core/screening/caps.ts';
import type { Directory } from '../core/config/directory.ts';
import { expire, findOverdue, waitingSince } from '../core/outcome/messages.ts';
import type { Retention } from '../core/watch/retention.ts';
import { expireReviews } from '../core/intake/review.ts';
import { overdueEndedBefore, setOverdueEndedBefore } from '../core/config/settings.ts';
import type { Signals } from '../core/config/signals.ts';
import type { Db } from '../db/db.ts';
import type { Log } from '../log.ts';
import { addDays, shanghaiDay } from '../std/shanghai.ts';

export interface Janitor {
  start(): void;
  /** Ends every task after the portion it is at. */
  stop(): Promise<void>;
  /** Ends messages whose report is overdue; returns how many. */
  expireOverdue(): Promise<number>;
  /** Rejects what has waited for a person too long; returns how many items. */
  expireReviews(): Promise<number>;
}

/** A message may be sent up to three days (the longest time to live) after the day it was planned for, and one for midnights. */
const daysLooked = 4;
const perTransaction = 5000;
/** Each may have 10,000 messages. */
const reviewsPerTransaction = 10;
/** Counters of frequency caps looked at in a second, and the rest after each round of all of them. */
const countersPerLook = 5000;
const betweenRoundsMs = 600_000;
/** Looking for overdue messages reads all of a day, so one look takes many. */
const perLook = 100_000;
/** What is sent after a look was sent no earlier than this before it, whatever the clocks of the nodes say. */
const clockSlackMs = 3600_000;

/** How long after its start a node first looks at what others may have left undone. */
const firstMs = 5000;

export function createJanitor(deps: {
  db: Db;
  directory: Directory;
  retention: Retention;
  signals: Signals;
  log: Log;
  clock: () => Date;
}): Janitor {
  const { db, directory, retention, signals, log, clock } = deps;
  const timers: NodeJS.Timeout[] = [];
  const running = new Map<string, Promise<unknown>>();
  let stopping = false;
  const isStopping = (): boolean => stopping;

  /** Runs a task soon, for a node that never lives long, and then now and then; never twice at once; and lets nothing out. */
  function every(name: string, ms: number, task: () => Promise<unknown>): void {
    const run = (): void => {
      if (running.has(name)) return;
      const work = task()
        .catch((error: unknown) => log.error({ err: error, task: name }, 'a task of the janitor failed; it will be tried again'))
        .finally(() => running.delete(name));
      running.set(name, work);
    };
    timers.push(setTimeout(run, Math.min(ms, firstMs)), setInterval(run, ms));
  }

  let looked: CounterKey | null = null;
  let nextRoundAt = 0;
  /** Walks the counters of frequency caps, a stretch at a time. */
  async function purgeNextCounters(): Promise<void> {
    const at = clock();
    if (at.getTime() < nextRoundAt) return;
    looked = await purgeCounters(db.sql, looked, countersPerLook, at);
    if (!looked) nextRoundAt = at.getTime() + betweenRoundsMs;
  }
  /** No message of a day that waits for its report was sent before this: so long a look finds nothing. */
  const openSince = new Map<string, Date>();

  async function overdue(): Promise<number> {
    const at = clock();
    const sentBefore = new Date(at.getTime() - directory.settings().reportWithinHours * 3600_000);
    const last = shanghaiDay(sentBefore);
    const usual = addDays(last, -daysLooked);
    // Further back only after a time without a janitor: each look ends a day, and where it began is kept.
    const kept = (await overdueEndedBefore(db.sql)) ?? (await retention.oldestDay());
    const first = kept < usual ? kept : usual;
    for (const day of openSince.keys()) if (day < first) openSince.delete(day);
    let total = 0;
    for (let day = first; day <= last && !stopping; day = addDays(day, 1)) {
      const known = openSince.get(day);
      if (known !== undefined && known >= sentBefore) continue;
      for (let n: number = perLook; n === perLook && !stopping; ) {
        const found = await findOverdue(db.sql, day, sentBefore, perLook);
        n = found.length;
        for (let i = 0; i < n && !stopping; i += perTransaction)
          total += await db.transaction((sql) => expire(sql, directory, day, found.slice(i, i + perTransaction), at));
      }
      const later = new Date(at.getTime() - clockSlackMs);
      const open = await waitingSince(db.sql, day);
      openSince.set(day, open !== null && open < later ? open : later);
    }
    if (total > 0) signals.emit('push');
    if (!stopping) await setOverdueEndedBefore(db.sql, usual);
    return total;
  }

  async function expireReviewsNow(): Promise<number> {
    let total = 0;
    for (let n = reviewsPerTransaction; n === reviewsPerTransaction; total += n)
      n = await expireReviews({ db, directory }, clock(), reviewsPerTransaction);
    if (total > 0) signals.emit('push');
    return total;
  }

  let reported = '';

  /** Drops old days and what belonged to them; says once which of them must stay, and why. */
  async function retire(): Promise<void> {
    const { dropped, kept } = await retention.dropDays(directory.settings(), isStopping);
    if (dropped.length > 0) log.info({ days: dropped }, 'dropped days past retention');
    const standing = JSON.stringify([...kept]);
    if (kept.size > 0 && standing !== reported)
      log.warn(
        { days: Object.fromEntries(kept) },
        'days past retention stay: they have unfinished messages, awaited events, or tables in use',
      );
    reported = standing;
    const purged = await retention.purge(directory.settings(), isStopping);
    if (purged > 0) log.info({ purged }, 'purged data that belonged to dropped days');
  }

  async function requestIds(): Promise<void> {
    for (let n: number = perTransaction; n === perTransaction && !stopping; )
      n = await db.transaction((sql) => purgeRequestIds(sql, clock(), perTransaction));
  }

  return {
    start() {
      every('partitions', 3600_000, () => retention.makePartitions());
      every('statistics', 2000, () => retention.analyzeToday());
      every('overdue reports', 600_000, overdue);
      every('old days', 600_000, retire);
      every('reviews', 60_000, expireReviewsNow);
      every('request ids', 60_000, requestIds);
      every('counters of caps', 1000, purgeNextCounters);
    },
    async stop() {
      stopping = true;
      for (const timer of timers) clearTimeout(timer); // of either kind
      await Promise.all(running.values());
    },
    expireOverdue: overdue,
    expireReviews: expireReviewsNow,
  };
}
