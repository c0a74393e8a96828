//! What one user may send in a minute and in a day, over all sockets and requests, and how many users one may reach.
//!
//! Without it an account with 20 sockets stores tens of megabytes a second and fills the disk. Messages, edits and
//! signals count alike, and so does what a room refuses afterwards. A change of a room or of its members counts as a
//! message, because every watcher is sent a frame of it. Such changes, rooms, requests to strangers and looked up
//! numbers count only when they come about. The counts are in memory ([`crate::rate`]).

use std::sync::Arc;

use super::{ChatError, ChatService};
use crate::ids::UserId;
use crate::rate::{Board, Exhausted, Left, Rate, Rates};

/// Which of a user's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Count {
    MessagesOfMinute,
    BytesOfMinute,
    MessagesOfDay,
    BytesOfDay,
    RoomsOfHour,
    RequestsOfHour,
    LookupsOfDay,
    SearchesOfMinute,
}

/// The counts of all users.
#[derive(Debug, Default)]
pub(super) struct Allowance(Rates<(UserId, Count)>);

impl ChatService {
    /// Lets the other gateways hear what is counted here.
    pub fn share_counts(&self, board: &Arc<Board>) {
        board.join("chat", &self.allowance.0);
    }

    /// Counts something that a user sends.
    ///
    /// # Errors
    ///
    /// [`ChatError::Exhausted`]; nothing is counted then.
    pub fn charge(&self, user: UserId, bytes: usize) -> Result<(), ChatError> {
        let (rules, now) = (self.rules(), self.clock.now());
        let rates = [
            Rate::per_minute("messages-minute", rules.messages_per_minute_max),
            Rate::per_minute("bytes-minute", rules.bytes_per_minute_max),
            Rate::per_day("messages-day", rules.messages_per_day_max),
            Rate::per_day("bytes-day", rules.bytes_per_day_max),
        ];
        let counts = counts_of_message(bytes);
        for (at, ((count, amount), rate)) in counts.into_iter().zip(rates).enumerate() {
            if let Err(exhausted) = self.allowance.0.take(&(user, count), amount, rate, now) {
                self.allowance.give_back(user, &counts[..at]);
                return Err(exhausted.into());
            }
        }
        Ok(())
    }

    /// [`ChatService::charge`] for something that may not come about: dropping the result gives it back.
    pub(crate) fn charge_for(&self, user: UserId, bytes: usize) -> Result<Charged, ChatError> {
        self.charge(user, bytes)?;
        Ok(Charged { allowance: Arc::clone(&self.allowance), user, bytes: Some(bytes) })
    }
}

/// What something of so many bytes counts against.
fn counts_of_message(bytes: usize) -> [(Count, u64); 4] {
    let bytes = bytes as u64;
    [
        (Count::MessagesOfMinute, 1),
        (Count::BytesOfMinute, bytes),
        (Count::MessagesOfDay, 1),
        (Count::BytesOfDay, bytes),
    ]
}

impl Allowance {
    fn give_back(&self, user: UserId, counts: &[(Count, u64)]) {
        for (count, amount) in counts {
            self.0.give_back(&(user, *count), *amount);
        }
    }
}

/// Something that counts as a message of its user, unless it is dropped before it came about.
#[must_use = "it is given back when it is dropped"]
pub struct Charged {
    allowance: Arc<Allowance>,
    user: UserId,
    /// `None` when it came about.
    bytes: Option<usize>,
}

impl Charged {
    /// Keeps it counted.
    pub fn came_about(mut self) {
        self.bytes = None;
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes {
            self.allowance.give_back(self.user, &counts_of_message(bytes));
        }
    }
}

/// What a user may open now, counted already. What is not used is given back, also when the caller goes away.
pub(super) struct Reserved {
    allowance: Arc<Allowance>,
    user: UserId,
    rooms: u64,
    pub(super) requests: u64,
    /// When more requests are possible.
    pub(super) renewed: Exhausted,
}

impl Reserved {
    /// Keeps what came about counted.
    pub(super) fn used(mut self, rooms: u64, requests: u64) {
        self.rooms = self.rooms.saturating_sub(rooms);
        self.requests = self.requests.saturating_sub(requests);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let Reserved { allowance, user, rooms, requests, .. } = self;
        allowance.0.give_back(&(*user, Count::RoomsOfHour), *rooms);
        allowance.0.give_back(&(*user, Count::RequestsOfHour), *requests);
    }
}

impl ChatService {
    /// Reserves rooms, and requests as far as they are left.
    pub(super) fn reserve(&self, user: UserId, rooms: u64, requests: u64) -> Result<Reserved, ChatError> {
        let (rules, now) = (self.rules(), self.clock.now());
        let rooms_rate = Rate::per_hour("rooms", rules.rooms_per_hour_max);
        let requests_rate = Rate::per_hour("requests", rules.requests_per_hour_max);
        self.allowance.0.take(&(user, Count::RoomsOfHour), rooms, rooms_rate, now)?;
        let subject = (user, Count::RequestsOfHour);
        let (requests, renewed) = self.allowance.0.take_up_to(&subject, requests, requests_rate, now);
        Ok(Reserved { allowance: Arc::clone(&self.allowance), user, rooms, requests, renewed })
    }

    /// Counts names or numbers that a user looks up.
    pub(super) fn charge_lookups(&self, user: UserId, count: u64) -> Result<(), ChatError> {
        Ok(self.allowance.0.take(&(user, Count::LookupsOfDay), count, self.lookups(), self.clock.now())?)
    }
}

impl ChatService {
    /// Counts a search.
    pub(super) fn charge_search(&self, user: UserId) -> Result<(), ChatError> {
        Ok(self.allowance.0.take(&(user, Count::SearchesOfMinute), 1, self.searches(), self.clock.now())?)
    }

    /// What is left of a user's messages in this minute.
    #[must_use]
    pub fn messages_left(&self, user: UserId) -> Left {
        let rate = Rate::per_minute("messages-minute", self.rules().messages_per_minute_max);
        self.allowance.0.left(&(user, Count::MessagesOfMinute), rate, self.clock.now())
    }

    /// What is left of a user's look-ups on this day.
    #[must_use]
    pub fn lookups_left(&self, user: UserId) -> Left {
        self.allowance.0.left(&(user, Count::LookupsOfDay), self.lookups(), self.clock.now())
    }

    /// What is left of a user's searches in this minute.
    #[must_use]
    pub fn searches_left(&self, user: UserId) -> Left {
        self.allowance.0.left(&(user, Count::SearchesOfMinute), self.searches(), self.clock.now())
    }

    fn lookups(&self) -> Rate {
        Rate::per_day("lookups", self.rules().lookups_per_day_max)
    }

    fn searches(&self) -> Rate {
        Rate::per_minute("searches", self.rules().searches_per_minute_max)
    }
}

impl From<Exhausted> for ChatError {
    fn from(exhausted: Exhausted) -> ChatError {
        ChatError::Exhausted(exhausted)
    }
}
