/** A sandbox for tests: what `npm start` runs, on a database of the test server, with carriers in a hurry. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type Sandbox, type SandboxOptions, startSandbox } from '../../sandbox/sandbox.ts';
import { createDb } from '../../src/db/db.ts';
import { checkLogs, testLog } from './logs.ts';
import { freshDatabase } from './postgres.ts';

export interface TestSandbox extends Sandbox {
  readonly base: string;
  /** Where it keeps what is not in the database; whatever a test puts there goes with it. */
  readonly dataDir: string;
}

/** Stopping it looks through what it has logged, and leaves nothing behind. */
export async function startTestSandbox(options: Partial<SandboxOptions> = {}): Promise<TestSandbox> {
  const database = await freshDatabase();
  const dataDir = fs.mkdtempSync(path.join(os.tmpdir(), 'hongyan-sandbox-'));
  const sandbox = await startSandbox({
    dataDir,
    databaseUrl: database.url,
    port: 0,
    linkBase: undefined,
    metrics: null,
    pushAllow: [],
    carrierPorts: [],
    log: testLog(),
    reportDelayMs: 20,
    ...options,
  });
  return {
    ...sandbox,
    base: `http://127.0.0.1:${sandbox.port}`,
    dataDir,
    async stop() {
      await sandbox.stop();
      const key = fs.readFileSync(path.join(dataDir, 'secret-key'), 'utf8').trim();
      const db = createDb(database.url, { max: 1 });
      await checkLogs({ db, box: sandbox.app.management.box }, [key, new URL(database.url).password]);
      await db.end();
      await database.drop();
      fs.rmSync(dataDir, { recursive: true, force: true });
    },
  };
}
