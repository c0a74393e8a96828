//! Corrections: postings between a wallet and the merchant that a person orders, with a reason.
//!
//! Invariant: a correction and its posting are one change; nothing of either ever changes.

pub(crate) mod postgres;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, boxed, on_engine};
use crate::money::once::Once;
use crate::{Store, StoreError, Timestamp, UserId};

#[derive(Debug, Clone)]
pub struct CorrectionDraft {
    pub user: UserId,
    /// Rial; negative to take from the wallet. Not 0.
    pub amount: i64,
    pub reason: String,
    /// Who ordered it.
    pub by: UserId,
    pub now: Timestamp,
    pub once: Option<Once>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// From 1.
    pub number: u64,
    pub user: UserId,
    /// Rial; negative when it was taken from the wallet.
    pub amount: i64,
    /// Rial that the wallet had after it.
    pub balance: u64,
    pub reason: String,
    pub by: UserId,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorrectionMade {
    Done(Correction),
    /// The same request was made before with this idempotency key.
    Repeated(Correction),
    KeyReused,
    /// The wallet has only this much.
    Overdraft {
        available: u64,
    },
    TooLarge,
}

impl Store {
    /// Moves money between a wallet and the merchant.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    #[boxed]
    pub async fn correction_make(&self, draft: CorrectionDraft) -> Result<CorrectionMade, StoreError> {
        on_engine!(self, correction_make(draft).await)
    }
}
