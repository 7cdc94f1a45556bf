/** Runs the periodic tasks; each has a file in this folder. Every task is idempotent and may run on several nodes at once. */
import type { Directory } from '../../core/config/directory.ts';
import type { Signals } from '../../core/config/signals.ts';
import type { Retention } from '../../core/watch/retention.ts';
import type { Db } from '../../db/db.ts';
import type { Log } from '../../log.ts';
import { createCapCountersTask } from './cap-counters.ts';
import { createOldDaysTask } from './old-days.ts';
import { createOverdueReportsTask } from './overdue-reports.ts';
import { createPartitionsTask } from './partitions.ts';
import { createRequestIdsTask } from './request-ids.ts';
import { createReviewsTask } from './reviews.ts';
import { createStatisticsTask } from './statistics.ts';
import type { Task } from './task.ts';

export interface Janitor {
  start(): void;
  /** Stops every task after its current portion. */
  stop(): Promise<void>;
  /** Ends messages whose report is overdue; returns how many. */
  expireOverdue(): Promise<number>;
  /** Rejects items that have been in review too long; returns how many. */
  expireReviews(): Promise<number>;
}

/** How long after its start a node first runs the tasks: other nodes may have left work undone. */
const firstMs = 5000;

export function createJanitor(deps: {
  db: Db;
  directory: Directory;
  retention: Retention;
  signals: Signals;
  log: Log;
  clock: () => Date;
}): Janitor {
  const { retention, log } = deps;
  const overdueReports = createOverdueReportsTask(deps);
  const reviews = createReviewsTask(deps);
  const tasks: readonly Task[] = [
    createPartitionsTask(retention),
    createStatisticsTask(retention),
    overdueReports,
    createOldDaysTask(deps),
    reviews,
    createRequestIdsTask(deps),
    createCapCountersTask(deps),
  ];
  const timers: NodeJS.Timeout[] = [];
  const running = new Map<Task, Promise<unknown>>();
  let stopping = false;

  /** Does portions until there are no more, or until the janitor stops; returns how many things were ended. */
  async function run(task: Task): Promise<number> {
    let total = 0;
    for await (const n of task.portions(() => stopping)) {
      total += n;
      if (stopping) break;
    }
    return total;
  }

  /** Begins a task unless it is running; never throws. */
  function begin(task: Task): void {
    if (running.has(task)) return;
    const work = run(task)
      .catch((error: unknown) => log.error({ err: error, task: task.name }, 'a task of the janitor failed; it will be tried again'))
      .finally(() => running.delete(task));
    running.set(task, work);
  }

  return {
    start() {
      // Once soon, for a node that never lives long; then periodically.
      for (const task of tasks)
        timers.push(setTimeout(begin, Math.min(task.everyMs, firstMs), task), setInterval(begin, task.everyMs, task));
    },
    async stop() {
      stopping = true;
      for (const timer of timers) clearTimeout(timer); // of either kind
      await Promise.all(running.values());
    },
    expireOverdue: () => run(overdueReports),
    expireReviews: () => run(reviews),
  };
}
