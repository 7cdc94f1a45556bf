-- Numbers on the platform's own blocklist, none of which the benchmark submits to.
insert into blocked_numbers (list_id, phone, source, added_at)
select current_setting('growth.list')::bigint, 8613900000000 + n, 'operator', now() from generate_series(1, current_setting('growth.blocked')::bigint) as n;
