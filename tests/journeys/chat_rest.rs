//! Rooms over plain requests: every role on every route, pages, groups and organisations, and unread counts.

use std::collections::BTreeMap;

use chelseru_domain::chat::{
    Access, Face, FileDraft, FileId, MessageBody, Post, Rights, RoomEdit, RoomId, RoomRequest, RoomStatus,
    message_id,
};
use chelseru_domain::ids::UserId;
use chelseru_tests::{Answer, Login, TestGateway};
use serde_json::{Value, json};

/// Roles in the room, by user number.
const ROLES: [&str; 6] = ["owner", "admin", "member", "read only", "banned", "outsider"];
/// A member as the target, and a user outside the room.
const TARGET: u64 = 7;
const STRANGER: u64 = 8;

/// Outcomes in the order of [`ROLES`]: a status, with the code of a refusal.
type Row = (&'static str, [&'static str; 6]);

const NO_RIGHT: &str = "403 no_right";
const READ_ONLY: &str = "403 read_only";
const BANNED: &str = "403 banned";
const NO_ROOM: &str = "404 room_missing";
const NO_MESSAGE: &str = "404 message_missing";
const CLOSED: &str = "403 room_closed";
const ON_HOLD: &str = "403 room_on_hold";

const OPEN_ROOM: &[Row] = &[
    ("list rooms", ["200 1", "200 1", "200 1", "200 1", "200 0", "200 0"]),
    ("get room", ["200", "200", "200", "200", BANNED, NO_ROOM]),
    ("change nothing", ["200", "200", "200", "200", BANNED, NO_ROOM]),
    ("rename", ["200", "200", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("describe", ["200", "200", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("avatar", ["200", "200", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("close", ["200", "200", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("hold", ["200", "200", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("delete room", ["204", "204", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("pin", ["200", "200", "200", "200", BANNED, NO_ROOM]),
    ("unpin", ["200", "200", "200", "200", BANNED, NO_ROOM]),
    ("read", ["200", "200", "200", "200", BANNED, NO_ROOM]),
    ("leave", ["409 owner_stays", "204", "204", "204", BANNED, NO_ROOM]),
    ("list members", ["200", "200", "200", "200", BANNED, NO_ROOM]),
    ("get member", ["200", "200", "200", "200", BANNED, NO_ROOM]),
    ("add", ["201", "201", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("kick", ["204", "204", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("kick the owner", ["409 owner_stays", "403 owner_protected", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("grant", ["200", "200", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("revoke", ["200", "200", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("make a reader", ["200", "200", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("list bans", ["200", "200", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("ban", ["201", "201", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("unban", ["204", "204", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("list messages", ["200 7", "200 7", "200 7", "200 7", BANNED, "200 0"]),
    ("get message", ["200", "200", "200", "200", BANNED, NO_MESSAGE]),
    ("post", ["201", "201", "201", READ_ONLY, BANNED, NO_ROOM]),
    ("edit own", ["200", "200", "200", READ_ONLY, BANNED, NO_MESSAGE]),
    ("edit another's", [NO_RIGHT, NO_RIGHT, NO_RIGHT, READ_ONLY, BANNED, NO_MESSAGE]),
    ("delete own", ["204", "204", "204", READ_ONLY, BANNED, NO_MESSAGE]),
    ("delete another's", ["204", "204", NO_RIGHT, READ_ONLY, BANNED, NO_MESSAGE]),
    ("upload", ["201", "201", "201", READ_ONLY, BANNED, "400 invalid_fields"]),
    ("begin an upload", ["201", "201", "201", READ_ONLY, BANNED, "400 invalid_fields"]),
    ("get file", ["200", "200", "200", "200", BANNED, "404 not_found"]),
    ("download", ["200", "200", "200", "200", BANNED, "404 not_found"]),
];

const CLOSED_ROOM: &[Row] = &[
    ("get room", ["200", "200", "200", "200", BANNED, NO_ROOM]),
    ("list messages", ["200 7", "200 7", "200 7", "200 7", BANNED, "200 0"]),
    ("read", ["200", "200", "200", "200", BANNED, NO_ROOM]),
    ("post", [CLOSED, CLOSED, CLOSED, READ_ONLY, BANNED, NO_ROOM]),
    ("edit own", [CLOSED, CLOSED, CLOSED, READ_ONLY, BANNED, NO_MESSAGE]),
    ("upload", [CLOSED, CLOSED, CLOSED, READ_ONLY, BANNED, "400 invalid_fields"]),
    ("begin an upload", [CLOSED, CLOSED, CLOSED, READ_ONLY, BANNED, "400 invalid_fields"]),
    ("delete own", ["204", "204", "204", READ_ONLY, BANNED, NO_MESSAGE]),
    ("reopen", ["200", "200", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
    ("download", ["200", "200", "200", "200", BANNED, "404 not_found"]),
];

const HELD_ROOM: &[Row] = &[
    ("post", ["201", "201", ON_HOLD, READ_ONLY, BANNED, NO_ROOM]),
    ("edit own", ["200", "200", ON_HOLD, READ_ONLY, BANNED, NO_MESSAGE]),
    ("upload", ["201", "201", ON_HOLD, READ_ONLY, BANNED, "400 invalid_fields"]),
    ("reopen", ["200", "200", NO_RIGHT, READ_ONLY, BANNED, NO_ROOM]),
];

pub(crate) struct Town {
    pub gateway: TestGateway,
    pub users: Vec<Login>,
}

/// A room with a message of every user, and a sent file.
struct Square {
    room: RoomId,
    /// By user number.
    messages: BTreeMap<u64, u64>,
    file: FileId,
    link: String,
}

impl Town {
    pub(crate) async fn build(users: u64, config: &str) -> Town {
        let gateway = TestGateway::start(config).await;
        let mut town = Town { gateway, users: Vec::new() };
        for user in 1..=users {
            town.users.push(town.gateway.login(&format!("0912000{user:04}")).await);
        }
        town
    }

    pub(crate) async fn ask(&self, user: u64, method: &str, path: &str, body: Value) -> Answer {
        let url = if path.starts_with("/media/") {
            format!("{}{path}", self.gateway.url.trim_end_matches("/drfchelseru"))
        } else {
            self.gateway.at(path)
        };
        let token = &self.users[user as usize - 1].access;
        let request = self.gateway.client.request(method.parse().expect("a method"), url).bearer_auth(token);
        Answer::of(if body.is_null() { request } else { request.json(&body) }).await
    }

    async fn say(&self, room: RoomId, user: u64, file: Option<FileId>) -> u64 {
        let post = Post {
            sender: UserId(user),
            face: Face { name: "x".into(), avatar: None },
            body: MessageBody { kind: "text".into(), text: "own".into(), ..MessageBody::default() },
            file,
            client_id: None,
        };
        let posted = self.gateway.app.chat.post_and_wait(room, post).await.expect("posted");
        message_id(room, posted.view.message.seq)
    }

    async fn change(&self, room: RoomId, request: RoomRequest) {
        self.gateway.app.chat.room_change(room, UserId(1), request).await.expect("changed");
    }

    async fn file(&self, room: RoomId, user: u64) -> FileId {
        let draft = FileDraft {
            room: Some(room),
            uploader: UserId(user),
            name: format!("{}-{user}.png", room.0),
            folder: "/media/uploads/chat_files/2026/01/31/".into(),
            title: String::new(),
            content_type: "image/png".into(),
            bytes: 1,
            text: None,
            picture: None,
            quota_bytes: 1 << 30,
            total_bytes: 1 << 30,
            now: self.gateway.app.clock.now(),
        };
        let file = self.gateway.app.chat.file_keep(draft).await.expect("stored").kept().expect("kept");
        let place = self.gateway.dir.path().join("data").join(file.path().trim_start_matches("/media/"));
        std::fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
        std::fs::write(place, b"x").expect("a file");
        file.id
    }

    async fn square(&self, status: RoomStatus) -> Square {
        let members = (2..=5).chain([TARGET]).map(UserId).collect();
        let chat = &self.gateway.app.chat;
        let room = chat.group_create(UserId(1), members, None, RoomEdit::default()).await.expect("made").id;
        let mut messages = BTreeMap::new();
        for user in (1..=5).chain([TARGET]) {
            messages.insert(user, self.say(room, user, None).await);
        }
        let file = self.file(room, TARGET).await;
        self.say(room, TARGET, Some(file)).await;
        let link = chat.file(file).await.expect("read").expect("a file").path();
        let admin = Access::ALL.into_iter().filter(|access| *access != Access::ReadOnly);
        self.change(room, RoomRequest::Grant(UserId(2), admin.fold(Rights::NONE, Rights::with))).await;
        self.change(room, RoomRequest::Grant(UserId(4), Rights::of(&[Access::ReadOnly]))).await;
        self.change(room, RoomRequest::Ban(UserId(5))).await;
        if status != RoomStatus::Open {
            self.change(room, RoomRequest::Edit(RoomEdit { status: Some(status), ..RoomEdit::default() }))
                .await;
        }
        Square { room, messages, file, link }
    }

    /// Tries a route as a user, in a fresh room.
    async fn attempt(&self, route: &str, user: u64, status: RoomStatus) -> String {
        let square = self.square(status).await;
        let (id, room) = (square.room.0, format!("/chat/chatrooms/{}/", square.room.0));
        let message = |of: u64| format!("/chat/messages/{}/?chat_room={id}", square.messages[&of]);
        let own = if square.messages.contains_key(&user) { user } else { TARGET };
        let none = Value::Null;
        let answer = match route {
            "list rooms" => {
                let answer = self.ask(user, "GET", "/chat/chatrooms/", none).await;
                let mine =
                    answer.body.as_array().expect("a list").iter().filter(|room| room["id"] == id).count();
                return format!("{} {mine}", answer.status);
            }
            "get room" => self.ask(user, "GET", &room, none).await,
            "change nothing" => self.ask(user, "PUT", &room, json!({})).await,
            "rename" => self.ask(user, "PATCH", &room, json!({"name": "new"})).await,
            "describe" => self.ask(user, "PATCH", &room, json!({"descriptions": "new"})).await,
            "avatar" => {
                let file = self.file(square.room, user).await;
                self.ask(user, "PATCH", &room, json!({"avatar": file.0})).await
            }
            "close" => self.ask(user, "PATCH", &room, json!({"status": 2})).await,
            "hold" => self.ask(user, "PATCH", &room, json!({"status": 3})).await,
            "reopen" => self.ask(user, "PATCH", &room, json!({"status": 1})).await,
            "delete room" => self.ask(user, "DELETE", &room, none).await,
            "pin" => self.ask(user, "POST", &format!("{room}pin/"), none).await,
            "unpin" => self.ask(user, "DELETE", &format!("{room}pin/"), none).await,
            "read" => self.ask(user, "POST", &format!("{room}read/"), json!({})).await,
            "leave" => self.ask(user, "POST", &format!("{room}leave/"), none).await,
            "list members" => self.ask(user, "GET", &format!("{room}members/"), none).await,
            "get member" => self.ask(user, "GET", &format!("{room}members/1/"), none).await,
            "add" => self.ask(user, "POST", &format!("{room}members/"), json!({"user_id": STRANGER})).await,
            "kick" => self.ask(user, "DELETE", &format!("{room}members/{TARGET}/"), none).await,
            "kick the owner" => self.ask(user, "DELETE", &format!("{room}members/1/"), none).await,
            "grant" => {
                self.ask(user, "POST", &format!("{room}members/{TARGET}/grant/"), json!({"access": 4})).await
            }
            "revoke" => {
                self.ask(user, "POST", &format!("{room}members/{TARGET}/revoke/"), json!({"access": [2]}))
                    .await
            }
            "make a reader" => {
                self.ask(user, "POST", &format!("{room}members/{TARGET}/grant/"), json!({"access": "1"}))
                    .await
            }
            "list bans" => self.ask(user, "GET", &format!("{room}bans/"), none).await,
            "ban" => self.ask(user, "POST", &format!("{room}bans/"), json!({"user_id": TARGET})).await,
            "unban" => self.ask(user, "DELETE", &format!("{room}bans/5/"), none).await,
            "list messages" => {
                let answer = self.ask(user, "GET", &format!("/chat/messages/?chat_room={id}"), none).await;
                match answer.body["results"].as_array() {
                    Some(results) => return format!("{} {}", answer.status, results.len()),
                    None => answer,
                }
            }
            "get message" => self.ask(user, "GET", &message(TARGET), none).await,
            "post" => {
                self.ask(user, "POST", "/chat/messages/", json!({"chat_room": id, "text": "new"})).await
            }
            "edit own" => self.ask(user, "PATCH", &message(own), json!({"text": "new"})).await,
            "edit another's" => self.ask(user, "PUT", &message(TARGET), json!({"text": "new"})).await,
            "delete own" => self.ask(user, "DELETE", &message(own), none).await,
            "delete another's" => self.ask(user, "DELETE", &message(TARGET), none).await,
            "upload" => {
                let body = format!(
                    "--x\r\nContent-Disposition: form-data; name=\"chatroom\"\r\n\r\n{id}\r\n--x\r\n\
                     Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--x--\r\n"
                );
                let request = self.gateway.client.post(self.gateway.at("/message/file/upload/"));
                let request = request.bearer_auth(&self.users[user as usize - 1].access);
                Answer::of(request.header("content-type", "multipart/form-data; boundary=x").body(body)).await
            }
            "begin an upload" => {
                use base64::Engine;
                let room = base64::engine::general_purpose::STANDARD.encode(id.to_string());
                let request = self.gateway.client.post(self.gateway.at("/message/file/tus/"));
                let request = request.bearer_auth(&self.users[user as usize - 1].access);
                let request = request.header("tus-resumable", "1.0.0").header("upload-length", "1");
                Answer::of(request.header("upload-metadata", format!("chatroom {room}"))).await
            }
            "get file" => self.ask(user, "GET", &format!("/chat/files/{}/", square.file.0), none).await,
            "download" => self.ask(user, "GET", &square.link, none).await,
            other => panic!("{other}"),
        };
        format!("{} {}", answer.status, answer.header("x-error-code")).trim().to_owned()
    }

    async fn compare(&self, status: RoomStatus, rows: &[Row]) {
        let mut wrong = Vec::new();
        for (route, outcomes) in rows {
            for (role, expected) in ROLES.iter().zip(outcomes) {
                let user = ROLES.iter().position(|name| name == role).expect("a role") as u64 + 1;
                let found = self.attempt(route, user, status).await;
                if found != *expected {
                    wrong.push(format!("{route} by {role}: {found}, not {expected}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    pub(crate) async fn room(&self, user: u64, id: &Value) -> Value {
        self.ask(user, "GET", &format!("/chat/chatrooms/{id}/"), Value::Null).await.body
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_may_on_every_route_what_the_matrix_says() {
    let config = "[chat]\nrooms_per_user_max = 10000\n[files]\nresumable_per_user_max = 100\n";
    let town = Town::build(STRANGER, config).await;
    town.compare(RoomStatus::Open, OPEN_ROOM).await;
    town.compare(RoomStatus::Closed, CLOSED_ROOM).await;
    town.compare(RoomStatus::Hold, HELD_ROOM).await;
}

#[tokio::test]
async fn every_route_needs_a_user() {
    let gateway = TestGateway::start("").await;
    for (method, path) in [
        ("GET", "/chat/chatrooms/"),
        ("POST", "/chat/chatrooms/"),
        ("GET", "/chat/chatrooms.json"),
        ("PATCH", "/chat/chatrooms/1/"),
        ("POST", "/chat/chatrooms/1/pin/"),
        ("POST", "/chat/chatrooms/1/read/"),
        ("POST", "/chat/chatrooms/1/leave/"),
        ("GET", "/chat/chatrooms/1/members/"),
        ("DELETE", "/chat/chatrooms/1/members/1/"),
        ("POST", "/chat/chatrooms/1/members/1/grant/"),
        ("POST", "/chat/chatrooms/1/members/1/revoke/"),
        ("POST", "/chat/chatrooms/1/bans/"),
        ("DELETE", "/chat/chatrooms/1/bans/1/"),
        ("GET", "/chat/messages/?chat_room=1"),
        ("GET", "/chat/messages.json?chat_room=1"),
        ("DELETE", "/chat/messages/1/?chat_room=1"),
        ("POST", "/chat/organizations/"),
        ("GET", "/chat/organizations/1/"),
        ("PATCH", "/chat/organizations/1/"),
        ("DELETE", "/chat/organizations/1/"),
        ("GET", "/chat/organizations/1/chatrooms/"),
        ("POST", "/message/file/upload/"),
        ("POST", "/message/file/tus/"),
        ("PATCH", "/message/file/tus/x/"),
        ("GET", "/chat/files/1/"),
    ] {
        let request = gateway.client.request(method.parse().expect("a method"), gateway.at(path));
        assert_eq!(Answer::of(request).await.status, 401, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_belong_to_organizations_and_show_no_numbers() {
    let town = Town::build(4, "").await;
    let organization = json!({"name": "A Shop", "uname": "A-Shop"});
    let made = town.ask(1, "POST", "/chat/organizations/", organization.clone()).await;
    assert_eq!((made.status, made.body["uname"].as_str()), (201, Some("a-shop")), "{made:?}");
    let taken = town.ask(2, "POST", "/chat/organizations/", organization).await;
    assert_eq!((taken.status, taken.text.contains("uname")), (400, true), "{taken:?}");
    let path = format!("/chat/organizations/{}/", made.body["id"]);
    assert_eq!(town.ask(1, "GET", &path, Value::Null).await.status, 200);
    assert_eq!(town.ask(2, "GET", &path, Value::Null).await.status, 404);

    let body = json!({"users": [2, "3"], "name": "Team", "descriptions": "All of us", "organization": made.body["id"]});
    let group = town.ask(1, "POST", "/chat/chatrooms/", body.clone()).await;
    assert_eq!(group.status, 201, "{group:?}");
    assert_eq!(group.body["organization"]["uname"], "a-shop");
    let names: Vec<&str> = group.body["users"]
        .as_array()
        .expect("users")
        .iter()
        .filter_map(|user| user["username"].as_str())
        .collect();
    assert_eq!(names, ["G0-1", "G0-2", "G0-3"]);
    assert!(!group.text.contains("0912000"), "{group:?}");
    let foreign = town.ask(2, "POST", "/chat/chatrooms/", body).await;
    assert_eq!(foreign.status, 400, "an organization of another user: {foreign:?}");
    for (users, status) in [(json!([99]), 404), (json!(["x"]), 400), (json!("1"), 400), (json!([]), 201)] {
        assert_eq!(
            town.ask(1, "POST", "/chat/chatrooms/", json!({"users": users})).await.status,
            status,
            "{users}"
        );
    }

    // Visibility: bans for those who can lift them, a pin for its member.
    let room = format!("/chat/chatrooms/{}/", group.body["id"]);
    town.ask(1, "POST", &format!("{room}bans/"), json!({"user_id": 4})).await;
    town.ask(2, "POST", &format!("{room}pin/"), Value::Null).await;
    let (owner, member) = (town.room(1, &group.body["id"]).await, town.room(2, &group.body["id"]).await);
    assert_eq!(
        (owner["banneds"][0]["id"].as_u64(), owner["pinned_for"].as_array().map(Vec::len)),
        (Some(4), Some(0))
    );
    assert_eq!(
        (member["banneds"].as_array().map(Vec::len), member["pinned_for"][0]["id"].as_u64()),
        (Some(0), Some(2))
    );

    // The members have their own pages.
    let members = town.ask(3, "GET", &format!("{room}members/"), Value::Null).await.body;
    let ids: Vec<u64> = members["results"]
        .as_array()
        .expect("a page")
        .iter()
        .filter_map(|member| member["user"]["id"].as_u64())
        .collect();
    assert_eq!((ids, &members["next"]), (vec![1, 2, 3], &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_is_renamed_and_removed_by_its_owner_alone() {
    let town = Town::build(4, "").await;
    let make = |uname: &str| json!({"name": "Shop", "uname": uname});
    let made = town.ask(1, "POST", "/chat/organizations/", make("one")).await.body;
    town.ask(2, "POST", "/chat/organizations/", make("two")).await;
    let path = format!("/chat/organizations/{}/", made["id"]);
    let rooms = format!("{path}chatrooms/");
    let mut groups = Vec::new();
    for users in [json!([2]), json!([2, 3])] {
        let body = json!({"users": users, "name": "Team", "organization": made["id"]});
        groups.push(town.ask(1, "POST", "/chat/chatrooms/", body).await.body["id"].clone());
    }
    town.ask(1, "POST", "/chat/chatrooms/", json!({"users": [2, 3]})).await;

    // Rooms: all for the owner, the shared ones for a member, none for an outsider.
    let listed = |answer: Answer| -> Vec<Value> {
        answer.body.as_array().expect("a list").iter().map(|room| room["id"].clone()).collect()
    };
    let newest_first: Vec<Value> = groups.iter().rev().cloned().collect();
    assert_eq!(listed(town.ask(1, "GET", &rooms, Value::Null).await), newest_first);
    assert_eq!(listed(town.ask(2, "GET", &rooms, Value::Null).await), newest_first);
    assert_eq!(listed(town.ask(3, "GET", &rooms, Value::Null).await), newest_first[..1]);
    assert_eq!(town.ask(4, "GET", &rooms, Value::Null).await.status, 404);

    // Renaming: by the owner, to an unused name.
    for user in [2, 4] {
        assert_eq!(town.ask(user, "PATCH", &path, json!({"name": "Mine"})).await.status, 404);
        assert_eq!(town.ask(user, "DELETE", &path, Value::Null).await.status, 404);
    }
    let taken = town.ask(1, "PATCH", &path, json!({"uname": "TWO"})).await;
    assert_eq!((taken.status, taken.text.contains("uname")), (400, true), "{taken:?}");
    assert_eq!(town.ask(1, "PATCH", &path, json!({"uname": "a b"})).await.status, 400);
    let renamed = town.ask(1, "PATCH", &path, json!({"uname": "Three", "name": "New"})).await;
    assert_eq!(
        (renamed.status, &renamed.body["uname"], &renamed.body["name"]),
        (200, &json!("three"), &json!("New"))
    );
    let same = town.ask(1, "PATCH", &path, json!({"uname": "three"})).await;
    assert_eq!((same.status, &same.body["name"]), (200, &json!("New")), "what is absent stays");
    let freed = town.ask(3, "POST", "/chat/organizations/", make("one")).await;
    assert_eq!(freed.status, 201, "its old name is free: {freed:?}");
    assert_eq!(town.room(2, &groups[0]).await["organization"]["uname"], "three");

    // Removing: only without rooms.
    let refused = town.ask(1, "DELETE", &path, Value::Null).await;
    assert_eq!(
        (refused.status, refused.header("x-error-code")),
        (409, "organization_has_rooms"),
        "{refused:?}"
    );
    assert!(refused.text.contains("rooms: 2"), "{refused:?}");
    for group in &groups {
        town.ask(1, "DELETE", &format!("/chat/chatrooms/{group}/"), Value::Null).await;
    }
    assert_eq!(town.ask(1, "GET", &rooms, Value::Null).await.body, json!([]));
    assert_eq!(town.ask(1, "DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(town.ask(1, "GET", &path, Value::Null).await.status, 404);
    assert_eq!(town.ask(1, "GET", "/chat/organizations/", Value::Null).await.body, json!([]));
    assert_eq!(town.ask(4, "POST", "/chat/organizations/", make("three")).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_stop_what_goes_past_them() {
    let config = "[chat]\ntext_chars_max = 5\nrooms_per_user_max = 2\nmembers_max = 3\norganizations_per_user_max = 1\n";
    let town = Town::build(5, config).await;
    let outcome = |answer: &Answer| (answer.status, answer.header("x-error-code").to_owned());
    let full = (409, "limit_reached".to_owned());
    let room = town.ask(1, "POST", "/chat/chatrooms/", json!({"users": [2]})).await.body["id"].clone();
    for (text, status) in [("سلام", 201), ("سلام!", 201), ("سلام!!", 400), ("", 400), ("a\u{0}", 400)]
    {
        let sent = town.ask(1, "POST", "/chat/messages/", json!({"chat_room": room, "text": text})).await;
        assert_eq!(sent.status, status, "{text}: {sent:?}");
    }
    let id = |length: usize| json!({"chat_room": room, "text": "x", "client_id": "i".repeat(length)});
    for (body, status) in [(id(63), 201), (id(64), 201), (id(64), 200), (id(65), 400)] {
        assert_eq!(town.ask(1, "POST", "/chat/messages/", body).await.status, status);
    }
    let members = format!("/chat/chatrooms/{room}/members/");
    assert_eq!(town.ask(1, "POST", &members, json!({"user_id": 3})).await.status, 201);
    assert_eq!(outcome(&town.ask(1, "POST", &members, json!({"user_id": 4})).await), full);
    assert_eq!(outcome(&town.ask(4, "POST", "/chat/chatrooms/", json!({"users": [1, 2, 3]})).await), full);
    assert_eq!(town.ask(1, "POST", "/chat/chatrooms/", json!({"user_id": 5})).await.status, 201);
    assert_eq!(outcome(&town.ask(1, "POST", "/chat/chatrooms/", json!({"user_id": 4})).await), full);
    assert_eq!(outcome(&town.ask(4, "POST", "/chat/chatrooms/", json!({"user_id": 1})).await), full);
    for (name, status) in [("one", 201), ("two", 409)] {
        let made = town.ask(1, "POST", "/chat/organizations/", json!({"name": name, "uname": name})).await;
        assert_eq!(made.status, status, "{made:?}");
    }
    for (length, status) in [(44, 200), (45, 200), (46, 400)] {
        let body = json!({"name": "n".repeat(length)});
        assert_eq!(town.ask(1, "PATCH", &format!("/chat/chatrooms/{room}/"), body).await.status, status);
    }
}

/// Whatever a field contains, the answer is a documented one (defect 27).
#[tokio::test(flavor = "multi_thread")]
async fn no_value_of_a_field_is_a_crash() {
    let town = Town::build(2, "").await;
    let room = town.ask(1, "POST", "/chat/chatrooms/", json!({"users": [2]})).await.body["id"].clone();
    let message = town.say(RoomId(room.as_u64().expect("a number")), 1, None).await;
    let values = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!("abc"),
        json!(""),
        json!("9".repeat(40)),
        json!("\u{0}"),
        json!([]),
        json!([[1], {"a": null}, "x", u64::MAX]),
        json!({"a": 1}),
    ];
    let room_path = format!("/chat/chatrooms/{room}");
    let routes = [
        ("POST", "/chat/chatrooms/".to_owned(), json!({"user_id": 2})),
        ("POST", "/chat/chatrooms/".to_owned(), json!({"users": [2], "organization": 1})),
        ("PATCH", format!("{room_path}/"), json!({"name": "", "descriptions": "", "status": 1, "avatar": 1})),
        ("POST", format!("{room_path}/read/"), json!({"seq": 1, "message": message})),
        ("POST", format!("{room_path}/members/"), json!({"user_id": 2, "user": 2})),
        ("POST", format!("{room_path}/members/2/grant/"), json!({"access": 2})),
        ("POST", format!("{room_path}/bans/"), json!({"user_id": 99})),
        (
            "POST",
            "/chat/messages/".to_owned(),
            json!({"chat_room": room, "text": "x", "message_type": "text", "lat": 1, "lng": 1, "attach_id": null, "client_id": "a"}),
        ),
        (
            "PUT",
            format!("/chat/messages/{message}/?chat_room={room}"),
            json!({"text": "x", "message_type": "text", "lat": 1, "lng": 1}),
        ),
        ("POST", "/chat/organizations/".to_owned(), json!({"name": "x", "uname": "x"})),
        ("PATCH", "/chat/organizations/1/".to_owned(), json!({"name": "x", "uname": "x"})),
    ];
    for (method, path, body) in &routes {
        for key in body.as_object().expect("an object").keys() {
            for value in &values {
                let mut body = body.clone();
                body[key] = value.clone();
                let answer = town.ask(1, method, path, body.clone()).await;
                assert!((200..500).contains(&answer.status), "{method} {path} {body}: {answer:?}");
            }
        }
    }
    for query in
        ["chat_room=-1", "chat_room=", "chat_room=1&cursor=%ff", "chat_room=1&cursor=cD0tMQ==", "cursor=cD0x"]
    {
        let answer = town.ask(1, "GET", &format!("/chat/messages/?{query}"), Value::Null).await;
        assert!((200..500).contains(&answer.status), "{query}: {answer:?}");
    }
    for path in [
        "/chat/chatrooms/18446744073709551615/",
        "/chat/chatrooms/18446744073709551616/",
        "/chat/chatrooms/01/",
        "/chat/messages/18446744073709551615/?chat_room=1",
        "/chat/files/18446744073709551615/",
        "/media/uploads/chat_files/../../../config.toml",
        "/media/uploads/chat_files/2026/01/31/%2e%2e%2f%2e%2e",
    ] {
        assert_eq!(town.ask(1, "GET", path, Value::Null).await.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_every_message_once_both_ways() {
    let town = Town::build(2, "").await;
    let room = town.ask(1, "POST", "/chat/chatrooms/", json!({"user": 2})).await.body["id"].clone();
    let id = RoomId(room.as_u64().expect("a number"));
    let mut all = Vec::new();
    for _ in 0..95 {
        all.push(town.say(id, 1, None).await);
    }
    // A gap in the middle of a page, and one at a page's edge.
    for gone in [40usize, 65, 64] {
        let path = format!("/chat/messages/{}/?chat_room={room}", all.remove(gone));
        assert_eq!(town.ask(1, "DELETE", &path, Value::Null).await.status, 204);
    }
    all.reverse();
    let page = async |link: &str| {
        let path = link.split_once("/drfchelseru").map_or(link, |(_, path)| path).to_owned();
        let answer = town.ask(2, "GET", &path, Value::Null).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let ids: Vec<u64> = answer.body["results"]
            .as_array()
            .expect("a page")
            .iter()
            .filter_map(|message| message["id"].as_u64())
            .collect();
        let link = |key: &str| answer.body[key].as_str().map(str::to_owned);
        (ids, link("next"), link("previous"))
    };
    let (mut seen, mut pages) = (Vec::<u64>::new(), Vec::new());
    let mut link = Some(format!("/chat/messages/?chat_room={room}&zebra=1"));
    while let Some(at) = link {
        assert!(at.contains("zebra=1"), "other parameters stay: {at}");
        let (ids, next, previous) = page(&at).await;
        assert_eq!(previous.is_some(), !pages.is_empty());
        seen.extend(&ids);
        pages.push((ids, previous));
        link = next;
    }
    assert_eq!(seen, all);
    assert_eq!(pages.iter().map(|(ids, _)| ids.len()).collect::<Vec<_>>(), [30, 30, 30, 2]);
    // And back, starting at the last page's link.
    let mut link = pages.last().and_then(|(_, previous)| previous.clone());
    for (expected, _) in pages.iter().rev().skip(1) {
        let (ids, next, previous) = page(&link.expect("a way back")).await;
        assert_eq!((&ids, next.is_some()), (expected, true));
        link = previous;
    }
    assert_eq!(link, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_counts_equal_a_recount_after_any_requests() {
    let given = std::env::var("CHELSERU_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let fresh = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("now").as_nanos()
        as u64
        | 1;
    let town = Town::build(3, "").await;
    for seed in given.map_or(vec![1, fresh], |seed| vec![seed]) {
        println!("run again with CHELSERU_SEED={seed}");
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut below = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % bound
        };
        let room = town.ask(1, "POST", "/chat/chatrooms/", json!({"users": [2, 3]})).await.body["id"].clone();
        let path = format!("/chat/chatrooms/{room}/");
        let mut messages = Vec::new();
        for step in 0..120 {
            let user = 1 + below(3);
            match below(10) {
                0..=4 => {
                    let id = format!("c{}", below(30));
                    let body = json!({"chat_room": room, "text": format!("s{step}"), "client_id": id});
                    let sent = town.ask(user, "POST", "/chat/messages/", body).await;
                    if sent.status == 201 {
                        messages.push(sent.body["id"].as_u64().expect("a number"));
                    } else {
                        assert!(
                            sent.status == 404 || messages.contains(&sent.body["id"].as_u64().unwrap_or(0)),
                            "{sent:?}"
                        );
                    }
                }
                5..=6 => {
                    let seq = below(messages.len() as u64 + 3);
                    town.ask(user, "POST", &format!("{path}read/"), json!({"seq": seq})).await;
                }
                7 if !messages.is_empty() => {
                    let message = messages[below(messages.len() as u64) as usize];
                    town.ask(
                        1,
                        "DELETE",
                        &format!("/chat/messages/{message}/?chat_room={room}"),
                        Value::Null,
                    )
                    .await;
                }
                8 => drop(town.ask(user, "POST", &format!("{path}leave/"), Value::Null).await),
                _ => drop(town.ask(1, "POST", &format!("{path}members/"), json!({"user_id": user})).await),
            }
            for user in 1..=3 {
                let shown = town.room(user, &room).await["unread_count"].as_u64();
                let id = RoomId(room.as_u64().expect("a number"));
                let counted =
                    town.gateway.app.store.chat_unread_recount(id, UserId(user)).await.expect("read");
                assert_eq!(shown, counted, "step {step}, user {user}, CHELSERU_SEED={seed}");
            }
        }
    }
}
