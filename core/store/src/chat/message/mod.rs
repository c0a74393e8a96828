//! Chat messages: numbered, stored, edited, paged.
//!
//! Invariants: the numbers of a room have no gap, and a deleted message keeps its number without its text. One client
//! id of one user in one room is one message forever. Sending counts as reading: a user's own messages are never
//! unread. An edit or deletion takes the next revision of its room, and removes the block of words that covers the
//! message (see `search`).

pub(crate) mod postgres;
pub(crate) mod rules;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::chat::room::{Room, RoomFacts};
use crate::chat::{FileId, Judged, Position, Refusal, RoomId};
use crate::engine::{Engine, boxed, on_engine};
use crate::files::StoredFile;
use crate::{Store, StoreError, Timestamp, UserId};

/// The content of a message. The store does not interpret it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageBody {
    /// `text`, `image`, ...
    pub kind: String,
    pub text: String,
    /// The text is JSON that the client sent in place of a text.
    pub raw: bool,
    /// JSON: a number, or a text that holds one.
    pub lat: Option<String>,
    pub lng: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageDraft {
    pub room: RoomId,
    pub sender: UserId,
    pub body: MessageBody,
    /// A file that the sender uploaded to this room and that belongs to no message yet.
    pub file: Option<FileId>,
    /// The client's own id of the message; sending it again returns the same message.
    pub client_id: Option<String>,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub room: RoomId,
    /// Number in the room, from 1.
    pub seq: u64,
    pub sender: UserId,
    pub body: MessageBody,
    pub file: Option<FileId>,
    /// Name of the file in its link.
    pub file_name: Option<String>,
    pub client_id: Option<String>,
    pub created_at: Timestamp,
    pub edited_at: Option<Timestamp>,
    /// Only number, sender and times remain.
    pub deleted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    New {
        message: Message,
        /// The message's.
        file: Option<Box<StoredFile>>,
        position: Position,
    },
    /// The sender's message accepted the room, which took the position before the message's.
    Accepting { message: Message, file: Option<Box<StoredFile>>, position: Position, room: Box<Room> },
    /// The client id is known: this is its message.
    Known { message: Message, file: Option<Box<StoredFile>> },
    /// The file is not the sender's, not of this room, or already taken.
    FileUnusable,
    /// The room holds as many messages as a room may ever have.
    RoomFull,
}

/// An effect on one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageEdit {
    Body(MessageBody),
    Delete,
    /// Takes the file away and keeps the rest.
    DropFile,
}

/// An edit or deletion, to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageChange {
    pub room: RoomId,
    pub seq: u64,
    pub actor: UserId,
    pub edit: MessageEdit,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageEdited {
    pub message: Message,
    pub revision: u64,
    pub position: Position,
}

/// A missed edit or deletion: the message as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    pub revision: u64,
    pub message: Message,
}

/// Decides whether a message is accepted.
pub(crate) type AppendJudge = Box<dyn Fn(&RoomFacts) -> Result<(), Refusal> + Send + Sync>;

/// Decides whether a message may be changed.
pub(crate) type MessageJudge = Box<dyn Fn(&RoomFacts, &Message) -> Result<(), Refusal> + Send + Sync>;

/// Messages in the requested order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagePage {
    pub messages: Vec<Message>,
    /// More messages exist in this direction.
    pub more: bool,
    /// The last number examined, if any.
    pub end: u64,
}

/// One step of a walk over the messages of all rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OlderMessages {
    /// Messages that are old enough, by room and number.
    pub old: Vec<(RoomId, u64)>,
    /// The place to continue after; `None` at the end.
    pub next: Option<(RoomId, u64)>,
}

impl Store {
    /// Appends a message with the next number of its room, unless its judge refuses.
    ///
    /// `then` runs once the outcome is durable, on any thread and in any order: see [`Position`].
    ///
    /// # Errors
    ///
    /// Any error of a change; the closure receives it, too. See [`StoreError`].
    pub fn chat_message_append(
        &self,
        draft: MessageDraft,
        judge: impl Fn(&RoomFacts) -> Result<(), Refusal> + Send + Sync + 'static,
        then: impl FnOnce(Result<Judged<Appended>, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        on_engine!(self, chat_message_append(draft, Box::new(judge), Box::new(then)))
    }

    /// Edits or deletes a message, unless its judge refuses.
    ///
    /// # Errors
    ///
    /// As [`Store::chat_message_append`].
    pub fn chat_message_change(
        &self,
        change: MessageChange,
        judge: impl Fn(&RoomFacts, &Message) -> Result<(), Refusal> + Send + Sync + 'static,
        then: impl FnOnce(Result<Judged<MessageEdited>, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        on_engine!(self, chat_message_change(change, Box::new(judge), Box::new(then)))
    }

    /// One message, deleted or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_message(&self, room: RoomId, seq: u64) -> Result<Option<Message>, StoreError> {
        on_engine!(self, read chat_message(room, seq))
    }

    /// Messages older than `before` that are not deleted, among at most `limit` examined ones after a place. A room's
    /// newer messages are skipped at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_messages_older(
        &self,
        after: (RoomId, u64),
        before: Timestamp,
        limit: usize,
    ) -> Result<OlderMessages, StoreError> {
        on_engine!(self, read chat_messages_older(after, before, limit))
    }

    /// The newest number of a room; 0 when it is empty.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    #[boxed]
    pub async fn chat_last_seq(&self, room: RoomId) -> Result<u64, StoreError> {
        on_engine!(self, read chat_last_seq(room))
    }

    /// Messages newest first, without deleted ones, numbers below `before`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_messages_before(
        &self,
        room: RoomId,
        before: u64,
        limit: usize,
    ) -> Result<MessagePage, StoreError> {
        on_engine!(self, read chat_messages_before(room, before, limit))
    }

    /// Messages oldest first, without deleted ones, numbers above `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_messages_after(
        &self,
        room: RoomId,
        after: u64,
        limit: usize,
    ) -> Result<MessagePage, StoreError> {
        on_engine!(self, read chat_messages_after(room, after, limit))
    }

    /// All messages with numbers above `after` up to `last`, oldest first, deleted ones included.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_gap(&self, room: RoomId, after: u64, last: u64) -> Result<Vec<Message>, StoreError> {
        on_engine!(self, read chat_gap(room, after, last))
    }

    /// Messages edited or deleted by revisions above `after` up to `last`, in order of revision. A message changed
    /// several times appears once, at its last revision.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_revisions(
        &self,
        room: RoomId,
        after: u64,
        last: u64,
    ) -> Result<Vec<Edited>, StoreError> {
        on_engine!(self, read chat_revisions(room, after, last))
    }

    /// Counts unread messages one by one; the stored count must equal it. For tests and repairs.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_unread_recount(&self, room: RoomId, user: UserId) -> Result<Option<u64>, StoreError> {
        on_engine!(self, read chat_unread_recount(room, user))
    }
}
