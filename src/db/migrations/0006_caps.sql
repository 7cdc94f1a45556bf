-- Frequency caps: how many messages one number may get of a subscription, a product or a signature; and the rate of a subscription.

create table caps (
  id bigint primary key,
  scope text not null check (scope in ('subscription', 'product', 'signature')),
  subject_id bigint not null,
  period text not null check (period in ('minute', 'hour', 'day', '24h')),
  count int not null check (count between 1 and 100),
  created_at timestamptz not null default now(),
  unique (scope, subject_id, period)
);

-- When the messages were that a cap still counts, in minutes since 1970, rising. A product is used by many accounts, so its counters are
-- account 0's. Scopes: 1 subscription, 2 product, 3 signature; rows are locked in the order of (scope, subject_id, phone). There is no
-- index by age, which every message would have to touch: old rows are found by walking the key.
create table cap_counters (
  account_id bigint not null,
  subject_id bigint not null,
  phone bigint not null,
  scope smallint not null,
  marks int[] not null,
  primary key (account_id, scope, subject_id, phone)
) with (fillfactor = 80);

-- ── rate ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- Recipients per second, and how many at once after a pause; null: no limit.
alter table subscriptions
  add column rate_per_second int check (rate_per_second between 1 and 100000),
  add column rate_burst int check (rate_burst between 1 and 1000000),
  add constraint subscriptions_rate_check check ((rate_per_second is null) = (rate_burst is null));

-- The bucket lies where the submit's lock is anyway. Thousandths of a recipient, so that milliseconds times the rate is exact; null: full.
alter table balances
  add column rate_left_e3 bigint,
  add column rate_at timestamptz;
