/**
 * What happened to events: the history of handed-over events, searched together with those that still wait, and replays. Writes through
 * owed.ts.
 */
import type { Fragment, Sql } from '../../db/db.ts';
import type { Directory } from '../config/directory.ts';
import { belowId, type Page, pageOf, type PageRequest } from '../config/management.ts';
import type { Dialects } from '../model/dialect.ts';
import { batchIdOf, messageRangeOf, messagesOfBatch } from '../model/ids.ts';
import { usualForm } from '../model/numbers.ts';
import { type EventKind, eventKind, type EventKindName, eventKindName } from '../model/statuses.ts';
import { type Destination, destinationOf, isKept, parcelsFrom, pushAgain, urlOf, wholeAccount } from './owed.ts';
import { eventsOf, opened } from './told.ts';

// ── again ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface ReplayFilter {
  /** Null: the whole account's. */
  readonly subscriptionId: bigint | null;
  readonly kind: EventKindName;
  /** Days of the events, inclusive. */
  readonly fromDay: string;
  readonly toDay: string;
  /** `failed`: only events that have failed or were kept, and were never handed over. */
  readonly state?: 'any' | 'failed';
  readonly ids?: readonly bigint[];
  readonly batchId?: bigint;
  readonly phone?: bigint;
}

/**
 * Makes events wait again that were handed over, have failed or were kept, in the dialect in which they were owed: pushed where there is a
 * URL, else pulled. Returns how many. Call it in a transaction in which nobody else replays events of this account, and no partition is
 * dropped.
 */
export async function replay(
  sql: Sql,
  directory: Directory,
  accountId: bigint,
  { subscriptionId, kind: kindName, fromDay, toDay, state, ids: given, batchId, phone }: ReplayFilter,
  at: Date,
): Promise<number> {
  const kind = eventKind[kindName];
  const to = allDestinations(directory, accountId, kindName);
  const ofPhone = phone === undefined ? null : new Set(await eventsOf(sql, accountId, kind, { phone, fromDay, toDay }));
  const ids = ofPhone && given ? given.filter((id) => ofPhone.has(id)) : (given ?? (ofPhone && [...ofPhone]));
  const wanted = sql`
    account_id = ${accountId} and kind = ${kind} and day between ${fromDay}::date and ${toDay}::date
    and (${subscriptionId}::bigint is null or subscription_id = ${subscriptionId})
    and (${batchId ?? null}::bigint is null or id ${messagesOfBatch(sql, batchId ?? 0n)})`;
  // Parcels that have failed, or were kept because the dialect has no pull. Without a URL they stay as they are.
  const named = sql`${wanted} and (${ids}::bigint[] is null or id = any(${ids}::bigint[]))`;
  const kept = await pushAgain(sql, directory.dialects, to, named, at);
  if (state === 'failed') return kept;

  const before = to.filter(({ wasUsual }) => wasUsual);
  const again = await sql<{ size: number }[]>`
    with passages as (
      select event_id, account_id, day, subscription_id, dialect, at, replay, true as waits from ${opened(sql, sql`parcels`, wanted, ids)}
      union all
      select event_id, account_id, day, subscription_id, dialect, at, replay, false from ${opened(sql, sql`handovers`, wanted, ids)}),
    latest as (select distinct on (event_id) * from passages order by event_id, replay desc)
    ${parcelsFrom(
      sql,
      kind,
      to,
      sql`
        select event_id as id, account_id, day, l.subscription_id, coalesce(l.dialect, before.dialect) as dialect, at, replay + 1 as replay
        from latest l
        join unnest(${before.map((one) => one.subscriptionId)}::bigint[], ${before.map(({ dialect }) => dialect)}::text[])
          as before(subscription_id, dialect) on before.subscription_id = l.subscription_id
        where not waits`,
      at,
    )}
    returning cardinality(indexes) as size`;
  return again.reduce((sum, { size }) => sum + size, kept);
}

/**
 * Where the events of an account go, for each dialect in which they may be owed. `wasUsual` marks the dialect in which all of them were
 * owed before dialects were stored.
 */
function allDestinations(directory: Directory, accountId: bigint, kind: EventKindName): (Destination & { readonly wasUsual: boolean })[] {
  const { rules, usual } = directory.dialects;
  return [...rules.keys()].flatMap((dialect) => {
    if (kind !== 'audit')
      return directory.subscriptionsOf(accountId).map((tenancy) => ({
        ...destinationOf(directory, tenancy, kind, dialect),
        wasUsual: dialect === usual[tenancy.product.medium],
      }));
    const endpoint = { accountId, dialect, owner: wholeAccount, kind };
    const isPushed = urlOf(directory, endpoint) !== undefined;
    return [{ subscriptionId: 0n, dialect, owner: wholeAccount, isPushed, reportsPerParcel: 1, wasUsual: dialect === usual.mms }];
  });
}

// ── search ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Event {
  /** The message's id, the reply's, or the template's. */
  readonly id: bigint;
  readonly kind: EventKindName;
  /** 0 for an audit. */
  readonly subscriptionId: bigint;
  /**
   * `failed`: all pushes that the dialect allows have failed. `kept`: the dialect has no pull, and there was no URL. Both wait for a
   * replay.
   */
  readonly state: 'waiting' | 'failed' | 'kept' | 'handed_over';
  /** Whether a waiting event will be pushed or must be pulled. */
  readonly route: 'pull' | 'push';
  /** The push that handed it over; null if it was pulled, or waits. */
  readonly pushId: bigint | null;
  /** How many pushes of it have begun since it last began to wait. */
  readonly tries: number;
  /** When it is pushed next; null if it will not be pushed. */
  readonly dueAt: Date | null;
  readonly phone: string;
  readonly code: string | null;
  readonly costE4: bigint | null;
  /** When the reported fact happened. */
  readonly at: Date;
  readonly handedAt: Date | null;
  /** How often the operator or the customer replayed it. */
  readonly replays: number;
}

export interface EventFilter {
  /** Days of the events, in Asia/Shanghai, both included. */
  readonly fromDay: string;
  readonly toDay: string;
  readonly kind: EventKindName;
  readonly subscriptionId: bigint | null;
  readonly state: Event['state'] | null;
  readonly phone: bigint | null;
  readonly batchId: bigint | null;
}

/**
 * Events that are or were owed to an account, newest message or reply first. An event that was handed over and waits again counts as
 * waiting.
 *
 * Walks the account's parcels in descending order and opens those of a few batches at a time: all events of a parcel belong to one batch.
 */
export async function searchEvents(
  sql: Sql,
  dialects: Dialects,
  accountId: bigint,
  filter: EventFilter,
  page: PageRequest,
): Promise<Page<Event>> {
  const { kind: kindName, phone, batchId, ...rest } = filter;
  const search = { ...rest, dialects, accountId, kind: eventKind[kindName] };
  const wanted = page.limit + 1;
  const below = belowId(page);
  const [low, last] = batchId === null ? [0n, below] : messageRangeOf(batchId);
  let high = below <= last ? below - 1n : last;
  const found: EventRow[] = [];
  if (phone === null) {
    while (found.length < wanted) {
      const next = await nextOf(sql, search, low, high, wanted);
      if (!next) break;
      const range = sql`id between ${next.low} and ${next.high}`;
      found.push(...(await eventRows(sql, search, null, range, next.high < high ? next.high : high, wanted)));
      high = next.low - 1n;
    }
  } else {
    const ids = (await eventsOf(sql, accountId, search.kind, { ...rest, phone })).filter((id) => id >= low && id <= high);
    ids.sort((a, b) => (a < b ? 1 : -1));
    for (let at = 0; at < ids.length && found.length < wanted; at += wanted)
      found.push(...(await eventRows(sql, search, ids.slice(at, at + wanted), sql`true`, high, wanted)));
  }
  return pageOf(await tell(sql, search, found.slice(0, wanted)), page, ({ id }) => [id]);
}

interface EventSearch extends Pick<EventFilter, 'fromDay' | 'toDay' | 'subscriptionId' | 'state'> {
  readonly dialects: Dialects;
  readonly accountId: bigint;
  readonly kind: EventKind;
}

const fits = (sql: Sql, { accountId, kind, fromDay, toDay, subscriptionId }: EventSearch) => sql`
  account_id = ${accountId} and kind = ${kind} and day between ${fromDay}::date and ${toDay}::date
  and (${subscriptionId}::bigint is null or subscription_id = ${subscriptionId})`;

/** Whether a parcel is in the wanted state. */
const isWanted = (sql: Sql, { dialects, state }: EventSearch) =>
  ({
    waiting: sql`(route in (0, 1, 2) and not ${isKept(sql, dialects)})`,
    failed: sql`route = 3`,
    kept: isKept(sql, dialects),
    handed_over: sql`false`,
    any: sql`true`,
  })[state ?? 'any'];

/**
 * The next batches, in descending order, whose parcels must be opened to find so many events; nulls if there are none. It may take more:
 * see `eventRows`.
 */
async function nextOf(sql: Sql, search: EventSearch, low: bigint, high: bigint, wanted: number) {
  const { state } = search;
  const [row] = await sql<[{ low: bigint | null; high: bigint | null }]>`
    with newest as (
      (select id, cardinality(indexes) as n from parcels
       where ${fits(sql, search)} and id between ${low} and ${high} and ${isWanted(sql, search)} order by id desc limit ${wanted})
      union all
      (select id, case when replay = 0 then cardinality(indexes) else 0 end from handovers
       where ${fits(sql, search)} and id between ${low} and ${high} and ${state === null || state === 'handed_over'}
       order by id desc limit ${wanted})),
    summed as (select id, sum(n) over (order by id desc) as n from newest order by id desc limit ${wanted})
    select coalesce(max(id) filter (where n >= ${wanted}), min(id)) as low, max(id) as high from summed`;
  return row.low === null || row.high === null
    ? null
    : { low: messageRangeOf(batchIdOf(row.low))[0], high: messageRangeOf(batchIdOf(row.high))[1] };
}

type EventRow = Omit<Event, 'kind' | 'phone' | 'route' | 'code' | 'costE4'> & { route: number };

/** Events in rows of this range, or only these events, up to the highest. */
async function eventRows(
  sql: Sql,
  search: EventSearch,
  ids: readonly bigint[] | null,
  range: Fragment,
  highest: bigint,
  limit: number,
): Promise<EventRow[]> {
  const { state } = search;
  const wanted = sql`${fits(sql, search)} and ${range}`;
  // An event that waits again does not count as handed over, so waiting events are read even when only handed-over ones are wanted.
  const waiting = state === null || state === 'handed_over' ? wanted : sql`${wanted} and ${isWanted(sql, search)}`;
  return sql<EventRow[]>`
    with events as (
      select event_id, case when route = 3 then 'failed' when ${isKept(sql, search.dialects)} then 'kept' else 'waiting' end as state,
             subscription_id, route, null::bigint as push_id, at, null::timestamptz as handed_at, replay, tries,
             case when route = 1 then due_at end as due_at
      from ${opened(sql, sql`parcels`, waiting, ids)} where event_id <= ${highest}
      union all
      select event_id, 'handed_over', subscription_id, 0, push_id, at, handed_at, replay, 0, null
      from ${opened(sql, sql`handovers`, wanted, ids)} where event_id <= ${highest} and ${state === null || state === 'handed_over'}),
    latest as (select distinct on (event_id) * from events order by event_id desc, replay desc)
    select event_id as id, state, subscription_id as "subscriptionId", route::int, push_id as "pushId", at, handed_at as "handedAt",
           replay::int as replays, tries::int, due_at as "dueAt"
    from latest where ${state}::text is null or state = ${state} order by event_id desc limit ${limit}`;
}

/** Adds the events' content. */
async function tell(sql: Sql, { accountId, kind, fromDay, toDay }: EventSearch, rows: readonly EventRow[]): Promise<Event[]> {
  interface Told {
    readonly id: bigint;
    readonly phone: bigint | null;
    readonly form: string | null;
    readonly code: string | null;
    readonly costE4: bigint | null;
  }
  const ids = rows.map(({ id }) => id);
  const of = {
    [eventKind.report]: sql<Told[]>`
      select id, phone, form, code, cost_e4 as "costE4" from messages
      where account_id = ${accountId} and day between ${fromDay}::date and ${toDay}::date and id = any(${ids}::bigint[])`,
    [eventKind.reply]: sql<Told[]>`
      select id, phone, null as form, null as code, null as "costE4" from replies
      where account_id = ${accountId} and id = any(${ids}::bigint[])`,
    [eventKind.audit]: sql<Told[]>`
      select id, null as phone, null as form, case when state = 'rejected' then 'FAIL' else 'SUCCESS' end as code, null as "costE4"
      from templates where account_id = ${accountId} and id = any(${ids}::bigint[])`,
  };
  const told = new Map((await of[kind]).map((one) => [one.id, one]));
  return rows.map(({ route, ...row }) => {
    const { phone = null, form = null, code = null, costE4 = null } = told.get(row.id) ?? {};
    return {
      ...row,
      kind: eventKindName[kind],
      route: route === 0 && row.pushId === null ? 'pull' : 'push',
      phone: form ?? (phone === null ? '' : usualForm(phone)),
      code,
      costE4,
    };
  });
}
