//! Statements of sled.

use crate::chat::import::{ImportedFile, ImportedIds, ImportedMessage, ImportedRoom};
use crate::chat::organization::sled::OrganizationRecord;
use crate::chat::sled::message::MessageRecord;
use crate::chat::sled::room::{MemberRecord, RoomRecord};
use crate::chat::{FileId, Message, Organization, RoomId, StoredFile};
use crate::engine::sled::keys::chat as key;
use crate::engine::sled::keys::money as money_keys;
use crate::engine::sled::record::{decode_u64, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error, keys};
use crate::files::sled as file;
use crate::{StoreError, Timestamp};

impl Sled {
    pub(crate) async fn import_organizations(
        &self,
        organizations: Vec<Organization>,
    ) -> Result<(), StoreError> {
        self.change(move |txn| {
            for Organization { id, name, uname, owner, created_at } in organizations {
                txn.put(key::organization_name(&uname), encode_u64(id.0));
                txn.put(key::organization_of(owner, id), sled::IVec::default());
                let record = OrganizationRecord { name, uname, owner, created_at };
                txn.put_record(key::organization(id), &record);
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn import_rooms(&self, rooms: Vec<ImportedRoom>) -> Result<(), StoreError> {
        self.change(move |txn| {
            rooms.into_iter().for_each(|room| put_room(txn, room));
            Ok(())
        })
        .await
    }

    pub(crate) async fn import_messages(&self, messages: Vec<ImportedMessage>) -> Result<(), StoreError> {
        self.change(move |txn| {
            messages.into_iter().for_each(|message| put_message(txn, message));
            Ok(())
        })
        .await
    }

    pub(crate) async fn import_files(&self, files: Vec<ImportedFile>) -> Result<(), StoreError> {
        self.change(move |txn| {
            for ImportedFile { file, old_path } in files {
                txn.put(key::old_path(&old_path), encode_u64(file.id.0));
                file::put_imported(txn, file)?;
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn import_ids(&self, last: ImportedIds) -> Result<(), StoreError> {
        self.change(move |txn| {
            let sequences = [
                (keys::USER_SEQUENCE, last.user),
                (money_keys::PAYMENT_SEQUENCE, last.payment),
                (key::ROOM_SEQUENCE, last.room),
                (key::ORGANIZATION_SEQUENCE, last.organization),
                (key::FILE_SEQUENCE, last.file),
            ];
            for (sequence, last) in sequences {
                if txn.peek_next(sequence)? <= last {
                    txn.put(sequence.into(), encode_u64(last));
                }
            }
            Ok(())
        })
        .await
    }

    pub(crate) fn chat_message_by_old_id(&self, old_id: u64) -> Result<Option<(RoomId, u64)>, StoreError> {
        let Some(bytes) = self.tree.get(key::old_message(old_id)).map_err(error::read)? else {
            return Ok(None);
        };
        let Some((room, seq)) = bytes.split_first_chunk::<8>() else {
            let reason = format!("{} bytes instead of 16", bytes.len());
            return Err(StoreError::Record { kind: "old message id", reason });
        };
        Ok(Some((RoomId(u64::from_be_bytes(*room)), decode_u64("old message id", seq)?)))
    }

    pub(crate) fn chat_file_by_old_path(&self, path: &str) -> Result<Option<StoredFile>, StoreError> {
        match self.tree.get(key::old_path(path)).map_err(error::read)? {
            Some(bytes) => self.chat_file(FileId(decode_u64("old path", &bytes)?)),
            None => Ok(None),
        }
    }

    pub(crate) fn chat_last_seq_before(&self, room: RoomId, before: Timestamp) -> Result<u64, StoreError> {
        // `low` was sent before the instant, or is 0; what follows `high` was not.
        let (mut low, mut high) = (0, self.chat_last_seq(room)?);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match self.chat_message(room, middle)? {
                Some(message) if message.created_at < before => low = middle,
                _ => high = middle - 1,
            }
        }
        Ok(low)
    }
}

fn put_room(txn: &mut Txn, imported: ImportedRoom) {
    let ImportedRoom { room, members, bans, pair_with } = imported;
    let id = room.id;
    let other = pair_with.unwrap_or(room.owner);
    let record = RoomRecord {
        pair: pair_with.is_some(),
        members: u32::try_from(members.len()).unwrap_or(u32::MAX),
        bans: u32::try_from(bans.len()).unwrap_or(u32::MAX),
        ..RoomRecord::of(room, other)
    };
    if let Some(other) = pair_with {
        txn.put(key::pair(record.owner, other), encode_u64(id.0));
    }
    for member in members {
        let user = member.user;
        txn.put(key::user_room(user, id), sled::IVec::default());
        txn.put_record(key::member(id, user), &MemberRecord::of(member));
    }
    for user in bans {
        txn.put(key::ban(id, user), sled::IVec::default());
    }
    txn.put_record(key::room(id), &record);
}

fn put_message(txn: &mut Txn, imported: ImportedMessage) {
    let ImportedMessage { message, old_id } = imported;
    let Message { room, seq, .. } = message;
    txn.put(key::old_message(old_id), [room.0.to_be_bytes(), seq.to_be_bytes()].concat().into());
    txn.put_record(key::message(room, seq), &MessageRecord::of(message, 0));
}
