/** Pushes to a customer's real HTTP server: which arrive, what happens to those that fail, and that no row is pushed twice. */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, type TestContext } from 'vitest';
import { changeSubscription } from '../../src/core/catalogue/accounts.ts';
import { change } from '../../src/core/config/management.ts';
import { createOutbox } from '../../src/core/events/outbox.ts';
import { shanghaiDay } from '../../src/std/shanghai.ts';
import { clientOf, createPuller, freePort, numberOf, type Platform, plainNumbers, startPlatform, until } from '../kit/platform.ts';

interface Received {
  readonly path: string;
  readonly method: string;
  readonly contentType: string;
  readonly body: string;
}

/** A customer's server; the path says how it answers. */
async function startServer({ onTestFinished }: TestContext) {
  const received: Received[] = [];
  const server = http.createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      const path = request.url ?? '';
      received.push({ path, method: request.method ?? '', contentType: request.headers['content-type'] ?? '', body });
      if (path === '/hangs') return;
      if (path === '/redirects') response.writeHead(307, { location: '/ok' });
      else if (path === '/fails') response.writeHead(500);
      else if (path === '/accepts') response.writeHead(202);
      response.end('answer');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received };
}

async function platformOf({ onTestFinished }: TestContext): Promise<Platform> {
  const platform = await startPlatform();
  onTestFinished(() => platform.stop());
  return platform;
}

const pushesOf = ({ management }: Platform) =>
  management.db.sql<{ state: string; status: number | null; answer: string; events: number }[]>`
    select state, http_status as status, answer, events from pushes order by id`;

const ended = (platform: Platform, count: number) =>
  until(`${count} messages have ended`, async () => {
    const [row] = await platform.management.db.sql<{ n: number }[]>`select count(*)::int as n from messages where status >= 10`;
    return row?.n === count;
  });

describe.concurrent('pushes', () => {
  it('reports and replies arrive in the documented form, and are not to be pulled any more', async (context) => {
    const [platform, server] = [await platformOf(context), await startServer(context)];
    const customer = await platform.customer({ pushUrls: { report: `${server.url}/accepts`, reply: `${server.url}/reply` } });
    const client = clientOf(await platform.startApp(), customer);
    const mobiles = [numberOf('0001'), numberOf('0012'), ...plainNumbers(3)];
    const { msgId } = await client.submit(mobiles, { ext: '7' });
    const rowsOf = (path: string) => server.received.filter((one) => one.path === path).flatMap(({ body }) => body.split('|'));
    await until('all is pushed', () => rowsOf('/accepts').length === 5 && rowsOf('/reply').length === 1);
    const time = String.raw`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`;
    for (const mobile of mobiles) {
      const [code, price] = mobile === mobiles[0] ? ['UNDELIV', '0'] : ['DELIVRD', '0\\.05'];
      const row = new RegExp(`^7,${msgId},${mobile},${code},${time},${price}$`);
      expect(rowsOf('/accepts').filter((text) => row.test(text))).toHaveLength(1);
    }
    expect(rowsOf('/reply')[0]).toMatch(new RegExp(`^${encodeURIComponent('你好,|世界')},${mobiles[1]},${customer.extension}7,\\d{14}$`));
    expect(new Set(server.received.map(({ method, contentType }) => `${method} ${contentType}`))).toEqual(
      new Set(['POST text/plain; charset=utf-8']),
    );
    await sleep(300);
    expect(await client.reports()).toEqual([]);
    expect(await client.replies()).toEqual([]);
    expect(await platform.audit()).toEqual([]);

    // An operator replays one of them by hand.
    const { db, directory } = platform.management;
    const outbox = createOutbox({ db, directory, clock: () => new Date() });
    const today = shanghaiDay(new Date());
    const filter = { subscriptionId: customer.subscriptionId, kind: 'report', fromDay: today, toDay: today } as const;
    expect(await outbox.replay(customer.accountId, { ...filter, phone: BigInt(`86${mobiles[2]}`) })).toBe(1);
    expect(await platform.audit()).toEqual([]);
    await until('it is pushed again', () => rowsOf('/accepts').length === 6);
    await until('and recorded', async () => (await db.sql`select 1 from parcels`).length === 0);
    expect(await platform.audit()).toEqual([]);
  }, 40_000);

  it.for([
    { how: 'answers 500', path: '/fails', status: 500 },
    { how: 'redirects', path: '/redirects', status: 307 },
    { how: 'never answers', path: '/hangs', status: null },
    { how: 'refuses the connection', path: null, status: null },
  ])(
    'what a server that $how was to get is pulled, never pushed again, and the attempt is kept',
    { timeout: 40_000 },
    async ({ path, status }, context) => {
      const [platform, server] = [await platformOf(context), await startServer(context)];
      const url = path === null ? `http://127.0.0.1:${await freePort()}/` : server.url + path;
      const customer = await platform.customer({ pushUrls: { report: url } });
      const client = clientOf(await platform.startApp(), customer);
      const mobiles = plainNumbers(3);
      await client.submit(mobiles);
      const puller = createPuller(client);
      await puller.waitFor(3);
      await sleep(1500); // a second look at the queue
      await puller.stop();
      expect(puller.rows.map(({ mobile }) => mobile).sort()).toEqual(mobiles);
      const pushed = server.received.flatMap(({ body }) => body.split('|'));
      expect(pushed).toHaveLength(path === null ? 0 : 3);
      expect(server.received.some((one) => one.path === '/ok')).toBe(false);
      const attempts = await pushesOf(platform);
      expect(new Set(attempts.map((one) => `${one.state} ${one.status}`))).toEqual(new Set([`failed ${status}`]));
      expect(attempts.reduce((sum, { events }) => sum + events, 0)).toBe(3);
      expect(await platform.audit()).toEqual([]);
    },
  );

  it('a private destination is not called unless it is allowed; what was for it is pulled', async (context) => {
    const [platform, server] = [await platformOf(context), await startServer(context)];
    const customer = await platform.customer({ pushUrls: { report: `${server.url}/ok` } });
    const client = clientOf(await platform.startApp({ pushAllow: [] }), customer);
    await client.submit(plainNumbers(1));
    const puller = createPuller(client);
    await puller.waitFor(1);
    await puller.stop();
    expect(server.received).toEqual([]);
    expect(await pushesOf(platform)).toMatchObject([
      { state: 'failed', status: null, answer: expect.stringContaining('not allowed') as string },
    ]);
  }, 40_000);

  it('removing the URL makes what waits for it pullable', async (context) => {
    const [platform, server] = [await platformOf(context), await startServer(context)];
    const { management } = platform;
    const customer = await platform.customer({ pushUrls: { report: `${server.url}/ok` } });
    const app = await platform.startApp({ roles: ['api', 'dispatch'] });
    const client = clientOf(app, customer);
    await client.submit(plainNumbers(3));
    await ended(platform, 3);
    expect(await client.reports()).toEqual([]);
    await change(management, (sql) => changeSubscription(sql, null, customer.subscriptionId, { pushUrls: { report: null } }));
    await platform.startApp({ roles: ['push'] });
    const puller = createPuller(client);
    await puller.waitFor(3);
    await puller.stop();
    expect(server.received).toEqual([]);
    expect(await platform.audit()).toEqual([]);
  }, 40_000);

  it('what a process had claimed that died before it posted is pulled, and not pushed', async (context) => {
    const [platform, server] = [await platformOf(context), await startServer(context)];
    const { db, directory } = platform.management;
    const customer = await platform.customer({ pushUrls: { report: `${server.url}/ok` } });
    const client = clientOf(await platform.startApp({ roles: ['api', 'dispatch'] }), customer);
    await client.submit(plainNumbers(3));
    await ended(platform, 3);
    const outbox = createOutbox({ db, directory, clock: () => new Date() });
    const endpoint = { accountId: customer.accountId, dialect: '3yit', owner: customer.subscriptionId, kind: 'report' } as const;
    const claim = await outbox.claim(endpoint, 500);
    expect(claim?.loads.flatMap(({ parcels }) => parcels).reduce((sum, { size }) => sum + size, 0)).toBe(3);
    expect(await client.reports()).toEqual([]);
    await db.sql`update parcels set lease_until = now() - interval '1 second'`;
    await platform.startApp({ roles: ['push'] });
    const puller = createPuller(client);
    await puller.waitFor(3);
    await puller.stop();
    expect(server.received).toEqual([]);
    // Should it have lived after all, it comes too late to hand anything over once more.
    const attempt = { url: server.url, startedAt: new Date(), status: 200, answer: '' };
    const [load] = claim?.loads ?? [];
    if (claim && load) await outbox.settle([{ claimId: claim.id, endpoint, parcels: load.parcels, fate: { kind: 'done' }, attempt }]);
    expect(await platform.audit()).toEqual([]);
  }, 40_000);
});
