import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createPost } from './post.ts';

/** Listens on every address of this machine, so that whatever gets through arrives. */
let server: http.Server;
let port: number;
let calls = 0;

beforeAll(async () => {
  server = http.createServer((request, response) => {
    calls++;
    if (request.url === '/redirect') response.writeHead(302, { location: '/elsewhere' });
    response.end(request.url === '/long' ? 'x'.repeat(100_000) : 'nul\0 is dropped');
  });
  await new Promise<void>((resolve) => server.listen(0, resolve));
  port = (server.address() as AddressInfo).port;
});

afterAll(() => {
  server.close();
  server.closeAllConnections();
});

async function posted(url: string, allow: readonly string[] = []) {
  const poster = createPost({ allow });
  const before = calls;
  const answer = await poster.post(url, 'text/plain', 'body');
  await poster.close();
  return { ...answer, calls: calls - before };
}

const ourselves = [
  '127.0.0.1',
  '127.1',
  '127.255.255.254',
  '2130706433',
  '0x7f.1',
  '0x7f000001',
  '0177.0.0.1',
  '0',
  '0.0.0.0',
  '[::1]',
  '[::]',
  '[0:0:0:0:0:0:0:1]',
  '[::ffff:127.0.0.1]',
  '[::ffff:7f00:1]',
  '[::127.0.0.1]',
  '[64:ff9b::7f00:1]',
  '[2002:7f00:1::]',
  'localhost',
  'LOCALHOST',
  '１２７.0.0.1',
];
const inner = [
  '10.0.0.1',
  '172.16.0.1',
  '172.31.255.255',
  '192.168.1.1',
  '100.64.0.1',
  '169.254.169.254',
  '192.0.0.192',
  '198.18.0.1',
  '224.0.0.1',
  '255.255.255.255',
  '240.0.0.1',
  '[fe80::1]',
  '[fec0::1]',
  '[fd00:ec2::254]',
  '[fc00::1]',
  '[ff02::1]',
  '[::ffff:169.254.169.254]',
  '[::ffff:10.0.0.1]',
];

it.each([...ourselves, ...inner])('http://%s is not called', async (host) => {
  expect(await posted(`http://${host}:${port}/`)).toMatchObject({
    status: null,
    text: expect.stringContaining('not allowed') as string,
    calls: 0,
  });
});

it('a range that is allowed is called, and no other', async () => {
  expect(await posted(`http://127.0.0.1:${port}/`, ['127.0.0.0/8'])).toMatchObject({ status: 200, calls: 1 });
  expect(await posted(`http://[::ffff:127.0.0.1]:${port}/`, ['127.0.0.1'])).toMatchObject({ status: 200, calls: 1 });
  expect(await posted(`http://[::1]:${port}/`, ['127.0.0.0/8'])).toMatchObject({ status: null, calls: 0 });
  expect(await posted('http://10.0.0.1/', ['127.0.0.0/8'])).toMatchObject({ status: null });
});

it('a redirect is an answer, not an order', async () => {
  expect(await posted(`http://127.0.0.1:${port}/redirect`, ['127.0.0.0/8'])).toMatchObject({ status: 302, calls: 1 });
});

it('the beginning of an answer is kept, without what a text column does not take', async () => {
  expect((await posted(`http://127.0.0.1:${port}/`, ['127.0.0.0/8'])).text).toBe('nul is dropped');
  expect((await posted(`http://127.0.0.1:${port}/long`, ['127.0.0.0/8'])).text).toBe('x'.repeat(1024));
});
