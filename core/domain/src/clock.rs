//! Time: its source, and its form in the API.
//!
//! Rules ask a [`Clock`] and never the operating system, so that tests move time by hand and never sleep. Timeouts and
//! deadlines use the monotonic clock and do not come from here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// Longest jump of the operating system's clock that is accepted at once.
const JUMP_BELIEVED: Duration = Duration::from_secs(60);
/// How long a longer jump must last before it is accepted.
const JUMP_HELD: Duration = Duration::from_secs(600);

/// The operating system's clock without its short jumps.
///
/// A clock that is a day ahead for some seconds would end open payments and sessions permanently. A jump of more than
/// [`JUMP_BELIEVED`], in either direction, is therefore accepted only after it has lasted for [`JUMP_HELD`]; until
/// then time continues by the monotonic clock. Slewing and small corrections are followed at once.
#[derive(Debug)]
pub struct SteadyClock {
    start: Instant,
    /// Microseconds from the monotonic clock since `start` to the time of day.
    offset: AtomicU64,
    /// When the jump was first seen, in microseconds since `start`, plus 1; 0 while there is none.
    jumped: AtomicU64,
}

impl SteadyClock {
    #[must_use]
    pub fn new() -> Self {
        let offset = AtomicU64::new(SystemClock.now().as_micros());
        SteadyClock { start: Instant::now(), offset, jumped: AtomicU64::new(0) }
    }

    /// The time, when the operating system reports `wall` at `monotonic` microseconds after the start.
    fn at(&self, wall: u64, monotonic: u64) -> u64 {
        let steady = monotonic.saturating_add(self.offset.load(Ordering::Relaxed));
        let jumped = self.jumped.load(Ordering::Relaxed);
        if wall.abs_diff(steady) > micros(JUMP_BELIEVED) {
            if jumped == 0 {
                tracing::warn!(
                    seconds = wall.abs_diff(steady) / 1_000_000,
                    "the clock jumped; the jump is not accepted yet"
                );
                self.jumped.store(monotonic + 1, Ordering::Relaxed);
                return steady;
            }
            if monotonic < jumped.saturating_add(micros(JUMP_HELD)) {
                return steady;
            }
            tracing::warn!("the clock's jump persisted; it is accepted now");
        }
        if jumped != 0 {
            self.jumped.store(0, Ordering::Relaxed);
        }
        self.offset.store(wall.saturating_sub(monotonic), Ordering::Relaxed);
        wall
    }
}

impl Default for SteadyClock {
    fn default() -> Self {
        SteadyClock::new()
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let monotonic = micros(self.start.elapsed());
        Timestamp::from_micros(self.at(SystemClock.now().as_micros(), monotonic))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
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

    pub fn set_back(&self, by: Duration) {
        self.micros.store(self.now().minus(by).as_micros(), Ordering::SeqCst);
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

/// Reads a day (its beginning in UTC) or an instant, `2026-11-26` or `2026-11-26T12:00:00Z`.
#[must_use]
pub fn read_time(text: &str) -> Option<Timestamp> {
    let instant = match text.parse::<jiff::Timestamp>() {
        Ok(instant) => instant,
        Err(_) => format!("{}T00:00:00Z", text.parse::<jiff::civil::Date>().ok()?).parse().ok()?,
    };
    u64::try_from(instant.as_microsecond()).ok().map(Timestamp::from_micros)
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
    fn a_short_jump_is_not_believed_and_a_lasting_one_is() {
        const SECOND: u64 = 1_000_000;
        const DAY: u64 = 86_400 * SECOND;
        let noon = 1_769_860_800 * SECOND;
        let clock = SteadyClock { offset: AtomicU64::new(noon), ..SteadyClock::new() };
        // The operating system's time and the resulting clock, seconds after the start.
        let at = |seconds: u64, wall: u64| clock.at(wall, seconds * SECOND) - noon;
        assert_eq!(at(1, noon + SECOND), SECOND);
        // Small corrections are followed: 60 s, not more.
        assert_eq!(at(2, noon + 62 * SECOND), 62 * SECOND);
        assert_eq!(at(3, noon + 3 * SECOND), 3 * SECOND);
        assert_eq!(at(4, noon + 64 * SECOND + 1), 4 * SECOND);
        // A day ahead for some seconds, and back.
        assert_eq!(at(5, noon + DAY), 5 * SECOND);
        assert_eq!(at(15, noon + DAY + 10 * SECOND), 15 * SECOND);
        assert_eq!(at(16, noon + 16 * SECOND), 16 * SECOND);
        // A day back, permanently.
        assert_eq!(at(20, noon - DAY), 20 * SECOND);
        assert_eq!(at(619, noon - DAY + 599 * SECOND), 619 * SECOND);
        let believed = clock.at(noon - DAY + 601 * SECOND, 621 * SECOND);
        assert_eq!(believed, noon - DAY + 601 * SECOND);
        let next = clock.at(noon - DAY + 602 * SECOND, 622 * SECOND);
        assert_eq!(next, noon - DAY + 602 * SECOND);
    }

    #[test]
    fn the_manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(Timestamp::from_secs(10));
        assert_eq!(clock.now(), Timestamp::from_secs(10));
        clock.advance(Duration::from_millis(1500));
        assert_eq!(clock.now(), Timestamp::from_micros(11_500_000));
    }
}
