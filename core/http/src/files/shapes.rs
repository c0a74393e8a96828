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
            "id": whole(), "file": text(), "chatroom": maybe("integer"), "text": maybe("string"), "created_at": time(),
            "name": text(), "content_type": text(), "size": whole(), "width": maybe("integer"),
            "height": maybe("integer"),
            "link?": {"type": "string", "description": "Opens the file without a token, for a few minutes."},
            "link_expires_at?": time(), "thumbnail?": or_null(reference("Thumbnail")),
        })),
        "FileFacts": object(json!({
            "id": whole(), "name": text(), "content_type": text(), "size": whole(),
            "width": {"type": ["integer", "null"], "description": "Pixels; null for a file that is no picture."},
            "height": maybe("integer"),
            "link": {"type": "string", "description": "Opens the file without a token, for this reader."},
            "link_expires_at?": time(),
            "thumbnail": or_null(reference("Thumbnail")),
        })),
        "Thumbnail": object(json!({
            "link": {"type": "string", "description": "A JPEG of at most 320 by 320 pixels."},
            "size": whole(), "width": whole(), "height": whole(),
        })),
    })
}
