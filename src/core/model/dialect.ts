/**
 * How customers speak to us and receive events, as far as the core and the workers must know. Only src/http/dialects knows the wire formats
 * and the list of dialects, and provides this.
 */
import type { Medium, PlatformSettings } from './configuration.ts';

/** What the core must know of the dialects, without knowing any single one. */
export interface Dialects {
  /** By stored name. A newer version may have stored names that are missing here. */
  readonly rules: ReadonlyMap<string, DialectRules>;
  /** The default for new subscriptions; also what all subscriptions of a medium spoke before each had a dialect. */
  readonly usual: Readonly<Record<Medium, string>>;
}

export interface DialectRules {
  /** The name stored with subscriptions and with owed events. */
  readonly name: string;
  /** The caller's credentials: an sp_id and a password of the subscription, or the api_id and api_key of the account. */
  readonly credentials: 'sp_id' | 'api_id';
  /** The media whose products it can send. */
  readonly media: readonly Medium[];
  /** Whether reports and replies can be pulled. If not, those that are not pushed are kept until an operator replays them. */
  readonly canPull: boolean;
  readonly push: PushRules;
}

/** How events are pushed: the URL, how many at once, the answer that counts as success, the retries, and the content. */
export interface PushRules {
  /** Whether reports and replies go to the account's URLs or the subscription's. Decisions on templates always go to the account's. */
  readonly urls: 'account' | 'subscription';
  /** Events in one push. `one`: many pushes at a time; `many`: one push at a time. */
  readonly carries: 'one' | 'many';
  /** Seconds before each retry of a push that was not accepted; an empty list means no retries. */
  delaysSeconds(settings: PlatformSettings): readonly number[];
  isSuccess(answer: { readonly status: number; readonly text: string }): boolean;
  report(events: readonly ReportEvents[]): PushBody;
  reply(events: readonly ReplyEvent[]): PushBody;
  /** Null where the dialect has no event for decisions on templates. */
  readonly audit: ((event: AuditEvent) => PushBody) | null;
}

export interface PushBody {
  readonly contentType: string;
  readonly body: string;
}

/** Reports of messages of one batch with the same result; only the numbers differ. */
export interface ReportEvents {
  readonly batchId: bigint;
  readonly ext: string;
  /** As the customer wrote them. */
  readonly mobiles: readonly string[];
  readonly code: string;
  readonly at: Date;
  /** The final cost of each message. */
  readonly costE4: bigint;
  /** When the carrier took the first of them; the time of acceptance if they went to no carrier. */
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
