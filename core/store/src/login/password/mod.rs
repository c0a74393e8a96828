//! Passwords.

pub(crate) mod sled;

pub(crate) use sled::put;
pub use sled::{
    GuardOutcome, GuardRules, PasswordLogin, PasswordLoginDraft, PasswordSet, ResetDraft, ResetOutcome,
};
