/**
 * A simulated multimedia centre (MMSC): the carrier's side of MM7 over real HTTP, with phones behind it.
 *
 * It checks authentication, SOAP, multipart and SMIL completely; every reference of the SMIL must lead to a part. It posts reports and replies to
 * the VASP's URL over a bounded number of connections that stay open, and repeats them until the VASP answers 1000; without a URL they
 * wait. carrier.ts decides the fate of each message, and keeps the reports and replies that are owed.
 *
 * The MMSC shares the processor with the program under test. It reads a package only while somebody listens to phones, and once however often
 * the package is uploaded.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
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
import { type Account, type Carrier, createCarrier, extend, type Owed, type OwedReport } from './carrier.ts';
import { fateOf, isShown } from './fates.ts';
import { flag, wholeFrom } from './faults.ts';
import type { PersonalMessage, PhoneFrame, PhoneMms, Simulator, SimulatorKind, SimulatorOptions } from './simulator.ts';
import { forgetOldest } from './waiting.ts';

export interface MmscOptions extends Omit<SimulatorOptions, 'accounts' | 'window'> {
  /** Where SubmitReqs are taken. Default `/mm7`. */
  readonly path?: string;
  readonly vaspId: string;
  /** Numbers with this prefix are the VASP's. The VASP may send only from them, and phones may write only to them. */
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
  /** How long an answer of the VASP may take. */
  readonly vaspTimeoutMs?: number;
  readonly maxRecipients?: number;
  readonly maxContentOctets?: number;
  /** `mbuni` exchanges Recipient and Sender and uses one TransactionID for all reports of a submit. */
  readonly reportStyle?: 'standard' | 'mbuni';
}

/** The status of a message in a report. */
interface Words {
  readonly mmStatus: string;
  readonly statusText: string;
}

const retrieved: Words = { mmStatus: 'Retrieved', statusText: 'Retrieved' };

/** What MM7 calls the statuses of fates. */
const reportWords: Readonly<Record<string, Words>> = {
  DELIVRD: retrieved,
  UNDELIV: { mmStatus: 'Unreachable', statusText: 'Unreachable' },
  EXPIRED: { mmStatus: 'Expired', statusText: 'Expired' },
  REJECTD: { mmStatus: 'Recipient Rejected', statusText: 'Rejected' },
};
const wordsOf = (stat: string): Words => reportWords[stat] ?? { mmStatus: 'Indeterminate', statusText: stat };

/** A request that is owed beside reports: a person's message, or the news that a message was read. */
type OwedRequest =
  | { readonly kind: 'reply'; readonly phone: string; readonly contentType: string; readonly body: string }
  | { readonly kind: 'readReply'; readonly messageId: string; readonly from: string; readonly phone: string };
type What = OwedReport | OwedRequest;
/** The MMSC has one account, and keeps no state for it. */
type Vasp = Account<null, What>;
/** Each promise resolves when the response to the submit need not wait any longer. */
type Early = Promise<unknown>[];

/** The counter of each kind of request. */
const countedAs = { report: 'reports', reply: 'inbound', readReply: 'readReplies' } as const;
const release = mm7Namespace('REL-6-MM7-1-4');
const mm7Version = '6.8.0';
const realm = 'mmsc';
const defaultPath = '/mm7';
const tickMs = 10;
/** How long the response waits for the report of a 0010 number before it leaves anyway. */
const beforeResponseMs = 200;
const maxPackages = 16;
/** The code of a rejection, unless a fault names another. */
const rejectedStatus = 2001;
/** The name by which the MMSC logs in to the VASP, if it is made with `simulatorKind`. */
export const callbackUsername = 'mmsc';

export const simulatorKind: SimulatorKind = {
  name: 'mm7',
  faults: {
    rejectCode: {
      says: 'a StatusCode of MM7 from 2000 to 9999, or a status of HTTP from 200 to 599',
      fits: (value) => wholeFrom(200, 599).fits(value) || wholeFrom(2000, 9999).fits(value),
    },
    rejectText: { says: 'up to 200 characters', fits: (value) => typeof value === 'string' && value.length <= 200 },
    rejectAsFault: flag,
  },

  /** Serves one account. It also takes the options that only an MMSC has. */
  create({ accounts, window, ...options }: SimulatorOptions & Partial<MmscOptions>) {
    const [account, ...others] = accounts;
    if (!account || others.length > 0) throw new RangeError('an MMSC has one account');
    const { spId, secret, accessNumbers: [accessNumber] = [], door } = account;
    return createMmsc({
      vaspId: spId,
      accessNumber: accessNumber ?? '',
      username: spId,
      password: secret,
      vaspUrl: door ?? null,
      vaspUsername: callbackUsername,
      vaspPassword: secret,
      ...(window !== undefined && { vaspConnections: window }),
      ...options,
    });
  },

  address: (port) => ({ url: `http://127.0.0.1:${port}${defaultPath}` }),
  login: ({ spId, accessNumbers: [accessNumber] = [] }) => ({
    vaspId: spId,
    vasId: accessNumber ?? '',
    username: spId,
    callbackUsername,
  }),
  callAt(mmsc: Simulator & { vaspUrl?: string | null }, door) {
    mmsc.vaspUrl = door;
  },
};

export type Mmsc = ReturnType<typeof createMmsc>;

export function createMmsc(options: MmscOptions) {
  const path = options.path ?? defaultPath;
  const authentication = options.authentication ?? (options.username === undefined ? 'none' : 'basic');
  const vaspTimeoutMs = options.vaspTimeoutMs ?? 30_000;
  const vaspConnections = options.vaspConnections ?? 64;
  const maxRecipients = options.maxRecipients ?? 1000;
  const maxContentOctets = options.maxContentOctets ?? 8 << 20;
  const isMbuni = options.reportStyle === 'mbuni';

  const ownCounters = {
    /** SubmitReqs, and the octets of their bodies. `accepted` counts recipients, `rejected` and `throttled` requests. */
    uploads: 0,
    uploadedOctets: 0,
    unauthorized: 0,
    malformed: 0,
    readReplies: 0,
    /** Most recipients of one request, and most requests at once. */
    peakRecipients: 0,
    peakRequests: 0,
  };
  let requests = 0;

  const session = randomBytes(3).toString('hex');
  let sequence = 0;
  const nextId = (prefix: string): string => `${prefix}${session}${(sequence += 1).toString().padStart(9, '0')}`;

  const { vaspId, accessNumber, password = '' } = options;
  const accounts = [{ spId: vaspId, secret: password, accessNumbers: [accessNumber] }];
  const carrier: Carrier<null, OwedRequest, Early, PhoneMms, typeof ownCounters> = createCarrier({ ...options, accounts }, ownCounters, {
    tickMs,
    openAccount: () => null,
    nextId: () => nextId('o'),
    onTick() {},
    createServer: () => createServer({ keepAliveTimeout: 60_000 }, serve),
    attach,
    send: postOn,
    unanswered: () => posting,
    sendEarly(owed, early) {
      early.push(
        new Promise<void>((resolve) => {
          awaited.set(owed, resolve);
          owed.account.owed.push(owed);
          carrier.later(resolve, beforeResponseMs);
        }),
      );
    },
    oweReply,
    dropCalls: breakPosts,
  });
  const { counters } = carrier;
  const vasp: Vasp = carrier.accounts.get(vaspId)!;

  // To the VASP

  let vaspUrl: URL | null = options.vaspUrl ? new URL(options.vaspUrl) : null;
  let pool: Pool | null = null;
  let posting = 0;
  /** Reports that the response to their submit waits for. */
  const awaited = new Map<Owed<null, What>, () => void>();

  const numberOf = (phone: string): readonly Address[] => [{ kind: 'Number', value: `+${digitsOf(phone)}` }];

  function reportOf({ messageId, from, phone, stat }: OwedReport): string {
    const service: readonly Address[] = [{ kind: isMbuni ? 'Number' : 'ShortCode', value: from }];
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
          ...wordsOf(stat),
        },
      },
    });
  }

  function readReplyOf({ messageId, from, phone }: OwedRequest & { kind: 'readReply' }): string {
    const fields = {
      mm7Version,
      messageId,
      recipient: numberOf(phone),
      sender: [{ kind: 'ShortCode', value: from }],
      timeStamp: timeOf(new Date()),
      mmStatus: 'Read',
    } as const;
    return writeEnvelope({ transactionId: nextId('t'), namespace: release, message: { name: 'ReadReplyReq', fields } });
  }

  function oweReply(account: Vasp, { from, to, content }: PersonalMessage): void {
    const contentId = nextId('mo-');
    const fields: Partial<Fields<'DeliverReq'>> = {
      mm7Version,
      mmsRelayServerId: 'mmsc.simulated',
      vaspId,
      vasId: accessNumber,
      sender: numberOf(from),
      recipients: { to: [{ kind: 'ShortCode', value: to }], cc: null, bcc: null },
      timeStamp: timeOf(new Date()),
      priority: 'Normal',
      content: { href: `cid:${contentId}`, allowAdaptations: false },
    };
    const envelope = writeEnvelope({ transactionId: nextId('t'), namespace: release, message: { name: 'DeliverReq', fields } });
    const part = { headers: ['Content-Type: text/plain; charset=utf-8', `Content-ID: <${contentId}>`], body: content };
    const { contentType, chunks } = writeRequest(envelope, part, { rootId: 'mm7-deliver', boundary: contentId });
    carrier.owe(account, { kind: 'reply', phone: from, contentType, body: Buffer.concat(chunks).toString('base64') });
  }

  /** Posts the reports and replies that are owed, as far as connections allow. */
  function postOn(): void {
    if (!carrier.isRunning || !vaspUrl || carrier.faults.isSilent()) return;
    pool ??= new Pool(vaspUrl.origin, {
      connections: vaspConnections,
      pipelining: 1,
      headersTimeout: vaspTimeoutMs,
      bodyTimeout: vaspTimeoutMs,
      keepAliveTimeout: 30_000,
    });
    while (posting < vaspConnections) {
      const next = vasp.owed.shift();
      if (!next) break;
      post(pool, vaspUrl, next);
    }
  }

  /** Ends every post under way. They fail at once and others begin; the new ones must not get a pool that is being destroyed. */
  async function breakPosts(): Promise<void> {
    const breaking = pool;
    pool = null;
    await breaking?.destroy();
  }

  const authorization =
    options.vaspUsername === undefined ? {} : { authorization: basicAuthorization(options.vaspUsername, options.vaspPassword ?? '') };

  /** Uses undici below its `request`, which makes a stream of every answer: this runs thousands of times a second. */
  function post(through: Pool, url: URL, owed: Owed<null, What>): void {
    const { what } = owed;
    posting += 1;
    counters[countedAs[what.kind]] += 1;
    let answer = '';
    const end = (isTaken: boolean) => {
      posting -= 1;
      if (isTaken) carrier.acknowledged(owed);
      else carrier.refused(owed);
      if (awaited.size > 0) {
        awaited.get(owed)?.();
        awaited.delete(owed);
      }
      postOn();
    };
    through.dispatch(
      {
        path: url.pathname + url.search,
        method: 'POST',
        headers: { 'content-type': what.kind === 'reply' ? what.contentType : xmlType, soapaction: '""', ...authorization },
        body: what.kind === 'report' ? reportOf(what) : what.kind === 'readReply' ? readReplyOf(what) : Buffer.from(what.body, 'base64'),
      },
      {
        // undici recognises a handler of the current kind by this method.
        onRequestStart() {},
        onResponseStart() {},
        onResponseData(_, chunk) {
          answer += chunk.toString('latin1');
        },
        onResponseEnd: () => end(isSuccess(answer)),
        // Later: a client that cannot connect fails all its requests at once, and asserts that no new one is added while it does so.
        onResponseError: () => queueMicrotask(() => end(false)),
      },
    );
  }

  // To the phones

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
    /** Below 1000 it is an HTTP status. */
    readonly statusCode: number;
    readonly statusText?: string | null;
    readonly messageId?: string;
    /** Resolves when the response may leave. */
    readonly after?: Promise<unknown>;
  }

  function onSubmit(fields: Fields<'SubmitReq'>, content: Part | null): Verdict {
    const { vaspId: said, senderAddress } = fields.senderIdentification ?? {};
    if (said !== vaspId) return { statusCode: 4001 };
    const phones = [...(fields.recipients?.to ?? []), ...(fields.recipients?.cc ?? []), ...(fields.recipients?.bcc ?? [])].map(
      ({ value }) => digitsOf(value),
    );
    if (phones.length === 0) return { statusCode: 4004, statusText: "Validation error : Field ' Recipients ' must be filled" };
    counters.peakRecipients = Math.max(counters.peakRecipients, phones.length);
    if (phones.length > maxRecipients) return { statusCode: 3501 };
    const sender = senderAddress?.[0]?.value ?? accessNumber;
    if (!sender.startsWith(accessNumber)) return { statusCode: 2002, statusText: 'Address error : Sender Barred' };
    if (!content) return { statusCode: 4004, statusText: "Validation error : Field ' Content ' must be filled" };
    if (content.body.length > maxContentOctets)
      return { statusCode: 2004, statusText: 'Multimedia content refused : Message is too large' };
    if (phones.some((phone) => !/^\d{5,20}$/.test(phone))) return { statusCode: 2002 };
    const refusal = carrier.refusal(phones, fields.subject ?? '');
    if (refusal === 'rejected') {
      const { rejectCode = rejectedStatus, rejectText = null } = carrier.faults.faults;
      return { statusCode: rejectCode, statusText: rejectText };
    }
    if (refusal === 'unwanted') return { statusCode: 2002 };
    if (refusal === 'throttled') return { statusCode: 4006, statusText: 'Service unavailable : System is busy' };
    let frames: readonly PhoneFrame[] = [];
    if (carrier.isRecording) {
      try {
        frames = framesOf(content);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        return { statusCode: 2004, statusText: `Multimedia content refused : ${error.message}` };
      }
    }
    return accept(fields, sender, phones, frames);
  }

  function accept(
    { subject, deliveryReport, readReply }: Fields<'SubmitReq'>,
    sender: string,
    phones: readonly string[],
    frames: readonly PhoneFrame[],
  ): Verdict {
    counters.accepted += phones.length;
    const messageId = nextId('m');
    const at = new Date();
    const submit = { from: sender, wantsReport: deliveryReport ?? false, isLast: true };
    const early: Early = [];
    for (const phone of phones) {
      const fate = fateOf(phone);
      if (carrier.isRecording && isShown(fate)) carrier.show({ to: phone, from: sender, subject: subject ?? '', frames, at });
      const reportedMs = carrier.take(vasp, submit, messageId, phone, fate, early);
      if (readReply && reportedMs !== null && fate.stat === 'DELIVRD')
        carrier.owe(vasp, { kind: 'readReply', messageId, from: sender, phone }, reportedMs);
    }
    if (early.length > 0) postOn();
    return { statusCode: 1000, messageId, ...(early.length > 0 ? { after: Promise.all(early) } : {}) };
  }

  // HTTP

  const nonce = randomBytes(12).toString('hex');
  const challenge: Challenge = { realm, nonce, opaque: null, algorithm: 'MD5', qop: true };

  function isAuthentic(request: IncomingMessage): boolean {
    const { username = '' } = options;
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
      if (carrier.faults.refusesLogins() || !isAuthentic(request)) {
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
    const isFault = (carrier.faults.faults.rejectAsFault && statusCode !== 1000) || !isSubmit;
    const said = writeEnvelope({
      transactionId,
      namespace: release,
      message: isFault
        ? { name: 'Fault', faultCode: 'env:Client', faultString: 'Client error', error: { name: 'RSErrorRsp', fields } }
        : { name: 'SubmitRsp', fields: { ...fields, messageId } },
    });
    const send = () =>
      carrier.answer(
        statusCode === 1000,
        () => respond(response, isFault ? 500 : 200, said),
        () => request.socket.resetAndDestroy(),
      );
    if (verdict.after) void verdict.after.then(send);
    else send();
  }

  function respond(response: ServerResponse, status: number, body: string): void {
    if (response.destroyed) return;
    const waiting = response.socket && silent.get(response.socket);
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

  /** Responses that wait until their silent socket goes on. */
  const silent = new WeakMap<Socket, (() => void)[]>();

  function attach(socket: Socket) {
    return {
      drop: () => void socket.destroy(),
      hush() {
        silent.set(socket, []);
        socket.pause();
      },
      goOn() {
        const waiting = silent.get(socket) ?? [];
        silent.delete(socket);
        socket.resume();
        for (const task of waiting) task();
      },
    };
  }

  return extend(carrier.simulator, {
    /** Where a channel's `url` points. */
    get url(): string {
      return `http://127.0.0.1:${carrier.simulator.port}${path}`;
    },

    set vaspUrl(url: string | null) {
      vaspUrl = url === null ? null : new URL(url);
      void breakPosts();
      postOn();
    },
  });
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
    // A copy, so that the whole upload is not kept in memory for it.
    const { contentType, name } = item;
    const bytes = Buffer.from(item.bytes);
    return [{ contentType, name, bytes, sha256: sha256(bytes) }];
  });
  const [first = null, ...more] = media;
  const words = text?.kind === 'text' ? text.text : null;
  const mediaFirst = frame[0]?.kind === 'media';
  return [{ text: words, media: first, mediaFirst }, ...more.map((one) => ({ text: null, media: one, mediaFirst: true }))];
}
