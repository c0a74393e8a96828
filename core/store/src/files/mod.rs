//! The records of uploaded files. The gateway stores the bytes in a folder.
//!
//! A file belongs to its uploader, and to a room or, as the picture of an account, to nobody else. At most one message
//! has it. Invariants: what a user's files hold ([`held_bytes`]), and what all files hold, is counted in the same
//! change and never exceeds its limit; no message can take a file that is about to be removed; a file without a room is
//! the picture of its uploader's account, or about to be removed.

pub(crate) mod moving;
pub(crate) mod postgres;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::chat::{FileId, RoomId};
use crate::engine::{Engine, boxed, on_engine};
use crate::{Store, StoreError, Timestamp, UserId};

/// Facts of a picture, found when it was uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// Pixels, as the picture is shown.
    pub width: u32,
    pub height: u32,
    pub thumbnail: Option<Thumbnail>,
}

/// A small copy of a picture, kept beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thumbnail {
    pub bytes: u64,
    /// Pixels.
    pub width: u32,
    pub height: u32,
}

/// Bytes that each file counts besides its content, however small that is: its record with names and type, and its
/// place on a disk. One block of a usual file system; the largest record without its text is below 2 KiB.
pub const FILE_OVERHEAD_BYTES: u64 = 4096;

/// What a file takes of its uploader's quota, and of the limit of all files.
#[must_use]
pub fn held_bytes(bytes: u64, picture: Option<Picture>, text: Option<&str>) -> u64 {
    let thumbnail = picture.and_then(|picture| picture.thumbnail).map_or(0, |thumbnail| thumbnail.bytes);
    let text = text.map_or(0, str::len) as u64;
    bytes.saturating_add(thumbnail).saturating_add(text).saturating_add(FILE_OVERHEAD_BYTES)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDraft {
    /// `None`: the file becomes the picture of its uploader's account.
    pub room: Option<RoomId>,
    pub uploader: UserId,
    /// Unique and unguessable; the last part of the file's link.
    pub name: String,
    /// The folder in the link.
    pub folder: String,
    /// The uploader's title of the file, for people only.
    pub title: String,
    pub content_type: String,
    pub bytes: u64,
    pub text: Option<String>,
    pub picture: Option<Picture>,
    /// Limit of what the user's files hold, this one included.
    pub quota_bytes: u64,
    /// Limit of what all files hold, this one included.
    pub total_bytes: u64,
    pub now: Timestamp,
}

impl FileDraft {
    pub(crate) fn held(&self) -> u64 {
        held_bytes(self.bytes, self.picture, self.text.as_deref())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    pub id: FileId,
    /// `None`: the picture of its uploader's account.
    pub room: Option<RoomId>,
    pub uploader: UserId,
    pub name: String,
    pub folder: String,
    /// The uploader's title of the file, for people only.
    pub title: String,
    pub content_type: String,
    pub bytes: u64,
    pub text: Option<String>,
    /// Absent for files that are no picture, and for files of versions that did not look.
    pub picture: Option<Picture>,
    pub created_at: Timestamp,
    /// The message that has the file; 0: the room, or the uploader, as the avatar.
    pub message: Option<u64>,
    /// Members may have it although no message shows it, and it stays: an imported file that nobody sent.
    pub shared: bool,
}

impl StoredFile {
    pub(crate) fn held(&self) -> u64 {
        held_bytes(self.bytes, self.picture, self.text.as_deref())
    }

    /// The last part of its link.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}{}", self.folder, self.name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKept {
    Kept(StoredFile),
    QuotaExceeded,
    /// All files together would exceed their limit.
    TotalExceeded,
    /// The account that the picture is for is gone.
    UploaderMissing,
}

impl FileKept {
    /// The file, when it was stored.
    #[must_use]
    pub fn kept(self) -> Option<StoredFile> {
        match self {
            FileKept::Kept(file) => Some(file),
            FileKept::QuotaExceeded | FileKept::TotalExceeded | FileKept::UploaderMissing => None,
        }
    }
}

impl Store {
    /// Records an uploaded file, unless the user's quota or the limit of all files is reached. One without a room
    /// replaces the picture of its uploader's account; the file of the former one is then marked for removal, and
    /// counts until it is removed.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn chat_file_keep(&self, draft: FileDraft) -> Result<FileKept, StoreError> {
        on_engine!(self, chat_file_keep(draft).await)
    }

    /// Takes the picture of an account and marks its file for removal. With `only`, does so when this file is the
    /// picture. False when nothing changed.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn avatar_remove(&self, user: UserId, only: Option<FileId>) -> Result<bool, StoreError> {
        on_engine!(self, avatar_remove(user, only).await)
    }

    /// The file of an account's picture, unless its owner blocks the reader or it is about to be removed. Whether the
    /// two know each other is for the caller to ask.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn avatar_for(&self, file: FileId, reader: UserId) -> Result<Option<StoredFile>, StoreError> {
        on_engine!(self, read avatar_for(file, reader))
    }

    /// What all files of a user hold, see [`held_bytes`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_file_bytes(&self, user: UserId) -> Result<u64, StoreError> {
        on_engine!(self, read chat_file_bytes(user))
    }

    /// What all files hold.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_file_total(&self) -> Result<u64, StoreError> {
        on_engine!(self, read chat_file_total())
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_file(&self, id: FileId) -> Result<Option<StoredFile>, StoreError> {
        on_engine!(self, read chat_file(id))
    }

    /// The file with this name in its link.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_file_by_name(&self, name: &str) -> Result<Option<StoredFile>, StoreError> {
        on_engine!(self, read chat_file_by_name(name))
    }

    /// The newest files, at most `limit`; with `before`, those with a smaller number. Without those that are about to
    /// be removed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_files_newest(
        &self,
        before: Option<FileId>,
        limit: usize,
    ) -> Result<Vec<StoredFile>, StoreError> {
        on_engine!(self, read chat_files_newest(before, limit))
    }

    /// Marks a file for removal that no message and no room shows; false when one does, and without such a file.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn chat_file_doom(&self, id: FileId) -> Result<bool, StoreError> {
        on_engine!(self, chat_file_doom(id).await)
    }

    /// Examines at most `limit` files after `after` and marks for removal those without a message that are older than
    /// `before`, and those whose room is gone. Returns them and where to continue; `None` at the end.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn chat_files_doom(
        &self,
        after: FileId,
        limit: usize,
        before: Timestamp,
    ) -> Result<(Vec<StoredFile>, Option<FileId>), StoreError> {
        on_engine!(self, chat_files_doom(after, limit, before).await)
    }

    /// Removes the record of a marked file whose bytes are deleted.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn chat_file_forget(&self, id: FileId) -> Result<bool, StoreError> {
        on_engine!(self, chat_file_forget(id).await)
    }
}
