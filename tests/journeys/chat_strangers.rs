//! Strangers in chat: requests, invitations, blocks, finding people, and what an attacker tries with them.

use chelseru_tests::Answer;
use chelseru_tests::socket::{Refusal, Socket};
use serde_json::{Value, json};

use crate::chat_rest::Town;

/// The defaults of a new gateway, where [`chelseru_tests::folder`] opens them.
const ASK: &str = "[chat]\nstrangers = \"ask\"\n";

const HIDDEN: &str = "Hidden-name";

impl Town {
    async fn pair(&self, user: u64, other: u64) -> Answer {
        self.ask(user, "POST", "/chat/chatrooms/", json!({"user_id": other})).await
    }

    async fn post(&self, user: u64, room: &Value, text: &str) -> Answer {
        self.ask(user, "POST", "/chat/messages/", json!({"chat_room": room, "text": text})).await
    }

    /// Ids in a user's list of rooms.
    async fn rooms(&self, user: u64) -> Vec<Value> {
        let list = self.ask(user, "GET", "/chat/chatrooms/", Value::Null).await;
        list.body.as_array().expect("a list").iter().map(|room| room["id"].clone()).collect()
    }

    async fn requests(&self, user: u64) -> Vec<Value> {
        let list = self.ask(user, "GET", "/chat/requests/", Value::Null).await;
        assert_eq!(list.status, 200, "{list:?}");
        list.body["results"].as_array().expect("a page").clone()
    }

    async fn answer(&self, user: u64, room: &Value, word: &str) -> Answer {
        self.ask(user, "POST", &format!("/chat/requests/{room}/{word}/"), Value::Null).await
    }

    async fn name(&self, user: u64, first: &str, last: &str) {
        let names = json!({"first_name": first, "last_name": last});
        assert_eq!(self.ask(user, "PATCH", "/me/", names).await.status, 200);
    }

    /// A socket of all rooms, with its `hello`.
    async fn open_all(&self, user: u64) -> (Socket, Value) {
        let mut socket = self.open(user, "/ws/").await.expect("open");
        let hello = socket.json_of("hello").await;
        (socket, hello)
    }

    async fn open(&self, user: u64, path: &str) -> Result<Socket, Refusal> {
        let authorization = format!("Bearer {}", self.users[user as usize - 1].access);
        Socket::open(&self.gateway.at(path), &[("Authorization", &authorization)]).await
    }
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.header("X-Error-Code"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_pair_is_a_request_until_it_is_answered() {
    let town = Town::build(2, ASK).await;
    town.name(1, "Opener", "Open").await;
    town.name(2, HIDDEN, HIDDEN).await;
    let (mut socket, hello) = town.open_all(2).await;
    assert_eq!(hello["rooms"], json!([]));

    // The documented call has its documented answer, and the opener can write at once.
    let pair = town.pair(1, 2).await;
    let room = pair.body["id"].clone();
    assert_eq!((pair.status, pair.body["users"].as_array().map(Vec::len)), (201, Some(2)));
    let asked = socket.json_of("request_added").await;
    assert_eq!((&asked["room"], &asked["by"], &asked["is_group"]), (&room, &json!(1), &json!(false)));
    assert_eq!(town.post(1, &room, "hello").await.status, 201);

    // It is no room of the other one, who can read it and decide.
    assert_eq!(town.rooms(2).await, Vec::<Value>::new());
    let requests = town.requests(2).await;
    assert_eq!((&requests[0]["room"], &requests[0]["last_message"]["text"]), (&room, &json!("hello")));
    assert_eq!(requests[0]["by"]["first_name"], "Opener");
    assert_eq!(town.room(2, &room).await["pending"], true);
    let page = town.ask(2, "GET", &format!("/chat/messages/?chat_room={room}"), Value::Null).await;
    assert_eq!(page.body["results"][0]["text"], "hello");

    // Nothing of that is noticed: no marker, no presence, no typing.
    for (method, path) in [("POST", "read"), ("POST", "pin"), ("DELETE", "pin")] {
        let answer = town.ask(2, method, &format!("/chat/chatrooms/{room}/{path}/"), Value::Null).await;
        assert_eq!(code(&answer), (403, "not_accepted"), "{path}");
    }
    let refused = town.open(2, &format!("/chat/{room}/")).await.err().expect("refused");
    assert_eq!(refused.status, 403);
    for kind in ["subscribe", "typing"] {
        socket.send(&json!({"type": kind, "room": room})).await;
        assert_eq!(socket.json_of("error").await["code"], "not_accepted", "{kind}");
    }

    // An answer over the socket accepts.
    let (mut opener, _) = town.open_all(1).await;
    opener.send(&json!({"type": "subscribe", "room": room})).await;
    opener.json_of("subscribed").await;
    socket.send(&json!({"type": "publish", "room": room, "message": "hi"})).await;
    assert_eq!(socket.json_of("ack").await["seq"], 2);
    assert_eq!(opener.json_of("member_added").await["user"], 2);
    assert_eq!(opener.json_of("chat_message").await["message"], "hi");
    assert_eq!((town.rooms(2).await, town.requests(2).await), (vec![room.clone()], vec![]));
    assert_eq!(code(&town.answer(2, &room, "accept").await), (404, "no_request"));
    // From now on the socket follows the room, and the two share one.
    town.post(1, &room, "fine").await;
    loop {
        let unread = socket.json_of("unread").await;
        assert_eq!(unread["room"], room);
        if unread["seq"] == 3 {
            break;
        }
    }
    assert_eq!(town.room(1, &room).await["users"][1]["first_name"], HIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_shows_a_groups_name_and_nothing_else() {
    let town = Town::build(3, ASK).await;
    let (mut socket, _) = town.open_all(2).await;
    let group = town.ask(1, "POST", "/chat/chatrooms/", json!({"users": [2, 3], "name": "Tea"})).await;
    assert_eq!(group.status, 201, "{group:?}");
    let room = group.body["id"].clone();
    town.post(1, &room, "for members only").await;
    let asked = socket.json_of("request_added").await;
    assert_eq!((&asked["name"], &asked["is_group"]), (&json!("Tea"), &json!(true)));
    let requests = town.requests(2).await;
    assert_eq!((&requests[0]["name"], &requests[0]["last_message"]), (&json!("Tea"), &Value::Null));
    for (method, path) in [
        ("GET", format!("/chat/chatrooms/{room}/")),
        ("GET", format!("/chat/chatrooms/{room}/members/")),
        ("POST", format!("/chat/chatrooms/{room}/read/")),
        ("DELETE", format!("/chat/chatrooms/{room}/members/1/")),
        ("DELETE", format!("/chat/chatrooms/{room}/")),
    ] {
        let answer = town.ask(2, method, &path, Value::Null).await;
        assert_eq!(code(&answer), (404, "room_missing"), "{method} {path}");
    }
    assert_eq!(code(&town.post(2, &room, "x").await), (404, "room_missing"));
    let page = town.ask(2, "GET", &format!("/chat/messages/?chat_room={room}"), Value::Null).await;
    assert_eq!(page.body["results"], json!([]));
    assert!(town.open(2, &format!("/chat/{room}/")).await.is_err());

    let members = town.ask(1, "GET", &format!("/chat/chatrooms/{room}/members/"), Value::Null).await;
    let pending: Vec<&Value> =
        members.body["results"].as_array().expect("a page").iter().map(|member| &member["pending"]).collect();
    assert_eq!(pending, [&json!(false), &json!(true), &json!(true)]);
    let accepted = town.answer(2, &room, "accept").await;
    assert_eq!((accepted.status, &accepted.body["id"]), (200, &room));
    assert_eq!(socket.json_of("room_added").await["room"], room);
    assert_eq!(town.answer(3, &room, "decline").await.status, 204);
    assert_eq!(code(&town.answer(3, &room, "accept").await), (404, "room_missing"));
    assert_eq!(town.room(1, &room).await["members_count"], 2);
    // Who shares a room is added at once; who left or declined is asked, whoever adds.
    let second = town.ask(2, "POST", "/chat/chatrooms/", json!({"users": [1]})).await;
    assert!(town.rooms(1).await.contains(&second.body["id"]));
    let path = format!("/chat/chatrooms/{room}/leave/");
    assert_eq!(town.ask(2, "POST", &path, Value::Null).await.status, 204);
    for user in [2, 3] {
        let path = format!("/chat/chatrooms/{room}/members/");
        let added = town.ask(1, "POST", &path, json!({"user_id": user})).await;
        assert_eq!((added.status, &added.body["pending"]), (201, &json!(true)), "{added:?}");
        assert_eq!(town.requests(user).await[0]["room"], room);
    }
    // An invitation that is taken back leaves the list of who was asked, and their clients learn it.
    socket.json_of("request_added").await;
    let path = format!("/chat/chatrooms/{room}/members/2/");
    assert_eq!(town.ask(1, "DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(socket.json_of("request_removed").await["room"], room);
    assert_eq!(town.requests(2).await, Vec::<Value>::new());
}

/// 998 rooms in six seconds: what a stranger could do to a user's list.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_cannot_fill_a_list() {
    let config = format!("{ASK}rooms_per_hour_max = 30\nrequests_per_hour_max = 20\nrequests_max = 7\n");
    let town = Town::build(10, &config).await;
    let mut refused = 0;
    for _ in 0..40 {
        let group = town.ask(1, "POST", "/chat/chatrooms/", json!({"users": [2]})).await;
        match group.status {
            201 => {}
            409 => assert_eq!(code(&group), (409, "limit_reached")),
            status => {
                assert_eq!((status, group.header("X-Error-Code")), (429, "allowance_used"));
                assert_ne!(group.header("Retry-After"), "");
                refused += 1;
            }
        }
    }
    assert_eq!((town.requests(2).await.len(), town.rooms(2).await.len()), (5, 0), "one stranger");
    assert_eq!(refused, 0, "a refused room does not count");
    for user in 3..=10 {
        assert_eq!(town.pair(user, 2).await.status, 201);
    }
    let by: Vec<u64> = town
        .requests(2)
        .await
        .iter()
        .map(|request| request["by"]["id"].as_u64().expect("a number"))
        .collect();
    assert_eq!(by, [10, 9, 8, 7, 6, 5, 4], "the newest ones");
    // Rooms of one's own end as well.
    let mut made = town.rooms(1).await.len();
    let limited = loop {
        let group = town.ask(1, "POST", "/chat/chatrooms/", json!({"users": []})).await;
        if group.status != 201 {
            break group;
        }
        made += 1;
        assert!(made <= 30, "{made} rooms");
    };
    assert_eq!((made, code(&limited)), (30, (429, "allowance_used")));
    assert_eq!(town.rooms(2).await, Vec::<Value>::new());
}

/// Who counts through the numbers of users learns no names, by whatever route.
#[tokio::test(flavor = "multi_thread")]
async fn names_of_strangers_cannot_be_counted_through() {
    let town = Town::build(4, ASK).await;
    for user in 2..=4 {
        town.name(user, HIDDEN, HIDDEN).await;
    }
    let group = town.ask(1, "POST", "/chat/chatrooms/", json!({"users": [2]})).await;
    let pair = town.pair(1, 3).await;
    let (room, other) = (&group.body["id"], &pair.body["id"]);
    town.post(1, other, "x").await;
    for (method, path, body) in [
        ("POST", "/chat/chatrooms/".to_owned(), json!({"user_id": 2})),
        ("GET", "/chat/chatrooms/".to_owned(), Value::Null),
        ("GET", format!("/chat/chatrooms/{room}/"), Value::Null),
        ("GET", format!("/chat/chatrooms/{other}/"), Value::Null),
        ("PATCH", format!("/chat/chatrooms/{room}/"), json!({"name": "x"})),
        ("GET", format!("/chat/chatrooms/{room}/members/"), Value::Null),
        ("GET", format!("/chat/chatrooms/{room}/members/2/"), Value::Null),
        ("POST", format!("/chat/chatrooms/{room}/members/"), json!({"user_id": 3})),
        ("POST", format!("/chat/chatrooms/{room}/members/2/grant/"), json!({"access": 3})),
        ("POST", format!("/chat/chatrooms/{room}/bans/"), json!({"user_id": 4})),
        ("GET", format!("/chat/chatrooms/{room}/bans/"), Value::Null),
        ("GET", format!("/chat/messages/?chat_room={other}"), Value::Null),
        ("POST", "/chat/blocks/".to_owned(), json!({"user_id": 4})),
        ("GET", "/chat/blocks/".to_owned(), Value::Null),
        ("GET", "/users/?mobile_number=09120000002".to_owned(), Value::Null),
        ("POST", "/contacts/lookup/".to_owned(), json!({"mobile_numbers": ["09120000002"]})),
    ] {
        let answer = town.ask(1, method, &path, body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        assert!(!answer.body.to_string().contains(HIDDEN), "{method} {path}: {answer:?}");
    }
    // Who accepts is seen.
    assert_eq!(town.answer(2, room, "accept").await.status, 200);
    assert!(town.room(1, room).await["users"].to_string().contains(HIDDEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_blocked_opens_no_pair_invites_nobody_and_sees_no_presence() {
    let town = Town::build(3, ASK).await;
    let group = town.ask(3, "POST", "/chat/chatrooms/", json!({"users": [1, 2]})).await.body["id"].clone();
    for user in [1, 2] {
        town.answer(user, &group, "accept").await;
    }
    let block = town.ask(1, "POST", "/chat/blocks/", json!({"user_id": 2})).await;
    assert_eq!(block.status, 204);
    let blocks = town.ask(1, "GET", "/chat/blocks/", Value::Null).await;
    assert_eq!(blocks.body["results"][0]["id"], 2);
    assert_eq!(code(&town.pair(2, 1).await), (403, "blocked"));
    let invited = town.ask(2, "POST", "/chat/chatrooms/", json!({"users": [1]})).await;
    assert_eq!(code(&invited), (403, "blocked"));

    // In the group that they share, the blocked one does not see who is there.
    let watch = async |user: u64| {
        let mut socket = town.open(user, &format!("/chat/{group}/?events=1")).await.expect("open");
        let online = socket.json_of("subscribed").await["online"].clone();
        (socket, online)
    };
    let (mut blocked, _) = watch(2).await;
    let (mut other, _) = watch(3).await;
    let (blocker, online) = watch(1).await;
    assert_eq!(online, json!([1, 2, 3]));
    assert_eq!(other.json_of("presence").await["user"]["id"], 1);
    assert_eq!(watch(2).await.1, json!([2, 3]));
    drop(blocker);
    let offline = other.json_of("presence").await;
    assert_eq!((&offline["user"]["id"], &offline["online"]), (&json!(1), &json!(false)));
    // A message comes after everything that was told before.
    town.post(3, &group, "mark").await;
    let frame = blocked.json().await;
    assert_eq!((&frame["type"], &frame["user"]["id"]), (&json!("presence"), &json!(3)), "{frame}");
    let frame = blocked.json().await;
    assert_eq!(frame["type"], "chat_message", "{frame}");

    // It ends, and begins again, while sockets are open: the presence that was shown is corrected at once.
    let (mut blocker, _) = watch(1).await;
    assert_eq!(town.ask(1, "DELETE", "/chat/blocks/2/", Value::Null).await.status, 204);
    let seen = blocked.json_of("presence").await;
    assert_eq!((&seen["user"]["id"], &seen["online"]), (&json!(1), &json!(true)));
    assert_eq!(town.ask(1, "POST", "/chat/blocks/", json!({"user_id": 2})).await.status, 204);
    let seen = blocked.json_of("presence").await;
    assert_eq!((&seen["user"]["id"], &seen["online"]), (&json!(1), &json!(false)));
    // Typing shows that somebody is there, too.
    blocker.send(&json!({"type": "typing", "typing": true})).await;
    assert_eq!(other.json_of("typing").await["user"]["id"], 1);
    town.post(3, &group, "mark").await;
    assert_eq!(blocked.json().await["type"], "chat_message");
    assert_eq!(town.ask(1, "DELETE", "/chat/blocks/2/", Value::Null).await.status, 204);
    assert_eq!(town.pair(2, 1).await.status, 201);
    for (body, expected) in
        [(json!({"user_id": 99}), (404, "user_missing")), (json!({"user_id": 1}), (400, "invalid_fields"))]
    {
        assert_eq!(code(&town.ask(1, "POST", "/chat/blocks/", body).await), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_who_know_each_other_find_each_other() {
    let town = Town::build(3, &format!("{ASK}lookups_per_day_max = 20\n")).await;
    town.name(2, "Sara", "S").await;
    let find = async |query: &str| town.ask(1, "GET", &format!("/users/?{query}"), Value::Null).await;
    assert_eq!(find("mobile_number=09120000002").await.body, json!({"results": []}));
    let numbers = json!(["۰۹۱۲۰۰۰۰۰۰۱", "021 1234", 12, "+44 20 7946 0000"]);
    let lookup = async |user: u64, numbers: Value| {
        town.ask(user, "POST", "/contacts/lookup/", json!({"mobile_numbers": numbers})).await
    };
    assert_eq!(lookup(2, numbers).await.body, json!({"results": []}), "1 has not the number of 2");
    let found = lookup(1, json!(["0912 000 0002", "09129999999"])).await;
    assert_eq!(found.body["results"][0]["mobile_number"], "0912 000 0002");
    assert_eq!(found.body["results"][0]["user"]["first_name"], "Sara");
    assert_eq!(found.body["results"].as_array().map(Vec::len), Some(1));
    assert_eq!(find("mobile_number=%2B989120000002").await.body["results"][0]["id"], 2);
    // A name that contains a number finds nobody.
    assert_eq!(find("username=G0-09120000002").await.body, json!({"results": []}));
    assert_eq!(find("username=G0-3").await.body, json!({"results": []}));
    for query in ["", "mobile_number=abc", "mobile_number=", "username="] {
        assert_eq!(code(&find(query).await), (400, "invalid_fields"), "{query}");
    }
    for numbers in [json!("09120000002"), json!([[]]), json!(vec!["09120000002"; 501]), Value::Null] {
        assert_eq!(code(&lookup(1, numbers.clone()).await), (400, "invalid_fields"), "{numbers:.40}");
    }
    assert_eq!(town.ask(2, "DELETE", "/contacts/", Value::Null).await.status, 204);
    assert_eq!(find("mobile_number=09120000002").await.body, json!({"results": []}));
    let limited = lookup(1, json!(vec!["09120000003"; 20])).await;
    assert_eq!(code(&limited), (429, "allowance_used"));
    assert_ne!(limited.header("Retry-After"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_can_be_open_or_off() {
    let town = Town::build(2, &format!("{ASK}directory = \"open\"\n")).await;
    town.name(2, HIDDEN, HIDDEN).await;
    let find = async |town: &Town| town.ask(1, "GET", "/users/?mobile_number=09120000002", Value::Null).await;
    let found = find(&town).await;
    assert_eq!(
        (&found.body["results"][0]["id"], &found.body["results"][0]["first_name"]),
        (&json!(2), &json!(""))
    );
    let config = std::fs::read_to_string(town.gateway.config_file()).expect("a file");
    town.gateway.edit_config(&config.replace("directory = \"open\"", "directory = \"off\""));
    town.gateway.wait_for("a reload", |status| status["config"]["generation"] != 1).await;
    assert_eq!(code(&find(&town).await), (403, "directory_off"));
}

/// Past the bound nobody shows a state that is not true any more.
#[tokio::test(flavor = "multi_thread")]
async fn presence_is_paused_past_its_bound_and_right_afterwards() {
    let town = Town::build(6, "[chat]\npresence_sockets_max = 4\n").await;
    let members = json!({"users": [2, 3, 4, 5, 6]});
    let group = town.ask(1, "POST", "/chat/chatrooms/", members).await.body["id"].clone();
    let watch = async |user: u64| {
        let mut socket = town.open(user, &format!("/chat/{group}/?events=1")).await.expect("open");
        let subscribed = socket.json_of("subscribed").await;
        (socket, subscribed)
    };
    let (mut first, _) = watch(1).await;
    let mut others = Vec::new();
    for user in 2..=4 {
        others.push(watch(user).await.0);
        assert_eq!(first.json_of("presence").await["user"]["id"], user);
    }
    let (fifth, subscribed) = watch(5).await;
    assert_eq!(subscribed["online"], json!([1, 2, 3, 4]), "as many as may be told");
    assert_eq!(first.json().await["type"], "presence_paused");
    let (sixth, subscribed) = watch(6).await;
    assert_eq!((&subscribed["online"], &subscribed["presence_paused"]), (&json!([]), &json!(true)));
    // Four sockets are within the bound, and three are clearly below it.
    drop((fifth, sixth, others.pop()));
    let resumed = first.json().await;
    assert_eq!((&resumed["type"], &resumed["online"]), (&json!("presence_resumed"), &json!([1, 2, 3])));
    drop(others.pop());
    let offline = first.json_of("presence").await;
    assert_eq!((&offline["user"]["id"], &offline["online"]), (&json!(3), &json!(false)));
}
