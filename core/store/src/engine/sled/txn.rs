//! The view of a running change: the database overlaid with the batch being gathered.
//!
//! Only the writer thread has one, and only that thread writes the tree, so the data a change reads cannot move. The
//! writes of the running change can be rolled back without those of the changes before it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Bound;

use sled::IVec;

use crate::StoreError;
use crate::engine::sled::capture::Captures;
use crate::engine::sled::error;
use crate::engine::sled::folder::{KEY_BYTES_MAX, RECORD_BYTES_MAX};
use crate::engine::sled::parts::Writes;
use crate::engine::sled::record::{Record, decode, decode_u64, encode, encode_u64};
use crate::engine::sled::tree::{BYTES_PER_ACCESS, Tree};
use crate::types::UserId;

/// A room's newest message: number and sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) seq: u64,
    pub(crate) sender: UserId,
}

/// Rooms whose newest message is cached; 24 bytes each.
const NEWEST_MAX: usize = 16_384;

/// Cached values as the tree holds them. A look-up here costs a tenth of one in the tree, and changes read the same
/// few records again and again (a room and its members, a wallet, a sequence). There are two generations: a full
/// young one becomes the old one, and values not read since are dropped.
#[derive(Default)]
struct Recent {
    young: HashMap<IVec, IVec>,
    old: HashMap<IVec, IVec>,
}

/// Values of one generation, and their maximum length in bytes: at most 16 MiB in all.
const RECENT_MAX: usize = 8192;
const RECENT_BYTES_MAX: usize = 1024;

impl Recent {
    fn get(&mut self, key: &[u8]) -> Option<IVec> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.add(key, value.clone());
        Some(value)
    }

    fn read(&mut self, key: &[u8], value: &IVec) {
        if value.len() <= RECENT_BYTES_MAX {
            // A copy: the engine's value may be part of a larger buffer.
            self.add(IVec::from(key), IVec::from(&**value));
        }
    }

    fn add(&mut self, key: IVec, value: IVec) {
        if self.young.len() >= RECENT_MAX && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Updates the cache with a pending write, so it is never older than the tree.
    fn written(&mut self, key: &IVec, value: Option<&IVec>) {
        let was_old = self.old.remove(key).is_some();
        let known = was_old || self.young.contains_key(key);
        match value {
            Some(value) if known && value.len() <= RECENT_BYTES_MAX => self.add(key.clone(), value.clone()),
            _ if known => drop(self.young.remove(key)),
            _ => {}
        }
    }
}

pub(crate) struct Txn {
    tree: Tree,
    recent: RefCell<Recent>,
    /// Flags that the tree does not hold, as far as they were asked for.
    unset: RefCell<Vec<&'static [u8]>>,
    overlay: Writes,
    /// Bytes of keys and values in it.
    bytes: usize,
    /// Previous overlay values of the keys that the running change wrote, oldest first.
    undo: Vec<(IVec, Option<Option<IVec>>)>,
    /// Newest messages of recently written rooms; a scan finds the others.
    newest: HashMap<u64, Newest>,
    /// A record or a key of the running change that is too long.
    oversized: Option<Oversized>,
    /// The writes since an export began, while one runs.
    captures: Captures,
    /// Keys and lengths of the last batch's records that the engine must be made to count.
    long: Vec<(IVec, usize)>,
}

/// Bytes of what is too long, and how many it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Oversized {
    pub(crate) bytes: usize,
    pub(crate) max: usize,
}

impl Txn {
    pub(crate) fn new(tree: Tree) -> Self {
        Txn {
            tree,
            recent: RefCell::default(),
            unset: RefCell::default(),
            overlay: Writes::new(),
            bytes: 0,
            undo: Vec::new(),
            newest: HashMap::new(),
            oversized: None,
            captures: Captures::default(),
            long: Vec::new(),
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        match self.overlay.get(key) {
            Some(pending) => Ok(pending.clone()),
            None => self.get_written(key),
        }
    }

    /// Whether a key exists that stands for a setting and seldom changes: a missing one is looked for once, which
    /// [`Txn::get`] does each time.
    pub(crate) fn has_flag(&self, key: &'static [u8]) -> Result<bool, StoreError> {
        if let Some(pending) = self.overlay.get(key) {
            return Ok(pending.is_some());
        }
        if self.unset.borrow().contains(&key) {
            return Ok(false);
        }
        let is_set = self.get_written(key)?.is_some();
        if !is_set {
            self.unset.borrow_mut().push(key);
        }
        Ok(is_set)
    }

    fn get_written(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        let mut recent = self.recent.borrow_mut();
        if let Some(value) = recent.get(key) {
            return Ok(Some(value));
        }
        let value = self.tree.get(key).map_err(error::read)?;
        if let Some(value) = &value {
            recent.read(key, value);
        }
        Ok(value)
    }

    /// A record above [`RECORD_BYTES_MAX`], or a key above [`KEY_BYTES_MAX`], fails the running change when it ends
    /// (see [`Txn::take_oversized`]).
    pub(crate) fn put(&mut self, key: IVec, value: IVec) {
        for (bytes, max) in [(key.len() + value.len(), RECORD_BYTES_MAX), (key.len(), KEY_BYTES_MAX)] {
            if bytes > max {
                self.oversized = Some(Oversized { bytes, max });
            }
        }
        self.write(key, Some(value));
    }

    pub(crate) fn delete(&mut self, key: IVec) {
        self.write(key, None);
    }

    /// The first `limit` entries whose key starts with `prefix`, in key order.
    pub(crate) fn scan(&self, prefix: &[u8], limit: usize) -> Result<Vec<(IVec, IVec)>, StoreError> {
        let range = (Bound::Included(prefix), Bound::Unbounded);
        let mut pending =
            self.overlay.range::<[u8], _>(range).take_while(|(key, _)| key.starts_with(prefix)).peekable();
        let mut stored = self.tree.scan_prefix(prefix).peekable();
        let mut found = Vec::new();
        while found.len() < limit {
            let take_pending = match (pending.peek(), stored.peek()) {
                (None, None) => break,
                (Some(_), None) => true,
                (None, Some(_)) | (_, Some(Err(_))) => false,
                (Some((pending, _)), Some(Ok((stored, _)))) => *pending <= stored,
            };
            if take_pending {
                let Some((key, value)) = pending.next() else { break };
                // The overlay wins for a key that is in both.
                if stored.peek().is_some_and(|entry| entry.as_ref().is_ok_and(|(stored, _)| stored == key)) {
                    stored.next();
                }
                if let Some(value) = value {
                    found.push((key.clone(), value.clone()));
                }
            } else if let Some(entry) = stored.next() {
                found.push(entry.map_err(error::read)?);
            }
        }
        Ok(found)
    }

    /// The last `limit` keys that start with `prefix`, in reverse order. Reads `limit` stored keys more than there are
    /// removals in the running batch.
    pub(crate) fn scan_back(&self, prefix: &[u8], limit: usize) -> Result<Vec<IVec>, StoreError> {
        let mut keys = Vec::new();
        for key in self.tree.scan_prefix(prefix).keys().rev() {
            let key = key.map_err(error::read)?;
            if !self.overlay.contains_key(&key) {
                keys.push(key);
            }
            if keys.len() >= limit {
                break;
            }
        }
        let range = (Bound::Included(prefix), Bound::Unbounded);
        let pending = self.overlay.range::<[u8], _>(range).take_while(|(key, _)| key.starts_with(prefix));
        keys.extend(pending.filter(|(_, value)| value.is_some()).map(|(key, _)| key.clone()));
        keys.sort_unstable_by(|one, other| other.cmp(one));
        keys.truncate(limit);
        Ok(keys)
    }

    /// What exports capture.
    pub(crate) fn captures(&self) -> &Captures {
        &self.captures
    }

    /// The last key that starts with `prefix`.
    pub(crate) fn last_key(&self, prefix: &[u8]) -> Result<Option<IVec>, StoreError> {
        // The first key after the prefix; all prefixes end in a number below the largest.
        let mut end = prefix.to_vec();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        self.last_key_in((Bound::Included(prefix), Bound::Excluded(&end)))
    }

    /// The last key from `first` to `last`, both included.
    pub(crate) fn last_key_of(&self, first: &[u8], last: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.last_key_in((Bound::Included(first), Bound::Included(last)))
    }

    fn last_key_in(&self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<Option<IVec>, StoreError> {
        let removed = |key: &[u8]| self.overlay.get(key).is_some_and(Option::is_none);
        let pending = self.overlay.range::<[u8], _>(range).rev().find(|(_, value)| value.is_some());
        let mut stored = self.tree.range::<&[u8], _>(range);
        let stored = loop {
            match stored.next_back().transpose().map_err(error::read)? {
                Some((key, _)) if removed(&key) => {}
                other => break other.map(|(key, _)| key),
            }
        };
        Ok(pending.map(|(key, _)| key.clone()).max(stored))
    }

    /// Counts the entries with a key from `first` to `last`, both included.
    pub(crate) fn count_between(&self, first: &[u8], last: &[u8]) -> Result<u64, StoreError> {
        if first > last {
            return Ok(0);
        }
        let range = (Bound::Included(first), Bound::Included(last));
        let mut count = 0;
        for key in self.tree.range::<&[u8], _>((Bound::Included(first), Bound::Included(last))).keys() {
            // The overlay wins for a key that is in both.
            count += u64::from(!self.overlay.contains_key(&key.map_err(error::read)?));
        }
        let pending = self.overlay.range::<[u8], _>(range).filter(|(_, value)| value.is_some()).count();
        Ok(count + pending as u64)
    }

    pub(crate) fn get_record<R: Record>(&self, key: &[u8]) -> Result<Option<R>, StoreError> {
        self.get(key)?.map(|bytes| decode(&bytes)).transpose()
    }

    pub(crate) fn put_record<R: Record>(&mut self, key: IVec, record: &R) {
        self.put(key, encode(record));
    }

    /// The next number of a sequence, from 1.
    pub(crate) fn next(&mut self, sequence: &'static [u8]) -> Result<u64, StoreError> {
        let last = self.get(sequence)?.map_or(Ok(0), |bytes| decode_u64("sequence", &bytes))?;
        self.put(sequence.into(), encode_u64(last + 1));
        Ok(last + 1)
    }

    /// The number [`Txn::next`] would return, without taking it.
    pub(crate) fn peek_next(&self, sequence: &'static [u8]) -> Result<u64, StoreError> {
        Ok(1 + self.get(sequence)?.map_or(Ok(0), |bytes| decode_u64("sequence", &bytes))?)
    }

    /// The newest message of a room, if cached.
    pub(crate) fn newest(&self, room: u64) -> Option<Newest> {
        self.newest.get(&room).copied()
    }

    /// Caches the newest message of a room. Numbers only grow, and a rollback clears the cache.
    pub(crate) fn note_newest(&mut self, room: u64, newest: Newest) {
        if self.newest.len() >= NEWEST_MAX {
            self.newest.clear();
        }
        self.newest.insert(room, newest);
    }

    /// What is too long in the running change.
    pub(crate) fn take_oversized(&mut self) -> Option<Oversized> {
        self.oversized.take()
    }

    /// Keeps the writes of the ended change.
    pub(crate) fn keep(&mut self) {
        self.undo.clear();
    }

    /// Rolls back the writes of the ended change.
    pub(crate) fn undo(&mut self) {
        self.newest.clear();
        while let Some((key, before)) = self.undo.pop() {
            let length = key.len();
            let undone = match before {
                Some(pending) => {
                    self.bytes += length + value_bytes(pending.as_ref());
                    self.overlay.insert(key, pending)
                }
                None => self.overlay.remove(&key),
            };
            self.bytes -= undone.map_or(0, |undone| length + value_bytes(undone.as_ref()));
        }
    }

    /// Bytes of what was written since the last batch.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keys that were written since the last batch.
    pub(crate) fn writes(&self) -> usize {
        self.overlay.len()
    }

    /// Returns everything written and clears it; `None` when nothing was written.
    pub(crate) fn take_writes(&mut self) -> Option<Writes> {
        if self.overlay.is_empty() {
            return None;
        }
        self.captures.add(&self.overlay);
        let (recent, unset) = (self.recent.get_mut(), self.unset.get_mut());
        for (key, value) in &self.overlay {
            recent.written(key, value.as_ref());
            unset.retain(|flag| key != *flag);
            if let Some(value) = value
                && value.len() >= BYTES_PER_ACCESS
            {
                self.long.push((key.clone(), value.len()));
            }
        }
        self.bytes = 0;
        Some(std::mem::take(&mut self.overlay))
    }

    /// Makes the engine count the long records of the batch that was written (see [`Tree::count`]).
    pub(crate) fn count_written(&mut self) {
        for (key, bytes) in self.long.drain(..) {
            self.tree.count(&key, bytes);
        }
    }

    fn write(&mut self, key: IVec, value: Option<IVec>) {
        self.bytes += key.len() + value_bytes(value.as_ref());
        let before = self.overlay.insert(key.clone(), value);
        self.bytes -= before.as_ref().map_or(0, |before| key.len() + value_bytes(before.as_ref()));
        self.undo.push((key, before));
    }
}

fn value_bytes(value: Option<&IVec>) -> usize {
    value.map_or(0, |value| value.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sled::parts::Splitter;
    use crate::engine::sled::tree::FailFlag;

    fn txn(stored: &[&str]) -> Txn {
        let db = sled::Config::new().temporary(true).open().unwrap();
        for key in stored {
            db.insert(key, "stored").unwrap();
        }
        Txn::new(Tree::new((*db).clone(), FailFlag::default()))
    }

    fn write(tree: &sled::Tree, txn: &mut Txn) {
        let writes = txn.take_writes().expect("something was written");
        tree.apply_batch(Splitter::new(tree.clone()).unwrap().batch(writes).unwrap()).unwrap();
    }

    fn scanned(txn: &Txn, prefix: &str, limit: usize) -> Vec<String> {
        let text = |bytes: &IVec| String::from_utf8(bytes.to_vec()).unwrap();
        txn.scan(prefix.as_bytes(), limit)
            .unwrap()
            .iter()
            .map(|(key, value)| format!("{}={}", text(key), text(value)))
            .collect()
    }

    #[test]
    fn a_scan_merges_the_pending_batch_with_what_is_stored() {
        let mut txn = txn(&["a1", "a3", "a5", "b1"]);
        txn.put("a2".into(), "new".into());
        txn.put("a3".into(), "changed".into());
        txn.delete("a5".into());
        txn.put("a9".into(), "new".into());
        assert_eq!(scanned(&txn, "a", 10), ["a1=stored", "a2=new", "a3=changed", "a9=new"]);
        assert_eq!(scanned(&txn, "a", 2), ["a1=stored", "a2=new"]);
        assert_eq!(scanned(&txn, "b", 10), ["b1=stored"]);
        assert_eq!(scanned(&txn, "c", 10), [""; 0]);
    }

    #[test]
    fn the_last_key_and_a_count_see_the_pending_batch() {
        let mut txn = txn(&["a1", "a3", "b1"]);
        let last = |txn: &Txn, prefix: &str| {
            txn.last_key(prefix.as_bytes()).unwrap().map(|key| String::from_utf8(key.to_vec()).unwrap())
        };
        assert_eq!(last(&txn, "a").as_deref(), Some("a3"));
        txn.put("a2".into(), "new".into());
        assert_eq!(last(&txn, "a").as_deref(), Some("a3"));
        txn.delete("a3".into());
        assert_eq!(last(&txn, "a").as_deref(), Some("a2"));
        txn.put("a7".into(), "new".into());
        assert_eq!(last(&txn, "a").as_deref(), Some("a7"));
        assert_eq!(last(&txn, "c"), None);
        assert_eq!(txn.count_between(b"a1", b"a7").unwrap(), 3);
        assert_eq!(txn.count_between(b"a2", b"a6").unwrap(), 1);
        assert_eq!(txn.count_between(b"a9", b"a1").unwrap(), 0);
        let back = |limit| txn.scan_back(b"a", limit).unwrap();
        assert_eq!(back(9), ["a7", "a2", "a1"].map(IVec::from));
        assert_eq!(back(2), ["a7", "a2"].map(IVec::from));
    }

    #[test]
    fn a_flag_is_as_it_was_last_written_in_every_order() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let mut txn = Txn::new(Tree::new((*db).clone(), FailFlag::default()));
        let flag: &[u8] = b"$F";
        assert!(!txn.has_flag(flag).unwrap() && !txn.has_flag(flag).unwrap());
        txn.put(flag.into(), IVec::default());
        assert!(txn.has_flag(flag).unwrap(), "pending");
        txn.undo();
        assert!(!txn.has_flag(flag).unwrap(), "taken back");
        txn.put(flag.into(), IVec::default());
        txn.keep();
        write(&db, &mut txn);
        assert!(txn.has_flag(flag).unwrap(), "written");
        txn.delete(flag.into());
        assert!(!txn.has_flag(flag).unwrap());
        txn.keep();
        write(&db, &mut txn);
        assert!(!txn.has_flag(flag).unwrap());
    }

    #[test]
    fn undo_takes_back_only_the_running_change() {
        let mut txn = txn(&["k"]);
        txn.put("k".into(), "first".into());
        txn.keep();
        txn.put("k".into(), "second".into());
        txn.delete("k".into());
        txn.put("other".into(), "x".into());
        txn.undo();
        assert_eq!(txn.get(b"k").unwrap().unwrap(), b"first");
        assert_eq!(txn.get(b"other").unwrap(), None);
    }

    #[test]
    fn the_bytes_of_a_batch_are_those_of_the_last_write_of_each_key() {
        let mut txn = txn(&["k"]);
        txn.put("k".into(), "first".into());
        txn.put("k".into(), "2".into());
        txn.delete("other".into());
        assert_eq!(txn.bytes(), 2 + 5);
        txn.keep();
        txn.put("k".into(), "third".into());
        txn.delete("k".into());
        txn.put("new".into(), "x".into());
        assert_eq!(txn.bytes(), 1 + 5 + 4);
        txn.undo();
        assert_eq!(txn.bytes(), 2 + 5);
        txn.take_writes().unwrap();
        assert_eq!(txn.bytes(), 0);
    }

    #[test]
    fn a_change_that_was_undone_leaves_no_batch() {
        let mut txn = txn(&[]);
        txn.put("k".into(), "v".into());
        txn.undo();
        assert_eq!(txn.bytes(), 0);
        assert!(txn.take_writes().is_none());
    }

    #[test]
    fn what_was_read_lately_is_never_older_than_the_tree() {
        let mut txn = txn(&["a", "b"]);
        let read = |txn: &Txn, key: &str| {
            txn.get(key.as_bytes()).unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
        };
        let write = |txn: &mut Txn| write(&txn.tree.engine().clone(), txn);
        assert_eq!(read(&txn, "a").as_deref(), Some("stored"));
        txn.put("a".into(), "second".into());
        txn.keep();
        write(&mut txn);
        assert_eq!(read(&txn, "a").as_deref(), Some("second"));
        // A rollback leaves nothing here, either.
        txn.put("a".into(), "undone".into());
        txn.undo();
        assert_eq!(read(&txn, "a").as_deref(), Some("second"));
        // Removed, created again, and longer than what is cached.
        txn.delete("a".into());
        txn.keep();
        write(&mut txn);
        assert_eq!(read(&txn, "a"), None);
        for value in ["again".to_owned(), "x".repeat(RECENT_BYTES_MAX + 1), "short".to_owned()] {
            txn.put("a".into(), value.as_str().into());
            txn.keep();
            write(&mut txn);
            assert_eq!(read(&txn, "a"), Some(value));
        }
        // Keys of an older generation stay correct, and the number of values is bounded.
        assert_eq!(read(&txn, "b").as_deref(), Some("stored"));
        for number in 0..RECENT_MAX as u64 * 3 {
            txn.put(number.to_be_bytes().as_slice().into(), "x".into());
        }
        txn.put("b".into(), "last".into());
        txn.keep();
        write(&mut txn);
        for number in 0..RECENT_MAX as u64 * 3 {
            txn.get(&number.to_be_bytes()).unwrap();
        }
        assert_eq!(read(&txn, "b").as_deref(), Some("last"));
        let recent = txn.recent.borrow();
        assert!(recent.young.len() <= RECENT_MAX && recent.old.len() <= RECENT_MAX);
    }

    #[test]
    fn a_sequence_starts_at_one() {
        let mut txn = txn(&[]);
        assert_eq!(txn.next(b"mseq").unwrap(), 1);
        assert_eq!(txn.next(b"mseq").unwrap(), 2);
    }
}
