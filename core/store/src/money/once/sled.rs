//! Idempotency keys: a request that is repeated with its key is carried out once.
//!
//! A record leads from a user's key to what the request made, and is written in the very change that makes it. So
//! there is no moment at which a key is taken and its outcome is not known: a crash leaves both or neither. Not
//! here: which requests have keys, what a key covers, and how an answer is made again (`chelseru-domain`).

use serde::{Deserialize, Serialize};

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::purge::PurgeStep;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::{Store, StoreError, Timestamp, UserId};

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

#[derive(Serialize, Deserialize)]
struct Kept {
    /// First, because purging reads it alone.
    keep_until: Timestamp,
    request: [u8; 32],
    subject: u64,
}

impl Record for Kept {
    const KIND: &'static str = "idempotency";
    const SCHEMA: u8 = 1;
}

/// What a key leads to.
pub(crate) enum Subject {
    New,
    Known(u64),
    /// Another request.
    Other,
}

pub(crate) fn look(txn: &Txn, user: UserId, once: &Once, now: Timestamp) -> Result<Subject, StoreError> {
    let kept: Option<Kept> = txn.get_record(&keys::idempotency(user, &once.key))?;
    Ok(match kept {
        Some(kept) if now < kept.keep_until && kept.request == once.request => Subject::Known(kept.subject),
        Some(kept) if now < kept.keep_until => Subject::Other,
        _ => Subject::New,
    })
}

pub(crate) fn keep(txn: &mut Txn, user: UserId, once: &Once, subject: u64) {
    let kept = Kept { keep_until: once.keep_until, request: once.request, subject };
    txn.put_record(keys::idempotency(user, &once.key), &kept);
}

impl Store {
    /// Walks on through the idempotency records, at most `limit` of them, and removes those that are kept no
    /// longer.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], and those of every change; the next call then starts over.
    pub async fn once_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        let due = move |bytes: &[u8]| Ok((decode::<Kept>(bytes)?.keep_until <= now).into());
        self.purge_step(keys::IDEMPOTENCY, &self.purge.idempotency, limit, due).await
    }
}
