/** Drops days past retention, then purges the rows that belonged to them. Logs once which days must stay, and why. */
import type { Directory } from '../../core/config/directory.ts';
import type { Retention } from '../../core/watch/retention.ts';
import type { Log } from '../../log.ts';
import type { Task } from './task.ts';

export function createOldDaysTask(deps: { directory: Directory; retention: Pick<Retention, 'dropDays' | 'purge'>; log: Log }): Task {
  const { directory, retention, log } = deps;
  let reported = '';
  return {
    name: 'old days',
    everyMs: 600_000,
    async *portions(isStopping) {
      const { dropped, kept } = await retention.dropDays(directory.settings(), isStopping);
      if (dropped.length > 0) log.info({ days: dropped }, 'dropped days past retention');
      const standing = JSON.stringify([...kept]);
      if (kept.size > 0 && standing !== reported)
        log.warn(
          { days: Object.fromEntries(kept) },
          'days past retention stay: they have unfinished messages, awaited events, or tables in use',
        );
      reported = standing;
      yield dropped.length;
      const purged = await retention.purge(directory.settings(), isStopping);
      if (purged > 0) log.info({ purged }, 'purged data that belonged to dropped days');
      yield purged;
    },
  };
}
