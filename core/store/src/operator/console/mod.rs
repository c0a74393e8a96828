//! Operators of the console: role, second factor, sessions, and one-time links.
//!
//! An operator is an account with a record of its own here; password, guess counts and disabling stay the account's.
//! Invariants: a session opens only with a proof that is used up in the same change (a link, a time step of the
//! second factor, or a recovery code); an operator has at most [`CONSOLE_SESSIONS_MAX`] sessions; whatever ends all
//! sessions of an account ends those of the console too.
//!
//! Not here: what a role may do, the second factor's arithmetic, and the seal on its secret (`chelseru-domain`).

pub(crate) mod postgres;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, boxed, on_engine};
use crate::{Store, StoreError, Timestamp, UserId};

/// Sessions of one operator; one more ends the oldest.
pub const CONSOLE_SESSIONS_MAX: usize = 20;

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OperatorRole {
    /// Reads everything except secrets.
    Viewer,
    /// Users, messages and rooms.
    Support,
    /// Payments and wallets.
    Finance,
    /// Everything.
    Admin,
}

/// The second factor of an operator.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondFactor {
    /// The secret, sealed by the domain.
    pub sealed: Vec<u8>,
    /// The last time step that opened a session or confirmed the factor.
    pub step: u64,
    /// Hashes of the unused recovery codes.
    pub recovery: Vec<[u8; 32]>,
    pub since: Timestamp,
}

/// An operator's record.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRecord {
    pub user: UserId,
    /// `None` for an account that is an operator by its own rights only.
    pub role: Option<OperatorRole>,
    pub factor: Option<SecondFactor>,
    /// The language of the console, as its code: `fa`, `en`.
    pub language: String,
}

impl OperatorRecord {
    /// The record of an operator about whom nothing is stored.
    #[must_use]
    pub fn new(user: UserId) -> Self {
        OperatorRecord { user, role: None, factor: None, language: String::new() }
    }
}

impl OperatorRecord {
    /// Applies a change; true when it ends the sessions.
    pub(crate) fn change(&mut self, change: OperatorChange) -> bool {
        match change {
            OperatorChange::Role(role) => {
                self.role = role;
                true
            }
            OperatorChange::Language(language) => {
                self.language = language;
                false
            }
            OperatorChange::Factor(factor) => {
                self.factor = factor;
                self.factor.is_none()
            }
        }
    }
}

impl SecondFactor {
    /// Uses a proof up; false when it is no proof of this factor, or used.
    pub(crate) fn use_up(&mut self, proof: &ConsoleProof) -> bool {
        match proof {
            ConsoleProof::Step(step) if *step > self.step => self.step = *step,
            ConsoleProof::Recovery(hash) if self.recovery.contains(hash) => {
                self.recovery.retain(|kept| kept != hash);
            }
            _ => return false,
        }
        true
    }
}

/// Without the second factor.
impl std::fmt::Debug for OperatorRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorRecord")
            .field("user", &self.user)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// A change of an operator's record.
#[derive(Clone)]
pub enum OperatorChange {
    /// `None` takes the role; the sessions end either way.
    Role(Option<OperatorRole>),
    Language(String),
    /// `None` removes the second factor and ends the sessions.
    Factor(Option<SecondFactor>),
}

/// The one-time proof that opens a session.
#[derive(Clone)]
pub enum ConsoleProof {
    /// The hash of a link.
    Link([u8; 32]),
    /// A time step of the second factor, later than the last one used.
    Step(u64),
    /// The hash of a recovery code.
    Recovery([u8; 32]),
}

/// A session to open.
#[derive(Clone)]
pub struct ConsoleDraft {
    pub user: UserId,
    pub proof: ConsoleProof,
    /// Hash of the session's token.
    pub hash: [u8; 32],
    pub now: Timestamp,
    pub expires_at: Timestamp,
    pub ip_address: String,
    pub user_agent: String,
}

/// A session of the console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSession {
    pub user: UserId,
    /// Its number among all sessions of the console. Not a credential.
    pub id: u64,
    pub created_at: Timestamp,
    pub last_seen_at: Timestamp,
    pub expires_at: Timestamp,
    pub ip_address: String,
    pub user_agent: String,
    /// Opened by a link from the command line.
    pub by_link: bool,
}

impl Store {
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn operator_get(&self, user: UserId) -> Result<Option<OperatorRecord>, StoreError> {
        on_engine!(self, read operator_get(user))
    }

    /// Every operator's record, by account number. Operators are few.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn operators(&self) -> Result<Vec<OperatorRecord>, StoreError> {
        on_engine!(self, read operators())
    }

    /// Changes an operator's record, which is made when it is missing. Returns the record of before.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn operator_change(
        &self,
        user: UserId,
        change: OperatorChange,
    ) -> Result<Option<OperatorRecord>, StoreError> {
        on_engine!(self, operator_change(user, change).await)
    }

    /// Stores the hash of a one-time link in place of an older one.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn console_link_put(
        &self,
        user: UserId,
        hash: [u8; 32],
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        on_engine!(self, console_link_put(user, hash, expires_at).await)
    }

    /// Opens a session and uses its proof up; `None` when the proof is wrong, expired or used.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn console_open(&self, draft: ConsoleDraft) -> Result<Option<ConsoleSession>, StoreError> {
        on_engine!(self, console_open(draft).await)
    }

    /// The session of a token's hash, expired or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn console_session(
        &self,
        user: UserId,
        hash: [u8; 32],
    ) -> Result<Option<ConsoleSession>, StoreError> {
        on_engine!(self, read console_session(user, hash))
    }

    /// Notes the use of a session.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn console_touch(
        &self,
        user: UserId,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        on_engine!(self, console_touch(user, hash, now).await)
    }

    /// The sessions of an operator, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn console_sessions(&self, user: UserId) -> Result<Vec<ConsoleSession>, StoreError> {
        on_engine!(self, read console_sessions(user))
    }

    /// Ends one session, or all but one when `id` is `None`. Returns their number.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn console_end(
        &self,
        user: UserId,
        id: Option<u64>,
        except: Option<u64>,
    ) -> Result<usize, StoreError> {
        on_engine!(self, console_end(user, id, except).await)
    }
}
