//! The sled engine: one tree, one writer thread, records as bytes.
//!
//! All changes run one after another on one thread ([`commit`]) over one transaction ([`txn`]). Reads go straight to
//! the tree. A read may see a change that is applied but not flushed, and a read of several keys may fall between two
//! writes of one change; the operations are designed so that neither matters. Reads may touch the disk, but do not
//! need a blocking pool: the working set is cached.
//!
//! The statements of an operation are in its feature's `sled.rs`. Reading order: `open`, `commit`, `txn`, `keys`,
//! `record`; for the files on disk: `parts`, `folder`, `acknowledged`, `log_scan`.

pub(crate) mod open;

pub(crate) mod commit;
pub(crate) mod parts;
pub(crate) mod tree;
pub(crate) mod txn;

pub(crate) mod keys;
pub(crate) mod record;

pub(crate) mod acknowledged;
pub(crate) mod folder;
pub(crate) mod garbage;
pub(crate) mod log_scan;
pub(crate) mod quiet;

pub(crate) mod agent;
pub(crate) mod capture;
pub(crate) mod error;
pub(crate) mod export;
pub(crate) mod purge;

use std::fs::File;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use self::agent::Agents;
use self::commit::{CommitStats, Committer, Health};
use self::record::{Record, decode, decode_u64, encode_u64};
use self::tree::Tree;
use self::txn::Txn;
use crate::{DiskRoom, SessionId, StoreError};

/// One step from a format of the store to the next. It runs in one change together with writing the new format
/// number, so an interrupted migration continues where it stopped.
pub(crate) type Migration = fn(&mut Txn) -> Result<(), StoreError>;

/// The steps from format 1 on. The layout of keys and records as a whole has the number of the last step's result;
/// a store with a higher number is refused, one with a lower number is migrated when it is opened.
pub(crate) const MIGRATIONS: &[Migration] = &[
    |txn| {
        txn.put(keys::money::INDEXES.into(), keys::money::INDEXES_NONE.into());
        Ok(())
    },
    // The indexes of refunds follow those of payments.
    |txn| {
        if txn.get(keys::money::INDEXES)?.as_deref() == Some(keys::money::INDEXES_ALL) {
            txn.put(keys::money::INDEXES.into(), keys::money::INDEXES_REFUNDS.into());
        }
        Ok(())
    },
    // Audit entries name the operator who acted, which older versions cannot read. They are read as they are.
    |_| Ok(()),
    // Long records are in parts, which older versions cannot read. Those that are not are read as they are.
    |_| Ok(()),
    // Files count with their texts and a fixed part, which older versions would not take off again. The sums are taken
    // anew when the store is opened.
    |txn| {
        txn.put(keys::FILES_UNCOUNTED.into(), sled::IVec::default());
        Ok(())
    },
];

/// The last key seen by each walk.
#[derive(Default)]
pub(crate) struct PurgeWalks {
    pub(crate) challenges: Mutex<Option<sled::IVec>>,
    pub(crate) sessions: Mutex<Option<sled::IVec>>,
    pub(crate) guards: Mutex<Option<sled::IVec>>,
    pub(crate) legacy: Mutex<Option<sled::IVec>>,
    pub(crate) idempotency: Mutex<Option<sled::IVec>>,
}

/// An open database.
pub(crate) struct Sled {
    // Declared before the lock, so the lock is released last.
    pub(crate) committer: Committer,
    pub(crate) tree: Tree,
    pub(crate) purge: PurgeWalks,
    pub(crate) agents: Arc<Agents>,
    /// The last session whose tokens may lack the binding, because it is older than bindings.
    pub(crate) unbound_up_to: SessionId,
    pub(crate) _lock: File,
}

impl Sled {
    pub(crate) fn close(&self) {
        self.committer.close(None);
    }

    pub(crate) fn close_within(&self, patience: Duration) -> bool {
        self.committer.close(Some(patience))
    }

    pub(crate) fn oldest_waiting(&self) -> Duration {
        self.committer.oldest_waiting()
    }

    pub(crate) fn room(&self) -> DiskRoom {
        self.committer.space().room()
    }

    pub(crate) fn disk_free_bytes(&self) -> Option<u64> {
        self.committer.space().free_bytes()
    }

    pub(crate) fn disk_spare_bytes(&self) -> Option<u64> {
        self.committer.space().spare_bytes()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.tree.has_failed()
    }

    pub(crate) fn health(&self) -> Health {
        self.committer.health()
    }

    pub(crate) fn changes_waiting(&self) -> usize {
        self.committer.waiting()
    }

    pub(crate) fn has_refused_since(&self, since: Instant) -> bool {
        self.committer.has_refused_since(since)
    }

    pub(crate) fn commit_stats(&self) -> CommitStats {
        self.committer.stats()
    }

    pub(crate) async fn probe_put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let key = keys::probe(key);
        let value = sled::IVec::from(value);
        self.change(move |txn| {
            txn.put(key, value);
            Ok(())
        })
        .await
    }

    pub(crate) fn probe_get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tree.get(keys::probe(key)).map_err(error::read)?.map(|value| value.to_vec()))
    }

    /// Runs one state change on the writer thread and returns its result once it is durable. The change runs to its
    /// end even when the caller is dropped.
    pub(crate) async fn change<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn) -> Result<T, StoreError> + Send + 'static,
    {
        self.committer.submit(change)?.await.unwrap_or(Err(StoreError::Failed))
    }

    /// [`Sled::change`], for a change that can wait until the disk has room: those that grow the store fastest.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] while the disk's reserve is in use; any error of a change.
    pub(crate) async fn change_with_room<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn) -> Result<T, StoreError> + Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.change_then_with_room(change, move |result| {
            // The caller may have been cancelled; the change stands.
            let _ = sender.send(result);
        })?;
        receiver.await.unwrap_or(Err(StoreError::Failed))
    }

    /// Queues a change and a closure that runs on the writer thread once the change is durable.
    pub(crate) fn change_then<T, F, A>(&self, change: F, then: A) -> Result<(), StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn) -> Result<T, StoreError> + Send + 'static,
        A: FnOnce(Result<T, StoreError>) + Send + 'static,
    {
        self.committer.submit_with(change, then)
    }

    /// [`Sled::change_then`] for a change that can wait, as [`Sled::change_with_room`].
    pub(crate) fn change_then_with_room<T, F, A>(&self, change: F, then: A) -> Result<(), StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn) -> Result<T, StoreError> + Send + 'static,
        A: FnOnce(Result<T, StoreError>) + Send + 'static,
    {
        self.committer.submit_with_room(change, then)
    }

    /// The engine half of [`Store::replace`](crate::Store::replace).
    pub(crate) fn replace(self, path: &Path, with: &Path) -> Result<(), StoreError> {
        let Sled { committer, tree, agents, _lock: lock, .. } = self;
        drop((committer, tree, agents));
        let replaced = open::locked(with, folder::CLOSE_PATIENCE).and_then(|other| {
            let replaced = folder::replace(path, with);
            drop(other);
            replaced.map_err(|source| StoreError::Open { path: path.to_owned(), source })
        });
        drop(lock);
        replaced
    }

    /// One record, as stored in the tree.
    pub(crate) fn record<R: Record>(&self, key: &[u8]) -> Result<Option<R>, StoreError> {
        let bytes = self.tree.get(key).map_err(error::read)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    /// Writes the format number into a new store, refuses a format this version cannot serve, and migrates older
    /// ones.
    pub(crate) fn format_check(&self, path: &Path, migrations: &[Migration]) -> Result<(), StoreError> {
        let supported = 1 + migrations.len() as u64;
        let found = match self.tree.get(keys::FORMAT).map_err(error::read)? {
            Some(bytes) => decode_u64("store format", &bytes)?,
            None if self.tree.iter().next().is_some() => {
                return Err(StoreError::Foreign { path: path.to_owned() });
            }
            None => {
                return self.change_blocking(move |txn| {
                    txn.put(keys::FORMAT.into(), encode_u64(supported));
                    txn.put(keys::UNBOUND_SESSIONS.into(), encode_u64(0));
                    txn.put(keys::money::INDEXES.into(), keys::money::INDEXES_ALL.into());
                    Ok(())
                });
            }
        };
        if found > supported {
            return Err(StoreError::FormatNewer { path: path.to_owned(), found, supported });
        }
        for (format, migrate) in (1..).zip(migrations.iter().copied()) {
            if format < found {
                continue;
            }
            tracing::info!(store.format = format + 1, "migrating the store");
            self.change_blocking(move |txn| {
                migrate(txn)?;
                txn.put(keys::FORMAT.into(), encode_u64(format + 1));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Records once up to which session tokens may lack the binding.
    pub(crate) fn note_unbound(&mut self) -> Result<(), StoreError> {
        if self.tree.get(keys::UNBOUND_SESSIONS).map_err(error::read)?.is_none() {
            self.change_blocking(|txn| {
                let last = txn.peek_next(keys::SESSION_SEQUENCE)? - 1;
                txn.put(keys::UNBOUND_SESSIONS.into(), encode_u64(last));
                Ok(())
            })?;
        }
        let last = self.tree.get(keys::UNBOUND_SESSIONS).map_err(error::read)?;
        self.unbound_up_to = SessionId(last.map_or(Ok(0), |bytes| decode_u64("session number", &bytes))?);
        Ok(())
    }

    pub(crate) fn key_mark(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tree.get(keys::KEY_MARK).map_err(error::read)?.map(|mark| mark.to_vec()))
    }

    pub(crate) async fn key_mark_set(&self, mark: [u8; 16]) -> Result<(), StoreError> {
        self.change(move |txn| {
            txn.put(keys::KEY_MARK.into(), sled::IVec::from(&mark));
            Ok(())
        })
        .await
    }

    pub(crate) async fn key_mark_claim(&self, mark: [u8; 16]) -> Result<bool, StoreError> {
        self.change(move |txn| {
            if let Some(stored) = txn.get(keys::KEY_MARK)? {
                return Ok(*stored == mark);
            }
            txn.put(keys::KEY_MARK.into(), sled::IVec::from(&mark));
            Ok(true)
        })
        .await
    }

    pub(crate) fn is_empty(&self) -> Result<bool, StoreError> {
        // What opening writes, the mark of the key, and where an import lets the sequences begin.
        let own = [keys::FORMAT, keys::COMMIT, keys::UNBOUND_SESSIONS, keys::KEY_MARK, keys::money::INDEXES];
        for key in self.tree.iter().keys() {
            let key = key.map_err(error::read)?;
            if !own.contains(&key.as_ref()) && !export::KEPT_OUTSIDE.contains(&key.as_ref()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(crate) fn is_unused(&self) -> Result<bool, StoreError> {
        use keys::audit::{ACCOUNT, ANYONE, OPERATOR, SEQUENCE};
        let single = [
            keys::FORMAT,
            keys::COMMIT,
            keys::UNBOUND_SESSIONS,
            keys::KEY_MARK,
            keys::money::INDEXES,
            keys::money::EVENTS_WANTED,
            SEQUENCE,
            ANYONE.count,
            ACCOUNT.count,
            OPERATOR.count,
        ];
        let audit = [ANYONE.entries, ACCOUNT.entries, OPERATOR.entries];
        for key in self.tree.iter().keys() {
            let key = key.map_err(error::read)?;
            let is_own = single.contains(&key.as_ref()) || export::KEPT_OUTSIDE.contains(&key.as_ref());
            if !is_own && !audit.iter().any(|log| key.starts_with(log)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// On a thread of its own: it reads what no cache holds.
    pub(crate) async fn count_on(
        &self,
        after: &[u8],
        limit: usize,
    ) -> Result<(usize, Option<Vec<u8>>), StoreError> {
        let (tree, after) = (self.tree.clone(), after.to_vec());
        let counted = tokio::task::spawn_blocking(move || {
            let range = (Bound::Excluded(after.as_slice()), Bound::Unbounded);
            let (mut count, mut last) = (0, None);
            for key in tree.range::<&[u8], _>(range).keys().take(limit) {
                last = Some(key.map_err(error::read)?);
                count += 1;
            }
            Ok((count, last.filter(|_| count == limit).map(|key| key.to_vec())))
        });
        counted.await.unwrap_or(Err(StoreError::Closed))
    }

    /// [`Sled::change`] for opening, where no runtime may be running yet. Polls nothing, waits on the thread.
    pub(crate) fn change_blocking<F>(&self, change: F) -> Result<(), StoreError>
    where
        F: FnOnce(&mut Txn) -> Result<(), StoreError> + Send + 'static,
    {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.committer.submit_with(change, move |result| {
            // The receiver waits below for as long as this sender lives.
            let _ = sender.send(result);
        })?;
        receiver.recv().unwrap_or(Err(StoreError::Failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, StoreOptions};

    const ADD: Migration = |txn| {
        txn.put("badded".into(), "1".into());
        Ok(())
    };
    const CHANGE: Migration = |txn| {
        let before = txn.get(b"badded")?.expect("the step before added it");
        txn.put("badded".into(), [before.as_ref(), b"2"].concat().into());
        Ok(())
    };
    const FAIL: Migration = |txn| {
        txn.delete("badded".into());
        Err(StoreError::Closed)
    };

    #[tokio::test]
    async fn an_old_store_is_migrated_step_by_step_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let check =
            |more: &[Migration]| store.sled().format_check(folder.path(), &[MIGRATIONS, more].concat());
        let added = async || store.probe_get(b"added").await.unwrap();
        check(&[]).unwrap();
        assert_eq!(added().await, None);
        check(&[ADD]).unwrap();
        check(&[ADD]).unwrap();
        assert_eq!(added().await.unwrap(), b"1");
        check(&[ADD, CHANGE]).unwrap();
        check(&[ADD, CHANGE]).unwrap();
        assert_eq!(added().await.unwrap(), b"12");
        // And back again is refused.
        let refused = check(&[ADD]);
        let newer = |found: u64, supported: u64| found == supported + 1;
        assert!(
            matches!(refused, Err(StoreError::FormatNewer { found, supported, .. }) if newer(found, supported))
        );
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_the_store_at_the_step_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let check =
            |more: &[Migration]| store.sled().format_check(folder.path(), &[MIGRATIONS, more].concat());
        assert!(matches!(check(&[ADD, FAIL, CHANGE]), Err(StoreError::Closed)));
        assert_eq!(store.probe_get(b"added").await.unwrap().unwrap(), b"1");
        check(&[ADD, CHANGE]).unwrap();
        assert_eq!(store.probe_get(b"added").await.unwrap().unwrap(), b"12");
    }
}
