//! How much of something one subject may cause in a time: messages of a user, accounts from an address.
//!
//! A window begins with the first use and ends after its span; so at most twice the allowance falls into any one span.
//! Counts are in memory and are lost at a restart. Invariant: at most [`ENTRIES_MAX`] subjects are counted; past it,
//! windows that ended are removed, and if none did, some that run, so that no stranger fills the counts against others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Timestamp;

/// Subjects that are counted at once, each with 32 bytes and its key.
const ENTRIES_MAX: usize = 200_000;

/// What is removed at once when all windows run: a sixteenth.
const REMOVED: usize = ENTRIES_MAX / 16;

/// An allowance: so much in such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Of what, for clients.
    pub name: &'static str,
    pub max: u64,
    pub span: Duration,
}

impl Rate {
    pub const fn per_minute(name: &'static str, max: u64) -> Rate {
        Rate { name, max, span: Duration::from_secs(60) }
    }

    pub const fn per_hour(name: &'static str, max: u64) -> Rate {
        Rate { name, max, span: Duration::from_secs(60 * 60) }
    }

    pub const fn per_day(name: &'static str, max: u64) -> Rate {
        Rate { name, max, span: Duration::from_secs(24 * 60 * 60) }
    }
}

/// An allowance that is used up; it is renewed after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    pub rate: Rate,
    pub retry_after: Duration,
}

/// What is left of an allowance, and when it is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub rate: Rate,
    pub amount: u64,
    pub renewed_in: Duration,
}

/// Counts by subject.
#[derive(Debug)]
pub struct Rates<K> {
    windows: Mutex<HashMap<K, Window>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    /// Seconds since 1970.
    ends: u64,
    used: u64,
}

impl Window {
    fn renewed_in(&self, now: u64) -> Duration {
        Duration::from_secs(self.ends.saturating_sub(now).max(1))
    }
}

impl<K> Default for Rates<K> {
    fn default() -> Rates<K> {
        Rates { windows: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone> Rates<K> {
    /// Counts an amount.
    ///
    /// # Errors
    ///
    /// [`Exhausted`]; nothing is counted then.
    pub fn take(&self, subject: &K, amount: u64, rate: Rate, now: Timestamp) -> Result<(), Exhausted> {
        let now = now.as_secs();
        let mut windows = self.lock();
        let window = running(&mut windows, subject, rate, now);
        match window.used.saturating_add(amount) {
            used if used > rate.max => Err(Exhausted { rate, retry_after: window.renewed_in(now) }),
            used => {
                window.used = used;
                Ok(())
            }
        }
    }

    /// Counts as much of an amount as is left, and says when more is.
    pub fn take_up_to(&self, subject: &K, amount: u64, rate: Rate, now: Timestamp) -> (u64, Exhausted) {
        let now = now.as_secs();
        let mut windows = self.lock();
        let window = running(&mut windows, subject, rate, now);
        let taken = amount.min(rate.max.saturating_sub(window.used));
        window.used = window.used.saturating_add(taken);
        (taken, Exhausted { rate, retry_after: window.renewed_in(now) })
    }

    /// What is left now.
    pub fn left(&self, subject: &K, rate: Rate, now: Timestamp) -> Left {
        let now = now.as_secs();
        let mut windows = self.lock();
        let window = running(&mut windows, subject, rate, now);
        Left { rate, amount: rate.max.saturating_sub(window.used), renewed_in: window.renewed_in(now) }
    }

    /// Gives back what was counted for something that did not happen.
    pub fn give_back(&self, subject: &K, amount: u64) {
        if let Some(window) = self.lock().get_mut(subject) {
            window.used = window.used.saturating_sub(amount);
        }
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The window of a subject that runs now.
fn running<'a, K: Eq + Hash + Clone>(
    windows: &'a mut HashMap<K, Window>,
    subject: &K,
    rate: Rate,
    now: u64,
) -> &'a mut Window {
    let fresh = Window { ends: now.saturating_add(rate.span.as_secs()), used: 0 };
    if !windows.contains_key(subject) {
        make_room(windows, now);
    }
    let window = windows.entry(subject.clone()).or_insert(fresh);
    // A clock that went back must not make a window endless.
    if now >= window.ends || window.ends > fresh.ends {
        *window = fresh;
    }
    window
}

fn make_room<K: Eq + Hash + Clone>(windows: &mut HashMap<K, Window>, now: u64) {
    if windows.len() < ENTRIES_MAX {
        return;
    }
    windows.retain(|_, window| now < window.ends);
    if windows.len() >= ENTRIES_MAX {
        let some: Vec<K> = windows.keys().take(REMOVED).cloned().collect();
        for subject in some {
            windows.remove(&subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate::per_minute("messages", 10);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros((1_000_000 + seconds) * 1_000_000)
    }

    #[test]
    fn an_allowance_is_used_up_and_renewed_when_its_window_ends() {
        let rates = Rates::default();
        assert_eq!(rates.take(&"ali", 9, RATE, at(0)), Ok(()));
        let wait = |seconds| Err(Exhausted { rate: RATE, retry_after: Duration::from_secs(seconds) });
        assert_eq!(rates.take(&"ali", 2, RATE, at(10)), wait(50));
        assert_eq!(rates.take(&"ali", 1, RATE, at(20)), Ok(()), "what was refused is not counted");
        assert_eq!(rates.take(&"ali", 1, RATE, at(59)), wait(1));
        assert_eq!(rates.take(&"sara", 10, RATE, at(59)), Ok(()), "each has its own");
        assert_eq!(rates.take(&"ali", 10, RATE, at(60)), Ok(()));
        assert_eq!(
            rates.take(&"ali", 11, Rate::per_minute("messages", 10), at(200)),
            wait(60),
            "never so much at once"
        );
    }

    #[test]
    fn as_much_as_is_left_is_taken() {
        let rates = Rates::default();
        let wait = |seconds| Exhausted { rate: RATE, retry_after: Duration::from_secs(seconds) };
        assert_eq!(rates.take_up_to(&"ali", 7, RATE, at(0)), (7, wait(60)));
        assert_eq!(rates.take_up_to(&"ali", 7, RATE, at(10)), (3, wait(50)));
        assert_eq!(rates.take_up_to(&"ali", 7, RATE, at(10)), (0, wait(50)));
        rates.give_back(&"ali", 2);
        assert_eq!(rates.take_up_to(&"ali", 7, RATE, at(10)), (2, wait(50)));
        assert_eq!(rates.take_up_to(&"ali", 7, RATE, at(60)), (7, wait(60)));
    }

    #[test]
    fn what_is_left_is_told() {
        let rates = Rates::default();
        let left = |at| {
            let left = rates.left(&"ali", RATE, at);
            (left.amount, left.renewed_in.as_secs())
        };
        assert_eq!(left(at(0)), (10, 60));
        assert_eq!(rates.take(&"ali", 7, RATE, at(5)), Ok(()));
        assert_eq!(left(at(20)), (3, 40));
        assert_eq!(left(at(60)), (10, 60));
    }

    #[test]
    fn what_did_not_happen_is_given_back() {
        let rates = Rates::default();
        assert_eq!(rates.take(&1, 10, RATE, at(0)), Ok(()));
        rates.give_back(&1, 4);
        assert_eq!(rates.take(&1, 4, RATE, at(1)), Ok(()));
        assert!(rates.take(&1, 1, RATE, at(1)).is_err());
        rates.give_back(&2, 1);
    }

    #[test]
    fn a_clock_that_goes_back_begins_a_window() {
        let rates = Rates::default();
        assert_eq!(rates.take(&1, 10, RATE, at(100_000)), Ok(()));
        assert_eq!(rates.take(&1, 10, RATE, at(0)), Ok(()));
        assert!(rates.take(&1, 1, RATE, at(1)).is_err());
    }

    #[test]
    fn counts_are_bounded_and_a_full_map_refuses_nobody() {
        let rates = Rates::default();
        for subject in 0..ENTRIES_MAX {
            assert_eq!(rates.take(&subject, 1, RATE, at(0)), Ok(()));
        }
        assert_eq!(rates.take(&ENTRIES_MAX, 1, RATE, at(1)), Ok(()));
        assert!(rates.lock().len() <= ENTRIES_MAX);
        assert_eq!(rates.take(&(ENTRIES_MAX + 1), 1, RATE, at(100)), Ok(()));
    }
}
