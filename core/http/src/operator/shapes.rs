//! Shapes of the answers to operators.

use serde_json::{Value, json};

use crate::openapi::shape::{list, maybe, maybe_time, object, text, time, truth, whole};

pub(crate) fn shapes() -> Value {
    json!({
        "AuditEvent": object(json!({
            "id": whole(), "created_at": time(), "event": text(), "user": maybe("integer"), "session": maybe("integer"),
            "ip_address": maybe("string"), "subject": text(), "detail": text(), "actor": maybe("integer"),
            "before": text(), "after": text(), "reason": text(),
        })),
        "OperatorSession": object(json!({"token": text(), "expires_at": time()})),
        "Ended": object(json!({"ended": whole()})),
        "Lifted": object(json!({"lifted": truth()})),
        "OperatorRoom": object(json!({
            "id": whole(), "kind": {"enum": ["pair", "group"]}, "name": maybe("string"), "owner": whole(),
            "status": {"enum": ["open", "on hold", "closed"]}, "members": whole(), "messages": whole(),
            "created_at": time(), "updated_at": time(),
        })),
        "InboxMessage": object(json!({
            "mobile_number": text(), "text": text(), "provider": text(), "created_at": text(),
        })),
        "ApiKey": object(json!({
            "id": whole(), "name": text(), "scope": text(), "daily_cap": maybe("integer"), "created_at": time(),
            "revoked_at": maybe_time(),
        })),
        "NewApiKey": object(json!({
            "id": whole(), "name": text(), "scope": text(), "daily_cap": maybe("integer"), "created_at": time(),
            "revoked_at": maybe_time(), "token": text(),
        })),
        "ResetToken": object(json!({"username": text(), "token": text(), "expires_at": time()})),
        "WebhookEvent": object(json!({
            "id": text(), "type": text(), "timestamp": time(), "data": {"type": "object"},
            "deliveries": list(object(json!({
                "endpoint": text(), "state": {"enum": ["pending", "delivered", "dead"]}, "attempts": whole(),
                "error": text(), "due_at": maybe_time(),
            }))),
        })),
        "Replayed": object(json!({"replayed": whole()})),
        "Copied": object(json!({"records": whole(), "files": whole()})),
        "Health": object(json!({"status": {"enum": [
            "ok", "degraded", "store_failed", "store_stalled", "storage_full", "stopping",
        ]}})),
    })
}
