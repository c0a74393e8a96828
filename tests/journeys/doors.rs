//! Doors: what a stranger, and one user among others, can take away from everybody else. Each journey plays both sides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_tests::socket::Socket;
use chelseru_tests::{Answer, PATIENCE, TestGateway};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn connect(gateway: &TestGateway) -> TcpStream {
    let address = gateway.url.trim_start_matches("http://").split('/').next().expect("an address");
    TcpStream::connect(address).await.expect("connected")
}

/// What the gateway answers until it closes the connection.
async fn exchange(gateway: &TestGateway, request: &str) -> String {
    let mut stream = connect(gateway).await;
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.expect("the connection ends").expect("read");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_one_valid_host_is_refused() {
    let gateway = TestGateway::start("").await;
    let ask = async |target: &str, version: &str, hosts: &str| {
        let request = format!("GET {target} HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
        exchange(&gateway, &request).await
    };
    let path = "/drfchelseru/health/";
    for (version, hosts) in [
        ("1.1", ""),
        ("1.1", "host: a.example\r\nhost: b.example\r\n"),
        ("1.1", "host: a b\r\n"),
        ("1.1", "host: user@a.example\r\n"),
        ("1.1", "host:\r\n"),
        ("1.0", "host: a/b\r\n"),
    ] {
        let answer = ask(path, version, hosts).await;
        assert!(answer.contains(" 400 ") && answer.contains("host_not_valid"), "{hosts:?}: {answer}");
    }
    for (version, hosts) in [("1.1", "host: a.example:8000\r\n"), ("1.1", "host: [::1]\r\n"), ("1.0", "")] {
        assert!(ask(path, version, hosts).await.contains(" 200 "), "{hosts:?}");
    }
    // The target's own authority counts.
    let absolute = format!("http://other.example{path}");
    assert!(ask(&absolute, "1.1", "host: a.example\r\n").await.contains(" 200 "));
    assert!(ask(&absolute, "1.1", "").await.contains(" 400 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_of_another_version_is_426() {
    let gateway = TestGateway::start("").await;
    let ask = async |http: &str, versions: &str| {
        let head = "host: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
        let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: chelseru\r\n";
        let mut stream = connect(&gateway).await;
        let request = format!("GET /drfchelseru/ws/ HTTP/{http}\r\n{head}{key}{versions}\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.expect("an answer");
        String::from_utf8_lossy(&status[9..]).into_owned()
    };
    for versions in [
        "sec-websocket-version: 13, 8\r\n",
        "sec-websocket-version: 8, 13\r\n",
        "sec-websocket-version: 8\r\n",
        "sec-websocket-version: 13\r\nsec-websocket-version: 8\r\n",
        "",
    ] {
        assert_eq!(ask("1.1", versions).await, "426", "{versions}");
    }
    assert_eq!(ask("1.0", "sec-websocket-version: 13\r\n").await, "426");
    assert_eq!(ask("1.1", "sec-websocket-version: 13\r\n").await, "101");
}

/// All places are held by clients that ask and do not read; the next client is served all the same.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_do_not_keep_their_places() {
    let config = "[server]\nconnections_max = 3\nwrite_timeout_seconds = 1\n";
    let gateway = TestGateway::start(config).await;
    let request = "GET /drfchelseru/openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1000);
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&gateway).await;
        // The connection fills up, or is ended already.
        let _ = tokio::time::timeout(Duration::from_secs(2), stream.write_all(request.as_bytes())).await;
        held.push(stream);
    }
    let health = tokio::time::timeout(PATIENCE, gateway.get("/health/", None)).await;
    assert_eq!(health.expect("served within the patience").status, 200);
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_body_past_the_limit_is_refused_before_it_is_sent() {
    let gateway = TestGateway::start("[server]\nbody_bytes_max = 1024\n").await;
    let mut stream = connect(&gateway).await;
    let head = "POST /drfchelseru/otp/send/ HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut status = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut status)).await.expect("at once").expect("read");
    assert_eq!(&status[9..], b"413");
}

/// Whoever sends on after an early refusal reads the reply nevertheless, and sees no reset.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_refused_early_still_reads_why() {
    let gateway = TestGateway::start("[server]\nbody_bytes_max = 1024\n").await;
    // One length is announced, the other shows while it is read.
    for length in ["content-length: 400000", "transfer-encoding: chunked"] {
        let mut stream = connect(&gateway).await;
        let head = format!(
            "POST /drfchelseru/otp/send/ HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/json\r\n{length}\r\n\r\n61a80\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("written");
        stream.write_all(&[b' '; 2048]).await.expect("written");
        let mut first = [0];
        let replied = tokio::time::timeout(PATIENCE, stream.peek(&mut first)).await;
        assert_eq!(replied.expect("refused early").expect("open"), 1);
        for _ in 0..50 {
            stream.write_all(&[b' '; 4096]).await.expect("taken, although nobody wants it");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut reply = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut reply)).await;
        read.expect("closed").expect("not reset");
        let reply = String::from_utf8_lossy(&reply);
        assert!(reply.starts_with("HTTP/1.1 413 ") && reply.contains("body_too_large"), "{length}: {reply}");
    }
}

const PROXIED: &str = "trusted_proxies = [\"127.0.0.0/8\"]\n";

/// A client's address, as a proxy says it or as its connection shows it.
#[derive(Clone, Copy)]
enum From {
    Proxied(&'static str),
    /// `127.0.0.N`.
    Direct(u8),
}

/// A stranger holds half-sent bodies; the owner of another address, and a small body of the same, go through.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_in_memory_are_bounded_in_total_and_for_each_proxied_address() {
    bodies_in_memory_are_bounded(PROXIED, From::Proxied("203.0.113.1"), From::Proxied("198.51.100.1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_in_memory_are_bounded_in_total_and_for_each_direct_address() {
    bodies_in_memory_are_bounded("", From::Direct(2), From::Direct(3)).await;
}

async fn bodies_in_memory_are_bounded(server: &str, stranger: From, other: From) {
    let config = format!("[server]\nbody_bytes_max = 65536\nbodies_bytes_max = 262144\n{server}");
    let gateway = TestGateway::start(&config).await;
    let send = async |from: From, promised: usize, sent: usize| {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        let mut forwarded = String::new();
        match from {
            From::Proxied(address) => forwarded = format!("x-forwarded-for: {address}\r\n"),
            From::Direct(last) => {
                socket.bind(([127, 0, 0, last], 0).into()).expect("an address of this machine")
            }
        }
        let mut stream = socket.connect(gateway.app.public).await.expect("accepted");
        let head = format!(
            "POST /drfchelseru/otp/send/ HTTP/1.1\r\nhost: localhost\r\n{forwarded}\
             content-type: application/json\r\ncontent-length: {promised}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("written");
        stream.write_all(&vec![b' '; sent]).await.expect("written");
        stream
    };
    let status = async |mut stream: TcpStream| {
        let mut status = [0; 12];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut status))
            .await
            .expect("answered")
            .expect("read");
        String::from_utf8_lossy(&status[9..]).into_owned()
    };
    // The share of an address is a quarter: 64 KiB and what is not counted of each body. Where the question overtakes
    // the body that is to be held, it is that body which is refused, and both are sent again.
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(10);
    let held = loop {
        let held = send(stranger, 65536, 60000).await;
        tokio::time::sleep(pause).await;
        if status(send(stranger, 20000, 20000).await).await == "503" {
            break held;
        }
        assert!(Instant::now() < until, "the share of the address is not used up");
        pause *= 2;
    };
    assert_eq!(status(send(stranger, 4096, 4096).await).await, "400", "a small body is read");
    assert_eq!(status(send(other, 20000, 20000).await).await, "400", "another address is not hindered");
    drop(held);
    let until = Instant::now() + PATIENCE;
    while status(send(stranger, 20000, 20000).await).await != "400" {
        assert!(Instant::now() < until, "the memory is not given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sockets are connections too: a client of a trusted proxy holds its share of them, and others theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxied_address_has_a_share_of_the_connections() {
    let config = format!("[server]\nconnections_max = 20\n{PROXIED}");
    let gateway = TestGateway::start(&config).await;
    let address = format!("{}/ws/", gateway.url);
    let open = async |from: &str| {
        let headers = [("x-forwarded-for", from), ("sec-websocket-protocol", "chelseru")];
        Socket::open(&address, &headers).await.map_err(|refusal| (refusal.status, refusal.body))
    };
    let first = open("203.0.113.1").await.expect("open");
    let second = open("203.0.113.1").await.expect("open");
    let (status, body) = open("203.0.113.1").await.err().expect("past ten percent");
    assert!(status == 503 && body.contains("connections_full"), "{status} {body}");
    let other = open("198.51.100.1").await.expect("another address is not hindered");
    drop(first);
    let until = Instant::now() + PATIENCE;
    while open("203.0.113.1").await.is_err() {
        assert!(Instant::now() < until, "the place is not given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop((second, other));
}

/// Clients that connect directly, from addresses of their own. 127.0.0.1 alone has no share: it is a proxy that nobody
/// declared, or the operator.
#[tokio::test(flavor = "multi_thread")]
async fn a_direct_address_has_a_share_of_the_connections() {
    let gateway =
        TestGateway::start("[server]\nconnections_max = 40\nheader_read_timeout_seconds = 300\n").await;
    let from = |last: u8| {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, last], 0).into()).expect("an address of this machine");
        socket
    };
    let gate = gateway.url.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
    let gate: std::net::SocketAddr = gate.parse().expect("an address");
    // One request on a connection that stays open; 0 when the connection was closed instead.
    let hold = async |last: u8| {
        let mut stream = from(last).connect(gate).await.expect("accepted");
        let ask = "GET /drfchelseru/health/ HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let mut status = [0; 12];
        let answered = async {
            stream.write_all(ask.as_bytes()).await?;
            stream.read_exact(&mut status).await
        };
        match tokio::time::timeout(PATIENCE, answered).await.expect("within the patience") {
            Ok(_) => (String::from_utf8_lossy(&status[9..]).parse().unwrap_or(0_u16), stream),
            Err(_) => (0, stream),
        }
    };
    let mut held = Vec::new();
    for _ in 0..4 {
        let (status, stream) = hold(2).await;
        assert_eq!(status, 200, "ten percent of the connections");
        held.push(stream);
    }
    let (refused, _) = hold(2).await;
    assert!(matches!(refused, 0 | 503), "past ten percent: {refused}");
    for last in [3, 4] {
        for _ in 0..3 {
            let (status, stream) = hold(last).await;
            assert_eq!(status, 200, "a neighbour of the same network");
            held.push(stream);
        }
    }
    let (refused, _) = hold(5).await;
    assert!(matches!(refused, 0 | 503), "past a quarter for the network: {refused}");
    for _ in 0..5 {
        let (status, stream) = hold(1).await;
        assert_eq!(status, 200, "this machine");
        held.push(stream);
    }
    drop(held);
    let until = Instant::now() + PATIENCE;
    while hold(2).await.0 != 200 {
        assert!(Instant::now() < until, "the places are not given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_without_a_token_have_a_share_for_each_address() {
    let config = format!("[server]\n{PROXIED}[chat]\nsockets_unknown_per_address_max = 2\n");
    let gateway = TestGateway::start(&config).await;
    let address = format!("{}/ws/", gateway.url);
    let open = async |from: &str| {
        let headers = [("x-forwarded-for", from), ("sec-websocket-protocol", "chelseru")];
        Socket::open(&address, &headers).await.map_err(|refusal| refusal.status)
    };
    let mut first = open("203.0.113.1").await.expect("open");
    let _second = open("203.0.113.1").await.expect("open");
    assert_eq!(open("203.0.113.1").await.err(), Some(503));
    let _other = open("198.51.100.1").await.expect("another address is not hindered");
    // A token makes it a user's socket, which is counted for the user.
    let token = gateway.login("09120000001").await.access;
    first.send(&json!({"type": "auth", "token": token})).await;
    first.json_of("authenticated").await;
    open("203.0.113.1").await.expect("the place is free");
}

/// One user has sent enough; others go on, and so does the user in the next minute.
#[tokio::test(flavor = "multi_thread")]
async fn one_user_cannot_send_without_end() {
    let gateway = TestGateway::start("[chat]\nmessages_per_minute_max = 3\n").await;
    let (one, two) = (gateway.login("09120000001").await, gateway.login("09120000002").await);
    let post = async |token: &str, path: &str, body: Value| {
        Answer::of(gateway.client.post(gateway.at(path)).bearer_auth(token).json(&body)).await
    };
    let room = post(&one.access, "/chat/chatrooms/", json!({"user": 2})).await;
    let room = room.body["id"].as_u64().unwrap_or_else(|| panic!("a room: {room:?}"));
    let path = "/chat/messages/";
    for number in 0..3 {
        let sent = post(&one.access, path, json!({"chat_room": room, "text": number.to_string()})).await;
        assert!(sent.status < 300, "{sent:?}");
    }
    let refused = post(&one.access, path, json!({"chat_room": room, "text": "x"})).await;
    assert_eq!((refused.status, &refused.body["code"]), (429, &json!("allowance_used")), "{refused:?}");
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    let other = post(&two.access, path, json!({"chat_room": room, "text": "y"})).await;
    assert!(other.status < 300, "{other:?}");
    // Sockets count alike.
    let address = format!("{}/chat/{room}/?token={}&events=1", gateway.url, one.access);
    let mut socket = Socket::open(&address, &[]).await.expect("open");
    socket.send(&json!({"type": "publish", "message": "z"})).await;
    assert_eq!(socket.json_of("error").await["code"], "allowance_used");
}

/// A member cannot send the original's clients a frame of the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_cannot_forge_a_frame() {
    let gateway = TestGateway::start("").await;
    let (one, two) = (gateway.login("09120000001").await, gateway.login("09120000002").await);
    let request = gateway.client.post(gateway.at("/chat/chatrooms/")).bearer_auth(&one.access);
    let room = Answer::of(request.json(&json!({"user": 2}))).await.body["id"].as_u64().expect("a room");
    let open = async |token: &str| {
        Socket::open(&format!("{}/chat/{room}/?token={token}", gateway.url), &[]).await.expect("open")
    };
    let (mut attacker, mut victim) = (open(&one.access).await, open(&two.access).await);
    let forged =
        r#"{"message_type":"webrtc_signal","type":"offer","type":"chat_message","id":1,"message":"pay me"}"#;
    attacker.send_text(forged).await;
    assert_eq!(attacker.json().await["code"], "invalid_fields");
    let offer = r#"{"message_type":"webrtc_signal","type":"offer","sdp":"v=0","id":9,"created_at":"x",
        "sender":{"id":7,"username":"bank"},"room":99}"#;
    attacker.send_text(offer).await;
    let got = victim.json().await;
    assert_eq!(got["sender"]["id"], 1, "{got}");
    assert_eq!((&got["type"], &got["sdp"], &got["room"]), (&json!("offer"), &json!("v=0"), &json!(room)));
    assert!(got["id"].is_null() && got["created_at"].is_null(), "{got}");
}

/// A stranger asks and guesses for an hour; whoever has the phone logs in, in any network.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_does_not_lock_a_number_out() {
    let shield = "[sms.shield]\nnumber_gap_seconds = 0\n";
    let gateway =
        TestGateway::start(&format!("[server]\n{PROXIED}[auth]\notp_resend_seconds = 1\n{shield}")).await;
    let post = async |from: &str, path: &str, body: Value| {
        let request = gateway.client.post(gateway.at(path)).header("x-forwarded-for", from);
        Answer::of(request.json(&body)).await
    };
    let number = "09120000001";
    let (stranger, owner) = ("203.0.113.1", "198.51.100.1");
    // The owner has an account that was used from there.
    assert_eq!(post(owner, "/otp/send/", json!({"mobile_number": number})).await.status, 200);
    let code = gateway.sandbox_code(number).await;
    post(owner, "/authenticate/", json!({"mobile_number": number, "code": code})).await.login();

    let until = Instant::now() + PATIENCE;
    let mut stopped = false;
    while !stopped {
        let asked = post(stranger, "/otp/send/", json!({"mobile_number": number})).await;
        stopped = asked.status == 429;
        assert!(stopped || matches!(asked.status, 200 | 409), "{asked:?}");
        assert!(Instant::now() < until, "one address asks without end");
        for _ in 0..6 {
            let guess = json!({"mobile_number": number, "code": "000000x"});
            assert_eq!(post(stranger, "/authenticate/", guess).await.status, 401);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The code that is under way opens a session for its owner, although a stranger asked for it and guessed.
    let code = gateway.sandbox_code(number).await;
    let elsewhere = "192.0.2.77";
    post(elsewhere, "/authenticate/", json!({"mobile_number": number, "code": code})).await.login();
    // And the owner gets another one.
    assert_eq!(post(owner, "/otp/send/", json!({"mobile_number": number})).await.status, 200);
    let code = gateway.sandbox_code(number).await;
    post(owner, "/authenticate/", json!({"mobile_number": number, "code": code})).await.login();
}

/// As above, for the codes that set a new password.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_does_not_lock_a_number_out_of_a_reset() {
    let shield = "[sms.shield]\nnumber_gap_seconds = 0\n";
    let auth = "[auth]\nmethod = [\"OTP\", \"PASSWD\"]\notp_resend_seconds = 1\n";
    let gateway = TestGateway::start(&format!("[server]\n{PROXIED}{auth}{shield}")).await;
    let post = async |from: &str, path: &str, body: Value| {
        let request = gateway.client.post(gateway.at(path)).header("x-forwarded-for", from);
        Answer::of(request.json(&body)).await
    };
    let number = "09120000001";
    let (stranger, owner) = ("203.0.113.1", "198.51.100.1");
    assert_eq!(post(owner, "/otp/send/", json!({"mobile_number": number})).await.status, 200);
    let code = gateway.sandbox_code(number).await;
    post(owner, "/authenticate/", json!({"mobile_number": number, "code": code})).await.login();
    let codes = async || {
        let inbox = gateway.get(&format!("/sandbox/inbox/?mobile_number={number}"), None).await;
        inbox.body["results"].as_array().expect("a list").len()
    };
    let reset = async |from: &str, code: &str| {
        let body = json!({"mobile_number": number, "code": code, "new_password": "kavir darya 7"});
        post(from, "/password/reset/", body).await.status
    };

    let until = Instant::now() + PATIENCE;
    loop {
        let asked = post(stranger, "/password/reset/send/", json!({"mobile_number": number})).await;
        if asked.status == 429 {
            break;
        }
        assert_eq!(asked.status, 200, "{asked:?}");
        assert!(Instant::now() < until, "one address asks without end");
        for _ in 0..6 {
            assert_eq!(reset(stranger, "000000x").await, 401);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Where the account was used before, another code comes, once the pending one may be followed by another.
    let until = Instant::now() + PATIENCE;
    while !gateway.app.detached.is_empty() {
        assert!(Instant::now() < until, "work in the background never ends");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let before = codes().await;
    let asked = post(owner, "/password/reset/send/", json!({"mobile_number": number})).await;
    assert_eq!(asked.status, 200, "the owner's own part: {asked:?}");
    while codes().await == before {
        assert!(Instant::now() < until, "the owner gets no code");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The stranger's guesses at it burn only the stranger's chance, and the owner may have changed networks.
    let code = gateway.sandbox_code(number).await;
    for _ in 0..6 {
        assert_eq!(reset(stranger, "000000x").await, 401);
    }
    assert_eq!(reset("192.0.2.77", &code).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_of_sane_form_is_kept() {
    let gateway = TestGateway::start("").await;
    let ask = async |id: &str| {
        let request = gateway.client.get(gateway.at("/health/")).header("x-request-id", id);
        Answer::of(request).await.header("x-request-id").to_owned()
    };
    let longest = "a".repeat(64);
    for id in ["1f0c6e3a-7d", "req_12345678", "A.b-c_9x", &longest] {
        assert_eq!(ask(id).await, id);
    }
    for id in
        ["short", "has space in it", "semi;colon", &"a".repeat(65), "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"]
    {
        assert_ne!(ask(id).await, id, "{id:?}");
    }
}

/// However it came to be: made by hand, by a build, or copied from elsewhere.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_data_folder_is_closed_to_other_users() {
    use std::os::unix::fs::PermissionsExt;

    let dir = chelseru_tests::folder("");
    let data = dir.path().join("data");
    std::fs::create_dir_all(data.join("uploads/aa")).expect("a folder");
    std::fs::write(data.join("uploads/aa/file"), "a chat").expect("a file");
    for (path, mode) in
        [(data.clone(), 0o755), (data.join("uploads/aa/file"), 0o666), (data.join("uploads"), 0o777)]
    {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("opened");
    }
    let served = chelseru_tests::process::Served::start(dir.path());
    let sent = served.url.clone() + "/otp/send/";
    let sent = chelseru_tests::client().post(sent).json(&json!({"mobile_number": "09120000001"}));
    assert_eq!(Answer::of(sent).await.status, 200);
    let mut folders = vec![data];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let found = entry.metadata().expect("there");
            assert_eq!(found.permissions().mode() & 0o077, 0, "{}", entry.path().display());
            if found.is_dir() {
                folders.push(entry.path());
            }
            seen += 1;
        }
        let mode = std::fs::metadata(&folder).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
    }
    assert!(seen > 5, "{seen}");
}

/// A day's allowance is not renewed with the minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_users_day_has_an_end() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let day = "bytes_per_day_max = 1024\n";
    for (key, sent) in [("messages_per_day_max = 3\n", "x".to_owned()), (day, "y".repeat(300))] {
        let gateway = TestGateway::start_at(&format!("[chat]\n{key}"), clock.clone()).await;
        let mut one = gateway.login("09120000001").await;
        gateway.login("09120000002").await;
        let post = async |token: &str, path: &str, body: Value| {
            Answer::of(gateway.client.post(gateway.at(path)).bearer_auth(token).json(&body)).await
        };
        let room = post(&one.access, "/chat/chatrooms/", json!({"user": 2})).await;
        let message = json!({"chat_room": room.body["id"], "text": sent});
        let mut accepted = 0;
        let refused = loop {
            let sent = post(&one.access, "/chat/messages/", message.clone()).await;
            if sent.status >= 400 {
                break sent;
            }
            accepted += 1;
        };
        assert_eq!((accepted, refused.status), (3, 429), "{key}: {refused:?}");
        clock.advance(Duration::from_secs(61));
        assert_eq!(post(&one.access, "/chat/messages/", message.clone()).await.status, 429, "{key}");
        clock.advance(Duration::from_secs(24 * 60 * 60));
        one = gateway.login("09120000001").await;
        assert_eq!(post(&one.access, "/chat/messages/", message).await.status, 201, "{key}");
    }
}

/// One user begins payments without end; another one pays.
#[tokio::test(flavor = "multi_thread")]
async fn one_user_begins_so_many_payments_in_an_hour() {
    let gateway = TestGateway::start("[payment]\npayments_per_hour_max = 2\n").await;
    let (one, two) = (gateway.login("09120000001").await, gateway.login("09120000002").await);
    let begin = async |token: &str| {
        let request = gateway.client.post(gateway.at("/payment/create/")).bearer_auth(token);
        Answer::of(request.json(&json!({"amount": 1000}))).await
    };
    for _ in 0..2 {
        assert_eq!(begin(&one.access).await.status, 200);
    }
    let refused = begin(&one.access).await;
    assert_eq!((refused.status, &refused.body["code"]), (429, &json!("payments_limited")), "{refused:?}");
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=3600).contains(&wait), "{wait}");
    assert_eq!(begin(&two.access).await.status, 200);
}

/// One address registers accounts and guesses passwords; whoever is elsewhere does both.
#[tokio::test(flavor = "multi_thread")]
async fn registrations_and_guesses_are_counted_by_address() {
    let config = format!(
        "[server]\n{PROXIED}[auth]\nmethod = [\"PASSWD\"]\nregistrations_per_hour_max = 2\n\
         password_attempts_max = 2\n"
    );
    let gateway = TestGateway::start(&config).await;
    let (stranger, owner) = ("203.0.113.1", "198.51.100.1");
    let post = async |from: &str, path: &str, body: Value| {
        let request = gateway.client.post(gateway.at(path)).header("x-forwarded-for", from);
        Answer::of(request.json(&body)).await
    };
    let account =
        |name: &str| json!({"username": name, "password": "kavir darya 7", "password2": "kavir darya 7"});
    for name in ["one", "two"] {
        assert_eq!(post(stranger, "/register/", account(name)).await.status, 201);
    }
    let refused = post(stranger, "/register/", account("three")).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (429, &json!("registrations_limited")),
        "{refused:?}"
    );
    assert_eq!(post(owner, "/register/", account("علیرضا")).await.status, 201);
    let guess = |password: &str| json!({"username": "عليرضا", "password": password});
    for status in [401, 401, 429] {
        assert_eq!(post(stranger, "/login/", guess("a wrong one")).await.status, status);
    }
    post(owner, "/login/", guess("kavir darya 7")).await.login();
    assert_eq!(post(stranger, "/login/", guess("kavir darya 7")).await.status, 429);
}

/// A page in an operator's browser that lets its own name lead to this machine.
#[tokio::test(flavor = "multi_thread")]
async fn the_operators_listener_answers_to_its_own_names_only() {
    let gateway = TestGateway::start("[operator]\nhosts = [\"gateway.internal\"]\n").await;
    let address = gateway.operator_url.trim_start_matches("http://").split('/').next().expect("an address");
    let ask = async |host: &str| {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request =
            format!("GET /drfchelseru/status/ HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
        read.expect("the connection ends").expect("read");
        answer
    };
    for host in [address, "localhost:1", "[::1]", "Gateway.Internal"] {
        assert!(ask(host).await.starts_with("HTTP/1.1 200"), "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80"] {
        let answer = ask(host).await;
        assert!(
            answer.starts_with("HTTP/1.1 421") && answer.contains("host_not_allowed"),
            "{host}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_listed_in_pages() {
    let gateway = TestGateway::start("").await;
    let one = gateway.login("09120000001").await;
    let get = async |query: &str| gateway.get(&format!("/chat/chatrooms/{query}"), Some(&one.access)).await;
    let empty = get("?page=1").await;
    assert_eq!((empty.status, &empty.body["results"]), (200, &json!([])), "{empty:?}");
    for number in 0..51 {
        let body = json!({"users": [], "name": number.to_string()});
        let made = gateway.client.post(gateway.at("/chat/chatrooms/")).bearer_auth(&one.access).json(&body);
        assert_eq!(Answer::of(made).await.status, 201);
    }
    let all = get("").await;
    let all = all.body.as_array().expect("the original's list");
    assert_eq!((all.len(), &all[0]["name"]), (51, &json!("50")), "the newest first");
    let (first, second) = (get("?page=1").await.body, get("?page=2").await.body);
    assert_eq!((first["results"].as_array().map(Vec::len), &first["previous"]), (Some(50), &Value::Null));
    assert_eq!((second["results"].as_array().map(Vec::len), &second["next"]), (Some(1), &Value::Null));
    let next =
        Answer::of(gateway.client.get(first["next"].as_str().expect("a link")).bearer_auth(&one.access));
    assert_eq!(next.await.body["results"], second["results"]);
    assert!(second["previous"].as_str().is_some_and(|link| link.ends_with("?page=1")), "{second}");
    for wrong in ["?page=0", "?page=3", "?page=x", "?page=-1", "?page=99999999999999999999"] {
        assert_eq!(get(wrong).await.status, 404, "{wrong}");
    }
}

/// Names of users, rooms and files do not change the direction of what is shown after them.
#[tokio::test(flavor = "multi_thread")]
async fn names_lose_direction_overrides() {
    let gateway = TestGateway::start("").await;
    let one = gateway.login("09120000001").await;
    let name = "\u{202e}ali\u{2066}\u{200f}";
    let body = json!({"first_name": name, "last_name": name});
    let me = Answer::of(gateway.client.patch(gateway.at("/me/")).bearer_auth(&one.access).json(&body)).await;
    assert_eq!((&me.body["first_name"], &me.body["last_name"]), (&json!("ali"), &json!("ali")), "{me:?}");
    let body = json!({"users": [], "name": name});
    let room = gateway.client.post(gateway.at("/chat/chatrooms/")).bearer_auth(&one.access).json(&body);
    let room = Answer::of(room).await.body;
    assert_eq!(room["name"], "ali");
    let url = gateway.at(&format!("/chat/chatrooms/{}/", room["id"]));
    let body = json!({"name": "\u{202a}reza"});
    let renamed = Answer::of(gateway.client.patch(url).bearer_auth(&one.access).json(&body)).await;
    assert_eq!(renamed.body["name"], "reza");
}
