//! Spends.

pub(crate) mod sled;

pub use sled::{Spend, SpendDraft, SpendEnded, SpendId, SpendMade, SpendState};
