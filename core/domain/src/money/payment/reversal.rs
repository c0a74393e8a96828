//! Reversals: asks a gateway to return a whole payment, until the outcome is clear.
//!
//! The refund is booked before the gateway is asked, so that money is never in two places. The payer may get the money
//! late or, after the gateway's refusal, as the staff decides. Invariants: one question per payment at a time; an
//! unknown outcome is asked about again until it is clear, because a plugin's `reverse` succeeds for a payment that was
//! reversed before.

use std::collections::BTreeMap;
use std::time::Duration;

use chelseru_store::{
    Due, Payment, PaymentId, PaymentState, Reversal, ReversalDecided, ReversalDecision, ReversalState,
    ReversalStep, StoreError,
};
use futures_util::StreamExt;

use super::gateway::{GatewayError, PaymentGateways, StoredPayment};
use super::service::Payments;
use super::verdict::{AHEAD_MAX, hold};
use crate::ids::UserId;

/// Delay before the second question; doubles with each further one.
const DELAY_MIN: Duration = Duration::from_secs(5);
const DELAY_MAX: Duration = Duration::from_secs(10 * 60);
const _: () = assert!(AHEAD_MAX.as_secs() > DELAY_MAX.as_secs());
/// How long after the gateway's window a certain failure is retried.
const GRACE: Duration = Duration::from_secs(10 * 60);
/// Open reversals in one round.
const ROUND_MAX: usize = 1000;
const ROUND_PARALLEL: usize = 4;

/// Why a payment cannot be reversed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReversible {
    #[error("{0} does not support reversals")]
    NotOffered(String),
    #[error("{gateway} reverses within {} minutes of the payment, which are over", .window.as_secs() / 60)]
    Over { gateway: String, window: Duration },
}

impl Payments {
    /// Checks whether the payment's gateway can return it now. Does not check that it was paid.
    ///
    /// # Errors
    ///
    /// See [`NotReversible`].
    pub fn reversible(&self, gateways: &dyn PaymentGateways, payment: &Payment) -> Result<(), NotReversible> {
        let gateway = payment.gateway.clone();
        let window = gateways.by_name(&gateway).and_then(|gateway| gateway.rules().reverse_within);
        let Some(window) = window else { return Err(NotReversible::NotOffered(gateway)) };
        match payment.paid_at {
            Some(paid_at) if paid_at.plus(window) <= self.clock.now() => {
                Err(NotReversible::Over { gateway, window })
            }
            _ => Ok(()),
        }
    }

    /// The reversal of a payment, if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn reversal(&self, payment: PaymentId) -> Result<Option<Reversal>, StoreError> {
        self.store.reversal_get(payment).await
    }

    /// Asks the gateways about all due reversals. Returns how many ended.
    ///
    /// # Errors
    ///
    /// Those of reading the open reversals. One that fails is logged and stays due.
    pub async fn reverse_due(&self, gateways: &dyn PaymentGateways) -> Result<usize, StoreError> {
        let due = Due::new(self.clock.now(), AHEAD_MAX);
        let open = self.store.reversals_open(ROUND_MAX).await?;
        let due = open.into_iter().filter(|reversal| due.includes(reversal.ask_at));
        let asked = due.map(|reversal| self.reverse(gateways, reversal.payment));
        let asked: Vec<_> =
            futures_util::stream::iter(asked).buffer_unordered(ROUND_PARALLEL).collect().await;
        let mut ended = 0;
        for reversal in asked {
            match reversal {
                Ok(reversal) => {
                    ended += usize::from(reversal.is_some_and(|found| found.state != ReversalState::Open));
                }
                Err(error) => tracing::error!(%error, "a reversal could not be continued"),
            }
        }
        Ok(ended)
    }

    /// Asks the gateway once to return a payment whose reversal is open. Returns the reversal afterwards.
    ///
    /// Cancellation: must run to its end once begun; callers spawn it.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn reverse(
        &self,
        gateways: &dyn PaymentGateways,
        id: PaymentId,
    ) -> Result<Option<Reversal>, StoreError> {
        let flight = self.flights.of(id, self.clock.now());
        let _turn = flight.turn().await;
        let (Some(reversal), Some(payment)) =
            (self.store.reversal_get(id).await?, self.store.payment_get(id).await?)
        else {
            return Ok(None);
        };
        debug_assert_eq!(payment.state, PaymentState::Refunded, "booked in the same change");
        if reversal.state != ReversalState::Open {
            return Ok(Some(reversal));
        }
        let gateway = gateways.by_name(&reversal.gateway);
        let window = gateway.as_ref().and_then(|gateway| gateway.rules().reverse_within);
        let answer = match (gateway, StoredPayment::of(&payment), &payment.receipt) {
            (Some(gateway), Some(stored), Some(receipt)) => {
                gateway.reverse(stored, receipt.number.clone()).await
            }
            _ => Err(GatewayError::Unavailable("the gateway is not configured".to_owned())),
        };
        if let Err(error) = &answer {
            self.holds.note(&reversal.gateway, error, self.clock.now());
            tracing::warn!(payment.id = id.0, plugin.id = %reversal.gateway, %error, "a payment was not reversed");
        }
        let step = self.judge_reversal(&reversal, &payment, answer, window);
        if let ReversalStep::Refused(code) = &step {
            tracing::error!(payment.id = id.0, plugin.id = %reversal.gateway, code, "a gateway refuses to return a payment; the refund is booked, and the staff has to decide");
            self.refused.count(&reversal.gateway);
        }
        self.store.reversal_step(id, step, self.clock.now()).await
    }

    /// How many reversals each gateway refused since the start.
    #[must_use]
    pub fn reversals_refused(&self) -> BTreeMap<String, u64> {
        self.refused.all()
    }

    /// The reversals that are open or refused, oldest payments first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn reversals_undecided(&self, limit: usize) -> Result<Vec<Reversal>, StoreError> {
        self.store.reversals_undecided(limit).await
    }

    /// Carries out what the staff decides about a reversal.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn decide_reversal(
        &self,
        id: PaymentId,
        decision: ReversalDecision,
        by: UserId,
    ) -> Result<ReversalDecided, StoreError> {
        let flight = self.flights.of(id, self.clock.now());
        // A question that is under way ends first.
        let _turn = flight.turn().await;
        self.store.reversal_decide(id, decision, by, self.clock.now()).await
    }

    fn judge_reversal(
        &self,
        reversal: &Reversal,
        payment: &Payment,
        answer: Result<(), GatewayError>,
        window: Option<Duration>,
    ) -> ReversalStep {
        let now = self.clock.now();
        let delay = DELAY_MIN.saturating_mul(1 << reversal.asked.min(10)).min(DELAY_MAX);
        let again = |doubtful| ReversalStep::AskAgain { at: now.plus(delay), doubtful };
        let paid_at = payment.paid_at.unwrap_or(payment.created_at);
        // Nothing was done, and the window is over. A gateway that is not configured may come back.
        let over = !reversal.doubtful && window.is_some_and(|window| paid_at.plus(window).plus(GRACE) <= now);
        match answer {
            Ok(()) => ReversalStep::Done,
            Err(GatewayError::Unknown(_)) => again(true),
            Err(GatewayError::Refused(reason)) => ReversalStep::Refused(reason.code),
            Err(GatewayError::Unauthorized(reason)) if over => ReversalStep::Refused(reason.code),
            Err(GatewayError::Unavailable(_) | GatewayError::Throttled(_)) if over => {
                ReversalStep::Refused("unavailable".to_owned())
            }
            Err(GatewayError::Throttled(wait)) => {
                ReversalStep::AskAgain { at: now.plus(hold(wait).max(delay)), doubtful: false }
            }
            Err(GatewayError::Unauthorized(_) | GatewayError::Unavailable(_)) => again(false),
        }
    }
}
