//! The shape of a file in replies.

use chelseru_domain::chat::StoredFile;
use chelseru_domain::clock::rest_format;
use chelseru_domain::text::name_as_seen;
use serde_json::{Value, json};

/// A file in replies: the original's fields, plus ours.
pub(crate) fn file_json(file: &StoredFile) -> Value {
    json!({
        "id": file.id.0,
        "file": file.path(),
        "chatroom": file.room.map(|room| room.0),
        "text": file.text,
        "created_at": rest_format(file.created_at),
        "name": name_as_seen(&file.title),
        "content_type": file.content_type,
        "size": file.bytes,
        "width": file.picture.map(|picture| picture.width),
        "height": file.picture.map(|picture| picture.height),
    })
}
