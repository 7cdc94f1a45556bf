import http from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Platform, startAimPlatform } from '../../../test/kit/aim-platform.ts';
import { testLog } from '../../../test/kit/logs.ts';
import { ensureBlocklist } from '../../core/catalogue/blocklists.ts';
import { changeChannel } from '../../core/catalogue/channels.ts';
import { change } from '../../core/config/management.ts';
import { createToken } from '../../core/config/tokens.ts';
import { type App, createApp } from '../../app.ts';
import { until } from '../../../test/kit/processes.ts';

/** Just enough of a type to look into answers; what they hold is what the tests are about. */
interface Body {
  readonly [key: string]: unknown;
  readonly id: number;
  readonly data: readonly Body[];
  readonly error: { readonly code: string; readonly message: string };
}

let platform: Platform;
const tokens = { operator: '', demo: '' };
let list: number;

beforeAll(async () => {
  platform = await startAimPlatform();
  const { sql } = platform.app.management.db;
  tokens.operator = await createToken(sql, { name: 'operator', caller: { role: 'operator' } });
  tokens.demo = await createToken(sql, { name: 'demo', caller: { role: 'account', accountId: 1n } });
  list = Number(await change(platform.app.management, (within) => ensureBlocklist(within, 'product', 3001n)));
});
afterEach(async () => {
  await call('DELETE', '/number-table');
  for (const source of ['import', 'learned']) await call('POST', '/ported-numbers/clear', JSON.stringify({ source }), 'application/json');
});
afterAll(() => platform.stop());

async function call(method: string, path: string, body?: string | Uint8Array<ArrayBuffer>, type = 'text/csv', token = tokens.operator) {
  const { status, text } = await platform.call(`/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body !== undefined && { 'content-type': type }) },
    ...(body !== undefined && { body }),
  });
  return { status, body: JSON.parse(text) as Body };
}

const onList = async (phone: string) => (await call('GET', `/blocklists/${list}/numbers?phone=${phone}`)).body.data.length === 1;

describe('one number', () => {
  test('tells whose it is, where it is, whether it was ported, and which lists it is on', async () => {
    await call('POST', '/ported-numbers/import', '13800138000,telecom');
    await call('POST', `/blocklists/${list}/import`, '13800138000');
    expect(await call('GET', '/numbers/+86-138-0013-8000')).toMatchObject({
      status: 200,
      body: {
        number: '13800138000',
        carriers: ['telecom'],
        province: '北京',
        city: '北京',
        ported: { carrier: 'telecom', notCarriers: [], source: 'import' },
        lists: [{ id: list, kind: 'product', subjectId: 3001, accountId: null, source: 'operator' }],
      },
    });
    expect((await call('GET', '/numbers/13802500000')).body).toMatchObject({ carriers: ['mobile'], city: '广州', ported: null, lists: [] });
    expect((await call('GET', '/numbers/16000000000')).body).toMatchObject({ carriers: [], province: null });
    expect(await call('GET', '/numbers/12345')).toMatchObject({ status: 400, body: { error: { code: 'invalid' } } });
    expect((await call('GET', '/numbers/13800138000', undefined, '', tokens.demo)).status).toBe(403);
  });

  test('a preview shows it of each recipient', async () => {
    const wouldBe = { subscriptionId: 500001, numbers: ['13802500000', '12345'], content: '【鸿雁】x $url$' };
    const { status, body } = await call('POST', '/screening/preview', JSON.stringify(wouldBe), 'application/json');
    expect(status).toBe(200);
    expect(body['recipients']).toMatchObject([
      { number: '13802500000', carriers: ['mobile'], province: '广东', city: '广州' },
      { number: '12345', carriers: [], province: null, city: null, code: 'WL:CWHM' },
    ]);
  });
});

describe('the table of ranges', () => {
  test('is imported, counts on every node within a second, tells where it is from, and is forgotten', async () => {
    const other: App = await createApp({
      databaseUrl: platform.databaseUrl,
      secretKeys: platform.secretKeys,
      linkBase: platform.linkBase,
      roles: ['api'],
      host: '127.0.0.1',
      port: 0,
      server: {},
      metrics: null,
      pushAllow: [],
      log: testLog(),
    });
    const there = async (): Promise<unknown> => {
      const response = await fetch(`http://127.0.0.1:${other.port}/v1/numbers/19912340000`, {
        headers: { authorization: `Bearer ${tokens.operator}` },
      });
      return ((await response.json()) as Body)['city'];
    };
    try {
      expect(await there()).toBeNull();
      const imported = await call('POST', '/number-table/import?origin=test', 'prefix,carrier,province,city\n1991234,电信,广东,深圳\n');
      expect(imported).toMatchObject({
        status: 200,
        body: { bundled: { beginnings: 321_117 }, imported: { origin: 'test', rows: 1, replaces: false } },
      });
      expect((await call('GET', '/number-table')).body).toEqual(imported.body);
      expect((await call('GET', '/numbers/19912340000')).body).toMatchObject({ carriers: ['telecom'], province: '广东', city: '深圳' });
      await until('the other node knows it', async () => (await there()) === '深圳', 5000);
      expect((await call('DELETE', '/number-table')).body['imported']).toBeNull();
      await until('the other node has forgotten it', async () => (await there()) === null, 5000);
    } finally {
      await other.stop();
    }
  });

  test('a broken file is refused with its line, and nothing has changed', async () => {
    await call('POST', '/number-table/import', '1991234,,广东,深圳');
    const broken = await call('POST', '/number-table/import?mode=replace', '1991235,,广东,佛山\n1991236,,广冬,佛山\n');
    expect(broken).toMatchObject({ status: 422, body: { error: { code: 'invalid' } } });
    expect(broken.body.error.message).toMatch(/^line 2: "广冬" is no province: 北京, /);
    expect((await call('GET', '/numbers/19912340000')).body['city']).toBe('深圳');
    expect((await call('GET', '/numbers/19912350000')).body['city']).toBeNull();
  });

  test('a channel for provinces carries their numbers and no others, and names provinces only', async () => {
    const { management } = platform.app;
    await change(management, (sql) => changeChannel(sql, management, 1n, { provinces: ['广东', '内蒙古'] }));
    const submit = async (mobiles: string[]) =>
      (await platform.aim('send-aim', { mobiles: JSON.stringify(mobiles), content: '【鸿雁】券 $url$', template_id: '101' })).json;
    expect(await submit(['13802500000', '15804710000', '13910000000', '19900000000'])).toMatchObject({
      code: 0,
      failed_data: { '13910000000': 'WL:CDQC', '19900000000': 'WL:CDQC' },
    });
    await call('POST', '/number-table/import', '199,,广东,');
    expect(await submit(['19900000000'])).toMatchObject({ code: 0, failed_data: [] });
    const wrong = await call('PATCH', '/channels/1', JSON.stringify({ provinces: ['广东', '广东省'] }), 'application/json');
    expect(wrong.status).toBe(400);
    expect(wrong.body.error.message).toMatch(/^provinces\[1\]: must be one of 北京, 天津/);
    await change(management, (sql) => changeChannel(sql, management, 1n, { provinces: null }));
  });
});

describe('files of numbers', () => {
  test('are put onto a list, counted, and read whatever forms the numbers have', async () => {
    const text = '\ufeffnumber\r\n13700000001\r\n+86 137-0000-0002\r\n\r\n8613700000001\r\n"+14155550100"';
    expect(await call('POST', `/blocklists/${list}/import`, text)).toEqual({
      status: 200,
      body: { rows: 4, added: 3, present: 1, skipped: 0, problems: [] },
    });
    expect((await call('POST', `/blocklists/${list}/import`, text, 'text/plain; charset=utf-8')).body).toMatchObject({
      added: 0,
      present: 4,
    });
    expect(await onList('13700000002')).toBe(true);
  });

  test('a line that is no number refuses the file, or is passed over where that is wanted', async () => {
    const text = `${Array.from({ length: 30_000 }, (_, i) => 13710000000 + i).join('\n')}\n010-12345678\n13720000000\n`;
    const refused = await call('POST', `/blocklists/${list}/import`, text);
    expect(refused).toEqual({
      status: 422,
      body: { error: { code: 'invalid', message: 'line 30001: "010-12345678" is no valid number' } },
    });
    expect(await onList('13710000000')).toBe(false);
    expect(await call('POST', `/blocklists/${list}/import?invalid=skip`, text)).toEqual({
      status: 200,
      body: { rows: 30_001, added: 30_001, present: 0, skipped: 1, problems: ['line 30001: "010-12345678" is no valid number'] },
    });
    expect([await onList('13710029999'), await onList('13720000000')]).toEqual([true, true]);
  });

  test('a sender that goes away in the middle has changed nothing, and does not stand in the way of the next', async () => {
    const probe = async () => (await call('POST', `/blocklists/${list}/import`, 'none')).status;
    let slow: http.ClientRequest;
    let wasRefused: boolean;
    do {
      // A probe may be quicker, and the slow one then refused.
      wasRefused = false;
      slow = http.request({
        host: '127.0.0.1',
        port: platform.port,
        method: 'POST',
        path: `/v1/blocklists/${list}/import`,
        headers: { authorization: `Bearer ${tokens.operator}`, 'content-type': 'text/plain', 'content-length': 1_000_000 },
      });
      slow.on('error', () => {}).on('response', () => (wasRefused = true));
      slow.write('13730000001\n'.repeat(5000));
      await until('it is being read', async () => wasRefused || (await probe()) === 409, 10_000);
    } while (wasRefused);
    slow.destroy();
    await until(
      'another can be read',
      async () => (await call('POST', `/blocklists/${list}/import`, '13730000003')).status === 200,
      10_000,
    );
    expect([await onList('13730000001'), await onList('13730000003')]).toEqual([false, true]);
  });

  test('what is too long, of another kind, for a list that is none, or from an account is refused', async () => {
    const long = new Uint8Array(97 << 20).fill(0x20);
    for (let at = 0; at < long.length; at += 200) long.set([0x0a], at);
    expect(await call('POST', `/blocklists/${list}/import`, long)).toMatchObject({ status: 413 });
    expect(await call('POST', `/blocklists/${list}/import`, '["13700000009"]', 'application/json')).toMatchObject({
      status: 415,
      body: { error: { message: 'the body must be text/csv or text/plain' } },
    });
    expect(await call('POST', `/blocklists/${list}/import`)).toMatchObject({ status: 400, body: { error: { message: 'body: required' } } });
    expect((await call('POST', '/blocklists/999999/import', '13700000009')).status).toBe(404);
    expect((await call('POST', `/blocklists/${list}/import`, '13700000009', 'text/plain', tokens.demo)).status).toBe(403);
    expect((await call('POST', `/blocklists/${list}/import?invalid=maybe`, '13700000009')).status).toBe(400);
    expect(await onList('13700000009')).toBe(false);
  });
});

describe('ported numbers', () => {
  test('are imported, listed, forgotten one by one or all at once', async () => {
    expect(await call('POST', '/ported-numbers/import', 'number,carrier\n13800000101,联通\n13800000102,telecom')).toEqual({
      status: 200,
      body: { rows: 2, added: 2, changed: 0 },
    });
    expect((await call('GET', '/ported-numbers?source=import&limit=1')).body).toMatchObject({
      data: [{ phone: '13800000101', carrier: 'unicom', notCarriers: [], source: 'import' }],
      next: expect.any(String),
    });
    const forget = JSON.stringify({ numbers: ['+8613800000101', '13800000109'] });
    expect((await call('DELETE', '/ported-numbers', forget, 'application/json')).body).toEqual({ removed: 1 });
    expect((await call('GET', '/ported-numbers?phone=13800000102')).body.data).toHaveLength(1);
    expect((await call('POST', '/ported-numbers/import?mode=replace', '13800000103,mobile')).body).toEqual({
      rows: 1,
      added: 1,
      changed: 0,
    });
    expect((await call('GET', '/ported-numbers')).body.data.map((one) => one['phone'])).toEqual(['13800000103']);
    const clear = JSON.stringify({ source: 'import' });
    expect((await call('POST', '/ported-numbers/clear', clear, 'application/json')).body).toEqual({ removed: 1 });
    expect((await call('GET', '/ported-numbers')).body.data).toEqual([]);
  });
});
