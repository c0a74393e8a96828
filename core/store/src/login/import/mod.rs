//! Accounts that come from another program: they keep their ids.
//!
//! For a store that is being filled and that nobody else uses yet (see [`Store::replace`]).
//! Invariant: an imported account is as one that was made here, so no other code knows of imports. The exception is a
//! merged account, whose old id leads to the account it became.

pub(crate) mod postgres;
pub(crate) mod sled;

use crate::engine::{Engine, boxed, on_engine};
use crate::login::user::User;
use crate::{Store, StoreError, UserId};

/// An account to store under its own id.
#[derive(Clone)]
pub struct ImportedUser {
    pub user: User,
    /// What is kept of the password.
    pub password_hash: Option<String>,
    /// The account logs in with its number. False for an account whose number belongs to another account of its group.
    pub owns_number: bool,
    /// The user name follows from number and group, so it needs no entry of its own.
    pub derived_name: bool,
    /// Ids of accounts that became this one.
    pub merged: Vec<UserId>,
}

impl Store {
    /// Stores accounts under their ids. An account that exists is replaced.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    #[boxed]
    pub async fn import_users(&self, users: Vec<ImportedUser>) -> Result<(), StoreError> {
        on_engine!(self, import_users(users).await)
    }

    /// The account that an account became when two of one number were merged by an import.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn user_merged_into(&self, old: UserId) -> Result<Option<UserId>, StoreError> {
        on_engine!(self, read user_merged_into(old))
    }
}
