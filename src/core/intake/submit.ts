/**
 * Accepting a submission: check the template, normalise, screen, route, price. Then one transaction stores the batch, its chunks, its queue
 * rows, its intercepted messages with their events, and holds the money. The customer is answered after the commit.
 *
 * Small submissions of one subscription share transactions: while one runs, the next submissions gather. So the lock of the balance row is
 * paid once per group, and a single submission never waits for others. A refusal stores nothing.
 */
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Db, type Sql, isConnectionLoss, isUniqueViolation, isUnknownCommit } from '../../db/db.ts';
import { groupBy } from '../../std/group.ts';
import { shanghaiDay } from '../../std/shanghai.ts';
import { type BatchRow, existing, findRequestId, insertBatches, nextBatchIds, rebuildReceipt, reserveRequestId } from '../queue/batches.ts';
import type { ContentRules } from '../screening/content-rules.ts';
import type { Directory, Tenancy } from '../config/directory.ts';
import { balanceOf, hold, insufficient } from '../money/ledger.ts';
import type { Segments, StoredContent } from '../content/kind.ts';
import { contentKinds, examine } from '../content/kinds.ts';
import { createGatheringLookup } from '../catalogue/list-lookup.ts';
import { Refusal } from '../model/refusals.ts';
import type { Receipt, RequestKey, Submission } from '../model/submission.ts';
import type { NumberPlan, Phone } from '../numbers/number-plan.ts';
import { storeMedia } from '../content/media.ts';
import { type Judged, place, type Price, priceOfSlices, rowsOf, type Slice, slicesOf } from './placement.ts';
import { withPorted } from '../numbers/portability.ts';
import { insertReviews, reviewOf } from './review.ts';
import { judge, judgeCounting, mayCount } from '../screening/rules.ts';
import type { Signals } from '../config/signals.ts';
import { createTemplateHeads } from '../content/templates.ts';

export type Submit = (tenancy: Tenancy, submission: Submission) => Promise<Receipt>;

interface SubmitDeps {
  readonly db: Db;
  readonly directory: Directory;
  readonly signals: Signals;
  readonly contentRules: Pick<ContentRules, 'judge'>;
  readonly numberPlan: Pick<NumberPlan, 'read'>;
  readonly clock: () => Date;
  /** Replaces `$url$`, followed by the code. */
  readonly linkBase: string;
  /** Counts for the operator's metrics. */
  count(what: 'accepted' | 'intercepted', n: number, labels: Readonly<Record<string, string>>): void;
}

/** Most recipients in one shared transaction; larger submissions have their own. */
const groupRecipients = 1000;
/** How long a submission waits for a database that was lost during the commit: a killed server is back within that time. */
const unknownForMs = 30_000;

/** A submission that has passed every check; its hold covers its distinct recipients. */
interface Plan {
  readonly tenancy: Tenancy;
  readonly submission: Submission;
  readonly content: StoredContent;
  readonly judged: Judged;
  readonly priceOf: (index: number) => Price;
  readonly slices: readonly Slice[];
  readonly holdE4: bigint;
}

interface Waiting {
  readonly plan: Plan;
  resolve(receipt: Receipt): void;
  reject(error: unknown): void;
}

export function createSubmit(deps: SubmitDeps): Submit {
  const { db, directory, signals, contentRules, numberPlan, clock, linkBase, count: tally } = deps;
  const findTemplate = createTemplateHeads(db, directory);
  const onList = createGatheringLookup(db.sql);
  const lines = new Map<bigint, Waiting[]>();

  async function plan(tenancy: Tenancy, submission: Submission): Promise<Plan> {
    const content = await examine({ findTemplate, clock }, tenancy.account.id, submission);
    const kind = contentKinds[content.kind];
    const written = distinct(submission, numberPlan);
    const recipients = { ...written, phones: await withPorted(db.sql, directory, written.phones) };
    const inquiry = {
      tenancy,
      content: content.text,
      words: kind.words(content),
      phones: recipients.phones,
      sendAt: submission.sendAt ?? clock(),
    };
    const judged = { ...recipients, verdicts: await judge({ onList, directory, contentRules }, inquiry) };
    const priceOf = pricing(tenancy, kind.bill(content, linkBase), recipients.phones);
    return priced({ tenancy, submission, content, judged, priceOf });
  }

  function priced(plan: Omit<Plan, 'slices' | 'holdE4'>): Plan {
    const slices = slicesOf(directory, plan.tenancy, plan.judged, plan.priceOf);
    return { ...plan, slices, holdE4: priceOfSlices(slices) };
  }

  /** Plans of one subscription after the rules that count, which may let fewer numbers pass. */
  async function count(sql: Sql, plans: readonly Plan[], at: Date): Promise<readonly Plan[]> {
    const [first] = plans;
    if (!first) return plans;
    const batches = plans.map(({ content, judged }) => ({ ...judged, content: content.text }));
    const verdicts = await judgeCounting({ sql, directory }, first.tenancy, batches, at);
    return plans.map((plan, index) => {
      const counted = verdicts[index];
      return counted?.some((verdict, at) => verdict !== plan.judged.verdicts[at])
        ? priced({ ...plan, judged: { ...plan.judged, verdicts: counted } })
        : plan;
    });
  }

  /** Stores plans of one subscription, all or none. */
  async function commit(plans: readonly Plan[]): Promise<Receipt[]> {
    const [first] = plans;
    if (!first) return [];
    const { account, subscription } = first.tenancy;
    const ids = await nextBatchIds(db.sql, plans.length);
    const at = clock();
    // A planned submission is never grouped.
    const { sendAt } = first.submission;
    const store = () =>
      db.transaction(async (sql) => {
        for (const [index, plan] of plans.entries()) {
          const requestId = requestIdOf(plan);
          const subject = { kind: 'batch', id: ids[index] ?? 0n } as const;
          if (requestId && !(await reserveRequestId(sql, account.id, { ...requestId, subject }, at))) throw new Repeated();
        }
        for (const { submission } of plans)
          if (submission.content.kind === 'package') await storeMedia(sql, account.id, submission.content.media, at);
        const counted = await count(sql, plans, at);
        const stored = counted.map((plan, index) => materialise(plan, ids[index] ?? 0n, at));
        await Promise.all([
          insertBatches(
            sql,
            stored.map(({ batch }) => batch),
            at,
          ),
          place(
            sql,
            directory,
            first.tenancy,
            stored.map(({ rows }) => rows),
            sendAt,
            at,
          ),
          insertReviews(
            sql,
            stored.flatMap(({ review }) => review ?? []),
            at,
            directory.settings().reviewWithinHours,
          ),
          hold(
            sql,
            account.id,
            subscription.id,
            stored.map(({ plan, batch }) => ({ batchId: batch.id, amountE4: plan.holdE4 })),
            at,
          ),
        ]);
        return stored;
      });
    // A commit whose answer was lost, but which succeeded, has stored our own request ids.
    const stored = await untilKnown(store).catch(async (error: unknown) => {
      if (!(error instanceof Repeated) || (await existing(db.sql, account.id, ids)).size === 0) throw error;
      return null;
    });
    if (!stored) {
      signals.emit('queue');
      signals.emit('push');
      return Promise.all(ids.map((id) => rebuildReceipt(db.sql, account.id, id)));
    }
    const queued = stored.flatMap(({ rows }) => rows.queue);
    const ended = stored.flatMap(({ rows }) => rows.ended);
    tally(
      'accepted',
      queued.reduce((sum, { n }) => sum + n, 0),
      { medium: first.tenancy.product.medium },
    );
    for (const [code, own] of groupBy(ended, ({ code }) => code ?? '')) tally('intercepted', own.length, { code });
    if (queued.length > 0 && !sendAt) signals.emit('queue');
    if (ended.length > 0) signals.emit('push');
    return stored.map(({ receipt }) => receipt);
  }

  /** Stores a group. If the balance does not cover all of it, each is tried by itself, in order. */
  async function commitGroup(group: readonly Waiting[]): Promise<void> {
    try {
      const receipts = await commit(group.map(({ plan }) => plan));
      group.forEach(({ resolve }, index) => resolve(receipts[index] as Receipt));
    } catch (error) {
      const [only] = group;
      if (group.length === 1 && only) return only.reject(error);
      if (!(error instanceof Refusal)) {
        for (const { reject } of group) reject(error);
        return;
      }
      for (const one of group) {
        // Too low a balance is a common failure, so it is checked before anything is written, where the price is final.
        const { tenancy, content, holdE4 } = one.plan;
        const { account, subscription } = tenancy;
        const isFinal = !mayCount(directory, tenancy, content.text);
        if (isFinal && (await balanceOf(db.sql, account.id, subscription.id)) < holdE4) one.reject(insufficient(holdE4));
        else await commitGroup([one]);
      }
    }
  }

  /** Processes a subscription's line, one group at a time. */
  async function workOff(subscriptionId: bigint, line: Waiting[]): Promise<void> {
    while (line.length > 0) {
      let recipients = 0;
      let count = 0;
      while (count < line.length && (count === 0 || recipients + (line[count]?.plan.judged.phones.length ?? 0) <= groupRecipients)) {
        recipients += line[count]?.plan.judged.phones.length ?? 0;
        count++;
      }
      const group = line.splice(0, count);
      await commitGroup(group).catch((error) => {
        for (const { reject } of group) reject(error); // rejecting a settled promise has no effect
      });
    }
    lines.delete(subscriptionId);
  }

  function join(plan: Plan): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      const waiting = { plan, resolve, reject };
      const { id } = plan.tenancy.subscription;
      const line = lines.get(id);
      if (line) {
        line.push(waiting);
        return;
      }
      const fresh = [waiting];
      lines.set(id, fresh);
      // Other requests of this event-loop turn may join the first group.
      setImmediate(() => void workOff(id, fresh));
    });
  }

  return async (tenancy, submission) => {
    const { account } = tenancy;
    const requestId = requestIdOf({ tenancy, submission });
    const repeated = async (): Promise<Receipt | null> => {
      const first = requestId && (await findRequestId(db.sql, account.id, requestId, clock()));
      return first === null ? null : rebuildReceipt(db.sql, account.id, first.id);
    };
    const before = await repeated();
    if (before) return before;
    const ready = await plan(tenancy, submission);
    if (!requestId && !submission.sendAt && ready.judged.phones.length <= groupRecipients) return join(ready);
    try {
      const [receipt] = await commit([ready]);
      return receipt as Receipt;
    } catch (error) {
      const first = error instanceof Repeated ? await repeated() : null;
      if (first) return first;
      throw error;
    }
  };
}

/**
 * Runs a transaction until it is known to be committed. If the connection breaks during the commit, the same batches are stored again. If
 * the first attempt succeeded, or still will, their keys conflict, and the answer is null.
 */
async function untilKnown<T>(store: () => Promise<T>): Promise<T | null> {
  let lastTry = 0;
  for (;;) {
    try {
      return await store();
    } catch (error) {
      if (lastTry > 0 && isUniqueViolation(error)) return null;
      const isOpen = isUnknownCommit(error) || (lastTry > 0 && isConnectionLoss(error));
      lastTry ||= performance.now() + unknownForMs;
      if (!isOpen || performance.now() > lastTry) throw error;
      await sleep(100);
    }
  }
}

/** Thrown inside the transaction if a request that committed first has taken the request id. */
class Repeated extends Error {}

/** A key that returns the first answer again belongs to one subscription; a key that forbids repeats belongs to the account. */
function requestIdOf({ tenancy, submission }: Pick<Plan, 'tenancy' | 'submission'>): RequestKey | null {
  const { request } = submission;
  return request && request.digest !== null ? { ...request, key: `${tenancy.subscription.id}:${request.key}` } : request;
}

/** A number that appears twice is sent once: the first occurrence counts. */
function distinct({ recipients }: Submission, numberPlan: Pick<NumberPlan, 'read'>): Omit<Judged, 'verdicts'> {
  const seen = new Set<bigint | string>();
  const phones: (Phone | null)[] = [];
  const written: string[] = [];
  const values: (readonly string[])[] = [];
  for (const recipient of recipients) {
    const phone = numberPlan.read(recipient.written);
    const key = phone?.e164 ?? recipient.written;
    if (seen.has(key)) continue;
    seen.add(key);
    phones.push(phone);
    written.push(recipient.written);
    values.push(recipient.values);
  }
  return { phones, written, values };
}

/** The price of a message to each number: abroad, a text may take another number of segments than at home. */
export function pricing({ subscription }: Tenancy, segments: Segments, phones: readonly (Phone | null)[]): (index: number) => Price {
  const of = (count: number): Price => ({ segments: count, priceE4: subscription.priceE4 * BigInt(count) });
  const mainland = of(segments.mainland);
  const foreign = of(segments.foreign);
  return (index) => (phones[index]?.carriers.includes('international') ? foreign : mainland);
}

/** The rows of a plan, once its batch has a number. */
function materialise(plan: Plan, batchId: bigint, at: Date) {
  const { tenancy, submission, content, judged, slices } = plan;
  const { phones, written, verdicts } = judged;
  const batch: BatchRow = {
    id: batchId,
    accountId: tenancy.account.id,
    subscriptionId: tenancy.subscription.id,
    kind: content.kind,
    templateId: content.templateId,
    content: content.text,
    package: content.package,
    ext: submission.ext,
    recipients: phones.length,
    day: shanghaiDay(at),
    sendAt: submission.sendAt,
  };
  const rows = rowsOf({ batchId, tenancy, sendAt: submission.sendAt, firstNumber: 0, afterReview: false }, judged, slices, at);
  const intercepted = verdicts.flatMap((verdict, index) =>
    verdict?.review === false ? [{ written: written[index] ?? '', code: verdict.code }] : [],
  );
  const receipt: Receipt = { batchId, intercepted };
  return { plan, batch, rows, review: reviewOf(batch, judged, slices), receipt };
}
