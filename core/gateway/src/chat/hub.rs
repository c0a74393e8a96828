//! Which sockets watch which room, and how a stored event reaches them.
//!
//! A room's *watchers* get its events; its *followers* (sockets of all rooms whose user is a member) get notices of
//! unread counts and of what becomes of the room. Events come from one task in the order of storing; a batch is
//! encoded once per form, as frames that stand together, and every watcher's queue gets the same bytes.
//!
//! A watcher first asks; once it may watch, it reads the store from where its client was, and it becomes live under the
//! room's lock when nothing was published that it has not read. So it misses nothing and gets nothing twice. What has
//! no number (signals, typing, presence, markers) reaches it from the moment it may watch.
//! Lock order: a room, then a peer's rooms, then a peer's queue.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;
use chelseru_domain::chat::{ChatEvent, ChatPort, ChatService, Removal, RoomId, RoomStatus};
use chelseru_domain::clock::Timestamp;
use chelseru_domain::identity::{Identity, SessionsEnded};
use chelseru_domain::ids::UserId;
use serde_json::{Value, json};

use super::close::Close;
use super::json::{self, Form};
use super::peer::{Opened, Peer, Who};
use super::watch::{State, Watch, Watcher, gap_chunk, lock};
use crate::config::Chat;

/// Messages, and edits, that a catching up watcher may lack when it becomes live; they are read under the lock.
const LAST_STEP_MAX: u64 = 32;

/// Sockets that may be open without a token, because it comes in their first frame.
const UNKNOWN_MAX: usize = 1000;

/// How long a first frame is waited for.
pub(super) const TOKEN_WAIT_MS: u64 = 10_000;

/// Each session of an open socket is checked once in so many ticks, besides what is announced.
const CHECK_TICKS: u64 = 120;

/// The open sockets.
pub struct Hub {
    peers: RwLock<HashMap<u64, Arc<Peer>>>,
    users: Mutex<HashMap<UserId, Vec<Arc<Peer>>>>,
    rooms: RwLock<HashMap<RoomId, Arc<Room>>>,
    next: AtomicU64,
    unknown: AtomicUsize,
    ticks: AtomicU64,
    started: Instant,
    stopping: std::sync::atomic::AtomicBool,
}

#[derive(Default)]
struct Room {
    watch: Mutex<Watch>,
}

/// A watcher on its way to being live.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CatchUp {
    pub room: RoomId,
    /// What was read so far.
    pub seq: u64,
    pub revision: u64,
    /// What there is to read at least.
    pub heads: (u64, u64),
}

/// How far a watcher got.
pub(super) enum Step {
    Live,
    /// There is this much to read first.
    Behind((u64, u64)),
    /// It does not watch any more.
    Gone,
}

/// Why a socket may not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// For anybody.
    Gateway,
    /// For this user.
    User,
}

impl Hub {
    pub fn new() -> Hub {
        Hub {
            peers: RwLock::default(),
            users: Mutex::default(),
            rooms: RwLock::default(),
            next: AtomicU64::new(1),
            unknown: AtomicUsize::new(0),
            ticks: AtomicU64::new(0),
            started: Instant::now(),
            stopping: false.into(),
        }
    }

    /// Open sockets.
    pub fn sockets(&self) -> usize {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Sockets that are being closed and have not ended yet.
    pub fn closing(&self) -> usize {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.values().filter(|peer| peer.is_closing()).count()
    }

    /// Milliseconds since the hub was made, from 1.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Makes place for a socket whose holder is known, or will say so in its first frame.
    pub(crate) fn enter(
        &self,
        opened: Opened,
        limits: &Chat,
        who: Option<(Who, Timestamp)>,
    ) -> Result<Arc<Peer>, NoPlace> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let peer = Arc::new(Peer::new(id, opened, Arc::new(limits.clone()), self.now_ms()));
        {
            let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
            if peers.len() >= limits.sockets_max {
                return Err(NoPlace::Gateway);
            }
            if who.is_none() && self.unknown.fetch_add(1, Ordering::AcqRel) >= UNKNOWN_MAX {
                self.unknown.fetch_sub(1, Ordering::AcqRel);
                return Err(NoPlace::Gateway);
            }
            peers.insert(id, Arc::clone(&peer));
        }
        if let Some((who, expires_at)) = who {
            let user = who.user;
            peer.set_who(who, expires_at);
            if let Err(full) = self.add_to_user(&peer, user) {
                self.leave(&peer);
                return Err(full);
            }
        }
        if self.stopping.load(Ordering::Acquire) {
            peer.close(Close::GOING_AWAY);
        }
        Ok(peer)
    }

    /// Learns who holds a socket that was opened without a token.
    pub(crate) fn identify(&self, peer: &Arc<Peer>, who: Who, expires_at: Timestamp) -> Result<(), NoPlace> {
        let user = who.user;
        if peer.user().is_some() {
            return Ok(());
        }
        peer.set_who(who, expires_at);
        self.unknown.fetch_sub(1, Ordering::AcqRel);
        self.add_to_user(peer, user)
    }

    fn add_to_user(&self, peer: &Arc<Peer>, user: UserId) -> Result<(), NoPlace> {
        let mut users = lock(&self.users);
        let peers = users.entry(user).or_default();
        if peers.len() >= peer.limits.sockets_per_user_max {
            return Err(NoPlace::User);
        }
        peers.push(Arc::clone(peer));
        Ok(())
    }

    /// Forgets a socket.
    pub(crate) fn leave(&self, peer: &Arc<Peer>) {
        self.peers.write().unwrap_or_else(PoisonError::into_inner).remove(&peer.id);
        match peer.user() {
            None => {
                self.unknown.fetch_sub(1, Ordering::AcqRel);
            }
            Some(user) => {
                let mut users = lock(&self.users);
                if let Some(peers) = users.get_mut(&user) {
                    peers.retain(|other| other.id != peer.id);
                    if peers.is_empty() {
                        users.remove(&user);
                    }
                }
            }
        }
        let (watched, followed) = {
            let mut rooms = lock(&peer.rooms);
            rooms.gone = true;
            (std::mem::take(&mut rooms.watched), std::mem::take(&mut rooms.followed))
        };
        for room in watched {
            self.remove_watcher(room, peer);
        }
        for room in followed {
            self.with_room(room, |watch| watch.followers.retain(|follower| follower.peer.id != peer.id));
        }
    }

    /// Adds a watcher that asks. False when it watches already, or is gone.
    pub(crate) fn watch(&self, room: RoomId, peer: &Arc<Peer>, user: UserId) -> bool {
        self.in_room(room, |watch| {
            let mut rooms = lock(&peer.rooms);
            if rooms.gone || rooms.watched.contains(&room) {
                return false;
            }
            rooms.watched.push(room);
            watch.watchers.push(Watcher { peer: Arc::clone(peer), user, state: State::Asking });
            true
        })
    }

    /// Ends a watch. False when there is none.
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

    fn remove_watcher(&self, room: RoomId, peer: &Arc<Peer>) {
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

    /// Makes a watcher live, when nothing was published that it has not read; what little it lacks is read and sent
    /// under the room's lock.
    pub(super) fn go_live(&self, catch_up: &CatchUp, peer: &Arc<Peer>, chat: &ChatService) -> Step {
        let CatchUp { room, seq, revision, .. } = *catch_up;
        let step = self.with_room(room, |watch| {
            let Some(at) = watch.watchers.iter().position(|watcher| watcher.peer.id == peer.id) else {
                return Step::Gone;
            };
            let (newest, newest_revision) = (watch.published.0.max(seq), watch.published.1.max(revision));
            let step_max = LAST_STEP_MAX.min(chat.rules().resume_max);
            if newest - seq > step_max || newest_revision - revision > step_max {
                return Step::Behind((newest, newest_revision));
            }
            match chat.gap(room, (seq, revision), (newest, newest_revision)) {
                Ok(gap) => {
                    let chunk = gap_chunk(peer.opened.form, &gap);
                    if !chunk.is_empty() {
                        peer.push(chunk, step_max as usize);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, room.id = room.0, "a room could not be read for a socket");
                    peer.close(Close::INTERNAL);
                    return Step::Gone;
                }
            }
            watch.watchers[at].state = State::Live(newest, newest_revision);
            for follower in watch.followers.iter_mut().filter(|follower| follower.peer.id == peer.id) {
                follower.watching = true;
            }
            Step::Live
        });
        step.unwrap_or(Step::Gone)
    }

    /// Adds a follower.
    pub(crate) fn follow(&self, room: RoomId, peer: &Arc<Peer>, user: UserId) {
        self.in_room(room, |watch| watch.follow(room, peer, user));
    }

    /// Lets a watcher see what has no number, after the frame that `first` makes of who else is here. False when it
    /// does not watch any more.
    pub(crate) fn admit(
        &self,
        room: RoomId,
        peer: &Arc<Peer>,
        first: impl FnOnce(&[UserId]) -> Option<Bytes>,
    ) -> bool {
        let admitted = self.with_room(room, |watch| {
            let at = watch.watchers.iter().position(|watcher| watcher.peer.id == peer.id)?;
            watch.watchers[at].state = State::Reading;
            let mut online: Vec<UserId> = watch.seeing().map(|watcher| watcher.user).collect();
            online.sort_unstable();
            online.dedup();
            online.truncate(peer.limits.presence_sockets_max);
            if let Some(frame) = first(&online) {
                peer.push(frame, 1);
            }
            watch.presence(room, &watch.watchers[at], true);
            Some(())
        });
        admitted.flatten().is_some()
    }

    /// Shows what is not stored to those who watch a room, except the sockets of one user. `original` is for the
    /// original's clients, when it is for them at all.
    pub(crate) fn relay(&self, room: RoomId, from: UserId, extended: &Bytes, original: Option<&Bytes>) {
        self.with_room(room, |watch| {
            for watcher in watch.seeing().filter(|watcher| watcher.user != from) {
                match (watcher.peer.opened.form, original) {
                    (Form::Extended, _) => watcher.peer.push(extended.clone(), 1),
                    (Form::Original, Some(original)) => watcher.peer.push(original.clone(), 1),
                    (Form::Original, None) => {}
                }
            }
        });
    }

    /// Closes the sockets of sessions that ended.
    pub(super) fn sessions_ended(&self, ended: SessionsEnded) {
        let (user, session) = match ended {
            SessionsEnded::One(user, session) => (user, Some(session)),
            SessionsEnded::All(user) => (user, None),
        };
        let users = lock(&self.users);
        for peer in users.get(&user).into_iter().flatten() {
            if session.is_none() || peer.session() == session {
                peer.close(Close::SESSION_ENDED);
            }
        }
    }

    /// Tells every socket that the gateway stops.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for peer in self.peers.read().unwrap_or_else(PoisonError::into_inner).values() {
            peer.close(Close::GOING_AWAY);
        }
    }

    /// Looks after every socket: tokens that ran out, silence, closings that take too long, unread counts that are
    /// due. With `check_all`, every session is checked; otherwise a few.
    pub(super) fn tick(&self, identity: &Identity, now: Timestamp, check_all: bool) {
        let now_ms = self.now_ms();
        let tick = self.ticks.fetch_add(1, Ordering::Relaxed);
        let mut suspects = Vec::new();
        for peer in self.peers.read().unwrap_or_else(PoisonError::into_inner).values() {
            if let Some(wait_ms) = peer.close_wait_ms() {
                let since = peer.closing_at.load(Ordering::Relaxed);
                if since == 0 {
                    peer.closing_at.store(now_ms, Ordering::Relaxed);
                } else if now_ms.saturating_sub(since) > wait_ms {
                    peer.kill();
                }
                continue;
            }
            let heartbeat_ms = peer.limits.heartbeat_seconds * 1000;
            let heard_at = peer.heard_at.load(Ordering::Relaxed);
            let silent_ms = now_ms.saturating_sub(heard_at);
            let Some(caller) = peer.caller() else {
                if !peer.opened.is_echo() && now_ms.saturating_sub(peer.opened_at) > TOKEN_WAIT_MS {
                    peer.close(Close::UNAUTHORIZED);
                }
                continue;
            };
            if peer.is_expired(now) {
                peer.close(Close::TOKEN_EXPIRED);
            } else if silent_ms > 2 * heartbeat_ms {
                peer.close(Close::SILENT);
            } else if silent_ms > heartbeat_ms && peer.pinged_at.load(Ordering::Relaxed) <= heard_at {
                peer.pinged_at.store(now_ms, Ordering::Relaxed);
                peer.push(Bytes::from_static(PING), 1);
            } else if peer.has_unread() && peer.unread_due(now_ms) {
                peer.signal();
            }
            if check_all || peer.id % CHECK_TICKS == tick % CHECK_TICKS {
                suspects.push((Arc::clone(peer), caller));
            }
        }
        for (peer, caller) in suspects {
            use chelseru_domain::token::TokenError;
            match identity.stands(&caller) {
                Ok(()) | Err(TokenError::Store) => {}
                Err(_) => peer.close(Close::SESSION_ENDED),
            }
        }
    }

    /// Runs over a room that somebody watches or follows; `None` when nobody does. An empty one is dropped.
    fn with_room<T>(&self, room: RoomId, run: impl FnOnce(&mut Watch) -> T) -> Option<T> {
        let found = self.rooms.read().unwrap_or_else(PoisonError::into_inner).get(&room).cloned()?;
        let (result, empty) = {
            let mut watch = lock(&found.watch);
            (run(&mut watch), watch.is_empty())
        };
        if empty {
            self.drop_empty(room);
        }
        Some(result)
    }

    /// Runs over a room, which is there from now on.
    fn in_room<T>(&self, room: RoomId, run: impl FnOnce(&mut Watch) -> T) -> T {
        loop {
            let found = self.rooms.read().unwrap_or_else(PoisonError::into_inner).get(&room).cloned();
            let found = found.unwrap_or_else(|| {
                let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(rooms.entry(room).or_default())
            });
            let mut watch = lock(&found.watch);
            if !watch.gone {
                return run(&mut watch);
            }
        }
    }

    fn drop_empty(&self, room: RoomId) {
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = rooms.get(&room) else { return };
        let mut watch = lock(&found.watch);
        if watch.is_empty() {
            watch.gone = true;
            drop(watch);
            rooms.remove(&room);
        }
    }

    /// Sockets of all rooms of these users.
    fn sockets_of(&self, users: &[UserId]) -> Vec<(UserId, Arc<Peer>)> {
        let by_user = lock(&self.users);
        let peers = users.iter().filter_map(|user| Some((user, by_user.get(user)?)));
        let peers = peers.flat_map(|(user, peers)| peers.iter().map(|peer| (*user, Arc::clone(peer))));
        peers.filter(|(_, peer)| peer.opened.room.is_none()).collect()
    }

    /// Somebody is in a room now.
    fn welcome(&self, room: RoomId, users: &[UserId], notice: &Value) {
        let peers = self.sockets_of(users);
        if peers.is_empty() {
            return;
        }
        let frame = json::frame(notice);
        self.in_room(room, |watch| {
            for (user, peer) in &peers {
                watch.follow(room, peer, *user);
                peer.push(frame.clone(), 1);
            }
        });
    }
}

impl Default for Hub {
    fn default() -> Self {
        Hub::new()
    }
}

/// An empty ping.
const PING: &[u8] = &[0x89, 0];

impl ChatPort for Hub {
    fn publish(&self, room: RoomId, events: &[ChatEvent]) {
        // Frames that everybody gets stand together; what changes who they are stands between.
        let mut from = 0;
        for (at, event) in events.iter().enumerate() {
            if matches!(event, ChatEvent::Posted(_) | ChatEvent::Edited { .. } | ChatEvent::Read { .. }) {
                continue;
            }
            self.with_room(room, |watch| watch.show(room, &events[from..at], self.now_ms()));
            from = at + 1;
            self.change(room, event);
        }
        self.with_room(room, |watch| watch.show(room, &events[from..], self.now_ms()));
    }
}

impl Hub {
    /// An event about the room or its members.
    fn change(&self, id: RoomId, event: &ChatEvent) {
        match event {
            ChatEvent::Made { room, members } => {
                let notice = json!({"type": "room_added", "room": id.0, "name": room.name});
                self.welcome(id, members, &notice);
            }
            ChatEvent::Joined { room, user } => {
                let notice = json!({"type": "room_added", "room": id.0, "name": room.name});
                self.welcome(id, &[*user], &notice);
                let joined = json::frame(&json!({"type": "member_added", "room": id.0, "user": user.0}));
                self.with_room(id, |watch| watch.tell_watchers(&joined, None));
            }
            ChatEvent::Updated { room, by } => {
                let notice = json::frame(&json!({
                    "type": "room_updated",
                    "room": id.0,
                    "name": room.name,
                    "descriptions": room.descriptions,
                    "status": json::status_number(room.status).to_string(),
                    "by": by.0,
                }));
                self.with_room(id, |watch| {
                    watch.tell_watchers(&notice, None);
                    watch.tell_followers(&notice);
                    if room.status == RoomStatus::Closed {
                        watch.end_all(id, Close::ROOM_CLOSED);
                    }
                });
            }
            ChatEvent::Rights { user, rights } => {
                let access: Vec<u64> = rights.iter().map(|access| access.number()).collect();
                let notice =
                    json::frame(&json!({"type": "rights", "room": id.0, "user": user.0, "access": access}));
                self.with_room(id, |watch| watch.tell_watchers(&notice, Some(*user)));
            }
            ChatEvent::Removed { user, why } => {
                let (word, close) = match why {
                    Removal::Left => ("left", Close::LEFT),
                    Removal::Kicked => ("kicked", Close::KICKED),
                    Removal::Banned => ("banned", Close::BANNED),
                };
                let removed = json::frame(&json!({"type": "room_removed", "room": id.0, "code": word}));
                let others = json::frame(
                    &json!({"type": "member_removed", "room": id.0, "user": user.0, "code": word}),
                );
                self.with_room(id, |watch| {
                    watch.end(id, close, |other| other == *user);
                    watch.unfollow(id, &removed, |other| other == *user);
                    watch.tell_watchers(&others, None);
                });
            }
            ChatEvent::Deleted { .. } => {
                let removed =
                    json::frame(&json!({"type": "room_removed", "room": id.0, "code": "room_deleted"}));
                self.with_room(id, |watch| {
                    watch.end_all(id, Close::ROOM_DELETED);
                    watch.unfollow(id, &removed, |_| true);
                });
            }
            ChatEvent::Posted(_) | ChatEvent::Edited { .. } | ChatEvent::Read { .. } => {}
        }
    }
}
