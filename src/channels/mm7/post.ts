/**
 * POSTs to a carrier over HTTP connections that stay open, with authentication, and with an exact result for each.
 *
 * This module owns the sockets (as many as there are requests at once), Basic and Digest, and each request's deadline. It knows neither
 * SOAP nor messages. A body is a list of buffers written one after the other as the socket takes them, so a thousand requests with the same
 * media keep one copy in memory.
 */
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { buildConnector, Client } from 'undici';
import { basicAuthorization, type Challenge, digestAuthorization, readChallenge } from '../../protocols/mm7/digest.ts';

export interface PosterSettings {
  /** `http://mmsc.example.net:8080/mm7` */
  readonly url: string;
  readonly authentication: 'none' | 'basic' | 'digest';
  readonly username: string;
  readonly secret: string;
  readonly connectTimeoutMs: number;
  readonly headers: Readonly<Record<string, string>>;
}

export interface PostBody {
  readonly contentType: string;
  readonly chunks: readonly Buffer[];
  readonly octets: number;
}

/**
 * What became of a request.
 * - `answer`: HTTP gave an answer, whatever it is.
 * - `lost`: no answer. `written` says how much of the request had left us: nothing; some of it, on which the carrier cannot have acted
 *   because the end was missing; or all of it, so that the result is not known.
 * - `withdrawn`: the caller's `mayWrite` returned false before anything was written.
 */
export type Posted =
  | { readonly kind: 'answer'; readonly status: number; readonly contentType: string; readonly body: Buffer }
  | { readonly kind: 'lost'; readonly written: 'nothing' | 'some' | 'all'; readonly reason: string }
  | { readonly kind: 'withdrawn' };

export interface Poster {
  post(body: PostBody, timeoutMs: number, mayWrite: () => boolean): Promise<Posted>;
  /** Ends all connections at once; requests under way are lost. */
  close(): Promise<void>;
}

/** Far more than any MM7 answer has. */
const maxResponseOctets = 256 << 10;
const nothing: PostBody = { contentType: 'text/xml; charset="utf-8"', chunks: [], octets: 0 };

class Withdrawn extends Error {}

interface Line {
  readonly client: Client;
  socket: Socket | null;
}

/** Throws TypeError if the URL is not valid. */
export function createPoster(settings: PosterSettings): Poster {
  const url = new URL(settings.url);
  const path = url.pathname + url.search;
  const { authentication, username, secret } = settings;
  const connector = buildConnector({ timeout: settings.connectTimeoutMs });
  const all: Line[] = [];
  const idle: Line[] = [];

  /**
   * A connection that opens when it is needed, with one request at a time. It does not belong to a pool, because a pool would not expose
   * its socket.
   */
  function openLine(): Line {
    const line: Line = {
      socket: null,
      client: new Client(url.origin, {
        // Each request has its own deadline.
        headersTimeout: 0,
        bodyTimeout: 0,
        maxResponseSize: maxResponseOctets,
        connect: (options, done) =>
          connector(options, (...result) => {
            line.socket = result[1];
            done(...result);
          }),
      }),
    };
    all.push(line);
    return line;
  }

  // Digest: the server's current challenge, and how often we have answered it.
  let challenge: Challenge | null = null;
  let count = 0;
  let asking: Promise<Posted> | null = null;

  function authorization(): Record<string, string> {
    if (authentication === 'basic') return { authorization: basicAuthorization(username, secret) };
    if (authentication === 'none' || !challenge) return {};
    count += 1;
    const request = { username, password: secret, method: 'POST', uri: path, count, cnonce: randomBytes(8).toString('hex') };
    return { authorization: digestAuthorization(challenge, request) };
  }

  async function transmit(body: PostBody, timeoutMs: number, mayWrite: () => boolean) {
    const line = idle.pop() ?? openLine();
    let written: 'nothing' | 'some' | 'all' = 'nothing';
    async function* upload() {
      // undici asks for the first piece once it is connected, which may have taken a while.
      if (!mayWrite()) throw new Withdrawn();
      for (const [index, chunk] of body.chunks.entries()) {
        const isLast = index === body.chunks.length - 1;
        // undici asks for the next piece even after the connection broke, and throws the piece away.
        if (isLast && line.socket?.destroyed) throw new Error('the connection broke during the upload');
        written = isLast ? 'all' : 'some';
        yield chunk;
      }
    }
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    try {
      const response = await line.client.request({
        path,
        method: 'POST',
        headers: {
          ...settings.headers,
          'content-type': body.contentType,
          'content-length': String(body.octets),
          ...authorization(),
        },
        // Any async iterable works, though the types allow only streams; a stream would read ahead of what is written.
        ...(body.octets > 0 ? { body: upload() as unknown as Readable } : {}),
        signal: timeout.signal,
      });
      const octets = Buffer.from(await response.body.arrayBuffer());
      const header = (name: string) => [response.headers[name] ?? []].flat();
      const answer = { kind: 'answer', status: response.statusCode, contentType: header('content-type')[0] ?? '', body: octets } as const;
      return { answer, challenges: header('www-authenticate') };
    } catch (error) {
      if (error instanceof Withdrawn) return { answer: { kind: 'withdrawn' } as const, challenges: [] };
      const reason = error instanceof Error ? error.message || error.name : 'failed';
      return { answer: { kind: 'lost', written, reason } as const, challenges: [] };
    } finally {
      clearTimeout(timer);
      idle.push(line);
    }
  }

  async function authenticated(body: PostBody, timeoutMs: number, mayWrite: () => boolean): Promise<Posted> {
    for (let isSecond = false; ; isSecond = true) {
      const used = challenge;
      const { answer, challenges } = await transmit(body, timeoutMs, mayWrite);
      if (answer.kind !== 'answer' || answer.status !== 401 || authentication !== 'digest' || isSecond) return answer;
      // The first request has no challenge, and any request may have an expired one: the server returns the current one, and the request is
      // sent again.
      const current = readChallenge(challenges);
      if (!current || current.nonce === used?.nonce) return answer;
      if (challenge === used) {
        challenge = current;
        count = 0;
      }
    }
  }

  return {
    async post(body, timeoutMs, mayWrite) {
      if (authentication === 'digest' && !challenge && body.octets > 0) {
        // An upload only to get the challenge is wasteful: an empty request gets it, once for all requests that wait.
        asking ??= authenticated(nothing, timeoutMs, () => true).finally(() => {
          asking = null;
        });
        const asked = await asking;
        if (asked.kind === 'lost') return { ...asked, written: 'nothing' };
      }
      return authenticated(body, timeoutMs, mayWrite);
    },
    async close() {
      await Promise.all(all.map(({ client }) => client.destroy()));
    },
  };
}
