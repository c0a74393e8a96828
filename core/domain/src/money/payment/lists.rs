//! What is remembered of the gateways' lists of paid and unconfirmed payments.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Timestamp;

/// Interval of reading a gateway's list while it has open payments.
const LIST_INTERVAL: Duration = Duration::from_secs(30);
/// Interval without open payments: for payments that ended and were paid later.
const LIST_INTERVAL_IDLE: Duration = Duration::from_secs(5 * 60);
/// Reported references without a payment, per gateway. Beyond this number they are reported again.
const FOREIGN_MAX: usize = 4096;

/// State of the gateways' lists. In memory: after a restart the lists are read again.
#[derive(Default)]
pub(super) struct Lists(Mutex<HashMap<String, List>>);

#[derive(Default)]
struct List {
    read_at: Option<Timestamp>,
    /// Reported references without a payment.
    foreign: HashSet<String>,
    uncredited: u64,
}

impl Lists {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, List>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true when a gateway's list is due. `open`: it has open payments.
    pub(super) fn is_due(&self, gateway: &str, open: bool, now: Timestamp) -> bool {
        let interval = if open { LIST_INTERVAL } else { LIST_INTERVAL_IDLE };
        let read_at = self.lock().get(gateway).and_then(|list| list.read_at);
        read_at.is_none_or(|read_at| now < read_at || now.since(read_at) >= interval)
    }

    pub(super) fn read(&self, gateway: &str, now: Timestamp) {
        self.lock().entry(gateway.to_owned()).or_default().read_at = Some(now);
    }

    /// False when this reference was already reported.
    pub(super) fn is_new(&self, gateway: &str, reference: &str) -> bool {
        let mut lists = self.lock();
        let foreign = &mut lists.entry(gateway.to_owned()).or_default().foreign;
        if foreign.len() >= FOREIGN_MAX {
            foreign.clear();
        }
        foreign.insert(reference.to_owned())
    }

    pub(super) fn count(&self, gateway: &str) {
        self.lock().entry(gateway.to_owned()).or_default().uncredited += 1;
    }

    /// How many listed payments of each gateway were counted.
    pub(super) fn uncredited(&self) -> BTreeMap<String, u64> {
        self.lock().iter().map(|(gateway, list)| (gateway.clone(), list.uncredited)).collect()
    }
}
