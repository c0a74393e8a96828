//! How much of something one subject may cause in a time: messages of a user, accounts from an address.
//!
//! A window begins with the first use and ends after its span; so at most twice the allowance falls into any one span.
//! Counts are in memory and are lost at a restart. Gateways that share a store tell each other what they counted
//! ([`Board`]), a moment later; while they do not hear each other, each has the whole allowance. Invariant: at
//! most [`ENTRIES_MAX`] subjects are counted; past it, windows that ended are removed, and if none did, some that run,
//! so that no stranger fills the counts against others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Subjects that are counted at once, each with 32 bytes.
const ENTRIES_MAX: usize = 200_000;

/// What is removed at once when all windows run: a sixteenth.
const REMOVED: usize = ENTRIES_MAX / 16;

/// How far the clocks of two gateways may differ, in seconds.
const SKEW_SECS_MAX: u64 = 5;

/// Subjects that wait to be told; of others nobody hears.
const UNTOLD_MAX: usize = 20_000;

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
    counts: Arc<Counts>,
    subject: PhantomData<fn(K)>,
}

#[derive(Debug, Default)]
struct Counts {
    /// By the subject's hash, which is the same at every gateway of one version.
    windows: Mutex<HashMap<u64, Window>>,
    /// Whom to tell, and under which name.
    board: OnceLock<(&'static str, Arc<Board>)>,
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
        Rates { counts: Arc::default(), subject: PhantomData }
    }
}

impl<K: Hash> Rates<K> {
    /// Counts an amount.
    ///
    /// # Errors
    ///
    /// [`Exhausted`]; nothing is counted then.
    pub fn take(&self, subject: &K, amount: u64, rate: Rate, now: Timestamp) -> Result<(), Exhausted> {
        let now = now.as_secs();
        let mut windows = self.counts.lock();
        let window = running(&mut windows, hash(subject), rate, now);
        match window.used.saturating_add(amount) {
            used if used > rate.max => Err(Exhausted { rate, retry_after: window.renewed_in(now) }),
            used => {
                window.used = used;
                let ends = window.ends;
                drop(windows);
                self.counts.tell(hash(subject), signed(amount), ends);
                Ok(())
            }
        }
    }

    /// Counts as much of an amount as is left, and says when more is.
    pub fn take_up_to(&self, subject: &K, amount: u64, rate: Rate, now: Timestamp) -> (u64, Exhausted) {
        let now = now.as_secs();
        let mut windows = self.counts.lock();
        let window = running(&mut windows, hash(subject), rate, now);
        let taken = amount.min(rate.max.saturating_sub(window.used));
        window.used = window.used.saturating_add(taken);
        let (ends, retry_after) = (window.ends, window.renewed_in(now));
        drop(windows);
        self.counts.tell(hash(subject), signed(taken), ends);
        (taken, Exhausted { rate, retry_after })
    }

    /// What is left now.
    pub fn left(&self, subject: &K, rate: Rate, now: Timestamp) -> Left {
        let now = now.as_secs();
        let mut windows = self.counts.lock();
        let window = running(&mut windows, hash(subject), rate, now);
        Left { rate, amount: rate.max.saturating_sub(window.used), renewed_in: window.renewed_in(now) }
    }

    /// Gives back what was counted for something that did not happen.
    pub fn give_back(&self, subject: &K, amount: u64) {
        let mut windows = self.counts.lock();
        let Some(window) = windows.get_mut(&hash(subject)) else { return };
        window.used = window.used.saturating_sub(amount);
        let ends = window.ends;
        drop(windows);
        self.counts.tell(hash(subject), -signed(amount), ends);
    }
}

impl Counts {
    fn tell(&self, subject: u64, amount: i64, ends: u64) {
        if let Some((name, board)) = self.board.get() {
            board.note(name, subject, amount, ends);
        }
    }

    fn heard(&self, counted: &Counted, now: u64) {
        let mut windows = self.lock();
        if !windows.contains_key(&counted.subject) {
            make_room(&mut windows, now);
        }
        let window = windows.entry(counted.subject).or_insert(Window { ends: counted.ends, used: 0 });
        if now >= window.ends {
            *window = Window { ends: counted.ends, used: 0 };
        }
        window.used = window.used.saturating_add_signed(counted.amount);
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(subject: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    hasher.finish()
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// The window of a subject that runs now.
fn running(windows: &mut HashMap<u64, Window>, subject: u64, rate: Rate, now: u64) -> &mut Window {
    let fresh = Window { ends: now.saturating_add(rate.span.as_secs()), used: 0 };
    if !windows.contains_key(&subject) {
        make_room(windows, now);
    }
    let window = windows.entry(subject).or_insert(fresh);
    // A clock that went back must not make a window endless.
    if now >= window.ends || window.ends > fresh.ends.saturating_add(SKEW_SECS_MAX) {
        *window = fresh;
    }
    window
}

fn make_room(windows: &mut HashMap<u64, Window>, now: u64) {
    if windows.len() < ENTRIES_MAX {
        return;
    }
    windows.retain(|_, window| now < window.ends);
    if windows.len() >= ENTRIES_MAX {
        let some: Vec<u64> = windows.keys().take(REMOVED).copied().collect();
        for subject in some {
            windows.remove(&subject);
        }
    }
}

/// Something that another gateway counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Name of the counts; see [`Board::join`].
    pub of: String,
    /// Hash of the subject.
    pub subject: u64,
    /// Negative when it was given back.
    pub amount: i64,
    /// When its window ends, in seconds since 1970.
    pub ends: u64,
}

/// By name and subject: the amount, and when its window ends.
type Untold = HashMap<(&'static str, u64), (i64, u64)>;

/// What a gateway counted and did not tell the others yet, and the counts that hear what they tell.
#[derive(Debug, Default)]
pub struct Board {
    members: Mutex<HashMap<&'static str, Arc<Counts>>>,
    untold: Mutex<Untold>,
}

impl Board {
    /// Lets the other gateways hear of counts, and these of theirs, under a name that is the same at all of them.
    /// Only the first call for some counts does anything.
    pub fn join<K>(self: &Arc<Board>, name: &'static str, rates: &Rates<K>) {
        if rates.counts.board.set((name, Arc::clone(self))).is_ok() {
            lock(&self.members).insert(name, Arc::clone(&rates.counts));
        }
    }

    fn note(&self, name: &'static str, subject: u64, amount: i64, ends: u64) {
        let mut untold = lock(&self.untold);
        let full = untold.len() >= UNTOLD_MAX;
        match untold.entry((name, subject)) {
            Entry::Vacant(_) if full => {}
            entry => {
                let sum = entry.or_default();
                *sum = (sum.0.saturating_add(amount), sum.1.max(ends));
            }
        }
    }

    /// What was counted since the last call.
    pub fn take(&self) -> Vec<Counted> {
        let untold = std::mem::take(&mut *lock(&self.untold));
        let counted = |((of, subject), (amount, ends)): ((&str, u64), _)| Counted {
            of: of.to_owned(),
            subject,
            amount,
            ends,
        };
        untold.into_iter().filter(|(_, (amount, _))| *amount != 0).map(counted).collect()
    }

    /// Counts what another gateway counted.
    pub fn heard(&self, counted: &[Counted], now: Timestamp) {
        for one in counted {
            let member = lock(&self.members).get(one.of.as_str()).cloned();
            if let Some(counts) = member {
                counts.heard(one, now.as_secs());
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counts of two gateways, and their boards.
    fn gateways() -> [(Rates<&'static str>, Arc<Board>); 2] {
        [(); 2].map(|()| {
            let (rates, board) = (Rates::default(), Arc::new(Board::default()));
            board.join("messages", &rates);
            (rates, board)
        })
    }

    #[test]
    fn what_one_gateway_counts_is_used_up_at_the_other() {
        let [(one, here), (other, there)] = gateways();
        assert_eq!(one.take(&"ali", 7, RATE, at(0)), Ok(()));
        assert_eq!(one.take_up_to(&"ali", 9, RATE, at(1)).0, 3);
        one.give_back(&"ali", 4);
        let told = here.take();
        assert_eq!(told.len(), 1, "one sum for each subject: {told:?}");
        there.heard(&told, at(2));
        assert_eq!(other.left(&"ali", RATE, at(2)).amount, 4);
        assert_eq!(other.left(&"sara", RATE, at(2)).amount, 10);
        assert!(other.take(&"ali", 5, RATE, at(2)).is_err());
        assert_eq!(other.take(&"ali", 4, RATE, at(2)), Ok(()));
        // What was heard is not told again.
        let back = there.take();
        assert_eq!(back.iter().map(|one| one.amount).collect::<Vec<_>>(), [4]);
        here.heard(&back, at(3));
        assert!(one.take(&"ali", 1, RATE, at(3)).is_err());
        // The window ends at both together.
        assert_eq!(other.left(&"ali", RATE, at(60)).amount, 10);
        assert!(here.take().is_empty());
    }

    #[test]
    fn what_is_heard_late_begins_no_endless_window_and_refuses_nobody_for_long() {
        let [(_, here), (other, there)] = gateways();
        here.note("messages", hash(&"ali"), 1000, u64::MAX);
        here.note("unknown", 1, 1, 1);
        there.heard(&here.take(), at(0));
        assert_eq!(
            other.left(&"ali", RATE, at(0)).amount,
            10,
            "a window longer than the span is not believed"
        );
        there.heard(&[Counted { of: "messages".into(), subject: hash(&"ali"), amount: -5, ends: 0 }], at(1));
        assert_eq!(other.left(&"ali", RATE, at(1)).amount, 10);
    }

    #[test]
    fn what_waits_to_be_told_is_bounded() {
        let board = Board::default();
        (0..UNTOLD_MAX as u64 + 5).for_each(|subject| board.note("messages", subject, 1, 1));
        board.note("messages", 1, 1, 1);
        let told = board.take();
        assert_eq!(told.len(), UNTOLD_MAX);
        assert!(told.iter().any(|one| one.subject == 1 && one.amount == 2));
    }

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
        assert!(rates.counts.lock().len() <= ENTRIES_MAX);
        assert_eq!(rates.take(&(ENTRIES_MAX + 1), 1, RATE, at(100)), Ok(()));
    }
}
