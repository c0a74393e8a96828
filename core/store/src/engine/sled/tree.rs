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
//! Values in several entries are put together here (see `parts`), and the entries of parts are hidden.
//!
//! Not here: writing, which only the writer thread does (see `commit`).

use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sled::IVec;

use crate::engine::sled::parts::{self, PART_BYTES, PARTS, Stub};

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
        let mut value = self.inner.get(&key)?;
        if let Some(entry) = &value {
            match Stub::of(entry) {
                Some(stub) => value = whole(&self.inner, key.as_ref(), stub)?,
                None => access(&self.inner, key.as_ref(), accesses(entry.len())),
            }
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
        if bytes > PART_BYTES {
            // Reading the parts counts them. An error is met again by whoever wants the value.
            let _ = self.get(key);
        } else {
            access(&self.inner, key, accesses(bytes));
        }
    }

    pub(crate) fn contains_key(&self, key: impl AsRef<[u8]>) -> sled::Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    pub(crate) fn iter(&self) -> Entries {
        self.range::<&[u8], _>(..)
    }

    pub(crate) fn range<K: AsRef<[u8]>, R: RangeBounds<K>>(&self, range: R) -> Entries {
        let bytes = |bound: Bound<&K>| bound.map(|key| IVec::from(key.as_ref()));
        let last = match bytes(range.end_bound()) {
            Bound::Unbounded => Bound::Excluded(PARTS.into()),
            last => last,
        };
        self.entries(self.inner.range((bytes(range.start_bound()), last)))
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
        let (tree, failed) = (self.inner.clone(), self.failed.clone());
        Entries { inner, tree, failed, uncounted: 0, keys_only: false }
    }
}

/// The value of a record whose entry holds a stub; `None` when the record was removed meanwhile.
fn whole(tree: &sled::Tree, key: &[u8], stub: Stub) -> sled::Result<Option<IVec>> {
    let Some((value, stub)) = parts::whole(tree, key, stub)? else { return Ok(None) };
    for part in stub.into_iter().flat_map(Stub::keys) {
        access(tree, &part, ACCESSES_MAX);
    }
    Ok(Some(value))
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
    /// Values are not put together.
    keys_only: bool,
}

impl Entries {
    /// An entry with its whole value; `None` when its record was removed meanwhile.
    fn checked(
        &mut self,
        entry: sled::Result<(IVec, IVec)>,
        began_at: Instant,
    ) -> Option<sled::Result<(IVec, IVec)>> {
        if began_at.elapsed() > IN_MEMORY_MAX {
            self.uncounted = ACCESSES_MAX;
        }
        let entry = match entry {
            Ok((key, value)) => {
                let accesses = accesses(value.len()).min(self.uncounted);
                access(&self.tree, &key, accesses);
                self.uncounted -= accesses;
                match Stub::of(&value).filter(|_| !self.keys_only) {
                    Some(stub) => whole(&self.tree, &key, stub).transpose()?.map(|value| (key, value)),
                    None => Ok((key, value)),
                }
            }
            error => error,
        };
        Some(self.failed.check().and(entry))
    }

    pub(crate) fn keys(mut self) -> impl DoubleEndedIterator<Item = sled::Result<IVec>> {
        self.keys_only = true;
        self.map(|entry| entry.map(|(key, _)| key))
    }
}

impl Iterator for Entries {
    type Item = sled::Result<(IVec, IVec)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let began_at = Instant::now();
            let entry = self.inner.next()?;
            if let Some(entry) = self.checked(entry, began_at) {
                return Some(entry);
            }
        }
    }
}

impl DoubleEndedIterator for Entries {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            let began_at = Instant::now();
            let entry = self.inner.next_back()?;
            if let Some(entry) = self.checked(entry, began_at) {
                return Some(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests;
