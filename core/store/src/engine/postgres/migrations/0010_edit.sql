-- Tables of operator/edit/, and what gateways say of their components.

create table edit (
    number bigint primary key check (number > 0),
    component text,
    sealed bytea not null,
    made_by text not null,
    made_at timestamptz not null
);
comment on table edit is
    'Edits at a console or by a command that every gateway makes in its own files, in the order of their numbers.';
comment on column edit.component is 'The component that it replaces; null for an edit of the configuration.';
comment on column edit.sealed is 'Sealed with the key of the gateways, because a configuration holds secrets.';
comment on column edit.made_by is 'Name of the gateway where it was made.';
create unique index edit_component on edit (component);

alter table node add column components text not null default '';
comment on column node.components is 'Digest of the components that serve there.';
alter table node add column edit bigint not null default 0;
comment on column node.edit is 'The last edit that it made.';
