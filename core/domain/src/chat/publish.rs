//! The publisher: turns stored changes into events and shows them in the order of their positions.
//!
//! A change's closure only moves the stored change into this queue, on any thread and in any order. One task takes
//! the queue, sorts it by [`super::order`], hands it to the port room by room, and then answers the callers. The
//! queue is bounded by its senders: each answer releases a waiting caller.
//!
//! Invariants: no event of a room is shown before an earlier one of the same room; every event is shown; a caller is
//! answered after its event is shown.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use chelseru_store::Store;
use chelseru_store::chat::RoomId;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::missed::missed;
use super::order::{Gap, Order, ROOMS_MAX};
use super::stored::{Batch, Queued, Stored, StoredChange};
use super::{ChatError, ChatEvent, ChatPort};

/// Events handed to the port at once.
const PUBLISH_MAX: usize = 4096;

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
}

impl Entrance {
    pub(super) fn new() -> (Entrance, mpsc::UnboundedReceiver<Stored>) {
        let (sender, queue) = mpsc::unbounded_channel();
        (Entrance { queue: sender, known: RwLock::default() }, queue)
    }

    /// The entry of a room whose position the publisher knows. Reads nothing.
    pub(super) fn known(&self, room: RoomId) -> Option<Entry> {
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
pub(super) async fn run(mut queue: mpsc::UnboundedReceiver<Stored>, port: Arc<dyn ChatPort>) {
    let (mut waiting, mut order, mut batch) = (Vec::new(), Order::default(), Batch::default());
    // From the first base on; before it nothing can be parked.
    let mut reads: Option<Store> = None;
    loop {
        let received = queue.recv_many(&mut waiting, PUBLISH_MAX);
        let received = match order.overdue_at() {
            None => received.await,
            Some(at) => tokio::time::timeout_at(at, received).await.unwrap_or(1),
        };
        if received == 0 {
            return;
        }
        let now = Instant::now();
        for Stored(queued) in waiting.drain(..) {
            match queued {
                Queued::Base { room, position, store } => {
                    order.begin(room, position);
                    reads.get_or_insert(store);
                }
                Queued::Change(change) => order.take(change, now, &mut batch),
            }
        }
        while let Some(gap) = order.overdue(now) {
            if let Some(store) = &reads {
                fill(store, &gap, &mut batch).await;
            }
            order.skip(gap, &mut batch);
        }
        batch.publish(&*port);
        order.forget_quiet();
        // A flood of events does not keep others from this thread.
        tokio::task::yield_now().await;
    }
}

/// Reads changes from the store that should have arrived through the queue.
async fn fill(store: &Store, gap: &Gap, batch: &mut Batch) {
    let Gap { room, from, to } = *gap;
    tracing::warn!(
        room.id = room.0,
        from.order = from.order(),
        to.order = to.order(),
        "changes of a room are read again"
    );
    match missed(store, room, (from.seq, from.revision), (to.seq, to.revision)).await {
        Ok((messages, edits)) => {
            messages.into_iter().for_each(|view| batch.event(room, ChatEvent::Posted(view)));
            for (revision, view) in edits {
                let by = view.message.sender;
                batch.event(room, ChatEvent::Edited { view, revision, by });
            }
        }
        Err(error) => {
            tracing::error!(%error, room.id = room.0, "missing changes of a room could not be read")
        }
    }
}
