/**
 * The connections of one channel that this node has leased, from the taking of a lease until it is given back or lost. The phase of a
 * connection says what may be done on it; only this module changes it.
 *
 * - `working`: it claims chunks, moves their reservations forward and begins messages. Every connection starts here.
 * - `returning`: its session broke, or the channel has become unhealthy. Nothing is claimed, begun or tried again. Once every message that
 *   was handed to the carrier's side has been settled, the next flush puts its chunks back, and the connection is `working` again.
 * - `closing`: the connection is to be given back, because this node stops or has more connections than its share. Nothing is claimed or
 *   begun. Messages that were begun are heard out, and tried again if they have to be: to leave such a message to another node would make
 *   it one that may have been sent.
 * - `emptying`: as `returning`, but for good: the connection to the carrier is closed, and once the chunks are put back the lease is
 *   given back.
 * - `gone`: the lease was given back or lost. Nothing may be written; the chunks belong to the next owner of the lease. Outcomes of sent
 *   messages that still arrive are recorded if the lease is valid all the same.
 *
 *       working ⇄ returning
 *          ↓          ↓
 *       closing → emptying → gone        (and `gone` from every other phase, when the lease is lost)
 *
 * Any other step is a bug: it is logged, and the connection is dropped. Its lease then runs out, and the next owner finds out which
 * messages were sent.
 *
 * Nodes share the connections of a channel evenly. A node that has more than its share, because another node came, gives connections
 * back one after the other; this leaves no message in doubt.
 */
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChannelConnection, ConnectionDeps, ConnectionEvents, ConnectionState } from '../../channels/channel.ts';
import type { Channel } from '../../core/model/configuration.ts';
import {
  giveUpLeases,
  type Lease,
  leaveChannel,
  renewLeases,
  serveChannel,
  type SessionAges,
  shareOf,
  showState,
  takeLeases,
} from '../../core/queue/queue.ts';
import type { Db } from '../../db/db.ts';
import type { Log } from '../../log.ts';
import type { ChunkRun } from './chunk-run.ts';

export interface LeasesDeps {
  readonly db: Db;
  readonly log: Log;
  /** This process, in leases. */
  readonly node: string;
  /** Makes a connection of a channel; it is started and stopped here. */
  connect(channel: Channel, secret: string, deps: ConnectionDeps): ChannelConnection;
  /** Reports, read replies and inbound, passed on with the channel they came from. */
  onReport(channelId: bigint, ...args: Parameters<ConnectionEvents['onReport']>): void;
  onReadReply(channelId: bigint, ...args: Parameters<ConnectionEvents['onReadReply']>): void;
  onInbound(channelId: bigint, ...args: Parameters<ConnectionEvents['onInbound']>): void;
}

/** What the leases need from the rest of the worker. */
export interface LeasesOwner {
  /** There may be something to send on this connection. */
  onRoom(connection: LeasedConnection): void;
  /** Its session is up. */
  onUp(connection: LeasedConnection): void;
  /** Whether chunks are being claimed for this connection at the moment. */
  isClaiming(connection: LeasedConnection): boolean;
  /** Puts the chunks of a connection back as soon as all messages handed to the carrier's side are settled. */
  flushSoon(): void;
  /** Resolves when a flush has ended, or after a moment. */
  nextFlush(): Promise<void>;
}

export type Phase = 'working' | 'returning' | 'closing' | 'emptying' | 'gone';

const following: Readonly<Record<Phase, readonly Phase[]>> = {
  working: ['returning', 'closing', 'gone'],
  returning: ['working', 'emptying', 'gone'],
  closing: ['emptying', 'gone'],
  emptying: ['gone'],
  gone: [],
};

export interface LeasedConnection {
  readonly lease: Lease;
  /** The carrier's side of it. */
  readonly wire: ChannelConnection;
  readonly phase: Phase;
  /** Monotonic time after which nothing may be sent. */
  readonly deadline: number;
  /** The chunks that were claimed for it, in the order in which they are sent. */
  runs: readonly ChunkRun[];
  /** Messages handed to the carrier's side and not settled. */
  inFlight: number;
  /** Indexes that the flush under way adds to the reservations. */
  reserving: number;
}

/** A connection as this module sees it. */
interface Own extends LeasedConnection {
  phase: Phase;
  deadline: number;
  /** The last write of the state shown to the operator. The next write waits for it, so that they stay in order. */
  shown: Promise<void>;
  /** Monotonic time since when its session has been logged in; null while it is not. */
  upSince: number | null;
}

export interface Leases {
  /** The connections leased now, in the order in which they were taken. */
  all(): IterableIterator<LeasedConnection>;
  count(): number;
  /**
   * Renews the leases and drops connections whose lease is lost; then takes connections up to this node's share, or begins to give back
   * the surplus. Throws if the database cannot be reached.
   */
  beat(): Promise<void>;
  /** Puts the connection's chunks back, once all messages handed to the carrier's side are settled: its session, or the channel, is bad. */
  returnChunks(connection: LeasedConnection): void;
  /** The chunks of a `returning` connection are back: it may work again. */
  resume(connection: LeasedConnection): void;
  /** Forgets a connection whose lease is lost, or whose chunks are not known: they belong to the next owner of the lease. */
  drop(connection: LeasedConnection, reason: string): void;
  /** Gives all connections back and takes no more. `forGood`: tells the other nodes at once that this one leaves the channel. */
  giveBack(forGood: boolean): Promise<void>;
}

const leaseSeconds = 10;
/** Sending stops this long before the lease ends, because clocks run at different speeds. */
const leaseMarginMs = 2000;
/** How long a connection waits for the outcomes of begun messages before it is given back. */
const drainMs = 10_000;
const pollMs = 3;

/** Whether messages may be handed over: new ones on a `working` connection, and only begun ones on a `closing` connection. */
export const maySend = ({ phase }: LeasedConnection): boolean => phase === 'working' || phase === 'closing';

/** Whether the chunks of this connection go back with the next flush. */
export const isLeaving = ({ phase, inFlight }: LeasedConnection): boolean =>
  (phase === 'returning' || phase === 'emptying') && inFlight === 0;

/** Whether its lease has run out by any clock. */
export const hasRunOut = ({ deadline }: LeasedConnection): boolean => performance.now() > deadline + leaseMarginMs;

/** Takes nothing before its first beat. */
export function createLeases(deps: LeasesDeps, channel: Channel, secret: string, owner: LeasesOwner): Leases {
  const { db, log, node } = deps;
  const channelId = channel.id;
  const connections = new Map<number, Own>();
  let stopping = false;
  /** Gives back the connections above this node's share, one at a time. */
  let shedding: Promise<void> | undefined;
  /** Monotonic time when a session was seen logged in last; null: never. */
  let lastUp: number | null = null;

  const about = ({ lease }: LeasedConnection) => ({ channel: String(channelId), connection: lease.connection });

  // ── phases ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** False if that step does not exist; the connection is then dropped. */
  function enter(connection: Own, phase: Phase): boolean {
    if (!following[connection.phase].includes(phase)) {
      log.error({ ...about(connection), from: connection.phase, to: phase }, 'a connection cannot take this step: it is dropped');
      forget(connection);
      return false;
    }
    connection.phase = phase;
    return true;
  }

  function returnChunks(connection: Own): void {
    if (connection.phase === 'working') enter(connection, 'returning');
    else if (connection.phase === 'closing') enter(connection, 'emptying');
    owner.flushSoon();
  }

  function drop(connection: Own, reason: string): void {
    if (connection.phase === 'gone') return;
    log.warn({ ...about(connection), reason }, 'connection given up');
    forget(connection);
  }

  function forget(connection: Own): void {
    if (connections.get(connection.lease.connection) === connection) connections.delete(connection.lease.connection);
    connection.phase = 'gone';
    connection.deadline = 0;
    connection.runs = [];
    connection.wire.stop(0).catch((error: unknown) => log.error({ ...about(connection), err: error }, 'a connection could not be stopped'));
  }

  // ── connections ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  function open(lease: Lease, deadline: number): void {
    // The carrier's side calls back only once it is started, and by then the connection is there.
    const wire = deps.connect(channel, secret, {
      mayWrite: () => performance.now() < connection.deadline,
      events: {
        onState: (state, reason) => stateChanged(connection, state, reason),
        onRoom: () => owner.onRoom(connection),
        onReport: (report, acknowledge) => deps.onReport(channelId, report, acknowledge),
        onReadReply: (reply, acknowledge) => deps.onReadReply(channelId, reply, acknowledge),
        onInbound: (inbound, acknowledge) => deps.onInbound(channelId, inbound, acknowledge),
      },
    });
    const connection: Own = {
      lease,
      wire,
      phase: 'working',
      deadline,
      runs: [],
      inFlight: 0,
      reserving: 0,
      shown: Promise.resolve(),
      upSince: null,
    };
    connections.set(lease.connection, connection);
    wire.start();
  }

  function stateChanged(connection: Own, state: ConnectionState, reason: string): void {
    log.info({ ...about(connection), state, reason }, 'connection');
    connection.shown = connection.shown.then(() => showState(db.sql, connection.lease, state, reason)).catch(() => {}); // only for display; the next change writes again
    const now = performance.now();
    if (connection.upSince !== null) lastUp = now;
    connection.upSince = state === 'up' ? now : null;
    if (state === 'up') owner.onUp(connection);
    else if (connection.runs.length > 0) returnChunks(connection);
  }

  /** For the health check, which judges whether the channel has a session at all. */
  function sessionAges(): SessionAges {
    const now = performance.now();
    const since = [...connections.values()].flatMap(({ upSince }) => upSince ?? []);
    if (since.length > 0) lastUp = now;
    return { upForMs: since.length > 0 ? now - Math.min(...since) : null, upAgoMs: lastUp === null ? null : now - lastUp };
  }

  // ── taking and renewing ────────────────────────────────────────────────────────────────────────────────────────────────────────

  async function beat(): Promise<void> {
    const deadline = performance.now() + leaseSeconds * 1000 - leaseMarginMs;
    if (connections.size > 0) {
      const renewed = await renewLeases(db.sql, channelId, node, [...connections.keys()], leaseSeconds);
      const epochs = new Map(renewed.map(({ connection, epoch }) => [connection, epoch]));
      for (const connection of connections.values()) {
        if (epochs.get(connection.lease.connection) === connection.lease.epoch) connection.deadline = deadline;
        else drop(connection, 'the lease was not renewed');
      }
    }
    if (stopping) return;
    const nodes = await serveChannel(db.sql, channelId, node, leaseSeconds, sessionAges());
    const share = shareOf(channelId, channel.connections, node, nodes);
    const most = share - connections.size;
    if (most > 0) {
      const taken = await db.transaction((sql) =>
        takeLeases(sql, { channelId, connections: channel.connections, most, node, leaseSeconds }),
      );
      for (const lease of taken) open(lease, deadline);
    } else if (most < 0) {
      shedding ??= shed(share).finally(() => {
        shedding = undefined;
      });
    }
  }

  // ── giving back ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Gives connections back, one after the other, until this node has its share. Connections that are not up go first. */
  async function shed(share: number): Promise<void> {
    while (!stopping && connections.size > share) {
      const all = [...connections.values()].toReversed();
      const connection = all.find(({ wire }) => wire.state !== 'up') ?? all[0];
      if (!connection) return;
      log.info(about(connection), 'connection given back: other nodes share this channel');
      await release(connection).catch((error: unknown) =>
        log.error({ channel: String(channelId), err: error }, 'a connection was not given back; its lease runs out'),
      );
    }
  }

  /**
   * Gives a connection back. It waits for the outcomes of begun messages before it closes. Messages that outlast the drain are in doubt.
   */
  async function release(connection: Own): Promise<void> {
    if (!enter(connection, connection.phase === 'returning' ? 'emptying' : 'closing')) return;
    const until = performance.now() + drainMs;
    const isHeard = (): boolean =>
      !owner.isClaiming(connection) && connection.inFlight === 0 && connection.runs.every((run) => run.begun() === 0);
    while (connection.phase === 'closing' && !isHeard() && performance.now() < until) await sleep(pollMs);
    await connection.wire.stop(Math.max(0, until - performance.now()));
    if (connection.phase === 'closing') enter(connection, 'emptying');
    while (owner.isClaiming(connection) || connection.inFlight > 0 || connection.runs.length > 0) await owner.nextFlush();
    await connection.shown;
    if (connection.phase === 'gone' || !enter(connection, 'gone')) return;
    connections.delete(connection.lease.connection);
    await giveUpLeases(db.sql, channelId, node, [connection.lease.connection]);
  }

  async function giveBack(forGood: boolean): Promise<void> {
    stopping = true;
    // The other nodes may take the connections that are about to be free.
    if (forGood) await leaveChannel(db.sql, channelId, node).catch(() => {});
    const left = [...connections.values()].filter(({ phase }) => phase === 'working' || phase === 'returning');
    await Promise.all([shedding, ...left.map(release)]);
  }

  return {
    all: () => connections.values(),
    count: () => connections.size,
    beat,
    returnChunks,
    resume: (connection: Own) => void enter(connection, 'working'),
    drop,
    giveBack,
  };
}
