-- The schema after all migrations, for reading and review. Made by `npm run db:dump`; change migrations, not this file.
-- Daily partitions, which the janitor makes, are left out.

create sequence batch_ids start with 100000001 increment by 1;
create sequence config_ids start with 600001 increment by 1;
create sequence record_ids start with 1 increment by 1;

create table accounts (
  id bigint not null,
  name text not null,
  api_id text not null,
  api_key text not null,
  ip_allow_list text[] not null default '{}'::text[],
  push_urls jsonb not null default '{}'::jsonb,
  locked boolean not null default false,
  created_at timestamp with time zone not null default now(),
  exempt_numbers bigint[] not null default '{}'::bigint[],
  constraint accounts_pkey PRIMARY KEY (id),
  constraint accounts_api_id_key UNIQUE (api_id),
  constraint accounts_exempt_numbers_check CHECK ((cardinality(exempt_numbers) <= 300))
);

create table balances (
  account_id bigint not null,
  subscription_id bigint not null,
  balance_e4 bigint not null,
  rate_left_e3 bigint,
  rate_at timestamp with time zone,
  constraint balances_pkey PRIMARY KEY (account_id, subscription_id),
  constraint balances_balance_e4_check CHECK ((balance_e4 >= 0))
) with (fillfactor=50);

create table batches (
  id bigint not null,
  account_id bigint not null,
  subscription_id bigint not null,
  template_id bigint,
  content text not null,
  ext text not null,
  recipients integer not null,
  day date not null,
  created_at timestamp with time zone not null,
  package jsonb,
  send_at timestamp with time zone,
  cancelled_at timestamp with time zone,
  frozen jsonb,
  purge_at timestamp with time zone,
  purged_at timestamp with time zone,
  kind text,
  constraint batches_pkey PRIMARY KEY (id, account_id)
);
CREATE INDEX batches_by_account ON public.batches USING btree (account_id, day, id);
CREATE INDEX batches_by_media ON public.batches USING gin (jsonb_path_query_array(package, '$."frames"[*]."media"."sha256"'::jsonpath)) WHERE (package IS NOT NULL);
CREATE INDEX batches_purged ON public.batches USING btree (day, id) WHERE (purged_at IS NOT NULL);
CREATE INDEX batches_to_purge ON public.batches USING btree (purge_at) WHERE (purge_at IS NOT NULL);

create table blocked_numbers (
  list_id bigint not null,
  phone bigint not null,
  source text not null,
  added_at timestamp with time zone not null,
  constraint blocked_numbers_pkey PRIMARY KEY (list_id, phone)
);

create table blocklists (
  id bigint not null,
  kind text not null,
  subject_id bigint not null,
  constraint blocklists_pkey PRIMARY KEY (id),
  constraint blocklists_kind_subject_id_key UNIQUE (kind, subject_id),
  constraint blocklists_kind_check CHECK ((kind = ANY (ARRAY['empty'::text, 'system'::text, 'product'::text, 'subscription'::text, 'signature'::text])))
);

create table cap_counters (
  account_id bigint not null,
  subject_id bigint not null,
  phone bigint not null,
  scope smallint not null,
  marks integer[] not null,
  constraint cap_counters_pkey PRIMARY KEY (account_id, scope, subject_id, phone)
) with (fillfactor=80);

create table caps (
  id bigint not null,
  scope text not null,
  subject_id bigint not null,
  period text not null,
  count integer not null,
  created_at timestamp with time zone not null default now(),
  constraint caps_pkey PRIMARY KEY (id),
  constraint caps_scope_subject_id_period_key UNIQUE (scope, subject_id, period),
  constraint caps_count_check CHECK (((count >= 1) AND (count <= 100))),
  constraint caps_period_check CHECK ((period = ANY (ARRAY['minute'::text, 'hour'::text, 'day'::text, '24h'::text]))),
  constraint caps_scope_check CHECK ((scope = ANY (ARRAY['subscription'::text, 'product'::text, 'signature'::text])))
);

create table channel_leases (
  channel_id bigint not null,
  connection smallint not null,
  epoch bigint not null default 0,
  node text,
  until timestamp with time zone not null default '-infinity'::timestamp with time zone,
  state text not null default 'down'::text,
  reason text not null default ''::text,
  state_at timestamp with time zone not null default now(),
  constraint channel_leases_pkey PRIMARY KEY (channel_id, connection)
) with (fillfactor=50);

create table channel_nodes (
  channel_id bigint not null,
  node text not null,
  until timestamp with time zone not null,
  since timestamp with time zone not null default now(),
  up_since timestamp with time zone,
  up_at timestamp with time zone,
  constraint channel_nodes_pkey PRIMARY KEY (channel_id, node)
) with (fillfactor=50);

create table channel_turns (
  channel_id bigint not null,
  account_id bigint not null,
  finish bigint not null,
  constraint channel_turns_pkey PRIMARY KEY (channel_id, account_id)
) with (fillfactor=50);

create table channels (
  id bigint not null,
  name text not null,
  protocol text not null,
  enabled boolean not null default true,
  connections integer not null default 1,
  carriers text[] not null,
  access_number text not null,
  settings jsonb not null,
  secret text not null,
  created_at timestamp with time zone not null default now(),
  provinces text[],
  health text not null default 'healthy'::text,
  health_reason text not null default ''::text,
  health_at timestamp with time zone not null default now(),
  health_forced text,
  health_cause text,
  health_by text,
  health_tries integer not null default 0,
  health_probe_at timestamp with time zone,
  health_rules jsonb not null default '{}'::jsonb,
  health_forced_at timestamp with time zone not null default now(),
  constraint channels_pkey PRIMARY KEY (id),
  constraint channels_access_number_check CHECK ((access_number ~ '^[0-9]{1,20}$'::text)),
  constraint channels_connections_check CHECK (((connections >= 1) AND (connections <= 64))),
  constraint channels_health_cause_check CHECK ((health_cause = ANY (ARRAY['no_session'::text, 'failures'::text, 'reports'::text]))),
  constraint channels_health_check CHECK ((health = ANY (ARRAY['healthy'::text, 'unhealthy'::text, 'probing'::text]))),
  constraint channels_health_forced_check CHECK ((health_forced = ANY (ARRAY['healthy'::text, 'unhealthy'::text])))
);

create table chunks (
  id bigint not null,
  account_id bigint not null,
  subscription_id bigint not null,
  day date not null,
  intercepted boolean not null,
  segments smallint not null,
  price_e4 bigint not null,
  phones bigint[] not null,
  forms jsonb,
  parameters jsonb,
  codes jsonb,
  verdicts jsonb,
  review boolean not null default false,
  constraint chunks_pkey PRIMARY KEY (id, account_id)
);

create table config_version (
  id integer not null,
  version bigint not null,
  content_version bigint not null default 1,
  constraint config_version_pkey PRIMARY KEY (id),
  constraint config_version_id_check CHECK ((id = 1))
);

create table content_templates (
  id bigint not null,
  account_id bigint,
  text text not null,
  verdict text,
  enabled boolean not null,
  note text not null,
  created_at timestamp with time zone not null default now(),
  constraint content_templates_pkey PRIMARY KEY (id),
  constraint content_templates_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id),
  constraint content_templates_check CHECK (((verdict IS NOT NULL) OR (NOT enabled))),
  constraint content_templates_verdict_check CHECK ((verdict = ANY (ARRAY['pass'::text, 'review'::text, 'intercept'::text])))
);
CREATE UNIQUE INDEX content_templates_by_text ON public.content_templates USING btree (COALESCE(account_id, (0)::bigint), md5(text));

create table dispatch_queue (
  channel_id bigint not null,
  chunk_id bigint not null,
  account_id bigint not null,
  subscription_id bigint not null,
  n smallint not null,
  class smallint not null,
  rank bigint not null,
  state smallint not null default 0,
  ready_at timestamp with time zone not null,
  expires_at timestamp with time zone not null,
  connection smallint,
  epoch bigint,
  reserved_upto smallint not null default 0,
  day date,
  constraint dispatch_queue_pkey PRIMARY KEY (chunk_id, channel_id)
) with (fillfactor=50, autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_threshold=500);
CREATE INDEX dispatch_queue_claimed ON public.dispatch_queue USING btree (channel_id, connection) WHERE (state = 1);
CREATE INDEX dispatch_queue_expiry ON public.dispatch_queue USING btree (expires_at) WHERE (state = 0);
CREATE INDEX dispatch_queue_planned ON public.dispatch_queue USING btree (channel_id, ready_at) WHERE (state = 2);
CREATE INDEX dispatch_queue_ready ON public.dispatch_queue USING btree (channel_id, class, rank) WHERE (state = 0);

create table figures (
  id integer not null,
  at timestamp with time zone not null,
  took_ms integer not null,
  samples json not null,
  constraint figures_pkey PRIMARY KEY (id),
  constraint figures_id_check CHECK ((id = 1))
);

create table handovers (
  account_id bigint not null,
  kind smallint not null,
  id bigint not null,
  day date not null,
  subscription_id bigint not null,
  replay smallint not null,
  at timestamp with time zone not null,
  handed_at timestamp with time zone not null,
  push_id bigint,
  indexes smallint[] not null,
  dialect text,
  constraint handovers_pkey PRIMARY KEY (account_id, kind, id, day, replay)
) partition by RANGE (day);
CREATE INDEX handovers_of_many ON ONLY public.handovers USING btree (account_id, kind, id) WHERE (cardinality(indexes) > 1);

create table inbound_parts (
  channel_id bigint not null,
  carrier_id text collate "C" not null,
  phone text not null,
  dest text not null,
  reference integer,
  total smallint not null,
  number smallint not null,
  encoding text not null,
  octets bytea not null,
  received_at timestamp with time zone not null,
  joined boolean not null,
  constraint inbound_parts_pkey PRIMARY KEY (channel_id, carrier_id)
);
CREATE INDEX inbound_parts_joined ON public.inbound_parts USING btree (received_at) WHERE joined;
CREATE INDEX inbound_parts_waiting ON public.inbound_parts USING btree (channel_id, phone, dest, reference) WHERE (NOT joined);

create table late_reports (
  account_id bigint not null,
  id bigint not null,
  day date not null,
  code text not null,
  at timestamp with time zone not null,
  what text not null,
  constraint late_reports_what_check CHECK ((what = ANY (ARRAY['late_report'::text, 'read'::text])))
);
CREATE INDEX late_reports_by_message ON public.late_reports USING btree (account_id, id);

create table ledger_entries (
  account_id bigint not null,
  batch_id bigint not null,
  kind text not null,
  seq bigint not null,
  subscription_id bigint not null,
  amount_e4 bigint not null,
  held_e4 bigint not null,
  at timestamp with time zone not null,
  note text,
  constraint ledger_entries_pkey PRIMARY KEY (account_id, batch_id, kind, seq),
  constraint ledger_entries_kind_check CHECK ((kind = ANY (ARRAY['hold'::text, 'release'::text, 'settle'::text, 'top_up'::text, 'opening'::text])))
);
CREATE INDEX ledger_entries_by_subscription ON public.ledger_entries USING btree (account_id, subscription_id, at);

create table media (
  account_id bigint not null,
  sha256 bytea not null,
  type text not null,
  extension text not null,
  size integer not null,
  octets bytea not null,
  created_at timestamp with time zone not null,
  constraint media_pkey PRIMARY KEY (account_id, sha256)
);

create table messages (
  id bigint not null,
  account_id bigint not null,
  day date not null,
  subscription_id bigint not null,
  phone bigint not null,
  form text,
  channel_id bigint,
  carrier_id text collate "C",
  segments smallint not null,
  status smallint not null,
  code text,
  price_e4 bigint not null,
  paid boolean not null,
  cost_e4 bigint,
  sent_at timestamp with time zone,
  final_at timestamp with time zone,
  constraint messages_pkey PRIMARY KEY (id, account_id, day)
) partition by RANGE (day);
CREATE INDEX messages_by_carrier_id ON ONLY public.messages USING btree (carrier_id, channel_id) WHERE (carrier_id IS NOT NULL);
CREATE INDEX messages_by_phone ON ONLY public.messages USING btree (phone, account_id);

create table number_tables (
  id integer not null,
  version bigint not null,
  replaces boolean not null,
  origin text not null,
  imported_at timestamp with time zone not null,
  rows integer not null,
  content bytea not null,
  constraint number_tables_pkey PRIMARY KEY (id),
  constraint number_tables_id_check CHECK ((id = 1))
);

create table orphan_reports (
  channel_id bigint not null,
  carrier_id text collate "C" not null,
  code text not null,
  delivered boolean not null,
  phone text not null,
  received_at timestamp with time zone not null,
  next_try_at timestamp with time zone not null,
  constraint orphan_reports_pkey PRIMARY KEY (channel_id, carrier_id, code)
);
CREATE INDEX orphan_reports_due ON public.orphan_reports USING btree (next_try_at);

create table parcels (
  account_id bigint not null,
  kind smallint not null,
  id bigint not null,
  day date not null,
  subscription_id bigint not null,
  endpoint bigint not null,
  route smallint not null,
  at timestamp with time zone not null,
  due_at timestamp with time zone not null,
  tries smallint not null default 0,
  replay smallint not null default 0,
  push_id bigint,
  lease_until timestamp with time zone,
  indexes smallint[] not null,
  written_dialect text,
  dialect text not null generated always as (COALESCE(written_dialect, CASE endpoint WHEN 0 THEN 'ihuyi-mms'::text ELSE '3yit'::text END)) stored,
  constraint parcels_pkey PRIMARY KEY (account_id, kind, id)
) with (autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_threshold=1000);
CREATE INDEX parcels_due ON public.parcels USING btree (account_id, endpoint, kind, dialect, due_at, id) WHERE (route = 1);
CREATE INDEX parcels_failed ON public.parcels USING btree (account_id, kind, id) WHERE (route = 3);
CREATE INDEX parcels_in_push ON public.parcels USING btree (lease_until) WHERE (route = 2);
CREATE INDEX parcels_of_many ON public.parcels USING btree (account_id, kind, id) WHERE (cardinality(indexes) > 1);
CREATE INDEX parcels_to_pull ON public.parcels USING btree (account_id, subscription_id, kind, at, id) WHERE (route = 0);

create table pool_channels (
  pool_id bigint not null,
  channel_id bigint not null,
  priority integer not null default 1,
  weight integer not null default 1,
  constraint pool_channels_pkey PRIMARY KEY (pool_id, channel_id),
  constraint pool_channels_channel_id_fkey FOREIGN KEY (channel_id) REFERENCES channels(id),
  constraint pool_channels_pool_id_fkey FOREIGN KEY (pool_id) REFERENCES pools(id),
  constraint pool_channels_weight_check CHECK ((weight > 0))
);

create table pools (
  id bigint not null,
  name text not null,
  constraint pools_pkey PRIMARY KEY (id)
);

create table ported_numbers (
  phone bigint not null,
  carrier text,
  not_carriers text[] not null default '{}'::text[],
  source text not null,
  changed_at timestamp with time zone not null,
  constraint ported_numbers_pkey PRIMARY KEY (phone),
  constraint ported_numbers_carrier_check CHECK ((carrier = ANY (ARRAY['mobile'::text, 'unicom'::text, 'telecom'::text, 'broadcast'::text]))),
  constraint ported_numbers_check CHECK (((carrier IS NOT NULL) OR (cardinality(not_carriers) > 0))),
  constraint ported_numbers_source_check CHECK ((source = ANY (ARRAY['import'::text, 'learned'::text])))
) with (fillfactor=90);

create table products (
  id bigint not null,
  name text not null,
  medium text not null,
  unit text not null,
  pool_id bigint,
  signature_required boolean not null default true,
  charge_on text not null default 'delivered'::text,
  in_doubt text not null,
  ttl_hours integer not null default 24,
  limits jsonb not null default '{}'::jsonb,
  created_at timestamp with time zone not null default now(),
  strict_signatures boolean not null default false,
  templates_only boolean not null default false,
  sending_window jsonb,
  constraint products_pkey PRIMARY KEY (id),
  constraint products_pool_id_fkey FOREIGN KEY (pool_id) REFERENCES pools(id),
  constraint products_charge_on_check CHECK ((charge_on = ANY (ARRAY['delivered'::text, 'accepted'::text]))),
  constraint products_in_doubt_check CHECK ((in_doubt = ANY (ARRAY['resend'::text, 'give_up'::text]))),
  constraint products_medium_check CHECK ((medium = ANY (ARRAY['aim'::text, 'mms'::text, 'sms'::text]))),
  constraint products_ttl_hours_check CHECK (((ttl_hours >= 1) AND (ttl_hours <= 72))),
  constraint products_unit_check CHECK ((unit = ANY (ARRAY['yuan'::text, 'messages'::text])))
);

create table pushes (
  account_id bigint not null,
  id bigint not null,
  subscription_id bigint not null,
  kind smallint not null,
  url text not null,
  events integer not null,
  state text not null,
  started_at timestamp with time zone not null,
  finished_at timestamp with time zone,
  http_status integer,
  answer text,
  event_id bigint,
  constraint pushes_pkey PRIMARY KEY (account_id, id),
  constraint pushes_state_check CHECK ((state = ANY (ARRAY['done'::text, 'failed'::text])))
);
CREATE INDEX pushes_by_event ON public.pushes USING btree (account_id, event_id) WHERE (event_id IS NOT NULL);

create table replies (
  account_id bigint not null,
  id bigint not null,
  subscription_id bigint,
  channel_id bigint not null,
  phone bigint not null,
  dest text not null,
  ext text not null,
  content text not null,
  batch_id bigint,
  opt_out boolean not null,
  received_at timestamp with time zone not null,
  constraint replies_pkey PRIMARY KEY (account_id, id)
);
CREATE INDEX replies_by_phone ON public.replies USING btree (account_id, phone);
CREATE INDEX replies_by_time ON public.replies USING btree (received_at);

create table request_ids (
  account_id bigint not null,
  key text not null,
  digest text not null,
  batch_id bigint,
  at timestamp with time zone not null,
  template_id bigint,
  constraint request_ids_pkey PRIMARY KEY (account_id, key),
  constraint request_ids_subject_check CHECK (((batch_id IS NULL) <> (template_id IS NULL)))
);
CREATE INDEX request_ids_by_time ON public.request_ids USING btree (at);

create table review_items (
  account_id bigint not null,
  batch_id bigint not null,
  subscription_id bigint not null,
  code text not null,
  rule smallint not null,
  entry jsonb not null,
  recipients integer not null,
  held_e4 bigint not null,
  state text not null default 'pending'::text,
  reason text,
  decided_by text,
  created_at timestamp with time zone not null,
  expires_at timestamp with time zone not null,
  decided_at timestamp with time zone,
  constraint review_items_pkey PRIMARY KEY (batch_id, account_id),
  constraint review_items_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'approved'::text, 'rejected'::text, 'expired'::text, 'cancelled'::text])))
);
CREATE INDEX review_items_by_account ON public.review_items USING btree (account_id, batch_id);
CREATE INDEX review_items_pending ON public.review_items USING btree (expires_at) WHERE (state = 'pending'::text);

create table schema_migrations (
  version integer not null,
  name text not null,
  checksum text not null,
  applied_at timestamp with time zone not null default now(),
  constraint schema_migrations_pkey PRIMARY KEY (version)
);

create table segments (
  id bigint not null,
  seg smallint not null,
  account_id bigint not null,
  day date not null,
  channel_id bigint not null,
  carrier_id text collate "C",
  code text,
  constraint segments_pkey PRIMARY KEY (id, seg, account_id, day)
) partition by RANGE (day);
CREATE INDEX segments_by_carrier_id ON ONLY public.segments USING btree (carrier_id, channel_id) WHERE (carrier_id IS NOT NULL);

create table settings (
  name text not null,
  value text not null,
  constraint settings_pkey PRIMARY KEY (name)
);

create table signatures (
  account_id bigint not null,
  id bigint not null,
  name text not null,
  created_at timestamp with time zone not null default now(),
  registrations jsonb not null default '{}'::jsonb,
  constraint signatures_pkey PRIMARY KEY (account_id, id),
  constraint signatures_account_id_name_key UNIQUE (account_id, name)
);

create table subscriptions (
  id bigint not null,
  account_id bigint not null,
  product_id bigint not null,
  sp_id bigint,
  password text,
  price_e4 bigint not null,
  extension text not null,
  class smallint not null default 1,
  push_urls jsonb not null default '{}'::jsonb,
  enabled boolean not null default true,
  created_at timestamp with time zone not null default now(),
  rate_per_second integer,
  rate_burst integer,
  sending_window jsonb,
  unmatched text not null default 'pass'::text,
  written_dialect text,
  dialect text not null generated always as (COALESCE(written_dialect, CASE WHEN (sp_id IS NULL) THEN 'ihuyi-mms'::text ELSE '3yit'::text END)) stored,
  constraint subscriptions_pkey PRIMARY KEY (id),
  constraint subscriptions_extension_key UNIQUE (extension),
  constraint subscriptions_sp_id_key UNIQUE (sp_id),
  constraint subscriptions_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id),
  constraint subscriptions_product_id_fkey FOREIGN KEY (product_id) REFERENCES products(id),
  constraint subscriptions_class_check CHECK ((class = ANY (ARRAY[0, 1]))),
  constraint subscriptions_extension_check CHECK ((extension ~ '^[0-9]{1,12}$'::text)),
  constraint subscriptions_price_e4_check CHECK ((price_e4 >= 0)),
  constraint subscriptions_rate_burst_check CHECK (((rate_burst >= 1) AND (rate_burst <= 1000000))),
  constraint subscriptions_rate_check CHECK (((rate_per_second IS NULL) = (rate_burst IS NULL))),
  constraint subscriptions_rate_per_second_check CHECK (((rate_per_second >= 1) AND (rate_per_second <= 100000))),
  constraint subscriptions_unmatched_check CHECK ((unmatched = ANY (ARRAY['pass'::text, 'intercept'::text, 'review'::text])))
);

create table templates (
  account_id bigint not null,
  id bigint not null,
  medium text not null,
  name text not null,
  card jsonb,
  parameters text[] not null,
  state text not null default 'pending'::text,
  reason text,
  valid_until timestamp with time zone,
  link_days integer not null default 30,
  created_at timestamp with time zone not null default now(),
  decided_at timestamp with time zone,
  frames jsonb,
  purpose text,
  signature text,
  constraint templates_pkey PRIMARY KEY (account_id, id),
  constraint templates_content_check CHECK ((((medium = 'aim'::text) = (card IS NOT NULL)) AND ((medium = 'mms'::text) = ((frames IS NOT NULL) AND (purpose IS NOT NULL) AND (signature IS NOT NULL))))),
  constraint templates_link_days_check CHECK (((link_days >= 1) AND (link_days <= 365))),
  constraint templates_medium_check CHECK ((medium = ANY (ARRAY['aim'::text, 'mms'::text]))),
  constraint templates_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'approved'::text, 'rejected'::text, 'withdrawn'::text])))
);

create table tokens (
  hash bytea not null,
  role text not null,
  account_id bigint,
  name text not null,
  created_at timestamp with time zone not null default now(),
  constraint tokens_pkey PRIMARY KEY (hash),
  constraint tokens_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id),
  constraint tokens_check CHECK (((role = 'account'::text) = (account_id IS NOT NULL))),
  constraint tokens_role_check CHECK ((role = ANY (ARRAY['operator'::text, 'account'::text])))
);

create table word_lists (
  id bigint not null,
  name text not null,
  verdict text not null,
  enabled boolean not null,
  version bigint not null default 1,
  created_at timestamp with time zone not null default now(),
  constraint word_lists_pkey PRIMARY KEY (id),
  constraint word_lists_verdict_check CHECK ((verdict = ANY (ARRAY['review'::text, 'intercept'::text])))
);

create table words (
  list_id bigint not null,
  folded text collate "C" not null,
  word text not null,
  constraint words_pkey PRIMARY KEY (list_id, folded),
  constraint words_list_id_fkey FOREIGN KEY (list_id) REFERENCES word_lists(id)
);
