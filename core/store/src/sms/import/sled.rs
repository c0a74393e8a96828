//! Statements of sled.

use crate::engine::sled::Sled;
use crate::engine::sled::keys::sms as keys;
use crate::{SmsRecord, StoreError};

impl Sled {
    pub(crate) async fn import_sms(&self, messages: Vec<SmsRecord>) -> Result<(), StoreError> {
        self.change(move |txn| {
            for message in messages {
                txn.put(keys::of_number(&message.number, message.id), sled::IVec::default());
                txn.put_record(keys::message(message.id), &message);
            }
            Ok(())
        })
        .await
    }
}
