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

create table commit_mark (
    slot uuid primary key,
    change bigint not null,
    at timestamptz not null default now()
) with (fillfactor = 20);
comment on table commit_mark is
    'Each running change of a gateway has a row: whether the last change was committed, when its answer was lost.';

create table probe (
    key bytea primary key,
    value bytea not null
);
comment on table probe is 'Values that measurements write and nothing reads.';

-- A table with a column `one` has one row by design, which says nothing about use.
create function has_rows(skipped text[]) returns boolean language plpgsql stable as $$
declare
    name text;
    found boolean;
begin
    for name in
        select c.relname from pg_class c
        where c.relnamespace = 'chelseru'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
            and c.relname <> all (skipped)
            and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'one')
        order by c.relname
    loop
        execute format('select exists (select from chelseru.%I)', name) into found;
        if found then
            return true;
        end if;
    end loop;
    return false;
end
$$;
comment on function has_rows is 'Whether any table but those skipped has rows.';
