//! Idempotency keys: a repeated request with the same key takes effect once.
//!
//! A record maps a user's key to what the request created. It is written in the change that creates it, so a key
//! never exists without its outcome: a crash leaves both or neither. Not here: which requests have keys, what a key
//! covers, and how an answer is repeated (`chelseru-domain`).

pub(crate) mod postgres;
pub(crate) mod sled;

use crate::engine::{Engine, boxed, on_engine};
use crate::{PurgeStep, Store, StoreError, Timestamp};

/// A request's idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// A hash of the kind of request and the client's key.
    pub key: [u8; 32],
    /// A hash of the request itself; the same key with another request is refused.
    pub request: [u8; 32],
    /// When the key may be used again.
    pub keep_until: Timestamp,
}

/// What a key maps to.
pub(crate) enum Subject {
    New,
    Known(u64),
    /// The key was used for another request.
    Other,
}

impl Store {
    /// Continues the walk over idempotency records, at most `limit` of them, and removes expired ones.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and any error of a change; the next call then starts over.
    #[boxed]
    pub async fn once_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        on_engine!(self, once_purge(now, limit).await)
    }
}
