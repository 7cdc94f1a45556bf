/** Sessions on sockets that the peer has opened. Sockets that we open are tested through the connections that use them. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { cmpp, cmppFrames, command, commandOf, sequenceOf } from '../../protocols/cmpp.ts';
import { createFrameReader } from '../../protocols/wire/framing.ts';
import { type AdoptedSettings, createSession, type Session, type Tracked } from './session.ts';

const pdus = cmpp[3];
const spId = '901234';

interface Request extends Tracked {
  readonly name: string;
}

/** What became of the session that adopted a peer's socket. */
interface Adopted {
  readonly session: Session<Request>;
  readonly states: string[];
  readonly reasons: string[];
  readonly answered: string[];
  readonly unanswered: string[];
  readonly acknowledge: ((isSafe: boolean) => void)[];
  request(name: string): void;
}

/** Speaks CMPP with the roles exchanged: the peer sends CONNECT and DELIVERs and answers SUBMITs. */
function adopt(socket: Socket, settings: Partial<AdoptedSettings>): Adopted {
  const requests = new Map<number, string>();
  const adopted: Adopted = {
    states: [],
    reasons: [],
    answered: [],
    unanswered: [],
    acknowledge: [],
    request(name) {
      const sequenceId = session.nextSequence();
      requests.set(sequenceId, name);
      const pdu = pdus.query.encode(sequenceId, { time: '', queryType: 0, queryCode: name, reserve: '' });
      session.request(sequenceId, pdu, { name, writtenAt: 0 }, performance.now());
    },
    get session() {
      return session;
    },
  };
  const session = createSession<Request>(
    { socket, window: 2, responseTimeoutMs: 60_000, keepAliveMs: 60_000, keepAliveTries: 2, loginTimeoutMs: 5000, ...settings },
    {
      frames: cmppFrames,
      login: null,
      keepAlive: (sequenceId) => pdus.activeTest.encode(sequenceId, {}),
      leave: (sequenceId) => pdus.terminate.encode(sequenceId, {}),
      receive(buffer, start, end) {
        const id = commandOf(buffer, start);
        const sequenceId = sequenceOf(buffer, start);
        if (session.state === 'connecting') {
          const { sourceAddr } = pdus.connect.decode(buffer, start, end);
          const status = sourceAddr === spId ? 0 : 2;
          session.write(pdus.connectResp.encode(sequenceId, { status, authenticatorIsmg: Buffer.alloc(16), version: 0x30 }));
          if (status === 0) session.accepted(`${sourceAddr} logged in`);
          else session.refused(`${sourceAddr} is nobody we know`);
        } else if (id === command.queryResp) {
          const request = session.answered(sequenceId);
          if (request) adopted.answered.push(request.name);
        } else if (id === command.deliver) {
          adopted.acknowledge.push(session.delivered(sequenceId, pdus.deliver.decode(buffer, start, end).msgId));
        } else if (id === command.terminate) {
          session.write(pdus.terminateResp.encode(sequenceId, {}));
          session.left('the peer asked to leave');
        } else if (id === command.terminateResp) session.left('left');
      },
      answer: (sequenceId, msgId, isSafe) => session.write(pdus.deliverResp.encode(sequenceId, { msgId, result: isSafe ? 0 : 8 })),
      caughtUp() {},
      unanswered: ({ name }) => adopted.unanswered.push(name),
      isDrained: () => true,
      mayWrite: () => true,
      onState(state, reason) {
        adopted.states.push(state);
        adopted.reasons.push(reason);
      },
    },
  );
  return adopted;
}

/** The carrier's end: what it has received, and what it answers by itself. */
interface Peer {
  readonly socket: Socket;
  readonly received: Map<number, number[]>;
  answers: boolean;
  isClosed: boolean;
  logIn(as?: string): void;
}

const server = createServer();
const sockets: Socket[] = [];

beforeEach(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server.close();
  await once(server, 'close');
});

async function meet(settings: Partial<AdoptedSettings> = {}, isStarted = true): Promise<{ peer: Peer; adopted: Adopted }> {
  const address = server.address();
  const socket = connect(address && typeof address === 'object' ? address.port : 0, '127.0.0.1');
  const peer: Peer = {
    socket,
    received: new Map(),
    answers: true,
    isClosed: false,
    logIn(as = spId) {
      socket.write(pdus.connect.encode(1, { sourceAddr: as, authenticatorSource: Buffer.alloc(16), version: 0x30, timestamp: 101000000 }));
    },
  };
  const read = createFrameReader(cmppFrames, (buffer, start) => {
    const id = commandOf(buffer, start);
    const sequenceId = sequenceOf(buffer, start);
    const same = peer.received.get(id) ?? [];
    same.push(sequenceId);
    peer.received.set(id, same);
    if (!peer.answers) return;
    if (id === command.query) socket.write(pdus.queryResp.encode(sequenceId, nothingCounted));
    if (id === command.activeTest) socket.write(pdus.activeTestResp.encode(sequenceId, { reserved: '' }));
    if (id === command.terminate) socket.write(pdus.terminateResp.encode(sequenceId, {}));
  });
  socket.on('data', read);
  socket.on('error', () => {});
  socket.on('close', () => {
    peer.isClosed = true;
  });
  const [accepted] = (await once(server, 'connection')) as [Socket];
  sockets.push(socket, accepted);
  const adopted = adopt(accepted, settings);
  if (isStarted) adopted.session.start();
  return { peer, adopted };
}

const nothingCounted = {
  time: '',
  queryType: 0,
  queryCode: '',
  mtTlMsg: 0,
  mtTlUsr: 0,
  mtScs: 0,
  mtWt: 0,
  mtFl: 0,
  moScs: 0,
  moWt: 0,
  moFl: 0,
};
const delivery = (sequenceId: number) =>
  pdus.deliver.encode(sequenceId, {
    msgId: '00000000000000aa',
    destId: '',
    serviceId: '',
    tpPid: 0,
    tpUdhi: 0,
    msgFmt: 0,
    srcTerminalId: '',
    registeredDelivery: 0,
    msgContent: Buffer.from('x'),
  });
const until = (condition: () => unknown) => vi.waitFor(() => expect(condition()).toBeTruthy(), { timeout: 3000, interval: 5 });

async function loggedIn(settings: Partial<AdoptedSettings> = {}) {
  const pair = await meet(settings);
  pair.peer.logIn();
  await until(() => pair.adopted.session.state === 'up');
  return pair;
}

test('the peer logs in, is answered, and requests go both ways', async () => {
  const { peer, adopted } = await loggedIn();
  expect(adopted.reasons).toEqual(['from 127.0.0.1', `${spId} logged in`]);
  expect(peer.received.get(command.connect)).toBeUndefined();
  expect(peer.received.get(command.connectResp)).toEqual([1]);
  adopted.request('a');
  adopted.request('b');
  expect(adopted.session.free()).toBe(0);
  await until(() => adopted.answered.length === 2);
  expect(adopted.session.free()).toBe(2);
  peer.socket.write(Buffer.concat([delivery(7), delivery(8)]));
  await until(() => adopted.acknowledge.length === 2);
  adopted.acknowledge[1]?.(true);
  adopted.acknowledge[1]?.(false);
  await until(() => peer.received.get(command.deliverResp)?.length === 1);
  expect(peer.received.get(command.deliverResp)).toEqual([8]);
});

test('a peer that is refused is told so before the connection ends, and nobody dials it', async () => {
  const { peer, adopted } = await meet();
  peer.logIn('900000');
  await until(() => peer.isClosed);
  expect(peer.received.get(command.connectResp)).toEqual([1]);
  expect(adopted.states).toEqual(['connecting', 'stopped']);
  expect(adopted.reasons.at(-1)).toBe('900000 is nobody we know');
});

test('a peer that does not log in in time, or speaks nonsense, is closed', async () => {
  const silent = await meet({ loginTimeoutMs: 40 });
  const odd = await meet();
  odd.peer.socket.write(Buffer.from('ffffffff00000001', 'hex'));
  await until(() => silent.peer.isClosed && odd.peer.isClosed);
  expect(silent.adopted.reasons.at(-1)).toBe('no login in time');
  expect(odd.adopted.reasons.at(-1)).toMatch(/cannot be understood/);
});

test('requests end with their time, or with the connection, which does not come back', async () => {
  const { peer, adopted } = await loggedIn({ responseTimeoutMs: 40 });
  peer.answers = false;
  adopted.request('late');
  await until(() => adopted.unanswered.length === 1);
  expect(adopted.session.state).toBe('up');
  adopted.request('lost');
  peer.socket.destroy();
  await until(() => adopted.session.state === 'stopped');
  expect(adopted.unanswered).toEqual(['late', 'lost']);
  expect(adopted.states).toEqual(['connecting', 'up', 'stopped']);
  // A session that ends by itself is stopped for its owner as well.
  await adopted.session.stop(1000);
  adopted.session.start();
  expect(adopted.session.state).toBe('stopped');
});

test('a silent peer is asked, and given up when it does not answer', async () => {
  const { peer, adopted } = await loggedIn({ keepAliveMs: 20, responseTimeoutMs: 20 });
  await until(() => (peer.received.get(command.activeTest)?.length ?? 0) >= 3);
  expect(adopted.session.state).toBe('up');
  peer.answers = false;
  await until(() => adopted.reasons.includes('no answer to the keep-alive'));
});

test('a stop waits for the answers owed and leaves politely', async () => {
  const { peer, adopted } = await loggedIn();
  peer.answers = false;
  adopted.request('a');
  await until(() => peer.received.has(command.query));
  const stopping = adopted.session.stop(3000);
  expect(adopted.session.state).toBe('draining');
  peer.answers = true;
  peer.socket.write(pdus.queryResp.encode(peer.received.get(command.query)![0]!, nothingCounted));
  await stopping;
  expect(adopted.answered).toEqual(['a']);
  expect(adopted.reasons.at(-1)).toBe('left');
  expect(adopted.states).toEqual(['connecting', 'up', 'draining', 'stopped']);
});

test('a stop before the start closes the socket', async () => {
  const { peer, adopted } = await meet({}, false);
  await adopted.session.stop(1000);
  await until(() => peer.isClosed);
  expect(adopted.states).toEqual(['stopped']);
});

test('a peer that delivers more than its owner answers is not read until half is answered', async () => {
  const { peer, adopted } = await loggedIn();
  peer.socket.write(Buffer.concat(Array.from({ length: 20_000 }, (_, index) => delivery(index))));
  await until(() => adopted.acknowledge.length >= 2000);
  await new Promise((resolve) => setTimeout(resolve, 30));
  // Frames that had been read already are passed on.
  expect(adopted.acknowledge.length).toBeLessThan(3000);
  for (let done = 0; done < 20_000; done += 1) {
    if (done === adopted.acknowledge.length) await until(() => adopted.acknowledge.length > done);
    adopted.acknowledge[done]?.(true);
  }
  await until(() => peer.received.get(command.deliverResp)?.length === 20_000);
});
