import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import * as contract from '../../../contract/index.ts';
import { type Platform, startAimPlatform } from '../../../test/kit/aim-platform.ts';
import { callMms, clientOf } from '../../../test/kit/customers.ts';
import { type PushServer, startPushServer } from '../../../test/kit/mms-platform.ts';
import { until } from '../../../test/kit/processes.ts';
import { changeAccount } from '../../core/catalogue/accounts.ts';
import { change } from '../../core/config/management.ts';
import { createToken } from '../../core/config/tokens.ts';
import * as core from '../../core/content/layouts.ts';
import { provinces } from '../../core/model/configuration.ts';
import { createReports } from '../../core/outcome/reports.ts';
import { addDays, shanghaiDay } from '../../std/shanghai.ts';

interface Operation {
  readonly operationId: string;
  readonly tags: readonly string[];
  readonly parameters?: readonly { readonly name: string; readonly example?: unknown }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly example?: unknown; readonly examples?: object }>> };
  readonly responses: Readonly<Record<string, { readonly content: Readonly<Record<string, { readonly schema: object }>> }>>;
}
interface Document {
  readonly tags: readonly { readonly name: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
}

let platform: Platform;
let customersServer: PushServer;
let token: string;
let text: string;
let document: Document;
let operations: readonly (Operation & { readonly method: string; readonly path: string })[];

beforeAll(async () => {
  customersServer = await startPushServer();
  // As it is installed: with nothing in it.
  platform = await startAimPlatform({
    prepare: async () => {},
    channelId: 600_001n,
    roles: ['api', 'push'],
    pushAllow: ['127.0.0.0/8'],
  });
  token = await createToken(platform.app.management.db.sql, { name: 'operator', caller: { role: 'operator' } });
  ({ text } = await platform.call('/v1/openapi.json'));
  document = JSON.parse(text);
  operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ ...operation, method: method.toUpperCase(), path })),
  );
});
afterAll(async () => {
  await platform.stop();
  customersServer.close();
});

describe('the document', () => {
  test('as it is committed is the one that the running program serves', async () => {
    await expect(
      `${JSON.stringify(document, null, 2)}\n`,
      'contract/openapi.json is not the document that the program serves at /v1/openapi.json. Write it anew with `npm run openapi`, and look at what changes for clients',
    ).toMatchFileSnapshot('../../../contract/openapi.json');
  });

  test('names every operation by a verb and a noun, once, and files it under a tag that it explains', () => {
    const names = operations.map(({ operationId }) => operationId);
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^[a-z]+([A-Z][a-z]+)+$/);
    const tags = document.tags.map(({ name }) => name);
    expect([...new Set(operations.flatMap((operation) => operation.tags))].sort()).toEqual([...tags].sort());
  });

  test('shows an example of every body and of every parameter of a path', () => {
    for (const { operationId, path, parameters = [], requestBody } of operations) {
      for (const media of Object.values(requestBody?.content ?? {})) expect(media.example ?? media.examples, operationId).toBeDefined();
      for (const { name, example } of parameters) if (path.includes(`{${name}}`)) expect(example, `${operationId} ${name}`).toBeDefined();
    }
  });
});

test('what the contract and the core both declare, since neither imports the other, is the same', () => {
  expect(contract.cardSchema).toEqual(core.cardSchema);
  expect(contract.provinces).toEqual(provinces);
});

// ── the examples ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A picture of one dot. */
const picture = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const frames = [
  [
    { con_type: 'text', ext_type: 'txt', data: '本周优惠' },
    { con_type: 'image', ext_type: 'png', data: picture },
  ],
];

/** What was answered last to each operation. */
const answers = new Map<string, Readonly<Record<string, unknown>>>();
const answered = (operation: string, field: string): string => String(answers.get(operation)?.[field]);

async function mms(endpoint: string, parameters: object): Promise<void> {
  const credentials = { apiId: answered('getAccount', 'apiId'), apiKey: answered('rotateApiKey', 'apiKey') };
  await callMms(platform, credentials, endpoint, { content: frames, sign_name: '鸿雁', ...parameters });
}

/** The customer that the examples take on, sending its card. */
const customer = () =>
  clientOf(platform, {
    spId: answered('getSubscription', 'spId'),
    password: 'a-long-password',
    templateId: Number(answered('getTemplate', 'id')),
  });

const happenings: Readonly<Record<keyof typeof contract.happenings, () => Promise<void>>> = {
  async cardSent() {
    const { msgId } = await customer().submit(['13800000001', '13800000002', '13800000003']);
    await platform.deliver(BigInt(msgId));
    await platform.reply('13800000001', '好的');
    expect(await customer().reports()).toHaveLength(3);
  },
  strangerWrote: () => platform.replyTo('13800000009', '有人吗', '99'),
  async reportLost() {
    const { db, directory } = platform.app.management;
    const lost = { channelId: 600_001n, carrierId: '7', code: 'DELIVRD', delivered: true, phone: '8613800000009', sent: null };
    await createReports({ db, directory, clock: platform.clock }).receive([lost]);
  },
  async loansOffered() {
    for (const content of ['【鸿雁】低息贷款 $url$', '【鸿雁】无息贷款 $url$'])
      expect(await customer().submit(['13800000001'], { content })).toMatchObject({ code: 0 });
  },
  async packageSubmitted() {
    const { management } = platform.app;
    await change(management, (sql) =>
      changeAccount(sql, BigInt(answered('getAccount', 'id')), { pushUrls: { template: `${customersServer.url}/success` } }),
    );
    for (const title of ['七月', '八月']) await mms('templateCreate', { title, purpose: '促销' });
  },
  decisionsPushed: () =>
    until('both decisions are pushed', async () => {
      const { json } = await platform.call(`/v1/pushes?accountId=${answered('getAccount', 'id')}`, {
        headers: { authorization: `Bearer ${token}` },
      });
      return Array.isArray(json['data']) && json['data'].length === 2;
    }),
  packagePlanned: () =>
    mms('batchSend', {
      product_id: Number(answered('createProduct', 'id')),
      phone: ['13800000001'],
      title: '本周优惠',
      send_time: `${addDays(shanghaiDay(platform.clock()), 1)} 10:00:00`,
    }),
};

/** The schema with everything in place of its references, of which none is in itself. */
function whole(schema: object): object {
  const inlined = JSON.stringify(schema, (_key, value) => {
    const name = /^#\/components\/schemas\/(\w+)$/.exec(value?.$ref ?? '')?.[1];
    return name === undefined ? value : whole(document.components.schemas[name] ?? {});
  });
  return JSON.parse(inlined);
}

test('every example is taken by a fresh installation, and answered as the document says', { timeout: 60_000 }, async () => {
  expect([...new Set(contract.examples.map(({ operation }) => operation))].sort()).toEqual(
    operations.map(({ operationId }) => operationId).sort(),
  );
  expect(contract.examples.flatMap(({ after }) => after ?? []).sort()).toEqual(Object.keys(happenings).sort());
  for (const { operation: name, after, path = {}, query = {}, headers = {}, body, id } of contract.examples) {
    if (after) await happenings[after]();
    const operation = operations.find(({ operationId }) => operationId === name);
    if (!operation) throw new Error(`there is no ${name}`);
    const where = Object.entries(path).reduce((url, [name, value]) => url.replace(`{${name}}`, encodeURIComponent(value)), operation.path);
    const asked = new URLSearchParams(Object.entries(query).map(([name, value]): [string, string] => [name, String(value)]));
    const [type] = Object.keys(operation.requestBody?.content ?? {});
    const response = await platform.call(`${where}?${asked.toString()}`, {
      method: operation.method,
      headers: { authorization: `Bearer ${token}`, ...(body !== undefined && type !== undefined && { 'content-type': type }), ...headers },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const { status, text, json } = response;
    answers.set(name, json);
    const [content] = Object.entries(operation.responses[status]?.content ?? {});
    if (!content) throw new Error(`${name} answers ${status}: ${text}`);
    const [answerType, { schema }] = content;
    if (answerType !== 'application/json') {
      expect([answerType, response.headers.get('content-type')]).toEqual(['*/*', 'image/png']);
      continue;
    }
    expect(Compile(whole(schema) as TSchema).Errors(json), `${name}: ${text}`).toEqual([]);
    if (name.startsWith('list')) expect(json['data'], `${name}: ${text}`).not.toEqual([]);
    if (id !== undefined)
      expect(json['id'], `${name}: if something new is made before it, renumber the ids of contract/examples.ts`).toBe(id);
  }
});
