//! The audit log: what happened to accounts, sessions, keys and the configuration, newest kept, oldest dropped.
//!
//! Entries are numbered from 1 without gaps and never changed; writing past the bound removes the oldest in the
//! same change, so that the log never holds more than it may, and a bound that was lowered is reached while
//! writing. Entries hold what people may read: no code, token or key, and numbers and names masked by the caller.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::record::{Record, decode};
use crate::{SessionId, Store, StoreError, Timestamp, UserId, error, keys};

/// What is written. `user` is who it happened to, `actor` whoever did it when that is somebody else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditDraft {
    pub at: Timestamp,
    /// `noun_verb`, from a fixed list.
    pub event: String,
    pub user: Option<UserId>,
    pub session: Option<SessionId>,
    /// The client's address; empty when there is none.
    pub ip_address: String,
    /// A masked number or name, a provider's or a file's name.
    pub subject: String,
    /// A sentence or a few words.
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub id: u64,
    pub draft: AuditDraft,
}

/// Which entries are wanted.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Entries older than this one, newest first.
    pub before: Option<u64>,
    /// Entries newer than this one; the oldest of them, newest first. Not together with `before`.
    pub after: Option<u64>,
    pub event: Option<String>,
    pub user: Option<UserId>,
    /// Entries given at most.
    pub limit: usize,
    /// Entries looked at at most.
    pub look_max: usize,
}

/// A page, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    pub entries: Vec<AuditEntry>,
    /// The last entry that was looked at, when there are more behind it in the direction of the query.
    pub more_at: Option<u64>,
}

impl Store {
    /// Appends entries, and removes the oldest beyond `keep`.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn audit_append(&self, drafts: Vec<AuditDraft>, keep: u64) -> Result<(), StoreError> {
        self.change(move |txn| {
            let mut last = 0;
            let added = drafts.len();
            for draft in drafts {
                last = txn.next(keys::AUDIT_SEQUENCE)?;
                txn.put_record(keys::audit(last), &AuditRecord(draft));
            }
            // As many as were added, and some more while the bound is lower than it was.
            for (key, _) in txn.scan(keys::AUDIT, added + 64)? {
                match keys::audit_id(&key) {
                    Some(id) if id + keep.max(1) <= last => txn.delete(key),
                    _ => break,
                }
            }
            Ok(())
        })
        .await
    }

    /// One page of the log.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn audit_page(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        let first = match query.after {
            Some(after) => Bound::Excluded(keys::audit(after)),
            None => Bound::Included(keys::audit(0)),
        };
        let last = match query.before {
            Some(before) => Bound::Excluded(keys::audit(before)),
            None => Bound::Included(keys::audit(u64::MAX)),
        };
        let range = self.tree.range((first, last));
        let mut walk: Box<dyn Iterator<Item = _>> = match query.after {
            Some(_) => Box::new(range),
            None => Box::new(range.rev()),
        };
        let mut page = AuditPage { entries: Vec::new(), more_at: None };
        let mut looked_at = None;
        for looked in 0.. {
            let Some(entry) = walk.next() else { break };
            if page.entries.len() == query.limit || looked == query.look_max {
                page.more_at = looked_at;
                break;
            }
            let (key, value) = entry.map_err(error::read)?;
            let Some(id) = keys::audit_id(&key) else { continue };
            looked_at = Some(id);
            let AuditRecord(draft) = decode(&value)?;
            let wanted = query.event.as_ref().is_none_or(|event| *event == draft.event)
                && query.user.is_none_or(|user| draft.user == Some(user));
            if wanted {
                page.entries.push(AuditEntry { id, draft });
            }
        }
        if query.after.is_some() {
            page.entries.reverse();
        }
        Ok(page)
    }
}

#[derive(Serialize, Deserialize)]
struct AuditRecord(AuditDraft);

impl Record for AuditRecord {
    const KIND: &'static str = "audit entry";
    const SCHEMA: u8 = 1;
}
