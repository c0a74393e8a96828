//! `chat/chatrooms/...`: rooms, and a member's own pins and read markers.

use std::sync::Arc;

use chelseru_domain::chat::{
    ChatError, FileId, OrganizationId, RoomEdit, RoomId, RoomRequest, RoomStatus, RoomSummary,
};
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::Caller;
use http::StatusCode;
use serde_json::{Value, json};

use super::Chat;
use super::failure::{failure, no_room};
use super::input::{named_user, path_room, whole_number};
use super::json::{People, RoomView, USERS_LISTED, USERS_SHOWN};
use crate::fields::{Fields, Text};
use crate::files::shown::Shown;
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Open, Request, number};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/chat/",
        name: "Api Root",
        access: Access::Open,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "chat_root",
            call: call!(root),
            about: About {
                summary: "Get the addresses of the two collections",
                parameters: &[],
                fields: &[],
                answers: &[(200, "ChatAddresses")],
            },
        }],
    },
    Route {
        path: "/chat/chatrooms/",
        name: "Chat Room List",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[
            Operation { verb: Verb::Get, id: "room_list", call: call!(list), about: LIST },
            Operation { verb: Verb::Post, id: "room_create", call: call!(create), about: CREATE },
        ],
    },
    Route {
        path: "/chat/chatrooms.json",
        name: "Chat Room List",
        access: Access::User,
        kind: Kind::Twin,
        operations: &[
            Operation { verb: Verb::Get, id: "room_list_json", call: call!(list), about: LIST },
            Operation { verb: Verb::Post, id: "room_create_json", call: call!(create), about: CREATE },
        ],
    },
    Route {
        path: "/chat/chatrooms/{id}/",
        name: "Chat Room Instance",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[
            Operation {
                verb: Verb::Get,
                id: "room_get",
                call: call!(get),
                about: About {
                    summary: "Get a room",
                    parameters: &[],
                    fields: &[],
                    answers: &[(200, "Room")],
                },
            },
            Operation { verb: Verb::Put, id: "room_update_put", call: call!(update), about: UPDATE },
            Operation { verb: Verb::Patch, id: "room_update", call: call!(update), about: UPDATE },
            Operation {
                verb: Verb::Delete,
                id: "room_delete",
                call: call!(delete),
                about: About {
                    summary: "Delete a room with everything in it",
                    parameters: &[],
                    fields: &[],
                    answers: &[(204, "Done."), (403, "A right is missing.")],
                },
            },
        ],
    },
    Route {
        path: "/chat/chatrooms/{id}/pin/",
        name: "Chat Room Pin",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[
            Operation {
                verb: Verb::Post,
                id: "room_pin",
                call: call!(pin),
                about: About {
                    summary: "Pin a room for the caller",
                    parameters: &[],
                    fields: &[],
                    answers: &[(200, "Room")],
                },
            },
            Operation {
                verb: Verb::Delete,
                id: "room_unpin",
                call: call!(unpin),
                about: About {
                    summary: "Unpin a room for the caller",
                    parameters: &[],
                    fields: &[],
                    answers: &[(200, "Room")],
                },
            },
        ],
    },
    Route {
        path: "/chat/chatrooms/{id}/read/",
        name: "Chat Room Read",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "room_read",
            call: call!(read),
            about: About {
                summary: "Move the caller's read marker forward",
                parameters: &[],
                fields: &[
                    Field("seq", Is::MayInteger, "Up to this number; all messages when absent."),
                    Field("message", Is::MayInteger, "Up to this message."),
                ],
                answers: &[(200, "ReadMarker")],
            },
        }],
    },
];

const LIST: About = About {
    summary: "List the caller's rooms, the newest change first: the newest 1000, or a page of 50",
    parameters: &[Field("page", Is::MayInteger, "From 1 on. Without it, the answer is a list.")],
    fields: &[],
    answers: &[(200, "Room[]|Page<Room>"), (404, "There is no such page.")],
};

/// Rooms of a list without pages, as the original answers it.
const LISTED_MAX: usize = 1000;
/// Rooms, or requests, of a page.
pub(super) const PAGE: usize = 50;

const CREATE: About = About {
    summary: "Find or create the room of a pair, or create a group",
    parameters: &[],
    fields: &[
        Field("user_id", Is::MayInteger, "The other user of a pair; `user` is accepted as well."),
        Field("users", Is::MayList, "Members of a group."),
        Field("name", Is::MayText, "At most 45 characters."),
        Field("descriptions", Is::MayText, "At most 2000 characters."),
        Field("organization", Is::MayInteger, "The caller's organization that owns the group."),
    ],
    answers: &[(201, "Room"), (200, "Room")],
};

const UPDATE: About = About {
    summary: "Rename, close, hold or reopen a room; absent fields stay",
    parameters: &[],
    fields: &[
        Field("name", Is::MayText, "At most 45 characters."),
        Field("descriptions", Is::MayText, "At most 2000 characters."),
        Field("status", Is::MayInteger, "1 open, 2 closed, 3 on hold."),
        Field("avatar", Is::MayInteger, "A picture that the caller uploaded to the room."),
    ],
    answers: &[(200, "Room"), (403, "A right is missing.")],
};

/// The domain checks the limit, with the original's text.
const TEXT: Text = Text { chars_max: usize::MAX };

/// `GET chat/`: the addresses of the two collections.
async fn root(_: Arc<Chat>, request: Request<Open>) -> Answer {
    let base = request.address(&format!("{}/chat", request.base_path()));
    let body = json!({"chatrooms": format!("{base}/chatrooms/"), "messages": format!("{base}/messages/")});
    Ok(Reply::json(StatusCode::OK, &body))
}

/// `GET chat/chatrooms/`: the caller's rooms, most recently changed first; `?page=` for one page of them.
async fn list(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let rooms = chat.chat.rooms(request.caller.user_id);
    let mut rooms = rooms.await.map_err(|error| failure(&request, error, no_room))?;
    let Some(page) = request.query("page") else {
        rooms.truncate(LISTED_MAX);
        return listed(&chat, &request, request.caller, rooms).await;
    };
    let number = number(&page).and_then(|number| usize::try_from(number).ok());
    let start = number.and_then(|number| number.checked_sub(1)?.checked_mul(PAGE));
    // The first page may be empty.
    let Some(start) = start.filter(|start| *start < rooms.len().max(1)) else {
        return Err(Failure::detail(StatusCode::NOT_FOUND, "invalid_page", "Invalid page."));
    };
    let link = |start: usize| request.address(&format!("{}?page={}", request.path(), start / PAGE + 1));
    let next = (start + PAGE < rooms.len()).then(|| link(start + PAGE));
    let previous = (start > 0).then(|| link(start - PAGE));
    let shown = rooms.drain(start..rooms.len().min(start + PAGE)).collect();
    let results = rooms_json(&chat, &request, request.caller, shown).await;
    let results = results.map_err(|error| failure(&request, error, no_room))?;
    Ok(Reply::json(StatusCode::OK, &json!({"next": next, "previous": previous, "results": results})))
}

/// Rooms in the form of a list.
pub(crate) async fn listed(
    chat: &Chat,
    context: &Context,
    reader: Caller,
    rooms: Vec<RoomSummary>,
) -> Answer {
    let rooms = rooms_json(chat, context, reader, rooms).await;
    Ok(Reply::json(StatusCode::OK, &rooms.map_err(|error| failure(context, error, no_room))?))
}

async fn rooms_json(
    chat: &Chat,
    context: &Context,
    reader: Caller,
    rooms: Vec<RoomSummary>,
) -> Result<Vec<Value>, ChatError> {
    let (mut people, mut files) = (People::default(), Shown::to(&chat.files, context, reader));
    let mut views = Vec::new();
    for summary in rooms {
        let view = RoomView::of(&chat.chat, summary, USERS_LISTED).await?;
        let view = view.with_newest(&chat.chat).await?;
        view.load(&mut people, &mut files, &chat.chat).await?;
        views.push(view);
    }
    Ok(views.iter().map(|view| view.json(&people, &files)).collect())
}

/// `POST chat/chatrooms/`: the room of a pair (`user_id`, or `user`), 200 when it exists; or a group room (`users`, a
/// list that may be empty, and no `user_id`).
async fn create(chat: Arc<Chat>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let user = caller.user_id;
    let other = named_user(&mut fields);
    let group = fields.value("users").is_some() && !["user", "user_id"].iter().any(|key| given(&fields, key));
    let edit = edit(&mut fields);
    if group {
        let members = users(&mut fields);
        let organization = whole_number(&mut fields, "organization").map(OrganizationId);
        fields.finish()?;
        let made = chat.chat.group_create(user, members, organization, edit).await;
        let room = made.map_err(|error| failure(&context, error, no_room))?;
        return show(&chat, &context, caller, room.id, StatusCode::CREATED).await;
    }
    fields.finish()?;
    let Some(other) = other else {
        let text = "user_id ارسال نشده است.";
        return Err(Failure::detail(StatusCode::NOT_FOUND, "user_id_required", text));
    };
    let opened = chat.chat.pair_open(user, other, edit).await;
    let (room, new) = opened.map_err(|error| failure(&context, error, no_room))?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    show(&chat, &context, caller, room.id, status).await
}

/// `GET chat/chatrooms/{id}/`.
async fn get(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    show(&chat, &request, request.caller, path_room(&request)?, StatusCode::OK).await
}

/// `PUT` and `PATCH chat/chatrooms/{id}/`: name, description, status, avatar; absent fields stay.
async fn update(chat: Arc<Chat>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let room = path_room(&context)?;
    let edit = edit(&mut fields);
    fields.finish()?;
    ask(&chat, &context, caller.user_id, room, RoomRequest::Edit(edit)).await?;
    show(&chat, &context, caller, room, StatusCode::OK).await
}

/// `DELETE chat/chatrooms/{id}/`: the room with its content.
async fn delete(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let room = path_room(&request)?;
    ask(&chat, &request, request.caller.user_id, room, RoomRequest::Delete).await?;
    // Messages are removed in steps. The periodic upkeep finishes what a stop interrupts.
    let service = chat.chat.clone();
    chat.detached.spawn(async move {
        if let Err(error) = service.sweep(room).await {
            tracing::warn!(%error, "the messages of a deleted room could not be removed");
        }
    });
    Ok(Reply::empty())
}

/// `POST chat/chatrooms/{id}/pin/`: for the caller only.
async fn pin(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    set_pinned(&chat, &request, true).await
}

/// `DELETE chat/chatrooms/{id}/pin/`.
async fn unpin(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    set_pinned(&chat, &request, false).await
}

async fn set_pinned(chat: &Chat, request: &Request<Caller>, pinned: bool) -> Answer {
    let (room, user) = (path_room(request)?, request.caller.user_id);
    ask(chat, request, user, room, RoomRequest::Pin(pinned)).await?;
    show(chat, request, request.caller, room, StatusCode::OK).await
}

/// `POST chat/chatrooms/{id}/read/`: marks everything up to `message` (an id) or `seq` (a number in the room) as
/// read; without either, everything. Never moves back.
async fn read(chat: Arc<Chat>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let room = path_room(&context)?;
    let seq = whole_number(&mut fields, "seq");
    let message = whole_number(&mut fields, "message");
    let seq = match message {
        None => seq,
        Some(id) => match chat.chat.message_place(id).await {
            Ok((of, number)) if of == room => Some(number),
            Ok(_) | Err(ChatError::MessageMissing) => {
                fields.refuse("message", "The message is not of this room.");
                None
            }
            Err(error) => return Err(failure(&context, error, no_room)),
        },
    };
    fields.finish()?;
    let user = caller.user_id;
    ask(&chat, &context, user, room, RoomRequest::Read(seq.unwrap_or(u64::MAX))).await?;
    let summary = chat.chat.room(room, user).await.map_err(|error| failure(&context, error, no_room))?;
    let body = json!({
        "read_seq": summary.member.read_seq,
        "last_seq": summary.last_seq,
        "unread_count": summary.unread,
    });
    Ok(Reply::json(StatusCode::OK, &body))
}

/// Carries out a caller's request about a room.
pub(crate) async fn ask(
    chat: &Chat,
    context: &Context,
    user: UserId,
    room: RoomId,
    request: RoomRequest,
) -> Result<(), Failure> {
    let changed = chat.chat.room_change(room, user, request).await;
    changed.map(drop).map_err(|error| match error {
        // The only file that a room has.
        ChatError::FileUnusable => Failure::field(
            "avatar",
            "The file is not a picture that you uploaded to this room, or is in use.",
        ),
        error => failure(context, error, no_room),
    })
}

/// Answers with a room as one of its members sees it.
pub(crate) async fn show(
    chat: &Chat,
    context: &Context,
    reader: Caller,
    room: RoomId,
    status: StatusCode,
) -> Answer {
    let body = room_json(chat, context, reader, room).await;
    Ok(Reply::json(status, &body.map_err(|error| failure(context, error, no_room))?))
}

async fn room_json(chat: &Chat, context: &Context, reader: Caller, room: RoomId) -> Result<Value, ChatError> {
    let view = RoomView::of(&chat.chat, chat.chat.room(room, reader.user_id).await?, USERS_SHOWN).await?;
    let view = view.with_newest(&chat.chat).await?;
    let (mut people, mut files) = (People::default(), Shown::to(&chat.files, context, reader));
    view.load(&mut people, &mut files, &chat.chat).await?;
    Ok(view.json(&people, &files))
}

/// The room fields of a body.
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

/// `avatar`: the number of an image that the caller uploaded to the room; null removes it.
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
