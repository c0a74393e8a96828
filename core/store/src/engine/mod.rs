//! Engines: what a database must do so that the store's operations can stand on it.

pub(crate) mod sled;
