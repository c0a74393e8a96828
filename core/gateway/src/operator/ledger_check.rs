//! Recomputes the ledger beside a running gateway.
//!
//! An embedded store is exported as of one moment, read into a store of its own in the data folder ([`SCRATCH`]), and
//! recomputed there: a recomputation of the serving store would meet changes halfway. Changes go on meanwhile.
//! Invariants: one recomputation at a time; the copy is removed at its end, and at the next start after a crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chelseru_domain::Clock;
use chelseru_domain::clock::SystemClock;
use chelseru_domain::operator::house::{LedgerCheck, LedgerCounts, LedgerPhase};
use chelseru_store::{LedgerReport, Store, StoreOptions};

use super::backup;
use crate::app::App;
use crate::config::STORE_DIR;
use crate::private;

/// The copy's folder in the data folder. A backup leaves it out.
pub(crate) const SCRATCH: &str = "ledger-check";
/// The cache of the copy: it is read once.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// The copy needs this many times the size of the store: the export, and the store made of it.
const COPIES: u64 = 2;
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The last recomputation.
pub(crate) struct LedgerChecks(Mutex<LedgerCheck>);

impl Default for LedgerChecks {
    fn default() -> Self {
        LedgerChecks(Mutex::new(LedgerCheck::Never))
    }
}

impl LedgerChecks {
    fn lock(&self) -> MutexGuard<'_, LedgerCheck> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn last(&self) -> LedgerCheck {
        self.lock().clone()
    }

    /// Begins one; false while one runs.
    pub(crate) fn start(self: &Arc<Self>, app: Arc<App>) -> bool {
        let since = SystemClock.now();
        {
            let mut state = self.lock();
            if matches!(*state, LedgerCheck::Running { .. }) {
                return false;
            }
            *state = LedgerCheck::Running { since, phase: LedgerPhase::Copying, copied_bytes: 0 };
        }
        let checks = self.clone();
        let begun = Instant::now();
        app.detached.clone().spawn(async move {
            let folder = app.ground.data_dir.join(SCRATCH);
            let outcome = checks.run(&app, &folder).await;
            clear(&app.ground.data_dir);
            if let Err(reason) = &outcome {
                tracing::error!(%reason, "the ledger did not verify");
            }
            let seconds = begun.elapsed().as_secs();
            *checks.lock() = LedgerCheck::Done { at: SystemClock.now(), seconds, outcome };
        });
        true
    }

    fn phase(&self, next: LedgerPhase, bytes: u64) {
        if let LedgerCheck::Running { phase, copied_bytes, .. } = &mut *self.lock() {
            (*phase, *copied_bytes) = (next, bytes);
        }
    }

    async fn run(&self, app: &App, folder: &Path) -> Result<LedgerCounts, String> {
        let report = match app.store.is_folder() {
            true => self.of_a_copy(app, folder).await?,
            false => {
                // A server reads all of it as of one moment, beside changes.
                self.phase(LedgerPhase::Recomputing, 0);
                app.store.ledger_verify().await.map_err(|error| error.to_string())?
            }
        };
        match report.difference {
            Some(difference) => Err(difference),
            None => Ok(LedgerCounts {
                postings: report.postings,
                accounts: report.accounts,
                payments: report.payments,
                users_total: u64::try_from(report.users_total).unwrap_or(0),
                head: report.head.iter().map(|byte| format!("{byte:02x}")).collect(),
            }),
        }
    }

    async fn of_a_copy(&self, app: &App, folder: &Path) -> Result<LedgerReport, String> {
        clear(&app.ground.data_dir);
        private::make_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let size = backup::store_bytes(&app.ground.data_dir);
        backup::check_spare(&app.store, size.saturating_mul(COPIES))?;
        let (mut staged, _) = backup::stage(&app.store, folder).await?;
        let target = folder.join(STORE_DIR);
        let read = tokio::task::spawn_blocking({
            let target = target.clone();
            move || Store::import(&target, &mut staged, || Ok(())).map_err(|error| error.to_string())
        });
        let mut read = std::pin::pin!(read);
        loop {
            tokio::select! {
                done = &mut read => {
                    done.map_err(|error| error.to_string())??;
                    break;
                }
                () = tokio::time::sleep(LOOK_INTERVAL) => {
                    self.phase(LedgerPhase::Reading, bytes_in(&target));
                }
            }
        }
        self.phase(LedgerPhase::Recomputing, bytes_in(&target));
        let handle = tokio::runtime::Handle::current();
        let recomputed = tokio::task::spawn_blocking(move || {
            let options = StoreOptions { cache_bytes: CACHE_BYTES, ..StoreOptions::default() };
            let store = Store::open(&target, options).map_err(|error| error.to_string())?;
            let report = handle.block_on(store.ledger_verify()).map_err(|error| error.to_string());
            store.close();
            report
        });
        recomputed.await.map_err(|error| error.to_string())?
    }
}

/// Removes a copy, such as one that a crash left.
pub(crate) fn clear(data_dir: &Path) {
    let folder: PathBuf = data_dir.join(SCRATCH);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, folder = %folder.display(), "a copy of the store could not be removed");
        }
        _ => {}
    }
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}
