import { describe, expect, it } from 'vitest';
import type { Table } from '../../src/db/tables.ts';
import { parse } from './source.ts';
import { checkKeys, checkSchema, checkUses, checkWritingTests, staleFormerTables } from './tables.ts';

const parsed = (file: string, text: string) => parse({ file, text });

const ledger = 'src/core/money/ledger.ts';
const table = (distribution: Table['distribution'], writer = ledger, readers: readonly string[] = []): Table => ({
  distribution,
  writer,
  readers,
});

describe('the checks of tables', () => {
  const tables = { balances: table('account', ledger, ['src/core/watch']) };
  const writes = parsed(ledger, 'sql<{ a: bigint }[]>`with x as (update balances set a = ${b} returning 1) select 1`;');
  const reads = parsed('src/core/watch/audit.ts', 'const from = sql`balances b`; sql`select 1 from ${from}`;');

  it('uses: as listed', () => expect(checkUses([writes, reads], tables)).toEqual([]));

  it('uses: a second writer, in a template, a fragment or a string', () => {
    const complaint = (file: string) => [`${file} writes balances, which belongs to ${ledger}`];
    for (const statement of [
      'db.sql`insert into balances values (${1})`',
      'sql.unsafe("delete from balances")',
      'sql`with a as (select 1), b as materialized (delete from balances b returning 1) select 1`',
    ])
      expect(checkUses([writes, reads, parsed('src/workers/a.ts', statement)], tables)).toEqual(complaint('src/workers/a.ts'));
  });

  it('uses: a reader that is not listed, from, joined or in brackets', () => {
    for (const statement of [
      'sql`select 1 from balances`',
      'sql`select 1 from accounts a left join balances b on true`',
      'sql`select (select 1 from x, balances)`',
      'f(sql, sql`balances`)',
    ])
      expect(checkUses([writes, reads, parsed('sandbox/a.ts', statement)], tables)).toHaveLength(1);
    const own = parsed('src/core/money/b.ts', 'sql`select 1 from balances`');
    const cte = parsed('sandbox/a.ts', 'sql`with balances as (select 1) select 1 from balances`');
    expect(checkUses([writes, reads, own, cte], tables)).toEqual([]);
  });

  it('uses: a writer and a reader that are none', () => {
    expect(checkUses([], tables)).toEqual([
      'src/core/money/ledger.ts does not write balances',
      'src/core/watch does not read balances: take it off the readers',
    ]);
    const outside = { balances: table('account', 'src/workers/a.ts') };
    expect(checkUses([parsed('src/workers/a.ts', 'sql`truncate balances`')], outside)).toHaveLength(1);
  });

  it('uses: locking and upserting are no update', () => {
    const text =
      'sql`select 1 from balances for update skip locked; select 2 from batches for no key update; insert into x (id) values (1) on conflict do update set id = 2`;';
    expect(checkUses([writes, reads, parsed('src/core/watch/a.ts', text)], tables)).toEqual([]);
  });

  it('writing tests: elsewhere than beside the writer, and exceptions that match nothing', () => {
    const beside = parsed('src/core/money/ledger.test.ts', 'sql`delete from balances`');
    const story = parsed('test/stories/a.test.ts', 'sql`delete from balances`');
    expect(checkWritingTests([beside, story], tables, [])).toEqual([
      `test/stories/a.test.ts writes balances: ask ${ledger}, or add it to the exceptions`,
    ]);
    const exceptions = [{ place: 'test/stories', writes: ['balances'] }];
    expect(checkWritingTests([beside, story], tables, exceptions)).toEqual([]);
    expect(checkWritingTests([beside], tables, exceptions)).toEqual(['test/stories does not write balances: take it off the exceptions']);
  });

  it('schema: the same tables, each with its column', () => {
    expect(checkSchema('create table balances (account_id bigint not null)', tables)).toEqual([]);
    expect(checkSchema('create table balances (id bigint); create table b (id int)', tables)).toEqual([
      'b is missing from src/db/tables.ts',
      'balances has no account_id',
    ]);
    expect(checkSchema('', tables)).toEqual(['src/db/tables.ts lists balances, which is no table']);
  });

  it('former tables: those that no migration made', () => {
    expect(staleFormerTables('', {})).not.toEqual([]);
    expect(staleFormerTables('create table events (id int); create table waiting_events (id int)', {})).toEqual([]);
  });

  const spread = { hot: table('account'), queue: table('channel'), accounts: table('reference') };

  it.each([
    'create table hot (id bigint primary key, account_id bigint)',
    'create table hot (account_id bigint, id bigint, primary key (id))',
    'create table hot (account_id bigint, name text unique, primary key (account_id, id))',
    'create table hot (account_id bigint, name text, primary key (account_id, name), unique nulls not distinct (name))',
    'create unique index hot_name on hot (name)',
    'create unique index hot_name on only hot using btree (name, id) where id > 0',
  ])('keys: %s', (migration) => expect(checkKeys('a.sql', migration, spread)).toHaveLength(1));

  it('keys: nothing against those that hold the column, nor against configuration', () => {
    const migration = `create table hot (account_id bigint, id numeric(4, 2), primary key (id, account_id));
      create table queue (channel_id bigint primary key); create table accounts (id bigint primary key, api_id text unique);
      create unique index hot_name on hot (lower(name), account_id);`;
    expect(checkKeys('a.sql', migration, spread)).toEqual([]);
  });

  it('keys: of a queue table they hold channel_id, of one that is gone either', () => {
    expect(checkKeys('a.sql', 'create table queue (account_id bigint primary key)', spread)).toHaveLength(1);
    expect(checkKeys('a.sql', 'create table gone (account_id bigint primary key)', spread)).toEqual([]);
    expect(checkKeys('a.sql', 'create table gone (id bigint primary key)', spread)).toHaveLength(1);
  });
});
