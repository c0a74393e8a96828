//! The operations of this folder, in sled statements.

use sled::IVec;

use crate::engine::sled::keys::sms as keys;
use crate::engine::sled::record::decode_u64;
use crate::engine::sled::{Sled, error};
use crate::sms::report::{SmsProgress, SmsReported};
use crate::sms::sled::stop_polling;
use crate::sms::{SmsRecord, SmsStatus};
use crate::{StoreError, Timestamp};

impl Sled {
    pub(crate) async fn sms_report(
        &self,
        provider: &str,
        provider_message_id: &str,
        progress: SmsProgress,
        now: Timestamp,
    ) -> Result<SmsReported, StoreError> {
        let key = keys::of_provider(provider, provider_message_id);
        self.change(move |txn| {
            let Some(bytes) = txn.get(&key)? else { return Ok(SmsReported::UnknownId) };
            let id = decode_u64("message id", &bytes)?;
            let Some(mut message) = txn.get_record::<SmsRecord>(&keys::message(id))? else {
                return Ok(SmsReported::UnknownId);
            };
            let Some(status) = message.reported(progress) else { return Ok(SmsReported::Unchanged) };
            message.report(status, now);
            stop_polling(txn, &mut message);
            txn.put_record(keys::message(id), &message);
            Ok(SmsReported::Moved)
        })
        .await
    }

    pub(crate) fn sms_to_poll(&self, now: Timestamp, limit: usize) -> Result<Vec<SmsRecord>, StoreError> {
        let mut found = Vec::new();
        for entry in
            self.tree.range(keys::poll(Timestamp::default(), 0)..keys::poll(now, u64::MAX)).take(limit)
        {
            let (key, _) = entry.map_err(error::read)?;
            let Some(id) = keys::id_of(&key) else { continue };
            found.extend(self.sms_get(id)?);
        }
        Ok(found)
    }

    pub(crate) async fn sms_polled(&self, next: Vec<(u64, Option<Timestamp>)>) -> Result<(), StoreError> {
        self.change(move |txn| {
            for (id, at) in next {
                let Some(mut message) = txn.get_record::<SmsRecord>(&keys::message(id))? else { continue };
                stop_polling(txn, &mut message);
                message.polls += 1;
                if let (Some(at), SmsStatus::Accepted) = (at, message.status) {
                    message.poll_at = Some(at);
                    txn.put(keys::poll(at, id), IVec::default());
                }
                txn.put_record(keys::message(id), &message);
            }
            Ok(())
        })
        .await
    }
}
