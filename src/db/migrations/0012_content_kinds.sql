-- What is sent was told from what stood in the row; now a batch says it.
alter table batches add column kind text;
update batches b
set kind = case when p.medium = 'mms' then 'package' when p.medium = 'aim' then 'card' else 'text' end
from subscriptions s join products p on p.id = s.product_id
where s.id = b.subscription_id;
