/**
 * A connection to a multimedia centre (MMSC) over MM7: SubmitReqs out, their answers in. Reports and replies come to our own HTTP
 * listener, see `door.ts`.
 *
 * One upload serves many recipients. Messages handed over with the same content object and source number gather in a group, which
 * leaves as one SubmitReq when it is full, or when it has waited a moment; while requests with the same content are under way it waits
 * for their answers, because those make room for more of the same. A package is encoded once, and its media are never copied.
 *
 * MM7 has no login. The connection is `up` when the MMSC answered an empty request; several requests in a row without an answer make
 * it `down`, being turned away by HTTP (401, 403, 404) makes it `refused`; from both it comes back by asking again, with pauses that
 * double. A group that was certainly not taken goes out again by itself while the connection is up.
 *
 * A request whose fate is open (written completely, not answered) settles its messages as `unknown`; so one MessageID stands for all
 * recipients of a request, a message's carrier id is the MessageID, a slash, and the digits of its number.
 */
import { randomUUID } from 'node:crypto';
import { connect as connectTcp } from 'node:net';
import { ProtocolError } from '../../protocols/wire/fields.ts';
import {
  type Address,
  type Fields,
  mm7Namespace,
  readRequest,
  type Status,
  statusOfFault,
  verdictOf,
  writeEnvelope,
  writeRequest,
} from '../../protocols/mm7/mm7.ts';
import type { PartToWrite } from '../../protocols/mm7/multipart.ts';
import { defaultStyle, presentationPart } from '../../protocols/mm7/smil.ts';
import { shanghaiTime } from '../../std/shanghai.ts';
import type { ChannelConnection, ConnectionDeps, ConnectionState, MessagePackage, OutboundMessage, SegmentOutcome } from '../channel.ts';
import { withDefaults } from '../settings.ts';
import { createPoster, type Posted } from './post.ts';
import { type Mm7ChannelSettings, mm7Settings } from './settings.ts';

export type Mm7Settings = Mm7ChannelSettings & { secret?: string };

/** The longest a group waits for answers that may bring more of the same: longer than a slow line takes for a large package. */
const maxGatherMs = 10_000;
/** After an answer more of the same is likely, once its owner has recorded it: worth this many times the usual wait. */
const gatherAfterAnswer = 10;
/** How often "busy" halves the number of requests under way, at most; each request that is taken gives a part of it back. */
const slowAgainAfterMs = 1000;
const slotsBackPerRequest = 0.1;
/** Longer than any MessageID known; what goes beyond is none. */
const maxMessageIdLength = 200;

const unsent: SegmentOutcome = { kind: 'unsent' };
const unknown: SegmentOutcome = { kind: 'unknown' };
const cutOff: SegmentOutcome = { kind: 'unknown', isCut: true };
const throttled: SegmentOutcome = { kind: 'throttled' };

/** A code of MM7, or a status of HTTP, as customers see it. */
const rejected = (code: number): SegmentOutcome => ({
  kind: 'rejected',
  code: `ER:${code.toString().padStart(4, '0')}`,
  ...(ourCodes.has(code) && { isOurs: true }),
});
const codes = { contentRefused: 2004, address: 2002 } as const;

/** Identification, version, operation, service: a message has no part in any of them. */
const ourCodes: ReadonlySet<number> = new Set([4001, 4002, 4003, 4005]);

/** HTTP without SOAP in it: not the MMSC's door, or it does not let us in. */
const isTurnedAway = (status: number): boolean => (status >= 300 && status < 400) || [401, 403, 404, 405, 407, 410].includes(status);
const isBusy = (status: number): boolean => [408, 425, 429].includes(status) || (status >= 500 && status !== 502 && status !== 504);

interface Recipient {
  readonly to: string;
  readonly settle: (outcomes: readonly SegmentOutcome[]) => void;
}

/** Recipients of one SubmitReq. */
interface Group {
  readonly content: MessagePackage;
  readonly from: string;
  /** By number: one request names each once. */
  readonly recipients: Map<string, Recipient>;
  readonly openedAt: number;
  /** Whoever handed over its last recipient has another one. */
  more: boolean;
  /** Kept over repeats of a request that was not answered, so that the MMSC can tell a repeat. */
  transactionId: string;
  tries: number;
  notBefore: number;
}

/** What is kept of a package while anybody holds it. */
interface EncodedPackage {
  readonly contentId: string;
  readonly part: PartToWrite;
  underWay: number;
  answeredAt: number;
}

/** Throws TypeError or RangeError if no request can carry these settings. */
export function createMm7Connection(given: Mm7Settings, deps: ConnectionDeps): ChannelConnection {
  const settings = { secret: '', ...withDefaults(mm7Settings, given) };
  const { events } = deps;
  const { recipientsPerRequest, concurrency, gatherMs } = settings;
  if (!(recipientsPerRequest >= 1 && concurrency >= 1 && settings.ratePerSecond > 0)) throw new RangeError('limits below one');
  const namespace = mm7Namespace(settings.namespace);
  const poster = createPoster({
    ...settings,
    authentication: given.authentication ?? (settings.username === '' ? 'none' : 'basic'),
    headers: { soapaction: settings.soapAction },
  });

  let state: ConnectionState = 'down';
  /** Requests in a row that got no answer. */
  let failures = 0;
  let pauseMs = 0;
  let probing: NodeJS.Timeout | undefined;
  let stopping: Promise<void> | null = null;

  /** Groups that still take recipients, by content and source number; then those that only wait to leave. */
  const open = new Map<MessagePackage, Map<string, Group>>();
  const ready: Group[] = [];
  const underWay = new Set<Promise<void>>();
  /** Recipients handed over and not settled, and those of them not under way. */
  let outstanding = 0;
  let waiting = 0;
  /** What the MMSC was found to take; lowered by its answers. */
  let limit = recipientsPerRequest;
  let slots: number = concurrency;
  let slowedAt = Number.NEGATIVE_INFINITY;
  /** The rate lets the next request out then. */
  let nextAt = 0;

  let isStarved = true;
  let isPumpDue = false;
  let waking: NodeJS.Timeout | undefined;

  const packages = new WeakMap<MessagePackage, EncodedPackage>();
  const session = randomUUID().slice(0, 8);
  let sequence = 0;
  const nextId = (): string => `${session}-${(sequence += 1)}`;

  // States

  function enter(next: ConnectionState, reason: string): void {
    if (state === next) return;
    state = next;
    if (next !== 'up' && next !== 'connecting') giveUp();
    events.onState(next, reason);
  }

  async function probe(): Promise<void> {
    enter('connecting', settings.url);
    const found = settings.probe === 'connect' ? await reach() : await ask();
    if (stopping) return;
    if (found.next !== 'up') {
      fall(found.next, found.reason);
      return;
    }
    failures = 0;
    slots = concurrency;
    enter('up', found.reason);
    pump();
  }

  async function ask(): Promise<{ next: 'up' | 'down' | 'refused'; reason: string }> {
    const empty = { contentType: 'text/xml; charset="utf-8"', chunks: [], octets: 0 };
    const posted = await poster.post(empty, settings.loginTimeoutMs, () => true);
    if (posted.kind !== 'answer') return { next: 'down', reason: posted.kind === 'lost' ? posted.reason : 'not allowed to write' };
    const reason = `HTTP ${posted.status}`;
    if (isTurnedAway(posted.status)) return { next: 'refused', reason };
    // A fault comes with 500: the MMSC is there and wonders about an empty request.
    return { next: [502, 503, 504].includes(posted.status) ? 'down' : 'up', reason };
  }

  function reach(): Promise<{ next: 'up' | 'down'; reason: string }> {
    const { hostname, port, protocol } = new URL(settings.url);
    return new Promise((resolve) => {
      const host = hostname.replace(/^\[|\]$/g, '');
      const socket = connectTcp({ host, port: Number(port) || (protocol === 'https:' ? 443 : 80), timeout: settings.connectTimeoutMs });
      const end = (next: 'up' | 'down', reason: string) => {
        socket.destroy();
        resolve({ next, reason });
      };
      socket.once('connect', () => end('up', 'reachable'));
      socket.once('timeout', () => end('down', 'no connection in time'));
      socket.once('error', (error) => end('down', error.message));
    });
  }

  /** Plans the next try. */
  function fall(next: 'down' | 'refused', reason: string): void {
    clearTimeout(probing);
    pauseMs = Math.min(settings.reconnectMaxMs, Math.max(settings.reconnectMinMs, 2 * pauseMs));
    const jittered = pauseMs * (0.5 + Math.random() / 2);
    probing = setTimeout(() => void probe(), next === 'refused' ? Math.max(settings.refusedMinMs, jittered) : jittered);
    enter(next, reason);
  }

  /** Whatever waits is certainly unsent. */
  function giveUp(): void {
    clearTimeout(waking);
    waking = undefined;
    isStarved = true;
    const groups = [...ready.splice(0), ...[...open.values()].flatMap((own) => [...own.values()])];
    open.clear();
    waiting = 0;
    for (const group of groups) settle(group, () => unsent);
  }

  // Gathering

  function computeRoom(): number {
    if (state !== 'up') return 0;
    // What failed goes out again by itself and shows whether the MMSC is back. If nothing of it is left, one message is let in for that.
    if (failures > 0) return outstanding === 0 ? 1 : 0;
    // One group more than can be under way, so that the next one fills meanwhile; of a slow channel no more than a second's worth.
    const byWindow = (concurrency + 1) * recipientsPerRequest - outstanding;
    const byRate = Math.ceil(Math.max(recipientsPerRequest, settings.ratePerSecond)) - waiting;
    return Math.max(0, Math.min(byWindow, byRate));
  }

  function send(message: OutboundMessage, settleOne: Recipient['settle']): void {
    const { to, from, content, only, more = false } = message;
    const refusal =
      state !== 'up'
        ? unsent
        : typeof content === 'string'
          ? rejected(codes.contentRefused)
          : /^\d{3,20}$/.test(to)
            ? null
            : rejected(codes.address);
    // A message is one segment.
    if (refusal || typeof content === 'string' || (only && !(only.length === 1 && only[0] === 0))) {
      const outcomes = (only ?? [0]).map((index) => (index === 0 ? (refusal ?? unsent) : unsent));
      queueMicrotask(() => settleOne(outcomes));
      return;
    }
    outstanding += 1;
    waiting += 1;
    const groups = open.get(content) ?? new Map<string, Group>();
    open.set(content, groups);
    let group = groups.get(from);
    if (group?.recipients.has(to)) {
      ready.push(group);
      group = undefined;
    }
    group ??= groupOf(content, from);
    groups.set(from, group);
    group.recipients.set(to, { to, settle: settleOne });
    group.more = more;
    if (group.recipients.size >= limit) {
      close(group);
      ready.push(group);
    }
    if (computeRoom() === 0) isStarved = true;
    pumpSoon();
  }

  const groupOf = (content: MessagePackage, from: string, recipients: readonly Recipient[] = []): Group => ({
    content,
    from,
    recipients: new Map(recipients.map((recipient) => [recipient.to, recipient])),
    openedAt: performance.now(),
    more: false,
    transactionId: nextId(),
    tries: 0,
    notBefore: 0,
  });

  /** Takes the group out of those that gather. */
  function close(group: Group): void {
    const groups = open.get(group.content);
    if (groups?.get(group.from) === group) groups.delete(group.from);
    if (groups?.size === 0) open.delete(group.content);
  }

  /** When a group that is not full leaves all the same. */
  function dueAt(group: Group): number {
    const encoded = packages.get(group.content);
    const latest = group.openedAt + Math.max(maxGatherMs, gatherMs);
    if (group.more) return latest;
    const alone = group.openedAt + gatherMs;
    if (!encoded) return alone;
    return encoded.underWay > 0 ? latest : Math.min(latest, Math.max(alone, encoded.answeredAt + gatherAfterAnswer * gatherMs));
  }

  // Leaving

  /** After the current turn: whatever is handed over in it gathers first. */
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
    if (state !== 'up') return;
    const now = performance.now();
    // While it fails, one request at a time finds out whether it still does.
    const most = failures > 0 ? 1 : Math.floor(slots);
    let wakeAt = Number.POSITIVE_INFINITY;
    while (underWay.size < most) {
      if (now < nextAt) {
        wakeAt = nextAt;
        break;
      }
      const group = takeDue(now);
      if (typeof group === 'number') {
        wakeAt = group;
        break;
      }
      waiting -= group.recipients.size;
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

  /** A group that may leave now, or when there will be one. */
  function takeDue(now: number): Group | number {
    let next = Number.POSITIVE_INFINITY;
    for (const [index, group] of ready.entries()) {
      if (group.notBefore <= now) {
        ready.splice(index, 1);
        return group;
      }
      next = Math.min(next, group.notBefore);
    }
    for (const groups of open.values())
      for (const group of groups.values()) {
        const due = dueAt(group);
        if (due <= now) {
          close(group);
          return group;
        }
        next = Math.min(next, due);
      }
    return next;
  }

  async function submit(group: Group): Promise<void> {
    const { content } = group;
    const encoded = encodedOf(content);
    encoded.underWay += 1;
    const posted = deps.mayWrite() ? await poster.post(requestOf(group, encoded), settings.responseTimeoutMs, deps.mayWrite) : withdrawn;
    encoded.underWay -= 1;
    encoded.answeredAt = performance.now();
    conclude(group, posted);
    pumpSoon();
  }

  const withdrawn: Posted = { kind: 'withdrawn' };

  function encodedOf(content: MessagePackage): EncodedPackage {
    let encoded = packages.get(content);
    if (!encoded) {
      const contentId = `mms-${nextId()}`;
      const style = { ...defaultStyle, source: settings.sourceStyle, frameMs: settings.frameMs };
      const part = presentationPart(content.frames, { contentId, boundary: `frames-${randomUUID()}`, style });
      encoded = { contentId, part, underWay: 0, answeredAt: Number.NEGATIVE_INFINITY };
      packages.set(content, encoded);
    }
    return encoded;
  }

  function requestOf({ content, from, recipients, transactionId }: Group, { contentId, part }: EncodedPackage) {
    const now = new Date();
    const sender: Address[] = settings.senderStyle === 'none' ? [] : [{ kind: senderKinds[settings.senderStyle], value: from }];
    const fields: Partial<Fields<'SubmitReq'>> = {
      mm7Version: settings.version,
      senderIdentification: { vaspId: settings.vaspId, vasId: settings.vasId, senderAddress: sender.length > 0 ? sender : null },
      recipients: { to: [...recipients.keys()].map((to) => ({ kind: 'Number', value: numberOf(to) })), cc: null, bcc: null },
      serviceCode: settings.serviceCode === '' ? null : settings.serviceCode,
      messageClass: settings.messageClass,
      timeStamp: timeOf(now),
      expiryDate: settings.validityHours > 0 ? timeOf(new Date(now.getTime() + settings.validityHours * 3600_000)) : null,
      deliveryReport: true,
      readReply: settings.readReply,
      priority: settings.priority,
      subject: content.subject,
      chargedParty: settings.chargedParty,
      content: { href: `cid:${contentId}`, allowAdaptations: true },
    };
    const envelope = writeEnvelope({ transactionId, namespace, prefixes: settings.prefixes, message: { name: 'SubmitReq', fields } });
    return writeRequest(envelope, part, {
      rootId: 'mm7-submit',
      boundary: `request-${randomUUID()}`,
      rootHeaders: ['Content-Transfer-Encoding: 8bit'],
    });
  }

  const numberOf = (to: string): string => {
    if (settings.numberStyle === 'plus') return `+${to}`;
    if (settings.numberStyle === 'e164') return to;
    return to.length === 13 && to.startsWith('86') ? to.slice(2) : `00${to}`;
  };

  // What became of it

  function settle(group: Group, outcome: (recipient: Recipient) => SegmentOutcome): void {
    outstanding -= group.recipients.size;
    for (const recipient of group.recipients.values()) recipient.settle([outcome(recipient)]);
  }

  function conclude(group: Group, posted: Posted): void {
    if (posted.kind === 'withdrawn') settle(group, () => unsent);
    else if (posted.kind === 'lost') onLost(group, posted);
    else {
      const answer = readAnswer(posted);
      if (answer) {
        failures = 0;
        pauseMs = 0;
        onStatus(group, answer);
      } else onHttp(group, posted.status);
    }
  }

  function onLost(group: Group, { written, reason }: Extract<Posted, { kind: 'lost' }>): void {
    if (written === 'all') settle(group, () => cutOff);
    else again(group, unsent, failurePauseMs());
    failed(reason);
  }

  /** Connections come and go; several failures in a row mean that the MMSC is gone. */
  function failed(reason: string): void {
    failures += 1;
    if (state === 'up' && failures >= settings.failuresUntilDown) fall('down', reason);
  }

  const failurePauseMs = (): number => Math.min(settings.reconnectMaxMs, settings.reconnectMinMs * 2 ** failures);

  /** HTTP said something, and it is not SOAP. */
  function onHttp(group: Group, status: number): void {
    const reason = `HTTP ${status} without MM7 in it`;
    if (isTurnedAway(status)) {
      settle(group, () => unsent);
      if (state === 'up') fall('refused', reason);
    } else if (isBusy(status)) onBusy(group);
    else if (status >= 400 && status < 500) settle(group, () => rejected(status));
    else {
      // A gateway that waited in vain, or nonsense with 200: the MMSC may have the message.
      settle(group, () => unknown);
      failed(reason);
    }
  }

  function onStatus(group: Group, { status, messageId }: Answer): void {
    const { size } = group.recipients;
    const verdict = verdictOf(status);
    switch (verdict) {
      case 'taken': {
        slots = Math.min(concurrency, slots + slotsBackPerRequest);
        // Taken without an id we can keep: its reports will match nothing, but nobody sends it twice.
        const id = messageId !== '' && messageId.length <= maxMessageIdLength ? messageId : group.transactionId;
        settle(group, ({ to }) => ({ kind: 'accepted', carrierId: `${id}/${to}` }));
        return;
      }
      case 'busy':
        onBusy(group);
        return;
      case 'single':
      case 'fewer':
        if (size > 1) {
          limit = verdict === 'single' ? 1 : Math.min(limit, Math.floor(size / 2));
          split(group, limit);
          return;
        }
        break;
      case 'address':
        // One bad number spoils the request; which one, halving finds out.
        if (size > 1) {
          split(group, Math.ceil(size / 2));
          return;
        }
        break;
      case 'rejected':
        break;
    }
    const outcome = rejected(status.statusCode ?? 3000);
    settle(group, () => outcome);
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

  /** Puts a group that was not taken back in line, unless nothing leaves any more. */
  function again(group: Group, otherwise: SegmentOutcome, afterMs: number): void {
    if (state !== 'up') {
      settle(group, () => otherwise);
      return;
    }
    group.notBefore = performance.now() + afterMs;
    waiting += group.recipients.size;
    ready.unshift(group);
  }

  function split(group: Group, size: number): void {
    const recipients = [...group.recipients.values()];
    for (let at = 0; at < recipients.length; at += size)
      again(groupOf(group.content, group.from, recipients.slice(at, at + size)), throttled, 0);
  }

  // Ending

  async function drain(drainMs: number): Promise<void> {
    clearTimeout(probing);
    if (state === 'up') {
      enter('draining', 'stopping');
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, drainMs);
      });
      await Promise.race([Promise.all(underWay), late]);
      clearTimeout(timer);
    }
    await poster.close();
    await Promise.all(underWay);
    enter('stopped', 'stopped');
  }

  return {
    start() {
      if (state === 'down' && !stopping) void probe();
    },
    stop: (drainMs) => (stopping ??= drain(drainMs)),
    get state() {
      return state;
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

const senderKinds = { shortCode: 'ShortCode', number: 'Number', text: 'text' } as const;

/** `2026-07-16T09:30:05+08:00` */
const timeOf = (at: Date): string => shanghaiTime(at).replace(/\.\d{3}/, '');

interface Answer {
  readonly status: Pick<Status, 'statusCode' | 'statusText'>;
  readonly messageId: string;
}

/** The status an answer carries, whatever HTTP says around it (mm7.md §1); null if there is no MM7 in it. */
function readAnswer({ contentType, body }: Extract<Posted, { kind: 'answer' }>): Answer | null {
  if (body.length === 0) return null;
  try {
    const { message } = readRequest(contentType, body).envelope;
    if (message.name === 'Fault') return { status: statusOfFault(message), messageId: '' };
    if (message.name !== 'SubmitRsp' && message.name !== 'RSErrorRsp') return null;
    const { status } = message.fields;
    if (!status || status.statusCode === null) return null;
    return { status, messageId: message.name === 'SubmitRsp' ? (message.fields.messageId ?? '') : '' };
  } catch (error) {
    if (error instanceof ProtocolError) return null;
    throw error;
  }
}
