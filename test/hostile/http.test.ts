/**
 * Hostile requests to everything that listens for HTTP, against the real application. Every request is answered soon, in the form of the
 * API that it was sent to, and never with a 500. A refused request leaves no trace and costs nothing.
 */
import { randomUUID } from 'node:crypto';
import * as fc from 'fast-check';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createPhones } from '../../sandbox/phones.ts';
import { audit } from '../../src/core/watch/audit.ts';
import { createChannel } from '../../src/core/catalogue/channels.ts';
import { change } from '../../src/core/config/management.ts';
import { createToken } from '../../src/core/config/tokens.ts';
import { demoPasswordHash } from '../kit/aim-platform.ts';
import { picture } from '../kit/media.ts';
import { type MmsPlatform, signatureOf, startMmsPlatform } from '../kit/mms-platform.ts';
import {
  exchange,
  fuzzed,
  fuzzTimeoutMs,
  type Heard,
  hostileText,
  hostileValue,
  jsonOctets,
  mutated,
  octetsOf,
  type Sent,
} from './fuzz.ts';

let platform: MmsPlatform;
let image: string;
const logged: string[] = [];
const tokens = { operator: 'operator-of-the-fuzz', account: 'account-of-the-fuzz' };
const mmscPassword = Buffer.from('mmsc:callback').toString('base64');

beforeAll(async () => {
  platform = await startMmsPlatform({
    roles: ['api'],
    log: pino({ level: 'error' }, { write: (line) => void logged.push(line) }),
    parts: [createPhones({ linkBase: 'http://links.example/m', reply: () => true }).part],
  });
  image = (await picture('png', 8, 8)).toString('base64');
  const { management } = platform.app;
  await change(management, async (sql) => {
    await createToken(sql, { name: 'fuzz', caller: { role: 'operator' }, token: tokens.operator });
    await createToken(sql, { name: 'fuzz', caller: { role: 'account', accountId: 1n }, token: tokens.account });
    await createChannel(sql, management, {
      id: 9n,
      protocol: 'mm7',
      name: 'fuzzed',
      carriers: ['mobile'],
      accessNumber: '10690009',
      secret: 'callback',
      settings: { url: 'http://127.0.0.1:1/', vaspId: '1', vasId: '1', serviceCode: '1', callbackUsername: 'mmsc', ratePerSecond: 10 },
    });
  });
});
afterAll(() => platform.stop());

// ── what must be so after every request ──────────────────────────────────────────────────────────────────────────────────────────

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
const parsed = (body: string): unknown => {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
};

const shapes: readonly { prefix: string; statuses: readonly number[]; fits(heard: Heard): boolean }[] = [
  {
    prefix: '/api',
    statuses: [200, 404, 405, 413],
    fits({ body }) {
      const json = parsed(body);
      return isRecord(json) && typeof json['code'] === 'number' && typeof json['msg'] === 'string';
    },
  },
  {
    prefix: '/mms/v1',
    statuses: [200, 404, 405, 413],
    fits({ body }) {
      const json = parsed(body);
      return isRecord(json) && typeof json['code'] === 'string' && typeof json['message'] === 'string';
    },
  },
  {
    prefix: '/mm7',
    statuses: [200, 400, 401, 404, 405, 413],
    fits: ({ status, body, contentType }) =>
      status === 401 ? body === '' : contentType.includes('xml') ? body.startsWith('<?xml') : fitsManagement(status, body),
  },
  {
    prefix: '/m',
    statuses: [404, 405, 413, 400],
    fits: ({ contentType, body }) => contentType.startsWith('text/html') && body.includes('<h1>'),
  },
];

function fitsManagement(status: number, body: string): boolean {
  if (status < 300) return status === 204 || parsed(body) !== undefined;
  const json = parsed(body);
  return (
    isRecord(json) && isRecord(json['error']) && typeof json['error']['code'] === 'string' && typeof json['error']['message'] === 'string'
  );
}
const fitsBroken = ({ status, body }: Heard): boolean =>
  [400, 408, 417, 431].includes(status) && (fitsManagement(status, body) || body === '');

const owns = (prefix: string, path: string): boolean => path === prefix || path.startsWith(`${prefix}/`);

/** Sends it and looks at the answer; returns it, null if there was none since the octets made no request. */
async function attack(sent: Sent): Promise<Heard | null> {
  const [heard] = await exchange(platform.port, octetsOf(sent));
  if (!heard || sent.method === 'HEAD') return null;
  const what = `${JSON.stringify(sent).slice(0, 2000)} was answered ${heard.status} ${heard.contentType} ${heard.body.slice(0, 500)}`;
  const path = (sent.path.split('?', 1)[0] ?? '').replace(/#.*/, '');
  const shape = shapes.find(({ prefix }) => owns(prefix, path));
  const fits = shape
    ? shape.statuses.includes(heard.status) && shape.fits(heard)
    : heard.status < 500 && fitsManagement(heard.status, heard.body);
  if (!fits && !fitsBroken(heard)) throw new Error(what);
  if (logged.length > 0) throw new Error(`${what}\n${logged.splice(0).join('')}`);
  return heard;
}

interface Books {
  readonly batches: number;
  readonly templates: number;
  readonly requestIds: number;
  readonly media: number;
  readonly balance: string;
}

async function books(): Promise<Books> {
  const { sql } = platform.app.management.db;
  const [row] = await sql<Books[]>`
    select (select count(*)::int from batches) as batches, (select count(*)::int from templates) as templates,
           (select count(*)::int from request_ids) as "requestIds", (select count(*)::int from media) as media,
           (select sum(balance_e4)::text from balances) as balance`;
  if (!row) throw new Error('no books');
  return row;
}

/** From anywhere, so that nobody is limited for what others have done. */
const somewhere = fc.ipV4().map((address) => ['X-Forwarded-For', address] as const);

/** Letters and digits without any order, the same every time. */
function noise(length: number): string {
  let state = 1;
  return Array.from({ length }, () => (state = (state * 48_271) % 2_147_483_647).toString(36).slice(-1)).join('');
}

// ── attacks ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const methods = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS', 'TRACE', 'PROPFIND', 'QUERY', 'FOO', 'get'];
const routes = [
  '/',
  '/healthz',
  '/api/send-aim',
  '/api/report',
  '/api/get-reply',
  '/api/balance',
  '/mms/v1/batchSend',
  '/mms/v1/balance',
  '/mms/v1/templateCreate',
  '/mm7/9',
  '/mm7/1',
  '/m/Ab3dE',
  '/m/Ab3dE/0',
  '/sandbox/v1/messages',
  '/sandbox/v1/replies',
  '/sandbox/v1/media/x',
  '/v1/accounts',
  '/v1/accounts/1',
  '/v1/batches/1/media/x',
  '/v1/openapi.json',
];
const inUrl = hostileText.map((text) => encodeURIComponent(text.replace(/\p{Cs}/gu, '\ufffd')).slice(0, 8000));
const rawInUrl = fc.string({ unit: fc.integer({ min: 0x21, max: 0xff }).map((code) => String.fromCharCode(code)), maxLength: 30 });
const contentTypes = [
  'application/json',
  'application/json; charset=gbk',
  'application/x-www-form-urlencoded',
  'multipart/form-data',
  'multipart/form-data; boundary=x',
  'multipart/related; boundary=x; type="text/xml"; start="<a>"',
  'text/xml; charset=gb2312',
  'nonsense',
  '',
  '/',
  ';;;=',
  'application/json\t;',
  'a/b;'.repeat(500),
];
const anyHeader = fc.oneof(
  fc.constantFrom<[string, string][]>(
    ['Expect', '100-continue'],
    ['Expect', 'nothing'],
    ['Upgrade', 'websocket'],
    ['Content-Encoding', 'gzip'],
    ['Range', 'bytes=0-'],
    ['Accept-Version', '9'],
    ['X-HTTP-Method-Override', 'DELETE'],
    ['Idempotency-Key', 'é'],
    ['Idempotency-Key', 'x'.repeat(200)],
    ['Authorization', `Bearer ${tokens.operator}`],
    ['Authorization', `Bearer ${tokens.account}`],
    ['Authorization', `Basic ${mmscPassword}`],
    ['Authorization', 'Bearer \x7f'],
    ['Cookie', 'a=b; '.repeat(500)],
    ['X', 'x'.repeat(17_000)],
  ),
  fc.constantFrom(...contentTypes).map((type) => ['Content-Type', type] as [string, string]),
  fc.tuple(fc.constantFrom('Content-Type', 'Authorization', 'Idempotency-Key', 'X-Forwarded-For', 'Host', 'Accept'), rawInUrl),
);
const path = fc.oneof(
  fc.constantFrom(...routes),
  fc.tuple(fc.constantFrom(...routes), inUrl).map(([route, text]) => `${route}/${text}`),
  fc.tuple(fc.constantFrom(...routes), rawInUrl).map(([route, text]) => `${route}?${text}`),
  fc
    .tuple(fc.constantFrom(...routes), inUrl, inUrl)
    .map(([route, name, text]) => `${route}?${name}=${text}&${name}=${text}&limit=${text}&wait=0`),
  rawInUrl.map((text) => `/${text}`),
);

it('any method, path, header and body is answered in the form of whom it was sent to', { timeout: fuzzTimeoutMs }, async () => {
  const before = await books();
  const sent = fc.record({
    method: fc.constantFrom(...methods),
    path,
    headers: fc.tuple(somewhere, fc.array(anyHeader, { maxLength: 3 })).map(([from, others]) => [from, ...others]),
    body: fc.oneof(fc.constant(undefined), jsonOctets(hostileValue)),
    framing: fc.constantFrom('length' as const, 'chunked' as const, 'short' as const),
  });
  const runs = await fuzzed(sent, async ({ body, ...rest }) => void (await attack({ ...rest, ...(body && { body }) })));
  expect(runs).toBeGreaterThan(50);
  expect(await books()).toEqual(before);
});

it('AIM: a request with one thing wrong is refused with a code, or is right and accounted for', { timeout: fuzzTimeoutMs }, async () => {
  const before = await books();
  const valid = {
    sp_id: '500001',
    password: demoPasswordHash,
    mobiles: '["13800000000",["13900000000"]]',
    content: '【鸿雁】您有一张优惠券 $url$',
    template_id: '101',
    ext: '1',
  };
  const mobiles = fc.oneof(
    hostileText,
    jsonOctets(mutated(['13800000001', '13900000002'])),
    jsonOctets(mutated([['13800000001', ['a', 'b']]])),
  );
  const escaped = (bytes: Buffer | string) =>
    [...Buffer.from(bytes)]
      .map((byte) => (byte > 0x60 && byte < 0x7b ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, '0')}`))
      .join('');
  const form = fc
    .tuple(
      fc.dictionary(
        fc.constantFrom(...Object.keys(valid), 'x'),
        fc.oneof(
          hostileText,
          fc.uint8Array({ maxLength: 9 }).map((octets) => Buffer.from(octets)),
        ),
        {
          maxKeys: 2,
        },
      ),
      fc.option(mobiles),
    )
    .map(([changes, mobiles]) => ({ ...valid, mobiles: '["13800000000"]', ...(mobiles && { mobiles }), ...changes }))
    .map((fields) =>
      Buffer.from(
        Object.entries(fields)
          .map(([name, value]) => `${name}=${escaped(value)}`)
          .join('&'),
      ),
    );
  let taken = 0;
  await fuzzed(
    fc.tuple(fc.constantFrom('send-aim', 'send-aim', 'send-aim', 'report', 'get-reply', 'balance'), form, somewhere),
    async ([endpoint, body, from]) => {
      const heard = await attack({ method: 'POST', path: `/api/${endpoint}`, body, headers: [from] });
      if (endpoint === 'send-aim' && heard?.body.startsWith('{"code":0,')) taken++;
    },
  );
  const after = await books();
  expect(after.batches - before.batches).toBe(taken);
  expect({ ...after, batches: 0, balance: '' }).toEqual({ ...before, batches: 0, balance: '' });
  expect(await audit(platform.app.management.db)).toEqual([]);
});

it('MMS: a signed request with one thing wrong is refused with a code, or is right and accounted for', {
  timeout: fuzzTimeoutMs,
}, async () => {
  const before = await books();
  const valid = {
    product_id: 1018,
    phone: ['13800000000', 13900000000],
    sign_name: '鸿雁',
    title: '新品',
    send_time: '',
    purpose: '通知',
    content: [
      [
        { con_type: 'text', ext_type: 'txt', data: '本周优惠' },
        { con_type: 'image', ext_type: 'png', data: image },
      ],
      [{ con_type: 3, ext_type: 'mp3', data: 'AAAA' }],
    ].slice(0, 1),
  };
  const parameters = fc.oneof(mutated(valid), mutated({ ...valid, template_id: 101, content: [] }));
  const common = () => ({ api_id: 'mms-demo', timestamp: Math.floor(Date.now() / 1000), request_id: randomUUID() });
  const signed = (value: unknown) => {
    const parameters = common();
    return isRecord(value) ? { signature: signatureOf(parameters), ...parameters, ...value } : value;
  };
  const body = fc.oneof(
    { weight: 5, arbitrary: parameters.map(signed).map((value) => Buffer.from(JSON.stringify(value) ?? '')) },
    { weight: 1, arbitrary: jsonOctets(parameters.map(signed)) },
    {
      weight: 1,
      arbitrary: fc
        .constant(null)
        .chain(() => mutated(signed({})))
        .map((value) => Buffer.from(JSON.stringify(value) ?? '')),
    },
  );
  const taken = { batchSend: 0, templateCreate: 0, balance: 0 };
  const endpoint = fc.constantFrom('batchSend' as const, 'batchSend' as const, 'templateCreate' as const, 'balance' as const);
  await fuzzed(fc.tuple(endpoint, body, somewhere), async ([endpoint, body, from]) => {
    const heard = await attack({ method: 'POST', path: `/mms/v1/${endpoint}`, body, headers: [from] });
    if (heard?.body.startsWith('{"code":"OK"')) taken[endpoint]++;
  });
  const after = await books();
  expect(after.batches - before.batches).toBe(taken.batchSend);
  expect(after.templates - before.templates).toBe(taken.templateCreate);
  expect(after.requestIds - before.requestIds).toBe(taken.batchSend + taken.templateCreate);
  expect(await audit(platform.app.management.db)).toEqual([]);
});

const soap = (body: string): string =>
  `<?xml version="1.0"?><env:Envelope xmlns:env="http://schemas.xmlsoap.org/soap/envelope/"><env:Header><mm7:TransactionID xmlns:mm7="REL-6-MM7-1-4">1</mm7:TransactionID></env:Header><env:Body>${body}</env:Body></env:Envelope>`;
const report = soap(
  '<DeliveryReportReq xmlns="REL-6-MM7-1-4"><MM7Version>6.8.0</MM7Version><MessageID>id</MessageID><Recipient><Number>13800000000</Number></Recipient><Sender><Number>10690009</Number></Sender><Date>2026-01-01T00:00:00+08:00</Date><MMStatus>Rejected</MMStatus><StatusText>text</StatusText></DeliveryReportReq>',
);
const readReply = report.replaceAll('DeliveryReportReq', 'ReadReplyReq');
const deliver = soap(
  '<DeliverReq xmlns="REL-6-MM7-1-4"><MM7Version>6.8.0</MM7Version><VASPID>1</VASPID><VASID>2</VASID><LinkedID>l</LinkedID><Sender><Number>13800000000</Number></Sender><Recipients><To><Number>106900091</Number></To></Recipients><TimeStamp>2026-01-01T00:00:00+08:00</TimeStamp><Subject>TD</Subject></DeliverReq>',
);
const asMmsc: readonly (readonly [string, string])[] = [
  ['Authorization', `Basic ${mmscPassword}`],
  ['Content-Type', 'text/xml; charset=utf-8'],
];

it.each([
  ['a NUL', 'a\0b', '1\x003800000000'],
  ['a NUL by its number', 'a&#0;b', '1&#0;3800000000'],
  ['half a surrogate pair', 'a&#xd800;b', '13800000000&#xd800;'],
  ['a text of 100,000 characters', 'x'.repeat(100_000), '8'.repeat(100_000)],
  ['noise of 60,000 characters, which no index can compress', noise(60_000), noise(60_000)],
])('MM7: %s in any field is refused for good or taken, and never asked for again', async (_, text, number) => {
  for (const [request, fields] of [
    [report, ['>id<', '>Rejected<', '>text<', '>13800000000<', '>10690009<', '>1<', '>6.8.0<']],
    [readReply, ['>id<', '>Rejected<', '>13800000000<', '>10690009<', '>1<']],
    [deliver, ['>1<', '>2<', '>l<', '>TD<', '>13800000000<', '>106900091<', '>2026-01-01T00:00:00+08:00<']],
  ] as const)
    for (const field of fields)
      for (const value of [text, number]) {
        let body = request.replace(field, `>${value}<`);
        // Without any recipient that is a number, the identifier of the service stands in.
        if (field === '>2<') body = body.replace('>106900091<', '><');
        const heard = await attack({ method: 'POST', path: '/mm7/9', body: Buffer.from(body), headers: asMmsc });
        expect(heard?.body, `${field} ${value.slice(0, 40)}`).not.toContain('<StatusCode>4006<');
      }
});

it('MM7: what claims to come from a carrier is answered with XML or refused', { timeout: fuzzTimeoutMs }, async () => {
  const body = fc
    .tuple(
      fc.constantFrom(report, deliver),
      fc.array(
        fc.tuple(
          fc.nat(2000),
          fc.nat(30),
          hostileText.map((text) => text.slice(0, 200)),
        ),
        { maxLength: 3 },
      ),
    )
    .map(([text, cuts]) =>
      Buffer.from(
        cuts.reduce((text, [at, length, put]) => text.slice(0, at % text.length) + put + text.slice((at % text.length) + length), text),
      ),
    );
  const related = body.map((root) =>
    Buffer.concat([Buffer.from('--x\r\nContent-Type: text/xml\r\nContent-ID: <a>\r\n\r\n'), root, Buffer.from('\r\n--x--\r\n')]),
  );
  const sent = fc.tuple(fc.oneof(body, related), fc.constantFrom('text/xml; charset=utf-8', ...contentTypes), somewhere);
  await fuzzed(sent, async ([body, type, from]) => {
    const heard = await attack({
      method: 'POST',
      path: '/mm7/9',
      body,
      headers: [from, ['Authorization', `Basic ${mmscPassword}`], ['Content-Type', type]],
    });
    expect(heard?.body).not.toContain('<StatusCode>4006<');
  });
});

interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly pattern?: string;
  readonly format?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxItems?: number;
  readonly maxLength?: number;
}
interface Operation {
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly schema: Schema }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
}
interface OpenApi {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

/** Values that a schema describes, for the most part. */
function valueOf(schema: Schema, document: OpenApi): fc.Arbitrary<unknown> {
  const exact = (): fc.Arbitrary<unknown> => {
    if (schema.$ref) return valueOf(document.components.schemas[schema.$ref.split('/').at(-1) ?? ''] ?? {}, document);
    if (schema.anyOf) return fc.oneof(...schema.anyOf.map((one) => valueOf(one, document)));
    if (schema.enum) return fc.constantFrom(...schema.enum);
    if ('const' in schema) return fc.constant(schema.const);
    if (schema.type === 'object') {
      const properties = Object.entries(schema.properties ?? {}).map(
        ([name, one]) => [name, fc.option(valueOf(one, document), { freq: 6, nil: undefined })] as const,
      );
      return fc.record(Object.fromEntries(properties));
    }
    if (schema.type === 'array') return fc.array(valueOf(schema.items ?? {}, document), { maxLength: 3 });
    if (schema.type === 'integer')
      return fc.oneof(
        fc.constantFrom(1, 2, 4, 11, 101, 3001, 500001),
        fc.integer({ min: schema.minimum ?? 0, max: Math.min(schema.maximum ?? 1e15, Number.MAX_SAFE_INTEGER) }),
      );
    if (schema.type === 'number') return fc.double({ min: schema.minimum ?? 0, max: schema.maximum ?? 1e15, noNaN: true });
    if (schema.type === 'boolean') return fc.boolean();
    if (schema.type === 'null') return fc.constant(null);
    if (schema.pattern) return fc.stringMatching(new RegExp(schema.pattern));
    if (schema.format === 'date-time') return fc.date({ noInvalidDate: true }).map((date) => date.toISOString());
    return fc.oneof(
      fc.constantFrom('13800000000', 'http://example.com/', '127.0.0.1', '10.0.0.0/8', '鸿雁', 'x'),
      fc.string({ maxLength: Math.min(20, schema.maxLength ?? 20) }),
    );
  };
  return fc.oneof({ weight: 12, arbitrary: fc.constant(null).chain(exact) }, { weight: 1, arbitrary: hostileValue });
}

it.for(['operator', 'account'] as const)(
  'the management API: whatever is asked with the token of an %s',
  { timeout: fuzzTimeoutMs },
  async (who) => {
    const document = JSON.parse((await platform.call('/v1/openapi.json')).text) as OpenApi;
    const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })),
    );
    expect(operations.length).toBeGreaterThan(40);
    const text = (value: unknown): string =>
      encodeURIComponent((typeof value === 'string' ? value : (JSON.stringify(value) ?? '')).replace(/\p{Cs}/gu, '\ufffd')).slice(0, 2000);
    const sent = fc.constantFrom(...operations).chain(({ path, method, parameters = [], requestBody }) => {
      const schema = Object.values(requestBody?.content ?? {})[0]?.schema;
      return fc
        .tuple(
          fc.tuple(...parameters.map(({ schema }) => valueOf(schema, document))),
          fc.array(fc.boolean(), { minLength: parameters.length, maxLength: parameters.length }),
          schema
            ? fc.oneof(
                { weight: 5, arbitrary: valueOf(schema, document).map((value) => Buffer.from(JSON.stringify(value) ?? '')) },
                { weight: 1, arbitrary: jsonOctets(valueOf(schema, document)) },
              )
            : fc.constant(undefined),
        )
        .map(([values, given, body]): Sent => {
          const all = parameters.map(({ name, in: where }, index) => ({
            name,
            where,
            value: text(values[index]),
            given: given[index] === true,
          }));
          const url = all
            .filter(({ where }) => where === 'path')
            .reduce((url, { name, value }) => url.replace(`{${name}}`, value || 'x'), path);
          const query = all.filter(({ where, given }) => where === 'query' && given).map(({ name, value }) => `${name}=${value}`);
          const headers = all.filter(({ where, given }) => where === 'header' && given).map(({ name, value }) => [name, value] as const);
          return {
            method,
            path: query.length > 0 ? `${url}?${query.join('&')}` : url,
            headers: [
              ['Authorization', `Bearer ${tokens[who]}`],
              ...headers,
              ...(body ? [['Content-Type', 'application/json'] as const] : []),
            ],
            ...(body && { body }),
          };
        });
    });
    const statuses = new Map<number, number>();
    await fuzzed(fc.tuple(sent, somewhere), async ([{ headers = [], ...sent }, from]) => {
      const heard = await attack({ ...sent, headers: [...headers, from] });
      statuses.set(heard?.status ?? 0, (statuses.get(heard?.status ?? 0) ?? 0) + 1);
    });
    expect([...statuses.keys()]).toContain(who === 'operator' ? 200 : 404);
    expect(await audit(platform.app.management.db)).toEqual([]);
  },
);

it('requests on one connection are answered in turn, or cut off where one lies about its length', { timeout: fuzzTimeoutMs }, async () => {
  const one = fc.record({
    method: fc.constantFrom('GET', 'POST'),
    path: fc.constantFrom(...routes),
    body: jsonOctets(hostileValue),
    framing: fc.constantFrom('length' as const, 'chunked' as const, 'short' as const, 'long' as const),
  });
  await fuzzed(fc.array(one, { minLength: 2, maxLength: 6 }), async (sent) => {
    const octets = sent.map((request) => Buffer.from(octetsOf(request).toString('latin1').replace('Connection: close\r\n', ''), 'latin1'));
    const heard = await exchange(platform.port, Buffer.concat([...octets, octetsOf({ path: '/healthz' })]), { patienceMs: 200 });
    const isHonest = sent.every(({ framing }) => framing === 'length' || framing === 'chunked');
    if (isHonest) expect(heard).toHaveLength(sent.length + 1);
    else expect(heard.length).toBeLessThanOrEqual(sent.length + 2);
    for (const { status } of heard) expect(status).toBeLessThan(500);
  });
  expect(logged).toEqual([]);
});
