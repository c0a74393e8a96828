//! The operations of this folder, in sled statements.

pub(crate) mod insert;

use sled::IVec;

use crate::engine::sled::keys::sms as keys;
use crate::engine::sled::record::{Record, decode, decode_u64, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::sms::rules::IDEMPOTENCY_TTL;
use crate::sms::sled::insert::{count, insert};
use crate::sms::{
    SmsBegun, SmsClass, SmsDraft, SmsEnd, SmsFilter, SmsInserted, SmsOrder, SmsPage, SmsRange, SmsRecord,
    SmsRecovered, SmsStatus, SmsTried,
};
use crate::{Due, StoreError, Timestamp};

impl Record for SmsRecord {
    const KIND: &'static str = "message";
    const SCHEMA: u8 = 1;
}

impl Sled {
    pub(crate) async fn sms_insert(&self, draft: SmsDraft) -> Result<SmsInserted, StoreError> {
        match draft.class {
            // A login waits for its code.
            SmsClass::Otp => self.change(move |txn| insert(txn, draft)).await,
            SmsClass::Notice => self.change_with_room(move |txn| insert(txn, draft)).await,
        }
    }

    pub(crate) async fn sms_begin(
        &self,
        id: u64,
        begun: SmsBegun,
        failed: Vec<SmsTried>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change(move |txn| {
            let Some(mut message) = txn.get_record::<SmsRecord>(&keys::message(id))? else {
                return Ok(false);
            };
            match message.status {
                SmsStatus::Queued => leave_queue(txn, &message)?,
                SmsStatus::Sending => {}
                _ => return Ok(false),
            }
            message.begin(begun, failed, now);
            txn.put(keys::begun(id), IVec::default());
            txn.put_record(keys::message(id), &message);
            Ok(true)
        })
        .await
    }

    pub(crate) async fn sms_rest(
        &self,
        id: u64,
        failed: Vec<SmsTried>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change(move |txn| {
            let Some(mut message) = txn.get_record::<SmsRecord>(&keys::message(id))? else {
                return Ok(false);
            };
            if message.status != SmsStatus::Sending {
                return Ok(false);
            }
            // Its key among the begun ones stays, so recovery finds it after a crash.
            message.rest(failed, now);
            txn.put_record(keys::message(id), &message);
            Ok(true)
        })
        .await
    }

    pub(crate) async fn sms_end(
        &self,
        id: u64,
        end: SmsEnd,
        failed: Vec<SmsTried>,
        now: Timestamp,
    ) -> Result<Option<SmsRecord>, StoreError> {
        self.change(move |txn| {
            let Some(mut message) = txn.get_record::<SmsRecord>(&keys::message(id))? else { return Ok(None) };
            if !message.status.is_final() {
                ended(txn, &mut message, end, failed, now)?;
            }
            Ok(Some(message))
        })
        .await
    }

    pub(crate) fn sms_due(
        &self,
        due: Due,
        limit: usize,
        skip: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<Vec<SmsRecord>, StoreError> {
        let entries =
            due.spans().map(|(first, last)| self.tree.range(keys::due(first, 0)..=keys::due(last, u64::MAX)));
        let mut messages = Vec::new();
        for entry in entries.into_iter().flatten() {
            if messages.len() >= limit {
                break;
            }
            let (key, _) = entry.map_err(error::read)?;
            let Some(id) = keys::id_of(&key).filter(|id| !skip(*id)) else { continue };
            if let Some(message) = self.sms_get(id)? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    pub(crate) fn sms_next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        match self.tree.scan_prefix(keys::DUE).next() {
            None => Ok(None),
            Some(entry) => Ok(keys::due_of(&entry.map_err(error::read)?.0)),
        }
    }

    pub(crate) fn sms_waiting(&self) -> Result<u64, StoreError> {
        self.counter(keys::WAITING)
    }

    pub(crate) async fn sms_recover(&self, now: Timestamp) -> Result<SmsRecovered, StoreError> {
        self.change(move |txn| {
            let mut recovered = SmsRecovered::default();
            // As many as could run concurrently.
            for (key, _) in txn.scan(keys::BEGUN, usize::MAX)? {
                let Some(id) = keys::id_of(&key) else { continue };
                let Some(mut message) = txn.get_record::<SmsRecord>(&keys::message(id))? else {
                    txn.delete(key);
                    continue;
                };
                let (end, interrupted) = message.interrupted(now);
                recovered.count(&end);
                ended(txn, &mut message, end, interrupted, now)?;
            }
            Ok(recovered)
        })
        .await
    }

    pub(crate) fn sms_get(&self, id: u64) -> Result<Option<SmsRecord>, StoreError> {
        let bytes = self.tree.get(keys::message(id)).map_err(error::read)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    pub(crate) fn sms_last_id(&self) -> Result<u64, StoreError> {
        let last = self.tree.scan_prefix(keys::MESSAGES).next_back().transpose().map_err(error::read)?;
        Ok(last.and_then(|(key, _)| keys::id_of(&key)).unwrap_or(0))
    }

    pub(crate) fn sms_page(
        &self,
        filter: &SmsFilter,
        range: SmsRange,
        limit: usize,
        looked_max: usize,
    ) -> Result<SmsPage, StoreError> {
        let key = |id: u64| match &filter.number {
            Some(number) => keys::of_number(number, id),
            None => keys::message(id),
        };
        let mut entries = self.tree.range(key(range.from)..key(range.to));
        let mut page = SmsPage { messages: Vec::new(), stopped_at: None };
        let mut looked = 0;
        while page.messages.len() < limit {
            let next = match range.order {
                SmsOrder::OldestFirst => entries.next(),
                SmsOrder::NewestFirst => entries.next_back(),
            };
            let Some(entry) = next else { break };
            let (key, value) = entry.map_err(error::read)?;
            let Some(id) = keys::id_of(&key) else { continue };
            let message = match &filter.number {
                Some(_) => self.sms_get(id)?,
                None => Some(decode::<SmsRecord>(&value)?),
            };
            page.messages.extend(message.filter(|message| filter.matches(message)));
            looked += 1;
            if looked == looked_max && page.messages.len() < limit {
                page.stopped_at = Some(id);
                break;
            }
        }
        Ok(page)
    }

    pub(crate) async fn sms_purge(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let range = keys::message(0)..keys::message(before.as_micros());
        let mut due = Vec::new();
        for entry in self.tree.range(range).take(limit) {
            let (_, value) = entry.map_err(error::read)?;
            due.extend(decode::<SmsRecord>(&value).ok().filter(|message| message.status.is_final()));
        }
        if due.is_empty() {
            return Ok(0);
        }
        self.change(move |txn| {
            let removed = due.len();
            for message in due {
                remove(txn, message)?;
            }
            Ok(removed)
        })
        .await
    }

    pub(crate) async fn sms_idempotency_purge(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let mut due = Vec::new();
        for entry in self.tree.scan_prefix(keys::IDEMPOTENCY_TIMES).take(limit) {
            let (key, value) = entry.map_err(error::read)?;
            match keys::due_of(&key) {
                Some(at) if at.plus(IDEMPOTENCY_TTL) <= now => due.push((key, value)),
                _ => break,
            }
        }
        if due.is_empty() {
            return Ok(0);
        }
        self.change(move |txn| {
            let removed = due.len();
            for (time_key, key) in due {
                txn.delete(time_key);
                txn.delete(key);
            }
            count(txn, keys::IDEMPOTENCY_COUNT, -(removed as i64))?;
            Ok(removed)
        })
        .await
    }

    fn counter(&self, key: &[u8]) -> Result<u64, StoreError> {
        let bytes = self.tree.get(key).map_err(error::read)?;
        bytes.map_or(Ok(0), |bytes| decode_u64("counter", &bytes))
    }
}

/// Removes a message in any state.
pub(crate) fn remove(txn: &mut Txn, mut message: SmsRecord) -> Result<(), StoreError> {
    match message.status {
        SmsStatus::Queued => leave_queue(txn, &message)?,
        SmsStatus::Sending => txn.delete(keys::begun(message.id)),
        _ => {}
    }
    stop_polling(txn, &mut message);
    txn.delete(keys::of_number(&message.number, message.id));
    if let (Some(provider), Some(id)) = (&message.provider, &message.provider_message_id) {
        txn.delete(keys::of_provider(provider, id));
    }
    txn.delete(keys::message(message.id));
    Ok(())
}

/// Applies the end of an attempt to a message that has not ended.
fn ended(
    txn: &mut Txn,
    message: &mut SmsRecord,
    end: SmsEnd,
    failed: Vec<SmsTried>,
    now: Timestamp,
) -> Result<(), StoreError> {
    if message.status == SmsStatus::Queued {
        leave_queue(txn, message)?;
    }
    message.end(end, failed, now);
    txn.delete(keys::begun(message.id));
    match (message.status, &message.provider, &message.provider_message_id) {
        (SmsStatus::Accepted, Some(provider), Some(id)) => {
            txn.put(keys::of_provider(provider, id), encode_u64(message.id));
            if let Some(at) = message.poll_at {
                txn.put(keys::poll(at, message.id), IVec::default());
            }
        }
        (SmsStatus::Queued, ..) => {
            txn.put(keys::due(message.due_at, message.id), IVec::default());
            count(txn, keys::WAITING, 1)?;
        }
        _ => {}
    }
    txn.put_record(keys::message(message.id), message);
    Ok(())
}

fn leave_queue(txn: &mut Txn, message: &SmsRecord) -> Result<(), StoreError> {
    txn.delete(keys::due(message.due_at, message.id));
    count(txn, keys::WAITING, -1)
}

pub(crate) fn stop_polling(txn: &mut Txn, message: &mut SmsRecord) {
    if let Some(at) = message.poll_at.take() {
        txn.delete(keys::poll(at, message.id));
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::{SmsContent, SmsOwner};

    /// A message as it was stored while absent values were zeros and empty texts.
    #[derive(Serialize)]
    struct SmsRecordBefore {
        status: SmsStatus,
        id: u64,
        number: &'static str,
        content: SmsContent,
        class: SmsClass,
        owner: u64,
        times: [Timestamp; 4],
        rounds: u32,
        begun: Option<SmsBegun>,
        resume_with: Option<String>,
        provider: &'static str,
        provider_message_id: &'static str,
        cost_rial: Option<u64>,
        error: &'static str,
        tried: Vec<(&'static str, &'static str, &'static str)>,
        poll_at: Timestamp,
        polls: u32,
    }

    #[test]
    fn records_keep_their_bytes_though_zeros_became_types() {
        let at = Timestamp::from_secs(7);
        let waiting = SmsRecordBefore {
            status: SmsStatus::Queued,
            id: 1,
            number: "+989121234567",
            content: SmsContent::Hidden,
            class: SmsClass::Notice,
            owner: 0,
            times: [at; 4],
            rounds: 1,
            begun: None,
            resume_with: None,
            provider: "",
            provider_message_id: "",
            cost_rial: None,
            error: "",
            tried: vec![("a", "throttled", "")],
            poll_at: Timestamp::default(),
            polls: 0,
        };
        let bytes = postcard::to_extend(&waiting, vec![SmsRecord::SCHEMA]).unwrap();
        let record: SmsRecord = decode(&bytes).unwrap();
        assert_eq!(record.owner, SmsOwner::Gateway);
        assert_eq!((&record.provider, &record.provider_message_id, &record.error), (&None, &None, &None));
        assert_eq!((record.poll_at, &record.tried[0].provider_code), (None, &None));
        assert_eq!(crate::engine::sled::record::encode(&record), bytes);

        let accepted = SmsRecordBefore {
            status: SmsStatus::Accepted,
            owner: 3,
            provider: "a",
            provider_message_id: "77",
            error: "throttled",
            tried: vec![("a", "throttled", "418")],
            poll_at: at,
            ..waiting
        };
        let bytes = postcard::to_extend(&accepted, vec![SmsRecord::SCHEMA]).unwrap();
        let record: SmsRecord = decode(&bytes).unwrap();
        assert_eq!((record.owner, record.poll_at), (SmsOwner::ApiKey(3), Some(at)));
        assert_eq!(record.provider_message_id.as_deref(), Some("77"));
        assert_eq!(record.tried[0].provider_code.as_deref(), Some("418"));
        assert_eq!(crate::engine::sled::record::encode(&record), bytes);
    }
}
