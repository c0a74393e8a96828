//! The operations of this folder, in sled statements.

use serde::{Deserialize, Serialize};

use crate::engine::sled::Sled;
use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::money::once::{Once, Subject};
use crate::{PurgeStep, StoreError, Timestamp, UserId};

#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    /// First, because purging reads it alone.
    pub(crate) keep_until: Timestamp,
    pub(crate) request: [u8; 32],
    pub(crate) subject: u64,
}

impl Record for Kept {
    const KIND: &'static str = "idempotency";
    const SCHEMA: u8 = 1;
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

impl Sled {
    pub(crate) async fn once_purge(&self, now: Timestamp, limit: usize) -> Result<PurgeStep, StoreError> {
        let due = move |bytes: &[u8]| Ok((decode::<Kept>(bytes)?.keep_until <= now).into());
        self.purge_step(keys::IDEMPOTENCY, &self.purge.idempotency, limit, due).await
    }
}
