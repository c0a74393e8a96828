//! Reading files that somebody else puts into a folder: bounded in size and time, and regular files only.
//!
//! A pipe, a device, a file of 20 GiB or a file system that no longer answers must stop nobody. So a file is opened
//! without waiting for a writer, its kind and size are checked on the open file, and the read runs on a thread of its
//! own that the caller stops waiting for. A file whose earlier reads hang is not read again.
//!
//! Not here: what the bytes mean.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Reads of one file that may hang at once. More than one, because a caller that gives up may ask again.
const HANGING_MAX: u32 = 2;
/// Threads of [`Reader::wait_all`] at once.
const TOGETHER_MAX: usize = 32;

/// Reads whole files. Clones share what is known of files that hang.
#[derive(Clone)]
pub struct Reader {
    time_max: Duration,
    running: Arc<Mutex<BTreeMap<PathBuf, u32>>>,
}

impl Reader {
    /// A reader whose callers wait for at most `time_max`.
    pub fn new(time_max: Duration) -> Reader {
        Reader { time_max, running: Arc::default() }
    }

    /// The same reader with another time limit.
    #[cfg(test)]
    pub(crate) fn waiting(&self, time_max: Duration) -> Reader {
        Reader { time_max, running: Arc::clone(&self.running) }
    }

    /// The bytes of a file of at most `bytes_max`.
    ///
    /// # Errors
    /// Those of [`read_regular`]; `TimedOut` when the system does not answer.
    pub async fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let work = move |path: &Path| read_regular(path, bytes_max);
        self.start(path, work, move |bytes| drop(sender.send(bytes)))?;
        match tokio::time::timeout(self.time_max, receiver).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) => Err(io::Error::other("reading stopped")),
            Err(_) => Err(self.late()),
        }
    }

    /// As [`Reader::read`] for a thread that may wait, with any work on the path.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce(&Path) -> io::Result<T> + Clone + Send + 'static,
    ) -> io::Result<T> {
        let mut all = self.wait_all(std::slice::from_ref(&path), work);
        all.pop().unwrap_or_else(|| Err(self.late()))
    }

    /// As [`Reader::wait`] for many paths at once, within one time limit for up to [`TOGETHER_MAX`] of them. The
    /// answers have the order of the paths.
    pub(crate) fn wait_all<T: Send + 'static>(
        &self,
        paths: &[impl AsRef<Path>],
        work: impl FnOnce(&Path) -> io::Result<T> + Clone + Send + 'static,
    ) -> Vec<io::Result<T>> {
        let mut answers = Vec::with_capacity(paths.len());
        for paths in paths.chunks(TOGETHER_MAX) {
            let until = Instant::now() + self.time_max;
            let begin = |path: &Path| {
                let (sender, receiver) = std::sync::mpsc::sync_channel(1);
                self.start(path, work.clone(), move |done| drop(sender.send(done)))?;
                Ok(receiver)
            };
            let begun: Vec<io::Result<_>> = paths.iter().map(|path| begin(path.as_ref())).collect();
            answers.extend(begun.into_iter().map(|begun| {
                let left = until.saturating_duration_since(Instant::now());
                begun?.recv_timeout(left).unwrap_or_else(|_| Err(self.late()))
            }));
        }
        answers
    }

    fn start<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
        done: impl FnOnce(io::Result<T>) + Send + 'static,
    ) -> io::Result<()> {
        let path = path.to_owned();
        let running = Running::enter(&self.running, &path)?;
        // Not a blocking thread of the runtime, whose end would wait for it.
        let run = move || {
            let result = work(&path);
            drop(running);
            done(result);
        };
        std::thread::Builder::new().name("plugin-read".to_owned()).spawn(run).map(drop)
    }

    fn late(&self) -> io::Error {
        let text = format!("reading takes longer than {} s", self.time_max.as_secs_f32());
        io::Error::new(io::ErrorKind::TimedOut, text)
    }
}

/// Counts a read of a file until it is dropped.
struct Running {
    all: Arc<Mutex<BTreeMap<PathBuf, u32>>>,
    path: PathBuf,
}

impl Running {
    fn enter(all: &Arc<Mutex<BTreeMap<PathBuf, u32>>>, path: &Path) -> io::Result<Running> {
        let mut reads = all.lock().unwrap_or_else(PoisonError::into_inner);
        let count = reads.entry(path.to_owned()).or_insert(0);
        if *count >= HANGING_MAX {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "earlier reads of it still hang"));
        }
        *count += 1;
        Ok(Running { all: Arc::clone(all), path: path.to_owned() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut reads = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = reads.get_mut(&self.path) {
            *count -= 1;
            if *count == 0 {
                reads.remove(&self.path);
            }
        }
    }
}

/// Reads a regular file of at most `bytes_max` bytes.
///
/// # Errors
/// Those of the system; `InvalidInput` for what is no regular file; `FileTooLarge`.
pub(crate) fn read_regular(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let found = file.metadata()?.len();
    if found > bytes_max {
        return Err(too_large(found, bytes_max));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found).unwrap_or(0) + 1);
    // One more, because a file may grow while it is read.
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        read if read > bytes_max => Err(too_large(read, bytes_max)),
        _ => Ok(bytes),
    }
}

fn too_large(found: u64, bytes_max: u64) -> io::Error {
    let text = format!("{found} bytes are more than the {bytes_max} that are accepted");
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

/// Opens a regular file and nothing else.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    // Opening a pipe would wait for its writer.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0),
    );
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_the_bound_and_not_above() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.wasm");
        std::fs::write(&path, [7; 100]).expect("writable");
        assert_eq!(read_regular(&path, 100).map(|bytes| bytes.len()).ok(), Some(100));
        let error = read_regular(&path, 99).expect_err("is refused");
        assert_eq!(error.to_string(), "100 bytes are more than the 99 that are accepted");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_pipe_and_a_folder_are_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe.wasm");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        // An hour: the test would hang if the pipe were waited for.
        let reader = Reader::new(Duration::from_secs(3600));
        for path in [pipe.as_path(), folder.path()] {
            let error = reader.read(path, 10).await.expect_err("is no regular file");
            assert_eq!(error.to_string(), "not a regular file", "{path:?}");
        }
    }

    #[test]
    fn a_read_that_hangs_is_left_and_its_file_not_read_again_until_it_ends() {
        let reader = Reader::new(Duration::from_millis(20));
        let path = Path::new("hangs.wasm");
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let hang = || {
            let held = Arc::clone(&held);
            reader.wait(path, move |_| {
                let _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv();
                Ok(())
            })
        };
        for _ in 0..HANGING_MAX {
            assert_eq!(hang().expect_err("hangs").to_string(), "reading takes longer than 0.02 s");
        }
        assert_eq!(hang().expect_err("is refused").to_string(), "earlier reads of it still hang");
        let long = reader.waiting(Duration::from_secs(60));
        assert!(long.wait(Path::new("other.wasm"), |_| Ok(())).is_ok(), "another file is read");
        drop(release);
        while long.wait(path, |_| Ok(())).is_err() {
            std::thread::yield_now();
        }
    }
}
