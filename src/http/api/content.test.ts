import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Platform, startAimPlatform } from '../../../test/kit/aim-platform.ts';
import { createToken } from '../../core/config/tokens.ts';

/** Just enough of a type to look into answers; what they hold is what the tests are about. */
interface Body {
  readonly [key: string]: unknown;
  readonly id: number;
  readonly data: readonly Body[];
  readonly next: string | null;
  readonly error: { readonly code: string; readonly message: string };
}

let platform: Platform;
const tokens = { operator: '', demo: '', other: '' };
const demo = 1;

beforeAll(async () => {
  platform = await startAimPlatform();
  const { sql } = platform.app.management.db;
  tokens.operator = await createToken(sql, { name: 'operator', caller: { role: 'operator' } });
  tokens.demo = await createToken(sql, { name: 'demo', caller: { role: 'account', accountId: BigInt(demo) } });
  tokens.other = await createToken(sql, { name: 'other', caller: { role: 'account', accountId: 4n } });
});
afterAll(() => platform.stop());

async function call(who: keyof typeof tokens, method: string, path: string, body?: unknown, type = 'application/json') {
  const { status, text } = await platform.call(`/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${tokens[who]}`, ...(body !== undefined && { 'content-type': type }) },
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  return { status, body: JSON.parse(text) as Body };
}

test('the operator makes, finds, changes and deletes content templates', async () => {
  const made = await call('operator', 'POST', '/content-templates', { text: '【甲】您的验证码是{6}', verdict: 'pass', note: 'codes' });
  const shared = { accountId: null, text: '【甲】您的验证码是{6}', verdict: 'pass', enabled: true, note: 'codes' };
  expect(made).toMatchObject({ status: 201, body: shared });
  const own = await call('operator', 'POST', '/content-templates', { accountId: demo, text: '乙', verdict: 'intercept', enabled: false });
  expect(own).toMatchObject({ status: 201, body: { accountId: demo, enabled: false } });

  const ids = async (query: string) => (await call('operator', 'GET', `/content-templates?${query}`)).body.data.map(({ id }) => id);
  const [first, second] = [made.body.id, own.body.id];
  expect(await ids('')).toEqual([second, first]);
  expect(await ids('owner=platform')).toEqual([first]);
  expect(await ids('owner=accounts')).toEqual([second]);
  expect(await ids(`accountId=${demo}`)).toEqual([second]);
  expect(await ids('state=enabled')).toEqual([first]);
  expect(await ids('state=disabled&verdict=intercept')).toEqual([second]);
  const page = (await call('operator', 'GET', '/content-templates?limit=1')).body;
  expect([page.data.map(({ id }) => id), await ids(`limit=1&cursor=${page.next}`)]).toEqual([[second], [first]]);

  const changed = await call('operator', 'PATCH', `/content-templates/${second}`, { enabled: true, verdict: 'review' });
  expect(changed).toMatchObject({ status: 200, body: { text: '乙', enabled: true, verdict: 'review' } });
  for (const id of [first, second]) expect((await call('operator', 'DELETE', `/content-templates/${id}`)).body.id).toBe(id);
  expect((await call('operator', 'GET', `/content-templates/${first}`)).status).toBe(404);
  expect((await call('operator', 'DELETE', `/content-templates/${first}`)).status).toBe(404);
});

test('what is no template is refused with its place', async () => {
  const wrong: [unknown, number, string][] = [
    [{ verdict: 'pass' }, 400, 'text: required'],
    [{ text: 'x' }, 400, 'verdict: required'],
    [{ text: 'x', verdict: 'block' }, 400, 'verdict: must be one of intercept, review, pass'],
    [{ text: '{0}', verdict: 'pass' }, 422, 'text: {0}: a wildcard stands for 1 to 1000 characters at most'],
    [{ text: 'x', verdict: 'pass', accountId: 999_999 }, 422, 'accountId: no such account'],
  ];
  for (const [body, status, message] of wrong)
    expect(await call('operator', 'POST', '/content-templates', body)).toMatchObject({ status, body: { error: { message } } });
  await call('operator', 'POST', '/content-templates', { text: 'twice', verdict: 'pass' });
  expect(await call('operator', 'POST', '/content-templates', { text: 'twice', verdict: 'pass' })).toMatchObject({ status: 409 });
});

test('an account wishes for templates, the operator decides, and nobody else sees them', async () => {
  const { status, body: wish } = await call('demo', 'POST', '/content-templates', { text: '丙{}', note: 'please' });
  expect([status, wish]).toMatchObject([201, { accountId: demo, verdict: null, enabled: false, note: 'please' }]);
  for (const [method, path, body] of [
    ['POST', '/content-templates', { text: 'x', verdict: 'pass' }],
    ['PATCH', `/content-templates/${wish.id}`, { enabled: true }],
  ] as const)
    expect(await call('demo', method, path, body)).toMatchObject({ status: 403, body: { error: { code: 'forbidden' } } });
  for (const [method, body] of [['GET'], ['PATCH', { note: 'x' }], ['DELETE']] as const) {
    const [theirs, missing] = [
      await call('other', method, `/content-templates/${wish.id}`, body),
      await call('other', method, '/content-templates/999999', body),
    ];
    expect([theirs.status, theirs.body]).toEqual([404, missing.body]);
  }
  expect((await call('other', 'POST', '/content-templates', { accountId: demo, text: 'x' })).status).toBe(404);
  expect((await call('other', 'GET', '/content-templates')).body.data).toEqual([]);
  const ids = async (query: string) => (await call('operator', 'GET', `/content-templates?${query}`)).body.data.map(({ id }) => id);
  expect(await ids('state=pending')).toEqual([wish.id]);

  const path = `/content-templates/${wish.id}`;
  await call('operator', 'PATCH', path, { verdict: 'pass', enabled: true });
  expect((await call('demo', 'GET', '/content-templates')).body.data).toMatchObject([{ id: wish.id, verdict: 'pass', enabled: true }]);
  expect(await call('demo', 'PATCH', path, { text: '丙丙{}' })).toMatchObject({ status: 200, body: { verdict: null, enabled: false } });
  await call('operator', 'PATCH', path, { verdict: 'intercept', enabled: true });
  expect((await call('demo', 'DELETE', path)).status).toBe(409);
  await call('operator', 'PATCH', path, { verdict: 'pass' });
  expect((await call('demo', 'DELETE', path)).status).toBe(200);
});

test('lists of words are the operator’s', async () => {
  const { body: list } = await call('operator', 'POST', '/word-lists', { name: '赌博', verdict: 'intercept' });
  const paths = ['/word-lists', `/word-lists/${list.id}`, `/word-lists/${list.id}/words`];
  for (const path of paths) expect((await call('demo', 'GET', path)).status).toBe(403);
  expect((await call('demo', 'POST', `/word-lists/${list.id}/import`, '词', 'text/plain')).status).toBe(403);
  expect(list).toMatchObject({ name: '赌博', verdict: 'intercept', enabled: true, words: 0 });
  const path = `/word-lists/${list.id}`;

  expect((await call('operator', 'POST', `${path}/words`, { words: ['赌博', '赌 博', 'Ｂet', '彩票'] })).body).toEqual({ added: 3 });
  expect((await call('operator', 'GET', `${path}/words`)).body.data).toEqual([
    { word: 'Ｂet', folded: 'bet' },
    { word: '彩票', folded: '彩票' },
    { word: '赌博', folded: '赌博' },
  ]);
  const page = (await call('operator', 'GET', `${path}/words?limit=2`)).body;
  expect((await call('operator', 'GET', `${path}/words?limit=2&cursor=${page.next}`)).body).toMatchObject({
    data: [{ word: '赌博' }],
    next: null,
  });
  expect((await call('operator', 'GET', `${path}/words?search=${encodeURIComponent('B e')}`)).body.data).toMatchObject([{ word: 'Ｂet' }]);
  expect(await call('operator', 'POST', `${path}/words`, { words: ['好', '!'] })).toMatchObject({
    status: 422,
    body: { error: { message: 'words[1]: has no letter or digit' } },
  });
  expect((await call('operator', 'DELETE', `${path}/words`, { words: ['b.e.t', '没有'] })).body).toEqual({ removed: 1 });
  expect((await call('operator', 'PATCH', path, { verdict: 'review', enabled: false })).body).toMatchObject({
    verdict: 'review',
    enabled: false,
    words: 2,
  });
  expect((await call('operator', 'GET', '/word-lists')).body.data).toMatchObject([{ id: list.id }]);
  expect((await call('operator', 'DELETE', path)).body).toMatchObject({ id: list.id, words: 2 });
  for (const [method, suffix, body] of [
    ['GET', ''],
    ['GET', '/words'],
    ['POST', '/words', { words: ['x'] }],
    ['DELETE', ''],
  ] as const)
    expect((await call('operator', method, `${path}${suffix}`, body)).status).toBe(404);
});

test('a hundred thousand words come in one request, all or none', async () => {
  const { body: list } = await call('operator', 'POST', '/word-lists', { name: 'many', verdict: 'review' });
  const put = (text: string, type = 'text/plain') => call('operator', 'POST', `/word-lists/${list.id}/import`, text, type);
  const lines = Array.from({ length: 100_000 }, (_, n) => `词${n.toString(36)}`);
  expect(await put(`\ufeff${lines.join('\r\n')}\n\n  词0 \n`)).toEqual({ status: 200, body: { added: 100_000 } });
  expect((await call('operator', 'GET', `/word-lists/${list.id}`)).body).toMatchObject({ words: 100_000 });
  expect(await put('新词\n\n---\n')).toMatchObject({ status: 422, body: { error: { message: 'line 3: has no letter or digit' } } });
  expect(await put('a\0b')).toMatchObject({ status: 400, body: { error: { message: 'body: holds a character that is none' } } });
  expect(await put('{}', 'application/json')).toMatchObject({ status: 415, body: { error: { message: 'the body must be text/plain' } } });
  expect((await put('长'.repeat(3 << 20))).status).toBe(413);
  expect((await call('operator', 'GET', `/word-lists/${list.id}`)).body).toMatchObject({ words: 100_000 });
  expect((await call('operator', 'POST', '/word-lists', 'x', 'text/plain')).status).toBe(415);
}, 60_000);
