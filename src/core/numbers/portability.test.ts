import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { startManagement, type TestManagement } from '../../../test/kit/management.ts';
import { createChannel } from '../catalogue/channels.ts';
import { change } from '../config/management.ts';
import type { Carrier } from '../model/configuration.ts';
import { createNumberPlan, type NumberPlan } from './number-plan.ts';
import { clearPorted, findPorted, importPorted, learnPorted, listPorted, removePorted, withPorted } from './portability.ts';

let office: TestManagement;
let plan: NumberPlan;
const at = new Date();
const page = { limit: 100, cursor: null };
const channels: Readonly<Record<string, bigint>> = { mobile: 1n, unicom: 2n, telecom: 3n, broadcast: 4n, many: 5n, international: 6n };

beforeAll(async () => {
  office = await startManagement();
  plan = createNumberPlan({ ...office, onFailure: expect.fail });
  await plan.start();
  await change(office, async (sql) => {
    const settings = { host: 'h', port: 1, spId: '123456', serviceId: 'x', ratePerSecond: 1 };
    for (const [name, id] of Object.entries(channels)) {
      const carriers: Carrier[] = name === 'many' ? ['mobile', 'unicom'] : [name as Carrier];
      await createChannel(sql, office, { id, name, protocol: 'cmpp', carriers, accessNumber: '1', secret: 's', settings });
    }
  });
});
beforeEach(async () => {
  await change(office, (sql) => clearPorted(sql, 'import'));
  await change(office, (sql) => clearPorted(sql, 'learned'));
});
afterAll(async () => {
  await plan.stop();
  await office.stop();
});

async function put(text: string, replace = false) {
  async function* pieces() {
    yield Buffer.from(text);
  }
  const report = await importPorted(office.db, pieces(), { replace, at });
  await office.directory.refresh();
  return report;
}

async function carriersOf(...numbers: string[]): Promise<(string | undefined)[]> {
  const phones = await withPorted(
    office.db.sql,
    office.directory,
    numbers.map((number) => plan.read(number)),
  );
  return phones.map((phone) => phone?.carriers.join());
}

async function hear(channel: string, ...heard: [string, string][]): Promise<void> {
  const reports = heard.map(([number, code]) => ({ channelId: channels[channel] ?? 0n, phone: BigInt(`86${number}`), code }));
  await office.db.transaction((sql) => learnPorted(sql, office.directory, reports, at));
  await office.directory.refresh();
}

const a = '13800138000';
const b = '13800138001';

test('a ported number is with the carrier it was ported to, and stays where it was', async () => {
  expect(office.directory.hasPortedNumbers()).toBe(false);
  expect(await put(`number,carrier\n${a},telecom\n+86${b},中国联通\n`)).toEqual({ rows: 2, added: 2, changed: 0 });
  expect(office.directory.hasPortedNumbers()).toBe(true);
  expect(await carriersOf(a, b, '13800138002', 'nothing')).toEqual(['telecom', 'unicom', 'mobile', undefined]);
  const [phone] = await withPorted(office.db.sql, office.directory, [plan.read(a)]);
  expect(phone).toMatchObject({ province: '北京', city: '北京' });
  expect(await change(office, (sql) => removePorted(sql, [BigInt(`86${a}`)]))).toBe(1);
  expect(await carriersOf(a, b)).toEqual(['mobile', 'unicom']);
});

test('a file adds to what earlier ones said, or replaces it; the last line of a number counts; what was learned of others stays', async () => {
  await put(`${a},telecom\n${b},telecom\n`);
  await hear('mobile', ['13800138005', 'ER:0009']);
  expect(await put(`${a},telecom\n${b},mobile\n13800138002,telecom\n${b},unicom\n`)).toEqual({ rows: 4, added: 1, changed: 1 });
  expect(await carriersOf(a, b, '13800138002')).toEqual(['telecom', 'unicom', 'telecom']);
  expect(await put(`${b},telecom`, true)).toEqual({ rows: 1, added: 1, changed: 0 });
  expect(await carriersOf(a, b, '13800138002', '13800138005')).toEqual(['mobile', 'telecom', 'mobile', 'unicom,telecom,broadcast']);
  expect((await listPorted(office.db.sql, { source: 'learned', phone: null }, page)).data).toHaveLength(1);
});

test.each([
  [`${a},telecom\n${b}`, 'line 2: "" is no carrier: mobile, unicom, telecom, broadcast'],
  [`${a},telecom\n\n+14155550100,telecom`, 'line 3: "+14155550100" is no mobile number of the mainland'],
  [`${a},international`, 'line 1: "international" is no carrier'],
  [`${a},telecom,x`, 'line 1: 3 fields instead of number,carrier'],
])('a file with %j changes nothing: %s', async (text, message) => {
  await put(`${b},unicom`);
  await expect(put(text, true)).rejects.toThrow(message);
  expect(await carriersOf(a, b)).toEqual(['mobile', 'unicom']);
});

test('a carrier that says a number is not its own is not asked again, until all have said so', async () => {
  await hear('mobile', [a, 'ER:0009'], [b, 'MK:0001']);
  expect(await carriersOf(a, b)).toEqual(['unicom,telecom,broadcast', 'mobile']);
  await hear('unicom', [a, 'ER:0009']);
  await hear('unicom', [a, 'ER:0009']);
  expect(await carriersOf(a)).toEqual(['telecom,broadcast']);
  await hear('broadcast', [a, 'ER:0009']);
  expect(await carriersOf(a)).toEqual(['telecom']);
  await hear('telecom', [a, 'ER:0009']);
  expect(await carriersOf(a)).toEqual(['mobile']);
});

test('what a carrier says counts before an older import, and a newer import before what it said', async () => {
  await put(`${a},unicom`);
  await hear('unicom', [a, 'ER:0009']);
  expect(await carriersOf(a)).toEqual(['mobile']);
  expect(await findPorted(office.db.sql, BigInt(`86${a}`))).toMatchObject({ carrier: 'unicom', notCarriers: ['unicom'], source: 'import' });
  await put(`${a},unicom`);
  expect(await carriersOf(a)).toEqual(['unicom']);
});

test('nothing is learned from a channel of several carriers, of numbers abroad, nor from a channel that refuses everything', async () => {
  await hear('many', [a, 'ER:0009']);
  await hear('international', [a, 'ER:0009']);
  await office.db.transaction((sql) => learnPorted(sql, office.directory, [{ channelId: 1n, phone: '+14155550100', code: 'ER:0009' }], at));
  const numbers = Array.from({ length: 11 }, (_, i) => `139000000${10 + i}`);
  await hear('mobile', ...numbers.map((number): [string, string] => [number, 'ER:0009']));
  expect((await listPorted(office.db.sql, { source: null, phone: null }, page)).data).toEqual([]);
  await hear(
    'mobile',
    ...numbers.map((number): [string, string] => [number, 'ER:0009']),
    ...numbers.map((number): [string, string] => [number.replace('139', '138'), 'DELIVRD']),
  );
  expect((await listPorted(office.db.sql, { source: null, phone: null }, page)).data).toHaveLength(11);
});

test('two carriers at once, and the same number twice, are one entry', async () => {
  const heard = [1n, 2n, 1n].map((channelId) => ({ channelId, phone: a, code: 'ER:0009' }));
  await office.db.transaction((sql) => learnPorted(sql, office.directory, heard, at));
  expect(await findPorted(office.db.sql, BigInt(`86${a}`))).toMatchObject({
    carrier: null,
    notCarriers: ['mobile', 'unicom'],
    source: 'learned',
  });
});
