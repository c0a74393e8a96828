//! Idempotency keys: a request that is repeated with its key is carried out once.
//!
//! A record leads from a user's key to what the request made, and is written in the very change that makes it. So
//! there is no moment at which a key is taken and its outcome is not known: a crash leaves both or neither. Not
//! here: which requests have keys, what a key covers, and how an answer is made again (`chelseru-domain`).

pub(crate) mod sled;

use crate::engine::{Engine, on_engine};
use crate::{PurgeStep, Store, StoreError, Timestamp};

/// A request's idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// A hash of the kind of request and the client's key.
    pub key: [u8; 32],
    /// A hash of the request itself: the same key with another request is refused.
    pub request: [u8; 32],
    /// From here on the key may be used again.
    pub keep_until: Timestamp,
}

impl Store {
    /// Walks on through the idempotency records, at most `limit` of them, and removes those that are kept no
    /// longer.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and those of every change; the next call then starts over.
    pub async fn once_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        on_engine!(self, once_purge(now, limit).await)
    }
}
