//! Accounts, codes, passwords and sessions, from one engine to the other.

use uuid::Uuid;

use crate::engine::moving::{Part, Records, Rows, Values, column, column_opt, row};
use crate::engine::postgres::change::Running;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::engine::sled::agent::AgentRef;
use crate::engine::sled::record::{decode, decode_u64, encode, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error, keys};
use crate::login::legacy::sled::LegacyRecord;
use crate::login::password::sled::{self as password, PasswordRecord};
use crate::login::password::{GuardRecord, ResetToken};
use crate::login::postgres::{account, code};
use crate::login::session::sled::SessionRecord;
use crate::login::sled::contact::Contact;
use crate::login::sled::user::{self, UserRecord};
use crate::{SessionId, StoreError, Timestamp, UserId};

pub(crate) const PART: Part = Part {
    keys: &[
        b"u",
        b"n",
        b"N",
        b"i",
        b"M",
        b"h",
        b"R",
        keys::CONTACTS,
        keys::LOOKS,
        keys::GUARDS,
        keys::AGENTS,
        keys::SESSIONS,
        keys::LEGACY,
        keys::USER_SEQUENCE,
        keys::SESSION_SEQUENCE,
        keys::AGENT_SEQUENCE,
        keys::UNBOUND_SESSIONS,
    ],
    tables: &[
        "account",
        "account_number",
        "account_name",
        "account_look",
        "account_look_position",
        "account_merged",
        "password",
        "password_token",
        "password_guard",
        "challenge",
        "user_agent",
        "session",
        "used_token",
    ],
    to_postgres,
    to_sled,
};

/// What follows a kind's first byte.
fn rest(key: &[u8]) -> &[u8] {
    key.get(1..).unwrap_or_default()
}

fn text(bytes: &[u8]) -> Result<String, StoreError> {
    let damaged = |_| StoreError::Record { kind: "text", reason: "it is not UTF-8".to_owned() };
    String::from_utf8(bytes.to_vec()).map_err(damaged)
}

fn user_of(key: &[u8]) -> UserId {
    UserId(rest(key).first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
}

/// Whether an account exists. What refers to one that does not is found by no operation.
pub(crate) fn exists(sled: &Sled, id: UserId) -> Result<bool, StoreError> {
    sled.tree.contains_key(keys::user(id)).map_err(error::read)
}

/// Gives an account that does not exist the empty row that others refer to.
pub(crate) async fn put_erased(sql: &Sql, id: UserId, at: Timestamp) -> Result<(), StoreError> {
    let put = "insert into account (id, active, username, number, group_number, created_at, erased)
        values ($1, false, '', '', 0, $2, true) on conflict (id) do nothing";
    sql.run(put, &[&int(id.0), &At(at)]).await.map(drop)
}

fn to_postgres<'a>(rows: &'a Rows<'a>) -> Running<'a, ()> {
    Box::pin(async move {
        accounts(rows).await?;
        numbers(rows).await?;
        names(rows).await?;
        secrets(rows).await?;
        sessions(rows).await?;
        rows.sequence("account_id", keys::USER_SEQUENCE).await?;
        rows.sequence("session_id", keys::SESSION_SEQUENCE).await?;
        rows.sequence("user_agent_id_seq", keys::AGENT_SEQUENCE).await
    })
}

async fn accounts(rows: &Rows<'_>) -> Result<(), StoreError> {
    let account = |key: &[u8], value: &[u8]| Ok(Some(decode::<UserRecord>(value)?.with_id(user_of(key))));
    rows.each("accounts", b"u", account, |sql, user| Box::pin(account::put(sql, user))).await?;
    let merged = "insert into account_merged (old, account) values ($1, $2)";
    rows.insert("merged accounts", b"M", merged, |key, value| {
        Ok(Some(row![int(user_of(key).0), int(decode_u64("merged user", value)?)]))
    })
    .await
}

async fn numbers(rows: &Rows<'_>) -> Result<(), StoreError> {
    let contact = |key: &[u8], value: &[u8]| Ok(Some((text(rest(key))?, decode::<Contact>(value)?)));
    rows.each("numbers and codes", keys::CONTACTS, contact, |sql, (name, contact)| {
        Box::pin(async move {
            if let Some(challenge) = &contact.challenge {
                code::insert(sql, name, challenge).await?;
            }
            for (group, user) in contact.accounts() {
                put_number(sql, name, group, user).await?;
            }
            Ok(())
        })
    })
    .await?;
    // As older versions stored them.
    let identity = |key: &[u8], value: &[u8]| {
        let (group, number) = rest(key).split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
        let user = UserId(decode_u64("identity", value)?);
        Ok(Some((u32::from_be_bytes(*group), text(number)?, user)))
    };
    rows.each("numbers", b"i", identity, |sql, (group, number, user)| {
        Box::pin(put_number(sql, number, *group, *user))
    })
    .await
}

async fn put_number(sql: &Sql, number: &str, group: u32, user: UserId) -> Result<(), StoreError> {
    let put = "insert into account_number (number, group_number, account)
        select $1, $2, $3 where exists (select from account where id = $3 and not erased) on conflict do nothing";
    sql.run(put, &[&Text(number), &i64::from(group), &int(user.0)]).await.map(drop)
}

async fn names(rows: &Rows<'_>) -> Result<(), StoreError> {
    let sled = rows.sled;
    let named = |key: &[u8], value: &[u8]| {
        let user = UserId(decode_u64("user name", value)?);
        Ok(if exists(sled, user)? { Some(row![column(&text(rest(key))?), int(user.0)]) } else { None })
    };
    let name = "insert into account_name (name, account) values ($1, $2)";
    rows.insert("user names", b"n", name, named).await?;
    let look = "insert into account_look (look, account) values ($1, $2)";
    rows.insert("looks of user names", b"N", look, named).await?;
    let position = "insert into account_look_position (account) values ($1)";
    rows.insert("looks of user names", keys::LOOKS, position, |_, value| {
        Ok(Some(row![int(decode_u64("look position", value)?)]))
    })
    .await
}

async fn secrets(rows: &Rows<'_>) -> Result<(), StoreError> {
    let sled = rows.sled;
    let password = "insert into password (account, hash, changed_at) values ($1, $2, $3)";
    rows.insert("passwords", b"h", password, |key, value| {
        let (user, PasswordRecord { hash, changed_at }) = (user_of(key), decode(value)?);
        Ok(exists(sled, user)?.then(|| row![int(user.0), column(&hash), At(changed_at)]))
    })
    .await?;
    let token = "insert into password_token (account, mac, expires_at) values ($1, $2, $3)";
    rows.insert("password tokens", b"R", token, |key, value| {
        let (user, ResetToken { mac, expires_at }) = (user_of(key), decode(value)?);
        Ok(exists(sled, user)?.then(|| row![int(user.0), mac.to_vec(), At(expires_at)]))
    })
    .await?;
    let guard = "insert into password_guard (key, guesses, open_at, forget_at) values ($1, $2, $3, $4)";
    rows.insert("guesses at passwords", keys::GUARDS, guard, |key, value| {
        let GuardRecord { guesses, open_at, forget_at } = decode(value)?;
        Ok(Some(row![rest(key).to_vec(), i64::from(guesses), At(open_at), At(forget_at)]))
    })
    .await
}

async fn sessions(rows: &Rows<'_>) -> Result<(), StoreError> {
    let sled = rows.sled;
    let agent = "insert into user_agent (id, text) overriding system value values ($1, $2)";
    rows.insert("user agents", keys::AGENTS, agent, |key, value| {
        // A text has one number here, by which its sessions name it.
        let (number, text) = (keys::agent_number(key).unwrap_or(0), text(value)?);
        let is_named_so = sled.agents.name(&text) == AgentRef::Number(number);
        Ok(is_named_so.then(|| row![i64::from(number), column(&text)]))
    })
    .await?;
    let session =
        "insert into session (id, account, key, agent, agent_text, ip_address, device_name, created_at,
            last_seen_at, rotated_at, expires_at, generation, unbound)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    rows.insert("sessions", keys::SESSIONS, session, |key, value| {
        let (user, id) = (user_of(key), keys::session_id(key).unwrap_or(SessionId(0)));
        Ok(if exists(sled, user)? { Some(session_row(sled, user, id, decode(value)?)) } else { None })
    })
    .await?;
    let used = "insert into used_token (account, token, token_expires_at, session) values ($1, $2, $3, $4)";
    rows.insert("used tokens", keys::LEGACY, used, |key, value| {
        let (user, LegacyRecord { token_expires_at, session }) = (user_of(key), decode(value)?);
        let token = Uuid::from_u128(key.last_chunk::<16>().map_or(0, |bytes| u128::from_be_bytes(*bytes)));
        Ok(exists(sled, user)?.then(|| row![int(user.0), token, At(token_expires_at), int(session.0)]))
    })
    .await
}

fn session_row(sled: &Sled, user: UserId, id: SessionId, session: SessionRecord) -> Values {
    let agent = match session.user_agent {
        AgentRef::Number(_) => sled.agents.name(&sled.agents.text(session.user_agent)),
        text => text,
    };
    let (number, text) = match agent {
        AgentRef::Number(number) => (Some(i64::from(number)), None),
        AgentRef::Text(text) => (None, Some(column(&text))),
    };
    row![
        int(id.0),
        int(user.0),
        Uuid::from_u128(session.key),
        number,
        text,
        session.ip_address,
        column_opt(session.device_name.as_deref()),
        At(session.created_at),
        At(session.last_seen_at),
        At(session.rotated_at),
        At(session.expires_at),
        i64::from(session.generation),
        id <= sled.unbound_up_to,
    ]
}

fn to_sled<'a>(records: &'a Records<'a>) -> Running<'a, ()> {
    Box::pin(async move {
        accounts_back(records).await?;
        names_back(records).await?;
        secrets_back(records).await?;
        sessions_back(records).await?;
        records.sequence("account_id", keys::USER_SEQUENCE).await?;
        records.sequence("session_id", keys::SESSION_SEQUENCE).await?;
        records.sequence("user_agent_id_seq", keys::AGENT_SEQUENCE).await
    })
}

async fn accounts_back(records: &Records<'_>) -> Result<(), StoreError> {
    let accounts = concat!("select ", account::columns!(), " from account a where not erased order by id");
    records
        .each("accounts", accounts, |row| {
            let user = account::read(row);
            Ok(move |txn: &mut Txn| {
                user::put(txn, &user);
                Ok(())
            })
        })
        .await?;
    records
        .put("merged accounts", "select old, account from account_merged order by old", |row| {
            Ok([(keys::merged_user(UserId(row.uint("old"))), encode_u64(row.uint("account")))])
        })
        .await
}

async fn names_back(records: &Records<'_>) -> Result<(), StoreError> {
    let numbers = "select number, group_number, account from account_number order by number, account";
    records
        .each("numbers", numbers, |row| {
            let (number, user) = (row.text("number"), UserId(row.uint("account")));
            let group = row.uint32("group_number");
            Ok(move |txn: &mut Txn| {
                let mut contact = Contact::get(txn, &number)?;
                contact.add_account(group, user);
                contact.put(txn, &number);
                Ok(())
            })
        })
        .await?;
    let codes = concat!("select ", code::columns!(), ", name from challenge order by name");
    records
        .each("codes", codes, |row| {
            let (name, challenge) = (row.text("name"), code::read(row));
            Ok(move |txn: &mut Txn| {
                let mut contact = Contact::get(txn, &name)?;
                contact.challenge = Some(challenge);
                contact.put(txn, &name);
                Ok(())
            })
        })
        .await?;
    records
        .put("user names", "select name, account from account_name order by name", |row| {
            Ok([(keys::user_name(&row.text("name")), encode_u64(row.uint("account")))])
        })
        .await?;
    records
        .put("looks of user names", "select look, account from account_look order by look", |row| {
            Ok([(keys::user_look(&row.text("look")), encode_u64(row.uint("account")))])
        })
        .await?;
    records
        .put("looks of user names", "select account from account_look_position", |row| {
            Ok([(keys::LOOKS.into(), encode_u64(row.uint("account")))])
        })
        .await
}

async fn secrets_back(records: &Records<'_>) -> Result<(), StoreError> {
    records
        .each("passwords", "select account, hash, changed_at from password order by account", |row| {
            let (user, hash, at) = (UserId(row.uint("account")), row.text("hash"), row.at("changed_at"));
            Ok(move |txn: &mut Txn| {
                password::put(txn, user, hash, at);
                Ok(())
            })
        })
        .await?;
    let tokens = "select account, mac, expires_at from password_token order by account";
    records
        .put("password tokens", tokens, |row| {
            let token = ResetToken { mac: row.bytes("mac"), expires_at: row.at("expires_at") };
            Ok([(keys::reset_token(UserId(row.uint("account"))), encode(&token))])
        })
        .await?;
    let guards = "select key, guesses, open_at, forget_at from password_guard order by key";
    records
        .put("guesses at passwords", guards, |row| {
            let (guesses, open_at) = (row.uint32("guesses"), row.at("open_at"));
            let record = GuardRecord { guesses, open_at, forget_at: row.at("forget_at") };
            Ok([(keys::guard(&row.bytes("key")), encode(&record))])
        })
        .await
}

async fn sessions_back(records: &Records<'_>) -> Result<(), StoreError> {
    let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    records
        .put("user agents", "select id, text from user_agent order by id", |row| {
            Ok([(keys::agent(short(row.uint("id"))), row.text("text").as_bytes().into())])
        })
        .await?;
    let sessions =
        "select id, account, key, agent, agent_text, ip_address, device_name, created_at, last_seen_at,
        rotated_at, expires_at, generation from session order by account, id";
    records
        .put("sessions", sessions, |row| {
            let user_agent = match row.uint_opt("agent") {
                Some(number) => AgentRef::Number(short(number)),
                None => AgentRef::Text(row.text("agent_text").into()),
            };
            let record = SessionRecord {
                expires_at: row.at("expires_at"),
                key: row.get::<_, Uuid>("key").as_u128(),
                created_at: row.at("created_at"),
                last_seen_at: row.at("last_seen_at"),
                rotated_at: row.at("rotated_at"),
                user_agent,
                ip_address: row.ip_opt("ip_address"),
                generation: row.uint32("generation"),
                device_name: row.text_opt("device_name"),
            };
            let key = keys::session(UserId(row.uint("account")), SessionId(row.uint("id")));
            Ok([(key, encode(&record))])
        })
        .await?;
    // Those that are older than bindings have the smallest numbers.
    let unbound = "select coalesce(max(id) filter (where unbound), 0) as last from session";
    let unbound = records.sql.row(unbound, &[]).await?.uint("last");
    records.put_number(keys::UNBOUND_SESSIONS, unbound).await?;
    let used = "select account, token, token_expires_at, session from used_token order by account, token";
    records
        .put("used tokens", used, |row| {
            let (token_expires_at, session) = (row.at("token_expires_at"), SessionId(row.uint("session")));
            let key = keys::legacy(UserId(row.uint("account")), row.get::<_, Uuid>("token").as_u128());
            Ok([(key, encode(&LegacyRecord { token_expires_at, session }))])
        })
        .await
}
