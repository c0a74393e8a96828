//! API keys.

pub(crate) mod sled;

pub use sled::{ApiKey, ApiKeyDraft};
