/**
 * What becomes of messages on the connection of a carrier that takes one segment with each request, as CMPP, SMGP, SGIP and SMPP do.
 *
 * Below is a session (socket, login, window, time-outs). A protocol writes and reads the PDUs and interprets the carrier's answers. This
 * module does everything between. It cuts a message into segments, one request each, sent in order; when the last of them has an outcome,
 * it settles the message. Messages wait here only in a short queue, about a window long, so that the pipe stays full while the owner
 * reacts. A throttled segment is sent again after a pause, alone.
 */
import type { TObject } from 'typebox';
import type { CutText } from '../../protocols/text.ts';
import type { ChannelConnection, ConnectionDeps, OutboundMessage, SegmentOutcome } from '../channel.ts';
import { cutOff, throttled, unknown, unsent } from '../outcomes.ts';
import type { Settled, throttling } from '../settings.ts';
import { createPacer } from './pacing.ts';
import { createSession, type Session, type SessionProtocol, type Tracked } from './session.ts';
import type { SessionSettings } from './settings.ts';

export type SegmentSettings = SessionSettings &
  Settled<TObject<typeof throttling>> & {
    /** Segments per second on this connection. */
    readonly ratePerSecond: number;
  };

/** What a protocol does for its segments, in addition to what it does for its session. */
export interface SegmentProtocol extends Pick<SessionProtocol<Tracked>, 'frames' | 'login' | 'keepAlive' | 'leave' | 'receive' | 'answer'> {
  /** Cuts a text as the wire takes it. Not called again for the same text in a row. */
  cut(text: string): CutText;
  /** The most segments that the protocol can number. */
  readonly maxSegments: number;
  /** The request that carries the segment with this index. It throws if the message fits no request. */
  encode(sequenceId: number, message: OutboundMessage, cut: CutText, index: number): Buffer;
  /**
   * Outcomes of messages that are not sent: `tooLong` for too many segments, or content that is not text; the other for messages that fit
   * no request.
   */
  readonly tooLong: SegmentOutcome;
  readonly misfit: SegmentOutcome;
}

export interface Segments {
  readonly connection: ChannelConnection;
  /** For the protocol's use. */
  readonly session: Pick<Session<Tracked>, 'state' | 'write' | 'delivered' | 'accepted' | 'refused' | 'again' | 'left'>;
  /**
   * The carrier's answer to a request. A throttled segment is sent again, unless that happened too often. An answer without a request is
   * ignored.
   */
  answered(sequenceId: number, outcome: SegmentOutcome): void;
}

/** How far ahead of the rate messages may be handed over. */
const aheadMs = 50;

/** A message that is not settled yet. */
interface Job {
  readonly message: OutboundMessage;
  readonly cut: CutText;
  /** Indexes to send, null for all. */
  readonly only: readonly number[] | null;
  readonly outcomes: SegmentOutcome[];
  /** Positions not yet written, and positions without an outcome. */
  next: number;
  left: number;
  readonly settle: (outcomes: readonly SegmentOutcome[]) => void;
}

/** One segment of a message, on its way. */
interface Flight extends Tracked {
  readonly job: Job;
  readonly position: number;
  tries: number;
}

/** The protocol may use the result from its first call on. Except for `cut`, it is not called before `connection.start`. */
export function createSegments(settings: SegmentSettings, protocol: SegmentProtocol, deps: ConnectionDeps): Segments {
  const { events } = deps;
  const queue: Job[] = [];
  /** Throttled segments whose pause is over, and the timers of those whose pause is not. */
  const retries: Flight[] = [];
  const pausing = new Map<Flight, NodeJS.Timeout>();
  /** Segments handed over and without an outcome. */
  let outstanding = 0;
  const maxOutstanding = 2 * settings.window;
  let isPumpDue = false;
  let pumpTimer: NodeJS.Timeout | undefined;
  /** `room()` may last have returned 0 to the owner. */
  let isStarved = true;

  const pacer = createPacer(settings.ratePerSecond, performance.now());

  const session = createSession<Flight>(settings, {
    ...protocol,
    caughtUp: pump,
    unanswered: ({ job, position }) => decide(job, position, session.state === 'up' || session.state === 'draining' ? unknown : cutOff),
    isDrained: () => queue.length === 0,
    mayWrite: deps.mayWrite,
    onState(state, reason) {
      if (state === 'down' || state === 'refused' || state === 'draining' || state === 'stopped') giveUp(state === 'draining');
      // From within a `settle` the owner may have stopped us.
      if (session.state !== state) return;
      events.onState(state, reason);
      if (state === 'up') pump();
    },
  });

  // Customers send one text to many recipients, so the parts of the last text are kept.
  let lastText: string | null = null;
  let lastCut: CutText = { encoding: 'ascii', parts: [] };
  function cut(text: string): CutText {
    if (text !== lastText) {
      lastCut = protocol.cut(text);
      lastText = text;
    }
    return lastCut;
  }

  function computeRoom(): number {
    if (session.state !== 'up') return 0;
    const byWindow = maxOutstanding - outstanding;
    if (byWindow <= 0) return 0;
    const byRate = pacer.available(performance.now(), aheadMs) - queue.length - retries.length;
    return Math.max(0, Math.min(byWindow, byRate));
  }

  function send(message: OutboundMessage, settle: Job['settle']): void {
    // These carriers cannot carry a multimedia package: it counts as one segment and gets the outcome `tooLong`.
    const text = typeof message.content === 'string' ? cut(message.content) : null;
    const only = message.only ?? null;
    const count = only ? only.length : (text?.parts.length ?? 1);
    const refusal = session.state !== 'up' ? unsent : !text || text.parts.length > protocol.maxSegments ? protocol.tooLong : null;
    const outcomes = count === 1 ? [refusal ?? unsent] : Array.from({ length: count }, () => refusal ?? unsent);
    if (!text || refusal || count === 0) {
      queueMicrotask(() => settle(outcomes));
      return;
    }
    queue.push({ message, cut: text, only, outcomes, next: 0, left: count, settle });
    outstanding += count;
    if (computeRoom() === 0) isStarved = true;
    if (isPumpDue) return;
    isPumpDue = true;
    // Deferred, because an outcome that is known at once must not reach the owner before `send` has returned.
    queueMicrotask(pumpSoon);
  }

  function pumpSoon(): void {
    isPumpDue = false;
    pump();
  }

  /** Writes what window and rate allow, then tells the owner if there is room again. */
  function pump(): void {
    const now = performance.now();
    let free = session.free();
    while (free > 0 && (retries.length > 0 || queue.length > 0)) {
      if (!pacer.take(now)) break;
      const retry = retries.shift();
      if (retry) {
        writeSegment(retry, now);
      } else {
        const job = queue[0]!;
        const position = job.next;
        job.next += 1;
        if (job.next === job.outcomes.length) queue.shift();
        writeSegment({ job, position, tries: 0, writtenAt: now }, now);
      }
      free = session.free();
    }
    if (isStarved && computeRoom() > 0) {
      isStarved = false;
      events.onRoom();
    }
    pumpLater(now);
  }

  /** Sets a timer if only the rate stops us: if the window is full, answers wake us. */
  function pumpLater(now: number): void {
    if (pumpTimer || session.free() === 0) return;
    const isWaiting = retries.length > 0 || queue.length > 0;
    const isWanted = session.state === 'up' && isStarved && outstanding < maxOutstanding;
    if (!isWaiting && !isWanted) return;
    pumpTimer = setTimeout(
      () => {
        pumpTimer = undefined;
        pump();
      },
      pacer.waitMs(now, 1, isWaiting ? 0 : aheadMs),
    );
  }

  function writeSegment(flight: Flight, now: number): void {
    const { job, position } = flight;
    if (!deps.mayWrite()) {
      decide(job, position, unsent);
      return;
    }
    const index = job.only ? job.only[position]! : position;
    if (index >= job.cut.parts.length) {
      decide(job, position, unsent);
      return;
    }
    const sequenceId = session.nextSequence();
    let pdu: Buffer;
    try {
      pdu = protocol.encode(sequenceId, job.message, job.cut, index);
    } catch {
      decide(job, position, protocol.misfit);
      return;
    }
    flight.tries += 1;
    session.request(sequenceId, pdu, flight, now);
  }

  function decide(job: Job, position: number, outcome: SegmentOutcome): void {
    job.outcomes[position] = outcome;
    outstanding -= 1;
    job.left -= 1;
    if (job.left === 0) job.settle(job.outcomes);
  }

  /**
   * Settles what will not be written any more: everything on a lost connection; while draining, throttled segments and messages not yet
   * begun.
   */
  function giveUp(isDraining: boolean): void {
    const waiting = [...retries.splice(0), ...pausing.keys()];
    for (const timer of pausing.values()) clearTimeout(timer);
    pausing.clear();
    clearTimeout(pumpTimer);
    pumpTimer = undefined;
    isStarved = true;
    const dropped = isDraining ? queue.filter((job) => job.next === 0) : queue.splice(0);
    if (isDraining) queue.splice(0, queue.length, ...queue.filter((job) => job.next > 0));
    for (const flight of waiting) decide(flight.job, flight.position, throttled);
    for (const job of dropped) for (let position = job.next; position < job.outcomes.length; position += 1) decide(job, position, unsent);
  }

  function answered(sequenceId: number, outcome: SegmentOutcome): void {
    const flight = session.answered(sequenceId);
    if (!flight) return;
    if (outcome.kind === 'throttled') onThrottled(flight);
    else decide(flight.job, flight.position, outcome);
  }

  function onThrottled(flight: Flight): void {
    pacer.slow(performance.now());
    if (flight.tries >= settings.throttleTries || session.state !== 'up') {
      decide(flight.job, flight.position, throttled);
      return;
    }
    const wait = settings.throttleBackoffMs * 2 ** (flight.tries - 1);
    const timer = setTimeout(() => {
      pausing.delete(flight);
      retries.push(flight);
      pump();
    }, wait);
    pausing.set(flight, timer);
  }

  return {
    session,
    answered,
    connection: {
      start: () => session.start(),
      stop: (drainMs) => session.stop(drainMs),
      get state() {
        return session.state;
      },
      room() {
        const room = computeRoom();
        if (room === 0) {
          isStarved = true;
          pumpLater(performance.now());
        }
        return room;
      },
      segmentsOf: (text) => cut(text).parts.length,
      send,
    },
  };
}
