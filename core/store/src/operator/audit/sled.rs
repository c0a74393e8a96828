//! The audit log on sled.
//!
//! Entries appended together share a chunk of up to [`CHUNK_ENTRIES`] under the number of its first entry, because
//! sled's work is per key and not per byte. An entry with its own key comes from a version before chunks.

use std::collections::VecDeque;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::engine::sled::keys::audit as keys;
use crate::engine::sled::record::{Record, decode, decode_u64, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::operator::audit::{AuditDraft, AuditEntry, AuditLog, AuditPage, AuditQuery};
use crate::{SessionId, StoreError, Timestamp, UserId};

/// Entries under one key: some kilobytes, read as a whole.
const CHUNK_ENTRIES: usize = 32;

/// Most chunks that one change removes beyond what it replaces, after a limit was lowered.
const TRIM_STEP: usize = 64;

impl Sled {
    pub(crate) async fn audit_append(
        &self,
        drafts: Vec<(AuditLog, AuditDraft)>,
        keep: u64,
    ) -> Result<(), StoreError> {
        self.change(move |txn| {
            let mut sorted = AuditLog::ALL.map(|log| (log, Vec::new()));
            for (log, draft) in drafts {
                let entry = (txn.next(keys::SEQUENCE)?, draft);
                sorted[log as usize].1.push(entry);
            }
            sorted.into_iter().try_for_each(|(log, entries)| append(txn, log, entries, keep))
        })
        .await
    }

    pub(crate) async fn audit_purge(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let mut old = Vec::new();
        for log in AuditLog::ALL {
            for entry in self.tree.scan_prefix(table(log).entries).take(limit) {
                let (key, value) = entry.map_err(error::read)?;
                let chunk = Chunk::read(&key, &value)?;
                // Entries of a chunk were written together, so they are about as old.
                if chunk.entries.iter().any(|(_, draft)| draft.at >= before) {
                    break;
                }
                old.push(key);
            }
        }
        if old.is_empty() {
            return Ok(0);
        }
        self.change(move |txn| {
            let removed = old.len();
            old.into_iter().for_each(|key| txn.delete(key));
            Ok(removed)
        })
        .await
    }

    pub(crate) fn audit_page(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        let mut walks = Vec::with_capacity(AuditLog::ALL.len());
        for log in AuditLog::ALL {
            walks.push(self.walk(log, query)?);
        }
        let mut page = AuditPage { entries: Vec::new(), more_at: None };
        let mut looked_at = None;
        for looked in 0.. {
            let mut next: Option<(u64, usize)> = None;
            for (at, walk) in walks.iter_mut().enumerate() {
                let Some(id) = walk.peek()? else { continue };
                if next.is_none_or(|(best, _)| (id < best) == query.after.is_some()) {
                    next = Some((id, at));
                }
            }
            let Some((_, at)) = next else { break };
            if page.entries.len() == query.limit || looked == query.look_max {
                page.more_at = looked_at;
                break;
            }
            let Some((id, draft)) = walks[at].ready.pop_front() else { break };
            looked_at = Some(id);
            if query.wants(&draft) {
                page.entries.push(AuditEntry { id, draft });
            }
        }
        if query.after.is_some() {
            page.entries.reverse();
        }
        Ok(page)
    }

    /// The entries of one log that match a query, in the query's direction.
    fn walk(&self, log: AuditLog, query: &AuditQuery) -> Result<Walk, StoreError> {
        let (mut first, mut last) = (table(log).entry(0), Bound::Included(table(log).entry(u64::MAX)));
        if let Some(after) = query.after {
            // The chunk that begins before may hold matching entries.
            let before = self.tree.range(first.clone()..=table(log).entry(after)).next_back();
            first = match before.transpose().map_err(error::read)? {
                Some((key, _)) => key,
                None => table(log).entry(after),
            };
        }
        if let Some(before) = query.before {
            last = Bound::Excluded(table(log).entry(before));
        }
        let chunks = self.tree.range((Bound::Included(first), last));
        let ascending = query.after.is_some();
        let (after, before) = (query.after.unwrap_or(0), query.before.unwrap_or(u64::MAX));
        Ok(Walk { chunks, ascending, after, before, ready: VecDeque::new() })
    }
}

pub(crate) fn table(log: AuditLog) -> &'static keys::Log {
    match log {
        AuditLog::Anyone => &keys::ANYONE,
        AuditLog::Account => &keys::ACCOUNT,
        AuditLog::Operator => &keys::OPERATOR,
    }
}

/// The entries of one log, in one direction.
struct Walk {
    chunks: crate::engine::sled::tree::Entries,
    ascending: bool,
    /// Entries after this one are wanted.
    after: u64,
    /// Entries before this one are wanted.
    before: u64,
    ready: VecDeque<(u64, AuditDraft)>,
}

impl Walk {
    /// The number of the next entry.
    fn peek(&mut self) -> Result<Option<u64>, StoreError> {
        while self.ready.is_empty() {
            let next = if self.ascending { self.chunks.next() } else { self.chunks.next_back() };
            let Some(entry) = next else { return Ok(None) };
            let (key, value) = entry.map_err(error::read)?;
            let mut entries = Chunk::read(&key, &value)?.entries;
            entries.retain(|(id, _)| self.after < *id && *id < self.before);
            if !self.ascending {
                entries.reverse();
            }
            self.ready = entries.into();
        }
        Ok(self.ready.front().map(|(id, _)| *id))
    }
}

/// Entries of one log, stored under the number of the first.
#[derive(Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// How many entries its log ever had before the first of these.
    pub(crate) before: u64,
    pub(crate) entries: Vec<(u64, AuditDraft)>,
}

impl Record for Chunk {
    const KIND: &'static str = "audit entry";
    const SCHEMA: u8 = 3;
    const SCHEMA_OLDEST: u8 = 1;

    /// The first version is a single entry, whose number is only in its key.
    fn decode_older(schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        if schema == 1 {
            return Ok(Chunk { before: 0, entries: vec![(0, Draft2::read(body)?.into())] });
        }
        let (before, entries): (u64, Vec<(u64, Draft2)>) = postcard::from_bytes(body)?;
        Ok(Chunk { before, entries: entries.into_iter().map(|(id, draft)| (id, draft.into())).collect() })
    }
}

/// An entry of the versions before operators of the console.
#[derive(Serialize, Deserialize)]
struct Draft2 {
    at: Timestamp,
    event: String,
    user: Option<UserId>,
    session: Option<SessionId>,
    ip_address: String,
    subject: String,
    detail: String,
}

impl Draft2 {
    fn read(body: &[u8]) -> Result<Draft2, postcard::Error> {
        postcard::from_bytes(body)
    }
}

impl From<Draft2> for AuditDraft {
    fn from(old: Draft2) -> AuditDraft {
        let Draft2 { at, event, user, session, ip_address, subject, detail } = old;
        AuditDraft { at, event, user, session, ip_address, subject, detail, ..AuditDraft::default() }
    }
}

impl Chunk {
    pub(crate) fn read(key: &[u8], value: &[u8]) -> Result<Chunk, StoreError> {
        let mut chunk: Chunk = decode(value)?;
        if let (Some(id), [(number @ 0, _)]) = (keys::id_of(key), chunk.entries.as_mut_slice()) {
            (*number, chunk.before) = (id, id.saturating_sub(1));
        }
        Ok(chunk)
    }
}

/// Appends to one log and removes its oldest entries beyond `keep`.
fn append(
    txn: &mut Txn,
    log: AuditLog,
    entries: Vec<(u64, AuditDraft)>,
    keep: u64,
) -> Result<(), StoreError> {
    let Some((first, _)) = entries.first() else { return Ok(()) };
    let added = entries.len();
    let count_key = table(log).count;
    let mut count = match (txn.get(count_key)?, log) {
        (Some(bytes), _) => decode_u64("audit count", &bytes)?,
        // Before there were several logs, all entries were in this one.
        (None, AuditLog::Anyone) => first - 1,
        (None, AuditLog::Account | AuditLog::Operator) => 0,
    };
    let mut entries = entries.into_iter().peekable();
    while let Some((first, _)) = entries.peek() {
        let key = table(log).entry(*first);
        let chunk = Chunk { before: count, entries: entries.by_ref().take(CHUNK_ENTRIES).collect() };
        count += chunk.entries.len() as u64;
        txn.put_record(key, &chunk);
    }
    txn.put(count_key.into(), encode_u64(count));

    let gone = count.saturating_sub(keep.max(1));
    for (key, value) in txn.scan(table(log).entries, added + TRIM_STEP)? {
        let mut chunk = Chunk::read(&key, &value)?;
        let surplus = gone.saturating_sub(chunk.before).min(chunk.entries.len() as u64);
        if surplus == 0 {
            break;
        }
        txn.delete(key);
        chunk.entries.drain(..surplus as usize);
        chunk.before += surplus;
        if let Some((first, _)) = chunk.entries.first() {
            txn.put_record(table(log).entry(*first), &chunk);
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sled::record::encode;

    #[derive(Serialize, Deserialize)]
    struct Chunk2 {
        before: u64,
        entries: Vec<(u64, Draft2)>,
    }

    impl Record for Chunk2 {
        const KIND: &'static str = "audit entry";
        const SCHEMA: u8 = 2;
    }

    #[test]
    fn entries_of_the_version_before_name_no_operator() {
        let draft = Draft2 {
            at: Timestamp::from_secs(5),
            event: "login".to_owned(),
            user: Some(UserId(3)),
            session: None,
            ip_address: "192.0.2.1".to_owned(),
            subject: String::new(),
            detail: "by code".to_owned(),
        };
        let chunk: Chunk = decode(&encode(&Chunk2 { before: 7, entries: vec![(8, draft)] })).unwrap();
        let (id, draft) = &chunk.entries[0];
        assert_eq!((chunk.before, *id, draft.event.as_str(), draft.actor), (7, 8, "login", None));
        assert_eq!((draft.detail.as_str(), draft.user), ("by code", Some(UserId(3))));
        let again: Chunk = decode(&encode(&chunk)).unwrap();
        assert_eq!(again.entries, chunk.entries);
    }
}
