//! Reversals: refunds that the payment's own gateway carries out.
//!
//! The refund is booked first; then the gateway is asked until it answers clearly. A reversal moves Open -> Done |
//! Refused, never back. Open ones are indexed, so a restarted process continues to ask. A payment has at most one,
//! because gateways reverse a payment as a whole. A refusal keeps the refund booked: the payer is owed the money in
//! another way. Not here: what to ask and what an answer means.

pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, on_engine};
use crate::{PaymentId, Store, StoreError, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reversal {
    pub payment: PaymentId,
    /// The gateway of the payment.
    pub gateway: String,
    pub state: ReversalState,
    /// How often the gateway was asked.
    pub asked: u32,
    /// The outcome of some question was unknown: only a clear answer ends the reversal.
    pub doubtful: bool,
    /// When to ask next, while it is open.
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

/// The result of a question.
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

    /// Stores the result of a question and returns the reversal. An ended one stays unchanged.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn reversal_step(
        &self,
        payment: PaymentId,
        step: ReversalStep,
        now: Timestamp,
    ) -> Result<Option<Reversal>, StoreError> {
        on_engine!(self, reversal_step(payment, step, now).await)
    }
}
