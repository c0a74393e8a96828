//! What two gateways over one database tell each other besides messages: allowances, who is connected, whom a user
//! blocks, and changed accounts.

use std::time::{Duration, Instant};

use chelseru_tests::{Answer, PATIENCE};
use serde_json::{Value, json};

use super::chat_pictures::png;
use super::console_v1::Program;
use super::nodes::Two;
use super::webhooks::{Receiver, SECRET};

#[tokio::test(flavor = "multi_thread")]
async fn an_allowance_is_one_at_both_gateways() {
    let Some(two) = Two::start("[chat]\nmessages_per_minute_max = 40\n").await else { return };
    let pair = two.pair().await;
    let until = Instant::now() + PATIENCE;
    let mut sent = 0;
    loop {
        let answer = pair.send(&two.nodes[sent % 2], 0, "hello").await;
        if answer.status == 429 {
            assert_eq!(answer.header("x-error-code"), "allowance_used", "{answer:?}");
            break;
        }
        assert_eq!(answer.status, 201, "{answer:?}");
        sent += 1;
        assert!(Instant::now() < until && sent < 80, "{sent} were accepted");
        // Slower than notes; each gateway alone would accept forty.
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert!((40..=42).contains(&sent), "{sent} of 40 were accepted");
}

/// Asks both gateways in turns until one answers 429, and returns how many requests were accepted. Slower than notes;
/// each gateway alone would accept `max`.
async fn accepted(max: usize, code: &str, ask: impl AsyncFn(usize) -> Answer) -> usize {
    let until = Instant::now() + PATIENCE;
    for count in 0..2 * max {
        let answer = ask(count).await;
        if answer.status == 429 {
            assert_eq!(answer.header("x-error-code"), code, "{answer:?}");
            return count;
        }
        assert!(answer.status < 300, "{answer:?}");
        assert!(Instant::now() < until, "{count} were accepted");
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    2 * max
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_on_codes_is_one_at_both_gateways() {
    let Some(two) = Two::start("[sms.shield]\naddress_per_hour_max = 20\n").await else { return };
    let sent = accepted(20, "sms_limited", async |count| {
        // Numbers of different prefixes, each asked for once.
        let number = format!("0912{count:03}0000");
        two.nodes[count % 2].post("/otp/send/", json!({"mobile_number": number})).await
    });
    assert!((20..=21).contains(&sent.await));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowance_of_searches_is_one_at_both_gateways() {
    let Some(two) = Two::start("[chat]\nsearches_per_minute_max = 20\n").await else { return };
    let user = two.nodes[0].login("09120000001").await;
    let made = accepted(20, "allowance_used", async |count| {
        two.nodes[count % 2].get("/chat/search/?q=hello", Some(&user.access)).await
    });
    assert!((20..=22).contains(&made.await));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_connected_elsewhere_is_not_away() {
    let push = Receiver::start(&[]).await;
    let address = push.address;
    let hooks = format!(
        "[webhooks.endpoints.push]\nurl = \"http://{address}/hooks\"\nsecret = \"{SECRET}\"\n\
         hosts = [\"{address}\"]\nevents = [\"message.created\"]\n"
    );
    let Some(two) = Two::start(&hooks).await else { return };
    let pair = two.pair().await;
    let told = async |count: usize| -> Vec<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let messages = push.messages.lock().expect("no panic").clone();
            if messages.len() >= count {
                return messages.iter().map(|message| message.json()["data"].clone()).collect();
            }
            assert!(Instant::now() < until, "{} of {count} came", messages.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert_eq!(told(1).await[0]["absent"], json!([1]), "the first message is from the second user");
    let there = pair.watching(&two.nodes[1], 1).await;
    assert_eq!(pair.send(&two.nodes[0], 0, "you are there").await.status, 201);
    // News of a room are told in order: the next one is of a message that the first user misses.
    assert_eq!(pair.send(&two.nodes[0], 1, "you are not").await.status, 201);
    let told_so_far = told(2).await;
    assert_eq!(
        (&told_so_far[1]["absent"], &told_so_far[1]["sender"]),
        (&json!([1]), &json!(2)),
        "{told_so_far:?}"
    );
    drop(there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_hides_presence_at_the_other_gateway() {
    let Some(two) = Two::start("").await else { return };
    let mut pair = two.pair().await;
    // In a group: who blocks the other one of a pair leaves the other one no pair.
    let group =
        two.nodes[0].client.post(two.nodes[0].at("/chat/chatrooms/")).bearer_auth(&pair.users[0].access);
    let group = Answer::of(group.json(&json!({"name": "all", "users": [2]}))).await;
    assert_eq!(group.status, 201, "{group:?}");
    pair.room = group.body["id"].as_u64().expect("a room");
    let mut one = pair.watching(&two.nodes[0], 0).await;
    let presence = async |socket: &mut chelseru_tests::socket::Socket, online: bool| loop {
        let presence = socket.json_of("presence").await;
        if presence["user"]["id"] == 2 && presence["online"] == online {
            return;
        }
    };
    let other = pair.watching(&two.nodes[1], 1).await;
    presence(&mut one, true).await;
    // The block is made at the gateway where the user has no socket.
    let client = &two.nodes[0].client;
    let blocks = client.post(two.nodes[0].at("/chat/blocks/")).bearer_auth(&pair.users[1].access);
    let blocked = Answer::of(blocks.json(&json!({"user_id": 1}))).await;
    assert!(blocked.status < 300, "{blocked:?}");
    presence(&mut one, false).await;
    let back = client.delete(two.nodes[0].at("/chat/blocks/1/")).bearer_auth(&pair.users[1].access);
    let back = Answer::of(back).await;
    assert!(back.status < 300, "{back:?}");
    presence(&mut one, true).await;
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_account_is_found_at_the_other_gateway() {
    let Some(two) = Two::start("").await else { return };
    let user = two.nodes[0].login("09120000001").await;
    let support = Program::of(&two.nodes[1], "operator:support").await;
    assert_eq!(support.count("/users/?search=shirin").await, 0);
    let me = two.nodes[0].client.patch(two.nodes[0].at("/me/")).bearer_auth(&user.access);
    let named = Answer::of(me.json(&json!({"first_name": "Shirin"}))).await;
    assert_eq!(named.status, 200, "{named:?}");
    let until = Instant::now() + PATIENCE;
    while support.count("/users/?search=shirin").await == 0 {
        assert!(Instant::now() < until, "the other gateway does not find the name");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_picture_is_shown_by_sockets_at_the_other_gateway() {
    let Some(two) = Two::start("").await else { return };
    let pair = two.pair().await;
    let mut one = pair.watching(&two.nodes[0], 0).await;
    let mut other = pair.watching(&two.nodes[1], 1).await;
    // The picture is set where the user has no socket.
    let head = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"me.png\"\r\n\r\n";
    let body = [head.as_bytes(), &png(20, 20), b"\r\n--x--\r\n"].concat();
    let set = two.nodes[0].client.put(two.nodes[0].at("/me/avatar/")).bearer_auth(&pair.users[1].access);
    let set = Answer::of(set.header("content-type", "multipart/form-data; boundary=x").body(body)).await;
    assert_eq!(set.status, 200, "{set:?}");
    let until = Instant::now() + PATIENCE;
    loop {
        other.send(&json!({"type": "typing", "room": pair.room, "typing": true})).await;
        if one.json_of("typing").await["user"]["avatar"].is_string() {
            return;
        }
        assert!(Instant::now() < until, "the socket shows the picture before");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
