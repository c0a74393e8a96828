//! Login sessions: looked up on every request, listed, touched, revoked, purged.
//!
//! A session exists or it does not: revoking removes it, so no path can forget to look at a flag. Invariants: a
//! session belongs to one user for ever, whose id is the first part of its key, so that no operation can reach a
//! session by its number alone; a user has at most as many sessions as the draft allows, the oldest goes first.

pub(crate) mod sled;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::engine::{Engine, on_engine};
use crate::{PurgeStep, SessionId, Store, StoreError, Timestamp, UserId};

/// What the caller knows of a session before it exists.
#[derive(Debug, Clone)]
pub struct SessionDraft {
    /// Public name that clients see; not a credential.
    pub key: Uuid,
    /// From this instant on the session is refused.
    pub expires_at: Timestamp,
    /// As the client sent it, cut to a bounded length by the caller.
    pub user_agent: String,
    pub ip_address: Option<IpAddr>,
    /// Sessions the user may have, this one included, at least 1; the oldest ones beyond it are ended.
    pub per_user_max: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    pub key: Uuid,
    pub user_agent: Arc<str>,
    pub ip_address: Option<IpAddr>,
    pub created_at: Timestamp,
    pub last_seen_at: Timestamp,
    pub expires_at: Timestamp,
    /// How often the refresh token was replaced: the number of the one that is good.
    pub generation: u32,
    /// When the good refresh token was issued.
    pub rotated_at: Timestamp,
}

/// A refresh token that was presented, and how long a session may live with the next one.
#[derive(Debug, Clone)]
pub struct RefreshDraft {
    pub user: UserId,
    pub session: SessionId,
    /// What the token says of its session (see [`Session::binding`]); tokens of older versions say nothing.
    pub binding: Option<u64>,
    /// The presented token's number.
    pub generation: u32,
    pub now: Timestamp,
    /// From this refresh to the session's end, when no other refresh comes.
    pub idle_max: Duration,
    /// From the login to the session's end, whatever comes.
    pub absolute_max: Duration,
    /// For how long after a token was replaced presenting it again means that the answer was lost.
    pub repeat_max: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// The token was the good one; the session's new generation is the next one's number.
    Rotated(Session),
    /// The token was replaced a moment ago and its successor was not used yet: the session as it stands.
    Repeated(Session),
    /// The token was replaced before: somebody has a copy. The session was ended.
    Reused,
    UserMissing,
    UserInactive,
    Ended,
}

/// Whether a request may go on in a session's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionGate {
    Open,
    UserMissing,
    UserInactive,
    /// Revoked, expired, dropped for a newer one, another user's, or never there.
    Ended,
}

impl Session {
    /// Something random of the session that its tokens repeat. When a database is replaced by an older copy, numbers
    /// are given again; a token of the session that had the number before then opens nothing.
    #[must_use]
    pub fn binding(&self) -> u64 {
        binding_of(self.key.as_u128())
    }
}

/// The half of a random UUID that has 62 random bits.
pub(crate) fn binding_of(key: u128) -> u64 {
    key as u64
}

impl Store {
    /// [`Store::session_gate`] for a token that says `binding` of its session. Tokens of older versions say nothing;
    /// they open sessions that were there before tokens said it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn session_gate_of_token(
        &self,
        user: UserId,
        session: SessionId,
        binding: Option<u64>,
        now: Timestamp,
    ) -> Result<SessionGate, StoreError> {
        on_engine!(self, read session_gate_of_token(user, session, binding, now))
    }

    /// Whether the user's session is usable at `now`. The read of every request: two look-ups, no allocation
    /// beyond what the engine's cache does.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn session_gate(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<SessionGate, StoreError> {
        on_engine!(self, read session_gate(user, session, now))
    }

    /// A user's session, expired or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn session_get(&self, user: UserId, id: SessionId) -> Result<Option<Session>, StoreError> {
        on_engine!(self, read session_get(user, id))
    }

    /// A user's sessions, newest first, at most `limit`; with `before`, those that are older than it. Expired
    /// ones that were not purged yet are among them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn sessions_of(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        on_engine!(self, read sessions_of(user, before, limit))
    }

    /// Notes when sessions were last used, all in one change; says how many exist. An instant that is earlier
    /// than the known one changes nothing.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn session_touch_many(
        &self,
        touches: Vec<(UserId, SessionId, Timestamp)>,
    ) -> Result<usize, StoreError> {
        on_engine!(self, session_touch_many(touches).await)
    }

    /// Replaces a session's refresh token: what is good after it is the next generation. The token before the
    /// good one is taken as the repeat of a refresh whose answer was lost, as long as nobody has used the good
    /// one; any older one ends the session. A number that was not given out yet (the store was restored from an
    /// older copy) is refused and changes nothing.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn refresh_rotate(&self, draft: RefreshDraft) -> Result<RefreshOutcome, StoreError> {
        on_engine!(self, refresh_rotate(draft).await)
    }

    /// Ends one session of a user; false when the user has no such session.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn session_revoke(&self, user: UserId, id: SessionId) -> Result<bool, StoreError> {
        on_engine!(self, session_revoke(user, id).await)
    }

    /// Ends all sessions of a user but one; says which it ended.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn sessions_revoke_all(
        &self,
        user: UserId,
        except: Option<SessionId>,
    ) -> Result<Vec<SessionId>, StoreError> {
        on_engine!(self, sessions_revoke_all(user, except).await)
    }

    /// Walks on through the sessions, at most `limit` of them, and removes those that expired at or before `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and those of every change; the next call then starts over.
    pub async fn sessions_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        on_engine!(self, sessions_purge(now, limit).await)
    }
}
