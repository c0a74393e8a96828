//! Uploaded files, as operators see and remove them.
//!
//! Who uploaded what, where and when is part of what people wrote: a look at the list is in the audit log. A file goes
//! with whatever shows it: a message is deleted, an avatar is taken from its room, and members see that happen; a
//! picture is taken from its account.

use chelseru_store::StoreError;
use chelseru_store::chat::{FileId, StoredFile};

use super::rooms::{LOOK_STEP, LOOKED_MAX};
use super::{Desk, Looked};
use crate::Timestamp;
use crate::chat::{ChatError, RoomEdit, RoomId, RoomRequest};
use crate::ids::UserId;
use crate::login::account::look_alike;
use crate::operator::audit::{AuditEvent, AuditKind};
use crate::operator::role::{Permit, Reason, RoomChange, RoomMessageRead};

/// Which files to list. Everything given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileQuery {
    /// A part of the uploader's title.
    pub title: String,
    /// The beginning of the content type, such as `image/`.
    pub kind: String,
    pub uploader: Option<UserId>,
    pub room: Option<RoomId>,
    pub bytes_min: Option<u64>,
    /// Uploaded at this instant or later, and before that one.
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl FileQuery {
    fn fits(&self, file: &StoredFile, title: &str) -> bool {
        file.content_type.starts_with(&self.kind)
            && self.uploader.is_none_or(|uploader| uploader == file.uploader)
            && self.room.is_none_or(|room| Some(room) == file.room)
            && self.bytes_min.is_none_or(|bytes| bytes <= file.bytes)
            && self.from.is_none_or(|from| from <= file.created_at)
            && self.until.is_none_or(|until| file.created_at < until)
            && (title.is_empty() || look_alike(&file.title).contains(title))
    }
}

impl Desk {
    /// The files that fit a query, newest first. In the audit log.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn files(
        &self,
        permit: &Permit<RoomMessageRead>,
        query: &FileQuery,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Looked<StoredFile>, StoreError> {
        let event = AuditEvent::by(permit.operator(), AuditKind::RoomMessagesRead);
        self.audit().record(event.subject("files"));
        let title = look_alike(query.title.trim());
        let mut place = before.map(FileId);
        let mut found = Vec::new();
        for _ in 0..LOOKED_MAX / LOOK_STEP {
            let step = self.services.chat.files_newest(place, LOOK_STEP).await?;
            let whole = step.len() == LOOK_STEP;
            for file in step {
                place = Some(file.id);
                if query.fits(&file, &title) {
                    found.push(file);
                    if found.len() == limit {
                        return Ok(Looked { found, next: place.map(|place| place.0) });
                    }
                }
            }
            if !whole {
                return Ok(Looked { found, next: None });
            }
            tokio::task::yield_now().await;
        }
        Ok(Looked { found, next: place.map(|place| place.0) })
    }

    /// Bytes of all files.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn files_bytes(&self, _permit: &Permit<RoomMessageRead>) -> Result<u64, ChatError> {
        self.services.chat.file_bytes_total().await
    }

    /// Removes a file with what shows it; false without such a file. The bytes go with the next round over the files.
    ///
    /// # Errors
    ///
    /// See [`ChatError`]; nothing changed then.
    pub async fn file_remove(
        &self,
        permit: &Permit<RoomChange>,
        id: FileId,
        reason: &Reason,
    ) -> Result<bool, ChatError> {
        let chat = &self.services.chat;
        let Some(file) = chat.file(id).await? else { return Ok(false) };
        match (file.room, file.message) {
            (None, _) | (_, None) => {}
            (Some(room), Some(0)) => {
                let edit = RoomEdit { avatar: Some(None), ..RoomEdit::default() };
                chat.room_decree(room, RoomRequest::Edit(edit)).await?;
            }
            (Some(room), Some(seq)) => chat.message_decree_delete(room, seq).await?,
        }
        let removed = match file.room {
            None => chat.avatar_remove(file.uploader, Some(id)).await?,
            // Otherwise its uploader could send it once more.
            Some(_) => chat.file_doom(id).await?,
        };
        if removed {
            let event = AuditEvent::by(permit.operator(), AuditKind::RoomChanged).user(file.uploader);
            let place = match (file.room, file.message) {
                (Some(room), Some(seq @ 1..)) => format!("room {}, message {seq}, file {}", room.0, id.0),
                (Some(room), _) => format!("room {}, file {}", room.0, id.0),
                (None, _) => format!("picture of user {}, file {}", file.uploader.0, id.0),
            };
            self.audit().record(event.subject(place).change("there", "removed").reason(reason));
        }
        Ok(removed)
    }
}
