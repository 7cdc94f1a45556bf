/**
 * Reads `application/x-www-form-urlencoded` text from a query or a body, and writes the canonical form that is signed.
 *
 * This is our own parser because a signature covers the parameters as they were received. Each parameter can be encoded again, even if
 * its bytes are not UTF-8. Such a parameter is marked here and not refused, so that the dialect can authenticate the caller first and
 * then say which parameter is wrong.
 */
import { isUtf8 } from 'node:buffer';

interface Parameter {
  readonly value: string;
  /** Encodes key and value for the signature. */
  canonical(): string;
  /** Why the value cannot be used, in Chinese. */
  readonly broken: string | null;
}

/** Parameters by name. If a name comes twice, the last one counts, and only that one is signed. */
export type Form = ReadonlyMap<string, Parameter>;

/** More pairs than any client sends. */
const maxPairs = 100;

export class TooManyParameters extends Error {}

/** Reads the texts in turn; a later one overrides an earlier one. Throws only `TooManyParameters`, whatever the bytes are. */
export function parseForm(...sources: readonly (string | Buffer)[]): Form {
  const form = new Map<string, Parameter>();
  let pairs = 0;
  for (const source of sources) {
    const { text, plain } = readable(source);
    for (let start = 0; start < text.length; ) {
      const ampersand = text.indexOf('&', start);
      const end = ampersand === -1 ? text.length : ampersand;
      if (end > start) {
        if (++pairs > maxPairs) throw new TooManyParameters();
        const equals = text.indexOf('=', start);
        const middle = equals === -1 || equals > end ? end : equals;
        const [key, parameter] = read(text.slice(start, middle), text.slice(middle + 1, Math.max(end, middle + 1)), plain);
        form.set(key, parameter);
      }
      start = end + 1;
    }
  }
  return form;
}

/**
 * Key and value of every parameter except `without`, sorted by key in code units and joined `k=v&…`. The encoding is the AIM dialect's:
 * UTF-8 form encoding, but a space is `%20`, `*` is `%2A`, and `~` stays.
 */
export function canonicalForm(form: Form, without: readonly string[]): string {
  const keys = [...form.keys()].filter((key) => !without.includes(key)).sort();
  return keys.map((key) => form.get(key)?.canonical()).join('&');
}

/** Encodes one text as in the canonical form. */
export function encodeValue(text: string): string {
  const encoded = encodeURIComponent(text);
  // encodeURIComponent leaves these characters; form encoding escapes them.
  return /[!'()*]/.test(encoded) ? encoded.replace(/[!'()*]/g, percent) : encoded;
}

const percent = (character: string): string => `%${character.charCodeAt(0).toString(16).toUpperCase()}`;

/** Text to be split at `&` and `=`. If `plain`, only its escapes are still encoded; otherwise each character stands for one byte. */
function readable(source: string | Buffer): { text: string; plain: boolean } {
  // Node gives a URL as a string with one character for each byte.
  const bytes = typeof source === 'string' ? Buffer.from(source, 'latin1') : source;
  return isUtf8(bytes) ? { text: bytes.toString('utf8'), plain: true } : { text: bytes.toString('latin1'), plain: false };
}

function read(rawKey: string, rawValue: string, plain: boolean): [string, Parameter] {
  const key = decode(rawKey, plain);
  const value = decode(rawValue, plain);
  if (key.broken === null && value.broken === null) {
    return [key.text, { value: value.text, broken: null, canonical: () => `${encodeValue(key.text)}=${encodeValue(value.text)}` }];
  }
  return [
    key.text,
    { value: value.text, broken: value.broken ?? key.broken, canonical: () => `${encodeDecoded(key)}=${encodeDecoded(value)}` },
  ];
}

const encodeDecoded = ({ text, broken }: Decoded): string => (broken === null ? encodeValue(text) : encodeBytes(text));

interface Decoded {
  /** If broken: one character for each byte. */
  readonly text: string;
  readonly broken: string | null;
}

function decode(raw: string, plain: boolean): Decoded {
  const text = raw.includes('+') ? raw.replaceAll('+', ' ') : raw;
  if (plain) {
    if (!text.includes('%')) return { text, broken: null };
    try {
      return { text: decodeURIComponent(text), broken: null };
    } catch {
      // A malformed escape, or bytes that are not UTF-8; the code below finds out which.
    }
  }
  const escapes = /%(?:[0-9A-Fa-f]{2}|)/g;
  const bytes = Buffer.from(text, plain ? 'utf8' : 'latin1').toString('latin1');
  const unescaped = bytes.replace(escapes, (escape) =>
    escape.length === 3 ? String.fromCharCode(Number.parseInt(escape.slice(1), 16)) : '%',
  );
  if (bytes.match(escapes)?.includes('%')) return { text: unescaped, broken: '百分号编码不完整' };
  const buffer = Buffer.from(unescaped, 'latin1');
  return isUtf8(buffer) ? { text: buffer.toString('utf8'), broken: null } : { text: unescaped, broken: '不是 UTF-8 编码' };
}

/** Form encoding of bytes that are not UTF-8, so that the signature of such a request can still be checked. */
function encodeBytes(bytes: string): string {
  return bytes.replace(/[^A-Za-z0-9_.~-]/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
}
