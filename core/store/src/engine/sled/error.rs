//! Conversion of sled's errors.

use std::io;

use crate::StoreError;
use crate::engine::sled::{quiet, tree};

/// Strips an engine's error of its type. The engine passes an error of the operating system on as its debug form.
pub(crate) fn engine_io(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => match error.raw_os_error() {
            None => quiet::os_error(&error.to_string()).unwrap_or(error),
            Some(_) => error,
        },
        other => io::Error::other(other.to_string()),
    }
}

pub(crate) fn read(error: sled::Error) -> StoreError {
    let source = engine_io(error);
    if tree::is_write_failed(&source) { StoreError::Failed } else { StoreError::Read { source } }
}
