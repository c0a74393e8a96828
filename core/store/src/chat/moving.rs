//! Rooms, members and messages, from one engine to the other.
//!
//! Rooms that were deleted and not swept yet stay behind with all that is theirs, which is what sweeping does. The
//! words of messages are collected anew.

use super::message::postgres::{message, message_columns};
use super::postgres::room::{Kept, kind, member, member_columns, room_columns, status};
use super::sled::message::MessageRecord;
use super::sled::request::RequestRecord;
use super::sled::room::{MemberRecord, RoomRecord};
use crate::chat::organization::sled::OrganizationRecord;
use crate::chat::room::{Room, RoomKind};
use crate::chat::{OrganizationId, RoomId};
use crate::engine::moving::{Part, Records, Rows, Values, column, column_opt, row};
use crate::engine::postgres::change::Running;
use crate::engine::postgres::sql::{Args, Sql};
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::engine::sled::keys::chat as keys;
use crate::engine::sled::record::{decode, decode_u64, encode, encode_u64};
use crate::engine::sled::txn::Newest;
use crate::engine::sled::{Sled, error};
use crate::login::moving::{exists, put_erased};
use crate::{StoreError, Timestamp, UserId};

pub(crate) const PART: Part = Part {
    keys: &[
        keys::ROOMS,
        MEMBERS,
        b"Cu",
        CONTACTS,
        BANS,
        REQUESTS,
        LEAVERS,
        keys::BLOCKS,
        keys::DECLINES,
        b"Cp",
        MESSAGES,
        b"Cd",
        b"Ce",
        REVISIONS,
        ORGANIZATIONS,
        b"Cn",
        b"Cw",
        OLD_MESSAGES,
        b"Cs",
        keys::SWEEPS,
        keys::ROOM_SEQUENCE,
        keys::ORGANIZATION_SEQUENCE,
    ],
    tables: &[
        "organization",
        "room",
        "room_member",
        "chat_request",
        "room_ban",
        "room_leaver",
        "message",
        "word_block",
        "chat_block",
        "chat_decline",
        "chat_contact",
        "imported_message",
    ],
    to_postgres,
    to_sled,
};

const MEMBERS: &[u8] = b"Cm";
const CONTACTS: &[u8] = b"Ca";
const BANS: &[u8] = b"Cb";
const REQUESTS: &[u8] = b"Ch";
const LEAVERS: &[u8] = b"Ci";
const MESSAGES: &[u8] = b"Cx";
const REVISIONS: &[u8] = b"Cv";
const ORGANIZATIONS: &[u8] = b"Co";
const OLD_MESSAGES: &[u8] = b"Cl";

/// The first of two numbers in a key.
fn first(key: &[u8]) -> u64 {
    key.get(2..).and_then(|rest| rest.first_chunk::<8>()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The room that was looked at last: records of one room follow each other.
struct Looked<'a> {
    sled: &'a Sled,
    room: RoomId,
    exists: bool,
    newest: Option<Newest>,
}

impl<'a> Looked<'a> {
    fn new(sled: &'a Sled) -> Looked<'a> {
        Looked { sled, room: RoomId(0), exists: false, newest: None }
    }

    /// Whether the room of a key exists.
    fn at(&mut self, key: &[u8]) -> Result<bool, StoreError> {
        let room = RoomId(first(key));
        if room != self.room {
            self.exists = self.sled.tree.contains_key(keys::room(room)).map_err(error::read)?;
            self.newest = self.sled.chat_newest(room)?.map(|(newest, _)| newest);
            self.room = room;
        }
        Ok(self.exists)
    }
}

fn to_postgres<'a>(rows: &'a Rows<'a>) -> Running<'a, ()> {
    Box::pin(async move {
        organizations(rows).await?;
        rooms(rows).await?;
        members(rows).await?;
        people(rows).await?;
        messages(rows).await?;
        rows.sequence("room_id", keys::ROOM_SEQUENCE).await?;
        rows.sequence("organization_id", keys::ORGANIZATION_SEQUENCE).await
    })
}

/// The account that a row refers to gets an empty row if it is gone.
async fn put_missing(sql: &Sql, missing: Option<UserId>, at: Timestamp) -> Result<(), StoreError> {
    match missing {
        Some(user) => put_erased(sql, user, at).await,
        None => Ok(()),
    }
}

fn missing(sled: &Sled, user: UserId) -> Result<Option<UserId>, StoreError> {
    Ok((!exists(sled, user)?).then_some(user))
}

async fn organizations(rows: &Rows<'_>) -> Result<(), StoreError> {
    let sled = rows.sled;
    let organization = |key: &[u8], value: &[u8]| {
        let record: OrganizationRecord = decode(value)?;
        Ok(Some((missing(sled, record.owner)?, record.with_id(OrganizationId(keys::last(key))))))
    };
    rows.each("organisations", ORGANIZATIONS, organization, |sql, (missing, organization)| {
        Box::pin(async move {
            put_missing(sql, *missing, organization.created_at).await?;
            let put =
                "insert into organization (id, name, uname, owner, created_at) values ($1, $2, $3, $4, $5)";
            let (name, uname) = (Text(&organization.name), Text(&organization.uname));
            let (id, owner) = (int(organization.id.0), int(organization.owner.0));
            sql.run(put, &[&id, &name, &uname, &owner, &At(organization.created_at)]).await.map(drop)
        })
    })
    .await
}

/// A room, the other user of a pair, and its newest message's number and time.
struct MovedRoom {
    room: Room,
    other: UserId,
    last: (u64, Timestamp),
    missing: Option<UserId>,
}

async fn rooms(rows: &Rows<'_>) -> Result<(), StoreError> {
    let sled = rows.sled;
    let room = |key: &[u8], value: &[u8]| {
        let (id, record): (_, RoomRecord) = (RoomId(keys::last(key)), decode(value)?);
        let newest = sled.chat_newest(id)?;
        let last = newest.map_or((0, Timestamp::default()), |(newest, at)| (newest.seq, at));
        let (other, missing) = (record.other, missing(sled, record.owner)?);
        Ok(Some(MovedRoom { room: record.with_id(id), other, last, missing }))
    };
    rows.each("rooms", keys::ROOMS, room, |sql, moved| Box::pin(put_room(sql, moved))).await
}

async fn put_room(sql: &Sql, moved: &MovedRoom) -> Result<(), StoreError> {
    let MovedRoom { room, other, last, missing } = moved;
    put_missing(sql, *missing, room.created_at).await?;
    let put = "insert into room (id, kind, owner, pair_low, pair_high, name, descriptions, avatar, status, organization,
            created_at, updated_at, members, bans, last_seq, last_at, revision, changes)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, (select id from organization where id = $10), $11, $12, $13, $14,
            $15, $16, $17, $18)";
    let pair = (room.kind == RoomKind::Pair).then(|| (room.owner.min(*other), room.owner.max(*other)));
    let args: Args<'_> = &[
        &int(room.id.0),
        &kind(room.kind),
        &int(room.owner.0),
        &pair.map(|(low, _)| int(low.0)),
        &pair.map(|(_, high)| int(high.0)),
        &room.name.as_deref().map(Text),
        &room.descriptions.as_deref().map(Text),
        &room.avatar.map(|avatar| int(avatar.0)),
        &status(room.status),
        &room.organization.map(|organization| int(organization.0)),
        &At(room.created_at),
        &At(room.updated_at),
        &i64::from(room.members),
        &i64::from(room.bans),
        &int(last.0),
        &At(last.1),
        &int(room.revision),
        &int(room.changes),
    ];
    sql.run(put, args).await.map(drop)
}

async fn members(rows: &Rows<'_>) -> Result<(), StoreError> {
    let (sled, mut looked) = (rows.sled, Looked::new(rows.sled));
    let member = |key: &[u8], value: &[u8]| {
        if !looked.at(key)? {
            return Ok(None);
        }
        let user = UserId(keys::last(key));
        // There the sender of the newest message has read it only by a rule, here by the row.
        let member = decode::<MemberRecord>(value)?.as_of(user, looked.newest);
        Ok(Some((looked.room, user, member, missing(sled, user)?)))
    };
    rows.each("members", MEMBERS, member, |sql, (room, user, member, missing)| {
        Box::pin(async move {
            put_missing(sql, *missing, member.joined_at).await?;
            let put = "insert into room_member
                    (room, account, rights, read_seq, deleted_unread, pinned, joined_at, hidden_at, pending)
                values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
            let args: Args<'_> = &[
                &int(room.0),
                &int(user.0),
                &i32::from(member.rights),
                &int(member.read_seq),
                &int(member.deleted_unread),
                &member.pinned,
                &At(member.joined_at),
                &member.hidden_at.map(int),
                &member.pending,
            ];
            sql.run(put, args).await.map(drop)
        })
    })
    .await?;
    let request = "insert into chat_request (account, room, asked_by, at)
        select account, room, $3, $4 from room_member where account = $1 and room = $2";
    rows.insert("requests", REQUESTS, request, |key, value| {
        let RequestRecord { by, at } = decode(value)?;
        Ok(Some(row![int(first(key)), int(keys::last(key)), int(by.0), At(at)]))
    })
    .await
}

/// Bans, those who left, blocks, declined pairs and address books.
async fn people(rows: &Rows<'_>) -> Result<(), StoreError> {
    let sled = rows.sled;
    for (what, prefix, put) in [
        ("bans", BANS, "insert into room_ban (room, account) values ($1, $2)"),
        ("users who left", LEAVERS, "insert into room_leaver (room, account) values ($1, $2)"),
    ] {
        let mut looked = Looked::new(sled);
        let pair =
            |key: &[u8], _: &[u8]| Ok(looked.at(key)?.then(|| row![int(first(key)), int(keys::last(key))]));
        rows.insert(what, prefix, put, pair).await?;
    }
    let block = "insert into chat_block (blocker, blocked) values ($1, $2)";
    rows.insert("blocks", keys::BLOCKS, block, |key, _| {
        let (blocker, blocked) = (UserId(first(key)), UserId(keys::last(key)));
        let both = exists(sled, blocker)? && exists(sled, blocked)?;
        Ok(both.then(|| row![int(blocker.0), int(blocked.0)]))
    })
    .await?;
    let decline = "insert into chat_decline (decliner, asker, at) values ($1, $2, $3)";
    rows.insert("declined pairs", keys::DECLINES, decline, |key, value| {
        let (decliner, asker) = (UserId(first(key)), UserId(keys::last(key)));
        let both = exists(sled, decliner)? && exists(sled, asker)?;
        let at = Timestamp::from_micros(decode_u64("decline", value)?);
        Ok(both.then(|| row![int(decliner.0), int(asker.0), At(at)]))
    })
    .await?;
    let contact = "insert into chat_contact (account, mark) values ($1, $2)";
    rows.insert("contacts", CONTACTS, contact, |key, _| {
        let mark = key.last_chunk::<16>().map(|mark| mark.to_vec());
        Ok(exists(sled, UserId(first(key)))?.then(|| row![int(first(key)), mark]))
    })
    .await
}

async fn messages(rows: &Rows<'_>) -> Result<(), StoreError> {
    let sled = rows.sled;
    let put = "insert into message (room, seq, sender, kind, text, raw, lat, lng, file, file_name, client_id, created_at,
            edited_at, deleted, revision)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
    let mut looked = Looked::new(sled);
    rows.insert("messages", MESSAGES, put, |key, value| {
        Ok(if looked.at(key)? { Some(message_row(sled, key, decode(value)?)?) } else { None })
    })
    .await?;
    // Records of older versions do not say in which revision they were changed.
    let mut looked = Looked::new(sled);
    let revise = "update message set revision = $3 where room = $1 and seq = $2";
    rows.insert("edits", REVISIONS, revise, |key, value| {
        let (room, revision, seq) = (RoomId(first(key)), keys::last(key), decode_u64("revision", value)?);
        let record: Option<MessageRecord> = sled.record(&keys::message(room, seq))?;
        let is_newer = record.is_some_and(|record| record.revision < revision);
        Ok((looked.at(key)? && is_newer).then(|| row![int(room.0), int(seq), int(revision)]))
    })
    .await?;
    let old = "insert into imported_message (old, room, seq)
        select $1, room, seq from message where room = $2 and seq = $3";
    rows.insert("old ids of messages", OLD_MESSAGES, old, |key, value| {
        let (room, seq) = value.split_at_checked(8).unwrap_or((value, &[]));
        let (room, seq) = (decode_u64("old message id", room)?, decode_u64("old message id", seq)?);
        Ok(Some(row![int(keys::last(key)), int(room), int(seq)]))
    })
    .await
}

fn message_row(sled: &Sled, key: &[u8], record: MessageRecord) -> Result<Values, StoreError> {
    let (room, seq) = (RoomId(first(key)), keys::last(key));
    let sent_as = match &record.client_id {
        Some(id) => sled.tree.get(keys::client_id(room, record.sender, id)).map_err(error::read)?,
        None => None,
    };
    let body = &record.body;
    Ok(row![
        int(room.0),
        int(seq),
        int(record.sender.0),
        column(&body.kind),
        column(&body.text),
        body.raw,
        column_opt(body.lat.as_deref()),
        column_opt(body.lng.as_deref()),
        record.file.map(|file| int(file.0)),
        column_opt(record.file_name.as_deref()),
        column_opt(
            record.client_id.as_deref().filter(|_| sent_as.is_some_and(|bytes| *bytes == seq.to_be_bytes()))
        ),
        At(record.created_at),
        record.edited_at.map(At),
        record.deleted,
        int(record.revision),
    ])
}

fn to_sled<'a>(records: &'a Records<'a>) -> Running<'a, ()> {
    Box::pin(async move {
        rooms_back(records).await?;
        people_back(records).await?;
        messages_back(records).await?;
        records.sequence("room_id", keys::ROOM_SEQUENCE).await?;
        records.sequence("organization_id", keys::ORGANIZATION_SEQUENCE).await
    })
}

fn nothing(key: sled::IVec) -> (sled::IVec, sled::IVec) {
    (key, sled::IVec::default())
}

async fn rooms_back(records: &Records<'_>) -> Result<(), StoreError> {
    records
        .put(
            "organisations",
            "select id, name, uname, owner, created_at from organization order by id",
            |row| {
                let (id, owner) = (OrganizationId(row.uint("id")), UserId(row.uint("owner")));
                let (name, uname) = (row.text("name"), row.text("uname"));
                let names = (keys::organization_name(&uname), encode_u64(id.0));
                let record = OrganizationRecord { name, uname, owner, created_at: row.at("created_at") };
                Ok([
                    names,
                    nothing(keys::organization_of(owner, id)),
                    (keys::organization(id), encode(&record)),
                ])
            },
        )
        .await?;
    let rooms = concat!(
        "select ",
        room_columns!(),
        ", pair_low, pair_high from room where state = 'live' order by id"
    );
    records
        .put("rooms", rooms, |row| {
            let room = Kept::read(row)?.room;
            let pair = row.uint_opt("pair_low").map(UserId).zip(row.uint_opt("pair_high").map(UserId));
            let other = pair.map_or(room.owner, |(low, high)| if low == room.owner { high } else { low });
            let names = pair.map(|(low, high)| (keys::pair(low, high), encode_u64(room.id.0)));
            let id = room.id;
            Ok(std::iter::once((keys::room(id), encode(&RoomRecord::of(room, other)))).chain(names))
        })
        .await?;
    let members = concat!(
        "select room, ",
        member_columns!(),
        " from room_member where room in (select id from room where state = 'live') order by room, account"
    );
    records
        .put("members", members, |row| {
            let room = RoomId(row.uint("room"));
            let Some(member) = member(row) else { return Ok(Vec::new()) };
            let (user, record) = (member.user, MemberRecord::of(member));
            let mut entries = vec![(keys::member(room, user), encode(&record))];
            if !record.pending {
                entries.push(nothing(keys::user_room(user, room)));
            }
            Ok(entries)
        })
        .await?;
    let requests = "select account, room, asked_by, at from chat_request
        where room in (select id from room where state = 'live') order by account, room";
    records
        .put("requests", requests, |row| {
            let record = RequestRecord { by: UserId(row.uint("asked_by")), at: row.at("at") };
            Ok([(keys::request(UserId(row.uint("account")), RoomId(row.uint("room"))), encode(&record))])
        })
        .await
}

async fn people_back(records: &Records<'_>) -> Result<(), StoreError> {
    let bans = "select room, account from room_ban where room in (select id from room where state = 'live')";
    records
        .put("bans", bans, |row| {
            Ok([nothing(keys::ban(RoomId(row.uint("room")), UserId(row.uint("account"))))])
        })
        .await?;
    let leavers =
        "select room, account from room_leaver where room in (select id from room where state = 'live')";
    records
        .put("users who left", leavers, |row| {
            Ok([nothing(keys::leaver(RoomId(row.uint("room")), UserId(row.uint("account"))))])
        })
        .await?;
    records
        .put("blocks", "select blocker, blocked from chat_block", |row| {
            Ok([nothing(keys::block(UserId(row.uint("blocker")), UserId(row.uint("blocked"))))])
        })
        .await?;
    records
        .put("declined pairs", "select decliner, asker, at from chat_decline", |row| {
            let key = keys::decline(UserId(row.uint("decliner")), UserId(row.uint("asker")));
            Ok([(key, encode_u64(row.at("at").as_micros()))])
        })
        .await?;
    records
        .put("contacts", "select account, mark from chat_contact", |row| {
            Ok([nothing(keys::contact(UserId(row.uint("account")), &row.bytes("mark")))])
        })
        .await
}

async fn messages_back(records: &Records<'_>) -> Result<(), StoreError> {
    let messages = concat!(
        "select ",
        message_columns!(),
        " from message where room in (select id from room where state = 'live') order by room, seq"
    );
    records
        .put("messages", messages, |row| {
            let (message, revision) = (message(row), row.uint("revision"));
            let (room, seq) = (message.room, message.seq);
            let mut entries = Vec::with_capacity(2);
            if let Some(id) = &message.client_id {
                entries.push((keys::client_id(room, message.sender, id), encode_u64(seq)));
            }
            if message.deleted {
                entries.push(nothing(keys::deletion(room, seq)));
            }
            if revision > 0 {
                entries.push((keys::revision(room, revision), encode_u64(seq)));
            }
            entries.push((keys::message(room, seq), encode(&MessageRecord::of(message, revision))));
            Ok(entries)
        })
        .await?;
    let old = "select old, room, seq from imported_message
        where room in (select id from room where state = 'live') order by old";
    records
        .put("old ids of messages", old, |row| {
            let value = [row.uint("room").to_be_bytes(), row.uint("seq").to_be_bytes()].concat();
            Ok([(keys::old_message(row.uint("old")), value.into())])
        })
        .await
}
