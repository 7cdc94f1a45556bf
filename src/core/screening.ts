/**
 * Interception rules in their order: pure rules over cached policy, set-based queries where a table must be asked, over a whole
 * batch at once. The first rule that fires decides a recipient's status; which rule and which entry fired is kept for the timeline.
 *
 * The engine knows nothing of any rule. Rules are asked side by side, each about every recipient, and merged in the order of their
 * numbers; a new rule is one more entry in `rules`.
 */
import type { Sql } from '../db/db.ts';
import type { BlocklistKind, Directory, Tenancy } from './directory.ts';
import type { Carrier } from './model.ts';
import type { Phone } from './numbers.ts';
import { route } from './routing.ts';

/** A batch as the rules see it. */
export interface Inquiry {
  readonly tenancy: Tenancy;
  readonly content: string;
  /** One per recipient; null where what was written is no valid number. */
  readonly phones: readonly (Phone | null)[];
}

/** Why a recipient does not pass: the rule's number, the status the customer sees, and the entry that fired. */
export interface Verdict {
  readonly rule: number;
  readonly code: string;
  readonly entry: Readonly<Record<string, string | number>>;
}

interface Finding extends Omit<Verdict, 'rule'> {
  /** Indexes of the recipients concerned; all when left out. */
  readonly indexes?: readonly number[];
}

interface RuleDeps {
  readonly sql: Sql;
  readonly directory: Directory;
}

interface Rule {
  readonly number: number;
  judge(deps: RuleDeps, inquiry: Inquiry): Finding[] | Promise<Finding[]>;
}

/** The signature in front of (or behind) a text, without its brackets; null if there is none of 2…20 characters. */
function signatureOf(content: string): string | null {
  const text = content.trim();
  const found = /^【([^【】]{2,20})】/u.exec(text) ?? /【([^【】]{2,20})】$/u.exec(text);
  return found?.[1] ?? null;
}

const validNumber: Rule = {
  number: 1,
  judge: (_, { phones }) => {
    const indexes = phones.flatMap((phone, index) => (phone ? [] : [index]));
    return indexes.length > 0 ? [{ code: 'WL:CWHM', entry: {}, indexes }] : [];
  },
};

const signaturePresent: Rule = {
  number: 2,
  judge: (_, { tenancy, content }) =>
    tenancy.product.signatureRequired && signatureOf(content) === null ? [{ code: 'WL:MQM', entry: {} }] : [],
};

/** One query for each list that exists, never one for each number. */
function blocklistRule(
  number: number,
  code: string,
  subjects: (inquiry: Inquiry, directory: Directory) => [BlocklistKind, bigint][],
): Rule {
  return {
    number,
    async judge({ sql, directory }, inquiry) {
      const findings: Finding[] = [];
      for (const [kind, subject] of subjects(inquiry, directory)) {
        const list = directory.blocklist(kind, subject);
        if (list === undefined) continue;
        const asked = inquiry.phones.flatMap((phone) => (phone ? [phone.e164] : []));
        const rows = await sql<{ phone: bigint }[]>`
          select phone from blocked_numbers where list_id = ${list} and phone = any(${asked}::bigint[])`;
        if (rows.length === 0) continue;
        const blocked = new Set(rows.map(({ phone }) => phone));
        const indexes = inquiry.phones.flatMap((phone, index) => (phone && blocked.has(phone.e164) ? [index] : []));
        findings.push({ code, entry: { list: String(list) }, indexes });
      }
      return findings;
    },
  };
}

const emptyNumber = blocklistRule(10, 'WL:KHLJ', () => [['empty', 0n]]);
const productBlocklist = blocklistRule(11, 'WL:CHLJ', ({ tenancy }) => [
  ['system', 0n],
  ['product', tenancy.product.id],
]);
const subscriptionBlocklist = blocklistRule(12, 'WL:SHLJ', ({ tenancy }) => [['subscription', tenancy.subscription.id]]);
const signatureBlocklist = blocklistRule(13, 'WL:QHLJ', ({ tenancy, content }, directory) => {
  const name = signatureOf(content);
  const id = name === null ? undefined : directory.signature(tenancy.account.id, name);
  return id === undefined ? [] : [['signature', id]];
});

const productHasPool: Rule = {
  number: 16,
  judge: ({ directory }, { tenancy }) => {
    const { id, poolId } = tenancy.product;
    return poolId === null || !directory.pool(poolId) ? [{ code: 'WL:CMT', entry: { product: String(id) } }] : [];
  },
};

const poolServesCarrier: Rule = {
  number: 17,
  judge: ({ directory }, { tenancy, phones }) =>
    [...new Set(phones.flatMap((phone) => (phone ? [phone.carrier] : [])))].flatMap((carrier: Carrier): Finding[] => {
      const found = route(directory, tenancy.product, carrier);
      if (found.kind !== 'no_channel') return [];
      const indexes = phones.flatMap((phone, index) => (phone?.carrier === carrier ? [index] : []));
      return [{ code: 'WL:CGMT', entry: { pool: String(found.poolId), carrier }, indexes }];
    }),
};

const rules: readonly Rule[] = [
  validNumber,
  signaturePresent,
  emptyNumber,
  productBlocklist,
  subscriptionBlocklist,
  signatureBlocklist,
  productHasPool,
  poolServesCarrier,
];

/** One verdict for each recipient: null lets it pass. */
export async function judge(deps: RuleDeps, inquiry: Inquiry): Promise<(Verdict | null)[]> {
  const verdicts = new Array<Verdict | null>(inquiry.phones.length).fill(null);
  const answers = await Promise.all(rules.map(async (rule) => ({ rule, findings: await rule.judge(deps, inquiry) })));
  for (const { rule, findings } of answers.sort((a, b) => a.rule.number - b.rule.number)) {
    for (const { indexes, code, entry } of findings) {
      const verdict = { rule: rule.number, code, entry };
      for (const index of indexes ?? verdicts.keys()) verdicts[index] ??= verdict;
    }
  }
  return verdicts;
}

/** Which of these numbers must not be sent to any more: asked again right before sending, since a person may have opted out since. */
export async function optedOut(sql: Sql, listId: bigint, phones: readonly bigint[]): Promise<ReadonlySet<bigint>> {
  const rows = await sql<{ phone: bigint }[]>`
    select phone from blocked_numbers where list_id = ${listId} and phone = any(${phones}::bigint[])`;
  return new Set(rows.map(({ phone }) => phone));
}
