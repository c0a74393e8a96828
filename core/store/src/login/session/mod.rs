//! Sessions.

pub(crate) mod sled;

pub use sled::{RefreshDraft, RefreshOutcome, Session, SessionDraft, SessionGate};
pub(crate) use sled::{SessionSeed, create, revoke_all};
