/**
 * What a multimedia centre (MMSC) posts to us: delivery reports, read replies, and messages from phones.
 *
 * The door answers one request at a time and owns no socket; the HTTP listener passes it a request whose body is complete and bounded. The
 * door checks the address and the password, reads the request, passes it on, and answers once the owner says that it is safe: 1000, or 4006
 * so that the MMSC sends it again. The answer uses the request's release. A request that cannot be understood gets a SOAP fault, an
 * operation that we do not offer gets an error response. Both cost no more than reading the request.
 *
 * Reports are matched by MessageID and number. Some MMSCs exchange Recipient and Sender (mm7.md §8), so the number is taken from the one
 * that is a person's, Recipient first.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { BlockList, isIP, isIPv6 } from 'node:net';
import { readBasic } from '../../protocols/mm7/digest.ts';
import { ProtocolError } from '../../protocols/wire/fields.ts';
import {
  type Address,
  digitsOf,
  type Envelope,
  type Fields,
  isPhone,
  meaningOf,
  meaningOfReport,
  type MessageName,
  mm7Namespace,
  readRequest,
  writeEnvelope,
  xmlType,
} from '../../protocols/mm7/mm7.ts';
import type { Part } from '../../protocols/mm7/multipart.ts';
import { readPresentation, wordsOf } from '../../protocols/mm7/smil.ts';
import { encodeText } from '../../protocols/text.ts';
import type { CarrierAnswer, CarrierEvents, CarrierInbound, OpenDoor } from '../channel.ts';
import { type Mm7ChannelSettings, mm7Settings } from './settings.ts';

/** Allowed addresses, a callback user, or both must be set. */
export interface Mm7ReceiverSettings extends Pick<Mm7ChannelSettings, 'allowedAddresses' | 'callbackUsername' | 'version' | 'namespace'> {
  /** The callback user's. */
  readonly password?: string;
  /** Our service number, with which all our numbers begin; it tells our number from a phone in reports. */
  readonly accessNumber?: string;
  /** Requests passed on and not yet acknowledged; above this number, new ones are asked to come again. */
  readonly maxUnacknowledged?: number;
}

/** A request's limit: a person's reply may contain a picture; a report is a page of XML. */
export const maxOctets = 4 << 20;

const { version, namespace } = mm7Settings.properties;
const defaults = { version: version.default, namespace: namespace.default, accessNumber: '', maxUnacknowledged: 5000 };
const maxIdLength = 200;
const maxStatusLength = 40;
/** A longer number is not a number, and too long for an index. */
const maxNumberLength = 64;
/** A longer reply is cut; a short message could not be so long either. */
const maxWords = 10_000;

type ResponseName = Extract<MessageName, `${string}Rsp`>;

/** Throws RangeError if the settings would let anybody post, or if an allowed address is not an address. */
export function createMm7Receiver(given: Mm7ReceiverSettings, events: CarrierEvents): OpenDoor {
  const settings = { ...defaults, ...given };
  if (settings.allowedAddresses === undefined && settings.callbackUsername === undefined)
    throw new RangeError('an MM7 receiver needs allowed addresses, or a user, or both');
  const allowed = settings.allowedAddresses ? rangesOf(settings.allowedAddresses) : null;
  const credentials = settings.callbackUsername === undefined ? null : digest(`${settings.callbackUsername}:${settings.password ?? ''}`);
  let unacknowledged = 0;

  function isLetIn(authorization: string | undefined): boolean {
    if (!credentials) return true;
    const said = readBasic(authorization);
    return said !== null && timingSafeEqual(digest(`${said.username}:${said.password}`), credentials);
  }

  // Answers

  /** In the request's release. */
  function respond(envelope: Envelope | null, name: ResponseName, statusCode: number, details: string | null = null): CarrierAnswer {
    const fields = {
      mm7Version: versionOf(envelope) ?? settings.version,
      status: { statusCode, statusText: meaningOf(statusCode), details },
    };
    const transactionId = envelope?.transactionId ?? null;
    return xml(200, writeEnvelope({ transactionId, namespace: namespaceOf(envelope), message: { name, fields } }));
  }

  const namespaceOf = (envelope: Envelope | null): string => envelope?.namespace || mm7Namespace(settings.namespace);

  function fault(reason: string): CarrierAnswer {
    const status = { statusCode: 4004, statusText: meaningOf(4004), details: reason.slice(0, 200) };
    const error = { name: 'VASPErrorRsp', fields: { mm7Version: settings.version, status } } as const;
    const message = { name: 'Fault', faultCode: 'env:Client', faultString: 'Client error', error } as const;
    // Not SOAP's usual 500, so that the HTTP status alone shows whose fault it is.
    return xml(400, writeEnvelope({ transactionId: null, namespace: namespaceOf(null), message }));
  }

  // Requests

  async function dispatch(envelope: Envelope, content: Part | null): Promise<CarrierAnswer> {
    const { message } = envelope;
    switch (message.name) {
      case 'DeliveryReportReq':
        return onReport(envelope, message.fields);
      case 'ReadReplyReq':
        return onReadReply(envelope, message.fields);
      case 'DeliverReq':
        return onDeliver(envelope, message.fields, content);
      default:
        return respond(envelope, 'VASPErrorRsp', 4003);
    }
  }

  /** Passes an event on and waits for its acknowledgement. */
  async function pass(give: (acknowledge: (safe: boolean) => void) => void): Promise<boolean> {
    unacknowledged += 1;
    try {
      return await new Promise<boolean>((resolve) => give(resolve));
    } finally {
      unacknowledged -= 1;
    }
  }

  /** The addresses that may be the person's: Recipient, unless it is evidently ours and Sender is not. */
  function phonesOf({ recipient, sender }: Pick<Fields<'DeliveryReportReq'>, 'recipient' | 'sender'>): readonly Address[] {
    const isPerson = (address: Address) => isPhone(address) && !isOurs(address);
    for (const field of [recipient, sender]) {
      const persons = (field ?? []).filter(isPerson);
      if (persons.length > 0) return persons;
    }
    const other = (recipient ?? []).filter((address) => !isOurs(address) && address.kind !== 'ShortCode');
    return other.length > 0 ? other : (recipient ?? sender ?? []);
  }

  const isOurs = ({ value }: Address): boolean => settings.accessNumber !== '' && digitsOf(value).startsWith(settings.accessNumber);

  async function onReport(envelope: Envelope, fields: Fields<'DeliveryReportReq'>): Promise<CarrierAnswer> {
    const answer = (statusCode: number, details: string | null = null) => respond(envelope, 'DeliveryReportRsp', statusCode, details);
    const messageId = fields.messageId ?? '';
    const phones = phonesOf(fields);
    if (messageId === '' || messageId.length > maxIdLength) return answer(4004, "Field 'MessageID' must be filled");
    if (phones.length === 0 || phones.some(({ value }) => value.length > maxNumberLength))
      return answer(4004, "Field 'Recipient' must be filled");
    if (fields.mmStatus === null) return answer(4004, "Field 'MMStatus' must be filled");
    const meaning = meaningOfReport(fields);
    if (!meaning.isFinal) return answer(1000);
    const safe = await Promise.all(
      phones.map(({ value }) => {
        const report = {
          carrierId: carrierIdOf(messageId, value),
          status: meaning.code,
          delivered: meaning.delivered,
          phone: value,
        };
        return pass((acknowledge) => events.onReport(report, acknowledge));
      }),
    );
    return answer(safe.every(Boolean) ? 1000 : 4006);
  }

  async function onReadReply(envelope: Envelope, fields: Fields<'ReadReplyReq'>): Promise<CarrierAnswer> {
    const messageId = fields.messageId ?? '';
    const [phone] = phonesOf(fields);
    if (messageId === '' || messageId.length > maxIdLength || !phone || phone.value.length > maxNumberLength)
      return respond(envelope, 'ReadReplyRsp', 4004);
    const reply = {
      carrierId: carrierIdOf(messageId, phone.value),
      phone: phone.value,
      status: (fields.mmStatus ?? '').slice(0, maxStatusLength),
    };
    const safe = await pass((acknowledge) => events.onReadReply(reply, acknowledge));
    return respond(envelope, 'ReadReplyRsp', safe ? 1000 : 4006);
  }

  async function onDeliver(envelope: Envelope, fields: Fields<'DeliverReq'>, content: Part | null): Promise<CarrierAnswer> {
    const from = digitsIn(fields.sender?.[0]);
    const to = digitsIn(fields.recipients?.to?.[0] ?? fields.recipients?.cc?.[0]) || (fields.vasId ?? '').slice(0, maxNumberLength);
    if (from === '') return respond(envelope, 'DeliverRsp', 4004, "Field 'Sender' must be filled");
    const subject = fields.subject ?? '';
    const words = content ? wordsOf(readPresentation(content)) : '';
    // Phones repeat a short text as its subject.
    const text = (subject === '' || subject === words ? words : words === '' ? subject : `${subject}\n${words}`).slice(0, maxWords);
    // A redelivery is the same request again. Its id alone does not prove that, since some MMSCs use one id for several requests (mm7.md
    // §8).
    const identity = [envelope.transactionId ?? '', from, to, fields.timeStamp ?? '', fields.linkedId ?? '', text];
    const carrierId = digest(JSON.stringify(identity)).toString('hex').slice(0, 32);
    const inbound: CarrierInbound = { carrierId, from, to, concat: null, encoding: 'ucs2', octets: encodeText(text, 'ucs2') };
    const safe = await pass((acknowledge) => events.onInbound(inbound, acknowledge));
    return respond(envelope, 'DeliverRsp', safe ? 1000 : 4006);
  }

  return {
    async receive({ contentType, authorization, remoteAddress, body }) {
      if (allowed && !isAllowed(allowed, remoteAddress)) return plain(403);
      if (!isLetIn(authorization)) return { ...plain(401), headers: { 'www-authenticate': 'Basic realm="MM7"' } };
      if (body.length > maxOctets) return plain(413);
      if (unacknowledged >= settings.maxUnacknowledged) return { ...plain(503), headers: { 'retry-after': '1' } };
      try {
        const { envelope, content } = readRequest(contentType, body);
        return await dispatch(envelope, content);
      } catch (error) {
        if (error instanceof ProtocolError) return fault(error.message);
        throw error;
      }
    },
  };
}

/** One MessageID stands for all recipients of a submit; `connection.ts` makes the same id. */
const carrierIdOf = (messageId: string, phone: string): string => `${messageId}/${digitsOf(phone)}`;

/** As the carrier wrote it, digits only. */
const digitsIn = (address: Address | undefined): string =>
  (address?.value ?? '').split(/[/@]/, 1)[0]?.replace(/\D/g, '').slice(0, 32) ?? '';

function versionOf(envelope: Envelope | null): string | null {
  if (!envelope || envelope.message.name === 'Fault') return null;
  return envelope.message.name === 'unknown' ? envelope.message.mm7Version : envelope.message.fields.mm7Version;
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

const xml = (status: number, body: string): CarrierAnswer => ({ status, contentType: xmlType, body, headers: {} });
const plain = (status: number): CarrierAnswer => ({ status, contentType: 'text/plain; charset=utf-8', body: '', headers: {} });

function rangesOf(addresses: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of addresses) {
    const [address = '', prefix] = range.split('/');
    const version = isIP(address);
    if (version === 0) throw new RangeError(`"${range}" is no address`);
    const family = version === 6 ? 'ipv6' : 'ipv4';
    if (prefix === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(prefix), family);
  }
  return list;
}

function isAllowed(list: BlockList, remoteAddress: string): boolean {
  const address = remoteAddress.replace(/^::ffff:(?=\d+\.)/i, '');
  return isIP(address) !== 0 && list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}
