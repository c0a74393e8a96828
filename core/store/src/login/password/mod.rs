//! Passwords: kept beside the account, guarded against guessing, changed with the sessions they opened.
//!
//! What is kept of a password never leaves with a [`User`]; only [`Store::password_of`] reads it. Guesses are
//! counted before the password is looked at and answered only when the count is durable, so that neither parallel
//! guesses nor a crash give any away. They are counted per user *name*, whether an account has it or not, so that
//! the guard says nothing about which names exist; and a guard concerns passwords alone, so that nobody can lock
//! an account's owner out of the login by code. Invariant: a new password ends the sessions that the old one (or
//! whoever held them) opened, in the same change.

pub(crate) mod sled;

use std::time::Duration;

use crate::engine::{Engine, on_engine};
use crate::login::session::{Session, SessionDraft};
use crate::login::user::User;
use crate::{PurgeStep, SessionId, Store, StoreError, Timestamp, UserId};

/// When guesses at a password have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardRules {
    /// Guesses without any wait, at least 1.
    pub free: u32,
    /// The wait after the last free guess; it doubles with each further one.
    pub wait_first: Duration,
    /// The longest wait.
    pub wait_max: Duration,
    /// After this time without a guess all is forgotten.
    pub forget_after: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardOutcome {
    /// Counted; the password may be looked at.
    Open,
    /// Not counted, and not to be looked at before `retry_at`.
    Waiting { retry_at: Timestamp },
}

/// A password that was found right, and the session to open.
#[derive(Clone)]
pub struct PasswordLoginDraft {
    pub user: UserId,
    /// What is kept of the password that was compared; the login fails when it was changed since.
    pub checked: String,
    /// The guard to open again.
    pub guard: [u8; 32],
    pub now: Timestamp,
    pub session: SessionDraft,
}

#[derive(Debug, Clone, PartialEq)]
pub enum PasswordLogin {
    LoggedIn {
        user: User,
        session: Session,
        /// The user's oldest sessions, which gave way to this one.
        ended: Vec<SessionId>,
    },
    /// Switched off, gone, or with another password by now.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSet {
    /// With the sessions it ended.
    Set(Vec<SessionId>),
    /// No such user, or the password is not the one that was checked any more.
    Refused,
}

/// A guess at a code, and the password to set when it is right.
#[derive(Clone)]
pub struct ResetDraft {
    /// Canonical phone number, whose account is meant.
    pub number: String,
    pub group: u32,
    /// Under which the code was opened.
    pub challenge: String,
    pub mac: [u8; 32],
    /// What is to be kept of the new password.
    pub hash: String,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ResetOutcome {
    /// The code was right and is used up; all sessions of the user ended.
    Reset(User, Vec<SessionId>),
    /// Wrong, and the last guess the code had.
    Burned,
    /// Wrong, burned before, expired, used, never sent, or there is no such account or it is switched off.
    Refused,
}

impl Store {
    /// What is kept of a user's password.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn password_of(&self, user: UserId) -> Result<Option<String>, StoreError> {
        on_engine!(self, read password_of(user))
    }

    /// Counts a guess at the password of a name, known by its MAC, unless it has to wait.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn password_guard(
        &self,
        name: [u8; 32],
        rules: GuardRules,
        now: Timestamp,
    ) -> Result<GuardOutcome, StoreError> {
        on_engine!(self, password_guard(name, rules, now).await)
    }

    /// Forgets the guesses at the password of a name, known by its MAC.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn guard_clear(&self, name: [u8; 32]) -> Result<(), StoreError> {
        on_engine!(self, guard_clear(name).await)
    }

    /// Opens a session for a password that was right, unless it was changed meanwhile; forgets the guesses.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn login_with_password(&self, draft: PasswordLoginDraft) -> Result<PasswordLogin, StoreError> {
        on_engine!(self, login_with_password(draft).await)
    }

    /// Sets a user's password and ends all sessions but one. With `checked`, only when that is still what is kept
    /// of the old one.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn password_set(
        &self,
        user: UserId,
        checked: Option<String>,
        hash: String,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<PasswordSet, StoreError> {
        on_engine!(self, password_set(user, checked, hash, except, now).await)
    }

    /// Counts a guess at a code and, when it is right, uses it up, sets the password of the number's account and
    /// ends all its sessions: one change.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn password_reset(&self, draft: ResetDraft) -> Result<ResetOutcome, StoreError> {
        on_engine!(self, password_reset(draft).await)
    }

    /// Walks on through the guards, at most `limit` of them, and removes those that are forgotten at `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and those of every change; the next call then starts over.
    pub async fn guards_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        on_engine!(self, guards_purge(now, limit).await)
    }
}
