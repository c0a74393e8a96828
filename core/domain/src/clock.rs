//! Time: its source, and its form in the API.
//!
//! Rules ask a [`Clock`] and never the operating system, so that tests move time by hand and never sleep. Timeouts and
//! deadlines use the monotonic clock and do not come from here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use chelseru_store::Timestamp;

/// Tells the current instant.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock set before 1970 reads as 1970: every code and token is then refused or lives on, none is forged.
        Timestamp::default().plus(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

/// A clock that tests move by hand.
#[derive(Debug, Default)]
pub struct ManualClock {
    micros: AtomicU64,
}

impl ManualClock {
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        ManualClock { micros: AtomicU64::new(now.as_micros()) }
    }

    pub fn advance(&self, by: Duration) {
        self.micros.store(self.now().plus(by).as_micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.micros.load(Ordering::SeqCst))
    }
}

/// The instant in the form of the REST API: `2026-01-31T12:00:00.123456Z`. A fraction of exactly 0 is left out; any
/// other is never shortened. Instants after the year 9999 are written as its last one.
#[must_use]
pub fn rest_format(at: Timestamp) -> String {
    let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
    let instant = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX);
    let format = if at.as_micros().is_multiple_of(1_000_000) {
        "%Y-%m-%dT%H:%M:%SZ"
    } else {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    };
    instant.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_the_original_did() {
        let written = |micros| rest_format(Timestamp::from_micros(micros));
        assert_eq!(written(1_769_860_800_123_456), "2026-01-31T12:00:00.123456Z");
        assert_eq!(written(1_769_860_800_000_000), "2026-01-31T12:00:00Z");
        assert_eq!(written(1_769_860_800_100_000), "2026-01-31T12:00:00.100000Z");
        assert_eq!(written(1_769_860_800_000_001), "2026-01-31T12:00:00.000001Z");
        assert_eq!(written(0), "1970-01-01T00:00:00Z");
        assert!(written(u64::MAX).starts_with("9999-12-30T"));
    }

    #[test]
    fn the_manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(Timestamp::from_secs(10));
        assert_eq!(clock.now(), Timestamp::from_secs(10));
        clock.advance(Duration::from_millis(1500));
        assert_eq!(clock.now(), Timestamp::from_micros(11_500_000));
    }
}
