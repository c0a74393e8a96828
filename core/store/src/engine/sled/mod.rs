//! The sled engine: one tree, one writer thread, records as bytes.
//!
//! Reading order: `commit`, `txn`, `keys`, `record`.

pub(crate) mod commit;
pub(crate) mod txn;

pub(crate) mod keys;
pub(crate) mod record;

pub(crate) mod agent;
pub(crate) mod error;
pub(crate) mod export;
pub(crate) mod purge;
