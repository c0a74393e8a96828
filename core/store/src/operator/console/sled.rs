//! The operations of this folder, in sled statements.

use serde::{Deserialize, Serialize};

use crate::engine::sled::keys::console as keys;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::operator::console::{
    CONSOLE_SESSIONS_MAX, ConsoleDraft, ConsoleProof, ConsoleSession, OperatorChange, OperatorRecord,
};
use crate::{StoreError, Timestamp, UserId};

impl Record for OperatorRecord {
    const KIND: &'static str = "operator";
    const SCHEMA: u8 = 1;
}

impl Record for ConsoleSession {
    const KIND: &'static str = "console session";
    const SCHEMA: u8 = 1;
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) hash: [u8; 32],
    pub(crate) expires_at: Timestamp,
}

impl Record for Link {
    const KIND: &'static str = "console link";
    const SCHEMA: u8 = 1;
}

impl Sled {
    pub(crate) fn operator_get(&self, user: UserId) -> Result<Option<OperatorRecord>, StoreError> {
        self.record(&keys::operator(user))
    }

    pub(crate) fn operators(&self) -> Result<Vec<OperatorRecord>, StoreError> {
        let entries = self.tree.scan_prefix(keys::OPERATORS);
        entries.map(|entry| decode(&entry.map_err(error::read)?.1)).collect()
    }

    pub(crate) async fn operator_change(
        &self,
        user: UserId,
        change: OperatorChange,
    ) -> Result<Option<OperatorRecord>, StoreError> {
        self.change(move |txn| {
            let before = txn.get_record::<OperatorRecord>(&keys::operator(user))?;
            let mut record = before.clone().unwrap_or_else(|| OperatorRecord::new(user));
            let ends = record.change(change);
            txn.put_record(keys::operator(user), &record);
            if ends {
                end_all(txn, user)?;
            }
            Ok(before)
        })
        .await
    }

    pub(crate) async fn console_link_put(
        &self,
        user: UserId,
        hash: [u8; 32],
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.change(move |txn| {
            txn.put_record(keys::link(user), &Link { hash, expires_at });
            Ok(())
        })
        .await
    }

    pub(crate) async fn console_open(
        &self,
        draft: ConsoleDraft,
    ) -> Result<Option<ConsoleSession>, StoreError> {
        self.change(move |txn| {
            if !use_up(txn, &draft)? {
                return Ok(None);
            }
            let ConsoleDraft { user, proof, hash, now, expires_at, ip_address, user_agent } = draft;
            // Expired sessions make room first, then the oldest.
            let mut kept = Vec::new();
            for (key, value) in txn.scan(&keys::sessions(user), usize::MAX)? {
                let session: ConsoleSession = decode(&value)?;
                if session.expires_at <= now {
                    txn.delete(key);
                } else {
                    kept.push((session.id, key));
                }
            }
            kept.sort_unstable_by_key(|(id, _)| *id);
            let surplus = (kept.len() + 1).saturating_sub(CONSOLE_SESSIONS_MAX);
            for (_, key) in kept.into_iter().take(surplus) {
                txn.delete(key);
            }
            let id = txn.next(keys::SESSION_SEQUENCE)?;
            let by_link = matches!(proof, ConsoleProof::Link(_));
            let session = ConsoleSession {
                user,
                id,
                created_at: now,
                last_seen_at: now,
                expires_at,
                ip_address,
                user_agent,
                by_link,
            };
            txn.put_record(keys::session(user, &hash), &session);
            Ok(Some(session))
        })
        .await
    }

    pub(crate) fn console_session(
        &self,
        user: UserId,
        hash: [u8; 32],
    ) -> Result<Option<ConsoleSession>, StoreError> {
        self.record(&keys::session(user, &hash))
    }

    pub(crate) async fn console_touch(
        &self,
        user: UserId,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.change(move |txn| {
            let key = keys::session(user, &hash);
            if let Some(mut session) = txn.get_record::<ConsoleSession>(&key)? {
                session.last_seen_at = session.last_seen_at.max(now);
                txn.put_record(key, &session);
            }
            Ok(())
        })
        .await
    }

    pub(crate) fn console_sessions(&self, user: UserId) -> Result<Vec<ConsoleSession>, StoreError> {
        let entries = self.tree.scan_prefix(keys::sessions(user));
        let mut sessions: Vec<ConsoleSession> =
            entries.map(|entry| decode(&entry.map_err(error::read)?.1)).collect::<Result<_, StoreError>>()?;
        sessions.sort_unstable_by_key(|session| session.id);
        Ok(sessions)
    }

    pub(crate) async fn console_end(
        &self,
        user: UserId,
        id: Option<u64>,
        except: Option<u64>,
    ) -> Result<usize, StoreError> {
        self.change(move |txn| {
            let mut ended = 0;
            for (key, value) in txn.scan(&keys::sessions(user), usize::MAX)? {
                let session: ConsoleSession = decode(&value)?;
                if id.is_none_or(|id| id == session.id) && except != Some(session.id) {
                    txn.delete(key);
                    ended += 1;
                }
            }
            Ok(ended)
        })
        .await
    }
}

/// Uses a proof up; false when it is wrong, expired or used.
fn use_up(txn: &mut Txn, draft: &ConsoleDraft) -> Result<bool, StoreError> {
    let user = draft.user;
    if let ConsoleProof::Link(hash) = &draft.proof {
        let link = txn.get_record::<Link>(&keys::link(user))?;
        let fits = link.is_some_and(|link| link.hash == *hash && draft.now < link.expires_at);
        if fits {
            txn.delete(keys::link(user));
        }
        return Ok(fits);
    }
    let Some(mut record) = txn.get_record::<OperatorRecord>(&keys::operator(user))? else { return Ok(false) };
    if !record.factor.as_mut().is_some_and(|factor| factor.use_up(&draft.proof)) {
        return Ok(false);
    }
    txn.put_record(keys::operator(user), &record);
    Ok(true)
}

/// Ends the sessions of an operator and forgets an unused link.
pub(crate) fn end_all(txn: &mut Txn, user: UserId) -> Result<(), StoreError> {
    for (key, _) in txn.scan(&keys::sessions(user), usize::MAX)? {
        txn.delete(key);
    }
    if txn.get(&keys::link(user))?.is_some() {
        txn.delete(keys::link(user));
    }
    Ok(())
}
