//! Idempotency keys of money.

pub(crate) mod sled;

pub use sled::Once;
pub(crate) use sled::{Subject, keep, look};
