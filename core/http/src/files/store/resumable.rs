//! Resumable uploads. Their state is a small file beside the bytes, so they survive a restart.
//!
//! The offset is the length of the bytes on disk; it is reported only after they are flushed. An upload belongs to
//! one user, counts against the quota with its full length and its text from the start, and expires. Its text counts
//! as a message of its user when it begins.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chelseru_domain::chat::{Action, ChatService, FileId, RoomId, StoredFile};
use chelseru_domain::clock::Timestamp;
use chelseru_domain::files::held_bytes;
use chelseru_domain::ids::UserId;
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::OwnedMutexGuard;

use super::slots::Slots;
use super::{FileError, FileStore, FileWords, Incoming, lock, not_set_aside, title};

pub(super) const STATE: &str = "json";
pub(super) const PART: &str = "part";
/// How long a request waits for another one on the same upload.
const TURN_MAX: Duration = Duration::from_millis(500);
/// How often an erasure ends the requests of an upload's user, and waits [`TURN_MAX`] for the upload: ten seconds in
/// all. The completion of an upload, which goes on, rarely takes longer.
const TURNS_MAX: u32 = 20;

/// An upload to begin.
#[derive(Debug, Clone)]
pub struct UploadDraft {
    pub words: FileWords,
    pub bytes: u64,
    /// `Upload-Metadata` as the client sent it.
    pub metadata: String,
}

/// A resumable upload, finished or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Upload {
    pub id: String,
    pub user: UserId,
    pub room: RoomId,
    pub bytes: u64,
    title: String,
    text: Option<String>,
    /// `Upload-Metadata` as the client sent it; empty for uploads of older versions.
    #[serde(default)]
    pub metadata: String,
    expires_at: Timestamp,
    /// The file it became.
    file: Option<FileId>,
}

/// An upload in memory.
#[derive(Clone)]
pub(super) struct Begun {
    pub(super) user: UserId,
    /// Bytes counted against the quota before the file exists.
    promised: u64,
    finished: bool,
    upload: Arc<tokio::sync::Mutex<Upload>>,
}

impl Begun {
    fn of(upload: Upload) -> Begun {
        let finished = upload.file.is_some();
        let promised = if finished { 0 } else { upload.held() };
        Begun { user: upload.user, promised, finished, upload: Arc::new(tokio::sync::Mutex::new(upload)) }
    }
}

impl Begun {
    /// # Errors
    ///
    /// [`FileError::InUse`].
    async fn locked(self) -> Result<OwnedMutexGuard<Upload>, FileError> {
        // A read ends at once, and a request whose client is gone ends soon.
        let locked = tokio::time::timeout(TURN_MAX, self.upload.lock_owned()).await;
        locked.map_err(|_| FileError::InUse)
    }

    /// Locks an upload after ending all requests that send something for its user. A request locks the upload before
    /// it takes the place by which it is ended, so each turn ends them again.
    ///
    /// # Errors
    ///
    /// [`FileError::InUse`] when the request has not ended in time, because it completes the upload.
    async fn taken_from(self, slots: &Slots, turns: u32) -> Result<OwnedMutexGuard<Upload>, FileError> {
        for _ in 0..turns {
            slots.displace_all(self.user);
            if let Ok(upload) = self.clone().locked().await {
                return Ok(upload);
            }
        }
        Err(FileError::InUse)
    }
}

impl Upload {
    /// What it will hold as a file without a thumbnail.
    fn held(&self) -> u64 {
        held_bytes(self.bytes, None, self.text.as_deref())
    }

    /// Whether it became a file.
    pub(super) fn is_finished(&self) -> bool {
        self.file.is_some()
    }

    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

impl FileStore {
    /// Begins a resumable upload.
    ///
    /// # Errors
    ///
    /// See [`FileError`].
    pub async fn begin(
        &self,
        draft: UploadDraft,
        limits: &chelseru_config::Files,
    ) -> Result<Upload, FileError> {
        let UploadDraft { words, bytes, metadata } = draft;
        if bytes > limits.file_bytes_max {
            return Err(FileError::TooLarge(limits.file_bytes_max));
        }
        self.chat.check(words.room, words.uploader, Action::Post).await?;
        let charged = self.chat.charge_file_text(words.uploader, words.text.as_deref())?;
        let id = self.new_id()?;
        let upload = Upload {
            id: id.clone(),
            user: words.uploader,
            room: words.room,
            bytes,
            title: title(&words.title),
            text: words.text,
            metadata,
            expires_at: self.chat.now().plus(Duration::from_secs(limits.resumable_hours * 3600)),
            file: None,
        };
        self.reserve(&upload, limits).await?;
        let written = async {
            File::create_new(self.part(&id)).await?.sync_all().await?;
            self.save(&upload).await
        };
        if let Err(error) = written.await {
            self.give_up(&upload).await?;
            return Err(error);
        }
        if let Some(charged) = charged {
            charged.came_about();
        }
        Ok(upload)
    }

    /// A user's upload, locked for this caller; `None` when there is none. One that went on at another gateway whose
    /// folder is shared is taken over.
    ///
    /// # Errors
    ///
    /// [`FileError::InUse`], [`FileError::Disk`].
    pub async fn upload(&self, id: &str, user: UserId) -> Result<Option<OwnedMutexGuard<Upload>>, FileError> {
        let known = lock(&self.resumable).get(id).cloned();
        if let Some(begun) = known {
            if begun.user != user {
                return Ok(None);
            }
            let upload = begun.locked().await?;
            if self.is_here(id).await? {
                return Ok(Some(upload));
            }
            lock(&self.resumable).remove(id);
        }
        match self.take_over(id, user).await? {
            Some(upload) => {
                let begun =
                    lock(&self.resumable).entry(id.to_owned()).or_insert_with(|| Begun::of(upload)).clone();
                Ok(Some(begun.locked().await?))
            }
            None => Ok(None),
        }
    }

    /// Bytes received so far.
    ///
    /// # Errors
    ///
    /// [`FileError::Disk`].
    pub async fn offset(&self, upload: &Upload) -> Result<u64, FileError> {
        match upload.file {
            Some(_) => Ok(upload.bytes),
            None => Ok(tokio::fs::metadata(self.part(&upload.id)).await?.len()),
        }
    }

    /// Opens an upload to append more bytes.
    ///
    /// # Errors
    ///
    /// [`FileError::Disk`], [`FileError::NoDescriptor`], [`FileError::InUse`].
    pub async fn go_on(&self, upload: &Upload) -> Result<Piece, FileError> {
        let file = File::options().write(true).open(self.part(&upload.id)).await;
        let file = not_set_aside(file.map_err(or_in_use)?)?;
        let mut file = self.claim(file).await?;
        let offset = file.seek(SeekFrom::End(0)).await?;
        Ok(Piece { file, offset, bytes_max: upload.bytes, chat: self.chat.clone() })
    }

    /// The file of a complete upload, created at the first call.
    ///
    /// # Errors
    ///
    /// See [`FileError`].
    pub async fn complete(
        &self,
        upload: &mut Upload,
        limits: &chelseru_config::Files,
    ) -> Result<Option<StoredFile>, FileError> {
        if let Some(file) = upload.file {
            return Ok(self.chat.file(file).await?);
        }
        if self.offset(upload).await? < upload.bytes {
            return Ok(None);
        }
        // A user who may no longer post loses only this upload.
        self.chat.check(upload.room, upload.user, Action::Post).await?;
        // Without room the upload stays as it is, and is completed by a later request.
        self.chat.check_room()?;
        let words = FileWords {
            room: upload.room,
            uploader: upload.user,
            title: upload.title.clone(),
            text: upload.text.clone(),
        };
        let incoming = Incoming::written(self.part(&upload.id), &upload.id, self.chat.clone()).await?;
        let kept = match self.keep(incoming, words, limits).await {
            Ok(kept) => kept,
            // Its bytes are back, and a later request completes it. Where the record may be stored, the next start
            // finds the bytes and decides.
            Err(error) if error.is_temporary() => return Err(error),
            Err(error) => {
                self.give_up(upload).await?;
                return Err(error);
            }
        };
        upload.file = Some(kept.id);
        self.save(upload).await?;
        // From here on the file counts against the quota.
        if let Some(begun) = lock(&self.resumable).get_mut(&upload.id) {
            (begun.promised, begun.finished) = (0, true);
        }
        self.forget_finished(upload.user, limits.resumable_per_user_max).await?;
        Ok(Some(kept))
    }

    /// Forgets a user's finished uploads but the newest `kept`, whose clients may still ask how far they are. The
    /// caller's own, which has just finished, is one of them. Files stay.
    async fn forget_finished(&self, user: UserId, kept: usize) -> Result<(), FileError> {
        let finished: Vec<_> = {
            let resumable = lock(&self.resumable);
            resumable.values().filter(|begun| begun.user == user && begun.finished).cloned().collect()
        };
        // Those in use, the caller's among them, are not forgotten now.
        let idle = finished.into_iter().filter_map(|begun| begun.upload.try_lock_owned().ok());
        let mut idle: Vec<_> = idle.collect();
        idle.sort_by_key(|upload| std::cmp::Reverse(upload.expires_at));
        for upload in idle.into_iter().skip(kept.saturating_sub(1)) {
            self.give_up(&upload).await?;
        }
        Ok(())
    }

    /// Ends an upload and removes its bytes; a file that it became stays.
    ///
    /// # Errors
    ///
    /// [`FileError::Disk`].
    pub async fn give_up(&self, upload: &Upload) -> Result<(), FileError> {
        lock(&self.resumable).remove(&upload.id);
        for path in [self.state(&upload.id), self.part(&upload.id)] {
            match tokio::fs::remove_file(path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends all uploads of a user, and the requests that send them. Does not wait for a client: other erasures wait.
    ///
    /// # Errors
    ///
    /// [`FileError::InUse`] when one is just being completed, [`FileError::Disk`]. A later call ends the rest.
    pub(super) async fn abandon_resumable(&self, user: UserId) -> Result<(), FileError> {
        // Those that are not resumable too.
        self.slots.displace_all(user);
        let own = |begun: &&Begun| begun.user == user;
        let uploads: Vec<_> = lock(&self.resumable).values().filter(own).cloned().collect();
        for begun in uploads {
            let upload = begun.taken_from(&self.slots, TURNS_MAX).await?;
            self.give_up(&upload).await?;
        }
        Ok(())
    }

    /// Removes expired uploads.
    pub(super) async fn expire(&self, now: Timestamp) {
        let all: Vec<_> = lock(&self.resumable).values().cloned().collect();
        for begun in all {
            // An upload in use is checked in the next round.
            let Ok(upload) = begun.upload.try_lock() else { continue };
            if upload.expires_at <= now
                && let Err(error) = self.give_up(&upload).await
            {
                tracing::warn!(%error, "a resumable upload could not be removed");
            }
        }
    }

    /// Returns true when a file in the incoming folder belongs to a resumable upload, which is then restored.
    pub(super) fn recover_resumable(&self, path: &Path, name: &str) -> bool {
        let Some((id, ending)) = name.rsplit_once('.') else { return false };
        let state = match ending {
            STATE => path.to_owned(),
            PART => self.state(id),
            _ => return false,
        };
        let Ok(bytes) = std::fs::read(state) else { return false };
        let Ok(upload) = serde_json::from_slice::<Upload>(&bytes) else { return false };
        // Bytes that became a file but were not moved yet have the file's name, not this one.
        if upload.file.is_none() && !self.part(id).exists() {
            return false;
        }
        lock(&self.resumable).entry(upload.id.clone()).or_insert_with(|| Begun::of(upload));
        true
    }

    /// Registers an upload, if the user's limits allow it.
    async fn reserve(&self, upload: &Upload, limits: &chelseru_config::Files) -> Result<(), FileError> {
        self.forget_moved(upload.user).await?;
        let (promised, promised_by_all) = self.promise(upload, limits)?;
        let checked = self.check_quota(upload.user, promised, promised_by_all, limits).await;
        if checked.is_err() {
            lock(&self.resumable).remove(&upload.id);
        }
        checked
    }

    /// Counts an upload before the quota is read, so that no two uploads take the same room. Returns the bytes that its
    /// user, and all users, were promised up to it.
    fn promise(&self, upload: &Upload, limits: &chelseru_config::Files) -> Result<(u64, u64), FileError> {
        let mut resumable = lock(&self.resumable);
        let (mut count, mut promised, mut promised_by_all) = (0, upload.held(), upload.held());
        for begun in resumable.values() {
            promised_by_all = promised_by_all.saturating_add(begun.promised);
            if begun.user == upload.user && !begun.finished {
                (count, promised) = (count + 1, promised.saturating_add(begun.promised));
            }
        }
        if count >= limits.resumable_per_user_max {
            return Err(FileError::TooManyResumable);
        }
        resumable.insert(upload.id.clone(), Begun::of(upload.clone()));
        Ok((promised, promised_by_all))
    }

    pub(super) async fn save(&self, upload: &Upload) -> Result<(), FileError> {
        let path = self.state(&upload.id);
        let aside = path.with_extension("new");
        let bytes = serde_json::to_vec(upload).map_err(io::Error::other)?;
        let mut file = File::create(&aside).await?;
        file.write_all(&bytes).await?;
        file.sync_all().await?;
        tokio::fs::rename(aside, path).await?;
        Ok(self.sync_incoming().await?)
    }

    /// Whether an upload is known on disk.
    pub(super) fn has_state(&self, id: &str) -> bool {
        self.state(id).exists()
    }

    pub(super) fn state(&self, id: &str) -> PathBuf {
        self.incoming.join(format!("{id}.{STATE}"))
    }

    pub(super) fn part(&self, id: &str) -> PathBuf {
        self.incoming.join(format!("{id}.{PART}"))
    }
}

/// What is not where it was a moment ago is being moved or completed.
pub(super) fn or_in_use(error: io::Error) -> FileError {
    match error.kind() {
        io::ErrorKind::NotFound => FileError::InUse,
        _ => FileError::Disk(error),
    }
}

/// An upload's bytes, open at their end.
pub struct Piece {
    file: File,
    pub offset: u64,
    bytes_max: u64,
    chat: Arc<ChatService>,
}

impl Piece {
    /// # Errors
    ///
    /// [`FileError::TooLarge`] when more than the announced length arrives; nothing of the piece is written.
    /// [`FileError::Chat`] when the disk is nearly full.
    pub async fn write(&mut self, piece: &Bytes) -> Result<(), FileError> {
        let offset = self.offset.saturating_add(piece.len() as u64);
        if offset > self.bytes_max {
            return Err(FileError::TooLarge(self.bytes_max));
        }
        self.chat.check_room()?;
        self.file.write_all(piece).await?;
        self.offset = offset;
        Ok(())
    }

    /// Makes the written bytes durable, even when the rest never arrived.
    ///
    /// # Errors
    ///
    /// [`FileError::Disk`].
    pub async fn flush(mut self) -> Result<u64, FileError> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        Ok(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn begun(user: UserId) -> Begun {
        Begun::of(Upload {
            id: "up".to_owned(),
            user,
            room: RoomId(1),
            bytes: 10,
            title: String::new(),
            text: None,
            metadata: String::new(),
            expires_at: Timestamp::from_secs(1),
            file: None,
        })
    }

    #[tokio::test]
    async fn an_upload_is_taken_from_its_running_request() {
        let (slots, limits) = (Arc::new(Slots::default()), chelseru_config::Files::default());
        // A request that has its place, and one that takes it once it was told to end.
        for late in [false, true] {
            let begun = begun(UserId(1));
            let upload = begun.clone().locked().await.unwrap();
            let place = || slots.take(UserId(1), &limits, Instant::now()).unwrap();
            let request = async {
                let mut slot = place();
                if late {
                    slot.progress.displaced.cancelled().await;
                    slot = place();
                }
                slot.progress.displaced.cancelled().await;
                drop(upload);
            };
            let ((), taken) = tokio::join!(request, begun.taken_from(&slots, TURNS_MAX));
            assert_eq!(taken.unwrap().user, UserId(1));
        }
    }

    #[tokio::test]
    async fn an_upload_that_is_not_given_back_is_in_use() {
        let begun = begun(UserId(1));
        let _completing = begun.clone().locked().await.unwrap();
        assert!(matches!(begun.taken_from(&Slots::default(), 1).await, Err(FileError::InUse)));
    }
}
