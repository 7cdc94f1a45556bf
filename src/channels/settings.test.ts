/** What settings do: each one that is configured shows on the wire or in time. Windows, rates and logins are tested beside their connections. */
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { createIsmg } from '../../simulators/cmpp.ts';
import { createMmsc } from '../../simulators/mm7.ts';
import { cmpp, cmppFrames, command, commandOf, sequenceOf } from '../protocols/cmpp.ts';
import { type Fields, readRequest } from '../protocols/mm7/mm7.ts';
import { createFrameReader } from '../protocols/wire/framing.ts';
import type { ChannelConnection, ConnectionState, OutboundMessage, SegmentOutcome } from './channel.ts';
import { channelKinds, kindOf, kindRules } from './kinds.ts';

type Kind = keyof typeof channelKinds;
type Settings = Readonly<Record<string, unknown>>;

const cleanUp: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const undo of cleanUp.splice(0).toReversed()) await undo();
});

const until = (condition: () => unknown) => vi.waitFor(() => expect(condition()).toBeTruthy(), { timeout: 5000, interval: 2 });
const from = '10690001';
const secret = 'carrier-secret';

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return address && typeof address === 'object' ? address.port : 0;
}

/** A server that takes connections and says what `onSocket` says. */
async function tcpServer(onSocket: (socket: Socket) => void): Promise<number> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    onSocket(socket);
  });
  const port = await listen(server);
  cleanUp.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return port;
}

const required = {
  cmpp: (port: number) => ({ host: '127.0.0.1', port, spId: '901234', serviceId: 'HELP', ratePerSecond: 1000 }),
  mm7: (port: number) => ({ url: `http://127.0.0.1:${port}/mm7`, vaspId: '800001', vasId: from, username: 'vasp', ratePerSecond: 1000 }),
} as const satisfies Record<Kind, (port: number) => Settings>;
const contents = {
  cmpp: '你好',
  mm7: { subject: '测试', frames: [{ text: '你好', media: null, mediaFirst: false }] },
} as const satisfies Record<Kind, OutboundMessage['content']>;

interface Opened {
  readonly connection: ChannelConnection;
  readonly log: { readonly state: ConnectionState; readonly at: number }[];
  send(): Promise<SegmentOutcome>;
  /** Waits until the state has been entered for the nth time; says when that was. */
  entered(state: ConnectionState, nth?: number): Promise<number>;
}

function open(kind: Kind, port: number, settings: Settings = {}, password = secret): Opened {
  const log: Opened['log'] = [];
  const given = { ...required[kind](port), ...settings };
  expect(kindRules.problemOf(kind, given)).toBeNull();
  const connection = kindOf(kind).connect(given, password, {
    events: {
      onState: (state) => void log.push({ state, at: performance.now() }),
      onRoom() {},
      onReport: (_, acknowledge) => acknowledge(true),
      onReadReply() {},
      onInbound() {},
    },
    mayWrite: () => true,
  });
  cleanUp.push(() => connection.stop(0));
  connection.start();
  return {
    connection,
    log,
    send: () =>
      new Promise((resolve) =>
        connection.send({ to: '8613800138123', from, content: contents[kind], reference: 7 }, ([outcome]) => resolve(outcome!)),
      ),
    async entered(state, nth = 1) {
      const times = () => log.filter((entry) => entry.state === state);
      await until(() => times().length >= nth);
      return times()[nth - 1]!.at;
    },
  };
}

const simulators = {
  async cmpp() {
    const ismg = createIsmg({ accounts: [{ spId: '901234', secret, accessNumbers: [from] }] });
    await ismg.start();
    cleanUp.push(() => ismg.stop());
    return ismg;
  },
  async mm7() {
    const mmsc = createMmsc({ vaspId: '800001', accessNumber: from, username: 'vasp', password: secret });
    await mmsc.start();
    cleanUp.push(() => mmsc.stop());
    return mmsc;
  },
} as const;

async function opened(kind: Kind, settings: Settings) {
  const carrier = await simulators[kind]();
  const one = open(kind, carrier.port, settings);
  await one.entered('up');
  return { carrier, ...one };
}

/** Allowed beside what a setting says: ticks of up to half a second, and a busy machine. All defaults are far from it. */
const slackMs = 2000;
const expectAbout = (took: number, ms: number) => {
  expect(took).toBeGreaterThanOrEqual(ms * 0.9);
  expect(took).toBeLessThan(ms + slackMs);
};

describe.each(['cmpp', 'mm7'] as const)('waiting, %s', (kind) => {
  test('loginTimeoutMs: a carrier that never answers the login', async () => {
    const { entered } = open(kind, await tcpServer(() => {}), { loginTimeoutMs: 150 });
    expectAbout((await entered('down')) - (await entered('connecting')), 150);
  });

  test('responseTimeoutMs: a submit that is never answered', async () => {
    const { carrier, send } = await opened(kind, { responseTimeoutMs: 150 });
    carrier.faults = { unansweredShare: 1 };
    const began = performance.now();
    expect(await send()).toMatchObject({ kind: 'unknown' });
    expectAbout(performance.now() - began, 150);
  });

  test('reconnectMinMs: the first pause, with half of it as jitter', async () => {
    const { entered } = open(kind, 1, { reconnectMinMs: 300 });
    const pause = (await entered('connecting', 2)) - (await entered('down'));
    expect(pause).toBeGreaterThan(145);
    expect(pause).toBeLessThan(300 + slackMs);
  });

  test('reconnectMaxMs: no pause is longer', async () => {
    const { entered } = open(kind, 1, { reconnectMinMs: 60_000, reconnectMaxMs: 100 });
    expect((await entered('connecting', 3)) - (await entered('down'))).toBeLessThan(2 * 100 + slackMs);
  });

  test('refusedMinMs: the pause after a refused login', async () => {
    const carrier = await simulators[kind]();
    const { entered } = open(kind, carrier.port, { reconnectMinMs: 100, refusedMinMs: 1000 }, 'wrong');
    expectAbout((await entered('connecting', 2)) - (await entered('refused')), 1000);
  });

  test('throttleBackoffMs and throttleTries: what is refused as too fast', async () => {
    const { carrier, send } = await opened(kind, { throttleBackoffMs: 100, throttleTries: 3 });
    carrier.faults = { throttleShare: 1 };
    const began = performance.now();
    expect(await send()).toEqual({ kind: 'throttled' });
    expectAbout(performance.now() - began, 100 + 200);
    expect(carrier.counters.throttled).toBe(3);
  });
});

test.each([
  [{ keepAliveMs: 300, keepAliveTries: 1, responseTimeoutMs: 100 }, 1],
  [{ keepAliveMs: 100, keepAliveTries: 3, responseTimeoutMs: 100 }, 3],
])('keepAliveMs and keepAliveTries: %o', async (settings, questions) => {
  let asked = 0;
  const port = await tcpServer((socket) => {
    const read = createFrameReader(cmppFrames, (buffer, start) => {
      if (commandOf(buffer, start) === command.activeTest) asked += 1;
      if (commandOf(buffer, start) !== command.connect) return;
      const login = { status: 0, authenticatorIsmg: Buffer.alloc(16), version: 0x30 };
      socket.write(cmpp[3].connectResp.encode(sequenceOf(buffer, start), login));
    });
    socket.on('data', read);
  });
  const { entered } = open('cmpp', port, settings);
  expectAbout((await entered('down')) - (await entered('up')), settings.keepAliveMs + questions * settings.responseTimeoutMs);
  expect(asked).toBe(questions);
});

/** What a CMPP connection writes: its login and the first segment of a message. */
async function written(settings: Settings, content: string) {
  const version = settings['version'] === '2.0' ? 2 : 3;
  const frames: Buffer[] = [];
  const port = await tcpServer((socket) => {
    const read = createFrameReader(cmppFrames, (buffer, start, end) => {
      frames.push(Buffer.from(buffer.subarray(start, end)));
      if (commandOf(buffer, start) === command.terminate) socket.destroy();
      if (commandOf(buffer, start) !== command.connect) return;
      const login = { status: 0, authenticatorIsmg: Buffer.alloc(16), version: version << 4 };
      socket.write(cmpp[version].connectResp.encode(sequenceOf(buffer, start), login));
    });
    socket.on('data', read);
  });
  const { connection, entered } = open('cmpp', port, settings);
  await entered('up');
  connection.send({ to: '8613800138123', from, content, reference: 0x0107 }, () => {});
  await until(() => frames.length > 1);
  const [login, submit] = frames as [Buffer, Buffer];
  return { ...cmpp[version].submit.decode(submit, 0, submit.length), login: cmpp[version].connect.decode(login, 0, login.length) };
}

test.each([
  [{ spId: '905678' }, { msgSrc: '905678', login: { sourceAddr: '905678' } }],
  [{ serviceId: 'WEATHER' }, { serviceId: 'WEATHER' }],
  [{ version: '2.0' }, { login: { version: 0x20 } }],
  [{ feeUserType: 3 }, { feeUserType: 3 }],
  [{ feeType: '03' }, { feeType: '03' }],
  [{ feeCode: '000010' }, { feeCode: '000010' }],
  [{ msgLevel: 9 }, { msgLevel: 9 }],
  [{ stripCountryCode: false }, { destTerminalId: ['8613800138123'] }],
  [{}, { feeUserType: 2, feeType: '01', feeCode: '0', msgLevel: 0, destTerminalId: ['13800138123'], login: { version: 0x30 } }],
])('CMPP writes %o', async (settings, expected) => {
  expect(await written(settings, '你好')).toMatchObject(expected);
});

test.each([
  [8, '050003070301'],
  [16, '06080401070301'],
])('longReferenceBits %i', async (longReferenceBits, header) => {
  const { msgContent } = await written({ longReferenceBits }, '长短信'.repeat(50));
  expect(msgContent.subarray(0, header.length / 2).toString('hex')).toBe(header);
});

/** What an MM7 connection posts. */
async function posted(
  settings: Settings,
): Promise<{ fields: Partial<Fields<'SubmitReq'>>; body: string; headers: Record<string, unknown> }> {
  const seen: { type: string; body: Buffer; headers: Record<string, unknown> }[] = [];
  const server = createHttpServer((request, response) => {
    void request.toArray().then((chunks: Buffer[]) => {
      const body = Buffer.concat(chunks);
      if (body.length > 0) seen.push({ type: request.headers['content-type'] ?? '', body, headers: request.headers });
      response.end();
    });
  });
  const port = await listen(server);
  cleanUp.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const { entered, send } = open('mm7', port, settings);
  await entered('up');
  await send();
  const { type, body, headers } = seen[0]!;
  const { message } = readRequest(type, body).envelope;
  return { fields: message.name === 'SubmitReq' ? message.fields : {}, body: body.toString('latin1'), headers };
}

test.each([
  [{ vaspId: '900', vasId: '10690009' }, { senderIdentification: { vaspId: '900', vasId: '10690009' } }],
  [{ serviceCode: '110001' }, { serviceCode: '110001' }],
  [{ version: '5.3.0' }, { mm7Version: '5.3.0' }],
  [{ messageClass: 'Advertisement' }, { messageClass: 'Advertisement' }],
  [{ priority: 'High' }, { priority: 'High' }],
  [{ chargedParty: 'Recipient' }, { chargedParty: 'Recipient' }],
  [{ readReply: true }, { readReply: true }],
  [{ senderStyle: 'none' }, { senderIdentification: { senderAddress: null } }],
  [{ numberStyle: 'e164' }, { recipients: { to: [{ value: '8613800138123' }] } }],
  [{}, { priority: 'Normal', chargedParty: 'Sender', messageClass: 'Informational', serviceCode: null, expiryDate: null }],
])('MM7 writes %o', async (settings, expected) => {
  expect((await posted(settings)).fields).toMatchObject(expected);
});

test('frameMs, soapAction and authentication of MM7', async () => {
  const { body, headers } = await posted({ frameMs: 7000, soapAction: '"Submit"', authentication: 'none' });
  expect(body).toContain('dur="7000ms"');
  expect(headers).toMatchObject({ soapaction: '"Submit"' });
  expect(headers).not.toHaveProperty('authorization');
  expect((await posted({})).headers).toMatchObject({ soapaction: '""', authorization: expect.stringMatching(/^Basic /) });
});

test('gatherMs: how long an upload waits for more recipients', async () => {
  const { send } = await opened('mm7', { gatherMs: 250 });
  const began = performance.now();
  expect(await send()).toMatchObject({ kind: 'accepted' });
  expectAbout(performance.now() - began, 250);
});

test('connectTimeoutMs: an MMSC that does not finish the handshake of TLS', async () => {
  const url = `https://127.0.0.1:${await tcpServer(() => {})}/mm7`;
  const { entered } = open('mm7', 1, { url, connectTimeoutMs: 200 });
  expectAbout((await entered('down')) - (await entered('connecting')), 200);
});

test.each([1, 4])('failuresUntilDown: %i requests without an answer', async (failuresUntilDown) => {
  const { carrier, connection, send } = await opened('mm7', { failuresUntilDown, reconnectMinMs: 10_000 });
  carrier.faults = { dropShare: 1 };
  for (let failures = 1; failures <= failuresUntilDown; failures += 1) {
    expect(connection.state).toBe('up');
    expect(await send()).toMatchObject({ kind: 'unknown' });
  }
  await until(() => connection.state === 'down');
});
