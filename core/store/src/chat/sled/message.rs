//! The record of a message in every readable version, and the newest message of a room.

use serde::{Deserialize, Serialize};

use crate::chat::message::{Message, MessageBody};
use crate::chat::{FileId, RoomId};
use crate::engine::sled::keys::chat as key;
use crate::engine::sled::record::Record;
use crate::engine::sled::txn::{Newest, Txn};
use crate::{StoreError, Timestamp, UserId};

#[derive(Serialize, Deserialize)]
pub(crate) struct MessageRecord {
    pub(crate) created_at: Timestamp,
    pub(crate) deleted: bool,
    pub(crate) sender: UserId,
    pub(crate) body: MessageBody,
    pub(crate) file: Option<FileId>,
    pub(crate) file_name: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) edited_at: Option<Timestamp>,
    /// The room's revision of the last change; 0: never changed.
    pub(crate) revision: u64,
}

/// The version before messages stored their revision; all revisions were kept.
#[derive(Serialize, Deserialize)]
struct MessageRecord1 {
    created_at: Timestamp,
    deleted: bool,
    sender: UserId,
    body: MessageBody,
    file: Option<FileId>,
    file_name: Option<String>,
    client_id: Option<String>,
    edited_at: Option<Timestamp>,
}

impl Record for MessageRecord {
    const KIND: &'static str = "message";
    const SCHEMA: u8 = 2;
    const SCHEMA_OLDEST: u8 = 1;

    fn decode_older(_schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        let old: MessageRecord1 = postcard::from_bytes(body)?;
        Ok(MessageRecord {
            created_at: old.created_at,
            deleted: old.deleted,
            sender: old.sender,
            body: old.body,
            file: old.file,
            file_name: old.file_name,
            client_id: old.client_id,
            edited_at: old.edited_at,
            revision: 0,
        })
    }
}

impl MessageRecord {
    pub(crate) fn of(message: Message, revision: u64) -> MessageRecord {
        MessageRecord {
            created_at: message.created_at,
            deleted: message.deleted,
            sender: message.sender,
            body: message.body,
            file: message.file,
            file_name: message.file_name,
            client_id: message.client_id,
            edited_at: message.edited_at,
            revision,
        }
    }

    pub(crate) fn with_id(self, room: RoomId, seq: u64) -> Message {
        Message {
            room,
            seq,
            sender: self.sender,
            body: self.body,
            file: self.file,
            file_name: self.file_name,
            client_id: self.client_id,
            created_at: self.created_at,
            edited_at: self.edited_at,
            deleted: self.deleted,
        }
    }
}

/// The newest message of a room as of the running change, deleted or not; `None` when the room is empty.
pub(crate) fn newest(txn: &Txn, room: RoomId) -> Result<Option<Newest>, StoreError> {
    if let Some(newest) = txn.newest(room.0) {
        return Ok(Some(newest));
    }
    let Some(key) = txn.last_key(&key::messages(room))? else { return Ok(None) };
    let Some(record) = txn.get_record::<MessageRecord>(&key)? else {
        return Err(StoreError::Record {
            kind: MessageRecord::KIND,
            reason: "it disappeared within a change".into(),
        });
    };
    Ok(Some(Newest { seq: key::last(&key), sender: record.sender }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sled::record::{decode, encode};

    impl Record for MessageRecord1 {
        const KIND: &'static str = "message";
        const SCHEMA: u8 = 1;
    }

    #[test]
    fn a_message_of_the_version_before_is_read() {
        let old = MessageRecord1 {
            created_at: Timestamp::from_secs(5),
            deleted: false,
            sender: UserId(3),
            body: MessageBody { kind: "text".into(), text: "hello".into(), ..MessageBody::default() },
            file: None,
            file_name: Some("a.txt".into()),
            client_id: Some("c".into()),
            edited_at: Some(Timestamp::from_secs(6)),
        };
        let record = decode::<MessageRecord>(&encode(&old)).unwrap();
        assert_eq!((record.revision, record.edited_at), (0, Some(Timestamp::from_secs(6))));
        let message = record.with_id(RoomId(1), 9);
        assert_eq!((message.sender, message.seq, message.body.text.as_str()), (UserId(3), 9, "hello"));
        assert_eq!((message.file_name.as_deref(), message.client_id.as_deref()), (Some("a.txt"), Some("c")));
    }
}
