//! A stop: what was asked is answered, and nobody holds it up.

use std::time::Duration;

use chelseru_tests::{PATIENCE, folder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Far longer than a test may take: a stop that waits for it fails.
const GRACE: &str = "[server]\nshutdown_timeout_seconds = 3600\nheader_read_timeout_seconds = 600\n\
    body_read_timeout_seconds = 600\n";

async fn connect(served: &Served) -> TcpStream {
    let address = served.url.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
    TcpStream::connect(address).await.expect("connected")
}

async fn rest_of(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it ends in time");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn answer_to(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"}") {
        stream.read_exact(&mut byte).await.expect("an answer");
        answer.push(byte[0]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

const HEALTH: &str = "GET /drfchelseru/health/ HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Waits until no new connection is taken: the stop has begun.
async fn stopping(served: &Served) {
    let address = served.url.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
    wait_until("the stop", async || TcpStream::connect(&address).await.is_err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reads_the_configuration_again_and_stops_nothing() {
    let dir = folder("");
    let mut town = Town::in_gateway(Served::start(dir.path())).await;
    let status = async || Answer::of(town.client.get(town.operator_url("/status/"))).await.body;
    assert_eq!(status().await["config"]["generation"], 1);
    // The file is as it was, so no watcher reads it.
    town.served.signal("-HUP");
    wait_until("the second generation", async || status().await["config"]["generation"] == 2).await;
    assert_eq!(town.say("still there").await.status, 201);
    town.served.terminate();
    assert!(town.served.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_process_at_once() {
    let dir = folder(GRACE);
    let mut town = Town::in_gateway(Served::start(dir.path())).await;
    let mut body = connect(&town.served).await;
    let head = "POST /drfchelseru/otp/send/ HTTP/1.1\r\nhost: localhost\r\n\
                content-type: application/json\r\ncontent-length: 100000\r\n\r\n";
    body.write_all(head.as_bytes()).await.expect("written");
    // A body whose pieces keep coming holds the stop for seconds.
    let drips = tokio::spawn(async move {
        while body.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    town.served.terminate();
    stopping(&town.served).await;
    town.served.terminate();
    assert_eq!(town.served.ended().await.code(), Some(1), "a stop that was waited for ends with 0");
    drips.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_does_not_hold_the_stop() {
    let dir = folder(GRACE);
    let mut town = Town::in_gateway(Served::start(dir.path())).await;
    // Half a head, half a body, a body whose end never comes, a connection that is kept alive, one that says nothing.
    let send =
        "POST /drfchelseru/otp/send/ HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let mut halves = Vec::new();
    for half in [
        "GET /drfchelseru/hea".to_owned(),
        format!("{send}content-length: 31\r\n\r\n{{\"mobile"),
        format!("{send}transfer-encoding: chunked\r\n\r\n5\r\n{{\"mob\r\n"),
        String::new(),
    ] {
        let mut stream = connect(&town.served).await;
        stream.write_all(half.as_bytes()).await.expect("written");
        halves.push(stream);
    }
    let mut kept = connect(&town.served).await;
    assert!(answer_to(&mut kept, HEALTH).await.starts_with("HTTP/1.1 200"));
    halves.push(kept);
    // A socket of chat waits for nothing either.
    let socket = {
        let mut stream = connect(&town.served).await;
        let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n";
        let request = format!(
            "GET /drfchelseru/ws/ HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             {key}authorization: Bearer {}\r\n\r\n",
            town.access
        );
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 101");
        stream
    };
    halves.push(socket);
    town.served.terminate();
    // [`Served::ended`] has a bound that is a fraction of the grace time.
    assert!(town.served.ended().await.success());
    drop(halves);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_were_sent_are_answered_before_the_end() {
    let dir = folder(GRACE);
    let mut town = Town::in_gateway(Served::start(dir.path())).await;
    // On kept-alive connections a second request is sent just before the stop, on others just after it.
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = connect(&town.served).await;
        assert!(answer_to(&mut stream, HEALTH).await.starts_with("HTTP/1.1 200"));
        streams.push(stream);
    }
    // The gateway has the head of this one and waits for its body.
    let mut asked = connect(&town.served).await;
    let head = "POST /drfchelseru/otp/send/ HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
        content-length: 31\r\nexpect: 100-continue\r\n\r\n";
    asked.write_all(head.as_bytes()).await.expect("written");
    let mut interim = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    asked.read_exact(&mut interim).await.expect("an interim answer");
    for stream in &mut streams {
        stream.write_all(HEALTH.as_bytes()).await.expect("written");
    }
    town.served.terminate();
    asked.write_all(br#"{"mobile_number":"09120000020"}"#).await.expect("written");
    for stream in &mut streams {
        let answer = rest_of(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "a request that was sent was not answered: {answer:?}");
    }
    let answer = rest_of(&mut asked).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    assert!(town.served.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_keeps_asking_does_not_hold_the_stop() {
    let dir = folder(GRACE);
    let mut town = Town::in_gateway(Served::start(dir.path())).await;
    let mut stream = connect(&town.served).await;
    // One byte of a body now and then, for ever.
    let drip = tokio::spawn({
        let mut slow = connect(&town.served).await;
        async move {
            let head = "POST /drfchelseru/otp/send/ HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 1000\r\n\r\n";
            slow.write_all(head.as_bytes()).await.expect("written");
            while slow.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
    // One request after the other on the same connection, for as long as it lasts.
    let asking = tokio::spawn(async move {
        let mut answers = 0;
        let mut buffer = [0; 4096];
        while stream.write_all(HEALTH.as_bytes()).await.is_ok() {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => answers += 1,
            }
        }
        answers
    });
    town.served.terminate();
    stopping(&town.served).await;
    let answers = tokio::time::timeout(PATIENCE, asking).await.expect("it ends in time").expect("no panic");
    assert!(answers > 0);
    assert!(town.served.ended().await.success());
    drop(drip);
}
