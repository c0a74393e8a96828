//! The store as operators see it: its health, its figures, and the exit of a process whose store is stuck.
//!
//! A writer blocked in the operating system (a disk that does not answer) cannot be recovered from inside. The
//! gateway is unhealthy once a change has waited for [`STALL_UNHEALTHY`]. After [`STALL_END`] the process exits with
//! a failure status, so its supervisor restarts it. A separate thread watches, because the runtime's threads may be
//! blocked as well. A database server that stands still is no reason to exit: every wait for it ends by itself, and
//! every gateway over it would exit at once.

use std::sync::Mutex;
use std::time::Duration;

use chelseru_domain::operator::{Meter, Storage};
use chelseru_store::{DiskRoom, Health, Store, StoreError};

use crate::logging::LogHandle;
use crate::operator::metrics::{Metrics, store_gauge};

/// How long the oldest change may wait before the gateway is unhealthy.
pub(crate) const STALL_UNHEALTHY: Duration = Duration::from_secs(10);
/// How long the oldest change may wait for the disk of an embedded store before the process exits.
const STALL_END: Duration = Duration::from_secs(60);
/// How often the oldest change is checked.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Least time between two log lines about a store that does not work.
const SAY_INTERVAL: Duration = Duration::from_secs(60);
/// Records counted in one step, and the pause after it: 20,000 take about 20 ms.
const COUNT_STEP: usize = 20_000;
const COUNT_PAUSE: Duration = Duration::from_secs(2);

/// The state of the store: whether it accepts changes.
pub(crate) fn storage(store: &Store) -> Storage {
    if store.has_failed() || matches!(store.health(), Health::Failed(_)) {
        Storage::Failed
    } else if store.oldest_waiting() >= STALL_UNHEALTHY {
        // Of a server nobody here can say more than that it does not answer.
        if store.is_folder() { Storage::Stalled } else { Storage::Away }
    } else if matches!(store.health(), Health::Away(_)) {
        Storage::Away
    } else if store.room() == DiskRoom::None {
        Storage::Full
    } else {
        Storage::Serving
    }
}

/// Watches the store on a separate thread until the process ends. Used by the program, not by gateways in tests.
pub(crate) fn watch(store: Store, log: LogHandle) -> std::io::Result<()> {
    let mut silent = SAY_INTERVAL;
    std::thread::Builder::new().name("store-watch".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(LOOK_INTERVAL);
            silent += LOOK_INTERVAL;
            let storage = storage(&store);
            // Every request would say the same.
            log.hush(storage != Storage::Serving);
            let waiting = store.oldest_waiting();
            if ends(store.is_folder(), waiting) {
                let seconds = waiting.as_secs();
                tracing::error!(seconds, "the disk does not answer; the process exits");
                std::process::exit(1);
            }
            if silent < SAY_INTERVAL {
                continue;
            }
            if storage != Storage::Serving {
                tracing::error!(storage = storage.as_str(), "changes cannot be stored");
            } else if store.room() == DiskRoom::Reserve {
                let free_mib = store.disk_free_bytes().unwrap_or_default() >> 20;
                tracing::warn!(free_mib, "the disk is nearly full: uploads and messages are refused");
            } else {
                continue;
            }
            silent = Duration::ZERO;
        }
    })?;
    Ok(())
}

/// Whether nothing helps a stuck store but another process.
fn ends(is_folder: bool, waiting: Duration) -> bool {
    is_folder && waiting >= STALL_END
}

/// Counts the store's records continuously, a few at a time.
#[derive(Default)]
pub(crate) struct RecordCount {
    /// The last complete count.
    counted: Mutex<Option<u64>>,
}

impl RecordCount {
    /// Counts until the task is dropped.
    pub(crate) async fn count(&self, store: &Store) {
        let (mut after, mut count) = (Vec::new(), 0);
        loop {
            match store.count_on(&after, COUNT_STEP).await {
                Ok((more, Some(last))) => (after, count) = (last, count + more as u64),
                Ok((more, None)) => {
                    *self.counted.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                        Some(count + more as u64);
                    (after, count) = (Vec::new(), 0);
                    tokio::time::sleep(SAY_INTERVAL).await;
                }
                Err(StoreError::Failed | StoreError::Closed) => return,
                // A server may answer later.
                Err(StoreError::Busy | StoreError::Unavailable { .. }) => {}
                Err(error) => {
                    tracing::error!(%error, "the store's records cannot be counted");
                    return;
                }
            }
            tokio::time::sleep(COUNT_PAUSE).await;
        }
    }

    fn get(&self) -> Option<u64> {
        *self.counted.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Sets the metrics of the store.
pub(crate) fn measure(store: &Store, records: &RecordCount, metrics: &Metrics) {
    let gauge = |name: &'static str, value: f64| metrics.gauge(name, &[], value);
    gauge(store_gauge::HEALTHY, f64::from(u8::from(storage(store) == Storage::Serving)));
    gauge(store_gauge::OLDEST_WAITING, store.oldest_waiting().as_secs_f64());
    gauge(store_gauge::CHANGES_WAITING, store.changes_waiting() as f64);
    let stats = store.commit_stats();
    gauge(store_gauge::BATCHES, stats.batches as f64);
    gauge(store_gauge::CHANGES, stats.changes as f64);
    gauge(store_gauge::WRITE, stats.write_time.as_secs_f64());
    gauge(store_gauge::FLUSH_LAST, stats.last_write.as_secs_f64());
    if let Some(free) = store.disk_free_bytes() {
        gauge(store_gauge::DISK_FREE, free as f64);
    }
    if let Some(records) = records.get() {
        gauge(store_gauge::RECORDS, records as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ends_for_its_disk_and_not_for_a_server() {
        let just_under = STALL_END - Duration::from_millis(1);
        assert_eq!([just_under, STALL_END].map(|waiting| ends(true, waiting)), [false, true]);
        assert!(!ends(false, STALL_END * 10));
    }
}
