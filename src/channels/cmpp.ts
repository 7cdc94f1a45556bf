/**
 * A connection to China Mobile, CMPP 2.0 or 3.0: SUBMITs out, SUBMIT_RESPs, reports and replies in.
 *
 * Below is a session (socket, login, window, time-outs); here is what a message becomes. A message is cut into segments, one SUBMIT
 * each, sent in order on this connection; when the last of them has an outcome the message is settled. Messages wait here only in a
 * short queue, about a window long, so that the pipe stays full while the owner reacts. A segment refused as "too fast" goes out again
 * by itself after a pause, alone.
 *
 * Reports and replies are answered when the owner says that they are safe; with too many unanswered we stop reading. What is not
 * answered when a connection breaks, the carrier sends again.
 */
import { type Static, Type } from 'typebox';
import {
  authenticatorIsmg,
  authenticatorSource,
  type CmppVersion,
  cmpp,
  cmppFrames,
  command,
  commandOf,
  connectTimestamp,
  type Deliver,
  decodeConnectResp,
  decodeDeliver,
  decodeReport,
  decodeSubmitResp,
  encodingOf,
  hasHeader,
  isFinal,
  noMsgId,
  sequenceOf,
  versionOctet,
} from '../protocols/cmpp.ts';
import { ProtocolError } from '../protocols/wire/fields.ts';
import { type CutText, concatHeader, cutText, splitHeader } from '../protocols/text.ts';
import type { ChannelConnection, ChannelKind, ConnectionDeps, OutboundMessage, SegmentOutcome } from './channel.ts';
import { createPacer } from './session/pacing.ts';
import { createSession, type Tracked } from './session/session.ts';
import { address, sessionSettings } from './session/settings.ts';
import { ascii, byDefault, ratePerSecond, throttling, withDefaults, words } from './settings.ts';

const cmppSettings = Type.Object(
  {
    ...address,
    spId: ascii(6, 6, words('企业代码', 'SP_Id', '运营商分配的六位企业代码，登录与提交都用它。', 'Six characters, given by the carrier.')),
    serviceId: ascii(1, 10, words('业务代码', 'Service_Id', '运营商登记的业务代码。', 'The service, as registered with the carrier.')),
    ratePerSecond: ratePerSecond('提交短信条数（长短信按段计）', 'Segments'),
    version: byDefault(
      '3.0',
      Type.Enum(
        ['2.0', '3.0'],
        words(
          '协议版本',
          'Version',
          '登录时请求的 CMPP 版本；只支持较低版本的网关按较低版本通信。',
          'The version we ask for; a gateway that knows only an older one gets that.',
        ),
      ),
    ),
    feeUserType: byDefault(
      2,
      Type.Integer({
        minimum: 0,
        maximum: 3,
        ...words(
          '计费用户类型',
          'Fee_UserType',
          '0 对接收方计费，1 对源终端计费，2 对企业（SP）计费，3 不使用。',
          'Who is charged: 0 the recipient, 1 the source, 2 the SP, 3 nobody in particular.',
        ),
      }),
    ),
    feeType: byDefault(
      '01',
      Type.String({
        pattern: '^[0-9]{1,2}$',
        ...words(
          '计费类型',
          'FeeType',
          '资费类别：01 免费，02 按条，03 包月，04 封顶，05 由企业（SP）实现。',
          'How the carrier charges: 01 free, 02 per message, 03 by month, 04 capped, 05 by the SP.',
        ),
      }),
    ),
    feeCode: byDefault(
      '0',
      Type.String({ pattern: '^[0-9]{1,6}$', ...words('资费代码', 'FeeCode', '资费，单位为分。', 'The charge, in fen.') }),
    ),
    msgLevel: byDefault(
      0,
      Type.Integer({
        minimum: 0,
        maximum: 9,
        ...words('信息级别', 'Msg_level', '提交短信的优先级别，由运营商解释。', 'Priority of messages; what it means, the carrier says.'),
      }),
    ),
    longReferenceBits: byDefault(
      8,
      Type.Enum(
        [8, 16],
        words(
          '长短信参考号位数',
          'Long message reference',
          '长短信用户数据头中参考号的位数；16 位时每段少一个汉字。',
          'Bits of the reference that joins the segments of a long message; 16 take the room of a character in each.',
        ),
      ),
    ),
    stripCountryCode: byDefault(
      true,
      Type.Boolean(
        words(
          '去掉国家码',
          'Strip country code',
          '是：86138… 写作 138…，其他国家号码前加 00；否：按国际格式提交。',
          'True writes 86138… as 138… and other countries with 00 in front; false writes international digits.',
        ),
      ),
    ),
    strictAuthenticator: byDefault(
      false,
      Type.Boolean(
        words(
          '校验网关身份',
          'Strict authenticator',
          '拒绝不能证明自己知道密码的网关；许多真实网关不能。',
          'Refuse a gateway that cannot prove that it knows the secret; many real ones cannot.',
        ),
      ),
    ),
    ...sessionSettings,
    ...throttling,
  },
  { $id: 'CmppSettings', additionalProperties: false },
);

export type CmppSettings = Static<typeof cmppSettings> & { secret: string };

export const cmppKind: ChannelKind<typeof cmppSettings> = {
  name: 'cmpp',
  title: { zh: '中国移动 CMPP 2.0/3.0', en: 'China Mobile CMPP 2.0/3.0' },
  settings: cmppSettings,
  secret: { zh: '登录密码', en: 'Shared secret' },
  connect: (settings, secret, deps) => createCmppConnection({ ...settings, secret }, deps),
};

/** Deliveries not yet acknowledged by the owner; beyond that we stop reading until half of them are. */
const maxUnacknowledged = 2000;
/** How far ahead of the rate messages may be handed over. */
const aheadMs = 50;
/** Pk_total and the header's total are one octet. */
const maxSegments = 255;

/** Results we answer a DELIVER with. 8 is "too fast", the one that asks for the same again. */
const deliverResult = { ok: 0, structure: 1, again: 8 } as const;
const submitResult = { ok: 0, structure: 1, tooLong: 6, throttled: 8 } as const;

const unsent: SegmentOutcome = { kind: 'unsent' };
const unknown: SegmentOutcome = { kind: 'unknown' };
const cutOff: SegmentOutcome = { kind: 'unknown', isCut: true };
const throttled: SegmentOutcome = { kind: 'throttled' };

/** Structure, command, sequence, length, fee code, Service_Id, Msg_src, Fee_terminal_Id: a message has no part in any of them. */
const ourResults: ReadonlySet<number> = new Set([1, 2, 3, 4, 5, 7, 11, 12]);

/** The carrier's result as customers see it. */
const codeOf = (result: number): string => `ER:${result.toString().padStart(4, '0')}`;
const rejected = (result: number): SegmentOutcome => ({ kind: 'rejected', code: codeOf(result) });
const refused = (result: number): SegmentOutcome =>
  ourResults.has(result) ? { kind: 'rejected', code: codeOf(result), isOurs: true } : rejected(result);

/** A message in hand. */
interface Job {
  readonly message: OutboundMessage;
  readonly terminalId: string;
  readonly cut: CutText;
  /** Indexes to send, null for all. */
  readonly only: readonly number[] | null;
  readonly outcomes: SegmentOutcome[];
  /** Positions not yet written, and not yet decided. */
  next: number;
  left: number;
  readonly settle: (outcomes: readonly SegmentOutcome[]) => void;
}

/** One segment of it, on its way. */
interface Flight extends Tracked {
  readonly job: Job;
  readonly position: number;
  tries: number;
}

/** Throws RangeError if no PDU can carry these settings. */
export function createCmppConnection(given: CmppSettings, deps: ConnectionDeps): ChannelConnection {
  const settings = withDefaults(cmppSettings, given);
  const { events } = deps;
  const asked: CmppVersion = settings.version === '2.0' ? 2 : 3;

  /** What we ask for at the next login, and what is spoken after it. */
  let version = asked;
  let authenticator: Buffer = Buffer.alloc(16);

  const queue: Job[] = [];
  /** Segments refused as too fast whose pause is over, and the timers of those whose is not. */
  const retries: Flight[] = [];
  const pausing = new Map<Flight, NodeJS.Timeout>();
  /** Segments handed over and without an outcome. */
  let outstanding = 0;
  const maxOutstanding = 2 * settings.window;
  let isPumpDue = false;
  let pumpTimer: NodeJS.Timeout | undefined;
  /** `room()` was 0 the last time anybody could have looked. */
  let isStarved = true;
  let unacknowledged = 0;

  const pacer = createPacer(settings.ratePerSecond, performance.now());

  const session = createSession<Flight>(settings, {
    frames: cmppFrames,
    login,
    keepAlive: (sequenceId) => cmpp[version].activeTest.encode(sequenceId, {}),
    leave: (sequenceId) => cmpp[version].terminate.encode(sequenceId, {}),
    receive,
    caughtUp: pump,
    unanswered: ({ job, position }) => decide(job, position, session.state === 'up' || session.state === 'draining' ? unknown : cutOff),
    isDrained: () => queue.length === 0,
    mayWrite: deps.mayWrite,
    onState(state, reason) {
      if (state === 'connecting') unacknowledged = 0;
      if (state === 'down' || state === 'refused' || state === 'draining' || state === 'stopped') giveUp(state === 'draining');
      events.onState(state, reason);
      if (state === 'up') pump();
    },
  });

  // The login

  function login(sequenceId: number): Buffer {
    const timestamp = connectTimestamp(new Date());
    authenticator = authenticatorSource(settings.spId, settings.secret, timestamp);
    const body = { sourceAddr: settings.spId, authenticatorSource: authenticator, version: versionOctet(version), timestamp };
    return cmpp[version].connect.encode(sequenceId, body);
  }

  function onConnectResp(buffer: Buffer, start: number, end: number): void {
    const { status, authenticatorIsmg: digest, version: octet, shape } = decodeConnectResp(buffer, start, end);
    // A server tells the highest version it knows. Zero and the like tell nothing.
    const known: CmppVersion = octet >= 0x20 && octet < 0x30 ? 2 : 3;
    const lower: CmppVersion = known === 2 ? 2 : version;
    if (status === 4 && lower < version) {
      version = lower;
      session.again('the server wants 2.0');
      return;
    }
    if (status !== 0) {
      session.refused(`login refused with status ${status}`);
      return;
    }
    const isProven = digest.equals(authenticatorIsmg(shape, status, authenticator, settings.secret));
    if (!isProven && settings.strictAuthenticator) {
      session.refused('the server does not know the secret');
      return;
    }
    version = lower;
    session.accepted(`logged in, ${version}.0${isProven ? '' : ', the server did not prove that it knows the secret'}`);
  }

  // Out

  const terminalId = (to: string): string =>
    !settings.stripCountryCode ? to : to.length === 13 && to.startsWith('86') ? to.slice(2) : `00${to}`;

  // Customers send one text to many: the last one's parts are kept.
  let lastText: string | null = null;
  let lastCut: CutText = { encoding: 'ascii', parts: [] };
  function cut(text: string): CutText {
    if (text !== lastText) {
      lastCut = cutText(text, settings.longReferenceBits);
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
    // A multimedia package never fits this carrier: it counts as one segment, and is answered as the too long message it is.
    const text = typeof message.content === 'string' ? cut(message.content) : null;
    const only = message.only ?? null;
    const count = only ? only.length : (text?.parts.length ?? 1);
    const refusal = session.state !== 'up' ? unsent : !text || text.parts.length > maxSegments ? rejected(submitResult.tooLong) : null;
    const outcomes = count === 1 ? [refusal ?? unsent] : Array.from({ length: count }, () => refusal ?? unsent);
    if (!text || refusal || count === 0) {
      queueMicrotask(() => settle(outcomes));
      return;
    }
    queue.push({ message, terminalId: terminalId(message.to), cut: text, only, outcomes, next: 0, left: count, settle });
    outstanding += count;
    if (computeRoom() === 0) isStarved = true;
    if (isPumpDue) return;
    isPumpDue = true;
    // Not at once: an outcome that is known right away must not reach the owner before `send` has returned.
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

  /** Arms a timer if all that is missing is the rate's: a full window wakes us by its answers. */
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
      pdu = encodeSubmit(sequenceId, job.message, job.terminalId, job.cut, index);
    } catch {
      // A number that fits no field: the carrier would call it a wrong structure.
      decide(job, position, rejected(submitResult.structure));
      return;
    }
    flight.tries += 1;
    session.request(sequenceId, pdu, flight, now);
  }

  function encodeSubmit(sequenceId: number, message: OutboundMessage, terminalId: string, { parts, encoding }: CutText, index: number) {
    const part = parts[index]!;
    const isLong = parts.length > 1;
    const concat = { reference: message.reference, total: parts.length, number: index + 1 };
    return cmpp[version].submit.encode(sequenceId, {
      // Written out, not spread from a constant: spreading an object of this size costs more than encoding it.
      msgId: noMsgId,
      pkTotal: parts.length,
      pkNumber: index + 1,
      registeredDelivery: 1,
      msgLevel: settings.msgLevel,
      serviceId: settings.serviceId,
      feeUserType: settings.feeUserType,
      feeTerminalId: '',
      tpPid: 0,
      tpUdhi: isLong ? 1 : 0,
      msgFmt: encoding === 'ucs2' ? 8 : 0,
      msgSrc: settings.spId,
      feeType: settings.feeType,
      feeCode: settings.feeCode,
      validTime: '',
      atTime: '',
      srcId: message.from,
      destTerminalId: [terminalId],
      msgContent: isLong ? Buffer.concat([concatHeader(settings.longReferenceBits, concat), part]) : part,
    });
  }

  function decide(job: Job, position: number, outcome: SegmentOutcome): void {
    job.outcomes[position] = outcome;
    outstanding -= 1;
    job.left -= 1;
    if (job.left === 0) job.settle(job.outcomes);
  }

  /** Nothing more will be written: on a lost connection at all, while draining only what has been begun. */
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

  function onSubmitResp(buffer: Buffer, start: number, end: number): void {
    // First: if it cannot be read, the request stays unanswered and ends with the connection.
    const { msgId, result } = decodeSubmitResp(buffer, start, end);
    const flight = session.answered(sequenceOf(buffer, start));
    if (!flight) return;
    if (result === submitResult.throttled) onThrottled(flight);
    else decide(flight.job, flight.position, result === submitResult.ok ? { kind: 'accepted', carrierId: msgId } : refused(result));
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

  // In

  function receive(buffer: Buffer, start: number, end: number): void {
    const id = commandOf(buffer, start);
    if (session.state === 'connecting') {
      if (id === command.connectResp) onConnectResp(buffer, start, end);
      return;
    }
    switch (id) {
      case command.submitResp:
        onSubmitResp(buffer, start, end);
        break;
      case command.deliver:
        onDeliver(buffer, start, end);
        break;
      case command.activeTest:
        session.write(cmpp[version].activeTestResp.encode(sequenceOf(buffer, start), { reserved: '' }));
        break;
      case command.terminate:
        session.write(cmpp[version].terminateResp.encode(sequenceOf(buffer, start), {}));
        session.left('the carrier asked to leave');
        break;
      case command.terminateResp:
        session.left('left');
        break;
      default:
        // Answers to keep-alives have done their work by arriving; unknown commands are ignored (cmpp.md §3).
        break;
    }
  }

  function answer(sequenceId: number, msgId: string, result: number): void {
    session.write(cmpp[version].deliverResp.encode(sequenceId, { msgId, result }));
  }

  function onDeliver(buffer: Buffer, start: number, end: number): void {
    const sequenceId = sequenceOf(buffer, start);
    let deliver: Deliver;
    try {
      deliver = decodeDeliver(version, buffer, start, end);
      if (deliver.registeredDelivery === 1) {
        onReport(sequenceId, deliver);
        return;
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      const msgId = end - start >= 20 ? buffer.toString('hex', start + 12, start + 20) : noMsgId;
      answer(sequenceId, msgId, deliverResult.structure);
      return;
    }
    const { concat, body } = hasHeader(deliver.tpUdhi) ? splitHeader(deliver.msgContent) : { concat: null, body: deliver.msgContent };
    events.onInbound(
      {
        carrierId: deliver.msgId,
        from: deliver.srcTerminalId,
        to: deliver.destId,
        concat,
        encoding: encodingOf(deliver.msgFmt),
        octets: Buffer.from(body),
      },
      acknowledgement(sequenceId, deliver.msgId),
    );
  }

  function onReport(sequenceId: number, deliver: Deliver): void {
    const report = decodeReport(deliver.msgContent);
    if (!isFinal(report.stat)) {
      answer(sequenceId, deliver.msgId, deliverResult.ok);
      return;
    }
    events.onReport(
      {
        carrierId: report.msgId,
        status: report.stat,
        delivered: report.stat === 'DELIVRD',
        phone: report.destTerminalId || deliver.srcTerminalId,
      },
      acknowledgement(sequenceId, deliver.msgId),
    );
  }

  function acknowledgement(sequenceId: number, msgId: string): (safe: boolean) => void {
    const epoch = session.epoch;
    let isAnswered = false;
    unacknowledged += 1;
    if (unacknowledged === maxUnacknowledged) session.pause();
    return (safe) => {
      // The connection it came by is gone: the carrier sends it again by another, and that one will be answered.
      if (isAnswered || epoch !== session.epoch) return;
      isAnswered = true;
      answer(sequenceId, msgId, safe ? deliverResult.ok : deliverResult.again);
      unacknowledged -= 1;
      if (unacknowledged === maxUnacknowledged / 2) session.resume();
    };
  }

  // Settings that fit no field are found here, not at the first login or message.
  login(0);
  encodeSubmit(0, { to: '', from: '', content: '', reference: 0 }, '', cut(''), 0);

  return {
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
  };
}
