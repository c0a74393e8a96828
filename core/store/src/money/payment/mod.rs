//! Payments.

pub(crate) mod sled;

pub use sled::{
    Currency, PayMode, Payment, PaymentClaim, PaymentCreated, PaymentDraft, PaymentId, PaymentReceipt,
    PaymentRefunded, PaymentSettled, PaymentStart, PaymentState, PaymentStep, Redirect, Refund, RefundDraft,
    RefundTo,
};
