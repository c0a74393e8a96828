//! Rooms, their members and bans.
//!
//! Invariants: a pair of users has one room at most; a member's entry and the user's list of rooms change
//! together; a banned user is no member; unread counts are a subtraction (`last number - read up to - deleted
//! since`), never a walk over messages.

use serde::{Deserialize, Serialize};

use crate::chat::{FileId, Judged, OrganizationId, ROOMS_MAX, RoomId, RoomStatus, message, organization};
use crate::engine::sled::keys::chat as key;
use crate::engine::sled::record::{Record, decode, decode_u64, encode_u64};
use crate::engine::sled::txn::{Newest, Txn};
use crate::engine::sled::{error, keys};
use crate::files as file;
use crate::login::user::UserRecord;
use crate::{Store, StoreError, Timestamp, UserId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    pub id: RoomId,
    /// A room of two users that was opened by naming the other one.
    pub pair: bool,
    /// Has every right for ever.
    pub owner: UserId,
    pub name: Option<String>,
    pub descriptions: Option<String>,
    pub avatar: Option<FileId>,
    pub status: RoomStatus,
    pub organization: Option<OrganizationId>,
    pub created_at: Timestamp,
    /// Of the room itself; its newest message may be later (see [`RoomSummary`]).
    pub updated_at: Timestamp,
    pub members: u32,
    pub bans: u32,
    /// Edits and deletions so far.
    pub revision: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    pub user: UserId,
    /// Bits whose meaning is the domain's.
    pub rights: u16,
    /// Everything up to this number is read.
    pub read_seq: u64,
    /// Deleted messages after `read_seq`.
    pub deleted_unread: u64,
    pub pinned: bool,
    pub joined_at: Timestamp,
}

/// What a judge decides by: all of it as of the change itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomFacts {
    pub room: Room,
    pub actor: Option<Member>,
    pub actor_banned: bool,
    /// The user that is acted upon, when there is one.
    pub target: Option<Member>,
    pub target_banned: bool,
    /// The target is an account that exists and is active.
    pub target_exists: bool,
    /// Rooms the target is in, counted up to 10,000.
    pub target_rooms: usize,
}

/// One effect on a room. A judge returns the ones to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomChange {
    Name(Option<String>),
    Descriptions(Option<String>),
    Status(RoomStatus),
    Avatar(Option<FileId>),
    /// The target becomes a member with these rights, or has them from now on.
    Member {
        rights: u16,
    },
    /// The target is no member any more.
    Remove,
    Ban,
    Unban,
    /// Of the actor.
    Pin(bool),
    /// The actor has read everything up to here; never moves back.
    Read(u64),
    /// Of the room with everything in it; the messages are swept in steps afterwards.
    Delete,
}

/// A room that was changed, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomChanged {
    pub room: Room,
    /// The actor's entry, when one is left.
    pub actor: Option<Member>,
    pub target: Option<UserId>,
    /// What was carried out.
    pub changes: Vec<RoomChange>,
    pub last_seq: u64,
    /// Members before a deletion, at most as many as a room may have.
    pub former: Vec<UserId>,
}

/// The limits a room is made under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomLimits {
    pub rooms_per_user_max: usize,
    pub members_max: u32,
    pub bans_max: u32,
}

#[derive(Debug, Clone)]
pub struct PairDraft {
    pub user: UserId,
    /// May be the user itself: a room of one.
    pub other: UserId,
    pub name: Option<String>,
    pub descriptions: Option<String>,
    pub status: RoomStatus,
    pub owner_rights: u16,
    pub other_rights: u16,
    pub limits: RoomLimits,
    pub now: Timestamp,
}

/// A group room.
#[derive(Debug, Clone)]
pub struct RoomDraft {
    pub owner: UserId,
    pub owner_rights: u16,
    pub members: Vec<UserId>,
    pub member_rights: u16,
    pub name: Option<String>,
    pub descriptions: Option<String>,
    pub status: RoomStatus,
    /// Must belong to the owner.
    pub organization: Option<OrganizationId>,
    pub limits: RoomLimits,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomMade {
    New(Room),
    /// The pair's room was there.
    Existing(Room),
    UserMissing,
    /// The other one has banned this user from the pair's room.
    Banned,
    OrganizationMissing,
    TooManyRooms,
    TooManyMembers,
}

/// A room in a user's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSummary {
    pub room: Room,
    pub member: Member,
    pub last_seq: u64,
    /// Of the room or of its newest message.
    pub updated_at: Timestamp,
    pub unread: u64,
}

impl Store {
    /// Finds or makes the room of a pair.
    ///
    /// # Errors
    ///
    /// Those of every change; the closure gets them too. See [`StoreError`].
    pub fn chat_pair_open(
        &self,
        draft: PairDraft,
        then: impl FnOnce(Result<RoomMade, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.change_then(move |txn| pair_open(txn, draft), then)
    }

    /// Makes a group room.
    ///
    /// # Errors
    ///
    /// As [`Store::chat_pair_open`].
    pub fn chat_group_create(
        &self,
        draft: RoomDraft,
        then: impl FnOnce(Result<RoomMade, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.change_then(move |txn| group_create(txn, draft), then)
    }

    /// Changes a room in the ways its judge says.
    ///
    /// # Errors
    ///
    /// As [`Store::chat_pair_open`].
    pub fn chat_room_change<E: Send + 'static>(
        &self,
        room: RoomId,
        actor: UserId,
        target: Option<UserId>,
        now: Timestamp,
        judge: impl FnOnce(&RoomFacts) -> Result<Vec<RoomChange>, E> + Send + 'static,
        then: impl FnOnce(Result<Judged<RoomChanged, E>, StoreError>) + Send + 'static,
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

    /// What a judge would see now.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn chat_facts(&self, room: RoomId, actor: UserId) -> Result<Option<RoomFacts>, StoreError> {
        let Some(record) = self.chat_record::<RoomRecord>(&key::room(room))? else { return Ok(None) };
        let member = self.chat_member(room, actor)?;
        let banned = self.tree.contains_key(key::ban(room, actor)).map_err(error::read)?;
        Ok(Some(RoomFacts {
            room: record.with_id(room),
            actor: member,
            actor_banned: banned,
            target: None,
            target_banned: false,
            target_exists: false,
            target_rooms: 0,
        }))
    }

    /// The members of a room by user number, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn chat_members(&self, room: RoomId, limit: usize) -> Result<Vec<Member>, StoreError> {
        self.chat_members_from(room, UserId(0), limit)
    }

    /// [`Store::chat_members`], from a user number on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn chat_members_from(
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
        // In this order: whoever stops being the newest sender was written together with the next message.
        let newest = self.chat_newest(room)?.map(|(newest, _)| newest);
        let member = self.chat_record::<MemberRecord>(&key::member(room, user))?;
        Ok(member.map(|member| member.as_of(user, newest).with_id(user)))
    }

    /// Who is banned from a room, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn chat_bans(&self, room: RoomId, limit: usize) -> Result<Vec<UserId>, StoreError> {
        self.chat_bans_from(room, UserId(0), limit)
    }

    /// [`Store::chat_bans`], from a user number on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn chat_bans_from(
        &self,
        room: RoomId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        let range = key::ban(room, from)..=key::ban(room, UserId(u64::MAX));
        let keys = self.tree.range(range).keys().take(limit);
        keys.map(|key| Ok(UserId(key::last(&key.map_err(error::read)?)))).collect()
    }

    /// A user's rooms, in no order, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn chat_rooms_of(&self, user: UserId, limit: usize) -> Result<Vec<RoomSummary>, StoreError> {
        let mut rooms = Vec::new();
        for key in self.tree.scan_prefix(key::user_rooms(user)).keys().take(limit) {
            let room = RoomId(key::last(&key.map_err(error::read)?));
            // It may go between the two reads.
            if let Some(summary) = self.chat_summary(room, user)? {
                rooms.push(summary);
            }
        }
        Ok(rooms)
    }

    /// A room as one of its members sees it; `None` when it does not exist or the user is no member.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn chat_summary(&self, room: RoomId, user: UserId) -> Result<Option<RoomSummary>, StoreError> {
        let Some(record) = self.chat_record::<RoomRecord>(&key::room(room))? else { return Ok(None) };
        // Before the member: see `Store::chat_member`.
        let newest = self.chat_newest(room)?;
        let (last_seq, at) = newest.map_or_else(Default::default, |(newest, at)| (newest.seq, at));
        let Some(member) = self.chat_record::<MemberRecord>(&key::member(room, user))? else {
            return Ok(None);
        };
        let member = member.as_of(user, newest.map(|(newest, _)| newest)).with_id(user);
        Ok(Some(RoomSummary {
            updated_at: record.updated_at.max(at),
            room: record.with_id(room),
            unread: unread(&member, last_seq),
            member,
            last_seq,
        }))
    }

    /// Deleted rooms that left something behind, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn chat_rooms_to_sweep(&self, limit: usize) -> Result<Vec<RoomId>, StoreError> {
        let keys = self.tree.scan_prefix(key::SWEEPS).keys().take(limit);
        keys.map(|key| Ok(RoomId(key::last(&key.map_err(error::read)?)))).collect()
    }

    /// Removes what a deleted room left behind, at most `limit` records; says how many. Zero: nothing is left.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn chat_room_sweep(&self, room: RoomId, limit: usize) -> Result<usize, StoreError> {
        self.change(move |txn| {
            if txn.get(&key::room(room))?.is_some() {
                return Ok(0);
            }
            let mut swept = 0;
            let tables =
                [key::messages(room), key::client_ids(room), key::deletions(room), key::revisions(room)];
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

/// `last number - read up to - deleted since`.
pub(crate) fn unread(member: &Member, last_seq: u64) -> u64 {
    last_seq.saturating_sub(member.read_seq).saturating_sub(member.deleted_unread)
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RoomRecord {
    pair: bool,
    owner: UserId,
    name: Option<String>,
    descriptions: Option<String>,
    avatar: Option<FileId>,
    status: RoomStatus,
    organization: Option<OrganizationId>,
    created_at: Timestamp,
    updated_at: Timestamp,
    members: u32,
    bans: u32,
    revision: u64,
    /// The other user of a pair, for the pair's own key.
    other: UserId,
}

impl Record for RoomRecord {
    const KIND: &'static str = "room";
    const SCHEMA: u8 = 1;
}

impl RoomRecord {
    pub(crate) fn revise(txn: &mut Txn, id: RoomId, revision: u64) -> Result<(), StoreError> {
        if let Some(mut record) = txn.get_record::<RoomRecord>(&key::room(id))? {
            record.revision = revision;
            txn.put_record(key::room(id), &record);
        }
        Ok(())
    }

    fn with_id(self, id: RoomId) -> Room {
        Room {
            id,
            pair: self.pair,
            owner: self.owner,
            name: self.name,
            descriptions: self.descriptions,
            avatar: self.avatar,
            status: self.status,
            organization: self.organization,
            created_at: self.created_at,
            updated_at: self.updated_at,
            members: self.members,
            bans: self.bans,
            revision: self.revision,
        }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct MemberRecord {
    pub(crate) rights: u16,
    pub(crate) read_seq: u64,
    pub(crate) deleted_unread: u64,
    pub(crate) pinned: bool,
    pub(crate) joined_at: Timestamp,
}

impl Record for MemberRecord {
    const KIND: &'static str = "room member";
    const SCHEMA: u8 = 1;
}

impl MemberRecord {
    /// The member as of the room's newest message: its sender has read up to it, whatever the record says. So a
    /// member who sends several messages in a row is written once, when somebody else sends the next one, and a
    /// message costs one record less.
    pub(crate) fn as_of(self, user: UserId, newest: Option<Newest>) -> Self {
        match newest {
            Some(newest) if newest.sender == user && newest.seq > self.read_seq => {
                MemberRecord { read_seq: newest.seq, deleted_unread: 0, ..self }
            }
            _ => self,
        }
    }

    pub(crate) fn with_id(self, user: UserId) -> Member {
        Member {
            user,
            rights: self.rights,
            read_seq: self.read_seq,
            deleted_unread: self.deleted_unread,
            pinned: self.pinned,
            joined_at: self.joined_at,
        }
    }
}

fn pair_open(txn: &mut Txn, draft: PairDraft) -> Result<RoomMade, StoreError> {
    let PairDraft { user, other, name, descriptions, status, owner_rights, other_rights, limits, now } =
        draft;
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
            // Who left, or was removed without a ban, comes back to the room of the pair.
            if txn.get(&key::member(id, user))?.is_none() {
                if full(txn, user, &limits)? {
                    return Ok(RoomMade::TooManyRooms);
                }
                let rights = if record.owner == user { owner_rights } else { other_rights };
                let record = put_member(txn, id, record, user, rights, now)?;
                txn.put_record(key::room(id), &record);
                return Ok(RoomMade::Existing(record.with_id(id)));
            }
            return Ok(RoomMade::Existing(record.with_id(id)));
        }
    }
    if full(txn, user, &limits)? || (other != user && full(txn, other, &limits)?) {
        return Ok(RoomMade::TooManyRooms);
    }
    let Some(id) = next_room(txn)? else { return Ok(RoomMade::TooManyRooms) };
    let mut record = RoomRecord {
        pair: true,
        owner: user,
        name,
        descriptions,
        avatar: None,
        status,
        organization: None,
        created_at: now,
        updated_at: now,
        members: 0,
        bans: 0,
        revision: 0,
        other,
    };
    record = put_member(txn, id, record, user, owner_rights, now)?;
    if other != user {
        record = put_member(txn, id, record, other, other_rights, now)?;
    }
    txn.put(pair, encode_u64(id.0));
    txn.put_record(key::room(id), &record);
    Ok(RoomMade::New(record.with_id(id)))
}

fn group_create(txn: &mut Txn, draft: RoomDraft) -> Result<RoomMade, StoreError> {
    let RoomDraft { owner, limits, now, .. } = draft;
    let mut members = draft.members;
    members.retain(|member| *member != owner);
    members.sort_unstable();
    members.dedup();
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
        if full(txn, *member, &limits)? {
            return Ok(RoomMade::TooManyRooms);
        }
    }
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
        other: owner,
    };
    record = put_member(txn, id, record, owner, draft.owner_rights, now)?;
    for member in members {
        record = put_member(txn, id, record, member, draft.member_rights, now)?;
    }
    txn.put_record(key::room(id), &record);
    Ok(RoomMade::New(record.with_id(id)))
}

fn next_room(txn: &mut Txn) -> Result<Option<RoomId>, StoreError> {
    let id = txn.next(key::ROOM_SEQUENCE)?;
    Ok((id <= ROOMS_MAX).then_some(RoomId(id)))
}

fn active(txn: &Txn, user: UserId) -> Result<bool, StoreError> {
    match txn.get(&keys::user(user))? {
        Some(bytes) => crate::engine::sled::record::decode_head::<UserRecord, bool>(&bytes),
        None => Ok(false),
    }
}

/// Whether the user is in as many rooms as may be.
fn full(txn: &Txn, user: UserId, limits: &RoomLimits) -> Result<bool, StoreError> {
    let rooms = txn.scan(&key::user_rooms(user), limits.rooms_per_user_max)?;
    Ok(rooms.len() >= limits.rooms_per_user_max)
}

/// Makes the user a member, or gives a member other rights. What was written before is read.
fn put_member(
    txn: &mut Txn,
    id: RoomId,
    mut room: RoomRecord,
    user: UserId,
    rights: u16,
    now: Timestamp,
) -> Result<RoomRecord, StoreError> {
    let key = key::member(id, user);
    let member = match txn.get_record::<MemberRecord>(&key)? {
        Some(member) => MemberRecord { rights, ..member },
        None => {
            room.members += 1;
            txn.put(key::user_room(user, id), sled::IVec::default());
            let read_seq = message::newest(txn, id)?.map_or(0, |newest| newest.seq);
            MemberRecord { rights, read_seq, deleted_unread: 0, pinned: false, joined_at: now }
        }
    };
    txn.put_record(key, &member);
    Ok(room)
}

fn remove_member(txn: &mut Txn, id: RoomId, room: &mut RoomRecord, user: UserId) -> Result<(), StoreError> {
    let key = key::member(id, user);
    if txn.get(&key)?.is_some() {
        txn.delete(key);
        txn.delete(key::user_room(user, id));
        room.members = room.members.saturating_sub(1);
    }
    Ok(())
}

/// A member as of the room's newest message.
pub(crate) fn member(
    txn: &Txn,
    room: RoomId,
    user: UserId,
    newest: Option<Newest>,
) -> Result<Option<MemberRecord>, StoreError> {
    let member = txn.get_record::<MemberRecord>(&key::member(room, user))?;
    Ok(member.map(|member| member.as_of(user, newest)))
}

pub(crate) fn facts(
    txn: &Txn,
    room: RoomId,
    actor: UserId,
    target: Option<UserId>,
) -> Result<Option<RoomFacts>, StoreError> {
    let Some(record) = txn.get_record::<RoomRecord>(&key::room(room))? else { return Ok(None) };
    let newest = message::newest(txn, room)?;
    let member = |user: UserId| -> Result<Option<Member>, StoreError> {
        Ok(member(txn, room, user, newest)?.map(|member| member.with_id(user)))
    };
    // Most rooms have no bans, and most changes are messages.
    let bans = record.bans > 0;
    let banned =
        |user: UserId| -> Result<bool, StoreError> { Ok(bans && txn.get(&key::ban(room, user))?.is_some()) };
    Ok(Some(RoomFacts {
        actor: member(actor)?,
        actor_banned: banned(actor)?,
        target: target.map(member).transpose()?.flatten(),
        target_banned: target.map(banned).transpose()?.unwrap_or(false),
        target_exists: target.map(|target| active(txn, target)).transpose()?.unwrap_or(false),
        target_rooms: match target {
            Some(target) => txn.scan(&key::user_rooms(target), 10_000)?.len(),
            None => 0,
        },
        room: record.with_id(room),
    }))
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
            reason: "it was there a moment ago".into(),
        });
    };
    let mut former = Vec::new();
    let newest = message::newest(txn, id)?;
    let last_seq = newest.map_or(0, |newest| newest.seq);
    let mut touched = false;
    for change in &changes {
        touched |= !matches!(change, RoomChange::Pin(_) | RoomChange::Read(_));
        match (change, target) {
            (RoomChange::Name(name), _) => room.name.clone_from(name),
            (RoomChange::Descriptions(text), _) => room.descriptions.clone_from(text),
            (RoomChange::Status(status), _) => room.status = *status,
            (RoomChange::Avatar(None), _) => {
                if let Some(old) = room.avatar.take() {
                    file::detach(txn, old)?;
                }
            }
            (RoomChange::Avatar(Some(file)), _) => {
                // Number 0: taken, by no message.
                if file::attach(txn, *file, id, actor, 0)?.is_some()
                    && let Some(old) = room.avatar.replace(*file)
                {
                    file::detach(txn, old)?;
                }
            }
            (RoomChange::Member { rights }, Some(target)) => {
                room = put_member(txn, id, room, target, *rights, now)?;
            }
            (RoomChange::Remove, Some(target)) => remove_member(txn, id, &mut room, target)?,
            (RoomChange::Ban, Some(target)) => {
                remove_member(txn, id, &mut room, target)?;
                if txn.get(&key::ban(id, target))?.is_none() {
                    txn.put(key::ban(id, target), sled::IVec::default());
                    room.bans += 1;
                }
            }
            (RoomChange::Unban, Some(target)) => {
                if txn.get(&key::ban(id, target))?.is_some() {
                    txn.delete(key::ban(id, target));
                    room.bans = room.bans.saturating_sub(1);
                }
            }
            (RoomChange::Pin(pinned), _) => change_member(txn, id, actor, |member| member.pinned = *pinned)?,
            (RoomChange::Read(seq), _) => read(txn, id, actor, (*seq).min(last_seq), newest)?,
            (RoomChange::Delete, _) => former = delete(txn, id, &room)?,
            // A change of nobody changes nothing.
            (RoomChange::Member { .. } | RoomChange::Remove | RoomChange::Ban | RoomChange::Unban, None) => {}
        }
    }
    if former.is_empty() && touched {
        room.updated_at = now;
        txn.put_record(key, &room);
    }
    let actor = member(txn, id, actor, newest)?.map(|member| member.with_id(actor));
    Ok(RoomChanged { room: room.with_id(id), actor, target, changes, last_seq, former })
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

/// Moves a read marker forward. Costs as many reads as messages were deleted in between, none at the room's end.
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
    // As many as the bounds on members and bans allow.
    for (key, _) in txn.scan(&key::members(id), usize::MAX)? {
        let user = UserId(key::last(&key));
        txn.delete(key::user_room(user, id));
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

/// How many of a user's rooms an organisation has.
pub(crate) fn of_organization(
    txn: &Txn,
    user: UserId,
    organization: OrganizationId,
) -> Result<usize, StoreError> {
    let mut rooms = 0;
    for (key, _) in txn.scan(&key::user_rooms(user), usize::MAX)? {
        let room = txn.get_record::<RoomRecord>(&key::room(RoomId(key::last(&key))))?;
        rooms += usize::from(room.is_some_and(|room| room.organization == Some(organization)));
    }
    Ok(rooms)
}
