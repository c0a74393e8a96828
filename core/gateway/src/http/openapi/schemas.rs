//! Shapes of answers.
//!
//! Whatever a shape names is always there, except names that are written here with a question mark at their end. The
//! journeys hold every answer they get against these, and a field that is answered and not named fails them too.

use serde_json::{Map, Value, json};

/// All shapes by name.
pub(super) fn schemas() -> Value {
    let mut all = Map::new();
    for shapes in [common(), identity(), sms(), money(), chat(), operators()] {
        let Value::Object(shapes) = shapes else { continue };
        all.extend(shapes);
    }
    all.into()
}

fn common() -> Value {
    json!({
        "Error": {
            "type": "object",
            "description": "One of detail, details and error says what is wrong, for people. Some failures say more.",
            "properties": {
                "detail": text(), "error": text(), "details": {"type": ["string", "object"]},
                "code": {"type": "string", "description": "Stable, for programs; also X-Error-Code."},
                "request_id": {"type": "string", "description": "Also X-Request-Id; the log has it."},
            },
            "required": ["code", "request_id"],
            "additionalProperties": true,
        },
        "FieldErrors": {
            "type": "object",
            "additionalProperties": list(text()),
            "description": "Field names and what is wrong with each; the code is in X-Error-Code.",
        },
        "Refusal": {
            "anyOf": [reference("FieldErrors"), reference("Error"), list(text())],
            "description": "Field errors; or a body that cannot be read; or one sentence in a list.",
        },
        "Empty": object(json!({})),
        "Details": object(json!({"details": text()})),
        "Any": {"type": "object"},
    })
}

fn identity() -> Value {
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
        })),
        "PublicUser": object(json!({"id": whole(), "username": text(), "first_name": text(), "last_name": text()})),
        "Session": object(json!({
            "id": whole(), "session_key": text(), "user_agent": text(), "ip_address": text(), "device": text(),
            "browser": text(), "platform": text(), "last_seen": time(), "created_at": time(), "user": whole(),
            "current": truth(),
        })),
        "AuditEvent": object(json!({
            "id": whole(), "created_at": time(), "event": text(), "user": maybe("integer"), "session": maybe("integer"),
            "ip_address": maybe("string"), "subject": text(), "detail": text(),
        })),
    })
}

fn sms() -> Value {
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
        "InboxMessage": object(json!({
            "mobile_number": text(), "text": text(), "provider": text(), "created_at": text(),
        })),
    })
}

fn money() -> Value {
    let unit = || json!({"enum": ["IRT", "IRR"]});
    let state =
        || json!({"enum": ["created", "pending", "paid", "failed", "cancelled", "expired", "refunded"]});
    json!({
        "Amount": {
            "type": ["number", "string"],
            "description": "In the unit of `currency`, exactly; text where a JSON number would not be exact everywhere.",
        },
        "PaymentStarted": object(json!({"details": object(json!({
            "id": whole(), "currency": unit(), "amount": reference("Amount"), "gateway_title": text(),
            "gateway_url": {"type": "string", "description": "Where to send the payer."},
            "gateway_method": {"enum": ["GET", "POST"]},
            "gateway_fields": list(object(json!({"name": text(), "value": text()}))),
            "callback_url": text(), "authority": text(), "status_code": {"const": 100}, "message": text(),
            "data": object(json!({"authority": text(), "code": {"const": 100}, "message": text()})),
        }))})),
        "PaymentResult": object(json!({"details": object(json!({
            "is_pay": {"enum": [0, 1]}, "status_code": maybe_name(), "message": text(), "card_hash": maybe("string"),
            "card_pan": maybe("string"), "ref_id": maybe_name(),
            "data_verify": or_null(object(json!({
                "code": maybe_name(), "message": text(), "card_hash": text(), "card_pan": text(), "ref_id": maybe_name(),
                "fee": {"type": ["integer", "null"], "description": "In rial."},
            }))),
            "id": whole(), "state": state(), "amount": reference("Amount"), "currency": unit(),
            "paid_at": maybe_time(),
        }))})),
        "Payment": object(json!({
            "id": whole(), "user": whole(), "state": state(), "reason": text(), "amount": reference("Amount"),
            "currency": unit(), "amount_rial": whole(), "refunded": reference("Amount"),
            "pay_mode": {"enum": [1, 2], "description": "1 charges the wallet, 2 only pays."},
            "order_id": text(), "description": text(), "gateway_title": text(), "authority": maybe("string"),
            "ref_id": maybe_name(), "card_pan": maybe("string"), "created_at": time(), "paid_at": maybe_time(),
            "ended_at": maybe_time(), "reversal": or_null(reference("Reversal")),
        })),
        "Reversal": object(json!({
            "state": {"enum": ["open", "done", "refused"]}, "reason": maybe("string"),
            "asked": {"type": "integer", "description": "How often the gateway was asked."}, "updated_at": time(),
        })),
        "Refunded": object(json!({
            "refund": object(json!({
                "number": whole(), "amount": reference("Amount"), "currency": unit(),
                "to": {"enum": ["gateway", "wallet", "reverse"]}, "created_at": time(),
            })),
            "payment": reference("Payment"),
        })),
        "Wallet": object(json!({
            "user": whole(), "balance": reference("Amount"), "held": reference("Amount"), "currency": unit(),
            "balance_rial": whole(),
        })),
        "WalletEntry": object(json!({
            "id": whole(), "kind": text(), "subject": maybe("string"), "direction": {"enum": ["in", "out"]},
            "amount": reference("Amount"), "balance": reference("Amount"), "currency": unit(), "created_at": time(),
        })),
        "Spend": object(json!({
            "id": whole(), "user": whole(), "state": {"enum": ["held", "captured", "voided"]},
            "amount": reference("Amount"), "captured": reference("Amount"), "balance_after": reference("Amount"),
            "currency": unit(), "order_id": text(), "description": text(), "created_at": time(), "ended_at": maybe_time(),
        })),
    })
}

fn chat() -> Value {
    let user = || reference("PublicUser");
    json!({
        "ChatAddresses": object(json!({"chatrooms": text(), "messages": text()})),
        "Organization": object(json!({
            "id": whole(), "name": text(), "uname": text(), "created_at": time(), "owner": whole(),
        })),
        "RoomStatus": {"enum": [1, 2, 3], "description": "1 open, 2 closed, 3 on hold."},
        "Room": object(json!({
            "id": whole(), "user_1": or_null(user()), "user_2": or_null(user()),
            "users": {"type": "array", "items": user(), "description": "The first 100 members, or 20 in a list of rooms."},
            "unread_count": whole(), "status": reference("RoomStatus"), "name": maybe("string"),
            "descriptions": maybe("string"), "updated_at": time(), "created_at": time(),
            "organization": or_null(reference("Organization")),
            "pinned_for": {"type": "array", "items": user(), "description": "The caller, when they pinned it."},
            "permissions": {
                "type": "array",
                "items": object(json!({"id": whole(), "access": whole(), "user": list(whole())})),
                "description": "Who has a level of access beyond what members start with.",
            },
            "banneds": list(user()), "is_group": truth(), "owner": whole(), "members_count": whole(),
            "last_seq": whole(), "read_seq": whole(), "avatar": maybe("string"),
            "my_access": list(whole()),
        })),
        "RoomReference": object(json!({
            "id": whole(), "status": reference("RoomStatus"), "name": maybe("string"), "descriptions": maybe("string"),
            "updated_at": time(), "created_at": time(), "user_1": maybe("integer"), "user_2": maybe("integer"),
            "organization": maybe("integer"), "users": list(whole()), "pinned_for": list(whole()),
            "permissions": list(whole()), "banneds": list(whole()),
        })),
        "ReadMarker": object(json!({"read_seq": whole(), "last_seq": whole(), "unread_count": whole()})),
        "Member": object(json!({
            "user": or_null(user()), "access": list(whole()), "is_owner": truth(), "is_admin": truth(), "read_seq": whole(),
            "joined_at": time(),
        })),
        "ChatMessage": object(json!({
            "id": whole(), "sender": or_null(user()), "file_url": maybe("string"),
            "message_type": {"enum": ["text", "image", "file", "location"]}, "text": text(), "timestamp": time(),
            "lat": maybe("number"), "lng": maybe("number"), "created_at": time(),
            "chat_room": reference("RoomReference"), "read_by": list(user()),
            "seq": {"type": "integer", "description": "The message's number in its room, from 1 without gaps."},
            "client_id": maybe("string"), "edited_at": maybe_time(), "file_id": maybe("integer"),
        })),
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

fn operators() -> Value {
    json!({
        "ApiKey": object(json!({
            "id": whole(), "name": text(), "scope": text(), "daily_cap": maybe("integer"), "created_at": time(),
            "revoked_at": maybe_time(),
        })),
        "NewApiKey": object(json!({
            "id": whole(), "name": text(), "scope": text(), "daily_cap": maybe("integer"), "created_at": time(),
            "revoked_at": maybe_time(), "token": text(),
        })),
        "WebhookEvent": object(json!({
            "id": text(), "type": text(), "timestamp": time(), "data": {"type": "object"},
            "deliveries": list(object(json!({
                "endpoint": text(), "state": {"enum": ["pending", "delivered", "dead"]}, "attempts": whole(),
                "error": text(), "due_at": maybe_time(),
            }))),
        })),
        "Replayed": object(json!({"replayed": whole()})),
        "Copied": object(json!({"records": whole(), "files": whole()})),
        "Health": object(json!({"status": {"enum": ["ok", "store_failed"]}})),
    })
}

fn text() -> Value {
    json!({"type": "string"})
}

fn whole() -> Value {
    json!({"type": "integer"})
}

fn truth() -> Value {
    json!({"type": "boolean"})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn maybe_time() -> Value {
    json!({"type": ["string", "null"], "format": "date-time"})
}

fn maybe(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

/// As a provider names something: a number where all of its names are numbers.
fn name() -> Value {
    json!({"type": ["integer", "string"]})
}

fn maybe_name() -> Value {
    json!({"type": ["integer", "string", "null"]})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn or_null(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// An object that has all of these, but those whose names end in a question mark not always.
fn object(properties: Value) -> Value {
    let Value::Object(properties) = properties else { return Value::Null };
    let required: Vec<&String> = properties.keys().filter(|name| !name.ends_with('?')).collect();
    let required = json!(required);
    let properties: Map<String, Value> = properties
        .into_iter()
        .map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema))
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The schema of a shape by its name, and a sentence about it; see [`super::operations::About`].
pub(super) fn shape(name: &str) -> (Value, String) {
    if name.contains('|') {
        let (shapes, sentences): (Vec<Value>, Vec<String>) = name.split('|').map(shape).unzip();
        return (json!({"anyOf": shapes}), sentences.join(" Or: "));
    }
    let inner = |open: &str, close: &str| name.strip_prefix(open)?.strip_suffix(close);
    if let Some(item) = inner("Page<", ">") {
        let page = object(json!({
            "next": {"type": ["string", "null"], "description": "Address of the next page."},
            "previous": {"type": ["string", "null"], "description": "Address of the page before."},
            "results": list(reference(item)),
        }));
        return (page, format!("A page of {item}."));
    }
    if let Some(item) = inner("Results<", ">") {
        return (object(json!({"results": list(reference(item))})), format!("Each {item}, under results."));
    }
    match name.strip_suffix("[]") {
        Some(item) => (list(reference(item)), format!("A list of {item}.")),
        None => (reference(name), format!("{name}.")),
    }
}
