//! Chat: rooms and their members, numbered messages, organisations, uploaded files.
//!
//! A room numbers its messages 1, 2, 3... without gaps; the number is part of the message's key, so that a page is
//! a short range scan however long the room is, and a deleted message keeps its number as an empty record. Edits
//! and deletions have a second numbering, the room's revisions, so that who was away learns of those too.
//!
//! Who may do what is not decided here. Each change reads the [`RoomFacts`] it is about and hands them to the
//! caller's judge, which is plain code of the domain; facts and effect are one change, so no right can be lost or
//! won between the look and the deed. Changes take a closure that runs on the writer thread once they are durable,
//! in the order in which they were made: that is how the order of storing becomes the order of seeing.
//!
//! Keys: `C` and a second byte (see [`key`]). Reading order: this file, `room`, `message`, `organization`, `file`.

mod file;
mod message;
mod organization;
mod room;

use serde::{Deserialize, Serialize};
use sled::IVec;

use crate::record::Record;
use crate::txn::Txn;
use crate::{Store, StoreError, Timestamp, UserId, error};

pub use file::{FileDraft, FileKept, StoredFile};
pub use message::{
    Appended, Edited, Message, MessageBody, MessageDraft, MessageEdit, MessageEdited, MessagePage,
};
pub use organization::{OrganizationChanged, OrganizationMade, OrganizationRemoved};
pub use room::{
    Member, PairDraft, Room, RoomChange, RoomChanged, RoomDraft, RoomFacts, RoomLimits, RoomMade, RoomSummary,
};

/// Messages of one room; one more is refused. Room and number share the 53 bits of a public message id.
pub const SEQ_MAX: u64 = (1 << 26) - 1;

/// Rooms ever made.
pub const ROOMS_MAX: u64 = (1 << 27) - 1;

/// The public number of a room, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoomId(pub u64);

/// The public number of an organisation, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrganizationId(pub u64);

/// The public number of an uploaded file, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId(pub u64);

/// Whether a room takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoomStatus {
    Open,
    Closed,
    Hold,
}

/// An organisation: it owns rooms, a user owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    pub id: OrganizationId,
    pub name: String,
    /// Unique among all organisations.
    pub uname: String,
    pub owner: UserId,
    pub created_at: Timestamp,
}

/// What a judged change came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged<T, E> {
    Done(T),
    /// There is no such room (or message).
    Missing,
    /// The judge said no; nothing was changed.
    Refused(E),
}

impl Store {
    /// Waits until everything that was applied before is durable.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn chat_barrier(&self) -> Result<(), StoreError> {
        self.change(|_| Ok(())).await
    }

    /// Queues a change and what happens, on the writer thread, when it is durable.
    fn change_then<T, F, A>(&self, change: F, then: A) -> Result<(), StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn) -> Result<T, StoreError> + Send + 'static,
        A: FnOnce(Result<T, StoreError>) + Send + 'static,
    {
        self.committer.submit_with(change, then)
    }

    fn chat_record<R: Record>(&self, key: &[u8]) -> Result<Option<R>, StoreError> {
        let bytes = self.tree.get(key).map_err(error::read)?;
        bytes.map(|bytes| crate::record::decode(&bytes)).transpose()
    }
}

/// The keys of this area.
///
/// | bytes | rest of the key | value |
/// |---|---|---|
/// | `Cr` | room | room |
/// | `Cm` | room, user | member |
/// | `Cu` | user, room | empty: the rooms of a user |
/// | `Cb` | room, user | empty: banned |
/// | `Cp` | smaller user, larger user | room: the pair's room |
/// | `Cx` | room, number | message |
/// | `Cd` | room, user, client's id | number: messages that were sent twice |
/// | `Ce` | room, number | empty: deleted messages |
/// | `Cv` | room, revision | number of the message that was edited or deleted |
/// | `Co` | organisation | organisation |
/// | `Cn` | unique name | organisation id |
/// | `Cw` | owner, organisation | empty: the organisations of a user |
/// | `Cf` | file | file |
/// | `Cg` | stored name | file id |
/// | `Cq` | user | u64: bytes of the user's files |
/// | `Cz` | room | empty: deleted, and not swept yet |
pub(crate) mod key {
    use super::{FileId, IVec, OrganizationId, RoomId, UserId};

    pub(crate) const ROOM_SEQUENCE: &[u8] = b"mseq-room";
    pub(crate) const ORGANIZATION_SEQUENCE: &[u8] = b"mseq-organization";
    pub(crate) const FILE_SEQUENCE: &[u8] = b"mseq-file";
    pub(crate) const FILES: &[u8] = b"Cf";
    pub(crate) const FILE_BYTES: &[u8] = b"Cq";
    /// Bytes of all files.
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

    pub(crate) fn pair(one: UserId, other: UserId) -> IVec {
        numbers(b"Cp", &[one.0.min(other.0), one.0.max(other.0)])
    }

    pub(crate) fn message(room: RoomId, seq: u64) -> IVec {
        numbers(b"Cx", &[room.0, seq])
    }

    pub(crate) fn messages(room: RoomId) -> IVec {
        numbers(b"Cx", &[room.0])
    }

    pub(crate) fn client_id(room: RoomId, user: UserId, id: &str) -> IVec {
        with_text(&numbers(b"Cd", &[room.0, user.0]), id)
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

    pub(crate) fn file_bytes(user: UserId) -> IVec {
        numbers(b"Cq", &[user.0])
    }

    pub(crate) fn sweep(room: RoomId) -> IVec {
        numbers(b"Cz", &[room.0])
    }

    /// The number a key ends with.
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
}
