/** Ends messages whose report is overdue. */
import type { Directory } from '../../core/config/directory.ts';
import { overdueEndedBefore, setOverdueEndedBefore } from '../../core/config/settings.ts';
import type { Signals } from '../../core/config/signals.ts';
import { expire, findOverdue, waitingSince } from '../../core/outcome/messages.ts';
import type { Retention } from '../../core/watch/retention.ts';
import type { Db } from '../../db/db.ts';
import { addDays, shanghaiDay } from '../../std/shanghai.ts';
import type { Task } from './task.ts';

/** A message may be sent up to three days (the longest time to live) after the day it was planned for, and one for midnights. */
const daysLooked = 4;
const perTransaction = 5000;
/** A search for overdue messages reads a whole day, so one search takes many. */
const perLook = 100_000;
/** Allows for clock differences between nodes: a message sent after a search has a send time at most this much before the search. */
const clockSlackMs = 3600_000;

export function createOverdueReportsTask(deps: {
  db: Db;
  directory: Directory;
  retention: Pick<Retention, 'oldestDay'>;
  signals: Signals;
  clock: () => Date;
}): Task {
  const { db, directory, retention, signals, clock } = deps;
  /** For each day, no message that waits for its report was sent before this time. Until it is overdue, a search finds nothing. */
  const openSince = new Map<string, Date>();

  async function* endDay(day: string, sentBefore: Date, at: Date): AsyncGenerator<number, void> {
    for (let n: number = perLook; n === perLook; ) {
      const found = await findOverdue(db.sql, day, sentBefore, perLook);
      n = found.length;
      for (let i = 0; i < n; i += perTransaction)
        yield await db.transaction((sql) => expire(sql, directory, day, found.slice(i, i + perTransaction), at));
    }
    const later = new Date(at.getTime() - clockSlackMs);
    const open = await waitingSince(db.sql, day);
    openSince.set(day, open !== null && open < later ? open : later);
    yield 0;
  }

  return {
    name: 'overdue reports',
    everyMs: 600_000,
    async *portions() {
      const at = clock();
      const sentBefore = new Date(at.getTime() - directory.settings().reportWithinHours * 3600_000);
      const last = shanghaiDay(sentBefore);
      const usual = addDays(last, -daysLooked);
      // Goes further back only after a time without a janitor: each search ends a day, and the place where it began is kept.
      const kept = (await overdueEndedBefore(db.sql)) ?? (await retention.oldestDay());
      const first = kept < usual ? kept : usual;
      for (const day of openSince.keys()) if (day < first) openSince.delete(day);
      let hasEnded = false;
      try {
        for (let day = first; day <= last; day = addDays(day, 1)) {
          const known = openSince.get(day);
          if (known !== undefined && known >= sentBefore) continue;
          for await (const n of endDay(day, sentBefore, at)) {
            hasEnded ||= n > 0;
            yield n;
          }
        }
      } finally {
        if (hasEnded) signals.emit('push');
      }
      await setOverdueEndedBefore(db.sql, usual);
    },
  };
}
