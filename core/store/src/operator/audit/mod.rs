//! The audit log.

pub(crate) mod sled;

pub use sled::{AuditDraft, AuditEntry, AuditLog, AuditPage, AuditQuery};
