//! Statements of sled.

use sled::IVec;

use crate::engine::sled::keys::sms as keys;
use crate::engine::sled::record::decode_u64;
use crate::engine::sled::{Sled, error};
use crate::sms::report::{Progress, Reported};
use crate::sms::sled::stop_polling;
use crate::sms::{Message, MessageStatus};
use crate::{StoreError, Timestamp};

impl Sled {
    pub(crate) async fn message_report(
        &self,
        provider: &str,
        provider_message_id: &str,
        progress: Progress,
        now: Timestamp,
    ) -> Result<Reported, StoreError> {
        let key = keys::of_provider(provider, provider_message_id);
        self.change(move |txn| {
            let Some(bytes) = txn.get(&key)? else { return Ok(Reported::UnknownId) };
            let id = decode_u64("message id", &bytes)?;
            let Some(mut message) = txn.get_record::<Message>(&keys::message(id))? else {
                return Ok(Reported::UnknownId);
            };
            let status = match (message.status, progress) {
                (MessageStatus::Accepted | MessageStatus::Failed, Progress::Delivered) => {
                    MessageStatus::Delivered
                }
                (MessageStatus::Accepted, Progress::Failed) => MessageStatus::Failed,
                _ => return Ok(Reported::Unchanged),
            };
            message.status = status;
            message.updated_at = now;
            message.error = match status {
                MessageStatus::Failed => "not_delivered".to_owned(),
                _ => String::new(),
            };
            stop_polling(txn, &mut message);
            txn.put_record(keys::message(id), &message);
            Ok(Reported::Moved)
        })
        .await
    }

    pub(crate) fn messages_to_poll(&self, now: Timestamp, limit: usize) -> Result<Vec<Message>, StoreError> {
        let mut found = Vec::new();
        for entry in
            self.tree.range(keys::poll(Timestamp::default(), 0)..keys::poll(now, u64::MAX)).take(limit)
        {
            let (key, _) = entry.map_err(error::read)?;
            let Some(id) = keys::id_of(&key) else { continue };
            found.extend(self.message_get(id)?);
        }
        Ok(found)
    }

    pub(crate) async fn messages_polled(
        &self,
        next: Vec<(u64, Option<Timestamp>)>,
    ) -> Result<(), StoreError> {
        self.change(move |txn| {
            for (id, at) in next {
                let Some(mut message) = txn.get_record::<Message>(&keys::message(id))? else { continue };
                stop_polling(txn, &mut message);
                message.polls += 1;
                if let (Some(at), MessageStatus::Accepted) = (at, message.status) {
                    message.poll_at = at;
                    txn.put(keys::poll(at, id), IVec::default());
                }
                txn.put_record(keys::message(id), &message);
            }
            Ok(())
        })
        .await
    }
}
