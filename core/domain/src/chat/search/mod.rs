//! Searching messages: in one room, or over all rooms of a user, newest first.
//!
//! Words are compared in a folded form ([`words`]). Blocks of words ([`block`]), which [`index`] makes in the
//! background, say which messages of a long room are worth reading; what no block covers is read message by message.
//! So a search is right whatever is indexed, and sending a message costs nothing. Each message found is read and
//! compared before it is shown: an edit, a deletion or a stale block shows nothing wrong.
//!
//! Invariants: only messages of rooms that the user may see, as of the search; results of one page, and of the pages
//! behind it, are in order without gap. Bounds: [`ChatRules::search_steps_max`](super::ChatRules) reads in one
//! search, [`AT_ONCE`](wanted::AT_ONCE) searches of the gateway at a time, and `searches_per_minute_max` of a user.

mod block;
mod index;
pub(super) mod wanted;
mod words;

use std::collections::VecDeque;
use std::time::Duration;

use chelseru_store::Store;
use chelseru_store::chat::{RoomId, RoomSummary, WordBlock};

use self::block::Block;
pub use self::index::Indexer;
use self::wanted::{BLOCKS_STEP, READ_STEP, TAIL_MIN};
pub use self::words::{BadQuery, QUERY_CHARS_MAX, QUERY_WORDS_MAX, Query};
use super::{ChatError, ChatService, Message, SEQ_MAX, message_id, message_of};
use crate::Timestamp;
use crate::ids::UserId;

/// How long a search waits for others to end; it is refused then.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// What reading a block costs, in messages.
const BLOCK_STEPS: usize = 8;
/// What a room costs, in messages.
const ROOM_STEPS: usize = 4;
/// Bytes of a text that cost as much as another message.
const STEP_BYTES: usize = 256;
/// Steps after which other tasks run.
const YIELD_STEPS: usize = 500;

/// A page of found messages, newest first.
#[derive(Debug, Default)]
pub struct Found {
    pub messages: Vec<Message>,
    /// The id ([`message_id`]) to continue below. A page may be short, or empty, although there is one.
    pub next: Option<u64>,
}

/// What a search may still read.
struct Budget {
    left: usize,
    since_yield: usize,
}

/// One search in one room.
struct Walk<'a> {
    store: &'a Store,
    query: &'a Query,
    room: RoomId,
    /// Hits to find.
    wanted: usize,
    /// Hits are older than this message, by time and id.
    before: Option<(Timestamp, u64)>,
    /// Messages older than this are not needed.
    oldest: Timestamp,
}

/// How far a walk came.
struct Walked {
    hits: Vec<Message>,
    /// Every message from this number on was looked at; 1: all.
    at: u64,
    /// The walk ended because there was nothing left to spend.
    exhausted: bool,
    /// Messages that no block covers: those of the end of the room, and others.
    uncovered: (usize, usize),
}

impl ChatService {
    /// The messages of a room that fit a query, below the message `before`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`ChatError::RoomMissing`], [`ChatError::Denied`], [`ChatError::Exhausted`], [`ChatError::Busy`],
    /// [`ChatError::Store`].
    pub async fn search_room(
        &self,
        user: UserId,
        room: RoomId,
        query: &Query,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Found, ChatError> {
        self.charge_search(user)?;
        let summary = self.room(room, user).await?;
        let below = match before.map(message_of) {
            None => u64::MAX,
            Some((of, seq)) if of == room => seq,
            // A message of another room: there is nothing below it here.
            Some(_) => 0,
        };
        let _place = self.search_place().await?;
        let mut budget = self.budget();
        let walk = Walk {
            store: &self.store,
            query,
            room,
            wanted: limit,
            before: None,
            oldest: Timestamp::default(),
        };
        let walked = walk.run(below.min(summary.last_seq.saturating_add(1)), &mut budget).await?;
        self.note_uncovered(room, &walked);
        let next = (walked.at > 1).then(|| message_id(room, walked.at));
        Ok(Found { messages: walked.hits, next })
    }

    /// The messages of a user's rooms that fit a query, older than the message `before`, at most `limit`. Rooms that
    /// wait for the user's acceptance, and those that the user hid, are left out.
    ///
    /// # Errors
    ///
    /// [`ChatError::Preparing`] while too little is indexed, [`ChatError::MessageMissing`] when `before` is gone,
    /// [`ChatError::Exhausted`], [`ChatError::Busy`], [`ChatError::Store`].
    pub async fn search_rooms(
        &self,
        user: UserId,
        query: &Query,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Found, ChatError> {
        self.charge_search(user)?;
        let before = match before {
            None => None,
            Some(id) => {
                let (room, seq) = message_of(id);
                let message = self.store.chat_message(room, seq).await?.ok_or(ChatError::MessageMissing)?;
                Some((message.created_at, id))
            }
        };
        let rooms = self.rooms(user).await?;
        let _place = self.search_place().await?;
        let (mut hits, horizon) = self.search_each(&rooms, query, before, limit).await?;
        // What lies beyond the horizon may have newer neighbours that were not looked at.
        let found = hits.len();
        hits.retain(|hit| horizon.is_none_or(|horizon| hit.created_at > horizon));
        let more = found > limit || horizon.is_some();
        hits.truncate(limit);
        let last = hits.last().map(|hit| message_id(hit.room, hit.seq));
        match (last, horizon) {
            (None, Some(_)) => Err(ChatError::Preparing),
            _ => Ok(Found { messages: hits, next: last.filter(|_| more) }),
        }
    }

    /// The newest hits of several rooms, the latest changed first; and the time up to which everything newer was
    /// looked at, unless all was.
    async fn search_each(
        &self,
        rooms: &[RoomSummary],
        query: &Query,
        before: Option<(Timestamp, u64)>,
        limit: usize,
    ) -> Result<(Vec<Message>, Option<Timestamp>), ChatError> {
        let mut budget = self.budget();
        let mut hits: Vec<Message> = Vec::new();
        for (at, summary) in rooms.iter().enumerate() {
            let room = summary.room.id;
            let oldest = hits.get(limit).map_or(Timestamp::default(), |hit| hit.created_at);
            if summary.updated_at < oldest {
                break;
            }
            let newest = summary.last_seq.saturating_add(1);
            let below = match before {
                Some((time, _)) if summary.updated_at > time => {
                    let after = Timestamp::from_micros(time.as_micros().saturating_add(1));
                    self.store.chat_last_seq_before(room, after).await?.saturating_add(1)
                }
                _ => newest,
            };
            budget.spend(ROOM_STEPS).await;
            let walk = Walk { store: &self.store, query, room, wanted: limit + 1, before, oldest };
            let walked = walk.run(below, &mut budget).await?;
            self.note_uncovered(room, &walked);
            hits.extend(walked.hits);
            hits.sort_by_key(|hit| std::cmp::Reverse((hit.created_at, message_id(hit.room, hit.seq))));
            hits.truncate(limit + 1);
            if walked.exhausted {
                let reached = self.store.chat_message(room, walked.at).await?;
                let reached = reached.map_or(summary.updated_at, |message| message.created_at);
                for next in &rooms[at + 1..] {
                    self.wanted.note(next.room.id);
                }
                let following = rooms.get(at + 1).map(|next| next.updated_at);
                return Ok((hits, Some(following.map_or(reached, |following| following.max(reached)))));
            }
        }
        Ok((hits, None))
    }

    fn budget(&self) -> Budget {
        Budget { left: self.rules().search_steps_max, since_yield: 0 }
    }

    async fn search_place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, ChatError> {
        let place = tokio::time::timeout(WAIT_MAX, self.searches.acquire()).await;
        place.map_err(|_| ChatError::Busy)?.map_err(|_| ChatError::Busy)
    }

    /// Asks for blocks where a search had to read many messages.
    fn note_uncovered(&self, room: RoomId, walked: &Walked) {
        let (end, others) = walked.uncovered;
        if others > 0 || end >= TAIL_MIN {
            self.wanted.note(room);
        }
    }
}

impl Budget {
    async fn spend(&mut self, steps: usize) {
        self.left = self.left.saturating_sub(steps);
        self.since_yield += steps;
        if self.since_yield >= YIELD_STEPS {
            self.since_yield = 0;
            tokio::task::yield_now().await;
        }
    }
}

impl Walk<'_> {
    /// Looks at messages below a number, newest first.
    async fn run(&self, below: u64, budget: &mut Budget) -> Result<Walked, ChatError> {
        let mut walked =
            Walked { hits: Vec::new(), at: below.min(SEQ_MAX + 1), exhausted: false, uncovered: (0, 0) };
        let mut blocks: VecDeque<WordBlock> = VecDeque::new();
        let mut blocks_end = false;
        let mut is_end = true;
        while walked.at > 1 {
            if budget.left == 0 {
                walked.exhausted = true;
                return Ok(walked);
            }
            if blocks.is_empty() && !blocks_end {
                let found = self.store.chat_word_blocks(self.room, walked.at, BLOCKS_STEP).await?;
                blocks_end = found.len() < BLOCKS_STEP;
                blocks.extend(found);
            }
            let covered = blocks.front().map_or(0, |block| block.last).min(walked.at - 1);
            if walked.at - 1 > covered {
                let before = walked.at;
                if !self.scan(covered, &mut walked, budget).await? {
                    return Ok(walked);
                }
                let read = usize::try_from(before - walked.at).unwrap_or(usize::MAX);
                let counted = if is_end { &mut walked.uncovered.0 } else { &mut walked.uncovered.1 };
                *counted = counted.saturating_add(read);
                continue;
            }
            is_end = false;
            let Some(block) = blocks.pop_front() else { break };
            budget.spend(BLOCK_STEPS).await;
            match Block::read(&block.bytes) {
                Some(content) => {
                    let candidates = content.candidates(self.query);
                    let candidates = candidates.into_iter().map(|at| block.first + u64::from(at));
                    if !self.try_each(candidates, &mut walked, budget).await? {
                        return Ok(walked);
                    }
                    walked.at = walked.at.min(block.first);
                }
                None => {
                    walked.uncovered.1 += 1;
                    while walked.at > block.first {
                        if budget.left == 0 {
                            walked.exhausted = true;
                            return Ok(walked);
                        }
                        if !self.scan(block.first - 1, &mut walked, budget).await? {
                            return Ok(walked);
                        }
                    }
                }
            }
        }
        walked.at = 1;
        Ok(walked)
    }

    /// Looks at the next messages one by one, down to the one after `covered`. False when the walk may end.
    async fn scan(&self, covered: u64, walked: &mut Walked, budget: &mut Budget) -> Result<bool, ChatError> {
        let page = self.store.chat_messages_before(self.room, walked.at, READ_STEP).await?;
        for message in page.messages {
            if message.seq <= covered {
                walked.at = covered + 1;
                return Ok(true);
            }
            budget.spend(1 + message.body.text.len() / STEP_BYTES).await;
            walked.at = message.seq;
            if !self.look(message, walked) {
                return Ok(false);
            }
            if budget.left == 0 {
                return Ok(true);
            }
        }
        budget.spend(1).await;
        walked.at = match page.more {
            // Deleted messages were skipped, perhaps nothing else was found.
            true => walked.at.min(page.end),
            false => covered + 1,
        };
        walked.at = walked.at.max(covered + 1);
        Ok(true)
    }

    /// Reads what a block names. False when the walk may end.
    async fn try_each(
        &self,
        candidates: impl Iterator<Item = u64>,
        walked: &mut Walked,
        budget: &mut Budget,
    ) -> Result<bool, ChatError> {
        for seq in candidates {
            if seq >= walked.at {
                continue;
            }
            if budget.left == 0 {
                walked.exhausted = true;
                return Ok(false);
            }
            let message = self.store.chat_message(self.room, seq).await?;
            let bytes = message.as_ref().map_or(0, |message| message.body.text.len());
            budget.spend(2 + bytes / STEP_BYTES).await;
            walked.at = seq;
            if let Some(message) = message.filter(|message| !message.deleted)
                && !self.look(message, walked)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes a message that fits. False when enough was found, or the message is older than needed.
    fn look(&self, message: Message, walked: &mut Walked) -> bool {
        if message.created_at < self.oldest {
            return false;
        }
        let place = (message.created_at, message_id(message.room, message.seq));
        if self.before.is_none_or(|before| place < before) && self.query.fits(&message.body.text) {
            walked.hits.push(message);
        }
        walked.hits.len() < self.wanted
    }
}
