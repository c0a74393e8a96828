//! Login sessions: looked up on every request, listed, touched, revoked, purged.
//!
//! A session exists or it does not: revoking removes it, so no path can forget to look at a flag. Invariants: a
//! session belongs to one user for ever, whose id is the first part of its key, so that no operation can reach a
//! session by its number alone; a user has at most as many sessions as the draft allows, the oldest goes first.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::engine::sled::agent::{AgentRef, Agents};
use crate::engine::sled::purge::PurgeStep;
use crate::engine::sled::record::{Record, decode, decode_head};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{error, keys};
use crate::login::user::UserRecord;
use crate::{SessionId, Store, StoreError, Timestamp, UserId};

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
        bytes.map(|bytes| Ok(decode::<SessionRecord>(&bytes)?.with_ids(user, id, &self.agents))).transpose()
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
        // Forwards, with the newest kept: going backwards looks for the engine's node anew at each step, and a user
        // has few sessions more than anybody lists.
        let mut newest = VecDeque::new();
        for entry in entries {
            let (key, value) = entry.map_err(error::read)?;
            if newest.len() >= limit {
                newest.pop_front();
            }
            newest.push_back((key, value));
        }
        let mut sessions = Vec::with_capacity(newest.len());
        for (key, value) in newest.into_iter().rev() {
            if let Some(id) = keys::session_id(&key) {
                sessions.push(decode::<SessionRecord>(&value)?.with_ids(user, id, &self.agents));
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

    /// Replaces a session's refresh token: what is good after it is the next generation. The token before the
    /// good one is taken as the repeat of a refresh whose answer was lost, as long as nobody has used the good
    /// one; any older one ends the session. A number that was not given out yet (the store was restored from an
    /// older copy) is refused and changes nothing.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn refresh_rotate(&self, draft: RefreshDraft) -> Result<RefreshOutcome, StoreError> {
        let agents = Arc::clone(&self.agents);
        self.change(move |txn| rotate(txn, &draft, &agents)).await
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
        self.change(move |txn| revoke_all(txn, user, except)).await
    }

    /// Walks on through the sessions, at most `limit` of them, and removes those that expired at or before `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and those of every change; the next call then starts over.
    pub async fn sessions_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        let due = move |bytes: &[u8]| Ok((decode_head::<SessionRecord, Timestamp>(bytes)? <= now).into());
        self.purge_step(keys::SESSIONS, &self.purge.sessions, limit, due).await
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Packed", into = "Packed")]
pub(crate) struct SessionRecord {
    expires_at: Timestamp,
    key: u128,
    created_at: Timestamp,
    last_seen_at: Timestamp,
    rotated_at: Timestamp,
    user_agent: AgentRef,
    ip_address: Option<IpAddr>,
    generation: u32,
}

/// As it is stored. Of the times only one is whole; distances are short numbers. They wrap, so that any times come back.
#[derive(Serialize, Deserialize)]
struct Packed {
    /// First, because every request reads it alone.
    expires_at: Timestamp,
    key: [u8; 16],
    /// Microseconds from the first time of each name to the second.
    created_to_expires: u64,
    created_to_seen: u64,
    created_to_rotated: u64,
    user_agent: AgentRef,
    ip_address: Option<IpAddr>,
    generation: u32,
}

impl From<SessionRecord> for Packed {
    fn from(record: SessionRecord) -> Packed {
        let since_creation = |at: Timestamp| at.as_micros().wrapping_sub(record.created_at.as_micros());
        Packed {
            expires_at: record.expires_at,
            key: record.key.to_be_bytes(),
            created_to_expires: since_creation(record.expires_at),
            created_to_seen: since_creation(record.last_seen_at),
            created_to_rotated: since_creation(record.rotated_at),
            user_agent: record.user_agent,
            ip_address: record.ip_address,
            generation: record.generation,
        }
    }
}

impl From<Packed> for SessionRecord {
    fn from(packed: Packed) -> SessionRecord {
        let created_at = packed.expires_at.as_micros().wrapping_sub(packed.created_to_expires);
        let after_creation = |micros: u64| Timestamp::from_micros(created_at.wrapping_add(micros));
        SessionRecord {
            expires_at: packed.expires_at,
            key: u128::from_be_bytes(packed.key),
            created_at: Timestamp::from_micros(created_at),
            last_seen_at: after_creation(packed.created_to_seen),
            rotated_at: after_creation(packed.created_to_rotated),
            user_agent: packed.user_agent,
            ip_address: packed.ip_address,
            generation: packed.generation,
        }
    }
}

/// Before user agents were stored once.
#[derive(Serialize, Deserialize)]
struct SessionRecord2 {
    expires_at: Timestamp,
    key: u128,
    created_at: Timestamp,
    last_seen_at: Timestamp,
    user_agent: String,
    ip_address: String,
    generation: u32,
    rotated_at: Timestamp,
}

/// Before refresh tokens were replaced.
#[derive(Serialize, Deserialize)]
struct SessionRecord1 {
    expires_at: Timestamp,
    key: u128,
    created_at: Timestamp,
    last_seen_at: Timestamp,
    user_agent: String,
    ip_address: String,
}

impl Record for SessionRecord {
    const KIND: &'static str = "session";
    const SCHEMA: u8 = 3;
    const SCHEMA_OLDEST: u8 = 1;

    fn decode_older(schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        let old: SessionRecord2 = if schema == 1 {
            let old: SessionRecord1 = postcard::from_bytes(body)?;
            SessionRecord2 {
                expires_at: old.expires_at,
                key: old.key,
                created_at: old.created_at,
                last_seen_at: old.last_seen_at,
                user_agent: old.user_agent,
                ip_address: old.ip_address,
                generation: 0,
                rotated_at: old.created_at,
            }
        } else {
            postcard::from_bytes(body)?
        };
        Ok(SessionRecord {
            expires_at: old.expires_at,
            key: old.key,
            created_at: old.created_at,
            last_seen_at: old.last_seen_at,
            rotated_at: old.rotated_at,
            user_agent: AgentRef::Text(old.user_agent.into()),
            ip_address: old.ip_address.parse().ok(),
            generation: old.generation,
        })
    }
}

impl SessionRecord {
    fn with_ids(self, user: UserId, id: SessionId, agents: &Agents) -> Session {
        Session {
            id,
            user,
            key: Uuid::from_u128(self.key),
            user_agent: agents.text(self.user_agent),
            ip_address: self.ip_address,
            created_at: self.created_at,
            last_seen_at: self.last_seen_at,
            expires_at: self.expires_at,
            generation: self.generation,
            rotated_at: self.rotated_at,
        }
    }
}

/// A session to be opened, with its user agent as the record names it.
pub(crate) struct SessionSeed {
    draft: SessionDraft,
    user_agent: AgentRef,
    agents: Arc<Agents>,
}

impl Store {
    /// Prepares what a change opens a session with.
    pub(crate) fn session_seed(&self, draft: SessionDraft) -> SessionSeed {
        let user_agent = self.agents.name(&draft.user_agent);
        SessionSeed { draft, user_agent, agents: Arc::clone(&self.agents) }
    }
}

/// Opens a session within a change, and ends the oldest ones of the user beyond the draft's bound; says which. A new
/// user has none.
pub(crate) fn create(
    txn: &mut Txn,
    user: UserId,
    new_user: bool,
    seed: SessionSeed,
    now: Timestamp,
) -> Result<(Session, Vec<SessionId>), StoreError> {
    let SessionSeed { draft, user_agent, agents } = seed;
    let others_max = draft.per_user_max.max(1) - 1;
    // A bound that was lowered is reached in steps of 64 a login, so that no login pays for all of it.
    let existing = match new_user {
        true => Vec::new(),
        false => txn.scan(&keys::sessions(user), others_max.saturating_add(64))?,
    };
    let surplus = existing.len().saturating_sub(others_max);
    let mut ended = Vec::new();
    for (key, _) in existing.into_iter().take(surplus) {
        ended.extend(keys::session_id(&key));
        txn.delete(key);
    }

    let id = SessionId(txn.next(keys::SESSION_SEQUENCE)?);
    let record = SessionRecord {
        expires_at: draft.expires_at,
        key: draft.key.as_u128(),
        created_at: now,
        last_seen_at: now,
        rotated_at: now,
        user_agent,
        ip_address: draft.ip_address,
        generation: 0,
    };
    txn.put_record(keys::session(user, id), &record);
    Ok((record.with_ids(user, id, &agents), ended))
}

fn rotate(txn: &mut Txn, draft: &RefreshDraft, agents: &Agents) -> Result<RefreshOutcome, StoreError> {
    let RefreshDraft { user, session: id, now, .. } = *draft;
    let Some(bytes) = txn.get(&keys::user(user))? else { return Ok(RefreshOutcome::UserMissing) };
    if !decode_head::<UserRecord, bool>(&bytes)? {
        return Ok(RefreshOutcome::UserInactive);
    }
    let key = keys::session(user, id);
    let Some(mut record) = txn.get_record::<SessionRecord>(&key)? else { return Ok(RefreshOutcome::Ended) };
    let ends_at = record.created_at.plus(draft.absolute_max);
    if record.expires_at <= now || ends_at <= now || record.generation < draft.generation {
        return Ok(RefreshOutcome::Ended);
    }
    if record.generation == draft.generation {
        record.generation += 1;
        record.rotated_at = now;
        record.last_seen_at = record.last_seen_at.max(now);
        record.expires_at = now.plus(draft.idle_max).min(ends_at);
        txn.put_record(key, &record);
        return Ok(RefreshOutcome::Rotated(record.with_ids(user, id, agents)));
    }
    if record.generation == draft.generation + 1 && now.since(record.rotated_at) <= draft.repeat_max {
        return Ok(RefreshOutcome::Repeated(record.with_ids(user, id, agents)));
    }
    txn.delete(key);
    Ok(RefreshOutcome::Reused)
}

pub(crate) fn revoke_all(
    txn: &mut Txn,
    user: UserId,
    except: Option<SessionId>,
) -> Result<Vec<SessionId>, StoreError> {
    let mut ended = Vec::new();
    // As many as the bound per user allows: every login keeps to it.
    for (key, _) in txn.scan(&keys::sessions(user), usize::MAX)? {
        if except.is_none() || keys::session_id(&key) != except {
            ended.extend(keys::session_id(&key));
            txn.delete(key);
        }
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sled::record::encode;

    impl Record for SessionRecord1 {
        const KIND: &'static str = "session";
        const SCHEMA: u8 = 1;
    }

    impl Record for SessionRecord2 {
        const KIND: &'static str = "session";
        const SCHEMA: u8 = 2;
    }

    fn secs(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn sessions_of_the_versions_before_are_read() {
        let (key, user_agent, ip_address) = (u128::MAX - 5, "curl/8".to_owned(), "192.0.2.1".to_owned());
        let first = encode(&SessionRecord1 {
            expires_at: secs(90),
            key,
            created_at: secs(10),
            last_seen_at: secs(20),
            user_agent: user_agent.clone(),
            ip_address: String::new(),
        });
        let second = encode(&SessionRecord2 {
            expires_at: secs(90),
            key,
            created_at: secs(10),
            last_seen_at: secs(20),
            user_agent,
            ip_address,
            generation: 7,
            rotated_at: secs(15),
        });
        for (bytes, generation, rotated_at, ip) in
            [(first, 0, secs(10), None), (second, 7, secs(15), "192.0.2.1".parse().ok())]
        {
            let record = decode::<SessionRecord>(&bytes).unwrap();
            let session = record.with_ids(UserId(1), SessionId(2), &Agents::default());
            assert_eq!((session.key.as_u128(), &*session.user_agent), (key, "curl/8"));
            assert_eq!((session.created_at, session.last_seen_at), (secs(10), secs(20)));
            assert_eq!((session.expires_at, session.rotated_at), (secs(90), rotated_at));
            assert_eq!((session.generation, session.ip_address), (generation, ip));
            assert_eq!(decode_head::<SessionRecord, Timestamp>(&bytes).unwrap(), secs(90));
        }
    }

    #[test]
    fn any_times_come_back_and_usual_ones_are_short() {
        let record = |expires, created, seen, rotated| SessionRecord {
            expires_at: Timestamp::from_micros(expires),
            key: 1,
            created_at: Timestamp::from_micros(created),
            last_seen_at: Timestamp::from_micros(seen),
            rotated_at: Timestamp::from_micros(rotated),
            user_agent: AgentRef::Number(3),
            ip_address: "192.0.2.1".parse().ok(),
            generation: 0,
        };
        let month = 30 * 86_400 * 1_000_000;
        let now = 1_800_000_000_000_000;
        for (expires, created, seen, rotated) in
            [(now + month, now, now, now), (5, 9, 0, u64::MAX), (u64::MAX, 0, 1, 2), (0, u64::MAX, 7, 7)]
        {
            let bytes = encode(&record(expires, created, seen, rotated));
            let back = decode::<SessionRecord>(&bytes).unwrap();
            assert_eq!(encode(&back), bytes);
            let times = [back.expires_at, back.created_at, back.last_seen_at, back.rotated_at];
            assert_eq!(times.map(Timestamp::as_micros), [expires, created, seen, rotated]);
            assert_eq!(decode_head::<SessionRecord, Timestamp>(&bytes).unwrap().as_micros(), expires);
        }
        assert_eq!(encode(&record(now + month, now, now, now)).len(), 42);
    }
}
