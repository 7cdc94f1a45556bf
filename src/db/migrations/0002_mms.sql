-- Multimedia messages: packages and their media, templates of them, batches for later, and pushes that are tried more than once.

-- ── content ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- Once per account, however many batches and templates use it.
create table media (
  account_id bigint not null,
  sha256 bytea not null,
  type text not null,                               -- image/jpeg…
  extension text not null,                          -- jpg…
  size int not null,
  octets bytea not null,
  created_at timestamptz not null,
  primary key (account_id, sha256)
);
-- Pictures and films are compressed already.
alter table media alter column octets set storage external;

-- A template is a card (aim) or frames (mms); frames name their media by SHA-256.
alter table templates
  drop constraint templates_medium_check,
  add constraint templates_medium_check check (medium in ('aim', 'mms')),
  alter column card drop not null,
  add column frames jsonb,
  add column purpose text,
  add column signature text,
  add constraint templates_content_check check ((medium = 'aim') = (card is not null) and (medium = 'mms') = (frames is not null and purpose is not null and signature is not null));

alter table channels
  drop constraint channels_protocol_check,
  add constraint channels_protocol_check check (protocol in ('cmpp', 'mm7'));

-- ── what was accepted ───────────────────────────────────────────────────────────────────────────────────────────────────────────

alter table batches
  add column package jsonb,                         -- of mms: subject and frames; content is then its text, for search and for people
  add column send_at timestamptz,                   -- planned by the customer; null: at once
  add column cancelled_at timestamptz;

-- A request id may also stand for a template.
alter table request_ids
  alter column batch_id drop not null,
  add column template_id bigint,
  add constraint request_ids_subject_check check ((batch_id is null) <> (template_id is null));

-- State 2: planned, rank 0. It gets its rank when it becomes due, so that those who wait for tomorrow are in nobody's way today.
create index dispatch_queue_planned on dispatch_queue (channel_id, ready_at) where state = 2;

-- ── pushes ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- An endpoint is an account, whose URL it is (a subscription, or 0 for the account itself), and a kind. What waits for an endpoint is
-- ordered by when it is due; an endpoint whose every row is due later costs one look at the index.
-- Kinds: 1 report, 2 reply, 3 audit (its id is the template's). Routes: 0 to be pulled, or kept where nobody can pull; 1 to be pushed;
-- 2 being pushed (push_id is the claim's, lease_until when it counts as lost); 3 failed after the last try, kept for replay.
drop index waiting_events_to_push;
drop index waiting_events_in_push;
alter table waiting_events
  add column endpoint bigint not null default 0,
  add column tries smallint not null default 0,
  add column due_at timestamptz,
  add column lease_until timestamptz;
update waiting_events set endpoint = subscription_id, due_at = at, lease_until = case when route = 2 then '-infinity'::timestamptz end;
alter table waiting_events alter column endpoint drop default;
create index waiting_events_to_push on waiting_events (account_id, endpoint, kind, due_at, id) where route = 1;
create index waiting_events_in_push on waiting_events (lease_until) where route = 2;
create index waiting_events_failed on waiting_events (account_id, kind, id) where route = 3;

-- A try is recorded when it has ended; until then its events say that they are being pushed.
update pushes set state = 'failed', answer = 'the process that pushed was lost', finished_at = now() where state = 'in_flight';
drop index pushes_in_flight;
alter table pushes
  drop constraint pushes_state_check,
  add constraint pushes_state_check check (state in ('done', 'failed')),
  drop column lease_until,
  add column event_id bigint;                       -- of a push that carried one event
create index pushes_by_event on pushes (account_id, event_id) where event_id is not null;
