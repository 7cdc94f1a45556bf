/** The simulated MMSC with the platform's own connection and receiver: fates, reports, replies, and the requests that it refuses. */
import { createServer } from 'node:http';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { CarrierInbound, CarrierReport, MessagePackage, ReadReply, SegmentOutcome } from '../src/channels/channel.ts';
import { createMm7Connection, type Mm7Settings } from '../src/channels/mm7/connection.ts';
import { createMm7Receiver } from '../src/channels/mm7/door.ts';
import { mm7Namespace, readEnvelope, writeEnvelope, writeRequest } from '../src/protocols/mm7/mm7.ts';
import { decodeText } from '../src/protocols/text.ts';
import { createMmsc, type MmscOptions } from './mm7.ts';
import type { PhoneMms } from './simulator.ts';

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const undo of cleanUp.splice(0).toReversed()) await undo();
});

const accessNumber = '10690001';
const until = (condition: () => unknown) => vi.waitFor(() => expect(condition()).toBeTruthy(), { timeout: 3000, interval: 5 });
const content: MessagePackage = {
  subject: '测试',
  frames: [{ text: '你好', media: { contentType: 'image/gif', extension: 'gif', bytes: Buffer.from('GIF89a') }, mediaFirst: true }],
};

/** The MMSC, a connection to it, and a listener where its reports arrive. */
async function platform(options: Partial<MmscOptions> = {}, settings: Partial<Mm7Settings> = {}) {
  const happened: string[] = [];
  const reports: CarrierReport[] = [];
  const inbound: CarrierInbound[] = [];
  const readReplies: ReadReply[] = [];
  const behaviour = { safe: () => true };
  const receiver = createMm7Receiver(
    { allowedAddresses: ['127.0.0.1'], callbackUsername: 'mmsc', password: 'p', accessNumber },
    {
      onReport(report, acknowledge) {
        happened.push('report');
        reports.push(report);
        acknowledge(behaviour.safe());
      },
      onInbound(message, acknowledge) {
        inbound.push(message);
        acknowledge(behaviour.safe());
      },
      onReadReply(reply, acknowledge) {
        readReplies.push(reply);
        acknowledge(behaviour.safe());
      },
    },
  );
  const listener = createServer((request, response) => {
    void request.toArray().then(async (chunks: Buffer[]) => {
      const { authorization, 'content-type': contentType = '' } = request.headers;
      const remoteAddress = request.socket.remoteAddress ?? '';
      const answer = await receiver.receive({ contentType, authorization, remoteAddress, body: Buffer.concat(chunks) });
      response.writeHead(answer.status, { 'content-type': answer.contentType, ...answer.headers }).end(answer.body);
    });
  });
  await new Promise<void>((resolve) => void listener.listen(0, '127.0.0.1', resolve));
  const address = listener.address();
  const vaspUrl = `http://127.0.0.1:${address && typeof address === 'object' ? address.port : 0}/notify`;
  const mmsc = createMmsc({
    vaspId: '1',
    accessNumber,
    vaspUrl,
    vaspUsername: 'mmsc',
    vaspPassword: 'p',
    reportDelayMs: 20,
    redeliverMs: 20,
    ...options,
  });
  const phones: PhoneMms[] = [];
  mmsc.onMessage((message) => phones.push(message));
  await mmsc.start();
  const connection = createMm7Connection(
    { url: mmsc.url, vaspId: '1', vasId: accessNumber, ratePerSecond: 10_000, throttleBackoffMs: 10, gatherMs: 5, ...settings },
    { events: { onState() {}, onRoom() {}, onReport() {}, onReadReply() {}, onInbound() {} }, mayWrite: () => true },
  );
  connection.start();
  cleanUp.push(
    async () => {
      listener.closeAllConnections();
      listener.close();
    },
    () => mmsc.stop(),
    () => connection.stop(0),
  );
  await until(() => connection.state === 'up');
  const send = (to: string) =>
    new Promise<SegmentOutcome>((resolve) =>
      connection.send({ to, from: `${accessNumber}77`, content, reference: 0 }, ([outcome]) => {
        happened.push('response');
        resolve(outcome!);
      }),
    );
  return { mmsc, vaspUrl, phones, reports, inbound, readReplies, behaviour, happened, send };
}

describe('fates', () => {
  test.each([
    ['5555', ['DELIVRD']],
    ['0001', ['UNDELIV']],
    ['0002', ['EXPIRED']],
    ['0003', ['REJECTD']],
    ['0004', ['MK:0001']],
    ['0006', ['DELIVRD']],
    ['0008', ['DELIVRD']],
    ['0009', ['DELIVRD', 'DELIVRD']],
    ['0010', ['DELIVRD']],
  ])('%s', async (ending, expected) => {
    const { mmsc, phones, reports, send, happened } = await platform({ slowReportDelayMs: 60 });
    const outcome = await send(`861380013${ending}`);
    const carrierId = outcome.kind === 'accepted' ? outcome.carrierId : '';
    expect(carrierId).toMatch(new RegExp(`/861380013${ending}$`));
    await until(() => mmsc.counters.acknowledged === expected.length);
    expect(reports.map((report) => [report.carrierId, report.status])).toEqual(expected.map((status) => [carrierId, status]));
    expect(phones).toHaveLength(expected[0] === 'DELIVRD' ? 1 : 0);
    expect(happened[0]).toBe(ending === '0010' ? 'report' : 'response');
    expect(mmsc.counters.throttled).toBe(ending === '0006' ? 1 : 0);
  });

  test('0005 is refused, 0007 is never reported', async () => {
    const { mmsc, phones, send } = await platform();
    expect(await send('8613800130005')).toEqual({ kind: 'rejected', code: 'ER:2002' });
    expect(await send('8613800130007')).toMatchObject({ kind: 'accepted' });
    await new Promise((resolve) => setTimeout(resolve, 80));
    expect(phones.map(({ to }) => to)).toEqual(['8613800130007']);
    expect(mmsc.counters.reports).toBe(0);
  });

  test.each([
    ['0011', 'TD'],
    ['0012', '你好,|世界'],
  ])('%s is delivered, and the person replies', async (ending, reply) => {
    const { inbound, send } = await platform();
    await send(`861380013${ending}`);
    await until(() => inbound.length === 1);
    expect(inbound[0]).toMatchObject({ from: `861380013${ending}`, to: `${accessNumber}77` });
    expect(decodeText(inbound[0]!.octets, 'ucs2')).toBe(reply);
  });
});

describe('reports', () => {
  test('come again until they are safe, and wait while there is nowhere to go', async () => {
    const { mmsc, vaspUrl, reports, behaviour, send } = await platform({ vaspUrl: null });
    await Promise.all(Array.from({ length: 50 }, (_, i) => send(String(8613900005555 + 10_000 * i))));
    await until(() => mmsc.owed === 50);
    let refusals = 3;
    behaviour.safe = () => (refusals -= 1) < 0;
    mmsc.vaspUrl = vaspUrl;
    await until(() => mmsc.owed === 0);
    expect(mmsc.counters).toMatchObject({ acknowledged: 50, refused: 3, reports: 53 });
    expect(new Set(reports.map(({ carrierId }) => carrierId)).size).toBe(50);
  });

  test('of mbuni’s kind, with Recipient and Sender exchanged, match all the same', async () => {
    const { reports, send } = await platform({ reportStyle: 'mbuni' });
    const outcomes = await Promise.all(['8613900015555', '8613900025555', '8613900030002'].map(send));
    await until(() => reports.length === 3);
    const expected = outcomes.map((outcome, i) => `${outcome.kind === 'accepted' && outcome.carrierId} ${i === 2 ? 'EXPIRED' : 'DELIVRD'}`);
    expect(new Set(reports.map(({ carrierId, status }) => `${carrierId} ${status}`))).toEqual(new Set(expected));
  });

  test('are followed by read replies where those were asked for', async () => {
    const { readReplies, send } = await platform({}, { readReply: true });
    const outcome = await send('8613900015555');
    await until(() => readReplies.length === 1);
    expect(readReplies).toMatchObject([{ carrierId: outcome.kind === 'accepted' && outcome.carrierId, status: 'Read' }]);
  });
});

test('a person writes to a number of ours, and not to one of somebody else', async () => {
  const { mmsc, inbound } = await platform();
  expect(mmsc.reply({ from: '13800138000', to: `${accessNumber}1`, content: '好的' })).toBe(true);
  expect(mmsc.reply({ from: '13800138000', to: '999', content: 'x' })).toBe(false);
  expect(mmsc.reply({ from: 'x', to: accessNumber, content: 'x' })).toBe(false);
  await until(() => inbound.length === 1);
  expect(inbound[0]).toMatchObject({ from: '8613800138000', to: `${accessNumber}1` });
});

test('phones that do not keep anything cost nothing, and one package is kept once', async () => {
  const { mmsc, phones, send } = await platform();
  await send('8613900015555');
  await send('8613900025555');
  expect(phones[1]?.frames).toBe(phones[0]?.frames);
  mmsc.recording = false;
  await send('8613900035555');
  expect(phones).toHaveLength(2);
});

describe('faults', () => {
  const many = (send: (to: string) => Promise<SegmentOutcome>, count: number) =>
    Promise.all(Array.from({ length: count }, (_, n) => send(String(8613900005000 + n))));
  const kindsOf = (outcomes: readonly SegmentOutcome[]) => [...new Set(outcomes.map(({ kind }) => kind))];
  /** One recipient a request. */
  const single = { recipientsPerRequest: 1, responseTimeoutMs: 20_000, reconnectMinMs: 20, reconnectMaxMs: 60, failuresUntilDown: 1000 };

  test('of a share of requests: throttled and tried again, rejected with any code, by MM7 or by HTTP', async () => {
    const { mmsc, send } = await platform({}, single);
    mmsc.faults = { throttleShare: 0.3 };
    expect(kindsOf(await many(send, 20))).toEqual(['accepted']);
    expect(mmsc.counters.throttled).toBeGreaterThan(0);
    mmsc.faults = { rejectShare: 0.5 };
    expect(kindsOf(await many(send, 40)).sort()).toEqual(['accepted', 'rejected']);
    mmsc.faults = { rejectShare: 1, rejectCode: 4005, rejectAsFault: true };
    expect(await send('8613900015555')).toEqual({ kind: 'rejected', code: 'ER:4005', isOurs: true });
    mmsc.faults = { rejectShare: 1, rejectCode: 502 };
    expect(await send('8613900015555')).toEqual({ kind: 'unknown' });
  });

  test('throttled beyond so many requests a second', async () => {
    const { mmsc, send } = await platform({}, { ...single, concurrency: 64 });
    mmsc.faults = { throttleAbovePerSecond: 5 };
    await many(send, 30);
    // The tries of less than a second may lie on both sides of a second's end.
    expect(mmsc.counters.accepted).toBeGreaterThanOrEqual(5);
    expect(mmsc.counters.accepted).toBeLessThan(30);
    expect(mmsc.counters.throttled).toBeGreaterThanOrEqual(30 - mmsc.counters.accepted);
  });

  test('late answers and reports', async () => {
    const { mmsc, reports, send } = await platform({}, single);
    mmsc.faults = { responseDelayMs: 150, reportDelayMs: 300 };
    const start = performance.now();
    await send('8613900015555');
    expect(performance.now() - start).toBeGreaterThan(145);
    await until(() => reports.length === 1);
    expect(performance.now() - start).toBeGreaterThan(295);
  });

  test('unanswered, or broken off after the body: taken all the same, and unknown to us', async () => {
    const { mmsc, phones, send } = await platform({}, { ...single, responseTimeoutMs: 1000 });
    mmsc.faults = { unansweredShare: 1 };
    expect(kindsOf(await many(send, 3))).toEqual(['unknown']);
    mmsc.faults = { dropEvery: 2 };
    expect(kindsOf(await many(send, 4)).sort()).toEqual(['accepted', 'unknown']);
    expect(phones).toHaveLength(7);
  });

  test('reports twice, early, out of order, or never', async () => {
    const { mmsc, reports, happened, send } = await platform({}, single);
    mmsc.faults = { duplicateReportShare: 1 };
    await many(send, 5);
    await until(() => reports.length === 10);
    expect(new Set(reports.map(({ carrierId }) => carrierId)).size).toBe(5);
    happened.splice(0);
    mmsc.faults = { earlyReportShare: 1, duplicateReportShare: 1 };
    await send('8613900015555');
    expect(happened).toEqual(['report', 'response']);
    await until(() => happened.length === 3);
    reports.splice(0);
    mmsc.faults = { reorderReportShare: 0.5 };
    await many(send, 30);
    await until(() => reports.length === 30);
    const order = reports.map(({ carrierId }) => carrierId.split('/')[1] ?? '');
    expect(order).not.toEqual(order.toSorted());
    mmsc.faults = { lostReportShare: 1 };
    await many(send, 5);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(reports).toHaveLength(30);
    expect(mmsc.owed).toBe(0);
  });

  test('connections that stay open and say nothing are given up; with the fault ended they go on', async () => {
    const { mmsc, phones, send } = await platform({}, { ...single, responseTimeoutMs: 1000 });
    await send('8613900015555');
    mmsc.faults = { halfOpen: true };
    const outcomes = await many(send, 8);
    expect(kindsOf(outcomes)).toContain('unknown');
    // Requests without an answer were not read either.
    expect(phones.length).toBe(1 + outcomes.filter(({ kind }) => kind === 'accepted').length);
    mmsc.faults = {};
    await vi.waitFor(async () => expect((await send('8613900025555')).kind).toBe('accepted'), { timeout: 3000 });
  });

  test('for a time everything is silent, also towards us; then it goes on', async () => {
    const { mmsc, reports, send } = await platform({}, single);
    await send('8613900015555');
    const start = performance.now();
    mmsc.faults = { halfOpenMs: 300 };
    const reported = until(() => reports.length > 0).then(() => performance.now() - start);
    expect(await send('8613900025555')).toMatchObject({ kind: 'accepted' });
    expect(performance.now() - start).toBeGreaterThan(295);
    expect(await reported).toBeGreaterThan(295);
    await until(() => reports.length === 2);
  });

  test('for a time nobody is let in: by 401, or by a reset', async () => {
    const { mmsc, send } = await platform();
    const status = () =>
      fetch(mmsc.url, { method: 'POST', headers: { connection: 'close' } }).then(
        (response) => response.status,
        () => 'reset',
      );
    mmsc.faults = { refuseLoginsMs: 600_000 };
    expect(await status()).toBe(401);
    mmsc.faults = { refuseConnectionsMs: 600_000 };
    expect(await status()).toBe('reset');
    // Present connections stay.
    expect(await send('8613900015555')).toMatchObject({ kind: 'accepted' });
    mmsc.faults = { refuseLoginsMs: 50, refuseConnectionsMs: 50 };
    await until(async () => (await status()) === 500);
  });
});

describe('what it refuses', () => {
  const smil = (src: string) => `<smil><body><par><text src="${src}"/></par></body></smil>`;
  async function submit(inner: string, body: string, { vaspId = '1', to = '+8613900015555' } = {}) {
    const { mmsc } = await platform();
    const envelope = writeEnvelope({
      transactionId: '1',
      namespace: mm7Namespace('REL-6-MM7-1-4'),
      message: {
        name: 'SubmitReq',
        fields: {
          senderIdentification: { vaspId, vasId: null, senderAddress: null },
          recipients: { to: [{ kind: 'Number', value: to }], cc: null, bcc: null },
        },
      },
    });
    const { contentType, chunks } = writeRequest(
      envelope,
      { headers: [`Content-Type: ${inner}`], body },
      { rootId: 'r', boundary: 'outer' },
    );
    const response = await fetch(mmsc.url, { method: 'POST', headers: { 'content-type': contentType }, body: Buffer.concat(chunks) });
    const { message } = readEnvelope(await response.text());
    return 'fields' in message && 'status' in message.fields ? message.fields.status : null;
  }
  const mixed = 'multipart/related; boundary=inner; start="<s>"';
  const parts = (src: string) =>
    `--inner\r\nContent-Type: application/smil\r\nContent-ID: <s>\r\n\r\n${smil(src)}\r\n--inner\r\nContent-Location: 1.txt\r\n\r\nx\r\n--inner--`;

  test('nothing that is right', async () => {
    expect(await submit(mixed, parts('1.txt'))).toMatchObject({ statusCode: 1000 });
  });
  test('a SMIL that names what is not there', async () => {
    expect(await submit(mixed, parts('2.txt'))).toMatchObject({ statusCode: 2004, statusText: expect.stringContaining('2.txt') });
  });
  test('a content whose boundary is another', async () => {
    expect(await submit('multipart/related; boundary=other', parts('1.txt'))).toMatchObject({ statusCode: 2004 });
  });
  test('a stranger', async () => {
    expect(await submit(mixed, parts('1.txt'), { vaspId: '2' })).toMatchObject({ statusCode: 4001 });
  });
  test('what is no number', async () => {
    expect(await submit(mixed, parts('1.txt'), { to: 'nobody' })).toMatchObject({ statusCode: 2002 });
  });
});
