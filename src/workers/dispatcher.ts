/**
 * Keeps a worker for every channel that is on (`channel/worker.ts`), and does the work that a channel needs even without connections: it
 * queues planned chunks when they are due, takes back the claims of lost nodes, ends messages that have expired, and moves chunks from an
 * unhealthy channel to others (`core/queue/rerouting.ts`).
 */
import { performance } from 'node:perf_hooks';
import { dispatchBodies } from '../core/queue/batches.ts';
import { type Outcome, record, recordedOf } from '../core/outcome/messages.ts';
import { indexOf } from '../core/model/ids.ts';
import { lockExpired, neverClaimed, putInLine, recoverChunks, removeExpired } from '../core/queue/queue.ts';
import type { NumberPlan } from '../core/numbers/number-plan.ts';
import { reroute } from '../core/queue/rerouting.ts';
import { groupBy } from '../std/group.ts';
import { type ChannelWorker, type ChannelWorkerDeps, createChannelWorker } from './channel/worker.ts';
import { decideWithoutSending } from './channel/chunk-run.ts';

export interface DispatcherDeps extends ChannelWorkerDeps {
  readonly numberPlan: Pick<NumberPlan, 'of'>;
  /** Counts for the operator. */
  count(what: Parameters<ChannelWorkerDeps['count']>[0] | 'rerouted', n: number, labels?: Readonly<Record<string, string>>): void;
}

export interface Dispatcher {
  start(): void;
  /** How many connections of each channel this node has leased now. */
  leased(): ReadonlyMap<bigint, number>;
  /** Stops claiming, drains every connection, records the known outcomes, gives back all chunks and leases. */
  stop(): Promise<void>;
}

const beatMs = 1000;
const expiredPerBeat = 20;
/** Planned chunks that are queued in one transaction. */
const planningPortion = 500;
/** How long chunks that no other channel can take are left alone, unless something changes. */
const reroutePauseMs = 10_000;

export function createDispatcher(deps: DispatcherDeps): Dispatcher {
  const { directory, signals, log } = deps;
  const workers = new Map<bigint, ChannelWorker>();
  /** Workers that are stopping: they drain at their own pace, keep their leases until then, and delay no other worker. */
  const retiring = new Map<bigint, Promise<void>>();
  /** Unhealthy channels whose waiting chunks cannot go elsewhere: until when, and as of which configuration. */
  const stranded = new Map<bigint, { readonly version: bigint; readonly until: number }>();
  const rerouting = new Map<bigint, Promise<void>>();
  let stopping = false;
  let hasEnded = false;
  let timer: NodeJS.Timeout | undefined;
  let beating: Promise<void> | undefined;

  /** Starts and stops channel workers as the configuration says, and lets each renew its leases. */
  async function beat(): Promise<void> {
    for (const channel of directory.channels())
      if (channel.enabled && !stopping && !workers.has(channel.id))
        workers.set(
          channel.id,
          createChannelWorker(deps, channel, () => void stranded.delete(channel.id)),
        );
    for (const [id, worker] of workers) {
      const channel = directory.channel(id);
      if (!channel?.enabled || !worker.serves(channel)) retire(id, worker);
    }
    await Promise.all(
      [...directory.channels()].map(async ({ id }) => {
        try {
          await lineUpPlanned(id);
          await workers.get(id)?.beat();
          await deps.db.transaction((sql) => recoverChunks(sql, id));
          rerouteIfUnhealthy(id);
        } catch (error) {
          log.error({ channel: String(id), err: error }, 'a channel could not be served; trying again');
        }
      }),
    );
    await endExpired(deps).catch((error: unknown) => log.error({ err: error }, 'expired chunks could not be ended; trying again'));
  }

  /** Queues the planned chunks that are due. */
  async function lineUpPlanned(channelId: bigint): Promise<void> {
    for (let n = planningPortion; n === planningPortion; )
      n = await deps.db.transaction((sql) => putInLine(sql, channelId, deps.clock(), planningPortion));
  }

  /** Moves the waiting chunks of unhealthy channels to others, as far as they can take them. This may take longer than a beat may last. */
  function rerouteIfUnhealthy(channelId: bigint): void {
    if (stopping || rerouting.has(channelId) || directory.channel(channelId)?.health !== 'unhealthy') return;
    const version = directory.version();
    const known = stranded.get(channelId);
    if (known?.version === version && performance.now() < known.until) return;
    stranded.set(channelId, { version, until: performance.now() + reroutePauseMs });
    const moving = rerouteFrom(channelId)
      .catch((error: unknown) => {
        stranded.delete(channelId);
        log.error({ channel: String(channelId), err: error }, 'waiting chunks could not be moved to other channels; trying again');
      })
      .finally(() => rerouting.delete(channelId));
    rerouting.set(channelId, moving);
  }

  async function rerouteFrom(channelId: bigint): Promise<void> {
    const moved = await reroute(deps, channelId);
    if (moved === 0) return;
    stranded.delete(channelId);
    log.info({ channel: String(channelId), messages: moved }, 'moved the waiting messages of an unhealthy channel to other channels');
    deps.count('rerouted', moved, { channel: String(channelId) });
    signals.emit('queue');
  }

  function retire(id: bigint, worker: ChannelWorker): void {
    if (retiring.has(id)) return;
    const stopped = worker
      .stop(stopping)
      .catch((error: unknown) =>
        log.error({ channel: String(id), err: error }, 'the leases of a channel could not be released; they will run out'),
      )
      .finally(() => {
        workers.delete(id);
        retiring.delete(id);
        if (!stopping) beatOnce();
      });
    retiring.set(id, stopped);
  }

  const beatOnce = (): void => {
    if (hasEnded) return;
    beating ??= beat().finally(() => {
      beating = undefined;
    });
  };

  return {
    start() {
      directory.onChange(beatOnce);
      deps.health.onTurn((channelId) => {
        stranded.delete(channelId);
        workers.get(channelId)?.turn();
      });
      signals.on('queue', () => {
        for (const worker of workers.values()) worker.wake();
      });
      timer = setInterval(beatOnce, beatMs);
      beatOnce();
    },
    async stop() {
      stopping = true;
      await beating;
      for (const [id, worker] of workers) retire(id, worker);
      await Promise.all(retiring.values());
      clearInterval(timer);
      hasEnded = true;
      await beating;
      await Promise.all(rerouting.values());
    },
    leased: () => new Map([...workers].map(([id, worker]) => [id, worker.leased()])),
  };
}

/** Ends waiting chunks whose time to live is over, even when no connection of the channel is up or the channel is off. */
async function endExpired({ db, directory, signals, clock, count }: DispatcherDeps): Promise<void> {
  const ended = await db.transaction(async (sql) => {
    const at = clock();
    const claims = await lockExpired(sql, at, expiredPerBeat);
    const outcomes: Outcome[] = [];
    let inDoubt = 0;
    for (const [accountId, own] of groupBy(claims, (claim) => claim.accountId)) {
      const chunkIds = own.map(({ chunkId }) => chunkId);
      const bodies = new Map((await dispatchBodies(sql, accountId, chunkIds)).map((body) => [body.id, body]));
      for (const claim of own) {
        const body = bodies.get(claim.chunkId);
        if (!body) throw new Error(`chunk ${claim.chunkId} has no body`);
        const rows = claim.doubtUpto === neverClaimed ? [] : await recordedOf(sql, accountId, body.id, body.day);
        const decided = decideWithoutSending(claim, body, {
          channelId: claim.channelId,
          recordedBefore: new Set([...rows].map(indexOf)),
          givesUp: directory.subscription(claim.subscriptionId)?.product.inDoubt === 'give_up',
          isExpired: true,
          optedOut: new Set(),
        });
        outcomes.push(...decided.outcomes);
        inDoubt += decided.inDoubt;
      }
    }
    await record(sql, directory, outcomes, at, false);
    await removeExpired(sql, claims);
    return { chunks: claims.length, inDoubt };
  });
  count('inDoubt', ended.inDoubt);
  if (ended.chunks > 0) signals.emit('push');
}
