/**
 * Interception rules in their order. They are pure rules over cached policy, and set-based queries over a whole batch where a table is
 * needed. The first rule that fires decides about a recipient; the timeline keeps which rule and which entry fired.
 *
 * The engine does not depend on any single rule. It asks the rules concurrently, each about every recipient, and merges the findings by
 * rule number; a new rule is one more entry in `rules`. docs/codes.md describes the rules.
 */
import type { Sql } from '../../db/db.ts';
import { groupBy } from '../../std/group.ts';
import { wallClock } from '../../std/shanghai.ts';
import { type CapRefusal, cappedSubjects, takeCaps } from './caps.ts';
import type { ContentRules } from './content-rules.ts';
import type { BlocklistKind, Directory, Tenancy } from '../config/directory.ts';
import { takeRate } from '../money/ledger.ts';
import type { OnList } from '../catalogue/list-lookup.ts';
import type { SendingWindow } from '../model/configuration.ts';
import type { ScreeningStatus } from '../model/statuses.ts';
import type { Phone } from '../numbers/number-plan.ts';
import { byDestination, type Destination, type Route, route } from '../queue/routing.ts';

/** A batch as the rules see it. */
export interface Inquiry {
  readonly tenancy: Tenancy;
  /** The text with its signature. */
  readonly content: string;
  /** The text for content rules: for a multimedia message it includes the title. */
  readonly words: string;
  /** One per recipient; null if the recipient is not a valid number. */
  readonly phones: readonly (Phone | null)[];
  /** When it is to be sent. */
  readonly sendAt: Date;
}

/** Why a recipient does not pass: the rule's number, the status the customer sees, and the entry that fired. */
export interface Verdict {
  readonly rule: number;
  readonly code: ScreeningStatus;
  readonly entry: Readonly<Record<string, string | number>>;
  /** The recipient waits for a person, who may let it pass; otherwise it has ended. */
  readonly review: boolean;
}

interface Finding {
  readonly code: ScreeningStatus;
  readonly entry: Verdict['entry'];
  readonly review?: boolean;
  /** Indexes of the recipients concerned; absent means all. */
  readonly indexes?: readonly number[];
}

export interface ScreeningDeps {
  readonly onList: OnList;
  readonly directory: Directory;
  readonly contentRules: Pick<ContentRules, 'judge'>;
}

/** What all rules share about a batch, computed once. */
interface Case extends Inquiry {
  readonly signature: string | null;
  /** The finding of content templates and word lists about the words; null if none matches. */
  readonly matched: ReturnType<ContentRules['judge']>;
  /** The account's own list of numbers that are exempt from blocklists and caps. */
  readonly exempt: ReadonlySet<bigint>;
  readonly destinations: ReturnType<typeof byDestination>;
}

interface Rule {
  readonly number: number;
  judge(deps: ScreeningDeps, batch: Case): Finding[] | Promise<Finding[]>;
}

/** The signature in front of (or behind) a text, without its brackets; null if there is none of 2…20 characters. */
function signatureOf(content: string): string | null {
  const text = content.trim();
  const found = /^【([^【】]{2,20})】/u.exec(text) ?? /【([^【】]{2,20})】$/u.exec(text);
  return found?.[1] ?? null;
}

/** A rule about the batch as a whole. */
const wholeBatch = (number: number, judge: (batch: Case) => Finding | null): Rule => ({
  number,
  judge: (_, batch) => {
    const finding = judge(batch);
    return finding ? [finding] : [];
  },
});

const indexesOf = (phones: Inquiry['phones'], concerns: (phone: Phone) => boolean): number[] =>
  phones.flatMap((phone, index) => (phone && concerns(phone) ? [index] : []));

const validNumber: Rule = {
  number: 1,
  judge: (_, { phones }) => {
    const indexes = phones.flatMap((phone, index) => (phone ? [] : [index]));
    return indexes.length > 0 ? [{ code: 'WL:CWHM', entry: {}, indexes }] : [];
  },
};

const signaturePresent = wholeBatch(2, ({ tenancy, signature }) =>
  tenancy.product.signatureRequired && signature === null ? { code: 'WL:MQM', entry: {} } : null,
);

/** The signature is registered for this account and, if the product is strict, with the number's carrier. */
const signatureRegistered: Rule = {
  number: 3,
  judge({ directory }, { tenancy, signature: name, destinations }) {
    if (name === null) return [];
    const signature = directory.signature(tenancy.account.id, name);
    if (!signature) return [{ code: 'WL:QWBB', entry: { signature: name } }];
    if (!tenancy.product.strictSignatures) return [];
    // A ported number may be with one of several carriers; it is enough if one of them knows the signature.
    return [...groupBy(destinations, ({ destination }) => nameOf(destination))].flatMap(([carrier, alike]): Finding[] => {
      const states = (alike[0]?.destination.carriers ?? []).map((one) => signature.registrations[one] ?? 'unregistered');
      if (states.includes('registered')) return [];
      const entry = { signature: name, carrier, state: states[0] ?? 'unregistered' };
      return [{ code: 'WL:QWBB', entry, indexes: alike.flatMap(({ indexes }) => indexes) }];
    });
  },
};

/** `mobile`; or `unicom/telecom/broadcast` for a ported number whose carrier is not known. */
const nameOf = ({ carriers }: Destination): string => carriers.join('/');

/** Whether a time lies within a window; a window that ends before it begins passes midnight. */
function isWithin({ from, to }: SendingWindow, at: Date): boolean {
  const time = wallClock(at).slice(11, 16);
  return from <= to ? from <= time && time < to : time >= from || time < to;
}

const sendingWindow = wholeBatch(4, ({ tenancy, sendAt }) => {
  const window = tenancy.subscription.sendingWindow ?? tenancy.product.sendingWindow;
  if (!window || isWithin(window, sendAt)) return null;
  const entry = { from: window.from, to: window.to };
  return window.mode === 'review' ? { code: 'WL:TCSH', entry, review: true } : { code: 'WL:TCLJ', entry };
});

const contentIntercepted = wholeBatch(5, ({ matched }) =>
  matched?.verdict === 'intercept' ? { code: 'WL:MBLJ', entry: matched.entry } : null,
);
const contentReviewed = wholeBatch(6, ({ matched }) =>
  matched?.verdict === 'review' ? { code: 'WL:MBSH', entry: matched.entry, review: true } : null,
);
const templatesOnly = wholeBatch(7, ({ tenancy, matched }) =>
  matched === null && tenancy.product.templatesOnly ? { code: 'WL:ZJLJ', entry: { product: String(tenancy.product.id) } } : null,
);
const unmatchedIntercepted = wholeBatch(8, ({ tenancy, matched }) =>
  matched === null && tenancy.subscription.unmatched === 'intercept' ? { code: 'WL:NMLJ', entry: {} } : null,
);
const unmatchedReviewed = wholeBatch(9, ({ tenancy, matched }) =>
  matched === null && tenancy.subscription.unmatched === 'review' ? { code: 'WL:NMSH', entry: {}, review: true } : null,
);

/** One query for each list, never one for each number. */
function blocklistRule(
  number: number,
  code: ScreeningStatus,
  subjects: (batch: Case, directory: Directory) => [BlocklistKind, bigint][],
): Rule {
  return {
    number,
    judge({ onList, directory }, batch) {
      const lists = subjects(batch, directory).flatMap(([kind, subject]) => directory.blocklist(kind, subject) ?? []);
      if (lists.length === 0) return [];
      const asked = batch.phones.flatMap((phone) => (phone && !batch.exempt.has(phone.e164) ? [phone.e164] : []));
      return Promise.all(
        lists.map(async (list) => {
          const blocked = await onList(list, asked);
          return { code, entry: { list: String(list) }, indexes: indexesOf(batch.phones, ({ e164 }) => blocked.has(e164)) };
        }),
      ).then((findings) => findings.filter(({ indexes }) => indexes.length > 0));
    },
  };
}

const emptyNumber = blocklistRule(10, 'WL:KHLJ', () => [['empty', 0n]]);
const productBlocklist = blocklistRule(11, 'WL:CHLJ', ({ tenancy }) => [
  ['system', 0n],
  ['product', tenancy.product.id],
]);
const subscriptionBlocklist = blocklistRule(12, 'WL:SHLJ', ({ tenancy }) => [['subscription', tenancy.subscription.id]]);
const signatureBlocklist = blocklistRule(13, 'WL:QHLJ', ({ tenancy, signature: name }, directory) => {
  const signature = name === null ? undefined : directory.signature(tenancy.account.id, name);
  return signature ? [['signature', signature.id]] : [];
});

const productHasPool: Rule = {
  number: 16,
  judge: ({ directory }, { tenancy }) => {
    const { id, poolId } = tenancy.product;
    return poolId === null || !directory.pool(poolId) ? [{ code: 'WL:CMT', entry: { product: String(id) } }] : [];
  },
};

/** Numbers of one destination have the same route, so each destination is routed once. */
function routeRule(number: number, code: ScreeningStatus, missing: Exclude<Route['kind'], 'channels' | 'no_pool'>): Rule {
  return {
    number,
    judge: ({ directory }, { tenancy, destinations }) =>
      destinations.flatMap(({ destination, indexes }): Finding[] => {
        const { province } = destination;
        const found = route(directory, tenancy.product, destination);
        if (found.kind !== missing) return [];
        const entry = { pool: String(found.poolId), carrier: nameOf(destination), ...(province !== null && { province }) };
        return [{ code, entry, indexes }];
      }),
  };
}

const poolServesCarrier = routeRule(17, 'WL:CGMT', 'no_carrier');
const poolServesProvince = routeRule(18, 'WL:CDQC', 'no_province');
const someChannelIsHealthy = routeRule(19, 'WL:CNH', 'unhealthy');

/** All rules except those that count (14 and 15), which run inside the transaction. */
const rules: readonly Rule[] = [
  validNumber,
  signaturePresent,
  signatureRegistered,
  sendingWindow,
  contentIntercepted,
  contentReviewed,
  templatesOnly,
  unmatchedIntercepted,
  unmatchedReviewed,
  emptyNumber,
  productBlocklist,
  subscriptionBlocklist,
  signatureBlocklist,
  productHasPool,
  poolServesCarrier,
  poolServesProvince,
  someChannelIsHealthy,
];

/** When a person approves a batch, it is judged again from this rule on. Numbers are also validated again, since ranges may be removed. */
export const firstRuleAfterReview = 10;

/** The findings of each rule by itself, in the order of the rules: for a preview. */
export async function findingsOf(deps: ScreeningDeps, inquiry: Inquiry, firstRule = 1): Promise<{ rule: number; findings: Finding[] }[]> {
  const { account } = inquiry.tenancy;
  const batch: Case = {
    ...inquiry,
    signature: signatureOf(inquiry.content),
    destinations: byDestination(inquiry.phones),
    matched: firstRule < firstRuleAfterReview ? deps.contentRules.judge(account.id, inquiry.words) : null,
    exempt: new Set(account.exemptNumbers),
  };
  const asked = rules.filter((rule) => rule === validNumber || rule.number >= firstRule);
  const findings = await Promise.all(asked.map(async (rule) => rule.judge(deps, batch)));
  return asked.map(({ number }, index) => ({ rule: number, findings: findings[index] ?? [] }));
}

/** One verdict for each recipient; null lets it pass. */
export async function judge(deps: ScreeningDeps, inquiry: Inquiry, firstRule = 1): Promise<(Verdict | null)[]> {
  const verdicts = new Array<Verdict | null>(inquiry.phones.length).fill(null);
  for (const { rule, findings } of await findingsOf(deps, inquiry, firstRule)) {
    for (const { indexes, code, entry, review = false } of findings) {
      const verdict = { rule, code, entry, review };
      for (const index of indexes ?? verdicts.keys()) verdicts[index] ??= verdict;
    }
  }
  return verdicts;
}

/** Whether the rules that count may intercept recipients that `judge` has let pass. */
export function mayCount(directory: Directory, tenancy: Tenancy, content: string): boolean {
  const signatureId = signatureIdOf(directory, tenancy, content);
  return (
    tenancy.subscription.rateLimit !== null || cappedSubjects(directory, tenancy, signatureId === null ? [] : [signatureId]).length > 0
  );
}

/** The registered signature that a text carries. */
const signatureIdOf = (directory: Directory, { account }: Tenancy, content: string): bigint | null =>
  directory.signature(account.id, signatureOf(content) ?? '')?.id ?? null;

/** Batches of one subscription as the rules that count see them. */
type Counted = Pick<Inquiry, 'content' | 'phones'> & { readonly verdicts: readonly (Verdict | null)[] };

/**
 * Rules 14 and 15, which count. They run in the transaction that accepts batches of one subscription, on the numbers that would otherwise
 * pass. What they intercept is not counted. Returns the verdicts of each batch, unchanged if nothing is counted.
 */
export async function judgeCounting(
  { sql, directory }: { sql: Sql; directory: Directory },
  tenancy: Tenancy,
  batches: readonly Counted[],
  at: Date,
): Promise<(readonly (Verdict | null)[])[]> {
  const { account, subscription } = tenancy;
  const { rateLimit } = subscription;
  const signatureIds = batches.map(({ content }) => signatureIdOf(directory, tenancy, content));
  const subjects = cappedSubjects(
    directory,
    tenancy,
    signatureIds.filter((id) => id !== null),
  );
  const judged = batches.map(({ verdicts }) => [...verdicts]);
  if (subjects.length === 0 && !rateLimit) return judged;

  const exempt = new Set(account.exemptNumbers);
  const passing = batches.flatMap(({ phones, verdicts }, batch) =>
    phones.flatMap((phone, index) => (phone && !verdicts[index] ? [{ batch, index, phone: phone.e164 }] : [])),
  );
  const refuse = ({ batch, index }: { batch: number; index: number }, verdict: Omit<Verdict, 'review'>): void => {
    const verdicts = judged[batch];
    if (verdicts) verdicts[index] = { ...verdict, review: false };
  };

  let room = rateLimit ? await takeRate(sql, account.id, subscription.id, rateLimit, passing.length, at) : passing.length;
  let from = 0;
  // Usually one round: a number that a cap refuses leaves its place to a later one.
  while (room > 0 && from < passing.length) {
    const some = passing.slice(from, from + room);
    from += some.length;
    const asked = some.flatMap(({ batch, phone }, ordinal) =>
      exempt.has(phone) ? [] : [{ ordinal, phone, signatureId: signatureIds[batch] ?? null }],
    );
    const refused = subjects.length > 0 ? await takeCaps(sql, subjects, asked, at) : new Map<number, CapRefusal>();
    for (const [ordinal, { cap, subjectId, ...refusal }] of refused) {
      const one = some[ordinal];
      if (one) refuse(one, { rule: 14, code: 'WL:CPL', entry: { cap: String(cap), subject: String(subjectId), ...refusal } });
    }
    room -= some.length - refused.size;
  }
  if (rateLimit) {
    for (const one of passing.slice(from)) refuse(one, { rule: 15, code: 'WL:CS', entry: { ...rateLimit } });
    if (room > 0) await takeRate(sql, account.id, subscription.id, rateLimit, -room, at);
  }
  return judged;
}
