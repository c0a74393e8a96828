//! Two gateways, their database and their bus under load, while each of the four is killed, paused or cut off in turn:
//! nothing acknowledged is lost, nothing is doubled, and whoever watches sees all of it in order.
//!
//! Runs where `CHELSERU_FAULT_SECONDS` says how long; a failure prints its seed, `CHELSERU_SEED` runs it again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use chelseru_postgres_server::Server;
use chelseru_simulator::Simulator;
use chelseru_tests::bus::BusServer;
use chelseru_tests::process::Served;
use chelseru_tests::socket::{Event, Socket};
use chelseru_tests::{Answer, PATIENCE, code_in, folder};
use serde_json::{Value, json};

/// A request that takes longer is tried again, at the other gateway.
const REQUEST_WAIT: Duration = Duration::from_secs(20);
/// In a run of so many seconds some pauses take a minute.
const LONG_SECONDS: u64 = 300;
const WRITERS: u64 = 4;
const TOMAN: u64 = 1000;

const CONFIG: &str = r#"
[auth]
access_token_seconds = 86400
[log]
level = "error"
[chat]
strangers = "admit"
heartbeat_seconds = 5
[payment]
gateway = "ZARINPAL_COM"
reconcile_seconds = 1
[provider.ZARINPAL_COM]
hosts = ["SIMULATOR"]
[provider.ZARINPAL_COM.settings]
merchant_id = "00000000-0000-0000-0000-000000000000"
base_url = "http://SIMULATOR"
[store]
engine = "postgres"
url = "DATABASE"
connections_max = 8
[bus]
url = "BUS"
"#;

/// Where the two gateways are now.
#[derive(Clone)]
struct Town {
    urls: Arc<RwLock<[String; 2]>>,
    client: reqwest::Client,
    stop: Arc<AtomicBool>,
}

impl Town {
    fn url(&self, node: usize) -> String {
        self.urls.read().expect("no panic under the lock")[node].clone()
    }

    fn runs(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Asks one gateway after the other until one of them gives an answer that is no fault of theirs.
    async fn ask(&self, first: usize, what: impl Fn(&str) -> reqwest::RequestBuilder) -> Answer {
        let until = Instant::now() + PATIENCE * 2;
        for node in first.. {
            let request = what(&self.url(node % 2)).timeout(REQUEST_WAIT);
            match Answer::try_of(request).await {
                Ok(answer) if answer.status < 500 => return answer,
                Ok(answer) => assert!(Instant::now() < until, "only faults: {answer:?}"),
                Err(error) => assert!(Instant::now() < until, "no answer: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        unreachable!("the loop above has no end of its own")
    }
}

/// Writes into a room until the end; returns the texts that were acknowledged.
async fn write(town: Town, room: u64, writer: u64, access: String) -> Vec<String> {
    let mut written = Vec::new();
    while town.runs() {
        let text = format!("{writer}-{}", written.len());
        let body = json!({"chat_room": room, "text": text, "client_id": format!("client-{text}")});
        let sent = town.ask(written.len() + writer as usize, |url| {
            town.client.post(format!("{url}/chat/messages/")).bearer_auth(&access).json(&body)
        });
        let sent = sent.await;
        assert!(sent.status == 201 || sent.status == 200, "{sent:?}");
        written.push(text);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    written
}

/// Begins, pays and confirms payments until the end; returns how many were confirmed.
async fn pay(town: Town, bank: Arc<Simulator>, access: String) -> u64 {
    let mut paid = 0;
    while town.runs() {
        let create = town.ask(paid as usize, |url| {
            let create = town.client.post(format!("{url}/payment/create/")).bearer_auth(&access);
            create.json(&json!({"amount": TOMAN}))
        });
        let created = create.await;
        assert_eq!(created.status, 200, "{created:?}");
        let authority = created.body["details"]["authority"].as_str().expect("text").to_owned();
        assert!(bank.pay(&authority));
        let until = Instant::now() + PATIENCE * 2;
        for node in paid as usize + 1.. {
            let verify = town.ask(node, |url| {
                let back = format!("{url}/payment/verify/?Authority={authority}&Status=OK");
                town.client.get(back).bearer_auth(&access)
            });
            let verified = verify.await;
            if verified.body["details"]["is_pay"] == 1 {
                break;
            }
            assert!(Instant::now() < until, "{verified:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        paid += 1;
    }
    paid
}

/// What a watcher saw of a room.
#[derive(Default)]
struct Seen {
    texts: Vec<String>,
    last: u64,
    reconnects: u64,
}

/// Watches a room at one gateway while it can, resumes at the other one, and sees every number once.
async fn watch(
    town: Town,
    room: u64,
    access: String,
    home: usize,
    seen: Arc<Mutex<Seen>>,
    end: Arc<AtomicU64>,
) {
    let mut node = home;
    loop {
        let last = seen.lock().expect("no panic under the lock").last;
        let offered = format!("chelseru, bearer.{access}");
        let at = format!("{}/chat/{room}/?since={last}", town.url(node % 2));
        let headers = [("Sec-WebSocket-Protocol", offered.as_str())];
        let opened = Socket::try_open(&at, &headers);
        if let Ok(Ok(Ok(mut socket))) = tokio::time::timeout(REQUEST_WAIT, opened).await {
            while let Ok(event) = tokio::time::timeout(REQUEST_WAIT, socket.event_ever()).await {
                match event {
                    Event::Text(text) => {
                        let frame: Value = serde_json::from_str(&text).expect("JSON");
                        assert_ne!(frame["type"], "reset", "{frame}");
                        if frame["type"] == "chat_message" {
                            let mut seen = seen.lock().expect("no panic under the lock");
                            let seq = frame["seq"].as_u64().expect("a number");
                            assert_eq!(seq, seen.last + 1, "gateway {}: {frame}", node % 2);
                            seen.last = seq;
                            seen.texts.push(frame["message"].as_str().expect("a text").to_owned());
                        }
                    }
                    Event::Ping(payload) => {
                        socket.send_bytes(&chelseru_tests::socket::frame(0x8a, &payload)).await
                    }
                    Event::Close(..) | Event::End => break,
                    _ => {}
                }
                if seen.lock().expect("no panic under the lock").last >= end.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
        seen.lock().expect("no panic under the lock").reconnects += 1;
        node += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The four that faults befall.
struct Servers {
    town: Town,
    dirs: [tempfile::TempDir; 2],
    nodes: [Option<Served>; 2],
    bus: BusServer,
    database: Server,
    state: u64,
    /// Some pauses of a gateway take a minute.
    long: bool,
}

impl Servers {
    fn below(&mut self, bound: u64) -> u64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % bound
    }

    fn start(&mut self, node: usize) {
        let served = Served::start(self.dirs[node].path());
        self.town.urls.write().expect("no panic under the lock")[node].clone_from(&served.url);
        self.nodes[node] = Some(served);
    }

    /// One fault, and its end.
    async fn fault(&mut self) -> &'static str {
        let node = self.below(2) as usize;
        let wait = Duration::from_millis(200 + self.below(1500));
        match self.below(6) {
            0 => {
                self.nodes[node].take().expect("it runs").kill();
                tokio::time::sleep(wait).await;
                self.start(node);
                "a gateway was killed"
            }
            1 => {
                let mut served = self.nodes[node].take().expect("it runs");
                served.terminate();
                served.ended().await;
                self.start(node);
                "a gateway was restarted"
            }
            2 => {
                let minute = self.long && self.below(4) == 0;
                let served = self.nodes[node].as_ref().expect("it runs");
                served.signal("-STOP");
                tokio::time::sleep(if minute { Duration::from_secs(60) } else { wait * 3 }).await;
                served.signal("-CONT");
                "a gateway was paused"
            }
            3 => {
                self.bus.kill();
                tokio::time::sleep(wait).await;
                self.bus.restart();
                "the bus was killed"
            }
            4 => {
                self.bus.signal("-STOP");
                tokio::time::sleep(wait * 2).await;
                self.bus.signal("-CONT");
                "the bus was paused"
            }
            _ => {
                self.database.crash();
                tokio::time::sleep(wait).await;
                self.database.restart();
                "the database was killed"
            }
        }
    }
}

async fn log_in(client: &reqwest::Client, served: &Served, number: &str) -> String {
    let post = |path: &str, body: Value| Answer::of(client.post(format!("{}{path}", served.url)).json(&body));
    post("/otp/send/", json!({"mobile_number": number})).await;
    let inbox = client.get(format!("{}/sandbox/inbox/?mobile_number={number}", served.operator_url));
    let code = code_in(Answer::of(inbox).await.body["results"][0]["text"].as_str().expect("a message"));
    post("/authenticate/", json!({"mobile_number": number, "code": code})).await.login().access
}

/// Two gateways as processes, over servers of their own. `None` where one is not installed.
fn servers(bank: &Simulator, seed: u64, long: bool) -> Option<Servers> {
    let (bus, database) = (BusServer::start()?, Server::own()?);
    database.make("town", "template1");
    let config = CONFIG.replace("SIMULATOR", &bank.addr.to_string()).replace("BUS", &bus.url());
    let config = config.replace("DATABASE", &database.url("town"));
    let dirs = [folder(&config), folder(&config)];
    let town = Town {
        urls: Arc::default(),
        client: chelseru_tests::client(),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let mut servers = Servers { town, dirs, nodes: [None, None], bus, database, state: seed, long };
    servers.start(0);
    let key = |dir: &tempfile::TempDir| dir.path().join("data/master.key");
    std::fs::copy(key(&servers.dirs[0]), key(&servers.dirs[1])).expect("the key is copied");
    servers.start(1);
    Some(servers)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_doubled_whatever_dies() {
    let read = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let Some(seconds) = read("CHELSERU_FAULT_SECONDS") else {
        return println!(
            "skipped: faults of several gateways; CHELSERU_FAULT_SECONDS=600 runs them for ten minutes"
        );
    };
    let seed = read("CHELSERU_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}, {seconds} s");
    let bank = Arc::new(Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator"));
    let Some(mut servers) = servers(&bank, seed, seconds >= LONG_SECONDS) else { return };
    let (town, client) = (servers.town.clone(), servers.town.client.clone());

    let home = servers.nodes[0].as_ref().expect("it runs");
    let mut tokens = Vec::new();
    for user in 1..=WRITERS + 2 {
        tokens.push(log_in(&client, home, &format!("0912000000{user}")).await);
    }
    let others: Vec<u64> = (2..=WRITERS + 2).collect();
    let made = client.post(format!("{}/chat/chatrooms/", home.url)).bearer_auth(&tokens[0]);
    let made = Answer::of(made.json(&json!({"users": others, "name": "town"}))).await;
    assert_eq!(made.status, 201, "{made:?}");
    let room = made.body["id"].as_u64().expect("a room");

    let end = Arc::new(AtomicU64::new(u64::MAX));
    let seen = [Arc::<Mutex<Seen>>::default(), Arc::default()];
    let watchers: Vec<_> = (0..2)
        .map(|home| {
            let token = tokens[WRITERS as usize + home].clone();
            tokio::spawn(watch(town.clone(), room, token, home, seen[home].clone(), end.clone()))
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(town.clone(), room, writer, tokens[writer as usize].clone())))
        .collect();
    let payer = tokio::spawn(pay(town.clone(), bank.clone(), tokens[0].clone()));

    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let fault = servers.fault().await;
        println!("{fault}");
    }
    town.stop.store(true, Ordering::Relaxed);
    let mut written = BTreeSet::new();
    for writer in writers {
        written.extend(writer.await.expect("no unexpected answer"));
    }
    let paid = payer.await.expect("no unexpected answer");
    assert!(!written.is_empty() && paid > 0, "{} written, {paid} paid", written.len());

    end.store(written.len() as u64, Ordering::Relaxed);
    for (watcher, seen) in watchers.into_iter().zip(&seen) {
        let told = || format!("{} of {}", seen.lock().expect("no panic").last, written.len());
        tokio::time::timeout(PATIENCE, watcher)
            .await
            .unwrap_or_else(|_| panic!("saw {}", told()))
            .expect("in order");
        let seen = seen.lock().expect("no panic under the lock");
        let texts: BTreeSet<_> = seen.texts.iter().cloned().collect();
        assert_eq!((texts.len(), seen.texts.len()), (written.len(), written.len()), "each once");
        assert!(texts == written, "what was seen is what was acknowledged");
        println!("{} messages seen over {} connections", seen.texts.len(), seen.reconnects + 1);
    }
    let balance = || async {
        let wallet = town.ask(0, |url| town.client.get(format!("{url}/wallet/")).bearer_auth(&tokens[0]));
        wallet.await.body["balance"].as_u64().expect("whole")
    };
    // The bank's list credits payments whose answer nobody got.
    let until = Instant::now() + PATIENCE;
    while balance().await < paid * TOMAN {
        assert!(Instant::now() < until, "{} of {} toman", balance().await, paid * TOMAN);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(balance().await % TOMAN, 0);
    let paid_at_bank =
        bank.sessions().iter().filter(|one| one.paid != chelseru_simulator::Paid::Waiting).count();
    assert!(balance().await <= paid_at_bank as u64 * TOMAN, "no more than the bank took");
    servers.nodes = [None, None];
    let until = Instant::now() + PATIENCE;
    let said = loop {
        let ledger = chelseru_tests::process::run(servers.dirs[0].path(), &["ledger", "verify"]);
        let said =
            [ledger.stdout, ledger.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        // The database notices the end of a gateway a moment later.
        if !said.contains("another gateway") {
            break said;
        }
        assert!(Instant::now() < until, "{said}");
    };
    assert!(said.contains("the ledger is verified"), "{said}");
    println!("{} written, {paid} paid", written.len());
}
