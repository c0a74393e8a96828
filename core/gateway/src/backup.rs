//! Backups: what a data folder holds, in a folder of its own, and back.
//!
//! A backup has the store as one checked file ([`STORE_FILE`]), the key, the plugins and the uploaded files; not what
//! is made anew (compiled plugins, the operator's token), and not the configuration, which is its operator's. It is
//! gathered beside its name, which it gets when it is whole. The store comes first: a file that is uploaded meanwhile
//! is in no record and is collected later, one that is deleted meanwhile is missed by a record that is gone. It holds
//! the key and every number: for its owner's eyes only, like the data folder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use chelseru_http::operator::Copied;
use chelseru_outbound::plugins;
use chelseru_store::Store;

use crate::config::STORE_DIR;
use crate::{door, keys, private};

/// The store, as [`Store::export`] writes it.
const STORE_FILE: &str = "store.export";
/// What a data folder has and a backup has not: it is open, or made anew.
const LEFT_OUT: [&str; 3] = [STORE_DIR, plugins::CACHE_DIR, door::TOKEN_FILE];

/// Writes a backup into a folder that does not exist yet. Changes wait while the store is read.
///
/// Errors: a text for the operator; what was written so far is removed.
pub(crate) async fn write(store: &Store, data_dir: &Path, target: &Path) -> Result<Copied, String> {
    if fs::symlink_metadata(target).is_ok() {
        return Err(format!("{}: is there already; a backup makes a folder of its own", target.display()));
    }
    let data = fs::canonicalize(data_dir).map_err(|error| at(data_dir, &error))?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = fs::canonicalize(parent).map_err(|error| at(parent, &error))?;
    if parent.starts_with(&data) {
        return Err(format!("{}: lies in the data folder; name a place outside of it", target.display()));
    }
    let part = part_of(target);
    if fs::symlink_metadata(&part).is_ok() {
        let part = part.display();
        return Err(format!(
            "{part}: is there, maybe of a backup that was cut off or goes on; remove it first"
        ));
    }
    let written = gather(store, &data, &part).await;
    let written = written.and_then(|copied| {
        fs::rename(&part, target).map_err(|error| at(target, &error))?;
        Ok(copied)
    });
    if written.is_err() {
        // The first error is told.
        let _ = fs::remove_dir_all(&part);
    }
    written
}

/// Where a backup is gathered until it is whole.
pub(crate) fn part_of(target: &Path) -> PathBuf {
    let mut part = target.as_os_str().to_owned();
    part.push(".part");
    PathBuf::from(part)
}

async fn gather(store: &Store, data: &Path, part: &Path) -> Result<Copied, String> {
    private::make_dir(part).map_err(|error| at(part, &error))?;
    let file = part.join(STORE_FILE);
    let out = private::make_file(&file).map_err(|error| at(&file, &error))?;
    let records = store.export(out).await.map_err(|error| at(&file, &error))?;
    let (from, to) = (data.to_owned(), part.to_owned());
    let files = tokio::task::spawn_blocking(move || copy_dir(&from, &to, &LEFT_OUT));
    let files = files.await.map_err(|error| error.to_string())??;
    Ok(Copied { records, files })
}

/// Fills a data folder from a backup. It may have plugins, which are replaced by name, but neither store nor key.
/// Blocks.
///
/// Errors: a text for the operator. When it was cut off in the middle, the store it left is refused by `serve`.
pub(crate) fn restore(backup: &Path, data_dir: &Path) -> Result<Copied, String> {
    let file = backup.join(STORE_FILE);
    let mut input = File::open(&file)
        .map_err(|error| format!("{}; is this what `chelseru backup` wrote?", at(&file, &error)))?;
    let store = data_dir.join(STORE_DIR);
    if store.exists() || keys::is_made(data_dir) {
        return Err(format!(
            "{}: has a store or a key already; stop the gateway and move the folder away first",
            data_dir.display()
        ));
    }
    private::make_dir(data_dir).map_err(|error| at(data_dir, &error))?;
    let mut files = 0;
    // Before the store counts as one: else a gateway could start on it with a key of its own.
    let copy = || {
        files = copy_dir(backup, data_dir, &[STORE_FILE]).map_err(io::Error::other)?;
        Ok(())
    };
    let records = Store::import(&store, &mut input, copy).map_err(|error| at(&file, &error))?;
    Ok(Copied { records, files })
}

/// Copies what a folder holds, without some names at its top; returns how many files. Links are not followed.
fn copy_dir(from: &Path, to: &Path, without: &[&str]) -> Result<u64, String> {
    let mut files = 0;
    for entry in fs::read_dir(from).map_err(|error| at(from, &error))? {
        let entry = entry.map_err(|error| at(from, &error))?;
        let name = entry.file_name();
        if without.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        let kind = entry.file_type().map_err(|error| at(&source, &error))?;
        if kind.is_dir() {
            private::make_dir(&target).map_err(|error| at(&target, &error))?;
            files += copy_dir(&source, &target, &[])?;
        } else if kind.is_file() {
            match fs::copy(&source, &target).and_then(|_| File::open(&target)?.sync_all()) {
                Ok(()) => files += 1,
                // Deleted since the folder was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !source.exists() => {}
                Err(error) => return Err(at(&source, &error)),
            }
        }
    }
    Ok(files)
}

fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
