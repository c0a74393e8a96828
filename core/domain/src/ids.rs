//! Identifiers. The store numbers users and sessions; messages are numbered here.
//!
//! A message id is the providers' de-duplication key, so it must never be reused, even after the loss of the whole
//! database. It is the current microsecond, or one more than the last id.

use std::sync::atomic::{AtomicU64, Ordering};

pub use chelseru_store::{SessionId, UserId};

use crate::Timestamp;

/// The largest id that is exact in a JavaScript number and in every provider's field. Microseconds reach it in 2255.
pub const LOCAL_ID_MAX: u64 = (1 << 53) - 1;

/// Gateways that give ids at the same time: each one has every so many-th.
const SLOTS: u64 = chelseru_store::NODES_MAX;

/// Issues message ids, each larger than all before it.
#[derive(Debug, Default)]
pub struct LocalIds {
    last: AtomicU64,
    /// The remainder of this gateway's ids, while others give some, too.
    slot: Option<u64>,
}

impl LocalIds {
    /// Ids that continue after `last`.
    #[must_use]
    pub fn after(last: u64) -> Self {
        LocalIds { last: AtomicU64::new(last), slot: None }
    }

    /// The same for one of several gateways: no two with different slots give the same id.
    #[must_use]
    pub fn in_slot(self, slot: u64) -> Self {
        LocalIds { slot: Some(slot % SLOTS), ..self }
    }

    /// The next id, at least 1 and at most [`LOCAL_ID_MAX`].
    pub fn next(&self, now: Timestamp) -> u64 {
        let advance = |last: u64| Some(self.after_last(last, now));
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance)
            .expect("the closure always returns a number");
        self.after_last(last, now)
    }

    fn after_last(&self, last: u64, now: Timestamp) -> u64 {
        let least = now.as_micros().max(last + 1);
        let id = match self.slot {
            None => least,
            Some(slot) => least.saturating_add((slot + SLOTS - least % SLOTS) % SLOTS),
        };
        id.min(LOCAL_ID_MAX)
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

    #[test]
    fn gateways_of_different_slots_never_give_the_same_id() {
        let mut seen = std::collections::HashSet::new();
        for slot in [0, 1, 5, SLOTS - 1] {
            let ids = LocalIds::after(999).in_slot(slot);
            let mut last = 0;
            for micros in (0..500).map(|n| 1000 + n / 7 * 13) {
                let id = ids.next(Timestamp::from_micros(micros));
                assert!(id > last && id >= micros && id % SLOTS == slot, "{id}");
                assert!(seen.insert(id), "{id} twice");
                last = id;
            }
        }
    }
}
