//! Rooms as sockets see them: watchers, followers, and when a watcher becomes live.
//!
//! A room's *watchers* get its events. Its *followers*, which are sockets of all rooms whose user is a member, get
//! notices of unread counts and of changes to the room. A room is here while it has either.
//!
//! A watcher is first checked. Once it may watch, it reads the store from where its client was. When little is left,
//! it joins: what is published from then on is held while it reads the rest, and is sent when it becomes live. So it
//! misses nothing, gets nothing twice, and no lock is held while the store is read. Frames without a number (signals,
//! typing, presence) reach it from the moment it is admitted. Lock order: a room, then a peer's rooms, then a peer's
//! queue; the hub's users are locked before a peer's rooms, and never with a room.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use chelseru_domain::bus::{NodeId, Note, Present, Signal};
use chelseru_domain::chat::{ChatError, RoomId};
use chelseru_domain::ids::UserId;

use crate::codec::{self, Opcode};
use crate::link::Link;
use crate::open::Form;
use crate::peer::{CatchUp, Peer, Ticket};
use crate::watch::{State, Step, Watch, Watcher, lock};

/// Messages, and edits, that a watcher may lack when it joins.
const LAST_STEP_MAX: u64 = 32;

/// The rooms that a socket watches or follows.
#[derive(Default)]
pub(crate) struct Rooms {
    rooms: RwLock<HashMap<RoomId, Arc<Room>>>,
    /// To other gateways that share the store.
    link: Option<Arc<Link>>,
}

#[derive(Default)]
struct Room {
    watch: Mutex<Watch>,
    /// What other gateways change arrives.
    is_attended: AtomicBool,
}

impl Rooms {
    pub(crate) fn new(link: Option<Arc<Link>>) -> Rooms {
        Rooms { rooms: RwLock::default(), link }
    }

    pub(crate) fn has(&self, room: RoomId) -> bool {
        self.rooms.read().unwrap_or_else(PoisonError::into_inner).contains_key(&room)
    }

    /// The rooms that are watched or followed.
    pub(crate) fn all(&self) -> Vec<RoomId> {
        self.rooms.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Waits until what other gateways change of these rooms arrives, which are watched or followed already.
    pub(crate) async fn attend(&self, rooms: &[RoomId]) -> Result<(), ChatError> {
        let Some(link) = &self.link else { return Ok(()) };
        let fresh: Vec<_> = {
            let all = self.rooms.read().unwrap_or_else(PoisonError::into_inner);
            let fresh = |id: &RoomId| Some((*id, Arc::clone(all.get(id)?)));
            let is_fresh = |(_, room): &(_, Arc<Room>)| !room.is_attended.load(Ordering::Acquire);
            rooms.iter().filter_map(fresh).filter(is_fresh).collect()
        };
        let ids: Vec<RoomId> = fresh.iter().map(|(id, _)| *id).collect();
        link.attend(&ids).await?;
        fresh.iter().for_each(|(_, room)| room.is_attended.store(true, Ordering::Release));
        Ok(())
    }

    /// Adds a watcher whose right is not checked yet. `None` when it watches already, or has left.
    pub(crate) fn watch(&self, room: RoomId, peer: &Arc<Peer>, user: UserId) -> Option<Ticket> {
        self.in_room(room, |watch| {
            let mut rooms = lock(&peer.rooms);
            if rooms.gone || rooms.watched.contains(&room) {
                return None;
            }
            rooms.watched.push(room);
            let ticket = rooms.next_ticket();
            watch.watchers.push(Watcher::new(peer, user, ticket));
            Some(ticket)
        })
    }

    /// Removes a watcher whose right was refused.
    pub(crate) fn refuse(&self, room: RoomId, peer: &Peer, ticket: Ticket) {
        self.with_room(room, |watch| {
            // After an end and another subscription, the socket's watcher is another one.
            if watch.watcher(peer, ticket).is_some() {
                watch.take(room, peer);
            }
        });
    }

    /// Removes a watcher.
    pub(crate) fn unwatch(&self, room: RoomId, peer: &Peer) {
        self.with_room(room, |watch| {
            let Some(watcher) = watch.take(room, peer) else { return };
            for follower in watch.followers.iter_mut().filter(|follower| follower.peer.id == peer.id) {
                follower.watching = false;
            }
            watch.presence(room, &watcher, false);
        });
    }

    /// Makes a watcher live that has read everything, lets one join that lacks `step_max` or less.
    pub(super) fn join(&self, catch_up: &CatchUp, peer: &Peer, resume_max: u64) -> Step {
        let CatchUp { room, ticket, seq, revision, .. } = *catch_up;
        let step_max = LAST_STEP_MAX.min(resume_max);
        let step = self.with_room(room, |watch| {
            let (newest, newest_revision) = (watch.published.0.max(seq), watch.published.1.max(revision));
            let Some(watcher) = watch.reader(peer, ticket) else { return Step::Gone };
            if newest - seq > step_max || newest_revision - revision > step_max {
                return Step::Behind((newest, newest_revision));
            }
            watcher.state = State::Joining(newest, newest_revision);
            if (newest, newest_revision) == (seq, revision) {
                return watch.go_live(peer, ticket);
            }
            Step::Joining((newest, newest_revision))
        });
        step.unwrap_or(Step::Gone)
    }

    /// Makes a watcher live that has read what it lacked when it joined.
    pub(super) fn go_live(&self, catch_up: &CatchUp, peer: &Peer) -> Step {
        let CatchUp { room, ticket, .. } = *catch_up;
        self.with_room(room, |watch| watch.go_live(peer, ticket)).unwrap_or(Step::Gone)
    }

    /// Whether the watcher of a catch-up is there, may watch, and is not live yet.
    pub(super) fn reads(&self, catch_up: &CatchUp, peer: &Peer) -> bool {
        let CatchUp { room, ticket, .. } = *catch_up;
        self.with_room(room, |watch| watch.reader(peer, ticket).is_some()).unwrap_or(false)
    }

    /// Removes a follower.
    pub(crate) fn unfollow(&self, room: RoomId, peer: &Peer) {
        self.with_room(room, |watch| watch.followers.retain(|follower| follower.peer.id != peer.id));
    }

    /// Adds a follower.
    pub(crate) fn follow(&self, room: RoomId, peer: &Arc<Peer>, user: UserId) {
        self.in_room(room, |watch| watch.follow(room, peer, user));
    }

    /// Admits a watcher to frames without a number, after the frame that `first` makes of who is online, and
    /// of whether presence is paused. False when it
    /// no longer watches.
    pub(crate) fn admit(
        &self,
        room: RoomId,
        peer: &Arc<Peer>,
        ticket: Ticket,
        first: impl FnOnce(&[UserId], bool) -> Option<Bytes>,
    ) -> bool {
        let admitted = self.with_room(room, |watch| {
            let watcher = watch.watcher(peer, ticket)?;
            watcher.state = State::Reading;
            let user = watcher.user;
            let mut online = watch.online(Some(user));
            online.truncate(peer.limits.presence_sockets_max);
            if let Some(frame) = first(&online, watch.presence_paused) {
                peer.push(frame, 1);
            }
            let of = Watcher { state: State::Reading, ..Watcher::new(peer, user, ticket) };
            watch.presence(room, &of, true);
            Some(())
        });
        admitted.flatten().is_some()
    }

    /// Relays a frame that is not stored, as JSON, to a room's watchers, except one user's. `original` is for the
    /// original's clients; `None` skips them.
    pub(crate) fn relay(&self, room: RoomId, from: UserId, frame: String, original: Option<String>) {
        // A state shows that its user is there, so it goes where presence goes. Signals belong to a call.
        let hides = |watch: &mut Watch| {
            let own = watch.seeing().find(|watcher| watcher.user == from)?;
            own.peer.hidden_from()
        };
        let hidden_from = match original {
            None => self.with_room(room, hides).flatten(),
            Some(_) => None,
        };
        let hidden_from = hidden_from.as_deref().unwrap_or_default().to_vec();
        let signal = Signal { room, from, frame, original, hidden_from };
        self.relay_here(&signal);
        if let Some(link) = &self.link {
            link.send(Note::Signal(signal));
        }
    }

    /// [`Rooms::relay`] to the watchers here.
    pub(crate) fn relay_here(&self, signal: &Signal) {
        let frame = codec::frame(Opcode::Text, signal.frame.as_bytes());
        let original = signal.original.as_ref().map(|text| codec::frame(Opcode::Text, text.as_bytes()));
        let hides = |reader: UserId| signal.hidden_from.binary_search(&reader).is_ok();
        self.with_room(signal.room, |watch| {
            for watcher in
                watch.seeing().filter(|watcher| watcher.user != signal.from && !hides(watcher.user))
            {
                match (watcher.peer.opened.form, &original) {
                    (Form::Extended, _) => watcher.peer.push(frame.clone(), 1),
                    (Form::Original, Some(original)) => watcher.peer.push(original.clone(), 1),
                    (Form::Original, None) => {}
                }
            }
        });
    }

    /// Takes who watches a room at another gateway.
    pub(crate) fn present_elsewhere(&self, room: RoomId, node: NodeId, users: Vec<Present>) {
        self.with_room(room, |watch| watch.present_elsewhere(room, node, users));
    }

    /// Tells other gateways who watches a room here, if anybody does.
    pub(crate) fn tell_present(&self, room: RoomId) {
        let present = self.with_room(room, |watch| watch.present_here()).flatten();
        if let (Some(link), Some(users)) = (&self.link, present.filter(|users| !users.is_empty())) {
            link.send(Note::Present { room, users });
        }
    }

    /// Nobody is seen at a gateway any more.
    pub(crate) fn node_gone(&self, node: NodeId) {
        for room in self.all() {
            self.with_room(room, |watch| watch.present_elsewhere(room, node, Vec::new()));
        }
    }

    /// While notes do not arrive, nobody is seen elsewhere; when they do again, everybody tells.
    pub(crate) fn bus_changed(&self, is_up: bool) {
        let Some(link) = &self.link else { return };
        for room in self.all() {
            if is_up {
                link.send(Note::WhoIsThere { room });
                self.tell_present(room);
            } else {
                self.with_room(room, |watch| watch.nobody_elsewhere(room));
            }
        }
    }

    /// Runs a closure over a room that is watched or followed; `None` for other rooms. An empty room is dropped.
    pub(crate) fn with_room<T>(&self, room: RoomId, run: impl FnOnce(&mut Watch) -> T) -> Option<T> {
        let found = self.rooms.read().unwrap_or_else(PoisonError::into_inner).get(&room).cloned()?;
        let (result, empty) = {
            let mut watch = lock(&found.watch);
            let result = run(&mut watch);
            self.tell_changed(room, &mut watch);
            (result, watch.is_empty())
        };
        if empty {
            self.drop_empty(room);
        }
        Some(result)
    }

    /// Tells other gateways of a change of who is present. Under the room's lock, so that the last note is true.
    fn tell_changed(&self, room: RoomId, watch: &mut Watch) {
        if let Some(link) = &self.link
            && std::mem::take(&mut watch.presence_changed)
            && let Some(users) = watch.present_here()
        {
            link.send(Note::Present { room, users });
        }
    }

    /// Runs a closure over a room, which is created if necessary, and dropped if it is empty afterwards.
    pub(crate) fn in_room<T>(&self, room: RoomId, run: impl FnOnce(&mut Watch) -> T) -> T {
        loop {
            let found = self.rooms.read().unwrap_or_else(PoisonError::into_inner).get(&room).cloned();
            let found = found.unwrap_or_else(|| self.make(room));
            let (result, empty) = {
                let mut watch = lock(&found.watch);
                if watch.gone {
                    continue;
                }
                (run(&mut watch), watch.is_empty())
            };
            // A socket that has left is not added, and its room must not stay for it.
            if empty {
                self.drop_empty(room);
            }
            return result;
        }
    }

    fn make(&self, room: RoomId) -> Arc<Room> {
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        let found = rooms.entry(room);
        if let (Entry::Vacant(_), Some(link)) = (&found, &self.link) {
            link.enter(room);
        }
        Arc::clone(found.or_default())
    }

    fn drop_empty(&self, room: RoomId) {
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = rooms.get(&room) else { return };
        let mut watch = lock(&found.watch);
        if watch.is_empty() {
            watch.gone = true;
            drop(watch);
            rooms.remove(&room);
            if let Some(link) = &self.link {
                link.leave(room);
            }
        }
    }
}

#[cfg(test)]
mod tests;
