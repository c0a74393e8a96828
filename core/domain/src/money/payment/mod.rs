//! Payments: created, confirmed by the gateway, settled once.
//!
//! [`Payments::create`] makes a payment and gets it known to the selected gateway; [`Payments::callback`] takes what a
//! browser brings back as a hint that it is time to ask; [`Payments::reconcile`] asks without a hint. `confirm` asks
//! the gateway about what is stored, judges the answer ([`verdict`]) and lets the store change state and money
//! together. Invariants: a client's word changes neither amount nor state; one question per payment at a time, and
//! callers that waited for it share its answer; a payment stays with the gateway that began it; whatever is dropped
//! half way is found again by the queue of open payments; money that a gateway took is credited even after the
//! payment ended, on the gateway's word.
//!
//! Not here: HTTP shapes and detaching from a connection (the gateway), protocols (plugins). Next: `gateway` (the
//! port), `verdict`, `confirm`, `listed` (payments that a gateway lists as paid), `reversal` (giving back).

mod end;
pub mod gateway;
pub mod verdict;

mod service;

mod callback_key;
mod create;

mod confirm;
mod flight;
mod listed;
mod reconcile;

mod reversal;

pub use callback_key::CALLBACK_KEY;
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
