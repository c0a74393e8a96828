//! Options for opening a store.
//!
//! Not here: opening itself (see [`Store::open`](crate::Store::open)).

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
    /// Memory for cached pages, in bytes. Default 64 MiB; at least 1 MiB is used.
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
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            cache_bytes: 64 * 1024 * 1024,
            batch_max: 512,
            queue_max: 8192,
            durability: Durability::Disk,
            disk_reserve_bytes: None,
        }
    }
}
