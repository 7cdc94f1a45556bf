/**
 * What a protocol is (`ChannelKind`), and what a connection to a carrier promises, whatever protocol it speaks.
 *
 * A connection logs in, keeps alive, reconnects and drains by itself. Its owner hands over messages while there is room, and gets the
 * outcome of each message once. A connection knows no database: it acknowledges to the carrier only when the owner says that what was
 * received is safe. Every kind of connection must keep these rules; `test/kit/promises.ts` tests each of them.
 *
 *  1. `send` never blocks and never throws, whatever its argument and the connection's state. `settle` is not called before `send` has
 *     returned.
 *  2. Every message is settled exactly once, with one outcome for each segment that was to be sent: also after a time-out, when the
 *     connection is lost, and when it is stopped.
 *  3. There are never more unanswered requests than the window.
 *  4. Segments are never faster than the rate.
 *  5. `mayWrite` is called right before each request that reaches a phone is written; if it returns false, the segment is `unsent`.
 *  6. Outcomes are true (see `SegmentOutcome`). A segment that was written and has no answer is `unknown` and is not written again.
 *  7. A segment that the carrier throttles is sent again after a pause, a bounded number of times, and is `throttled` then.
 *  8. `room()` is 0 unless logged in. When it becomes positive after 0, `onRoom` is called once.
 *  9. The carrier's delivery is answered as safe only after `acknowledge(true)`. After `acknowledge(false)`, or if the connection breaks
 *     before, the carrier sends it again.
 * 10. Without a connection it keeps trying, with pauses that grow to a limit; the pauses are never short after a refused login.
 * 11. A stop takes no more messages and settles those not yet begun as `unsent`. It waits for outstanding answers at most `drainMs`, and
 *     has settled everything when it resolves. `stopped` is final. `stop` may be called in any state, from within any event, and twice.
 * 12. What the carrier delivers while the connection drains is passed on and answered.
 *
 * Where carriers call us, a kind has a door, instead of or beside what comes by its connections. A door keeps rule 9.
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

/** A multimedia message's content. All messages of a batch share one object, so a connection may send it once for many recipients. */
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
  /** Indexes of the segments to send; all when left out. A retry sends only the segments whose outcome is not known. */
  readonly only?: readonly number[];
  /** Another message with this content follows as soon as there is room, so an upload for many recipients may wait for it. */
  readonly more?: boolean;
}

/**
 * What became of one segment.
 * - `accepted`: the carrier took it; its report will name `carrierId`.
 * - `rejected`: the carrier will not take it; `code` is the carrier's code as the customer sees it (`ER:0013`). `isOurs`: the carrier
 *   objects to the channel's identity or way of speaking, not to this message, so it would reject any message.
 * - `throttled`: the carrier kept answering "too fast"; it did not take the segment, which may be tried again later.
 * - `unknown`: it was written and never answered; the carrier may or may not have it. `isCut`: its connection ended before the answer, so
 *   other segments may have been lost at the same time.
 * - `unsent`: it was certainly never written.
 */
export type SegmentOutcome =
  | { readonly kind: 'accepted'; readonly carrierId: string }
  | { readonly kind: 'rejected'; readonly code: string; readonly isOurs?: boolean }
  | { readonly kind: 'throttled' }
  | { readonly kind: 'unknown'; readonly isCut?: boolean }
  | { readonly kind: 'unsent' };

/** A final delivery report of one segment. The connection acknowledges intermediate reports itself and does not pass them on. */
export interface CarrierReport {
  readonly carrierId: string;
  /** The carrier's status as received, trimmed: `DELIVRD`, `UNDELIV`, `MK:0001`… */
  readonly status: string;
  readonly delivered: boolean;
  /** The phone as the carrier wrote it, for the operator's list of orphans. Reports are not matched by it. */
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
  /** The carrier's id of this delivery; a redelivery has the same id. */
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

/** `refused`: the carrier answered the login with an error; `down`: no connection. Both are retried with back-off. */
export type ConnectionState = 'down' | 'connecting' | 'refused' | 'up' | 'draining' | 'stopped';

/**
 * What a carrier sends, by a connection or by a door. `acknowledge` answers it: true once it is safe, false to make the carrier send it
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
  /** Drains (rules 11 and 12) for at most `drainMs`, logs out, closes. */
  stop(drainMs: number): Promise<void>;
  readonly state: ConnectionState;
  /** How many messages may be handed over now: 0 unless logged in; bounded by the window, the rate and the inner queue. */
  room(): number;
  /** How many segments this text takes on this carrier's wire. */
  segmentsOf(text: string): number;
  /** Hands over a message (rules 1 and 2). The outcomes are in the order of `only`, or of the segments. */
  send(message: OutboundMessage, settle: (outcomes: readonly SegmentOutcome[]) => void): void;
}

/** What every kind of connection needs from its owner, beside its carrier's settings. */
export interface ConnectionDeps {
  readonly events: ConnectionEvents;
  /** Whether requests may still be written (rule 5): a node that lost the lease must stop sending. */
  mayWrite(): boolean;
}

// ── what a protocol is ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The same text in both languages of the documentation and the console. */
export interface Words {
  readonly zh: string;
  readonly en: string;
}

/** One protocol between us and carriers. kinds.ts lists all of them. */
export interface ChannelKind<Settings extends TObject = TObject> {
  /** What is stored with a channel, and the name in kinds.ts. */
  readonly name: string;
  readonly title: Words;
  /**
   * Schema of a channel's settings (see settings.ts). It checks them when they are stored, types them in code, and generates their
   * documentation.
   */
  readonly settings: Settings;
  /** The carrier's name for the password that is stored, sealed, with a channel. */
  readonly secret: Words;
  /** Throws TypeError or RangeError if no request on the wire can carry these settings. */
  connect(settings: Static<Settings>, secret: string, deps: ConnectionDeps): ChannelConnection;
  /** Where the carrier calls us; left out where everything comes by our own connections. */
  readonly door?: HttpDoor<Settings>;
  /** Loads the simulator of the carrier's side. Only the sandbox and tests call it. */
  simulator(): Promise<SimulatorKind>;
}

/** The carrier calls us by HTTP, and any node may answer. */
export interface HttpDoor<Settings extends TObject = TObject> {
  /** The carrier of a channel posts to this prefix, a slash, and the channel's id. */
  readonly prefix: `/${string}`;
  /** The most octets a request may have. */
  readonly maxOctets: number;
  /** Null where these settings let nobody in. */
  open(channel: DoorChannel<Settings>, events: CarrierEvents): OpenDoor | null;
}

/** A channel whose carrier calls us. */
export interface DoorChannel<Settings extends TObject = TObject> {
  readonly settings: Static<Settings>;
  readonly secret: string;
  /** Our service number; all our numbers begin with it. */
  readonly accessNumber: string;
}

export interface OpenDoor {
  /** Resolves once the posted content is safe. Rejects only if the owner throws. */
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
  /** In addition to Content-Type. */
  readonly headers: Readonly<Record<string, string>>;
}
