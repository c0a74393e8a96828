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

/// Characters of a client's id that an answer repeats.
const CLIENT_ID_CHARS_MAX: usize = 64;

/// Rooms of one `subscribe`.
pub(crate) const SUBSCRIBE_ROOMS_MAX: usize = 1000;

/// Rooms of one `subscribe` that cost as much as a frame. A client that reconnects must get all its rooms at once by
/// default, when a burst is 100 units: 1000 rooms cost 20, and their frame of at most 128 KiB 33, so 47 are left for
/// its token and for what it has to send.
const ROOMS_PER_UNIT: usize = 50;

#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    /// A token: the first one, or a newer one.
    Auth(String),
    Subscribe(Option<Since>),
    /// Several rooms with one frame.
    SubscribeAll(Vec<(RoomId, Option<Since>)>),
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

impl Request {
    /// What it costs besides its frame, in units of the socket's rate.
    pub(crate) fn units(&self) -> u64 {
        match self {
            Request::SubscribeAll(rooms) => (rooms.len() / ROOMS_PER_UNIT) as u64,
            _ => 0,
        }
    }
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
    let mut object = match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        Ok(_) => {
            let about = About { room: opened.room, ..About::default() };
            let detail = "A frame must be a JSON object.".to_owned();
            return Err(Refused { about, code: "not_an_object", detail });
        }
        Err(error) => {
            let detail = format!("JSON parse error - {error}");
            return Err(Refused { about: about_of(text, opened), code: "invalid_json", detail });
        }
    };
    let mut about = about(&mut object, opened);
    match read(&mut object, text, opened, &mut about) {
        Ok(request) => Ok(Parsed { about, request }),
        Err((code, detail)) => Err(Refused { about, code, detail }),
    }
}

/// What a frame says about itself, as far as it can be read, for an answer to a frame that is not carried out.
pub(crate) fn about_of(text: &str, opened: Opened) -> About {
    let named = ["ref", "client_id", "room"].into_iter();
    let mut found: Map<String, Value> = named
        .filter_map(|key| Some((key.to_owned(), serde_json::from_str(raw_value(text, key)?).ok()?)))
        .collect();
    about(&mut found, opened)
}

fn about(object: &mut Map<String, Value>, opened: Opened) -> About {
    let mut about =
        About { room: opened.room.or_else(|| room_number(object.get("room"))), ..About::default() };
    if opened.form == Form::Extended || is_token(object) {
        about.reference = object.remove("ref").filter(|reference| {
            !reference.is_object()
                && !reference.is_array()
                && reference.to_string().len() <= REFERENCE_BYTES_MAX
        });
    }
    if let Some(Value::String(id)) = object.get("client_id") {
        about.client_id = Some(id.chars().take(CLIENT_ID_CHARS_MAX).collect());
    }
    about
}

fn room_number(value: Option<&Value>) -> Option<RoomId> {
    match value? {
        Value::Number(number) => number.as_u64(),
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    }
    .map(RoomId)
}

/// The JSON of a top-level key's value as it was written; of a key that is there twice, the last one, as in the parser.
/// Text that breaks off later may still have it.
fn raw_value<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    let bytes = text.as_bytes();
    let string_end = |start: usize| {
        let mut at = start + 1;
        loop {
            match bytes.get(at)? {
                b'"' => return Some(at + 1),
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
    };
    let (mut at, mut depth, mut found) = (0, 0_u32, None);
    // Where the value of the wanted key begins.
    let mut begun = None;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let Some(end) = string_end(at) else { break };
                let key = text.get(at..end).filter(|_| depth == 1 && begun.is_none());
                let colon = bytes[end..].iter().position(|byte| !byte.is_ascii_whitespace());
                let colon = colon.map(|skipped| end + skipped).filter(|colon| bytes[*colon] == b':');
                if let (Some(key), Some(colon)) = (key, colon) {
                    let is_wanted = serde_json::from_str::<String>(key).is_ok_and(|key| key == wanted);
                    begun = is_wanted.then_some(colon + 1);
                }
                at = end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 1 => depth -= 1,
            b',' | b'}' if depth == 1 => {
                if let Some(start) = begun.take() {
                    found = text.get(start..at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    found.map(str::trim)
}

type Fault = (&'static str, String);

fn read(
    object: &mut Map<String, Value>,
    text: &str,
    opened: Opened,
    about: &mut About,
) -> Result<Request, Fault> {
    let kind = match (opened.form, object.get("type")) {
        // The original has no such frame. Published, it would be an empty message of a client that renews its token.
        (Form::Original, _) if is_token(object) => "auth",
        (Form::Original, _) => "publish",
        (Form::Extended, Some(Value::String(kind))) => &kind.clone(),
        (Form::Extended, None | Some(Value::Null)) if opened.room.is_some() => "publish",
        _ => return invalid("type", "This field is required."),
    };
    if opened.room.is_none() && kind == "subscribe" && object.contains_key("rooms") {
        return subscribe_all(object);
    }
    if about.room.is_none() && !matches!(kind, "auth" | "ping") {
        let reason = match object.get("room") {
            None | Some(Value::Null) => "This field is required.",
            Some(_) => "A valid integer is required.",
        };
        return invalid("room", reason);
    }
    Ok(match kind {
        "publish" if is_signal(object) => signal(std::mem::take(object), opened.form)?,
        "publish" => post(object, text)?,
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
                Some(Value::String(text)) => Request::Edit { seq, text: trimmed(text) },
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

/// `rooms` of a `subscribe`: `room`, and `since` and `revision` of each.
fn subscribe_all(object: &mut Map<String, Value>) -> Result<Request, Fault> {
    let Some(Value::Array(rooms)) = object.remove("rooms") else {
        return invalid("rooms", "Must be a list.");
    };
    if rooms.len() > SUBSCRIBE_ROOMS_MAX {
        return invalid(
            "rooms",
            &format!("Ensure this field has no more than {SUBSCRIBE_ROOMS_MAX} elements."),
        );
    }
    let one = |room: Value| match room {
        Value::Object(room) => match room_number(room.get("room")) {
            Some(id) => Ok((id, since(&room)?)),
            None => invalid("rooms", "Each element needs a room."),
        },
        _ => invalid("rooms", "Each element must be an object."),
    };
    Ok(Request::SubscribeAll(rooms.into_iter().map(one).collect::<Result<_, Fault>>()?))
}

/// Whether a frame brings a token, and is no signal of a call whose own kind is `auth`.
fn is_token(object: &Map<String, Value>) -> bool {
    object.get("type").and_then(Value::as_str) == Some("auth") && !is_signal(object)
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

fn post(object: &mut Map<String, Value>, frame: &str) -> Result<Request, Fault> {
    let (text, raw) = match object.remove("message") {
        None => (String::new(), false),
        // As by request: the fields of the REST API lose white space around them.
        Some(Value::String(text)) => (trimmed(text), false),
        Some(Value::Null) => return invalid("message", "This field may not be null."),
        // The original relays any JSON value. As it was written, because parsing a number may cost digits.
        Some(other) => (raw_value(frame, "message").map_or_else(|| other.to_string(), str::to_owned), true),
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

fn trimmed(text: String) -> String {
    let inner = text.trim();
    if inner.len() == text.len() { text } else { inner.to_owned() }
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

    const ROOM: Opened = Opened {
        room: Some(RoomId(3)),
        form: Form::Extended,
        since: None,
        until: Until::TokenExpires,
        language: None,
    };
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
    fn an_answer_names_the_frame_as_far_as_it_can_be_read() {
        let about = |text: &str, opened| about_of(text, opened);
        let whole = about(r#"{"type":"publish","room":7,"ref":"a","client_id":"c","message":"#, ALL);
        assert_eq!((whole.room, whole.client_id.as_deref()), (Some(RoomId(7)), Some("c")));
        assert_eq!(whole.reference, Some("a".into()));
        let nested =
            about(r#"{"x":{"room":1},"y":[{"room":2}],"z":"\"room\":3,","ref":5,"room":9, nonsense}"#, ALL);
        assert_eq!((nested.room, nested.reference), (Some(RoomId(9)), Some(5.into())));
        // Broken before it, or in it.
        for text in [
            r#"{"room":"#,
            r#"{"room":7"#,
            r#""room":7,"#,
            r#"{"room":"x","#,
            r#"{"room":{}},"#,
            "",
            "\"\\",
            "}}]",
        ] {
            let found = about(text, ALL);
            assert_eq!((found.room, found.reference, found.client_id), (None, None, None), "{text}");
        }
        assert_eq!(about(r#"{"room":7,"ref":1,"#, ROOM).room, Some(RoomId(3)));
        let refused = parse(r#"{"type":"read","room":7,"ref":"r"}"#, ALL).expect_err("no number");
        assert_eq!((refused.about.room, refused.about.reference), (Some(RoomId(7)), Some("r".into())));
        let refused = parse(r#"{"type":"dance","room":7,"client_id":"c"}"#, ALL).expect_err("unknown");
        assert_eq!((refused.about.room, refused.about.client_id.as_deref()), (Some(RoomId(7)), Some("c")));
    }

    #[test]
    fn a_message_that_is_no_text_keeps_its_digits_and_a_text_loses_its_margins() {
        for (message, text, raw) in [
            ("12345678901234567890123", "12345678901234567890123", true),
            ("1.10", "1.10", true),
            (r#"{"a": 1.50, "b":[1e2]}"#, r#"{"a": 1.50, "b":[1e2]}"#, true),
            ("true", "true", true),
            (r#"" a b\n""#, "a b", false),
            (r#""   ""#, "", false),
        ] {
            let frame = format!(r#"{{"x":{{"message":0}},"message": {message} ,"lat":1}}"#);
            let Request::Post { body, .. } = request(&frame, ORIGINAL) else { panic!("a message") };
            assert_eq!((body.text.as_str(), body.raw), (text, raw), "{message}");
        }
        let Request::Post { body, .. } = request(r#"{"message":1,"message":2}"#, ORIGINAL) else {
            panic!("a message")
        };
        assert_eq!(body.text, "2");
    }

    #[test]
    fn several_rooms_are_subscribed_with_one_frame() {
        let text = r#"{"type":"subscribe","rooms":[{"room":1},{"room":"2","since":5,"revision":1}]}"#;
        let since = Since { seq: 5, revision: Some(1) };
        assert_eq!(
            request(text, ALL),
            Request::SubscribeAll(vec![(RoomId(1), None), (RoomId(2), Some(since))])
        );
        assert_eq!(request(r#"{"type":"subscribe","rooms":[]}"#, ALL), Request::SubscribeAll(vec![]));
        for rooms in ["{}", "[1]", "[{}]", r#"[{"room":-1}]"#, r#"[{"room":1,"since":"x"}]"#] {
            assert_eq!(code(&format!(r#"{{"type":"subscribe","rooms":{rooms}}}"#), ALL), "invalid_fields");
        }
        let many = |count: usize| {
            let rooms: Vec<_> = (1..=count).map(|room| serde_json::json!({"room": room})).collect();
            serde_json::json!({"type": "subscribe", "rooms": rooms}).to_string()
        };
        assert!(parse(&many(SUBSCRIBE_ROOMS_MAX), ALL).is_ok());
        assert_eq!(code(&many(SUBSCRIBE_ROOMS_MAX + 1), ALL), "invalid_fields");
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
    fn fifty_rooms_of_one_frame_cost_as_much_as_another_frame() {
        for (rooms, units) in [(0, 0), (1, 0), (49, 0), (50, 1), (99, 1), (100, 2), (1000, 20)] {
            let rooms = vec![r#"{"room":3}"#; rooms].join(",");
            let request = request(&format!(r#"{{"type":"subscribe","rooms":[{rooms}]}}"#), ALL);
            assert_eq!(request.units(), units);
        }
        let too_many = vec![r#"{"room":3}"#; SUBSCRIBE_ROOMS_MAX + 1].join(",");
        assert_eq!(code(&format!(r#"{{"type":"subscribe","rooms":[{too_many}]}}"#), ALL), "invalid_fields");
        assert_eq!(request(r#"{"type":"subscribe","room":3}"#, ALL).units(), 0);
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
