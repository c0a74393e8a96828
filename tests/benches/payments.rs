//! Payments a second (create, callback, verify, credit) beside bare commits; ledger postings; balance reads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::ids::UserId;
use chelseru_simulator::Simulator;
use chelseru_store::{Store, StoreOptions};
use chelseru_tests::TestGateway;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::measure::{Connection, cpu_seconds, median, micros, percentile, runtime, sorted};
use crate::sms::{commits, rate};

const CALLERS: usize = 64;
const RUNS: usize = 3;
const RUN_TIME: Duration = Duration::from_secs(3);
/// Durable changes of a payment: created, started, settled.
const COMMITS_PER_PAYMENT: f64 = 3.0;
/// Postings of a large and of a small ledger.
const POSTINGS: [u64; 2] = [1000, 1_000_000];
const READS: usize = 20_000;

const ZARINPAL: &str = r#"
[auth]
access_token_seconds = 86400
[payment]
gateway = "ZARINPAL_COM"
callback_urls = ["https://shop.example/pay"]
[provider.ZARINPAL_COM]
hosts = ["SIMULATOR"]
[provider.ZARINPAL_COM.settings]
merchant_id = "00000000-0000-0000-0000-000000000000"
base_url = "http://SIMULATOR"
"#;

/// One kept-alive connection.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("set");
        Client { stream, buffer: vec![0; 16 * 1024] }
    }

    /// Sends a request and returns the JSON of the reply. Panics unless its status is 200.
    async fn ask(&mut self, head: &str, body: &str) -> Value {
        let length = body.len();
        let request = format!(
            "{head}\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await.expect("sent");
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await.expect("answered");
            assert!(read > 0, "closed");
            filled += read;
            let text = String::from_utf8_lossy(&self.buffer[..filled]);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.to_ascii_lowercase();
            let length = length.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            let length: usize = length.and_then(|length| length.parse().ok()).expect("a length");
            if body.len() >= length {
                assert!(head.starts_with("HTTP/1.1 200"), "{text}");
                return serde_json::from_str(body).expect("JSON");
            }
        }
    }
}

/// Credited payments a second: each caller creates a payment, returns from the bank, and repeats.
async fn payments(gateway: &TestGateway, simulator: &Arc<Simulator>, access: &str) -> f64 {
    let address: SocketAddr =
        gateway.url.trim_start_matches("http://").split('/').next().expect("one").parse().expect("one");
    let started = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (access, simulator) = (access.to_owned(), simulator.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                let mut done = 0_u64;
                while started.elapsed() < RUN_TIME {
                    let head = format!(
                        "POST /drfchelseru/payment/create/ HTTP/1.1\r\nauthorization: Bearer {access}"
                    );
                    let body = r#"{"amount":1000,"callback_url":"https://shop.example/pay"}"#;
                    let made = client.ask(&head, body).await;
                    let authority = made["details"]["authority"].as_str().expect("an authority").to_owned();
                    let back = simulator.callback_url(&authority).expect("known to the bank");
                    let key = back.split_once('?').expect("a key").1;
                    let head = format!(
                        "GET /drfchelseru/payment/verify/?{key}&Authority={authority}&Status=OK HTTP/1.1"
                    );
                    let paid = client.ask(&head, "").await;
                    assert_eq!(paid["details"]["is_pay"], 1, "{paid}");
                    done += 1;
                }
                done
            })
        })
        .collect();
    rate(callers, started).await
}

/// Postings a second by the ledger alone.
async fn postings() -> f64 {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path(), StoreOptions::default()).expect("open");
    let started = Instant::now();
    let callers: Vec<_> = (0..CALLERS as u64)
        .map(|caller| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut done = 0_u64;
                while started.elapsed() < RUN_TIME {
                    let key = format!("bench:{caller}:{done}");
                    let now = SystemClock.now();
                    assert!(store.ledger_probe(key, UserId(caller), 1000, now).await.expect("stored"));
                    done += 1;
                }
                done
            })
        })
        .collect();
    rate(callers, started).await
}

/// Sorted times of reading a balance in a ledger with a number of postings.
struct BalanceReads {
    /// The store alone, in this process.
    inside: Vec<Duration>,
    /// `wallet/` over one kept-alive connection.
    request: Vec<Duration>,
}

async fn balance_reads(count: u64) -> BalanceReads {
    const USERS: u64 = 1000;
    const STEP: u64 = 4000;
    let gateway = TestGateway::start("[auth]\naccess_token_seconds = 86400\n").await;
    let tokens = crate::chat::log_in(&gateway, USERS).await;
    let store = &gateway.app.store;
    for first in (0..count).step_by(STEP as usize) {
        let last = (first + STEP).min(count);
        let posts = (first..last).map(|n| {
            store.ledger_probe(format!("bench:{n}"), UserId(1 + n % USERS), 1000, SystemClock.now())
        });
        for posted in futures_util::future::join_all(posts).await {
            assert!(posted.expect("stored"));
        }
    }
    // Visits users in an order that defeats caches.
    let users = || (0..READS as u64).map(|n| 1 + n.wrapping_mul(0x9E37_79B9) % USERS);
    let mut inside = Vec::with_capacity(READS);
    for user in users() {
        let started = Instant::now();
        let balance = store.wallet_balance(UserId(user)).await.expect("readable");
        inside.push(started.elapsed());
        assert!(balance.available > 0);
    }
    let inside = sorted(inside.into_iter());
    let (url, users) = (gateway.url.clone(), users().collect::<Vec<_>>());
    let requests = tokio::task::spawn_blocking(move || {
        let mut connection = Connection::open(&url);
        sorted(users.iter().map(|user| {
            let head = "GET /drfchelseru/wallet/ HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ";
            let request = format!("{head}{}\r\n\r\n", tokens[*user as usize - 1]);
            let started = Instant::now();
            let answer = connection.ask(request.as_bytes());
            let took = started.elapsed();
            assert!(answer.contains(&format!("\"user\":{user}}}")), "{answer}");
            took
        }))
    });
    BalanceReads { inside, request: requests.await.expect("no panic") }
}

pub(crate) fn run() {
    runtime().block_on(async {
        let simulator = Arc::new(Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator"));
        simulator.settings(|settings| settings.zarinpal.paid_at_once = true);
        let config = ZARINPAL.replace("SIMULATOR", &simulator.addr.to_string());
        let gateway = TestGateway::start(&config).await;
        let access = gateway.login("09121234567").await.access;
        let (mut bares, mut rates, mut shares, mut cpus) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut posted, mut posted_shares) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let bare = commits().await;
            let before = cpu_seconds();
            let rate = payments(&gateway, &simulator, &access).await;
            cpus.push((cpu_seconds() - before) / (rate * RUN_TIME.as_secs_f64()) * 1e6);
            let ledger = postings().await;
            bares.push(bare);
            rates.push(rate);
            shares.push(rate * COMMITS_PER_PAYMENT / bare);
            posted.push(ledger);
            posted_shares.push(ledger / bare);
        }
        println!(
            "create + callback + verify + credit through Zarinpal's stand-in: {:.0} payments/s, {:.0} us of CPU each (client and stand-in included); bare commits {:.0}/s; {COMMITS_PER_PAYMENT} commits a payment, ratio {:.2} ({CALLERS} callers)",
            median(rates),
            median(cpus),
            median(bares),
            median(shares)
        );
        println!(
            "ledger alone: {:.0} postings/s; ratio to bare commits {:.2}; reach: 0.60",
            median(posted),
            median(posted_shares)
        );
        let report = gateway.app.store.ledger_verify().await.expect("readable");
        assert_eq!(report.difference, None);
        println!("ledger verify afterwards: right, {} postings", report.postings);
        drop((gateway, simulator));
        let [few, many] = [balance_reads(POSTINGS[0]).await, balance_reads(POSTINGS[1]).await];
        let [few_postings, many_postings] = POSTINGS;
        for (what, few, many) in
            [("wallet/ as a request", &few.request, &many.request), ("the store alone", &few.inside, &many.inside)]
        {
            for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
                let (few, many) = (percentile(few, share), percentile(many, share));
                println!(
                    "balance, {what}, {name}: {:.1} us among {few_postings} postings, {:.1} us among {many_postings}; \
                     ratio {:.2}; reach: 1.50",
                    micros(few),
                    micros(many),
                    many.as_secs_f64() / few.as_secs_f64()
                );
            }
        }
        crate::payments_staff::run().await;
    });
}
