//! Uploaded files on disk, from receipt to collection.
//!
//! The record of a file (room, uploader, type, size) is in the store. Its bytes are under `uploads/` in the data
//! folder, at the path in its link. Names are random and types are read from the content, so nothing from a client
//! becomes a path or a type. Invariants: a file with a record has its bytes, complete and flushed. Bytes without a
//! record exist only in `uploads/incoming/`, where a start removes them. No file exceeds the size limit, no user the
//! quota.
//!
//! Not here: requests (`upload`, `tus`, `download`), who may have a file (`chelseru_domain::chat`).
//! Reading order: this file, `slots`, `incoming`, `picture`, `resumable`, `link`, `kind`.

mod incoming;
pub mod kind;
mod link;
pub mod picture;
mod resumable;
mod slots;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chelseru_domain::chat::{
    Action, ChatError, ChatService, FileDraft, FileId, FileKept, RoomId, StoredFile,
};
use chelseru_domain::clock::Timestamp;
use chelseru_domain::erasure::FileBytes;
use chelseru_domain::ids::UserId;
use chelseru_domain::secret::SubKey;
use chelseru_domain::text::name_as_seen;

use crate::descriptors::{Use, is_set_aside};

pub use incoming::Incoming;
pub use link::SignedBy;
pub use resumable::{Upload, UploadDraft};
pub(crate) use slots::Slot;

/// Files checked in one round of collection.
const COLLECT_STEP: usize = 500;
/// Below the data folder.
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
    #[error("the quota of {0} bytes is used up")]
    QuotaExceeded(u64),
    #[error("all files together may have at most {0} bytes, which are used up")]
    TotalExceeded(u64),
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
    #[error("disk error: {0}")]
    Disk(#[from] io::Error),
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
    data_dir: PathBuf,
    /// Where uploads are until their records are stored. Each gateway has a folder of its own, because the finished
    /// ones may be in a shared one.
    incoming: PathBuf,
    key: SubKey,
    slots: Arc<slots::Slots>,
    pictures: picture::Pictures,
    resumable: Mutex<HashMap<String, resumable::Begun>>,
    /// Where collection continues.
    collected: Mutex<FileId>,
}

impl FileStore {
    /// Opens the folder, and completes or removes what a stop left unfinished. `node` names this gateway among those
    /// that share the store, the same at each start.
    ///
    /// # Errors
    ///
    /// A text for the operator when the folder cannot be used.
    pub async fn open(
        data_dir: &Path,
        chat: Arc<ChatService>,
        key: SubKey,
        node: Option<&str>,
    ) -> Result<FileStore, String> {
        let own = node.map_or_else(|| INCOMING.to_owned(), |node| format!("{INCOMING}-{node}"));
        let files = FileStore {
            incoming: data_dir.join(FOLDER).join(own),
            chat,
            data_dir: data_dir.to_owned(),
            key,
            slots: Arc::default(),
            pictures: picture::Pictures::default(),
            resumable: Mutex::default(),
            collected: Mutex::new(FileId(0)),
        };
        let incoming = files.incoming_dir();
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

    /// The bytes of a file.
    ///
    /// # Errors
    ///
    /// [`FileError::Disk`], [`FileError::NoDescriptor`].
    pub async fn bytes(&self, file: &StoredFile) -> Result<tokio::fs::File, FileError> {
        not_set_aside(tokio::fs::File::open(self.place(file)).await?)
    }

    /// The bytes of a file's thumbnail.
    ///
    /// # Errors
    ///
    /// As [`FileStore::bytes`].
    pub async fn thumbnail_bytes(&self, file: &StoredFile) -> Result<tokio::fs::File, FileError> {
        not_set_aside(tokio::fs::File::open(picture::beside(&self.place(file))).await?)
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
        let received = incoming.finish(&self.incoming_dir()).await?;
        let memory = limits.thumbnail_memory_bytes_max;
        let picture = self.pictures.of(&received.path, received.kind.mime, memory).await;
        let now = self.chat.now();
        let draft = FileDraft {
            room: words.room,
            uploader: words.uploader,
            name: received.name,
            folder: folder(now),
            title: received.kind.named(&title(&words.title), TITLE_CHARS_MAX),
            content_type: received.kind.mime.to_owned(),
            bytes: received.bytes,
            text: words.text,
            picture,
            quota_bytes: limits.user_bytes_max,
            total_bytes: limits.total_bytes_max,
            now,
        };
        // After an error the record may be stored; the next start checks.
        let refused = match self.chat.file_keep(draft).await? {
            FileKept::Kept(kept) => {
                let place = self.place(&kept);
                move_into(&received.path, &place).await?;
                if kept.picture.is_some_and(|picture| picture.thumbnail.is_some()) {
                    move_into(&picture::beside(&received.path), &picture::beside(&place)).await?;
                }
                return Ok(kept);
            }
            FileKept::QuotaExceeded => FileError::QuotaExceeded(limits.user_bytes_max),
            FileKept::TotalExceeded => FileError::TotalExceeded(limits.total_bytes_max),
        };
        tokio::fs::remove_file(&received.path).await?;
        removed(tokio::fs::remove_file(picture::beside(&received.path)).await)?;
        Err(refused)
    }

    /// Refuses early what would be refused at the end: this many more bytes of a user, and of all users. Refuses
    /// everything while the disk is nearly full.
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
        let file = tempfile::tempfile_in(self.incoming_dir())?;
        if is_set_aside(&file, Use::File) { Err(FileError::NoDescriptor) } else { Ok(file) }
    }

    async fn remove_bytes(&self, file: &StoredFile) -> io::Result<()> {
        let place = self.place(file);
        removed(tokio::fs::remove_file(&place).await)?;
        removed(tokio::fs::remove_file(picture::beside(&place)).await)?;
        // A day's folder is removed with its last file; a folder that is not empty stays.
        for folder in place.ancestors().skip(1).take(3) {
            if tokio::fs::remove_dir(folder).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn incoming_dir(&self) -> PathBuf {
        self.incoming.clone()
    }

    fn place(&self, file: &StoredFile) -> PathBuf {
        let path = file.path();
        self.data_dir.join(path.strip_prefix(LINKS).unwrap_or(&path))
    }

    /// Moves a received file whose record is stored to its place, keeps resumable uploads, and removes the rest.
    async fn recover(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(self.incoming_dir())? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if self.recover_resumable(&path, name) {
                continue;
            }
            let of = name.strip_suffix(picture::SUFFIX);
            let known = self.chat.file_by_name(of.unwrap_or(name)).await.map_err(io::Error::other)?;
            let place = known.map(|file| self.place(&file));
            match place.map(|place| if of.is_some() { picture::beside(&place) } else { place }) {
                Some(place) => {
                    if let Some(folder) = place.parent() {
                        std::fs::create_dir_all(folder)?;
                    }
                    std::fs::rename(&path, place)?;
                }
                None => std::fs::remove_file(&path)?,
            }
        }
        Ok(())
    }
}

impl FileBytes for FileStore {
    async fn remove(&self, file: &StoredFile) -> io::Result<()> {
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
    let written = chelseru_domain::clock::rest_format(now);
    let day = written.get(..10).unwrap_or("1970-01-01").replace('-', "/");
    format!("{LINKS}{FOLDER}/chat_files/{day}/")
}

/// The last component of a client's file name, as people see it.
fn title(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    name_as_seen(last).chars().take(TITLE_CHARS_MAX).collect()
}

/// Whether a file is gone, whoever removed it.
fn removed(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Renames into a folder, creating it if missing, and syncs the folder.
async fn move_into(from: &Path, to: &Path) -> io::Result<()> {
    let folder = to.parent().unwrap_or(Path::new("."));
    // Collection may remove the folder in between.
    for last in [false, true] {
        tokio::fs::create_dir_all(folder).await?;
        match tokio::fs::rename(from, to).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !last => {}
            other => {
                other?;
                break;
            }
        }
    }
    tokio::fs::File::open(folder).await?.sync_all().await
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
