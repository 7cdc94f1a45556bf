/**
 * A simulated China Mobile gateway (ISMG): the server's side of CMPP 2.0 and 3.0 over real sockets, with phones behind it.
 *
 * What becomes of a message is decided by the last four digits of its recipient, and by the faults that are on, see carrier.ts;
 * everything else is delivered. Reports and replies belong to the account, not to a connection: they wait in memory while nobody is
 * logged in, leave within a window, and come again when they are refused or when their connection breaks before they are answered.
 *
 * It shares the processor with what it tests, so it works by batches: no timer per message, one write per turn of the event loop, and
 * no look at a text unless somebody wants it.
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
import { createFrameReader } from '../src/protocols/wire/framing.ts';
import { concatHeader, cutText, type Encoding, joinParts, splitHeader } from '../src/protocols/text.ts';
import {
  createFaultSwitch,
  createFirstTimes,
  createLine,
  createTimers,
  type Faults,
  fateOf,
  forgetOldest,
  isSendable,
  isShown,
  type Line,
  type PersonalMessage,
} from './carrier.ts';
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

/** A socket, logged in or not. */
interface Connection {
  readonly drop: () => void;
  /** Says nothing, reads nothing and belongs to no account any more, until it goes on. */
  hush(): void;
  goOn(): void;
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
  /** Breaks it; what was not written yet is lost. */
  readonly drop: () => void;
  readonly nextSequence: () => number;
  readonly unanswered: Map<number, Owed>;
  /** SUBMITs not yet answered. */
  submits: number;
}

/** The code of the gateway in Msg_Ids. */
const firstGateway = 1001;
const gateways = 1000;
const tickMs = 5;
/** The status of a login. */
const otherFailure = 5;
/** Dest_terminal_Id. */
const rejectedResult = 13;
const loginTimeoutMs = 10_000;
/** A connection that a fault made silent is given up at last. */
const longestSilenceMs = 600_000;

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
  const listeners: ((message: PhoneMessage) => void)[] = [];
  let isRecording = options.recording ?? true;

  const accounts = new Map<string, Account>();
  for (const account of options.accounts) accounts.set(account.spId, { ...account, links: [], owed: createLine(), turn: 0 });

  const { journal } = options;

  const connections = new Set<Connection>();
  let server: Server | null = null;
  let ticking: NodeJS.Timeout | undefined;
  let port = options.port ?? 0;

  const faults = createFaultSwitch({
    reportDelayMs,
    slowReportDelayMs,
    onChange(hush) {
      for (const connection of connections) {
        if (hush || faults.isSilent()) connection.hush();
        else connection.goOn();
      }
    },
  });

  // What happens later

  const reports = createTimers<Owed>(tickMs, (owed) => owed.account.owed.push(owed));
  const refusedReports = createTimers<Owed>(tickMs, (owed) => owed.account.owed.push(owed));
  const tasks = createTimers<() => void>(tickMs, (task) => task());

  // Msg_Ids and report times are made of the time; it is put into words once a tick.
  // Starting anywhere, also with the gateway, a restart within a second hardly repeats an id.
  let sequence = Math.floor(Math.random() * 0x10000);
  let gateway = firstGateway + Math.floor(Math.random() * gateways);
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
      gateway = firstGateway + ((gateway - firstGateway + 1) % gateways);
      readClock();
    }
    return idPrefix + (0x10000 + sequence).toString(16).slice(1);
  }

  function tick(): void {
    readClock();
    const now = performance.now();
    reports.fire();
    refusedReports.fire();
    tasks.fire();
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

  /** From now on this is owed until it is acknowledged, whatever becomes of this process. */
  function owe(owed: Owed): Owed {
    if (journal) {
      const { account, msgId, to, phone, report, content } = owed;
      const kept = content && { ...content, octets: content.octets.toString('base64') };
      journal.owes(msgId, { spId: account.spId, msgId, to, phone, report, content: kept });
    }
    return owed;
  }

  /** What an earlier process has left. */
  function takeUpOwed(): void {
    for (const [, what] of journal?.left ?? []) {
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
      journal?.settled(owed.msgId);
    } else {
      counters.refused += 1;
      refusedReports.add(owed, redeliverMs);
    }
  }

  function oweReply(account: Account, { from, to, content }: PersonalMessage): void {
    const { encoding, parts } = cutText(content, 8);
    const reference = ++sequence & 0xff;
    for (const [index, part] of parts.entries()) {
      const header = parts.length > 1 ? concatHeader(8, { reference, total: parts.length, number: index + 1 }) : null;
      const octets = header ? Buffer.concat([header, part]) : part;
      const content = { tpUdhi: header ? 1 : 0, msgFmt: encoding === 'ucs2' ? 8 : 0, octets };
      account.owed.push(owe({ account, msgId: nextMsgId(), to, phone: from, report: null, content, sentAt: 0 }));
    }
  }

  // To the phones

  const incomplete = new Map<string, ({ encoding: Encoding; octets: Buffer } | undefined)[]>();
  const isFirst = createFirstTimes();

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
    // What is refused is answered all the same; the faults of answers are about what was taken.
    const how = result === 0 ? faults.answering() : 0;
    const respond = () => {
      link.submits -= 1;
      link.write(cmpp[link.version].submitResp.encode(sequenceId, { msgId, result }));
    };
    if (how === 0) respond();
    else if (how === 'drop') link.drop();
    else if (how !== 'never') tasks.add(respond, how);
  }

  /** The Result of a SUBMIT. */
  function judge(account: Account, submit: Submit, phone: string): number {
    if (phone.length > 21) return 13;
    if (submit.msgContent.length > (submit.msgFmt === 0 ? 159 : 140)) return 6;
    if (!isOwn(account, submit.srcId)) return 10;
    if (submit.msgSrc !== account.spId) return 11;
    const refusal = faults.refusal();
    if (refusal !== null) return refusal === 'throttled' ? 8 : (faults.faults.rejectCode ?? rejectedResult);
    const fate = fateOf(phone);
    if (fate.special === 'throttle-once') {
      if (isFirst(`${phone} ${submit.msgContent.toString('latin1')}`)) return 8;
    }
    return fate.special === 'reject' ? rejectedResult : 0;
  }

  function accept(link: Link, submit: Submit, firstId: string): void {
    for (const [index, phone] of submit.destTerminalId.entries()) {
      // Ids of further recipients follow the first (cmpp.md §6).
      const msgId = index === 0 ? firstId : nextMsgId();
      const fate = fateOf(phone);
      if (isRecording && isShown(fate)) show(submit, phone, link);
      if (journal) {
        const concat = hasHeader(submit.tpUdhi) ? splitHeader(submit.msgContent).concat : null;
        journal.took({ id: msgId, to: phone, from: submit.srcId, part: concat ?? undefined });
      }
      const { reply, stat } = fate;
      if (reply !== undefined && submit.pkNumber >= submit.pkTotal)
        tasks.add(() => oweReply(link.account, { from: phone, to: submit.srcId, content: reply }), reportDelayMs);
      if (stat === null || submit.registeredDelivery !== 1) continue;
      const plan = faults.plan(fate);
      if (plan.copies === 0) continue;
      for (let copy = 0; copy < plan.copies; copy += 1) {
        const report = { msgId, stat, submitTime: minute };
        const owed = owe({ account: link.account, msgId: nextMsgId(), to: submit.srcId, phone, report, content: null, sentAt: 0 });
        if (plan.isEarly && copy === 0) sendDeliver(link, owed);
        else reports.add(owed, plan.delayMs);
      }
    }
  }

  // Connections

  function serve(socket: Socket): void {
    socket.on('error', () => {
      // 'close' follows and does what there is to do.
    });
    if (faults.refusesConnections()) {
      socket.resetAndDestroy();
      return;
    }
    socket.setNoDelay(true);
    let hushedAt: number | null = null;
    let link: Link | null = null;
    let sent = 0;
    let heardAt = performance.now();
    let probes = 0;
    let out: Buffer[] = [];

    const flush = () => {
      if (hushedAt !== null) return;
      const pdus = out;
      out = [];
      if (socket.writable && pdus.length > 0) socket.write(pdus.length === 1 ? pdus[0]! : Buffer.concat(pdus));
    };
    const write = (pdu: Buffer) => {
      if (out.length === 0) setImmediate(flush);
      out.push(pdu);
    };
    let isDropped = false;
    const drop = () => {
      isDropped = true;
      out = [];
      socket.destroy();
    };
    const nextSequence = () => {
      sent = sent === 0xffffffff ? 1 : sent + 1;
      return sent;
    };

    // Silence before the login ends the connection; after it, asks, and ends it when nothing comes back.
    const watch = setInterval(() => {
      if (hushedAt !== null) {
        if (performance.now() - hushedAt > longestSilenceMs) drop();
        return;
      }
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
        drop,
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
      // What came behind the submit whose connection broke was never read.
      if (isDropped) return;
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
    socket.on('close', () => {
      clearInterval(watch);
      connections.delete(connection);
      detach();
    });

    const connection: Connection = {
      drop,
      hush() {
        hushedAt ??= performance.now();
        socket.pause();
        detach();
      },
      goOn() {
        if (hushedAt === null) return;
        hushedAt = null;
        heardAt = performance.now();
        if (link && !socket.destroyed) link.account.links.push(link);
        flush();
        socket.resume();
      },
    };
    connections.add(connection);
    if (faults.isSilent()) connection.hush();
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
    else if (faults.refusesLogins()) status = otherFailure;
    else if (!account || !proof) status = 2;
    else if (!proof.equals(connect.authenticatorSource)) status = 3;
    else if (account.links.length >= (account.maxConnections ?? 8)) status = otherFailure;
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

    /** What is on. Assigning replaces everything, and ends what is under way. */
    get faults(): Faults {
      return faults.faults;
    },
    set faults(wanted) {
      faults.faults = wanted;
    },

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
      for (const { drop } of connections) drop();
      await closed;
    },

    /** Breaks all connections and goes on listening. */
    dropConnections(): void {
      for (const { drop } of connections) drop();
    },

    onMessage(listener: (message: PhoneMessage) => void): void {
      listeners.push(listener);
    },

    set recording(wanted: boolean) {
      isRecording = wanted;
    },

    /** A person writes to a service number. False: nobody here owns it, or it is nothing that fits a message. */
    reply(message: PersonalMessage): boolean {
      const account = ownerOf(message.to);
      if (!account || !isSendable(message)) return false;
      oweReply(account, message);
      sendOwed(account);
      return true;
    },
  };
}
