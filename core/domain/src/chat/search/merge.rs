//! A search over several rooms, back in time in all of them together.
//!
//! The next step is always taken in the room with the newest message that was not looked at. So at any moment there is
//! a place from which on everything was looked at, in all rooms, and it moves into the past with each step: a page
//! that runs out of steps ends there, and the next one begins there. A room is opened when its last change is the
//! newest thing left, so a page of recent hits opens few rooms.
//!
//! Progress: opening rooms is not charged, because their number is bounded, and a page takes at least one step, whose
//! first message is older than the page's beginning. [`ROOM_STEPS`] lets a page take the first step in each room,
//! and as many more: otherwise the pages of a user with many rooms would advance by a few messages each.

use std::collections::BinaryHeap;

use chelseru_store::Store;
use chelseru_store::chat::{RoomId, RoomSummary};

use super::walk::{BLOCK_STEPS, BLOCKS_FIRST, Step, Walk};
use super::{Budget, Found, Hits, Place, Query};
use crate::Timestamp;
use crate::chat::{ChatError, message_of};

/// Steps of a page for each room: two first steps in it.
pub(super) const ROOM_STEPS: usize = 2 * (BLOCKS_FIRST * BLOCK_STEPS + 4);
/// What opening a room takes, in messages: a search for its newest message that is old enough.
const OPEN_STEPS: usize = 10;

/// A search over several rooms.
pub(super) struct Merge<'a> {
    store: &'a Store,
    query: &'a Query,
    rooms: &'a [RoomSummary],
    before: Option<Place>,
    /// The walks of opened rooms, at the places of their rooms.
    walks: Vec<Option<Walk<'a>>>,
    /// Rooms with messages to look at, and the place of the newest of them; of a room that is not open, one that is not
    /// older than that.
    left: BinaryHeap<(Place, usize)>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(
        store: &'a Store,
        query: &'a Query,
        rooms: &'a [RoomSummary],
        before: Option<Place>,
    ) -> Merge<'a> {
        let newest = |summary: &RoomSummary| {
            let newest = Place { at: summary.updated_at, id: u64::MAX };
            before.map_or(newest, |before| newest.min(before))
        };
        let left = rooms.iter().map(newest).zip(0..).collect();
        Merge { store, query, rooms, before, walks: rooms.iter().map(|_| None).collect(), left }
    }

    /// Looks for as many hits, until the budget is spent.
    pub(super) async fn page(&mut self, limit: usize, mut budget: Budget) -> Result<Found<Place>, ChatError> {
        // One more tells whether another page has any.
        let mut hits = Hits::by_time(limit + 1, self.before);
        // Everything from here on was looked at.
        let mut reached: Option<Place> = None;
        while let Some((newest, room)) = self.left.pop() {
            if hits.oldest_wanted().is_some_and(|oldest| newest < oldest) {
                break;
            }
            if reached.is_some() && budget.is_spent() {
                return Ok(page(hits, limit, reached));
            }
            let mut step = Step::GoOn;
            let walk = match self.walks[room].take() {
                Some(mut walk) => {
                    step = walk.step(&mut hits, &mut budget).await?;
                    reached = Some(reached.map_or(newest, |reached| reached.min(newest)));
                    budget.spend(1).await;
                    walk
                }
                None => {
                    budget.pass(OPEN_STEPS).await;
                    self.open(&self.rooms[room]).await?
                }
            };
            if step == Step::GoOn
                && let Some(next) = walk.next().await?
            {
                self.left.push((next, room));
            }
            self.walks[room] = Some(walk);
        }
        Ok(page(hits, limit, None))
    }

    /// Rooms of which more blocks are worth making.
    pub(super) fn lacking_blocks(&self) -> impl Iterator<Item = RoomId> {
        self.walks.iter().flatten().filter(|walk| walk.lacks_blocks()).map(Walk::room)
    }

    async fn open(&self, summary: &RoomSummary) -> Result<Walk<'a>, ChatError> {
        let below = self.below(summary).await?;
        Ok(Walk::new(self.store, self.query, summary.room.id, below))
    }

    /// The number below which the messages of a room are older than the page's beginning.
    async fn below(&self, summary: &RoomSummary) -> Result<u64, ChatError> {
        let (id, behind_newest) = (summary.room.id, summary.last_seq.saturating_add(1));
        let Some(before) = self.before.filter(|before| summary.updated_at >= before.at) else {
            return Ok(behind_newest);
        };
        let (room, seq) = message_of(before.id);
        let sent_before = async |time| self.store.chat_last_seq_before(id, time).await;
        let after = Timestamp::from_micros(before.at.as_micros().saturating_add(1));
        if id != room {
            // Of messages of the same instant, those of rooms with smaller ids are older.
            let time = if id < room { after } else { before.at };
            return Ok(sent_before(time).await?.saturating_add(1));
        }
        let seq = seq.min(behind_newest);
        let newest = self.store.chat_message(id, seq.saturating_sub(1)).await?;
        match newest.is_none_or(|newest| newest.created_at <= before.at) {
            true => Ok(seq),
            // The clock was set back, or the place is made up.
            false => Ok(seq.min(sent_before(after).await?.saturating_add(1))),
        }
    }
}

/// The hits that no unread message can precede: all, or those from the place on that was `reached`.
fn page(hits: Hits, limit: usize, reached: Option<Place>) -> Found<Place> {
    let in_reach = |message: &_| reached.is_none_or(|reached| Place::of(message) >= reached);
    let mut messages: Vec<_> = hits.newest_first().take_while(in_reach).collect();
    let next = match messages.len() > limit {
        true => messages.get(limit - 1).map(Place::of),
        false => reached,
    };
    messages.truncate(limit);
    Found { messages, next }
}
