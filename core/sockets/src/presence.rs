//! Who is online in a room, as its watchers see it.
//!
//! Each change goes to every watcher, so it is told only while a room has few sockets. Past `presence_sockets_max` the
//! watchers learn that presence is paused, and when the room has become smaller again, who is online then; in between
//! nobody shows a state that is no longer true. Invariant: a user does not learn of the presence of one who blocks that
//! user.

use bytes::Bytes;
use chelseru_domain::chat::RoomId;
use chelseru_domain::ids::UserId;
use serde_json::json;

use crate::frames;
use crate::open::{Form, Who};
use crate::watch::{State, Watch, Watcher};

impl Watch {
    /// Announces that a user came online, or went offline with the last socket. Nothing is told of a watcher that was
    /// not admitted.
    pub(super) fn presence(&mut self, room: RoomId, of: &Watcher, online: bool) {
        if of.state == State::Asking {
            return;
        }
        let (max, sockets) = (of.peer.limits.presence_sockets_max, self.seeing().count());
        // A single socket that comes and goes at the bound must not tell everybody each time.
        let resumed = sockets <= max - max / 4;
        match (self.presence_paused, sockets > max) {
            (false, true) => return self.pause_presence(room),
            (true, _) if resumed => return self.resume_presence(room),
            (true, _) => return,
            (false, false) => {}
        }
        if self.seeing().any(|watcher| watcher.user == of.user && watcher.peer.id != of.peer.id) {
            return;
        }
        let Some(who) = of.peer.who() else { return };
        let frame = frames::frame(&json!({
            "type": "presence",
            "room": room.0,
            "user": {"id": who.user.0, "username": &*who.name},
            "online": online,
        }));
        for watcher in self.extended() {
            if watcher.user != of.user && !of.peer.hides_from(watcher.user) {
                watcher.peer.push(frame.clone(), 1);
            }
        }
    }

    /// Tells users from whom a watcher hides from now on that the watcher is offline, and others, from whom the watcher
    /// hid before, that the watcher is online.
    pub(super) fn hidden_anew(&self, room: RoomId, who: &Who, before: &[UserId]) {
        let Some(own) = self.seeing().find(|watcher| watcher.user == who.user) else { return };
        if self.presence_paused {
            return;
        }
        for watcher in self.extended().filter(|watcher| watcher.user != who.user) {
            let hides = own.peer.hides_from(watcher.user);
            if hides != before.binary_search(&watcher.user).is_ok() {
                let user = frames::user(who);
                let frame = json!({"type": "presence", "room": room.0, "user": user, "online": !hides});
                watcher.peer.push(frames::frame(&frame), 1);
            }
        }
    }

    fn pause_presence(&mut self, room: RoomId) {
        self.presence_paused = true;
        let frame = frames::frame(&json!({"type": "presence_paused", "room": room.0}));
        self.extended().for_each(|watcher| watcher.peer.push(frame.clone(), 1));
    }

    fn resume_presence(&mut self, room: RoomId) {
        self.presence_paused = false;
        let hides = self.seeing().any(|watcher| watcher.peer.hides());
        let frame = |reader: Option<UserId>| -> Bytes {
            let online: Vec<u64> = self.online(reader).iter().map(|user| user.0).collect();
            frames::frame(&json!({"type": "presence_resumed", "room": room.0, "online": online}))
        };
        let shared = frame(None);
        for watcher in self.extended() {
            watcher.peer.push(if hides { frame(Some(watcher.user)) } else { shared.clone() }, 1);
        }
    }

    /// Users who watch, as one of them sees it; without a reader, all. Empty while presence is paused.
    pub(super) fn online(&self, reader: Option<UserId>) -> Vec<UserId> {
        if self.presence_paused {
            return Vec::new();
        }
        let seen = |watcher: &&Watcher| reader.is_none_or(|reader| !watcher.peer.hides_from(reader));
        let mut online: Vec<UserId> = self.seeing().filter(seen).map(|watcher| watcher.user).collect();
        online.sort_unstable();
        online.dedup();
        online
    }

    fn extended(&self) -> impl Iterator<Item = &Watcher> {
        self.seeing().filter(|watcher| watcher.peer.opened.form == Form::Extended)
    }
}
