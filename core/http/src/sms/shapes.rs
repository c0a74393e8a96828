//! Shapes of the answers of SMS.

use serde_json::{Value, json};

use crate::openapi::shape::{list, maybe, maybe_name, name, object, reference, text, time, whole};

pub(crate) fn shapes() -> Value {
    let state = || {
        json!({"enum": ["queued", "sending", "accepted", "delivered", "failed", "unknown", "expired"],
            "description": "Ends as one of accepted, delivered, failed, unknown (never sent again) and expired."})
    };
    json!({
        "SentMessage": object(json!({
            "id": whole(), "status": state(), "tried": list(reference("Tried")), "details": text(),
            "receiver": text(), "message": maybe("string"), "messageid?": name(), "provider": text(),
        })),
        "StoredMessage": object(json!({
            "id": whole(), "status": state(), "tried": list(reference("Tried")), "details": text(),
            "receiver": text(), "message": maybe("string"),
        })),
        "Tried": object(json!({
            "provider": text(), "reason": {"type": "string", "description": "A stable word, as insufficient_credit."},
        })),
        "MessagePlan": object(json!({
            "details": text(), "dry_run": {"const": true}, "receiver": text(), "message": text(),
            "template": maybe("string"), "encoding": {"enum": ["GSM-7", "UCS-2"]}, "characters": whole(),
            "parts": {"type": "integer", "description": "By the ladder of Iranian operators; what is paid for."},
            "ladder": {"enum": ["persian", "latin"]},
            "standard": object(json!({"units": whole(), "parts": whole()})),
            "warnings": list(text()),
        })),
        "Message": object(json!({
            "id": whole(), "receiver": text(), "message": maybe("string"), "template": maybe("string"),
            "class": {"enum": ["otp", "notice"]}, "status": state(), "provider": text(),
            "messageid": maybe_name(), "error": text(), "tried": list(reference("Tried")), "cost_rial": maybe("integer"),
            "created_at": time(), "updated_at": time(),
        })),
    })
}
