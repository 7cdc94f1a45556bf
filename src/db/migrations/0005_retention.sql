-- Old days go: batches keep what their messages came to, the ledger keeps one entry a subscription and day. And lists that stay fast
-- however much is stored.

-- ── retention ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

alter table batches
  add column frozen jsonb,                          -- what its messages of days past retention came to: {day: {status: [how many, cost_e4]}}
  add column purge_at timestamptz,                  -- all its days are frozen: from then on its chunks and content may go
  add column purged_at timestamptz;                 -- they went
create index batches_to_purge on batches (purge_at) where purge_at is not null;
create index batches_purged on batches (day, id) where purged_at is not null;
-- Which batches name a medium: asked when one of them is purged. Batches without a package are not in it.
create index batches_by_media on batches using gin (jsonb_path_query_array(package, '$.frames[*].media.sha256')) where package is not null;

-- An opening entry stands for all entries of one subscription and day whose batches are forgotten.
alter table ledger_entries
  drop constraint ledger_entries_kind_check,
  add constraint ledger_entries_kind_check check (kind in ('hold', 'release', 'settle', 'top_up', 'opening'));

create index replies_by_time on replies (received_at);
create index inbound_parts_joined on inbound_parts (received_at) where joined;

-- ── growth ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- An account's batches are listed by day; by id alone, an old day lay behind everything younger.
drop index batches_by_account;
create index batches_by_account on batches (account_id, day, id);

-- An account's events are listed by falling ids; with the id in front, that walked over everybody else's.
alter table waiting_events drop constraint waiting_events_pkey, add primary key (account_id, kind, id, day);
alter table events drop constraint events_pkey, add primary key (account_id, kind, id, day);
