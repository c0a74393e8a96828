//! Purging: expired records are removed in bounded steps.
//!
//! A step continues where the last one ended. It reads a bounded number of records beside the writer, and removes the
//! due ones in one change, which checks each of them again. An unreadable record stays. Nothing depends on purging:
//! expired records are refused whether they are removed or not. The position of a walk is in memory; a restart starts
//! over.

use crate::engine::sled::{Sled, error};
use crate::{PurgeStep, StoreError};
use sled::IVec;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

/// The fate of a record.
pub(crate) enum Purge {
    Keep,
    Remove,
    /// Only a part of the record expired.
    Replace(IVec),
}

impl From<bool> for Purge {
    fn from(due: bool) -> Purge {
        if due { Purge::Remove } else { Purge::Keep }
    }
}

impl Sled {
    pub(crate) async fn purge_step(
        &self,
        prefix: &'static [u8],
        walk: &Mutex<Option<IVec>>,
        limit: usize,
        purge: impl Fn(&[u8]) -> Result<Purge, StoreError> + Send + 'static,
    ) -> Result<PurgeStep, StoreError> {
        // Taken without holding the lock: two concurrent walks start at different places, which is harmless.
        let seen = walk.lock().unwrap_or_else(PoisonError::into_inner).take();
        let from = match &seen {
            Some(key) => Bound::Excluded(key.as_ref()),
            None => Bound::Included(prefix),
        };
        let mut last = None;
        let mut keys = Vec::new();
        let mut records = self.tree.range::<&[u8], _>((from, Bound::Unbounded));
        for _ in 0..limit.max(1) {
            let Some(entry) = records.next() else {
                last = None;
                break;
            };
            let (key, value) = entry.map_err(error::read)?;
            if !key.starts_with(prefix) {
                last = None;
                break;
            }
            match purge(&value) {
                Ok(Purge::Keep) => {}
                Ok(_) => keys.push(key.clone()),
                // One unreadable record must not block all records after it.
                Err(error) => tracing::warn!(error = %error, "a record could not be purged"),
            }
            last = Some(key);
        }
        drop(records);

        let finished = last.is_none();
        let removed = match keys.is_empty() {
            true => 0,
            false => {
                self.change(move |txn| {
                    let mut removed = 0;
                    for key in keys {
                        // It may have been replaced since it was read.
                        let Some(value) = txn.get(&key)? else { continue };
                        match purge(&value).unwrap_or(Purge::Keep) {
                            Purge::Keep => continue,
                            Purge::Remove => txn.delete(key),
                            Purge::Replace(value) => txn.put(key, value),
                        }
                        removed += 1;
                    }
                    Ok(removed)
                })
                .await?
            }
        };
        *walk.lock().unwrap_or_else(PoisonError::into_inner) = last;
        Ok(PurgeStep { removed, finished })
    }
}
