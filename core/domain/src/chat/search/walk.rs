//! Looking at the messages of one room, newest first, a block or a read at a time.
//!
//! Invariant: every message from [`Walk::at`] on was looked at, and each step lowers it by one message or more.
//! Blocks are read ahead in growing runs, of which only the messages to look at are kept.

use std::collections::VecDeque;

use chelseru_store::Store;
use chelseru_store::chat::{RoomId, WordBlock};

use super::block::Block;
use super::wanted::{BLOCKS_STEP, READ_STEP, TAIL_MIN};
use super::{Budget, Hits, Place, Query};
use crate::chat::{ChatError, SEQ_MAX};

/// What reading a block costs, in messages.
pub(super) const BLOCK_STEPS: usize = 4;
/// Blocks and messages of the first reads in a room. Each read is twice as long as the one before it, because a walk
/// that goes on finds little.
pub(super) const BLOCKS_FIRST: usize = 4;
const READ_FIRST: usize = 16;
/// Bytes of a text that cost as much as another message.
const STEP_BYTES: usize = 256;

/// A search in one room.
pub(super) struct Walk<'a> {
    store: &'a Store,
    query: &'a Query,
    room: RoomId,
    /// Every message from this number on was looked at; 1: all.
    at: u64,
    /// Blocks that were read ahead, newest first.
    blocks: VecDeque<Sighted>,
    /// Blocks that begin below this message were not read.
    blocks_below: u64,
    /// Blocks of the next read; 0 when no block is left.
    blocks_next: usize,
    /// Messages of the next read.
    read_next: usize,
    is_end: bool,
    /// Messages that no block covers: those of the end of the room, and others.
    uncovered: (usize, usize),
}

/// A block, as far as the search needs it.
struct Sighted {
    first: u64,
    last: u64,
    /// The messages to look at, newest first, as distances from the first one.
    candidates: Vec<u16>,
}

/// What a walk does after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    GoOn,
    /// Older messages of the room are not wanted.
    Enough,
}

impl<'a> Walk<'a> {
    /// Begins below the message `below`.
    pub(super) fn new(store: &'a Store, query: &'a Query, room: RoomId, below: u64) -> Walk<'a> {
        let at = below.clamp(1, SEQ_MAX + 1);
        Walk {
            store,
            query,
            room,
            at,
            blocks: VecDeque::new(),
            blocks_below: at,
            blocks_next: BLOCKS_FIRST,
            read_next: READ_FIRST,
            is_end: true,
            uncovered: (0, 0),
        }
    }

    pub(super) fn room(&self) -> RoomId {
        self.room
    }

    /// Every message from this number on was looked at; 1: all.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Whether the walk read so many messages one by one that blocks of them are worth making.
    pub(super) fn lacks_blocks(&self) -> bool {
        let (end, others) = self.uncovered;
        others > 0 || end >= TAIL_MIN
    }

    /// The newest message that was not looked at; `None` when all were, or the room is gone.
    pub(super) async fn next(&self) -> Result<Option<Place>, ChatError> {
        let message = match self.at {
            0 | 1 => None,
            at => self.store.chat_message(self.room, at - 1).await?,
        };
        Ok(message.as_ref().map(Place::of))
    }

    /// Looks at the next message, and at those behind it that the same block or read has; blocks behind it that name no
    /// message are passed at once. Ends early, when it has looked at one, once nothing is left to spend.
    pub(super) async fn step(&mut self, hits: &mut Hits, budget: &mut Budget) -> Result<Step, ChatError> {
        if self.at <= 1 {
            return Ok(Step::Enough);
        }
        self.read_ahead(budget).await?;
        let covered = self.blocks.front().map_or(0, |block| block.last).min(self.at - 1);
        if self.at - 1 > covered {
            return self.scan(covered, hits, budget).await;
        }
        self.is_end = false;
        let Some(block) = self.blocks.pop_front() else { return Ok(Step::GoOn) };
        let step = self.look_at(block, hits, budget).await?;
        while step == Step::GoOn
            && let Some(block) =
                self.blocks.pop_front_if(|block| block.candidates.is_empty() && block.last + 1 == self.at)
        {
            self.at = block.first;
        }
        Ok(step)
    }

    /// Looks at the messages that a block names.
    async fn look_at(
        &mut self,
        block: Sighted,
        hits: &mut Hits,
        budget: &mut Budget,
    ) -> Result<Step, ChatError> {
        for candidate in &block.candidates {
            let seq = block.first + u64::from(*candidate);
            if seq >= self.at {
                continue;
            }
            self.at = seq;
            let message = self.store.chat_message(self.room, seq).await?;
            let bytes = message.as_ref().map_or(0, |message| message.body.text.len());
            budget.spend(2 + bytes / STEP_BYTES).await;
            if let Some(message) = message.filter(|message| !message.deleted)
                && hits.offer(self.query, message) == Step::Enough
            {
                return Ok(Step::Enough);
            }
            if budget.is_spent() && self.at > block.first {
                self.blocks.push_front(block);
                return Ok(Step::GoOn);
            }
        }
        self.at = self.at.min(block.first);
        Ok(Step::GoOn)
    }

    /// Reads the next blocks, unless some are left. One that cannot be read covers nothing.
    async fn read_ahead(&mut self, budget: &mut Budget) -> Result<(), ChatError> {
        while self.blocks.is_empty() && self.blocks_next > 0 {
            let (query, mut below, mut unreadable) = (self.query, self.blocks_below, 0);
            let blocks = &mut self.blocks;
            let mut sight = |block: WordBlock<&[u8]>| {
                below = block.first;
                match Block::read(block.bytes) {
                    Some(content) => blocks.push_back(Sighted {
                        first: block.first,
                        last: block.last,
                        candidates: content.candidates(query),
                    }),
                    None => unreadable += 1,
                }
            };
            let asked = self.blocks_next;
            let read = self.store.chat_word_blocks(self.room, self.blocks_below, asked, &mut sight).await?;
            (self.blocks_below, self.uncovered.1) = (below, self.uncovered.1 + unreadable);
            self.blocks_next = if read < asked { 0 } else { (2 * asked).min(BLOCKS_STEP) };
            budget.spend(1 + read * BLOCK_STEPS).await;
        }
        Ok(())
    }

    /// Looks at the next messages one by one, down to the one after `covered`.
    async fn scan(&mut self, covered: u64, hits: &mut Hits, budget: &mut Budget) -> Result<Step, ChatError> {
        let begun = self.at;
        let left = usize::try_from(self.at - 1 - covered).unwrap_or(usize::MAX);
        let page = self.store.chat_messages_before(self.room, self.at, self.read_next.min(left)).await?;
        self.read_next = (2 * self.read_next).min(READ_STEP);
        let (more, end) = (page.more, page.end);
        let step = self.look(page.messages, covered, hits, budget).await;
        if step == Some(Step::GoOn) {
            // Deleted messages were skipped, perhaps nothing else was found.
            let end = if more { self.at.min(end) } else { covered + 1 };
            self.at = end.max(covered + 1);
        }
        budget.spend(1).await;
        let read = usize::try_from(begun - self.at).unwrap_or(usize::MAX);
        let counted = if self.is_end { &mut self.uncovered.0 } else { &mut self.uncovered.1 };
        *counted = counted.saturating_add(read);
        Ok(step.unwrap_or(Step::GoOn))
    }

    /// `None` when nothing is left to spend.
    async fn look(
        &mut self,
        messages: Vec<crate::chat::Message>,
        covered: u64,
        hits: &mut Hits,
        budget: &mut Budget,
    ) -> Option<Step> {
        for message in messages.into_iter().take_while(|message| message.seq > covered) {
            budget.spend(1 + message.body.text.len() / STEP_BYTES).await;
            self.at = message.seq;
            if hits.offer(self.query, message) == Step::Enough {
                return Some(Step::Enough);
            }
            if budget.is_spent() {
                return None;
            }
        }
        Some(Step::GoOn)
    }
}
