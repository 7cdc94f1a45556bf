/**
 * What the modules behind the management API share: how a change becomes visible, how a request is denied, how a list is cut into pages.
 * The modules themselves (accounts, catalogue, templates, blocklists, tokens, reporting) know nothing of HTTP.
 */
import type { Db, Sql } from '../../db/db.ts';
import type { SecretBox } from '../../std/secret-box.ts';
import type { ChannelKinds } from '../model/configuration.ts';
import type { Directory } from './directory.ts';

/** What management needs: the database, the box that seals secrets, this node's view of the configuration, the channel kinds. */
export interface Management {
  readonly db: Db;
  readonly box: SecretBox;
  readonly directory: Directory;
  readonly kinds: ChannelKinds;
}

/**
 * Changes the configuration in one transaction. When this returns, the change is committed and in force on this node; the others follow
 * within a second. `work` calls writers that raise the configuration's version themselves.
 */
export async function change<Result>({ db, directory }: Management, work: (sql: Sql) => Promise<Result>): Promise<Result> {
  const result = await db.transaction(work);
  await directory.refresh();
  return result;
}

// ── denials ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * - `not_found`: it does not exist, or it belongs to somebody else; the caller cannot tell which.
 * - `malformed`: a value has the wrong form, and only stored or configured data could show that.
 * - `invalid`: a value is well-formed but has no meaning here; `path` says which value.
 * - `conflict`: the object's present state, or another object, prevents it.
 */
export type DenialCode = 'not_found' | 'malformed' | 'invalid' | 'conflict';

/** A management request that cannot be fulfilled. Thrown inside a transaction, it rolls everything back. */
export class Denial extends Error {
  readonly code: DenialCode;
  constructor(code: DenialCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** The row, or a denial that names what is missing. */
export function found<Row>(row: Row | undefined, what: string): Row {
  if (row === undefined) throw new Denial('not_found', `no such ${what}`);
  return row;
}

/** Denies a value of `accountId` that is not an account's id. */
export async function checkAccount(sql: Sql, accountId: bigint): Promise<void> {
  const [account] = await sql`select 1 from accounts where id = ${accountId}`;
  if (!account) throw new Denial('invalid', 'accountId: no such account');
}

/** The next id for a configured object. */
export async function nextConfigId(sql: Sql): Promise<bigint> {
  const [row] = await sql<[{ id: bigint }]>`select nextval('config_ids') as id`;
  return row.id;
}

// Lists are read by key, never by offset: every page costs the same, and new rows do not shift the next page.

export interface PageRequest {
  readonly limit: number;
  /** The `next` of the previous page; null for the first page. */
  readonly cursor: string | null;
}

export interface Page<Row> {
  readonly data: readonly Row[];
  /** Null when there is nothing more. */
  readonly next: string | null;
}

/** A part of a list's sort key. */
type KeyPart = bigint | string;

/**
 * Cuts rows into a page; the query must read one row more than the page has. The cursor is the sort key of the last row, opaque to the
 * client.
 */
export function pageOf<Row>(rows: readonly Row[], { limit }: PageRequest, keyOf: (row: Row) => readonly KeyPart[]): Page<Row> {
  const data = rows.slice(0, limit);
  const last = data.at(-1);
  const isLast = rows.length <= limit || last === undefined;
  return { data, next: isLast ? null : Buffer.from(JSON.stringify(keyOf(last).map(String))).toString('base64url') };
}

/** The same page with its rows mapped. */
export const mapPage = <Row, Shown>({ data, next }: Page<Row>, show: (row: Row) => Shown): { data: Shown[]; next: string | null } => ({
  data: data.map(show),
  next,
});

/** Lists in ascending order of id continue after this one. */
export const afterId = (page: PageRequest): bigint => keyOf(page, ['id'])?.[0] ?? 0n;

/** Lists in descending order of id, newest first, continue below this one. */
export const belowId = (page: PageRequest): bigint => keyOf(page, ['id'])?.[0] ?? highest;

/** The types of a sort key's parts. `id` is never negative; `micros` is a time, in microseconds since 1970. */
type Shape = readonly ('id' | 'integer' | 'micros' | 'text')[];
type KeyOf<S extends Shape> = { readonly [At in keyof S]: S[At] extends 'text' ? string : bigint };

/** The sort key after which a page continues; null for the first page. A made-up cursor is a denial, never a database error. */
export function keyOf<const S extends Shape>({ cursor }: PageRequest, shape: S): KeyOf<S> | null {
  if (cursor === null) return null;
  const parts = partsOf(cursor);
  const key = shape.map((kind, at) => keyPartOf[kind](parts[at]));
  if (parts.length !== shape.length || !isWhole<S>(key)) throw new Denial('invalid', 'cursor: not one that this list has given');
  return key;
}

const isWhole = <S extends Shape>(key: unknown): key is KeyOf<S> => Array.isArray(key) && !key.includes(null);

function partsOf(cursor: string): readonly unknown[] {
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString());
    return Array.isArray(parts) ? parts : [];
  } catch {
    return [];
  }
}

function integerOf(part: unknown, lowest: bigint, highest: bigint): bigint | null {
  if (typeof part !== 'string' || !/^-?\d{1,19}$/.test(part)) return null;
  const integer = BigInt(part);
  return integer >= lowest && integer <= highest ? integer : null;
}

const lowest = -(2n ** 63n);
const highest = 2n ** 63n - 1n;
const endOfTime = BigInt(Date.UTC(9999, 0)) * 1000n;

const keyPartOf = {
  id: (part: unknown) => integerOf(part, 0n, highest),
  integer: (part: unknown) => integerOf(part, lowest, highest),
  micros: (part: unknown) => integerOf(part, 0n, endOfTime),
  text: (part: unknown) => (typeof part === 'string' && !part.includes('\0') ? part : null),
} as const;
