/**
 * A simulated China Mobile gateway (ISMG): the server's side of CMPP 2.0 and 3.0 over real sockets, with phones behind it.
 *
 * What becomes of a message is decided by the last four digits of its recipient, see `fates`; everything else is delivered. Reports
 * and replies belong to the account, not to a connection: they wait in memory while nobody is logged in, leave within a window, and
 * come again when they are refused or when their connection breaks before they are answered.
 *
 * It shares the processor with what it tests, so it works by batches: no timer per message (things due lie in lines, each with one
 * constant delay, swept by one tick), one write per turn of the event loop, and no look at a text unless somebody wants it.
 *
 * Faults are switched while it runs, in `faults`.
 */
import { createServer, type Server, type Socket } from 'node:net';
import {
  authenticatorIsmg,
  authenticatorSource,
  type CmppVersion,
  cmpp,
  cmppFrames,
  command,
  commandOf,
  composeMsgId,
  decodeDeliverResp,
  encodeReport,
  encodingOf,
  hasHeader,
  reportTime,
  type Submit,
  sequenceOf,
  versionOctet,
} from '../src/protocols/cmpp.ts';
import { createFrameReader } from '../src/protocols/framing.ts';
import { concatHeader, cutText, type Encoding, joinParts, splitHeader } from '../src/protocols/text.ts';
import type { Journal } from './journal.ts';

interface IsmgAccount {
  readonly spId: string;
  readonly secret: string;
  /** Numbers that begin so are this account's, the longest match first. Without any it may send as it likes, and gets no `reply`. */
  readonly accessNumbers?: readonly string[];
  /** Default 8; one more is answered with status 5. */
  readonly maxConnections?: number;
}

export interface IsmgOptions {
  readonly accounts: readonly IsmgAccount[];
  /** Default 0: any free one. */
  readonly port?: number;
  /** The newest version it speaks; whoever asks for a newer one is told. Default 3. */
  readonly maxVersion?: CmppVersion;
  readonly reportDelayMs?: number;
  /** Of numbers that end in 0008. */
  readonly slowReportDelayMs?: number;
  /** Pause before a refused report comes again, and how long one may stay unanswered. */
  readonly redeliverMs?: number;
  readonly deliverTimeoutMs?: number;
  /** Reports and replies sent and not yet answered, per connection. */
  readonly window?: number;
  readonly keepAliveMs?: number;
  readonly keepAliveTries?: number;
  /** Whether phones keep what they receive (for `onMessage`); benchmarks have no use for it. Default true. */
  readonly recording?: boolean;
  /** Where it keeps what must outlive its process. Without one it forgets, as a carrier with a bad day does. */
  readonly journal?: Journal;
}

/** What a phone shows: one text, however many segments it took. */
export interface PhoneMessage {
  readonly to: string;
  readonly from: string;
  readonly text: string;
  readonly at: Date;
  /** Which connection it (or its last segment) came by, counted by logins from 1. */
  readonly connection: number;
}

interface IsmgCounters {
  logins: number;
  refusedLogins: number;
  submits: number;
  accepted: number;
  rejected: number;
  throttled: number;
  /** DELIVERs sent, repeats included. */
  reports: number;
  inbound: number;
  /** DELIVERs answered with 0, and with anything else. */
  acknowledged: number;
  refused: number;
  /** Most SUBMITs one connection had unanswered at once. */
  peakWindow: number;
}

/** To be changed while it runs. */
interface IsmgFaults {
  /** SUBMITs are answered so much later; Infinity: never. */
  responseDelayMs: number;
}

/** Result of the SUBMIT_RESP, what is reported (null: nothing ever), and what is special about it. */
interface Fate {
  readonly result?: number;
  readonly stat: string | null;
  readonly special?: 'throttle-once' | 'slow' | 'twice' | 'before-response';
  readonly reply?: string;
}

const delivered: Fate = { stat: 'DELIVRD' };

/** By the last four digits of the recipient. */
const fates: ReadonlyMap<string, Fate> = new Map<string, Fate>([
  ['0001', { stat: 'UNDELIV' }],
  ['0002', { stat: 'EXPIRED' }],
  ['0003', { stat: 'REJECTD' }],
  ['0004', { stat: 'MK:0001' }],
  ['0005', { stat: null, result: 13 }],
  ['0006', { stat: 'DELIVRD', special: 'throttle-once' }],
  ['0007', { stat: null }],
  ['0008', { stat: 'DELIVRD', special: 'slow' }],
  ['0009', { stat: 'DELIVRD', special: 'twice' }],
  ['0010', { stat: 'DELIVRD', special: 'before-response' }],
  ['0011', { stat: 'DELIVRD', reply: 'TD' }],
  ['0012', { stat: 'DELIVRD', reply: '你好,|世界' }],
]);

/** Numbers without a fate of their own all begin their last four digits with something else, which is cheap to see. */
function fateOf(phone: string): Fate {
  return phone.charCodeAt(phone.length - 4) === 0x30 ? (fates.get(phone.slice(-4)) ?? delivered) : delivered;
}

/** A DELIVER that is owed to an account: a report, or a part of a reply. It keeps its id over all its tries. */
interface Owed extends OwedDeliver {
  readonly account: Account;
  sentAt: number;
}

/** What a journal keeps of it. */
interface OwedDeliver {
  readonly msgId: string;
  /** The service number. */
  readonly to: string;
  readonly phone: string;
  readonly report: { readonly msgId: string; readonly stat: string; readonly submitTime: string } | null;
  readonly content: { readonly tpUdhi: number; readonly msgFmt: number; readonly octets: Buffer } | null;
}

interface Account extends IsmgAccount {
  readonly links: Link[];
  /** To be sent as soon as a connection has room. */
  readonly owed: Line<Owed>;
  /** Which connection is next. */
  turn: number;
}

/** A logged-in connection. */
interface Link {
  readonly account: Account;
  /** Counted by logins. */
  readonly number: number;
  readonly version: CmppVersion;
  readonly write: (pdu: Buffer) => void;
  readonly nextSequence: () => number;
  readonly unanswered: Map<number, Owed>;
  /** SUBMITs not yet answered. */
  submits: number;
}

/** First in, first out, for long lines: taking the head is cheap. */
interface Line<T> {
  push(item: T): void;
  peek(): T | undefined;
  shift(): T | undefined;
  readonly size: number;
}

function createLine<T>(): Line<T> {
  let items: T[] = [];
  let head = 0;
  return {
    push(item) {
      items.push(item);
    },
    peek: () => items[head],
    shift() {
      const item = items[head];
      if (head < items.length) head += 1;
      if (head >= 1024 && 2 * head >= items.length) {
        items = items.slice(head);
        head = 0;
      }
      return item;
    },
    get size() {
      return items.length - head;
    },
  };
}

/** The code of the gateway in Msg_Ids. */
const firstGateway = 1001;
const tickMs = 5;
const phoneNumber = /^\+?\d{1,20}$/;
const maxReplyLength = 5000;
const loginTimeoutMs = 10_000;
/** Long messages of which parts are missing, and throttled ones not yet seen again, at most. */
const maxRemembered = 10_000;

/** Keeps a memory bounded. */
function forgetOldest<K>(memory: { readonly size: number; keys(): Iterator<K>; delete(key: K): boolean }): void {
  if (memory.size <= maxRemembered) return;
  const oldest = memory.keys().next();
  if (!oldest.done) memory.delete(oldest.value);
}

export type Ismg = ReturnType<typeof createIsmg>;

export function createIsmg(options: IsmgOptions) {
  const maxVersion = options.maxVersion ?? 3;
  const window = options.window ?? 16;
  const redeliverMs = options.redeliverMs ?? 1000;
  const deliverTimeoutMs = options.deliverTimeoutMs ?? 60_000;
  const reportDelayMs = options.reportDelayMs ?? 1000;
  const slowReportDelayMs = options.slowReportDelayMs ?? 30_000;
  const keepAliveMs = options.keepAliveMs ?? 180_000;
  const keepAliveTries = options.keepAliveTries ?? 3;

  const counters: IsmgCounters = {
    logins: 0,
    refusedLogins: 0,
    submits: 0,
    accepted: 0,
    rejected: 0,
    throttled: 0,
    reports: 0,
    inbound: 0,
    acknowledged: 0,
    refused: 0,
    peakWindow: 0,
  };
  const faults: IsmgFaults = { responseDelayMs: 0 };
  const listeners: ((message: PhoneMessage) => void)[] = [];
  let isRecording = options.recording ?? true;

  const accounts = new Map<string, Account>();
  for (const account of options.accounts) accounts.set(account.spId, { ...account, links: [], owed: createLine(), turn: 0 });

  const sockets = new Set<Socket>();
  let server: Server | null = null;
  let ticking: NodeJS.Timeout | undefined;
  let port = options.port ?? 0;

  // Time: what happens later lies in lines, each in the order of its due times.

  const reports = createLine<{ owed: Owed; dueAt: number }>();
  const slowReports = createLine<{ owed: Owed; dueAt: number }>();
  const refusedReports = createLine<{ owed: Owed; dueAt: number }>();
  const replies = createLine<{ account: Account; from: string; to: string; content: string; dueAt: number }>();
  const responses = createLine<{ respond: () => void; dueAt: number }>();

  // Msg_Ids and report times are made of the time; it is put into words once a tick.
  // Starting anywhere, a restart within a second hardly repeats an id.
  let sequence = Math.floor(Math.random() * 0x10000);
  let gateway = firstGateway;
  let idPrefix = '';
  let minute = '';

  function readClock(): void {
    const now = new Date();
    idPrefix = composeMsgId(now, gateway, 0).slice(0, 12);
    minute = reportTime(now);
  }

  function nextMsgId(): string {
    sequence = (sequence + 1) & 0xffff;
    if (sequence === 0) {
      // One gateway has 65,536 ids a second, which a benchmark can use up.
      gateway = firstGateway + ((gateway - firstGateway + 1) % 1000);
      readClock();
    }
    return idPrefix + (0x10000 + sequence).toString(16).slice(1);
  }

  function tick(): void {
    readClock();
    const now = performance.now();
    for (const line of [reports, slowReports, refusedReports])
      while ((line.peek()?.dueAt ?? Number.POSITIVE_INFINITY) <= now) {
        const { owed } = line.shift()!;
        owed.account.owed.push(owed);
      }
    while ((responses.peek()?.dueAt ?? Number.POSITIVE_INFINITY) <= now) responses.shift()?.respond();
    while ((replies.peek()?.dueAt ?? Number.POSITIVE_INFINITY) <= now) {
      const due = replies.shift();
      if (due) oweReply(due.account, due);
    }
    for (const account of accounts.values()) {
      for (const link of account.links) forgetLate(link, now);
      sendOwed(account);
    }
  }

  /** What stays unanswered too long is sent again. */
  function forgetLate(link: Link, now: number): void {
    for (const [sequenceId, owed] of link.unanswered) {
      if (now - owed.sentAt < deliverTimeoutMs) break;
      link.unanswered.delete(sequenceId);
      link.account.owed.push(owed);
    }
  }

  // To the SP

  /** Makes a DELIVER that will be owed until it is acknowledged, whatever becomes of this process. */
  function owe(account: Account, deliver: OwedDeliver): Owed {
    const { content } = deliver;
    const kept = { ...deliver, content: content && { ...content, octets: content.octets.toString('base64') } };
    options.journal?.owes(deliver.msgId, { spId: account.spId, ...kept });
    return { account, ...deliver, sentAt: 0 };
  }

  /** What an earlier process has left. */
  function takeUpOwed(): void {
    for (const [, what] of options.journal?.left ?? []) {
      const { spId, content, ...rest } = what as Omit<OwedDeliver, 'content'> & {
        spId: string;
        content: { tpUdhi: number; msgFmt: number; octets: string } | null;
      };
      const account = accounts.get(spId);
      const octets = Buffer.from(content?.octets ?? '', 'base64');
      account?.owed.push({ account, ...rest, content: content && { ...content, octets }, sentAt: 0 });
    }
  }

  /** Sends what the windows of the account's connections allow, taking turns. */
  function sendOwed(account: Account): void {
    const { links, owed } = account;
    let full = 0;
    while (owed.size > 0 && full < links.length) {
      const link = links[account.turn % links.length]!;
      account.turn += 1;
      if (link.unanswered.size >= window) full += 1;
      else {
        full = 0;
        sendDeliver(link, owed.shift()!);
      }
    }
  }

  function sendDeliver(link: Link, owed: Owed): void {
    const { report, content } = owed;
    const sequenceId = link.nextSequence();
    owed.sentAt = performance.now();
    link.unanswered.set(sequenceId, owed);
    if (report) counters.reports += 1;
    else counters.inbound += 1;
    link.write(
      cmpp[link.version].deliver.encode(sequenceId, {
        msgId: owed.msgId,
        destId: owed.to,
        serviceId: '',
        tpPid: 0,
        tpUdhi: content?.tpUdhi ?? 0,
        msgFmt: content?.msgFmt ?? 0,
        srcTerminalId: owed.phone,
        registeredDelivery: report ? 1 : 0,
        msgContent: report
          ? encodeReport(link.version, {
              msgId: report.msgId,
              stat: report.stat,
              submitTime: report.submitTime,
              doneTime: minute,
              destTerminalId: owed.phone,
              smscSequence: 0,
            })
          : (content?.octets ?? Buffer.alloc(0)),
      }),
    );
  }

  function onDeliverResp(link: Link, buffer: Buffer, start: number, end: number): void {
    const sequenceId = sequenceOf(buffer, start);
    const owed = link.unanswered.get(sequenceId);
    if (!owed) return;
    link.unanswered.delete(sequenceId);
    if (decodeDeliverResp(buffer, start, end).result === 0) {
      counters.acknowledged += 1;
      options.journal?.settled(owed.msgId);
    } else {
      counters.refused += 1;
      refusedReports.push({ owed, dueAt: performance.now() + redeliverMs });
    }
  }

  function oweReply(account: Account, { from, to, content }: { from: string; to: string; content: string }): void {
    const { encoding, parts } = cutText(content, 8);
    const reference = ++sequence & 0xff;
    for (const [index, part] of parts.entries()) {
      const header = parts.length > 1 ? concatHeader(8, { reference, total: parts.length, number: index + 1 }) : null;
      const octets = header ? Buffer.concat([header, part]) : part;
      const content = { tpUdhi: header ? 1 : 0, msgFmt: encoding === 'ucs2' ? 8 : 0, octets };
      account.owed.push(owe(account, { msgId: nextMsgId(), to, phone: from, report: null, content }));
    }
  }

  // To the phones

  const incomplete = new Map<string, ({ encoding: Encoding; octets: Buffer } | undefined)[]>();
  const throttledOnce = new Set<string>();

  function show(submit: Submit, to: string, { number }: Link): void {
    const encoding = encodingOf(submit.msgFmt);
    const { concat, body } = hasHeader(submit.tpUdhi) ? splitHeader(submit.msgContent) : { concat: null, body: submit.msgContent };
    let text: string;
    if (concat) {
      const key = `${submit.srcId} ${to} ${concat.reference} ${concat.total}`;
      const parts = incomplete.get(key) ?? Array.from({ length: concat.total }, () => undefined);
      parts[concat.number - 1] = { encoding, octets: Buffer.from(body) };
      incomplete.set(key, parts);
      forgetOldest(incomplete);
      const present = parts.filter((part) => part !== undefined);
      if (present.length < parts.length) return;
      incomplete.delete(key);
      text = joinParts(present);
    } else text = joinParts([{ octets: body, encoding }]);
    const message: PhoneMessage = { to, from: submit.srcId, text, at: new Date(), connection: number };
    for (const listener of listeners) listener(message);
  }

  // From the SP

  function onSubmit(link: Link, buffer: Buffer, start: number, end: number): void {
    counters.submits += 1;
    link.submits += 1;
    if (link.submits > counters.peakWindow) counters.peakWindow = link.submits;
    const sequenceId = sequenceOf(buffer, start);
    const submit = cmpp[link.version].submit.decode(buffer, start, end);
    const first = submit.destTerminalId[0];
    const result = first === undefined ? 1 : judge(link.account, submit, first);
    const msgId = result === 0 ? nextMsgId() : '0000000000000000';
    if (result === 0) {
      counters.accepted += 1;
      accept(link, submit, msgId);
    } else if (result === 8) counters.throttled += 1;
    else counters.rejected += 1;
    const respond = () => {
      link.submits -= 1;
      link.write(cmpp[link.version].submitResp.encode(sequenceId, { msgId, result }));
    };
    if (faults.responseDelayMs === 0) respond();
    else if (faults.responseDelayMs !== Number.POSITIVE_INFINITY)
      responses.push({ respond, dueAt: performance.now() + faults.responseDelayMs });
  }

  /** The Result of a SUBMIT. */
  function judge(account: Account, submit: Submit, phone: string): number {
    if (phone.length > 21) return 13;
    if (submit.msgContent.length > (submit.msgFmt === 0 ? 159 : 140)) return 6;
    if (!isOwn(account, submit.srcId)) return 10;
    if (submit.msgSrc !== account.spId) return 11;
    const fate = fateOf(phone);
    if (fate.special === 'throttle-once') {
      const key = `${phone} ${submit.msgContent.toString('latin1')}`;
      if (!throttledOnce.delete(key)) {
        throttledOnce.add(key);
        forgetOldest(throttledOnce);
        return 8;
      }
    }
    return fate.result ?? 0;
  }

  function accept(link: Link, submit: Submit, firstId: string): void {
    for (const [index, phone] of submit.destTerminalId.entries()) {
      // Ids of further recipients follow the first (cmpp.md §6).
      const msgId = index === 0 ? firstId : nextMsgId();
      const fate = fateOf(phone);
      if (isRecording && (fate.stat === null || fate.stat === 'DELIVRD')) show(submit, phone, link);
      if (options.journal) {
        const concat = hasHeader(submit.tpUdhi) ? splitHeader(submit.msgContent).concat : null;
        options.journal.took({ id: msgId, to: phone, from: submit.srcId, part: concat ?? undefined });
      }
      if (fate.reply !== undefined && submit.pkNumber >= submit.pkTotal)
        replies.push({
          account: link.account,
          from: phone,
          to: submit.srcId,
          content: fate.reply,
          dueAt: performance.now() + reportDelayMs,
        });
      if (fate.stat === null || submit.registeredDelivery !== 1) continue;
      const { stat } = fate;
      const report = () =>
        owe(link.account, {
          msgId: nextMsgId(),
          to: submit.srcId,
          phone,
          report: { msgId, stat, submitTime: minute },
          content: null,
        });
      const owed = report();
      if (fate.special === 'before-response') sendDeliver(link, owed);
      else if (fate.special === 'slow') slowReports.push({ owed, dueAt: performance.now() + slowReportDelayMs });
      else {
        const dueAt = performance.now() + reportDelayMs;
        reports.push({ owed, dueAt });
        if (fate.special === 'twice') reports.push({ owed: report(), dueAt });
      }
    }
  }

  // Connections

  function serve(socket: Socket): void {
    sockets.add(socket);
    socket.setNoDelay(true);
    let link: Link | null = null;
    let sent = 0;
    let heardAt = performance.now();
    let probes = 0;
    let out: Buffer[] = [];

    const flush = () => {
      const pdus = out;
      out = [];
      if (socket.writable && pdus.length > 0) socket.write(pdus.length === 1 ? pdus[0]! : Buffer.concat(pdus));
    };
    const write = (pdu: Buffer) => {
      if (out.length === 0) setImmediate(flush);
      out.push(pdu);
    };
    const nextSequence = () => {
      sent = sent === 0xffffffff ? 1 : sent + 1;
      return sent;
    };

    // Silence before the login ends the connection; after it, asks, and ends it when nothing comes back.
    const watch = setInterval(() => {
      if (performance.now() - heardAt < (link ? keepAliveMs : loginTimeoutMs)) return;
      if (!link || probes >= keepAliveTries) {
        socket.destroy();
        return;
      }
      probes += 1;
      write(cmpp[link.version].activeTest.encode(nextSequence(), {}));
    }, Math.min(keepAliveMs, loginTimeoutMs) / 2);

    const onConnect = (buffer: Buffer, start: number, end: number) => {
      const login = logIn(buffer, start, end);
      const sequenceId = sequenceOf(buffer, start);
      write(cmpp[login.version].connectResp.encode(sequenceId, login.body));
      if (!login.account) {
        counters.refusedLogins += 1;
        flush();
        socket.end();
        return;
      }
      counters.logins += 1;
      link = {
        account: login.account,
        number: counters.logins,
        version: login.version,
        write,
        nextSequence,
        unanswered: new Map(),
        submits: 0,
      };
      login.account.links.push(link);
    };

    /** Logged out: what this connection was sent and has not answered goes to the next one. */
    const detach = () => {
      if (!link) return;
      const { account, unanswered } = link;
      const index = account.links.indexOf(link);
      if (index < 0) return;
      account.links.splice(index, 1);
      for (const owed of unanswered.values()) account.owed.push(owed);
      unanswered.clear();
    };

    const read = createFrameReader(cmppFrames, (buffer, start, end) => {
      const id = commandOf(buffer, start);
      if (!link) {
        if (id !== command.connect) socket.destroy();
        else if (!socket.writableEnded) onConnect(buffer, start, end);
        return;
      }
      if (id === command.submit) onSubmit(link, buffer, start, end);
      else if (id === command.deliverResp) onDeliverResp(link, buffer, start, end);
      else if (id === command.activeTest) write(cmpp[link.version].activeTestResp.encode(sequenceOf(buffer, start), { reserved: '' }));
      else if (id === command.terminate) {
        write(cmpp[link.version].terminateResp.encode(sequenceOf(buffer, start), {}));
        flush();
        socket.end();
        detach();
      }
    });
    socket.on('data', (chunk) => {
      heardAt = performance.now();
      probes = 0;
      try {
        read(chunk);
      } catch {
        socket.destroy();
        return;
      }
      if (link) sendOwed(link.account);
    });
    socket.on('error', () => {
      // 'close' follows and does what there is to do.
    });
    socket.on('close', () => {
      clearInterval(watch);
      sockets.delete(socket);
      detach();
    });
  }

  /** Judges a CONNECT. Without an account in the answer it was refused. */
  function logIn(buffer: Buffer, start: number, end: number) {
    const connect = cmpp[3].connect.decode(buffer, start, end);
    const asked: CmppVersion = connect.version >= 0x30 ? 3 : 2;
    const version: CmppVersion = maxVersion === 2 ? 2 : asked;
    const account = accounts.get(connect.sourceAddr);
    const proof = account && authenticatorSource(account.spId, account.secret, connect.timestamp);
    let status = 0;
    if (asked > maxVersion) status = 4;
    else if (!account || !proof) status = 2;
    else if (!proof.equals(connect.authenticatorSource)) status = 3;
    else if (account.links.length >= (account.maxConnections ?? 8)) status = 5;
    const authenticator =
      account && status === 0 ? authenticatorIsmg(version, status, connect.authenticatorSource, account.secret) : Buffer.alloc(16);
    const body = { status, authenticatorIsmg: authenticator, version: versionOctet(maxVersion) };
    return { version, body, account: status === 0 ? account : undefined };
  }

  function isOwn({ accessNumbers }: Account, number: string): boolean {
    if (!accessNumbers) return true;
    for (const prefix of accessNumbers) if (number.startsWith(prefix)) return true;
    return false;
  }

  function ownerOf(number: string): Account | undefined {
    let owner: Account | undefined;
    let longest = -1;
    for (const account of accounts.values())
      for (const prefix of account.accessNumbers ?? [])
        if (number.startsWith(prefix) && prefix.length > longest) {
          owner = account;
          longest = prefix.length;
        }
    return owner;
  }

  takeUpOwed();

  return {
    counters,
    faults,

    /** The port it listens on, known once `start` has resolved. */
    get port() {
      return port;
    },

    /** Connections logged in. */
    get links() {
      return [...accounts.values()].reduce((sum, account) => sum + account.links.length, 0);
    },

    /** Reports and replies not yet acknowledged, those not yet due left out. */
    get owed() {
      let sum = refusedReports.size;
      for (const { owed, links } of accounts.values()) sum += owed.size + links.reduce((count, link) => count + link.unanswered.size, 0);
      return sum;
    },

    start(): Promise<void> {
      readClock();
      ticking = setInterval(tick, tickMs);
      const listening = createServer(serve);
      server = listening;
      return new Promise((resolve, reject) => {
        listening.once('error', reject);
        listening.listen(port, '127.0.0.1', () => {
          const address = listening.address();
          if (address && typeof address === 'object') port = address.port;
          resolve();
        });
      });
    },

    /** Closes everything at once, as a crash would; what is owed stays in memory and the port is kept for another `start`. */
    async stop(): Promise<void> {
      clearInterval(ticking);
      const closing = server;
      server = null;
      if (!closing) return;
      const closed = new Promise<void>((resolve) => {
        closing.close(() => resolve());
      });
      for (const socket of sockets) socket.destroy();
      await closed;
    },

    /** Breaks all connections and goes on listening. */
    dropConnections(): void {
      for (const socket of sockets) socket.destroy();
    },

    onMessage(listener: (message: PhoneMessage) => void): void {
      listeners.push(listener);
    },

    set recording(wanted: boolean) {
      isRecording = wanted;
    },

    /** A person writes to a service number. False: nobody here owns it, or it is nothing that fits a message. */
    reply(message: { readonly from: string; readonly to: string; readonly content: string }): boolean {
      const account = ownerOf(message.to);
      if (!account || !phoneNumber.test(message.from) || !phoneNumber.test(message.to) || message.content.length > maxReplyLength)
        return false;
      oweReply(account, message);
      sendOwed(account);
      return true;
    },
  };
}
