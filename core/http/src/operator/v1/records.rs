//! `operator/v1/messages/...` and `operator/v1/rooms/...`.

use std::sync::Arc;

use chelseru_domain::PhoneNumber;
use chelseru_domain::chat::{ChatError, Organization, OrganizationId, RoomId, RoomKind, RoomStatus};
use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::UserId;
use chelseru_domain::operator::desk::{
    ListedRoom, MessageQuery, OrganizationAct, ResendError, RoomAct, RoomQuery, status_name,
};
use chelseru_domain::operator::role::{MessageRead, MessageResend, RoomChange, RoomRead, UserRead};
use chelseru_domain::sms::queue::SubmitError;
use chelseru_domain::sms::{SmsFilter, SmsOrder, SmsRange, SmsRecord, SmsStatus, holding};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Filters, NO_ROLE, NO_TOKEN, PAGE, WHY, act, failed, read, reason, route};
use crate::console::Console;
use crate::fields::Fields;
use crate::page::{CURSOR, Cursor, page, start};
use crate::reply::{Failure, Reply, sentence};
use crate::request::{ByOperator, Context, Request, not_found, number};
use crate::route::{Answer, Field, Is, Route, call};
use crate::sms::json::{STATUSES, message_shown};

const MESSAGE: &[(u16, &str)] = &[(200, "Message"), (401, NO_TOKEN), (403, NO_ROLE)];
const LISTED: &str = "An invalid cursor.";

pub(crate) const ROUTES: &[Route] = &[
    route(
        "/operator/v1/messages/",
        "Operator Message List",
        &[read(
            "operator_message_list",
            "Find messages, newest first",
            &[
                CURSOR,
                Field("mobile_number", Is::MayText, "Only to this number."),
                Field("status", Is::MayText, "Only in this state."),
                Field("provider", Is::MayText, "Only by this provider."),
                Field(
                    "text",
                    Is::MayText,
                    "Words that the text or the values of a template hold; codes have none.",
                ),
                Field("from", Is::MayText, "Made on this day or later: 2026-11-26 or 1405/09/05."),
                Field("until", Is::MayText, "Made before this day."),
            ],
            &[(200, "Page<Message>"), (401, NO_TOKEN), (403, NO_ROLE), (404, LISTED)],
            call!(messages),
        )],
    ),
    route(
        "/operator/v1/messages/{id}/",
        "Operator Message",
        &[read("operator_message", "Show a message with every try", &[], MESSAGE, call!(message))],
    ),
    route(
        "/operator/v1/messages/{id}/again/",
        "Operator Message Again",
        &[act(
            "operator_message_again",
            "Send a notice once more, as a new message",
            &[WHY],
            &[
                (200, "Message"),
                (401, NO_TOKEN),
                (403, NO_ROLE),
                (409, "A one-time code, or the message is still being sent."),
                (503, "The queue or the disk is full."),
            ],
            call!(again),
        )],
    ),
    route(
        "/operator/v1/rooms/",
        "Operator Room List",
        &[read(
            "operator_room_list",
            "Find rooms, newest first",
            &[
                CURSOR,
                Field("name", Is::MayText, "A part of the name."),
                Field("member", Is::MayText, "With this member: a number, a name or an account number."),
                Field("status", Is::MayText, "open, hold or closed."),
            ],
            &[(200, "Page<OperatorRoom>"), (401, NO_TOKEN), (403, NO_ROLE), (404, LISTED)],
            call!(rooms),
        )],
    ),
    route(
        "/operator/v1/rooms/{id}/change/",
        "Operator Room Change",
        &[act(
            "operator_room_change",
            "Open or close a room, remove, ban or unban a user, delete a message or the room",
            &[
                WHY,
                Field("act", Is::Text, "open, hold, close, remove, ban, unban, delete_message or delete."),
                Field("user", Is::MayInteger, "Whom to remove, ban or unban."),
                Field("seq", Is::MayInteger, "The message to delete."),
            ],
            &[
                (204, "Changed."),
                (401, NO_TOKEN),
                (403, NO_ROLE),
                (409, "The room does not allow it, such as removing its owner."),
            ],
            call!(change),
        )],
    ),
    route(
        "/operator/v1/organizations/",
        "Operator Organization List",
        &[read(
            "operator_organization_list",
            "Find organisations, newest first",
            &[
                CURSOR,
                Field("name", Is::MayText, "A part of either name."),
                Field("owner", Is::MayText, "Of this owner: a number, a name or an account number."),
            ],
            &[(200, "Page<OperatorOrganization>"), (401, NO_TOKEN), (403, NO_ROLE), (404, LISTED)],
            call!(organizations),
        )],
    ),
    route(
        "/operator/v1/organizations/{id}/change/",
        "Operator Organization Change",
        &[act(
            "operator_organization_change",
            "Rename an organisation, or remove one without rooms",
            &[
                WHY,
                Field("act", Is::Text, "rename or remove."),
                Field("name", Is::MayText, "The new name."),
                Field("uname", Is::MayText, "The new unique name."),
            ],
            &[(204, "Changed."), (401, NO_TOKEN), (403, NO_ROLE), (409, "It has rooms.")],
            call!(organization_change),
        )],
    ),
];

async fn messages(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<MessageRead>(&request).await?;
    let mut filters = Filters::new(&request);
    let typed = filters.text("mobile_number");
    let to = typed.as_deref().and_then(|typed| PhoneNumber::parse(typed).ok());
    if to.is_none() && typed.is_some() {
        filters.refuse("mobile_number", "A mobile number is required.");
    }
    let statuses: Vec<(&str, SmsStatus)> = STATUSES.iter().map(|(status, word)| (*word, *status)).collect();
    let filter = SmsFilter {
        number: to.map(|to| to.e164().to_owned()),
        status: filters.one_of("status", &statuses),
        provider: filters.text("provider"),
        owner: None,
        text: filters.text("text").as_deref().and_then(holding),
    };
    // Ids are microseconds, so times are a range of ids.
    let from = filters.day("from").map_or(0, |from| from.as_micros());
    let until = filters.day("until").map_or(u64::MAX, |until| until.as_micros());
    filters.finish()?;
    let to = start(&request)?.map_or(until, |before| until.min(before)).max(from);
    let query = MessageQuery { filter, range: SmsRange { from, to, order: SmsOrder::NewestFirst } };
    let found = console.desk.messages(&permit, &query, PAGE).await;
    let found = found.map_err(|error| failed(&request, &error))?;
    let full = found.messages.len() == PAGE;
    let next = if full { found.messages.last().map(|last| last.id) } else { found.stopped_at };
    let results: Vec<Value> = found.messages.iter().map(shown).collect();
    Ok(page(&request, next.map(Cursor::Next), None, &results))
}

/// Ids of providers are texts here.
fn shown(message: &SmsRecord) -> Value {
    message_shown(message, false)
}

async fn message(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let id = request.id("id")?;
    one_message(&console, &request, id).await
}

async fn one_message(console: &Console, context: &Context, id: u64) -> Answer {
    let permit = console.allow::<MessageRead>(context).await?;
    let found = console.desk.message(&permit, id).await.map_err(|error| failed(context, &error))?;
    Ok(Reply::json(StatusCode::OK, &shown(&found.ok_or_else(not_found)?)))
}

async fn again(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<MessageResend>(&context).await?;
    let (id, reason) = (context.id("id")?, reason(&mut fields)?);
    match console.desk.message_resend(&permit, id, &reason).await {
        Ok(id) => one_message(&console, &context, id).await,
        Err(ResendError::Missing) => Err(not_found()),
        Err(error @ (ResendError::Code | ResendError::Running)) => {
            Err(Failure::detail(StatusCode::CONFLICT, "message_not_sent_again", sentence(&error)))
        }
        Err(ResendError::Submit(SubmitError::Full | SubmitError::StorageFull)) => Err(Failure::store_busy()),
        Err(error) => Err(failed(&context, &error)),
    }
}

const ROOM_STATUSES: [(&str, RoomStatus); 3] =
    [("open", RoomStatus::Open), ("hold", RoomStatus::Hold), ("closed", RoomStatus::Closed)];

async fn rooms(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<RoomRead>(&request).await?;
    let users = console.allow::<UserRead>(&request).await?;
    let mut filters = Filters::new(&request);
    let query = RoomQuery {
        name: filters.text("name").unwrap_or_default(),
        member: filters.user(&console, &users, "member").await?,
        status: filters.one_of("status", &ROOM_STATUSES),
        organization: None,
    };
    filters.finish()?;
    let looked = console.desk.rooms(&permit, &query, start(&request)?, PAGE).await;
    let looked = looked.map_err(|error| failed(&request, &error))?;
    let results: Vec<Value> = looked.found.iter().map(room_json).collect();
    Ok(page(&request, looked.next.map(Cursor::Next), None, &results))
}

fn room_json((room, newest): &ListedRoom) -> Value {
    json!({
        "id": room.id.0,
        "kind": if room.kind == RoomKind::Pair { "pair" } else { "group" },
        "name": room.name,
        "owner": room.owner.0,
        "status": status_name(room.status),
        "members": room.members,
        "messages": newest,
        "created_at": rest_format(room.created_at),
        "updated_at": rest_format(room.updated_at),
    })
}

async fn change(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<RoomChange>(&context).await?;
    let room = RoomId(context.id("id")?);
    let word = fields.required("act", super::NAME);
    let word = fields.all(word)?;
    let whole = |name: &'static str| {
        let found = fields.number_text(name).as_deref().and_then(number);
        found.ok_or_else(|| Failure::field(name, "A valid integer is required."))
    };
    let act = match word.as_str() {
        "open" => RoomAct::Status(RoomStatus::Open),
        "hold" => RoomAct::Status(RoomStatus::Hold),
        "close" => RoomAct::Status(RoomStatus::Closed),
        "remove" => RoomAct::Remove(UserId(whole("user")?)),
        "ban" => RoomAct::Ban(UserId(whole("user")?)),
        "unban" => RoomAct::Unban(UserId(whole("user")?)),
        "delete_message" => RoomAct::DeleteMessage(whole("seq")?),
        "delete" => RoomAct::Delete,
        _ => return Err(Failure::field("act", "Must be one of the acts.")),
    };
    let reason = reason(&mut fields)?;
    match console.desk.room_act(&permit, room, act, &reason).await {
        Ok(()) => Ok(Reply::empty()),
        Err(ChatError::RoomMissing | ChatError::MessageMissing) => Err(not_found()),
        Err(error @ (ChatError::Denied(_) | ChatError::Full(_))) => {
            Err(Failure::detail(StatusCode::CONFLICT, "room_refuses", sentence(&error)))
        }
        Err(error) => Err(failed(&context, &error)),
    }
}

async fn organizations(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<RoomRead>(&request).await?;
    let users = console.allow::<UserRead>(&request).await?;
    let mut filters = Filters::new(&request);
    let name = filters.text("name").unwrap_or_default();
    let owner = filters.user(&console, &users, "owner").await?;
    filters.finish()?;
    let looked = console.desk.organizations(&permit, &name, owner, start(&request)?, PAGE).await;
    let looked = looked.map_err(|error| failed(&request, &error))?;
    let one = |one: &Organization| {
        json!({
            "id": one.id.0, "name": one.name, "uname": one.uname, "owner": one.owner.0,
            "created_at": rest_format(one.created_at),
        })
    };
    let results: Vec<Value> = looked.found.iter().map(one).collect();
    Ok(page(&request, looked.next.map(Cursor::Next), None, &results))
}

async fn organization_change(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<RoomChange>(&context).await?;
    let id = OrganizationId(context.id("id")?);
    let word = fields.required("act", super::NAME);
    let act = match fields.all(word)?.as_str() {
        "rename" => {
            let name = fields.required("name", super::NAME);
            let uname = fields.required("uname", super::NAME);
            let (name, uname) = fields.all((name, uname))?;
            OrganizationAct::Rename { name, uname }
        }
        "remove" => OrganizationAct::Remove,
        _ => return Err(Failure::field("act", "Must be rename or remove.")),
    };
    let reason = reason(&mut fields)?;
    match console.desk.organization_act(&permit, id, act, &reason).await {
        Ok(()) => Ok(Reply::empty()),
        Err(ChatError::OrganizationMissing) => Err(not_found()),
        Err(ChatError::Invalid { field, reason }) => Err(Failure::field(field, reason)),
        Err(error @ ChatError::OrganizationHasRooms(_)) => {
            Err(Failure::detail(StatusCode::CONFLICT, "organization_refuses", sentence(&error)))
        }
        Err(error) => Err(failed(&context, &error)),
    }
}
