/** Rejects items that have been in review too long. */
import type { Directory } from '../../core/config/directory.ts';
import type { Signals } from '../../core/config/signals.ts';
import { expireReviews } from '../../core/intake/review.ts';
import type { Db } from '../../db/db.ts';
import type { Task } from './task.ts';

/** Each may have 10,000 messages. */
const perTransaction = 10;

export const createReviewsTask = (deps: { db: Db; directory: Directory; signals: Signals; clock: () => Date }): Task => ({
  name: 'reviews',
  everyMs: 60_000,
  async *portions() {
    let hasEnded = false;
    try {
      for (let n: number = perTransaction; n === perTransaction; ) {
        n = await expireReviews(deps, deps.clock(), perTransaction);
        hasEnded ||= n > 0;
        yield n;
      }
    } finally {
      if (hasEnded) deps.signals.emit('push');
    }
  },
});
