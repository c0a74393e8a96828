//! Every frame that the gateway sends on sockets, as JSON in a text frame.
//!
//! A message has two forms. The original's clients get exactly its keys in its order; the others get the same
//! keys and a few more behind them. `CHAT.md` lists all of it.

use std::io::Write;

use bytes::Bytes;
use chelseru_domain::chat::{
    Face, Message, MessageView, RoomId, RoomStatus, StoredFile, Thumbnail, message_id,
};
use chelseru_domain::clock::{Timestamp, rest_format};
use chelseru_domain::ids::UserId;
use chelseru_domain::text::name_as_seen;
use serde::Serialize;
use serde_json::{Value, json};

use crate::codec::{Opcode, put_frame};
use crate::open::Form;

/// The `type` of every frame that the gateway sends.
pub const TYPES: [&str; 27] = [
    "ack",
    "authenticated",
    "chat_message",
    "delivered",
    "error",
    "hello",
    "member_added",
    "member_removed",
    "message_deleted",
    "message_edited",
    "pong",
    "presence",
    "presence_paused",
    "presence_resumed",
    "read",
    "request_added",
    "request_removed",
    "reset",
    "rights",
    "room_added",
    "room_removed",
    "room_updated",
    "subscribed",
    "typing",
    "unread",
    "unsubscribed",
    "webrtc_signal",
];

/// Encodes one frame.
pub(crate) fn frame(value: &Value) -> Bytes {
    let mut out = Vec::with_capacity(128);
    put_frame(&mut out, Opcode::Text, |out| put(out, value));
    out.into()
}

/// Appends a stored message.
pub(crate) fn put_message(out: &mut Vec<u8>, view: &MessageView, form: Form) {
    if view.message.deleted {
        // In a resume: the message of this number was deleted.
        return if form == Form::Extended {
            put_edit(out, view, 0)
        };
    }
    put_frame(out, Opcode::Text, |out| {
        out.extend_from_slice(br#"{"type":"chat_message","#);
        put_body(out, view, form);
        if form == Form::Extended {
            let Message { room, seq, client_id, edited_at, .. } = &view.message;
            let _ = write!(out, r#","room":{},"seq":{seq}"#, room.0);
            if let Some(id) = client_id {
                out.extend_from_slice(br#","client_id":"#);
                put(out, id);
            }
            if let Some(at) = edited_at {
                let _ = write!(out, r#","edited_at":"{}""#, instant(*at));
            }
            put_file(out, view);
        }
        out.push(b'}');
    });
}

/// Appends an edit or a deletion. Revision 0 leaves the revision out.
pub(crate) fn put_edit(out: &mut Vec<u8>, view: &MessageView, revision: u64) {
    let message = &view.message;
    put_frame(out, Opcode::Text, |out| {
        if message.deleted {
            let id = message_id(message.room, message.seq);
            let _ = write!(out, r#"{{"type":"message_deleted","id":{id}"#);
        } else {
            out.extend_from_slice(br#"{"type":"message_edited","#);
            put_body(out, view, Form::Extended);
            let at = message.edited_at.unwrap_or(message.created_at);
            let _ = write!(out, r#","edited_at":"{}""#, instant(at));
            put_file(out, view);
        }
        let _ = write!(out, r#","room":{},"seq":{}"#, message.room.0, message.seq);
        if revision > 0 {
            let _ = write!(out, r#","revision":{revision}"#);
        }
        out.push(b'}');
    });
}

/// Appends the original's keys of a message, in its order, without the braces. The extended form has the sender's
/// picture behind the name.
fn put_body(out: &mut Vec<u8>, view: &MessageView, form: Form) {
    let Message { room, seq, sender, body, file_name, created_at, .. } = &view.message;
    let _ = write!(out, r#""id":{},"message":"#, message_id(*room, *seq));
    // A value that was sent in the place of a text is JSON already.
    if body.raw {
        out.extend_from_slice(body.text.as_bytes())
    } else {
        put(out, &body.text)
    }
    out.extend_from_slice(br#","message_type":"#);
    put(out, &body.kind);
    out.extend_from_slice(br#","file_url":"#);
    put(out, file_name);
    for (key, value) in [("lat", &body.lat), ("lng", &body.lng)] {
        let _ = write!(out, r#","{key}":{}"#, value.as_deref().unwrap_or("null"));
    }
    let _ = write!(out, r#","sender":{{"id":{},"username":"#, sender.0);
    put(out, &*view.sender.name);
    if let Some(avatar) = view.sender.avatar.as_deref().filter(|_| form == Form::Extended) {
        out.extend_from_slice(br#","avatar":"#);
        put(out, avatar);
    }
    let _ = write!(out, r#"}},"created_at":"{}""#, instant(*created_at));
}

/// Appends the facts of a message's file. Every receiver gets the same bytes, so its links are plain paths, which
/// `Authorization` opens.
fn put_file(out: &mut Vec<u8>, view: &MessageView) {
    if let Some(file) = &view.file {
        out.extend_from_slice(br#","file":"#);
        put(out, &file_facts(file, &file.path()));
    }
}

/// A file as frames and replies show it, with its link.
#[must_use]
pub fn file_facts(file: &StoredFile, link: &str) -> Value {
    let picture = file.picture;
    let mark = if link.contains('?') { '&' } else { '?' };
    let thumbnail = picture.and_then(|picture| picture.thumbnail).map(|thumbnail| {
        let Thumbnail { bytes, width, height } = thumbnail;
        json!({"link": format!("{link}{mark}thumbnail=1"), "size": bytes, "width": width, "height": height})
    });
    json!({
        "id": file.id.0,
        "name": name_as_seen(&file.title),
        "content_type": file.content_type,
        "size": file.bytes,
        "width": picture.map(|picture| picture.width),
        "height": picture.map(|picture| picture.height),
        "link": link,
        "thumbnail": thumbnail,
    })
}

/// Appends JSON. Texts, numbers and objects of them never fail to encode.
fn put(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let _ = serde_json::to_writer(out, value);
}

/// An instant as the original's sockets write it: `+00:00` where its REST says `Z`.
pub(crate) fn instant(at: Timestamp) -> String {
    let mut text = rest_format(at);
    text.pop();
    text.push_str("+00:00");
    text
}

/// Encodes an error frame.
pub(crate) fn error(code: &str, detail: &str, about: &About) -> Bytes {
    frame(&about.on(json!({"type": "error", "code": code, "detail": detail})))
}

/// Names the client's frame that an answer is about, by the client's own reference.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    pub room: Option<RoomId>,
    pub client_id: Option<String>,
    pub reference: Option<Value>,
}

impl About {
    pub(crate) fn on(&self, mut value: Value) -> Value {
        if let Some(room) = self.room {
            value["room"] = room.0.into();
        }
        if let Some(id) = &self.client_id {
            value["client_id"] = id.as_str().into();
        }
        if let Some(reference) = &self.reference {
            value["ref"] = reference.clone();
        }
        value
    }
}

/// A user, as frames name one: with the path of the picture, if there is one.
pub(crate) fn user(id: UserId, face: &Face) -> Value {
    let mut user = original_user(id, face);
    if let Some(avatar) = &face.avatar {
        user["avatar"] = (&**avatar).into();
    }
    user
}

/// A user, as the original's frames name one.
pub(crate) fn original_user(id: UserId, face: &Face) -> Value {
    json!({"id": id.0, "username": &*face.name})
}

/// The original's numbers of a room's status.
pub(crate) fn status_number(status: RoomStatus) -> u8 {
    match status {
        RoomStatus::Open => 1,
        RoomStatus::Closed => 2,
        RoomStatus::Hold => 3,
    }
}
