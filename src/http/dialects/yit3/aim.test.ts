/** The AIM dialect as a customer's program meets it, against the real application: every code in its order, every form of every field. */
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Answer, demoPasswordHash, type Platform, sign, startAimPlatform } from '../../../../test/kit/aim-platform.ts';
import { aimPush, readRecipients } from './aim.ts';

let platform: Platform;
beforeAll(async () => {
  platform = await startAimPlatform();
});
afterAll(() => platform.stop());

const content = '【鸿雁】您有一张优惠券,点击 $url$ 领取,拒收请回复R';
const valid = { mobiles: '["13800000000"]', content, template_id: '101' };
const send = (form: Record<string, string> = {}, init?: RequestInit) => platform.aim('send-aim', { ...valid, ...form }, init);
const without = (...names: string[]): Record<string, string> =>
  Object.fromEntries(Object.entries(valid).filter(([name]) => !names.includes(name)));

/** Everything that waits to be pulled, so that a test begins with nothing. */
async function drain(endpoint: string): Promise<string[]> {
  const rows: string[] = [];
  for (;;) {
    const { json } = await platform.aim(endpoint);
    if (json.data === '') return rows;
    rows.push(...String(json.data).split('|'));
  }
}
const balance = async (spId = '500001') => (await platform.aim('balance', { sp_id: spId })).text;
/** The figure of a balance's answer. */
const cents = (text: string): number => Math.round(Number(/"balance":"([\d.]+)"/.exec(text)?.[1]) * 100);
const batches = async () => (await platform.app.management.db.sql<{ n: bigint }[]>`select count(*) as n from batches`)[0]?.n;
const from = (address: string): RequestInit => ({ headers: { 'x-forwarded-for': address } });
const msgId = ({ json }: Answer) => BigInt(String(json.msg_id));

describe('authentication', () => {
  it('takes the password or a signature in any of its encodings, by GET and by POST, and signs the method that was used', async () => {
    const encodings = [
      'poqVBQf+uh7Z8aTuyfU6WTargTw=',
      'YTY4YTk1MDUwN2ZlYmExZWQ5ZjFhNGVlYzlmNTNhNTkzNmFiODEzYw==',
      'a68a950507feba1ed9f1a4eec9f53a5936ab813c',
    ];
    for (const signature of encodings) {
      const query = new URLSearchParams({ sp_id: '500001', signature });
      expect((await platform.call(`/api/balance?${query.toString()}`)).json).toMatchObject({ code: 0 });
      expect((await platform.call('/api/balance', { method: 'POST', body: query })).json).toMatchObject({ code: 10100 });
    }
    // A client that forgot to encode the + of base64.
    expect((await platform.call(`/api/balance?sp_id=500001&signature=${encodings[0]}`)).json).toMatchObject({ code: 0 });
    expect((await platform.call(`/api/balance?sp_id=500001&password=${demoPasswordHash.toUpperCase()}`)).json).toMatchObject({ code: 0 });
    expect((await platform.aim('balance', { signature: sign('POST', { sp_id: '500001' }) })).json).toMatchObject({ code: 0 });
  });

  it('a signature covers every parameter as it was received, from query and body', async () => {
    const parameters = { ...valid, sp_id: '500001', ext: '', 'extra *~': "a+b !'()*~\r\n" };
    expect((await send({ ...parameters, signature: sign('POST', parameters) })).json).toMatchObject({ code: 0 });
    expect((await send({ ...parameters, ext: '1', signature: sign('POST', parameters) })).json).toMatchObject({ code: 10100 });
    const body = new URLSearchParams({ ...valid, signature: sign('POST', { ...valid, sp_id: '500001', ext: '7' }) });
    expect((await platform.call('/api/send-aim?sp_id=500001&ext=7', { method: 'POST', body })).json).toMatchObject({ code: 0 });
  });

  it('with both, the signature decides and the password is one more signed parameter', async () => {
    const parameters = { sp_id: '500001', password: 'wrong' };
    expect((await platform.aim('balance', { ...parameters, signature: sign('POST', parameters) })).json).toMatchObject({ code: 0 });
    expect((await platform.aim('balance', { password: demoPasswordHash, signature: 'wrong' })).json).toMatchObject({ code: 10100 });
  });

  it('the body wins over the query, the last of two over the first', async () => {
    const body = `sp_id=1&sp_id=500001&password=${demoPasswordHash}`;
    expect((await platform.call('/api/balance?sp_id=2', { method: 'POST', body })).json).toMatchObject({ code: 0 });
  });

  it.each<[number, string, Record<string, string>, string?]>([
    [10001, 'sp_id', { sp_id: '' }],
    [10001, 'password', { password: '' }],
    [10001, 'sp_id', { sp_id: '599999' }],
    [10001, 'sp_id', { sp_id: 'x'.repeat(100) }],
    [10001, 'sp_id', { sp_id: '500001 ' }],
    [10101, '198.51.100.1', { sp_id: '500005', password: 'wrong' }, '198.51.100.1'],
    [10101, '198.51.100.1', { sp_id: '500005' }, '203.0.113.7, 198.51.100.1'],
    [10102, 'password', { sp_id: '500005', password: 'wrong' }, '203.0.113.7'],
    [10102, 'password', { sp_id: '500003', password: 'wrong' }],
    [10100, '签名', { sp_id: '500003', signature: 'wrong' }],
    [10008, '锁定', { sp_id: '500003' }],
    [10008, '停用', { sp_id: '500006' }],
  ])('answers %i (%s) for %j', async (code, reason, form, from) => {
    const answer = await send({ ...form, mobiles: 'never looked at' }, from ? { headers: { 'x-forwarded-for': from } } : undefined);
    expect(answer.json).toEqual({ code, msg: expect.stringContaining(reason) });
    expect(answer.status).toBe(200);
  });

  it('listed addresses of both kinds are let in', async () => {
    for (const from of ['203.0.113.7', '::ffff:203.0.113.7', '2001:db8::5'])
      expect((await platform.aim('balance', { sp_id: '500005' }, { headers: { 'x-forwarded-for': from } })).json, from).toMatchObject({
        code: 0,
      });
  });

  it('after twenty wrong ones a caller is not listened to for the rest of the minute', async () => {
    for (let i = 0; i < 20; i++)
      expect((await platform.aim('balance', { password: 'wrong' }, from('198.51.100.9'))).json).toMatchObject({ code: 10102 });
    expect((await platform.aim('balance', {}, from('198.51.100.9'))).json).toMatchObject({ code: 10102 });
    expect((await platform.aim('balance', { signature: sign('POST', { sp_id: '500001' }) }, from('198.51.100.9'))).json).toMatchObject({
      code: 10100,
    });
    expect((await platform.aim('balance', {}, from('198.51.100.10'))).json).toMatchObject({ code: 0 });
    expect((await platform.aim('balance', { sp_id: '500004' }, from('198.51.100.9'))).json).toMatchObject({ code: 0 });
    platform.advance(60_001);
    expect((await platform.aim('balance', {}, from('198.51.100.9'))).json).toMatchObject({ code: 0 });
  });
});

describe('send-aim', () => {
  it('answers success to the letter, and holds the money', async () => {
    const before = await balance();
    const answer = await send();
    expect(answer.text).toBe(`{"code":0,"msg":"success","msg_id":"${msgId(answer)}","failed_data":[]}`);
    expect(answer.headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(msgId(answer)).toBeGreaterThan(100_000_000n);
    expect(msgId(await send())).toBeGreaterThan(msgId(answer));
    expect(cents(before) - cents(await balance())).toBe(10);
  });

  it('tells at once which numbers were refused, as they were written and in their order', async () => {
    const mobiles = JSON.stringify([
      '+86 138-0000-0023',
      '13800000000',
      10086,
      '13800000021',
      '13800000000',
      '(0086)13800000021',
      '+85251234567',
    ]);
    const { text, json } = await send({ mobiles });
    expect(text).toContain(
      '"failed_data":{"+86 138-0000-0023":"WL:SHLJ","10086":"WL:CWHM","13800000021":"WL:KHLJ","+85251234567":"WL:CGMT"}',
    );
    expect(json).toMatchObject({ code: 0 });
  });

  it('is accepted also when every number is refused, and costs nothing', async () => {
    const before = await balance();
    expect((await send({ mobiles: '["1"]' })).json).toEqual({
      code: 0,
      msg: 'success',
      msg_id: expect.any(String),
      failed_data: { 1: 'WL:CWHM' },
    });
    expect(await balance()).toBe(before);
  });

  it.each([
    ['without parameters', '["13800000000",13900000000,"86 13800000001"]', '101'],
    ['without parameters, in the other form', '[["13800000000",[]],[13900000000,[]]]', '101'],
    ['with parameters', '[["13800000000",["张三","1.20"]]]', '102'],
    ['with parameters, some of them numbers', '[[13800000000,["张三",120]]]', '102'],
    ['with spaces in the JSON', ' [ [ "13800000000" , [ "[," , "\\"]" ] ] ] ', '102'],
    ['from the first to the last of ten thousand', JSON.stringify(Array.from({ length: 10_000 }, () => '13800000000')), '101'],
  ])('takes mobiles %s', async (_, mobiles, template_id) => {
    expect((await send({ mobiles, template_id })).json).toMatchObject({ code: 0, failed_data: [] });
  });

  // Each line would pass the checks above it, and fails several below it.
  it.each<[number, string, Record<string, string>]>([
    [10001, 'mobiles', { mobiles: '', sp_id: '500002' }],
    [10001, 'content', { content: '', sp_id: '500002' }],
    [10001, 'template_id', { template_id: '', sp_id: '500002' }],
    [10001, 'ext', { ext: '12a', sp_id: '500002', mobiles: '[' }],
    [10001, '主叫号码', { ext: '12345678901', mobiles: '[' }],
    [10001, '10001 项', { mobiles: JSON.stringify(Array.from({ length: 10_001 }, () => '13800000000')), sp_id: '500002' }],
    [10001, 'content', { content: `${content}${'x'.repeat(1000)}`, sp_id: '500002' }],
    [10001, 'content', { content: `${content}\0`, sp_id: '500002' }],
    [10701, '普通短信', { sp_id: '500002', mobiles: '[' }],
    [10705, 'JSON', { mobiles: '["13800000000"', template_id: '999' }],
    [10702, '999', { template_id: '999' }],
    [10702, '101x', { template_id: '101x' }],
    [10702, '104', { template_id: '104' }],
    [10700, '103', { template_id: '103', content: 'x' }],
    [10700, '105', { template_id: '105', content: 'x' }],
    [10703, '13800000000', { template_id: '102', content: 'x' }],
    [10703, '13800000001', { template_id: '102', mobiles: '[["13800000000",["a","b"]],["13800000001",["a"]]]' }],
    [10703, '13800000000', { mobiles: '[["13800000000",["a"]]]' }],
    [10704, '$url$', { content: '【鸿雁】没有链接', sp_id: '500004' }],
    [10704, '$url$', { content: '【鸿雁】$url$ 与 $url$', sp_id: '500004' }],
    [10011, '', { sp_id: '500004' }],
  ])('answers %i (%s), and nothing is stored or charged', async (code, reason, form) => {
    const before = [await batches(), await balance()];
    const answer = await send(form);
    expect(answer.json).toEqual({ code, msg: expect.stringMatching(/^[^:]+: ./) });
    expect(answer.json.msg).toContain(reason);
    expect(answer.status).toBe(200);
    expect([await batches(), await balance()]).toEqual(before);
  });

  it('a missing parameter is like an empty one', async () => {
    for (const name of ['mobiles', 'content', 'template_id'])
      expect((await platform.aim('send-aim', without(name))).json).toMatchObject({ code: 10001, msg: `参数错误,请确认: 缺少参数 ${name}` });
  });

  it('a thousand characters of content pass, characters outside the basic plane counted as one', async () => {
    const padded = content + '字'.repeat(1000 - content.length - 1);
    expect((await send({ content: `${padded}😀` })).json).toMatchObject({ code: 0 });
    expect((await send({ content: `${padded}😀x` })).json).toMatchObject({ code: 10001 });
  });

  it.each([
    ['not JSON', 'x'],
    ['an object', '{"0":"13800000000"}'],
    ['a string', '"13800000000"'],
    ['null', 'null'],
    ['empty', '[]'],
    ['a mix', '["13800000000",["13900000000",[]]]'],
    ['the other mix', '[["13800000000",[]],"13900000000"]'],
    ['a pair without values', '[["13800000000"]]'],
    ['a pair with more', '[["13800000000",[],[]]]'],
    ['values that are no array', '[["13800000000","张三"]]'],
    ['a value that is no text', '[["13800000000",[null]]]'],
    ['a value nobody can store', '[["13800000000",["a\\u0000"]]]'],
    ['half a character', '[["13800000000",["a\\ud800"]]]'],
    ['a fraction', '[1380000000.5]'],
    ['a number beyond counting', '[13800000000000000000000]'],
    ['null as an entry', '[null]'],
    ['a comma in a number', '["138,0000"]'],
    ['a bar in a number', '["138|0000"]'],
    ['a tab in a number', '["138\\t0000"]'],
    ['full-width digits', '["１３８００００００００"]'],
    ['a letter', '["1380000000O"]'],
    ['33 characters', `["${'1'.repeat(33)}"]`],
    ['deep nesting', `${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}`],
    ['deep nesting behind an entry', `["1",${'[1,'.repeat(5000)}`],
  ])('answers 10705 to mobiles that are %s', async (_, mobiles) => {
    expect((await send({ mobiles })).json).toMatchObject({ code: 10705, msg: expect.stringMatching(/^请按照文档格式传输mobiles字段: ./) });
  });

  it('a number in a permitted form that does not exist is WL:CWHM', async () => {
    for (const number of ['', '12345', '+86 12345678901', '1'.repeat(32), '-', '++8613800000000'])
      expect((await send({ mobiles: JSON.stringify([number]) })).json, number).toMatchObject({
        code: 0,
        failed_data: { [number]: 'WL:CWHM' },
      });
  });

  it('an Idempotency-Key gets the first answer again, at once and later, and sends nothing', async () => {
    const once = { headers: { 'idempotency-key': 'order 4711' } };
    const form = { mobiles: '["13800000000","13800000021"]' };
    const before = (await batches()) ?? 0n;
    const answers = await Promise.all(Array.from({ length: 5 }, () => send(form, once)));
    const [first = '', ...others] = answers.map(({ text }) => text);
    expect(first).toMatch(/^\{"code":0,"msg":"success","msg_id":"\d+","failed_data":\{"13800000021":"WL:KHLJ"\}\}$/);
    for (const other of others) expect(other).toBe(first);
    const parameters = { ...valid, ...form, sp_id: '500001' };
    expect((await send({ ...form, signature: sign('POST', parameters) }, once)).text).toBe(first);
    expect(await batches()).toBe(before + 1n);

    expect((await send({ ...form, ext: '1' }, once)).json).toMatchObject({ code: 10001 });
    // Of another sp_id, or after two hours, it is another key.
    expect((await send({ ...form, sp_id: '500004' }, once)).json).toMatchObject({ code: 10011 });
    expect((await send(form, { headers: { 'idempotency-key': 'order 4712' } })).text).not.toBe(first);
    for (const key of ['x'.repeat(129), 'tab\there', 'é'])
      expect((await send(form, { headers: { 'idempotency-key': key } })).json, key).toMatchObject({ code: 10001 });
  });
});

const post = (body: string | Buffer, headers: Record<string, string> = {}) =>
  platform.call('/api/send-aim', { method: 'POST', body, headers });

describe('what is no proper request', () => {
  const credentials = `sp_id=500001&password=${demoPasswordHash}`;

  it('any Content-Type will do, or none', async () => {
    const body = `${credentials}&${new URLSearchParams(valid).toString()}`;
    for (const type of ['application/x-www-form-urlencoded; charset=UTF-8', 'application/json', 'text/plain', 'nonsense', '', 'a/b;c'])
      expect((await post(body, { 'content-type': type })).json, type).toMatchObject({ code: 0 });
    expect((await post(Buffer.from(body))).json).toMatchObject({ code: 0 });
  });

  it('UTF-8 that was not escaped is read', async () => {
    expect((await post(`${credentials}&mobiles=["13800000000"]&template_id=101&content=${content}`)).json).toMatchObject({ code: 0 });
  });

  it('what is not UTF-8 is 10001, told only to who has proven himself', async () => {
    const gbk = Buffer.concat([
      Buffer.from(`${credentials}&mobiles=["13800000000"]&template_id=101&content=$url$`),
      Buffer.from([0xd5, 0xc5]),
    ]);
    expect((await post(gbk)).json).toMatchObject({ code: 10001, msg: expect.stringContaining('"content" 不是 UTF-8') });
    expect((await post(`${credentials}&content=%ff`)).json).toMatchObject({ code: 10001, msg: expect.stringContaining('UTF-8') });
    expect((await post(`${credentials}&content=100%`)).json).toMatchObject({ code: 10001, msg: expect.stringContaining('百分号') });
    expect((await post('sp_id=500001&password=wrong&content=%ff')).json).toMatchObject({ code: 10102 });
    expect((await post('sp_id=%ff&password=%zz')).json).toMatchObject({ code: 10001 });
  });

  it('empty, truncated and senseless bodies are 10001', async () => {
    for (const body of ['', '&', '=', '{"sp_id":500001}', '\0\0\0', 'sp_id', `${credentials}&mobiles`, 'a=1&'.repeat(101) + credentials])
      expect((await post(body)).json, body).toMatchObject({ code: 10001 });
    expect((await platform.call('/api/send-aim', { method: 'POST' })).json).toMatchObject({ code: 10001 });
  });

  it('a body over 8 MiB is 413', async () => {
    const answer = await post(`${credentials}&x=${'x'.repeat(8 << 20)}`);
    expect(answer).toMatchObject({ status: 413, json: { code: 10001 } });
    expect((await post(`${credentials}&x=${'x'.repeat((8 << 20) - 100)}`)).status).toBe(200);
  });

  it('unknown paths and wrong methods have their status and a code', async () => {
    expect(await platform.call('/api/nothing')).toMatchObject({ status: 404, json: { code: 10001 } });
    expect(await platform.call('/api/send-aim')).toMatchObject({ status: 405, json: { code: 10001 } });
    expect(await platform.call('/api/report', { method: 'DELETE' })).toMatchObject({ status: 405, json: { code: 10001 } });
    // A HEAD that was taken for a GET would hand out reports to nobody.
    expect(await platform.call(`/api/report?${credentials}`, { method: 'HEAD' })).toMatchObject({ status: 405 });
  });

  it('a fault of ours is 10000, and tells nothing', async () => {
    const { sql } = platform.app.management.db;
    await sql`alter table balances rename to balances_away`;
    try {
      const answer = await platform.aim('balance');
      expect(answer).toMatchObject({ status: 200, json: { code: 10000 } });
      expect(answer.text).not.toContain('balances');
    } finally {
      await sql`alter table balances_away rename to balances`;
    }
  });

  it('random forms are answered, never with a fault', async () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 20 }),
      fc.constantFrom('["13800000000"]', content, '101', '$url$', '[[', '500001', '-1', '0'),
    );
    await fc.assert(
      fc.asyncProperty(fc.record({ mobiles: text, content: text, template_id: text, ext: text }), async (form) => {
        const { status, json } = await send(form);
        expect(status).toBe(200);
        expect(json.code).not.toBe(10000);
      }),
      { numRuns: 150 },
    );
  });
});

describe('report', () => {
  it('hands out each row once, in its form', async () => {
    await drain('report');
    const batch = msgId(await send({ mobiles: '["13800000000","+86 13900000000","13800000021"]', ext: '123' }));
    const [refused, ...none] = await drain('report');
    expect(refused).toMatch(new RegExp(`^123,${batch},13800000021,WL:KHLJ,\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d,0$`));
    expect(none).toEqual([]);
    await platform.deliver(batch);
    const { text, json } = await platform.aim('report');
    const time = '\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d';
    expect(json.data).toMatch(
      new RegExp(`^123,${batch},13800000000,DELIVRD,${time},0\\.05\\|123,${batch},\\+86 13900000000,DELIVRD,${time},0\\.05$`),
    );
    expect(text.startsWith('{"code":0,"msg":"success","data":"123,')).toBe(true);
    expect((await platform.aim('report')).text).toBe('{"code":0,"msg":"success","data":""}');
  });

  it('a refunded message costs nothing, and the carrier’s code is told as it came', async () => {
    await drain('report');
    await platform.deliver(msgId(await send()), 'MK:0001');
    expect((await drain('report'))[0]).toMatch(/^,\d+,13800000000,MK:0001,[^,]+,0$/);
  });

  it('at most 2,000 rows a call, oldest first, and callers at the same time share them', async () => {
    await drain('report');
    const numbers = Array.from({ length: 5000 }, (_, index) => String(13900000000 + index));
    await platform.deliver(msgId(await send({ mobiles: JSON.stringify(numbers) })));
    const { json } = await platform.aim('report');
    const first = String(json.data).split('|');
    expect(first).toHaveLength(2000);
    const rest = await Promise.all(Array.from({ length: 4 }, () => drain('report')));
    const handed = [...first, ...rest.flat()].map((row) => row.split(',')[2]);
    expect(handed).toHaveLength(5000);
    expect(new Set(handed)).toEqual(new Set(numbers));
  });

  it('only to the sp_id that sent', async () => {
    await drain('report');
    await platform.deliver(msgId(await send()));
    expect((await platform.aim('report', { sp_id: '500005' }, { headers: { 'x-forwarded-for': '203.0.113.7' } })).json.data).toBe('');
    expect(await drain('report')).toHaveLength(1);
  });
});

describe('get-reply', () => {
  it('hands out each row once, the content encoded so that it cannot break the row', async () => {
    const batch = msgId(await send({ mobiles: '["13800000012"]', ext: '77' }));
    await platform.deliver(batch);
    await platform.reply('13800000012', '你好,|世界', '77');
    const { json } = await platform.aim('get-reply');
    expect(json.data).toMatch(new RegExp(`^%E4%BD%A0%E5%A5%BD%2C%7C%E4%B8%96%E7%95%8C,13800000012,${batch},0177,\\d{14}$`));
    expect((await platform.aim('get-reply')).text).toBe('{"code":0,"msg":"success","data":""}');
  });

  it('has no msg_id where no message was sent before; an opt-out word also blocks the number', async () => {
    await platform.reply('13800000099', 'td');
    expect((await platform.aim('get-reply')).json.data).toMatch(/^td,13800000099,,01,\d{14}$/);
    expect((await send({ mobiles: '["13800000099"]' })).json.failed_data).toEqual({ 13800000099: 'WL:SHLJ' });
  });
});

describe('balance', () => {
  it('is yuan with two decimals, by any product of the account', async () => {
    expect(await balance('500002')).toBe('{"code":0,"msg":"success","data":{"balance":"100.00"}}');
    expect(await balance('500004')).toBe('{"code":0,"msg":"success","data":{"balance":"0.00"}}');
  });
});

describe('rows', () => {
  const at = new Date('2021-12-22T17:02:03.999Z');

  it('are pushed as raw text', () => {
    const mobiles = ['17600000000', '+1 650'];
    const event = { batchId: 100000052n, ext: '123', mobiles: mobiles.slice(0, 1), code: 'DELIVRD', at, sentAt: at, costE4: 2000n };
    expect(
      aimPush.report([event, { ...event, mobiles, ext: '', costE4: 0n }, { ...event, costE4: 1_234_567n }, { ...event, code: 'A,|\n' }]),
    ).toEqual({
      contentType: 'text/plain; charset=utf-8',
      body: [
        '123,100000052,17600000000,DELIVRD,2021-12-23 01:02:03,0.2',
        ',100000052,17600000000,DELIVRD,2021-12-23 01:02:03,0',
        ',100000052,+1 650,DELIVRD,2021-12-23 01:02:03,0',
        '123,100000052,17600000000,DELIVRD,2021-12-23 01:02:03,123.4567',
        '123,100000052,17600000000,A___,2021-12-23 01:02:03,0.2',
      ].join('|'),
    });
    expect(aimPush.reply([{ replyId: 1n, content: '退订 *~', mobile: '18914560000', batchId: 1n, ext: '0615', at }]).body).toBe(
      '%E9%80%80%E8%AE%A2%20%2A~,18914560000,0615,20211223010203',
    );
  });
});

describe('readRecipients', () => {
  it('answers any text', () => {
    fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => void readRecipients(text)));
  });
  it('counts entries before anything is made of them', () => {
    expect(readRecipients(`[${'0,'.repeat(2_000_000)}`)).toEqual({ kind: 'too_many', entries: 2_000_001 });
    expect(readRecipients(`["${',['.repeat(20_000)}"]`)).toMatchObject({ kind: 'malformed' });
  });
});
