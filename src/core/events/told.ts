/**
 * The content of events. Parcels and handovers store only the recipient and the time; the content is read from messages, replies and
 * templates when the events leave. Writes nothing.
 */
import type { Fragment, Sql } from '../../db/db.ts';
import type { AuditEvent, ReplyEvent, ReportEvents } from '../model/dialect.ts';
import { batchOf, firstOfItsBatch, indexInBatch, messageInBatch } from '../model/ids.ts';
import { usualForm } from '../model/numbers.ts';
import { type EventKind, eventKind } from '../model/statuses.ts';

/** Events of one account that leave together. */
export interface Carried {
  readonly accountId: bigint;
  /** The first and the last day of their messages. */
  readonly days: readonly [string, string];
  readonly ids: readonly bigint[];
}

/** A row for each batch and result, the earliest end first; `each`: a row for each message. `id` is that of the first message. */
export async function reportsOf(sql: Sql, { accountId, days, ids }: Carried, each: boolean): Promise<(ReportEvents & { id: bigint })[]> {
  const rows = await sql<(ReportEvents & { id: bigint; phones: string[]; forms: (string | null)[] | null })[]>`
    with alike as (
      select min(id) as id, ${batchOf(sql, sql`id`)} as batch_id, code, cost_e4, final_at, min(sent_at) as sent_at,
             array_agg(phone::text) as phones, case when count(form) > 0 then array_agg(form) end as forms
      from messages
      where account_id = ${accountId} and day between ${days[0]} and ${days[1]} and id = any(${ids}::bigint[])
      group by ${batchOf(sql, sql`id`)}, code, cost_e4, final_at ${each ? sql`, id` : sql``})
    select a.id, a.batch_id as "batchId", coalesce(b.ext, '') as ext, a.code, a.cost_e4 as "costE4", a.final_at as at,
           coalesce(a.sent_at, b.created_at, a.final_at) as "sentAt", a.phones, a.forms
    from alike a left join batches b on b.account_id = ${accountId} and b.id = a.batch_id`;
  return rows
    .map(({ phones, forms, ...reports }) => ({ ...reports, mobiles: phones.map((phone, n) => forms?.[n] ?? usualForm(phone)) }))
    .sort((a, b) => a.at.getTime() - b.at.getTime());
}

export async function repliesOf(sql: Sql, { accountId, ids }: Carried): Promise<ReplyEvent[]> {
  const replies = await sql<(Omit<ReplyEvent, 'mobile'> & { phone: bigint })[]>`
    select id as "replyId", content, phone, batch_id as "batchId", ext, received_at as at from replies
    where account_id = ${accountId} and id = any(${ids}::bigint[])`;
  return replies.map(({ phone, ...reply }) => ({ ...reply, mobile: usualForm(phone) })).sort((a, b) => a.at.getTime() - b.at.getTime());
}

/** A rejected template stays rejected; an approved one may have been withdrawn since. */
export const auditsOf = (sql: Sql, { accountId, ids }: Carried) => sql<AuditEvent[]>`
  select id as "templateId", state <> 'rejected' as approved, reason from templates
  where account_id = ${accountId} and id = any(${ids}::bigint[])`;

/**
 * Rows of `parcels` or of `handovers`, `p`, once for each of their events, with its `event_id`: all rows that match `wanted`, or only those
 * of these events. An event's row is found from the event's id, since a row's id is that of an event of the same batch.
 */
export const opened = (sql: Sql, table: Fragment, wanted: Fragment, ids: readonly bigint[] | null) =>
  ids === null
    ? sql`(select *, ${messageInBatch(sql, batchOf(sql, sql`id`), sql`unnest(indexes)`)} as event_id from ${table} where ${wanted}) as p`
    : sql`
      (select own.*, event_id
       from unnest(${ids}::bigint[]) as event_id, lateral (
         select * from ${table} where ${wanted} and id = event_id and cardinality(indexes) = 1
         union all
         select * from ${table}
         where ${wanted} and id between ${firstOfItsBatch(sql, sql`event_id`)} and event_id and cardinality(indexes) > 1
           and ${indexInBatch(sql, sql`event_id`)} = any(indexes)) as own) as p`;

/** The events about a number: reports of messages to it, or replies from it. An audit has no number. */
export async function eventsOf(
  sql: Sql,
  accountId: bigint,
  kind: EventKind,
  { phone, fromDay, toDay }: { phone: bigint; fromDay: string; toDay: string },
): Promise<bigint[]> {
  const query =
    kind === eventKind.report
      ? sql<{ id: bigint }[]>`
          select id from messages
          where account_id = ${accountId} and phone = ${phone} and day between ${fromDay}::date and ${toDay}::date`
      : sql<{ id: bigint }[]>`
          select id from replies where account_id = ${accountId} and phone = ${phone} and ${kind === eventKind.reply}`;
  return (await query).map(({ id }) => id);
}
