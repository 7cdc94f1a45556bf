/** What an operator configures: accounts, products, subscriptions, channels, signatures and the settings of the platform. No behaviour. */

export type Medium = 'aim' | 'mms' | 'sms';
/** The networks of the mainland; a number may be ported from any of them to any other. */
export const mainlandCarriers = ['mobile', 'unicom', 'telecom', 'broadcast'] as const;
export type MainlandCarrier = (typeof mainlandCarriers)[number];
export type Carrier = MainlandCarrier | 'international';

/** As everybody calls them, without 省, 市 or 自治区. */
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
  /** E.164 digits: no list and no cap stops these. */
  readonly exemptNumbers: readonly bigint[];
}

export interface Product {
  readonly id: bigint;
  readonly name: string;
  readonly medium: Medium;
  /** What the balance counts. */
  readonly unit: 'yuan' | 'messages';
  readonly poolId: bigint | null;
  readonly signatureRequired: boolean;
  /** A signature must also be registered with the carrier of the number. */
  readonly strictSignatures: boolean;
  /** Only what a content template lets pass is sent. */
  readonly templatesOnly: boolean;
  /** Null: any time. */
  readonly sendingWindow: SendingWindow | null;
  /** `delivered`: any other final state gives the whole hold back; `accepted`: what the carrier took is paid for. */
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
  /** What becomes of a batch outside it. */
  readonly mode: 'intercept' | 'review';
}

/** Of multimedia packages; what is left out has the value of `defaultPackageLimits`. */
export interface ProductLimits {
  /** Texts and media together. */
  readonly packageKiB?: number;
  readonly frames?: number;
  /** Of one frame's text. */
  readonly textCharacters?: number;
}

export const defaultPackageLimits: Required<ProductLimits> = { packageKiB: 1900, frames: 15, textCharacters: 2000 };

export interface Subscription {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly productId: bigint;
  /** How its customer speaks, see dialect.ts. */
  readonly dialect: string;
  readonly spId: bigint | null;
  /** Ten-thousandths of the product's unit, per billed segment (aim, sms) or message (mms). */
  readonly priceE4: bigint;
  readonly extension: string;
  /** Priority class: 0 is served before 1. */
  readonly class: number;
  /** Instead of the product's; null: the product's. */
  readonly sendingWindow: SendingWindow | null;
  /** What becomes of a text that no content template and no word list matches. */
  readonly unmatched: 'pass' | 'intercept' | 'review';
  readonly pushUrls: { readonly report?: string; readonly reply?: string };
  readonly enabled: boolean;
  /** How fast it may be sent to; null: as fast as it comes. */
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

/** So many messages, and no more, may one number get of this subject within a period. */
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
  /** `probing`: it was unhealthy, and shows now whether it still is. */
  readonly health: 'healthy' | 'unhealthy' | 'probing';
  /** Why it is not healthy; null while it is. */
  readonly healthCause: HealthCause | null;
  /** An operator has said what it counts as: it is not judged. */
  readonly isHealthForced: boolean;
  readonly healthRules: HealthRules;
  /** The base number; extension and the customer's `ext` follow it on the wire. */
  readonly accessNumber: string;
  /** The protocol's own settings, checked when they were stored. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** What must be known of the protocols that channels speak, without knowing any of them; src/channels/kinds.ts hands it in. */
export interface ChannelKinds {
  readonly names: readonly string[];
  /** What is wrong with these settings of a channel, after its path, or with the name of its protocol; null if nothing is. */
  problemOf(protocol: string, settings: unknown): string | null;
}

/** No session; too many of its own failures; too few reports of success. */
export type HealthCause = 'no_session' | 'failures' | 'reports';

/** When a channel is unhealthy, and how it shows that it is well again. */
export interface HealthRules {
  /** Without a session, on any node, for so long. */
  readonly sessionSeconds: number;
  /** More than this share of so many last outcomes were the channel's own failures; of fewer than `leastOutcomes` nothing is concluded. */
  readonly outcomes: number;
  readonly leastOutcomes: number;
  readonly failurePercent: number;
  /** Less than this share of the last hour's reports told of success. 0: reports are not judged, since most failures are the numbers'. */
  readonly deliveredPercent: number;
  readonly leastReports: number;
  /** A session that came back must stand for so long. */
  readonly steadySeconds: number;
  /** The pause before it is tried with messages; doubled, up to the longest, as often as that goes wrong in a row. */
  readonly pauseSeconds: number;
  readonly longestPauseSeconds: number;
  /** With how many it is tried. */
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

/** How far a carrier is with a signature. */
export type Registration = 'pending' | 'registered' | 'rejected';

export interface Signature {
  readonly id: bigint;
  /** By carrier; one that is not named has not been asked. */
  readonly registrations: Readonly<Partial<Record<Carrier, Registration>>>;
}

export type TemplateState = 'pending' | 'approved' | 'rejected' | 'withdrawn';

/** What an operator changes while the platform runs. */
export interface PlatformSettings {
  /** Whole texts by which a person wants no more, compared trimmed, without case, full-width letters folded. */
  readonly optOutWords: readonly string[];
  /** A message without a report for so long has expired. */
  readonly reportWithinHours: number;
  /** How far back the message that a reply answers is looked for. */
  readonly replyWithinDays: number;
  /** Rows that one pull hands out, and one push carries, at the most. */
  readonly rowsPerPull: number;
  readonly rowsPerPush: number;
  /** Failed credentials from one address for one sp_id or api_id, before it must wait for the rest of a minute. */
  readonly failuresPerMinute: number;
  /** The same from one address for whatever it tries, before nothing of it is listened to. */
  readonly addressFailuresPerMinute: number;
  /** Pauses before an MMS push that was not taken comes again; when they are used up it has failed. */
  readonly pushDelaysSeconds: readonly number[];
  /** MMS pushes to one address at the same time. */
  readonly pushConcurrency: number;
  /** What waits for a person that long is rejected. */
  readonly reviewWithinHours: number;
  /** Codes by which a carrier says that a number is not its own; see docs/numbers.md. */
  readonly foreignNumberCodes: readonly string[];
  /** Days that messages, events and what belongs to them are kept. */
  readonly retentionDays: number;
  /** Days that an event waits to be taken, and its day is kept for it, at the most; no fewer than `retentionDays`. */
  readonly waitingDays: number;
  /** Days that a batch's totals and its entries in the ledger are kept; no fewer than `retentionDays`. */
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
