//! Takes callbacks: finds the payment, decides what the caller may see, and asks the gateway.
//!
//! A callback is only a hint, because anyone can send one. The payment's own key in its query shows that it comes from
//! the payer's browser; a callback without a key is accepted, because some gateways drop the query, and clients may ask
//! by the reference alone. Invariant: a caller that shows neither the key nor a token of the payment's user or staff
//! sees only whether it is paid, and its state. Next: `confirm`, which asks.

use std::net::IpAddr;
use std::time::Duration;

use chelseru_store::{Payment, PaymentClaim, StoreError};

use super::callback_key::{self, Vouched};
use super::confirm::Why;
use super::gateway::{Callback, PaymentGateways};
use super::scan::{SCAN_POINTS_HIT, SCAN_POINTS_MISS};
use super::service::Payments;
use crate::money::wallet::{Actor, Role};

/// Gateways that may decode a callback, the selected one first.
const DECODERS_MAX: usize = 16;

/// Who brings a callback.
#[derive(Debug, Clone, Copy)]
pub struct CallbackCaller {
    pub address: IpAddr,
    /// The user, when a token was sent.
    pub actor: Option<Actor>,
}

/// A payment after a callback, and what its caller may see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    pub payment: Payment,
    pub view: View,
}

/// What a caller may see of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// All of it: the callback has the payment's key, or the caller is its user or staff.
    Whole,
    /// Whether it is paid, and its state.
    Outcome,
}

/// Why a callback was not matched to a payment.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// No configured gateway can decode it.
    #[error("the callback is not understood")]
    NotUnderstood,
    #[error("no payment has this reference")]
    NotFound,
    /// The caller's network asked too often about payments that are not known to be its own. Holds the wait.
    #[error("too many questions about payments")]
    TooMany(Duration),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Payments {
    /// Takes a callback as a hint, asks the gateway, and returns the payment's state.
    ///
    /// Limits: callers that do not show that the payment is theirs are limited per network ([`super::scan`]).
    ///
    /// Cancellation: safe; [`Payments::reconcile`] completes unfinished work. Callers still run it detached from the
    /// client's connection, so a closed browser delays nothing.
    ///
    /// # Errors
    ///
    /// See [`CallbackError`]. A gateway that does not answer is no error: the payment stays pending.
    pub async fn callback(
        &self,
        gateways: &dyn PaymentGateways,
        callback: &Callback,
        caller: CallbackCaller,
    ) -> Result<Confirmed, CallbackError> {
        let take = |points| self.scans.take(caller.address, points, self.clock.now());
        let found = match self.recognise(gateways, callback).await {
            Err(error @ (CallbackError::NotFound | CallbackError::NotUnderstood)) => {
                take(SCAN_POINTS_MISS).map_err(CallbackError::TooMany)?;
                return Err(error);
            }
            found => found?,
        };
        let view = found.view(caller.actor);
        if view == View::Outcome {
            take(SCAN_POINTS_HIT).map_err(CallbackError::TooMany)?;
        }
        let why = Why::Callback { claim: found.claim, vouched: found.vouched };
        let payment = self.confirm(gateways, found.payment, why).await?.payment;
        Ok(Confirmed { payment, view })
    }

    /// Finds the payment of a callback, at the gateway that can decode it.
    async fn recognise(
        &self,
        gateways: &dyn PaymentGateways,
        callback: &Callback,
    ) -> Result<Recognised, CallbackError> {
        let mut understood = false;
        for gateway in gateways.all().into_iter().take(DECODERS_MAX) {
            let claim = match gateway.decode(callback).await {
                Ok(Some(claim)) => claim,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(plugin.id = gateway.name(), %error, "a callback could not be decoded");
                    continue;
                }
            };
            understood = true;
            if let Some(payment) = self.store.payment_by_reference(gateway.name(), &claim.reference).await? {
                let vouched = match callback_key::check(&callback.query, &payment.callback_key) {
                    Vouched::Yes => true,
                    Vouched::No => false,
                    Vouched::Wrong => return Err(CallbackError::NotFound),
                };
                return Ok(Recognised { payment, claim: claim.claim, vouched });
            }
        }
        Err(if understood { CallbackError::NotFound } else { CallbackError::NotUnderstood })
    }
}

/// A callback's payment, and its contents.
struct Recognised {
    payment: Payment,
    claim: PaymentClaim,
    vouched: bool,
}

impl Recognised {
    fn view(&self, actor: Option<Actor>) -> View {
        let is_theirs =
            actor.is_some_and(|actor| actor.role == Role::Staff || actor.user == self.payment.user);
        if self.vouched || is_theirs { View::Whole } else { View::Outcome }
    }
}
