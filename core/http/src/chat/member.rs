//! `chat/chatrooms/{id}/members/...` and `.../bans/...`: members, their rights, and bans.

use std::sync::Arc;

use chelseru_domain::chat::{Access as Level, Action, ChatError, Member, Rights, RoomId, RoomRequest};
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::Caller;
use http::StatusCode;
use serde_json::{Value, json};

use super::Chat;
use super::failure::{failure, no_room};
use super::input::{USER_ID, named_user, path_room, path_user};
use super::json::{People, UserJson, member_json};
use super::room::{ask, show};
use crate::fields::Fields;
use crate::files::shown::Shown;
use crate::page::{CURSOR, Cursor, page, start};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/chat/chatrooms/{id}/leave/",
        name: "Chat Room Leave",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "room_leave",
            call: call!(leave),
            about: About {
                summary: "Leave a room",
                parameters: &[],
                fields: &[],
                answers: &[(204, "Done.")],
            },
        }],
    },
    Route {
        path: "/chat/chatrooms/{id}/members/",
        name: "Member List",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[
            Operation {
                verb: Verb::Get,
                id: "member_list",
                call: call!(list),
                about: About {
                    summary: "List the members of a room",
                    parameters: &[CURSOR],
                    fields: &[],
                    answers: &[(200, "Page<Member>")],
                },
            },
            Operation {
                verb: Verb::Post,
                id: "member_add",
                call: call!(add),
                about: About {
                    summary: "Add a member",
                    parameters: &[],
                    fields: &[USER_ID],
                    answers: &[(201, "Member"), (403, "A right is missing.")],
                },
            },
        ],
    },
    Route {
        path: "/chat/chatrooms/{id}/members/{user}/",
        name: "Member Instance",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[
            Operation {
                verb: Verb::Get,
                id: "member_get",
                call: call!(get),
                about: About {
                    summary: "Get a member",
                    parameters: &[],
                    fields: &[],
                    answers: &[(200, "Member")],
                },
            },
            Operation {
                verb: Verb::Delete,
                id: "member_remove",
                call: call!(remove),
                about: About {
                    summary: "Remove a member",
                    parameters: &[],
                    fields: &[],
                    answers: &[(204, "Done."), (403, "A right is missing.")],
                },
            },
        ],
    },
    Route {
        path: "/chat/chatrooms/{id}/members/{user}/grant/",
        name: "Member Grant",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "member_grant",
            call: call!(grant),
            about: About {
                summary: "Grant levels of access",
                parameters: &[],
                fields: &[Field("access", Is::MayList, "A number from 1 to 13, or several.")],
                answers: &[(200, "Member"), (403, "A right is missing.")],
            },
        }],
    },
    Route {
        path: "/chat/chatrooms/{id}/members/{user}/revoke/",
        name: "Member Revoke",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "member_revoke",
            call: call!(revoke),
            about: About {
                summary: "Revoke levels of access",
                parameters: &[],
                fields: &[Field("access", Is::MayList, "A number from 1 to 13, or several.")],
                answers: &[(200, "Member"), (403, "A right is missing.")],
            },
        }],
    },
    Route {
        path: "/chat/chatrooms/{id}/bans/",
        name: "Ban List",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[
            Operation {
                verb: Verb::Get,
                id: "ban_list",
                call: call!(bans),
                about: About {
                    summary: "List users banned from a room",
                    parameters: &[CURSOR],
                    fields: &[],
                    answers: &[(200, "Page<PublicUser>"), (403, "A right is missing.")],
                },
            },
            Operation {
                verb: Verb::Post,
                id: "ban_add",
                call: call!(ban),
                about: About {
                    summary: "Ban a user",
                    parameters: &[],
                    fields: &[USER_ID],
                    answers: &[(201, "Room"), (403, "A right is missing.")],
                },
            },
        ],
    },
    Route {
        path: "/chat/chatrooms/{id}/bans/{user}/",
        name: "Ban Instance",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Delete,
            id: "ban_remove",
            call: call!(unban),
            about: About {
                summary: "End a ban",
                parameters: &[],
                fields: &[],
                answers: &[(204, "Done."), (403, "A right is missing.")],
            },
        }],
    },
];

/// Members per page.
const PAGE: usize = 100;

/// `GET chat/chatrooms/{id}/members/`: pages by user number.
async fn list(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let from = UserId(start(&request)?.unwrap_or(0));
    let room = path_room(&request)?;
    let found = members(&chat, &request, request.caller, room, from).await;
    let (results, next) = found.map_err(|error| failure(&request, error, no_room))?;
    Ok(page(&request, next, None, &results))
}

async fn members(
    chat: &Chat,
    context: &Context,
    reader: Caller,
    room: RoomId,
    from: UserId,
) -> Result<(Vec<Value>, Option<Cursor>), ChatError> {
    let owner = chat.chat.check(room, reader.user_id, Action::See).await?.room.owner;
    let mut members = chat.chat.members_from(room, from, PAGE + 1).await?;
    let next = members.get(PAGE).map(|member| Cursor::Next(member.user.0));
    members.truncate(PAGE);
    let mut people = People::default();
    let (asked, known): (Vec<&Member>, Vec<&Member>) = members.iter().partition(|member| member.pending);
    people.load(&chat.chat, known.iter().map(|member| member.user).collect()).await?;
    people.load_strangers(&chat.chat, asked.iter().map(|member| member.user).collect()).await?;
    let mut files = Shown::to(&chat.files, context, reader);
    files.load_avatars(people.avatars(members.iter().map(|member| member.user))).await?;
    Ok((members.iter().map(|member| member_json(member, owner, &people, &files)).collect(), next))
}

/// `POST chat/chatrooms/{id}/members/`: adds `user_id`; 201, even for a present member.
async fn add(chat: Arc<Chat>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let room = path_room(&context)?;
    let user = required_user(&mut fields)?;
    ask(&chat, &context, caller.user_id, room, RoomRequest::Add(user)).await?;
    show_member(&chat, &context, &caller, user, StatusCode::CREATED).await
}

/// `GET chat/chatrooms/{id}/members/{user}/`.
async fn get(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    show_member(&chat, &request, &request.caller, path_user(&request)?, StatusCode::OK).await
}

/// `DELETE chat/chatrooms/{id}/members/{user}/`: removes a member, or leaves the room.
async fn remove(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let (room, user) = (path_room(&request)?, path_user(&request)?);
    ask(&chat, &request, request.caller.user_id, room, RoomRequest::Remove(user)).await?;
    Ok(Reply::empty())
}

/// `POST chat/chatrooms/{id}/leave/`.
async fn leave(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let (room, user) = (path_room(&request)?, request.caller.user_id);
    ask(&chat, &request, user, room, RoomRequest::Remove(user)).await?;
    Ok(Reply::empty())
}

/// `POST chat/chatrooms/{id}/members/{user}/grant/`: `access`, a level or a list of them.
async fn grant(chat: Arc<Chat>, request: Request<Caller, Fields>) -> Answer {
    change_rights(&chat, request, RoomRequest::Grant).await
}

/// `POST chat/chatrooms/{id}/members/{user}/revoke/`: the same.
async fn revoke(chat: Arc<Chat>, request: Request<Caller, Fields>) -> Answer {
    change_rights(&chat, request, RoomRequest::Revoke).await
}

async fn change_rights(
    chat: &Chat,
    request: Request<Caller, Fields>,
    change: fn(UserId, Rights) -> RoomRequest,
) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let (room, user) = (path_room(&context)?, path_user(&context)?);
    let rights = access(&mut fields);
    fields.finish()?;
    ask(chat, &context, caller.user_id, room, change(user, rights)).await?;
    show_member(chat, &context, &caller, user, StatusCode::OK).await
}

/// `GET chat/chatrooms/{id}/bans/`: pages by user number, for those who may ban.
async fn bans(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let from = UserId(start(&request)?.unwrap_or(0));
    let room = path_room(&request)?;
    let found = banned(&chat, request.caller.user_id, room, from).await;
    let (results, next) = found.map_err(|error| failure(&request, error, no_room))?;
    Ok(page(&request, next, None, &results))
}

async fn banned(
    chat: &Chat,
    user: UserId,
    room: RoomId,
    from: UserId,
) -> Result<(Vec<UserJson>, Option<Cursor>), ChatError> {
    chat.chat.check(room, user, Action::Unban).await?;
    let mut bans = chat.chat.bans_from(room, from, PAGE + 1).await?;
    let next = bans.get(PAGE).map(|user| Cursor::Next(user.0));
    bans.truncate(PAGE);
    let mut people = People::default();
    people.load_strangers(&chat.chat, bans.to_vec()).await?;
    Ok((people.list(bans).into_iter().cloned().collect(), next))
}

/// `POST chat/chatrooms/{id}/bans/`: removes `user_id` and bans it.
async fn ban(chat: Arc<Chat>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let room = path_room(&context)?;
    let user = required_user(&mut fields)?;
    ask(&chat, &context, caller.user_id, room, RoomRequest::Ban(user)).await?;
    blocks_changed(&chat, &context, caller.user_id).await?;
    show(&chat, &context, caller, room, StatusCode::CREATED).await
}

/// `DELETE chat/chatrooms/{id}/bans/{user}/`.
async fn unban(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let (room, user) = (path_room(&request)?, path_user(&request)?);
    ask(&chat, &request, request.caller.user_id, room, RoomRequest::Unban(user)).await?;
    blocks_changed(&chat, &request, request.caller.user_id).await?;
    Ok(Reply::empty())
}

/// A ban within a pair is a block, too.
async fn blocks_changed(chat: &Chat, context: &Context, user: UserId) -> Result<(), Failure> {
    chat.sockets.blocks_changed(user).await.map_err(|error| failure(context, error, no_room))
}

async fn show_member(
    chat: &Chat,
    context: &Context,
    caller: &Caller,
    user: UserId,
    status: StatusCode,
) -> Answer {
    let room = path_room(context)?;
    let found = async {
        let owner = chat.chat.check(room, caller.user_id, Action::See).await?.room.owner;
        let mut members = chat.chat.members_from(room, user, 1).await?.into_iter();
        let mut people = People::default();
        let member = members.find(|member| member.user == user);
        match member.is_some_and(|member| !member.pending) {
            true => people.load(&chat.chat, vec![user]).await?,
            false => people.load_strangers(&chat.chat, vec![user]).await?,
        }
        let mut files = Shown::to(&chat.files, context, *caller);
        files.load_avatars(people.avatars([user])).await?;
        Ok(member.map(|member| member_json(&member, owner, &people, &files)))
    };
    match found.await.map_err(|error| failure(context, error, no_room))? {
        Some(member) => Ok(Reply::json(status, &member)),
        None => Err(not_found()),
    }
}

pub(super) fn required_user(fields: &mut Fields) -> Result<UserId, Failure> {
    let user = named_user(fields);
    fields.finish()?;
    user.ok_or_else(|| Failure::field("user_id", "This field is required."))
}

fn access(fields: &mut Fields) -> Rights {
    let level = |value: &Value| match value {
        Value::Number(number) => number.as_u64().and_then(Level::from_number),
        Value::String(text) => text.trim().parse().ok().and_then(Level::from_number),
        _ => None,
    };
    let levels: Option<Vec<Level>> = match fields.value("access") {
        None => {
            fields.refuse("access", "This field is required.");
            return Rights::NONE;
        }
        Some(Value::Array(levels)) => levels.iter().map(level).collect(),
        Some(value) => level(value).map(|level| vec![level]),
    };
    match levels {
        Some(levels) if !levels.is_empty() => Rights::of(&levels),
        _ => {
            let known: Vec<_> = Level::ALL
                .into_iter()
                .map(|access| json!({"access": access.number(), "name": format!("{access:?}")}).to_string())
                .collect();
            fields.refuse("access", format!("Must be one or a list of: {}.", known.join(", ")));
            Rights::NONE
        }
    }
}
