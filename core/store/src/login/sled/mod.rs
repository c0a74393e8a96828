//! Steps shared by several login operations inside a change of sled.

pub(crate) mod contact;
pub(crate) mod user;
