//! Who may ask a gateway now: one question per payment at a time, and none to a gateway that was asked too often.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chelseru_store::PaymentId;
use tokio::sync::MutexGuard;

use super::gateway::GatewayError;
use super::verdict;
use crate::Timestamp;

/// For how long it is remembered that a payment was asked about: the longest time for which a repeated callback is
/// answered without asking.
pub(super) const REMEMBERED: Duration = Duration::from_secs(30);

/// One question per payment at a time, and when it was asked.
#[derive(Default)]
pub(super) struct Flights(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    by_payment: HashMap<PaymentId, Arc<Flight>>,
    /// Entries from which on those that nobody needs are dropped.
    sweep_at: usize,
}

/// Questions about one payment.
#[derive(Default)]
pub(super) struct Flight {
    /// Held while the gateway is asked; when it was asked last.
    turn: tokio::sync::Mutex<Option<Timestamp>>,
    /// Questions so far.
    asked: AtomicU64,
}

/// The least number of entries from which on a sweep is worth it.
const FLIGHTS_SWEEP: usize = 1024;

impl Flights {
    pub(super) fn of(&self, id: PaymentId, now: Timestamp) -> Arc<Flight> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = entries.by_payment.get(&id) {
            return flight.clone();
        }
        if entries.by_payment.len() >= entries.sweep_at.max(FLIGHTS_SWEEP) {
            entries.by_payment.retain(|_, flight| Arc::strong_count(flight) > 1 || flight.is_recent(now));
            // Twice what is left, so that sweeping costs a constant per entry.
            entries.sweep_at = 2 * entries.by_payment.len();
        }
        let flight = Arc::<Flight>::default();
        entries.by_payment.insert(id, flight.clone());
        flight
    }
}

impl Flight {
    /// Waits for the turn to ask; holds when the gateway was asked last.
    pub(super) async fn turn(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.turn.lock().await
    }

    /// Questions so far.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// Counts a question that was answered, or not, at this instant.
    pub(super) fn note(&self, turn: &mut MutexGuard<'_, Option<Timestamp>>, now: Timestamp) {
        self.asked.fetch_add(1, Ordering::Release);
        **turn = Some(now);
    }

    fn is_recent(&self, now: Timestamp) -> bool {
        // Somebody holds the lock: it is in use.
        let Ok(asked_at) = self.turn.try_lock() else { return true };
        asked_at.is_some_and(|at| now.since(at) < REMEMBERED)
    }
}

/// Gateways that were asked too often, and until when they are left alone. In memory: after a restart the first
/// question learns it again.
#[derive(Default)]
pub(super) struct Holds(Mutex<HashMap<String, Timestamp>>);

impl Holds {
    /// How long a gateway is still left alone.
    pub(super) fn left(&self, gateway: &str, now: Timestamp) -> Option<Duration> {
        let holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = *holds.get(gateway)?;
        (until > now).then(|| until.since(now))
    }

    /// Takes note of an answer that says that the gateway was asked too often.
    pub(super) fn note(&self, gateway: &str, error: &GatewayError, now: Timestamp) {
        let GatewayError::Throttled(wait) = error else { return };
        let until = now.plus(verdict::hold(*wait));
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = holds.entry(gateway.to_owned()).or_default();
        *held = (*held).max(until);
    }
}
