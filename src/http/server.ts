/**
 * The HTTP listener: sockets, limits, time-outs, and the answers that no part gives itself.
 *
 * It is `starting` until `open` is called, then open, then draining once `stop` is called. Before it is open requests get the 503 of the
 * part that owns their path. While it drains, `/healthz` says 503 so that a load balancer sends no more, for a time of grace new
 * connections are still taken, and whatever has been taken is answered, with `Connection: close`. Everything a caller can make us hold
 * is bounded: connections, header size, time to send headers and body, body size per route, and the bodies of all requests together.
 *
 * It knows no business and no vendor's codes: a part (see `dialect.ts`) brings its routes and its way of saying what went wrong.
 */
import { randomBytes } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import Fastify from 'fastify';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { clientAddress, isLoopbackHost } from './auth.ts';
import { type Answer, type HttpPart, jsonType, plainFailure, type Problem } from './dialect.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Who calls, behind trusted proxies; an IPv4 address never in its IPv6 form. */
    clientAddress: string;
  }
  interface FastifyContextConfig {
    /** Answered also while starting and draining. */
    always?: boolean;
  }
}

export interface ServerOptions {
  readonly log: Logger;
  readonly tls?: { readonly cert: string | Buffer; readonly key: string | Buffer } | undefined;
  /** Addresses or CIDR ranges whose `X-Forwarded-For` is believed. */
  readonly trustedProxies?: readonly string[];
  /** Refuses requests whose `Host` is not this machine's loopback: for the sandbox, against DNS rebinding. */
  readonly loopbackHostOnly?: boolean;
  /** How long `stop` still takes new connections, for a load balancer to notice. */
  readonly graceMs?: number;
  /** Told of every answer: the prefix of the part that owns the path, the status, and the time since the headers came. */
  answered?(part: string, status: number, ms: number): void;
  readonly limits?: Partial<ServerLimits>;
}

interface ServerLimits {
  readonly connections: number;
  /** Of a route that sets none. */
  readonly bodyBytes: number;
  /** Of all bodies that are being received or worked on; beyond it new ones get a 503. */
  readonly bodyBytesInHand: number;
  readonly headersTimeoutMs: number;
  /** For headers and body together. */
  readonly requestTimeoutMs: number;
  /** Without a byte in either direction. */
  readonly idleTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
  /** How long `stop` waits for requests under way. */
  readonly drainTimeoutMs: number;
}

const defaultLimits: ServerLimits = {
  connections: 10_000,
  bodyBytes: 1 << 20,
  bodyBytesInHand: 256 << 20,
  headersTimeoutMs: 15_000,
  requestTimeoutMs: 60_000,
  idleTimeoutMs: 120_000,
  // Longer than the 60 s after which common proxies drop an idle connection, so that it is never us who closes one they are about to use.
  keepAliveTimeoutMs: 72_000,
  drainTimeoutMs: 30_000,
};

/** Between a connection's coming and its first request. */
const lingerMs = 50;

export interface Server {
  /** Adds a part; before `listen`. */
  register(part: HttpPart): void;
  /** Binds the socket; returns the port (a free one for 0). Until `open` every request but /healthz gets a 503. */
  listen(address: { readonly host: string; readonly port: number }): Promise<number>;
  open(): void;
  /** Waits for the time of grace, takes no more connections, lets what is under way finish, then closes every connection. */
  stop(): Promise<void>;
}

export function createServer(options: ServerOptions): Server {
  const { log, tls, trustedProxies = [], loopbackHostOnly = false, graceMs = 0, limits: changed = {} } = options;
  const limits = { ...defaultLimits, ...changed };
  let state: 'starting' | 'open' | 'draining' = 'starting';
  let underWay = 0;
  let bodyBytesInHand = 0;
  let drained: (() => void) | undefined;
  let stopping: Promise<void> | undefined;
  const parts: HttpPart[] = [];
  const paths: { readonly pattern: RegExp; readonly methods: readonly string[] }[] = [];
  /** The response each socket is waiting for. */
  const responses = new WeakMap<Duplex, http.ServerResponse>();

  const idPrefix = randomBytes(3).toString('hex');
  let requests = 0;

  const fastify = Fastify({
    logger: false,
    genReqId: () => `${idPrefix}-${(++requests).toString(36)}`,
    bodyLimit: limits.bodyBytes,
    routerOptions: { maxParamLength: 200 },
    // Values are taken as they were sent: nothing is coerced, defaulted or dropped silently.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false } },
    // A HEAD must not do what a GET does, such as hand out reports; a part that wants it says so.
    exposeHeadRoutes: false,
    forceCloseConnections: true,
    serverFactory: (handler) => createListener(handler),
    clientErrorHandler: (error, socket) => answerBrokenRequest(error, socket, responses.get(socket)),
    // Paths that cannot be decoded come here, past all hooks.
    frameworkErrors: (_error, request, reply) => void answer(request, reply, 'not_found'),
  });

  function createListener(handler: http.RequestListener): http.Server {
    const options: http.ServerOptions = {
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: Math.min(5_000, limits.headersTimeoutMs / 2),
      noDelay: true,
    };
    const server = tls ? https.createServer({ ...options, ...tls }, handler) : http.createServer(options, handler);
    server.maxConnections = limits.connections;
    server.setTimeout(limits.idleTimeoutMs);
    return server;
  }

  // ── answers of our own ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  function ownerOf(path: string): HttpPart | undefined {
    let owner: HttpPart | undefined;
    for (const part of parts) {
      const owns = path === part.prefix || path.startsWith(part.prefix.endsWith('/') ? part.prefix : `${part.prefix}/`);
      if (owns && part.prefix.length > (owner?.prefix.length ?? -1)) owner = part;
    }
    return owner;
  }

  function failureOf(path: string, problem: Problem, requestId: string): Answer {
    return ownerOf(path)?.failure(problem, requestId) ?? plainFailure(problem, requestId);
  }

  function answer(request: FastifyRequest, reply: FastifyReply, problem: Problem): FastifyReply {
    const { status, contentType, body } = failureOf(pathOf(request), problem, request.id);
    return reply.code(status).header('content-type', contentType).send(body);
  }

  function answerError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply | undefined {
    const status = typeof error === 'object' && error !== null && 'statusCode' in error ? Number(error.statusCode) : 500;
    if (request.raw.destroyed && request.raw.errored) return (reply.hijack(), undefined); // The caller is gone.
    if (status === 413) {
      // Fastify would close at once, and a client that is still sending would never see the answer. What comes is thrown away instead,
      // for as long as a request may take.
      reply.removeHeader('connection');
      return answer(request, reply, 'too_large');
    }
    if (status >= 400 && status < 500) return answer(request, reply, 'malformed');
    log.error({ err: error, requestId: request.id, method: request.method, route: request.routeOptions.url }, 'a request failed');
    return answer(request, reply, 'fault');
  }

  // ── before every route ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  fastify.decorateRequest('clientAddress', '');
  fastify.addHook('onRequest', (request, reply, done) => {
    const { raw, headers } = request;
    const reserved = bodyBytesOf(request);
    underWay++;
    bodyBytesInHand += reserved;
    responses.set(raw.socket, reply.raw);
    reply.raw.once('close', () => {
      underWay--;
      bodyBytesInHand -= reserved;
      if (responses.get(raw.socket) === reply.raw) responses.delete(raw.socket);
      if (underWay === 0) drained?.();
    });
    const forwardedFor = headers['x-forwarded-for'];
    request.clientAddress = clientAddress(
      raw.socket.remoteAddress,
      Array.isArray(forwardedFor) ? forwardedFor.join() : forwardedFor,
      trustedProxies,
    );

    // All of this before the body, which need not be read to be refused.
    if (state === 'draining') reply.header('connection', 'close');
    if (loopbackHostOnly && !isLoopbackHost(headers.host)) {
      answer(request, reply, 'forbidden_host');
    } else if (state === 'starting' && request.routeOptions.config.always !== true) {
      answer(request, reply.headers({ connection: 'close', 'retry-after': '1' }), 'unavailable');
    } else if (request.is404) {
      answerUnknown(request, reply);
    } else if (bodyBytesInHand > limits.bodyBytesInHand && reserved > 0) {
      answer(request, reply.header('retry-after', '1'), 'unavailable');
    } else {
      done();
    }
  });

  /** What a request may make us hold: what it announces, or what its route allows if it announces nothing. */
  function bodyBytesOf({ headers, routeOptions }: FastifyRequest): number {
    const limit = routeOptions.bodyLimit ?? limits.bodyBytes;
    if (headers['transfer-encoding'] !== undefined) return limit;
    return Math.min(Number(headers['content-length'] ?? 0) || 0, limit);
  }

  function answerUnknown(request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const path = pathOf(request);
    const methods = new Set(paths.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => methods));
    if (methods.size === 0) return answer(request, reply, 'not_found');
    return answer(request, reply.header('allow', [...methods].sort().join(', ')), 'method_not_allowed');
  }

  fastify.addHook('onRoute', ({ url, method }) => {
    const literal = url.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const pattern = new RegExp(`^${literal.replace(/:[A-Za-z_]\w*/g, '[^/]+').replace(/\\\*$/, '.*')}$`);
    paths.push({ pattern, methods: [method].flat() });
  });

  if (options.answered) {
    fastify.addHook('onResponse', (request, reply, done) => {
      options.answered?.(ownerOf(pathOf(request))?.prefix ?? '', reply.statusCode, reply.elapsedTime);
      done();
    });
  }
  if (log.isLevelEnabled('debug')) {
    // The route's pattern, not the path, and no query: those hold credentials, numbers and link codes.
    fastify.addHook('onResponse', (request, reply, done) => {
      const { id, method, routeOptions } = request;
      log.debug(
        { requestId: id, method, route: routeOptions.url, status: reply.statusCode, ms: Math.round(reply.elapsedTime) },
        'answered',
      );
      done();
    });
  }

  fastify.setErrorHandler(answerError);
  fastify.setNotFoundHandler(answerUnknown);
  fastify.get('/healthz', { config: { always: true } }, (_request, reply) =>
    reply
      .code(state === 'open' ? 200 : 503)
      .header('content-type', jsonType)
      .send(JSON.stringify({ status: state === 'open' ? 'ready' : state })),
  );

  // ── life ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  async function drainAndClose(): Promise<void> {
    state = 'draining';
    // At least what has connected already is accepted.
    await sleep(Math.max(graceMs, lingerMs));
    const { server } = fastify;
    // Idle connections end with this; those that are in use, or have not asked for anything yet, may finish.
    if (server.listening) server.close();
    const until = performance.now() + limits.drainTimeoutMs;
    do {
      await nothingUnderWay(until - performance.now());
      // What reached a socket before the listener closed is still to be read from it.
      await sleep(lingerMs);
    } while (underWay > 0 && performance.now() < until);
    await fastify.close();
  }

  function nothingUnderWay(timeoutMs: number): Promise<void> {
    if (underWay === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      drained = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  return {
    register(part) {
      parts.push(part);
      fastify.register(async (instance: FastifyInstance) => part.routes(instance));
    },
    async listen({ host, port }) {
      await fastify.listen({ host, port });
      const bound = fastify.server.address();
      if (typeof bound !== 'object' || bound === null) throw new Error('the listener has no port');
      return bound.port;
    },
    open() {
      if (state === 'starting') state = 'open';
    },
    stop: () => (stopping ??= drainAndClose()),
  };
}

function pathOf({ raw }: FastifyRequest): string {
  const [path = ''] = (raw.url ?? '').split('?', 1);
  return path;
}

/** What arrived was not HTTP, or took too long to arrive: there is no request to answer, so the socket is written to directly. */
function answerBrokenRequest(error: NodeJS.ErrnoException, socket: Duplex, response: http.ServerResponse | undefined): void {
  // Within an answer that has begun, another status line would be read as part of it.
  if (error.code === 'ECONNRESET' || !socket.writable || response?.headersSent) {
    socket.destroy();
    return;
  }
  const status = error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : error.code === 'HPE_HEADER_OVERFLOW' ? 431 : 400;
  const { body } = plainFailure('malformed', '');
  const head = `HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\nContent-Type: ${jsonType}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n`;
  socket.end(head + body, () => socket.destroy());
}
