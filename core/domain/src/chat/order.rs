//! The order in which changes of a room are shown: by position.
//!
//! The positions of a room are one sequence without gaps (see [`Position`]). A change that arrives before an earlier
//! one is parked until the earlier one is shown. An earlier one that does not arrive within [`GAP_WAIT`] is given up
//! here, and the publisher reads it from the store. A change that arrives after later ones were shown is shown at
//! once, so nothing is lost; this happens only after a room was forgotten or skipped. While other gateways share the
//! store, their changes take part: they fill the places between, and one that is known already is dropped.
//!
//! Not here: queues, the port and the store (see [`super::publish`]).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chelseru_store::chat::{Position, RoomId};
use tokio::time::Instant;

use super::ChatEvent;
use super::stored::{Batch, Place, StoredChange};

/// How long a change waits for an earlier one. Changes of one room are answered within milliseconds of each other.
pub(super) const GAP_WAIT: Duration = Duration::from_millis(500);

/// Messages that one gap holds; a longer one is read in parts.
const GAP_MESSAGES_MAX: u64 = 500;

/// Rooms tracked; beyond it, rooms without parked changes are forgotten. 100 bytes each.
pub(super) const ROOMS_MAX: usize = 65_536;

/// Missing changes of a room, both ends excluded by their own events: after `from`, up to `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) room: RoomId,
    pub(super) from: Position,
    pub(super) to: Position,
}

pub(super) struct Order {
    rooms: HashMap<RoomId, RoomOrder>,
    /// When the first missing change of each waiting room is overdue.
    waiting: HashMap<RoomId, Instant>,
    /// How long a missing change is waited for.
    pub(super) wait: Duration,
}

impl Default for Order {
    fn default() -> Order {
        Order { rooms: HashMap::new(), waiting: HashMap::new(), wait: GAP_WAIT }
    }
}

struct RoomOrder {
    shown: Position,
    /// The position at which somebody began to watch, or this process to change the room, is known.
    has_base: bool,
    /// Where the room stood when the store was asked last.
    reached: Position,
    /// Sorted by what must be shown first; at the same place, a change without a position of its own comes first.
    parked: BTreeMap<(u64, bool), Vec<StoredChange>>,
}

impl Order {
    /// Records a room's position before its first change arrives. Everything up to here counts as shown. The first
    /// position counts: whoever began to watch at it lacks what came after it.
    pub(super) fn begin(&mut self, id: RoomId, shown: Position, batch: &mut Batch) {
        let room = self.rooms.entry(id).or_insert_with(|| RoomOrder::at(shown));
        if std::mem::replace(&mut room.has_base, true) {
            return;
        }
        if shown.order() > room.shown.order() {
            room.shown = shown;
            room.show_parked(batch);
            self.settle(id, Instant::now());
        }
    }

    /// Notes where a room stands in the store. What is missing up to there is waited for, and then read.
    pub(super) fn reached(&mut self, id: RoomId, position: Position, now: Instant) {
        let room = self.rooms.entry(id).or_insert_with(|| RoomOrder::at(position));
        if position.order() > room.reached.order() {
            room.reached = position;
        }
        if room.is_behind() {
            self.waiting.entry(id).or_insert(now + self.wait);
        }
    }

    /// Forgets a room that nobody watches here. What was parked has only callers left.
    pub(super) fn forget(&mut self, id: RoomId, batch: &mut Batch) {
        let Some(room) = self.rooms.remove(&id) else { return };
        self.waiting.remove(&id);
        room.parked.into_values().flatten().for_each(|stored| batch.show(stored));
    }

    /// Shows a change and those that waited for it, or parks it.
    pub(super) fn take(&mut self, stored: StoredChange, now: Instant, batch: &mut Batch) {
        let (before, position, numbered) = match stored.place {
            Place::Nowhere => return batch.show(stored),
            Place::At(position) => (position.order().saturating_sub(1), position, true),
            Place::After(position) => (position.order(), position, false),
        };
        let id = stored.room;
        // Without a base this is the first.
        let room = self.rooms.entry(id).or_insert_with(|| RoomOrder::at(preceding(&stored, position)));
        if before > room.shown.order() {
            room.parked.entry((before, numbered)).or_default().push(stored);
            self.waiting.entry(id).or_insert(now + self.wait);
            return;
        }
        room.show(stored, position, numbered, batch);
        if !room.parked.is_empty() {
            room.show_parked(batch);
            self.settle(id, now);
        } else if !self.waiting.is_empty() {
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
        let parked = room.parked.values().next().and_then(|waiting| waiting.first());
        let to = match parked.map(|first| (first, first.place)) {
            Some((first, Place::At(position) | Place::After(position))) => preceding(first, position),
            Some((_, Place::Nowhere)) => return None,
            None => room.reached,
        };
        let from = room.shown;
        let end = from.seq + GAP_MESSAGES_MAX;
        let to = if to.seq > end { Position { seq: end, ..from } } else { to };
        Some(Gap { room: *id, from, to })
    }

    /// Leaves a gap that cannot be read now.
    pub(super) fn postpone(&mut self, gap: &Gap, now: Instant) {
        self.waiting.insert(gap.room, now + GAP_WAIT);
    }

    /// Continues after a gap.
    pub(super) fn skip(&mut self, gap: Gap, batch: &mut Batch) {
        let mut more = false;
        if let Some(room) = self.rooms.get_mut(&gap.room) {
            if gap.to.order() > room.shown.order() {
                room.shown = gap.to;
            } else {
                // What the store was said to have reached does not exist.
                room.reached = room.shown;
            }
            more = gap.to.seq == gap.from.seq + GAP_MESSAGES_MAX;
            room.show_parked(batch);
        }
        self.settle(gap.room, Instant::now());
        if let Some(at) = self.waiting.get_mut(&gap.room).filter(|_| more) {
            *at = Instant::now();
        }
    }

    /// Keeps the number of rooms within its limit.
    pub(super) fn forget_quiet(&mut self) {
        if self.rooms.len() > ROOMS_MAX {
            self.rooms.retain(|_, room| room.is_behind());
        }
    }

    /// A room that still waits now waits for another change.
    fn settle(&mut self, id: RoomId, now: Instant) {
        match self.rooms.get(&id) {
            Some(room) if room.is_behind() => self.waiting.insert(id, now + self.wait),
            _ => self.waiting.remove(&id),
        };
    }
}

impl RoomOrder {
    fn at(shown: Position) -> RoomOrder {
        RoomOrder { shown, has_base: false, reached: shown, parked: BTreeMap::new() }
    }

    fn is_behind(&self) -> bool {
        !self.parked.is_empty() || self.reached.order() > self.shown.order()
    }

    fn show(&mut self, stored: StoredChange, position: Position, numbered: bool, batch: &mut Batch) {
        // Another gateway's change that was shown already, or read from the store.
        if stored.done.is_none() && numbered && position.order() <= self.shown.order() {
            return;
        }
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
