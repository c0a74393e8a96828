//! The records of uploaded files. The gateway stores the bytes in a folder.
//!
//! A file belongs to its uploader, and to a room or, as the picture of an account, to nobody else. At most one message
//! has it. Invariants: the bytes of a user's files, and of all files, are counted in the same change, thumbnails
//! included, and never exceed their limits; no message can take a file that is about to be removed; a file without a
//! room is the picture of its uploader's account, or about to be removed.

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

impl Picture {
    /// Bytes besides those of the picture itself.
    #[must_use]
    pub fn extra_bytes(picture: Option<Picture>) -> u64 {
        picture.and_then(|picture| picture.thumbnail).map_or(0, |thumbnail| thumbnail.bytes)
    }
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
    /// Limit of the bytes of the user's files, this one included.
    pub quota_bytes: u64,
    /// Limit of the bytes of all files, this one included.
    pub total_bytes: u64,
    pub now: Timestamp,
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

    /// Bytes of all files of a user.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_file_bytes(&self, user: UserId) -> Result<u64, StoreError> {
        on_engine!(self, read chat_file_bytes(user))
    }

    /// Bytes of all files.
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
