//! Errors of the store. Texts are for the log; callers decide by the variant.

use std::io;
use std::path::PathBuf;

/// The one error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another handle of this process, has the store open.
    #[error("store {path:?} is in use by another process")]
    Locked { path: PathBuf },
    /// Another gateway uses the database.
    #[error("{reason}")]
    InUse { reason: String },
    /// Written by a newer version of this program; this version would damage it.
    #[error("store {path:?} has format {found}; this program reads formats up to {supported}")]
    FormatNewer { path: PathBuf, found: u64, supported: u64 },
    /// The folder holds a database that this program did not create.
    #[error("{path:?} holds a database that is not a chelseru store")]
    Foreign { path: PathBuf },
    /// An import into the folder was interrupted. Nothing in it is used.
    #[error("an import into {path:?} was interrupted; remove that folder and import again")]
    HalfImported { path: PathBuf },
    #[error("store {path:?} could not be opened: {source}")]
    Open { path: PathBuf, source: io::Error },
    /// The database lost data, or holds data the engine cannot have written. It is never repaired by guessing.
    #[error("store {path:?} is damaged: {found}; restore the last backup (chelseru restore)")]
    Damaged { path: PathBuf, found: String },
    /// The disk is nearly full. Nothing changed; a retry can succeed once there is room.
    #[error("the disk of the store is nearly full")]
    Full,
    /// A change wrote a record above the maximum length. Nothing changed.
    #[error("a record would have {bytes} bytes; at most {max} are allowed")]
    TooLarge { bytes: usize, max: usize },
    /// The queue of changes is full. Nothing changed; a later retry can succeed.
    #[error("too many changes are waiting to be written")]
    Busy,
    /// A write failed, now or before. Nothing is written until the store is opened again. The change may or may not
    /// have been made.
    #[error("the store failed and writes nothing until it is opened again")]
    Failed,
    /// The store was closed. Nothing changed.
    #[error("the store is closed")]
    Closed,
    /// The change itself panicked: a defect of this program. Nothing changed.
    #[error("a change panicked")]
    Panicked,
    #[error("the store could not be read: {source}")]
    Read { source: io::Error },
    /// A record is unreadable: written by a newer version, or damaged.
    #[error("{kind} record is not readable: {reason}")]
    Record { kind: &'static str, reason: String },
    /// A record could not be copied from one engine to the other. The store that was being filled is to be removed.
    #[error("{what}, record {record}: {source}")]
    Copy { what: &'static str, record: u64, source: Box<StoreError> },
    /// The database cannot be used as it is: wrong address or password, missing rights, an old server, newer tables.
    /// A retry cannot help.
    #[error("{reason}")]
    Database { reason: String },
    /// The database server could not be reached. Nothing changed; a retry can succeed once it answers again.
    #[error("{reason}")]
    Unavailable { reason: String },
    /// The connection broke while the change was committed, and its outcome cannot be found out. The change may or may
    /// not have been made: look it up before anything is tried again.
    #[error("the connection to the database broke, and it is not known whether the change was made")]
    Unsure,
}

impl StoreError {
    /// Whether another process, or another handle, has the store open.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, StoreError::Locked { .. } | StoreError::InUse { .. })
    }

    /// Whether a change that was answered so may have been made all the same.
    #[must_use]
    pub fn is_unsure(&self) -> bool {
        matches!(self, StoreError::Failed | StoreError::Unsure)
    }
}
