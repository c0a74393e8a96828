//! What an answer means for a payment, and when to ask again. Pure: no clock, no store, no gateway.
//!
//! The one rule behind all of it: only an explicit yes credits, only an explicit no ends, and everything else stays
//! pending and is asked again. The single exception is a gateway that gives unconfirmed money back by itself: when
//! it could not be reached at all until that has certainly happened, the payment ends as returned. It does not when
//! a question may have arrived there, because that question may have confirmed the payment.

use std::time::Duration;

use chelseru_store::{Payment, PaymentReceipt, PaymentState};

use super::end::EndReason;
use super::gateway::{GatewayError, GatewayRules, Unconfirmed, Verdict};
use crate::Timestamp;

/// The shortest and longest time between two looks at a payment.
pub const DELAY_MIN: Duration = Duration::from_secs(2);
/// Two minutes after a gateway is back, everything that waited for it is settled.
pub const DELAY_MAX: Duration = Duration::from_secs(60);
/// How long a payment may stand between being made and the gateway's first answer.
pub const CREATE_LEASE: Duration = Duration::from_secs(120);
/// Time a gateway may be late in giving money back before it counts as returned.
pub const RETURN_MARGIN: Duration = Duration::from_secs(300);

/// What to do with a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Settle(PaymentReceipt),
    End { state: PaymentState, reason: EndReason },
    AskAt(Timestamp),
}

/// From an answer, or its absence, to what happens. `asked_before`: an earlier question may have arrived.
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
            // A gateway that keeps money must be asked until nobody can pay any more.
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

/// From one look to the next: doubling, up to [`DELAY_MAX`].
#[must_use]
pub fn delay(attempts: u32) -> Duration {
    DELAY_MIN.saturating_mul(1 << attempts.min(10)).min(DELAY_MAX)
}
