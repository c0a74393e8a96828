//! Rows of rooms and members, and the steps shared by several operations inside a change.

use tokio_postgres::Row;

use crate::chat::room::{Member, Room, RoomKind};
use crate::chat::{FileId, OrganizationId, RoomId, RoomStatus};
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::{StoreError, Timestamp, UserId};

/// The columns of [`Kept`], from `room`.
macro_rules! room_columns {
    () => {
        "id, kind, owner, name, descriptions, avatar, status, organization, room.created_at, updated_at, \
         members, bans, revision, changes, last_seq, last_at"
    };
}

/// The columns of [`member`], from `room_member`.
macro_rules! member_columns {
    () => {
        "account, rights, read_seq, deleted_unread, pinned, joined_at, hidden_at, pending"
    };
}

pub(crate) use {member_columns, room_columns};

/// A room, and what its row says of its newest message.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) room: Room,
    pub(crate) last_seq: u64,
    pub(crate) last_at: Timestamp,
}

impl Kept {
    pub(crate) fn read(row: &Row) -> Result<Kept, StoreError> {
        let room = Room {
            id: RoomId(row.uint("id")),
            kind: match row.get("kind") {
                "pair" => RoomKind::Pair,
                _ => RoomKind::Group,
            },
            owner: UserId(row.uint("owner")),
            name: row.text_opt("name"),
            descriptions: row.text_opt("descriptions"),
            avatar: row.uint_opt("avatar").map(FileId),
            status: status_of(row.get("status"))?,
            organization: row.uint_opt("organization").map(OrganizationId),
            created_at: row.at("created_at"),
            updated_at: row.at("updated_at"),
            members: row.uint32("members"),
            bans: row.uint32("bans"),
            revision: row.uint("revision"),
            changes: row.uint("changes"),
        };
        Ok(Kept { room, last_seq: row.uint("last_seq"), last_at: row.at("last_at") })
    }
}

pub(crate) fn status(status: RoomStatus) -> &'static str {
    match status {
        RoomStatus::Open => "open",
        RoomStatus::Closed => "closed",
        RoomStatus::Hold => "hold",
    }
}

fn status_of(column: &str) -> Result<RoomStatus, StoreError> {
    Ok(match column {
        "open" => RoomStatus::Open,
        "closed" => RoomStatus::Closed,
        "hold" => RoomStatus::Hold,
        other => {
            return Err(StoreError::Record { kind: "room", reason: format!("its status is {other:?}") });
        }
    })
}

pub(crate) fn kind(kind: RoomKind) -> &'static str {
    match kind {
        RoomKind::Pair => "pair",
        RoomKind::Group => "group",
    }
}

/// The member of a row; `None` when an outer join found none.
pub(crate) fn member(row: &Row) -> Option<Member> {
    Some(Member {
        user: UserId(row.uint_opt("account")?),
        rights: u16::try_from(row.get::<_, i32>("rights")).unwrap_or(0),
        read_seq: row.uint("read_seq"),
        deleted_unread: row.uint("deleted_unread"),
        pinned: row.get("pinned"),
        joined_at: row.at("joined_at"),
        hidden_at: row.uint_opt("hidden_at"),
        pending: row.get("pending"),
    })
}

/// The statement of [`lock`].
pub(crate) const LOCK: &str =
    concat!("select ", room_columns!(), " from room where id = $1 and state = 'live' for no key update");

/// Locks a room's row, and returns the room as it is then.
pub(crate) async fn lock(sql: &Sql, room: RoomId) -> Result<Option<Kept>, StoreError> {
    sql.found(LOCK, &[&int(room.0)]).await?.map(|row| Kept::read(&row)).transpose()
}

/// Locks the rows of users in order of their numbers. Returns those that are active accounts.
pub(crate) async fn lock_users(sql: &Sql, users: &[UserId]) -> Result<Vec<UserId>, StoreError> {
    let statement = "select id, active from account where id = any($1) order by id for no key update";
    let users: Vec<i64> = users.iter().map(|user| int(user.0)).collect();
    let rows = sql.rows(statement, &[&users]).await?;
    Ok(rows.iter().filter(|row| row.get("active")).map(|row| UserId(row.uint("id"))).collect())
}

/// A member of a room whose row is locked.
pub(crate) async fn member_of(sql: &Sql, room: RoomId, user: UserId) -> Result<Option<Member>, StoreError> {
    let statement =
        concat!("select ", member_columns!(), " from room_member where room = $1 and account = $2");
    let found = sql.found(statement, &[&int(room.0), &int(user.0)]).await?;
    Ok(found.and_then(|row| member(&row)))
}

/// Writes what a change may have changed of a room.
pub(crate) async fn write(sql: &Sql, room: &Room) -> Result<(), StoreError> {
    let statement = "update room set owner = $2, name = $3, descriptions = $4, avatar = $5, status = $6, \
                     organization = $7, updated_at = $8, members = $9, bans = $10, changes = $11 where id = $1";
    sql.run(
        statement,
        &[
            &int(room.id.0),
            &int(room.owner.0),
            &room.name.as_deref().map(Text),
            &room.descriptions.as_deref().map(Text),
            &room.avatar.map(|avatar| int(avatar.0)),
            &status(room.status),
            &room.organization.map(|id| int(id.0)),
            &At(room.updated_at),
            &i64::from(room.members),
            &i64::from(room.bans),
            &int(room.changes),
        ],
    )
    .await
    .map(drop)
}

/// Makes users members, or replaces members' rights. Other fields of members are kept. Returns how many are new.
pub(crate) async fn put_members(
    sql: &Sql,
    kept: &Kept,
    users: &[UserId],
    rights: u16,
    now: Timestamp,
) -> Result<u32, StoreError> {
    let users: Vec<i64> = users.iter().map(|user| int(user.0)).collect();
    let room = int(kept.room.id.0);
    // `xmax` of a row that was inserted is 0.
    let statement = "insert into room_member \
                     (room, account, rights, read_seq, deleted_unread, pinned, joined_at, pending) \
                     select $1, account, $3, $4, 0, false, $5, false from unnest($2::bigint[]) as account \
                     on conflict (room, account) do update set rights = excluded.rights \
                     returning (xmax = 0) as new";
    let rows =
        sql.rows(statement, &[&room, &users, &i32::from(rights), &int(kept.last_seq), &At(now)]).await?;
    forget_leavers(sql, kept.room.id, &users).await?;
    let new = rows.iter().filter(|row| row.get("new")).count();
    Ok(u32::try_from(new).unwrap_or(u32::MAX))
}

pub(crate) async fn forget_leavers(sql: &Sql, room: RoomId, users: &[i64]) -> Result<(), StoreError> {
    let statement = "delete from room_leaver where room = $1 and account = any($2)";
    sql.run(statement, &[&int(room.0), &users]).await.map(drop)
}

/// Removes a member, with its request. Returns whether there was one.
pub(crate) async fn remove_member(sql: &Sql, room: &mut Room, user: UserId) -> Result<(), StoreError> {
    let statement = "delete from room_member where room = $1 and account = $2";
    if sql.run(statement, &[&int(room.id.0), &int(user.0)]).await? > 0 {
        room.members = room.members.saturating_sub(1);
    }
    Ok(())
}
