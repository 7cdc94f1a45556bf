/**
 * What must be done to a database that was restored from a backup, before a node starts on it: the world has gone on since the backup
 * was made, and the rows know nothing of it.
 */
import type { Db } from '../../db/db.ts';
import { doubtQueue, isServed } from './queue.ts';

/** More than an installation can have given out since its backup, and far less than there are. */
const skipped = { batch_ids: 1_000_000_000, record_ids: 1_000_000_000, config_ids: 100_000 } as const;

/**
 * Declares whatever was due in the queue to be in doubt, so that each product's policy decides about it, and skips ids: those given out
 * since the backup are in customers' books and behind short links on phones, and must never stand for something else. Returns how many
 * messages are in doubt at most. Throws while nodes work on the database.
 */
export function acknowledgeRestore(db: Db): Promise<number> {
  return db.transaction(async (sql) => {
    if (await isServed(sql))
      throw new Error('nodes are working on this database; stop them first (one that was killed counts for ten seconds)');
    for (const [sequence, ids] of Object.entries(skipped))
      await sql`select setval(${sequence}::regclass, nextval(${sequence}::regclass) + ${ids})`;
    return doubtQueue(sql);
  });
}
