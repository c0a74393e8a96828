//! The operations of this folder, in sled statements.

use crate::chat::RoomId;
use crate::chat::request::{Acquaintance, BLOCKS_MAX, Blocked, ChatRequest};
use crate::chat::sled::facts::active;
use crate::chat::sled::request::{RequestRecord, end_request};
use crate::engine::sled::keys::chat as key;
use crate::engine::sled::record::{decode, decode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::{StoreError, UserId};

/// Rooms of a user that are looked at; the most that any configuration allows.
const ROOMS_MAX: usize = 10_000;

/// The same for requests.
const REQUESTS_MAX: usize = 1000;

impl Sled {
    pub(crate) fn chat_requests(&self, user: UserId, limit: usize) -> Result<Vec<ChatRequest>, StoreError> {
        let entries = self.tree.scan_prefix(key::requests(user)).take(limit);
        entries
            .map(|entry| {
                let (key, value) = entry.map_err(error::read)?;
                let RequestRecord { by, at } = decode(&value)?;
                Ok(ChatRequest { room: RoomId(key::last(&key)), by, at })
            })
            .collect()
    }

    pub(crate) async fn chat_block(&self, blocker: UserId, blocked: UserId) -> Result<Blocked, StoreError> {
        self.change(move |txn| {
            if !active(txn, blocked)? {
                return Ok(Blocked::UserMissing);
            }
            if !put_block(txn, blocker, blocked)? {
                return Ok(Blocked::TooMany);
            }
            end_requests(txn, blocker, blocked)?;
            Ok(Blocked::Done)
        })
        .await
    }

    pub(crate) async fn chat_unblock(&self, blocker: UserId, blocked: UserId) -> Result<(), StoreError> {
        self.change(move |txn| remove_block(txn, blocker, blocked)).await
    }

    pub(crate) fn chat_blocks(
        &self,
        blocker: UserId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        let range = key::block(blocker, from)..=key::block(blocker, UserId(u64::MAX));
        let keys = self.tree.range(range).keys().take(limit);
        keys.map(|key| Ok(UserId(key::last(&key.map_err(error::read)?)))).collect()
    }

    pub(crate) fn chat_pair(&self, one: UserId, other: UserId) -> Result<Option<RoomId>, StoreError> {
        let bytes = self.tree.get(key::pair(one, other)).map_err(error::read)?;
        bytes.map(|bytes| Ok(RoomId(decode_u64("pair", &bytes)?))).transpose()
    }

    pub(crate) fn chat_share_a_room(&self, one: UserId, other: UserId) -> Result<bool, StoreError> {
        let rooms = |user| {
            let keys = self.tree.scan_prefix(key::user_rooms(user)).keys().take(ROOMS_MAX);
            keys.map(|key| Ok(key::last(&key.map_err(error::read)?))).collect::<Result<Vec<_>, StoreError>>()
        };
        Ok(have_one_in_common(&rooms(one)?, &rooms(other)?))
    }

    pub(crate) async fn contacts_add(
        &self,
        user: UserId,
        marks: Vec<[u8; 16]>,
        max: usize,
    ) -> Result<bool, StoreError> {
        self.change(move |txn| {
            let known = txn.scan(&key::contacts(user), max)?.len();
            let mut new = Vec::new();
            for mark in &marks {
                let key = key::contact(user, mark);
                if !new.contains(&key) && txn.get(&key)?.is_none() {
                    new.push(key);
                }
            }
            if known + new.len() > max {
                return Ok(false);
            }
            new.into_iter().for_each(|key| txn.put(key, sled::IVec::default()));
            Ok(true)
        })
        .await
    }

    pub(crate) async fn contacts_forget(&self, user: UserId, limit: usize) -> Result<usize, StoreError> {
        self.change(move |txn| {
            let keys = txn.scan(&key::contacts(user), limit)?;
            let forgotten = keys.len();
            keys.into_iter().for_each(|(key, _)| txn.delete(key));
            Ok(forgotten)
        })
        .await
    }

    pub(crate) fn contacts_have(&self, user: UserId, mark: [u8; 16]) -> Result<bool, StoreError> {
        self.tree.contains_key(key::contact(user, &mark)).map_err(error::read)
    }
}

/// False when the user blocks as many as allowed.
pub(crate) fn put_block(txn: &mut Txn, blocker: UserId, blocked: UserId) -> Result<bool, StoreError> {
    let key = key::block(blocker, blocked);
    if txn.get(&key)?.is_some() {
        return Ok(true);
    }
    if txn.scan(&key::blocks(blocker), BLOCKS_MAX)?.len() >= BLOCKS_MAX {
        return Ok(false);
    }
    txn.put(key, sled::IVec::default());
    Ok(true)
}

/// Ends the requests of a user that wait for the one who blocks that user.
pub(crate) fn end_requests(txn: &mut Txn, user: UserId, by: UserId) -> Result<(), StoreError> {
    for (key, value) in txn.scan(&key::requests(user), REQUESTS_MAX)? {
        if decode::<RequestRecord>(&value)?.by == by {
            end_request(txn, user, RoomId(key::last(&key)))?;
        }
    }
    Ok(())
}

pub(crate) fn remove_block(txn: &mut Txn, blocker: UserId, blocked: UserId) -> Result<(), StoreError> {
    let key = key::block(blocker, blocked);
    if txn.get(&key)?.is_some() {
        txn.delete(key);
    }
    Ok(())
}

/// Whether a user blocks another one: by a block, or by a ban in their pair's room.
pub(crate) fn blocks(txn: &Txn, blocker: UserId, other: UserId) -> Result<bool, StoreError> {
    if txn.get(&key::block(blocker, other))?.is_some() {
        return Ok(true);
    }
    match txn.get(&key::pair(blocker, other))? {
        Some(bytes) => {
            let pair = RoomId(decode_u64("pair", &bytes)?);
            Ok(txn.get(&key::ban(pair, other))?.is_some())
        }
        None => Ok(false),
    }
}

/// How a user stands to the one who adds it to a room; `room` is `None` for a new one.
pub(crate) fn acquaintance(
    txn: &Txn,
    actor: UserId,
    target: UserId,
    room: Option<RoomId>,
) -> Result<Acquaintance, StoreError> {
    let rooms = |user| -> Result<Vec<u64>, StoreError> {
        Ok(txn.scan(&key::user_rooms(user), ROOMS_MAX)?.iter().map(|(key, _)| key::last(key)).collect())
    };
    let mut waiting = 0;
    for (_, value) in txn.scan(&key::requests(target), REQUESTS_MAX)? {
        waiting += usize::from(decode::<RequestRecord>(&value)?.by == actor);
    }
    Ok(Acquaintance {
        share_a_room: have_one_in_common(&rooms(actor)?, &rooms(target)?),
        blocks: blocks(txn, target, actor)?,
        left: match room {
            Some(room) => txn.get(&key::leaver(room, target))?.is_some(),
            None => false,
        },
        declined: txn.get(&key::decline(target, actor))?.is_some(),
        waiting,
    })
}

/// Both lists are sorted.
fn have_one_in_common(one: &[u64], other: &[u64]) -> bool {
    let (mut at, mut on) = (0, 0);
    while let (Some(first), Some(second)) = (one.get(at), other.get(on)) {
        match first.cmp(second) {
            std::cmp::Ordering::Less => at += 1,
            std::cmp::Ordering::Greater => on += 1,
            std::cmp::Ordering::Equal => return true,
        }
    }
    false
}
