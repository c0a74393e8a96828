//! The store on a PostgreSQL server: restarts, one gateway at a time, and a server that goes away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_domain::clock::SystemClock;
use chelseru_postgres_server::{Server, server};
use chelseru_tests::process::Served;
use chelseru_tests::socket::Socket;
use chelseru_tests::{Answer, PATIENCE, TestGateway, folder, process, store};
use serde_json::{Value, json};

const SANDBOX_PAY: &str = "[payment]\ngateway = \"SANDBOX_PAY\"\n";

fn on(address: &str) -> String {
    format!("{SANDBOX_PAY}[store]\nengine = \"postgres\"\nurl = \"{address}\"\nconnections_max = 4\n")
}

/// Somebody with a session and a room.
struct Member {
    access: String,
    room: Value,
}

impl Member {
    async fn join(gateway: &TestGateway) -> Member {
        let access = gateway.login("09120000001").await.access;
        gateway.login("09120000002").await;
        let made = gateway.client.post(gateway.at("/chat/chatrooms/")).bearer_auth(&access);
        let made = Answer::of(made.json(&json!({"user_id": 2}))).await;
        assert_eq!(made.status, 201, "{made:?}");
        Member { access, room: made.body["id"].clone() }
    }

    async fn send(&self, gateway: &TestGateway, text: &str) -> Answer {
        let sent = gateway.client.post(gateway.at("/chat/messages/")).bearer_auth(&self.access);
        Answer::of(sent.json(&json!({"chat_room": self.room, "text": text}))).await
    }

    async fn texts(&self, gateway: &TestGateway) -> Vec<Value> {
        let list = gateway.get(&format!("/chat/messages/?chat_room={}", self.room), Some(&self.access)).await;
        let results = list.body["results"].as_array().unwrap_or_else(|| panic!("{list:?}"));
        results.iter().map(|message| message["text"].clone()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart() {
    let Some(address) = store::database() else { return };
    let gateway = TestGateway::start(&on(&address)).await;
    let member = Member::join(&gateway).await;
    for text in ["سلام", "U+10FFFF: \u{10ffff}", "third"] {
        assert_eq!(member.send(&gateway, text).await.status, 201, "{text:?}");
    }
    let texts = member.texts(&gateway).await;
    let wallet = gateway.get("/wallet/", Some(&member.access)).await;

    let dir = gateway.stop().await;
    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    assert_eq!(member.texts(&gateway).await, texts);
    assert_eq!(gateway.get("/wallet/", Some(&member.access)).await.body, wallet.body);
    let sessions = gateway.get("/sessions/", Some(&member.access)).await;
    assert_eq!(sessions.body.as_array().map(Vec::len), Some(1), "{sessions:?}");
}

/// Cuts a database off: nobody gets in, and whoever is in is put out.
fn cut(server: &Server, database: &str) {
    server.run(&format!(
        "alter database {database} allow_connections false;
         select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_is_503_and_comes_back_by_itself() {
    let (Some(server), Some(address)) = (server(), store::database()) else { return };
    let database = address.rsplit('/').next().expect("a name").to_owned();
    let gateway = TestGateway::start(&on(&address)).await;
    let member = Member::join(&gateway).await;
    assert_eq!(member.send(&gateway, "before").await.status, 201);
    let at = format!("{}/chat/{}/?token={}", gateway.url, member.room, member.access);
    let mut socket = Socket::open(&at, &[]).await.expect("open");

    // What comes through shows that the socket watches the room.
    assert_eq!(member.send(&gateway, "seen").await.status, 201);
    while socket.json_of("chat_message").await["message"] != "seen" {}

    cut(server, &database);
    let until = Instant::now() + PATIENCE;
    let refused = loop {
        let answer = member.send(&gateway, "while it is away").await;
        if answer.header("x-error-code") == "store_away" {
            break answer;
        }
        assert!(Instant::now() < until, "{answer:?}");
    };
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{refused:?}");
    assert_eq!(gateway.get("/ready/", None).await.status, 503);

    server.run(&format!("alter database {database} allow_connections true"));
    let until = Instant::now() + PATIENCE;
    while member.send(&gateway, "after").await.status != 201 {
        assert!(Instant::now() < until, "it does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let texts = member.texts(&gateway).await;
    assert_eq!(texts.iter().filter(|text| *text == "after").count(), 1, "{texts:?}");
    assert!(texts.contains(&json!("before")) && !texts.contains(&json!("while it is away")), "{texts:?}");
    // Nobody was put out of the chat.
    let mut seen = String::new();
    while seen != "after" {
        seen = socket.json_of("chat_message").await["message"].as_str().unwrap_or_default().to_owned();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gateway_at_a_time_and_commands_ask_it() {
    let Some(address) = store::database() else { return };
    let (dir, other) = (folder(&on(&address)), folder(&on(&address)));
    let served = Served::start(dir.path());
    let run = |dir: &std::path::Path, arguments: &[&str]| {
        let output = process::run(dir, arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, text) = run(other.path(), &["serve"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("another gateway") && text.contains(&served.child.id().to_string()), "{text}");
    assert!(!text.contains("pass-word"), "{text}");
    let (code, text) = run(dir.path(), &["apikey", "list"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = run(dir.path(), &["backup", "away"]);
    assert!(code == Some(0) && text.contains("records"), "{text}");
    let (code, text) = run(other.path(), &["restore", &dir.path().join("away").display().to_string()]);
    assert!(code == Some(1) && text.contains("another gateway"), "{text}");
    served.kill();
    // The lock ends with the process that held it; the database may notice a moment later.
    let until = Instant::now() + PATIENCE;
    loop {
        let (code, text) = run(dir.path(), &["ledger", "verify"]);
        if code == Some(0) {
            assert!(text.contains("the ledger is verified"), "{text}");
            break;
        }
        assert!(Instant::now() < until, "{text}");
    }
}

#[test]
fn an_address_that_leads_nowhere_is_one_sentence() {
    let Some(server) = server() else { return };
    for (address, reason) in [
        (server.url("no_such_database"), "no_such_database"),
        ("postgres://nobody:hunter2@127.0.0.1:1/app".to_owned(), "127.0.0.1"),
    ] {
        let dir = folder(&on(&address));
        let output = process::run(dir.path(), &["serve"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(reason) && text.lines().count() <= 3, "{text}");
        assert!(!text.contains("hunter2") && !text.contains("pass-word"), "{text}");
    }
}
