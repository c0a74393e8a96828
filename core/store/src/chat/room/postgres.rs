//! The operations of this folder, in PostgreSQL statements.

use crate::chat::postgres::facts::{acquaintances, facts, facts_with, rooms_of};
use crate::chat::postgres::request::{
    Invitation, accept, end_requests, forget_request, is_asked, put_block, put_decline, put_invited,
    put_unasked, remove_block, remove_decline,
};
use crate::chat::postgres::room::{
    Kept, kind, lock, lock_users, member, member_columns, member_of, put_members, remove_member,
    room_columns, status, write,
};
use crate::chat::room::making::{Asked, Candidate, others};
use crate::chat::room::{
    Additions, Member, PairDraft, Room, RoomChange, RoomChanged, RoomDraft, RoomFacts, RoomJudge, RoomKind,
    RoomLimits, RoomMade, RoomSummary,
};
use crate::chat::{FileId, Judged, OrganizationId, ROOMS_MAX, RoomId, RoomStatus};
use crate::engine::Then;
use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, int, size};
use crate::files::postgres as file;
use crate::{StoreError, Timestamp, UserId};

impl Postgres {
    /// Locks both users. They decide together whether their pair exists, so no other call makes it meanwhile.
    pub(crate) fn chat_pair_open(&self, draft: PairDraft, then: Then<RoomMade>) -> Result<(), StoreError> {
        self.change_then(draft, |sql, draft| Box::pin(pair_open(sql, draft)), then)
    }

    /// Locks the owner and the members.
    pub(crate) fn chat_group_create(&self, draft: RoomDraft, then: Then<RoomMade>) -> Result<(), StoreError> {
        self.change_then(draft, |sql, draft| Box::pin(group_create(sql, draft)), then)
    }

    /// Locks the actor and the target, when there is one, and then the room.
    pub(crate) fn chat_room_change(
        &self,
        room: RoomId,
        actor: UserId,
        target: Option<UserId>,
        now: Timestamp,
        judge: RoomJudge,
        then: Then<Judged<RoomChanged>>,
    ) -> Result<(), StoreError> {
        self.change_in_order_then(
            room.0,
            judge,
            move |sql, judge| {
                Box::pin(async move {
                    let Some((kept, facts)) = judged(sql, room, actor, target).await? else {
                        return Ok(Judged::Missing);
                    };
                    match judge(&facts) {
                        Err(refusal) => Ok(Judged::Refused(refusal)),
                        Ok(changes) => {
                            Ok(Judged::Done(apply(sql, kept, facts, (actor, target), now, changes).await?))
                        }
                    }
                })
            },
            then,
        )
    }

    pub(crate) async fn chat_rooms_before(
        &self,
        before: Option<RoomId>,
        limit: usize,
    ) -> Result<Vec<(Room, u64)>, StoreError> {
        let statement = concat!(
            "select ",
            room_columns!(),
            " from room where state = 'live' and id < $1 order by id desc limit $2"
        );
        let before = before.map_or(i64::MAX, |before| int(before.0));
        let rows = self.reader().await?.rows(statement, &[&before, &size(limit)]).await?;
        rows.iter().map(|row| Kept::read(row).map(|kept| (kept.room, kept.last_seq))).collect()
    }

    pub(crate) async fn chat_facts(
        &self,
        room: RoomId,
        actor: UserId,
    ) -> Result<Option<RoomFacts>, StoreError> {
        let statement = concat!(
            "select ",
            room_columns!(),
            ", ",
            member_columns!(),
            ", exists (select from room_ban where room = room.id and account = $2) as banned \
             from room left join room_member on room = id and account = $2 where id = $1 and state = 'live'"
        );
        let found = self.reader().await?.found(statement, &[&int(room.0), &int(actor.0)]).await?;
        let Some(row) = found else { return Ok(None) };
        let actor_banned = row.get("banned");
        Ok(Some(RoomFacts { actor_banned, ..RoomFacts::of(Kept::read(&row)?.room, member(&row)) }))
    }

    pub(crate) async fn chat_members(&self, room: RoomId, limit: usize) -> Result<Vec<Member>, StoreError> {
        self.chat_members_from(room, UserId(0), limit).await
    }

    pub(crate) async fn chat_members_from(
        &self,
        room: RoomId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError> {
        let statement = concat!(
            "select ",
            member_columns!(),
            " from room_member where room = $1 and account >= $2 order by account limit $3"
        );
        let rows = self.reader().await?.rows(statement, &[&int(room.0), &int(from.0), &size(limit)]).await?;
        Ok(rows.iter().filter_map(member).collect())
    }

    pub(crate) async fn chat_bans(&self, room: RoomId, limit: usize) -> Result<Vec<UserId>, StoreError> {
        self.chat_bans_from(room, UserId(0), limit).await
    }

    pub(crate) async fn chat_bans_from(
        &self,
        room: RoomId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        let statement =
            "select account from room_ban where room = $1 and account >= $2 order by account limit $3";
        let rows = self.reader().await?.rows(statement, &[&int(room.0), &int(from.0), &size(limit)]).await?;
        Ok(rows.iter().map(|row| UserId(row.uint("account"))).collect())
    }

    pub(crate) async fn chat_rooms_of(
        &self,
        user: UserId,
        limit: usize,
    ) -> Result<Vec<RoomSummary>, StoreError> {
        let statement = concat!(
            "select ",
            room_columns!(),
            ", ",
            member_columns!(),
            " from room_member join room on id = room where account = $1 and not pending \
             order by room limit $2"
        );
        let rows = self.reader().await?.rows(statement, &[&int(user.0), &size(limit)]).await?;
        let mut rooms = Vec::with_capacity(rows.len());
        for row in &rows {
            rooms.extend(summary(row)?);
        }
        Ok(rooms)
    }

    pub(crate) async fn chat_summary(
        &self,
        room: RoomId,
        user: UserId,
    ) -> Result<Option<RoomSummary>, StoreError> {
        let statement = concat!(
            "select ",
            room_columns!(),
            ", ",
            member_columns!(),
            " from room_member join room on id = room where room = $1 and account = $2"
        );
        let found = self.reader().await?.found(statement, &[&int(room.0), &int(user.0)]).await?;
        found.map_or(Ok(None), |row| summary(&row))
    }

    pub(crate) async fn chat_rooms_to_sweep(&self, limit: usize) -> Result<Vec<RoomId>, StoreError> {
        let statement = "select id from room where state = 'deleted' order by id limit $1";
        let rows = self.reader().await?.rows(statement, &[&size(limit)]).await?;
        Ok(rows.iter().map(|row| RoomId(row.uint("id"))).collect())
    }

    /// Nobody adds to a deleted room, so steps on several nodes only share the work.
    pub(crate) async fn chat_room_sweep(&self, room: RoomId, limit: usize) -> Result<usize, StoreError> {
        self.change(int(room.0), move |sql, room| {
            Box::pin(async move {
                let statement = "select from room where id = $1 and state = 'deleted' for no key update";
                if sql.found(statement, &[room]).await?.is_none() {
                    return Ok(0);
                }
                let statement = "delete from message where room = $1 and seq in \
                                 (select seq from message where room = $1 order by seq limit $2)";
                let messages = sql.run(statement, &[room, &size(limit)]).await?;
                let rest = size(limit.saturating_sub(usize::try_from(messages).unwrap_or(limit)));
                let statement = "delete from room_leaver where room = $1 and account in \
                                 (select account from room_leaver where room = $1 limit $2)";
                let leavers = sql.run(statement, &[room, &rest]).await?;
                let statement = "delete from word_block where room = $1 and first in \
                                 (select first from word_block where room = $1 limit $2)";
                let swept = messages + leavers + sql.run(statement, &[room, &rest]).await?;
                if swept == 0 {
                    sql.run("delete from room where id = $1", &[room]).await?;
                }
                Ok(usize::try_from(swept).unwrap_or(usize::MAX))
            })
        })
        .await
    }
}

fn summary(row: &tokio_postgres::Row) -> Result<Option<RoomSummary>, StoreError> {
    let Kept { room, last_seq, last_at } = Kept::read(row)?;
    let Some(member) = member(row) else { return Ok(None) };
    Ok(Some(RoomSummary {
        updated_at: room.updated_at.max(last_at),
        unread: member.unread(last_seq),
        room,
        member,
        last_seq,
    }))
}

/// Locks what a change of a room needs, and reads its facts.
async fn judged(
    sql: &Sql,
    room: RoomId,
    actor: UserId,
    target: Option<UserId>,
) -> Result<Option<(Kept, RoomFacts)>, StoreError> {
    // Users come before rooms. A change without a target needs no user, except where the actor was asked: see `facts`.
    let active = match target {
        None => Vec::new(),
        Some(target) => lock_users(sql, &[actor, target]).await?,
    };
    let Some(kept) = lock(sql, room).await? else { return Ok(None) };
    let facts = match target {
        None => facts(sql, &kept, actor).await?,
        Some(target) => facts_with(sql, &kept, actor, target, &active).await?,
    };
    Ok(Some((kept, facts)))
}

async fn pair_open(sql: &Sql, draft: &PairDraft) -> Result<RoomMade, StoreError> {
    let PairDraft { user, other, owner_rights, other_rights, limits, additions, now, .. } = *draft;
    let active = lock_users(sql, &[user, other]).await?;
    if !active.contains(&other) {
        return Ok(RoomMade::UserMissing);
    }
    if let Some(kept) = pair(sql, user, other).await? {
        let reopened = reopen(sql, kept, draft).await?;
        if matches!(reopened, RoomMade::Existing(_)) {
            remove_decline(sql, user, other).await?;
        }
        return Ok(reopened);
    }
    if full(rooms_of(sql, user).await?, &limits) {
        return Ok(RoomMade::TooManyRooms);
    }
    if blocks(sql, user, other).await? {
        return Ok(RoomMade::TargetBlocked);
    }
    let asked = match asked(sql, user, RoomKind::Pair, &[other], (additions, &limits)).await? {
        Ok(asked) => asked,
        Err(refused) => return Ok(*refused),
    };
    let room = NewRoom {
        kind: RoomKind::Pair,
        owner: user,
        other,
        name: draft.name.clone(),
        descriptions: draft.descriptions.clone(),
        status: draft.status,
        organization: None,
        now,
    };
    let Some(mut kept) = make(sql, room).await? else { return Ok(RoomMade::TooManyRooms) };
    kept.room.members = put_members(sql, &kept, &[user], owner_rights, now).await?;
    if other != user {
        add(sql, &mut kept, &[other], other_rights, &asked, now).await?;
    }
    write(sql, &kept.room).await?;
    remove_decline(sql, user, other).await?;
    Ok(RoomMade::New { room: kept.room, asked: asked.users, unasked: asked.unasked })
}

/// The locked room of a pair.
async fn pair(sql: &Sql, one: UserId, other: UserId) -> Result<Option<Kept>, StoreError> {
    let statement = concat!(
        "select ",
        room_columns!(),
        " from room where pair_low = $1 and pair_high = $2 and state = 'live' for no key update"
    );
    let found = sql.found(statement, &[&int(one.min(other).0), &int(one.max(other).0)]).await?;
    found.map(|row| Kept::read(&row)).transpose()
}

/// The user's way back into the pair's room.
async fn reopen(sql: &Sql, mut kept: Kept, draft: &PairDraft) -> Result<RoomMade, StoreError> {
    let PairDraft { user, other, now, .. } = *draft;
    let (id, number) = (int(kept.room.id.0), int(user.0));
    let statement = "select exists (select from room_ban where room = $1 and account = $2) as banned, \
                     exists (select from chat_block where blocker = $3 and blocked = $2) as blocked";
    let row = sql.row(statement, &[&id, &number, &int(other.0)]).await?;
    if row.get("banned") {
        return Ok(RoomMade::Banned);
    }
    if row.get("blocked") {
        return Ok(RoomMade::Blocked);
    }
    match member_of(sql, kept.room.id, user).await? {
        // A user who left, or was removed without a ban, returns to the pair's room.
        None => {
            if full(rooms_of(sql, user).await?, &draft.limits) {
                return Ok(RoomMade::TooManyRooms);
            }
            let rights = if kept.room.owner == user { draft.owner_rights } else { draft.other_rights };
            kept.room.members += put_members(sql, &kept, &[user], rights, now).await?;
            write(sql, &kept.room).await?;
        }
        // A user who asks for the room sees it again.
        Some(member) if member.hidden_at.is_some() => {
            let statement = "update room_member set hidden_at = null where room = $1 and account = $2";
            sql.run(statement, &[&id, &number]).await?;
        }
        Some(_) => {}
    }
    Ok(RoomMade::Existing(kept.room))
}

/// Whether a user blocks another one: by a block, or by a ban in their pair's room.
async fn blocks(sql: &Sql, blocker: UserId, other: UserId) -> Result<bool, StoreError> {
    let known = acquaintances(sql, other, &[blocker], None).await?;
    Ok(known.first().is_some_and(|known| known.acquaintance.blocks))
}

fn full(rooms: usize, limits: &RoomLimits) -> bool {
    rooms >= limits.rooms_per_user_max
}

async fn group_create(sql: &Sql, draft: &RoomDraft) -> Result<RoomMade, StoreError> {
    let RoomDraft { owner, limits, now, .. } = *draft;
    let members = others(owner, draft.members.clone());
    if members.len() as u64 + 1 > u64::from(limits.members_max) {
        return Ok(RoomMade::TooManyMembers);
    }
    let active = lock_users(sql, &[&[owner], members.as_slice()].concat()).await?;
    if let Some(id) = draft.organization {
        let statement = "select from organization where id = $1 and owner = $2 for key share";
        if sql.found(statement, &[&int(id.0), &int(owner.0)]).await?.is_none() {
            return Ok(RoomMade::OrganizationMissing);
        }
    }
    if full(rooms_of(sql, owner).await?, &limits) {
        return Ok(RoomMade::TooManyRooms);
    }
    if !members.iter().all(|member| active.binary_search(member).is_ok()) {
        return Ok(RoomMade::UserMissing);
    }
    let asked = match asked(sql, owner, RoomKind::Group, &members, (draft.additions, &limits)).await? {
        Ok(asked) => asked,
        Err(refused) => return Ok(*refused),
    };
    let room = NewRoom {
        kind: RoomKind::Group,
        owner,
        other: owner,
        name: draft.name.clone(),
        descriptions: draft.descriptions.clone(),
        status: draft.status,
        organization: draft.organization,
        now,
    };
    let Some(mut kept) = make(sql, room).await? else { return Ok(RoomMade::TooManyRooms) };
    kept.room.members = put_members(sql, &kept, &[owner], draft.owner_rights, now).await?;
    add(sql, &mut kept, &members, draft.member_rights, &asked, now).await?;
    write(sql, &kept.room).await?;
    Ok(RoomMade::New { room: kept.room, asked: asked.users, unasked: asked.unasked })
}

/// Who of these users is asked, or why the room is refused.
async fn asked(
    sql: &Sql,
    by: UserId,
    kind: RoomKind,
    users: &[UserId],
    (additions, limits): (Additions, &RoomLimits),
) -> Result<Result<Asked, Box<RoomMade>>, StoreError> {
    let mut asked = Asked::new(by, kind, additions);
    for known in acquaintances(sql, by, users, None).await? {
        if known.user == by {
            continue;
        }
        let full = full(known.rooms, limits);
        let candidate = Candidate { user: known.user, acquaintance: known.acquaintance, full };
        if let Err(refused) = asked.add(candidate) {
            return Ok(Err(refused));
        }
    }
    Ok(asked.whole())
}

/// Adds users to a new room, or asks them.
async fn add(
    sql: &Sql,
    kept: &mut Kept,
    users: &[UserId],
    rights: u16,
    asked: &Asked,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (asked_for, admitted): (Vec<UserId>, Vec<UserId>) =
        users.iter().partition(|user| asked.includes(**user));
    let (unasked, invited): (Vec<UserId>, Vec<UserId>) =
        asked_for.into_iter().partition(|user| asked.unasked.contains(user));
    if !admitted.is_empty() {
        kept.room.members += put_members(sql, kept, &admitted, rights, now).await?;
    }
    if !invited.is_empty() {
        let invitation = Invitation { by: asked.by, rights, waiting_max: asked.waiting_max, now };
        kept.room.members += put_invited(sql, kept, &invited, invitation).await?;
    }
    if !unasked.is_empty() {
        let new = put_unasked(sql, kept, &unasked, rights, now).await?;
        kept.room.members += u32::try_from(new.len()).unwrap_or(u32::MAX);
    }
    Ok(())
}

struct NewRoom {
    kind: RoomKind,
    owner: UserId,
    /// The other user of a pair.
    other: UserId,
    name: Option<String>,
    descriptions: Option<String>,
    status: RoomStatus,
    organization: Option<OrganizationId>,
    now: Timestamp,
}

/// Stores a room without members; `None` when all numbers are given.
async fn make(sql: &Sql, new: NewRoom) -> Result<Option<Kept>, StoreError> {
    let id = RoomId(sql.row("select nextval('room_id') as id", &[]).await?.uint("id"));
    if id.0 > ROOMS_MAX {
        return Ok(None);
    }
    let NewRoom { owner, other, now, .. } = new;
    let pair = (new.kind == RoomKind::Pair).then(|| (int(owner.min(other).0), int(owner.max(other).0)));
    let statement = "insert into room (id, kind, owner, pair_low, pair_high, name, descriptions, status, \
                     organization, created_at, updated_at, members, bans) \
                     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, 0, 0)";
    sql.run(
        statement,
        &[
            &int(id.0),
            &kind(new.kind),
            &int(owner.0),
            &pair.map(|pair| pair.0),
            &pair.map(|pair| pair.1),
            &new.name.as_deref().map(Text),
            &new.descriptions.as_deref().map(Text),
            &status(new.status),
            &new.organization.map(|id| int(id.0)),
            &At(now),
        ],
    )
    .await?;
    let room = Room {
        id,
        kind: new.kind,
        owner,
        name: new.name,
        descriptions: new.descriptions,
        avatar: None,
        status: new.status,
        organization: new.organization,
        created_at: now,
        updated_at: now,
        members: 0,
        bans: 0,
        revision: 0,
        changes: 0,
    };
    Ok(Some(Kept { room, last_seq: 0, last_at: Timestamp::default() }))
}

async fn apply(
    sql: &Sql,
    kept: Kept,
    facts: RoomFacts,
    (actor, target): (UserId, Option<UserId>),
    now: Timestamp,
    changes: Vec<RoomChange>,
) -> Result<RoomChanged, StoreError> {
    let (mut room, last_seq) = (kept.room.clone(), kept.last_seq);
    let (mut former, mut deleted) = (Vec::new(), false);
    let numbered = changes.iter().any(RoomChange::is_numbered);
    let target_was_pending = facts.target.is_some_and(|target| target.pending);
    // Who accepted has no request.
    let target_was_asked = match facts.target.filter(|_| target_was_pending) {
        Some(target) => is_asked(sql, room.id, target.user).await?,
        None => false,
    };
    for change in &changes {
        match (change, target) {
            (RoomChange::Name(name), _) => room.name.clone_from(name),
            (RoomChange::Descriptions(text), _) => room.descriptions.clone_from(text),
            (RoomChange::Status(status), _) => room.status = *status,
            (RoomChange::Avatar(avatar), _) => change_avatar(sql, &mut room, actor, *avatar).await?,
            (RoomChange::Accept, _) => accept(sql, &room, actor, now).await?,
            (RoomChange::Dismiss, _) => {
                forget_request(sql, room.id, actor).await?;
                if facts.actor.is_some_and(|actor| actor.pending) {
                    put_decline(sql, room.id, actor, now).await?;
                }
            }
            (RoomChange::Hide | RoomChange::Pin(_), _) => mark(sql, &kept, actor, change).await?,
            (RoomChange::Read(seq), _) => read(sql, &kept, actor, (*seq).min(last_seq)).await?,
            (RoomChange::Delete, _) => {
                former = delete(sql, room.id).await?;
                deleted = true;
            }
            (membership, Some(target)) => {
                change_membership(sql, &kept, &mut room, (actor, target), membership, now).await?;
            }
            // A change without a target has no effect.
            (
                RoomChange::Member { .. }
                | RoomChange::Invite { .. }
                | RoomChange::Await { .. }
                | RoomChange::Remove
                | RoomChange::Owner
                | RoomChange::Ban
                | RoomChange::Unban,
                None,
            ) => {}
        }
    }
    room.changes += u64::from(numbered);
    if numbered && !deleted {
        room.updated_at = now;
        write(sql, &room).await?;
    }
    Ok(RoomChanged {
        actor: member_of(sql, room.id, actor).await?,
        room,
        target,
        changes,
        last_seq,
        numbered,
        was_pending: facts.actor.is_some_and(|actor| actor.pending),
        was_read: facts.actor.map_or(0, |actor| actor.read_seq),
        target_was_member: facts.target.is_some(),
        target_was_pending,
        target_was_asked,
        former,
    })
}

/// Shows another picture, or none; the one before is free for removal.
async fn change_avatar(
    sql: &Sql,
    room: &mut Room,
    actor: UserId,
    avatar: Option<FileId>,
) -> Result<(), StoreError> {
    let old = match avatar {
        None => room.avatar.take(),
        // Number 0 marks the file as taken, by no message.
        Some(file) => match file::attach(sql, file, room.id, actor, 0).await? {
            Some(_) => room.avatar.replace(file),
            None => None,
        },
    };
    match old {
        Some(old) => file::detach(sql, old).await,
        None => Ok(()),
    }
}

/// Applies a change of the target's membership.
async fn change_membership(
    sql: &Sql,
    kept: &Kept,
    room: &mut Room,
    (actor, target): (UserId, UserId),
    change: &RoomChange,
    now: Timestamp,
) -> Result<(), StoreError> {
    let ids: [i64; 2] = [int(room.id.0), int(target.0)];
    match change {
        RoomChange::Member { rights } => {
            room.members += put_members(sql, kept, &[target], *rights, now).await?;
        }
        RoomChange::Invite { rights, waiting_max } => {
            let invitation = Invitation { by: actor, rights: *rights, waiting_max: *waiting_max, now };
            room.members += put_invited(sql, kept, &[target], invitation).await?;
        }
        RoomChange::Await { rights } => {
            let new = put_unasked(sql, kept, &[target], *rights, now).await?;
            room.members += u32::from(!new.is_empty());
        }
        RoomChange::Remove => {
            remove_member(sql, room, target).await?;
            if target == actor && room.kind == RoomKind::Group {
                let statement =
                    "insert into room_leaver (room, account) values ($1, $2) on conflict do nothing";
                sql.run(statement, &[&ids[0], &ids[1]]).await?;
            }
        }
        RoomChange::Owner => {
            let accepted = |member: &Member| !member.pending;
            let successor = member_of(sql, room.id, target).await?.filter(accepted);
            (room.owner, room.organization) = match successor {
                Some(_) => (target, None),
                None => (room.owner, room.organization),
            };
        }
        RoomChange::Ban => {
            // Within the bound on blocks; past it the ban holds alone.
            if room.kind == RoomKind::Pair {
                put_block(sql, actor, target).await?;
                end_requests(sql, actor, target).await?;
            }
            remove_member(sql, room, target).await?;
            let statement = "insert into room_ban (room, account) values ($1, $2) on conflict do nothing";
            room.bans += u32::from(sql.run(statement, &[&ids[0], &ids[1]]).await? > 0);
        }
        RoomChange::Unban => {
            if room.kind == RoomKind::Pair {
                remove_block(sql, actor, target).await?;
            }
            let statement = "delete from room_ban where room = $1 and account = $2";
            let unbanned = sql.run(statement, &[&ids[0], &ids[1]]).await? > 0;
            room.bans = room.bans.saturating_sub(u32::from(unbanned));
        }
        _ => {}
    }
    Ok(())
}

/// Hides or pins the room for one member.
async fn mark(sql: &Sql, kept: &Kept, user: UserId, change: &RoomChange) -> Result<(), StoreError> {
    let (room, user) = (int(kept.room.id.0), int(user.0));
    if let RoomChange::Pin(pinned) = change {
        let statement = "update room_member set pinned = $3 where room = $1 and account = $2";
        return sql.run(statement, &[&room, &user, pinned]).await.map(drop);
    }
    let statement = "update room_member set hidden_at = $3 where room = $1 and account = $2";
    sql.run(statement, &[&room, &user, &int(kept.last_seq)]).await.map(drop)
}

/// Moves a read marker forward. Costs one index entry per message deleted in between, none at the room's end.
async fn read(sql: &Sql, kept: &Kept, user: UserId, seq: u64) -> Result<(), StoreError> {
    let statement = "update room_member set read_seq = $3, deleted_unread = case \
                     when $3 = $4 or deleted_unread = 0 then 0 \
                     else (select count(*) from message where room = $1 and seq > $3 and deleted) end \
                     where room = $1 and account = $2 and read_seq < $3";
    let (room, user) = (int(kept.room.id.0), int(user.0));
    sql.run(statement, &[&room, &user, &int(seq), &int(kept.last_seq)]).await.map(drop)
}

/// Hides the room from everybody. The limits on members and bans bound the work; messages are swept later.
async fn delete(sql: &Sql, room: RoomId) -> Result<Vec<UserId>, StoreError> {
    let room = int(room.0);
    let statement = "with gone as (delete from room_member where room = $1 returning account) \
                     select account from gone order by account";
    let former = sql.rows(statement, &[&room]).await?;
    sql.run("delete from room_ban where room = $1", &[&room]).await?;
    let statement =
        "update room set state = 'deleted', members = 0, bans = 0, organization = null where id = $1";
    sql.run(statement, &[&room]).await?;
    Ok(former.iter().map(|row| UserId(row.uint("account"))).collect())
}
