//! A bound on what one place in the code may write to the log.
//!
//! A disk that fails or a provider that is down makes the same line come with every request. Warnings and errors are
//! therefore counted per place: [`LINES_MAX`] a minute, and one while the log is hushed because a known cause is behind
//! everything. How many lines were left out is said when the place logs again. Information and detail pass.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

/// Warnings and errors of one place in one [`WINDOW`].
const LINES_MAX: u64 = 100;
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Flood {
    places: Mutex<HashMap<Identifier, Place>>,
    hushed: AtomicBool,
}

struct Place {
    since: Instant,
    lines: u64,
    left_out: u64,
}

impl Flood {
    pub(super) fn hush(&self, hushed: bool) {
        self.hushed.store(hushed, Ordering::Relaxed);
    }

    /// Whether a place may write one more line now, and how many it could not write in the window before.
    fn admits(&self, place: Identifier, now: Instant) -> (bool, u64) {
        let lines_max = if self.hushed.load(Ordering::Relaxed) { 1 } else { LINES_MAX };
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(place).or_insert(Place { since: now, lines: 0, left_out: 0 });
        let mut left_out = 0;
        if now.saturating_duration_since(place.since) >= WINDOW {
            left_out = place.left_out;
            *place = Place { since: now, lines: 0, left_out: 0 };
        }
        let admitted = place.lines < lines_max;
        match admitted {
            true => place.lines += 1,
            false => place.left_out += 1,
        }
        (admitted, left_out)
    }
}

/// The filter of the layer that writes.
pub(super) struct FloodFilter(pub(super) Arc<Flood>);

impl<S: Subscriber> Filter<S> for FloodFilter {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN {
            return true;
        }
        let (admitted, left_out) = self.0.admits(metadata.callsite(), Instant::now());
        if left_out > 0 {
            let place = format_args!("{}:{}", metadata.file().unwrap_or("?"), metadata.line().unwrap_or(0));
            tracing::info!(%place, lines = left_out, "lines were left out of the log");
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use tracing::Callsite as _;

    use super::*;

    fn place() -> Identifier {
        tracing::callsite!(name: "here", kind: tracing::metadata::Kind::EVENT, fields: message)
            .metadata()
            .callsite()
    }

    #[test]
    fn a_place_is_bounded_and_says_what_was_left_out() {
        let flood = Flood::default();
        let start = Instant::now();
        let (one, other) = (place(), {
            let other =
                tracing::callsite!(name: "there", kind: tracing::metadata::Kind::EVENT, fields: message);
            other.metadata().callsite()
        });
        for _ in 0..LINES_MAX {
            assert_eq!(flood.admits(one.clone(), start), (true, 0));
        }
        for _ in 0..7 {
            assert_eq!(flood.admits(one.clone(), start), (false, 0));
        }
        assert_eq!(flood.admits(other.clone(), start), (true, 0));
        assert_eq!(flood.admits(one.clone(), start + WINDOW), (true, 7));
        flood.hush(true);
        assert_eq!(flood.admits(one, start + WINDOW), (false, 0));
        assert_eq!(flood.admits(other.clone(), start + WINDOW), (true, 0));
        assert_eq!(flood.admits(other.clone(), start + WINDOW), (false, 0));
        assert_eq!(flood.admits(other, start + WINDOW * 2), (true, 1));
    }
}
