//! User accounts: found by number and group, by id, or by name.
//!
//! An account made by a phone login is found by its identity, the pair (number, group), and never by its user name. An
//! older version let anybody take the name `G0-0912...`; whoever did so neither gets nor blocks that number's account.
//!
//! Invariants: a user name belongs to one account, as long as nobody registers names of the form `G<group>-<number>`;
//! an identity leads to one account; disabling an account ends its sessions in the same change.

pub(crate) mod sled;

use crate::engine::{Engine, on_engine};
use crate::{Store, StoreError, Timestamp, UserId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    /// An account that is not active can neither log in nor use its sessions.
    pub active: bool,
    pub username: String,
    /// Canonical phone number; empty when the account was made without one.
    pub number: String,
    pub group: u32,
    pub created_at: Timestamp,
    pub last_login_at: Option<Timestamp>,
    pub first_name: String,
    pub last_name: String,
    pub email: String,
    /// May use the routes for operators.
    pub staff: bool,
    /// May do everything.
    pub superuser: bool,
}

/// An account with a password and no phone number.
#[derive(Clone)]
pub struct UserDraft {
    pub username: String,
    pub email: String,
    /// What is kept of the password.
    pub password_hash: String,
    pub staff: bool,
    pub superuser: bool,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserMade {
    Made(User),
    NameTaken,
}

/// What changes of a user; the rest stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserChange {
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub email: Option<String>,
}

impl Store {
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn user_get(&self, id: UserId) -> Result<Option<User>, StoreError> {
        on_engine!(self, read user_get(id))
    }

    /// The account that holds a user name, which is compared byte by byte. One that a login made under the name it
    /// wished is not found: that name follows from number and group, by which [`Store::user_by_identity`] finds it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> {
        on_engine!(self, read user_by_name(name))
    }

    /// The account of a phone number in a group.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn user_by_identity(&self, group: u32, number: &str) -> Result<Option<User>, StoreError> {
        on_engine!(self, read user_by_identity(group, number))
    }

    /// Accounts by their numbers, at most `limit`; with `after`, those with a greater number.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn users_list(&self, after: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
        on_engine!(self, read users_list(after, limit))
    }

    /// Makes an account with a password, unless the name is taken.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn user_register(&self, draft: UserDraft) -> Result<UserMade, StoreError> {
        on_engine!(self, user_register(draft).await)
    }

    /// Changes what a user tells of themselves; the user as it is then, or nothing when there is none.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn user_update(&self, id: UserId, change: UserChange) -> Result<Option<User>, StoreError> {
        on_engine!(self, user_update(id, change).await)
    }

    /// Gives an account rights or takes them; the user as it is then, or nothing when there is none.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn user_set_rights(
        &self,
        id: UserId,
        staff: bool,
        superuser: bool,
    ) -> Result<Option<User>, StoreError> {
        on_engine!(self, user_set_rights(id, staff, superuser).await)
    }

    /// Switches an account on or off; off ends all its sessions. False when there is no such account.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn user_set_active(&self, id: UserId, active: bool) -> Result<bool, StoreError> {
        on_engine!(self, user_set_active(id, active).await)
    }
}
