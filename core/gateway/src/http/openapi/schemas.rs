//! Shapes that several answers share.

use serde_json::{Value, json};

pub(super) fn schemas() -> Value {
    let text = || json!({"type": "string"});
    let whole = || json!({"type": "integer"});
    let time = || json!({"type": "string", "format": "date-time"});
    let maybe = |kind: &str| json!({"type": [kind, "null"]});
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let user = || json!({"$ref": "#/components/schemas/PublicUser"});
    json!({
        "Error": object(json!({
            "detail": text(), "details": text(), "error": text(),
            "code": {"type": "string", "description": "Stable, for programs; also X-Error-Code."},
            "request_id": text(),
        })),
        "FieldErrors": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": text()},
            "description": "Field names and what is wrong with each; the code is in X-Error-Code.",
        },
        "Details": object(json!({"details": text()})),
        "Tokens": object(json!({"access": text(), "refresh": text()})),
        "Registered": object(json!({"username": text(), "email": text()})),
        "Page": object(json!({
            "next": maybe("string"), "previous": maybe("string"), "results": {"type": "array", "items": {"type": "object"}},
        })),
        "Account": object(json!({
            "id": whole(), "username": text(), "mobile_number": text(), "group": whole(), "first_name": text(), "last_name": text(),
            "email": text(), "is_staff": {"type": "boolean"}, "is_superuser": {"type": "boolean"},
            "is_active": {"type": "boolean"}, "has_password": {"type": "boolean"}, "date_joined": time(), "last_login": maybe("string"),
        })),
        "PublicUser": object(json!({"id": whole(), "username": text(), "first_name": text(), "last_name": text()})),
        "Session": object(json!({
            "id": whole(), "session_key": text(), "user_agent": text(), "ip_address": text(), "device": text(),
            "browser": text(), "platform": text(), "last_seen": time(), "created_at": time(), "user": whole(),
            "current": {"type": "boolean"},
        })),
        "SentMessage": object(json!({
            "details": text(), "receiver": text(), "message": text(), "messageid": {"type": ["integer", "string"]},
            "id": whole(), "status": text(), "provider": maybe("string"),
        })),
        "PaymentStarted": object(json!({"details": object(json!({
            "id": whole(), "authority": text(), "gateway_title": text(), "gateway_url": text(), "callback_url": text(),
            "currency": text(), "amount": {"type": "number"}, "status_code": whole(), "message": text(),
        }))})),
        "PaymentResult": object(json!({"details": object(json!({
            "is_pay": {"enum": [0, 1]}, "status_code": whole(), "message": text(), "card_hash": text(), "card_pan": text(),
            "ref_id": text(),
        }))})),
        "Payment": object(json!({
            "id": whole(), "state": {"enum": ["created", "pending", "paid", "failed", "cancelled", "expired", "refunded"]},
            "amount": {"type": ["number", "string"]}, "currency": {"enum": ["IRT", "IRR"]}, "amount_rial": whole(),
            "refunded": {"type": ["number", "string"]}, "order_id": text(), "ended_at": maybe("string"),
            "reversal": json!({"anyOf": [object(json!({
                "state": {"enum": ["open", "done", "refused"]}, "reason": maybe("string"), "asked": whole(), "updated_at": time(),
            })), {"type": "null"}]}),
        })),
        "Refunded": object(json!({
            "refund": object(json!({
                "number": whole(), "amount": {"type": ["number", "string"]}, "currency": text(), "to": {"enum": ["gateway", "wallet", "reverse"]},
                "created_at": time(),
            })),
            "payment": reference("Payment"),
        })),
        "Wallet": object(json!({
            "user": whole(), "balance_rial": whole(), "balance": {"type": ["number", "string"]}, "held": {"type": ["number", "string"]}, "currency": {"enum": ["IRT", "IRR"]},
        })),
        "Spend": object(json!({
            "id": whole(), "state": {"enum": ["held", "captured", "voided"]}, "amount": {"type": ["number", "string"]},
            "currency": {"enum": ["IRT", "IRR"]}, "order_id": text(),
        })),
        "Organization": object(json!({
            "id": whole(), "name": text(), "uname": text(), "created_at": time(), "owner": whole(),
        })),
        "Room": object(json!({
            "id": whole(), "user_1": {"anyOf": [user(), {"type": "null"}]}, "user_2": {"anyOf": [user(), {"type": "null"}]},
            "users": {"type": "array", "items": user()}, "unread_count": whole(), "status": text(), "name": maybe("string"),
            "descriptions": maybe("string"), "updated_at": time(), "created_at": time(),
            "organization": {"anyOf": [reference("Organization"), {"type": "null"}]},
            "pinned_for": {"type": "array", "items": user()}, "permissions": {"type": "array", "items": {"type": "object"}},
            "banneds": {"type": "array", "items": user()}, "is_group": {"type": "boolean"}, "owner": whole(),
            "members_count": whole(), "last_seq": whole(), "read_seq": whole(),
        })),
        "Member": object(json!({
            "user": user(), "access": {"type": "array", "items": whole()}, "is_owner": {"type": "boolean"},
            "is_admin": {"type": "boolean"}, "read_seq": whole(), "joined_at": time(),
        })),
        "ChatMessage": object(json!({
            "id": whole(), "seq": whole(), "sender": user(), "text": text(),
            "message_type": {"enum": ["text", "image", "file", "location"]}, "file_url": maybe("string"),
            "lat": maybe("number"), "lng": maybe("number"), "timestamp": time(), "created_at": time(),
            "edited_at": maybe("string"), "client_id": maybe("string"), "read_by": {"type": "array", "items": user()},
        })),
        "UploadedFile": object(json!({
            "id": whole(), "file": text(), "chatroom": whole(), "text": maybe("string"), "created_at": time(),
            "name": text(), "content_type": text(), "size": whole(), "link": text(),
        })),
    })
}
