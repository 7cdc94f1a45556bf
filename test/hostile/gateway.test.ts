/**
 * A faulty carrier gateway: it answers a login and then sends anything. Our connection must neither crash nor wait for ever. It must
 * settle each message once, and work again as soon as the gateway does.
 */
import { once } from 'node:events';
import net from 'node:net';
import * as fc from 'fast-check';
import { afterAll, expect, it } from 'vitest';
import { createIsmg } from '../../simulators/cmpp.ts';
import type { SegmentOutcome } from '../../src/channels/channel.ts';
import { createCmppConnection } from '../../src/channels/cmpp.ts';
import { cmpp, cmppFrames, command, commandOf, sequenceOf } from '../../src/protocols/cmpp.ts';
import { createFrameReader } from '../../src/protocols/wire/framing.ts';
import { until } from '../kit/platform.ts';
import { fuzzed, fuzzTimeoutMs } from './fuzz.ts';

const account = { spId: '901234', secret: 'hostile' };
const accessNumber = '10690001';
const servers: { stop(): Promise<void> | void }[] = [];
afterAll(async () => {
  for (const server of servers) await server.stop();
});

/** What the mad gateway says after a login; `answer`: the sequence id of a request of ours is put where it belongs. */
let says: readonly Buffer[] = [];
let isMad = true;

const frame = (id: number, sequenceId: number, body: Buffer, length = 12 + body.length): Buffer => {
  const head = Buffer.alloc(12);
  head.writeUInt32BE(length >>> 0, 0);
  head.writeUInt32BE(id >>> 0, 4);
  head.writeUInt32BE(sequenceId >>> 0, 8);
  return Buffer.concat([head, body]);
};

async function madGateway(goodPort: number): Promise<number> {
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    if (!isMad) {
      const good = net.connect(goodPort, '127.0.0.1');
      good.on('error', () => {});
      socket.pipe(good).pipe(socket);
      return;
    }
    let said = 0;
    const say = (): void => {
      const next = says[said++];
      if (next && socket.writable) socket.write(next);
    };
    const read = createFrameReader(cmppFrames, (buffer, start) => {
      const sequenceId = sequenceOf(buffer, start);
      if (commandOf(buffer, start) === command.connect) {
        socket.write(cmpp[3].connectResp.encode(sequenceId, { status: 0, authenticatorIsmg: Buffer.alloc(16), version: 0x30 }));
        say();
      } else if (says[said]) {
        const next = Buffer.from(says[said] ?? []);
        if (next.length >= 12) next.writeUInt32BE(sequenceId, 8);
        said++;
        socket.write(next);
      } else socket.destroy();
    });
    socket.on('data', (data) => {
      try {
        read(data);
      } catch {
        socket.destroy();
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  servers.push({ stop: () => void server.close() });
  return (server.address() as net.AddressInfo).port;
}

it('is survived, and found again when it has come to its senses', { timeout: 2 * fuzzTimeoutMs }, async () => {
  const good = createIsmg({ accounts: [{ ...account, accessNumbers: [accessNumber], maxConnections: 100 }], reportDelayMs: 10 });
  await good.start();
  servers.push(good);
  const port = await madGateway(good.port);
  const ids = [...Object.values(command), 0, 0x7fffffff, 0xffffffff];
  const noise = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.constant(new Uint8Array(0)),
    fc.constant(new Uint8Array(4000).fill(0xff)),
    fc.constant(new Uint8Array(200)),
  );
  const piece = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.tuple(fc.constantFrom(...ids), fc.nat(5), noise).map(([id, seq, body]) => frame(id, seq, Buffer.from(body))),
    },
    {
      weight: 1,
      arbitrary: fc
        .tuple(fc.constantFrom(...ids), fc.constantFrom(0, 4, 11, 13, 4096, 2 ** 31, 2 ** 32 - 1), noise)
        .map(([id, length, body]) => frame(id, 1, Buffer.from(body), length)),
    },
    { weight: 1, arbitrary: noise.map((octets) => Buffer.from(octets)) },
  );
  // All at once, or in drops.
  const pieces = fc.array(piece, { minLength: 1, maxLength: 12 });
  const runs = await fuzzed(pieces, async (given) => {
    says = given;
    isMad = true;
    let reports = 0;
    const connection = createCmppConnection(
      {
        host: '127.0.0.1',
        port,
        ...account,
        ratePerSecond: 10_000,
        serviceId: 'HELP',
        window: 4,
        responseTimeoutMs: 60,
        keepAliveMs: 60,
        loginTimeoutMs: 200,
        reconnectMinMs: 2,
        reconnectMaxMs: 5,
        refusedMinMs: 5,
        throttleBackoffMs: 2,
      },
      {
        events: {
          onState: () => {},
          onRoom: () => {},
          onReport: (_, acknowledge) => (reports++, acknowledge(true)),
          onReadReply: (_, acknowledge) => acknowledge(true),
          onInbound: (_, acknowledge) => acknowledge(true),
        },
        mayWrite: () => true,
      },
    );
    const settled: (readonly SegmentOutcome[])[] = [];
    let sent = 0;
    const send = (): void => {
      const number = sent++;
      connection.send({ to: '8613800138123', from: accessNumber, content: '你好', reference: number % 256 }, (outcomes) => {
        if (settled[number]) throw new Error('settled twice');
        settled[number] = outcomes;
      });
    };
    connection.start();
    await until('it was up once', () => connection.state !== 'connecting', 5000);
    for (let n = 0; n < 4; n++) send();
    await until('each message is settled', () => settled.filter(Boolean).length === sent, 10_000);
    isMad = false;
    const before = reports;
    await until(
      'a message is accepted',
      () => {
        if (connection.state === 'up' && settled.filter(Boolean).length === sent) send();
        return settled.some((outcomes) => outcomes?.[0]?.kind === 'accepted') && reports > before;
      },
      10_000,
    );
    await connection.stop(0);
    expect(settled.filter(Boolean)).toHaveLength(sent);
  });
  expect(runs).toBeGreaterThan(3);
});
