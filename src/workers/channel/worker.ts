/**
 * Moves the queued chunks of one channel onto its connections, and what the carrier answers into the database.
 *
 * A node holds leases of some of the channel's connections. Each leased connection ("link") claims chunks, reserves a small range of
 * indexes, hands messages to the carrier within window and rate, and gathers outcomes. One flush at a time writes the outcomes of all
 * links: it checks the leases, records, advances the reservations and takes finished chunks off the queue, in one transaction; then the
 * links may go on. So the number of messages that a crash leaves in doubt is bounded by the reservations, and nothing is sent under a
 * lease that has been lost: the connection asks `mayWrite` before every PDU.
 *
 * Nodes share the connections of a channel evenly. One that holds more than its part, because another came, and one that stops, releases
 * links: such a link begins nothing new, hears out what it has begun, and gives its chunks and its lease back. Nothing is in doubt by that.
 *
 * A link whose connection drops puts its chunks back; whoever claims them next reads which messages have rows, and the product's
 * policy decides about the rest below the reservation. So do all links when the channel has become unhealthy; one that is being probed
 * begins no more than its watch allows.
 */
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChannelConnection, ConnectionDeps, ConnectionEvents, ConnectionState, SegmentOutcome } from '../../channels/channel.ts';
import { dispatchBodies, type DispatchBody } from '../../core/queue/batches.ts';
import type { Directory } from '../../core/config/directory.ts';
import type { Sign } from '../../core/catalogue/health.ts';
import type { Links } from '../../core/content/links.ts';
import { listLookup } from '../../core/catalogue/list-lookup.ts';
import { type Outcome, record, recordedOf } from '../../core/outcome/messages.ts';
import type { Channel } from '../../core/model/configuration.ts';
import { chunkCapacity, indexOf } from '../../core/model/ids.ts';
import { messageStatus } from '../../core/model/statuses.ts';
import { contentKinds } from '../../core/content/kinds.ts';
import type { PackageLoader } from '../../core/content/media.ts';
import {
  claim as claimChunks,
  type Claim,
  finish,
  giveUpLeases,
  type Lease,
  leaveChannel,
  neverClaimed,
  type Placed,
  putBack,
  renewLeases,
  reserve,
  serveChannel,
  type SessionAges,
  shareOf,
  showState,
  standing,
  takeLeases,
} from '../../core/queue/queue.ts';
import { sourceNumber } from '../../core/queue/routing.ts';
import type { Signals } from '../../core/config/signals.ts';
import { type Db, isConnectionLoss, isUnknownCommit } from '../../db/db.ts';
import type { Log } from '../../log.ts';
import { groupBy } from '../../std/group.ts';
import { type ChunkRun, createChunkRun, decideWithoutSending } from './chunk-run.ts';
import type { ChannelHealth } from '../health.ts';
import type { Recent, RecentEntry } from '../recent.ts';

export interface ChannelWorkerDeps {
  readonly db: Db;
  readonly directory: Directory;
  readonly health: ChannelHealth;
  readonly signals: Signals;
  readonly links: Links;
  readonly packages: PackageLoader;
  readonly recent: Recent;
  readonly log: Log;
  readonly clock: () => Date;
  /** This process, in leases. */
  readonly node: string;
  readonly linkBase: string;
  /** Makes a connection of a channel; it is started and stopped here. */
  connect(channel: Channel, secret: string, deps: ConnectionDeps): ChannelConnection;
  /** Reports, read replies and inbound, passed on with the channel they came from. */
  onReport(channelId: bigint, ...args: Parameters<ConnectionEvents['onReport']>): void;
  onReadReply(channelId: bigint, ...args: Parameters<ConnectionEvents['onReadReply']>): void;
  onInbound(channelId: bigint, ...args: Parameters<ConnectionEvents['onInbound']>): void;
  /** Counts for the operator. */
  count(what: 'inDoubt' | 'sent' | 'rejected' | 'intercepted', n: number, labels?: Readonly<Record<string, string>>): void;
}

/** Messages of one link that may be sent without a committed outcome: what a crash may leave in doubt. */
const reservation = 128;
const leaseSeconds = 10;
/** How long before the end of a lease its holder stops sending, for the clocks' difference in pace. */
const leaseMarginMs = 2000;
const flushDelayMs = 3;
const throttledRetryMs = 1000;
const drainMs = 10_000;
const mostFailures = 25;
const mostChunksPerClaim = 128;
/** The priority classes as they are stored: the lower number goes first. */
const classOf = { high: 0, low: 1 } as const;

interface Link {
  readonly lease: Lease;
  readonly connection: ChannelConnection;
  /** Monotonic time after which nothing may be sent. */
  deadline: number;
  runs: readonly ChunkRun[];
  /** Set when the connection was lost or the link is stopping: nothing is claimed or sent, its chunks go back with the next flush. */
  leaving: boolean;
  /** Set when the link is to be given back: nothing is claimed or begun, what was begun is heard out. */
  closing: boolean;
  claiming: boolean;
  inFlight: number;
  /** The last write of what the operator sees; the next waits for it, so that they cannot overtake each other. */
  shown: Promise<void>;
  /** Monotonic time since when its connection has been logged in; null while it is not. */
  upSince: number | null;
  /** What the flush under way is about to add to the reservations. */
  reserving: number;
  pumping: boolean;
}

/** An outcome on its way to the database. */
interface Heard {
  readonly link: Link;
  readonly run: ChunkRun;
  readonly outcome: Outcome;
  /** False for outcomes that needed no sending: they do not count against the reservation. */
  readonly sent: boolean;
}

export interface ChannelWorker {
  /** False once the channel's settings differ from those the worker was made for. */
  serves(channel: Channel): boolean;
  /** Renews, takes and gives back leases, looks for work. */
  beat(): Promise<void>;
  wake(): void;
  /** The channel's health has changed. */
  turn(): void;
  held(): number;
  /** `forGood`: this node serves the channel no more, nor will it in a moment with other settings. */
  stop(forGood: boolean): Promise<void>;
}

/** A worker for a channel as it is now; it begins nothing before its first beat. `onReturned`: chunks have been put back and may go elsewhere, if the channel is unhealthy. */
export function createChannelWorker(deps: ChannelWorkerDeps, channel: Channel, onReturned: () => void): ChannelWorker {
  const { db, directory, log, recent, node, clock } = deps;
  const onList = listLookup(db.sql);
  const channelId = channel.id;
  const made = descriptionOf(channel);
  const watch = deps.health.watch(channelId);
  const secret = directory.channelSecret(channelId) ?? '';
  const links = new Map<number, Link>();
  let heard: Heard[] = [];
  let flushWanted = false;
  let flushing: Promise<void> | undefined;
  let flushTimer: NodeJS.Timeout | undefined;
  let claiming = false;
  let claimAgain = false;
  let stopping = false;
  /** Gives back what is more than this node's part; one connection at a time. */
  let shedding: Promise<void> | undefined;
  /** Messages claimed of each class since the lower one last had nothing. */
  const served = { high: 0, low: 0 };
  let averageN = 500;
  /** Monotonic time when a connection was seen logged in last; null: never. */
  let lastUp: number | null = null;
  /** Entries of the memory of sent messages that wait for their row. */
  let unrecorded: RecentEntry[] = [];

  // ── sending ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  function pump(link: Link): void {
    if (link.leaving || link.pumping || performance.now() >= link.deadline) return;
    link.pumping = true;
    let starved = false;
    while (watch.mayBegin() && link.connection.room() > 0) {
      const found = nextOf(link);
      if (!found) {
        starved = true;
        break;
      }
      const { run, index } = found;
      link.inFlight++;
      watch.began();
      link.connection.send(run.message(index), (outcomes) => settle(link, run, index, outcomes));
    }
    link.pumping = false;
    if (!starved || link.closing) return;
    // Waiting for a reservation: ask for it if there is room now, else the outcomes still to come will bring it along.
    if (openOf(link) < reservation && link.runs.some((run) => run.reservedUpto() < run.claim.n)) scheduleFlush();
    if (wantsWork(link)) void claimWork();
  }

  function nextOf(link: Link): { run: ChunkRun; index: number } | null {
    for (const run of link.runs) {
      const index = run.next(link.closing);
      if (index !== null) return { run, index };
    }
    return null;
  }

  function settle(link: Link, run: ChunkRun, index: number, outcomes: readonly SegmentOutcome[]): void {
    link.inFlight--;
    watch.heard(signOf(outcomes));
    if (outcomes.some(({ kind }) => kind === 'unknown')) deps.count('inDoubt', 1);
    const next = run.judge(index, outcomes, link.leaving);
    if (next.kind === 'outcome') {
      rememberSent(next.outcome);
      heard.push({ link, run, outcome: next.outcome, sent: true });
      scheduleFlush();
    } else if (next.kind === 'retry') {
      if (!next.later) run.again(index);
      else
        setTimeout(() => {
          run.again(index);
          pump(link);
        }, throttledRetryMs);
    }
    if (link.leaving && link.inFlight === 0) scheduleFlush();
  }

  function rememberSent({ id, common: { accountId, day }, carrierId, parts }: Outcome): void {
    if (carrierId !== null) unrecorded.push(recent.remember(channelId, carrierId, { id, accountId, day, seg: null }));
    for (const part of parts)
      if (part.carrierId !== null) unrecorded.push(recent.remember(channelId, part.carrierId, { id, accountId, day, seg: part.seg }));
  }

  // ── claiming ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  const openOf = (link: Link): number => link.runs.reduce((sum, run) => sum + run.open(), link.reserving);
  const wantsWork = (link: Link): boolean =>
    !stopping &&
    !link.leaving &&
    !link.closing &&
    watch.mayBegin() &&
    link.connection.state === 'up' &&
    link.runs.reduce((sum, run) => sum + run.unsent(), 0) < reservation;

  /** Claims for every link that could do more, until the queue has nothing or nobody wants. One such round at a time. */
  async function claimWork(): Promise<void> {
    if (claiming) {
      claimAgain = true;
      return;
    }
    claiming = true;
    try {
      do {
        claimAgain = false;
        for (const link of links.values()) {
          link.claiming = true;
          try {
            while (wantsWork(link) && (await claimFor(link)));
          } finally {
            link.claiming = false;
          }
        }
      } while (claimAgain);
    } catch (error) {
      log.error({ channel: String(channelId), err: error }, 'claiming failed; trying again at the next beat');
    } finally {
      claiming = false;
    }
  }

  /**
   * Claims once for a link; false if there was nothing. The lower class keeps at least a tenth of the messages: it goes first once it
   * is owed a chunk's worth. What it is owed is forgotten when it has nothing waiting.
   */
  async function claimFor(link: Link): Promise<boolean> {
    const classes = served.high / 9 - served.low >= chunkCapacity ? (['low', 'high'] as const) : (['high', 'low'] as const);
    const limit = Math.min(mostChunksPerClaim, Math.max(1, Math.ceil(reservation / averageN)));
    for (const wanted of classes) {
      const budget = Math.max(0, reservation - openOf(link));
      const claims = await db
        .transaction((sql) =>
          claimChunks(sql, { lease: link.lease, class: classOf[wanted], limit, most: chunkCapacity, budget, at: clock() }),
        )
        .catch((error: unknown) => {
          // What it may have claimed goes back when the lease is taken anew.
          if (isUnknownCommit(error)) drop(link, 'whether it claimed anything is not known');
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
        await takeUp(link, claims);
      } catch (error) {
        drop(link, 'what was claimed could not be loaded'); // it goes back when the lease is taken anew
        throw error;
      }
      if (link.connection.state === 'up' && !isUnhealthy()) pump(link);
      else leave(link); // the connection was lost meanwhile, or the channel's health; others may be better
      return true;
    }
    averageN = 500;
    return false;
  }

  /** Loads what was claimed, decides what needs no sending, and puts the rest in line. */
  async function takeUp(link: Link, claims: readonly Claim[]): Promise<void> {
    const bodies = new Map<bigint, DispatchBody>();
    const byAccount = groupBy(claims, ({ accountId }) => accountId);
    await Promise.all(
      [...byAccount].map(async ([accountId, own]) => {
        for (const body of await dispatchBodies(
          db.sql,
          accountId,
          own.map(({ chunkId }) => chunkId),
        ))
          bodies.set(body.id, body);
      }),
    );
    const outs = await optOuts([...bodies.values()]);
    for (const claim of claims) {
      const body = bodies.get(claim.chunkId);
      const tenancy = directory.subscription(claim.subscriptionId);
      if (!body || !tenancy) throw new Error(`chunk ${claim.chunkId} has no body or no subscription`);
      const { product, subscription } = tenancy;
      const rows =
        claim.doubtUpto !== neverClaimed ? await recordedOf(db.sql, claim.accountId, claim.chunkId, body.day) : new Set<bigint>();
      const recordedBefore = new Set([...rows].map(indexOf));
      const { outcomes: decided, inDoubt } = decideWithoutSending(claim, body, {
        channelId,
        recordedBefore,
        givesUp: product.inDoubt === 'give_up',
        isExpired: claim.expiresAt <= clock(),
        optedOut: outs.get(claim.subscriptionId) ?? nobody,
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
      const run = createChunkRun(claim, body, policy, skip);
      link.runs = [...link.runs, run];
      for (const outcome of decided) heard.push({ link, run, outcome, sent: false });
      if (run.complete() || decided.length > 0) scheduleFlush();
    }
  }

  /** Who has opted out since the batch was accepted: one query per subscription that has a list. */
  async function optOuts(bodies: readonly DispatchBody[]): Promise<Map<bigint, ReadonlySet<bigint>>> {
    const found = new Map<bigint, ReadonlySet<bigint>>();
    await Promise.all(
      [...groupBy(bodies, ({ subscriptionId }) => subscriptionId)].map(async ([subscriptionId, own]) => {
        const list = directory.blocklist('subscription', subscriptionId);
        if (list !== undefined)
          found.set(
            subscriptionId,
            await onList(
              list,
              own.flatMap(({ phones }) => phones),
            ),
          );
      }),
    );
    return found;
  }

  // ── flushing ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  function scheduleFlush(): void {
    flushWanted = true;
    if (flushing || flushTimer) return;
    flushTimer = setTimeout(() => {
      flushTimer = undefined;
      flushWanted = false;
      flushing = flush().finally(() => {
        flushing = undefined;
        if (flushWanted) scheduleFlush();
      });
    }, flushDelayMs);
  }

  /** Writes everything heard so far. Returns when it is committed, or when the leases it was heard under are lost. */
  async function flush(): Promise<void> {
    const outcomes = heard;
    const entries = unrecorded;
    heard = [];
    unrecorded = [];
    const leaving = [...links.values()].filter((link) => link.leaving && link.inFlight === 0);
    const concerned = new Set([...links.values()].filter((link) => link.runs.length > 0));
    for (const { link } of outcomes) concerned.add(link);
    if (concerned.size > 0) {
      const held = await writeUntilDone([...concerned], outcomes, leaving);
      for (const link of concerned) if (!held.has(link.lease)) drop(link, 'the lease was lost');
    }
    for (const entry of entries) entry.recorded = true;
    for (const link of leaving) {
      // A claim that was being loaded may have added a run meanwhile: it goes back with the next flush.
      if (link.runs.length > 0) scheduleFlush();
      else link.leaving = link.closing || links.get(link.lease.connection) !== link;
    }
    for (const link of links.values()) pump(link);
  }

  /**
   * Tries until the transaction is known to be committed; gives up when every lease concerned has run out, or when the database is there
   * and keeps refusing.
   */
  async function writeUntilDone(
    concerned: readonly Link[],
    outcomes: readonly Heard[],
    leaving: readonly Link[],
  ): Promise<ReadonlySet<Lease>> {
    for (let again = false, failures = 0; ; ) {
      try {
        return await write(concerned, outcomes, leaving, again);
      } catch (error) {
        if (!isConnectionLoss(error)) failures++;
        if (failures > mostFailures || concerned.every(({ deadline }) => performance.now() > deadline + leaseMarginMs)) {
          log.error(
            { channel: String(channelId), err: error, outcomes: outcomes.length },
            'outcomes could not be recorded; their chunks are left to whoever takes the leases next',
          );
          return new Set();
        }
        again ||= isUnknownCommit(error);
        if (!isConnectionLoss(error)) log.error({ channel: String(channelId), err: error }, 'recording outcomes failed; trying again');
        await sleep(200);
      }
    }
  }

  async function write(
    concerned: readonly Link[],
    outcomes: readonly Heard[],
    leaving: readonly Link[],
    again: boolean,
  ): Promise<ReadonlySet<Lease>> {
    const steps = new Map<ChunkRun, number>();
    /** Runs that leave this node: finished, or put back. */
    const gone = new Set<ChunkRun>();
    const held = await db.transaction(async (sql) => {
      steps.clear();
      gone.clear();
      const held = await standing(
        sql,
        channelId,
        concerned.map(({ lease }) => lease),
      );
      const valid = outcomes.filter(({ link }) => held.has(link.lease));
      const justSent = groupBy(
        valid.filter(({ sent }) => sent),
        ({ run }) => run,
      );
      const sinceThen = new Set(heard.map(({ run }) => run));
      const reserved: Placed[] = [];
      const done: Placed[] = [];
      const returned: Placed[] = [];
      for (const link of concerned) {
        if (!held.has(link.lease)) continue;
        link.reserving = 0;
        let budget = reservation - openOf(link) + link.runs.reduce((sum, run) => sum + (justSent.get(run)?.length ?? 0), 0);
        for (const run of link.runs) {
          const place = { lease: link.lease, chunkId: run.claim.chunkId };
          if (run.complete() && !sinceThen.has(run)) {
            gone.add(run);
            done.push({ ...place, upto: 0 });
          } else if (leaving.includes(link)) {
            gone.add(run);
            returned.push({ ...place, upto: run.doubtUpto() });
          } else if (!link.leaving && !link.closing && budget > 0) {
            const upto = Math.min(run.claim.n, run.reservedUpto() + budget);
            if (upto === run.reservedUpto()) continue;
            steps.set(run, upto);
            reserved.push({ ...place, upto });
            link.reserving += upto - run.reservedUpto();
            budget -= upto - run.reservedUpto();
          }
        }
      }
      await Promise.all([
        record(
          sql,
          directory,
          valid.map(({ outcome }) => outcome),
          clock(),
          again,
        ),
        reserve(sql, channelId, reserved),
        finish(sql, channelId, done),
        putBack(sql, channelId, returned),
      ]);
      return held;
    });
    // Committed: the books may follow.
    for (const [run, own] of groupBy(
      outcomes.filter(({ sent }) => sent),
      ({ run }) => run,
    ))
      run.recorded(own.length);
    for (const [run, upto] of steps) run.reserveTo(upto);
    for (const link of concerned) {
      link.reserving = 0;
      link.runs = link.runs.filter((run) => !gone.has(run));
    }
    if (leaving.length > 0) onReturned();
    for (const status of ['sent', 'rejected'] as const)
      deps.count(status, outcomes.filter(({ outcome }) => outcome.status === messageStatus[status]).length, { channel: String(channelId) });
    const intercepted = outcomes.filter(({ outcome }) => outcome.status === messageStatus.intercepted);
    for (const [code, own] of groupBy(intercepted, ({ outcome }) => outcome.code ?? '')) deps.count('intercepted', own.length, { code });
    if (outcomes.some(({ outcome }) => outcome.code !== null)) deps.signals.emit('push');
    return held;
  }

  // ── links ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  function open(lease: Lease, deadline: number): void {
    // The connection calls back only once it is started, and by then the link is there.
    const connection = deps.connect(channel, secret, {
      mayWrite: () => performance.now() < link.deadline,
      events: {
        onState: (state, reason) => stateChanged(link, state, reason),
        onRoom: () => pump(link),
        onReport: (report, acknowledge) => deps.onReport(channelId, report, acknowledge),
        onReadReply: (reply, acknowledge) => deps.onReadReply(channelId, reply, acknowledge),
        onInbound: (inbound, acknowledge) => deps.onInbound(channelId, inbound, acknowledge),
      },
    });
    const link: Link = {
      lease,
      connection,
      deadline,
      runs: [],
      leaving: false,
      closing: false,
      claiming: false,
      inFlight: 0,
      reserving: 0,
      shown: Promise.resolve(),
      upSince: null,
      pumping: false,
    };
    links.set(lease.connection, link);
    connection.start();
  }

  function stateChanged(link: Link, state: ConnectionState, reason: string): void {
    log.info({ channel: String(channelId), connection: link.lease.connection, state, reason }, 'connection');
    link.shown = link.shown.then(() => showState(db.sql, link.lease, state, reason)).catch(() => {}); // only shown; the next change writes anew
    const now = performance.now();
    if (link.upSince !== null) lastUp = now;
    link.upSince = state === 'up' ? now : null;
    if (state === 'up') {
      pump(link);
      void claimWork();
    } else if (link.runs.length > 0) leave(link);
  }

  const isUnhealthy = (): boolean => directory.channel(channelId)?.health === 'unhealthy';

  function turn(): void {
    for (const link of links.values()) {
      if (isUnhealthy() && link.runs.length > 0) leave(link);
      else pump(link);
    }
    void claimWork();
  }

  /** For whoever judges whether the channel has a session at all. */
  function sessionAges(): SessionAges {
    const now = performance.now();
    const since = [...links.values()].flatMap(({ upSince }) => upSince ?? []);
    if (since.length > 0) lastUp = now;
    return { upForMs: since.length > 0 ? now - Math.min(...since) : null, upAgoMs: lastUp === null ? null : now - lastUp };
  }

  /** Puts a link's chunks back, once all that was handed to its connection has been settled. */
  function leave(link: Link): void {
    link.leaving = true;
    scheduleFlush();
  }

  /** Forgets a link whose lease is gone: its chunks belong to whoever holds the lease now. */
  function drop(link: Link, reason: string): void {
    if (links.get(link.lease.connection) !== link) return;
    links.delete(link.lease.connection);
    link.deadline = 0;
    link.leaving = true;
    link.runs = [];
    log.warn({ channel: String(channelId), connection: link.lease.connection, reason }, 'connection given up');
    void link.connection.stop(0);
  }

  async function beat(): Promise<void> {
    const before = performance.now();
    const deadline = before + leaseSeconds * 1000 - leaseMarginMs;
    if (links.size > 0) {
      const standingLeases = await renewLeases(db.sql, channelId, node, [...links.keys()], leaseSeconds);
      const epochs = new Map(standingLeases.map(({ connection, epoch }) => [connection, epoch]));
      for (const link of links.values()) {
        if (epochs.get(link.lease.connection) === link.lease.epoch) link.deadline = deadline;
        else drop(link, 'the lease was not renewed');
      }
    }
    if (stopping) return;
    const nodes = await serveChannel(db.sql, channelId, node, leaseSeconds, sessionAges());
    const share = shareOf(channelId, channel.connections, node, nodes);
    const most = share - links.size;
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
    void claimWork();
    for (const link of links.values()) pump(link);
  }

  // ── giving back ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Gives connections back, one after the other, until as many are left as are this node's part; those first that are not up. */
  async function shed(share: number): Promise<void> {
    while (!stopping && links.size > share) {
      const all = [...links.values()].toReversed();
      const link = all.find(({ connection }) => connection.state !== 'up') ?? all[0];
      if (!link) return;
      log.info({ channel: String(channelId), connection: link.lease.connection }, 'connection given back: other nodes share this channel');
      await release(link).catch((error: unknown) =>
        log.error({ channel: String(channelId), err: error }, 'a connection was not given back; its lease runs out'),
      );
    }
  }

  /**
   * Gives a link back. What it has begun is heard out before its connection closes: a message that is to be tried again is, since to
   * leave it to another node would make it one that may have been sent. Whatever takes longer than a drain may is left in doubt.
   */
  async function release(link: Link): Promise<void> {
    link.closing = true;
    const until = performance.now() + drainMs;
    const isHeard = (): boolean => !link.claiming && link.inFlight === 0 && link.runs.every((run) => run.begun() === 0);
    while (!isHeard() && !link.leaving && performance.now() < until) await sleep(flushDelayMs);
    await link.connection.stop(Math.max(0, until - performance.now()));
    link.leaving = true;
    while (link.claiming || link.inFlight > 0 || link.runs.length > 0) {
      scheduleFlush();
      await (flushing ?? sleep(flushDelayMs));
    }
    await link.shown;
    if (links.get(link.lease.connection) !== link) return;
    links.delete(link.lease.connection);
    await giveUpLeases(db.sql, channelId, node, [link.lease.connection]);
  }

  async function stop(forGood: boolean): Promise<void> {
    stopping = true;
    // The others may have what is about to be free.
    if (forGood) await leaveChannel(db.sql, channelId, node).catch(() => {});
    await Promise.all([shedding, ...[...links.values()].filter(({ closing }) => !closing).map(release)]);
    while (claiming || flushing || flushTimer || heard.length > 0) {
      scheduleFlush();
      await (flushing ?? sleep(flushDelayMs));
    }
  }

  return {
    serves: (current) => descriptionOf(current) === made && secret === directory.channelSecret(current.id),
    beat,
    wake: () => void claimWork(),
    turn,
    held: () => links.size,
    stop,
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

const nobody: ReadonlySet<bigint> = new Set();
