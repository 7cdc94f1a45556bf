/**
 * Claims chunks for the leased connections of one channel, in the fair order of the queue and from both priority classes. A connection
 * claims no more than it will send soon. Claimed chunks are loaded, messages that need no sending are decided (see
 * `decideWithoutSending`), and the rest wait on the connection.
 */
import type { Watch } from '../../core/catalogue/health.ts';
import { listLookup } from '../../core/catalogue/list-lookup.ts';
import type { Directory } from '../../core/config/directory.ts';
import type { RenderDeps } from '../../core/content/kind.ts';
import { contentKinds } from '../../core/content/kinds.ts';
import type { Channel } from '../../core/model/configuration.ts';
import { chunkCapacity, indexOf } from '../../core/model/ids.ts';
import { recordedOf } from '../../core/outcome/messages.ts';
import { dispatchBodies, type DispatchBody } from '../../core/queue/batches.ts';
import { type Claim, claim, neverClaimed } from '../../core/queue/queue.ts';
import { sourceNumber } from '../../core/queue/routing.ts';
import { type Db, isUnknownCommit } from '../../db/db.ts';
import type { Log } from '../../log.ts';
import { groupBy } from '../../std/group.ts';
import { createChunkRun, decideWithoutSending } from './chunk-run.ts';
import { type Flush, openOf, reservation } from './flush.ts';
import type { LeasedConnection, Leases } from './leases.ts';

export interface ClaimingDeps extends RenderDeps {
  readonly db: Db;
  readonly directory: Directory;
  readonly log: Log;
  readonly clock: () => Date;
  /** Counts for the operator. */
  count(what: 'inDoubt', n: number): void;
}

export interface Claiming {
  /** Whether this connection could send more than it has claimed. */
  wants(connection: LeasedConnection): boolean;
  /** Claims for every connection that wants more, until the queue is empty or no connection wants more. One round at a time. */
  wake(): void;
  /** Whether chunks are being claimed for this connection at the moment. */
  isFor(connection: LeasedConnection): boolean;
  /** Whether a round is under way. */
  isBusy(): boolean;
  /** Makes no further claims. */
  stop(): void;
}

const mostChunksPerClaim = 128;
/** The assumed size of a chunk, in messages, when nothing was claimed lately. */
const usualMessages = 500;
/** The priority classes as they are stored: the lower number goes first. */
const classOf = { high: 0, low: 1 } as const;

/** `onClaimed`: the connection has got chunks; its session or the channel may have gone bad during the claim. */
export function createClaiming(
  deps: ClaimingDeps,
  channel: Channel,
  parts: { readonly leases: Pick<Leases, 'all' | 'drop'>; readonly flush: Pick<Flush, 'decided'>; readonly watch: Pick<Watch, 'mayBegin'> },
  onClaimed: (connection: LeasedConnection) => void,
): Claiming {
  const { db, directory, log, clock } = deps;
  const { leases, flush, watch } = parts;
  const channelId = channel.id;
  const onList = listLookup(db.sql);
  let isBusy = false;
  let isWantedAgain = false;
  let stopping = false;
  let current: LeasedConnection | null = null;
  /** Messages claimed in each class since the lower class last had nothing waiting. */
  const served = { high: 0, low: 0 };
  let averageN = usualMessages;

  const wants = (connection: LeasedConnection): boolean =>
    !stopping &&
    connection.phase === 'working' &&
    watch.mayBegin() &&
    connection.wire.state === 'up' &&
    connection.runs.reduce((sum, run) => sum + run.unsent(), 0) < reservation;

  async function claimAll(): Promise<void> {
    if (isBusy) {
      isWantedAgain = true;
      return;
    }
    isBusy = true;
    try {
      do {
        isWantedAgain = false;
        for (const connection of leases.all()) {
          current = connection;
          while (wants(connection) && (await claimFor(connection)));
        }
        current = null;
      } while (isWantedAgain);
    } catch (error) {
      log.error({ channel: String(channelId), err: error }, 'claiming failed; trying again at the next beat');
    } finally {
      current = null;
      isBusy = false;
    }
  }

  /**
   * Claims once for a connection; false if there was nothing. The lower class keeps at least a tenth of the messages: it goes first once it
   * is owed a whole chunk. The debt is forgotten when it has nothing waiting.
   */
  async function claimFor(connection: LeasedConnection): Promise<boolean> {
    const classes = served.high / 9 - served.low >= chunkCapacity ? (['low', 'high'] as const) : (['high', 'low'] as const);
    const limit = Math.min(mostChunksPerClaim, Math.max(1, Math.ceil(reservation / averageN)));
    for (const wanted of classes) {
      const budget = Math.max(0, reservation - openOf(connection));
      const claims = await db
        .transaction((sql) =>
          claim(sql, { lease: connection.lease, class: classOf[wanted], limit, most: chunkCapacity, budget, at: clock() }),
        )
        .catch((error: unknown) => {
          // Chunks that it may have claimed go back when the lease is taken again.
          if (isUnknownCommit(error)) leases.drop(connection, 'whether it claimed anything is not known');
          throw error;
        });
      if (claims.length === 0) {
        if (wanted === 'low') served.high = served.low = 0;
        continue;
      }
      const messages = claims.reduce((sum, { n }) => sum + n, 0);
      averageN = messages / claims.length;
      served[wanted] += messages;
      try {
        await takeUp(connection, claims);
      } catch (error) {
        leases.drop(connection, 'what was claimed could not be loaded'); // it goes back when the lease is taken again
        throw error;
      }
      onClaimed(connection);
      return true;
    }
    averageN = usualMessages;
    return false;
  }

  /** Loads the claimed chunks, decides the messages that need no sending, and lets the rest wait on the connection. */
  async function takeUp(connection: LeasedConnection, claims: readonly Claim[]): Promise<void> {
    const bodies = await load(claims);
    const outs = await optOuts([...bodies.values()]);
    for (const claimed of claims) {
      const body = bodies.get(claimed.chunkId);
      const tenancy = directory.subscription(claimed.subscriptionId);
      if (!body || !tenancy) throw new Error(`chunk ${claimed.chunkId} has no body or no subscription`);
      const { product, subscription } = tenancy;
      const rows =
        claimed.doubtUpto !== neverClaimed ? await recordedOf(db.sql, claimed.accountId, claimed.chunkId, body.day) : new Set<bigint>();
      const recordedBefore = new Set([...rows].map(indexOf));
      const { outcomes: decided, inDoubt } = decideWithoutSending(claimed, body, {
        channelId,
        recordedBefore,
        givesUp: product.inDoubt === 'give_up',
        isExpired: claimed.expiresAt <= clock(),
        optedOut: outs.get(claimed.subscriptionId) ?? nobody,
      });
      deps.count('inDoubt', inDoubt);
      const skip = new Set([...recordedBefore, ...decided.map(({ id }) => indexOf(id))]);
      const policy = {
        channelId,
        inDoubt: product.inDoubt,
        chargeOn: product.chargeOn,
        from: sourceNumber(channel, subscription.extension, body.ext),
        content: await contentKinds[body.kind].render(deps, body),
      };
      const run = createChunkRun(claimed, body, policy, skip);
      connection.runs = [...connection.runs, run];
      flush.decided(connection, run, decided);
    }
  }

  /** The chunks that were claimed, by their ids. */
  async function load(claims: readonly Claim[]): Promise<Map<bigint, DispatchBody>> {
    const bodies = new Map<bigint, DispatchBody>();
    await Promise.all(
      [...groupBy(claims, ({ accountId }) => accountId)].map(async ([accountId, own]) => {
        const ids = own.map(({ chunkId }) => chunkId);
        for (const body of await dispatchBodies(db.sql, accountId, ids)) bodies.set(body.id, body);
      }),
    );
    return bodies;
  }

  /** Numbers that have opted out since the batch was accepted: one query per subscription that has a list. */
  async function optOuts(bodies: readonly DispatchBody[]): Promise<Map<bigint, ReadonlySet<bigint>>> {
    const found = new Map<bigint, ReadonlySet<bigint>>();
    await Promise.all(
      [...groupBy(bodies, ({ subscriptionId }) => subscriptionId)].map(async ([subscriptionId, own]) => {
        const list = directory.blocklist('subscription', subscriptionId);
        if (list === undefined) return;
        const phones = own.flatMap((body) => body.phones);
        found.set(subscriptionId, await onList(list, phones));
      }),
    );
    return found;
  }

  return {
    wants,
    wake: () => void claimAll(),
    isFor: (connection) => connection === current,
    isBusy: () => isBusy,
    stop() {
      stopping = true;
    },
  };
}

const nobody: ReadonlySet<bigint> = new Set();
