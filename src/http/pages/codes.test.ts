import { readdirSync, readFileSync } from 'node:fs';
import Fastify from 'fastify';
import { expect, it } from 'vitest';
import { magicOf } from '../../../sandbox/magic.ts';
import { codes, explain } from '../../core/watch/codes.ts';
import { codesPage, createCodePages } from './codes.ts';

const server = Fastify();
await createCodePages().routes(server);

const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8');

it('explains a code to people and to programs, in both languages', async () => {
  const page = await server.inject('/codes/WL:CPL');
  expect(page).toMatchObject({ statusCode: 200, headers: { 'content-type': 'text/html; charset=utf-8' } });
  expect(page.body).toContain('超过频次限制');
  expect(page.body).toContain('frequency cap');
  const json = await server.inject({ url: '/codes/10011', headers: { accept: 'application/json' } });
  expect(json.json()).toMatchObject({ code: '10011', kind: 'aim', zh: { meaning: '余额不足' } });
});

it('explains a carrier’s code by its family, and says so when there is none', async () => {
  expect(explain('MK:0012')?.code).toBe('MK:*');
  expect((await server.inject('/codes/MK:0012')).body).toContain('手机侧错误');
  for (const unknown of ['nonsense', '<script>', 'x'.repeat(90), 'constructor', 'ZZ:0001'])
    expect((await server.inject(`/codes/${encodeURIComponent(unknown)}`)).statusCode, unknown).toBe(404);
});

it('lists each code once, with every word in both languages', () => {
  expect(new Set(codes.map(({ code }) => code)).size).toBe(codes.length);
  for (const { code, zh, en } of codes) for (const word of [...Object.values(zh), ...Object.values(en)]) expect(word, code).toMatch(/\S/);
});

it('knows every code that the sources can answer or report', () => {
  const known = new Set(codes.map(({ code }) => code));
  const found = new Set<string>();
  for (const room of ['../../core/', '../', '../../workers/'])
    for (const file of readdirSync(new URL(room, import.meta.url), { recursive: true, encoding: 'utf8' }))
      if (file.endsWith('.ts') && !/\.test\.ts$|(^|\/)codes\.ts$/.test(file))
        for (const [code] of read(room + file).matchAll(/WL:[A-Z]+/g)) found.add(code);
  expect(found.size).toBeGreaterThanOrEqual(20);
  for (const [, code = ''] of read('../dialects/yit3/aim.ts').matchAll(/^ {2}(1\d{4}): '/gm)) found.add(code);
  for (const [, code = ''] of read('../dialects/ihuyi/mms-v1.ts').matchAll(/^ {2}\| '([A-Z]\w+)'/gm)) found.add(code);
  expect(found.size).toBeGreaterThanOrEqual(53);
  expect([...found].filter((code) => !known.has(code))).toEqual([]);
});

it('docs/codes.md says what the tables say', async () => {
  await expect(codesPage(magicOf)).toMatchFileSnapshot('../../../docs/codes.md');
});
