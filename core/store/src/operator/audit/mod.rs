//! The audit log: what happened to accounts, sessions, keys and the configuration.
//!
//! Entries are numbered from 1 without gaps and never change. Three logs have a limit each, so that a flood of wrong
//! codes cannot remove the entry that tells of a stolen account, and one account cannot remove what an operator did. A
//! page shows all three in the order of their numbers. Appending past a limit removes the oldest entries in the same
//! change, so no log ever exceeds its limit; after a limit is lowered, the surplus goes while new entries are written.
//!
//! Entries hold what people may read: no code, token or key. The caller masks numbers and names.
//! Not here: which event goes into which log, and the queue in front of the log (`chelseru-domain`).

pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, on_engine};
use crate::{SessionId, Store, StoreError, Timestamp, UserId};

/// Which bound an entry counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuditLog {
    /// What anybody can cause, as often as they like.
    Anyone,
    /// What takes an account or a part of it: a right code, a password, a token.
    Account,
    /// What takes an operator, or somebody with the rights of one.
    Operator,
}

impl AuditLog {
    pub(crate) const ALL: [AuditLog; 3] = [AuditLog::Anyone, AuditLog::Account, AuditLog::Operator];
}

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
    /// Appends entries, numbered in the order given, and removes the oldest of each log beyond `keep`.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn audit_append(
        &self,
        drafts: Vec<(AuditLog, AuditDraft)>,
        keep: u64,
    ) -> Result<(), StoreError> {
        on_engine!(self, audit_append(drafts, keep).await)
    }

    /// One page of the log.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn audit_page(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        on_engine!(self, read audit_page(query))
    }
}
