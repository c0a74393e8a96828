//! The whole store as one file, and back: what a backup keeps, whatever the engine's own files look like.
//!
//! The file: [`MAGIC`]; for each record the lengths of key and value (u32, little endian) and both; then
//! [`END`] (u32), the number of records (u64) and the BLAKE3 hash (32 bytes) of everything before it. Keys ascend.
//! Invariants: an export is the store between two changes, because the writer thread makes it; a file that is cut or
//! changed anywhere is refused before anything is written; a store whose import was cut off is refused when it is
//! opened, because a file in its folder says so from before the first record until after the last step.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use crate::Store;
use crate::engine::Engine;
use crate::engine::sled::keys::money as money_keys;
use crate::engine::sled::record::{decode_u64, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{error, keys};

const MAGIC: &[u8] = b"chelseru store 1";
const END: u32 = u32::MAX;
/// Longest key and value that are believed; the store's own are far shorter.
const KEY_BYTES_MAX: u32 = 64 * 1024;
const VALUE_BYTES_MAX: u32 = 256 * 1024 * 1024;
/// Numbers that tokens, links, banks and receivers of events keep. What came after the export is forgotten here, not
/// there, so an imported store goes on far above: else a forgotten session's token would be somebody else's.
const KEPT_OUTSIDE: [&[u8]; 6] = [
    keys::USER_SEQUENCE,
    keys::SESSION_SEQUENCE,
    money_keys::PAYMENT_SEQUENCE,
    money_keys::EVENT_SEQUENCE,
    keys::chat::ROOM_SEQUENCE,
    keys::chat::FILE_SEQUENCE,
];
/// Numbers that an import leaves out in each of [`KEPT_OUTSIDE`]; there can be 134 imports before rooms run out.
const GAP: u64 = 1_000_000;
/// Records that are imported in one batch.
const BATCH: usize = 1000;
/// Name of the file, inside the store's folder, that is there while an import goes on.
pub(crate) const IMPORTING_FILE: &str = "importing";

impl Store {
    /// Writes every record to a file, as of one moment, and returns their number once the file is on the disk. Changes
    /// wait meanwhile (about two seconds for a million records); reads do not.
    ///
    /// # Errors
    ///
    /// Those of writing the file; the store's own as [`io::ErrorKind::Other`]. The store is not harmed.
    pub async fn export(&self, file: File) -> io::Result<u64> {
        let Engine::Sled(sled) = &*self.engine;
        let written = sled.change(move |txn| Ok(export(txn, file))).await.map_err(io::Error::other)?;
        let (file, records) = written?;
        // Not on the writer thread: changes go on while the disk works.
        tokio::task::spawn_blocking(move || file.sync_all()).await.map_err(io::Error::other)??;
        Ok(records)
    }

    /// Makes a new store in a folder from a file that [`Store::export`] wrote, and returns the number of records.
    /// `before_whole` runs when all records are there and opening would still refuse the store.
    /// New users, sessions, payments, events, rooms and files are numbered from a million above the last one on.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] when the file is not whole, before anything is written;
    /// [`io::ErrorKind::AlreadyExists`] when the folder is there; those of reading, writing and
    /// `before_whole`.
    pub fn import(
        path: &Path,
        file: &mut File,
        before_whole: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<u64> {
        read(file, |_, _| Ok(()))?;
        file.rewind()?;
        std::fs::create_dir(path)?;
        let importing = path.join(IMPORTING_FILE);
        File::create_new(&importing)?.sync_all()?;
        let sync_folder = || File::open(path)?.sync_all();
        sync_folder()?;
        let database = path.join("sled");
        let config = sled::Config::new().path(&database).flush_every_ms(None);
        let db = config.open().map_err(error::engine_io)?;
        let mut batch = sled::Batch::default();
        let mut gathered = 0;
        let records = read(file, |key, value| {
            if KEPT_OUTSIDE.contains(&key) {
                let last = decode_u64("sequence", value).map_err(io::Error::other)?;
                batch.insert(key, encode_u64(last.saturating_add(GAP)));
            } else {
                batch.insert(key, value);
            }
            gathered += 1;
            if gathered == BATCH {
                gathered = 0;
                db.apply_batch(std::mem::take(&mut batch)).map_err(error::engine_io)?;
            }
            Ok(())
        })?;
        db.apply_batch(batch).map_err(error::engine_io)?;
        db.flush().map_err(error::engine_io)?;
        File::open(database.join("db"))?.sync_data()?;
        before_whole()?;
        std::fs::remove_file(&importing)?;
        sync_folder()?;
        Ok(records)
    }
}

/// Hashes what goes through.
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
            io::ErrorKind::UnexpectedEof => damaged("it ends in the middle"),
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
            return Err(damaged("a record is longer than any can be"));
        }
        let mut bytes = vec![0; length as usize];
        self.take(&mut bytes)?;
        Ok(bytes)
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a whole export of a store: {what}"))
}

fn export(txn: &Txn, file: File) -> io::Result<(File, u64)> {
    let mut out = Hashed { inner: BufWriter::with_capacity(256 * 1024, file), hash: blake3::Hasher::new() };
    out.put(MAGIC)?;
    let mut records = 0_u64;
    for entry in txn.written() {
        let (key, value) = entry.map_err(io::Error::other)?;
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        out.put(&length(&key)?.to_le_bytes())?;
        out.put(&length(&value)?.to_le_bytes())?;
        out.put(&key)?;
        out.put(&value)?;
        records += 1;
    }
    out.put(&END.to_le_bytes())?;
    out.put(&records.to_le_bytes())?;
    let hash = out.hash.finalize();
    out.inner.write_all(hash.as_bytes())?;
    let file = out.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok((file, records))
}

/// Reads a file to its end, handing out its records; the last thing that is looked at is whether it was whole.
fn read(file: &mut File, mut each: impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut input = Hashed { inner: BufReader::with_capacity(256 * 1024, file), hash: blake3::Hasher::new() };
    let mut magic = [0; MAGIC.len()];
    input.take(&mut magic)?;
    if magic != MAGIC {
        return Err(damaged("it begins with something else"));
    }
    let mut records = 0_u64;
    loop {
        let length = input.length()?;
        if length == END {
            break;
        }
        let value_length = input.length()?;
        let key = input.bytes(length, KEY_BYTES_MAX)?;
        let value = input.bytes(value_length, VALUE_BYTES_MAX)?;
        each(&key, &value)?;
        records += 1;
    }
    let mut count = [0; 8];
    input.take(&mut count)?;
    let hash = input.hash.finalize();
    let mut expected = [0; 32];
    input.take(&mut expected)?;
    if u64::from_le_bytes(count) != records || hash != expected {
        return Err(damaged("its content does not match its hash"));
    }
    if input.inner.read(&mut [0])? > 0 {
        return Err(damaged("something follows its end"));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StoreError, StoreOptions};

    async fn exported(records: u64) -> (tempfile::TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("db"), StoreOptions::default()).unwrap();
        for n in 0..records {
            store.probe_put(&n.to_be_bytes(), &vec![7; n as usize % 500]).await.unwrap();
        }
        let path = dir.path().join("export");
        // And the format's number.
        assert_eq!(store.export(File::create(&path).unwrap()).await.unwrap(), records + 1);
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
        assert_eq!(import(dir.path(), "again", &bytes).unwrap(), 2501);
        let store = Store::open(dir.path().join("again"), StoreOptions::default()).unwrap();
        for n in 0..2500_u64 {
            let value = store.probe_get(&n.to_be_bytes()).unwrap();
            assert_eq!(value, Some(vec![7; n as usize % 500]), "{n}");
        }
        let again = import(dir.path(), "again", &bytes).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
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
        let numbers = async |store: &Store| {
            let next = |txn: &mut Txn| KEPT_OUTSIDE.iter().map(|sequence| txn.next(sequence)).collect();
            store.sled().change(next).await.unwrap()
        };
        let one: Vec<u64> = numbers(&store).await;
        assert_eq!(one, [1; KEPT_OUTSIDE.len()]);
        let path = dir.path().join("export");
        store.export(File::create(&path).unwrap()).await.unwrap();
        import(dir.path(), "again", &std::fs::read(&path).unwrap()).unwrap();
        let again = Store::open(dir.path().join("again"), StoreOptions::default()).unwrap();
        assert_eq!(numbers(&again).await, [GAP + 2; KEPT_OUTSIDE.len()]);
    }

    #[tokio::test]
    async fn an_import_that_was_cut_off_is_no_store() {
        let (dir, _) = exported(20).await;
        let path = dir.path().join("half");
        let mut file = File::open(dir.path().join("export")).unwrap();
        Store::import(&path, &mut file, || Err(io::Error::other("cut off"))).unwrap_err();
        let opened = Store::open(&path, StoreOptions::default());
        assert!(path.join("sled").exists());
        assert!(matches!(opened, Err(StoreError::HalfImported { .. })), "{opened:?}");
    }
}
