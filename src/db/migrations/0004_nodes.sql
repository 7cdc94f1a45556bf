-- Which nodes serve a channel. A node that does keeps a row alive here, whether or not it holds any of the channel's connections: the
-- connections are shared evenly among those whose row has not run out.
create table channel_nodes (
  channel_id bigint not null,
  node text not null,
  until timestamptz not null,
  primary key (channel_id, node)
) with (fillfactor = 50);

-- The figures of the whole installation, as /metrics shows them. One node reads them from the tables, all show them.
create table figures (
  id integer primary key check (id = 1),
  at timestamptz not null,
  took_ms integer not null,
  samples json not null
);
insert into figures (id, at, took_ms, samples) values (1, '-infinity', 0, '[]');
