/**
 * The part of a simulated carrier that is the same for every protocol: accounts, the fate of each message, faults, silent connections, phones,
 * and the reports and replies that are owed to the platform. They are owed to an account, not to a connection: each waits in memory (and in
 * the journal, if there is one) until the platform has acknowledged it, and is sent again after the platform has refused it.
 *
 * The wire belongs to the owner, which hands over hooks: gateway.ts for protocols of frames over TCP, mm7.ts for HTTP.
 */
import type { Server, Socket } from 'node:net';
import type { Concat } from '../src/protocols/text.ts';
import { wallClock } from '../src/std/shanghai.ts';
import { type Fate, fateOf } from './fates.ts';
import { createFaultSwitch } from './faults.ts';
import type { PersonalMessage, Simulator, SimulatorAccount, SimulatorOptions } from './simulator.ts';
import { createFirstTimes, createLine, createTimers, type Line } from './waiting.ts';

/** `State`: what the owner keeps for an account. */
export interface Account<State, What> extends SimulatorAccount {
  readonly state: State;
  /** Reports and replies that are due; they leave as soon as there is room. */
  readonly owed: Line<Owed<State, What>>;
}

/** A report or reply that is owed to an account. It keeps its id over all tries. `What` goes into the journal, so it is plain JSON. */
export interface Owed<State, What> {
  readonly account: Account<State, What>;
  readonly id: string;
  readonly what: What;
  /** On the clock of `performance`. */
  sentAt: number;
}

export interface OwedReport {
  readonly kind: 'report';
  /** The id in the answer to the submit. */
  readonly messageId: string;
  /** The service number. */
  readonly from: string;
  readonly phone: string;
  readonly stat: string;
  /** `YYMMDDHHMM`, as `time()`. */
  readonly takenAt: string;
}

/** The part of an accepted submit that is the same for all its recipients. */
export interface TakenSubmit {
  readonly from: string;
  readonly wantsReport: boolean;
  /** This is the last or only part of the message. */
  readonly isLast: boolean;
}

/** A connection that the platform has made, logged in or not. */
export interface CarrierConnection {
  drop(): void;
  /** Writes and reads nothing until `goOn`. */
  hush(): void;
  goOn(): void;
}

export interface CarrierCounters {
  /** Submits, as the protocol counts them. */
  accepted: number;
  rejected: number;
  throttled: number;
  /** Sent to the platform, retries included. */
  reports: number;
  inbound: number;
  /** Answers of the platform to reports and replies. */
  acknowledged: number;
  refused: number;
}

/** `Own`: what the protocol may owe beside reports. `Via`: what it needs to send a report before the answer to the submit. */
export interface CarrierHooks<State, Own, Via> {
  readonly tickMs: number;
  openAccount(): State;
  /** A new id for a report or reply. Another process never gives the same. */
  nextId(): string;
  /** Called first in every tick. */
  onTick(now: Date): void;
  createServer(): Server;
  attach(socket: Socket): CarrierConnection;
  /** Sends what is due, as far as there is room. */
  send(account: Account<State, OwedReport | Own>): void;
  /** How many reports and replies of an account are sent and not answered. */
  unanswered(account: Account<State, OwedReport | Own>): number;
  sendEarly(owed: Owed<State, OwedReport | Own>, via: Via): void;
  /** Turns a person's message into replies that are owed (`Carrier.owe`). */
  oweReply(account: Account<State, OwedReport | Own>, message: PersonalMessage): void;
  /** Ends the connections that the carrier has made to the platform. */
  dropCalls?(): Promise<void>;
}

export interface Carrier<State, Own, Via, Message, Counters> {
  readonly counters: Counters & CarrierCounters;
  readonly accounts: ReadonlyMap<string, Account<State, OwedReport | Own>>;
  readonly faults: ReturnType<typeof createFaultSwitch>;
  readonly isRunning: boolean;
  readonly isRecording: boolean;
  readonly isJournalling: boolean;
  /** The present minute, `YYMMDDHHMM` in China Standard Time, as of the last tick. */
  time(): string;
  /** Runs a task later, as exactly as the ticks allow. */
  later(task: () => void, delayMs: number): void;
  show(message: Message): void;
  /**
   * Whether a submit is refused, by a fault or because of the fate of a recipient (`unwanted`). `content` tells the submit from others to the
   * same recipients.
   */
  refusal(recipients: readonly string[], content: string | Buffer): 'throttled' | 'rejected' | 'unwanted' | null;
  /**
   * Accepts a message to one phone: writes it into the journal, and owes its report and the person's reply. `part`: which part of a longer
   * message this is. Returns the delay of the report in milliseconds, null if no report comes.
   */
  take(
    account: Account<State, OwedReport | Own>,
    submit: TakenSubmit,
    id: string,
    to: string,
    fate: Fate,
    via: Via,
    part?: Concat | null,
  ): number | null;
  /** Answers a submit, unless a fault prevents it. Those faults concern accepted submits only; a refused one is always answered. */
  answer(isTaken: boolean, respond: () => void, drop: () => void): void;
  /** Owes a reply until it is acknowledged; with a journal, also after the death of this process. */
  owe(account: Account<State, OwedReport | Own>, what: Own, delayMs?: number): void;
  acknowledged(owed: Owed<State, OwedReport | Own>): void;
  /** The report or reply is sent again after a pause. */
  refused(owed: Owed<State, OwedReport | Own>): void;
  readonly simulator: Simulator<Message, Counters & CarrierCounters>;
}

/** A connection that a fault has made silent is closed after this time. */
const longestSilenceMs = 600_000;

const phoneNumber = /^\+?\d{1,20}$/;
const maxReplyLength = 5000;

const isSendable = ({ from, to, content }: PersonalMessage): boolean =>
  phoneNumber.test(from) && phoneNumber.test(to) && content.length <= maxReplyLength;

/** Whether an account may send from a number. */
export function isOwn({ accessNumbers }: SimulatorAccount, number: string): boolean {
  if (!accessNumbers) return true;
  for (const prefix of accessNumbers) if (number.startsWith(prefix)) return true;
  return false;
}

/** The account whose number it is, the longest match first. */
function ownerOf<A extends SimulatorAccount>(accounts: Iterable<A>, number: string): A | undefined {
  let owner: A | undefined;
  let longest = -1;
  for (const account of accounts)
    for (const prefix of account.accessNumbers ?? [])
      if (number.startsWith(prefix) && prefix.length > longest) {
        owner = account;
        longest = prefix.length;
      }
  return owner;
}

export function createCarrier<State, Own, Via, Message, Counters>(
  options: SimulatorOptions,
  ownCounters: Counters,
  hooks: CarrierHooks<State, Own, Via>,
): Carrier<State, Own, Via, Message, Counters> {
  type What = OwedReport | Own;
  const { journal } = options;
  const { tickMs } = hooks;
  const reportDelayMs = options.reportDelayMs ?? 1000;
  const redeliverMs = options.redeliverMs ?? 1000;

  const counters: Counters & CarrierCounters = {
    accepted: 0,
    rejected: 0,
    throttled: 0,
    reports: 0,
    inbound: 0,
    acknowledged: 0,
    refused: 0,
    ...ownCounters,
  };
  const accounts = new Map<string, Account<State, What>>();
  for (const account of options.accounts) accounts.set(account.spId, { ...account, state: hooks.openAccount(), owed: createLine() });

  const listeners: ((message: Message) => void)[] = [];
  let isRecording = options.recording ?? true;
  const isFirst = createFirstTimes();

  const connections = new Set<CarrierConnection>();
  /** Connections that a fault has made silent, with the time. */
  const hushed = new Map<CarrierConnection, number>();
  let server: Server | null = null;
  let ticking: NodeJS.Timeout | undefined;
  let port = options.port ?? 0;
  let minute = '';

  const due = createTimers<Owed<State, What>>(tickMs, (owed) => owed.account.owed.push(owed));
  const again = createTimers<Owed<State, What>>(tickMs, (owed) => owed.account.owed.push(owed));
  const tasks = createTimers<() => void>(tickMs, (task) => task());

  const faults = createFaultSwitch({
    reportDelayMs,
    slowReportDelayMs: options.slowReportDelayMs ?? 30_000,
    onChange(hush) {
      for (const connection of connections) {
        if (hush || faults.isSilent()) silence(connection);
        else if (hushed.delete(connection)) connection.goOn();
      }
      for (const account of accounts.values()) hooks.send(account);
    },
  });

  function silence(connection: CarrierConnection): void {
    if (hushed.has(connection)) return;
    const at = performance.now();
    hushed.set(connection, at);
    connection.hush();
    tasks.add(() => hushed.get(connection) === at && connection.drop(), longestSilenceMs);
  }

  function tick(): void {
    const now = new Date();
    // YYYY-MM-DD HH:mm:ss
    const words = wallClock(now);
    minute = words.slice(2, 4) + words.slice(5, 7) + words.slice(8, 10) + words.slice(11, 13) + words.slice(14, 16);
    hooks.onTick(now);
    due.fire();
    again.fire();
    tasks.fire();
    for (const account of accounts.values()) hooks.send(account);
  }

  function connect(socket: Socket): void {
    socket.on('error', () => {
      // 'close' follows and does what there is to do.
    });
    if (faults.refusesConnections()) {
      socket.resetAndDestroy();
      return;
    }
    const connection = hooks.attach(socket);
    connections.add(connection);
    socket.on('close', () => {
      connections.delete(connection);
      hushed.delete(connection);
    });
    if (faults.isSilent()) silence(connection);
  }

  function make(account: Account<State, What>, what: What): Owed<State, What> {
    const owed = { account, id: hooks.nextId(), what, sentAt: 0 };
    journal?.owes(owed.id, { spId: account.spId, ...what });
    return owed;
  }

  // Reports and replies that an earlier process still owed.
  for (const [id, { spId, ...what }] of (journal?.left ?? new Map()) as ReadonlyMap<string, { spId: string }>) {
    const account = accounts.get(spId);
    account?.owed.push({ account, id, what: what as What, sentAt: 0 });
  }

  return {
    counters,
    accounts,
    faults,
    get isRunning() {
      return server !== null;
    },
    get isRecording() {
      return isRecording;
    },
    isJournalling: journal !== undefined,
    time: () => minute,
    later: (task, delayMs) => tasks.add(task, delayMs),

    show(message) {
      for (const listener of listeners) listener(message);
    },

    refusal(recipients, content) {
      const refusal = faults.refusal();
      if (refusal !== null) return refusal;
      let throttling: string[] | undefined;
      for (const phone of recipients) {
        const { special } = fateOf(phone);
        if (special === 'reject') return 'unwanted';
        if (special === 'throttle-once') (throttling ??= []).push(phone);
      }
      if (!throttling) return null;
      const words = typeof content === 'string' ? content : content.toString('latin1');
      return throttling.some((phone) => isFirst(`${phone} ${words}`)) ? 'throttled' : null;
    },

    take(account, { from, wantsReport, isLast }, id, to, fate, via, part) {
      const { reply, stat } = fate;
      journal?.took({ id, to, from, part: part ?? undefined });
      if (reply !== undefined && isLast) tasks.add(() => hooks.oweReply(account, { from: to, to: from, content: reply }), reportDelayMs);
      if (stat === null || !wantsReport) return null;
      const plan = faults.plan(fate);
      if (plan.copies === 0) return null;
      for (let copy = 0; copy < plan.copies; copy += 1) {
        const owed = make(account, { kind: 'report', messageId: id, from, phone: to, stat, takenAt: minute });
        if (plan.isEarly && copy === 0) hooks.sendEarly(owed, via);
        else due.add(owed, plan.delayMs);
      }
      return plan.delayMs;
    },

    answer(isTaken, respond, drop) {
      const how = isTaken ? faults.answering() : 0;
      if (how === 0) respond();
      else if (how === 'drop') drop();
      else if (how !== 'never') tasks.add(respond, how);
    },

    owe(account, what, delayMs) {
      const owed = make(account, what);
      if (delayMs === undefined) account.owed.push(owed);
      else due.add(owed, delayMs);
    },

    acknowledged(owed) {
      counters.acknowledged += 1;
      journal?.settled(owed.id);
    },

    refused(owed) {
      counters.refused += 1;
      again.add(owed, redeliverMs);
    },

    simulator: {
      counters,
      get faults() {
        return faults.faults;
      },
      set faults(wanted) {
        faults.faults = wanted;
      },
      get port() {
        return port;
      },
      get owed() {
        let sum = again.size;
        for (const account of accounts.values()) sum += account.owed.size + hooks.unanswered(account);
        return sum;
      },
      set recording(wanted: boolean) {
        isRecording = wanted;
      },

      start() {
        const listening = hooks.createServer();
        server = listening;
        tick();
        ticking = setInterval(tick, tickMs);
        listening.on('connection', connect);
        return new Promise((resolve, reject) => {
          listening.once('error', reject);
          listening.listen(port, '127.0.0.1', () => {
            const address = listening.address();
            if (address && typeof address === 'object') port = address.port;
            resolve();
          });
        });
      },

      async stop() {
        clearInterval(ticking);
        const closing = server;
        server = null;
        const closed = closing && new Promise<void>((resolve) => void closing.close(() => resolve()));
        for (const connection of connections) connection.drop();
        await hooks.dropCalls?.();
        await closed;
      },

      dropConnections() {
        for (const connection of connections) connection.drop();
        void hooks.dropCalls?.();
      },

      onMessage(listener) {
        listeners.push(listener);
      },

      reply(message) {
        const account = ownerOf(accounts.values(), message.to);
        if (!account || !isSendable(message)) return false;
        hooks.oweReply(account, message);
        hooks.send(account);
        return true;
      },
    },
  };
}

/** Adds members of one protocol to a simulator. Accessors stay accessors, which a spread would read. */
export const extend = <Base extends object, More extends object>(base: Base, more: More): Base & More =>
  Object.defineProperties(base, Object.getOwnPropertyDescriptors(more)) as Base & More;
