//! A new message: its idempotency key, its quota, its place in the queue.

use serde::{Deserialize, Serialize};
use sled::IVec;

use crate::engine::sled::keys::sms as keys;
use crate::engine::sled::record::{Record, decode_u64};
use crate::engine::sled::txn::Txn;
use crate::sms::sled::count;
use crate::sms::{SmsDraft, SmsInserted, SmsRecord, SmsStatus};
use crate::{StoreError, Timestamp};

/// How long a repeated Idempotency-Key returns the first result.
pub(crate) const IDEMPOTENCY_TTL: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

#[derive(Serialize, Deserialize)]
struct Idempotency {
    created_at: Timestamp,
    request: [u8; 32],
    message: u64,
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
    let SmsDraft { id, number, content, class, owner, created_at, deadline, begun, tried, .. } = draft;
    // The record under the client's key, including an expired one that is not purged yet.
    let mut known = None;
    if let Some(idempotency) = draft.idempotency {
        known = txn.get_record::<Idempotency>(&keys::idempotency(&idempotency.key))?;
        if let Some(known) = known.as_ref().filter(|known| !known.expired(created_at)) {
            if known.request != idempotency.request {
                return Ok(SmsInserted::KeyReused);
            }
            let message = txn.get_record::<SmsRecord>(&keys::message(known.message))?;
            return Ok(SmsInserted::Repeated(message.map(Box::new)));
        }
        let remembered = txn.get(keys::IDEMPOTENCY_COUNT)?;
        let remembered = remembered.map_or(Ok(0), |bytes| decode_u64("counter", &bytes))?;
        if known.is_none() && remembered >= idempotency.keys_max {
            return Ok(SmsInserted::Full);
        }
    }
    if begun.is_none() {
        let waiting = txn.get(keys::WAITING)?.map_or(Ok(0), |bytes| decode_u64("counter", &bytes))?;
        if waiting >= draft.queue_max {
            return Ok(SmsInserted::Full);
        }
    }
    if let Some(quota) = draft.quota {
        let key = keys::usage(quota.owner);
        // Day and count; a count of another day is stale.
        let used = match txn.get(&key)? {
            Some(bytes) if bytes.len() == 16 && bytes[..8] == quota.day.to_be_bytes() => {
                decode_u64("usage", &bytes[8..])?
            }
            _ => 0,
        };
        if used >= quota.cap {
            return Ok(SmsInserted::QuotaReached);
        }
        let mut value = [0; 16];
        value[..8].copy_from_slice(&quota.day.to_be_bytes());
        value[8..].copy_from_slice(&(used + 1).to_be_bytes());
        txn.put(key, IVec::from(&value));
    }
    if let Some(idempotency) = draft.idempotency {
        let key = keys::idempotency(&idempotency.key);
        match known {
            Some(old) => txn.delete(keys::idempotency_time(old.created_at, &idempotency.key)),
            None => count(txn, keys::IDEMPOTENCY_COUNT, 1)?,
        }
        let record = Idempotency { created_at, request: idempotency.request, message: id };
        txn.put_record(key.clone(), &record);
        txn.put(keys::idempotency_time(created_at, &idempotency.key), key);
    }

    let status = if begun.is_some() { SmsStatus::Sending } else { SmsStatus::Queued };
    if begun.is_some() {
        txn.put(keys::begun(id), IVec::default());
    } else {
        txn.put(keys::due(created_at, id), IVec::default());
        count(txn, keys::WAITING, 1)?;
    }
    txn.put(keys::of_number(&number, id), IVec::default());
    let message = SmsRecord {
        status,
        id,
        number,
        content,
        class,
        owner,
        created_at,
        updated_at: created_at,
        due_at: created_at,
        deadline,
        rounds: 0,
        begun,
        resume_with: None,
        provider: String::new(),
        provider_message_id: String::new(),
        cost_rial: None,
        error: String::new(),
        tried,
        poll_at: Timestamp::default(),
        polls: 0,
    };
    txn.put_record(keys::message(id), &message);
    Ok(SmsInserted::Inserted)
}
