-- Rules about what a text says: content templates, and lists of sensitive words. All of it is configuration, copied to every node.

-- Raised by every change of what texts are judged by, which is long to load, apart from all other configuration.
alter table config_version add column content_version bigint not null default 1;

create table content_templates (
  id bigint primary key,
  account_id bigint references accounts (id),       -- null: the platform's, for every account
  text text not null,
  verdict text check (verdict in ('pass', 'review', 'intercept')),   -- null: an account's wish, which the operator has not decided on
  enabled boolean not null,
  note text not null,
  created_at timestamptz not null default now(),
  check (verdict is not null or not enabled)
);
create unique index content_templates_by_text on content_templates (coalesce(account_id, 0), md5(text));

create table word_lists (
  id bigint primary key,
  name text not null,
  verdict text not null check (verdict in ('review', 'intercept')),
  enabled boolean not null,
  version bigint not null default 1,                -- raised by every change of its words, so that lists that are the same are not loaded again
  created_at timestamptz not null default now()
);

create table words (
  list_id bigint not null references word_lists (id),
  folded text collate "C" not null,                 -- what is looked for in texts that are folded likewise
  word text not null,                               -- as it was written
  primary key (list_id, folded)
);
