//! Slow and hostile chat clients: how they are treated, and that other clients are not affected.

use std::time::Instant;

use chelseru_domain::chat::RoomRequest;
use chelseru_domain::ids::UserId;
use chelseru_tests::process::Served;
use chelseru_tests::socket::{Event, Socket, frame};
use chelseru_tests::{client, code_in, folder};
use serde_json::{Value, json};

use crate::chat_socket::Chat;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_frames_are_answered_or_close_with_their_code() {
    let chat = Chat::start("", 2).await;
    let room = chat.pair(1, 2).await;
    let mut other = chat.open(room, 2).await;
    // An error frame; the socket stays open.
    let mut socket = chat.open_extended(room, 1).await;
    for (text, code) in [
        ("{\"message\":", "invalid_json"),
        ("{\"type\":\"dance\"}", "unknown_type"),
        ("[]", "not_an_object"),
        (&format!("{{\"message\":\"{}\"}}", "x".repeat(4097)), "invalid_fields"),
        (&format!("{}1{}", "[".repeat(5000), "]".repeat(5000)), "invalid_json"),
        (r#"{"message":"x","client_id":"has space"}"#, "invalid_fields"),
        (r#"{"type":"read","seq":1e400}"#, "invalid_json"),
        (r#"{"type":"edit","seq":99,"message":"x"}"#, "message_missing"),
    ] {
        socket.send_text(text).await;
        assert_eq!(socket.json_of("error").await["code"], code, "{text:.60}");
    }
    socket.send(&json!({"message": "x".repeat(4096)})).await;
    assert_eq!(socket.json_of("chat_message").await["seq"], 1);

    // A close with a code, before anything large is buffered.
    let mut huge = vec![0x81, 0xff];
    huge.extend((10_u64 << 20).to_be_bytes());
    huge.extend([1, 2, 3, 4]);
    let endless =
        [frame(0x01, &[b'x'; 60_000]), frame(0x00, &[b'x'; 60_000]), frame(0x00, &[b'x'; 60_000])].concat();
    for (bytes, code) in [
        (huge, 1009),
        (endless, 1009),
        (frame(0x81, &[b'{', 0xff, b'}']), 1007),
        (vec![0x81, 2, b'{', b'}'], 1002),
        (frame(0xc1, b"{}"), 1002),
    ] {
        let mut socket = chat.open(room, 1).await;
        socket.send_bytes(&bytes).await;
        assert_eq!(socket.closed().await, code);
    }
    // Endless empty fragments count as frames.
    let mut socket = chat.open(room, 1).await;
    socket.send_bytes(&frame(0x01, b"")).await;
    socket.send_bytes(&frame(0x00, b"").repeat(1000)).await;
    assert_eq!(socket.closed().await, 4429);

    other.send(&json!({"message": "still here"})).await;
    assert_eq!(other.json().await["id"], other_id(room.0, 1));
    assert_eq!(other.json().await["message"], "still here");
}

fn other_id(room: u64, seq: u64) -> u64 {
    room << 26 | seq
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_refused_frame_by_frame_and_then_closed() {
    let chat = Chat::start("", 2).await;
    let room = chat.pair(1, 2).await;
    let mut socket = chat.open_extended(room, 1).await;
    let started = Instant::now();
    // The burst that the limits allow.
    for number in 0..100 {
        socket.send(&json!({"message": format!("{number}")})).await;
    }
    let (mut stored, mut refused, mut answers) = (0_u32, 0_u32, 100_u32);
    let code = loop {
        match socket.event().await {
            Event::Text(text) if text.contains("rate_limited") => refused += 1,
            Event::Text(text) if text.contains("\"ack\"") => stored += 1,
            Event::Close(code, _) => break code,
            Event::End => panic!("no close"),
            _ => {}
        }
        if stored + refused == answers {
            // Every frame is answered; this is twice the burst at once.
            let frames: Vec<u8> = (0..200).flat_map(|_| frame(0x81, b"{\"message\":\"flood\"}")).collect();
            tokio::io::AsyncWriteExt::write_all(&mut socket.stream, &frames).await.expect("sent");
            answers += 200;
        }
    };
    assert_eq!(code, 4429);
    // Accepted: the burst of 100 and the rate of 50 a second meanwhile. Then 100 refusals, and the close.
    let seconds = started.elapsed().as_secs_f64();
    assert!(stored >= 100 && f64::from(stored) <= 101.0 + 50.0 * seconds, "{stored} in {seconds} s");
    assert_eq!(refused, 100);
    let kept = chat.gateway.app.store.chat_last_seq(room).await.expect("readable");
    assert!(kept >= u64::from(stored), "what was acknowledged is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_reader_is_closed_hinders_nobody_and_loses_nothing() {
    let config = "[chat]\nqueue_bytes_max = 65536\nresume_max = 100000\nframes_per_second_max = 100000\n";
    let chat = Chat::start(config, 3).await;
    let room = chat.group(1, [2, 3]).await;
    let mut slow = chat.try_open(room, 2, "&since=0").await.expect("open");
    let mut reader = chat.open(room, 3).await;
    let text = "x".repeat(4000);
    let mut posted = 0_u64;
    // Sends until the connection and the queue are full.
    while chat.gateway.app.hub.closing() == 0 {
        chat.post(room, 1, &text).await;
        posted += 1;
        assert_eq!(reader.json().await["message"], text.as_str());
        assert!(posted < 20_000, "80 MB are more than a connection holds");
    }
    // The client reads what is in transit, learns the reason, and resumes.
    let mut seen = 0;
    let code = loop {
        match slow.event().await {
            Event::Text(text) => {
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                if frame["type"] == "chat_message" {
                    assert_eq!(frame["seq"], seen + 1);
                    seen += 1;
                }
            }
            Event::Close(code, _) => break code,
            Event::End => panic!("closed without a code"),
            _ => {}
        }
    };
    assert_eq!(code, 4420);
    assert!(seen < posted, "{seen} of {posted}");
    let mut again = chat.try_open(room, 2, &format!("&since={seen}")).await.expect("open");
    for seq in seen + 1..=posted {
        assert_eq!(again.json_of("chat_message").await["seq"], seq);
    }
    let members = chat.gateway.app.chat.room(room, UserId(2)).await.expect("a member");
    assert_eq!(members.last_seq, posted);
}

/// By default a message of 120 KiB costs 31 units of the burst of 100.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_frames_are_charged_by_their_length() {
    let chat = Chat::start("[chat]\ntext_chars_max = 32768\n", 2).await;
    let room = chat.pair(1, 2).await;
    let mut socket = chat.open_extended(room, 1).await;
    socket.send(&json!({"message": "x".repeat(32 * 1024)})).await;
    assert_eq!(socket.json_of("ack").await["seq"], 1);

    let mut socket = chat.open_extended(room, 1).await;
    let unknown = json!({"type": "dance", "x": "x".repeat(120 * 1024)}).to_string();
    // With one write. It may take long enough for some more to pass.
    let frames = frame(0x81, unknown.as_bytes()).repeat(60);
    socket.send_bytes(&frames).await;
    let (mut read, mut refused) = (0, 0);
    let code = loop {
        match socket.event().await {
            Event::Text(text) if text.contains("unknown_type") => read += 1,
            Event::Text(text) if text.contains("rate_limited") => refused += 1,
            Event::Close(code, _) => break code,
            Event::End => panic!("no close"),
            _ => {}
        }
    };
    assert_eq!(code, 4429);
    assert!((3..50).contains(&read) && refused > 0, "{read} read, {refused} refused");
}

/// A member who does not read stops the gap half-way, is kicked, and subscribes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kicked_member_gets_nothing_more_of_a_gap() {
    // 32 MB are more than a connection holds.
    const MESSAGES: u64 = 1000;
    let chat = Chat::start("[chat]\ntext_chars_max = 32000\nresume_max = 100000\n", 2).await;
    let room = chat.group(1, [2]).await;
    let text = "x".repeat(32_000);
    for _ in 0..MESSAGES / 50 {
        futures_util::future::join_all((0..50).map(|_| chat.post(room, 1, &text))).await;
    }
    let (mut socket, _) = chat.open_all(2).await;
    let subscribe = json!({"type": "subscribe", "room": room.0, "since": 0});
    socket.send(&subscribe).await;
    socket.json_of("subscribed").await;
    chat.change(room, 1, RoomRequest::Remove(UserId(2))).await;
    chat.post(room, 1, "after the kick").await;
    socket.send(&subscribe).await;
    let (mut seen, mut codes) = (0, Vec::new());
    loop {
        let frame = socket.json().await;
        match frame["type"].as_str().expect("a type") {
            "chat_message" => {
                assert_eq!(codes, Vec::<Value>::new(), "a message after the end");
                seen += 1;
            }
            "unsubscribed" | "error" => {
                codes.push(frame["code"].clone());
                if codes.len() == 2 {
                    socket.send(&json!({"type": "ping"})).await;
                }
            }
            "pong" => break,
            _ => {}
        }
    }
    assert!(seen < MESSAGES, "{seen}");
    assert_eq!(codes, [json!("kicked"), json!("room_missing")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_bounded_under_hostile_sockets() {
    const SOCKETS: usize = 60;
    let dir = folder("[chat]\nsockets_per_user_max = 1000\n");
    let served = Served::start_logging(dir.path(), &dir.path().join("log"));
    let token = log_in(&served).await;
    let address = format!("{}/ws/?token={token}", served.url);
    let opening = (0..SOCKETS).map(|_| Socket::open(&address, &[]));
    let sockets: Vec<_> = futures_util::future::join_all(opening).await;
    let before = memory_kib(served.child.id());
    let hostile = sockets.into_iter().enumerate().map(|(index, socket)| {
        let mut socket = socket.expect("open");
        tokio::spawn(async move {
            match index % 3 {
                // A frame of 10 MB, as far as it is accepted.
                0 => socket.send_bytes(&frame(0x82, &vec![b'x'; 10 << 20])).await,
                // Endless fragments.
                1 => {
                    for number in 0..5000 {
                        let first = if number == 0 { 0x01 } else { 0x00 };
                        socket.send_bytes(&frame(first, &[b'x'; 2000])).await;
                    }
                }
                // Malformed JSON, as fast as possible.
                _ => {
                    let rubbish = frame(0x81, b"{\"broken\":").repeat(100);
                    for _ in 0..1000 {
                        socket.send_bytes(&rubbish).await;
                    }
                }
            }
            socket.closed().await
        })
    });
    let codes: Vec<_> = futures_util::future::join_all(hostile)
        .await
        .into_iter()
        .map(|code| code.expect("no panic"))
        .collect();
    let grown = memory_kib(served.child.id()).saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB more for {SOCKETS} hostile sockets");
    for (index, code) in codes.iter().enumerate() {
        // A client that keeps sending may lose the close frame with the connection.
        let expected = if index % 3 == 2 { 4429 } else { 1009 };
        assert!(*code == expected || *code == 1006, "socket {index}: {code}");
    }
    let health = client().get(format!("{}/health/", served.url)).send().await.expect("up");
    assert_eq!(health.status(), 200);
    // No token from an address reaches the log.
    let log = std::fs::read_to_string(dir.path().join("log")).expect("a log");
    assert!(!log.contains(&token[token.len() - 20..]), "a token in the log");
}

async fn log_in(served: &Served) -> String {
    let (client, url) = (client(), &served.url);
    let post = |path: &str, body: Value| client.post(format!("{url}{path}")).json(&body).send();
    post("/otp/send/", json!({"mobile_number": "09120000001"})).await.expect("sent");
    let inbox = client.get(format!("{}/sandbox/inbox/", served.operator_url)).send().await.expect("sent");
    let inbox = inbox.text().await.expect("text");
    let inbox: Value = serde_json::from_str(&inbox).expect("JSON");
    let code = code_in(inbox["results"][0]["text"].as_str().expect("a message"));
    let login =
        post("/authenticate/", json!({"mobile_number": "09120000001", "code": code})).await.expect("sent");
    let login: Value = serde_json::from_str(&login.text().await.expect("text")).expect("JSON");
    login["access"].as_str().expect("a token").to_owned()
}

fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a field");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}
