//! Every limit of the listener, reached over a real socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_domain::clock::SystemClock;
use chelseru_tests::{Answer, PATIENCE, TestGateway};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TIGHT: &str = r#"
[server]
connections_max = 3
header_read_timeout_seconds = 1
headers_max = 16
header_bytes_max = 8192
body_bytes_max = 1024
body_read_timeout_seconds = 1
"#;

async fn connect(gateway: &TestGateway) -> TcpStream {
    let address = gateway.url.trim_start_matches("http://").split('/').next().expect("an address");
    TcpStream::connect(address).await.expect("connected")
}

/// The gateway's reply until it closes the connection.
async fn exchange(gateway: &TestGateway, request: &str) -> String {
    let mut stream = connect(gateway).await;
    stream.write_all(request.as_bytes()).await.expect("written");
    read_to_end(stream).await
}

async fn read_to_end(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the reply is an end, too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it ends in time");
    String::from_utf8_lossy(&answer).into_owned()
}

fn send_otp(headers: &str, body: &str) -> String {
    format!(
        "POST /drfchelseru/otp/send/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n{body}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_head_and_an_idle_connection_are_closed() {
    let gateway = TestGateway::start(TIGHT).await;
    let started = Instant::now();
    let mut slow = connect(&gateway).await;
    slow.write_all(b"GET /drfchelseru/health/ HT").await.expect("written");
    read_to_end(slow).await;
    assert!(started.elapsed() >= Duration::from_millis(900), "closed after {:?}", started.elapsed());

    let started = Instant::now();
    let mut idle = connect(&gateway).await;
    idle.write_all(b"GET /drfchelseru/health/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("written");
    let answer = read_to_end(idle).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(started.elapsed() >= Duration::from_millis(900), "closed after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_and_too_large_headers_answer_431() {
    let gateway = TestGateway::start(TIGHT).await;
    let many: String = (0..17).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert!(exchange(&gateway, &send_otp(&many, "")).await.starts_with("HTTP/1.1 431"));
    let large = format!("x-large: {}\r\n", "a".repeat(9000));
    assert!(exchange(&gateway, &send_otp(&large, "")).await.starts_with("HTTP/1.1 431"));
    let fits: String = (0..12).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert!(exchange(&gateway, &send_otp(&fits, "")).await.starts_with("HTTP/1.1 400"), "a field error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_or_slow_body_is_refused() {
    let gateway = TestGateway::start(TIGHT).await;
    let json = "content-type: application/json\r\n";
    for (bytes, status) in [(1024, "HTTP/1.1 400"), (1025, "HTTP/1.1 413")] {
        let body = "a".repeat(bytes);
        let answer =
            exchange(&gateway, &send_otp(&format!("{json}content-length: {bytes}\r\n"), &body)).await;
        assert!(answer.starts_with(status), "{bytes} bytes: {answer}");
    }
    let chunk = "400\r\n".to_owned() + &"a".repeat(1024) + "\r\n";
    let endless = send_otp(&format!("{json}transfer-encoding: chunked\r\n"), &chunk.repeat(2));
    assert!(exchange(&gateway, &endless).await.starts_with("HTTP/1.1 413"));
    let slow = exchange(&gateway, &send_otp(&format!("{json}content-length: 10\r\n"), "{")).await;
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_past_the_limit_waits_for_room() {
    let gateway = TestGateway::start(
        &TIGHT.replace("header_read_timeout_seconds = 1", "header_read_timeout_seconds = 20"),
    )
    .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&gateway).await;
        stream
            .write_all(b"GET /drfchelseru/health/ HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .expect("written");
        let mut byte = [0];
        stream.read_exact(&mut byte).await.expect("served");
        held.push(stream);
    }
    let mut waiting = connect(&gateway).await;
    let request = b"GET /drfchelseru/health/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    waiting.write_all(request).await.expect("written");
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(300), waiting.read_exact(&mut byte)).await;
    assert!(early.is_err(), "the fourth connection was served while three were open");
    held.pop();
    assert!(read_to_end(waiting).await.contains("200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_is_refused_and_the_next_client_is_served() {
    let gateway = TestGateway::start(TIGHT).await;
    for rubbish in [
        "\r\n\r\n\0\0\0",
        "GET\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /\u{7f}\u{0} HTTP/1.1\r\n\r\n",
    ] {
        let answer = exchange(&gateway, rubbish).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{rubbish:?}: {answer}");
    }
    assert_eq!(gateway.get("/health/", None).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_of_operators_are_on_their_listener_and_clients_routes_are_not() {
    let gateway = TestGateway::start("").await;
    for path in ["/status/", "/metrics/", "/live/", "/ready/", "/sandbox/inbox/"] {
        let public = || gateway.client.get(format!("{}{path}", gateway.url));
        for request in
            [public(), public().header("host", "127.0.0.1"), public().header("host", "localhost:8001")]
        {
            assert_eq!(Answer::of(request).await.status, 404, "{path}");
        }
        assert_eq!(gateway.get(path, None).await.status, 200, "{path}");
        // A forwarded address changes nothing there, either.
        let forwarded = gateway.client.get(gateway.at(path)).header("x-forwarded-for", "203.0.113.7");
        assert_eq!(Answer::of(forwarded).await.status, 200, "{path}");
        // A name that nobody configured may be one that an attacker's page resolves to this listener.
        let named = gateway.client.get(gateway.at(path)).header("host", "gateway.example");
        assert_eq!(Answer::of(named).await.status, 421, "{path}");
    }
    for path in ["/health/", "/openapi.json", "/me/", "/wallet/", "/ws/"] {
        // The document describes the clients' listener; here the route does not exist.
        let request = gateway.client.get(format!("{}{path}", gateway.operator_url));
        assert_eq!(request.send().await.expect("a reply").status(), 404, "{path}");
    }
}

/// Every command and operator route works over a unix socket, which only its owner can open.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn operators_are_served_on_a_unix_socket() {
    use std::os::unix::fs::PermissionsExt;

    let config = "[server]\nlisten = \"127.0.0.1:0\"\n[operator]\nlisten = \"unix:data/operator.sock\"\n";
    let gateway = TestGateway::start(config).await;
    let socket = gateway.dir.path().join("data/operator.sock");
    assert_eq!(std::fs::metadata(&socket).expect("a socket").permissions().mode() & 0o777, 0o600);
    let mut stream = tokio::net::UnixStream::connect(&socket).await.expect("connected");
    let request = "GET /drfchelseru/ready/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let run = |arguments: &'static [&'static str]| {
        let dir = gateway.dir.path().to_owned();
        tokio::task::spawn_blocking(move || chelseru_tests::process::run(&dir, arguments))
    };
    let listed = run(&["plugin", "list", "--json"]).await.expect("no panic");
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed["running"], true, "{listed}");
    let users = run(&["user", "list"]).await.expect("no panic");
    assert!(users.status.success(), "{users:?}");

    // The socket file is removed with the gateway; one left by a crash is replaced.
    let dir = gateway.stop().await;
    assert!(!socket_in(&dir).exists());
    drop(std::os::unix::net::UnixListener::bind(socket_in(&dir)).expect("left behind"));
    let gateway = TestGateway::start_in(dir, std::sync::Arc::new(chelseru_domain::clock::SystemClock)).await;
    assert!(tokio::net::UnixStream::connect(socket_in(&gateway.dir)).await.is_ok());
}

#[cfg(unix)]
fn socket_in(dir: &tempfile::TempDir) -> std::path::PathBuf {
    dir.path().join("data/operator.sock")
}

/// `ready/` answers 503 while clients finish; `live/` keeps answering 200.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_is_live_and_not_ready() {
    let gateway = TestGateway::start("").await;
    let mut stream = connect(&gateway).await;
    let head = "content-type: application/json\r\ncontent-length: 31\r\nexpect: 100-continue\r\n";
    stream.write_all(send_otp(head, "").as_bytes()).await.expect("written");
    let mut interim = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut interim).await.expect("asked for the body");
    let (ready, live) = (gateway.at("/ready/"), gateway.at("/live/"));
    let client = gateway.client.clone();
    // The first answer waits for the OpenAPI document that answers are compared with, for seconds.
    assert_eq!(Answer::of(client.get(&ready)).await.status, 200);
    // The body arrives in pieces, so the request is in flight until it is complete.
    let feeding = tokio::spawn(async move {
        let mut body = b"{\"mobile_number\": \"09120000001\"}".chunks(1);
        loop {
            let stopping = Answer::of(client.get(&ready)).await;
            if stopping.status == 503 {
                assert_eq!(stopping.body["status"], "stopping");
                assert_eq!(Answer::of(client.get(&live)).await.status, 200);
                return stream;
            }
            if let Some(piece) = body.next() {
                stream.write_all(piece).await.expect("written");
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let stopped = tokio::spawn(gateway.stop());
    drop(feeding.await.expect("not ready while it stops"));
    stopped.await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_answers_what_is_in_flight() {
    let gateway = TestGateway::start("").await;
    let mut stream = connect(&gateway).await;
    let head = "content-type: application/json\r\ncontent-length: 31\r\nexpect: 100-continue\r\n";
    stream.write_all(send_otp(head, "").as_bytes()).await.expect("written");
    // The gateway asks for the body, so it has received the head.
    let mut interim = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut interim).await.expect("an interim answer");
    assert!(interim.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&interim));
    let address = stream.peer_addr().expect("connected");
    let stopping = tokio::spawn(gateway.stop());
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < until, "a stopping gateway still takes connections");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stream.write_all(br#"{"mobile_number":"09120000020"}"#).await.expect("written");
    let answer = read_to_end(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stopping.await.expect("stopped");
}

/// More changes than may wait: each request is done or refused with 503, none fails, and a repeat goes through.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_of_changes_is_busy_and_no_error() {
    let gateway = TestGateway::start("").await;
    let access = gateway.login("09120000001").await.access;
    let dir = gateway.stop().await;
    let config = dir.path().join("config.toml");
    let text = std::fs::read_to_string(&config).expect("a file");
    std::fs::write(&config, format!("{text}\n[data]\nchanges_waiting_max = 1\n")).expect("a file");
    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    let send = async |turn: usize| {
        let request = match turn % 3 {
            0 => {
                let body = json!({"first_name": format!("name {turn}")});
                gateway.client.patch(gateway.at("/me/")).json(&body)
            }
            1 => {
                let body = json!({"amount": 5000, "order_id": turn.to_string()});
                gateway.client.post(gateway.at("/payment/create/")).json(&body)
            }
            _ => {
                let body = json!({"mobile_number": format!("0912{:07}", turn + 2)});
                gateway.client.post(gateway.at("/otp/send/")).json(&body)
            }
        };
        Answer::of(request.bearer_auth(&access)).await
    };
    let (mut done, mut busy) = ([0; 3], [0; 3]);
    let until = Instant::now() + PATIENCE;
    while busy.contains(&0) || done.contains(&0) {
        assert!(Instant::now() < until, "done {done:?}, busy {busy:?}");
        let turns = done.iter().chain(&busy).sum::<usize>();
        let answers = futures_util::future::join_all((turns..turns + 60).map(&send)).await;
        for (turn, answer) in (turns..).zip(answers) {
            match answer.status {
                200 | 201 => done[turn % 3] += 1,
                503 => {
                    assert_eq!((&answer.body["code"], answer.header("retry-after")), (&json!("busy"), "1"));
                    busy[turn % 3] += 1;
                }
                _ => panic!("{answer:?}"),
            }
        }
    }
    for turn in 0..3 {
        let mut answer = send(999_999 + turn).await;
        while answer.status == 503 && Instant::now() < until {
            answer = send(999_999 + turn).await;
        }
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    }
}
