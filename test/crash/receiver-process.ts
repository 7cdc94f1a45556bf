/**
 * A customer's server in a process of its own: writes every push to a file, and a moment later answers it with `success`.
 *
 *   node receiver-process.js <port> <file>
 *
 * It prints one line of JSON, `{"port":…}`, once it listens, and ends when its input does.
 */
import fs from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

/** So that there is always something unanswered when a process dies. */
const answerMs = 20;

const [port = '0', file = ''] = process.argv.slice(2);
const fd = fs.openSync(file, 'a');
fs.writeSync(fd, '\n'); // ends a line that a killed process may have begun

const server = http.createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    fs.writeSync(fd, `${JSON.stringify({ path: request.url, at: Date.now(), body: Buffer.concat(chunks).toString() })}\n`);
    setTimeout(() => response.end('success'), answerMs);
  });
});
server.keepAliveTimeout = 60_000;
server.listen(Number(port), '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`);
});
process.stdin.on('end', () => process.exit(0)).resume();
