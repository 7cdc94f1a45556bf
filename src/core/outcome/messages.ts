/**
 * The result of every message: its row is written when there is an outcome, and a report ends it. The only writer of `messages`,
 * `segments` and `late_reports`.
 *
 * A row starts as `sent` (the carrier took it) or in a final state (rejected, given up, expired, intercepted), and changes state at most
 * once. The transaction that ends a message also makes its event and moves its money. Everything here works on sets. A statement names the
 * account and a range of days, except the outcome flush and the look-up of carrier ids, which mix accounts because a channel does.
 */
import type { Sql } from '../../db/db.ts';
import { addDays } from '../../std/shanghai.ts';
import type { Directory } from '../config/directory.ts';
import { type Conclusion, conclude } from '../money/ledger.ts';
import { batchIdOf, batchOf, messagesOfBatch, messagesOfChunk } from '../model/ids.ts';
import { isFinal, type MessageStatus, messageStatus } from '../model/statuses.ts';
import { destinations, reportsFrom } from '../events/owed.ts';
import { learnPorted } from '../numbers/portability.ts';
import { groupBy, groupInOrder } from '../../std/group.ts';

/** What the messages of a chunk have in common. They share one object, so it is sent to the database once. */
export interface Common {
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly day: string;
  /** Billed segments. */
  readonly segments: number;
  readonly priceE4: bigint;
}

/** A message as it is first recorded. */
export interface Outcome {
  readonly id: bigint;
  readonly common: Common;
  readonly phone: bigint;
  readonly form: string | null;
  readonly channelId: bigint | null;
  /** Set for an accepted message of one segment. */
  readonly carrierId: string | null;
  readonly status: MessageStatus;
  /** The final code as the customer sees it; null while sent. */
  readonly code: string | null;
  /** The product charges on acceptance, and the carrier accepted the message. */
  readonly paid: boolean;
  /** The carrier's answer for each segment of a message of several. */
  readonly parts: readonly { readonly seg: number; readonly carrierId: string | null; readonly code: string | null }[];
}

/** `unnest` pads shorter arrays with nulls, so a column of nulls need not be sent. */
const sparse = <T>(column: readonly (T | null)[]): readonly (T | null)[] => (column.every((value) => value === null) ? [] : column);

/** One statement that inserts rows of a kind; what they have in common is sent once per chunk. */
function insertOf(sql: Sql, rows: readonly Outcome[], final: boolean, at: Date) {
  const commons = [...new Set(rows.map(({ common }) => common))];
  const ordinals = new Map(commons.map((common, ordinal) => [common, ordinal + 1]));
  return sql`
    insert into messages (id, account_id, day, subscription_id, phone, form, channel_id, carrier_id, segments, status, code, price_e4,
                          paid, cost_e4, sent_at, final_at)
    select id, (${commons.map((c) => c.accountId)}::bigint[])[c], (${commons.map((c) => c.day)}::date[])[c],
           (${commons.map((c) => c.subscriptionId)}::bigint[])[c], phone, form, channel_id, carrier_id,
           (${commons.map((c) => c.segments)}::smallint[])[c], status, code, (${commons.map((c) => c.priceE4)}::bigint[])[c], paid,
           case when paid then (${commons.map((c) => c.priceE4)}::bigint[])[c] when ${final}::boolean then 0 end,
           case when channel_id is not null then ${at}::timestamptz end, case when ${final}::boolean then ${at}::timestamptz end
    from unnest(${rows.map((r) => r.id)}::bigint[], ${rows.map((r) => ordinals.get(r.common) ?? 0)}::smallint[],
                ${rows.map((r) => r.phone)}::bigint[], ${sparse(rows.map((r) => r.form))}::text[],
                ${sparse(rows.map((r) => r.channelId))}::bigint[], ${sparse(rows.map((r) => r.carrierId))}::text[],
                ${rows.map((r) => r.status)}::smallint[], ${sparse(rows.map((r) => r.code))}::text[], ${rows.map((r) => r.paid)}::boolean[])
      as t(id, c, phone, form, channel_id, carrier_id, status, code, paid)`;
}

/**
 * Records outcomes of any accounts, with the events and the money of those that are final. `again` means that an earlier commit may have
 * succeeded. Messages that already have a row have had their event and moved their money, so they are left out, even if the earlier
 * commit grouped them with other messages.
 */
export async function record(sql: Sql, directory: Directory, heard: readonly Outcome[], at: Date, again: boolean): Promise<void> {
  const present = again ? await presentOf(sql, heard) : null;
  const outcomes = present ? heard.filter(({ id }) => !present.has(id)) : heard;
  if (outcomes.length === 0) return;
  const work: Promise<unknown>[] = [];
  const sent = outcomes.filter(({ status }) => !isFinal(status));
  if (sent.length > 0) work.push(insertOf(sql, sent, false, at));
  const ended = outcomes.filter(({ status }) => isFinal(status));
  if (ended.length > 0) {
    const accounts = [...new Set(ended.map(({ common }) => common.accountId))];
    work.push(sql`
      with ended as (
        ${insertOf(sql, ended, true, at)}
        returning id, account_id, day, subscription_id, final_at)
      ${reportsFrom(sql, destinations(directory, accounts, 'report'))}`);
  }
  const parts = outcomes.flatMap(({ id, common, channelId, parts }) => parts.map((part) => ({ ...part, id, common, channelId })));
  if (parts.length > 0)
    work.push(sql`
      insert into segments (id, seg, account_id, day, channel_id, carrier_id, code)
      select * from unnest(${parts.map((p) => p.id)}::bigint[], ${parts.map((p) => p.seg)}::smallint[],
                           ${parts.map((p) => p.common.accountId)}::bigint[], ${parts.map((p) => p.common.day)}::date[],
                           ${parts.map((p) => p.channelId)}::bigint[], ${parts.map((p) => p.carrierId)}::text[],
                           ${parts.map((p) => p.code)}::text[])`);
  await Promise.all(work);

  const moving = outcomes.filter(({ status, paid, common }) => (isFinal(status) || paid) && common.priceE4 > 0n);
  for (const [accountId, rows] of groupInOrder(moving, ({ common }) => common.accountId))
    await conclude(sql, accountId, conclusionsOf(rows), at);
  await learnPorted(sql, directory, outcomes, at);
}

function conclusionsOf(rows: readonly Outcome[]): Conclusion[] {
  return [...groupBy(rows, ({ id }) => batchIdOf(id))].map(([batchId, own]) => ({
    subscriptionId: own[0]?.common.subscriptionId ?? 0n,
    batchId,
    seq: own.reduce((least, { id }) => (id < least ? id : least), own[0]?.id ?? 0n),
    settledE4: own.reduce((sum, { paid, common }) => (paid ? sum + common.priceE4 : sum), 0n),
    releasedE4: own.reduce((sum, { paid, common }) => (paid ? sum : sum + common.priceE4), 0n),
  }));
}

/** Which of these have a row, after a commit whose result is unknown. If that commit still succeeds later, the keys conflict. */
async function presentOf(sql: Sql, outcomes: readonly Outcome[]): Promise<ReadonlySet<bigint>> {
  const days = outcomes.map(({ common }) => common.day).sort();
  const rows = await sql<{ id: bigint }[]>`
    select id from messages
    where id = any(${outcomes.map(({ id }) => id)}::bigint[]) and day between ${days[0] ?? ''} and ${days.at(-1) ?? ''}
      and account_id = any(${[...new Set(outcomes.map(({ common }) => common.accountId))]}::bigint[])`;
  return new Set(rows.map(({ id }) => id));
}

/** Which messages of a chunk already have a row: the node that claims the chunk needs this for indexes that may have been sent. */
export async function recordedOf(sql: Sql, accountId: bigint, chunkId: bigint, day: string): Promise<ReadonlySet<bigint>> {
  const rows = await sql<{ id: bigint }[]>`
    select id from messages
    where account_id = ${accountId} and day = ${day} and id ${messagesOfChunk(sql, chunkId)}`;
  return new Set(rows.map(({ id }) => id));
}

// ── reports ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The message a carrier id belongs to. */
export interface Sent {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly day: string;
  /** The segment's number; null for a message of one segment. */
  readonly seg: number | null;
}

/** A report whose message is known. */
export interface Applicable {
  readonly sent: Sent;
  readonly code: string;
  readonly delivered: boolean;
}

/** How many days back a report's message is searched: 72 hours time to live, as long again for the report, and a day of slack. */
const reportDays = 7;

/** Finds the messages of carrier ids of one channel; the exception to "account first", since only the channel is known. */
export async function resolve(sql: Sql, channelId: bigint, carrierIds: readonly string[], today: string): Promise<Map<string, Sent>> {
  const from = addDays(today, -reportDays);
  const to = addDays(today, 1);
  const [whole, parts] = await Promise.all([
    sql<(Omit<Sent, 'seg'> & { carrierId: string })[]>`
      select carrier_id as "carrierId", id, account_id as "accountId", day from messages
      where carrier_id = any(${carrierIds}::text[]) and channel_id = ${channelId} and day between ${from} and ${to}`,
    sql<(Sent & { carrierId: string })[]>`
      select carrier_id as "carrierId", id, account_id as "accountId", day, seg::int from segments
      where carrier_id = any(${carrierIds}::text[]) and channel_id = ${channelId} and day between ${from} and ${to}`,
  ]);
  const found = new Map<string, Sent>();
  for (const { carrierId, ...sent } of whole) found.set(carrierId, { ...sent, seg: null });
  for (const { carrierId, ...sent } of parts) found.set(carrierId, sent);
  return found;
}

/** Messages of one batch and day that ended together. */
interface Ended {
  readonly subscriptionId: bigint;
  readonly batchId: bigint;
  readonly day: string;
  readonly ids: readonly bigint[];
  /** The lowest id of those whose money moves now; 0 if all were paid for on acceptance. */
  readonly seq: bigint;
  readonly settledE4: bigint;
  readonly releasedE4: bigint;
}

/** Ends those of one account's messages that are still `sent`, and returns them. `closeBooks` must follow in the same transaction. */
async function end(
  sql: Sql,
  accountId: bigint,
  ids: readonly bigint[],
  days: readonly [string, string],
  final: { status: MessageStatus; code: string },
  at: Date,
): Promise<Ended[]> {
  const delivered = final.status === messageStatus.delivered;
  return sql<Ended[]>`
    with ended as (
      update messages
      set status = ${final.status}, code = ${final.code}, final_at = ${at},
          cost_e4 = case when paid or ${delivered}::boolean then price_e4 else 0 end
      where account_id = ${accountId} and day between ${days[0]} and ${days[1]} and id = any(${ids}::bigint[])
        and status = ${messageStatus.sent}
      returning id, day, subscription_id, cost_e4, price_e4, paid)
    select subscription_id as "subscriptionId", ${batchOf(sql, sql`id`)} as "batchId", day, array_agg(id) as ids,
           coalesce(min(id) filter (where not paid), 0) as seq,
           coalesce(sum(price_e4) filter (where not paid and cost_e4 > 0), 0)::bigint as "settledE4",
           coalesce(sum(price_e4) filter (where not paid and cost_e4 = 0), 0)::bigint as "releasedE4"
    from ended group by subscription_id, ${batchOf(sql, sql`id`)}, day`;
}

/**
 * Makes the events of messages that have ended in this transaction, and moves their money. The events are not part of the statement that
 * ends the messages: a sharded database sends the results of two writing CTEs to all its nodes, so one dead node would stop all accounts.
 */
async function closeBooks(sql: Sql, directory: Directory, accountId: bigint, ended: readonly Ended[], at: Date): Promise<void> {
  if (ended.length === 0) return;
  const events = sql`
    with ended as (
      select id, ${accountId}::bigint as account_id, (${ended.map(({ day }) => day)}::date[])[n] as day,
             (${ended.map(({ subscriptionId }) => subscriptionId)}::bigint[])[n] as subscription_id, ${at}::timestamptz as final_at
      from unnest(${ended.flatMap(({ ids }) => ids)}::bigint[], ${ended.flatMap(({ ids }, n) => ids.map(() => n + 1))}::int[]) as t(id, n))
    ${reportsFrom(sql, destinations(directory, [accountId], 'report'))}`;
  await Promise.all([events, conclude(sql, accountId, mergeByBatch(ended), at)]);
}

/** The final state that a carrier's status means. */
function stateOf(code: string, delivered: boolean): MessageStatus {
  if (delivered) return messageStatus.delivered;
  return code === 'EXPIRED' ? messageStatus.expired : messageStatus.undelivered;
}

/**
 * Applies reports of one account in the caller's transaction. A message of several segments ends at its first failed segment, or when all
 * are delivered. Reports that come after the end are stored and change nothing. Returns the reports whose message has no row (yet).
 */
export async function applyReports<Report extends Applicable>(
  sql: Sql,
  directory: Directory,
  accountId: bigint,
  reports: readonly Report[],
  at: Date,
): Promise<Report[]> {
  const days = reports.map(({ sent }) => sent.day).sort();
  const range = [days[0] ?? '', days.at(-1) ?? ''] as const;

  const verdicts = new Map<bigint, { code: string; delivered: boolean }>();
  const missing: Report[] = [];
  const late: Report[] = [];
  for (const report of reports) {
    if (report.sent.seg !== null) continue;
    if (verdicts.has(report.sent.id)) late.push(report);
    else verdicts.set(report.sent.id, report);
  }
  const parts = reports.filter(({ sent }) => sent.seg !== null);
  if (parts.length > 0) {
    const result = await applyParts(sql, accountId, parts, range);
    for (const [id, verdict] of result.verdicts) verdicts.set(id, verdict);
    missing.push(...result.missing);
    late.push(...result.late);
  }

  const groups = groupBy(verdicts, ([, { code, delivered }]) => `${delivered ? 1 : 0}${code}`);
  const ended = await Promise.all(
    [...groups.values()].map((group) => {
      const { code, delivered } = group[0]?.[1] ?? { code: '', delivered: false };
      const ids = group.map(([id]) => id);
      return end(sql, accountId, ids, range, { status: stateOf(code, delivered), code }, at);
    }),
  );
  await closeBooks(sql, directory, accountId, ended.flat(), at);

  // The common case ends here: every verdict ended a message. Otherwise some had ended before, or have no row.
  if (countOf(ended.flat()) < verdicts.size) {
    const justEnded = await sql<{ id: bigint; before: boolean }[]>`
      select id, final_at <> ${at} as before from messages
      where account_id = ${accountId} and day between ${range[0]} and ${range[1]} and id = any(${[...verdicts.keys()]}::bigint[])`;
    const known = new Map(justEnded.map(({ id, before }) => [id, before]));
    for (const report of reports) {
      if (report.sent.seg !== null || verdicts.get(report.sent.id) !== report) continue;
      const before = known.get(report.sent.id);
      if (before === undefined) missing.push(report);
      else if (before) late.push(report);
    }
  }
  if (late.length > 0)
    await sql`
      insert into late_reports (account_id, id, day, what, code, at)
      select ${accountId}, id, day, 'late_report', code, ${at}
      from unnest(${late.map(({ sent }) => sent.id)}::bigint[], ${late.map(({ sent }) => sent.day)}::date[], ${late.map(({ code }) => code)}::text[])
        as t(id, day, code)`;
  return missing;
}

/** Stores that messages of any accounts were read, once for each status word of the carrier: an MMSC may repeat it. */
export async function keepReadings(sql: Sql, readings: readonly { readonly sent: Sent; readonly code: string }[], at: Date): Promise<void> {
  if (readings.length === 0) return;
  await sql`
    with known as materialized (
      select account_id, id, code from late_reports
      where account_id = any(${[...new Set(readings.map(({ sent }) => sent.accountId))]}::bigint[])
        and id = any(${readings.map(({ sent }) => sent.id)}::bigint[]) and what = 'read')
    insert into late_reports (account_id, id, day, what, code, at)
    select distinct t.account_id, t.id, t.day, 'read', t.code, ${at}::timestamptz
    from unnest(${readings.map(({ sent }) => sent.accountId)}::bigint[], ${readings.map(({ sent }) => sent.id)}::bigint[],
                ${readings.map(({ sent }) => sent.day)}::date[], ${readings.map(({ code }) => code)}::text[]) as t(account_id, id, day, code)
    where not exists (
      select from known l where l.account_id = t.account_id and l.id = t.id and l.code = t.code)`;
}

/** Marks reported segments and returns the messages that end by it. Locks the messages first, so two reports of one message queue up. */
async function applyParts<Report extends Applicable>(
  sql: Sql,
  accountId: bigint,
  reports: readonly Report[],
  [from, to]: readonly [string, string],
) {
  const ids = [...new Set(reports.map(({ sent }) => sent.id))];
  const open = await sql<{ id: bigint; status: number }[]>`
    select id, status::int from messages
    where account_id = ${accountId} and day between ${from} and ${to} and id = any(${ids}::bigint[])
    order by id for update`;
  const known = new Map(open.map(({ id, status }) => [id, status]));
  const missing = reports.filter(({ sent }) => !known.has(sent.id));
  const present = reports.filter(({ sent }) => known.has(sent.id));
  const late: Report[] = [];

  // A second report of the same segment in one set is late; the update below finds those that follow earlier sets.
  const first = new Map<string, Report>();
  for (const report of present) {
    const key = `${report.sent.id}/${report.sent.seg}`;
    if (first.has(key)) late.push(report);
    else first.set(key, report);
  }
  const marked = new Set<string>();
  for (const [code, own] of groupBy(first.values(), (report) => report.code)) {
    for (const [seg, same] of groupBy(own, ({ sent }) => sent.seg ?? 0)) {
      const rows = await sql<{ id: bigint }[]>`
        update segments set code = ${code}
        where account_id = ${accountId} and day between ${from} and ${to} and id = any(${same.map(({ sent }) => sent.id)}::bigint[])
          and seg = ${seg} and code is null
        returning id`;
      for (const { id } of rows) marked.add(`${id}/${seg}`);
    }
  }
  for (const [key, report] of first) if (!marked.has(key)) late.push(report);

  const touched = [
    ...new Set([...first.values()].filter(({ sent }) => known.get(sent.id) === messageStatus.sent).map(({ sent }) => sent.id)),
  ];
  const states = await sql<{ id: bigint; failed: string | null; open: number }[]>`
    select id, (array_agg(code order by seg) filter (where code <> 'DELIVRD'))[1] as failed, count(*) filter (where code is null)::int as open
    from segments
    where account_id = ${accountId} and day between ${from} and ${to} and id = any(${touched}::bigint[])
    group by id`;
  const verdicts = new Map<bigint, { code: string; delivered: boolean }>();
  for (const { id, failed, open } of states) {
    if (failed !== null) verdicts.set(id, { code: failed, delivered: false });
    else if (open === 0) verdicts.set(id, { code: 'DELIVRD', delivered: true });
  }
  for (const report of first.values()) if (isFinal(known.get(report.sent.id) ?? 0)) late.push(report);
  return { verdicts, missing, late: [...new Set(late)] };
}

const countOf = (ended: readonly Ended[]): number => ended.reduce((sum, { ids }) => sum + ids.length, 0);

function mergeByBatch(rows: readonly Ended[]): Conclusion[] {
  const moving = rows.filter(({ seq }) => seq > 0n);
  return [...groupBy(moving, ({ batchId }) => batchId)].map(([batchId, own]) => ({
    subscriptionId: own[0]?.subscriptionId ?? 0n,
    batchId,
    seq: own.reduce((least, { seq }) => (seq < least ? seq : least), own[0]?.seq ?? 0n),
    settledE4: own.reduce((sum, { settledE4 }) => sum + settledE4, 0n),
    releasedE4: own.reduce((sum, { releasedE4 }) => sum + releasedE4, 0n),
  }));
}

// ── sweeps over a day, of all accounts ───────────────────────────────────────────────────────────────────────────────────────────

/** A message that has waited too long for its report. */
export type Overdue = Pick<Sent, 'id' | 'accountId'>;

/** A day's messages that were sent before this time and wait for a report, at most `limit`. Reads the whole day: status has no index. */
export async function findOverdue(sql: Sql, day: string, sentBefore: Date, limit: number): Promise<Overdue[]> {
  return sql<Overdue[]>`
    select id, account_id as "accountId" from messages
    where day = ${day} and status = ${messageStatus.sent} and sent_at < ${sentBefore} limit ${limit}`;
}

/** When the first of a day's messages that wait for a report was sent; null if none waits. Reads the whole day. */
export async function waitingSince(sql: Sql, day: string): Promise<Date | null> {
  const [row] = await sql<{ since: Date | null }[]>`
    select min(sent_at) as since from messages where day = ${day} and status = ${messageStatus.sent}`;
  return row?.since ?? null;
}

/** Ends messages of a day as EXPIRED, except those that were reported in the meantime. Returns how many. */
export async function expire(sql: Sql, directory: Directory, day: string, overdue: readonly Overdue[], at: Date): Promise<number> {
  let total = 0;
  for (const [accountId, rows] of groupInOrder(overdue, (row) => row.accountId)) {
    const ids = rows.map(({ id }) => id);
    const ended = await end(sql, accountId, ids, [day, day], { status: messageStatus.expired, code: 'EXPIRED' }, at);
    await closeBooks(sql, directory, accountId, ended, at);
    total += countOf(ended);
  }
  return total;
}

/** Whether any message of a day waits for its report. Reads the day once. */
export async function isAwaitingReports(sql: Sql, day: string): Promise<boolean> {
  const [row] = await sql<[{ awaiting: boolean }]>`
    select exists (select 1 from messages where day = ${day} and status < ${messageStatus.delivered}) as awaiting`;
  return row.awaiting;
}

/** Deletes the late reports of these batches. */
export async function purgeLateReports(sql: Sql, accountId: bigint, batchIds: readonly bigint[]): Promise<void> {
  await sql`
    delete from late_reports l using unnest(${batchIds}::bigint[]) as b(id)
    where l.account_id = ${accountId} and l.id ${messagesOfBatch(sql, sql`b.id`)}`;
}
