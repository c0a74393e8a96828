//! Uploaded files: who may have one.
//!
//! A file belongs to a room from its upload on. Invariants: a file that no message shows is its uploader's alone; a
//! member who was removed reads no file of the room any more.
//!
//! Not here: the bytes, their type and their place on disk (the gateway), and links (the gateway signs them).

use chelseru_store::chat::{FileDraft, FileId, FileKept, StoredFile};

use crate::chat::{Action, ChatError, ChatService};
use crate::ids::UserId;

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
    pub fn file(&self, id: FileId) -> Result<Option<StoredFile>, ChatError> {
        Ok(self.store.chat_file(id)?)
    }

    /// The file with this name in its link, if the user may have it: members have what a message (or the room, as its
    /// avatar) has; what nobody sent yet is its uploader's.
    ///
    /// # Errors
    ///
    /// [`ChatError::RoomMissing`], [`ChatError::Denied`], [`ChatError::Store`].
    pub fn file_for(&self, file: StoredFile, user: UserId) -> Result<Option<StoredFile>, ChatError> {
        self.check(file.room, user, Action::See)?;
        Ok(Some(file).filter(|file| file.message.is_some() || file.uploader == user))
    }
}
