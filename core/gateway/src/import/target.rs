//! Where an import goes: a new store, or nowhere in a dry run.

use chelseru_store::{Store, StoreError};
use tokio::runtime::Handle;

/// Rows that one change stores.
const BATCH: usize = 500;

pub(super) struct Target {
    pub(super) store: Option<Store>,
    pub(super) runtime: Handle,
}

impl Target {
    /// Stores rows, unless it is a dry run.
    ///
    /// Errors: the store's.
    pub(super) fn put(
        &self,
        change: impl AsyncFnOnce(&Store) -> Result<(), StoreError>,
    ) -> Result<(), String> {
        match &self.store {
            Some(store) => self.runtime.block_on(change(store)).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    pub(super) fn is_dry(&self) -> bool {
        self.store.is_none()
    }
}

/// Gathers rows for one change.
pub(super) struct Batch<T> {
    rows: Vec<T>,
}

impl<T> Batch<T> {
    pub(super) fn new() -> Batch<T> {
        Batch { rows: Vec::new() }
    }

    /// Adds a row; hands out all of them when there are enough.
    pub(super) fn add(&mut self, row: T) -> Option<Vec<T>> {
        self.rows.push(row);
        (self.rows.len() >= BATCH).then(|| std::mem::take(&mut self.rows))
    }

    /// The rows that are left.
    pub(super) fn rest(self) -> Vec<T> {
        self.rows
    }
}
