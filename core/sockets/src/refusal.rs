//! The codes and texts of refusals, for frames and for plain requests.

use chelseru_domain::chat::{ChatError, Denied};

/// The code and the text of a refusal. Users who may not see a room, and were not banned from it, learn that it is
/// missing.
pub fn refusal(error: &ChatError) -> (&'static str, String) {
    let code = match error {
        ChatError::RoomMissing | ChatError::Denied(Denied::NotMember) => {
            return ("room_missing", "there is no such room".into());
        }
        ChatError::MessageMissing => "message_missing",
        ChatError::UserMissing => "user_missing",
        ChatError::OrganizationMissing => "organization_missing",
        ChatError::OrganizationHasRooms(_) => "organization_has_rooms",
        ChatError::Denied(denied) => match denied {
            Denied::NotMember => "room_missing",
            Denied::Banned => "banned",
            Denied::ReadOnly => "read_only",
            Denied::NoRight => "no_right",
            Denied::RoomClosed => "room_closed",
            Denied::RoomOnHold => "room_on_hold",
            Denied::OwnerProtected => "owner_protected",
            Denied::TargetNotMember => "target_not_member",
            Denied::TargetBanned => "target_banned",
            Denied::TargetMissing => "target_missing",
            Denied::PairRoom => "pair_room",
            Denied::OwnerStays => "owner_stays",
            Denied::NotAccepted => "not_accepted",
            Denied::NoRequest => "no_request",
            Denied::Blocked => "blocked",
        },
        ChatError::Invalid { .. } => "invalid_fields",
        ChatError::DirectoryOff => "directory_off",
        ChatError::FileUnusable => "file_unusable",
        ChatError::Full(_) => "limit_reached",
        ChatError::Exhausted(_) => "allowance_used",
        ChatError::Busy => "busy",
        ChatError::StorageFull => "storage_full",
        ChatError::Store(error) => {
            tracing::error!(%error, "chat could not use the store");
            return ("internal_error", "an internal error occurred".into());
        }
    };
    (code, error.to_string())
}
