/**
 * MIME multipart bodies as MM7 uses them. `multipart/related` is written without copying large parts; a body in memory is read into parts
 * that are views of it.
 *
 * The reader accepts what implementations really send (mm7.md §2, §8): boundaries quoted or not, also boundaries that begin with dashes; a
 * preamble; headers without a blank after the colon, or folded; lines that end with a bare line feed; base64 and quoted-printable. A body
 * without its closing delimiter was cut off and is refused. All memory use is bounded. busboy's Dicer is not used, because a body in memory
 * needs no streams: this reader takes one pass with `indexOf`, copies nothing, and returns at once. The tests compare it with Dicer.
 */
import { ProtocolError } from '../wire/fields.ts';

// Content types

export interface ContentType {
  /** `text/xml`, lower case; '' if the header has no type. */
  readonly type: string;
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

const parameter = /;\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))/g;
const maxHeaderValue = 2048;

/** Reads a Content-Type or a Content-Disposition, with parameters in any order and blanks between them. */
export function parseContentType(header: string): ContentType {
  const text = header.slice(0, maxHeaderValue);
  const parameters = new Map<string, string>();
  for (const [, name = '', quoted, plain = ''] of text.matchAll(parameter)) {
    const key = name.toLowerCase();
    if (!parameters.has(key)) parameters.set(key, quoted?.replace(/\\(.)/g, '$1') ?? plain.trim());
  }
  return { type: (text.split(';', 1)[0] ?? '').trim().toLowerCase(), parameters };
}

// Reading

export interface Part {
  readonly contentType: ContentType;
  /** Without angle brackets; '' if there is none. */
  readonly contentId: string;
  readonly contentLocation: string;
  /** The file name, of Content-Type or Content-Disposition. */
  readonly name: string;
  /** Decoded if it was transfer-encoded, else a view of the body. */
  readonly body: Buffer;
}

const maxParts = 100;
const maxHeaderOctets = 8192;
const lineFeed = 0x0a;
const carriageReturn = 0x0d;
const dash = 0x2d;

/** The parts of a multipart body, in order. Throws ProtocolError if it has none, too many, or is not closed. */
export function readMultipart(body: Buffer, { type, parameters }: ContentType): Part[] {
  const boundary = parameters.get('boundary');
  if (!type.startsWith('multipart/')) throw new ProtocolError(`"${type}" is not a multipart`);
  // RFC 2046 allows 70 characters; real boundaries stay below that.
  if (boundary === undefined || boundary === '' || boundary.length > 200) throw new ProtocolError('multipart without a boundary');
  const delimiter = Buffer.from(`--${boundary}`, 'latin1');
  const parts: Part[] = [];
  let start = -1;
  for (let at = body.indexOf(delimiter); at >= 0; at = body.indexOf(delimiter, at + delimiter.length)) {
    // A delimiter begins a line and is alone on it, except for two dashes or blanks.
    if (at > 0 && body[at - 1] !== lineFeed) continue;
    let next = at + delimiter.length;
    const isLast = body[next] === dash && body[next + 1] === dash;
    if (isLast) next += 2;
    while (body[next] === 0x20 || body[next] === 0x09) next += 1;
    if (body[next] === carriageReturn) next += 1;
    if (body[next] !== lineFeed && !(isLast && next >= body.length)) continue;
    if (start >= 0) {
      if (parts.length === maxParts) throw new ProtocolError(`multipart with more than ${maxParts} parts`);
      // The line end before a delimiter belongs to it.
      const end = at >= 2 && body[at - 2] === carriageReturn ? at - 2 : at - 1;
      parts.push(readPart(body, start, Math.max(start, end)));
    }
    if (isLast) {
      if (parts.length === 0) throw new ProtocolError('multipart without parts');
      return parts;
    }
    start = next + 1;
  }
  throw new ProtocolError(start < 0 ? 'multipart whose boundary does not occur' : 'multipart that is cut off');
}

function readPart(body: Buffer, start: number, end: number): Part {
  const headers = new Map<string, string>();
  let last: string | null = null;
  let at = start;
  for (;;) {
    if (at >= end) break; // headers only
    if (at - start > maxHeaderOctets) throw new ProtocolError('part with too large a header');
    const feed = body.indexOf(lineFeed, at);
    const stop = feed < 0 || feed > end ? end : feed;
    const line = body.toString('utf8', at, Math.min(stop, at + maxHeaderOctets)).replace(/\r$/, '');
    at = stop + 1;
    if (line === '') break;
    if ((line.startsWith(' ') || line.startsWith('\t')) && last !== null) {
      headers.set(last, `${headers.get(last) ?? ''} ${line.trim()}`);
      continue;
    }
    const colon = line.indexOf(':');
    if (colon <= 0) throw new ProtocolError('part with a broken header');
    last = line.slice(0, colon).trim().toLowerCase();
    headers.set(last, line.slice(colon + 1).trim());
  }
  const contentType = parseContentType(headers.get('content-type') ?? 'text/plain');
  const disposition = parseContentType(headers.get('content-disposition') ?? '').parameters;
  const octets = body.subarray(Math.min(at, end), end);
  return {
    contentType,
    contentId: bare(headers.get('content-id') ?? ''),
    contentLocation: headers.get('content-location') ?? '',
    name: contentType.parameters.get('name') ?? disposition.get('filename') ?? '',
    body: decodeTransfer(octets, (headers.get('content-transfer-encoding') ?? '').toLowerCase()),
  };
}

function decodeTransfer(octets: Buffer, encoding: string): Buffer {
  if (encoding === 'base64') return Buffer.from(octets.toString('latin1'), 'base64');
  if (encoding !== 'quoted-printable') return octets;
  return Buffer.from(
    octets
      .toString('latin1')
      // Blanks before a line end were added on the way; `=` at a line end means that the line continues.
      .replace(/[ \t]{1,200}(?=\r?\n)/g, '')
      .replace(/=\r?\n/g, '')
      .replace(/=([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  );
}

/** An id in the form in which ids are compared: without angle brackets, without `cid:`. */
export function bare(id: string): string {
  return id
    .trim()
    .replace(/^cid:/i, '')
    .replace(/^<(.*)>$/, '$1');
}

/** The part that the parameter `start` names; the first part if `start` is missing or names none (mm7.md §2). */
export function rootOf(parts: readonly Part[], { parameters }: ContentType): Part | undefined {
  const start = bare(parameters.get('start') ?? '');
  return (start === '' ? undefined : parts.find(({ contentId }) => contentId === start)) ?? parts[0];
}

/** The part that a reference names: by Content-Location, then Content-ID, then file name (mm7.md §2). */
export function findPart(parts: readonly Part[], reference: string): Part | undefined {
  const wanted = bare(reference);
  if (wanted === '') return undefined;
  const find = (id: string) =>
    parts.find(({ contentLocation }) => bare(contentLocation) === id) ??
    parts.find(({ contentId }) => contentId === id) ??
    parts.find(({ name }) => name === id);
  return find(wanted) ?? (wanted.includes('%') ? find(percentDecoded(wanted)) : undefined);
}

function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// Writing

export interface PartToWrite {
  /** Whole lines without their ends: `Content-Type: image/gif`. */
  readonly headers: readonly string[];
  /** One or several pieces that follow each other. */
  readonly body: string | Buffer | readonly Buffer[];
}

/** A smaller buffer costs less to copy than to write on its own. */
const smallOctets = 8192;

/**
 * A multipart body as a list of buffers to be written one after the other: large parts are references, small ones are joined. The boundary
 * must not occur in any part; a random one does not.
 */
export function writeMultipart(boundary: string, parts: readonly PartToWrite[]): Buffer[] {
  const chunks: Buffer[] = [];
  let small: Buffer[] = [];
  const add = (piece: Buffer) => {
    if (piece.length <= smallOctets) small.push(piece);
    else {
      flush();
      chunks.push(piece);
    }
  };
  const flush = () => {
    if (small.length > 0) chunks.push(Buffer.concat(small));
    small = [];
  };
  for (const [index, { headers, body }] of parts.entries()) {
    add(Buffer.from(`${index === 0 ? '' : '\r\n'}--${boundary}\r\n${headers.map((header) => `${header}\r\n`).join('')}\r\n`));
    if (typeof body === 'string') add(Buffer.from(body));
    else if (Buffer.isBuffer(body)) add(body);
    else for (const piece of body) add(piece);
  }
  add(Buffer.from(`\r\n--${boundary}--\r\n`));
  flush();
  return chunks;
}

export const octetsOf = (chunks: readonly Buffer[]): number => chunks.reduce((sum, { length }) => sum + length, 0);
