//! `chat/requests/...` and `chat/blocks/...`: rooms that wait for the caller's acceptance, and users who may not ask.

use std::sync::Arc;

use chelseru_domain::chat::{ChatError, RoomKind, RoomRequest, WaitingRequest};
use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::Caller;
use chelseru_domain::text::name_as_seen;
use http::StatusCode;
use serde_json::{Value, json};

use super::Chat;
use super::failure::{failure, no_room};
use super::input::{USER_ID, path_room, path_user};
use super::json::{People, UserJson, preview};
use super::member::required_user;
use super::room::{PAGE, ask, show};
use crate::fields::Fields;
use crate::files::shown::Shown;
use crate::page::{CURSOR, Cursor, page, start};
use crate::reply::Reply;
use crate::request::{Access, Request};
use crate::route::{About, Answer, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/chat/requests/",
        name: "Chat Request List",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "request_list",
            call: call!(list),
            about: About {
                summary: "List the rooms that wait for the caller's acceptance, newest first",
                parameters: &[CURSOR],
                fields: &[],
                answers: &[(200, "Page<ChatRequest>")],
            },
        }],
    },
    Route {
        path: "/chat/requests/{id}/accept/",
        name: "Chat Request Accept",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "request_accept",
            call: call!(accept),
            about: About {
                summary: "Accept a room",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Room"), (404, "Nothing waits."), (409, "The caller is in too many rooms.")],
            },
        }],
    },
    Route {
        path: "/chat/requests/{id}/decline/",
        name: "Chat Request Decline",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "request_decline",
            call: call!(decline),
            about: About {
                summary: "Decline a room; who opened a pair does not notice",
                parameters: &[],
                fields: &[],
                answers: &[(204, "Done."), (404, "Nothing waits.")],
            },
        }],
    },
    Route {
        path: "/chat/blocks/",
        name: "Chat Block List",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[
            Operation {
                verb: Verb::Get,
                id: "block_list",
                call: call!(blocks),
                about: About {
                    summary: "List the users that the caller blocks",
                    parameters: &[CURSOR],
                    fields: &[],
                    answers: &[(200, "Page<PublicUser>")],
                },
            },
            Operation {
                verb: Verb::Post,
                id: "block_add",
                call: call!(block),
                about: About {
                    summary: "Block a user: no pair, no invitation, no presence",
                    parameters: &[],
                    fields: &[USER_ID],
                    answers: &[
                        (204, "Done."),
                        (404, "There is no such user."),
                        (409, "Too many are blocked."),
                    ],
                },
            },
        ],
    },
    Route {
        path: "/chat/blocks/{user}/",
        name: "Chat Block Instance",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Delete,
            id: "block_remove",
            call: call!(unblock),
            about: About { summary: "End a block", parameters: &[], fields: &[], answers: &[(204, "Done.")] },
        }],
    },
];

/// Blocked users per page.
const BLOCKS_PAGE: usize = 100;

/// `GET chat/requests/`: a cursor is the number of requests before the page.
async fn list(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let from = start(&request)?.and_then(|from| usize::try_from(from).ok()).unwrap_or(0);
    let listed = async {
        let mut waiting = chat.chat.requests(request.caller.user_id).await?;
        let next = (waiting.len() > from.saturating_add(PAGE)).then(|| Cursor::Next((from + PAGE) as u64));
        let mut results = Vec::new();
        for waiting in waiting.drain(..).skip(from).take(PAGE) {
            results.push(waiting_json(&chat, &request, waiting).await?);
        }
        Ok((results, next))
    };
    let (results, next) = listed.await.map_err(|error| failure(&request, error, no_room))?;
    Ok(page(&request, next, None, &results))
}

/// A pair shows its newest message; of a group, only members see messages.
async fn waiting_json(
    chat: &Chat,
    request: &Request<Caller>,
    waiting: WaitingRequest,
) -> Result<Value, ChatError> {
    let mut files = Shown::to(&chat.files, request, request.caller);
    let WaitingRequest { request, summary } = waiting;
    let room = &summary.room;
    let mut newest = None;
    if room.kind == RoomKind::Pair {
        newest = chat.chat.messages_before(room.id, u64::MAX, 1).await?.messages.into_iter().next();
    }
    let mut people = People::default();
    let sender = newest.as_ref().map(|message| message.sender);
    files.load(newest.as_ref().and_then(|message| message.file)).await?;
    let shown = || sender.into_iter().chain([request.by]);
    people.load(&chat.chat, shown().collect()).await?;
    files.load_avatars(people.avatars(shown())).await?;
    Ok(json!({
        "room": room.id.0,
        "is_group": room.kind == RoomKind::Group,
        "name": room.name.as_deref().map(name_as_seen),
        "by": people.shown(request.by, &files),
        "members_count": room.members,
        "created_at": rest_format(request.at),
        "last_message": newest.as_ref().map(|message| preview(message, &people, &files)),
    }))
}

/// `POST chat/requests/{id}/accept/`: the room is one of the caller's from now on.
async fn accept(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let (room, user) = (path_room(&request)?, request.caller.user_id);
    ask(&chat, &request, user, room, RoomRequest::Accept).await?;
    show(&chat, &request, request.caller, room, StatusCode::OK).await
}

/// `POST chat/requests/{id}/decline/`.
async fn decline(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let (room, user) = (path_room(&request)?, request.caller.user_id);
    ask(&chat, &request, user, room, RoomRequest::Decline).await?;
    Ok(Reply::empty())
}

/// `GET chat/blocks/`: pages by user number.
async fn blocks(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let from = UserId(start(&request)?.unwrap_or(0));
    let listed = async {
        let mut blocks = chat.chat.blocks(request.caller.user_id, from, BLOCKS_PAGE + 1).await?;
        let next = blocks.get(BLOCKS_PAGE).map(|user| Cursor::Next(user.0));
        blocks.truncate(BLOCKS_PAGE);
        let mut people = People::default();
        people.load_strangers(&chat.chat, blocks.clone()).await?;
        Ok((people.list(blocks).into_iter().cloned().collect::<Vec<UserJson>>(), next))
    };
    let (results, next) = listed.await.map_err(|error| failure(&request, error, no_room))?;
    Ok(page(&request, next, None, &results))
}

/// `POST chat/blocks/`: blocks `user_id`; again is no error.
async fn block(chat: Arc<Chat>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let user = required_user(&mut fields)?;
    let blocked = async {
        chat.chat.block(caller.user_id, user).await?;
        chat.sockets.blocks_changed(caller.user_id).await
    };
    blocked.await.map_err(|error| failure(&context, error, no_room))?;
    Ok(Reply::empty())
}

/// `DELETE chat/blocks/{user}/`: ends a block; none is no error.
async fn unblock(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let (caller, user) = (request.caller.user_id, path_user(&request)?);
    let unblocked = async {
        chat.chat.unblock(caller, user).await?;
        chat.sockets.blocks_changed(caller).await
    };
    unblocked.await.map_err(|error| failure(&request, error, no_room))?;
    Ok(Reply::empty())
}
