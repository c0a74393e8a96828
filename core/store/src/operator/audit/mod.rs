//! The audit log: events of accounts, sessions, keys and the configuration.
//!
//! Entries are numbered from 1 without gaps and never change. There are three logs with a limit each, so a flood of
//! wrong codes cannot remove the entry about a stolen account, and one account cannot remove an operator's entries. A
//! page shows all three in order of number. Appending past a limit removes the oldest entries in the same change, so
//! no log exceeds its limit; after a limit is lowered, new entries remove the surplus.
//!
//! Entries hold readable data only: no code, token or key. The caller masks numbers and names. Not here: which event
//! belongs to which log, and the queue in front of the log (`chelseru-domain`).

pub(crate) mod postgres;
pub(crate) mod sled;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, boxed, on_engine};
use crate::{SessionId, Store, StoreError, Timestamp, UserId};

/// The log, and so the limit, of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuditLog {
    /// Events that anybody can cause, any number of times.
    Anyone,
    /// Events that take an account or a part of it: a right code, a password, a token.
    Account,
    /// Events that take an operator, or a holder of operator rights.
    Operator,
}

impl AuditLog {
    pub(crate) const ALL: [AuditLog; 3] = [AuditLog::Anyone, AuditLog::Account, AuditLog::Operator];
}

/// An entry to write. `user` is the affected account, `actor` the operator who acted on it.
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
    /// A few words or a sentence.
    pub detail: String,
    /// The operator of the console or its API; `None` for what nobody there did.
    pub actor: Option<UserId>,
    /// What was changed, as it was and as it is.
    pub before: String,
    pub after: String,
    /// Why, in the operator's words.
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub id: u64,
    pub draft: AuditDraft,
}

/// Selects entries.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Entries older than this one, newest first.
    pub before: Option<u64>,
    /// The oldest entries newer than this one, newest first. Not together with `before`.
    pub after: Option<u64>,
    pub event: Option<String>,
    pub user: Option<UserId>,
    /// Only what this operator did.
    pub actor: Option<UserId>,
    /// Only entries from this instant on, and before that one.
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Most entries returned.
    pub limit: usize,
    /// Most entries examined.
    pub look_max: usize,
}

impl AuditQuery {
    /// Whether an entry is one of those asked for, apart from its number.
    pub(crate) fn wants(&self, draft: &AuditDraft) -> bool {
        self.event.as_ref().is_none_or(|event| *event == draft.event)
            && self.user.is_none_or(|user| draft.user == Some(user))
            && self.actor.is_none_or(|actor| draft.actor == Some(actor))
            && self.from.is_none_or(|from| from <= draft.at)
            && self.until.is_none_or(|until| draft.at < until)
    }
}

/// A page, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    pub entries: Vec<AuditEntry>,
    /// The last entry examined, when more follow in the query's direction.
    pub more_at: Option<u64>,
}

impl Store {
    /// Appends entries, numbered in the given order, and removes the oldest of each log beyond `keep`.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn audit_append(
        &self,
        drafts: Vec<(AuditLog, AuditDraft)>,
        keep: u64,
    ) -> Result<(), StoreError> {
        on_engine!(self, audit_append(drafts, keep).await)
    }

    /// Removes the oldest entries of each log that were written before an instant, at most `limit` chunks of each. A
    /// chunk is what the engine keeps together; on PostgreSQL it is one entry. Returns the number of chunks; 0 means
    /// none remain.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn audit_purge(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        on_engine!(self, audit_purge(before, limit).await)
    }

    /// One page of the log.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn audit_page(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        on_engine!(self, read audit_page(query))
    }
}
