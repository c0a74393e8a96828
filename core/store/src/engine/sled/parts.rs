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
                return Err(invalid(format!("a part of record {} is missing", key.escape_ascii())));
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
    pub(crate) fn new(tree: sled::Tree) -> sled::Result<Splitter> {
        let kinds = tree.get(PARTS)?;
        let kinds = kinds.map_or_else(Vec::new, |kinds| kinds.as_chunks().0.to_vec());
        let last = tree.scan_prefix(PARTS).next_back().transpose()?;
        let last = last.and_then(|(key, _)| key.get(PARTS.len()..)?.first_chunk().copied());
        Ok(Splitter { tree, next: last.map_or(0, u64::from_be_bytes) + 1, kinds })
    }

    /// # Errors
    ///
    /// Those of reading what the writes replace.
    pub(crate) fn batch(&mut self, writes: Writes) -> sled::Result<Batch> {
        let mut batch = Batch::default();
        for (key, value) in writes {
            self.write(&mut batch, key, value)?;
        }
        Ok(batch)
    }

    /// Adds a record's write to a batch that has none of this record yet.
    pub(crate) fn write(&mut self, batch: &mut Batch, key: IVec, value: Option<IVec>) -> sled::Result<()> {
        if key.starts_with(PARTS) {
            return Err(invalid(format!("{} is no record's key", key.escape_ascii())));
        }
        if self.kinds.contains(&kind(&key)) {
            let replaced = self.tree.get(&key)?;
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

    fn split(&mut self, batch: &mut Batch, key: IVec, value: &[u8]) -> sled::Result<()> {
        let bytes = u32::try_from(value.len()).map_err(|_| invalid("a value of 4 GiB".to_owned()))?;
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

fn invalid(reason: String) -> sled::Error {
    sled::Error::Io(io::Error::new(io::ErrorKind::InvalidData, reason))
}

/// The first two bytes of a key.
fn kind(key: &[u8]) -> [u8; 2] {
    let mut kind = [0; 2];
    for (to, from) in kind.iter_mut().zip(key) {
        *to = *from;
    }
    kind
}
