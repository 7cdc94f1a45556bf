-- Where numbers are, and whose: what the operator imports of ranges, and numbers that were ported from one carrier to another.

-- One row, or none while only the bundled table is used. Copied to every node, which loads it when the version is another.
create table number_tables (
  id int primary key check (id = 1),
  version bigint not null,
  replaces boolean not null,                        -- the bundled places are not used
  origin text not null,                             -- in the operator's words
  imported_at timestamptz not null,
  rows int not null,                                -- of the last file
  content bytea not null                            -- flattened and compressed; core/number-plan.ts
);

-- Asked for every batch while there is any row; too many to be copied.
create table ported_numbers (
  phone bigint primary key,
  carrier text check (carrier in ('mobile', 'unicom', 'telecom', 'broadcast')),   -- as imported; null: not known
  not_carriers text[] not null default '{}',        -- who said that it is not theirs
  source text not null check (source in ('import', 'learned')),
  changed_at timestamptz not null,
  check (carrier is not null or cardinality(not_carriers) > 0)
) with (fillfactor = 90);
