/** Forgets request ids that are too old for a customer to repeat them. */
import { purgeRequestIds } from '../../core/queue/batches.ts';
import type { Db } from '../../db/db.ts';
import type { Task } from './task.ts';

const perTransaction = 5000;

export const createRequestIdsTask = ({ db, clock }: { db: Db; clock: () => Date }): Task => ({
  name: 'request ids',
  everyMs: 60_000,
  async *portions() {
    for (let n: number = perTransaction; n === perTransaction; yield n)
      n = await db.transaction((sql) => purgeRequestIds(sql, clock(), perTransaction));
  },
});
