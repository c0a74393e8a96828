//! The ledger.

pub(crate) mod sled;

pub use sled::{Account, Entry, LedgerReport, Posting, WalletBalance, WalletEntry};
pub(crate) use sled::{Posted, capture_key, payment_key, post, refund_key, signed, spend_key, void_key};
