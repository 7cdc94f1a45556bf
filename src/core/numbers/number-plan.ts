/**
 * The carrier and the place of a number by its range: carrier, province and city by the first seven digits. The only writer of
 * `number_tables`.
 *
 * There are three layers: the carriers' ranges, written by hand below; the bundled table of places (assets/number-places.txt); and the
 * operator's imports, on top of them or, on request, instead of the places. All of it is in memory in two arrays with an entry for each of
 * the 700,000 beginnings of seven digits from 1300000 on, so a look-up costs the same however many ranges there are. An import is flattened
 * into two such arrays and stored as one row, which each node loads when the directory sees another version.
 *
 * Ported numbers are not here: see portability.ts. docs/numbers.md says where the data comes from.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import type { Db, Sql } from '../../db/db.ts';
import { packageRoot } from '../../std/package-root.ts';
import { type Directory, raiseVersion } from '../config/directory.ts';
import { createFollower, type Follower } from '../config/follower.ts';
import { readRows } from '../config/imports.ts';
import { Denial, nextConfigId } from '../config/management.ts';
import { type Carrier, type MainlandCarrier, mainlandCarriers, type Province, provinces } from '../model/configuration.ts';
import { parseNumber } from '../model/numbers.ts';

export interface Phone {
  /** E.164 digits, e.g. 8613800000000n. */
  readonly e164: bigint;
  /** The carrier; or, when it is not known, all carriers the number may have been ported to. */
  readonly carriers: readonly Carrier[];
  /** Null if not known. */
  readonly province: Province | null;
  readonly city: string | null;
}

// ── the carriers' ranges ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** First three digits, by the Ministry's public allocation; virtual operators' ranges are listed under their host carrier. */
const ranges: readonly (readonly [MainlandCarrier, string])[] = [
  ['mobile', '134 135 136 137 138 139 147 148 150 151 152 157 158 159 165 172 178 182 183 184 187 188 195 197 198'],
  ['unicom', '130 131 132 145 146 155 156 166 167 171 175 176 185 186 196'],
  ['telecom', '133 149 153 162 173 174 177 180 181 189 190 191 193 199'],
  ['broadcast', '192'],
];
/** Ranges of four digits that differ from their three digits, or whose three digits are not listed. */
const exceptions: readonly (readonly [MainlandCarrier, string])[] = [
  ['telecom', '1349 1700 1701 1702'],
  ['mobile', '1703 1705 1706'],
  ['unicom', '1704 1707 1708 1709'],
];

// ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Place {
  readonly province: Province;
  readonly city: string | null;
}

/** Indexed by the first seven digits, from 1300000 on. 0 always means "not said". */
interface Table {
  /** 1 + index in `mainlandCarriers`. */
  readonly carriers: Uint8Array;
  /** 1 + index in `known`. */
  readonly places: Uint16Array;
  readonly known: Place[];
}

const first = 1_300_000;
const size = 700_000;
const mostPlaces = 65_535;

const emptyTable = (): Table => ({ carriers: new Uint8Array(size), places: new Uint16Array(size), known: [] });

/** The seven-digit beginnings that a prefix of three to seven digits covers. */
function span(prefix: number): [from: number, to: number] {
  let scale = 1;
  while (prefix * scale < first) scale *= 10;
  return [prefix * scale - first, (prefix + 1) * scale - first];
}

function rangeCarriers(): Uint8Array {
  const carriers = new Uint8Array(size);
  for (const [carrier, prefixes] of [...ranges, ...exceptions])
    for (const prefix of prefixes.split(' ')) carriers.fill(1 + mainlandCarriers.indexOf(carrier), ...span(Number(prefix)));
  return carriers;
}

/** The origin of the bundled table. */
export interface Bundled {
  readonly origin: string;
  /** How many beginnings of seven digits have a place in it. */
  readonly beginnings: number;
}

/** Reads the bundled table; `tools/make-number-places.ts` writes it and describes its format. */
function readBundled(): { table: Table; bundled: Bundled } {
  const text = readFileSync(path.join(packageRoot(), 'assets/number-places.txt'), 'utf8');
  const [head = '', body = ''] = text.split('\n\n');
  const table = { ...emptyTable(), carriers: rangeCarriers() };
  const codes = new Map<string, number>([['-', 0]]);
  let origin = '';
  for (const line of head.split('\n')) {
    if (line.startsWith('#')) origin = line.slice(2);
    else {
      const [code = '', province = '', city = ''] = line.split(' ');
      codes.set(code, table.known.push({ province: province as Province, city }));
    }
  }
  let beginnings = 0;
  for (const line of body.split('\n')) {
    let at = Number(line.slice(0, 5)) * 100 - first;
    for (const run of line.slice(6).split(' ')) {
      const star = run.indexOf('*');
      const place = codes.get(star < 0 ? run : run.slice(0, star)) ?? 0;
      const end = at + (star < 0 ? 1 : Number(run.slice(star + 1)));
      if (place > 0) {
        table.places.fill(place, at, end);
        beginnings += end - at;
      }
      at = end;
    }
  }
  return { table, bundled: { origin, beginnings } };
}

/** Overwrites `table` with everything that `upper` says. */
function cover(table: Table, upper: Table): void {
  const places = new Uint16Array(upper.known.length + 1);
  const known = new Map(table.known.map((place, index) => [keyOf(place), index + 1]));
  upper.known.forEach((place, index) => {
    const key = keyOf(place);
    const code = known.get(key) ?? table.known.push(place);
    known.set(key, code);
    places[index + 1] = code;
  });
  if (table.known.length > mostPlaces) throw new Denial('invalid', `at most ${mostPlaces} different places`);
  for (let at = 0; at < size; at++) {
    const carrier = upper.carriers[at];
    const place = upper.places[at];
    if (carrier) table.carriers[at] = carrier;
    if (place) table.places[at] = places[place] ?? 0;
  }
}

const keyOf = ({ province, city }: Place): string => `${province} ${city ?? ''}`;

// ── what an operator imports ─────────────────────────────────────────────────────────────────────────────────────────────────────

export interface ImportedTable {
  readonly origin: string;
  readonly importedAt: Date;
  /** Rows of the last file. */
  readonly rows: number;
  /** The bundled places are no longer used. */
  readonly replaces: boolean;
}

/** `prefix,carrier,province,city`, the optional header of a file. */
const rangeColumns = 'prefix,carrier,province,city';

/** The names that files use for carriers, ours and theirs. */
const carrierNames: ReadonlyMap<string, MainlandCarrier> = new Map([
  ...mainlandCarriers.map((carrier) => [carrier, carrier] as const),
  ...(['移动', '中国移动'] as const).map((name) => [name, 'mobile'] as const),
  ...(['联通', '中国联通'] as const).map((name) => [name, 'unicom'] as const),
  ...(['电信', '中国电信'] as const).map((name) => [name, 'telecom'] as const),
  ...(['广电', '中国广电'] as const).map((name) => [name, 'broadcast'] as const),
]);

/** A carrier as a file names it. */
export function readCarrier(name: string): MainlandCarrier {
  const carrier = carrierNames.get(name);
  if (!carrier) throw new Denial('invalid', `${JSON.stringify(name)} is no carrier: ${mainlandCarriers.join(', ')}`);
  return carrier;
}

const provinceNames = new Map<string, Province>(provinces.flatMap((name) => [name, `${name}省`, `${name}市`].map((form) => [form, name])));
for (const [form, name] of [
  ['内蒙古自治区', '内蒙古'],
  ['广西壮族自治区', '广西'],
  ['西藏自治区', '西藏'],
  ['宁夏回族自治区', '宁夏'],
  ['新疆维吾尔自治区', '新疆'],
] as const)
  provinceNames.set(form, name);

const cityCharacters = 30;

interface RangeFile {
  /** Adds the fields of one row; a denial says what is wrong with it. */
  add(fields: readonly string[]): void;
  readonly rows: number;
  /** The file's content as a table; the longest prefix of a number counts. */
  flatten(): Table;
}

/** Collects the rows of a file. An empty field says nothing: the layer below stays in force. */
function createRangeFile(): RangeFile {
  /** By prefix, whose size shows its length: 1 + index in `said`. */
  const rows = new Uint32Array(2_000_000);
  const said: { readonly carrier: number; readonly place: number }[] = [];
  const codes = new Map<string, number>();
  const known: Place[] = [];
  const placeCodes = new Map<string, number>();
  let count = 0;

  function placeOf(province: string, city: string): number {
    if (province === '') {
      if (city !== '') throw new Denial('invalid', 'a city without its province');
      return 0;
    }
    const name = provinceNames.get(province);
    if (!name) throw new Denial('invalid', `${JSON.stringify(province)} is no province: ${provinces.join(', ')}`);
    if (city.length > cityCharacters || /\p{C}/u.test(city)) throw new Denial('invalid', `${JSON.stringify(city)} is no city`);
    const place = { province: name, city: city === '' ? null : city.replace(/(?<=..)市$/, '') };
    const key = keyOf(place);
    const code = placeCodes.get(key) ?? known.push(place);
    if (code > mostPlaces) throw new Denial('invalid', `at most ${mostPlaces} different places`);
    placeCodes.set(key, code);
    return code;
  }

  return {
    add(fields) {
      const [prefix = '', carrier = '', province = '', city = ''] = fields;
      if (fields.length < 2 || fields.length > 4) throw new Denial('invalid', `${fields.length} fields instead of ${rangeColumns}`);
      if (!/^1[3-9]\d{1,5}$/.test(prefix))
        throw new Denial('invalid', `${JSON.stringify(prefix)} is no prefix: 3 to 7 digits from 13… to 19…`);
      if (rows[Number(prefix)] !== 0) throw new Denial('invalid', `${prefix} comes twice`);
      if (carrier === '' && province === '') throw new Denial('invalid', 'neither carrier nor province');
      const key = `${carrier},${province},${city}`;
      let code = codes.get(key);
      if (code === undefined) {
        const place = placeOf(province, city);
        code = said.push({ carrier: carrier === '' ? 0 : 1 + mainlandCarriers.indexOf(readCarrier(carrier)), place });
        codes.set(key, code);
      }
      rows[Number(prefix)] = code;
      count++;
    },
    get rows() {
      return count;
    },
    flatten() {
      const table = { ...emptyTable(), known };
      // Shorter prefixes are smaller numbers, so longer ones come later and stay.
      for (let prefix = 130; prefix < rows.length; prefix++) {
        const row = said[(rows[prefix] ?? 0) - 1];
        if (!row) continue;
        if (row.carrier > 0) table.carriers.fill(row.carrier, ...span(prefix));
        if (row.place > 0) table.places.fill(row.place, ...span(prefix));
      }
      return table;
    },
  };
}

const compress = promisify(gzip);
const decompress = promisify(gunzip);

async function seal({ carriers, places, known }: Table): Promise<Buffer> {
  const bytes = Buffer.alloc(3 * size);
  bytes.set(carriers);
  for (let at = 0; at < size; at++) bytes.writeUInt16LE(places[at] ?? 0, size + 2 * at);
  return compress(Buffer.concat([bytes, Buffer.from(JSON.stringify(known))]));
}

async function unseal(sealed: Uint8Array): Promise<Table> {
  const bytes = await decompress(sealed);
  const table = { ...emptyTable(), known: JSON.parse(bytes.toString('utf8', 3 * size)) as Place[] };
  table.carriers.set(bytes.subarray(0, size));
  for (let at = 0; at < size; at++) table.places[at] = bytes.readUInt16LE(size + 2 * at);
  return table;
}

/** Reads a file of `prefix,carrier,province,city`, one a line. */
export async function readRanges(chunks: AsyncIterable<Uint8Array>): Promise<RangeFile> {
  const file = createRangeFile();
  await readRows(chunks, { columns: rangeColumns, skipInvalid: false }, file);
  if (file.rows === 0) throw new Denial('invalid', 'no row');
  return file;
}

/**
 * Puts a file in force: on top of earlier files, or instead of them and of the bundled places. Its rows override earlier ones, even where
 * its prefixes are shorter.
 */
export async function importRanges(
  sql: Sql,
  file: RangeFile,
  { replace, origin, at }: { readonly replace: boolean; readonly origin: string; readonly at: Date },
): Promise<void> {
  await raiseVersion(sql);
  const [before] = replace
    ? []
    : await sql<{ replaces: boolean; content: Uint8Array }[]>`select replaces, content from number_tables where id = 1`;
  const table = before ? await unseal(before.content) : emptyTable();
  cover(table, file.flatten());
  const version = await nextConfigId(sql);
  await sql`
    insert into number_tables (id, version, replaces, origin, imported_at, rows, content)
    values (1, ${version}, ${replace || (before?.replaces ?? false)}, ${origin}, ${at}, ${file.rows}, ${await seal(table)})
    on conflict (id) do update set version = excluded.version, replaces = excluded.replaces, origin = excluded.origin,
      imported_at = excluded.imported_at, rows = excluded.rows, content = excluded.content`;
}

/** Goes back to the bundled table; returns whether there was an import. */
export async function dropImportedRanges(sql: Sql): Promise<boolean> {
  await raiseVersion(sql);
  return (await sql`delete from number_tables where id = 1 returning 1`).length > 0;
}

export async function importedTable(sql: Sql): Promise<ImportedTable | null> {
  const [row] = await sql<ImportedTable[]>`
    select origin, imported_at as "importedAt", rows, replaces from number_tables where id = 1`;
  return row ?? null;
}

// ── in force ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface NumberPlan extends Follower {
  /** Reads a number as customers write it; null if it is not a number, or in no carrier's range. */
  read(written: string): Phone | null;
  /** The same for a number that was read before. */
  of(e164: bigint): Phone | null;
  readonly bundled: Bundled;
}

export interface NumberPlanDeps {
  readonly db: Db;
  readonly directory: Pick<Directory, 'numberTable' | 'onChange'>;
  /** Called when an imported table could not be loaded: the old one stays in force, and loading is retried. */
  onFailure(error: unknown): void;
}

/** One object for all numbers of a carrier. */
const alone = mainlandCarriers.map((carrier): readonly Carrier[] => [carrier]);
const abroad: readonly Carrier[] = ['international'];

export function createNumberPlan({ db, directory, onFailure }: NumberPlanDeps): NumberPlan {
  const { table: bundledTable, bundled } = readBundled();
  let table = bundledTable;
  let version = 0n;

  async function load(): Promise<void> {
    const [row] = await db.sql<{ version: bigint; replaces: boolean; content: Uint8Array }[]>`
      select version, replaces, content from number_tables where id = 1`;
    const next: Table = row
      ? {
          carriers: Uint8Array.from(bundledTable.carriers),
          places: row.replaces ? new Uint16Array(size) : Uint16Array.from(bundledTable.places),
          known: [...bundledTable.known],
        }
      : bundledTable;
    if (row) cover(next, await unseal(row.content));
    table = next;
    version = row?.version ?? 0n;
  }

  const follower = createFollower({
    isCurrent: () => version === directory.numberTable(),
    load,
    onChange: directory.onChange,
    onFailure,
  });

  function of(e164: bigint): Phone | null {
    const beginning = Math.floor(Number(e164) / 10_000) - 860_000_000;
    if (beginning < 0 || beginning >= 10_000_000) return { e164, carriers: abroad, province: null, city: null };
    const at = beginning - first;
    const carriers = alone[(table.carriers[at] ?? 0) - 1];
    if (!carriers) return null;
    const place = table.known[(table.places[at] ?? 0) - 1];
    return { e164, carriers, province: place?.province ?? null, city: place?.city ?? null };
  }

  return {
    ...follower,
    read(written) {
      const e164 = parseNumber(written);
      return e164 === null ? null : of(e164);
    },
    of,
    bundled,
  };
}
