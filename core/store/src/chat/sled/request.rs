//! Requests: members who have not accepted their room yet. Marks of those who declined a pair.

use serde::{Deserialize, Serialize};

use crate::chat::RoomId;
use crate::chat::request::DECLINES_MAX;
use crate::chat::sled::room::{MemberRecord, RoomRecord, forget_leaver, new_member, remove_member};
use crate::engine::sled::keys::chat as key;
use crate::engine::sled::record::{Record, decode, decode_u64, encode_u64};
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
    room = put_unasked(txn, id, room, user, rights, now)?;
    txn.put_record(key::request(user, id), &RequestRecord { by, at: now });
    Ok(room)
}

/// Makes the user a member who has to accept the room first, without a request.
pub(crate) fn put_unasked(
    txn: &mut Txn,
    id: RoomId,
    mut room: RoomRecord,
    user: UserId,
    rights: u16,
    now: Timestamp,
) -> Result<RoomRecord, StoreError> {
    let key = key::member(id, user);
    if txn.get(&key)?.is_none() {
        room.members += 1;
        let member = MemberRecord { pending: true, ..new_member(txn, id, rights, now)? };
        txn.put_record(key, &member);
    }
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
    if room.pair {
        remove_decline(txn, user, room.partner(user))?;
    }
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

/// Marks that a user declined the pair of another one, in place of the oldest mark if the user has as many as allowed.
pub(crate) fn put_decline(
    txn: &mut Txn,
    decliner: UserId,
    asker: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let key = key::decline(decliner, asker);
    if txn.get(&key)?.is_none() {
        let marks = txn.scan(&key::declines(decliner), DECLINES_MAX)?;
        if marks.len() >= DECLINES_MAX {
            let mut oldest: Option<(u64, sled::IVec)> = None;
            for (key, at) in marks {
                let entry = (decode_u64("decline", &at)?, key);
                oldest = Some(oldest.map_or(entry.clone(), |oldest| oldest.min(entry)));
            }
            oldest.into_iter().for_each(|(_, key)| txn.delete(key));
        }
    }
    txn.put(key, encode_u64(now.as_micros()));
    Ok(())
}

pub(crate) fn remove_decline(txn: &mut Txn, decliner: UserId, asker: UserId) -> Result<(), StoreError> {
    let key = key::decline(decliner, asker);
    if txn.get(&key)?.is_some() {
        txn.delete(key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, StoreOptions};

    #[tokio::test]
    async fn the_oldest_of_too_many_declined_pairs_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let kept = store.sled().change(|txn| {
            let at = |n: u64| Timestamp::from_secs(n);
            // The lower number is older among those of one time.
            for n in 1..=DECLINES_MAX as u64 {
                put_decline(txn, UserId(1), UserId(10 + n), at(n.max(2)))?;
            }
            put_decline(txn, UserId(2), UserId(1), at(0))?;
            // A mark that is there already needs no place.
            put_decline(txn, UserId(1), UserId(12), at(2))?;
            let whole = txn.scan(&key::declines(UserId(1)), usize::MAX)?.len();
            put_decline(txn, UserId(1), UserId(5), at(5000))?;
            let marks = txn.scan(&key::declines(UserId(1)), usize::MAX)?;
            let askers: Vec<u64> = marks.iter().map(|(key, _)| key::last(key)).collect();
            Ok((whole, askers, txn.get(&key::decline(UserId(2), UserId(1)))?.is_some()))
        });
        let (whole, askers, other) = kept.await.unwrap();
        assert_eq!((whole, askers.len(), other), (DECLINES_MAX, DECLINES_MAX, true));
        assert_eq!(askers[..2], [5, 12]);
    }
}
