//! Chat sockets: the new abilities. `recorded_sockets` replays the original's recordings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::chat::{
    FileDraft, MessageBody, Post, RoomEdit, RoomId, RoomRequest, RoomStatus, message_id,
};
use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_domain::ids::UserId;
use chelseru_tests::TestGateway;
use chelseru_tests::socket::{Event, Refusal, Socket, frame};
use serde_json::{Value, json};

/// A gateway with users and the chat settings. `rest` is appended to the configuration.
pub(crate) struct Chat {
    pub gateway: TestGateway,
    /// By number, from 1.
    pub tokens: BTreeMap<u64, String>,
}

impl Chat {
    pub(crate) async fn start(config: &str, users: u64) -> Chat {
        Chat::start_at(config, users, Arc::new(SystemClock)).await
    }

    pub(crate) async fn start_at(config: &str, users: u64, clock: Arc<dyn Clock>) -> Chat {
        let gateway = TestGateway::start_at(config, clock).await;
        let mut chat = Chat { gateway, tokens: BTreeMap::new() };
        for user in 1..=users {
            chat.log_in(user).await;
        }
        chat
    }

    pub(crate) async fn log_in(&mut self, user: u64) {
        let login = self.gateway.login(&format!("0912{user:07}")).await;
        let me = self.gateway.get("/me/", Some(&login.access)).await;
        assert_eq!(me.body["id"], user, "accounts are numbered as they come");
        self.tokens.insert(user, login.access);
    }

    pub(crate) async fn pair(&self, user: u64, other: u64) -> RoomId {
        let room = self.gateway.app.chat.pair_open(UserId(user), UserId(other), RoomEdit::default()).await;
        room.expect("a room").0.id
    }

    pub(crate) async fn group(&self, owner: u64, members: impl IntoIterator<Item = u64>) -> RoomId {
        let members = members.into_iter().map(UserId).collect();
        let chat = &self.gateway.app.chat;
        chat.group_create(UserId(owner), members, None, RoomEdit::default()).await.expect("a room").id
    }

    pub(crate) async fn change(&self, room: RoomId, actor: u64, request: RoomRequest) {
        self.gateway.app.chat.room_change(room, UserId(actor), request).await.expect("changed");
    }

    pub(crate) async fn post(&self, room: RoomId, sender: u64, text: &str) -> u64 {
        let post = Post {
            sender: UserId(sender),
            face: self.gateway.app.chat.face(UserId(sender)).await,
            body: MessageBody { kind: "text".into(), text: text.into(), ..MessageBody::default() },
            file: None,
            client_id: None,
        };
        self.gateway.app.chat.post_and_wait(room, post).await.expect("posted").view.message.seq
    }

    /// A room's socket, opened as the original's clients do.
    pub(crate) async fn open(&self, room: RoomId, user: u64) -> Socket {
        self.try_open(room, user, "").await.unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    /// A room's socket with all events, after `subscribed`.
    pub(crate) async fn open_extended(&self, room: RoomId, user: u64) -> Socket {
        let mut socket =
            self.try_open(room, user, "&events=1").await.unwrap_or_else(|refusal| panic!("{refusal:?}"));
        assert_eq!(socket.json().await["type"], "subscribed");
        socket
    }

    pub(crate) async fn try_open(&self, room: RoomId, user: u64, query: &str) -> Result<Socket, Refusal> {
        let path = format!("/chat/{}/?token={}{query}", room.0, self.tokens[&user]);
        Socket::open(&self.gateway.at(&path), &[]).await
    }

    /// A socket of all rooms, with its `hello`.
    pub(crate) async fn open_all(&self, user: u64) -> (Socket, Value) {
        let authorization = format!("Bearer {}", self.tokens[&user]);
        let socket = Socket::open(&self.gateway.at("/ws/"), &[("Authorization", &authorization)]).await;
        let mut socket = socket.unwrap_or_else(|refusal| panic!("{refusal:?}"));
        let hello = socket.json().await;
        assert_eq!(hello["type"], "hello");
        (socket, hello)
    }

    pub(crate) async fn file(&self, room: RoomId, uploader: u64, name: &str) -> u64 {
        let draft = FileDraft {
            room: Some(room),
            uploader: UserId(uploader),
            name: name.into(),
            title: name.into(),
            folder: "/media/uploads/chat_files/2026/01/31/".into(),
            content_type: "text/plain".into(),
            bytes: 3,
            text: None,
            picture: None,
            quota_bytes: 1 << 20,
            total_bytes: 1 << 20,
            now: self.gateway.app.clock.now(),
        };
        self.gateway.app.chat.file_keep(draft).await.expect("stored").kept().expect("kept").id.0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_a_message_come_in_the_originals_order() {
    let chat = Chat::start("", 2).await;
    let room = chat.pair(1, 2).await;
    let mut socket = chat.open(room, 1).await;
    socket.send(&json!({"message": "a \"quoted\"\n text", "lat": 1.5})).await;
    let Event::Text(text) = socket.event().await else { panic!("a text") };
    let id = message_id(room, 1);
    let start = format!(
        "{{\"type\":\"chat_message\",\"id\":{id},\"message\":\"a \\\"quoted\\\"\\n text\",\"message_type\":\"text\",\
         \"file_url\":null,\"lat\":1.5,\"lng\":null,\"sender\":{{\"id\":1,\"username\":\"G0-1\"}},\"created_at\":\""
    );
    assert!(text.starts_with(&start), "{text}\n{start}");
    assert!(text.ends_with("+00:00\"}"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_comes_by_header_subprotocol_query_or_first_frame() {
    let chat = Chat::start("[chat]\norigins = [\"https://app.example\"]\n", 3).await;
    let room = chat.pair(1, 2).await;
    let at = chat.gateway.at(&format!("/chat/{}/", room.0));
    let token = &chat.tokens[&1];
    let offered = format!("chelseru, bearer.{token}");
    let socket = Socket::open(&at, &[("Sec-WebSocket-Protocol", &offered)]).await.expect("open");
    assert_eq!(socket.protocol.as_deref(), Some("chelseru"));

    // The token in the first frame, for a room and for all rooms.
    for (path, first) in [(at.as_str(), "subscribed"), (chat.gateway.at("/ws/").as_str(), "hello")] {
        let mut socket = Socket::open(path, &[("Sec-WebSocket-Protocol", "chelseru")]).await.expect("open");
        socket.send(&json!({"type": "auth", "token": token, "ref": 7})).await;
        let answer = socket.json().await;
        assert_eq!((&answer["type"], &answer["ref"]), (&json!("authenticated"), &json!(7)));
        assert_eq!(socket.json().await["type"], first);
    }
    // With a gap.
    chat.post(room, 2, "missed").await;
    let since = format!("{at}?since=0");
    let mut socket = Socket::open(&since, &[("Sec-WebSocket-Protocol", "chelseru")]).await.expect("open");
    socket.send(&json!({"type": "auth", "token": token})).await;
    assert_eq!(socket.json_of("chat_message").await["message"], "missed");
    // Refused after it: an outsider, a bad token, and a frame without a token.
    for (frame, codes) in [
        (json!({"type": "auth", "token": chat.tokens[&3]}), (Some("room_missing"), 4403)),
        (json!({"type": "auth", "token": "garbage"}), (Some("token_not_valid"), 4401)),
        (json!({"message": "hello"}), (Some("not_authenticated"), 4401)),
    ] {
        let mut socket = Socket::open(&at, &[("Sec-WebSocket-Protocol", "chelseru")]).await.expect("open");
        socket.send(&frame).await;
        let error = socket.json_of("error").await;
        assert_eq!((error["code"].as_str(), socket.closed().await), codes, "{frame}");
    }
    // Pages of other sites are refused; a client that is no browser is accepted.
    for (origin, status) in [("https://app.example", 101), ("https://evil.example", 403), ("null", 403)] {
        let opened = Socket::open(&format!("{at}?token={token}"), &[("Origin", origin)]).await;
        assert_eq!(opened.map_or_else(|refusal| refusal.status, |_| 101), status, "{origin}");
    }
    // Not a handshake.
    assert_eq!(chat.gateway.get(&format!("/chat/{}/", room.0), Some(token)).await.status, 426);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_wait_for_the_first_token_and_a_second_one_changes_no_holder() {
    let chat = Chat::start("", 2).await;
    let at = chat.gateway.at("/ws/");
    let auth = |user: u64| json!({"type": "auth", "token": chat.tokens[&user], "ref": user}).to_string();
    let frames = [auth(1), auth(2), json!({"type": "ping", "ref": 3}).to_string()];
    for together in [true, false] {
        let mut socket = Socket::open(&at, &[("Sec-WebSocket-Protocol", "chelseru")]).await.expect("open");
        let frames = frames.each_ref().map(|text| frame(0x81, text.as_bytes()));
        match together {
            true => socket.send_bytes(&frames.concat()).await,
            false => {
                for bytes in &frames {
                    socket.send_bytes(bytes).await;
                }
            }
        }
        let answer = socket.json().await;
        assert_eq!((&answer["type"], &answer["ref"]), (&json!("authenticated"), &json!(1)));
        assert_eq!(socket.json_of("hello").await["user"]["id"], 1);
        let mut answers = [socket.json().await, socket.json().await];
        answers.sort_by_key(|answer| answer["ref"].as_u64());
        let [refused, pong] = answers;
        assert_eq!((&refused["code"], &refused["ref"]), (&json!("token_not_valid"), &json!(2)));
        assert_eq!((&pong["type"], &pong["ref"]), (&json!("pong"), &json!(3)));
        assert!(!chat.gateway.app.hub.has(UserId(2)));
    }
}

/// More often than a user may have sockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_leave_while_their_token_is_checked_do_not_count() {
    let chat = Chat::start("", 1).await;
    let auth = json!({"type": "auth", "token": chat.tokens[&1]});
    for _ in 0..30 {
        let at = chat.gateway.at("/ws/");
        let mut socket = Socket::open(&at, &[("Sec-WebSocket-Protocol", "chelseru")]).await.expect("open");
        socket.send(&auth).await;
        drop(socket);
    }
    let hub = &chat.gateway.app.hub;
    while hub.sockets() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!hub.has(UserId(1)), "away");
    chat.open_all(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_in_place_and_ended_sessions_close() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let chat = Chat::start_at("", 2, clock.clone()).await;
    let room = chat.pair(1, 2).await;
    let (mut all, _) = chat.open_all(1).await;
    let mut one = chat.open_extended(room, 1).await;
    clock.advance(Duration::from_secs(299));
    let again = chat.gateway.login("09120000001").await.access;
    all.send(&json!({"type": "auth", "token": chat.tokens[&2]})).await;
    assert_eq!(all.json_of("error").await["code"], "token_not_valid");
    all.send(&json!({"type": "auth", "token": again})).await;
    assert_eq!(all.json_of("authenticated").await["type"], "authenticated");
    clock.advance(Duration::from_secs(2));
    assert_eq!(one.closed().await, 4410);
    all.send(&json!({"type": "ping", "ref": "a"})).await;
    assert_eq!(all.json_of("pong").await["ref"], "a");

    let out =
        chat.gateway.client.post(chat.gateway.at("/logout/")).bearer_auth(&again).send().await.expect("sent");
    assert_eq!(out.status(), 200);
    assert_eq!(all.closed().await, 4411);
}

/// The original's clients put the token into the address and cannot renew it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_clients_socket_lives_as_long_as_its_session() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let chat = Chat::start_at("", 2, clock.clone()).await;
    let room = chat.pair(1, 2).await;
    let mut mine = chat.open(room, 1).await;
    let mut other = chat.open_extended(room, 2).await;
    // An access token lives 300 seconds.
    clock.advance(Duration::from_secs(301));
    assert_eq!(other.closed().await, 4410, "a client that can renew its token must");
    mine.send(&json!({"message": "still here"})).await;
    assert_eq!(mine.json().await["message"], "still here");

    // A token on such a socket is no message.
    let again = chat.gateway.login("09120000001").await.access;
    mine.send(&json!({"type": "auth", "token": again, "message": "x"})).await;
    assert_eq!(mine.json().await["type"], "authenticated");
    mine.send(&json!({"type": "auth", "token": "garbage"})).await;
    assert_eq!(mine.json().await["code"], "token_not_valid");
    mine.send(&json!({"message": "after"})).await;
    assert_eq!(mine.json().await["message"], "after");
    assert_eq!(chat.gateway.app.store.chat_last_seq(room).await.expect("readable"), 2);

    // It ends with its session.
    let mut ended = Socket::open(&chat.gateway.at(&format!("/chat/{}/?token={again}", room.0)), &[])
        .await
        .unwrap_or_else(|refusal| panic!("{refusal:?}"));
    clock.advance(Duration::from_secs(200));
    let out = chat.gateway.client.post(chat.gateway.at("/logout/")).bearer_auth(&again).send().await;
    assert_eq!(out.expect("sent").status(), 200);
    assert_eq!((mine.closed().await, ended.closed().await), (4411, 4411));
    // Not past it.
    let at = chat.gateway.at(&format!("/chat/{}/?token={again}", room.0));
    assert_eq!(Socket::open(&at, &[]).await.err().expect("refused").status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rooms_are_subscribed_with_one_frame_and_refused_frames_are_named() {
    let chat = Chat::start("[chat]\nframes_per_second_max = 3\n", 3).await;
    let (first, second) = (chat.pair(1, 2).await, chat.pair(1, 3).await);
    let others = chat.pair(2, 3).await;
    chat.post(first, 2, "missed").await;
    let (mut socket, _) = chat.open_all(1).await;
    let rooms = json!([{"room": first.0, "since": 0}, {"room": others.0}, {"room": second.0}]);
    socket.send(&json!({"type": "subscribe", "rooms": rooms, "ref": "all"})).await;
    let (mut answers, mut texts) = (Vec::new(), Vec::new());
    // What was missed of the first room may come between the answers.
    while answers.len() < 3 || texts.is_empty() {
        let answer = socket.json().await;
        texts.extend((answer["type"] == "chat_message").then(|| answer["message"].clone()));
        if ["subscribed", "error"].iter().any(|kind| answer["type"] == *kind) {
            assert_eq!(answer["ref"], "all", "{answer}");
            answers.push((answer["room"].clone(), answer["code"].clone()));
        }
    }
    let missing = json!("room_missing");
    let expected =
        [(json!(first.0), Value::Null), (json!(others.0), missing), (json!(second.0), Value::Null)];
    assert_eq!(answers, expected);
    chat.post(second, 3, "live").await;
    texts.push(socket.json_of("chat_message").await["message"].clone());
    assert_eq!(texts, ["missed", "live"]);

    // A frame that breaks off, and frames past the rate.
    socket
        .send_text(&format!(r#"{{"type":"publish","room":{},"ref":7,"client_id":"c","message":"#, first.0))
        .await;
    let error = socket.json_of("error").await;
    assert_eq!((&error["code"], &error["room"]), (&json!("invalid_json"), &json!(first.0)));
    assert_eq!((&error["ref"], &error["client_id"]), (&json!(7), &json!("c")));
    // With one write, so that no machine is too slow to pass the rate.
    let ping = |number: u32| json!({"type": "ping", "room": first.0, "ref": number}).to_string();
    let pings: Vec<u8> = (0..12).flat_map(|number| frame(0x81, ping(number).as_bytes())).collect();
    socket.send_bytes(&pings).await;
    let error = socket.json_of("error").await;
    assert_eq!((&error["code"], &error["room"]), (&json!("rate_limited"), &json!(first.0)));
    assert!(error["ref"].is_u64(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_that_was_left_comes_back_on_open_and_new_sockets() {
    let chat = Chat::start("", 2).await;
    let room = chat.pair(1, 2).await;
    let (mut open, _) = chat.open_all(1).await;
    chat.change(room, 1, RoomRequest::Remove(UserId(1))).await;
    let removed = open.json_of("room_removed").await;
    assert_eq!((&removed["room"], &removed["code"]), (&json!(room.0), &json!("left")));
    let (mut later, hello) = chat.open_all(1).await;
    assert_eq!(hello["rooms"], json!([]));
    chat.post(room, 2, "are you there?").await;
    for socket in [&mut open, &mut later] {
        let unread = socket.json_of("unread").await;
        assert_eq!((&unread["room"], &unread["unread"]), (&json!(room.0), &json!(1)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_socket_serves_all_rooms_of_a_user() {
    let chat = Chat::start("", 3).await;
    let (first, second) = (chat.pair(1, 2).await, chat.pair(1, 3).await);
    chat.post(first, 2, "before").await;
    let (mut socket, hello) = chat.open_all(1).await;
    assert_eq!(hello["rooms"].as_array().expect("rooms").len(), 2);
    let unread = |room: RoomId| {
        hello["rooms"].as_array().into_iter().flatten().find(|one| one["room"] == room.0).expect("listed")["unread"].clone()
    };
    assert_eq!((unread(first), unread(second)), (json!(1), json!(0)));

    // An unsubscribed room: a count, not the message.
    chat.post(second, 3, "unseen").await;
    let count = socket.json_of("unread").await;
    assert_eq!((&count["room"], &count["unread"]), (&json!(second.0), &json!(1)));

    socket.send(&json!({"type": "subscribe", "room": first.0, "ref": 1})).await;
    let subscribed = socket.json_of("subscribed").await;
    assert_eq!(
        (&subscribed["room"], &subscribed["seq"], &subscribed["ref"]),
        (&json!(first.0), &json!(1), &json!(1))
    );
    socket.send(&json!({"type": "subscribe", "room": second.0, "since": 0})).await;
    assert_eq!(socket.json_of("subscribed").await["room"], second.0);
    assert_eq!(socket.json_of("chat_message").await["message"], "unseen");
    socket.send(&json!({"type": "publish", "room": first.0, "message": "hi", "client_id": "c-1"})).await;
    let message = socket.json_of("chat_message").await;
    assert_eq!(
        (&message["room"], &message["seq"], &message["client_id"]),
        (&json!(first.0), &json!(2), &json!("c-1"))
    );
    let ack = socket.json_of("ack").await;
    assert_eq!(
        (&ack["client_id"], &ack["id"], &ack["duplicate"]),
        (&json!("c-1"), &message["id"], &json!(false))
    );
    // A repeat is the same message.
    socket.send(&json!({"type": "publish", "room": first.0, "message": "hi", "client_id": "c-1"})).await;
    let again = socket.json_of("ack").await;
    assert_eq!((&again["id"], &again["duplicate"]), (&message["id"], &json!(true)));

    // Added and removed rooms.
    let third = chat.group(2, [1, 3]).await;
    assert_eq!(socket.json_of("room_added").await["room"], third.0);
    chat.post(third, 2, "welcome").await;
    assert_eq!(socket.json_of("unread").await["room"], third.0);
    socket.send(&json!({"type": "subscribe", "room": third.0})).await;
    assert_eq!(socket.json_of("subscribed").await["room"], third.0);
    chat.change(third, 2, RoomRequest::Remove(UserId(1))).await;
    assert_eq!(socket.json_of("unsubscribed").await["code"], "kicked");
    assert_eq!(socket.json_of("room_removed").await["code"], "kicked");
    socket.send(&json!({"type": "publish", "room": third.0, "message": "still here?"})).await;
    assert_eq!(socket.json_of("error").await["code"], "room_missing");
    socket.send(&json!({"type": "unsubscribe", "room": first.0})).await;
    assert_eq!(socket.json_of("unsubscribed").await["room"], first.0);
    chat.post(first, 2, "later").await;
    assert_eq!(socket.json_of("unread").await["unread"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_presence_markers_edits_and_deletions_are_shown() {
    let chat = Chat::start("", 3).await;
    let room = chat.group(1, [2, 3]).await;
    let mut one = chat.open_extended(room, 1).await;
    let mut two = chat.open_extended(room, 2).await;
    let online = one.json_of("presence").await;
    assert_eq!((&online["user"]["id"], &online["online"]), (&json!(2), &json!(true)));
    let mut three = chat.open(room, 3).await;
    assert_eq!(one.json_of("presence").await["user"]["id"], 3);

    two.send(&json!({"type": "typing"})).await;
    let typing = one.json_of("typing").await;
    assert_eq!((&typing["user"]["id"], &typing["typing"]), (&json!(2), &json!(true)));
    two.send(&json!({"message": "frist", "lat": 1, "ref": "m"})).await;
    let posted = one.json_of("chat_message").await;
    one.send(&json!({"type": "delivered", "id": posted["id"]})).await;
    assert_eq!(two.json_of("delivered").await["user"], 1);
    // A number that no message has is not relayed.
    for seq in [0, posted["seq"].as_u64().expect("a number") + 1] {
        one.send(&json!({"type": "delivered", "seq": seq, "ref": seq})).await;
        let error = one.json_of("error").await;
        assert_eq!((&error["code"], &error["ref"]), (&json!("message_missing"), &json!(seq)));
    }
    one.send(&json!({"type": "read", "id": posted["id"]})).await;
    let read = two.json_of("read").await;
    assert_eq!((&read["user"], &read["seq"]), (&json!(1), &json!(1)));
    // The marker never moves back.
    one.send(&json!({"type": "read", "seq": 0})).await;
    let mut acks = [one.json_of("ack").await, one.json_of("ack").await];
    acks.sort_by_key(|ack| ack["seq"].as_u64());
    assert_eq!(acks.map(|ack| ack["seq"].clone()), [json!(1), json!(1)]);

    two.send(&json!({"type": "edit", "id": posted["id"], "message": "first"})).await;
    let edited = one.json_of("message_edited").await;
    assert_eq!(
        (&edited["message"], &edited["revision"], &edited["lat"]),
        (&json!("first"), &json!(1), &json!(1))
    );
    one.send(&json!({"type": "edit", "id": posted["id"], "message": "mine"})).await;
    assert_eq!(one.json_of("error").await["code"], "no_right");
    two.send(&json!({"type": "delete", "id": posted["id"]})).await;
    let deleted = one.json_of("message_deleted").await;
    assert_eq!((&deleted["id"], &deleted["revision"]), (&posted["id"], &json!(2)));
    drop(two);
    let offline = one.json_of("presence").await;
    assert_eq!((&offline["user"]["id"], &offline["online"]), (&json!(2), &json!(false)));

    // A client of the original got the message and nothing else.
    assert_eq!(three.json().await["message"], "frist");
    assert!(three.is_quiet(Duration::from_millis(50)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_reach_both_kinds_of_clients_and_are_not_stored() {
    let chat = Chat::start("", 2).await;
    let room = chat.pair(1, 2).await;
    let mut original = chat.open(room, 2).await;
    let mut extended = chat.open_extended(room, 2).await;
    let (mut all, _) = chat.open_all(1).await;
    let signal = json!({"message_type": "webrtc_signal", "signal": {"sdp": "v=0"}});
    let mut sent = signal.clone();
    (sent["type"], sent["room"]) = (json!("publish"), json!(room.0));
    all.send(&sent).await;
    let mut relayed = original.json().await;
    assert_eq!((&relayed["sender"]["id"], &relayed["room"]), (&json!(1), &json!(room.0)));
    for key in ["sender", "room"] {
        relayed.as_object_mut().expect("an object").remove(key);
    }
    assert_eq!(relayed, signal);
    let got = extended.json_of("webrtc_signal").await;
    assert_eq!((&got["signal"], &got["sender"]["id"]), (&signal, &json!(1)));
    assert_eq!(chat.gateway.app.store.chat_last_seq(room).await.expect("readable"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_brings_exactly_the_gap_or_says_reset() {
    let chat = Chat::start("[chat]\nresume_max = 120\n", 2).await;
    let room = chat.pair(1, 2).await;
    for number in 1..=125 {
        chat.post(room, 1, &number.to_string()).await;
    }
    for (since, first) in [("5", 6), ("124", 125), ("125", 126), (&*message_id(room, 100).to_string(), 101)] {
        let mut socket = chat.try_open(room, 2, &format!("&since={since}")).await.expect("open");
        assert_eq!(socket.json().await["seq"], 125);
        for seq in first..=125 {
            let message = socket.json().await;
            assert_eq!((&message["type"], &message["seq"]), (&json!("chat_message"), &json!(seq)), "{since}");
        }
        chat.gateway
            .app
            .chat
            .check(room, UserId(2), chelseru_domain::chat::Action::See)
            .await
            .expect("a member");
        assert!(socket.is_quiet(Duration::from_millis(30)).await, "{since}: nothing twice");
    }
    for since in ["4", "126"] {
        let mut socket = chat.try_open(room, 2, &format!("&since={since}")).await.expect("open");
        assert_eq!(socket.json().await["type"], "subscribed");
        let reset = socket.json().await;
        assert_eq!((&reset["type"], &reset["seq"]), (&json!("reset"), &json!(125)), "{since}");
    }
    // Edits and deletions since a revision.
    let two = chat.open_extended(room, 2).await;
    drop(two);
    let chats = &chat.gateway.app.chat;
    let body = MessageBody { kind: "text".into(), text: "edited".into(), ..MessageBody::default() };
    chats
        .message_change(room, 3, UserId(1), chelseru_domain::chat::MessageEdit::Body(body))
        .await
        .expect("edited");
    chats
        .message_change(room, 125, UserId(1), chelseru_domain::chat::MessageEdit::Delete)
        .await
        .expect("deleted");
    let mut socket = chat.try_open(room, 2, "&since=124&revision=0").await.expect("open");
    assert_eq!(socket.json().await["revision"], 2);
    assert_eq!(socket.json().await["type"], "message_deleted");
    let edited = socket.json().await;
    assert_eq!((&edited["message"], &edited["revision"]), (&json!("edited"), &json!(1)));
    assert_eq!(socket.json().await["revision"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_pinged_then_closed_and_sockets_are_counted() {
    let chat =
        Chat::start("[chat]\nheartbeat_seconds = 1\nsockets_max = 3\nsockets_per_user_max = 2\n", 2).await;
    let room = chat.pair(1, 2).await;
    let mut silent = chat.open(room, 1).await;
    let _second = chat.open(room, 1).await;
    assert_eq!(chat.try_open(room, 1, "").await.err().expect("refused").status, 429);
    let _other = chat.open(room, 2).await;
    assert_eq!(chat.try_open(room, 2, "").await.err().expect("refused").status, 503);
    assert_eq!(silent.event().await, Event::Ping(Vec::new()));
    assert_eq!(silent.closed().await, 4421);
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while chat.gateway.app.hub.sockets() > 0 {
        assert!(tokio::time::Instant::now() < until, "silent sockets end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closing_room_and_a_stopping_gateway_close_sockets() {
    let chat = Chat::start("", 2).await;
    let room = chat.pair(1, 2).await;
    let (mut one, mut two) = (chat.open(room, 1).await, chat.open_extended(room, 2).await);
    let (mut all, _) = chat.open_all(2).await;
    let edit = RoomEdit { status: Some(RoomStatus::Closed), ..RoomEdit::default() };
    chat.change(room, 1, RoomRequest::Edit(edit)).await;
    assert_eq!((one.closed().await, two.closed().await), (4414, 4414));
    assert_eq!(all.json_of("room_updated").await["status"], "2");
    assert_eq!(chat.try_open(room, 1, "").await.err().expect("refused").status, 403);
    all.send(&json!({"type": "subscribe", "room": room.0})).await;
    assert_eq!(all.json_of("error").await["code"], "room_closed");
    let stopping = tokio::spawn(chat.gateway.stop());
    assert_eq!(all.closed().await, 1001);
    // The gateway waits briefly for clients that do not answer a close.
    drop((one, two, all));
    drop(stopping.await.expect("stopped"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_sockets_share_messages_ids_and_bounds() {
    let chat = Chat::start("", 2).await;
    let room = chat.pair(1, 2).await;
    let mut socket = chat.open_extended(room, 2).await;
    let (mut all, _) = chat.open_all(1).await;
    let post = async |text: &str, id: &str| {
        let body = json!({"chat_room": room.0, "text": text, "client_id": id});
        let request = chat.gateway.client.post(chat.gateway.at("/chat/messages/"));
        chelseru_tests::Answer::of(request.bearer_auth(&chat.tokens[&1]).json(&body)).await
    };
    let answer = post("by request", "r-1").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let message = socket.json_of("chat_message").await;
    assert_eq!((&message["message"], &message["id"]), (&json!("by request"), &answer.body["id"]));
    // An id used by socket, and one of a socket used by request.
    all.send(&json!({"type": "publish", "room": room.0, "message": "by request", "client_id": "r-1"})).await;
    let ack = all.json_of("ack").await;
    assert_eq!((&ack["id"], &ack["duplicate"]), (&answer.body["id"], &json!(true)));
    all.send(&json!({"type": "publish", "room": room.0, "message": "by socket", "client_id": "s-1"})).await;
    let ack = all.json_of("ack").await;
    let again = post("by socket", "s-1").await;
    assert_eq!((again.status, &again.body["id"]), (200, &ack["id"]), "{again:?}");
    assert_eq!(socket.json_of("chat_message").await["message"], "by socket");
    assert_eq!(chat.gateway.app.store.chat_last_seq(room).await.expect("readable"), 2);

    // An edit of the configuration applies to later frames.
    chat.gateway.edit_config("[chat]\ntext_chars_max = 5\norigins = [\"https://app.example\"]\n");
    chat.gateway.wait_for("the new bounds", |status| status["config"]["generation"] == 2).await;
    all.send(&json!({"type": "publish", "room": room.0, "message": "123456"})).await;
    assert_eq!(all.json_of("error").await["code"], "invalid_fields");
    all.send(&json!({"type": "publish", "room": room.0, "message": "12345"})).await;
    assert_eq!(socket.json_of("chat_message").await["message"], "12345");
    let path = chat.gateway.at(&format!("/chat/{}/?token={}", room.0, chat.tokens[&1]));
    let refused = Socket::open(&path, &[("Origin", "https://evil.example")]).await.err().expect("refused");
    assert_eq!(refused.status, 403);
    assert_eq!(chat.gateway.status().await["chat"]["sockets"], 2);
}
