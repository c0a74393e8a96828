//! Places among concurrent uploads, and who gives way when all are taken.
//!
//! A user has a limit of own. Still, a few accounts that send slowly could hold every place. So while all are taken, a
//! user with fewer uploads displaces the slowest one of whoever has most, and a user without any displaces an upload
//! that is slow. An upload of less than `upload_grace_seconds` stays. A displaced resumable upload goes on later.
//!
//! Invariants: there are never more places than allowed; a dropped or displaced place is free at once.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chelseru_domain::ids::UserId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// An upload below this rate gives way to a user without one. Eight times the least rate: the slowest phones that
/// upload pictures in practice are above it.
const SLOW_BYTES_PER_SECOND: u64 = 16 * 1024;

/// The gateway's places (false) or the user's (true) are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoPlace {
    pub(super) own: bool,
}

/// The places that are taken.
#[derive(Default)]
pub(super) struct Slots {
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    places: HashMap<u64, Place>,
}

struct Place {
    user: UserId,
    since: Instant,
    progress: Progress,
}

/// How far an upload is, and whether it has to give way.
#[derive(Clone, Default)]
pub(crate) struct Progress {
    received: Arc<AtomicU64>,
    pub(crate) displaced: CancellationToken,
}

impl Progress {
    pub(crate) fn add(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A place among concurrent uploads. Dropping it frees the place.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    number: u64,
    pub(crate) progress: Progress,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().places.remove(&self.number);
    }
}

impl Slots {
    /// Takes a place.
    ///
    /// # Errors
    ///
    /// [`NoPlace`].
    pub(super) fn take(
        self: &Arc<Self>,
        user: UserId,
        limits: &chelseru_config::Files,
        now: Instant,
    ) -> Result<Slot, NoPlace> {
        let mut taken = self.lock();
        let own = taken.places.values().filter(|place| place.user == user).count();
        if own >= limits.uploads_per_user_max {
            return Err(NoPlace { own: true });
        }
        if taken.places.len() >= limits.uploads_max {
            let grace = Duration::from_secs(limits.upload_grace_seconds);
            let Some(number) = taken.gives_way(user, own, grace, now) else {
                return Err(NoPlace { own: false });
            };
            if let Some(place) = taken.places.remove(&number) {
                place.progress.displaced.cancel();
            }
        }
        taken.next += 1;
        let (number, progress) = (taken.next, Progress::default());
        taken.places.insert(number, Place { user, since: now, progress: progress.clone() });
        Ok(Slot { slots: self.clone(), number, progress })
    }

    /// Ends all of a user's uploads that have a place.
    pub(super) fn displace_all(&self, user: UserId) {
        self.lock().places.retain(|_, place| {
            let stays = place.user != user;
            if !stays {
                place.progress.displaced.cancel();
            }
            stays
        });
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// The place that a user with so many own ones may have, if there is one.
    fn gives_way(&self, user: UserId, own: usize, grace: Duration, now: Instant) -> Option<u64> {
        let mut of_user: HashMap<UserId, usize> = HashMap::new();
        for place in self.places.values() {
            *of_user.entry(place.user).or_default() += 1;
        }
        let grown = self
            .places
            .iter()
            .filter(|(_, place)| place.user != user && now.saturating_duration_since(place.since) >= grace);
        let rate = |place: &Place| {
            let seconds = now.saturating_duration_since(place.since).as_secs().max(1);
            place.progress.received.load(Ordering::Relaxed) / seconds
        };
        let ranked = grown.map(|(number, place)| (of_user[&place.user], Reverse(rate(place)), *number));
        let ranked: Vec<_> = ranked.collect();
        let (most, _, number) = *ranked.iter().max()?;
        if most > own + 1 {
            return Some(number);
        }
        let (_, Reverse(slowest), number) = *ranked.iter().max_by_key(|(_, rate, _)| *rate)?;
        (own == 0 && slowest < SLOW_BYTES_PER_SECOND).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> chelseru_config::Files {
        chelseru_config::Files {
            uploads_max: 4,
            uploads_per_user_max: 3,
            upload_grace_seconds: 30,
            ..chelseru_config::Files::default()
        }
    }

    fn own(result: &Result<Slot, NoPlace>) -> Option<bool> {
        result.as_ref().err().map(|refused| refused.own)
    }

    #[test]
    fn a_few_slow_accounts_do_not_hold_every_place() {
        let (slots, limits, start) = (Arc::new(Slots::default()), limits(), Instant::now());
        let take =
            |user: u64, seconds: u64| slots.take(UserId(user), &limits, start + Duration::from_secs(seconds));
        let held: Vec<Slot> = (0..3).map(|_| take(1, 0).expect("a place")).collect();
        assert_eq!(own(&take(1, 0)), Some(true), "one more of its own");
        let other = take(2, 0).expect("a place");
        held[0].progress.add(9_000_000);
        held[2].progress.add(9_000_000);
        other.progress.add(9_000_000);
        assert_eq!(own(&take(3, 29)), Some(false), "all are new");
        let third = take(3, 30).expect("from who has most");
        let displaced = |slots: &[Slot]| -> Vec<bool> {
            slots.iter().map(|slot| slot.progress.displaced.is_cancelled()).collect()
        };
        assert_eq!(
            (displaced(&held), other.progress.displaced.is_cancelled()),
            (vec![false, true, false], false)
        );
        // Two against one is fair enough; three against none is not.
        assert_eq!(own(&take(3, 40)), Some(false));
        let fourth = take(4, 40).expect("from who has two");
        assert_eq!(displaced(&held).iter().filter(|displaced| **displaced).count(), 2);
        // Each has one now. A slow one gives way to a user without any, a fast one does not.
        third.progress.add(9_000_000);
        fourth.progress.add(30 * 16 * 1024 - 1);
        assert_eq!(own(&take(5, 69)), Some(false), "the last one is new");
        let fifth = take(5, 70).expect("a place");
        assert!(fourth.progress.displaced.is_cancelled() && !third.progress.displaced.is_cancelled());
        drop((held, other, third, fourth, fifth));
        assert!(slots.lock().places.is_empty());
    }

    #[test]
    fn all_uploads_of_a_user_are_ended_and_their_places_are_free() {
        let (slots, limits, start) = (Arc::new(Slots::default()), limits(), Instant::now());
        let take = |user: u64| slots.take(UserId(user), &limits, start);
        let own: Vec<Slot> = (0..3).map(|_| take(1).expect("a place")).collect();
        let other = take(2).expect("a place");
        slots.displace_all(UserId(1));
        assert!(own.iter().all(|slot| slot.progress.displaced.is_cancelled()));
        assert!(!other.progress.displaced.is_cancelled());
        let next: Vec<_> = (0..3).map(|_| take(3).expect("a place")).collect();
        drop(own);
        assert_eq!(slots.lock().places.len(), 4);
        drop((next, other));
        assert!(slots.lock().places.is_empty());
    }
}
