//! The operations of this folder, in sled statements.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::chat::{FileId, RoomId};
use crate::engine::sled::keys::{FILES_UNCOUNTED, chat as key};
use crate::engine::sled::record::{Record, decode, decode_u64, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::files::{FileDraft, FileKept, Picture, StoredFile, held_bytes};
use crate::login::sled::user;
use crate::login::user::Avatar;
use crate::{StoreError, Timestamp, UserId};

impl Sled {
    /// Sums what files hold anew, if that is due. Before anything else changes the store.
    pub(crate) fn files_recount(&self) -> Result<(), StoreError> {
        if self.tree.get(FILES_UNCOUNTED).map_err(error::read)?.is_none() {
            return Ok(());
        }
        let mut sums: BTreeMap<u64, u64> = BTreeMap::new();
        for entry in self.tree.scan_prefix(key::FILE_BYTES) {
            sums.insert(key::last(&entry.map_err(error::read)?.0), 0);
        }
        for entry in self.tree.scan_prefix(key::FILES) {
            let record = decode::<FileRecord>(&entry.map_err(error::read)?.1)?;
            let sum = sums.entry(record.uploader.0).or_default();
            *sum = sum.saturating_add(record.held());
        }
        self.change_blocking(move |txn| {
            txn.delete(FILES_UNCOUNTED.into());
            let total = sums.values().fold(0, |total: u64, sum| total.saturating_add(*sum));
            if !sums.is_empty() {
                txn.put(key::FILE_TOTAL.into(), encode_u64(total));
            }
            for (uploader, sum) in sums {
                txn.put(key::file_bytes(UserId(uploader)), encode_u64(sum));
            }
            Ok(())
        })
    }

    pub(crate) async fn chat_file_keep(&self, draft: FileDraft) -> Result<FileKept, StoreError> {
        self.change_with_room(move |txn| {
            // Before a number is taken, as on the other engine.
            if draft.room.is_none() && user::get(txn, draft.uploader)?.is_none() {
                return Ok(FileKept::UploaderMissing);
            }
            let used = bytes_of(txn, draft.uploader)?;
            let held = draft.held();
            if used.saturating_add(held) > draft.quota_bytes {
                return Ok(FileKept::QuotaExceeded);
            }
            let total = total_of(txn)?;
            if total.saturating_add(held) > draft.total_bytes {
                return Ok(FileKept::TotalExceeded);
            }
            let id = FileId(txn.next(key::FILE_SEQUENCE)?);
            let mut record = FileRecord {
                room: draft.room.unwrap_or(NO_ROOM),
                uploader: draft.uploader,
                name: draft.name,
                folder: draft.folder,
                title: draft.title,
                content_type: draft.content_type,
                bytes: draft.bytes,
                text: draft.text,
                picture: draft.picture,
                created_at: draft.now,
                message: None,
                doomed: false,
                shared: false,
            };
            if draft.room.is_none() {
                let path = format!("{}{}", record.folder, record.name);
                show(txn, record.uploader, Some(Avatar { file: id, path }))?;
                record.message = Some(0);
            }
            txn.put(key::file_bytes(record.uploader), encode_u64(used + held));
            txn.put(key::FILE_TOTAL.into(), encode_u64(total + held));
            txn.put(key::file_name(&record.name), encode_u64(id.0));
            txn.put_record(key::file(id), &record);
            Ok(FileKept::Kept(record.with_id(id)))
        })
        .await
    }

    pub(crate) async fn avatar_remove(&self, user: UserId, only: Option<FileId>) -> Result<bool, StoreError> {
        self.change(move |txn| {
            let shown = user::get(txn, user)?.and_then(|user| user.avatar).map(|avatar| avatar.file);
            let removes = shown.is_some_and(|file| only.is_none_or(|only| only == file));
            Ok(removes && show(txn, user, None)?)
        })
        .await
    }

    pub(crate) fn avatar_for(&self, file: FileId, reader: UserId) -> Result<Option<StoredFile>, StoreError> {
        let Some(record) = self.record::<FileRecord>(&key::file(file))? else { return Ok(None) };
        let hidden = record.doomed
            || record.room != NO_ROOM
            || self.tree.contains_key(key::block(record.uploader, reader)).map_err(error::read)?;
        Ok((!hidden).then(|| record.with_id(file)))
    }

    pub(crate) fn chat_file_bytes(&self, user: UserId) -> Result<u64, StoreError> {
        let bytes = self.tree.get(key::file_bytes(user)).map_err(error::read)?;
        bytes.map_or(Ok(0), |bytes| decode_u64("file quota", &bytes))
    }

    pub(crate) fn chat_file_total(&self) -> Result<u64, StoreError> {
        if let Some(bytes) = self.tree.get(key::FILE_TOTAL).map_err(error::read)? {
            return decode_u64("bytes of files", &bytes);
        }
        summed(self.tree.scan_prefix(key::FILE_BYTES).map(|entry| entry.map_err(error::read)))
    }

    pub(crate) fn chat_file(&self, id: FileId) -> Result<Option<StoredFile>, StoreError> {
        Ok(self.record::<FileRecord>(&key::file(id))?.map(|record| record.with_id(id)))
    }

    pub(crate) fn chat_file_by_name(&self, name: &str) -> Result<Option<StoredFile>, StoreError> {
        match self.tree.get(key::file_name(name)).map_err(error::read)? {
            Some(bytes) => self.chat_file(FileId(decode_u64("file name", &bytes)?)),
            None => Ok(None),
        }
    }

    pub(crate) fn chat_files_newest(
        &self,
        before: Option<FileId>,
        limit: usize,
    ) -> Result<Vec<StoredFile>, StoreError> {
        let end = key::file(before.unwrap_or(FileId(u64::MAX)));
        let mut files = Vec::new();
        for entry in self.tree.range(key::file(FileId(0))..end).rev() {
            if files.len() == limit {
                break;
            }
            let (key, value) = entry.map_err(error::read)?;
            let record = decode::<FileRecord>(&value)?;
            if !record.doomed {
                files.push(record.with_id(FileId(key::last(&key))));
            }
        }
        Ok(files)
    }

    pub(crate) async fn chat_file_doom(&self, id: FileId) -> Result<bool, StoreError> {
        self.change(move |txn| {
            let Some(record) = txn.get_record::<FileRecord>(&key::file(id))? else { return Ok(false) };
            let is_free = record.message.is_none() && !record.doomed;
            if is_free {
                txn.put_record(key::file(id), &FileRecord { shared: false, doomed: true, ..record });
            }
            Ok(is_free)
        })
        .await
    }

    pub(crate) async fn chat_files_doom(
        &self,
        after: FileId,
        limit: usize,
        before: Timestamp,
    ) -> Result<(Vec<StoredFile>, Option<FileId>), StoreError> {
        let mut seen = Vec::new();
        let first = key::file(FileId(after.0.saturating_add(1)));
        for entry in self.tree.range(first..).take(limit) {
            let (key, _) = entry.map_err(error::read)?;
            if !key.starts_with(key::FILES) {
                break;
            }
            seen.push(FileId(key::last(&key)));
        }
        // Fewer than requested: this is the end.
        let last = seen.last().copied().filter(|_| seen.len() == limit);
        if seen.is_empty() {
            return Ok((Vec::new(), None));
        }
        let doomed = self
            .change(move |txn| {
                let mut doomed = Vec::new();
                for id in seen {
                    let Some(mut record) = txn.get_record::<FileRecord>(&key::file(id))? else { continue };
                    let homeless = record.room != NO_ROOM && txn.get(&key::room(record.room))?.is_none();
                    let used = record.message.is_some() || record.shared;
                    if !homeless && !record.doomed && (used || record.created_at > before) {
                        continue;
                    }
                    record.doomed = true;
                    txn.put_record(key::file(id), &record);
                    doomed.push(record.with_id(id));
                }
                Ok(doomed)
            })
            .await?;
        Ok((doomed, last))
    }

    pub(crate) async fn chat_file_forget(&self, id: FileId) -> Result<bool, StoreError> {
        self.change(move |txn| {
            let Some(record) = txn.get_record::<FileRecord>(&key::file(id))?.filter(|file| file.doomed)
            else {
                return Ok(false);
            };
            let used = bytes_of(txn, record.uploader)?;
            let total = total_of(txn)?;
            txn.put(key::file_bytes(record.uploader), encode_u64(used.saturating_sub(record.held())));
            txn.put(key::FILE_TOTAL.into(), encode_u64(total.saturating_sub(record.held())));
            txn.delete(key::file_name(&record.name));
            txn.delete(key::file(id));
            Ok(true)
        })
        .await
    }
}

/// The room of a picture of an account. Rooms are numbered from 1.
const NO_ROOM: RoomId = RoomId(0);

#[derive(Serialize, Deserialize)]
pub(crate) struct FileRecord {
    room: RoomId,
    uploader: UserId,
    name: String,
    folder: String,
    title: String,
    content_type: String,
    bytes: u64,
    text: Option<String>,
    created_at: Timestamp,
    message: Option<u64>,
    pub(crate) doomed: bool,
    shared: bool,
    picture: Option<Picture>,
}

impl Record for FileRecord {
    const KIND: &'static str = "file";
    const SCHEMA: u8 = 3;
    const SCHEMA_OLDEST: u8 = 1;

    /// Before files were imported two fields are missing at the end; before pictures were measured, one.
    fn decode_older(schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        let missing: &[u8] = if schema == 1 { &[0, 0] } else { &[0] };
        postcard::from_bytes(&[body, missing].concat())
    }
}

impl FileRecord {
    fn held(&self) -> u64 {
        held_bytes(self.bytes, self.picture, self.text.as_deref())
    }

    pub(crate) fn of(file: StoredFile) -> FileRecord {
        FileRecord {
            room: file.room.unwrap_or(NO_ROOM),
            uploader: file.uploader,
            name: file.name,
            folder: file.folder,
            title: file.title,
            content_type: file.content_type,
            bytes: file.bytes,
            text: file.text,
            picture: file.picture,
            created_at: file.created_at,
            message: file.message,
            doomed: false,
            shared: file.shared,
        }
    }

    pub(crate) fn with_id(self, id: FileId) -> StoredFile {
        StoredFile {
            id,
            room: Some(self.room).filter(|room| *room != NO_ROOM),
            uploader: self.uploader,
            name: self.name,
            folder: self.folder,
            title: self.title,
            content_type: self.content_type,
            bytes: self.bytes,
            text: self.text,
            picture: self.picture,
            created_at: self.created_at,
            message: self.message,
            shared: self.shared,
        }
    }
}

/// Shows a file as the picture of an account, or none, and marks the former one's for removal. False without such an
/// account.
fn show(txn: &mut Txn, user: UserId, avatar: Option<Avatar>) -> Result<bool, StoreError> {
    let Some(mut user) = user::get(txn, user)? else { return Ok(false) };
    if let Some(former) = std::mem::replace(&mut user.avatar, avatar) {
        doom(txn, former.file)?;
    }
    user::put(txn, &user);
    Ok(true)
}

/// Gives a file to a message. `None` when the sender may not give it.
pub(crate) fn attach(
    txn: &mut Txn,
    id: FileId,
    room: RoomId,
    sender: UserId,
    seq: u64,
) -> Result<Option<StoredFile>, StoreError> {
    let Some(mut record) = txn.get_record::<FileRecord>(&key::file(id))? else { return Ok(None) };
    if record.room != room || record.uploader != sender || record.message.is_some() || record.doomed {
        return Ok(None);
    }
    record.message = Some(seq);
    txn.put_record(key::file(id), &record);
    Ok(Some(record.with_id(id)))
}

/// Takes a file from its message; it is then removed with the orphans.
pub(crate) fn detach(txn: &mut Txn, id: FileId) -> Result<(), StoreError> {
    if let Some(mut record) = txn.get_record::<FileRecord>(&key::file(id))? {
        record.message = None;
        record.shared = false;
        txn.put_record(key::file(id), &record);
    }
    Ok(())
}

/// The file of a message, as of the running change.
pub(crate) fn of_message(txn: &Txn, id: Option<FileId>) -> Result<Option<StoredFile>, StoreError> {
    let Some(id) = id else { return Ok(None) };
    Ok(txn.get_record::<FileRecord>(&key::file(id))?.map(|record| record.with_id(id)))
}

/// A file from its record.
pub(crate) fn read(id: FileId, bytes: &[u8]) -> Result<StoredFile, StoreError> {
    Ok(decode::<FileRecord>(bytes)?.with_id(id))
}

/// Marks a file for removal, whatever uses it.
pub(crate) fn doom(txn: &mut Txn, id: FileId) -> Result<(), StoreError> {
    if let Some(record) = txn.get_record::<FileRecord>(&key::file(id))? {
        let record = FileRecord { message: None, shared: false, doomed: true, ..record };
        txn.put_record(key::file(id), &record);
    }
    Ok(())
}

/// Stores the record of an imported file under its id, and counts its bytes.
pub(crate) fn put_imported(txn: &mut Txn, file: StoredFile) -> Result<(), StoreError> {
    let held = file.held();
    let used = bytes_of(txn, file.uploader)?;
    let total = total_of(txn)?;
    txn.put(key::file_bytes(file.uploader), encode_u64(used.saturating_add(held)));
    txn.put(key::FILE_TOTAL.into(), encode_u64(total.saturating_add(held)));
    txn.put(key::file_name(&file.name), encode_u64(file.id.0));
    txn.put_record(key::file(file.id), &FileRecord::of(file));
    Ok(())
}

/// Bytes of all files. A store older than this count sums the counts of its users.
fn total_of(txn: &Txn) -> Result<u64, StoreError> {
    match txn.get(key::FILE_TOTAL)? {
        Some(bytes) => decode_u64("bytes of files", &bytes),
        None => summed(txn.scan(key::FILE_BYTES, usize::MAX)?.into_iter().map(Ok)),
    }
}

fn summed(
    counts: impl Iterator<Item = Result<(sled::IVec, sled::IVec), StoreError>>,
) -> Result<u64, StoreError> {
    counts.map(|entry| decode_u64("file quota", &entry?.1)).sum()
}

fn bytes_of(txn: &Txn, user: UserId) -> Result<u64, StoreError> {
    txn.get(&key::file_bytes(user))?.map_or(Ok(0), |bytes| decode_u64("file quota", &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sled::keys;
    use crate::engine::sled::record::encode;
    use crate::files::FILE_OVERHEAD_BYTES;
    use crate::{Store, StoreOptions};

    #[tokio::test]
    async fn sums_of_older_formats_are_taken_anew() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let file = |id: u64, uploader: u64, text: Option<&str>| StoredFile {
            id: FileId(id),
            room: Some(RoomId(1)),
            uploader: UserId(uploader),
            name: format!("{id}.png"),
            folder: "/media/".into(),
            title: String::new(),
            content_type: "image/png".into(),
            bytes: 10,
            text: text.map(str::to_owned),
            picture: None,
            created_at: Timestamp::default(),
            message: None,
            shared: false,
        };
        // Of user 3 nothing is left.
        let files = [file(1, 1, None), file(2, 2, Some("four")), file(1_000_007, 1, Some("eleven more"))];
        let old = move |txn: &mut Txn| {
            for file in files {
                txn.put_record(key::file(file.id), &FileRecord::of(file));
            }
            for (user, bytes) in [(1, 20), (2, 10), (3, 7)] {
                txn.put(key::file_bytes(UserId(user)), encode_u64(bytes));
            }
            txn.put(key::FILE_TOTAL.into(), encode_u64(37));
            txn.put(key::FILE_SEQUENCE.into(), encode_u64(1_000_007));
            txn.put(keys::FORMAT.into(), encode_u64(5));
            Ok(())
        };
        store.sled().change_blocking(old).unwrap();
        drop(store);
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let sum = async |user| store.chat_file_bytes(UserId(user)).await.unwrap();
        let expected = [2 * FILE_OVERHEAD_BYTES + 31, FILE_OVERHEAD_BYTES + 14, 0];
        assert_eq!([sum(1).await, sum(2).await, sum(3).await], expected);
        assert_eq!(store.chat_file_total().await.unwrap(), expected.iter().sum::<u64>());
    }

    #[test]
    fn files_of_older_versions_are_read() {
        let record = FileRecord {
            room: RoomId(3),
            uploader: UserId(4),
            name: "a.png".into(),
            folder: "/media/".into(),
            title: "cat.png".into(),
            content_type: "image/png".into(),
            bytes: 10,
            text: None,
            created_at: Timestamp::default(),
            message: Some(5),
            doomed: false,
            shared: false,
            picture: None,
        };
        let body = postcard::to_allocvec(&record).expect("encoded");
        // Each version added a field at the end, of one byte while it says nothing.
        for (schema, fields) in [(1, body.len() - 2), (2, body.len() - 1), (3, body.len())] {
            let old = FileRecord::decode_older(schema, &body[..fields]);
            let read = if schema == 3 { decode(&encode(&record)).expect("read") } else { old.expect("read") };
            let file = read.with_id(FileId(9));
            assert_eq!(
                (file.title.as_str(), file.message, file.picture),
                ("cat.png", Some(5), None),
                "{schema}"
            );
            assert!(!file.shared, "{schema}");
        }
    }
}
