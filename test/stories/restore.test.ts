/**
 * The database is lost and restored from a base backup that was made while messages were being sent. The books agree. Messages that may
 * have been sent since are not sent again where the product forbids it. New messages go on, under ids that were never given before.
 */
import { chmodSync, chownSync, cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { createDb } from '../../src/db/db.ts';
import { startEmbeddedPostgres } from '../../src/db/embedded.ts';
import { migrate } from '../../src/db/migrate.ts';
import { clientOf, createPuller, freePort, plainNumbers, runCommand, startPlatform, tally, until } from '../kit/platform.ts';

const settings = { shared_buffers: '32MB' };
const quiet = (): void => {};

/** A base backup as PostgreSQL's manual describes it, by hand: the files while the server writes to them, and the log until the end. */
async function backUp(url: string, from: string, to: string): Promise<void> {
  const db = createDb(url, { max: 1 });
  await db.sql`select pg_backup_start('story', true)`;
  mkdirSync(to, { mode: 0o700 });
  cpSync(from, to, { recursive: true, filter: (file) => !['pg_wal', 'postmaster.pid'].includes(path.basename(file)) });
  const [end] = await db.sql<{ label: string }[]>`select labelfile as label from pg_backup_stop(false)`;
  cpSync(path.join(from, 'pg_wal'), path.join(to, 'pg_wal'), { recursive: true });
  writeFileSync(path.join(to, 'backup_label'), end?.label ?? '');
  await db.end();
  const { uid, gid } = statSync(from);
  for (const file of ['.', ...(readdirSync(to, { recursive: true }) as string[])]) chownSync(path.join(to, file), uid, gid);
}

it('after a restore the audit is clean, what was due is in doubt, and messages go on', async ({ onTestFinished }) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'hongyan-story-'));
  chmodSync(folder, 0o711);
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const port = await freePort(); // the restored server takes the place of the lost one
  const lost = path.join(folder, 'lost');
  const restored = path.join(folder, 'restored');
  const server = await startEmbeddedPostgres({ dataDir: lost, port, log: quiet, settings });
  // The platform, whose books are looked at when it stops, needs a server until then.
  let running = server;
  onTestFinished(() => running.stop());
  const db = createDb(server.url('postgres'), { max: 1 });
  await migrate(db);
  await db.end();

  const platform = await startPlatform({ databaseUrl: server.url('postgres'), ratePerSecond: 500, window: 16 });
  onTestFinished(() => platform.stop());
  const { carrier, shown } = platform;
  const customer = await platform.customer({ inDoubt: 'give_up' });
  const first = await platform.startNode();
  const numbers = plainNumbers(3000);
  const before = await clientOf(first, customer).submit(numbers);
  expect(before.code).toBe(0);
  await until('messages are sent', () => carrier.counters.submits >= 500);
  mkdirSync(restored, { mode: 0o711 });
  cpSync(path.join(lost, 'password'), path.join(restored, 'password'));
  await backUp(server.url('postgres'), path.join(lost, 'cluster'), path.join(restored, 'cluster'));
  const atBackup = carrier.counters.submits;
  expect(atBackup).toBeLessThan(numbers.length);
  // The world goes on, and is forgotten.
  const forgotten = await clientOf(first, customer).submit(plainNumbers(10, 1));
  await until('more is sent', () => carrier.counters.submits >= Math.min(atBackup + 500, numbers.length));
  await first.kill();
  await server.stop();

  const again = await startEmbeddedPostgres({ dataDir: restored, port, log: quiet, settings });
  running = again;
  // The password is the same, and so is the address.
  expect(again.url('postgres')).toBe(server.url('postgres'));
  const environment = { HONGYAN_DATABASE_URL: again.url('postgres') };
  await until('the node that was killed counts no more', async () => (await runCommand(['restored'], environment)).exitCode === 0, 30_000);
  expect(await runCommand(['audit'], environment)).toMatchObject({ exitCode: 0 });

  const second = await platform.startNode();
  const client = clientOf(second, customer);
  const puller = createPuller(client);
  onTestFinished(() => puller.stop());
  const after = await client.submit(plainNumbers(20, 2));
  expect(after.code).toBe(0);
  expect(Number(after.msgId)).toBeGreaterThan(Number(forgotten.msgId));
  await until('what is new is reported', () => puller.rows.filter(({ msgId }) => msgId === after.msgId).length === 20, 30_000);
  // Reports that came between backup and loss were acknowledged, and do not come again.
  await platform.expireOverdue(new Date(Date.now() + 73 * 3600_000));
  await puller.waitFor(numbers.length + 20);

  const statuses = tally(puller.rows.filter(({ msgId }) => msgId === before.msgId).map(({ status }) => status));
  expect(statuses.get('UNKNOWN')).toBeGreaterThan(0);
  expect([...statuses.values()].reduce((sum, n) => sum + n, 0)).toBe(numbers.length);
  expect(puller.rows.filter(({ msgId }) => msgId === after.msgId).map(({ status }) => status)).toEqual(Array(20).fill('DELIVRD'));
  // What was given up is not sent again.
  expect([...tally(shown.map(({ to }) => to)).values()].filter((times) => times > 1)).toEqual([]);
  expect(await platform.audit()).toEqual([]);
}, 90_000);
