//! Controls questions to gateways: one per payment at a time, and none to a gateway during its rate limit. Counts the
//! reversals that each gateway refused.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chelseru_store::PaymentId;
use tokio::sync::MutexGuard;

use super::gateway::GatewayError;
use super::verdict;
use crate::Timestamp;

/// How long the last question about a payment is remembered: the longest time for which a repeated callback is
/// answered without asking.
pub(super) const REMEMBERED: Duration = Duration::from_secs(30);

/// Ensures one question per payment at a time, and records when it was asked.
#[derive(Default)]
pub(super) struct Flights(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    by_payment: HashMap<PaymentId, Arc<Flight>>,
    /// Number of entries that triggers the removal of unused ones.
    sweep_at: usize,
}

/// Questions about one payment.
#[derive(Default)]
pub(super) struct Flight {
    /// Held while the gateway is asked; stores the last question.
    turn: tokio::sync::Mutex<Option<Asked>>,
    /// Questions so far.
    asked: AtomicU64,
}

/// A question to a gateway.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) at: Timestamp,
    /// The payer's own browser caused it.
    pub(super) by_payer: bool,
}

/// Least number of entries that triggers a sweep.
const FLIGHTS_SWEEP: usize = 1024;

impl Flights {
    pub(super) fn of(&self, id: PaymentId, now: Timestamp) -> Arc<Flight> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = entries.by_payment.get(&id) {
            return flight.clone();
        }
        if entries.by_payment.len() >= entries.sweep_at.max(FLIGHTS_SWEEP) {
            entries.by_payment.retain(|_, flight| Arc::strong_count(flight) > 1 || flight.is_recent(now));
            // Twice the remaining entries, so sweeping costs a constant per entry.
            entries.sweep_at = 2 * entries.by_payment.len();
        }
        let flight = Arc::<Flight>::default();
        entries.by_payment.insert(id, flight.clone());
        flight
    }
}

impl Flight {
    /// Waits for the turn to ask; the guard holds the last question.
    pub(super) async fn turn(&self) -> MutexGuard<'_, Option<Asked>> {
        self.turn.lock().await
    }

    /// Questions so far.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// Counts a question, answered or not.
    pub(super) fn note(&self, turn: &mut MutexGuard<'_, Option<Asked>>, asked: Asked) {
        self.asked.fetch_add(1, Ordering::Release);
        **turn = Some(asked);
    }

    fn is_recent(&self, now: Timestamp) -> bool {
        // The lock is held, so the entry is in use.
        let Ok(asked) = self.turn.try_lock() else { return true };
        asked.is_some_and(|asked| now.since(asked.at) < REMEMBERED)
    }
}

/// Payments that this process began and has not asked about. Their records say that a question may have been heard,
/// which spares the record of the first one; this says that none was. A process that restarted goes by the record,
/// which is the careful answer. So does each of several gateways over one store: any of them may have asked.
#[derive(Default)]
pub(super) struct Unasked {
    payments: Mutex<HashSet<PaymentId>>,
    shared: AtomicBool,
}

/// Payments in [`Unasked`]: a payment is asked about within a minute of its start. Past it the record counts.
const UNASKED_MAX: usize = 500_000;

impl Unasked {
    /// Other gateways over the store may ask.
    pub(super) fn share(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    pub(super) fn begun(&self, id: PaymentId) {
        if self.shared.load(Ordering::Relaxed) {
            return;
        }
        let mut payments = self.payments.lock().unwrap_or_else(PoisonError::into_inner);
        if payments.len() < UNASKED_MAX {
            payments.insert(id);
        }
    }

    /// Called before the question, which may be dropped half way. True when no question was asked before.
    pub(super) fn asking(&self, id: PaymentId) -> bool {
        self.payments.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }
}

/// Rate-limited gateways, and the end of each limit. In memory: after a restart the first question learns it again.
#[derive(Default)]
pub(super) struct Holds(Mutex<HashMap<String, Timestamp>>);

impl Holds {
    /// Remaining time of a gateway's rate limit.
    pub(super) fn left(&self, gateway: &str, now: Timestamp) -> Option<Duration> {
        let holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = *holds.get(gateway)?;
        (until > now).then(|| until.since(now))
    }

    /// Records a gateway's rate limit from an error.
    pub(super) fn note(&self, gateway: &str, error: &GatewayError, now: Timestamp) {
        let GatewayError::Throttled(wait) = error else { return };
        let until = now.plus(verdict::hold(*wait));
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = holds.entry(gateway.to_owned()).or_default();
        *held = (*held).max(until);
    }

    /// Forgets a gateway's rate limit: another component, other settings or grants may have another one.
    pub(super) fn forget(&self, gateway: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(gateway);
    }
}

/// Reversals that were refused, per gateway.
#[derive(Default)]
pub(super) struct Refused(Mutex<BTreeMap<String, u64>>);

impl Refused {
    pub(super) fn count(&self, gateway: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(gateway.to_owned()).or_default() += 1;
    }

    pub(super) fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
