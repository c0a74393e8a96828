//! Identifiers. Users and sessions are numbered by the store; messages are numbered here.
//!
//! A message id goes to providers as their de-duplication key, so it must never be given twice, not even after
//! the process or the whole database was lost: it is the current microsecond, moved on when that was taken.

use std::sync::atomic::{AtomicU64, Ordering};

pub use chelseru_store::{SessionId, UserId};

use crate::Timestamp;

/// Below this, an id is exact in a JavaScript number and in every provider's field. Microseconds reach it in 2255.
pub const LOCAL_ID_MAX: u64 = (1 << 53) - 1;

/// Gives out message ids: each one larger than those before it.
#[derive(Debug, Default)]
pub struct LocalIds {
    last: AtomicU64,
}

impl LocalIds {
    /// Ids that go on after `last`.
    #[must_use]
    pub fn after(last: u64) -> Self {
        LocalIds { last: AtomicU64::new(last) }
    }

    /// The next id, at least 1 and at most [`LOCAL_ID_MAX`].
    pub fn next(&self, now: Timestamp) -> u64 {
        let advance = |last: u64| Some(now.as_micros().max(last + 1).min(LOCAL_ID_MAX));
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance)
            .expect("the closure always returns a number");
        now.as_micros().max(last + 1).min(LOCAL_ID_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_even_when_the_clock_stands_or_goes_back() {
        let ids = LocalIds::default();
        assert_eq!(ids.next(Timestamp::from_micros(0)), 1);
        assert_eq!(ids.next(Timestamp::from_micros(100)), 100);
        assert_eq!(ids.next(Timestamp::from_micros(100)), 101);
        assert_eq!(ids.next(Timestamp::from_micros(50)), 102);
        assert_eq!(ids.next(Timestamp::from_micros(u64::MAX)), LOCAL_ID_MAX);
    }
}
