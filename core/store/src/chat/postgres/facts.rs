//! The facts a judge decides by, read inside the change itself.

use crate::chat::postgres::room::{Kept, lock_users, member, member_columns, member_of};
use crate::chat::room::{Member, RoomFacts};
use crate::chat::{Acquaintance, RoomId};
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{Columns, int};
use crate::{StoreError, UserId};

/// Rooms that are counted of a user.
const ROOMS_MAX: i64 = 10_000;

/// Facts about the actor in a room whose row is locked. Locks an actor who was asked into the room, because the rooms
/// of one who accepts are counted.
pub(crate) async fn facts(sql: &Sql, kept: &Kept, actor: UserId) -> Result<RoomFacts, StoreError> {
    let (member, banned) = standing(sql, kept, actor).await?;
    let actor_rooms = rooms_if_asked(sql, member).await?;
    Ok(RoomFacts { actor_banned: banned, actor_rooms, ..RoomFacts::of(kept.room.clone(), member) })
}

/// Rooms of a member who has to accept this one first; 0 for others.
pub(crate) async fn rooms_if_asked(sql: &Sql, member: Option<Member>) -> Result<usize, StoreError> {
    match member.filter(|member| member.pending) {
        None => Ok(0),
        Some(Member { user, .. }) => {
            lock_users(sql, &[user]).await?;
            rooms_of(sql, user).await
        }
    }
}

/// [`facts`], and those about a target. Actor and target are locked, too; `active` are those of them who may be added.
pub(crate) async fn facts_with(
    sql: &Sql,
    kept: &Kept,
    actor: UserId,
    target: UserId,
    active: &[UserId],
) -> Result<RoomFacts, StoreError> {
    let facts = facts(sql, kept, actor).await?;
    let (member, banned) = standing(sql, kept, target).await?;
    let acquaintance = match member {
        Some(_) => Acquaintance::default(),
        None => {
            let found = acquaintances(sql, actor, &[target], Some(kept.room.id)).await?;
            found.first().map_or_else(Acquaintance::default, |known| known.acquaintance)
        }
    };
    Ok(RoomFacts {
        target: member,
        target_banned: banned,
        target_exists: active.contains(&target),
        target_rooms: rooms_of(sql, target).await?,
        acquaintance,
        ..facts
    })
}

/// A user's membership and ban.
async fn standing(sql: &Sql, kept: &Kept, user: UserId) -> Result<(Option<Member>, bool), StoreError> {
    // Most rooms have no bans, and most changes are messages.
    if kept.room.bans == 0 {
        return Ok((member_of(sql, kept.room.id, user).await?, false));
    }
    let statement = concat!(
        "select ",
        member_columns!(),
        ", exists (select from room_ban where room = $1 and account = $2) as banned \
         from (values (1)) as one left join room_member on room = $1 and account = $2"
    );
    let row = sql.row(statement, &[&int(kept.room.id.0), &int(user.0)]).await?;
    Ok((member(&row), row.get("banned")))
}

/// Rooms that a user is in, at most [`ROOMS_MAX`].
pub(crate) async fn rooms_of(sql: &Sql, user: UserId) -> Result<usize, StoreError> {
    let statement = "select count(*) as rooms from \
                     (select from room_member where account = $1 and not pending limit $2) as counted";
    let row = sql.row(statement, &[&int(user.0), &ROOMS_MAX]).await?;
    Ok(usize::try_from(row.uint("rooms")).unwrap_or(usize::MAX))
}

/// A user who may be added, and the number of the user's rooms.
pub(crate) struct Known {
    pub(crate) user: UserId,
    pub(crate) acquaintance: Acquaintance,
    pub(crate) rooms: usize,
}

/// How users stand to the one who adds them to a room, in order of their numbers; `room` is `None` for a new one.
pub(crate) async fn acquaintances(
    sql: &Sql,
    actor: UserId,
    users: &[UserId],
    room: Option<RoomId>,
) -> Result<Vec<Known>, StoreError> {
    let statement = "
        select who.id,
            exists (
                select from room_member as own join room_member as their using (room)
                where own.account = $1 and their.account = who.id and not own.pending and not their.pending
            ) as share_a_room,
            exists (select from chat_block where blocker = who.id and blocked = $1)
                or exists (
                    select from room join room_ban on room = room.id
                    where pair_low = least(who.id, $1) and pair_high = greatest(who.id, $1) and state = 'live'
                        and account = $1
                ) as blocks,
            exists (select from room_leaver where room = $3 and account = who.id) as has_left,
            exists (select from chat_decline where decliner = who.id and asker = $1) as declined,
            (select count(*) from chat_request where account = who.id and asked_by = $1) as waiting,
            (
                select count(*) from
                (select from room_member where account = who.id and not pending limit $4) as counted
            ) as rooms
        from unnest($2::bigint[]) as who(id) order by who.id";
    let ids: Vec<i64> = users.iter().map(|user| int(user.0)).collect();
    let room = room.map(|room| int(room.0));
    let rows = sql.rows(statement, &[&int(actor.0), &ids, &room, &ROOMS_MAX]).await?;
    let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(rows
        .iter()
        .map(|row| Known {
            user: UserId(row.uint("id")),
            acquaintance: Acquaintance {
                share_a_room: row.get("share_a_room"),
                blocks: row.get("blocks"),
                left: row.get("has_left"),
                declined: row.get("declined"),
                waiting: size(row.uint("waiting")),
            },
            rooms: size(row.uint("rooms")),
        })
        .collect())
}
