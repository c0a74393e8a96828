-- Tables of chat/. An erased account keeps its row, so those who are in a room refer to it. The sender of a message
-- does not: checking that would lock a row of the sender for each message, and a sender was a member.

create sequence organization_id;

create table organization (
    id bigint primary key check (id > 0),
    name text not null,
    uname text not null unique,
    owner bigint not null references account,
    created_at timestamptz not null
);
create index organization_owner on organization (owner, id);
comment on table organization is 'Organisations: owned by a user, they own rooms.';
comment on column organization.uname is 'Unique among all organisations.';

create sequence room_id;

create table room (
    id bigint primary key check (id > 0),
    state text not null default 'live' check (state in ('live', 'deleted', 'arriving')),
    kind text not null check (kind in ('pair', 'group')),
    owner bigint references account,
    pair_low bigint,
    pair_high bigint,
    name text,
    descriptions text,
    avatar bigint,
    status text not null check (status in ('open', 'closed', 'hold')),
    organization bigint references organization,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    members bigint not null check (members >= 0),
    bans bigint not null check (bans >= 0),
    last_seq bigint not null default 0 check (last_seq between 0 and 67108863),
    last_at timestamptz not null default 'epoch',
    revision bigint not null default 0 check (revision >= 0),
    changes bigint not null default 0 check (changes >= 0),
    check (owner is not null or state = 'arriving'),
    check ((kind = 'pair') = (num_nulls(pair_low, pair_high) = 0) and num_nulls(pair_low, pair_high) in (0, 2)),
    check (pair_low <= pair_high)
) with (fillfactor = 70);
create unique index room_pair on room (pair_low, pair_high) where state = 'live';
create index room_organization on room (organization) where organization is not null;
create index room_deleted on room (id) where state = 'deleted';
comment on table room is 'Chat rooms. Whoever changes a room, its members or its messages locks its row first.';
comment on column room.state is 'deleted: hidden; its messages are removed in steps, and then this row. '
    'arriving: an import has stored its messages, and will store the room.';
comment on column room.pair_low is 'The two users of a pair, the smaller number here. A pair has one live room.';
comment on column room.members is 'Rows in room_member, with those who have not accepted.';
comment on column room.bans is 'Rows in room_ban.';
comment on column room.last_seq is
    'The number of the newest message; 0: none. The next message gets the next number.';
comment on column room.last_at is 'When the newest message was sent.';
comment on column room.revision is 'Edits and deletions of messages so far.';
comment on column room.changes is 'Changes of the room and its members so far.';
comment on column room.updated_at is 'The last change of the room or its members.';

create table room_member (
    room bigint not null references room,
    account bigint not null references account,
    rights integer not null check (rights between 0 and 65535),
    read_seq bigint not null check (read_seq >= 0),
    deleted_unread bigint not null check (deleted_unread >= 0),
    pinned boolean not null,
    joined_at timestamptz not null,
    hidden_at bigint,
    pending boolean not null,
    primary key (room, account)
) with (fillfactor = 80);
create index room_member_account on room_member (account, room) where not pending;
comment on table room_member is 'Who is in a room. Unread messages: room.last_seq - read_seq - deleted_unread.';
comment on column room_member.rights is 'Bits of the rights that the program defines.';
comment on column room_member.read_seq is 'Every message up to this number is read.';
comment on column room_member.deleted_unread is 'Deleted messages after read_seq.';
comment on column room_member.hidden_at is 'The member left this pair at this message: hidden until the next one.';
comment on column room_member.pending is 'The user was asked into the room and has not accepted.';

create table chat_request (
    account bigint not null,
    room bigint not null,
    asked_by bigint not null,
    at timestamptz not null,
    primary key (account, room),
    foreign key (room, account) references room_member on delete cascade
);
create index chat_request_member on chat_request (room, account);
comment on table chat_request is
    'Rooms that wait for a user''s acceptance. A dismissed request has no row, and its member stays pending.';

create table room_ban (
    room bigint not null references room,
    account bigint not null,
    primary key (room, account)
);
create index room_ban_account on room_ban (account, room);
comment on table room_ban is 'Users who may not enter a room.';

create table room_leaver (
    room bigint not null references room,
    account bigint not null,
    primary key (room, account)
);
create index room_leaver_account on room_leaver (account, room);
comment on table room_leaver is 'Users who left a group or declined it, and are not asked again.';

create table message (
    room bigint not null references room,
    seq bigint not null check (seq between 1 and 67108863),
    sender bigint not null,
    kind text not null,
    text text not null,
    raw boolean not null,
    lat text,
    lng text,
    file bigint,
    file_name text,
    client_id text,
    created_at timestamptz not null,
    edited_at timestamptz,
    deleted boolean not null default false,
    revision bigint not null default 0 check (revision >= 0),
    primary key (room, seq),
    check (not deleted or (text = '' and file is null))
);
create unique index message_client_id on message (room, sender, client_id) where client_id is not null;
create index message_revision on message (room, revision) where revision > 0;
create index message_deleted on message (room, seq) where deleted;
create index message_created_at on message using brin (created_at);
comment on table message is 'Chat messages. A deleted message keeps its number, sender and times.';
comment on column message.seq is 'The number in the room: 1, 2, 3, ... without gaps.';
comment on column message.raw is 'The text is JSON that the client sent in place of a text.';
comment on column message.lat is 'JSON: a number, or a text that holds one.';
comment on column message.client_id is 'The client''s own id of the message: sent again, it is the same message.';
comment on column message.revision is 'The room''s revision of the last edit or deletion; 0: never changed.';

create table word_block (
    room bigint not null references room,
    first bigint not null check (first >= 1),
    last bigint not null check (last >= first),
    content bytea not null check (octet_length(content) <= 32768),
    primary key (room, first)
);
comment on table word_block is 'The words of a run of messages, for searches. A change of one of the messages removes it; it is made again.';

create table chat_block (
    blocker bigint not null references account,
    blocked bigint not null references account,
    primary key (blocker, blocked)
);
create index chat_block_blocked on chat_block (blocked, blocker);
comment on table chat_block is 'Users who block another user.';

create table chat_contact (
    account bigint not null references account,
    mark bytea not null check (octet_length(mark) = 16),
    primary key (account, mark)
);
comment on table chat_contact is 'Keyed marks of the numbers in a user''s address book. They do not reveal a number.';

create table imported_message (
    old bigint primary key,
    room bigint not null,
    seq bigint not null,
    foreign key (room, seq) references message on delete cascade
);
create index imported_message_message on imported_message (room, seq);
comment on table imported_message is 'Ids that messages had in the program they were imported from.';

create table imported_file (
    old_path text primary key,
    file bigint not null
);
comment on table imported_file is 'Paths that files had in the program they were imported from.';
