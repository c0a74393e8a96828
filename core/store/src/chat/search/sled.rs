//! The operations of this folder, in sled statements. A block's value is its last number and its content.

use crate::StoreError;
use crate::chat::RoomId;
use crate::chat::search::{WORD_BLOCK_BYTES_MAX, WordBlock};
use crate::chat::sled::room::RoomRecord;
use crate::engine::sled::keys::chat as key;
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};

impl Sled {
    pub(crate) fn chat_word_blocks(
        &self,
        room: RoomId,
        below: u64,
        limit: usize,
        each: &mut (dyn FnMut(WordBlock<&[u8]>) + Send),
    ) -> Result<usize, StoreError> {
        let mut shown = 0;
        for entry in self.tree.range(key::words_at(room, 0)..key::words_at(room, below)).rev().take(limit) {
            let (key, value) = entry.map_err(error::read)?;
            let (last, bytes) = content(&value)?;
            each(WordBlock { first: key::last(&key), last, bytes });
            shown += 1;
        }
        Ok(shown)
    }

    pub(crate) async fn chat_word_block_put(
        &self,
        room: RoomId,
        block: WordBlock,
        revision: u64,
    ) -> Result<bool, StoreError> {
        let WordBlock { first, last, bytes } = block;
        if bytes.len() > WORD_BLOCK_BYTES_MAX {
            return Err(damaged("it is too long"));
        }
        let value: sled::IVec = [&last.to_be_bytes()[..], &bytes].concat().into();
        self.change_with_room(move |txn| {
            let current = txn.get_record::<RoomRecord>(&key::room(room))?;
            if current.is_none_or(|room| room.revision != revision) {
                return Ok(false);
            }
            while remove_covering(txn, room, first, last)? {}
            txn.put(key::words_at(room, first), value.clone());
            Ok(true)
        })
        .await
    }
}

/// Removes the newest block that covers a message from `first` to `last`; false when there is none.
pub(crate) fn remove_covering(
    txn: &mut Txn,
    room: RoomId,
    first: u64,
    last: u64,
) -> Result<bool, StoreError> {
    let newest = txn.last_key_of(&key::words_at(room, 0), &key::words_at(room, last))?;
    let Some(key) = newest else { return Ok(false) };
    let Some(value) = txn.get(&key)? else { return Ok(false) };
    let covers = content(&value)?.0 >= first;
    if covers {
        txn.delete(key);
    }
    Ok(covers)
}

fn content(value: &[u8]) -> Result<(u64, &[u8]), StoreError> {
    let (last, bytes) = value.split_first_chunk::<8>().ok_or_else(|| damaged("it is too short"))?;
    Ok((u64::from_be_bytes(*last), bytes))
}

fn damaged(reason: &str) -> StoreError {
    StoreError::Record { kind: "word block", reason: reason.to_owned() }
}
