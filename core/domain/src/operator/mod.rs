//! Operation: the audit log, API keys, and webhooks to the operator's own systems.
//!
//! Invariants: an audit entry holds no secret and no whole phone number; of an API key only a hash is stored; a webhook
//! is signed and delivered at least once, or its end is on record.
//!
//! Reading order: `audit`, `api_key`, `webhook`, which do not know each other; then the ports [`Meter`] and
//! [`Overview`].

pub mod api_key;
pub mod audit;
pub mod console;
pub mod desk;
pub mod doctor;
pub mod house;
mod meter;
pub mod role;
pub mod webhook;

pub use meter::{Counter, Histogram, Labels, Meter, NoMeter, Overview, Storage};
