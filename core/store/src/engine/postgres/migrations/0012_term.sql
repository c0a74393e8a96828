-- Who may change the database, told by the database itself.

alter table gateway add term bigint not null default 0, add shared boolean not null default false;
comment on table gateway is 'The gateway that holds the lock of the only gateway, or held it last.';
comment on column gateway.term is
    'Rises when a gateway takes the lock of the only one, and when gateways that share the database follow one. A '
    'change names the term in which it began and fails in another one.';
comment on column gateway.shared is 'The term is that of gateways that share the database.';
