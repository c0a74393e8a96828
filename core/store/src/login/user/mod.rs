//! User accounts.

pub(crate) mod sled;

pub use sled::{User, UserChange, UserDraft, UserMade};
pub(crate) use sled::{UserRecord, create, find_by_identity, get, put};
