//! Chat: rooms and their members, numbered messages, organisations, uploaded files.
//!
//! A room numbers its messages 1, 2, 3... without gaps; the number is part of the message's key, so that a page is
//! a short range scan however long the room is, and a deleted message keeps its number as an empty record. Edits
//! and deletions have a second numbering, the room's revisions, so that who was away learns of those too.
//!
//! Who may do what is not decided here. Each change reads the [`RoomFacts`] it is about and hands them to the
//! caller's judge, which is plain code of the domain; facts and effect are one change, so no right can be lost or
//! won between the look and the deed. Judges are pure and repeatable.
//!
//! A change takes a closure that runs once the change is durable, on any thread and in any order. The [`Position`] in
//! its outcome says where the change stands in its room's history: whoever shows changes sorts by it.
//!
//! Reading order: this file, `room`, `message`, `organization`, and the files beside (`crate::files`).

pub(crate) mod message;
pub(crate) mod organization;
pub(crate) mod room;

pub(crate) mod sled;

use crate::engine::{Engine, on_engine};
use crate::{Store, StoreError, Timestamp, UserId};
use serde::{Deserialize, Serialize};

pub use crate::files::{FileDraft, FileKept, StoredFile};
pub use crate::types::{FileId, OrganizationId, RoomId};
pub use message::{
    Appended, Edited, Message, MessageBody, MessageChange, MessageDraft, MessageEdit, MessageEdited,
    MessagePage,
};
pub use organization::{OrganizationChanged, OrganizationMade, OrganizationRemoved};
pub use room::{
    Member, PairDraft, Room, RoomChange, RoomChanged, RoomDraft, RoomFacts, RoomLimits, RoomMade, RoomSummary,
};

/// Messages of one room; one more is refused. Room and number share the 53 bits of a public message id.
pub const SEQ_MAX: u64 = (1 << 26) - 1;

/// Rooms ever made.
pub const ROOMS_MAX: u64 = (1 << 27) - 1;

/// Whether a room takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoomStatus {
    Open,
    Closed,
    Hold,
}

/// An organisation: it owns rooms, a user owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    pub id: OrganizationId,
    pub name: String,
    /// Unique among all organisations.
    pub uname: String,
    pub owner: UserId,
    pub created_at: Timestamp,
}

/// Where a room stands after a change: its newest message, its newest edit or deletion, its newest change of the room.
///
/// Every change of a room that others may see takes exactly one of the three numbers. So the changes of a room are one
/// sequence without gaps ([`Position::order`]), on every engine and whichever thread made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    pub seq: u64,
    pub revision: u64,
    /// Changes of the room and its members; a pin and a read marker are none.
    pub changes: u64,
}

impl Position {
    /// The place in the room's one sequence: 0 for a new room, one more for each change.
    #[must_use]
    pub fn order(self) -> u64 {
        self.seq + self.revision + self.changes
    }
}

/// The rule of the permission matrix that forbids a change. The store decides nothing by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Told as if there were no such room.
    #[error("not a member of the room")]
    NotMember,
    #[error("banned from the room")]
    Banned,
    #[error("may only read in this room")]
    ReadOnly,
    #[error("this needs a right that was not granted")]
    NoRight,
    #[error("the room is closed")]
    RoomClosed,
    #[error("the room is on hold")]
    RoomOnHold,
    #[error("the owner of a room cannot be acted upon")]
    OwnerProtected,
    #[error("that user is not a member of the room")]
    TargetNotMember,
    #[error("that user is banned from the room")]
    TargetBanned,
    #[error("there is no such user")]
    TargetMissing,
    #[error("a pair's room keeps its two users")]
    PairRoom,
    #[error("the owner cannot leave; delete the room instead")]
    OwnerStays,
}

/// The limit that forbids a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    RoomMembers,
    RoomBans,
    UserRooms,
}

/// Why a judge refused a change. The store hands it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Denied(Denied),
    Full(Limit),
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Refusal::Denied(denied)
    }
}

/// The outcome of a change that a judge decides.
///
/// A judge is pure and may run more than once for one change: an engine that lost a race tries again.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged<T> {
    Done(T),
    /// There is no such room (or message).
    Missing,
    /// The judge refused; nothing was changed.
    Refused(Refusal),
}

impl Store {
    /// Where a room stands now; `None` when there is no such room.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn chat_position(&self, room: RoomId) -> Result<Option<Position>, StoreError> {
        on_engine!(self, read chat_position(room))
    }

    /// Waits until everything that was applied before is durable.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn chat_barrier(&self) -> Result<(), StoreError> {
        on_engine!(self, chat_barrier().await)
    }
}
