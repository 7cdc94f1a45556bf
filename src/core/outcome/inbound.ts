/**
 * Replies: stores what carriers deliver, joins the segments of long replies, finds the subscription, handles opt-out words before anything
 * else, and makes the customer's event. The only writer of `inbound_parts` and `replies`.
 *
 * The digits after the channel's access number decide: a reply belongs to the subscription with the longest extension that they begin with.
 * Without a match it goes to the operator's unassigned list (account 0), never to a guessed tenant.
 */
import type { Db, Sql } from '../../db/db.ts';
import { type Encoding, joinParts } from '../../protocols/text.ts';
import { groupBy } from '../../std/group.ts';
import { addDays, shanghaiDay } from '../../std/shanghai.ts';
import { optOut } from '../catalogue/blocklists.ts';
import type { Directory, Tenancy } from '../config/directory.ts';
import type { Channel } from '../model/configuration.ts';
import { batchOf } from '../model/ids.ts';
import { parseNumber } from '../model/numbers.ts';
import { insertReply } from '../events/owed.ts';

/** One delivery of a carrier: a whole message or one segment of it. */
export interface InboundPart {
  readonly channelId: bigint;
  readonly carrierId: string;
  readonly from: string;
  readonly to: string;
  readonly concat: { readonly reference: number; readonly total: number; readonly number: number } | null;
  readonly encoding: Encoding;
  readonly octets: Buffer;
}

/** A carrier that has missed our acknowledgement redelivers within hours; after this time a segment is not needed to detect that. */
const redeliveredWithinDays = 7;

/** Deletes segments that have become replies, at most `limit`; returns how many. */
export async function purgeInboundParts(sql: Sql, at: Date, limit: number): Promise<number> {
  const before = new Date(at.getTime() - redeliveredWithinDays * 86_400_000);
  const old = await sql<{ channelId: bigint; carrierId: string }[]>`
    select channel_id as "channelId", carrier_id as "carrierId" from inbound_parts
    where joined and received_at < ${before} order by received_at limit ${limit}`;
  for (const [channelId, own] of groupBy(old, (part) => part.channelId))
    await sql`delete from inbound_parts where channel_id = ${channelId} and carrier_id = any(${own.map(({ carrierId }) => carrierId)}::text[])`;
  return old.length;
}

/** Deletes replies from before this time that have no event left on any of these days, at most `limit`; returns how many. */
export async function purgeReplies(sql: Sql, before: Date, days: readonly string[], limit: number): Promise<number> {
  const old = await sql<{ accountId: bigint; id: bigint }[]>`
    select account_id as "accountId", id from replies
    where received_at < ${before}
      and (account_id = 0 or (received_at at time zone 'Asia/Shanghai')::date <> all(${days}::date[]))
    order by received_at limit ${limit}`;
  for (const [accountId, own] of groupBy(old, (reply) => reply.accountId))
    await sql`delete from replies where account_id = ${accountId} and id = any(${own.map(({ id }) => id)}::bigint[])`;
  return old.length;
}

export interface Inbound {
  /** Stores a delivery and any reply that it completes. After the return it may be acknowledged; a redelivery changes nothing. */
  receive(part: InboundPart): Promise<void>;
  /** Makes replies of segments that have waited too long for the others; returns how many replies. */
  giveUpWaiting(): Promise<number>;
}

interface Part {
  readonly number: number;
  readonly encoding: Encoding;
  readonly octets: Buffer;
}

/** How long the segments of a long reply wait for each other. */
const joinWithinMs = 10 * 60_000;
const folded = (text: string): string => text.normalize('NFKC').trim().toUpperCase();

/** Whether the whole text is one of the words: trimmed, full-width letters folded, case ignored. */
const isOptOut = (content: string, words: readonly string[]): boolean => words.some((word) => folded(word) === folded(content));

export function createInbound({ db, directory, clock }: { db: Db; directory: Directory; clock: () => Date }): Inbound {
  async function store(sql: Sql, channel: Channel, from: string, to: string, content: string, at: Date): Promise<void> {
    const phone = parseNumber(from) ?? parseNumber(`+${from}`);
    const afterAccess = to.startsWith(channel.accessNumber) ? to.slice(channel.accessNumber.length) : null;
    const tenancy = afterAccess === null || !phone ? undefined : directory.byExtension(afterAccess);
    const isOut = isOptOut(content, directory.settings().optOutWords);
    const answered = tenancy && phone ? await latestBatch(sql, tenancy, phone, to, at) : null;
    if (tenancy && phone && isOut) await optOut(sql, tenancy.subscription.id, [phone], at);
    const [next] = await sql<{ id: bigint }[]>`select nextval('record_ids') as id`;
    if (!next) throw new Error('the sequence record_ids gave nothing');
    const accountId = tenancy?.account.id ?? 0n;
    await sql`
      insert into replies (account_id, id, subscription_id, channel_id, phone, dest, ext, content, batch_id, opt_out, received_at)
      values (${accountId}, ${next.id}, ${tenancy?.subscription.id ?? null}, ${channel.id}, ${phone ?? 0n}, ${to},
              ${afterAccess ?? to}, ${content}, ${answered}, ${isOut}, ${at})`;
    if (tenancy && phone) await insertReply(sql, directory, { id: next.id, tenancy, day: shanghaiDay(at), at });
  }

  /** The latest batch that reached this phone from the number it wrote to. */
  async function latestBatch(sql: Sql, { account, subscription }: Tenancy, phone: bigint, to: string, at: Date): Promise<bigint | null> {
    const today = shanghaiDay(at);
    const rows = await sql<{ batchId: bigint; channelId: bigint; ext: string }[]>`
      select b.id as "batchId", m.channel_id as "channelId", b.ext
      from (
        select id, channel_id from messages
        where account_id = ${account.id} and phone = ${phone} and subscription_id = ${subscription.id}
          and day between ${addDays(today, -directory.settings().replyWithinDays)} and ${today} and channel_id is not null
        order by id desc limit 50) m
      join batches b on b.account_id = ${account.id} and b.id = ${batchOf(sql, sql`m.id`)}
      order by m.id desc`;
    const match = rows.find(
      ({ channelId, ext }) => (directory.channel(channelId)?.accessNumber ?? '') + subscription.extension + ext === to,
    );
    return match?.batchId ?? null;
  }

  /**
   * The octets of a long reply may be cut anywhere, so they are joined before they are decoded. A segment that came twice counts
   * once. Some phones send NUL, the only character that the database cannot store.
   */
  function join(parts: readonly Part[]): string {
    const byNumber = new Map(parts.map((part) => [part.number, part]));
    return joinParts([...byNumber.values()].sort((a, b) => a.number - b.number)).replaceAll('\0', '');
  }

  return {
    receive: (part) =>
      db.transaction(async (sql) => {
        const at = clock();
        const channel = directory.channel(part.channelId);
        if (!channel) throw new Error(`channel ${part.channelId} is not known`);
        const { concat } = part;
        const fresh = await sql`
          insert into inbound_parts (channel_id, carrier_id, phone, dest, reference, total, number, encoding, octets, received_at, joined)
          values (${part.channelId}, ${part.carrierId}, ${part.from}, ${part.to}, ${concat?.reference ?? null}, ${concat?.total ?? 1},
                  ${concat?.number ?? 1}, ${part.encoding}, ${part.octets}, ${at}, ${concat === null})
          on conflict do nothing returning 1`;
        if (fresh.length === 0) return;
        if (!concat) return store(sql, channel, part.from, part.to, join([{ ...part, number: 1 }]), at);

        // Two segments may arrive on two connections at once. A lock orders them, so that the second one sees the first.
        const key = `${part.channelId}/${part.from}/${part.to}/${concat.reference}`;
        await sql`select pg_advisory_xact_lock(hashtextextended(${key}, 7))`;
        const [arrived] = await sql<{ n: number }[]>`
          select count(distinct number)::int as n from inbound_parts
          where channel_id = ${part.channelId} and phone = ${part.from} and dest = ${part.to} and reference = ${concat.reference}
            and total = ${concat.total} and not joined`;
        if ((arrived?.n ?? 0) < concat.total) return;
        const parts = await sql<Part[]>`
          update inbound_parts set joined = true
          where channel_id = ${part.channelId} and phone = ${part.from} and dest = ${part.to} and reference = ${concat.reference}
            and total = ${concat.total} and not joined
          returning number::int, encoding, octets`;
        await store(sql, channel, part.from, part.to, join(parts), at);
      }),

    giveUpWaiting: () =>
      db.transaction(async (sql) => {
        const at = clock();
        const parts = await sql<(Part & { channelId: bigint; phone: string; dest: string; reference: number; total: number })[]>`
          with old as (
            select distinct channel_id, phone, dest, reference, total from inbound_parts
            where not joined and received_at < ${new Date(at.getTime() - joinWithinMs)} limit 100)
          update inbound_parts p set joined = true from old
          where p.channel_id = old.channel_id and p.phone = old.phone and p.dest = old.dest and p.reference = old.reference
            and p.total = old.total and not p.joined
          returning p.channel_id as "channelId", p.phone, p.dest, p.reference, p.total::int, p.number::int, p.encoding, p.octets`;
        const replies = groupBy(parts, (p) => `${p.channelId}/${p.phone}/${p.dest}/${p.reference}/${p.total}`);
        for (const own of replies.values()) {
          const [first] = own;
          const channel = first && directory.channel(first.channelId);
          if (first && channel) await store(sql, channel, first.phone, first.dest, join(own), at);
        }
        return replies.size;
      }),
  };
}
