//! Login: accounts, codes, passwords and sessions.

pub(crate) mod challenge;
pub(crate) mod import;
pub(crate) mod legacy;
pub(crate) mod password;
pub(crate) mod session;
pub(crate) mod user;

pub(crate) mod moving;
pub(crate) mod postgres;
pub(crate) mod sled;
