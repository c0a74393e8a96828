//! Two gateways over one store: whoever watches at one of them sees what is written at either, whatever the bus does.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chelseru_domain::chat::{MessageEdit, Others, RoomNews};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// Carries notes between two gateways of a test, or loses, doubles and mixes them up.
struct TestBus {
    other: Mutex<Option<Arc<ChatService>>>,
    up: AtomicBool,
    /// Of a hundred notes so many are lost, and as many come twice or late.
    faults: AtomicU64,
    random: Mutex<u64>,
    late: Mutex<Vec<(RoomId, Vec<RoomNews>)>>,
}

impl TestBus {
    fn new(seed: u64) -> Arc<TestBus> {
        Arc::new(TestBus {
            other: Mutex::default(),
            up: AtomicBool::new(true),
            faults: AtomicU64::new(0),
            random: Mutex::new(seed),
            late: Mutex::default(),
        })
    }

    fn below(&self, bound: u64) -> u64 {
        let mut state = self.random.lock().unwrap();
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % bound
    }

    fn deliver(&self, (room, news): (RoomId, Vec<RoomNews>)) {
        let other = self.other.lock().unwrap().clone();
        if let Some(chat) = other {
            chat.elsewhere(room, news);
        }
    }
}

impl Others for TestBus {
    fn tell(&self, room: RoomId, news: Vec<RoomNews>) {
        if !self.up.load(Ordering::Relaxed) {
            return;
        }
        // As over a wire.
        let news: Vec<RoomNews> = serde_json::from_slice(&serde_json::to_vec(&news).unwrap()).unwrap();
        let faults = self.faults.load(Ordering::Relaxed);
        match self.below(100) {
            lost if lost < faults => {}
            twice if twice < 2 * faults => {
                self.deliver((room, news.clone()));
                self.deliver((room, news));
            }
            late if late < 3 * faults => self.late.lock().unwrap().push((room, news)),
            _ => {
                self.deliver((room, news));
                let late = std::mem::take(&mut *self.late.lock().unwrap());
                late.into_iter().for_each(|note| self.deliver(note));
            }
        }
    }

    fn are_heard(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }
}

/// Watches rooms as sockets do: by their numbers.
#[derive(Default)]
struct Watching {
    rooms: Mutex<HashSet<RoomId>>,
    users: Mutex<Vec<UserId>>,
    seen: Mutex<Vec<(RoomId, ChatEvent)>>,
}

impl ChatPort for Watching {
    fn publish(&self, room: RoomId, events: &[ChatEvent]) {
        self.seen.lock().unwrap().extend(events.iter().map(|event| (room, event.clone())));
    }

    fn shows(&self, room: RoomId) -> bool {
        self.rooms.lock().unwrap().contains(&room)
    }

    fn users(&self, _room: RoomId) -> Vec<UserId> {
        self.users.lock().unwrap().clone()
    }
}

impl Watching {
    /// Numbers of the messages seen, without those that a watcher has already.
    fn seqs(&self, room: RoomId) -> Vec<u64> {
        let mut seqs = Vec::new();
        for (at, event) in &*self.seen.lock().unwrap() {
            if let ChatEvent::Posted(view) = event
                && *at == room
                && seqs.last().is_none_or(|last| view.message.seq > *last)
            {
                seqs.push(view.message.seq);
            }
        }
        seqs
    }

    fn saw(&self, expected: impl Fn(&ChatEvent) -> bool) -> bool {
        self.seen.lock().unwrap().iter().any(|(_, event)| expected(event))
    }
}

struct Node {
    chat: Arc<ChatService>,
    port: Arc<Watching>,
    bus: Arc<TestBus>,
}

struct Two {
    nodes: [Node; 2],
    _database: place::Database,
}

/// `None` where PostgreSQL is not installed.
async fn two(users: u64, seed: u64) -> Option<Two> {
    if !chelseru_postgres_server::is_installed() {
        eprintln!("skipped: gateways that share a store (no initdb in /usr/lib/postgresql)");
        return None;
    }
    let database = place::Database::new();
    let node = |seed| {
        let (clock, port) = (Arc::new(ManualClock::at(START)), Arc::new(Watching::default()));
        let contacts = MasterKey::from_bytes([7; 32]).derive(KeyUse::Contacts);
        let (chat, queue) = ChatService::new(database.open_shared(), clock, open(), contacts);
        let bus = TestBus::new(seed);
        tokio::spawn(ChatService::publish_all(queue, port.clone(), Some(bus.clone())));
        Node { chat: Arc::new(chat), port, bus }
    };
    let nodes = [node(seed), node(seed + 1000)];
    for (node, other) in [(0, 1), (1, 0)] {
        *nodes[node].bus.other.lock().unwrap() = Some(nodes[other].chat.clone());
    }
    for user in 1..=users {
        assert_eq!(log_in(nodes[0].chat.store(), &format!("+98912000{user:04}")).await, UserId(user));
    }
    Some(Two { nodes, _database: database })
}

impl Two {
    async fn watch(&self, room: RoomId) {
        for node in &self.nodes {
            node.port.rooms.lock().unwrap().insert(room);
            node.chat.attend(&[room]).await.unwrap();
        }
    }

    fn all(&self, change: impl Fn(&TestBus)) {
        self.nodes.iter().for_each(|node| change(&node.bus));
    }

    /// Looks at the rooms' positions until a condition holds, as the gateways do.
    async fn until(&self, room: RoomId, what: &str, condition: impl Fn() -> bool) {
        let until = std::time::Instant::now() + PATIENCE;
        while !condition() {
            assert!(std::time::Instant::now() < until, "not in time: {what}");
            for node in &self.nodes {
                node.chat.look_at(&[room]).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn group(chat: &ChatService, owner: u64, members: &[u64]) -> RoomId {
    let members = members.iter().map(|id| UserId(*id)).collect();
    chat.group_create(UserId(owner), members, None, RoomEdit::default()).await.unwrap().id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_sees_every_message_in_order_whatever_the_bus_does() {
    for (seed, faults, up) in [(1, 0, true), (2, 20, true), (3, 33, true), (4, 0, false)] {
        let Some(two) = two(2, seed).await else { return };
        let room = group(&two.nodes[0].chat, 1, &[2]).await;
        two.watch(room).await;
        two.all(|bus| {
            bus.faults.store(faults, Ordering::Relaxed);
            bus.up.store(up, Ordering::Relaxed);
        });
        let writers = [0, 1].map(|node| {
            let chat = two.nodes[node].chat.clone();
            tokio::spawn(async move {
                for number in 0..40 {
                    let text = format!("{node} {number}");
                    chat.post_and_wait(room, post(node as u64 + 1, &text, None)).await.unwrap();
                }
            })
        });
        for writer in writers {
            writer.await.unwrap();
        }
        let expected: Vec<u64> = (1..=80).collect();
        for node in &two.nodes {
            two.until(room, &format!("all messages, seed {seed}"), || node.port.seqs(room) == expected).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_notes_edits_and_removals_come_from_the_store() {
    let Some(two) = two(3, 7).await else { return };
    let [here, there] = &two.nodes;
    let room = group(&here.chat, 1, &[2, 3]).await;
    two.watch(room).await;
    *there.port.users.lock().unwrap() = vec![UserId(2), UserId(3)];
    two.all(|bus| bus.up.store(false, Ordering::Relaxed));
    here.chat.post_and_wait(room, post(1, "first", None)).await.unwrap();
    let edit = MessageEdit::Body(MessageBody {
        text: "changed".into(),
        kind: "text".into(),
        ..MessageBody::default()
    });
    here.chat.message_change(room, 1, UserId(1), edit).await.unwrap();
    here.chat.room_change(room, UserId(1), RoomRequest::Remove(UserId(3))).await.unwrap();
    let edited = |event: &ChatEvent| matches!(event, ChatEvent::Edited { view, .. } if view.message.body.text == "changed");
    let removed = |event: &ChatEvent| matches!(event, ChatEvent::Removed { user: UserId(3), .. });
    two.until(room, "the edit", || there.port.saw(edited)).await;
    two.until(room, "the removal", || there.port.saw(removed)).await;
    assert!(!there.port.saw(|event| matches!(event, ChatEvent::Removed { user: UserId(2), .. })));
    here.chat.room_change(room, UserId(1), RoomRequest::Delete).await.unwrap();
    let deleted = |event: &ChatEvent| matches!(event, ChatEvent::Deleted { .. });
    two.until(room, "the end of the room", || there.port.saw(deleted)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_elsewhere_hears_of_a_new_room_and_a_room_that_nobody_watches_waits_for_nothing() {
    let Some(two) = two(2, 9).await else { return };
    let [here, there] = &two.nodes;
    let room = group(&here.chat, 1, &[2]).await;
    let made = |event: &ChatEvent| matches!(event, ChatEvent::Made { .. });
    two.until(room, "the room", || there.port.saw(made)).await;
    // Nobody watches at the second one: messages of both in turn are answered although it hears of none.
    there.bus.up.store(false, Ordering::Relaxed);
    here.bus.up.store(false, Ordering::Relaxed);
    for number in 0..20 {
        let node = &two.nodes[number % 2];
        let posted = node.chat.post_and_wait(room, post(1, "text", None));
        let posted = tokio::time::timeout(PATIENCE, posted).await.expect("in time").unwrap();
        assert_eq!(posted.view.message.seq, number as u64 + 1);
    }
    // From when somebody watches on, nothing is missed.
    two.watch(room).await;
    here.chat.post_and_wait(room, post(1, "seen", None)).await.unwrap();
    two.until(room, "the message", || there.port.seqs(room).ends_with(&[21])).await;
}
