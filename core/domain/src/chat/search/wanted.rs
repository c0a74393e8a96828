//! The rooms that searches found badly covered, for the indexer; and the bounds that both have.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use chelseru_store::chat::RoomId;
use tokio::sync::Notify;

/// Searches that run at a time.
pub(crate) const AT_ONCE: usize = 2;
/// Most messages of one read.
pub(super) const READ_STEP: usize = 200;
/// Most blocks of one read.
pub(super) const BLOCKS_STEP: usize = 64;
/// Messages at the end of a room that are read one by one, before a block is made of them.
pub(super) const TAIL_MIN: usize = 16;
/// Rooms that searches asked for; more wait for the next round.
const WANTED_MAX: usize = 10_000;

/// Rooms that should be indexed soon.
#[derive(Default)]
pub(crate) struct Wanted {
    rooms: Mutex<BTreeSet<RoomId>>,
    /// A room was added.
    pub(super) woken: Notify,
}

impl Wanted {
    pub(super) fn note(&self, room: RoomId) {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.len() < WANTED_MAX && rooms.insert(room) {
            self.woken.notify_one();
        }
    }

    pub(super) fn take(&self) -> Option<RoomId> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }
}
