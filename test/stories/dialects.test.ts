/**
 * Two dialects side by side: a customer who moves from one to the other while events wait, and one who sends by both. Events are handed
 * over in the form in which they were owed, at the URLs of that dialect.
 */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it, type TestContext } from 'vitest';
import { changeAccount, createSubscription, payIn } from '../../src/core/catalogue/accounts.ts';
import { raiseVersion } from '../../src/core/config/directory.ts';
import { change } from '../../src/core/config/management.ts';
import { approveTemplate, createTemplate } from '../../src/core/content/templates.ts';
import { createOutbox } from '../../src/core/events/outbox.ts';
import { searchEvents } from '../../src/core/events/history.ts';
import { dialects } from '../../src/http/dialects/registry.ts';
import { shanghaiDay } from '../../src/std/shanghai.ts';
import { parseReports } from '../kit/customers.ts';
import { demoAccount, startMmsPlatform } from '../kit/mms-platform.ts';
import { clientOf, type Customer, numberOf, type Platform, plainNumbers, startPlatform, until } from '../kit/platform.ts';

/** A customer's server that takes everything. */
async function startServer({ onTestFinished }: TestContext) {
  const received: { readonly path: string; readonly body: string }[] = [];
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      received.push({ path: request.url ?? '', body: Buffer.concat(chunks).toString() });
      response.end('success');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const bodiesAt = (path: string) => received.filter((one) => one.path === path).map(({ body }) => body);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    /** Numbers whose reports came as rows. */
    rows: () => bodiesAt('/rows').flatMap((body) => parseReports(body).map(({ mobile }) => mobile)),
    /** Numbers whose reports came as JSON, one a push. */
    objects: () => bodiesAt('/objects').map((body) => (JSON.parse(body) as { phone: string; code: string }).phone),
  };
}

async function platformOf({ onTestFinished }: TestContext): Promise<Platform> {
  const platform = await startPlatform({ carrier: { slowReportDelayMs: 3000 } });
  onTestFinished(() => platform.stop());
  return platform;
}

/** No dialect of today fits a product of another's, so the row is changed by hand. */
const moveToMms = ({ management }: Platform, { subscriptionId }: Customer) =>
  change(management, async (sql) => {
    await raiseVersion(sql);
    await sql`update subscriptions set written_dialect = 'ihuyi-mms' where id = ${subscriptionId}`;
  });

const ended = (platform: Platform, count: number) =>
  until(`${count} messages have ended`, async () => {
    const [row] = await platform.management.db.sql<{ n: number }[]>`select count(*)::int as n from messages where status >= 10`;
    return row?.n === count;
  });

it('a customer who moves to another dialect has what waits to be pushed pushed in the old form, and what ends later in the new one', async (context) => {
  const [platform, server] = [await platformOf(context), await startServer(context)];
  const { management } = platform;
  const customer = await platform.customer({ pushUrls: { report: `${server.url}/rows` } });
  const app = await platform.startApp({ roles: ['api', 'dispatch'] });
  const client = clientOf(app, customer);
  const [early, late] = [plainNumbers(3), [numberOf('0008')]];
  await client.submit([...early, ...late]);
  await ended(platform, early.length);
  await moveToMms(platform, customer);
  await change(management, (sql) => changeAccount(sql, customer.accountId, { pushUrls: { report: `${server.url}/objects` } }));
  await app.management.directory.refresh();
  expect(await client.submit(plainNumbers(1))).toMatchObject({ code: 10701 });
  await ended(platform, early.length + late.length);

  const pusher = await platform.startApp({ roles: ['push'] });
  await until('all is pushed', () => server.rows().length === early.length && server.objects().length === late.length);
  expect(server.rows().sort()).toEqual(early.sort());
  expect(server.objects()).toEqual(late);
  await until('and recorded', async () => (await management.db.sql`select 1 from parcels`).length === 0);
  expect(await client.reports()).toEqual([]);

  // A replay does not change the form either.
  const { db, directory } = management;
  const today = shanghaiDay(new Date());
  const whole = { subscriptionId: customer.subscriptionId, kind: 'report', fromDay: today, toDay: today } as const;
  expect(await createOutbox({ db, directory, clock: () => new Date() }).replay(customer.accountId, whole)).toBe(4);
  await until('all is pushed again', () => server.rows().length === 2 * early.length && server.objects().length === 2 * late.length);
  await pusher.stop();
  expect(await platform.audit()).toEqual([]);
}, 60_000);

it('… and can still pull by the old calls what waited for them, and only that', async (context) => {
  const platform = await platformOf(context);
  const { management } = platform;
  const customer = await platform.customer();
  const app = await platform.startApp();
  const client = clientOf(app, customer);
  const [early, late] = [plainNumbers(3), [numberOf('0008')]];
  await client.submit([...early, ...late]);
  await ended(platform, early.length);
  await moveToMms(platform, customer);
  await app.management.directory.refresh();
  await ended(platform, early.length + late.length);
  expect((await client.reports()).map(({ mobile }) => mobile).sort()).toEqual(early.sort());
  expect(await client.reports()).toEqual([]);

  // The new dialect has no pull, and its account no URL: that one is kept.
  const today = shanghaiDay(new Date());
  const filter = { kind: 'report', subscriptionId: null, state: 'kept', phone: null, batchId: null, fromDay: today, toDay: today } as const;
  const kept = await searchEvents(management.db.sql, dialects, customer.accountId, filter, { limit: 10, cursor: null });
  expect(kept.data.map(({ phone }) => phone)).toEqual(late);
  expect(await platform.audit()).toEqual([]);
}, 60_000);

it('an account with products of two dialects hears of each at its own URL, in its own form', async (context) => {
  const [platform, server] = [await startMmsPlatform(), await startServer(context)];
  context.onTestFinished(() => platform.stop());
  const { management } = platform.app;
  const plain = { layout: 'image_text', title: '优惠券', text: '满减', media: [{ type: 'image', url: 'https://img.example/a.png' }] };
  const credentials = await change(management, async (sql) => {
    const { subscription, password } = await createSubscription(sql, management, {
      accountId: demoAccount,
      productId: 3001n,
      priceE4: 500n,
      pushUrls: { report: `${server.url}/rows` },
    });
    await payIn(sql, subscription.id, { amountE4: 1_000_000n, note: null, at: platform.clock(), idempotencyKey: null });
    await createTemplate(sql, { id: 901n, accountId: demoAccount, name: '卡片', card: plain });
    await approveTemplate(sql, dialects, 901n, platform.clock());
    return { spId: String(subscription.spId), password: password ?? '' };
  });
  await platform.pushTo({ report: `${server.url}/objects` });

  const cards = await clientOf({ port: platform.port }, { ...credentials, templateId: 901n }).submit(['13800000005', '13800000006']);
  const packages = await platform.mms('batchSend', {
    product_id: 1018,
    phone: ['13800000005', '13800000007'],
    sign_name: '鸿雁',
    title: '标题',
    content: [[{ con_type: 'text', ext_type: 'txt', data: '你好' }]],
  });
  await platform.deliver(BigInt(cards.msgId));
  await platform.deliver(BigInt(String(packages.json['task_id'])));
  await until('all is pushed', () => server.rows().length === 2 && server.objects().length === 2);
  expect(server.rows().sort()).toEqual(['13800000005', '13800000006']);
  expect(server.objects().sort()).toEqual(['13800000005', '13800000007']);
  await until('and recorded', async () => (await management.db.sql`select 1 from parcels`).length === 0);
}, 60_000);
