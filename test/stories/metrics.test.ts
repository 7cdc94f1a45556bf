/**
 * The figures that an operator's Prometheus finds at /metrics: they are true, on every node, without a query of the tables at every
 * scrape.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { pino } from 'pino';
import { expect, it } from 'vitest';
import { type App, connectionsPerNode } from '../../src/app.ts';
import { clientOf, numberOf, type Platform, plainNumbers, startPlatform, until } from '../kit/platform.ts';

const metrics = { host: '127.0.0.1', port: 0 };

async function textOf({ metricsPort }: App): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${String(metricsPort)}/metrics`);
  expect(response.status).toBe(200);
  return response.text();
}

/** The value of a line, `name{label="value",…}`; undefined if there is none. */
async function scrape(app: App): Promise<(line: string) => number | undefined> {
  const values = new Map(
    (await textOf(app)).split('\n').flatMap((line) => {
      const [, name, value] = /^(hongyan_\S+(?: \S+)*) (\S+)$/.exec(line) ?? [];
      return name === undefined ? [] : [[name, Number(value)]];
    }),
  );
  return (line) => values.get(line);
}

const lookAnew = ({ management }: Platform) => management.db.sql`update figures set at = '-infinity'`;

it('/metrics tells what waits, where and for how long, what was refused, and what the connections do', async ({ onTestFinished }) => {
  const platform = await startPlatform();
  onTestFinished(() => platform.stop());
  const { carrier, management } = platform;
  const { sql } = management.db;
  // Nobody pushes, so what is to be pushed waits.
  const roles = ['api', 'dispatch', 'janitor'] as const;
  const app = await platform.startApp({ roles, metrics });
  const pulling = await platform.customer();
  const pushed = await platform.customer({ pushUrls: { report: 'http://127.0.0.1:9/' } });
  const client = clientOf(app, pulling);
  await until('both connections are up', () => carrier.sessions === 2);

  await client.submit([...plainNumbers(8), numberOf('0005'), '12']);
  await clientOf(app, pushed).submit(plainNumbers(5, 1));
  const wrong = await clientOf(app, { ...pulling, password: 'wrong' }).submit(plainNumbers(1));
  expect(wrong.code).toBe(10102);
  await sql`
    insert into orphan_reports (channel_id, carrier_id, code, delivered, phone, received_at, next_try_at)
    values (${platform.channelId}, 'nobody', 'DELIVRD', true, '1', now(), 'infinity')`;
  await sql`
    insert into replies (account_id, id, channel_id, phone, dest, ext, content, opt_out, received_at)
    values (0, 1, ${platform.channelId}, 1, '1', '', '?', false, now())`;
  await until('all have ended', async () => (await sql`select unnest(indexes) from parcels`).length === 15);

  const first = await scrape(app);
  const of = (customer: { accountId: bigint; subscriptionId: bigint }) =>
    `{account="${customer.accountId}",subscription="${customer.subscriptionId}",kind="report"}`;
  expect(first('hongyan_database_up')).toBe(1);
  expect(first('hongyan_accepted_total{medium="aim"}')).toBe(14);
  expect(first('hongyan_intercepted_total{code="WL:CWHM"}')).toBe(1);
  expect(first('hongyan_refused_total{dialect="aim",code="10102"}')).toBe(1);
  expect(first('hongyan_sent_total{channel="1"}')).toBe(13);
  expect(first('hongyan_rejected_total{channel="1"}')).toBe(1);
  expect(first('hongyan_reports_total')).toBe(13);
  expect(first('hongyan_in_doubt_total')).toBe(0);
  expect(first(`hongyan_pull_waiting_events${of(pulling)}`)).toBe(10);
  expect(first(`hongyan_push_waiting_events${of(pushed)}`)).toBe(5);
  expect(first(`hongyan_push_oldest_seconds${of(pushed)}`)).toBeGreaterThan(0);
  expect(first('hongyan_open_orphan_reports{channel="1"}')).toBe(1);
  expect(first('hongyan_unassigned_replies')).toBe(1);
  expect(first('hongyan_channel_connections{channel="1",state="up"}')).toBe(2);
  expect(first('hongyan_channel_connections_configured{channel="1"}')).toBe(2);
  expect(first('hongyan_channel_nodes{channel="1"}')).toBe(1);
  expect(first('hongyan_leases{channel="1"}')).toBe(2);
  expect(first('hongyan_queue_messages{channel="1",state="waiting"}')).toBe(0);
  expect(first('hongyan_queue_oldest_seconds{channel="1"}')).toBe(0);
  expect(first('hongyan_partition_days_ahead')).toBeGreaterThanOrEqual(30);
  expect(first('hongyan_database_size_bytes')).toBeGreaterThan(1e6);
  expect(first('hongyan_db_pool_connections{pool="carriers"}')).toBe(6);
  expect(first('hongyan_db_transactions{pool="requests"}')).toBeGreaterThanOrEqual(0);
  expect(first('hongyan_db_transaction_seconds_count{pool="carriers",outcome="committed"}')).toBeGreaterThan(0);
  expect(first('hongyan_db_wait_seconds_count{pool="requests"}')).toBeGreaterThan(0);
  expect(first('hongyan_http_request_seconds_count{part="/api",status="200"}')).toBe(3);

  // What the operator's page names is there.
  const page = readFileSync(new URL('../../docs/operating.md', import.meta.url), 'utf8');
  const named = [...page.matchAll(/\b(?:hongyan|nodejs)_[a-z0-9_]+/g)].map(([name]) => name.replace(/_(bucket|count)$/, ''));
  expect(named.length).toBeGreaterThan(30);
  const known = new Set([...(await textOf(app)).matchAll(/^# HELP (\S+)/gm)].map(([, name]) => name));
  expect(named.filter((name) => !known.has(name))).toEqual([]);

  // The carrier goes away, and what is submitted waits.
  await carrier.stop();
  await client.submit(plainNumbers(7, 2));
  const pulledRows = await client.reports();
  const [queued] = await sql<{ readyAt: Date }[]>`select ready_at as "readyAt" from dispatch_queue`;
  await until('the connections are down', async () => (await sql`select from channel_leases where state = 'up'`).length === 0);
  await lookAnew(platform);
  const second = await scrape(app);
  expect(second('hongyan_queue_messages{channel="1",state="waiting"}')).toBe(7);
  const age = second('hongyan_queue_oldest_seconds{channel="1"}') ?? 0;
  expect(age).toBeGreaterThan(0);
  expect(age).toBeLessThanOrEqual((Date.now() - (queued?.readyAt.getTime() ?? 0)) / 1000);
  expect(second('hongyan_channel_connections{channel="1",state="up"}')).toBe(0);
  expect(pulledRows.length).toBe(10);
  expect(second('hongyan_pulled_total')).toBe(10);
  expect(second(`hongyan_pull_waiting_events${of(pulling)}`)).toBeUndefined();
});

it('however many nodes are asked, one of them reads the tables, and all show what it found', async ({ onTestFinished }) => {
  const platform = await startPlatform();
  onTestFinished(() => platform.stop());
  const { sql } = platform.management.db;
  const apps = await Promise.all([1, 2].map(() => platform.startApp({ roles: ['api'], metrics })));
  await platform.customer();
  const readings = async () => new Set((await sql<{ at: Date }[]>`select at from figures`).map(({ at }) => at.getTime()));
  await Promise.all(apps.map(scrape));
  const before = await readings();
  const shown = await Promise.all(Array.from({ length: 10 }, (_, i) => scrape(apps[i % 2] as App)));
  expect(await readings()).toEqual(before);
  expect(new Set(shown.map((value) => value('hongyan_database_size_bytes'))).size).toBe(1);
  expect(shown.map((value) => value('hongyan_figures_age_seconds') ?? -1).every((age) => age >= 0 && age < 10)).toBe(true);
  // Once they are old they are read anew.
  await lookAnew(platform);
  await Promise.all(apps.map(scrape));
  expect(await readings()).not.toEqual(before);
});

it('a node takes no more connections to PostgreSQL than it says, and warns at its start if it may not get them', async ({
  onTestFinished,
}) => {
  const platform = await startPlatform({ connections: 8, ratePerSecond: 5000, window: 64 });
  onTestFinished(() => platform.stop());
  const { sql } = platform.management.db;
  const role = `story_${randomBytes(6).toString('hex')}`;
  await sql.unsafe(`create role ${role} login password 'story' connection limit ${connectionsPerNode - 1} in role hongyan`);
  onTestFinished(async () => void (await sql.unsafe(`reassign owned by ${role} to hongyan; drop role ${role}`)));
  const url = new URL(platform.databaseUrl);
  url.username = role;
  url.password = 'story';
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: 'warn' }, { write: (line) => void lines.push(JSON.parse(line)) });
  const warned = (): unknown[] => lines.filter(({ needed }) => needed !== undefined);
  const tight = await platform.startApp({ databaseUrl: url.href, log, metrics });
  expect(warned()).toMatchObject([{ limit: `the limit of role ${role}`, needed: connectionsPerNode }]);
  await tight.stop();

  lines.length = 0;
  await sql.unsafe(`alter role ${role} connection limit ${connectionsPerNode + 2}`);
  const app = await platform.startApp({ databaseUrl: url.href, log, metrics });
  expect(warned()).toEqual([]);
  const customer = await platform.customer();
  let most = 0;
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      const [row] = await sql<{ n: number }[]>`select count(*)::int as n from pg_stat_activity where usename = ${role}`;
      most = Math.max(most, row?.n ?? 0);
    }
  })();
  const client = clientOf(app, customer);
  const pool = plainNumbers(2000);
  await Promise.all(
    Array.from({ length: 40 }, async (_, i) => {
      expect((await client.submit(pool.slice(i * 50, i * 50 + 50), { key: String(i) })).code).toBe(0);
      await scrape(app);
    }),
  );
  isOver = true;
  await watching;
  expect(most).toBeLessThanOrEqual(connectionsPerNode);
  expect(most).toBeGreaterThanOrEqual(connectionsPerNode - 4); // so that the number means something
  await app.stop();
});
