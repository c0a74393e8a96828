//! Conversion of sled's errors.

use std::io;

use crate::StoreError;
use crate::engine::sled::tree;

/// Strips an engine's error of its type.
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
