//! Which sockets watch which room, and how a stored event reaches them.

use chelseru_domain::chat::{ChatEvent, ChatPort, RoomId};

/// The open sockets.
#[derive(Default)]
pub struct Hub {}

impl Hub {
    pub fn new() -> Hub {
        Hub::default()
    }
}

impl ChatPort for Hub {
    fn publish(&self, _room: RoomId, _events: &[ChatEvent]) {}
}
