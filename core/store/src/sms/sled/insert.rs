//! A new message: its idempotency key, its quota, its place in the queue.

use serde::{Deserialize, Serialize};
use sled::IVec;

use crate::engine::sled::keys::sms as keys;
use crate::engine::sled::record::{Record, decode_u64, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::sms::rules::IDEMPOTENCY_TTL;
use crate::sms::{SmsDraft, SmsIdempotency, SmsInserted, SmsQuota, SmsRecord};
use crate::{StoreError, Timestamp};

#[derive(Serialize, Deserialize)]
pub(crate) struct Idempotency {
    pub(crate) created_at: Timestamp,
    pub(crate) request: [u8; 32],
    pub(crate) message: u64,
}

impl Record for Idempotency {
    const KIND: &'static str = "idempotency key";
    const SCHEMA: u8 = 1;
}

impl Idempotency {
    fn expired(&self, now: Timestamp) -> bool {
        self.created_at.plus(IDEMPOTENCY_TTL) <= now
    }
}

pub(crate) fn insert(txn: &mut Txn, draft: SmsDraft) -> Result<SmsInserted, StoreError> {
    let (id, now) = (draft.id, draft.created_at);
    // The record under the client's key, including an expired one that is not purged yet.
    let mut known = None;
    if let Some(idempotency) = &draft.idempotency {
        known = txn.get_record::<Idempotency>(&keys::idempotency(&idempotency.key))?;
        if let Some(known) = known.as_ref().filter(|known| !known.expired(now)) {
            if known.request != idempotency.request {
                return Ok(SmsInserted::KeyReused);
            }
            let message = txn.get_record::<SmsRecord>(&keys::message(known.message))?;
            return Ok(SmsInserted::Repeated(message.map(Box::new)));
        }
        if known.is_none() && counter(txn, keys::IDEMPOTENCY_COUNT)? >= idempotency.keys_max {
            return Ok(SmsInserted::Full);
        }
    }
    if draft.begun.is_none() && counter(txn, keys::WAITING)? >= draft.queue_max {
        return Ok(SmsInserted::Full);
    }
    if let Some(quota) = &draft.quota
        && !take_one(txn, quota)?
    {
        return Ok(SmsInserted::QuotaReached);
    }
    if let Some(idempotency) = &draft.idempotency {
        remember(txn, idempotency, known, id, now)?;
    }
    if draft.begun.is_some() {
        txn.put(keys::begun(id), IVec::default());
    } else {
        txn.put(keys::due(now, id), IVec::default());
        count(txn, keys::WAITING, 1)?;
    }
    txn.put(keys::of_number(&draft.number, id), IVec::default());
    txn.put_record(keys::message(id), &SmsRecord::made(draft));
    Ok(SmsInserted::Inserted)
}

/// Counts a message against its key's day; false when the cap is reached.
fn take_one(txn: &mut Txn, quota: &SmsQuota) -> Result<bool, StoreError> {
    let key = keys::usage(quota.api_key);
    // Day and count; a count of another day is stale.
    let used = match txn.get(&key)? {
        Some(bytes) if bytes.len() == 16 && bytes[..8] == quota.day.to_be_bytes() => {
            decode_u64("usage", &bytes[8..])?
        }
        _ => 0,
    };
    if used >= quota.cap {
        return Ok(false);
    }
    let mut value = [0; 16];
    value[..8].copy_from_slice(&quota.day.to_be_bytes());
    value[8..].copy_from_slice(&(used + 1).to_be_bytes());
    txn.put(key, IVec::from(&value));
    Ok(true)
}

/// Remembers a client's key in the place of what stood under it.
fn remember(
    txn: &mut Txn,
    idempotency: &SmsIdempotency,
    expired: Option<Idempotency>,
    message: u64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let key = keys::idempotency(&idempotency.key);
    match expired {
        Some(old) => txn.delete(keys::idempotency_time(old.created_at, &idempotency.key)),
        None => count(txn, keys::IDEMPOTENCY_COUNT, 1)?,
    }
    let record = Idempotency { created_at: now, request: idempotency.request, message };
    txn.put_record(key.clone(), &record);
    txn.put(keys::idempotency_time(now, &idempotency.key), key);
    Ok(())
}

fn counter(txn: &mut Txn, key: &'static [u8]) -> Result<u64, StoreError> {
    txn.get(key)?.map_or(Ok(0), |bytes| decode_u64("counter", &bytes))
}

/// Adds to a counter.
pub(crate) fn count(txn: &mut Txn, key: &'static [u8], by: i64) -> Result<(), StoreError> {
    let now = counter(txn, key)?;
    txn.put(key.into(), encode_u64(now.saturating_add_signed(by)));
    Ok(())
}
