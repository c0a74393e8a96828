//! Reversals: refunds that the payment's own gateway carries out.
//!
//! The refund is booked first; then the gateway is asked until it answers clearly. A reversal moves Open -> Done |
//! Refused. Open ones are indexed, so a restarted process continues to ask. A payment has at most one, because gateways
//! reverse a payment as a whole. A refusal keeps the refund booked until the staff decides: ask again, undo the refund,
//! credit the wallet, or record that the payer was paid outside. Not here: what to ask and what an answer means.

pub(crate) mod postgres;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, boxed, on_engine};
use crate::money::payment::Payment;
use crate::{PaymentId, Store, StoreError, Timestamp, UserId};

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

/// What the staff decides about a reversal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReversalDecision {
    /// The gateway is asked again.
    AskAgain,
    /// The refund is taken back: the payment is paid again.
    Undo,
    /// The payer gets the money in the wallet. For payments that did not charge it.
    ToWallet,
    /// The payer got the money by another way; nobody is asked any more.
    PaidOutside,
}

/// What became of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReversalDecided {
    /// The payment as it is now, and what was given back.
    Done(Payment),
    /// The gateway is still asked: only [`ReversalDecision::PaidOutside`] ends that.
    Open,
    /// The payment charged the wallet; undoing returns it there.
    InWallet,
    TooLarge,
    /// There is no payment, or nothing to decide about it.
    Missing,
}

impl Reversal {
    /// A reversal that is ordered with its refund.
    pub(crate) fn ordered(payment: &Payment, now: Timestamp) -> Reversal {
        Reversal {
            payment: payment.id,
            gateway: payment.gateway.clone(),
            state: ReversalState::Open,
            asked: 0,
            doubtful: false,
            ask_at: now,
            ordered_at: now,
            updated_at: now,
        }
    }

    /// Whether the result of a question changes anything. A gateway that carried it out has the last word: of two
    /// questions at once, or of one that was repeated after a lost answer, the other may be refused.
    pub(crate) fn takes(&self, step: &ReversalStep) -> bool {
        match self.state {
            ReversalState::Open => true,
            ReversalState::Refused(_) => *step == ReversalStep::Done,
            ReversalState::Done => false,
        }
    }

    /// Counts a question about an open reversal and what came of it.
    pub(crate) fn stepped(&mut self, step: ReversalStep, now: Timestamp) {
        self.asked += 1;
        self.updated_at = now;
        match step {
            ReversalStep::Done => self.state = ReversalState::Done,
            ReversalStep::Refused(reason) => self.state = ReversalState::Refused(reason),
            ReversalStep::AskAgain { at, doubtful } => {
                self.ask_at = at;
                self.doubtful |= doubtful;
            }
        }
    }

    pub(crate) fn asked_again(&mut self, now: Timestamp) {
        self.state = ReversalState::Open;
        (self.asked, self.ask_at, self.updated_at) = (0, now, now);
    }
}

impl Store {
    /// Carries out what the staff decides about a reversal that is open or refused. One that ended otherwise is gone.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    #[boxed]
    pub async fn reversal_decide(
        &self,
        payment: PaymentId,
        decision: ReversalDecision,
        by: UserId,
        now: Timestamp,
    ) -> Result<ReversalDecided, StoreError> {
        on_engine!(self, reversal_decide(payment, decision, by, now).await)
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn reversal_get(&self, payment: PaymentId) -> Result<Option<Reversal>, StoreError> {
        on_engine!(self, read reversal_get(payment))
    }

    /// Open reversals, oldest payments first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn reversals_open(&self, limit: usize) -> Result<Vec<Reversal>, StoreError> {
        on_engine!(self, read reversals_open(limit))
    }

    /// Reversals that are open or refused, oldest payments first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn reversals_undecided(&self, limit: usize) -> Result<Vec<Reversal>, StoreError> {
        on_engine!(self, read reversals_undecided(limit))
    }

    /// Stores the result of a question and returns the reversal. An ended one stays unchanged, but one that was
    /// refused, and not decided, is done when the gateway says so.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn reversal_step(
        &self,
        payment: PaymentId,
        step: ReversalStep,
        now: Timestamp,
    ) -> Result<Option<Reversal>, StoreError> {
        on_engine!(self, reversal_step(payment, step, now).await)
    }
}
