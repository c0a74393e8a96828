//! The operations of this folder, in sled statements.

use crate::chat::organization::sled as organization;
use crate::chat::request::sled::{acquaintance, blocks, end_requests, put_block, remove_block};
use crate::chat::room::making::{Asked, Candidate, others};
use crate::chat::room::{
    Additions, Member, PairDraft, Room, RoomChange, RoomChanged, RoomDraft, RoomFacts, RoomJudge, RoomKind,
    RoomLimits, RoomMade, RoomSummary,
};
use crate::chat::sled::facts::{active, facts};
use crate::chat::sled::message::newest;
use crate::chat::sled::request::{Invitation, accept, put_decline, put_invited, put_unasked, remove_decline};
use crate::chat::sled::room::{MemberRecord, RoomRecord, member, put_member, remove_member};
use crate::chat::{FileId, Judged, ROOMS_MAX, RoomId};
use crate::engine::Then;
use crate::engine::sled::keys::chat as key;
use crate::engine::sled::record::{Record, decode, decode_u64, encode_u64};
use crate::engine::sled::txn::{Newest, Txn};
use crate::engine::sled::{Sled, error};
use crate::files::sled as file;
use crate::{StoreError, Timestamp, UserId};

impl Sled {
    pub(crate) fn chat_pair_open(&self, draft: PairDraft, then: Then<RoomMade>) -> Result<(), StoreError> {
        self.change_then(move |txn| pair_open(txn, draft), then)
    }

    pub(crate) fn chat_group_create(&self, draft: RoomDraft, then: Then<RoomMade>) -> Result<(), StoreError> {
        self.change_then(move |txn| group_create(txn, draft), then)
    }

    pub(crate) fn chat_room_change(
        &self,
        room: RoomId,
        actor: UserId,
        target: Option<UserId>,
        now: Timestamp,
        judge: RoomJudge,
        then: Then<Judged<RoomChanged>>,
    ) -> Result<(), StoreError> {
        self.change_then(
            move |txn| {
                let Some(facts) = facts(txn, room, actor, target)? else { return Ok(Judged::Missing) };
                match judge(&facts) {
                    Err(refusal) => Ok(Judged::Refused(refusal)),
                    Ok(changes) => Ok(Judged::Done(apply(txn, facts, actor, target, now, changes)?)),
                }
            },
            then,
        )
    }

    pub(crate) fn chat_rooms_before(
        &self,
        before: Option<RoomId>,
        limit: usize,
    ) -> Result<Vec<(Room, u64)>, StoreError> {
        let end = key::room(before.unwrap_or(RoomId(u64::MAX)));
        let mut rooms = Vec::new();
        for entry in self.tree.range(key::room(RoomId(0))..end).rev().take(limit) {
            let (key, value) = entry.map_err(error::read)?;
            let id = RoomId(key::last(&key));
            rooms.push((decode::<RoomRecord>(&value)?.with_id(id), self.chat_last_seq(id)?));
        }
        Ok(rooms)
    }

    pub(crate) fn chat_facts(&self, room: RoomId, actor: UserId) -> Result<Option<RoomFacts>, StoreError> {
        let Some(record) = self.record::<RoomRecord>(&key::room(room))? else { return Ok(None) };
        let member = self.chat_member(room, actor)?;
        let banned = self.tree.contains_key(key::ban(room, actor)).map_err(error::read)?;
        Ok(Some(RoomFacts { actor_banned: banned, ..RoomFacts::of(record.with_id(room), member) }))
    }

    pub(crate) fn chat_members(&self, room: RoomId, limit: usize) -> Result<Vec<Member>, StoreError> {
        self.chat_members_from(room, UserId(0), limit)
    }

    pub(crate) fn chat_members_from(
        &self,
        room: RoomId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError> {
        let newest = self.chat_newest(room)?.map(|(newest, _)| newest);
        let range = key::member(room, from)..=key::member(room, UserId(u64::MAX));
        self.tree
            .range(range)
            .take(limit)
            .map(|entry| {
                let (key, value) = entry.map_err(error::read)?;
                let user = UserId(key::last(&key));
                Ok(decode::<MemberRecord>(&value)?.as_of(user, newest).with_id(user))
            })
            .collect()
    }

    /// A member as of the newest message.
    pub(crate) fn chat_member(&self, room: RoomId, user: UserId) -> Result<Option<Member>, StoreError> {
        // In this order: a sender who stops being the newest one is written together with the next message.
        let newest = self.chat_newest(room)?.map(|(newest, _)| newest);
        let member = self.record::<MemberRecord>(&key::member(room, user))?;
        Ok(member.map(|member| member.as_of(user, newest).with_id(user)))
    }

    pub(crate) fn chat_bans(&self, room: RoomId, limit: usize) -> Result<Vec<UserId>, StoreError> {
        self.chat_bans_from(room, UserId(0), limit)
    }

    pub(crate) fn chat_bans_from(
        &self,
        room: RoomId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        let range = key::ban(room, from)..=key::ban(room, UserId(u64::MAX));
        let keys = self.tree.range(range).keys().take(limit);
        keys.map(|key| Ok(UserId(key::last(&key.map_err(error::read)?)))).collect()
    }

    pub(crate) fn chat_rooms_of(&self, user: UserId, limit: usize) -> Result<Vec<RoomSummary>, StoreError> {
        let mut rooms = Vec::new();
        for key in self.tree.scan_prefix(key::user_rooms(user)).keys().take(limit) {
            let room = RoomId(key::last(&key.map_err(error::read)?));
            // The room may be deleted between the two reads.
            if let Some(summary) = self.chat_summary(room, user)? {
                rooms.push(summary);
            }
        }
        Ok(rooms)
    }

    pub(crate) fn chat_summary(&self, room: RoomId, user: UserId) -> Result<Option<RoomSummary>, StoreError> {
        let Some(record) = self.record::<RoomRecord>(&key::room(room))? else { return Ok(None) };
        // Before the member: see `Store::chat_member`.
        let newest = self.chat_newest(room)?;
        let (last_seq, at) = newest.map_or_else(Default::default, |(newest, at)| (newest.seq, at));
        let Some(member) = self.record::<MemberRecord>(&key::member(room, user))? else {
            return Ok(None);
        };
        let member = member.as_of(user, newest.map(|(newest, _)| newest)).with_id(user);
        Ok(Some(RoomSummary {
            updated_at: record.updated_at.max(at),
            room: record.with_id(room),
            unread: member.unread(last_seq),
            member,
            last_seq,
        }))
    }

    pub(crate) fn chat_rooms_to_sweep(&self, limit: usize) -> Result<Vec<RoomId>, StoreError> {
        let keys = self.tree.scan_prefix(key::SWEEPS).keys().take(limit);
        keys.map(|key| Ok(RoomId(key::last(&key.map_err(error::read)?)))).collect()
    }

    pub(crate) async fn chat_room_sweep(&self, room: RoomId, limit: usize) -> Result<usize, StoreError> {
        self.change(move |txn| {
            if txn.get(&key::room(room))?.is_some() {
                return Ok(0);
            }
            let mut swept = 0;
            let tables = [
                key::messages(room),
                key::client_ids(room),
                key::deletions(room),
                key::revisions(room),
                key::leavers(room),
                key::words(room),
            ];
            for table in tables {
                for (key, _) in txn.scan(&table, limit.saturating_sub(swept))? {
                    txn.delete(key);
                    swept += 1;
                }
            }
            if swept == 0 {
                txn.delete(key::sweep(room));
            }
            Ok(swept)
        })
        .await
    }
}

fn pair_open(txn: &mut Txn, draft: PairDraft) -> Result<RoomMade, StoreError> {
    let PairDraft { user, other, owner_rights, other_rights, limits, additions, now, .. } = draft;
    if !active(txn, other)? {
        return Ok(RoomMade::UserMissing);
    }
    let pair = key::pair(user, other);
    if let Some(bytes) = txn.get(&pair)? {
        let id = RoomId(decode_u64("pair", &bytes)?);
        if let Some(record) = txn.get_record::<RoomRecord>(&key::room(id))? {
            if txn.get(&key::ban(id, user))?.is_some() {
                return Ok(RoomMade::Banned);
            }
            if txn.get(&key::block(other, user))?.is_some() {
                return Ok(RoomMade::Blocked);
            }
            // A user who left, or was removed without a ban, returns to the pair's room.
            if txn.get(&key::member(id, user))?.is_none() {
                if full(txn, user, &limits)? {
                    return Ok(RoomMade::TooManyRooms);
                }
                let rights = if record.owner == user { owner_rights } else { other_rights };
                let record = put_member(txn, id, record, user, rights, now)?;
                txn.put_record(key::room(id), &record);
                remove_decline(txn, user, other)?;
                return Ok(RoomMade::Existing(record.with_id(id)));
            }
            // A user who asks for the room sees it again.
            if member(txn, id, user, None)?.is_some_and(|member| member.hidden_at.is_some()) {
                change_member(txn, id, user, |member| member.hidden_at = None)?;
            }
            remove_decline(txn, user, other)?;
            return Ok(RoomMade::Existing(record.with_id(id)));
        }
    }
    if full(txn, user, &limits)? {
        return Ok(RoomMade::TooManyRooms);
    }
    if blocks(txn, user, other)? {
        return Ok(RoomMade::TargetBlocked);
    }
    let asked = match asked(txn, user, RoomKind::Pair, &[other], (additions, &limits))? {
        Ok(asked) => asked,
        Err(refused) => return Ok(*refused),
    };
    let Some(id) = next_room(txn)? else { return Ok(RoomMade::TooManyRooms) };
    let mut record = RoomRecord {
        pair: true,
        owner: user,
        name: draft.name,
        descriptions: draft.descriptions,
        avatar: None,
        status: draft.status,
        organization: None,
        created_at: now,
        updated_at: now,
        members: 0,
        bans: 0,
        revision: 0,
        changes: 0,
        other,
    };
    record = put_member(txn, id, record, user, owner_rights, now)?;
    if other != user {
        record = add(txn, id, record, other, other_rights, &asked, now)?;
    }
    txn.put(pair, encode_u64(id.0));
    txn.put_record(key::room(id), &record);
    remove_decline(txn, user, other)?;
    Ok(RoomMade::New { room: record.with_id(id), asked: asked.users, unasked: asked.unasked })
}

fn group_create(txn: &mut Txn, draft: RoomDraft) -> Result<RoomMade, StoreError> {
    let RoomDraft { owner, limits, now, .. } = draft;
    let members = others(owner, draft.members);
    if members.len() as u64 + 1 > u64::from(limits.members_max) {
        return Ok(RoomMade::TooManyMembers);
    }
    if let Some(id) = draft.organization
        && organization::owned(txn, owner, id)?.is_none()
    {
        return Ok(RoomMade::OrganizationMissing);
    }
    if full(txn, owner, &limits)? {
        return Ok(RoomMade::TooManyRooms);
    }
    for member in &members {
        if !active(txn, *member)? {
            return Ok(RoomMade::UserMissing);
        }
    }
    let asked = match asked(txn, owner, RoomKind::Group, &members, (draft.additions, &limits))? {
        Ok(asked) => asked,
        Err(refused) => return Ok(*refused),
    };
    let Some(id) = next_room(txn)? else { return Ok(RoomMade::TooManyRooms) };
    let mut record = RoomRecord {
        pair: false,
        owner,
        name: draft.name,
        descriptions: draft.descriptions,
        avatar: None,
        status: draft.status,
        organization: draft.organization,
        created_at: now,
        updated_at: now,
        members: 0,
        bans: 0,
        revision: 0,
        changes: 0,
        other: owner,
    };
    record = put_member(txn, id, record, owner, draft.owner_rights, now)?;
    for member in members {
        record = add(txn, id, record, member, draft.member_rights, &asked, now)?;
    }
    txn.put_record(key::room(id), &record);
    Ok(RoomMade::New { room: record.with_id(id), asked: asked.users, unasked: asked.unasked })
}

/// Who of these users is asked, or why the room is refused.
fn asked(
    txn: &Txn,
    by: UserId,
    kind: RoomKind,
    users: &[UserId],
    (additions, limits): (Additions, &RoomLimits),
) -> Result<Result<Asked, Box<RoomMade>>, StoreError> {
    let mut asked = Asked::new(by, kind, additions);
    for user in users.iter().filter(|user| **user != by) {
        let acquaintance = acquaintance(txn, by, *user, None)?;
        let full = full(txn, *user, limits)?;
        if let Err(refused) = asked.add(Candidate { user: *user, acquaintance, full }) {
            return Ok(Err(refused));
        }
    }
    Ok(asked.whole())
}

/// Adds a user to a new room, or asks.
fn add(
    txn: &mut Txn,
    id: RoomId,
    record: RoomRecord,
    user: UserId,
    rights: u16,
    asked: &Asked,
    now: Timestamp,
) -> Result<RoomRecord, StoreError> {
    if !asked.includes(user) {
        return put_member(txn, id, record, user, rights, now);
    }
    if asked.unasked.contains(&user) {
        return put_unasked(txn, id, record, user, rights, now);
    }
    let Asked { by, waiting_max, .. } = *asked;
    put_invited(txn, id, record, user, Invitation { by, rights, waiting_max, now })
}

fn next_room(txn: &mut Txn) -> Result<Option<RoomId>, StoreError> {
    let id = txn.next(key::ROOM_SEQUENCE)?;
    Ok((id <= ROOMS_MAX).then_some(RoomId(id)))
}

/// Returns true when the user is in as many rooms as allowed.
fn full(txn: &Txn, user: UserId, limits: &RoomLimits) -> Result<bool, StoreError> {
    let rooms = txn.scan(&key::user_rooms(user), limits.rooms_per_user_max)?;
    Ok(rooms.len() >= limits.rooms_per_user_max)
}

fn apply(
    txn: &mut Txn,
    facts: RoomFacts,
    actor: UserId,
    target: Option<UserId>,
    now: Timestamp,
    changes: Vec<RoomChange>,
) -> Result<RoomChanged, StoreError> {
    let id = facts.room.id;
    let key = key::room(id);
    let Some(mut room) = txn.get_record::<RoomRecord>(&key)? else {
        return Err(StoreError::Record {
            kind: RoomRecord::KIND,
            reason: "it disappeared within a change".into(),
        });
    };
    let (mut former, mut deleted) = (Vec::new(), false);
    let newest = newest(txn, id)?;
    let last_seq = newest.map_or(0, |newest| newest.seq);
    let touched = changes.iter().any(RoomChange::is_numbered);
    let target_was_asked = match target {
        Some(target) => txn.get(&key::request(target, id))?.is_some(),
        None => false,
    };
    for change in &changes {
        match (change, target) {
            (RoomChange::Name(name), _) => room.name.clone_from(name),
            (RoomChange::Descriptions(text), _) => room.descriptions.clone_from(text),
            (RoomChange::Status(status), _) => room.status = *status,
            (RoomChange::Avatar(avatar), _) => change_avatar(txn, id, &mut room, actor, *avatar)?,
            (RoomChange::Accept, _) => accept(txn, id, &room, actor, now)?,
            (RoomChange::Dismiss, _) => dismiss(txn, &facts, &room, actor, now)?,
            (RoomChange::Hide, _) => {
                change_member(txn, id, actor, |member| member.hidden_at = Some(last_seq))?;
            }
            (RoomChange::Pin(pinned), _) => change_member(txn, id, actor, |member| member.pinned = *pinned)?,
            (RoomChange::Read(seq), _) => read(txn, id, actor, (*seq).min(last_seq), newest)?,
            (RoomChange::Delete, _) => {
                former = delete(txn, id, &room)?;
                deleted = true;
            }
            (membership, Some(target)) => {
                room = change_membership(txn, room, (id, actor, target), membership, now)?
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
    room.changes += u64::from(touched);
    // The last member may have left a room before it is deleted.
    if touched && !deleted {
        room.updated_at = now;
        txn.put_record(key, &room);
    }
    Ok(RoomChanged {
        room: room.with_id(id),
        actor: member(txn, id, actor, newest)?.map(|member| member.with_id(actor)),
        target,
        changes,
        last_seq,
        numbered: touched,
        was_pending: facts.actor.is_some_and(|actor| actor.pending),
        was_read: facts.actor.map_or(0, |actor| actor.read_seq),
        target_was_member: facts.target.is_some(),
        target_was_pending: facts.target.is_some_and(|target| target.pending),
        target_was_asked,
        former,
    })
}

/// Drops the actor's request. The other user of a pair is not to ask again.
fn dismiss(
    txn: &mut Txn,
    facts: &RoomFacts,
    room: &RoomRecord,
    actor: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    txn.delete(key::request(actor, facts.room.id));
    match facts.actor.is_some_and(|actor| actor.pending) && room.pair {
        true => put_decline(txn, actor, room.partner(actor), now),
        false => Ok(()),
    }
}

/// Shows another picture, or none; the one before is free for removal.
fn change_avatar(
    txn: &mut Txn,
    id: RoomId,
    room: &mut RoomRecord,
    actor: UserId,
    avatar: Option<FileId>,
) -> Result<(), StoreError> {
    let old = match avatar {
        None => room.avatar.take(),
        // Number 0 marks the file as taken, by no message.
        Some(file) => match file::attach(txn, file, id, actor, 0)? {
            Some(_) => room.avatar.replace(file),
            None => None,
        },
    };
    match old {
        Some(old) => file::detach(txn, old),
        None => Ok(()),
    }
}

/// Applies a change of the target's membership.
fn change_membership(
    txn: &mut Txn,
    mut room: RoomRecord,
    (id, actor, target): (RoomId, UserId, UserId),
    change: &RoomChange,
    now: Timestamp,
) -> Result<RoomRecord, StoreError> {
    match change {
        RoomChange::Member { rights } => {
            room = put_member(txn, id, room, target, *rights, now)?;
        }
        RoomChange::Invite { rights, waiting_max } => {
            let request = Invitation { by: actor, rights: *rights, waiting_max: *waiting_max, now };
            room = put_invited(txn, id, room, target, request)?;
        }
        RoomChange::Await { rights } => room = put_unasked(txn, id, room, target, *rights, now)?,
        RoomChange::Remove => {
            remove_member(txn, id, &mut room, target)?;
            if target == actor && !room.pair {
                txn.put(key::leaver(id, target), sled::IVec::default());
            }
        }
        RoomChange::Owner => {
            let accepted = |member: &MemberRecord| !member.pending;
            if member(txn, id, target, None)?.as_ref().is_some_and(accepted) {
                (room.owner, room.organization) = (target, None);
            }
        }
        RoomChange::Ban => {
            // Within the bound on blocks; past it the ban holds alone.
            if room.pair {
                put_block(txn, actor, target)?;
                end_requests(txn, actor, target)?;
            }
            remove_member(txn, id, &mut room, target)?;
            if txn.get(&key::ban(id, target))?.is_none() {
                txn.put(key::ban(id, target), sled::IVec::default());
                room.bans += 1;
            }
        }
        RoomChange::Unban => {
            if room.pair {
                remove_block(txn, actor, target)?;
            }
            if txn.get(&key::ban(id, target))?.is_some() {
                txn.delete(key::ban(id, target));
                room.bans = room.bans.saturating_sub(1);
            }
        }
        _ => {}
    }
    Ok(room)
}

fn change_member(
    txn: &mut Txn,
    room: RoomId,
    user: UserId,
    change: impl FnOnce(&mut MemberRecord),
) -> Result<(), StoreError> {
    let key = key::member(room, user);
    if let Some(mut member) = txn.get_record::<MemberRecord>(&key)? {
        change(&mut member);
        txn.put_record(key, &member);
    }
    Ok(())
}

/// Moves a read marker forward. Costs one read per message deleted in between, none at the room's end.
fn read(
    txn: &mut Txn,
    room: RoomId,
    user: UserId,
    seq: u64,
    newest: Option<Newest>,
) -> Result<(), StoreError> {
    let last_seq = newest.map_or(0, |newest| newest.seq);
    let Some(mut member) = member(txn, room, user, newest)? else { return Ok(()) };
    if seq <= member.read_seq {
        return Ok(());
    }
    member.deleted_unread = match seq == last_seq || member.deleted_unread == 0 {
        true => 0,
        false => txn.count_between(&key::deletion(room, seq + 1), &key::deletion(room, last_seq))?,
    };
    member.read_seq = seq;
    txn.put_record(key::member(room, user), &member);
    Ok(())
}

fn delete(txn: &mut Txn, id: RoomId, room: &RoomRecord) -> Result<Vec<UserId>, StoreError> {
    let mut former = Vec::new();
    // The limits on members and bans bound this scan.
    for (key, value) in txn.scan(&key::members(id), usize::MAX)? {
        let user = UserId(key::last(&key));
        txn.delete(decode::<MemberRecord>(&value)?.entry(user, id));
        txn.delete(key);
        former.push(user);
    }
    for (key, _) in txn.scan(&key::bans(id), usize::MAX)? {
        txn.delete(key);
    }
    if room.pair {
        txn.delete(key::pair(room.owner, room.other));
    }
    txn.delete(key::room(id));
    txn.put(key::sweep(id), sled::IVec::default());
    Ok(former)
}
