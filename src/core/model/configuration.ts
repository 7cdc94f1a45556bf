/** What an operator configures: accounts, products, subscriptions, channels, signatures and the settings of the platform. No behaviour. */

export type Medium = 'aim' | 'mms' | 'sms';
/** The networks of the mainland; a number may be ported from any of them to any other. */
export const mainlandCarriers = ['mobile', 'unicom', 'telecom', 'broadcast'] as const;
export type MainlandCarrier = (typeof mainlandCarriers)[number];
export type Carrier = MainlandCarrier | 'international';

/** Everyday names, without 省, 市 or 自治区. */
export const provinces = [
  '北京',
  '天津',
  '河北',
  '山西',
  '内蒙古',
  '辽宁',
  '吉林',
  '黑龙江',
  '上海',
  '江苏',
  '浙江',
  '安徽',
  '福建',
  '江西',
  '山东',
  '河南',
  '湖北',
  '湖南',
  '广东',
  '广西',
  '海南',
  '重庆',
  '四川',
  '贵州',
  '云南',
  '西藏',
  '陕西',
  '甘肃',
  '青海',
  '宁夏',
  '新疆',
] as const;
export type Province = (typeof provinces)[number];

export interface Account {
  readonly id: bigint;
  readonly name: string;
  readonly apiId: string;
  readonly ipAllowList: readonly string[];
  readonly pushUrls: Readonly<Record<string, string>>;
  readonly locked: boolean;
  /** E.164 digits: blocklists and frequency caps do not stop these numbers. */
  readonly exemptNumbers: readonly bigint[];
}

export interface Product {
  readonly id: bigint;
  readonly name: string;
  readonly medium: Medium;
  /** The unit of the balance. */
  readonly unit: 'yuan' | 'messages';
  readonly poolId: bigint | null;
  readonly signatureRequired: boolean;
  /** A signature must also be registered with the carrier of the number. */
  readonly strictSignatures: boolean;
  /** A text is sent only if a content template lets it pass. */
  readonly templatesOnly: boolean;
  /** Null: any time. */
  readonly sendingWindow: SendingWindow | null;
  /** `delivered`: any other final state releases the whole hold; `accepted`: what the carrier took is paid for. */
  readonly chargeOn: 'delivered' | 'accepted';
  /** What to do with a message that may or may not have been sent. */
  readonly inDoubt: 'resend' | 'give_up';
  readonly ttlHours: number;
  readonly limits: ProductLimits;
}

/** Times of day in Asia/Shanghai, `HH:MM`, the end not included; a window that ends before it begins goes over midnight. */
export interface SendingWindow {
  readonly from: string;
  readonly to: string;
  /** What becomes of a batch outside the window. */
  readonly mode: 'intercept' | 'review';
}

/** Limits of multimedia packages; one that is left out has the value in `defaultPackageLimits`. */
export interface ProductLimits {
  /** Texts and media together. */
  readonly packageKiB?: number;
  readonly frames?: number;
  /** The limit of one frame's text. */
  readonly textCharacters?: number;
}

export const defaultPackageLimits: Required<ProductLimits> = { packageKiB: 1900, frames: 15, textCharacters: 2000 };

export interface Subscription {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly productId: bigint;
  /** The name of its dialect, see dialect.ts. */
  readonly dialect: string;
  readonly spId: bigint | null;
  /** Ten-thousandths of the product's unit, per billed segment (aim, sms) or message (mms). */
  readonly priceE4: bigint;
  readonly extension: string;
  /** Priority class: 0 is served before 1. */
  readonly class: number;
  /** Replaces the product's window; null: the product's. */
  readonly sendingWindow: SendingWindow | null;
  /** What becomes of a text that no content template and no word list matches. */
  readonly unmatched: 'pass' | 'intercept' | 'review';
  readonly pushUrls: { readonly report?: string; readonly reply?: string };
  readonly enabled: boolean;
  /** The rate limit of its submissions; null: none. */
  readonly rateLimit: RateLimit | null;
}

/** Recipients per second over time, and how many at once after a pause. */
export interface RateLimit {
  readonly perSecond: number;
  readonly burst: number;
}

export type CapScope = 'subscription' | 'product' | 'signature';
/** The calendar's minute, hour or day in Asia/Shanghai; or any 24 hours. */
export type CapPeriod = 'minute' | 'hour' | 'day' | '24h';

/** The most messages of this subject that one number may get within a period. */
export interface Cap {
  readonly id: bigint;
  readonly scope: CapScope;
  readonly subjectId: bigint;
  readonly period: CapPeriod;
  readonly count: number;
}

export interface Channel {
  readonly id: bigint;
  readonly name: string;
  /** The name of its kind, one of `ChannelKinds.names`. */
  readonly protocol: string;
  readonly enabled: boolean;
  readonly connections: number;
  readonly carriers: readonly Carrier[];
  /** Null: all of them. */
  readonly provinces: readonly Province[] | null;
  /** `probing`: it was unhealthy, and a few messages now show whether it still is. */
  readonly health: 'healthy' | 'unhealthy' | 'probing';
  /** Why it is not healthy; null while it is. */
  readonly healthCause: HealthCause | null;
  /** An operator has set its health, so it is not judged. */
  readonly isHealthForced: boolean;
  readonly healthRules: HealthRules;
  /** The base number; extension and the customer's `ext` follow it on the wire. */
  readonly accessNumber: string;
  /** The protocol's own settings, checked when they were stored. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** What the core must know of channel protocols, without knowing any single one; src/channels/kinds.ts provides it. */
export interface ChannelKinds {
  readonly names: readonly string[];
  /** What is wrong with a channel's settings (preceded by its path) or with its protocol's name; null if nothing is. */
  problemOf(protocol: string, settings: unknown): string | null;
}

/** No session; too many of its own failures; too few reports of success. */
export type HealthCause = 'no_session' | 'failures' | 'reports';

/** When a channel becomes unhealthy, and how it shows that it is well again. */
export interface HealthRules {
  /** Unhealthy after this time without a session on any node. */
  readonly sessionSeconds: number;
  /**
   * Unhealthy if more than this share of the last `outcomes` outcomes were the channel's own failures; fewer than `leastOutcomes` are not
   * judged.
   */
  readonly outcomes: number;
  readonly leastOutcomes: number;
  readonly failurePercent: number;
  /**
   * Unhealthy if less than this share of the last hour's reports were of success. 0: reports are not judged, since most failures are the
   * numbers'.
   */
  readonly deliveredPercent: number;
  readonly leastReports: number;
  /** How long a session that came back must last. */
  readonly steadySeconds: number;
  /** The pause before it is tried with messages. Each failed try in a row doubles the pause, up to the longest. */
  readonly pauseSeconds: number;
  readonly longestPauseSeconds: number;
  /** How many messages try it. */
  readonly probeMessages: number;
}

export const defaultHealthRules: HealthRules = {
  sessionSeconds: 30,
  outcomes: 200,
  leastOutcomes: 50,
  failurePercent: 30,
  deliveredPercent: 0,
  leastReports: 100,
  steadySeconds: 5,
  pauseSeconds: 30,
  longestPauseSeconds: 900,
  probeMessages: 10,
};

/** The state of a signature with a carrier. */
export type Registration = 'pending' | 'registered' | 'rejected';

export interface Signature {
  readonly id: bigint;
  /** By carrier; a carrier that is missing has not been asked. */
  readonly registrations: Readonly<Partial<Record<Carrier, Registration>>>;
}

export type TemplateState = 'pending' | 'approved' | 'rejected' | 'withdrawn';

/** What an operator changes while the platform runs. */
export interface PlatformSettings {
  /** Whole texts that mean opt-out, compared trimmed, without case, full-width letters folded. */
  readonly optOutWords: readonly string[];
  /** A message without a report for this time has expired. */
  readonly reportWithinHours: number;
  /** How many days back the message that a reply answers is searched. */
  readonly replyWithinDays: number;
  /** The most rows that one pull or push carries. */
  readonly rowsPerPull: number;
  readonly rowsPerPush: number;
  /** Failed logins from one address for one sp_id or api_id, after which it must wait for the rest of the minute. */
  readonly failuresPerMinute: number;
  /** Failed logins from one address for all ids, after which all its requests are refused for the rest of the minute. */
  readonly addressFailuresPerMinute: number;
  /** Pauses before an MMS push that was not accepted is tried again; after the last one it has failed. */
  readonly pushDelaysSeconds: readonly number[];
  /** MMS pushes to one address at the same time. */
  readonly pushConcurrency: number;
  /** A batch or template in review for this time is rejected. */
  readonly reviewWithinHours: number;
  /** Codes with which a carrier says that a number is not its own; see docs/numbers.md. */
  readonly foreignNumberCodes: readonly string[];
  /** Days that messages, events and related data are kept. */
  readonly retentionDays: number;
  /** The most days that an event waits to be handed over, and its day's data is kept for it; at least `retentionDays`. */
  readonly waitingDays: number;
  /** Days that a batch's totals and its ledger entries are kept; at least `retentionDays`. */
  readonly batchDays: number;
}

export const defaultSettings: PlatformSettings = {
  optOutWords: ['TD', 'T', 'R', '退订', '拒收', 'N'],
  reportWithinHours: 72,
  replyWithinDays: 7,
  rowsPerPull: 2000,
  rowsPerPush: 500,
  failuresPerMinute: 20,
  addressFailuresPerMinute: 300,
  pushDelaysSeconds: [60, 120],
  pushConcurrency: 16,
  reviewWithinHours: 72,
  foreignNumberCodes: ['ER:0009'],
  retentionDays: 180,
  waitingDays: 365,
  batchDays: 730,
};
