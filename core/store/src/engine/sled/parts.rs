//! Long records, in several entries.
//!
//! The engine splits a page by the number of its entries, whatever their length, and keeps a page well only up to a
//! quarter of a segment (see `folder`). Here a value of more than [`PART_BYTES`] becomes parts, which are entries of
//! their own, and its record's entry holds a stub that names them. With short entries the segments can be small.
//!
//! | key | value |
//! |---|---|
//! | a record's | the value, or a stub: a tag, the number of the parts (u64), the length of the value (u32) |
//! | `~`, number u64, position u32 | one part |
//! | `~` | the kinds of records that ever had a stub: the first two bytes of their keys |
//!
//! Invariants: a number is used for one value only, so parts never change, and a reader that meets a stub finds all of
//! its parts or, when the record was written again meanwhile, another value under the record's key. A stub and its
//! parts are written by one batch and removed by one batch. Only a record whose kind ever had a stub is looked up
//! before it is written, so a store without long records pays nothing for them.

use std::collections::BTreeMap;
use std::io;

use sled::{Batch, IVec};

use crate::engine::sled::error;

/// Longest value, and part of a value, that is one entry.
pub(crate) const PART_BYTES: usize = 8 * 1024;
/// The key of the kinds, and what the keys of all parts begin with. No record's key begins with it or follows it.
pub(crate) const PARTS: &[u8] = b"~";

/// Begins a stub. It is not UTF-8, so no client's text can contain it.
const TAG: [u8; 8] = [0xff, 0xfe, b'p', b'a', b'r', b't', b's', 0xff];
const STUB_BYTES: usize = TAG.len() + 8 + 4;

/// What is written at once; a key without a value is removed.
pub(crate) type Writes = BTreeMap<IVec, Option<IVec>>;

/// Stands under a record's key for a value that is in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stub {
    number: u64,
    /// Of the value.
    bytes: u32,
}

impl Stub {
    /// Reads a record's entry; `None` when it holds the value itself.
    pub(crate) fn of(entry: &[u8]) -> Option<Stub> {
        let (number, bytes) = entry.strip_prefix(&TAG)?.split_first_chunk::<8>()?;
        let bytes = u32::from_be_bytes(bytes.try_into().ok()?);
        Some(Stub { number: u64::from_be_bytes(*number), bytes })
    }

    fn to_entry(self) -> [u8; STUB_BYTES] {
        let mut entry = [0; STUB_BYTES];
        entry[..8].copy_from_slice(&TAG);
        entry[8..16].copy_from_slice(&self.number.to_be_bytes());
        entry[16..].copy_from_slice(&self.bytes.to_be_bytes());
        entry
    }

    /// The keys of the parts.
    pub(crate) fn keys(self) -> impl Iterator<Item = IVec> {
        let count = self.bytes.div_ceil(const { PART_BYTES as u32 });
        (0..count).map(move |position| {
            IVec::from([PARTS, &self.number.to_be_bytes(), &position.to_be_bytes()].concat())
        })
    }

    /// The value; `None` when its record was written again meanwhile, or the database is damaged.
    fn value(self, tree: &sled::Tree) -> sled::Result<Option<IVec>> {
        let mut value = Vec::with_capacity(self.bytes as usize);
        for key in self.keys() {
            let Some(part) = tree.get(key)? else { return Ok(None) };
            value.extend_from_slice(&part);
        }
        Ok((value.len() == self.bytes as usize).then(|| value.into()))
    }
}

/// The value of a record whose entry held a stub a moment ago, and the stub that it has now. `None` when the record was
/// removed meanwhile.
///
/// # Errors
///
/// Those of the engine; [`sled::Error::Io`] when parts are missing.
pub(crate) fn whole(
    tree: &sled::Tree,
    key: &[u8],
    mut stub: Stub,
) -> sled::Result<Option<(IVec, Option<Stub>)>> {
    loop {
        if let Some(value) = stub.value(tree)? {
            return Ok(Some((value, Some(stub))));
        }
        let Some(entry) = tree.get(key)? else { return Ok(None) };
        match Stub::of(&entry) {
            None => return Ok(Some((entry, None))),
            Some(newer) if newer.number != stub.number => stub = newer,
            Some(_) => {
                let reason = format!("a part of record {} is missing", key.escape_ascii());
                return Err(sled::Error::Io(io::Error::new(io::ErrorKind::InvalidData, reason)));
            }
        }
    }
}

/// Turns the writes of records into a batch of entries. A tree has one at most.
pub(crate) struct Splitter {
    tree: sled::Tree,
    /// The number of the next value's parts.
    next: u64,
    kinds: Vec<[u8; 2]>,
}

impl Splitter {
    /// Reads where the database's last parts end. Nothing else writes the tree from now on.
    pub(crate) fn new(tree: sled::Tree) -> io::Result<Splitter> {
        let kinds = tree.get(PARTS).map_err(error::engine_io)?;
        let kinds = kinds.map_or_else(Vec::new, |kinds| kinds.as_chunks().0.to_vec());
        let last = tree.scan_prefix(PARTS).next_back().transpose().map_err(error::engine_io)?;
        let last = last.and_then(|(key, _)| key.get(PARTS.len()..)?.first_chunk().copied());
        Ok(Splitter { tree, next: last.map_or(0, u64::from_be_bytes) + 1, kinds })
    }

    /// # Errors
    ///
    /// Those of reading what the writes replace.
    pub(crate) fn batch(&mut self, writes: Writes) -> io::Result<Batch> {
        let mut batch = Batch::default();
        for (key, value) in writes {
            self.write(&mut batch, key, value)?;
        }
        Ok(batch)
    }

    /// Adds a record's write to a batch that has none of this record yet.
    pub(crate) fn write(&mut self, batch: &mut Batch, key: IVec, value: Option<IVec>) -> io::Result<()> {
        if key.starts_with(PARTS) {
            let reason = format!("{} is no record's key", key.escape_ascii());
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        if self.kinds.contains(&kind(&key)) {
            let replaced = self.tree.get(&key).map_err(error::engine_io)?;
            for part in replaced.and_then(|entry| Stub::of(&entry)).into_iter().flat_map(Stub::keys) {
                batch.remove(part);
            }
        }
        match value {
            // What reads like a stub is split, too, however short it is.
            Some(value) if value.len() > PART_BYTES || Stub::of(&value).is_some() => {
                self.split(batch, key, &value)?;
            }
            Some(value) => batch.insert(key, value),
            None => batch.remove(key),
        }
        Ok(())
    }

    fn split(&mut self, batch: &mut Batch, key: IVec, value: &[u8]) -> io::Result<()> {
        let bytes = u32::try_from(value.len()).map_err(io::Error::other)?;
        let stub = Stub { number: self.next, bytes };
        self.next += 1;
        for (key, part) in stub.keys().zip(value.chunks(PART_BYTES)) {
            batch.insert(key, part);
        }
        let kind = kind(&key);
        if !self.kinds.contains(&kind) {
            self.kinds.push(kind);
            batch.insert(PARTS, self.kinds.as_flattened());
        }
        batch.insert(key, &stub.to_entry());
        Ok(())
    }
}

/// The first two bytes of a key.
fn kind(key: &[u8]) -> [u8; 2] {
    let mut kind = [0; 2];
    for (to, from) in kind.iter_mut().zip(key) {
        *to = *from;
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sled::tree::{FailFlag, Tree};

    fn database() -> sled::Db {
        sled::Config::new().temporary(true).open().unwrap()
    }

    fn splitter(db: &sled::Db) -> Splitter {
        Splitter::new((**db).clone()).unwrap()
    }

    fn tree(db: &sled::Db) -> Tree {
        Tree::new((**db).clone(), FailFlag::default())
    }

    fn write<'a>(
        db: &sled::Db,
        splitter: &mut Splitter,
        writes: impl IntoIterator<Item = (&'a str, Option<Vec<u8>>)>,
    ) {
        let writes = writes.into_iter().map(|(key, value)| (key.into(), value.map(IVec::from)));
        db.apply_batch(splitter.batch(writes.collect()).unwrap()).unwrap();
    }

    /// A value in which every part differs.
    fn value(seed: usize, bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| u8::try_from((at / 64 + at + seed) % 251).unwrap()).collect()
    }

    fn parts(db: &sled::Db) -> usize {
        db.scan_prefix(PARTS).keys().filter(|key| key.as_ref().unwrap() != PARTS).count()
    }

    #[test]
    fn a_value_of_any_length_is_read_as_it_was_written() {
        let (db, lengths) = (database(), [0, 1, 20, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1]);
        let mut splitter = splitter(&db);
        for bytes in lengths.into_iter().chain([2 * PART_BYTES, 2 * PART_BYTES + 1, 40 * 1024]) {
            write(&db, &mut splitter, [("k", Some(value(bytes, bytes)))]);
            assert_eq!(tree(&db).get("k").unwrap().unwrap(), value(bytes, bytes), "{bytes}");
            assert!(db.iter().all(|entry| entry.unwrap().1.len() <= PART_BYTES));
            let expected = if bytes > PART_BYTES { bytes.div_ceil(PART_BYTES) } else { 0 };
            assert_eq!(parts(&db), expected, "{bytes}");
        }
        write(&db, &mut splitter, [("k", None)]);
        assert_eq!((tree(&db).get("k").unwrap(), parts(&db)), (None, 0));
    }

    #[test]
    fn a_value_that_reads_like_a_stub_is_a_value() {
        let (db, stub) = (database(), Stub { number: 1, bytes: 7 }.to_entry());
        let mut splitter = splitter(&db);
        write(&db, &mut splitter, [("a", Some(stub.to_vec())), ("b", Some(TAG.to_vec()))]);
        assert_eq!(tree(&db).get("a").unwrap().unwrap(), stub);
        assert_eq!(tree(&db).get("b").unwrap().unwrap(), TAG);
        write(&db, &mut splitter, [("a", Some(vec![1]))]);
        assert_eq!(parts(&db), 0);
    }

    #[test]
    fn walks_have_whole_values_and_no_parts() {
        let db = database();
        let mut splitter = splitter(&db);
        let records = [("a1", 10), ("a2", 20_000), ("a3", 30), ("b1", 9_000), ("b2", 1)];
        let records = records.map(|(key, bytes)| (key, value(bytes, bytes)));
        write(&db, &mut splitter, records.clone().map(|(key, value)| (key, Some(value))));
        let tree = tree(&db);
        let all = |entries: &mut dyn Iterator<Item = sled::Result<(IVec, IVec)>>| {
            let text = |key: IVec| String::from_utf8(key.to_vec()).unwrap();
            entries.map(Result::unwrap).map(|(key, value)| (text(key), value.to_vec())).collect::<Vec<_>>()
        };
        let mut expected: Vec<_> = records.map(|(key, value)| (key.to_owned(), value)).into();
        assert_eq!(all(&mut tree.iter()), expected);
        assert_eq!(all(&mut tree.range::<&[u8], _>(b"a".as_slice()..)), expected);
        assert_eq!(all(&mut tree.scan_prefix("a")), expected[..3]);
        let keys: Vec<IVec> = tree.iter().keys().map(Result::unwrap).collect();
        assert_eq!(keys, ["a1", "a2", "a3", "b1", "b2"].map(IVec::from));
        expected.reverse();
        assert_eq!(all(&mut tree.iter().rev()), expected);
        assert_eq!(all(&mut tree.range::<&[u8], _>(..).rev()), expected);
        assert_eq!(tree.iter().keys().next_back().unwrap().unwrap(), "b2");
    }

    #[test]
    fn numbers_go_on_after_the_database_was_opened_again() {
        let db = database();
        write(&db, &mut splitter(&db), [("a", Some(value(1, 20_000))), ("b", Some(value(2, 20_000)))]);
        let mut again = splitter(&db);
        write(&db, &mut again, [("c", Some(value(3, 20_000)))]);
        for (key, seed) in [("a", 1), ("b", 2), ("c", 3)] {
            assert_eq!(tree(&db).get(key).unwrap().unwrap(), value(seed, 20_000), "{key}");
        }
        // And what is replaced now was written before.
        write(&db, &mut again, [("a", Some(vec![])), ("b", None)]);
        assert_eq!(parts(&db), 3);
    }

    #[test]
    fn a_missing_part_is_an_error_and_no_shorter_value() {
        let db = database();
        write(&db, &mut splitter(&db), [("a", Some(value(1, 20_000)))]);
        let last = db.scan_prefix(PARTS).keys().next_back().unwrap().unwrap();
        db.remove(last).unwrap();
        let error = tree(&db).get("a").unwrap_err().to_string();
        assert!(error.contains("a part of record a is missing"), "{error}");
        assert!(tree(&db).iter().next().unwrap().is_err());
    }

    #[test]
    fn readers_see_one_of_the_values_that_a_writer_writes() {
        const ROUNDS: usize = 3000;
        let db = database();
        let mut splitter = splitter(&db);
        let written = |round: usize| match round % 4 {
            0 => Some(vec![0; 20_000]),
            1 => Some(vec![1; 9_000]),
            2 => Some(vec![2; 30]),
            _ => None,
        };
        write(&db, &mut splitter, [("k", written(0)), ("z", Some(vec![9]))]);
        let read = |value: IVec| {
            let seed = value[0];
            assert!(value.iter().all(|byte| *byte == seed), "a mixture");
            assert_eq!(Some(value.to_vec()), written(seed.into()));
            usize::from(seed)
        };
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = |walks: bool| {
                let (tree, done, read) = (tree(&db), &done, &read);
                move || {
                    let mut seen = [0_usize; 4];
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let value = if walks {
                            let entries: Vec<_> = tree.iter().map(Result::unwrap).collect();
                            assert_eq!(entries.last().unwrap().0, "z");
                            assert!(entries.len() <= 2);
                            (entries.len() == 2).then(|| entries[0].1.clone())
                        } else {
                            tree.get("k").unwrap()
                        };
                        seen[value.map_or(3, read)] += 1;
                    }
                    seen
                }
            };
            let readers = [scope.spawn(reader(false)), scope.spawn(reader(true))];
            for round in 0..ROUNDS {
                write(&db, &mut splitter, [("k", written(round))]);
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            for reader in readers {
                let seen = reader.join().unwrap();
                assert!(seen.iter().sum::<usize>() > 0, "{seen:?}");
            }
        });
    }
}
