/**
 * Delivery reports: from a carrier's report about its own id to the end of our message. Reports that match nothing are orphans. They are
 * stored, tried again every second for five minutes and then every hour, and shown to the operator. They are kept as long as messages are:
 * after that nothing is left that they could match. A read reply is stored with its message if there is one, and changes nothing. The only
 * writer of `orphan_reports`.
 */
import { type Db, forEachOwner, type Sql } from '../../db/db.ts';
import { groupBy, groupInOrder } from '../../std/group.ts';
import { addDays, dayBegins, shanghaiDay } from '../../std/shanghai.ts';
import type { Directory } from '../config/directory.ts';
import { applyReports, keepReadings, resolve, type Sent } from './messages.ts';
import { learnPorted } from '../numbers/portability.ts';

/** A report as a channel passes it on. */
export interface Report {
  readonly channelId: bigint;
  readonly carrierId: string;
  /** `DELIVRD` when delivered, else the carrier's code. */
  readonly code: string;
  readonly delivered: boolean;
  readonly phone: string;
  /** The message, if memory knows it; otherwise the database is asked. */
  readonly sent: Sent | null;
}

export interface Reports {
  /** Applies reports and stores those that match nothing as orphans. After the return all are safe and may be acknowledged. */
  receive(reports: readonly Report[]): Promise<{ orphaned: number }>;
  /** Stores reports that messages were read (`code`: the carrier's word) for their timelines. Those that match nothing are dropped. */
  noteReadings(readings: readonly Report[]): Promise<void>;
  /** Tries orphans that are due, at most `limit`; returns how many it looked at. */
  retryOrphans(limit: number): Promise<number>;
}

const eagerMs = 5 * 60_000;
const retryMs = { eager: 1000, patient: 3600_000 };

export function createReports({ db, directory, clock }: { db: Db; directory: Directory; clock: () => Date }): Reports {
  type Known = Report & { sent: Sent };

  /** Looks up the messages that memory does not know, one query per channel. */
  async function locate(sql: Sql, reports: readonly Report[], at: Date): Promise<{ known: Known[]; unknown: Report[] }> {
    const known = reports.filter((report): report is Known => report.sent !== null);
    const unknown: Report[] = [];
    const asked = known.length === reports.length ? [] : reports.filter(({ sent }) => sent === null);
    for (const [channelId, own] of groupBy(asked, ({ channelId }) => channelId)) {
      const found = await resolve(sql, channelId, [...new Set(own.map(({ carrierId }) => carrierId))], shanghaiDay(at));
      for (const report of own) {
        const sent = found.get(report.carrierId);
        if (sent) known.push({ ...report, sent });
        else unknown.push(report);
      }
    }
    return { known, unknown };
  }

  /** One transaction per account; returns the reports whose message has no row. */
  async function apply(known: readonly Known[], at: Date, within?: Sql): Promise<Report[]> {
    const missing: Report[] = [];
    for (const [accountId, own] of groupInOrder(known, ({ sent }) => sent.accountId)) {
      const work = async (sql: Sql): Promise<Report[]> => {
        const unmatched = await applyReports(sql, directory, accountId, own, at);
        await learnPorted(sql, directory, own, at);
        return unmatched;
      };
      missing.push(...(within ? await work(within) : await db.transaction(work)));
    }
    return missing;
  }

  async function store(orphans: readonly Report[], at: Date): Promise<void> {
    if (orphans.length === 0) return;
    await db.sql`
      insert into orphan_reports (channel_id, carrier_id, code, delivered, phone, received_at, next_try_at)
      select t.*, ${at}::timestamptz, ${new Date(at.getTime() + retryMs.eager)}::timestamptz
      from unnest(${orphans.map((r) => r.channelId)}::bigint[], ${orphans.map((r) => r.carrierId)}::text[], ${orphans.map((r) => r.code)}::text[],
                  ${orphans.map((r) => r.delivered)}::boolean[], ${orphans.map((r) => r.phone)}::text[]) as t
      on conflict do nothing`;
  }

  return {
    async receive(reports) {
      const at = clock();
      const { known, unknown } = await locate(db.sql, reports, at);
      const orphans = [...unknown, ...(await apply(known, at))];
      await store(orphans, at);
      return { orphaned: orphans.length };
    },

    async noteReadings(readings) {
      const at = clock();
      const { known } = await locate(db.sql, readings, at);
      await keepReadings(db.sql, known, at);
    },

    retryOrphans: (limit) =>
      db.transaction(async (sql) => {
        const at = clock();
        const waiting = await sql<{ channelId: bigint; carrierId: string }[]>`
          select channel_id as "channelId", carrier_id as "carrierId" from orphan_reports
          where next_try_at <= ${at} order by next_try_at limit ${limit}`;
        const due = await forEachOwner(
          waiting,
          (row) => row.channelId,
          (channelId, own) => sql<(Report & { receivedAt: Date })[]>`
            select channel_id as "channelId", carrier_id as "carrierId", code, delivered, phone, received_at as "receivedAt", null as sent
            from orphan_reports
            where channel_id = ${channelId} and carrier_id = any(${own.map(({ carrierId }) => carrierId)}::text[]) and next_try_at <= ${at}
            for update skip locked`,
        );
        if (due.length === 0) return 0;
        const { known, unknown } = await locate(sql, due, at);
        const left = new Set([...unknown, ...(await apply(known, at, sql))].map(keyOf));
        const keptSince = dayBegins(addDays(shanghaiDay(at), -directory.settings().retentionDays));
        const isStill = (report: (typeof due)[number]): boolean => left.has(keyOf(report)) && report.receivedAt >= keptSince;
        const still = due.filter(isStill);
        const settled = due.filter((report) => !isStill(report));
        await Promise.all([
          sql`
            delete from orphan_reports o
            using unnest(${settled.map((r) => r.channelId)}::bigint[], ${settled.map((r) => r.carrierId)}::text[], ${settled.map((r) => r.code)}::text[])
              as t(channel_id, carrier_id, code)
            where o.channel_id = t.channel_id and o.carrier_id = t.carrier_id and o.code = t.code`,
          sql`
            update orphan_reports o set next_try_at = t.next_try_at
            from unnest(${still.map((r) => r.channelId)}::bigint[], ${still.map((r) => r.carrierId)}::text[], ${still.map((r) => r.code)}::text[],
                        ${still.map((r) => nextTry(r.receivedAt, at))}::timestamptz[]) as t(channel_id, carrier_id, code, next_try_at)
            where o.channel_id = t.channel_id and o.carrier_id = t.carrier_id and o.code = t.code`,
        ]);
        return due.length;
      }),
  };
}

const keyOf = ({ channelId, carrierId, code }: Report): string => `${channelId}/${carrierId}/${code}`;

function nextTry(receivedAt: Date, at: Date): Date {
  return new Date(at.getTime() + (at.getTime() - receivedAt.getTime() < eagerMs ? retryMs.eager : retryMs.patient));
}
