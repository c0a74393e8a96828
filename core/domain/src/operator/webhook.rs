//! Webhooks: deliver events about payments and wallets to the configured endpoints.
//!
//! An event is delivered at least once, in the form of the Standard Webhooks specification: signed, with an id that
//! stays the same across retries. A failed attempt is retried with growing delays ([`DELAYS`]); after the last one the
//! delivery is dead, and an operator can see and replay it. Invariants: a written event is delivered or dead, and never
//! lost before its retention ends; an endpoint that does not answer delays no other; a receiver's answer changes only
//! the delivery.
//!
//! Not here: how a body is sent (the port's), what is an event (`chelseru-store::outbox`).

mod body;
mod pause;

pub use chelseru_store::EventFilter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
pub use chelseru_store::Event;
use chelseru_store::{Attempt, Due, EventId, EventReport, Store, StoreError};
use futures_util::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub use body::{KINDS, body, report_json};
pub use pause::Pause;

use crate::{Clock, Range, Timestamp};

/// Delays between attempts, plus or minus a tenth, so many retries do not coincide.
///
/// Source: Standard Webhooks specification, "Deliverability and reliability", the schedule it gives as an example.
pub const DELAYS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
    Duration::from_secs(20 * 3600),
    Duration::from_secs(24 * 3600),
];

/// Limit on a receiver's `Retry-After`.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// No attempt is scheduled for later than this. The rest are differences of clocks.
const AHEAD_MAX: Duration = Duration::from_secs(27 * 3600);
/// How long events are kept.
pub const KEEP_DAYS: Range<u64> = Range::new(1, 365, 7);
/// Events kept; past it the oldest are removed, delivered or not.
pub const EVENTS: Range<u64> = Range::new(1000, 100_000_000, 100_000);

/// Events routed in one step.
const ROUTE_MAX: usize = 500;
/// Deliveries to one endpoint in one step.
const STEP_MAX: usize = 64;
/// Deliveries to one endpoint at once.
const PARALLEL: usize = 8;
/// Characters kept of an error.
const ERROR_CHARS_MAX: usize = 200;

/// Bytes of a signing key. Source: Standard Webhooks specification, "Signature scheme".
pub const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A receiver's answer to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It answered with success.
    Accepted,
    /// It may accept it later.
    Failed { error: String, retry_after: Option<Duration> },
    /// The receiver wants no further attempts.
    Gone { error: String },
}

/// The endpoints.
#[async_trait]
pub trait Receivers: Send + Sync {
    /// The names of the endpoints that want an event of this kind.
    fn wanting(&self, kind: &str) -> Vec<String>;

    /// Delivers an event to one endpoint. `now` is signed with it; a receiver refuses what it takes for old.
    async fn tell(&self, endpoint: &str, event: &Event, now: Timestamp) -> Told;
}

/// The results of one step over one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Step {
    pub delivered: usize,
    pub failed: usize,
    pub dead: usize,
    /// More are due.
    pub more: bool,
}

/// Routes and delivers events.
#[derive(Clone)]
pub struct Webhooks {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Webhooks {
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Webhooks { store, clock }
    }

    /// Assigns new events to the endpoints that want them. Returns their number. Call it from one task.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn route(&self, receivers: &dyn Receivers) -> Result<usize, StoreError> {
        let wanting = |event: &Event| receivers.wanting(event.body.kind());
        self.store.events_route(ROUTE_MAX, self.clock.now(), &wanting).await
    }

    /// Delivers due events to one endpoint, oldest first, a few at a time; a paused endpoint gets none. After a failure
    /// no further attempt begins, so an endpoint that is down is not called for each waiting event. Call it from one
    /// task per endpoint.
    ///
    /// Cancellation: a delivery that was not recorded is repeated.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn deliver(&self, receivers: &dyn Receivers, endpoint: &str) -> Result<Step, StoreError> {
        if self.pause_of(endpoint).await?.is_some() {
            return Ok(Step::default());
        }
        let due =
            self.store.deliveries_due(endpoint, Due::new(self.clock.now(), AHEAD_MAX), STEP_MAX).await?;
        let mut step = Step { more: due.len() == STEP_MAX, ..Step::default() };
        let mut attempts = Vec::with_capacity(due.len());
        let failing = AtomicBool::new(false);
        let failing = &failing;
        let mut tries = futures_util::stream::iter(due)
            .map(|(event, delivery)| async move {
                if failing.load(Ordering::Relaxed) {
                    return None;
                }
                let told = receivers.tell(endpoint, &event, self.clock.now()).await;
                if told != Told::Accepted {
                    failing.store(true, Ordering::Relaxed);
                }
                Some((event.id, delivery.attempts, told))
            })
            .buffer_unordered(PARALLEL);
        while let Some(told) = tries.next().await {
            let Some((id, before, told)) = told else { continue };
            let attempt = match told {
                Told::Accepted => Attempt::Delivered,
                Told::Gone { error } => Attempt::Failed { error: cut(&error), again_at: None },
                Told::Failed { error, retry_after } => {
                    let again_at = delay(id, before, retry_after).map(|delay| self.clock.now().plus(delay));
                    Attempt::Failed { error: cut(&error), again_at }
                }
            };
            match &attempt {
                Attempt::Delivered => step.delivered += 1,
                Attempt::Failed { again_at: Some(_), .. } => step.failed += 1,
                Attempt::Failed { error, again_at: None } => {
                    step.dead += 1;
                    tracing::error!(event.id = id.0, webhook = endpoint, %error, "a delivery is dead; it can be replayed");
                }
            }
            attempts.push((id, attempt));
        }
        if !attempts.is_empty() {
            self.store.deliveries_note(endpoint, attempts).await?;
        }
        Ok(step)
    }

    /// Events and their deliveries, newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn list(
        &self,
        before: Option<EventId>,
        which: EventFilter,
        limit: usize,
    ) -> Result<Vec<EventReport>, StoreError> {
        self.store.events_list(before, which, limit).await
    }

    /// Sends a test event to one endpoint, whatever kinds it wants.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn test(&self, endpoint: String) -> Result<EventId, StoreError> {
        self.store.event_test(endpoint, self.clock.now()).await
    }

    /// Replays an event. Returns the number of endpoints.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn replay(&self, id: EventId, endpoint: Option<String>) -> Result<usize, StoreError> {
        self.store.event_replay(id, endpoint, self.clock.now()).await
    }

    /// Replays dead events, at most `limit`. Returns their number.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn replay_dead(&self, endpoint: Option<String>, limit: usize) -> Result<usize, StoreError> {
        self.store.events_replay_dead(endpoint, limit, self.clock.now()).await
    }

    /// Purges events that are too old or exceed `count_max`, at most `limit`.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn purge(&self, keep: Duration, count_max: u64, limit: usize) -> Result<usize, StoreError> {
        let since = self.clock.now().minus(keep);
        let (removed, untold) = self.store.events_purge(since, count_max, limit).await?;
        if untold > 0 {
            tracing::error!(count = untold, "removed events that were not delivered to every webhook");
        }
        Ok(removed)
    }
}

/// The wait after an attempt, the first being number 0; nothing after the last.
fn delay(id: EventId, tries_before: u32, retry_after: Option<Duration>) -> Option<Duration> {
    let base = *DELAYS.get(tries_before as usize)?;
    // Spread by the event's number: nine to eleven tenths, the same every time.
    let spread = (id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32 % 201;
    let delay = base * (900 + spread) / 1000;
    Some(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX).max(delay))
}

/// The signature of a message: HMAC-SHA256 over id, time and body, which its header shows as `v1,` and Base64.
///
/// Source: Standard Webhooks specification, "Signature scheme".
#[must_use]
pub fn signature(secret: &[u8], id: &str, timestamp_secs: u64, body: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(id.as_bytes());
    mac.update(b".");
    mac.update(timestamp_secs.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.finalize().into_bytes().into()
}

/// The public id of an event. The instant keeps events of two stores apart.
#[must_use]
pub fn public_id(event: &Event) -> String {
    format!("evt_{:x}_{}", event.at.as_micros(), event.id.0)
}

/// The event of a plain number.
#[must_use]
pub fn event_numbered(number: u64) -> EventId {
    EventId(number)
}

/// The event of a public id, or of its plain number.
#[must_use]
pub fn event_of(public_id: &str) -> Option<EventId> {
    let number = public_id.rsplit('_').next()?;
    number.parse().ok().map(EventId)
}

/// The time of an attempt in whole seconds, for its header.
#[must_use]
pub fn timestamp_secs(now: Timestamp) -> u64 {
    now.as_micros() / 1_000_000
}

fn cut(error: &str) -> String {
    error.chars().take(ERROR_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_end() {
        let delays: Vec<_> = (0..).map_while(|tries| delay(EventId(7), tries, None)).collect();
        assert_eq!(delays.len(), DELAYS.len());
        assert!(delays.is_sorted());
        for (delay, base) in delays.iter().zip(DELAYS) {
            assert!(*delay >= base * 9 / 10 && *delay <= base * 11 / 10, "{delay:?} for {base:?}");
        }
        assert_ne!(delay(EventId(1), 8, None), delay(EventId(2), 8, None));
        let asked = delay(EventId(1), 0, Some(Duration::from_secs(60)));
        assert_eq!(asked, Some(Duration::from_secs(60)));
        assert!(delay(EventId(1), 0, Some(Duration::MAX)).is_some_and(|delay| delay <= RETRY_AFTER_MAX));
    }

    /// A known answer, computed apart with `openssl dgst -sha256 -hmac`.
    #[test]
    fn a_signature_covers_id_time_and_body() {
        let sign = |id: &str, at, body: &[u8]| signature(b"0123456789abcdef01234567", id, at, body);
        let known = sign("evt_1", 1_700_000_000, b"{}");
        let hex: String = known.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "34d13b97cc811942198b1f995a1bb0d62d1def21d5e7c7533e5a3031581d3130");
        assert_ne!(sign("evt_2", 1_700_000_000, b"{}"), known);
        assert_ne!(sign("evt_1", 1_700_000_001, b"{}"), known);
        assert_ne!(sign("evt_1", 1_700_000_000, b"{ }"), known);
    }

    #[test]
    fn a_public_id_names_its_event() {
        assert_eq!(event_of("evt_5f5e100_12"), Some(EventId(12)));
        assert_eq!(event_of("12"), Some(EventId(12)));
        assert_eq!(event_of("evt_"), None);
    }
}
