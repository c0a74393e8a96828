//! Judges a gateway's answer: its meaning for a payment, and when to ask again. Pure: no clock, store or gateway.
//!
//! One rule: only the gateway's explicit yes credits. While the payment's window is open, only its own "cancelled",
//! "failed" or "paid" ends the payment; "not paid" and "unknown" mean that the payer may still be at the bank, and a
//! callback does not change that. After the window an explicit no ends the payment. Everything else stays pending and
//! is asked again. The only exception is a gateway that returns unconfirmed money by itself: if it was unreachable
//! until the return is certain, the payment ends as returned. It does not when a question may have arrived there,
//! because that question may have confirmed the payment.

use std::time::Duration;

use chelseru_store::{Payment, PaymentReceipt, PaymentState};

use super::end::EndReason;
use super::gateway::{GatewayError, GatewayRules, Unconfirmed, Verdict};
use crate::Timestamp;

/// The shortest and longest time between two questions about a payment.
pub const DELAY_MIN: Duration = Duration::from_secs(2);
/// Every payment that waited for a gateway is settled within two minutes of its return.
pub const DELAY_MAX: Duration = Duration::from_secs(60);
/// Time limit from a payment's creation to the gateway's first answer.
pub const CREATE_LEASE: Duration = Duration::from_secs(120);
/// Extra time before unconfirmed money counts as returned.
pub const RETURN_MARGIN: Duration = Duration::from_secs(300);

/// How long a rate-limited gateway is not asked when it names no wait.
pub const HOLD_DEFAULT: Duration = Duration::from_secs(30);
/// Longest wait accepted from a rate-limited gateway, because a payer waits for the answer.
pub const HOLD_MAX: Duration = Duration::from_secs(10 * 60);

/// Nothing about a payment or a reversal is scheduled for later than this. The rest are differences of clocks.
pub const AHEAD_MAX: Duration = Duration::from_secs(15 * 60);
const _: () =
    assert!(AHEAD_MAX.as_secs() > HOLD_MAX.as_secs() && AHEAD_MAX.as_secs() > CREATE_LEASE.as_secs());

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
        Ok(Verdict::Failed(reason)) => end(PaymentState::Failed, EndReason::failed(&reason.code)),
        Ok(Verdict::NotPaid(_) | Verdict::UnknownReference | Verdict::ClaimDenied(_)) if window_over => {
            end(PaymentState::Expired, EndReason::NotPaid)
        }
        // The payer may still be at the bank.
        Ok(Verdict::NotPaid(_) | Verdict::UnknownReference | Verdict::ClaimDenied(_)) => later(),
        Ok(Verdict::Pending(wait)) => {
            let wait = wait.unwrap_or_else(|| delay(payment.attempts));
            Next::AskAt(now.plus(wait.clamp(DELAY_MIN, DELAY_MAX)))
        }
        Err(GatewayError::Throttled(wait)) => Next::AskAt(now.plus(hold(wait).max(delay(payment.attempts)))),
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

/// How long a rate-limited gateway is not asked: its own wait, at most [`HOLD_MAX`].
#[must_use]
pub fn hold(wait: Option<Duration>) -> Duration {
    wait.unwrap_or(HOLD_DEFAULT).clamp(DELAY_MIN, HOLD_MAX)
}

/// Delay to the next check: doubling, up to [`DELAY_MAX`].
#[must_use]
pub fn delay(attempts: u32) -> Duration {
    DELAY_MIN.saturating_mul(1 << attempts.min(10)).min(DELAY_MAX)
}
