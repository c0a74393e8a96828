-- Users who declined the pair of another one, who asks them no more.

create table chat_decline (
    decliner bigint not null references account,
    asker bigint not null references account,
    at timestamptz not null,
    primary key (decliner, asker)
);
create index chat_decline_asker on chat_decline (asker, decliner);
comment on table chat_decline is
    'Users who declined a pair with another user. It outlives the room; the other one''s pair waits without a request.';
