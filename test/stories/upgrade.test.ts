/**
 * The present program continues where every earlier release has stopped. Its migrations are applied to a database that the release has
 * filled (test/fixtures/releases, see tools/release-fixture.ts). All promised data is there, and waiting work goes on.
 *
 * The business clock shows the time at which the release was stopped, so nothing is newly overdue.
 */
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { callMms, clientOf, parsePushedReplies, parseReports } from '../kit/customers.ts';
import { createOperator } from '../kit/operator.ts';
import { demoMmsc } from '../../sandbox/demo-data.ts';
import { type Sandbox, type SandboxOptions, startSandbox } from '../../sandbox/sandbox.ts';
import { audit } from '../../src/core/watch/audit.ts';
import { createDb } from '../../src/db/db.ts';
import { migrate } from '../../src/db/migrate.ts';
import { packageRoot } from '../../src/std/package-root.ts';
import { fixtureKey, loadRelease, operatorToken, readRelease, reportMms } from '../../tools/release-fixture.ts';
import { testLog } from '../kit/logs.ts';
import { expireOverdue, until } from '../kit/platform.ts';
import { freshDatabase } from '../kit/postgres.ts';

/** A row of an answer; only what is a text is looked at. */
type Row = Readonly<Record<string, string | null>>;
interface Batch {
  readonly id: string;
  readonly sendAt: string | null;
  readonly cancelledAt: string | null;
  readonly totals: Readonly<Record<string, number>>;
}

const fixtures = path.join(packageRoot(), 'test/fixtures/releases');
const migrations = path.join(packageRoot(), 'src/db/migrations');
const hourMs = 3600_000;

/** Makes a database as the release has left it: its migrations, and its rows. */
async function restore(url: string, migration: string, text: string): Promise<void> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'hongyan-upgrade-'));
  for (const file of readdirSync(migrations))
    if (file <= `${migration}.sql`) copyFileSync(path.join(migrations, file), path.join(folder, file));
  const db = createDb(url, { max: 1 });
  expect((await migrate(db, folder)).at(-1)).toBe(migration);
  await loadRelease(db.sql, text);
  await db.end();
  rmSync(folder, { recursive: true });
}

/** A server of customers that writes down what it is told, in the same words for every dialect. */
async function startCustomers() {
  const told: string[] = [];
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      if (request.url === '/mms') told.push(toldOfMms(JSON.parse(body) as Row));
      else if (request.url === '/reply') told.push(...parsePushedReplies(body).map(({ mobile, content }) => `${mobile} ${content}`));
      else told.push(...parseReports(body).map(({ msgId, mobile, status }) => `${msgId} ${mobile} ${status}`));
      response.end('success');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { told, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close: () => server.close() };
}

function toldOfMms({ task_id: batch, template_id: template, phone, code, content }: Row): string {
  if (template !== undefined) return `${template} ${code}`;
  return content === undefined ? `${batch} ${phone} ${code === 'DELIVERED' ? 'DELIVRD' : code}` : `${phone} ${content}`;
}

it.each(readdirSync(fixtures))(
  'goes on with what %s has left',
  async (file) => {
    const text = readFileSync(path.join(fixtures, file), 'utf8');
    const { migration, at, answers } = readRelease(text);
    const rowsOf = (route: string): Row[] =>
      Object.entries(answers).flatMap(([asked, { data }]) => (asked.startsWith(`${route}?`) ? (data as Row[]) : []));
    const database = await freshDatabase({ empty: true });
    await restore(database.url, migration, text);

    let ahead = at.getTime() - Date.now();
    const clock = (): Date => new Date(Date.now() + ahead);
    const dataDir = mkdtempSync(path.join(os.tmpdir(), 'hongyan-upgrade-'));
    const customers = await startCustomers();
    async function start(options: Partial<SandboxOptions>) {
      const sandbox: Sandbox = await startSandbox({
        dataDir,
        databaseUrl: database.url,
        secretKeys: fixtureKey,
        port: 0,
        linkBase: undefined,
        metrics: null,
        pushAllow: ['127.0.0.0/8'],
        carrierPorts: [],
        log: testLog(),
        reportDelayMs: 20,
        clock,
        ...options,
      });
      const base = `http://127.0.0.1:${sandbox.port}`;
      const { directory, db } = sandbox.app.management;
      return { ...sandbox, base, directory, audit: () => audit(db), call: createOperator(base, operatorToken).call };
    }
    type Started = Awaited<ReturnType<typeof start>>;
    const clientFor = (sandbox: Started, spId: string | null | undefined, templateId = 0) =>
      clientOf(sandbox, { spId: `${spId}`, password: sandbox.directory.bySpId(BigInt(spId ?? 0))?.password ?? '', templateId });

    // As it was left: nothing is sent or pushed yet.
    const still = await start({ roles: ['api'] });
    expect(await still.audit()).toEqual([]);
    for (const [route, answer] of Object.entries(answers)) {
      const now = await still.call('GET', route);
      if (answer['data'] === undefined) expect(now, route).toMatchObject(answer);
      else for (const row of answer['data'] as Row[]) expect(now['data'], route).toContainEqual(expect.objectContaining(row));
    }

    // Customers pull what waits for them.
    const events = rowsOf('/events');
    function telling({ id, kind, batchId, phone, code }: Row): string {
      if (kind === 'audit') return `${id} ${code}`;
      return kind === 'report'
        ? `${batchId} ${phone} ${code}`
        : `${phone} ${rowsOf('/replies').find((reply) => reply['id'] === id)?.['content']}`;
    }
    const owed = (fits: (event: Row) => boolean): string[] => events.filter(fits).map(telling).sort();
    let pulled = 0;
    for (const { id, spId } of rowsOf('/subscriptions')) {
      const own = owed(({ subscriptionId, state, route }) => subscriptionId === id && state === 'waiting' && route === 'pull');
      if (own.length === 0) continue;
      const client = clientFor(still, spId);
      const found: string[] = [];
      for (let rows = await client.reports(); rows.length > 0; rows = await client.reports())
        found.push(...rows.map(({ msgId, mobile, status }) => `${msgId} ${mobile} ${status}`));
      found.push(...(await client.replies()).map(({ mobile, content }) => `${mobile} ${content}`));
      expect(found.sort()).toEqual(own);
      pulled += own.length;
    }
    expect(pulled).toBeGreaterThan(0);

    // The operator decides, a carrier reports, and the customers' servers are there again.
    const batches = Object.entries(answers).flatMap(([route, answer]) =>
      route.startsWith('/batches/') ? [answer as unknown as Batch] : [],
    );
    const [cancelled, ...planned] = batches.filter(({ sendAt, cancelledAt }) => sendAt !== null && cancelledAt === null);
    await still.call('POST', `/batches/${cancelled?.id}/cancel`);
    const reviews = rowsOf('/reviews').filter(({ state }) => state === 'pending');
    for (const { id } of reviews) await still.call('POST', `/reviews/${id}/approve`);
    const unreported: string[] = [];
    for (const { id, phone } of rowsOf('/messages').filter(({ status }) => status === 'sent')) {
      const { channelId, carrierId } = await still.call('GET', `/messages/${id}`);
      if (channelId !== Number(demoMmsc.channelId)) unreported.push(`${id}`);
      else await reportMms(still.base, String(carrierId), `${phone}`, 'Retrieved');
      const { status } = await still.call('GET', `/messages/${id}`);
      expect(status).toBe(unreported.includes(`${id}`) ? 'sent' : 'delivered');
    }
    const lists = { accounts: { report: '/mms', reply: '/mms', template: '/mms' }, subscriptions: { report: '/report', reply: '/reply' } };
    for (const [list, urls] of Object.entries(lists)) {
      const pushUrls = Object.fromEntries(Object.entries(urls).map(([kind, route]) => [kind, customers.url + route]));
      for (const { id, pushUrls: before } of rowsOf(`/${list}`))
        if (Object.keys(before ?? {}).length > 0) await still.call('PATCH', `/${list}/${id}`, { pushUrls });
    }
    await still.stop();

    // Everything works: what waits is sent and pushed, and the rest a day later.
    const running = await start({});
    const totalsOf = async (id: string) => ((await running.call('GET', `/batches/${id}`)) as unknown as Batch).totals;
    const isSent = ({ id }: Batch) =>
      until(`batch ${id} is sent`, async () => {
        const { queued, in_review: inReview } = await totalsOf(id);
        return queued === 0 && inReview === 0;
      });
    await Promise.all(batches.filter((batch) => !planned.includes(batch)).map(isSent));
    for (const { id } of reviews)
      await until(`the approved batch ${id} is delivered`, async () => (await totalsOf(`${id}`))['delivered'] === 1);
    expect(await totalsOf(`${cancelled?.id}`)).toMatchObject({ cancelled: 2 });
    for (const { id, totals } of planned) expect(await totalsOf(id)).toEqual(totals);
    ahead += Math.max(...planned.map(({ sendAt }) => Date.parse(sendAt ?? ''))) - clock().getTime() + hourMs;
    await Promise.all(planned.map(isSent));
    for (const { id: accountId } of rowsOf('/accounts'))
      for (const kind of ['report', 'reply', 'audit']) await running.call('POST', '/events/replay', { accountId, kind, state: 'failed' });
    const waiting = owed(({ state, route }) => state === 'failed' || state === 'kept' || (state === 'waiting' && route === 'push'));
    expect(waiting.length).toBeGreaterThan(0);
    await until('what waits is pushed', () => waiting.every((event) => customers.told.includes(event)));

    // New messages go on, in every dialect.
    const numbers = ['13711110000'];
    const template = rowsOf('/templates').find(({ medium, state }) => medium === 'aim' && state === 'approved');
    const ofTemplate = rowsOf('/subscriptions').find(({ accountId, medium }) => accountId === template?.['accountId'] && medium === 'aim');
    const { msg, msgId } = await clientFor(running, ofTemplate?.['spId'], Number(template?.['id'])).submit(numbers);
    expect(msg).toBe('success');
    const { accountId, productId } = rowsOf('/subscriptions').find(({ medium }) => medium === 'mms') ?? {};
    const apiId = rowsOf('/accounts').find(({ id }) => id === accountId)?.['apiId'] ?? '';
    const credentials = { apiId, apiKey: running.directory.byApiId(apiId)?.apiKey ?? '' };
    const { task_id: taskId } = await callMms(running, credentials, 'batchSend', {
      timestamp: Math.floor(clock().getTime() / 1000),
      product_id: productId,
      phone: numbers,
      sign_name: rowsOf('/signatures').find((signature) => signature['accountId'] === accountId)?.['name'],
      title: '升级后',
      content: [[{ con_type: 'text', ext_type: 'txt', data: '您好' }]],
    });
    for (const id of [msgId, String(taskId)]) await until(`batch ${id} is delivered`, async () => (await totalsOf(id))['delivered'] === 1);

    // What nobody reports ends in its time, and the books agree.
    await expireOverdue(running.app.management, new Date(clock().getTime() + 73 * hourMs));
    for (const id of unreported) expect(await running.call('GET', `/messages/${id}`)).toMatchObject({ code: 'EXPIRED' });
    expect(unreported.length).toBeGreaterThan(0);
    expect(await running.audit()).toEqual([]);
    await running.stop();
    customers.close();
    rmSync(dataDir, { recursive: true });
    await database.drop();
  },
  120_000,
);
