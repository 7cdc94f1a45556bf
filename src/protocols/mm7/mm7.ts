/**
 * MM7 (3GPP TS 23.140), SOAP 1.1 with attachments: converts envelopes, and the requests that carry them, between octets and objects.
 *
 * One table per message, in the specification's order and with its names; reader, writer and type follow from it. The reader does not
 * depend on order, prefixes or a namespace, and accepts every form of an address (mm7.md §8). A field that a message lacks is null. Section
 * numbers are those of docs/protocols/mm7.md.
 */
import { ProtocolError } from '../wire/fields.ts';
import { bare, octetsOf, type Part, type PartToWrite, parseContentType, readMultipart, rootOf, writeMultipart } from './multipart.ts';
import { childOf, escapeXml, parseXml, type XmlElement } from './xml.ts';

// Elements and tables

/** How one kind of element is written under a name (prefix included) and read. */
interface Kind<T> {
  write(name: string, value: T, prefix: string): string;
  read(element: XmlElement): T;
}

const text: Kind<string> = {
  write: (name, value) => `<${name}>${escapeXml(value)}</${name}>`,
  read: (element) => element.text,
};

const flag: Kind<boolean> = {
  write: (name, value) => `<${name}>${value}</${name}>`,
  read: (element) => /^(true|1)$/i.test(element.text),
};

/** A value that is not a four-digit code counts as a server error, as codes outside the four classes do (mm7.md §5). */
const code: Kind<number> = {
  write: (name, value) => `<${name}>${value}</${name}>`,
  read: (element) => (/^[1-4]\d{3}$/.test(element.text) ? Number(element.text) : 3000),
};

/** An address. `text` is one that stands in its element without a child, as China Mobile's API writes senders. */
export interface Address {
  readonly kind: 'Number' | 'ShortCode' | 'RFC2822Address' | 'text';
  readonly value: string;
}

const addresses: Kind<readonly Address[]> = {
  write(name, value, prefix) {
    const inner = value.map(({ kind, value }) => (kind === 'text' ? escapeXml(value) : text.write(prefix + kind, value, prefix)));
    return `<${name}>${inner.join('')}</${name}>`;
  },
  read(element) {
    const found: Address[] = [];
    for (const { name, text } of element.children)
      if ((name === 'Number' || name === 'ShortCode' || name === 'RFC2822Address') && text !== '') found.push({ kind: name, value: text });
    if (found.length === 0 && element.text !== '') found.push({ kind: 'text', value: element.text });
    return found;
  },
};

/** Where the content is: `cid:` and the Content-ID of its part, percent-encoded. */
interface ContentReference {
  readonly href: string;
  readonly allowAdaptations: boolean;
}

const content: Kind<ContentReference> = {
  write: (name, { href, allowAdaptations }) => `<${name} href="${escapeXml(href)}" allowAdaptations="${allowAdaptations}"/>`,
  read: ({ attributes }) => ({
    href: attributes.get('href') ?? '',
    allowAdaptations: /^(true|1)$/i.test(attributes.get('allowAdaptations') ?? ''),
  }),
};

type Field = readonly [element: string, kind: Kind<unknown>];
type Table = Readonly<Record<string, Field>>;
type Values<F extends Table> = { readonly [K in keyof F]: F[K] extends readonly [string, Kind<infer T>] ? T | null : never };

/** Writes elements in a row; fields that the value lacks are not written. */
function writeTable(table: Table, values: Readonly<Record<string, unknown>>, prefix: string): string {
  let out = '';
  for (const key in table) {
    const [name, kind] = table[key]!;
    const value = values[key] ?? null;
    if (value !== null) out += `${kind.write(prefix + name, value, prefix)}\r\n`;
  }
  return out;
}

/** The first element with each name counts; some senders repeat them (mm7.md §8). */
function readTable<const F extends Table>(table: F, element: XmlElement): Values<F> {
  const values: Record<string, unknown> = {};
  for (const key in table) {
    const [name, kind] = table[key]!;
    const child = childOf(element, name);
    values[key] = child ? kind.read(child) : null;
  }
  return values as Values<F>;
}

/** Elements inside an element, each on its own line or all on one. */
function group<const F extends Table>(table: F, lines: 'many' | 'one' = 'many'): Kind<Values<F>> {
  return {
    write(name, values, prefix) {
      const inner = writeTable(table, values, prefix);
      return lines === 'many' ? `<${name}>\r\n${inner}</${name}>` : `<${name}>${inner.replaceAll('\r\n', '')}</${name}>`;
    },
    read: (element) => readTable(table, element),
  };
}

const version = { mm7Version: ['MM7Version', text] } as const;
const statusGroup = group({ statusCode: ['StatusCode', code], statusText: ['StatusText', text], details: ['Details', text] });
const recipients = { to: ['To', addresses], cc: ['Cc', addresses], bcc: ['Bcc', addresses] } as const;

const statusOnly = { ...version, status: ['Status', statusGroup] } as const;

/** The fields that reports and read replies share. `date` is 3GPP's name, `timeStamp` that of the Chinese texts. */
const reportFields = {
  ...version,
  mmsRelayServerId: ['MMSRelayServerID', text],
  messageId: ['MessageID', text],
  recipient: ['Recipient', addresses],
  sender: ['Sender', addresses],
  date: ['Date', text],
  timeStamp: ['TimeStamp', text],
  mmStatus: ['MMStatus', text],
  mmStatusExtension: ['MMStatusExtension', text],
  statusText: ['StatusText', text],
} as const;

const tables = {
  SubmitReq: {
    ...version,
    senderIdentification: [
      'SenderIdentification',
      group({ vaspId: ['VASPID', text], vasId: ['VASID', text], senderAddress: ['SenderAddress', addresses] }),
    ],
    recipients: ['Recipients', group(recipients)],
    serviceCode: ['ServiceCode', text],
    linkedId: ['LinkedID', text],
    messageClass: ['MessageClass', text],
    timeStamp: ['TimeStamp', text],
    earliestDeliveryTime: ['EarliestDeliveryTime', text],
    expiryDate: ['ExpiryDate', text],
    deliveryReport: ['DeliveryReport', flag],
    readReply: ['ReadReply', flag],
    priority: ['Priority', text],
    subject: ['Subject', text],
    chargedParty: ['ChargedParty', text],
    chargedPartyId: ['ChargedPartyID', text],
    distributionIndicator: ['DistributionIndicator', flag],
    content: ['Content', content],
  },
  SubmitRsp: { ...statusOnly, messageId: ['MessageID', text] },
  DeliverReq: {
    ...version,
    mmsRelayServerId: ['MMSRelayServerID', text],
    vaspId: ['VASPID', text],
    vasId: ['VASID', text],
    linkedId: ['LinkedID', text],
    sender: ['Sender', addresses],
    recipients: ['Recipients', group(recipients, 'one')],
    timeStamp: ['TimeStamp', text],
    priority: ['Priority', text],
    subject: ['Subject', text],
    content: ['Content', content],
  },
  DeliverRsp: { ...statusOnly, serviceCode: ['ServiceCode', text] },
  DeliveryReportReq: reportFields,
  DeliveryReportRsp: statusOnly,
  ReadReplyReq: reportFields,
  ReadReplyRsp: statusOnly,
  RSErrorRsp: statusOnly,
  VASPErrorRsp: statusOnly,
} as const satisfies Readonly<Record<string, Table>>;

type Tables = typeof tables;
export type MessageName = keyof Tables;

/** The fields of a message, null where it lacks them. */
export type Fields<N extends MessageName> = Values<Tables[N]>;
export type Status = ReturnType<(typeof statusGroup)['read']>;

type Known = { [N in MessageName]: { readonly name: N; readonly fields: Fields<N> } }[MessageName];
/** A message to write: fields may be left out. */
type Writable = { [N in MessageName]: { readonly name: N; readonly fields: Partial<Fields<N>> } }[MessageName];

/** A SOAP fault. `status` is that of the error response in its detail, if it has one. */
interface Fault {
  readonly name: 'Fault';
  readonly faultCode: string;
  readonly faultString: string;
  readonly status: Status | null;
}

/** A message without a table here: CancelReq, for instance. */
interface Unknown {
  readonly name: 'unknown';
  readonly element: string;
  readonly mm7Version: string | null;
}

// Envelopes

/** Without prefixes, MM7 is the message's default namespace; with them, every element has one, as mbuni writes. */
export type PrefixStyle = 'default' | 'prefixed';

export interface Envelope {
  /** null if it is missing. */
  readonly transactionId: string | null;
  /** The whole URI, as the message declares it. */
  readonly namespace: string;
  readonly message: Known | Fault | Unknown;
}

const soapNamespace = 'http://schemas.xmlsoap.org/soap/envelope/';
const namespaceBase = 'http://www.3gpp.org/ftp/Specs/archive/23_series/23.140/schema/';

/** The namespace of a release, by its last part (`REL-6-MM7-1-4`); a whole URI is returned unchanged. */
export const mm7Namespace = (release: string): string => (release.includes(':') ? release : namespaceBase + release);

export interface EnvelopeToWrite {
  readonly transactionId: string | null;
  readonly namespace: string;
  readonly prefixes?: PrefixStyle;
  readonly message:
    | Writable
    | { readonly name: 'Fault'; readonly faultCode: string; readonly faultString: string; readonly error: Writable | null };
}

/** Lines end with CRLF, except the last. */
export function writeEnvelope({ transactionId, namespace, prefixes = 'default', message }: EnvelopeToWrite): string {
  const uri = escapeXml(namespace);
  const header =
    transactionId === null
      ? ''
      : `<mm7:TransactionID xmlns:mm7="${uri}" env:mustUnderstand="1">${escapeXml(transactionId)}</mm7:TransactionID>\r\n`;
  let body: string;
  if (message.name === 'Fault') {
    const detail = message.error ? `<detail>\r\n${writeMessage(message.error, uri, 'prefixed')}</detail>\r\n` : '';
    body =
      `<env:Fault>\r\n<faultcode>${escapeXml(message.faultCode)}</faultcode>\r\n` +
      `<faultstring>${escapeXml(message.faultString)}</faultstring>\r\n${detail}</env:Fault>\r\n`;
  } else body = writeMessage(message, uri, prefixes);
  return (
    '<?xml version="1.0" encoding="UTF-8"?>\r\n' +
    `<env:Envelope xmlns:env="${soapNamespace}">\r\n<env:Header>\r\n${header}</env:Header>\r\n<env:Body>\r\n${body}</env:Body>\r\n</env:Envelope>`
  );
}

function writeMessage({ name, fields }: Writable, uri: string, prefixes: PrefixStyle): string {
  const prefix = prefixes === 'prefixed' ? 'mm7:' : '';
  const declaration = prefix === '' ? 'xmlns' : 'xmlns:mm7';
  return `<${prefix}${name} ${declaration}="${uri}">\r\n${writeTable(tables[name], fields, prefix)}</${prefix}${name}>\r\n`;
}

/** Reads an envelope. Throws ProtocolError if it is not XML or not SOAP. The caller checks which fields are present. */
export function readEnvelope(source: Buffer | string): Envelope {
  const root = parseXml(source);
  const body = root.name === 'Envelope' ? childOf(root, 'Body') : undefined;
  if (!body) throw new ProtocolError('XML that is no SOAP envelope');
  const [element] = body.children;
  if (!element) throw new ProtocolError('SOAP with an empty body');
  const header = childOf(root, 'Header');
  const transactionId = (header && childOf(header, 'TransactionID')?.text) || null;
  if (element.name === 'Fault') return { transactionId, namespace: '', message: readFault(element) };
  return { transactionId, namespace: element.namespace, message: readMessage(element) };
}

function readMessage(element: XmlElement): Known | Unknown {
  const { name } = element;
  if (!isMessageName(name)) return { name: 'unknown', element: name, mm7Version: childOf(element, 'MM7Version')?.text ?? null };
  // Name and fields belong to the same table.
  return { name, fields: readTable(tables[name], element) } as Known;
}

const isMessageName = (name: string): name is MessageName => Object.hasOwn(tables, name);

function readFault(element: XmlElement): Fault {
  const detail = childOf(element, 'detail');
  const status = detail?.children.map((error) => childOf(error, 'Status')).find((found) => found !== undefined);
  return {
    name: 'Fault',
    faultCode: childOf(element, 'faultcode')?.text ?? '',
    faultString: childOf(element, 'faultstring')?.text ?? '',
    status: status ? statusGroup.read(status) : null,
  };
}

// Requests

/** The type of every request without an attachment, and of every response. */
export const xmlType = 'text/xml; charset="utf-8"';

export interface Encoded {
  readonly contentType: string;
  /** To be written one after the other; media are references, not copies. */
  readonly chunks: readonly Buffer[];
  readonly octets: number;
}

/** An envelope with a content part beside it (mm7.md §2). The content's Content-ID is what the envelope's `Content` names. */
export function writeRequest(
  envelope: string,
  part: PartToWrite,
  { rootId, boundary, rootHeaders = [] }: { readonly rootId: string; readonly boundary: string; readonly rootHeaders?: readonly string[] },
): Encoded {
  const root = { headers: [`Content-Type: ${xmlType}`, `Content-ID: <${rootId}>`, ...rootHeaders], body: envelope };
  const chunks = writeMultipart(boundary, [root, part]);
  const contentType = `multipart/related; boundary="${boundary}"; type="text/xml"; start="<${rootId}>"`;
  return { contentType, chunks, octets: octetsOf(chunks) };
}

export interface Mm7Request {
  readonly envelope: Envelope;
  /** null if nothing is attached. */
  readonly content: Part | null;
}

/** Reads a request or a response, with or without attachments. Throws ProtocolError. */
export function readRequest(contentType: string, body: Buffer): Mm7Request {
  const type = parseContentType(contentType);
  if (!type.type.startsWith('multipart/')) return { envelope: readEnvelope(body), content: null };
  const parts = readMultipart(body, type);
  const root = rootOf(parts, type);
  if (!root) throw new ProtocolError('multipart without a root');
  const envelope = readEnvelope(root.body);
  const others = parts.filter((part) => part !== root);
  const { message } = envelope;
  const href = message.name === 'SubmitReq' || message.name === 'DeliverReq' ? (message.fields.content?.href ?? '') : '';
  const wanted = bare(percentDecoded(href));
  // Without a reference (China Mobile's API writes none), the second part is the content.
  const content = wanted === '' ? others[0] : others.find(({ contentId }) => contentId === wanted || contentId === bare(href));
  if (wanted !== '' && !content) throw new ProtocolError('Content that names no part');
  return { envelope, content: content ?? null };
}

function percentDecoded(reference: string): string {
  try {
    return decodeURIComponent(reference);
  } catch {
    return reference;
  }
}

// Status codes

const meanings: Readonly<Record<number, string>> = {
  1000: 'Success',
  1100: 'Partial success',
  2000: 'Client error',
  2001: 'Operation restricted',
  2002: 'Address error',
  2003: 'Address not found',
  2004: 'Multimedia content refused',
  2005: 'Message ID not found',
  2006: 'Linked ID not found',
  2007: 'Message format corrupt',
  3000: 'Server error',
  3001: 'Not possible',
  3002: 'Message rejected',
  3003: 'Multiple addresses not supported',
  3501: 'Too many recipient addresses',
  4000: 'General service error',
  4001: 'Improper identification',
  4002: 'Unsupported version',
  4003: 'Unsupported operation',
  4004: 'Validation error',
  4005: 'Service error',
  4006: 'Service unavailable',
  4007: 'Service denied',
};

/** The usual text of a code; else that of its class. */
export const meaningOf = (statusCode: number): string => meanings[statusCode] ?? meanings[classOf(statusCode)] ?? '';

/** 1000, 2000, 3000 or 4000: the class that an unknown code counts as. */
const classOf = (statusCode: number): number => {
  const leading = Math.floor(statusCode / 1000) * 1000;
  return leading >= 1000 && leading <= 4000 ? leading : 3000;
};

/**
 * What a SubmitRsp's status means for the request (mm7.md §5).
 * - `taken`: the MMSC has the message, at least for some of its recipients.
 * - `busy`: not taken; repeat it later.
 * - `address`: not taken because of at least one recipient; the status does not say which one.
 * - `single`, `fewer`: not taken because it had several, or too many, recipients.
 * - `rejected`: not taken; a repeat would not be taken either.
 */
export type StatusKind = 'taken' | 'busy' | 'address' | 'single' | 'fewer' | 'rejected';

export function statusKindOf({ statusCode, statusText }: Pick<Status, 'statusCode' | 'statusText'>): StatusKind {
  const given = statusCode ?? 3000;
  const known = given in meanings ? given : classOf(given);
  switch (known) {
    case 1000:
    case 1100:
      return 'taken';
    case 2001:
      // Unicom's phrase for "too fast".
      return /flow refuse/i.test(statusText ?? '') ? 'busy' : 'rejected';
    case 2002:
    case 2003:
      return 'address';
    case 3003:
      return 'single';
    case 3501:
      return 'fewer';
    case 3000:
    case 4000:
    case 4006:
      return 'busy';
    default:
      return 'rejected';
  }
}

/** The status in a fault's detail; else one that says whether client or server is at fault. */
export function statusOfFault({ status, faultCode, faultString }: Fault): Pick<Status, 'statusCode' | 'statusText'> {
  if (status && status.statusCode !== null) return status;
  return { statusCode: /(^|:)client/i.test(faultCode) ? 2000 : 3000, statusText: faultString };
}

// Delivery reports

/** What an MMStatus means. `code` is the status that customers know from short messages. */
export interface ReportMeaning {
  readonly isFinal: boolean;
  readonly delivered: boolean;
  readonly code: string;
}

const delivered: ReportMeaning = { isFinal: true, delivered: true, code: 'DELIVRD' };
const pending: ReportMeaning = { isFinal: false, delivered: false, code: '' };
const failed = (code: string): ReportMeaning => ({ isFinal: true, delivered: false, code });

/** Keys without case, blanks and punctuation; the digits are those of China Mobile's API (mm7.md §4). */
const reportMeanings = new Map<string, ReportMeaning>([
  ['retrieved', delivered],
  ['1', delivered],
  ['expired', failed('EXPIRED')],
  ['0', failed('EXPIRED')],
  ['rejected', failed('REJECTD')],
  ['systemrejected', failed('REJECTD')],
  ['2', failed('REJECTD')],
  ['recipientrejected', failed('REJECTD')],
  ['3', failed('REJECTD')],
  ['indeterminate', failed('UNKNOWN')],
  ['4', failed('UNKNOWN')],
  ['unrecognised', failed('UNDELIV')],
  ['unrecognized', failed('UNDELIV')],
  ['unreachable', failed('UNDELIV')],
  ['notsupported', failed('UNDELIV')],
  ['forwarded', pending],
  ['5', pending],
  ['deferred', pending],
]);

const squeezed = (word: string | null): string => (word ?? '').toLowerCase().replace(/[\s_-]/g, '');

/** A vendor's own code, short enough to be one: `MK:0001`. */
const vendorCode = /^[A-Za-z]{1,4}:[A-Za-z0-9]{1,10}$/;

/**
 * What a report means. An unknown status is looked up in StatusText ("Reserved" with "Retrieved" beside it, seen with Unicom). If that is
 * unknown too, the message has failed without a known reason. A vendor's code beside a failure replaces our code.
 */
export function meaningOfReport({ mmStatus, mmStatusExtension, statusText }: Partial<Fields<'DeliveryReportReq'>>): ReportMeaning {
  const meaning = reportMeanings.get(squeezed(mmStatus ?? null)) ?? reportMeanings.get(squeezed(statusText ?? null)) ?? failed('UNKNOWN');
  if (!meaning.isFinal || meaning.delivered) return meaning;
  const vendors = [mmStatusExtension, statusText, mmStatus].find((word) => vendorCode.test(word ?? ''));
  return vendors ? failed(vendors) : meaning;
}

// Numbers

/**
 * Digits of an address in international form, as far as it can be told: `+86…`, `86…`, `0086…` and eleven digits of a Chinese mobile are
 * one number. Service numbers stay as they are; `/TYPE=PLMN` and similar suffixes are cut off.
 */
export function digitsOf(address: string): string {
  const [plain = ''] = address.split(/[/@]/, 1);
  const isInternational = /^\s*\+/.test(plain);
  const digits = plain.replace(/\D/g, '');
  if (isInternational) return digits;
  if (digits.startsWith('00')) return digits.slice(2);
  return /^1[3-9]\d{9}$/.test(digits) ? `86${digits}` : digits;
}

/** Whether an address is a person's rather than a service's. */
export function isPhone({ kind, value }: Address): boolean {
  if (kind === 'ShortCode') return false;
  const digits = digitsOf(value);
  if (digits.startsWith('86')) return /^861[3-9]\d{9}$/.test(digits);
  return /^\s*(\+|00)/.test(value) && digits.length >= 8;
}
