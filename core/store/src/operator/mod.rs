//! Operator features: the console's operators and sessions, their notes, the audit log, and API keys.

pub(crate) mod api_key;
pub(crate) mod audit;
pub(crate) mod console;
pub(crate) mod note;
