//! Tokens that another program issued: each opens one session here, at its first use.
//!
//! Invariant: a token never opens a second session, so one that was ended stays ended, however long the token lives.

pub(crate) mod postgres;
pub(crate) mod sled;

use crate::engine::{Engine, boxed, on_engine};
use crate::login::session::{Session, SessionDraft};
use crate::{PurgeStep, SessionId, Store, StoreError, Timestamp, UserId};

/// A token that is used for the first time, as far as the caller knows.
#[derive(Debug, Clone)]
pub struct LegacyDraft {
    pub user: UserId,
    /// What names the token among those of its user.
    pub token: u128,
    /// From then on the token is refused everywhere, so nothing needs to be remembered of it.
    pub token_expires_at: Timestamp,
    pub session: SessionDraft,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LegacyOpened {
    /// With the user's oldest sessions, which gave way to it.
    Opened(Session, Vec<SessionId>),
    /// The token was used before: its session, which may have ended.
    Before(SessionId),
    UserMissing,
    UserInactive,
}

impl Store {
    /// The session that a token opened, which may have ended; `None` when the token was not used yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn legacy_session(&self, user: UserId, token: u128) -> Result<Option<SessionId>, StoreError> {
        on_engine!(self, read legacy_session(user, token))
    }

    /// Opens the session of a token, once.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    #[boxed]
    pub async fn legacy_session_open(&self, draft: LegacyDraft) -> Result<LegacyOpened, StoreError> {
        on_engine!(self, legacy_session_open(draft).await)
    }

    /// Walks on through the used tokens, at most `limit` of them, and forgets those that expired at or before `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and those of every change; the next call then starts over.
    #[boxed]
    pub async fn legacy_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        on_engine!(self, legacy_purge(now, limit).await)
    }
}
