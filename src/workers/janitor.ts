/**
 * What must happen without anybody asking: partitions ahead, statistics early, messages without a report ended in time, old
 * request ids and counters forgotten. Every task is idempotent and may run on several nodes at once.
 */
import { purgeRequestIds } from '../core/batches.ts';
import { type CounterKey, purgeCounters } from '../core/caps.ts';
import type { Directory } from '../core/directory.ts';
import { expireOverdue } from '../core/messages.ts';
import type { Retention } from '../core/retention.ts';
import { expireReviews } from '../core/review.ts';
import { overdueEndedBefore, setOverdueEndedBefore } from '../core/settings.ts';
import type { Signals } from '../core/signals.ts';
import type { Db } from '../db/db.ts';
import type { Log } from '../log.ts';
import { addDays, shanghaiDay } from '../std/shanghai.ts';

export interface Janitor {
  start(): void;
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

  /** Runs a task now and then, never twice at once, and lets nothing out. */
  function every(name: string, ms: number, task: () => Promise<unknown>): void {
    const run = (): void => {
      if (running.has(name)) return;
      const work = task()
        .catch((error: unknown) => log.error({ err: error, task: name }, 'a task of the janitor failed; it will be tried again'))
        .finally(() => running.delete(name));
      running.set(name, work);
    };
    timers.push(setInterval(run, ms));
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

  async function overdue(): Promise<number> {
    const at = clock();
    const sentBefore = new Date(at.getTime() - directory.settings().reportWithinHours * 3600_000);
    const last = shanghaiDay(sentBefore);
    const usual = addDays(last, -daysLooked);
    // Further back only after a time without a janitor: each look ends a day, and where it began is kept.
    const kept = (await overdueEndedBefore(db.sql)) ?? (await retention.oldestDay());
    let total = 0;
    for (let day = kept < usual ? kept : usual; day <= last; day = addDays(day, 1)) {
      for (let n = perTransaction; n === perTransaction; total += n)
        n = await db.transaction((sql) => expireOverdue(sql, directory, day, sentBefore, perTransaction, at));
    }
    await setOverdueEndedBefore(db.sql, usual);
    if (total > 0) signals.emit('push');
    return total;
  }

  async function expireReviewsNow(): Promise<number> {
    let total = 0;
    for (let n = reviewsPerTransaction; n === reviewsPerTransaction; total += n)
      n = await expireReviews({ db, directory }, clock(), reviewsPerTransaction);
    if (total > 0) signals.emit('push');
    return total;
  }

  return {
    start() {
      every('partitions', 3600_000, () => retention.makePartitions());
      every('statistics', 2000, () => retention.analyzeToday());
      every('overdue reports', 600_000, overdue);
      every('reviews', 60_000, expireReviewsNow);
      every('request ids', 60_000, () => purgeRequestIds(db.sql, clock()));
      every('counters of caps', 1000, purgeNextCounters);
    },
    async stop() {
      for (const timer of timers) clearInterval(timer);
      await Promise.all(running.values());
    },
    expireOverdue: overdue,
    expireReviews: expireReviewsNow,
  };
}
