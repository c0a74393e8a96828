//! Why the store did not do what was asked. Texts are for the log; callers decide by the variant.

use std::io;
use std::path::PathBuf;

/// The one error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another handle of this one, has the store open.
    #[error("store {path:?} is in use by another process")]
    Locked { path: PathBuf },
    /// Written by a newer version of this program; an older one would damage it.
    #[error("store {path:?} has format {found}, this version reads up to format {supported}")]
    FormatNewer { path: PathBuf, found: u64, supported: u64 },
    /// The folder holds a database that this program did not make.
    #[error("{path:?} holds a database that is not a chelseru store")]
    Foreign { path: PathBuf },
    /// An import into the folder was cut off. Nothing in it is used.
    #[error("an import into {path:?} was cut off; remove that folder and import again")]
    HalfImported { path: PathBuf },
    #[error("store {path:?} could not be opened: {source}")]
    Open { path: PathBuf, source: io::Error },
    /// The database lost something, or holds what the engine cannot have written. Never repaired by guessing.
    #[error("store {path:?} is damaged: {found}; the way back is the last backup (chelseru restore)")]
    Damaged { path: PathBuf, found: String },
    /// The disk is nearly full. Nothing was done; trying again can help once there is room.
    #[error("the disk of the store is nearly full")]
    Full,
    /// A change wrote a record that is longer than any may be. Nothing was done.
    #[error("a record would have {bytes} bytes, at most {max} are allowed")]
    TooLarge { bytes: usize, max: usize },
    /// The queue of changes is full. Nothing was done; trying again later can help.
    #[error("too many changes were waiting to be written")]
    Busy,
    /// Writing failed once, this time or before. Nothing is written any more until the store is opened again.
    /// The change may or may not have been made.
    #[error("the store failed and writes nothing until it is opened again")]
    Failed,
    /// The store was closed. Nothing was done.
    #[error("the store is closed")]
    Closed,
    /// The change itself panicked: a defect of this program. Nothing was done.
    #[error("a change panicked")]
    Panicked,
    #[error("the store could not be read: {source}")]
    Read { source: io::Error },
    /// A record cannot be understood: written by a newer version, or damaged.
    #[error("{kind} record is not readable: {reason}")]
    Record { kind: &'static str, reason: String },
}
