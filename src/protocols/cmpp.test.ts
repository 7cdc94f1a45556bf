import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  authenticatorIsmg,
  authenticatorSource,
  cmpp,
  cmppFrames,
  command,
  commandOf,
  composeMsgId,
  connectTimestamp,
  decodeConnectResp,
  decodeDeliver,
  decodeDeliverResp,
  decodeReport,
  decodeSubmitResp,
  encodeReport,
  encodingOf,
  hasHeader,
  isFinal,
  noMsgId,
  reportTime,
  type Submit,
  sequenceOf,
} from './cmpp.ts';
import { ProtocolError } from './wire/fields.ts';
import { createFrameReader } from './wire/framing.ts';
import { concatHeader, cutText, decodeText, joinParts, splitHeader } from './text.ts';

const vectors = new Map(
  readFileSync(new URL('./testdata/cmpp.hex', import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line): [string, string] => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)]),
);

function vector(name: string): Buffer {
  const octets = vectors.get(name);
  if (!octets) throw new Error(`no vector ${name}`);
  return Buffer.from(octets, 'hex');
}

/** The published bodies lack their headers. */
function deliverOf(body: Buffer): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt32BE(12 + body.length, 0);
  header.writeUInt32BE(command.deliver, 4);
  return Buffer.concat([header, body]);
}

const clause = '这是一条用于验证长短信拆分规则的测试短信，';
const loginTime = new Date('2026-07-16T09:30:05+08:00');

const submitS3 = {
  msgId: noMsgId,
  pkTotal: 1,
  pkNumber: 1,
  registeredDelivery: 1,
  msgLevel: 0,
  serviceId: 'HELP',
  feeUserType: 2,
  feeTerminalId: '',
  tpPid: 0,
  tpUdhi: 0,
  msgFmt: 8,
  msgSrc: '901234',
  feeType: '01',
  feeCode: '0',
  validTime: '',
  atTime: '',
  srcId: '10690001',
  destTerminalId: ['13800138000'],
  msgContent: cutText('【测试】您的验证码是123456，5分钟内有效。', 8).parts[0]!,
} satisfies Submit;

describe('the login', () => {
  test('S1: CONNECT is what the recipe says', () => {
    const timestamp = connectTimestamp(loginTime);
    expect(timestamp).toBe(716093005);
    const digest = authenticatorSource('901234', '1qaz2wsx', timestamp);
    const pdu = cmpp[3].connect.encode(1, { sourceAddr: '901234', authenticatorSource: digest, version: 0x30, timestamp });
    expect(pdu).toEqual(vector('S1/connect-3'));
  });

  test('S2, P1: CONNECT_RESP is read in the shape its length says, and its digest takes the status as it was on the wire', () => {
    const s1 = authenticatorSource('901234', '1qaz2wsx', 716093005);
    const p1 = authenticatorSource('900001', '888888', 1021080510);
    expect(cmpp[2].connect.decode(vector('P1/connect-3'), 0, 39)).toEqual({
      sourceAddr: '900001',
      authenticatorSource: p1,
      version: 0x21,
      timestamp: 1021080510,
    });
    for (const [name, source, secret] of [
      ['S2', s1, '1qaz2wsx'],
      ['P1', p1, '888888'],
    ] as const)
      for (const version of [2, 3] as const) {
        const buffer = vector(`${name}/connect-resp-${version}`);
        const response = decodeConnectResp(buffer, 0, buffer.length);
        expect(response).toMatchObject({ status: 0, shape: version });
        expect(response.authenticatorIsmg).toEqual(authenticatorIsmg(version, 0, source, secret));
        expect(cmpp[version].connectResp.encode(sequenceOf(buffer, 0), response)).toEqual(buffer);
      }
  });
});

describe('SUBMIT', () => {
  test.each([
    [2, 'S3/submit-2'],
    [3, 'S4/submit-3'],
  ] as const)('S3, S4: version %i writes the documented octets', (version, name) => {
    const buffer = cmpp[version].submit.encode(2, submitS3);
    expect(buffer.toString('hex')).toBe(vector(name).toString('hex'));
    expect(cmpp[version].submit.decode(buffer, 0, buffer.length)).toMatchObject(submitS3);
  });

  test('S8, S9: a long text is cut into 67 + 38 and 66 + 39 characters', () => {
    const text = clause.repeat(5);
    for (const [section, bits, reference] of [
      ['S8', 8, 0x2a],
      ['S9', 16, 0x1234],
    ] as const) {
      const { parts } = cutText(text, bits);
      const contents = parts.map((part, index) => Buffer.concat([concatHeader(bits, { reference, total: 2, number: index + 1 }), part]));
      expect(contents).toEqual([vector(`${section}/content-1`), vector(`${section}/content-2`)]);
    }
  });

  test('S10: a part of a long message', () => {
    const pdu = { ...submitS3, pkTotal: 2, tpUdhi: 1, msgContent: vector('S8/content-1') };
    expect(cmpp[2].submit.encode(3, pdu)).toEqual(vector('S10/submit-2-part-1'));
  });

  test.each([2, 3] as const)('P2: version %i of the published SUBMIT is read and written again to the same octets', (version) => {
    const buffer = vector(`P2/submit-${version}`);
    const pdu = cmpp[version].submit.decode(buffer, 0, buffer.length);
    expect(pdu).toMatchObject({
      serviceId: 'test',
      feeTerminalId: '13500002696',
      validTime: '151105131555101+',
      destTerminalId: ['13500002696'],
    });
    expect(decodeText(pdu.msgContent, 'ucs2')).toBe('测试gocmpp submit');
    expect(cmpp[version].submit.encode(0x17, pdu)).toEqual(buffer);
  });

  test('P9: four captured SUBMITs of one message, the last in another encoding, join to one text', () => {
    const parts: { encoding: ReturnType<typeof encodingOf>; octets: Buffer }[] = [];
    const concats: unknown[] = [];
    const read = createFrameReader(cmppFrames, (buffer, start, end) => {
      expect(commandOf(buffer, start)).toBe(command.submit);
      const pdu = cmpp[2].submit.decode(buffer, start, end);
      expect(cmpp[2].submit.encode(sequenceOf(buffer, start), pdu)).toEqual(buffer.subarray(start, end));
      const { concat, body } = splitHeader(pdu.msgContent);
      concats.push(concat);
      parts.push({ encoding: encodingOf(pdu.msgFmt), octets: Buffer.from(body) });
    });
    read(vector('P9/submits-2'));
    expect(concats).toEqual([1, 2, 3, 4].map((number) => ({ reference: 0xe4, total: 4, number })));
    const text = joinParts(parts);
    expect(text).toMatch(/^尊敬的客户,您好！您于2016-03-23 14:51:36/);
    expect(text).toMatch(/abc10085$/);
  });

  test('to many recipients goes both ways', () => {
    const many = { ...submitS3, destTerminalId: Array.from({ length: 99 }, (_, index) => `138001380${index}`) };
    for (const version of [2, 3] as const) {
      const buffer = cmpp[version].submit.encode(1, many);
      expect(buffer.length).toBe(version === 2 ? 138 + 21 * 99 + 48 : 163 + 32 * 99 + 48);
      expect(cmpp[version].submit.decode(buffer, 0, buffer.length)).toMatchObject(many);
    }
  });

  test('S5, P2: SUBMIT_RESP is read by its length', () => {
    for (const [name, msgId, sequenceId] of [
      ['S5', '7825e18003e90101', 2],
      ['P2', 'b2b9da8000010000', 0x17],
    ] as const)
      for (const version of [2, 3] as const) {
        const buffer = vector(`${name}/submit-resp-${version}`);
        expect(decodeSubmitResp(buffer, 0, buffer.length)).toEqual({ msgId, result: 0 });
        expect(cmpp[version].submitResp.encode(sequenceId, { msgId, result: 0 })).toEqual(buffer);
      }
  });
});

describe('DELIVER', () => {
  test.each([2, 3] as const)('S6, S7: version %i carries a report', (version) => {
    const buffer = vector(version === 2 ? 'S6/report-2' : 'S7/report-3');
    const pdu = decodeDeliver(version, buffer, 0, buffer.length);
    expect(pdu).toMatchObject({ msgId: '7825e30003e9012c', destId: '10690001', srcTerminalId: '13800138000', registeredDelivery: 1 });
    const report = decodeReport(pdu.msgContent);
    expect(report).toEqual({
      msgId: '7825e18003e90101',
      stat: 'DELIVRD',
      submitTime: '2607160930',
      doneTime: '2607160930',
      destTerminalId: '13800138000',
      smscSequence: 12345678,
    });
    expect(cmpp[version].deliver.encode(7, { ...pdu, msgContent: encodeReport(version, report) })).toEqual(buffer);
  });

  test.each([2, 3] as const)('P3: version %i carries a message from a phone, and its response', (version) => {
    const buffer = vector(`P3/mo-${version}`);
    const pdu = decodeDeliver(version, buffer, 0, buffer.length);
    expect(pdu).toMatchObject({ destId: '900001', srcTerminalId: '13412340000', registeredDelivery: 0, msgFmt: 0 });
    expect(pdu.msgContent.toString()).toBe('This is a test MO.');
    expect(cmpp[version].deliver.encode(sequenceOf(buffer, 0), pdu)).toEqual(buffer);
    const response = vector(`P3/mo-resp-${version}`);
    expect(decodeDeliverResp(response, 0, response.length)).toEqual({ msgId: pdu.msgId, result: 0 });
    expect(cmpp[version].deliverResp.encode(sequenceOf(response, 0), { msgId: pdu.msgId, result: 0 })).toEqual(response);
  });

  test('P4: report bodies of 60 octets', () => {
    const first = vector('P4/report-body-gocmpp');
    expect(decodeReport(first)).toEqual({
      msgId: 'b4c5530000010000',
      stat: 'DELIVRD',
      submitTime: '1511120955',
      doneTime: '1511120957',
      destTerminalId: '13412340000',
      smscSequence: 0x12345678,
    });
    const second = decodeReport(vector('P4/report-body-go_cmpp'));
    expect(second).toMatchObject({ msgId: '6642908009d959fe', stat: 'MK:0012', destTerminalId: '8614714762894' });
    expect(encodeReport(2, second)).toEqual(vector('P4/report-body-go_cmpp'));
    // The id was made by gateway 2521 at 16:41:02 on 12 June.
    expect(composeMsgId(new Date('2018-06-12T16:41:02+08:00'), 2521, 23038)).toBe(second.msgId);
  });

  test('P5: a report of 71 octets, its Stat padded', () => {
    const buffer = deliverOf(vector('P5/deliver-3-body-report-71'));
    const pdu = decodeDeliver(3, buffer, 0, buffer.length);
    expect(pdu).toMatchObject({ msgId: '522a4980002aa6ce', destId: '10085011', serviceId: 'cmcczx_sms' });
    expect(decodeReport(pdu.msgContent)).toMatchObject({ msgId: '522a4980002aa6cd', stat: 'AF:4', destTerminalId: '13592261791' });
  });

  test('P6: a report of 60 octets inside 3.0, and a number that fills its field', () => {
    const buffer = deliverOf(vector('P6/deliver-3-body-report-60'));
    const pdu = decodeDeliver(3, buffer, 0, buffer.length);
    expect(pdu).toMatchObject({ srcTerminalId: '18703815655187038156551870381565', linkId: '0000000000000123456' });
    expect(decodeReport(pdu.msgContent)).toMatchObject({
      msgId: 'c2cf8400a37359d8',
      stat: 'DELIVRD',
      destTerminalId: '10086988',
      smscSequence: 255,
    });
  });

  test('P7: a header flagged as 0x40, of a single part', () => {
    const buffer = deliverOf(vector('P7/deliver-3-body-udhi-40'));
    const pdu = decodeDeliver(3, buffer, 0, buffer.length);
    expect(hasHeader(pdu.tpUdhi)).toBe(true);
    const { concat, body } = splitHeader(pdu.msgContent);
    expect(concat).toBeNull();
    expect(decodeText(body, encodingOf(pdu.msgFmt))).toMatch(/^有过不去的经历，只有走不出的自己！/);
    expect(body.length).toBe(126);
  });

  test('P8: binary content behind a header without concatenation', () => {
    const buffer = deliverOf(vector('P8/deliver-3-body-wap-push'));
    const pdu = decodeDeliver(3, buffer, 0, buffer.length);
    expect(encodingOf(pdu.msgFmt)).toBe('binary');
    const { concat, body } = splitHeader(pdu.msgContent);
    expect(concat).toBeNull();
    expect(body.length).toBe(105);
    expect(body.toString('latin1')).toContain('application/x-wap-prov.browser-bookmarks');
  });

  test.each([
    [2, 'S6/report-2', 76],
    [3, 'S7/report-3', 88],
  ] as const)('version %i: a report whose Msg_Length is too small is read from the octets that are there', (version, name, lengthAt) => {
    const whole = decodeReport(decodeDeliver(version, vector(name), 0, vector(name).length).msgContent);
    for (const length of [0, 20, 59]) {
      const buffer = vector(name);
      buffer[lengthAt] = length;
      expect(decodeReport(decodeDeliver(version, buffer, 0, buffer.length).msgContent)).toEqual(whole);
    }
  });

  test('a report followed by less than its trailing field, or by nothing, is read all the same', () => {
    for (const missing of [1, 8]) {
      const buffer = vector('S6/report-2');
      const pdu = decodeDeliver(2, buffer, 0, buffer.length - missing);
      expect(decodeReport(pdu.msgContent).smscSequence).toBe(12345678);
    }
  });

  test('a report of any other length gives what is the same in every variant', () => {
    const body = vector('P4/report-body-gocmpp').subarray(0, 40);
    expect(decodeReport(body)).toMatchObject({ msgId: 'b4c5530000010000', stat: 'DELIVRD', destTerminalId: '' });
    expect(() => decodeReport(body.subarray(0, 34))).toThrow(ProtocolError);
  });

  test('only ACCEPTD and ENROUTE are not final', () => {
    expect(['DELIVRD', 'UNKNOWN', 'MK:0001', '', 'ACCEPTD', 'ENROUTE'].map(isFinal)).toEqual([true, true, true, true, false, false]);
  });
});

test('P10: the bodiless PDUs; ACTIVE_TEST_RESP may lack its octet', () => {
  const pdus = cmpp[2];
  expect(pdus.activeTest.encode(0x17, {})).toEqual(vector('P10/active-test'));
  expect(pdus.activeTestResp.encode(0x17, { reserved: '' })).toEqual(vector('P10/active-test-resp'));
  expect(pdus.terminate.encode(0x17, {})).toEqual(vector('P10/terminate'));
  expect(pdus.terminateResp.encode(0x17, {})).toEqual(vector('P10/terminate-resp'));
  expect(pdus.activeTestResp.decode(vector('P10/active-test-resp'), 0, 12)).toEqual({ reserved: '' });
});

test('QUERY and CANCEL have their documented sizes', () => {
  const query = { time: '20260716', queryType: 1, queryCode: 'HELP', reserve: '' };
  const counts = { mtTlMsg: 1, mtTlUsr: 2, mtScs: 3, mtWt: 4, mtFl: 5, moScs: 6, moWt: 7, moFl: 0xffffffff };
  const response = { time: '20260716', queryType: 1, queryCode: 'HELP', ...counts };
  expect(cmpp[2].query.encode(1, query)).toHaveLength(39);
  expect(cmpp[2].queryResp.encode(1, response)).toHaveLength(63);
  expect(cmpp[2].queryResp.decode(cmpp[2].queryResp.encode(1, response), 0, 63)).toEqual(response);
  expect(cmpp[2].cancel.encode(1, { msgId: '7825e18003e90101' })).toHaveLength(20);
  expect([cmpp[2], cmpp[3]].map(({ cancelResp }) => cancelResp.encode(1, { successId: 0 }).length)).toEqual([13, 16]);
});

test('a Msg_Id is its time, gateway and sequence, and is printed as 16 lower-case hex digits', () => {
  expect(composeMsgId(new Date('2026-07-16T09:30:06+08:00'), 1001, 257)).toBe('7825e18003e90101');
  expect(composeMsgId(new Date('2026-12-31T23:59:59+08:00'), 0x3fffff, 0xffff)).toBe('cfdfbeffffffffff');
  expect(composeMsgId(new Date('2026-12-31T16:00:00Z'), 0, 0)).toBe('1080000000000000');
  expect(() => composeMsgId(loginTime, 1 << 22, 0)).toThrow(RangeError);
  expect(reportTime(loginTime)).toBe('2607160930');
});

test('Msg_Fmt beyond the specification is read as a GSM data coding scheme', () => {
  const expected = {
    0: 'ascii',
    1: 'ascii',
    3: 'binary',
    4: 'binary',
    8: 'ucs2',
    15: 'gbk',
    17: 'ascii',
    25: 'ucs2',
    0xf5: 'binary',
    0xf6: 'binary',
  };
  for (const [msgFmt, encoding] of Object.entries(expected)) expect(encodingOf(Number(msgFmt))).toBe(encoding);
});
