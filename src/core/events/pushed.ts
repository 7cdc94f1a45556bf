/**
 * Pushes of events: which endpoints have something due, claims of it, and the results. The only writer of `pushes`, the record of every
 * try.
 *
 * An event that waits for an endpoint is due at a time. A push claims due events and commits before anything is sent, and the claim counts
 * as a try: even if the process dies, an event is pushed no more often than its dialect allows. Claims run out, so that the events of a
 * lost process are found. The pusher decides what a failed try means (again later, to be pulled, failed for good); this module stores it.
 */
import { performance } from 'node:perf_hooks';
import { type Db, forEachOwner, planAnew, type Sql } from '../../db/db.ts';
import { groupBy, groupInOrder } from '../../std/group.ts';
import type { Directory } from '../config/directory.ts';
import type { AuditEvent, ReplyEvent, ReportEvents } from '../model/dialect.ts';
import { type EventKind, eventKind, eventKindName } from '../model/statuses.ts';
import {
  beginPush,
  carriedIn,
  type Endpoint,
  endPush,
  handOver,
  leavePush,
  type Parcel,
  take,
  type Taken,
  underClaims,
  urlOf,
} from './owed.ts';
import { auditsOf, repliesOf, reportsOf } from './told.ts';

/** What one push carries. */
export interface Load {
  readonly parcels: readonly Parcel[];
  readonly events:
    | { readonly kind: 'report'; readonly reports: readonly ReportEvents[] }
    | { readonly kind: 'reply'; readonly replies: readonly ReplyEvent[] }
    | { readonly kind: 'audit'; readonly audits: readonly AuditEvent[] };
}

/** Events that no other node pushes, until the claim runs out. */
export interface PushClaim {
  readonly id: bigint;
  readonly endpoint: Endpoint;
  readonly url: string;
  readonly loads: readonly Load[];
  /** How long after the claim a push may still begin. */
  readonly sendWithinMs: number;
}

/** Parcels whose claim has run out, because the process that made it was lost. */
export interface LostClaim {
  readonly id: bigint;
  readonly endpoint: Endpoint;
  readonly parcels: readonly Parcel[];
}

/**
 * What becomes of events after a try: handed over; due again; to be pulled (kept, if the dialect has no pull); failed, and kept for a
 * replay.
 */
export type Fate =
  | { readonly kind: 'done' }
  | { readonly kind: 'again'; readonly at: Date }
  | { readonly kind: 'pull' }
  | { readonly kind: 'failed' }
  | { readonly kind: 'unsent' }; // nothing was sent, so it does not count as a try

export interface PushResult {
  readonly claimId: bigint;
  readonly endpoint: Endpoint;
  readonly parcels: readonly Parcel[];
  readonly fate: Fate;
  /** Null if nothing was sent. */
  readonly attempt: { readonly url: string; readonly startedAt: Date; readonly status: number | null; readonly answer: string } | null;
}

export interface Pushes {
  /** Endpoints with something due, in dialects that this node knows. Events that are due later cost nothing, however many they are. */
  due(): Promise<Endpoint[]>;
  /** Claims the events that are due first; null when there are none, or the URL is gone (its events fall back to pull). */
  claim(endpoint: Endpoint, limit: number): Promise<PushClaim | null>;
  /** Stores what became of claimed events, and the tries. Events that are no longer under the claim stay as they are. */
  settle(results: readonly PushResult[]): Promise<void>;
  /** Settles the claims of lost processes, as `judge` decides. Returns how many events. */
  recover(judge: (claim: LostClaim) => readonly PushResult[]): Promise<number>;
}

/** Less than a claim lasts: nothing is sent in its last part. */
const sendWithinMs = 45_000;
/** Parcels that lose their URL, or their process, are handled in portions of this size. */
const portion = 5000;
/** How often all waiting events are read, to find accounts whose last URL has gone unnoticed. */
const lookThroughMs = 60_000;
/** About what it takes to ask for the due endpoints of one account. */
const perAccountMs = 0.1;

export function createPushes({ db, directory, clock }: { db: Db; directory: Directory; clock: () => Date }): Pushes {
  /** Accounts that have had a URL since all waiting events were last read. */
  let accountsWithUrls = new Set<bigint>();
  let lookedThroughAt = Number.NEGATIVE_INFINITY;
  /** How long it took then. */
  let lookThroughTook = 0;

  type DueRow = Omit<Endpoint, 'kind'> & { kind: EventKind };

  /** Reads all waiting events. */
  const dueOfAll = (sql: Sql) => sql<DueRow[]>`
    select account_id as "accountId", dialect, endpoint as owner, kind::int from parcels where route = 1
    group by account_id, dialect, endpoint, kind having min(due_at) <= ${clock()}`;

  /** A loose index scan: one step for each endpoint that has rows, however many rows. An endpoint's first row is due first. */
  const dueOf = (sql: Sql, accountId: bigint) => sql<DueRow[]>`
    with recursive waiting as (
      (select endpoint, kind, dialect, due_at from parcels
       where account_id = ${accountId} and route = 1
       order by endpoint, kind, dialect, due_at, id limit 1)
      union all
      select n.* from waiting w, lateral (
        select endpoint, kind, dialect, due_at from parcels
        where account_id = ${accountId} and route = 1 and (endpoint, kind, dialect) > (w.endpoint, w.kind, w.dialect)
        order by endpoint, kind, dialect, due_at, id limit 1) n)
    select ${accountId}::bigint as "accountId", dialect, endpoint as owner, kind::int from waiting where due_at <= ${clock()}`;

  /** On one connection, where the statements follow each other without waiting. */
  const dueOfEach = async (accountIds: readonly bigint[]): Promise<DueRow[]> =>
    accountIds.length === 0 ? [] : (await db.transaction((sql) => Promise.all(accountIds.map((id) => dueOf(sql, id))))).flat();

  function noteAccountsWithUrls(): void {
    for (const { id, pushUrls } of directory.accounts()) {
      const urls = [pushUrls, ...directory.subscriptionsOf(id).map(({ subscription }) => subscription.pushUrls)];
      if (urls.some((own) => Object.keys(own).length > 0)) accountsWithUrls.add(id);
    }
  }

  /** Everything in one load; where each event is a parcel with its own tries, a load for each. */
  async function loadsOf(sql: Sql, { accountId, dialect, kind }: Endpoint, taken: readonly Taken[]): Promise<Load[]> {
    const each = kind === 'audit' || directory.dialects.rules.get(dialect)?.push.carries === 'one';
    const carried = carriedIn(accountId, taken);
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
    const parcels = taken.map(({ id, size, tries }) => ({ id, size, tries: tries + 1 }));
    const own = new Map(parcels.map((parcel) => [parcel.id, [parcel]]));
    return events.map(([id, events]) => ({ parcels: each ? (own.get(id) ?? []) : parcels, events }));
  }

  async function settleIn(sql: Sql, results: readonly PushResult[], attemptIds: readonly bigint[], at: Date): Promise<void> {
    const numbered = results.map((result, index) => ({ ...result, pushId: attemptIds[index] ?? 0n, accountId: result.endpoint.accountId }));
    for (const [accountId, own] of groupInOrder(numbered, (result) => result.accountId)) {
      await insertAttempts(sql, accountId, own, at);
      for (const [kind, same] of groupBy(own, ({ endpoint }) => eventKind[endpoint.kind])) {
        const claimIds = [...new Set(same.map(({ claimId }) => claimId))];
        const done = same.filter(({ fate }) => fate.kind === 'done');
        if (done.length > 0) {
          const parcels = done.flatMap(({ pushId, parcels }) => parcels.map(({ id }) => ({ id, pushId })));
          await handOver(sql, accountId, kind, parcels, underClaims(sql, claimIds), at);
        }
        const others = same.filter(({ fate }) => fate.kind !== 'done');
        for (const alike of groupBy(others, ({ fate }) => (fate.kind === 'again' ? fate.at.getTime() : fate.kind)).values()) {
          const fate = alike[0]?.fate ?? { kind: 'failed' };
          await endPush(
            sql,
            accountId,
            kind,
            { ids: alike.flatMap(({ parcels }) => parcels.map(({ id }) => id)), claimIds },
            {
              route: fate.kind === 'pull' ? 'pull' : fate.kind === 'failed' ? 'failed' : 'push',
              dueAt: fate.kind === 'again' ? fate.at : null,
              wasTry: fate.kind !== 'unsent',
            },
          );
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

  return {
    async due() {
      // Reading all waiting events costs by their number, asking each account by the number of accounts: the cheaper way is taken.
      const now = performance.now();
      noteAccountsWithUrls();
      const all = now - lookedThroughAt >= lookThroughMs || lookThroughTook <= accountsWithUrls.size * perAccountMs;
      const rows = all ? await dueOfAll(db.sql) : await dueOfEach([...accountsWithUrls]);
      if (all) {
        lookedThroughAt = now;
        lookThroughTook = performance.now() - now;
        accountsWithUrls = new Set();
        noteAccountsWithUrls();
      }
      return rows
        .filter(({ dialect }) => directory.dialects.rules.has(dialect))
        .map(({ kind, ...endpoint }) => ({ ...endpoint, kind: eventKindName[kind] }));
    },

    async claim(endpoint, limit) {
      const { accountId, dialect, owner } = endpoint;
      const kind = eventKind[endpoint.kind];
      const url = urlOf(directory, endpoint);
      if (!url) {
        await leavePush(db.sql, endpoint, portion);
        return null;
      }
      return db.transaction(async (sql) => {
        const isOne = kind !== eventKind.report || directory.dialects.rules.get(dialect)?.push.carries === 'one';
        const which = sql`endpoint = ${owner} and dialect = ${dialect} and route = 1 and due_at <= ${clock()}`;
        const [, taken] = await Promise.all([planAnew(sql), take(sql, { accountId, kind, which, order: sql`due_at`, isOne }, limit)]);
        if (taken.length === 0) return null;
        const [id = 0n] = await nextIds(sql, 1);
        const [, loads] = await Promise.all([beginPush(sql, accountId, kind, taken, id), loadsOf(sql, endpoint, taken)]);
        return { id, endpoint, url, loads, sendWithinMs };
      });
    },

    async settle(results) {
      if (results.length === 0) return;
      const at = clock();
      // The ids are taken before, so that a repeat after an unknown commit meets its own keys.
      const attemptIds = await nextIds(db.sql, results.length);
      await db.transaction(async (sql) => {
        await Promise.all([planAnew(sql), settleIn(sql, results, attemptIds, at)]);
      });
    },

    recover: (judge) =>
      db.transaction(async (sql) => {
        const known = [...directory.dialects.rules.keys()];
        const isLost = () => sql`route = 2 and lease_until < now() and dialect = any(${known}::text[])`;
        const query = sql<{ accountId: bigint; id: bigint }[]>`
          select account_id as "accountId", id from parcels where ${isLost()} order by lease_until limit ${portion}`;
        const [, lost] = await Promise.all([planAnew(sql), query]);
        type Row = Parcel & Omit<Endpoint, 'kind'> & { kind: EventKind; claimId: bigint };
        const rows = await forEachOwner(
          lost,
          (parcel) => parcel.accountId,
          (accountId, own) => sql<Row[]>`
            select id, account_id as "accountId", dialect, endpoint as owner, kind::int, tries::int, cardinality(indexes) as size,
                   push_id as "claimId"
            from parcels
            where account_id = ${accountId} and id = any(${own.map(({ id }) => id)}::bigint[]) and ${isLost()}
            order by lease_until for update skip locked`,
        );
        if (rows.length === 0) return 0;
        const results = [...groupBy(rows, ({ claimId }) => claimId).values()].flatMap((parcels) => {
          const [first] = parcels;
          if (!first) return [];
          const { claimId: id, accountId, dialect, owner, kind } = first;
          return judge({ id, endpoint: { accountId, dialect, owner, kind: eventKindName[kind] }, parcels });
        });
        await settleIn(sql, results, await nextIds(sql, results.length), clock());
        return rows.reduce((sum, { size }) => sum + size, 0);
      }),
  };
}

async function nextIds(sql: Sql, count: number): Promise<bigint[]> {
  const rows = await sql<{ id: bigint }[]>`select nextval('record_ids') as id from generate_series(1, ${count}::int)`;
  return rows.map(({ id }) => id);
}

/** Deletes an account's push tries from before this time, the oldest first, at most `limit`; returns how many. */
export async function purgePushes(sql: Sql, accountId: bigint, before: Date, limit: number): Promise<number> {
  const gone = await sql`
    with oldest as (select id, started_at from pushes where account_id = ${accountId} order by id limit ${limit})
    delete from pushes
    where account_id = ${accountId} and id = any(array(select id from oldest where started_at < ${before})) returning 1`;
  return gone.length;
}
