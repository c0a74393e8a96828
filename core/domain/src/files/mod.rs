//! Uploaded files: who may have one.
//!
//! A file belongs to a room from its upload on. Invariants: a file that no message shows is its uploader's alone; a
//! member who was removed reads no file of the room any more.
//!
//! Not here: the bytes, their type and their place on disk (the gateway), and links (the gateway signs them).

use chelseru_store::DiskRoom;
use chelseru_store::chat::{FileDraft, FileId, FileKept, StoredFile};

use crate::Range;
use crate::chat::{Action, ChatError, ChatService};
use crate::ids::UserId;

/// Bytes of one file.
pub const FILE_BYTES: Range<u64> = Range::new(1, 1 << 32, 20 * 1024 * 1024);
/// Bytes of all files of one user.
pub const USER_BYTES: Range<u64> = Range::new(1, 1 << 40, 1024 * 1024 * 1024);
/// Bytes of all files.
pub const TOTAL_BYTES: Range<u64> = Range::new(1, 1 << 50, 50 * 1024 * 1024 * 1024);
/// Uploads received at once.
pub const UPLOADS: Range<usize> = Range::new(1, 10_000, 64);
/// Uploads of one user received at once.
pub const UPLOADS_PER_USER: Range<usize> = Range::new(1, 1000, 4);
/// Time of one request that brings a file.
pub const UPLOAD_SECS: Range<u64> = Range::new(1, 86_400, 600);
/// Resumable uploads that a user may have begun.
pub const RESUMABLE_PER_USER: Range<usize> = Range::new(1, 1000, 10);
/// After which a resumable upload is given up.
pub const RESUMABLE_HOURS: Range<u64> = Range::new(1, 720, 24);
/// After which a file that no message has is removed.
pub const ORPHAN_HOURS: Range<u64> = Range::new(1, 720, 24);
/// How long a signed link serves.
pub const LINK_SECS: Range<u64> = Range::new(1, 86_400, 300);

impl ChatService {
    /// Notes an uploaded file, unless a bound is reached; the uploader was checked with [`Action::Post`].
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn file_keep(&self, draft: FileDraft) -> Result<FileKept, ChatError> {
        Ok(self.store.chat_file_keep(draft).await?)
    }

    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn file(&self, id: FileId) -> Result<Option<StoredFile>, ChatError> {
        Ok(self.store.chat_file(id).await?)
    }

    /// The file with this name in its link, if the user may have it: members have what a message (or the room, as its
    /// avatar) has; what nobody sent yet is its uploader's.
    ///
    /// # Errors
    ///
    /// [`ChatError::RoomMissing`], [`ChatError::Denied`], [`ChatError::Store`].
    pub async fn file_for(&self, file: StoredFile, user: UserId) -> Result<Option<StoredFile>, ChatError> {
        self.check(file.room, user, Action::See).await?;
        Ok(Some(file).filter(|file| file.message.is_some() || file.uploader == user))
    }

    /// The file with this random name, whoever asks.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn file_by_name(&self, name: &str) -> Result<Option<StoredFile>, ChatError> {
        Ok(self.store.chat_file_by_name(name).await?)
    }

    /// Bytes of all files that a user uploaded.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn file_bytes(&self, user: UserId) -> Result<u64, ChatError> {
        Ok(self.store.chat_file_bytes(user).await?)
    }

    /// Bytes of all files.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn file_bytes_total(&self) -> Result<u64, ChatError> {
        Ok(self.store.chat_file_total().await?)
    }

    /// Whether the disk has room for more than logins and payments.
    ///
    /// # Errors
    ///
    /// [`ChatError::StorageFull`] when it has not.
    pub fn check_room(&self) -> Result<(), ChatError> {
        if self.store.room() == DiskRoom::Ample { Ok(()) } else { Err(ChatError::StorageFull) }
    }

    /// Finds files that can go: those that no message has and that are older than `before`, and those of deleted rooms.
    /// Looks at `limit` files after `after`, and returns where to go on.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn files_doom(
        &self,
        after: FileId,
        limit: usize,
        before: crate::Timestamp,
    ) -> Result<(Vec<StoredFile>, Option<FileId>), ChatError> {
        Ok(self.store.chat_files_doom(after, limit, before).await?)
    }

    /// Removes the record of a file whose bytes are gone.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn file_forget(&self, file: FileId) -> Result<(), ChatError> {
        self.store.chat_file_forget(file).await?;
        Ok(())
    }
}
