//! Chat: rooms and their members, numbered messages, organisations, uploaded files.
//!
//! A room numbers its messages 1, 2, 3... without gaps; the number is part of the message's key, so that a page is
//! a short range scan however long the room is, and a deleted message keeps its number as an empty record. Edits
//! and deletions have a second numbering, the room's revisions, so that who was away learns of those too.
//!
//! Who may do what is not decided here. Each change reads the [`RoomFacts`] it is about and hands them to the
//! caller's judge, which is plain code of the domain; facts and effect are one change, so no right can be lost or
//! won between the look and the deed. Changes take a closure that runs on the writer thread once they are durable,
//! in the order in which they were made: that is how the order of storing becomes the order of seeing.
//!
//! Keys: `C` and a second byte (see [`key`]). Reading order: this file, `room`, `message`, `organization`, `file`.

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
    Appended, Edited, Message, MessageBody, MessageDraft, MessageEdit, MessageEdited, MessagePage,
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

/// What a judged change came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged<T, E> {
    Done(T),
    /// There is no such room (or message).
    Missing,
    /// The judge said no; nothing was changed.
    Refused(E),
}

impl Store {
    /// Waits until everything that was applied before is durable.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn chat_barrier(&self) -> Result<(), StoreError> {
        on_engine!(self, chat_barrier().await)
    }
}
