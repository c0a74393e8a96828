//! Passwords: kept beside the account, guarded against guessing, changed with the sessions they opened.
//!
//! What is kept of a password never leaves with a [`User`]; only [`Store::password_of`] reads it. Guesses are
//! counted before the password is looked at and answered only when the count is durable, so that neither parallel
//! guesses nor a crash give any away. They are counted per user *name*, whether an account has it or not, so that
//! the guard says nothing about which names exist; and a guard concerns passwords alone, so that nobody can lock
//! an account's owner out of the login by code. Invariant: a new password ends the sessions that the old one (or
//! whoever held them) opened, in the same change.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::sled::purge::PurgeStep;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{error, keys};
use crate::login::challenge::{Guess, guess};
use crate::login::session::{self, Session, SessionDraft, revoke_all};
use crate::login::user::{self, User};
use crate::{SessionId, Store, StoreError, Timestamp, UserId};

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
    pub fn password_of(&self, user: UserId) -> Result<Option<String>, StoreError> {
        let bytes = self.tree.get(keys::password(user)).map_err(error::read)?;
        bytes.map(|bytes| Ok(decode::<PasswordRecord>(&bytes)?.hash)).transpose()
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
        self.change(move |txn| {
            let key = keys::guard(&name);
            let mut guard = match txn.get_record::<GuardRecord>(&key)? {
                Some(guard) if now < guard.forget_at => guard,
                _ => GuardRecord::default(),
            };
            if now < guard.open_at {
                return Ok(GuardOutcome::Waiting { retry_at: guard.open_at });
            }
            guard.guesses = guard.guesses.saturating_add(1);
            // The last free guess is the first that is followed by a wait.
            let wait = match guard.guesses.checked_sub(rules.free.max(1)) {
                None => Duration::ZERO,
                Some(beyond) => {
                    let times = 1u32.checked_shl(beyond).unwrap_or(u32::MAX);
                    rules.wait_first.saturating_mul(times).min(rules.wait_max)
                }
            };
            guard.open_at = now.plus(wait);
            guard.forget_at = guard.open_at.plus(rules.forget_after);
            txn.put_record(key, &guard);
            Ok(GuardOutcome::Open)
        })
        .await
    }

    /// Forgets the guesses at the password of a name, known by its MAC.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn guard_clear(&self, name: [u8; 32]) -> Result<(), StoreError> {
        self.change(move |txn| {
            txn.delete(keys::guard(&name));
            Ok(())
        })
        .await
    }

    /// Opens a session for a password that was right, unless it was changed meanwhile; forgets the guesses.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn login_with_password(&self, draft: PasswordLoginDraft) -> Result<PasswordLogin, StoreError> {
        let PasswordLoginDraft { user, checked, guard, now, session } = draft;
        let seed = self.session_seed(session);
        let login = self.change(move |txn| {
            let Some(mut user) = user::get(txn, user)?.filter(|user| user.active) else {
                return Ok(PasswordLogin::Refused);
            };
            if kept(txn, user.id)?.as_ref() != Some(&checked) {
                return Ok(PasswordLogin::Refused);
            }
            txn.delete(keys::guard(&guard));
            user.last_login_at = Some(now);
            user::put(txn, &user);
            let (session, ended) = session::create(txn, user.id, false, seed, now)?;
            Ok(PasswordLogin::LoggedIn { user, session, ended })
        });
        let login = login.await?;
        if let PasswordLogin::LoggedIn { session, .. } = &login {
            self.agent_learn(Arc::clone(&session.user_agent));
        }
        Ok(login)
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
        self.change(move |txn| {
            if user::get(txn, user)?.is_none() || (checked.is_some() && kept(txn, user)? != checked) {
                return Ok(PasswordSet::Refused);
            }
            put(txn, user, hash, now);
            Ok(PasswordSet::Set(revoke_all(txn, user, except)?))
        })
        .await
    }

    /// Counts a guess at a code and, when it is right, uses it up, sets the password of the number's account and
    /// ends all its sessions: one change.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn password_reset(&self, draft: ResetDraft) -> Result<ResetOutcome, StoreError> {
        self.change(move |txn| {
            let ResetDraft { number, group, challenge, mac, hash, now } = draft;
            let (guess, mut contact) = guess(txn, &challenge, &mac, now)?;
            match guess {
                Guess::Right => {}
                Guess::Wrong { attempts_left: 0 } => return Ok(ResetOutcome::Burned),
                _ => return Ok(ResetOutcome::Refused),
            }
            contact.challenge = None;
            contact.put(txn, &challenge);
            match user::find_by_identity(txn, group, &number)?.filter(|user| user.active) {
                None => Ok(ResetOutcome::Refused),
                Some(user) => {
                    put(txn, user.id, hash, now);
                    let ended = revoke_all(txn, user.id, None)?;
                    Ok(ResetOutcome::Reset(user, ended))
                }
            }
        })
        .await
    }

    /// Walks on through the guards, at most `limit` of them, and removes those that are forgotten at `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and those of every change; the next call then starts over.
    pub async fn guards_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        let due = move |bytes: &[u8]| Ok((decode::<GuardRecord>(bytes)?.forget_at <= now).into());
        self.purge_step(keys::GUARDS, &self.purge.guards, limit, due).await
    }
}

#[derive(Serialize, Deserialize)]
struct PasswordRecord {
    /// In the PHC text form.
    hash: String,
    changed_at: Timestamp,
}

impl Record for PasswordRecord {
    const KIND: &'static str = "password";
    const SCHEMA: u8 = 1;
}

#[derive(Default, Serialize, Deserialize)]
struct GuardRecord {
    /// Guesses since the guard was made.
    guesses: u32,
    /// From this instant on the next guess is looked at.
    open_at: Timestamp,
    /// From this instant on the guard is as if it had never been.
    forget_at: Timestamp,
}

impl Record for GuardRecord {
    const KIND: &'static str = "password guard";
    const SCHEMA: u8 = 1;
}

pub(crate) fn put(txn: &mut Txn, user: UserId, hash: String, now: Timestamp) {
    txn.put_record(keys::password(user), &PasswordRecord { hash, changed_at: now });
}

fn kept(txn: &Txn, user: UserId) -> Result<Option<String>, StoreError> {
    Ok(txn.get_record::<PasswordRecord>(&keys::password(user))?.map(|record| record.hash))
}
