//! Shapes of the answers of login.

use serde_json::{Value, json};

use crate::openapi::shape::{list, maybe, maybe_time, object, or_null, reference, text, time, truth, whole};

pub(crate) fn shapes() -> Value {
    json!({
        "PasswordChanged": object(json!({
            "details": text(), "ended": {"type": "integer", "description": "Sessions that ended with the old password."},
        })),
        "Ended": object(json!({"ended": {"type": "integer", "description": "Sessions that ended."}})),
        "Tokens": object(json!({"access": text(), "refresh": text()})),
        "KeySet": object(json!({"keys": list(json!({"type": "object", "description": "A JSON Web Key (RFC 7517)."}))})),
        "Registered": object(json!({"username": text(), "email": text()})),
        "Account": object(json!({
            "id": whole(), "username": text(), "mobile_number": maybe("string"), "group": whole(), "first_name": text(),
            "last_name": text(), "email": text(), "is_active": truth(), "is_staff": truth(), "is_superuser": truth(),
            "has_password": truth(), "date_joined": time(), "last_login": maybe_time(),
            "avatar_id": maybe("integer"),
            "avatar?": {"type": ["string", "null"], "description": "The address of the picture, for its owner."},
            "avatar_file?": or_null(reference("FileFacts")),
        })),
        "Session": object(json!({
            "id": whole(), "session_key": text(), "user_agent": text(), "ip_address": text(),
            "device_name": maybe("string"), "device": text(),
            "browser": text(), "platform": text(), "last_seen": time(), "created_at": time(), "user": whole(),
            "current": truth(),
        })),
    })
}
