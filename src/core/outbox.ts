/**
 * Events owed to customers: what waits, what was handed over, and every try to push. The only writer of `waiting_events`, `events` and
 * `pushes`.
 *
 * An event is born in the transaction that ends its message (or stores its reply), and leaves `waiting_events` for `events` in the
 * transaction that hands it over: by a pull, or by a push that succeeded. A push claims its rows and commits before anything is sent,
 * so a crash in between leaves rows "being pushed", which are found by their lease and become pullable: a row is pushed once.
 */
import { type Db, planAnew, type Sql } from '../db/db.ts';
import type { Directory, Tenancy } from './directory.ts';
import { batchIdOf, type EventKind, eventKind } from './model.ts';
import { usualForm } from './numbers.ts';

/** A message's final state, as a dialect reports it. */
export interface ReportEvent {
  readonly messageId: bigint;
  readonly batchId: bigint;
  readonly ext: string;
  /** As the customer wrote it. */
  readonly mobile: string;
  readonly code: string;
  readonly at: Date;
  /** What the message finally cost. */
  readonly costE4: bigint;
}

export interface ReplyEvent {
  readonly replyId: bigint;
  readonly content: string;
  readonly mobile: string;
  readonly batchId: bigint | null;
  readonly ext: string;
  readonly at: Date;
}

/** How a dialect writes the events it pushes; pure. */
export interface PushFormat {
  report(events: readonly ReportEvent[]): PushBody;
  reply(events: readonly ReplyEvent[]): PushBody;
}

interface PushBody {
  readonly contentType: string;
  readonly body: string;
}

interface WaitingRow {
  readonly id: bigint;
  readonly phone: bigint;
  readonly form: string | null;
  readonly code: string | null;
  readonly cost: bigint | null;
  readonly at: Date;
}

/** How long a push may take, with all its time-outs, before its rows count as left behind. */
const pushLeaseSeconds = 60;

// ── birth ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The subscriptions of an account that want events of a kind pushed. */
export function pushed(directory: Directory, accountId: bigint, kind: 'report' | 'reply'): bigint[] {
  const ids: bigint[] = [];
  for (const { account, subscription } of directory.subscriptionsWithPush())
    if (account.id === accountId && subscription.pushUrls[kind]) ids.push(subscription.id);
  return ids;
}

/**
 * The second half of a statement that ends messages: makes their events from its rows. `ended` is the name of a CTE with the columns
 * id, account_id, day, subscription_id, phone, form, code, cost_e4, final_at. A message ends once, so there is no conflict to expect:
 * the key would turn a second event into an error, and ON CONFLICT costs every row a second trip through the log.
 */
export function reportsFrom(sql: Sql, pushedIds: readonly bigint[]) {
  return sql`
    insert into waiting_events (id, kind, account_id, day, subscription_id, route, at, phone, form, code, cost_e4)
    select id, ${eventKind.report}::smallint, account_id, day, subscription_id,
           case when subscription_id = any(${pushedIds}::bigint[]) then 1 else 0 end, final_at, phone, form, code, cost_e4
    from ended`;
}

export async function insertReply(
  sql: Sql,
  directory: Directory,
  reply: { id: bigint; accountId: bigint; subscriptionId: bigint; day: string; phone: bigint; at: Date },
): Promise<void> {
  const wanted = directory.subscription(reply.subscriptionId)?.subscription.pushUrls.reply;
  await sql`
    insert into waiting_events (id, kind, account_id, day, subscription_id, route, at, phone)
    values (${reply.id}, ${eventKind.reply}, ${reply.accountId}, ${reply.day}, ${reply.subscriptionId}, ${wanted ? 1 : 0}, ${reply.at}, ${reply.phone})`;
}

// ── handing over ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Moves rows from waiting to history. Only a row that was handed over before (a replay) can be there already, and is marked anew; for
 * all others the key is the guard that nothing is handed over twice.
 */
async function handOver(
  sql: Sql,
  accountId: bigint,
  kind: EventKind,
  ids: readonly bigint[],
  pushId: bigint | null,
  at: Date,
): Promise<void> {
  await sql`
    with gone as (
      delete from waiting_events where account_id = ${accountId} and kind = ${kind} and id = any(${ids}::bigint[])
      returning id, kind, account_id, day, subscription_id, at, phone, form, code, cost_e4, replays),
    first as (
      insert into events (id, kind, account_id, day, subscription_id, at, phone, form, code, cost_e4, replays, push_id, handed_at)
      select gone.*, ${pushId}::bigint, ${at}::timestamptz from gone where replays = 0)
    insert into events (id, kind, account_id, day, subscription_id, at, phone, form, code, cost_e4, replays, push_id, handed_at)
    select gone.*, ${pushId}::bigint, ${at}::timestamptz from gone where replays > 0
    on conflict (id, kind, account_id, day)
      do update set push_id = excluded.push_id, handed_at = excluded.handed_at, replays = excluded.replays`;
}

async function reportEvents(sql: Sql, accountId: bigint, rows: readonly WaitingRow[]): Promise<ReportEvent[]> {
  const batchIds = [...new Set(rows.map(({ id }) => batchIdOf(id)))];
  const batches = await sql<{ id: bigint; ext: string }[]>`
    select id, ext from batches where account_id = ${accountId} and id = any(${batchIds}::bigint[])`;
  const exts = new Map(batches.map(({ id, ext }) => [id, ext]));
  return rows.map(({ id, phone, form, code, cost, at }) => {
    const batchId = batchIdOf(id);
    return {
      messageId: id,
      batchId,
      ext: exts.get(batchId) ?? '',
      mobile: form ?? usualForm(phone),
      code: code ?? '',
      at,
      costE4: cost ?? 0n,
    };
  });
}

async function replyEvents(sql: Sql, accountId: bigint, rows: readonly WaitingRow[]): Promise<ReplyEvent[]> {
  const replies = await sql<ReplyEvent[]>`
    select id as "replyId", content, batch_id as "batchId", ext, received_at as at from replies
    where account_id = ${accountId} and id = any(${rows.map(({ id }) => id)}::bigint[])`;
  const byId = new Map(replies.map((reply) => [reply.replyId, reply]));
  return rows.flatMap(({ id, phone }) => {
    const reply = byId.get(id);
    return reply ? [{ ...reply, mobile: usualForm(phone) }] : [];
  });
}

/** A claimed push: what to send, and where. Finish it with `pushed` or `pushFailed`. */
export interface Push {
  readonly id: bigint;
  readonly tenancy: Tenancy;
  readonly url: string;
  readonly kind: 'report' | 'reply';
  readonly reports: readonly ReportEvent[];
  readonly replies: readonly ReplyEvent[];
}

export interface ReplayFilter {
  readonly subscriptionId: bigint;
  readonly kind: 'report' | 'reply';
  /** Days of the events, inclusive. */
  readonly fromDay: string;
  readonly toDay: string;
  readonly ids?: readonly bigint[];
  readonly batchId?: bigint;
  readonly phone?: bigint;
}

export interface Outbox {
  /** Hands over what waits, oldest first, each row once whoever else pulls at the same time. */
  pullReports(tenancy: Tenancy, limit: number): Promise<ReportEvent[]>;
  pullReplies(tenancy: Tenancy, limit: number): Promise<ReplyEvent[]>;
  /** Which subscriptions have rows to be pushed. */
  awaitingPush(): Promise<{ subscriptionId: bigint; kind: 'report' | 'reply' }[]>;
  /** Claims the oldest rows for one push; null when there are none, or the URL is gone (its rows become pullable). */
  claimPush(subscriptionId: bigint, kind: 'report' | 'reply', limit: number): Promise<Push | null>;
  pushSucceeded(push: Push, status: number, answer: string): Promise<void>;
  /** The rows fall back to pull, the attempt is kept. */
  pushFailed(push: Push, status: number | null, answer: string): Promise<void>;
  /** Rows of pushes whose process died become pullable. */
  recoverPushes(): Promise<number>;
  /** Makes events that were handed over wait again: pushed again where there is a URL, else pulled. Returns how many. */
  replay(accountId: bigint, filter: ReplayFilter): Promise<number>;
}

export function createOutbox({ db, directory, clock }: { db: Db; directory: Directory; clock: () => Date }): Outbox {
  /** Locks the oldest rows of a subscription, skipping what others are taking. First in its transaction. */
  async function lock(sql: Sql, { account, subscription }: Tenancy, kind: EventKind, route: 0 | 1, limit: number): Promise<WaitingRow[]> {
    const query = sql<WaitingRow[]>`
      select id, phone, form, code, cost_e4 as cost, at from waiting_events
      where account_id = ${account.id} and subscription_id = ${subscription.id} and kind = ${kind} and route = ${route}
      order by at, id limit ${limit} for update skip locked`;
    const [, rows] = await Promise.all([planAnew(sql), query]);
    return rows;
  }

  async function pull<T>(
    tenancy: Tenancy,
    kind: EventKind,
    limit: number,
    load: (sql: Sql, accountId: bigint, rows: readonly WaitingRow[]) => Promise<T[]>,
  ): Promise<T[]> {
    return db.transaction(async (sql) => {
      const rows = await lock(sql, tenancy, kind, 0, limit);
      if (rows.length === 0) return [];
      const ids = rows.map(({ id }) => id);
      const [events] = await Promise.all([
        load(sql, tenancy.account.id, rows),
        handOver(sql, tenancy.account.id, kind, ids, null, clock()),
      ]);
      return events;
    });
  }

  async function endPush(sql: Sql, { id, tenancy }: Push, state: string, status: number | null, answer: string): Promise<boolean> {
    const [row] = await sql`
      update pushes set state = ${state}, http_status = ${status}, answer = ${answer}, finished_at = ${clock()}
      where account_id = ${tenancy.account.id} and id = ${id} and state = 'in_flight'
      returning id`;
    return row !== undefined;
  }

  return {
    pullReports: (tenancy, limit) => pull(tenancy, eventKind.report, limit, reportEvents),
    pullReplies: (tenancy, limit) => pull(tenancy, eventKind.reply, limit, replyEvents),

    async awaitingPush() {
      // A loose index scan: one step per subscription that has rows, however many rows it has.
      const rows = await db.sql<{ subscriptionId: bigint; kind: number }[]>`
        with recursive waiting as (
          (select account_id, subscription_id, kind from waiting_events where route = 1
           order by account_id, subscription_id, kind limit 1)
          union all
          select n.* from waiting w, lateral (
            select account_id, subscription_id, kind from waiting_events
            where route = 1 and (account_id, subscription_id, kind) > (w.account_id, w.subscription_id, w.kind)
            order by account_id, subscription_id, kind limit 1) n)
        select subscription_id as "subscriptionId", kind::int from waiting`;
      return rows.map(({ subscriptionId, kind }) => ({ subscriptionId, kind: kind === eventKind.report ? 'report' : 'reply' }));
    },

    async claimPush(subscriptionId, kindName, limit) {
      const tenancy = directory.subscription(subscriptionId);
      if (!tenancy) return null;
      const { account, subscription } = tenancy;
      const kind = eventKind[kindName];
      const url = subscription.pushUrls[kindName];
      if (!url) {
        await db.sql`
          update waiting_events set route = 0
          where account_id = ${account.id} and subscription_id = ${subscription.id} and kind = ${kind} and route = 1`;
        return null;
      }
      return db.transaction(async (sql) => {
        const rows = await lock(sql, tenancy, kind, 1, limit);
        if (rows.length === 0) return null;
        const [next] = await sql<{ id: bigint }[]>`select nextval('record_ids') as id`;
        if (!next) throw new Error('the sequence record_ids gave nothing');
        await sql`
          update waiting_events set route = 2, push_id = ${next.id}
          where account_id = ${account.id} and kind = ${kind} and id = any(${rows.map(({ id }) => id)}::bigint[])`;
        await sql`
          insert into pushes (account_id, id, subscription_id, kind, url, events, state, started_at, lease_until)
          values (${account.id}, ${next.id}, ${subscription.id}, ${kind}, ${url}, ${rows.length}, 'in_flight', ${clock()},
                  now() + make_interval(secs => ${pushLeaseSeconds}))`;
        return {
          id: next.id,
          tenancy,
          url,
          kind: kindName,
          reports: kindName === 'report' ? await reportEvents(sql, account.id, rows) : [],
          replies: kindName === 'reply' ? await replyEvents(sql, account.id, rows) : [],
        };
      });
    },

    async pushSucceeded(push, status, answer) {
      await db.transaction(async (sql) => {
        if (!(await endPush(sql, push, 'done', status, answer))) return;
        const ids = [...push.reports.map(({ messageId }) => messageId), ...push.replies.map(({ replyId }) => replyId)];
        await handOver(sql, push.tenancy.account.id, eventKind[push.kind], ids, push.id, clock());
      });
    },

    async pushFailed(push, status, answer) {
      await db.transaction(async (sql) => {
        if (!(await endPush(sql, push, 'failed', status, answer))) return;
        await sql`
          update waiting_events set route = 0, push_id = null
          where account_id = ${push.tenancy.account.id} and push_id = ${push.id} and route = 2`;
      });
    },

    async recoverPushes() {
      const rows = await db.sql`
        with lost as (
          update pushes set state = 'failed', answer = 'the process that pushed was lost', finished_at = ${clock()}
          where state = 'in_flight' and lease_until < now()
          returning account_id, id)
        update waiting_events w set route = 0, push_id = null
        from lost
        where w.account_id = lost.account_id and w.push_id = lost.id and w.route = 2
        returning w.id`;
      return rows.length;
    },

    async replay(accountId, { subscriptionId, kind: kindName, fromDay, toDay, ids, batchId, phone }) {
      const kind = eventKind[kindName];
      const route = pushed(directory, accountId, kindName).includes(subscriptionId) ? 1 : 0;
      const first = batchId === undefined ? null : batchId * 32768n;
      const again = await db.sql`
        insert into waiting_events (id, kind, account_id, day, subscription_id, route, at, phone, form, code, cost_e4, replays)
        select id, kind, account_id, day, subscription_id, ${route}::smallint, at, phone, form, code, cost_e4, replays + 1 from events
        where account_id = ${accountId} and subscription_id = ${subscriptionId} and kind = ${kind}
          and day between ${fromDay}::date and ${toDay}::date
          and (${ids ?? null}::bigint[] is null or id = any(${ids ?? null}::bigint[]))
          and (${first}::bigint is null or id between ${first}::bigint and ${first}::bigint + 32767)
          and (${phone ?? null}::bigint is null or phone = ${phone ?? null}::bigint)
        on conflict do nothing
        returning id`;
      return again.length;
    },
  };
}
