//! Shapes of the answers to operators.

use serde_json::{Value, json};

use crate::openapi::shape::{list, maybe, maybe_time, object, reference, text, time, truth, whole};

pub(crate) fn shapes() -> Value {
    let mut all = of_operators();
    let of_acts = of_acts();
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), of_acts) {
        all.extend(more);
    }
    all
}

fn of_operators() -> Value {
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
            "ok", "degraded", "store_failed", "store_stalled", "store_away", "storage_full", "stopping",
        ]}})),
    })
}

/// What `operator/v1/` answers about money that people decide about, webhooks and the house.
fn of_acts() -> Value {
    json!({
        "OperatorOrganization": object(json!({
            "id": whole(), "name": text(), "uname": text(), "owner": whole(), "created_at": time(),
        })),
        "OperatorFile": object(json!({
            "id": whole(), "title": text(), "content_type": text(), "bytes": whole(), "user": whole(),
            "room": maybe("integer"), "message": maybe("integer"), "avatar": truth(), "created_at": time(),
        })),
        "WaitingCorrection": object(json!({
            "id": text(), "user": whole(), "direction": {"enum": ["in", "out"]}, "amount": reference("Amount"),
            "currency": {"enum": ["IRT", "IRR"]}, "reason": text(), "asked_by": whole(), "created_at": time(),
            "expires_at": time(),
        })),
        "LedgerCheck": {
            "type": "object", "required": ["state"],
            "properties": {
                "state": {"enum": ["never", "running", "verified", "failed"]}, "since": time(),
                "phase": {"enum": ["copying", "reading", "recomputing"]}, "copied_bytes": whole(),
                "ended_at": time(), "seconds": whole(), "problem": text(), "postings": whole(),
                "accounts": whole(), "payments": whole(), "users_total_rial": whole(), "head": text(),
            },
        },
        "WebhookEndpoint": object(json!({
            "name": text(), "configured": truth(), "paused": truth(), "paused_at": maybe_time(),
            "paused_by": maybe("integer"), "reason": text(),
        })),
        "Finding": object(json!({
            "check": text(), "state": {"enum": ["ok", "warning", "bad"]}, "what": text(), "cure": text(),
        })),
        "OperatorAccount": object(json!({
            "user": whole(), "username": text(), "role": maybe("string"), "factor_since": maybe_time(),
            "sessions": whole(),
        })),
        "OperatorProviders": object(json!({
            "order": list(text()), "providers": list(json!({"type": "object"})), "settings": {"type": "object"},
        })),
        "OperatorComponent": object(json!({
            "name": text(), "bytes": whole(), "used_by": list(text()), "has_before": truth(),
        })),
        "OperatorDigest": object(json!({"blake3": text()})),
        "OperatorMessageId": object(json!({"id": whole()})),
        "OperatorConfig": object(json!({
            "file": text(), "text": maybe("string"), "mark": text(), "generation": whole(),
            "refused": maybe("string"), "restart_keys": list(text()),
        })),
        "OperatorConfigChecked": object(json!({"restart_keys": list(text()), "warnings": list(text())})),
        "OperatorBackup": object(json!({
            "folder": text(), "created_at": time(), "detail": text(), "actor": maybe("integer"),
        })),
        "OperatorBackupVerified": object(json!({"files": whole(), "bytes": whole()})),
    })
}
