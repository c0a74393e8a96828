//! Rooms as sockets see them: watchers, followers, and when a watcher becomes live.
//!
//! A room's *watchers* get its events. Its *followers*, which are sockets of all rooms whose user is a member, get
//! notices of unread counts and of changes to the room. A room is here while it has either.
//!
//! A watcher is first checked. Once it may watch, it reads the store from where its client was. When little is left,
//! it joins: what is published from then on is held while it reads the rest, and is sent when it becomes live. So it
//! misses nothing, gets nothing twice, and no lock is held while the store is read. Frames without a number (signals,
//! typing, presence) reach it from the moment it is admitted. Lock order: a room, then a peer's rooms, then a peer's
//! queue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use chelseru_domain::chat::RoomId;
use chelseru_domain::ids::UserId;

use crate::open::Form;
use crate::peer::{CatchUp, Peer};
use crate::watch::{State, Step, Watch, Watcher, lock};

/// Messages, and edits, that a watcher may lack when it joins.
const LAST_STEP_MAX: u64 = 32;

/// The rooms that a socket watches or follows.
#[derive(Default)]
pub(crate) struct Rooms(RwLock<HashMap<RoomId, Arc<Room>>>);

#[derive(Default)]
struct Room {
    watch: Mutex<Watch>,
}

impl Rooms {
    /// Adds a watcher whose right is not checked yet. False when it watches already, or has left.
    pub(crate) fn watch(&self, room: RoomId, peer: &Arc<Peer>, user: UserId) -> bool {
        self.in_room(room, |watch| {
            let mut rooms = lock(&peer.rooms);
            if rooms.gone || rooms.watched.contains(&room) {
                return false;
            }
            rooms.watched.push(room);
            watch.watchers.push(Watcher::new(peer, user));
            true
        })
    }

    /// Removes a watcher. False when there is none.
    pub(crate) fn unwatch(&self, room: RoomId, peer: &Arc<Peer>) -> bool {
        let watched = {
            let mut rooms = lock(&peer.rooms);
            let before = rooms.watched.len();
            rooms.watched.retain(|other| *other != room);
            rooms.watched.len() < before
        };
        if watched {
            self.remove_watcher(room, peer);
        }
        watched
    }

    pub(crate) fn remove_watcher(&self, room: RoomId, peer: &Arc<Peer>) {
        self.with_room(room, |watch| {
            let Some(at) = watch.watchers.iter().position(|watcher| watcher.peer.id == peer.id) else {
                return;
            };
            let watcher = watch.watchers.swap_remove(at);
            for follower in watch.followers.iter_mut().filter(|follower| follower.peer.id == peer.id) {
                follower.watching = false;
            }
            watch.presence(room, &watcher, false);
        });
    }

    /// Makes a watcher live that has read everything, lets one join that lacks `step_max` or less.
    pub(super) fn join(&self, catch_up: &CatchUp, peer: &Peer, resume_max: u64) -> Step {
        let CatchUp { room, seq, revision, .. } = *catch_up;
        let step_max = LAST_STEP_MAX.min(resume_max);
        let step = self.with_room(room, |watch| {
            let (newest, newest_revision) = (watch.published.0.max(seq), watch.published.1.max(revision));
            let Some(watcher) = watch.watcher(peer) else { return Step::Gone };
            if newest - seq > step_max || newest_revision - revision > step_max {
                return Step::Behind((newest, newest_revision));
            }
            watcher.state = State::Joining(newest, newest_revision);
            if (newest, newest_revision) == (seq, revision) {
                return watch.go_live(peer);
            }
            Step::Joining((newest, newest_revision))
        });
        step.unwrap_or(Step::Gone)
    }

    /// Makes a watcher live that has read what it lacked when it joined.
    pub(super) fn go_live(&self, room: RoomId, peer: &Peer) -> Step {
        self.with_room(room, |watch| watch.go_live(peer)).unwrap_or(Step::Gone)
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
        first: impl FnOnce(&[UserId], bool) -> Option<Bytes>,
    ) -> bool {
        let admitted = self.with_room(room, |watch| {
            let at = watch.watchers.iter().position(|watcher| watcher.peer.id == peer.id)?;
            watch.watchers[at].state = State::Reading;
            let user = watch.watchers[at].user;
            let mut online = watch.online(Some(user));
            online.truncate(peer.limits.presence_sockets_max);
            if let Some(frame) = first(&online, watch.presence_paused) {
                peer.push(frame, 1);
            }
            let of = Watcher { state: State::Reading, ..Watcher::new(peer, user) };
            watch.presence(room, &of, true);
            Some(())
        });
        admitted.flatten().is_some()
    }

    /// Relays a frame that is not stored to a room's watchers, except one user's. `original` is for the
    /// original's clients; `None` skips them.
    pub(crate) fn relay(&self, room: RoomId, from: UserId, extended: &Bytes, original: Option<&Bytes>) {
        self.with_room(room, |watch| {
            // A state shows that its user is there, so it goes where presence goes. Signals belong to a call.
            let own =
                original.is_none().then(|| watch.seeing().find(|watcher| watcher.user == from)).flatten();
            let hides = |reader: UserId| own.is_some_and(|own| own.peer.hides_from(reader));
            for watcher in watch.seeing().filter(|watcher| watcher.user != from && !hides(watcher.user)) {
                match (watcher.peer.opened.form, original) {
                    (Form::Extended, _) => watcher.peer.push(extended.clone(), 1),
                    (Form::Original, Some(original)) => watcher.peer.push(original.clone(), 1),
                    (Form::Original, None) => {}
                }
            }
        });
    }

    /// Runs a closure over a room that is watched or followed; `None` for other rooms. An empty room is dropped.
    pub(crate) fn with_room<T>(&self, room: RoomId, run: impl FnOnce(&mut Watch) -> T) -> Option<T> {
        let found = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&room).cloned()?;
        let (result, empty) = {
            let mut watch = lock(&found.watch);
            (run(&mut watch), watch.is_empty())
        };
        if empty {
            self.drop_empty(room);
        }
        Some(result)
    }

    /// Runs a closure over a room, which is created if necessary.
    pub(crate) fn in_room<T>(&self, room: RoomId, run: impl FnOnce(&mut Watch) -> T) -> T {
        loop {
            let found = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&room).cloned();
            let found = found.unwrap_or_else(|| {
                let mut rooms = self.0.write().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(rooms.entry(room).or_default())
            });
            let mut watch = lock(&found.watch);
            if !watch.gone {
                return run(&mut watch);
            }
        }
    }

    fn drop_empty(&self, room: RoomId) {
        let mut rooms = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = rooms.get(&room) else { return };
        let mut watch = lock(&found.watch);
        if watch.is_empty() {
            watch.gone = true;
            drop(watch);
            rooms.remove(&room);
        }
    }
}
