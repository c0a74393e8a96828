//! Two gateways over one database and one bus: users at either see the same, and either may go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_domain::clock::SystemClock;
use chelseru_tests::bus::BusServer;
use chelseru_tests::process::{self, Served};
use chelseru_tests::socket::Socket;
use chelseru_tests::{Answer, Login, PATIENCE, TestGateway, folder, store};
use serde_json::{Value, json};

/// What every gateway of a test has in its file.
pub(crate) fn config(database: &str, bus: &str, more: &str) -> String {
    format!(
        "{more}\n[store]\nengine = \"postgres\"\nurl = \"{database}\"\nconnections_max = 6\n\
         [bus]\nurl = \"{bus}\"\n"
    )
}

/// A gateway without an endpoint delivers no events, and does not hold that task.
const ENDPOINT: &str = "[webhooks.endpoints.shop]\nurl = \"https://shop.example/\"\nsecret = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3\"\n";

/// Two gateways in this process, and what they share.
pub(crate) struct Two {
    pub(crate) nodes: [TestGateway; 2],
    pub(crate) bus: BusServer,
    database: String,
}

impl Two {
    /// `None` where a server is not installed.
    pub(crate) async fn start(more: &str) -> Option<Two> {
        Two::start_with(more, |_| {}).await
    }

    /// The same, with something in each folder before its gateway starts.
    pub(crate) async fn start_with(more: &str, prepare: impl Fn(&std::path::Path)) -> Option<Two> {
        Two::start_each([more, more], prepare).await
    }

    /// The same with a file of their own each.
    pub(crate) async fn start_each(more: [&str; 2], prepare: impl Fn(&std::path::Path)) -> Option<Two> {
        let (bus, database) = (BusServer::start()?, store::database()?);
        let [one, other] = more.map(|more| config(&database, &bus.url(), more));
        let dir = folder(&one);
        prepare(dir.path());
        let first = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
        let dir = folder(&other);
        prepare(dir.path());
        copy_key(first.config_file().parent().expect("a folder"), dir.path());
        let second = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
        let two = Two { nodes: [first, second], bus, database };
        for node in &two.nodes {
            node.wait_for("the bus", |status| status["gateways"]["bus"]["up"] == true).await;
        }
        Some(two)
    }

    /// Two users with a room, the first at the first gateway and the second at the second one.
    pub(crate) async fn pair(&self) -> Pair {
        let users = [self.nodes[0].login("09120000001").await, self.nodes[1].login("09120000002").await];
        let made =
            self.nodes[0].client.post(self.nodes[0].at("/chat/chatrooms/")).bearer_auth(&users[0].access);
        let made = Answer::of(made.json(&json!({"user_id": 2}))).await;
        assert_eq!(made.status, 201, "{made:?}");
        let pair = Pair { users, room: made.body["id"].as_u64().expect("a room") };
        // The second one answers, so that the room is no request any more.
        let sent = pair.send(&self.nodes[1], 1, "accepted").await;
        assert_eq!(sent.status, 201, "{sent:?}");
        pair
    }
}

pub(crate) struct Pair {
    pub(crate) users: [Login; 2],
    pub(crate) room: u64,
}

impl Pair {
    pub(crate) async fn send(&self, at: &TestGateway, user: usize, text: &str) -> Answer {
        let sent = at.client.post(at.at("/chat/messages/")).bearer_auth(&self.users[user].access);
        Answer::of(sent.json(&json!({"chat_room": self.room, "text": text}))).await
    }

    /// The socket of all rooms of a user.
    async fn socket(&self, at: &TestGateway, user: usize) -> Socket {
        let offered = format!("chelseru, bearer.{}", self.users[user].access);
        let mut socket =
            Socket::open(&at.at("/ws/"), &[("Sec-WebSocket-Protocol", &offered)]).await.expect("open");
        assert_eq!(socket.json_of("hello").await["user"]["id"], user as u64 + 1);
        socket
    }

    /// The same, watching the room.
    pub(crate) async fn watching(&self, at: &TestGateway, user: usize) -> Socket {
        let mut socket = self.socket(at, user).await;
        socket.send(&json!({"type": "subscribe", "room": self.room})).await;
        socket.json_of("subscribed").await;
        socket
    }
}

/// Gives the second gateway the key of the first one, as an operator does.
pub(crate) fn copy_key(from: &std::path::Path, to: &std::path::Path) {
    let key = |dir: &std::path::Path| dir.join("data/master.key");
    std::fs::copy(key(from), key(to)).expect("the key is copied");
}

async fn message(socket: &mut Socket) -> Value {
    socket.json_of("chat_message").await["message"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_at_two_gateways_chat_as_at_one() {
    let Some(two) = Two::start("").await else { return };
    let pair = two.pair().await;
    let mut one = pair.watching(&two.nodes[0], 0).await;
    let mut other = pair.watching(&two.nodes[1], 1).await;
    // Each sees that the other one is there.
    loop {
        let presence = one.json_of("presence").await;
        if presence["user"]["id"] == 2 && presence["online"] == true {
            break;
        }
    }
    for number in 0..20 {
        let (from, text) = (number % 2, format!("text {number}"));
        assert_eq!(pair.send(&two.nodes[from], from, &text).await.status, 201);
    }
    for socket in [&mut one, &mut other] {
        for number in 0..20 {
            assert_eq!(message(socket).await, format!("text {number}"), "in order");
        }
    }
    one.send(&json!({"type": "typing", "room": pair.room, "typing": true})).await;
    assert_eq!(other.json_of("typing").await["user"]["id"], 1);
    let signal = json!({"message_type": "webrtc_signal", "room": pair.room, "type": "publish", "sdp": "v=0"});
    one.send(&signal).await;
    assert_eq!(other.json_of("webrtc_signal").await["signal"]["sdp"], "v=0");
    // The second one sent the newest message and has read it; the first one has not.
    one.send(&json!({"type": "read", "room": pair.room, "seq": 21})).await;
    while other.json_of("read").await["seq"] != 21 {}
    drop(other);
    loop {
        let presence = one.json_of("presence").await;
        if presence["user"]["id"] == 2 && presence["online"] == false {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_and_members_change_at_both_gateways() {
    let Some(two) = Two::start("[chat]\nstrangers = \"admit\"\n").await else { return };
    let pair = two.pair().await;
    let mut other = pair.socket(&two.nodes[1], 1).await;
    let post = |path: &str, body: Value| {
        let request = two.nodes[0].client.post(two.nodes[0].at(path)).bearer_auth(&pair.users[0].access);
        Answer::of(request.json(&body))
    };
    let made = post("/chat/chatrooms/", json!({"name": "everybody", "users": [2]})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let room = made.body["id"].as_u64().expect("a room");
    while other.json_of("room_added").await["room"] != room {}
    other.send(&json!({"type": "subscribe", "room": room})).await;
    while other.json_of("subscribed").await["room"] != room {}
    let sent = post("/chat/messages/", json!({"chat_room": room, "text": "welcome"})).await;
    assert_eq!(sent.status, 201, "{sent:?}");
    assert_eq!(message(&mut other).await, "welcome");
    let member = two.nodes[0].at(&format!("/chat/chatrooms/{room}/members/2/"));
    let kicked = Answer::of(two.nodes[0].client.delete(member).bearer_auth(&pair.users[0].access)).await;
    assert_eq!(kicked.status, 204, "{kicked:?}");
    while other.json_of("room_removed").await["room"] != room {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_at_one_gateway_ends_at_the_other() {
    let Some(mut two) = Two::start("").await else { return };
    let pair = two.pair().await;
    let mut socket = pair.watching(&two.nodes[1], 0).await;
    let log_out = async |two: &Two, user: usize| {
        let at = two.nodes[0].client.post(two.nodes[0].at("/logout/"));
        let answer = Answer::of(at.bearer_auth(&pair.users[user].access)).await;
        assert!(answer.status < 300, "{answer:?}");
    };
    log_out(&two, 0).await;
    assert_eq!(socket.closed().await, 4411, "by a note");
    assert_eq!(two.nodes[1].get("/sessions/", Some(&pair.users[0].access)).await.status, 401);
    // Without the bus the store is asked.
    let mut socket = pair.watching(&two.nodes[1], 1).await;
    two.bus.kill();
    log_out(&two, 1).await;
    assert_eq!(socket.closed().await, 4411, "by a question to the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_bus_messages_come_later_and_nobody_is_put_out() {
    let Some(mut two) = Two::start("").await else { return };
    let pair = two.pair().await;
    let mut one = pair.watching(&two.nodes[0], 0).await;
    let mut other = pair.watching(&two.nodes[1], 1).await;
    assert_eq!(pair.send(&two.nodes[0], 0, "with the bus").await.status, 201);
    assert_eq!(message(&mut other).await, "with the bus");
    two.bus.kill();
    for number in 0..10 {
        let from = number % 2;
        assert_eq!(pair.send(&two.nodes[from], from, &format!("without {number}")).await.status, 201);
    }
    for number in 0..10 {
        assert_eq!(message(&mut other).await, format!("without {number}"));
    }
    two.nodes[1].wait_for("the end of the bus", |status| status["gateways"]["bus"]["up"] == false).await;
    let ready = two.nodes[1].get("/ready/", None).await;
    assert_eq!((ready.status, &ready.body["status"]), (200, &json!("degraded")));
    two.bus.restart();
    for node in &two.nodes {
        node.wait_for("the bus", |status| status["gateways"]["bus"]["up"] == true).await;
    }
    assert_eq!(pair.send(&two.nodes[0], 0, "back").await.status, 201);
    assert_eq!(message(&mut other).await, "back");
    // What came meanwhile came once to the first one, too.
    for text in
        ["with the bus".to_owned()].into_iter().chain((0..10).map(|number| format!("without {number}")))
    {
        assert_eq!(message(&mut one).await, text);
    }
    assert_eq!(message(&mut one).await, "back");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_are_told_of_each_other_and_one_does_a_task() {
    let Some(two) = Two::start(ENDPOINT).await else { return };
    let both = |status: &Value| status["gateways"]["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2);
    let mut tasks = Vec::new();
    for node in &two.nodes {
        let status = node.wait_for("both gateways", both).await;
        assert!(
            status["gateways"]["nodes"]
                .as_array()
                .expect("a list")
                .iter()
                .all(|node| node["config_differs"] == false),
            "{status:#}"
        );
        tasks.extend(status["gateways"]["tasks"].as_array().cloned().unwrap_or_default());
    }
    let all = ["payments", "webhooks", "upkeep", "search", "erasure", "messages"];
    let count = |task: &str| tasks.iter().filter(|held| *held == task).count();
    assert!(all.iter().all(|task| count(task) <= 1), "{tasks:?}");
    let metrics = two.nodes[0].get("/metrics/", None).await.text;
    assert!(metrics.contains("chelseru_bus_up 1") && metrics.contains("chelseru_nodes 2"), "{metrics}");
    // One that stops gives its tasks up at once; one whose file differs is told of.
    let Two { nodes: [first, second], bus, database } = two;
    first.stop().await;
    second
        .wait_for("all tasks", |status| {
            status["gateways"]["tasks"].as_array().is_some_and(|tasks| tasks.len() == all.len())
        })
        .await;
    // A gateway without the bus is refused, and names the one that is there.
    let alone = folder(
        &config(&database, &bus.url(), "")
            .replace("[bus]\n", "")
            .replace(&format!("url = \"{}\"\n", bus.url()), ""),
    );
    copy_key(second.config_file().parent().expect("a folder"), alone.path());
    let output = process::run(alone.path(), &["serve"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("another gateway uses the database"), "{said}");
}

/// The key of two gateways: each makes one of its own unless it is given the other's.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_another_key_is_refused() {
    let Some(two) = Two::start("").await else { return };
    let other = folder(&config(&two.database, &two.bus.url(), ""));
    let output = process::run(other.path(), &["serve"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("master.key"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_gateway_loses_its_tasks_and_a_killed_one_too() {
    let (Some(bus), Some(database)) = (BusServer::start(), store::database()) else { return };
    let text = config(&database, &bus.url(), ENDPOINT);
    let first = folder(&text);
    let paused = Served::start(first.path());
    let dir = folder(&text);
    copy_key(first.path(), dir.path());
    let second = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    let holds = |status: &Value, count: usize| {
        status["gateways"]["tasks"].as_array().is_some_and(|tasks| tasks.len() == count)
    };
    second.wait_for("the other gateway", |status| status["gateways"]["nodes"][0]["own"] == false).await;
    paused.signal("-STOP");
    second.wait_for("the tasks of the paused gateway", |status| holds(status, 6)).await;
    paused.signal("-CONT");
    let client = chelseru_tests::client();
    let status = async || Answer::of(client.get(format!("{}/status/", paused.operator_url))).await.body;
    let until = Instant::now() + PATIENCE;
    while !holds(&status().await, 0) {
        assert!(Instant::now() < until, "it still does what the other one does");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    second.stop().await;
    let until = Instant::now() + PATIENCE;
    while !holds(&status().await, 6) {
        assert!(Instant::now() < until, "nobody does anything");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
