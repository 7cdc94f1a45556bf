-- Numbers on the platform's own blocklist, among those that the benchmark submits to (their last four digits are 1000 or more), so that asking
-- for them goes through all of the list.
insert into blocked_numbers (list_id, phone, source, added_at)
select current_setting('bench.list')::bigint, 8613500000000 + n / 1000 * 10000 + n % 1000, 'operator', now()
from generate_series(0, current_setting('bench.blocked')::bigint - 1) as n;
