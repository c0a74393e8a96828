//! The engine's tree, closed to readers after a failed write.
//!
//! The engine applies a batch in memory before it is synced. After a failed write the memory holds changes that were
//! refused. Invariant: from then on every read fails.
//!
//! The engine counts a page of its cache only at the 64th access to one of 256 shards, and a page holds up to 16
//! records however long they are. Long records, met in any order, therefore filled the memory beyond any bound. Here a
//! long record is read again as often as it is long (see [`Tree::count`]), so that about 64 MiB stay uncounted. A walk
//! over long records in memory would be slowed down several times by that, so it does so only where a page was loaded
//! (see [`Entries`]).
//!
//! Not here: writing, which only the writer thread does (see `commit`).

use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sled::IVec;

/// A read was refused because an earlier write failed.
#[derive(Debug)]
struct WriteFailed;

impl std::fmt::Display for WriteFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a write failed; nothing is read until the store is opened again")
    }
}

impl std::error::Error for WriteFailed {}

/// Returns true when an engine's error only reports an earlier failed write.
pub(crate) fn is_write_failed(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<WriteFailed>())
}

/// Set when a write fails. Shared by the writer and all trees.
#[derive(Debug, Clone, Default)]
pub(crate) struct FailFlag(Arc<AtomicBool>);

impl FailFlag {
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn check(&self) -> sled::Result<()> {
        if self.is_raised() {
            return Err(sled::Error::Io(io::Error::other(WriteFailed)));
        }
        Ok(())
    }
}

#[derive(Clone)]
pub(crate) struct Tree {
    inner: sled::Tree,
    failed: FailFlag,
}

impl Tree {
    pub(crate) fn new(inner: sled::Tree, failed: FailFlag) -> Tree {
        Tree { inner, failed }
    }

    pub(crate) fn get(&self, key: impl AsRef<[u8]>) -> sled::Result<Option<IVec>> {
        self.failed.check()?;
        let value = self.inner.get(&key)?;
        if let Some(value) = &value {
            self.count(key.as_ref(), value.len());
        }
        // Checked again: the value may belong to a batch whose write failed meanwhile.
        self.failed.check()?;
        Ok(value)
    }

    /// Makes the engine count the page of a record of so many bytes that was read or written: one access more for each
    /// [`BYTES_PER_ACCESS`], at most [`ACCESSES_MAX`]. A page of 16 such records is then counted after 64 times 256 /
    /// bytes of them, so the 256 shards hold 64 MiB uncounted whatever the length is. An access to a page in memory
    /// takes some 0.3 microseconds.
    pub(crate) fn count(&self, key: &[u8], bytes: usize) {
        access(&self.inner, key, accesses(bytes));
    }

    pub(crate) fn contains_key(&self, key: impl AsRef<[u8]>) -> sled::Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    pub(crate) fn iter(&self) -> Entries {
        self.entries(self.inner.iter())
    }

    pub(crate) fn range<K: AsRef<[u8]>, R: RangeBounds<K>>(&self, range: R) -> Entries {
        self.entries(self.inner.range(range))
    }

    pub(crate) fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Entries {
        self.entries(self.inner.scan_prefix(prefix))
    }

    /// Returns true after a failed write.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.is_raised()
    }

    /// The tree that the writer writes to.
    #[cfg(test)]
    pub(crate) fn engine(&self) -> &sled::Tree {
        &self.inner
    }

    fn entries(&self, inner: sled::Iter) -> Entries {
        Entries { inner, tree: self.inner.clone(), failed: self.failed.clone(), uncounted: 0 }
    }
}

/// Bytes of a record for which its page is accessed once more.
pub(crate) const BYTES_PER_ACCESS: usize = 256;

/// Accesses after which the engine has counted a page for certain: a shard's queue has as many places.
const ACCESSES_MAX: usize = 64;

/// The longest that a walk may take for a record of a page that is in memory; one takes some 0.3 microseconds. Loading
/// a page takes a read from the file, a checksum and a copy of each record: walks of four over records of 300 bytes
/// that were not in memory took 7 microseconds and more, over records of 16 KiB 31 and more (`examples/measure.rs`, a
/// virtual machine of 2 cores, the files in the system's cache).
const IN_MEMORY_MAX: Duration = Duration::from_micros(2);

fn accesses(bytes: usize) -> usize {
    (bytes / BYTES_PER_ACCESS).min(ACCESSES_MAX)
}

fn access(tree: &sled::Tree, key: &[u8], times: usize) {
    for _ in 0..times {
        // Only the access matters. An error is met again by whoever wants the value.
        let _ = tree.contains_key(key);
    }
}

/// Entries in key order.
///
/// A page that a walk finds in memory was counted when it was loaded or written, so only one that the walk itself
/// loads is counted: a record that took longer than [`IN_MEMORY_MAX`] begins one. What is taken for loaded and was not
/// costs time only.
pub(crate) struct Entries {
    inner: sled::Iter,
    tree: sled::Tree,
    failed: FailFlag,
    /// Accesses until the page that was loaded last is counted for certain.
    uncounted: usize,
}

impl Entries {
    fn checked(
        &mut self,
        entry: sled::Result<(IVec, IVec)>,
        began_at: Instant,
    ) -> sled::Result<(IVec, IVec)> {
        if began_at.elapsed() > IN_MEMORY_MAX {
            self.uncounted = ACCESSES_MAX;
        }
        if let Ok((key, value)) = &entry {
            let accesses = accesses(value.len()).min(self.uncounted);
            access(&self.tree, key, accesses);
            self.uncounted -= accesses;
        }
        self.failed.check().and(entry)
    }

    pub(crate) fn keys(self) -> impl DoubleEndedIterator<Item = sled::Result<IVec>> {
        self.map(|entry| entry.map(|(key, _)| key))
    }
}

impl Iterator for Entries {
    type Item = sled::Result<(IVec, IVec)>;

    fn next(&mut self) -> Option<Self::Item> {
        let began_at = Instant::now();
        let entry = self.inner.next()?;
        Some(self.checked(entry, began_at))
    }
}

impl DoubleEndedIterator for Entries {
    fn next_back(&mut self) -> Option<Self::Item> {
        let began_at = Instant::now();
        let entry = self.inner.next_back()?;
        Some(self.checked(entry, began_at))
    }
}
