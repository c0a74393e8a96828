//! Sled's errors in the store's words.

use std::io;

use crate::StoreError;
use crate::engine::sled::tree;

/// An engine's error without its type.
pub(crate) fn engine_io(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

pub(crate) fn read(error: sled::Error) -> StoreError {
    let source = engine_io(error);
    if tree::is_write_failed(&source) { StoreError::Failed } else { StoreError::Read { source } }
}
