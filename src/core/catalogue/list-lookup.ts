/**
 * Which numbers are on a blocklist. Only the database has the numbers, so a look-up is a query: one for many numbers, never one for each.
 */
import type { Sql } from '../../db/db.ts';

/** Those of these numbers that are on this list. */
export type OnList = (listId: bigint, phones: readonly bigint[]) => Promise<ReadonlySet<bigint>>;

/** Queries at once: for use in a transaction, or for thousands of numbers. */
export const listLookup =
  (sql: Sql): OnList =>
  async (listId, phones) => {
    const rows = await sql<{ phone: bigint }[]>`
      select phone from blocked_numbers where list_id = ${listId} and phone = any(${phones}::bigint[])`;
    return new Set(rows.map(({ phone }) => phone));
  };

/** A look-up of more numbers has its own query. */
const few = 100;

interface Question {
  readonly listId: bigint;
  readonly phones: readonly bigint[];
  resolve(found: ReadonlySet<bigint>): void;
  reject(error: unknown): void;
}

/**
 * For very many look-ups of few numbers. Look-ups that come in one turn, or during a running query, share a query. So a lone look-up does
 * not wait, and a thousand a second need some dozens of queries.
 */
export function createGatheringLookup(sql: Sql): OnList {
  const askAlone = listLookup(sql);
  let waiting: Question[] = [];
  let isAsking = false;

  async function askTogether(questions: readonly Question[]): Promise<void> {
    const [first] = questions;
    if (questions.length === 1 && first) return first.resolve(await askAlone(first.listId, first.phones));
    const lists = questions.flatMap(({ listId, phones }) => phones.map(() => listId));
    const rows = await sql<{ listId: bigint; phone: bigint }[]>`
      select b.list_id as "listId", b.phone
      from unnest(${lists}::bigint[], ${questions.flatMap(({ phones }) => phones)}::bigint[]) as asked(list_id, phone),
           lateral (select list_id, phone from blocked_numbers where list_id = asked.list_id and phone = asked.phone) as b`;
    const found = new Map<bigint, Set<bigint>>(questions.map(({ listId }) => [listId, new Set()]));
    for (const { listId, phone } of rows) found.get(listId)?.add(phone);
    for (const { listId, phones, resolve } of questions) {
      const listed = found.get(listId);
      resolve(new Set(phones.filter((phone) => listed?.has(phone))));
    }
  }

  async function askOn(): Promise<void> {
    while (waiting.length > 0) {
      const questions = waiting;
      waiting = [];
      await askTogether(questions).catch((error: unknown) => {
        for (const { reject } of questions) reject(error);
      });
    }
    isAsking = false;
  }

  return (listId, phones) => {
    if (phones.length > few) return askAlone(listId, phones);
    return new Promise((resolve, reject) => {
      waiting.push({ listId, phones, resolve, reject });
      if (isAsking) return;
      isAsking = true;
      setImmediate(() => void askOn());
    });
  };
}
