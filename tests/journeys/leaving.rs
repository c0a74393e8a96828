//! Leaving: a person's account is erased with all its traces, by the person or by the staff, and nothing of others.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

use chelseru_domain::ids::UserId;
use chelseru_domain::login::account::Rights;
use chelseru_domain::operator::role::Reason;
use chelseru_tests::socket::Socket;
use chelseru_tests::{Answer, Login, PATIENCE, TestGateway, machine};
use serde_json::{Value, json};

/// Stands in every text that is the person's own.
const MARK: &str = "leylanaz";
const NUMBER: &str = "09121112233";
/// The digits that every spelling of the number has.
const DIGITS: &str = "9121112233";

const CONFIG: &str = r#"
[auth]
method = ["OTP", "PASSWD"]
[payment]
callback_urls = ["https://shop.example/pay"]
staff_users = [1]
[chat]
strangers = "ask"
"#;

/// Places that a failed scan prints.
const SHOWN: usize = 5;

/// A gateway whose user 1 is on the staff.
struct Place {
    gateway: TestGateway,
    staff: Login,
}

impl Place {
    async fn open() -> Place {
        let gateway = TestGateway::start(CONFIG).await;
        let staff = gateway.login("09120000001").await;
        let identity = gateway.app.live().identity.clone();
        let reason = Reason::of_command();
        identity.user_set_rights(&machine(), UserId(1), Rights::Staff, &reason).await.expect("rights");
        Place { gateway, staff }
    }

    async fn ask(&self, login: &Login, method: &str, path: &str, body: Value) -> Answer {
        let method = method.parse().expect("a method");
        let request = self.gateway.client.request(method, self.gateway.at(path)).bearer_auth(&login.access);
        Answer::of(if body.is_null() { request } else { request.json(&body) }).await
    }

    /// [`Place::ask`] for what must work.
    async fn make(&self, login: &Login, method: &str, path: &str, body: Value) -> Value {
        let answer = self.ask(login, method, path, body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        answer.body
    }

    async fn user(&self, number: &str) -> (Login, u64) {
        let login = self.gateway.login(number).await;
        let id = self.make(&login, "GET", "/me/", Value::Null).await["id"].as_u64().expect("an id");
        (login, id)
    }

    /// A fresh login code.
    async fn code(&self, number: &str) -> String {
        let sent = self.gateway.post("/otp/send/", json!({"mobile_number": number})).await;
        assert_eq!(sent.status, 200, "{sent:?}");
        self.gateway.sandbox_code(number).await
    }

    async fn charge(&self, login: &Login, body: Value) {
        let made = self.make(login, "POST", "/payment/create/", body).await;
        let url = made["details"]["gateway_url"].as_str().expect("an address").to_owned();
        let back = Answer::of(self.gateway.client.post(url).form(&[("action", "pay")])).await;
        let paid = Answer::of(self.gateway.client.get(back.header("location"))).await;
        assert_eq!(paid.body["details"]["is_pay"], 1, "{paid:?}");
    }

    async fn upload(&self, login: &Login, room: &Value, name: &str) -> Value {
        let body = format!(
            "--x\r\nContent-Disposition: form-data; name=\"chatroom\"\r\n\r\n{room}\r\n--x\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: image/png\r\n\r\n"
        );
        let mut body = body.into_bytes();
        body.extend_from_slice(b"\x89PNG\r\n\x1a\n and so on\r\n--x--\r\n");
        let url = self.gateway.at("/message/file/upload/");
        let request = self.gateway.client.post(url).bearer_auth(&login.access).body(body);
        let kept = Answer::of(request.header("content-type", "multipart/form-data; boundary=x")).await;
        assert_eq!(kept.status, 201, "{kept:?}");
        kept.body["id"].clone()
    }

    /// Waits until no erasure is open.
    async fn wait_until_erased(&self) {
        let until = Instant::now() + PATIENCE;
        while !self.gateway.app.store.erasures_open(1).await.expect("a list").is_empty() {
            assert!(Instant::now() < until, "the traces stay");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How often a word stands in the store, in any case.
    async fn count(&self, word: &str) -> usize {
        self.gateway.app.live().identity.audit().flush().await;
        let export = self.gateway.dir.path().join("export");
        let file = std::fs::File::create(&export).expect("a file");
        self.gateway.app.store.export(file, &self.gateway.dir.path().join("copy")).await.expect("an export");
        let bytes = std::fs::read(&export).expect("the export").to_ascii_lowercase();
        let found = |at: &usize| bytes[*at..].starts_with(word.as_bytes());
        let places: Vec<usize> = (0..bytes.len()).filter(found).collect();
        for at in places.iter().take(SHOWN) {
            let around = &bytes[at.saturating_sub(60)..bytes.len().min(at + 60)];
            println!("{word} stands in {}", String::from_utf8_lossy(around).escape_debug());
        }
        places.len()
    }

    fn files(&self) -> usize {
        fn count(folder: &std::path::Path) -> usize {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
        }
        count(&self.gateway.dir.path().join("data/uploads"))
    }
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.header("X-Error-Code"))
}

/// What the person leaves in the gateway.
struct Traces {
    /// A group of the person's, with a message and a file.
    group: Value,
    pair: Value,
    message: Value,
}

impl Place {
    /// Lets the person use everything that keeps something of a person.
    async fn live(&self, person: &Login, (friend, friend_id): (&Login, u64), stranger_id: u64) -> Traces {
        let marked = |what: &str| format!("{MARK}-{what}");
        let profile = json!({
            "first_name": marked("first"), "last_name": marked("last"),
            "email": format!("{MARK}@example.com"),
        });
        self.make(person, "PATCH", "/me/", profile).await;
        let pair = self.make(person, "POST", "/chat/chatrooms/", json!({"user_id": friend_id})).await;
        let pair = pair["id"].clone();
        self.make(friend, "POST", &format!("/chat/requests/{pair}/accept/"), Value::Null).await;
        let text = json!({"chat_room": pair, "text": "stays", "client_id": marked("once")});
        let message = self.make(person, "POST", "/chat/messages/", text).await["id"].clone();

        let organization = json!({"uname": MARK, "name": marked("organization")});
        let organization = self.make(person, "POST", "/chat/organizations/", organization).await;
        let group = json!({"users": [friend_id], "name": "Tea", "organization": organization["id"]});
        let group = self.make(person, "POST", "/chat/chatrooms/", group).await["id"].clone();
        let file = self.upload(person, &group, &format!("{MARK}.png")).await;
        let picture = json!({"chat_room": group, "text": "", "message_type": "image", "attach_id": file});
        self.make(person, "POST", "/chat/messages/", picture).await;
        let avatar = self.upload(person, &group, &format!("{MARK}-avatar.png")).await;
        let path = format!("/chat/chatrooms/{group}/");
        self.make(person, "PATCH", &path, json!({"avatar": avatar})).await;
        self.upload(person, &group, &format!("{MARK}-unsent.png")).await;

        // Somebody who did not answer, contacts, blocks in both directions.
        self.make(person, "POST", "/chat/chatrooms/", json!({"user_id": stranger_id})).await;
        let numbers = json!({"mobile_numbers": ["09120000002", "09120000003"]});
        self.make(person, "POST", "/contacts/lookup/", numbers).await;
        self.make(person, "POST", "/chat/blocks/", json!({"user_id": 1})).await;
        self.charge(person, json!({"amount": 5000, "description": marked("payment")})).await;
        let spend = json!({"amount": 1000, "description": marked("spend"), "order_id": "o"});
        let spend = self.gateway.client.post(self.gateway.at("/wallet/spend/")).json(&spend);
        let spend = spend.bearer_auth(&person.access).header("Idempotency-Key", "once");
        assert_eq!(Answer::of(spend).await.status, 201);
        Traces { group, pair, message }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_leaves_no_trace_and_takes_nothing_of_others() {
    let place = Place::open().await;
    let (friend, friend_id) = place.user("09120000002").await;
    let (stranger, stranger_id) = place.user("09120000003").await;
    let sent = place.code(NUMBER).await;
    let login = json!({"mobile_number": NUMBER, "code": sent, "device_name": format!("{MARK}-phone")});
    let person = place.gateway.post("/authenticate/", login).await.login();
    let id = place.make(&person, "GET", "/me/", Value::Null).await["id"].as_u64().expect("an id");
    let traces = place.live(&person, (&friend, friend_id), stranger_id).await;
    place.make(&stranger, "POST", "/chat/blocks/", json!({"user_id": id})).await;
    let others = place.upload(&friend, &traces.group, "tea.png").await;
    let picture =
        json!({"chat_room": traces.group, "text": "", "message_type": "image", "attach_id": others});
    place.make(&friend, "POST", "/chat/messages/", picture).await;
    let authorization = format!("Bearer {}", person.access);
    let url = place.gateway.at("/ws/");
    let mut socket = Socket::open(&url, &[("Authorization", &authorization)]).await.expect("open");
    socket.json_of("hello").await;
    assert!(place.count(MARK).await >= 10 && place.count(DIGITS).await >= 2, "the scan sees nothing");
    assert_eq!(place.files(), 4);

    // The session alone does not do it, and nothing is lost by accident.
    let erase = async |body: Value| place.ask(&person, "DELETE", "/me/", body).await;
    assert_eq!(code(&erase(json!({})).await), (400, "invalid_fields"));
    assert_eq!(code(&erase(json!({"code": "1", "password": "x"})).await), (400, "invalid_fields"));
    assert_eq!(code(&erase(json!({"password": "no password"})).await), (400, "invalid_fields"));
    assert_eq!(code(&erase(json!({"code": sent})).await), (409, "account_has_balance"));
    assert_eq!(code(&erase(json!({"code": sent, "forfeit": true})).await), (401, "otp_wrong"), "it is used");
    let fresh = place.code(NUMBER).await;
    let erased = erase(json!({"code": fresh, "forfeit": true})).await;
    assert_eq!((erased.status, erased.text.as_str()), (204, ""), "{erased:?}");

    // At once: no session, no socket, no account.
    assert_eq!(code(&erase(json!({"code": fresh})).await), (401, "user_not_found"));
    let refreshed = place.gateway.post("/token/refresh/", json!({"refresh": person.refresh})).await;
    assert_eq!(code(&refreshed), (401, "user_not_found"), "{refreshed:?}");
    socket.closed().await;
    place.wait_until_erased().await;
    assert_eq!((place.count(MARK).await, place.count(DIGITS).await), (0, 0));
    assert_eq!(place.files(), 1, "the friend's own");

    // What is the others' is there: rooms, messages, a file; the group has an owner.
    let room = place.make(&friend, "GET", &format!("/chat/chatrooms/{}/", traces.pair), Value::Null).await;
    assert_eq!(room["users"].as_array().map(Vec::len), Some(1), "{room}");
    let path = format!("/chat/messages/?chat_room={}", traces.pair);
    let page = place.make(&friend, "GET", &path, Value::Null).await;
    let message = &page["results"][0];
    assert_eq!((&message["id"], &message["text"]), (&traces.message, &json!("stays")));
    assert_eq!((&message["sender"]["id"], &message["sender"]["username"]), (&json!(id), &json!("")));
    let path = format!("/chat/chatrooms/{}/", traces.group);
    place.make(&friend, "PATCH", &path, json!({"name": "Coffee"})).await;
    let group = place.make(&friend, "GET", &path, Value::Null).await;
    assert_eq!((&group["organization"], &group["avatar"]), (&Value::Null, &Value::Null), "{group}");
    let path = format!("/chat/messages/?chat_room={}", traces.group);
    let page = place.make(&friend, "GET", &path, Value::Null).await;
    let links: Vec<bool> =
        page["results"].as_array().expect("a page").iter().map(|m| m["file_url"].is_string()).collect();
    assert_eq!(links, [true, false], "newest first: the friend's, then the person's");
    let path = "/chat/requests/";
    assert_eq!(place.make(&stranger, "GET", path, Value::Null).await["results"], json!([]));
    let blocks = place.make(&stranger, "GET", "/chat/blocks/", Value::Null).await;
    assert_eq!(blocks["results"], json!([]), "{blocks}");

    // Money is accounted for, under the account's number.
    let wallet = place.make(&place.staff, "GET", &format!("/staff/wallets/{id}/"), Value::Null).await;
    assert_eq!(wallet["balance"], 0, "{wallet}");
    let payments = place.make(&place.staff, "GET", &format!("/staff/payments/?user={id}"), Value::Null).await;
    let payment = &payments["results"][0];
    assert_eq!((&payment["amount"], &payment["description"]), (&json!(5000), &json!("")), "{payments}");
    let report = place.gateway.app.store.ledger_verify().await.expect("a report");
    assert_eq!(report.difference, None);

    // The number is a newcomer's.
    let (_, again) = place.user(NUMBER).await;
    assert_ne!(again, id);
    let log =
        place.make(&place.staff, "GET", &format!("/audit/?user={id}&event=user_erased"), Value::Null).await;
    assert_eq!(log["results"].as_array().map(Vec::len), Some(1), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_staff_erases_accounts_without_rights() {
    let place = Place::open().await;
    let (person, id) = place.user(NUMBER).await;
    let (other, other_id) = place.user("09120000002").await;
    let erase = async |login: &Login, id: u64, body: Value| {
        place.ask(login, "POST", &format!("/staff/users/{id}/erase/"), body).await
    };
    assert_eq!(code(&erase(&other, id, json!({})).await), (403, "permission_denied"));
    assert_eq!(code(&erase(&place.staff, 99, json!({})).await), (404, "not_found"));
    assert_eq!(code(&erase(&place.staff, 1, json!({})).await), (409, "account_has_rights"));

    let open = place.make(&person, "POST", "/payment/create/", json!({"amount": 5000})).await;
    assert_eq!(code(&erase(&place.staff, id, json!({})).await), (409, "account_has_open_payment"));
    let url = open["details"]["gateway_url"].as_str().expect("an address").to_owned();
    let back = Answer::of(place.gateway.client.post(url).form(&[("action", "pay")])).await;
    Answer::of(place.gateway.client.get(back.header("location"))).await;
    let hold = json!({"amount": 1000, "hold": true, "order_id": "o"});
    let hold = place.make(&person, "POST", "/wallet/spend/", hold).await;
    assert_eq!(code(&erase(&place.staff, id, json!({"forfeit": true})).await), (409, "account_has_hold"));
    place.make(&place.staff, "POST", &format!("/wallet/spend/{}/void/", hold["id"]), Value::Null).await;
    assert_eq!(code(&erase(&place.staff, id, json!({})).await), (409, "account_has_balance"));
    assert_eq!(erase(&place.staff, id, json!({"forfeit": true})).await.status, 204);
    assert_eq!(code(&erase(&place.staff, id, json!({})).await), (404, "not_found"));
    assert_eq!(place.ask(&person, "GET", "/me/", Value::Null).await.status, 401);
    let path = format!("/audit/?user={id}&event=user_erased_by_staff");
    let until = Instant::now() + PATIENCE;
    loop {
        let log = place.make(&place.staff, "GET", &path, Value::Null).await;
        if log["results"][0]["detail"] == "staff 1" {
            break;
        }
        assert!(Instant::now() < until, "{log}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    // A disabled account cannot erase itself, and the staff can.
    let identity = place.gateway.app.live().identity.clone();
    let reason = Reason::of_command();
    identity.user_set_active(&machine(), UserId(other_id), false, &reason).await.expect("stored");
    assert_eq!(erase(&place.staff, other_id, json!({})).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_erases_an_account_and_frees_its_name() {
    let place = Place::open().await;
    let register = json!({
        "username": MARK, "password": "9-horses-in-a-row", "password2": "9-horses-in-a-row",
        "email": format!("{MARK}@example.com"),
    });
    assert_eq!(place.gateway.post("/register/", register.clone()).await.status, 201);
    let login = json!({"username": MARK, "password": "9-horses-in-a-row"});
    let person = place.gateway.post("/login/", login.clone()).await.login();
    let erase = async |body: Value| place.ask(&person, "DELETE", "/me/", body).await;
    assert_eq!(code(&erase(json!({"code": "123456"})).await), (401, "otp_wrong"), "there is no number");
    assert_eq!(code(&erase(json!({"password": "8-horses"})).await), (400, "invalid_fields"));
    assert_eq!(erase(json!({"password": "9-horses-in-a-row"})).await.status, 204);
    place.wait_until_erased().await;
    assert_eq!(place.count(MARK).await, 0);
    assert_eq!(code(&place.gateway.post("/login/", login).await), (401, "no_active_account"));
    assert_eq!(place.gateway.post("/register/", register).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_a_stop_interrupts_is_finished_at_the_next_start() {
    let place = Place::open().await;
    let (friend, friend_id) = place.user("09120000002").await;
    let (person, _) = place.user(NUMBER).await;
    let traces = place.live(&person, (&friend, friend_id), 1).await;
    let fresh = place.code(NUMBER).await;
    let erased = place.ask(&person, "DELETE", "/me/", json!({"code": fresh, "forfeit": true})).await;
    assert_eq!(erased.status, 204, "{erased:?}");
    let Place { gateway, staff } = place;
    let dir = gateway.stop().await;
    let clock = std::sync::Arc::new(chelseru_domain::clock::SystemClock);
    let place = Place { gateway: TestGateway::start_in(dir, clock).await, staff };
    place.wait_until_erased().await;
    assert_eq!((place.count(MARK).await, place.count(DIGITS).await, place.files()), (0, 0, 0));
    let group = place.make(&friend, "GET", &format!("/chat/chatrooms/{}/", traces.group), Value::Null).await;
    assert_eq!(group["users"].as_array().map(Vec::len), Some(1), "{group}");
}

/// Every file of an archive by name, decompressed.
fn unpacked(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(archive)).expect("an archive");
    let mut files = BTreeMap::new();
    for at in 0..zip.len() {
        let mut file = zip.by_index(at).expect("a file");
        let name = file.name().expect("a name").into_owned();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("its bytes");
        files.insert(name, bytes);
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_everything_of_ones_own_and_nothing_of_others() {
    let place = Place::open().await;
    let (friend, friend_id) = place.user("09120000002").await;
    let names =
        json!({"first_name": "Friendlyname", "last_name": "Friendlyname", "email": "friendly@example.com"});
    place.make(&friend, "PATCH", "/me/", names).await;
    let (person, id) = place.user(NUMBER).await;
    let traces = place.live(&person, (&friend, friend_id), 1).await;
    let theirs = json!({"chat_room": traces.pair, "text": "friendly words"});
    place.make(&friend, "POST", "/chat/messages/", theirs).await;
    place.upload(&friend, &traces.group, "friendly.png").await;

    let export = async |login: &Login, path: &str| {
        let request = place.gateway.client.get(place.gateway.at(path)).bearer_auth(&login.access);
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.headers().clone(), answer.bytes().await.expect("a body"))
    };
    place.gateway.app.live().identity.audit().flush().await;
    let (status, headers, bytes) = export(&person, "/me/export/").await;
    assert_eq!((status, &headers["content-type"].to_str().expect("text")), (200, &"application/zip"));
    let files = unpacked(&bytes);
    let json =
        |name: &str| serde_json::from_slice::<Value>(&files[name]).unwrap_or_else(|_| panic!("{name}"));
    let lines = |name: &str| {
        let text = std::str::from_utf8(&files[name]).expect("text");
        let parsed = text.lines().map(|line| serde_json::from_str(line).expect("an object"));
        parsed.collect::<Vec<Value>>()
    };
    assert_eq!((&json("about.json")["complete"], &json("about.json")["account"]), (&json!(true), &json!(id)));
    assert_eq!(json("account.json")["mobile_number"], NUMBER);
    assert_eq!(json("sessions.json").as_array().map(Vec::len), Some(1));
    assert_eq!(json("blocks.json"), json!([1]));
    assert_eq!(json("organizations.json")[0]["uname"], MARK);
    let texts: Vec<Value> = lines("messages.jsonl").iter().map(|message| message["text"].clone()).collect();
    assert!(texts.contains(&json!("stays")) && texts.len() == 2, "{texts:?}");
    let names: Vec<Value> = lines("files.jsonl").iter().map(|file| file["path"].clone()).collect();
    assert_eq!(names.len(), 3);
    for name in &names {
        assert!(files[name.as_str().expect("a path")].starts_with(b"\x89PNG"), "{name}");
    }
    assert_eq!(lines("payments.jsonl")[0]["description"], format!("{MARK}-payment"));
    assert_eq!(lines("spends.jsonl")[0]["amount"], 10_000);
    assert_eq!(json("wallet.json")["balance"], 40_000);
    assert_eq!(lines("wallet_entries.jsonl").len(), 2);
    assert!(!lines("sms.jsonl").is_empty() && !lines("audit.jsonl").is_empty());
    for (name, bytes) in &files {
        let text = String::from_utf8_lossy(bytes).to_lowercase();
        assert!(!text.contains("friendly") && !text.contains("9120000002"), "{name}: {text}");
        assert!(!name.contains("friendly"), "{name}");
    }

    // Others get it by the staff only, which is on record; and not without end.
    let path = format!("/staff/users/{id}/export/");
    assert_eq!(export(&friend, &path).await.0, 403);
    assert_eq!(export(&place.staff, "/staff/users/99/export/").await.0, 404);
    let (status, _, bytes) = export(&place.staff, &path).await;
    assert_eq!((status, unpacked(&bytes).len()), (200, files.len()));
    let audit = format!("/audit/?user={id}&event=user_exported");
    place.gateway.app.live().identity.audit().flush().await;
    let log = place.make(&place.staff, "GET", &audit, Value::Null).await;
    assert_eq!(log["results"][0]["detail"], "staff 1", "{log}");
    for _ in 2..5 {
        assert_eq!(export(&person, "/me/export/").await.0, 200);
    }
    let limited = place.ask(&person, "GET", "/me/export/", Value::Null).await;
    assert_eq!(code(&limited), (429, "exports_limited"));
    assert!(!limited.header("Retry-After").is_empty());
}
