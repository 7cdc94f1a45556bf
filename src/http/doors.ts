/**
 * Where carriers that speak HTTP post to us: reports and replies. Hands the raw request to whoever speaks the protocol and sends back its
 * answer; knows nothing of what is inside.
 */
import type { CarrierAnswer, CarrierPost, HttpDoor } from '../channels/channel.ts';
import { type HttpPart, plainFailure } from './part.ts';

/** `receive`: null if there is no such channel, or nobody may post to it. */
export function createDoorPart({
  prefix,
  maxOctets,
  receive,
}: Pick<HttpDoor, 'prefix' | 'maxOctets'> & {
  receive(channelId: bigint, post: CarrierPost): Promise<CarrierAnswer | null>;
}): HttpPart {
  return {
    prefix,
    failure: plainFailure,
    routes(server) {
      server.removeAllContentTypeParsers();
      server.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
      const limits = { bodyLimit: maxOctets };
      server.post<{ Params: { channel: string }; Body: Buffer | undefined }>(`${prefix}/:channel`, limits, async (request, reply) => {
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
