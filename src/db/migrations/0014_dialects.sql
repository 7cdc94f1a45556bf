-- A subscription says how its customer speaks, which is its dialect, and what is owed to a customer is told in the dialect that stood when it
-- was born. Before, each medium had one dialect.
--
-- Nodes of the version before, which may still run, write no dialect. What they mean follows from the rest of the row, so `dialect` is what all
-- read, and is computed from `written_dialect`, which is what a node that knows dialects writes. Once no older node can run, a later migration may
-- make `dialect` a plain column and drop the other.

alter table subscriptions
  add column written_dialect text,
  add column dialect text not null
    generated always as (coalesce(written_dialect, case when sp_id is null then 'ihuyi-mms' else '3yit' end)) stored;

-- From here on `endpoint` is only whose URL it is: the subscription's, or 0 for the account's own.
alter table parcels
  add column written_dialect text,
  add column dialect text not null
    generated always as (coalesce(written_dialect, case endpoint when 0 then 'ihuyi-mms' else '3yit' end)) stored;
create index parcels_due on parcels (account_id, endpoint, kind, dialect, due_at, id) where route = 1;
drop index parcels_to_push;

-- Null: a version without dialects handed it over, in the one dialect of its product's medium. Years of history are not rewritten for that.
alter table handovers add column dialect text;
