/**
 * Retention: what is kept, and for how long. The big tables have a partition for each day. Partitions are made a month ahead, so that they
 * exist at midnight and planned batches can be cancelled. They get statistics early, so that the first thousand messages of a day are not
 * planned for an empty table. They are dropped when they are past retention. Related rows in tables without partitions are deleted after
 * them, in bounded sets (docs/adr/0010-old-days-go.md).
 *
 * A day goes in steps, each with its own commit, so that a process may be killed between any two steps, and another process may continue,
 * or do the same steps concurrently:
 *
 * 1. it is *ended*: nothing of it is queued, waits for a report, or is owed to a customer who may still fetch it;
 * 2. its totals are *frozen* on its batches; from then on they are read there and not counted;
 * 3. its partitions are *detached*, all three in one transaction, which needs a brief lock that hot queries must not wait for;
 * 4. the detached tables are *dropped*, which disturbs nobody;
 * 5. batches that have no day left are *purged*: chunks, content, late reports, media that nothing else names;
 * 6. long after, they are *forgotten*, and their entries in the ledger become opening entries.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Db, isLockTimeout, type Sql } from '../../db/db.ts';
import { groupInOrder } from '../../std/group.ts';
import { addDays, dayBegins, shanghaiDay } from '../../std/shanghai.ts';
import { forgetBatches, forgettable, freezeDay, purgeable, purgeBatches } from '../queue/batches.ts';
import { purgeInboundParts, purgeReplies } from '../outcome/inbound.ts';
import { compact } from '../money/ledger.ts';
import { isAwaitingReports, purgeLateReports } from '../outcome/messages.ts';
import { isQueued } from '../queue/queue.ts';
import type { PlatformSettings } from '../model/configuration.ts';
import { awaitedDays, giveUpEvents, hasWaiting, ownPartitions } from '../events/owed.ts';
import { purgePushes } from '../events/pushed.ts';
import type { Dialects } from '../model/dialect.ts';
import { purgeUnusedMedia } from '../content/media.ts';
import { setEventsGivenUpBefore } from '../config/settings.ts';

/**
 * Every message and segment is updated once, when it is reported. A page filled to 45 % keeps room for the second version of each of its
 * rows, so the update stays on the page and touches no index; at 80 % two thirds of the updates did not stay (measured).
 */
const tables = { messages: 45, segments: 45, handovers: 100 } as const;
/** A batch may be planned for 30 days ahead, and is recorded under that day when it is cancelled. */
const daysAhead = 32;
/** A message is found by its planned day; a message from just before midnight, or sent late, still needs that day. */
const daysBack = 1;

/** Number of rows of today after which statistics are taken again. */
const analyzeAt = [1000, 10_000, 100_000];

/**
 * Detaching needs the parent table for itself. While it waits for that, all later queries wait behind it, so it gives up soon and tries
 * again later; it never waits for a long query such as a backup.
 */
const detachWithinMs = 100;
const detachTries = 5;
const detachPauseMs = 1000;

/** Rows in one transaction. */
const portion = { messages: 10_000, events: 5000, batches: 200, rows: 1000 } as const;

export type KeepFor = Pick<PlatformSettings, 'retentionDays' | 'waitingDays' | 'batchDays'>;

/** What happened to the days past retention. */
export interface Dropped {
  readonly dropped: readonly string[];
  /** Why a day is still there: something of it is unfinished, a customer may still fetch it, or its tables were in use just now. */
  readonly kept: ReadonlyMap<string, 'unfinished' | 'awaited' | 'in use'>;
}

export interface Retention {
  /** Makes the partitions from yesterday to a month ahead. Safe on several nodes at once. */
  makePartitions(): Promise<void>;
  /** The oldest day that has a partition of messages. */
  oldestDay(): Promise<string>;
  /** Takes statistics of today's partitions when they have grown tenfold. */
  analyzeToday(): Promise<void>;
  /** Drops every day past retention that has ended. Safe on several nodes at once; may be killed, and stops early when asked to. */
  dropDays(keepFor: KeepFor, isStopping: () => boolean): Promise<Dropped>;
  /** Deletes what dropped days have left behind, in bounded transactions; equally safe. Returns how many batches, replies, … there were. */
  purge(keepFor: KeepFor, isStopping: () => boolean): Promise<number>;
}

export function createRetention({ db, dialects, clock }: { db: Db; dialects: Dialects; clock: () => Date }): Retention {
  const analyzed = new Map<string, number>();
  const partition = (table: string, day: string): string => `${table}_${day.replaceAll('-', '')}`;
  const parents = Object.keys(tables).map((table) => `public.${table}`);

  /** The names of all partitions. */
  async function partitions(sql: Sql): Promise<ReadonlySet<string>> {
    const present = await sql<{ name: string }[]>`
      select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = any(${parents}::regclass[])`;
    return new Set(present.map(({ name }) => name));
  }

  /** Days that still have any partition, oldest first. */
  async function daysPresent(): Promise<string[]> {
    const days = [...(await partitions(db.sql))].map((name) => name.slice(-8).replace(/(....)(..)(..)/, '$1-$2-$3'));
    return [...new Set(days)].sort();
  }

  /** Writes the day's totals on its batches. Reads the whole day even if this was done before, but then writes nothing. */
  async function freeze(day: string, isStopping: () => boolean): Promise<boolean> {
    for (let from: bigint | null = 0n; from !== null; ) {
      if (isStopping()) return false;
      const start: bigint = from;
      from = await db.transaction(async (sql) => {
        await sql`select pg_advisory_xact_lock(${batchesLock(sql)})`; // two that freeze the same batches in different orders would deadlock
        return freezeDay(sql, day, start, portion.messages, clock());
      });
    }
    return true;
  }

  /**
   * Takes the day's partitions from their tables. `detach … concurrently` would hardly need a lock, but can be neither part of a
   * transaction nor sharded, and a kill leaves it half done.
   */
  async function detach(day: string, isStopping: () => boolean): Promise<'detached' | 'awaited' | 'in use'> {
    for (let tries = 1; ; tries++) {
      try {
        return await db.transaction(async (sql) => {
          await ownPartitions(sql);
          if (await hasWaiting(sql, day)) return 'awaited';
          const present = await partitions(sql);
          const own = Object.keys(tables).filter((table) => present.has(partition(table, day)));
          await sql.unsafe(`set local lock_timeout = ${detachWithinMs}`);
          for (const table of own) await sql.unsafe(`alter table ${table} detach partition ${partition(table, day)}`);
          return 'detached';
        });
      } catch (error) {
        if (!isLockTimeout(error)) throw error;
        if (tries === detachTries || isStopping()) return 'in use';
        await sleep(detachPauseMs * (0.5 + Math.random()));
      }
    }
  }

  /** Drops detached tables, also those that a killed process has left behind. */
  async function dropDetached(before: string): Promise<void> {
    const left = await db.sql<{ name: string }[]>`
      select relname as name from pg_class
      where relnamespace = 'public'::regnamespace and relkind = 'r' and not relispartition
        and relname ~ '^(messages|segments|handovers)_[0-9]{8}$' and right(relname, 8) < ${before.replaceAll('-', '')}`;
    for (const { name } of left) await db.sql.unsafe(`drop table if exists ${name}`);
  }

  /** Removes the day's events that nobody fetches, then freezes and detaches the day; or returns the reason why it cannot. */
  async function retire(day: string, isAwaited: boolean, isGivenUp: boolean, isStopping: () => boolean) {
    if (isAwaited && !isGivenUp) return 'awaited';
    // One look over a whole day that has not been read for months may take long.
    const isUnfinished = await db.transaction(async (sql) => {
      await sql.unsafe('set local statement_timeout = 600000');
      // In this order: what leaves the queue in between has its messages by then.
      return (await isQueued(sql, day)) || (await isAwaitingReports(sql, day));
    });
    if (isUnfinished) return 'unfinished';
    if (!(await freeze(day, isStopping))) return 'stopped';
    for (let n: number = portion.events; n === portion.events && !isStopping(); )
      n = await db.transaction((sql) => giveUpEvents(sql, dialects, day, isGivenUp, portion.events));
    return isStopping() ? 'stopped' : detach(day, isStopping);
  }

  /** One portion of batches that have no day left. Only one process at a time: see `purgeUnusedMedia`. */
  const purgeSome = (present: readonly string[]): Promise<number> =>
    db.transaction(async (sql) => {
      if (!(await purgesAlone(sql))) return 0;
      const at = clock();
      const found = await purgeable(sql, present, at, portion.batches);
      for (const [accountId, own] of groupInOrder(found, (row) => row.accountId)) {
        const ids = own.map(({ id }) => id);
        await purgeLateReports(sql, accountId, ids);
        await purgeBatches(sql, accountId, ids, at);
        await purgeUnusedMedia(sql, accountId, [...new Set(own.flatMap(({ digests }) => digests))]);
      }
      return found.length;
    });

  /** One portion of batches purged long ago, with their entries in the ledger: the audit checks the two against each other. */
  const forgetSome = (before: string): Promise<number> =>
    db.transaction(async (sql) => {
      if (!(await purgesAlone(sql))) return 0;
      const found = await forgettable(sql, before, portion.batches);
      for (const [accountId, own] of groupInOrder(found, (row) => row.accountId)) {
        const ids = own.map(({ id }) => id);
        await compact(sql, accountId, ids);
        await forgetBatches(sql, accountId, ids);
      }
      return found.length;
    });

  return {
    async makePartitions() {
      const today = shanghaiDay(clock());
      const days = Array.from({ length: daysBack + daysAhead + 1 }, (_, i) => addDays(today, i - daysBack));
      await db.transaction(async (sql) => {
        await ownPartitions(sql);
        const present = await partitions(sql);
        for (const [table, fillfactor] of Object.entries(tables))
          for (const day of days)
            if (!present.has(partition(table, day))) {
              const name = partition(table, day);
              await sql.unsafe(`create table ${name} (like ${table} including all) with (fillfactor = ${fillfactor})`);
              await sql.unsafe(`alter table ${table} attach partition ${name} for values from ('${day}') to ('${addDays(day, 1)}')`);
            }
      });
    },

    async oldestDay() {
      const [oldest] = await daysPresent();
      return oldest ?? shanghaiDay(clock());
    },

    async analyzeToday() {
      const day = shanghaiDay(clock());
      for (const table of Object.keys(tables)) {
        const name = partition(table, day);
        const done = analyzed.get(name) ?? 0;
        const next = analyzeAt.find((rows) => rows > done);
        if (next === undefined) continue;
        const [size] = await db.sql<{ rows: bigint }[]>`
          select n_tup_ins as rows from pg_stat_user_tables where relid = to_regclass(${`public.${name}`})`;
        if (!size || size.rows < next) continue;
        await db.sql.unsafe(`analyze ${name}`);
        analyzed.set(name, Number(size.rows));
      }
      for (const name of analyzed.keys()) if (!name.endsWith(day.replaceAll('-', ''))) analyzed.delete(name);
    },

    async dropDays({ retentionDays, waitingDays }, isStopping) {
      const today = shanghaiDay(clock());
      const before = addDays(today, -retentionDays);
      const givenUpBefore = addDays(today, -Math.max(retentionDays, waitingDays));
      await dropDetached(before);
      const old = (await daysPresent()).filter((day) => day < before);
      const dropped: string[] = [];
      const kept = new Map<string, 'unfinished' | 'awaited' | 'in use'>();
      if (old.length === 0) return { dropped, kept };
      await setEventsGivenUpBefore(db.sql, before);
      const awaited = await awaitedDays(db.sql, dialects, before);
      for (const day of old) {
        const result = await retire(day, awaited.has(day), day < givenUpBefore, isStopping);
        if (result === 'stopped') break;
        if (result === 'detached') dropped.push(day);
        else kept.set(day, result);
        if (result === 'in use') break; // a reader of one day has a lock on the parent table of all days
      }
      await dropDetached(before);
      return { dropped, kept };
    },

    async purge({ retentionDays, batchDays }, isStopping) {
      const at = clock();
      const today = shanghaiDay(at);
      const before = addDays(today, -retentionDays);
      const present = await daysPresent();
      const accounts = await db.sql<{ id: bigint }[]>`select id from accounts order by id`;
      const works: readonly (readonly [number, () => Promise<number>])[] = [
        [portion.batches, () => purgeSome(present)],
        [portion.batches, () => forgetSome(addDays(today, -Math.max(retentionDays, batchDays)))],
        [portion.rows, () => db.transaction((sql) => purgeReplies(sql, dayBegins(before), present, portion.rows))],
        [portion.rows, () => db.transaction((sql) => purgeInboundParts(sql, at, portion.rows))],
        ...accounts.map(
          ({ id }) => [portion.rows, () => db.transaction((sql) => purgePushes(sql, id, dayBegins(before), portion.rows))] as const,
        ),
      ];
      let total = 0;
      for (const [most, work] of works) for (let n = most; n === most && !isStopping(); total += n) n = await work();
      return total;
    },
  };
}

/** Held while batches are frozen, purged or forgotten. */
const batchesLock = (sql: Sql) => sql`hashtext('hongyan old batches')`;

/** Whether no other process works on old batches now; if so, none will until this transaction ends. */
async function purgesAlone(sql: Sql): Promise<boolean> {
  const [row] = await sql<[{ alone: boolean }]>`select pg_try_advisory_xact_lock(${batchesLock(sql)}) as alone`;
  return row.alone;
}
