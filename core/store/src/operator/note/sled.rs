//! The operations of this folder, in sled statements.

use crate::StoreError;
use crate::engine::sled::keys::console as keys;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::{Sled, error};
use crate::operator::note::{NOTES_MAX, Note, NoteKind, NotePut};

impl Record for Note {
    const KIND: &'static str = "note";
    const SCHEMA: u8 = 1;
}

impl Sled {
    pub(crate) fn notes(&self, kind: NoteKind, prefix: &str) -> Result<Vec<Note>, StoreError> {
        let entries = self.tree.scan_prefix(keys::note(kind, prefix));
        entries.map(|entry| decode(&entry.map_err(error::read)?.1)).collect()
    }

    pub(crate) async fn note_put(
        &self,
        kind: NoteKind,
        name: String,
        seen: Option<String>,
        value: Option<String>,
    ) -> Result<NotePut, StoreError> {
        self.change(move |txn| {
            let key = keys::note(kind, &name);
            let stored = txn.get_record::<Note>(&key)?.map(|note| note.value);
            if stored != seen {
                return Ok(NotePut::Changed);
            }
            match value {
                Some(value) => {
                    let is_new = stored.is_none();
                    if is_new && txn.scan(&keys::note(kind, ""), NOTES_MAX)?.len() >= NOTES_MAX {
                        return Ok(NotePut::Full);
                    }
                    txn.put_record(key, &Note { name, value });
                }
                None if stored.is_some() => txn.delete(key),
                None => {}
            }
            Ok(NotePut::Done)
        })
        .await
    }
}
