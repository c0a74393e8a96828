//! `chat/chatrooms/{id}/members/...` and `.../bans/...`: who is in a room, with which rights, and who is kept out.

use chelseru_domain::chat::{Access, Action, Rights, RoomRequest};
use chelseru_domain::ids::UserId;
use http::StatusCode;
use serde_json::{Value, json};

use super::json::{People, member_json};
use super::room::{ask, show};
use super::{failure, named_user, no_room, path_room, path_user};
use crate::http::fields::Fields;
use crate::http::payment::{page, page_start};
use crate::http::reply::{Failure, Reply};
use crate::http::{Context, not_found};

/// Members on one page.
const PAGE: usize = 100;

/// `GET chat/chatrooms/{id}/members/`: pages by user number.
pub(crate) fn list(context: &Context) -> Result<Reply, Failure> {
    let (room, user) = (path_room(context)?, context.user()?.user_id);
    let from = page_start(context)?;
    let chat = &context.app.chat;
    let body = || {
        let facts = chat.check(room, user, Action::See)?;
        let mut members = chat.members_from(room, UserId(from.unwrap_or(0)), PAGE + 1)?;
        let next = members.get(PAGE).map(|member| member.user.0);
        members.truncate(PAGE);
        let mut people = People::default();
        people.load(chat, members.iter().map(|member| member.user))?;
        let owner = facts.room.owner;
        let results: Vec<Value> = members.iter().map(|member| member_json(member, owner, &people)).collect();
        Ok(page(context, next, &results))
    };
    let body = body().map_err(|error| failure(context, error, no_room))?;
    Ok(Reply::json(StatusCode::OK, &body))
}

/// `POST chat/chatrooms/{id}/members/`: adds `user_id`; 201, also when it was a member.
pub(crate) async fn add(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let room = path_room(&context)?;
    let user = required_user(&mut fields)?;
    ask(&context, room, RoomRequest::Add(user)).await?;
    show_member(&context, user, StatusCode::CREATED)
}

/// `GET chat/chatrooms/{id}/members/{user}/`.
pub(crate) fn get(context: &Context) -> Result<Reply, Failure> {
    let user = path_user(context, "members")?;
    show_member(context, user, StatusCode::OK)
}

/// `DELETE chat/chatrooms/{id}/members/{user}/`: takes a member out; oneself leaves.
pub(crate) async fn remove(context: Context) -> Result<Reply, Failure> {
    let (room, user) = (path_room(&context)?, path_user(&context, "members")?);
    ask(&context, room, RoomRequest::Remove(user)).await?;
    Ok(Reply::empty())
}

/// `POST chat/chatrooms/{id}/leave/`.
pub(crate) async fn leave(context: Context) -> Result<Reply, Failure> {
    let (room, user) = (path_room(&context)?, context.user()?.user_id);
    ask(&context, room, RoomRequest::Remove(user)).await?;
    Ok(Reply::empty())
}

/// `POST chat/chatrooms/{id}/members/{user}/grant/` and `.../revoke/`: `access`, a level or a list of them.
pub(crate) async fn grant(context: Context, mut fields: Fields, granted: bool) -> Result<Reply, Failure> {
    let (room, user) = (path_room(&context)?, path_user(&context, "members")?);
    let rights = access(&mut fields);
    fields.finish()?;
    let request = match granted {
        true => RoomRequest::Grant(user, rights),
        false => RoomRequest::Revoke(user, rights),
    };
    ask(&context, room, request).await?;
    show_member(&context, user, StatusCode::OK)
}

/// `GET chat/chatrooms/{id}/bans/`: pages by user number, for those who may ban.
pub(crate) fn bans(context: &Context) -> Result<Reply, Failure> {
    let (room, user) = (path_room(context)?, context.user()?.user_id);
    let from = page_start(context)?;
    let chat = &context.app.chat;
    let body = || {
        chat.check(room, user, Action::Unban)?;
        let mut bans = chat.bans_from(room, UserId(from.unwrap_or(0)), PAGE + 1)?;
        let next = bans.get(PAGE).map(|user| user.0);
        bans.truncate(PAGE);
        let mut people = People::default();
        people.load(chat, bans.iter().copied())?;
        let results: Vec<Value> = bans.iter().map(|user| json!(people.get(*user))).collect();
        Ok(page(context, next, &results))
    };
    let body = body().map_err(|error| failure(context, error, no_room))?;
    Ok(Reply::json(StatusCode::OK, &body))
}

/// `POST chat/chatrooms/{id}/bans/`: takes `user_id` out and keeps it out.
pub(crate) async fn ban(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let room = path_room(&context)?;
    let user = required_user(&mut fields)?;
    ask(&context, room, RoomRequest::Ban(user)).await?;
    show(&context, room, StatusCode::CREATED)
}

/// `DELETE chat/chatrooms/{id}/bans/{user}/`.
pub(crate) async fn unban(context: Context) -> Result<Reply, Failure> {
    let (room, user) = (path_room(&context)?, path_user(&context, "bans")?);
    ask(&context, room, RoomRequest::Unban(user)).await?;
    Ok(Reply::empty())
}

fn show_member(context: &Context, user: UserId, status: StatusCode) -> Result<Reply, Failure> {
    let (room, caller) = (path_room(context)?, context.user()?.user_id);
    let chat = &context.app.chat;
    let found = || {
        let owner = chat.check(room, caller, Action::See)?.room.owner;
        let member = chat.members_from(room, user, 1)?.into_iter().find(|member| member.user == user);
        let mut people = People::default();
        people.load(chat, [user])?;
        Ok(member.map(|member| member_json(&member, owner, &people)))
    };
    match found().map_err(|error| failure(context, error, no_room))? {
        Some(member) => Ok(Reply::json(status, &member)),
        None => Err(not_found()),
    }
}

fn required_user(fields: &mut Fields) -> Result<UserId, Failure> {
    let user = named_user(fields);
    fields.finish()?;
    user.ok_or_else(|| Failure::field("user_id", "This field is required."))
}

fn access(fields: &mut Fields) -> Rights {
    let level = |value: &Value| match value {
        Value::Number(number) => number.as_u64().and_then(Access::from_number),
        Value::String(text) => text.trim().parse().ok().and_then(Access::from_number),
        _ => None,
    };
    let levels: Option<Vec<Access>> = match fields.value("access") {
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
            let known: Vec<_> = Access::ALL
                .into_iter()
                .map(|access| json!({"access": access.number(), "name": format!("{access:?}")}).to_string())
                .collect();
            fields.refuse("access", format!("Must be one or a list of: {}.", known.join(", ")));
            Rights::NONE
        }
    }
}
