//! Authenticated `GET sessions/` beside bare hyper with the same reply.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use chelseru_tests::TestGateway;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::measure::{median, runtime};

const CONNECTIONS: usize = 32;
const RUN_TIME: Duration = Duration::from_secs(3);
const RUNS: usize = 5;
/// Length of the end of a reply, by which it is recognised: `"current":true}]`.
const END_BYTES: usize = 16;

/// Requests a second of one client thread over kept-alive connections.
fn load(address: SocketAddr, request: &[u8], answer: &[u8]) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let request = Bytes::copy_from_slice(request);
        // Reads until the last bytes and not up to a length: about once in a million requests, `last_seen` is a whole
        // second, has no fraction, and makes the reply seven bytes shorter.
        let end = Bytes::copy_from_slice(&answer[answer.len() - END_BYTES..]);
        let answer_bytes = answer.len();
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (stop, answered) = (stop.clone(), answered.clone());
                let (request, end) = (request.clone(), end.clone());
                tokio::spawn(async move {
                    let mut stream = TcpStream::connect(address).await.expect("connected");
                    stream.set_nodelay(true).expect("set");
                    let mut buffer = vec![0; answer_bytes];
                    while !stop.load(Ordering::Relaxed) {
                        stream.write_all(&request).await.expect("sent");
                        let mut filled = 0;
                        while !buffer[..filled].ends_with(&end) {
                            let read = stream.read(&mut buffer[filled..]).await.expect("answered");
                            assert!(read > 0, "cut: {}", String::from_utf8_lossy(&buffer[..filled]));
                            filled += read;
                        }
                        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer));
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = answered.load(Ordering::Relaxed);
        let started = std::time::Instant::now();
        tokio::time::sleep(RUN_TIME).await;
        let rate = (answered.load(Ordering::Relaxed) - before) as f64 / started.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        for connection in connections {
            connection.await.expect("no panic");
        }
        rate
    })
}

/// One reply, head and body.
fn one(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).expect("connected");
    stream.write_all(request).expect("sent");
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        answer.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let length =
        head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).expect("a body");
    answer.extend(body);
    answer
}

/// Starts bare hyper on its own runtime. It answers with these headers and this body.
fn bare(head: Vec<(String, String)>, body: Bytes) -> SocketAddr {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            sender.send(listener.local_addr().expect("an address")).expect("somebody waits");
            loop {
                let (stream, _) = listener.accept().await.expect("accepted");
                stream.set_nodelay(true).expect("set");
                let (head, body) = (head.clone(), body.clone());
                let service = service_fn(move |_request| {
                    let mut response = hyper::Response::builder();
                    for (name, value) in &head {
                        response = response.header(name, value);
                    }
                    let response = response.body(Full::new(body.clone())).expect("valid headers");
                    async move { Ok::<_, Infallible>(response) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
    });
    receiver.recv().expect("bare hyper listens")
}

pub(crate) fn run() {
    let server = runtime();
    let (gateway, login) = server.block_on(async {
        let config = "[auth]\naccess_token_seconds = 86400\n";
        let gateway = TestGateway::start(config).await;
        let login = gateway.login("09120000000").await;
        (gateway, login)
    });
    let address: SocketAddr = gateway
        .url
        .trim_start_matches("http://")
        .split('/')
        .next()
        .expect("an address")
        .parse()
        .expect("one");
    let request = format!(
        "GET /drfchelseru/sessions/ HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
        login.access
    );
    let answer = one(address, request.as_bytes());
    let text = String::from_utf8(answer.clone()).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let head: Vec<(String, String)> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| *name != "content-length" && *name != "date")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let bare_address = bare(head, Bytes::from(body.to_owned()));
    assert_eq!(one(bare_address, request.as_bytes()).len(), answer.len(), "the same bytes");

    let (mut ratios, mut rates, mut bares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let bare = load(bare_address, request.as_bytes(), &answer);
        let rate = load(address, request.as_bytes(), &answer);
        ratios.push(rate / bare);
        rates.push(rate);
        bares.push(bare);
    }
    println!(
        "sessions/: {:.0} requests/s; bare hyper {:.0}/s; ratio {:.2}; reach: 0.60 ({} bytes, {CONNECTIONS} connections)",
        median(rates),
        median(bares),
        median(ratios),
        answer.len()
    );
}
