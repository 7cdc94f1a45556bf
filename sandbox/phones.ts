/**
 * The messages that the phones of the sandbox have received, and the API over them: `/sandbox/v1`. They are kept in memory, bounded. A
 * test asks what a phone shows and waits for it, or answers in place of its owner.
 */
import type { FastifyInstance } from 'fastify';
import type { PersonalMessage, PhoneMms, PhoneText } from '../simulators/simulator.ts';
import { type HttpPart, jsonType, plainFailure } from '../src/http/part.ts';

export interface Phones {
  received(message: PhoneText | PhoneMms): void;
  readonly part: HttpPart;
}

/** A person writes to a service number; false if it belongs to no channel. */
type Reply = (message: PersonalMessage) => boolean;

const mostKept = 10_000;
const mostReturned = 1000;
const longestWaitSeconds = 60;
const longestReply = 1000;
/** Media of the packages received lately. */
const mostMediaBytes = 64 << 20;

interface Shown {
  readonly to: string;
  readonly from: string;
  readonly at: string;
  /** Of a text message. */
  readonly text?: string;
  readonly links?: readonly string[];
  /** Of a multimedia message. */
  readonly subject?: string;
  readonly frames?: readonly ShownFrame[];
}

interface ShownFrame {
  readonly text: string | null;
  readonly media: { readonly type: string; readonly bytes: number; readonly sha256: string; readonly url: string } | null;
}

export function createPhones({ linkBase, reply }: { linkBase: string; reply: Reply }): Phones {
  let kept: { readonly at: number; readonly shown: Shown }[] = [];
  const waiting = new Set<() => void>();
  const media = new Map<string, { readonly type: string; readonly bytes: Buffer }>();
  let mediaBytes = 0;

  function keep(at: Date, shown: Shown): void {
    if (kept.length >= mostKept) kept = kept.slice(mostKept / 10);
    kept.push({ at: at.getTime(), shown });
    for (const done of waiting) done();
  }

  function keepMedia(sha256: string, type: string, bytes: Buffer): void {
    if (media.has(sha256)) return;
    media.set(sha256, { type, bytes });
    mediaBytes += bytes.length;
    for (const [oldest, { bytes }] of media) {
      if (mediaBytes <= mostMediaBytes) break;
      media.delete(oldest);
      mediaBytes -= bytes.length;
    }
  }

  const link = new RegExp(`${linkBase.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}/[0-9A-Za-z]+`, 'g');
  const find = (to: string | undefined, since: number): Shown[] =>
    kept
      .filter(({ at, shown }) => at >= since && (to === undefined || shown.to === to || `86${shown.to}` === to))
      .slice(0, mostReturned)
      .map(({ shown }) => shown);

  function routes(server: FastifyInstance): void {
    server.get<{ Querystring: { to?: string; since?: string; wait?: string } }>('/sandbox/v1/messages', async (request, answer) => {
      const { to, since = '0', wait = '0' } = request.query;
      const from = /^\d+$/.test(since) ? Number(since) : Date.parse(since);
      const seconds = Number(wait);
      if (Number.isNaN(from)) return bad(answer, 'since: not a time (ISO 8601, or milliseconds since 1970)');
      if (!(seconds >= 0 && seconds <= longestWaitSeconds)) return bad(answer, `wait: seconds from 0 to ${longestWaitSeconds}`);
      const until = Date.now() + seconds * 1000;
      let data = find(to, from);
      while (data.length === 0 && Date.now() < until && !request.raw.destroyed) {
        await nextMessage(until - Date.now());
        data = find(to, from);
      }
      return answer.header('content-type', jsonType).send(JSON.stringify({ data }));
    });

    server.get<{ Params: { sha256: string } }>('/sandbox/v1/media/:sha256', (request, answer) => {
      const found = media.get(request.params.sha256);
      if (!found)
        return answer.code(404).header('content-type', jsonType).send('{"error":{"code":"not_found","message":"no phone has this"}}');
      return answer.header('content-type', found.type).header('x-content-type-options', 'nosniff').send(found.bytes);
    });

    server.delete('/sandbox/v1/messages', (_request, answer) => {
      kept = [];
      void answer.code(204).send();
    });

    server.post<{ Body: PersonalMessage }>(
      '/sandbox/v1/replies',
      {
        schema: {
          body: {
            type: 'object',
            additionalProperties: false,
            required: ['from', 'to', 'content'],
            properties: {
              from: { type: 'string', pattern: '^\\+?[0-9]{5,20}$' },
              to: { type: 'string', pattern: '^[0-9]{3,21}$' },
              content: { type: 'string', minLength: 1, maxLength: longestReply },
            },
          },
        },
      },
      (request, answer) => {
        if (!reply(request.body)) return bad(answer, 'to: no channel of the sandbox owns this number');
        return answer.code(202).header('content-type', jsonType).send('{}');
      },
    );
  }

  function nextMessage(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, Math.min(ms, 1000));
      waiting.add(done);
    });
  }

  return {
    received(message) {
      const { from, at } = message;
      // Some protocols carry E.164; people look for what they dialled.
      const to = message.to.replace(/^86(?=1\d{10}$)/, '');
      if ('text' in message) {
        const { text } = message;
        keep(at, { to, from, at: at.toISOString(), text, links: text.match(link) ?? [] });
        return;
      }
      const { subject, frames } = message;
      const shown = frames.map(({ text, media }): ShownFrame => {
        if (!media) return { text, media: null };
        const { contentType: type, bytes, sha256 } = media;
        keepMedia(sha256, type, bytes);
        return { text, media: { type, bytes: bytes.length, sha256, url: `/sandbox/v1/media/${sha256}` } };
      });
      keep(at, { to, from, at: at.toISOString(), subject, frames: shown });
    },
    part: { prefix: '/sandbox/v1', routes, failure: plainFailure },
  };
}

interface Reply400 {
  code(status: number): Reply400;
  header(name: string, value: string): Reply400;
  send(body: string): Reply400;
}

function bad<R extends Reply400>(answer: R, message: string): R {
  answer
    .code(400)
    .header('content-type', jsonType)
    .send(JSON.stringify({ error: { code: 'invalid', message } }));
  return answer;
}
