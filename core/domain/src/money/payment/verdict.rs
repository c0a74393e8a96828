//! Judges a gateway's answer: what it means for a payment, and when to ask again. Pure: no clock, store or gateway.
//!
//! Only an explicit confirmation credits, only an explicit refusal ends, and everything else stays pending and is asked
//! again. The exception is a gateway that returns unconfirmed money automatically: if it was unreachable until that has
//! certainly happened, the payment ends as returned. It stays pending if a question may have arrived there, because
//! that question may have confirmed the payment.

use std::time::Duration;

use chelseru_store::{Payment, PaymentReceipt, PaymentState};

use super::end::EndReason;
use super::gateway::{GatewayError, GatewayRules, Unconfirmed, Verdict};
use crate::Timestamp;

/// The shortest and longest time between two questions about a payment.
pub const DELAY_MIN: Duration = Duration::from_secs(2);
/// Two minutes after a gateway returns, everything that waited for it is settled.
pub const DELAY_MAX: Duration = Duration::from_secs(60);
/// Time limit from a payment's creation to the gateway's first answer.
pub const CREATE_LEASE: Duration = Duration::from_secs(120);
/// Extra time before unconfirmed money counts as returned.
pub const RETURN_MARGIN: Duration = Duration::from_secs(300);

/// What to do with a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Settle(PaymentReceipt),
    End { state: PaymentState, reason: EndReason },
    AskAt(Timestamp),
}

/// Turns an answer, or its absence, into the next step. `asked_before`: an earlier question may have arrived.
#[must_use]
pub fn judge(
    payment: &Payment,
    rules: &GatewayRules,
    answer: Result<Verdict, GatewayError>,
    asked_before: bool,
    now: Timestamp,
) -> Next {
    let end = |state, reason| Next::End { state, reason };
    let later = || Next::AskAt(now.plus(delay(payment.attempts)));
    let window_over = payment.window_ends_at <= now;
    match answer {
        Ok(Verdict::Paid { amount: Some(amount), .. }) if amount != payment.amount => {
            end(PaymentState::Failed, EndReason::mismatch("amount"))
        }
        Ok(Verdict::Paid { receipt, .. }) => Next::Settle(receipt),
        Ok(Verdict::Mismatch(field)) => end(PaymentState::Failed, EndReason::mismatch(&field)),
        Ok(Verdict::Cancelled(_)) => end(PaymentState::Cancelled, EndReason::Cancelled),
        Ok(Verdict::NotPaid(_) | Verdict::UnknownReference) => match &payment.claim {
            // A gateway that keeps money must be asked until the payment window ends.
            Some(claim) if window_over || rules.unconfirmed != Unconfirmed::Kept => {
                if claim.cancelled {
                    end(PaymentState::Cancelled, EndReason::Cancelled)
                } else {
                    end(PaymentState::Failed, EndReason::NotPaid)
                }
            }
            // The payer may still be at the bank.
            _ if !window_over => later(),
            _ => end(PaymentState::Expired, EndReason::NotPaid),
        },
        Ok(Verdict::Pending(wait)) => {
            let wait = wait.unwrap_or_else(|| delay(payment.attempts));
            Next::AskAt(now.plus(wait.clamp(DELAY_MIN, DELAY_MAX)))
        }
        Err(error) => match rules.unconfirmed {
            Unconfirmed::ReturnedAfter(after)
                if !asked_before
                    && error.nothing_done()
                    && payment.window_ends_at.plus(after).plus(RETURN_MARGIN) <= now =>
            {
                end(PaymentState::Expired, EndReason::Returned)
            }
            _ => later(),
        },
    }
}

/// The delay before the next question: doubles, up to [`DELAY_MAX`].
#[must_use]
pub fn delay(attempts: u32) -> Duration {
    DELAY_MIN.saturating_mul(1 << attempts.min(10)).min(DELAY_MAX)
}
