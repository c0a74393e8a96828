//! Corrections that wait for a second person.
//!
//! A correction that no one person may make (`alone`) is not posted when it is asked for. It waits as a note until
//! another operator confirms it, somebody withdraws it, or [`WAIT_MAX`] passes. Invariants: who asked never confirms; a
//! waiting correction is posted at most once, because its number is the posting's idempotency key and both end
//! together; every end is reported to the caller, who writes the audit record.
//!
//! Not here: who may ask (`operator::desk`) and the posting (`wallet`).

use std::time::Duration;

use chelseru_store::{CorrectionMade, NOTE_VALUE_BYTES_MAX, NoteKind, NotePut, StoreError};
use serde::{Deserialize, Serialize};

use super::Money;
use super::alone::AloneMax;
use super::wallet::{Actor, CorrectionRequest, Role, WalletError, Wallets};
use crate::Timestamp;
use crate::idempotency::IdempotencyKey;
use crate::ids::UserId;

/// Time limit of the second person. A posting's idempotency key is remembered for at least as long.
pub const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A correction that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub id: String,
    pub user: UserId,
    pub amount: Money,
    pub takes: bool,
    pub reason: String,
    pub by: UserId,
    pub at: Timestamp,
    /// Somebody confirmed it and a crash came before the posting was reported; confirming again finishes it.
    pub confirmed_by: Option<UserId>,
}

/// The value of a note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    user: u64,
    rial: u64,
    takes: bool,
    reason: String,
    by: u64,
    at_micros: u64,
    confirmed_by: Option<u64>,
}

/// What became of a confirmation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmed {
    /// Posted, or refused by the wallet; then it waits on.
    Ended(Waiting, CorrectionMade),
    /// Who asked cannot confirm.
    Own,
    /// It was withdrawn, it expired, or somebody else ended it.
    Missing,
}

impl Waiting {
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.at.plus(WAIT_MAX)
    }

    fn value(&self) -> String {
        let kept = Kept {
            user: self.user.0,
            rial: self.amount.rial(),
            takes: self.takes,
            reason: self.reason.clone(),
            by: self.by.0,
            at_micros: self.at.as_micros(),
            confirmed_by: self.confirmed_by.map(|user| user.0),
        };
        serde_json::to_string(&kept).expect("a note is plain data")
    }

    fn of(id: String, value: &str) -> Option<Waiting> {
        let kept: Kept = serde_json::from_str(value).ok()?;
        Some(Waiting {
            id,
            user: UserId(kept.user),
            amount: Money::from_rial(kept.rial).ok()?,
            takes: kept.takes,
            reason: kept.reason,
            by: UserId(kept.by),
            at: Timestamp::from_micros(kept.at_micros),
            confirmed_by: kept.confirmed_by.map(UserId),
        })
    }
}

impl Wallets {
    /// Stores a correction that waits for a second person; `None` when too many wait.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn correction_ask(
        &self,
        by: UserId,
        user: UserId,
        amount: Money,
        takes: bool,
        reason: String,
    ) -> Result<Option<Waiting>, StoreError> {
        let now = self.clock.now();
        loop {
            // The number is the posting's idempotency key, so none is given twice, whatever the clock does.
            let random = getrandom::u64().map_err(std::io::Error::other);
            let random = random.map_err(|source| StoreError::Read { source })?;
            let id = format!("{:x}-{random:016x}", now.as_secs());
            let waiting =
                Waiting { id, user, amount, takes, reason: reason.clone(), by, at: now, confirmed_by: None };
            debug_assert!(waiting.value().len() <= NOTE_VALUE_BYTES_MAX);
            let id = waiting.id.clone();
            match self.store.note_put(NoteKind::Correction, id, None, Some(waiting.value())).await? {
                NotePut::Done => return Ok(Some(waiting)),
                NotePut::Changed => {}
                NotePut::Full => return Ok(None),
            }
        }
    }

    /// The corrections that wait, oldest first, and those whose time is over, which this call ends.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn corrections_waiting(&self) -> Result<(Vec<Waiting>, Vec<Waiting>), StoreError> {
        let now = self.clock.now();
        let (mut waiting, mut expired) = (Vec::new(), Vec::new());
        for note in self.store.notes(NoteKind::Correction, "").await? {
            let Some(one) = Waiting::of(note.name, &note.value) else { continue };
            if now < one.expires_at() {
                waiting.push(one);
            } else if self.correction_end(&one).await? {
                expired.push(one);
            }
        }
        waiting.sort_by_key(|one| one.at);
        Ok((waiting, expired))
    }

    /// Ends a waiting correction without a posting; false when it changed meanwhile.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn correction_end(&self, waiting: &Waiting) -> Result<bool, StoreError> {
        let put = self.store.note_put(NoteKind::Correction, waiting.id.clone(), Some(waiting.value()), None);
        Ok(put.await? == NotePut::Done)
    }

    /// Posts a waiting correction for a second person.
    ///
    /// # Errors
    ///
    /// See [`WalletError`].
    pub async fn correction_confirm(&self, by: UserId, id: &str) -> Result<Confirmed, WalletError> {
        let (waiting, _) = self.corrections_waiting().await?;
        let Some(asked) = waiting.into_iter().find(|one| one.id == id) else { return Ok(Confirmed::Missing) };
        if asked.by == by {
            return Ok(Confirmed::Own);
        }
        // From here on it cannot be withdrawn.
        let taken = Waiting { confirmed_by: Some(by), ..asked.clone() };
        if !self.correction_replace(&asked, &taken).await? {
            return Ok(Confirmed::Missing);
        }
        let key = format!("second-person-{id}").parse::<IdempotencyKey>().expect("letters and digits");
        let request = CorrectionRequest {
            user: asked.user,
            amount: asked.amount,
            takes: asked.takes,
            reason: asked.reason.clone(),
            idempotency_key: Some(key),
        };
        let actor = Actor { user: asked.by, role: Role::Staff };
        let made = self.correct(actor, request, AloneMax::ANY).await?;
        if matches!(made, CorrectionMade::Done(_) | CorrectionMade::Repeated(_)) {
            self.correction_end(&taken).await?;
        } else {
            self.correction_replace(&taken, &asked).await?;
        }
        Ok(Confirmed::Ended(taken, made))
    }

    async fn correction_replace(&self, seen: &Waiting, next: &Waiting) -> Result<bool, StoreError> {
        let (seen, next) = (Some(seen.value()), (next.id.clone(), Some(next.value())));
        Ok(self.store.note_put(NoteKind::Correction, next.0, seen, next.1).await? == NotePut::Done)
    }
}
