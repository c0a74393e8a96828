//! Client requests on sockets, parsed from text frames.
//!
//! A socket of the original's form accepts messages, signals and tokens only, whatever other keys a frame has. Others
//! name their request in `type`. Nothing here reads the store; rights are checked when a request is carried out.

use chelseru_domain::chat::{FileId, MessageBody, RoomId, SEQ_MAX, message_of};
use serde_json::{Map, Value};

use crate::frames::{self, About};
use crate::open::{Form, Opened, Since, seen};

/// Bytes of a client's own reference, as JSON.
const REFERENCE_BYTES_MAX: usize = 64;

#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    /// A token: the first one, or a newer one.
    Auth(String),
    Subscribe(Option<Since>),
    Unsubscribe,
    Post {
        body: MessageBody,
        file: Option<FileId>,
        client_id: Option<String>,
    },
    /// Relayed, not stored: the object without what only the gateway says ([`signal`]).
    Signal(Map<String, Value>),
    Typing(bool),
    Delivered(u64),
    Read(u64),
    Edit {
        seq: u64,
        text: String,
    },
    Delete(u64),
    Ping,
}

#[derive(Debug)]
pub(crate) struct Parsed {
    pub about: About,
    pub request: Request,
}

/// A frame that is no known request.
#[derive(Debug)]
pub(crate) struct Refused {
    pub about: About,
    pub code: &'static str,
    pub detail: String,
}

/// Reads a text frame.
pub(crate) fn parse(text: &str, opened: Opened) -> Result<Parsed, Refused> {
    let mut about = About { room: opened.room, ..About::default() };
    let refuse = |about: &About, code, detail: String| Err(Refused { about: about.clone(), code, detail });
    let mut object = match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return refuse(&about, "not_an_object", "A frame must be a JSON object.".into()),
        Err(error) => return refuse(&about, "invalid_json", format!("JSON parse error - {error}")),
    };
    if opened.form == Form::Extended {
        about.reference = object.remove("ref").filter(|reference| {
            !reference.is_object()
                && !reference.is_array()
                && reference.to_string().len() <= REFERENCE_BYTES_MAX
        });
    }
    if let Some(Value::String(id)) = object.get("client_id") {
        about.client_id = Some(id.chars().take(64).collect());
    }
    match read(&mut object, opened, &mut about) {
        Ok(request) => Ok(Parsed { about, request }),
        Err((code, detail)) => refuse(&about, code, detail),
    }
}

type Fault = (&'static str, String);

fn read(object: &mut Map<String, Value>, opened: Opened, about: &mut About) -> Result<Request, Fault> {
    let kind = match (opened.form, object.get("type")) {
        // The original has no such frame. Published, it would be an empty message of a client that renews its token.
        (Form::Original, Some(Value::String(kind))) if kind == "auth" && !is_signal(object) => "auth",
        (Form::Original, _) => "publish",
        (Form::Extended, Some(Value::String(kind))) => &kind.clone(),
        (Form::Extended, None | Some(Value::Null)) if opened.room.is_some() => "publish",
        _ => return invalid("type", "This field is required."),
    };
    if about.room.is_none() && !matches!(kind, "auth" | "ping") {
        let room = match object.get("room") {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(digits)) => digits.parse().ok(),
            None | Some(Value::Null) => return invalid("room", "This field is required."),
            Some(_) => None,
        };
        let Some(room) = room else { return invalid("room", "A valid integer is required.") };
        about.room = Some(RoomId(room));
    }
    Ok(match kind {
        "publish" if is_signal(object) => signal(std::mem::take(object), opened.form)?,
        "publish" => post(object)?,
        "subscribe" => Request::Subscribe(since(object)?),
        "unsubscribe" => Request::Unsubscribe,
        "auth" => match object.get("token") {
            Some(Value::String(token)) => Request::Auth(token.clone()),
            _ => return invalid("token", "This field is required."),
        },
        "typing" => match object.get("typing") {
            None => Request::Typing(true),
            Some(Value::Bool(typing)) => Request::Typing(*typing),
            Some(_) => return invalid("typing", "Must be a valid boolean."),
        },
        "delivered" => Request::Delivered(number(object, about)?),
        "read" => Request::Read(number(object, about)?),
        "edit" => {
            let seq = number(object, about)?;
            match object.remove("message") {
                Some(Value::String(text)) => Request::Edit { seq, text },
                _ => return invalid("message", "Not a valid string."),
            }
        }
        "delete" => Request::Delete(number(object, about)?),
        "ping" => Request::Ping,
        other => {
            let other: String = other.chars().take(45).collect();
            return Err(("unknown_type", format!("Unknown type {other:?}.")));
        }
    })
}

fn is_signal(object: &Map<String, Value>) -> bool {
    object.get("message_type").and_then(Value::as_str) == Some("webrtc_signal")
}

/// A signal of a call, without the keys that the gateway sets or that a message has. A top-level `type` that names a
/// frame of the gateway would let a member forge that frame at the original's clients, who get the object itself.
fn signal(mut object: Map<String, Value>, form: Form) -> Result<Request, Fault> {
    for key in ["id", "created_at", "sender", "room"] {
        object.remove(key);
    }
    if form == Form::Extended {
        // It names the request.
        object.remove("type");
    }
    match object.get("type") {
        Some(Value::String(kind)) if frames::TYPES.contains(&kind.as_str()) => {
            invalid("type", "This name is the gateway's; a signal has another, such as offer.")
        }
        _ => Ok(Request::Signal(object)),
    }
}

fn post(object: &mut Map<String, Value>) -> Result<Request, Fault> {
    let (text, raw) = match object.remove("message") {
        None => (String::new(), false),
        Some(Value::String(text)) => (text, false),
        Some(Value::Null) => return invalid("message", "This field may not be null."),
        // The original relays any JSON value.
        Some(other) => (other.to_string(), true),
    };
    let kind = match object.remove("message_type") {
        None => "text".to_owned(),
        Some(Value::String(kind)) => kind,
        Some(_) => return invalid("message_type", "Not a valid string."),
    };
    let mut coordinate = |key: &'static str| match object.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value @ (Value::Number(_) | Value::String(_))) => Ok(Some(value.to_string())),
        Some(_) => invalid(key, "A valid number is required."),
    };
    let (lat, lng) = (coordinate("lat")?, coordinate("lng")?);
    let file = match object.remove("attach_id") {
        None | Some(Value::Null) => None,
        Some(Value::Number(number)) if number.is_u64() => number.as_u64().map(FileId),
        Some(Value::String(digits)) if digits.parse::<u64>().is_ok() => digits.parse().ok().map(FileId),
        Some(_) => return invalid("attach_id", "A valid integer is required."),
    };
    let client_id = match object.remove("client_id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id),
        Some(_) => return invalid("client_id", "Not a valid string."),
    };
    Ok(Request::Post { body: MessageBody { kind, text, raw, lat, lng }, file, client_id })
}

/// The number of a message in its room, by `seq` or by `id`.
fn number(object: &Map<String, Value>, about: &About) -> Result<u64, Fault> {
    match (object.get("seq"), object.get("id")) {
        (Some(Value::Number(seq)), _) if seq.as_u64().is_some_and(|seq| seq <= SEQ_MAX) => {
            Ok(seq.as_u64().unwrap_or(0))
        }
        (None, Some(Value::Number(id))) if id.is_u64() => {
            let (room, seq) = message_of(id.as_u64().unwrap_or(0));
            if Some(room) == about.room { Ok(seq) } else { invalid("id", "Not a message of this room.") }
        }
        (Some(_), _) => invalid("seq", "A valid integer is required."),
        (None, Some(_)) => invalid("id", "A valid integer is required."),
        (None, None) => invalid("id", "This field is required."),
    }
}

fn since(object: &Map<String, Value>) -> Result<Option<Since>, Fault> {
    let number = |key: &'static str| match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(number)),
            None => invalid(key, "A valid integer is required."),
        },
    };
    Ok(number("since")?.map(seen).map(|seq| Since { seq, revision: number("revision").ok().flatten() }))
}

fn invalid<T>(field: &'static str, reason: &str) -> Result<T, Fault> {
    Err(("invalid_fields", format!("{field}: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::Until;

    const ROOM: Opened =
        Opened { room: Some(RoomId(3)), form: Form::Extended, since: None, until: Until::TokenExpires };
    const ORIGINAL: Opened = Opened { form: Form::Original, until: Until::SessionEnds, ..ROOM };
    const ALL: Opened = Opened { room: None, ..ROOM };

    fn code(text: &str, opened: Opened) -> &'static str {
        parse(text, opened).map_or_else(|refused| refused.code, |parsed| panic!("accepted: {parsed:?}"))
    }

    fn request(text: &str, opened: Opened) -> Request {
        parse(text, opened).unwrap_or_else(|refused| panic!("{refused:?}")).request
    }

    #[test]
    fn the_originals_frames_are_messages_whatever_else_they_say() {
        let text = |text: &str, raw| MessageBody {
            kind: "text".into(),
            text: text.into(),
            raw,
            ..MessageBody::default()
        };
        for (frame, body) in [
            ("{}", text("", false)),
            (r#"{"message":"x","type":"delete","extra":1}"#, text("x", false)),
            (r#"{"message":42}"#, text("42", true)),
            (r#"{"message":{"a":[1]}}"#, text(r#"{"a":[1]}"#, true)),
        ] {
            assert_eq!(
                request(frame, ORIGINAL),
                Request::Post { body, file: None, client_id: None },
                "{frame}"
            );
        }
        let Request::Post { body, .. } =
            request(r#"{"message_type":"location","lat":"35.1","lng":51}"#, ORIGINAL)
        else {
            panic!("a message")
        };
        assert_eq!((body.lat.as_deref(), body.lng.as_deref()), (Some("\"35.1\""), Some("51")));
        assert!(matches!(request(r#"{"message_type":"webrtc_signal","a":1}"#, ORIGINAL), Request::Signal(_)));
    }

    #[test]
    fn a_token_is_no_message_of_the_originals() {
        let token = |text: &str| request(text, ORIGINAL);
        assert_eq!(token(r#"{"type":"auth","token":"t"}"#), Request::Auth("t".into()));
        assert_eq!(token(r#"{"type":"auth","token":"t","message":"x"}"#), Request::Auth("t".into()));
        assert_eq!(code(r#"{"type":"auth"}"#, ORIGINAL), "invalid_fields");
        let signal = r#"{"type":"auth","message_type":"webrtc_signal"}"#;
        assert!(matches!(request(signal, ORIGINAL), Request::Signal(_)));
    }

    #[test]
    fn broken_frames_are_refused_by_name() {
        for (text, expected) in [
            ("not json", "invalid_json"),
            ("", "invalid_json"),
            ("[1,2]", "not_an_object"),
            ("null", "not_an_object"),
            (r#"{"message":null}"#, "invalid_fields"),
            (r#"{"lat":[]}"#, "invalid_fields"),
            (r#"{"attach_id":"x"}"#, "invalid_fields"),
        ] {
            assert_eq!(code(text, ORIGINAL), expected, "{text}");
        }
        assert_eq!(code(&format!("{}1{}", "[".repeat(200), "]".repeat(200)), ORIGINAL), "invalid_json");
        assert_eq!(code(r#"{"type":"dance"}"#, ROOM), "unknown_type");
        assert_eq!(code(r#"{"message":"x"}"#, ALL), "invalid_fields");
        assert_eq!(code(r#"{"type":"publish"}"#, ALL), "invalid_fields");
        assert_eq!(code(r#"{"type":"read","room":2,"id":1}"#, ALL), "invalid_fields");
    }

    #[test]
    fn a_signal_cannot_look_like_a_frame_of_the_gateway() {
        for kind in frames::TYPES {
            let text = format!(r#"{{"message_type":"webrtc_signal","type":"{kind}","message":"x"}}"#);
            assert_eq!(code(&text, ORIGINAL), "invalid_fields", "{kind}");
            // Of two keys the last one counts, and it alone goes on.
            let twice = text.replace(r#""type""#, r#""type":"offer","type""#);
            assert_eq!(code(&twice, ORIGINAL), "invalid_fields", "{kind}");
        }
        for kind in ["offer", "answer", "candidate", "Chat_Message", "chat_message "] {
            let text = format!(
                r#"{{"message_type":"webrtc_signal","type":"{kind}","sdp":{{"id":1,"type":"chat_message"}},"id":7,
                "created_at":"now","sender":{{"id":9}},"room":9,"x":[1.5,null]}}"#
            );
            let Request::Signal(object) = request(&text, ORIGINAL) else { panic!("a signal") };
            let expected = serde_json::json!({
                "message_type": "webrtc_signal", "type": kind, "sdp": {"id": 1, "type": "chat_message"},
                "x": [1.5, null],
            });
            assert_eq!(Value::Object(object), expected);
        }
        let extended = r#"{"type":"publish","message_type":"webrtc_signal","room":3,"a":1}"#;
        let Request::Signal(object) = request(extended, ALL) else { panic!("a signal") };
        assert_eq!(Value::Object(object), serde_json::json!({"message_type": "webrtc_signal", "a": 1}));
    }

    /// The list that signals are held against has every frame that this crate sends.
    #[test]
    fn every_frame_of_the_gateway_is_in_the_list_of_types() {
        let sources = [
            include_str!("frames.rs"),
            include_str!("act.rs"),
            include_str!("subscribe.rs"),
            include_str!("publish.rs"),
            include_str!("watch.rs"),
            include_str!("hub.rs"),
            include_str!("rooms.rs"),
        ];
        let mut found = 0;
        for source in sources {
            for rest in source.replace("\\\"", "\"").split("\"type\":").skip(1) {
                let Some(name) = rest.trim_start().strip_prefix('"') else { continue };
                let name = name.split('"').next().unwrap_or_default();
                assert!(frames::TYPES.contains(&name), "{name} is missing");
                found += 1;
            }
        }
        assert!(found > 15, "{found}");
    }

    #[test]
    fn a_message_is_named_by_number_or_id() {
        let id = chelseru_domain::chat::message_id(RoomId(3), 9);
        assert_eq!(request(r#"{"type":"read","seq":9}"#, ROOM), Request::Read(9));
        assert_eq!(request(&format!(r#"{{"type":"delete","id":{id}}}"#), ROOM), Request::Delete(9));
        let since = Request::Subscribe(Some(Since { seq: 9, revision: Some(2) }));
        assert_eq!(
            request(&format!(r#"{{"type":"subscribe","room":3,"since":{id},"revision":2}}"#), ALL),
            since
        );
    }
}
