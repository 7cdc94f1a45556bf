/** A simulated China Mobile gateway (ISMG): the server's side of CMPP 2.0 and 3.0 over real sockets, with phones behind it. */
import {
  authenticatorIsmg,
  authenticatorSource,
  type CmppVersion,
  cmpp,
  cmppFrames,
  command,
  commandOf,
  composeMsgId,
  decodeDeliverResp,
  encodeReport,
  encodingOf,
  hasHeader,
  noMsgId,
  sequenceOf,
  versionOctet,
} from '../src/protocols/cmpp.ts';
import { isOwn } from './carrier.ts';
import { wholeFrom } from './faults.ts';
import { createGateway, type GatewayOptions, type GatewayProtocol, type GatewaySubmit, type LoginRefusal } from './gateway.ts';
import type { SimulatorKind } from './simulator.ts';

export interface IsmgOptions extends GatewayOptions {
  /** The newest version it speaks; a login with a newer version is told so. Default 3. */
  readonly maxVersion?: CmppVersion;
}

export type Ismg = ReturnType<typeof createIsmg>;

export const createIsmg = (options: IsmgOptions) => createGateway(options, createProtocol(options.maxVersion ?? 3));

export const simulatorKind: SimulatorKind = {
  name: 'cmpp',
  faults: { rejectCode: wholeFrom(1, 255) },
  create: createIsmg,
  address: (port) => ({ host: '127.0.0.1', port }),
  login: ({ spId }) => ({ spId }),
};

interface CmppSubmit extends GatewaySubmit {
  readonly sequenceId: number;
  readonly msgSrc: string;
  readonly msgFmt: number;
}

/** Statuses of CONNECT_RESP. */
const loginStatus: Readonly<Record<LoginRefusal, number>> = { version: 4, stranger: 2, secret: 3, other: 5 };
/** The code of the gateway in Msg_Ids. */
const firstGateway = 1001;
const gateways = 1000;

function createProtocol(maxVersion: CmppVersion): GatewayProtocol<CmppVersion, CmppSubmit> {
  // Msg_Ids contain the time, which is formatted once a tick.
  // Starting anywhere, also with the gateway, a restart within a second hardly repeats an id.
  let idSequence = Math.floor(Math.random() * 0x10000);
  let gateway = firstGateway + Math.floor(Math.random() * gateways);
  let idPrefix = '';

  function readClock(now: Date): void {
    idPrefix = composeMsgId(now, gateway, 0).slice(0, 12);
  }

  return {
    frames: cmppFrames,
    lastSequence: 0xffffffff,
    throttled: 8,
    /** Dest_terminal_Id. */
    rejected: 13,

    readLogin(buffer, start, end) {
      if (commandOf(buffer, start) !== command.connect) return null;
      const { sourceAddr, authenticatorSource: proof, version: octet, timestamp } = cmpp[3].connect.decode(buffer, start, end);
      const asked: CmppVersion = octet >= 0x30 ? 3 : 2;
      const version: CmppVersion = maxVersion === 2 ? 2 : asked;
      const sequenceId = sequenceOf(buffer, start);
      return {
        spId: sourceAddr,
        version,
        isTooNew: asked > maxVersion,
        proves: (secret) => authenticatorSource(sourceAddr, secret, timestamp).equals(proof),
        answer(refusal, secret) {
          const status = refusal === null ? 0 : loginStatus[refusal];
          const authenticator = status === 0 ? authenticatorIsmg(version, status, proof, secret) : Buffer.alloc(16);
          const body = { status, authenticatorIsmg: authenticator, version: versionOctet(maxVersion) };
          return cmpp[version].connectResp.encode(sequenceId, body);
        },
      };
    },

    read(version, buffer, start, end) {
      const sequence = sequenceOf(buffer, start);
      switch (commandOf(buffer, start)) {
        case command.submit: {
          const submit = cmpp[version].submit.decode(buffer, start, end);
          const { srcId, destTerminalId, tpUdhi, msgFmt, msgSrc, msgContent, pkNumber, pkTotal, registeredDelivery } = submit;
          return {
            kind: 'submit',
            from: srcId,
            to: destTerminalId,
            encoding: encodingOf(msgFmt),
            hasHeader: hasHeader(tpUdhi),
            content: msgContent,
            wantsReport: registeredDelivery === 1,
            isLast: pkNumber >= pkTotal,
            sequenceId: sequence,
            msgSrc,
            msgFmt,
          };
        }
        case command.deliverResp:
          return { kind: 'answered', sequence, isSafe: decodeDeliverResp(buffer, start, end).result === 0 };
        case command.activeTest:
          return { kind: 'asked', answer: cmpp[version].activeTestResp.encode(sequence, { reserved: '' }) };
        case command.terminate:
          return { kind: 'leaving', answer: cmpp[version].terminateResp.encode(sequence, {}) };
        default:
          return null;
      }
    },

    judge({ to, from, content, msgFmt, msgSrc }, account) {
      const [first] = to;
      if (first === undefined) return 1;
      if (first.length > 21) return 13;
      if (content.length > (msgFmt === 0 ? 159 : 140)) return 6;
      if (!isOwn(account, from)) return 10;
      return msgSrc === account.spId ? 0 : 11;
    },

    submitResp: (version, { sequenceId }, id, result) => cmpp[version].submitResp.encode(sequenceId, { msgId: id ?? noMsgId, result }),

    report: (version, sequence, id, { messageId, from, phone, stat, takenAt }, now) =>
      cmpp[version].deliver.encode(sequence, {
        msgId: id,
        destId: from,
        serviceId: '',
        tpPid: 0,
        tpUdhi: 0,
        msgFmt: 0,
        srcTerminalId: phone,
        registeredDelivery: 1,
        msgContent: encodeReport(version, {
          msgId: messageId,
          stat,
          submitTime: takenAt,
          doneTime: now,
          destTerminalId: phone,
          smscSequence: 0,
        }),
      }),

    reply: (version, sequence, id, { to, phone, encoding, hasHeader, content }) =>
      cmpp[version].deliver.encode(sequence, {
        msgId: id,
        destId: to,
        serviceId: '',
        tpPid: 0,
        tpUdhi: hasHeader ? 1 : 0,
        msgFmt: encoding === 'ucs2' ? 8 : 0,
        srcTerminalId: phone,
        registeredDelivery: 0,
        msgContent: Buffer.from(content, 'base64'),
      }),

    probe: (version, sequence) => cmpp[version].activeTest.encode(sequence, {}),

    readClock,

    nextId() {
      idSequence = (idSequence + 1) & 0xffff;
      if (idSequence === 0) {
        // A gateway code has 65,536 ids a second, which a benchmark can use up.
        gateway = firstGateway + ((gateway - firstGateway + 1) % gateways);
        readClock(new Date());
      }
      return idPrefix + (0x10000 + idSequence).toString(16).slice(1);
    },
  };
}
