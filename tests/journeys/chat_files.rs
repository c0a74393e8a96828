//! Files of rooms: who may upload and download them, their types, and every limit at its edge.

use std::time::Duration;

use chelseru_domain::UserChange;
use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_domain::ids::UserId;
use chelseru_store::chat::FileDraft;
use chelseru_store::{UserDraft, UserMade};
use chelseru_tests::{Answer, Login, TestGateway};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::chat_uploads::base64_of;

/// Limits small enough to reach. Each file counts 4096 bytes besides its own: 2,500 bytes in three files.
pub(crate) const TIGHT: &str = "
[server]
body_read_timeout_seconds = 1
[files]
file_bytes_max = 1000
user_bytes_max = 14788
uploads_per_user_max = 1
resumable_per_user_max = 2
";

/// A gateway with a room: user 1 owns it, 2 is a member, 3 is not.
pub(crate) struct Street {
    pub(crate) gateway: TestGateway,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) users: Vec<Login>,
    pub(crate) room: u64,
}

impl Street {
    pub(crate) async fn open(config: &str) -> Street {
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let gateway = TestGateway::start_at(config, clock.clone()).await;
        let mut users = Vec::new();
        for number in ["09120000001", "09120000002", "09120000003"] {
            users.push(gateway.login(number).await);
        }
        let mut street = Street { gateway, clock, users, room: 0 };
        let made = street.ask(1, "POST", "/chat/chatrooms/", json!({"users": [2]})).await;
        street.room = made.body["id"].as_u64().expect("a room");
        street
    }

    pub(crate) fn request(&self, user: usize, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        let url = if path.starts_with("http") { path.to_owned() } else { self.gateway.at(path) };
        let request = self.gateway.client.request(method, url);
        if user == 0 { request } else { request.bearer_auth(&self.users[user - 1].access) }
    }

    pub(crate) async fn ask(&self, user: usize, method: &str, path: &str, body: Value) -> Answer {
        let request = self.request(user, method, path);
        Answer::of(if body.is_null() { request } else { request.json(&body) }).await
    }

    pub(crate) async fn upload(&self, user: usize, name: &str, content: &[u8]) -> Answer {
        let mut body = format!(
            "--x\r\nContent-Disposition: form-data; name=\"chatroom\"\r\n\r\n{}\r\n--x\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: image/png\r\n\r\n",
            self.room
        )
        .into_bytes();
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n--x--\r\n");
        let request = self.request(user, "POST", "/message/file/upload/");
        Answer::of(request.header("content-type", "multipart/form-data; boundary=x").body(body)).await
    }

    /// Sends a file as a message; returns its link.
    pub(crate) async fn send(&self, user: usize, file: &Value) -> String {
        let body =
            json!({"chat_room": self.room, "text": "", "message_type": "file", "attach_id": file["id"]});
        let sent = self.ask(user, "POST", "/chat/messages/", body).await;
        assert_eq!(sent.status, 201, "{sent:?}");
        sent.body["file_url"].as_str().expect("a link").to_owned()
    }

    pub(crate) async fn tus(
        &self,
        user: usize,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = self.request(user, method, path).header("tus-resumable", "1.0.0");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.body(body.to_vec())).await
    }

    pub(crate) async fn begin(&self, user: usize, length: usize) -> Answer {
        use base64::Engine;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let metadata = format!("filename {},chatroom {}", encode("film.bin"), encode(&self.room.to_string()));
        let headers = [("upload-length", &*length.to_string()), ("upload-metadata", &*metadata)];
        self.tus(user, "POST", "/message/file/tus/", &headers, b"").await
    }

    pub(crate) async fn piece(&self, user: usize, upload: &str, offset: usize, bytes: &[u8]) -> Answer {
        let headers =
            [("upload-offset", &*offset.to_string()), ("content-type", "application/offset+octet-stream")];
        self.tus(user, "PATCH", upload, &headers, bytes).await
    }

    /// Counts the files in the uploads folder.
    pub(crate) fn on_disk(&self) -> usize {
        fn count(folder: &std::path::Path) -> usize {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
        }
        count(&self.gateway.dir.path().join("data/uploads"))
    }

    /// Advances the clock, which also ends sessions.
    pub(crate) async fn pass(&mut self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        for (at, login) in self.users.iter_mut().enumerate() {
            *login = self.gateway.login(&format!("0912000000{}", at + 1)).await;
        }
    }

    /// The files left after collection.
    pub(crate) async fn collected(&self) -> usize {
        let app = &self.gateway.app;
        app.files.collect(&app.live().config.files).await.expect("collected");
        self.on_disk()
    }
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR 0123456789";

/// Older versions stored names as they came. The store is filled below the rules that refuse such names today.
#[tokio::test(flavor = "multi_thread")]
async fn names_of_older_versions_are_shown_without_what_changes_their_direction() {
    const DIRTY: &str = "photo\u{202e}gpj.exe\u{2067}";
    const PLAIN: &str = "photogpj.exe";
    let street = Street::open("[auth]\nmethod = [\"OTP\", \"PASSWD\"]\n").await;
    let store = &street.gateway.app.store;
    let change = UserChange {
        first_name: Some(DIRTY.to_owned()),
        last_name: Some("\u{202d}\u{200f}".to_owned()),
        email: None,
    };
    store.user_update(UserId(1), change).await.expect("stored").expect("a user");
    let draft = UserDraft {
        username: DIRTY.to_owned(),
        look: PLAIN.to_owned(),
        email: String::new(),
        password_hash: "none".to_owned(),
        staff: false,
        superuser: false,
        now: street.clock.now(),
    };
    let UserMade::Made(named) = store.user_register(draft).await.expect("stored") else { panic!("taken") };
    let me = street.ask(1, "GET", "/me/", Value::Null).await.body;
    assert_eq!((&me["first_name"], &me["last_name"]), (&json!(PLAIN), &json!("")));
    let seen = street.gateway.app.live().identity.user(named.id).await.expect("read").expect("a user");
    assert_eq!(seen.username, PLAIN);
    let found =
        street.gateway.app.live().identity.user_find(PLAIN).await.expect("read").expect("by its look");
    assert_eq!(found.id, named.id);
    let rooms = street.ask(2, "GET", "/chat/chatrooms/", Value::Null).await;
    let other = rooms.body[0]["users"].as_array().expect("users").iter().find(|user| user["id"] == 1);
    assert_eq!(other.expect("the other")["first_name"], PLAIN, "{rooms:?}");

    // A file: its record as an older version wrote it, beside the bytes of another one.
    let picture = street.upload(1, "a.png", PNG).await.body;
    let path = picture["file"].as_str().expect("a path");
    let (folder, name) = path.rsplit_once('/').expect("a folder");
    let stored = store.chat_file_by_name(name).await.expect("read").expect("a file");
    let on_disk = std::path::PathBuf::from(street.gateway.dir.path())
        .join("data")
        .join(folder.trim_start_matches("/media/"));
    std::fs::copy(on_disk.join(name), on_disk.join("older.png")).expect("copied");
    let draft = FileDraft {
        room: stored.room,
        uploader: UserId(1),
        name: "older.png".to_owned(),
        folder: stored.folder,
        title: "cat\u{202e}gnp.png".to_owned(),
        content_type: stored.content_type,
        bytes: stored.bytes,
        text: None,
        picture: None,
        quota_bytes: u64::MAX,
        total_bytes: u64::MAX,
        now: street.clock.now(),
    };
    store.chat_file_keep(draft).await.expect("stored").kept().expect("kept");
    let link = format!("{}{folder}/older.png", street.gateway.url.trim_end_matches("/drfchelseru"));
    let got = street.ask(1, "GET", &link, Value::Null).await;
    assert_eq!(got.status, 200, "{got:?}");
    let disposition = got.header("content-disposition");
    assert!(disposition.ends_with("filename*=UTF-8''catgnp.png"), "{disposition}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_for_members_and_what_it_is_its_content_says() {
    let street = Street::open("").await;
    let outsider = street.upload(3, "a.png", PNG).await;
    assert_eq!((outsider.status, street.on_disk()), (400, 0), "{outsider:?}");
    let picture = street.upload(1, "../../my photo.html", PNG).await;
    assert_eq!(picture.status, 201, "{picture:?}");
    let path = picture.body["file"].as_str().expect("a path");
    assert!(path.starts_with("/media/uploads/chat_files/"), "{path}");
    assert!(path.ends_with(".png") && !path.contains("photo"), "{path}");
    assert_eq!(picture.body["content_type"], "image/png");
    assert_eq!(picture.body["name"], "my photo.html.png", "its ending is its content's");

    // Before it is sent, only its uploader sees the file, and nobody else can send it (defect 6).
    let origin = street.gateway.url.trim_end_matches("/drfchelseru").to_owned();
    let link = format!("{origin}{path}");
    for (user, status) in [(0, 401), (1, 200), (2, 404), (3, 404)] {
        assert_eq!(street.ask(user, "GET", &link, Value::Null).await.status, status, "user {user}");
    }
    let body = json!({"chat_room": street.room, "text": "mine now", "attach_id": picture.body["id"]});
    let stolen = street.ask(2, "POST", "/chat/messages/", body.clone()).await;
    assert_eq!((stolen.status, stolen.text.contains("attach_id")), (400, true), "{stolen:?}");
    assert_eq!(street.send(1, &picture.body).await, link);
    let twice = street.ask(1, "POST", "/chat/messages/", body).await;
    assert_eq!(twice.status, 400, "a file has one message: {twice:?}");
    for (user, status) in [(0, 401), (1, 200), (2, 200), (3, 404)] {
        assert_eq!(street.ask(user, "GET", &link, Value::Null).await.status, status, "user {user}");
    }

    let got = street.request(2, "GET", &link).header("accept", "image/png").send().await.expect("an answer");
    let header = |name: &str| got.headers()[name].to_str().expect("text").to_owned();
    assert_eq!(header("content-type"), "image/png");
    assert!(header("content-disposition").starts_with("inline; "), "{got:?}");
    assert!(header("content-disposition").ends_with("filename*=UTF-8''my%20photo.html.png"), "{got:?}");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert!(header("content-security-policy").starts_with("sandbox; default-src 'none'"));
    assert_eq!(got.bytes().await.expect("bytes"), PNG);
    let head = street.ask(2, "HEAD", &link, Value::Null).await;
    assert_eq!((head.status, head.header("content-length")), (200, &*PNG.len().to_string()));

    // A page named like a picture is not a picture and is not shown inline.
    let page = street.upload(2, "cat.png", b"<!DOCTYPE html><html><script>alert(1)</script></html>").await;
    assert_eq!(page.body["content_type"], "text/html");
    let page = street.ask(1, "GET", &street.send(2, &page.body).await, Value::Null).await;
    assert_eq!(page.header("content-type"), "application/octet-stream");
    assert!(page.header("content-disposition").starts_with("attachment; "), "{page:?}");

    // A removed member loses access to the room's files.
    assert_eq!(
        street
            .ask(1, "POST", &format!("/chat/chatrooms/{}/bans/", street.room), json!({"user_id": 2}))
            .await
            .status,
        201
    );
    assert_eq!(street.ask(2, "GET", &link, Value::Null).await.status, 403);
    assert_eq!(street.upload(2, "a.png", PNG).await.header("x-error-code"), "banned");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_link_serves_a_member_for_a_while() {
    let mut street = Street::open("").await;
    let file = street.upload(1, "a.png", PNG).await.body;
    street.send(1, &file).await;
    let path = format!("/chat/files/{}/", file["id"]);
    assert_eq!(street.ask(3, "GET", &path, Value::Null).await.status, 404);
    let told = street.ask(2, "GET", &path, Value::Null).await;
    let link = told.body["link"].as_str().expect("a link").to_owned();
    assert_eq!(street.ask(0, "GET", &link, Value::Null).await.text.len(), PNG.len() - 1 + "\u{fffd}".len());
    for wrong in [
        link.replace("user=2", "user=1"),
        link.replace("session=", "session=1"),
        link.replace("expires=", "expires=9"),
        link[..link.len() - 1].to_owned(),
    ] {
        assert_eq!(street.ask(0, "GET", &wrong, Value::Null).await.status, 401, "{wrong}");
    }
    // Disabling the account ends its sessions and with them its links, even after it is enabled again.
    let identity = street.gateway.app.live().identity.clone();
    for active in [false, true] {
        let reason = chelseru_domain::operator::role::Reason::of_command();
        let permit = chelseru_tests::machine();
        identity.user_set_active(&permit, UserId(2), active, &reason).await.expect("set");
        assert_eq!(street.ask(0, "GET", &link, Value::Null).await.status, 401);
    }
    // Another session of the same user does not revive the link. A link ends with its own session only.
    street.clock.advance(Duration::from_secs(300));
    let mut links = Vec::new();
    for _ in 0..2 {
        street.users[1] = street.gateway.login("09120000002").await;
        let told = street.ask(2, "GET", &path, Value::Null).await;
        links.push(told.body["link"].as_str().expect("a link").to_owned());
        street.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(street.ask(0, "GET", &link, Value::Null).await.status, 401);
    let [other, link] = links.try_into().expect("two links");
    assert_eq!(street.ask(0, "GET", &other, Value::Null).await.status, 200);
    assert_eq!(street.ask(2, "DELETE", "/sessions/", Value::Null).await.status, 200);
    assert_eq!(street.ask(0, "GET", &other, Value::Null).await.status, 401);
    assert_eq!(street.ask(0, "GET", &link, Value::Null).await.status, 200);
    street.users[0] = street.gateway.login("09120000001").await;
    let member = format!("/chat/chatrooms/{}/members/2/", street.room);
    assert_eq!(street.ask(1, "DELETE", &member, Value::Null).await.status, 204);
    assert_eq!(street.ask(0, "GET", &link, Value::Null).await.status, 404);
    let told = street.ask(1, "GET", &path, Value::Null).await;
    let link = told.body["link"].as_str().expect("a link").to_owned();
    street.clock.advance(Duration::from_secs(299));
    assert_eq!(street.ask(0, "GET", &link, Value::Null).await.status, 200);
    street.clock.advance(Duration::from_secs(1));
    assert_eq!(street.ask(0, "GET", &link, Value::Null).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_file_are_served() {
    let street = Street::open("").await;
    let content: Vec<u8> = (0..200_000u32).map(|number| (number % 251) as u8).collect();
    let file = street.upload(1, "big.bin", &content).await.body;
    let link = street.send(1, &file).await;
    for (range, status, start, count) in [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=65530-131080", 206, 65530, 65551),
        ("bytes=-7", 206, 199_993, 7),
        ("bytes=0-1,5-6", 200, 0, 200_000),
        ("bytes=200000-", 416, 0, 0),
    ] {
        let got = street.request(2, "GET", &link).header("range", range).send().await.expect("an answer");
        assert_eq!(got.status().as_u16(), status, "{range}");
        if status != 416 {
            let bytes = got.bytes().await.expect("bytes");
            assert!(bytes == content[start..start + count], "{range}");
        } else {
            assert_eq!(got.headers()["content-range"], "bytes */200000");
        }
    }
    // A range is of a GET only: a client asks HEAD for the whole length.
    let head = street.request(2, "HEAD", &link).header("range", "bytes=0-9").send().await.expect("an answer");
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-length"]),
        (200, &"200000".parse().expect("text"))
    );
    assert!(head.headers().get("content-range").is_none(), "{head:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_sent_once_and_asked_about_each_time() {
    let street = Street::open("").await;
    let file = street.upload(1, "a.png", PNG).await.body;
    let link = street.send(1, &file).await;
    let ask = async |known: &str| {
        let request = street.request(2, "GET", &link).header("if-none-match", known);
        Answer::of(request).await
    };
    let first = ask("\"another\"").await;
    let tag = first.header("etag").to_owned();
    assert_eq!((first.status, first.header("cache-control")), (200, "private, no-cache"), "{first:?}");
    for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let again = ask(&known).await;
        assert_eq!(
            (again.status, again.text.as_str(), again.header("etag")),
            (304, "", tag.as_str()),
            "{known}"
        );
        assert_eq!(again.header("cache-control"), "private, no-cache");
    }
    // Who may no longer see the file learns nothing from a tag.
    let bans = format!("/chat/chatrooms/{}/bans/", street.room);
    assert_eq!(street.ask(1, "POST", &bans, json!({"user_id": 2})).await.status, 201);
    assert_eq!(ask(&tag).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_and_quota_have_edges() {
    let street = Street::open(TIGHT).await;
    for (size, status) in [(0, 400), (999, 201), (1000, 201), (1001, 413)] {
        let answer = street.upload(1, "a.bin", &vec![7; size]).await;
        assert_eq!(answer.status, status, "{size}: {answer:?}");
    }
    // 1,999 of 2,500 bytes are used, in two of three files.
    assert_eq!(street.on_disk(), 2);
    let over = street.upload(1, "a.bin", &[7; 502]).await;
    assert_eq!((over.status, over.header("x-error-code")), (413, "quota_exceeded"), "{over:?}");
    assert_eq!(street.upload(1, "a.bin", &[7; 501]).await.status, 201);
    assert_eq!(street.upload(1, "a.bin", &[7; 1]).await.header("x-error-code"), "quota_exceeded");
    assert_eq!(street.on_disk(), 3);
    // Nor does an empty one, or a text, come for nothing.
    assert_eq!(street.begin(1, 0).await.header("x-error-code"), "quota_exceeded");
    assert_eq!(street.on_disk(), 3);
    // Another user has a separate quota.
    assert_eq!(street.upload(2, "a.bin", &[7; 1000]).await.status, 201);

    // An unsent file is removed after a day, and frees its quota.
    street.clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert_eq!(street.collected().await, 4);
    street.clock.advance(Duration::from_secs(2));
    assert_eq!(street.collected().await, 0);
    assert_eq!(street.gateway.app.store.chat_file_bytes(UserId(1)).await.expect("read"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_files_together_have_a_bound() {
    let config = TIGHT.replace("user_bytes_max", "total_bytes_max = 19384\nuser_bytes_max");
    let mut street = Street::open(&config).await;
    let full = |answer: Answer| {
        assert_eq!((answer.status, answer.header("x-error-code")), (507, "files_full"), "{answer:?}");
    };
    for (user, size) in [(1, 1000), (2, 999)] {
        assert_eq!(street.upload(user, "a.bin", &vec![7; size]).await.status, 201);
    }
    // A resumable upload counts with its full length from the start, for every user.
    assert_eq!(street.begin(1, 500).await.status, 201);
    full(street.begin(2, 502).await);
    assert_eq!(street.begin(2, 501).await.status, 201);
    let metrics = street.gateway.get("/metrics/", None).await.text;
    assert!(metrics.contains("chelseru_files_bytes 10191"), "{metrics}");

    // An unsent file is removed after a day, which frees space.
    street.pass(24 * 3600 + 1).await;
    assert_eq!(street.collected().await, 0);
    assert_eq!(street.gateway.app.store.chat_file_total().await.expect("read"), 0);
    for (user, size) in [(1, 1000), (2, 1000), (2, 1000)] {
        assert_eq!(street.upload(user, "a.bin", &vec![7; size]).await.status, 201);
    }
    full(street.upload(1, "a.bin", &[7; 1]).await);
    // An empty one holds 4096 bytes, too, and these are the last.
    assert_eq!(street.begin(1, 0).await.status, 201);
    full(street.begin(1, 0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_of_a_file_counts_as_a_message() {
    let street = Street::open("[chat]\nmessages_per_minute_max = 2\n").await;
    let upload = async |content: &str| {
        let room = street.room;
        let body = format!(
            "--x\r\nContent-Disposition: form-data; name=\"chatroom\"\r\n\r\n{room}\r\n--x\r\n\
             Content-Disposition: form-data; name=\"text\"\r\n\r\nread this\r\n--x\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n{content}\r\n--x--\r\n"
        );
        let request = street.request(1, "POST", "/message/file/upload/");
        Answer::of(request.header("content-type", "multipart/form-data; boundary=x").body(body)).await
    };
    let begin = async || {
        let (text, room) = (base64_of("read this"), base64_of(&street.room.to_string()));
        let metadata = format!("chatroom {room},text {text}");
        let headers = [("upload-length", "4"), ("upload-metadata", &*metadata)];
        street.tus(1, "POST", "/message/file/tus/", &headers, b"").await
    };
    // What is refused costs nothing.
    for _ in 0..3 {
        assert_eq!(upload("").await.status, 400);
    }
    assert_eq!(upload("bytes").await.status, 201);
    assert_eq!(begin().await.status, 201);
    let on_disk = street.on_disk();
    for refused in [upload("bytes").await, begin().await] {
        assert_eq!((refused.status, refused.header("x-error-code")), (429, "allowance_used"), "{refused:?}");
        assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    }
    assert_eq!(street.on_disk(), on_disk, "nothing is left of them");
    assert_eq!(street.upload(1, "a.bin", b"bytes").await.status, 201, "without a text");
    assert_eq!(
        street.ask(2, "POST", "/chat/messages/", json!({"chat_room": street.room, "text": "x"})).await.status,
        201
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_and_a_deleted_room_lose_their_files() {
    let mut street = Street::open("").await;
    let (one, other) = (street.upload(1, "a.png", PNG).await.body, street.upload(2, "b.png", PNG).await.body);
    let link = street.send(1, &one).await;
    street.send(2, &other).await;
    let page = street.ask(1, "GET", &format!("/chat/messages/?chat_room={}", street.room), Value::Null).await;
    let id = &page.body["results"][1]["id"];
    let path = format!("/chat/messages/{id}/?chat_room={}", street.room);
    assert_eq!(street.ask(1, "DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(street.ask(2, "GET", &link, Value::Null).await.status, 404, "not a message's any more");
    street.pass(25 * 3600).await;
    assert_eq!(street.collected().await, 1);
    let room = format!("/chat/chatrooms/{}/", street.room);
    assert_eq!(street.ask(1, "DELETE", &room, Value::Null).await.status, 204);
    assert_eq!(street.collected().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_upload_ends_and_leaves_nothing() {
    let patient = TIGHT.replace("body_read_timeout_seconds = 1", "body_read_timeout_seconds = 3");
    let street = Street::open(&patient).await;
    let (sender, body) = fed_by_hand();
    let request = street
        .request(1, "POST", "/message/file/upload/")
        .header("content-type", "multipart/form-data; boundary=x")
        .body(body);
    sender
        .send(
            Ok(b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nhalf".to_vec()),
        )
        .await
        .expect("sent");
    let running = tokio::spawn(Answer::of(request));
    until(|| street.on_disk() > 0).await;
    let second = street.upload(1, "b.bin", b"b").await;
    assert_eq!((second.status, second.header("x-error-code")), (429, "too_many_uploads"), "{second:?}");
    let answer = running.await.expect("an answer");
    assert_eq!((answer.status, answer.header("x-error-code")), (408, "body_timeout"), "{answer:?}");
    drop(sender);
    assert_eq!(street.upload(1, "b.bin", b"b").await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_files_name_is_read_as_its_client_wrote_it() {
    let street = Street::open("").await;
    let send = async |disposition: &[u8]| {
        let mut body = format!(
            "--x\r\ncontent-disposition: form-data; Name=chatroom\r\n\r\n{}\r\n--x\r\n\
             Content-Disposition: form-data; ",
            street.room
        )
        .into_bytes();
        body.extend_from_slice(disposition);
        body.extend_from_slice(b"\r\n\r\nbytes\r\n--x--\r\n");
        let request = street.request(1, "POST", "/message/file/upload/");
        Answer::of(request.header("content-type", "multipart/form-data; boundary=x").body(body)).await
    };
    for (disposition, name) in [
        (&b"Name=\"file\"; FileName=\"a.txt\""[..], "a.txt"),
        (b"name=\"file\"; filename*=UTF-8''%D8%B3%D9%84%D8%A7%D9%85.txt; filename=\"x\"", "سلام.txt"),
        (b"name=\"file\"; filename=\"\xd3\xe1\xc7\xe3.txt\"", "سلام.txt"),
        (b"name=\"file\"; filename=\"=?UTF-8?B?2LPZhNin2YU=?=.txt\"", "سلام.txt"),
    ] {
        let answer = send(disposition).await;
        let shown = String::from_utf8_lossy(disposition);
        assert_eq!((answer.status, &answer.body["name"]), (201, &json!(name)), "{shown}: {answer:?}");
    }
    let answer = send(b"name=\"file\"; filename*=nonsense''a").await;
    assert_eq!((answer.status, answer.header("x-error-code")), (400, "file_name_unreadable"), "{answer:?}");
    assert_eq!(street.on_disk(), 4, "nothing is left of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_drips_ends_and_others_wait_for_its_place() {
    let street = Street::open("[files]\nuploads_max = 1\nupload_seconds_max = 2\n").await;
    let (sender, body) = fed_by_hand();
    let request = street
        .request(1, "POST", "/message/file/upload/")
        .header("content-type", "multipart/form-data; boundary=x")
        .body(body);
    let head = b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n".to_vec();
    sender.send(Ok(head)).await.expect("sent");
    let running = tokio::spawn(Answer::of(request));
    until(|| street.on_disk() > 0).await;
    let other = street.upload(2, "b.bin", b"b").await;
    assert_eq!((other.status, other.header("x-error-code")), (503, "too_many_uploads"), "{other:?}");
    // A steady trickle that never completes the body.
    while !running.is_finished() && sender.send(Ok(b"x".to_vec())).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = running.await.expect("an answer");
    assert_eq!((answer.status, answer.header("x-error-code")), (408, "body_timeout"), "{answer:?}");
    assert_eq!(street.upload(2, "b.bin", b"b").await.status, 201);
    assert_eq!(street.on_disk(), 1, "the half is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_finishes_what_a_stop_cut_off() {
    let mut street = Street::open("").await;
    let file = street.upload(1, "a.png", PNG).await.body;
    let link = street.send(1, &file).await;
    let path = file["file"].as_str().expect("a path").trim_start_matches("/media/").to_owned();
    let (users, room, clock) = (street.users.clone(), street.room, street.clock.clone());
    let dir = street.gateway.stop().await;
    // The state after a crash between record and move, plus an incoming file without a record.
    let data = dir.path().join("data");
    let incoming = data.join("uploads/incoming");
    std::fs::rename(data.join(&path), incoming.join(path.rsplit('/').next().expect("a name")))
        .expect("moved");
    std::fs::write(incoming.join("half"), b"half").expect("a file");
    street = Street { gateway: TestGateway::start_in(dir, clock.clone()).await, clock, users, room };
    assert_eq!(street.on_disk(), 1);
    let link = link.split_once("/media/").map(|(_, rest)| format!("/media/{rest}")).expect("a link");
    let origin = street.gateway.url.trim_end_matches("/drfchelseru").to_owned();
    let got = street.request(2, "GET", &format!("{origin}{link}")).send().await.expect("an answer");
    assert_eq!(got.bytes().await.expect("bytes"), PNG);
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_of_files_apply_when_the_configuration_is_saved() {
    let street = Street::open("[files]\nfile_bytes_max = 10\n").await;
    assert_eq!(street.upload(1, "a.bin", &[7; 11]).await.status, 413);
    street.gateway.edit_config("[files]\nfile_bytes_max = 11\n");
    street.gateway.wait_for("the edit", |status| status["config"]["generation"] == 2).await;
    assert_eq!(street.upload(1, "a.bin", &[7; 11]).await.status, 201);
}

/// Waits for a condition.
pub(crate) async fn until(happened: impl Fn() -> bool) {
    let end = std::time::Instant::now() + chelseru_tests::PATIENCE;
    while !happened() {
        assert!(std::time::Instant::now() < end, "it did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A body that the test feeds by hand.
pub(crate) fn fed_by_hand() -> (tokio::sync::mpsc::Sender<std::io::Result<Vec<u8>>>, reqwest::Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel::<std::io::Result<Vec<u8>>>(4);
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece.map(|bytes| hyper::body::Frame::data(bytes::Bytes::from(bytes))), receiver))
    });
    (sender, reqwest::Body::wrap(http_body_util::StreamBody::new(pieces)))
}

/// One account holds every place with bodies that take minutes; another one uploads all the same.
#[tokio::test(flavor = "multi_thread")]
async fn slow_uploads_give_way_to_others() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let config = "[files]\nuploads_max = 2\nuploads_per_user_max = 2\nupload_grace_seconds = 1\n";
    let street = Street::open(config).await;
    let address = street.gateway.url.trim_start_matches("http://").split('/').next().expect("an address");
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
        let head = format!(
            "POST /drfchelseru/message/file/upload/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
             content-type: multipart/form-data; boundary=x\r\ncontent-length: 10000000\r\n\r\n\
             --x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n",
            street.users[1].access
        );
        stream.write_all(head.as_bytes()).await.expect("written");
        let (mut reader, mut writer) = stream.into_split();
        // Fast enough for any upload, so that only another one can end it.
        tokio::spawn(async move {
            while writer.write_all(&[b'.'; 4096]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        answers.spawn(async move {
            let mut answer = [0; 12];
            reader.read_exact(&mut answer).await.map(|_| String::from_utf8_lossy(&answer[9..]).into_owned())
        });
    }
    let until = std::time::Instant::now() + chelseru_tests::PATIENCE;
    // The first ones may come before the slow ones.
    let displaced = loop {
        let answer = street.upload(1, "a.png", PNG).await;
        assert!(answer.status == 201 || answer.body["code"] == "too_many_uploads", "{answer:?}");
        if let Some(displaced) = answers.try_join_next() {
            break displaced.expect("no panic").expect("answered");
        }
        assert!(std::time::Instant::now() < until, "no upload gives way");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((displaced.as_str(), answers.len()), ("503", 1), "one gave way");
}

/// The text beside a file follows the rules of a message's text, in characters and in bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_files_text_is_bounded_like_a_messages() {
    let street = Street::open("[chat]\ntext_chars_max = 16000\n").await;
    let upload = async |text: &str| {
        let part = |name: &str, value: &str| {
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let file = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nhello\r\n--x--\r\n";
        let body = format!("{}{}{file}", part("chatroom", &street.room.to_string()), part("text", text));
        let request = street.request(1, "POST", "/message/file/upload/");
        Answer::of(request.header("content-type", "multipart/form-data; boundary=x").body(body)).await
    };
    let resumable = async |text: &str| {
        let metadata = format!("chatroom {},text {}", base64_of(&street.room.to_string()), base64_of(text));
        let headers = [("upload-length", "5"), ("upload-metadata", metadata.as_str())];
        street.tus(1, "POST", "/message/file/tus/", &headers, b"").await
    };
    // 8,192 emoji have the 32 KiB that a text may have.
    for (text, reason) in [
        ("a".repeat(16_000), None),
        ("a".repeat(16_001), Some("16000 characters")),
        ("😀".repeat(8192), None),
        ("😀".repeat(8193), Some("32768 bytes")),
        ("a\0b".to_owned(), Some("Null characters")),
    ] {
        let answer = upload(&text).await;
        match reason {
            None => assert_eq!(answer.status, 201, "{answer:?}"),
            Some(reason) => {
                assert_eq!(answer.status, 400, "{answer:?}");
                assert!(answer.body["text"][0].as_str().expect("a reason").contains(reason), "{answer:?}");
            }
        }
    }
    let refused = resumable("a\0b").await;
    assert_eq!((refused.status, refused.header("x-error-code")), (400, "upload_metadata"), "{refused:?}");
    assert_eq!(resumable("a b").await.status, 201);
}
