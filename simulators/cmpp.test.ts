/** Faults of the simulated gateway, as a plain socket client sees them, and as the platform's own connection does. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { connect as connectTcp } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { createCmppConnection } from '../src/channels/cmpp.ts';
import type { SegmentOutcome } from '../src/channels/channel.ts';
import {
  authenticatorSource,
  cmpp,
  cmppFrames,
  command,
  commandOf,
  connectTimestamp,
  decodeConnectResp,
  decodeDeliver,
  decodeReport,
  decodeSubmitResp,
  sequenceOf,
} from '../src/protocols/cmpp.ts';
import { createFrameReader } from '../src/protocols/wire/framing.ts';
import type { Faults } from './faults.ts';
import { createIsmg, type IsmgOptions } from './cmpp.ts';
import type { PhoneMessage } from './gateway.ts';
import { readJournal } from './journal.ts';

const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const undo of cleanUp.splice(0).toReversed()) await undo();
});

const spId = '901234';
const secret = '1qaz2wsx';
const from = '10690001';
const until = (condition: () => unknown) => vi.waitFor(() => expect(condition()).toBeTruthy(), { timeout: 10_000, interval: 5 });
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const phoneOf = (n: number): string => String(13900005000 + n);

async function simulate(faults: Faults = {}, options: Partial<IsmgOptions> = {}) {
  const ismg = createIsmg({ accounts: [{ spId, secret, accessNumbers: [from] }], reportDelayMs: 20, redeliverMs: 30, ...options });
  const phones: PhoneMessage[] = [];
  ismg.onMessage((message) => phones.push(message));
  await ismg.start();
  ismg.faults = faults;
  cleanUp.push(() => ismg.stop());
  return Object.assign(ismg, { phones });
}

/** A plain socket client. It keeps everything it receives, in order. */
async function dial(port: number) {
  const socket = connectTcp(port, '127.0.0.1').setNoDelay(true);
  /** `0` or another result of the nth submit; report ids. */
  const results = new Map<number, number>();
  const ids = new Map<number, string>();
  const reports: { id: string; deliverId: string; phone: string; at: number }[] = [];
  const heard: string[] = [];
  const state = { status: -1, end: '', alive: 0 };
  socket.on('error', (error: NodeJS.ErrnoException) => (state.end = error.code ?? 'error'));
  socket.on('close', () => (state.end ||= 'closed'));
  socket.on(
    'data',
    createFrameReader(cmppFrames, (buffer, start, end) => {
      const id = commandOf(buffer, start);
      if (id === command.connectResp) state.status = decodeConnectResp(buffer, start, end).status;
      else if (id === command.activeTestResp) state.alive += 1;
      else if (id === command.submitResp) {
        const { msgId, result } = decodeSubmitResp(buffer, start, end);
        results.set(sequenceOf(buffer, start), result);
        ids.set(sequenceOf(buffer, start), msgId);
        heard.push('response');
      } else if (id === command.deliver) {
        const deliver = decodeDeliver(3, buffer, start, end);
        const report = decodeReport(deliver.msgContent);
        reports.push({ id: report.msgId, deliverId: deliver.msgId, phone: deliver.srcTerminalId, at: performance.now() });
        heard.push('report');
        socket.write(cmpp[3].deliverResp.encode(sequenceOf(buffer, start), { msgId: deliver.msgId, result: 0 }));
      }
    }),
  );
  cleanUp.push(() => socket.destroy());
  const timestamp = connectTimestamp(new Date());
  const proof = authenticatorSource(spId, secret, timestamp);
  socket.write(cmpp[3].connect.encode(1, { sourceAddr: spId, authenticatorSource: proof, version: 0x30, timestamp }));
  const submitOf = (n: number): Buffer =>
    cmpp[3].submit.encode(n, {
      msgId: '0000000000000000',
      pkTotal: 1,
      pkNumber: 1,
      registeredDelivery: 1,
      msgLevel: 0,
      serviceId: '',
      feeUserType: 0,
      feeTerminalId: '',
      feeTerminalType: 0,
      tpPid: 0,
      tpUdhi: 0,
      msgFmt: 0,
      msgSrc: spId,
      feeType: '01',
      feeCode: '',
      validTime: '',
      atTime: '',
      srcId: from,
      destTerminalId: [phoneOf(n)],
      destTerminalType: 0,
      msgContent: Buffer.from(`message ${n}`),
      linkId: '',
    });
  return {
    state,
    results,
    ids,
    reports,
    heard,
    /** Sends submits in one write, numbered from 1 or from the given number. */
    submit(count: number, first = 1) {
      socket.write(Buffer.concat(Array.from({ length: count }, (_, i) => submitOf(first + i))));
    },
    ask: () => socket.write(cmpp[3].activeTest.encode(9, {})),
    close: () => socket.destroy(),
  };
}

async function dialled(faults: Faults = {}, options: Partial<IsmgOptions> = {}) {
  const ismg = await simulate({}, options);
  const client = await dial(ismg.port);
  await until(() => client.state.status === 0);
  ismg.faults = faults;
  return { ismg, client };
}

describe('shares', () => {
  const run = async (faults: Faults): Promise<string> => {
    const { client } = await dialled(faults);
    client.submit(400);
    await until(() => client.results.size === 400);
    return [...client.results.values()].map((result) => (result === 0 ? '.' : String(result))).join('');
  };

  test('are about what was asked for, and the same again with the same seed only', async () => {
    const faults: Faults = { throttleShare: 0.3, seed: 7 };
    const first = await run(faults);
    expect(first.replaceAll('.', '').length).toBeGreaterThan(80);
    expect(first.replaceAll('.', '').length).toBeLessThan(160);
    expect(first).toMatch(/^[.8]+$/);
    expect(await run(faults)).toBe(first);
    expect(await run({ ...faults, seed: 8 })).not.toBe(first);
    // An additional fault does not shift the others.
    expect((await run({ ...faults, rejectShare: 0.2, rejectCode: 9 })).replaceAll('9', '.')).toBe(first);
  });

  test('are nothing when nothing is on, and everything at 1', async () => {
    expect(await run({})).toMatch(/^\.+$/);
    expect(await run({ rejectShare: 1 })).toBe('13'.repeat(400));
  });
});

describe('submits', () => {
  test('are throttled beyond so many a second', async () => {
    const { ismg, client } = await dialled({ throttleAbovePerSecond: 30 });
    client.submit(200);
    await until(() => client.results.size === 200);
    // The burst may lie on both sides of a second's end.
    expect(ismg.counters.accepted).toBeGreaterThanOrEqual(30);
    expect(ismg.counters.accepted).toBeLessThanOrEqual(60);
    expect(ismg.counters.throttled).toBe(200 - ismg.counters.accepted);
  });

  test('are answered later, and reported later than that', async () => {
    const { client } = await dialled({ responseDelayMs: 150, reportDelayMs: 300 });
    const start = performance.now();
    client.submit(1);
    await until(() => client.results.size === 1);
    expect(performance.now() - start).toBeGreaterThan(145);
    await until(() => client.reports.length === 1);
    expect(performance.now() - start).toBeGreaterThan(295);
  });

  test('are answered for a share only, though all of them are taken', async () => {
    const { ismg, client } = await dialled({ unansweredShare: 0.5 });
    client.submit(100);
    await until(() => client.reports.length === 100);
    expect(client.results.size).toBeGreaterThan(30);
    expect(client.results.size).toBeLessThan(70);
    expect(ismg.phones).toHaveLength(100);
  });

  test.each([{ dropEvery: 10 }, { dropShare: 0.1 }])('break the connection in the middle of the window: %o', async (faults) => {
    const { ismg, client } = await dialled(faults);
    client.submit(100);
    await until(() => client.state.end !== '');
    if ('dropEvery' in faults) expect(ismg.counters.submits).toBe(10);
    expect(ismg.counters.submits).toBeLessThan(100);
    expect(ismg.phones).toHaveLength(ismg.counters.submits);
    expect(client.results.size).toBe(0);
    // Their reports come by the next connection.
    const next = await dial(ismg.port);
    await until(() => next.reports.length === ismg.counters.submits);
  });
});

describe('reports', () => {
  test('come twice, with ids of their own', async () => {
    const { client } = await dialled({ duplicateReportShare: 1 });
    client.submit(20);
    await until(() => client.reports.length === 40);
    expect(new Set(client.reports.map(({ id }) => id))).toEqual(new Set(client.ids.values()));
    expect(new Set(client.reports.map(({ deliverId }) => deliverId)).size).toBe(40);
  });

  test('come before the answer', async () => {
    const { client } = await dialled({ earlyReportShare: 1 });
    client.submit(1);
    await until(() => client.heard.length === 2);
    expect(client.heard).toEqual(['report', 'response']);
  });

  test('come out of their order', async () => {
    const { client } = await dialled({ reorderReportShare: 0.5 });
    client.submit(50);
    await until(() => client.reports.length === 50);
    const order = client.reports.map(({ phone }) => phone);
    expect(order).not.toEqual(order.toSorted());
    expect(new Set(order).size).toBe(50);
  });

  test('are lost in a share, of messages that phones did get', async () => {
    const { ismg, client } = await dialled({ lostReportShare: 0.5 });
    client.submit(100);
    await until(() => client.results.size === 100);
    const lost = 100 - client.reports.length;
    await pause(100);
    expect(ismg.phones).toHaveLength(100);
    expect(client.reports.length).toBeGreaterThan(30);
    expect(client.reports.length).toBeLessThan(70);
    expect(lost).toBeGreaterThan(0);
    expect(ismg.owed).toBe(0);
  });
});

describe('connections', () => {
  test('stay open, silent and deaf; a new one works; those that are still there go on when the fault ends', async () => {
    const { ismg, client } = await dialled({ responseDelayMs: 50 });
    client.submit(1, 3);
    await until(() => ismg.counters.submits === 1);
    ismg.faults = { halfOpen: true };
    client.ask();
    client.submit(1);
    const next = await dial(ismg.port);
    await until(() => next.state.status === 0);
    next.submit(1, 2);
    await until(() => next.reports.length === 2); // its own, and those owed to the silent one
    await pause(100);
    expect(client.state).toMatchObject({ end: '', alive: 0 });
    expect(client.results.size).toBe(0);
    expect(ismg.counters.submits).toBe(2);
    ismg.faults = {};
    await until(() => client.state.alive === 1 && client.results.size === 2);
  });

  test('are all silent for a time, and go on after it', async () => {
    const { ismg, client } = await dialled();
    const start = performance.now();
    ismg.faults = { halfOpenMs: 300 };
    client.ask();
    const next = await dial(ismg.port);
    await until(() => client.state.alive === 1 && next.state.status === 0);
    expect(performance.now() - start).toBeGreaterThan(295);
  });

  test('are refused at the login for a time', async () => {
    const { ismg, client } = await dialled({ refuseLoginsMs: 200 });
    const refused = await dial(ismg.port);
    await until(() => refused.state.end !== '');
    expect(refused.state.status).toBe(5);
    client.ask();
    await until(() => client.state.alive === 1);
    await pause(200);
    const next = await dial(ismg.port);
    await until(() => next.state.status === 0);
  });

  test('are reset at once for a time', async () => {
    const { ismg, client } = await dialled({ refuseConnectionsMs: 200 });
    const refused = await dial(ismg.port);
    await until(() => refused.state.end !== '');
    expect(refused.state).toMatchObject({ status: -1, end: 'ECONNRESET' });
    client.ask();
    await until(() => client.state.alive === 1);
    await pause(200);
    const next = await dial(ismg.port);
    await until(() => next.state.status === 0);
  });
});

describe('the platform’s connection', () => {
  async function connected(settings: object = {}) {
    const ismg = await simulate();
    const states: string[] = [];
    const connection = createCmppConnection(
      {
        host: '127.0.0.1',
        port: ismg.port,
        spId,
        secret,
        ratePerSecond: 10_000,
        serviceId: 'HELP',
        reconnectMinMs: 10,
        reconnectMaxMs: 50,
        refusedMinMs: 50,
        throttleBackoffMs: 5,
        responseTimeoutMs: 100,
        ...settings,
      },
      {
        events: {
          onState: (state) => states.push(state),
          onRoom() {},
          onReport: (_, acknowledge) => acknowledge(true),
          onReadReply: (_, acknowledge) => acknowledge(true),
          onInbound: (_, acknowledge) => acknowledge(true),
        },
        mayWrite: () => true,
      },
    );
    cleanUp.push(() => connection.stop(0));
    connection.start();
    await until(() => connection.state === 'up');
    const send = (n = 1) =>
      new Promise<SegmentOutcome>((resolve) =>
        connection.send({ to: `86${phoneOf(n)}`, from, content: 'hello', reference: n }, ([outcome]) => resolve(outcome!)),
      );
    return { ismg, connection, states, send };
  }

  test('gives a half-open connection up, and sends over the next', async () => {
    const { ismg, connection, states, send } = await connected({ keepAliveMs: 100, keepAliveTries: 1 });
    ismg.faults = { halfOpen: true };
    expect(await send()).toEqual({ kind: 'unknown' });
    await until(() => states.includes('down') && connection.state === 'up');
    expect(await send()).toMatchObject({ kind: 'accepted' });
  });

  test('comes back after refusals, and gets past a throttle', async () => {
    const { ismg, connection, states, send } = await connected();
    ismg.faults = { refuseLoginsMs: 150 };
    ismg.dropConnections();
    await until(() => states.includes('refused'));
    await until(() => connection.state === 'up');
    ismg.faults = { throttleShare: 0.3 };
    const outcomes = await Promise.all(Array.from({ length: 16 }, (_, n) => send(n)));
    expect(outcomes.every(({ kind }) => kind === 'accepted')).toBe(true);
    expect(ismg.counters.throttled).toBeGreaterThan(0);
  });
});

describe('a process of its own', () => {
  const program = fileURLToPath(new URL('../dist/simulators/process.js', import.meta.url));

  async function start(port: number, journal: string) {
    const options = { port, accounts: [{ spId, secret, accessNumbers: [''] }], reportDelayMs: 10, window: 100 };
    const args = [program, 'cmpp', JSON.stringify(options), journal];
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    cleanUp.push(() => child.kill('SIGKILL'));
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const nextLine = async () => JSON.parse(String((await lines.next()).value)) as Record<string, unknown>;
    return {
      port: Number((await nextLine())['port']),
      async tell(line: string) {
        child.stdin.write(`${line}\n`);
        return nextLine();
      },
      async kill() {
        child.kill('SIGKILL');
        await new Promise((resolve) => child.once('exit', resolve));
      },
    };
  }

  test('takes faults by its input, and after a kill pays the reports it owes', async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hongyan-ismg-'));
    cleanUp.push(() => fs.rmSync(folder, { recursive: true, force: true }));
    const journal = path.join(folder, 'journal');
    const first = await start(0, journal);
    expect(await first.tell('faults {"lostReportShare":2}')).toEqual({ problem: 'lostReportShare: a number from 0 to 1' });
    expect(await first.tell('faults {"reportDelayMs":60000}')).toEqual({ faults: { reportDelayMs: 60_000 } });
    const client = await dial(first.port);
    client.submit(50);
    await until(() => client.results.size === 50);
    await first.kill();
    const second = await start(first.port, journal);
    const next = await dial(second.port);
    await until(() => next.reports.length === 50);
    expect(new Set(next.reports.map(({ id }) => id))).toEqual(new Set(client.ids.values()));
    const taken = readJournal(journal).flatMap((line) => ('took' in line ? [line.took.to] : []));
    expect(taken).toEqual(Array.from({ length: 50 }, (_, i) => phoneOf(i + 1)));
  });
});
