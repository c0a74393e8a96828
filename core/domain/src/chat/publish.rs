//! The publisher: stored changes become events that the port shows, in the order of storing.
//!
//! A change's closure only moves what was stored into this queue. One task takes everything that waits, hands it to the
//! port room by room, and then answers the callers. The queue is bounded by its senders: each answer releases the
//! caller that waits for it. Invariant: no event of a room is shown before an earlier one of the same room.

use std::collections::HashMap;
use std::sync::Arc;

use chelseru_store::chat::RoomId;
use tokio::sync::mpsc;

use super::{ChatEvent, ChatPort};

/// Events handed to the port at once.
const PUBLISH_MAX: usize = 4096;

/// A stored change on its way to the port.
pub struct Stored {
    pub(super) event: Option<(RoomId, ChatEvent)>,
    /// Answers the caller, after the event was shown.
    pub(super) done: Box<dyn FnOnce() + Send>,
}

/// Shows what is stored until no sender is left.
pub(super) async fn run(mut queue: mpsc::UnboundedReceiver<Stored>, port: Arc<dyn ChatPort>) {
    let mut waiting = Vec::new();
    let mut order: Vec<RoomId> = Vec::new();
    let mut rooms: HashMap<RoomId, Vec<ChatEvent>> = HashMap::new();
    while queue.recv_many(&mut waiting, PUBLISH_MAX).await > 0 {
        let mut done = Vec::with_capacity(waiting.len());
        for stored in waiting.drain(..) {
            if let Some((room, event)) = stored.event {
                let events = rooms.entry(room).or_default();
                if events.is_empty() {
                    order.push(room);
                }
                events.push(event);
            }
            done.push(stored.done);
        }
        for room in order.drain(..) {
            if let Some(events) = rooms.get_mut(&room) {
                port.publish(room, events);
                events.clear();
            }
        }
        // Do not keep entries of quiet rooms.
        if rooms.len() > PUBLISH_MAX {
            rooms = HashMap::new();
        }
        done.into_iter().for_each(|done| done());
        // Let other tasks of this thread run during a flood of events.
        tokio::task::yield_now().await;
    }
}
