-- Tables of operator/node/.

create table node (
    instance uuid primary key,
    slot smallint not null unique check (slot between 0 and 63),
    name text not null,
    started_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp(),
    generation bigint not null,
    config text not null
);
comment on table node is 'Gateways that share this database; one that was not seen for a minute is gone.';
comment on column node.instance is 'One run of a gateway, as in sms.sender.';
comment on column node.slot is 'Part of the message ids that this gateway gives, so that no two give the same.';
comment on column node.generation is 'How often it took a configuration over; 1 at its start.';
comment on column node.config is 'Digest of the configuration that it serves.';

create table lease (
    task text primary key,
    holder uuid not null,
    until timestamptz not null
);
comment on table lease is
    'Which gateway does a task that one at a time may do. Held until an instant and not by a lock of a session, because '
    'a paused process keeps its locks.';
