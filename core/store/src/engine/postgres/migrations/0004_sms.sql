-- Tables of sms/.

create table sms (
    id bigint primary key check (id >= 0),
    status text not null
        check (status in ('queued', 'sending', 'accepted', 'delivered', 'failed', 'unknown', 'expired')),
    number text not null,
    content json,
    class text not null check (class in ('otp', 'notice')),
    api_key bigint,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    due_at timestamptz not null,
    deadline timestamptz not null,
    rounds bigint not null check (rounds >= 0),
    begun_provider text,
    begun_deduplicates boolean,
    sender uuid,
    resume_with text,
    provider text,
    provider_message_id text,
    cost_rial bigint,
    error text,
    tried json not null,
    poll_at timestamptz,
    polls bigint not null check (polls >= 0),
    imported boolean not null default false,
    check ((begun_provider is null) = (begun_deduplicates is null)),
    check ((status = 'sending') = (sender is not null)),
    check (begun_provider is null or status = 'sending'),
    check (poll_at is null or status = 'accepted')
);
create index sms_number on sms (number, id);
create index sms_due on sms (due_at, id) where status = 'queued';
create index sms_sending on sms (id) where status = 'sending';
create index sms_provider on sms (provider, provider_message_id, id)
    where provider_message_id is not null and not imported;
create index sms_poll on sms (poll_at, id) where poll_at is not null;
comment on table sms is
    'Messages: queued or sending, then accepted by a provider and delivered, or an end. The id is the '
    'microsecond of creation.';
comment on column sms.content is 'Null: not stored, because one-time codes are stored nowhere in clear text.';
comment on column sms.api_key is 'Who asked for it; null: the gateway itself, or staff.';
comment on column sms.begun_provider is 'The provider that is being asked.';
comment on column sms.begun_deduplicates is
    'That provider may be asked again with the same id without sending twice.';
comment on column sms.sender is 'The gateway process that has it in hand while it is sending.';
comment on column sms.resume_with is 'Only this provider may be asked: it may have the message.';
comment on column sms.tried is 'The newest attempts that did not send.';
comment on column sms.poll_at is 'When the provider is asked next whether it arrived.';

create table sms_idempotency (
    key bytea primary key check (octet_length(key) = 32),
    request bytea not null check (octet_length(request) = 32),
    message_id bigint not null,
    created_at timestamptz not null
);
create index sms_idempotency_created on sms_idempotency (created_at);
comment on table sms_idempotency is 'What a client''s idempotency key sent. Keys and requests are hashes.';

create table sms_usage (
    api_key bigint primary key,
    day bigint not null,
    used bigint not null check (used > 0)
);
comment on table sms_usage is 'Messages of an API key on its last day, in days since 1970.';

create table sms_count (
    what text not null check (what in ('waiting', 'idempotency')),
    stripe smallint not null check (stripe between 0 and 31),
    count bigint not null,
    primary key (what, stripe)
);
comment on table sms_count is
    'How many messages wait and how many idempotency keys are stored: the sum of the rows. There are several, '
    'so that senders do not wait for each other.';

create function sms_count_waiting() returns trigger language plpgsql as $$
declare
    change integer := 0;
    stripe smallint;
begin
    if tg_op <> 'INSERT' and old.status = 'queued' then
        change := change - 1;
        stripe := old.id % 32;
    end if;
    if tg_op <> 'DELETE' and new.status = 'queued' then
        change := change + 1;
        stripe := new.id % 32;
    end if;
    if change <> 0 then
        insert into sms_count values ('waiting', stripe, change)
            on conflict on constraint sms_count_pkey do update set count = sms_count.count + excluded.count;
    end if;
    return null;
end $$;
create trigger waiting after insert or update of status or delete on sms
    for each row execute function sms_count_waiting();

create function sms_count_idempotency() returns trigger language plpgsql as $$
declare
    change integer := case tg_op when 'INSERT' then 1 else -1 end;
    hashed bytea := case tg_op when 'INSERT' then new.key else old.key end;
begin
    insert into sms_count values ('idempotency', get_byte(hashed, 0) % 32, change)
        on conflict on constraint sms_count_pkey do update set count = sms_count.count + excluded.count;
    return null;
end $$;
create trigger counted after insert or delete on sms_idempotency
    for each row execute function sms_count_idempotency();
