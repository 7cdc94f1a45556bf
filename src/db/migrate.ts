// Brings the schema up to date: applies the numbered SQL files in src/db/migrations in order. An applied file is never edited.
//
// It refuses rather than guesses: a changed file, a gap, or a database of a newer version prevents the start.
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { packageRoot } from '../std/package-root.ts';
import type { Db } from './db.ts';

interface Migration {
  version: number;
  /** The file's name without `.sql`. */
  name: string;
  text: string;
  checksum: string;
}

/** Any number works, as long as every version of the code uses the same one. */
const lockKey = 0x686f6e67;

/**
 * Applies the missing files, each in its own transaction, and returns their names. Nodes that start together wait for each other. If a
 * file fails, the files before it stay applied.
 */
export async function migrate(db: Db, folder: string = path.join(packageRoot(), 'src/db/migrations')): Promise<string[]> {
  const migrations = await readMigrations(folder);
  const applied: string[] = [];
  // Each file has its own transaction, which takes the lock again and looks for the next missing file, so nodes may alternate.
  for (;;) {
    const name = await db.transaction((sql) => applyNext(sql, migrations));
    if (name === undefined) return applied;
    applied.push(name);
  }
}

async function applyNext(sql: Db['sql'], migrations: readonly Migration[]): Promise<string | undefined> {
  await sql`select set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)`;
  await sql`select pg_advisory_xact_lock(${lockKey})`;
  await sql`
    create table if not exists schema_migrations (
      version integer primary key,
      name text not null,
      checksum text not null,
      applied_at timestamptz not null default now())`;
  const recorded = await sql<{ version: number; name: string; checksum: string }[]>`
    select version, name, checksum from schema_migrations order by version`;

  for (const row of recorded) {
    const migration = migrations[row.version - 1];
    if (!migration) {
      throw new Error(`the database is newer than this program: it has migration ${row.name}; install the version that brought it`);
    }
    if (migration.checksum !== row.checksum) {
      throw new Error(`migration ${migration.name} was changed after it had been applied; restore the file and add a new one instead`);
    }
  }

  const next = migrations[recorded.length];
  if (!next) return undefined;
  try {
    await sql.unsafe(next.text);
  } catch (error) {
    throw new Error(`migration ${next.name} failed: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  await sql`insert into schema_migrations (version, name, checksum) values (${next.version}, ${next.name}, ${next.checksum})`;
  return next.name;
}

async function readMigrations(folder: string): Promise<Migration[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.sql')).sort();
  return Promise.all(
    files.map(async (file, index) => {
      const version = Number(/^(\d{4})_[a-z0-9_]+\.sql$/.exec(file)?.[1]);
      if (version !== index + 1) {
        throw new Error(`${file}: migrations are named NNNN_name.sql and numbered from 0001 without a gap`);
      }
      // Line endings must not change the checksum: git may convert them on checkout.
      const text = (await readFile(path.join(folder, file), 'utf8')).replaceAll('\r\n', '\n');
      return { version, name: file.slice(0, -'.sql'.length), text, checksum: createHash('sha256').update(text).digest('hex') };
    }),
  );
}
