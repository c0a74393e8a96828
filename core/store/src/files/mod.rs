//! Uploaded files: their records. The gateway keeps the bytes in a folder.
//!
//! A file belongs to a room and to the user who uploaded it. At most one message has it. Invariants: the bytes of a
//! user's files, and of all files, are counted in the same change and never exceed their limits; no message can take a
//! file that is about to be removed.

pub(crate) mod sled;

use crate::chat::{FileId, RoomId};
use crate::engine::{Engine, on_engine};
use crate::{Store, StoreError, Timestamp, UserId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDraft {
    pub room: RoomId,
    pub uploader: UserId,
    /// Unique and unguessable: the end of the file's link.
    pub name: String,
    /// Where the link says it is, without the name.
    pub folder: String,
    /// What its uploader calls it; for people only.
    pub title: String,
    pub content_type: String,
    pub bytes: u64,
    pub text: Option<String>,
    /// Bytes that the user's files may have together, this one included.
    pub quota_bytes: u64,
    /// Bytes that all files may have together, this one included.
    pub total_bytes: u64,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    pub id: FileId,
    pub room: RoomId,
    pub uploader: UserId,
    pub name: String,
    pub folder: String,
    /// What its uploader calls it; for people only.
    pub title: String,
    pub content_type: String,
    pub bytes: u64,
    pub text: Option<String>,
    pub created_at: Timestamp,
    /// The message that has it; 0: the room, as its avatar.
    pub message: Option<u64>,
}

impl StoredFile {
    /// The end of its link.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}{}", self.folder, self.name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKept {
    Kept(StoredFile),
    QuotaExceeded,
    /// All files together would pass their bound.
    TotalExceeded,
}

impl FileKept {
    /// The file, when it was kept.
    #[must_use]
    pub fn kept(self) -> Option<StoredFile> {
        match self {
            FileKept::Kept(file) => Some(file),
            FileKept::QuotaExceeded | FileKept::TotalExceeded => None,
        }
    }
}

impl Store {
    /// Notes a file that was written, unless the user's quota or the place for all files is used up.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn chat_file_keep(&self, draft: FileDraft) -> Result<FileKept, StoreError> {
        on_engine!(self, chat_file_keep(draft).await)
    }

    /// Bytes that the user's files have together.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn chat_file_bytes(&self, user: UserId) -> Result<u64, StoreError> {
        on_engine!(self, read chat_file_bytes(user))
    }

    /// Bytes that all files have together.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn chat_file_total(&self) -> Result<u64, StoreError> {
        on_engine!(self, read chat_file_total())
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn chat_file(&self, id: FileId) -> Result<Option<StoredFile>, StoreError> {
        on_engine!(self, read chat_file(id))
    }

    /// The file with this name in its link.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn chat_file_by_name(&self, name: &str) -> Result<Option<StoredFile>, StoreError> {
        on_engine!(self, read chat_file_by_name(name))
    }

    /// Walks over at most `limit` files after `after` and dooms those that no message has and that are older than
    /// `before`, or whose room is gone. Says which, and where to go on; `None` at the end.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn chat_files_doom(
        &self,
        after: FileId,
        limit: usize,
        before: Timestamp,
    ) -> Result<(Vec<StoredFile>, Option<FileId>), StoreError> {
        on_engine!(self, chat_files_doom(after, limit, before).await)
    }

    /// Forgets a doomed file whose bytes are gone.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn chat_file_forget(&self, id: FileId) -> Result<bool, StoreError> {
        on_engine!(self, chat_file_forget(id).await)
    }
}
