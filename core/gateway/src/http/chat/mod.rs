//! `chat/...`: rooms, members, messages and organisations over plain requests.
//!
//! The shapes are the original's; who may do what is decided by the domain's matrix alone, and what was refused
//! becomes a status in one place, [`failure`]. A room that the caller is no member of answers as one that does not
//! exist. Reading order: `room`, `member`, `message`, `organization`, then `json` (the shapes).
//!
//! Not here: sockets (`crate::chat`), files (`super::file`), rules (`chelseru_domain::chat`).

pub(crate) mod json;
pub(crate) mod member;
pub(crate) mod message;
pub(crate) mod organization;
pub(crate) mod room;

use chelseru_domain::chat::{ChatError, Denied, RoomId};
use chelseru_domain::ids::UserId;
use http::StatusCode;
use serde_json::{Value, json};

use super::fields::Fields;
use super::payment::path_number;
use super::reply::{Failure, Reply};
use super::{Context, not_found};

/// `GET chat/`: where the two collections are.
pub(crate) fn root(context: &Context) -> Reply {
    let base = format!("{}{}/chat", context.origin(), context.app.limits.base_path);
    let body = json!({"chatrooms": format!("{base}/chatrooms/"), "messages": format!("{base}/messages/")});
    Reply::json(StatusCode::OK, &body)
}

/// The room of the path.
pub(super) fn path_room(context: &Context) -> Result<RoomId, Failure> {
    path_number(context, "chatrooms").map(RoomId).ok_or_else(not_found)
}

/// The user of the path, after the given word.
pub(super) fn path_user(context: &Context, word: &str) -> Result<UserId, Failure> {
    path_number(context, word).map(UserId).ok_or_else(not_found)
}

/// A whole number of a field: a JSON number or text of digits. `None` when it is absent or null; what is neither is
/// a field error.
pub(super) fn whole_number(fields: &mut Fields, name: &'static str) -> Option<u64> {
    let number = match fields.value(name)? {
        Value::Null => return None,
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    if number.is_none() {
        fields.refuse(name, "A valid integer is required.");
    }
    number
}

/// A user named in the body as `user_id`, or as `user` like in the original's own document.
pub(super) fn named_user(fields: &mut Fields) -> Option<UserId> {
    let user_id = whole_number(fields, "user_id");
    let user = whole_number(fields, "user");
    user_id.or(user).map(UserId)
}

/// 404 as for a room that is not among the caller's.
pub(super) fn no_room() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "room_missing", "No ChatRoom matches the given query.")
}

pub(super) fn no_message() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "message_missing", "No MessageChat matches the given query.")
}

pub(super) fn no_user() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "user_missing", "کاربر مورد نظر یافت نشد.")
}

/// What the caller learns of a refusal. `missing` says what is not there when the room is not, or is not the
/// caller's.
pub(in crate::http) fn failure(context: &Context, error: ChatError, missing: fn() -> Failure) -> Failure {
    match error {
        ChatError::RoomMissing => missing(),
        ChatError::MessageMissing => no_message(),
        ChatError::UserMissing => no_user(),
        ChatError::OrganizationMissing => Failure::field("organization", "There is no such organization."),
        ChatError::OrganizationHasRooms(_) => {
            Failure::detail(StatusCode::CONFLICT, "organization_has_rooms", sentence(&error))
        }
        ChatError::Denied(denied) => denied_failure(denied, missing),
        ChatError::Invalid { field, reason } => Failure::field(field, reason),
        ChatError::FileUnusable => {
            Failure::field("attach_id", "The file is not yours, not of this room, or already sent.")
        }
        ChatError::Full(_) => Failure::detail(StatusCode::CONFLICT, "limit_reached", sentence(&error)),
        ChatError::Busy => {
            Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "busy", sentence(&error)).retry_after(1)
        }
        ChatError::Store(cause) => {
            tracing::error!(request.id = %context.request_id, error = %cause, "chat could not use the store");
            Failure::internal()
        }
    }
}

fn denied_failure(denied: Denied, missing: fn() -> Failure) -> Failure {
    let status = match denied {
        Denied::NotMember => return missing(),
        Denied::TargetMissing => return no_user(),
        Denied::TargetNotMember => StatusCode::NOT_FOUND,
        Denied::TargetBanned | Denied::PairRoom | Denied::OwnerStays => StatusCode::CONFLICT,
        Denied::Banned
        | Denied::ReadOnly
        | Denied::NoRight
        | Denied::RoomClosed
        | Denied::RoomOnHold
        | Denied::OwnerProtected => StatusCode::FORBIDDEN,
    };
    // The words of frames.
    let (code, text) = crate::chat::refusal(&denied.into());
    Failure::detail(status, code, sentence(&text))
}

fn sentence(error: &dyn std::fmt::Display) -> String {
    super::auth::sentence(&error.to_string())
}
