/**
 * Magic numbers and texts: what to send in the sandbox to see each status that a client may meet. This table is the only source:
 * demo-data.ts seeds the data it needs, magic.test.ts sends every row through the API, and the tables of the READMEs and a column of
 * docs/codes.md are generated from it.
 *
 * The platform knows nothing of this. What a carrier says about a number is simulated (simulators/fates.ts). Every status of screening
 * comes from its own rule, through the policy seeded here: numbers on lists, words on word lists, a signature with a cap, and
 * subscriptions whose policy would stop everything else.
 */
import type { FateDigits } from '../simulators/fates.ts';
import type { SubscriptionSettings } from '../src/core/catalogue/accounts.ts';
import type { ProductSettings } from '../src/core/catalogue/products.ts';
import { explain } from '../src/core/watch/codes.ts';

export type Language = 'en' | 'zh';
type Words = Readonly<Record<Language, string>>;
/** The dialects. */
export type Dialect = 'aim' | 'mms';

// ── what carriers say ────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Outcome extends Words {
  /** As AIM reports it. */
  readonly status: string;
  /** As MMS reports it, if that differs (beyond `DELIVERED` for `DELIVRD`). */
  readonly mms?: string;
  /** What the person answers. */
  readonly reply?: string;
}

const delivered = 'DELIVRD';

/** By the last four digits of a number. */
const outcomesByDigits: Readonly<Record<'other' | FateDigits, Outcome>> = {
  other: { status: delivered, en: 'delivered after about a second', zh: '约一秒后送达' },
  '0001': { status: 'UNDELIV', en: 'cannot be delivered', zh: '无法送达' },
  '0002': { status: 'EXPIRED', en: 'expires at the carrier', zh: '在运营商处过期' },
  '0003': { status: 'REJECTD', en: 'rejected after it was accepted', zh: '接收后被拒绝' },
  '0004': { status: 'MK:0001', en: 'the network’s own code', zh: '运营商网络自己的代码' },
  '0005': {
    status: 'ER:0013',
    mms: 'ER:2002',
    en: 'the carrier rejects the submit with this result',
    zh: '运营商拒收提交，给出此结果码',
  },
  '0006': { status: delivered, en: 'the carrier throttles once, then accepts', zh: '运营商先限流一次，再接收' },
  '0007': { status: 'EXPIRED', en: 'no report comes; after 72 hours the message counts as expired', zh: '永远没有报告；72 小时后记为过期' },
  '0008': { status: delivered, en: 'the report comes after 30 seconds', zh: '30 秒后才有报告' },
  '0009': { status: delivered, en: 'the report comes twice; the customer gets it once', zh: '报告来两次；客户只收到一条' },
  '0010': { status: delivered, en: 'the report comes before the submit response', zh: '报告先于提交应答到达' },
  '0011': { status: delivered, reply: 'TD', en: 'delivered, then the person replies', zh: '送达，随后本人回复' },
  '0012': { status: delivered, reply: '你好,|世界', en: 'delivered, then the person replies', zh: '送达，随后本人回复' },
};

const statusIn = (dialect: Dialect, { status, mms }: Outcome): string =>
  dialect === 'aim' ? status : (mms ?? (status === delivered ? 'DELIVERED' : status));

export const outcomes = Object.entries(outcomesByDigits).map(([digits, outcome]) => ({
  digits,
  aim: statusIn('aim', outcome),
  mms: statusIn('mms', outcome),
  reply: outcome.reply ?? null,
  words: outcome as Words,
}));

// ── what policy says ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** An ordinary number of China Mobile. */
export const plainNumber = '13700000000';

/** On the platform's list of empty numbers, and on one list each of the products, subscriptions and the signature of account demo. */
export const listedNumbers = {
  empty: '13800000021',
  product: '13800000022',
  subscription: '13800000023',
  signature: '13800000024',
} as const;

/** On word lists of the platform. */
export const listedWords = { intercept: '沙箱拦截', review: '沙箱审核' } as const;

/** A signature of account demo that no number may see more than once within 24 hours. */
export const cappedSignature = '限频';

/** What the platform's only content templates let pass. */
export const templateText = '按模板发送';

interface Policy {
  readonly name: string;
  readonly product?: ProductSettings;
  readonly subscription?: SubscriptionSettings;
}

/** From midnight to midnight: no time of day is within. */
const never = { from: '00:00', to: '00:00' };

/** This pool has one channel that serves only China Unicom in 西藏, and one for China Telecom that is out of order. */
export const brokenPoolId = 3n;

/** Each has a product and a subscription. The number is the number of the rule; 40 is rule 4 as well, and 20 is none. */
const policiesById = {
  3: { name: '签名须在运营商报备', product: { strictSignatures: true } },
  4: { name: '时段外拦截', subscription: { sendingWindow: { ...never, mode: 'intercept' } } },
  40: { name: '时段外审核', subscription: { sendingWindow: { ...never, mode: 'review' } } },
  7: { name: '只按模板发送', product: { templatesOnly: true } },
  8: { name: '无模板则拦截', subscription: { unmatched: 'intercept' } },
  9: { name: '无模板则审核', subscription: { unmatched: 'review' } },
  15: { name: '每秒一条', subscription: { rateLimit: { perSecond: 1, burst: 1 } } },
  16: { name: '没有通道', product: { poolId: null } },
  17: { name: '通道残缺', product: { poolId: brokenPoolId } },
  20: { name: '不确定则放弃', product: { inDoubt: 'give_up' } },
} as const satisfies Readonly<Record<number, Policy>>;
type PolicyId = keyof typeof policiesById;

/** How the message differs from an ordinary one, and what an operator does afterwards. */
export interface Trial {
  /** Default: a plain number. */
  readonly to?: string;
  /** Default: a registered one. Null: none. */
  readonly signature?: string | null;
  /** Is in the text. */
  readonly word?: string;
  readonly policy?: PolicyId;
  /** The number follows another one in the request, or has had the same message before. */
  readonly second?: 'number' | 'time';
  /** Set before the message, and removed afterwards. */
  readonly faults?: string;
  /** A batch in review is rejected; one that is planned for later is cancelled. */
  readonly ending?: 'rejected' | 'cancelled';
}

export interface MagicRow {
  readonly status: string;
  /** Null: this dialect cannot have it. */
  readonly aim: Trial | null;
  readonly mms: Trial | null;
}

/** Every submit is taken, and the connection breaks before the answer. */
const connectionsBreak = '{"all":{"dropShare":1}}';

const both = (status: string, trial: Trial): MagicRow => ({ status, aim: trial, mms: trial });

export const magicRows: readonly MagicRow[] = [
  // An MMS to this number alone is refused with the request.
  { status: 'WL:CWHM', aim: { to: '12000000000' }, mms: { to: '12000000000', second: 'number' } },
  // The signature of an MMS is a parameter of its own; if it is not registered, the request is refused.
  { status: 'WL:MQM', aim: { signature: null }, mms: null },
  { status: 'WL:QWBB', aim: { signature: '未报备' }, mms: { policy: 3, to: '13000000000' } },
  both('WL:TCLJ', { policy: 4 }),
  both('WL:TCSH', { policy: 40, ending: 'rejected' }),
  both('WL:MBLJ', { word: listedWords.intercept }),
  both('WL:MBSH', { word: listedWords.review, ending: 'rejected' }),
  both('WL:ZJLJ', { policy: 7 }),
  both('WL:NMLJ', { policy: 8 }),
  both('WL:NMSH', { policy: 9, ending: 'rejected' }),
  both('WL:KHLJ', { to: listedNumbers.empty }),
  both('WL:CHLJ', { to: listedNumbers.product }),
  both('WL:SHLJ', { to: listedNumbers.subscription }),
  both('WL:QHLJ', { to: listedNumbers.signature }),
  both('WL:CPL', { signature: cappedSignature, second: 'time' }),
  both('WL:CS', { policy: 15, second: 'number' }),
  both('WL:CMT', { policy: 16 }),
  both('WL:CGMT', { policy: 17, to: plainNumber }),
  both('WL:CDQC', { policy: 17, to: '13000000000' }),
  both('WL:CNH', { policy: 17, to: '13300000000' }),
  // By default, an MMS in doubt is given up.
  { status: 'UNKNOWN', aim: { policy: 20, faults: connectionsBreak }, mms: { faults: connectionsBreak } },
  { status: 'CANCELED', aim: null, mms: { ending: 'cancelled' } },
];

/** The `sp_id` of account demo, or the product of account rules, that has a policy; the same for an ordinary message. */
export const spIdOf = (policy: PolicyId | undefined): bigint => (policy === undefined ? 500_001n : 500_100n + BigInt(policy));
export const mmsProductOf = (policy: PolicyId | undefined): bigint => (policy === undefined ? 1018n : 1100n + BigInt(policy));

/** The policies that some row of a dialect needs. */
export const policiesOf = (dialect: Dialect): readonly (Policy & { readonly id: PolicyId })[] =>
  [...new Set(magicRows.flatMap((row) => row[dialect]?.policy ?? []))].map((id) => ({ id, ...policiesById[id] }));

// ── in words ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const parts: Readonly<Record<Language, Readonly<Record<keyof Omit<Trial, 'policy'>, (value: string | null) => string>>>> = {
  en: {
    to: (number) => `to \`${number}\``,
    signature: (name) => (name === null ? 'no signature' : `signed \`【${name}】\``),
    word: (word) => `text with \`${word}\``,
    second: (what) => (what === 'time' ? 'the second time in 24 hours' : 'after another number'),
    faults: (faults) => `with the faults \`${faults}\` set`,
    ending: (what) => (what === 'rejected' ? 'then rejected in review' : '`send_time` tomorrow, then cancelled'),
  },
  zh: {
    to: (number) => `发给 \`${number}\``,
    signature: (name) => (name === null ? '不带签名' : `签名 \`【${name}】\``),
    word: (word) => `文字含 \`${word}\``,
    second: (what) => (what === 'time' ? '24 小时内第二次' : '排在另一个号码之后'),
    faults: (faults) => `故障为 \`${faults}\` 时`,
    ending: (what) => (what === 'rejected' ? '再驳回' : '`send_time` 为明天，再取消'),
  },
};

/** How to cause a status, in half a sentence; null if the dialect cannot have it. */
function inWords(row: MagicRow, dialect: Dialect, language: Language): string | null {
  const trial = row[dialect];
  if (!trial) return null;
  const { policy, ...rest } = trial;
  const whose = dialect === 'aim' ? `\`sp_id\` \`${spIdOf(policy)}\`` : `\`product_id\` \`${mmsProductOf(policy)}\``;
  const said = (['to', 'signature', 'word', 'second', 'faults', 'ending'] as const).flatMap((part) =>
    rest[part] === undefined ? [] : parts[language][part](rest[part]),
  );
  return [...(policy === undefined ? [] : [whose]), ...said].join(language === 'en' ? ', ' : '，');
}

const heads: Readonly<Record<Language, { readonly outcomes: readonly string[]; readonly rows: readonly string[] }>> = {
  en: { outcomes: ['ends with', 'what happens', 'AIM', 'MMS'], rows: ['status', 'what it is', 'AIM', 'MMS'] },
  zh: { outcomes: ['尾号', '发生什么', 'AIM', '彩信'], rows: ['状态', '含义', 'AIM', '彩信'] },
};

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

const code = (text: string): string => `\`${text.replaceAll('|', '\\|')}\``;

/** What becomes of a message by the number it is for. */
export const outcomeTable = (language: Language): string =>
  table(
    heads[language].outcomes,
    outcomes.map(({ digits, aim, mms, reply, words }) => [
      digits === 'other' && language === 'zh' ? '其他' : digits,
      words[language] + (reply === null ? '' : ` ${code(reply)}`),
      code(aim),
      code(mms),
    ]),
  );

/** How to meet the statuses that the platform gives. */
export const magicTable = (language: Language): string =>
  table(
    heads[language].rows,
    magicRows.map((row) => [
      code(row.status),
      explain(row.status)?.[language].meaning ?? '',
      inWords(row, 'aim', language) ?? '—',
      inWords(row, 'mms', language) ?? '—',
    ]),
  );

/** How to meet a code of docs/codes.md, where `MK:*` stands for all codes that begin so. Empty if the sandbox has no magic for it. */
export function magicOf(wanted: string, language: Language): string {
  const row = magicRows.find(({ status }) => status === wanted);
  if (row) {
    const words = { aim: inWords(row, 'aim', language), mms: inWords(row, 'mms', language) };
    if (words.aim === words.mms || words.mms === null) return words.aim ?? '';
    const mms = language === 'en' ? `MMS: ${words.mms}` : `彩信：${words.mms}`;
    return words.aim === null ? mms : `${words.aim}${language === 'en' ? '; ' : '；'}${mms}`;
  }
  const found = outcomes.filter(({ aim, mms }) => [aim, mms].some((status) => explain(status)?.code === wanted));
  const digits = found.flatMap(({ digits }) => (digits === 'other' ? [] : `\`…${digits}\``));
  if (found.length === 0) return '';
  if (found.length > digits.length) return language === 'en' ? 'to any other number' : '发给其他号码';
  return language === 'en' ? `to ${digits.join(', ')}` : `发给 ${digits.join('、')}`;
}
