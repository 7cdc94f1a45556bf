/**
 * The HTTP listener: sockets, limits, time-outs, and the answers that no part gives itself.
 *
 * It is `starting` until `open` is called, then open, then draining once `stop` is called. Until it is open, requests get the 503 of the
 * part that owns their path. While it drains, `/healthz` answers 503, so that a load balancer sends nothing more. New connections are
 * still accepted for a grace period, and every accepted request is answered, with `Connection: close`.
 *
 * Everything a caller can make us hold is bounded: connections, header size, the time to send headers and body, the time to take the
 * answer, body size per route, and the bodies of all requests together. For each address, even before authentication: its connections,
 * its requests under way, their bodies, and its wrong credentials.
 *
 * A request is under way until its answer is sent or its connection is gone, and its handler has finished. So a caller that hangs up at
 * once does not escape the limits.
 *
 * The listener knows no business and no vendor's codes: a part (see `part.ts`) brings its routes and its form of errors.
 */
import { randomBytes } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import Fastify from 'fastify';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { clientAddress, createFailureLimiter, isListed, isLoopbackHost, networkOf, normaliseAddress } from './auth.ts';
import { type Answer, type HttpPart, jsonType, plainFailure, type Problem } from './part.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** The caller's address, also behind trusted proxies; IPv4 is never in its IPv6 form. */
    clientAddress: string;
    /** Tells the listener that the caller's credentials were wrong. */
    countFailure(): void;
  }
  interface FastifyContextConfig {
    /** Answered also while starting and draining. */
    always?: boolean;
    /** The body is processed as it arrives, so that only a little of it is held. */
    isStreamed?: boolean;
  }
}

export interface ServerOptions {
  readonly log: Logger;
  readonly tls?: { readonly cert: string | Buffer; readonly key: string | Buffer } | undefined;
  /** Addresses or CIDR ranges whose `X-Forwarded-For` is trusted. */
  readonly trustedProxies?: readonly string[];
  /** Refuses requests whose `Host` is not this machine's loopback: for the sandbox, against DNS rebinding. */
  readonly loopbackHostOnly?: boolean;
  /** How long `stop` still accepts new connections, so that a load balancer has time to notice. */
  readonly graceMs?: number;
  /** Called for every answer, with the prefix of the part that owns the path, the status, and the time since the headers arrived. */
  answered?(part: string, status: number, ms: number): void;
  /** Wrong credentials of all accounts together that an address may send in a minute; then it is refused until the minute ends. */
  readonly failuresPerMinute?: () => number;
  readonly limits?: Partial<ServerLimits>;
}

interface ServerLimits {
  readonly connections: number;
  /** An address is an IPv4 address or an IPv6 network (/64). A trusted proxy may have any number. */
  readonly connectionsPerAddress: number;
  /** Requests of one address that are under way. Addresses behind trusted proxies count too. */
  readonly requestsPerAddress: number;
  /** The limit of a route that sets none itself. */
  readonly bodyBytes: number;
  /** All bodies that are being received or processed, together; above it, new requests get a 503. */
  readonly bodyBytesInHand: number;
  /** The same for one address. */
  readonly bodyBytesPerAddress: number;
  readonly headersTimeoutMs: number;
  /** The time to receive headers and body together. */
  readonly requestTimeoutMs: number;
  /** The time the client has to take the answer, from its first byte. */
  readonly answerTimeoutMs: number;
  /** The time without a byte in either direction. */
  readonly idleTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
  /** How long `stop` waits for requests under way. */
  readonly drainTimeoutMs: number;
}

const defaultLimits: ServerLimits = {
  connections: 10_000,
  connectionsPerAddress: 1000,
  requestsPerAddress: 500,
  bodyBytes: 1 << 20,
  bodyBytesInHand: 256 << 20,
  bodyBytesPerAddress: 64 << 20,
  headersTimeoutMs: 15_000,
  requestTimeoutMs: 60_000,
  answerTimeoutMs: 60_000,
  idleTimeoutMs: 120_000,
  // Common proxies drop an idle connection after 60 s. A longer time makes sure that we never close one that a proxy is about to use.
  keepAliveTimeoutMs: 72_000,
  drainTimeoutMs: 30_000,
};

/** How much of a streamed body may wait between socket and reader; a generous estimate. */
const streamedBytes = 1 << 20;
/** The time between a new connection and its first request. */
const lingerMs = 50;

export interface Server {
  /** Adds a part. Call it before `listen`. */
  register(part: HttpPart): void;
  /** Binds the socket; returns the port (a free one for 0). Until `open` every request but /healthz gets a 503. */
  listen(address: { readonly host: string; readonly port: number }): Promise<number>;
  open(): void;
  /** Waits for the grace period, stops accepting connections, lets requests under way finish, then closes every connection. */
  stop(): Promise<void>;
}

/** A request under way. */
interface Tracked {
  readonly network: string;
  readonly bodyBytes: number;
  readonly response: http.ServerResponse;
  isWorkedOn: boolean;
  /** True once it is answered or its connection is gone. */
  isOver: boolean;
  /** When its answer was first seen under way. */
  answeringSince: number | null;
}

export function createServer(options: ServerOptions): Server {
  const { log, tls, trustedProxies = [], loopbackHostOnly = false, graceMs = 0, limits: changed = {} } = options;
  const { failuresPerMinute = () => Number.POSITIVE_INFINITY } = options;
  const limits = { ...defaultLimits, ...changed };
  let state: 'starting' | 'open' | 'draining' = 'starting';
  const underWay = new Set<Tracked>();
  let bodyBytesInHand = 0;
  /** The requests and bytes that each network has under way. */
  const inHand = new Map<string, { requests: number; bodyBytes: number }>();
  const connections = new Map<string, number>();
  const failures = createFailureLimiter({ clock: () => new Date(), perMinute: failuresPerMinute });
  let drained: (() => void) | undefined;
  let stopping: Promise<void> | undefined;
  const parts: HttpPart[] = [];
  const paths: { readonly pattern: RegExp; readonly methods: readonly string[] }[] = [];
  /** The requests under way on each socket, in order. */
  const onSocket = new WeakMap<Duplex, Set<Tracked>>();

  const idPrefix = randomBytes(3).toString('hex');
  let requests = 0;

  const fastify = Fastify({
    logger: false,
    genReqId: () => `${idPrefix}-${(++requests).toString(36)}`,
    bodyLimit: limits.bodyBytes,
    routerOptions: { maxParamLength: 200 },
    // Values are taken as they were sent: nothing is coerced, filled in or dropped.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false } },
    // A HEAD must not have the effects of a GET, such as handing over reports. A part that wants HEAD routes adds them itself.
    exposeHeadRoutes: false,
    forceCloseConnections: true,
    serverFactory: (handler) => createListener(handler),
    clientErrorHandler: (error, socket) => answerBrokenRequest(error, socket, onSocket.get(socket)),
    // A path that cannot be decoded comes here without passing the hooks.
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
    server.on('connection', (socket: Socket) => admit(socket));
    // An unknown `Expect` header is ignored. Node would refuse it, but not in the form of the part.
    server.on('checkExpectation', handler);
    const watch = setInterval(giveUpOnIdlers, Math.min(5_000, limits.answerTimeoutMs / 2));
    server.once('close', () => clearInterval(watch));
    return server;
  }

  // ── what a caller may hold ─────────────────────────────────────────────────────────────────────────────────────────────────────

  function admit(socket: Socket): void {
    const address = normaliseAddress(socket.remoteAddress ?? '') ?? '0.0.0.0';
    if (isListed(trustedProxies, address)) return;
    const network = networkOf(address);
    const count = (connections.get(network) ?? 0) + 1;
    connections.set(network, count);
    socket.once('close', () => {
      const left = (connections.get(network) ?? 1) - 1;
      if (left > 0) connections.set(network, left);
      else connections.delete(network);
    });
    if (count <= limits.connectionsPerAddress) return;
    // With TLS, the client could not read a plain-text answer.
    if (tls) socket.destroy();
    else writeAnswer(socket, 429, 'too_many');
  }

  function track(request: FastifyRequest, response: http.ServerResponse): Tracked {
    const { socket } = request.raw;
    const network = networkOf(request.clientAddress);
    const tracked: Tracked = { network, bodyBytes: bodyBytesOf(request), response, isWorkedOn: false, isOver: false, answeringSince: null };
    const own = inHand.get(network) ?? { requests: 0, bodyBytes: 0 };
    inHand.set(network, own);
    own.requests++;
    own.bodyBytes += tracked.bodyBytes;
    bodyBytesInHand += tracked.bodyBytes;
    underWay.add(tracked);
    // A pipelined response that waits for its turn gets no event when the connection closes.
    let requests = onSocket.get(socket);
    if (!requests) {
      const all = new Set<Tracked>();
      requests = all;
      onSocket.set(socket, all);
      socket.once('close', () => all.forEach((one) => end(one)));
    }
    requests.add(tracked);
    const end = (one: Tracked): void => {
      requests.delete(one);
      one.isOver = true;
      letGo(one);
    };
    response.once('close', () => end(tracked));
    if (socket.closed) end(tracked);
    return tracked;
  }

  function letGo(tracked: Tracked): void {
    if (!tracked.isOver || tracked.isWorkedOn || !underWay.delete(tracked)) return;
    bodyBytesInHand -= tracked.bodyBytes;
    const own = inHand.get(tracked.network);
    if (own) {
      own.requests--;
      own.bodyBytes -= tracked.bodyBytes;
      if (own.requests === 0) inHand.delete(tracked.network);
    }
    if (underWay.size === 0) drained?.();
  }

  const tracks = new WeakMap<FastifyRequest, Tracked>();
  fastify.addHook('onRoute', (route) => {
    const work = route.handler;
    route.handler = function (request, reply) {
      const tracked = tracks.get(request);
      if (tracked) tracked.isWorkedOn = true;
      const done = (): void => {
        if (!tracked) return;
        tracked.isWorkedOn = false;
        letGo(tracked);
      };
      let result: unknown;
      try {
        result = work.call(this, request, reply);
      } finally {
        if (!(result instanceof Promise)) done();
      }
      return result instanceof Promise ? result.finally(done) : result;
    };
  });

  /** Ends connections whose client does not take its answer. */
  function giveUpOnIdlers(): void {
    const now = performance.now();
    for (const tracked of underWay) {
      if (tracked.isOver || !tracked.response.headersSent) continue;
      tracked.answeringSince ??= now;
      if (now - tracked.answeringSince > limits.answerTimeoutMs) tracked.response.socket?.destroy();
    }
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
      // Fastify would close at once, and a client that is still sending would never see the answer. Instead, the rest of the body is
      // discarded, for as long as a request may take.
      reply.removeHeader('connection');
      return answer(request, reply, 'too_large');
    }
    if (status >= 400 && status < 500) return answer(request, reply, 'malformed');
    log.error({ err: error, requestId: request.id, method: request.method, route: request.routeOptions.url }, 'a request failed');
    return answer(request, reply, 'fault');
  }

  // ── before every route ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  fastify.decorateRequest('clientAddress', '');
  fastify.decorateRequest('countFailure', function (this: FastifyRequest) {
    failures.failed(this.clientAddress, '');
  });
  fastify.addHook('onRequest', (request, reply, done) => {
    const { raw, headers } = request;
    const forwardedFor = headers['x-forwarded-for'];
    request.clientAddress = clientAddress(
      raw.socket.remoteAddress,
      Array.isArray(forwardedFor) ? forwardedFor.join() : forwardedFor,
      trustedProxies,
    );
    const tracked = track(request, reply.raw);
    tracks.set(request, tracked);
    const own = inHand.get(tracked.network);
    const isAlways = request.routeOptions.config.always === true;

    // All of this comes before the body: a refused request's body need not be read.
    if (state === 'draining') reply.header('connection', 'close');
    if (loopbackHostOnly && !isLoopbackHost(headers.host)) {
      answer(request, reply, 'forbidden_host');
    } else if (state === 'starting' && !isAlways) {
      answer(request, reply.headers({ connection: 'close', 'retry-after': '1' }), 'unavailable');
    } else if (own && !isAlways && (own.requests > limits.requestsPerAddress || own.bodyBytes > limits.bodyBytesPerAddress)) {
      answer(request, reply.header('retry-after', '1'), 'too_many');
    } else if (!isAlways && failures.isBlocked(request.clientAddress, '')) {
      answer(request, reply.header('retry-after', '60'), 'too_many');
    } else if (request.is404) {
      answerUnknown(request, reply);
    } else if (bodyBytesInHand > limits.bodyBytesInHand && tracked.bodyBytes > 0) {
      answer(request, reply.header('retry-after', '1'), 'unavailable');
    } else {
      done();
    }
  });

  /** The bytes a request may make us hold: its announced length, or the route's limit if it announces none. */
  function bodyBytesOf({ headers, routeOptions }: FastifyRequest): number {
    const limit = routeOptions.config.isStreamed ? streamedBytes : (routeOptions.bodyLimit ?? limits.bodyBytes);
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
    // Logs the route's pattern, not the path or the query, because those hold credentials, numbers and link codes.
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
    // Connections that have already reached the socket are still accepted.
    await sleep(Math.max(graceMs, lingerMs));
    const { server } = fastify;
    // This ends idle connections. Connections that are in use, or have not sent a request yet, may finish.
    if (server.listening) server.close();
    const until = performance.now() + limits.drainTimeoutMs;
    do {
      await nothingUnderWay(until - performance.now());
      // Requests that reached a socket before the listener closed are still to be read.
      await sleep(lingerMs);
    } while (underWay.size > 0 && performance.now() < until);
    await fastify.close();
  }

  function nothingUnderWay(timeoutMs: number): Promise<void> {
    if (underWay.size === 0) return Promise.resolve();
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

/** Answers bytes that are not HTTP, or that arrived too slowly. There is no request to answer, so it writes to the socket directly. */
function answerBrokenRequest(error: NodeJS.ErrnoException, socket: Duplex, underWay: Iterable<Tracked> = []): void {
  // If an answer has begun, the client would read another status line as part of it.
  const isAnswering = [...underWay].some(({ response }) => response.headersSent);
  if (error.code === 'ECONNRESET' || !socket.writable || isAnswering) socket.destroy();
  else writeAnswer(socket, error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : error.code === 'HPE_HEADER_OVERFLOW' ? 431 : 400, 'malformed');
}

/** Writes the last answer on this socket and closes it. */
function writeAnswer(socket: Duplex, status: number, problem: Problem): void {
  const { body } = plainFailure(problem, '');
  const head = `HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\nContent-Type: ${jsonType}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n`;
  socket.end(head + body, () => socket.destroy());
}
