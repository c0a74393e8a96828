//! Reversals: refunds that the payment's own gateway is asked to carry out.
//!
//! The refund is booked first; then the gateway is asked until it gives a clear answer. A reversal moves
//! Open -> Done | Refused, never back, and an open one is in the index of open ones, so that a process that starts anew
//! goes on asking. One for each payment, because gateways reverse a payment as a whole. A refusal leaves the refund
//! booked: the payer is owed the money, by another way. Not here: what to ask and what an answer means.

pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, on_engine};
use crate::{PaymentId, Store, StoreError, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reversal {
    pub payment: PaymentId,
    /// Who carried the payment.
    pub gateway: String,
    pub state: ReversalState,
    /// How often the gateway was asked.
    pub asked: u32,
    /// After some question nobody knew whether it was carried out: only a clear answer ends it.
    pub doubtful: bool,
    /// When to ask (again), while it is open.
    pub ask_at: Timestamp,
    pub ordered_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReversalState {
    Open,
    Done,
    /// With the gateway's code, or ours.
    Refused(String),
}

/// What a question came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReversalStep {
    Done,
    Refused(String),
    AskAgain { at: Timestamp, doubtful: bool },
}

impl Store {
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn reversal_get(&self, payment: PaymentId) -> Result<Option<Reversal>, StoreError> {
        on_engine!(self, read reversal_get(payment))
    }

    /// Open reversals, oldest payments first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn reversals_open(&self, limit: usize) -> Result<Vec<Reversal>, StoreError> {
        on_engine!(self, read reversals_open(limit))
    }

    /// Notes what a question came to; the reversal as it stands then. One that has ended stays as it is.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn reversal_step(
        &self,
        payment: PaymentId,
        step: ReversalStep,
        now: Timestamp,
    ) -> Result<Option<Reversal>, StoreError> {
        on_engine!(self, reversal_step(payment, step, now).await)
    }
}
