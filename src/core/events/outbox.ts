/**
 * Events owed to customers, as the rest of the program uses them: dialects pull them, the pusher pushes them, people replay them. owed.ts
 * holds waiting events, history.ts handed-over ones, pushed.ts those that are being pushed.
 */
import type { Db } from '../../db/db.ts';
import type { Directory } from '../config/directory.ts';
import { replay, type ReplayFilter } from './history.ts';
import { createPulls, keepPartitions, type Pulls } from './owed.ts';
import { createPushes, type Pushes } from './pushed.ts';

export interface Outbox extends Pulls, Pushes {
  /** Makes events wait again that were handed over, have failed or were kept: pushed where there is a URL, else pulled. Returns how many. */
  replay(accountId: bigint, filter: ReplayFilter): Promise<number>;
}

export function createOutbox(deps: { db: Db; directory: Directory; clock: () => Date }): Outbox {
  const { db, directory, clock } = deps;
  return {
    ...createPulls(deps),
    ...createPushes(deps),
    replay: (accountId, filter) =>
      db.transaction(async (sql) => {
        await keepPartitions(sql);
        // Two concurrent replays of the same events would create their parcels twice.
        await sql`select pg_advisory_xact_lock(hashtextextended('hongyan replay', ${accountId}))`;
        return replay(sql, directory, accountId, filter, clock());
      }),
  };
}
