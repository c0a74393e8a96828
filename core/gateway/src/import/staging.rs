//! All or nothing: an import fills a store beside the empty one, and takes its place with one rename.
//!
//! Everything is built in [`FOLDER`] inside the data folder. In the end the files move to `uploads/`, or are copied to
//! the bucket, and then the store takes the place of the empty one, or fills the empty database in one transaction,
//! which is the moment from which the import counts. The empty store is open and locked all the while, so no gateway
//! can start on it. A marker says that files were moved or copied; [`sweep`], at the next start or import, uses it to
//! take back what a crash left. Files that were copied are still in [`FOLDER`] then, and name the copies.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chelseru_domain::files::place::FilePlace;
use chelseru_http::files::store::FOLDER as UPLOADS;
use chelseru_store::{Durability, Store, StoreError, StoreOptions};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::runtime::Handle;

use crate::config::STORE_DIR;
use crate::private;

/// Where an import is built.
const FOLDER: &str = "import.part";
/// A file in [`FOLDER`]: the files are where they belong, or on their way.
const FILES_MOVED: &str = "files-moved";

/// Files that are copied to a bucket at once.
const COPIES: usize = 16;

/// Longest wait for the engine to close the store that was filled.
const CLOSED_MAX: Duration = Duration::from_secs(10);

pub(super) struct Staging<'a> {
    data_dir: PathBuf,
    folder: PathBuf,
    /// Where files go instead of the data folder.
    bucket: Option<&'a dyn FilePlace>,
}

impl<'a> Staging<'a> {
    /// Makes the folder. What an earlier import left is gone (see [`sweep`]).
    ///
    /// Errors: a text that names the folder.
    pub(super) fn begin(data_dir: &Path, bucket: Option<&'a dyn FilePlace>) -> Result<Staging<'a>, String> {
        let folder = data_dir.join(FOLDER);
        private::make_dir(&folder).map_err(|error| at(&folder, &error))?;
        Ok(Staging { data_dir: data_dir.to_owned(), folder, bucket })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A store to fill. A crash loses it anyway, so nothing waits for the disk.
    ///
    /// Errors: the store's.
    pub(super) fn store(&self) -> Result<Store, String> {
        let options = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
        Store::open(self.folder.join(STORE_DIR), options).map_err(|error| error.to_string())
    }

    /// Puts files and store where they belong. The filled store is closed. Blocks; a tokio runtime can be entered.
    ///
    /// Errors: a text for the operator; the store is empty then, and the files are taken back.
    pub(super) fn commit(self, empty: Store) -> Result<(), String> {
        let moved = match self.bucket {
            Some(bucket) => wait(self.copy_files(bucket)),
            None => self.move_files().map_err(|error| at(&self.data_dir.join(UPLOADS), &error)),
        };
        let (own, filled) = (self.data_dir.join(STORE_DIR), self.folder.join(STORE_DIR));
        let replaced = match moved {
            Ok(()) if empty.is_folder() => empty.replace(&own, &filled).map_err(|error| error.to_string()),
            Ok(()) => match fill(&empty, &filled) {
                // The next start finds out, and removes what does not belong to the store.
                Err(error @ StoreError::Unsure) => return Err(error.to_string()),
                filled => filled.map_err(|error| error.to_string()),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = replaced {
            self.sweep().map_err(|sweep| format!("{error}; and {sweep}"))?;
            return Err(error);
        }
        fs::remove_dir_all(&self.folder).map_err(|error| at(&self.folder, &error))
    }

    fn move_files(&self) -> io::Result<()> {
        let (from, to) = (self.folder.join(UPLOADS), self.data_dir.join(UPLOADS));
        if !from.exists() {
            return Ok(());
        }
        // A gateway that was tried out left empty folders.
        remove_empty(&to)?;
        if to.exists() {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "holds files although the store is empty"));
        }
        sync_tree(&from)?;
        self.mark_moved()?;
        fs::rename(&from, &to)?;
        private::sync_dir(&self.data_dir)
    }

    fn mark_moved(&self) -> io::Result<()> {
        private::make_file(&self.folder.join(FILES_MOVED))?.sync_all()?;
        private::sync_dir(&self.folder)
    }

    async fn copy_files(&self, bucket: &dyn FilePlace) -> Result<(), String> {
        let from = self.folder.join(UPLOADS);
        let files = files_below(&from).map_err(|error| at(&from, &error))?;
        sync_tree(&self.folder).and_then(|()| self.mark_moved()).map_err(|error| at(&self.folder, &error))?;
        let copies = files.iter().map(|(local, path)| bucket.offer(local, path));
        let copied = stream::iter(copies).buffer_unordered(COPIES).try_collect::<()>().await;
        copied.map_err(|error| error.to_string())
    }

    /// Removes what was built.
    pub(super) fn abandon(self) {
        if let Err(error) = self.sweep() {
            tracing::warn!(%error, "what an import left could not be removed; the next start removes it");
        }
    }

    fn sweep(&self) -> Result<(), String> {
        wait(sweep_folder(&self.data_dir, self.bucket, true))
    }
}

/// Waits on a thread that may block.
fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| Handle::current().block_on(work))
}

/// Fills an empty database with the store in a folder.
fn fill(empty: &Store, filled: &Path) -> Result<(), StoreError> {
    let until = Instant::now() + CLOSED_MAX;
    let filled = loop {
        // The engine lets go of its lock a moment after its last handle is gone.
        match Store::open(filled, StoreOptions::default()) {
            Err(StoreError::Locked { .. }) if Instant::now() < until => std::thread::yield_now(),
            opened => break opened?,
        }
    };
    let said = |what: &'static str, records: u64| eprintln!("{what}: {records}");
    Handle::current().block_on(empty.fill_from(&filled, &said, Box::pin(async { Ok(()) })))
}

/// Removes what an import left that was cut off. The store of the data folder is open.
///
/// Errors: a text that names the folder, or says what the bucket answers.
pub(crate) async fn sweep(
    data_dir: &Path,
    bucket: Option<&dyn FilePlace>,
    store: &Store,
) -> Result<(), String> {
    if !data_dir.join(FOLDER).exists() {
        return Ok(());
    }
    let is_unused = store.is_unused().await.map_err(|error| error.to_string())?;
    tracing::info!(whole = !is_unused, "removing what an import left");
    sweep_folder(data_dir, bucket, is_unused).await
}

/// Removes the folder of an import. When the store is empty, its files go too.
async fn sweep_folder(
    data_dir: &Path,
    bucket: Option<&dyn FilePlace>,
    store_is_unused: bool,
) -> Result<(), String> {
    let folder = data_dir.join(FOLDER);
    if store_is_unused && folder.join(FILES_MOVED).exists() {
        match bucket {
            Some(bucket) => withdraw_files(bucket, &folder.join(UPLOADS)).await?,
            None => remove(&data_dir.join(UPLOADS))?,
        }
        private::sync_dir(data_dir).map_err(|error| at(data_dir, &error))?;
    }
    remove(&folder)?;
    private::sync_dir(data_dir).map_err(|error| at(data_dir, &error))
}

async fn withdraw_files(bucket: &dyn FilePlace, from: &Path) -> Result<(), String> {
    let files = files_below(from).map_err(|error| at(from, &error))?;
    let withdrawn = files.iter().map(|(_, path)| bucket.withdraw(path));
    let withdrawn = stream::iter(withdrawn).buffer_unordered(COPIES).try_collect::<()>().await;
    withdrawn.map_err(|error| format!("files of an interrupted import are still to be removed: {error}"))
}

/// The files below a folder, each with its path from there.
fn files_below(root: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                let below = path.strip_prefix(root).map_err(io::Error::other)?;
                let below = below.to_str().ok_or(ErrorKind::InvalidData)?.replace('\\', "/");
                files.push((path, below));
            }
        }
    }
    Ok(files)
}

fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(folder, &error)),
        _ => Ok(()),
    }
}

/// Removes a folder when nothing but folders is in it.
fn remove_empty(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        result => result,
    }
}

/// Puts the names in a folder and those below it on the disk; the files themselves are there.
fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    private::sync_dir(folder)
}

fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use chelseru_store::UserDraft;

    use super::*;

    fn open(data: &Path) -> Store {
        loop {
            // The engine lets go of its lock a moment after its last handle is gone.
            match Store::open(data.join(STORE_DIR), StoreOptions::default()) {
                Err(StoreError::Locked { .. }) => std::thread::yield_now(),
                opened => break opened.expect("a store"),
            }
        }
    }

    /// A store and a file that wait for the end of an import.
    async fn built(data: &Path) -> Staging<'static> {
        let staging = Staging::begin(data, None).expect("a folder");
        let store = staging.store().expect("a store");
        let draft = UserDraft {
            username: "imported".to_owned(),
            look: "imported".to_owned(),
            email: String::new(),
            password_hash: "kept".to_owned(),
            staff: false,
            superuser: false,
            now: chelseru_store::Timestamp::default(),
        };
        store.user_register(draft).await.expect("stored");
        store.close();
        let folder = staging.folder().join(UPLOADS).join("day");
        private::make_dir(&folder).expect("a folder");
        fs::write(folder.join("file"), "bytes").expect("a file");
        staging
    }

    async fn whole(data: &Path) -> (bool, bool) {
        let store = open(data);
        sweep(data, None, &store).await.expect("swept");
        assert!(!data.join(FOLDER).exists());
        (!store.is_unused().await.expect("read"), data.join(UPLOADS).join("day/file").exists())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_import_counts_whole_or_not_at_all_wherever_it_ends() {
        let dir = tempfile::tempdir().expect("a folder");
        let data = dir.path();
        open(data).close();
        // Before the end.
        built(data).await;
        assert_eq!(whole(data).await, (false, false));
        // With the files moved.
        let staging = built(data).await;
        staging.move_files().expect("moved");
        assert!(data.join(UPLOADS).join("day/file").exists());
        assert_eq!(whole(data).await, (false, false));
        // Given up.
        built(data).await.abandon();
        assert_eq!(whole(data).await, (false, false));
        // Done, but for the folder.
        let staging = built(data).await;
        let marker = data.join(FOLDER).join(FILES_MOVED);
        staging.commit(open(data)).expect("committed");
        private::make_dir(marker.parent().expect("a folder")).expect("made");
        fs::write(&marker, "").expect("a file");
        assert_eq!(whole(data).await, (true, true));
        assert_eq!(whole(data).await, (true, true));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn files_of_somebody_else_are_not_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let data = dir.path();
        open(data).close();
        private::make_dir(&data.join(UPLOADS).join("incoming")).expect("a folder");
        fs::write(data.join(UPLOADS).join("own"), "bytes").expect("a file");
        let error = built(data).await.commit(open(data)).expect_err("there are files");
        assert!(error.contains("holds files although the store is empty"), "{error}");
        assert!(data.join(UPLOADS).join("own").exists() && !data.join(FOLDER).exists());
        fs::remove_file(data.join(UPLOADS).join("own")).expect("removed");
        built(data).await.commit(open(data)).expect("empty folders are in nobody's way");
        assert_eq!(whole(data).await, (true, true));
    }
}
