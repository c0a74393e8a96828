//! Uploaded files.

pub(crate) mod sled;

pub use sled::{FileDraft, FileKept, StoredFile};
pub(crate) use sled::{attach, detach};
