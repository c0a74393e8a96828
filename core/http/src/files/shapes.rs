//! Shapes of the answers about files.

use serde_json::{Value, json};

use crate::openapi::shape::{maybe, object, or_null, reference, text, time, whole};

pub(crate) fn shapes() -> Value {
    json!({
        "Upload": object(json!({
            "id": text(), "offset": whole(), "length": whole(), "expires_at": time(),
            "file": or_null(reference("UploadedFile")),
        })),
        "UploadedFile": object(json!({
            "id": whole(), "file": text(), "chatroom": whole(), "text": maybe("string"), "created_at": time(),
            "name": text(), "content_type": text(), "size": whole(),
            "link?": {"type": "string", "description": "Opens the file without a token, for a few minutes."},
            "link_expires_at?": time(),
        })),
    })
}
