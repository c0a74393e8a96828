-- Erasing a person.

create table erasure (
    account bigint primary key references account,
    at timestamptz not null,
    ordered_by bigint not null,
    number text not null,
    ended boolean not null default false
);
create index erasure_open on erasure (account) where not ended;
comment on table erasure is 'Accounts that were closed, and whether all their traces are removed.';
comment on column erasure.number is
    'The account''s number, until its traces are removed and when no other account has it.';
