//! `chat/chatrooms/...`: rooms, and what a member does with a room for itself (pin, read).

use chelseru_domain::chat::{
    FileId, OrganizationId, RoomEdit, RoomId, RoomRequest, RoomStatus, RoomSummary, message_of,
};
use chelseru_domain::ids::UserId;
use http::StatusCode;
use serde_json::{Value, json};

use super::json::{People, RoomView, USERS_LISTED, USERS_SHOWN};
use super::{failure, named_user, no_room, path_room, whole_number};
use crate::http::Context;
use crate::http::fields::{Fields, Text};
use crate::http::reply::{Failure, Reply};

/// The domain's bounds say so in the original's words.
const TEXT: Text = Text { chars_max: usize::MAX };

/// `GET chat/chatrooms/`: the caller's rooms, the one with the newest change first.
pub(crate) fn list(context: &Context) -> Result<Reply, Failure> {
    let rooms = context.app.chat.rooms(context.user()?.user_id);
    listed(context, rooms.map_err(|error| failure(context, error, no_room))?)
}

/// Rooms as a list shows them.
pub(super) fn listed(context: &Context, rooms: Vec<RoomSummary>) -> Result<Reply, Failure> {
    let body = || {
        let mut people = People::default();
        let mut views = Vec::new();
        for summary in rooms {
            let view = RoomView::of(context, summary, USERS_LISTED)?;
            people.load(&context.app.chat, view.users())?;
            views.push(view);
        }
        Ok(views.iter().map(|view| view.json(&people)).collect::<Vec<_>>())
    };
    let rooms = body().map_err(|error| failure(context, error, no_room))?;
    Ok(Reply::json(StatusCode::OK, &rooms))
}

/// `POST chat/chatrooms/`: the room of a pair (`user_id`, or `user`), 200 when it was there; or a group room
/// (`users`, a list that may be empty, and no `user_id`).
pub(crate) async fn create(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let other = named_user(&mut fields);
    let group = fields.value("users").is_some() && !["user", "user_id"].iter().any(|key| given(&fields, key));
    let edit = edit(&mut fields);
    if group {
        let members = users(&mut fields);
        let organization = whole_number(&mut fields, "organization").map(OrganizationId);
        fields.finish()?;
        let made = context.app.chat.group_create(user, members, organization, edit).await;
        let room = made.map_err(|error| failure(&context, error, no_room))?;
        return show(&context, room.id, StatusCode::CREATED);
    }
    fields.finish()?;
    let Some(other) = other else {
        let text = "user_id ارسال نشده است.";
        return Err(Failure::detail(StatusCode::NOT_FOUND, "user_id_required", text));
    };
    let opened = context.app.chat.pair_open(user, other, edit).await;
    let (room, new) = opened.map_err(|error| failure(&context, error, no_room))?;
    show(&context, room.id, if new { StatusCode::CREATED } else { StatusCode::OK })
}

/// `GET chat/chatrooms/{id}/`.
pub(crate) fn get(context: &Context) -> Result<Reply, Failure> {
    show(context, path_room(context)?, StatusCode::OK)
}

/// `PUT` and `PATCH chat/chatrooms/{id}/`: name, description, status, avatar; what is absent stays.
pub(crate) async fn update(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let room = path_room(&context)?;
    let edit = edit(&mut fields);
    fields.finish()?;
    ask(&context, room, RoomRequest::Edit(edit)).await?;
    show(&context, room, StatusCode::OK)
}

/// `DELETE chat/chatrooms/{id}/`: the room with everything in it.
pub(crate) async fn delete(context: Context) -> Result<Reply, Failure> {
    let room = path_room(&context)?;
    ask(&context, room, RoomRequest::Delete).await?;
    // The messages go in steps, and what a stop leaves the upkeep finds.
    let chat = context.app.chat.clone();
    context.app.detached.spawn(async move {
        if let Err(error) = chat.sweep(room).await {
            tracing::warn!(%error, "the messages of a deleted room could not be removed");
        }
    });
    Ok(Reply::empty())
}

/// `POST` and `DELETE chat/chatrooms/{id}/pin/`: for the caller alone.
pub(crate) async fn pin(context: Context, pinned: bool) -> Result<Reply, Failure> {
    let room = path_room(&context)?;
    ask(&context, room, RoomRequest::Pin(pinned)).await?;
    show(&context, room, StatusCode::OK)
}

/// `POST chat/chatrooms/{id}/read/`: everything up to `message` (an id) or `seq` (a number of the room) is read;
/// without either, everything. Never moves back.
pub(crate) async fn read(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let room = path_room(&context)?;
    let seq = whole_number(&mut fields, "seq");
    let message = whole_number(&mut fields, "message");
    let seq = match message.map(message_of) {
        Some((of, _)) if of != room => {
            fields.refuse("message", "The message is not of this room.");
            None
        }
        Some((_, number)) => Some(number),
        None => seq,
    };
    fields.finish()?;
    ask(&context, room, RoomRequest::Read(seq.unwrap_or(u64::MAX))).await?;
    let user = context.user()?.user_id;
    let summary = context.app.chat.room(room, user).map_err(|error| failure(&context, error, no_room))?;
    let body = json!({
        "read_seq": summary.member.read_seq,
        "last_seq": summary.last_seq,
        "unread_count": summary.unread,
    });
    Ok(Reply::json(StatusCode::OK, &body))
}

/// Has a request about a room carried out for the caller.
pub(super) async fn ask(context: &Context, room: RoomId, request: RoomRequest) -> Result<(), Failure> {
    let user = context.user()?.user_id;
    let changed = context.app.chat.room_change(room, user, request).await;
    changed.map(drop).map_err(|error| failure(context, error, no_room))
}

pub(super) fn show(context: &Context, room: RoomId, status: StatusCode) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let body = || {
        let view = RoomView::of(context, context.app.chat.room(room, user)?, USERS_SHOWN)?;
        let mut people = People::default();
        people.load(&context.app.chat, view.users())?;
        Ok(view.json(&people))
    };
    let body = body().map_err(|error| failure(context, error, no_room))?;
    Ok(Reply::json(status, &body))
}

/// The fields of a room that are there.
fn edit(fields: &mut Fields) -> RoomEdit {
    let mut text = |name| fields.value(name).is_some().then(|| fields.optional(name, TEXT));
    let (name, descriptions) = (text("name"), text("descriptions"));
    RoomEdit { name, descriptions, status: status(fields), avatar: avatar(fields) }
}

fn status(fields: &mut Fields) -> Option<RoomStatus> {
    let shown = match fields.value("status")? {
        Value::Null => {
            fields.refuse("status", "This field may not be null.");
            return None;
        }
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    match shown.as_str() {
        "1" => Some(RoomStatus::Open),
        "2" => Some(RoomStatus::Closed),
        "3" => Some(RoomStatus::Hold),
        _ => {
            let shown: String = shown.chars().take(45).collect();
            fields.refuse("status", format!("\"{shown}\" is not a valid choice."));
            None
        }
    }
}

/// `avatar`: the number of an image that the caller uploaded to the room; null takes it away.
fn avatar(fields: &mut Fields) -> Option<Option<FileId>> {
    match fields.value("avatar")? {
        Value::Null => Some(None),
        _ => whole_number(fields, "avatar").map(|id| Some(FileId(id))),
    }
}

/// `users`: numbers.
fn users(fields: &mut Fields) -> Vec<UserId> {
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let users = match fields.value("users") {
        Some(Value::Array(users)) => users.iter().map(number).collect::<Option<Vec<u64>>>(),
        _ => None,
    };
    if users.is_none() {
        fields.refuse("users", "Must be a list of user numbers.");
    }
    users.unwrap_or_default().into_iter().map(UserId).collect()
}

fn given(fields: &Fields, name: &str) -> bool {
    fields.value(name).is_some_and(|value| !value.is_null())
}
