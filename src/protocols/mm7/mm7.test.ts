import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ProtocolError } from '../wire/fields.ts';
import {
  digitsOf,
  type EnvelopeToWrite,
  type Fields,
  isPhone,
  meaningOf,
  meaningOfReport,
  mm7Namespace,
  readEnvelope,
  readRequest,
  statusOfFault,
  statusKindOf,
  writeEnvelope,
  writeRequest,
} from './mm7.ts';
import { defaultStyle, presentationPart, readPresentation, wordsOf } from './smil.ts';

const vectors = new Map(
  readFileSync(new URL('../testdata/mm7.hex', import.meta.url), 'utf8')
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

const namespace = mm7Namespace('REL-6-MM7-1-4');
const gif = Buffer.from('47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b', 'hex');

/** The fields that a message has, without those it lacks. */
function given(name: string) {
  const { contentType, body } = vector(name);
  const { transactionId, message } = readRequest(contentType, body).envelope;
  if (!('fields' in message)) throw new Error(`${name} is a ${message.name}`);
  return {
    transactionId,
    name: message.name,
    fields: Object.fromEntries(Object.entries(message.fields).filter(([, value]) => value !== null)),
  };
}

const submitFields: Partial<Fields<'SubmitReq'>> = {
  mm7Version: '6.8.0',
  senderIdentification: { vaspId: '800001', vasId: '10690001', senderAddress: [{ kind: 'ShortCode', value: '10690001' }] },
  recipients: {
    to: [
      { kind: 'Number', value: '+8613800138000' },
      { kind: 'Number', value: '+8613800138001' },
    ],
    cc: null,
    bcc: null,
  },
  serviceCode: '110001',
  linkedId: '0716093005000001',
  messageClass: 'Informational',
  timeStamp: '2026-07-16T09:30:05+08:00',
  expiryDate: '2026-07-18T09:30:05+08:00',
  deliveryReport: true,
  readReply: true,
  priority: 'Normal',
  subject: '测试彩信',
  chargedParty: 'Sender',
  content: { href: 'cid:mms-20260716-000001', allowAdaptations: true },
};
const status = { statusCode: 1000, statusText: 'Success', details: null };

describe('the examples of the specification', () => {
  test('E1: a SubmitReq of two frames, octet by octet', () => {
    const frames = [
      { text: '第一帧', media: { contentType: 'image/gif', extension: 'gif', bytes: gif }, mediaFirst: true },
      { text: '第二帧', media: null, mediaFirst: false },
    ];
    const part = presentationPart(frames, { contentId: 'mms-20260716-000001', boundary: 'StoryParts-1', style: defaultStyle });
    const envelope = writeEnvelope({
      transactionId: 'vasp-0716093005-000001',
      namespace,
      message: { name: 'SubmitReq', fields: submitFields },
    });
    const request = writeRequest(envelope, part, {
      rootId: 'mm7-submit',
      boundary: 'NextPart-1',
      rootHeaders: ['Content-Transfer-Encoding: 8bit'],
    });
    const octets = Buffer.concat(request.chunks);
    expect(request.contentType).toBe(vector('E1/submit-req').contentType);
    expect(request.octets).toBe(2600);
    expect(octets.toString()).toBe(vector('E1/submit-req').body.toString());
    expect(createHash('sha256').update(octets).digest('hex')).toBe('e43e5183a66e16401b23d4b17364faece4a59431b1daa4f5db906f5d44683d8a');
  });

  test('E1 read', () => {
    const { contentType, body } = vector('E1/submit-req');
    expect(given('E1/submit-req')).toEqual({ transactionId: 'vasp-0716093005-000001', name: 'SubmitReq', fields: submitFields });
    const { envelope, content } = readRequest(contentType, body);
    expect(envelope.namespace).toBe(namespace);
    expect(content && readPresentation(content)).toEqual({
      frames: [
        [
          { kind: 'media', contentType: 'image/gif', name: '1.gif', bytes: gif },
          { kind: 'text', text: '第一帧' },
        ],
        [{ kind: 'text', text: '第二帧' }],
      ],
      problems: [],
    });
  });

  const address = { recipient: [{ kind: 'Number', value: '+8613800138000' }], sender: [{ kind: 'ShortCode', value: '10690001' }] } as const;
  const about = { mm7Version: '6.8.0', mmsRelayServerId: 'mmsc.example.net', messageId: '071609300510001000003', ...address } as const;
  test.each<[string, string, EnvelopeToWrite['message']]>([
    [
      'E2/submit-rsp',
      'vasp-0716093005-000001',
      { name: 'SubmitRsp', fields: { mm7Version: '6.8.0', status, messageId: '071609300510001000003' } },
    ],
    ['E4/deliver-rsp', 'mmsc-000000000125', { name: 'DeliverRsp', fields: { mm7Version: '6.8.0', status } }],
    [
      'E5/delivery-report-req',
      'mmsc-000000000123',
      {
        name: 'DeliveryReportReq',
        fields: { ...about, date: '2026-07-16T09:31:20+08:00', mmStatus: 'Retrieved', statusText: 'Retrieved' },
      },
    ],
    ['E6/delivery-report-rsp', 'mmsc-000000000123', { name: 'DeliveryReportRsp', fields: { mm7Version: '6.8.0', status } }],
    [
      'E7/read-reply-req',
      'mmsc-000000000124',
      { name: 'ReadReplyReq', fields: { ...about, timeStamp: '2026-07-16T09:40:00+08:00', mmStatus: 'Read', statusText: 'Read' } },
    ],
    ['E8/read-reply-rsp', 'mmsc-000000000124', { name: 'ReadReplyRsp', fields: { mm7Version: '6.8.0', status } }],
  ])('%s, written and read', (name, transactionId, message) => {
    expect(writeEnvelope({ transactionId, namespace, message })).toBe(vector(name).body.toString());
    expect(given(name)).toEqual({ transactionId, ...message });
  });

  test('E3: a DeliverReq, written and read', () => {
    const fields: Partial<Fields<'DeliverReq'>> = {
      mm7Version: '6.8.0',
      mmsRelayServerId: 'mmsc.example.net',
      vaspId: '800001',
      vasId: '10690001',
      linkedId: '0716095000000007',
      sender: [{ kind: 'Number', value: '+8613800138000' }],
      recipients: { to: [{ kind: 'ShortCode', value: '10690001' }], cc: null, bcc: null },
      timeStamp: '2026-07-16T09:50:00+08:00',
      priority: 'Normal',
      subject: 'TD',
      content: { href: 'cid:mo-000001', allowAdaptations: false },
    };
    const envelope = writeEnvelope({ transactionId: 'mmsc-000000000125', namespace, message: { name: 'DeliverReq', fields } });
    const part = { headers: ['Content-Type: text/plain; charset=utf-8', 'Content-ID: <mo-000001>'], body: '你好' };
    const { chunks, contentType } = writeRequest(envelope, part, { rootId: 'mm7-deliver', boundary: 'MOPart-1' });
    expect(contentType).toBe(vector('E3/deliver-req').contentType);
    expect(Buffer.concat(chunks).toString()).toBe(vector('E3/deliver-req').body.toString());
    expect(given('E3/deliver-req')).toMatchObject({ name: 'DeliverReq', fields });
    const { content } = readRequest(contentType, Buffer.concat(chunks));
    expect(content && wordsOf(readPresentation(content))).toBe('你好');
  });

  test('E9: a fault, written and read', () => {
    const error = {
      name: 'RSErrorRsp',
      fields: { mm7Version: '6.8.0', status: { statusCode: 4004, statusText: 'Validation error', details: null } },
    } as const;
    const message = { name: 'Fault', faultCode: 'env:Client', faultString: 'Client error', error } as const;
    expect(writeEnvelope({ transactionId: 'vasp-0716093005-000001', namespace, message })).toBe(vector('E9/fault').body.toString());
    const read = readEnvelope(vector('E9/fault').body).message;
    expect(read).toMatchObject({ name: 'Fault', faultCode: 'env:Client', status: { statusCode: 4004 } });
    expect(read.name === 'Fault' && statusOfFault(read).statusCode).toBe(4004);
  });
});

describe('requests captured from other implementations', () => {
  test('R1: China Mobile’s API; dashes in the boundary, a preamble, no Content, SenderAddress as text', () => {
    const { contentType, body } = vector('R1/submit-req');
    const { envelope, content } = readRequest(contentType, body);
    expect(envelope.namespace).toBe(mm7Namespace('REL-6-MM7-1-0'));
    expect(envelope.message).toMatchObject({
      name: 'SubmitReq',
      fields: {
        senderIdentification: { senderAddress: [{ kind: 'text', value: '10690001' }] },
        recipients: { to: [{ value: '+8613800138000' }, { value: '13800138001' }] },
        content: null,
        chargedPartyId: '13800138000',
      },
    });
    expect(content?.contentId).toBe('mainbody');
    expect(content && readPresentation(content)).toEqual({ frames: [[{ kind: 'text', text: 'hello\r\n' }]], problems: [] });
  });

  test('R2: mbuni; prefixes everywhere, line feeds, Recipient and Sender exchanged', () => {
    const { contentType, body } = vector('R2/delivery-report-req');
    expect(readRequest(contentType, body).envelope).toMatchObject({
      transactionId: 'j-qf1469.1.x163.4@mmsc.test',
      message: {
        name: 'DeliveryReportReq',
        fields: {
          messageId: 'j-qf1469.1.x163.4@mmsc.test',
          recipient: [{ kind: 'Number', value: '10690001' }],
          sender: [{ kind: 'Number', value: '+8613800138001' }],
          mmStatus: 'Expired',
        },
      },
    });
  });
});

const soap = (body: string, header = '') =>
  `<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/soap-envelope"><e:Header>${header}</e:Header><e:Body>${body}</e:Body></e:Envelope>`;

describe('dialects', () => {
  test('Axis2: two SenderAddresses; another prefix for mustUnderstand; the first counts', () => {
    const read = readEnvelope(
      soap(
        `<SubmitReq xmlns="urn:x"><SenderIdentification><SenderAddress><ShortCode>1</ShortCode></SenderAddress>
         <SenderAddress><Number>2</Number></SenderAddress></SenderIdentification></SubmitReq>`,
        '<TransactionID ns9:mustUnderstand="1" xmlns:ns9="y">7</TransactionID>',
      ),
    );
    expect(read).toMatchObject({ transactionId: '7', namespace: 'urn:x' });
    expect(read.message).toMatchObject({ fields: { senderIdentification: { senderAddress: [{ kind: 'ShortCode', value: '1' }] } } });
  });

  test('Unicom: any order, StatusText before StatusCode, several numbers in one Recipient, unknown elements', () => {
    expect(
      readEnvelope(soap('<SubmitRsp><Status><StatusText>x</StatusText><New/><StatusCode> 1000 </StatusCode></Status></SubmitRsp>')).message,
    ).toMatchObject({
      fields: { status: { statusCode: 1000, statusText: 'x' } },
    });
    const report = '<DeliveryReportReq><Recipient><Number>1</Number><Number>2</Number></Recipient></DeliveryReportReq>';
    expect(readEnvelope(soap(report)).message).toMatchObject({ fields: { recipient: [{ value: '1' }, { value: '2' }] } });
  });

  test('no header, an empty one, no TransactionID: null', () => {
    expect(readEnvelope('<Envelope><Body><DeliverRsp/></Body></Envelope>').transactionId).toBeNull();
    expect(readEnvelope(soap('<DeliverRsp/>')).transactionId).toBeNull();
    const written = writeEnvelope({ transactionId: null, namespace, message: { name: 'DeliverRsp', fields: {} } });
    expect(written).toContain('<env:Header>\r\n</env:Header>');
    expect(readEnvelope(written).transactionId).toBeNull();
  });

  test('prefixes on every element, and a release of one’s own', () => {
    const envelope = {
      transactionId: '1',
      namespace: 'urn:own',
      prefixes: 'prefixed',
      message: { name: 'SubmitReq', fields: submitFields },
    } as const;
    const written = writeEnvelope(envelope);
    expect(written).toContain('<mm7:SenderAddress><mm7:ShortCode>10690001</mm7:ShortCode></mm7:SenderAddress>');
    expect(readEnvelope(written)).toMatchObject({ namespace: 'urn:own', message: { fields: submitFields } });
    expect(mm7Namespace('urn:own')).toBe('urn:own');
  });

  test('messages without a table are unknown', () => {
    for (const element of ['CancelReq', 'Nonsense'])
      expect(readEnvelope(soap(`<${element}><MM7Version>6.3.0</MM7Version></${element}>`)).message).toEqual({
        name: 'unknown',
        element,
        mm7Version: '6.3.0',
      });
  });

  test('a Content that names no part is an error; escaped ids are found', () => {
    const request = (id: string, href: string) =>
      `--B\r\nContent-Type: text/xml\r\n\r\n${soap(`<SubmitReq><Content href="${href}"/></SubmitReq>`)}\r\n--B\r\nContent-ID: <${id}>\r\n\r\nx\r\n--B--`;
    const read = (id: string, href: string) =>
      readRequest('multipart/related; boundary=B', Buffer.from(request(id, href))).content?.body.toString();
    expect(read('a b', 'cid:a%20b')).toBe('x');
    expect(read('100%', 'cid:100%')).toBe('x');
    expect(read('a', '')).toBe('x');
    expect(() => read('a', 'cid:b')).toThrow(ProtocolError);
  });
});

test('what is written is read, whatever the texts', () => {
  const word = fc.string({ unit: 'grapheme', minLength: 1 }).map((text) => text.replace(/\s+/g, ' ').trim() || 'x');
  fc.assert(
    fc.property(
      word,
      word,
      fc.array(word, { minLength: 1, maxLength: 5 }),
      fc.boolean(),
      fc.boolean(),
      (id, subject, numbers, flag, prefixed) => {
        const fields: Partial<Fields<'SubmitReq'>> = {
          subject,
          deliveryReport: flag,
          recipients: { to: numbers.map((value) => ({ kind: 'Number', value })), cc: null, bcc: null },
          content: { href: `cid:${id}`, allowAdaptations: flag },
        };
        const written = writeEnvelope({
          transactionId: id,
          namespace,
          prefixes: prefixed ? 'prefixed' : 'default',
          message: { name: 'SubmitReq', fields },
        });
        expect(readEnvelope(written)).toMatchObject({ transactionId: id, message: { name: 'SubmitReq', fields } });
      },
    ),
  );
});

describe('hostile input', () => {
  test.each([
    ['no envelope', '<a/>'],
    ['no body', '<Envelope/>'],
    ['an empty body', '<Envelope><Body/></Envelope>'],
    ['a document type', `<!DOCTYPE x>${soap('<DeliverRsp/>')}`],
    ['an entity bomb', `<!DOCTYPE x [<!ENTITY a "${'x'.repeat(1000)}">]>${soap('<DeliverRsp>&a;</DeliverRsp>')}`],
    ['depth', soap('<DeliverReq>'.repeat(10_000))],
    ['size', soap(`<DeliverReq><Subject>${'x'.repeat(1 << 20)}</Subject></DeliverReq>`)],
  ])('%s is a ProtocolError', (_, xml) => {
    expect(() => readRequest('text/xml', Buffer.from(xml))).toThrow(ProtocolError);
  });
});

describe('status codes', () => {
  test.each([
    [1000, 'taken'],
    [1100, 'taken'],
    [1001, 'taken'],
    [1999, 'taken'],
    [2000, 'rejected'],
    [2001, 'rejected'],
    [2002, 'address'],
    [2003, 'address'],
    [2004, 'rejected'],
    [2007, 'rejected'],
    [2999, 'rejected'],
    [3000, 'busy'],
    [3001, 'rejected'],
    [3002, 'rejected'],
    [3003, 'single'],
    [3501, 'fewer'],
    [3999, 'busy'],
    [4000, 'busy'],
    [4001, 'rejected'],
    [4002, 'rejected'],
    [4003, 'rejected'],
    [4004, 'rejected'],
    [4005, 'rejected'],
    [4006, 'busy'],
    [4007, 'rejected'],
    [4500, 'busy'],
  ] as const)('%i asks for: %s', (statusCode, kind) => {
    expect(statusKindOf({ statusCode, statusText: '' })).toBe(kind);
  });

  test('"Flow refuse" is Unicom’s too fast; no code, and one outside the classes, is a server error', () => {
    expect(statusKindOf({ statusCode: 2001, statusText: 'Operation restricted : Flow refuse' })).toBe('busy');
    expect(statusKindOf({ statusCode: null, statusText: null })).toBe('busy');
    for (const text of ['5000', '0', 'ok', '10000', ''])
      expect(readEnvelope(soap(`<SubmitRsp><Status><StatusCode>${text}</StatusCode></Status></SubmitRsp>`)).message).toMatchObject({
        fields: { status: { statusCode: 3000 } },
      });
    expect([meaningOf(1000), meaningOf(2999), meaningOf(4006)]).toEqual(['Success', 'Client error', 'Service unavailable']);
  });

  test('a fault without a status is the fault of whom it blames', () => {
    const fault = (faultCode: string) => statusOfFault({ name: 'Fault', faultCode, faultString: 'x', status: null }).statusCode;
    expect([fault('env:Client'), fault('Client.TransactionID'), fault('SOAP-ENV:Server'), fault('')]).toEqual([2000, 2000, 3000, 3000]);
  });
});

describe('reports', () => {
  test.each([
    ['Retrieved', true, true, 'DELIVRD'],
    ['retrieved', true, true, 'DELIVRD'],
    ['1', true, true, 'DELIVRD'],
    ['Expired', true, false, 'EXPIRED'],
    ['0', true, false, 'EXPIRED'],
    ['Rejected', true, false, 'REJECTD'],
    ['System Rejected', true, false, 'REJECTD'],
    ['systemrejected', true, false, 'REJECTD'],
    ['Recipient Rejected', true, false, 'REJECTD'],
    ['Indeterminate', true, false, 'UNKNOWN'],
    ['Unrecognised', true, false, 'UNDELIV'],
    ['Unreachable', true, false, 'UNDELIV'],
    ['NotSupported', true, false, 'UNDELIV'],
    ['Forwarded', false, false, ''],
    ['Deferred', false, false, ''],
    ['5', false, false, ''],
    ['whatever', true, false, 'UNKNOWN'],
  ] as const)('%s', (mmStatus, isFinal, delivered, code) => {
    expect(meaningOfReport({ mmStatus })).toEqual({ isFinal, delivered, code });
  });

  test('"Reserved" is looked up in StatusText, and a vendor’s code names a failure', () => {
    expect(meaningOfReport({ mmStatus: 'Reserved', statusText: 'Retrieved' })).toMatchObject({ delivered: true });
    expect(meaningOfReport({ mmStatus: 'Indeterminate', statusText: 'MK:0001' })).toMatchObject({ code: 'MK:0001' });
    expect(meaningOfReport({ mmStatus: 'Expired', mmStatusExtension: 'CM:4446' })).toMatchObject({ code: 'CM:4446' });
    expect(meaningOfReport({ mmStatus: 'Retrieved', statusText: 'MK:0001' })).toMatchObject({ delivered: true, code: 'DELIVRD' });
  });
});

test('addresses become digits, and persons are told from services', () => {
  for (const form of [
    '+8613800138000',
    '8613800138000',
    '008613800138000',
    '13800138000',
    '+86 138-0013-8000/TYPE=PLMN',
    '13800138000@mms',
  ])
    expect(digitsOf(form)).toBe('8613800138000');
  expect([digitsOf('10690001'), digitsOf('+85261234567'), digitsOf('')]).toEqual(['10690001', '85261234567', '']);
  const person = (value: string) => isPhone({ kind: 'Number', value });
  expect(['+8613800138000', '13800138000', '+85261234567', '0085261234567'].map(person)).toEqual([true, true, true, true]);
  expect(['10690001', '1069000112345', '+8610690001', '8610690001', ''].map(person)).toEqual([false, false, false, false, false]);
  expect(isPhone({ kind: 'ShortCode', value: '13800138000' })).toBe(false);
});
