/**
 * The HTTP doors, where carriers post reports and replies. This part passes the raw request to the channel's protocol and sends back its
 * answer; it does not look inside.
 */
import type { CarrierAnswer, CarrierPost, HttpDoor } from '../channels/channel.ts';
import { type HttpPart, plainFailure } from './part.ts';

/** `receive` returns null if there is no such channel, or if the channel has no door. */
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
        // Some carriers first post without credentials to get the challenge; that is not a failure.
        if (answer.status === 401 && post.authorization !== undefined) request.countFailure();
        return reply.code(answer.status).headers(answer.headers).header('content-type', answer.contentType).send(answer.body);
      });
    },
  };
}
