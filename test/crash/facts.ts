/** Gathers the facts for the audit: the journals of the carriers and of the customers' server, and the rows of the platform. */
import fs from 'node:fs';
import { batchIdOf, batchOf, messageInBatch } from '../../src/core/model/ids.ts';
import type { Db } from '../../src/db/db.ts';
import { parsePushedReplies, parseReports } from '../kit/customers.ts';
import { readJournal } from '../../simulators/journal.ts';
import type { EventRow, MessageRow, PhoneFacts, Push, Rows } from './judge.ts';

/** As customers write it; carriers know it with or without the country. */
const usual = (phone: string): string => phone.replace(/^\+?86(?=1\d{10}$)/, '');

/** What phones got and what people wrote, from a carrier's journal. */
export function readPhones(file: string): PhoneFacts {
  const whole = new Map<string, number>();
  const parts = new Map<string, Map<number, number>>();
  const totals = new Map<string, number>();
  const replies = new Map<string, number>();
  const owed = new Set<string>();
  const count = (counts: Map<string, number>, key: string): void => void counts.set(key, (counts.get(key) ?? 0) + 1);
  for (const line of readJournal(file)) {
    if ('took' in line) {
      const { part } = line.took;
      const to = usual(line.took.to);
      if (!part) count(whole, to);
      else {
        const own = parts.get(to) ?? new Map<number, number>();
        parts.set(to, own.set(part.number, (own.get(part.number) ?? 0) + 1));
        totals.set(to, part.total);
      }
    } else if ('owes' in line) {
      owed.add(line.owes);
      const { kind, phone } = line.what;
      if (kind === 'reply' && typeof phone === 'string') count(replies, usual(phone));
    } else owed.delete(line.settled);
  }
  for (const [to, own] of parts) if (own.size === totals.get(to)) whole.set(to, (whole.get(to) ?? 0) + Math.max(...own.values()));
  return { copies: whole, replies, owed: owed.size };
}

/** What the customers' server got, by path. */
export function readPushes(file: string): Map<string, Push[]> {
  const pushes = new Map<string, Push[]>();
  const lines = fs.existsSync(file) ? fs.readFileSync(file, 'utf8').split('\n').slice(0, -1) : [];
  for (const line of lines) {
    if (!line.startsWith('{') || !line.endsWith('}')) continue;
    const { path, body } = JSON.parse(line) as { path: string; body: string };
    const own = pushes.get(path) ?? [];
    own.push(pushOf(path, body));
    pushes.set(path, own);
  }
  return pushes;
}

function pushOf(path: string, body: string): Push {
  if (body.startsWith('{')) {
    const said = JSON.parse(body) as Readonly<Record<string, string>>;
    const { task_id: msgId = '', phone: mobile = '', code: status = '', content = '' } = said;
    if ('report_time' in said) return { reports: [{ msgId, mobile, status, price: null }], replies: [] };
    return { reports: [], replies: [{ mobile, content }] };
  }
  return path.endsWith('/reply') ? { reports: [], replies: parsePushedReplies(body) } : { reports: parseReports(body), replies: [] };
}

/** The rows of one account. */
export async function readRows(db: Db, accountId: number): Promise<Rows> {
  const { sql } = db;
  const account = BigInt(accountId);
  const [messages, events, replied, waiting, failed] = await Promise.all([
    sql<{ batch: bigint; phone: bigint; status: number; code: string | null; cost: bigint | null }[]>`
      select ${batchOf(sql, sql`id`)} as batch, phone, status::int, code, cost_e4 as cost from messages where account_id = ${account}`,
    sql<{ id: bigint; kind: number; phone: bigint; handedAt: Date; pushId: bigint | null }[]>`
      select e.id, e.kind::int, coalesce(m.phone, r.phone) as phone, e.handed_at as "handedAt", e.push_id as "pushId"
      from (
        select ${messageInBatch(sql, batchOf(sql, sql`id`), sql`unnest(indexes)`)} as id, kind, handed_at, push_id
        from handovers where account_id = ${account}) e
      left join messages m on e.kind = 1 and m.account_id = ${account} and m.id = e.id
      left join replies r on e.kind = 2 and r.account_id = ${account} and r.id = e.id`,
    sql<{ id: bigint; batch: bigint | null }[]>`select id, batch_id as batch from replies where account_id = ${account}`,
    sql<{ n: number }[]>`select coalesce(sum(cardinality(indexes)), 0)::int as n from parcels where account_id = ${account}`,
    sql<{ n: number }[]>`select count(*)::int as n from pushes where account_id = ${account} and state = 'failed'`,
  ]);
  const repliedTo = new Map(replied.map(({ id, batch }) => [id, batch]));
  return {
    messages: messages.map(
      ({ batch, phone, status, code, cost }): MessageRow => ({
        taskId: String(batch),
        mobile: usual(String(phone)),
        isFinal: status >= 10,
        code: code ?? '',
        costE4: cost ?? 0n,
      }),
    ),
    events: events.map(
      ({ id, kind, phone, handedAt, pushId }): EventRow => ({
        kind: kind === 1 ? 'report' : 'reply',
        taskId: kind === 1 ? String(batchIdOf(id)) : (repliedTo.get(id)?.toString() ?? null),
        mobile: usual(String(phone)),
        handedAt: handedAt.getTime(),
        isPushed: pushId !== null,
      }),
    ),
    waiting: waiting[0]?.n ?? 0,
    failedPushes: failed[0]?.n ?? 0,
  };
}

/** What is still on its way through the platform. */
export async function readUnsettled(db: Db) {
  const [row] = await db.sql<{ queued: number; open: number; waiting: number; asleep: number }[]>`
    select (select count(*)::int from dispatch_queue) as queued,
           (select count(*)::int from messages where status = 1 and phone % 10000 <> 7) as open,
           (select coalesce(sum(cardinality(indexes)), 0)::int from parcels where route < 2) as waiting,
           (select coalesce(sum(cardinality(indexes)), 0)::int from parcels where route >= 2) as asleep`;
  if (!row) throw new Error('a query without an answer');
  return row;
}

/** Events whose pushes have failed for good, as task and number. */
export async function readFailed(db: Db): Promise<ReadonlySet<string>> {
  const rows = await db.sql<{ batch: bigint; phone: bigint }[]>`
    select ${batchOf(db.sql, db.sql`m.id`)} as batch, m.phone from parcels p join messages m on m.account_id = p.account_id and m.id = p.id
    where p.route = 3 and p.kind = 1`;
  return new Set(rows.map(({ batch, phone }) => `${batch}/${usual(String(phone))}`));
}

/** Stored reports that match a message which still waits for one. */
export async function readForgottenReports(db: Db): Promise<number> {
  const [row] = await db.sql<{ n: number }[]>`
    select count(*)::int as n from orphan_reports o
    where exists (select 1 from messages m where m.channel_id = o.channel_id and m.carrier_id = o.carrier_id and m.status = 1)`;
  return row?.n ?? 0;
}
