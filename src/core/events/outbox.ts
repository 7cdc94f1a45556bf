/**
 * Events owed to customers: what waits, what was handed over, and every try to push. The only writer of `parcels`, `handovers` and
 * `pushes`.
 *
 * Events travel in parcels: reports of one batch and day that were born together are one row (docs/adr/0011-events-travel-in-parcels.md).
 * What goes to a URL of an account has tries of its own, so there, and of replies and audits, each event is a parcel. A parcel says who
 * is to be told; what is to be said is read from messages, replies and templates when it leaves.
 *
 * An event is born in the transaction that ends its message (or stores its reply, or decides on its template), and its parcel leaves
 * `parcels` for `handovers` in the transaction that hands it over: by a pull, or by a push that succeeded.
 *
 * What is pushed goes to an endpoint: a subscription's URL for a kind, or, where the dialect has one URL for the whole account (MMS),
 * the account's. An event that waits for an endpoint is due at a time. A push claims due events and commits before anything is sent, and
 * the claim is a try: whatever happens to the process, an event is pushed no more often than its dialect allows. Claims run out, so
 * what a lost process has left behind is found. What a try that failed means (again later, to be pulled, failed for good) is decided by
 * the dialect's `PushDialect`, and written here.
 */
import { type Db, type Fragment, planAnew, type Sql } from '../../db/db.ts';
import { groupBy } from '../../std/group.ts';
import type { Directory, Tenancy } from '../config/directory.ts';
import { type EventKind, type EventKindName, eventKind, eventKindName } from '../model/statuses.ts';
import { usualForm } from '../model/numbers.ts';

/** Reports of messages of one batch that ended alike: they say the same but for the number. */
export interface ReportEvents {
  readonly batchId: bigint;
  readonly ext: string;
  /** As the customer wrote them. */
  readonly mobiles: readonly string[];
  readonly code: string;
  readonly at: Date;
  /** What each message finally cost. */
  readonly costE4: bigint;
  /** When the carrier took the first of them; of acceptance where no carrier was asked. */
  readonly sentAt: Date;
}

export interface ReplyEvent {
  readonly replyId: bigint;
  readonly content: string;
  readonly mobile: string;
  readonly batchId: bigint | null;
  readonly ext: string;
  readonly at: Date;
}

export interface AuditEvent {
  readonly templateId: bigint;
  readonly approved: boolean;
  readonly reason: string | null;
}

/** How a dialect pushes: what it writes, how much at once, what it takes for success, and what follows a failure. */
export interface PushDialect {
  /** Events in one push: `one`, many pushes at a time; or `many`, one push at a time. */
  readonly carries: 'one' | 'many';
  /** After a failure: again, on the schedule of the settings, until it has failed for good; or never again, to be pulled instead. */
  readonly afterFailure: 'again' | 'pull';
  isSuccess(answer: { readonly status: number; readonly text: string }): boolean;
  report(events: readonly ReportEvents[]): PushBody;
  reply(events: readonly ReplyEvent[]): PushBody;
  /** Null where the dialect has no templates to be told of. */
  readonly audit: ((event: AuditEvent) => PushBody) | null;
}

export interface PushBody {
  readonly contentType: string;
  readonly body: string;
}

/** Events that travel together, all of them the same way. */
export interface Parcel {
  /** Its first event's. */
  readonly id: bigint;
  /** How many events it holds. */
  readonly size: number;
  /** How often a push of it was begun, with the one that a claim begins. */
  readonly tries: number;
}

/** How an event is to reach the customer. In `kept` nobody can pull it, and there is no URL; it waits for a replay. */
const route = { pull: 0, push: 1, pushing: 2, failed: 3 } as const;
/** The endpoint whose URLs are the account's own. */
const wholeAccount = 0n;

/** How long a claim stands. Whoever holds it sends nothing in its last part, see `PushClaim.sendWithinMs`. */
const leaseSeconds = 60;
const sendWithinMs = 45_000;
/** Parcels that lose their URL, or their process, are dealt with in portions. */
const portion = 5000;
/** Of reports that are not pushed one by one. A row of so many is small enough to lie where it is. */
const eventsPerParcel = 500;
/** How many parcels of many are looked at before it is known how much they hold. */
const firstLook = 16;

// ── birth ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Where events of some accounts' subscriptions go. */
export interface Destinations {
  /** Subscriptions whose events go to the account's URL. */
  readonly shared: readonly bigint[];
  /** Subscriptions whose events are to be pushed. */
  readonly pushed: readonly bigint[];
}

const endpointOf = ({ product, subscription }: Tenancy): bigint => (product.medium === 'mms' ? wholeAccount : subscription.id);

function urlOf(directory: Directory, { accountId, owner, kind }: Endpoint): string | undefined {
  if (owner === wholeAccount) return directory.account(accountId)?.pushUrls[kind === 'audit' ? 'template' : kind];
  return kind === 'audit' ? undefined : directory.subscription(owner)?.subscription.pushUrls[kind];
}

export function destinations(directory: Directory, accountIds: readonly bigint[], kind: 'report' | 'reply'): Destinations {
  const tenancies = accountIds.flatMap((accountId) => directory.subscriptionsOf(accountId));
  return {
    shared: tenancies.filter((tenancy) => endpointOf(tenancy) === wholeAccount).map(({ subscription }) => subscription.id),
    pushed: tenancies
      .filter((tenancy) => urlOf(directory, { accountId: tenancy.account.id, owner: endpointOf(tenancy), kind }))
      .map(({ subscription }) => subscription.id),
  };
}

/**
 * The second half of a statement that ends messages: makes their events from its rows. `ended` is the name of a CTE with the columns
 * id, account_id, day, subscription_id, final_at.
 */
export const reportsFrom = (sql: Sql, to: Destinations) =>
  parcelsFrom(sql, eventKind.report, to, sql`select id, account_id, day, subscription_id, final_at as at, 0 as replay from ended`, null);

/** Wraps events, rows of id, account_id, day, subscription_id, at, replay, into parcels. Without a `dueAt` they are due since they happened. */
const parcelsFrom = (sql: Sql, kind: EventKind, { shared, pushed }: Destinations, events: Fragment, dueAt: Date | null) => sql`
  insert into parcels (account_id, kind, id, day, subscription_id, endpoint, route, at, due_at, replay, indexes)
  select account_id, ${kind}::smallint, batch_id * 32768 + indexes[n], day, subscription_id,
         case when subscription_id = any(${shared}::bigint[]) then ${wholeAccount}::bigint else subscription_id end,
         case when subscription_id = any(${pushed}::bigint[]) then ${route.push}::smallint else ${route.pull}::smallint end,
         at, coalesce(${dueAt}::timestamptz, at), replay, indexes[n : n + most - 1]
  from (
    select account_id, id / 32768 as batch_id, day, subscription_id, at, replay, array_agg((id % 32768)::smallint order by id) as indexes,
           case when ${kind === eventKind.report} and subscription_id <> all(${shared}::bigint[]) then ${eventsPerParcel}::int else 1 end as most
    from (${events}) as events
    group by account_id, id / 32768, day, subscription_id, at, replay) as sets,
    generate_series(1, cardinality(indexes), most) as n`;

export async function insertReply(
  sql: Sql,
  directory: Directory,
  reply: { id: bigint; tenancy: Tenancy; day: string; at: Date },
): Promise<void> {
  const { account, subscription } = reply.tenancy;
  const owner = endpointOf(reply.tenancy);
  const wanted = urlOf(directory, { accountId: account.id, owner, kind: 'reply' });
  await insertOne(sql, account.id, eventKind.reply, reply, subscription.id, owner, wanted !== undefined);
}

/** Tells the account what was decided on its template. A template is decided on once, so its id is the event's. */
export async function insertAudit(sql: Sql, audit: { templateId: bigint; accountId: bigint; day: string; at: Date }): Promise<void> {
  const { accountId, templateId: id } = audit;
  // Not the directory: this is a transaction of the management API, and the URL may be younger than this node's view.
  const [account] = await sql<{ wanted: boolean }[]>`
    select push_urls ? 'template' as wanted from accounts where id = ${accountId}`;
  await insertOne(sql, accountId, eventKind.audit, { ...audit, id }, 0n, wholeAccount, account?.wanted ?? false);
}

const insertOne = (
  sql: Sql,
  accountId: bigint,
  kind: EventKind,
  { id, day, at }: { id: bigint; day: string; at: Date },
  subscriptionId: bigint,
  owner: bigint,
  isPushed: boolean,
) => sql`
  insert into parcels (account_id, kind, id, day, subscription_id, endpoint, route, at, due_at, indexes)
  values (${accountId}, ${kind}, ${id}, ${day}, ${subscriptionId}, ${owner}, ${isPushed ? route.push : route.pull}, ${at}, ${at},
          array[${id}::bigint % 32768]::smallint[])`;

// ── what they tell ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What parcels are read from: a CTE named `carried`, which may be the statement that moves them, so that what leaves is what is told. */
interface Carried {
  readonly accountId: bigint;
  /** Of the parcels, from and to. */
  readonly days: readonly [string, string];
  /** `with carried as (…)`, and more if need be. */
  readonly with: Fragment;
}

/** The ids of the events in them. */
const carriedIds = (sql: Sql) => sql`array(select id / 32768 * 32768 + unnest(indexes) from carried)`;

/** A row for each batch and way to end; `each`: for each message, whose id is then told. */
async function reportsOf(
  sql: Sql,
  { accountId, days, with: carrying }: Carried,
  each: boolean,
): Promise<(ReportEvents & { id: bigint })[]> {
  const rows = await sql<(ReportEvents & { id: bigint; phones: string[]; forms: (string | null)[] | null })[]>`
    ${carrying},
    alike as (
      select min(id) as id, id / 32768 as batch_id, code, cost_e4, final_at, min(sent_at) as sent_at, array_agg(phone::text) as phones,
             case when count(form) > 0 then array_agg(form) end as forms
      from messages
      where account_id = ${accountId} and day between ${days[0]} and ${days[1]} and id = any(${carriedIds(sql)})
      group by id / 32768, code, cost_e4, final_at ${each ? sql`, id` : sql``})
    select a.id, a.batch_id as "batchId", coalesce(b.ext, '') as ext, a.code, a.cost_e4 as "costE4", a.final_at as at,
           coalesce(a.sent_at, b.created_at, a.final_at) as "sentAt", a.phones, a.forms
    from alike a left join batches b on b.account_id = ${accountId} and b.id = a.batch_id`;
  return rows
    .map(({ phones, forms, ...reports }) => ({ ...reports, mobiles: phones.map((phone, n) => forms?.[n] ?? usualForm(phone)) }))
    .sort((a, b) => a.at.getTime() - b.at.getTime());
}

async function repliesOf(sql: Sql, { accountId, with: carrying }: Carried): Promise<ReplyEvent[]> {
  const replies = await sql<(Omit<ReplyEvent, 'mobile'> & { phone: bigint })[]>`
    ${carrying}
    select id as "replyId", content, phone, batch_id as "batchId", ext, received_at as at from replies
    where account_id = ${accountId} and id = any(${carriedIds(sql)})`;
  return replies.map(({ phone, ...reply }) => ({ ...reply, mobile: usualForm(phone) })).sort((a, b) => a.at.getTime() - b.at.getTime());
}

/** What was rejected stays so; what was approved may have been withdrawn since. */
const auditsOf = (sql: Sql, { accountId, with: carrying }: Carried) => sql<AuditEvent[]>`
  ${carrying}
  select id as "templateId", state <> 'rejected' as approved, reason from templates
  where account_id = ${accountId} and id = any(${carriedIds(sql)})`;

/** What one push carries. */
export interface Load {
  readonly parcels: readonly Parcel[];
  readonly events:
    | { readonly kind: 'report'; readonly reports: readonly ReportEvents[] }
    | { readonly kind: 'reply'; readonly replies: readonly ReplyEvent[] }
    | { readonly kind: 'audit'; readonly audits: readonly AuditEvent[] };
}

/** Everything in one load; but where each event is a parcel with tries of its own, a load for each. */
async function loadsOf(sql: Sql, { owner, kind }: Endpoint, parcels: readonly Parcel[], carried: Carried): Promise<Load[]> {
  const each = owner === wholeAccount;
  const events = await (async (): Promise<[bigint, Load['events']][]> => {
    if (kind === 'report') {
      const reports = await reportsOf(sql, carried, each);
      return each ? reports.map((report) => [report.id, { kind, reports: [report] }]) : [[0n, { kind, reports }]];
    }
    if (kind === 'reply') {
      const replies = await repliesOf(sql, carried);
      return each ? replies.map((reply) => [reply.replyId, { kind, replies: [reply] }]) : [[0n, { kind, replies }]];
    }
    return (await auditsOf(sql, carried)).map((audit) => [audit.templateId, { kind, audits: [audit] }]);
  })();
  const own = new Map(parcels.map((parcel) => [parcel.id, [parcel]]));
  return events.map(([id, events]) => ({ parcels: each ? (own.get(id) ?? []) : parcels, events }));
}

/**
 * Rows of `parcels` or of `handovers`, `p`, once for each event that they hold, its `event_id`: all rows that are as `wanted`, or those of
 * these events alone. An event is found from its id, since a row's id is that of an event of the same batch.
 */
export const opened = (sql: Sql, table: Fragment, wanted: Fragment, ids: readonly bigint[] | null) =>
  ids === null
    ? sql`(select *, id / 32768 * 32768 + unnest(indexes) as event_id from ${table} where ${wanted}) as p`
    : sql`
      (select own.*, event_id
       from unnest(${ids}::bigint[]) as event_id, lateral (
         select * from ${table} where ${wanted} and id = event_id and cardinality(indexes) = 1
         union all
         select * from ${table}
         where ${wanted} and id between event_id / 32768 * 32768 and event_id and cardinality(indexes) > 1
           and (event_id % 32768)::smallint = any(indexes)) as own) as p`;

/** The events about a number: reports of messages to it, or replies from it; an audit is about none. */
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

// ── handing over ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Parcels that are ours for the rest of a transaction. */
type Held = Parcel & { readonly day: string };

/**
 * Locks parcels in order, past those that others hold, until they hold so many events. One that holds more than is left is cut in two. What
 * was looked at in vain stays locked until the transaction ends, so at first only a few are, unless each `isOne` event.
 */
async function hold(
  sql: Sql,
  accountId: bigint,
  kind: EventKind,
  isOne: boolean,
  which: Fragment,
  order: Fragment,
  limit: number,
): Promise<Held[]> {
  const held: Held[] = [];
  let left = limit;
  for (let look = isOne ? limit : Math.min(limit, firstLook); ; ) {
    const found = await sql<Held[]>`
      select id, day, tries::int, cardinality(indexes) as size from parcels
      where account_id = ${accountId} and kind = ${kind} and ${which} and id <> all(${held.map(({ id }) => id)}::bigint[])
      order by ${order}, id limit ${look} for update skip locked`;
    for (const parcel of found) {
      if (left === 0) break;
      if (parcel.size > left) await cut(sql, accountId, kind, parcel.id, left);
      const size = Math.min(parcel.size, left);
      held.push({ ...parcel, size });
      left -= size;
    }
    if (left === 0 || found.length < look) return held;
    look = Math.min(left, Math.ceil((left * held.length) / (limit - left)) + 1);
  }
}

/** Leaves the first `size` events of a parcel in it and makes a parcel of the others. */
const cut = (sql: Sql, accountId: bigint, kind: EventKind, id: bigint, size: number) => sql`
  with rest as (
    insert into parcels (account_id, kind, id, day, subscription_id, endpoint, route, at, due_at, tries, replay, indexes)
    select account_id, kind, id / 32768 * 32768 + indexes[${size + 1}], day, subscription_id, endpoint, route, at, due_at, tries, replay,
           indexes[${size + 1} : ]
    from parcels where account_id = ${accountId} and kind = ${kind} and id = ${id})
  update parcels set indexes = indexes[ : ${size}] where account_id = ${accountId} and kind = ${kind} and id = ${id}`;

const carriedOf = (accountId: bigint, held: readonly Held[], carrying: Fragment): Carried => {
  const days = held.map(({ day }) => day).sort();
  return { accountId, days: [days[0] ?? '', days.at(-1) ?? ''], with: carrying };
};

const handedColumns = (sql: Sql) => sql`account_id, kind, id, day, subscription_id, replay, at, indexes`;

/** Which push each parcel left by, and under which claims they must still be held. */
interface Pushed {
  readonly parcels: readonly { readonly id: bigint; readonly pushId: bigint }[];
  readonly claimIds: readonly bigint[];
}

/** Moves parcels that a push has carried from waiting to history. The key is the guard that nothing is handed over twice. */
const handOver = (sql: Sql, accountId: bigint, kind: EventKind, { parcels, claimIds }: Pushed, at: Date) => sql`
  with gone as (
    delete from parcels
    where account_id = ${accountId} and kind = ${kind} and id = any(${parcels.map(({ id }) => id)}::bigint[])
      and route = ${route.pushing} and push_id = any(${claimIds}::bigint[])
    returning ${handedColumns(sql)})
  insert into handovers (${handedColumns(sql)}, push_id, handed_at)
  select gone.*, p.push_id, ${at}::timestamptz
  from gone join unnest(${parcels.map(({ id }) => id)}::bigint[], ${parcels.map(({ pushId }) => pushId)}::bigint[]) as p(id, push_id)
    on p.id = gone.id`;

// ── past retention ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What has failed, or is kept without a URL, waits for nobody but an operator who has it replayed. */
const unwanted = (sql: Sql) => sql`(route = ${route.failed} or (route = ${route.pull} and endpoint = ${wholeAccount}))`;

/**
 * Days before this with events that somebody will come for. Reads all that waits: nothing indexes its day. A sweep over all accounts, like
 * the others here.
 */
export async function awaitedDays(sql: Sql, before: string): Promise<ReadonlySet<string>> {
  const rows = await sql<{ day: string }[]>`select distinct day from parcels where day < ${before} and not ${unwanted(sql)}`;
  return new Set(rows.map(({ day }) => day));
}

/**
 * Gives up the events of a day, at most `limit` parcels: those that have failed or are kept, and `all` others too unless they are being pushed at this
 * moment. Returns how many parcels.
 */
export async function giveUpEvents(sql: Sql, day: string, all: boolean, limit: number): Promise<number> {
  const given = await sql<{ id: bigint; kind: EventKind; accountId: bigint }[]>`
    select id, kind::int, account_id as "accountId" from parcels
    where day = ${day} and ${all ? sql`route <> ${route.pushing}` : unwanted(sql)}
    limit ${limit} for update skip locked`;
  for (const same of groupBy(given, ({ accountId, kind }) => `${accountId}/${kind}`).values()) {
    const [{ accountId, kind } = { accountId: 0n, kind: eventKind.report }] = same;
    await sql`
      delete from parcels
      where account_id = ${accountId} and kind = ${kind} and id = any(${same.map(({ id }) => id)}::bigint[])`;
  }
  return given.length;
}

/** Whether anything of a day waits, for whatever. */
export async function hasWaiting(sql: Sql, day: string): Promise<boolean> {
  const [row] = await sql<[{ waits: boolean }]>`select exists (select 1 from parcels where day = ${day}) as waits`;
  return row.waits;
}

/** What is handed over needs a partition to go to, so no day is dropped while something is made to wait again. For one transaction. */
const keepPartitions = async (sql: Sql): Promise<void> =>
  void (await sql`select pg_advisory_xact_lock_shared(hashtext('hongyan partitions'))`);

/** The other side: nothing is replayed, and nobody else makes or drops partitions, for the rest of this transaction. */
export const ownPartitions = async (sql: Sql): Promise<void> =>
  void (await sql`select pg_advisory_xact_lock(hashtext('hongyan partitions'))`);

/** Forgets an account's tries to push from before this time, the oldest first, at most `limit`; returns how many. */
export async function purgePushes(sql: Sql, accountId: bigint, before: Date, limit: number): Promise<number> {
  const gone = await sql`
    with oldest as (select id, started_at from pushes where account_id = ${accountId} order by id limit ${limit})
    delete from pushes
    where account_id = ${accountId} and id = any(array(select id from oldest where started_at < ${before})) returning 1`;
  return gone.length;
}

/** Whose server, and for what. */
export interface Endpoint {
  readonly accountId: bigint;
  /** The subscription whose URL it is; 0: the account. */
  readonly owner: bigint;
  readonly kind: EventKindName;
}

/** Events that nobody else pushes, until the claim runs out. */
export interface PushClaim {
  readonly id: bigint;
  readonly endpoint: Endpoint;
  readonly url: string;
  readonly loads: readonly Load[];
  /** How long after the claim a push may still begin. */
  readonly sendWithinMs: number;
}

/** Parcels whose claim has run out: the process that held it was lost. */
export interface LostClaim {
  readonly id: bigint;
  readonly endpoint: Endpoint;
  readonly parcels: readonly Parcel[];
}

/** What becomes of events after a try: handed over; due again; to be pulled (where nobody pulls, kept); failed, and kept for a replay. */
export type Fate =
  | { readonly kind: 'done' }
  | { readonly kind: 'again'; readonly at: Date }
  | { readonly kind: 'pull' }
  | { readonly kind: 'failed' }
  | { readonly kind: 'unsent' }; // nothing was sent: it was no try

export interface PushResult {
  readonly claimId: bigint;
  readonly endpoint: Endpoint;
  readonly parcels: readonly Parcel[];
  readonly fate: Fate;
  /** Null if nothing was sent. */
  readonly attempt: { readonly url: string; readonly startedAt: Date; readonly status: number | null; readonly answer: string } | null;
}

export interface ReplayFilter {
  /** Null: of the whole account. */
  readonly subscriptionId: bigint | null;
  readonly kind: EventKindName;
  /** Days of the events, inclusive. */
  readonly fromDay: string;
  readonly toDay: string;
  /** `failed`: only what has failed or was kept, and was never handed over. */
  readonly state?: 'any' | 'failed';
  readonly ids?: readonly bigint[];
  readonly batchId?: bigint;
  readonly phone?: bigint;
}

export interface Outbox {
  /** Hands over what waits, oldest first, each event once whoever else pulls at the same time, and no more than the limit. */
  pullReports(tenancy: Tenancy, limit: number): Promise<ReportEvents[]>;
  pullReplies(tenancy: Tenancy, limit: number): Promise<ReplyEvent[]>;
  /** Endpoints with something due. What is due later, however much it is, costs nothing. */
  due(): Promise<Endpoint[]>;
  /** Claims what is due first; null when there is nothing, or the URL is gone (its events fall back to pull). */
  claim(endpoint: Endpoint, limit: number): Promise<PushClaim | null>;
  /** Writes what became of claimed events, and the tries. What is no longer held under its claim stays as it is. */
  settle(results: readonly PushResult[]): Promise<void>;
  /** Settles what lost processes have left behind, as `judge` says. Returns how many events. */
  recover(judge: (claim: LostClaim) => readonly PushResult[]): Promise<number>;
  /** Makes events wait again that were handed over, have failed or were kept: pushed where there is a URL, else pulled. Returns how many. */
  replay(accountId: bigint, filter: ReplayFilter): Promise<number>;
}

export function createOutbox({ db, directory, clock }: { db: Db; directory: Directory; clock: () => Date }): Outbox {
  async function pull<T>(
    { account, subscription }: Tenancy,
    kind: EventKind,
    limit: number,
    tell: (sql: Sql, carried: Carried) => Promise<T[]>,
  ): Promise<T[]> {
    const handOverNext = async (sql: Sql): Promise<T[]> => {
      const waiting = sql`subscription_id = ${subscription.id} and route = 0`;
      const [, held] = await Promise.all([planAnew(sql), hold(sql, account.id, kind, kind !== eventKind.report, waiting, sql`at`, limit)]);
      if (held.length === 0) return [];
      const moved = sql`
        with carried as (
          delete from parcels
          where account_id = ${account.id} and kind = ${kind} and id = any(${held.map(({ id }) => id)}::bigint[])
          returning ${handedColumns(sql)}),
        handed as (
          insert into handovers (${handedColumns(sql)}, handed_at) select *, ${clock()}::timestamptz from carried)`;
      return tell(sql, carriedOf(account.id, held, moved));
    };
    // A pull that was committed is answered with its rows, even if the database went away before it could say so: nobody would see them again.
    return db.transaction(handOverNext, { findOut: (told) => told.length > 0 });
  }

  async function settleIn(sql: Sql, results: readonly PushResult[], attemptIds: readonly bigint[], at: Date): Promise<void> {
    const numbered = results.map((result, index) => ({ ...result, pushId: attemptIds[index] ?? 0n }));
    const byAccount = [...groupBy(numbered, ({ endpoint }) => endpoint.accountId)].sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [accountId, own] of byAccount) {
      await insertAttempts(sql, accountId, own, at);
      for (const [kind, same] of groupBy(own, ({ endpoint }) => eventKind[endpoint.kind])) {
        const claimIds = [...new Set(same.map(({ claimId }) => claimId))];
        const done = same.filter(({ fate }) => fate.kind === 'done');
        if (done.length > 0) {
          const parcels = done.flatMap(({ pushId, parcels }) => parcels.map(({ id }) => ({ id, pushId })));
          await handOver(sql, accountId, kind, { parcels, claimIds }, at);
        }
        const others = same.filter(({ fate }) => fate.kind !== 'done');
        for (const alike of groupBy(others, ({ fate }) => (fate.kind === 'again' ? fate.at.getTime() : fate.kind)).values()) {
          const fate = alike[0]?.fate ?? { kind: 'failed' };
          const next = fate.kind === 'pull' ? route.pull : fate.kind === 'failed' ? route.failed : route.push;
          await sql`
            update parcels
            set route = ${next}, push_id = null, lease_until = null, due_at = coalesce(${fate.kind === 'again' ? fate.at : null}, due_at),
                tries = tries - ${fate.kind === 'unsent' ? 1 : 0}::smallint
            where account_id = ${accountId} and kind = ${kind}
              and id = any(${alike.flatMap(({ parcels }) => parcels.map(({ id }) => id))}::bigint[])
              and route = ${route.pushing} and push_id = any(${claimIds}::bigint[])`;
        }
      }
    }
  }

  async function insertAttempts(
    sql: Sql,
    accountId: bigint,
    results: readonly (PushResult & { readonly pushId: bigint })[],
    at: Date,
  ): Promise<void> {
    const rows = results.flatMap(({ attempt, parcels, ...result }) => {
      const events = parcels.reduce((sum, { size }) => sum + size, 0);
      return attempt ? [{ ...result, ...attempt, events, eventId: events === 1 ? (parcels[0]?.id ?? null) : null }] : [];
    });
    if (rows.length === 0) return;
    await sql`
      insert into pushes (account_id, id, subscription_id, kind, url, events, event_id, state, started_at, finished_at, http_status, answer)
      select ${accountId}, id, owner, kind, url, events, event_id, state, started_at, ${at}, http_status, answer
      from unnest(${rows.map((r) => r.pushId)}::bigint[], ${rows.map((r) => r.endpoint.owner)}::bigint[],
                  ${rows.map((r) => eventKind[r.endpoint.kind])}::smallint[], ${rows.map((r) => r.url)}::text[],
                  ${rows.map((r) => r.events)}::int[], ${rows.map((r) => r.eventId)}::bigint[],
                  ${rows.map((r) => (r.fate.kind === 'done' ? 'done' : 'failed'))}::text[], ${rows.map((r) => r.startedAt)}::timestamptz[],
                  ${rows.map((r) => r.status)}::int[], ${rows.map((r) => r.answer)}::text[])
        as t(id, owner, kind, url, events, event_id, state, started_at, http_status, answer)
      on conflict do nothing`;
  }

  async function nextIds(sql: Sql, count: number): Promise<bigint[]> {
    const rows = await sql<{ id: bigint }[]>`select nextval('record_ids') as id from generate_series(1, ${count}::int)`;
    return rows.map(({ id }) => id);
  }

  async function replayIn(
    sql: Sql,
    accountId: bigint,
    { subscriptionId, kind: kindName, fromDay, toDay, state, ids: given, batchId, phone }: ReplayFilter,
  ): Promise<number> {
    const kind = eventKind[kindName];
    const at = clock();
    const hasUrl = urlOf(directory, { accountId, owner: wholeAccount, kind: kindName }) !== undefined;
    const to = kindName === 'audit' ? { shared: [0n], pushed: hasUrl ? [0n] : [] } : destinations(directory, [accountId], kindName);
    const ofPhone = phone === undefined ? null : new Set(await eventsOf(sql, accountId, kind, { phone, fromDay, toDay }));
    const ids = ofPhone && given ? given.filter((id) => ofPhone.has(id)) : (given ?? (ofPhone && [...ofPhone]));
    const wanted = sql`
      account_id = ${accountId} and kind = ${kind} and day between ${fromDay}::date and ${toDay}::date
      and (${subscriptionId}::bigint is null or subscription_id = ${subscriptionId})
      and (${batchId ?? null}::bigint is null or id between ${(batchId ?? 0n) * 32768n} and ${(batchId ?? 0n) * 32768n + 32767n})`;
    const named = sql`(${ids}::bigint[] is null or id = any(${ids}::bigint[]))`;
    // What has failed, and what was kept because nobody could pull it, each a parcel. Without a URL there is nothing to do for it.
    const kept = await sql`
      update parcels set route = ${route.push}, tries = 0, due_at = ${at}
      where ${wanted} and ${named} and ${unwanted(sql)}
        and subscription_id = any(${to.pushed}::bigint[])
      returning id`;
    if (state === 'failed') return kept.length;
    const again = await sql<{ size: number }[]>`
      with passages as (
        select event_id, account_id, day, subscription_id, at, replay, true as waits from ${opened(sql, sql`parcels`, wanted, ids)}
        union all
        select event_id, account_id, day, subscription_id, at, replay, false from ${opened(sql, sql`handovers`, wanted, ids)}),
      latest as (select distinct on (event_id) * from passages order by event_id, replay desc)
      ${parcelsFrom(sql, kind, to, sql`select event_id as id, account_id, day, subscription_id, at, replay + 1 as replay from latest where not waits`, at)}
      returning cardinality(indexes) as size`;
    return again.reduce((sum, { size }) => sum + size, kept.length);
  }

  return {
    pullReports: (tenancy, limit) => pull(tenancy, eventKind.report, limit, (sql, carried) => reportsOf(sql, carried, false)),
    pullReplies: (tenancy, limit) => pull(tenancy, eventKind.reply, limit, repliesOf),

    async due() {
      // A loose index scan: one step for each endpoint that has rows, however many it has. The first of them is due first.
      const rows = await db.sql<{ accountId: bigint; owner: bigint; kind: EventKind }[]>`
        with recursive waiting as (
          (select account_id, endpoint, kind, due_at from parcels where route = 1
           order by account_id, endpoint, kind, due_at, id limit 1)
          union all
          select n.* from waiting w, lateral (
            select account_id, endpoint, kind, due_at from parcels
            where route = 1 and (account_id, endpoint, kind) > (w.account_id, w.endpoint, w.kind)
            order by account_id, endpoint, kind, due_at, id limit 1) n)
        select account_id as "accountId", endpoint as owner, kind::int from waiting where due_at <= ${clock()}`;
      return rows.map(({ kind, ...endpoint }) => ({ ...endpoint, kind: eventKindName[kind] }));
    },

    async claim(endpoint, limit) {
      const { accountId, owner, kind: kindName } = endpoint;
      const kind = eventKind[kindName];
      const url = urlOf(directory, endpoint);
      if (!url) {
        await db.sql`
          with orphaned as (
            select id from parcels
            where account_id = ${accountId} and endpoint = ${owner} and kind = ${kind} and route = 1
            order by due_at, id limit ${portion} for update skip locked)
          update parcels set route = ${route.pull}
          where account_id = ${accountId} and kind = ${kind} and id = any(array(select id from orphaned)) and route = 1`;
        return null;
      }
      return db.transaction(async (sql) => {
        const isOne = owner === wholeAccount || kind !== eventKind.report;
        const due = sql`endpoint = ${owner} and route = 1 and due_at <= ${clock()}`;
        const [, held] = await Promise.all([planAnew(sql), hold(sql, accountId, kind, isOne, due, sql`due_at`, limit)]);
        if (held.length === 0) return null;
        const [id = 0n] = await nextIds(sql, 1);
        const claimed = sql`
          with carried as (
            update parcels
            set route = ${route.pushing}, push_id = ${id}, tries = tries + 1, lease_until = now() + make_interval(secs => ${leaseSeconds})
            where account_id = ${accountId} and kind = ${kind} and id = any(${held.map(({ id }) => id)}::bigint[])
            returning id, indexes)`;
        const parcels = held.map(({ id, size, tries }) => ({ id, size, tries: tries + 1 }));
        return { id, endpoint, url, loads: await loadsOf(sql, endpoint, parcels, carriedOf(accountId, held, claimed)), sendWithinMs };
      });
    },

    async settle(results) {
      if (results.length === 0) return;
      const at = clock();
      // Numbered before, so that a repeat after an unknown commit meets its own keys.
      const attemptIds = await nextIds(db.sql, results.length);
      await db.transaction(async (sql) => {
        await Promise.all([planAnew(sql), settleIn(sql, results, attemptIds, at)]);
      });
    },

    recover: (judge) =>
      db.transaction(async (sql) => {
        const query = sql<(Parcel & { accountId: bigint; owner: bigint; kind: EventKind; claimId: bigint })[]>`
          select id, account_id as "accountId", endpoint as owner, kind::int, tries::int, cardinality(indexes) as size, push_id as "claimId"
          from parcels
          where route = 2 and lease_until < now()
          order by lease_until limit ${portion} for update skip locked`;
        const [, rows] = await Promise.all([planAnew(sql), query]);
        if (rows.length === 0) return 0;
        const results = [...groupBy(rows, ({ claimId }) => claimId)].flatMap(([id, parcels]) => {
          const [{ accountId, owner, kind } = { accountId: 0n, owner: 0n, kind: eventKind.report }] = parcels;
          return judge({ id, endpoint: { accountId, owner, kind: eventKindName[kind] }, parcels });
        });
        await settleIn(sql, results, await nextIds(sql, results.length), clock());
        return rows.reduce((sum, { size }) => sum + size, 0);
      }),

    replay: (accountId, filter) =>
      db.transaction(async (sql) => {
        await keepPartitions(sql);
        // Two that replay the same at once would make parcels of it twice.
        await sql`select pg_advisory_xact_lock(hashtextextended('hongyan replay', ${accountId}))`;
        return replayIn(sql, accountId, filter);
      }),
  };
}
