-- How a channel's health is found, and who serves it with what success.

alter table channels
  add column health_cause text check (health_cause in ('no_session', 'failures', 'reports')),  -- null while healthy
  add column health_by text,                                     -- the node that found it so; null: nobody has looked yet
  add column health_tries integer not null default 0,            -- how often in a row it failed again soon after it was let
  add column health_probe_at timestamptz,                        -- when it is tried with messages; null: as soon as a session stays
  add column health_rules jsonb not null default '{}',           -- thresholds that differ from the defaults
  add column health_forced_at timestamptz not null default now();

alter table channel_nodes
  add column since timestamptz not null default now(),           -- it has served the channel without a gap from then on
  add column up_since timestamptz,                               -- its oldest session that stands; null: none does
  add column up_at timestamptz;                                  -- when it last had one
