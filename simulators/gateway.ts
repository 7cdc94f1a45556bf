/**
 * A simulated gateway for protocols of length-prefixed frames over TCP, in which the platform logs in, submits, and receives reports and
 * replies. It owns sockets, logins, windows, keep-alive and sequence numbers, and joins texts from their segments. A protocol
 * (`GatewayProtocol`) translates between octets and their meaning; all decisions are made here and in carrier.ts.
 *
 * The gateway shares the processor with the program under test, so it works in batches: no timer per message, one write per turn of the event
 * loop, and no text is decoded unless somebody listens.
 */
import { createServer, type Socket } from 'node:net';
import { concatHeader, cutText, type Encoding, joinParts, splitHeader } from '../src/protocols/text.ts';
import { createFrameReader, type FrameBounds } from '../src/protocols/wire/framing.ts';
import { type Account as AccountOf, type Carrier, createCarrier, extend, type Owed as OwedOf, type OwedReport } from './carrier.ts';
import { fateOf, isShown } from './fates.ts';
import type { PersonalMessage, PhoneText, SimulatorAccount, SimulatorOptions } from './simulator.ts';
import { forgetOldest } from './waiting.ts';

export interface GatewayOptions extends SimulatorOptions {
  /** How long a report or reply may stay unanswered before it is sent again. Default one minute. */
  readonly deliverTimeoutMs?: number;
  readonly keepAliveMs?: number;
  readonly keepAliveTries?: number;
}

/** The translation of one protocol. `Version`: the variant of the protocol that both sides speak after the login. */
export interface GatewayProtocol<Version, Submit extends GatewaySubmit> {
  readonly frames: FrameBounds;
  /** Sequence numbers of the gateway's requests go from 1 to this, and begin again. */
  readonly lastSequence: number;
  /** The results of submits that are refused by a fault or a fate. */
  readonly throttled: number;
  readonly rejected: number;
  /** Reads the first frame. Null if it is not a login; the gateway then closes the connection. */
  readLogin(buffer: Buffer, start: number, end: number): GatewayLogin<Version> | null;
  /** Reads a frame of a connection that is logged in. Null if it needs no reaction. */
  read(version: Version, buffer: Buffer, start: number, end: number): Heard<Submit> | null;
  /** The result of a submit by the rules of the protocol; 0 if it breaks none. */
  judge(submit: Submit, account: SimulatorAccount): number;
  /** `id` is null if the submit is refused. */
  submitResp(version: Version, submit: Submit, id: string | null, result: number): Buffer;
  /** `id` is the id of this delivery, `now` the time in the format of `OwedReport.takenAt`. */
  report(version: Version, sequence: number, id: string, report: OwedReport, now: string): Buffer;
  reply(version: Version, sequence: number, id: string, part: OwedPart): Buffer;
  /** Asks whether the other side is still there. */
  probe(version: Version, sequence: number): Buffer;
  /** Ids may contain the time. This is called once a tick. */
  readClock(now: Date): void;
  nextId(): string;
}

export interface GatewayLogin<Version> {
  readonly spId: string;
  /** The variant that both sides speak from now on. */
  readonly version: Version;
  /** The login asks for a version that this gateway does not speak. */
  readonly isTooNew: boolean;
  proves(secret: string): boolean;
  /** The response. `refusal` is null if the login is accepted. */
  answer(refusal: LoginRefusal | null, secret: string): Buffer;
}

export type LoginRefusal = 'version' | 'stranger' | 'secret' | 'other';

/** The meaning of a frame. */
export type Heard<Submit extends GatewaySubmit> =
  | Submit
  | { readonly kind: 'answered'; readonly sequence: number; readonly isSafe: boolean }
  /** A request that needs nothing but this answer. */
  | { readonly kind: 'asked'; readonly answer: Buffer }
  | { readonly kind: 'leaving'; readonly answer: Buffer };

export interface GatewaySubmit {
  readonly kind: 'submit';
  readonly from: string;
  readonly to: readonly string[];
  readonly encoding: Encoding;
  /** The content begins with a user data header. */
  readonly hasHeader: boolean;
  readonly content: Buffer;
  readonly wantsReport: boolean;
  /** This is the last or only part of the message. */
  readonly isLast: boolean;
}

/** A segment of a person's message. */
export interface OwedPart {
  readonly kind: 'reply';
  readonly phone: string;
  /** The service number. */
  readonly to: string;
  readonly encoding: Encoding;
  readonly hasHeader: boolean;
  /** Base64. */
  readonly content: string;
}

/** `connection`: the number of the login, from 1, by which the text or its last segment came. */
export interface PhoneMessage extends PhoneText {
  readonly connection: number;
}

interface State<Version> {
  readonly sessions: Session<Version>[];
  /** Index of the session that sends next. */
  turn: number;
}
type Account<Version> = AccountOf<State<Version>, OwedReport | OwedPart>;
type Owed<Version> = OwedOf<State<Version>, OwedReport | OwedPart>;

/** A connection that is logged in. */
interface Session<Version> {
  readonly account: Account<Version>;
  /** The number of its login, from 1. */
  readonly number: number;
  readonly version: Version;
  write(pdu: Buffer): void;
  /** Breaks the connection. PDUs that are not written yet are lost. */
  drop(): void;
  nextSequence(): number;
  readonly unanswered: Map<number, Owed<Version>>;
  /** Submits not yet answered. */
  submits: number;
}

const tickMs = 5;
const loginTimeoutMs = 10_000;

export function createGateway<Version, Submit extends GatewaySubmit>(options: GatewayOptions, protocol: GatewayProtocol<Version, Submit>) {
  const window = options.window ?? 16;
  const deliverTimeoutMs = options.deliverTimeoutMs ?? 60_000;
  const keepAliveMs = options.keepAliveMs ?? 180_000;
  const keepAliveTries = options.keepAliveTries ?? 3;

  const ownCounters = {
    logins: 0,
    refusedLogins: 0,
    submits: 0,
    /** The highest number of unanswered submits of one connection. */
    peakWindow: 0,
  };
  const carrier: Carrier<State<Version>, OwedPart, Session<Version>, PhoneMessage, typeof ownCounters> = createCarrier(
    options,
    ownCounters,
    {
      tickMs,
      openAccount: () => ({ sessions: [], turn: 0 }),
      nextId: () => protocol.nextId(),
      onTick(now) {
        protocol.readClock(now);
        tickedAt = performance.now();
        for (const { state } of carrier.accounts.values()) for (const session of state.sessions) forgetLate(session);
      },
      createServer: () => createServer(),
      attach,
      send,
      unanswered: ({ state }) => state.sessions.reduce((count, { unanswered }) => count + unanswered.size, 0),
      sendEarly: (owed, session) => deliver(session, owed),
      oweReply,
    },
  );
  const { counters } = carrier;
  /** Taken once a tick, because reading the clock for every report is expensive. */
  let tickedAt = 0;

  // To the platform

  /** Sends again what stays unanswered too long. */
  function forgetLate({ account, unanswered }: Session<Version>): void {
    for (const [sequence, owed] of unanswered) {
      if (tickedAt - owed.sentAt < deliverTimeoutMs) break;
      unanswered.delete(sequence);
      account.owed.push(owed);
    }
  }

  /** Sends what the windows of the account's connections allow, over one connection after the other. */
  function send({ state, owed }: Account<Version>): void {
    const { sessions } = state;
    let full = 0;
    while (owed.size > 0 && full < sessions.length) {
      const session = sessions[state.turn % sessions.length]!;
      state.turn += 1;
      if (session.unanswered.size >= window) full += 1;
      else {
        full = 0;
        deliver(session, owed.shift()!);
      }
    }
  }

  function deliver(session: Session<Version>, owed: Owed<Version>): void {
    const { id, what } = owed;
    const sequence = session.nextSequence();
    owed.sentAt = tickedAt;
    session.unanswered.set(sequence, owed);
    if (what.kind === 'report') {
      counters.reports += 1;
      session.write(protocol.report(session.version, sequence, id, what, carrier.time()));
    } else {
      counters.inbound += 1;
      session.write(protocol.reply(session.version, sequence, id, what));
    }
  }

  function onAnswered({ unanswered }: Session<Version>, sequence: number, isSafe: boolean): void {
    const owed = unanswered.get(sequence);
    if (!owed) return;
    unanswered.delete(sequence);
    if (isSafe) carrier.acknowledged(owed);
    else carrier.refused(owed);
  }

  let reference = Math.floor(Math.random() * 0x100);

  function oweReply(account: Account<Version>, { from, to, content }: PersonalMessage): void {
    const { encoding, parts } = cutText(content, 8);
    reference = (reference + 1) & 0xff;
    for (const [index, part] of parts.entries()) {
      const header = parts.length > 1 ? concatHeader(8, { reference, total: parts.length, number: index + 1 }) : null;
      const octets = header ? Buffer.concat([header, part]) : part;
      carrier.owe(account, {
        kind: 'reply',
        phone: from,
        to,
        encoding,
        hasHeader: header !== null,
        content: octets.toString('base64'),
      });
    }
  }

  // To the phones

  const incomplete = new Map<string, ({ encoding: Encoding; octets: Buffer } | undefined)[]>();

  function show({ from, encoding, hasHeader, content }: Submit, to: string, { number }: Session<Version>): void {
    const { concat, body } = hasHeader ? splitHeader(content) : { concat: null, body: content };
    let text: string;
    if (concat) {
      const key = `${from} ${to} ${concat.reference} ${concat.total}`;
      const parts = incomplete.get(key) ?? Array.from({ length: concat.total }, () => undefined);
      parts[concat.number - 1] = { encoding, octets: Buffer.from(body) };
      incomplete.set(key, parts);
      forgetOldest(incomplete);
      const present = parts.filter((part) => part !== undefined);
      if (present.length < parts.length) return;
      incomplete.delete(key);
      text = joinParts(present);
    } else text = joinParts([{ octets: body, encoding }]);
    carrier.show({ to, from, text, at: new Date(), connection: number });
  }

  // From the platform

  function onSubmit(session: Session<Version>, submit: Submit): void {
    counters.submits += 1;
    session.submits += 1;
    if (session.submits > counters.peakWindow) counters.peakWindow = session.submits;
    const result = judge(session.account, submit);
    const id = result === 0 ? protocol.nextId() : null;
    if (id !== null) {
      counters.accepted += 1;
      accept(session, submit, id);
    } else if (result === protocol.throttled) counters.throttled += 1;
    else counters.rejected += 1;
    const respond = () => {
      session.submits -= 1;
      session.write(protocol.submitResp(session.version, submit, id, result));
    };
    carrier.answer(id !== null, respond, session.drop);
  }

  function judge(account: Account<Version>, submit: Submit): number {
    const objection = protocol.judge(submit, account);
    if (objection !== 0) return objection;
    const refusal = carrier.refusal(submit.to, submit.content);
    if (refusal === null) return 0;
    if (refusal === 'throttled') return protocol.throttled;
    return (refusal === 'rejected' ? carrier.faults.faults.rejectCode : undefined) ?? protocol.rejected;
  }

  function accept(session: Session<Version>, submit: Submit, firstId: string): void {
    const part = carrier.isJournalling && submit.hasHeader ? splitHeader(submit.content).concat : null;
    let id: string | null = firstId;
    for (const to of submit.to) {
      // Ids of further recipients follow the first.
      id ??= protocol.nextId();
      const fate = fateOf(to);
      if (carrier.isRecording && isShown(fate)) show(submit, to, session);
      carrier.take(session.account, submit, id, to, fate, session, part);
      id = null;
    }
  }

  // Connections

  function attach(socket: Socket) {
    socket.setNoDelay(true);
    let isSilent = false;
    let isDropped = false;
    let session: Session<Version> | null = null;
    let sequence = 0;
    let heardAt = performance.now();
    let probes = 0;
    let out: Buffer[] = [];

    const flush = () => {
      if (isSilent) return;
      const pdus = out;
      out = [];
      if (socket.writable && pdus.length > 0) socket.write(pdus.length === 1 ? pdus[0]! : Buffer.concat(pdus));
    };
    const write = (pdu: Buffer) => {
      if (out.length === 0) setImmediate(flush);
      out.push(pdu);
    };
    const drop = () => {
      isDropped = true;
      out = [];
      socket.destroy();
    };
    const nextSequence = () => {
      sequence = sequence === protocol.lastSequence ? 1 : sequence + 1;
      return sequence;
    };

    // A silent connection is closed before the login. After the login it is probed first.
    const watch = setInterval(() => {
      if (isSilent || performance.now() - heardAt < (session ? keepAliveMs : loginTimeoutMs)) return;
      if (!session || probes >= keepAliveTries) {
        socket.destroy();
        return;
      }
      probes += 1;
      write(protocol.probe(session.version, nextSequence()));
    }, Math.min(keepAliveMs, loginTimeoutMs) / 2);

    const onLogin = ({ spId, version, isTooNew, proves, answer }: GatewayLogin<Version>) => {
      const account = carrier.accounts.get(spId);
      const refusal = refusalOf(account, isTooNew, proves);
      write(answer(refusal, account?.secret ?? ''));
      if (!account || refusal !== null) {
        counters.refusedLogins += 1;
        flush();
        socket.end();
        return;
      }
      counters.logins += 1;
      session = { account, number: counters.logins, version, write, drop, nextSequence, unanswered: new Map(), submits: 0 };
      account.state.sessions.push(session);
    };

    /** Logs out. Deliveries that this connection has not answered go to another one. */
    const detach = () => {
      if (!session) return;
      const { account, unanswered } = session;
      const index = account.state.sessions.indexOf(session);
      if (index < 0) return;
      account.state.sessions.splice(index, 1);
      for (const owed of unanswered.values()) account.owed.push(owed);
      unanswered.clear();
    };

    const read = createFrameReader(protocol.frames, (buffer, start, end) => {
      // Frames behind the submit at which a fault broke the connection count as not read.
      if (isDropped) return;
      if (!session) {
        const login = protocol.readLogin(buffer, start, end);
        if (!login) socket.destroy();
        else if (!socket.writableEnded) onLogin(login);
        return;
      }
      const heard = protocol.read(session.version, buffer, start, end);
      if (!heard) return;
      if (heard.kind === 'submit') onSubmit(session, heard);
      else if (heard.kind === 'answered') onAnswered(session, heard.sequence, heard.isSafe);
      else {
        write(heard.answer);
        if (heard.kind === 'asked') return;
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
      if (session) send(session.account);
    });
    socket.on('close', () => {
      clearInterval(watch);
      detach();
    });

    return {
      drop,
      /** The session leaves its account until `goOn`. */
      hush() {
        isSilent = true;
        socket.pause();
        detach();
      },
      goOn() {
        isSilent = false;
        heardAt = performance.now();
        if (session && !socket.destroyed) session.account.state.sessions.push(session);
        flush();
        socket.resume();
      },
    };
  }

  function refusalOf(account: Account<Version> | undefined, isTooNew: boolean, proves: (secret: string) => boolean): LoginRefusal | null {
    if (isTooNew) return 'version';
    if (carrier.faults.refusesLogins()) return 'other';
    if (!account) return 'stranger';
    if (!proves(account.secret)) return 'secret';
    return account.state.sessions.length >= (account.maxConnections ?? 8) ? 'other' : null;
  }

  return extend(carrier.simulator, {
    /** Connections logged in. */
    get sessions(): number {
      let sum = 0;
      for (const { state } of carrier.accounts.values()) sum += state.sessions.length;
      return sum;
    },
  });
}
