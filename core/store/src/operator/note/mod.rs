//! Notes: small records that operators leave beside accounts, such as a paused endpoint or a correction that waits.
//!
//! The domain decides what a note says. Invariants: a note changes only from the value that the caller saw, so two
//! operators never overwrite each other; a kind holds at most [`NOTES_MAX`] notes.
//!
//! Not here: what a note means (`chelseru-domain`). Next: `sled`.

pub(crate) mod postgres;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, boxed, on_engine};
use crate::{Store, StoreError, UserId};

/// Notes of one kind.
pub const NOTES_MAX: usize = 1000;
/// Bytes of a note's name, and of its value.
pub const NOTE_NAME_BYTES_MAX: usize = 200;
pub const NOTE_VALUE_BYTES_MAX: usize = 4096;

/// What a note is about. The number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum NoteKind {
    /// A webhook endpoint that gets nothing for now, by its name.
    PausedEndpoint = 1,
    /// A correction that waits for a second person, by its number.
    Correction = 2,
    /// A saved filter, by the operator ([`filters_of`]) and its name.
    Filter = 3,
    /// What an operator corrected alone in a wallet lately, by both accounts.
    Alone = 4,
}

impl NoteKind {
    pub(crate) const ALL: [NoteKind; 4] =
        [NoteKind::PausedEndpoint, NoteKind::Correction, NoteKind::Filter, NoteKind::Alone];
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub name: String,
    pub value: String,
}

/// What became of a change of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotePut {
    Done,
    /// The stored value is another one than the caller saw.
    Changed,
    /// The kind holds [`NOTES_MAX`] notes, or the name or the value is too long.
    Full,
}

/// The beginning of the names of an operator's saved filters, which an erasure removes.
#[must_use]
pub fn filters_of(user: UserId) -> String {
    format!("{:020}/", user.0)
}

impl Store {
    /// The notes of a kind whose names begin so, by name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn notes(&self, kind: NoteKind, prefix: &str) -> Result<Vec<Note>, StoreError> {
        on_engine!(self, read notes(kind, prefix))
    }

    /// Replaces the value of a note when it is still `seen`. `None` stands for no note.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn note_put(
        &self,
        kind: NoteKind,
        name: String,
        seen: Option<String>,
        value: Option<String>,
    ) -> Result<NotePut, StoreError> {
        let fits = |text: &String| text.len() <= NOTE_VALUE_BYTES_MAX;
        if name.len() > NOTE_NAME_BYTES_MAX || !value.as_ref().is_none_or(fits) {
            return Ok(NotePut::Full);
        }
        on_engine!(self, note_put(kind, name, seen, value).await)
    }
}
