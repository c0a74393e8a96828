//! Chat: fan-out, one-to-one, idle sockets and history, beside bare servers and bare commits.
//!
//! The clients are a separate process (`chat/client.rs`). The bare servers (`chat/bare.rs`) and the gateway run in this
//! process, one after another, with the same clients. The gateway stores messages durably; the bare servers store
//! nothing.

mod bare;
pub(crate) mod client;

use std::time::{Duration, Instant};

use chelseru_domain::chat::{Face, MessageBody, Post, RoomEdit, RoomId};
use chelseru_domain::ids::UserId;
use chelseru_tests::process::Served;
use chelseru_tests::{TestGateway, folder};
use client::{Job, Outcome};
use serde_json::json;

use crate::measure::{Connection, cpu_seconds, median, percentile, runtime};

/// Raises the limits that the bench exceeds on purpose: rates of one socket, sockets of one user.
const CONFIG: &str = "
[chat]
frames_per_second_max = 1000000
sockets_per_user_max = 10000
[auth]
access_token_seconds = 86400
";

const TEXT_BYTES: usize = 100;
const WINDOW: u64 = 64;
const RUNS: usize = 3;

/// Whether a part runs: all do, unless `CHAT_BENCH` lists parts, separated by commas.
fn wanted(part: &str) -> bool {
    std::env::var("CHAT_BENCH").map_or(true, |parts| parts.split(',').any(|wanted| wanted == part))
}

pub(crate) fn run() {
    let runtime = runtime();
    if wanted("fan") {
        runtime.block_on(fan_out());
    }
    if wanted("pairs") {
        runtime.block_on(pairs());
    }
    if wanted("idle") {
        runtime.block_on(idle());
    }
    if wanted("history") {
        runtime.block_on(history());
    }
}

async fn job(job: Job) -> Outcome {
    tokio::task::spawn_blocking(move || client::run(&job)).await.expect("no panic")
}

/// Users with tokens. A few are enough, because a user may hold many sockets.
pub(crate) async fn log_in(gateway: &TestGateway, users: u64) -> Vec<String> {
    let mut tokens = Vec::new();
    for user in 1..=users {
        tokens.push(gateway.login(&format!("0912{user:07}")).await.access);
    }
    tokens
}

async fn group(gateway: &TestGateway, users: u64) -> RoomId {
    let members = (2..=users).map(UserId).collect();
    let edit = RoomEdit::default();
    gateway.app.chat.group_create(UserId(1), members, None, edit).await.expect("a room").id
}

fn address(gateway: &TestGateway, room: RoomId, token: &str) -> String {
    gateway.at(&format!("/chat/{}/?token={token}", room.0))
}

async fn fan_out() {
    const SENDERS: usize = 4;
    let gateway = TestGateway::start(CONFIG).await;
    let tokens = log_in(&gateway, 1000).await;
    // Paced, with and without a client that does not read. This part runs first: the bare servers' queues are
    // unbounded, and their remainder occupies the machine for a second after their clients leave.
    let room = group(&gateway, 100).await;
    let addresses: Vec<String> = tokens[..100].iter().map(|token| address(&gateway, room, token)).collect();
    let paced = || Job {
        addresses: addresses.clone(),
        sender_every: 25,
        window: 1,
        rate: 500.0,
        text_bytes: TEXT_BYTES,
        seconds: 4.0,
    };
    let alone = job(paced()).await;
    let stopped = chelseru_tests::socket::Socket::open(&address(&gateway, room, &tokens[0]), &[]).await;
    let beside = job(paced()).await;
    drop(stopped);
    println!(
        "500 messages/s to 100 members: delivery p50 {:.1} ms, p99 {:.1} ms; beside a stopped reader p50 {:.1} ms, \
         p99 {:.1} ms; reach: p99 below 6 ms, and 1.2 of it",
        alone.p50_ms, alone.p99_ms, beside.p50_ms, beside.p99_ms
    );
    // Has the length of a gateway's message with ids of the usual length.
    let payload_bytes = TEXT_BYTES + 205;
    let (a, b) = (bare::start(false, payload_bytes).await, bare::start(true, payload_bytes).await);
    for members in [2_usize, 100, 1000] {
        let room = group(&gateway, members as u64).await;
        let servers: [(&str, Vec<String>); 3] = [
            ("gateway", tokens[..members].iter().map(|token| address(&gateway, room, token)).collect()),
            ("A", vec![format!("http://{a}/{members}"); members]),
            ("B", vec![format!("http://{b}/{members}"); members]),
        ];
        let mut outcomes: [Vec<Outcome>; 3] = Default::default();
        let mut cpu = [0.0; 3];
        for _ in 0..RUNS {
            for (index, (_, addresses)) in servers.iter().enumerate() {
                let before = cpu_seconds();
                let outcome = job(Job {
                    addresses: addresses.clone(),
                    sender_every: (members / SENDERS.min(members)).max(1),
                    window: WINDOW,
                    rate: 0.0,
                    text_bytes: TEXT_BYTES,
                    seconds: 2.0,
                });
                outcomes[index].push(outcome.await);
                cpu[index] += cpu_seconds() - before;
            }
        }
        let rate = |index: usize| median(outcomes[index].iter().map(|outcome| outcome.deliveries).collect());
        let share = |of: usize| {
            let ratios = outcomes[0].iter().zip(&outcomes[of]);
            median(ratios.map(|(ours, bare)| ours.deliveries / bare.deliveries).collect())
        };
        println!(
            "room of {members}: {:.0} deliveries/s ({:.0} messages/s stored); A {:.0}, B {:.0}; of A {:.2}, of B {:.2}; \
             reach: 0.60 of B at 100 and 1000; server CPU {:.1} s, A {:.1}, B {:.1}",
            rate(0),
            median(outcomes[0].iter().map(|outcome| outcome.messages).collect()),
            rate(1),
            rate(2),
            share(1),
            share(2),
            cpu[0],
            cpu[1],
            cpu[2],
        );
    }
    gateway.stop().await;
}

async fn pairs() {
    const PAIRS: u64 = 500;
    const PAIR_WINDOW: u64 = 8;
    let gateway = TestGateway::start(CONFIG).await;
    let tokens = log_in(&gateway, 2 * PAIRS).await;
    let mut addresses = Vec::new();
    for pair in 0..PAIRS {
        let (one, two) = (2 * pair + 1, 2 * pair + 2);
        let room = gateway.app.chat.pair_open(UserId(one), UserId(two), RoomEdit::default()).await;
        let room = room.expect("a room").0.id;
        addresses.extend([one, two].map(|user| address(&gateway, room, &tokens[user as usize - 1])));
    }
    let bare = bare::start(true, TEXT_BYTES + 205).await;
    let bare_addresses: Vec<String> =
        (0..2 * PAIRS).map(|user| format!("http://{bare}/{}", user / 2)).collect();
    let load = |addresses: &[String], window, rate| Job {
        addresses: addresses.to_vec(),
        sender_every: 2,
        window,
        rate,
        text_bytes: TEXT_BYTES,
        seconds: 3.0,
    };
    let (mut rates, mut bares, mut ratios, mut sizes, mut cpu) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..RUNS {
        let before = gateway.app.store.commit_stats();
        let cpu_before = cpu_seconds();
        let outcome = job(load(&addresses, PAIR_WINDOW, 0.0)).await;
        cpu.push((cpu_seconds() - cpu_before) * 1e6 / (outcome.messages * 3.75));
        let after = gateway.app.store.commit_stats();
        let size = (after.changes - before.changes) as f64 / (after.batches - before.batches).max(1) as f64;
        let bare = tokio::task::spawn_blocking(move || {
            crate::commit::bare(size.round().max(1.0) as usize, chelseru_store::Durability::Disk)
        });
        let bare = bare.await.expect("no panic");
        ratios.push(outcome.messages / bare);
        rates.push(outcome.messages);
        bares.push(bare);
        sizes.push(size);
    }
    let rate = median(rates);
    println!(
        "{PAIRS} pairs: {rate:.0} messages/s stored and delivered, in batches of {:.0}; bare commits {:.0}/s; ratio {:.2}; \
         reach: 0.50; about {:.0} µs of server CPU a message",
        median(sizes),
        median(bares),
        median(ratios),
        median(cpu)
    );
    // The same traffic at half its rate, and the hardest form of that rate: one message per write.
    for (window, form) in [(PAIR_WINDOW, "at once, as above"), (1, "at a time")] {
        let (mut ours, mut bares): (Vec<Outcome>, Vec<Outcome>) = Default::default();
        for _ in 0..RUNS {
            ours.push(job(load(&addresses, window, rate / 2.0)).await);
            bares.push(job(load(&bare_addresses, window, rate / 2.0)).await);
        }
        let of =
            |outcomes: &[Outcome], value: fn(&Outcome) -> f64| median(outcomes.iter().map(value).collect());
        println!(
            "{PAIRS} pairs at {:.0} messages/s, {window} {form}: delivery p50 {:.1} ms, p99 {:.1} ms, {:.0} deliveries/s; \
             B p50 {:.1} ms, p99 {:.1} ms, {:.0} deliveries/s; reach: p99 at most 20 ms",
            rate / 2.0,
            of(&ours, |outcome| outcome.p50_ms),
            of(&ours, |outcome| outcome.p99_ms),
            of(&ours, |outcome| outcome.deliveries),
            of(&bares, |outcome| outcome.p50_ms),
            of(&bares, |outcome| outcome.p99_ms),
            of(&bares, |outcome| outcome.deliveries),
        );
    }
    gateway.stop().await;
}

async fn idle() {
    const SOCKETS: usize = 15_000;
    const USERS: usize = 15;
    let dir = folder(&format!("{CONFIG}\n[server]\nlisten = \"127.0.0.1:0\"\n"));
    let served = Served::start(dir.path());
    let pid = served.child.id();
    let client = chelseru_tests::client();
    let mut addresses = Vec::new();
    for user in 1..=USERS {
        let number = format!("0912{user:07}");
        let post = |path: &str, body: serde_json::Value| {
            client.post(format!("{}{path}", served.url)).json(&body).send()
        };
        post("/otp/send/", json!({"mobile_number": number})).await.expect("sent");
        let inbox =
            client.get(format!("{}/sandbox/inbox/?mobile_number={number}", served.operator_url)).send().await;
        let inbox: serde_json::Value =
            serde_json::from_str(&inbox.expect("sent").text().await.expect("text")).expect("JSON");
        let code = chelseru_tests::code_in(inbox["results"][0]["text"].as_str().expect("a text"));
        let login =
            post("/authenticate/", json!({"mobile_number": number, "code": code})).await.expect("sent");
        let login: serde_json::Value =
            serde_json::from_str(&login.text().await.expect("text")).expect("JSON");
        let access = login["access"].as_str().expect("a token").to_owned();
        addresses.extend(vec![format!("{}/ws/?token={access}", served.url); SOCKETS / USERS]);
    }
    let before = client::memory_kib(pid, "VmRSS");
    let mut clients = Vec::new();
    for addresses in addresses.chunks(SOCKETS / 2) {
        let job = Job {
            addresses: addresses.to_vec(),
            sender_every: 1,
            window: 0,
            rate: 0.0,
            text_bytes: 0,
            seconds: 0.0,
        };
        let opened = tokio::task::spawn_blocking(move || {
            let mut clients = client::start(&job);
            clients.wait_open();
            clients
        });
        clients.push(opened.await.expect("no panic"));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = client::memory_kib(pid, "VmRSS");
    let cpu = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("Linux");
        let fields: Vec<f64> = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0.0))
            .collect();
        (fields[11] + fields[12]) / 100.0
    };
    let (cpu_before, at) = (cpu(pid), Instant::now());
    tokio::time::sleep(Duration::from_secs(40)).await;
    let share = (cpu(pid) - cpu_before) / at.elapsed().as_secs_f64();
    println!(
        "{SOCKETS} idle sockets: {:.1} KiB each ({:.0} MiB before, {:.0} MiB with them); {:.1} % of one core, pings \
         included; reach: at most 16 KiB",
        (after - before) / SOCKETS as f64,
        before / 1024.0,
        after / 1024.0,
        share * 100.0
    );
}

async fn history() {
    const LONG: u64 = 1_000_000;
    const SHORT: u64 = 1000;
    let gateway = TestGateway::start(CONFIG).await;
    let token = log_in(&gateway, 1).await.remove(0);
    let rooms = [group(&gateway, 1).await, group(&gateway, 1).await];
    for (room, messages) in rooms.into_iter().zip([SHORT, LONG]) {
        let (sender, mut done) = tokio::sync::mpsc::channel::<()>(1024);
        let mut waiting = 0;
        let entry = gateway.app.chat.enter(room).await.expect("read");
        for _ in 0..messages {
            let post = Post {
                sender: UserId(1),
                face: Face { name: "G0-1".into(), avatar: None },
                body: MessageBody {
                    kind: "text".into(),
                    text: "x".repeat(TEXT_BYTES),
                    ..MessageBody::default()
                },
                file: None,
                client_id: None,
            };
            let sender = sender.clone();
            gateway
                .app
                .chat
                .post(&entry, post, move |result| {
                    result.expect("posted");
                    let _ = sender.try_send(());
                })
                .expect("queued");
            waiting += 1;
            while waiting >= 1000 {
                done.recv().await;
                waiting -= 1;
            }
        }
        while waiting > 0 {
            done.recv().await;
            waiting -= 1;
        }
    }
    let requests = rooms.map(|room| {
        format!(
            "GET /drfchelseru/chat/messages/?chat_room={} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n",
            room.0
        )
    });
    let mut connection = Connection::open(&gateway.url);
    let mut samples: [Vec<Duration>; 2] = Default::default();
    for _ in 0..300 {
        for (request, samples) in requests.iter().zip(&mut samples) {
            let started = Instant::now();
            let page = tokio::task::block_in_place(|| connection.ask(request.as_bytes()));
            samples.push(started.elapsed());
            assert_eq!(page.matches("\"seq\":").count(), 30, "{page}");
        }
    }
    let [short, long] = samples.map(|mut samples| {
        samples.sort();
        percentile(&samples, 0.5).as_secs_f64() * 1000.0
    });
    println!(
        "newest page: {long:.2} ms with {LONG} messages, {short:.2} ms with {SHORT}; ratio {:.2}; reach: 1.5",
        long / short
    );
    gateway.stop().await;
}
