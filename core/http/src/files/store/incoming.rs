//! A file being received: written piece by piece, counted, and removed unless it is kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use chelseru_domain::chat::ChatService;
use chelseru_domain::clock::Timestamp;
use chelseru_domain::ids::UserId;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::kind::{HEAD_BYTES, Kind};
use super::slots::{NoPlace, Slot};
use super::{FileError, FileStore, below, day, folder_of_day, not_set_aside};

/// An upload on its way to disk.
pub struct Incoming {
    path: Doomed,
    file: File,
    head: Vec<u8>,
    bytes: u64,
    bytes_max: u64,
    may_be_empty: bool,
    /// The resumable upload that wrote it.
    upload: Option<String>,
    chat: Arc<ChatService>,
}

/// A complete file, not yet in its final place.
pub(super) struct Received {
    /// Its name says where it will be; see [`super::left`].
    pub(super) local: PathBuf,
    /// Where the bytes of a resumable upload were.
    pub(super) part: Option<PathBuf>,
    pub(super) folder: String,
    pub(super) name: String,
    pub(super) kind: Kind<'static>,
    pub(super) bytes: u64,
}

impl Received {
    /// Where it will be in its place.
    pub(super) fn path(&self) -> String {
        format!("{}{}", below(&self.folder), self.name)
    }
}

/// A file that is removed when this is dropped, unless it is kept.
struct Doomed {
    path: PathBuf,
    is_kept: bool,
}

impl Drop for Doomed {
    fn drop(&mut self) {
        if !self.is_kept {
            // The next start removes leftovers.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl FileStore {
    /// Takes a place for an upload; see [`super::slots`].
    ///
    /// # Errors
    ///
    /// [`FileError::TooManyUploads`].
    pub(crate) fn slot(&self, user: UserId, limits: &chelseru_config::Files) -> Result<Slot, FileError> {
        let taken = self.slots.take(user, limits, Instant::now());
        taken.map_err(|NoPlace { own }| FileError::TooManyUploads { own })
    }

    /// A new file with at most this many bytes.
    ///
    /// # Errors
    ///
    /// [`FileError::Disk`], [`FileError::NoDescriptor`].
    pub async fn receive(&self, bytes_max: u64) -> Result<Incoming, FileError> {
        let path = self.incoming.join(random_name()?);
        let file = File::options().write(true).create_new(true).open(&path).await?;
        let path = Doomed { path, is_kept: false };
        let file = not_set_aside(file)?;
        Ok(Incoming {
            path,
            file,
            head: Vec::new(),
            bytes: 0,
            bytes_max,
            may_be_empty: false,
            upload: None,
            chat: self.chat.clone(),
        })
    }
}

impl Incoming {
    /// A resumable upload that was written before. It may be empty, because its client announced so. Its bytes stay
    /// when they cannot be kept as a file.
    pub(super) async fn written(path: PathBuf, upload: &str, chat: Arc<ChatService>) -> io::Result<Incoming> {
        let mut file = File::options().read(true).write(true).open(&path).await?;
        let bytes = file.metadata().await?.len();
        let mut head = Vec::new();
        let mut start = tokio::io::AsyncReadExt::take(&mut file, HEAD_BYTES as u64);
        tokio::io::AsyncReadExt::read_to_end(&mut start, &mut head).await?;
        Ok(Incoming {
            path: Doomed { path, is_kept: true },
            file,
            head,
            bytes,
            bytes_max: u64::MAX,
            may_be_empty: true,
            upload: Some(upload.to_owned()),
            chat,
        })
    }

    /// # Errors
    ///
    /// [`FileError::TooLarge`], [`FileError::Disk`]; [`ChatError::StorageFull`](chelseru_domain::chat::ChatError) once
    /// the disk is nearly full.
    pub async fn write(&mut self, piece: &Bytes) -> Result<(), FileError> {
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        if self.bytes > self.bytes_max {
            return Err(FileError::TooLarge(self.bytes_max));
        }
        self.chat.check_room()?;
        let wanted = HEAD_BYTES.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..wanted]);
        self.file.write_all(piece).await?;
        Ok(())
    }

    /// Flushes the file and gives it its name. From then on it stays until it settles, or until a start finds no record
    /// of it.
    pub(super) async fn finish(mut self, incoming: &Path, now: Timestamp) -> Result<Received, FileError> {
        if self.bytes == 0 && !self.may_be_empty {
            return Err(FileError::Empty);
        }
        self.file.flush().await?;
        self.file.sync_all().await?;
        let kind = Kind::of(&self.head);
        let name = format!("{}.{}", random_name()?, kind.extension);
        let day = day(now);
        let upload = self.upload.map(|id| format!("@{id}")).unwrap_or_default();
        let local = incoming.join(format!("{day}_{name}{upload}"));
        tokio::fs::rename(&self.path.path, &local).await?;
        self.path.is_kept = true;
        let part = (!upload.is_empty()).then(|| self.path.path.clone());
        Ok(Received { local, part, folder: folder_of_day(&day), name, kind, bytes: self.bytes })
    }
}

/// 128 random bits, so a name cannot be guessed.
pub(super) fn random_name() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Syncs the names in a folder.
pub(super) async fn sync_dir(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).await?.sync_all().await
}
