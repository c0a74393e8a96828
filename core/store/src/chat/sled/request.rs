//! Requests: members who have not accepted their room yet.

use serde::{Deserialize, Serialize};

use crate::chat::RoomId;
use crate::chat::sled::room::{MemberRecord, RoomRecord, forget_leaver, new_member, remove_member};
use crate::engine::sled::keys::chat as key;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::{StoreError, Timestamp, UserId};

/// A request that waits for a user's acceptance.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct RequestRecord {
    pub(crate) by: UserId,
    pub(crate) at: Timestamp,
}

impl Record for RequestRecord {
    const KIND: &'static str = "chat request";
    const SCHEMA: u8 = 1;
}

/// Who asks a user into a room, and with which rights.
#[derive(Clone, Copy)]
pub(crate) struct Invitation {
    pub(crate) by: UserId,
    pub(crate) rights: u16,
    /// Requests that may wait for the user.
    pub(crate) waiting_max: usize,
    pub(crate) now: Timestamp,
}

/// Makes the user a member who has to accept the room first, in place of the oldest request if the user has
/// `request.waiting_max`.
pub(crate) fn put_invited(
    txn: &mut Txn,
    id: RoomId,
    mut room: RoomRecord,
    user: UserId,
    request: Invitation,
) -> Result<RoomRecord, StoreError> {
    let Invitation { by, rights, waiting_max, now } = request;
    let key = key::member(id, user);
    if txn.get(&key)?.is_some() {
        return Ok(room);
    }
    make_place(txn, user, waiting_max)?;
    room.members += 1;
    let member = MemberRecord { pending: true, ..new_member(txn, id, rights, now)? };
    txn.put_record(key, &member);
    txn.put_record(key::request(user, id), &RequestRecord { by, at: now });
    Ok(room)
}

/// Lets a member who was asked accept the room.
pub(crate) fn accept(
    txn: &mut Txn,
    id: RoomId,
    room: &RoomRecord,
    user: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let key = key::member(id, user);
    let Some(mut member) = txn.get_record::<MemberRecord>(&key)?.filter(|member| member.pending) else {
        return Ok(());
    };
    member.pending = false;
    if !room.pair {
        member.joined_at = now;
    }
    txn.put_record(key, &member);
    txn.put(key::user_room(user, id), sled::IVec::default());
    txn.delete(key::request(user, id));
    forget_leaver(txn, id, user)
}

/// Ends the oldest request of a user who has as many as allowed.
fn make_place(txn: &mut Txn, user: UserId, waiting_max: usize) -> Result<(), StoreError> {
    let waiting = txn.scan(&key::requests(user), waiting_max)?;
    if waiting.len() < waiting_max {
        return Ok(());
    }
    let mut oldest: Option<(Timestamp, RoomId)> = None;
    for (key, value) in waiting {
        let entry = (decode::<RequestRecord>(&value)?.at, RoomId(key::last(&key)));
        oldest = Some(oldest.map_or(entry, |oldest| oldest.min(entry)));
    }
    match oldest {
        Some((_, id)) => end_request(txn, user, id),
        None => Ok(()),
    }
}

/// Ends a request without the user's answer. A pair stays, and opens when the user names the other one; an invitation
/// ends.
pub(crate) fn end_request(txn: &mut Txn, user: UserId, id: RoomId) -> Result<(), StoreError> {
    txn.delete(key::request(user, id));
    if let Some(mut room) = txn.get_record::<RoomRecord>(&key::room(id))?.filter(|room| !room.pair) {
        remove_member(txn, id, &mut room, user)?;
        txn.put_record(key::room(id), &room);
    }
    Ok(())
}
