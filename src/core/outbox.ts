/**
 * Events owed to customers: what waits, what was handed over, and every try to push. The only writer of `waiting_events`, `events` and
 * `pushes`.
 *
 * An event is born in the transaction that ends its message (or stores its reply, or decides on its template), and leaves
 * `waiting_events` for `events` in the transaction that hands it over: by a pull, or by a push that succeeded.
 *
 * What is pushed goes to an endpoint: a subscription's URL for a kind, or, where the dialect has one URL for the whole account (MMS),
 * the account's. An event that waits for an endpoint is due at a time. A push claims due events and commits before anything is sent, and
 * the claim is a try: whatever happens to the process, an event is pushed no more often than its dialect allows. Claims run out, so
 * what a lost process has left behind is found. What a try that failed means (again later, to be pulled, failed for good) is decided by
 * the dialect's `PushDialect`, and written here.
 */
import { type Db, planAnew, type Sql } from '../db/db.ts';
import { groupBy } from '../std/group.ts';
import type { Directory, Tenancy } from './directory.ts';
import { batchIdOf, type EventKind, type EventKindName, eventKind, eventKindName } from './model.ts';
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

export interface PushedReport extends ReportEvent {
  /** When the carrier took it; of acceptance where no carrier was asked. */
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
  report(events: readonly PushedReport[]): PushBody;
  reply(events: readonly ReplyEvent[]): PushBody;
  /** Null where the dialect has no templates to be told of. */
  readonly audit: ((event: AuditEvent) => PushBody) | null;
}

export interface PushBody {
  readonly contentType: string;
  readonly body: string;
}

interface WaitingRow {
  readonly id: bigint;
  readonly day: string;
  readonly phone: bigint;
  readonly form: string | null;
  readonly code: string | null;
  readonly cost: bigint | null;
  readonly at: Date;
  /** Begun, with the one that a claim begins. */
  readonly tries: number;
}

/** How an event is to reach the customer. In `kept` nobody can pull it, and there is no URL; it waits for a replay. */
const route = { pull: 0, push: 1, pushing: 2, failed: 3 } as const;
/** The endpoint whose URLs are the account's own. */
const wholeAccount = 0n;

/** How long a claim stands. Whoever holds it sends nothing in its last part, see `PushClaim.sendWithinMs`. */
const leaseSeconds = 60;
const sendWithinMs = 45_000;
/** Rows that lose their URL, or their process, are dealt with in portions. */
const portion = 5000;

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
 * id, account_id, day, subscription_id, phone, form, code, cost_e4, final_at. A message ends once, so there is no conflict to expect:
 * the key would turn a second event into an error, and ON CONFLICT costs every row a second trip through the log.
 */
export function reportsFrom(sql: Sql, { shared, pushed }: Destinations) {
  return sql`
    insert into waiting_events (id, kind, account_id, day, subscription_id, endpoint, route, due_at, at, phone, form, code, cost_e4)
    select id, ${eventKind.report}::smallint, account_id, day, subscription_id,
           case when subscription_id = any(${shared}::bigint[]) then 0 else subscription_id end,
           case when subscription_id = any(${pushed}::bigint[]) then 1 else 0 end, final_at, final_at, phone, form, code, cost_e4
    from ended`;
}

export async function insertReply(
  sql: Sql,
  directory: Directory,
  reply: { id: bigint; tenancy: Tenancy; day: string; phone: bigint; at: Date },
): Promise<void> {
  const { account, subscription } = reply.tenancy;
  const owner = endpointOf(reply.tenancy);
  const wanted = urlOf(directory, { accountId: account.id, owner, kind: 'reply' });
  await sql`
    insert into waiting_events (id, kind, account_id, day, subscription_id, endpoint, route, due_at, at, phone)
    values (${reply.id}, ${eventKind.reply}, ${account.id}, ${reply.day}, ${subscription.id}, ${owner}, ${wanted ? route.push : route.pull},
            ${reply.at}, ${reply.at}, ${reply.phone})`;
}

/** Tells the account what was decided on its template. A template is decided on once, so its id is the event's. */
export async function insertAudit(
  sql: Sql,
  audit: { templateId: bigint; accountId: bigint; day: string; approved: boolean; at: Date },
): Promise<void> {
  // Not the directory: this is a transaction of the management API, and the URL may be younger than this node's view.
  const [account] = await sql<{ wanted: boolean }[]>`
    select push_urls ? 'template' as wanted from accounts where id = ${audit.accountId}`;
  await sql`
    insert into waiting_events (id, kind, account_id, day, subscription_id, endpoint, route, due_at, at, phone, code)
    values (${audit.templateId}, ${eventKind.audit}, ${audit.accountId}, ${audit.day}, 0, ${wholeAccount},
            ${account?.wanted ? route.push : route.pull}, ${audit.at}, ${audit.at}, 0, ${audit.approved ? approvedCode : 'FAIL'})`;
}

const approvedCode = 'SUCCESS';

// ── what they tell ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function batchesOf(sql: Sql, accountId: bigint, rows: readonly WaitingRow[]) {
  const batchIds = [...new Set(rows.map(({ id }) => batchIdOf(id)))];
  const batches = await sql<{ id: bigint; ext: string; acceptedAt: Date }[]>`
    select id, ext, created_at as "acceptedAt" from batches where account_id = ${accountId} and id = any(${batchIds}::bigint[])`;
  return new Map(batches.map((batch) => [batch.id, batch]));
}

function reportOf({ id, phone, form, code, cost, at }: WaitingRow, ext: string): ReportEvent {
  return { messageId: id, batchId: batchIdOf(id), ext, mobile: form ?? usualForm(phone), code: code ?? '', at, costE4: cost ?? 0n };
}

async function reportEvents(sql: Sql, accountId: bigint, rows: readonly WaitingRow[]): Promise<ReportEvent[]> {
  const batches = await batchesOf(sql, accountId, rows);
  return rows.map((row) => reportOf(row, batches.get(batchIdOf(row.id))?.ext ?? ''));
}

async function pushedReports(sql: Sql, accountId: bigint, rows: readonly WaitingRow[]): Promise<PushedReport[]> {
  const days = rows.map(({ day }) => day).sort();
  const [batches, messages] = await Promise.all([
    batchesOf(sql, accountId, rows),
    sql<{ id: bigint; sentAt: Date | null }[]>`
      select id, sent_at as "sentAt" from messages
      where account_id = ${accountId} and day between ${days[0] ?? ''} and ${days.at(-1) ?? ''}
        and id = any(${rows.map(({ id }) => id)}::bigint[])`,
  ]);
  const sent = new Map(messages.map(({ id, sentAt }) => [id, sentAt]));
  return rows.map((row) => {
    const batch = batches.get(batchIdOf(row.id));
    return { ...reportOf(row, batch?.ext ?? ''), sentAt: sent.get(row.id) ?? batch?.acceptedAt ?? row.at };
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

async function auditEvents(sql: Sql, accountId: bigint, rows: readonly WaitingRow[]): Promise<AuditEvent[]> {
  const templates = await sql<{ id: bigint; reason: string | null }[]>`
    select id, reason from templates where account_id = ${accountId} and id = any(${rows.map(({ id }) => id)}::bigint[])`;
  const reasons = new Map(templates.map(({ id, reason }) => [id, reason]));
  return rows.map(({ id, code }) => ({ templateId: id, approved: code === approvedCode, reason: reasons.get(id) ?? null }));
}

/** An event that is to be pushed, and how often that was begun. */
export interface Owed {
  readonly id: bigint;
  readonly tries: number;
  readonly event:
    | { readonly kind: 'report'; readonly report: PushedReport }
    | { readonly kind: 'reply'; readonly reply: ReplyEvent }
    | { readonly kind: 'audit'; readonly audit: AuditEvent };
}

async function owedOf(sql: Sql, { accountId, kind }: Endpoint, rows: readonly WaitingRow[]): Promise<Owed[]> {
  const events = await (async (): Promise<[bigint, Owed['event']][]> => {
    if (kind === 'report') return (await pushedReports(sql, accountId, rows)).map((report) => [report.messageId, { kind, report }]);
    if (kind === 'reply') return (await replyEvents(sql, accountId, rows)).map((reply) => [reply.replyId, { kind, reply }]);
    return (await auditEvents(sql, accountId, rows)).map((audit) => [audit.templateId, { kind, audit }]);
  })();
  const tries = new Map(rows.map(({ id, tries }) => [id, tries]));
  return events.map(([id, event]) => ({ id, tries: tries.get(id) ?? 1, event }));
}

// ── handing over ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Which push each event left by, and under which claims they must still be held. */
interface Carried {
  readonly pushIds: readonly bigint[];
  readonly claimIds: readonly bigint[];
}

/**
 * Moves rows from waiting to history. Only a row that was handed over before (a replay) can be there already, and is marked anew; for
 * all others the key is the guard that nothing is handed over twice.
 */
async function handOver(
  sql: Sql,
  accountId: bigint,
  kind: EventKind,
  ids: readonly bigint[],
  carried: Carried | null,
  at: Date,
): Promise<void> {
  const held = carried ? sql`and route = ${route.pushing} and push_id = any(${carried.claimIds}::bigint[])` : sql``;
  const rows = carried
    ? sql`select gone.*, p.push_id from gone join unnest(${ids}::bigint[], ${carried.pushIds}::bigint[]) as p(id, push_id) on p.id = gone.id`
    : sql`select gone.*, null::bigint as push_id from gone`;
  const columns = sql`id, kind, account_id, day, subscription_id, at, phone, form, code, cost_e4, replays`;
  await sql`
    with gone as (
      delete from waiting_events where account_id = ${accountId} and kind = ${kind} and id = any(${ids}::bigint[]) ${held}
      returning ${columns}),
    leaving as (${rows}),
    first as (
      insert into events (${columns}, push_id, handed_at)
      select ${columns}, push_id, ${at}::timestamptz from leaving where replays = 0)
    insert into events (${columns}, push_id, handed_at)
    select ${columns}, push_id, ${at}::timestamptz from leaving where replays > 0
    on conflict (id, kind, account_id, day)
      do update set push_id = excluded.push_id, handed_at = excluded.handed_at, replays = excluded.replays`;
}

// ── past retention ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What has failed, or is kept without a URL, waits for nobody but an operator who has it replayed. */
const unwanted = (sql: Sql) => sql`(route = ${route.failed} or (route = ${route.pull} and endpoint = ${wholeAccount}))`;

/**
 * Days before this with events that somebody will come for. Reads all that waits: nothing indexes its day. A sweep over all accounts, like
 * the others here.
 */
export async function awaitedDays(sql: Sql, before: string): Promise<ReadonlySet<string>> {
  const rows = await sql<{ day: string }[]>`select distinct day from waiting_events where day < ${before} and not ${unwanted(sql)}`;
  return new Set(rows.map(({ day }) => day));
}

/**
 * Gives up events of a day, at most `limit`: those that have failed or are kept, and `all` others too unless they are being pushed at this
 * moment. Returns how many.
 */
export async function giveUpEvents(sql: Sql, day: string, all: boolean, limit: number): Promise<number> {
  const given = await sql<{ id: bigint; kind: EventKind; accountId: bigint }[]>`
    select id, kind::int, account_id as "accountId" from waiting_events
    where day = ${day} and ${all ? sql`route <> ${route.pushing}` : unwanted(sql)}
    limit ${limit} for update skip locked`;
  for (const same of groupBy(given, ({ accountId, kind }) => `${accountId}/${kind}`).values()) {
    const [{ accountId, kind } = { accountId: 0n, kind: eventKind.report }] = same;
    await sql`
      delete from waiting_events
      where account_id = ${accountId} and kind = ${kind} and id = any(${same.map(({ id }) => id)}::bigint[]) and day = ${day}`;
  }
  return given.length;
}

/** Whether anything of a day waits, for whatever. */
export async function hasWaiting(sql: Sql, day: string): Promise<boolean> {
  const [row] = await sql<[{ waits: boolean }]>`select exists (select 1 from waiting_events where day = ${day}) as waits`;
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
  readonly owed: readonly Owed[];
  /** How long after the claim a push may still begin. */
  readonly sendWithinMs: number;
}

/** Events whose claim has run out: the process that held it was lost. */
export interface LostClaim {
  readonly id: bigint;
  readonly endpoint: Endpoint;
  readonly owed: readonly Pick<Owed, 'id' | 'tries'>[];
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
  readonly ids: readonly bigint[];
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
  /** Hands over what waits, oldest first, each row once whoever else pulls at the same time. */
  pullReports(tenancy: Tenancy, limit: number): Promise<ReportEvent[]>;
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
    load: (sql: Sql, accountId: bigint, rows: readonly WaitingRow[]) => Promise<T[]>,
  ): Promise<T[]> {
    const handOverNext = async (sql: Sql): Promise<T[]> => {
      const query = sql<WaitingRow[]>`
        select id, day, phone, form, code, cost_e4 as cost, at, tries::int from waiting_events
        where account_id = ${account.id} and subscription_id = ${subscription.id} and kind = ${kind} and route = 0
        order by at, id limit ${limit} for update skip locked`;
      const [, rows] = await Promise.all([planAnew(sql), query]);
      if (rows.length === 0) return [];
      const ids = rows.map(({ id }) => id);
      const [events] = await Promise.all([load(sql, account.id, rows), handOver(sql, account.id, kind, ids, null, clock())]);
      return events;
    };
    // A pull that was committed is answered with its rows, even if the database went away before it could say so: nobody would see them again.
    return db.transaction(handOverNext, { findOut: true });
  }

  async function settleIn(sql: Sql, results: readonly PushResult[], attemptIds: readonly bigint[], at: Date): Promise<void> {
    const numbered = results.map((result, index) => ({ ...result, pushId: attemptIds[index] ?? 0n }));
    const byAccount = [...groupBy(numbered, ({ endpoint }) => endpoint.accountId)].sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [accountId, own] of byAccount) {
      await insertAttempts(sql, accountId, own, at);
      for (const [kind, same] of groupBy(own, ({ endpoint }) => eventKind[endpoint.kind])) {
        const claimIds = [...new Set(same.map(({ claimId }) => claimId))];
        const done = same.filter(({ fate }) => fate.kind === 'done');
        const pushIds = done.flatMap(({ pushId, ids }) => ids.map(() => pushId));
        if (done.length > 0)
          await handOver(
            sql,
            accountId,
            kind,
            done.flatMap(({ ids }) => ids),
            { pushIds, claimIds },
            at,
          );
        const others = same.filter(({ fate }) => fate.kind !== 'done');
        for (const alike of groupBy(others, ({ fate }) => (fate.kind === 'again' ? fate.at.getTime() : fate.kind)).values()) {
          const fate = alike[0]?.fate ?? { kind: 'failed' };
          const next = fate.kind === 'pull' ? route.pull : fate.kind === 'failed' ? route.failed : route.push;
          await sql`
            update waiting_events
            set route = ${next}, push_id = null, lease_until = null, due_at = coalesce(${fate.kind === 'again' ? fate.at : null}, due_at),
                tries = tries - ${fate.kind === 'unsent' ? 1 : 0}::smallint
            where account_id = ${accountId} and kind = ${kind} and id = any(${alike.flatMap(({ ids }) => ids)}::bigint[])
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
    const rows = results.flatMap(({ attempt, ...result }) => (attempt ? [{ ...result, ...attempt }] : []));
    if (rows.length === 0) return;
    await sql`
      insert into pushes (account_id, id, subscription_id, kind, url, events, event_id, state, started_at, finished_at, http_status, answer)
      select ${accountId}, id, owner, kind, url, events, event_id, state, started_at, ${at}, http_status, answer
      from unnest(${rows.map((r) => r.pushId)}::bigint[], ${rows.map((r) => r.endpoint.owner)}::bigint[],
                  ${rows.map((r) => eventKind[r.endpoint.kind])}::smallint[], ${rows.map((r) => r.url)}::text[],
                  ${rows.map((r) => r.ids.length)}::int[], ${rows.map((r) => (r.ids.length === 1 ? (r.ids[0] ?? null) : null))}::bigint[],
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
    { subscriptionId, kind: kindName, fromDay, toDay, state, ids, batchId, phone }: ReplayFilter,
  ): Promise<number> {
    const kind = eventKind[kindName];
    const at = clock();
    const hasUrl = urlOf(directory, { accountId, owner: wholeAccount, kind: kindName }) !== undefined;
    const { shared, pushed } =
      kindName === 'audit' ? { shared: [0n], pushed: hasUrl ? [0n] : [] } : destinations(directory, [accountId], kindName);
    const first = batchId === undefined ? null : batchId * 32768n;
    const wanted = sql`
      account_id = ${accountId} and (${subscriptionId}::bigint is null or subscription_id = ${subscriptionId}) and kind = ${kind}
      and day between ${fromDay}::date and ${toDay}::date
      and (${ids ?? null}::bigint[] is null or id = any(${ids ?? null}::bigint[]))
      and (${first}::bigint is null or id between ${first}::bigint and ${first}::bigint + 32767)
      and (${phone ?? null}::bigint is null or phone = ${phone ?? null}::bigint)`;
    // What has failed, and what was kept because nobody could pull it. Without a URL there is nothing to do for it.
    const kept = await sql`
      update waiting_events set route = ${route.push}, tries = 0, due_at = ${at}
      where ${wanted} and ${unwanted(sql)} and subscription_id = any(${pushed}::bigint[])
      returning id`;
    if (state === 'failed') return kept.length;
    const again = await sql`
      insert into waiting_events (id, kind, account_id, day, subscription_id, endpoint, route, due_at, at, phone, form, code, cost_e4, replays)
      select id, kind, account_id, day, subscription_id,
             case when subscription_id = any(${shared}::bigint[]) then 0 else subscription_id end,
             case when subscription_id = any(${pushed}::bigint[]) then ${route.push}::smallint else ${route.pull}::smallint end, ${at}::timestamptz, at, phone, form, code, cost_e4, replays + 1
      from events where ${wanted}
      on conflict do nothing
      returning id`;
    return kept.length + again.length;
  }

  return {
    pullReports: (tenancy, limit) => pull(tenancy, eventKind.report, limit, reportEvents),
    pullReplies: (tenancy, limit) => pull(tenancy, eventKind.reply, limit, replyEvents),

    async due() {
      // A loose index scan: one step for each endpoint that has rows, however many it has. The first of them is due first.
      const rows = await db.sql<{ accountId: bigint; owner: bigint; kind: EventKind }[]>`
        with recursive waiting as (
          (select account_id, endpoint, kind, due_at from waiting_events where route = 1
           order by account_id, endpoint, kind, due_at, id limit 1)
          union all
          select n.* from waiting w, lateral (
            select account_id, endpoint, kind, due_at from waiting_events
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
            select id from waiting_events
            where account_id = ${accountId} and endpoint = ${owner} and kind = ${kind} and route = 1
            order by due_at, id limit ${portion} for update skip locked)
          update waiting_events set route = ${route.pull}
          where account_id = ${accountId} and kind = ${kind} and id = any(array(select id from orphaned)) and route = 1`;
        return null;
      }
      return db.transaction(async (sql) => {
        const query = sql<WaitingRow[]>`
          select id, day, phone, form, code, cost_e4 as cost, at, tries + 1 as tries from waiting_events
          where account_id = ${accountId} and endpoint = ${owner} and kind = ${kind} and route = 1 and due_at <= ${clock()}
          order by due_at, id limit ${limit} for update skip locked`;
        const [, rows] = await Promise.all([planAnew(sql), query]);
        if (rows.length === 0) return null;
        const [id = 0n] = await nextIds(sql, 1);
        await sql`
          update waiting_events
          set route = ${route.pushing}, push_id = ${id}, tries = tries + 1, lease_until = now() + make_interval(secs => ${leaseSeconds})
          where account_id = ${accountId} and kind = ${kind} and id = any(${rows.map(({ id }) => id)}::bigint[])`;
        return { id, endpoint, url, owed: await owedOf(sql, endpoint, rows), sendWithinMs };
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
        const query = sql<{ id: bigint; accountId: bigint; owner: bigint; kind: EventKind; tries: number; claimId: bigint }[]>`
          select id, account_id as "accountId", endpoint as owner, kind::int, tries::int, push_id as "claimId" from waiting_events
          where route = 2 and lease_until < now()
          order by lease_until limit ${portion} for update skip locked`;
        const [, rows] = await Promise.all([planAnew(sql), query]);
        if (rows.length === 0) return 0;
        const results = [...groupBy(rows, ({ claimId }) => claimId)].flatMap(([id, own]) => {
          const [{ accountId, owner, kind } = { accountId: 0n, owner: 0n, kind: eventKind.report }] = own;
          return judge({ id, endpoint: { accountId, owner, kind: eventKindName[kind] }, owed: own });
        });
        await settleIn(sql, results, await nextIds(sql, results.length), clock());
        return rows.length;
      }),

    replay: (accountId, filter) =>
      db.transaction(async (sql) => {
        await keepPartitions(sql);
        return replayIn(sql, accountId, filter);
      }),
  };
}
