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

/// Writes after which a writer frees. Rounds after every small batch slow the next one down; a page has up to 1 MiB, so
/// what waits stays within tens of MiB.
const WRITES_MIN: usize = 32;

/// What a writer has left to be freed.
#[derive(Default)]
pub(crate) struct Garbage {
    writes: usize,
}

impl Garbage {
    /// Counts a batch of so many writes, and at times frees about as many objects as were left, unless somebody still
    /// reads them.
    pub(crate) fn left_by(&mut self, writes: usize) {
        self.writes += writes;
        if self.writes < WRITES_MIN {
            return;
        }
        let objects = std::mem::take(&mut self.writes) * LEFT_BY_A_WRITE;
        for _ in 0..ROUNDS_MIN + objects / FREED_BY_A_ROUND {
            crossbeam_epoch::pin().flush();
        }
    }
}
