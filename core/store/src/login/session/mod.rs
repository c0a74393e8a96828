//! Login sessions: looked up on every request, listed, touched, revoked, purged.
//!
//! A session exists or it does not: revoking removes it, so no path can forget to check a flag. Invariants: a session
//! belongs to one user, whose id is the first part of its key, so no operation can reach a session by its number
//! alone. A user has at most as many sessions as the draft allows; the oldest is ended first.

pub(crate) mod postgres;
pub(crate) mod sled;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::engine::{Engine, boxed, on_engine};
use crate::{PurgeStep, SessionId, Store, StoreError, Timestamp, UserId};

/// The fields of a session before it exists.
#[derive(Debug, Clone)]
pub struct SessionDraft {
    /// Public name for clients; not a credential.
    pub key: Uuid,
    /// When the session expires.
    pub expires_at: Timestamp,
    /// As the client sent it; the caller has limited its length.
    pub user_agent: String,
    pub ip_address: Option<IpAddr>,
    /// The client's own name for its device; the caller has limited its length.
    pub device_name: Option<String>,
    /// Most sessions of the user, this one included, at least 1; older ones are ended.
    pub per_user_max: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    pub key: Uuid,
    pub user_agent: Arc<str>,
    pub ip_address: Option<IpAddr>,
    /// The client's own name for its device.
    pub device_name: Option<String>,
    pub created_at: Timestamp,
    pub last_seen_at: Timestamp,
    pub expires_at: Timestamp,
    /// How often the refresh token was replaced, and so the number of the current one.
    pub generation: u32,
    /// When the current refresh token was issued.
    pub rotated_at: Timestamp,
}

/// A presented refresh token, and how long a session may live with the next one.
#[derive(Debug, Clone)]
pub struct RefreshDraft {
    pub user: UserId,
    pub session: SessionId,
    /// The session binding in the token (see [`Session::binding`]); tokens of older versions have none.
    pub binding: Option<u64>,
    /// The presented token's number.
    pub generation: u32,
    pub now: Timestamp,
    /// From this refresh to the session's end without another refresh.
    pub idle_max: Duration,
    /// From the login to the session's end in any case.
    pub absolute_max: Duration,
    /// How long a replaced token counts as the repeat of a lost answer.
    pub repeat_max: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// The token was the current one; the session's new generation is the next token's number.
    Rotated(Session),
    /// The token was just replaced and its successor was not used yet: the session as it stands.
    Repeated(Session),
    /// The token was replaced before, so somebody has a copy. The session was ended.
    Reused,
    UserMissing,
    UserInactive,
    Ended,
}

/// Whether a session may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionGate {
    Open,
    UserMissing,
    UserInactive,
    /// Revoked, expired, replaced by a newer one, another user's, or nonexistent.
    Ended,
}

impl Session {
    /// Random bits of the session that its tokens repeat. An older copy of the database gives session numbers again;
    /// a token of the session that had the number before then opens nothing.
    #[must_use]
    pub fn binding(&self) -> u64 {
        binding_of(self.key.as_u128())
    }
}

/// The half of a random UUID that has 62 random bits.
pub(crate) fn binding_of(key: u128) -> u64 {
    key as u64
}

/// What a refresh judges and changes.
pub(crate) struct Life {
    pub(crate) created_at: Timestamp,
    pub(crate) last_seen_at: Timestamp,
    pub(crate) rotated_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) generation: u32,
}

/// What a refresh token is good for.
pub(crate) enum Refresh {
    /// The next generation is current: to be stored.
    Rotated,
    /// Nothing changes.
    Repeated,
    /// The session is to be removed.
    Reused,
    Ended,
}

impl Life {
    /// Replaces the refresh token, if it may be: see [`Store::refresh_rotate`].
    pub(crate) fn refresh(&mut self, draft: &RefreshDraft) -> Refresh {
        let now = draft.now;
        let ends_at = self.created_at.plus(draft.absolute_max);
        if self.expires_at <= now || ends_at <= now || self.generation < draft.generation {
            return Refresh::Ended;
        }
        if self.generation == draft.generation {
            self.generation += 1;
            self.rotated_at = now;
            self.last_seen_at = self.last_seen_at.max(now);
            self.expires_at = now.plus(draft.idle_max).min(ends_at);
            return Refresh::Rotated;
        }
        if self.generation == draft.generation + 1 && now.since(self.rotated_at) <= draft.repeat_max {
            return Refresh::Repeated;
        }
        Refresh::Reused
    }
}

impl Store {
    /// [`Store::session_gate`] for a token with a `binding`. Tokens of older versions have none; they open only
    /// sessions that are older than bindings.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn session_gate_of_token(
        &self,
        user: UserId,
        session: SessionId,
        binding: Option<u64>,
        now: Timestamp,
    ) -> Result<SessionGate, StoreError> {
        on_engine!(self, read session_gate_of_token(user, session, binding, now))
    }

    /// Returns whether the user's session is usable at `now`. Every request reads it: two look-ups, and no allocation
    /// beyond the engine's cache.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn session_gate(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<SessionGate, StoreError> {
        on_engine!(self, read session_gate(user, session, now))
    }

    /// Which of these sessions are usable at `now`, in the order of the question.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn sessions_open(
        &self,
        asked: &[(UserId, SessionId)],
        now: Timestamp,
    ) -> Result<Vec<bool>, StoreError> {
        on_engine!(self, read sessions_open(asked, now))
    }

    /// Sessions of all users, those of the newest user first, at most `limit`: those below a place in this order, which
    /// is a user and a session.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn sessions_before(
        &self,
        before: Option<(UserId, SessionId)>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        on_engine!(self, read sessions_before(before, limit))
    }

    /// A user's session, expired or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn session_get(&self, user: UserId, id: SessionId) -> Result<Option<Session>, StoreError> {
        on_engine!(self, read session_get(user, id))
    }

    /// A user's sessions, newest first, at most `limit`; with `before`, those older than it. Includes expired
    /// sessions that are not purged yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn sessions_of(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        on_engine!(self, read sessions_of(user, before, limit))
    }

    /// Records when sessions were last used, in one change; returns how many exist. An instant earlier than the
    /// stored one has no effect.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn session_touch_many(
        &self,
        touches: Vec<(UserId, SessionId, Timestamp)>,
    ) -> Result<usize, StoreError> {
        on_engine!(self, session_touch_many(touches).await)
    }

    /// Replaces a session's refresh token; the next generation becomes current. The token before the current one
    /// counts as the repeat of a refresh whose answer was lost, as long as the current one is unused. Any older token
    /// ends the session. A number not given out yet (the store was restored from an older copy) is refused and
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn refresh_rotate(&self, draft: RefreshDraft) -> Result<RefreshOutcome, StoreError> {
        on_engine!(self, refresh_rotate(draft).await)
    }

    /// Ends one session of a user; false when the user has no such session.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn session_revoke(&self, user: UserId, id: SessionId) -> Result<bool, StoreError> {
        on_engine!(self, session_revoke(user, id).await)
    }

    /// Ends all sessions of a user but one; returns the ended ones.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn sessions_revoke_all(
        &self,
        user: UserId,
        except: Option<SessionId>,
    ) -> Result<Vec<SessionId>, StoreError> {
        on_engine!(self, sessions_revoke_all(user, except).await)
    }

    /// Continues the walk over sessions, at most `limit` of them, and removes those that expired at or before `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and any error of a change; the next call then starts over.
    #[boxed]
    pub async fn sessions_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        on_engine!(self, sessions_purge(now, limit).await)
    }
}
