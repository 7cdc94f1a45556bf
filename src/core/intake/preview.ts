/**
 * Shows what a submission would result in: each rule's verdict and the price. Stores and counts nothing: the rules that count run in a
 * transaction that is rolled back.
 */
import type { Db } from '../../db/db.ts';
import type { Tenancy } from '../config/directory.ts';
import { listLookup } from '../catalogue/list-lookup.ts';
import type { NumberPlan, Phone } from '../numbers/number-plan.ts';
import { priceOfSlices, slicesOf } from './placement.ts';
import { withPorted } from '../numbers/portability.ts';
import { findingsOf, judge, judgeCounting, type ScreeningDeps, type Verdict } from '../screening/rules.ts';
import { contentKinds, kindOfMedium } from '../content/kinds.ts';
import { pricing } from './submit.ts';

export interface WouldBe {
  readonly numbers: readonly string[];
  readonly content: string;
  /** The title of a multimedia message; empty otherwise. */
  readonly title: string;
  readonly sendAt: Date;
}

export interface Preview {
  /** The finding of each rule by itself, in the order of the rules; rules without a finding are left out. */
  readonly rules: readonly {
    readonly rule: number;
    readonly code: string;
    readonly verdict: 'intercept' | 'review';
    readonly entry: Verdict['entry'];
    /** How many recipients it concerns. */
    readonly recipients: number;
  }[];
  /** The verdict of the first rule that fires for each recipient, in the order given; repeated numbers are left out. */
  readonly recipients: readonly {
    readonly number: string;
    readonly rule: number | null;
    readonly code: string | null;
    readonly verdict: 'pass' | 'intercept' | 'review';
    /** Null if it is not a valid number. */
    readonly phone: Phone | null;
  }[];
  /** Billed segments of a message to a number at home. */
  readonly segments: number;
  /** The amount that would be held. */
  readonly priceE4: bigint;
}

type PreviewDeps = Omit<ScreeningDeps, 'onList'> & {
  readonly db: Db;
  readonly numberPlan: Pick<NumberPlan, 'read'>;
  readonly clock: () => Date;
  readonly linkBase: string;
};

const verdictOf = (review: boolean | undefined): 'intercept' | 'review' => (review ? 'review' : 'intercept');

export async function preview(
  { db, directory, contentRules, numberPlan, clock, linkBase }: PreviewDeps,
  tenancy: Tenancy,
  wouldBe: WouldBe,
): Promise<Preview> {
  const numbers = distinct(wouldBe.numbers, numberPlan);
  const phones = await withPorted(
    db.sql,
    directory,
    numbers.map(({ phone }) => phone),
  );
  const kind = contentKinds[kindOfMedium[tenancy.product.medium]];
  const { content, title, sendAt } = wouldBe;
  const words = kind.words({ text: content, package: { subject: title, frames: [] } });
  const inquiry = { tenancy, content, words, phones, sendAt };
  const deps = { onList: listLookup(db.sql), directory, contentRules };
  const findings = await findingsOf(deps, inquiry);
  const before = await judge(deps, inquiry);
  const verdicts = await counted(db, { directory }, tenancy, { content, phones, verdicts: before }, clock());

  const rules = findings.flatMap(({ rule, findings: own }) =>
    own.map(({ code, entry, review, indexes }) => ({
      rule,
      code,
      verdict: verdictOf(review),
      entry,
      recipients: indexes?.length ?? phones.length,
    })),
  );
  // The rules that count run only on numbers that no other rule stops.
  const late = new Map<string, { rule: number; code: string; verdict: 'intercept'; entry: Verdict['entry']; recipients: number }>();
  for (const verdict of verdicts.filter((verdict, index) => verdict && verdict !== before[index]) as Verdict[]) {
    const key = JSON.stringify(verdict);
    const known = late.get(key) ?? { rule: verdict.rule, code: verdict.code, verdict: 'intercept', entry: verdict.entry, recipients: 0 };
    late.set(key, { ...known, recipients: known.recipients + 1 });
  }

  const segments = kind.bill({ text: content }, linkBase);
  const judged = { phones, written: numbers.map(({ written }) => written), values: [], verdicts };
  const slices = slicesOf(directory, tenancy, judged, pricing(tenancy, segments, phones));
  return {
    rules: [...rules, ...late.values()].sort((a, b) => a.rule - b.rule),
    recipients: numbers.map(({ written }, index) => {
      const verdict = verdicts[index];
      const said: Pick<Preview['recipients'][number], 'rule' | 'code' | 'verdict'> = verdict
        ? { rule: verdict.rule, code: verdict.code, verdict: verdictOf(verdict.review) }
        : { rule: null, code: null, verdict: 'pass' };
      return { number: written, ...said, phone: phones[index] ?? null };
    }),
    segments: segments.mainland,
    priceE4: priceOfSlices(slices),
  };
}

/** Carries the findings out of a transaction that must be rolled back. */
class NotKept extends Error {
  readonly verdicts: readonly (Verdict | null)[];
  constructor(verdicts: readonly (Verdict | null)[]) {
    super('rolled back on purpose');
    this.verdicts = verdicts;
  }
}

async function counted(
  db: Db,
  deps: Pick<ScreeningDeps, 'directory'>,
  tenancy: Tenancy,
  batch: { content: string; phones: readonly (Phone | null)[]; verdicts: readonly (Verdict | null)[] },
  at: Date,
): Promise<readonly (Verdict | null)[]> {
  try {
    await db.transaction(async (sql) => {
      const [verdicts = batch.verdicts] = await judgeCounting({ sql, ...deps }, tenancy, [batch], at);
      throw new NotKept(verdicts);
    });
  } catch (error) {
    if (error instanceof NotKept) return error.verdicts;
    throw error;
  }
  return batch.verdicts;
}

function distinct(numbers: readonly string[], numberPlan: Pick<NumberPlan, 'read'>): { written: string; phone: Phone | null }[] {
  const byNumber = new Map<bigint | string, { written: string; phone: Phone | null }>();
  for (const written of numbers) {
    const phone = numberPlan.read(written);
    const key = phone?.e164 ?? written;
    if (!byNumber.has(key)) byNumber.set(key, { written, phone });
  }
  return [...byNumber.values()];
}
