//! What the features' `moving.rs` are written with: a store's records of one engine, written as the other keeps them.
//!
//! Not here: which features there are, and the order (see `crate::moving`).

mod records;
mod rows;

pub(crate) use records::Records;
pub(crate) use rows::{Rows, Values, column, column_opt, row};

use crate::StoreError;
use crate::engine::postgres::change::Running;

/// Records between two reports of progress.
const SAID_EVERY: u64 = 50_000;

/// Records that are read, sent or written together.
const CHUNK: usize = 512;

/// What one feature moves.
pub(crate) struct Part {
    /// What the keys of its records begin with on sled, those included that are made anew.
    pub(crate) keys: &'static [&'static [u8]],
    /// Its tables on PostgreSQL, likewise.
    pub(crate) tables: &'static [&'static str],
    pub(crate) to_postgres: for<'a> fn(&'a Rows<'a>) -> Running<'a, ()>,
    pub(crate) to_sled: for<'a> fn(&'a Records<'a>) -> Running<'a, ()>,
}

/// Hears what is being copied, and how many records of it are.
pub type Progress<'a> = &'a (dyn Fn(&'static str, u64) + Send + Sync);

/// Counts the records of one kind.
pub(crate) struct Count<'a> {
    what: &'static str,
    said: Progress<'a>,
    count: u64,
}

impl<'a> Count<'a> {
    fn new(what: &'static str, said: Progress<'a>) -> Count<'a> {
        Count { what, said, count: 0 }
    }

    pub(crate) fn add(&mut self, records: usize) {
        let before = self.count;
        self.count += records as u64;
        if before / SAID_EVERY != self.count / SAID_EVERY {
            (self.said)(self.what, self.count);
        }
    }

    /// An error at a record, by its place.
    pub(crate) fn error(&self, place: usize, error: StoreError) -> StoreError {
        let record = self.count + place as u64 + 1;
        StoreError::Copy { what: self.what, record, source: Box::new(error) }
    }
}
