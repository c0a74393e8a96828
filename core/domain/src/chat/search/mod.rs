//! Searching messages: in one room, or over all rooms of a user, newest first.
//!
//! Words are compared in a folded form ([`words`]). Blocks of words ([`block`]), which [`index`] makes in the
//! background, say which messages of a long room are worth reading; what no block covers is read message by message
//! ([`walk`]). So a search is right whatever is indexed, and sending a message costs nothing. Each message found is
//! read and compared before it is shown: an edit, a deletion or a stale block shows nothing wrong. A search over all
//! rooms goes back in time in all of them together ([`merge`]): a page ends at an instant, and the next one goes on.
//!
//! Invariants: only messages of rooms that the user may see, as of the search; results of one page, and of the pages
//! behind it, are in order without gap; the page behind a page with `next` begins at an older message. The times of a
//! room's messages do not go back: after a clock was set back, a search over all rooms may miss what was sent until
//! it had caught up. Bounds: [`ChatRules::search_steps_max`](super::ChatRules) reads in one search, or
//! [`ROOM_STEPS`](merge::ROOM_STEPS) for each room if that is more, [`AT_ONCE`](wanted::AT_ONCE) searches of the
//! gateway at a time, and `searches_per_minute_max` of a user.

mod block;
mod index;
mod merge;
mod walk;
pub(super) mod wanted;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use chelseru_store::chat::RoomId;

pub use self::index::Indexer;
use self::merge::Merge;
use self::walk::{Step, Walk};
pub use self::words::{BadQuery, QUERY_CHARS_MAX, QUERY_WORDS_MAX, Query};
use super::{ChatError, ChatService, Message, message_id, message_of};
use crate::Timestamp;
use crate::ids::UserId;

/// How long a search waits for others to end; it is refused then.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Steps after which other tasks run.
const YIELD_STEPS: usize = 500;

/// A page of found messages, newest first.
#[derive(Debug)]
pub struct Found<Next> {
    pub messages: Vec<Message>,
    /// Where the next page begins. A page may be short, or empty, although there is one.
    pub next: Option<Next>,
}

/// Where a message stands among those of all rooms: by time, then by id ([`message_id`]). Both outlive the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub at: Timestamp,
    pub id: u64,
}

impl Place {
    fn of(message: &Message) -> Place {
        Place { at: message.created_at, id: message_id(message.room, message.seq) }
    }
}

/// The newest messages found so far.
struct Hits {
    found: BTreeMap<Place, Message>,
    wanted: usize,
    below: Option<Place>,
    /// Ordered by time; otherwise, in one room, by number.
    by_time: bool,
}

/// What a search may still read.
struct Budget {
    left: usize,
    since_yield: usize,
}

impl ChatService {
    /// The messages of a room that fit a query, below the message `before`, at most `limit`. The next page begins
    /// below the message `next`.
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
    ) -> Result<Found<u64>, ChatError> {
        self.charge_search(user)?;
        let summary = self.room(room, user).await?;
        let below = match before.map(message_of) {
            None => u64::MAX,
            Some((of, seq)) if of == room => seq,
            // A message of another room: there is nothing below it here.
            Some(_) => 0,
        };
        let _place = self.search_place().await?;
        let mut budget = Budget::new(self.rules().search_steps_max);
        let mut hits = Hits::by_number(limit);
        let mut walk = Walk::new(&self.store, query, room, below.min(summary.last_seq.saturating_add(1)));
        while walk.step(&mut hits, &mut budget).await? == Step::GoOn && !budget.is_spent() {}
        if walk.lacks_blocks() {
            self.wanted.note(room);
        }
        let next = (walk.at() > 1).then(|| message_id(room, walk.at()));
        Ok(Found { messages: hits.newest_first().collect(), next })
    }

    /// The messages of a user's rooms that fit a query, older than the place `before`, at most `limit`. Rooms that
    /// wait for the user's acceptance, and those that the user hid, are left out. What happens to messages and rooms
    /// between two pages, even to those that `next` is about, does not end the search.
    ///
    /// # Errors
    ///
    /// [`ChatError::Exhausted`], [`ChatError::Busy`], [`ChatError::Store`].
    pub async fn search_rooms(
        &self,
        user: UserId,
        query: &Query,
        before: Option<Place>,
        limit: usize,
    ) -> Result<Found<Place>, ChatError> {
        self.charge_search(user)?;
        let rooms = self.rooms(user).await?;
        let _place = self.search_place().await?;
        let steps = self.rules().search_steps_max.max(merge::ROOM_STEPS * rooms.len());
        let mut merge = Merge::new(&self.store, query, &rooms, before);
        let found = merge.page(limit, Budget::new(steps)).await?;
        merge.lacking_blocks().for_each(|room| self.wanted.note(room));
        Ok(found)
    }

    async fn search_place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, ChatError> {
        let place = tokio::time::timeout(WAIT_MAX, self.searches.acquire()).await;
        place.map_err(|_| ChatError::Busy)?.map_err(|_| ChatError::Busy)
    }
}

impl Hits {
    /// The newest of one room.
    fn by_number(wanted: usize) -> Hits {
        Hits { found: BTreeMap::new(), wanted, below: None, by_time: false }
    }

    /// The newest of several rooms, older than the place `below`.
    fn by_time(wanted: usize, below: Option<Place>) -> Hits {
        Hits { found: BTreeMap::new(), wanted, below, by_time: true }
    }

    /// Takes a message that fits. Enough, when older ones of its room are not wanted.
    fn offer(&mut self, query: &Query, message: Message) -> Step {
        let mut place = Place::of(&message);
        if !self.by_time {
            place.at = Timestamp::default();
        }
        let is_wanted = self.oldest_wanted().is_none_or(|oldest| place > oldest);
        if is_wanted && self.below.is_none_or(|below| place < below) && query.fits(&message.body.text) {
            self.found.insert(place, message);
            if self.found.len() > self.wanted {
                self.found.pop_first();
            }
        }
        match self.oldest_wanted().is_none_or(|oldest| place > oldest) {
            true => Step::GoOn,
            false => Step::Enough,
        }
    }

    /// The oldest hit, once there are as many as wanted: what is older is not.
    fn oldest_wanted(&self) -> Option<Place> {
        let is_full = self.found.len() >= self.wanted;
        self.found.first_key_value().filter(|_| is_full).map(|(place, _)| *place)
    }

    fn newest_first(self) -> impl Iterator<Item = Message> {
        self.found.into_values().rev()
    }
}

impl Budget {
    fn new(steps: usize) -> Budget {
        Budget { left: steps, since_yield: 0 }
    }

    fn is_spent(&self) -> bool {
        self.left == 0
    }

    async fn spend(&mut self, steps: usize) {
        self.left = self.left.saturating_sub(steps);
        self.pass(steps).await;
    }

    /// Lets other tasks run from time to time.
    async fn pass(&mut self, steps: usize) {
        self.since_yield += steps;
        if self.since_yield >= YIELD_STEPS {
            self.since_yield = 0;
            tokio::task::yield_now().await;
        }
    }
}
