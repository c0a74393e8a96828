//! Lanes: changes that run one after another, in the order in which they came.
//!
//! The messages of one task keep their order, and a busy room holds one connection instead of a row of connections
//! that wait for the room's lock. Lanes order the changes of this process only; between processes the lock does.
//! Each change in a lane was admitted, so the bound on waiting changes bounds all lanes.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An admitted change with its answer.
pub(super) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The changes that wait, by lane. A lane without an entry is idle.
#[derive(Default)]
pub(super) struct Lanes(Mutex<HashMap<u64, VecDeque<Job>>>);

impl Lanes {
    /// Queues a change; returns true when the lane was idle, and the caller has to run it.
    #[must_use]
    pub(super) fn add(&self, lane: u64, job: Job) -> bool {
        let mut lanes = self.lanes();
        let was_idle = !lanes.contains_key(&lane);
        lanes.entry(lane).or_default().push_back(job);
        was_idle
    }

    /// The next change of a lane; `None` makes it idle.
    pub(super) fn next(&self, lane: u64) -> Option<Job> {
        let mut lanes = self.lanes();
        let job = lanes.get_mut(&lane).and_then(VecDeque::pop_front);
        if job.is_none() {
            lanes.remove(&lane);
        }
        job
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<u64, VecDeque<Job>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Box::pin(async {})
    }

    #[test]
    fn only_the_first_change_of_an_idle_lane_has_to_run_it() {
        let lanes = Lanes::default();
        assert!(lanes.add(1, job()));
        assert!(!lanes.add(1, job()));
        assert!(lanes.add(2, job()));
        assert!(lanes.next(1).is_some());
        // Its last change is taken, but may still run.
        assert!(lanes.next(1).is_some());
        assert!(!lanes.add(1, job()));
        assert!(lanes.next(1).is_some());
        assert!(lanes.next(1).is_none());
        assert!(lanes.add(1, job()));
    }
}
