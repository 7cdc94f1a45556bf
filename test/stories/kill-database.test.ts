/**
 * The database is killed (SIGKILL of its postmaster) in the middle of a run and comes back. The node recovers by itself; every accepted
 * message is ended, reported and charged exactly once.
 */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { createDb } from '../../src/db/db.ts';
import { startEmbeddedPostgres } from '../../src/db/embedded.ts';
import { migrate } from '../../src/db/migrate.ts';
import { clientOf, createPuller, freePort, plainNumbers, startPlatform, tally, until } from '../kit/platform.ts';

const connections = 2;
const inDoubtPerConnection = 128;
const balanceE4 = 100_000_000n;

/** Durable, unlike the server that tests share. */
async function startDatabase() {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'hongyan-story-'));
  chmodSync(folder, 0o711);
  const options = { dataDir: path.join(folder, 'postgres'), port: await freePort(), log: () => {}, settings: { shared_buffers: '32MB' } };
  let server = await startEmbeddedPostgres(options);
  return {
    url: server.url('postgres'),
    async kill() {
      process.kill(server.pid, 'SIGKILL');
      await server.stop();
    },
    async restart() {
      server = await startEmbeddedPostgres(options);
    },
    async remove() {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

describe.concurrent('SIGKILL of the database', () => {
  it.for([
    { time: 'for a moment', goneMs: 0 },
    { time: 'for longer than the leases last', goneMs: 12_000 },
  ])(
    'a node whose database is gone $time goes on by itself, and keeps every promise it made',
    { timeout: 60_000 },
    async ({ goneMs }, { onTestFinished }) => {
      const database = await startDatabase();
      onTestFinished(() => database.remove());
      const db = createDb(database.url, { max: 1 });
      await migrate(db);
      await db.end();
      const platform = await startPlatform({ databaseUrl: database.url, connections, ratePerSecond: 1000, window: 16 });
      onTestFinished(() => platform.stop());
      const { carrier, shown } = platform;
      const customer = await platform.customer({ balanceE4 });
      const node = await platform.startNode();
      const client = clientOf(node, customer);
      const puller = createPuller(client);

      // Small submits go on throughout; those that meet the outage are told so, and tried again under the same key.
      const accepted: string[] = [];
      const numbers = plainNumbers(5000);
      const submitting = (async () => {
        for (let from = 0; from < numbers.length; from += 100) {
          const part = numbers.slice(from, from + 100);
          for (;;) {
            const { code, msgId } = await client.submit(part, { key: `part ${from}` });
            if (code === 0) {
              accepted.push(...part.map((mobile) => `${msgId}/${mobile}`));
              break;
            }
            expect(code).toBe(10000);
            await sleep(200);
          }
          await sleep(20);
        }
      })();
      await until('messages are sent', () => carrier.counters.submits >= 700);
      await puller.pause();
      await database.kill();
      await sleep(goneMs);
      await database.restart();
      puller.goOn(client);
      await submitting;

      await puller.waitFor(accepted.length, 30_000).catch((error: Error) => {
        throw new Error(`${error.message}\n${node.log()}`);
      });
      await sleep(200);
      await puller.stop();
      expect(puller.rows.map(({ msgId, mobile }) => `${msgId}/${mobile}`).sort()).toEqual(accepted.sort());
      expect(puller.rows.filter(({ status, price }) => status !== 'DELIVRD' || price !== '0.05')).toEqual([]);
      expect(await client.balanceE4()).toBe(balanceE4 - 500n * BigInt(accepted.length));
      expect(await platform.audit()).toEqual([]);
      const repeats = [...tally(shown.map(({ to }) => to)).values()].reduce((sum, times) => sum + times - 1, 0);
      expect(repeats).toBeLessThanOrEqual(inDoubtPerConnection * connections);
      expect(node.process.exitCode).toBeNull();
    },
  );
});
