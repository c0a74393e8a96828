//! Rooms as their members see them: pairs that are left and blocked, newest messages, sizes of pages, avatars.

use chelseru_tests::TestGateway;
use serde_json::{Value, json};

use crate::chat_rest::Town;

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_a_pair_sees_it_again_with_its_next_message() {
    let town = Town::build(2, "").await;
    let pair = town.ask(1, "POST", "/chat/chatrooms/", json!({"user_id": 2})).await;
    let id = pair.body["id"].clone();
    let room = format!("/chat/chatrooms/{id}/");
    let listed = async |user: u64| {
        let list = town.ask(user, "GET", "/chat/chatrooms/", Value::Null).await;
        list.body
            .as_array()
            .expect("a list")
            .iter()
            .map(|room| room["unread_count"].clone())
            .collect::<Vec<_>>()
    };
    let post = async |user: u64, text: &str| {
        let body = json!({"chat_room": id, "text": text});
        assert_eq!(town.ask(user, "POST", "/chat/messages/", body).await.status, 201);
    };
    let leave = async |user: u64| {
        let answer = town.ask(user, "POST", &format!("{room}leave/"), Value::Null).await;
        assert_eq!(answer.status, 204, "user {user}: {answer:?}");
    };
    post(1, "one").await;
    // The second user leaves with a message unread, and the other one notices nothing.
    leave(2).await;
    assert_eq!((listed(2).await, listed(1).await), (vec![], vec![json!(0)]));
    assert_eq!(town.room(1, &id).await["members_count"], 2);
    post(1, "two").await;
    assert_eq!(listed(2).await, [json!(2)], "nothing was counted as read");
    // The opener may leave, too, and an own message brings the room back as well.
    leave(1).await;
    assert_eq!(listed(1).await, Vec::<Value>::new());
    post(1, "three").await;
    assert_eq!(listed(1).await, [json!(0)]);
    // So does naming the other user.
    leave(2).await;
    let again = town.ask(2, "POST", "/chat/chatrooms/", json!({"user_id": 1})).await;
    assert_eq!((again.status, &again.body["id"]), (200, &id));
    assert_eq!(listed(2).await, [json!(3)]);
    // It survives a restart.
    leave(2).await;
    let Town { gateway, users } = town;
    let dir = gateway.stop().await;
    let clock = std::sync::Arc::new(chelseru_domain::clock::SystemClock);
    let town = Town { gateway: TestGateway::start_in(dir, clock).await, users };
    let list = town.ask(2, "GET", "/chat/chatrooms/", Value::Null).await;
    assert_eq!(list.body, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_the_newest_message_and_pages_have_the_asked_size() {
    let town = Town::build(2, "").await;
    let pair = town.ask(1, "POST", "/chat/chatrooms/", json!({"user_id": 2})).await;
    assert_eq!((pair.status, &pair.body["last_message"]), (201, &Value::Null));
    let id = pair.body["id"].clone();
    let mut newest = Value::Null;
    for number in 1..=101 {
        let body = json!({"chat_room": id, "text": format!("{number}{}", "x".repeat(300))});
        newest = town.ask(2, "POST", "/chat/messages/", body).await.body;
    }
    let list = town.ask(1, "GET", "/chat/chatrooms/", Value::Null).await;
    let last = &list.body[0]["last_message"];
    assert_eq!((&last["id"], &last["seq"], &last["sender"]["id"]), (&newest["id"], &json!(101), &json!(2)));
    assert_eq!(last["text"].as_str().expect("a text").chars().count(), 200);
    assert_eq!(&town.room(1, &id).await["last_message"], last);
    // A deleted message is nobody's newest.
    let path = format!("/chat/messages/{}/?chat_room={id}", newest["id"]);
    assert_eq!(town.ask(2, "DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(town.room(1, &id).await["last_message"]["seq"], 100);

    for (asked, count) in [("", 30), ("1", 1), ("100", 100), ("101", 100), ("0", 30), ("-1", 30), ("x", 30)] {
        let path = format!("/chat/messages/?chat_room={id}&page_size={asked}");
        let page = town.ask(1, "GET", &path, Value::Null).await;
        assert_eq!(page.body["results"].as_array().expect("results").len(), count, "{asked}");
    }
    // The next page keeps the size.
    let page = town.ask(1, "GET", &format!("/chat/messages/?chat_room={id}&page_size=60"), Value::Null).await;
    let next = page.body["next"].as_str().expect("more").split_once("/drfchelseru").expect("a path").1;
    let page = town.ask(1, "GET", next, Value::Null).await;
    assert_eq!(
        (page.body["results"].as_array().expect("results").len(), &page.body["next"]),
        (40, &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_avatar_is_reported_as_avatar() {
    let town = Town::build(2, "").await;
    let made = town.ask(1, "POST", "/chat/chatrooms/", json!({"users": [2]})).await;
    let room = format!("/chat/chatrooms/{}/", made.body["id"]);
    let refused = town.ask(1, "PATCH", &room, json!({"avatar": 99})).await;
    assert_eq!(refused.status, 400);
    assert!(refused.body["avatar"][0].is_string() && refused.body.get("attach_id").is_none(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_pair_may_block_the_other() {
    for (blocker, blocked) in [(2, 1), (1, 2)] {
        let town = Town::build(2, "").await;
        let pair = town.ask(1, "POST", "/chat/chatrooms/", json!({"user_id": 2})).await;
        let (id, room) = (pair.body["id"].clone(), format!("/chat/chatrooms/{}/", pair.body["id"]));
        let ban = town.ask(blocker, "POST", &format!("{room}bans/"), json!({"user_id": blocked})).await;
        assert_eq!(ban.status, 201, "{ban:?}");
        let post = async |user: u64| {
            let body = json!({"chat_room": id, "text": "hello"});
            town.ask(user, "POST", "/chat/messages/", body).await
        };
        assert_eq!(post(blocked).await.status, 403);
        let again = town.ask(blocked, "POST", "/chat/chatrooms/", json!({"user_id": blocker})).await;
        assert_eq!((again.status, again.header("x-error-code")), (403, "banned"));
        assert_eq!(town.ask(blocked, "DELETE", &room, Value::Null).await.status, 403);
        assert_eq!(
            town.ask(blocker, "DELETE", &format!("{room}bans/{blocked}/"), Value::Null).await.status,
            204
        );
        let again = town.ask(blocked, "POST", "/chat/chatrooms/", json!({"user_id": blocker})).await;
        assert_eq!((again.status, &again.body["id"]), (200, &id));
        assert_eq!(post(blocked).await.status, 201);
    }
}
