// vitest's global set-up: one PostgreSQL for the whole run, with a template database that has every migration applied.
// It is removed without trace at the end; what a killed run left behind is removed by the next one.
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import { createDb } from '../../src/db/db.ts';
import { startEmbeddedPostgres, stopOrphan } from '../../src/db/embedded.ts';
import { migrate } from '../../src/db/migrate.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** A URL of the shared server; freshDatabase makes others of it. */
    serverUrl: string;
  }
}

const prefix = 'hongyan-test-server-';
const quiet = () => {};

export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  await removeLeftovers();
  const folder = mkdtempSync(path.join(os.tmpdir(), prefix));
  chmodSync(folder, 0o711); // under root the server runs as another account, which must be able to pass
  const server = await startEmbeddedPostgres({
    dataDir: path.join(folder, 'postgres'),
    log: quiet,
    // Nobody keeps this data, so it need not survive a power cut. Tests about durability start a server of their own.
    settings: { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', shared_buffers: '128MB', max_connections: 200 },
  }).catch((error: unknown) => {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  });
  const stop = async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const maintenance = createDb(server.url('postgres'), { max: 1 });
    await maintenance.sql.unsafe('create database template_hongyan');
    await maintenance.end();
    const template = createDb(server.url('template_hongyan'), { max: 1 });
    await migrate(template);
    await template.end();
  } catch (error) {
    await stop();
    throw error;
  }
  provide('serverUrl', server.url('postgres'));
  return stop;
}

async function removeLeftovers(): Promise<void> {
  for (const name of readdirSync(os.tmpdir()).filter((entry) => entry.startsWith(prefix))) {
    const folder = path.join(os.tmpdir(), name);
    const dataDir = path.join(folder, 'postgres');
    // A folder without an owner file may be another run's that is just starting: leave it.
    if (existsSync(path.join(dataDir, 'owner')) && (await stopOrphan(dataDir, quiet))) rmSync(folder, { recursive: true, force: true });
  }
}
