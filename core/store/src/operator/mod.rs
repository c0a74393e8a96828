//! Operator features: the console's operators and sessions, their notes, the audit log, API keys,
//! the gateways that share a database, and the edits that they share.

pub(crate) mod api_key;
pub(crate) mod audit;
pub(crate) mod console;
pub(crate) mod edit;
pub(crate) mod moving;
pub(crate) mod node;
pub(crate) mod note;
