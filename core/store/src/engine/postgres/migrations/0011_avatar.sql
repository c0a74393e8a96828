-- Pictures of accounts.

alter table stored_file alter column room drop not null;
comment on column stored_file.room is 'Null: the picture of its uploader''s account.';
comment on column stored_file.message is
    'The number of the message that has the file; 0: the room, or the uploader, has it as avatar; null: nobody yet.';

alter table account add avatar bigint, add avatar_path text, add check (num_nulls(avatar, avatar_path) in (0, 2));
comment on column account.avatar is 'The number of the file that is its picture.';
comment on column account.avatar_path is 'The link of that file, as in stored_file.folder and name.';
