-- Events owed to customers lie in parcels: what ended together, of one batch and day, is one row. What it tells is in its messages, replies
-- and templates. All nodes of the version before must have stopped: they do not know these tables.

-- What waits. A parcel leaves for `handovers` in the transaction that hands it over. The id of an event is that of its message, reply or
-- template; `indexes` are its last fifteen bits (of a message: its place in the batch), in order, and the rest is that of `id`, the first one.
-- Kinds: 1 report, 2 reply, 3 audit. An endpoint is an account, whose URL it is (a subscription, or 0 for the account itself), and a kind.
-- Routes: 0 to be pulled, or kept where nobody can pull; 1 to be pushed; 2 being pushed (push_id is the claim's, lease_until when it counts
-- as lost); 3 failed after the last try, kept for replay.
create table parcels (
  account_id bigint not null,
  kind smallint not null,
  id bigint not null,
  day date not null,                                -- of the messages; of a reply or an audit, when it came
  subscription_id bigint not null,
  endpoint bigint not null,
  route smallint not null,
  at timestamptz not null,                          -- when what it tells of happened
  due_at timestamptz not null,
  tries smallint not null default 0,
  replay smallint not null default 0,               -- how often the same was handed over before
  push_id bigint,
  lease_until timestamptz,
  indexes smallint[] not null,
  primary key (account_id, kind, id)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
create index parcels_to_pull on parcels (account_id, subscription_id, kind, at, id) where route = 0;
create index parcels_to_push on parcels (account_id, endpoint, kind, due_at, id) where route = 1;
create index parcels_in_push on parcels (lease_until) where route = 2;
create index parcels_failed on parcels (account_id, kind, id) where route = 3;
-- An event that is no parcel by itself is in one of these.
create index parcels_of_many on parcels (account_id, kind, id) where cardinality(indexes) > 1;

-- What was handed over, a row each time. The day is that of the messages, so that both go together.
create table handovers (
  account_id bigint not null,
  kind smallint not null,
  id bigint not null,
  day date not null,
  subscription_id bigint not null,
  replay smallint not null,
  at timestamptz not null,
  handed_at timestamptz not null,
  push_id bigint,                                   -- null: it was pulled
  indexes smallint[] not null,
  primary key (account_id, kind, id, day, replay)
) partition by range (day);
create index handovers_of_many on handovers (account_id, kind, id) where cardinality(indexes) > 1;

do $$
declare
  name text;
begin
  for name in select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'events'::regclass loop
    execute format('create table %I partition of handovers for values from (%L) to (%L)', 'handovers_' || right(name, 8),
                   to_date(right(name, 8), 'YYYYMMDD'), to_date(right(name, 8), 'YYYYMMDD') + 1);
  end loop;
end $$;

-- A chunk has at most 500 messages, and that many are a parcel. What goes to a URL of an account is pushed one by one.
insert into parcels (account_id, kind, id, day, subscription_id, endpoint, route, at, due_at, tries, replay, push_id, lease_until, indexes)
select account_id, kind, min(id), day, subscription_id, endpoint, route, at, coalesce(due_at, at), tries, replays, push_id, lease_until,
       array_agg((id % 32768)::smallint order by id)
from waiting_events
group by account_id, kind, day, subscription_id, endpoint, route, at, coalesce(due_at, at), tries, replays, push_id, lease_until,
         case when kind = 1 and endpoint <> 0 then id / 512 else id end, kind = 1 and endpoint <> 0;

-- Of what was handed over several times only the last time is known.
insert into handovers (account_id, kind, id, day, subscription_id, replay, at, handed_at, push_id, indexes)
select account_id, kind, min(id), day, subscription_id, replay, at, handed_at, push_id, array_agg((id % 32768)::smallint order by id)
from events, generate_series(0, replays) as replay
group by account_id, kind, day, subscription_id, replay, at, handed_at, push_id, case when kind = 1 then id / 512 else id end;

drop table waiting_events;
drop table events;
