//! The records of a room and its members, and the steps shared by several operations inside a change.

use serde::{Deserialize, Serialize};

use crate::chat::room::{Member, Room, RoomKind};
use crate::chat::sled::message::newest;
use crate::chat::{FileId, OrganizationId, RoomId, RoomStatus};
use crate::engine::sled::keys::chat as key;
use crate::engine::sled::record::Record;
use crate::engine::sled::txn::{Newest, Txn};
use crate::{StoreError, Timestamp, UserId};

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RoomRecord {
    pub(crate) pair: bool,
    pub(crate) owner: UserId,
    pub(crate) name: Option<String>,
    pub(crate) descriptions: Option<String>,
    pub(crate) avatar: Option<FileId>,
    pub(crate) status: RoomStatus,
    pub(crate) organization: Option<OrganizationId>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) members: u32,
    pub(crate) bans: u32,
    pub(crate) revision: u64,
    /// The other user of a pair, for the pair's key.
    pub(crate) other: UserId,
    pub(crate) changes: u64,
}

/// The version before changes of the room had numbers.
#[derive(Serialize, Deserialize)]
struct RoomRecord1 {
    pair: bool,
    owner: UserId,
    name: Option<String>,
    descriptions: Option<String>,
    avatar: Option<FileId>,
    status: RoomStatus,
    organization: Option<OrganizationId>,
    created_at: Timestamp,
    updated_at: Timestamp,
    members: u32,
    bans: u32,
    revision: u64,
    other: UserId,
}

impl Record for RoomRecord {
    const KIND: &'static str = "room";
    const SCHEMA: u8 = 2;
    const SCHEMA_OLDEST: u8 = 1;

    fn decode_older(_schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        let old: RoomRecord1 = postcard::from_bytes(body)?;
        Ok(RoomRecord {
            pair: old.pair,
            owner: old.owner,
            name: old.name,
            descriptions: old.descriptions,
            avatar: old.avatar,
            status: old.status,
            organization: old.organization,
            created_at: old.created_at,
            updated_at: old.updated_at,
            members: old.members,
            bans: old.bans,
            revision: old.revision,
            other: old.other,
            changes: 0,
        })
    }
}

impl RoomRecord {
    /// The other user of a pair.
    pub(crate) fn partner(&self, user: UserId) -> UserId {
        if self.owner == user { self.other } else { self.owner }
    }

    pub(crate) fn revise(txn: &mut Txn, id: RoomId, revision: u64) -> Result<(), StoreError> {
        if let Some(mut record) = txn.get_record::<RoomRecord>(&key::room(id))? {
            record.revision = revision;
            txn.put_record(key::room(id), &record);
        }
        Ok(())
    }

    /// The record of a room; `other` is the other user of a pair, or the owner.
    pub(crate) fn of(room: Room, other: UserId) -> RoomRecord {
        RoomRecord {
            pair: room.kind == RoomKind::Pair,
            owner: room.owner,
            name: room.name,
            descriptions: room.descriptions,
            avatar: room.avatar,
            status: room.status,
            organization: room.organization,
            created_at: room.created_at,
            updated_at: room.updated_at,
            members: room.members,
            bans: room.bans,
            revision: room.revision,
            other,
            changes: room.changes,
        }
    }

    pub(crate) fn with_id(self, id: RoomId) -> Room {
        Room {
            id,
            kind: if self.pair { RoomKind::Pair } else { RoomKind::Group },
            owner: self.owner,
            name: self.name,
            descriptions: self.descriptions,
            avatar: self.avatar,
            status: self.status,
            organization: self.organization,
            created_at: self.created_at,
            updated_at: self.updated_at,
            members: self.members,
            bans: self.bans,
            revision: self.revision,
            changes: self.changes,
        }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct MemberRecord {
    pub(crate) rights: u16,
    pub(crate) read_seq: u64,
    pub(crate) deleted_unread: u64,
    pub(crate) pinned: bool,
    pub(crate) joined_at: Timestamp,
    pub(crate) hidden_at: Option<u64>,
    pub(crate) pending: bool,
}

/// The version before members could hide a room.
#[derive(Serialize, Deserialize)]
struct MemberRecord1 {
    rights: u16,
    read_seq: u64,
    deleted_unread: u64,
    pinned: bool,
    joined_at: Timestamp,
}

/// The version before members had to accept a room.
#[derive(Serialize, Deserialize)]
struct MemberRecord2 {
    rights: u16,
    read_seq: u64,
    deleted_unread: u64,
    pinned: bool,
    joined_at: Timestamp,
    hidden_at: Option<u64>,
}

impl Record for MemberRecord {
    const KIND: &'static str = "room member";
    const SCHEMA: u8 = 3;
    const SCHEMA_OLDEST: u8 = 1;

    fn decode_older(schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        if schema == 1 {
            let MemberRecord1 { rights, read_seq, deleted_unread, pinned, joined_at } =
                postcard::from_bytes(body)?;
            let (hidden_at, pending) = (None, false);
            return Ok(MemberRecord {
                rights,
                read_seq,
                deleted_unread,
                pinned,
                joined_at,
                hidden_at,
                pending,
            });
        }
        let MemberRecord2 { rights, read_seq, deleted_unread, pinned, joined_at, hidden_at } =
            postcard::from_bytes(body)?;
        Ok(MemberRecord { rights, read_seq, deleted_unread, pinned, joined_at, hidden_at, pending: false })
    }
}

impl MemberRecord {
    /// The key of the member's own list: of rooms, or of requests while the room is not accepted.
    pub(crate) fn entry(self, user: UserId, room: RoomId) -> sled::IVec {
        if self.pending { key::request(user, room) } else { key::user_room(user, room) }
    }

    /// The member as of the room's newest message, whose sender has read up to it, whatever the record says. A member
    /// who sends several messages in a row is therefore written once, when somebody else sends the next one. This
    /// saves one record per message.
    pub(crate) fn as_of(self, user: UserId, newest: Option<Newest>) -> Self {
        match newest {
            Some(newest) if newest.sender == user && newest.seq > self.read_seq => {
                MemberRecord { read_seq: newest.seq, deleted_unread: 0, ..self }
            }
            _ => self,
        }
    }

    pub(crate) fn of(member: Member) -> MemberRecord {
        let Member { rights, read_seq, deleted_unread, pinned, joined_at, hidden_at, pending, .. } = member;
        MemberRecord { rights, read_seq, deleted_unread, pinned, joined_at, hidden_at, pending }
    }

    pub(crate) fn with_id(self, user: UserId) -> Member {
        Member {
            user,
            rights: self.rights,
            read_seq: self.read_seq,
            deleted_unread: self.deleted_unread,
            pinned: self.pinned,
            joined_at: self.joined_at,
            hidden_at: self.hidden_at,
            pending: self.pending,
        }
    }
}

/// Makes the user a member, or replaces a member's rights. Existing fields are kept.
pub(crate) fn put_member(
    txn: &mut Txn,
    id: RoomId,
    mut room: RoomRecord,
    user: UserId,
    rights: u16,
    now: Timestamp,
) -> Result<RoomRecord, StoreError> {
    let key = key::member(id, user);
    let member = match txn.get_record::<MemberRecord>(&key)? {
        Some(member) => MemberRecord { rights, ..member },
        None => {
            room.members += 1;
            txn.put(key::user_room(user, id), sled::IVec::default());
            forget_leaver(txn, id, user)?;
            new_member(txn, id, rights, now)?
        }
    };
    txn.put_record(key, &member);
    Ok(room)
}

pub(crate) fn new_member(
    txn: &Txn,
    id: RoomId,
    rights: u16,
    now: Timestamp,
) -> Result<MemberRecord, StoreError> {
    let read_seq = newest(txn, id)?.map_or(0, |newest| newest.seq);
    Ok(MemberRecord {
        rights,
        read_seq,
        deleted_unread: 0,
        pinned: false,
        joined_at: now,
        hidden_at: None,
        pending: false,
    })
}

pub(crate) fn forget_leaver(txn: &mut Txn, id: RoomId, user: UserId) -> Result<(), StoreError> {
    let key = key::leaver(id, user);
    if txn.get(&key)?.is_some() {
        txn.delete(key);
    }
    Ok(())
}

pub(crate) fn remove_member(
    txn: &mut Txn,
    id: RoomId,
    room: &mut RoomRecord,
    user: UserId,
) -> Result<(), StoreError> {
    let key = key::member(id, user);
    if let Some(member) = txn.get_record::<MemberRecord>(&key)? {
        txn.delete(key);
        txn.delete(member.entry(user, id));
        room.members = room.members.saturating_sub(1);
    }
    Ok(())
}

/// A member as of the room's newest message.
pub(crate) fn member(
    txn: &Txn,
    room: RoomId,
    user: UserId,
    newest: Option<Newest>,
) -> Result<Option<MemberRecord>, StoreError> {
    let member = txn.get_record::<MemberRecord>(&key::member(room, user))?;
    Ok(member.map(|member| member.as_of(user, newest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sled::record::{decode, encode};

    impl Record for RoomRecord1 {
        const KIND: &'static str = "room";
        const SCHEMA: u8 = 1;
    }

    impl Record for MemberRecord1 {
        const KIND: &'static str = "room member";
        const SCHEMA: u8 = 1;
    }

    impl Record for MemberRecord2 {
        const KIND: &'static str = "room member";
        const SCHEMA: u8 = 2;
    }

    #[test]
    fn members_of_older_versions_have_accepted_their_room() {
        let joined_at = Timestamp::from_secs(5);
        let old = MemberRecord2 {
            rights: 3,
            read_seq: 9,
            deleted_unread: 2,
            pinned: true,
            joined_at,
            hidden_at: Some(4),
        };
        let member = decode::<MemberRecord>(&encode(&old)).unwrap().with_id(UserId(1));
        assert_eq!((member.rights, member.read_seq, member.deleted_unread), (3, 9, 2));
        assert_eq!((member.joined_at, member.hidden_at, member.pending), (joined_at, Some(4), false));
    }

    #[test]
    fn a_member_of_the_version_before_hides_nothing() {
        let joined_at = Timestamp::from_secs(5);
        let old = MemberRecord1 { rights: 3, read_seq: 9, deleted_unread: 2, pinned: true, joined_at };
        let member = decode::<MemberRecord>(&encode(&old)).unwrap().with_id(UserId(1));
        assert_eq!((member.rights, member.read_seq, member.deleted_unread), (3, 9, 2));
        assert_eq!((member.pinned, member.joined_at, member.hidden_at), (true, joined_at, None));
        assert!(!member.pending);
    }

    #[test]
    fn a_room_of_the_version_before_begins_to_count_its_changes() {
        let old = RoomRecord1 {
            pair: false,
            owner: UserId(3),
            name: Some("tea".into()),
            descriptions: None,
            avatar: Some(FileId(9)),
            status: RoomStatus::Hold,
            organization: Some(OrganizationId(4)),
            created_at: Timestamp::from_secs(5),
            updated_at: Timestamp::from_secs(6),
            members: 7,
            bans: 8,
            revision: 11,
            other: UserId(3),
        };
        let room = decode::<RoomRecord>(&encode(&old)).unwrap();
        assert_eq!((room.owner, room.members, room.bans, room.other), (UserId(3), 7, 8, UserId(3)));
        let room = room.with_id(RoomId(1));
        assert_eq!((room.revision, room.changes, room.status), (11, 0, RoomStatus::Hold));
        assert_eq!((room.name.as_deref(), room.avatar), (Some("tea"), Some(FileId(9))));
    }
}
