/**
 * Moves chunks from a channel that has become unhealthy to another one of its pool: a healthy one that serves all of the chunk's
 * recipients, chosen by priority and weight as for a new submission. Chunks that no other channel can take wait in line until they expire.
 *
 * A chunk moves as a whole. Recipients with different possible channels are in different chunks from the beginning (`placement.ts`), so
 * that one of them does not keep the others back. Only unclaimed chunks move, and their reservation moves along. So a move loses
 * nothing, and sends nothing twice that would not have been sent twice on the same channel.
 */
import type { Db } from '../../db/db.ts';
import { groupBy } from '../../std/group.ts';
import { phonesOf } from './batches.ts';
import type { Directory } from '../config/directory.ts';
import type { NumberPlan, Phone } from '../numbers/number-plan.ts';
import { withPorted } from '../numbers/portability.ts';
import { lockWaiting, moveChunks, type Waiting } from './queue.ts';
import { alternatives, byDestination, pick, servingAll } from './routing.ts';

/** Chunks in one transaction: few, since examining 500 numbers of each delays everything else on the node. */
const portion = 40;
/** Portions in one run. */
const mostPortions = 250;

interface RerouteDeps {
  readonly db: Db;
  readonly directory: Directory;
  readonly numberPlan: Pick<NumberPlan, 'of'>;
}

/** Moves chunks that wait on an unhealthy channel and can go elsewhere. Nodes may run it concurrently. Returns how many messages moved. */
export async function reroute({ db, directory, numberPlan }: RerouteDeps, channelId: bigint): Promise<number> {
  const pools = directory.poolsOf(channelId).filter((poolId) => alternatives(directory, poolId, channelId).length > 0);
  let moved = 0;
  let after: Waiting | null = null;
  for (let n = 0; pools.length > 0 && n < mostPortions; n++) {
    const begin: Waiting | null = after;
    const { last, messages } = await db.transaction(async (sql) => {
      const chunks = await lockWaiting(sql, channelId, pools, begin, portion);
      const phones = new Map<bigint, readonly (Phone | null)[]>();
      for (const [accountId, own] of groupBy(chunks, (chunk) => chunk.accountId)) {
        const ids = own.map(({ chunkId }) => chunkId);
        const numbers = await phonesOf(sql, accountId, ids);
        const found = await withPorted(
          sql,
          directory,
          [...numbers.values()].flat().map((e164) => numberPlan.of(e164)),
        );
        let from = 0;
        for (const [chunkId, { length }] of numbers) phones.set(chunkId, found.slice(from, (from += length)));
      }
      const moves = chunks.flatMap((chunk) => {
        const to = channelFor(directory, channelId, chunk, phones.get(chunk.chunkId) ?? []);
        return to === null ? [] : [{ chunk, to }];
      });
      if (moves.length > 0) await moveChunks(sql, channelId, moves);
      return { last: chunks.at(-1), messages: moves.reduce((sum, { chunk }) => sum + chunk.n, 0) };
    });
    moved += messages;
    if (!last) break;
    after = last;
  }
  return moved;
}

function channelFor(
  directory: Directory,
  channelId: bigint,
  { subscriptionId }: Waiting,
  phones: readonly (Phone | null)[],
): bigint | null {
  const poolId = directory.subscription(subscriptionId)?.product.poolId ?? null;
  if (poolId === null) return null;
  const candidates = servingAll(
    alternatives(directory, poolId, channelId),
    byDestination(phones).map(({ destination }) => destination),
  );
  return candidates.length > 0 ? pick(candidates, Math.random()).id : null;
}
