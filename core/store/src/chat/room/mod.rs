//! Rooms, their members and bans.
//!
//! Invariants: a pair of users has at most one room. A member's entry and the user's list of rooms change together. A
//! banned user is no member. Unread counts are a subtraction (`last number - read up to - deleted since`), never a
//! scan over messages.

pub(crate) mod making;
pub(crate) mod postgres;
pub(crate) mod sled;

use crate::chat::{Acquaintance, FileId, Judged, OrganizationId, Position, Refusal, RoomId, RoomStatus};
use crate::engine::{Engine, boxed, on_engine};
use serde::{Deserialize, Serialize};

use crate::{Store, StoreError, Timestamp, UserId};

/// What a room is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoomKind {
    /// A room of two users, opened by naming the other one.
    Pair,
    Group,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    pub id: RoomId,
    pub kind: RoomKind,
    /// Keeps every right permanently.
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
    /// Bits that the domain defines.
    pub rights: u16,
    /// Every message up to this number is read.
    pub read_seq: u64,
    /// Deleted messages after `read_seq`.
    pub deleted_unread: u64,
    pub pinned: bool,
    pub joined_at: Timestamp,
    /// The member left this pair when this was its newest message: the room is hidden until the next one.
    pub hidden_at: Option<u64>,
    /// The member has not accepted the room yet.
    pub pending: bool,
}

/// The facts a judge decides by, as of the change itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomFacts {
    pub room: Room,
    pub actor: Option<Member>,
    pub actor_banned: bool,
    /// The user the change acts on, if any.
    pub target: Option<Member>,
    pub target_banned: bool,
    /// The target is an existing, active account.
    pub target_exists: bool,
    /// Rooms the target is in, counted up to 10,000.
    pub target_rooms: usize,
    /// Of a target that is no member.
    pub acquaintance: Acquaintance,
    /// Rooms the actor is in, when the actor has not accepted this one.
    pub actor_rooms: usize,
}

impl RoomFacts {
    /// Facts without bans, about no target.
    pub(crate) fn of(room: Room, actor: Option<Member>) -> RoomFacts {
        RoomFacts {
            room,
            actor,
            actor_banned: false,
            target: None,
            target_banned: false,
            target_exists: false,
            target_rooms: 0,
            acquaintance: Acquaintance::default(),
            actor_rooms: 0,
        }
    }
}

/// One effect on a room. A judge returns the effects to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomChange {
    Name(Option<String>),
    Descriptions(Option<String>),
    Status(RoomStatus),
    Avatar(Option<FileId>),
    /// Makes the target a member with these rights, or replaces a member's rights.
    Member {
        rights: u16,
    },
    /// Makes the target a member who has to accept the room. The oldest request of a target with `waiting_max` ends.
    Invite {
        rights: u16,
        waiting_max: usize,
    },
    /// Makes the target a member who has to accept the room and is not asked, having declined it before.
    Await {
        rights: u16,
    },
    /// The actor accepts the room.
    Accept,
    /// Drops the actor's request; the actor stays a member who has not accepted. Marks a pair as declined.
    Dismiss,
    /// Removes the target from the members.
    Remove,
    /// Makes the target, a member who accepted the room, its owner. A room of the former owner's organisation leaves
    /// the organisation.
    Owner,
    /// Hides the room from the actor until its next message.
    Hide,
    Ban,
    Unban,
    /// For the actor.
    Pin(bool),
    /// Marks everything up to here as read by the actor; never moves back.
    Read(u64),
    /// Deletes the room with its content; a later sweep removes the messages in steps.
    Delete,
}

impl RoomChange {
    /// Whether the change takes a number of the room. Pins, read markers and hiding concern one member only.
    pub(crate) fn is_numbered(&self) -> bool {
        use RoomChange::{Dismiss, Hide, Pin, Read};
        !matches!(self, Pin(_) | Read(_) | Hide | Dismiss)
    }
}

/// A changed room, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomChanged {
    pub room: Room,
    /// The actor's entry, if one remains.
    pub actor: Option<Member>,
    pub target: Option<UserId>,
    /// The applied effects.
    pub changes: Vec<RoomChange>,
    pub last_seq: u64,
    /// The change took a number of its own; pins, read markers and hiding take none.
    pub numbered: bool,
    /// The actor had not accepted the room before the change.
    pub was_pending: bool,
    /// The actor's read marker before the change; 0 without an entry.
    pub was_read: u64,
    /// The target had an entry before the change, accepted or not.
    pub target_was_member: bool,
    /// The target had not accepted the room before the change.
    pub target_was_pending: bool,
    /// A request of the target waited before the change.
    pub target_was_asked: bool,
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

/// The limits that apply when a room is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomLimits {
    pub rooms_per_user_max: usize,
    pub members_max: u32,
    pub bans_max: u32,
}

/// How other users get into a room that one user makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Additions {
    /// They are members at once.
    Admit,
    /// Those who share no room with the user are asked.
    Ask {
        /// Requests that may wait for one user.
        waiting_max: usize,
        /// Those of one sender.
        waiting_per_sender_max: usize,
        /// Requests that may be made now.
        requests_max: usize,
    },
}

#[derive(Debug, Clone)]
pub struct PairDraft {
    pub user: UserId,
    /// May be the user itself, for a room of one.
    pub other: UserId,
    pub name: Option<String>,
    pub descriptions: Option<String>,
    pub status: RoomStatus,
    pub owner_rights: u16,
    pub other_rights: u16,
    pub limits: RoomLimits,
    pub additions: Additions,
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
    pub additions: Additions,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomMade {
    New {
        room: Room,
        /// Members who have to accept the room.
        asked: Vec<UserId>,
        /// Those of them without a request: they declined the pair before.
        unasked: Vec<UserId>,
    },
    /// The pair's room already exists.
    Existing(Room),
    UserMissing,
    /// The other user has banned this user from the pair's room.
    Banned,
    /// Another user blocks this user.
    Blocked,
    /// This user blocks the other one.
    TargetBlocked,
    TooManyRequests,
    /// More requests than may be made now.
    RequestsExhausted,
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

impl RoomSummary {
    /// Whether the member left this pair and nobody has written since.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.member.hidden_at.is_some_and(|at| self.last_seq <= at)
    }
}

impl Member {
    /// Unread messages when the room's newest number is `last_seq`.
    #[must_use]
    pub fn unread(&self, last_seq: u64) -> u64 {
        last_seq.saturating_sub(self.read_seq).saturating_sub(self.deleted_unread)
    }
}

/// Decides how a room changes.
pub(crate) type RoomJudge = Box<dyn Fn(&RoomFacts) -> Result<Vec<RoomChange>, Refusal> + Send + Sync>;

impl Store {
    /// Finds or creates the room of a pair.
    ///
    /// # Errors
    ///
    /// Any error of a change; the closure receives it, too. See [`StoreError`].
    pub fn chat_pair_open(
        &self,
        draft: PairDraft,
        then: impl FnOnce(Result<RoomMade, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        on_engine!(self, chat_pair_open(draft, Box::new(then)))
    }

    /// Creates a group room.
    ///
    /// # Errors
    ///
    /// As [`Store::chat_pair_open`].
    pub fn chat_group_create(
        &self,
        draft: RoomDraft,
        then: impl FnOnce(Result<RoomMade, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        on_engine!(self, chat_group_create(draft, Box::new(then)))
    }

    /// Applies the effects that the judge returns to a room.
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
        on_engine!(self, chat_room_change(room, actor, target, now, Box::new(judge), Box::new(then)))
    }

    /// Rooms with numbers below `before`, newest first, each with the number of its newest message; at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_rooms_before(
        &self,
        before: Option<RoomId>,
        limit: usize,
    ) -> Result<Vec<(Room, u64)>, StoreError> {
        on_engine!(self, read chat_rooms_before(before, limit))
    }

    /// The facts a judge would receive now.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_facts(&self, room: RoomId, actor: UserId) -> Result<Option<RoomFacts>, StoreError> {
        on_engine!(self, read chat_facts(room, actor))
    }

    /// The members of a room in order of user number, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_members(&self, room: RoomId, limit: usize) -> Result<Vec<Member>, StoreError> {
        on_engine!(self, read chat_members(room, limit))
    }

    /// [`Store::chat_members`], starting at a user number.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_members_from(
        &self,
        room: RoomId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError> {
        on_engine!(self, read chat_members_from(room, from, limit))
    }

    /// The banned users of a room, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn chat_bans(&self, room: RoomId, limit: usize) -> Result<Vec<UserId>, StoreError> {
        on_engine!(self, read chat_bans(room, limit))
    }

    /// [`Store::chat_bans`], starting at a user number.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn chat_bans_from(
        &self,
        room: RoomId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        on_engine!(self, read chat_bans_from(room, from, limit))
    }

    /// A user's rooms, unordered, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_rooms_of(&self, user: UserId, limit: usize) -> Result<Vec<RoomSummary>, StoreError> {
        on_engine!(self, read chat_rooms_of(user, limit))
    }

    /// A room as one of its members sees it; `None` when it does not exist or the user is no member.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_summary(&self, room: RoomId, user: UserId) -> Result<Option<RoomSummary>, StoreError> {
        on_engine!(self, read chat_summary(room, user))
    }

    /// Deleted rooms with remaining records, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn chat_rooms_to_sweep(&self, limit: usize) -> Result<Vec<RoomId>, StoreError> {
        on_engine!(self, read chat_rooms_to_sweep(limit))
    }

    /// Removes at most `limit` remaining records of a deleted room and returns their number; 0 means none remain.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn chat_room_sweep(&self, room: RoomId, limit: usize) -> Result<usize, StoreError> {
        on_engine!(self, chat_room_sweep(room, limit).await)
    }
}
