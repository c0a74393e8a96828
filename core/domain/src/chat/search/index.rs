//! Making the blocks of words, in the background.
//!
//! A round looks at the end of every room; rooms that a search found badly covered come first and are looked at as a
//! whole. A block is stored only if no message of the room changed while it was made, so a crash or a second gateway
//! can only repeat work. Older stores begin without blocks and get them in the first round. The work is paced: after
//! a piece of work the task rests for [`REST`] times as long, so that it takes a twentieth of a core at most.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_store::chat::{RoomId, WordBlock};

use super::block::{Block, Builder};
use super::wanted::{BLOCKS_STEP, READ_STEP, TAIL_MIN};
use crate::chat::{ChatError, ChatService};

/// From the end of a round to the next one.
const ROUND_EVERY: Duration = Duration::from_secs(10 * 60);
/// Rooms whose numbers are read at a time.
const ROOMS_STEP: usize = 200;
/// Rest after a piece of work, in times of the work.
const REST: u32 = 19;
/// Pieces shorter than this are done together.
const PIECE_MIN: Duration = Duration::from_millis(2);
/// Attempts to store a block of a room whose messages keep changing.
const ATTEMPTS: usize = 3;

/// Makes blocks until it is dropped.
pub struct Indexer {
    chat: Arc<ChatService>,
    worked: Duration,
    rest: u32,
}

impl Indexer {
    #[must_use]
    pub fn new(chat: Arc<ChatService>) -> Indexer {
        Indexer { chat, worked: Duration::ZERO, rest: REST }
    }

    /// Works without rests, where nobody else needs the machine.
    #[must_use]
    pub fn eager(self) -> Indexer {
        Indexer { rest: 0, ..self }
    }

    /// Looks at all rooms again and again. Cancellation: may be dropped at any await.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`], [`ChatError::StorageFull`], [`ChatError::Busy`]. A later call begins a new round.
    pub async fn run(&mut self) -> Result<(), ChatError> {
        loop {
            self.round().await?;
            let next = tokio::time::sleep(ROUND_EVERY);
            tokio::pin!(next);
            loop {
                self.wanted().await?;
                let chat = Arc::clone(&self.chat);
                tokio::select! {
                    () = &mut next => break,
                    () = chat.wanted.woken.notified() => {}
                }
            }
        }
    }

    /// One round over all rooms.
    ///
    /// # Errors
    ///
    /// As [`Indexer::run`].
    pub async fn round(&mut self) -> Result<(), ChatError> {
        let mut before = None;
        loop {
            let rooms = self.chat.store.chat_rooms_before(before, ROOMS_STEP).await?;
            for (room, last_seq) in &rooms {
                if *last_seq >= TAIL_MIN as u64 {
                    self.room_end(room.id, *last_seq).await?;
                }
                self.wanted().await?;
            }
            match rooms.last() {
                Some((room, _)) => before = Some(room.id),
                None => return Ok(()),
            }
        }
    }

    async fn wanted(&mut self) -> Result<(), ChatError> {
        while let Some(room) = self.chat.wanted.take() {
            self.whole_room(room).await?;
        }
        Ok(())
    }

    /// Makes blocks of the messages behind the last block.
    async fn room_end(&mut self, room: RoomId, last_seq: u64) -> Result<(), ChatError> {
        let begun = Instant::now();
        let mut newest = None;
        let mut see = |block: WordBlock<&[u8]>| newest = Some((block.first, block.last, grows(&block)));
        self.chat.store.chat_word_blocks(room, u64::MAX, 1, &mut see).await?;
        self.pause(begun.elapsed()).await;
        let covered = newest.map_or(0, |(_, last, _)| last);
        if last_seq.saturating_sub(covered) < TAIL_MIN as u64 {
            return Ok(());
        }
        let from = match newest {
            Some((first, _, true)) => first,
            _ => covered + 1,
        };
        self.fill(room, from, last_seq).await
    }

    /// Makes the blocks that a room lacks.
    async fn whole_room(&mut self, room: RoomId) -> Result<(), ChatError> {
        let last_seq = self.chat.store.chat_last_seq(room).await?;
        let (mut at, mut gaps) = (last_seq + 1, Vec::new());
        loop {
            let begun = Instant::now();
            let below = at;
            let mut see = |block: WordBlock<&[u8]>| {
                if block.last.saturating_add(1) < at && at <= last_seq {
                    gaps.push((block.last + 1, at - 1));
                }
                if Block::read(block.bytes).is_none() {
                    gaps.push((block.first, block.last));
                }
                at = block.first;
            };
            let seen = self.chat.store.chat_word_blocks(room, below, BLOCKS_STEP, &mut see).await?;
            self.pause(begun.elapsed()).await;
            if seen < BLOCKS_STEP {
                break;
            }
        }
        if at > 1 && at <= last_seq {
            gaps.push((1, at - 1));
        }
        for (first, last) in gaps {
            self.fill(room, first, last).await?;
        }
        self.room_end(room, last_seq).await
    }

    /// Makes blocks of the messages from `first` to `last`.
    async fn fill(&mut self, room: RoomId, first: u64, last: u64) -> Result<(), ChatError> {
        let (mut at, mut attempts) = (first, 0);
        while at <= last {
            let begun = Instant::now();
            let Some(position) = self.chat.store.chat_position(room).await? else { return Ok(()) };
            let block = self.read(room, at, last).await?;
            let end = block.last;
            let stored = self.chat.store.chat_word_block_put(room, block, position.revision).await?;
            self.pause(begun.elapsed()).await;
            attempts += 1;
            if stored {
                (at, attempts) = (end + 1, 0);
            } else if attempts >= ATTEMPTS {
                break;
            }
        }
        Ok(())
    }

    /// The block that begins at `first` and covers nothing behind `last`.
    async fn read(&self, room: RoomId, first: u64, last: u64) -> Result<WordBlock, ChatError> {
        let mut builder = Builder::new(first);
        let mut covered = first - 1;
        loop {
            let page = self.chat.store.chat_messages_after(room, covered, READ_STEP).await?;
            for message in page.messages.iter().take_while(|message| message.seq <= last) {
                if !builder.add(message.seq, &message.body.text) {
                    // What lies between was deleted.
                    return Ok(builder.finish((message.seq - 1).max(first), true));
                }
            }
            covered = if page.more { covered.max(page.end) } else { last };
            if covered >= last {
                return Ok(builder.finish(last, false));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Rests after work.
    async fn pause(&mut self, worked: Duration) {
        self.worked += worked;
        if self.worked >= PIECE_MIN {
            tokio::time::sleep(self.worked * self.rest).await;
            self.worked = Duration::ZERO;
        }
    }
}

fn grows(block: &WordBlock<&[u8]>) -> bool {
    Block::read(block.bytes).is_none_or(|block| !block.full)
}
