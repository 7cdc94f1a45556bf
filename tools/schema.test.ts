import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createDb, type Db } from '../src/db/db.ts';
import { type FreshDatabase, freshDatabase } from '../test/kit/postgres.ts';
import { dumpSchema, schemaFile } from './dump-schema.ts';

let database: FreshDatabase;
let db: Db;

beforeAll(async () => {
  database = await freshDatabase();
  db = createDb(database.url, { max: 1 });
});

afterAll(async () => {
  await db.end();
  await database.drop();
});

it('src/db/schema.sql is what the migrations make (if not: npm run db:dump, and read the diff)', async () => {
  expect(await dumpSchema(db.sql)).toBe(readFileSync(schemaFile, 'utf8'));
});

it('the dump shows what a review must see, and not the partitions', async () => {
  await db.sql.unsafe(`
    create sequence probe_ids start with 7;
    create table probe (
      id bigint not null default nextval('probe_ids'), day date not null, name text collate "C" check (name <> ''),
      primary key (id, day)) partition by range (day);
    create index probe_by_name on probe (name) where name is not null;
    create table probe_20260101 partition of probe for values from ('2026-01-01') to ('2026-01-02');
    create table probe_hot (id bigint) with (fillfactor = 50, autovacuum_vacuum_threshold = 7);`);
  const text = await dumpSchema(db.sql);
  for (const part of [
    'create sequence probe_ids start with 7 increment by 1;',
    `  id bigint not null default nextval('probe_ids'::regclass),`,
    '  name text collate "C",',
    '  constraint probe_pkey PRIMARY KEY (id, day),',
    '  constraint probe_name_check CHECK',
    ') partition by RANGE (day);',
    'CREATE INDEX probe_by_name ON',
    ') with (fillfactor=50, autovacuum_vacuum_threshold=7);',
  ]) {
    expect(text).toContain(part);
  }
  expect(text).not.toContain('probe_20260101');
});
