/**
 * A logged-in TCP connection to a carrier that reconnects by itself: what CMPP, SMGP, SGIP and SMPP have in common, below their PDUs.
 *
 * A session owns the socket, the login and its deadline, request numbers, the window and its time-outs, the keep-alive in our direction,
 * the limit of deliveries not yet answered, reconnecting with back-off, and the logout. It knows no PDU: a `SessionProtocol` writes and
 * reads them. It has no queue: what does not fit the window waits at its owner.
 *
 * States: `down` → `connecting` (TCP and login) → `up`, or `refused` when the carrier answered the login with an error; from each of them
 * back to `connecting` after a pause (backoff.ts). `stop` leads through `draining` (only from `up`) to `stopped`, which is final.
 *
 * A session may also adopt a socket that the peer has opened to us, as SGIP's gateways do. Then the peer logs in, and the protocol answers:
 * `connecting` → `up`, everything else as above. A connection that has ended is not opened again: every end leads to `stopped`.
 *
 * One slow tick times everything, instead of a timer per request. PDUs written in one turn of the event loop leave in one write.
 */
import { connect, type Socket } from 'node:net';
import { ProtocolError } from '../../protocols/wire/fields.ts';
import { createFrameReader, type FrameBounds } from '../../protocols/wire/framing.ts';
import type { ConnectionState } from '../channel.ts';
import { createBackoff } from './backoff.ts';
import type { SessionSettings } from './settings.ts';

/** A session on a socket that the peer has opened. Start it in the turn in which the socket was accepted. */
export interface AdoptedSettings
  extends Pick<SessionSettings, 'window' | 'responseTimeoutMs' | 'keepAliveMs' | 'keepAliveTries' | 'loginTimeoutMs'> {
  readonly socket: Socket;
}

/** A request in the window. The session stores its time here instead of in an object of its own. */
export interface Tracked {
  writtenAt: number;
}

/** What a protocol does for its session. */
export interface SessionProtocol<R extends Tracked> {
  readonly frames: FrameBounds;
  /** The login request; null where the peer logs in. */
  readonly login: ((sequenceId: number) => Buffer) | null;
  keepAlive(sequenceId: number): Buffer;
  leave(sequenceId: number): Buffer;
  /** Handles one frame. Throwing `ProtocolError` closes the connection. */
  receive(buffer: Buffer, start: number, end: number): void;
  /** Answers what was `delivered` under this number and id: safe, or send again. */
  answer(sequenceId: number, id: string, isSafe: boolean): void;
  /** Called when all frames that came together were received, or time has passed: a good moment to write more. */
  caughtUp(): void;
  /** The request will not be answered any more: it timed out, or its connection is gone. */
  unanswered(request: R): void;
  /** Whether a drain has nothing left to write. */
  isDrained(): boolean;
  /** Called again right before requests reach the socket: the process may have slept since they were made. */
  mayWrite(): boolean;
  onState(state: ConnectionState, reason: string): void;
}

export interface Session<R extends Tracked> {
  start(): void;
  stop(drainMs: number): Promise<void>;
  readonly state: ConnectionState;
  /** Requests that may be written now, also while draining. */
  free(): number;
  nextSequence(): number;
  /** Writes a request and keeps it in the window until `answered`. `now` as of `performance.now()`. */
  request(sequenceId: number, pdu: Buffer, request: R, now: number): void;
  /** Takes the request out of the window. Undefined if it is not there: already answered, timed out, or never ours. */
  answered(sequenceId: number): R | undefined;
  /** Writes a PDU whose answer the session does not wait for. */
  write(pdu: Buffer): void;
  /**
   * Records a delivery from the peer, and returns the function that answers it through the protocol's `answer`. It answers once, and only
   * on the same connection, since the carrier repeats unanswered deliveries on the next one. `id` is what the answer must repeat beside the
   * number. With too many unanswered deliveries the session stops reading until half of them are answered.
   */
  delivered(sequenceId: number, id: string): (isSafe: boolean) => void;
  /** The answer to the login: success; an error; or "again at once", which the protocol uses a bounded number of times. */
  accepted(reason: string): void;
  refused(reason: string): void;
  again(reason: string): void;
  /** The peer has answered our logout, or has asked to log out and got its answer. */
  left(reason: string): void;
}

/** Request numbers, from 1 to what all these protocols can carry (SMPP leaves out the highest bit). */
const maxSequence = 0x7fffffff;
/** Deliveries that the owner has not yet declared safe; above this we stop reading. */
const maxUnacknowledged = 2000;

/** Answers pile up for a peer that sends without reading; above this we stop reading from it. */
const maxUnwrittenBytes = 1 << 20;
/** How long the answer to a logout may take. */
const leaveMs = 1000;
/** `stop` has a caller that waits, so the tick is quicker. */
const drainTickMs = 10;

export function createSession<R extends Tracked>(settings: SessionSettings | AdoptedSettings, protocol: SessionProtocol<R>): Session<R> {
  const adopted = 'socket' in settings ? settings.socket : null;
  const backoff = 'socket' in settings ? null : createBackoff(settings);

  let state: ConnectionState = 'down';
  let socket: Socket | null = null;
  /** Counts connections: an answer that belongs to an earlier one must not be written on this one. */
  let epoch = 0;
  let sequence = 0;
  /** In the order of writing, which is the order of time-outs. */
  const pending = new Map<number, R>();

  let out: Buffer[] = [];
  let hasRequest = false;
  let isFlushDue = false;
  let unacknowledged = 0;
  let isPausedByOwner = false;
  let isPausedByOutput = false;

  let ticking: NodeJS.Timeout | undefined;
  let reconnecting: NodeJS.Timeout | undefined;
  let connectingSince = 0;
  let upSince = 0;
  let heardAt = 0;
  let probes = 0;
  let probedAt = 0;

  let stopping: Promise<void> | null = null;
  let stopped: (() => void) | undefined;
  let drainUntil = 0;
  let leavingUntil: number | null = null;

  function enter(next: ConnectionState, reason: string): void {
    if (state === next) return;
    state = next;
    protocol.onState(next, reason);
  }

  function nextSequence(): number {
    sequence = sequence === maxSequence ? 1 : sequence + 1;
    return sequence;
  }

  function write(pdu: Buffer): void {
    if (!socket) return;
    out.push(pdu);
    if (isFlushDue) return;
    isFlushDue = true;
    // After the current round of events, so that everything written in it leaves together.
    setImmediate(flush);
  }

  function flush(): void {
    isFlushDue = false;
    if (!socket || out.length === 0) return;
    const pdus = out;
    const isStale = hasRequest && !protocol.mayWrite();
    out = [];
    hasRequest = false;
    if (isStale) {
      socket.destroy(new Error('slept while sending'));
      return;
    }
    socket.write(pdus.length === 1 ? pdus[0]! : Buffer.concat(pdus));
    if (socket.writableLength > maxUnwrittenBytes && !isPausedByOutput) {
      isPausedByOutput = true;
      socket.pause();
    }
  }

  function readOn(): void {
    if (!isPausedByOwner && !isPausedByOutput) socket?.resume();
  }

  function open(): void {
    connectingSince = performance.now();
    heardAt = connectingSince;
    probes = 0;
    unacknowledged = 0;
    isPausedByOwner = false;
    isPausedByOutput = false;
    let failure = 'closed by the peer';
    epoch += 1;
    const mine = 'socket' in settings ? settings.socket : connect({ host: settings.host, port: settings.port });
    mine.setNoDelay(true);
    socket = mine;
    enter('connecting', 'socket' in settings ? `from ${mine.remoteAddress}` : `${settings.host}:${settings.port}`);
    const read = createFrameReader(protocol.frames, (buffer, start, end) => {
      // The rest of a chunk is not read once a frame in it has ended the connection.
      if (socket === mine) protocol.receive(buffer, start, end);
    });
    mine.on('connect', () => {
      if (socket === mine && protocol.login) write(protocol.login(nextSequence()));
    });
    mine.on('data', (chunk) => {
      if (socket !== mine) return;
      heardAt = performance.now();
      probes = 0;
      try {
        read(chunk);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        close(`cannot be understood: ${error.message}`);
        return;
      }
      afterwards();
    });
    mine.on('drain', () => {
      isPausedByOutput = false;
      readOn();
    });
    mine.on('error', (error) => {
      failure = error.message;
    });
    mine.on('close', () => {
      if (socket === mine) close(failure);
    });
  }

  /** Lets the owner write more, and ends a drain that has nothing left. */
  function afterwards(): void {
    if (state !== 'up' && state !== 'draining') return;
    protocol.caughtUp();
    if (state === 'draining') drainOn();
  }

  function drainOn(): void {
    const now = performance.now();
    if (leavingUntil === null) {
      const isDone = pending.size === 0 && protocol.isDrained();
      if (!isDone && now < drainUntil) return;
      leavingUntil = now + leaveMs;
      write(protocol.leave(nextSequence()));
    } else if (now >= leavingUntil) close('left without an answer');
  }

  /** Closes the connection and, unless stopping, plans the next one. */
  function close(reason: string, next: 'down' | 'refused' | 'again' = 'down'): void {
    const old = socket;
    if (!old) return;
    // What the caller has just written, for instance an answer to the peer's logout, should still be sent.
    flush();
    socket = null;
    epoch += 1;
    out = [];
    hasRequest = false;
    old.destroySoon();
    // A peer that does not read would keep it half closed for ever.
    setTimeout(() => old.destroy(), leaveMs).unref();
    const lost = [...pending.values()];
    pending.clear();
    const wasUp = state === 'up' || state === 'draining';
    if (stopping || !backoff) {
      finish(reason, lost);
      return;
    }
    enter(next === 'refused' ? 'refused' : 'down', reason);
    for (const request of lost) protocol.unanswered(request);
    // In `onState` or `unanswered` the owner may have stopped us.
    if (stopping) return;
    // A connection that lived longer than the pause before it counts as good.
    if (wasUp && performance.now() - upSince >= backoff.lastMs) backoff.reset();
    const pauseMs = backoff.next(next === 'refused');
    reconnecting = setTimeout(open, next === 'again' ? 0 : pauseMs);
  }

  function finish(reason: string, lost: readonly R[]): void {
    stopping ??= Promise.resolve();
    clearInterval(ticking);
    clearTimeout(reconnecting);
    enter('stopped', reason);
    for (const request of lost) protocol.unanswered(request);
    stopped?.();
  }

  function tick(): void {
    const now = performance.now();
    if (!socket) return;
    if (state === 'connecting') {
      if (now - connectingSince >= settings.loginTimeoutMs) close(adopted ? 'no login in time' : 'no answer to the login');
      return;
    }
    let isAnyLate = false;
    for (const [sequenceId, request] of pending) {
      if (now - request.writtenAt < settings.responseTimeoutMs) break;
      pending.delete(sequenceId);
      isAnyLate = true;
      protocol.unanswered(request);
    }
    keepAlive(now, isAnyLate);
    afterwards();
  }

  /** `isAnyLate`: a request was not answered in time, so ask at once unless something else was heard since. */
  function keepAlive(now: number, isAnyLate: boolean): void {
    const isSilent = now - heardAt >= (isAnyLate ? Math.min(settings.responseTimeoutMs, settings.keepAliveMs) : settings.keepAliveMs);
    const isDue = probes === 0 ? isSilent : now - probedAt >= settings.responseTimeoutMs;
    // While we do not read, we cannot hear an answer.
    if (!isDue || isPausedByOwner) return;
    if (probes >= settings.keepAliveTries) {
      close('no answer to the keep-alive');
      return;
    }
    probes += 1;
    probedAt = now;
    write(protocol.keepAlive(nextSequence()));
  }

  return {
    start() {
      if (ticking || stopping) return;
      const shortest = Math.min(settings.loginTimeoutMs, settings.responseTimeoutMs, settings.keepAliveMs);
      ticking = setInterval(tick, Math.min(500, Math.max(5, shortest / 5)));
      open();
    },

    stop(drainMs) {
      if (stopping) return stopping;
      stopping = new Promise((resolve) => {
        stopped = resolve;
      });
      const result = stopping;
      clearTimeout(reconnecting);
      if (state !== 'up') {
        if (socket) close('stopped');
        else {
          // Adopted and never started.
          adopted?.destroy();
          finish('stopped', []);
        }
        return result;
      }
      drainUntil = performance.now() + drainMs;
      clearInterval(ticking);
      ticking = setInterval(tick, drainTickMs);
      enter('draining', 'stopped');
      drainOn();
      return result;
    },

    get state() {
      return state;
    },
    free() {
      return (state === 'up' || state === 'draining') && leavingUntil === null ? settings.window - pending.size : 0;
    },
    nextSequence,
    request(sequenceId, pdu, request, now) {
      request.writtenAt = now;
      pending.set(sequenceId, request);
      hasRequest = true;
      write(pdu);
    },
    answered(sequenceId) {
      const request = pending.get(sequenceId);
      if (request) pending.delete(sequenceId);
      return request;
    },
    write,
    delivered(sequenceId, id) {
      const mine = epoch;
      let isAnswered = false;
      unacknowledged += 1;
      if (unacknowledged === maxUnacknowledged) {
        isPausedByOwner = true;
        socket?.pause();
      }
      return (isSafe) => {
        if (isAnswered || mine !== epoch) return;
        isAnswered = true;
        protocol.answer(sequenceId, id, isSafe);
        unacknowledged -= 1;
        if (unacknowledged !== maxUnacknowledged / 2) return;
        isPausedByOwner = false;
        readOn();
      };
    },
    accepted(reason) {
      if (state !== 'connecting') return;
      upSince = performance.now();
      enter('up', reason);
    },
    refused(reason) {
      if (state === 'connecting') close(reason, 'refused');
    },
    again(reason) {
      if (state === 'connecting') close(reason, 'again');
    },
    left(reason) {
      close(reason);
    },
  };
}
