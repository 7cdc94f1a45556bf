/**
 * Accepting a submission: check the template, normalise, screen, route, price, and then one transaction that stores the batch, its
 * chunks, its queue rows, its intercepted messages with their events, and holds the money. The customer is answered after the commit.
 *
 * Small submissions of one subscription share transactions: while one is under way the next ones gather, so the lock of the balance
 * row is paid once per group and a lone submission never waits. What is refused stores nothing.
 */
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Db, isConnectionLoss, isUniqueViolation, isUnknownCommit } from '../db/db.ts';
import { billedSegments } from '../protocols/text.ts';
import { groupBy } from '../std/group.ts';
import { shanghaiDay } from '../std/shanghai.ts';
import {
  type BatchRow,
  type ChunkBody,
  existing,
  findRequestId,
  insertBatches,
  insertChunks,
  nextBatchIds,
  rebuildReceipt,
  reserveRequestId,
} from './batches.ts';
import type { Directory, Tenancy } from './directory.ts';
import { balanceOf, hold, insufficient } from './ledger.ts';
import { linkCodeLength } from './links.ts';
import { type Outcome, record } from './messages.ts';
import {
  chunkCapacity,
  chunkIdOf,
  messageIdOf,
  messageStatus,
  type Receipt,
  Refusal,
  type RequestKey,
  type StoredPackage,
  type Submission,
} from './model.ts';
import { type Phone, parsePhone, usualForm } from './numbers.ts';
import { storeMedia, textOf } from './packages.ts';
import { enqueue, type QueueRow } from './queue.ts';
import { pick, route } from './routing.ts';
import { judge, type Verdict } from './screening.ts';
import type { Signals } from './signals.ts';
import { unusable } from './templates.ts';

export type Submit = (tenancy: Tenancy, submission: Submission) => Promise<Receipt>;

interface SubmitDeps {
  readonly db: Db;
  readonly directory: Directory;
  readonly signals: Signals;
  readonly clock: () => Date;
  /** What `$url$` becomes, without the code. */
  readonly linkBase: string;
  /** Counts for the operator. */
  count(what: 'accepted' | 'intercepted', n: number, labels: Readonly<Record<string, string>>): void;
}

/** Most recipients that one shared transaction takes in; larger submissions have one of their own. */
const groupRecipients = 1000;
const placeholder = '$url$';
/** How long a submission waits for a database that went away while committing it: a server that was killed is back within that time. */
const unknownForMs = 30_000;

/** What is sent, whatever its kind. */
interface Content {
  /** What rules look at, and people search for. */
  readonly text: string;
  readonly package: StoredPackage | null;
  /** Billed, for numbers at home and abroad. */
  readonly segments: { readonly mainland: number; readonly foreign: number };
}

/** A submission that has passed every check, in columns; indexes run over its distinct recipients. */
interface Plan {
  readonly tenancy: Tenancy;
  readonly submission: Submission;
  readonly content: Content;
  readonly phones: readonly (Phone | null)[];
  readonly written: readonly string[];
  readonly values: readonly (readonly string[])[];
  readonly verdicts: readonly (Verdict | null)[];
  readonly slices: readonly Slice[];
  readonly holdE4: bigint;
}

/** What becomes one chunk: recipients of one channel and one price, or intercepted ones (no channel). */
interface Slice {
  readonly channelId: bigint | null;
  readonly segments: number;
  readonly priceE4: bigint;
  readonly indexes: readonly number[];
}

interface Waiting {
  readonly plan: Plan;
  resolve(receipt: Receipt): void;
  reject(error: unknown): void;
}

export function createSubmit({ db, directory, signals, clock, linkBase, count }: SubmitDeps): Submit {
  const findTemplate = createTemplateCache(db, directory);
  const lines = new Map<bigint, Waiting[]>();

  /** The checks that a kind of content asks for, and what it costs. */
  async function examine({ account }: Tenancy, { content, recipients }: Submission): Promise<Content> {
    if (content.kind === 'package') {
      const { package: stored } = content;
      return { text: textOf(stored.frames), package: stored, segments: { mainland: 1, foreign: 1 } };
    }
    const { templateId, text } = content;
    const template = await findTemplate(account.id, templateId);
    if (!template) throw new Refusal('template_not_found', `模板 ${templateId} 不存在`);
    if (template.state !== 'approved') throw new Refusal('template_not_approved', `模板 ${templateId} ${unusable[template.state]}`);
    if (template.validUntil !== null && template.validUntil <= clock())
      throw new Refusal('template_not_approved', `模板 ${templateId} 已过期`);
    checkParameters(recipients, template.parameters.length);
    const first = text.indexOf(placeholder);
    if (first < 0) throw new Refusal('placeholder_missing', 'content 中没有 $url$');
    if (text.includes(placeholder, first + 1)) throw new Refusal('placeholder_missing', 'content 中 $url$ 只能出现一次');
    const shown = text.replace(placeholder, () => `${linkBase}/${'0'.repeat(linkCodeLength)}`);
    return { text, package: null, segments: { mainland: billedSegments(shown, true), foreign: billedSegments(shown, false) } };
  }

  async function plan(tenancy: Tenancy, submission: Submission): Promise<Plan> {
    const content = await examine(tenancy, submission);
    const { phones, written, values } = distinct(submission);
    const verdicts = await judge({ sql: db.sql, directory }, { tenancy, content: content.text, phones });
    const slices = slice(directory, tenancy, phones, verdicts, content.segments);
    const holdE4 = slices.reduce((sum, { priceE4, indexes }) => sum + priceE4 * BigInt(indexes.length), 0n);
    return { tenancy, submission, content, phones, written, values, verdicts, slices, holdE4 };
  }

  /** Stores plans of one subscription, all or none. */
  async function commit(plans: readonly Plan[]): Promise<Receipt[]> {
    const { tenancy } = plans[0] ?? {};
    if (!tenancy) return [];
    const { account, subscription, product } = tenancy;
    const ids = await nextBatchIds(db.sql, plans.length);
    const at = clock();
    const stored = plans.map((plan, index) => materialise(plan, ids[index] ?? 0n, at));
    const queueRows = stored.flatMap(({ queue }) => queue);
    // What is planned is stored by itself.
    const sendAt = plans[0]?.submission.sendAt ?? null;
    const readyAt = sendAt ?? at;
    const store = () =>
      db.transaction(async (sql) => {
        for (const { plan, batch } of stored) {
          const requestId = requestIdOf(plan);
          if (!requestId) continue;
          if (!(await reserveRequestId(sql, account.id, { ...requestId, subject: { kind: 'batch', id: batch.id } }, at)))
            throw new Repeated();
        }
        for (const { plan } of stored)
          if (plan.submission.content.kind === 'package') await storeMedia(sql, account.id, plan.submission.content.media, at);
        await Promise.all([
          insertBatches(
            sql,
            stored.map(({ batch }) => batch),
            at,
          ),
          insertChunks(
            sql,
            stored.flatMap(({ chunks }) => chunks),
          ),
          record(
            sql,
            directory,
            stored.flatMap(({ intercepted }) => intercepted),
            at,
            false,
          ),
          enqueue(
            sql,
            {
              accountId: account.id,
              subscriptionId: subscription.id,
              class: subscription.class,
              readyAt,
              expiresAt: new Date(readyAt.getTime() + product.ttlHours * 3600_000),
              planned: sendAt !== null,
            },
            queueRows,
          ),
          hold(
            sql,
            account.id,
            subscription.id,
            stored.map(({ plan, batch }) => ({ batchId: batch.id, amountE4: plan.holdE4 })),
            at,
          ),
        ]);
      });
    // A commit that was lost on its way and did happen holds our own request ids.
    await untilKnown(store).catch(async (error: unknown) => {
      if (!(error instanceof Repeated) || (await existing(db.sql, account.id, ids)).size === 0) throw error;
    });
    count(
      'accepted',
      queueRows.reduce((sum, { n }) => sum + n, 0),
      { medium: product.medium },
    );
    const outcomes = stored.flatMap(({ intercepted }) => intercepted);
    for (const [code, own] of groupBy(outcomes, ({ code }) => code ?? '')) count('intercepted', own.length, { code });
    if (queueRows.length > 0 && !sendAt) signals.emit('queue');
    if (stored.some(({ intercepted }) => intercepted.length > 0)) signals.emit('push');
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
        // An empty balance is common enough among failures to be asked about before writing anything.
        const { account, subscription } = one.plan.tenancy;
        if ((await balanceOf(db.sql, account.id, subscription.id)) < one.plan.holdE4) one.reject(insufficient(one.plan.holdE4));
        else await commitGroup([one]);
      }
    }
  }

  /** Works off a subscription's line, one group at a time. */
  async function workOff(subscriptionId: bigint, line: Waiting[]): Promise<void> {
    while (line.length > 0) {
      let recipients = 0;
      let count = 0;
      while (count < line.length && (count === 0 || recipients + (line[count]?.plan.phones.length ?? 0) <= groupRecipients)) {
        recipients += line[count]?.plan.phones.length ?? 0;
        count++;
      }
      const group = line.splice(0, count);
      await commitGroup(group).catch((error) => {
        for (const { reject } of group) reject(error); // those already told are not told again
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
      // The rest of this turn's requests may join the first group.
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
    if (!requestId && !submission.sendAt && ready.phones.length <= groupRecipients) return join(ready);
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
 * Runs a transaction until it is known to be committed. If the connection breaks while it commits, the same rows are stored once more:
 * where the first try did happen, or is still about to, their keys say so.
 */
async function untilKnown(store: () => Promise<void>): Promise<void> {
  let lastTry = 0;
  for (;;) {
    try {
      return await store();
    } catch (error) {
      if (lastTry > 0 && isUniqueViolation(error)) return;
      const isOpen = isUnknownCommit(error) || (lastTry > 0 && isConnectionLoss(error));
      lastTry ||= performance.now() + unknownForMs;
      if (!isOpen || performance.now() > lastTry) throw error;
      await sleep(100);
    }
  }
}

/** Thrown inside the transaction when the request id was taken by a request that committed first. */
class Repeated extends Error {}

/** A key that asks for the first answer again is one subscription's; one that forbids repeats is its account's. */
function requestIdOf({ tenancy, submission }: Pick<Plan, 'tenancy' | 'submission'>): RequestKey | null {
  const { request } = submission;
  return request && request.digest !== null ? { ...request, key: `${tenancy.subscription.id}:${request.key}` } : request;
}

interface TemplateHead {
  readonly state: 'pending' | 'approved' | 'rejected' | 'withdrawn';
  readonly parameters: readonly string[];
  readonly validUntil: Date | null;
}

/** Remembers what a submission needs of a template until any configuration changes; bounded. */
function createTemplateCache(db: Db, directory: Directory) {
  const most = 10_000;
  const cache = new Map<string, TemplateHead>();
  directory.onChange(() => cache.clear());
  return async (accountId: bigint, id: bigint): Promise<TemplateHead | null> => {
    const key = `${accountId}:${id}`;
    const cached = cache.get(key);
    if (cached) return cached;
    const version = directory.version();
    const [row] = await db.sql<TemplateHead[]>`
      select state, parameters, valid_until as "validUntil" from templates
      where account_id = ${accountId} and id = ${id} and medium = 'aim'`;
    if (row && version === directory.version()) {
      if (cache.size >= most) cache.clear();
      cache.set(key, row);
    }
    return row ?? null;
  };
}

function checkParameters(recipients: Submission['recipients'], wanted: number): void {
  const wrong = recipients.find(({ values }) => values.length !== wanted);
  if (wrong) throw new Refusal('parameters_mismatch', `${wrong.written} 有 ${wrong.values.length} 个动参,模板需要 ${wanted} 个`);
}

/** A number that appears twice is sent once: the first occurrence counts. */
function distinct({ recipients }: Submission): Pick<Plan, 'phones' | 'written' | 'values'> {
  const seen = new Set<bigint | string>();
  const phones: (Phone | null)[] = [];
  const written: string[] = [];
  const values: (readonly string[])[] = [];
  for (const recipient of recipients) {
    const phone = parsePhone(recipient.written);
    const key = phone?.e164 ?? recipient.written;
    if (seen.has(key)) continue;
    seen.add(key);
    phones.push(phone);
    written.push(recipient.written);
    values.push(recipient.values);
  }
  return { phones, written, values };
}

/** Cuts the recipients into what will be chunks: by channel and price those that pass, together those that do not. */
function slice(
  directory: Directory,
  { product, subscription }: Tenancy,
  phones: readonly (Phone | null)[],
  verdicts: readonly (Verdict | null)[],
  billed: Content['segments'],
): Slice[] {
  const indexes = [...phones.keys()];
  const intercepted = indexes.filter((index) => verdicts[index]);
  const slices: Slice[] = cut(intercepted).map((part) => ({ channelId: null, segments: 0, priceE4: 0n, indexes: part }));
  const passing = indexes.filter((index) => !verdicts[index] && phones[index]);
  // Carriers that go through the same channels share chunks.
  const byRoute = groupBy(passing, (index) => {
    const carrier = phones[index]?.carrier ?? 'mobile';
    const found = route(directory, product, carrier);
    const channels = found.kind === 'channels' ? found.candidates.map(({ channel }) => channel.id).join() : '';
    return `${carrier === 'international'}/${channels}`;
  });
  for (const own of byRoute.values()) {
    const carrier = phones[own[0] ?? 0]?.carrier ?? 'mobile';
    const found = route(directory, product, carrier);
    if (found.kind !== 'channels') throw new Error('screening let a number pass that no channel serves');
    const segments = carrier === 'international' ? billed.foreign : billed.mainland;
    for (const part of cut(own))
      slices.push({
        channelId: pick(found.candidates, Math.random()).id,
        segments,
        priceE4: subscription.priceE4 * BigInt(segments),
        indexes: part,
      });
  }
  return slices;
}

function cut(indexes: readonly number[]): number[][] {
  const parts: number[][] = [];
  for (let from = 0; from < indexes.length; from += chunkCapacity) parts.push(indexes.slice(from, from + chunkCapacity));
  return parts;
}

/** The rows of a plan, once its batch has a number. */
function materialise(plan: Plan, batchId: bigint, at: Date) {
  const { tenancy, submission, content, phones, written, values, verdicts, slices } = plan;
  const accountId = tenancy.account.id;
  const subscriptionId = tenancy.subscription.id;
  const phoneOf = (index: number): bigint => phones[index]?.e164 ?? 0n;
  /** As written, where that differs from the usual form. */
  const formOf = (index: number): string | null => {
    const phone = phones[index];
    const form = written[index] ?? '';
    return phone && usualForm(phone.e164) === form ? null : form;
  };
  const batch: BatchRow = {
    id: batchId,
    accountId,
    subscriptionId,
    templateId: submission.content.templateId,
    content: content.text,
    package: content.package,
    ext: submission.ext,
    recipients: phones.length,
    day: shanghaiDay(at),
    sendAt: submission.sendAt,
  };
  const chunks: ChunkBody[] = [];
  const queue: QueueRow[] = [];
  const intercepted: Outcome[] = [];
  slices.forEach(({ channelId, segments, priceE4, indexes }, number) => {
    const id = chunkIdOf(batchId, number);
    // The day of sending; what is intercepted ends today.
    const day = shanghaiDay(channelId === null ? at : (submission.sendAt ?? at));
    const common = { accountId, subscriptionId, day, segments, priceE4 };
    const forms = indexes.map(formOf);
    const parameters = indexes.map((index) => values[index] ?? []);
    chunks.push({
      id,
      ...common,
      intercepted: channelId === null,
      phones: indexes.map(phoneOf),
      forms: forms.some((form) => form !== null) ? forms : null,
      parameters: parameters.some(({ length }) => length > 0) ? parameters : null,
      codes: channelId === null ? indexes.map((index) => verdicts[index]?.code ?? '') : null,
      verdicts: channelId === null ? indexes.map((index) => ({ rule: verdicts[index]?.rule, ...verdicts[index]?.entry })) : null,
    });
    if (channelId !== null) {
      queue.push({ channelId, chunkId: id, n: indexes.length });
      return;
    }
    indexes.forEach((index, position) =>
      intercepted.push({
        id: messageIdOf(id, position),
        common,
        phone: phoneOf(index),
        form: forms[position] ?? null,
        channelId: null,
        carrierId: null,
        status: messageStatus.intercepted,
        code: verdicts[index]?.code ?? '',
        paid: false,
        parts: [],
      }),
    );
  });
  const refused = [...verdicts.entries()].flatMap(([index, verdict]) =>
    verdict ? [{ written: written[index] ?? '', code: verdict.code }] : [],
  );
  const receipt: Receipt = { batchId, intercepted: refused };
  return { plan, batch, chunks, queue, intercepted, receipt };
}
