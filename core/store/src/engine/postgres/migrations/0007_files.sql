-- Records of uploaded files.

create sequence stored_file_id;

create table stored_file (
    id bigint primary key check (id > 0),
    room bigint not null,
    uploader bigint not null,
    name text not null unique,
    folder text not null,
    title text not null,
    content_type text not null,
    bytes bigint not null check (bytes >= 0),
    text text,
    width bigint check (width >= 0),
    height bigint check (height >= 0),
    thumbnail_bytes bigint check (thumbnail_bytes >= 0),
    thumbnail_width bigint check (thumbnail_width >= 0),
    thumbnail_height bigint check (thumbnail_height >= 0),
    created_at timestamptz not null,
    message bigint check (message >= 0),
    doomed boolean not null default false,
    shared boolean not null default false,
    check (num_nulls(width, height) in (0, 2)),
    check (num_nulls(thumbnail_bytes, thumbnail_width, thumbnail_height) in (0, 3)),
    check (thumbnail_bytes is null or width is not null)
);
create index stored_file_room on stored_file (room);
create index stored_file_uploader on stored_file (uploader);
comment on table stored_file is 'Uploaded files. Their bytes are in the folder of the gateways, not here.';
comment on column stored_file.name is 'The last part of the link: unique and unguessable.';
comment on column stored_file.message is
    'The number of the message that has the file; 0: the room has it as its avatar; null: nobody yet.';
comment on column stored_file.doomed is 'About to be removed: no message can take it.';
comment on column stored_file.shared is 'Imported, and shown to the members of its room without a message.';

create table stored_file_quota (
    uploader bigint primary key,
    bytes bigint not null check (bytes >= 0)
);
comment on table stored_file_quota is 'Bytes of the files of each user, thumbnails included.';

create table stored_file_total (
    one boolean primary key default true check (one),
    bytes bigint not null check (bytes >= 0)
);
insert into stored_file_total (bytes) values (0);
comment on table stored_file_total is 'Bytes of all files, thumbnails included.';
