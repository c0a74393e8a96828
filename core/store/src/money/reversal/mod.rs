//! Reversals.

pub(crate) mod sled;

pub(crate) use sled::order;
pub use sled::{Reversal, ReversalState, ReversalStep};
