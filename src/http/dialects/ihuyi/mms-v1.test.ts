/** The MMS dialect as a customer's program meets it, against the real application: every code in its order, every rule of content. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bomb, film, picture, sound } from '../../../../test/kit/media.ts';
import { md5 } from '../../../../test/kit/customers.ts';
import { apiKey, demoAccount, type MmsPlatform, signatureOf, startMmsPlatform } from '../../../../test/kit/mms-platform.ts';
import { chunksOfBatch, messagesOfBatch } from '../../../core/model/ids.ts';

let platform: MmsPlatform;
let image: string;
beforeAll(async () => {
  platform = await startMmsPlatform({ roles: ['api'] });
  image = (await picture('jpeg')).toString('base64');
});
afterAll(() => platform.stop());

const text = (data: string) => ({ con_type: 'text', ext_type: 'txt', data });
const medium = (conType: string, extType: string, bytes: Buffer | string) => ({
  con_type: conType,
  ext_type: extType,
  data: typeof bytes === 'string' ? bytes : bytes.toString('base64'),
});
const valid = () => ({
  product_id: 1018,
  phone: ['13800000000'],
  sign_name: '【鸿雁】',
  title: '新品上市',
  content: [[text('本周优惠'), medium('image', 'jpg', image)]] as unknown[],
});
const send = (parameters: Record<string, unknown> = {}, init?: RequestInit) =>
  platform.mms('batchSend', { ...valid(), ...parameters }, init);
const code = async (answer: ReturnType<typeof send>) => (await answer).json['code'];
const from = (address: string): RequestInit => ({ headers: { 'x-forwarded-for': address } });
const now = () => Math.floor(platform.clock().getTime() / 1000);
const sql = () => platform.app.management.db.sql;
const batches = async () => (await sql()<{ n: number }[]>`select count(*)::int as n from batches`)[0]?.n;
async function balanceOf(productId: number): Promise<unknown> {
  const { json } = await platform.mms('balance');
  return (json['data'] as { product_id: number; balance: number }[]).find(({ product_id }) => product_id === productId)?.balance;
}
async function batchOf(taskId: unknown) {
  const [batch] = await sql()<
    { content: string; package: { subject: string; frames: unknown[] }; templateId: bigint | null; sendAt: Date | null }[]
  >`select content, package, template_id as "templateId", send_at as "sendAt" from batches where id = ${BigInt(String(taskId))}`;
  return batch;
}

describe('common parameters', () => {
  it('the signature is the md5 of the four, to the letter', () => {
    const first = { api_id: 'mms-demo', request_id: '3f1c2b7a-0d5e-4c53-9d0e-6f1f3b1f9a10', timestamp: 1790000000 };
    expect(signatureOf(first)).toBe('be04fab36dfc7d205457a7e3634e17b4');
    const second = { api_id: '2RYN7CQHL1M00001', request_id: 'req-1', timestamp: 1598429768 };
    expect(signatureOf(second, 'WVNA4A0KEY')).toBe('e87f1a8f59388730f55f9214dd73f740');
  });

  it('balance answers to the letter, whatever the Content-Type, and uses no request id', async () => {
    const expected =
      '{"code":"OK","message":"请求成功","data":[{"product_id":1001,"product_name":"彩信","balance":100},' +
      '{"product_id":1018,"product_name":"营销彩信-房产类","balance":188888},{"product_id":1020,"product_name":"营销彩信-商超类","balance":2}]}';
    for (const type of [
      'application/json',
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'no type',
    ]) {
      const answer = await platform.mms('balance', { request_id: 'again' }, { headers: { 'content-type': type } });
      expect(answer.text, type).toBe(expected);
      expect(answer.headers.get('content-type')).toBe('application/json; charset=utf-8');
    }
  });

  it('the signature may be written in capitals, the numbers with or without quotes, as long as they are signed as they were sent', async () => {
    const common = { api_id: 'mms-demo', timestamp: String(now()), request_id: 'r' };
    expect(await code(platform.mms('balance', { ...common, signature: signatureOf(common).toUpperCase() }))).toBe('OK');
    // Beyond 2^53: only the digits that were sent fit the signature.
    const requestId = '123456789012345678901234567890';
    const digits = md5(`api_id=mms-demo&api_key=${apiKey}&request_id=${requestId}&timestamp=${common.timestamp}`);
    const body = `{ "nested" : {"request_id": 1, "x": [1, "request_id", 2]}, "api_id":"mms-demo", "timestamp" : ${common.timestamp} ,\n"request_id":${requestId},"signature":"${digits}"}`;
    expect((await platform.call('/mms/v1/balance', { method: 'POST', body })).json).toMatchObject({ code: 'OK' });
  });

  const raw = (body: string | Buffer, init: RequestInit = {}) => platform.call('/mms/v1/balance', { method: 'POST', body, ...init });

  it.each<[string, string | Buffer]>([
    ['不是合法的 JSON', ''],
    ['不是合法的 JSON', '{"api_id":'],
    ['应为 JSON 对象', '[]'],
    ['应为 JSON 对象', '"text"'],
    ['UTF-8', Buffer.from('7b226170695f6964223a22ff227d', 'hex')],
    ['嵌套', '['.repeat(100_000)],
    ['嵌套', `{"x":${'['.repeat(2_000_000)}`],
    ['api_id: 缺少', '{}'],
    ['api_id: 缺少', '{"__proto__":{"api_id":"mms-demo"}}'],
  ])('a body that cannot be read is InputDataInvalid (%s)', async (reason, body) => {
    const answer = await raw(body);
    expect(answer.status).toBe(200);
    expect(answer.text).toMatch(/^\{"code":"InputDataInvalid","message":/);
    expect(answer.json['message']).toContain(reason);
  });

  it.each<[string, Record<string, unknown>]>([
    ['api_id: 应为字符串', { api_id: 1 }],
    ['timestamp: 缺少', { timestamp: null }],
    ['timestamp: 应为', { timestamp: true }],
    ['timestamp: 应为', { timestamp: '2026-01-01' }],
    ['timestamp: 应为', { timestamp: 1.5 }],
    ['request_id: 缺少', { request_id: '' }],
    ['request_id: 应为', { request_id: {} }],
    ['request_id: 不得超过', { request_id: 'x'.repeat(129) }],
    ['signature: 缺少', { signature: '' }],
    ['signature: 应为', { signature: 1 }],
  ])('their shape comes first (%s)', async (reason, parameters) => {
    const answer = await platform.mms('balance', { api_id: 'nobody', ...parameters });
    expect(answer.json).toEqual({ code: 'InputDataInvalid', message: expect.stringContaining(reason) as string });
  });

  it('then api_id, address, signature, time, lock, the shape of the rest, the request id, and the rest', async () => {
    const wrong = { signature: 'wrong', timestamp: 1, phone: 'no array' };
    expect(await code(send({ ...wrong, api_id: 'nobody' }))).toBe('ApiIdInvalid');
    expect((await send({ ...wrong, api_id: 'mms-fenced' }, from('198.51.100.1'))).json).toEqual({
      code: 'IpNotAllowed',
      message: expect.stringContaining('198.51.100.1') as string,
    });
    expect(await code(send({ ...wrong, api_id: 'mms-fenced' }, from('203.0.113.7')))).toBe('SignatureInvalid');
    expect(await code(send({ ...wrong, api_id: 'mms-locked' }))).toBe('SignatureInvalid');
    expect(await code(send({ api_id: 'mms-locked', timestamp: 1, phone: 'no array' }))).toBe('TimestampExpired');
    expect(await code(send({ api_id: 'mms-locked', phone: 'no array' }))).toBe('AccountLocked');
    const taken = { request_id: randomUUID() };
    expect(await code(send(taken))).toBe('OK');
    expect(await code(send({ ...taken, phone: 'no array' }))).toBe('InputDataInvalid');
    expect(await code(send({ ...taken, product_id: 1 }))).toBe('RequestDuplicated');
    expect(await code(send({ product_id: 1 }))).toBe('ProductInvalid');
  });

  it('the time may be a minute off, either way', async () => {
    for (const [skew, expected] of [
      [-59, 'OK'],
      [60, 'OK'],
      [-62, 'TimestampExpired'],
      [62, 'TimestampExpired'],
    ] as const)
      expect(await code(platform.mms('balance', { timestamp: now() + skew })), String(skew)).toBe(expected);
    const { json } = await platform.mms('balance', { timestamp: Date.now() });
    expect(json).toMatchObject({ code: 'TimestampExpired', message: expect.stringMatching(/服务器时间为 \d{10},相差 -?\d+ 秒/) as string });
  });

  it('after twenty wrong signatures a caller is not listened to for the rest of the minute', async () => {
    const there = from('198.51.100.9');
    for (let i = 0; i < 20; i++) expect(await code(platform.mms('balance', { signature: 'wrong' }, there))).toBe('SignatureInvalid');
    expect((await platform.mms('balance', {}, there)).json['message']).toContain('失败次数过多');
    expect(await code(platform.mms('balance', {}, from('198.51.100.10')))).toBe('OK');
    expect(await code(platform.mms('balance', { api_id: 'mms-other' }, there))).toBe('OK');
    platform.advance(60_001);
    expect(await code(platform.mms('balance', {}, there))).toBe('OK');
  });

  it('other paths, methods and sizes are told in the dialect’s form', async () => {
    const answers = [
      [await platform.call('/mms/v1/nothing', { method: 'POST' }), 404, 'InputDataInvalid'],
      [await platform.call('/mms/v1/balance'), 405, 'InputDataInvalid'],
      [await raw('x'.repeat((4 << 20) + 1)), 413, 'ContentTooLarge'],
    ] as const;
    for (const [answer, status, code] of answers) {
      expect(answer.status).toBe(status);
      expect(Object.keys(answer.json)).toEqual(['code', 'message']);
      expect(answer.json['code']).toBe(code);
    }
  });
});

describe('a request id', () => {
  it('repeated within two hours does nothing, and names what the first one made', async () => {
    const request = { request_id: 'unique-1' };
    const first = await send(request);
    expect(first.text).toBe(`{"code":"OK","message":"提交成功","task_id":"${String(first.json['task_id'])}"}`);
    const before = await batches();
    for (const request_id of ['unique-1']) {
      const again = await send({ request_id, product_id: 7 });
      expect(again.json).toEqual({ code: 'RequestDuplicated', message: expect.any(String) as string, task_id: first.json['task_id'] });
    }
    const other = await platform.mms('templateCreate', {
      request_id: 'unique-1',
      title: 't',
      purpose: 'p',
      sign_name: '鸿雁',
      content: [[text('a')]],
    });
    expect(other.json).toMatchObject({ code: 'RequestDuplicated', task_id: first.json['task_id'] });
    expect(await batches()).toBe(before);
    // Another account's are its own.
    expect(await code(send({ ...request, api_id: 'mms-other', sign_name: '别人' }))).toBe('OK');
    platform.advance(2 * 3600_000 + 1000);
    expect(await code(send(request))).toBe('OK');
  });

  it('of requests at once is taken by one of them', async () => {
    const before = await batches();
    const answers = await Promise.all(Array.from({ length: 8 }, () => send({ request_id: 12_345 })));
    const codes = answers.map(({ json }) => String(json['code'])).sort();
    expect(codes).toEqual(['OK', ...Array.from({ length: 7 }, () => 'RequestDuplicated')]);
    expect(new Set(answers.map(({ json }) => json['task_id'])).size).toBe(1);
    expect(await batches()).toBe((before ?? 0) + 1);
  });

  it('of a request that was refused may be used again', async () => {
    const request = { request_id: 'refused-first' };
    expect(await code(send({ ...request, product_id: 1020, phone: ['13800000001', '13800000002', '13800000003'] }))).toBe(
      'BalanceInsufficient',
    );
    expect(await code(send({ ...request, title: '' }))).toBe('TitleRequired');
    expect(await code(send(request))).toBe('OK');
  });
});

describe('batchSend', () => {
  it.each<[string, string, Record<string, unknown>]>([
    ['InputDataInvalid', 'product_id: 缺少', { product_id: null }],
    ['InputDataInvalid', 'product_id: 应为', { product_id: 'abc' }],
    ['InputDataInvalid', 'phone: 缺少', { phone: undefined }],
    ['InputDataInvalid', 'phone: 应为数组', { phone: '13800000000' }],
    ['InputDataInvalid', 'phone[1]: 应为', { phone: ['13800000000', null] }],
    ['InputDataInvalid', 'content: 应为数组', { content: 'text' }],
    ['InputDataInvalid', 'content', { content: null }],
    ['InputDataInvalid', 'template_id: 应为', { template_id: 'x' }],
    ['InputDataInvalid', 'sign_name: 应为', { sign_name: 1 }],
    ['InputDataInvalid', 'title: 应为', { title: ['x'] }],
    ['InputDataInvalid', 'title: 不得超过 40', { title: '题'.repeat(41) }],
    ['ProductInvalid', '3001', { product_id: 3001, phone: [] }],
    ['ProductInvalid', '1001', { product_id: 1001, phone: [], api_id: 'mms-other' }],
    ['PhoneInvalid', 'phone', { phone: [], content: [] }],
    ['PhoneInvalid', 'phone', { phone: ['1', '+', 'abc'], content: [] }],
    ['PhoneTooMany', '10001', { phone: Array.from({ length: 10_001 }, () => '13800000000'), content: [] }],
    ['ContentInvalid', 'content: 没有帧', { content: [], sign_name: '' }],
    ['TemplateNotFound', '999', { content: [], template_id: 999, sign_name: '没有' }],
    ['SignNameRequired', 'sign_name', { sign_name: '', title: '' }],
    ['SignNameNotApproved', '【别人】', { sign_name: '别人', title: '' }],
    ['TitleRequired', 'title', { title: ' ', send_time: 'x' }],
    ['SendTimeInvalid', 'send_time', { send_time: '2026-02-30 10:00:00' }],
    ['SendTimeInvalid', 'send_time', { send_time: '2026-02-03T10:00:00' }],
    ['SendTimeInvalid', '30 天', { send_time: '2099-01-01 00:00:00' }],
    ['BalanceInsufficient', '', { product_id: 1020, phone: ['13800000001', '13800000002', '13800000003'] }],
  ])('answers %s (%s)', async (code, reason, parameters) => {
    const before = await batches();
    expect((await send(parameters)).json).toEqual({ code, message: expect.stringContaining(reason) as string });
    expect(await batches()).toBe(before);
  });

  it('counts in messages, sends a number once, and one bad number never fails the batch', async () => {
    const before = await balanceOf(1018);
    const phone = ['13800000005', 13_800_000_006, '+86 138-0000-0005', '13800000021', 'nonsense'];
    const { json } = await send({ product_id: '1018', phone });
    expect(json['code']).toBe('OK');
    expect(Number(before) - Number(await balanceOf(1018))).toBe(2);
    const rows = await sql()<{ code: string }[]>`
      select code from messages where id ${messagesOfBatch(sql(), BigInt(String(json['task_id'])))} order by code`;
    expect(rows.map(({ code }) => code)).toEqual(['WL:CWHM', 'WL:KHLJ']);
  });

  it('takes ten thousand numbers', async () => {
    const phone = Array.from({ length: 10_000 }, (_, index) => `139${String(index).padStart(8, '0')}`);
    const { json } = await send({ phone });
    const [row] = await sql()<{ n: number }[]>`
      select sum(cardinality(phones))::int as n from chunks where id ${chunksOfBatch(sql(), BigInt(String(json['task_id'])))}`;
    expect(row?.n).toBe(10_000);
  });

  it('keeps the package: subject, frames in order, the signature in front, each medium once', async () => {
    const png = (await picture('png', 20, 20, 7)).toString('base64');
    const content = [
      [medium('image', '.PNG', `data:image/png;base64,${png}`), text('第一帧 ${name}')],
      [{ ...medium('', 'png', png), con_type: 2 }],
      [medium('audio', 'mp3', sound()), { ...text('第三帧'), con_type: 1, ext_type: '.TXT' }],
      [medium('video', 'mp4', film())],
    ];
    const { json } = await send({ content, title: '标题' });
    const { json: again } = await send({ content });
    const batch = await batchOf(json['task_id']);
    expect(batch).toMatchObject({ content: '【鸿雁】第一帧 ${name}\n第三帧', templateId: null, sendAt: null });
    expect(batch?.package).toMatchObject({
      subject: '标题',
      frames: [
        {
          text: '【鸿雁】第一帧 ${name}',
          mediaFirst: true,
          media: { type: 'image/png', extension: 'png', size: Buffer.from(png, 'base64').length },
        },
        { text: null, mediaFirst: false, media: { type: 'image/png' } },
        { text: '第三帧', mediaFirst: true, media: { type: 'audio/mpeg' } },
        { text: null, media: { type: 'video/mp4' } },
      ],
    });
    expect((await batchOf(again['task_id']))?.package.frames).toEqual(batch?.package.frames);
    const [stored] = await sql()<{ n: number }[]>`select count(*)::int as n from media where size = ${Buffer.from(png, 'base64').length}`;
    expect(stored?.n).toBe(1);
  });

  it('a signature goes before the first text wherever it is, is not doubled, and makes a text where there is none', async () => {
    const picture1 = medium('image', 'jpg', image);
    for (const [content, texts] of [
      [
        [[picture1], [text('二')]],
        [null, '【鸿雁】二'],
      ],
      [
        [[picture1], [picture1]],
        ['【鸿雁】', null],
      ],
      [[[text('【鸿雁】已有')]], ['【鸿雁】已有']],
    ] as const) {
      const { json } = await send({ content });
      const batch = await batchOf(json['task_id']);
      expect(batch?.package.frames.map((frame) => (frame as { text: string | null }).text)).toEqual(texts);
    }
  });

  it('line breaks in base64 and missing padding are tolerated', async () => {
    const broken = image.replace(/=+$/, '').replace(/.{76}/g, '$&\r\n');
    expect(await code(send({ content: [[medium('image', 'jpeg', broken)]] }))).toBe('OK');
  });
});

describe('content', () => {
  const big = Buffer.alloc(2 << 20, 'x');
  const cases: [string, string, () => unknown][] = [
    ['ContentInvalid', 'content[0]: 每一帧应为数组', () => ['x']],
    ['ContentInvalid', 'content[1]: 每一帧应有 1 到 2 个元素', () => [[text('a')], []]],
    ['ContentInvalid', 'content[0]: 每一帧应有 1 到 2 个元素', () => [[text('a'), text('b'), text('c')]]],
    ['ContentInvalid', 'content[0]: 同一帧最多一段文字', () => [[text('a'), text('b')]]],
    [
      'ContentInvalid',
      'content[1]: 同一帧最多一种媒体文件',
      () => [[text('a')], [medium('image', 'jpg', image), medium('audio', 'mp3', sound())]],
    ],
    ['ContentInvalid', 'content[0][0]: 应为', () => [[null]]],
    ['ContentInvalid', 'content[0][0].con_type', () => [[{ con_type: 'movie', ext_type: 'mp4', data: 'x' }]]],
    ['ContentInvalid', 'content[0][0].con_type', () => [[{ con_type: 5, ext_type: 'mp4', data: 'x' }]]],
    ['ContentInvalid', 'content[0][0].ext_type', () => [[medium('image', 'mp4', image)]]],
    ['ContentInvalid', 'content[0][0].ext_type', () => [[medium('image', 'webp', image)]]],
    ['ContentInvalid', 'content[0][0].ext_type', () => [[medium('image', 'constructor', image)]]],
    ['ContentInvalid', 'content[0][0].data', () => [[{ con_type: 'text', ext_type: 'txt', data: 1 }]]],
    ['ContentInvalid', 'content[0][0].data: 文字为空', () => [[text('')]]],
    ['ContentInvalid', 'content[0][0].data: 含有不可用的字符', () => [[text('a\0')]]],
    ['ContentInvalid', 'content[0][0].data: 含有不可用的字符', () => [[text('\ud800')]]],
    ['ContentInvalid', 'content[1][0].data: 不是合法的 base64', () => [[text('a')], [medium('image', 'jpg', '這是base64內容')]]],
    ['ContentInvalid', 'content[0][0].data: 不是合法的 base64', () => [[medium('image', 'jpg', 'abc*')]]],
    ['ContentInvalid', 'content[0][0].data: 不是合法的 base64', () => [[medium('image', 'jpg', 'abcde')]]],
    ['ContentInvalid', 'content[0][0].data: 不是合法的 base64', () => [[medium('image', 'jpg', 'ab=c')]]],
    ['ContentInvalid', 'content[0][0].data: 内容为空', () => [[medium('image', 'jpg', '')]]],
    ['ContentInvalid', 'content[0][0].data: ext_type 是 mp3,内容却无法识别', () => [[medium('audio', 'mp3', 'test')]]],
    [
      'ContentInvalid',
      'content[0][1].data: ext_type 是 jpg,内容却是 png',
      async () => [[text('a'), medium('image', 'jpg', await picture('png'))]],
    ],
    ['ContentInvalid', 'content[0][0].data: ext_type 是 jpg,内容却是 mp4', () => [[medium('image', 'jpg', film())]]],
    ['ContentInvalid', 'content[0][0].data: 图片已损坏', async () => [[medium('image', 'png', (await picture('png')).subarray(0, 3000))]]],
    ['ContentInvalid', 'content[0][0].data: 图片已损坏', async () => [[medium('image', 'jpg', (await picture('jpeg')).subarray(0, -100))]]],
    ['ContentInvalid', 'content[0][0].data: 图片已损坏', async () => [[medium('image', 'gif', (await picture('gif')).subarray(0, -300))]]],
    ['ContentInvalid', 'content[0][0].data: 图片有 50000×50000 像素', async () => [[medium('image', 'png', await bomb(50_000, 50_000))]]],
    ['ContentInvalid', 'content[0][0].data: 视频已损坏', () => [[medium('video', 'mp4', film().subarray(0, -300))]]],
    ['ContentInvalid', 'content[0][0].data: 视频已损坏', () => [[medium('video', 'mp4', film().subarray(0, 240))]]],
    ['ContentInvalid', 'content[0][0].data: 音频已损坏', () => [[medium('audio', 'mp3', sound(2).subarray(0, 500))]]],
    ['ContentTooLarge', 'content: 有 16 帧,最多 15 帧', () => Array.from({ length: 16 }, () => ['wrong, but not looked at'])],
    ['ContentTooLarge', 'content[0][0].data: 有 2001 个字符', () => [[text('字'.repeat(2001))]]],
    ['ContentTooLarge', `content: 共 ${2 << 20} 字节,最多 ${1900 * 1024} 字节(1900 KiB)`, () => [[medium('image', 'jpg', big)]]],
    ['ContentTooLarge', '(1900 KiB)', () => [[medium('image', 'jpg', '*'.repeat(2_700_000))]]],
    ['ContentTooLarge', '(1900 KiB)', () => [[{ con_type: 'wrong', data: big.toString('base64') }]]],
  ];
  it.each(cases)('is %s: %s', async (code, reason, content) => {
    expect((await send({ content: await content() })).json).toEqual({ code, message: expect.stringContaining(reason) as string });
  });

  it('is measured by the product’s own limits', async () => {
    const content = [[medium('image', 'png', await picture('png', 300, 200))]];
    expect(await code(send({ content }))).toBe('OK');
    expect((await send({ content, product_id: 1001 })).json).toMatchObject({
      code: 'ContentTooLarge',
      message: expect.stringContaining('(80 KiB)') as string,
    });
    const frames = Array.from({ length: 4 }, () => [text('a')]);
    expect((await send({ content: frames, product_id: 1001 })).json['message']).toContain('最多 3 帧');
  });
});

describe('templates', () => {
  const template = () => ({ title: '春季', content: valid().content, purpose: '会员通知', sign_name: '鸿雁' });
  const create = (parameters: Record<string, unknown> = {}) => platform.mms('templateCreate', { ...template(), ...parameters });

  it.each<[string, string, Record<string, unknown>]>([
    ['InputDataInvalid', 'content: 缺少', { content: undefined }],
    ['InputDataInvalid', 'purpose: 缺少', { purpose: '' }],
    ['InputDataInvalid', 'purpose: 不得超过', { purpose: 'x'.repeat(201) }],
    ['ProductInvalid', '彩信产品', { api_id: 'mms-nothing' }],
    ['TitleRequired', 'title', { title: '', content: ['wrong'] }],
    ['ContentInvalid', 'content[0]', { content: ['wrong'], sign_name: '' }],
    ['SignNameRequired', 'sign_name', { sign_name: '' }],
    ['SignNameNotApproved', 'sign_name', { sign_name: '别人' }],
  ])('are refused with %s (%s)', async (code, reason, parameters) => {
    if (parameters['api_id'] === 'mms-nothing') {
      const { createAccount } = await import('../../../core/catalogue/accounts.ts');
      const { change } = await import('../../../core/config/management.ts');
      const { management } = platform.app;
      await change(management, (sql) => createAccount(sql, management.box, { name: 'nothing', apiId: 'mms-nothing', apiKey }));
    }
    expect((await create(parameters)).json).toEqual({ code, message: expect.stringContaining(reason) as string });
  });

  it('wait for the operator, and are used once approved, with their signature; their title reaches no phone', async () => {
    const request = { request_id: 'template-1' };
    const made = await create(request);
    const id = Number(made.json['template_id']);
    expect(made.text).toBe(`{"code":"OK","message":"提交成功,等待审核","template_id":${id}}`);
    expect((await create(request)).json).toMatchObject({ code: 'RequestDuplicated', template_id: id });

    const use = (more: Record<string, unknown> = {}) =>
      platform.mms('batchSend', { product_id: 1018, phone: ['13800000000'], template_id: id, ...more });
    expect(await code(use())).toBe('TemplateNotApproved');
    expect(await code(use({ api_id: 'mms-other' }))).toBe('TemplateNotFound');

    const shown = await platform.manage('GET', `templates/${id}`);
    expect(shown.json).toMatchObject({ medium: 'mms', name: '春季', purpose: '会员通知', signature: '鸿雁', card: null, state: 'pending' });
    const [frame] = shown.json['frames'] as { text: string; media: { sha256: string; type: string } }[];
    expect(frame?.text).toBe('本周优惠');
    const medium = await fetch(`http://127.0.0.1:${platform.port}/v1/templates/${id}/media/${frame?.media.sha256}`, {
      headers: { authorization: 'Bearer operator-of-the-tests' },
    });
    expect(medium.headers.get('content-type')).toBe('image/jpeg');
    expect(Buffer.from(await medium.arrayBuffer()).toString('base64')).toBe(image);

    expect((await platform.manage('POST', `templates/${id}/approve`)).status).toBe(200);
    const { json } = await use();
    expect(await batchOf(json['task_id'])).toMatchObject({
      templateId: BigInt(id),
      package: { subject: '鸿雁', frames: [{ text: '【鸿雁】本周优惠', media: { type: 'image/jpeg' } }] },
    });
    const { json: titled } = await use({ title: '标题', content: [] });
    expect((await batchOf(titled['task_id']))?.package.subject).toBe('标题');
    // The same content, given in full, is the same package.
    const { json: given } = await send({ title: '鸿雁', template_id: id });
    expect((await batchOf(given['task_id']))?.package).toEqual((await batchOf(json['task_id']))?.package);
    expect((await batchOf(given['task_id']))?.templateId).toBeNull();
  });

  it('are checked again against the limits of the product they are used with', async () => {
    const { json } = await create({ content: Array.from({ length: 5 }, () => [text('a')]) });
    await platform.manage('POST', `templates/${String(json['template_id'])}/approve`);
    const use = { phone: ['13800000000'], template_id: json['template_id'] };
    expect(await code(platform.mms('batchSend', { ...use, product_id: 1018 }))).toBe('OK');
    expect(await code(platform.mms('batchSend', { ...use, product_id: 1001 }))).toBe('ContentTooLarge');
  });
});

describe('planned sending', () => {
  const wallClock = (at: Date) => new Date(at.getTime() + 8 * 3600_000).toISOString().slice(0, 19).replace('T', ' ');
  const inDays = (days: number) => wallClock(new Date(platform.clock().getTime() + days * 86_400_000));

  it('waits apart until it is due; what lies in the past goes at once', async () => {
    const { json: past } = await send({ send_time: inDays(-1) });
    expect((await batchOf(past['task_id']))?.sendAt).toBeNull();
    const { json } = await send({ send_time: inDays(29.9) });
    const [row] = await sql()<{ state: number; day: string }[]>`
      select state::int, day from dispatch_queue where chunk_id ${chunksOfBatch(sql(), BigInt(String(json['task_id'])))}`;
    expect(row).toEqual({ state: 2, day: inDays(29.9).slice(0, 10) });
    expect(await code(send({ send_time: inDays(30.1) }))).toBe('SendTimeInvalid');
  });

  it('can be cancelled before it begins: nothing is held, every message ends with an event', async () => {
    const before = await balanceOf(1018);
    const { json } = await send({ send_time: inDays(20), phone: ['13800000007', '13800000008', '13800000021'] });
    expect(await balanceOf(1018)).toBe(Number(before) - 2);
    const path = `batches/${String(json['task_id'])}`;
    expect((await platform.manage('GET', path)).json).toMatchObject({ cancelledAt: null, totals: { queued: 2, intercepted: 1 } });
    for (let i = 0; i < 2; i++) {
      const cancelled = await platform.manage('POST', `${path}/cancel`);
      expect(cancelled.status).toBe(200);
      expect(cancelled.json).toMatchObject({
        cancelledAt: expect.any(String) as string,
        totals: { queued: 0, cancelled: 2, intercepted: 1 },
        cost: '0.00',
      });
    }
    expect(await balanceOf(1018)).toBe(before);
    const days = `from=${inDays(0).slice(0, 10)}&to=${inDays(20).slice(0, 10)}`;
    const query = `events?accountId=${demoAccount}&batchId=${String(json['task_id'])}&${days}`;
    const events = (await platform.manage('GET', query)).json['data'];
    expect((events as { code: string }[]).map(({ code }) => code).sort()).toEqual(['CANCELED', 'CANCELED', 'WL:KHLJ']);
    expect(await sql()`select 1 from dispatch_queue where chunk_id ${chunksOfBatch(sql(), BigInt(String(json['task_id'])))}`).toEqual([]);
  });

  it('cannot be cancelled when it was never planned, or is somebody else’s', async () => {
    const { json } = await send();
    expect((await platform.manage('POST', `batches/${String(json['task_id'])}/cancel`)).status).toBe(409);
    expect((await platform.manage('POST', 'batches/99999/cancel')).status).toBe(404);
  });
});
