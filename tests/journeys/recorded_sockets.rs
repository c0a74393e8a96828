//! Replays the recorded sockets of the original and compares this gateway's frames one by one.
//!
//! `contract/websocket.json` holds the recordings. [`DIFFERENCES`] lists scenarios that intentionally end
//! differently, by the number of the original's defect. A recorded scenario that is neither equal nor listed fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::chat::{RoomId, RoomRequest};
use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_domain::ids::UserId;
use chelseru_tests::root;
use chelseru_tests::socket::{Event, Refusal, Socket, frame};
use serde_json::{Value, json};

use crate::chat_socket::Chat;

/// A different ending of a recorded scenario: a defect's number and the replacement.
enum Instead {
    /// An error frame with this code instead of the close; the socket stays open.
    Error(u8, &'static str),
    /// A different status of the handshake.
    Status(u8, u16),
    /// Closed with this code when the scenario's event occurs.
    Close(u8, u16),
}

const DIFFERENCES: &[(&str, Instead)] = &[
    ("null_message", Instead::Error(26, "invalid_fields")),
    ("file_message_foreign_attachment", Instead::Error(6, "file_unusable")),
    ("file_message_unknown_attachment", Instead::Error(26, "file_unusable")),
    ("malformed_json", Instead::Error(26, "invalid_json")),
    ("json_array", Instead::Error(26, "not_an_object")),
    ("json_string", Instead::Error(26, "not_an_object")),
    ("json_null", Instead::Error(26, "not_an_object")),
    ("empty_text", Instead::Error(26, "invalid_json")),
    ("binary_frame", Instead::Error(26, "binary_frame")),
    ("lat_is_text", Instead::Error(26, "invalid_fields")),
    ("uvicorn.malformed_json", Instead::Error(26, "invalid_json")),
    ("pg.message_type_longer_than_10", Instead::Error(26, "invalid_fields")),
    ("pg.nul_character", Instead::Error(26, "invalid_fields")),
    ("reject.nonexistent_room", Instead::Status(26, 404)),
    ("reject.room_id_not_a_number", Instead::Status(26, 404)),
    ("reject.no_trailing_slash", Instead::Status(26, 404)),
    ("reject.without_prefix", Instead::Status(26, 404)),
    ("reject.unknown_path", Instead::Status(26, 404)),
    ("reject.huge_room_id", Instead::Status(26, 404)),
    ("uvicorn.reject.nonexistent_room", Instead::Status(26, 404)),
    ("uvicorn.reject.unknown_path", Instead::Status(26, 404)),
    ("package_route_plain", Instead::Status(26, 404)),
    // The original accepted the token in addresses only.
    ("token_in_authorization_header_is_ignored", Instead::Status(32, 101)),
    ("banned_user_in_closed_room", Instead::Status(5, 403)),
    ("removed_member_keeps_receiving", Instead::Close(5, 4413)),
    ("room_deleted_while_connected", Instead::Close(5, 4415)),
];

/// Recorded under another base path or library, or measured elsewhere: the ping interval is a setting.
const NOT_REPLAYED: [&str; 3] =
    ["package_route_under_drfchelseru", "fresh_install.idle_connection_dies", "server_ping_interval"];

/// Goes on after the token has expired, as its session has not.
const EXPIRES: &str = "token_expires_while_connected";

/// Kinds of messages that the original accepted and this gateway refuses, by defect 26: unknown and endless ones.
fn is_refused_here(sent: &Value) -> bool {
    sent["message_type"] == "video-call-invite" || sent["message"] == "<70000 x>"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_sockets_are_replayed_with_differences_by_defect() {
    let file = std::fs::read_to_string(root().join("tests/contract/websocket.json")).expect("the recordings");
    let recorded: Vec<Value> = serde_json::from_str(&file).expect("JSON");
    let mut replayed = Vec::new();
    // One gateway for scenarios without side effects, and one for each that moves time or ends its room.
    let shared = Replay::start().await;
    for scenario in &recorded {
        let name = scenario["name"].as_str().expect("a name");
        if NOT_REPLAYED.contains(&name) {
            continue;
        }
        let instead = DIFFERENCES.iter().find(|(listed, _)| *listed == name).map(|(_, instead)| instead);
        match instead {
            Some(Instead::Close(..)) => Replay::start().await.run(scenario, instead).await,
            _ if name == EXPIRES => Replay::start().await.run(scenario, instead).await,
            Some(Instead::Status(5, _)) => {
                let replay = Replay::start().await;
                replay.chat.change(replay.room, 2, RoomRequest::Ban(UserId(1))).await;
                replay.run(scenario, instead).await;
            }
            _ => shared.run(scenario, instead).await,
        }
        replayed.push(name);
    }
    let unused: Vec<_> =
        DIFFERENCES.iter().filter(|(name, _)| !replayed.contains(name)).map(|(name, _)| name).collect();
    assert!(unused.is_empty(), "{unused:?} are listed and not recorded");
    assert!(replayed.len() + NOT_REPLAYED.len() == recorded.len());
}

struct Replay {
    chat: Chat,
    clock: Arc<ManualClock>,
    /// The room of users 1 and 2, owned by user 2.
    room: RoomId,
    other_room: RoomId,
}

impl Replay {
    async fn start() -> Replay {
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let config = "[chat]\nframes_per_second_max = 1000\n";
        let chat = Chat::start_at(config, 3, clock.clone()).await;
        let (room, other_room) = (chat.pair(2, 1).await, chat.group(1, [2]).await);
        assert_eq!(chat.file(room, 1, "note.txt").await, 1);
        assert_eq!(chat.file(room, 2, "note2.txt").await, 2);
        Replay { chat, clock, room, other_room }
    }

    async fn run(&self, scenario: &Value, instead: Option<&Instead>) {
        let name = scenario["name"].as_str().expect("a name");
        let mut sockets = BTreeMap::new();
        for (conn, connection) in scenario["connections"].as_object().expect("connections") {
            let recorded = connection["handshake_status"].as_u64().expect("a status");
            let status = match instead {
                Some(Instead::Status(_, status)) => u64::from(*status),
                _ => recorded,
            };
            let user = if name == "reject.non_member" { 3 } else { u64::from(conn.starts_with('B')) + 1 };
            match self.open(name, connection["path"].as_str().expect("a path"), user).await {
                Ok(socket) => {
                    assert_eq!(status, 101, "{name}");
                    assert_eq!(socket.protocol, None, "{name}");
                    sockets.insert(conn.as_str(), socket);
                }
                Err(refusal) => {
                    assert_eq!(u64::from(refusal.status), status, "{name}: {refusal:?}");
                    if status == 403 {
                        assert_eq!(refusal.body, "", "{name}");
                    }
                }
            }
        }
        match instead {
            Some(Instead::Status(..)) => return,
            Some(Instead::Close(defect, code)) => {
                println!("{name}: closed with {code}, defect {defect}");
                return self.caused_close(name, sockets, *code).await;
            }
            _ => {}
        }
        if name == EXPIRES {
            self.clock.advance(Duration::from_secs(3600));
        }
        let mut last = Value::Null;
        for event in scenario["events"].as_array().expect("events") {
            let Some(conn) = event["conn"].as_str() else { continue };
            let Some(socket) = sockets.get_mut(conn) else { continue };
            let is_refused = is_refused_here(&last) || matches!(instead, Some(Instead::Error(..)));
            if event["dir"] == "client->server" {
                last = event["frame"].clone();
                send_recorded(socket, &last).await;
            } else if let Some(recorded) = event.get("text") {
                // In a scenario with a broken frame, other sockets continue; the foreign file is refused, too.
                let foreign = name == "file_message_foreign_attachment";
                if is_refused_here(&last) || foreign {
                    let error = socket.json().await;
                    assert_eq!(error["type"], "error", "{name}: {error}");
                } else {
                    let ours = socket.json().await;
                    self.compare(name, recorded, &ours);
                }
            } else if let Some(close) = event.get("close") {
                match instead {
                    Some(Instead::Error(defect, code)) => {
                        let error = socket.json().await;
                        assert_eq!(
                            (error["type"].as_str(), error["code"].as_str()),
                            (Some("error"), Some(*code)),
                            "{name}, defect {defect}"
                        );
                    }
                    _ => {
                        assert_eq!(close["code"], 1000, "{name}");
                        socket.send_bytes(&frame(0x88, &1000_u16.to_be_bytes())).await;
                        assert_eq!(socket.event().await, Event::Close(1000, String::new()), "{name}");
                        assert_eq!(socket.event().await, Event::End, "{name}");
                    }
                }
            } else if let Some(payload) = event["pong_payload"].as_str() {
                socket.send_bytes(&frame(0x89, payload.as_bytes())).await;
                assert_eq!(socket.event().await, Event::Pong(payload.as_bytes().to_vec()), "{name}");
            } else if event.get("nothing_within_s").is_some() && name == "rest_message_is_not_broadcast" {
                // Defect 28.
                self.chat.post(self.other_room, 1, "by REST").await;
                assert_eq!(socket.json().await["message"], "by REST", "{name}");
            } else if event.get("nothing_within_s").is_some() {
                assert!(socket.is_quiet(Duration::from_millis(100)).await, "{name}: {is_refused}");
            }
        }
        if name == "order_of_20_frames_one_sender" {
            for number in 0..20 {
                sockets.get_mut("A").expect("a sender").send(&json!({"message": number.to_string()})).await;
            }
            for number in 0..20 {
                let got = sockets.get_mut("B").expect("a receiver").json().await;
                assert_eq!(got["message"], number.to_string());
            }
        }
    }

    async fn open(&self, name: &str, path: &str, user: u64) -> Result<Socket, Refusal> {
        let token = match name {
            "reject.expired_token" => expired_token(),
            "reject.refresh_token" => self.chat.gateway.login("09129999999").await.refresh,
            _ => self.chat.tokens[&user].clone(),
        };
        // The recordings use the original's room numbers.
        let path = path.replace("<jwt>", &token);
        let path = path.replace("/chat/1/", &format!("/chat/{}/", self.room.0));
        let path = path.replace("/chat/2/", &format!("/chat/{}/", self.other_room.0));
        let host = self.chat.gateway.url.trim_end_matches("/drfchelseru");
        let bearer = format!("Bearer {token}");
        let headers: &[(&str, &str)] = match name {
            "token_in_authorization_header_is_ignored" => &[("Authorization", &bearer)],
            "subprotocol_requested" => &[("Sec-WebSocket-Protocol", "chat")],
            "origin_not_checked" => &[("Origin", "https://elsewhere.example")],
            _ => &[],
        };
        Socket::open(&format!("{host}{path}"), headers).await
    }

    /// Removal and deletion act on open sockets.
    async fn caused_close(&self, name: &str, mut sockets: BTreeMap<&str, Socket>, code: u16) {
        let closed = match name {
            "removed_member_keeps_receiving" => {
                // By a ban: nobody kicks the other one of a pair, to which the sockets of the recording belong.
                self.chat.change(self.room, 2, RoomRequest::Ban(UserId(1))).await;
                "A"
            }
            _ => {
                self.chat.change(self.room, 2, RoomRequest::Delete).await;
                "A"
            }
        };
        assert_eq!(sockets.get_mut(closed).expect("open").closed().await, code, "{name}");
    }

    fn compare(&self, name: &str, recorded: &Value, ours: &Value) {
        let mut expected = recorded.clone();
        let mut ours = ours.clone();
        if expected["message_type"] == "webrtc_signal" {
            // The gateway says who signals and where; the original let the sender say it.
            let room = ours.as_object_mut().and_then(|signal| signal.remove("room"));
            assert_eq!(room, Some(self.room.0.into()), "{name}: {ours}");
            let sender = ours.as_object_mut().and_then(|signal| signal.remove("sender"));
            assert!(sender.is_some_and(|sender| sender["id"].is_u64()), "{name}: {ours}");
        }
        if expected["type"] == "chat_message" {
            // Numbers are ours, and the name does not contain the phone number.
            assert!(ours["id"].as_u64().is_some_and(|id| id >> 26 == self.room.0), "{name}: {ours}");
            let sender = expected["sender"]["id"].as_u64().expect("a sender");
            expected["sender"]["username"] = format!("G0-{sender}").into();
            let at = ours["created_at"].as_str().expect("an instant");
            assert!(at.len() >= 25 && at.ends_with("+00:00") && at.contains('T'), "{name}: {at}");
            if let Some(url) = expected["file_url"].as_str() {
                let file = url.rsplit('/').next().expect("a name");
                let link = ours["file_url"].as_str().expect("a link");
                assert!(link.starts_with("/media/uploads/chat_files/") && link.ends_with(file), "{link}");
            }
            for key in ["id", "created_at", "file_url"] {
                expected[key] = Value::Null;
                ours[key] = Value::Null;
            }
        }
        assert_eq!(expected, ours, "{name}");
    }
}

fn expired_token() -> String {
    // A token with our form and a wrong signature; expiry itself is tested on open sockets.
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.AAAA".into()
}

async fn send_recorded(socket: &mut Socket, sent: &Value) {
    match sent {
        Value::String(text) => socket.send_text(text).await,
        Value::Object(object) if object.contains_key("binary_bytes") => {
            socket.send_bytes(&frame(0x82, &[1, 2])).await;
        }
        other if other["message"] == "<70000 x>" => {
            socket.send(&json!({"message": "x".repeat(70_000)})).await;
        }
        other => socket.send(other).await,
    }
}
