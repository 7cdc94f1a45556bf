/**
 * Read-only queries for the people who look, customers and operator alike. Writes nothing.
 *
 * Every query on a customer's rows takes the account as an argument and names it in every level, and a range of days where a table is
 * partitioned by day. The exceptions are the operator's: the owner of a batch, the channels' queues, and orphaned reports, which have no
 * owner yet.
 */
import type { Sql } from '../../db/db.ts';
import type { FrozenDay } from '../queue/batches.ts';
import type { Page, PageRequest } from '../config/management.ts';
import { belowId, found, keyOf, mapPage, pageOf } from '../config/management.ts';
import type { EventKind, EventKindName, MessageStatus } from '../model/statuses.ts';
import type { StoredPackage } from '../model/submission.ts';
import { batchIdOf, chunkOfMessage, chunksOfBatch, indexOf, messageOf, messagesOfBatch } from '../model/ids.ts';
import { eventKind, eventKindName, messageStatus } from '../model/statuses.ts';
import { parseNumber, usualForm } from '../model/numbers.ts';
import { opened } from '../events/told.ts';

/** Calendar days in Asia/Shanghai, both included. */
export interface DayRange {
  readonly fromDay: string;
  readonly toDay: string;
}

// ── batches ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface BatchSummary {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly templateId: bigint | null;
  readonly content: string;
  readonly ext: string;
  /** For a multimedia message; `content` then holds its words. */
  readonly package: StoredPackage | null;
  /** Distinct numbers, including intercepted ones. */
  readonly recipients: number;
  readonly createdAt: Date;
  /** The planned sending time; null: at once. */
  readonly sendAt: Date | null;
  readonly cancelledAt: Date | null;
  /** When its content and recipients were purged, past retention; null until then. Its totals stay. */
  readonly purgedAt: Date | null;
}

type MessageStatusName = 'queued' | 'in_review' | keyof typeof messageStatus;

/** The status of a message without a row: it is in line, or waits for a person. */
const queued = 0;
const inReview = -1;
type RowlessStatus = typeof queued | typeof inReview;
const statusNames: Readonly<Record<RowlessStatus | MessageStatus, MessageStatusName>> = {
  [queued]: 'queued',
  [inReview]: 'in_review',
  [messageStatus.sent]: 'sent',
  [messageStatus.delivered]: 'delivered',
  [messageStatus.undelivered]: 'undelivered',
  [messageStatus.rejected]: 'rejected',
  [messageStatus.expired]: 'expired',
  [messageStatus.unknown]: 'unknown',
  [messageStatus.intercepted]: 'intercepted',
  [messageStatus.cancelled]: 'cancelled',
};

export interface BatchDetail extends BatchSummary {
  /** The number of its messages in each state; the sum is `recipients`. */
  readonly totals: Readonly<Record<MessageStatusName, number>>;
  /** The final cost of its messages; messages that are not final do not count yet. */
  readonly costE4: bigint;
}

/** An account's batches that were accepted in these days: the latest day first, the newest first within a day. */
export async function listBatches(
  sql: Sql,
  accountId: bigint,
  filter: DayRange & { subscriptionId: bigint | null },
  page: PageRequest,
): Promise<Page<BatchSummary>> {
  const [after] = keyOf(page, ['id']) ?? [];
  const earlier = after
    ? sql`(day, id) < ((select day from batches where account_id = ${accountId} and id = ${after}), ${after})`
    : sql`true`;
  const rows = await sql<BatchSummary[]>`
    select ${batchColumns(sql)} from batches
    where account_id = ${accountId} and day between ${filter.fromDay}::date and ${filter.toDay}::date
      and (${filter.subscriptionId}::bigint is null or subscription_id = ${filter.subscriptionId}) and ${earlier}
    order by day desc, id desc limit ${page.limit + 1}`;
  return pageOf(rows, page, ({ id }) => [id]);
}

/**
 * One batch with its totals: frozen ones for days past retention, otherwise counted from the rows. Recipients without a message row are
 * queued.
 */
export async function getBatch(sql: Sql, accountId: bigint, id: bigint): Promise<BatchDetail> {
  const [days] = await sql<[{ first: string; last: string }]>`
    select min(day) as first, max(day) as last from chunks
    where account_id = ${accountId} and id ${chunksOfBatch(sql, id)}`;
  const counted = await sql<Count[]>`
    select day, status::int, count(*) as n, coalesce(sum(cost_e4), 0)::bigint as "costE4" from messages
    where account_id = ${accountId} and id ${messagesOfBatch(sql, id)}
      and day between ${days.first}::date and ${days.last}::date
    group by day, status`;
  // Read last: a day is frozen before it is dropped, so days whose rows were already gone for the count are frozen here.
  const [batch] = await sql<(BatchSummary & { frozen: Readonly<Record<string, FrozenDay>> | null })[]>`
    select ${batchColumns(sql)}, frozen from batches where account_id = ${accountId} and id = ${id}`;
  const { recipients, frozen, ...summary } = found(batch, 'batch');
  const counts = [...counted.filter(({ day }) => !(day in (frozen ?? {}))), ...Object.entries(frozen ?? {}).flatMap(countsOf)];
  const totals = {
    queued: recipients,
    in_review: 0,
    sent: 0,
    delivered: 0,
    undelivered: 0,
    rejected: 0,
    expired: 0,
    unknown: 0,
    intercepted: 0,
    cancelled: 0,
  };
  for (const { status, n } of counts) {
    totals[statusNames[status]] += Number(n);
    totals.queued -= Number(n);
  }
  const [waiting] = await sql<{ recipients: number }[]>`
    select recipients from review_items where account_id = ${accountId} and batch_id = ${id} and state = 'pending'`;
  totals.in_review = waiting?.recipients ?? 0;
  totals.queued -= totals.in_review;
  return { ...summary, recipients, totals, costE4: counts.reduce((sum, { costE4 }) => sum + costE4, 0n) };
}

interface Count {
  readonly day: string;
  readonly status: MessageStatus;
  readonly n: bigint;
  readonly costE4: bigint;
}

const countsOf = ([day, statuses]: readonly [string, FrozenDay]): Count[] =>
  Object.entries(statuses).map(([status, [n, cost]]) => ({
    day,
    status: Number(status) as MessageStatus,
    n: BigInt(n),
    costE4: BigInt(cost),
  }));

/** The account of a batch; for the operator, who finds batches and messages by id alone. */
export async function accountOfBatch(sql: Sql, id: bigint): Promise<bigint> {
  const [batch] = await sql<{ accountId: bigint }[]>`select account_id as "accountId" from batches where id = ${id}`;
  return found(batch, 'batch or message').accountId;
}

const batchColumns = (sql: Sql) => sql`
  id, account_id as "accountId", subscription_id as "subscriptionId", template_id as "templateId", content, package, ext,
  recipients, created_at as "createdAt", send_at as "sendAt", cancelled_at as "cancelledAt", purged_at as "purgedAt"`;

// ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface MessageSummary {
  readonly id: bigint;
  readonly accountId: bigint;
  readonly subscriptionId: bigint;
  readonly day: string;
  /** The number as the customer wrote it. */
  readonly phone: string;
  readonly status: MessageStatusName;
  /** The final code, as the customer sees it; null while there is none. */
  readonly code: string | null;
  /** The channel that was used or, while queued, the one it waits for; null if it was intercepted. */
  readonly channelId: bigint | null;
  /** Billed segments. */
  readonly segments: number;
  /** The amount that was held for it. */
  readonly priceE4: bigint;
  /** The final cost; null while it is not final. */
  readonly costE4: bigint | null;
  readonly sentAt: Date | null;
  readonly finalAt: Date | null;
}

type MessageRow = Omit<MessageSummary, 'phone' | 'status'> & { phone: bigint; form: string | null; status: RowlessStatus | MessageStatus };

/**
 * An account's messages to one number, newest first: those with an outcome by their planned sending day, and those still waiting in
 * the account's unfinished chunks. An invalid number is found as the customer wrote it.
 */
export async function searchMessages(
  sql: Sql,
  accountId: bigint,
  { phone, fromDay, toDay }: DayRange & { phone: string },
  page: PageRequest,
): Promise<Page<MessageSummary>> {
  const e164 = parseNumber(phone) ?? 0n;
  const below = belowId(page);
  // One statement, so one snapshot: a message that is being sent at this moment is in exactly one of the two places.
  const rows = await sql<MessageRow[]>`
    with found as (
      select m.id, m.day, m.subscription_id, m.form, m.status, m.code, m.channel_id, m.segments, m.price_e4, m.cost_e4, m.sent_at, m.final_at
      from messages m
      where m.account_id = ${accountId} and m.phone = ${e164} and m.day between ${fromDay}::date and ${toDay}::date
        and (m.phone <> 0 or m.form = ${phone})),
    lined as materialized (
      select chunk_id, channel_id from dispatch_queue
      where account_id = ${accountId} and (day is null or day between ${fromDay}::date and ${toDay}::date)),
    waiting as (
      select ${messageOf(sql, sql`c.id`, sql`array_position(c.phones, ${e164}) - 1`)} as id, c.day, c.subscription_id,
             c.forms ->> (array_position(c.phones, ${e164}) - 1) as form, q.channel_id, c.segments, c.price_e4
      from lined q join chunks c on c.account_id = ${accountId} and c.id = q.chunk_id
      where c.account_id = ${accountId} and c.day between ${fromDay}::date and ${toDay}::date and c.phones @> array[${e164}]::bigint[]),
    held as (
      select ${messageOf(sql, sql`c.id`, sql`array_position(c.phones, ${e164}) - 1`)} as id, c.day, c.subscription_id,
             c.forms ->> (array_position(c.phones, ${e164}) - 1) as form, null::bigint as channel_id, c.segments, c.price_e4
      from review_items r join chunks c
        on c.account_id = ${accountId} and c.id ${chunksOfBatch(sql, sql`r.batch_id`)} and c.review
      where r.account_id = ${accountId} and r.state = 'pending' and c.day between ${fromDay}::date and ${toDay}::date
        and c.phones @> array[${e164}]::bigint[])
    select id, ${accountId}::bigint as "accountId", subscription_id as "subscriptionId", day, ${e164}::bigint as phone, form, status::int,
           code, channel_id as "channelId", segments::int, price_e4 as "priceE4", cost_e4 as "costE4", sent_at as "sentAt", final_at as "finalAt"
    from (
      select * from found
      union all
      select id, day, subscription_id, form, ${queued}::smallint, null, channel_id, segments, price_e4, null, null, null from waiting
      where id not in (select id from found)
      union all
      select id, day, subscription_id, form, ${inReview}::smallint, null, channel_id, segments, price_e4, null, null, null from held) m
    where id < ${below}
    order by id desc limit ${page.limit + 1}`;
  return pageOf(rows.map(summaryOf), page, ({ id }) => [id]);
}

function summaryOf({ phone, form, status, ...message }: MessageRow): MessageSummary {
  return { ...message, phone: form ?? usualForm(phone), status: statusNames[status] };
}

/** A moment in a message's life; `detail` is the code, or how the customer got its report. */
interface Moment {
  readonly at: Date;
  readonly what: 'accepted' | 'sent' | 'final' | 'late_report' | 'read' | 'report_waiting' | 'report_pulled' | 'report_pushed';
  readonly detail: string;
}

/** A segment of a message of several: the carrier's id for it, and the carrier's report so far. */
interface Part {
  readonly number: number;
  readonly channelId: bigint;
  readonly carrierId: string | null;
  readonly code: string | null;
}

export interface MessageDetail extends MessageSummary {
  readonly batchId: bigint;
  /** Set for a message of one segment. */
  readonly carrierId: string | null;
  readonly parts: readonly Part[];
  /** The rule of screening that fired, and its entry; null unless the message was intercepted. */
  readonly verdict: unknown;
  /** In order of time. */
  readonly timeline: readonly Moment[];
}

/** One message of an account, with everything known about it. It is gone once its day is dropped. */
export async function getMessage(sql: Sql, accountId: bigint, id: bigint): Promise<MessageDetail> {
  const batchId = batchIdOf(id);
  const at = indexOf(id);
  const [chunk] = await sql<(MessageRow & { acceptedAt: Date; verdict: unknown })[]>`
    with lined as materialized (
      select channel_id from dispatch_queue where chunk_id = ${chunkOfMessage(id)} and account_id = ${accountId})
    select ${id}::bigint as id, ${accountId}::bigint as "accountId", c.subscription_id as "subscriptionId", c.day,
           c.phones[${at + 1}::int] as phone, c.forms ->> ${at}::int as form,
           case when c.review then ${inReview}::int else ${queued}::int end as status, null as code,
           (select channel_id from lined) as "channelId",
           c.segments::int, c.price_e4 as "priceE4", null as "costE4", null as "sentAt", null as "finalAt",
           b.created_at as "acceptedAt", c.verdicts -> ${at}::int as verdict
    from chunks c join batches b on b.account_id = ${accountId} and b.id = ${batchId}
    where c.account_id = ${accountId} and c.id = ${chunkOfMessage(id)} and ${at}::int < cardinality(c.phones)`;
  const { acceptedAt, verdict, ...planned } = found(chunk, 'message');
  const { day } = planned;

  const [recorded] = await sql<(Partial<MessageRow> & { carrierId: string | null })[]>`
    select status::int, code, channel_id as "channelId", carrier_id as "carrierId", cost_e4 as "costE4", sent_at as "sentAt",
           final_at as "finalAt"
    from messages where account_id = ${accountId} and id = ${id} and day = ${day}::date`;
  if (!recorded) {
    // Read last: days that are frozen now may have been dropped before our first query.
    const [gone] = await sql`select 1 from batches where account_id = ${accountId} and id = ${batchId} and frozen ? ${day}::text`;
    if (gone) found(undefined, 'message');
  }
  const parts = await sql<Part[]>`
    select seg::int as number, channel_id as "channelId", carrier_id as "carrierId", code from segments
    where account_id = ${accountId} and id = ${id} and day = ${day}::date order by seg`;
  const late = await sql<{ at: Date; what: 'late_report' | 'read'; code: string }[]>`
    select at, what, code from late_reports where account_id = ${accountId} and id = ${id} order by at`;
  const own = sql`account_id = ${accountId} and kind = ${eventKind.report} and day = ${day}::date`;
  const reports = await sql<Passage[]>`
    select replay::int, due_at as "dueAt", null::bigint as "pushId", null::timestamptz as "handedAt" from ${opened(sql, sql`parcels`, own, [id])}
    union all
    select replay::int, null, push_id, handed_at from ${opened(sql, sql`handovers`, own, [id])}`;

  const { carrierId = null, ...outcome } = recorded ?? {};
  const message = summaryOf({ ...planned, ...outcome });
  const timeline: Moment[] = [{ at: acceptedAt, what: 'accepted', detail: '' }];
  if (message.sentAt) timeline.push({ at: message.sentAt, what: 'sent', detail: '' });
  if (message.finalAt) timeline.push({ at: message.finalAt, what: 'final', detail: message.code ?? '' });
  for (const { at, what, code } of late) timeline.push({ at, what, detail: code });
  timeline.push(...reports.map((passage) => momentOf(passage, message.finalAt)));
  timeline.sort((a, b) => a.at.getTime() - b.at.getTime());
  return { ...message, batchId, carrierId, parts, verdict, timeline };
}

/** One period in which a message's report waited, or one hand-over of it. */
interface Passage {
  readonly replay: number;
  readonly dueAt: Date | null;
  readonly pushId: bigint | null;
  readonly handedAt: Date | null;
}

function momentOf({ replay, dueAt, pushId, handedAt }: Passage, finalAt: Date | null): Moment {
  const again = replay > 0 ? `, replay ${replay}` : '';
  if (handedAt === null)
    return replay === 0
      ? { at: finalAt ?? new Date(0), what: 'report_waiting', detail: 'since the message ended' }
      : { at: dueAt ?? new Date(0), what: 'report_waiting', detail: `to be handed over again${again}` };
  if (pushId === null) return { at: handedAt, what: 'report_pulled', detail: `by the customer${again}` };
  return { at: handedAt, what: 'report_pushed', detail: `by push ${pushId}${again}` };
}

// ── replies ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Reply {
  readonly id: bigint;
  /** Null: unassigned. */
  readonly subscriptionId: bigint | null;
  readonly channelId: bigint;
  /** Empty if the carrier's value was not a number. */
  readonly phone: string;
  /** The number the person wrote to. */
  readonly dest: string;
  /** The same without the channel's access number. */
  readonly ext: string;
  readonly content: string;
  /** The batch of the latest message to this phone from that number. */
  readonly batchId: bigint | null;
  readonly optOut: boolean;
  readonly receivedAt: Date;
}

/** The account of replies that match no extension. */
export const unassigned = 0n;

/** An account's replies, newest first; those of `unassigned` are the operator's. */
export async function listReplies(
  sql: Sql,
  accountId: bigint,
  filter: { subscriptionId: bigint | null; phone: bigint | null },
  page: PageRequest,
): Promise<Page<Reply>> {
  const rows = await sql<(Omit<Reply, 'phone'> & { phone: bigint })[]>`
    select id, subscription_id as "subscriptionId", channel_id as "channelId", phone, dest, ext, content, batch_id as "batchId",
           opt_out as "optOut", received_at as "receivedAt"
    from replies
    where account_id = ${accountId} and id < ${belowId(page)}
      and (${filter.subscriptionId}::bigint is null or subscription_id = ${filter.subscriptionId})
      and (${filter.phone}::bigint is null or phone = ${filter.phone})
    order by id desc limit ${page.limit + 1}`;
  return mapPage(
    pageOf(rows, page, ({ id }) => [id]),
    ({ phone, ...reply }) => ({ ...reply, phone: phone === 0n ? '' : usualForm(phone) }),
  );
}

// ── pushes ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface PushAttempt {
  readonly id: bigint;
  /** 0: it went to a URL of the account. */
  readonly subscriptionId: bigint;
  readonly kind: EventKindName;
  /** Empty if the process was lost and the URL with it. */
  readonly url: string;
  /** The number of events it carried. */
  readonly events: number;
  /** Set if it carried one event. */
  readonly eventId: bigint | null;
  readonly state: 'done' | 'failed';
  readonly startedAt: Date;
  readonly finishedAt: Date | null;
  readonly httpStatus: number | null;
  /** The beginning of the answer of the customer's server, or the reason why there is none. */
  readonly answer: string | null;
}

/** All push attempts of an account, newest first. */
export async function listPushes(
  sql: Sql,
  accountId: bigint,
  filter: { subscriptionId: bigint | null; kind: EventKindName | null; state: PushAttempt['state'] | null; eventId: bigint | null },
  page: PageRequest,
): Promise<Page<PushAttempt>> {
  const kind = filter.kind && eventKind[filter.kind];
  const rows = await sql<(Omit<PushAttempt, 'kind'> & { kind: EventKind })[]>`
    select id, subscription_id as "subscriptionId", kind::int, url, events, event_id as "eventId", state, started_at as "startedAt", finished_at as "finishedAt", http_status as "httpStatus", answer
    from pushes
    where account_id = ${accountId} and id < ${belowId(page)}
      and (${filter.subscriptionId}::bigint is null or subscription_id = ${filter.subscriptionId})
      and (${kind}::int is null or kind = ${kind}) and (${filter.state}::text is null or state = ${filter.state})
      and ${filter.eventId === null ? sql`true` : sql`event_id = ${filter.eventId}`}
    order by id desc limit ${page.limit + 1}`;
  return mapPage(
    pageOf(rows, page, ({ id }) => [id]),
    ({ kind, ...push }) => ({ ...push, kind: eventKindName[kind] }),
  );
}

// ── ledger ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface LedgerEntry {
  readonly kind: 'top_up' | 'hold' | 'release' | 'settle' | 'opening';
  /** Null for a top-up, and for an entry that stands for many batches. */
  readonly batchId: bigint | null;
  /** The change of the balance and of the held amount. */
  readonly amountE4: bigint;
  readonly heldE4: bigint;
  readonly note: string | null;
  readonly at: Date;
}

/** The entries of one subscription, newest first. */
export async function listLedger(sql: Sql, accountId: bigint, subscriptionId: bigint, page: PageRequest): Promise<Page<LedgerEntry>> {
  const after = keyOf(page, ['micros', 'id', 'text', 'integer']);
  const earlier = after
    ? sql`(at, batch_id, kind, seq) < ('epoch'::timestamptz + ${after[0]}::bigint * interval '1 microsecond', ${after[1]}, ${after[2]}, ${after[3]})`
    : sql`true`;
  const rows = await sql<(LedgerEntry & { batchId: bigint; seq: bigint; micros: bigint })[]>`
    select kind, batch_id as "batchId", amount_e4 as "amountE4", held_e4 as "heldE4", note, at, seq,
           (extract(epoch from at) * 1000000)::bigint as micros
    from ledger_entries
    where account_id = ${accountId} and subscription_id = ${subscriptionId} and ${earlier}
    order by at desc, batch_id desc, kind desc, seq desc limit ${page.limit + 1}`;
  return mapPage(
    pageOf(rows, page, ({ micros, batchId, kind, seq }) => [micros, batchId, kind, seq]),
    ({ kind, batchId, amountE4, heldE4, note, at }) => ({ kind, batchId: batchId === 0n ? null : batchId, amountE4, heldE4, note, at }),
  );
}

// ── the operator's own ───────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface OrphanReport {
  readonly channelId: bigint;
  readonly carrierId: string;
  readonly code: string;
  /** As the carrier wrote it. */
  readonly phone: string;
  readonly receivedAt: Date;
  readonly nextTryAt: Date;
}

/** Reports that match no message (yet), in the order of their keys. */
export async function listOrphans(sql: Sql, page: PageRequest): Promise<Page<OrphanReport>> {
  const after = keyOf(page, ['id', 'text', 'text']);
  const later = after ? sql`(channel_id, carrier_id, code) > (${after[0]}, ${after[1]}, ${after[2]})` : sql`true`;
  const rows = await sql<OrphanReport[]>`
    select channel_id as "channelId", carrier_id as "carrierId", code, phone, received_at as "receivedAt", next_try_at as "nextTryAt"
    from orphan_reports where ${later}
    order by channel_id, carrier_id, code limit ${page.limit + 1}`;
  return pageOf(rows, page, ({ channelId, carrierId, code }) => [channelId, carrierId, code]);
}

/** The state of a channel. */
export interface ChannelActivity {
  readonly connections: readonly {
    readonly connection: number;
    /** The node that works it; null while none does. */
    readonly node: string | null;
    readonly state: string;
    readonly reason: string;
    readonly since: Date;
  }[];
  /** Chunks and messages that wait or are being sent; a message counts until its chunk is finished. */
  readonly queuedChunks: bigint;
  readonly queuedMessages: bigint;
}

/** The connections of these channels and the queue of each channel. */
export async function channelActivity(sql: Sql, channelIds: readonly bigint[]): Promise<ReadonlyMap<bigint, ChannelActivity>> {
  const leases = await sql<(ChannelActivity['connections'][number] & { channelId: bigint })[]>`
    select channel_id as "channelId", connection::int, case when until > now() then node end as node,
           case when until > now() then state else 'down' end as state, reason, state_at as since
    from channel_leases where channel_id = any(${channelIds}::bigint[]) order by channel_id, connection`;
  const queues = await sql<{ channelId: bigint; chunks: bigint; messages: bigint }[]>`
    select channel_id as "channelId", count(*) as chunks, sum(n)::bigint as messages
    from dispatch_queue where channel_id = any(${channelIds}::bigint[]) group by channel_id`;
  return new Map(
    channelIds.map((id) => {
      const queue = queues.find(({ channelId }) => channelId === id);
      const connections = leases
        .filter(({ channelId }) => channelId === id)
        .map(({ connection, node, state, reason, since }) => ({ connection, node, state, reason, since }));
      return [id, { connections, queuedChunks: queue?.chunks ?? 0n, queuedMessages: queue?.messages ?? 0n }];
    }),
  );
}
