//! Backup of a data folder into a folder of its own, and restore from it.
//!
//! A backup holds the store as one checked file ([`STORE_FILE`]), the key, the plugins, the uploaded files, and a
//! manifest with size and hash of each ([`manifest`]). Files in a bucket stay there, and the manifest names it. A
//! backup leaves out what the gateway can rebuild (compiled plugins, the operator's token) and the configuration,
//! which belongs to the operator. It is assembled under a temporary name and renamed when complete and synced. It
//! contains the key and every phone number, so it is readable by its owner only, like the data folder.
//!
//! Invariants: no change waits for the backup's target, because the store is first exported to the data folder's disk.
//! Its reserve stays free, and what was exported there goes as soon as it was copied.
//! A restore writes nothing unless every file of the manifest exists unaltered, and copies no other files. The store is
//! exported first: a file uploaded afterwards is in no record and is collected later; a file deleted afterwards
//! belongs to a record that was deleted too. A backup is the same whatever engine it comes from and goes to. One that
//! goes to a database is read into a store in [`RESTORING`] first, and from there into one transaction, whose last step
//! comes when every file is in its place. While that folder exists, nothing opens the store.

mod manifest;

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use chelseru_http::files::store::FOLDER as UPLOADS;
use chelseru_http::operator::Copied;
use chelseru_outbound::plugins;
use chelseru_store::{Store, StoreError, StoreOptions};
pub(crate) use manifest::Manifest;
use manifest::{EngineName, Entry};

use super::ledger_check::SCRATCH;
use crate::config::{Config, S3, STORE_DIR};
use crate::{door, keys, private};

/// The store, as [`Store::export`] writes it.
const STORE_FILE: &str = "store.export";
/// The copy of a database while it is exported, in the data folder.
const COPY: &str = "backup-copy";
/// What a restore into a database reads the backup's store into, in the data folder.
pub(crate) const RESTORING: &str = "restoring";
/// Parts of a data folder that a backup skips: open files, or files the gateway rebuilds.
const LEFT_OUT: [&str; 6] = [STORE_DIR, plugins::CACHE_DIR, door::TOKEN_FILE, SCRATCH, COPY, RESTORING];
/// The cache of a store that is read once.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes copied and hashed at once.
const PIECE: usize = 256 * 1024;

/// What a backup is of.
pub(crate) struct Kept<'a> {
    pub(crate) data_dir: &'a Path,
    /// The bucket that has the uploaded files, as operators read it. The backup names it and copies none of them.
    pub(crate) bucket: Option<String>,
}

impl<'a> Kept<'a> {
    pub(crate) fn of(data_dir: &'a Path, config: &Config) -> Kept<'a> {
        Kept { data_dir, bucket: config.files.bucket().map(S3::shown) }
    }
}

/// Writes a backup into a folder that does not exist yet. Changes continue meanwhile.
///
/// Errors: a text for the operator; the partial backup is removed.
pub(crate) async fn write(store: &Store, kept: Kept<'_>, target: &Path) -> Result<Copied, String> {
    let Kept { data_dir, bucket } = kept;
    if fs::symlink_metadata(target).is_ok() {
        return Err(format!("{}: exists already; name a folder that does not exist yet", target.display()));
    }
    let data = fs::canonicalize(data_dir).map_err(|error| at(data_dir, &error))?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = fs::canonicalize(parent).map_err(|error| at(parent, &error))?;
    if parent.starts_with(&data) {
        return Err(format!(
            "{}: lies inside the data folder; name a folder outside of it",
            target.display()
        ));
    }
    let part = part_of(target);
    if fs::symlink_metadata(&part).is_ok() {
        let part = part.display();
        return Err(format!("{part}: exists, from an interrupted or running backup; remove it first"));
    }
    // A backup with another key would log everybody out.
    keys::check(&data, store).await?;
    let (staged, records) = stage(store, &data).await?;
    let engine = if store.is_folder() { EngineName::Sled } else { EngineName::Postgres };
    let work = tokio::task::spawn_blocking({
        let (part, target) = (part.clone(), target.to_owned());
        move || {
            let manifest = Manifest { engine, bucket, ..Manifest::default() };
            let written = gather(staged, manifest, &data, &part).and_then(|files| {
                fs::rename(&part, &target).map_err(|error| at(&target, &error))?;
                private::sync_dir(&parent).map_err(|error| at(&parent, &error))?;
                Ok(files)
            });
            if written.is_err() {
                // The first error is the one to report.
                let _ = fs::remove_dir_all(&part);
            }
            written
        }
    });
    let files = work.await.map_err(|error| error.to_string())??;
    Ok(Copied { records, files })
}

/// Where a backup is assembled.
pub(crate) fn part_of(target: &Path) -> PathBuf {
    let mut part = target.as_os_str().to_owned();
    part.push(".part");
    PathBuf::from(part)
}

/// Removes the copy of a database that a crash left. No backup runs.
pub(crate) fn clear(data_dir: &Path) {
    let copy = data_dir.join(COPY);
    match fs::remove_dir_all(&copy) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, folder = %copy.display(), "a copy of the store could not be removed");
        }
        _ => {}
    }
}

/// Exports the store to an unnamed file on the data folder's disk, so a slow target delays no change.
pub(crate) async fn stage(store: &Store, data: &Path) -> Result<(File, u64), String> {
    let size = store_bytes(data);
    check_spare(store, size).map_err(|reason| format!("{}: {reason}", data.display()))?;
    let mut staged = tempfile::tempfile_in(data).map_err(|error| at(data, &error))?;
    let file = staged.try_clone().map_err(|error| at(data, &error))?;
    let records = store.export(file, &data.join(COPY)).await.map_err(|error| at(data, &error))?;
    staged.rewind().map_err(|error| at(data, &error))?;
    Ok((staged, records))
}

/// Refuses to use up the reserve of the data folder's disk.
pub(crate) fn check_spare(store: &Store, needed: u64) -> Result<(), String> {
    let Some(spare) = store.disk_spare_bytes().filter(|spare| *spare < needed) else { return Ok(()) };
    let (needed, spare) = (needed.div_ceil(1 << 20), spare >> 20);
    Err(format!(
        "a copy of the store needs {needed} MiB of free space temporarily; besides the reserve (data.disk_reserve_mib) \
         only {spare} MiB are free"
    ))
}

/// The size of the store in a data folder.
pub(crate) fn store_bytes(data: &Path) -> u64 {
    fs::metadata(data.join(STORE_DIR).join("sled").join("db")).map_or(0, |metadata| metadata.len())
}

/// Fills the folder; the manifest comes last. Returns the number of files besides the store.
fn gather(mut staged: impl Read, mut manifest: Manifest, data: &Path, part: &Path) -> Result<u64, String> {
    private::make_dir(part).map_err(|error| at(part, &error))?;
    let file = part.join(STORE_FILE);
    let copied = private::make_file(&file).and_then(|out| copy(&mut staged, out));
    let (bytes, hash) = copied.map_err(|error| at(&file, &error))?;
    // Its space is the data folder's, and the uploads may take long.
    drop(staged);
    manifest.entries.push(Entry { path: STORE_FILE.to_owned(), bytes, hash });
    gather_dir(data, part, "", &mut manifest)?;
    if !manifest.has(keys::FILE) {
        return Err(format!("{}: the key is missing", data.join(keys::FILE).display()));
    }
    manifest.write(part)?;
    private::sync_dir(part).map_err(|error| at(part, &error))?;
    Ok(manifest.entries.len() as u64 - 1)
}

/// Copies a folder, except some names at its top. Follows links to files, and those of the two folders that may be
/// links: the plugins and the uploads. Another link to a folder could lead anywhere, this folder included.
///
/// Errors: a link to a folder where files would be missing from the backup, besides those of the disk.
fn gather_dir(from: &Path, to: &Path, below: &str, manifest: &mut Manifest) -> Result<(), String> {
    let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        // Its last file was deleted after the folder above was listed.
        Err(error) if is_gone(&error) && !below.is_empty() => return Ok(()),
        Err(error) => return Err(at(from, &error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| at(from, &error))?;
        let source = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            return Err(format!("{}: its name is not UTF-8", source.display()));
        };
        let is_top = below.is_empty();
        // With a bucket there are received files only. Restored beside that bucket, they would be withdrawn from it.
        let is_elsewhere = name == UPLOADS && manifest.bucket.is_some();
        if is_top && (is_elsewhere || LEFT_OUT.contains(&name.as_str())) {
            continue;
        }
        let target = to.join(&name);
        let found =
            entry.file_type().and_then(|kind| Ok((kind.is_symlink(), fs::metadata(&source)?.file_type())));
        let (is_link, kind) = match found {
            Ok(found) => found,
            // Deleted after the folder was listed, or a link to nothing.
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(at(&source, &error)),
        };
        let may_be_link = is_top && [UPLOADS, plugins::PLUGINS_DIR].contains(&name.as_str());
        let path = if is_top { name } else { format!("{below}/{name}") };
        if kind.is_dir() && is_link && !may_be_link {
            // Beside the plugins, such a link is how a mounted volume turns; nothing is loaded from below it.
            if below == plugins::PLUGINS_DIR {
                continue;
            }
            let place = source.display();
            return Err(format!(
                "{place}: is a link to a folder, which a backup follows at data/plugins and data/uploads only; move it out \
                 of the data folder, or put the folder itself there"
            ));
        }
        if kind.is_dir() {
            private::make_dir(&target).map_err(|error| at(&target, &error))?;
            gather_dir(&source, &target, &path, manifest)?;
        } else if kind.is_file() {
            let mut input = match File::open(&source) {
                Ok(input) => input,
                // Deleted after the folder was listed.
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(at(&source, &error)),
            };
            let copied = private::make_file(&target).and_then(|out| copy(&mut input, out));
            let (bytes, hash) = copied.map_err(|error| at(&target, &error))?;
            manifest.entries.push(Entry { path, bytes, hash });
        }
    }
    private::sync_dir(to).map_err(|error| at(to, &error))
}

/// Copies to a file and syncs it; returns size and hash.
fn copy(input: &mut impl Read, mut out: File) -> io::Result<(u64, blake3::Hash)> {
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    pieces(input, |piece| {
        hasher.update(piece);
        bytes += piece.len() as u64;
        out.write_all(piece)
    })?;
    out.sync_all()?;
    Ok((bytes, hasher.finalize()))
}

/// Reads to the end in pieces.
fn pieces(input: &mut impl Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match input.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => each(&piece[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Verifies a backup: every file of its manifest exists unaltered, the key among them. Returns the number of files
/// and bytes. Blocks.
///
/// Errors: a text for the operator that names the first file that differs.
pub(crate) fn verify(backup: &Path) -> Result<(u64, u64), String> {
    let manifest = verified(backup)?;
    Ok((manifest.files(), manifest.bytes()))
}

/// Verifies a backup and returns its manifest. Blocks.
///
/// Errors: a text for the operator that names the first file that differs.
pub(crate) fn verified(backup: &Path) -> Result<Manifest, String> {
    let manifest = Manifest::read(backup)?;
    for needed in [STORE_FILE, keys::FILE] {
        if !manifest.has(needed) {
            return Err(format!("{}: is not in the manifest", backup.join(needed).display()));
        }
    }
    for entry in &manifest.entries {
        entry.check(backup)?;
    }
    Ok(manifest)
}

/// Refuses a data folder that a restore would mix with another gateway's.
///
/// Errors: a text for the operator.
pub(crate) fn check_place(data_dir: &Path) -> Result<(), String> {
    let taken = [STORE_DIR, RESTORING].iter().any(|name| data_dir.join(name).exists());
    if taken || keys::is_made(data_dir) {
        return Err(format!(
            "{}: already holds a store or a key; stop the gateway and move the folder away first",
            data_dir.display()
        ));
    }
    Ok(())
}

/// Fills a data folder from a verified backup, its store included. The folder may hold plugins, which are replaced by
/// name, but no store and no key. Blocks.
///
/// Errors: a text for the operator. `serve` refuses a store that an interrupted restore left.
pub(crate) fn restore(manifest: &Manifest, backup: &Path, data_dir: &Path) -> Result<Copied, String> {
    check_place(data_dir)?;
    let store = data_dir.join(STORE_DIR);
    private::make_dir(data_dir).map_err(|error| at(data_dir, &error))?;
    let file = backup.join(STORE_FILE);
    let mut input = File::open(&file).map_err(|error| at(&file, &error))?;
    let mut files = 0;
    // These come before the store counts as restored; otherwise a gateway could start on it with a key of its own.
    let copy = || {
        files = put_back(manifest, backup, data_dir).map_err(io::Error::other)?;
        Ok(())
    };
    let records = Store::import(&store, &mut input, copy).map_err(|error| at(&file, &error))?;
    Ok(Copied { records, files })
}

/// Fills an empty database and a data folder from a verified backup, as [`restore`] fills a folder alone. `said` hears
/// what is being copied.
///
/// Errors: a text for the operator. What an interrupted restore left in the data folder is refused by `serve`; the
/// database has all or nothing.
pub(crate) async fn restore_database(
    manifest: Manifest,
    backup: &Path,
    data_dir: &Path,
    database: &Store,
    said: chelseru_store::Progress<'_>,
) -> Result<Copied, String> {
    check_place(data_dir)?;
    if !database.is_new().await.map_err(|error| error.to_string())? {
        return Err("the database already holds a store; name an empty one in store.url".to_owned());
    }
    let folder = data_dir.join(RESTORING);
    private::make_dir(&folder).map_err(|error| at(&folder, &error))?;
    private::sync_dir(data_dir).map_err(|error| at(data_dir, &error))?;
    let read = tokio::task::spawn_blocking({
        let (backup, folder) = (backup.to_owned(), folder.clone());
        move || -> Result<(Store, u64), String> {
            let (file, path) = (backup.join(STORE_FILE), folder.join(STORE_DIR));
            let mut input = File::open(&file).map_err(|error| at(&file, &error))?;
            let records = Store::import(&path, &mut input, || Ok(())).map_err(|error| at(&file, &error))?;
            let options = StoreOptions { cache_bytes: CACHE_BYTES, ..StoreOptions::default() };
            Ok((Store::open(path, options).map_err(|error| error.to_string())?, records))
        }
    });
    let (store, records) = match read.await.map_err(|error| error.to_string()).and_then(|read| read) {
        Ok(read) => read,
        Err(error) => {
            // Nothing else was written yet.
            let _ = fs::remove_dir_all(&folder);
            return Err(error);
        }
    };
    let mut files = 0;
    let put_back = Box::pin(async {
        let work = tokio::task::spawn_blocking({
            let (backup, data_dir) = (backup.to_owned(), data_dir.to_owned());
            move || put_back(&manifest, &backup, &data_dir)
        });
        files = work.await.map_err(|error| error.to_string()).and_then(|copied| copied).map_err(refused)?;
        Ok(())
    });
    database.fill_from(&store, said, put_back).await.map_err(|error| interrupted(&error, data_dir))?;
    store.close();
    drop(store);
    fs::remove_dir_all(&folder).map_err(|error| at(&folder, &error))?;
    private::sync_dir(data_dir).map_err(|error| at(data_dir, &error))?;
    Ok(Copied { records, files })
}

fn refused(reason: String) -> StoreError {
    StoreError::Database { reason }
}

fn interrupted(error: &StoreError, data_dir: &Path) -> String {
    let database = match error {
        StoreError::Unsure => "it is not known whether the database was filled: empty it",
        _ => "the database is as it was",
    };
    format!("{error}; {database}. Move {} away, and restore again", data_dir.display())
}

/// Copies the files besides the store; returns their number.
fn put_back(manifest: &Manifest, backup: &Path, data_dir: &Path) -> Result<u64, String> {
    let mut files = 0;
    let mut folders = std::collections::BTreeSet::from([data_dir.to_owned()]);
    for entry in manifest.entries.iter().filter(|entry| entry.path != STORE_FILE) {
        let (source, target) = (backup.join(&entry.path), data_dir.join(&entry.path));
        let folder = target.parent().unwrap_or(data_dir);
        private::make_dir(folder).map_err(|error| at(folder, &error))?;
        folders
            .extend(folder.ancestors().take_while(|above| above.starts_with(data_dir)).map(Path::to_owned));
        // The backup's plugin replaces the one shipped with the program.
        if let Err(error) = fs::remove_file(&target)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(at(&target, &error));
        }
        let mut input = File::open(&source).map_err(|error| at(&source, &error))?;
        let copied = private::make_file(&target).and_then(|out| copy(&mut input, out));
        let (_, hash) = copied.map_err(|error| at(&target, &error))?;
        if hash != entry.hash {
            return Err(format!("{}: changed during the restore", source.display()));
        }
        files += 1;
    }
    for folder in &folders {
        private::sync_dir(folder).map_err(|error| at(folder, &error))?;
    }
    if let Some(above) = data_dir.parent().filter(|above| !above.as_os_str().is_empty()) {
        private::sync_dir(above).map_err(|error| at(above, &error))?;
    }
    Ok(files)
}

fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use chelseru_store::StoreOptions;

    use super::*;

    const KEY: &str = "the key of this store: 32 bytes!";

    /// A data folder with a key, a plugin and an upload, and its backup.
    async fn backed_up() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a folder");
        let data = dir.path().join("data");
        for folder in ["plugins", "uploads/aa", "cache"] {
            fs::create_dir_all(data.join(folder)).expect("folders");
        }
        for (name, content) in
            [("master.key", KEY), ("plugins/p.wasm", "wasm"), ("uploads/aa/f", "file"), ("cache/c", "made")]
        {
            fs::write(data.join(name), content).expect("a file");
        }
        let store = Store::open(data.join(STORE_DIR), StoreOptions::default()).expect("a store");
        store.probe_put(b"k", b"v").await.expect("written");
        let backup = dir.path().join("backup");
        let copied = write(&store, Kept { data_dir: &data, bucket: None }, &backup).await.expect("a backup");
        assert_eq!(copied, Copied { records: 4, files: 3 });
        (dir, backup)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_backup_comes_back_and_nothing_else() {
        let (dir, backup) = backed_up().await;
        assert_eq!(verify(&backup).expect("whole").0, 4);
        fs::write(backup.join("plugins/extra.wasm"), "somebody else's").expect("a file");
        let again = dir.path().join("again");
        fs::create_dir_all(again.join("plugins")).expect("a folder");
        fs::write(again.join("plugins/p.wasm"), "another version").expect("a file");
        assert_eq!(
            restore(&verified(&backup).expect("whole"), &backup, &again).expect("restored"),
            Copied { records: 4, files: 3 }
        );
        assert_eq!(fs::read(again.join("plugins/p.wasm")).expect("a plugin"), b"wasm");
        assert!(!again.join("plugins/extra.wasm").exists() && !again.join("cache").exists());
        let store = Store::open(again.join(STORE_DIR), StoreOptions::default()).expect("a store");
        assert_eq!(store.probe_get(b"k").await.expect("read").expect("there"), b"v");
    }

    #[cfg(unix)]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_stands_elsewhere_behind_a_link_is_in_the_backup() {
        use std::os::unix::fs::symlink;
        let (dir, _) = backed_up().await;
        let (data, elsewhere) = (dir.path().join("data"), dir.path().join("elsewhere"));
        fs::create_dir_all(elsewhere.join("..1")).expect("folders");
        fs::write(elsewhere.join("..1/l.wasm"), "linked").expect("a file");
        fs::rename(data.join("plugins/p.wasm"), elsewhere.join("p.wasm")).expect("moved");
        fs::rename(data.join("master.key"), elsewhere.join("master.key")).expect("moved");
        // The file, the key, the folder, and what a mounted volume has: a link through a link.
        symlink("..1", elsewhere.join("..data")).expect("a link");
        symlink("..data/l.wasm", elsewhere.join("l.wasm")).expect("a link");
        symlink("nowhere", elsewhere.join("gone.wasm")).expect("a link");
        fs::remove_dir(data.join("plugins")).expect("removed");
        symlink(&elsewhere, data.join("plugins")).expect("a link");
        symlink(elsewhere.join("master.key"), data.join("master.key")).expect("a link");
        let store = Store::open(data.join(STORE_DIR), StoreOptions::default()).expect("a store");
        let kept = || Kept { data_dir: &data, bucket: None };
        let backup = dir.path().join("second");
        write(&store, kept(), &backup).await.expect("a backup");
        for (file, content) in [("plugins/p.wasm", "wasm"), ("plugins/l.wasm", "linked"), ("master.key", KEY)]
        {
            assert_eq!(fs::read(backup.join(file)).expect(file), content.as_bytes(), "{file}");
        }
        verify(&backup).expect("whole");
        symlink(&elsewhere, data.join("uploads/aa/more")).expect("a link");
        let refused = write(&store, kept(), &dir.path().join("third")).await.expect_err("files are missing");
        assert!(refused.contains("uploads/aa/more: is a link to a folder"), "{refused}");
        assert!(!dir.path().join("third").exists());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_backup_leaves_the_reserve_free() {
        let (dir, _) = backed_up().await;
        let data = dir.path().join("data");
        let options = StoreOptions { disk_reserve_bytes: Some(u64::MAX), ..StoreOptions::default() };
        let store = Store::open(data.join(STORE_DIR), options).expect("a store");
        let target = dir.path().join("second");
        let kept = Kept { data_dir: &data, bucket: None };
        let refused = write(&store, kept, &target).await.expect_err("no space is spare");
        assert!(refused.contains("besides the reserve (data.disk_reserve_mib) only 0 MiB"), "{refused}");
        assert!(!target.exists() && !part_of(&target).exists());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_folder_that_is_removed_meanwhile_is_empty() {
        let (dir, backup) = backed_up().await;
        let (gone, mut manifest) = (dir.path().join("data/uploads/bb"), Manifest::default());
        assert_eq!(gather_dir(&gone, &backup, "uploads/bb", &mut manifest), Ok(()));
        assert!(manifest.entries.is_empty());
        let refused = gather_dir(&gone, &backup, "", &mut manifest).expect_err("the data folder is missing");
        assert!(refused.contains("uploads/bb"), "{refused}");
    }

    /// Leaves a file when it is dropped.
    struct Leaves<'a>(&'a [u8], PathBuf);

    impl Read for Leaves<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Drop for Leaves<'_> {
        fn drop(&mut self) {
            fs::write(&self.1, "gone").expect("a file");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_exported_is_gone_before_the_rest_is_copied() {
        let (dir, _) = backed_up().await;
        let (data, part) = (dir.path().join("data"), dir.path().join("part"));
        let staged = Leaves(b"exported", data.join("staged"));
        assert_eq!(gather(staged, Manifest::default(), &data, &part), Ok(4));
        assert_eq!(fs::read(part.join("staged")).expect("a file"), b"gone");
        assert_eq!(fs::read(part.join(STORE_FILE)).expect("a file"), b"exported");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_missing_or_altered_is_refused_and_named() {
        let (dir, backup) = backed_up().await;
        let again = dir.path().join("again");
        let refused = |file: &str, why: &str| {
            let error = verify(&backup).expect_err(file);
            assert!(error.contains(file) && error.contains(why), "{file}: {error}");
            assert!(!again.exists(), "{file}");
        };
        for file in ["master.key", "plugins/p.wasm", "uploads/aa/f", "store.export", "manifest.json"] {
            let path = backup.join(file);
            let whole = fs::read(&path).expect("a file");
            fs::remove_file(&path).expect("removed");
            refused(file, "");
            for at in [0, whole.len() / 2, whole.len() - 1] {
                let mut altered = whole.clone();
                altered[at] ^= 1;
                fs::write(&path, altered).expect("a file");
                refused(file, "");
            }
            fs::write(&path, &whole[..whole.len() - 1]).expect("a file");
            refused(file, "");
            fs::write(&path, &whole).expect("a file");
            verify(&backup).expect("whole again");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_backup_that_cannot_be_written_leaves_nothing() {
        let (dir, backup) = backed_up().await;
        fs::remove_dir_all(&backup).expect("removed");
        let data = dir.path().join("data");
        fs::remove_file(data.join("master.key")).expect("removed");
        let error = verify(Path::new("/nowhere")).expect_err("no backup");
        assert!(error.contains("chelseru backup"), "{error}");
        let store = loop {
            // The engine releases its lock a moment after its last handle is dropped.
            if let Ok(store) = Store::open(data.join(STORE_DIR), StoreOptions::default()) {
                break store;
            }
        };
        let error = write(&store, Kept { data_dir: &data, bucket: None }, &backup)
            .await
            .expect_err("the key is missing");
        assert!(error.contains("master.key: the key is missing"), "{error}");

        // A key that the store does not know, or that is none.
        store.key_mark_set([7; 16]).await.expect("stored");
        for (key, what) in [(KEY, "is not the key of this store"), ("k", "must hold exactly 32 bytes")] {
            fs::write(data.join("master.key"), key).expect("a file");
            let kept = Kept { data_dir: &data, bucket: None };
            let error = write(&store, kept, &backup).await.expect_err("another key");
            assert!(error.contains(what), "{error}");
        }
        assert!(!backup.exists() && !part_of(&backup).exists());
    }
}
