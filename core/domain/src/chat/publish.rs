//! The publisher: turns stored changes into events and shows them in the order of their positions.
//!
//! A change's closure only moves the stored change into this queue, on any thread and in any order. One task takes
//! the queue, sorts it by [`super::order`], hands it to the port room by room, and then answers the callers. The
//! queue is bounded by its senders: each answer releases a waiting caller.
//!
//! While other gateways share the store, they are told of this one's changes ([`Others`]), and theirs arrive here,
//! for the rooms that somebody watches here. Nothing depends on it: the watched rooms' positions are also read from the
//! store every so often ([`ChatService::look_at`](super::ChatService::look_at)), and what is missing is read.
//!
//! Invariants: no event of a room is shown before an earlier one of the same room; every event is shown; a caller is
//! answered after its event is shown.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chelseru_store::chat::RoomId;
use chelseru_store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::missed::missed;
use super::order::{GAP_WAIT, Gap, Order, ROOMS_MAX};
use super::stored::{Batch, Others, Queued, RoomNews, Stored, StoredChange};
use super::{Action, ChatError, ChatEvent, ChatPort, OPERATOR, Removal, permit};

/// Events handed to the port at once.
const PUBLISH_MAX: usize = 4096;

/// How long a change of another gateway is waited for while notes arrive: it takes a millisecond.
const NOTE_WAIT: Duration = Duration::from_millis(50);
/// And while none do.
const NO_NOTE_WAIT: Duration = Duration::from_millis(2);

/// Proof that the publisher knows a room's position, which a change of that room needs before it goes to the store.
#[derive(Debug)]
pub struct Entry(RoomId);

impl Entry {
    pub(super) fn room(&self) -> RoomId {
        self.0
    }
}

/// The way into the queue.
pub(super) struct Entrance {
    queue: mpsc::UnboundedSender<Stored>,
    /// Rooms whose base is in the queue.
    known: RwLock<HashSet<RoomId>>,
    /// Other gateways share the store: a room has a base while somebody watches it, see [`Entrance::attend`].
    is_shared: bool,
}

impl Entrance {
    pub(super) fn new(is_shared: bool) -> (Entrance, mpsc::UnboundedReceiver<Stored>) {
        let (sender, queue) = mpsc::unbounded_channel();
        (Entrance { queue: sender, known: RwLock::default(), is_shared }, queue)
    }

    /// The entry of a room whose position the publisher knows. Reads nothing.
    pub(super) fn known(&self, room: RoomId) -> Option<Entry> {
        if self.is_shared {
            return Some(Entry(room));
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.contains(&room).then_some(Entry(room))
    }

    /// The entry of a room: reads the room's position once for the publisher.
    pub(super) async fn expect(&self, store: &Store, room: RoomId) -> Result<Entry, ChatError> {
        if let Some(entry) = self.known(room) {
            return Ok(entry);
        }
        // The store refuses changes of a room that does not exist.
        let Some(position) = store.chat_position(room).await? else { return Ok(Entry(room)) };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ROOMS_MAX {
            known.clear();
        }
        if known.insert(room) {
            let base = Queued::Base { room, position, store: store.clone() };
            // The queue is gone only when the process ends.
            let _ = self.queue.send(Stored(base));
        }
        Ok(Entry(room))
    }

    pub(super) fn sender(&self) -> Sender {
        Sender(self.queue.clone())
    }

    /// Begins to show rooms that somebody watches from now on, at their positions in the store.
    pub(super) async fn attend(&self, store: &Store, rooms: &[RoomId]) -> Result<(), ChatError> {
        for (room, position) in store.chat_positions(rooms).await? {
            let _ = self.queue.send(Stored(Queued::Base { room, position, store: store.clone() }));
        }
        Ok(())
    }

    /// Lets what is missing of rooms up to their positions in the store be read. Rooms without one were deleted.
    pub(super) async fn look_at(&self, store: &Store, rooms: &[RoomId]) -> Result<(), ChatError> {
        let mut gone: HashSet<RoomId> = rooms.iter().copied().collect();
        for (room, position) in store.chat_positions(rooms).await? {
            gone.remove(&room);
            let _ = self.queue.send(Stored(Queued::Reached { room, position }));
        }
        gone.into_iter().for_each(|room| self.elsewhere(room, vec![RoomNews::deleted()]));
        Ok(())
    }

    pub(super) fn leave(&self, room: RoomId) {
        let _ = self.queue.send(Stored(Queued::Left(room)));
    }

    pub(super) fn elsewhere(&self, room: RoomId, news: Vec<RoomNews>) {
        let _ = self.queue.send(Stored(Queued::Elsewhere { room, news }));
    }
}

/// Sends stored changes, from whichever thread made them durable.
pub(super) struct Sender(mpsc::UnboundedSender<Stored>);

impl Sender {
    pub(super) fn send(&self, change: StoredChange) {
        // The queue is gone only when the process ends.
        let _ = self.0.send(Stored(Queued::Change(change)));
    }
}

/// Publishes stored changes until no sender is left.
pub(super) async fn run(
    mut queue: mpsc::UnboundedReceiver<Stored>,
    port: Arc<dyn ChatPort>,
    others: Option<Arc<dyn Others>>,
) {
    let batch = Batch::new(others.is_some());
    let mut publisher = Publisher { port, others, order: Order::default(), batch, reads: None };
    let mut waiting = Vec::new();
    loop {
        let received = queue.recv_many(&mut waiting, PUBLISH_MAX);
        let received = match publisher.order.overdue_at() {
            None => received.await,
            Some(at) => tokio::time::timeout_at(at, received).await.unwrap_or(1),
        };
        if received == 0 {
            return;
        }
        let now = Instant::now();
        publisher.order.wait = publisher.wait();
        for Stored(queued) in waiting.drain(..) {
            publisher.take(queued, now);
        }
        publisher.fill_gaps(now).await;
        publisher.batch.publish(&*publisher.port, publisher.others.as_deref());
        if publisher.others.is_none() {
            publisher.order.forget_quiet();
        }
        // A flood of events does not keep others from this thread.
        tokio::task::yield_now().await;
    }
}

struct Publisher {
    port: Arc<dyn ChatPort>,
    /// Other gateways share the store.
    others: Option<Arc<dyn Others>>,
    order: Order,
    batch: Batch,
    /// From the first base on; before it nothing can be parked.
    reads: Option<Store>,
}

impl Publisher {
    /// How long a missing change is waited for.
    fn wait(&self) -> Duration {
        match &self.others {
            None => GAP_WAIT,
            Some(others) if others.are_heard() => NOTE_WAIT,
            Some(_) => NO_NOTE_WAIT,
        }
    }

    fn take(&mut self, queued: Queued, now: Instant) {
        match queued {
            Queued::Base { room, position, store } => {
                self.order.begin(room, position, &mut self.batch);
                self.reads.get_or_insert(store);
            }
            Queued::Change(change) if self.is_unwatched(change.room) => {
                // Nobody is there for whom the order matters.
                self.order.forget(change.room, &mut self.batch);
                self.batch.show(change);
            }
            Queued::Change(change) => self.order.take(change, now, &mut self.batch),
            Queued::Elsewhere { room, news } => self.take_elsewhere(room, news, now),
            Queued::Left(room) => self.order.forget(room, &mut self.batch),
            Queued::Reached { room, position } => {
                if !self.is_unwatched(room) {
                    self.order.reached(room, position, now);
                }
            }
        }
    }

    fn take_elsewhere(&mut self, room: RoomId, news: Vec<RoomNews>, now: Instant) {
        let unwatched = self.is_unwatched(room);
        for news in news {
            if !unwatched {
                let RoomNews { place, event } = news;
                let change = StoredChange { room, place, event, done: None };
                self.order.take(change, now, &mut self.batch);
            } else if news.is_for_users()
                && let Some(event) = news.event
            {
                self.batch.event(room, event);
            }
        }
    }

    fn is_unwatched(&self, room: RoomId) -> bool {
        self.others.is_some() && !self.port.shows(room)
    }

    async fn fill_gaps(&mut self, now: Instant) {
        while let Some(gap) = self.order.overdue(now) {
            if let Some(store) = &self.reads
                && let Err(error) = self.fill(&store.clone(), &gap).await
            {
                let room = gap.room.0;
                tracing::error!(%error, room.id = room, "missing changes of a room could not be read");
                if self.others.is_some() {
                    // The store comes back, and the next look at the room's position finds them again.
                    self.order.postpone(&gap, now);
                    continue;
                }
            }
            self.order.skip(gap, &mut self.batch);
        }
    }

    /// Reads changes from the store that should have arrived through the queue.
    async fn fill(&mut self, store: &Store, gap: &Gap) -> Result<(), StoreError> {
        let Gap { room, from, to } = *gap;
        let (from_order, to_order, id) = (from.order(), to.order(), room.0);
        if self.others.is_some() {
            tracing::debug!(
                room.id = id,
                from.order = from_order,
                to.order = to_order,
                "changes of a room are read"
            );
        } else {
            tracing::warn!(
                room.id = id,
                from.order = from_order,
                to.order = to_order,
                "changes of a room are read again"
            );
        }
        let (messages, edits) = missed(store, room, (from.seq, from.revision), (to.seq, to.revision)).await?;
        messages.into_iter().for_each(|view| self.batch.event(room, ChatEvent::Posted(view)));
        for (revision, view) in edits {
            let by = view.message.sender;
            self.batch.event(room, ChatEvent::Edited { view, revision, by });
        }
        if self.others.is_some() && to.changes > from.changes {
            self.look_again(store, room).await?;
        }
        Ok(())
    }

    /// Shows a room and who may still watch it as they are now, after changes of which nothing is known but their
    /// number.
    async fn look_again(&mut self, store: &Store, room: RoomId) -> Result<(), StoreError> {
        let mut now = None;
        for user in self.port.users(room) {
            match store.chat_facts(room, user).await? {
                None => {
                    self.batch.event(room, ChatEvent::Deleted { former: Vec::new() });
                    return Ok(());
                }
                Some(facts) => {
                    if permit(Action::Attend, &facts).is_err() {
                        let why = if facts.actor_banned { Removal::Banned } else { Removal::Kicked };
                        self.batch.event(room, ChatEvent::Removed { user, why });
                    }
                    now = Some(facts.room);
                }
            }
        }
        if let Some(room) = now {
            let avatar = match room.avatar {
                None => None,
                Some(file) => store.chat_file(file).await?.map(Arc::new),
            };
            self.batch.event(room.id, ChatEvent::Updated { room, avatar, by: OPERATOR });
        }
        Ok(())
    }
}
