//! Free disk space of the store.
//!
//! A reserve of free space is kept. Once it is in use, changes that can wait are refused, so logins and payments
//! continue. Once it is gone, every change is refused before it reaches the engine, which does not survive a full
//! disk. Both end by themselves when there is room again.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Least time between two samples of the disk.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// The default reserve.
const RESERVE_BYTES: u64 = 256 * 1024 * 1024;
/// The part of the reserve that logins and payments leave free, too: the largest batch and the process's other
/// writes.
const FLOOR_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What the engine writes for a byte of a batch, with a margin: a page is written as a whole now and then, and what it
/// replaces is freed later. Records of 100 bytes to 32 KiB, written again in random order in batches of 50 KiB to 2
/// MiB, took 2.1 to 4.4 bytes each on average and 5.2 at most; the file grew by at most 4.
const WRITTEN_FOR_A_BYTE: u64 = 8;
/// Bytes of keys and values after which a batch ends. One more change may follow them.
const BATCH_BYTES_MAX: u64 = FLOOR_BYTES_MAX / WRITTEN_FOR_A_BYTE;

/// Which changes the disk has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskRoom {
    /// Every change.
    Ample,
    /// The reserve is in use: changes that can wait are refused.
    Reserve,
    /// No change.
    None,
}

/// Bytes free for this process, and bytes of the whole disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) free: u64,
    pub(crate) total: u64,
}

type Probe = Box<dyn Fn() -> io::Result<Sample> + Send + Sync>;

pub(crate) struct Space {
    probe: Probe,
    reserve: Option<u64>,
    start: Instant,
    /// Milliseconds from `start` to the last sample, plus 1; 0 before the first.
    sampled: AtomicU64,
    /// `u64::MAX` while unknown.
    free: AtomicU64,
    total: AtomicU64,
}

impl Space {
    pub(crate) fn of_folder(folder: &Path, reserve: Option<u64>) -> Space {
        let probe = match File::open(folder) {
            // Every batch asks, and a path would be walked each time.
            Ok(folder) => Box::new(move || sample(&folder)) as Probe,
            Err(_) => {
                let folder = folder.to_owned();
                Box::new(move || sample(&File::open(&folder)?))
            }
        };
        Space::new(probe, reserve)
    }

    pub(crate) fn new(probe: Probe, reserve: Option<u64>) -> Space {
        Space {
            probe,
            reserve,
            start: Instant::now(),
            sampled: AtomicU64::new(0),
            free: AtomicU64::new(u64::MAX),
            total: AtomicU64::new(u64::MAX),
        }
    }

    /// The room, as of at most [`SAMPLE_INTERVAL`] ago. A disk that cannot be sampled counts as ample; the engine's
    /// own error will report the problem.
    pub(crate) fn room(&self) -> DiskRoom {
        self.refresh();
        match self.free.load(Ordering::Relaxed) {
            free if free < self.floor() => DiskRoom::None,
            free if free < self.reserve() => DiskRoom::Reserve,
            _ => DiskRoom::Ample,
        }
    }

    /// [`Space::room`], as of now, and the bytes of keys and values after which a batch ends: what it writes fits above
    /// the floor.
    pub(crate) fn room_now(&self) -> (DiskRoom, usize) {
        self.sample();
        let above = self.free.load(Ordering::Relaxed).saturating_sub(self.floor());
        let bytes_max = (above / WRITTEN_FOR_A_BYTE).min(BATCH_BYTES_MAX);
        (self.room(), usize::try_from(bytes_max).unwrap_or(usize::MAX))
    }

    pub(crate) fn free_bytes(&self) -> Option<u64> {
        self.refresh();
        Some(self.free.load(Ordering::Relaxed)).filter(|free| *free != u64::MAX)
    }

    /// Free bytes beyond the reserve.
    pub(crate) fn spare_bytes(&self) -> Option<u64> {
        Some(self.free_bytes()?.saturating_sub(self.reserve()))
    }

    fn floor(&self) -> u64 {
        (self.reserve() / 8).min(FLOOR_BYTES_MAX)
    }

    /// As of the last sample.
    fn reserve(&self) -> u64 {
        self.reserve.unwrap_or_else(|| RESERVE_BYTES.min(self.total.load(Ordering::Relaxed) / 4))
    }

    fn refresh(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let last = self.sampled.load(Ordering::Relaxed);
        if last != 0 && now.saturating_sub(last) < SAMPLE_INTERVAL.as_millis() as u64 {
            return;
        }
        // One of the concurrent callers samples the disk; the others use the last sample.
        if self.sampled.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.sample();
        }
    }

    fn sample(&self) {
        let Sample { free, total } = (self.probe)().unwrap_or(Sample { free: u64::MAX, total: u64::MAX });
        self.free.store(free, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }
}

#[cfg(unix)]
fn sample(folder: &File) -> io::Result<Sample> {
    let disk = rustix::fs::fstatvfs(folder)?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Ok(Sample { free: bytes(disk.f_bavail), total: bytes(disk.f_blocks) })
}

#[cfg(not(unix))]
fn sample(_folder: &File) -> io::Result<Sample> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;

    /// A disk of 1 TiB whose free bytes a test sets.
    pub(crate) fn scripted(free: &Arc<AtomicU64>) -> Probe {
        let free = Arc::clone(free);
        Box::new(move || Ok(Sample { free: free.load(Ordering::Relaxed), total: 1 << 40 }))
    }

    fn room_at(free: u64, reserve: Option<u64>) -> DiskRoom {
        Space::new(scripted(&Arc::new(AtomicU64::new(free))), reserve).room()
    }

    #[test]
    fn the_reserve_and_its_floor_begin_at_their_byte() {
        assert_eq!(room_at(RESERVE_BYTES, None), DiskRoom::Ample);
        assert_eq!(room_at(RESERVE_BYTES - 1, None), DiskRoom::Reserve);
        assert_eq!(room_at(FLOOR_BYTES_MAX, None), DiskRoom::Reserve);
        assert_eq!(room_at(FLOOR_BYTES_MAX - 1, None), DiskRoom::None);
        assert_eq!(room_at(800, Some(800)), DiskRoom::Ample);
        assert_eq!(room_at(799, Some(800)), DiskRoom::Reserve);
        assert_eq!(room_at(99, Some(800)), DiskRoom::None);
        assert_eq!(room_at(0, Some(0)), DiskRoom::Ample);
    }

    #[test]
    fn a_small_disk_keeps_a_quarter_free() {
        let small = |free| Space::new(Box::new(move || Ok(Sample { free, total: 64 << 20 })), None).room();
        assert_eq!(small(16 << 20), DiskRoom::Ample);
        assert_eq!(small((16 << 20) - 1), DiskRoom::Reserve);
    }

    #[test]
    fn a_batch_ends_with_what_fits_above_the_floor() {
        let max = |free| Space::new(scripted(&Arc::new(AtomicU64::new(free))), None).room_now().1 as u64;
        assert_eq!([1 << 40, 2 * FLOOR_BYTES_MAX].map(max), [BATCH_BYTES_MAX; 2]);
        assert_eq!([FLOOR_BYTES_MAX + 80, FLOOR_BYTES_MAX, 0].map(max), [10, 0, 0]);
    }

    #[test]
    fn what_is_spare_begins_behind_the_reserve() {
        let spare = |free| Space::new(scripted(&Arc::new(AtomicU64::new(free))), Some(800)).spare_bytes();
        assert_eq!([799, 800, 801].map(spare), [Some(0), Some(0), Some(1)]);
    }

    #[test]
    fn a_disk_that_cannot_be_asked_refuses_nothing() {
        let space = Space::new(Box::new(|| Err(io::ErrorKind::Unsupported.into())), None);
        assert_eq!((space.room(), space.free_bytes(), space.spare_bytes()), (DiskRoom::Ample, None, None));
    }
}
