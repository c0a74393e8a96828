//! Shapes of the answers of chat.

use serde_json::{Value, json};

use crate::openapi::shape::{
    list, maybe, maybe_time, message_kind, object, or_null, reference, text, time, truth, whole,
};

pub(crate) fn shapes() -> Value {
    let user = || reference("PublicUser");
    json!({
        "PublicUser": object(json!({
            "id": whole(), "username": text(), "first_name": text(), "last_name": text(),
            "avatar?": {
                "type": "string",
                "description": "The address of the picture. Both keys are missing without one, in `read_by` and \
                    `banneds`, in lists of bans and blocks, and among the `users` of a group in a list of rooms.",
            },
            "avatar_file?": reference("FileFacts"),
        })),
        "Avatar": object(json!({"avatar": text(), "avatar_file": reference("FileFacts")})),
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
            "avatar_file": or_null(reference("FileFacts")),
            "pending": {"type": "boolean", "description": "The caller has not accepted the room."},
            "my_access": list(whole()), "last_message": or_null(reference("MessagePreview")),
        })),
        "MessagePreview": object(json!({
            "id": whole(), "seq": whole(), "sender": or_null(user()),
            "message_type": message_kind(),
            "text": {"type": "string", "description": "The first 200 characters."},
            "file_id": maybe("integer"), "file": or_null(reference("FileFacts")), "created_at": time(),
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
            "pending": {"type": "boolean", "description": "Asked, and has not accepted yet. Names are hidden."},
            "joined_at": time(),
        })),
        "ChatRequest": object(json!({
            "room": whole(), "is_group": truth(), "name": maybe("string"), "by": or_null(user()),
            "members_count": whole(), "created_at": time(), "last_message": or_null(reference("MessagePreview")),
        })),
        "FoundUsers": object(json!({"results": list(user())})),
        "FoundContacts": object(json!({
            "results": list(object(json!({"mobile_number": text(), "user": user()}))),
        })),
        "ChatMessage": object(json!({
            "id": whole(), "sender": or_null(user()), "file_url": maybe("string"),
            "message_type": message_kind(), "text": text(), "timestamp": time(),
            "lat": maybe("number"), "lng": maybe("number"), "created_at": time(),
            "chat_room": reference("RoomReference"), "read_by": list(user()),
            "seq": {"type": "integer", "description": "The message's number in its room, from 1 without gaps."},
            "client_id": maybe("string"), "edited_at": maybe_time(), "file_id": maybe("integer"),
            "file": or_null(reference("FileFacts")),
        })),
    })
}
