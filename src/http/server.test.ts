/** The listener over real sockets: its states, its limits, and the answers it gives by itself. */
import { once } from 'node:events';
import https from 'node:https';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { cert, key } from '../../test/kit/certificate.ts';
import { type HttpPart, jsonType, problemStatus } from './part.ts';
import { createServer, type Server, type ServerOptions } from './server.ts';

const servers: Server[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop()));
});

/** Requests to /part/wait are under way until this is called. */
let release: () => void = () => {};

const part: HttpPart = {
  prefix: '/part',
  routes(server) {
    server.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
    server.get('/part/hello', (request, reply) => reply.send({ from: request.clientAddress }));
    server.post('/part/length', { bodyLimit: 1000 }, (request, reply) =>
      reply.send({ length: Buffer.isBuffer(request.body) ? request.body.length : 0 }),
    );
    server.post('/part/json', (request) => ({ got: request.body }));
    server.get('/part/items/:id', () => 'item');
    server.put('/part/items/:id', () => 'item');
    server.get('/part/fault', () => {
      throw new Error('secret detail');
    });
    server.get('/part/big', () => 'x'.repeat(30_000_000));
    server.get('/part/secret', (request, reply) => {
      request.countFailure();
      void reply.code(401).send();
    });
    server.get('/part/wait', async () => {
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      return 'waited';
    });
  },
  failure: (problem) => ({ status: problemStatus[problem], contentType: jsonType, body: JSON.stringify({ part: problem }) }),
};

async function start(options: Partial<ServerOptions> = {}) {
  const logged: Record<string, unknown>[] = [];
  const log = pino({ level: 'debug' }, { write: (line) => void logged.push(JSON.parse(line)) });
  const server = createServer({ log, ...options });
  server.register(part);
  servers.push(server);
  const port = await server.listen({ host: '127.0.0.1', port: 0 });
  const call = async (path: string, init?: RequestInit) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, init);
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text.startsWith('{') ? (JSON.parse(text) as unknown) : text };
  };
  return { server, port, call, logged };
}

async function open(options: Partial<ServerOptions> = {}) {
  const started = await start(options);
  started.server.open();
  return started;
}

/** Everything the server says to these bytes until it closes the connection. */
async function talk(port: number, text: string): Promise<string> {
  const socket = net.connect(port, '127.0.0.1');
  socket.write(text);
  let answer = '';
  socket.on('data', (data) => {
    answer += data.toString();
  });
  socket.on('error', () => {});
  await once(socket, 'close');
  return answer;
}

const waitUntil = async (is: () => boolean): Promise<void> => {
  while (!is()) await new Promise((resolve) => setTimeout(resolve, 5));
};

const waitFor = async (is: () => Promise<boolean>): Promise<void> => {
  while (!(await is())) await sleep(20);
};

describe('the listener', () => {
  it('answers 503 in the form of each part until it is opened, and /healthz tells', async () => {
    const { server, call } = await start();
    expect(await call('/healthz')).toMatchObject({ status: 503, body: { status: 'starting' } });
    expect(await call('/part/hello')).toMatchObject({ status: 503, body: { part: 'unavailable' } });
    expect(await call('/v1/accounts')).toMatchObject({ status: 503, body: { error: { code: 'unavailable' } } });
    server.open();
    expect(await call('/healthz')).toMatchObject({ status: 200, body: { status: 'ready' } });
    expect(await call('/part/hello')).toMatchObject({ status: 200, body: { from: '127.0.0.1' } });
  });

  it('tells unknown paths and wrong methods apart, in the form of the part that owns the path', async () => {
    const { call } = await open();
    expect(await call('/part/nothing?x=%zz')).toMatchObject({ status: 404, body: { part: 'not_found' } });
    expect(await call('/partly')).toMatchObject({ status: 404, body: { error: { code: 'not_found' } } });
    expect(await call('/')).toMatchObject({ status: 404, body: { error: { code: 'not_found' } } });
    expect(await call('/part/%zz')).toMatchObject({ status: 404, body: { part: 'not_found' } });
    expect(await call(`/part/items/${'x'.repeat(300)}`)).toMatchObject({ status: 404, body: { part: 'not_found' } });
    expect(await call('/part/nothing', { method: 'POST', body: '{', headers: { 'content-type': 'application/json' } })).toMatchObject({
      status: 404,
    });
    expect(await call('/part/nothing', { method: 'POST', body: 'x', headers: { 'content-type': 'nonsense' } })).toMatchObject({
      status: 404,
    });
    const wrong = await call('/part/items/1', { method: 'DELETE' });
    expect(wrong).toMatchObject({ status: 405, body: { part: 'method_not_allowed' } });
    expect(wrong.headers.get('allow')).toBe('GET, PUT');
    // A HEAD is not a GET in disguise.
    expect(await call('/part/hello', { method: 'HEAD' })).toMatchObject({ status: 405, body: '' });
  });

  it('answers 413 to a body over the limit of its route, and goes on', async () => {
    const { call, port } = await open();
    const post = (body: string) => call('/part/length', { method: 'POST', body, headers: { 'content-type': 'application/octet-stream' } });
    expect(await post('x'.repeat(1000))).toMatchObject({ status: 200, body: { length: 1000 } });
    expect(await post('x'.repeat(1001))).toMatchObject({ status: 413, body: { part: 'too_large' } });
    expect(await post('x'.repeat(20_000_000))).toMatchObject({ status: 413, body: { part: 'too_large' } });
    expect(
      await talk(
        port,
        `POST /part/length HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n${'x'.repeat(2000)}\r\n0\r\n\r\n`,
      ),
    ).toMatch(/^HTTP\/1.1 413 [^]*\{"part":"too_large"\}/);
    expect(await post('x')).toMatchObject({ status: 200 });
  });

  it('answers what cannot be read as it claims to be', async () => {
    const { call, logged } = await open();
    for (const body of ['{"a":', '', 'x', '{"__proto__":1}', '['.repeat(100_000)])
      expect(await call('/part/json', { method: 'POST', body, headers: { 'content-type': 'application/json' } }), body).toMatchObject({
        status: 400,
        body: { part: 'malformed' },
      });
    expect(await call('/part/json', { method: 'POST', body: 'x', headers: { 'content-type': 'nonsense' } })).toMatchObject({ status: 400 });
    expect(logged.filter(({ level }) => level === 50)).toEqual([]);
  });

  it('a fault is logged once with the id of its request, and its detail is told to nobody', async () => {
    const { call, logged } = await open();
    const answer = await call('/part/fault?password=hush');
    expect(answer).toMatchObject({ status: 500, body: { part: 'fault' } });
    const errors = logged.filter(({ level }) => level === 50);
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatchObject({ err: { message: 'secret detail' }, requestId: expect.any(String) });
    expect(JSON.stringify(logged)).not.toContain('hush');
  });

  it('logs requests by their route, never by their path', async () => {
    const { call, logged } = await open();
    await call('/part/items/13800000000?signature=x');
    await waitUntil(() => logged.some(({ msg }) => msg === 'answered'));
    expect(logged).toMatchObject([{ level: 20, route: '/part/items/:id', status: 200 }]);
    expect(JSON.stringify(logged)).not.toContain('13800000000');
  });

  it('answers what is not HTTP', async () => {
    const { port } = await open();
    for (const garbage of [
      'hello\r\n\r\n',
      'GET / HTTP/1.1\r\n\r\n',
      '\x16\x03\x01\x02\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    ])
      expect(await talk(port, garbage), garbage).toMatch(/^HTTP\/1.1 400 /);
    expect(await talk(port, `GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`)).toMatch(/^HTTP\/1.1 431 /);
    expect(await talk(port, 'POST /part/length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n')).toMatch(
      /^HTTP\/1.1 400 /,
    );
  });

  it('does not wait for ever for headers or bodies', async () => {
    const { port } = await open({ limits: { headersTimeoutMs: 100, requestTimeoutMs: 200 } });
    expect(await talk(port, 'GET / HTTP/1.1\r\nHost:')).toMatch(/^HTTP\/1.1 408 /);
    expect(await talk(port, 'POST /part/length HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc')).toMatch(/^HTTP\/1.1 408 /);
  });

  it('holds a bounded amount of bodies', async () => {
    const { call, port } = await open({ limits: { bodyBytesInHand: 1500 } });
    const socket = net.connect(port, '127.0.0.1');
    socket.write('POST /part/length HTTP/1.1\r\nHost: x\r\nContent-Length: 800\r\n\r\nabc');
    await new Promise((resolve) => setTimeout(resolve, 50));
    const post = () =>
      call('/part/length', { method: 'POST', body: 'x'.repeat(800), headers: { 'content-type': 'application/octet-stream' } });
    expect(await post()).toMatchObject({ status: 503, body: { part: 'unavailable' } });
    expect(await call('/part/hello')).toMatchObject({ status: 200 });
    socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await post()).toMatchObject({ status: 200, body: { length: 800 } });
  });

  it('what a caller had under way ends with its connection, also what it had not been answered in turn', async () => {
    const { server, call, port } = await open({ limits: { bodyBytesInHand: 1500, drainTimeoutMs: 10_000 } });
    const socket = net.connect(port, '127.0.0.1');
    const initial = (release = () => {});
    const one = `POST /part/length HTTP/1.1\r\nHost: x\r\nContent-Length: 700\r\n\r\n${'x'.repeat(700)}`;
    socket.write(`GET /part/wait HTTP/1.1\r\nHost: x\r\n\r\n${one}${one}`);
    await waitUntil(() => release !== initial);
    socket.destroy();
    await once(socket, 'close');
    await sleep(50);
    const post = () =>
      call('/part/length', { method: 'POST', body: 'x'.repeat(800), headers: { 'content-type': 'application/octet-stream' } });
    expect(await post()).toMatchObject({ status: 200, body: { length: 800 } });
    release();
    const began = performance.now();
    await server.stop();
    expect(performance.now() - began).toBeLessThan(5000);
  });

  it('who hangs up has what it asked for counted until nobody works on it any more', async () => {
    const { call, port } = await open({ limits: { requestsPerAddress: 3 } });
    const hasBegun = async (work: () => void): Promise<void> => {
      const initial = (release = () => {});
      work();
      await waitUntil(() => release !== initial);
    };
    const releases: (() => void)[] = [];
    for (let n = 0; n < 3; n++) {
      const socket = net.connect(port, '127.0.0.1');
      await hasBegun(() => socket.write('GET /part/wait HTTP/1.1\r\nHost: x\r\n\r\n'));
      releases.push(release);
      socket.destroy();
      await once(socket, 'close');
    }
    await sleep(50);
    expect(await call('/part/hello')).toMatchObject({ status: 429, body: { part: 'too_many' } });
    for (const done of releases) done();
    await sleep(50);
    expect(await call('/part/hello')).toMatchObject({ status: 200 });
  });

  describe('of one address', () => {
    const from = (address: string) => ({ headers: { 'x-forwarded-for': address } });

    it('works on so many requests at a time, and on those of others meanwhile', async () => {
      const { call } = await open({ limits: { requestsPerAddress: 2 }, trustedProxies: ['127.0.0.1'] });
      const slow: Promise<unknown>[] = [];
      const releases: (() => void)[] = [];
      for (let n = 0; n < 2; n++) {
        const initial = (release = () => {});
        slow.push(call('/part/wait', from('2001:db8::1')));
        await waitUntil(() => release !== initial);
        releases.push(release);
      }
      // The addresses of one network are one.
      const refused = await call('/part/hello', from('2001:db8::2'));
      expect(refused).toMatchObject({ status: 429, body: { part: 'too_many' } });
      expect(refused.headers.get('retry-after')).toBe('1');
      expect(await call('/v1/accounts', from('2001:db8::1'))).toMatchObject({ status: 429, body: { error: { code: 'too_many' } } });
      expect(await call('/part/hello', from('2001:db8:0:1::1'))).toMatchObject({ status: 200 });
      expect(await call('/healthz', from('2001:db8::1'))).toMatchObject({ status: 200 });
      for (const done of releases) done();
      await Promise.all(slow);
      expect(await call('/part/hello', from('2001:db8::1'))).toMatchObject({ status: 200 });
    });

    it('holds so much of bodies, and leaves room for those of others', async () => {
      const { call, port } = await open({ limits: { bodyBytesPerAddress: 1500 }, trustedProxies: ['127.0.0.1'] });
      const socket = net.connect(port, '127.0.0.1');
      socket.write('POST /part/length HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1\r\nContent-Length: 800\r\n\r\nabc');
      await sleep(50);
      const post = (address: string) => {
        const headers = { ...from(address).headers, 'content-type': 'application/octet-stream' };
        return call('/part/length', { method: 'POST', body: 'x'.repeat(800), headers });
      };
      expect(await post('10.0.0.1')).toMatchObject({ status: 429 });
      expect(await post('10.0.0.2')).toMatchObject({ status: 200 });
      socket.destroy();
    });

    it('takes so many connections, unless it is a trusted proxy', async () => {
      const idle = async (port: number) => {
        const sockets = Array.from({ length: 3 }, () => net.connect(port, '127.0.0.1'));
        await Promise.all(sockets.map((socket) => once(socket, 'connect')));
        return sockets;
      };
      const { port } = await open({ limits: { connectionsPerAddress: 3 } });
      const sockets = await idle(port);
      expect(await talk(port, '')).toMatch(/^HTTP\/1.1 429 [^]*"too_many"/);
      sockets[0]?.destroy();
      await sleep(50);
      expect(await talk(port, 'GET /part/hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')).toMatch(/^HTTP\/1.1 200 /);

      const proxied = await open({ limits: { connectionsPerAddress: 3 }, trustedProxies: ['127.0.0.1'] });
      const others = await idle(proxied.port);
      expect(await proxied.call('/part/hello')).toMatchObject({ status: 200 });
      for (const socket of [...sockets, ...others]) socket.destroy();
    });

    it('hears so many wrong credentials a minute, then nothing', async () => {
      const { call } = await open({ failuresPerMinute: () => 3, trustedProxies: ['127.0.0.1'] });
      for (let n = 0; n < 3; n++) expect(await call('/part/secret', from('10.0.0.1'))).toMatchObject({ status: 401 });
      const refused = await call('/part/hello', from('10.0.0.1'));
      expect(refused).toMatchObject({ status: 429, body: { part: 'too_many' } });
      expect(refused.headers.get('retry-after')).toBe('60');
      expect(await call('/part/hello', from('10.0.0.2'))).toMatchObject({ status: 200 });
      expect(await call('/healthz', from('10.0.0.1'))).toMatchObject({ status: 200 });
    });
  });

  it('does not wait for ever for an answer to be taken', async () => {
    const { port, call } = await open({ limits: { answerTimeoutMs: 300, requestsPerAddress: 2 } });
    const socket = net.connect(port, '127.0.0.1');
    socket.pause();
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => {});
    for (let n = 0; n < 2; n++) socket.write('GET /part/big HTTP/1.1\r\nHost: x\r\n\r\n');
    await waitFor(async () => (await call('/part/hello')).status === 429);
    await waitFor(async () => (await call('/part/hello')).status === 200);
    socket.resume();
    await closed;
  });

  it('takes an expectation that it does not know for none', async () => {
    const { port } = await open();
    expect(await talk(port, 'GET /part/hello HTTP/1.1\r\nHost: x\r\nExpect: nothing\r\nConnection: close\r\n\r\n')).toMatch(
      /^HTTP\/1.1 200 [^]*127.0.0.1/,
    );
  });

  it('believes X-Forwarded-For of trusted proxies only', async () => {
    const headers = { 'x-forwarded-for': '1.1.1.1, 203.0.113.7' };
    expect(await (await open()).call('/part/hello', { headers })).toMatchObject({ body: { from: '127.0.0.1' } });
    expect(await (await open({ trustedProxies: ['127.0.0.0/8'] })).call('/part/hello', { headers })).toMatchObject({
      body: { from: '203.0.113.7' },
    });
  });

  it('refuses hosts that are not loopback where it is told to', async () => {
    const { call, port } = await open({ loopbackHostOnly: true });
    expect(await call('/part/hello')).toMatchObject({ status: 200 });
    for (const path of ['/part/hello', '/healthz', '/part/nothing'])
      expect(await talk(port, `GET ${path} HTTP/1.1\r\nHost: evil.example:${port}\r\nConnection: close\r\n\r\n`)).toMatch(
        /^HTTP\/1.1 403 /,
      );
  });

  it('speaks TLS', async () => {
    const { port } = await open({ tls: { key, cert } });
    const status = await new Promise((resolve, reject) => {
      https
        .get({ host: '127.0.0.1', port, path: '/healthz', ca: cert, agent: false }, ({ statusCode }) => resolve(statusCode))
        .on('error', reject);
    });
    expect(status).toBe(200);
  });

  it('draining, it says so, answers what comes during the time of grace and what is under way, and ends every connection', async () => {
    const { server, call, port } = await open({ graceMs: 1500 });
    const kept = net.connect(port, '127.0.0.1');
    const idle = net.connect(port, '127.0.0.1');
    let answers = '';
    kept.on('data', (data) => {
      answers += data.toString();
    });
    kept.write('GET /part/hello HTTP/1.1\r\nHost: x\r\n\r\n');
    idle.write('GET /part/hello HTTP/1.1\r\nHost: x\r\n\r\n');
    idle.resume();
    await waitUntil(() => answers.includes('127.0.0.1'));
    expect(answers.toLowerCase()).not.toContain('connection: close');
    release = () => {};
    const initial = release;
    const slow = call('/part/wait');
    await waitUntil(() => release !== initial);
    const stopped = server.stop();
    expect(await call('/healthz')).toMatchObject({ status: 503, body: { status: 'draining' } });
    const fresh = await call('/part/hello');
    expect(fresh).toMatchObject({ status: 200, body: { from: '127.0.0.1' } });
    expect(fresh.headers.get('connection')).toBe('close');
    answers = '';
    kept.write('GET /part/hello HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(kept, 'close');
    expect(answers).toMatch(/^HTTP\/1.1 200 [^]*\{"from":"127.0.0.1"\}$/);
    expect(answers.toLowerCase()).toContain('connection: close');
    await once(idle, 'close'); // the grace is over
    await expect(call('/healthz')).rejects.toThrow('fetch failed');
    release();
    expect(await slow).toMatchObject({ status: 200, body: 'waited' });
    await stopped;
  });

  it('a request on a connection that came right before the listener closed is answered', async () => {
    const { server, port } = await open();
    const sockets = Array.from({ length: 5 }, () => net.connect(port, '127.0.0.1'));
    await Promise.all(sockets.map((socket) => once(socket, 'connect')));
    const stopped = server.stop();
    const answers = sockets.map(async (socket) => {
      socket.write('GET /part/hello HTTP/1.1\r\nHost: x\r\n\r\n');
      let answer = '';
      for await (const data of socket) answer += String(data);
      return answer.split('\r\n', 1)[0];
    });
    expect(await Promise.all(answers)).toEqual(Array(5).fill('HTTP/1.1 200 OK'));
    await stopped;
  });

  it('does not wait for ever for a request that never ends', async () => {
    const { server, call } = await open({ limits: { drainTimeoutMs: 50 } });
    const initial = release;
    const slow = call('/part/wait').catch(() => 'cut');
    await waitUntil(() => release !== initial);
    await server.stop();
    expect(await slow).toBe('cut');
    release();
  });
});
