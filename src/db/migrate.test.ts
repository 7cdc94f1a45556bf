import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type FreshDatabase, freshDatabase } from '../../test/kit/postgres.ts';
import { packageRoot } from '../std/package-root.ts';
import { createDb, type Db } from './db.ts';
import { migrate } from './migrate.ts';

let folder: string;
let database: FreshDatabase;
let db: Db;

beforeEach(async () => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'hongyan-migrate-'));
  database = await freshDatabase({ empty: true });
  db = createDb(database.url, { max: 3 });
});

afterEach(async () => {
  await db.end();
  await database.drop();
  rmSync(folder, { recursive: true });
});

const write = (name: string, text: string) => writeFileSync(path.join(folder, name), text);
const tables = async () =>
  (
    await db.sql<
      { name: string }[]
    >`select relname as name from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1`
  ).map((row) => row.name);

it('applies what is missing, in order, and then nothing', async () => {
  write('0001_first.sql', 'create table a (); create table b ();');
  expect(await migrate(db, folder)).toEqual(['0001_first']);
  write('0002_second.sql', 'alter table a rename to c;');
  write('0003_third.sql', 'create table a ();');
  expect(await migrate(db, folder)).toEqual(['0002_second', '0003_third']);
  expect(await migrate(db, folder)).toEqual([]);
  expect(await tables()).toEqual(['a', 'b', 'c', 'schema_migrations']);
});

it('nodes that start together apply each file once', async () => {
  write('0001_first.sql', 'select pg_sleep(0.1); create table a ();');
  write('0002_second.sql', 'create table b ();');
  const applied = await Promise.all([migrate(db, folder), migrate(db, folder), migrate(db, folder)]);
  expect(applied.flat().sort()).toEqual(['0001_first', '0002_second']);
});

it('a file that fails leaves no trace, names itself, and may be mended', async () => {
  write('0001_first.sql', 'create table a ();');
  write('0002_second.sql', 'create table b (); create table a ();');
  await expect(migrate(db, folder)).rejects.toThrow('migration 0002_second failed: relation "a" already exists');
  expect(await tables()).toEqual(['a', 'schema_migrations']);
  write('0002_second.sql', 'create table b ();');
  expect(await migrate(db, folder)).toEqual(['0002_second']);
});

it('refuses a file that was changed after it had been applied, unless only its line endings were', async () => {
  write('0001_first.sql', 'create table a\n();\n');
  await migrate(db, folder);
  write('0001_first.sql', 'create table a\r\n();\r\n');
  expect(await migrate(db, folder)).toEqual([]);
  write('0001_first.sql', 'create table a (); -- better');
  await expect(migrate(db, folder)).rejects.toThrow('0001_first was changed');
});

it('refuses a database that is newer than the code', async () => {
  write('0001_first.sql', 'create table a ();');
  write('0002_second.sql', 'create table b ();');
  await migrate(db, folder);
  rmSync(path.join(folder, '0002_second.sql'));
  await expect(migrate(db, folder)).rejects.toThrow('the database is newer than this program: it has migration 0002_second');
});

it('refuses gaps, twins and odd names', async () => {
  write('0002_second.sql', '');
  await expect(migrate(db, folder)).rejects.toThrow('numbered from 0001 without a gap');
  write('0001_first.sql', '');
  write('0001_twin.sql', '');
  await expect(migrate(db, folder)).rejects.toThrow('without a gap');
  rmSync(path.join(folder, '0001_twin.sql'));
  write('3_third.sql', '');
  await expect(migrate(db, folder)).rejects.toThrow('NNNN_name.sql');
});

it('finds the migrations of the package by itself', async () => {
  const names = readdirSync(path.join(packageRoot(), 'src/db/migrations')).map((file) => file.replace('.sql', ''));
  expect(await migrate(db)).toEqual(names.sort());
});
