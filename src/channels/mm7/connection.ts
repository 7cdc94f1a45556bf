/**
 * A connection to a multimedia centre (MMSC) over MM7: SubmitReqs out, their answers in. Reports and replies come to our own HTTP listener,
 * see `door.ts`.
 *
 * Messages gather in groups (groups.ts). A group leaves as one SubmitReq (requests.ts) by one of a few HTTP connections (post.ts), and the
 * MMSC's answer (answers.ts) settles its messages. A group that was certainly not taken is sent again while the connection is up. A request
 * that was written completely and not answered settles its messages as `unknown`. One MessageID stands for all recipients of a request: a
 * message's carrier id is the MessageID, a slash, and the digits of its number.
 *
 * MM7 has no login, so only a request shows whether the MMSC is there. The connection is always in one phase.
 * - `idle`: not started.
 * - `probing`: an empty request is under way, or a TCP connection is tried.
 * - `open`: the MMSC answers; up to `slots` groups are under way.
 * - `doubtful`: the last request got no answer. One group at a time is sent, to find out whether the MMSC is still there.
 * - `down`: nothing answers, or several requests in a row got no answer. After a pause, which doubles, the MMSC is probed again.
 * - `refused`: HTTP turned us away (401, 403, 404). The MMSC is probed again, but not soon.
 * - `draining`: no more requests are sent; the connection waits for the outstanding answers.
 * - `stopped`: final.
 * Its owner sees `open` and `doubtful` as `up`, `probing` as `connecting`, and `idle` as `down`.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { connect as connectTcp } from 'node:net';
import type { ChannelConnection, ConnectionDeps, ConnectionState, OutboundMessage, SegmentOutcome } from '../channel.ts';
import { cutOff, rejected, throttled, unknown, unsent } from '../outcomes.ts';
import { createBackoff } from '../session/backoff.ts';
import { withDefaults } from '../settings.ts';
import { isTurnedAway, readAnswer } from './answers.ts';
import { createGroups, type Group } from './groups.ts';
import { createPoster, type Posted } from './post.ts';
import { createRequests } from './requests.ts';
import { type Mm7ChannelSettings, mm7Settings } from './settings.ts';

export type Mm7Settings = Mm7ChannelSettings & { secret?: string };

type Phase = 'idle' | 'probing' | 'open' | 'doubtful' | 'down' | 'refused' | 'draining' | 'stopped';

/** Where each phase may lead. */
const leadsTo: Readonly<Record<Phase, readonly Phase[]>> = {
  idle: ['probing', 'stopped'],
  probing: ['open', 'down', 'refused', 'stopped'],
  open: ['doubtful', 'down', 'refused', 'draining'],
  doubtful: ['open', 'down', 'refused', 'draining'],
  down: ['probing', 'stopped'],
  refused: ['probing', 'stopped'],
  draining: ['stopped'],
  stopped: [],
};

const states: Readonly<Record<Phase, ConnectionState>> = {
  idle: 'down',
  probing: 'connecting',
  open: 'up',
  doubtful: 'up',
  down: 'down',
  refused: 'refused',
  draining: 'draining',
  stopped: 'stopped',
};

/** "Busy" halves the number of requests under way at most once in this time; each request that is taken restores a part of it. */
const slowAgainAfterMs = 1000;
const slotsBackPerRequest = 0.1;

/** StatusCodes of MM7. */
const contentRefused = rejected(2004);
const badAddress = rejected(2002);

/** Throws TypeError or RangeError if no request can carry these settings. */
export function createMm7Connection(given: Mm7Settings, deps: ConnectionDeps): ChannelConnection {
  const settings = { secret: '', ...withDefaults(mm7Settings, given) };
  const { events } = deps;
  const { recipientsPerRequest, concurrency } = settings;
  if (!(recipientsPerRequest >= 1 && concurrency >= 1 && settings.ratePerSecond > 0)) throw new RangeError('limits below one');

  const session = randomUUID().slice(0, 8);
  let sequence = 0;
  const nextId = (): string => `${session}-${(sequence += 1)}`;

  const requestOf = createRequests(settings, nextId);
  const groups = createGroups({ limit: recipientsPerRequest, gatherMs: settings.gatherMs, nextId });
  const poster = createPoster({
    ...settings,
    authentication: given.authentication ?? (settings.username === '' ? 'none' : 'basic'),
    headers: { soapaction: settings.soapAction },
  });

  let phase: Phase = 'idle';
  const backoff = createBackoff(settings);
  let probing: NodeJS.Timeout | undefined;
  let stopping: Promise<void> | null = null;
  /** Requests in a row that got no answer, while `doubtful`. */
  let failures = 0;

  const underWay = new Set<Promise<void>>();
  /** Recipients handed over and not settled. */
  let outstanding = 0;
  /** Requests that may be under way at once; lowered by "busy". */
  let slots: number = concurrency;
  let slowedAt = Number.NEGATIVE_INFINITY;
  /** The earliest time at which the rate allows the next request. */
  let nextAt = 0;

  /** `room()` may last have returned 0 to the owner. */
  let isStarved = true;
  /** A pump is planned: at the end of this turn, or when a group is due. */
  let isPumpDue = false;
  let waking: NodeJS.Timeout | undefined;

  // Phases

  const isUp = (): boolean => phase === 'open' || phase === 'doubtful';

  function enter(next: Phase, reason: string): void {
    assert(leadsTo[phase].includes(next), `a connection that is ${phase} does not become ${next}`);
    const before = states[phase];
    phase = next;
    if (states[next] === before) return;
    if (next !== 'open' && next !== 'probing') giveUp();
    // From within a `settle` the owner may have stopped us.
    if (phase === next) events.onState(states[next], reason);
  }

  async function probe(): Promise<void> {
    enter('probing', settings.url);
    const found = settings.probe === 'connect' ? await reach() : await ask();
    if (phase !== 'probing') return;
    if (found.next !== 'open') {
      fall(found.next, found.reason);
      return;
    }
    failures = 0;
    slots = concurrency;
    enter('open', found.reason);
    pump();
  }

  async function ask(): Promise<{ next: 'open' | 'down' | 'refused'; reason: string }> {
    const empty = { contentType: 'text/xml; charset="utf-8"', chunks: [], octets: 0 };
    const posted = await poster.post(empty, settings.loginTimeoutMs, () => true);
    if (posted.kind !== 'answer') return { next: 'down', reason: posted.kind === 'lost' ? posted.reason : 'not allowed to write' };
    const reason = `HTTP ${posted.status}`;
    if (isTurnedAway(posted.status)) return { next: 'refused', reason };
    // A fault comes with 500: the MMSC is there and objects to an empty request.
    return { next: [502, 503, 504].includes(posted.status) ? 'down' : 'open', reason };
  }

  function reach(): Promise<{ next: 'open' | 'down'; reason: string }> {
    const { hostname, port, protocol } = new URL(settings.url);
    return new Promise((resolve) => {
      const host = hostname.replace(/^\[|\]$/g, '');
      const socket = connectTcp({ host, port: Number(port) || (protocol === 'https:' ? 443 : 80), timeout: settings.connectTimeoutMs });
      const end = (next: 'open' | 'down', reason: string) => {
        socket.destroy();
        resolve({ next, reason });
      };
      socket.once('connect', () => end('open', 'reachable'));
      socket.once('timeout', () => end('down', 'no connection in time'));
      socket.once('error', (error) => end('down', error.message));
    });
  }

  /** Plans the next probe. */
  function fall(next: 'down' | 'refused', reason: string): void {
    clearTimeout(probing);
    probing = setTimeout(() => void probe(), backoff.next(next === 'refused'));
    enter(next, reason);
  }

  /** Settles everything that waits as `unsent`. */
  function giveUp(): void {
    clearTimeout(waking);
    waking = undefined;
    isStarved = true;
    for (const group of groups.clear()) settle(group, () => unsent);
  }

  // In

  function computeRoom(): number {
    // A failed group is sent again and shows whether the MMSC is back. If no message is left, one is let in for that.
    if (phase === 'doubtful') return outstanding === 0 ? 1 : 0;
    if (phase !== 'open') return 0;
    // One group more than can be under way, so that the next one fills in the meantime; on a slow channel at most one second's worth.
    const byWindow = (concurrency + 1) * recipientsPerRequest - outstanding;
    const byRate = Math.ceil(Math.max(recipientsPerRequest, settings.ratePerSecond)) - groups.waiting;
    return Math.max(0, Math.min(byWindow, byRate));
  }

  function send(message: OutboundMessage, settleOne: (outcomes: readonly SegmentOutcome[]) => void): void {
    const { content, only } = message;
    const refusal = !isUp() ? unsent : typeof content === 'string' ? contentRefused : /^\d{3,20}$/.test(message.to) ? null : badAddress;
    // A message is one segment.
    if (refusal || typeof content === 'string' || (only && !(only.length === 1 && only[0] === 0))) {
      const outcomes = (only ?? [0]).map((index) => (index === 0 ? (refusal ?? unsent) : unsent));
      queueMicrotask(() => settleOne(outcomes));
      return;
    }
    outstanding += 1;
    groups.add({ ...message, content }, settleOne, performance.now());
    if (computeRoom() === 0) isStarved = true;
    pumpSoon();
  }

  // Out

  /** Pumps after the current turn, so that all messages handed over in it gather first. */
  function pumpSoon(): void {
    if (isPumpDue) return;
    isPumpDue = true;
    setImmediate(() => {
      isPumpDue = false;
      pump();
    });
  }

  function pump(): void {
    clearTimeout(waking);
    waking = undefined;
    if (!isUp()) return;
    const now = performance.now();
    const most = phase === 'doubtful' ? 1 : Math.floor(slots);
    let wakeAt = Number.POSITIVE_INFINITY;
    while (underWay.size < most) {
      if (now < nextAt) {
        wakeAt = nextAt;
        break;
      }
      const group = groups.takeDue(now);
      if (typeof group === 'number') {
        wakeAt = group;
        break;
      }
      nextAt = Math.max(nextAt, now) + (group.recipients.size / settings.ratePerSecond) * 1000;
      const work = submit(group).finally(() => underWay.delete(work));
      underWay.add(work);
    }
    if (isStarved && computeRoom() > 0) {
      isStarved = false;
      events.onRoom();
    }
    if (wakeAt < Number.POSITIVE_INFINITY) waking = setTimeout(pump, Math.max(1, wakeAt - now));
  }

  async function submit(group: Group): Promise<void> {
    const posted: Posted = deps.mayWrite()
      ? await poster.post(requestOf(group), settings.responseTimeoutMs, deps.mayWrite)
      : { kind: 'withdrawn' };
    groups.arrived(group.content, performance.now());
    conclude(group, posted);
    pumpSoon();
  }

  // Results

  function settle(group: Group, outcome: (to: string) => SegmentOutcome): void {
    outstanding -= group.recipients.size;
    for (const recipient of group.recipients.values()) recipient.settle([outcome(recipient.to)]);
  }

  function conclude(group: Group, posted: Posted): void {
    switch (posted.kind) {
      case 'withdrawn':
        settle(group, () => unsent);
        break;
      case 'lost':
        // Also when the time was over: to end such a request, its connection is broken.
        if (posted.written === 'all') settle(group, () => cutOff);
        else again(group, unsent, Math.min(settings.reconnectMaxMs, settings.reconnectMinMs * 2 ** failures));
        failed(posted.reason);
        break;
      case 'answer':
        onAnswer(group, posted);
    }
  }

  function onAnswer(group: Group, posted: Extract<Posted, { kind: 'answer' }>): void {
    const { size } = group.recipients;
    const answer = readAnswer(posted);
    if (answer.isMm7) {
      failures = 0;
      backoff.reset();
      if (phase === 'doubtful') enter('open', 'answered');
    }
    switch (answer.kind) {
      case 'taken': {
        slots = Math.min(concurrency, slots + slotsBackPerRequest);
        // Taken without an id that can be stored: its reports will match nothing, but the message is not sent twice.
        const id = answer.messageId ?? group.transactionId;
        settle(group, (to) => ({ kind: 'accepted', carrierId: `${id}/${to}` }));
        break;
      }
      case 'busy':
        onBusy(group);
        break;
      case 'single':
      case 'fewer':
      case 'address':
        if (size > 1) {
          // One bad number spoils the request; halving finds out which one.
          const most = answer.kind === 'single' ? 1 : answer.kind === 'fewer' ? Math.floor(size / 2) : Math.ceil(size / 2);
          if (answer.kind !== 'address') groups.limitTo(most);
          for (const part of groups.split(group, most, performance.now())) again(part, throttled, 0);
        } else settle(group, () => answer.outcome);
        break;
      case 'rejected':
        settle(group, () => answer.outcome);
        break;
      case 'turnedAway':
        settle(group, () => unsent);
        if (isUp()) fall('refused', answer.reason);
        break;
      case 'nonsense':
        settle(group, () => unknown);
        failed(answer.reason);
    }
  }

  /** A single failure may be the connection's; several in a row mean that the MMSC is gone. */
  function failed(reason: string): void {
    if (!isUp()) return;
    failures += 1;
    if (failures >= settings.failuresUntilDown) fall('down', reason);
    else if (phase === 'open') enter('doubtful', reason);
  }

  function onBusy(group: Group): void {
    const now = performance.now();
    if (now - slowedAt >= slowAgainAfterMs) {
      slowedAt = now;
      slots = Math.max(1, slots / 2);
    }
    group.tries += 1;
    group.transactionId = nextId();
    if (group.tries >= settings.throttleTries) settle(group, () => throttled);
    else again(group, throttled, settings.throttleBackoffMs * 2 ** (group.tries - 1));
  }

  /** Queues a group again that was not taken, or settles it if no more requests are sent. */
  function again(group: Group, otherwise: SegmentOutcome, afterMs: number): void {
    if (isUp()) groups.putBack(group, performance.now() + afterMs);
    else settle(group, () => otherwise);
  }

  // Ending

  async function drain(drainMs: number): Promise<void> {
    clearTimeout(probing);
    if (isUp()) {
      enter('draining', 'stopping');
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, drainMs);
      });
      await Promise.race([Promise.all(underWay), late]);
      clearTimeout(timer);
    } else enter('stopped', 'stopped');
    await poster.close();
    await Promise.all(underWay);
    if (phase === 'draining') enter('stopped', 'stopped');
  }

  return {
    start() {
      if (phase === 'idle') void probe();
    },
    stop: (drainMs) => (stopping ??= drain(drainMs)),
    get state() {
      return states[phase];
    },
    room() {
      const room = computeRoom();
      if (room === 0) isStarved = true;
      return room;
    },
    segmentsOf: () => 1,
    send,
  };
}
