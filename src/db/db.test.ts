import { randomInt } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FreshDatabase, freshDatabase } from '../../test/kit/postgres.ts';
import { createDb, type Db, isConnectionLoss, isUniqueViolation, isUnknownCommit, type Sql, type SqlValue } from './db.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from './embedded.ts';

let database: FreshDatabase;
let db: Db;

beforeAll(async () => {
  database = await freshDatabase({ empty: true });
  db = createDb(database.url, { max: 4 });
});

afterAll(async () => {
  await db.end();
  await database.drop();
});

async function value<T>(query: Promise<{ v: T }[]>): Promise<T> {
  const [row] = await query;
  if (!row) throw new Error('no row');
  return row.v;
}

const increment = (sql: Sql, id: bigint) => sql`update counters set n = n + 1 where id = ${id}`;
const read = (id: bigint) => value(db.sql<{ v: bigint }[]>`select n as v from counters where id = ${id}`);

const terminate = (pid: number) => db.sql`select pg_terminate_backend(${pid})`;
const pidOf = async (sql: Sql) => value(sql<{ v: number }[]>`select pg_backend_pid() as v`);

const readThenWrite = () =>
  db.transaction(async (sql) => {
    await sql`set transaction isolation level serializable`;
    const [row] = await sql<{ n: bigint }[]>`select n from counters where id = 1`;
    await sleep(20);
    await sql`update counters set n = ${(row?.n ?? 0n) + 1n} where id = 1`;
  });

describe('values', () => {
  it('int8 is bigint in both directions, beyond what a number holds', async () => {
    const big = 9_223_372_036_854_775_807n;
    expect(await value(db.sql<{ v: bigint }[]>`select ${big}::bigint as v`)).toBe(big);
    expect(await value(db.sql<{ v: bigint }[]>`select ${-big} - 1 as v`)).toBe(-big - 1n);
    expect(await value(db.sql<{ v: bigint }[]>`select count(*) as v from generate_series(1, 3)`)).toBe(3n);
  });

  it('a date is a plain string, whatever the time zone of process and session', async () => {
    expect(await value(db.sql<{ v: string }[]>`select ${'2026-02-28'}::date as v`)).toBe('2026-02-28');
    expect(await value(db.sql<{ v: string[] }[]>`select ${['2026-02-28', '0001-01-01']}::date[] as v`)).toEqual([
      '2026-02-28',
      '0001-01-01',
    ]);
    expect(await value(db.sql<{ v: string }[]>`select (${'2026-03-01'}::date - 1) as v`)).toBe('2026-02-28');
  });

  it('a timestamptz is a Date', async () => {
    const at = new Date('2026-07-01T12:34:56.789Z');
    expect(await value(db.sql<{ v: Date }[]>`select ${at}::timestamptz as v`)).toEqual(at);
  });

  it.each<[string, SqlValue, string, unknown]>([
    ['bigint', [1n, -2n, 9_007_199_254_740_993n], 'bigint[]', [1n, -2n, 9_007_199_254_740_993n]],
    ['a literal that is joined already', '{1,2,3}', 'bigint[]', [1n, 2n, 3n]],
    ['nothing', [], 'bigint[]', []],
    ['null among bigint', [null, 5n, null], 'bigint[]', [null, 5n, null]],
    ['number', [1, 2, -3], 'int[]', [1, 2, -3]],
    ['fractions', [0.5, 1e300], 'float8[]', [0.5, 1e300]],
    ['boolean', [true, false, null], 'boolean[]', [true, false, null]],
    [
      'text',
      ['a', '', 'null', 'NULL', '"q"', 'b\\c', '{},', '【鸿雁】你好', '\n', null],
      'text[]',
      ['a', '', 'null', 'NULL', '"q"', 'b\\c', '{},', '【鸿雁】你好', '\n', null],
    ],
    ['Date', [new Date(0)], 'timestamptz[]', [new Date(0)]],
    ['bytes', [new Uint8Array([0, 92, 255]), new Uint8Array()], 'bytea[]', [Buffer.from([0, 92, 255]), Buffer.alloc(0)]],
    [
      'rows of bigint',
      [
        [1n, 2n],
        [3n, 4n],
      ],
      'bigint[]',
      [
        [1n, 2n],
        [3n, 4n],
      ],
    ],
  ])('an array of %s goes there and back', async (_, array, type, expected) => {
    const [row] = await db.sql.unsafe<{ v: unknown }[]>(`select $1::${type} as v`, [array]);
    expect(row?.v).toEqual(expected);
  });

  it('an array of bigint can be unnested and searched', async () => {
    const ids = [3n, 1n, 2n];
    expect(await value(db.sql<{ v: bigint }[]>`select sum(id)::bigint as v from unnest(${ids}::bigint[]) as id`)).toBe(6n);
    expect(await value(db.sql<{ v: boolean }[]>`select 2 = any(${ids}::bigint[]) as v`)).toBe(true);
  });

  it('json is passed as json, once', async () => {
    expect(await value(db.sql<{ v: string }[]>`select ${db.sql.json({ a: ['x'] })}::jsonb #>> '{a,0}' as v`)).toBe('x');
    expect(await value(db.sql<{ v: unknown }[]>`select ${db.sql.json({ a: null })}::jsonb as v`)).toEqual({ a: null });
  });

  it('a query inside a query becomes part of it', async () => {
    const least = db.sql`where n > ${3n}`;
    const rows = await db.sql<{ n: number }[]>`select n from generate_series(1, 5) as n ${least} order by n`;
    expect(rows.map((row) => row.n)).toEqual([4, 5]);
  });
});

describe('transactions', () => {
  beforeAll(async () => {
    await db.sql.unsafe('create table counters (id bigint primary key, n bigint not null)');
    await db.sql`insert into counters select id, 0 from unnest(${[1n, 2n]}::bigint[]) as id`;
  });

  it('what was thrown rolls everything back and reaches the caller', async () => {
    const before = await read(1n);
    const failure = new Error('no');
    await expect(
      db.transaction(async (sql) => {
        await increment(sql, 1n);
        throw failure;
      }),
    ).rejects.toBe(failure);
    expect(await read(1n)).toBe(before);
  });

  it('what looks like a lost connection, but of something else, rolls back too and leaves no lock', async () => {
    const failure = Object.assign(new Error('a server elsewhere'), { code: 'ECONNRESET' });
    await expect(
      db.transaction(async (sql) => {
        await increment(sql, 1n);
        throw failure;
      }),
    ).rejects.toBe(failure);
    await db.sql`select n from counters where id = 1 for update nowait`;
  });

  it('any result is handed over as it is, arrays of promises and undefined too', async () => {
    expect(await db.transaction(async () => [1n, undefined])).toEqual([1n, undefined]);
    expect(await db.transaction(async () => undefined)).toBeUndefined();
  });

  it('a deadlock is retried until both are through', async () => {
    const [first, second] = [await read(1n), await read(2n)];
    let attempts = 0;
    const cross = (a: bigint, b: bigint) =>
      db.transaction(async (sql) => {
        attempts++;
        await increment(sql, a);
        await sleep(100);
        await increment(sql, b);
      });
    await Promise.all([cross(1n, 2n), cross(2n, 1n)]);
    expect(attempts).toBeGreaterThan(2);
    expect([await read(1n), await read(2n)]).toEqual([first + 2n, second + 2n]);
  });

  it('a serialisation failure is retried', async () => {
    const before = await read(1n);
    await Promise.all([readThenWrite(), readThenWrite(), readThenWrite()]);
    expect(await read(1n)).toBe(before + 3n);
  });

  it('a retry that never helps ends with the error', async () => {
    let attempts = 0;
    const doomed = db.transaction(async (sql) => {
      attempts++;
      await sql.unsafe(`do $$ begin raise exception 'again' using errcode = '40001'; end $$`);
    });
    await expect(doomed).rejects.toMatchObject({ code: '40001' });
    expect(attempts).toBe(6);
  });

  it('a key that exists is a unique violation and nothing else is', async () => {
    const error = await db.sql`insert into counters values (1, 0)`.catch((reason: unknown) => reason);
    expect(isUniqueViolation(error)).toBe(true);
    expect(isConnectionLoss(error)).toBe(false);
    expect(isUniqueViolation(await db.sql`select 1/0`.catch((reason: unknown) => reason))).toBe(false);
  });
});

describe('a connection that breaks', () => {
  it('while a query of a transaction runs is a connection loss, and the pool goes on', async () => {
    const error = await db
      .transaction(async (sql) => {
        const pid = await pidOf(sql);
        setTimeout(() => void terminate(pid).then(), 50);
        await sql`select pg_sleep(5)`;
      })
      .catch((reason: unknown) => reason);
    expect(isConnectionLoss(error)).toBe(true);
    expect(isUnknownCommit(error)).toBe(false);
    expect(await Promise.all(Array.from({ length: 8 }, (_, i) => value(db.sql<{ v: number }[]>`select ${i}::int as v`)))).toHaveLength(8);
  });

  it('between two queries of a transaction lets no later query through', async () => {
    await db.sql.unsafe('create table halves (n int)');
    const error = await db
      .transaction(async (sql) => {
        const pid = await pidOf(sql);
        await sql`insert into halves values (1)`;
        await terminate(pid);
        await sleep(100);
        await Promise.all(Array.from({ length: 8 }, () => db.sql`select 1`)); // tempts the pool to connect again
        await sql`insert into halves values (2)`;
      })
      .catch((reason: unknown) => reason);
    expect(isConnectionLoss(error)).toBe(true);
    expect(await value(db.sql<{ v: bigint }[]>`select count(*) as v from halves`)).toBe(0n);
  });

  it('in the middle of a commit is an unknown commit', async () => {
    // A deferred trigger runs inside COMMIT, so the connection can be broken exactly there.
    await db.sql.unsafe(`
      create table slow (n int);
      create function wait() returns trigger language plpgsql as $$ begin perform pg_sleep(5); return null; end $$;
      create constraint trigger slow_commit after insert on slow deferrable initially deferred for each row execute function wait();`);
    const error = await db
      .transaction(async (sql) => {
        const pid = await pidOf(sql);
        await sql`insert into slow values (1)`;
        setTimeout(() => void terminate(pid).then(), 100);
      })
      .catch((reason: unknown) => reason);
    expect(isUnknownCommit(error)).toBe(true);
    expect(isConnectionLoss(error)).toBe(true);
  });

  it('is noticed by a listener, which listens again', async () => {
    const heard: string[] = [];
    const unlisten = await db.listen('news', (payload) => heard.push(payload));
    await db.notify('news', 'one');
    await expect.poll(() => heard).toEqual(['one']);
    await db.sql`select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%' and datname = current_database()`;
    await expect
      .poll(
        async () => {
          await db.notify('news', 'two');
          return heard;
        },
        { timeout: 10_000 },
      )
      .toContain('two');
    await unlisten();
    const count = heard.length;
    await db.notify('news', 'three');
    await sleep(100);
    expect(heard).toHaveLength(count);
  });
});

describe('a server that is killed under load', { timeout: 120_000 }, () => {
  let folder: string;
  const settings = { fsync: 'off', shared_buffers: '32MB' };
  const start = (port?: number): Promise<EmbeddedPostgres> =>
    startEmbeddedPostgres({ dataDir: path.join(folder, 'postgres'), settings, log: () => {}, ...(port !== undefined && { port }) });

  beforeAll(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'hongyan-db-'));
    chmodSync(folder, 0o711);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('fails every query promptly, and the same pool works when it is back, with nothing half done', async () => {
    let server = await start();
    const port = Number(new URL(server.url('postgres')).port);
    const pool = createDb(server.url('postgres'), { max: 8 });
    await pool.sql.unsafe('create table pairs (id bigint, half int, primary key (id, half))');

    const load = { isOn: true };
    const committed: bigint[] = [];
    const unexpected: unknown[] = [];
    let longestMs = 0;
    let nextId = 0n;
    const worker = async (number: number) => {
      while (load.isOn) {
        const began = Date.now();
        try {
          if (number % 2 === 0) {
            await pool.sql`select repeat('x', ${randomInt(20_000)}::int)`;
          } else {
            const id = ++nextId;
            await pool.transaction(async (sql) => {
              await sql`insert into pairs values (${id}, 1)`;
              await sql`insert into pairs values (${id}, 2)`;
            });
            committed.push(id);
          }
        } catch (error) {
          if (!isConnectionLoss(error)) unexpected.push(error);
          longestMs = Math.max(longestMs, Date.now() - began);
          if (randomInt(2) === 0) await sleep(randomInt(20)); // the others try again at once, in the same turn of the loop
        }
      }
    };
    const workers = Array.from({ length: 40 }, (_, number) => worker(number));

    for (let round = 0; round < 4; round++) {
      await sleep(300);
      process.kill(-server.pid, 'SIGKILL'); // the whole group, as a power cut would
      await server.exited;
      await server.stop();
      await sleep(200);
      server = await start(port);
      const count = committed.length;
      await expect.poll(() => committed.length, { timeout: 15_000 }).toBeGreaterThan(count + 50);
    }
    load.isOn = false;
    await Promise.all(workers);
    expect(longestMs).toBeLessThan(5000);
    expect(unexpected).toEqual([]);

    const rows = await pool.sql<{ id: bigint; halves: bigint }[]>`select id, count(*) as halves from pairs group by id`;
    expect(rows.filter((row) => row.halves !== 2n)).toEqual([]);
    const stored = new Set(rows.map((row) => row.id));
    expect(committed.filter((id) => !stored.has(id))).toEqual([]);

    await pool.end();
    await server.stop();
  });
});
