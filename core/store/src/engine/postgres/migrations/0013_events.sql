-- Which gateway wants events, where several share the database.

alter table node add column wants_events boolean not null default false;
comment on column node.wants_events is 'Some endpoint is configured there, so events are written whatever others say.';
comment on table outbox is 'Whether events are written: some endpoint is configured, at one gateway at least.';
