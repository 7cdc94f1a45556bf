/**
 * Events owed to customers: how they are created, wait and leave. The only writer of `parcels` (waiting events) and of `handovers` (events
 * handed over): one statement moves a parcel from one to the other.
 *
 * Events travel in parcels: reports of one batch and day that were created together are one row
 * (docs/adr/0011-events-travel-in-parcels.md). An event that is pushed alone has its own tries, so there, and for replies and audits, each
 * event is a parcel. A parcel stores the recipient, the dialect and the route; its content is read when it leaves (told.ts).
 *
 * An event is created in the transaction that ends its message (or stores its reply, or decides on its template), in the dialect that its
 * subscription speaks then. It stays owed in that dialect, even if the subscription changes its dialect later.
 */
import { type Db, forEachOwner, type Fragment, planAnew, type Sql } from '../../db/db.ts';
import { groupBy } from '../../std/group.ts';
import type { Directory, Tenancy } from '../config/directory.ts';
import type { Medium } from '../model/configuration.ts';
import type { Dialects, ReplyEvent, ReportEvents } from '../model/dialect.ts';
import { batchIdOf, batchOf, indexInBatch, messageIdInBatch, messageInBatch } from '../model/ids.ts';
import { type EventKind, eventKind, type EventKindName } from '../model/statuses.ts';
import { type Carried, repliesOf, reportsOf } from './told.ts';

/** Where pushes go. Each endpoint has its own queue of due events. */
export interface Endpoint {
  readonly accountId: bigint;
  readonly dialect: string;
  /** The subscription that owns the URL, or `wholeAccount`. */
  readonly owner: bigint;
  readonly kind: EventKindName;
}

/** The owner of an endpoint whose URL is the account's own. */
export const wholeAccount = 0n;

/** The route by which an event leaves. An event that must be pulled in a dialect without pull is kept for a replay. */
const route = { pull: 0, push: 1, pushing: 2, failed: 3 } as const;

/** Events that travel together, by the same route. */
export interface Parcel {
  /** The id of its first event. */
  readonly id: bigint;
  /** How many events it holds. */
  readonly size: number;
  /** How many pushes of it have begun, including the one that a claim begins. */
  readonly tries: number;
}

/** How long a claim lasts; see pushed.ts. */
const claimSeconds = 60;
/** The limit for reports that are not pushed one by one. A row of this size is still stored in line. */
const eventsPerParcel = 500;
/** How many parcels of many events are read before it is known how many events they have. */
const firstLook = 16;

// ── birth ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Where a subscription's events in one dialect go. */
export interface Destination {
  readonly subscriptionId: bigint;
  readonly dialect: string;
  readonly owner: bigint;
  readonly isPushed: boolean;
  /** The most reports in one parcel. */
  readonly reportsPerParcel: number;
}

/** The URL of an endpoint, if it has one. */
export function urlOf(directory: Directory, { accountId, dialect, owner, kind }: Endpoint): string | undefined {
  const ofAccount = kind === 'audit' || directory.dialects.rules.get(dialect)?.push.urls === 'account';
  if (ofAccount) return directory.account(accountId)?.pushUrls[kind === 'audit' ? 'template' : kind];
  return directory.subscription(owner)?.subscription.pushUrls[kind];
}

/** For a dialect that only a newer version knows, nothing is decided here: its events wait in parcels of one for a node that knows it. */
export function destinationOf(
  directory: Directory,
  { account, subscription }: Tenancy,
  kind: 'report' | 'reply',
  dialect = subscription.dialect,
): Destination {
  const rules = directory.dialects.rules.get(dialect);
  const owner = rules?.push.urls === 'account' ? wholeAccount : subscription.id;
  return {
    subscriptionId: subscription.id,
    dialect,
    owner,
    isPushed: rules !== undefined && urlOf(directory, { accountId: account.id, dialect, owner, kind }) !== undefined,
    reportsPerParcel: rules?.push.carries === 'many' ? eventsPerParcel : 1,
  };
}

/** Where new events of these accounts' subscriptions go. */
export const destinations = (directory: Directory, accountIds: readonly bigint[], kind: 'report' | 'reply'): Destination[] =>
  accountIds.flatMap((id) => directory.subscriptionsOf(id)).map((tenancy) => destinationOf(directory, tenancy, kind));

/**
 * The second half of a statement that ends messages: creates their events from its rows. `ended` is the name of a CTE with the columns id,
 * account_id, day, subscription_id, final_at.
 */
export const reportsFrom = (sql: Sql, to: readonly Destination[]) => {
  const events = sql`select id, account_id, day, subscription_id, null::text as dialect, final_at as at, 0 as replay from ended`;
  return parcelsFrom(sql, eventKind.report, to, events, null);
};

/**
 * A statement that wraps events into parcels: rows of id, account_id, day, subscription_id, dialect, at, replay. An event without a dialect
 * goes to the one destination of its subscription. Without a `dueAt`, each event is due at its own time.
 */
export const parcelsFrom = (sql: Sql, kind: EventKind, to: readonly Destination[], events: Fragment, dueAt: Date | null) => sql`
  insert into parcels (account_id, kind, id, day, subscription_id, written_dialect, endpoint, route, at, due_at, replay, indexes)
  select account_id, ${kind}::smallint, ${messageInBatch(sql, sql`batch_id`, sql`indexes[n]`)}, day, sets.subscription_id,
         coalesce(sets.dialect, t.dialect), coalesce(t.owner, sets.subscription_id),
         case when t.is_pushed then ${route.push}::smallint else ${route.pull}::smallint end,
         at, coalesce(${dueAt}::timestamptz, at), replay, indexes[n : n + coalesce(most, ${eventsPerParcel}::int) - 1]
  from (
    select account_id, ${batchOf(sql, sql`id`)} as batch_id, day, subscription_id, dialect, at, replay,
           array_agg(${indexInBatch(sql, sql`id`)} order by id) as indexes
    from (${events}) as events
    group by account_id, ${batchOf(sql, sql`id`)}, day, subscription_id, dialect, at, replay) as sets
  left join unnest(${to.map(({ subscriptionId }) => subscriptionId)}::bigint[], ${to.map(({ dialect }) => dialect)}::text[],
                   ${to.map(({ owner }) => owner)}::bigint[], ${to.map(({ isPushed }) => isPushed)}::boolean[],
                   ${to.map(({ reportsPerParcel }) => (kind === eventKind.report ? reportsPerParcel : 1))}::int[])
    as t(subscription_id, dialect, owner, is_pushed, most)
    on t.subscription_id = sets.subscription_id and t.dialect = coalesce(sets.dialect, t.dialect),
  generate_series(1, cardinality(indexes), coalesce(most, ${eventsPerParcel}::int)) as n`;

export async function insertReply(
  sql: Sql,
  directory: Directory,
  reply: { id: bigint; tenancy: Tenancy; day: string; at: Date },
): Promise<void> {
  await insertOne(sql, reply.tenancy.account.id, eventKind.reply, reply, destinationOf(directory, reply.tenancy, 'reply'));
}

/**
 * Creates the event of a decision on a template, in the dialect in which the account sends the template's content; nothing where that
 * dialect has no such event. A template is decided on once, so its id is the event's.
 */
export async function insertAudit(
  sql: Sql,
  { rules, usual }: Dialects,
  audit: { templateId: bigint; accountId: bigint; medium: Medium; day: string; at: Date },
): Promise<void> {
  const { accountId, medium, templateId: id } = audit;
  // The directory is not used, because this is a transaction of the management API, and the rows it needs may be newer than this node's
  // view.
  const [account] = await sql<{ dialect: string | null; isPushed: boolean }[]>`
    select push_urls ? 'template' as "isPushed",
           (select s.dialect from subscriptions s join products p on p.id = s.product_id
            where s.account_id = a.id and p.medium = ${medium} order by s.id limit 1) as dialect
    from accounts a where id = ${accountId}`;
  const dialect = account?.dialect ?? usual[medium];
  if (rules.get(dialect)?.push.audit === null) return;
  const to = { subscriptionId: 0n, dialect, owner: wholeAccount, isPushed: account?.isPushed ?? false };
  await insertOne(sql, accountId, eventKind.audit, { ...audit, id }, to);
}

const insertOne = (
  sql: Sql,
  accountId: bigint,
  kind: EventKind,
  { id, day, at }: { id: bigint; day: string; at: Date },
  { subscriptionId, dialect, owner, isPushed }: Omit<Destination, 'reportsPerParcel'>,
) => sql`
  insert into parcels (account_id, kind, id, day, subscription_id, written_dialect, endpoint, route, at, due_at, indexes)
  values (${accountId}, ${kind}, ${id}, ${day}, ${subscriptionId}, ${dialect}, ${owner}, ${isPushed ? route.push : route.pull}, ${at}, ${at},
          array[${indexInBatch(sql, sql`${id}::bigint`)}])`;

// ── taking ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A parcel that is locked for the rest of a transaction. */
export interface Taken extends Parcel {
  readonly day: string;
  readonly eventIds: readonly bigint[];
}

/** Which parcels to take: an account's, of one kind, that match `which`, the first in this order. */
export interface Wanted {
  readonly accountId: bigint;
  readonly kind: EventKind;
  readonly which: Fragment;
  readonly order: Fragment;
  /** Each parcel is one event. */
  readonly isOne: boolean;
}

/**
 * Locks parcels in order, skipping locked ones, until they have so many events. A parcel with more events than are left is cut in two. A
 * parcel that was read but not taken stays locked until the transaction ends, so at first only a few are read, unless each is one event.
 */
export async function take(sql: Sql, { accountId, kind, which, order, isOne }: Wanted, limit: number): Promise<Taken[]> {
  const taken: Taken[] = [];
  let left = limit;
  for (let look = isOne ? limit : Math.min(limit, firstLook); ; ) {
    const found = await sql<{ id: bigint; day: string; tries: number; indexes: number[] }[]>`
      select id, day, tries::int, indexes from parcels
      where account_id = ${accountId} and kind = ${kind} and ${which} and id <> all(${taken.map(({ id }) => id)}::bigint[])
      order by ${order}, id limit ${look} for update skip locked`;
    for (const { indexes, ...parcel } of found) {
      if (left === 0) break;
      if (indexes.length > left) await cut(sql, accountId, kind, parcel.id, left);
      const eventIds = indexes.slice(0, left).map((index) => messageIdInBatch(batchIdOf(parcel.id), index));
      taken.push({ ...parcel, size: eventIds.length, eventIds });
      left -= eventIds.length;
    }
    if (left === 0 || found.length < look) return taken;
    look = Math.min(left, Math.ceil((left * taken.length) / (limit - left)) + 1);
  }
}

/** Leaves the first `size` events of a parcel in it and makes a new parcel of the others. */
const cut = (sql: Sql, accountId: bigint, kind: EventKind, id: bigint, size: number) => sql`
  with rest as (
    insert into parcels (account_id, kind, id, day, subscription_id, written_dialect, endpoint, route, at, due_at, tries, replay, indexes)
    select account_id, kind, ${messageInBatch(sql, batchOf(sql, sql`id`), sql`indexes[${size + 1}]`)}, day, subscription_id,
           dialect, endpoint, route, at, due_at, tries, replay, indexes[${size + 1} : ]
    from parcels where account_id = ${accountId} and kind = ${kind} and id = ${id})
  update parcels set indexes = coalesce(indexes[ : ${size}], '{}') where account_id = ${accountId} and kind = ${kind} and id = ${id}`;

/** The events of taken parcels. */
export function carriedIn(accountId: bigint, taken: readonly Taken[]): Carried {
  const days = taken.map(({ day }) => day).sort();
  return { accountId, days: [days[0] ?? '', days.at(-1) ?? ''], ids: taken.flatMap(({ eventIds }) => eventIds) };
}

// ── leaving ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Moves parcels that match `which` from waiting to history, each with the push that carried it, or null if it was pulled. The key ensures
 * that nothing is handed over twice.
 */
export const handOver = (
  sql: Sql,
  accountId: bigint,
  kind: EventKind,
  parcels: readonly { readonly id: bigint; readonly pushId: bigint | null }[],
  which: Fragment,
  at: Date,
) => sql`
  with gone as (
    delete from parcels
    where account_id = ${accountId} and kind = ${kind} and id = any(${parcels.map(({ id }) => id)}::bigint[]) and ${which}
    returning account_id, kind, id, day, subscription_id, dialect, replay, at, indexes)
  insert into handovers (account_id, kind, id, day, subscription_id, dialect, replay, at, indexes, push_id, handed_at)
  select gone.*, p.push_id, ${at}::timestamptz
  from gone join unnest(${parcels.map(({ id }) => id)}::bigint[], ${parcels.map(({ pushId }) => pushId)}::bigint[]) as p(id, push_id)
    on p.id = gone.id`;

/**
 * Pulls by customers. A parcel is pulled in the dialect in which it is owed, even if the customer's subscription speaks another one now.
 */
export interface Pulls {
  /** Hands over waiting events, oldest first, at most `limit`. Concurrent pulls never get the same event. */
  pullReports(tenancy: Tenancy, dialect: string, limit: number): Promise<ReportEvents[]>;
  pullReplies(tenancy: Tenancy, dialect: string, limit: number): Promise<ReplyEvent[]>;
}

export function createPulls({ db, clock }: { db: Db; clock: () => Date }): Pulls {
  async function pull<T>(
    { account, subscription }: Tenancy,
    dialect: string,
    kind: EventKind,
    limit: number,
    tell: (sql: Sql, carried: Carried) => Promise<T[]>,
  ): Promise<T[]> {
    const handOverNext = async (sql: Sql): Promise<T[]> => {
      const which = sql`subscription_id = ${subscription.id} and dialect = ${dialect} and route = 0`;
      const wanted: Wanted = { accountId: account.id, kind, which, order: sql`at`, isOne: kind !== eventKind.report };
      const [, taken] = await Promise.all([planAnew(sql), take(sql, wanted, limit)]);
      if (taken.length === 0) return [];
      const parcels = taken.map(({ id }) => ({ id, pushId: null }));
      // Two statements, since one that reads what it moves would query every node of a sharded database.
      const [, told] = await Promise.all([
        handOver(sql, account.id, kind, parcels, sql`true`, clock()),
        tell(sql, carriedIn(account.id, taken)),
      ]);
      return told;
    };
    // A committed pull is answered with its rows, even if the database went away before it could confirm: nobody would see the rows again.
    return db.transaction(handOverNext, { findOut: (told) => told.length > 0 });
  }

  return {
    pullReports: (tenancy, dialect, limit) =>
      pull(tenancy, dialect, eventKind.report, limit, (sql, carried) => reportsOf(sql, carried, false)),
    pullReplies: (tenancy, dialect, limit) => pull(tenancy, dialect, eventKind.reply, limit, repliesOf),
  };
}

// ── pushes ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Marks taken parcels as being pushed under this claim, which counts as a try. */
export const beginPush = (sql: Sql, accountId: bigint, kind: EventKind, taken: readonly Taken[], claimId: bigint) => sql`
  update parcels
  set route = ${route.pushing}, push_id = ${claimId}, tries = tries + 1, lease_until = now() + make_interval(secs => ${claimSeconds})
  where account_id = ${accountId} and kind = ${kind} and id = any(${taken.map(({ id }) => id)}::bigint[])`;

/** Makes parcels that are being pushed under these claims wait again: for their next push, to be pulled, or for a replay. */
export const endPush = (
  sql: Sql,
  accountId: bigint,
  kind: EventKind,
  { ids, claimIds }: { readonly ids: readonly bigint[]; readonly claimIds: readonly bigint[] },
  next: { readonly route: 'push' | 'pull' | 'failed'; readonly dueAt: Date | null; readonly wasTry: boolean },
) => sql`
  update parcels
  set route = ${route[next.route]}, push_id = null, lease_until = null, due_at = coalesce(${next.dueAt}, due_at),
      tries = tries - ${next.wasTry ? 0 : 1}::smallint
  where account_id = ${accountId} and kind = ${kind} and id = any(${ids}::bigint[]) and ${underClaims(sql, claimIds)}`;

/** Parcels still being pushed under one of these claims. For all others another node has already settled the push. */
export const underClaims = (sql: Sql, claimIds: readonly bigint[]) =>
  sql`route = ${route.pushing} and push_id = any(${claimIds}::bigint[])`;

/** Changes a portion of an endpoint's events from push to pull. */
export const leavePush = (sql: Sql, { accountId, dialect, owner, kind }: Endpoint, portion: number) => sql`
  with orphaned as (
    select id from parcels
    where account_id = ${accountId} and endpoint = ${owner} and kind = ${eventKind[kind]} and dialect = ${dialect} and route = 1
    order by due_at, id limit ${portion} for update skip locked)
  update parcels set route = ${route.pull}
  where account_id = ${accountId} and kind = ${eventKind[kind]} and id = any(array(select id from orphaned)) and route = 1`;

// ── what an operator must replay ─────────────────────────────────────────────────────────────────────────────────────────────────

/** Parcels that cannot be pulled in their dialect, and have no URL to be pushed to. */
export const isKept = (sql: Sql, { rules }: Dialects) => {
  const names = [...rules.values()].filter(({ canPull }) => !canPull).map(({ name }) => name);
  return sql`(route = ${route.pull} and dialect = any(${names}::text[]))`;
};

/** Parcels that have failed or are kept stay until an operator replays them. */
const isLeft = (sql: Sql, dialects: Dialects) => sql`(route = ${route.failed} or ${isKept(sql, dialects)})`;

/** Pushes parcels that have failed or were kept, where there is a URL now. Returns the number of events. */
export async function pushAgain(sql: Sql, dialects: Dialects, to: readonly Destination[], which: Fragment, at: Date): Promise<number> {
  const byDialect = groupBy(
    to.filter(({ isPushed }) => isPushed),
    ({ dialect }) => dialect,
  );
  const again = await Promise.all(
    [...byDialect].map(
      ([dialect, same]) => sql<{ size: number }[]>`
        update parcels set route = ${route.push}, tries = 0, due_at = ${at}
        where ${which} and ${isLeft(sql, dialects)} and dialect = ${dialect}
          and subscription_id = any(${same.map(({ subscriptionId }) => subscriptionId)}::bigint[])
        returning cardinality(indexes) as size`,
    ),
  );
  return again.flat().reduce((sum, { size }) => sum + size, 0);
}

// ── past retention ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Days before `before` with events that may still be handed over without an operator. Reads all waiting events, because their day has no
 * index. Covers all accounts, like the other functions here.
 */
export async function awaitedDays(sql: Sql, dialects: Dialects, before: string): Promise<ReadonlySet<string>> {
  const rows = await sql<{ day: string }[]>`select distinct day from parcels where day < ${before} and not ${isLeft(sql, dialects)}`;
  return new Set(rows.map(({ day }) => day));
}

/**
 * Gives up the events of a day, at most `limit` parcels: those that have failed or are kept, and with `all` the others too, unless they are
 * being pushed now. Returns how many parcels.
 */
export async function giveUpEvents(sql: Sql, dialects: Dialects, day: string, all: boolean, limit: number): Promise<number> {
  const which = () => sql`day = ${day} and ${all ? sql`route <> ${route.pushing}` : isLeft(sql, dialects)}`;
  const found = await sql<{ accountId: bigint; id: bigint }[]>`
    select account_id as "accountId", id from parcels where ${which()} limit ${limit}`;
  // A parcel that is being handed over at this moment is locked, and skipped.
  const given = await forEachOwner(
    found,
    (parcel) => parcel.accountId,
    (accountId, own) => sql`
      with left_over as materialized (
        select id, kind from parcels
        where account_id = ${accountId} and id = any(${own.map(({ id }) => id)}::bigint[]) and ${which()}
        for update skip locked)
      delete from parcels p using left_over l
      where p.account_id = ${accountId} and p.kind = l.kind and p.id = l.id
      returning p.id`,
  );
  return given.length;
}

/** Whether any event of a day still waits, whatever its state. */
export async function hasWaiting(sql: Sql, day: string): Promise<boolean> {
  const [row] = await sql<[{ waits: boolean }]>`select exists (select 1 from parcels where day = ${day}) as waits`;
  return row.waits;
}

/** Prevents dropping partitions for the rest of this transaction, because a replayed event needs a partition when it is handed over. */
export const keepPartitions = async (sql: Sql): Promise<void> =>
  void (await sql`select pg_advisory_xact_lock_shared(hashtext('hongyan partitions'))`);

/** The counterpart: prevents replays, and other transactions that create or drop partitions, for the rest of this transaction. */
export const ownPartitions = async (sql: Sql): Promise<void> =>
  void (await sql`select pg_advisory_xact_lock(hashtext('hongyan partitions'))`);
