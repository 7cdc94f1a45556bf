/**
 * Moves the queued chunks of one channel onto its connections, and what the carrier answers into the database.
 *
 * A node has leases of some of the channel's connections (`leases.ts`). Each leased connection claims chunks (`claiming.ts`), reserves a
 * small range of indexes, is handed messages within window and rate (here), and their outcomes are written (`flush.ts`). Nothing is sent
 * under a lease that has been lost: the carrier's side of a connection asks `mayWrite` before every PDU.
 *
 * A connection whose session breaks puts its chunks back; whoever claims them next reads which messages have rows, and the product's policy
 * decides about the rest below the reservation. So do all connections when the channel has become unhealthy. A channel that is being probed
 * begins no more messages than its watch allows.
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
  /** Renews, takes and gives back leases, looks for work. */
  beat(): Promise<void>;
  wake(): void;
  /** The channel's health has changed. */
  turn(): void;
  /** How many connections are leased. */
  leased(): number;
  /** `forGood`: this node serves the channel no more, nor will it in a moment with other settings. */
  stop(forGood: boolean): Promise<void>;
}

const throttledRetryMs = 1000;

/** A worker for a channel as it is now; it begins nothing before its first beat. `onReturned`: chunks have been put back and may go elsewhere, if the channel is unhealthy. */
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
    else leases.returnChunks(connection); // others may be better
  });

  const isUnhealthy = (): boolean => directory.channel(channel.id)?.health === 'unhealthy';

  /** Hands over what may be sent now. A message is counted before it is handed over, so it would do no harm to be called from within. */
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
    // Waiting for a reservation: ask for it if there is room now, else the outcomes still to come will bring it along.
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

/** What connections are made from: all of a channel but its health, which changes under them. */
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

/** What a message's outcome says of its channel. */
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
