//! A move from django-chelseru: its own database, filled by the package's own views, and made-up ones with its traps.

use std::path::{Path, PathBuf};

use chelseru_domain::operator::audit::AuditQuery;
use chelseru_store::chat::RoomId;
use chelseru_store::{Account, Store, StoreError, StoreOptions, UserId};
use chelseru_tests::django::{Size, generate, members_of, room_of};
use chelseru_tests::process::{Served, binary, run};
use chelseru_tests::{Answer, client, folder, root};
use rusqlite::Connection;
use serde_json::{Value, json};

/// The database of version 3.1.2, its media and its tokens.
pub(crate) fn original() -> PathBuf {
    root().join("tests/contract/django-3.1.2")
}

fn tokens() -> Value {
    let text = std::fs::read_to_string(original().join("tokens.json")).expect("the tokens");
    serde_json::from_str(&text).expect("JSON")
}

/// A token of a user, by its name in the file.
fn token(user: u64, name: &str) -> String {
    let tokens = tokens();
    let of = tokens["tokens"].as_array().expect("a list").iter().find(|one| one["user_id"] == user);
    of.expect("the user")[name].as_str().expect("a token").to_owned()
}

/// A folder whose configuration accepts the original's tokens.
pub(crate) fn new_folder() -> tempfile::TempDir {
    let dir = folder(
        "[auth]\nmethod = [\"OTP\", \"PASSWD\"]\ngroups = \"any\"\nlegacy_secret = { file = \"old.key\" }\n\
         legacy_until = \"2120-01-01\"\n",
    );
    let secret = tokens()["secret_key"].as_str().expect("a secret").to_owned();
    std::fs::write(dir.path().join("old.key"), format!("{secret}\n")).expect("a file");
    dir
}

/// Imports a database. Whether it worked, what it said, and the report when there is one.
pub(crate) fn import(dir: &Path, database: &Path, more: &[&str]) -> (bool, String, Value) {
    let source = format!("sqlite:{}", database.display());
    import_from(dir, &source, more)
}

pub(crate) fn import_from(dir: &Path, source: &str, more: &[&str]) -> (bool, String, Value) {
    let media = original().join("media");
    let media = media.to_str().expect("UTF-8");
    let fixed = ["import", "django", source, "--media", media, "--unit", "IRT", "--report", "report.json"];
    let _ = std::fs::remove_file(dir.join("report.json"));
    let output = run(dir, &[&fixed[..], more].concat());
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let report = std::fs::read(dir.join("report.json")).ok();
    let report = report.map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).expect("JSON"));
    (output.status.success(), text, report)
}

/// The imported store, once nobody else has it.
fn store(dir: &Path) -> Store {
    loop {
        match Store::open(dir.join("data/db"), StoreOptions::default()) {
            Err(StoreError::Locked { .. }) => std::thread::yield_now(),
            opened => break opened.expect("a store"),
        }
    }
}

/// A copy of the original's database that a test may change.
fn changed(dir: &Path, sql: &str) -> PathBuf {
    let path = dir.join("changed.sqlite3");
    std::fs::copy(original().join("db.sqlite3"), &path).expect("copied");
    let mut permissions = std::fs::metadata(&path).expect("a file").permissions();
    #[allow(clippy::permissions_set_readonly_false)]
    permissions.set_readonly(false);
    std::fs::set_permissions(&path, permissions).expect("writable");
    let connection = Connection::open(&path).expect("a database");
    connection.execute_batch(&format!("PRAGMA foreign_keys = OFF; {sql}")).expect("changed");
    path
}

pub(crate) fn rows(report: &Value, table: &str) -> (u64, u64) {
    let tables = report["tables"].as_array().expect("tables");
    let table = tables.iter().find(|one| one["table"] == table).unwrap_or_else(|| panic!("no {table}"));
    (table["there"].as_u64().expect("a number"), table["here"].as_u64().expect("a number"))
}

pub(crate) fn warning<'a>(report: &'a Value, kind: &str) -> Vec<&'a str> {
    let warnings = report["warnings"].as_array().expect("warnings");
    let of = warnings.iter().filter(|one| one["kind"].as_str().expect("a kind").starts_with(kind));
    of.flat_map(|one| one["rows"].as_array().expect("rows")).map(|row| row.as_str().expect("text")).collect()
}

async fn get(url: &str, path: &str, token: &str) -> Answer {
    let request = client().get(format!("{url}{path}"));
    Answer::of(request.header("authorization", format!("Bearer {token}"))).await
}

async fn post(url: &str, path: &str, body: Value) -> Answer {
    Answer::of(client().post(format!("{url}{path}")).json(&body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_originals_database_is_imported_whole_and_nobody_is_logged_out() {
    let dir = new_folder();
    let (at, database) = (dir.path(), original().join("db.sqlite3"));

    // A look first: nothing is made but the report.
    let (done, text, report) = import(at, &database, &["--allow-debt", "--dry-run"]);
    assert!(done && report["dry_run"] == true && !at.join("data/db").exists(), "{text}");
    let digest = report["source_digest"].clone();

    // A debt is not booked unasked, and a refused import leaves a store that a gateway starts on.
    let (done, text, _) = import(at, &database, &[]);
    assert!(!done && text.contains("drfchelseru_wallet 2: user 2 owes 125 rial"), "{text}");
    assert!(store(at).is_unused().await.expect("read") && !at.join("data/import.part").exists());

    let secret = format!("file:{}", at.join("old.key").display());
    let (done, text, report) = import(at, &database, &["--allow-debt", "--secret", &secret]);
    assert!(done, "{text}");
    assert_eq!(report["source_digest"], digest);
    for (table, there, here) in [
        ("auth_user", 10, 10),
        ("drfchelseru_user", 6, 6),
        ("drfchelseru_wallet", 6, 6),
        ("drfchelseru_payment", 6, 5),
        ("drfchelseru_organization", 1, 1),
        ("drfchelseru_chatroom", 3, 3),
        ("drfchelseru_chatroom_users", 7, 7),
        ("drfchelseru_chatroom_banneds", 1, 1),
        ("drfchelseru_chatroom_pinned_for", 1, 1),
        ("drfchelseru_messagechat", 6, 6),
        ("drfchelseru_attachfile", 1, 1),
        ("drfchelseru_messagesms", 1, 1),
        ("drfchelseru_otpcode", 1, 0),
        ("drfchelseru_session", 1, 0),
        ("auth_group", 1, 0),
    ] {
        assert_eq!(rows(&report, table), (there, here), "{table}");
    }
    let money = &report["money"];
    assert_eq!((&money["wallets_there"]["IRT"], &money["adds_up"]), (&json!("1988.1"), &json!(true)));
    assert_eq!(
        (&money["wallets_here"]["IRR"], &money["debts_here"]["IRR"]),
        (&json!("20006"), &json!("125"))
    );
    let user = &report["users"][0];
    assert_eq!(
        (&user["user"], &user["wallet_there"], &user["difference"]),
        (&json!(1), &json!("2000.6"), &json!("0"))
    );
    assert_eq!(report["left_out"].as_array().map(Vec::len), Some(1), "the negative payment");
    assert_eq!(warning(&report, "accounts of one number").len(), 1);
    assert_eq!(warning(&report, "user names that look alike").len(), 2);
    assert_eq!(warning(&report, "user names that could not be registered").len(), 2);

    let (done, text, _) = import(at, &database, &["--allow-debt"]);
    assert!(!done && text.contains("the store is not empty"), "{text}");
    {
        let store = store(at);
        for (user, rial) in [(1, 20_006), (2, 0), (6, 0)] {
            assert_eq!(store.wallet_balance(UserId(user)).await.expect("read").available, rial);
        }
        assert_eq!(store.account_balance(&Account::Debt(UserId(2))).await.expect("read"), -125);
        assert!(store.ledger_verify().await.expect("read").difference.is_none());
        let imported = AuditQuery {
            event: Some("store_imported".to_owned()),
            limit: 10,
            look_max: 1000,
            ..AuditQuery::default()
        };
        let entries = store.audit_page(&imported).await.expect("read").entries;
        let [entry] = entries.as_slice() else { panic!("{entries:?}") };
        assert!(entry.draft.detail.contains(report["source_digest"].as_str().expect("text")), "{entry:?}");
        let kept = store.password_of(UserId(7)).await.expect("read").expect("a password");
        assert!(kept.starts_with("pbkdf2_sha256$1000000$"));
    }

    let served = Served::start(at);
    let url = &served.url;
    let login = post(url, "/login/", json!({"username": "ali", "password": "S3cret-pass-9"})).await;
    assert_eq!(login.status, 200, "{}", login.text);
    // Another user, who has the same password.
    let other = post(url, "/login/", json!({"username": "Ali", "password": "S3cret-pass-9"})).await.login();
    assert_eq!(get(url, "/me/", &other.access).await.body["id"], 8);
    let wrong = post(url, "/login/", json!({"username": "Ali", "password": "S3cret-pass-8"})).await;
    assert_eq!(wrong.status, 401, "{}", wrong.text);
    tokens_of_the_original(url).await;
    history(url).await;
    files(url).await;
    served.kill();

    let store = store(at);
    let kept = store.password_of(UserId(7)).await.expect("read").expect("a password");
    assert!(kept.starts_with("$argon2id$"), "{kept}");
    assert!(store.user_by_name("G0-09121110077").await.expect("read").is_some());
}

/// Valid tokens go on, each in a session that can be ended; the others do not.
async fn tokens_of_the_original(url: &str) {
    for (user, name) in [(1, "G0-09121110001"), (7, "ali")] {
        let me = get(url, "/me/", &token(user, "access")).await;
        assert_eq!((me.status, &me.body["username"], &me.body["id"]), (200, &json!(name), &json!(user)));
        assert_eq!(get(url, "/me/", &token(user, "expired_access")).await.status, 401);
    }
    let inactive = get(url, "/me/", &token(3, "access")).await;
    assert_eq!((inactive.status, &inactive.body["code"]), (401, &json!("user_inactive")));

    let access = token(7, "access");
    assert_eq!(post(url, "/token/verify/", json!({"token": access})).await.status, 200);
    let sessions = get(url, "/sessions/", &access).await;
    let sessions = sessions.body.as_array().expect("a list");
    assert_eq!(sessions.len(), 2, "one of the password, one of the token: {sessions:?}");
    assert_eq!(sessions.iter().filter(|session| session["current"] == true).count(), 1);

    let refresh = token(7, "refresh");
    let pair = post(url, "/token/refresh/", json!({"refresh": refresh})).await;
    let pair = pair.login();
    assert_eq!(get(url, "/me/", &pair.access).await.status, 200);
    assert_eq!(post(url, "/token/refresh/", json!({"refresh": refresh})).await.status, 401, "once");
    assert_eq!(post(url, "/token/refresh/", json!({"refresh": pair.refresh})).await.status, 200);
    assert_eq!(post(url, "/token/refresh/", json!({"refresh": token(3, "refresh")})).await.status, 401);

    let logout = client().post(format!("{url}/logout/")).header("authorization", format!("Bearer {access}"));
    assert_eq!(Answer::of(logout).await.status, 200);
    assert_eq!(get(url, "/me/", &access).await.status, 401, "an ended token opens no second session");
    assert_eq!(get(url, "/me/", &access).await.status, 401);
}

/// Rooms and messages are as they were, under their old ids and cursors too.
async fn history(url: &str) {
    let access = token(1, "access");
    let rooms = get(url, "/chat/chatrooms/", &access).await;
    let ids: Vec<u64> =
        rooms.body.as_array().expect("rooms").iter().filter_map(|room| room["id"].as_u64()).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    let group = get(url, "/chat/chatrooms/3/", &access).await.body;
    assert_eq!((&group["name"], &group["owner"], &group["status"]), (&json!("گروه"), &json!(1), &json!(1)));
    assert_eq!(group["banneds"][0]["id"], 3);

    let page = get(url, "/chat/messages/?chat_room=1", &access).await.body;
    let messages = page["results"].as_array().expect("messages");
    let texts: Vec<&str> = messages.iter().filter_map(|message| message["text"].as_str()).collect();
    assert_eq!(texts, ["loc", "پیام 4", "پیام 3", "پیام 2", "پیام 1", "پیام 0"]);
    assert_eq!((&messages[0]["lat"], &messages[0]["message_type"]), (&json!(35.7), &json!("location")));
    assert_eq!(messages[0]["created_at"], "2026-11-26T15:51:50.090040Z");

    let old = get(url, "/chat/messages/3/?chat_room=1", &access).await;
    assert_eq!((old.status, &old.body["text"]), (200, &json!("پیام 2")));
    assert_eq!(get(url, "/chat/messages/99/?chat_room=1", &access).await.status, 404);
    // The original's cursor after its message 3, the way back from it, and one past a tie.
    let time = "2026-11-26+15%3A51%3A49.725620%2B00%3A00";
    for (query, expected) in [
        (format!("p={time}"), vec!["پیام 1", "پیام 0"]),
        (format!("r=1&p={time}"), vec!["loc", "پیام 4", "پیام 3"]),
        (format!("o=1&p={time}"), vec!["پیام 0"]),
    ] {
        let cursor = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &query);
        let query = reqwest_query(&cursor);
        let page = get(url, &format!("/chat/messages/?chat_room=1&cursor={query}"), &access).await.body;
        let texts: Vec<&str> = page["results"]
            .as_array()
            .expect("messages")
            .iter()
            .filter_map(|one| one["text"].as_str())
            .collect();
        assert_eq!(texts, expected, "{query}");
    }
}

fn reqwest_query(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The old path of a file is for members.
async fn files(url: &str) {
    let base = url.trim_end_matches("/drfchelseru");
    let path = "/media/uploads/chat_files/2026/11/26/%D8%B9%DA%A9%D8%B3_%D9%85%D9%86.jpg";
    let bytes =
        std::fs::read(original().join("media/uploads/chat_files/2026/11/26/عکس_من.jpg")).expect("a file");
    let request = |access: Option<String>| {
        let request = client().get(format!("{base}{path}"));
        match access {
            Some(access) => request.header("authorization", format!("Bearer {access}")),
            None => request,
        }
    };
    let got = request(Some(token(1, "access"))).send().await.expect("an answer");
    assert_eq!(got.status(), 200);
    assert_eq!(got.bytes().await.expect("bytes"), bytes);
    assert_eq!(request(None).send().await.expect("an answer").status(), 401);
    let stranger =
        post(url, "/login/", json!({"username": "ali", "password": "S3cret-pass-9"})).await.login();
    assert_eq!(request(Some(stranger.access)).send().await.expect("an answer").status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_a_sentence_with_table_and_row_and_leaves_nothing() {
    let dir = new_folder();
    let at = dir.path();
    let refused = async |database: &Path, expected: &str| {
        let (done, text, _) = import(at, database, &["--allow-debt"]);
        assert!(!done && text.contains(expected), "expected {expected:?}, got: {text}");
        assert!(store(at).is_unused().await.expect("read"), "{expected}");
        assert!(!at.join("data/import.part").exists() && !at.join("data/uploads").exists(), "{expected}");
    };
    std::fs::write(at.join("no.sqlite3"), "this is a text and no database at all, however long it is")
        .expect("a file");
    refused(&at.join("no.sqlite3"), "is no SQLite database").await;
    refused(&at.join("missing.sqlite3"), "there is no such file").await;
    std::fs::write(at.join("empty.sqlite3"), "").expect("a file");
    refused(&at.join("empty.sqlite3"), "is no database of django-chelseru").await;
    for (sql, expected) in [
        (
            "DROP TABLE drfchelseru_wallet",
            "the table drfchelseru_wallet is missing; only databases of version 3.1.2",
        ),
        (
            "ALTER TABLE drfchelseru_payment DROP COLUMN pay_mode; DELETE FROM django_migrations WHERE name LIKE '002%'",
            "drfchelseru_payment has no column pay_mode; only databases of version 3.1.2 are read, whose last migration \
             is 0027_payment_frontend_callback_url (the last one here is 0019_",
        ),
        (
            "UPDATE drfchelseru_messagechat SET sender_id = 99 WHERE id = 5",
            "drfchelseru_messagechat 5: sender_id is 99, but there is no user with this id",
        ),
        (
            "UPDATE drfchelseru_attachfile SET chatroom_id = 88",
            "drfchelseru_attachfile 1: chatroom_id is 88, but there is no room with this id",
        ),
        (
            "UPDATE drfchelseru_chatroom SET organization_id = 7 WHERE id = 2",
            "drfchelseru_chatroom 2: organization_id is 7, but there is no organisation with this id",
        ),
        (
            "UPDATE drfchelseru_messagechat SET text = CAST(x'ff41' AS TEXT) WHERE id = 4",
            "drfchelseru_messagechat 4: text is not UTF-8 text",
        ),
        (
            "UPDATE drfchelseru_wallet SET amount = 'much' WHERE id = 3",
            "drfchelseru_wallet 3: amount is \"much\", which is not a number",
        ),
        (
            "UPDATE auth_user SET date_joined = 'yesterday' WHERE id = 2",
            "auth_user 2: date_joined is \"yesterday\", which is no time since 1970",
        ),
        (
            "UPDATE auth_user SET is_active = 2 WHERE id = 6",
            "auth_user 6: is_active is 2, which is no truth value",
        ),
    ] {
        refused(&changed(at, sql), expected).await;
    }
    let (done, text, _) = import(at, &original().join("db.sqlite3"), &["--allow-debt"]);
    assert!(done, "the same folder takes a good one afterwards: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_accounts_of_a_number_are_merged_when_asked_to() {
    let dir = new_folder();
    let at = dir.path();
    let database = changed(
        at,
        "UPDATE drfchelseru_wallet SET amount = 10 WHERE user_id = 5; UPDATE drfchelseru_wallet SET amount = 7 WHERE \
         user_id = 6; UPDATE drfchelseru_wallet SET amount = 0 WHERE user_id = 2; UPDATE drfchelseru_messagechat SET \
         sender_id = 5 WHERE id = 2; INSERT INTO drfchelseru_chatroom_users (chatroom_id, user_id) VALUES (3, 5), (3, 6)",
    );
    let (done, text, report) = import(at, &database, &["--merge-numbers"]);
    assert!(done, "{text}");
    assert_eq!(rows(&report, "auth_user"), (10, 9));
    assert_eq!(rows(&report, "drfchelseru_chatroom_users"), (9, 8));
    let store = store(at);
    assert_eq!(store.wallet_balance(UserId(6)).await.expect("read").available, 170);
    assert!(store.user_get(UserId(5)).await.expect("read").is_none());
    let message = store.chat_message(RoomId(1), 2).await.expect("read").expect("a message");
    assert_eq!(message.sender, UserId(6));
    assert!(store.ledger_verify().await.expect("read").difference.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_import_leaves_nothing_at_whatever_moment() {
    let dir = new_folder();
    let at = dir.path();
    let source = format!("sqlite:{}", original().join("db.sqlite3").display());
    let media = original().join("media");
    let mut outcomes = [0, 0];
    // Later and later, until one ends by itself.
    for step in 0.. {
        let mut child = std::process::Command::new(binary())
            .args(["import", "django", &source, "--unit", "IRT", "--allow-debt", "--media"])
            .arg(&media)
            .current_dir(at)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the command starts");
        std::thread::sleep(std::time::Duration::from_millis(step * step * 3));
        let ended = child.try_wait().expect("a child").is_some();
        child.kill().expect("killed");
        child.wait().expect("ended");
        let whole = {
            let store = store(at);
            let whole = !store.is_unused().await.expect("read");
            assert_eq!(store.user_get(UserId(7)).await.expect("read").is_some(), whole);
            assert_eq!(store.chat_last_seq(RoomId(1)).await.expect("read"), 6 * u64::from(whole));
            assert!(store.ledger_verify().await.expect("read").difference.is_none());
            whole
        };
        outcomes[usize::from(whole)] += 1;
        if whole {
            let served = Served::start(at);
            served.kill();
            assert!(!at.join("data/import.part").exists() && at.join("data/uploads/chat_files").exists());
            break;
        }
        assert!(!ended, "an import that ends by itself is whole");
        // A gateway starts on what is left, which is nothing.
        if step % 8 == 7 {
            Served::start(at).kill();
            assert!(!at.join("data/import.part").exists() && !at.join("data/uploads/chat_files").exists());
        }
    }
    assert!(outcomes[0] > 3, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_database_keeps_every_message_in_its_place() {
    let dir = new_folder();
    let size = Size { users: 300, messages: 4000, payments: 700 };
    let database = dir.path().join("large.sqlite3");
    generate(&database, size);
    let (done, text, report) = import(dir.path(), &database, &[]);
    assert!(done, "{text}");
    assert_eq!(rows(&report, "auth_user"), (300, 300));
    assert_eq!(rows(&report, "drfchelseru_messagechat"), (4000, 4000));
    assert_eq!(report["money"]["adds_up"], true);
    assert!(report["users"].as_array().expect("users").iter().all(|user| user["difference"] == "0"));

    let store = store(dir.path());
    let ledger = store.ledger_verify().await.expect("read");
    let charged = (1..=size.users).filter(|user| size.wallet(*user) > 0).count() as u64;
    assert_eq!((ledger.difference, ledger.postings, ledger.payments), (None, charged, 700));
    for user in 1..=size.users {
        let balance = store.wallet_balance(UserId(user)).await.expect("read").available;
        assert_eq!(balance, size.wallet(user) * 10, "user {user}");
    }
    for room in 1..=size.rooms() {
        // Times rise with ids, so the numbers of a room are the order of its ids.
        let ids: Vec<u64> = (1..=size.messages).filter(|message| room_of(size, *message) == room).collect();
        let last = store.chat_last_seq(RoomId(room)).await.expect("read");
        assert_eq!(last, ids.len() as u64, "room {room}");
        for (seq, id) in (1..).zip(&ids).step_by(7) {
            assert_eq!(store.chat_message_by_old_id(*id).await.expect("read"), Some((RoomId(room), seq)));
            let message = store.chat_message(RoomId(room), seq).await.expect("read").expect("a message");
            assert!(message.body.text.starts_with(&format!("پیام شماره {id} ")), "{id}");
        }
        for user in members_of(size, room).into_iter().map(UserId) {
            let summary = store.chat_summary(RoomId(room), user).await.expect("read").expect("a member");
            let recount = store.chat_unread_recount(RoomId(room), user).await.expect("read");
            assert_eq!(recount, Some(summary.unread), "room {room}, user {user}");
        }
    }
}
