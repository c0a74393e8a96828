//! Frees what the engine replaced.
//!
//! The engine replaces a page by a new one and leaves the old one to `crossbeam-epoch`, which frees up to 512 objects
//! at every 128th operation of a thread. A batch is one operation that replaces several objects for each of its
//! writes, so a writer leaves more than is freed: an import of 1,000,000 messages held 8 GiB. Here the writer frees as
//! much as it left.

/// Objects that one round frees at most: 8 bags of 64, in `crossbeam-epoch` 0.9.
const FREED_BY_A_ROUND: usize = 512;
/// Objects that the engine leaves for each write, at most: page and entry, and those of a split or a merge at times.
const LEFT_BY_A_WRITE: usize = 4;
/// Rounds until a fresh object may be freed: an epoch passes in each, and two must have passed.
const ROUNDS_MIN: usize = 3;

/// Frees about as many objects as a batch of so many writes has left, unless somebody still reads them.
pub(crate) fn collect(writes: usize) {
    for _ in 0..ROUNDS_MIN + writes * LEFT_BY_A_WRITE / FREED_BY_A_ROUND {
        crossbeam_epoch::pin().flush();
    }
}
