//! Payments: made, confirmed by the gateway's own word, settled once.
//!
//! [`Payments::create`] makes a payment and gets it known to the selected gateway; [`Payments::callback`] takes what
//! a browser brings back as a hint that it is time to ask; [`Payments::reconcile`] asks without a hint. All three
//! end in one function that asks the gateway about what is stored, judges the answer ([`verdict`]) and lets the
//! store change state and money together. Invariants: a client's word changes neither amount nor state; one question
//! per payment at a time, and those who waited for it share its answer; a payment stays with the gateway that began
//! it; whatever is dropped half way is found again by the queue of open payments.
//!
//! Not here: HTTP shapes and detaching from a connection (the gateway), protocols (plugins). Next: `gateway` (the
//! port), `verdict`, `reversal` (giving back).

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
