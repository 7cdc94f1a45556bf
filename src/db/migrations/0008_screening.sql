-- Policies of screening, and what waits for a person.

alter table products
  add column strict_signatures boolean not null default false,   -- a signature must also be registered with the number's carrier
  add column templates_only boolean not null default false,      -- a text that no content template lets pass is intercepted
  add column sending_window jsonb;                               -- {from, to, mode}: HH:MM in Asia/Shanghai; null: always

alter table subscriptions
  add column sending_window jsonb,                               -- null: the product's
  add column unmatched text not null default 'pass' check (unmatched in ('pass', 'intercept', 'review'));

-- Numbers that no list and no cap stops.
alter table accounts
  add column exempt_numbers bigint[] not null default '{}' check (cardinality(exempt_numbers) <= 300);

-- One state for each carrier that has been asked: {"mobile": "registered"}.
alter table signatures
  add column registrations jsonb not null default '{}';

alter table channels
  add column provinces text[],                                   -- null: all
  add column health text not null default 'healthy' check (health in ('healthy', 'unhealthy', 'probing')),
  add column health_reason text not null default '',
  add column health_at timestamptz not null default now(),
  add column health_forced text check (health_forced in ('healthy', 'unhealthy'));

-- Recipients that wait for a person lie in chunks without a channel, whose messages are priced and held.
alter table chunks
  add column review boolean not null default false;

-- One item for each batch of which something waits for a person.
create table review_items (
  account_id bigint not null,
  batch_id bigint not null,
  subscription_id bigint not null,
  code text not null,                               -- what the messages end with if it is rejected
  rule smallint not null,
  entry jsonb not null,                             -- which entry of the rule fired
  recipients int not null,
  held_e4 bigint not null,
  state text not null default 'pending' check (state in ('pending', 'approved', 'rejected', 'expired', 'cancelled')),
  reason text,
  decided_by text,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  decided_at timestamptz,
  primary key (batch_id, account_id)
);
create index review_items_pending on review_items (expires_at) where state = 'pending';
create index review_items_by_account on review_items (account_id, batch_id);
