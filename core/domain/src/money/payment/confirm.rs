//! Confirmation: asks the gateway about a payment and settles or ends it by the answer.
//!
//! A callback and the reconciler both call `confirm`. Invariants: one question per payment at a time; concurrent
//! callers share its answer; only the gateway's explicit confirmation credits.

use chelseru_store::{Payment, PaymentClaim, PaymentSettled, PaymentState, PaymentStep, StoreError};

use super::end::EndReason;
use super::gateway::{Callback, GatewayError, PaymentGateways, StoredPayment};
use super::service::Payments;
use super::verdict::{self, Next};
use crate::Timestamp;

/// Gateways that may decode a callback, the selected one first.
const DECODERS_MAX: usize = 16;

/// Why a callback was not matched to a payment.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// No configured gateway can decode it.
    #[error("the callback is not understood")]
    NotUnderstood,
    #[error("no payment has this reference")]
    NotFound,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A payment after a question to its gateway.
pub(super) struct Looked {
    pub(super) payment: Payment,
    /// The gateway was asked and did not answer.
    pub(super) silent: bool,
}

impl Looked {
    fn at(payment: Payment) -> Looked {
        Looked { payment, silent: false }
    }
}

impl Payments {
    /// Takes a callback as a hint, asks the gateway, and returns the payment's state.
    ///
    /// Cancellation: safe. [`Payments::reconcile`] finishes what was dropped. Callers still run it detached from the
    /// client's connection, so that no one waits for that.
    ///
    /// # Errors
    ///
    /// See [`CallbackError`]. A gateway that does not answer is no error: the payment stays pending.
    pub async fn callback(
        &self,
        gateways: &dyn PaymentGateways,
        callback: &Callback,
    ) -> Result<Payment, CallbackError> {
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
            if let Some(payment) = self.store.payment_by_reference(gateway.name(), &claim.reference)? {
                return Ok(self.confirm(gateways, payment, Some(claim.claim)).await?.payment);
            }
        }
        Err(if understood { CallbackError::NotFound } else { CallbackError::NotUnderstood })
    }

    /// Handles a due payment: ends it when its creation was interrupted, else asks about it.
    pub(super) async fn look(
        &self,
        gateways: &dyn PaymentGateways,
        payment: Payment,
    ) -> Result<Looked, StoreError> {
        if payment.state != PaymentState::Created {
            return self.confirm(gateways, payment, None).await;
        }
        let reason = EndReason::Interrupted.text();
        let step = self.store.payment_end(payment.id, PaymentState::Failed, reason, self.clock.now()).await?;
        Ok(Looked::at(step_payment(step, payment)))
    }

    /// Asks the payment's gateway and settles or ends it by the answer. Returns the payment as it is afterwards.
    async fn confirm(
        &self,
        gateways: &dyn PaymentGateways,
        payment: Payment,
        claim: Option<PaymentClaim>,
    ) -> Result<Looked, StoreError> {
        if payment.state != PaymentState::Pending {
            return Ok(Looked::at(payment));
        }
        let flight = self.flights.of(payment.id);
        let _turn = flight.lock().await;
        // A caller that waited for another one's question takes its answer.
        let seen_attempts = payment.attempts;
        let Some(payment) = self.store.payment_get(payment.id)? else {
            return Ok(Looked::at(payment));
        };
        if payment.state != PaymentState::Pending || payment.attempts != seen_attempts {
            return Ok(Looked::at(payment));
        }
        let Some(gateway) = gateways.by_name(&payment.gateway) else {
            tracing::error!(payment.id = payment.id.0, plugin.id = %payment.gateway, "the gateway of an open payment is not configured");
            return Ok(Looked::at(self.ask_later(payment, None).await?));
        };
        let asked_before = payment.asked;
        let payment = match self.store.payment_asking(payment.id, claim).await? {
            PaymentStep::Done(payment) => payment,
            other => return Ok(Looked::at(step_payment(other, payment))),
        };
        let Some(stored) = StoredPayment::of(&payment) else { return Ok(Looked::at(payment)) };
        let answer = gateway.verify(stored, payment.claim.clone()).await;
        let nothing_done = answer.as_ref().is_err_and(GatewayError::nothing_done);
        let silent = matches!(&answer, Err(GatewayError::Unavailable(_) | GatewayError::Unknown(_)));
        if let Err(error) = &answer {
            tracing::warn!(payment.id = payment.id.0, plugin.id = %payment.gateway, %error, "whether it is paid is unknown; it stays pending");
        }
        let now = self.clock.now();
        let payment = match verdict::judge(&payment, &gateway.rules(), answer, asked_before, now) {
            Next::AskAt(at) => self.ask_later(payment, Some((at, nothing_done && !asked_before))).await?,
            Next::End { state, reason } => {
                if matches!(reason, EndReason::Mismatch(_)) {
                    tracing::error!(payment.id = payment.id.0, plugin.id = %payment.gateway, reason = reason.text(), "the gateway confirms something else than was asked; not credited");
                }
                let step = self.store.payment_end(payment.id, state, reason.text(), now).await?;
                step_payment(step, payment)
            }
            Next::Settle(receipt) => match self.store.payment_settle(payment.id, receipt, now).await? {
                PaymentSettled::Now(settled) => {
                    tracing::info!(payment.id = settled.id.0, plugin.id = %settled.gateway, "payment settled");
                    settled
                }
                PaymentSettled::Was(payment) => payment,
                PaymentSettled::ReceiptReused(payment) => {
                    tracing::error!(payment.id = payment.id.0, plugin.id = %payment.gateway, "the gateway's receipt stands for another payment; not credited");
                    payment
                }
                PaymentSettled::TooLarge => {
                    tracing::error!(
                        payment.id = payment.id.0,
                        "the wallet cannot hold this payment; a person has to look"
                    );
                    self.ask_later(payment, None).await?
                }
                PaymentSettled::Missing => payment,
            },
        };
        Ok(Looked { payment, silent })
    }

    async fn ask_later(
        &self,
        payment: Payment,
        answer: Option<(Timestamp, bool)>,
    ) -> Result<Payment, StoreError> {
        let (at, not_asked) =
            answer.unwrap_or_else(|| (self.clock.now().plus(verdict::delay(payment.attempts)), false));
        let step = self.store.payment_check_later(payment.id, at, not_asked).await?;
        Ok(step_payment(step, payment))
    }
}

fn step_payment(step: PaymentStep, before: Payment) -> Payment {
    match step {
        PaymentStep::Done(payment) | PaymentStep::Was(payment) => payment,
        PaymentStep::Missing => before,
    }
}
