//! Notices that plugins or single files changed.
//!
//! Whatever the system reports, the answer is the same: wait until it is quiet, look at everything that is watched, and
//! compare contents. So a lost or doubled event, a rename over a file, a symbolic link that turns elsewhere and an
//! overflow of the event queue need no case of their own, and a touch without a change is no change of a plugin; of a
//! single file it is reported as what it is. A plugin that is being written is reported once, when its writer closed it
//! or was silent for [`WatchTimes::still`]: a slow copy is one change. Files are watched through their folder, because
//! an editor replaces the file itself. Contents are only read when size, time or identity changed, and only of regular
//! files, up to `HASH_BYTES_MAX` and for `READ_TIME_MAX`; of a larger file size and time stand for the contents. A slow
//! look every [`WatchTimes::poll`] covers file systems that report nothing.
//! A file or a folder that does not answer, such as a link into a dead network file system, is given up after
//! `READ_TIME_MAX` and reported once. It counts as unchanged until it answers, and the others are looked at.
//!
//! Not here: whether what changed is usable (see `registry`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind};
use notify::{RecursiveMode, Watcher as _};

use crate::file::{self, Reader};

/// No event for this long means that the writer is done.
const QUIET_TIME: Duration = Duration::from_millis(50);
/// Somebody who never stops writing is looked at this often anyway.
const QUIET_TIME_MAX: Duration = Duration::from_secs(1);
/// How long a file may take to be looked at, and to be read.
const READ_TIME_MAX: Duration = Duration::from_secs(2);
/// Bytes of a file whose contents are compared.
const HASH_BYTES_MAX: u64 = 64 << 20;
/// Changes that wait for the embedder. With more the watcher waits, and what happens meanwhile becomes one change.
const CHANGES_MAX: usize = 16;
/// Plugins in one folder that are looked at.
const FILES_MAX: usize = 1024;

/// What to watch.
#[derive(Clone, Debug, Default)]
pub struct WatchPaths {
    /// Folders whose `*.wasm` files are plugins; not their subfolders.
    pub dirs: Vec<PathBuf>,
    /// Single files. They need not exist, their folders must.
    pub files: Vec<PathBuf>,
    /// How long it waits.
    pub times: WatchTimes,
}

/// How long a watcher waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchTimes {
    /// A writer that neither writes nor closes its file for this long is done, or gone. Default 2 s.
    pub still: Duration,
    /// Everything is looked at this often without an event. Default 5 s.
    pub poll: Duration,
}

impl Default for WatchTimes {
    fn default() -> WatchTimes {
        WatchTimes { still: Duration::from_secs(2), poll: Duration::from_secs(5) }
    }
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Plugins that are new, have other contents, or are gone; in alphabetical order.
    Plugins(Vec<PathBuf>),
    /// A single file that is new, has other contents, or is gone.
    File(PathBuf),
    /// A single file was saved again as it was, or touched.
    Same(PathBuf),
}

/// Why nothing is watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// A folder cannot be watched.
    #[error("folder {path:?} cannot be watched: {reason}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The system has no more watches or threads.
    #[error("watching: {0}")]
    System(String),
}

/// Watches until it is dropped.
pub struct Watcher {
    /// Ends the thread by closing its channel.
    _notify: notify::RecommendedWatcher,
    wake: SyncSender<Signal>,
}

enum Signal {
    Look,
    Stop,
}

impl Watcher {
    /// Starts watching; the contents that are there now are the known state.
    ///
    /// # Errors
    /// A folder does not exist or the system refuses to watch it.
    pub fn new(paths: WatchPaths) -> Result<(Watcher, tokio::sync::mpsc::Receiver<Change>), WatchError> {
        // One place is enough: a look that is already asked for sees everything.
        let (wake, woken) = sync_channel(1);
        let signal = wake.clone();
        let writers = Writers::default();
        let noted = writers.clone();
        let on_event = move |event: notify::Result<notify::Event>| {
            if let Ok(event) = &event {
                noted.note(event);
            }
            // Reading a file must not look like a change of it: the look itself would cause the next one.
            let reading = matches!(
                event.as_ref().map(|e| &e.kind),
                Ok(EventKind::Access(kind)) if *kind != AccessKind::Close(AccessMode::Write)
            );
            if !reading {
                let _ = signal.try_send(Signal::Look);
            }
        };
        let mut notify =
            notify::recommended_watcher(on_event).map_err(|e| WatchError::System(e.to_string()))?;
        let reader = Reader::new(READ_TIME_MAX);
        for folder in folders(&paths) {
            let failed = |reason: String| WatchError::Folder { path: folder.clone(), reason };
            match reader.wait(&folder, |folder| Ok(folder.is_dir())) {
                Ok(true) => {}
                Ok(false) => return Err(failed("not a folder".to_owned())),
                Err(error) => return Err(failed(error.to_string())),
            }
            notify.watch(&folder, RecursiveMode::NonRecursive).map_err(|e| failed(e.to_string()))?;
        }
        let mut seen = Seen::new(writers, paths.times.still, reader, Arc::new(Mark::of));
        seen.look(&paths);
        let (changes, receiver) = tokio::sync::mpsc::channel(CHANGES_MAX);
        let run = move || watch(&paths, &mut seen, &woken, &changes);
        std::thread::Builder::new()
            .name("plugin-watch".to_owned())
            .spawn(run)
            .map_err(|e| WatchError::System(e.to_string()))?;
        Ok((Watcher { _notify: notify, wake }, receiver))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // When the place is taken the thread is about to look, and then finds the embedder's end closed or polls.
        let _ = self.wake.try_send(Signal::Stop);
    }
}

fn folders(paths: &WatchPaths) -> BTreeSet<PathBuf> {
    let parent = |file: &PathBuf| match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    paths.dirs.iter().cloned().chain(paths.files.iter().map(parent)).collect()
}

fn watch(
    paths: &WatchPaths,
    seen: &mut Seen,
    woken: &Receiver<Signal>,
    changes: &tokio::sync::mpsc::Sender<Change>,
) {
    loop {
        // Somebody who writes is looked at again as soon as they may be done.
        let WatchTimes { still, poll } = paths.times;
        let wait = if seen.writers.any() { poll.min(still / 4) } else { poll };
        match woken.recv_timeout(wait) {
            Ok(Signal::Look) => {
                if !quiet(woken) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        }
        if changes.is_closed() {
            return;
        }
        for change in seen.look(paths) {
            if changes.blocking_send(change).is_err() {
                return;
            }
        }
    }
}

/// Waits until no event comes any more. False when the watcher was dropped.
fn quiet(woken: &Receiver<Signal>) -> bool {
    let since = Instant::now();
    while since.elapsed() < QUIET_TIME_MAX {
        match woken.recv_timeout(QUIET_TIME) {
            Ok(Signal::Look) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
    true
}

/// What tells without reading that a file is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    bytes: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    identity: (u64, u64, i64, i64),
}

impl Mark {
    /// The mark of a regular file, links followed. May wait for the file system.
    fn of(path: &Path) -> Option<Mark> {
        let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Mark {
            bytes: meta.len(),
            modified: meta.modified().ok(),
            #[cfg(unix)]
            identity: {
                use std::os::unix::fs::MetadataExt;
                (meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec())
            },
        })
    }
}

/// Files that somebody has begun to write and not closed, with the time of the last sign of it.
#[derive(Clone, Default)]
struct Writers(Arc<Mutex<BTreeMap<PathBuf, Instant>>>);

impl Writers {
    fn note(&self, event: &notify::Event) {
        let mut writing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                for path in &event.paths {
                    writing.remove(path);
                }
            }
            EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Data(_)) => {
                // A link is made at once; nobody writes it.
                let is_file = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
                for path in event.paths.iter().filter(|path| is_plugin(path) && is_file(path)) {
                    if writing.len() < FILES_MAX {
                        writing.insert(path.clone(), Instant::now());
                    }
                }
            }
            _ => {}
        }
    }

    fn any(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether somebody is writing the file. Forgets writers that did nothing for `still`.
    fn is_writing(&self, path: &Path, still: Duration) -> bool {
        let mut writing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writing.retain(|_, last| last.elapsed() < still);
        writing.contains_key(path)
    }
}

fn is_plugin(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "wasm")
}

type Known = BTreeMap<PathBuf, (Mark, blake3::Hash)>;

type Stat = Arc<dyn Fn(&Path) -> Option<Mark> + Send + Sync>;

/// What a look finds at a path.
enum Found {
    File(Mark),
    /// No regular file.
    Nothing,
    /// The system does not answer.
    Silence,
}

/// The known contents, by file.
struct Seen {
    plugins: Known,
    files: Known,
    writers: Writers,
    still: Duration,
    reader: Reader,
    stat: Stat,
    /// Paths that did not answer at the last look.
    silent: BTreeSet<PathBuf>,
}

impl Seen {
    fn new(writers: Writers, still: Duration, reader: Reader, stat: Stat) -> Seen {
        let silent = BTreeSet::new();
        Seen { plugins: Known::new(), files: Known::new(), writers, still, reader, stat, silent }
    }

    /// Looks at everything and returns what is different from the last look.
    fn look(&mut self, paths: &WatchPaths) -> Vec<Change> {
        let plugins = self.list(&paths.dirs);
        let plugins = self.find(&plugins);
        let files = self.find(&paths.files);
        let mut out = Vec::new();
        let is_writing = |path: &Path| self.writers.is_writing(path, self.still);
        let (changed, _) = compare(&mut self.plugins, &plugins, &self.reader, is_writing);
        if !changed.is_empty() {
            out.push(Change::Plugins(changed));
        }
        let (changed, same) = compare(&mut self.files, &files, &self.reader, |_| false);
        out.extend(changed.into_iter().map(Change::File));
        out.extend(same.into_iter().map(Change::Same));
        out
    }

    /// The plugins in the folders; of one that does not answer those that are known.
    fn list(&mut self, dirs: &[PathBuf]) -> Vec<PathBuf> {
        let mut plugins = Vec::new();
        let listed = self.reader.wait_all(dirs, |dir| Ok(plugins_in(dir)));
        for (dir, listed) in dirs.iter().zip(listed) {
            match self.answered(dir, listed) {
                Some(listed) => plugins.extend(listed),
                None => {
                    plugins.extend(
                        self.plugins.keys().filter(|path| path.parent() == Some(dir.as_path())).cloned(),
                    );
                }
            }
        }
        plugins
    }

    /// Looks at each path, at many of them at once.
    fn find(&mut self, paths: &[PathBuf]) -> BTreeMap<PathBuf, Found> {
        let stat = Arc::clone(&self.stat);
        let found = self.reader.wait_all(paths, move |path| Ok(stat(path)));
        let found = paths.iter().zip(found).map(|(path, found)| {
            let found = match self.answered(path, found) {
                Some(Some(mark)) => Found::File(mark),
                Some(None) => Found::Nothing,
                None => Found::Silence,
            };
            (path.clone(), found)
        });
        found.collect()
    }

    /// Takes an answer; reports a path when it falls silent and when it answers again.
    fn answered<T>(&mut self, path: &Path, answer: io::Result<T>) -> Option<T> {
        match answer {
            Ok(answer) => {
                if self.silent.remove(path) {
                    tracing::info!(path = %path.display(), "watched path answers again");
                }
                Some(answer)
            }
            Err(error) => {
                if self.silent.insert(path.to_owned()) {
                    tracing::warn!(
                        path = %path.display(),
                        %error,
                        "watched path does not answer; changes of it are not seen until it does"
                    );
                }
                None
            }
        }
    }
}

/// The plugins in a folder; none when it cannot be read.
pub(crate) fn plugins_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_plugin(path))
        .take(FILES_MAX)
        .collect()
}

/// The files whose contents changed, and those that were only written again.
fn compare(
    known: &mut Known,
    found: &BTreeMap<PathBuf, Found>,
    reader: &Reader,
    is_writing: impl Fn(&Path) -> bool,
) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut changed, mut same) = (BTreeSet::new(), Vec::new());
    for (path, found) in found {
        let Found::File(mark) = found else { continue };
        if known.get(path).is_some_and(|(old, _)| old == mark) || is_writing(path) {
            continue;
        }
        // The mark is older than the contents: a write in between shows at the next look.
        let Ok(hash) = content_hash(path, mark, reader) else { continue };
        let old = known.insert(path.clone(), (mark.clone(), hash));
        match old {
            Some((_, old)) if old == hash => same.push(path.clone()),
            _ => drop(changed.insert(path.clone())),
        }
    }
    known.retain(|path, _| {
        let there = matches!(found.get(path), Some(Found::File(_) | Found::Silence));
        if !there {
            changed.insert(path.clone());
        }
        there
    });
    (changed.into_iter().collect(), same)
}

fn content_hash(path: &Path, mark: &Mark, reader: &Reader) -> io::Result<blake3::Hash> {
    if mark.bytes > HASH_BYTES_MAX {
        return Ok(blake3::hash(format!("{mark:?}").as_bytes()));
    }
    reader.wait(path, |path| {
        let mut hasher = blake3::Hasher::new();
        io::copy(&mut io::Read::take(file::open_regular(path)?, HASH_BYTES_MAX), &mut hasher)?;
        Ok(hasher.finalize())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use super::*;

    /// Lets callers through when it is open.
    #[derive(Default)]
    struct Gate {
        is_open: Mutex<bool>,
        turned: Condvar,
    }

    impl Gate {
        fn turn(&self, open: bool) {
            *self.is_open.lock().expect("no panic") = open;
            self.turned.notify_all();
        }

        fn pass(&self) {
            let is_open = self.is_open.lock().expect("no panic");
            drop(self.turned.wait_while(is_open, |is_open| !*is_open).expect("no panic"));
        }
    }

    #[test]
    fn a_file_that_does_not_answer_is_given_up_and_the_others_are_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["a.wasm", "hangs.wasm", "config.toml"] {
            fs::write(path(name), "one").expect("writable");
        }
        let paths = WatchPaths {
            dirs: vec![folder.path().to_owned()],
            files: vec![path("config.toml")],
            times: WatchTimes::default(),
        };
        let gate = Arc::new(Gate::default());
        let stat = {
            let gate = Arc::clone(&gate);
            move |path: &Path| {
                if path.ends_with("hangs.wasm") {
                    gate.pass();
                }
                Mark::of(path)
            }
        };
        // Longer than a busy machine pauses; twice so long is waited for the file.
        let reader = Reader::new(Duration::from_secs(1));
        let mut seen = Seen::new(Writers::default(), Duration::ZERO, reader, Arc::new(stat));
        let plugin = |name: &str| Change::Plugins(vec![path(name)]);

        assert_eq!(seen.look(&paths), [plugin("a.wasm"), Change::File(path("config.toml"))]);
        assert_eq!(seen.silent, BTreeSet::from([path("hangs.wasm")]));
        for text in ["two", "three", "four"] {
            fs::write(path("a.wasm"), text).expect("writable");
            assert_eq!(seen.look(&paths), [plugin("a.wasm")]);
        }
        // When it answers it is seen.
        gate.turn(true);
        let first = loop {
            match seen.look(&paths) {
                none if none.is_empty() => std::thread::yield_now(),
                some => break some,
            }
        };
        assert_eq!(first, [plugin("hangs.wasm")]);
        assert!(seen.silent.is_empty());
        // Known and silent is not gone.
        gate.turn(false);
        fs::write(path("config.toml"), "two").expect("writable");
        assert_eq!(seen.look(&paths), [Change::File(path("config.toml"))]);
        gate.turn(true);
        fs::remove_file(path("hangs.wasm")).expect("there");
        let gone = loop {
            match seen.look(&paths) {
                none if none.is_empty() => std::thread::yield_now(),
                some => break some,
            }
        };
        assert_eq!(gone, [plugin("hangs.wasm")]);
    }

    #[test]
    fn the_plugins_of_a_folder_that_does_not_answer_are_not_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("a.wasm"), "one").expect("writable");
        let paths = WatchPaths { dirs: vec![folder.path().to_owned()], ..WatchPaths::default() };
        let reader = Reader::new(Duration::from_secs(60));
        let mut seen = Seen::new(Writers::default(), Duration::ZERO, reader, Arc::new(Mark::of));
        assert_eq!(seen.look(&paths).len(), 1);
        // As many hang as may: the folder is not asked any more.
        let gate = Arc::new(Gate::default());
        let hanging = Reader::new(Duration::from_millis(1));
        for _ in 0..2 {
            let gate = Arc::clone(&gate);
            let hung = hanging.wait(folder.path(), move |_| {
                gate.pass();
                Ok(())
            });
            assert!(hung.is_err());
        }
        seen.reader = hanging.waiting(Duration::from_secs(60));
        assert!(seen.look(&paths).is_empty());
        assert_eq!(seen.silent, BTreeSet::from([folder.path().to_owned()]));
        gate.turn(true);
    }
}
