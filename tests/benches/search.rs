//! Searches among 1,000,000 messages: in one room, and over 1,000 rooms of one user, as requests.

use std::time::{Duration, Instant};

use chelseru_domain::chat::search::Indexer;
use chelseru_domain::chat::{Message, MessageBody, RoomId, RoomKind, RoomStatus};
use chelseru_domain::ids::UserId;
use chelseru_store::Timestamp;
use chelseru_store::chat::{ImportedMessage, ImportedRoom, Member, Room};
use chelseru_tests::TestGateway;
use serde_json::Value;

use crate::measure::{micros, percentile, runtime, sorted};

const CONFIG: &str = "[chat]\nsearches_per_minute_max = 1000000\n[auth]\naccess_token_seconds = 86400\n";
const MESSAGES: u64 = 1_000_000;
const ROOMS: u64 = 1000;
const STEP: u64 = 2000;
const READS: u64 = 300;
/// Reach of the p99.
const REACH: Duration = Duration::from_millis(50);
/// Distinct words of the messages.
const VOCABULARY: u64 = 50_000;

fn member(user: UserId, joined_at: Timestamp) -> Member {
    Member {
        user,
        rights: 0,
        read_seq: 0,
        deleted_unread: 0,
        pinned: false,
        joined_at,
        hidden_at: None,
        pending: false,
    }
}

fn room(id: RoomId, owner: UserId, at: Timestamp) -> ImportedRoom {
    let room = Room {
        id,
        kind: RoomKind::Group,
        owner,
        name: None,
        descriptions: None,
        avatar: None,
        status: RoomStatus::Open,
        organization: None,
        created_at: at,
        updated_at: at,
        members: 1,
        bans: 0,
        revision: 0,
        changes: 0,
    };
    ImportedRoom { room, members: vec![member(owner, at)], bans: Vec::new(), pair_with: None }
}

/// Ten words, some of them frequent and most rare, as in a language.
fn text(n: u64) -> String {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..10).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let share = (state >> 11) as f64 / (1u64 << 53) as f64;
        let word = (VOCABULARY as f64).powf(share) as u64;
        if word.is_multiple_of(3) { format!("word{word}") } else { format!("کلمه‌{word}") }
    });
    words.collect::<Vec<_>>().join(" ")
}

async fn fill(gateway: &TestGateway, rooms: u64) {
    let (store, owner) = (&gateway.app.store, UserId(1));
    let at = |n: u64| Timestamp::from_micros(1_790_000_000_000_000 + n * 1000);
    let made = (1..=rooms).map(|id| room(RoomId(id), owner, at(0))).collect();
    store.import_rooms(made).await.expect("stored");
    for first in (0..MESSAGES).step_by(STEP as usize) {
        let messages = (first..first + STEP).map(|n| {
            let body = MessageBody { kind: "text".into(), text: text(n), ..MessageBody::default() };
            let message = Message {
                room: RoomId(1 + n % rooms),
                seq: 1 + n / rooms,
                sender: owner,
                body,
                file: None,
                file_name: None,
                client_id: None,
                created_at: at(n),
                edited_at: None,
                deleted: false,
            };
            ImportedMessage { message, old_id: n + 1 }
        });
        store.import_messages(messages.collect()).await.expect("stored");
    }
}

pub(crate) fn run() {
    runtime().block_on(async {
        for rooms in [1, ROOMS] {
            let gateway = TestGateway::start(CONFIG).await;
            let access = gateway.login("09120000001").await.access;
            let started = Instant::now();
            fill(&gateway, rooms).await;
            println!("{MESSAGES} messages in {rooms} rooms: {:.1} s", started.elapsed().as_secs_f64());
            let started = Instant::now();
            Indexer::new(gateway.app.chat.clone()).eager().round().await.expect("indexed");
            println!("indexed without rests in {:.1} s", started.elapsed().as_secs_f64());
            let scope = if rooms == 1 { "&chat_room=1" } else { "" };
            searches(&gateway, &access, rooms, scope).await;
        }
    });
}

/// What is typed at the n-th search.
type Typed = fn(u64) -> String;

async fn searches(gateway: &TestGateway, access: &str, rooms: u64, scope: &str) {
    let queries: [(&str, Typed); 5] = [
        ("a frequent word", |_| "word3".into()),
        ("a rare word", |n| format!("word{}", 3 * (10_000 + n))),
        ("two words", |n| format!("word3+word{}", 3 * (1000 + n))),
        ("part of a word", |n| format!("ه{}", 4000 + n)),
        // Every block is looked at.
        ("nothing found", |n| format!("absent{n}")),
    ];
    let mut all = Vec::new();
    for (name, query) in queries {
        let mut samples = Vec::new();
        let mut pages = 0;
        for n in 0..READS {
            let mut path = format!("/chat/search/?q={}{scope}", query(n));
            let started = Instant::now();
            // Until the first page with a hit, or the end: as long as a person waits.
            loop {
                let answer = gateway.get(&path, Some(access)).await;
                assert_eq!(answer.status, 200, "{path}: {answer:?}");
                pages += 1;
                match (answer.body["results"][0].is_null(), answer.body["next"].as_str()) {
                    (true, Some(next)) => path = next[next.find("/chat/").expect("the route")..].to_owned(),
                    _ => break,
                }
            }
            samples.push(started.elapsed());
        }
        all.extend(samples.iter().copied());
        print(&format!("{rooms} rooms, {name} ({pages} requests for {READS})"), samples);
    }
    print(&format!("{rooms} rooms, all together"), all);
    let status: Value = gateway.status().await;
    println!("{}", status["store"]);
}

fn print(name: &str, samples: Vec<Duration>) {
    let samples = sorted(samples.into_iter());
    let (p50, p99) = (percentile(&samples, 0.5), percentile(&samples, 0.99));
    let kept = if p99 <= REACH { "within" } else { "past" };
    println!(
        "{name}: p50 {:.2} ms, p99 {:.2} ms ({kept} {} ms)",
        micros(p50) / 1000.0,
        micros(p99) / 1000.0,
        REACH.as_millis()
    );
}
