//! Export of the whole store to one file, and import. The format is independent of the engine's own files.
//!
//! The file: [`MAGIC`]; for each record the lengths of key and value (u32, little endian) and both, keys ascending;
//! [`END`] (u32); in the same form the records written during the export, with [`REMOVED`] as the length of a removed
//! value; [`END`], the number of entries (u64) and the BLAKE3 hash (32 bytes) of everything before it. A file of
//! version 1 has no second list.
//! Invariants: an export is the store between two changes, and no change waits for it. A file truncated or altered
//! anywhere is refused before anything is written. An interrupted import is refused when the store is opened, because
//! a marker file exists from before the first record until after the last step.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use sled::IVec;

use crate::StoreError;
use crate::engine::sled::Sled;
use crate::engine::sled::folder::{self, Copy};
use crate::engine::sled::record::{decode_u64, encode_u64};
use crate::engine::sled::tree::Tree;
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{keys, keys::money as money_keys};

const MAGIC: &[u8; 16] = b"chelseru store 2";
const MAGIC_BEFORE: &[u8; 16] = b"chelseru store 1";
const END: u32 = u32::MAX;
const REMOVED: u32 = u32::MAX - 1;
/// Longest accepted key and value; the store's own are far shorter.
const KEY_BYTES_MAX: u32 = 64 * 1024;
const VALUE_BYTES_MAX: u32 = 256 * 1024 * 1024;
/// Sequences whose numbers also live outside: in tokens, links, banks, event receivers and the programs of merchants.
/// The store forgets numbers given out after the export, the outside does not, so an imported store continues far
/// above. Otherwise a forgotten session's token would open somebody else's session, and a merchant would capture
/// somebody else's spend.
pub(crate) const KEPT_OUTSIDE: [&[u8]; 10] = [
    keys::USER_SEQUENCE,
    keys::SESSION_SEQUENCE,
    money_keys::PAYMENT_SEQUENCE,
    money_keys::SPEND_SEQUENCE,
    money_keys::CORRECTION_SEQUENCE,
    money_keys::EVENT_SEQUENCE,
    keys::chat::ROOM_SEQUENCE,
    keys::chat::ORGANIZATION_SEQUENCE,
    keys::chat::FILE_SEQUENCE,
    keys::sms::API_KEY_SEQUENCE,
];
/// Numbers that an import skips in each of [`KEPT_OUTSIDE`], used or not; after 134 imports the room numbers are used
/// up.
const GAP: u64 = 1_000_000;
/// Name of the marker file inside the store's folder during an import.
pub(crate) const IMPORTING_FILE: &str = "importing";

impl Sled {
    /// The engine half of [`Store::export`](crate::Store::export).
    pub(crate) async fn export_to(&self, file: File) -> io::Result<u64> {
        let busy = |what: &str| io::Error::new(io::ErrorKind::ResourceBusy, what);
        let reserved = self.committer.captures().reserve();
        let reserved = reserved.ok_or_else(|| busy("another export of the store is running"))?;
        // Between two batches: of one that is being written the reader could see a part.
        let begin = |txn: &mut Txn| {
            txn.captures().begin();
            Ok(())
        };
        self.change(begin).await.map_err(io::Error::other)?;
        let tree = self.tree.clone();
        let out =
            tokio::task::spawn_blocking(move || export(&tree, file)).await.map_err(io::Error::other)??;
        let writes = reserved.take().ok_or_else(|| busy("too much was written during the export"))?;
        if self.has_failed() {
            return Err(io::Error::other(StoreError::Failed));
        }
        tokio::task::spawn_blocking(move || out.finish(writes)).await.map_err(io::Error::other)?
    }
}

/// The engine half of [`Store::import`](crate::Store::import).
pub(crate) fn import(
    path: &Path,
    file: &mut File,
    before_whole: impl FnOnce() -> io::Result<()>,
) -> io::Result<u64> {
    read(file, |_, _| Ok(()))?;
    file.rewind()?;
    std::fs::create_dir(path)?;
    let importing = path.join(IMPORTING_FILE);
    File::create_new(&importing)?.sync_all()?;
    folder::sync_dir(path)?;
    folder::sync_dir(folder::parent(path))?;
    let mut unused = BTreeSet::from(KEPT_OUTSIDE);
    let fill = |copy: &mut Copy<'_>| {
        read(file, |key, value| match value {
            None => copy.remove(key),
            Some(_) if key == keys::COMMIT => Ok(()),
            Some(value) if KEPT_OUTSIDE.contains(&key) => {
                unused.remove(key);
                let last = decode_u64("sequence", value).map_err(io::Error::other)?;
                copy.put(key, &encode_u64(last.saturating_add(GAP)))
            }
            Some(value) => copy.put(key, value),
        })?;
        unused.iter().try_for_each(|sequence| copy.put(sequence, &encode_u64(GAP)))
    };
    let records = folder::build(path, fill, before_whole)?;
    std::fs::remove_file(&importing)?;
    folder::sync_dir(path)?;
    Ok(records - unused.len() as u64)
}

/// Hashes everything that passes through.
struct Hashed<T> {
    inner: T,
    hash: blake3::Hasher,
}

impl<W: Write> Hashed<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<R: Read> Hashed<R> {
    fn take(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged("it is truncated"),
            _ => error,
        })?;
        self.hash.update(bytes);
        Ok(())
    }

    fn length(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.take(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn bytes(&mut self, length: u32, max: u32) -> io::Result<Vec<u8>> {
        if length > max {
            return Err(damaged("a record exceeds the maximum length"));
        }
        let mut bytes = vec![0; length as usize];
        self.take(&mut bytes)?;
        Ok(bytes)
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a complete export of a store: {what}"))
}

/// An export whose records are written.
struct Export {
    out: Hashed<BufWriter<File>>,
    records: u64,
}

/// Writes the records of a tree that may change meanwhile.
fn export(tree: &Tree, file: File) -> io::Result<Export> {
    let out = Hashed { inner: BufWriter::with_capacity(256 * 1024, file), hash: blake3::Hasher::new() };
    let mut export = Export { out, records: 0 };
    export.out.put(MAGIC)?;
    for entry in tree.iter() {
        let (key, value) = entry.map_err(io::Error::other)?;
        if key != keys::COMMIT {
            export.put(&key, Some(&value))?;
        }
    }
    export.out.put(&END.to_le_bytes())?;
    Ok(export)
}

impl Export {
    fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        self.out.put(&length(key)?.to_le_bytes())?;
        self.out.put(&value.map_or(Ok(REMOVED), length)?.to_le_bytes())?;
        self.out.put(key)?;
        self.out.put(value.unwrap_or_default())?;
        self.records += 1;
        Ok(())
    }

    /// Appends what was written meanwhile, and ends the file. Returns the number of records read.
    fn finish(mut self, writes: impl Iterator<Item = (IVec, Option<IVec>)>) -> io::Result<u64> {
        let records = self.records;
        for (key, value) in writes {
            self.put(&key, value.as_deref())?;
        }
        self.out.put(&END.to_le_bytes())?;
        self.out.put(&self.records.to_le_bytes())?;
        let hash = self.out.hash.finalize();
        self.out.inner.write_all(hash.as_bytes())?;
        let file = self.out.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(records)
    }
}

/// Reads a file to its end and passes on its entries, removals without a value. Completeness is the last check.
fn read(file: &mut File, mut each: impl FnMut(&[u8], Option<&[u8]>) -> io::Result<()>) -> io::Result<()> {
    let mut input = Hashed { inner: BufReader::with_capacity(256 * 1024, file), hash: blake3::Hasher::new() };
    let mut magic = [0; MAGIC.len()];
    input.take(&mut magic)?;
    let lists = match &magic {
        MAGIC => 2,
        MAGIC_BEFORE => 1,
        _ => return Err(damaged("it has an unknown header")),
    };
    let mut entries = 0_u64;
    for _ in 0..lists {
        loop {
            let length = input.length()?;
            if length == END {
                break;
            }
            let value_length = input.length()?;
            let key = input.bytes(length, KEY_BYTES_MAX)?;
            if value_length == REMOVED {
                each(&key, None)?;
            } else {
                let value = input.bytes(value_length, VALUE_BYTES_MAX)?;
                each(&key, Some(&value))?;
            }
            entries += 1;
        }
    }
    let mut count = [0; 8];
    input.take(&mut count)?;
    let hash = input.hash.finalize();
    let mut expected = [0; 32];
    input.take(&mut expected)?;
    if u64::from_le_bytes(count) != entries || hash != expected {
        return Err(damaged("its content does not match its hash"));
    }
    if input.inner.read(&mut [0])? > 0 {
        return Err(damaged("data follows its end"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, StoreOptions};

    async fn exported(records: u64) -> (tempfile::TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("db"), StoreOptions::default()).unwrap();
        for n in 0..records {
            store.probe_put(&n.to_be_bytes(), &vec![7; n as usize % 500]).await.unwrap();
        }
        let path = dir.path().join("export");
        // And the format's number, from which session on tokens are bound, and that payments are indexed.
        assert_eq!(
            store.export(File::create(&path).unwrap(), Path::new("unused")).await.unwrap(),
            records + 3
        );
        let bytes = std::fs::read(&path).unwrap();
        (dir, bytes)
    }

    fn import(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<u64> {
        let path = dir.join(format!("{name}.export"));
        std::fs::write(&path, bytes).unwrap();
        Store::import(&dir.join(name), &mut File::open(&path).unwrap(), || Ok(()))
    }

    #[tokio::test]
    async fn an_import_has_every_record() {
        let (dir, bytes) = exported(2500).await;
        assert_eq!(import(dir.path(), "again", &bytes).unwrap(), 2503);
        let store = Store::open(dir.path().join("again"), StoreOptions::default()).unwrap();
        for n in 0..2500_u64 {
            let value = store.probe_get(&n.to_be_bytes()).await.unwrap();
            assert_eq!(value, Some(vec![7; n as usize % 500]), "{n}");
        }
        let again = import(dir.path(), "again", &bytes).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_export_is_of_one_moment_though_the_store_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("db"), StoreOptions::default()).unwrap();
        // Two records that are always written together, at both ends of the tree, and one that is created and
        // removed.
        let write = |round: u64| {
            move |txn: &mut Txn| {
                for end in [0, u8::MAX] {
                    txn.put(keys::probe(&[end]), encode_u64(round));
                }
                let passing = keys::probe(&[7]);
                if round.is_multiple_of(2) {
                    txn.put(passing, encode_u64(round))
                } else {
                    txn.delete(passing)
                }
                Ok(())
            }
        };
        for n in 0..5000_u64 {
            store.probe_put(&[&[1][..], &n.to_be_bytes()].concat(), &[7; 100]).await.unwrap();
        }
        let writer = tokio::spawn({
            let store = store.clone();
            async move {
                for round in 1.. {
                    if store.sled().change(write(round)).await.is_err() {
                        return;
                    }
                }
            }
        });
        for n in 0..5 {
            let path = dir.path().join(format!("export-{n}"));
            store.export(File::create(&path).unwrap(), Path::new("unused")).await.unwrap();
            let bytes = std::fs::read(&path).unwrap();
            import(dir.path(), &format!("again-{n}"), &bytes).unwrap();
            let again = Store::open(dir.path().join(format!("again-{n}")), StoreOptions::default()).unwrap();
            let [low, high, passing] = [
                again.probe_get(&[0]).await.unwrap(),
                again.probe_get(&[u8::MAX]).await.unwrap(),
                again.probe_get(&[7]).await.unwrap(),
            ];
            assert_eq!(low, high, "export {n}");
            let round = u64::from_be_bytes(low.unwrap().try_into().unwrap());
            assert_eq!(passing.is_some(), round.is_multiple_of(2), "export {n}, round {round}");
        }
        store.close();
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn an_export_of_the_version_before_is_imported() {
        let (dir, bytes) = exported(20).await;
        // Without the second list, which is empty.
        let records = &bytes[MAGIC.len()..bytes.len() - 32 - 8 - 4];
        let mut before = [&MAGIC_BEFORE[..], records, &23_u64.to_le_bytes()].concat();
        let hash = blake3::hash(&before);
        before.extend_from_slice(hash.as_bytes());
        assert_eq!(import(dir.path(), "again", &before).unwrap(), 23);
    }

    #[tokio::test]
    async fn a_second_export_at_once_is_refused() {
        let (dir, _) = exported(20).await;
        let store = Store::open(dir.path().join("db"), StoreOptions::default()).unwrap();
        let running = store.sled().committer.captures().reserve().unwrap();
        let path = dir.path().join("second");
        let export = async || store.export(File::create(&path).unwrap(), Path::new("unused")).await;
        let refused = export().await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        drop(running);
        export().await.unwrap();
    }

    /// Makes the writer wait until the sender goes.
    async fn blocked(store: &Store) -> std::sync::mpsc::Sender<()> {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let (begun, running) = tokio::sync::oneshot::channel();
        let wait = move |_: &mut Txn| {
            begun.send(()).unwrap();
            let _ = receiver.recv();
            Ok(())
        };
        store.sled().change_then(wait, |_| ()).unwrap();
        running.await.unwrap();
        sender
    }

    /// Exports to a file once the queue has room.
    async fn exported_to(store: &Store, path: &Path) -> u64 {
        loop {
            match store.sled().export_to(File::create(path).unwrap()).await {
                Err(error) if is_busy(&error) => tokio::task::yield_now().await,
                exported => break exported.unwrap(),
            }
        }
    }

    fn is_busy(error: &io::Error) -> bool {
        error.to_string() == StoreError::Busy.to_string()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_export_that_is_dropped_or_refused_leaves_the_way_free() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { queue_max: 1, ..StoreOptions::default() };
        let store = Store::open(dir.path().join("db"), options).unwrap();
        let path = dir.path().join("export");
        let export = async || store.sled().export_to(File::create(&path).unwrap()).await;
        let writer = blocked(&store).await;
        // The change that begins it waits.
        let dropped = tokio::time::timeout(std::time::Duration::from_millis(50), export()).await;
        assert!(dropped.is_err(), "{dropped:?}");
        let refused = export().await.unwrap_err();
        assert!(is_busy(&refused), "{refused}");
        drop(writer);
        exported_to(&store, &path).await;
    }

    #[cfg(unix)]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_export_ends_while_no_change_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { queue_max: 1, ..StoreOptions::default() };
        let store = Store::open(dir.path().join("db"), options).unwrap();
        for n in 0..2000_u64 {
            store.probe_put(&n.to_be_bytes(), &[7; 1000]).await.unwrap();
        }
        // A full pipe holds it up until the queue is full.
        let (mut reader, pipe) = io::pipe().unwrap();
        let exporting = tokio::spawn({
            let store = store.clone();
            async move { store.sled().export_to(File::from(std::os::fd::OwnedFd::from(pipe))).await }
        });
        let mut bytes = vec![0; MAGIC.len()];
        reader.read_exact(&mut bytes).unwrap();
        let writer = blocked(&store).await;
        store.sled().change_then(|_| Ok(()), |_| ()).unwrap();
        assert!(matches!(store.sled().change(|_| Ok(())).await, Err(StoreError::Busy)));
        let rest = tokio::task::spawn_blocking(move || reader.read_to_end(&mut bytes).map(|_| bytes));
        // A pipe cannot be synced, which is the last step.
        let ended = exporting.await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::InvalidInput, "{ended}");
        assert_eq!(import(dir.path(), "piped", &rest.await.unwrap().unwrap()).unwrap(), 2003);
        drop(writer);
        assert_eq!(exported_to(&store, &dir.path().join("export")).await, 2003);
    }

    #[tokio::test]
    async fn a_file_that_is_not_whole_makes_nothing() {
        let (dir, bytes) = exported(20).await;
        let refused = |name: &str, bytes: &[u8]| {
            let error = import(dir.path(), name, bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{name}: {error}");
            assert!(!dir.path().join(name).exists(), "{name}");
        };
        for cut in 0..bytes.len() {
            refused("cut", &bytes[..cut]);
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            refused("changed", &changed);
        }
        refused("longer", &[&bytes[..], b"x"].concat());
    }

    #[tokio::test]
    async fn numbers_that_are_kept_outside_go_on_far_above() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("db"), StoreOptions::default()).unwrap();
        let numbers = async |store: &Store| -> Vec<u64> {
            let next = |txn: &mut Txn| KEPT_OUTSIDE.iter().map(|sequence| txn.next(sequence)).collect();
            store.sled().change(next).await.unwrap()
        };
        let imported = async |store: &Store, name: &str| {
            let path = dir.path().join("export");
            let records = store.export(File::create(&path).unwrap(), Path::new("unused")).await.unwrap();
            assert_eq!(import(dir.path(), name, &std::fs::read(&path).unwrap()).unwrap(), records);
            Store::open(dir.path().join(name), StoreOptions::default()).unwrap()
        };
        let unused = imported(&store, "unused").await;
        assert!(unused.is_empty().await.unwrap() && unused.is_unused().await.unwrap());
        assert_eq!(numbers(&unused).await, [GAP + 1; KEPT_OUTSIDE.len()]);
        assert_eq!(numbers(&store).await, [1; KEPT_OUTSIDE.len()]);
        let used = imported(&store, "used").await;
        assert_eq!(numbers(&used).await, [GAP + 2; KEPT_OUTSIDE.len()]);
        let twice = imported(&used, "twice").await;
        assert_eq!(numbers(&twice).await, [2 * GAP + 3; KEPT_OUTSIDE.len()]);
    }

    #[tokio::test]
    async fn an_import_that_was_cut_off_is_no_store() {
        let (dir, _) = exported(20).await;
        let path = dir.path().join("half");
        let mut file = File::open(dir.path().join("export")).unwrap();
        Store::import(&path, &mut file, || Err(io::Error::other("cut off"))).unwrap_err();
        let opened = Store::open(&path, StoreOptions::default());
        assert!(path.join("sled.new").exists() && !path.join("sled").exists());
        assert!(matches!(opened, Err(StoreError::HalfImported { .. })), "{opened:?}");
    }
}
