-- The day that a queued chunk's messages are recorded under, so that whoever asks for a day need not look into the chunks. Null: put in line
-- by a node of an earlier version, which may still run while the others are replaced; it counts for any day until it has left the queue.
alter table dispatch_queue add column day date;
update dispatch_queue q set day = c.day from chunks c where c.account_id = q.account_id and c.id = q.chunk_id;
