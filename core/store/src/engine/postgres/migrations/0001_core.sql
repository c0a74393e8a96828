-- What the engine itself needs.

create table key_mark (
    one boolean primary key default true check (one),
    mark bytea not null check (octet_length(mark) = 16)
);
comment on table key_mark is 'The mark of the key that belongs to this database. It does not reveal the key.';

create table gateway (
    one boolean primary key default true check (one),
    host text not null,
    pid integer not null,
    started_at timestamptz not null default now()
);
comment on table gateway is 'The last gateway that held the lock of the only gateway.';

create table probe (
    key bytea primary key,
    value bytea not null
);
comment on table probe is 'Values that measurements write and nothing reads.';
