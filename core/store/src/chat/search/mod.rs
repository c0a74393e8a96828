//! Blocks of words: what a search needs of a run of a room's messages.
//!
//! A block covers the messages `first..=last` of a room; the caller encodes its content, and the store does not
//! interpret it. Messages that no block covers are searched one by one, so a missing block is never an error.
//! Invariants: the blocks of a room do not overlap; the change that edits a message's body or deletes the message
//! also removes the block that covers it, so no block holds words that a message lost; a deleted room loses its
//! blocks with its messages.

pub(crate) mod postgres;
pub(crate) mod sled;

use crate::chat::RoomId;
use crate::engine::{Engine, boxed, on_engine};
use crate::{Store, StoreError};

/// Bytes of a block's content.
pub const WORD_BLOCK_BYTES_MAX: usize = 32 * 1024;

/// The words of some messages of a room, one after another. A reader gets a block with borrowed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordBlock<Bytes = Vec<u8>> {
    /// Numbers of the first and the last message covered.
    pub first: u64,
    pub last: u64,
    /// At most [`WORD_BLOCK_BYTES_MAX`].
    pub bytes: Bytes,
}

impl Store {
    /// Shows the blocks of a room that begin below the message `below`, newest first, at most `limit`, and returns how
    /// many there were. `each` sees the engine's own bytes: a search reads many blocks and keeps little of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn chat_word_blocks(
        &self,
        room: RoomId,
        below: u64,
        limit: usize,
        each: &mut (dyn FnMut(WordBlock<&[u8]>) + Send),
    ) -> Result<usize, StoreError> {
        on_engine!(self, read chat_word_blocks(room, below, limit, each))
    }

    /// Stores a block in place of those that it overlaps. False, and nothing changes, when the room does not exist or
    /// its revision is not `revision` any more: a message may have changed since the caller read it.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    #[boxed]
    pub async fn chat_word_block_put(
        &self,
        room: RoomId,
        block: WordBlock,
        revision: u64,
    ) -> Result<bool, StoreError> {
        on_engine!(self, chat_word_block_put(room, block, revision).await)
    }
}
