//! Payments: created, confirmed by the gateway, settled once.
//!
//! [`Payments::create`] stores a payment and begins it at the selected gateway. [`Payments::callback`] takes a
//! browser's return as a hint to ask the gateway. [`Payments::reconcile`] asks without a hint. All three use one
//! function, which asks the gateway about the stored payment, judges the answer ([`verdict`]) and lets the store change
//! state and money together. Invariants: a client's claim changes neither amount nor state; one question per payment at
//! a time, and concurrent callers share its answer; a payment stays with its gateway; the queue of open payments finds
//! whatever was dropped half way.
//!
//! Not here: HTTP shapes and detaching from a connection (the gateway), protocols (plugins). Next: `gateway` (the
//! port), `create`, `confirm`, `verdict`, `reconcile`, `reversal`.

mod end;
pub mod gateway;
pub mod verdict;

mod service;

mod create;

mod confirm;
mod reconcile;

mod reversal;

pub use confirm::CallbackError;
pub use create::{CreateError, PaymentRequest};
pub use end::EndReason;
pub use reconcile::{RECONCILE_SECS, ROUND_MAX, ROUND_PARALLEL, ROUND_SILENT_MAX, Round};
pub use reversal::NotReversible;
pub use service::Payments;

pub use chelseru_store::{
    PayMode, Payment, PaymentId, PaymentReceipt, PaymentRefunded, PaymentStart, PaymentState, Refund,
    RefundTo, Reversal, ReversalState,
};

/// A state's name as the API and webhooks write it.
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
