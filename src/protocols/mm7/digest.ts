/**
 * HTTP authentication, Basic and Digest (RFC 7617, 7616), for client and server: reading a challenge, computing the answer, reading the
 * answer. Digest supports MD5 and SHA-256, with `qop=auth` or without qop as in RFC 2069. It does not support `auth-int`, which would hash
 * whole uploads and which no known carrier offers.
 */
import { createHash } from 'node:crypto';

export interface Challenge {
  readonly realm: string;
  readonly nonce: string;
  readonly opaque: string | null;
  readonly algorithm: 'MD5' | 'MD5-sess' | 'SHA-256' | 'SHA-256-sess';
  /** False for servers older than qop. */
  readonly qop: boolean;
}

/** The request's part in the answer to a challenge. */
export interface DigestRequest {
  readonly username: string;
  readonly password: string;
  readonly method: string;
  readonly uri: string;
  /** How often this nonce has been used, from 1. */
  readonly count: number;
  readonly cnonce: string;
}

const maxHeader = 4096;

export const basicAuthorization = (username: string, password: string): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;

/** User and password of a Basic authorization; null if the header is not one. */
export function readBasic(header: string | undefined): { username: string; password: string } | null {
  const [, encoded] = /^basic\s+([A-Za-z0-9+/=]+)\s*$/i.exec((header ?? '').slice(0, maxHeader)) ?? [];
  if (encoded === undefined) return null;
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon < 0 ? null : { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

/** The first Digest challenge we can answer among the WWW-Authenticate headers; null if there is none. */
export function readChallenge(headers: readonly string[]): Challenge | null {
  for (const header of headers) {
    // Several challenges may share a header. The challenges after ours repeat parameters, so the first value of each counts.
    const [scheme] = /(?:^|,\s*)digest\s+/i.exec(header.slice(0, maxHeader)) ?? [];
    if (scheme === undefined) continue;
    const values = readParameters(header.slice(header.indexOf(scheme) + scheme.length, maxHeader));
    const nonce = values.get('nonce');
    const algorithm = algorithms.get((values.get('algorithm') ?? 'MD5').toUpperCase());
    const qops = values
      .get('qop')
      ?.toLowerCase()
      .split(/[\s,]+/);
    if (nonce === undefined || !algorithm || (qops && !qops.includes('auth'))) continue;
    return { realm: values.get('realm') ?? '', nonce, opaque: values.get('opaque') ?? null, algorithm, qop: qops !== undefined };
  }
  return null;
}

const algorithms = new Map<string, Challenge['algorithm']>([
  ['MD5', 'MD5'],
  ['MD5-SESS', 'MD5-sess'],
  ['SHA-256', 'SHA-256'],
  ['SHA-256-SESS', 'SHA-256-sess'],
]);

/** The parameters of a Digest authorization; null if the header is not one. */
export function readDigest(header: string | undefined): ReadonlyMap<string, string> | null {
  const text = (header ?? '').slice(0, maxHeader);
  return /^digest\s/i.test(text) ? readParameters(text.slice(7)) : null;
}

function readParameters(text: string): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (const [, name = '', quoted, plain = ''] of text.matchAll(/([a-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/gi))
    if (!values.has(name.toLowerCase())) values.set(name.toLowerCase(), quoted?.replace(/\\(.)/g, '$1') ?? plain);
  return values;
}

/** The `response` of a Digest authorization. */
export function digestResponse(challenge: Challenge, { username, password, method, uri, count, cnonce }: DigestRequest): string {
  const { realm, nonce, algorithm, qop } = challenge;
  const hash = (text: string) =>
    createHash(algorithm.startsWith('MD5') ? 'md5' : 'sha256')
      .update(text)
      .digest('hex');
  const user = hash(`${username}:${realm}:${password}`);
  const secret = algorithm.endsWith('-sess') ? hash(`${user}:${nonce}:${cnonce}`) : user;
  const subject = hash(`${method}:${uri}`);
  return hash(qop ? `${secret}:${nonce}:${countOf(count)}:${cnonce}:auth:${subject}` : `${secret}:${nonce}:${subject}`);
}

const countOf = (count: number): string => count.toString(16).padStart(8, '0');
const quoted = (text: string): string => `"${text.replace(/["\\]/g, '\\$&')}"`;

/** The Authorization header that answers a challenge. */
export function digestAuthorization(challenge: Challenge, request: DigestRequest): string {
  const fields = [
    `username=${quoted(request.username)}`,
    `realm=${quoted(challenge.realm)}`,
    `nonce=${quoted(challenge.nonce)}`,
    `uri=${quoted(request.uri)}`,
    `algorithm=${challenge.algorithm}`,
    `response="${digestResponse(challenge, request)}"`,
  ];
  if (challenge.qop) fields.push('qop=auth', `nc=${countOf(request.count)}`);
  if (challenge.qop || challenge.algorithm.endsWith('-sess')) fields.push(`cnonce=${quoted(request.cnonce)}`);
  if (challenge.opaque !== null) fields.push(`opaque=${quoted(challenge.opaque)}`);
  return `Digest ${fields.join(', ')}`;
}
