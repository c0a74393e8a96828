//! News of chat for webhooks: who has no socket, and nothing for endpoints that did not ask.

use std::time::{Duration, Instant};

use chelseru_domain::ids::UserId;
use chelseru_tests::PATIENCE;
use chelseru_tests::socket::Socket;
use serde_json::json;

use crate::chat_rest::Town;
use crate::webhooks::{Message, Receiver, SECRET};

const KINDS: &str = "events = [\"message.created\", \"room.invited\"]\n";

fn endpoint(name: &str, receiver: &Receiver, more: &str) -> String {
    let address = receiver.address;
    format!(
        "[webhooks.endpoints.{name}]\nurl = \"http://{address}/hooks\"\nsecret = \"{SECRET}\"\n\
         hosts = [\"{address}\"]\n{more}"
    )
}

/// Waits for as many messages, and returns them all.
async fn received(receiver: &Receiver, count: usize) -> Vec<Message> {
    let until = Instant::now() + PATIENCE;
    loop {
        let messages = receiver.messages.lock().expect("no panic").clone();
        if messages.len() >= count {
            return messages;
        }
        assert!(Instant::now() < until, "{} of {count} came", messages.len());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn socket(town: &Town, user: u64) -> Socket {
    let authorization = format!("Bearer {}", town.users[user as usize - 1].access);
    let mut socket =
        Socket::open(&town.gateway.at("/ws/"), &[("Authorization", &authorization)]).await.expect("open");
    socket.json_of("hello").await;
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn those_without_a_socket_are_told_and_texts_stay_home() {
    let (push, words, money) =
        (Receiver::start(&[]).await, Receiver::start(&[]).await, Receiver::start(&[]).await);
    let config = [
        "[chat]\nstrangers = \"admit\"\n".to_owned(),
        endpoint("push", &push, KINDS),
        endpoint("words", &words, "events = [\"message.created\"]\nmessage_text = true\n"),
        endpoint("money", &money, ""),
    ];
    let town = Town::build(4, &config.concat()).await;
    let group = town.ask(1, "POST", "/chat/chatrooms/", json!({"users": [2, 3]})).await;
    let room = group.body["id"].clone();
    let here = socket(&town, 2).await;
    let post = async |text: &str| {
        let sent = town.ask(1, "POST", "/chat/messages/", json!({"chat_room": room, "text": text})).await;
        assert_eq!(sent.status, 201, "{sent:?}");
        sent.body["id"].clone()
    };
    let id = post("a secret").await;
    let told = received(&push, 1).await;
    assert!(told[0].is_signed() && told[0].id == format!("msg_{id}"));
    let told = told[0].json();
    assert_eq!(told["type"], "message.created");
    let data = json!({
        "id": id, "room": room, "seq": 1, "sender": 1, "message_type": "text", "absent": [3],
        "absent_complete": true,
    });
    assert_eq!(told["data"], data);
    assert_eq!(received(&words, 1).await[0].json()["data"]["text"], "a secret");

    // With everybody here there is nothing to tell. News are told in order, so those of another room come after it.
    let there = socket(&town, 3).await;
    post("all are here").await;
    let other = town.ask(1, "POST", "/chat/chatrooms/", json!({"users": [4]})).await.body["id"].clone();
    town.ask(1, "POST", "/chat/messages/", json!({"chat_room": other, "text": "x"})).await;
    let told = received(&push, 2).await[1].json();
    assert_eq!((&told["data"]["room"], &told["data"]["absent"]), (&other, &json!([4])));
    drop((here, there));
    let hub = &town.gateway.app.hub;
    let until = Instant::now() + PATIENCE;
    while [2, 3].into_iter().any(|user| hub.has(UserId(user))) {
        assert!(Instant::now() < until, "the sockets stay");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    post("nobody is here").await;
    let told = received(&push, 3).await[2].json();
    assert_eq!((&told["data"]["seq"], &told["data"]["absent"]), (&json!(3), &json!([2, 3])));
    assert!(money.messages.lock().expect("no panic").is_empty(), "it did not ask for chat");
    assert!(!format!("{:?}", push.messages.lock().expect("no panic")).contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn invitations_are_told_again_after_a_failure_and_switched_by_an_edit() {
    let push = Receiver::start(&[500]).await;
    let ask = "[chat]\nstrangers = \"ask\"\n";
    let town = Town::build(3, &format!("{ask}{}", endpoint("push", &push, KINDS))).await;
    let pair = town.ask(1, "POST", "/chat/chatrooms/", json!({"user_id": 2})).await;
    assert_eq!(pair.status, 201, "{pair:?}");
    let told = received(&push, 2).await;
    assert_eq!(told[0].id, told[1].id, "another attempt at the same news");
    let data = json!({
        "room": pair.body["id"], "by": 1, "users": [2], "absent": [2], "absent_complete": true,
    });
    assert_eq!((&told[1].json()["type"], &told[1].json()["data"]), (&json!("room.invited"), &data));
    // A message that waits behind a request is no news yet.
    let sent = json!({"chat_room": pair.body["id"], "text": "hello"});
    town.ask(1, "POST", "/chat/messages/", sent).await;

    let generation = town.gateway.app.reload_status().generation;
    town.gateway.edit_config(ask);
    town.gateway.wait_for("the edit", |_| town.gateway.app.reload_status().generation > generation).await;
    town.ask(1, "POST", "/chat/chatrooms/", json!({"user_id": 3})).await;
    town.gateway.edit_config(&format!("{ask}{}", endpoint("push", &push, KINDS)));
    town.gateway.wait_for("the edit", |_| town.gateway.app.reload_status().generation > generation + 1).await;
    town.ask(2, "POST", "/chat/chatrooms/", json!({"user_id": 3})).await;
    let told = received(&push, 3).await;
    assert_eq!((told.len(), &told[2].json()["data"]["by"]), (3, &json!(2)), "nothing of what came between");
    assert_eq!(told[2].json()["data"]["users"], json!([3]));
}
