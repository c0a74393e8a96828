//! Where the bytes of uploaded files are: the port that a folder and a bucket implement.
//!
//! A received file lies in a local folder first. It is offered to the place, its record is stored, and then it settles
//! there. A file without a record is withdrawn. Invariants: after [`FilePlace::offer`] and [`FilePlace::settle`] the
//! place has the bytes, complete and durable; until it settles the local file is untouched, so a process that ends in
//! between finds it and either settles or withdraws it. Every operation may be repeated.
//!
//! Not here: records, names and limits of files (this feature's rules), the local folder (the gateway).

use std::io;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::operator::Meter;

/// The bytes of a part of a file, in order. Ends early, or with an error, when the place fails meanwhile.
pub type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// Why a place did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It has no such file.
    #[error("the bytes of the file are missing")]
    Missing,
    /// The process has hardly any file descriptor left. A retry helps.
    #[error("the file descriptors are nearly used up")]
    NoDescriptor,
    /// It does not answer, or asks to come back later. A retry helps; the outcome of a change is unknown.
    #[error("{0}")]
    Away(String),
    /// It refuses: keys, rights or names are wrong. A retry does not help until an operator acts.
    #[error("{0}")]
    Refused(String),
    #[error("disk error: {0}")]
    Disk(#[from] io::Error),
}

/// How a place does, as its last request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceState {
    Serves,
    /// [`PlaceError::Away`], with its text.
    Away(String),
    /// [`PlaceError::Refused`], with its text.
    Refuses(String),
}

impl PlaceState {
    /// The stable word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            PlaceState::Serves => "ok",
            PlaceState::Away(_) => "away",
            PlaceState::Refuses(_) => "refused",
        }
    }

    /// What is wrong, for operators.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        match self {
            PlaceState::Serves => None,
            PlaceState::Away(text) | PlaceState::Refuses(text) => Some(text),
        }
    }
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub start: u64,
    pub bytes: u64,
    /// Bytes of the whole file.
    pub of: u64,
}

impl Part {
    /// A file of so many bytes from its start to its end.
    #[must_use]
    pub fn whole(bytes: u64) -> Part {
        Part { start: 0, bytes, of: bytes }
    }
}

/// A place for files. `path` is relative, of plain ASCII parts with slashes between them.
#[async_trait]
pub trait FilePlace: Send + Sync {
    /// Copies a local file to where other gateways reach it, if that is elsewhere. Comes before the record.
    ///
    /// # Errors
    ///
    /// [`PlaceError`]; the place may have the file nevertheless.
    async fn offer(&self, local: &Path, path: &str) -> Result<(), PlaceError>;

    /// Ends the local file of an offered one: it moves to its place, or is removed because a copy is there. Comes after
    /// the record.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Disk`].
    async fn settle(&self, local: &Path, path: &str) -> Result<(), PlaceError>;

    /// Removes what [`FilePlace::offer`] copied. The local file stays.
    ///
    /// # Errors
    ///
    /// See [`PlaceError`].
    async fn withdraw(&self, path: &str) -> Result<(), PlaceError>;

    /// Opens a part of a file.
    ///
    /// # Errors
    ///
    /// See [`PlaceError`].
    async fn open(&self, path: &str, part: Part) -> Result<Pieces, PlaceError>;

    /// Removes a file; a missing one is no error.
    ///
    /// # Errors
    ///
    /// See [`PlaceError`].
    async fn remove(&self, path: &str) -> Result<(), PlaceError>;

    /// Writes, reads and removes a small file of its own. Takes 10 s at most.
    ///
    /// # Errors
    ///
    /// See [`PlaceError`]; the text is for operators.
    async fn probe(&self) -> Result<(), PlaceError>;

    /// How it does. A place on this machine serves: its errors are those of the disk, which the store reports.
    fn state(&self) -> PlaceState {
        PlaceState::Serves
    }

    /// Counts its requests from now on, if it is elsewhere. Called once.
    fn measure_by(&self, _meter: &dyn Meter) {}
}
