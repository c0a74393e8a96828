//! Carries out client requests on sockets: the boundary between frames and the chat service.
//!
//! The service judges every right inside the change itself; nothing here decides one. [`refusal`] names each refusal
//! in error frames.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use chelseru_domain::chat::{
    Action, ChatError, Entry, MessageBody, MessageEdit, Post, Posted, RoomId, RoomRequest, message_id,
};
use chelseru_domain::clock::Timestamp;
use chelseru_domain::ids::UserId;
use serde_json::{Map, Value, json};

use crate::close::Close;
use crate::coalesce::{Kind, State};
use crate::frames::{self, About, instant};
use crate::hub::NotIdentified;
use crate::open::{Form, Since, Who};
use crate::peer::Peer;
use crate::place::{Place, Sockets};
use crate::refusal::refusal;
use crate::request::{Parsed, Request};
use crate::subscribe::{start, subscribe};

/// The rest of a request after its first step.
type Change = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Carries out a frame's request. Returns the part that has to wait for the store.
pub(super) fn act(place: &Place, parsed: Parsed, text: &str) -> Option<Change> {
    let Parsed { about, request } = parsed;
    let (sockets, peer) = (&place.sockets, &place.peer);
    let Some(who) = peer.who() else { return begin(place, request, about) };
    // Requests that need no room name none.
    let room = about.room.unwrap_or(RoomId(0));
    match request {
        Request::Post { body, file, client_id } => {
            let post = Post { sender: who.user, face: who.face, body, file, client_id };
            let Some(entry) = sockets.chat.entered(room) else {
                return Some(Box::pin(enter_and_post(sockets.clone(), peer.clone(), room, post, about)));
            };
            post_message(sockets, peer, &entry, post, about);
        }
        Request::Signal(signal) => {
            // Before anything of it is kept, so what waits for the store is within the user's allowance.
            if let Err(error) = sockets.chat.charge(who.user, text.len()) {
                refuse(peer, &error, &about);
                return None;
            }
            let relay = Relay::new(&who, room, signal);
            return Some(Box::pin(relay_signal(sockets.clone(), peer.clone(), who.user, room, relay, about)));
        }
        Request::Typing(typing) => {
            let state = State { user: who.user, room, kind: Kind::Typing };
            let shown =
                show_state(sockets.clone(), peer.clone(), Action::Signal, state, typing.into(), about);
            return Some(Box::pin(shown));
        }
        Request::Delivered(seq) => {
            let state = State { user: who.user, room, kind: Kind::Delivered };
            let shown = show_state(sockets.clone(), peer.clone(), Action::Attend, state, seq, about);
            return Some(Box::pin(shown));
        }
        Request::Ping => peer.push(frames::frame(&about.on(json!({"type": "pong"}))), 1),
        Request::Auth(token) => {
            return Some(Box::pin(renew(sockets.clone(), peer.clone(), who, token, about)));
        }
        Request::Unsubscribe => unsubscribe(sockets, peer, room, &about),
        Request::Subscribe(since) => return begin_watching(place, who, vec![(room, since)], about),
        Request::SubscribeAll(rooms) => return begin_watching(place, who, rooms, about),
        Request::Read(seq) => {
            return Some(Box::pin(read(sockets.clone(), peer.clone(), who, (room, seq), about)));
        }
        Request::Edit { seq, text } => {
            return Some(Box::pin(edit(sockets.clone(), peer.clone(), who, (room, seq), text, about)));
        }
        Request::Delete(seq) => {
            let edit = MessageEdit::Delete;
            let change = change_message(sockets.clone(), peer.clone(), who, (room, seq), edit, about);
            return Some(Box::pin(change));
        }
    }
    None
}

/// The first frame of a socket that was opened without a token must bring one.
fn begin(place: &Place, request: Request, about: About) -> Option<Change> {
    let (sockets, peer) = (&place.sockets, &place.peer);
    if let Request::Auth(token) = request {
        return Some(Box::pin(first_token(sockets.clone(), peer.clone(), token, about)));
    }
    peer.refuse("not_authenticated", "The first frame must bring a token.", &about);
    peer.close(Close::UNAUTHORIZED);
    None
}

fn begin_watching(
    place: &Place,
    who: Who,
    rooms: Vec<(RoomId, Option<Since>)>,
    about: About,
) -> Option<Change> {
    if place.peer.opened.room.is_some() {
        let detail = "A room's socket is always subscribed to its room.";
        place.peer.refuse("not_for_this_socket", detail, &about);
        return None;
    }
    let (sockets, peer) = (place.sockets.clone(), place.peer.clone());
    Some(Box::pin(async move {
        // One such request of a socket is under way, so a client cannot have thousands of rooms checked at once.
        let _hold = (rooms.len() > 1).then(|| peer.hold());
        for (room, since) in rooms {
            if peer.is_gone() || peer.is_closing() {
                return;
            }
            let about = About { room: Some(room), ..about.clone() };
            if let Err(error) = subscribe(&sockets, &peer, &who, room, since, &about).await {
                refuse(&peer, &error, &about);
            }
            // Many rooms do not hold up the other sockets of this thread.
            tokio::task::consume_budget().await;
        }
    }))
}

fn unsubscribe(sockets: &Sockets, peer: &Arc<Peer>, room: RoomId, about: &About) {
    if peer.opened.room.is_some() {
        let detail = "Close a room's socket to leave its room.";
        peer.refuse("not_for_this_socket", detail, about);
        return;
    }
    sockets.hub.rooms.unwatch(room, peer);
    let frame = json!({"type": "unsubscribed", "code": "unsubscribed"});
    peer.push(frames::frame(&about.on(frame)), 1);
}

async fn read(sockets: Arc<Sockets>, peer: Arc<Peer>, who: Who, (room, seq): (RoomId, u64), about: About) {
    let read = sockets.chat.room_change(room, who.user, RoomRequest::Read(seq)).await;
    let told = read.map(|changed| {
        let read = changed.actor.map_or(0, |member| member.read_seq);
        json!({"type": "ack", "seq": read})
    });
    answer(&peer, &about, told);
}

/// Edits the text of a message; its kind and coordinates stay.
async fn edit(
    sockets: Arc<Sockets>,
    peer: Arc<Peer>,
    who: Who,
    (room, seq): (RoomId, u64),
    text: String,
    about: About,
) {
    match sockets.chat.message(room, seq, who.user).await {
        Ok(message) => {
            let edit = MessageEdit::Body(MessageBody { text, raw: false, ..message.body });
            change_message(sockets, peer, who, (room, seq), edit, about).await;
        }
        Err(error) => refuse(&peer, &error, &about),
    }
}

/// The first message to a room since the gateway started. Later frames of the socket wait for it, so that the order of
/// its messages is kept while the room's position is read.
async fn enter_and_post(sockets: Arc<Sockets>, peer: Arc<Peer>, room: RoomId, post: Post, about: About) {
    let hold = peer.hold();
    match sockets.chat.enter(room).await {
        Ok(entry) => post_message(&sockets, &peer, &entry, post, about),
        Err(error) => refuse(&peer, &error, &about),
    }
    drop(hold);
}

fn post_message(sockets: &Sockets, peer: &Arc<Peer>, entry: &Entry, post: Post, about: About) {
    // The original's clients know no acknowledgement. A client that sends `client_id` does.
    let wants_ack = peer.opened.form == Form::Extended || post.client_id.is_some();
    let answered = peer.clone();
    let about_done = about.clone();
    peer.change_begins();
    let posted = sockets.chat.post(entry, post, move |result| {
        match result {
            Ok(posted) if wants_ack => answered.push(ack(&posted, &about_done), 1),
            Ok(_) => {}
            Err(error) => refuse(&answered, &error, &about_done),
        }
        answered.change_ended();
    });
    if let Err(error) = posted {
        peer.change_ended();
        refuse(peer, &error, &about);
    }
}

fn ack(posted: &Posted, about: &About) -> Bytes {
    let message = &posted.view.message;
    frames::frame(&about.on(json!({
        "type": "ack",
        "id": message_id(message.room, message.seq),
        "seq": message.seq,
        "created_at": instant(message.created_at),
        "duplicate": posted.duplicate,
    })))
}

async fn change_message(
    sockets: Arc<Sockets>,
    peer: Arc<Peer>,
    who: Who,
    (room, seq): (RoomId, u64),
    edit: MessageEdit,
    about: About,
) {
    let changed = sockets.chat.message_change(room, seq, who.user, edit).await;
    let told = changed.map(|(view, revision)| {
        let id = message_id(view.message.room, view.message.seq);
        json!({"type": "ack", "id": id, "seq": seq, "revision": revision})
    });
    answer(&peer, &about, told);
}

/// A signal of a call as its readers get it. The original's clients get the object with its sender and room, the others
/// get it inside of a frame. It is written anew, so that what readers see is what was checked. It is text while it
/// waits: parsed JSON takes many times as much memory.
struct Relay {
    frame: String,
    original: String,
}

impl Relay {
    fn new(who: &Who, room: RoomId, mut signal: Map<String, Value>) -> Relay {
        let sender = frames::user(who.user, &who.face);
        signal.insert("sender".to_owned(), frames::original_user(who.user, &who.face));
        signal.insert("room".to_owned(), room.0.into());
        // An object of JSON values always encodes.
        let original = serde_json::to_string(&signal).unwrap_or_default();
        signal.remove("sender");
        signal.remove("room");
        let frame = json!({"type": "webrtc_signal", "room": room.0, "sender": sender, "signal": signal});
        Relay { frame: frame.to_string(), original }
    }
}

async fn relay_signal(
    sockets: Arc<Sockets>,
    peer: Arc<Peer>,
    user: UserId,
    room: RoomId,
    relay: Relay,
    about: About,
) {
    match sockets.chat.check(room, user, Action::Signal).await {
        Ok(_) => sockets.hub.rooms.relay(room, user, relay.frame, Some(relay.original)),
        Err(error) => refuse(&peer, &error, &about),
    }
}

/// Shows a state that is not stored, unless it comes too early.
async fn show_state(
    sockets: Arc<Sockets>,
    peer: Arc<Peer>,
    needs: Action,
    state: State,
    value: u64,
    about: About,
) {
    if let Err(error) = sockets.chat.check(state.room, state.user, needs).await {
        return refuse(&peer, &error, &about);
    }
    if state.kind == Kind::Delivered {
        match sockets.chat.newest_seq(state.room).await {
            Ok(newest) if (1..=newest).contains(&value) => {}
            Ok(_) => return refuse(&peer, &ChatError::MessageMissing, &about),
            Err(error) => return refuse(&peer, &error, &about),
        }
    }
    if sockets.hub.note_state(state, value) {
        sockets.show(state, value).await;
    }
}

impl Sockets {
    /// Shows a state to the room's other users.
    async fn show(&self, state: State, value: u64) {
        let State { user, room, kind } = state;
        let frame = match kind {
            Kind::Typing => {
                let by = frames::user(user, &self.chat.face(user).await);
                json!({"type": "typing", "room": room.0, "user": by, "typing": value == 1})
            }
            Kind::Delivered => json!({"type": "delivered", "room": room.0, "user": user.0, "seq": value}),
        };
        self.hub.rooms.relay(room, user, frame.to_string(), None);
    }

    /// Shows the states that waited, to rooms that their users may still see.
    pub(crate) async fn show_due(&self) {
        for (state, value) in self.hub.states_due() {
            if self.chat.check(state.room, state.user, Action::Attend).await.is_ok() {
                self.show(state, value).await;
            }
        }
    }
}

/// Later frames of the socket wait for it: a later token must be one of the same user, other requests need a holder.
async fn first_token(sockets: Arc<Sockets>, peer: Arc<Peer>, token: String, about: About) {
    let _hold = peer.hold();
    let (who, expires_at) = match sockets.holder(&token).await {
        Ok(holder) => holder,
        Err(error) => {
            peer.refuse("token_not_valid", &error.to_string(), &about);
            return peer.close(Close::UNAUTHORIZED);
        }
    };
    match sockets.hub.identify(&peer, who.clone(), expires_at) {
        Ok(()) => {}
        Err(NotIdentified::TooMany) => return peer.close(Close::TOO_MANY),
        // Its first token was accepted already, or its client is gone.
        Err(NotIdentified::Known | NotIdentified::Gone) => return,
    }
    peer.push(frames::frame(&authenticated(&about, expires_at)), 1);
    if let Err(error) = start(&sockets, &peer, &who).await {
        refuse(&peer, &error, &about);
        peer.close(match error {
            ChatError::RoomMissing => Close::ROOM_MISSING,
            ChatError::Denied(_) => Close::FORBIDDEN,
            _ => Close::INTERNAL,
        });
    }
}

/// Lets another token of the same user take over.
async fn renew(sockets: Arc<Sockets>, peer: Arc<Peer>, who: Who, token: String, about: About) {
    match sockets.holder(&token).await {
        Ok((next, expires_at)) if next.user == who.user => {
            peer.set_who(next, expires_at);
            peer.push(frames::frame(&authenticated(&about, expires_at)), 1);
        }
        Ok(_) => peer.refuse("token_not_valid", "the token is another user's", &about),
        Err(error) => peer.refuse("token_not_valid", &error.to_string(), &about),
    }
}

fn authenticated(about: &About, expires_at: Timestamp) -> Value {
    About { room: None, ..about.clone() }
        .on(json!({"type": "authenticated", "expires_at": instant(expires_at)}))
}

/// The current unread counts of rooms.
pub(super) async fn unread(place: &Place, rooms: &[RoomId]) -> Vec<Bytes> {
    let Some(who) = place.peer.who() else { return Vec::new() };
    let mut frames = Vec::with_capacity(rooms.len());
    for room in rooms {
        let Ok(summary) = place.sockets.chat.room(*room, who.user).await else { continue };
        frames.push(frames::frame(&json!({
            "type": "unread",
            "room": room.0,
            "unread": summary.unread,
            "seq": summary.last_seq,
        })));
    }
    frames
}

fn answer(peer: &Peer, about: &About, result: Result<Value, ChatError>) {
    match result {
        Ok(told) => peer.push(frames::frame(&about.on(told)), 1),
        Err(error) => refuse(peer, &error, about),
    }
}

fn refuse(peer: &Peer, error: &ChatError, about: &About) {
    let (code, detail) = refusal(error);
    peer.refuse(code, &detail, about);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::who;

    #[test]
    fn a_signal_names_its_sender_and_room_in_both_forms() {
        let Value::Object(signal) = json!({"message_type": "webrtc_signal", "sdp": "v=0", "x": [1.5, null]})
        else {
            panic!("an object")
        };
        let Relay { frame, original } = Relay::new(&who(1), RoomId(3), signal);
        let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        let sender = json!({"id": 1, "username": "user1"});
        let inner = json!({"message_type": "webrtc_signal", "sdp": "v=0", "x": [1.5, null]});
        assert_eq!(
            read(&frame),
            json!({"type": "webrtc_signal", "room": 3, "sender": sender, "signal": inner})
        );
        assert_eq!(
            read(&original),
            json!({"message_type": "webrtc_signal", "sdp": "v=0", "x": [1.5, null], "sender": sender, "room": 3})
        );
    }
}
