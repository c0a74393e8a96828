//! Operator features: the console's operators and sessions, their notes, the audit log, API keys, and
//! the gateways that share a database.

pub(crate) mod api_key;
pub(crate) mod audit;
pub(crate) mod console;
pub(crate) mod moving;
pub(crate) mod node;
pub(crate) mod note;
