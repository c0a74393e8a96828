//! The engine's tree, closed to readers after a failed write.
//!
//! The engine applies a batch in memory before it is synced. After a failed write the memory holds changes that were
//! refused. Invariant: from then on every read fails.
//!
//! Not here: writing, which only the writer thread does (see `commit`).

use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
        let value = self.inner.get(key)?;
        // Checked again: the value may belong to a batch whose write failed meanwhile.
        self.failed.check()?;
        Ok(value)
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
        Entries { inner, failed: self.failed.clone() }
    }
}

/// Entries in key order.
pub(crate) struct Entries {
    inner: sled::Iter,
    failed: FailFlag,
}

impl Entries {
    pub(crate) fn keys(self) -> impl DoubleEndedIterator<Item = sled::Result<IVec>> {
        self.map(|entry| entry.map(|(key, _)| key))
    }
}

impl Iterator for Entries {
    type Item = sled::Result<(IVec, IVec)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.inner.next()?;
        Some(self.failed.check().and(entry))
    }
}

impl DoubleEndedIterator for Entries {
    fn next_back(&mut self) -> Option<Self::Item> {
        let entry = self.inner.next_back()?;
        Some(self.failed.check().and(entry))
    }
}
