/**
 * Where carriers that speak HTTP post to us: reports and replies over MM7. Hands the raw request to whoever speaks the protocol and
 * sends back its answer; knows nothing of what is inside.
 */
import { type HttpPart, plainFailure } from './part.ts';

export interface CarrierPost {
  readonly contentType: string;
  readonly authorization: string | undefined;
  readonly remoteAddress: string;
  readonly body: Buffer;
}

export interface CarrierAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** A reply of a person may hold a picture; a report is a page of XML. */
const bodyLimit = 4 << 20;

/** `receive`: null if there is no such channel, or nobody may post to it. */
export function createCarrierPosts({
  receive,
}: {
  receive(channelId: bigint, post: CarrierPost): Promise<CarrierAnswer | null>;
}): HttpPart {
  return {
    prefix: '/mm7',
    failure: plainFailure,
    routes(server) {
      server.removeAllContentTypeParsers();
      server.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
      server.post<{ Params: { channel: string }; Body: Buffer | undefined }>('/mm7/:channel', { bodyLimit }, async (request, reply) => {
        const { params, headers, clientAddress, body } = request;
        const post = {
          contentType: headers['content-type'] ?? '',
          authorization: headers.authorization,
          remoteAddress: clientAddress,
          body: body ?? Buffer.alloc(0),
        };
        const answer = /^\d{1,18}$/.test(params.channel) ? await receive(BigInt(params.channel), post) : null;
        if (!answer) {
          const { status, contentType, body } = plainFailure('not_found', request.id);
          return reply.code(status).header('content-type', contentType).send(body);
        }
        // Some ask without credentials first, to be told how.
        if (answer.status === 401 && post.authorization !== undefined) request.countFailure();
        return reply.code(answer.status).headers(answer.headers).header('content-type', answer.contentType).send(answer.body);
      });
    },
  };
}
