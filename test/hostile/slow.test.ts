/**
 * Slow, greedy or endless callers against a node in a separate process, whose memory can be measured. Other callers are served all the
 * while.
 */
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type { Node } from '../kit/processes.ts';
import { clientOf, type Customer, type Platform, startPlatform, until } from '../kit/platform.ts';

let platform: Platform;
let node: Node;
let customer: Customer;
const sockets = new Set<net.Socket>();
/** Where attackers are; the customer is elsewhere. */
const from = 'X-Forwarded-For: 198.51.100.7\r\n';

beforeAll(async () => {
  platform = await startPlatform();
  customer = await platform.customer();
  // The tests are their own proxy, so that attackers and customers have addresses of their own.
  node = await platform.startNode({ HONGYAN_ROLES: 'api', HONGYAN_TRUSTED_PROXIES: '127.0.0.1', HONGYAN_LOG_LEVEL: 'warn' });
}, 60_000);
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await until('the attackers are gone', () => sockets.size === 0);
});
afterAll(async () => {
  await platform.stop();
});

function connect(): net.Socket {
  const socket = net.connect(node.port, '127.0.0.1');
  sockets.add(socket);
  socket.on('error', () => {});
  socket.once('close', () => sockets.delete(socket));
  return socket;
}

const memory = (): number => 1024 * Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${node.process.pid}/status`, 'utf8'))?.[1]);

/** The slowest of some requests of a customer's. */
async function slowest(): Promise<number> {
  const client = clientOf(node, customer);
  let worst = 0;
  for (let n = 0; n < 10; n++) {
    const began = performance.now();
    await client.balanceE4();
    worst = Math.max(worst, performance.now() - began);
  }
  return worst;
}

it('two thousand callers who never finish hold up nobody', { timeout: 60_000 }, async () => {
  const before = memory();
  const attacks: ((socket: net.Socket) => void)[] = [
    (socket) => socket.write(`POST /api/send-aim HTTP/1.1\r\nHost: x\r\n${from}X-A`),
    (socket) => socket.write(`POST /mms/v1/batchSend HTTP/1.1\r\nHost: x\r\n${from}Content-Length: 20000\r\n\r\n{"api_id":`),
    (socket) => socket.write(`POST /api/send-aim HTTP/1.1\r\nHost: x\r\n${from}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n`),
    (socket) => socket.pause().write(`GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n${from}\r\n`.repeat(20)),
  ];
  for (let n = 0; n < 2000; n++) attacks[n % attacks.length]?.(connect());
  await until('they are connected', () => sockets.size >= 1900 && [...sockets].every(({ connecting }) => !connecting), 20_000);
  await sleep(500);
  expect(await slowest()).toBeLessThan(5000);
  expect(memory() - before).toBeLessThan(300 << 20);
});

it.for(['/api/send-aim', '/mms/v1/batchSend', '/mm7/1', '/v1/accounts'])(
  'bodies of 100 MB to %s are refused before they are sent, and cost nothing',
  { timeout: 60_000 },
  async (path) => {
    const before = memory();
    const piece = Buffer.alloc(1 << 20, '<');
    for (const framing of ['Content-Length: 104857600', 'Transfer-Encoding: chunked'])
      await Promise.all(
        Array.from({ length: 4 }, async () => {
          const socket = connect();
          let heard = '';
          socket.on('data', (chunk) => (heard += chunk.toString()));
          socket.write(`POST ${path} HTTP/1.1\r\nHost: x\r\n${from}Content-Type: application/json\r\n${framing}\r\n\r\n`);
          // Announced, it is refused at once; else as soon as it is more than it may be.
          let sent = 0;
          while (sent < 100 && heard === '' && !socket.destroyed) {
            if (framing.startsWith('T')) socket.write(Buffer.concat([Buffer.from('100000\r\n'), piece, Buffer.from('\r\n')]));
            sent++;
            await sleep(20);
          }
          await until('it is refused', () => heard.includes('\r\n\r\n'), 20_000);
          expect(heard).toMatch(path === '/v1/accounts' ? /^HTTP\/1.1 (401|413) / : /^HTTP\/1.1 413 /);
          // Whoever goes on all the same is read to the end, and nothing of it is kept.
          for (let n = 0; n < 30 && !socket.destroyed; n++) {
            const whole = framing.startsWith('T') ? Buffer.concat([Buffer.from('100000\r\n'), piece, Buffer.from('\r\n')]) : piece;
            if (!socket.write(whole)) await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), sleep(1000)]);
          }
          socket.destroy();
        }),
      );
    expect(await slowest()).toBeLessThan(5000);
    expect(memory() - before).toBeLessThan(200 << 20);
  },
);

it('one address cannot use up what bodies may take of all', { timeout: 60_000 }, async () => {
  const began = `POST /api/send-aim HTTP/1.1\r\nHost: x\r\n${from}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n`;
  let refused = 0;
  for (let n = 0; n < 100; n++) {
    const socket = connect();
    socket.on('data', (chunk) => (refused += chunk.toString().startsWith('HTTP/1.1 429 ') ? 1 : 0));
    socket.write(began);
  }
  await until('most are refused', () => refused >= 90);
  const { code } = await clientOf(node, customer).submit(['13800000000']);
  expect(code).toBe(0);
});
