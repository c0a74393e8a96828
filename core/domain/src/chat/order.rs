//! The order in which changes of a room are shown: by position.
//!
//! The positions of a room are one sequence without gaps (see [`Position`]). A change that arrives before an earlier
//! one is parked until the earlier one is shown. An earlier one that does not arrive within [`GAP_WAIT`] is given up
//! here, and the publisher reads it from the store. A change that arrives after later ones were shown is shown at
//! once, so nothing is lost; this happens only after a room was forgotten or skipped.
//!
//! Not here: queues, the port and the store (see [`super::publish`]).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chelseru_store::chat::{Position, RoomId};
use tokio::time::Instant;

use super::ChatEvent;
use super::stored::{Batch, Place, StoredChange};

/// How long a change waits for an earlier one. Changes of one room are answered within milliseconds of each other.
const GAP_WAIT: Duration = Duration::from_millis(500);

/// Rooms tracked; beyond it, rooms without parked changes are forgotten. 100 bytes each.
pub(super) const ROOMS_MAX: usize = 65_536;

/// Missing changes of a room, both ends excluded by their own events: after `from`, up to `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) room: RoomId,
    pub(super) from: Position,
    pub(super) to: Position,
}

#[derive(Default)]
pub(super) struct Order {
    rooms: HashMap<RoomId, RoomOrder>,
    /// When the first parked change of each waiting room is overdue.
    waiting: HashMap<RoomId, Instant>,
}

struct RoomOrder {
    shown: Position,
    /// Sorted by what must be shown first; at the same place, a change without a position of its own comes first.
    parked: BTreeMap<(u64, bool), Vec<StoredChange>>,
}

impl Order {
    /// Records a room's position before its first change arrives.
    pub(super) fn begin(&mut self, room: RoomId, shown: Position) {
        self.rooms.entry(room).or_insert(RoomOrder { shown, parked: BTreeMap::new() });
    }

    /// Shows a change and those that waited for it, or parks it.
    pub(super) fn take(&mut self, stored: StoredChange, now: Instant, batch: &mut Batch) {
        let (before, position, numbered) = match stored.place {
            Place::Nowhere => return batch.show(stored),
            Place::At(position) => (position.order().saturating_sub(1), position, true),
            Place::After(position) => (position.order(), position, false),
        };
        let id = stored.room;
        let room = self.rooms.entry(id).or_insert_with(|| RoomOrder {
            // The base is unknown: this is the first.
            shown: preceding(&stored, position),
            parked: BTreeMap::new(),
        });
        if before > room.shown.order() {
            room.parked.entry((before, numbered)).or_default().push(stored);
            self.waiting.entry(id).or_insert(now + GAP_WAIT);
            return;
        }
        room.show(stored, position, numbered, batch);
        if !room.parked.is_empty() {
            room.show_parked(batch);
            self.settle(id, now);
        }
    }

    /// When the next gap is overdue.
    pub(super) fn overdue_at(&self) -> Option<Instant> {
        self.waiting.values().min().copied()
    }

    /// A gap that has been overdue.
    pub(super) fn overdue(&self, now: Instant) -> Option<Gap> {
        let (id, _) = self.waiting.iter().find(|(_, at)| **at <= now)?;
        let room = self.rooms.get(id)?;
        let first = room.parked.values().next()?.first()?;
        let to = match first.place {
            Place::At(position) | Place::After(position) => preceding(first, position),
            Place::Nowhere => return None,
        };
        Some(Gap { room: *id, from: room.shown, to })
    }

    /// Continues after a gap.
    pub(super) fn skip(&mut self, gap: Gap, batch: &mut Batch) {
        if let Some(room) = self.rooms.get_mut(&gap.room) {
            room.shown = gap.to;
            room.show_parked(batch);
        }
        self.settle(gap.room, Instant::now());
    }

    /// Keeps the number of rooms within its limit.
    pub(super) fn forget_quiet(&mut self) {
        if self.rooms.len() > ROOMS_MAX {
            self.rooms.retain(|_, room| !room.parked.is_empty());
        }
    }

    /// A room that still waits now waits for another change.
    fn settle(&mut self, id: RoomId, now: Instant) {
        match self.rooms.get(&id) {
            Some(room) if !room.parked.is_empty() => self.waiting.insert(id, now + GAP_WAIT),
            _ => self.waiting.remove(&id),
        };
    }
}

impl RoomOrder {
    fn show(&mut self, stored: StoredChange, position: Position, numbered: bool, batch: &mut Batch) {
        if numbered && position.order() > self.shown.order() {
            self.shown = position;
        }
        batch.show(stored);
    }

    fn show_parked(&mut self, batch: &mut Batch) {
        while let Some(entry) = self.parked.first_entry() {
            let (before, numbered) = *entry.key();
            if before > self.shown.order() {
                return;
            }
            for stored in entry.remove() {
                if let (true, Place::At(position)) = (numbered, stored.place) {
                    self.show(stored, position, true, batch);
                } else {
                    batch.show(stored);
                }
            }
        }
    }
}

/// A room's position just before a change.
fn preceding(stored: &StoredChange, position: Position) -> Position {
    let Place::At(_) = stored.place else { return position };
    let Position { seq, revision, changes } = position;
    match &stored.event {
        Some(ChatEvent::Posted(_)) => Position { seq: seq.saturating_sub(1), ..position },
        Some(ChatEvent::Edited { .. }) => Position { revision: revision.saturating_sub(1), ..position },
        _ => Position { changes: changes.saturating_sub(1), ..position },
    }
}

#[cfg(test)]
mod tests;
