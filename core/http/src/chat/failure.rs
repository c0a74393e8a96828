//! Status codes of chat refusals.

use chelseru_domain::chat::{ChatError, Denied};
use chelseru_sockets::refusal;
use http::StatusCode;

use crate::reply::{Failure, sentence};
use crate::request::Context;

/// 404 for a room that is missing or not the caller's.
pub(crate) fn no_room() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "room_missing", "No ChatRoom matches the given query.")
}

pub(crate) fn no_message() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "message_missing", "No MessageChat matches the given query.")
}

pub(crate) fn no_user() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "user_missing", "کاربر مورد نظر یافت نشد.")
}

/// Translates a refusal for the caller. `missing` is the answer for a room that does not exist or that the caller may
/// not see.
pub(crate) fn failure(context: &Context, error: ChatError, missing: fn() -> Failure) -> Failure {
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
        ChatError::DirectoryOff => Failure::detail(StatusCode::FORBIDDEN, "directory_off", sentence(&error)),
        ChatError::FileUnusable => {
            Failure::field("attach_id", "The file is not yours, not of this room, or already sent.")
        }
        ChatError::Full(_) => Failure::detail(StatusCode::CONFLICT, "limit_reached", sentence(&error)),
        ChatError::Exhausted(exhausted) => {
            Failure::detail(StatusCode::TOO_MANY_REQUESTS, "allowance_used", sentence(&error))
                .exhausted(exhausted)
        }
        ChatError::Busy => {
            Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "busy", sentence(&error)).retry_after(1)
        }
        ChatError::StorageFull => Failure::storage_full(),
        ChatError::Store(cause) => {
            tracing::error!(request.id = %context.id, error = %cause, "chat could not use the store");
            Failure::internal()
        }
    }
}

fn denied_failure(denied: Denied, missing: fn() -> Failure) -> Failure {
    let status = match denied {
        Denied::NotMember => return missing(),
        Denied::TargetMissing => return no_user(),
        Denied::TargetNotMember | Denied::NoRequest => StatusCode::NOT_FOUND,
        Denied::TargetBanned | Denied::PairRoom | Denied::OwnerStays => StatusCode::CONFLICT,
        Denied::Banned
        | Denied::ReadOnly
        | Denied::NoRight
        | Denied::NotAccepted
        | Denied::Blocked
        | Denied::RoomClosed
        | Denied::RoomOnHold
        | Denied::OwnerProtected => StatusCode::FORBIDDEN,
    };
    // The codes are those of frames.
    let (code, text) = refusal(&denied.into());
    Failure::detail(status, code, sentence(&text))
}
