//! Rooms, their members and bans.
//!
//! Invariants: a pair of users has one room at most; a member's entry and the user's list of rooms change
//! together; a banned user is no member; unread counts are a subtraction (`last number - read up to - deleted
//! since`), never a walk over messages.

pub(crate) mod sled;

use crate::chat::{FileId, Judged, OrganizationId, Position, Refusal, RoomId, RoomStatus};
use crate::engine::{Engine, on_engine};
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
    /// Changes of the room and its members so far: see [`Position`].
    pub changes: u64,
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
    /// The change took a number of its own; a pin or a read marker took none.
    pub numbered: bool,
    /// Members before a deletion, at most as many as a room may have.
    pub former: Vec<UserId>,
}

impl RoomChanged {
    /// Where the room stands after the change.
    #[must_use]
    pub fn position(&self) -> Position {
        let Room { revision, changes, .. } = self.room;
        Position { seq: self.last_seq, revision, changes }
    }
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

impl Member {
    /// Unread messages when the room's newest number is `last_seq`.
    #[must_use]
    pub fn unread(&self, last_seq: u64) -> u64 {
        last_seq.saturating_sub(self.read_seq).saturating_sub(self.deleted_unread)
    }
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
        on_engine!(self, chat_pair_open(draft, then))
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
        on_engine!(self, chat_group_create(draft, then))
    }

    /// Changes a room in the ways its judge says.
    ///
    /// # Errors
    ///
    /// As [`Store::chat_pair_open`].
    pub fn chat_room_change(
        &self,
        room: RoomId,
        actor: UserId,
        target: Option<UserId>,
        now: Timestamp,
        judge: impl Fn(&RoomFacts) -> Result<Vec<RoomChange>, Refusal> + Send + Sync + 'static,
        then: impl FnOnce(Result<Judged<RoomChanged>, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        on_engine!(self, chat_room_change(room, actor, target, now, judge, then))
    }

    /// What a judge would see now.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn chat_facts(&self, room: RoomId, actor: UserId) -> Result<Option<RoomFacts>, StoreError> {
        on_engine!(self, read chat_facts(room, actor))
    }

    /// The members of a room by user number, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn chat_members(&self, room: RoomId, limit: usize) -> Result<Vec<Member>, StoreError> {
        on_engine!(self, read chat_members(room, limit))
    }

    /// [`Store::chat_members`], from a user number on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn chat_members_from(
        &self,
        room: RoomId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError> {
        on_engine!(self, read chat_members_from(room, from, limit))
    }

    /// Who is banned from a room, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub async fn chat_bans(&self, room: RoomId, limit: usize) -> Result<Vec<UserId>, StoreError> {
        on_engine!(self, read chat_bans(room, limit))
    }

    /// [`Store::chat_bans`], from a user number on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub async fn chat_bans_from(
        &self,
        room: RoomId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        on_engine!(self, read chat_bans_from(room, from, limit))
    }

    /// A user's rooms, in no order, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn chat_rooms_of(&self, user: UserId, limit: usize) -> Result<Vec<RoomSummary>, StoreError> {
        on_engine!(self, read chat_rooms_of(user, limit))
    }

    /// A room as one of its members sees it; `None` when it does not exist or the user is no member.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn chat_summary(&self, room: RoomId, user: UserId) -> Result<Option<RoomSummary>, StoreError> {
        on_engine!(self, read chat_summary(room, user))
    }

    /// Deleted rooms that left something behind, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub async fn chat_rooms_to_sweep(&self, limit: usize) -> Result<Vec<RoomId>, StoreError> {
        on_engine!(self, read chat_rooms_to_sweep(limit))
    }

    /// Removes what a deleted room left behind, at most `limit` records; says how many. Zero: nothing is left.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn chat_room_sweep(&self, room: RoomId, limit: usize) -> Result<usize, StoreError> {
        on_engine!(self, chat_room_sweep(room, limit).await)
    }
}
