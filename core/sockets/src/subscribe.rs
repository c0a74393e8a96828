//! Subscribing: a socket's first frames, and a room from the client's last position.

use std::sync::Arc;

use chelseru_domain::chat::{Action, ChatError, Denied, RoomId, RoomStatus, RoomSummary};
use serde_json::json;

use crate::frames::{self, About};
use crate::open::{Form, Since, Who};
use crate::peer::{CatchUp, Peer};
use crate::place::{Place, Sockets};

impl Place {
    /// Starts a socket with a known holder: it watches its room, or gets the list of all rooms.
    ///
    /// # Errors
    ///
    /// Why the holder may not open this socket.
    pub async fn start(&self, who: &Who) -> Result<(), ChatError> {
        start(&self.sockets, &self.peer, who).await
    }
}

/// Sends the first frames of a socket with a known holder: its room, or the list of all rooms.
///
/// # Errors
///
/// Why the holder may not open this socket.
pub(crate) async fn start(sockets: &Sockets, peer: &Arc<Peer>, who: &Who) -> Result<(), ChatError> {
    let _ = peer.hide_from(sockets.blocked_by(who.user).await?);
    match peer.opened.room {
        Some(room) => {
            subscribe(
                sockets,
                peer,
                who,
                room,
                peer.opened.since,
                &About { room: Some(room), ..About::default() },
            )
            .await
        }
        None => {
            let mut rooms = Vec::new();
            for summary in follow_all(sockets, peer, who).await? {
                if summary.is_hidden() {
                    continue;
                }
                rooms.push(json!({
                    "room": summary.room.id.0,
                    "seq": summary.last_seq,
                    "revision": summary.room.revision,
                    "unread": summary.unread,
                }));
            }
            let hello = json!({
                "type": "hello",
                "user": frames::user(who.user, &who.face),
                "heartbeat_seconds": peer.limits.heartbeat_seconds,
                "rooms": rooms,
            });
            peer.push(frames::frame(&hello), 1);
            Ok(())
        }
    }
}

/// Follows all rooms of a user, and returns them as they are from when on nothing of them is missed.
async fn follow_all(sockets: &Sockets, peer: &Arc<Peer>, who: &Who) -> Result<Vec<RoomSummary>, ChatError> {
    let follow = |rooms: &[RoomSummary]| {
        rooms.iter().for_each(|summary| sockets.hub.rooms.follow(summary.room.id, peer, who.user));
    };
    let rooms = sockets.chat.rooms_and_hidden(who.user).await?;
    follow(&rooms);
    if sockets.link.is_none() {
        return Ok(rooms);
    }
    let ids: Vec<RoomId> = rooms.iter().map(|summary| summary.room.id).collect();
    sockets.hub.rooms.attend(&ids).await?;
    // Other gateways may have changed them meanwhile.
    let rooms = sockets.chat.rooms_and_hidden(who.user).await?;
    follow(&rooms);
    Ok(rooms)
}

/// Watches a room from the client's last position, or from now.
pub(crate) async fn subscribe(
    sockets: &Sockets,
    peer: &Arc<Peer>,
    who: &Who,
    room: RoomId,
    since: Option<Since>,
    about: &About,
) -> Result<(), ChatError> {
    let Some(ticket) = sockets.hub.rooms.watch(room, peer, who.user) else {
        peer.refuse("subscribed_already", "This socket already watches the room.", about);
        return Ok(());
    };
    let heads = async {
        sockets.hub.rooms.attend(&[room]).await?;
        heads(sockets, who, room).await
    };
    match heads.await {
        Ok(heads) => {
            let max = sockets.chat.rules().resume_max;
            let from = since.map_or(heads, |since| (since.seq, since.revision.unwrap_or(heads.1)));
            // A client ahead of the room comes from a restored or different store: answer `reset`.
            let whole = |from: u64, head: u64| head.checked_sub(from).is_some_and(|gap| gap <= max);
            let reset = !(whole(from.0, heads.0) && whole(from.1, heads.1));
            let extended = peer.opened.form == Form::Extended;
            let admitted = sockets.hub.rooms.admit(room, peer, ticket, |online, paused| {
                let online: Vec<u64> = online.iter().map(|user| user.0).collect();
                let told = json!({
                    "type": "subscribed",
                    "seq": heads.0,
                    "revision": heads.1,
                    "online": online,
                    "presence_paused": paused,
                });
                extended.then(|| frames::frame(&about.on(told)))
            });
            if !admitted {
                // The watcher was removed meanwhile, and was notified.
                return Ok(());
            }
            if extended && reset {
                let told = json!({"type": "reset", "room": room.0, "seq": heads.0, "revision": heads.1});
                peer.push(frames::frame(&told), 1);
            }
            let (seq, revision) = if reset { heads } else { from };
            peer.push_catch_up(CatchUp { room, ticket, seq, revision, heads });
            Ok(())
        }
        Err(error) => {
            sockets.hub.rooms.refuse(room, peer, ticket);
            Err(error)
        }
    }
}

/// The newest number and revision of a room that the user may watch. A closed room takes no watchers.
async fn heads(sockets: &Sockets, who: &Who, room: RoomId) -> Result<(u64, u64), ChatError> {
    let facts = sockets.chat.check(room, who.user, Action::Attend).await?;
    if facts.room.status == RoomStatus::Closed {
        return Err(Denied::RoomClosed.into());
    }
    let heads = sockets.chat.heads(room).await?;
    if sockets.chat.is_shared() {
        // Another gateway may have removed the user since then, and messages up to these numbers came later. Here, the
        // removal is shown before its caller is answered, and ends the watcher.
        sockets.chat.check(room, who.user, Action::Attend).await?;
    }
    Ok(heads)
}
