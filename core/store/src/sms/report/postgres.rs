//! The operations of this folder, in PostgreSQL statements.

use crate::engine::postgres::Postgres;
use crate::engine::postgres::value::{At, Text, int};
use crate::sms::postgres::get_locked;
use crate::sms::postgres::row::{read, sms_columns, update};
use crate::sms::report::{SmsProgress, SmsReported};
use crate::sms::{SmsRecord, SmsStatus};
use crate::{StoreError, Timestamp};

/// A provider may give an id again; then it means the newest message.
const BY_PROVIDER: &str = concat!(
    "select ",
    sms_columns!(),
    " from sms where provider = $1 and provider_message_id = $2 and not imported
      order by id + 0 desc limit 1 for update"
);

const TO_POLL: &str =
    concat!("select ", sms_columns!(), " from sms where poll_at <= $1 order by poll_at, id limit $2");

impl Postgres {
    /// Locks the message's row.
    pub(crate) async fn sms_report(
        &self,
        provider: &str,
        provider_message_id: &str,
        progress: SmsProgress,
        now: Timestamp,
    ) -> Result<SmsReported, StoreError> {
        let sender = self.shared.instance;
        let names = (provider.to_owned(), provider_message_id.to_owned());
        self.change(names, move |sql, (provider, id)| {
            Box::pin(async move {
                let Some(row) = sql.found(BY_PROVIDER, &[&Text(provider), &Text(id)]).await? else {
                    return Ok(SmsReported::UnknownId);
                };
                let mut message = read(&row)?;
                let Some(status) = message.reported(progress) else { return Ok(SmsReported::Unchanged) };
                message.report(status, now);
                message.poll_at = None;
                update(sql, &message, sender).await?;
                Ok(SmsReported::Moved)
            })
        })
        .await
    }

    pub(crate) async fn sms_to_poll(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<SmsRecord>, StoreError> {
        let rows = self.reader().await?.rows(TO_POLL, &[&At(now), &int(limit as u64)]).await?;
        rows.iter().map(read).collect()
    }

    /// Locks the rows of the messages, in the order of their numbers.
    pub(crate) async fn sms_polled(&self, mut next: Vec<(u64, Option<Timestamp>)>) -> Result<(), StoreError> {
        let sender = self.shared.instance;
        next.sort_by_key(|(id, _)| *id);
        self.change(next, move |sql, next| {
            Box::pin(async move {
                for (id, at) in next {
                    let Some(mut message) = get_locked(sql, *id).await? else { continue };
                    message.polls += 1;
                    message.poll_at = at.filter(|_| message.status == SmsStatus::Accepted);
                    update(sql, &message, sender).await?;
                }
                Ok(())
            })
        })
        .await
    }
}
