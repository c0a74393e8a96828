//! Operator features: the audit log and API keys.

pub(crate) mod api_key;
pub(crate) mod audit;
