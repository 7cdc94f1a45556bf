import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startManagement, type TestManagement } from '../../../test/kit/management.ts';
import { change } from '../config/management.ts';
import { mainlandCarriers, provinces } from '../model/configuration.ts';
import { createNumberPlan, dropImportedRanges, importedTable, importRanges, type NumberPlan, readRanges } from './number-plan.ts';

let office: TestManagement;
let plan: NumberPlan;
const at = new Date('2026-11-22T03:00:00Z');

beforeAll(async () => {
  office = await startManagement();
  plan = createNumberPlan({ ...office, onFailure: expect.fail });
  await plan.start();
});
afterAll(async () => {
  await plan.stop();
  await office.stop();
});

async function* pieces(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

async function put(text: string, replace = false): Promise<void> {
  const file = await readRanges(pieces(text));
  await change(office, (sql) => importRanges(sql, file, { replace, origin: 'test', at }));
  await plan.refresh();
}

async function forget(): Promise<void> {
  await change(office, dropImportedRanges);
  await plan.refresh();
}

const placeOf = (number: string) => {
  const phone = plan.read(number);
  return phone && [phone.carriers.join(), phone.province, phone.city];
};

describe('what is bundled', () => {
  it.each([
    ['13800138000', 'mobile', '北京', '北京'],
    ['13802500000', 'mobile', '广东', '广州'],
    ['13000000000', 'unicom', '山东', '济南'],
    ['13388880000', 'telecom', '云南', '丽江'],
    ['15804710000', 'mobile', '内蒙古', '呼和浩特'],
    ['17777770000', 'telecom', '北京', '北京'],
    ['13490000000', 'telecom', '北京', '北京'],
    ['19900000000', 'telecom', null, null],
    ['19200000000', 'broadcast', null, null],
    ['+14155550100', 'international', null, null],
  ])('%s is with %s in %s %s', (number, ...place) => {
    expect(placeOf(number)).toEqual(place);
  });

  it.each([
    ['162', 'telecom'],
    ['165', 'mobile'],
    ['167', 'unicom'],
    ['171', 'unicom'],
    ['1700', 'telecom'],
    ['1701', 'telecom'],
    ['1702', 'telecom'],
    ['1703', 'mobile'],
    ['1704', 'unicom'],
    ['1705', 'mobile'],
    ['1706', 'mobile'],
    ['1707', 'unicom'],
    ['1708', 'unicom'],
    ['1709', 'unicom'],
  ])('the virtual operators of %s send through %s', (range, carrier) => {
    expect(plan.read(range.padEnd(11, '0'))?.carriers).toEqual([carrier]);
  });

  it('a number of no carrier’s range is none', () => {
    expect(['16000000000', '19400000000', '14000000000', '12000000000', '85212345678'].map((number) => plan.read(number))).toEqual(
      new Array(5).fill(null),
    );
  });

  it('every place is in a province that channels can name', () => {
    const found = new Set<string>();
    for (let beginning = 1_300_000; beginning < 2_000_000; beginning += 7) {
      const province = plan.read(`${beginning}0000`)?.province;
      if (province) found.add(province);
    }
    expect([...found].sort()).toEqual([...provinces].sort());
    expect(plan.bundled.beginnings).toBe(321_117);
  });
});

describe('what an operator imports', () => {
  it('says more of numbers, or something else, on every node; an empty field says nothing; forgotten, all is as before', async () => {
    await put('prefix,carrier,province,city\r\n199,,广东省,广州市\r\n\r\n1990001,,广西壮族自治区,\n"194","广电","",""\n1380013,联通,,\n');
    expect(placeOf('19900000000')).toEqual(['telecom', '广东', '广州']);
    expect(placeOf('19900010000')).toEqual(['telecom', '广西', null]);
    expect(placeOf('19400000000')).toEqual(['broadcast', null, null]);
    expect(placeOf('13800138000')).toEqual(['unicom', '北京', '北京']);
    expect(await importedTable(office.db.sql)).toEqual({ origin: 'test', importedAt: at, rows: 4, replaces: false });

    const other = createNumberPlan({ ...office, onFailure: expect.fail });
    await other.start();
    expect(other.read('19900010000')).toEqual(plan.read('19900010000'));
    await other.stop();

    await forget();
    expect(placeOf('19900000000')).toEqual(['telecom', null, null]);
    expect(placeOf('19400000000')).toBeNull();
    expect(placeOf('13800138000')).toEqual(['mobile', '北京', '北京']);
    expect(await importedTable(office.db.sql)).toBeNull();
  });

  it('extends what was imported before, or replaces it and the bundled places, but never the carriers’ ranges', async () => {
    await put('1990001,,广东,深圳');
    await put('1990002,,广东,佛山');
    expect([placeOf('19900010000'), placeOf('19900020000')]).toEqual([
      ['telecom', '广东', '深圳'],
      ['telecom', '广东', '佛山'],
    ]);
    await put('1990003,,广东,东莞', true);
    expect(placeOf('19900010000')).toEqual(['telecom', null, null]);
    expect(placeOf('19900030000')).toEqual(['telecom', '广东', '东莞']);
    expect(placeOf('13800138000')).toEqual(['mobile', null, null]);
    await put('1990001,,广东,中山');
    expect([placeOf('19900010000'), placeOf('13800138000')]).toEqual([
      ['telecom', '广东', '中山'],
      ['mobile', null, null],
    ]);
    await forget();
  });

  it('of each number the longest prefix of a file counts, field by field', async () => {
    const prefix = fc.integer({ min: 3, max: 7 }).chain((length) => fc.stringMatching(new RegExp(`^19[89][01]{${length - 3}}$`)));
    const row = fc.record({
      carrier: fc.constantFrom('', ...mainlandCarriers),
      province: fc.constantFrom('', '广东', '西藏'),
    });
    const file = fc.dictionary(prefix, row, { minKeys: 1, maxKeys: 20 });
    await fc.assert(
      fc.asyncProperty(file, fc.array(fc.stringMatching(/^19[89][01]{4}$/), { minLength: 20, maxLength: 20 }), async (rows, beginnings) => {
        const said = Object.entries(rows).filter(([, { carrier, province }]) => carrier || province);
        if (said.length === 0) return;
        await put(said.map(([prefix, { carrier, province }]) => `${prefix},${carrier},${province},`).join('\n'), true);
        const longest = (beginning: string, field: 'carrier' | 'province') =>
          said.filter(([prefix, row]) => beginning.startsWith(prefix) && row[field] !== '').sort(([a], [b]) => b.length - a.length)[0]?.[1][
            field
          ];
        for (const beginning of beginnings) {
          const usual = beginning.startsWith('198') ? 'mobile' : 'telecom';
          expect(placeOf(`${beginning}0000`)).toEqual([
            longest(beginning, 'carrier') ?? usual,
            longest(beginning, 'province') ?? null,
            null,
          ]);
        }
      }),
      { numRuns: 25 },
    );
    await forget();
  });

  it.each([
    ['13800,mobile,广东,广州\n\nabc,mobile,,', 'line 3: "abc" is no prefix: 3 to 7 digits from 13… to 19…'],
    ['prefix,carrier,province,city\n138,mobile\n139,cmcc', 'line 3: "cmcc" is no carrier: mobile, unicom, telecom, broadcast'],
    ['138,mobile,广州,', 'line 1: "广州" is no province: 北京, 天津'],
    ['138,mobile,,广州', 'line 1: a city without its province'],
    ['138,mobile\n139,mobile\n138,unicom', 'line 3: 138 comes twice'],
    ['138,,,', 'line 1: neither carrier nor province'],
    ['138', 'line 1: 1 fields instead of prefix,carrier,province,city'],
    ['138,mobile,广东,广州,天河', 'line 1: 5 fields'],
    [`138,mobile,广东,${'州'.repeat(31)}`, 'is no city'],
    [`138,mobile\n${'9'.repeat(201)}`, 'line 2: more than 200 characters'],
    ['', 'no row'],
  ])('%j is refused: %s', async (text, message) => {
    await expect(readRanges(pieces(text))).rejects.toThrow(message);
  });
});
