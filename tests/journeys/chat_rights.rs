//! Permissions of frames: every role on every frame, on open sockets.

use chelseru_domain::chat::{Access, Rights, RoomEdit, RoomId, RoomRequest, RoomStatus};
use chelseru_domain::ids::UserId;
use chelseru_tests::socket::Socket;
use serde_json::{Value, json};

use crate::chat_socket::Chat;

/// Roles in the room, by user number.
const ROLES: [(u64, &str); 6] =
    [(1, "owner"), (2, "admin"), (3, "member"), (4, "read only"), (5, "banned"), (6, "outsider")];

/// The outcome of a frame: `ok` or an error code. In the order of [`ROLES`].
type Row = (&'static str, [&'static str; 6]);

const OPEN: &[Row] = &[
    ("subscribe", ["ok", "ok", "ok", "ok", "banned", "room_missing"]),
    ("publish", ["ok", "ok", "ok", "read_only", "banned", "room_missing"]),
    ("file", ["file_unusable", "file_unusable", "file_unusable", "read_only", "banned", "room_missing"]),
    ("signal", ["ok", "ok", "ok", "read_only", "banned", "room_missing"]),
    ("typing", ["ok", "ok", "ok", "read_only", "banned", "room_missing"]),
    ("delivered", ["ok", "ok", "ok", "ok", "banned", "room_missing"]),
    ("read", ["ok", "ok", "ok", "ok", "banned", "room_missing"]),
    ("edit own", ["ok", "ok", "ok", "read_only", "banned", "room_missing"]),
    ("edit another's", ["no_right", "no_right", "no_right", "read_only", "banned", "room_missing"]),
    ("delete another's", ["ok", "ok", "no_right", "read_only", "banned", "room_missing"]),
    ("delete own", ["ok", "ok", "ok", "read_only", "banned", "room_missing"]),
    ("unsubscribe", ["ok", "ok", "ok", "ok", "ok", "ok"]),
];

const CLOSED: &[Row] = &[
    ("subscribe", ["room_closed", "room_closed", "room_closed", "room_closed", "banned", "room_missing"]),
    ("publish", ["room_closed", "room_closed", "room_closed", "read_only", "banned", "room_missing"]),
    ("signal", ["room_closed", "room_closed", "room_closed", "read_only", "banned", "room_missing"]),
    ("typing", ["room_closed", "room_closed", "room_closed", "read_only", "banned", "room_missing"]),
    ("read", ["ok", "ok", "ok", "ok", "banned", "room_missing"]),
];

const HOLD: &[Row] = &[
    ("publish", ["ok", "ok", "room_on_hold", "read_only", "banned", "room_missing"]),
    ("signal", ["ok", "ok", "room_on_hold", "read_only", "banned", "room_missing"]),
    ("typing", ["ok", "ok", "room_on_hold", "read_only", "banned", "room_missing"]),
];

struct World {
    chat: Chat,
    room: RoomId,
}

impl World {
    async fn start() -> World {
        let chat = Chat::start("[chat]\nframes_per_second_max = 1000\n", 7).await;
        let room = chat.group(1, 2..=5).await;
        chat.change(room, 1, RoomRequest::Add(UserId(7))).await;
        // Each of them posts while allowed.
        for user in [1, 2, 3, 4, 5] {
            chat.post(room, user, "own").await;
        }
        chat.change(room, 1, RoomRequest::Grant(UserId(2), Rights::owner())).await;
        chat.change(room, 1, RoomRequest::Grant(UserId(4), Rights::of(&[Access::ReadOnly]))).await;
        chat.change(room, 1, RoomRequest::Ban(UserId(5))).await;
        World { chat, room }
    }

    /// The outcome of one frame on a user's open socket.
    async fn outcome(&self, socket: &mut Socket, user: u64, name: &str) -> String {
        let seq = match name {
            "edit own" | "delete own" => user,
            // The outsider has no message of its own; each try gets a new one of user 7.
            _ => self.chat.post_if_open(self.room, 7).await,
        };
        let frame = match name {
            "publish" => json!({"type": "publish", "message": "hello"}),
            "file" => {
                json!({"type": "publish", "message": "stolen", "message_type": "file", "attach_id": 999})
            }
            "signal" => json!({"type": "publish", "message_type": "webrtc_signal", "sdp": "v=0"}),
            "edit own" | "edit another's" => json!({"type": "edit", "seq": seq, "message": "changed"}),
            "delete own" | "delete another's" => json!({"type": "delete", "seq": seq}),
            "delivered" | "read" => json!({"type": name, "seq": 1}),
            other => json!({"type": other}),
        };
        let mut frame: Value = frame;
        (frame["room"], frame["ref"]) = (json!(self.room.0), json!(name));
        socket.send(&frame).await;
        // A frame that is neither stored nor answered is checked by the frame behind it.
        let at_once = matches!(name, "signal" | "typing" | "delivered");
        if at_once {
            socket.send(&json!({"type": "ping", "ref": name})).await;
        }
        loop {
            let answer = socket.json().await;
            if answer["ref"] == name {
                return match answer["type"].as_str() {
                    Some("error") => answer["code"].as_str().unwrap_or("").to_owned(),
                    _ => "ok".to_owned(),
                };
            }
        }
    }

    async fn check(&self, table: &[Row]) {
        for (at, (user, role)) in ROLES.iter().enumerate() {
            let (mut socket, _) = self.chat.open_all(*user).await;
            for (name, expected) in table {
                let outcome = self.outcome(&mut socket, *user, name).await;
                assert_eq!(outcome, expected[at], "{role}: {name}");
            }
        }
    }

    async fn set_status(&self, status: RoomStatus) {
        let edit = RoomEdit { status: Some(status), ..RoomEdit::default() };
        self.chat.change(self.room, 1, RoomRequest::Edit(edit)).await;
    }
}

impl Chat {
    /// A message of a user, or the room's first when the room refuses messages.
    async fn post_if_open(&self, room: RoomId, user: u64) -> u64 {
        let facts = self.gateway.app.chat.check(room, UserId(user), chelseru_domain::chat::Action::Post);
        if facts.await.is_ok() { self.post(room, user, "another's").await } else { 1 }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_may_send_what_the_matrix_says() {
    let world = World::start().await;
    world.check(OPEN).await;
    // A user who may not see the room cannot open its socket.
    for (user, role) in ROLES {
        let opened = world.chat.try_open(world.room, user, "").await;
        let status = opened.map_or_else(|refusal| refusal.status, |_| 101);
        assert_eq!(status, if user < 5 { 101 } else { 403 }, "{role}");
    }
    world.set_status(RoomStatus::Hold).await;
    world.check(HOLD).await;
    world.set_status(RoomStatus::Closed).await;
    world.check(CLOSED).await;
    for (user, role) in ROLES {
        assert_eq!(world.chat.try_open(world.room, user, "").await.err().expect(role).status, 403);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_rights_acts_on_open_sockets_at_once() {
    let chat = Chat::start("", 5).await;
    let room = chat.group(1, 2..=5).await;
    let mut owner = chat.open_extended(room, 1).await;

    // Read only, live; and back.
    let mut two = chat.open_extended(room, 2).await;
    let read_only = Rights::of(&[Access::ReadOnly]);
    chat.change(room, 1, RoomRequest::Grant(UserId(2), read_only)).await;
    assert_eq!(two.json_of("rights").await["access"], json!([1, 2]));
    two.send(&json!({"message": "no"})).await;
    assert_eq!(two.json_of("error").await["code"], "read_only");
    chat.change(room, 1, RoomRequest::Revoke(UserId(2), read_only)).await;
    two.send(&json!({"message": "yes"})).await;
    assert_eq!(owner.json_of("chat_message").await["message"], "yes");

    // Removed from the room: the socket closes with the matching code, and nothing follows.
    type Cause = (u64, u64, fn(UserId) -> RoomRequest, u16);
    let causes: [Cause; 3] = [
        (3, 1, RoomRequest::Remove, 4412),
        (4, 1, RoomRequest::Ban, 4413),
        (5, 5, RoomRequest::Remove, 4416),
    ];
    for (user, actor, request, code) in causes {
        let (mut original, mut extended) =
            (chat.open(room, user).await, chat.open_extended(room, user).await);
        chat.change(room, actor, request(UserId(user))).await;
        chat.post(room, 1, "not for you").await;
        for socket in [&mut original, &mut extended] {
            loop {
                match socket.event().await {
                    chelseru_tests::socket::Event::Text(text) => {
                        assert!(!text.contains("not for you"), "{text}")
                    }
                    chelseru_tests::socket::Event::Close(closed, _) => {
                        assert_eq!(closed, code);
                        break;
                    }
                    _ => {}
                }
            }
        }
        let status = chat.try_open(room, user, "").await.err().expect("refused").status;
        assert_eq!(status, 403);
    }
}
