//! Carrying out what clients ask on sockets: the edge between frames and the chat service.
//!
//! Every right is the service's to judge, in the change itself; nothing here decides one. What a refusal is called
//! in an error frame is said in one place, [`failure`].

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use chelseru_domain::chat::{
    Action, ChatError, Denied, MessageBody, MessageEdit, Post, Posted, RoomId, RoomRequest, RoomStatus,
    message_id,
};
use chelseru_domain::clock::Timestamp;
use chelseru_domain::token::TokenError;
use serde_json::{Map, Value, json};

use super::close::Close;
use super::hub::{CatchUp, NoPlace};
use super::json::{self, About, Form, instant};
use super::peer::{Peer, Who};
use super::request::{Parsed, Request, Since};
use super::socket::Place;
use crate::app::App;

/// What goes on after its first step.
type Change = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Does what a frame asks. What needs the store beyond a look is a change that the caller goes on with.
pub(super) fn act(place: &Place, parsed: Parsed, text: &str) -> Option<Change> {
    let Parsed { about, request } = parsed;
    let (app, peer) = (&place.app, &place.peer);
    let Some(who) = peer.who() else {
        return match request {
            Request::Auth(token) => Some(Box::pin(first_token(app.clone(), peer.clone(), token, about))),
            _ => {
                peer.push(json::error("not_authenticated", "The first frame must bring a token.", &about), 1);
                peer.close(Close::UNAUTHORIZED);
                None
            }
        };
    };
    // A request without a room is one that needs none.
    let room = about.room.unwrap_or(RoomId(0));
    match request {
        Request::Post { body, file, client_id } => {
            let post = Post { room, sender: who.user, sender_name: who.name, body, file, client_id };
            post_message(app, peer, post, about);
            None
        }
        Request::Signal(signal) => {
            relay_signal(app, peer, &who, room, signal, text, &about);
            None
        }
        Request::Typing(typing) => {
            let frame = json!({"type": "typing", "room": room.0, "user": user(&who), "typing": typing});
            relay(app, peer, &who, room, Action::Post, &frame, &about);
            None
        }
        Request::Delivered(seq) => {
            let frame = json!({"type": "delivered", "room": room.0, "user": who.user.0, "seq": seq});
            relay(app, peer, &who, room, Action::See, &frame, &about);
            None
        }
        Request::Ping => {
            peer.push(json::frame(&about.on(json!({"type": "pong"}))), 1);
            None
        }
        Request::Auth(token) => {
            renew(app, peer, &who, &token, &about);
            None
        }
        Request::Unsubscribe => {
            if peer.opened.room.is_some() {
                let detail = "A room's socket is closed to leave its room.";
                peer.push(json::error("not_for_this_socket", detail, &about), 1);
            } else {
                app.hub.unwatch(room, peer);
                let frame = json!({"type": "unsubscribed", "code": "unsubscribed"});
                peer.push(json::frame(&about.on(frame)), 1);
            }
            None
        }
        Request::Subscribe(since) => {
            if peer.opened.room.is_some() {
                let detail = "A room's socket is subscribed to its room.";
                peer.push(json::error("not_for_this_socket", detail, &about), 1);
                return None;
            }
            let (app, peer) = (app.clone(), peer.clone());
            Some(Box::pin(async move {
                if let Err(error) = subscribe(&app, &peer, &who, room, since, &about).await {
                    refuse(&peer, &error, &about);
                }
            }))
        }
        Request::Read(seq) => {
            let (app, peer) = (app.clone(), peer.clone());
            Some(Box::pin(async move {
                let read = app.chat.room_change(room, who.user, RoomRequest::Read(seq)).await;
                answer(
                    &peer,
                    &about,
                    read.map(|changed| {
                        let read = changed.actor.map_or(0, |member| member.read_seq);
                        json!({"type": "ack", "seq": read})
                    }),
                );
            }))
        }
        Request::Edit { seq, text } => {
            let edit = match app.chat.message(room, seq, who.user) {
                Ok(message) => {
                    // The text is what is edited; kind and place stay.
                    MessageEdit::Body(MessageBody { text, raw: false, ..message.body })
                }
                Err(error) => {
                    refuse(peer, &error, &about);
                    return None;
                }
            };
            Some(Box::pin(change_message(app.clone(), peer.clone(), who, (room, seq), edit, about)))
        }
        Request::Delete(seq) => {
            let edit = MessageEdit::Delete;
            Some(Box::pin(change_message(app.clone(), peer.clone(), who, (room, seq), edit, about)))
        }
    }
}

/// What a socket gets when its holder is known: its room, or the list of all.
///
/// # Errors
///
/// Why there is no such socket.
pub(crate) async fn start(app: &Arc<App>, peer: &Arc<Peer>, who: &Who) -> Result<(), ChatError> {
    match peer.opened.room {
        Some(room) => {
            subscribe(
                app,
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
            for summary in app.chat.rooms(who.user)? {
                app.hub.follow(summary.room.id, peer, who.user);
                rooms.push(json!({
                    "room": summary.room.id.0,
                    "seq": summary.last_seq,
                    "revision": summary.room.revision,
                    "unread": summary.unread,
                }));
            }
            let hello = json!({
                "type": "hello",
                "user": user(who),
                "heartbeat_seconds": peer.limits.heartbeat_seconds,
                "rooms": rooms,
            });
            peer.push(json::frame(&hello), 1);
            Ok(())
        }
    }
}

/// Watches a room from where the client was, or from now.
async fn subscribe(
    app: &Arc<App>,
    peer: &Arc<Peer>,
    who: &Who,
    room: RoomId,
    since: Option<Since>,
    about: &About,
) -> Result<(), ChatError> {
    if !app.hub.watch(room, peer, who.user) {
        peer.push(json::error("subscribed_already", "This socket watches the room already.", about), 1);
        return Ok(());
    }
    match heads(app, who, room).await {
        Ok(heads) => {
            let max = app.chat.rules().resume_max;
            let from = since.map_or(heads, |since| (since.seq, since.revision.unwrap_or(heads.1)));
            // Who has seen more than there is comes from another past.
            let whole = |from: u64, head: u64| head.checked_sub(from).is_some_and(|gap| gap <= max);
            let reset = !(whole(from.0, heads.0) && whole(from.1, heads.1));
            let extended = peer.opened.form == Form::Extended;
            let admitted = app.hub.admit(room, peer, |online| {
                let online: Vec<u64> = online.iter().map(|user| user.0).collect();
                let told = json!({
                    "type": "subscribed",
                    "seq": heads.0,
                    "revision": heads.1,
                    "online": online,
                });
                extended.then(|| json::frame(&about.on(told)))
            });
            if !admitted {
                // It was removed meanwhile, and told so.
                return Ok(());
            }
            if extended && reset {
                let told = json!({"type": "reset", "room": room.0, "seq": heads.0, "revision": heads.1});
                peer.push(json::frame(&told), 1);
            }
            let (seq, revision) = if reset { heads } else { from };
            peer.push_catch_up(CatchUp { room, seq, revision, heads });
            Ok(())
        }
        Err(error) => {
            app.hub.unwatch(room, peer);
            Err(error)
        }
    }
}

/// The newest number and revision of a room that the user may watch. A closed room takes no watchers.
async fn heads(app: &App, who: &Who, room: RoomId) -> Result<(u64, u64), ChatError> {
    let facts = app.chat.check(room, who.user, Action::See)?;
    if facts.room.status == RoomStatus::Closed {
        return Err(Denied::RoomClosed.into());
    }
    app.chat.heads(room).await
}

fn post_message(app: &Arc<App>, peer: &Arc<Peer>, post: Post, about: About) {
    // The original's clients know no acknowledgement; one that names its messages does.
    let wants_ack = peer.opened.form == Form::Extended || post.client_id.is_some();
    let answered = peer.clone();
    let about_done = about.clone();
    peer.change_begins();
    let posted = app.chat.post(post, move |result| {
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
    json::frame(&about.on(json!({
        "type": "ack",
        "id": message_id(message.room, message.seq),
        "seq": message.seq,
        "created_at": instant(message.created_at),
        "duplicate": posted.duplicate,
    })))
}

async fn change_message(
    app: Arc<App>,
    peer: Arc<Peer>,
    who: Who,
    (room, seq): (RoomId, u64),
    edit: MessageEdit,
    about: About,
) {
    let changed = app.chat.message_change(room, seq, who.user, edit).await;
    let told = changed.map(|(view, revision)| {
        let id = message_id(view.message.room, view.message.seq);
        json!({"type": "ack", "id": id, "seq": seq, "revision": revision})
    });
    answer(&peer, &about, told);
}

/// A signal of a call: to the original's clients the object as it came, to the others with who sent it.
fn relay_signal(
    app: &Arc<App>,
    peer: &Arc<Peer>,
    who: &Who,
    room: RoomId,
    mut signal: Map<String, Value>,
    text: &str,
    about: &About,
) {
    if let Err(error) = app.chat.check(room, who.user, Action::Post) {
        return refuse(peer, &error, about);
    }
    let original = match peer.opened.form {
        Form::Original => super::codec::frame(super::codec::Opcode::Text, text.as_bytes()),
        Form::Extended => {
            signal.remove("type");
            signal.remove("room");
            json::frame(&Value::Object(signal.clone()))
        }
    };
    let frame = json!({"type": "webrtc_signal", "room": room.0, "sender": user(who), "signal": signal});
    app.hub.relay(room, who.user, &json::frame(&frame), Some(&original));
}

/// Shows to others what is not stored.
fn relay(
    app: &Arc<App>,
    peer: &Arc<Peer>,
    who: &Who,
    room: RoomId,
    needs: Action,
    frame: &Value,
    about: &About,
) {
    match app.chat.check(room, who.user, needs) {
        Ok(_) => app.hub.relay(room, who.user, &json::frame(frame), None),
        Err(error) => refuse(peer, &error, about),
    }
}

/// The holder that a token names.
///
/// # Errors
///
/// See [`TokenError`].
pub(crate) fn holder(app: &App, token: &str) -> Result<(Who, Timestamp), TokenError> {
    let live = app.live();
    let caller = live.identity.caller(token)?;
    let expires_at = live.identity.tokens().expires_at(token);
    let name = app.chat.name(caller.user_id);
    Ok((Who { user: caller.user_id, session: caller.session_id, name }, expires_at))
}

async fn first_token(app: Arc<App>, peer: Arc<Peer>, token: String, about: About) {
    let (who, expires_at) = match holder(&app, &token) {
        Ok(holder) => holder,
        Err(error) => {
            peer.push(json::error("token_not_valid", &error.to_string(), &about), 1);
            return peer.close(Close::UNAUTHORIZED);
        }
    };
    if let Err(NoPlace::User | NoPlace::Gateway) = app.hub.identify(&peer, who.clone(), expires_at) {
        return peer.close(Close::TOO_MANY);
    }
    peer.push(json::frame(&authenticated(&about, expires_at)), 1);
    if let Err(error) = start(&app, &peer, &who).await {
        refuse(&peer, &error, &about);
        peer.close(match error {
            ChatError::RoomMissing => Close::ROOM_MISSING,
            ChatError::Denied(_) => Close::FORBIDDEN,
            _ => Close::INTERNAL,
        });
    }
}

/// Lets another token of the same user take over.
fn renew(app: &Arc<App>, peer: &Arc<Peer>, who: &Who, token: &str, about: &About) {
    match holder(app, token) {
        Ok((next, expires_at)) if next.user == who.user => {
            peer.set_who(next, expires_at);
            peer.push(json::frame(&authenticated(about, expires_at)), 1);
        }
        Ok(_) => peer.push(json::error("token_not_valid", "the token is another user's", about), 1),
        Err(error) => peer.push(json::error("token_not_valid", &error.to_string(), about), 1),
    }
}

fn authenticated(about: &About, expires_at: Timestamp) -> Value {
    About { room: None, ..about.clone() }
        .on(json!({"type": "authenticated", "expires_at": instant(expires_at)}))
}

/// The unread counts of rooms, as they are now.
pub(super) fn unread(place: &Place, rooms: &[RoomId]) -> Vec<Bytes> {
    let Some(who) = place.peer.who() else { return Vec::new() };
    let count = |room: &RoomId| {
        let summary = place.app.chat.room(*room, who.user).ok()?;
        Some(json::frame(&json!({
            "type": "unread",
            "room": room.0,
            "unread": summary.unread,
            "seq": summary.last_seq,
        })))
    };
    rooms.iter().filter_map(count).collect()
}

fn user(who: &Who) -> Value {
    json!({"id": who.user.0, "username": &*who.name})
}

fn answer(peer: &Peer, about: &About, result: Result<Value, ChatError>) {
    match result {
        Ok(told) => peer.push(json::frame(&about.on(told)), 1),
        Err(error) => refuse(peer, &error, about),
    }
}

fn refuse(peer: &Peer, error: &ChatError, about: &About) {
    let (code, detail) = failure(error);
    peer.push(json::error(code, &detail, about), 1);
}

/// The word and the text of a refusal. A room is told apart from none only to those who may see it, or were banned.
pub(crate) fn failure(error: &ChatError) -> (&'static str, String) {
    let code = match error {
        ChatError::RoomMissing | ChatError::Denied(Denied::NotMember) => {
            return ("room_missing", "there is no such room".into());
        }
        ChatError::MessageMissing => "message_missing",
        ChatError::UserMissing => "user_missing",
        ChatError::OrganizationMissing => "organization_missing",
        ChatError::OrganizationHasRooms(_) => "organization_has_rooms",
        ChatError::Denied(denied) => match denied {
            Denied::NotMember => "room_missing",
            Denied::Banned => "banned",
            Denied::ReadOnly => "read_only",
            Denied::NoRight => "no_right",
            Denied::RoomClosed => "room_closed",
            Denied::RoomOnHold => "room_on_hold",
            Denied::OwnerProtected => "owner_protected",
            Denied::TargetNotMember => "target_not_member",
            Denied::TargetBanned => "target_banned",
            Denied::TargetMissing => "target_missing",
            Denied::PairRoom => "pair_room",
            Denied::OwnerStays => "owner_stays",
        },
        ChatError::Invalid { .. } => "invalid_fields",
        ChatError::FileUnusable => "file_unusable",
        ChatError::Full(_) => "limit_reached",
        ChatError::Busy => "busy",
        ChatError::Store(error) => {
            tracing::error!(%error, "chat could not use the store");
            return ("internal_error", "an internal error occurred".into());
        }
    };
    (code, error.to_string())
}
