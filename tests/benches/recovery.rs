//! From the start of `serve` to the first answer of `health/` after `kill -9` with 600,000 messages, beside bare sled.
//!
//! A gateway in a process of its own stores the messages, goes on storing them and is killed. Each start has its own
//! copy of what that left, so each one is the first start after the crash. The baseline is the engine alone, which
//! opens the same files and does nothing else.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chelseru_domain::chat::{Face, MessageBody, Post, RoomEdit, RoomId};
use chelseru_domain::ids::UserId;
use chelseru_tests::TestGateway;
use chelseru_tests::process::Served;
use serde_json::Value;

use crate::measure::{Connection, percentile, runtime, sorted};

const MESSAGES: u64 = 600_000;
/// Messages that wait for their commit at once.
const WINDOW: u64 = 1000;
const TEXT_CHARS: usize = 100;
/// Stores that are filled and killed, and starts of each one.
const CRASHES: usize = 3;
const STARTS: usize = 5;
const CONFIG: &str = "[log]\nlevel = \"error\"\n[auth]\naccess_token_seconds = 86400\n";

pub(crate) fn run() {
    let (mut starts, mut engine) = (Vec::new(), Vec::new());
    for _ in 0..CRASHES {
        let crashed = Crashed::new();
        for _ in 0..STARTS {
            let copy = copied(&crashed.folder);
            engine.push(bare(copy.path()));
            let copy = copied(&crashed.folder);
            starts.push(crashed.start(copy.path()));
        }
    }
    let (starts, engine) = (sorted(starts.into_iter()), sorted(engine.into_iter()));
    let millis = |samples: &[Duration], share| percentile(samples, share).as_secs_f64() * 1e3;
    println!(
        "start after kill -9 with {MESSAGES} messages: p50 {:.0} ms, slowest of {} {:.0} ms; reach: 1000 ms",
        millis(&starts, 0.5),
        starts.len(),
        millis(&starts, 1.0)
    );
    println!(
        "bare sled opens the same files: p50 {:.0} ms, slowest {:.0} ms; ratio of the medians {:.2}",
        millis(&engine, 0.5),
        millis(&engine, 1.0),
        millis(&starts, 0.5) / millis(&engine, 0.5)
    );
}

/// What a killed gateway left.
struct Crashed {
    folder: tempfile::TempDir,
    room: u64,
    access: String,
}

impl Crashed {
    fn new() -> Crashed {
        let program = std::env::current_exe().expect("the program's own path");
        let folder = tempfile::tempdir().expect("a folder");
        // The process that is killed removes no folder, so its folders are made inside this one.
        let mut filling = Command::new(program)
            .arg("recovery-fill")
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let mut line = String::new();
        BufReader::new(filling.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        std::thread::sleep(Duration::from_millis(100));
        filling.kill().expect("it runs");
        filling.wait().expect("it ends");
        let said: Value = serde_json::from_str(&line).expect("a line of JSON");
        let text = |key: &str| said[key].as_str().expect("a text").to_owned();
        let room = said["room"].as_u64().expect("a number");
        // Renamed, so that copies need not know how the process called it.
        std::fs::rename(text("folder"), folder.path().join("gateway")).expect("renamed");
        Crashed { folder, room, access: text("access") }
    }

    /// Starts the gateway in a copy, until `health/` answers. Panics unless the messages are there.
    fn start(&self, copy: &Path) -> Duration {
        let started = Instant::now();
        let served = Served::start(copy);
        let mut connection = Connection::open(&served.url);
        connection.ask(b"GET /drfchelseru/health/ HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let took = started.elapsed();
        let page = connection.ask(
            format!(
                "GET /drfchelseru/chat/messages/?chat_room={} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
                self.room, self.access
            )
            .as_bytes(),
        );
        let page: Value = serde_json::from_str(&page).expect("JSON");
        let results = page["results"].as_array().or(page.as_array()).expect("a page");
        let newest = results.iter().filter_map(|message| message["seq"].as_u64()).max();
        assert!(newest >= Some(MESSAGES), "{newest:?} is the newest message");
        served.kill();
        took
    }
}

/// A copy of a killed gateway's folder, on disk: what the copy left to be written is nobody's start.
fn copied(crashed: &tempfile::TempDir) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    let source = crashed.path().join("gateway/.");
    let done = Command::new("cp").arg("-a").arg(source).arg(copy.path()).status().expect("cp starts");
    assert!(done.success(), "the folder is copied");
    rustix::fs::sync();
    copy
}

/// Opens the database by sled alone.
fn bare(copy: &Path) -> Duration {
    let database = copy.join("data/db/sled");
    let settings = std::fs::read(database.join("conf")).expect("the engine's settings");
    let settings = String::from_utf8_lossy(&settings).into_owned();
    let segment = settings.lines().next().and_then(|line| line.strip_prefix("segment_size: "));
    let segment: usize = segment.expect("a segment size").parse().expect("a number");
    let started = Instant::now();
    let db = sled::Config::new().path(&database).segment_size(segment).flush_every_ms(None).open();
    let took = started.elapsed();
    drop(db.expect("opened"));
    took
}

/// The process that is killed: stores the messages, says so on one line, and stores more until its end.
pub(crate) fn fill() {
    runtime().block_on(async {
        let gateway = TestGateway::start(CONFIG).await;
        let access = gateway.login("09120000001").await.access;
        let edit = RoomEdit::default();
        let room = gateway.app.chat.group_create(UserId(1), Vec::new(), None, edit).await.expect("a room").id;
        post(&gateway, room, MESSAGES).await;
        let folder = gateway.dir.path().to_str().expect("UTF-8");
        println!("{}", serde_json::json!({ "folder": folder, "room": room.0, "access": access }));
        loop {
            post(&gateway, room, MESSAGES).await;
        }
    });
}

async fn post(gateway: &TestGateway, room: RoomId, messages: u64) {
    let (sender, mut done) = tokio::sync::mpsc::unbounded_channel::<()>();
    let entry = gateway.app.chat.enter(room).await.expect("read");
    let mut waiting = 0;
    for number in 0..messages {
        // Half of the texts are Persian: two bytes a letter.
        let letter = if number.is_multiple_of(2) { "x" } else { "س" };
        let body =
            MessageBody { kind: "text".into(), text: letter.repeat(TEXT_CHARS), ..MessageBody::default() };
        let face = Face { name: "G0-1".into(), avatar: None };
        let post = Post { sender: UserId(1), face, body, file: None, client_id: None };
        let sender = sender.clone();
        let answered = move |result: Result<_, _>| {
            result.expect("posted");
            let _ = sender.send(());
        };
        gateway.app.chat.post(&entry, post, answered).expect("queued");
        waiting += 1;
        if waiting == WINDOW {
            done.recv().await;
            waiting -= 1;
        }
    }
    for _ in 0..waiting {
        done.recv().await;
    }
}
