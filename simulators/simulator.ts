/**
 * What every simulated carrier is, whatever it speaks: how it is made, what the sandbox and tests do with it, and what they get to see of its
 * phones. A file for each protocol exports its `simulatorKind`; src/channels/kinds.ts lists them.
 */
import type { FaultyKind, Faults } from './faults.ts';
import type { Journal } from './journal.ts';

/** Whom a carrier lets in, and what is his. */
export interface SimulatorAccount {
  /** The name to log in with: 企业代码, or whatever the protocol calls it. */
  readonly spId: string;
  readonly secret: string;
  /** Numbers that begin so are this account's, the longest match first. Without any it may send as it likes, and gets no `reply`. */
  readonly accessNumbers?: readonly string[];
  /** Default 8. */
  readonly maxConnections?: number;
  /** Where the platform awaits this carrier, a URL; only protocols in which the carrier calls have a use for it. */
  readonly door?: string;
}

export interface SimulatorOptions {
  readonly accounts: readonly SimulatorAccount[];
  /** Default 0: any free one. */
  readonly port?: number;
  readonly reportDelayMs?: number;
  /** Of numbers that end in 0008. */
  readonly slowReportDelayMs?: number;
  /** Pause before something that was refused comes again. */
  readonly redeliverMs?: number;
  /** Reports and replies sent and not yet answered; of each connection, if the platform makes the connections. */
  readonly window?: number;
  /** Whether phones keep what they receive (for `onMessage`); benchmarks have no use for it. Default true. */
  readonly recording?: boolean;
  /** Where it keeps what must outlive its process. Without one it forgets, as a carrier with a bad day does. */
  readonly journal?: Journal;
}

/** What a phone shows: one text, however many segments it took. */
export interface PhoneText {
  readonly to: string;
  readonly from: string;
  readonly text: string;
  readonly at: Date;
}

/** A multimedia message. Those of one package share their frames. */
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

/** What a person writes to a service number. */
export interface PersonalMessage {
  readonly from: string;
  readonly to: string;
  readonly content: string;
}

export interface Simulator<Message = PhoneText | PhoneMms, Counters = unknown> {
  readonly counters: Counters;
  /** What is on. Assigning replaces everything, and ends what is under way. */
  get faults(): Faults;
  set faults(faults: Faults);
  /** The port it listens on, known once `start` has resolved. */
  readonly port: number;
  /** Reports and replies not yet acknowledged, those not yet due left out. */
  readonly owed: number;
  /** Whether phones keep what they receive from now on. */
  set recording(wanted: boolean);
  start(): Promise<void>;
  /** Closes everything at once, as a crash would; what is owed stays in memory and the port is kept for another `start`. */
  stop(): Promise<void>;
  /** Breaks all connections and goes on listening. */
  dropConnections(): void;
  onMessage(listener: (message: Message) => void): void;
  /** A person writes to a service number. False: nobody here owns it, or it is nothing that fits a message. */
  reply(message: PersonalMessage): boolean;
}

/** Settings of a channel, or some of them, as the platform stores them. */
export type ChannelSettings = Readonly<Record<string, string | number | boolean>>;

/** The carrier's side of a protocol. `name` is also what its faults go by, and the name of the channel kind that it is the other side of. */
export interface SimulatorKind extends FaultyKind {
  create(options: SimulatorOptions): Simulator;
  /** Where a channel finds a simulator of this machine. */
  address(port: number): ChannelSettings;
  /** Who a channel is to a simulator that has this account; the secret is the channel's own. */
  login(account: SimulatorAccount): ChannelSettings;
  /** From now on the carrier calls there; of protocols in which it does. */
  callAt?(simulator: Simulator, door: string): void;
}
