//! Durably accepted messages a second with a provider that answers immediately, and a restart on 100,000 messages.
//!
//! Two baselines: bare commits, and a relay that makes the same two HTTP exchanges and stores nothing. The restart
//! measures how soon a gateway sends again when 100,000 messages wait.

use chelseru_store::SmsOwner;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::operator::api_key;
use chelseru_simulator::{Fault, Simulator};
use chelseru_store::{SmsClass, SmsContent, SmsDraft, SmsInserted, Store, StoreOptions, Timestamp};
use chelseru_tests::{PATIENCE, TestGateway, folder};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::measure::{median, runtime};

const CALLERS: usize = 64;
const RUNS: usize = 3;
const RUN_TIME: Duration = Duration::from_secs(3);
const WAITING: u64 = 100_000;

const KAVENEGAR: &str = r#"
[sms]
service = "KAVENEGAR_COM"
[provider.KAVENEGAR_COM]
hosts = ["SIMULATOR"]
[provider.KAVENEGAR_COM.settings]
api_key = "test-key"
base_url = "http://SIMULATOR"
"#;

fn config(simulator: &Simulator) -> String {
    KAVENEGAR.replace("SIMULATOR", &simulator.addr.to_string())
}

/// Smallest durable changes a second with the same number of callers.
pub(crate) async fn commits() -> f64 {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path(), StoreOptions::default()).expect("open");
    let started = Instant::now();
    let callers: Vec<_> = (0..CALLERS as u64)
        .map(|caller| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut done = 0_u64;
                while started.elapsed() < RUN_TIME {
                    let key = [caller.to_be_bytes(), done.to_be_bytes()].concat();
                    store.probe_put(&key, &[7; 100]).await.expect("stored");
                    done += 1;
                }
                done
            })
        })
        .collect();
    rate(callers, started).await
}

pub(crate) async fn rate(callers: Vec<tokio::task::JoinHandle<u64>>, started: Instant) -> f64 {
    let mut sum = 0;
    for caller in callers {
        sum += caller.await.expect("no panic");
    }
    sum as f64 / started.elapsed().as_secs_f64()
}

/// Bytes of the gateway's reply to a message.
const ANSWER_BYTES: usize = 400;

/// Starts bare hyper that asks the simulated provider once per request, with a client like the gateway's, and answers
/// as many bytes as the gateway: the cost of two HTTP exchanges per message.
async fn relay(simulator: &Simulator) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let url = format!("http://{}/v1/test-key/sms/send.json", simulator.addr);
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let local_id = Arc::new(AtomicU64::new(1));
    let answer = Bytes::from(vec![b'x'; ANSWER_BYTES]);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("a socket");
            let (url, client, local_id, answer) =
                (url.clone(), client.clone(), local_id.clone(), answer.clone());
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let (url, client, answer) = (url.clone(), client.clone(), answer.clone());
                let local_id = local_id.fetch_add(1, Ordering::Relaxed);
                async move {
                    request.into_body().collect().await.expect("a body");
                    let body = format!("receptor=09120000000&message=hello&localid={local_id}");
                    let asked = client
                        .post(url)
                        .header("content-type", "application/x-www-form-urlencoded")
                        .body(body)
                        .send()
                        .await
                        .expect("answered");
                    assert_eq!(asked.status(), 200);
                    asked.bytes().await.expect("a body");
                    Ok::<_, Infallible>(hyper::Response::new(Full::new(answer)))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

fn address(gateway: &TestGateway) -> SocketAddr {
    gateway.url.trim_start_matches("http://").split('/').next().expect("one").parse().expect("one")
}

/// Replies of `message/send/` a second over kept-alive connections: 200, or 202 when the caller does not wait.
async fn sends(address: SocketAddr, token: &str, callers: usize, wait: bool) -> f64 {
    let started = Instant::now();
    let callers: Vec<_> = (0..callers)
        .map(|caller| {
            let token = token.to_owned();
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.expect("connected");
                stream.set_nodelay(true).expect("set");
                let mut buffer = vec![0; 8192];
                let mut done = 0_u64;
                while started.elapsed() < RUN_TIME {
                    let body = format!(
                        r#"{{"mobile_number":"0912{:07}","message_text":"hello","wait":{wait}}}"#,
                        (caller as u64 * 100_000 + done) % 10_000_000
                    );
                    let request = format!(
                        "POST /drfchelseru/message/send/ HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Api-Key {token}\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(request.as_bytes()).await.expect("sent");
                    read_answer(&mut stream, &mut buffer).await;
                    done += 1;
                }
                done
            })
        })
        .collect();
    rate(callers, started).await
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.expect("answered");
        assert!(read > 0, "closed");
        filled += read;
        let text = String::from_utf8_lossy(&buffer[..filled]);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let lower = head.to_ascii_lowercase();
        let length: usize = lower
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next())
            .and_then(|length| length.parse().ok())
            .expect("a length");
        if body.len() >= length {
            assert!(head.starts_with("HTTP/1.1 20"), "{text}");
            return;
        }
    }
}

async fn open(config: &str) -> (TestGateway, String) {
    let gateway = TestGateway::start(config).await;
    let key = api_key::create(&gateway.app.store, SystemClock.now(), "bench", "sms", None).await;
    (gateway, key.expect("a key").token)
}

/// Fills a data folder with waiting messages.
async fn fill(dir: &Path) {
    let store = Store::open(dir.join("data/db"), StoreOptions::default()).expect("open");
    let now = SystemClock.now();
    let draft = |n: u64| {
        let at = Timestamp::from_micros(now.as_micros() + n);
        SmsDraft {
            id: at.as_micros(),
            number: format!("+98912{:07}", n % 10_000_000),
            content: SmsContent::Text("hello".into()),
            class: SmsClass::Notice,
            owner: SmsOwner::ApiKey(1),
            created_at: at,
            deadline: at.plus(Duration::from_secs(3600)),
            begun: None,
            tried: Vec::new(),
            idempotency: None,
            quota: None,
            queue_max: WAITING,
        }
    };
    for first in (0..WAITING).step_by(4000) {
        let inserts = (first..first + 4000).map(|n| store.sms_insert(draft(n)));
        for inserted in futures_util::future::join_all(inserts).await {
            assert_eq!(inserted.expect("stored"), SmsInserted::Inserted);
        }
    }
    store.close();
}

/// Resident memory of this process in MiB. Source: `/proc/self/statm`, in pages of 4 KiB.
fn memory_mib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok()).expect("a number") / 256.0
}

async fn restart() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let dir = folder(&config(&simulator));
    fill(dir.path()).await;
    // A slow provider keeps the queue long while memory is measured.
    simulator.fault(Fault::delay("kavenegar", 20).accept(true)).expect("a fault");
    let before = memory_mib();
    let started = Instant::now();
    let gateway = TestGateway::start_in(dir, std::sync::Arc::new(SystemClock)).await;
    let listening = started.elapsed();
    while simulator.accepted("kavenegar") == 0 {
        assert!(started.elapsed() < PATIENCE, "nothing was sent");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let sending = started.elapsed();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (sent, memory) = (simulator.accepted("kavenegar"), memory_mib());
    println!(
        "restart on {WAITING} waiting messages: listening after {listening:.0?}, sending after {sending:.0?} (reach: 2 s); {sent} sent in 3 s; memory {before:.0} -> {memory:.0} MiB (page cache of 128 MiB included)"
    );
    drop(gateway);
}

pub(crate) fn run() {
    let runtime = runtime();
    runtime.block_on(async {
        let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
        let (gateway, token) = open(&config(&simulator)).await;
        let (sandbox, sandbox_token) = open("").await;
        let (mut bares, mut rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let (mut stored, mut without_http) = (Vec::new(), Vec::new());
        let (mut relays, mut relay_ratios) = (Vec::new(), Vec::new());
        let relay = relay(&simulator).await;
        let (gateway_at, sandbox_at) = (address(&gateway), address(&sandbox));
        // One caller: the end-to-end time of a message without other traffic.
        let alone = sends(gateway_at, &token, 1, true).await;
        let alone_without = sends(sandbox_at, &sandbox_token, 1, true).await;
        for _ in 0..RUNS {
            let bare = commits().await;
            let rate = sends(gateway_at, &token, CALLERS, true).await;
            let relayed = sends(relay, &token, CALLERS, true).await;
            relays.push(relayed);
            relay_ratios.push(rate / relayed);
            bares.push(bare);
            rates.push(rate);
            ratios.push(rate / bare);
            without_http.push(sends(sandbox_at, &sandbox_token, CALLERS, true).await);
            // Stored for the queue; no caller waits.
            stored.push(sends(sandbox_at, &sandbox_token, CALLERS, false).await);
        }
        let (rate, bare) = (median(rates), median(bares));
        println!(
            "message/send/ through Kavenegar's stand-in: {rate:.0} messages/s; bare commits {bare:.0}/s; ratio {:.2}; reach: 0.50 ({CALLERS} callers)",
            median(ratios)
        );
        let relayed = median(relays);
        // One change before the provider is asked and one after it answered. Fewer would lose a message or its outcome.
        let bound = 1.0 / (1.0 / relayed + 2.0 / bare);
        println!(
            "the same two HTTP exchanges, nothing stored and no plugin: {relayed:.0}/s, {:.2} of bare commits; we have {:.2} of it",
            relayed / bare,
            median(relay_ratios)
        );
        println!(
            "those and two bare commits a message: at most {bound:.0}/s, {:.2} of bare commits; we have {:.2} of it",
            bound / bare,
            rate / bound
        );
        let without_http = median(without_http);
        println!(
            "without HTTP client and provider (sandbox plugin): {without_http:.0} messages/s; so client and provider cost {:.0} us of a message",
            1e6 / rate - 1e6 / without_http
        );
        println!("only stored (wait false), sent beside: {:.0} messages/s", median(stored));
        println!(
            "one caller: {:.2} ms a message, {:.2} ms without HTTP client and provider",
            1e3 / alone,
            1e3 / alone_without
        );
        drop((gateway, sandbox, simulator));
        restart().await;
    });
}
