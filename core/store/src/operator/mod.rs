//! Operator features: the console's operators and sessions, the audit log, and API keys.

pub(crate) mod api_key;
pub(crate) mod audit;
pub(crate) mod console;
