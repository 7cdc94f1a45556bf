/**
 * The interface of every simulated carrier, whatever protocol it speaks: how it is made, what the sandbox and tests do with it, and what its
 * phones show. The file of each protocol exports a `simulatorKind`, which the channel kind of the protocol loads (src/channels/kinds.ts).
 */
import type { FaultyKind, Faults } from './faults.ts';
import type { Journal } from './journal.ts';

/** An account at a carrier: a login, and the numbers that belong to it. */
export interface SimulatorAccount {
  /** The name of the login: 企业代码, or whatever the protocol calls it. */
  readonly spId: string;
  readonly secret: string;
  /** Prefixes of this account's numbers; the longest match decides. Without any, the account may send from every number, and gets no `reply`. */
  readonly accessNumbers?: readonly string[];
  /** Default 8. */
  readonly maxConnections?: number;
  /** The URL of the platform's door. Only protocols in which the carrier calls the platform use it. */
  readonly door?: string;
}

export interface SimulatorOptions {
  readonly accounts: readonly SimulatorAccount[];
  /** Default 0: any free one. */
  readonly port?: number;
  readonly reportDelayMs?: number;
  /** The delay for numbers that end in 0008. */
  readonly slowReportDelayMs?: number;
  /** Pause before a refused report or reply is sent again. */
  readonly redeliverMs?: number;
  /** How many reports and replies may be unanswered at once; counted for each connection if the platform makes the connections. */
  readonly window?: number;
  /** Whether messages are put together for `onMessage`; a benchmark saves the work. Default true. */
  readonly recording?: boolean;
  /** Keeps what must survive the death of the process. Without a journal, what is owed dies with it. */
  readonly journal?: Journal;
}

/** A text as a phone shows it, however many segments it took. */
export interface PhoneText {
  readonly to: string;
  readonly from: string;
  readonly text: string;
  readonly at: Date;
}

/** A multimedia message as a phone shows it. Messages of one package share their frames. */
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

/** A message that a person writes to a service number. */
export interface PersonalMessage {
  readonly from: string;
  readonly to: string;
  readonly content: string;
}

export interface Simulator<Message = PhoneText | PhoneMms, Counters = unknown> {
  readonly counters: Counters;
  /** The faults that are on. An assignment replaces all of them, and ends those that run. */
  get faults(): Faults;
  set faults(faults: Faults);
  /** The port it listens on, known once `start` has resolved. */
  readonly port: number;
  /** How many reports and replies are due and not yet acknowledged. */
  readonly owed: number;
  /** Replaces the option. */
  set recording(wanted: boolean);
  start(): Promise<void>;
  /** Closes everything at once, as a crash does. What is owed stays in memory, and another `start` takes the same port. */
  stop(): Promise<void>;
  /** Breaks all connections and goes on listening. */
  dropConnections(): void;
  onMessage(listener: (message: Message) => void): void;
  /** Sends a person's message to a service number. False if no account owns the number, or if no message can carry it. */
  reply(message: PersonalMessage): boolean;
}

/** Settings of a channel, or some of them, as the platform stores them. */
export type ChannelSettings = Readonly<Record<string, string | number | boolean>>;

/** The carrier's side of a protocol. Its `name` is that of the channel kind, and the key of its faults in the sandbox. */
export interface SimulatorKind extends FaultyKind {
  create(options: SimulatorOptions): Simulator;
  /** The settings by which a channel finds a simulator on this machine. */
  address(port: number): ChannelSettings;
  /** The settings by which a channel logs in to this account. The account's secret is the channel's secret. */
  login(account: SimulatorAccount): ChannelSettings;
  /** Changes the door that the carrier calls, in protocols in which the carrier calls. */
  callAt?(simulator: Simulator, door: string): void;
}
