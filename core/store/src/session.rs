//! Login sessions: looked up on every request, listed, touched, revoked, purged.
//!
//! A session exists or it does not: revoking removes it, so no path can forget to look at a flag. Invariants: a
//! session belongs to one user for ever; the record and its two index entries (by user, by expiry) are written
//! and removed in one change; a user has at most as many sessions as the draft allows, the oldest goes first.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::challenge::expired_before;
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
        let Some(bytes) = self.tree.get(keys::session(session)).map_err(error::read)? else {
            return Ok(SessionGate::Ended);
        };
        let head: SessionHead = decode_head::<SessionRecord, _>(&bytes)?;
        Ok(if head.user == user && now < head.expires_at { SessionGate::Open } else { SessionGate::Ended })
    }

    /// A session, expired or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn session_get(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let bytes = self.tree.get(keys::session(id)).map_err(error::read)?;
        bytes.map(|bytes| Ok(decode::<SessionRecord>(&bytes)?.with_id(id))).transpose()
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
        let first = keys::user_session(user, SessionId(0));
        let entries = match before {
            Some(before) => self.tree.range(first..keys::user_session(user, before)),
            None => self.tree.range(first..=keys::user_session(user, SessionId(u64::MAX))),
        };
        let mut sessions = Vec::new();
        for entry in entries.rev() {
            if sessions.len() >= limit {
                break;
            }
            let (key, _) = entry.map_err(error::read)?;
            // A session that is revoked meanwhile is gone while its index entry was still seen.
            if let Some(id) = keys::last_session(&key)
                && let Some(session) = self.session_get(id)?
            {
                sessions.push(session);
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
        touches: Vec<(SessionId, Timestamp)>,
    ) -> Result<usize, StoreError> {
        self.change(move |txn| {
            let mut known = 0;
            for (id, at) in touches {
                let key = keys::session(id);
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
            let Some(record) = txn.get_record::<SessionRecord>(&keys::session(id))? else {
                return Ok(false);
            };
            if record.head.user != user {
                return Ok(false);
            }
            remove(txn, id, record.head);
            Ok(true)
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

    /// Removes sessions that expired at or before `now`, at most `limit`; says how many it removed.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn sessions_purge(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        if !expired_before(&self.tree, keys::SESSION_EXPIRY, now)? {
            return Ok(0);
        }
        self.change(move |txn| {
            let mut removed = 0;
            for (key, _) in txn.scan(keys::SESSION_EXPIRY, limit)? {
                if keys::expiry(&key).is_none_or(|(expires_at, _)| expires_at > now) {
                    break;
                }
                if let Some(id) = keys::last_session(&key)
                    && let Some(record) = txn.get_record::<SessionRecord>(&keys::session(id))?
                {
                    remove(txn, id, record.head);
                }
                txn.delete(key);
                removed += 1;
            }
            Ok(removed)
        })
        .await
    }
}

/// What every request needs of a session; the first field of the record, so that it is read alone.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct SessionHead {
    user: UserId,
    expires_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    head: SessionHead,
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
    fn with_id(self, id: SessionId) -> Session {
        Session {
            id,
            user: self.head.user,
            key: Uuid::from_u128(self.key),
            user_agent: self.user_agent,
            ip_address: self.ip_address,
            created_at: self.created_at,
            last_seen_at: self.last_seen_at,
            expires_at: self.head.expires_at,
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
    let existing = txn.scan(&keys::user_sessions(user), others_max.saturating_add(64))?;
    let surplus = existing.len().saturating_sub(others_max);
    for (key, _) in &existing[..surplus] {
        if let Some(id) = keys::last_session(key)
            && let Some(record) = txn.get_record::<SessionRecord>(&keys::session(id))?
        {
            remove(txn, id, record.head);
        }
    }

    let id = SessionId(txn.next(keys::SESSION_SEQUENCE)?);
    let head = SessionHead { user, expires_at: draft.expires_at };
    let record = SessionRecord {
        head,
        key: draft.key.as_u128(),
        created_at: now,
        last_seen_at: now,
        user_agent: draft.user_agent,
        ip_address: draft.ip_address,
    };
    txn.put_record(keys::session(id), &record);
    txn.put(keys::user_session(user, id), Default::default());
    txn.put(keys::session_expiry(head.expires_at, id), Default::default());
    Ok(record.with_id(id))
}

pub(crate) fn revoke_all(
    txn: &mut Txn,
    user: UserId,
    except: Option<SessionId>,
) -> Result<usize, StoreError> {
    let mut ended = 0;
    // As many as the bound per user allows: every login keeps to it.
    for (key, _) in txn.scan(&keys::user_sessions(user), usize::MAX)? {
        let Some(id) = keys::last_session(&key).filter(|id| Some(*id) != except) else { continue };
        if let Some(record) = txn.get_record::<SessionRecord>(&keys::session(id))? {
            remove(txn, id, record.head);
            ended += 1;
        }
    }
    Ok(ended)
}

fn remove(txn: &mut Txn, id: SessionId, head: SessionHead) {
    txn.delete(keys::session(id));
    txn.delete(keys::user_session(head.user, id));
    txn.delete(keys::session_expiry(head.expires_at, id));
}
