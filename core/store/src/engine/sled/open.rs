//! Opening: from a folder to a tree and a writer thread.
//!
//! Order: the lock, the database (see `folder`), the check that no answered batch is missing, the writer thread.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::acknowledged::{self, Acknowledged, Found};
use super::commit::{Committer, Sink};
use super::folder::{self, LOCK_PATIENCE};
use super::parts::{Splitter, Writes};
use super::tree::{FailFlag, Tree};
use super::txn::Txn;
use super::{error, export, keys, log_scan, quiet};
use crate::StoreError;
use crate::options::{Durability, StoreOptions};
use crate::space::Space;

/// Name of the file inside the store's folder that is locked while a process uses the store.
const LOCK_FILE: &str = "lock";

/// An open database.
pub(crate) struct Opened {
    pub(crate) committer: Committer,
    pub(crate) tree: Tree,
    /// Held while the database is open.
    pub(crate) lock: File,
}

/// Opens the database of a store's folder, and creates missing parts.
///
/// # Errors
///
/// Those of [`crate::Store::open`], except the ones about its format.
pub(crate) fn open(path: &Path, options: &StoreOptions) -> Result<Opened, StoreError> {
    let open_error = |source: io::Error| StoreError::Open { path: path.to_owned(), source };
    folder::make_dirs(path).map_err(open_error)?;
    open_locked(path, locked(path, options.lock_wait.max(LOCK_PATIENCE))?, options)
}

/// [`open`] where that neither makes nor converts anything, and waits for nobody. `None` otherwise; nothing has
/// changed then.
pub(crate) fn open_as_it_is(path: &Path, options: &StoreOptions) -> Option<Result<Opened, StoreError>> {
    if !folder::is_settled(path) {
        return None;
    }
    let lock = locked(path, Duration::ZERO).ok()?;
    // Another process may just have let go of it.
    folder::is_settled(path).then(|| open_locked(path, lock, options))
}

fn open_locked(path: &Path, lock: File, options: &StoreOptions) -> Result<Opened, StoreError> {
    let open_error = |source: io::Error| StoreError::Open { path: path.to_owned(), source };
    if path.join(export::IMPORTING_FILE).exists() {
        return Err(StoreError::HalfImported { path: path.to_owned() });
    }
    let (db, seen_in_log) = folder::open(path, options)?;
    let acknowledged = check_last_batch(path, &db, seen_in_log)?;
    let failed = FailFlag::default();
    let tree = Tree::new((*db).clone(), failed.clone());
    let disk = match options.durability {
        Durability::Process => None,
        Durability::Disk => {
            let file = File::open(folder::database(path).join("db")).map_err(open_error)?;
            Some((file, folder::Blobs::new(path)))
        }
    };
    let splitter = Splitter::new((*db).clone()).map_err(error::engine_io).map_err(open_error)?;
    let sink = sink((*db).clone(), splitter, disk, acknowledged, failed);
    let space = Arc::new(Space::of_folder(path, options.disk_reserve_bytes));
    let txn = Txn::new(tree.clone());
    let committer =
        Committer::start(txn, sink, space, options.batch_max, options.queue_max).map_err(open_error)?;
    Ok(Opened { committer, tree, lock })
}

/// Takes the lock of a store's folder, waiting for it for a while.
///
/// # Errors
///
/// [`StoreError::Locked`], [`StoreError::Open`].
pub(crate) fn locked(path: &Path, patience: Duration) -> Result<File, StoreError> {
    let open_error = |source: io::Error| StoreError::Open { path: path.to_owned(), source };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join(LOCK_FILE))
        .map_err(open_error)?;
    lock_patiently(patience, || file.try_lock()).map_err(|error| match error {
        TryLockError::WouldBlock => StoreError::Locked { path: path.to_owned() },
        TryLockError::Error(source) => open_error(source),
    })?;
    Ok(file)
}

/// The number of the last batch in a database; 0 before the first.
fn last_batch(db: &sled::Db) -> Result<u64, StoreError> {
    match db.get(keys::COMMIT).map_err(error::read)? {
        None => Ok(0),
        Some(value) => log_scan::commit_number(&value).ok_or_else(|| StoreError::Record {
            kind: "batch number",
            reason: format!("{} bytes, not a number", value.len()),
        }),
    }
}

/// Refuses a database that ends before an answered batch; returns where later batches are recorded.
fn check_last_batch(
    path: &Path,
    db: &sled::Db,
    seen_in_log: Option<u64>,
) -> Result<(Acknowledged, u64), StoreError> {
    let open_error = |source: io::Error| StoreError::Open { path: path.to_owned(), source };
    let last = last_batch(db)?;
    let (acknowledged, found) = Acknowledged::open(path).map_err(open_error)?;
    let noted = match found {
        Found::UpTo(number) => number,
        Found::Missing => 0,
        Found::Unreadable => {
            let file = path.join(acknowledged::FILE);
            tracing::warn!(file = %file.display(), "the file with the last answered batch is damaged; it is rebuilt");
            0
        }
    };
    // The engine begins a batch only after the previous one is synced.
    let answered = noted.max(seen_in_log.unwrap_or(0).saturating_sub(1));
    let note = |number| {
        acknowledged.note(number)?;
        acknowledged.sync()?;
        folder::sync_dir(path)
    };
    if last < answered {
        // The engine has truncated its log by now, so the number found in it must be kept.
        note(answered).map_err(open_error)?;
        return Err(StoreError::Damaged {
            path: path.to_owned(),
            found: format!(
                "it ends with batch {last}, but batch {answered} was answered; to accept the loss of the changes between \
                 them, delete {}",
                path.join(acknowledged::FILE).display()
            ),
        });
    }
    if noted != last || found != Found::UpTo(last) {
        note(last).map_err(open_error)?;
    }
    Ok((acknowledged, last))
}

/// How the writer thread writes a batch. The first failure closes the tree to readers.
fn sink(
    tree: sled::Tree,
    mut splitter: Splitter,
    mut disk: Option<(File, folder::Blobs)>,
    (acknowledged, mut number): (Acknowledged, u64),
    failed: FailFlag,
) -> Sink {
    let mut write = move |writes: Writes| -> io::Result<()> {
        let mut batch = splitter.batch(writes).map_err(error::engine_io)?;
        number += 1;
        batch.insert(keys::COMMIT, &log_scan::commit_value(number));
        tree.apply_batch(batch).map_err(error::engine_io)?;
        tree.flush().map_err(error::engine_io)?;
        if let Some((log, blobs)) = &mut disk {
            blobs.sync()?;
            log.sync_data()?;
            acknowledged.note(number)?;
        }
        Ok(())
    };
    Box::new(move |writes| {
        let written = quiet::quietly(|| std::panic::catch_unwind(AssertUnwindSafe(|| write(writes))));
        let written = written.unwrap_or_else(|panic| {
            Err(quiet::io_error(&*panic)
                .unwrap_or_else(|| io::Error::other("the engine stopped during a write")))
        });
        if written.is_err() {
            failed.raise();
        }
        written
    })
}

/// Retries while a lock is held, for so long.
fn lock_patiently<T>(
    patience: Duration,
    attempt: impl Fn() -> Result<T, TryLockError>,
) -> Result<T, TryLockError> {
    let start = Instant::now();
    let mut told = false;
    loop {
        match attempt() {
            Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                if !told && start.elapsed() >= LOCK_PATIENCE {
                    tracing::info!(longest = ?patience, "another process uses the store; waiting for it");
                    told = true;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}
