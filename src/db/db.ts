// The access to PostgreSQL. Only this file imports the driver (postgres.js).
//
// It owns the conversion of values (bigint both ways, `date` as 'YYYY-MM-DD', arrays in one fast form), time-outs, transactions with their
// retries, notifications, and the functions that distinguish errors.
// It does not own SQL about our tables. That SQL is hand-written in the core module that writes the table.
//
// It works around these faults of postgres.js 3.4.9, each found by killing the server under load (see db.test.ts):
// - The driver sends its ROLLBACK even over a lost connection, which ends the process with an uncaught TypeError.
//   So a transaction whose connection is lost is abandoned; the server has rolled it back.
// - A connection that died with a write pending never recovers, and queries between a socket's `error` and its `close` never end.
//   So after a lost connection the whole pool is replaced, and the old pool is ended within seconds.
// - Its parser of arrays does not handle null.
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import postgres from 'postgres';
import { groupInOrder } from '../std/group.ts';

/** A value in a `${…}`. Arrays need a cast that names the element type: `any(${ids}::bigint[])`. */
export type SqlValue = Scalar | readonly Scalar[] | readonly (readonly Scalar[])[] | Json | Fragment;

type Scalar = string | number | bigint | boolean | Date | Uint8Array | null;
type Json = postgres.Parameter<postgres.JSONValue>;
type Rows = readonly (object | undefined)[];
/** A part of a statement, or a statement that has not been awaited. */
export type Fragment = postgres.PendingQuery<Record<string, unknown>[]>;

/**
 * A tagged template that runs SQL. It is the same for the pool and for a transaction, so core functions take either:
 * ``const [row] = await sql<{ id: bigint }[]>`select id from batches where id = ${id}` ``.
 *
 * The caller asserts the type of the rows; nothing checks it. int8 arrives as bigint, also from `count(*)`. `sum` of bigint is numeric and
 * arrives as a string, so cast it: `sum(n)::bigint`. Times keep only milliseconds, and there is no Date for 'infinity'.
 * An array becomes one PostgreSQL array literal. Arrays of bigint and number are joined without quoting, which is as fast as passing the
 * literal `'{1,2,3}'` (that works too). A query inside a `${…}` becomes part of the outer query.
 */
export interface Sql {
  <Result extends Rows = Record<string, unknown>[]>(
    text: TemplateStringsArray,
    ...values: readonly SqlValue[]
  ): postgres.PendingQuery<Result>;
  /** Runs SQL from a string, for DDL with computed names. Without values it may contain several statements. */
  unsafe<Result extends Rows = Record<string, unknown>[]>(text: string, values?: readonly SqlValue[]): Promise<Result>;
  /** Passes a value as json or jsonb. (A JSON string passed plainly to a jsonb parameter would be encoded twice.) */
  json(value: unknown): Json;
}

/** The results of a transaction for which an unknown commit is resolved by asking the database. */
type FindOut<T> = boolean | ((result: T) => boolean);

/** A pool of connections to the one database. */
export interface Db {
  sql: Sql;
  /**
   * Runs `fn` in one transaction and commits. After a serialisation failure or a deadlock it runs `fn` again, a few times, so the effects
   * of `fn` outside `sql` must be repeatable. If the connection breaks during the commit, the outcome is not known and the error says so:
   * see `isUnknownCommit`. A database error inside `fn` must leave `fn`, because the transaction is aborted.
   *
   * With `findOut`, an unknown commit is resolved: it asks the database, for as long as a restart may take, and returns or fails
   * accordingly. Use it for results that have no key by which a retry could find them (`true`: for all results). It costs a round trip
   * and a transaction id.
   */
  transaction<T>(fn: (sql: Sql) => Promise<T>, options?: { readonly findOut?: FindOut<T> }): Promise<T>;
  /** Calls `fn` on every notification, and listens again after a lost connection. Some are missed, so use one as a hint, never as data. */
  listen(channel: string, fn: (payload: string) => void): Promise<() => Promise<void>>;
  /** Wakes the listeners. It uses its own transaction, because NOTIFY takes a server-wide lock at commit. */
  notify(channel: string, payload?: string): Promise<void>;
  /** The number of transactions that wait for a connection or have one. */
  transactions(): number;
  /** The most connections of the pool, without the one that listens. */
  readonly max: number;
  /** Lets running queries finish for up to five seconds, then closes every connection. */
  end(): Promise<void>;
}

export interface DbOptions {
  /** The most connections at once; listening uses one more. */
  max?: number;
  applicationName?: string;
  /** 0 switches the limit off, for migrations and the audit. */
  statementTimeoutMs?: number;
  /** Called after every transaction, with how long it waited for its connection and how long it then took. */
  observe?(outcome: 'committed' | 'failed', waitedMs: number, tookMs: number): void;
}

const maxAttempts = 6;
const statementTimeoutMs = 60_000;
const endTimeoutSeconds = 5;
/** A killed server is usually back within this time. */
const findOutMs = 30_000;
/** How long queries on the other connections may go on after one connection is lost. Usually the server is gone, and all are lost. */
const retireSeconds = 2;

const types = {
  bigint: { to: 20, from: [20], serialize: (value: bigint) => value.toString(), parse: (text: string) => BigInt(text) },
  // A Date would be midnight in the process's time zone. `timestamp` (1114) is not used; as a string, a mistake is easy to see.
  plainDate: { to: 1082, from: [1082, 1114], serialize: (value: string) => value, parse: (text: string) => text },
  bigints: array([1016], (text) => BigInt(text)),
  numbers: array([1007, 1005, 1021, 1022], Number),
  strings: array([1009, 1015, 1182, 1231, 2951], (text) => text), // text, varchar, date, numeric, uuid
  booleans: array([1000], (text) => text === 't'),
  times: array([1185], (text) => new Date(text)),
  bytes: array([1001], (text) => Buffer.from(text.slice(2), 'hex')),
};

/** A type for arrays with these OIDs. Other arrays arrive as PostgreSQL's text. */
function array(from: [number, ...number[]], parse: (text: string) => unknown) {
  return { to: from[0], from, serialize: (literal: string) => literal, parse: (text: string) => parseArray(text, parse) };
}

type Driver = postgres.Sql<{ bigint: bigint }>;

/** Creates a pool. Connections are opened when they are first needed, so this does not wait and cannot fail to connect. */
export function createDb(url: string, options: DbOptions = {}): Db {
  if (!/^postgres(ql)?:\/\//.test(url)) throw new Error('the database URL must begin with postgres:// or postgresql://');
  const timeout = options.statementTimeoutMs ?? statementTimeoutMs;
  const driverOptions = {
    types: types as unknown as { bigint: (typeof types)['bigint'] }, // of these types, our tag passes only bigint on unchanged
    fetch_types: false,
    connect_timeout: 10,
    backoff: () => 0.1 + Math.random() / 5, // seconds; the driver's default grows to 20, and a new query would fail only after that time
    max_lifetime: null, // so every close that we did not ask for means a lost connection
    onnotice: () => {},
    connection: {
      application_name: options.applicationName ?? 'hongyan',
      TimeZone: 'UTC',
      statement_timeout: timeout,
      lock_timeout: Math.min(timeout, 20_000),
      // Far below the time of a lease: a node that hangs inside a transaction must not block the node that takes over its work.
      idle_in_transaction_session_timeout: 5000,
      // Before PostgreSQL 18, a plan step that is switched off (see `planAnew`) adds a cost so high that a server with LLVM compiles the
      // statement, which takes 150 ms for each claim.
      jit: 'off',
    },
  };

  const max = options.max ?? 10;
  let underWay = 0;
  let ending = false;
  let pool = createPool();
  const listener = postgres(url, { ...driverOptions, max: 1 });

  /** Makes one generation of connections. Losing the first of them retires it: running queries may finish, new ones go to a new pool. */
  function createPool(): Driver {
    let hasConnected = false;
    const created = postgres(url, {
      ...driverOptions,
      max,
      onparameter: () => {
        hasConnected = true;
      },
      onclose: () => {
        if (ending || !hasConnected || pool !== created) return;
        pool = createPool();
        void created.end({ timeout: retireSeconds });
      },
    });
    return created;
  }

  async function transaction<T>(fn: (sql: Sql) => Promise<T>, { findOut = false }: { readonly findOut?: FindOut<T> } = {}): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await observed(fn, findOut);
      } catch (error) {
        if (error instanceof UnknownCommit && error.transactionId !== null) {
          if (await wasCommitted(error.transactionId)) return error.value as T;
          throw error.cause;
        }
        const code = codeOf(error);
        if ((code !== '40001' && code !== '40P01') || attempt === maxAttempts) throw error;
        await sleep(Math.random() * 10 * 2 ** attempt);
      }
    }
  }

  async function observed<T>(fn: (sql: Sql) => Promise<T>, findOut: FindOut<T>): Promise<T> {
    const asked = performance.now();
    let began: number | undefined;
    let outcome: 'committed' | 'failed' = 'failed';
    underWay++;
    try {
      const value = await attemptTransaction(
        pool,
        (sql) => {
          began = performance.now();
          return fn(sql);
        },
        findOut,
      );
      outcome = 'committed';
      return value;
    } finally {
      underWay--;
      const now = performance.now();
      options.observe?.(outcome, (began ?? now) - asked, now - (began ?? now));
    }
  }

  /** Asks until the server is back and the transaction has ended. Throws if that takes too long. */
  async function wasCommitted(transactionId: string): Promise<boolean> {
    for (const last = performance.now() + findOutMs; ; ) {
      try {
        const [row] = await pool<{ status: string | null }[]>`select pg_xact_status(${transactionId}::xid8) as status`;
        if (row?.status === 'committed' || row?.status === 'aborted') return row.status === 'committed';
      } catch (error) {
        if (!isConnectionLoss(error)) throw error;
      }
      if (performance.now() > last) throw new UnknownCommit(new ConnectionLost());
      await sleep(100);
    }
  }

  return {
    sql: wrap(() => pool),
    transaction,
    transactions: () => underWay,
    max,
    async listen(channel, fn) {
      let isListening = true; // the driver's `unlisten` no longer works once it has listened again
      const listening = await listener.listen(channel, (payload) => isListening && fn(payload));
      return async () => {
        isListening = false;
        await listening.unlisten();
      };
    },
    async notify(channel, payload = '') {
      await pool`select pg_notify(${channel}, ${payload})`;
    },
    async end() {
      ending = true;
      await Promise.all([pool.end({ timeout: endTimeoutSeconds }), listener.end({ timeout: endTimeoutSeconds })]);
    },
  };
}

async function attemptTransaction<T>(pool: Driver, fn: (sql: Sql) => Promise<T>, findOut: FindOut<T>): Promise<T> {
  let isOver = false;
  let result: { value: T } | undefined;
  let transactionId: string | null = null;
  try {
    await pool.begin(async (connection) => {
      const sql = wrap(() => {
        if (isOver) throw new ConnectionLost();
        return connection;
      });
      try {
        const value = await fn(sql);
        if (isOver) throw new ConnectionLost();
        if (typeof findOut === 'function' ? findOut(value) : findOut) {
          // Asks for an id even if this server has assigned none: on a sharded database, another server may have written the rows.
          const [row] = await connection<{ id: string | null }[]>`select pg_current_xact_id()::text as id`;
          transactionId = row?.id ?? null;
          if (isOver) throw new ConnectionLost();
        }
        result = { value };
      } catch (error) {
        // If this connection broke, `begin` fails within the same turn of the event loop. Then this callback must never end, because the
        // driver would send its ROLLBACK over the dead connection.
        if (isConnectionLoss(error)) await sleep(20);
        if (isOver) await new Promise<never>(() => {});
        throw error;
      }
    });
  } catch (error) {
    isOver = true; // needed if the connection broke while `fn` was not waiting for a query
    const wasCommitting = result !== undefined;
    if (wasCommitting && (isConnectionLoss(error) || codeOf(error) === '40003'))
      throw new UnknownCommit(error, transactionId, result?.value);
    throw error;
  }
  if (!result) throw new Error('a transaction was committed before its function returned');
  return result.value;
}

/** Builds our tag around the driver's. It gets the driver at each call, because the pool may have been replaced. */
function wrap(driver: () => postgres.ISql<{ bigint: bigint }>): Sql {
  const sql = <Result extends Rows>(text: TemplateStringsArray, ...values: readonly SqlValue[]) =>
    driver()<Result & (object | undefined)[]>(text, ...values.map(toParameter));
  return Object.assign(
    sql as Sql,
    {
      async unsafe(text: string, values?: readonly SqlValue[]) {
        return await driver().unsafe(
          text,
          values?.map((value) => toParameter(value) as postgres.SerializableParameter<bigint>),
        );
      },
      json: (value: unknown): Json => driver().json(value as postgres.JSONValue) as Json,
    } as Pick<Sql, 'unsafe' | 'json'>,
  );
}

/** Turns arrays into literals. The driver takes an array's type from its first element, so `${[1n]}::bigint[]` would fail. */
function toParameter(value: SqlValue): postgres.ParameterOrFragment<bigint> {
  return Array.isArray(value)
    ? arrayLiteral(value as readonly (Scalar | readonly Scalar[])[])
    : (value as Exclude<SqlValue, readonly unknown[]>);
}

function arrayLiteral(values: readonly (Scalar | readonly Scalar[])[]): string {
  return `{${values.map(arrayElement).join(',')}}`;
}

function arrayElement(value: Scalar | readonly Scalar[]): string | number | bigint | boolean {
  if (typeof value === 'bigint' || typeof value === 'number' || typeof value === 'boolean') return value;
  if (typeof value === 'string') return `"${value.replace(/["\\]/g, '\\$&')}"`;
  if (value === null) return 'null';
  if (value instanceof Date) return `"${value.toISOString()}"`;
  if (value instanceof Uint8Array) return `"\\\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}"`;
  if (Array.isArray(value)) return arrayLiteral(value);
  throw new TypeError(`a value of type ${typeof value} cannot be an element of an SQL array`);
}

/** Reads an array in PostgreSQL's text form, also a nested one: `{1,NULL,"a \\"word\\""}`. */
function parseArray(text: string, parse: (element: string) => unknown): unknown[] {
  if (!/["{]/.test(text.slice(1))) {
    const inside = text.slice(1, -1);
    return inside === '' ? [] : inside.split(',').map((element) => (element === 'NULL' ? null : parse(element)));
  }
  const token = /(?:([{}])|"((?:[^"\\]|\\.)*)"|([^,{}"]+)),?/sy;
  token.lastIndex = 1;
  const readArray = (): unknown[] => {
    const elements: unknown[] = [];
    for (;;) {
      const [, brace, quoted, plain] = token.exec(text) ?? [];
      if (brace === '}') return elements;
      if (brace === '{') elements.push(readArray());
      else if (quoted !== undefined) elements.push(parse(quoted.replace(/\\(.)/gs, '$1')));
      else if (plain !== undefined) elements.push(plain === 'NULL' ? null : parse(plain));
      else throw new Error('PostgreSQL sent an array that cannot be read');
    }
  };
  return readArray();
}

class ConnectionLost extends Error {
  readonly code = 'CONNECTION_CLOSED';

  constructor() {
    super('the connection of this transaction was lost');
  }
}

class UnknownCommit extends Error {
  /** The id of the transaction, if `findOut` asked for it, and the result that the transaction would have returned. */
  readonly transactionId: string | null;
  readonly value: unknown;

  constructor(cause: unknown, transactionId: string | null = null, value?: unknown) {
    super('the connection was lost while committing: the transaction may or may not have happened', { cause });
    this.transactionId = transactionId;
    this.value = value;
  }
}

/**
 * For the rest of this transaction, plans each statement by the present content of the tables, and prefers the order of an index to
 * sorting. A queue is empty most of the time. A plan that was made then and kept reads and sorts the whole queue once it is full; old
 * statistics have the same effect (with 300,000 rows a claim took 290 and 110 ms instead of 2). Planning again costs a tenth of a
 * millisecond, so only the code that works a queue asks for it. Send it together with the first statement (`Promise.all`), not before it.
 */
export async function planAnew(sql: Sql): Promise<void> {
  await sql`select set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_sort', 'off', true)`;
}

/**
 * The second half of a sweep over all accounts or channels. The first half has `found` rows without a lock. This runs `statement` for the
 * rows of each account or channel, one after the other, and returns all resulting rows. On a sharded database a statement can lock rows of
 * only one account or channel, and all code that locks rows of several does so in this order. The statement must repeat the conditions of
 * the search, because a row may have changed.
 */
export async function forEachOwner<Found, Row>(
  found: readonly Found[],
  ownerOf: (row: Found) => bigint,
  statement: (ownerId: bigint, own: readonly Found[]) => PromiseLike<readonly Row[]>,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [ownerId, own] of groupInOrder(found, ownerOf)) rows.push(...(await statement(ownerId, own)));
  return rows;
}

export interface Room {
  /** Connections that this role may still open in this database. */
  readonly left: number;
  /** The limit that applies: max_connections, or a limit of the role or the database. */
  readonly limit: string;
}

/** How many more connections the server would accept from us. All open connections are subtracted, also our own. */
export async function connectionRoom(sql: Sql): Promise<Room> {
  const [row] = await sql<Room[]>`
    with sessions as (select datid, usesysid from pg_stat_activity where datid is not null and usesysid is not null),
    role as (select oid, rolsuper, rolconnlimit from pg_roles where rolname = current_user),
    limits as (
      select 'max_connections' as name,
             current_setting('max_connections')::int - (select count(*) from sessions)
             - case when role.rolsuper then 0 else
                 current_setting('superuser_reserved_connections')::int
                 + coalesce(current_setting('reserved_connections', true)::int, 0) end as left
      from role
      union all
      select 'the limit of role ' || current_user, rolconnlimit - (select count(*) from sessions where usesysid = role.oid)
      from role where rolconnlimit >= 0 and not rolsuper
      union all
      select 'the limit of database ' || datname, datconnlimit - (select count(*) from sessions where datid = d.oid)
      from pg_database d, role where datname = current_database() and datconnlimit >= 0 and not rolsuper)
    select name as limit, "left"::int from limits order by "left" limit 1`;
  if (!row) throw new Error('PostgreSQL did not tell its limits');
  return row;
}

/** True if it is not known whether the transaction was committed. A retry must find out first, or be idempotent by a key. */
export function isUnknownCommit(error: unknown): boolean {
  return error instanceof UnknownCommit;
}

/** True if the database was unreachable or the connection was lost. Unless it is an unknown commit, nothing was committed. */
export function isConnectionLoss(error: unknown): boolean {
  if (error instanceof UnknownCommit) return true;
  const code = codeOf(error);
  return code !== undefined && (connectionLossCodes.has(code) || code.startsWith('08'));
}

/** True if a lock was not available within `lock_timeout`. */
export function isLockTimeout(error: unknown): boolean {
  return codeOf(error) === '55P03';
}

/** True if a row with this key exists already. A sharded database that inserts from a query passes on the message without the code. */
export function isUniqueViolation(error: unknown): boolean {
  const code = codeOf(error);
  return (
    code === '23505' || (code === 'XX000' && error instanceof Error && error.message.startsWith('duplicate key value violates unique'))
  );
}

const connectionLossCodes = new Set(
  [
    'CONNECTION_CLOSED CONNECTION_DESTROYED CONNECTION_ENDED CONNECT_TIMEOUT', // of the driver
    'ECONNREFUSED ECONNRESET EPIPE ETIMEDOUT EHOSTUNREACH ENETUNREACH ENOTFOUND EAI_AGAIN', // of the operating system
    '57P01 57P02 57P03 25P03', // of the server: shut down by an operator, shut down by a crash, not ready, idle in transaction
  ].flatMap((codes) => codes.split(' ')),
);

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
