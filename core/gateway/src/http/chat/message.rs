//! `chat/messages/...`: a room's messages, thirty a page, newest first.
//!
//! A cursor is the base64 of `p=<number>` (with `r=1&` in front for the way back), in the manner of the original's;
//! the number is one of the room's, so a page is a short range however long the room is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chelseru_domain::chat::{
    Action, ChatError, Denied, FileId, Message, MessageBody, MessageEdit, Post, RoomId, message_of,
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::json::{MessageJson, People, RoomView, USERS_SHOWN};
use super::{failure, no_message, whole_number};
use crate::http::fields::{Fields, Text};
use crate::http::reply::{Failure, Reply};
use crate::http::{Context, not_found};

/// Messages on one page.
const PAGE: usize = 30;
/// The domain's bound says so in the original's words.
const TEXT: Text = Text { chars_max: usize::MAX };
const KIND: Text = Text { chars_max: 45 };
const CLIENT_ID: Text = Text { chars_max: usize::MAX };

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cursor {
    /// Older than this number.
    Before(u64),
    /// Newer than this number: the way back.
    After(u64),
}

/// `GET chat/messages/?chat_room=`. A room that is not the caller's has no messages, as one that is not there.
pub(crate) fn list(context: &Context) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let cursor = context.query("cursor").map(|text| parse_cursor(&text).ok_or_else(invalid_cursor));
    let cursor = cursor.transpose()?;
    let room = match context.query("chat_room") {
        None => return Ok(empty_page()),
        // Larger than any room's number, and digits all the same: there is no such room.
        Some(text) if text.len() > 19 && is_digits(&text) => RoomId(u64::MAX),
        Some(text) if is_digits(&text) => RoomId(text.parse().map_err(|_| not_found())?),
        Some(_) => return Err(Failure::field("chat_room", "A valid integer is required.")),
    };
    let body = || {
        let chat = &context.app.chat;
        let view = RoomView::of(context, chat.room(room, user)?, USERS_SHOWN)?;
        let (messages, next, previous) = match cursor {
            None | Some(Cursor::Before(_)) => {
                let before = match cursor {
                    Some(Cursor::Before(seq)) => seq,
                    _ => u64::MAX,
                };
                let found = chat.messages_before(room, before, PAGE)?;
                let next = found.more.then_some(Cursor::Before(found.end));
                // The newest page has nothing before it.
                let first = found.messages.first().map_or(before.saturating_sub(1), |message| message.seq);
                (found.messages, next, cursor.map(|_| Cursor::After(first)))
            }
            Some(Cursor::After(seq)) => {
                let mut found = chat.messages_after(room, seq, PAGE)?;
                found.messages.reverse();
                let previous = found.more.then_some(Cursor::After(found.end));
                let last = found.messages.last().map_or(seq.saturating_add(1), |message| message.seq);
                (found.messages, Some(Cursor::Before(last)), previous)
            }
        };
        let mut people = People::default();
        for message in &messages {
            people.load(chat, view.readers(message).chain([message.sender]))?;
        }
        let reference = view.reference();
        let shown: Vec<MessageJson<'_>> = messages
            .iter()
            .map(|message| MessageJson::of(context, message, &view, &reference, &people))
            .collect();
        let link = |cursor: Option<Cursor>| cursor.map(|cursor| link(context, cursor));
        let page = Page { next: link(next), previous: link(previous), results: &shown };
        Ok(Reply::json(StatusCode::OK, &page))
    };
    match body() {
        Ok(reply) => Ok(reply),
        Err(ChatError::RoomMissing | ChatError::Denied(Denied::NotMember)) => Ok(empty_page()),
        Err(error) => Err(failure(context, error, no_message)),
    }
}

/// `POST chat/messages/`: 201, or 200 when `client_id` says that the message was sent before.
pub(crate) async fn create(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let mut body = MessageBody { kind: "text".to_owned(), ..MessageBody::default() };
    let file = whole_number(&mut fields, "attach_id").map(FileId);
    let text = match file {
        // A file needs no words.
        Some(_) => fields.optional("text", TEXT),
        None => fields.required("text", TEXT),
    };
    body.text = text.unwrap_or_default();
    take_rest(&mut fields, &mut body);
    let client_id = fields.given("client_id", CLIENT_ID);
    let room = match fields.value("chat_room") {
        None | Some(Value::Null) => {
            fields.finish()?;
            let text = "فیلد chat_room اجباری است.";
            return Err(Failure::list(StatusCode::BAD_REQUEST, "chat_room_required", text));
        }
        Some(_) => whole_number(&mut fields, "chat_room"),
    };
    fields.finish()?;
    let Some(room) = room.map(RoomId) else { return Err(Failure::internal()) };
    let sender_name = context.app.chat.name(user);
    let post = Post { room, sender: user, sender_name, body, file, client_id };
    let posted = context.app.chat.post_and_wait(post).await;
    let posted = posted.map_err(|error| failure(&context, error, no_room_to_post))?;
    let status = if posted.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    show(&context, &posted.view.message, status)
}

/// `GET chat/messages/{id}/?chat_room=`.
pub(crate) fn get(context: &Context) -> Result<Reply, Failure> {
    let message = find(context)?;
    show(context, &message, StatusCode::OK)
}

/// `PUT` and `PATCH chat/messages/{id}/?chat_room=`: one's own; what is absent stays.
pub(crate) async fn update(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let message = find(&context)?;
    let mut body = message.body.clone();
    let text = match context.head.method {
        Method::PUT => fields.required("text", TEXT),
        _ if fields.value("text").is_some() => fields.required("text", TEXT),
        _ => None,
    };
    if let Some(text) = text {
        (body.text, body.raw) = (text, false);
    }
    take_rest(&mut fields, &mut body);
    fields.finish()?;
    // What stays as it is is no edit.
    if body == message.body {
        return show(&context, &message, StatusCode::OK);
    }
    let edit = MessageEdit::Body(body);
    let changed = context.app.chat.message_change(message.room, message.seq, user, edit).await;
    let (view, _) = changed.map_err(|error| failure(&context, error, no_message))?;
    show(&context, &view.message, StatusCode::OK)
}

/// `DELETE chat/messages/{id}/?chat_room=`: one's own, or with the right to.
pub(crate) async fn delete(context: Context) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let message = find(&context)?;
    let changed = context.app.chat.message_change(message.room, message.seq, user, MessageEdit::Delete).await;
    changed.map_err(|error| failure(&context, error, no_message))?;
    Ok(Reply::empty())
}

/// The message of the path, which the query's room must have, as in the original.
fn find(context: &Context) -> Result<Message, Failure> {
    let user = context.user()?.user_id;
    let (room, seq) = message_of(context.path_id()?);
    if context.query("chat_room").is_none_or(|text| text.parse() != Ok(room.0)) {
        return Err(no_message());
    }
    context.app.chat.message(room, seq, user).map_err(|error| failure(context, error, no_message))
}

/// The fields of a message beside its text.
fn take_rest(fields: &mut Fields, body: &mut MessageBody) {
    if fields.value("message_type").is_some()
        && let Some(kind) = fields.required("message_type", KIND)
    {
        body.kind = kind;
    }
    if let Some(lat) = coordinate(fields, "lat") {
        body.lat = lat;
    }
    if let Some(lng) = coordinate(fields, "lng") {
        body.lng = lng;
    }
}

/// Kept as the JSON of a number; `Some(None)` when it is null.
fn coordinate(fields: &mut Fields, name: &'static str) -> Option<Option<String>> {
    let number = match fields.value(name)? {
        Value::Null => return Some(None),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse::<f64>().ok(),
        _ => None,
    };
    match number.filter(|number| number.is_finite()) {
        Some(number) => Some(Some(json!(number).to_string())),
        None => {
            fields.refuse(name, "A valid number is required.");
            None
        }
    }
}

fn show(context: &Context, message: &Message, status: StatusCode) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let body = || {
        let chat = &context.app.chat;
        chat.check(message.room, user, Action::See)?;
        let view = RoomView::of(context, chat.room(message.room, user)?, USERS_SHOWN)?;
        let mut people = People::default();
        people.load(chat, view.readers(message).chain([message.sender]))?;
        let reference = view.reference();
        Ok(Reply::json(status, &MessageJson::of(context, message, &view, &reference, &people)))
    };
    body().map_err(|error| failure(context, error, no_message))
}

fn no_room_to_post() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "room_missing", "چت‌روم پیدا نشد.")
}

fn invalid_cursor() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "invalid_cursor", "Invalid cursor")
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse_cursor(text: &str) -> Option<Cursor> {
    let query = STANDARD.decode(text).ok()?;
    let value = |name: &str| {
        form_urlencoded::parse(&query).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let seq = value("p")?.parse().ok()?;
    Some(if value("r").as_deref() == Some("1") { Cursor::After(seq) } else { Cursor::Before(seq) })
}

/// The address of another page: the same query with another cursor, its keys in order.
fn link(context: &Context, cursor: Cursor) -> String {
    let cursor = STANDARD.encode(match cursor {
        Cursor::Before(seq) => format!("p={seq}"),
        Cursor::After(seq) => format!("r=1&p={seq}"),
    });
    let query = context.head.uri.query().unwrap_or("");
    let mut pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name != "cursor")
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .chain([("cursor".to_owned(), cursor)])
        .collect();
    pairs.sort_by(|one, other| one.0.cmp(&other.0));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{}{}?{query}", context.origin(), context.head.uri.path())
}

fn empty_page() -> Reply {
    Reply::json(StatusCode::OK, &Page { next: None, previous: None, results: &[] })
}

#[derive(serde::Serialize)]
struct Page<'a> {
    next: Option<String>,
    previous: Option<String>,
    results: &'a [MessageJson<'a>],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        assert_eq!(parse_cursor(&STANDARD.encode("p=31")), Some(Cursor::Before(31)));
        assert_eq!(parse_cursor(&STANDARD.encode("r=1&p=31")), Some(Cursor::After(31)));
        for wrong in ["", "!", "p=1", &STANDARD.encode("p=not-a-date"), &STANDARD.encode("q=1")] {
            assert_eq!(parse_cursor(wrong), None, "{wrong}");
        }
    }
}
