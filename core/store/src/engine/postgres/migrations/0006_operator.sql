-- Operators of the console, the audit log, and API keys.

create table operator (
    account bigint primary key,
    role text check (role in ('viewer', 'support', 'finance', 'admin')),
    language text not null default '',
    factor_sealed bytea,
    factor_step bigint check (factor_step >= 0),
    factor_since timestamptz,
    factor_recovery bytea[],
    check (num_nulls(factor_sealed, factor_step, factor_since, factor_recovery) in (0, 4))
);
comment on table operator is 'Operators of the console, and what is kept of their second factor.';
comment on column operator.role is 'Null for an account that is an operator by its own rights only.';
comment on column operator.factor_sealed is 'The secret, sealed by the gateway.';
comment on column operator.factor_step is 'The last time step that was used.';
comment on column operator.factor_recovery is 'Hashes of the unused recovery codes.';

create table console_link (
    account bigint primary key,
    hash bytea not null check (octet_length(hash) = 32),
    expires_at timestamptz not null
);
comment on table console_link is 'Hashes of one-time links into the console.';

create sequence console_session_id;

create table console_session (
    account bigint not null,
    hash bytea not null check (octet_length(hash) = 32),
    id bigint not null unique check (id > 0),
    created_at timestamptz not null,
    last_seen_at timestamptz not null,
    expires_at timestamptz not null,
    ip_address text not null,
    user_agent text not null,
    by_link boolean not null,
    primary key (account, hash)
);
comment on table console_session is 'Sessions of the console, by the hash of their token.';

create table audit_count (
    one boolean primary key default true check (one),
    entries bigint not null default 0 check (entries >= 0),
    anyone bigint not null default 0 check (anyone >= 0),
    account bigint not null default 0 check (account >= 0),
    operator bigint not null default 0 check (operator >= 0)
);
insert into audit_count default values;
comment on table audit_count is 'How many entries the audit log, and each of its three logs, ever had.';

create table audit_entry (
    id bigint primary key check (id > 0),
    log text not null check (log in ('anyone', 'account', 'operator')),
    place bigint not null check (place > 0),
    at timestamptz not null,
    event text not null,
    account bigint,
    session bigint,
    ip_address text not null,
    subject text not null,
    detail text not null,
    actor bigint,
    before text not null,
    after text not null,
    reason text not null,
    unique (log, place)
);
create index audit_entry_at on audit_entry (log, at);
comment on table audit_entry is 'The audit log. Entries are numbered without gaps and never change.';
comment on column audit_entry.place is 'The entry''s number within its log; each log keeps so many of the newest.';
comment on column audit_entry.account is 'The affected account.';
comment on column audit_entry.actor is 'The operator who acted.';

create sequence api_key_id;

create table api_key (
    id bigint primary key check (id > 0),
    hash bytea not null check (octet_length(hash) = 32),
    name text not null,
    scope text not null,
    daily_cap bigint check (daily_cap >= 0),
    created_at timestamptz not null,
    revoked_at timestamptz
);
comment on table api_key is 'Credentials of programs. A revoked one stays.';
comment on column api_key.hash is 'Hash of the secret part.';
comment on column api_key.daily_cap is 'Messages per day.';

create table operator_note (
    kind text not null check (kind in ('paused_endpoint', 'correction', 'filter', 'alone')),
    name text not null,
    value text not null,
    primary key (kind, name)
);
comment on table operator_note is 'Small records that operators leave: paused endpoints, corrections that wait for a second person, saved filters, sums of corrections.';
