/**
 * The day partitions of the big tables: made a month ahead, so that no midnight finds the house without a floor and what is planned can
 * be cancelled, and given statistics early, so that the first thousand messages of a day are not planned for an empty table.
 */
import type { Db } from '../db/db.ts';
import { addDays, shanghaiDay } from '../std/shanghai.ts';

/**
 * Every message and segment is updated once, when it is reported. A page filled to 45 % keeps room for the second version of each of its
 * rows, so the update stays on the page and touches no index; at 80 % two thirds of them did not (measured).
 */
const tables = { messages: 45, segments: 45, events: 100 } as const;
/** A batch may be planned for 30 days ahead, and is recorded under that day when it is cancelled. */
const daysAhead = 32;
/** A message is found by its planned day; one from just before midnight, or sent late, still needs its day. */
const daysBack = 1;

/** Rows of today after which statistics are taken anew. */
const analyzeAt = [1000, 10_000, 100_000];

export interface Retention {
  /** Makes the partitions from yesterday to a month ahead. Safe on several nodes at once. */
  makePartitions(): Promise<void>;
  /** The oldest day that has a partition of messages. */
  oldestDay(): Promise<string>;
  /** Takes statistics of today's partitions when they have grown tenfold. */
  analyzeToday(): Promise<void>;
}

export function createRetention({ db, clock }: { db: Db; clock: () => Date }): Retention {
  const analyzed = new Map<string, number>();
  const partition = (table: string, day: string): string => `${table}_${day.replaceAll('-', '')}`;

  return {
    async makePartitions() {
      const today = shanghaiDay(clock());
      const days = Array.from({ length: daysBack + daysAhead + 1 }, (_, i) => addDays(today, i - daysBack));
      await db.transaction(async (sql) => {
        await sql`select pg_advisory_xact_lock(hashtext('hongyan partitions'))`;
        const present = await sql<{ name: string }[]>`
          select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
          where i.inhparent = any(${Object.keys(tables).map((table) => `public.${table}`)}::regclass[])`;
        const names = new Set(present.map(({ name }) => name));
        for (const [table, fillfactor] of Object.entries(tables))
          for (const day of days)
            if (!names.has(partition(table, day)))
              await sql.unsafe(`
                create table ${partition(table, day)} (like ${table} including all) with (fillfactor = ${fillfactor});
                alter table ${table} attach partition ${partition(table, day)} for values from ('${day}') to ('${addDays(day, 1)}')`);
      });
    },

    async oldestDay() {
      const [oldest] = await db.sql<{ day: string | null }[]>`
        select min(to_date(right(c.relname, 8), 'YYYYMMDD')) as day from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'public.messages'::regclass`;
      return oldest?.day ?? shanghaiDay(clock());
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
  };
}
