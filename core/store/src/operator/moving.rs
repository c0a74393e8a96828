//! Operators, their notes, API keys and the audit log, from one engine to the other.

use futures_util::future::try_join_all;

use crate::engine::moving::{Part, Records, Rows, column, row};
use crate::engine::postgres::change::Running;
use crate::engine::postgres::value::{At, Columns, int};
use crate::engine::sled::error;
use crate::engine::sled::keys::console as keys;
use crate::engine::sled::keys::{audit as audit_keys, sms as sms_keys};
use crate::engine::sled::record::{decode, decode_u64, encode};
use crate::operator::api_key::{ApiKey, postgres as api_key};
use crate::operator::audit::sled::{Chunk, table};
use crate::operator::audit::{AuditLog, postgres as audit};
use crate::operator::console::sled::Link;
use crate::operator::console::{ConsoleSession, OperatorRecord, postgres as console};
use crate::operator::note::{Note, NoteKind};
use crate::{StoreError, UserId};

pub(crate) const PART: Part = Part {
    keys: &[
        keys::OPERATORS,
        SESSIONS,
        LINKS,
        NOTES,
        keys::SESSION_SEQUENCE,
        sms_keys::API_KEYS,
        sms_keys::API_KEY_SEQUENCE,
        audit_keys::ANYONE.entries,
        audit_keys::ACCOUNT.entries,
        audit_keys::OPERATOR.entries,
        audit_keys::ANYONE.count,
        audit_keys::ACCOUNT.count,
        audit_keys::OPERATOR.count,
        audit_keys::SEQUENCE,
    ],
    tables: &[
        "operator",
        "console_session",
        "console_link",
        "operator_note",
        "api_key",
        "audit_entry",
        "audit_count",
    ],
    to_postgres,
    to_sled,
};

const SESSIONS: &[u8] = b"ds";
const LINKS: &[u8] = b"dl";
const NOTES: &[u8] = b"dn";

fn to_postgres<'a>(rows: &'a Rows<'a>) -> Running<'a, ()> {
    Box::pin(async move {
        operators(rows).await?;
        audit_logs(rows).await?;
        rows.sequence("console_session_id", keys::SESSION_SEQUENCE).await?;
        rows.sequence("api_key_id", sms_keys::API_KEY_SEQUENCE).await
    })
}

async fn operators(rows: &Rows<'_>) -> Result<(), StoreError> {
    let operator = |_: &[u8], value: &[u8]| Ok(Some(decode::<OperatorRecord>(value)?));
    rows.each("operators", keys::OPERATORS, operator, |sql, operator| Box::pin(console::put(sql, operator)))
        .await?;
    let session =
        "insert into console_session (account, hash, id, created_at, last_seen_at, expires_at, ip_address,
            user_agent, by_link)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    rows.insert("sessions of operators", SESSIONS, session, |key, value| {
        let session: ConsoleSession = decode(value)?;
        Ok(Some(row![
            int(session.user.0),
            key.last_chunk::<32>().map(|hash| hash.to_vec()),
            int(session.id),
            At(session.created_at),
            At(session.last_seen_at),
            At(session.expires_at),
            column(&session.ip_address),
            column(&session.user_agent),
            session.by_link,
        ]))
    })
    .await?;
    let link = "insert into console_link (account, hash, expires_at) values ($1, $2, $3)";
    rows.insert("links of operators", LINKS, link, |key, value| {
        let Link { hash, expires_at } = decode(value)?;
        Ok(Some(row![audit_keys::id_of(key).map(int), hash.to_vec(), At(expires_at)]))
    })
    .await?;
    let note = "insert into operator_note (kind, name, value) values ($1, $2, $3)";
    rows.insert("notes of operators", NOTES, note, |key, value| {
        let kind = NoteKind::ALL.into_iter().find(|kind| key.get(2) == Some(&(*kind as u8)));
        let damaged = || StoreError::Record { kind: "note", reason: "its kind is none".to_owned() };
        let (kind, Note { name, value }) = (kind.ok_or_else(damaged)?, decode(value)?);
        Ok(Some(row![kind.column(), column(&name), column(&value)]))
    })
    .await?;
    let api_key = "insert into api_key (id, hash, name, scope, daily_cap, created_at, revoked_at)
        values ($1, $2, $3, $4, $5, $6, $7)";
    rows.insert("API keys", sms_keys::API_KEYS, api_key, |_, value| {
        let ApiKey { hash, id, name, scope, daily_cap, created_at, revoked_at } = decode(value)?;
        let (daily_cap, revoked_at) = (daily_cap.map(int), revoked_at.map(At));
        let (name, scope) = (column(&name), column(&scope));
        Ok(Some(row![int(id), hash.to_vec(), name, scope, daily_cap, At(created_at), revoked_at]))
    })
    .await
}

async fn audit_logs(rows: &Rows<'_>) -> Result<(), StoreError> {
    let number = |key: &[u8]| -> Result<Option<u64>, StoreError> {
        let bytes = rows.sled.tree.get(key).map_err(error::read)?;
        bytes.map(|bytes| decode_u64("audit count", &bytes)).transpose()
    };
    for log in AuditLog::ALL {
        let chunk = |key: &[u8], value: &[u8]| Ok(Some((log, Chunk::read(key, value)?)));
        rows.each("audit entries", table(log).entries, chunk, |sql, (log, Chunk { before, entries })| {
            Box::pin(async move {
                let placed = (before + 1..).zip(entries);
                let inserts =
                    placed.map(|(place, (id, draft))| audit::insert(sql, int(*id), *log, int(place), draft));
                try_join_all(inserts).await.map(drop)
            })
        })
        .await?;
    }
    let entries = number(audit_keys::SEQUENCE)?.unwrap_or(0);
    // Before there were several logs, all entries were in the first.
    let anyone = number(audit_keys::ANYONE.count)?.unwrap_or(entries);
    let account = number(audit_keys::ACCOUNT.count)?.unwrap_or(0);
    let operator = number(audit_keys::OPERATOR.count)?.unwrap_or(0);
    let counts = "update audit_count set entries = $1, anyone = $2, account = $3, operator = $4";
    rows.sql.run(counts, &[&int(entries), &int(anyone), &int(account), &int(operator)]).await.map(drop)
}

fn to_sled<'a>(records: &'a Records<'a>) -> Running<'a, ()> {
    Box::pin(async move {
        operators_back(records).await?;
        audit_logs_back(records).await?;
        records.sequence("console_session_id", keys::SESSION_SEQUENCE).await?;
        records.sequence("api_key_id", sms_keys::API_KEY_SEQUENCE).await
    })
}

async fn operators_back(records: &Records<'_>) -> Result<(), StoreError> {
    records
        .put("operators", console::OPERATORS, |row| {
            let operator = console::read(row)?;
            Ok([(keys::operator(operator.user), encode(&operator))])
        })
        .await?;
    records
        .put("sessions of operators", console::SESSIONS, |row| {
            let session = console::read_session(row);
            Ok([(keys::session(session.user, &row.bytes("hash")), encode(&session))])
        })
        .await?;
    records
        .put("links of operators", "select account, hash, expires_at from console_link", |row| {
            let link = Link { hash: row.bytes("hash"), expires_at: row.at("expires_at") };
            Ok([(keys::link(UserId(row.uint("account"))), encode(&link))])
        })
        .await?;
    records
        .put("notes of operators", "select kind, name, value from operator_note", |row| {
            let column: &str = row.get("kind");
            let kind = NoteKind::ALL.into_iter().find(|kind| kind.column() == column);
            let damaged =
                || StoreError::Record { kind: "note", reason: format!("its kind {column} is none") };
            let note = Note { name: row.text("name"), value: row.text("value") };
            Ok([(keys::note(kind.ok_or_else(damaged)?, &note.name), encode(&note))])
        })
        .await?;
    records
        .put("API keys", api_key::ALL, |row| {
            let key = api_key::read(row);
            Ok([(sms_keys::api_key(key.id), encode(&key))])
        })
        .await
}

async fn audit_logs_back(records: &Records<'_>) -> Result<(), StoreError> {
    records
        .put("audit entries", audit::ALL, |row| {
            let (entry, name): (_, &str) = (audit::read(row), row.get("log"));
            let log = AuditLog::ALL.into_iter().find(|log| audit::name(*log) == name);
            let damaged =
                || StoreError::Record { kind: "audit entry", reason: format!("its log {name} is none") };
            let key = table(log.ok_or_else(damaged)?).entry(entry.id);
            let chunk = Chunk { before: row.uint("place") - 1, entries: vec![(entry.id, entry.draft)] };
            Ok([(key, encode(&chunk))])
        })
        .await?;
    let counts = "select entries, anyone, account, operator from audit_count";
    let counts = records.sql.row(counts, &[]).await?;
    records.put_number(audit_keys::SEQUENCE, counts.uint("entries")).await?;
    for log in AuditLog::ALL {
        records.put_number(table(log).count, counts.uint(audit::name(log))).await?;
    }
    Ok(())
}
