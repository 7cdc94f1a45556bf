/**
 * A simulated multimedia centre (MMSC): the carrier's side of MM7 over real HTTP, with phones behind it.
 *
 * It reads what it gets in earnest: authentication, SOAP, multipart, and SMIL, whose references must all lead to a part. What becomes of
 * a message is decided by the last four digits of its recipient, and by the faults that are on, see carrier.ts; everything else is
 * delivered. Reports and replies are posted to the VASP's URL over connections that stay open, a bounded number at a time, and come
 * again until they are answered with 1000; while there is no URL they wait in memory.
 *
 * It shares the processor with what it tests. A package is looked into only while phones keep what they receive, and once however
 * often it is uploaded; reports that are due wait by submit, not each with a timer.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Pool } from 'undici';
import { basicAuthorization, type Challenge, digestResponse, readBasic, readDigest } from '../src/protocols/mm7/digest.ts';
import { ProtocolError } from '../src/protocols/wire/fields.ts';
import {
  type Address,
  digitsOf,
  type Fields,
  meaningOf,
  mm7Namespace,
  readEnvelope,
  readRequest,
  writeEnvelope,
  writeRequest,
  xmlType,
} from '../src/protocols/mm7/mm7.ts';
import type { Part } from '../src/protocols/mm7/multipart.ts';
import { readPresentation, type ShownFrame } from '../src/protocols/mm7/smil.ts';
import { shanghaiTime } from '../src/std/shanghai.ts';
import {
  createFaultSwitch,
  createFirstTimes,
  createLine,
  createTimers,
  type Fate,
  type Faults,
  fateOf,
  forgetOldest,
  isSendable,
  isShown,
  type PersonalMessage,
} from './carrier.ts';
import type { Journal } from './journal.ts';

export interface MmscOptions {
  /** Default 0: any free one. */
  readonly port?: number;
  /** Where SubmitReqs are taken. Default `/mm7`. */
  readonly path?: string;
  readonly vaspId: string;
  /** Numbers that begin so are the VASP's; only those may be written to, and sent from. */
  readonly accessNumber: string;
  readonly authentication?: 'none' | 'basic' | 'digest';
  readonly username?: string;
  readonly password?: string;
  /** Where reports and replies go; null (default): they wait until `vaspUrl` is set. */
  readonly vaspUrl?: string | null;
  /** Basic authentication towards the VASP; none if left out. */
  readonly vaspUsername?: string;
  readonly vaspPassword?: string;
  /** Connections to the VASP, each with one request at a time. */
  readonly vaspConnections?: number;
  readonly reportDelayMs?: number;
  /** Of numbers that end in 0008. */
  readonly slowReportDelayMs?: number;
  /** Pause before what was not answered with 1000 comes again, and how long an answer may take. */
  readonly redeliverMs?: number;
  readonly vaspTimeoutMs?: number;
  readonly maxRecipients?: number;
  readonly maxContentOctets?: number;
  /** `mbuni` exchanges Recipient and Sender and uses one TransactionID for all reports of a submit. */
  readonly reportStyle?: 'standard' | 'mbuni';
  /** Whether phones keep what they receive (for `onMessage`); benchmarks have no use for it. Default true. */
  readonly recording?: boolean;
  /** Where it keeps what must outlive its process. Without one it forgets, as a carrier with a bad day does. */
  readonly journal?: Journal;
}

/** What a phone shows. Messages of one package share their frames. */
export interface PhoneMms {
  readonly to: string;
  readonly from: string;
  readonly subject: string;
  readonly frames: readonly PhoneFrame[];
  readonly at: Date;
}

export interface PhoneFrame {
  readonly text: string | null;
  readonly media: { readonly contentType: string; readonly name: string; readonly bytes: Buffer; readonly sha256: string } | null;
  /** The medium stands above the text. */
  readonly mediaFirst: boolean;
}

interface MmscCounters {
  /** SubmitReqs, and the octets of their bodies. */
  uploads: number;
  uploadedOctets: number;
  unauthorized: number;
  malformed: number;
  /** Recipients of requests that were taken. */
  accepted: number;
  /** Requests that were not. */
  rejected: number;
  throttled: number;
  /** Requests posted to the VASP, repeats included. */
  reports: number;
  inbound: number;
  readReplies: number;
  /** Posted requests answered with 1000, and with anything else. */
  acknowledged: number;
  refused: number;
  /** Most recipients of one request, and most requests at once. */
  peakRecipients: number;
  peakRequests: number;
}

interface Report {
  readonly mmStatus: string;
  readonly statusText: string;
}

const retrieved: Report = { mmStatus: 'Retrieved', statusText: 'Retrieved' };

/** What MM7 calls the statuses of fates. */
const reportWords: Readonly<Record<string, Report>> = {
  DELIVRD: retrieved,
  UNDELIV: { mmStatus: 'Unreachable', statusText: 'Unreachable' },
  EXPIRED: { mmStatus: 'Expired', statusText: 'Expired' },
  REJECTD: { mmStatus: 'Recipient Rejected', statusText: 'Rejected' },
};
const reportOfStat = (stat: string): Report => reportWords[stat] ?? { mmStatus: 'Indeterminate', statusText: stat };

/** Reports of one submit that are due together. */
interface DueReports {
  readonly messageId: string;
  readonly sender: string;
  readonly readReply: boolean;
  readonly phones: readonly { readonly phone: string; readonly stat: string; readonly copies: number }[];
}

/** A request that is owed to the VASP; its body stays the same over all its tries. */
interface Owed {
  /** Of a report or reply, in the journal. */
  readonly id?: string;
  readonly kind: 'reports' | 'inbound' | 'readReplies';
  readonly contentType: string;
  readonly body: () => Buffer | string;
  readonly answered?: () => void;
}

const release = mm7Namespace('REL-6-MM7-1-4');
const mm7Version = '6.8.0';
const realm = 'mmsc';
const tickMs = 10;
/** What a 0010 number's report is given to arrive before the response leaves all the same. */
const beforeResponseMs = 200;
const maxPackages = 16;
/** A connection that a fault made silent is given up at last. */
const longestSilenceMs = 600_000;
/** What rejecting answers unless a fault says what. */
const rejectedStatus = 2001;

export type Mmsc = ReturnType<typeof createMmsc>;

export function createMmsc(options: MmscOptions) {
  const path = options.path ?? '/mm7';
  const authentication = options.authentication ?? (options.username === undefined ? 'none' : 'basic');
  const reportDelayMs = options.reportDelayMs ?? 1000;
  const slowReportDelayMs = options.slowReportDelayMs ?? 30_000;
  const redeliverMs = options.redeliverMs ?? 1000;
  const vaspTimeoutMs = options.vaspTimeoutMs ?? 30_000;
  const vaspConnections = options.vaspConnections ?? 64;
  const maxRecipients = options.maxRecipients ?? 1000;
  const maxContentOctets = options.maxContentOctets ?? 8 << 20;
  const isMbuni = options.reportStyle === 'mbuni';

  const counters: MmscCounters = {
    uploads: 0,
    uploadedOctets: 0,
    unauthorized: 0,
    malformed: 0,
    accepted: 0,
    rejected: 0,
    throttled: 0,
    reports: 0,
    inbound: 0,
    readReplies: 0,
    acknowledged: 0,
    refused: 0,
    peakRecipients: 0,
    peakRequests: 0,
  };
  const listeners: ((message: PhoneMms) => void)[] = [];
  let isRecording = options.recording ?? true;

  const { journal } = options;

  const sockets = new Set<Socket>();
  /** Those that say nothing and are not read, with what is to be done once they go on. */
  const hushed = new Map<Socket, (() => void)[]>();
  let server: Server | null = null;
  let ticking: NodeJS.Timeout | undefined;
  let port = options.port ?? 0;
  let requests = 0;

  const faults = createFaultSwitch({
    reportDelayMs,
    slowReportDelayMs,
    onChange(hush) {
      if (hush || faults.isSilent()) for (const socket of sockets) silence(socket);
      else for (const socket of hushed.keys()) goOn(socket);
      postOn();
    },
  });

  const session = randomBytes(3).toString('hex');
  let sequence = 0;
  const nextId = (prefix: string): string => `${prefix}${session}${(sequence += 1).toString().padStart(9, '0')}`;

  // To the VASP

  let vaspUrl: URL | null = options.vaspUrl ? new URL(options.vaspUrl) : null;
  let pool: Pool | null = null;
  const owed = createLine<Owed>();
  let posting = 0;
  let isStopped = true;
  const reports = createTimers<DueReports>(tickMs, oweReports);
  const refused = createTimers<Owed>(tickMs, (again) => owed.push(again));
  const tasks = createTimers<() => void>(tickMs, (task) => task());

  function tick(): void {
    reports.fire();
    refused.fire();
    tasks.fire();
    postOn();
  }

  function oweReports({ messageId, sender, readReply, phones }: DueReports): void {
    for (const { phone, stat, copies } of phones) {
      const body = () => reportOf(messageId, sender, phone, reportOfStat(stat));
      const report: Owed = { id: `${messageId}/${phone}`, kind: 'reports', contentType: xmlType, body };
      for (let copy = 0; copy < copies; copy += 1) owed.push(report);
      if (readReply && stat === 'DELIVRD')
        owed.push({ kind: 'readReplies', contentType: xmlType, body: () => readReplyOf(messageId, sender, phone) });
    }
  }

  const numberOf = (phone: string): readonly Address[] => [{ kind: 'Number', value: `+${digitsOf(phone)}` }];

  function reportOf(messageId: string, sender: string, phone: string, report: Report): string {
    const service: readonly Address[] = [{ kind: isMbuni ? 'Number' : 'ShortCode', value: sender }];
    return writeEnvelope({
      transactionId: isMbuni ? messageId : nextId('t'),
      namespace: release,
      prefixes: isMbuni ? 'prefixed' : 'default',
      message: {
        name: 'DeliveryReportReq',
        fields: {
          mm7Version,
          messageId,
          recipient: isMbuni ? service : numberOf(phone),
          sender: isMbuni ? numberOf(phone) : service,
          date: timeOf(new Date()),
          ...report,
        },
      },
    });
  }

  function readReplyOf(messageId: string, sender: string, phone: string): string {
    const fields = {
      mm7Version,
      messageId,
      recipient: numberOf(phone),
      sender: [{ kind: 'ShortCode', value: sender }],
      timeStamp: timeOf(new Date()),
      mmStatus: 'Read',
    } as const;
    return writeEnvelope({ transactionId: nextId('t'), namespace: release, message: { name: 'ReadReplyReq', fields } });
  }

  function oweReply({ from, to, content }: PersonalMessage): void {
    const contentId = nextId('mo-');
    const fields: Partial<Fields<'DeliverReq'>> = {
      mm7Version,
      mmsRelayServerId: 'mmsc.simulated',
      vaspId: options.vaspId,
      vasId: options.accessNumber,
      sender: numberOf(from),
      recipients: { to: [{ kind: 'ShortCode', value: to }], cc: null, bcc: null },
      timeStamp: timeOf(new Date()),
      priority: 'Normal',
      content: { href: `cid:${contentId}`, allowAdaptations: false },
    };
    const envelope = writeEnvelope({ transactionId: nextId('t'), namespace: release, message: { name: 'DeliverReq', fields } });
    const part = { headers: ['Content-Type: text/plain; charset=utf-8', `Content-ID: <${contentId}>`], body: content };
    const { contentType, chunks } = writeRequest(envelope, part, { rootId: 'mm7-deliver', boundary: contentId });
    const body = Buffer.concat(chunks);
    journal?.owes(contentId, { phone: from, contentType, body: body.toString('base64') });
    owed.push({ id: contentId, kind: 'inbound', contentType, body: () => body });
  }

  /** What an earlier process has left: reports to be made anew, and replies as they were. */
  function takeUpOwed(): void {
    for (const [id, what] of journal?.left ?? []) {
      const { contentType, body, messageId, sender, phone, stat } = what as Readonly<Record<string, string>>;
      if (body !== undefined && contentType !== undefined)
        owed.push({ id, kind: 'inbound', contentType, body: () => Buffer.from(body, 'base64') });
      else if (messageId !== undefined && sender !== undefined && phone !== undefined && stat !== undefined)
        oweReports({ messageId, sender, readReply: false, phones: [{ phone, stat, copies: 1 }] });
    }
  }

  /** Posts what is owed, as far as connections allow. */
  function postOn(): void {
    if (isStopped || !vaspUrl || faults.isSilent()) return;
    pool ??= new Pool(vaspUrl.origin, {
      connections: vaspConnections,
      pipelining: 1,
      headersTimeout: vaspTimeoutMs,
      bodyTimeout: vaspTimeoutMs,
      keepAliveTimeout: 30_000,
    });
    while (posting < vaspConnections) {
      const next = owed.shift();
      if (!next) break;
      post(pool, vaspUrl, next);
    }
  }

  /** Ends every post under way. They fail at once, and others begin: those must find no pool that is being destroyed. */
  async function breakPosts(): Promise<void> {
    const breaking = pool;
    pool = null;
    await breaking?.destroy();
  }

  const authorization =
    options.vaspUsername === undefined ? {} : { authorization: basicAuthorization(options.vaspUsername, options.vaspPassword ?? '') };

  /** Below undici's `request`, which makes a stream of every answer: this is done thousands of times a second. */
  function post(through: Pool, url: URL, what: Owed): void {
    posting += 1;
    counters[what.kind] += 1;
    let answer = '';
    const end = (isTaken: boolean) => {
      posting -= 1;
      if (isTaken) {
        counters.acknowledged += 1;
        if (what.id !== undefined) journal?.settled(what.id);
      } else {
        counters.refused += 1;
        refused.add(what, redeliverMs);
      }
      what.answered?.();
      postOn();
    };
    through.dispatch(
      {
        path: url.pathname + url.search,
        method: 'POST',
        headers: { 'content-type': what.contentType, soapaction: '""', ...authorization },
        body: what.body(),
      },
      {
        // With this one undici takes the handler for one of its present kind.
        onRequestStart() {},
        onResponseStart() {},
        onResponseData(_, chunk) {
          answer += chunk.toString('latin1');
        },
        onResponseEnd: () => end(isSuccess(answer)),
        // Later, since a client that cannot connect fails all it has in one go, and asserts that nothing new has come meanwhile.
        onResponseError: () => queueMicrotask(() => end(false)),
      },
    );
  }

  // To the phones

  const isFirst = createFirstTimes();
  const packages = new Map<string, readonly PhoneFrame[]>();

  /** The frames of a package; one that was uploaded before is recognised and kept once. Throws ProtocolError if it is broken. */
  function framesOf(content: Part): readonly PhoneFrame[] {
    const key = sha256(content.body);
    const known = packages.get(key);
    if (known) return known;
    const { frames, problems } = readPresentation(content);
    if (problems.length > 0) throw new ProtocolError(problems.join('; '));
    const shown = frames.flatMap(phoneFrames);
    packages.set(key, shown);
    forgetOldest(packages, maxPackages);
    return shown;
  }

  // From the VASP

  interface Verdict {
    /** Below 1000 a status of HTTP. */
    readonly statusCode: number;
    readonly statusText?: string | null;
    readonly messageId?: string;
    /** Resolves when the response may leave. */
    readonly after?: Promise<unknown>;
  }

  function onSubmit(fields: Fields<'SubmitReq'>, content: Part | null): Verdict {
    const { vaspId, senderAddress } = fields.senderIdentification ?? {};
    if (vaspId !== options.vaspId) return { statusCode: 4001 };
    const phones = [...(fields.recipients?.to ?? []), ...(fields.recipients?.cc ?? []), ...(fields.recipients?.bcc ?? [])].map(
      ({ value }) => digitsOf(value),
    );
    if (phones.length === 0) return { statusCode: 4004, statusText: "Validation error : Field ' Recipients ' must be filled" };
    counters.peakRecipients = Math.max(counters.peakRecipients, phones.length);
    if (phones.length > maxRecipients) return { statusCode: 3501 };
    const sender = senderAddress?.[0]?.value ?? options.accessNumber;
    if (!sender.startsWith(options.accessNumber)) return { statusCode: 2002, statusText: 'Address error : Sender Barred' };
    if (!content) return { statusCode: 4004, statusText: "Validation error : Field ' Content ' must be filled" };
    if (content.body.length > maxContentOctets)
      return { statusCode: 2004, statusText: 'Multimedia content refused : Message is too large' };
    const refusal = faults.refusal();
    if (refusal === 'rejected')
      return { statusCode: faults.faults.rejectCode ?? rejectedStatus, statusText: faults.faults.rejectText ?? null };
    const found = phones.map((phone) => ({ phone, fate: fateOf(phone) }));
    if (found.some(({ phone, fate }) => fate.special === 'reject' || !/^\d{5,20}$/.test(phone))) return { statusCode: 2002 };
    if (
      refusal === 'throttled' ||
      found.some(({ phone, fate }) => fate.special === 'throttle-once' && isFirst(`${phone} ${fields.subject}`))
    )
      return { statusCode: 4006, statusText: 'Service unavailable : System is busy' };
    let frames: readonly PhoneFrame[] = [];
    if (isRecording) {
      try {
        frames = framesOf(content);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        return { statusCode: 2004, statusText: `Multimedia content refused : ${error.message}` };
      }
    }
    return accept(fields, sender, found, frames);
  }

  function accept(
    { subject, deliveryReport, readReply }: Fields<'SubmitReq'>,
    sender: string,
    found: readonly { readonly phone: string; readonly fate: Fate }[],
    frames: readonly PhoneFrame[],
  ): Verdict {
    counters.accepted += found.length;
    const messageId = nextId('m');
    const at = new Date();
    const common = { messageId, sender, readReply: readReply ?? false };
    const due = new Map<number, { phone: string; stat: string; copies: number }[]>();
    const early: Promise<unknown>[] = [];
    for (const { phone, fate } of found) {
      const { reply, stat } = fate;
      if (isRecording && isShown(fate))
        for (const listener of listeners) listener({ to: phone, from: sender, subject: subject ?? '', frames, at });
      if (reply !== undefined) tasks.add(() => oweReply({ from: phone, to: sender, content: reply }), reportDelayMs);
      journal?.took({ id: messageId, to: phone, from: sender });
      if (!deliveryReport || stat === null) continue;
      const { isEarly, delayMs, ...plan } = faults.plan(fate);
      if (plan.copies === 0) continue;
      const id = `${messageId}/${phone}`;
      journal?.owes(id, { messageId, sender, phone, stat });
      if (isEarly)
        early.push(
          new Promise<void>((resolve) => {
            const body = () => reportOf(messageId, sender, phone, reportOfStat(stat));
            owed.push({ kind: 'reports', contentType: xmlType, body, answered: resolve, id });
            tasks.add(resolve, beforeResponseMs);
          }),
        );
      const copies = plan.copies - (isEarly ? 1 : 0);
      if (copies === 0) continue;
      const group = due.get(delayMs) ?? [];
      if (group.length === 0) due.set(delayMs, group);
      group.push({ phone, stat, copies });
    }
    for (const [delayMs, group] of due) reports.add({ ...common, phones: group }, delayMs);
    if (early.length > 0) postOn();
    return { statusCode: 1000, messageId, ...(early.length > 0 ? { after: Promise.all(early) } : {}) };
  }

  // HTTP

  const nonce = randomBytes(12).toString('hex');
  const challenge: Challenge = { realm, nonce, opaque: null, algorithm: 'MD5', qop: true };

  function isAuthentic(request: IncomingMessage): boolean {
    const { username = '', password = '' } = options;
    const header = request.headers.authorization;
    if (authentication === 'none') return true;
    if (authentication === 'basic') {
      const said = readBasic(header);
      return said?.username === username && said.password === password;
    }
    const said = readDigest(header);
    if (!said || said.get('nonce') !== nonce || said.get('uri') !== request.url) return false;
    const count = Number.parseInt(said.get('nc') ?? '0', 16);
    const about = { username, password, method: 'POST', uri: request.url ?? '', count, cnonce: said.get('cnonce') ?? '' };
    return said.get('username') === username && said.get('response') === digestResponse(challenge, about);
  }

  function serve(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    let octets = 0;
    requests += 1;
    counters.peakRequests = Math.max(counters.peakRequests, requests);
    response.once('close', () => {
      requests -= 1;
    });
    request.on('data', (chunk: Buffer) => {
      octets += chunk.length;
      if (octets > maxContentOctets + (1 << 20)) request.destroy();
      else chunks.push(chunk);
    });
    request.on('error', () => {});
    request.on('end', () => {
      if (request.url !== path) return respond(response, 404, '');
      if (request.method !== 'POST') return respond(response, 405, '');
      if (faults.refusesLogins() || !isAuthentic(request)) {
        counters.unauthorized += 1;
        const digest = `Digest realm="${realm}", nonce="${nonce}", algorithm=MD5, qop="auth"`;
        response.setHeader('www-authenticate', authentication === 'digest' ? digest : `Basic realm="${realm}"`);
        return respond(response, 401, '');
      }
      answer(request, Buffer.concat(chunks), response);
    });
  }

  function answer(request: IncomingMessage, body: Buffer, response: ServerResponse): void {
    let transactionId: string | null = null;
    let verdict: Verdict;
    let isSubmit = false;
    try {
      const { envelope, content } = readRequest(request.headers['content-type'] ?? '', body);
      transactionId = envelope.transactionId;
      isSubmit = envelope.message.name === 'SubmitReq';
      if (envelope.message.name === 'SubmitReq') {
        counters.uploads += 1;
        counters.uploadedOctets += body.length;
        verdict = onSubmit(envelope.message.fields, content);
        if (verdict.statusCode === 4006) counters.throttled += 1;
        else if (verdict.statusCode !== 1000) counters.rejected += 1;
      } else verdict = { statusCode: 4003 };
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      counters.malformed += 1;
      verdict = { statusCode: 4004, statusText: 'Validation error : Decoder failed' };
    }
    const { statusCode, messageId = null } = verdict;
    const fields = { mm7Version, status: { statusCode, statusText: verdict.statusText ?? meaningOf(statusCode), details: null } };
    if (statusCode < 1000) return respond(response, statusCode, '');
    const isFault = (faults.faults.rejectAsFault && statusCode !== 1000) || !isSubmit;
    const said = writeEnvelope({
      transactionId,
      namespace: release,
      message: isFault
        ? { name: 'Fault', faultCode: 'env:Client', faultString: 'Client error', error: { name: 'RSErrorRsp', fields } }
        : { name: 'SubmitRsp', fields: { ...fields, messageId } },
    });
    // What is refused is answered all the same; the faults of answers are about what was taken.
    const how = statusCode === 1000 ? faults.answering() : 0;
    const send = () => {
      if (how === 'drop') request.socket.resetAndDestroy();
      else if (how !== 'never' && how > 0) tasks.add(() => respond(response, isFault ? 500 : 200, said), how);
      else if (how === 0) respond(response, isFault ? 500 : 200, said);
    };
    if (verdict.after) void verdict.after.then(send);
    else send();
  }

  function respond(response: ServerResponse, status: number, body: string): void {
    if (response.destroyed) return;
    const { socket } = response;
    const waiting = socket && hushed.get(socket);
    if (waiting) {
      waiting.push(() => respond(response, status, body));
      return;
    }
    response.writeHead(
      status,
      body === '' ? { 'content-length': 0 } : { 'content-type': xmlType, 'content-length': Buffer.byteLength(body) },
    );
    response.end(body);
  }

  function silence(socket: Socket): void {
    if (hushed.has(socket)) return;
    hushed.set(socket, []);
    socket.pause();
    tasks.add(() => hushed.has(socket) && socket.destroy(), longestSilenceMs);
  }

  function goOn(socket: Socket): void {
    const waiting = hushed.get(socket) ?? [];
    hushed.delete(socket);
    socket.resume();
    for (const task of waiting) task();
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

    /** Where a channel's `url` points. */
    get url() {
      return `http://127.0.0.1:${port}${path}`;
    },

    /** Reports and replies not yet answered with 1000, those not yet due left out. */
    get owed() {
      return owed.size + posting + refused.size;
    },

    set vaspUrl(url: string | null) {
      vaspUrl = url === null ? null : new URL(url);
      void breakPosts();
      postOn();
    },

    start(): Promise<void> {
      isStopped = false;
      ticking = setInterval(tick, tickMs);
      const listening = createServer({ keepAliveTimeout: 60_000 }, serve);
      server = listening;
      listening.on('connection', (socket) => {
        if (faults.refusesConnections()) {
          socket.resetAndDestroy();
          return;
        }
        sockets.add(socket);
        socket.on('close', () => {
          sockets.delete(socket);
          hushed.delete(socket);
        });
        if (faults.isSilent()) silence(socket);
      });
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
      isStopped = true;
      clearInterval(ticking);
      const closing = server;
      server = null;
      const closed = closing && new Promise<void>((resolve) => void closing.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await breakPosts();
      await closed;
    },

    /** Breaks all connections, both ways, and goes on. */
    dropConnections(): void {
      for (const socket of sockets) socket.destroy();
      void breakPosts();
    },

    onMessage(listener: (message: PhoneMms) => void): void {
      listeners.push(listener);
    },

    set recording(wanted: boolean) {
      isRecording = wanted;
    },

    /** A person writes to a service number. False: nobody here owns it, or it is nothing that fits a message. */
    reply(message: PersonalMessage): boolean {
      if (!message.to.startsWith(options.accessNumber) || !isSendable(message)) return false;
      oweReply(message);
      postOn();
      return true;
    },
  };
}

const sha256 = (octets: Buffer): string => createHash('sha256').update(octets).digest('hex');

/** `2026-07-16T09:30:05+08:00` */
const timeOf = (at: Date): string => shanghaiTime(at).replace(/\.\d{3}/, '');

/** The usual answer is recognised without reading all of it. */
function isSuccess(answer: string): boolean {
  if (/<(?:\w+:)?StatusCode>\s*1000\s*</.test(answer)) return true;
  try {
    const { message } = readEnvelope(answer);
    return 'fields' in message && 'status' in message.fields && message.fields.status?.statusCode === 1000;
  } catch {
    return false;
  }
}

/** A page of SMIL as a phone shows it; a second medium of one page gets a page of its own. */
function phoneFrames(frame: ShownFrame): PhoneFrame[] {
  const text = frame.find(({ kind }) => kind === 'text');
  const media = frame.flatMap((item) => {
    if (item.kind !== 'media') return [];
    // A copy: the upload it lies in shall not be kept for it.
    const { contentType, name } = item;
    const bytes = Buffer.from(item.bytes);
    return [{ contentType, name, bytes, sha256: sha256(bytes) }];
  });
  const [first = null, ...more] = media;
  const words = text?.kind === 'text' ? text.text : null;
  const mediaFirst = frame[0]?.kind === 'media';
  return [{ text: words, media: first, mediaFirst }, ...more.map((one) => ({ text: null, media: one, mediaFirst: true }))];
}
