/**
 * Writes the outcomes of messages into the database. One flush at a time writes the outcomes of all connections of a channel. In one
 * transaction, it checks the leases, records outcomes, moves the reservations forward, removes finished chunks from the queue and puts
 * back the chunks of connections that are leaving. The connections go on only after the commit, so the reservations bound the number of
 * messages that a crash leaves in doubt.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Directory } from '../../core/config/directory.ts';
import type { Signals } from '../../core/config/signals.ts';
import { messageStatus } from '../../core/model/statuses.ts';
import { type Outcome, record } from '../../core/outcome/messages.ts';
import { finish, type Lease, type Progress, putBack, reserve, standing } from '../../core/queue/queue.ts';
import { type Db, isConnectionLoss, isUnknownCommit, type Sql } from '../../db/db.ts';
import type { Log } from '../../log.ts';
import { groupBy } from '../../std/group.ts';
import type { Recent, RecentEntry } from '../recent.ts';
import type { ChunkRun } from './chunk-run.ts';
import { hasRunOut, isLeaving, type LeasedConnection, type Leases } from './leases.ts';

export interface FlushDeps {
  readonly db: Db;
  readonly directory: Directory;
  readonly signals: Signals;
  readonly recent: Recent;
  readonly log: Log;
  readonly clock: () => Date;
  /** Counts for the operator. */
  count(what: 'sent' | 'rejected' | 'intercepted', n: number, labels?: Readonly<Record<string, string>>): void;
}

/** What a flush needs from the rest of the worker. */
export interface FlushOwner {
  /** Reservations have moved forward, or chunks have left: there may be something to send on this connection. */
  onFlushed(connection: LeasedConnection): void;
  /** Chunks have been put back and may go elsewhere. */
  onReturned(): void;
}

export interface Flush {
  /** The outcome of a message that was sent. */
  sent(connection: LeasedConnection, run: ChunkRun, outcome: Outcome): void;
  /** The outcomes of messages that need no sending. They do not count against the reservation. */
  decided(connection: LeasedConnection, run: ChunkRun, outcomes: readonly Outcome[]): void;
  /** Asks for a flush: it begins within a few milliseconds, after the flush under way. */
  soon(): void;
  /** Resolves when a flush has ended, or after a moment if none has begun by then. */
  next(): Promise<void>;
  /** Whether anything is being written or waits to be. */
  isBusy(): boolean;
}

/** How many messages of one connection may be sent without a committed outcome. A crash may leave so many in doubt. */
export const reservation = 128;
const delayMs = 3;
const mostFailures = 25;
const retryMs = 200;

/** An outcome on its way to the database. */
interface Heard {
  readonly connection: LeasedConnection;
  readonly run: ChunkRun;
  readonly outcome: Outcome;
  readonly sent: boolean;
}

/** What a flush does to the queue. */
interface Plan {
  readonly reserved: Progress[];
  readonly done: Progress[];
  readonly returned: Progress[];
  /** The reservation of each run after the commit. */
  readonly steps: Map<ChunkRun, number>;
  /** Runs that leave this node: finished, or put back. */
  readonly gone: Set<ChunkRun>;
}

/** Reserved messages of a connection without a committed outcome, including those that the flush under way reserves. */
export const openOf = (connection: LeasedConnection): number =>
  connection.runs.reduce((sum, run) => sum + run.open(), connection.reserving);

export function createFlush(
  deps: FlushDeps,
  channelId: bigint,
  leases: Pick<Leases, 'all' | 'drop' | 'resume'>,
  { onFlushed, onReturned }: FlushOwner,
): Flush {
  const { db, directory, log, recent, clock } = deps;
  let heard: Heard[] = [];
  /** Entries of the memory of sent messages that wait for their row. */
  let unrecorded: RecentEntry[] = [];
  let isWanted = false;
  let flushing: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;

  function soon(): void {
    isWanted = true;
    if (flushing || timer) return;
    timer = setTimeout(() => {
      timer = undefined;
      isWanted = false;
      flushing = flush().finally(() => {
        flushing = undefined;
        if (isWanted) soon();
      });
    }, delayMs);
  }

  function rememberSent({ id, common: { accountId, day }, carrierId, parts }: Outcome): void {
    if (carrierId !== null) unrecorded.push(recent.remember(channelId, carrierId, { id, accountId, day, seg: null }));
    for (const part of parts)
      if (part.carrierId !== null) unrecorded.push(recent.remember(channelId, part.carrierId, { id, accountId, day, seg: part.seg }));
  }

  /** Writes all outcomes received so far. Returns after the commit, or when the leases of their connections are lost. */
  async function flush(): Promise<void> {
    const outcomes = heard;
    const entries = unrecorded;
    heard = [];
    unrecorded = [];
    const all = [...leases.all()];
    const leaving = all.filter(isLeaving);
    const concerned = new Set(all.filter(({ runs }) => runs.length > 0));
    for (const { connection } of outcomes) concerned.add(connection);
    if (concerned.size > 0) {
      const valid = await writeUntilDone([...concerned], outcomes, leaving);
      for (const connection of concerned) if (!valid.has(connection.lease)) leases.drop(connection, 'the lease was lost');
    }
    for (const entry of entries) entry.recorded = true;
    for (const connection of leaving) {
      // A claim may have finished loading during the flush and added a run; that run goes back with the next flush.
      if (connection.runs.length > 0) soon();
      else if (connection.phase === 'returning') leases.resume(connection);
    }
    for (const connection of leases.all()) onFlushed(connection);
  }

  /**
   * Retries until the transaction is known to be committed. Gives up when every lease concerned has run out, or when the database
   * answers but keeps refusing. Returns the leases that are still valid.
   */
  async function writeUntilDone(
    concerned: readonly LeasedConnection[],
    outcomes: readonly Heard[],
    leaving: readonly LeasedConnection[],
  ): Promise<ReadonlySet<Lease>> {
    for (let again = false, failures = 0; ; ) {
      try {
        return await write(concerned, outcomes, leaving, again);
      } catch (error) {
        if (!isConnectionLoss(error)) failures++;
        if (failures > mostFailures || concerned.every(hasRunOut)) {
          log.error(
            { channel: String(channelId), err: error, outcomes: outcomes.length },
            'outcomes could not be recorded; their chunks are left to whoever takes the leases next',
          );
          return new Set();
        }
        again ||= isUnknownCommit(error);
        if (!isConnectionLoss(error)) log.error({ channel: String(channelId), err: error }, 'recording outcomes failed; trying again');
        await sleep(retryMs);
      }
    }
  }

  async function write(
    concerned: readonly LeasedConnection[],
    outcomes: readonly Heard[],
    leaving: readonly LeasedConnection[],
    again: boolean,
  ): Promise<ReadonlySet<Lease>> {
    const { valid, plan } = await db.transaction((sql) => writeIn(sql, concerned, outcomes, leaving, again));
    // Committed: now update the state in memory.
    for (const [run, own] of groupBy(
      outcomes.filter(({ sent }) => sent),
      ({ run }) => run,
    ))
      run.recorded(own.length);
    for (const [run, upto] of plan.steps) run.reserveTo(upto);
    for (const connection of concerned) {
      connection.reserving = 0;
      connection.runs = connection.runs.filter((run) => !plan.gone.has(run));
    }
    if (leaving.length > 0) onReturned();
    tell(outcomes);
    return valid;
  }

  async function writeIn(
    sql: Sql,
    concerned: readonly LeasedConnection[],
    outcomes: readonly Heard[],
    leaving: readonly LeasedConnection[],
    again: boolean,
  ): Promise<{ valid: ReadonlySet<Lease>; plan: Plan }> {
    const valid = await standing(
      sql,
      channelId,
      concerned.map(({ lease }) => lease),
    );
    const standingOutcomes = outcomes.filter(({ connection }) => valid.has(connection.lease));
    const plan = planOf(
      concerned.filter(({ lease }) => valid.has(lease)),
      standingOutcomes,
      leaving,
    );
    await Promise.all([
      record(
        sql,
        directory,
        standingOutcomes.map(({ outcome }) => outcome),
        clock(),
        again,
      ),
      reserve(sql, channelId, plan.reserved),
      finish(sql, channelId, plan.done),
      putBack(sql, channelId, plan.returned),
    ]);
    return { valid, plan };
  }

  /** The changes to the chunks of these connections once the outcomes are recorded. */
  function planOf(connections: readonly LeasedConnection[], outcomes: readonly Heard[], leaving: readonly LeasedConnection[]): Plan {
    const plan: Plan = { reserved: [], done: [], returned: [], steps: new Map(), gone: new Set() };
    const justSent = groupBy(
      outcomes.filter(({ sent }) => sent),
      ({ run }) => run,
    );
    const sinceThen = new Set(heard.map(({ run }) => run));
    for (const connection of connections) {
      connection.reserving = 0;
      let budget = reservation - openOf(connection) + connection.runs.reduce((sum, run) => sum + (justSent.get(run)?.length ?? 0), 0);
      for (const run of connection.runs) {
        const claimed = { lease: connection.lease, chunkId: run.claim.chunkId };
        if (run.complete() && !sinceThen.has(run)) {
          plan.gone.add(run);
          plan.done.push({ ...claimed, upto: 0 });
        } else if (leaving.includes(connection)) {
          plan.gone.add(run);
          plan.returned.push({ ...claimed, upto: run.doubtUpto() });
        } else if (connection.phase === 'working' && budget > 0) {
          const upto = Math.min(run.claim.n, run.reservedUpto() + budget);
          if (upto === run.reservedUpto()) continue;
          plan.steps.set(run, upto);
          plan.reserved.push({ ...claimed, upto });
          connection.reserving += upto - run.reservedUpto();
          budget -= upto - run.reservedUpto();
        }
      }
    }
    return plan;
  }

  /** Counts the recorded outcomes, and wakes the workers that pass them on. */
  function tell(outcomes: readonly Heard[]): void {
    for (const status of ['sent', 'rejected'] as const)
      deps.count(status, outcomes.filter(({ outcome }) => outcome.status === messageStatus[status]).length, { channel: String(channelId) });
    const intercepted = outcomes.filter(({ outcome }) => outcome.status === messageStatus.intercepted);
    for (const [code, own] of groupBy(intercepted, ({ outcome }) => outcome.code ?? '')) deps.count('intercepted', own.length, { code });
    if (outcomes.some(({ outcome }) => outcome.code !== null)) deps.signals.emit('push');
  }

  return {
    sent(connection, run, outcome) {
      rememberSent(outcome);
      heard.push({ connection, run, outcome, sent: true });
      soon();
    },
    decided(connection, run, outcomes) {
      for (const outcome of outcomes) heard.push({ connection, run, outcome, sent: false });
      if (run.complete() || outcomes.length > 0) soon();
    },
    soon,
    async next() {
      soon();
      await (flushing ?? sleep(delayMs));
    },
    isBusy: () => flushing !== undefined || timer !== undefined || heard.length > 0,
  };
}
