/**
 * A connection to China Mobile, CMPP 2.0 or 3.0: SUBMITs out, SUBMIT_RESPs, reports and replies in.
 *
 * What becomes of messages is session/segments.ts, what becomes of the socket session/session.ts. Here is what is CMPP: the login with
 * its digests and its fall to an older version, the PDUs, what a Result means, and what a DELIVER is.
 */
import { type Static, Type } from 'typebox';
import {
  authenticatorIsmg,
  authenticatorSource,
  type CmppVersion,
  cmpp,
  cmppFrames,
  command,
  commandOf,
  connectTimestamp,
  type Deliver,
  decodeConnectResp,
  decodeDeliver,
  decodeReport,
  decodeSubmitResp,
  encodingOf,
  hasHeader,
  isFinal,
  noMsgId,
  sequenceOf,
  versionOctet,
} from '../protocols/cmpp.ts';
import { type CutText, concatHeader, cutText, splitHeader } from '../protocols/text.ts';
import { ProtocolError } from '../protocols/wire/fields.ts';
import type { ChannelConnection, ChannelKind, ConnectionDeps, OutboundMessage, SegmentOutcome } from './channel.ts';
import { rejected, throttled } from './outcomes.ts';
import { createSegments } from './session/segments.ts';
import { address, sessionSettings } from './session/settings.ts';
import { ascii, byDefault, ratePerSecond, throttling, withDefaults, words } from './settings.ts';

const cmppSettings = Type.Object(
  {
    ...address,
    spId: ascii(6, 6, words('企业代码', 'SP_Id', '运营商分配的六位企业代码，登录与提交都用它。', 'Six characters, given by the carrier.')),
    serviceId: ascii(1, 10, words('业务代码', 'Service_Id', '运营商登记的业务代码。', 'Service, as registered with the carrier.')),
    ratePerSecond: ratePerSecond('提交短信条数（长短信按段计）', 'Segments'),
    version: byDefault(
      '3.0',
      Type.Enum(
        ['2.0', '3.0'],
        words(
          '协议版本',
          'Version',
          '登录时请求的 CMPP 版本；只支持较低版本的网关按较低版本通信。',
          'Version that we ask for; with a gateway that knows only an older version, we use the older one.',
        ),
      ),
    ),
    feeUserType: byDefault(
      2,
      Type.Integer({
        minimum: 0,
        maximum: 3,
        ...words(
          '计费用户类型',
          'Fee_UserType',
          '0 对接收方计费，1 对源终端计费，2 对企业（SP）计费，3 不使用。',
          'Who is charged: 0 the recipient, 1 the source, 2 the SP, 3 nobody in particular.',
        ),
      }),
    ),
    feeType: byDefault(
      '01',
      Type.String({
        pattern: '^[0-9]{1,2}$',
        ...words(
          '计费类型',
          'FeeType',
          '资费类别：01 免费，02 按条，03 包月，04 封顶，05 由企业（SP）实现。',
          'How the carrier charges: 01 free, 02 per message, 03 by month, 04 capped, 05 by the SP.',
        ),
      }),
    ),
    feeCode: byDefault(
      '0',
      Type.String({ pattern: '^[0-9]{1,6}$', ...words('资费代码', 'FeeCode', '资费，单位为分。', 'The charge, in fen.') }),
    ),
    msgLevel: byDefault(
      0,
      Type.Integer({
        minimum: 0,
        maximum: 9,
        ...words('信息级别', 'Msg_level', '提交短信的优先级别，由运营商解释。', 'Priority of messages; the carrier defines its meaning.'),
      }),
    ),
    longReferenceBits: byDefault(
      8,
      Type.Enum(
        [8, 16],
        words(
          '长短信参考号位数',
          'Long message reference',
          '长短信用户数据头中参考号的位数；16 位时每段少一个汉字。',
          'Bits of the reference that joins the segments of a long message; 16 bits cost one character in each segment.',
        ),
      ),
    ),
    stripCountryCode: byDefault(
      true,
      Type.Boolean(
        words(
          '去掉国家码',
          'Strip country code',
          '是：86138… 写作 138…，其他国家号码前加 00；否：按国际格式提交。',
          'If true, 86138… is sent as 138…, and numbers of other countries get 00 in front; if false, numbers are sent as international digits.',
        ),
      ),
    ),
    strictAuthenticator: byDefault(
      false,
      Type.Boolean(
        words(
          '校验网关身份',
          'Strict authenticator',
          '拒绝不能证明自己知道密码的网关；许多真实网关不能。',
          'Refuse a gateway that cannot prove that it knows the secret; many real gateways cannot.',
        ),
      ),
    ),
    ...sessionSettings,
    ...throttling,
  },
  { $id: 'CmppSettings', additionalProperties: false },
);

export type CmppSettings = Static<typeof cmppSettings> & { secret: string };

export const cmppKind: ChannelKind<typeof cmppSettings> = {
  name: 'cmpp',
  title: { zh: '中国移动 CMPP 2.0/3.0', en: 'China Mobile CMPP 2.0/3.0' },
  settings: cmppSettings,
  secret: { zh: '登录密码', en: 'Shared secret' },
  connect: (settings, secret, deps) => createCmppConnection({ ...settings, secret }, deps),
  simulator: async () => (await import('../../simulators/cmpp.ts')).simulatorKind,
};

/** Results we answer a DELIVER with. 8 is "too fast", the one that asks for the same again. */
const deliverResult = { ok: 0, structure: 1, again: 8 } as const;
const submitResult = { ok: 0, structure: 1, tooLong: 6, throttled: 8 } as const;

/** Structure, command, sequence, length, fee code, Service_Id, Msg_src, Fee_terminal_Id: a message has no part in any of them. */
const ourResults: ReadonlySet<number> = new Set([1, 2, 3, 4, 5, 7, 11, 12]);

function outcomeOf(msgId: string, result: number): SegmentOutcome {
  if (result === submitResult.ok) return { kind: 'accepted', carrierId: msgId };
  return result === submitResult.throttled ? throttled : rejected(result, ourResults.has(result));
}

/** Throws RangeError if no PDU can carry these settings. */
export function createCmppConnection(given: CmppSettings, deps: ConnectionDeps): ChannelConnection {
  const settings = withDefaults(cmppSettings, given);
  const { events } = deps;
  const asked: CmppVersion = settings.version === '2.0' ? 2 : 3;

  /** What we ask for at the next login, and what is spoken after it. */
  let version = asked;
  let authenticator: Buffer = Buffer.alloc(16);

  const { connection, session, answered } = createSegments(
    settings,
    {
      frames: cmppFrames,
      login,
      keepAlive: (sequenceId) => cmpp[version].activeTest.encode(sequenceId, {}),
      leave: (sequenceId) => cmpp[version].terminate.encode(sequenceId, {}),
      receive,
      answer: (sequenceId, msgId, isSafe) => answer(sequenceId, msgId, isSafe ? deliverResult.ok : deliverResult.again),
      cut: (text) => cutText(text, settings.longReferenceBits),
      // Pk_total and the header's total are one octet.
      maxSegments: 255,
      encode: encodeSubmit,
      tooLong: rejected(submitResult.tooLong),
      misfit: rejected(submitResult.structure),
    },
    deps,
  );

  // The login

  function login(sequenceId: number): Buffer {
    const timestamp = connectTimestamp(new Date());
    authenticator = authenticatorSource(settings.spId, settings.secret, timestamp);
    const body = { sourceAddr: settings.spId, authenticatorSource: authenticator, version: versionOctet(version), timestamp };
    return cmpp[version].connect.encode(sequenceId, body);
  }

  function onConnectResp(buffer: Buffer, start: number, end: number): void {
    const { status, authenticatorIsmg: digest, version: octet, shape } = decodeConnectResp(buffer, start, end);
    // A server tells the highest version it knows. Zero and the like tell nothing.
    const known: CmppVersion = octet >= 0x20 && octet < 0x30 ? 2 : 3;
    const lower: CmppVersion = known === 2 ? 2 : version;
    if (status === 4 && lower < version) {
      version = lower;
      session.again('the server wants 2.0');
      return;
    }
    if (status !== 0) {
      session.refused(`login refused with status ${status}`);
      return;
    }
    const isProven = digest.equals(authenticatorIsmg(shape, status, authenticator, settings.secret));
    if (!isProven && settings.strictAuthenticator) {
      session.refused('the server does not know the secret');
      return;
    }
    version = lower;
    session.accepted(`logged in, ${version}.0${isProven ? '' : ', the server did not prove that it knows the secret'}`);
  }

  // Out

  const terminalId = (to: string): string =>
    !settings.stripCountryCode ? to : to.length === 13 && to.startsWith('86') ? to.slice(2) : `00${to}`;

  function encodeSubmit(sequenceId: number, message: OutboundMessage, { parts, encoding }: CutText, index: number): Buffer {
    const part = parts[index]!;
    const isLong = parts.length > 1;
    const concat = { reference: message.reference, total: parts.length, number: index + 1 };
    return cmpp[version].submit.encode(sequenceId, {
      // Written out, not spread from a constant: spreading an object of this size costs more than encoding it.
      msgId: noMsgId,
      pkTotal: parts.length,
      pkNumber: index + 1,
      registeredDelivery: 1,
      msgLevel: settings.msgLevel,
      serviceId: settings.serviceId,
      feeUserType: settings.feeUserType,
      feeTerminalId: '',
      tpPid: 0,
      tpUdhi: isLong ? 1 : 0,
      msgFmt: encoding === 'ucs2' ? 8 : 0,
      msgSrc: settings.spId,
      feeType: settings.feeType,
      feeCode: settings.feeCode,
      validTime: '',
      atTime: '',
      srcId: message.from,
      destTerminalId: [terminalId(message.to)],
      msgContent: isLong ? Buffer.concat([concatHeader(settings.longReferenceBits, concat), part]) : part,
    });
  }

  // In

  function receive(buffer: Buffer, start: number, end: number): void {
    const id = commandOf(buffer, start);
    if (session.state === 'connecting') {
      if (id === command.connectResp) onConnectResp(buffer, start, end);
      return;
    }
    switch (id) {
      case command.submitResp: {
        // Read first: if it cannot be, the request stays unanswered and ends with the connection.
        const { msgId, result } = decodeSubmitResp(buffer, start, end);
        answered(sequenceOf(buffer, start), outcomeOf(msgId, result));
        break;
      }
      case command.deliver:
        onDeliver(buffer, start, end);
        break;
      case command.activeTest:
        session.write(cmpp[version].activeTestResp.encode(sequenceOf(buffer, start), { reserved: '' }));
        break;
      case command.terminate:
        session.write(cmpp[version].terminateResp.encode(sequenceOf(buffer, start), {}));
        session.left('the carrier asked to leave');
        break;
      case command.terminateResp:
        session.left('left');
        break;
      default:
        // Answers to keep-alives have done their work by arriving; unknown commands are ignored (cmpp.md §3).
        break;
    }
  }

  function answer(sequenceId: number, msgId: string, result: number): void {
    session.write(cmpp[version].deliverResp.encode(sequenceId, { msgId, result }));
  }

  function onDeliver(buffer: Buffer, start: number, end: number): void {
    const sequenceId = sequenceOf(buffer, start);
    let deliver: Deliver;
    try {
      deliver = decodeDeliver(version, buffer, start, end);
      if (deliver.registeredDelivery === 1) {
        onReport(sequenceId, deliver);
        return;
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      const msgId = end - start >= 20 ? buffer.toString('hex', start + 12, start + 20) : noMsgId;
      answer(sequenceId, msgId, deliverResult.structure);
      return;
    }
    const { concat, body } = hasHeader(deliver.tpUdhi) ? splitHeader(deliver.msgContent) : { concat: null, body: deliver.msgContent };
    events.onInbound(
      {
        carrierId: deliver.msgId,
        from: deliver.srcTerminalId,
        to: deliver.destId,
        concat,
        encoding: encodingOf(deliver.msgFmt),
        octets: Buffer.from(body),
      },
      session.delivered(sequenceId, deliver.msgId),
    );
  }

  function onReport(sequenceId: number, deliver: Deliver): void {
    const report = decodeReport(deliver.msgContent);
    if (!isFinal(report.stat)) {
      answer(sequenceId, deliver.msgId, deliverResult.ok);
      return;
    }
    events.onReport(
      {
        carrierId: report.msgId,
        status: report.stat,
        delivered: report.stat === 'DELIVRD',
        phone: report.destTerminalId || deliver.srcTerminalId,
      },
      session.delivered(sequenceId, deliver.msgId),
    );
  }

  // Settings that fit no field are found here, not at the first login or message.
  login(0);
  encodeSubmit(0, { to: '', from: '', content: '', reference: 0 }, cutText('', settings.longReferenceBits), 0);

  return connection;
}
