/** The connection against the simulated MMSC over real sockets; what a well-behaved one never does is played by a raw server. */
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { createMmsc, type Mmsc, type MmscOptions } from '../../../simulators/mm7.ts';
import type { PhoneMms } from '../../../simulators/simulator.ts';
import { keepsPromises, type Subject, until, useConnections, type Wired as WiredConnection } from '../../../test/kit/promises.ts';
import { mm7Namespace, readRequest, writeEnvelope } from '../../protocols/mm7/mm7.ts';
import { readPresentation } from '../../protocols/mm7/smil.ts';
import type { ConnectionEvents, MessagePackage, OutboundMessage, SegmentOutcome } from '../channel.ts';
import { createMm7Connection, type Mm7Settings } from './connection.ts';
import { createMm7Receiver } from './door.ts';

const connections = useConnections();

const vaspId = '800001';
const from = '10690001';
const account = { username: 'vasp', password: 'vasp-password' };

const picture = (octets: number) => ({ contentType: 'image/jpeg', extension: 'jpg', bytes: randomBytes(octets) });
const packageOf = (octets: number, subject = '测试彩信'): MessagePackage => ({
  subject,
  frames: [
    { text: '第一帧 <&>', media: picture(octets), mediaFirst: true },
    { text: '第二帧', media: null, mediaFirst: false },
  ],
});
const content = packageOf(3000);

/** Numbers without a fate. */
const phone = (index: number): string => String(8613800010000 + index * 10_000 + 5555);

type Simulated = Mmsc & { phones: PhoneMms[] };

async function startCarrier(options: Partial<MmscOptions> = {}): Promise<Simulated> {
  const mmsc = createMmsc({ vaspId, accessNumber: from, ...account, reportDelayMs: 20, redeliverMs: 30, ...options });
  const phones: PhoneMms[] = [];
  mmsc.onMessage((message) => phones.push(message));
  await mmsc.start();
  // Not spread: it has accessors.
  return Object.assign(mmsc, { phones });
}

async function simulate(options: Partial<MmscOptions> = {}): Promise<Simulated> {
  const mmsc = await startCarrier(options);
  connections.afterwards(() => mmsc.stop());
  return mmsc;
}

const settingsOf = (url: string, settings: Partial<Mm7Settings> = {}): Mm7Settings => ({
  url,
  vaspId,
  vasId: from,
  username: account.username,
  secret: account.password,
  ratePerSecond: 100_000,
  gatherMs: 5,
  reconnectMinMs: 10,
  reconnectMaxMs: 80,
  refusedMinMs: 60,
  throttleBackoffMs: 10,
  ...settings,
});

const portOf = (server: Pick<Server, 'address'>): number => {
  const address = server.address();
  return address && typeof address === 'object' ? address.port : 0;
};

/** Listens as our HTTP server does, and hands what the MMSC posts to the door of whoever connected last. */
async function listen(): Promise<{ url: string; close: () => void; open: (events: ConnectionEvents) => void }> {
  let door: ReturnType<typeof createMm7Receiver> | null = null;
  const server = createServer((request, response) => {
    void request.toArray().then(
      async (chunks: Buffer[]) => {
        const { 'content-type': contentType = '', authorization } = request.headers;
        const answer = await door?.receive({ contentType, authorization, remoteAddress: '127.0.0.1', body: Buffer.concat(chunks) });
        response.writeHead(answer?.status ?? 503, { 'content-type': answer?.contentType ?? 'text/plain' }).end(answer?.body);
      },
      () => {},
    );
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${portOf(server)}/`,
    close() {
      server.closeAllConnections();
      server.close();
    },
    open(events) {
      door = createMm7Receiver({ allowedAddresses: ['127.0.0.1'], accessNumber: from }, { ...events, onReadReply: () => {} });
    },
  };
}

const carriers = new WeakMap<object, { url: string; open: (events: ConnectionEvents) => void }>();
const subject: Subject = {
  name: 'MM7',
  message: { from, content: { subject: '测试彩信', frames: [{ text: '你好', media: null, mediaFirst: false }] }, reference: 7 },
  refusal: { kind: 'rejected', code: 'ER:2002' },
  async carrier() {
    const callbacks = await listen();
    const mmsc = await startCarrier({ vaspUrl: callbacks.url });
    const carrier = {
      start: () => mmsc.start(),
      async stop() {
        await mmsc.stop();
      },
      dropConnections: () => mmsc.dropConnections(),
      reply: (content: string) => void mmsc.reply({ from: '8613800138123', to: from, content }),
      counts: () => ({
        ...mmsc.counters,
        requests: mmsc.counters.uploads,
        peak: mmsc.counters.peakRequests,
        refusedLogins: mmsc.counters.unauthorized,
      }),
      phones: () => mmsc.phones.map(({ to }) => to),
      get faults() {
        return mmsc.faults;
      },
      set faults(faults) {
        mmsc.faults = faults;
      },
    };
    connections.afterwards(async () => callbacks.close());
    carriers.set(carrier, { url: mmsc.url, open: callbacks.open });
    return carrier;
  },
  connect(carrier, { window = 4, ...wishes }, deps) {
    const found = carrier && carriers.get(carrier);
    found?.open(deps.events);
    const settings = { recipientsPerRequest: 1, concurrency: window, ...wishes };
    return createMm7Connection(settingsOf(found?.url ?? 'http://127.0.0.1:1/mm7', settings), deps);
  },
};
keepsPromises(subject);

interface Wired extends Omit<WiredConnection, 'send'> {
  send(message?: Partial<OutboundMessage>): Promise<SegmentOutcome>;
  /** Hands all over in one turn. */
  sendMany(count: number, message?: Partial<OutboundMessage>): Promise<SegmentOutcome[]>;
}

function wire(url: string, settings: Partial<Mm7Settings> = {}, mayWrite: () => boolean = () => true): Wired {
  const wired = connections.wire((deps) => createMm7Connection(settingsOf(url, settings), deps), { mayWrite });
  const { send: sendOne } = wired;
  // A message is one segment.
  const send = async (message: Partial<OutboundMessage> = {}) =>
    (await sendOne({ to: phone(1), from, content, reference: 7, ...message }))[0]!;
  return Object.assign(wired, {
    send,
    sendMany: (count: number, message: Partial<OutboundMessage> = {}) =>
      Promise.all(Array.from({ length: count }, (_, i) => send({ to: phone(i), ...message }))),
  });
}

const isUp = (wired: Wired) => until(() => wired.connection.state === 'up');
const kinds = (outcomes: readonly SegmentOutcome[]) => [...new Set(outcomes.map(({ kind }) => kind))];

async function connected(options: Partial<MmscOptions> = {}, settings: Partial<Mm7Settings> = {}, mayWrite?: () => boolean) {
  const mmsc = await simulate(options);
  const wired = wire(mmsc.url, settings, mayWrite);
  await isUp(wired);
  return { mmsc, wired };
}

/** A server that does with each request that has a body what a test says; empty ones it greets. */
async function rawServer(onRequest: (body: Buffer, response: ServerResponse, request: IncomingMessage) => void): Promise<string> {
  const server = createServer((request, response) => {
    void request.toArray().then(
      (chunks: Buffer[]) => {
        const body = Buffer.concat(chunks);
        if (body.length === 0) response.end();
        else onRequest(body, response, request);
      },
      () => {},
    );
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  connections.afterwards(async () => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${portOf(server)}/mm7`;
}

const submitRsp = (transactionId: string | null, statusCode: number, messageId: string | null) =>
  writeEnvelope({
    transactionId,
    namespace: mm7Namespace('REL-6-MM7-1-4'),
    message: { name: 'SubmitRsp', fields: { status: { statusCode, statusText: null, details: null }, messageId } },
  });

describe('sending', () => {
  test('a package arrives as it was: subject, frames in order, texts, media', async () => {
    const { mmsc, wired } = await connected();
    expect(wired.states).toEqual(['connecting', 'up']);
    const media = picture(50_000);
    const frames = [
      { text: '文字在上', media, mediaFirst: false },
      { text: null, media: { contentType: 'video/mp4', extension: 'mp4', bytes: randomBytes(20_000) }, mediaFirst: true },
      { text: '只有文字', media: null, mediaFirst: false },
    ];
    const outcome = await wired.send({ content: { subject: 'A & B', frames } });
    expect(outcome).toEqual({ kind: 'accepted', carrierId: expect.stringMatching(/^m[0-9a-f]{6}\d{9}\/8613800025555$/) });
    const [received] = mmsc.phones;
    expect(received).toMatchObject({ to: phone(1), from, subject: 'A & B' });
    expect(received?.frames.map(({ text, media, mediaFirst }) => [text, media?.contentType, media?.bytes, mediaFirst])).toEqual([
      ['文字在上', 'image/jpeg', media.bytes, false],
      [null, 'video/mp4', frames[1]?.media?.bytes, true],
      ['只有文字', undefined, undefined, false],
    ]);
  });

  test('a hundred recipients take one upload, one id, and a carrier id each', async () => {
    const { mmsc, wired } = await connected();
    const outcomes = await wired.sendMany(100);
    expect(mmsc.counters).toMatchObject({ uploads: 1, accepted: 100 });
    const ids = outcomes.map((outcome) => (outcome.kind === 'accepted' ? outcome.carrierId.split('/') : []));
    expect(new Set(ids.map(([messageId]) => messageId)).size).toBe(1);
    expect(ids.map(([, number]) => number)).toEqual(Array.from({ length: 100 }, (_, i) => phone(i)));
  });

  test('groups are never larger than the limit, and never mix contents or source numbers', async () => {
    const { mmsc, wired } = await connected({}, { recipientsPerRequest: 30 });
    const other = packageOf(10, 'other');
    const outcomes = await Promise.all([
      wired.sendMany(70),
      wired.sendMany(5, { content: other }),
      wired.sendMany(5, { from: `${from}88` }),
      wired.send({ to: phone(0) }),
    ]);
    expect(kinds(outcomes.flat())).toEqual(['accepted']);
    expect(mmsc.counters.peakRecipients).toBe(30);
    // 30 + 30 + 10, twice 5; the number that comes twice needs no request of its own.
    expect(mmsc.counters.uploads).toBe(5);
    expect(mmsc.phones.filter(({ subject }) => subject === 'other')).toHaveLength(5);
    expect(mmsc.phones.filter(({ from: number }) => number === `${from}88`)).toHaveLength(5);
    expect(mmsc.phones.filter(({ to }) => to === phone(0))).toHaveLength(4);
  });

  test('a number twice in a row is two requests', async () => {
    const { mmsc, wired } = await connected();
    const outcomes = await Promise.all([wired.send(), wired.send()]);
    expect(new Set(outcomes.map((outcome) => outcome.kind === 'accepted' && outcome.carrierId)).size).toBe(2);
    expect(mmsc.counters.uploads).toBe(2);
  });

  /** Hands over as a dispatcher does: while there is room, never more than `most` at once. */
  function pour(wired: Wired, count: number, most: number, message: Partial<OutboundMessage>): Promise<SegmentOutcome[]> {
    const outcomes: SegmentOutcome[] = [];
    let next = 0;
    let open = 0;
    return new Promise((resolve) => {
      const more = () => {
        while (next < count && open < most && wired.connection.room() > 0) {
          open += 1;
          void wired.send({ ...message, to: String(8613900005500 + 10_000 * next) }).then((outcome) => {
            open -= 1;
            outcomes.push(outcome);
            if (outcomes.length === count) resolve(outcomes);
            else setImmediate(more);
          });
          next += 1;
        }
      };
      more();
    });
  }

  test('10,000 numbers upload a 1.9 MB package once for each hundred, in little memory', async () => {
    const { mmsc, wired } = await connected({ recording: false }, { gatherMs: 20 });
    const before = process.memoryUsage.rss();
    let peak = before;
    const watch = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage.rss());
    }, 20);
    const outcomes = await pour(wired, 10_000, 128, { content: packageOf(1_900_000) });
    clearInterval(watch);
    expect(kinds(outcomes)).toEqual(['accepted']);
    expect(mmsc.counters.uploads).toBe(100);
    expect(mmsc.counters.uploadedOctets).toBeGreaterThan(190_000_000);
    // Both ends of the wire are in this process.
    expect(peak - before).toBeLessThan(300 << 20);
  });

  test('room is enough for all requests at once and one more; none while a slow channel has a second’s worth in hand', async () => {
    const { wired } = await connected({}, { concurrency: 2, recipientsPerRequest: 10 });
    expect(wired.connection.room()).toBe(30);
    void wired.sendMany(30);
    expect(wired.connection.room()).toBe(0);
    await until(() => wired.rooms > 0 && wired.connection.room() === 30);
    const slow = await connected({}, { recipientsPerRequest: 10, ratePerSecond: 15 });
    expect(slow.wired.connection.room()).toBe(15);
  });

  test('the rate holds', async () => {
    const { mmsc, wired } = await connected({}, { recipientsPerRequest: 50, ratePerSecond: 500 });
    const start = performance.now();
    await wired.sendMany(200);
    expect(performance.now() - start).toBeGreaterThan(290);
    expect(mmsc.counters.uploads).toBe(4);
  });

  test('a text is no MMS, a word is no number, and a second segment there is not', async () => {
    const { mmsc, wired } = await connected();
    expect(await wired.send({ content: 'hello' })).toEqual({ kind: 'rejected', code: 'ER:2004' });
    expect(await wired.send({ to: 'nobody' })).toEqual({ kind: 'rejected', code: 'ER:2002' });
    expect(await wired.send({ only: [1] })).toEqual({ kind: 'unsent' });
    expect(await wired.send({ only: [0] })).toMatchObject({ kind: 'accepted' });
    expect(wired.connection.segmentsOf('x'.repeat(1000))).toBe(1);
    expect(mmsc.counters.uploads).toBe(1);
  });

  test('the dialect is a setting', async () => {
    const seen: { headers: IncomingMessage['headers']; body: Buffer }[] = [];
    const url = await rawServer((body, response, { headers }) => {
      seen.push({ headers, body });
      response.end(submitRsp('1', 1000, 'id'));
    });
    const wired = wire(url, {
      namespace: 'REL-5-MM7-1-0',
      version: '5.3.0',
      prefixes: 'prefixed',
      senderStyle: 'text',
      numberStyle: 'national',
      sourceStyle: 'cid',
      soapAction: '"Submit"',
      serviceCode: '110001',
      validityHours: 48,
      readReply: true,
      frameMs: 20_000,
    });
    await isUp(wired);
    expect(await wired.send()).toEqual({ kind: 'accepted', carrierId: `id/${phone(1)}` });
    const { headers, body } = seen[0]!;
    expect(headers).toMatchObject({ soapaction: '"Submit"', authorization: expect.stringMatching(/^Basic /) });
    const { envelope, content: attached } = readRequest(headers['content-type'] ?? '', body);
    expect(envelope).toMatchObject({
      namespace: mm7Namespace('REL-5-MM7-1-0'),
      message: {
        name: 'SubmitReq',
        fields: {
          mm7Version: '5.3.0',
          senderIdentification: { vaspId, vasId: from, senderAddress: [{ kind: 'text', value: from }] },
          recipients: { to: [{ kind: 'Number', value: phone(1).slice(2) }] },
          serviceCode: '110001',
          readReply: true,
          deliveryReport: true,
        },
      },
    });
    const { message } = envelope;
    const times = message.name === 'SubmitReq' ? [message.fields.timeStamp ?? '', message.fields.expiryDate ?? ''] : [];
    expect(times[0]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+08:00$/);
    expect(Date.parse(times[1] ?? '') - Date.parse(times[0] ?? '')).toBe(48 * 3600_000);
    expect(body.toString('latin1')).toMatch(/<par dur="20000ms"><img src="cid:1\.jpg"/);
    expect(attached && readPresentation(attached).problems).toEqual([]);
  });
});

describe('answers', () => {
  const single = { recipientsPerRequest: 1, throttleTries: 2 };
  test.each([
    [1000, { kind: 'accepted' }],
    [2000, { kind: 'rejected', code: 'ER:2000' }],
    [2001, { kind: 'rejected', code: 'ER:2001' }],
    [2004, { kind: 'rejected', code: 'ER:2004' }],
    [2999, { kind: 'rejected', code: 'ER:2999' }],
    [3000, { kind: 'throttled' }],
    [3002, { kind: 'rejected', code: 'ER:3002' }],
    [3003, { kind: 'rejected', code: 'ER:3003' }],
    [3777, { kind: 'throttled' }],
    [4000, { kind: 'throttled' }],
    [4001, { kind: 'rejected', code: 'ER:4001', isOurs: true }],
    [4005, { kind: 'rejected', code: 'ER:4005', isOurs: true }],
    [4006, { kind: 'throttled' }],
  ] as const)('status %i, in a response and in a fault', async (statusCode, outcome) => {
    const { mmsc, wired } = await connected({}, single);
    const refusing = { rejectShare: statusCode === 1000 ? 0 : 1, rejectCode: statusCode };
    mmsc.faults = refusing;
    expect(await wired.send()).toMatchObject(outcome);
    mmsc.faults = { ...refusing, rejectAsFault: true };
    expect(await wired.send()).toMatchObject(outcome);
    expect(wired.connection.state).toBe('up');
  });

  test('1100, partial success, counts as taken; "Flow refuse" as too fast', async () => {
    const url = await rawServer((_, response) => response.end(submitRsp('1', 1100, 'part')));
    const wired = wire(url);
    await isUp(wired);
    expect(await wired.send()).toMatchObject({ kind: 'accepted' });
    const { mmsc, wired: flooding } = await connected({}, single);
    mmsc.faults = { rejectShare: 1, rejectCode: 2001, rejectText: 'Operation restricted : Flow refuse' };
    expect(await flooding.send()).toEqual({ kind: 'throttled' });
  });

  test.each([
    [400, { kind: 'rejected', code: 'ER:0400' }, 'up'],
    [413, { kind: 'rejected', code: 'ER:0413' }, 'up'],
    [429, { kind: 'throttled' }, 'up'],
    [500, { kind: 'throttled' }, 'up'],
    [503, { kind: 'throttled' }, 'up'],
    [502, { kind: 'unknown' }, 'up'],
    [504, { kind: 'unknown' }, 'up'],
    [200, { kind: 'unknown' }, 'up'],
    [302, { kind: 'unsent' }, 'refused'],
    [401, { kind: 'unsent' }, 'refused'],
    [403, { kind: 'unsent' }, 'refused'],
    [404, { kind: 'unsent' }, 'refused'],
  ] as const)('HTTP %i without MM7 in it', async (status, outcome, state) => {
    const { mmsc, wired } = await connected({}, single);
    mmsc.faults = { rejectShare: 1, rejectCode: status };
    expect(await wired.send()).toEqual(outcome);
    expect(wired.connection.state).toBe(state);
  });

  test('"busy" goes out again by itself, and is taken then', async () => {
    const { mmsc, wired } = await connected();
    const outcomes = await wired.sendMany(20, {});
    expect(kinds(outcomes)).toEqual(['accepted']);
    const throttledOnce = await Promise.all([wired.send({ to: '8613800130006' }), wired.send({ to: phone(2) })]);
    expect(kinds(throttledOnce)).toEqual(['accepted']);
    expect(mmsc.counters).toMatchObject({ throttled: 1, uploads: 3 });
  });

  test('one bad number costs only itself, however many it was sent with', async () => {
    const { mmsc, wired } = await connected();
    const outcomes = await Promise.all([
      ...Array.from({ length: 99 }, (_, i) => wired.send({ to: phone(i) })),
      wired.send({ to: '8613800130005' }),
    ]);
    expect(outcomes.pop()).toEqual({ kind: 'rejected', code: 'ER:2002' });
    expect(kinds(outcomes)).toEqual(['accepted']);
    expect(new Set(mmsc.phones.map(({ to }) => to)).size).toBe(99);
    expect(mmsc.phones).toHaveLength(99);
    expect(mmsc.counters.uploads).toBeLessThan(16);
  });

  test('an MMSC that takes fewer recipients, or one at a time, gets as many, and is not asked again', async () => {
    const { mmsc, wired } = await connected({ maxRecipients: 30 });
    expect(kinds(await wired.sendMany(100))).toEqual(['accepted']);
    const before = mmsc.counters.rejected;
    expect(kinds(await wired.sendMany(100))).toEqual(['accepted']);
    expect(mmsc.counters.rejected).toBe(before);

    let most = 0;
    const url = await rawServer((body, response) => {
      const count = body.toString('latin1').match(/<Number>/g)?.length ?? 0;
      if (most === 0) most = count;
      response.end(count > 1 ? submitRsp('1', 3003, null) : submitRsp('1', 1000, 'one'));
    });
    const choosy = wire(url);
    await isUp(choosy);
    expect(kinds(await choosy.sendMany(10))).toEqual(['accepted']);
    expect(most).toBe(10);
  });

  test('taken without a usable MessageID is taken', async () => {
    for (const messageId of [null, '', 'x'.repeat(300)]) {
      const url = await rawServer((_, response) => response.end(submitRsp('1', 1000, messageId)));
      const wired = wire(url);
      await isUp(wired);
      expect(await wired.send()).toEqual({ kind: 'accepted', carrierId: expect.stringMatching(/^[0-9a-f]{8}-\d+\/8613800025555$/) });
    }
  });

  test.each([
    ['no SOAP', '<html>It works!</html>'],
    ['another message', '<e:Envelope xmlns:e="x"><e:Body><DeliverRsp/></e:Body></e:Envelope>'],
    ['no status', '<e:Envelope xmlns:e="x"><e:Body><SubmitRsp/></e:Body></e:Envelope>'],
    ['a document type', '<!DOCTYPE x><a/>'],
    ['much more than an answer', 'x'.repeat(1 << 20)],
  ])('%s leaves it open whether it was taken', async (_, body) => {
    const wired = wire(await rawServer((_, response) => response.end(body)));
    await isUp(wired);
    expect(kinds(await wired.sendMany(3))).toEqual(['unknown']);
  });
});

describe('authentication', () => {
  test('Digest asks for its challenge with an empty request, so every package is uploaded once', async () => {
    const { mmsc, wired } = await connected({ authentication: 'digest' }, { authentication: 'digest', recipientsPerRequest: 1 });
    expect(kinds(await wired.sendMany(12))).toEqual(['accepted']);
    expect(mmsc.counters).toMatchObject({ uploads: 12, unauthorized: 1 });
    // After a restart the challenge is another one.
    const port = mmsc.port;
    await mmsc.stop();
    const next = await simulate({ authentication: 'digest', port });
    await until(async () => (await wired.send()).kind === 'accepted');
    expect(next.counters.unauthorized).toBeLessThanOrEqual(2);
  });

  test('Digest without a probe', async () => {
    const { mmsc, wired } = await connected({ authentication: 'digest' }, { authentication: 'digest', probe: 'connect' });
    expect(await Promise.all([wired.send(), wired.send({ to: phone(2) })])).toMatchObject([{ kind: 'accepted' }, { kind: 'accepted' }]);
    expect(mmsc.counters.unauthorized).toBe(1);
  });

  test.each(['basic', 'digest'] as const)('a wrong password with %s is refused, and tried again, but not soon', async (authentication) => {
    const mmsc = await simulate({ authentication });
    const wired = wire(mmsc.url, { authentication, secret: 'wrong', reconnectMinMs: 1 });
    await until(() => wired.states.filter((state) => state === 'refused').length >= 2);
    expect(wired.states.slice(0, 4)).toEqual(['connecting', 'refused', 'connecting', 'refused']);
    expect(wired.reasons[1]).toBe('HTTP 401');
    expect(await wired.send()).toEqual({ kind: 'unsent' });
    expect(wired.connection.room()).toBe(0);
  });
});

describe('failing', () => {
  test('an MMSC that goes leaves nothing open: what could not be written is unsent, and comes back by itself if it is short', async () => {
    const { mmsc, wired } = await connected({}, { reconnectMinMs: 30, reconnectMaxMs: 200 });
    await mmsc.stop();
    const outcomes = wired.sendMany(10);
    await until(() => wired.connection.room() === 0);
    await mmsc.start();
    expect(kinds(await outcomes)).toEqual(['accepted']);
    expect(wired.states).toEqual(['connecting', 'up']);

    await mmsc.stop();
    expect(kinds(await wired.sendMany(150))).toEqual(['unsent']);
    expect(wired.states.slice(2, 3)).toEqual(['down']);
  });

  test('no answer in time is unknown for every recipient, and three in a row are a reason to be down', async () => {
    const { mmsc, wired } = await connected({}, { responseTimeoutMs: 50, concurrency: 1, recipientsPerRequest: 10 });
    mmsc.faults = { unansweredShare: 1 };
    expect(kinds(await wired.sendMany(10))).toEqual(['unknown']);
    expect(wired.connection.state).toBe('up');
    expect(kinds(await wired.sendMany(20))).toEqual(['unknown']);
    expect(wired.states).toEqual(['connecting', 'up', 'down']);
    expect(wired.reasons.at(-1)).toBe('no answer within 50 ms');
    mmsc.faults = {};
    await isUp(wired);
    expect(await wired.send()).toMatchObject({ kind: 'accepted' });
    expect(mmsc.counters.uploads).toBe(4);
  });

  test('a connection that breaks after the request was read is unknown; nothing is sent twice', async () => {
    const { mmsc, wired } = await connected();
    mmsc.faults = { dropShare: 1 };
    expect(kinds(await wired.sendMany(10))).toEqual(['unknown']);
    expect(mmsc.counters.uploads).toBe(1);
  });

  test('a connection that breaks when nothing else is under way stops nothing for long', async () => {
    const { mmsc, wired } = await connected();
    mmsc.faults = { dropShare: 1 };
    expect(await wired.send()).toEqual({ kind: 'unknown', isCut: true });
    mmsc.faults = {};
    await until(() => wired.connection.state === 'up' && wired.connection.room() > 0);
    expect(await wired.send()).toMatchObject({ kind: 'accepted' });
  });

  test('an upload that breaks in the middle was not taken: it goes out again', async () => {
    let broken = 0;
    const sockets = new Set<Socket>();
    const mmsc = await simulate();
    const server = createTcpServer((socket) => {
      sockets.add(socket);
      let octets = 0;
      socket.on('error', () => {});
      socket.on('data', (chunk) => {
        octets += chunk.length;
        if (octets < 2000) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
        else if (octets > 50_000) {
          broken += 1;
          socket.destroy();
          // The next one finds the real one in our place.
          server.close();
        }
      });
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    connections.afterwards(async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const port = portOf(server);
    const wired = wire(`http://127.0.0.1:${port}/mm7`, { failuresUntilDown: 5, reconnectMinMs: 50 });
    await isUp(wired);
    const outcomes = wired.sendMany(10, { content: packageOf(8_000_000) });
    await until(() => broken === 1);
    for (const socket of sockets) socket.destroy();
    await mmsc.stop();
    const heir = await simulate({ port, maxContentOctets: 16 << 20 });
    expect(kinds(await outcomes)).toEqual(['accepted']);
    expect(heir.counters.uploads).toBe(1);
  });
});

describe('stopping', () => {
  test('waits for the answers under way; what has not left is unsent', async () => {
    const { mmsc, wired } = await connected({}, { concurrency: 1, recipientsPerRequest: 10 });
    mmsc.faults = { responseDelayMs: 100 };
    const outcomes = wired.sendMany(20);
    await until(() => mmsc.counters.uploads === 1);
    await wired.connection.stop(2000);
    expect(kinds((await outcomes).slice(0, 10))).toEqual(['accepted']);
    expect(kinds((await outcomes).slice(10))).toEqual(['unsent']);
    expect(wired.states).toEqual(['connecting', 'up', 'draining', 'stopped']);
    expect(await wired.send()).toEqual({ kind: 'unsent' });
  });

  test('is possible before it began, while it connects, and twice', async () => {
    const mmsc = await simulate();
    const wired = wire(mmsc.url);
    await Promise.all([wired.connection.stop(1000), wired.connection.stop(1000)]);
    expect(wired.connection.state).toBe('stopped');
    const down = wire('http://127.0.0.1:1/mm7');
    await until(() => down.connection.state === 'down');
    await down.connection.stop(1000);
    expect(down.states.at(-1)).toBe('stopped');
  });

  test('settings that cannot work are found at once', () => {
    const deps = { events: { onState() {}, onRoom() {}, onReport() {}, onReadReply() {}, onInbound() {} }, mayWrite: () => true };
    expect(() => createMm7Connection({ url: 'nowhere', vaspId, vasId: from, ratePerSecond: 1 }, deps)).toThrow(TypeError);
    expect(() => createMm7Connection({ url: 'http://x/', vaspId, vasId: from, ratePerSecond: 0 }, deps)).toThrow(RangeError);
  });
});
