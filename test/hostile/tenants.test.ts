/**
 * Tenants are isolated. The test calls every operation of the management API with another tenant's token, for things of the first tenant
 * and for things that do not exist. Both get the same answer, no answer contains data of the first tenant, and none of that data has
 * changed.
 *
 * The operations come from the OpenAPI document, so a new route is tested too. A new kind of parameter fails here until this file knows
 * its meaning.
 */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { changeSubscription, createSubscription, payIn } from '../../src/core/catalogue/accounts.ts';
import { batchIdOf, messageIdInBatch } from '../../src/core/model/ids.ts';
import { createCap } from '../../src/core/screening/caps.ts';
import { createContentTemplate } from '../../src/core/screening/content-rules.ts';
import { change } from '../../src/core/config/management.ts';
import { createSignature } from '../../src/core/content/signatures.ts';
import { createToken } from '../../src/core/config/tokens.ts';
import { md5 } from '../kit/customers.ts';
import { picture } from '../kit/media.ts';
import { type MmsPlatform, startMmsPlatform } from '../kit/mms-platform.ts';

/** Whose things they are, and who wants them. An account of each dialect. */
const owner = { aim: 1n, mms: 11n };
const stranger = { aim: 4n, mms: 14n };
const password = 'stranger-password';
const strangerSpId = 500_099n;

let platform: MmsPlatform;
const tokens: Record<'aim' | 'mms' | 'ownAim' | 'ownMms', string> = {
  aim: 'stranger-of-aim',
  mms: 'stranger-of-mms',
  ownAim: 'owner-of-aim',
  ownMms: 'owner-of-mms',
};
const sql = () => platform.app.management.db.sql;
const phones = ['13877771111', '13877772222', '13877773333'] as const;
const secret = '只给主人看';

/** What the owner has, by what a parameter may ask for; and the same of nobody. */
let things: Readonly<Record<string, string>>;
const nobodys: Readonly<Record<string, string>> = {
  accounts: '999999',
  subscriptions: '999999',
  products: '999999',
  templates: '999999',
  mmsTemplates: '999998',
  blocklists: '999999',
  channels: '999999',
  pools: '999999',
  signatures: '999999',
  'content-templates': '999999',
  caps: '999999',
  'word-lists': '999999',
  reviews: '999999998',
  batches: '999999999',
  messages: '32767999967232',
  media: 'ab'.repeat(32),
  events: '32767999967233',
  phone: '13899999999',
};

const capped = { scope: 'subscription', period: 'day', count: 100 } as const;

beforeAll(async () => {
  platform = await startMmsPlatform({ roles: ['api'] });
  const { management } = platform.app;
  await change(management, async (sql) => {
    for (const [token, accountId] of [
      [tokens.aim, stranger.aim],
      [tokens.mms, stranger.mms],
      [tokens.ownAim, owner.aim],
      [tokens.ownMms, owner.mms],
    ] as const)
      await createToken(sql, { name: token, caller: { role: 'account', accountId }, token });
    await createSubscription(sql, management, {
      id: 599n,
      accountId: stranger.aim,
      productId: 3001n,
      spId: strangerSpId,
      password,
      priceE4: 500n,
      extension: '99',
    });
    await payIn(sql, 599n, { amountE4: 10_000n, note: null, at: platform.clock(), idempotencyKey: null });
    await createSignature(sql, { accountId: owner.aim, name: secret });
    await createSignature(sql, { accountId: stranger.aim, name: '别人' });
  });
  const aim = await platform.aim(
    'send-aim',
    { mobiles: JSON.stringify(phones), content: `【${secret}】有券 $url$`, template_id: '101', ext: '77' },
    { headers: { 'idempotency-key': 'shared-key' } },
  );
  expect(aim.json).toMatchObject({ code: 0 });
  const batch = BigInt(String(aim.json['msg_id']));
  await platform.deliver(batch);
  await platform.reply(phones[0], `${secret}的回复`, '77');

  const own = await change(platform.app.management, async (sql) => {
    await changeSubscription(sql, null, 500001n, { unmatched: 'review' });
    const wanted = { accountId: owner.aim, text: `【${secret}】{5}`, verdict: null, enabled: false, note: secret } as const;
    return { template: await createContentTemplate(sql, wanted), cap: await createCap(sql, { ...capped, subjectId: 500001n }) };
  });
  const held = await platform.aim('send-aim', {
    mobiles: JSON.stringify(phones),
    content: `【${secret}】等一等 $url$`,
    template_id: '101',
  });
  expect(held.json).toMatchObject({ code: 0 });
  await change(platform.app.management, (sql) => changeSubscription(sql, null, 500001n, { unmatched: 'pass' }));

  const data = (await picture('png', 20, 20, 5)).toString('base64');
  const content = [
    [
      { con_type: 'text', ext_type: 'txt', data: secret },
      { con_type: 'image', ext_type: 'png', data },
    ],
  ];
  const made = await platform.mms('templateCreate', { title: secret, purpose: secret, sign_name: '鸿雁', content });
  const planned = await platform.mms('batchSend', {
    product_id: 1018,
    phone: phones,
    sign_name: '鸿雁',
    title: secret,
    content,
    send_time: '2099-01-01 00:00:00'.replace('2099-01-01', new Date(Date.now() + 5 * 86_400_000).toISOString().slice(0, 10)),
    request_id: 'shared-request',
  });
  expect([made.json, planned.json]).toMatchObject([{ code: 'OK' }, { code: 'OK' }]);
  const [list] = await sql()<{ id: bigint }[]>`select id from blocklists where kind = 'subscription' and subject_id = 500001`;
  const [signature] = await sql()<{ id: bigint }[]>`select id from signatures where account_id = ${owner.aim} and name = ${secret}`;
  const [medium] = await sql()<{ sha256: Buffer }[]>`select sha256 from media where account_id = ${owner.mms}`;
  things = {
    accounts: String(owner.aim),
    subscriptions: '500001',
    products: '3002',
    templates: '101',
    mmsTemplates: String(made.json['template_id']),
    blocklists: String(list?.id),
    channels: '1',
    pools: '1',
    signatures: String(signature?.id),
    'content-templates': String(own.template.id),
    caps: String(own.cap.id),
    'word-lists': '1',
    reviews: String(held.json['msg_id']),
    batches: String(planned.json['task_id']),
    messages: String(messageIdInBatch(batch, 0)),
    media: medium?.sha256.toString('hex') ?? '',
    events: String(messageIdInBatch(batch, 1)),
    phone: phones[1],
  };
});
afterAll(() => platform.stop());

// ── what can be asked ────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly anyOf?: readonly Schema[];
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly pattern?: string;
}
interface Parameter {
  readonly name: string;
  readonly in: 'path' | 'query' | 'header';
  readonly required?: boolean;
  readonly schema: Schema;
}
interface Operation {
  readonly path: string;
  readonly method: string;
  readonly description?: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
}

async function operationsOf(): Promise<Operation[]> {
  const document = JSON.parse((await platform.call('/v1/openapi.json')).text) as {
    paths: Record<string, Record<string, Omit<Operation, 'path' | 'method'>>>;
  };
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })),
  );
}

/** Parameters that name nothing of anybody's. */
const harmless = new Set([
  'limit',
  'cursor',
  'from',
  'to',
  'state',
  'kind',
  'medium',
  'name',
  'idempotency-key',
  'reason',
  'serviceId',
  'vaspId',
  'vasId',
  'content',
  'title',
  'sendAt',
  'text',
  'note',
  'verdict',
  'owner',
  'search',
  'scope',
  'period',
  'words',
  'provinces',
  'invalid',
  'mode',
  'origin',
  'source',
]);

/** Which thing a parameter means; null: none. */
function meaningOf(path: string, name: string): string | null {
  const meanings: Readonly<Record<string, string>> = {
    accountId: 'accounts',
    subscriptionId: 'subscriptions',
    productId: 'products',
    batchId: 'batches',
    eventId: 'events',
    ids: 'events',
    phone: 'phone',
    number: 'phone',
    numbers: 'phone',
    subjectId: 'subscriptions',
    sha256: 'media',
    poolId: 'pools',
    spId: 'subscriptions',
    channelId: 'channels',
  };
  if (name === 'id') {
    const kind = /^\/v1\/([\w-]+)\/\{id\}/.exec(path)?.[1] ?? '';
    const thing = path.endsWith('/media/{sha256}') && kind === 'templates' ? 'mmsTemplates' : kind;
    if (!(thing in nobodys)) throw new Error(`tell this test what the id in ${path} is of`);
    return thing;
  }
  if (meanings[name] !== undefined) return meanings[name];
  if (harmless.has(name)) return null;
  throw new Error(`tell this test what ${name} of ${path} means`);
}

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
}

/** The request with these optional parameters, about the things of one side. */
function ask(
  { path, method, parameters = [], requestBody }: Operation,
  side: Readonly<Record<string, string>>,
  optional: string | null,
): Asked {
  let url = path;
  const query = new URLSearchParams();
  for (const { name, in: where, required } of parameters) {
    if (where === 'header' || (where === 'query' && required !== true && name !== optional)) continue;
    const thing = meaningOf(path, name);
    const value = thing === null ? 'x' : (side[thing] ?? '');
    if (where === 'path') url = url.replace(`{${name}}`, value);
    else query.set(name, value);
  }
  const schema = Object.values(requestBody?.content ?? {})[0]?.schema;
  const body = schema && bodyOf(path, schema, side, optional);
  return { method, path: query.size > 0 ? `${url}?${query.toString()}` : url, ...(body !== undefined && { body }) };
}

/** Something in the shape of the schema: of properties only those that must be there, and the one that is asked for. */
function bodyOf(path: string, schema: Schema, side: Readonly<Record<string, string>>, optional: string | null, name = ''): unknown {
  if (schema.anyOf?.[0]) return bodyOf(path, schema.anyOf[0], side, optional, name);
  if (schema.properties) {
    const wanted = Object.entries(schema.properties).filter(([name]) => schema.required?.includes(name) || name === optional);
    return Object.fromEntries(wanted.map(([name, one]) => [name, bodyOf(path, one, side, optional, name)]));
  }
  // No two texts of an account may be the same.
  if (name === 'text') return randomUUID();
  if (name === 'card') return { layout: 'image_text', title: 'x' };
  if (schema.enum) return schema.enum[0];
  if (schema.type === 'array') return [bodyOf(path, schema.items ?? {}, side, optional, name)];
  const thing = name === '' || !/id$|Id$|^ids$|phone|numbers/.test(name) ? null : meaningOf(path, name);
  if (schema.type === 'integer' || schema.type === 'number') return thing === null ? 1 : Number(side[thing]);
  if (schema.type === 'boolean') return true;
  if (thing !== null) return side[thing];
  return schema.pattern?.includes('0-9') ? '1' : 'x';
}

/** The names of parameters that need not be given, so each is tried by itself; null: none of them. */
function optionalOf({ parameters = [], requestBody }: Operation): (string | null)[] {
  const schema = Object.values(requestBody?.content ?? {})[0]?.schema;
  const inQuery = parameters.filter(({ in: where, required }) => where === 'query' && required !== true).map(({ name }) => name);
  const inBody = Object.keys(schema?.properties ?? {}).filter((name) => !schema?.required?.includes(name));
  return [null, ...[...inQuery, ...inBody].filter((name) => !['limit', 'cursor', 'from', 'to', 'state'].includes(name))];
}

const call = ({ method, path, body }: Asked, token: string) =>
  platform.call(path, {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body !== undefined && { 'content-type': 'application/json' }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });

/** Every row that is an owner's, of every table that says whose its rows are. */
async function belongings(): Promise<Record<string, unknown>> {
  const tables = await sql()<{ name: string }[]>`
    select c.relname as name from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'account_id'
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by 1`;
  const all: Record<string, unknown> = {};
  for (const { name } of [...tables, { name: 'accounts' }, { name: 'blocked_numbers' }]) {
    const whose = name === 'accounts' ? 'id in (1, 11)' : name === 'blocked_numbers' ? 'true' : 'account_id in (1, 11)';
    const [row] = await sql().unsafe<{ rows: string }[]>(
      `select coalesce(json_agg(t order by t::text), '[]')::text as rows from ${name} t where ${whose}`,
    );
    all[name] = JSON.parse(row?.rows ?? '');
  }
  return all;
}

describe('with the token of another tenant', () => {
  it.for(['aim', 'mms'] as const)(
    'nothing is seen, changed or told from what does not exist (a customer of %s)',
    { timeout: 60_000 },
    async (who) => {
      const before = await belongings();
      expect(Object.keys(before)).toEqual(
        expect.arrayContaining(['batches', 'messages', 'templates', 'parcels', 'replies', 'balances', 'media']),
      );
      let walked = 0;
      for (const operation of await operationsOf())
        for (const optional of optionalOf(operation)) {
          const what = `${operation.method} ${operation.path} ${optional ?? ''}`;
          const theirs = await call(ask(operation, things, optional), tokens[who]);
          const missing = await call(ask(operation, nobodys, optional), tokens[who]);
          walked++;
          const named = (text: string, side: Readonly<Record<string, string>>) =>
            Object.entries(side).reduce(
              (text, [name, value]) => text.replaceAll(new RegExp(`(?<!\\d)${value}(?!\\d)`, 'g'), `<${name}>`),
              text,
            );
          expect(theirs.status, what).toBe(missing.status);
          expect(theirs.status, `${what} ${theirs.text}`).toBeLessThan(500);
          // Errors may repeat what was asked for; answers of one's own things change from call to call.
          if (theirs.status >= 400) expect(named(theirs.text, things), what).toBe(named(missing.text, nobodys));
          if (operation.path !== '/v1/openapi.json')
            for (const mine of [secret, ...phones, things['media'] ?? '', things['batches'] ?? '', 'shared-key', '500001'])
              if (!JSON.stringify(ask(operation, things, optional)).includes(mine)) expect(theirs.text, what).not.toContain(mine);
        }
      expect(walked).toBeGreaterThan(90);
      expect(await belongings()).toEqual(before);
    },
  );

  it('the walk finds the owner’s things with the owner’s token', async () => {
    const found = new Set<string>();
    for (const operation of (await operationsOf()).filter(({ method }) => method === 'GET'))
      for (const token of [tokens.ownAim, tokens.ownMms]) {
        const { status } = await call(ask(operation, things, null), token);
        if (status === 200 && operation.path.includes('{')) found.add(operation.path);
      }
    expect([...found].sort()).toEqual([
      '/v1/accounts/{id}',
      '/v1/batches/{id}',
      '/v1/batches/{id}/media/{sha256}',
      '/v1/blocklists/{id}/numbers',
      '/v1/content-templates/{id}',
      '/v1/messages/{id}',
      '/v1/products/{id}',
      '/v1/reviews/{id}',
      '/v1/subscriptions/{id}',
      '/v1/templates/{id}',
      '/v1/templates/{id}/media/{sha256}',
    ]);
  });

  it('the cursor of somebody’s list shows nothing of that list', async () => {
    const lists = (await operationsOf()).filter(
      ({ method, path, parameters }) => method === 'GET' && !path.includes('{') && parameters?.some(({ name }) => name === 'cursor'),
    );
    let cursors = 0;
    for (const operation of lists) {
      const { path } = ask(operation, things, null);
      const first = await call({ method: 'GET', path: `${path}${path.includes('?') ? '&' : '?'}limit=1` }, tokens.ownAim);
      const next = first.json['next'];
      if (typeof next !== 'string') continue;
      cursors++;
      const { status, text } = await call(
        { method: 'GET', path: `${path}${path.includes('?') ? '&' : '?'}cursor=${encodeURIComponent(next)}` },
        tokens.aim,
      );
      expect([200, 400, 403, 404], path).toContain(status);
      for (const mine of [secret, ...phones, '500001']) if (!path.includes(mine)) expect(text, path).not.toContain(mine);
    }
    expect(cursors).toBeGreaterThan(2);
  });

  it('what is another’s takes as long to refuse as what does not exist', { timeout: 60_000, retry: 3 }, async () => {
    const single = (await operationsOf()).filter(({ method, path }) => method === 'GET' && path.includes('{'));
    const median = (times: number[]): number => times.sort((a, b) => a - b)[times.length >> 1] ?? 0;
    for (const operation of single) {
      const times: Record<'theirs' | 'missing', number[]> = { theirs: [], missing: [] };
      for (let n = 0; n < 40; n++)
        for (const [side, of] of [
          ['theirs', things],
          ['missing', nobodys],
        ] as const) {
          const began = performance.now();
          await call(ask(operation, of, null), tokens.aim);
          times[side].push(performance.now() - began);
        }
      const [theirs, missing] = [median(times.theirs), median(times.missing)];
      // One query more would be seen; a neighbour on the same machine should not be.
      expect(Math.abs(theirs - missing), `${operation.path}: ${theirs} and ${missing} ms`).toBeLessThan(
        Math.max(1.5, 0.5 * Math.min(theirs, missing)),
      );
    }
  });
});

describe('through the customers’ APIs', () => {
  const strangerForm = { sp_id: String(strangerSpId), password: md5(password) };
  const sendAs = (form: Record<string, string>, headers: Record<string, string> = {}) =>
    platform.aim(
      'send-aim',
      { ...strangerForm, mobiles: '["13877771111"]', content: '【别人】$url$', template_id: '104', ...form },
      { headers },
    );
  const strangerMms = (endpoint: string, parameters: Record<string, unknown>) =>
    platform.mms(endpoint, { api_id: 'mms-other', product_id: 1018, phone: ['13800000000'], sign_name: '别人', title: 'x', ...parameters });

  it('AIM: another’s template is one that does not exist, whatever its state', async () => {
    const [approved, pending, missing] = await Promise.all(['101', '103', '999'].map((id) => sendAs({ template_id: id })));
    expect(missing?.json).toMatchObject({ code: 10702 });
    expect([approved?.text, pending?.text]).toEqual([missing?.text.replace('999', '101'), missing?.text.replace('999', '103')]);
  });

  it('AIM: a key that another has used is one’s own', async () => {
    const answer = await sendAs({}, { 'idempotency-key': 'shared-key' });
    expect(answer.json).toMatchObject({ code: 0 });
    expect(answer.json['msg_id']).not.toBe(String(batchIdOf(BigInt(things['messages'] ?? ''))));
  });

  it('AIM: pulls give one’s own only, and leave another’s where they are', async () => {
    const before = await sql()`select count(*) from parcels where account_id = ${owner.aim}`;
    for (const endpoint of ['report', 'get-reply']) {
      const { json } = await platform.aim(endpoint, strangerForm);
      expect(json).toMatchObject({ code: 0, data: '' });
    }
    expect(await sql()`select count(*) from parcels where account_id = ${owner.aim}`).toEqual(before);
  });

  it('AIM: another’s balance and password are not one’s own', async () => {
    expect((await platform.aim('balance', { ...strangerForm, sp_id: '500001' })).json).toMatchObject({ code: 10102 });
    expect((await platform.aim('balance', strangerForm)).json).toMatchObject({ code: 0 });
  });

  it('MMS: another’s template, signature, product and request id are nobody’s', async () => {
    const template = things['mmsTemplates'] ?? '';
    const [theirs, missing] = [
      await strangerMms('batchSend', { template_id: template }),
      await strangerMms('batchSend', { template_id: '999998' }),
    ];
    expect(missing.json).toMatchObject({ code: 'TemplateNotFound' });
    expect(theirs.text).toBe(missing.text.replace('999998', template));
    const content = [[{ con_type: 'text', ext_type: 'txt', data: 'x' }]];
    const [signature, nobodysSignature] = [
      await strangerMms('batchSend', { content, sign_name: '鸿雁' }),
      await strangerMms('batchSend', { content, sign_name: '没有' }),
    ];
    expect(nobodysSignature.json).toMatchObject({ code: 'SignNameNotApproved' });
    expect(signature.text).toBe(nobodysSignature.text.replace('没有', '鸿雁'));
    const [product, nobodysProduct] = [
      await strangerMms('batchSend', { content, product_id: 1020 }),
      await strangerMms('batchSend', { content, product_id: 9999 }),
    ];
    expect(nobodysProduct.json).toMatchObject({ code: 'ProductInvalid' });
    expect(product.text).toBe(nobodysProduct.text.replace('9999', '1020'));
    const own = await strangerMms('batchSend', { content, request_id: 'shared-request' });
    expect(own.json).toMatchObject({ code: 'OK' });
    expect(own.json['task_id']).not.toBe(things['batches']);
    expect((await platform.mms('balance', { api_id: 'mms-other' })).text).not.toContain('188888');
  });
});
