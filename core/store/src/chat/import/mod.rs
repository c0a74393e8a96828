//! Rooms, messages and files that come from another program.
//!
//! They keep their ids where an id here has the same meaning: rooms, organisations, files. A message gets the next
//! number of its room, and its old id leads to it ([`Store::chat_message_by_old_id`]), as a file's old path leads to
//! the file. Invariant: what is imported obeys the rules of what is made here; the caller brings members, bans and
//! numbers that fit together.

pub(crate) mod postgres;
pub(crate) mod sled;

use crate::chat::{Member, Message, Organization, Room, RoomId, StoredFile};
use crate::engine::{Engine, boxed, on_engine};
use crate::{Store, StoreError, Timestamp, UserId};

/// A room with those who are in it, and those who may not be.
#[derive(Debug, Clone)]
pub struct ImportedRoom {
    pub room: Room,
    /// With read markers as of the imported messages.
    pub members: Vec<Member>,
    pub bans: Vec<UserId>,
    /// The other user of a pair's room. The pair must have no other room.
    pub pair_with: Option<UserId>,
}

/// A message with the id that clients know.
#[derive(Debug, Clone)]
pub struct ImportedMessage {
    pub message: Message,
    pub old_id: u64,
}

/// A file with the path that clients know.
#[derive(Debug, Clone)]
pub struct ImportedFile {
    pub file: StoredFile,
    pub old_path: String,
}

/// The largest ids of another program: those made here are larger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportedIds {
    pub user: u64,
    pub payment: u64,
    pub room: u64,
    pub organization: u64,
    pub file: u64,
}

impl Store {
    /// Stores organisations under their ids.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    #[boxed]
    pub async fn import_organizations(&self, organizations: Vec<Organization>) -> Result<(), StoreError> {
        on_engine!(self, import_organizations(organizations).await)
    }

    /// Stores rooms under their ids.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    #[boxed]
    pub async fn import_rooms(&self, rooms: Vec<ImportedRoom>) -> Result<(), StoreError> {
        on_engine!(self, import_rooms(rooms).await)
    }

    /// Stores messages under their numbers.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    #[boxed]
    pub async fn import_messages(&self, messages: Vec<ImportedMessage>) -> Result<(), StoreError> {
        on_engine!(self, import_messages(messages).await)
    }

    /// Stores the records of files under their ids, and counts their bytes.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    #[boxed]
    pub async fn import_files(&self, files: Vec<ImportedFile>) -> Result<(), StoreError> {
        on_engine!(self, import_files(files).await)
    }

    /// Lets new ids begin above these.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    #[boxed]
    pub async fn import_ids(&self, last: ImportedIds) -> Result<(), StoreError> {
        on_engine!(self, import_ids(last).await)
    }

    /// Room and number of the message that had this id in the program it comes from.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_message_by_old_id(&self, old_id: u64) -> Result<Option<(RoomId, u64)>, StoreError> {
        on_engine!(self, read chat_message_by_old_id(old_id))
    }

    /// The file that had this path in the program it comes from.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_file_by_old_path(&self, path: &str) -> Result<Option<StoredFile>, StoreError> {
        on_engine!(self, read chat_file_by_old_path(path))
    }

    /// The number of the last message of a room that was sent before an instant, 0 when there is none. Times of a room
    /// rise with its numbers, so a few reads find it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_last_seq_before(&self, room: RoomId, before: Timestamp) -> Result<u64, StoreError> {
        on_engine!(self, read chat_last_seq_before(room, before))
    }
}
