/**
 * How customers speak to us and hear from us, as far as the core and the workers must know. What is on the wire, and which dialects there
 * are, only src/http/dialects knows; it hands this in.
 */
import type { Medium, PlatformSettings } from './configuration.ts';

/** Everything that must be known of the dialects without knowing any of them. */
export interface Dialects {
  /** By the name that is stored. A newer version may have stored names that are not here. */
  readonly rules: ReadonlyMap<string, DialectRules>;
  /** What a new subscription speaks unless it is told otherwise. Also what all of a medium spoke before subscriptions had a dialect. */
  readonly usual: Readonly<Record<Medium, string>>;
}

export interface DialectRules {
  /** As it is stored with subscriptions, and with what is owed. */
  readonly name: string;
  /** By what a caller proves who calls: an sp_id and a password of the subscription, or the api_id and api_key of the account. */
  readonly credentials: 'sp_id' | 'api_id';
  /** The products that can be sent by. */
  readonly media: readonly Medium[];
  /** Whether reports and replies can be pulled. Where they cannot, those that are not pushed are kept until an operator replays them. */
  readonly canPull: boolean;
  readonly push: PushRules;
}

/** How events are pushed: where to, how many at once, what the customer's server must answer, what follows if it does not, and the words. */
export interface PushRules {
  /** Whose URLs reports and replies go to. The URL for decisions on templates is always the account's. */
  readonly urls: 'account' | 'subscription';
  /** Events in one push: `one`, many pushes at a time; or `many`, one push at a time. */
  readonly carries: 'one' | 'many';
  /** Seconds before a push that was not taken is tried again; one for each further try, so none is: once only. */
  delaysSeconds(settings: PlatformSettings): readonly number[];
  isSuccess(answer: { readonly status: number; readonly text: string }): boolean;
  report(events: readonly ReportEvents[]): PushBody;
  reply(events: readonly ReplyEvent[]): PushBody;
  /** Null where nobody is told of decisions on templates. */
  readonly audit: ((event: AuditEvent) => PushBody) | null;
}

export interface PushBody {
  readonly contentType: string;
  readonly body: string;
}

/** Reports of messages of one batch that ended alike: they say the same but for the number. */
export interface ReportEvents {
  readonly batchId: bigint;
  readonly ext: string;
  /** As the customer wrote them. */
  readonly mobiles: readonly string[];
  readonly code: string;
  readonly at: Date;
  /** What each message finally cost. */
  readonly costE4: bigint;
  /** When the carrier took the first of them; of acceptance where no carrier was asked. */
  readonly sentAt: Date;
}

export interface ReplyEvent {
  readonly replyId: bigint;
  readonly content: string;
  readonly mobile: string;
  readonly batchId: bigint | null;
  readonly ext: string;
  readonly at: Date;
}

export interface AuditEvent {
  readonly templateId: bigint;
  readonly approved: boolean;
  readonly reason: string | null;
}
