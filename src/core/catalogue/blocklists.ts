/**
 * Lists of numbers that must not be sent to, and the opt-outs that fill them. The only writer of `blocklists` and `blocked_numbers`.
 *
 * A list belongs to a subject: the platform itself (empty numbers, system list), a product, a subscription or a signature; screening checks
 * the lists that concern a batch. The lists are configuration; their numbers are not, and are queried in the database.
 */
import type { Db, Sql } from '../../db/db.ts';
import type { BlocklistKind } from '../config/directory.ts';
import { raiseVersion } from '../config/directory.ts';
import { type FileReport, readRows, withSpool } from '../config/imports.ts';
import type { Page, PageRequest } from '../config/management.ts';
import { afterId, Denial, found, pageOf } from '../config/management.ts';
import { mainlandNumbers, parseNumber } from '../model/numbers.ts';

export interface Blocklist {
  readonly id: bigint;
  readonly kind: BlocklistKind;
  /** The product, subscription or signature; 0 for the platform's own lists. */
  readonly subjectId: bigint;
  /** The account that owns the subscription or signature; null for lists that only the operator sees. */
  readonly accountId: bigint | null;
}

export interface BlockedNumber {
  readonly phone: bigint;
  readonly source: BlockSource;
  readonly addedAt: Date;
}

/** How a number came onto a list. */
export type BlockSource = 'operator' | 'account' | 'opt-out';

// ── lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The list of this kind for this subject; created if there is none. The platform's lists (`empty`, `system`) have subject 0. */
export async function ensureBlocklist(sql: Sql, kind: BlocklistKind, subjectId: bigint): Promise<bigint> {
  const existing = await idOf(sql, kind, subjectId);
  if (existing !== undefined) return existing;
  await raiseVersion(sql);
  if (!(await isSubject(sql, kind, subjectId))) throw new Denial('invalid', `subjectId: no such ${kind}`);
  await sql`
    insert into blocklists (id, kind, subject_id) values (nextval('config_ids'), ${kind}, ${subjectId})
    on conflict (kind, subject_id) do nothing`;
  return found(await idOf(sql, kind, subjectId), 'blocklist');
}

async function idOf(sql: Sql, kind: BlocklistKind, subjectId: bigint): Promise<bigint | undefined> {
  const [row] = await sql<{ id: bigint }[]>`select id from blocklists where kind = ${kind} and subject_id = ${subjectId}`;
  return row?.id;
}

async function isSubject(sql: Sql, kind: BlocklistKind, subjectId: bigint): Promise<boolean> {
  if (kind === 'product') return (await sql`select 1 from products where id = ${subjectId}`).length > 0;
  if (kind === 'subscription') return (await sql`select 1 from subscriptions where id = ${subjectId}`).length > 0;
  if (kind === 'signature') return (await sql`select 1 from signatures where id = ${subjectId}`).length > 0;
  return subjectId === 0n;
}

/** The lists of an account (of its subscriptions and signatures), or every list for the operator (`accountId` null), by id. */
export async function listBlocklists(sql: Sql, accountId: bigint | null, page: PageRequest): Promise<Page<Blocklist>> {
  const rows = await sql<Blocklist[]>`
    ${ownedLists(sql)} where l.id > ${afterId(page)} and (${accountId}::bigint is null or coalesce(s.account_id, g.account_id) = ${accountId})
    order by l.id limit ${page.limit + 1}`;
  return pageOf(rows, page, ({ id }) => [id]);
}

/** One list; for an account, only if it is its own. */
export async function getBlocklist(sql: Sql, accountId: bigint | null, id: bigint): Promise<Blocklist> {
  const [list] = await sql<Blocklist[]>`
    ${ownedLists(sql)} where l.id = ${id} and (${accountId}::bigint is null or coalesce(s.account_id, g.account_id) = ${accountId})`;
  return found(list, 'blocklist');
}

const ownedLists = (sql: Sql) => sql`
  select l.id, l.kind, l.subject_id as "subjectId", coalesce(s.account_id, g.account_id) as "accountId"
  from blocklists l
  left join subscriptions s on l.kind = 'subscription' and s.id = l.subject_id
  left join signatures g on l.kind = 'signature' and g.id = l.subject_id`;

// ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Adds numbers to a list; returns how many were not on it before. A number that is already there keeps its source and time. */
export async function addNumbers(sql: Sql, listId: bigint, phones: readonly bigint[], source: BlockSource, at: Date): Promise<number> {
  const [row] = await sql<[{ n: bigint }]>`
    with added as (
      insert into blocked_numbers (list_id, phone, source, added_at)
      select ${listId}, phone, ${source}, ${at} from unnest(${phones}::bigint[]) as phone
      order by phone
      on conflict do nothing
      returning 1)
    select count(*) as n from added`;
  return Number(row.n);
}

export interface NumberImport extends FileReport {
  readonly added: number;
  /** Rows whose number was on the list before, or earlier in the file. */
  readonly present: number;
}

/** Adds a file of numbers, one a line, to a list, all or nothing; with `skipInvalid`, rows that are not numbers are skipped. */
export async function importNumbers(
  db: Db,
  listId: bigint,
  chunks: AsyncIterable<Uint8Array>,
  { skipInvalid, source, at }: { readonly skipInvalid: boolean; readonly source: BlockSource; readonly at: Date },
): Promise<NumberImport> {
  return withSpool(mainlandNumbers, async (spool) => {
    const taker = {
      add: ([number = '', ...others]: readonly string[]) => {
        if (others.length > 0) throw new Denial('invalid', `${others.length + 1} fields instead of one number`);
        const phone = parseNumber(number);
        if (phone === null) throw new Denial('invalid', `${JSON.stringify(number)} is no valid number`);
        spool.add(phone);
      },
      flush: spool.flush,
    };
    const report = await readRows(chunks, { columns: 'number', skipInvalid }, taker);
    return db.transaction(
      async (sql) => {
        let added = 0;
        for await (const batch of spool.batches()) added += await addNumbers(sql, listId, batch, source, at);
        return { ...report, added, present: report.rows - added };
      },
      { findOut: true },
    );
  });
}

/** Removes numbers from a list; returns how many were on it. */
export async function removeNumbers(sql: Sql, listId: bigint, phones: readonly bigint[]): Promise<number> {
  const removed = await sql`delete from blocked_numbers where list_id = ${listId} and phone = any(${phones}::bigint[]) returning 1`;
  return removed.length;
}

export interface Listing extends Pick<Blocklist, 'kind' | 'subjectId' | 'accountId'>, Pick<BlockedNumber, 'source' | 'addedAt'> {
  readonly listId: bigint;
}

/** The lists that a number is on, by id. */
export async function listsOf(sql: Sql, phone: bigint): Promise<Listing[]> {
  return sql<Listing[]>`
    select l.id as "listId", l.kind, l."subjectId", l."accountId", n.source, n.added_at as "addedAt"
    from (${ownedLists(sql)}) l join blocked_numbers n on n.list_id = l.id and n.phone = ${phone}
    order by l.id`;
}

/** The numbers of a list in numeric order; only `phone` if it is given. */
export async function listNumbers(sql: Sql, listId: bigint, phone: bigint | null, page: PageRequest): Promise<Page<BlockedNumber>> {
  const rows = await sql<BlockedNumber[]>`
    select phone, source, added_at as "addedAt" from blocked_numbers
    where list_id = ${listId} and phone > ${afterId(page)} and (${phone}::bigint is null or phone = ${phone})
    order by phone limit ${page.limit + 1}`;
  return pageOf(rows, page, (row) => [row.phone]);
}

/**
 * A person who wrote an opt-out word gets nothing more from this subscription, from the commit of this transaction on.
 *
 * Every subscription has its list from the start, so the nodes that screen and dispatch already know it.
 */
export async function optOut(sql: Sql, subscriptionId: bigint, phones: readonly bigint[], at: Date): Promise<void> {
  await addNumbers(sql, await ensureBlocklist(sql, 'subscription', subscriptionId), phones, 'opt-out', at);
}
