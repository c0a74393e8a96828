//! The operations of this folder, in sled statements.

mod record;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::sled::agent::{AgentRef, Agents};
use crate::engine::sled::record::{decode, decode_head};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error, keys};
use crate::login::session::sled::record::SessionHead;
pub(crate) use crate::login::session::sled::record::SessionRecord;
use crate::login::session::{
    Life, Refresh, RefreshDraft, RefreshOutcome, Session, SessionDraft, SessionGate, binding_of,
};
use crate::login::sled::user::UserRecord;
use crate::{PurgeStep, SessionId, StoreError, Timestamp, UserId};

impl Sled {
    pub(crate) fn session_gate(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<SessionGate, StoreError> {
        let bytes = match self.session_bytes(user, session)? {
            Ok(bytes) => bytes,
            Err(closed) => return Ok(closed),
        };
        let expires_at: Timestamp = decode_head::<SessionRecord, _>(&bytes)?;
        Ok(if now < expires_at { SessionGate::Open } else { SessionGate::Ended })
    }

    pub(crate) fn sessions_open(
        &self,
        asked: &[(UserId, SessionId)],
        now: Timestamp,
    ) -> Result<Vec<bool>, StoreError> {
        let open = |(user, session): &(UserId, SessionId)| self.session_gate(*user, *session, now);
        asked.iter().map(|asked| Ok(open(asked)? == SessionGate::Open)).collect()
    }

    /// The bytes of a session of an active user, or why there is none.
    fn session_bytes(
        &self,
        user: UserId,
        session: SessionId,
    ) -> Result<Result<sled::IVec, SessionGate>, StoreError> {
        let Some(bytes) = self.tree.get(keys::user(user)).map_err(error::read)? else {
            return Ok(Err(SessionGate::UserMissing));
        };
        if !decode_head::<UserRecord, bool>(&bytes)? {
            return Ok(Err(SessionGate::UserInactive));
        }
        let Some(bytes) = self.tree.get(keys::session(user, session)).map_err(error::read)? else {
            return Ok(Err(SessionGate::Ended));
        };
        Ok(Ok(bytes))
    }

    pub(crate) fn session_gate_of_token(
        &self,
        user: UserId,
        session: SessionId,
        binding: Option<u64>,
        now: Timestamp,
    ) -> Result<SessionGate, StoreError> {
        let bytes = match self.session_bytes(user, session)? {
            Ok(bytes) => bytes,
            Err(closed) => return Ok(closed),
        };
        let head = SessionHead::read(&bytes)?;
        let opens = now < head.expires_at && may_open(session, head.key, binding, self.unbound_up_to);
        Ok(if opens { SessionGate::Open } else { SessionGate::Ended })
    }

    pub(crate) fn session_get(&self, user: UserId, id: SessionId) -> Result<Option<Session>, StoreError> {
        let bytes = self.tree.get(keys::session(user, id)).map_err(error::read)?;
        bytes.map(|bytes| Ok(decode::<SessionRecord>(&bytes)?.with_ids(user, id, &self.agents))).transpose()
    }

    pub(crate) fn sessions_of(
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
        // Forwards, keeping the newest: going backwards makes the engine search its node at each step, and a user has
        // only a few sessions more than a list shows.
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

    pub(crate) fn sessions_before(
        &self,
        before: Option<(UserId, SessionId)>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        let (user, session) = before.unwrap_or((UserId(u64::MAX), SessionId(u64::MAX)));
        let range = keys::session(UserId(0), SessionId(0))..keys::session(user, session);
        let mut sessions = Vec::new();
        for entry in self.tree.range(range).rev().take(limit) {
            let (key, value) = entry.map_err(error::read)?;
            if let (Some(user), Some(id)) = (keys::session_user(&key), keys::session_id(&key)) {
                sessions.push(decode::<SessionRecord>(&value)?.with_ids(user, id, &self.agents));
            }
        }
        Ok(sessions)
    }

    pub(crate) async fn session_touch_many(
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

    pub(crate) async fn refresh_rotate(&self, draft: RefreshDraft) -> Result<RefreshOutcome, StoreError> {
        let agents = Arc::clone(&self.agents);
        let unbound_up_to = self.unbound_up_to;
        self.change(move |txn| rotate(txn, &draft, &agents, unbound_up_to)).await
    }

    pub(crate) async fn session_revoke(&self, user: UserId, id: SessionId) -> Result<bool, StoreError> {
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

    pub(crate) async fn sessions_revoke_all(
        &self,
        user: UserId,
        except: Option<SessionId>,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.change(move |txn| revoke_all(txn, user, except)).await
    }

    pub(crate) async fn sessions_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        let due = move |bytes: &[u8]| Ok((decode_head::<SessionRecord, Timestamp>(bytes)? <= now).into());
        self.purge_step(keys::SESSIONS, &self.purge.sessions, limit, due).await
    }
}

/// A session to open, with the record's reference to its user agent.
pub(crate) struct SessionSeed {
    draft: SessionDraft,
    user_agent: AgentRef,
    agents: Arc<Agents>,
}

impl Sled {
    /// Prepares a session for a change.
    pub(crate) fn session_seed(&self, draft: SessionDraft) -> SessionSeed {
        let user_agent = self.agents.name(&draft.user_agent);
        SessionSeed { draft, user_agent, agents: Arc::clone(&self.agents) }
    }
}

/// Opens a session within a change, and ends the user's oldest ones beyond the draft's limit; returns those. A new
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
    // A lowered limit is reached in steps of 64 per login, so no login pays for all of it.
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
        device_name: draft.device_name,
    };
    txn.put_record(keys::session(user, id), &record);
    Ok((record.with_ids(user, id, &agents), ended))
}

/// Returns true when a token with this binding belongs to the session that now has the number.
fn may_open(session: SessionId, key: u128, binding: Option<u64>, unbound_up_to: SessionId) -> bool {
    match binding {
        Some(binding) => binding == binding_of(key),
        None => session <= unbound_up_to,
    }
}

fn rotate(
    txn: &mut Txn,
    draft: &RefreshDraft,
    agents: &Agents,
    unbound_up_to: SessionId,
) -> Result<RefreshOutcome, StoreError> {
    let RefreshDraft { user, session: id, .. } = *draft;
    let Some(bytes) = txn.get(&keys::user(user))? else { return Ok(RefreshOutcome::UserMissing) };
    if !decode_head::<UserRecord, bool>(&bytes)? {
        return Ok(RefreshOutcome::UserInactive);
    }
    let key = keys::session(user, id);
    let Some(record) = txn.get_record::<SessionRecord>(&key)? else { return Ok(RefreshOutcome::Ended) };
    if !may_open(id, record.key, draft.binding, unbound_up_to) {
        return Ok(RefreshOutcome::Ended);
    }
    let mut life = Life {
        created_at: record.created_at,
        last_seen_at: record.last_seen_at,
        rotated_at: record.rotated_at,
        expires_at: record.expires_at,
        generation: record.generation,
    };
    match life.refresh(draft) {
        Refresh::Rotated => {
            let Life { last_seen_at, rotated_at, expires_at, generation, .. } = life;
            let next = SessionRecord { last_seen_at, rotated_at, expires_at, generation, ..record };
            txn.put_record(key, &next);
            Ok(RefreshOutcome::Rotated(next.with_ids(user, id, agents)))
        }
        Refresh::Repeated => Ok(RefreshOutcome::Repeated(record.with_ids(user, id, agents))),
        Refresh::Reused => {
            txn.delete(key);
            Ok(RefreshOutcome::Reused)
        }
        Refresh::Ended => Ok(RefreshOutcome::Ended),
    }
}

pub(crate) fn revoke_all(
    txn: &mut Txn,
    user: UserId,
    except: Option<SessionId>,
) -> Result<Vec<SessionId>, StoreError> {
    let mut ended = Vec::new();
    // The limit per user bounds this scan; every login enforces it.
    for (key, _) in txn.scan(&keys::sessions(user), usize::MAX)? {
        if except.is_none() || keys::session_id(&key) != except {
            ended.extend(keys::session_id(&key));
            txn.delete(key);
        }
    }
    // Whoever had the account may have had its console.
    crate::operator::console::sled::end_all(txn, user)?;
    Ok(ended)
}
