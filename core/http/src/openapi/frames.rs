//! The AsyncAPI 3 document of the sockets. `CHAT.md` explains what each frame means; here are their shapes.
//!
//! Every frame that the gateway sends in a journey is held against it (`tests/src/spec.rs`). Actions are the gateway's:
//! it sends what clients receive.

use chelseru_config::Server;
use chelseru_domain::chat::KINDS;
use serde_json::{Map, Value, json};

use super::shape::{list, maybe, message_kind, object, or_null, reference, text, time, truth, whole};
use crate::files;

/// The document of a gateway with this configuration.
pub fn asyncapi(server: &Server) -> Value {
    let (mut messages, mut all, mut room) = (Map::new(), Map::new(), Map::new());
    for (sent, frames) in [(true, sent()), (true, sent_of_rooms()), (false, received())] {
        for (name, rooms_too, summary, fields) in frames {
            // A client and the gateway may both send a `read`.
            let key = if sent { name.to_owned() } else { format!("client.{name}") };
            let mut payload = object(fields);
            if name == "webrtc_signal" && !sent {
                // Its keys are the client's own; on `/ws/` its type is publish.
                payload["additionalProperties"] = true.into();
            } else {
                payload["properties"]["type"] = json!({"const": name});
            }
            // On a room's socket `publish` needs no type.
            if sent {
                payload["required"]
                    .as_array_mut()
                    .into_iter()
                    .for_each(|required| required.push("type".into()));
            }
            let of = json!({"$ref": format!("#/components/messages/{key}")});
            if rooms_too {
                room.insert(key.clone(), of.clone());
            }
            all.insert(key.clone(), of);
            messages.insert(
                key,
                json!({"name": name, "summary": summary, "contentType": "application/json", "payload": payload}),
            );
        }
    }
    let operations: Map<String, Value> = [("all", &all), ("room", &room)]
        .into_iter()
        .flat_map(|(channel, messages)| {
            [("send", true), ("receive", false)].map(|(action, sent)| {
                let own = messages.keys().filter(|key| key.starts_with("client.") != sent);
                let own = own.map(|key| json!({"$ref": format!("#/channels/{channel}/messages/{key}")}));
                let operation = json!({
                    "action": action,
                    "channel": {"$ref": format!("#/channels/{channel}")},
                    "messages": own.collect::<Vec<_>>(),
                });
                (format!("{channel}_{action}"), operation)
            })
        })
        .collect();
    let base = &server.base_path;
    let (protocol, host) = match server.public_url.split_once("://") {
        Some(("https", host)) => ("wss", host),
        Some((_, host)) => ("ws", host),
        None => ("ws", "localhost:8000"),
    };
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "chelseru chat",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT"},
            "description": "Chat over WebSocket. The first frame of a page is `auth`; programs may send Authorization \
                with the handshake. Order, resume, limits and close codes: core/gateway/CHAT.md.",
        },
        "defaultContentType": "application/json",
        "servers": {"gateway": {"host": host, "protocol": protocol}},
        "channels": {
            "all": {"address": format!("{base}/ws/"), "title": "All rooms of a user", "messages": all},
            "room": {
                "address": format!("{base}/chat/{{room}}/"),
                "title": "One room",
                "description": "Clients that ask for no more (events=1, since, or the subprotocol chelseru) receive \
                    chat_message without the keys behind created_at, webrtc signals as they were sent, and errors.",
                "parameters": {"room": {"description": "The room's id."}},
                "messages": room,
            },
        },
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas()},
    })
}

/// Name, whether a room's socket has it too, meaning, fields besides `type`.
type Frame = (&'static str, bool, &'static str, Value);

/// A client's own reference, which its answer repeats.
fn its_reference() -> Value {
    json!({"type": ["string", "number"]})
}

fn schemas() -> Value {
    let mut schemas = files::shapes::shapes();
    let user = object(json!({
        "id": whole(), "username": text(),
        "avatar?": {"type": "string", "description": "The path of the picture; missing without one."},
    }));
    schemas["User"] = user;
    json!({"User": schemas["User"], "FileFacts": schemas["FileFacts"], "Thumbnail": schemas["Thumbnail"]})
}

/// The frame's fields and those that name the client's frame.
fn answer(mut fields: Value) -> Value {
    fields["ref?"] = its_reference();
    fields["client_id?"] = text();
    fields["room?"] = whole();
    fields
}

/// The original's keys of a message.
fn message() -> Value {
    let coordinate = || json!({"type": ["number", "string", "null"]});
    json!({
        "id": whole(), "message": {"description": "A text, or the JSON that was sent in its place."},
        "message_type": message_kind(), "file_url": maybe("string"), "lat": coordinate(),
        "lng": coordinate(), "sender": reference("User"), "created_at": time(),
        "file?": reference("FileFacts"),
    })
}

fn posted() -> Value {
    let mut fields = message();
    for (name, shape) in
        [("room?", whole()), ("seq?", whole()), ("client_id?", text()), ("edited_at?", time())]
    {
        fields[name] = shape;
    }
    fields
}

fn edited() -> Value {
    let mut fields = message();
    for (name, shape) in [("room", whole()), ("seq", whole()), ("revision?", whole()), ("edited_at", time())]
    {
        fields[name] = shape;
    }
    fields
}

/// What the gateway sends about messages and sockets.
fn sent() -> Vec<Frame> {
    let user = || reference("User");
    let position = || json!({"room": whole(), "user": whole(), "seq": whole()});
    let rooms =
        list(object(json!({"room": whole(), "seq": whole(), "revision": whole(), "unread": whole()})));
    let hello = json!({"user": user(), "heartbeat_seconds": whole(), "rooms": rooms});
    let subscribed =
        json!({"seq": whole(), "revision": whole(), "online": list(whole()), "presence_paused": truth()});
    let ack = json!({
        "seq": whole(), "id?": whole(), "created_at?": time(), "duplicate?": truth(), "revision?": whole(),
    });
    vec![
        ("hello", false, "The first frame: who is logged in, and where each room stands.", hello),
        ("authenticated", true, "The token is accepted, until then.", answer(json!({"expires_at": time()}))),
        ("subscribed", true, "The room is watched from here.", answer(subscribed)),
        ("unsubscribed", true, "The room is watched no more.", answer(json!({"code": text()}))),
        (
            "reset",
            true,
            "Too much was missed: load the room by request.",
            json!({"room": whole(), "seq": whole(), "revision": whole()}),
        ),
        ("chat_message", true, "A message.", posted()),
        ("message_edited", true, "A message as it is now.", edited()),
        (
            "message_deleted",
            true,
            "A message is gone.",
            json!({"id": whole(), "room": whole(), "seq": whole(), "revision?": whole()}),
        ),
        ("ack", true, "The client's frame was carried out.", answer(ack)),
        ("error", true, "The client's frame was refused.", answer(json!({"code": text(), "detail": text()}))),
        ("read", true, "A member has read up to a number.", position()),
        ("delivered", true, "A member's device has a message.", position()),
        (
            "typing",
            true,
            "A member types, or stopped.",
            json!({"room": whole(), "user": user(), "typing": truth()}),
        ),
        (
            "presence",
            true,
            "A member came or went.",
            json!({"room": whole(), "user": user(), "online": truth()}),
        ),
        ("presence_paused", true, "Show nobody as online.", json!({"room": whole()})),
        ("presence_resumed", true, "Who is online.", json!({"room": whole(), "online": list(whole())})),
        (
            "webrtc_signal",
            true,
            "A signal of another member.",
            json!({"room": whole(), "sender": user(), "signal": {"type": "object"}}),
        ),
        ("pong", true, "Answers ping.", answer(json!({}))),
    ]
}

/// What the gateway sends about rooms and their members.
fn sent_of_rooms() -> Vec<Frame> {
    let membership = || json!({"room": whole(), "user": whole(), "code?": text()});
    let updated = json!({
        "room": whole(), "name": maybe("string"), "descriptions": maybe("string"), "status": {"enum": ["1", "2", "3"]},
        "by": whole(), "avatar_file?": or_null(reference("FileFacts")),
    });
    let asked = json!({"room": whole(), "name": maybe("string"), "is_group": truth(), "by": whole()});
    let coded = || json!({"room": whole(), "code": text()});
    vec![
        ("room_updated", true, "Name, description, status or avatar changed.", updated),
        (
            "rights",
            true,
            "The receiver's rights changed.",
            json!({"room": whole(), "user": whole(), "access": list(whole())}),
        ),
        ("member_added", true, "A user is a member.", membership()),
        ("member_removed", true, "A user is no member.", membership()),
        ("room_added", false, "The user is in a room.", json!({"room": whole(), "name": maybe("string")})),
        ("room_removed", false, "The user is not in the room, or hid it.", coded()),
        ("request_added", false, "A room waits for the user's acceptance.", asked),
        ("request_removed", false, "The user declined.", json!({"room": whole()})),
        (
            "unread",
            false,
            "A room that is not watched has messages.",
            json!({"room": whole(), "unread": whole(), "seq": whole()}),
        ),
    ]
}

/// A client's frame with what each may have: its type, its room and its own reference.
///
/// Not a closure in [`received`]: from that rustc 1.95.0 made a program that ends in the last of the frames, at level 2
/// and above. It is no more than this file, so safe code alone.
fn asked(mut fields: Value) -> Value {
    for (name, shape) in [("type?", text()), ("room?", whole()), ("ref?", its_reference())] {
        fields[name] = shape;
    }
    fields
}

/// What clients send. On `/ws/` each frame but `auth` and `ping` names its room.
fn received() -> Vec<Frame> {
    let one = || json!({"seq?": whole(), "id?": whole()});
    let place = object(json!({"room": whole(), "since?": whole(), "revision?": whole()}));
    let published = json!({
        "message?": {}, "message_type?": {"enum": KINDS}, "attach_id?": whole(), "lat?": {}, "lng?": {}, "client_id?": text(),
    });
    let signal = json!({
        "message_type": {"const": "webrtc_signal"}, "type?": text(), "room?": whole(), "ref?": its_reference(),
    });
    let mut changed = one();
    changed["message"] = text();
    vec![
        (
            "auth",
            true,
            "A token: the first frame of a page, and a newer one in time.",
            asked(json!({"token": text()})),
        ),
        (
            "subscribe",
            false,
            "Watches a room, or up to 1000, from a position on.",
            asked(json!({"since?": whole(), "revision?": whole(), "rooms?": list(place)})),
        ),
        ("unsubscribe", false, "Watches a room no more.", asked(json!({}))),
        ("publish", true, "Sends a message, once for each client_id.", asked(published)),
        (
            "webrtc_signal",
            true,
            "A signal to the other members: `message_type` is webrtc_signal, and the other keys are the signal.",
            signal,
        ),
        ("typing", true, "The user types, or stopped.", asked(json!({"typing": truth()}))),
        ("delivered", true, "The device has a message.", asked(one())),
        ("read", true, "The user has read up to a message.", asked(one())),
        ("edit", true, "Changes a message of the user.", asked(changed)),
        ("delete", true, "Deletes a message.", asked(one())),
        ("ping", true, "Asks for pong.", asked(json!({}))),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_frame_is_told_once_and_every_reference_leads_somewhere() {
        let server = Server { public_url: "https://chat.example".to_owned(), ..Server::default() };
        let document = asyncapi(&server);
        assert_eq!(document["servers"]["gateway"], json!({"host": "chat.example", "protocol": "wss"}));
        let messages = document["components"]["messages"].as_object().expect("messages");
        let told: BTreeSet<&str> =
            messages.keys().map(String::as_str).filter(|key| !key.starts_with("client.")).collect();
        assert_eq!(told, BTreeSet::from(chelseru_sockets::TYPES));
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(&format!("/{reference}")).is_some(), "{reference}");
        }
        let page = include_str!("../../../gateway/CHAT.md");
        for message in messages.values() {
            let name = message["name"].as_str().expect("a name");
            assert!(page.contains(&format!("`{name}`")), "CHAT.md does not tell {name}");
        }
    }
}
