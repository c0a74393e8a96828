//! Stored changes on their way to the port, and batches that are shown and answered together.

use std::collections::HashMap;

use chelseru_store::Store;
use chelseru_store::chat::{Position, RoomId};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{ChatEvent, ChatPort};

/// Rooms whose lists of events are kept for the next batch.
const ROOMS_MAX: usize = 4096;

/// Bytes of the texts in one note, roughly; a single larger change goes alone.
const NOTE_BYTES_MAX: usize = 32 * 1024;

/// A change waiting for the publisher.
pub struct Stored(pub(super) Queued);

pub(super) enum Queued {
    /// The room's position before the first change that this process sent to the store, or from which on this process
    /// shows the room.
    Base {
        room: RoomId,
        position: Position,
        store: Store,
    },
    Change(StoredChange),
    /// Changes that another gateway made.
    Elsewhere {
        room: RoomId,
        news: Vec<RoomNews>,
    },
    /// Nobody watches the room here any more.
    Left(RoomId),
    /// Where the room stands in the store.
    Reached {
        room: RoomId,
        position: Position,
    },
}

/// A stored change on its way to the port.
pub(super) struct StoredChange {
    pub(super) room: RoomId,
    pub(super) place: Place,
    pub(super) event: Option<ChatEvent>,
    /// Answers the caller after the event is shown; `None` for a change that another gateway made.
    pub(super) done: Option<Box<dyn FnOnce() + Send>>,
}

/// A change of a room as gateways tell each other of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomNews {
    pub(super) place: Place,
    /// What its watchers see of it, if anything.
    pub(super) event: Option<ChatEvent>,
}

impl RoomNews {
    /// Whether it is for users wherever they are connected, whether they watch the room or not.
    #[must_use]
    pub fn is_for_users(&self) -> bool {
        self.event.as_ref().is_some_and(ChatEvent::is_for_users)
    }

    /// The room is gone, whatever else happened in it.
    pub(super) fn deleted() -> RoomNews {
        let event = ChatEvent::Deleted { former: Vec::new() };
        RoomNews { place: Place::After(Position::default()), event: Some(event) }
    }

    /// Bytes of the texts in it, roughly.
    fn size(&self) -> usize {
        match &self.event {
            Some(ChatEvent::Posted(view) | ChatEvent::Edited { view, .. }) => {
                view.message.body.text.len() + 256
            }
            Some(ChatEvent::Made { members, asked, .. }) => 8 * (members.len() + asked.len()) + 256,
            _ => 256,
        }
    }
}

impl StoredChange {
    /// A change whose caller waits for its result.
    pub(super) fn awaited<T: Send + 'static>(
        room: RoomId,
        (place, event, result): (Place, Option<ChatEvent>, T),
        caller: oneshot::Sender<T>,
    ) -> StoredChange {
        // The caller may have left; the change stands.
        StoredChange { room, place, event, done: Some(Box::new(move || drop(caller.send(result)))) }
    }
}

/// A change's place among the changes of its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    /// It took this position.
    At(Position),
    /// It took none, and comes after this position.
    After(Position),
    /// Nothing changed.
    Nowhere,
}

/// Other gateways that share the store. What they are told may be lost, come twice or late.
pub trait Others: Send + Sync {
    /// Tells of changes of a room. Never waits.
    fn tell(&self, room: RoomId, news: Vec<RoomNews>);

    /// Whether what they tell arrives.
    fn are_heard(&self) -> bool;
}

/// Events and answers of one batch.
#[derive(Default)]
pub(super) struct Batch {
    order: Vec<RoomId>,
    rooms: HashMap<RoomId, Shown>,
    done: Vec<Box<dyn FnOnce() + Send>>,
    is_told: bool,
}

#[derive(Default)]
struct Shown {
    events: Vec<ChatEvent>,
    /// Changes that this process made, for the others.
    own: Vec<RoomNews>,
}

impl Batch {
    /// An empty batch; with `is_told`, other gateways are told of the changes that this one made.
    pub(super) fn new(is_told: bool) -> Batch {
        Batch { is_told, ..Batch::default() }
    }

    pub(super) fn show(&mut self, stored: StoredChange) {
        let StoredChange { room, place, event, done } = stored;
        if self.is_told && done.is_some() && place != Place::Nowhere {
            self.room(room).own.push(RoomNews { place, event: event.clone() });
        }
        if let Some(event) = event {
            self.event(room, event);
        }
        self.done.extend(done);
    }

    pub(super) fn event(&mut self, room: RoomId, event: ChatEvent) {
        self.room(room).events.push(event);
    }

    fn room(&mut self, room: RoomId) -> &mut Shown {
        let shown = self.rooms.entry(room).or_default();
        if shown.events.is_empty() && shown.own.is_empty() {
            self.order.push(room);
        }
        shown
    }

    pub(super) fn publish(&mut self, port: &dyn ChatPort, others: Option<&dyn Others>) {
        for room in self.order.drain(..) {
            let Some(Shown { events, own }) = self.rooms.get_mut(&room) else { continue };
            port.publish(room, events);
            match others {
                None => port.tell_absent(room, events),
                Some(others) => {
                    for event in own.iter().filter_map(|news| news.event.as_ref()) {
                        port.tell_absent(room, std::slice::from_ref(event));
                    }
                    tell(others, room, std::mem::take(own));
                }
            }
            events.clear();
        }
        // Quiet rooms are dropped.
        if self.rooms.len() > ROOMS_MAX {
            self.rooms = HashMap::new();
        }
        self.done.drain(..).for_each(|done| done());
    }
}

/// Tells other gateways of changes, in notes of bounded size.
fn tell(others: &dyn Others, room: RoomId, news: Vec<RoomNews>) {
    let (mut part, mut bytes) = (Vec::new(), 0);
    for news in news {
        let size = news.size();
        if bytes + size > NOTE_BYTES_MAX && !part.is_empty() {
            others.tell(room, std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += size;
        part.push(news);
    }
    if !part.is_empty() {
        others.tell(room, part);
    }
}
