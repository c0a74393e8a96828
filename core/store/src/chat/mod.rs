//! Chat: rooms and members, numbered messages, organisations, uploaded files.
//!
//! A room numbers its messages 1, 2, 3... without gaps. The number is part of the message's key, so a page is a short
//! range scan in a room of any size, and a deleted message keeps its number as an empty record. Edits and deletions
//! have a second numbering, the room's revisions, so returning clients learn of them, too.
//!
//! Permissions are not decided here. Each change reads the [`RoomFacts`] it needs and passes them to the caller's
//! judge, a plain function of the domain. Facts and effect are one change, so no right changes between check and
//! effect. Judges are pure and repeatable.
//!
//! A change takes a closure that runs once the change is durable, on any thread and in any order. The [`Position`] in
//! its outcome is the change's place in its room's history; publishers sort by it.
//!
//! Reading order: this file, `room`, `request`, `message`, `search`, `organization`, then
//! `crate::files`.

pub(crate) mod import;
pub(crate) mod message;
pub(crate) mod moving;
pub(crate) mod organization;
pub(crate) mod request;
pub(crate) mod room;
pub(crate) mod search;

pub(crate) mod postgres;
pub(crate) mod sled;

use crate::engine::{Engine, boxed, on_engine};
use crate::{Store, StoreError, Timestamp, UserId};
use serde::{Deserialize, Serialize};

pub use crate::files::{
    FILE_OVERHEAD_BYTES, FileDraft, FileKept, Picture, StoredFile, Thumbnail, held_bytes,
};
pub use crate::types::{FileId, OrganizationId, RoomId};
pub use import::{ImportedFile, ImportedIds, ImportedMessage, ImportedRoom};
pub use message::{
    Appended, Edited, Message, MessageBody, MessageChange, MessageDraft, MessageEdit, MessageEdited,
    MessagePage, OlderMessages,
};
pub use organization::{OrganizationChanged, OrganizationMade, OrganizationRemoved};
pub use request::{Acquaintance, BLOCKS_MAX, Blocked, ChatRequest, DECLINES_MAX};
pub use room::{
    Additions, Member, PairDraft, Room, RoomChange, RoomChanged, RoomDraft, RoomFacts, RoomKind, RoomLimits,
    RoomMade, RoomSummary,
};
pub use search::{WORD_BLOCK_BYTES_MAX, WordBlock};

/// Messages of one room; one more is refused. Room and number share the 53 bits of a public message id.
pub const SEQ_MAX: u64 = (1 << 26) - 1;

/// Rooms ever created.
pub const ROOMS_MAX: u64 = (1 << 27) - 1;

/// Whether a room accepts messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoomStatus {
    Open,
    Closed,
    Hold,
}

/// An organisation: owned by a user, it owns rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    pub id: OrganizationId,
    pub name: String,
    /// Unique among all organisations.
    pub uname: String,
    pub owner: UserId,
    pub created_at: Timestamp,
}

/// Where a room stands after a change: newest message, newest edit or deletion, newest change of the room.
///
/// Every visible change of a room takes exactly one of the three numbers. The changes of a room are therefore one
/// sequence without gaps ([`Position::order`]), on every engine and from any thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    pub seq: u64,
    pub revision: u64,
    /// Changes of the room and its members. Pins and read markers do not count.
    pub changes: u64,
}

impl Position {
    /// The place in the room's sequence: 0 for a new room, plus 1 for each change.
    #[must_use]
    pub fn order(self) -> u64 {
        self.seq + self.revision + self.changes
    }
}

/// The rule of the permission matrix that forbids a change. The store does not interpret it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Reported as if the room did not exist.
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
    #[error("accept the request first")]
    NotAccepted,
    #[error("there is no such request")]
    NoRequest,
    #[error("a user blocks you")]
    Blocked,
}

/// The limit that forbids a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    RoomMembers,
    RoomBans,
    UserRooms,
    /// Requests of one user that wait for another one.
    Requests,
    /// Requests that the user may still make in this hour.
    RequestsOfHour,
}

/// Why a judge refused a change. The store passes it on.
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

/// The outcome of a judged change.
///
/// A judge is pure and may run more than once per change: an engine that lost a race retries.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged<T> {
    Done(T),
    /// The room (or message) does not exist.
    Missing,
    /// The judge refused; nothing changed.
    Refused(Refusal),
}

impl Store {
    /// Where a room stands now; `None` when it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_position(&self, room: RoomId) -> Result<Option<Position>, StoreError> {
        on_engine!(self, read chat_position(room))
    }

    /// Where each of these rooms stands now. Rooms that do not exist are left out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_positions(&self, rooms: &[RoomId]) -> Result<Vec<(RoomId, Position)>, StoreError> {
        on_engine!(self, read chat_positions(rooms))
    }

    /// Waits until every change applied before is durable.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn chat_barrier(&self) -> Result<(), StoreError> {
        on_engine!(self, chat_barrier().await)
    }
}
