-- Accounts, codes, passwords and sessions.

create sequence account_id;

create table account (
    id bigint primary key check (id > 0),
    active boolean not null,
    username text not null,
    number text not null,
    group_number bigint not null check (group_number between 0 and 4294967295),
    created_at timestamptz not null,
    last_login_at timestamptz,
    first_name text not null default '',
    last_name text not null default '',
    email text not null default '',
    staff boolean not null default false,
    superuser boolean not null default false,
    erased boolean not null default false,
    check (not erased or not (active or staff or superuser))
);
comment on table account is
    'User accounts. An erased account keeps an empty row, because rooms and money refer to it.';
comment on column account.erased is 'Closed for good: to every operation there is no such account.';
comment on column account.number is 'Canonical phone number; empty for an account without one.';
comment on column account.staff is 'May use the operator routes.';
comment on column account.superuser is 'Has all rights.';

create table account_number (
    number text not null,
    group_number bigint not null check (group_number between 0 and 4294967295),
    account bigint not null references account on delete cascade,
    primary key (number, group_number)
);
create index account_number_account on account_number (account);
comment on table account_number is 'Which account a phone number logs in to, by group.';

create table account_name (
    name text primary key,
    account bigint not null references account on delete cascade
);
create index account_name_account on account_name (account);
comment on table account_name is
    'Registered user names, and derived ones that were taken. A name derived from number and group has no row.';

create table account_look (
    look text primary key,
    account bigint not null references account on delete cascade
);
create index account_look_account on account_look (account);
comment on table account_look is 'How registered names look; the oldest account has the look.';

create table account_look_position (
    one boolean primary key default true check (one),
    account bigint not null
);
comment on table account_look_position is 'The last account whose look was entered after an import.';

create table account_merged (
    old bigint primary key,
    account bigint not null
);
comment on table account_merged is 'Ids of accounts that an import merged into another.';

create table password (
    account bigint primary key references account on delete cascade,
    hash text not null,
    changed_at timestamptz not null
);
comment on table password is 'What is kept of passwords: hashes in the PHC text form.';

create table password_token (
    account bigint primary key references account on delete cascade,
    mac bytea not null check (octet_length(mac) = 32),
    expires_at timestamptz not null
);
comment on table password_token is 'Keyed MACs of operators'' tokens that set a password once.';

create table password_guard (
    key bytea primary key check (octet_length(key) = 32),
    guesses bigint not null check (guesses >= 0),
    open_at timestamptz not null,
    forget_at timestamptz not null
);
create index password_guard_forget_at on password_guard (forget_at);
comment on table password_guard is 'Guesses at passwords, by a MAC of what is counted.';
comment on column password_guard.open_at is 'When the next guess may be compared.';

create table challenge (
    name text primary key,
    id bigint not null,
    mac bytea not null check (octet_length(mac) = 32),
    created_at timestamptz not null,
    expires_at timestamptz not null,
    resend_at timestamptz not null,
    attempts_max bigint not null check (attempts_max > 0),
    others_max bigint not null check (others_max >= 0),
    asked_from bigint not null,
    guess_addresses bigint[] not null default '{}',
    guess_counts bigint[] not null default '{}',
    known_guesses bigint not null default 0 check (known_guesses >= 0),
    check (cardinality(guess_addresses) = cardinality(guess_counts))
);
create index challenge_expires_at on challenge (expires_at);
comment on table challenge is 'Codes that were sent: at most one for a phone number or another name.';
comment on column challenge.id is 'The same bits as an unsigned number: tells late reports of older codes apart.';
comment on column challenge.mac is 'Keyed MAC over number and code; the code itself is nowhere.';
comment on column challenge.attempts_max is 'Guesses of one address.';
comment on column challenge.others_max is 'Guesses of all addresses together that did not ask for the code.';
comment on column challenge.guess_addresses is
    'Keyed hashes of the addresses that guessed, in the order of the counts.';
comment on column challenge.known_guesses is 'Guesses from addresses that the account was used from before.';

create table user_agent (
    id bigint generated always as identity primary key,
    text text not null
);
-- By a digest: a text may be longer than an index entry.
create unique index user_agent_text on user_agent (md5(text));
comment on table user_agent is 'User agents that sessions refer to; each is stored once.';

create sequence session_id;

create table session (
    id bigint primary key check (id > 0),
    account bigint not null references account on delete cascade,
    key uuid not null,
    agent bigint references user_agent,
    agent_text text,
    ip_address inet,
    device_name text,
    created_at timestamptz not null,
    last_seen_at timestamptz not null,
    rotated_at timestamptz not null,
    expires_at timestamptz not null,
    generation bigint not null default 0 check (generation >= 0),
    unbound boolean not null default false,
    check (num_nonnulls(agent, agent_text) = 1)
);
create index session_account on session (account, id);
create index session_expires_at on session (expires_at);
comment on table session is 'Login sessions. Ending one removes it.';
comment on column session.key is 'Public name for clients; not a credential.';
comment on column session.generation is 'How often the refresh token was replaced.';
comment on column session.unbound is 'Older than bindings: its tokens may lack one.';

create table used_token (
    account bigint not null references account on delete cascade,
    token uuid not null,
    token_expires_at timestamptz not null,
    session bigint not null,
    primary key (account, token)
);
create index used_token_expires_at on used_token (token_expires_at);
comment on table used_token is 'Tokens of another program that were used here, and the session that each opened.';
