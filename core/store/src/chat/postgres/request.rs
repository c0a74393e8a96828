//! Requests: members who have not accepted their room yet. Blocks, which end them.

use crate::chat::RoomId;
use crate::chat::postgres::room::{Kept, forget_leavers, lock, remove_member, write};
use crate::chat::request::{BLOCKS_MAX, DECLINES_MAX};
use crate::chat::room::{Room, RoomKind};
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, int};
use crate::{StoreError, Timestamp, UserId};

/// Of the pair `$1`: its user who is not `$2`, in a statement with the pair's row.
macro_rules! partner {
    () => {
        "case when room.owner = $2 then pair_low + pair_high - room.owner else room.owner end"
    };
}

/// Who asks a user into a room, and with which rights.
#[derive(Clone, Copy)]
pub(crate) struct Invitation {
    pub(crate) by: UserId,
    pub(crate) rights: u16,
    /// Requests that may wait for the user.
    pub(crate) waiting_max: usize,
    pub(crate) now: Timestamp,
}

/// Makes users, whose rows are locked, members who have to accept the room first, each in place of the oldest request
/// if the user has `waiting_max`. Members stay as they are. Returns how many are new.
pub(crate) async fn put_invited(
    sql: &Sql,
    kept: &Kept,
    users: &[UserId],
    invitation: Invitation,
) -> Result<u32, StoreError> {
    let Invitation { by, rights, waiting_max, now } = invitation;
    let new = put_unasked(sql, kept, users, rights, now).await?;
    for (user, place) in oldest(sql, &new, waiting_max).await? {
        end_request(sql, user, place).await?;
    }
    let statement = "insert into chat_request (account, room, asked_by, at) \
                     select account, $1, $3, $4 from unnest($2::bigint[]) as account";
    sql.run(statement, &[&int(kept.room.id.0), &new, &int(by.0), &At(now)]).await?;
    Ok(u32::try_from(new.len()).unwrap_or(u32::MAX))
}

/// Makes users, whose rows are locked, members who have to accept the room first, without a request. Members stay as
/// they are. Returns the others.
pub(crate) async fn put_unasked(
    sql: &Sql,
    kept: &Kept,
    users: &[UserId],
    rights: u16,
    now: Timestamp,
) -> Result<Vec<i64>, StoreError> {
    let room = int(kept.room.id.0);
    let statement = "insert into room_member \
                     (room, account, rights, read_seq, deleted_unread, pinned, joined_at, pending) \
                     select $1, account, $3, $4, 0, false, $5, true from unnest($2::bigint[]) as account \
                     on conflict (room, account) do nothing returning account";
    let users: Vec<i64> = users.iter().map(|user| int(user.0)).collect();
    let rows =
        sql.rows(statement, &[&room, &users, &i32::from(rights), &int(kept.last_seq), &At(now)]).await?;
    Ok(rows.iter().map(|row| row.get("account")).collect())
}

/// The oldest request of each user who has as many as allowed.
async fn oldest(sql: &Sql, users: &[i64], waiting_max: usize) -> Result<Vec<(UserId, RoomId)>, StoreError> {
    let statement = "select distinct on (account) account, room from \
                     (select *, count(*) over (partition by account) as waiting from chat_request \
                      where account = any($1)) as requests \
                     where waiting >= $2 order by account, at, room";
    let waiting_max = i64::try_from(waiting_max).unwrap_or(i64::MAX);
    let rows = sql.rows(statement, &[&users, &waiting_max]).await?;
    Ok(rows.iter().map(|row| (UserId(row.uint("account")), RoomId(row.uint("room")))).collect())
}

/// Lets a member who was asked accept the room.
pub(crate) async fn accept(sql: &Sql, room: &Room, user: UserId, now: Timestamp) -> Result<(), StoreError> {
    let joins = room.kind == RoomKind::Group;
    let statement = "update room_member set pending = false, joined_at = case when $3 then $4 else joined_at end \
                     where room = $1 and account = $2 and pending";
    let (id, number) = (int(room.id.0), int(user.0));
    if sql.run(statement, &[&id, &number, &joins, &At(now)]).await? == 0 {
        return Ok(());
    }
    forget_request(sql, room.id, user).await?;
    if room.kind == RoomKind::Group {
        return forget_leavers(sql, room.id, &[number]).await;
    }
    let statement = concat!(
        "delete from chat_decline using room where room.id = $1 and decliner = $2 and asker = ",
        partner!()
    );
    sql.run(statement, &[&id, &number]).await.map(drop)
}

/// Marks that a user, whose row is locked, declined a pair, in place of the oldest mark if the user has as many as
/// allowed. Nothing for a group.
pub(crate) async fn put_decline(
    sql: &Sql,
    room: RoomId,
    decliner: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let statement = concat!(
        "insert into chat_decline (decliner, asker, at) select $2, ",
        partner!(),
        ", $3 from room where id = $1 and pair_low is not null \
         on conflict (decliner, asker) do update set at = excluded.at"
    );
    sql.run(statement, &[&int(room.0), &int(decliner.0), &At(now)]).await?;
    let statement = "delete from chat_decline where decliner = $1 and asker in \
                     (select asker from chat_decline where decliner = $1 order by at desc, asker desc offset $2)";
    let max = i64::try_from(DECLINES_MAX).unwrap_or(i64::MAX);
    sql.run(statement, &[&int(decliner.0), &max]).await.map(drop)
}

pub(crate) async fn remove_decline(sql: &Sql, decliner: UserId, asker: UserId) -> Result<(), StoreError> {
    let statement = "delete from chat_decline where decliner = $1 and asker = $2";
    sql.run(statement, &[&int(decliner.0), &int(asker.0)]).await.map(drop)
}

/// Whether a request of a user waits.
pub(crate) async fn is_asked(sql: &Sql, room: RoomId, user: UserId) -> Result<bool, StoreError> {
    let statement = "select from chat_request where account = $1 and room = $2";
    Ok(sql.found(statement, &[&int(user.0), &int(room.0)]).await?.is_some())
}

/// Removes a request and keeps its member.
pub(crate) async fn forget_request(sql: &Sql, room: RoomId, user: UserId) -> Result<(), StoreError> {
    let statement = "delete from chat_request where account = $1 and room = $2";
    sql.run(statement, &[&int(user.0), &int(room.0)]).await.map(drop)
}

/// Ends a request without the user's answer. A pair stays, and opens when the user names the other one; an invitation
/// ends. Locks the request's room.
pub(crate) async fn end_request(sql: &Sql, user: UserId, room: RoomId) -> Result<(), StoreError> {
    let kept = lock(sql, room).await?;
    forget_request(sql, room, user).await?;
    if let Some(mut room) = kept.map(|kept| kept.room).filter(|room| room.kind == RoomKind::Group) {
        remove_member(sql, &mut room, user).await?;
        write(sql, &room).await?;
    }
    Ok(())
}

/// Ends the requests of a user, whose row is locked, that wait for the one who blocks that user.
pub(crate) async fn end_requests(sql: &Sql, user: UserId, by: UserId) -> Result<(), StoreError> {
    let statement = "select room from chat_request where account = $1 and asked_by = $2 order by room";
    for row in sql.rows(statement, &[&int(user.0), &int(by.0)]).await? {
        end_request(sql, user, RoomId(row.uint("room"))).await?;
    }
    Ok(())
}

/// False when the user, whose row is locked, blocks as many as allowed.
pub(crate) async fn put_block(sql: &Sql, blocker: UserId, blocked: UserId) -> Result<bool, StoreError> {
    let statement = "insert into chat_block (blocker, blocked) select $1, $2 \
                     where exists (select from chat_block where blocker = $1 and blocked = $2) \
                     or (select count(*) from chat_block where blocker = $1) < $3 \
                     on conflict do nothing";
    let max = i64::try_from(BLOCKS_MAX).unwrap_or(i64::MAX);
    let (one, other) = (int(blocker.0), int(blocked.0));
    if sql.run(statement, &[&one, &other, &max]).await? > 0 {
        return Ok(true);
    }
    let statement = "select from chat_block where blocker = $1 and blocked = $2";
    Ok(sql.found(statement, &[&one, &other]).await?.is_some())
}

pub(crate) async fn remove_block(sql: &Sql, blocker: UserId, blocked: UserId) -> Result<(), StoreError> {
    let statement = "delete from chat_block where blocker = $1 and blocked = $2";
    sql.run(statement, &[&int(blocker.0), &int(blocked.0)]).await.map(drop)
}
