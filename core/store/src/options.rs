//! Options for opening a store.
//!
//! Not here: opening itself (see [`Store::open`](crate::Store::open)).

use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives the end of the process in any way, `kill -9` included: written to the operating system and on its way
    /// to the disk. This is what sled's own flush gives on Linux, where it uses `sync_file_range`.
    Process,
    /// Also survives a power cut or an operating system crash: one more `fdatasync` per batch.
    Disk,
}

/// Options for opening a store. Every default suits a gateway on a small machine.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Memory that the store may take beyond an empty one, in bytes. Default 128 MiB. The engine gets a part of it, see
    /// [`StoreOptions::engine_cache_bytes`].
    pub cache_bytes: u64,
    /// Most changes that share one flush. Default 512; at least 1 is used.
    pub batch_max: usize,
    /// Most changes waiting for the writer; one more is refused with [`StoreError::Busy`]. Default 8192; at least 1
    /// is used.
    pub queue_max: usize,
    /// Default [`Durability::Disk`].
    pub durability: Durability,
    /// Bytes of the disk kept free. Below it, changes that can wait are refused with [`StoreError::Full`]. 0 keeps
    /// none. Default `None`: 256 MiB, but at most a quarter of the disk.
    pub disk_reserve_bytes: Option<u64>,
    /// PostgreSQL: most connections for changes and reads. Default 16; at least 1 is used.
    pub connections_max: usize,
    /// PostgreSQL: longest wait for a free connection; then [`StoreError::Busy`](crate::StoreError::Busy). Default 5 s.
    pub connection_wait: Duration,
    /// PostgreSQL: longest wait for the answer to a statement; a server that is silent for longer counts as gone.
    /// Longer than the 10 s that a statement waits for another change's lock. Default 20 s.
    pub answer_wait: Duration,
    /// PostgreSQL: whether other gateways may use the database at the same time. Default false: a second one is
    /// refused.
    pub shared: bool,
    /// How long another process that holds the store is waited for: a command that ends soon, a gateway that stops.
    /// A folder is waited for at least 300 ms, as the engine lets go of it a moment after it was closed. Default 10 s.
    pub lock_wait: Duration,
    /// PostgreSQL: the folder whose disk [`Store::room`](crate::Store::room) is about: that of the uploads. Default
    /// `None`: every disk counts as ample.
    pub files_folder: Option<PathBuf>,
}

const MIB: u64 = 1024 * 1024;

/// Memory of a store besides the pages that the engine counts: the writer's cache (16 MiB), log buffers, and pages that
/// the engine has not counted yet (up to 64 MiB, see `engine/sled/tree.rs`). With records of 60 to 150 bytes a store
/// took 100 to 135 MiB beyond an engine limit of 16 to 64 MiB, read and written (see `garbage`). With 384 MiB 60,000
/// records of 16 KiB took 372, 500,000 of 1 KiB 287. The engine keeps a page in each of its 256 shards, and a page of
/// records of 16 KiB has up to 256 KiB: with 128 MiB such records took up to 295 while they were written and 237 after.
const BESIDE_PAGES_BYTES: u64 = 112 * MIB;

impl StoreOptions {
    /// The engine's own bound. The engine counts a page by its bytes in the log; in memory it takes about twice as
    /// many. An eighth is always left for pages, so a `cache_bytes` below 128 MiB is exceeded.
    pub(crate) fn engine_cache_bytes(&self) -> u64 {
        let pages = self.cache_bytes.saturating_sub(BESIDE_PAGES_BYTES) / 2;
        pages.max(self.cache_bytes / 8).max(MIB)
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            cache_bytes: 128 * MIB,
            batch_max: 512,
            queue_max: 8192,
            durability: Durability::Disk,
            disk_reserve_bytes: None,
            connections_max: 16,
            connection_wait: Duration::from_secs(5),
            answer_wait: Duration::from_secs(20),
            shared: false,
            lock_wait: Duration::from_secs(10),
            files_folder: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_gets_half_of_what_the_rest_leaves() {
        let engine = |mib: u64| {
            let options = StoreOptions { cache_bytes: mib * MIB, ..StoreOptions::default() };
            options.engine_cache_bytes() / MIB
        };
        assert_eq!([8, 128, 384, 1024].map(engine), [1, 16, 136, 456]);
        assert_eq!(engine(0), 1);
    }
}
