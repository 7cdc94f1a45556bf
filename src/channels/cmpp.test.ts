/** The connection against the simulated gateway over real sockets; what a well-behaved gateway never does is played by a raw server. */
import { createServer, type Server, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { createIsmg, type Ismg, type IsmgOptions } from '../../simulators/cmpp.ts';
import type { PhoneMessage } from '../../simulators/gateway.ts';
import {
  type Behaviour,
  keepsPromises,
  pause,
  type Subject,
  until,
  useConnections,
  type Wired as WiredConnection,
} from '../../test/kit/promises.ts';
import { cmpp, cmppFrames, command, commandOf, encodeReport, sequenceOf } from '../protocols/cmpp.ts';
import { joinParts } from '../protocols/text.ts';
import { createFrameReader } from '../protocols/wire/framing.ts';
import type { OutboundMessage, SegmentOutcome } from './channel.ts';
import { type CmppSettings, createCmppConnection } from './cmpp.ts';

const connections = useConnections();

const spId = '901234';
const secret = '1qaz2wsx';
const from = '10690001';
const long = '这是一条用于验证长短信拆分规则的测试短信，'.repeat(9);

type Simulated = Ismg & { phones: PhoneMessage[] };

async function startCarrier(options: Partial<IsmgOptions> = {}): Promise<Simulated> {
  const ismg = createIsmg({ accounts: [{ spId, secret, accessNumbers: [from] }], reportDelayMs: 20, redeliverMs: 30, ...options });
  const phones: PhoneMessage[] = [];
  ismg.onMessage((message) => phones.push(message));
  await ismg.start();
  // Not spread: it has accessors.
  return Object.assign(ismg, { phones });
}

async function simulate(options: Partial<IsmgOptions> = {}): Promise<Simulated> {
  const ismg = await startCarrier(options);
  connections.afterwards(() => ismg.stop());
  return ismg;
}

const settingsOf = (port: number, settings: Partial<CmppSettings> = {}): CmppSettings => ({
  host: '127.0.0.1',
  port,
  spId,
  secret,
  ratePerSecond: 10_000,
  serviceId: 'HELP',
  reconnectMinMs: 10,
  reconnectMaxMs: 80,
  refusedMinMs: 60,
  throttleBackoffMs: 10,
  ...settings,
});

for (const version of ['2.0', '3.0'] as const) {
  const ports = new WeakMap<object, number>();
  const subject: Subject = {
    name: `CMPP ${version}`,
    message: { from, content: '你好', reference: 7 },
    long: { from, content: long, reference: 8 },
    refusal: { kind: 'rejected', code: 'ER:0013' },
    async carrier() {
      const ismg = await startCarrier();
      const carrier = {
        start: () => ismg.start(),
        stop: () => ismg.stop(),
        dropConnections: () => ismg.dropConnections(),
        reply: (content: string) => void ismg.reply({ from: '13800138123', to: from, content }),
        counts: () => ({ ...ismg.counters, requests: ismg.counters.submits, peak: ismg.counters.peakWindow }),
        phones: () => ismg.phones.map(({ to }) => `86${to}`),
        get faults() {
          return ismg.faults;
        },
        set faults(faults) {
          ismg.faults = faults;
        },
      };
      ports.set(carrier, ismg.port);
      return carrier;
    },
    connect: (carrier, wishes, deps) =>
      createCmppConnection(settingsOf(carrier ? (ports.get(carrier) ?? 0) : 1, { version, ...wishes }), deps),
  };
  keepsPromises(subject);
}

interface Wired extends Omit<WiredConnection, 'send'> {
  send(message: Partial<OutboundMessage>): Promise<readonly SegmentOutcome[]>;
}

function wire(port: number, settings: Partial<CmppSettings> = {}, behaviour: Behaviour = {}): Wired {
  const wired = connections.wire((deps) => createCmppConnection(settingsOf(port, settings), deps), behaviour);
  const { send } = wired;
  return Object.assign(wired, {
    send: (message: Partial<OutboundMessage>) => send({ to: '8613800138123', from, content: '你好', reference: 7, ...message }),
  });
}

const times = <T>(count: number, value: T): T[] => Array.from({ length: count }, () => value);
const isUp = (wired: Wired) => until(() => wired.connection.state === 'up');

async function connected(options: Partial<IsmgOptions> = {}, settings: Partial<CmppSettings> = {}, behaviour: Behaviour = {}) {
  const ismg = await simulate(options);
  const wired = wire(ismg.port, settings, behaviour);
  await isUp(wired);
  return { ismg, wired };
}

/** A gateway that does with each frame what a test says; it answers logins and leaves by itself. */
async function rawGateway(onFrame: (socket: Socket, id: number, sequenceId: number, frame: Buffer) => void, login = true) {
  const sockets: Socket[] = [];
  const server: Server = createServer((socket) => {
    sockets.push(socket);
    const read = createFrameReader(cmppFrames, (buffer, start, end) => {
      const id = commandOf(buffer, start);
      if (login && id === command.connect)
        socket.write(
          cmpp[3].connectResp.encode(sequenceOf(buffer, start), { status: 0, authenticatorIsmg: Buffer.alloc(16), version: 0x30 }),
        );
      else if (id === command.terminate) socket.write(cmpp[3].terminateResp.encode(sequenceOf(buffer, start), {}));
      else onFrame(socket, id, sequenceOf(buffer, start), Buffer.from(buffer.subarray(start, end)));
    });
    socket.on('data', read);
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  connections.afterwards(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  return { port: address && typeof address === 'object' ? address.port : 0, sockets };
}

const delivery = (sequenceId: number, msgContent: Buffer, registeredDelivery = 1) =>
  cmpp[3].deliver.encode(sequenceId, {
    msgId: '00000000000000aa',
    destId: from,
    serviceId: '',
    tpPid: 0,
    tpUdhi: 0,
    msgFmt: 0,
    srcTerminalId: '13800138000',
    registeredDelivery,
    msgContent,
  });

const reportOf = (stat: string) =>
  encodeReport(3, { msgId: '00000000000000bb', stat, submitTime: '', doneTime: '', destTerminalId: '13800138000', smscSequence: 0 });

describe('the login', () => {
  test.each(['2.0', '3.0'] as const)('speaks %s and carries a message, its report and a reply', async (version) => {
    const { ismg, wired } = await connected({}, { version });
    expect(wired.reasons.at(-1)).toBe(`logged in, ${version}`);
    const [outcome] = await wired.send({ to: '8613800138123', content: '【测试】您的验证码是123456' });
    expect(outcome).toMatchObject({ kind: 'accepted' });
    expect(ismg.phones).toMatchObject([{ to: '13800138123', from, text: '【测试】您的验证码是123456' }]);
    await until(() => wired.reports.length === 1);
    const carrierId = outcome?.kind === 'accepted' ? outcome.carrierId : '';
    expect(wired.reports).toEqual([{ carrierId, status: 'DELIVRD', delivered: true, phone: '13800138123' }]);
    expect(ismg.reply({ from: '13800138123', to: `${from}88`, content: '好的' })).toBe(true);
    await until(() => wired.inbound.length === 1);
    expect(wired.inbound[0]).toMatchObject({ from: '13800138123', to: `${from}88`, concat: null, encoding: 'ucs2' });
    await until(() => ismg.counters.acknowledged === 2);
  });

  test('falls back to the version of a server that says ours is too high, at once, and keeps to it', async () => {
    const { ismg, wired } = await connected({ maxVersion: 2 }, { reconnectMinMs: 2000, reconnectMaxMs: 2000 });
    expect(wired.states).toEqual(['connecting', 'down', 'connecting', 'up']);
    expect(await wired.send({})).toMatchObject([{ kind: 'accepted' }]);
    expect(ismg.counters).toMatchObject({ logins: 1, refusedLogins: 1 });
  });

  test('beyond the carrier’s limit of connections is refused', async () => {
    const { ismg } = await connected({ accounts: [{ spId, secret, maxConnections: 1 }] });
    const second = wire(ismg.port);
    await until(() => second.states.includes('refused'));
    expect(second.reasons.join()).toMatch(/status 5/);
  });

  test('by a server that cannot prove that it knows the secret goes on, with a word about it, unless it must be strict', async () => {
    const { port } = await rawGateway(() => {});
    const lenient = wire(port);
    await isUp(lenient);
    expect(lenient.reasons.at(-1)).toMatch(/did not prove/);
    const strict = wire(port, { strictAuthenticator: true });
    await until(() => strict.states.includes('refused'));
  });

  test('that is never answered ends at its deadline', async () => {
    const { port } = await rawGateway(() => {}, false);
    const wired = wire(port, { loginTimeoutMs: 40 });
    await until(() => wired.reasons.includes('no answer to the login'));
  });
});

describe('sending', () => {
  test('a long message is one text on the phone, each segment accepted and reported by itself', async () => {
    const { ismg, wired } = await connected();
    for (const longReferenceBits of [8, 16] as const) {
      const other = longReferenceBits === 16 ? wire(ismg.port, { longReferenceBits }) : wired;
      await isUp(other);
      const text = `${long}😀${long}`;
      const outcomes = await other.send({ content: text, reference: 0x1234 });
      expect(outcomes).toHaveLength(other.connection.segmentsOf(text));
      expect(outcomes.every((outcome) => outcome.kind === 'accepted')).toBe(true);
      expect(ismg.phones.at(-1)?.text).toBe(text);
    }
    await until(() => wired.reports.length + ismg.counters.acknowledged >= 2 * wired.connection.segmentsOf(`${long}😀${long}`));
    expect(ismg.phones).toHaveLength(2);
  });

  test('only the wanted segments of a long message go out again, and complete it', async () => {
    const { ismg, wired } = await connected();
    expect(await wired.send({ content: long, only: [0, 2] })).toHaveLength(2);
    expect(ismg.phones).toHaveLength(0);
    expect(await wired.send({ content: long, only: [1] })).toHaveLength(1);
    expect(ismg.phones.map(({ text }) => text)).toEqual([long]);
  });

  test('more than 255 segments are rejected as too long', async () => {
    const { wired } = await connected();
    const outcomes = await wired.send({ content: '汉'.repeat(67 * 255 + 1) });
    expect(outcomes).toHaveLength(256);
    expect(new Set(outcomes.map((outcome) => outcome.kind === 'rejected' && outcome.code))).toEqual(new Set(['ER:0006']));
  });

  test('a multimedia package is rejected as too long, as one segment', async () => {
    const { ismg, wired } = await connected();
    expect(await wired.send({ content: { subject: 'x', frames: [] } })).toEqual([{ kind: 'rejected', code: 'ER:0006' }]);
    expect(ismg.counters.submits).toBe(0);
  });

  test('a number that fits no field is rejected, and the connection lives', async () => {
    const { wired } = await connected();
    expect(await wired.send({ from: '1'.repeat(22) })).toEqual([{ kind: 'rejected', code: 'ER:0001' }]);
    expect(await wired.send({})).toMatchObject([{ kind: 'accepted' }]);
  });

  test('the carrier’s refusal comes back as its code', async () => {
    const { wired } = await connected();
    expect(await wired.send({ to: '8613800130005' })).toEqual([{ kind: 'rejected', code: 'ER:0013' }]);
    expect(await wired.send({ from: '20690001' })).toEqual([{ kind: 'rejected', code: 'ER:0010' }]);
  });

  test('a refusal in which no message has a part is told apart from one of a number or a content', async () => {
    const { ismg, wired } = await connected();
    const outcomes: [number, boolean | undefined][] = [];
    for (const rejectCode of [1, 5, 6, 7, 9, 11, 13, 200]) {
      ismg.faults = { rejectShare: 1, rejectCode };
      const [outcome] = await wired.send({});
      outcomes.push([rejectCode, outcome?.kind === 'rejected' ? outcome.isOurs : undefined]);
    }
    expect(outcomes.filter(([, isOurs]) => isOurs).map(([code]) => code)).toEqual([1, 5, 7, 11]);
  });

  test('a segment refused as too fast goes out again by itself', async () => {
    const { ismg, wired } = await connected();
    const outcomes = await wired.send({ to: '8613800130006', content: long });
    expect(outcomes.every((outcome) => outcome.kind === 'accepted')).toBe(true);
    expect(ismg.counters.throttled).toBe(outcomes.length);
    expect(ismg.phones.map(({ text }) => text)).toEqual([long]);
  });

  test('what may not be written is unsent', async () => {
    let mayWrite = false;
    const { ismg, wired } = await connected({}, {}, { mayWrite: () => mayWrite });
    expect(await wired.send({ content: long })).toEqual(times(3, { kind: 'unsent' }));
    expect(ismg.counters.submits).toBe(0);
    mayWrite = true;
    expect(await wired.send({})).toMatchObject([{ kind: 'accepted' }]);
  });

  test('what was made while it could be written, and not sent before that ended, is not sent', async () => {
    let asked = 0;
    // Once when it is made, not any more when it is to leave: the process slept in between.
    const { ismg, wired } = await connected({}, {}, { mayWrite: () => ++asked === 1 });
    expect(await wired.send({})).toEqual([{ kind: 'unknown', isCut: true }]);
    expect(ismg.counters.submits).toBe(0);
    expect(wired.states).toContain('down');
  });

  test('what is never answered is unknown when its time is over, and its connection is not', async () => {
    const { ismg, wired } = await connected({}, { responseTimeoutMs: 50, window: 2 });
    ismg.faults = { unansweredShare: 1 };
    const outcomes = await Promise.all([wired.send({}), wired.send({}), wired.send({})]);
    expect(outcomes).toEqual(times(3, [{ kind: 'unknown' }]));
    expect(ismg.counters.submits).toBe(3);
    expect(wired.states).not.toContain('down');
  });

  test('on a broken connection what was written is unknown and the rest is unsent', async () => {
    const { ismg, wired } = await connected({}, { window: 2 });
    ismg.faults = { unansweredShare: 1 };
    const outcomes = Promise.all([wired.send({}), wired.send({ content: long }), wired.send({})]);
    await until(() => ismg.counters.submits === 2);
    ismg.dropConnections();
    expect(await outcomes).toEqual([
      [{ kind: 'unknown', isCut: true }],
      [{ kind: 'unknown', isCut: true }, { kind: 'unsent' }, { kind: 'unsent' }],
      [{ kind: 'unsent' }],
    ]);
    ismg.faults = {};
    await isUp(wired);
    expect(await wired.send({})).toMatchObject([{ kind: 'accepted' }]);
  });

  test('numbers are written as the carrier wants them', async () => {
    const { ismg, wired } = await connected();
    const plain = wire(ismg.port, { stripCountryCode: false });
    await isUp(plain);
    await wired.send({ to: '8613800138123' });
    await wired.send({ to: '85261234567' });
    await plain.send({ to: '8613800138123' });
    expect(ismg.phones.map(({ to }) => to)).toEqual(['13800138123', '0085261234567', '8613800138123']);
  });
});

describe('reports', () => {
  test('come with the carrier’s status', async () => {
    const { wired } = await connected();
    for (const end of ['0001', '0002', '0003', '0004']) await wired.send({ to: `861380013${end}` });
    await until(() => wired.reports.length === 4);
    expect(wired.reports.map(({ status, delivered }) => `${status} ${delivered}`)).toEqual([
      'UNDELIV false',
      'EXPIRED false',
      'REJECTD false',
      'MK:0001 false',
    ]);
  });

  test('may come twice, late, never, or before the answer to the SUBMIT', async () => {
    const { ismg, wired } = await connected({ slowReportDelayMs: 120 });
    const ids = new Map<string, string>();
    let reportsAtOutcome = 0;
    for (const end of ['0007', '0008', '0009', '0010']) {
      const [outcome] = await wired.send({ to: `861380013${end}` });
      if (end === '0010') reportsAtOutcome = wired.reports.filter(({ phone }) => phone.endsWith('0010')).length;
      ids.set(end, outcome?.kind === 'accepted' ? outcome.carrierId : '');
    }
    expect(reportsAtOutcome).toBe(1);
    const reported = () => wired.reports.map(({ carrierId }) => carrierId);
    await until(() => reported().length === 3);
    expect(reported()).not.toContain(ids.get('0008'));
    await until(() => reported().length === 4);
    expect(reported().filter((id) => id === ids.get('0009'))).toHaveLength(2);
    expect(reported().at(-1)).toBe(ids.get('0008'));
    expect(reported()).not.toContain(ids.get('0007'));
    expect(ismg.phones).toHaveLength(4);
  });

  test('acknowledged after their connection is gone are not answered on another', async () => {
    const { ismg, wired } = await connected({}, {}, { safe: () => null });
    const late: ((safe: boolean) => void)[] = [];
    const slow = createCmppConnection(
      { host: '127.0.0.1', port: ismg.port, spId, secret, ratePerSecond: 100, serviceId: '', reconnectMinMs: 10, reconnectMaxMs: 10 },
      {
        events: {
          onState: () => {},
          onRoom: () => {},
          onReport: (_, acknowledge) => late.push(acknowledge),
          onReadReply: () => {},
          onInbound: () => {},
        },
        mayWrite: () => true,
      },
    );
    connections.afterwards(() => slow.stop(0));
    await wired.connection.stop(0);
    slow.start();
    await until(() => slow.state === 'up');
    slow.send({ to: '8613800138123', from, content: 'x', reference: 0 }, () => {});
    await until(() => late.length === 1);
    ismg.dropConnections();
    await until(() => late.length === 2);
    late[0]?.(true);
    await pause(30);
    expect(ismg.counters.acknowledged).toBe(0);
    late[1]?.(true);
    late[1]?.(false);
    await until(() => ismg.counters.acknowledged === 1);
    expect(ismg.counters.refused).toBe(0);
  });

  test('leave the carrier within its window, shared among the connections of the account', async () => {
    const { ismg, wired } = await connected({ window: 3, reportDelayMs: 1 }, {}, { safe: () => null });
    const other = wire(ismg.port, {}, { safe: () => null });
    await isUp(other);
    await Promise.all(times(20, null).map(() => wired.send({})));
    await until(() => wired.reports.length === 3 && other.reports.length === 3);
    await pause(30);
    expect(ismg.counters.reports).toBe(6);
  });

  test('that are never acknowledged come again after the carrier’s time', async () => {
    const { ismg, wired } = await connected({ deliverTimeoutMs: 40 }, {}, { safe: () => null });
    await wired.send({});
    await until(() => wired.reports.length === 3);
    expect(ismg.owed).toBe(1);
  });

  test('that are not final are acknowledged at once and kept to ourselves', async () => {
    const answers: number[] = [];
    const { port, sockets } = await rawGateway((_, id, __, frame) => {
      if (id === command.deliverResp) answers.push(cmpp[3].deliverResp.decode(frame, 0, frame.length).result);
    });
    const wired = wire(port);
    await isUp(wired);
    sockets[0]?.write(
      Buffer.concat([delivery(1, reportOf('ACCEPTD')), delivery(2, reportOf('ENROUTE')), delivery(3, reportOf('ABC    '))]),
    );
    await until(() => answers.length === 3);
    expect(answers).toEqual([0, 0, 0]);
    expect(wired.reports).toEqual([{ carrierId: '00000000000000bb', status: 'ABC', delivered: false, phone: '13800138000' }]);
  });

  test('in a flood stop being read until the owner keeps up', async () => {
    const { port, sockets } = await rawGateway(() => {});
    const held: ((safe: boolean) => void)[] = [];
    const connection = createCmppConnection(
      { host: '127.0.0.1', port, spId, secret, ratePerSecond: 100, serviceId: '' },
      {
        events: {
          onState: () => {},
          onRoom: () => {},
          onReport: (_, acknowledge) => held.push(acknowledge),
          onReadReply: () => {},
          onInbound: () => {},
        },
        mayWrite: () => true,
      },
    );
    connections.afterwards(() => connection.stop(0));
    connection.start();
    await until(() => connection.state === 'up');
    const one = delivery(1, reportOf('DELIVRD'));
    sockets[0]?.write(Buffer.concat(times(20_000, one)));
    await until(() => held.length >= 2000);
    await pause(30);
    // What had been read already is passed on, at most a chunk or two.
    expect(held.length).toBeLessThan(3000);
    for (let done = 0; done < 20_000; done += 1) {
      if (done === held.length) await until(() => held.length > done);
      held[done]?.(true);
    }
    expect(held).toHaveLength(20_000);
  });
});

describe('messages from phones', () => {
  test('of many segments come segment by segment, with what is needed to join them', async () => {
    const { ismg, wired } = await connected();
    ismg.reply({ from: '13800138123', to: from, content: long });
    await until(() => wired.inbound.length === 3);
    expect(wired.inbound.map(({ concat }) => concat?.number)).toEqual([1, 2, 3]);
    expect(new Set(wired.inbound.map(({ concat }) => `${concat?.reference} ${concat?.total}`)).size).toBe(1);
    expect(joinParts(wired.inbound)).toBe(long);
  });

  test('answer what the person was sent', async () => {
    const { wired } = await connected();
    await wired.send({ to: '8613800130011', from: `${from}01` });
    await wired.send({ to: '8613800130012', from: `${from}02`, content: long });
    await until(() => wired.inbound.length === 2);
    expect(wired.inbound.map((inbound) => `${inbound.from} ${inbound.to} ${joinParts([inbound])}`)).toEqual([
      `13800130011 ${from}01 TD`,
      `13800130012 ${from}02 你好,|世界`,
    ]);
  });

  test('wait at the carrier while nobody is logged in', async () => {
    const ismg = await simulate();
    expect(ismg.reply({ from: '13800138123', to: from, content: 'hello' })).toBe(true);
    expect(ismg.reply({ from: '13800138123', to: '99999', content: 'nobody’s' })).toBe(false);
    const wired = wire(ismg.port);
    await until(() => wired.inbound.length === 1);
    expect(wired.inbound[0]).toMatchObject({ encoding: 'ascii', octets: Buffer.from('hello') });
  });
});

describe('a connection', () => {
  test('with settings that no PDU can carry is refused when it is made', () => {
    for (const wrong of [{ spId: '9012345' }, { serviceId: 'eleven chars' }, { feeCode: '1234567' }, { msgLevel: 256 }])
      expect(() => wire(1, wrong)).toThrow(RangeError);
  });

  test('may be stopped by its owner while being told that it was lost', async () => {
    const ismg = await simulate();
    let stopping: Promise<void> | undefined;
    const wired = wire(
      ismg.port,
      {},
      {
        onState(state, connection) {
          if (state === 'up') ismg.dropConnections();
          if (state === 'down') stopping ??= connection.stop(100);
        },
      },
    );
    await until(() => stopping);
    await stopping;
    expect(wired.states).toEqual(['connecting', 'up', 'down', 'stopped']);
  });

  test('closes at a frame that cannot be one, and comes back', async () => {
    const { port, sockets } = await rawGateway(() => {});
    const wired = wire(port);
    await isUp(wired);
    sockets[0]?.write(Buffer.from('ffffffff00000005', 'hex'));
    await until(() => wired.states.filter((state) => state === 'up').length === 2);
    expect(wired.reasons.join()).toMatch(/cannot be understood: frame of 4294967295 octets/);
  });

  test('closes at an answer that cannot be read, and calls the segment unknown', async () => {
    const { port } = await rawGateway((socket, id, sequenceId) => {
      if (id !== command.submit) return;
      const short = Buffer.from('0000000e80000004000000000000', 'hex');
      short.writeUInt32BE(sequenceId, 8);
      socket.write(short);
    });
    const wired = wire(port);
    await isUp(wired);
    expect(await wired.send({})).toEqual([{ kind: 'unknown', isCut: true }]);
    await until(() => wired.states.filter((state) => state === 'up').length === 2);
  });

  test('answers a delivery that makes no sense with a structure error and goes on', async () => {
    const answers: { msgId: string; result: number }[] = [];
    const { port, sockets } = await rawGateway((_, id, __, frame) => {
      if (id === command.deliverResp) answers.push(cmpp[3].deliverResp.decode(frame, 0, frame.length));
    });
    const wired = wire(port);
    await isUp(wired);
    const truncated = Buffer.from(delivery(2, Buffer.alloc(60)).subarray(0, 40));
    truncated.writeUInt32BE(40);
    sockets[0]?.write(Buffer.concat([delivery(1, Buffer.from('short')), truncated, delivery(3, Buffer.from('fine'), 0)]));
    await until(() => answers.length === 3);
    expect(answers.map(({ msgId, result }) => `${msgId} ${result}`)).toEqual([
      '00000000000000aa 1',
      '00000000000000aa 1',
      '00000000000000aa 0',
    ]);
    expect(wired.inbound).toHaveLength(1);
    expect(wired.states.at(-1)).toBe('up');
  });

  test('answers keep-alives, also while draining', async () => {
    let answered = 0;
    const { port, sockets } = await rawGateway((socket, id) => {
      if (id === command.activeTestResp) answered += 1;
      if (id === command.submit) socket.write(cmpp[3].activeTest.encode(9, {}));
    });
    const wired = wire(port);
    await isUp(wired);
    sockets[0]?.write(cmpp[3].activeTest.encode(8, {}));
    await until(() => answered === 1);
    const outcome = wired.send({});
    await pause(0);
    const stopping = wired.connection.stop(80);
    await until(() => answered === 2);
    expect(wired.connection.state).toBe('draining');
    expect(await outcome).toEqual([{ kind: 'unknown', isCut: true }]);
    await stopping;
  });

  test('asks when it hears nothing, and gives up on a peer that stays silent', async () => {
    let asked = 0;
    let silent = false;
    const { port } = await rawGateway((socket, id, sequenceId) => {
      if (id !== command.activeTest) return;
      asked += 1;
      if (!silent) socket.write(cmpp[3].activeTestResp.encode(sequenceId, { reserved: '' }));
    });
    const wired = wire(port, { keepAliveMs: 30, responseTimeoutMs: 20, keepAliveTries: 3 });
    await isUp(wired);
    await until(() => asked >= 4);
    expect(wired.states).not.toContain('down');
    silent = true;
    asked = 0;
    await until(() => wired.reasons.includes('no answer to the keep-alive'));
    expect(asked).toBe(3);
  });

  test('asks at once when a SUBMIT goes unanswered and nothing else is heard', async () => {
    const { port } = await rawGateway(() => {});
    const wired = wire(port, { responseTimeoutMs: 30, keepAliveTries: 2 });
    await isUp(wired);
    expect(await wired.send({})).toEqual([{ kind: 'unknown' }]);
    await until(() => wired.reasons.includes('no answer to the keep-alive'));
  });

  test('that the carrier ends with TERMINATE answers, closes and comes back', async () => {
    let answered = 0;
    const { port, sockets } = await rawGateway((_, id) => {
      if (id === command.terminateResp) answered += 1;
    });
    const wired = wire(port);
    await isUp(wired);
    sockets[0]?.write(cmpp[3].terminate.encode(1, {}));
    await until(() => wired.states.filter((state) => state === 'up').length === 2);
    expect(answered).toBe(1);
  });
});

describe('stopping', () => {
  test('waits for the answers owed, sends nothing that had not begun, and leaves politely', async () => {
    const { ismg, wired } = await connected({}, { window: 2 });
    ismg.faults = { responseDelayMs: 40 };
    const begun = wired.send({ content: long });
    const waiting = wired.send({});
    await pause(5);
    const stopping = wired.connection.stop(2000);
    expect(wired.connection.state).toBe('draining');
    expect(wired.connection.room()).toBe(0);
    expect(await wired.send({})).toEqual([{ kind: 'unsent' }]);
    expect(await waiting).toEqual([{ kind: 'unsent' }]);
    await stopping;
    expect((await begun).every((outcome) => outcome.kind === 'accepted')).toBe(true);
    expect(ismg.phones.map(({ text }) => text)).toEqual([long]);
    expect(wired.states.slice(-2)).toEqual(['draining', 'stopped']);
    expect(wired.reasons.at(-1)).toBe('left');
    expect(wired.connection.stop(1)).toBe(stopping);
  });
});
