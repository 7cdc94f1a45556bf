/** What management works with, on a database of its own; for tests of the core modules behind the management API. */
import { kindRules } from '../../src/channels/kinds.ts';
import { createDirectory } from '../../src/core/config/directory.ts';
import type { Management } from '../../src/core/config/management.ts';
import { dialects } from '../../src/http/dialects/registry.ts';
import { createDb } from '../../src/db/db.ts';
import { createSecretBox, generateKey } from '../../src/std/secret-box.ts';
import { freshDatabase } from './postgres.ts';

export interface TestManagement extends Management {
  /** For a second pool, as another node has one. */
  readonly databaseUrl: string;
  stop(): Promise<void>;
}

export async function startManagement(): Promise<TestManagement> {
  const database = await freshDatabase();
  const db = createDb(database.url);
  const box = createSecretBox(generateKey());
  const directory = createDirectory({ db, box, dialects });
  await directory.start();
  return {
    db,
    box,
    directory,
    kinds: kindRules,
    databaseUrl: database.url,
    async stop() {
      await directory.stop();
      await db.end();
      await database.drop();
    },
  };
}
