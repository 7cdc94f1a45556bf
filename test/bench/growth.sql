-- Fills a platform as if it had run for a while: settings `bench.*` say whom for and how much. Whole books, so that `hongyan audit` has
-- nothing to say: batches of 10,000 in chunks of 500, their messages, events that were handed over, holds and settlements.

-- As many days behind us as retention keeps, most of them empty: what a statement on a day costs must not depend on how many there are.
do $$
declare t record;
begin
  for n in 2 .. 180 loop
    for t in select * from (values ('messages', 45), ('segments', 45), ('handovers', 100)) as t(name, fill) loop
      execute format('create table if not exists %s partition of %s for values from (%L) to (%L) with (fillfactor = %s)',
        t.name || to_char(now() at time zone 'Asia/Shanghai' - n * interval '1 day', '_YYYYMMDD'), t.name,
        (now() at time zone 'Asia/Shanghai')::date - n, (now() at time zone 'Asia/Shanghai')::date - n + 1, t.fill);
    end loop;
  end loop;
end $$;

-- A tenth of the messages each on today and on the nine days before.
create temporary table grown as
  select base + n as id, (now() at time zone 'Asia/Shanghai')::date - (9 - n * 10 / total)::int as day, n
  from (select nextval('batch_ids') as base, (current_setting('bench.stored')::bigint / 10000) as total) b, generate_series(0, total - 1) as n;
select setval('batch_ids', (select max(id) from grown));

insert into batches (id, account_id, subscription_id, template_id, content, ext, recipients, day, created_at)
select id, current_setting('bench.account')::bigint, current_setting('bench.subscription')::bigint, current_setting('bench.template')::bigint,
       '【鸿雁】您有一条新通知,点击 http://127.0.0.1/m/0000000000 查看,拒收请回复R', '', 10000, day, day::timestamp at time zone 'Asia/Shanghai'
from grown;

insert into chunks (id, account_id, subscription_id, day, intercepted, segments, price_e4, phones)
select g.id * 64 + c, current_setting('bench.account')::bigint, current_setting('bench.subscription')::bigint, g.day, false, 1, 500,
       array(select 8613600000000 + ((g.n * 10000 + c * 500 + i) * 7919) % 100000000 from generate_series(0, 499) as i)
from grown g, generate_series(0, 19) as c;

insert into messages (id, account_id, day, subscription_id, phone, channel_id, carrier_id, segments, status, code, price_e4, paid, cost_e4, sent_at, final_at)
select (g.id * 64 + c) * 512 + i, current_setting('bench.account')::bigint, g.day, current_setting('bench.subscription')::bigint,
       8613600000000 + ((g.n * 10000 + c * 500 + i) * 7919) % 100000000, 1, (7000000000000000000 + g.n * 10000 + c * 500 + i)::text, 1,
       case when i % 20 = 7 then 11 else 10 end, case when i % 20 = 7 then 'UNDELIV' else 'DELIVRD' end, 500, false, case when i % 20 = 7 then 0 else 500 end,
       g.day::timestamp at time zone 'Asia/Shanghai' + c * interval '1 minute', g.day::timestamp at time zone 'Asia/Shanghai' + c * interval '2 minutes'
from grown g, generate_series(0, 19) as c, generate_series(0, 499) as i;

-- As many parcels a chunk as a loaded platform makes of one.
insert into handovers (account_id, kind, id, day, subscription_id, replay, at, handed_at, indexes)
select current_setting('bench.account')::bigint, 1, (g.id * 64 + c) * 512 + i, g.day, current_setting('bench.subscription')::bigint, 0,
       g.day::timestamp at time zone 'Asia/Shanghai' + c * interval '2 minutes', g.day::timestamp at time zone 'Asia/Shanghai' + c * interval '3 minutes',
       array(select (c * 512 + i + 2 * n)::smallint from generate_series(0, 249) as n)
from grown g, generate_series(0, 19) as c, generate_series(0, 1) as i;

-- One flush a chunk, as it is when they are not too busy.
insert into ledger_entries (account_id, batch_id, kind, seq, subscription_id, amount_e4, held_e4, at)
select current_setting('bench.account')::bigint, id, kind, seq, current_setting('bench.subscription')::bigint, amount, held,
       day::timestamp at time zone 'Asia/Shanghai'
from grown g, lateral (
  select 'hold' as kind, 0::bigint as seq, -5000000 as amount, 5000000 as held
  union all select 'settle', (g.id * 64 + c) * 512, 0, -475 * 500 from generate_series(0, 19) as c
  union all select 'release', (g.id * 64 + c) * 512, 25 * 500, -25 * 500 from generate_series(0, 19) as c) e;
update balances b set balance_e4 = total from (
  select sum(amount_e4)::bigint as total from ledger_entries where account_id = current_setting('bench.account')::bigint) e
where account_id = current_setting('bench.account')::bigint;

drop table grown;
