import { describe, expect, it } from 'vitest';
import type { Table } from '../../src/db/tables.ts';
import { checkCommands, checkQueries, checkShapes, shapesInSpiteOf } from './shapes.ts';

describe('the checks of shapes', () => {
  it.each([
    `update batches set id = nextval('ids')`,
    'with a as (update batches set x = random() returning 1) select 1',
    'update batches set x = clock_timestamp() where id = ?',
    'update batches set x = 1 where created_at::date = ?',
    'insert into batches values (1) on conflict (id) do update set at = now()',
    'merge into batches using x on true when matched then delete',
    'delete from batches where ctid = any(?)',
    'alter table batches detach partition b concurrently',
    'select 1 from unnest(?) as x, lateral (select 1 from b limit 1) as y',
    'create table a (id bigserial)',
    'create table a (id bigint generated always as identity)',
    'create constraint trigger t after insert on a execute function f()',
  ])('shapes: %s', (sql) => expect(checkShapes('a.ts', [sql])).toHaveLength(1));

  it.each([
    'with a as (update batches set x = now() returning id) insert into b select random(), clock_timestamp() from a',
    'update batches set x = 1 where day = ?::date returning nextval(?)',
    'insert into b values (now()) on conflict (id) do update set at = excluded.at',
    'select id from batches where x < random() for update skip locked',
  ])('shapes: nothing against %s', (sql) => expect(checkShapes('a.ts', [sql])).toEqual([]));

  it.each([
    'update parcels p set indexes = p.indexes[ : ?] where id = ?',
    'update parcels set indexes = indexes[?::int : ]',
    `update channels set tries = case health when 'down' then 1 else 0 end`,
    'update channels set at = case when forced is null then now() end',
    'update channels set at = coalesce(at, now()) where id = ?',
    'update batches b set frozen = jsonb_build_object(b.totals) where id = ?',
    'update channels c set at = now() + make_interval(secs => c.tries) where id = ?',
  ])('shapes of UPDATE: %s', (sql) => expect(checkShapes('a.ts', [sql])).toHaveLength(1));

  it.each([
    `update parcels set indexes = coalesce(indexes[ : ?], '{}') where id = ?`,
    'update parcels set first = indexes[?::int], others = x.indexes[1:2] from x',
    `update channels set tries = case when health = 'down' then 1 else 0 end, at = now()`,
    'update channels set at = case when forced is null then present.at end from (select now() as at) as present where until > now()',
    'update batches b set frozen = e.totals from ends e where b.id = e.id returning jsonb_build_object(b.id)',
    'update channels set at = now() + make_interval(secs => ?)',
  ])('shapes of UPDATE: nothing against %s', (sql) => expect(checkShapes('a.ts', [sql])).toEqual([]));

  const table = (distribution: Table['distribution']): Table => ({ distribution, writer: '', readers: [] });
  const tables = {
    batches: table('account'),
    chunks: table('account'),
    dispatch_queue: table('channel'),
    leases: table('channel'),
    accounts: table('reference'),
    figures: table('local'),
  };

  it.each([
    'select 1 from batches where id = ? for update',
    'select 1 from batches where account_id = any(?) for no key update',
    'select 1 from batches where account_id > ? order by id limit 1 for key share skip locked',
    'with due as (select 1 from dispatch_queue where state = 0 for update skip locked) delete from x',
    'select 1 from batches b, accounts a where a.account_id = ? for update of b',
    'with lease as materialized (select 1) select 1 from batches where account_id = ? and exists (select 1 from lease) for update',
    'select 1 from batches b join dispatch_queue q on q.account_id = b.account_id',
    'select 1 from batches where account_id = ? and not exists (select 1 from dispatch_queue where channel_id = ?)',
    'update dispatch_queue q set state = 0 from batches b where b.account_id = ? and q.channel_id = ?',
    'with lined as (select 1 from dispatch_queue where channel_id = ?) select 1 from batches, lined',
    'select 1 from batches b join chunks c on c.batch_id = b.id where b.account_id = ?',
    'delete from chunks using batches b where chunks.batch_id = b.id and b.account_id = ?',
    'select 1 from batches b where b.account_id = ? and exists (select 1 from chunks where batch_id = b.id)',
    'insert into accounts select a from unnest(?) as a on conflict (id) do update set n = ?',
  ])('queries: %s', (sql) => expect(checkQueries('a.ts', [sql], tables)).toHaveLength(1));

  it.each([
    'select 1 from batches where account_id = ? and id = any(?) for update',
    'select 1 from batches b, accounts a where ? = b.account_id order by 1 for update of b skip locked',
    'select 1 from figures for update; select 1 from accounts where id = ? for update',
    'update batches set state = 1 where id = ?',
    'with lined as materialized (select 1 from dispatch_queue) select 1 from batches, lined where not exists (select 1 from lined)',
    'with gone as (delete from dispatch_queue returning chunk_id) select 1 from chunks, gone',
    'select 1 from batches b join chunks c on c.account_id = b.account_id and c.batch_id = b.id',
    'select 1 from batches b join chunks c using (account_id, id) join accounts a on a.id = b.account_id',
    'select 1 from batches b where b.account_id = ? and exists (select 1 from chunks where account_id = ? and batch_id = b.id)',
    'insert into accounts select a from unnest(?) as a on conflict (id) do update set n = 4 returning ?',
    'insert into batches select a from unnest(?) as a on conflict (id) do update set n = ?',
  ])('queries: nothing against %s', (sql) => expect(checkQueries('a.ts', [sql], tables)).toEqual([]));

  it('commands: several in one string', () => {
    expect(checkCommands('a.ts', ['create table x (like y); alter table y attach partition x'])).toHaveLength(1);
    expect(checkCommands('a.ts', ['create table x (like y);', `select ';'`, 'do $$ begin; end; $$'])).toEqual([]);
  });

  it('exceptions: one that excuses nothing', () => {
    const exceptions = [{ complaint: 'a.ts: MERGE', why: 'because' }];
    expect(shapesInSpiteOf(exceptions, ['a.ts: MERGE: merge into x…'])).toEqual([]);
    expect(shapesInSpiteOf(exceptions, ['b.ts: ctid: …'])).toEqual([
      'b.ts: ctid: …',
      'nothing begins with "a.ts: MERGE": take it off the exceptions',
    ]);
  });
});
