//! `chat/messages/...`: a room's messages, thirty a page, newest first.
//!
//! A page's position is a message's number in its room, so a page is a short range in a room of any size.

use std::sync::Arc;

use chelseru_domain::chat::{
    Action, ChatError, ChatService, Denied, FileId, Message, MessageBody, MessageEdit, Post, RoomId,
};
use chelseru_domain::clock::Timestamp;
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::Caller;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Chat;
use super::failure::{failure, no_message};
use super::input::whole_number;
use super::json::{MessageJson, People, RoomView, USERS_SHOWN};
use crate::fields::{Fields, Text};
use crate::files::shown::Shown;
use crate::page::{CURSOR, Cursor, OldCursor, cursor, old_cursor, page};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/chat/messages/",
        name: "Message List",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[
            Operation { verb: Verb::Get, id: "chat_message_list", call: call!(list), about: LIST },
            Operation { verb: Verb::Post, id: "chat_message_create", call: call!(create), about: CREATE },
        ],
    },
    Route {
        path: "/chat/messages.json",
        name: "Message List",
        access: Access::User,
        kind: Kind::Twin,
        operations: &[
            Operation { verb: Verb::Get, id: "chat_message_list_json", call: call!(list), about: LIST },
            Operation {
                verb: Verb::Post,
                id: "chat_message_create_json",
                call: call!(create),
                about: CREATE,
            },
        ],
    },
    Route {
        path: "/chat/messages/{id}/",
        name: "Message Instance",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[
            Operation {
                verb: Verb::Get,
                id: "chat_message_get",
                call: call!(get),
                about: About {
                    summary: "Get a message",
                    parameters: &[ROOM],
                    fields: &[],
                    answers: &[(200, "ChatMessage")],
                },
            },
            Operation { verb: Verb::Put, id: "chat_message_update_put", call: call!(update), about: UPDATE },
            Operation { verb: Verb::Patch, id: "chat_message_update", call: call!(update), about: UPDATE },
            Operation {
                verb: Verb::Delete,
                id: "chat_message_delete",
                call: call!(delete),
                about: About {
                    summary: "Delete a message",
                    parameters: &[ROOM],
                    fields: &[],
                    answers: &[(204, "Done."), (403, "A right is missing.")],
                },
            },
        ],
    },
];

const LIST: About = About {
    summary: "List the messages of a room, newest first, 30 a page unless page_size says otherwise",
    parameters: &[
        Field("chat_room", Is::MayInteger, "The room; the page is empty without it."),
        Field("page_size", Is::MayInteger, "Messages of a page, 1 to 100."),
        CURSOR,
    ],
    fields: &[],
    answers: &[(200, "Page<ChatMessage>")],
};

const CREATE: About = About {
    summary: "Post a message; open sockets see it",
    parameters: &[],
    fields: &[
        ROOM,
        Field("text", Is::MayText, "The text; may be missing with a file."),
        Field("message_type", Is::MayText, "text (default), image, file or location."),
        Field("attach_id", Is::MayInteger, "A file that the caller uploaded to the room."),
        Field("lat", Is::MayNumber, "A coordinate of a location."),
        Field("lng", Is::MayNumber, "A coordinate of a location."),
        Field("client_id", Is::MayText, "The caller's reference: a duplicate is the same message."),
    ],
    answers: &[
        (201, "ChatMessage"),
        (200, "ChatMessage"),
        (403, "A right is missing."),
        (429, "The user has sent as much as one may in that time."),
    ],
};

const UPDATE: About = About {
    summary: "Edit one of the caller's messages",
    parameters: &[ROOM],
    fields: &[
        Field("text", Is::MayText, "The text."),
        Field("lat", Is::MayNumber, "A coordinate of a location."),
        Field("lng", Is::MayNumber, "A coordinate of a location."),
    ],
    answers: &[(200, "ChatMessage"), (403, "The message is another user's, or a right is missing.")],
};

const ROOM: Field = Field("chat_room", Is::Integer, "The room.");

/// Messages per page, unless `page_size` asks for another number up to [`PAGE_MAX`].
const PAGE: usize = 30;
const PAGE_MAX: usize = 100;
/// The domain checks the limit, with the original's text.
const TEXT: Text = Text { chars_max: usize::MAX };
const KIND: Text = Text { chars_max: 45 };

/// `GET chat/messages/?chat_room=`. A room that the caller may not see has no messages, like a missing one.
async fn list(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let begin = match old_cursor(&request) {
        Some(old) => Begin::Old(old),
        None => Begin::At(cursor(&request)?),
    };
    let room = match request.query("chat_room") {
        None => return Ok(empty_page(&request)),
        // Digits larger than any room's number: there is no such room.
        Some(text) if text.len() > 19 && is_digits(&text) => RoomId(u64::MAX),
        Some(text) if is_digits(&text) => RoomId(text.parse().map_err(|_| not_found())?),
        Some(_) => return Err(Failure::field("chat_room", "A valid integer is required.")),
    };
    match listed(&chat, &request, room, request.caller, begin).await {
        Ok(reply) => Ok(reply),
        Err(ChatError::RoomMissing | ChatError::Denied(Denied::NotMember)) => Ok(empty_page(&request)),
        Err(error) => Err(failure(&request, error, no_message)),
    }
}

/// Where a page begins.
enum Begin {
    At(Option<Cursor>),
    Old(OldCursor),
}

async fn listed(
    chat: &Chat,
    context: &Context,
    room: RoomId,
    reader: Caller,
    begin: Begin,
) -> Result<Reply, ChatError> {
    let service = &chat.chat;
    let view = RoomView::of(service, service.room(room, reader.user_id).await?, USERS_SHOWN).await?;
    let cursor = match begin {
        Begin::Old(old) => Some(since_import(service, room, old).await?),
        Begin::At(cursor) => cursor,
    };
    let size = page_size(context);
    let (messages, next, previous) = match cursor {
        Some(Cursor::Previous(seq)) => {
            let mut found = service.messages_after(room, seq, size).await?;
            found.messages.reverse();
            let previous = found.more.then_some(Cursor::Previous(found.end));
            let last = found.messages.last().map_or(seq.saturating_add(1), |message| message.seq);
            (found.messages, Some(Cursor::Next(last)), previous)
        }
        from => {
            let before = match from {
                Some(Cursor::Next(seq)) => seq,
                _ => u64::MAX,
            };
            let found = service.messages_before(room, before, size).await?;
            let next = found.more.then_some(Cursor::Next(found.end));
            // The newest page has nothing before it.
            let first = found.messages.first().map_or(before.saturating_sub(1), |message| message.seq);
            (found.messages, next, from.map(|_| Cursor::Previous(first)))
        }
    };
    let (mut people, mut files) = (People::default(), Shown::to(&chat.files, context, reader));
    for message in &messages {
        files.load(message.file).await?;
        people.load(service, view.readers(message).chain([message.sender]).collect()).await?;
        files.load_avatars(people.avatars([message.sender])).await?;
    }
    let reference = view.reference();
    let shown: Vec<MessageJson<'_>> = messages
        .iter()
        .map(|message| MessageJson::of(context, message, &view, &reference, (&people, &files)))
        .collect();
    Ok(page(context, next, previous, &shown))
}

/// As in the original's framework: too large is the largest, and a size that cannot be read is the usual one.
pub(super) fn page_size(context: &Context) -> usize {
    let asked = context.query("page_size").and_then(|text| text.parse::<usize>().ok());
    asked.filter(|size| *size > 0).map_or(PAGE, |size| size.min(PAGE_MAX))
}

/// Where a page of the original begins here: its cursors name an instant and how many messages of that instant to skip.
async fn since_import(service: &ChatService, room: RoomId, old: OldCursor) -> Result<Cursor, ChatError> {
    let OldCursor { at, skip, backwards } = old;
    Ok(match (at, backwards) {
        (None, _) => {
            let last = service.last_seq_before(room, Timestamp::from_micros(u64::MAX)).await?;
            Cursor::Next((last + 1).saturating_sub(skip))
        }
        (Some(at), false) => {
            let last = service.last_seq_before(room, at).await?;
            Cursor::Next((last + 1).saturating_sub(skip))
        }
        (Some(at), true) => {
            let after = Timestamp::from_micros(at.as_micros().saturating_add(1));
            Cursor::Previous(service.last_seq_before(room, after).await?.saturating_add(skip))
        }
    })
}

/// `POST chat/messages/`: 201, or 200 when the `client_id` was used before.
async fn create(chat: Arc<Chat>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let mut body = MessageBody { kind: "text".to_owned(), ..MessageBody::default() };
    let file = whole_number(&mut fields, "attach_id").map(FileId);
    let text = match file {
        // A message with a file needs no text.
        Some(_) => fields.optional("text", TEXT),
        None => fields.required("text", TEXT),
    };
    body.text = text.unwrap_or_default();
    take_rest(&mut fields, &mut body);
    let client_id = fields.given("client_id", TEXT);
    if fields.value("chat_room").is_none_or(Value::is_null) {
        fields.finish()?;
        let text = "فیلد chat_room اجباری است.";
        return Err(Failure::list(StatusCode::BAD_REQUEST, "chat_room_required", text));
    }
    let room = whole_number(&mut fields, "chat_room");
    let room = RoomId(fields.all(room)?);
    let (user, face) = (caller.user_id, chat.chat.face(caller.user_id).await);
    let post = Post { sender: user, face, body, file, client_id };
    let posted = chat.chat.post_and_wait(room, post).await;
    let posted = posted.map_err(|error| failure(&context, error, no_room_to_post))?;
    let status = if posted.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    let shown = show(&chat, &context, caller, &posted.view.message, status).await?;
    Ok(shown.with_left(chat.chat.messages_left(user)))
}

/// `GET chat/messages/{id}/?chat_room=`.
async fn get(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let user = request.caller.user_id;
    let message = find(&chat, &request, user).await?;
    show(&chat, &request, request.caller, &message, StatusCode::OK).await
}

/// `PUT` and `PATCH chat/messages/{id}/?chat_room=`: the caller's own message; absent fields stay.
async fn update(chat: Arc<Chat>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let user = caller.user_id;
    let message = find(&chat, &context, user).await?;
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
    // An edit that changes nothing is not stored.
    if body == message.body {
        return show(&chat, &context, caller, &message, StatusCode::OK).await;
    }
    let edit = MessageEdit::Body(body);
    let changed = chat.chat.message_change(message.room, message.seq, user, edit).await;
    let (view, _) = changed.map_err(|error| failure(&context, error, no_message))?;
    show(&chat, &context, caller, &view.message, StatusCode::OK).await
}

/// `DELETE chat/messages/{id}/?chat_room=`: the caller's own message, or any with the right.
async fn delete(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let user = request.caller.user_id;
    let message = find(&chat, &request, user).await?;
    let changed = chat.chat.message_change(message.room, message.seq, user, MessageEdit::Delete).await;
    changed.map_err(|error| failure(&request, error, no_message))?;
    Ok(Reply::empty())
}

/// The message of the path, which must be in the query's room, as in the original.
async fn find(chat: &Chat, context: &Context, user: UserId) -> Result<Message, Failure> {
    let place = chat.chat.message_place(context.id("id")?).await;
    let (room, seq) = place.map_err(|error| failure(context, error, no_message))?;
    if context.query("chat_room").is_none_or(|text| text.parse() != Ok(room.0)) {
        return Err(no_message());
    }
    chat.chat.message(room, seq, user).await.map_err(|error| failure(context, error, no_message))
}

/// The fields of a message besides its text.
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

/// A coordinate as the JSON of a number; `Some(None)` for null.
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

async fn show(
    chat: &Chat,
    context: &Context,
    reader: Caller,
    message: &Message,
    status: StatusCode,
) -> Answer {
    let service = &chat.chat;
    let shown = async {
        service.check(message.room, reader.user_id, Action::See).await?;
        let summary = service.room(message.room, reader.user_id).await?;
        let view = RoomView::of(service, summary, USERS_SHOWN).await?;
        let (mut people, mut files) = (People::default(), Shown::to(&chat.files, context, reader));
        files.load(message.file).await?;
        people.load(service, view.readers(message).chain([message.sender]).collect()).await?;
        files.load_avatars(people.avatars([message.sender])).await?;
        let reference = view.reference();
        Ok(Reply::json(status, &MessageJson::of(context, message, &view, &reference, (&people, &files))))
    };
    shown.await.map_err(|error| failure(context, error, no_message))
}

fn no_room_to_post() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "room_missing", "چت‌روم پیدا نشد.")
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn empty_page(context: &Context) -> Reply {
    page::<Value>(context, None, None, &[])
}
