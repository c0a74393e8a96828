//! Paused endpoints: their deliveries wait, and no attempt is used up.
//!
//! A pause is a note in the store, so it survives a restart and does not need the configuration's file. Events wait as
//! long as any other event is kept ([`super::KEEP_DAYS`], [`super::EVENTS`]).

use std::collections::BTreeMap;

use chelseru_store::{NoteKind, NotePut, StoreError};
use serde::{Deserialize, Serialize};

use super::Webhooks;
use crate::Timestamp;
use crate::operator::role::Reason;

/// Who paused an endpoint, when, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    pub at: Timestamp,
    /// The account; 0 is a program.
    pub by: u64,
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    at_micros: u64,
    by: u64,
    reason: String,
}

impl Pause {
    fn of(value: &str) -> Pause {
        // A note that a newer version wrote still pauses.
        let kept = serde_json::from_str(value).unwrap_or(Kept { at_micros: 0, by: 0, reason: String::new() });
        Pause { at: Timestamp::from_micros(kept.at_micros), by: kept.by, reason: kept.reason }
    }
}

impl Webhooks {
    /// The paused endpoints by name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn paused(&self) -> Result<BTreeMap<String, Pause>, StoreError> {
        let notes = self.store.notes(NoteKind::PausedEndpoint, "").await?;
        Ok(notes.into_iter().map(|note| (note.name, Pause::of(&note.value))).collect())
    }

    pub(super) async fn pause_of(&self, endpoint: &str) -> Result<Option<Pause>, StoreError> {
        let notes = self.store.notes(NoteKind::PausedEndpoint, endpoint).await?;
        Ok(notes.iter().find(|note| note.name == endpoint).map(|note| Pause::of(&note.value)))
    }

    /// Pauses an endpoint; false when it is paused.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn pause(&self, endpoint: &str, by: u64, reason: &Reason) -> Result<bool, StoreError> {
        let kept = Kept { at_micros: self.clock.now().as_micros(), by, reason: reason.as_str().to_owned() };
        let value = serde_json::to_string(&kept).expect("a note is plain data");
        let put = self.store.note_put(NoteKind::PausedEndpoint, endpoint.to_owned(), None, Some(value));
        Ok(put.await? == NotePut::Done)
    }

    /// Ends a pause; false when there is none.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn resume(&self, endpoint: &str) -> Result<bool, StoreError> {
        let notes = self.store.notes(NoteKind::PausedEndpoint, endpoint).await?;
        let Some(note) = notes.into_iter().find(|note| note.name == endpoint) else { return Ok(false) };
        let put = self.store.note_put(NoteKind::PausedEndpoint, note.name, Some(note.value), None);
        Ok(put.await? == NotePut::Done)
    }
}
