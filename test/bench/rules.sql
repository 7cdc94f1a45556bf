-- The platform's own content templates, of all three verdicts, as customers write them. None of them is what the benchmark sends, and
-- a tenth of them begins like it.
insert into content_templates (id, account_id, text, verdict, enabled, note)
select nextval('config_ids'), null,
       case when n % 10 = 0 then '【鸿雁】您有一条新通知,' else '【商家' || n % 500 || '】' end || '尊敬的{…}，您的第' || n || '号订单将于${time}送达，请留意{…}退订回R',
       (array['pass', 'review', 'intercept'])[1 + n % 3], true, 'bench'
from generate_series(1, current_setting('bench.templates')::int) as n;
