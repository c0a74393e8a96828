//! Keys of chat and files: `C` and a second byte.
//!
//! | bytes | rest of the key | value |
//! |---|---|---|
//! | `Cr` | room | room |
//! | `Cm` | room, user | member |
//! | `Cu` | user, room | empty: the rooms of a user |
//! | `Ca` | user, mark of a phone number | empty: the user's contacts |
//! | `Cb` | room, user | empty: banned |
//! | `Ch` | user, room | request: waits for the user's acceptance |
//! | `Ci` | room, user | empty: left the group, or declined |
//! | `Cy` | user, other user | empty: the user blocks the other |
//! | `Cj` | user, other user | u64: when the user declined the pair of the other, who asks no more |
//! | `Cp` | smaller user, larger user | room: the pair's room |
//! | `Cx` | room, number | message |
//! | `Cd` | room, user, client's id | number: messages that were sent twice |
//! | `Ce` | room, number | empty: deleted messages |
//! | `Cv` | room, revision | number of the message that was edited or deleted |
//! | `Co` | organisation | organisation |
//! | `Cn` | unique name | organisation id |
//! | `Cw` | owner, organisation | empty: the organisations of a user |
//! | `Cf` | file | file |
//! | `Cg` | stored name | file id |
//! | `Ck` | path in the program it comes from | file id: imported files |
//! | `Cl` | id in the program it comes from | room, number: imported messages |
//! | `Cs` | room, first number | last number, words of a run of messages |
//! | `Cq` | user | u64: what the user's files hold |
//! | `Cz` | room | empty: deleted, and not swept yet |

use sled::IVec;

use crate::UserId;
use crate::chat::{FileId, OrganizationId, RoomId};

pub(crate) const ROOM_SEQUENCE: &[u8] = b"mseq-room";
pub(crate) const ORGANIZATION_SEQUENCE: &[u8] = b"mseq-organization";
pub(crate) const FILE_SEQUENCE: &[u8] = b"mseq-file";
pub(crate) const ROOMS: &[u8] = b"Cr";
pub(crate) const BLOCKS: &[u8] = b"Cy";
pub(crate) const DECLINES: &[u8] = b"Cj";
pub(crate) const FILES: &[u8] = b"Cf";
pub(crate) const FILE_BYTES: &[u8] = b"Cq";
/// What all files hold.
pub(crate) const FILE_TOTAL: &[u8] = b"mfile-bytes";
pub(crate) const SWEEPS: &[u8] = b"Cz";

pub(crate) fn room(room: RoomId) -> IVec {
    numbers(b"Cr", &[room.0])
}

pub(crate) fn member(room: RoomId, user: UserId) -> IVec {
    numbers(b"Cm", &[room.0, user.0])
}

pub(crate) fn members(room: RoomId) -> IVec {
    numbers(b"Cm", &[room.0])
}

pub(crate) fn user_room(user: UserId, room: RoomId) -> IVec {
    numbers(b"Cu", &[user.0, room.0])
}

pub(crate) fn user_rooms(user: UserId) -> IVec {
    numbers(b"Cu", &[user.0])
}

pub(crate) fn ban(room: RoomId, user: UserId) -> IVec {
    numbers(b"Cb", &[room.0, user.0])
}

pub(crate) fn bans(room: RoomId) -> IVec {
    numbers(b"Cb", &[room.0])
}

/// A request that waits for a user.
pub(crate) fn request(user: UserId, room: RoomId) -> IVec {
    numbers(b"Ch", &[user.0, room.0])
}

pub(crate) fn requests(user: UserId) -> IVec {
    numbers(b"Ch", &[user.0])
}

/// A user who left a group.
pub(crate) fn leaver(room: RoomId, user: UserId) -> IVec {
    numbers(b"Ci", &[room.0, user.0])
}

pub(crate) fn leavers(room: RoomId) -> IVec {
    numbers(b"Ci", &[room.0])
}

/// A phone number among a user's contacts.
pub(crate) fn contact(user: UserId, mark: &[u8; 16]) -> IVec {
    [&contacts(user), &mark[..]].concat().into()
}

pub(crate) fn contacts(user: UserId) -> IVec {
    numbers(b"Ca", &[user.0])
}

/// A user whom another one blocks.
pub(crate) fn block(blocker: UserId, blocked: UserId) -> IVec {
    numbers(b"Cy", &[blocker.0, blocked.0])
}

pub(crate) fn blocks(blocker: UserId) -> IVec {
    numbers(b"Cy", &[blocker.0])
}

/// A user who declined the pair of another one.
pub(crate) fn decline(decliner: UserId, asker: UserId) -> IVec {
    numbers(b"Cj", &[decliner.0, asker.0])
}

pub(crate) fn declines(decliner: UserId) -> IVec {
    numbers(b"Cj", &[decliner.0])
}

pub(crate) fn pair(one: UserId, other: UserId) -> IVec {
    numbers(b"Cp", &[one.0.min(other.0), one.0.max(other.0)])
}

pub(crate) fn message(room: RoomId, seq: u64) -> IVec {
    numbers(b"Cx", &[room.0, seq])
}

/// Room and number in a message's key; `None` for other keys.
pub(crate) fn message_of(key: &[u8]) -> Option<(RoomId, u64)> {
    let room = key.strip_prefix(b"Cx")?.first_chunk::<8>()?;
    Some((RoomId(u64::from_be_bytes(*room)), last(key)))
}

pub(crate) fn messages(room: RoomId) -> IVec {
    numbers(b"Cx", &[room.0])
}

pub(crate) fn client_id(room: RoomId, user: UserId, id: &str) -> IVec {
    with_text(&numbers(b"Cd", &[room.0, user.0]), id)
}

/// The client ids of a user's messages in a room.
pub(crate) fn client_ids_of(room: RoomId, user: UserId) -> IVec {
    numbers(b"Cd", &[room.0, user.0])
}

pub(crate) fn client_ids(room: RoomId) -> IVec {
    numbers(b"Cd", &[room.0])
}

pub(crate) fn deletion(room: RoomId, seq: u64) -> IVec {
    numbers(b"Ce", &[room.0, seq])
}

pub(crate) fn deletions(room: RoomId) -> IVec {
    numbers(b"Ce", &[room.0])
}

pub(crate) fn revision(room: RoomId, revision: u64) -> IVec {
    numbers(b"Cv", &[room.0, revision])
}

pub(crate) fn revisions(room: RoomId) -> IVec {
    numbers(b"Cv", &[room.0])
}

/// The words of the messages from `first` on.
pub(crate) fn words_at(room: RoomId, first: u64) -> IVec {
    numbers(b"Cs", &[room.0, first])
}

pub(crate) fn words(room: RoomId) -> IVec {
    numbers(b"Cs", &[room.0])
}

pub(crate) fn organization(id: OrganizationId) -> IVec {
    numbers(b"Co", &[id.0])
}

pub(crate) fn organization_name(uname: &str) -> IVec {
    with_text(b"Cn", uname)
}

pub(crate) fn organization_of(owner: UserId, id: OrganizationId) -> IVec {
    numbers(b"Cw", &[owner.0, id.0])
}

pub(crate) fn organizations_of(owner: UserId) -> IVec {
    numbers(b"Cw", &[owner.0])
}

pub(crate) fn file(id: FileId) -> IVec {
    numbers(b"Cf", &[id.0])
}

pub(crate) fn file_name(name: &str) -> IVec {
    with_text(b"Cg", name)
}

pub(crate) fn old_path(path: &str) -> IVec {
    with_text(b"Ck", path)
}

pub(crate) fn old_message(id: u64) -> IVec {
    numbers(b"Cl", &[id])
}

pub(crate) fn file_bytes(user: UserId) -> IVec {
    numbers(b"Cq", &[user.0])
}

pub(crate) fn sweep(room: RoomId) -> IVec {
    numbers(b"Cz", &[room.0])
}

/// The two users in the key of a block or of a decline.
pub(crate) fn users_of(key: &[u8]) -> Option<(UserId, UserId)> {
    let one = key.get(2..10)?.try_into().ok().map(u64::from_be_bytes)?;
    Some((UserId(one), UserId(last(key))))
}

/// The number at the end of a key.
pub(crate) fn last(key: &[u8]) -> u64 {
    key.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn numbers(table: &[u8; 2], numbers: &[u64]) -> IVec {
    let mut key = [0; 26];
    key[..2].copy_from_slice(table);
    let mut len = 2;
    for number in numbers {
        key[len..len + 8].copy_from_slice(&number.to_be_bytes());
        len += 8;
    }
    IVec::from(&key[..len])
}

fn with_text(head: &[u8], text: &str) -> IVec {
    [head, text.as_bytes()].concat().into()
}
