//! Stored changes on their way to the port, and batches that are shown and answered together.

use std::collections::HashMap;

use chelseru_store::Store;
use chelseru_store::chat::{Position, RoomId};
use tokio::sync::oneshot;

use super::{ChatEvent, ChatPort};

/// Rooms whose lists of events are kept for the next batch.
const ROOMS_MAX: usize = 4096;

/// A change waiting for the publisher.
pub struct Stored(pub(super) Queued);

pub(super) enum Queued {
    /// The room's position before the first change that this process sent to the store.
    Base {
        room: RoomId,
        position: Position,
        store: Store,
    },
    Change(StoredChange),
}

/// A stored change on its way to the port.
pub(super) struct StoredChange {
    pub(super) room: RoomId,
    pub(super) place: Place,
    pub(super) event: Option<ChatEvent>,
    /// Answers the caller after the event is shown.
    pub(super) done: Box<dyn FnOnce() + Send>,
}

impl StoredChange {
    /// A change whose caller waits for its result.
    pub(super) fn awaited<T: Send + 'static>(
        room: RoomId,
        (place, event, result): (Place, Option<ChatEvent>, T),
        caller: oneshot::Sender<T>,
    ) -> StoredChange {
        // The caller may have left; the change stands.
        StoredChange { room, place, event, done: Box::new(move || drop(caller.send(result))) }
    }
}

/// A change's place among the changes of its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It took this position.
    At(Position),
    /// It took none, and comes after this position.
    After(Position),
    /// Nothing changed.
    Nowhere,
}

/// Events and answers of one batch.
#[derive(Default)]
pub(super) struct Batch {
    order: Vec<RoomId>,
    rooms: HashMap<RoomId, Vec<ChatEvent>>,
    done: Vec<Box<dyn FnOnce() + Send>>,
}

impl Batch {
    pub(super) fn show(&mut self, stored: StoredChange) {
        if let Some(event) = stored.event {
            self.event(stored.room, event);
        }
        self.done.push(stored.done);
    }

    pub(super) fn event(&mut self, room: RoomId, event: ChatEvent) {
        let events = self.rooms.entry(room).or_default();
        if events.is_empty() {
            self.order.push(room);
        }
        events.push(event);
    }

    pub(super) fn publish(&mut self, port: &dyn ChatPort) {
        for room in self.order.drain(..) {
            if let Some(events) = self.rooms.get_mut(&room) {
                port.publish(room, events);
                events.clear();
            }
        }
        // Quiet rooms are dropped.
        if self.rooms.len() > ROOMS_MAX {
            self.rooms = HashMap::new();
        }
        self.done.drain(..).for_each(|done| done());
    }
}
