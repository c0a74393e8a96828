//! Replays recorded requests about rooms, messages and uploads; see `contract` for the method.
//!
//! The recordings omit tokens, so [`actor`] names the sender. Message numbers are matched as they are assigned,
//! cursors are those of the previous page, and [`prepare`] repeats the recording's manual steps. Every user in an
//! answer is compared by the public fields; any other field of a user (defect 1) fails the case.

use std::collections::BTreeMap;

use chelseru_tests::{Answer, Login, TestGateway};
use serde_json::{Value, json};

use crate::recorded::{self, Case, Difference, Verdict, first_of_each, type_difference};

pub(crate) const DIFFERENCES: &[Difference] = &[
    ("chatrooms.create_with_user_as_in_readme_404", 201, "`user` is what the original's document says"),
    ("chatrooms.create_ok", 200, "27: the room was opened by the case before, and the second is the first"),
    ("pg.chatrooms.create_ok", 200, "27: the second room of a pair is the first"),
    ("chatrooms.create_user_id_text_500", 400, "27: text as an id was a crash"),
    ("chatrooms.create_same_pair_again_500", 200, "27: the second room of a pair was a crash"),
    ("chatrooms.create_with_self_when_in_any_room_500", 201, "27: a room with oneself was a crash"),
    ("chatrooms.patch_by_any_member", 403, "5: any member closed the room"),
    ("chatrooms.delete_by_any_member", 403, "5: any member deleted the room with all messages"),
    (
        "chatrooms.retrieve_all_relations_filled",
        200,
        "by hand: nothing fills user_1 and user_2; a pair has no organization",
    ),
    ("chatrooms.also_500_with_two_session_rows", 200, "2: a second session made every request fail"),
    ("readme_literal.chatrooms_with_bearer_403", 200, "3: the settings of the document did not work"),
    ("messages.retrieve", 200, "28: nothing wrote read_by"),
    ("messages.put", 200, "28: nothing wrote read_by"),
    ("messages.read_by_leaks_password_hash", 200, "by hand: another user had read it"),
    ("messages.list_text_room_500", 400, "27: text as an id was a crash"),
    ("pg.messages.list_text_room_500", 400, "27: text as an id was a crash"),
    ("messages.create_text_room_500", 400, "27: text as an id was a crash"),
    ("messages.create_non_member_ok", 404, "4: anybody posted to any room"),
    ("messages.list_non_member_ok", 200, "4: anybody read any room; for others it is empty"),
    ("messages.create_in_closed_room_ok", 403, "5: a closed room took messages"),
    ("messages.retrieve_non_member", 404, "4: anybody read any message"),
    ("messages.patch_foreign_message", 404, "4: anybody edited any message"),
    ("messages.delete_foreign_message", 404, "4: anybody deleted any message"),
    ("messages.create_banned_user_ok", 403, "5: the banned went on"),
    (
        "messages.chat_room_nested_shape",
        201,
        "by hand: nothing fills user_1 and user_2; a pair has no organization",
    ),
    ("messages.cursor_not_a_date_500", 404, "27: a cursor that is none was a crash"),
    ("upload.non_member_ok", 400, "6: anybody uploaded to any room"),
    ("upload.anonymous_invalid_400", 401, "6: no login was needed"),
    ("upload.anonymous_valid_500", 401, "6: no login was needed"),
];

/// The sender, as the recording's notes and answers show.
fn actor(name: &str) -> usize {
    match name {
        "chatrooms.list_other_member" | "chatrooms.patch_by_any_member" | "messages.create_string_room" => 2,
        "messages.create_banned_user_ok" | "chatrooms.delete_by_any_member" => 2,
        "chatrooms.list_non_member_empty" | "chatrooms.retrieve_non_member_404" => 3,
        "messages.create_non_member_ok" | "messages.list_non_member_ok" => 3,
        "messages.retrieve_non_member" | "messages.patch_foreign_message" => 3,
        "messages.delete_foreign_message" | "chatrooms.create_with_superuser_leaks_hash" => 3,
        "chatrooms.delete_non_member_404" => 6,
        "upload.non_member_ok" => 1,
        "chatrooms.create_with_self_first_room" => 6,
        _ if name.starts_with("messages.page_") || name.starts_with("messages.cursor_") => 5,
        _ if name.starts_with("upload.") || name == "messages.with_file_url" => 5,
        _ => 1,
    }
}

struct Replay {
    gateway: TestGateway,
    /// By the recording's user number, from 1.
    users: Vec<Login>,
    /// The recording's rooms and messages -> ours.
    rooms: BTreeMap<u64, u64>,
    messages: BTreeMap<u64, u64>,
    /// The links of the last page.
    next: String,
    previous: String,
    file: u64,
}

impl Replay {
    async fn start() -> Replay {
        let gateway = TestGateway::start("[auth]\nmethod = [\"OTP\", \"PASSWD\"]\n").await;
        let mut users = Vec::new();
        for number in ["09120000001", "09120000002", "09120000003", "", "09120000004", "09120000005"] {
            users.push(match number {
                "" => {
                    let (name, password) = ("alice", "correct-horse-9");
                    let body = json!({"username": name, "password": password, "password2": password, "email": "alice@example.com"});
                    assert_eq!(gateway.post("/register/", body).await.status, 201);
                    gateway.post("/login/", json!({"username": name, "password": password})).await.login()
                }
                number => gateway.login(number).await,
            });
        }
        let (rooms, messages) = Default::default();
        Replay { gateway, users, rooms, messages, next: String::new(), previous: String::new(), file: 0 }
    }

    async fn ask(&self, user: usize, method: &str, path: &str, body: Value) -> Answer {
        let method = method.parse().expect("a method");
        let request = self
            .gateway
            .client
            .request(method, self.gateway.at(path))
            .bearer_auth(&self.users[user - 1].access);
        Answer::of(if body.is_null() { request } else { request.json(&body) }).await
    }

    /// Our room for the recording's.
    fn room(&self, recorded: u64) -> u64 {
        self.rooms.get(&recorded).copied().unwrap_or(recorded)
    }

    /// Repeats what the recording did between its cases.
    async fn prepare(&mut self, name: &str) {
        match name {
            "messages.create_in_closed_room_ok" => {
                assert_eq!(
                    self.ask(1, "PATCH", &format!("/chat/chatrooms/{}/", self.room(1)), json!({"status": 2}))
                        .await
                        .status,
                    200
                );
            }
            "messages.retrieve_without_chat_room_404" => {
                assert_eq!(
                    self.ask(1, "PATCH", &format!("/chat/chatrooms/{}/", self.room(1)), json!({"status": 1}))
                        .await
                        .status,
                    200
                );
            }
            "messages.retrieve_deleted_404" => {
                let path = format!("/chat/messages/{}/?chat_room={}", self.messages[&1], self.room(1));
                assert_eq!(self.ask(1, "DELETE", &path, Value::Null).await.status, 204);
            }
            "messages.read_by_leaks_password_hash" => {
                assert_eq!(
                    self.ask(
                        1,
                        "POST",
                        "/chat/messages/",
                        json!({"chat_room": self.room(1), "text": "read this"})
                    )
                    .await
                    .status,
                    201
                );
                let path = format!("/chat/chatrooms/{}/read/", self.room(1));
                assert_eq!(self.ask(2, "POST", &path, json!({})).await.status, 200);
            }
            "chatrooms.retrieve_all_relations_filled" => {
                let room = format!("/chat/chatrooms/{}", self.room(1));
                assert_eq!(self.ask(1, "POST", &format!("{room}/pin/"), Value::Null).await.status, 200);
                assert_eq!(
                    self.ask(1, "POST", &format!("{room}/members/2/grant/"), json!({"access": 4}))
                        .await
                        .status,
                    200
                );
                assert_eq!(
                    self.ask(1, "POST", &format!("{room}/bans/"), json!({"user_id": 3})).await.status,
                    201
                );
            }
            "messages.create_banned_user_ok" => {
                let path = format!("/chat/chatrooms/{}/bans/", self.room(1));
                assert_eq!(self.ask(1, "POST", &path, json!({"user_id": 2})).await.status, 201);
            }
            "messages.chat_room_nested_shape" => {
                let path = format!("/chat/chatrooms/{}/bans/2/", self.room(1));
                assert_eq!(self.ask(1, "DELETE", &path, Value::Null).await.status, 204);
                assert_eq!(self.ask(2, "POST", "/chat/chatrooms/", json!({"user_id": 1})).await.status, 200);
                let path = format!("/chat/chatrooms/{}/members/2/grant/", self.room(1));
                assert_eq!(self.ask(1, "POST", &path, json!({"access": [4]})).await.status, 200);
            }
            "messages.page_1_of_65" => {
                let made = self.ask(5, "POST", "/chat/chatrooms/", json!({"user_id": 2})).await;
                let room = made.body["id"].as_u64().expect("an id");
                self.rooms.insert(4, room);
                for number in 0..65 {
                    let posted = self
                        .ask(
                            5,
                            "POST",
                            "/chat/messages/",
                            json!({"chat_room": room, "text": format!("m{number}")}),
                        )
                        .await;
                    assert_eq!(posted.status, 201, "{posted:?}");
                    self.messages.insert(9 + number, posted.body["id"].as_u64().expect("an id"));
                }
            }
            "messages.with_file_url" => {
                let body = json!({"chat_room": self.room(4), "text": "m64", "attach_id": self.file});
                let posted = self.ask(5, "POST", "/chat/messages/", body).await;
                assert_eq!(posted.status, 201, "{posted:?}");
                self.messages.insert(73, posted.body["id"].as_u64().expect("an id"));
            }
            _ => {}
        }
    }

    async fn send(&mut self, case: &Case) -> Answer {
        self.prepare(&case.name).await;
        let recorded = case.request["path"].as_str().expect("a path");
        let mut path = self.translated(recorded.trim_start_matches("/drfchelseru"));
        if path.contains("<cursor>") {
            let link = match case.name.as_str() {
                "messages.page_back" => &self.previous,
                "messages.cursor_bad_base64_404" => "?cursor=!!!",
                "messages.cursor_not_a_date_500" => "?cursor=cD1ub3QtYS1kYXRl",
                _ => &self.next,
            };
            let cursor = link.split("cursor=").nth(1).unwrap_or_default().to_owned();
            path = path.replace("<cursor>", &cursor);
        }
        let mut request = case.request.clone();
        request["path"] = path.into();
        let body = &mut request["body"];
        for key in ["chat_room", "chatroom"] {
            if let Some(room) = body[key].as_u64() {
                body[key] = self.room(room).into();
            }
        }
        let part = body["multipart"].get_mut("chatroom");
        if let Some((part, room)) = part.and_then(|part| part.as_str()?.parse().ok().map(|room| (part, room)))
        {
            *part = self.room(room).to_string().into();
        }
        let token = &self.users[actor(&case.name) - 1].access;
        let answer = Answer::of(recorded::request(&self.gateway, &request, Some(token))).await;
        self.remember(&case.response, &answer);
        answer
    }

    /// A recorded path with our numbers.
    fn translated(&self, path: &str) -> String {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let number = |text: &str| text.parse::<u64>().ok();
        let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
        for at in 1..parts.len() {
            match (parts[at - 1].as_str(), number(&parts[at])) {
                ("chatrooms", Some(room)) => parts[at] = self.room(room).to_string(),
                ("messages", Some(message)) => parts[at] = self.messages[&message].to_string(),
                _ => {}
            }
        }
        let Some(query) = query else { return parts.join("/") };
        let pairs: Vec<String> = query
            .split('&')
            .map(|pair| match pair.strip_prefix("chat_room=").and_then(number) {
                Some(room) => format!("chat_room={}", self.room(room)),
                None => pair.to_owned(),
            })
            .collect();
        format!("{}?{}", parts.join("/"), pairs.join("&"))
    }

    /// Stores assigned numbers, and the links of a page.
    fn remember(&mut self, recorded: &Value, answer: &Answer) {
        let (old, ours) = (&recorded["body"], &answer.body);
        if let (Some(old_id), Some(our_id)) = (old["id"].as_u64(), ours["id"].as_u64()) {
            if ours.get("users").is_some() {
                self.rooms.insert(old_id, our_id);
            } else if ours.get("sender").is_some() {
                self.messages.insert(old_id, our_id);
            } else if ours.get("file").is_some() {
                self.file = our_id;
            }
        }
        if ours.get("results").is_some() {
            self.next = ours["next"].as_str().unwrap_or_default().to_owned();
            self.previous = ours["previous"].as_str().unwrap_or_default().to_owned();
        }
    }
}

fn difference(case: &Case, answer: &Answer) -> Option<String> {
    let recorded = &case.response;
    if let Some(found) = recorded::head_difference(recorded, answer) {
        return Some(found);
    }
    // A page describing the fields is not offered.
    if case.request["method"] == "OPTIONS" {
        return (recorded["body"]["name"] != answer.body["name"]).then(|| "another name".to_owned());
    }
    shape_difference("body", &recorded["body"], &answer.body)
}

fn shape_difference(at: &str, recorded: &Value, ours: &Value) -> Option<String> {
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) if recorded.contains_key("password") => {
            let keys: Vec<&str> = ours.keys().map(String::as_str).collect();
            if keys != ["first_name", "id", "last_name", "username"] {
                return Some(format!("{at} shows {keys:?}"));
            }
            (recorded["id"] != ours["id"])
                .then(|| format!("{at} is user {}, not {}", ours["id"], recorded["id"]))
        }
        (Value::Object(recorded), Value::Object(ours)) => {
            recorded.iter().find_map(|(key, value)| match ours.get(key) {
                Some(our) => shape_difference(&format!("{at}.{key}"), value, our),
                None => Some(format!("{at}.{key} is missing")),
            })
        }
        (Value::Array(recorded), Value::Array(ours)) => match first_of_each(at, recorded, ours) {
            Ok(Some((recorded, ours))) => shape_difference(&format!("{at}[0]"), recorded, ours),
            Ok(None) => None,
            Err(found) => Some(found),
        },
        (Value::String(recorded), Value::String(ours)) => {
            // Texts that clients show are equal; names, links and times have placeholders or are ours.
            let link = recorded.contains("/media/");
            let path = recorded.find("/media/uploads/chat_files/").filter(|at| *at == 0);
            if link
                && (!ours.contains("/media/uploads/chat_files/")
                    || path.is_some() != ours.starts_with("/media/"))
            {
                return Some(format!("{at}: {recorded:?} became {ours:?}"));
            }
            let fixed = !recorded.contains('<') && !link;
            (fixed && recorded != ours && !recorded.starts_with("http"))
                .then(|| format!("{at}: {recorded:?} became {ours:?}"))
        }
        (Value::Number(_), Value::Number(_)) => None,
        _ => type_difference(at, recorded, ours),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_chat_requests_are_answered_as_the_original_did() {
    let mut replay = Replay::start().await;
    let mut verdict = Verdict::new(DIFFERENCES);
    for case in &recorded::cases(&["/drfchelseru/chat/", "/drfchelseru/message/file/"]) {
        let answer = replay.send(case).await;
        assert!(!answer.text.contains("0912000"), "{} shows a phone number: {}", case.name, answer.text);
        assert!(!answer.text.contains("alice@"), "{} shows a mail address: {}", case.name, answer.text);
        verdict.judge(case, difference(case, &answer), &answer);
    }
    verdict.end(85);
}
