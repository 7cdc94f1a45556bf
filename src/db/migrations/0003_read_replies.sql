-- A carrier's word after the end of a message that changes nothing: a report that came late, or that somebody has read it.
alter table late_reports add column what text not null default 'late_report' check (what in ('late_report', 'read'));
alter table late_reports alter column what drop default;
