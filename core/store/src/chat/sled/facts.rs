//! The facts a judge decides by, read inside the change itself.

use crate::chat::request::sled::acquaintance;
use crate::chat::room::{Member, RoomFacts};
use crate::chat::sled::message::newest;
use crate::chat::sled::room::{RoomRecord, member};
use crate::chat::{Acquaintance, RoomId};
use crate::engine::sled::keys;
use crate::engine::sled::keys::chat as key;
use crate::engine::sled::txn::Txn;
use crate::login::sled::user::UserRecord;
use crate::{StoreError, UserId};

pub(crate) fn facts(
    txn: &Txn,
    room: RoomId,
    actor: UserId,
    target: Option<UserId>,
) -> Result<Option<RoomFacts>, StoreError> {
    let Some(record) = txn.get_record::<RoomRecord>(&key::room(room))? else { return Ok(None) };
    let newest = newest(txn, room)?;
    let member = |user: UserId| -> Result<Option<Member>, StoreError> {
        Ok(member(txn, room, user, newest)?.map(|member| member.with_id(user)))
    };
    // Most rooms have no bans, and most changes are messages.
    let bans = record.bans > 0;
    let banned =
        |user: UserId| -> Result<bool, StoreError> { Ok(bans && txn.get(&key::ban(room, user))?.is_some()) };
    let (found, wanted) = (member(actor)?, target.map(member).transpose()?.flatten());
    let acquaintance = match target.filter(|_| wanted.is_none()) {
        Some(target) => acquaintance(txn, actor, target, Some(room))?,
        None => Acquaintance::default(),
    };
    Ok(Some(RoomFacts {
        actor: found,
        actor_banned: banned(actor)?,
        target: wanted,
        target_banned: target.map(banned).transpose()?.unwrap_or(false),
        target_exists: target.map(|target| active(txn, target)).transpose()?.unwrap_or(false),
        target_rooms: match target {
            Some(target) => txn.scan(&key::user_rooms(target), 10_000)?.len(),
            None => 0,
        },
        acquaintance,
        actor_rooms: match found {
            Some(member) if member.pending => txn.scan(&key::user_rooms(actor), 10_000)?.len(),
            _ => 0,
        },
        room: record.with_id(room),
    }))
}

pub(crate) fn active(txn: &Txn, user: UserId) -> Result<bool, StoreError> {
    match txn.get(&keys::user(user))? {
        Some(bytes) => crate::engine::sled::record::decode_head::<UserRecord, bool>(&bytes),
        None => Ok(false),
    }
}
