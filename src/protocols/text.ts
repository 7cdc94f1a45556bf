/**
 * Text of short messages, the same for all carriers: its encoding, how it is cut into segments and joined again, the user data header (GSM
 * 03.40) in front of the segments, and how many segments a customer is charged.
 *
 * The numbers of segments sent and charged differ: segments on the wire never split a character and may use 7-bit, while billing in
 * mainland China divides the length by 67 for all characters.
 */
import iconv from 'iconv-lite';

export type Encoding = 'ascii' | 'ucs2' | 'gbk' | 'binary';

/** A text cut for the wire: `parts` contain only the text's octets. If there are several, each needs a `concatHeader` in front. */
export interface CutText {
  readonly encoding: 'ascii' | 'ucs2';
  readonly parts: readonly Buffer[];
}

export interface Concat {
  readonly reference: number;
  readonly total: number;
  /** From 1. */
  readonly number: number;
}

// Encodings

/** Printable ASCII and line ends. */
const asciiText = /^[\x20-\x7e\r\n]*$/;

/**
 * Encodes text. A character that the encoding lacks becomes `?`, so choose an encoding that has all. 'gbk' writes GB18030, its superset.
 */
export function encodeText(text: string, encoding: Exclude<Encoding, 'binary'>): Buffer {
  if (encoding === 'ucs2') return Buffer.from(text, 'utf16le').swap16();
  return iconv.encode(text, encoding === 'gbk' ? 'gb18030' : 'ascii');
}

/** Decodes whatever a carrier sent and never fails; binary becomes hex text. */
export function decodeText(octets: Buffer, encoding: Encoding): string {
  if (encoding === 'ascii') return octets.toString('latin1');
  if (encoding === 'gbk') return iconv.decode(octets, 'gb18030');
  if (encoding === 'binary') return octets.toString('hex');
  // Half a character at the end is dropped. The copy keeps the caller's octets as they are.
  const whole = Buffer.from(octets.subarray(0, octets.length & ~1));
  return whole.swap16().toString('utf16le');
}

// Cutting and joining

/** Octets of a short message on the air, and how many of them a 7-bit text may use by the field rules of these protocols. */
const userData = 140;
const asciiSingle = 159;

/**
 * Cuts a text: ASCII where that is enough, else UCS2, never between the halves of a surrogate pair. A text that fits one segment is not
 * cut. More than 255 parts cannot be sent; the caller checks that limit.
 */
export function cutText(text: string, referenceBits: 8 | 16): CutText {
  if (asciiText.test(text)) {
    if (text.length <= asciiSingle) return { encoding: 'ascii', parts: [Buffer.from(text, 'latin1')] };
    // Septets left beside the header, which takes whole septets.
    const size = referenceBits === 8 ? 153 : 152;
    const parts: Buffer[] = [];
    for (let at = 0; at < text.length; at += size) parts.push(Buffer.from(text.slice(at, at + size), 'latin1'));
    return { encoding: 'ascii', parts };
  }
  const octets = Buffer.from(text, 'utf16le').swap16();
  if (octets.length <= userData) return { encoding: 'ucs2', parts: [octets] };
  const size = referenceBits === 8 ? 134 : 132;
  const parts: Buffer[] = [];
  for (let at = 0; at < octets.length; ) {
    let end = Math.min(at + size, octets.length);
    if (end < octets.length && isHighSurrogate(octets, end - 2)) end -= 2;
    parts.push(octets.subarray(at, end));
    at = end;
  }
  return { encoding: 'ucs2', parts };
}

/** A code unit that starts a surrogate pair. If no second half follows it, moving it to the next part does no harm. */
const isHighSurrogate = (octets: Buffer, at: number): boolean => ((octets[at] ?? 0) & 0xfc) === 0xd8;

/** The user data header of one part of a long message. An 8-bit reference is the lower half of `reference`. */
export function concatHeader(referenceBits: 8 | 16, { reference, total, number }: Concat): Buffer {
  return referenceBits === 8
    ? Buffer.from([5, 0x00, 3, reference & 0xff, total, number])
    : Buffer.from([6, 0x08, 4, (reference >> 8) & 0xff, reference & 0xff, total, number]);
}

/**
 * Removes the user data header from content that has one, and finds the concatenation among its elements. A part "1 of 1", or one with
 * impossible numbers, is a whole message. A header longer than the content is not a header.
 */
export function splitHeader(content: Buffer): { readonly concat: Concat | null; readonly body: Buffer } {
  const end = 1 + (content[0] ?? 0);
  if (end > content.length) return { concat: null, body: content };
  let concat: Concat | null = null;
  for (let at = 1; at + 2 <= end; ) {
    const element = content[at];
    const size = content[at + 1] ?? 0;
    const value = content.subarray(at + 2, Math.min(at + 2 + size, end));
    if (element === 0x00 && value.length === 3) concat = concatOf(value, 1);
    else if (element === 0x08 && value.length === 4) concat = concatOf(value, 2);
    at += 2 + size;
  }
  return { concat, body: content.subarray(end) };
}

function concatOf(value: Buffer, referenceSize: 1 | 2): Concat | null {
  const reference = value.readUIntBE(0, referenceSize);
  const total = value.readUInt8(referenceSize);
  const number = value.readUInt8(referenceSize + 1);
  return total > 1 && number >= 1 && number <= total ? { reference, total, number } : null;
}

/**
 * Joins the parts of one message, given in order. Parts may have different encodings. Neighbours with the same encoding are joined as
 * octets before they are decoded, because some senders split characters.
 */
export function joinParts(parts: readonly { readonly encoding: Encoding; readonly octets: Buffer }[]): string {
  let text = '';
  let run: Buffer[] = [];
  for (const [index, { encoding, octets }] of parts.entries()) {
    run.push(octets);
    if (parts[index + 1]?.encoding === encoding) continue;
    text += decodeText(Buffer.concat(run), encoding);
    run = [];
  }
  return text;
}

// Billing

const gsmBasic =
  '@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&\'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà';
/** These need an escape, so they take two septets. */
const gsmExtension = '\f^{}\\[~]|€';

const septets = new Map<string, number>(Array.from(gsmBasic, (character) => [character, 1]));
for (const character of gsmExtension) septets.set(character, 2);

/** Septets of a text in the GSM 03.38 alphabet, or null if it has characters outside it. */
function gsmLength(text: string): number | null {
  let length = 0;
  for (const character of text) {
    const count = septets.get(character);
    if (count === undefined) return null;
    length += count;
  }
  return length;
}

/**
 * The segments that a customer is charged for one message: computed from the length alone, not from the parts on the wire. An empty text
 * counts 1.
 */
export function billedSegments(text: string, mainland: boolean): number {
  const gsm = mainland ? null : gsmLength(text);
  if (gsm !== null) return gsm <= 160 ? 1 : Math.ceil(gsm / 153);
  return text.length <= 70 ? 1 : Math.ceil(text.length / 67);
}
