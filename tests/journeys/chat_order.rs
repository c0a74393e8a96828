//! Never lost, never duplicated, in order: many senders, broken connections, and a random history with restarts.
//!
//! A failure of the random history prints its seed; set `CHELSERU_SEED` to run that one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chelseru_domain::chat::{MessageBody, MessageEdit, RoomId, RoomRequest};
use chelseru_domain::clock::SystemClock;
use chelseru_domain::ids::UserId;
use chelseru_tests::TestGateway;
use chelseru_tests::socket::{Event, Socket};
use serde_json::{Value, json};

use crate::chat_socket::Chat;

const FAST: &str = "[chat]\nframes_per_second_max = 100000\nresume_max = 100000\nqueue_frames_max = 100000\n";

/// Stored texts of a room's messages by number; `None` for deleted ones.
async fn stored(chat: &Chat, room: RoomId) -> BTreeMap<u64, Option<String>> {
    let store = &chat.gateway.app.store;
    let last = store.chat_last_seq(room).await.expect("readable");
    let messages = store.chat_gap(room, 0, last).await.expect("readable");
    let text = |deleted: bool, text: String| (!deleted).then_some(text);
    messages.into_iter().map(|message| (message.seq, text(message.deleted, message.body.text))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_order_is_seen_order_under_64_senders() {
    const SENDERS: u64 = 64;
    const EACH: usize = 15;
    let chat = Chat::start(FAST, SENDERS).await;
    let room = chat.group(1, 2..=SENDERS).await;
    let mut sockets = Vec::new();
    for user in 1..=SENDERS {
        sockets.push((user, chat.open_extended(room, user).await));
    }
    let seen = sockets.into_iter().map(|(user, mut socket)| {
        tokio::spawn(async move {
            for number in 0..EACH {
                socket.send(&json!({"message": format!("{user}:{number}")})).await;
            }
            let mut seen = Vec::new();
            while seen.len() < EACH * SENDERS as usize {
                let message = socket.json_of("chat_message").await;
                let text = message["message"].as_str().expect("a text").to_owned();
                seen.push((message["seq"].as_u64().expect("a number"), text));
            }
            seen
        })
    });
    let seen = futures_util::future::join_all(seen).await;
    let stored: Vec<(u64, String)> =
        stored(&chat, room).await.into_iter().map(|(seq, text)| (seq, text.expect("kept"))).collect();
    assert!(stored.iter().map(|(seq, _)| *seq).eq(1..=SENDERS * EACH as u64), "numbers without gaps");
    for seen in seen {
        assert_eq!(seen.expect("no panic"), stored);
    }
    for user in 1..=SENDERS {
        let own = format!("{user}:");
        let numbers = stored.iter().filter_map(|(_, text)| text.strip_prefix(&own));
        assert!(numbers.eq((0..EACH).map(|number| number.to_string())), "a sender's own order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_cuts_under_load_lose_and_double_nothing() {
    const MEMBERS: u64 = 5;
    const CUTS: u64 = 100;
    let chat = Arc::new(Chat::start(FAST, MEMBERS).await);
    let room = chat.group(1, 2..=MEMBERS).await;
    let done = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (chat, done) = (chat.clone(), done.clone());
        async move {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                chat.post(room, 1, &number.to_string()).await;
                number += 1;
            }
        }
    });
    let members = (1..=MEMBERS).map(|user| {
        let chat = chat.clone();
        tokio::spawn(async move {
            let mut random = Random(user);
            let mut seen: Vec<(u64, String)> = Vec::new();
            for _ in 0..CUTS / MEMBERS {
                let mut socket = resume(&chat, room, user, seen.last().map_or(0, |(seq, _)| *seq)).await;
                for _ in 0..random.below(30) {
                    take(&mut socket, &mut seen).await;
                }
                // Dropped together with everything in transit.
            }
            seen
        })
    });
    let mut lists = Vec::new();
    for member in futures_util::future::join_all(members).await {
        lists.push(member.expect("no panic"));
    }
    done.store(true, Ordering::Relaxed);
    load.await.expect("no panic");
    let stored: Vec<(u64, String)> =
        stored(&chat, room).await.into_iter().map(|(seq, text)| (seq, text.expect("kept"))).collect();
    assert!(stored.len() > 100, "{} messages are some load", stored.len());
    for (user, mut seen) in (1..).zip(lists) {
        let mut socket = resume(&chat, room, user, seen.last().map_or(0, |(seq, _)| *seq)).await;
        while seen.len() < stored.len() {
            take(&mut socket, &mut seen).await;
        }
        assert_eq!(seen, stored, "user {user}");
    }
}

async fn resume(chat: &Chat, room: RoomId, user: u64, since: u64) -> Socket {
    let opened = chat.try_open(room, user, &format!("&since={since}")).await;
    opened.unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

async fn take(socket: &mut Socket, seen: &mut Vec<(u64, String)>) {
    let message = socket.json_of("chat_message").await;
    let text = message["message"].as_str().expect("a text").to_owned();
    seen.push((message["seq"].as_u64().expect("a number"), text));
}

/// A small generator whose whole state is the seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

const USERS: u64 = 4;
const ROOMS: usize = 2;
const STEPS: u64 = 250;

/// One client's knowledge of one room.
#[derive(Default)]
struct Known {
    messages: BTreeMap<u64, Option<String>>,
    seq: u64,
    revision: u64,
    /// The current socket watches the room.
    subscribed: bool,
}

struct Client {
    user: u64,
    socket: Option<Socket>,
    rooms: BTreeMap<u64, Known>,
    /// Sent but not acknowledged: room, client id, text.
    unanswered: Vec<(u64, String, String)>,
}

impl Client {
    async fn connect(&mut self, chat: &Chat) {
        let (mut socket, _) = chat.open_all(self.user).await;
        for (room, known) in &mut self.rooms {
            known.subscribed = false;
            let since =
                json!({"type": "subscribe", "room": room, "since": known.seq, "revision": known.revision});
            socket.send(&since).await;
        }
        // Unacknowledged messages are sent again, under the same id.
        for (room, id, text) in &self.unanswered {
            socket.send(&publish(*room, id, text)).await;
        }
        self.socket = Some(socket);
    }

    /// Reads everything received until a ping is answered.
    async fn settle(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        socket.send(&json!({"type": "ping"})).await;
        loop {
            let Event::Text(text) = socket.event().await else { continue };
            let frame: Value = serde_json::from_str(&text).expect("JSON");
            if frame["type"] == "pong" {
                return;
            }
            self.rooms.entry(frame["room"].as_u64().unwrap_or(0)).or_default().take(&frame);
            if matches!(frame["type"].as_str(), Some("ack" | "error")) {
                self.unanswered.retain(|(_, id, _)| frame["client_id"] != **id);
            }
        }
    }
}

impl Known {
    fn take(&mut self, frame: &Value) {
        let seq = frame["seq"].as_u64().unwrap_or(0);
        match frame["type"].as_str().unwrap_or("") {
            "subscribed" => self.subscribed = true,
            "unsubscribed" => self.subscribed = false,
            "chat_message" => {
                assert_eq!(seq, self.seq + 1, "no message is lost, none comes twice: {frame}");
                self.seq = seq;
                self.messages.insert(seq, frame["message"].as_str().map(str::to_owned));
            }
            kind @ ("message_edited" | "message_deleted") => {
                match frame["revision"].as_u64() {
                    Some(revision) => {
                        // The last of several edits may stand for all; the final comparison of texts shows that none
                        // is lost.
                        assert!(revision > self.revision, "no edit comes twice, all in order: {frame}");
                        self.revision = revision;
                    }
                    // Within a gap: the number of a deleted message.
                    None => {
                        assert_eq!(seq, self.seq + 1, "{frame}");
                        self.seq = seq;
                    }
                }
                let text = frame["message"].as_str().filter(|_| kind == "message_edited").map(str::to_owned);
                if self.seq >= seq {
                    self.messages.insert(seq, text);
                }
            }
            _ => {}
        }
    }
}

fn publish(room: u64, id: &str, text: &str) -> Value {
    json!({"type": "publish", "room": room, "message": text, "client_id": id})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_random_history_of_cuts_duplicates_and_restarts_agrees_with_the_store() {
    let seed = match std::env::var("CHELSERU_SEED") {
        Ok(seed) => seed.parse().expect("CHELSERU_SEED is a number"),
        Err(_) => std::time::UNIX_EPOCH.elapsed().expect("after 1970").subsec_nanos().into(),
    };
    println!("CHELSERU_SEED={seed}");
    let mut random = Random(seed);
    let mut chat = Chat::start(FAST, USERS).await;
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        rooms.push(chat.group(1, 2..=USERS).await);
    }
    let known = || rooms.iter().map(|room| (room.0, Known::default())).collect();
    let mut clients: Vec<Client> = (1..=USERS)
        .map(|user| Client { user, socket: None, rooms: known(), unanswered: Vec::new() })
        .collect();
    for client in &mut clients {
        client.connect(&chat).await;
    }
    let mut sent = BTreeMap::new();
    for step in 0..STEPS {
        let room = rooms[random.below(ROOMS as u64) as usize];
        let at = random.below(USERS) as usize;
        let user = clients[at].user;
        match random.below(100) {
            0..50 => {
                let (id, text) = (format!("c{step}"), format!("text {step} of {user}"));
                let client = &mut clients[at];
                if let Some(socket) = &mut client.socket {
                    socket.send(&publish(room.0, &id, &text)).await;
                    if random.below(4) == 0 {
                        socket.send(&publish(room.0, &id, &text)).await;
                    }
                    sent.insert((user, id.clone()), text.clone());
                    client.unanswered.push((room.0, id, text));
                }
            }
            50..65 => {
                let last = chat.gateway.app.store.chat_last_seq(room).await.expect("readable");
                if last > 0 {
                    let seq = random.below(last) + 1;
                    let body = MessageBody {
                        kind: "text".into(),
                        text: format!("edit {step}"),
                        ..MessageBody::default()
                    };
                    let edit =
                        if random.below(3) == 0 { MessageEdit::Delete } else { MessageEdit::Body(body) };
                    // The result depends on the message's owner.
                    let _ = chat.gateway.app.chat.message_change(room, seq, UserId(user), edit).await;
                }
            }
            65..75 => {
                let seq = random.below(50);
                chat.change(room, user, RoomRequest::Read(seq)).await;
            }
            75..88 => clients[at].settle().await,
            88..93 => clients[at].socket = None,
            93..98 => {
                if clients[at].socket.is_none() {
                    clients[at].connect(&chat).await;
                }
            }
            _ => {
                for client in &mut clients {
                    client.socket = None;
                }
                let Chat { gateway, tokens } = chat;
                let dir = gateway.stop().await;
                chat = Chat { gateway: TestGateway::start_in(dir, Arc::new(SystemClock)).await, tokens };
            }
        }
    }
    for client in &mut clients {
        client.socket = None;
        client.connect(&chat).await;
        let until = std::time::Instant::now() + chelseru_tests::PATIENCE;
        loop {
            client.settle().await;
            let heads = async |room: u64| {
                let facts =
                    chat.gateway.app.store.chat_facts(RoomId(room), UserId(0)).await.expect("readable");
                (
                    chat.gateway.app.store.chat_last_seq(RoomId(room)).await.expect("readable"),
                    facts.expect("a room").room.revision,
                )
            };
            let mut behind = false;
            for (room, known) in client.rooms.iter().filter(|(room, _)| **room != 0) {
                behind |= (known.seq, known.revision) != heads(*room).await;
            }
            if client.unanswered.is_empty() && !behind {
                break;
            }
            assert!(std::time::Instant::now() < until, "seed {seed}: user {} comes up", client.user);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    for room in &rooms {
        let truth = stored(&chat, *room).await;
        for client in &mut clients {
            // A later client's resent messages reach the earlier ones, too.
            client.settle().await;
            assert_eq!(
                client.rooms[&room.0].messages, truth,
                "seed {seed}: user {}, room {}",
                client.user, room.0
            );
            let summary = chat.gateway.app.chat.room(*room, UserId(client.user)).await.expect("a member");
            let recount = chat.gateway.app.store.chat_unread_recount(*room, UserId(client.user));
            assert_eq!(
                Some(summary.unread),
                recount.await.expect("readable"),
                "seed {seed}: unread of {}",
                client.user
            );
        }
    }
    // Every sent client id is exactly one message.
    let mut by_id = BTreeMap::new();
    for room in &rooms {
        let last = chat.gateway.app.store.chat_last_seq(*room).await.expect("readable");
        for message in chat.gateway.app.store.chat_gap(*room, 0, last).await.expect("readable") {
            let id = message.client_id.expect("all of them have one");
            assert!(
                by_id.insert((message.sender.0, id), ()).is_none(),
                "seed {seed}: a message is there twice"
            );
        }
    }
    assert!(by_id.keys().eq(sent.keys()), "seed {seed}: every message is there");
}
