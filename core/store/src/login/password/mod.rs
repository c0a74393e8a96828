//! Passwords: stored beside the account, guarded against guessing, changed together with the sessions they opened.
//!
//! A password hash never leaves with a [`User`]; only [`Store::password_of`] reads it. Guesses are counted before the
//! password is compared and answered only when the count is durable, so neither parallel guesses nor a crash give any
//! back. They are counted under what the domain makes of a user *name* and an address, whether an account has the
//! name or not, so a guard does not reveal which names exist. A guard applies to passwords only, so nobody can lock
//! an account's owner out of the login by code. Invariant: a new password ends the sessions opened with the old one,
//! in the same change.

pub(crate) mod postgres;
pub(crate) mod sled;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::engine::{Engine, boxed, on_engine};
use crate::login::challenge::Guesser;
use crate::login::session::{Session, SessionDraft};
use crate::login::user::User;
use crate::{PurgeStep, SessionId, Store, StoreError, Timestamp, UserId};

/// When guesses at a password have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardRules {
    /// Guesses without a wait, at least 1.
    pub free: u32,
    /// The wait after the last free guess; each further guess doubles it.
    pub wait_first: Duration,
    /// The longest wait.
    pub wait_max: Duration,
    /// After this time without a guess the counter restarts.
    pub forget_after: Duration,
}

/// A count of guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// A MAC of what is counted, so that the store does not list tried names.
    pub key: [u8; 32],
    pub rules: GuardRules,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardOutcome {
    /// Counted by every guard; the password may be compared.
    Open,
    /// Counted by none, and not to be compared before `retry_at`. `first` is the first guard that waits.
    Waiting { retry_at: Timestamp, first: usize },
}

/// A verified password, and the session to open.
#[derive(Clone)]
pub struct PasswordLoginDraft {
    pub user: UserId,
    /// The stored hash that was compared; the login fails when it has changed since.
    pub checked: String,
    /// What is kept of it from now on, when that changes.
    pub renewed: Option<String>,
    /// The guard to reset.
    pub guard: [u8; 32],
    /// The guard that gets this guess back.
    pub total: [u8; 32],
    pub now: Timestamp,
    pub session: SessionDraft,
}

#[derive(Debug, Clone, PartialEq)]
pub enum PasswordLogin {
    LoggedIn {
        user: User,
        session: Session,
        /// The user's oldest sessions, ended to make room for this one.
        ended: Vec<SessionId>,
    },
    /// Disabled, removed, or with another password by now.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSet {
    /// With the ended sessions.
    Set(Vec<SessionId>),
    /// No such user, or the compared password has changed.
    Refused,
}

/// A guess at a code, and the password to set when it is right.
#[derive(Clone)]
pub struct ResetDraft {
    /// Canonical phone number of the account.
    pub number: String,
    pub group: u32,
    /// The name under which the code was opened.
    pub challenge: String,
    pub mac: [u8; 32],
    pub guesser: Guesser,
    /// What is to be kept of the new password.
    pub hash: String,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ResetOutcome {
    /// The code was right and is used up; all sessions of the user ended.
    Reset(User, Vec<SessionId>),
    /// Wrong, and this was the code's last guess.
    Burned,
    /// Not compared: this guesser has no guess left.
    Exhausted,
    /// Wrong, expired, used or never sent; or the account does not exist or is disabled.
    Refused,
}

/// An operator's token that sets a user's password once. A user has at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetToken {
    /// Keyed MAC of the token.
    pub mac: [u8; 32],
    pub expires_at: Timestamp,
}

impl ResetToken {
    /// Compares in constant time.
    pub(crate) fn fits(&self, mac: &[u8; 32], now: Timestamp) -> bool {
        now < self.expires_at && bool::from(self.mac.ct_eq(mac))
    }
}

/// What a guard has counted.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct GuardRecord {
    /// Guesses since the guard was created.
    pub(crate) guesses: u32,
    /// When the next guess may be compared.
    pub(crate) open_at: Timestamp,
    /// When the guard expires.
    pub(crate) forget_at: Timestamp,
}

impl GuardRecord {
    /// Counts a guess.
    pub(crate) fn count(&mut self, rules: &GuardRules, now: Timestamp) {
        self.guesses = self.guesses.saturating_add(1);
        // The last free guess is the first one followed by a wait.
        let wait = match self.guesses.checked_sub(rules.free.max(1)) {
            None => Duration::ZERO,
            Some(beyond) => {
                let times = 1u32.checked_shl(beyond).unwrap_or(u32::MAX);
                rules.wait_first.saturating_mul(times).min(rules.wait_max)
            }
        };
        self.open_at = now.plus(wait);
        self.forget_at = self.open_at.plus(rules.forget_after);
    }
}

/// Counts a guess by each guard, in their order, unless one of them has to wait. A guard that has expired begins anew.
pub(crate) fn count_all(guards: &[Guard], records: &mut [GuardRecord], now: Timestamp) -> GuardOutcome {
    for record in &mut *records {
        if record.forget_at <= now {
            *record = GuardRecord::default();
        }
    }
    if let Some(first) = records.iter().position(|record| now < record.open_at) {
        let retry_at = records.iter().map(|record| record.open_at).max().unwrap_or(now);
        return GuardOutcome::Waiting { retry_at, first };
    }
    for (guard, record) in guards.iter().zip(records) {
        record.count(&guard.rules, now);
    }
    GuardOutcome::Open
}

impl Store {
    /// A user's password hash.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn password_of(&self, user: UserId) -> Result<Option<String>, StoreError> {
        on_engine!(self, read password_of(user))
    }

    /// Counts a guess by each guard, unless one of them has to wait.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn password_guard(
        &self,
        guards: Vec<Guard>,
        now: Timestamp,
    ) -> Result<GuardOutcome, StoreError> {
        on_engine!(self, password_guard(guards, now).await)
    }

    /// Resets guards.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn guards_clear(&self, keys: Vec<[u8; 32]>) -> Result<(), StoreError> {
        on_engine!(self, guards_clear(keys).await)
    }

    /// Opens a session for a verified password, unless it was changed meanwhile, and resets the guesses.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn login_with_password(&self, draft: PasswordLoginDraft) -> Result<PasswordLogin, StoreError> {
        on_engine!(self, login_with_password(draft).await)
    }

    /// Sets a user's password and ends all sessions but one; an operator's token for it ends, too. With `checked`, only
    /// when that is still the stored hash.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
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

    /// Counts a guess at a code. A right guess consumes it, sets the password of the number's account and ends all
    /// its sessions, all in one change.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn password_reset(&self, draft: ResetDraft) -> Result<ResetOutcome, StoreError> {
        on_engine!(self, password_reset(draft).await)
    }

    /// Stores a token that sets a user's password, in place of an older one. False when there is no such account, or it
    /// is disabled.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn reset_token_put(&self, user: UserId, token: ResetToken) -> Result<bool, StoreError> {
        on_engine!(self, reset_token_put(user, token).await)
    }

    /// Whether a token would set a user's password at `now`. Compares in constant time.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn reset_token_fits(
        &self,
        user: UserId,
        mac: [u8; 32],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        on_engine!(self, read reset_token_fits(user, mac, now))
    }

    /// Consumes a token, sets the password of its user and ends all sessions, all in one change. Refuses a token that
    /// is wrong, expired or used, and a disabled account.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn password_reset_by_token(
        &self,
        user: UserId,
        mac: [u8; 32],
        hash: String,
        now: Timestamp,
    ) -> Result<PasswordSet, StoreError> {
        on_engine!(self, password_reset_by_token(user, mac, hash, now).await)
    }

    /// Continues the walk over guards, at most `limit` of them, and removes those expired at `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and any error of a change; the next call then starts over.
    #[boxed]
    pub async fn guards_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        on_engine!(self, guards_purge(now, limit).await)
    }
}
