//! The shared part of login's PostgreSQL statements: rows that several features of the folder use.

pub(crate) mod account;
pub(crate) mod code;
