/** Walks the counters of frequency caps, a stretch at a time, and deletes those that no cap counts any more. */
import { type CounterKey, purgeCounters } from '../../core/screening/caps.ts';
import type { Db } from '../../db/db.ts';
import type { Task } from './task.ts';

/** Counters checked in a second, and the pause after each full round. */
const perLook = 5000;
const betweenRoundsMs = 600_000;

export function createCapCountersTask({ db, clock }: { db: Db; clock: () => Date }): Task {
  let looked: CounterKey | null = null;
  let nextRoundAt = 0;
  return {
    name: 'counters of caps',
    everyMs: 1000,
    async *portions() {
      const at = clock();
      if (at.getTime() < nextRoundAt) return;
      looked = await purgeCounters(db.sql, looked, perLook, at);
      if (!looked) nextRoundAt = at.getTime() + betweenRoundsMs;
      yield 0;
    },
  };
}
