//! Turns stored events into frames for everyone who watches or follows the room.
//!
//! Events arrive from one task, in the order of storing.

use std::borrow::Cow;
use std::sync::Arc;

use chelseru_domain::chat::{ChatEvent, ChatPort, Removal, Room, RoomId, RoomKind, RoomStatus, StoredFile};
use chelseru_domain::ids::UserId;
use chelseru_domain::text::name_as_seen;
use serde_json::{Value, json};

use crate::close::Close;
use crate::frames;
use crate::hub::Hub;
use crate::peer::Peer;
use crate::watch::lock;

impl ChatPort for Hub {
    fn tell_absent(&self, room: RoomId, events: &[ChatEvent]) {
        self.away.note(room, events);
    }

    fn shows(&self, room: RoomId) -> bool {
        self.rooms.has(room)
    }

    fn users(&self, room: RoomId) -> Vec<UserId> {
        self.rooms.with_room(room, |watch| watch.users()).unwrap_or_default()
    }

    fn publish(&self, room: RoomId, events: &[ChatEvent]) {
        // Frames for all watchers are encoded together. An event that changes who watches stands between two such runs.
        let mut from = 0;
        for (at, event) in events.iter().enumerate() {
            if matches!(event, ChatEvent::Posted(_) | ChatEvent::Edited { .. } | ChatEvent::Read { .. }) {
                continue;
            }
            self.rooms.with_room(room, |watch| watch.show(room, &events[from..at], self.now_ms()));
            from = at + 1;
            self.change(room, event);
        }
        self.rooms.with_room(room, |watch| watch.show(room, &events[from..], self.now_ms()));
    }
}

impl Hub {
    fn updated(&self, room: &Room, avatar: Option<&StoredFile>, by: UserId) {
        let mut notice = json!({
            "type": "room_updated",
            "room": room.id.0,
            "name": shown(room),
            "descriptions": room.descriptions,
            "status": frames::status_number(room.status).to_string(),
            "by": by.0,
        });
        // Without the file of an avatar, clients ask for the room.
        if avatar.is_some() || room.avatar.is_none() {
            notice["avatar_file"] = avatar.map(|file| frames::file_facts(file, &file.path())).into();
        }
        let notice = frames::frame(&notice);
        self.rooms.with_room(room.id, |watch| {
            watch.tell_watchers(&notice, None);
            watch.tell_followers(&notice);
            if room.status == RoomStatus::Closed {
                watch.end_all(room.id, Close::ROOM_CLOSED);
            }
        });
    }
}

impl Hub {
    /// Publishes an event about the room or its members.
    fn change(&self, id: RoomId, event: &ChatEvent) {
        match event {
            ChatEvent::Made { room, members, asked, by } => {
                let notice = json!({"type": "room_added", "room": id.0, "name": shown(room)});
                match asked.is_empty() {
                    true => self.welcome(id, members, &notice),
                    false => {
                        let here = |user: &&UserId| !asked.contains(user);
                        let here: Vec<UserId> = members.iter().filter(here).copied().collect();
                        self.welcome(id, &here, &notice);
                        self.tell_asked(room, asked, *by);
                    }
                }
            }
            ChatEvent::Asked { room, user, by } => self.tell_asked(room, &[*user], *by),
            ChatEvent::Accepted { room, user } => self.joined(room, *user),
            ChatEvent::Declined { user } => {
                let removed = frames::frame(&json!({"type": "request_removed", "room": id.0}));
                for (_, peer) in self.sockets_of(&[*user]) {
                    peer.push(removed.clone(), 1);
                }
            }
            ChatEvent::Joined { room, user } => self.joined(room, *user),
            ChatEvent::Updated { room, avatar, by } => self.updated(room, avatar.as_deref(), *by),
            ChatEvent::Rights { user, rights } => {
                let access: Vec<u64> = rights.iter().map(|access| access.number()).collect();
                let notice =
                    frames::frame(&json!({"type": "rights", "room": id.0, "user": user.0, "access": access}));
                self.rooms.with_room(id, |watch| watch.tell_watchers(&notice, Some(*user)));
            }
            ChatEvent::Hidden { user } => {
                // The sockets follow the room all the same: its next message brings it back.
                let removed = frames::frame(&json!({"type": "room_removed", "room": id.0, "code": "left"}));
                for (_, peer) in self.sockets_of(&[*user]) {
                    peer.push(removed.clone(), 1);
                }
            }
            ChatEvent::Removed { user, why } => {
                let (word, close) = match why {
                    Removal::Left => ("left", Close::LEFT),
                    Removal::Kicked => ("kicked", Close::KICKED),
                    Removal::Banned => ("banned", Close::BANNED),
                };
                let removed = frames::frame(&json!({"type": "room_removed", "room": id.0, "code": word}));
                let others = frames::frame(
                    &json!({"type": "member_removed", "room": id.0, "user": user.0, "code": word}),
                );
                self.rooms.with_room(id, |watch| {
                    watch.end(id, close, |other| other == *user);
                    watch.unfollow(id, &removed, |other| other == *user);
                    watch.tell_watchers(&others, None);
                });
            }
            ChatEvent::Deleted { .. } => {
                let removed =
                    frames::frame(&json!({"type": "room_removed", "room": id.0, "code": "room_deleted"}));
                self.rooms.with_room(id, |watch| {
                    watch.end_all(id, Close::ROOM_DELETED);
                    watch.unfollow(id, &removed, |_| true);
                });
            }
            ChatEvent::Posted(_) | ChatEvent::Edited { .. } | ChatEvent::Read { .. } => {}
        }
    }

    fn joined(&self, room: &Room, user: UserId) {
        let id = room.id;
        let notice = json!({"type": "room_added", "room": id.0, "name": shown(room)});
        self.welcome(id, &[user], &notice);
        let joined = frames::frame(&json!({"type": "member_added", "room": id.0, "user": user.0}));
        self.rooms.with_room(id, |watch| watch.tell_watchers(&joined, None));
    }

    /// Tells users of a room that waits for their acceptance.
    fn tell_asked(&self, room: &Room, users: &[UserId], by: UserId) {
        let notice = frames::frame(&json!({
            "type": "request_added",
            "room": room.id.0,
            "name": shown(room),
            "is_group": room.kind == RoomKind::Group,
            "by": by.0,
        }));
        for (_, peer) in self.sockets_of(users) {
            peer.push(notice.clone(), 1);
        }
    }

    /// The sockets of these users that follow all rooms.
    fn sockets_of(&self, users: &[UserId]) -> Vec<(UserId, Arc<Peer>)> {
        let by_user = lock(&self.users);
        let peers = users.iter().filter_map(|user| Some((user, by_user.get(user)?)));
        let peers = peers.flat_map(|(user, peers)| peers.iter().map(|peer| (*user, Arc::clone(peer))));
        peers.filter(|(_, peer)| peer.opened.room.is_none()).collect()
    }

    /// Lets new members' sockets follow a room.
    fn welcome(&self, room: RoomId, users: &[UserId], notice: &Value) {
        let peers = self.sockets_of(users);
        if peers.is_empty() {
            return;
        }
        let frame = frames::frame(notice);
        self.rooms.in_room(room, |watch| {
            for (user, peer) in &peers {
                watch.follow(room, peer, *user);
                peer.push(frame.clone(), 1);
            }
        });
    }
}

/// A room's name as others see it.
fn shown(room: &Room) -> Option<Cow<'_, str>> {
    room.name.as_deref().map(name_as_seen)
}
