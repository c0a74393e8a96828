//! Files in a folder: the place of one gateway, or of several that share it over a network file system.
//!
//! A file moves here by a rename once its record is stored, so the local folder of received files must be on the same
//! file system. Nothing is copied, and so nothing needs to be withdrawn.
//!
//! Invariant: a file that settled survives a power cut. The names of its folders are synced with the first file of a
//! day that this process moves, whoever made them; later files cost one sync.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chelseru_domain::files::place::{FilePlace, Part, Pieces, PlaceError};
use futures_util::{StreamExt, stream};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

use super::incoming::{random_name, sync_dir};
use crate::descriptors::{Use, is_set_aside};

/// Bytes read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Files below a folder.
pub struct Folder {
    root: PathBuf,
    /// The last folder whose name is durable, with those of the folders above it.
    durable: Mutex<Option<PathBuf>>,
}

impl Folder {
    /// The files below `root`, which exists or is made with the first file.
    #[must_use]
    pub fn new(root: PathBuf) -> Folder {
        Folder { root, durable: Mutex::default() }
    }

    fn place(&self, path: &str) -> PathBuf {
        // A leading slash would lead out of the folder.
        self.root.join(path.trim_start_matches('/'))
    }

    fn durable(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_durable(&self, folder: &Path) -> bool {
        self.durable().as_deref() == Some(folder)
    }

    /// Renames into a folder, creating it if missing, and syncs all that is new.
    async fn move_into(&self, from: &Path, to: &Path) -> io::Result<()> {
        let folder = to.parent().unwrap_or(&self.root);
        // Collection may remove the folder in between.
        for last in [false, true] {
            if !self.is_durable(folder) {
                tokio::fs::create_dir_all(folder).await?;
            }
            match tokio::fs::rename(from, to).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !last => {
                    *self.durable() = None;
                }
                other => {
                    other?;
                    break;
                }
            }
        }
        sync_dir(folder).await?;
        // After the rename: the folder it went to is not removed any more.
        if !self.is_durable(folder) {
            for above in folder.ancestors().skip(1) {
                sync_dir(above).await?;
                if self.root.parent().is_none_or(|end| above == end) {
                    break;
                }
            }
            *self.durable() = Some(folder.to_owned());
        }
        Ok(())
    }
}

#[async_trait]
impl FilePlace for Folder {
    async fn offer(&self, _local: &Path, _path: &str) -> Result<(), PlaceError> {
        Ok(())
    }

    async fn settle(&self, local: &Path, path: &str) -> Result<(), PlaceError> {
        Ok(self.move_into(local, &self.place(path)).await?)
    }

    async fn withdraw(&self, _path: &str) -> Result<(), PlaceError> {
        Ok(())
    }

    async fn open(&self, path: &str, part: Part) -> Result<Pieces, PlaceError> {
        let opened = File::open(self.place(path)).await;
        let mut file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PlaceError::Missing,
            _ => PlaceError::Disk(error),
        })?;
        if is_set_aside(&file, Use::File) {
            return Err(PlaceError::NoDescriptor);
        }
        if part.start > 0 {
            file.seek(SeekFrom::Start(part.start)).await?;
        }
        Ok(pieces(file, part.bytes))
    }

    async fn remove(&self, path: &str) -> Result<(), PlaceError> {
        let place = self.place(path);
        removed(tokio::fs::remove_file(&place).await)?;
        // A day's folder is removed with its last file; a folder that is not empty stays.
        for folder in place.ancestors().skip(1).take(3) {
            if tokio::fs::remove_dir(folder).await.is_ok() {
                *self.durable() = None;
            } else {
                break;
            }
        }
        Ok(())
    }

    async fn probe(&self) -> Result<(), PlaceError> {
        let path = self.root.join(format!("probe-{}", random_name()?));
        tokio::fs::write(&path, b"probe").await?;
        Ok(tokio::fs::remove_file(&path).await?)
    }
}

/// `bytes` bytes from where a file is. A shorter file ends in an error.
pub(crate) fn pieces(file: File, bytes: u64) -> Pieces {
    let next = |(mut file, left): (File, u64)| async move {
        match left {
            0 => Ok(None),
            _ => {
                let piece = read_piece(&mut file, left).await?;
                let left = left - piece.len() as u64;
                Ok(Some((piece, (file, left))))
            }
        }
    };
    stream::try_unfold((file, bytes), next).boxed()
}

async fn read_piece(file: &mut File, left: u64) -> io::Result<Bytes> {
    let size = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
    let mut piece = bytes::BytesMut::with_capacity(size);
    while piece.len() < size {
        let room = size - piece.len();
        if file.take(room as u64).read_buf(&mut piece).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(piece.freeze())
}

/// Whether a file is gone, whoever removed it.
pub(super) fn removed(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
