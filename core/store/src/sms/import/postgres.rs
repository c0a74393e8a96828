//! The operations of this folder, in PostgreSQL statements.

use crate::engine::postgres::Postgres;
use crate::sms::postgres::row::insert;
use crate::{SmsRecord, StoreError};

impl Postgres {
    /// An import has the database to itself.
    pub(crate) async fn import_sms(&self, messages: Vec<SmsRecord>) -> Result<(), StoreError> {
        let sender = self.shared.instance;
        self.change(messages, move |sql, messages| {
            Box::pin(async move {
                for message in messages {
                    insert(sql, message, sender, true).await?;
                }
                Ok(())
            })
        })
        .await
    }
}
