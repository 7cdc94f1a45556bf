/**
 * Moves the queued chunks of one channel onto its connections, and writes the outcomes into the database.
 *
 * A node leases some of the channel's connections (`leases.ts`). Each leased connection claims chunks (`claiming.ts`) and reserves a small
 * range of indexes. This module gives it messages within its window and rate; `flush.ts` writes the outcomes. Nothing is sent under a lost
 * lease: the carrier's side of a connection asks `mayWrite` before every PDU.
 *
 * A connection whose session breaks puts its chunks back. The next node that claims them reads which messages have rows; the product's
 * policy decides about the rest below the reservation. All connections put their chunks back when the channel becomes unhealthy. A channel
 * that is being probed begins no more messages than its watch allows.
 */
import { performance } from 'node:perf_hooks';
import type { SegmentOutcome } from '../../channels/channel.ts';
import type { Sign } from '../../core/catalogue/health.ts';
import type { Channel } from '../../core/model/configuration.ts';
import type { ChannelHealth } from '../health.ts';
import type { ChunkRun } from './chunk-run.ts';
import { type ClaimingDeps, createClaiming } from './claiming.ts';
import { createFlush, type FlushDeps, openOf, reservation } from './flush.ts';
import { createLeases, isLeaving, type LeasedConnection, type LeasesDeps, maySend } from './leases.ts';

export interface ChannelWorkerDeps extends LeasesDeps, ClaimingDeps, FlushDeps {
  readonly health: ChannelHealth;
  /** Counts for the operator. */
  count(what: 'inDoubt' | 'sent' | 'rejected' | 'intercepted', n: number, labels?: Readonly<Record<string, string>>): void;
}

export interface ChannelWorker {
  /** False once the channel's settings differ from those the worker was made for. */
  serves(channel: Channel): boolean;
  /** Renews, takes and gives back leases; looks for work. */
  beat(): Promise<void>;
  wake(): void;
  /** The channel's health has changed. */
  turn(): void;
  /** How many connections are leased. */
  leased(): number;
  /** `forGood`: this node no longer serves the channel, and no new worker with other settings follows. */
  stop(forGood: boolean): Promise<void>;
}

const throttledRetryMs = 1000;

/**
 * Makes a worker for the channel's present settings; it begins nothing before its first beat. `onReturned`: chunks have been put back, and may
 * go to other channels if this one is unhealthy.
 */
export function createChannelWorker(deps: ChannelWorkerDeps, channel: Channel, onReturned: () => void): ChannelWorker {
  const { directory } = deps;
  const made = descriptionOf(channel);
  const secret = directory.channelSecret(channel.id) ?? '';
  const watch = deps.health.watch(channel.id);
  const leases = createLeases(deps, channel, secret, {
    onRoom: pump,
    onUp(connection) {
      pump(connection);
      claiming.wake();
    },
    isClaiming: (connection) => claiming.isFor(connection),
    flushSoon: () => flush.soon(),
    nextFlush: () => flush.next(),
  });
  const flush = createFlush(deps, channel.id, leases, { onFlushed: pump, onReturned });
  const claiming = createClaiming(deps, channel, { leases, flush, watch }, (connection) => {
    if (connection.wire.state === 'up' && !isUnhealthy()) pump(connection);
    else leases.returnChunks(connection); // other connections may be up
  });

  const isUnhealthy = (): boolean => directory.channel(channel.id)?.health === 'unhealthy';

  /** Gives the connection the messages that may be sent now. Each message is counted first, so a re-entrant call does no harm. */
  function pump(connection: LeasedConnection): void {
    if (!maySend(connection) || performance.now() >= connection.deadline) return;
    let starved = false;
    while (watch.mayBegin() && connection.wire.room() > 0) {
      const found = nextOf(connection);
      if (!found) {
        starved = true;
        break;
      }
      const { run, index } = found;
      connection.inFlight++;
      watch.began();
      connection.wire.send(run.message(index), (outcomes) => settle(connection, run, index, outcomes));
    }
    if (!starved || connection.phase === 'closing') return;
    // The run waits for a reservation. Ask for one if there is room now; otherwise the flush of later outcomes extends it.
    if (openOf(connection) < reservation && connection.runs.some((run) => run.reservedUpto() < run.claim.n)) flush.soon();
    if (claiming.wants(connection)) claiming.wake();
  }

  function nextOf(connection: LeasedConnection): { run: ChunkRun; index: number } | null {
    for (const run of connection.runs) {
      const index = run.next(connection.phase === 'closing');
      if (index !== null) return { run, index };
    }
    return null;
  }

  function settle(connection: LeasedConnection, run: ChunkRun, index: number, outcomes: readonly SegmentOutcome[]): void {
    connection.inFlight--;
    watch.heard(signOf(outcomes));
    if (outcomes.some(({ kind }) => kind === 'unknown')) deps.count('inDoubt', 1);
    const next = run.judge(index, outcomes, !maySend(connection));
    if (next.kind === 'outcome') flush.sent(connection, run, next.outcome);
    else if (next.kind === 'retry') {
      if (!next.later) run.again(index);
      else
        setTimeout(() => {
          run.again(index);
          pump(connection);
        }, throttledRetryMs);
    }
    if (isLeaving(connection)) flush.soon();
  }

  return {
    serves: (current) => descriptionOf(current) === made && secret === directory.channelSecret(current.id),
    async beat() {
      await leases.beat();
      claiming.wake();
      for (const connection of leases.all()) pump(connection);
    },
    wake: claiming.wake,
    turn() {
      for (const connection of leases.all()) {
        if (isUnhealthy() && connection.runs.length > 0) leases.returnChunks(connection);
        else pump(connection);
      }
      claiming.wake();
    },
    leased: leases.count,
    async stop(forGood) {
      claiming.stop();
      await leases.giveBack(forGood);
      while (claiming.isBusy() || flush.isBusy()) await flush.next();
    },
  };
}

/** The settings that connections are made from: the whole channel except its health, which changes while they run. */
function descriptionOf({
  health: _health,
  healthCause: _cause,
  isHealthForced: _forced,
  healthRules: _rules,
  id,
  ...rest
}: Channel): string {
  return JSON.stringify({ ...rest, id: String(id) });
}

/** What a message's outcome says about its channel. */
function signOf(outcomes: readonly SegmentOutcome[]): Sign {
  let isCut = false;
  let isFine = false;
  for (const outcome of outcomes) {
    if (outcome.kind === 'unknown' && outcome.isCut) isCut = true;
    else if (outcome.kind === 'unknown' || outcome.kind === 'throttled' || (outcome.kind === 'rejected' && outcome.isOurs)) return 'failed';
    else if (outcome.kind !== 'unsent') isFine = true;
  }
  return isCut ? 'cut' : isFine ? 'fine' : 'nothing';
}
