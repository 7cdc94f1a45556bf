/**
 * What a protocol is (`ChannelKind`), and what a connection to a carrier promises, whatever protocol it speaks.
 *
 * A connection logs in, keeps alive, reconnects and drains by itself; whoever owns it hands over messages while there is room and
 * is told, once for each, what became of them. It knows no database: an acknowledgement to the carrier is sent only when the owner
 * says that what was received is safe. Every kind of connection must keep these rules; `test/kit/promises.ts` tries each of them.
 *
 *  1. `send` never blocks and never throws, whatever it is given and in whatever state, and `settle` is not called before it returned.
 *  2. Every message is settled exactly once, with one outcome for each segment that was to be sent: also when time is over, when the
 *     connection is lost, and when it is stopped.
 *  3. There are never more requests without an answer than the window.
 *  4. Segments are never faster than the rate.
 *  5. `mayWrite` is asked right before each request that reaches a phone is written; if it says no, the segment is `unsent`.
 *  6. Outcomes are true (see `SegmentOutcome`). What was written and has no answer is `unknown` and is not written again.
 *  7. What the carrier refuses as too fast goes out again by itself after a pause, a bounded number of times, and is `throttled` then.
 *  8. `room()` is 0 unless logged in. After it was 0, the owner is told once that it is positive again.
 *  9. The carrier's delivery is answered as safe only after `acknowledge(true)`. After `acknowledge(false)`, or if the connection breaks
 *     before, the carrier sends it again.
 * 10. Without a connection it goes on trying, with pauses that grow to a limit; they are never short after a refused login.
 * 11. A stop takes nothing more, lets go what had not begun as `unsent`, waits for the answers owed but not longer than it is told, and
 *     has settled everything when it resolves. `stopped` is for ever. Any state may be left by a stop, from within any event, and twice.
 * 12. What the carrier delivers while the connection drains is passed on and answered.
 *
 * Where carriers call us, a kind has a door instead of, or beside, what comes by its connections; a door keeps rule 9 of what it receives.
 */
import type { Static, TObject } from 'typebox';
import type { SimulatorKind } from '../../simulators/simulator.ts';

/** One frame of a multimedia message: a text, a medium, or both, in the order they are shown. */
export interface PackageFrame {
  readonly text: string | null;
  readonly media: { readonly contentType: string; readonly extension: string; readonly bytes: Buffer } | null;
  /** The medium is shown above the text. */
  readonly mediaFirst: boolean;
}

/** A multimedia message's content. One object for all messages of a batch: a connection may send it once for many recipients. */
export interface MessagePackage {
  readonly subject: string;
  readonly frames: readonly PackageFrame[];
}

/** One message to one phone. The connection chooses the encoding and cuts a text into segments. */
export interface OutboundMessage {
  /** E.164 digits without `+`, e.g. `8613800000000`; the connection writes it in the form its carrier wants. */
  readonly to: string;
  /** The full source number: access number, extension and the customer's own digits. */
  readonly from: string;
  readonly content: string | MessagePackage;
  /** Concatenation reference of a long message, 0…65535; the same on every try, so that a phone can drop repeated segments. */
  readonly reference: number;
  /** Indexes of the segments to send; all when left out. A retry sends only those whose fate is not known. */
  readonly only?: readonly number[];
  /** Another message with this content follows as soon as there is room: an upload for many may wait for it. */
  readonly more?: boolean;
}

/**
 * What became of one segment.
 * - `accepted`: the carrier took it; `carrierId` is what its report will name.
 * - `rejected`: the carrier will not take it; `code` is the carrier's code as the customer sees it (`ER:0013`). `isOurs`: what it objects
 *   to is not this message but how the channel speaks or who it says it is, so it would object to any.
 * - `throttled`: the carrier kept answering "too fast"; it was not taken and may be tried again later.
 * - `unknown`: it was written and never answered; it may or may not have been taken. `isCut`: its connection ended before the answer,
 *   so that others may have had the same fate at once.
 * - `unsent`: it was certainly never written.
 */
export type SegmentOutcome =
  | { readonly kind: 'accepted'; readonly carrierId: string }
  | { readonly kind: 'rejected'; readonly code: string; readonly isOurs?: boolean }
  | { readonly kind: 'throttled' }
  | { readonly kind: 'unknown'; readonly isCut?: boolean }
  | { readonly kind: 'unsent' };

/** A final delivery report of one segment; intermediate ones are acknowledged by the connection itself and not passed on. */
export interface CarrierReport {
  readonly carrierId: string;
  /** The carrier's status as received, trimmed: `DELIVRD`, `UNDELIV`, `MK:0001`… */
  readonly status: string;
  readonly delivered: boolean;
  /** The phone as the carrier wrote it, for the operator's list of orphans; it takes no part in matching. */
  readonly phone: string;
}

/** Somebody has read a multimedia message, or deleted it unread. */
export interface ReadReply {
  readonly carrierId: string;
  /** The phone as the carrier wrote it. */
  readonly phone: string;
  /** As received: `Read`, `Deleted`… */
  readonly status: string;
}

/** A message from a phone, or one segment of it. */
export interface CarrierInbound {
  /** The carrier's id of this delivery; a redelivery carries the same. */
  readonly carrierId: string;
  /** Sender, digits as the carrier wrote them. */
  readonly from: string;
  /** The number the person wrote to, as the carrier wrote it. */
  readonly to: string;
  /** Set when this is one of several segments. `number` counts from 1. */
  readonly concat: { readonly reference: number; readonly total: number; readonly number: number } | null;
  readonly encoding: 'ascii' | 'ucs2' | 'gbk' | 'binary';
  /** The content without any user data header. */
  readonly octets: Buffer;
}

/** `refused`: the carrier answered the login with an error; `down`: no connection. Both are retried with backoff. */
export type ConnectionState = 'down' | 'connecting' | 'refused' | 'up' | 'draining' | 'stopped';

/**
 * What a carrier tells, by a connection or by a door. `acknowledge` answers it: true once what came is safe, false to make it come
 * again. Call it exactly once.
 */
export interface CarrierEvents {
  onReport(report: CarrierReport, acknowledge: (safe: boolean) => void): void;
  onReadReply(reply: ReadReply, acknowledge: (safe: boolean) => void): void;
  onInbound(inbound: CarrierInbound, acknowledge: (safe: boolean) => void): void;
}

export interface ConnectionEvents extends CarrierEvents {
  onState(state: ConnectionState, reason: string): void;
  /** `room()` has become positive after it was 0 (rule 8). */
  onRoom(): void;
}

export interface ChannelConnection {
  /** Begins to connect, and goes on reconnecting until stopped. */
  start(): void;
  /** Drains (rules 11 and 12), for at most `drainMs`, leaves politely, closes. */
  stop(drainMs: number): Promise<void>;
  readonly state: ConnectionState;
  /** How many messages may be handed over right now: 0 unless logged in, within window, rate and the inner queue's bound. */
  room(): number;
  /** How many segments this text takes on this carrier's wire. */
  segmentsOf(text: string): number;
  /** Hands over a message (rules 1 and 2). Its outcomes come in the order of `only`, or of the segments. */
  send(message: OutboundMessage, settle: (outcomes: readonly SegmentOutcome[]) => void): void;
}

/** What every kind of connection needs from its owner, beside its carrier's settings. */
export interface ConnectionDeps {
  readonly events: ConnectionEvents;
  /** Whether requests may still be written (rule 5): a lost lease must stop sending. */
  mayWrite(): boolean;
}

// ── what a protocol is ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The same in both languages of the documentation and the console. */
export interface Words {
  readonly zh: string;
  readonly en: string;
}

/** One protocol between us and carriers. All there are stand in kinds.ts. */
export interface ChannelKind<Settings extends TObject = TObject> {
  /** What is stored with a channel, and the name in kinds.ts. */
  readonly name: string;
  readonly title: Words;
  /** Schema of a channel's settings, see settings.ts: checked when they are stored, typed where they are used, documented from it. */
  readonly settings: Settings;
  /** What the carrier calls the password that is kept, sealed, with a channel. */
  readonly secret: Words;
  /** Throws TypeError or RangeError if nothing on the wire can carry these settings. */
  connect(settings: Static<Settings>, secret: string, deps: ConnectionDeps): ChannelConnection;
  /** Where the carrier calls us; left out where everything comes by the connections we made. */
  readonly door?: HttpDoor<Settings>;
  /** Loads the simulator of the carrier's side. Only the sandbox and tests call it. */
  simulator(): Promise<SimulatorKind>;
}

/** The carrier calls us by HTTP, and any node may answer. */
export interface HttpDoor<Settings extends TObject = TObject> {
  /** The carrier of a channel posts to this, a slash, and the channel's id. */
  readonly prefix: `/${string}`;
  /** Octets of a request, at most. */
  readonly maxOctets: number;
  /** Null where these settings let nobody in. */
  open(channel: DoorChannel<Settings>, events: CarrierEvents): OpenDoor | null;
}

/** A channel whose carrier calls us. */
export interface DoorChannel<Settings extends TObject = TObject> {
  readonly settings: Static<Settings>;
  readonly secret: string;
  /** Our service number, which all numbers of ours begin with. */
  readonly accessNumber: string;
}

export interface OpenDoor {
  /** Answers once what was posted is safe. Rejects only if the owner throws. */
  receive(post: CarrierPost): Promise<CarrierAnswer>;
}

/** What a carrier posted, its body complete and bounded. */
export interface CarrierPost {
  readonly contentType: string;
  readonly authorization: string | undefined;
  readonly remoteAddress: string;
  readonly body: Buffer;
}

export interface CarrierAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
  /** Beside Content-Type. */
  readonly headers: Readonly<Record<string, string>>;
}
