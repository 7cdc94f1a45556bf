import http from 'node:http';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { cert, key } from '../../test/kit/certificate.ts';
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

describe('a hostile server', () => {
  const opened: { close(): void }[] = [];
  afterAll(() => opened.forEach((server) => server.close()));

  /** Says whatever a test wants on a plain socket, once it has heard something. */
  async function serverThat(speak: (socket: net.Socket) => void): Promise<string> {
    const sockets = new Set<net.Socket>();
    const server = net.createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.once('data', () => speak(socket));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    opened.push({ close: () => (server.close(), sockets.forEach((socket) => socket.destroy())) });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  }
  const again = (socket: net.Socket, text: string, everyMs: number) => {
    const timer = setInterval(() => socket.write(text), everyMs);
    socket.once('close', () => clearInterval(timer));
  };
  /** Pushes as fast as it is taken. */
  const pour = (socket: net.Socket, text: string) => {
    const more = (): void => {
      while (!socket.destroyed && socket.write(text));
      if (!socket.destroyed) socket.once('drain', more);
    };
    more();
  };
  const head = 'HTTP/1.1 200 OK\r\n';
  const loopback = ['127.0.0.0/8', '::1'];

  it.concurrent.each<[string, number | null, (socket: net.Socket) => void]>([
    ['that never answers', null, () => {}],
    ['that sends its head byte by byte', null, (socket) => again(socket, 'H', 300)],
    ['that sends header after header', null, (socket) => again(socket.writable ? (socket.write(head), socket) : socket, 'X: y\r\n', 300)],
    ['whose body comes byte by byte', null, (socket) => (socket.write(`${head}Content-Length: 1000\r\n\r\n`), again(socket, 'x', 300))],
    [
      'whose chunks never end',
      null,
      (socket) => (socket.write(`${head}Transfer-Encoding: chunked\r\n\r\n`), again(socket, '1\r\nx\r\n', 300)),
    ],
    ['that says 103 for ever', null, (socket) => again(socket, 'HTTP/1.1 103 Early Hints\r\n\r\n', 300)],
  ])('%s is given up after ten seconds', async (_, status, speak) => {
    const began = performance.now();
    expect((await posted(await serverThat(speak), loopback)).status).toBe(status);
    expect(performance.now() - began).toBeLessThan(15_000);
  });

  it.each<[string, number | null, (socket: net.Socket) => void]>([
    ['an endless body', 200, (socket) => (socket.write(`${head}\r\n`), pour(socket, 'x'.repeat(65_536)))],
    [
      'endless chunks',
      200,
      (socket) => (socket.write(`${head}Transfer-Encoding: chunked\r\n\r\n`), pour(socket, `ffff\r\n${'x'.repeat(65_535)}\r\n`)),
    ],
    ['a header without an end', null, (socket) => (socket.write(`${head}X: `), pour(socket, 'x'.repeat(65_536)))],
    ['headers without an end', null, (socket) => (socket.write(head), pour(socket, `X: ${'x'.repeat(1000)}\r\n`))],
    ['what is not HTTP', null, (socket) => pour(socket, 'SSH-2.0-OpenSSH_9.6\r\n')],
    ['two lengths', null, (socket) => socket.write(`${head}Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx`)],
    ['a length beyond all numbers', null, (socket) => socket.write(`${head}Content-Length: ${'9'.repeat(40)}\r\n\r\nx`)],
    ['an answer cut short', null, (socket) => socket.end(`${head}Content-Length: 10\r\n\r\nx`)],
    ['nothing but a hang-up', null, (socket) => socket.destroy()],
  ])('that sends %s is done with at once, and little of it is read', async (_, status, speak) => {
    let read = -1;
    const url = await serverThat((socket) => {
      speak(socket);
      socket.once('close', () => (read = socket.bytesWritten - socket.writableLength));
    });
    const began = performance.now();
    const answer = await posted(url, loopback);
    expect(answer.status).toBe(status);
    expect(answer.text.length).toBeGreaterThan(0);
    expect(answer.text.length).toBeLessThanOrEqual(1024);
    expect(performance.now() - began).toBeLessThan(5000);
    await vi.waitFor(() => expect(read).toBeGreaterThanOrEqual(0));
    expect(read).toBeLessThan(64 << 20);
  });

  it('whose certificate is nobody’s is not told anything', async () => {
    let heard = 0;
    const server = https.createServer({ key, cert }, (request, response) => (heard++, request.resume(), response.end('success')));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    opened.push(server);
    const answer = await posted(`https://127.0.0.1:${(server.address() as AddressInfo).port}/`, loopback);
    expect(answer).toMatchObject({ status: null, text: expect.stringMatching(/certificate/) as string });
    expect(heard).toBe(0);
  });

  it('that speaks no TLS, and one that is not there under any of its addresses, are said to be so', async () => {
    const plain = await serverThat((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    const noTls = await posted(plain.replace('http:', 'https:'), loopback);
    expect(noTls.status).toBeNull();
    expect(noTls.text).not.toBe('');
    const closed = net.createServer();
    await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve));
    const { port } = closed.address() as AddressInfo;
    await new Promise((resolve) => closed.close(resolve));
    expect((await posted(`http://localhost:${port}/`, loopback)).text).toContain('ECONNREFUSED');
  });
});
