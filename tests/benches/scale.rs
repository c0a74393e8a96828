//! Several gateways: an operation on PostgreSQL beside pgbench, deliveries of two gateways beside one, and a message
//! from one gateway to a socket at another.
//!
//! The gateways are processes over one database and one bus of this run. The server does not sync its files, for both
//! sides alike. Needs PostgreSQL with pgbench, and a Valkey or Redis server.

mod spread;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_postgres_server::{Server, server};
use chelseru_store::chat::{
    Additions, Judged, MessageBody, MessageDraft, PairDraft, RoomId, RoomLimits, RoomMade, RoomStatus,
};
use chelseru_store::{
    ChallengeDraft, Guesser, LoginDraft, LoginOutcome, SessionDraft, SessionGate, SessionId, Store,
    StoreOptions, Timestamp, UserId,
};
use chelseru_tests::bus::BusServer;
use chelseru_tests::process::Served;
use chelseru_tests::socket::Socket;
use chelseru_tests::{Answer, code_in, folder};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::measure::{micros, percentile, runtime, sorted};

const RUN_TIME: Duration = Duration::from_secs(5);
const CALLERS: usize = 8;
const MESSAGES: usize = 2000;
/// Between two messages whose way is measured.
const GAP: Duration = Duration::from_millis(3);

/// As many statements as a message that is appended: a transaction's begin with its mark, the room's row locked, the
/// member, the sender, the message, the room's number, the marker of the sender, commit.
const APPEND_SCRIPT: &str = "
\\set room random(1, 64)
begin;
insert into bench_mark values (:client_id, 1) on conflict (slot) do update set change = bench_mark.change + 1;
select seq from bench_room where id = :room for update;
select rights from bench_member where room = :room and account = 1;
insert into bench_message select :room, seq + 1, 1, 'text of a message' from bench_room where id = :room;
update bench_room set seq = seq + 1 where id = :room;
update bench_member set read_seq = read_seq + 1 where room = :room and account = 1;
commit;
";
const APPEND_TABLES: &str = "
create table bench_mark (slot integer primary key, change bigint not null);
create table bench_room (id bigint primary key, seq bigint not null);
create table bench_member (room bigint, account bigint, rights integer, read_seq bigint, primary key (room, account));
create table bench_message (room bigint, seq bigint, sender bigint, body text, primary key (room, seq));
insert into bench_room select n, 0 from generate_series(1, 64) n;
insert into bench_member select n, 1, 7, 0 from generate_series(1, 64) n;
";
/// What a check of a session reads, from as many accounts and sessions.
const CHECK_SCRIPT: &str = "
\\set id random(1, 5000)
select a.active, s.expires_at, s.key, s.unbound
    from bench_account a left join bench_session s on s.account = a.id and s.id = :id
    where a.id = :id and not a.erased;
";
const CHECK_TABLES: &str = "
create table bench_account (id bigint primary key, active boolean not null, erased boolean not null, name text);
create table bench_session (
    account bigint, id bigint, key uuid, expires_at bigint, unbound boolean, agent text, primary key (account, id)
);
insert into bench_account select n, true, false, 'G0-+98912' || n from generate_series(1, 5000) n;
insert into bench_session select n, n, md5(n::text)::uuid, 9999999999, false, '' from generate_series(1, 5000) n;
";
/// Accounts, each with a session, of which some 64 have a room.
const ACCOUNTS: u64 = 5000;

pub(crate) fn run() {
    let (Some(server), Some(bus)) = (server(), BusServer::start()) else {
        return println!("skipped: PostgreSQL or a bus server is not installed");
    };
    runtime().block_on(async {
        operations(server).await;
        spread::spread(server, &bus).await;
        across(server, bus).await;
    });
}

/// Changes and reads a second with [`CALLERS`] callers, beside pgbench with as many clients.
async fn operations(server: &'static Server) {
    server.make("bench_store", "template1");
    let options = StoreOptions { connections_max: CALLERS, ..StoreOptions::default() };
    let store = Store::open_postgres(&server.pairs("bench_store"), options).await.expect("a store");
    let mut rooms = Vec::new();
    let mut sessions = Vec::new();
    let (owner, _) = log_in(&store, 0).await;
    let logins = futures_util::stream::iter(1..=ACCOUNTS).map(|number| log_in(&store, number));
    let mut logins = logins.buffered(CALLERS);
    while let Some((other, session)) = logins.next().await {
        sessions.push((other, session));
        if rooms.len() < 64 {
            rooms.push(pair(&store, owner, other).await);
        }
    }
    // As the server does by itself, a moment later, with tables that changed: not with empty ones.
    psql(server, "bench_store", "analyze chelseru.account, chelseru.session");
    let append = rate(|caller, count| {
        let (store, room) = (store.clone(), rooms[(caller * 8 + count) % rooms.len()]);
        async move {
            let draft = MessageDraft {
                room,
                sender: owner,
                body: MessageBody {
                    kind: "text".into(),
                    text: "text of a message".into(),
                    ..MessageBody::default()
                },
                file: None,
                client_id: None,
                now: now(),
            };
            let (sender, receiver) = oneshot::channel();
            store
                .chat_message_append(draft, |_| Ok(()), move |result| drop(sender.send(result)))
                .expect("begun");
            assert!(matches!(receiver.await.expect("answered"), Ok(Judged::Done(_))));
        }
    });
    let append = append.await;
    let gate = rate(|caller, count| {
        let (store, (user, session)) = (store.clone(), sessions[(caller * 619 + count * 7) % sessions.len()]);
        async move { assert_eq!(store.session_gate(user, session, now()).await.expect("read"), SessionGate::Open) }
    });
    let gate = gate.await;
    let Some(pgbench) = pgbench() else { return println!("skipped: pgbench is not installed") };
    server.make("bench_bare", "template1");
    let bare = |script: &str| bare(server, &pgbench, script);
    for statements in [APPEND_TABLES, CHECK_TABLES, "analyze bench_account, bench_session"] {
        psql(server, "bench_bare", statements);
    }
    let (bare_append, bare_gate) = (bare(APPEND_SCRIPT), bare(CHECK_SCRIPT));
    println!(
        "{append:.0} messages appended/s; pgbench {bare_append:.0} of as many statements; ratio {:.2}; reach: 0.70",
        append / bare_append
    );
    println!(
        "{gate:.0} sessions checked/s of {ACCOUNTS} accounts; pgbench {bare_gate:.0}; ratio {:.2}; reach: 0.70",
        gate / bare_gate
    );
}

fn now() -> Timestamp {
    SystemClock.now()
}

async fn rate<F: Future<Output = ()> + Send>(operation: impl Fn(usize, usize) -> F + Send + Sync) -> f64 {
    let started = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let operation = &operation;
        async move {
            let mut count = 0;
            while started.elapsed() < RUN_TIME {
                operation(caller, count).await;
                count += 1;
            }
            count
        }
    });
    let counts = futures_util::future::join_all(callers).await;
    counts.into_iter().sum::<usize>() as f64 / started.elapsed().as_secs_f64()
}

async fn log_in(store: &Store, number: u64) -> (UserId, SessionId) {
    let (phone, at) = (format!("+98912{number:07}"), now());
    let minute = Duration::from_secs(60);
    let challenge = ChallengeDraft {
        number: phone.clone(),
        id: number + 1,
        mac: [1; 32],
        created_at: at,
        expires_at: at.plus(minute),
        attempts_max: 5,
        others_max: 5,
        from: 0,
        resend_at: at,
    };
    store.challenge_open(challenge).await.expect("opened");
    let login = LoginDraft {
        username: format!("G0-{phone}"),
        number: phone,
        mac: [1; 32],
        guesser: Guesser::default(),
        group: 0,
        create: true,
        now: at,
        session: SessionDraft {
            key: uuid::Uuid::new_v4(),
            expires_at: at.plus(minute * 60),
            user_agent: String::new(),
            ip_address: None,
            device_name: None,
            per_user_max: 5,
        },
    };
    match store.login_with_challenge(login).await.expect("answered") {
        LoginOutcome::LoggedIn { user, session, .. } => (user.id, session.id),
        other => panic!("{other:?}"),
    }
}

async fn pair(store: &Store, user: UserId, other: UserId) -> RoomId {
    let draft = PairDraft {
        user,
        other,
        name: None,
        descriptions: None,
        status: RoomStatus::Open,
        owner_rights: 7,
        other_rights: 3,
        limits: RoomLimits { rooms_per_user_max: 1000, members_max: 1000, bans_max: 1000 },
        additions: Additions::Admit,
        now: now(),
    };
    let (sender, receiver) = oneshot::channel();
    store.chat_pair_open(draft, move |made| drop(sender.send(made))).expect("begun");
    match receiver.await.expect("answered").expect("stored") {
        RoomMade::New { room, .. } => room.id,
        other => panic!("{other:?}"),
    }
}

/// `pgbench` beside the server program.
fn pgbench() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/pgbench")))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop()
}

fn psql(server: &Server, database: &str, statements: &str) {
    let mut command = Command::new("psql");
    command.args(["-q", "-d", &server.url(database), "-c", statements]);
    assert!(command.status().expect("psql starts").success());
}

/// Transactions a second of pgbench with a script, on prepared statements.
fn bare(server: &Server, pgbench: &Path, script: &str) -> f64 {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), script).expect("written");
    let seconds = RUN_TIME.as_secs().to_string();
    let callers = CALLERS.to_string();
    let output = Command::new(pgbench)
        .args(["-n", "-M", "prepared", "-T", &seconds, "-c", &callers, "-j", "2", "-f"])
        .arg(file.path())
        .arg(server.url("bench_bare"))
        .output()
        .expect("pgbench starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}

/// The way of a message from one gateway to a socket at another one, with the bus and without it.
async fn across(server: &'static Server, mut bus: BusServer) {
    server.make("bench_town", "template1");
    let config = format!(
        "[auth]\naccess_token_seconds = 86400\n[log]\nlevel = \"error\"\n[chat]\nstrangers = \"admit\"\nframes_per_second_max = 1000\n\
         [store]\nengine = \"postgres\"\nurl = \"{}\"\nconnections_max = 8\n[bus]\nurl = \"{}\"\n",
        server.url("bench_town"),
        bus.url()
    );
    let dirs = [folder(&config), folder(&config)];
    let one = Served::start(dirs[0].path());
    share_a_key(&dirs);
    let other = Served::start(dirs[1].path());
    let client = chelseru_tests::client();
    let tokens = [token(&client, &one, "09120000001").await, token(&client, &one, "09120000002").await];
    let room = room_of_two(&client, &one, &tokens[0]).await;
    for at_other in [false, true] {
        let reader = if at_other { &other } else { &one };
        let way = way(&one, reader, room, &tokens, MESSAGES).await;
        let place = if at_other { "at another gateway, with the bus" } else { "at the same gateway" };
        let reach = if at_other { "; reach: p99 at most 5 ms" } else { "" };
        println!("a message to a socket {place}: {}{reach}", shown(&way));
    }
    bus.kill();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let way = way(&one, &other, room, &tokens, MESSAGES / 10).await;
    println!(
        "a message to a socket at another gateway, without the bus: {}; reach: p99 at most 1000 ms",
        shown(&way)
    );
}

/// Gives the second gateway the key of the first one, which has started.
fn share_a_key(dirs: &[tempfile::TempDir; 2]) {
    let key = |dir: &tempfile::TempDir| dir.path().join("data/master.key");
    std::fs::copy(key(&dirs[0]), key(&dirs[1])).expect("the key is copied");
}

async fn room_of_two(client: &reqwest::Client, served: &Served, token: &str) -> u64 {
    let made = client.post(format!("{}/chat/chatrooms/", served.url)).bearer_auth(token);
    Answer::of(made.json(&json!({"user_id": 2}))).await.body["id"].as_u64().expect("a room")
}

fn shown(way: &[Duration]) -> String {
    let ms = |share| micros(percentile(way, share)) / 1000.0;
    format!("p50 {:.2} ms, p99 {:.2} ms", ms(0.5), ms(0.99))
}

async fn token(client: &reqwest::Client, served: &Served, number: &str) -> String {
    let post = |path: &str, body: Value| Answer::of(client.post(format!("{}{path}", served.url)).json(&body));
    post("/otp/send/", json!({"mobile_number": number})).await;
    let inbox = client.get(format!("{}/sandbox/inbox/?mobile_number={number}", served.operator_url));
    let code = code_in(Answer::of(inbox).await.body["results"][0]["text"].as_str().expect("a message"));
    post("/authenticate/", json!({"mobile_number": number, "code": code})).await.login().access
}

/// From before a message is sent until it arrives, sorted.
async fn way(from: &Served, to: &Served, room: u64, tokens: &[String; 2], count: usize) -> Vec<Duration> {
    let open = async |served: &Served, token: &str| {
        let offered = format!("chelseru, bearer.{token}");
        let at = format!("{}/chat/{room}/", served.url);
        let mut socket = Socket::open(&at, &[("Sec-WebSocket-Protocol", &offered)]).await.expect("open");
        socket.json_of("subscribed").await;
        socket
    };
    let (mut writer, mut reader) = (open(from, &tokens[0]).await, open(to, &tokens[1]).await);
    let mut ways = Vec::with_capacity(count);
    for number in 0..count {
        let text = format!("message {number}");
        let sent = Instant::now();
        writer.send(&json!({"type": "publish", "message": text})).await;
        while reader.json_of("chat_message").await["message"] != text {}
        ways.push(sent.elapsed());
        while writer.json_of("chat_message").await["message"] != text {}
        tokio::time::sleep(GAP).await;
    }
    sorted(ways.into_iter())
}
