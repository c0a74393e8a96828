//! A message as a row.

use tokio_postgres::Row;
use uuid::Uuid;

use super::in_hand;
use crate::StoreError;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Json, Text, int};
use crate::sms::{SmsBegun, SmsClass, SmsContent, SmsOwner, SmsRecord, SmsStatus};

/// What [`read`] needs.
macro_rules! sms_columns {
    () => {
        "id, status, number, content, class, api_key, created_at, updated_at, due_at, deadline, rounds, \
         begun_provider, begun_deduplicates, resume_with, provider, provider_message_id, cost_rial, error, tried, \
         poll_at, polls"
    };
}
pub(crate) use sms_columns;

const INSERT: &str = concat!(
    "insert into sms (",
    sms_columns!(),
    ", sender, imported) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
        $20, $21, $22, $23)"
);

const UPDATE: &str = "
    update sms set status = $2, updated_at = $3, due_at = $4, rounds = $5, begun_provider = $6,
        begun_deduplicates = $7, resume_with = $8, provider = $9, provider_message_id = $10, cost_rial = $11,
        error = $12, tried = $13, poll_at = $14, polls = $15, sender = $16
    where id = $1";

impl SmsStatus {
    pub(crate) fn column(self) -> &'static str {
        match self {
            SmsStatus::Queued => "queued",
            SmsStatus::Sending => "sending",
            SmsStatus::Accepted => "accepted",
            SmsStatus::Delivered => "delivered",
            SmsStatus::Failed => "failed",
            SmsStatus::Unknown => "unknown",
            SmsStatus::Expired => "expired",
        }
    }

    fn from_column(column: &str) -> Option<SmsStatus> {
        use SmsStatus::{Accepted, Delivered, Expired, Failed, Queued, Sending, Unknown};
        let statuses = [Queued, Sending, Accepted, Delivered, Failed, Unknown, Expired];
        statuses.into_iter().find(|status| status.column() == column)
    }
}

pub(crate) fn read(row: &Row) -> Result<SmsRecord, StoreError> {
    let status = SmsStatus::from_column(row.get("status")).ok_or_else(|| StoreError::Record {
        kind: "message",
        reason: format!("its status {} is none", row.get::<_, &str>("status")),
    })?;
    let begun = row.text_opt("begun_provider").map(|provider| {
        let deduplicates = row.get::<_, Option<bool>>("begun_deduplicates").unwrap_or(false);
        SmsBegun { provider, deduplicates }
    });
    Ok(SmsRecord {
        status,
        id: row.uint("id"),
        number: row.text("number"),
        content: row.json_opt("content")?.unwrap_or(SmsContent::Hidden),
        class: if row.get::<_, &str>("class") == "otp" { SmsClass::Otp } else { SmsClass::Notice },
        owner: row.uint_opt("api_key").map_or(SmsOwner::Gateway, SmsOwner::ApiKey),
        created_at: row.at("created_at"),
        updated_at: row.at("updated_at"),
        due_at: row.at("due_at"),
        deadline: row.at("deadline"),
        rounds: row.uint32("rounds"),
        begun,
        resume_with: row.text_opt("resume_with"),
        provider: row.text_opt("provider"),
        provider_message_id: row.text_opt("provider_message_id"),
        cost_rial: row.uint_opt("cost_rial"),
        error: row.text_opt("error"),
        tried: row.json("tried")?,
        poll_at: row.at_opt("poll_at"),
        polls: row.uint32("polls"),
    })
}

/// Stores a new message. A number that another message has is a duplicate.
pub(crate) async fn insert(
    sql: &Sql,
    message: &SmsRecord,
    sender: Uuid,
    imported: bool,
) -> Result<(), StoreError> {
    let begun = message.begun.as_ref();
    let content = Some(&message.content).filter(|content| **content != SmsContent::Hidden);
    let api_key = match message.owner {
        SmsOwner::Gateway => None,
        SmsOwner::ApiKey(number) => Some(int(number)),
    };
    sql.run(
        INSERT,
        &[
            &int(message.id),
            &message.status.column(),
            &Text(&message.number),
            &content.map(Json),
            &match message.class {
                SmsClass::Otp => "otp",
                SmsClass::Notice => "notice",
            },
            &api_key,
            &At(message.created_at),
            &At(message.updated_at),
            &At(message.due_at),
            &At(message.deadline),
            &int(u64::from(message.rounds)),
            &begun.map(|begun| Text(&begun.provider)),
            &begun.map(|begun| begun.deduplicates),
            &message.resume_with.as_deref().map(Text),
            &message.provider.as_deref().map(Text),
            &message.provider_message_id.as_deref().map(Text),
            &message.cost_rial.map(int),
            &message.error.as_deref().map(Text),
            &Json(&message.tried),
            &message.poll_at.map(At),
            &int(u64::from(message.polls)),
            &in_hand(message, sender),
            &imported,
        ],
    )
    .await?;
    Ok(())
}

/// Stores what became of a message.
pub(crate) async fn update(sql: &Sql, message: &SmsRecord, sender: Uuid) -> Result<(), StoreError> {
    let begun = message.begun.as_ref();
    sql.run(
        UPDATE,
        &[
            &int(message.id),
            &message.status.column(),
            &At(message.updated_at),
            &At(message.due_at),
            &int(u64::from(message.rounds)),
            &begun.map(|begun| Text(&begun.provider)),
            &begun.map(|begun| begun.deduplicates),
            &message.resume_with.as_deref().map(Text),
            &message.provider.as_deref().map(Text),
            &message.provider_message_id.as_deref().map(Text),
            &message.cost_rial.map(int),
            &message.error.as_deref().map(Text),
            &Json(&message.tried),
            &message.poll_at.map(At),
            &int(u64::from(message.polls)),
            &in_hand(message, sender),
        ],
    )
    .await?;
    Ok(())
}
