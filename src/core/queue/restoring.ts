/**
 * Prepares a database that was restored from a backup, before a node starts on it: its rows do not know what has happened since the
 * backup was made.
 */
import type { Db } from '../../db/db.ts';
import { doubtQueue, isServed } from './queue.ts';

/** More ids than an installation can have used since its backup, and far fewer than there are. */
const skipped = { batch_ids: 1_000_000_000, record_ids: 1_000_000_000, config_ids: 100_000 } as const;

/**
 * Marks everything that was due in the queue as in doubt, so that each product's policy decides about it, and skips ids: ids used since the
 * backup are in customers' books and behind short links on phones, and must never get another meaning. Returns how many messages are in
 * doubt at most. Throws while nodes work on the database.
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
