//! Identifiers. The store numbers users and sessions; messages are numbered here.
//!
//! A message id is the providers' de-duplication key, so it must never be reused, even after the loss of the whole
//! database. It is the current microsecond, or one more than the last id.

use std::sync::atomic::{AtomicU64, Ordering};

pub use chelseru_store::{SessionId, UserId};

use crate::Timestamp;

/// The largest id that is exact in a JavaScript number and in every provider's field. Microseconds reach it in 2255.
pub const LOCAL_ID_MAX: u64 = (1 << 53) - 1;

/// Issues message ids, each larger than all before it.
#[derive(Debug, Default)]
pub struct LocalIds {
    last: AtomicU64,
}

impl LocalIds {
    /// Ids that continue after `last`.
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
