import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { basicAuthorization } from '../../protocols/mm7/digest.ts';
import { mm7Namespace, readEnvelope } from '../../protocols/mm7/mm7.ts';
import { decodeText } from '../../protocols/text.ts';
import type { CarrierInbound, CarrierPost, CarrierReport, ReadReply } from '../channel.ts';
import { createMm7Receiver, type Mm7ReceiverSettings } from './door.ts';

const vectors = new Map(
  readFileSync(new URL('../../protocols/testdata/mm7.hex', import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [name = '', contentType = '', hex = ''] = line.split('\t');
      return [name, { contentType, body: Buffer.from(hex, 'hex') }] as const;
    }),
);

function vector(name: string) {
  const found = vectors.get(name);
  if (!found) throw new Error(`there is no vector ${name}`);
  return found;
}

const account = { callbackUsername: 'mmsc', password: 'mmsc-password' };
const authorization = basicAuthorization(account.callbackUsername, account.password);

function open(
  settings: Mm7ReceiverSettings = { ...account, allowedAddresses: ['127.0.0.0/8'], accessNumber: '10690001' },
  safe: boolean | null = true,
) {
  const reports: CarrierReport[] = [];
  const inbound: CarrierInbound[] = [];
  const readReplies: ReadReply[] = [];
  const waiting: ((safe: boolean) => void)[] = [];
  const answer = (acknowledge: (isSafe: boolean) => void) => {
    if (safe === null) waiting.push(acknowledge);
    else setImmediate(() => acknowledge(safe));
  };
  const receiver = createMm7Receiver(settings, {
    onReport(report, acknowledge) {
      reports.push(report);
      answer(acknowledge);
    },
    onInbound(message, acknowledge) {
      inbound.push(message);
      answer(acknowledge);
    },
    onReadReply(reply, acknowledge) {
      readReplies.push(reply);
      answer(acknowledge);
    },
  });
  const receive = async (request: Partial<CarrierPost>) => {
    const answer = await receiver.receive({
      contentType: 'text/xml',
      authorization,
      remoteAddress: '127.0.0.1',
      body: Buffer.alloc(0),
      ...request,
    });
    return { ...answer, envelope: answer.body.startsWith('<?xml') ? readEnvelope(answer.body) : null };
  };
  return { receive, reports, inbound, readReplies, waiting };
}

const soap = (body: string) => Buffer.from(`<e:Envelope xmlns:e="x"><e:Header/><e:Body>${body}</e:Body></e:Envelope>`);
const report = (inner: string) =>
  soap(`<DeliveryReportReq xmlns="urn:own"><MM7Version>9.9.9</MM7Version><MessageID>m1</MessageID>${inner}</DeliveryReportReq>`);
const statusOf = (envelope: ReturnType<typeof readEnvelope> | null) =>
  envelope && 'fields' in envelope.message && 'status' in envelope.message.fields ? envelope.message.fields.status?.statusCode : undefined;

describe('reports', () => {
  test('the example of the specification is passed on and answered octet by octet', async () => {
    const { receive, reports } = open();
    const answer = await receive(vector('E5/delivery-report-req'));
    expect(reports).toEqual([
      { carrierId: '071609300510001000003/8613800138000', status: 'DELIVRD', delivered: true, phone: '+8613800138000' },
    ]);
    expect(answer).toMatchObject({ status: 200, contentType: 'text/xml; charset="utf-8"' });
    expect(answer.body).toBe(vector('E6/delivery-report-rsp').body.toString());
  });

  test.each([{ accessNumber: '10690001' }, {}])('mbuni’s, with Recipient and Sender exchanged, names the phone (%o)', async (settings) => {
    const { receive, reports } = open({ ...account, ...settings });
    const { envelope } = await receive(vector('R2/delivery-report-req'));
    expect(reports).toMatchObject([{ carrierId: 'j-qf1469.1.x163.4@mmsc.test/8613800138001', status: 'EXPIRED', delivered: false }]);
    // In the request's namespace and version.
    expect(envelope).toMatchObject({
      transactionId: 'j-qf1469.1.x163.4@mmsc.test',
      namespace: mm7Namespace('REL-6-MM7-1-0'),
      message: { name: 'DeliveryReportRsp', fields: { mm7Version: '6.3.0', status: { statusCode: 1000 } } },
    });
  });

  const number = (name: string, value: string) => `<${name}><Number>${value}</Number></${name}>`;
  test.each([
    ['national', number('Recipient', '13800138000'), ['8613800138000']],
    ['as text', '<Recipient>+8613800138000</Recipient>', ['8613800138000']],
    ['with 0086', number('Recipient', '008613800138000'), ['8613800138000']],
    ['of another country', number('Recipient', '+85261234567') + number('Sender', '10690001'), ['85261234567']],
    ['exchanged', number('Recipient', '1069000188') + number('Sender', '13800138000'), ['8613800138000']],
    [
      'exchanged, with a short code',
      `<Recipient><ShortCode>106</ShortCode></Recipient>${number('Sender', '13800138000')}`,
      ['8613800138000'],
    ],
    [
      'several in one',
      '<Recipient><Number>13800138000</Number><Number>+8613800138001</Number></Recipient>',
      ['8613800138000', '8613800138001'],
    ],
    ['of no form we know', number('Recipient', '4001234567'), ['4001234567']],
  ])('a recipient %s', async (_, recipient, expected) => {
    const { receive, reports } = open();
    expect(statusOf((await receive({ body: report(`${recipient}<MMStatus>Retrieved</MMStatus>`) })).envelope)).toBe(1000);
    expect(reports.map(({ carrierId }) => carrierId)).toEqual(expected.map((digits) => `m1/${digits}`));
  });

  test('what is not final is acknowledged and dropped', async () => {
    const { receive, reports } = open();
    for (const status of ['Deferred', 'Forwarded'])
      expect(
        statusOf((await receive({ body: report(`${number('Recipient', '13800138000')}<MMStatus>${status}</MMStatus>`) })).envelope),
      ).toBe(1000);
    expect(reports).toEqual([]);
  });

  test.each([
    ['no id', soap(`<DeliveryReportReq>${number('Recipient', '1')}<MMStatus>Expired</MMStatus></DeliveryReportReq>`)],
    [
      'an id beyond all bounds',
      soap(
        `<DeliveryReportReq><MessageID>${'x'.repeat(500)}</MessageID>${number('Recipient', '1')}<MMStatus>x</MMStatus></DeliveryReportReq>`,
      ),
    ],
    ['no recipient', report('<MMStatus>Expired</MMStatus>')],
    ['no status', report(number('Recipient', '13800138000'))],
  ])('%s: 4004', async (_, body) => {
    const { receive, reports } = open();
    const { envelope, status } = await receive({ body });
    expect(status).toBe(200);
    expect(statusOf(envelope)).toBe(4004);
    expect(reports).toEqual([]);
  });

  test('1000 is said only once it is safe; otherwise the MMSC is asked to come again', async () => {
    const { receive, waiting } = open(undefined, null);
    const body = report('<Recipient><Number>13800138000</Number><Number>13800138001</Number></Recipient><MMStatus>Expired</MMStatus>');
    let isAnswered = false;
    const answer = receive({ body }).finally(() => {
      isAnswered = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(waiting).toHaveLength(2);
    waiting[0]?.(true);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(isAnswered).toBe(false);
    waiting[1]?.(false);
    expect(statusOf((await answer).envelope)).toBe(4006);
  });

  test('with too much in hand it puts off what comes', async () => {
    const { receive, waiting } = open({ ...account, maxUnacknowledged: 3 }, null);
    const first = [1, 2, 3].map(() => receive(vector('E5/delivery-report-req')));
    expect(await receive(vector('E5/delivery-report-req'))).toMatchObject({ status: 503, headers: { 'retry-after': '1' } });
    for (const acknowledge of waiting) acknowledge(true);
    expect((await Promise.all(first)).map(({ status }) => status)).toEqual([200, 200, 200]);
    const next = receive(vector('E5/delivery-report-req'));
    waiting.at(-1)?.(true);
    expect((await next).status).toBe(200);
  });
});

describe('read replies', () => {
  test('are recorded and answered', async () => {
    const { receive, readReplies, reports } = open();
    const answer = await receive(vector('E7/read-reply-req'));
    expect(answer.body).toBe(vector('E8/read-reply-rsp').body.toString());
    expect(readReplies).toEqual([{ carrierId: '071609300510001000003/8613800138000', phone: '+8613800138000', status: 'Read' }]);
    expect(reports).toEqual([]);
  });

  test('come again if they could not be stored', async () => {
    const { receive } = open(undefined, false);
    expect(statusOf((await receive(vector('E7/read-reply-req'))).envelope)).toBe(4006);
  });
});

describe('messages from phones', () => {
  const said = ({ octets, encoding }: CarrierInbound) => decodeText(octets, encoding);

  test('the example of the specification: subject first, then the words', async () => {
    const { receive, inbound } = open();
    const answer = await receive(vector('E3/deliver-req'));
    expect(answer.body).toBe(vector('E4/deliver-rsp').body.toString());
    expect(inbound).toMatchObject([
      { from: '8613800138000', to: '10690001', concat: null, carrierId: expect.stringMatching(/^[0-9a-f]{32}$/) },
    ]);
    expect(inbound.map(said)).toEqual(['TD\n你好']);
  });

  test('a repeat has the same id, another message another', async () => {
    const { receive, inbound } = open();
    const { contentType, body } = vector('E3/deliver-req');
    await receive({ contentType, body });
    await receive({ contentType, body });
    await receive({ contentType, body: Buffer.from(body.toString().replace('你好', '再见')) });
    const ids = inbound.map(({ carrierId }) => carrierId);
    expect(ids[1]).toBe(ids[0]);
    expect(ids[2]).not.toBe(ids[0]);
  });

  const deliver = (subject: string, content: string) =>
    Buffer.from(
      `--B\r\nContent-Type: text/xml\r\n\r\n${soap(`<DeliverReq><VASID>10690001</VASID><Sender>13800138000</Sender>${subject}</DeliverReq>`).toString()}\r\n--B\r\n${content}\r\n--B--`,
    );
  test.each([
    ['no subject', '', 'Content-Type: text/plain\r\n\r\nTD', 'TD'],
    ['a subject that is the text', '<Subject>TD</Subject>', 'Content-Type: text/plain\r\n\r\nTD\r\n', 'TD'],
    ['only a subject', '<Subject>TD</Subject>', 'Content-Type: image/gif\r\n\r\nGIF', 'TD'],
    ['nothing to read', '', 'Content-Type: image/gif\r\n\r\nGIF', ''],
  ])('%s', async (_, subject, content, expected) => {
    const { receive, inbound } = open();
    const { envelope } = await receive({ contentType: 'multipart/related; boundary=B', body: deliver(subject, content) });
    expect(statusOf(envelope)).toBe(1000);
    expect(inbound).toMatchObject([{ from: '8613800138000'.slice(2), to: '10690001' }]);
    expect(inbound.map(said)).toEqual([expected]);
  });

  test('without an attachment, and without a sender', async () => {
    const { receive, inbound } = open();
    expect(statusOf((await receive({ body: soap('<DeliverReq><Sender>1380</Sender><Subject>x</Subject></DeliverReq>') })).envelope)).toBe(
      1000,
    );
    expect(inbound.map(said)).toEqual(['x']);
    expect(statusOf((await receive({ body: soap('<DeliverReq><Subject>x</Subject></DeliverReq>') })).envelope)).toBe(4004);
  });
});

describe('who may post', () => {
  test('only allowed addresses, IPv4 in IPv6 included', async () => {
    const { receive } = open({ allowedAddresses: ['10.1.0.0/16', '203.0.113.7', '2001:db8::/32'] });
    const status = async (remoteAddress: string) => (await receive({ ...vector('E5/delivery-report-req'), remoteAddress })).status;
    for (const address of ['10.1.2.3', '::ffff:10.1.2.3', '203.0.113.7', '2001:db8::1']) expect(await status(address)).toBe(200);
    for (const address of ['10.2.0.1', '203.0.113.8', '::ffff:203.0.113.8', '::1', '', 'localhost'])
      expect(await status(address)).toBe(403);
  });

  test.each([undefined, '', 'Basic', 'Bearer x', basicAuthorization('mmsc', 'wrong'), basicAuthorization('mmsc:', 'mmsc-password')])(
    'not with the authorization %s',
    async (given) => {
      const { receive, reports } = open();
      const answer = await receive({ ...vector('E5/delivery-report-req'), authorization: given });
      expect(answer).toMatchObject({ status: 401, body: '', headers: { 'www-authenticate': 'Basic realm="MM7"' } });
      expect(reports).toEqual([]);
    },
  );

  test('a receiver that would take anything from anybody is not made, nor one of nonsense', () => {
    expect(() => open({})).toThrow(RangeError);
    expect(() => open({ allowedAddresses: ['mmsc.example.net'] })).toThrow(RangeError);
  });
});

describe('what cannot be understood', () => {
  const bomb = `<!DOCTYPE x [${Array.from({ length: 9 }, (_, i) => `<!ENTITY e${i + 1} "${`&e${i};`.repeat(10)}">`).join('')}]>`;
  test.each([
    ['nothing', 'text/xml', ''],
    ['no XML', 'text/xml', 'hello'],
    ['no SOAP', 'text/xml', '<a/>'],
    ['a document type', 'text/xml', `<!DOCTYPE x>${soap('<DeliverReq/>').toString()}`],
    ['an entity bomb', 'text/xml', `${bomb}${soap('<DeliverReq>&e9;</DeliverReq>').toString()}`],
    ['depth', 'text/xml', '<a>'.repeat(1_000_000)],
    ['a megabyte of envelope', 'text/xml', soap(`<DeliverReq>${'<a/>'.repeat(250_000)}</DeliverReq>`).toString()],
    ['the wrong boundary', 'multipart/related; boundary=C', '--B\r\n\r\nx\r\n--B--'],
    ['no boundary', 'multipart/related', '--B\r\n\r\nx\r\n--B--'],
    ['no root', 'multipart/related; boundary=B', '--B--'],
    [
      'a missing part',
      'multipart/related; boundary=B',
      `--B\r\n\r\n${soap('<DeliverReq><Content href="cid:x"/></DeliverReq>').toString()}\r\n--B--`,
    ],
    [
      'a broken content',
      'multipart/related; boundary=B',
      `--B\r\n\r\n${soap('<DeliverReq><Sender>1</Sender></DeliverReq>').toString()}\r\n--B\r\nContent-Type: multipart/mixed; boundary=D\r\n\r\nx\r\n--B--`,
    ],
  ])('%s is refused with a fault, quickly', async (_, contentType, body) => {
    const { receive } = open();
    const start = performance.now();
    const { status, envelope } = await receive({ contentType, body: Buffer.from(body) });
    expect(performance.now() - start).toBeLessThan(500);
    expect(status).toBe(400);
    expect(envelope?.message).toMatchObject({ name: 'Fault', faultCode: 'env:Client', status: { statusCode: 4004 } });
  });

  test('a body beyond the bound is not looked at', async () => {
    const { receive } = open();
    expect((await receive({ body: Buffer.alloc((4 << 20) + 1) })).status).toBe(413);
  });

  test('a message we do not offer is told so, in its own release', async () => {
    const { receive } = open();
    const { status, envelope } = await receive({ body: soap('<CancelReq xmlns="urn:own"><MM7Version>5.3.0</MM7Version></CancelReq>') });
    expect(status).toBe(200);
    expect(envelope).toMatchObject({
      namespace: 'urn:own',
      message: { name: 'VASPErrorRsp', fields: { mm7Version: '5.3.0', status: { statusCode: 4003 } } },
    });
  });

  test('mangled requests are always answered', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...vectors.keys()), fc.nat(), fc.uint8Array({ maxLength: 30 }), async (name, at, octets) => {
        const { receive } = open();
        const { contentType, body } = vector(name);
        const mangled = Buffer.from(body);
        mangled.set(octets.subarray(0, Math.max(0, mangled.length - (at % mangled.length))), at % mangled.length);
        expect([200, 400]).toContain((await receive({ contentType, body: mangled })).status);
      }),
      { numRuns: 500 },
    );
  });
});
