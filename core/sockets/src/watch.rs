//! One room as sockets see it: who watches, who follows, and which frames each of them gets.
//!
//! Everything here runs under the room's lock. A batch of events is encoded once per form;
//! only a watcher that has read some of it from the store gets a batch of its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chelseru_domain::bus::{NodeId, Present};
use chelseru_domain::chat::{ChatEvent, Gap, RoomId};
use chelseru_domain::ids::UserId;
use serde_json::json;

use crate::close::Close;
use crate::frames::{self, put_edit, put_message};
use crate::open::Form;
use crate::peer::{Peer, Ticket};

#[derive(Default)]
pub(super) struct Watch {
    pub(super) watchers: Vec<Watcher>,
    pub(super) followers: Vec<Follower>,
    /// Newest number and revision that were published while the room had watchers or followers.
    pub(super) published: (u64, u64),
    /// Too many sockets watch, so presence is not told.
    pub(super) presence_paused: bool,
    /// Who watches here changed, and other gateways were not told yet.
    pub(super) presence_changed: bool,
    /// Who watches at other gateways.
    pub(super) elsewhere: Vec<(NodeId, Vec<Present>)>,
    /// No longer in the hub's map: look the room up again.
    pub(super) gone: bool,
}

pub(super) struct Watcher {
    pub(super) peer: Arc<Peer>,
    pub(super) user: UserId,
    /// Of this subscription: another one of the same socket has its own right to watch.
    pub(super) ticket: Ticket,
    pub(super) state: State,
    /// What was published while it joins.
    pub(super) held: Held,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its right to watch is being checked; it gets nothing.
    Asking,
    /// It gets frames without a number, and reads those with one from the store.
    Reading,
    /// It reads the last few up to this number and revision; what is newer is held for it.
    Joining(u64, u64),
    /// It gets everything that is newer than this number and revision.
    Live(u64, u64),
}

/// Chunks for a watcher that joins, at most as much as its socket's queue may hold.
#[derive(Default)]
pub(super) struct Held {
    chunks: Vec<(Bytes, usize)>,
    frames: usize,
    bytes: usize,
}

pub(super) struct Follower {
    pub(super) peer: Arc<Peer>,
    pub(super) user: UserId,
    /// It watches too, gets the messages and so needs no unread counts.
    pub(super) watching: bool,
}

/// The result of trying to make a watcher live.
pub(super) enum Step {
    Live,
    /// It joins: it must read up to this number and revision, and then become live.
    Joining((u64, u64)),
    /// It must read up to this number and revision first.
    Behind((u64, u64)),
    /// It no longer watches.
    Gone,
}

impl Watcher {
    pub(super) fn new(peer: &Arc<Peer>, user: UserId, ticket: Ticket) -> Watcher {
        Watcher { peer: Arc::clone(peer), user, ticket, state: State::Asking, held: Held::default() }
    }

    /// Sends frames, or holds them while the watcher joins. One that cannot hold more reads from the store again.
    fn show(&mut self, chunk: Bytes, frames: usize) {
        if !matches!(self.state, State::Joining(..)) {
            return self.peer.push(chunk, frames);
        }
        self.held.frames += frames;
        self.held.bytes += chunk.len();
        let limits = &self.peer.limits;
        if self.held.frames > limits.queue_frames_max || self.held.bytes > limits.queue_bytes_max {
            self.held = Held::default();
            self.state = State::Reading;
        } else {
            self.held.chunks.push((chunk, frames));
        }
    }

    /// Sends what was held.
    pub(super) fn release(&mut self) {
        for (chunk, frames) in std::mem::take(&mut self.held).chunks {
            self.peer.push(chunk, frames);
        }
    }
}

impl Watch {
    pub(super) fn is_empty(&self) -> bool {
        self.watchers.is_empty() && self.followers.is_empty()
    }

    /// The users who watch or follow.
    pub(super) fn users(&self) -> Vec<UserId> {
        let followers = self.followers.iter().map(|follower| follower.user);
        let mut users: Vec<UserId> =
            self.watchers.iter().map(|watcher| watcher.user).chain(followers).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// The watcher of a socket's subscription.
    pub(super) fn watcher(&mut self, peer: &Peer, ticket: Ticket) -> Option<&mut Watcher> {
        self.watchers.iter_mut().find(|watcher| watcher.peer.id == peer.id && watcher.ticket == ticket)
    }

    /// The same while it reads the store: its right was checked, and it is not live yet.
    pub(super) fn reader(&mut self, peer: &Peer, ticket: Ticket) -> Option<&mut Watcher> {
        let reads = |watcher: &&mut Watcher| matches!(watcher.state, State::Reading | State::Joining(..));
        self.watcher(peer, ticket).filter(reads)
    }

    /// Removes a socket's watcher, and the room from what the socket watches.
    pub(super) fn take(&mut self, room: RoomId, peer: &Peer) -> Option<Watcher> {
        let at = self.watchers.iter().position(|watcher| watcher.peer.id == peer.id)?;
        lock(&peer.rooms).watched.retain(|other| *other != room);
        Some(self.watchers.swap_remove(at))
    }

    /// Makes a watcher live that joined, unless it could not hold what was published meanwhile.
    pub(super) fn go_live(&mut self, peer: &Peer, ticket: Ticket) -> Step {
        let published = self.published;
        let Some(watcher) = self.watcher(peer, ticket) else { return Step::Gone };
        match watcher.state {
            State::Joining(seq, revision) => {
                watcher.release();
                watcher.state = State::Live(seq, revision);
            }
            State::Reading => return Step::Behind(published),
            State::Asking | State::Live(..) => return Step::Gone,
        }
        for follower in self.followers.iter_mut().filter(|follower| follower.peer.id == peer.id) {
            follower.watching = true;
        }
        Step::Live
    }

    pub(super) fn follow(&mut self, room: RoomId, peer: &Arc<Peer>, user: UserId) {
        let mut rooms = lock(&peer.rooms);
        if rooms.gone || rooms.followed.contains(&room) {
            return;
        }
        rooms.followed.push(room);
        let live = |watcher: &Watcher| watcher.peer.id == peer.id && matches!(watcher.state, State::Live(..));
        let watching = rooms.watched.contains(&room) && self.watchers.iter().any(live);
        self.followers.push(Follower { peer: Arc::clone(peer), user, watching });
    }

    /// Shows messages, edits and read markers.
    pub(super) fn show(&mut self, room: RoomId, events: &[ChatEvent], now_ms: u64) {
        if events.is_empty() {
            return;
        }
        let (mut first_seq, mut first_revision, mut recount) = (u64::MAX, u64::MAX, false);
        for event in events {
            match event {
                ChatEvent::Posted(view) => {
                    self.published.0 = self.published.0.max(view.message.seq);
                    first_seq = first_seq.min(view.message.seq);
                    recount = true;
                }
                ChatEvent::Edited { view, revision, .. } => {
                    self.published.1 = self.published.1.max(*revision);
                    first_revision = first_revision.min(*revision);
                    recount |= view.message.deleted;
                }
                _ => {}
            }
        }
        let mut shared: [Option<(Bytes, usize)>; 2] = [None, None];
        for watcher in &mut self.watchers {
            let (seq, revision) = match watcher.state {
                State::Asking => continue,
                // Markers have no number of their own.
                State::Reading => (u64::MAX, u64::MAX),
                State::Joining(seq, revision) | State::Live(seq, revision) => (seq, revision),
            };
            let form = watcher.peer.opened.form;
            let (chunk, frames) = if seq < first_seq && revision < first_revision {
                shared[form as usize].get_or_insert_with(|| encode(room, events, form, (0, 0))).clone()
            } else {
                // The watcher has read some of this from the store already.
                encode(room, events, form, (seq, revision))
            };
            if frames > 0 {
                watcher.show(chunk, frames);
            }
        }
        for follower in self.followers.iter().filter(|follower| !follower.watching) {
            let read = || {
                events
                    .iter()
                    .any(|event| matches!(event, ChatEvent::Read { user, .. } if *user == follower.user))
            };
            if recount || read() {
                follower.peer.push_unread(room, now_ms);
            }
        }
    }

    /// Sends a frame to one user's watching sockets, or to all.
    pub(super) fn tell_watchers(&self, frame: &Bytes, user: Option<UserId>) {
        for watcher in self.seeing().filter(|watcher| user.is_none_or(|user| user == watcher.user)) {
            if watcher.peer.opened.form == Form::Extended {
                watcher.peer.push(frame.clone(), 1);
            }
        }
    }

    /// The watchers that were admitted.
    pub(super) fn seeing(&self) -> impl Iterator<Item = &Watcher> {
        self.watchers.iter().filter(|watcher| watcher.state != State::Asking)
    }

    /// Sends a frame to those who follow and do not watch.
    pub(super) fn tell_followers(&self, frame: &Bytes) {
        for follower in self.followers.iter().filter(|follower| !follower.watching) {
            follower.peer.push(frame.clone(), 1);
        }
    }

    pub(super) fn end_all(&mut self, room: RoomId, close: Close) {
        self.end(room, close, |_| true);
    }

    /// Ends the watches of some users: a room's socket closes, a socket of all rooms gets a frame.
    pub(super) fn end(&mut self, room: RoomId, close: Close, which: impl Fn(UserId) -> bool) {
        let told = frames::frame(&json!({"type": "unsubscribed", "room": room.0, "code": close.reason}));
        let mut kept = Vec::with_capacity(self.watchers.len());
        for watcher in std::mem::take(&mut self.watchers) {
            if !which(watcher.user) {
                kept.push(watcher);
                continue;
            }
            lock(&watcher.peer.rooms).watched.retain(|other| *other != room);
            match watcher.peer.opened.room {
                Some(_) => watcher.peer.close(close),
                None => watcher.peer.push(told.clone(), 1),
            }
            for follower in self.followers.iter_mut().filter(|other| other.peer.id == watcher.peer.id) {
                follower.watching = false;
            }
        }
        self.watchers = kept;
    }

    pub(super) fn unfollow(&mut self, room: RoomId, notice: &Bytes, which: impl Fn(UserId) -> bool) {
        self.followers.retain(|follower| {
            if !which(follower.user) {
                return true;
            }
            lock(&follower.peer.rooms).followed.retain(|other| *other != room);
            follower.peer.push(notice.clone(), 1);
            false
        });
    }
}

/// Encodes events that are newer than `seen`.
fn encode(room: RoomId, events: &[ChatEvent], form: Form, seen: (u64, u64)) -> (Bytes, usize) {
    let mut out = Vec::with_capacity(events.len() * 320);
    let mut frames = 0;
    for event in events {
        match event {
            ChatEvent::Posted(view) if view.message.seq > seen.0 => put_message(&mut out, view, form),
            ChatEvent::Edited { view, revision, .. } if *revision > seen.1 && form == Form::Extended => {
                put_edit(&mut out, view, *revision);
            }
            ChatEvent::Read { user, seq } if form == Form::Extended => {
                let read = json!({"type": "read", "room": room.0, "user": user.0, "seq": seq});
                out.extend_from_slice(&frames::frame(&read));
            }
            _ => continue,
        }
        frames += 1;
    }
    (out.into(), frames)
}

/// Encodes what was read from the store.
pub(super) fn gap_chunk(form: Form, gap: &Gap) -> Bytes {
    let Gap::Whole { messages, edits } = gap else { return Bytes::new() };
    let mut out = Vec::new();
    for view in messages {
        put_message(&mut out, view, form);
    }
    if form == Form::Extended {
        for (revision, view) in edits {
            put_edit(&mut out, view, *revision);
        }
    }
    out.into()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
