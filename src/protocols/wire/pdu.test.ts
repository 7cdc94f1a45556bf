import { expect, test } from 'vitest';
import { bytes, cString, hex, layout, octets, tlvs, trailing, u8, u32 } from './fields.ts';
import { pduFormat } from './pdu.ts';

/** The headers of CMPP and SMGP, of SGIP, and of SMPP. */
const smgp = pduFormat(u32);
const sgip = pduFormat(layout({ node: u32, time: u32, sequence: u32 }));
const smpp = pduFormat(layout({ status: u32, sequence: u32 }));

const login = smgp.pdu(1, layout({ clientId: octets(8), authenticator: bytes(16), loginMode: u8, timestamp: u32, version: u8 }));
const bindResp = sgip.pdu(0x80000001, layout({ result: u8, reserve: trailing(8) }));
const bindTransceiverResp = smpp.pdu(0x80000009, layout({ systemId: cString(16), optional: tlvs({ interfaceVersion: [0x0210, u8] }) }));
const submitSmResp = smpp.pdu(0x80000004, layout({ messageId: cString(65) }));

const frame = (text: string) => Buffer.from(text, 'hex');

test('a header of length, command and number', () => {
  const body = { clientId: '10690001', authenticator: Buffer.alloc(16, 7), loginMode: 2, timestamp: 301000000, version: 0x30 };
  const octets = login.encode(5, body);
  expect(octets.toString('hex')).toBe(`0000002a00000001000000053130363930303031${'07'.repeat(16)}0211f0e54030`);
  expect([smgp.headerSize, smgp.commandOf(octets, 0), smgp.sequenceOf(octets, 0), smgp.tailOf(octets, 0)]).toEqual([12, 1, 5, 5]);
  expect(login.decode(octets, 0, octets.length)).toEqual(body);
});

test('a header with an identity of three numbers', () => {
  const vector = frame('0000001d80000001b36924b92aaeb64d00000001000000000000000000');
  const tail = { node: 3010012345, time: 716093005, sequence: 1 };
  expect(bindResp.encode(tail, { result: 0, reserve: '' })).toEqual(vector);
  // Not at the beginning of the buffer, as with real frames.
  const stream = Buffer.concat([vector, vector]);
  expect(sgip.tailOf(stream, vector.length)).toEqual(tail);
  expect(sgip.sequenceOf(stream, vector.length)).toBe(1);
  expect(sgip.commandOf(stream, vector.length)).toBe(bindResp.commandId);
  expect(bindResp.decode(stream, vector.length, stream.length)).toEqual({ result: 0, reserve: '' });
});

test('a header with a status, and a body with text of any length and optional parameters', () => {
  const vector = frame('0000001a800000090000000000000001534d5343000210000134');
  const body = { systemId: 'SMSC', optional: { interfaceVersion: 0x34 } };
  expect(bindTransceiverResp.encode({ status: 0, sequence: 1 }, body)).toEqual(vector);
  expect(bindTransceiverResp.decode(vector, 0, vector.length)).toEqual(body);
  const accepted = frame('00000019800000040000000000000002306131623263336400');
  expect(submitSmResp.decode(accepted, 0, accepted.length)).toEqual({ messageId: '0a1b2c3d' });
  const throttled = frame('00000010800000040000005800000002');
  expect(smpp.tailOf(throttled, 0)).toEqual({ status: 0x58, sequence: 2 });
});

test('a header has one size', () => {
  expect(() => pduFormat(cString(9))).toThrow(TypeError);
  expect(pduFormat(hex(12)).headerSize).toBe(20);
});
