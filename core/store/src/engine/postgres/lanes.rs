//! Lanes: changes that run one after another, in the order in which they came.
//!
//! The messages of one task keep their order, and a busy room holds one connection instead of a row of connections
//! that wait for the room's lock. Lanes order the changes of this process only; between processes the lock does.
//! Each change in a lane was admitted, so the bound on waiting changes bounds all lanes. Not here: running them, see
//! [`change`](super::change).

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The changes that wait, by lane. A lane without an entry is idle.
pub(super) struct Lanes<J>(Mutex<HashMap<u64, VecDeque<J>>>);

impl<J> Default for Lanes<J> {
    fn default() -> Self {
        Lanes(Mutex::default())
    }
}

impl<J> Lanes<J> {
    /// Queues a change; returns true when the lane was idle, and the caller has to run it.
    #[must_use]
    pub(super) fn add(&self, lane: u64, job: J) -> bool {
        let mut lanes = self.lanes();
        let was_idle = !lanes.contains_key(&lane);
        lanes.entry(lane).or_default().push_back(job);
        was_idle
    }

    /// The next change of a lane; `None` makes it idle.
    pub(super) fn next(&self, lane: u64) -> Option<J> {
        let mut lanes = self.lanes();
        let job = lanes.get_mut(&lane).and_then(VecDeque::pop_front);
        if job.is_none() {
            lanes.remove(&lane);
        }
        job
    }

    /// All changes that wait in a lane. It stays busy.
    pub(super) fn take(&self, lane: u64) -> VecDeque<J> {
        self.lanes().get_mut(&lane).map(std::mem::take).unwrap_or_default()
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<u64, VecDeque<J>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_change_of_an_idle_lane_has_to_run_it() {
        let lanes = Lanes::default();
        assert!(lanes.add(1, 'a'));
        assert!(!lanes.add(1, 'b'));
        assert!(lanes.add(2, 'c'));
        assert_eq!(lanes.next(1), Some('a'));
        // Its last change is taken, but may still run.
        assert_eq!(lanes.next(1), Some('b'));
        assert!(!lanes.add(1, 'd'));
        assert!(!lanes.add(1, 'e'));
        assert_eq!(lanes.take(1), ['d', 'e']);
        assert!(!lanes.add(1, 'f'));
        assert_eq!(lanes.next(1), Some('f'));
        assert_eq!(lanes.next(1), None);
        assert!(lanes.take(1).is_empty());
        assert!(lanes.add(1, 'g'));
        assert_eq!(lanes.next(2), Some('c'));
    }
}
