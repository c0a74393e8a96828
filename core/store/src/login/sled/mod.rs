//! What several operations of login do inside a change of sled.

pub(crate) mod contact;
pub(crate) mod user;
