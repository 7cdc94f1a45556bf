-- The whole first schema. Keys follow one rule: every primary key and unique constraint of a customer's table holds account_id, of a
-- queue table channel_id, so that the database can be sharded by them; configuration tables are small and copied to every node.
-- Money is bigint in ten-thousandths of the product's unit. Days are calendar days in Asia/Shanghai.

create sequence batch_ids start with 100000001;   -- batches; the number is the customer's msg_id
create sequence record_ids;                        -- replies, pushes, top-ups
create sequence config_ids start with 600001;      -- accounts, subscriptions (and their sp_id), templates, lists…

-- ── configuration ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- One row. Every change of configuration raises the version in its own transaction; nodes reload when they see a new one.
create table config_version (
  id int primary key check (id = 1),
  version bigint not null
);
insert into config_version values (1, 1);

-- Values the installation makes for itself, such as the sealed key of the short links.
create table settings (
  name text primary key,
  value text not null
);

create table accounts (
  id bigint primary key,
  name text not null,
  api_id text not null unique,
  api_key text not null,                            -- sealed
  ip_allow_list text[] not null default '{}',       -- addresses or CIDR ranges; empty: open
  push_urls jsonb not null default '{}',            -- report, reply, template
  locked boolean not null default false,
  created_at timestamptz not null default now()
);

create table tokens (
  hash bytea primary key,                           -- SHA-256 of the bearer token
  role text not null check (role in ('operator', 'account')),
  account_id bigint references accounts (id),
  name text not null,
  created_at timestamptz not null default now(),
  check ((role = 'account') = (account_id is not null))
);

create table channels (
  id bigint primary key,
  name text not null,
  protocol text not null check (protocol in ('cmpp')),
  enabled boolean not null default true,
  connections int not null default 1 check (connections between 1 and 64),
  carriers text[] not null,                         -- mobile, unicom, telecom, broadcast, international
  access_number text not null check (access_number ~ '^[0-9]{1,20}$'),
  settings jsonb not null,                          -- what the protocol needs: host, port, spId, version, window, rate…
  secret text not null,                             -- sealed
  created_at timestamptz not null default now()
);

create table pools (
  id bigint primary key,
  name text not null
);

create table pool_channels (
  pool_id bigint not null references pools (id),
  channel_id bigint not null references channels (id),
  priority int not null default 1,                  -- lower goes first
  weight int not null default 1 check (weight > 0),
  primary key (pool_id, channel_id)
);

create table products (
  id bigint primary key,
  name text not null,
  medium text not null check (medium in ('aim', 'mms', 'sms')),
  unit text not null check (unit in ('yuan', 'messages')),
  pool_id bigint references pools (id),
  signature_required boolean not null default true,
  charge_on text not null default 'delivered' check (charge_on in ('delivered', 'accepted')),
  in_doubt text not null check (in_doubt in ('resend', 'give_up')),
  ttl_hours int not null default 24 check (ttl_hours between 1 and 72),
  limits jsonb not null default '{}',
  created_at timestamptz not null default now()
);

create table subscriptions (
  id bigint primary key,
  account_id bigint not null references accounts (id),
  product_id bigint not null references products (id),
  sp_id bigint unique,                              -- where the dialect has one
  password text,                                    -- sealed, likewise
  price_e4 bigint not null check (price_e4 >= 0),   -- per billed segment (aim, sms) or message (mms)
  extension text not null unique check (extension ~ '^[0-9]{1,12}$'),
  class smallint not null default 1 check (class in (0, 1)),   -- 0 goes before 1
  push_urls jsonb not null default '{}',            -- report, reply
  enabled boolean not null default true,
  created_at timestamptz not null default now()
);

create table blocklists (
  id bigint primary key,
  kind text not null check (kind in ('empty', 'system', 'product', 'subscription', 'signature')),
  subject_id bigint not null,                       -- the product, subscription or signature; 0 for the platform's own lists
  unique (kind, subject_id)
);

create table blocked_numbers (
  list_id bigint not null,
  phone bigint not null,
  source text not null,                             -- operator, import, opt-out
  added_at timestamptz not null,
  primary key (list_id, phone)
);

-- ── customers' content ──────────────────────────────────────────────────────────────────────────────────────────────────────────

create table signatures (
  account_id bigint not null,
  id bigint not null,
  name text not null,
  created_at timestamptz not null default now(),
  primary key (account_id, id),
  unique (account_id, name)
);

create table templates (
  account_id bigint not null,
  id bigint not null,
  medium text not null check (medium in ('aim')),
  name text not null,
  card jsonb not null,
  parameters text[] not null,                       -- distinct placeholder names in order of first appearance
  state text not null default 'pending' check (state in ('pending', 'approved', 'rejected', 'withdrawn')),
  reason text,
  valid_until timestamptz,
  link_days int not null default 30 check (link_days between 1 and 365),
  created_at timestamptz not null default now(),
  decided_at timestamptz,
  primary key (account_id, id)
);

-- ── money ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- Apart from subscriptions because it is hot: every submit locks one row.
create table balances (
  account_id bigint not null,
  subscription_id bigint not null,
  balance_e4 bigint not null check (balance_e4 >= 0),
  primary key (account_id, subscription_id)
) with (fillfactor = 50);

-- amount_e4 moves the balance, held_e4 what is held. hold: (−x, +x), release: (+x, −x), settle: (0, −x), top_up: (+x, 0).
-- seq: 0 for a hold; the lowest message id of the set for release and settle (a message ends once, so the key cannot repeat).
create table ledger_entries (
  account_id bigint not null,
  batch_id bigint not null,                         -- 0 for a top-up
  kind text not null check (kind in ('hold', 'release', 'settle', 'top_up')),
  seq bigint not null,
  subscription_id bigint not null,
  amount_e4 bigint not null,
  held_e4 bigint not null,
  at timestamptz not null,
  note text,
  primary key (account_id, batch_id, kind, seq)
);
create index ledger_entries_by_subscription on ledger_entries (account_id, subscription_id, at);

-- ── what was accepted ───────────────────────────────────────────────────────────────────────────────────────────────────────────

create table request_ids (
  account_id bigint not null,
  key text not null,
  digest text not null,                             -- of the request's parameters
  batch_id bigint not null,
  at timestamptz not null,
  primary key (account_id, key)
);
create index request_ids_by_time on request_ids (at);

create table batches (
  id bigint not null,
  account_id bigint not null,
  subscription_id bigint not null,
  template_id bigint,
  content text not null,
  ext text not null,
  recipients int not null,                          -- distinct numbers, intercepted ones included
  day date not null,
  created_at timestamptz not null,
  primary key (id, account_id)
);
create index batches_by_account on batches (account_id, id);

-- What never changes of a chunk. Its id is batch_id * 64 + number, a message's id chunk_id * 512 + index.
create table chunks (
  id bigint not null,
  account_id bigint not null,
  subscription_id bigint not null,
  day date not null,                                -- planned sending day of every message in it
  intercepted boolean not null,                     -- true: bound for no channel; the messages were final at once
  segments smallint not null,                       -- billed, per message
  price_e4 bigint not null,                         -- held, per message
  phones bigint[] not null,
  forms jsonb,                                      -- the numbers as the customer wrote them, where one differs from the usual form
  parameters jsonb,                                 -- one array of values per recipient
  codes jsonb,                                      -- of intercepted ones
  verdicts jsonb,                                   -- which rule and entry fired, likewise
  primary key (id, account_id)
);
-- Five hundred numbers are 4 KB; compressing them costs more than it saves.
alter table chunks alter column phones set storage external;

-- ── the queue ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- Statistics of a queue are always of another hour. So there is one way only to do each thing to it, whatever the planner believes: by
-- chunk (the primary key; such statements do not speak of the state, which the other indexes need), or in the order of one of the others.
create table dispatch_queue (
  channel_id bigint not null,
  chunk_id bigint not null,
  account_id bigint not null,
  subscription_id bigint not null,
  n smallint not null,
  class smallint not null,
  rank bigint not null,                             -- fair order among accounts
  state smallint not null default 0,                -- 0 ready, 1 claimed by (connection, epoch)
  ready_at timestamptz not null,
  expires_at timestamptz not null,
  connection smallint,
  epoch bigint,
  reserved_upto smallint not null default 0,        -- indexes below may have been sent
  primary key (chunk_id, channel_id)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
create index dispatch_queue_ready on dispatch_queue (channel_id, class, rank) where state = 0;
create index dispatch_queue_expiry on dispatch_queue (expires_at) where state = 0;
create index dispatch_queue_claimed on dispatch_queue (channel_id, connection) where state = 1;

-- Fair order: an account's row holds where its last queued chunk ends, the row of account 0 the channel's virtual time.
create table channel_turns (
  channel_id bigint not null,
  account_id bigint not null,
  finish bigint not null,
  primary key (channel_id, account_id)
) with (fillfactor = 50);

create table channel_leases (
  channel_id bigint not null,
  connection smallint not null,
  epoch bigint not null default 0,
  node text,
  until timestamptz not null default '-infinity',
  state text not null default 'down',
  reason text not null default '',
  state_at timestamptz not null default now(),
  primary key (channel_id, connection)
) with (fillfactor = 50);

-- ── what became of it ───────────────────────────────────────────────────────────────────────────────────────────────────────────

create table messages (
  id bigint not null,
  account_id bigint not null,
  day date not null,
  subscription_id bigint not null,
  phone bigint not null,                            -- E.164 digits; 0 where the number was not valid
  form text,                                        -- as the customer wrote it, where that differs from the usual form
  channel_id bigint,                                -- the one really used
  carrier_id text collate "C",                      -- of a single segment; longer ones have rows in segments
  segments smallint not null,                       -- billed
  status smallint not null,                         -- core/model.ts, messageStatus
  code text,                                        -- final code, as the customer sees it
  price_e4 bigint not null,                         -- held for it
  paid boolean not null,                            -- settled when the carrier accepted it (charge_on = accepted)
  cost_e4 bigint,                                   -- what it finally cost
  sent_at timestamptz,
  final_at timestamptz,
  primary key (id, account_id, day)
) partition by range (day);
create index messages_by_carrier_id on messages (carrier_id, channel_id) where carrier_id is not null;
create index messages_by_phone on messages (phone, account_id);

create table segments (
  id bigint not null,                               -- the message's
  seg smallint not null,
  account_id bigint not null,
  day date not null,
  channel_id bigint not null,
  carrier_id text collate "C",                      -- null: the carrier rejected it
  code text,                                        -- null: not reported yet
  primary key (id, seg, account_id, day)
) partition by range (day);
create index segments_by_carrier_id on segments (carrier_id, channel_id) where carrier_id is not null;

-- Reports that came after the final state: kept for the timeline, they change nothing.
create table late_reports (
  account_id bigint not null,
  id bigint not null,                               -- the message's
  day date not null,
  code text not null,
  at timestamptz not null
);
create index late_reports_by_message on late_reports (account_id, id);

-- Reports that match no message (yet).
create table orphan_reports (
  channel_id bigint not null,
  carrier_id text not null collate "C",
  code text not null,
  delivered boolean not null,
  phone text not null,
  received_at timestamptz not null,
  next_try_at timestamptz not null,
  primary key (channel_id, carrier_id, code)
);
create index orphan_reports_due on orphan_reports (next_try_at);

-- ── replies ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- What carriers delivered, by the carrier's id: a redelivery is recognised, and the segments of a long reply wait here for each other.
create table inbound_parts (
  channel_id bigint not null,
  carrier_id text not null collate "C",
  phone text not null,
  dest text not null,
  reference int,                                    -- null: a whole message
  total smallint not null,
  number smallint not null,
  encoding text not null,
  octets bytea not null,
  received_at timestamptz not null,
  joined boolean not null,
  primary key (channel_id, carrier_id)
);
create index inbound_parts_waiting on inbound_parts (channel_id, phone, dest, reference) where not joined;

create table replies (
  account_id bigint not null,                       -- 0: nobody's; the operator's unassigned list
  id bigint not null,
  subscription_id bigint,
  channel_id bigint not null,
  phone bigint not null,
  dest text not null,
  ext text not null,                                -- destination less the channel's access number
  content text not null,
  batch_id bigint,                                  -- of the latest message to this phone from that number
  opt_out boolean not null,
  received_at timestamptz not null,
  primary key (account_id, id)
);
create index replies_by_phone on replies (account_id, phone);

-- ── events owed to customers ────────────────────────────────────────────────────────────────────────────────────────────────────

-- What waits. A row leaves for `events` in the transaction that hands it over.
create table waiting_events (
  id bigint not null,                               -- message id, or reply id
  kind smallint not null,                           -- 1 report, 2 reply
  account_id bigint not null,
  day date not null,
  subscription_id bigint not null,
  route smallint not null,                          -- 0 to be pulled, 1 to be pushed, 2 being pushed (push_id)
  push_id bigint,
  at timestamptz not null,
  phone bigint not null,
  form text,
  code text,
  cost_e4 bigint,
  replays smallint not null default 0,
  primary key (id, kind, account_id, day)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
create index waiting_events_to_pull on waiting_events (account_id, subscription_id, kind, at, id) where route = 0;
create index waiting_events_to_push on waiting_events (account_id, subscription_id, kind, at, id) where route = 1;
create index waiting_events_in_push on waiting_events (account_id, push_id) where route = 2;

-- What was handed over, until retention.
create table events (
  id bigint not null,
  kind smallint not null,
  account_id bigint not null,
  day date not null,
  subscription_id bigint not null,
  push_id bigint,                                   -- null: it was pulled
  at timestamptz not null,
  phone bigint not null,
  form text,
  code text,
  cost_e4 bigint,
  replays smallint not null,
  handed_at timestamptz not null,
  primary key (id, kind, account_id, day)
) partition by range (day);

-- Every try to push, with what the customer's server said.
create table pushes (
  account_id bigint not null,
  id bigint not null,
  subscription_id bigint not null,
  kind smallint not null,
  url text not null,
  events int not null,
  state text not null check (state in ('in_flight', 'done', 'failed')),
  started_at timestamptz not null,
  lease_until timestamptz not null,
  finished_at timestamptz,
  http_status int,
  answer text,                                      -- the first 1 KiB, or why there was none
  primary key (account_id, id)
);
create index pushes_in_flight on pushes (lease_until) where state = 'in_flight';
