//! Access to uploaded files.
//!
//! A file belongs to a room from its upload on, or is the picture of its uploader's account. Invariants: only its
//! uploader sees a file that no message shows; a removed member reads no file of the room; nobody reads the picture of
//! a user who blocks them.
//!
//! Not here: the bytes and their type (the gateway, over the port [`place`]), and links (the gateway signs them).

pub mod place;

pub use chelseru_store::chat::{FILE_OVERHEAD_BYTES, held_bytes};
use chelseru_store::chat::{FileDraft, FileId, FileKept, StoredFile};
use chelseru_store::{DiskRoom, StoreError};

use crate::Range;
use crate::chat::{Action, Charged, ChatError, ChatService};
use crate::ids::UserId;

/// Bytes of one file.
pub const FILE_BYTES: Range<u64> = Range::new(1, 1 << 32, 20 * 1024 * 1024);
/// What all files of one user hold ([`held_bytes`]).
pub const USER_BYTES: Range<u64> = Range::new(1, 1 << 40, 1024 * 1024 * 1024);
/// What all files hold.
pub const TOTAL_BYTES: Range<u64> = Range::new(1, 1 << 50, 50 * 1024 * 1024 * 1024);
/// Bytes of the picture of an account. A larger one than the upper limit would get no thumbnail.
pub const AVATAR_BYTES: Range<u64> = Range::new(1, 32 * 1024 * 1024, 5 * 1024 * 1024);
/// Concurrent uploads.
pub const UPLOADS: Range<usize> = Range::new(1, 10_000, 64);
/// Concurrent uploads of one user.
pub const UPLOADS_PER_USER: Range<usize> = Range::new(1, 1000, 4);
/// Duration of one upload request.
pub const UPLOAD_SECS: Range<u64> = Range::new(1, 86_400, 600);
/// How long an upload may be slow, and does not give way to others.
pub const UPLOAD_GRACE_SECS: Range<u64> = Range::new(1, 600, 30);
/// Unfinished resumable uploads of one user.
pub const RESUMABLE_PER_USER: Range<usize> = Range::new(1, 1000, 10);
/// Bytes of the pixels of a picture for which a thumbnail is made: 25 megapixels of RGBA. 0 makes none.
pub const THUMBNAIL_MEMORY_BYTES: Range<u64> = Range::new(0, 1 << 30, 100_000_000);
/// Hours until an unfinished resumable upload is removed.
pub const RESUMABLE_HOURS: Range<u64> = Range::new(1, 720, 24);
/// Hours until a file without a message is removed.
pub const ORPHAN_HOURS: Range<u64> = Range::new(1, 720, 24);
/// Lifetime of a signed link.
pub const LINK_SECS: Range<u64> = Range::new(1, 86_400, 300);

impl ChatService {
    /// Counts the text of a file that is uploaded as a message of its uploader; a file without one counts against the
    /// quota only. Given back when the result is dropped before the file is there.
    ///
    /// # Errors
    ///
    /// [`ChatError::Exhausted`].
    pub fn charge_file_text(
        &self,
        uploader: UserId,
        text: Option<&str>,
    ) -> Result<Option<Charged>, ChatError> {
        let text = text.filter(|text| !text.is_empty());
        text.map(|text| self.charge_for(uploader, text.len())).transpose()
    }

    /// Records an uploaded file, unless a limit is reached; the uploader of a room's file was checked with
    /// [`Action::Post`]. A file without a room replaces the picture of its uploader's account.
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

    /// The file with this name in its link, if the user may have it. Members have files of messages and the room's
    /// avatar, and imported files; an unsent file is its uploader's only. The picture of an account is for its owner,
    /// for acquainted users, and for those with a link (`shown`), whose reply showed the owner's name, too.
    ///
    /// # Errors
    ///
    /// [`ChatError::RoomMissing`], [`ChatError::Denied`], [`ChatError::Store`].
    pub async fn file_for(
        &self,
        file: StoredFile,
        user: UserId,
        shown: bool,
    ) -> Result<Option<StoredFile>, ChatError> {
        let Some(room) = file.room else {
            let may = file.uploader == user || shown || self.is_acquainted(user, file.uploader).await?;
            return if may { self.avatar_for(file.id, user).await } else { Ok(None) };
        };
        self.check(room, user, Action::See).await?;
        Ok(Some(file).filter(|file| file.message.is_some() || file.shared || file.uploader == user))
    }

    /// The picture of an account, for a reader who is shown the owner's name: `None` when the owner blocks the reader,
    /// and when it was replaced since.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn avatar_for(&self, file: FileId, reader: UserId) -> Result<Option<StoredFile>, ChatError> {
        Ok(self.store.avatar_for(file, reader).await?)
    }

    /// Takes the picture of an account, or with `only` this picture. False when nothing changed.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn avatar_remove(&self, user: UserId, only: Option<FileId>) -> Result<bool, ChatError> {
        Ok(self.store.avatar_remove(user, only).await?)
    }

    /// The file with this random name, for any caller.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn file_by_name(&self, name: &str) -> Result<Option<StoredFile>, ChatError> {
        Ok(self.store.chat_file_by_name(name).await?)
    }

    /// The file that had this path in the program it was imported from, whoever asks.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn file_by_old_path(&self, path: &str) -> Result<Option<StoredFile>, ChatError> {
        Ok(self.store.chat_file_by_old_path(path).await?)
    }

    /// The files that a user uploaded among `limit` files after one, and where to continue.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn files_of(
        &self,
        user: UserId,
        after: FileId,
        limit: usize,
    ) -> Result<(Vec<StoredFile>, Option<FileId>), ChatError> {
        Ok(self.store.erasure_files(user, after, limit).await?)
    }

    /// The newest files, or those with smaller numbers than one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub(crate) async fn files_newest(
        &self,
        before: Option<FileId>,
        limit: usize,
    ) -> Result<Vec<StoredFile>, StoreError> {
        self.store.chat_files_newest(before, limit).await
    }

    /// Marks a file for removal that nothing shows; false when something does.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub(crate) async fn file_doom(&self, id: FileId) -> Result<bool, StoreError> {
        self.store.chat_file_doom(id).await
    }

    /// What all files that a user uploaded hold.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn file_bytes(&self, user: UserId) -> Result<u64, ChatError> {
        Ok(self.store.chat_file_bytes(user).await?)
    }

    /// What all files hold.
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

    /// Marks removable files: those without a message that are older than `before`, and those of deleted rooms.
    /// Examines `limit` files after `after`, and returns where to continue.
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

    /// Removes the record of a file whose bytes are deleted.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn file_forget(&self, file: FileId) -> Result<(), ChatError> {
        self.store.chat_file_forget(file).await?;
        Ok(())
    }
}
