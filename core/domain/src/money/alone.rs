//! What one operator corrects alone.
//!
//! A correction counts with what the same operator corrected alone in the same wallet within [`SUM_OF`], whatever its
//! direction, so a large one cannot be split. The sum is a note that changes only from the value that was seen, before
//! anything is posted: of two corrections at once one sees the other, on any number of gateways. Invariant: what is
//! posted alone is counted; what is refused is taken back, and after a crash in between it stays counted.
//!
//! Not here: the corrections that wait for a second person (`correction`).

use std::time::Duration;

use chelseru_store::{NoteKind, NotePut, Once, StoreError};
use serde::{Deserialize, Serialize};

use super::Money;
use super::wallet::Wallets;
use crate::Timestamp;
use crate::ids::UserId;

/// Corrections within this time count together. An idempotency key is remembered as long.
pub const SUM_OF: Duration = Duration::from_secs(24 * 60 * 60);

/// Corrections that one note tells apart; the oldest ones are counted as one.
const TOLD_APART_MAX: usize = 50;

/// The largest sum that one person corrects alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AloneMax(Option<u64>);

impl AloneMax {
    /// Any amount.
    pub const ANY: AloneMax = AloneMax(None);

    /// At most this many rial.
    #[must_use]
    pub fn rial(rial: u64) -> AloneMax {
        AloneMax(Some(rial))
    }
}

impl AloneMax {
    /// Counts what this counts, and refuses nothing.
    pub(super) fn without_bound(self) -> AloneMax {
        AloneMax(self.0.map(|_| u64::MAX))
    }
}

/// A correction that is about to be posted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) by: UserId,
    pub(super) user: UserId,
    pub(super) amount: Money,
    pub(super) once: Option<&'a Once>,
    pub(super) now: Timestamp,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// No bound, or counted before: nothing to take back.
    Already,
    Now,
    NeedsSecond,
}

/// The value of a note.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sum(Vec<Part>);

/// When, how many rial, and the beginning of the hash of the idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Part(u64, u64, u64);

impl Attempt<'_> {
    fn name(&self) -> String {
        format!("{:020}/{:020}", self.by.0, self.user.0)
    }

    fn part(&self) -> Part {
        let mut mark = [0; 8];
        if let Some(once) = self.once {
            mark.copy_from_slice(&once.key[..8]);
        }
        Part(self.now.as_micros(), self.amount.rial(), u64::from_be_bytes(mark))
    }
}

impl Sum {
    fn of(value: Option<&str>, now: Timestamp) -> Sum {
        let mut sum: Sum = value.and_then(|value| serde_json::from_str(value).ok()).unwrap_or_default();
        sum.0.retain(|part| now < Timestamp::from_micros(part.0).plus(SUM_OF));
        sum
    }

    fn rial(&self) -> u64 {
        self.0.iter().fold(0, |sum, part| sum.saturating_add(part.1))
    }

    /// Whether the same request was counted; it is posted once.
    fn has(&self, part: &Part) -> bool {
        part.2 != 0 && self.0.iter().any(|one| (one.1, one.2) == (part.1, part.2))
    }

    fn add(&mut self, part: Part) {
        self.0.push(part);
        while self.0.len() > TOLD_APART_MAX {
            // Counted longer than it must be.
            let oldest = self.0.remove(0);
            self.0[0].1 = self.0[0].1.saturating_add(oldest.1);
        }
    }

    fn value(&self) -> Option<String> {
        let text = || serde_json::to_string(self).expect("a note is plain data");
        (!self.0.is_empty()).then(text)
    }
}

impl Wallets {
    /// Counts a correction before it is posted, when it fits.
    pub(super) async fn alone_count(
        &self,
        attempt: Attempt<'_>,
        most: AloneMax,
    ) -> Result<Counted, StoreError> {
        let Some(most) = most.0 else { return Ok(Counted::Already) };
        let (name, part) = (attempt.name(), attempt.part());
        let mut purged = false;
        loop {
            let seen = self.alone_note(&name).await?;
            let mut sum = Sum::of(seen.as_deref(), attempt.now);
            if sum.has(&part) {
                return Ok(Counted::Already);
            }
            if sum.rial().saturating_add(part.1) > most {
                return Ok(Counted::NeedsSecond);
            }
            sum.add(part.clone());
            match self.store.note_put(NoteKind::Alone, name.clone(), seen, sum.value()).await? {
                NotePut::Done => return Ok(Counted::Now),
                NotePut::Changed => {}
                NotePut::Full if purged => return Ok(Counted::NeedsSecond),
                NotePut::Full => {
                    self.alone_purge(attempt.now).await?;
                    purged = true;
                }
            }
        }
    }

    /// Takes an attempt back that was counted and refused.
    pub(super) async fn alone_take_back(&self, attempt: Attempt<'_>) -> Result<(), StoreError> {
        let (name, part) = (attempt.name(), attempt.part());
        loop {
            let seen = self.alone_note(&name).await?;
            let mut sum = Sum::of(seen.as_deref(), attempt.now);
            // Counted as one with others, it stays counted.
            let Some(at) = sum.0.iter().position(|one| *one == part) else { return Ok(()) };
            sum.0.remove(at);
            match self.store.note_put(NoteKind::Alone, name.clone(), seen, sum.value()).await? {
                NotePut::Changed => {}
                NotePut::Done | NotePut::Full => return Ok(()),
            }
        }
    }

    async fn alone_note(&self, name: &str) -> Result<Option<String>, StoreError> {
        let notes = self.store.notes(NoteKind::Alone, name).await?;
        Ok(notes.into_iter().find(|note| note.name == name).map(|note| note.value))
    }

    /// Removes the notes whose time is over.
    async fn alone_purge(&self, now: Timestamp) -> Result<(), StoreError> {
        for note in self.store.notes(NoteKind::Alone, "").await? {
            if Sum::of(Some(&note.value), now).0.is_empty() {
                self.store.note_put(NoteKind::Alone, note.name, Some(note.value), None).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chelseru_store::NOTE_VALUE_BYTES_MAX;

    use super::*;

    #[test]
    fn a_note_holds_any_number_of_corrections_and_forgets_them_together() {
        let mut sum = Sum::default();
        for n in 0..1000 {
            sum.add(Part(u64::MAX / 4 + n, 1 << 53, u64::MAX));
        }
        assert_eq!(sum.rial(), 1000 << 53);
        assert!(sum.value().unwrap().len() <= NOTE_VALUE_BYTES_MAX);
        let end = Timestamp::from_micros(u64::MAX / 4 + 999).plus(SUM_OF);
        assert_eq!(Sum::of(sum.value().as_deref(), end), Sum::default());
        assert!(!Sum::of(sum.value().as_deref(), end.minus(Duration::from_micros(1))).0.is_empty());
    }
}
