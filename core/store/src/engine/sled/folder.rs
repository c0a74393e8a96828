//! The store's folder: creating, opening and converting its database.
//!
//! | name | content |
//! |---|---|
//! | `lock` | locked while a process uses the store |
//! | `sled` | the database |
//! | `sled.new` | a database under construction; opening removes it |
//! | `sled.old` | the database being replaced by `sled.new` |
//! | `acknowledged` | the last answered batch (see `acknowledged`) |
//! | `importing` | marks an unfinished import |
//!
//! Invariants: only the holder of the lock calls this. A database has its final name only when it is complete and
//! synced. No database of this version has files in `blobs/`, because the engine never syncs those.
//!
//! **Segment size:** the engine writes a node larger than a quarter of a segment to a file of its own without syncing
//! it, so a power cut loses it. Its nodes are bounded by the number of their entries only: a leaf has at most 17 after
//! a change and 20 after a merge, an index 257 keys. With 24 entries of [`PART_BYTES`], or 257 keys of
//! [`KEY_BYTES_MAX`], they stay below a quarter of [`SEGMENT_BYTES`]. A larger segment would make starts slower: after
//! a crash the engine reads the last segment twice, fills the rest of it with zeros and syncs them. Databases of the
//! version before, with 4 MiB for unsplit records, are used as they are.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use sled::IVec;

use crate::StoreError;
use crate::engine::sled::garbage::Garbage;
use crate::engine::sled::parts::{PART_BYTES, PARTS, Splitter};
use crate::engine::sled::{acknowledged, error, keys, log_scan, quiet};
use crate::options::StoreOptions;

/// Bytes the engine allocates and writes at a time. Fixed when a database is created.
pub(crate) const SEGMENT_BYTES: usize = 1024 * 1024;
/// Segment sizes that no record of this version or the one before exceeds a quarter of.
const SEGMENT_BYTES_FIT: [usize; 2] = [SEGMENT_BYTES, 4 * 1024 * 1024];
/// Segment size of versions before those. Their databases are converted.
const SEGMENT_BYTES_BEFORE: usize = 512 * 1024;
/// Bytes of key and value of one record. A change that writes a longer record fails.
pub(crate) const RECORD_BYTES_MAX: usize = 40 * 1024;
/// Bytes of one key. A change that writes a longer key fails.
pub(crate) const KEY_BYTES_MAX: usize = 900;
/// What the engine adds to an entry and to a node.
const ENTRY_ROOM: usize = 16;
const NODE_ROOM: usize = 16 * 1024;
const _: () = assert!(24 * (PART_BYTES + KEY_BYTES_MAX + ENTRY_ROOM) + NODE_ROOM < SEGMENT_BYTES / 4);
const _: () = assert!(257 * (KEY_BYTES_MAX + ENTRY_ROOM) + NODE_ROOM < SEGMENT_BYTES / 4);

const DATABASE: &str = "sled";
const DATABASE_NEW: &str = "sled.new";
const DATABASE_OLD: &str = "sled.old";

/// Records copied in one batch, and their bytes.
const COPY_RECORDS_MAX: usize = 1000;
const COPY_BYTES_MAX: usize = 1024 * 1024;
/// Records between two progress messages of a conversion.
const COPY_REPORT: u64 = 250_000;

/// How long opening waits for a folder's locks at least. The engine's background jobs hold its own for some
/// milliseconds after the last handle is dropped, and a starting child process holds a copy of every lock.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_millis(300);

/// How long a replacement waits for the engine's last background work.
pub(crate) const CLOSE_PATIENCE: Duration = Duration::from_secs(30);

/// Opens the database of a folder whose lock is held. Creates it, converts it, or finishes what a power cut
/// interrupted. Also returns the largest batch number in its log before the engine replayed it.
///
/// # Errors
///
/// [`StoreError::Locked`], [`StoreError::Damaged`], [`StoreError::Open`].
pub(crate) fn open(folder: &Path, options: &StoreOptions) -> Result<(sled::Db, Option<u64>), StoreError> {
    let open_error = |source: io::Error| StoreError::Open { path: folder.to_owned(), source };
    let damaged = |found: String| StoreError::Damaged { path: folder.to_owned(), found };
    let database = folder.join(DATABASE);
    settle(folder).map_err(open_error)?;
    if !database.exists() {
        make(&folder.join(DATABASE_NEW)).map_err(open_error)?;
        adopt(folder).map_err(open_error)?;
    }
    remove_unfinished_snapshots(&database).map_err(open_error)?;
    let (segment_bytes, last_batch) = match layout(&database).map_err(open_error)? {
        Layout::Fits(segment_bytes) => {
            let scan = log_scan::scan(&database, segment_bytes).map_err(open_error)?;
            if let Some(found) = scan.damage {
                return Err(damaged(found));
            }
            (segment_bytes, scan.last_batch)
        }
        Layout::Before => {
            convert(folder, options)?;
            (SEGMENT_BYTES, None)
        }
        Layout::Unknown => {
            return Err(damaged(format!(
                "{} was not written by the engine",
                database.join("conf").display()
            )));
        }
    };
    let db = open_database(folder, &database, segment_bytes, options)?;
    // The engine renames its snapshot without syncing the folder.
    sync_dir(&database).and_then(|()| sync_dir(folder)).map_err(open_error)?;
    Ok((db, last_batch))
}

/// Whether a store's folder has a database that is used as it is, and no replacement of it was interrupted.
pub(crate) fn is_settled(folder: &Path) -> bool {
    let [database, new, old] = [DATABASE, DATABASE_NEW, DATABASE_OLD].map(|name| folder.join(name));
    let fits = fs::read(database.join("conf")).is_ok_and(|settings| fitting(&settings).is_some());
    fits && !new.exists() && !old.exists()
}

/// The database of a store's folder.
pub(crate) fn database(folder: &Path) -> PathBuf {
    folder.join(DATABASE)
}

/// Creates a database, lets `fill` fill it, and gives it its final name once it is synced and `before_named` is done.
/// Returns the number of records.
///
/// # Errors
///
/// Those of the engine, of `fill` and of `before_named`; the folder then has no database.
pub(crate) fn build(
    folder: &Path,
    fill: impl FnOnce(&mut Copy<'_>) -> io::Result<()>,
    before_named: impl FnOnce() -> io::Result<()>,
) -> io::Result<u64> {
    let new = folder.join(DATABASE_NEW);
    make(&new)?;
    let db = engine(&new, SEGMENT_BYTES, StoreOptions::default().engine_cache_bytes(), LOCK_PATIENCE)
        .map_err(Fault::into_io)?;
    let mut copy = Copy::new(&db)?;
    fill(&mut copy)?;
    copy.finish()?;
    let records = db.range::<&[u8], _>(..PARTS).count() as u64;
    drop(db);
    sync_tree(&new)?;
    before_named()?;
    adopt(folder)?;
    Ok(records)
}

/// Puts the database of another folder in the place of this one's. The locks of both folders are held, and this one's
/// database is given up. A crash leaves one of the two, whole.
///
/// # Errors
///
/// Those of the disk; the database of this folder is then as it was. [`ErrorKind::WouldBlock`] when the engine does not
/// let go of one of them.
pub(crate) fn replace(folder: &Path, from: &Path) -> io::Result<()> {
    let [database, new, old] = [DATABASE, DATABASE_NEW, DATABASE_OLD].map(|name| folder.join(name));
    for database in [&database, &from.join(DATABASE)] {
        wait_until_closed(database)?;
    }
    sync_tree(&from.join(DATABASE))?;
    // It counts the batches of the database that goes.
    match fs::remove_file(folder.join(acknowledged::FILE)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => sync_dir(folder)?,
    }
    fs::rename(from.join(DATABASE), &new)?;
    sync_dir(folder)?;
    fs::rename(&database, &old)?;
    sync_dir(folder)?;
    adopt(folder)?;
    fs::remove_dir_all(&old)?;
    sync_dir(folder)
}

/// Waits until the engine has let go of a database, which it does a moment after its last handle is gone.
fn wait_until_closed(database: &Path) -> io::Result<()> {
    let file = File::open(database.join("db"))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if start.elapsed() < CLOSE_PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Finishes or rolls back an interrupted replacement, and removes incomplete databases.
fn settle(folder: &Path) -> io::Result<()> {
    let [database, new, old] = [DATABASE, DATABASE_NEW, DATABASE_OLD].map(|name| folder.join(name));
    if !database.exists() && old.exists() {
        // The old database is moved away only after the new one is synced.
        let whole = if new.exists() { &new } else { &old };
        fs::rename(whole, &database)?;
        sync_dir(folder)?;
    }
    for leftover in [new, old] {
        if leftover.exists() {
            fs::remove_dir_all(&leftover)?;
            sync_dir(folder)?;
        }
    }
    Ok(())
}

/// Gives the new database its final name.
fn adopt(folder: &Path) -> io::Result<()> {
    fs::rename(folder.join(DATABASE_NEW), folder.join(DATABASE))?;
    sync_dir(folder)
}

/// Creates an empty database. The engine would write its settings without a sync, and a power cut could lose them.
fn make(database: &Path) -> io::Result<()> {
    fs::create_dir(database)?;
    fs::create_dir(database.join("blobs"))?;
    let mut settings = File::create_new(database.join("conf"))?;
    settings.write_all(&settings_of(SEGMENT_BYTES))?;
    settings.sync_all()?;
    File::create_new(database.join("db"))?.sync_all()?;
    sync_dir(database)
}

/// The engine's settings file.
fn settings_of(segment_bytes: usize) -> Vec<u8> {
    let mut text =
        format!("segment_size: {segment_bytes}\nuse_compression: false\nversion: 0.34\n").into_bytes();
    let crc = crc32fast::hash(&text);
    text.extend_from_slice(&crc.to_le_bytes());
    text
}

/// The segment size in a database's settings, when the database is used as it is.
fn fitting(settings: &[u8]) -> Option<usize> {
    SEGMENT_BYTES_FIT.into_iter().find(|segment_bytes| settings == settings_of(*segment_bytes))
}

enum Layout {
    /// Used as it is, with this segment size.
    Fits(usize),
    Before,
    Unknown,
}

fn layout(database: &Path) -> io::Result<Layout> {
    let path = database.join("conf");
    let settings = match fs::read(&path) {
        Ok(settings) => settings,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    if let Some(segment_bytes) = fitting(&settings) {
        return Ok(Layout::Fits(segment_bytes));
    }
    if settings == settings_of(SEGMENT_BYTES_BEFORE) {
        return Ok(Layout::Before);
    }
    let data = match fs::metadata(database.join("db")) {
        Ok(data) => data.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    if data > 0 {
        return Ok(Layout::Unknown);
    }
    // An older version's first start was interrupted before it stored anything.
    fs::create_dir_all(database.join("blobs"))?;
    let mut file = File::create(&path)?;
    file.write_all(&settings_of(SEGMENT_BYTES))?;
    file.sync_all()?;
    sync_dir(database)?;
    Ok(Layout::Fits(SEGMENT_BYTES))
}

/// Removes snapshots that were incomplete when the process ended; the engine would take them for the newest.
fn remove_unfinished_snapshots(database: &Path) -> io::Result<()> {
    for entry in fs::read_dir(database)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("snap.") && name.ends_with(".generating")) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Copies a database of an older version into one with today's segment size.
fn convert(folder: &Path, options: &StoreOptions) -> Result<(), StoreError> {
    let open_error = |source: io::Error| StoreError::Open { path: folder.to_owned(), source };
    let [database, new, old] = [DATABASE, DATABASE_NEW, DATABASE_OLD].map(|name| folder.join(name));
    tracing::info!(store.folder = %folder.display(), "converting the store; this happens once");
    let from = open_database(folder, &database, SEGMENT_BYTES_BEFORE, options)?;
    let is_ours = from.is_empty() || from.contains_key(keys::FORMAT).map_err(error::read)?;
    if !is_ours {
        return Err(StoreError::Foreign { path: folder.to_owned() });
    }
    make(&new).map_err(open_error)?;
    let to = open_database(folder, &new, SEGMENT_BYTES, options)?;
    let mut copy = Copy::new(&to).map_err(open_error)?;
    for entry in from.iter() {
        let (key, value) = entry.map_err(error::engine_io).map_err(open_error)?;
        copy.put(&key, &value).map_err(open_error)?;
        if copy.records.is_multiple_of(COPY_REPORT) {
            tracing::info!(records = copy.records, "converting the store");
        }
    }
    let records = copy.finish().map_err(open_error)?;
    drop((from, to));
    let replace = || {
        sync_tree(&new)?;
        sync_dir(folder)?;
        fs::rename(&database, &old)?;
        sync_dir(folder)?;
        adopt(folder)?;
        fs::remove_dir_all(&old)?;
        sync_dir(folder)
    };
    replace().map_err(open_error)?;
    tracing::info!(records, "converted the store");
    Ok(())
}

/// Fills a database in batches of a bounded size. Keys come in ascending order, and may then come so once more.
pub(crate) struct Copy<'a> {
    db: &'a sled::Db,
    splitter: Splitter,
    batch: sled::Batch,
    last: IVec,
    gathered: usize,
    bytes: usize,
    pub(crate) records: u64,
    garbage: Garbage,
}

impl<'a> Copy<'a> {
    pub(crate) fn new(db: &'a sled::Db) -> io::Result<Self> {
        let (splitter, garbage) =
            (Splitter::new((**db).clone()).map_err(error::engine_io)?, Garbage::default());
        let (batch, last) = (sled::Batch::default(), IVec::default());
        Ok(Copy { db, splitter, batch, last, gathered: 0, bytes: 0, records: 0, garbage })
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.records += 1;
        self.entry(key, Some(value))
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> io::Result<()> {
        self.entry(key, None)
    }

    fn entry(&mut self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        if *key <= *self.last {
            // What is replaced may be in the batch.
            self.write()?;
        }
        self.last = key.into();
        self.splitter.write(&mut self.batch, key.into(), value.map(IVec::from)).map_err(error::engine_io)?;
        self.gathered += 1;
        self.bytes += key.len() + value.map_or(0, <[u8]>::len);
        if self.gathered >= COPY_RECORDS_MAX || self.bytes >= COPY_BYTES_MAX {
            self.write()?;
        }
        Ok(())
    }

    /// Writes the rest and flushes; returns the number of records.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.write()?;
        self.db.flush().map_err(error::engine_io)?;
        Ok(self.records)
    }

    fn write(&mut self) -> io::Result<()> {
        let writes = std::mem::take(&mut self.gathered);
        self.bytes = 0;
        self.db.apply_batch(std::mem::take(&mut self.batch)).map_err(error::engine_io)?;
        self.garbage.left_by(writes);
        Ok(())
    }
}

/// Why the engine did not open a database.
enum Fault {
    Locked,
    /// The engine panicked, or reports damaged data.
    Damaged(String),
    Io(io::Error),
}

impl Fault {
    fn into_io(self) -> io::Error {
        match self {
            Fault::Locked => io::Error::new(ErrorKind::WouldBlock, "the database is in use"),
            Fault::Damaged(found) => io::Error::new(ErrorKind::InvalidData, found),
            Fault::Io(error) => error,
        }
    }
}

fn open_database(
    folder: &Path,
    database: &Path,
    segment_bytes: usize,
    options: &StoreOptions,
) -> Result<sled::Db, StoreError> {
    let patience = options.lock_wait.max(LOCK_PATIENCE);
    engine(database, segment_bytes, options.engine_cache_bytes(), patience).map_err(|fault| match fault {
        Fault::Locked => StoreError::Locked { path: folder.to_owned() },
        Fault::Damaged(found) => StoreError::Damaged { path: folder.to_owned(), found },
        Fault::Io(source) => StoreError::Open { path: folder.to_owned(), source },
    })
}

/// Opens the engine, which panics on some kinds of damage and on some disk errors.
fn engine(
    database: &Path,
    segment_bytes: usize,
    cache_bytes: u64,
    patience: Duration,
) -> Result<sled::Db, Fault> {
    let start = Instant::now();
    loop {
        let opened = quiet::quietly(|| {
            catch_unwind(AssertUnwindSafe(|| {
                sled::Config::new()
                    .path(database)
                    .cache_capacity(cache_bytes)
                    .segment_size(segment_bytes)
                    // The writer thread flushes. The engine's own flusher would stop forever at its first error.
                    .flush_every_ms(None)
                    .open()
            }))
        });
        match opened {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(sled::Error::Corruption { .. })) => {
                return Err(Fault::Damaged("the engine cannot read its own data".to_owned()));
            }
            Ok(Err(error)) if !is_locked(&error) => return Err(Fault::Io(error::engine_io(error))),
            Ok(Err(_)) if start.elapsed() >= patience => return Err(Fault::Locked),
            Ok(Err(_)) => std::thread::sleep(Duration::from_millis(5)),
            Err(panic) => {
                return Err(quiet::io_error(&*panic).map_or_else(
                    || Fault::Damaged("the engine found data that it cannot have written".to_owned()),
                    Fault::Io,
                ));
            }
        }
    }
}

/// The engine has no error variant for this, only its own text around the system's.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock"))
}

/// Detects files that the engine wrote for oversized nodes without a sync. Records of this version never cause one; a
/// record that an older version stored or exported can.
pub(crate) struct Blobs {
    folder: PathBuf,
    /// The open folder: every batch asks for its time, and a path would be walked each time.
    handle: Option<File>,
    seen: Option<SystemTime>,
}

impl Blobs {
    pub(crate) fn new(folder: &Path) -> Blobs {
        let folder = folder.join(DATABASE).join("blobs");
        let handle = File::open(&folder).ok();
        let seen = handle.as_ref().and_then(modified);
        Blobs { folder, handle, seen }
    }

    /// Syncs the files that appeared since the last call.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let now = self.handle.as_ref().and_then(modified);
        if now == self.seen && now.is_some() {
            return Ok(());
        }
        sync_tree(&self.folder)?;
        self.seen = now;
        Ok(())
    }
}

fn modified(folder: &File) -> Option<SystemTime> {
    folder.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// Syncs a folder, and every file and folder below it.
fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            match File::open(entry.path()) {
                Ok(file) => file.sync_all()?,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    sync_dir(folder)
}

/// Creates a folder and its parents, and syncs their names.
pub(crate) fn make_dirs(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(path)?;
    for folder in missing.into_iter().filter(|folder| !folder.as_os_str().is_empty()) {
        sync_dir(parent(folder))?;
    }
    Ok(())
}

/// The folder that holds another folder's name.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs the names in a folder.
pub(crate) fn sync_dir(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_in_use_is_waited_for_and_then_called_locked() {
        let dir = tempfile::tempdir().unwrap();
        let open = || engine(dir.path(), SEGMENT_BYTES, 1 << 20, LOCK_PATIENCE);
        let first = open().map_err(Fault::into_io).unwrap();
        let start = Instant::now();
        assert!(matches!(open(), Err(Fault::Locked)));
        assert!(start.elapsed() >= LOCK_PATIENCE);
        drop(first);
        // The engine lets go a moment later.
        while matches!(open(), Err(Fault::Locked)) {}
    }
}
