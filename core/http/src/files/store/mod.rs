//! Uploaded files, from receipt to collection.
//!
//! The record of a file (room, uploader, type, size) is in the store. Its bytes are in a place: a [`Folder`], or a
//! bucket (`chelseru-outbound`), at the path in its link. Names are random and types are read from the content, so
//! nothing from a client becomes a path or a type. Bytes are received in `uploads/incoming/` of the data folder, and
//! thumbnails are made there, whatever the place. Invariants: a file with a record has its bytes, complete and durable,
//! in its place, or here until it settles. Bytes without a record exist only as a received file or as a copy that the
//! received file's name tells of; both are removed at a start (`left`). No file exceeds the size limit, no user the
//! quota.
//!
//! Not here: requests (`upload`, `tus`, `download`), who may have a file (`chelseru_domain::chat`).
//! Reading order: this file, `folder`, `slots`, `incoming`, `left`, `picture`, `resumable`, `moved`, `link`, `kind`.

mod folder;
mod incoming;
pub mod kind;
mod left;
mod link;
mod moved;
pub mod picture;
mod resumable;
mod slots;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chelseru_domain::chat::{
    Action, ChatError, ChatService, FileDraft, FileId, FileKept, RoomId, StoredFile,
};
use chelseru_domain::clock::Timestamp;
use chelseru_domain::erasure::FileBytes;
use chelseru_domain::files::place::{FilePlace, Part, Pieces, PlaceError, PlaceState};
use chelseru_domain::ids::UserId;
use chelseru_domain::secret::SubKey;
use chelseru_domain::text::name_as_seen;

use crate::descriptors::{Use, is_set_aside};
use incoming::Received;

pub(crate) use folder::pieces;

pub use folder::Folder;
pub use incoming::Incoming;
pub use link::SignedBy;
pub use resumable::{Upload, UploadDraft};
pub(crate) use slots::Slot;

/// Files checked in one round of collection.
const COLLECT_STEP: usize = 500;
/// The folder of files below the data folder, and of received ones whatever the place.
pub const FOLDER: &str = "uploads";
/// The path before the folder in a link, as in the original. Files are outside the base path, so stored links stay
/// valid.
const LINKS: &str = "/media/";
const INCOMING: &str = "incoming";
/// Characters of a file's title.
const TITLE_CHARS_MAX: usize = 150;

/// Why a file was refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("a file may have at most {0} bytes")]
    TooLarge(u64),
    #[error("the file is empty")]
    Empty,
    /// Of the picture of an account: damaged, of another type, or of more pixels than are decoded.
    #[error("upload a JPEG, PNG or WebP picture that is whole and not too large to be decoded")]
    NotAPicture,
    #[error("the quota of {0} bytes is used up")]
    QuotaExceeded(u64),
    #[error("all files together may have at most {0} bytes, which are used up")]
    TotalExceeded(u64),
    /// Another request uses the resumable upload, here or at another gateway. A retry helps.
    #[error("another request is at this upload")]
    InUse,
    /// The gateway's limit (false) or the user's (true).
    #[error("too many uploads at once")]
    TooManyUploads { own: bool },
    #[error("too many unfinished resumable uploads")]
    TooManyResumable,
    /// What is left is for the gateway itself.
    #[error("the file descriptors are nearly used up")]
    NoDescriptor,
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The place of files does not answer, or refuses this gateway. The text is for operators.
    #[error("{0}")]
    Away(String),
    #[error("disk error: {0}")]
    Disk(#[from] io::Error),
}

impl FileError {
    /// Whether the file can be kept later. Nothing was decided about it.
    fn is_temporary(&self) -> bool {
        match self {
            FileError::Chat(error) => error.is_temporary(),
            FileError::InUse | FileError::NoDescriptor | FileError::Away(_) | FileError::Disk(_) => true,
            FileError::TooLarge(_)
            | FileError::Empty
            | FileError::NotAPicture
            | FileError::QuotaExceeded(_)
            | FileError::TotalExceeded(_)
            | FileError::TooManyUploads { .. }
            | FileError::TooManyResumable => false,
        }
    }
}

/// An uploader's statements about a file.
#[derive(Debug, Clone)]
pub struct FileWords {
    pub room: RoomId,
    pub uploader: UserId,
    pub title: String,
    pub text: Option<String>,
}

/// The uploaded files.
pub struct FileStore {
    chat: Arc<ChatService>,
    place: Arc<dyn FilePlace>,
    /// Where uploads are until their records are stored. Each gateway has a folder of its own, because the finished
    /// ones may be in a shared one.
    incoming: PathBuf,
    /// This gateway's mark among those that share the store.
    node: Option<String>,
    key: SubKey,
    slots: Arc<slots::Slots>,
    pictures: picture::Pictures,
    resumable: Mutex<HashMap<String, resumable::Begun>>,
    /// Where collection continues.
    collected: Mutex<FileId>,
    /// Received files that wait for the place.
    left: Mutex<Vec<PathBuf>>,
    /// The name of the folder of received files was synced, and those of the folders above it.
    is_incoming_durable: AtomicBool,
}

impl FileStore {
    /// Opens the folder of received files, and completes or removes what a stop left unfinished; what needs a place
    /// that is away waits for [`FileStore::finish_left`]. `node` names this gateway among those that share the store,
    /// the same at each start.
    ///
    /// # Errors
    ///
    /// A text for the operator when the folder cannot be used.
    pub async fn open(
        data_dir: &Path,
        place: Arc<dyn FilePlace>,
        chat: Arc<ChatService>,
        key: SubKey,
        node: Option<&str>,
    ) -> Result<FileStore, String> {
        let own = node.map_or_else(|| INCOMING.to_owned(), |node| format!("{INCOMING}-{node}"));
        let files = FileStore {
            incoming: data_dir.join(FOLDER).join(own),
            chat,
            place,
            node: node.map(str::to_owned),
            key,
            slots: Arc::default(),
            pictures: picture::Pictures::default(),
            resumable: Mutex::default(),
            collected: Mutex::new(FileId(0)),
            left: Mutex::default(),
            is_incoming_durable: AtomicBool::new(false),
        };
        let incoming = files.incoming.clone();
        let fault = |error: io::Error| format!("{}: cannot be used: {error}", incoming.display());
        std::fs::create_dir_all(&incoming).map_err(fault)?;
        files.recover().await.map_err(fault)?;
        Ok(files)
    }

    /// The file of a link's path, or of the path that an imported file had. The path is compared with the record's,
    /// never opened.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn find(&self, path: &str) -> Result<Option<StoredFile>, ChatError> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let file = self.chat.file_by_name(name).await?;
        if let Some(file) = file.filter(|file| file.path() == path) {
            return Ok(Some(file));
        }
        // Names of uploads are ASCII; those of imported files come as a browser encodes them.
        match percent_encoding::percent_decode_str(path).decode_utf8() {
            Ok(path) => self.chat.file_by_old_path(&path).await,
            Err(_) => Ok(None),
        }
    }

    /// A part of a file's bytes.
    ///
    /// # Errors
    ///
    /// [`FileError::Disk`], [`FileError::NoDescriptor`], [`FileError::Away`].
    pub async fn bytes(&self, file: &StoredFile, part: Part) -> Result<Pieces, FileError> {
        self.open_part(&FileStore::path(file), part).await
    }

    /// A part of the bytes of a file's thumbnail.
    ///
    /// # Errors
    ///
    /// As [`FileStore::bytes`].
    pub async fn thumbnail_bytes(&self, file: &StoredFile, part: Part) -> Result<Pieces, FileError> {
        self.open_part(&picture::beside_path(&FileStore::path(file)), part).await
    }

    async fn open_part(&self, path: &str, part: Part) -> Result<Pieces, FileError> {
        // A place elsewhere costs a connection, whose descriptor nobody sees.
        let next = std::fs::File::open(&self.incoming)?;
        if is_set_aside(&next, Use::File) {
            return Err(FileError::NoDescriptor);
        }
        drop(next);
        Ok(self.place.open(path, part).await?)
    }

    /// Tries the place.
    ///
    /// # Errors
    ///
    /// See [`PlaceError`].
    pub async fn probe(&self) -> Result<(), PlaceError> {
        self.place.probe().await
    }

    /// How the place does.
    #[must_use]
    pub fn place_state(&self) -> PlaceState {
        self.place.state()
    }

    /// Adds a received file to the room, with a thumbnail beside it.
    ///
    /// Must not be cancelled half way: a file whose record is stored would wait for the next start to be moved.
    /// Callers run it detached from the connection.
    ///
    /// # Errors
    ///
    /// See [`FileError`].
    pub async fn keep(
        &self,
        incoming: Incoming,
        words: FileWords,
        limits: &chelseru_config::Files,
    ) -> Result<StoredFile, FileError> {
        self.chat.check(words.room, words.uploader, Action::Post).await?;
        let (received, draft) = self.examine(incoming, words.uploader, &words.title, limits).await?;
        self.record(received, FileDraft { room: Some(words.room), text: words.text, ..draft }, limits).await
    }

    /// Makes a received file the picture of its uploader's account. Cancellation: as [`FileStore::keep`].
    ///
    /// # Errors
    ///
    /// [`FileError::NotAPicture`], and see [`FileError`].
    pub async fn keep_avatar(
        &self,
        incoming: Incoming,
        uploader: UserId,
        title: &str,
        limits: &chelseru_config::Files,
    ) -> Result<StoredFile, FileError> {
        let (received, draft) = self.examine(incoming, uploader, title, limits).await?;
        let memory = limits.thumbnail_memory_bytes_max;
        if !picture::is_decoded(received.kind.mime, draft.picture, memory) {
            received.discard().await?;
            return Err(FileError::NotAPicture);
        }
        self.record(received, draft, limits).await
    }

    /// Completes a received file, makes its thumbnail, and writes down what is known of it by itself.
    async fn examine(
        &self,
        incoming: Incoming,
        uploader: UserId,
        name: &str,
        limits: &chelseru_config::Files,
    ) -> Result<(Received, FileDraft), FileError> {
        let now = self.chat.now();
        let received = incoming.finish(&self.incoming, now).await?;
        let memory = limits.thumbnail_memory_bytes_max;
        let picture = self.pictures.of(&received.local, received.kind.mime, memory).await;
        let draft = FileDraft {
            room: None,
            uploader,
            name: received.name.clone(),
            folder: received.folder.clone(),
            title: received.kind.named(&title(name), TITLE_CHARS_MAX),
            content_type: received.kind.mime.to_owned(),
            bytes: received.bytes,
            text: None,
            picture,
            quota_bytes: limits.user_bytes_max,
            total_bytes: limits.total_bytes_max,
            now,
        };
        Ok((received, draft))
    }

    /// Copies a received file to its place and stores its record, or removes it.
    async fn record(
        &self,
        received: Received,
        draft: FileDraft,
        limits: &chelseru_config::Files,
    ) -> Result<StoredFile, FileError> {
        let has_thumbnail = draft.picture.is_some_and(|picture| picture.thumbnail.is_some());
        let offered = match self.offer(&received, has_thumbnail).await {
            // A crash between the record and the move must leave the bytes here.
            Ok(()) => self.sync_incoming().await.map_err(FileError::from),
            refused => refused,
        };
        if let Err(error) = offered {
            self.return_received(&received).await?;
            return Err(error);
        }
        let kept = match self.chat.file_keep(draft).await {
            Ok(kept) => kept,
            Err(error) => {
                // Where the record may be stored the bytes stay; the next start checks.
                if !error.is_unsure() {
                    self.take_back(&received).await?;
                }
                return Err(error.into());
            }
        };
        let refused = match kept {
            FileKept::Kept(kept) => {
                let path = received.path();
                self.place.settle(&received.local, &path).await?;
                if has_thumbnail {
                    let small = picture::beside(&received.local);
                    self.place.settle(&small, &picture::beside_path(&path)).await?;
                }
                return Ok(kept);
            }
            FileKept::QuotaExceeded => FileError::QuotaExceeded(limits.user_bytes_max),
            FileKept::TotalExceeded => FileError::TotalExceeded(limits.total_bytes_max),
            FileKept::UploaderMissing => ChatError::UserMissing.into(),
        };
        self.drop_received(&received).await?;
        Err(refused)
    }

    /// Makes the names of received files durable. The first call syncs the folders above, too: an earlier process may
    /// have made them right before the power failed.
    async fn sync_incoming(&self) -> io::Result<()> {
        incoming::sync_dir(&self.incoming).await?;
        if !self.is_incoming_durable.load(Ordering::Relaxed) {
            // `uploads`, and the data folder.
            for above in self.incoming.ancestors().skip(1).take(2) {
                incoming::sync_dir(above).await?;
            }
            self.is_incoming_durable.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Copies a received file to its place, with its thumbnail.
    async fn offer(&self, received: &Received, has_thumbnail: bool) -> Result<(), FileError> {
        let path = received.path();
        self.place.offer(&received.local, &path).await?;
        if has_thumbnail {
            self.place.offer(&picture::beside(&received.local), &picture::beside_path(&path)).await?;
        }
        Ok(())
    }

    /// Refuses early what would be refused at the end: files of a user, and of all users, that hold so much more (see
    /// [`chelseru_domain::files::held_bytes`]). Refuses everything while the disk is nearly full.
    ///
    /// # Errors
    ///
    /// [`FileError::QuotaExceeded`], [`FileError::TotalExceeded`], [`FileError::Chat`].
    pub async fn check_quota(
        &self,
        user: UserId,
        own_bytes: u64,
        all_bytes: u64,
        limits: &chelseru_config::Files,
    ) -> Result<(), FileError> {
        self.chat.check_room()?;
        let own = self.chat.file_bytes(user).await?;
        if own.saturating_add(own_bytes) > limits.user_bytes_max {
            return Err(FileError::QuotaExceeded(limits.user_bytes_max));
        }
        let all = self.chat.file_bytes_total().await?;
        if all.saturating_add(all_bytes) > limits.total_bytes_max {
            return Err(FileError::TotalExceeded(limits.total_bytes_max));
        }
        Ok(())
    }

    /// Removes files without a message, files of deleted rooms, and expired resumable uploads, in one bounded step.
    /// Returns the number of removed files.
    ///
    /// # Errors
    ///
    /// See [`FileError`].
    pub async fn collect(&self, limits: &chelseru_config::Files) -> Result<usize, FileError> {
        let now = self.chat.now();
        self.expire(now).await;
        let before = now.minus(Duration::from_secs(limits.orphan_hours * 3600));
        let from = *lock(&self.collected);
        let (doomed, end) = self.chat.files_doom(from, COLLECT_STEP, before).await?;
        let removed = doomed.len();
        for file in doomed {
            self.remove_bytes(&file).await?;
            self.chat.file_forget(file.id).await?;
        }
        *lock(&self.collected) = end.unwrap_or(FileId(0));
        Ok(removed)
    }

    /// A file without a name, which ends with its handle.
    ///
    /// # Errors
    ///
    /// [`FileError::Chat`] when the disk is nearly full, [`FileError::Disk`], [`FileError::NoDescriptor`].
    pub fn scratch(&self) -> Result<std::fs::File, FileError> {
        self.chat.check_room()?;
        let file = tempfile::tempfile_in(&self.incoming)?;
        if is_set_aside(&file, Use::File) { Err(FileError::NoDescriptor) } else { Ok(file) }
    }

    async fn remove_bytes(&self, file: &StoredFile) -> Result<(), PlaceError> {
        let path = FileStore::path(file);
        self.place.remove(&picture::beside_path(&path)).await?;
        self.place.remove(&path).await
    }

    /// Where a file is in its place.
    fn path(file: &StoredFile) -> String {
        below(&file.path()).to_owned()
    }
}

impl FileBytes for FileStore {
    async fn remove(&self, file: &StoredFile) -> Result<(), PlaceError> {
        self.remove_bytes(file).await
    }

    async fn abandon(&self, uploader: UserId) -> io::Result<()> {
        self.abandon_resumable(uploader).await.map_err(io::Error::other)
    }
}

/// Closes a file whose descriptor is one of those that are set aside.
fn not_set_aside(file: tokio::fs::File) -> Result<tokio::fs::File, FileError> {
    if is_set_aside(&file, Use::File) { Err(FileError::NoDescriptor) } else { Ok(file) }
}

/// A place for a file that is imported.
pub struct ImportPlace {
    /// Random, as of a file that was uploaded.
    pub name: String,
    /// What comes before the name in its link.
    pub folder: String,
    /// Where its bytes belong, below the data folder.
    pub below_data: PathBuf,
}

/// A new place for a file that was uploaded elsewhere at this time.
///
/// # Errors
///
/// When the operating system gives no randomness.
pub fn import_place(created_at: Timestamp, kind: kind::Kind<'_>) -> io::Result<ImportPlace> {
    let name = format!("{}.{}", incoming::random_name()?, kind.extension);
    let folder = folder(created_at);
    let below_data = PathBuf::from(folder.trim_start_matches(LINKS)).join(&name);
    Ok(ImportPlace { name, folder, below_data })
}

/// The part of a link before the name: by day, as in the original.
fn folder(now: Timestamp) -> String {
    folder_of_day(&day(now))
}

/// `2026-11-27`.
fn day(now: Timestamp) -> String {
    let written = chelseru_domain::clock::rest_format(now);
    written.get(..10).unwrap_or("1970-01-01").to_owned()
}

fn folder_of_day(day: &str) -> String {
    format!("{LINKS}{FOLDER}/chat_files/{}/", day.replace('-', "/"))
}

/// The part of a link that says where a file is in its place.
fn below(link: &str) -> &str {
    link.strip_prefix(LINKS)
        .and_then(|path| path.strip_prefix(FOLDER))
        .unwrap_or(link)
        .trim_start_matches('/')
}

/// The last component of a client's file name, as people see it.
fn title(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    name_as_seen(last).chars().take(TITLE_CHARS_MAX).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_no_path() {
        assert_eq!(title("../../etc/passwd"), "passwd");
        assert_eq!(title("C:\\x\\گزارش\u{0}.pdf"), "گزارش.pdf");
        assert_eq!(title("\u{202e}fdp.exe\u{200f}"), "fdp.exe");
        assert_eq!(title(&"n".repeat(200)).len(), TITLE_CHARS_MAX);
    }

    #[test]
    fn a_folder_is_a_day() {
        assert_eq!(folder(Timestamp::from_secs(1_769_860_800)), "/media/uploads/chat_files/2026/01/31/");
    }
}
