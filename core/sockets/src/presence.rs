//! Who is online in a room, as its watchers see it.
//!
//! Each change goes to every watcher, so it is told only while a room has few sockets. Past `presence_sockets_max` the
//! watchers learn that presence is paused, and when the room has become smaller again, who is online then; in between
//! nobody shows a state that is no longer true. Invariant: a user does not learn of the presence of one who blocks that
//! user.
//!
//! Users who watch at other gateways that share the store count like those here. Each gateway tells who watches at it,
//! always all of them, so that a lost note is mended by the next.

use std::collections::BTreeMap;

use bytes::Bytes;
use chelseru_domain::bus::{NodeId, Present};
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
        self.presence_changed = true;
        let (max, sockets) =
            (of.peer.limits.presence_sockets_max, self.seeing().count() + self.count_elsewhere());
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
        if self.is_elsewhere(of.user) {
            return;
        }
        let Some(who) = of.peer.who() else { return };
        let frame = frames::frame(&json!({
            "type": "presence",
            "room": room.0,
            "user": frames::user(who.user, &who.face),
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
    pub(super) fn hidden_anew(&mut self, room: RoomId, who: &Who, before: &[UserId]) {
        self.presence_changed = true;
        let Some(own) = self.seeing().find(|watcher| watcher.user == who.user) else { return };
        if self.presence_paused {
            return;
        }
        for watcher in self.extended().filter(|watcher| watcher.user != who.user) {
            let hides = own.peer.hides_from(watcher.user);
            if hides != before.binary_search(&watcher.user).is_ok() {
                let user = frames::user(who.user, &who.face);
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
        let shown = |present: &&Present| reader.is_none_or(|reader| !hides(present, reader));
        online.extend(self.all_elsewhere().filter(shown).map(|present| present.user));
        online.sort_unstable();
        online.dedup();
        online
    }

    /// The users who watch here, for other gateways; `None` while presence is paused.
    pub(super) fn present_here(&self) -> Option<Vec<Present>> {
        if self.presence_paused {
            return None;
        }
        let mut users = BTreeMap::new();
        for watcher in self.seeing() {
            users.entry(watcher.user).or_insert(watcher);
        }
        let present = |watcher: &Watcher| {
            let hidden_from = watcher.peer.hidden_from().as_deref().unwrap_or_default().to_vec();
            Some(Present { user: watcher.user, face: watcher.peer.who()?.face, hidden_from })
        };
        Some(users.into_values().filter_map(present).collect())
    }

    /// Takes who watches at another gateway, and tells the watchers here of the difference.
    pub(super) fn present_elsewhere(&mut self, room: RoomId, node: NodeId, users: Vec<Present>) {
        let at = self.elsewhere.iter().position(|(other, _)| *other == node);
        let before = at.map(|at| self.elsewhere.swap_remove(at).1).unwrap_or_default();
        for present in &users {
            let known = before.iter().find(|other| other.user == present.user);
            let hidden_before = known.map(|known| known.hidden_from.clone());
            self.tell_elsewhere(room, present, true, hidden_before.as_deref());
        }
        let gone = before.iter().filter(|other| !users.iter().any(|present| present.user == other.user));
        gone.for_each(|present| self.tell_elsewhere(room, present, false, None));
        if !users.is_empty() {
            self.elsewhere.push((node, users));
        }
    }

    /// Nobody is seen elsewhere any more.
    pub(super) fn nobody_elsewhere(&mut self, room: RoomId) {
        for (_, users) in std::mem::take(&mut self.elsewhere) {
            users.iter().for_each(|present| self.tell_elsewhere(room, present, false, None));
        }
    }

    /// Tells the watchers here of a user elsewhere, while nobody else shows that user. `hidden_before`: from whom a
    /// user hid who was told already.
    fn tell_elsewhere(&self, room: RoomId, of: &Present, online: bool, hidden_before: Option<&[UserId]>) {
        let is_here = self.seeing().any(|watcher| watcher.user == of.user);
        if self.presence_paused || is_here || self.is_elsewhere(of.user) {
            return;
        }
        let user = frames::user(of.user, &of.face);
        let frame = |online: bool| {
            frames::frame(&json!({"type": "presence", "room": room.0, "user": user, "online": online}))
        };
        let (shown, hidden) = (frame(online), frame(false));
        for watcher in self.extended().filter(|watcher| watcher.user != of.user) {
            let hides = hides(of, watcher.user);
            match hidden_before.map(|before| before.binary_search(&watcher.user).is_ok()) {
                None if !hides => watcher.peer.push(shown.clone(), 1),
                Some(true) if !hides => watcher.peer.push(shown.clone(), 1),
                Some(false) if hides => watcher.peer.push(hidden.clone(), 1),
                None | Some(_) => {}
            }
        }
    }

    fn all_elsewhere(&self) -> impl Iterator<Item = &Present> {
        self.elsewhere.iter().flat_map(|(_, users)| users)
    }

    fn is_elsewhere(&self, user: UserId) -> bool {
        self.all_elsewhere().any(|present| present.user == user)
    }

    fn count_elsewhere(&self) -> usize {
        self.elsewhere.iter().map(|(_, users)| users.len()).sum()
    }

    fn extended(&self) -> impl Iterator<Item = &Watcher> {
        self.seeing().filter(|watcher| watcher.peer.opened.form == Form::Extended)
    }
}

/// Whether a user elsewhere is hidden from a reader.
fn hides(present: &Present, reader: UserId) -> bool {
    present.hidden_from.binary_search(&reader).is_ok()
}
