//! Refusals of files, for the caller.

use chelseru_domain::chat::{ChatError, Denied, RoomId};
use http::StatusCode;

use super::store::FileError;
use crate::chat::failure;
use crate::reply::{Failure, sentence};
use crate::request::{Context, not_found};

/// [`failure`](failure::failure) of chat, for a room named by its file.
pub(crate) fn chat_failure(context: &Context, error: ChatError) -> Failure {
    failure::failure(context, error, not_found)
}

/// A file's name in an unknown or broken encoding.
pub(crate) fn unreadable_name() -> Failure {
    let text = "The file's name cannot be read: send it as UTF-8, as filename*, or as an encoded word.";
    Failure::detail(StatusCode::BAD_REQUEST, "file_name_unreadable", text)
}

pub(crate) fn no_room(room: RoomId) -> String {
    format!("Invalid pk \"{}\" - object does not exist.", room.0)
}

/// [`file_failure`] of an upload to a room that the uploader may not use.
pub(crate) fn upload_failure(context: &Context, error: FileError, room: RoomId) -> Failure {
    match error {
        FileError::Chat(ChatError::RoomMissing | ChatError::Denied(Denied::NotMember)) => {
            Failure::field("chatroom", no_room(room))
        }
        error => file_failure(context, error, "file"),
    }
}

/// Translates a refusal of a file for the caller.
pub(crate) fn file_failure(context: &Context, error: FileError, field: &'static str) -> Failure {
    let text = sentence(&error);
    let detail = |status, code| Failure::detail(status, code, text.clone());
    match error {
        FileError::Empty => Failure::field(field, "The submitted file is empty."),
        FileError::NotAPicture => Failure::field(field, text),
        FileError::TooLarge(_) => detail(StatusCode::PAYLOAD_TOO_LARGE, "file_too_large"),
        FileError::QuotaExceeded(_) => detail(StatusCode::PAYLOAD_TOO_LARGE, "quota_exceeded"),
        FileError::TotalExceeded(_) => {
            // Only the operator can resolve this.
            tracing::error!(request.id = %context.id, "files.total_bytes_max is used up");
            detail(StatusCode::INSUFFICIENT_STORAGE, "files_full")
        }
        FileError::InUse => detail(StatusCode::LOCKED, "upload_locked").retry_after(1),
        FileError::TooManyUploads { own: true } => {
            detail(StatusCode::TOO_MANY_REQUESTS, "too_many_uploads").retry_after(1)
        }
        FileError::TooManyUploads { own: false } => {
            detail(StatusCode::SERVICE_UNAVAILABLE, "too_many_uploads").retry_after(1)
        }
        FileError::NoDescriptor => {
            tracing::warn!(request.id = %context.id, "{text}");
            detail(StatusCode::SERVICE_UNAVAILABLE, "busy").retry_after(1)
        }
        FileError::TooManyResumable => detail(StatusCode::TOO_MANY_REQUESTS, "too_many_uploads"),
        FileError::Chat(error) => chat_failure(context, error),
        FileError::Away(reason) => {
            tracing::warn!(request.id = %context.id, %reason, "the store of files cannot be used");
            let text = "Files cannot be reached at the moment.";
            Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "files_away", text).retry_after(5)
        }
        FileError::Disk(error) if is_full(&error) => Failure::storage_full(),
        FileError::Disk(error) => {
            tracing::error!(request.id = %context.id, %error, "a file could not be written");
            Failure::internal()
        }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
