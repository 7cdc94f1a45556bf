/**
 * CMPP 2.0 and 3.0, the protocol between an SP (us) and China Mobile's gateway (ISMG): every PDU of that interface in both directions, the
 * digests of the login, message ids and delivery reports. docs/protocols/cmpp.md has the facts and the quirks.
 *
 * Msg_Ids are 16 lower-case hex digits everywhere. They exceed a JavaScript number, and carriers choose them freely, so treat them as
 * opaque octets.
 */
import { createHash } from 'node:crypto';
import type { Encoding } from './text.ts';
import { bytes, counted, hex, layout, octets, sized, trailing, u8, u32 } from './wire/fields.ts';
import type { FrameBounds } from './wire/framing.ts';
import { type Pdu, pduFormat } from './wire/pdu.ts';

/** The two wire layouts; 2.1 is laid out as 2. */
export type CmppVersion = 2 | 3;

/** The tail of CMPP's header is the request's number (§2). */
const { headerSize, pdu, ...header } = pduFormat(u32);

/** A SUBMIT to 100 numbers has 3,618 octets, and a private dialect's attachment may follow; public implementations stop at 4,096. */
export const cmppFrames: FrameBounds = { min: headerSize, max: 4096 };

export const noMsgId = '0000000000000000';

const msgId = hex(8);

/** Fields that only one version has. */
const when = <F extends object>(isThere: boolean, fields: F): Partial<F> => (isThere ? fields : {});

/** CMPP_SUBMIT; 2.0 and 3.0 differ where `from3` says so. */
const submit = (version: CmppVersion) => {
  const from3 = version === 3;
  const terminalId = octets(from3 ? 32 : 21);
  return layout({
    msgId,
    pkTotal: u8,
    pkNumber: u8,
    registeredDelivery: u8,
    msgLevel: u8,
    serviceId: octets(10),
    feeUserType: u8,
    feeTerminalId: terminalId,
    ...when(from3, { feeTerminalType: u8 }),
    tpPid: u8,
    tpUdhi: u8,
    msgFmt: u8,
    msgSrc: octets(6),
    feeType: octets(2),
    feeCode: octets(6),
    validTime: octets(17),
    atTime: octets(17),
    srcId: octets(21),
    destTerminalId: counted(terminalId),
    ...when(from3, { destTerminalType: u8 }),
    msgContent: sized,
    ...when(from3, { linkId: trailing(20) }),
    ...when(!from3, { reserve: trailing(8) }),
  });
};

/** CMPP_DELIVER: a message from a phone, or (Registered_Delivery 1) a report. */
const deliver = (version: CmppVersion) => {
  const from3 = version === 3;
  return layout({
    msgId,
    destId: octets(21),
    serviceId: octets(10),
    tpPid: u8,
    tpUdhi: u8,
    msgFmt: u8,
    srcTerminalId: octets(from3 ? 32 : 21),
    ...when(from3, { srcTerminalType: u8 }),
    registeredDelivery: u8,
    msgContent: sized,
    ...when(from3, { linkId: trailing(20) }),
    ...when(!from3, { reserve: trailing(8) }),
  });
};

const connect = layout({ sourceAddr: octets(6), authenticatorSource: bytes(16), version: u8, timestamp: u32 });
const query = layout({ time: octets(8), queryType: u8, queryCode: octets(10), reserve: trailing(8) });
const queryResp = layout({
  time: octets(8),
  queryType: u8,
  queryCode: octets(10),
  mtTlMsg: u32,
  mtTlUsr: u32,
  mtScs: u32,
  mtWt: u32,
  mtFl: u32,
  moScs: u32,
  moWt: u32,
  moFl: u32,
});
const nothing = layout({});

/** Command_Ids; a response also has the top bit set. */
export const command = {
  connect: 0x1,
  connectResp: 0x80000001,
  terminate: 0x2,
  terminateResp: 0x80000002,
  submit: 0x4,
  submitResp: 0x80000004,
  deliver: 0x5,
  deliverResp: 0x80000005,
  query: 0x6,
  queryResp: 0x80000006,
  cancel: 0x7,
  cancelResp: 0x80000007,
  activeTest: 0x8,
  activeTestResp: 0x80000008,
} as const;

const pdusOf = (version: CmppVersion) => {
  // All result codes grew from one octet to four in 3.0.
  const code = version === 3 ? u32 : u8;
  return {
    connect: pdu(command.connect, connect),
    connectResp: pdu(command.connectResp, layout({ status: code, authenticatorIsmg: bytes(16), version: u8 })),
    terminate: pdu(command.terminate, nothing),
    terminateResp: pdu(command.terminateResp, nothing),
    submit: pdu(command.submit, submit(version)),
    submitResp: pdu(command.submitResp, layout({ msgId, result: code })),
    deliver: pdu(command.deliver, deliver(version)),
    deliverResp: pdu(command.deliverResp, layout({ msgId, result: code })),
    query: pdu(command.query, query),
    queryResp: pdu(command.queryResp, queryResp),
    cancel: pdu(command.cancel, layout({ msgId })),
    cancelResp: pdu(command.cancelResp, layout({ successId: code })),
    activeTest: pdu(command.activeTest, nothing),
    // 2.0 changed this response; older peers leave the octet out.
    activeTestResp: pdu(command.activeTestResp, layout({ reserved: trailing(1) })),
  };
};

/** The PDUs by version. For PDUs that both versions share, either entry works. */
export const cmpp: Readonly<Record<CmppVersion, ReturnType<typeof pdusOf>>> = { 2: pdusOf(2), 3: pdusOf(3) };

type Body<P> = P extends Pdu<number, infer T> ? T : never;
type Pdus = ReturnType<typeof pdusOf>;
export type Submit = Body<Pdus['submit']>;
export type Deliver = Body<Pdus['deliver']>;
type ConnectResp = Body<Pdus['connectResp']>;
type SubmitResp = Body<Pdus['submitResp']>;

/** The frame must have passed the bounds of `cmppFrames`. */
export const { commandOf, sequenceOf } = header;

/**
 * Reads CONNECT_RESP in the layout that its length shows: a server that refuses may answer in the layout of either version (§4). `shape` is
 * needed to check the digest.
 */
export function decodeConnectResp(buffer: Buffer, start: number, end: number): ConnectResp & { readonly shape: CmppVersion } {
  const shape = end - start >= 33 ? 3 : 2;
  return { ...cmpp[shape].connectResp.decode(buffer, start, end), shape };
}

/** Also reads SUBMIT_RESP by its length: some servers accept a login of 3.0 and then speak 2.0 (§12). */
export function decodeSubmitResp(buffer: Buffer, start: number, end: number): SubmitResp {
  return cmpp[end - start >= 24 ? 3 : 2].submitResp.decode(buffer, start, end);
}

/** As `decodeSubmitResp`. */
export function decodeDeliverResp(buffer: Buffer, start: number, end: number): SubmitResp {
  return cmpp[end - start >= 24 ? 3 : 2].deliverResp.decode(buffer, start, end);
}

/** The value of Version in CONNECT and CONNECT_RESP. */
export const versionOctet = (version: CmppVersion): number => version << 4;

// Reports

const reportFields = { msgId, stat: octets(7), submitTime: octets(10), doneTime: octets(10) };
const report2 = layout({ ...reportFields, destTerminalId: octets(21), smscSequence: u32 });
const report3 = layout({ ...reportFields, destTerminalId: octets(32), smscSequence: u32 });
/** The fields that every known variant shares, and that we need. */
const reportCore = layout(reportFields);
const reportSize: Readonly<Record<CmppVersion, number>> = { 2: 60, 3: 71 };

export interface Report {
  /** The Msg_Id of the SUBMIT_RESP. */
  readonly msgId: string;
  /** As received, cut at NUL, blanks trimmed. */
  readonly stat: string;
  /** YYMMDDHHMM, China Standard Time. */
  readonly submitTime: string;
  readonly doneTime: string;
  /** Empty where the body is too irregular to contain one. */
  readonly destTerminalId: string;
  readonly smscSequence: number;
}

export function encodeReport(version: CmppVersion, report: Report): Buffer {
  const buffer = Buffer.allocUnsafe(reportSize[version]);
  (version === 3 ? report3 : report2).write(buffer, 0, report);
  return buffer;
}

/** Reads Msg_Content of a DELIVER with Registered_Delivery 1. Its length shows its layout, not the session's version (§9). */
export function decodeReport(content: Buffer): Report {
  const cursor = { at: 0, end: content.length };
  const report =
    content.length === reportSize[2]
      ? report2.read(content, cursor)
      : content.length === reportSize[3]
        ? report3.read(content, cursor)
        : { ...reportCore.read(content, cursor), destTerminalId: '', smscSequence: 0 };
  const stat = report.stat.trim();
  return stat === report.stat ? report : { ...report, stat };
}

/**
 * Reads a DELIVER of either kind. If a report's Msg_Length is wrong but its octets are there, its content is corrected, as long as the
 * fields after it still fit (§12).
 */
export function decodeDeliver(version: CmppVersion, buffer: Buffer, start: number, end: number): Deliver {
  const value = cmpp[version].deliver.decode(buffer, start, end);
  if (value.registeredDelivery !== 1 || value.msgContent.length >= reportSize[2]) return value;
  const contentAt = start + (version === 3 ? 89 : 77);
  const room = end - contentAt - (version === 3 ? 20 : 8);
  const size = version === 3 && room >= reportSize[3] ? reportSize[3] : reportSize[2];
  return room >= size ? { ...value, msgContent: buffer.subarray(contentAt, contentAt + size) } : value;
}

/** Intermediate states: the carrier still works on the message and will report again. Everything else is final. */
export const isFinal = (stat: string): boolean => stat !== 'ACCEPTD' && stat !== 'ENROUTE';

/** A user data header is present. The specification's flag is octet 1; some peers copy GSM's 0x40 (§12). */
export const hasHeader = (tpUdhi: number): boolean => (tpUdhi & 0x41) !== 0;

/** The encoding that Msg_Fmt stands for. Values beyond the specification are read as a GSM 03.38 data coding scheme, as SMSGate does. */
export function encodingOf(msgFmt: number): Encoding {
  if (msgFmt === 8) return 'ucs2';
  if (msgFmt === 15) return 'gbk';
  if (msgFmt === 3 || msgFmt === 4) return 'binary';
  const alphabet = (msgFmt >> 2) & 3;
  return alphabet === 2 ? 'ucs2' : alphabet === 1 ? 'binary' : 'ascii';
}

// Login

const md5 = (...parts: readonly (string | Buffer)[]): Buffer => {
  const hash = createHash('md5');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** Date parts of China Standard Time, in any machine's time zone: every carrier in this protocol uses it. */
function chinaTime(at: Date) {
  const shifted = new Date(at.getTime() + 8 * 3_600_000);
  return {
    year: shifted.getUTCFullYear() % 100,
    month: shifted.getUTCMonth() + 1,
    day: shifted.getUTCDate(),
    hour: shifted.getUTCHours(),
    minute: shifted.getUTCMinutes(),
    second: shifted.getUTCSeconds(),
  };
}

/** MMDDHHMMSS as the integer that CONNECT carries. */
export function connectTimestamp(at: Date): number {
  const { month, day, hour, minute, second } = chinaTime(at);
  return (((month * 100 + day) * 100 + hour) * 100 + minute) * 100 + second;
}

/** AuthenticatorSource of CONNECT. The digest takes the timestamp as ten digits, leading zero included. */
export function authenticatorSource(spId: string, secret: string, timestamp: number): Buffer {
  return md5(spId, Buffer.alloc(9), secret, timestamp.toString().padStart(10, '0'));
}

/** AuthenticatorISMG of CONNECT_RESP. The status is hashed in its wire form, so its size matters. */
export function authenticatorIsmg(shape: CmppVersion, status: number, source: Buffer, secret: string): Buffer {
  const octets = Buffer.alloc(shape === 3 ? 4 : 1);
  octets.writeUIntBE(status, 0, octets.length);
  return md5(octets, source, secret);
}

// Ids and times an ISMG writes

/** A Msg_Id as an ISMG makes it (§6): its time, 22 bits of gateway code, 16 bits of sequence. */
export function composeMsgId(at: Date, gateway: number, sequence: number): string {
  if (gateway >>> 22 !== 0 || sequence >>> 16 !== 0) throw new RangeError(`gateway ${gateway}, sequence ${sequence}`);
  const { month, day, hour, minute, second } = chinaTime(at);
  const high = ((month << 28) | (day << 23) | (hour << 18) | (minute << 12) | (second << 6) | (gateway >>> 16)) >>> 0;
  const low = (((gateway & 0xffff) << 16) | sequence) >>> 0;
  return high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0');
}

/** YYMMDDHHMM, as in reports. */
export function reportTime(at: Date): string {
  const { year, month, day, hour, minute } = chinaTime(at);
  return [year, month, day, hour, minute].map((part) => part.toString().padStart(2, '0')).join('');
}
