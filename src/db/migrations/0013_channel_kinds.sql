-- Which protocols there are is known in one place, src/channels/kinds.ts; whoever stores a channel asks there.
alter table channels drop constraint channels_protocol_check;
