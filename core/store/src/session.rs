//! Login sessions: looked up on every request, listed, touched, revoked, purged.
//!
//! A session exists or it does not: revoking removes it, so no path can forget to look at a flag. Invariants: a
//! session belongs to one user for ever, whose id is the first part of its key, so that no operation can reach a
//! session by its number alone; a user has at most as many sessions as the draft allows, the oldest goes first.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::purge::PurgeStep;
use crate::record::{Record, decode, decode_head};
use crate::txn::Txn;
use crate::user::UserRecord;
use crate::{SessionId, Store, StoreError, Timestamp, UserId, error, keys};

/// What the caller knows of a session before it exists.
#[derive(Debug, Clone)]
pub struct SessionDraft {
    /// Public name that clients see; not a credential.
    pub key: Uuid,
    /// From this instant on the session is refused.
    pub expires_at: Timestamp,
    /// As the client sent it, cut to a bounded length by the caller.
    pub user_agent: String,
    /// The client's address as text, empty when not known.
    pub ip_address: String,
    /// Sessions the user may have, this one included, at least 1; the oldest ones beyond it are ended.
    pub per_user_max: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    pub key: Uuid,
    pub user_agent: String,
    pub ip_address: String,
    pub created_at: Timestamp,
    pub last_seen_at: Timestamp,
    pub expires_at: Timestamp,
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

impl Store {
    /// Whether the user's session is usable at `now`. The read of every request: two look-ups, no allocation
    /// beyond what the engine's cache does.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn session_gate(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<SessionGate, StoreError> {
        let Some(bytes) = self.tree.get(keys::user(user)).map_err(error::read)? else {
            return Ok(SessionGate::UserMissing);
        };
        if !decode_head::<UserRecord, bool>(&bytes)? {
            return Ok(SessionGate::UserInactive);
        }
        let Some(bytes) = self.tree.get(keys::session(user, session)).map_err(error::read)? else {
            return Ok(SessionGate::Ended);
        };
        let expires_at: Timestamp = decode_head::<SessionRecord, _>(&bytes)?;
        Ok(if now < expires_at { SessionGate::Open } else { SessionGate::Ended })
    }

    /// A user's session, expired or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn session_get(&self, user: UserId, id: SessionId) -> Result<Option<Session>, StoreError> {
        let bytes = self.tree.get(keys::session(user, id)).map_err(error::read)?;
        bytes.map(|bytes| Ok(decode::<SessionRecord>(&bytes)?.with_ids(user, id))).transpose()
    }

    /// A user's sessions, newest first, at most `limit`; with `before`, those that are older than it. Expired
    /// ones that were not purged yet are among them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn sessions_of(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        let first = keys::session(user, SessionId(0));
        let entries = match before {
            Some(before) => self.tree.range(first..keys::session(user, before)),
            None => self.tree.range(first..=keys::session(user, SessionId(u64::MAX))),
        };
        let mut sessions = Vec::new();
        for entry in entries.rev().take(limit) {
            let (key, value) = entry.map_err(error::read)?;
            if let Some(id) = keys::session_id(&key) {
                sessions.push(decode::<SessionRecord>(&value)?.with_ids(user, id));
            }
        }
        Ok(sessions)
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
        self.change(move |txn| {
            let mut known = 0;
            for (user, id, at) in touches {
                let key = keys::session(user, id);
                let Some(mut record) = txn.get_record::<SessionRecord>(&key)? else { continue };
                known += 1;
                if record.last_seen_at < at {
                    record.last_seen_at = at;
                    txn.put_record(key, &record);
                }
            }
            Ok(known)
        })
        .await
    }

    /// Ends one session of a user; false when the user has no such session.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn session_revoke(&self, user: UserId, id: SessionId) -> Result<bool, StoreError> {
        self.change(move |txn| {
            let key = keys::session(user, id);
            let found = txn.get(&key)?.is_some();
            if found {
                txn.delete(key);
            }
            Ok(found)
        })
        .await
    }

    /// Ends all sessions of a user but one; says how many it ended.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn sessions_revoke_all(
        &self,
        user: UserId,
        except: Option<SessionId>,
    ) -> Result<usize, StoreError> {
        self.change(move |txn| revoke_all(txn, user, except)).await
    }

    /// Walks on through the sessions, at most `limit` of them, and removes those that expired at or before `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and those of every change; the next call then starts over.
    pub async fn sessions_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        let due = move |bytes: &[u8]| Ok(decode_head::<SessionRecord, Timestamp>(bytes)? <= now);
        self.purge_step(keys::SESSIONS, &self.purge.sessions, limit, due).await
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    /// First, because every request reads it alone.
    expires_at: Timestamp,
    key: u128,
    created_at: Timestamp,
    last_seen_at: Timestamp,
    user_agent: String,
    ip_address: String,
}

impl Record for SessionRecord {
    const KIND: &'static str = "session";
    const SCHEMA: u8 = 1;
}

impl SessionRecord {
    fn with_ids(self, user: UserId, id: SessionId) -> Session {
        Session {
            id,
            user,
            key: Uuid::from_u128(self.key),
            user_agent: self.user_agent,
            ip_address: self.ip_address,
            created_at: self.created_at,
            last_seen_at: self.last_seen_at,
            expires_at: self.expires_at,
        }
    }
}

/// Opens a session within a change, and ends the oldest ones of the user beyond the draft's bound.
pub(crate) fn create(
    txn: &mut Txn,
    user: UserId,
    draft: SessionDraft,
    now: Timestamp,
) -> Result<Session, StoreError> {
    let others_max = draft.per_user_max.max(1) - 1;
    // A bound that was lowered is reached in steps of 64 a login, so that no login pays for all of it.
    let existing = txn.scan(&keys::sessions(user), others_max.saturating_add(64))?;
    let surplus = existing.len().saturating_sub(others_max);
    for (key, _) in existing.into_iter().take(surplus) {
        txn.delete(key);
    }

    let id = SessionId(txn.next(keys::SESSION_SEQUENCE)?);
    let record = SessionRecord {
        expires_at: draft.expires_at,
        key: draft.key.as_u128(),
        created_at: now,
        last_seen_at: now,
        user_agent: draft.user_agent,
        ip_address: draft.ip_address,
    };
    txn.put_record(keys::session(user, id), &record);
    Ok(record.with_ids(user, id))
}

pub(crate) fn revoke_all(
    txn: &mut Txn,
    user: UserId,
    except: Option<SessionId>,
) -> Result<usize, StoreError> {
    let mut ended = 0;
    // As many as the bound per user allows: every login keeps to it.
    for (key, _) in txn.scan(&keys::sessions(user), usize::MAX)? {
        if except.is_none() || keys::session_id(&key) != except {
            txn.delete(key);
            ended += 1;
        }
    }
    Ok(ended)
}
