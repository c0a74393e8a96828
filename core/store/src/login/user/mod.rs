//! User accounts: found by number and group, by id, or by name.
//!
//! An account created by a phone login is found by its identity, the pair (number, group), and never by its user
//! name. An older version let anybody take the name `G0-0912...`; its holder neither gets nor blocks that number's
//! account.
//!
//! A registered name is also found by its look, a text that the domain makes of it: names with one look are one name to
//! people. Names of older versions may share a look; the oldest account has it, and each is found by its exact name.
//!
//! Invariants: a user name belongs to one account, as long as nobody registers names of the form `G<group>-<number>`;
//! an identity belongs to one account; disabling an account ends its sessions in the same change.

pub(crate) mod postgres;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::chat::FileId;
use crate::engine::{Engine, boxed, on_engine};
use crate::login::challenge::Guesser;
use crate::{Store, StoreError, Timestamp, UserId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    /// An inactive account can neither log in nor use its sessions.
    pub active: bool,
    pub username: String,
    /// Canonical phone number; empty for an account without one.
    pub number: String,
    pub group: u32,
    pub created_at: Timestamp,
    pub last_login_at: Option<Timestamp>,
    pub first_name: String,
    pub last_name: String,
    pub email: String,
    /// May use the operator routes.
    pub staff: bool,
    /// Has all rights.
    pub superuser: bool,
    pub avatar: Option<Avatar>,
}

/// The picture of an account. Only [`Store::chat_file_keep`] and [`Store::avatar_remove`] change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Avatar {
    pub file: FileId,
    /// [`StoredFile::path`](crate::chat::StoredFile::path) of the file, which never changes. Repeated here, so that
    /// whoever reads the account for its name has it without a second look-up.
    pub path: String,
}

/// An account with a password and no phone number.
#[derive(Clone)]
pub struct UserDraft {
    pub username: String,
    /// How the name looks; no other account may have it.
    pub look: String,
    pub email: String,
    /// Hash of the password.
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

/// The look of a name: equal for names that a person takes for one.
pub type Look = fn(&str) -> String;

/// One step of [`Store::looks_enter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LooksStep {
    /// Accounts read; none is the end.
    pub read: usize,
    /// Accounts whose name looks like that of an older account, which follows.
    pub alike: Vec<(UserId, UserId)>,
}

/// Changed fields of a user; the others stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserChange {
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub email: Option<String>,
}

/// A guess at a code, and the account that gets the number when the guess is right.
#[derive(Clone)]
pub struct NumberDraft {
    pub user: UserId,
    /// Canonical phone number.
    pub number: String,
    /// The name under which the code was opened.
    pub challenge: String,
    pub mac: [u8; 32],
    pub guesser: Guesser,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NumberAdded {
    Added(User),
    /// The code was right and is used up, but another account of the group has the number.
    Taken,
    /// The account has a number already. The code was not compared.
    HasNumber,
    /// Wrong, expired, used or never sent; or the account is disabled.
    Refused,
    /// Not compared: this guesser has no guess left.
    Exhausted,
}

/// What an account may do beyond its own data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    None,
    /// The routes for staff.
    Staff,
    /// Everything.
    Superuser,
}

impl Rights {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Rights::None => "none",
            Rights::Staff => "staff",
            Rights::Superuser => "superuser",
        }
    }
}

impl Store {
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn user_get(&self, id: UserId) -> Result<Option<User>, StoreError> {
        on_engine!(self, read user_get(id))
    }

    /// The account that holds a user name, compared byte by byte. An account created by a login under its wished name
    /// is not found here: that name is derived from number and group; use [`Store::user_by_identity`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> {
        on_engine!(self, read user_by_name(name))
    }

    /// The account whose registered name has this look.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn user_by_look(&self, look: &str) -> Result<Option<User>, StoreError> {
        on_engine!(self, read user_by_look(look))
    }

    /// Enters the looks of names that an older version registered, at most `limit` accounts a call. The position is
    /// stored with each step, so an interrupted start continues, and later starts read only newer accounts.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn looks_enter(&self, look: Look, limit: usize) -> Result<LooksStep, StoreError> {
        on_engine!(self, looks_enter(look, limit).await)
    }

    /// The account of a phone number in a group.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn user_by_identity(&self, group: u32, number: &str) -> Result<Option<User>, StoreError> {
        on_engine!(self, read user_by_identity(group, number))
    }

    /// Accounts in order of their numbers, at most `limit`; with `after`, those with a greater number.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn users_list(&self, after: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
        on_engine!(self, read users_list(after, limit))
    }

    /// The newest accounts, at most `limit`; with `before`, those with a smaller number.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn users_newest(&self, before: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
        on_engine!(self, read users_newest(before, limit))
    }

    /// Creates an account with a password, unless the name is taken.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn user_register(&self, draft: UserDraft) -> Result<UserMade, StoreError> {
        on_engine!(self, user_register(draft).await)
    }

    /// Changes a user's own fields. Returns the changed user, or nothing when there is none.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn user_update(&self, id: UserId, change: UserChange) -> Result<Option<User>, StoreError> {
        on_engine!(self, user_update(id, change).await)
    }

    /// Counts a guess at a code. A right guess consumes it and gives the number to an account without one, in one
    /// change.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn number_add(&self, draft: NumberDraft) -> Result<NumberAdded, StoreError> {
        on_engine!(self, number_add(draft).await)
    }

    /// Sets an account's rights. Returns the changed user, or nothing when there is none.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn user_set_rights(&self, id: UserId, rights: Rights) -> Result<Option<User>, StoreError> {
        on_engine!(self, user_set_rights(id, rights).await)
    }

    /// Enables or disables an account; disabling ends all its sessions. False when there is no such account.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn user_set_active(&self, id: UserId, active: bool) -> Result<bool, StoreError> {
        on_engine!(self, user_set_active(id, active).await)
    }
}
