/**
 * Frequency caps: how many messages one number may get from a subscription, from a product or under a signature within a period. The only
 * writer of `caps` (configuration) and of `cap_counters` (the times of the counted messages).
 *
 * There is one counter row for each subject and number, however many caps the subject has. It holds, in ascending order, the minutes of the
 * messages that the subject's longest cap still counts. So it holds at most as many as that cap allows, and a new cap starts with what the
 * row already holds. The transaction that accepts numbers counts them; a refusal or a rollback leaves no count.
 */
import type { Sql } from '../../db/db.ts';
import type { Directory, Tenancy } from '../config/directory.ts';
import { raiseVersion } from '../config/directory.ts';
import type { Page, PageRequest } from '../config/management.ts';
import { afterId, Denial, found, nextConfigId, pageOf } from '../config/management.ts';
import type { Cap, CapPeriod, CapScope } from '../model/configuration.ts';

// ── caps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export type StoredCap = Cap & { readonly createdAt: Date };

export interface NewCap {
  readonly scope: CapScope;
  readonly subjectId: bigint;
  readonly period: CapPeriod;
  readonly count: number;
}

/** Creates a cap. A subject has at most one cap of each period: of two, the larger would have no effect. */
export async function createCap(sql: Sql, { scope, subjectId, period, count }: NewCap): Promise<StoredCap> {
  await raiseVersion(sql);
  if (!(await isSubject(sql, scope, subjectId))) throw new Denial('invalid', `subjectId: no such ${scope}`);
  await checkPeriodFree(sql, { scope, subjectId, period, id: 0n });
  const id = await nextConfigId(sql);
  await sql`insert into caps (id, scope, subject_id, period, count) values (${id}, ${scope}, ${subjectId}, ${period}, ${count})`;
  return getCap(sql, id);
}

/** Changes the given fields. Earlier counts stay, as far back as the subject's longest cap has looked until now. */
export async function changeCap(sql: Sql, id: bigint, wanted: { count?: number; period?: CapPeriod }): Promise<StoredCap> {
  await raiseVersion(sql);
  const before = await getCap(sql, id);
  const { count, period } = { ...before, ...wanted };
  await checkPeriodFree(sql, { ...before, period });
  await sql`update caps set count = ${count}, period = ${period} where id = ${id}`;
  return getCap(sql, id);
}

/** Removes a cap and returns it as it was. */
export async function removeCap(sql: Sql, id: bigint): Promise<StoredCap> {
  await raiseVersion(sql);
  const before = await getCap(sql, id);
  await sql`delete from caps where id = ${id}`;
  return before;
}

export async function getCap(sql: Sql, id: bigint): Promise<StoredCap> {
  const [cap] = await sql<StoredCap[]>`select ${capColumns(sql)} from caps where id = ${id}`;
  return found(cap, 'cap');
}

/** Caps by id, optionally of one scope or of one subject. */
export async function listCaps(
  sql: Sql,
  filter: { scope: CapScope | null; subjectId: bigint | null },
  page: PageRequest,
): Promise<Page<StoredCap>> {
  const { scope, subjectId } = filter;
  const rows = await sql<StoredCap[]>`
    select ${capColumns(sql)} from caps
    where id > ${afterId(page)} and (${scope}::text is null or scope = ${scope}) and (${subjectId}::bigint is null or subject_id = ${subjectId})
    order by id limit ${page.limit + 1}`;
  return pageOf(rows, page, ({ id }) => [id]);
}

const capColumns = (sql: Sql) => sql`id, scope, subject_id as "subjectId", period, count, created_at as "createdAt"`;

async function checkPeriodFree(sql: Sql, { scope, subjectId, period, id }: Omit<Cap, 'count'>): Promise<void> {
  const [other] = await sql`select 1 from caps where scope = ${scope} and subject_id = ${subjectId} and period = ${period} and id <> ${id}`;
  if (other) throw new Denial('conflict', `period: this ${scope} has a cap for ${period} already`);
}

async function isSubject(sql: Sql, scope: CapScope, id: bigint): Promise<boolean> {
  if (scope === 'product') return (await sql`select 1 from products where id = ${id}`).length > 0;
  if (scope === 'subscription') return (await sql`select 1 from subscriptions where id = ${id}`).length > 0;
  return (await sql`select 1 from signatures where id = ${id}`).length > 0;
}

// ── counting ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Something that has caps. */
export interface CapSubject {
  /** The account of the counters; 0 for a product, which counts over all accounts. */
  readonly accountId: bigint;
  readonly scope: CapScope;
  readonly subjectId: bigint;
  /** At least one. */
  readonly caps: readonly Cap[];
}

/** A number that would be sent to. It may occur several times in one call; lower ordinals are served first. */
export interface Asked {
  readonly ordinal: number;
  readonly phone: bigint;
  /** The text's registered signature, or null. The caps of a signature apply to the numbers that are sent to under it. */
  readonly signatureId: bigint | null;
}

/** The cap that had no room for a number. */
export interface CapRefusal {
  readonly cap: bigint;
  readonly scope: CapScope;
  readonly subjectId: bigint;
  readonly period: CapPeriod;
  readonly limit: number;
  /** How many messages the number has had within the period. */
  readonly count: number;
}

/** The subjects of a submission that have caps; usually none. */
export function cappedSubjects(directory: Directory, tenancy: Tenancy, signatureIds: Iterable<bigint>): CapSubject[] {
  const { account, product, subscription } = tenancy;
  const subjects: Omit<CapSubject, 'caps'>[] = [
    { accountId: account.id, scope: 'subscription', subjectId: subscription.id },
    { accountId: 0n, scope: 'product', subjectId: product.id },
    ...[...new Set(signatureIds)].map((subjectId) => ({ accountId: account.id, scope: 'signature' as const, subjectId })),
  ];
  return subjects.flatMap((subject) => {
    const caps = directory.caps(subject.scope, subject.subjectId);
    return caps.length > 0 ? [{ ...subject, caps }] : [];
  });
}

/**
 * Counts every number for which all caps of its subjects have room. Returns the others by ordinal, each with the first cap that has no room
 * (subscription before product before signature). Those are not counted anywhere.
 *
 * It needs one statement per subject, whatever the number of phones; a second one if numbers were refused, and a third if several subjects
 * disagree or a number occurred more often than there was room. The rows of all numbers, existing and new, are locked until the
 * transaction ends, in one pass in the order of (scope, subject, phone). So two transactions wait for each other only in that order, and
 * the one that waited sees what the other has committed.
 */
export async function takeCaps(
  sql: Sql,
  subjects: readonly CapSubject[],
  asked: readonly Asked[],
  at: Date,
): Promise<Map<number, CapRefusal>> {
  const inOrder = [...asked].sort((a, b) => a.ordinal - b.ordinal);
  const tallies = subjects
    .map((subject) => tally(subject, inOrder, at))
    .sort((a, b) => a.scope - b.scope || (a.subjectId < b.subjectId ? -1 : 1));
  // All are sent at once, and the connection runs them in this order.
  await Promise.all(tallies.map((one) => count(sql, one)));

  const refused = new Map<number, CapRefusal>();
  inOrder.forEach(({ ordinal }, index) => {
    const refusal = firstRefusal(tallies, index);
    if (refusal) refused.set(ordinal, refusal);
    else
      for (const { counters } of tallies) {
        const counter = counters[index];
        if (counter) counter.granted++;
      }
  });
  await Promise.all(tallies.map((one) => correct(sql, one)));
  return refused;
}

/** A number in the counters of one subject. */
interface Counter {
  readonly phone: bigint;
  asked: number;
  /** How often this call has counted it in the table; there was room for that many. */
  taken: number;
  /** How often it should be counted. */
  granted: number;
  /** The earlier counts; known only if more was asked for than was taken. */
  before: readonly number[];
}

/** What a call asks of one subject. */
interface Tally {
  readonly accountId: bigint;
  readonly scope: number;
  readonly subjectId: bigint;
  readonly caps: readonly (Cap & { readonly beginning: number })[];
  readonly minute: number;
  /** Messages before this minute do not count. */
  readonly oldest: number;
  readonly phones: ReadonlyMap<bigint, Counter>;
  /** One for each `Asked`; undefined where the subject does not apply. */
  readonly counters: readonly (Counter | undefined)[];
}

/** Also the order of locks and of refusals. */
const scopeNumber: Readonly<Record<CapScope, number>> = { subscription: 1, product: 2, signature: 3 };

function tally({ accountId, scope, subjectId, caps }: CapSubject, asked: readonly Asked[], at: Date): Tally {
  const phones = new Map<bigint, Counter>();
  const counters = asked.map(({ phone, signatureId }) => {
    if (scope === 'signature' && subjectId !== signatureId) return undefined;
    let counter = phones.get(phone);
    if (!counter) phones.set(phone, (counter = { phone, asked: 0, taken: 0, granted: 0, before: [] }));
    counter.asked++;
    return counter;
  });
  const since = caps.map((cap) => ({ ...cap, beginning: beginningOf(cap.period, at) }));
  const oldest = Math.min(...since.map(({ beginning }) => beginning));
  return { accountId, scope: scopeNumber[scope], subjectId, caps: since, minute: minuteOf(at), oldest, phones, counters };
}

/**
 * Locks the rows of these numbers, creates missing ones, and counts each number as often as it is asked for if there is room for that. If
 * there is not, the row is still locked, and is read.
 */
async function count(sql: Sql, { accountId, scope, subjectId, caps, minute, oldest, phones }: Tally): Promise<void> {
  if (phones.size === 0) return;
  const counters = [...phones.values()];
  const most = Math.min(...caps.map((cap) => cap.count)); // at most so many messages to one number can pass in one call
  for (const counter of counters) counter.taken = Math.min(counter.asked, most);

  // Marks ascend: a cap has room for n more if the mark at position (count - n) from the end is older than its period, or missing.
  const room = caps
    .map(
      (cap) => sql`coalesce(c.marks[cardinality(c.marks) + cardinality(excluded.marks) - ${cap.count}::int] < ${cap.beginning}::int, true)`,
    )
    .reduce((all, one) => sql`${all} and ${one}`);
  // The first two alternatives are shortcuts for the last one; they save a fifth of the statement.
  const full = await sql<{ phone: bigint }[]>`
    with asked as materialized (
      select phone, times from unnest(${counters.map(({ phone }) => phone)}::bigint[], ${counters.map(({ taken }) => taken)}::int[]) as t(phone, times)),
    taken as (
      insert into cap_counters as c (account_id, scope, subject_id, phone, marks)
      select ${accountId}, ${scope}, ${subjectId}, phone, array_fill(${minute}::int, array[times]) from asked
      order by phone
      on conflict (account_id, scope, subject_id, phone) do update
      set marks = case
        when c.marks[cardinality(c.marks)] < ${oldest}::int then excluded.marks
        when c.marks[1] >= ${oldest}::int and c.marks[cardinality(c.marks)] <= ${minute}::int then c.marks || excluded.marks
        else array(select mark from unnest(c.marks || excluded.marks) as mark where mark >= ${oldest}::int order by mark) end
      where ${room}
      returning phone)
    select phone from asked where phone not in (select phone from taken)`;
  for (const { phone } of full) counterOf(phones, phone).taken = 0;

  const unsure = counters.flatMap(({ phone, asked, taken }) => (asked > taken ? [phone] : []));
  if (unsure.length === 0) return;
  const rows = await sql<{ phone: bigint; marks: number[] }[]>`
    select phone, marks from cap_counters
    where account_id = ${accountId} and scope = ${scope} and subject_id = ${subjectId} and phone = any(${unsure}::bigint[])`;
  for (const { phone, marks } of rows) {
    const counter = counterOf(phones, phone);
    counter.before = marks.toSpliced(marks.indexOf(minute), counter.taken);
  }
}

function counterOf(phones: ReadonlyMap<bigint, Counter>, phone: bigint): Counter {
  const counter = phones.get(phone);
  if (!counter) throw new Error('the database counts a number that was not asked for');
  return counter;
}

/** The first cap that has no room for one more of the number at this index. */
function firstRefusal(tallies: readonly Tally[], index: number): CapRefusal | undefined {
  for (const { caps, counters } of tallies) {
    const counter = counters[index];
    if (!counter || counter.granted < counter.taken) continue;
    for (const { id, scope, subjectId, period, count: limit, beginning } of caps) {
      const had = counter.before.filter((mark) => mark >= beginning).length + counter.granted;
      if (had >= limit) return { cap: id, scope, subjectId, period, limit, count: had };
    }
  }
  return undefined;
}

/** Corrects the rows, already locked, that have counted more or less than is granted. */
async function correct(sql: Sql, { accountId, scope, subjectId, minute, oldest, phones }: Tally): Promise<void> {
  const wrong = [...phones.values()].filter(({ taken, granted }) => taken !== granted);
  if (wrong.length === 0) return;
  const numbers = wrong.map(({ phone }) => phone);
  await sql`
    update cap_counters c
    set marks = case
      when t.more > 0 then array(
        select mark from unnest(c.marks || array_fill(${minute}::int, array[t.more])) as mark where mark >= ${oldest}::int order by mark)
      else c.marks[:array_position(c.marks, ${minute}::int) - 1] || c.marks[array_position(c.marks, ${minute}::int) - t.more:] end
    from unnest(${numbers}::bigint[], ${wrong.map(({ taken, granted }) => granted - taken)}::int[]) as t(phone, more)
    where c.account_id = ${accountId} and c.scope = ${scope} and c.subject_id = ${subjectId}
      and c.phone = any(${numbers}::bigint[]) and c.phone = t.phone`;
}

// ── periods ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
// Asia/Shanghai is whole hours away from UTC, so minutes and hours begin together; only days do not. A period has a beginning and no end:
// messages counted by another node whose clock is ahead count too.

const minuteOf = (at: Date): number => Math.floor(at.getTime() / 60_000);
const shanghaiOffset = 8 * 60;

/**
 * The first minute that counts. A message counts in its own minute, hour or day of Asia/Shanghai; for `24h`, in its hour and the 24 hours
 * after it, so that no number gets more than its cap within any 24 hours.
 */
function beginningOf(period: CapPeriod, at: Date): number {
  const minute = minuteOf(at);
  const hour = minute - (minute % 60);
  return {
    minute,
    hour,
    day: minute - ((minute + shanghaiOffset) % 1440),
    '24h': hour - 1440,
  }[period];
}

// ── forgetting ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A position in the order of the counters' key. */
export interface CounterKey {
  readonly accountId: bigint;
  readonly scope: number;
  readonly subjectId: bigint;
  readonly phone: bigint;
}

const beforeAll: CounterKey = { accountId: -1n, scope: 0, subjectId: 0n, phone: 0n };

/**
 * Looks at the next `limit` counters after this position (null: from the first), over all accounts, and deletes those that no cap of any
 * period counts any more. Returns the position to continue from, or null at the end. Skips rows that are in use.
 */
export async function purgeCounters(sql: Sql, after: CounterKey | null, limit: number, at: Date): Promise<CounterKey | null> {
  const key = sql`(account_id, scope, subject_id, phone)`;
  const placeOf = ({ accountId, scope, subjectId, phone }: CounterKey) =>
    sql`(${accountId}::bigint, ${scope}::smallint, ${subjectId}::bigint, ${phone}::bigint)`;
  const first = placeOf(after ?? beforeAll);
  const [last] = await sql<CounterKey[]>`
    select account_id as "accountId", scope, subject_id as "subjectId", phone from cap_counters
    where ${key} > ${first} order by account_id, scope, subject_id, phone offset ${limit - 1} limit 1`;
  const isOld = sql`${key} > ${first} ${last ? sql`and ${key} <= ${placeOf(last)}` : sql``} and ${beginningOf('24h', at)}::int > all(marks)`;
  const accounts = await sql<{ accountId: bigint }[]>`
    select distinct account_id as "accountId" from cap_counters where ${isOld} order by 1`;
  for (const { accountId } of accounts)
    await sql`
      with old as materialized (
        select scope, subject_id, phone from cap_counters where account_id = ${accountId} and ${isOld} for update skip locked)
      delete from cap_counters c using old
      where c.account_id = ${accountId} and c.scope = old.scope and c.subject_id = old.subject_id and c.phone = old.phone`;
  return last ?? null;
}
