//! Payments: created, confirmed by the gateway, settled once.
//!
//! [`Payments::create`] creates a payment and registers it at the selected gateway. [`Payments::callback`] treats a
//! browser's callback as a hint to ask. [`Payments::reconcile`] asks without a hint. `confirm` asks the gateway about
//! the stored payment, judges the answer ([`verdict`]) and lets the store change state and money together.
//! Invariants: a client's claim changes neither amount nor state. Each payment has one question at a time, and
//! waiting callers share its answer. A payment stays with the gateway that began it. The queue of open payments
//! completes whatever was interrupted. Money that a gateway took is credited even after the payment ended, on the
//! gateway's confirmation.
//!
//! Not here: HTTP shapes and detaching from a connection (the gateway), protocols (plugins). Next: `gateway` (the
//! port), `verdict`, `confirm`, `listed` (payments that a gateway lists as paid), `reversal` (refunds through the
//! gateway).

mod end;
pub mod gateway;
pub mod verdict;

mod find;
mod service;

mod callback;
mod callback_key;
mod create;

mod confirm;
mod flight;
mod listed;
mod lists;
mod reconcile;
mod scan;

mod reversal;

pub use callback::{CallbackCaller, CallbackError, Confirmed, View};
pub use callback_key::{CALLBACK_KEY, page_key};
pub use create::{CreateError, Created, PAYMENTS_PER_HOUR, PaymentRequest, began_by};
pub use end::EndReason;
pub use find::{RefundTotals, Totals};
pub use reconcile::{RECONCILE_SECS, ROUND_MAX, ROUND_PARALLEL, ROUND_SILENT_MAX, Round};
pub use reversal::NotReversible;
pub use scan::{SCAN_POINTS_HIT, SCAN_POINTS_MAX, SCAN_POINTS_MISS, SCAN_WINDOW};
pub use service::Payments;

pub use chelseru_store::{
    PayMode, Payment, PaymentId, PaymentQuery, PaymentReceipt, PaymentRefunded, PaymentStart, PaymentState,
    Refund, RefundQuery, RefundState, RefundTo, RefundsFound, Reversal, ReversalDecided, ReversalDecision,
    ReversalState,
};

/// A state's name in the API and in webhooks.
#[must_use]
pub fn state_name(state: PaymentState) -> &'static str {
    match state {
        PaymentState::Created => "created",
        PaymentState::Pending => "pending",
        PaymentState::Paid => "paid",
        PaymentState::Failed => "failed",
        PaymentState::Cancelled => "cancelled",
        PaymentState::Expired => "expired",
        PaymentState::Refunded => "refunded",
    }
}

/// The state that the API calls so.
#[must_use]
pub fn state_of(name: &str) -> Option<PaymentState> {
    STATES.into_iter().find(|state| state_name(*state) == name)
}

const STATES: [PaymentState; 7] = [
    PaymentState::Created,
    PaymentState::Pending,
    PaymentState::Paid,
    PaymentState::Failed,
    PaymentState::Cancelled,
    PaymentState::Expired,
    PaymentState::Refunded,
];
