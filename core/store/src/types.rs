//! Types shared by every operation: identifiers and instants.
//!
//! Identifiers are newtypes, so two kinds cannot be swapped. They are numbered from 1 and never reused, because the
//! counter is stored in the same change as the record.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The public number of a user account, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserId(pub u64);

/// The public number of a login session, from 1. Not a credential: knowing it gives no right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The public number of a payment, from 1. Knowing it gives no right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PaymentId(pub u64);

impl fmt::Display for PaymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The public number of a spend, from 1. Knowing it gives no right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SpendId(pub u64);

impl fmt::Display for SpendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of an event, from 1, in order of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId(pub u64);

/// The public number of a room, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoomId(pub u64);

/// The public number of an organisation, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrganizationId(pub u64);

/// The public number of an uploaded file, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId(pub u64);

/// An instant: microseconds since 1970-01-01 00:00 UTC, for a range of 584,000 years. Arithmetic saturates instead of
/// wrapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Timestamp(micros)
    }

    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Timestamp(secs.saturating_mul(1_000_000))
    }

    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(micros))
    }

    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_sub(micros))
    }

    /// The time from `earlier` to this instant; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Which scheduled times are due.
///
/// A clock that was ahead, and is right again, left times that come much too late. Work is scheduled for a short time
/// ahead only, so what is scheduled for later than that is due as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    now: Timestamp,
    latest: Timestamp,
}

impl Due {
    /// What is due at `now`. `ahead_max` is longer than anything is scheduled ahead, by more than clocks of several
    /// gateways may differ.
    #[must_use]
    pub fn new(now: Timestamp, ahead_max: Duration) -> Due {
        Due { now, latest: now.plus(ahead_max) }
    }

    #[must_use]
    pub fn includes(self, at: Timestamp) -> bool {
        self.spans().iter().any(|(first, last)| (*first..=*last).contains(&at))
    }

    /// The first and the last time of each span that is due, what is overdue first.
    pub(crate) fn spans(self) -> [(Timestamp, Timestamp); 2] {
        let end = Timestamp(u64::MAX);
        [(Timestamp::default(), self.now), (self.latest.plus(Duration::from_micros(1)), end)]
    }
}

/// The result of one purge step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgeStep {
    /// Records removed, fully or in part.
    pub removed: usize,
    /// The step reached the last record; the next one starts over.
    pub finished: bool,
}

/// A value that may be absent, stored as its type's default. For fields that were stored so before they had a type of
/// their own: the bytes stay the same.
pub(crate) mod absent {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T, S>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Serialize + Default,
        S: Serializer,
    {
        match value {
            Some(value) => value.serialize(serializer),
            None => T::default().serialize(serializer),
        }
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: Deserialize<'de> + Default + PartialEq,
        D: Deserializer<'de>,
    {
        let value = T::deserialize(deserializer)?;
        Ok((value != T::default()).then_some(value))
    }
}
