//! What one user may send in a minute and in a day, over all sockets and requests.
//!
//! Without it an account with 20 sockets stores tens of megabytes a second and fills the disk. Messages, edits and
//! signals count alike, and so does what a room refuses afterwards. The counts are in memory ([`crate::rate`]).

use super::{ChatError, ChatService};
use crate::ids::UserId;
use crate::rate::{Exhausted, Rate, Rates};

/// Which of a user's four counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Count {
    MessagesOfMinute,
    BytesOfMinute,
    MessagesOfDay,
    BytesOfDay,
}

/// The counts of all users.
#[derive(Debug, Default)]
pub(super) struct Allowance(Rates<(UserId, Count)>);

impl ChatService {
    /// Counts something that a user sends.
    ///
    /// # Errors
    ///
    /// [`ChatError::Exhausted`]; nothing is counted then.
    pub fn charge(&self, user: UserId, bytes: usize) -> Result<(), ChatError> {
        let (rules, now, bytes) = (self.rules(), self.clock.now(), bytes as u64);
        let counts = [
            (Count::MessagesOfMinute, 1, Rate::per_minute(rules.messages_per_minute_max)),
            (Count::BytesOfMinute, bytes, Rate::per_minute(rules.bytes_per_minute_max)),
            (Count::MessagesOfDay, 1, Rate::per_day(rules.messages_per_day_max)),
            (Count::BytesOfDay, bytes, Rate::per_day(rules.bytes_per_day_max)),
        ];
        for (at, (count, amount, rate)) in counts.iter().enumerate() {
            if let Err(exhausted) = self.allowance.0.take(&(user, *count), *amount, *rate, now) {
                for (count, amount, _) in &counts[..at] {
                    self.allowance.0.give_back(&(user, *count), *amount);
                }
                return Err(exhausted.into());
            }
        }
        Ok(())
    }
}

impl From<Exhausted> for ChatError {
    fn from(exhausted: Exhausted) -> ChatError {
        ChatError::Exhausted(exhausted)
    }
}
