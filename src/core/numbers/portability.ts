/**
 * Numbers that were ported from the carrier of their range to another. The only writer of `ported_numbers`.
 *
 * An imported entry names the number's carrier. A learned entry comes from a carrier that said, of a message, that the number is not its
 * own. It does not say which carrier has the number, so it excludes carriers until only one has not refused. These statements also stand
 * beside an import, since files grow old. If all carriers have refused the number, one of them must be wrong, and only the last statement
 * counts. docs/numbers.md says which codes mean that, and how it changes routing.
 *
 * Numbers are looked up in the database, with one query for a batch, and only while there is any entry at all (`hasPortedNumbers`).
 */
import type { Db, Sql } from '../../db/db.ts';
import { groupBy } from '../../std/group.ts';
import { type Directory, raiseVersion } from '../config/directory.ts';
import { readRows, withSpool } from '../config/imports.ts';
import { afterId, Denial, found, type Page, type PageRequest, pageOf } from '../config/management.ts';
import { type Carrier, type MainlandCarrier, mainlandCarriers } from '../model/configuration.ts';
import { type Phone, readCarrier } from './number-plan.ts';
import { mainlandNumbers, parseNumber } from '../model/numbers.ts';

export interface PortedNumber {
  readonly phone: bigint;
  /** As imported; null if not imported. */
  readonly carrier: MainlandCarrier | null;
  /** Carriers that said that the number is not theirs. */
  readonly notCarriers: readonly MainlandCarrier[];
  readonly source: 'import' | 'learned';
  readonly changedAt: Date;
}

// ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The same numbers; ported ones have the carriers that they may be with now. */
export async function withPorted(
  sql: Sql,
  directory: Pick<Directory, 'hasPortedNumbers'>,
  phones: readonly (Phone | null)[],
): Promise<readonly (Phone | null)[]> {
  if (!directory.hasPortedNumbers()) return phones;
  const asked = phones.flatMap((phone) => (phone ? [phone.e164] : []));
  const rows = await sql<Pick<PortedNumber, 'phone' | 'carrier' | 'notCarriers'>[]>`
    select phone, carrier, not_carriers as "notCarriers" from ported_numbers where phone = any(${asked}::bigint[])`;
  if (rows.length === 0) return phones;
  const ported = new Map(rows.map((row) => [row.phone, row]));
  return phones.map((phone) => {
    const entry = phone && ported.get(phone.e164);
    return entry ? { ...phone, carriers: carriersOf(entry, phone.carriers) } : phone;
  });
}

/** The carriers that a number may be with, given the carriers of its range. Never empty. */
function carriersOf(
  { carrier, notCarriers }: Pick<PortedNumber, 'carrier' | 'notCarriers'>,
  ofRange: readonly Carrier[],
): readonly Carrier[] {
  const left = (carriers: readonly Carrier[]) => carriers.filter((one) => !notCarriers.some((refused) => refused === one));
  const imported = left(carrier ? [carrier] : []);
  if (imported.length > 0) return imported;
  const own = left(ofRange);
  return own.length > 0 ? own : left(mainlandCarriers);
}

/** What is known of a number; null if nothing is. */
export async function findPorted(sql: Sql, phone: bigint): Promise<PortedNumber | null> {
  const [row] = await sql<PortedNumber[]>`select ${columns(sql)} from ported_numbers where phone = ${phone}`;
  return row ?? null;
}

/** Entries in the order of their numbers; only those of `source`, or of `phone`, if given. */
export async function listPorted(
  sql: Sql,
  { source, phone }: { readonly source: PortedNumber['source'] | null; readonly phone: bigint | null },
  page: PageRequest,
): Promise<Page<PortedNumber>> {
  const rows = await sql<PortedNumber[]>`
    select ${columns(sql)} from ported_numbers
    where phone > ${afterId(page)} and (${source}::text is null or source = ${source}) and (${phone}::bigint is null or phone = ${phone})
    order by phone limit ${page.limit + 1}`;
  return pageOf(rows, page, (row) => [row.phone]);
}

const columns = (sql: Sql) => sql`phone, carrier, not_carriers as "notCarriers", source, changed_at as "changedAt"`;

// ── importing ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface PortedImport {
  readonly rows: number;
  /** New entries, and other entries that the import changed. */
  readonly added: number;
  readonly changed: number;
}

/**
 * Stores a file (`number,carrier`, one a line), all or nothing, in addition to earlier files or instead of them. What was learned about its
 * numbers is forgotten. If a number comes twice, the last line counts.
 */
export async function importPorted(
  db: Db,
  chunks: AsyncIterable<Uint8Array>,
  { replace, at }: { readonly replace: boolean; readonly at: Date },
): Promise<PortedImport> {
  return withSpool({ from: mainlandNumbers.from * 8n, to: mainlandNumbers.to * 8n }, async (spool) => {
    const taker = {
      add: ([number = '', carrier = '', ...others]: readonly string[]) => {
        if (others.length > 0) throw new Denial('invalid', `${others.length + 2} fields instead of number,carrier`);
        const phone = parseNumber(number);
        if (phone === null || !isMainland(phone))
          throw new Denial('invalid', `${JSON.stringify(number)} is no mobile number of the mainland`);
        spool.add(phone * 8n + BigInt(mainlandCarriers.indexOf(readCarrier(carrier))));
      },
      flush: spool.flush,
    };
    const { rows } = await readRows(chunks, { columns: 'number,carrier', skipInvalid: false }, taker);
    return db.transaction(
      async (sql) => {
        if (replace) await sql`delete from ported_numbers where source = 'import'`;
        let [added, changed] = [0, 0];
        for await (const batch of spool.batches()) {
          const last = [...new Map(batch.map((packed) => [packed / 8n, mainlandCarriers[Number(packed % 8n)] ?? '']))];
          const [row] = await sql<[{ added: bigint; changed: bigint }]>`
            with written as (
              insert into ported_numbers as p (phone, carrier, source, changed_at)
              select phone, carrier, 'import', ${at}
              from unnest(${last.map(([phone]) => phone)}::bigint[], ${last.map(([, carrier]) => carrier)}::text[]) as t(phone, carrier)
              order by phone
              on conflict (phone) do update
              set carrier = excluded.carrier, not_carriers = '{}', source = 'import', changed_at = excluded.changed_at
              where p.carrier is distinct from excluded.carrier or p.not_carriers <> '{}'
              returning xmax = 0 as added)
            select count(*) filter (where added) as added, count(*) filter (where not added) as changed from written`;
          added += Number(row.added);
          changed += Number(row.changed);
        }
        await raiseVersion(sql); // Last, since every change of the configuration waits for its row.
        return { rows, added, changed };
      },
      { findOut: true },
    );
  });
}

/** Forgets numbers; returns how many there were. */
export async function removePorted(sql: Sql, phones: readonly bigint[]): Promise<number> {
  const removed = await sql`delete from ported_numbers where phone = any(${phones}::bigint[]) returning 1`;
  await raiseVersion(sql);
  return removed.length;
}

/** Forgets all that was learned, or all that was imported; returns how many there were. */
export async function clearPorted(sql: Sql, source: PortedNumber['source']): Promise<number> {
  const [row] = await sql<[{ n: bigint }]>`
    with gone as (delete from ported_numbers where source = ${source} returning 1) select count(*) as n from gone`;
  await raiseVersion(sql);
  return Number(row.n);
}

// ── learning ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a channel's carrier answered or reported about a message. */
interface Heard {
  readonly channelId: bigint | null;
  /** As the carrier wrote it, or as we have it. */
  readonly phone: bigint | string;
  readonly code: string | null;
}

/**
 * If more than this many and more than half of one channel's codes in one call say it, the cause is not the numbers: the channel is set up
 * wrongly.
 */
const mostAtOnce = 10;

/**
 * Learns from codes with which carriers say that a number is not their own, in the transaction that records them. Only channels of a single
 * carrier count: for other channels it is not known which carrier answered.
 */
export async function learnPorted(
  sql: Sql,
  directory: Pick<Directory, 'channel' | 'settings' | 'hasPortedNumbers'>,
  heard: readonly Heard[],
  at: Date,
): Promise<void> {
  const { foreignNumberCodes } = directory.settings();
  if (!heard.some(({ code }) => code !== null && foreignNumberCodes.includes(code))) return;
  const learned: { phone: bigint; carrier: Carrier }[] = [];
  for (const [channelId, own] of groupBy(heard, ({ channelId }) => channelId)) {
    const carriers = channelId === null ? [] : (directory.channel(channelId)?.carriers ?? []);
    const refused = own.filter(({ code }) => code !== null && foreignNumberCodes.includes(code));
    const [carrier] = carriers;
    if (!carrier || carriers.length > 1 || carrier === 'international') continue;
    if (refused.length > mostAtOnce && refused.length * 2 > own.length) continue;
    for (const { phone } of refused) {
      const e164 = typeof phone === 'string' ? parseNumber(phone) : phone;
      if (e164 !== null && isMainland(e164)) learned.push({ phone: e164, carrier });
    }
  }
  // Each statement has a number once, because two carriers may refuse it at once. The 4 is the number of carriers. It is not a parameter,
  // since a sharded database cannot infer a parameter's type in ON CONFLICT here.
  mainlandCarriers.length satisfies 4;
  for (const one of groupBy(learned, ({ carrier }) => carrier).values()) {
    const carrier = found(one[0], 'carrier').carrier;
    const phones = [...new Set(one.map(({ phone }) => phone))];
    await sql`
      insert into ported_numbers as p (phone, not_carriers, source, changed_at)
      select phone, array[${carrier}::text], 'learned', ${at} from unnest(${phones}::bigint[]) as phone
      order by phone
      on conflict (phone) do update
      set not_carriers = case when cardinality(p.not_carriers) + 1 < 4 then p.not_carriers || excluded.not_carriers
                              else excluded.not_carriers end,
          changed_at = excluded.changed_at
      where not p.not_carriers @> excluded.not_carriers`;
  }
  if (learned.length > 0 && !directory.hasPortedNumbers()) await raiseVersion(sql);
}

const isMainland = (phone: bigint): boolean => phone >= mainlandNumbers.from && phone < mainlandNumbers.to;
