//! Statements of PostgreSQL.

use crate::chat::import::{ImportedFile, ImportedIds, ImportedMessage, ImportedRoom};
use crate::chat::postgres::room::{kind, status};
use crate::chat::{FileId, Message, Organization, Room, RoomId, StoredFile};
use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, int, size};
use crate::files::postgres as file;
use crate::{StoreError, Timestamp, UserId};

impl Postgres {
    /// Adds rows only.
    pub(crate) async fn import_organizations(
        &self,
        organizations: Vec<Organization>,
    ) -> Result<(), StoreError> {
        self.change(organizations, |sql, organizations| {
            Box::pin(async move {
                let statement = "insert into organization (id, name, uname, owner, created_at) \
                                 values ($1, $2, $3, $4, $5)";
                for Organization { id, name, uname, owner, created_at } in organizations {
                    let args = (int(id.0), Text(name), Text(uname), int(owner.0), At(*created_at));
                    sql.run(statement, &[&args.0, &args.1, &args.2, &args.3, &args.4]).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Locks the rooms whose messages are here already.
    pub(crate) async fn import_rooms(&self, rooms: Vec<ImportedRoom>) -> Result<(), StoreError> {
        self.change(rooms, |sql, rooms| {
            Box::pin(async move {
                for room in rooms {
                    put_room(sql, room).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Locks the messages' rooms, which are not complete yet.
    pub(crate) async fn import_messages(&self, messages: Vec<ImportedMessage>) -> Result<(), StoreError> {
        self.change(messages, |sql, messages| {
            Box::pin(async move {
                for message in messages {
                    put_message(sql, message).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Adds rows, and counts their bytes.
    pub(crate) async fn import_files(&self, files: Vec<ImportedFile>) -> Result<(), StoreError> {
        self.change(files, |sql, files| {
            Box::pin(async move {
                for ImportedFile { file, old_path } in files {
                    let statement = "insert into imported_file (old_path, file) values ($1, $2) \
                                     on conflict (old_path) do update set file = excluded.file";
                    sql.run(statement, &[&Text(old_path), &int(file.id.0)]).await?;
                    file::put_imported(sql, file).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Sequences take no part in the transaction: a change that runs again sets the same numbers.
    pub(crate) async fn import_ids(&self, last: ImportedIds) -> Result<(), StoreError> {
        self.change(last, |sql, last| {
            Box::pin(async move {
                let raise = "select setval($1::text::regclass, $2) where $2 > 0 and $2 > \
                             coalesce(pg_sequence_last_value($1::text::regclass), 0)";
                let sequences = [
                    ("account_id", last.user),
                    ("payment_id_seq", last.payment),
                    ("room_id", last.room),
                    ("organization_id", last.organization),
                    ("stored_file_id", last.file),
                ];
                for (sequence, last) in sequences {
                    sql.rows(raise, &[&sequence, &int(last)]).await?;
                }
                Ok(())
            })
        })
        .await
    }

    pub(crate) async fn chat_message_by_old_id(
        &self,
        old_id: u64,
    ) -> Result<Option<(RoomId, u64)>, StoreError> {
        let statement = "select room, seq from imported_message where old = $1";
        let found = self.reader().await?.found(statement, &[&int(old_id)]).await?;
        Ok(found.map(|row| (RoomId(row.uint("room")), row.uint("seq"))))
    }

    pub(crate) async fn chat_file_by_old_path(&self, path: &str) -> Result<Option<StoredFile>, StoreError> {
        let statement = "select file from imported_file where old_path = $1";
        let found = self.reader().await?.found(statement, &[&Text(path)]).await?;
        match found {
            Some(row) => self.chat_file(FileId(row.uint("file"))).await,
            None => Ok(None),
        }
    }

    pub(crate) async fn chat_last_seq_before(
        &self,
        room: RoomId,
        before: Timestamp,
    ) -> Result<u64, StoreError> {
        // Halves the numbers until one is left: `low` was sent before the instant, or is 0; what follows `high` was
        // not.
        let statement = "
            with recursive bounds (low, high) as (
                select 0::bigint, last_seq from room where id = $1
                union all
                select
                    case when is_older then middle else low end,
                    case when is_older then high else middle - 1 end
                from (
                    select low, high, (low + high + 1) / 2 as middle, exists (
                        select from message
                        where room = $1 and seq = (low + high + 1) / 2 and created_at < $2
                    ) as is_older
                    from bounds where low < high
                ) as halved
            )
            select low from bounds where low >= high";
        let found = self.reader().await?.found(statement, &[&int(room.0), &At(before)]).await?;
        Ok(found.map_or(0, |row| row.uint("low")))
    }
}

async fn put_room(sql: &Sql, imported: &ImportedRoom) -> Result<(), StoreError> {
    let ImportedRoom { room, members, bans, pair_with } = imported;
    let pair = pair_with.map(|other| (int(room.owner.min(other).0), int(room.owner.max(other).0)));
    // Its messages may have come before.
    let statement = "
        insert into room (id, state, kind, owner, pair_low, pair_high, name, descriptions, avatar, status,
            organization, created_at, updated_at, members, bans, revision, changes)
        values ($1, 'live', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
        on conflict (id) do update set state = 'live', kind = excluded.kind, owner = excluded.owner,
            pair_low = excluded.pair_low, pair_high = excluded.pair_high, name = excluded.name,
            descriptions = excluded.descriptions, avatar = excluded.avatar, status = excluded.status,
            organization = excluded.organization, created_at = excluded.created_at,
            updated_at = excluded.updated_at, members = excluded.members, bans = excluded.bans,
            revision = excluded.revision, changes = excluded.changes
        where room.state = 'arriving'";
    let Room { id, owner, status: state, organization, .. } = room;
    let (members, bans) = (size(members.len()), size(bans.len()));
    let kind_of = if pair.is_some() { "pair" } else { kind(crate::chat::RoomKind::Group) };
    sql.run(
        statement,
        &[
            &int(id.0),
            &kind_of,
            &int(owner.0),
            &pair.map(|pair| pair.0),
            &pair.map(|pair| pair.1),
            &room.name.as_deref().map(Text),
            &room.descriptions.as_deref().map(Text),
            &room.avatar.map(|avatar| int(avatar.0)),
            &status(*state),
            &organization.map(|organization| int(organization.0)),
            &At(room.created_at),
            &At(room.updated_at),
            &members,
            &bans,
            &int(room.revision),
            &int(room.changes),
        ],
    )
    .await?;
    put_people(sql, imported).await
}

async fn put_people(sql: &Sql, imported: &ImportedRoom) -> Result<(), StoreError> {
    let ImportedRoom { room, members, bans, .. } = imported;
    let id = int(room.id.0);
    // Sending is reading: the sender of the newest message has read everything.
    let statement = "
        with newest as (
            select seq from message where room = $1 and sender = $2 and seq = 
                (select max(seq) from message where room = $1)
        )
        insert into room_member
            (room, account, rights, read_seq, deleted_unread, pinned, joined_at, hidden_at, pending)
        values ($1, $2, $3, greatest($4, (select seq from newest)),
            case when exists (select from newest) then 0 else $5::bigint end, $6, $7, $8, $9)";
    for member in members {
        sql.run(
            statement,
            &[
                &id,
                &int(member.user.0),
                &i32::from(member.rights),
                &int(member.read_seq),
                &int(member.deleted_unread),
                &member.pinned,
                &At(member.joined_at),
                &member.hidden_at.map(int),
                &member.pending,
            ],
        )
        .await?;
    }
    let bans: Vec<i64> = bans.iter().map(|user: &UserId| int(user.0)).collect();
    let statement =
        "insert into room_ban (room, account) select $1, account from unnest($2::bigint[]) as account";
    sql.run(statement, &[&id, &bans]).await.map(drop)
}

async fn put_message(sql: &Sql, imported: &ImportedMessage) -> Result<(), StoreError> {
    let ImportedMessage { message, old_id } = imported;
    let Message { room, seq, sender, body, .. } = message;
    let (room, seq) = (int(room.0), int(*seq));
    // The room itself comes when its messages are here.
    let statement = "
        insert into room (id, state, kind, status, created_at, updated_at, members, bans, last_seq, last_at)
        values ($1, 'arriving', 'group', 'open', $3, $3, 0, 0, $2, $3)
        on conflict (id) do update set last_seq = excluded.last_seq, last_at = excluded.last_at
        where room.last_seq < excluded.last_seq";
    sql.run(statement, &[&room, &seq, &At(message.created_at)]).await?;
    let statement = "
        insert into message (room, seq, sender, kind, text, raw, lat, lng, file, file_name, client_id,
            created_at, edited_at, deleted)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    sql.run(
        statement,
        &[
            &room,
            &seq,
            &int(sender.0),
            &Text(&body.kind),
            &Text(&body.text),
            &body.raw,
            &body.lat.as_deref().map(Text),
            &body.lng.as_deref().map(Text),
            &message.file.map(|file| int(file.0)),
            &message.file_name.as_deref().map(Text),
            &message.client_id.as_deref().map(Text),
            &At(message.created_at),
            &message.edited_at.map(At),
            &message.deleted,
        ],
    )
    .await?;
    let statement = "insert into imported_message (old, room, seq) values ($1, $2, $3) \
                     on conflict (old) do update set room = excluded.room, seq = excluded.seq";
    sql.run(statement, &[&int(*old_id), &room, &seq]).await.map(drop)
}
