/**
 * Reads `application/x-www-form-urlencoded` text, from a query or a body, and writes the canonical form that signatures are made of.
 *
 * Our own parser, because a signature covers the parameters as they were received: each keeps what it needs to be encoded again, also
 * when its bytes are not UTF-8. Such a parameter is kept and marked rather than refused here, so that the caller can authenticate
 * first and then say which one is wrong.
 */
import { isUtf8 } from 'node:buffer';

interface Parameter {
  readonly value: string;
  /** Key and value, encoded for the signature; made when asked for. */
  canonical(): string;
  /** Why the value cannot be used, in Chinese. */
  readonly broken: string | null;
}

/** Parameters by name; of a name that comes twice the last one counts, and only that one is signed. */
export type Form = ReadonlyMap<string, Parameter>;

/** More pairs than any client sends; beyond it the rest is not looked at. */
const maxPairs = 100;

export class TooManyParameters extends Error {}

/** Reads texts in turn; a later one overrides an earlier. Throws `TooManyParameters`, and nothing else whatever the bytes. */
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
 * Key and value of every parameter but `without`, sorted by key in code units and joined `k=v&…`; encoded as the AIM dialect demands
 *: UTF-8 form encoding, then space `%20`, `*` `%2A`, `~` as it is.
 */
export function canonicalForm(form: Form, without: readonly string[]): string {
  const keys = [...form.keys()].filter((key) => !without.includes(key)).sort();
  return keys.map((key) => form.get(key)?.canonical()).join('&');
}

/** One text encoded as in a canonical form. */
export function encodeValue(text: string): string {
  const encoded = encodeURIComponent(text);
  // What encodeURIComponent leaves and form encoding does not.
  return /[!'()*]/.test(encoded) ? encoded.replace(/[!'()*]/g, percent) : encoded;
}

const percent = (character: string): string => `%${character.charCodeAt(0).toString(16).toUpperCase()}`;

/** Text to be split at `&` and `=`. `plain` if it is decoded already but for its escapes; else each character stands for one byte. */
function readable(source: string | Buffer): { text: string; plain: boolean } {
  // Node hands over a URL with each byte as a character.
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
  /** If broken, the bytes, each as a character. */
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
      // An escape that is none, or bytes that are not UTF-8; below it is found out which.
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

/** Form encoding of bytes that are no text, so that even such a request can prove whose it is. */
function encodeBytes(bytes: string): string {
  return bytes.replace(/[^A-Za-z0-9_.~-]/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
}
