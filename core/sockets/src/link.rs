//! The way from this gateway's rooms to others that share the store.
//!
//! A room that somebody watches here is entered on the bus, and from then on others' changes of it arrive
//! ([`Link::attend`]). Next: `relay`, which takes them.

use std::sync::Arc;

use chelseru_domain::bus::{Bus, Note};
use chelseru_domain::chat::{ChatError, ChatService, RoomId};

/// Rooms asked for in one question to the store.
const STEP: usize = 1000;

/// To the other gateways.
pub(crate) struct Link {
    bus: Arc<dyn Bus>,
    chat: Arc<ChatService>,
}

impl Link {
    pub(crate) fn new(bus: Arc<dyn Bus>, chat: Arc<ChatService>) -> Link {
        Link { bus, chat }
    }

    pub(crate) fn enter(&self, room: RoomId) {
        self.bus.enter(room);
    }

    pub(crate) fn leave(&self, room: RoomId) {
        self.bus.leave(room);
        self.chat.leave(room);
    }

    /// Waits until changes of rooms that were entered arrive, and takes the rooms' positions as seen.
    pub(crate) async fn attend(&self, rooms: &[RoomId]) -> Result<(), ChatError> {
        for room in rooms {
            self.bus.ready(*room).await;
        }
        for rooms in rooms.chunks(STEP) {
            self.chat.attend(rooms).await?;
        }
        for room in rooms {
            self.bus.send(Note::WhoIsThere { room: *room });
        }
        Ok(())
    }

    pub(crate) fn send(&self, note: Note) {
        self.bus.send(note);
    }

    pub(crate) fn is_up(&self) -> bool {
        self.bus.is_up()
    }
}
