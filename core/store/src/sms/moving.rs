//! Messages to phones, from one engine to the other.

use uuid::Uuid;

use super::postgres::row::{insert, read, sms_columns};
use super::sled::insert::Idempotency;
use crate::StoreError;
use crate::engine::moving::{Part, Records, Rows, row};
use crate::engine::postgres::change::Running;
use crate::engine::postgres::value::{At, Columns, int};
use crate::engine::sled::error;
use crate::engine::sled::keys::sms as keys;
use crate::engine::sled::record::{decode, decode_u64, encode};
use crate::sms::{SmsRecord, SmsStatus};

pub(crate) const PART: Part = Part {
    keys: &[
        keys::MESSAGES,
        keys::DUE,
        keys::BEGUN,
        b"qn",
        b"qp",
        b"qs",
        IDEMPOTENCY,
        keys::IDEMPOTENCY_TIMES,
        USAGE,
        keys::WAITING,
        keys::IDEMPOTENCY_COUNT,
    ],
    tables: &["sms", "sms_idempotency", "sms_usage", "sms_count"],
    to_postgres,
    to_sled,
};

const IDEMPOTENCY: &[u8] = b"qi";
const USAGE: &[u8] = b"qu";

/// Has every message in hand that was so on sled: an opening that is gone. See `sms::postgres`.
const GONE: Uuid = Uuid::nil();

fn to_postgres<'a>(rows: &'a Rows<'a>) -> Running<'a, ()> {
    Box::pin(async move {
        let sled = rows.sled;
        let message = |_: &[u8], value: &[u8]| {
            let message: SmsRecord = decode(value)?;
            // Reports do not find imported messages.
            let imported = match (&message.provider, &message.provider_message_id) {
                (Some(provider), Some(id)) => {
                    !sled.tree.contains_key(keys::of_provider(provider, id)).map_err(error::read)?
                }
                _ => false,
            };
            Ok(Some((message, imported)))
        };
        rows.each("messages to phones", keys::MESSAGES, message, |sql, (message, imported)| {
            Box::pin(insert(sql, message, GONE, *imported))
        })
        .await?;
        let key =
            "insert into sms_idempotency (key, request, message_id, created_at) values ($1, $2, $3, $4)";
        rows.insert("idempotency keys of messages", IDEMPOTENCY, key, |key, value| {
            let Idempotency { created_at, request, message } = decode(value)?;
            let key = key.get(2..).unwrap_or_default().to_vec();
            Ok(Some(row![key, request.to_vec(), int(message), At(created_at)]))
        })
        .await?;
        let usage = "insert into sms_usage (api_key, day, used) values ($1, $2, $3)";
        rows.insert("messages of the day", USAGE, usage, |key, value| {
            let (day, used) = value.split_at_checked(8).unwrap_or((value, &[]));
            let owner = int(keys::id_of(key).unwrap_or(0));
            Ok(Some(row![owner, int(decode_u64("usage", day)?), int(decode_u64("usage", used)?)]))
        })
        .await
    })
}

fn to_sled<'a>(records: &'a Records<'a>) -> Running<'a, ()> {
    Box::pin(async move {
        let messages = concat!("select ", sms_columns!(), ", imported from sms order by id");
        records
            .put("messages to phones", messages, |row| {
                let message = read(row)?;
                let id = message.id;
                let mut entries = vec![
                    (keys::message(id), encode(&message)),
                    (keys::of_number(&message.number, id), sled::IVec::default()),
                ];
                let index = match message.status {
                    SmsStatus::Queued => Some(keys::due(message.due_at, id)),
                    SmsStatus::Sending => Some(keys::begun(id)),
                    _ => None,
                };
                let poll = message.poll_at.map(|at| keys::poll(at, id));
                entries.extend(index.into_iter().chain(poll).map(|key| (key, sled::IVec::default())));
                let named = message.provider.as_ref().zip(message.provider_message_id.as_ref());
                if let Some((provider, name)) = named.filter(|_| !row.get::<_, bool>("imported")) {
                    entries.push((keys::of_provider(provider, name), id.to_be_bytes().as_slice().into()));
                }
                Ok(entries)
            })
            .await?;
        let stored = "select key, request, message_id, created_at from sms_idempotency order by key";
        records
            .put("idempotency keys of messages", stored, |row| {
                let (key, created_at) = (row.bytes("key"), row.at("created_at"));
                let (request, message) = (row.bytes("request"), row.uint("message_id"));
                let record = Idempotency { created_at, request, message };
                let name = keys::idempotency(&key);
                Ok([(keys::idempotency_time(created_at, &key), name.clone()), (name, encode(&record))])
            })
            .await?;
        records
            .put("messages of the day", "select api_key, day, used from sms_usage", |row| {
                let value = [row.uint("day").to_be_bytes(), row.uint("used").to_be_bytes()].concat();
                Ok([(keys::usage(row.uint("api_key")), value.into())])
            })
            .await?;
        counted(records, "select count(*) as count from sms where status = 'queued'", keys::WAITING).await?;
        counted(records, "select count(*) as count from sms_idempotency", keys::IDEMPOTENCY_COUNT).await
    })
}

async fn counted(records: &Records<'_>, count: &'static str, key: &'static [u8]) -> Result<(), StoreError> {
    let count = records.sql.row(count, &[]).await?.uint("count");
    records.put_number(key, count).await
}
