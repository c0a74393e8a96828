//! Operator work on accounts and its traces: the `user` command on a store and through a gateway, the audit log, and
//! who a proxy's client is.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::clock::SystemClock;
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::SessionsEnded;
use chelseru_domain::operator::audit::{AuditEvent, AuditKind};
use chelseru_tests::{Answer, Login, TestGateway, folder, process};
use serde_json::{Value, json};

const BOTH: &str = "[auth]\nmethod = [\"OTP\", \"PASSWD\"]\n";

/// Runs `chelseru user` successfully; returns its standard output.
fn user(dir: &std::path::Path, arguments: &[&str]) -> String {
    let output = process::run(dir, &[&["user"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Runs `chelseru user` to a failure; returns its standard error.
fn user_fails(dir: &std::path::Path, arguments: &[&str]) -> String {
    let output = process::run(dir, &[&["user"], arguments].concat());
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

async fn login(gateway: &TestGateway, name: &str, password: &str) -> Answer {
    gateway.post("/login/", json!({"username": name, "password": password})).await
}

/// A superuser created by command and logged in.
async fn superuser(gateway: &TestGateway) -> Login {
    let made = gateway.app.live();
    let password = chelseru_domain::login::password::Password::new("kavir darya 7");
    made.identity.superuser_create(&chelseru_tests::machine(), "root", &password, "").await.expect("made");
    login(gateway, "root", "kavir darya 7").await.login()
}

async fn audit(gateway: &TestGateway, access: &str, query: &str) -> Answer {
    gateway.app.live().identity.audit().flush().await;
    gateway.get(&format!("/audit/{query}"), Some(access)).await
}

fn events(answer: &Answer) -> Vec<&str> {
    let results = answer.body["results"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
    results.iter().map(|entry| entry["event"].as_str().expect("a word")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_command_works_on_the_store_and_through_a_gateway_alike() {
    let dir = folder(BOTH);
    let made = user(dir.path(), &["create-superuser", "root", "--email", "root@example.com"]);
    let password = made.split_whitespace().last().expect("a password").to_owned();
    assert!(user_fails(dir.path(), &["create-superuser", "root"]).contains("already exists"));
    assert!(user_fails(dir.path(), &["show", "nobody"]).contains("no user \"nobody\""));
    assert!(
        user_fails(dir.path(), &["create-superuser", "x", "--email", "nope"]).contains("not a mail address")
    );

    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    let dir = gateway.dir.path().to_owned();
    let root = login(&gateway, "root", &password).await.login();
    let me = gateway.get("/me/", Some(&root.access)).await.body;
    assert_eq!((&me["is_superuser"], &me["is_staff"]), (&json!(true), &json!(true)));

    // The gateway owns the store now, so the same commands go through it.
    let phone = gateway.login("09120004001").await;
    let mut ended = gateway.app.live().identity.sessions_ended();
    let list = user(&dir, &["list"]);
    assert!(list.contains("root") && list.contains("superuser") && list.contains("09120004001"), "{list}");
    let shown: Value = serde_json::from_str(&user(&dir, &["show", "0912 000 4001", "--json"])).expect("JSON");
    assert_eq!(shown["username"], "G0-09120004001");
    user(&dir, &["disable", "09120004001"]);
    assert_eq!(ended.try_recv().expect("announced"), SessionsEnded::All(UserId(2)));
    let refused = gateway.get("/me/", Some(&phone.access)).await;
    assert_eq!((refused.status, &refused.body["code"]), (401, &json!("user_inactive")));
    let refreshed = gateway.post("/token/refresh/", json!({"refresh": phone.refresh})).await;
    assert_eq!(refreshed.status, 401);
    user(&dir, &["enable", "2"]);
    assert_eq!(gateway.get("/me/", Some(&phone.access)).await.status, 401, "what ended stays ended");
    gateway.login("09120004001").await;

    let made = user(&dir, &["set-password", "root"]);
    let next = made.split_whitespace().last().expect("a password");
    assert_eq!(login(&gateway, "root", &password).await.status, 401);
    assert_eq!(gateway.get("/me/", Some(&root.access)).await.status, 401);
    login(&gateway, "root", next).await.login();
    assert!(user_fails(&dir, &["show", "nobody"]).contains("no user \"nobody\""));

    let dir = gateway.stop().await;
    let list: Vec<Value> = user(dir.path(), &["list", "--json"])
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(list.len(), 2);
    assert!(list.iter().all(|user| user["is_active"] == true), "{list:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_route_wants_the_token_of_the_data_folder() {
    let gateway = TestGateway::start("").await;
    let file = gateway.dir.path().join("data/operator.token");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).expect("written").permissions().mode() & 0o777, 0o600);
    }
    let door: Value = serde_json::from_str(&std::fs::read_to_string(&file).expect("read")).expect("JSON");
    let token = door["token"].as_str().expect("a token").to_owned();
    let ask = async |token: Option<&str>, body: Value| {
        let mut request = gateway.client.post(gateway.at("/operator/users/")).json(&body);
        if let Some(token) = token {
            request = request.header("x-operator-token", token);
        }
        Answer::of(request).await
    };
    let list = || json!({"command": "list", "after": null});
    assert_eq!(ask(Some(&token), list()).await.status, 200);
    for wrong in [None, Some(""), Some("0"), Some(&token[1..])] {
        assert_eq!(ask(wrong, list()).await.status, 403, "{wrong:?}");
    }
    for body in [json!({}), json!({"command": "drop"}), json!({"command": "list", "x": 1})] {
        assert_eq!(ask(Some(&token), body).await.status, 400);
    }
    // A restart generates a new one.
    let dir = gateway.stop().await;
    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    let file = gateway.dir.path().join("data/operator.token");
    let door: Value = serde_json::from_str(&std::fs::read_to_string(&file).expect("read")).expect("JSON");
    assert_ne!(door["token"], token.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_read_what_happened_page_by_page() {
    let gateway = TestGateway::start(BOTH).await;
    let phone = gateway.login("09120004002").await;
    let number = "09120004003";
    gateway.post("/otp/send/", json!({"mobile_number": number})).await;
    for _ in 0..6 {
        gateway.post("/authenticate/", json!({"mobile_number": number, "code": "x"})).await;
    }
    login(&gateway, "G0-09120004003", "a wrong one").await;
    let root = superuser(&gateway).await;
    let first = gateway.post("/token/refresh/", json!({"refresh": phone.refresh})).await.login();
    let second = gateway.post("/token/refresh/", json!({"refresh": first.refresh})).await.login();
    gateway.post("/token/refresh/", json!({"refresh": phone.refresh})).await;
    drop(second);

    let refused = audit(&gateway, &gateway.login("09120004004").await.access, "").await;
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("permission_denied")));
    assert_eq!(gateway.get("/audit/", None).await.status, 401);

    let all = audit(&gateway, &root.access, "").await;
    assert_eq!(
        events(&all),
        [
            "login",
            "otp_sent",
            "refresh_reused",
            "login",
            "superuser_created",
            "login_failed",
            "otp_failed",
            "otp_burned",
            "otp_failed",
            "otp_failed",
            "otp_failed",
            "otp_failed",
            "otp_sent",
            "login",
            "otp_sent",
            "config_loaded",
            "key_created",
        ]
    );
    for secret in ["09120004003", "9120004003", "a wrong one", "argon2", &root.access] {
        assert!(!all.text.contains(secret), "{secret}");
    }
    assert_eq!((&all.body["next"], &all.body["previous"]), (&Value::Null, &Value::Null));
    let burned = audit(&gateway, &root.access, "?event=otp_burned").await;
    let entry = &burned.body["results"][0];
    assert_eq!((&entry["ip_address"], &entry["subject"]), (&json!("127.0.0.1"), &json!("0912***4003")));
    assert_eq!(events(&audit(&gateway, &root.access, "?event=login&user=1").await), ["login"]);
    assert_eq!(audit(&gateway, &root.access, "?user=x").await.status, 400);
    let invalid = audit(&gateway, &root.access, "?cursor=nonsense").await;
    assert_eq!((invalid.status, &invalid.body["detail"]), (404, &json!("Invalid cursor")));

    // Three pages, forward and back.
    for _ in 0..120 {
        gateway.app.audit(AuditEvent::new(AuditKind::KeyRevoked));
    }
    let ids = |page: &Answer| {
        let results = page.body["results"].as_array().expect("a list").clone();
        results.iter().map(|entry| entry["id"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    let follow = async |page: &Answer, key: &str| {
        let url = page.body[key].as_str().unwrap_or_else(|| panic!("no {key}: {page:?}")).to_owned();
        Answer::of(gateway.client.get(url).bearer_auth(&root.access)).await
    };
    let one = audit(&gateway, &root.access, "?event=key_revoked").await;
    let two = follow(&one, "next").await;
    let three = follow(&two, "next").await;
    assert_eq!((ids(&one).len(), ids(&two).len(), ids(&three).len()), (50, 50, 20));
    assert!([ids(&one), ids(&two), ids(&three)].concat().is_sorted_by(|one, next| *one == next + 1));
    assert_eq!(ids(&follow(&three, "previous").await), ids(&two));
    assert_eq!(ids(&follow(&two, "previous").await), ids(&one));
    assert_eq!(ids(&follow(&follow(&three, "previous").await, "next").await), ids(&three));

    // The log survives a restart.
    let dir = gateway.stop().await;
    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    assert_eq!(events(&audit(&gateway, &root.access, "?event=refresh_reused").await), ["refresh_reused"]);
}

/// Causes every recorded event and reads it back with its masked subject.
#[tokio::test(flavor = "multi_thread")]
async fn every_security_event_is_recorded() {
    let config = format!(
        "{BOTH}password_attempts_max = 2\npassword_lockout_seconds = 60\nsessions_per_user_max = 2\n\
         otp_attempts_max = 1\n[sms.shield]\nnumber_gap_seconds = 0\n"
    );
    let gateway = TestGateway::start(&config).await;
    let dir = gateway.dir.path().to_owned();
    let made = user(&dir, &["create-superuser", "root"]);
    let password = made.split_whitespace().last().expect("a password").to_owned();
    let root = login(&gateway, "root", &password).await.login();
    let gift = json!({"amount": 1, "direction": "in", "reason": "goodwill"});
    let correction = gateway.client.post(gateway.at("/staff/wallets/1/correct/")).bearer_auth(&root.access);
    assert_eq!(Answer::of(correction.json(&gift)).await.status, 201);

    // Register, guess, wait; change a password, wrongly and correctly.
    let words = json!({"username": "alice", "password": "kavir dur 9", "password2": "kavir dur 9"});
    assert_eq!(gateway.post("/register/", words).await.status, 201);
    let alice = login(&gateway, "alice", "kavir dur 9").await.login();
    let change = async |old: &str| {
        let body = json!({"old_password": old, "new_password": "another horse"});
        let request = gateway.client.post(gateway.at("/password/change/")).bearer_auth(&alice.access);
        Answer::of(request.json(&body)).await.status
    };
    assert_eq!((change("wrong").await, change("kavir dur 9").await), (400, 200));
    let wrong = async || login(&gateway, "alice", "wrong").await.status;
    assert_eq!((wrong().await, wrong().await, wrong().await), (401, 401, 429));
    // Codes: burned at a login and at a reset, a message without an account, a reset password.
    let number = "09120004020";
    let phone = gateway.login(number).await;
    assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": number})).await.status, 200);
    let guess = json!({"mobile_number": number, "code": "x"});
    assert_eq!(gateway.post("/authenticate/", guess.clone()).await.status, 401);
    assert_eq!(gateway.post("/authenticate/", guess).await.status, 401);
    let reset = async |number: &str, code: &str| {
        let body = json!({"mobile_number": number, "code": code, "new_password": "kavir dur 9"});
        gateway.post("/password/reset/", body).await.status
    };
    let reset_send = async |number: &str, detail: &str| {
        let sent = gateway.post("/password/reset/send/", json!({"mobile_number": number})).await;
        assert_eq!(sent.status, 200, "{sent:?}");
        recorded(&gateway, "", detail).await;
    };
    reset_send("09120004021", "to reset a password of no account").await;
    assert_eq!(reset("09120004021", "x").await, 401);
    reset_send(number, "to reset a password, by").await;
    assert_eq!(reset(number, &gateway.sandbox_code(number).await).await, 200);
    assert_eq!(gateway.get("/me/", Some(&phone.access)).await.status, 401, "the reset ended it");
    // One session more than allowed, a logout, a reused refresh token.
    let other = "09120004022";
    let mut logins = Vec::new();
    for _ in 0..3 {
        logins.push(gateway.login(other).await);
    }
    let logout = gateway.client.post(gateway.at("/logout/")).bearer_auth(&logins[1].access);
    assert_eq!(Answer::of(logout).await.status, 200);
    let refresh = async |token: &str| gateway.post("/token/refresh/", json!({"refresh": token})).await;
    let second = refresh(&logins[2].refresh).await.login();
    refresh(&second.refresh).await.login();
    assert_eq!(refresh(&logins[2].refresh).await.status, 401);
    // Actions of operators.
    user(&dir, &["set-rights", other, "staff"]);
    user(&dir, &["disable", other]);
    user(&dir, &["enable", other]);
    let token = user(&dir, &["reset-link", "alice"]);
    let token = token.split_whitespace().last().expect("a token");
    let body = json!({"token": token, "new_password": "kavir dur 10"});
    assert_eq!(gateway.post("/password/reset/", body).await.status, 200);
    let alice = login(&gateway, "alice", "kavir dur 10").await.login();
    let as_alice = async |path: &str, body: Value| {
        Answer::of(gateway.client.post(gateway.at(path)).bearer_auth(&alice.access).json(&body)).await.status
    };
    let added = "09120004024";
    assert_eq!(as_alice("/me/mobile/send/", json!({"mobile_number": added})).await, 200);
    let code = gateway.sandbox_code(added).await;
    let body = json!({"mobile_number": added, "code": code, "password": "kavir dur 10"});
    assert_eq!(as_alice("/me/mobile/", body).await, 200);
    user(&dir, &["set-password", "alice"]);
    for command in [&["apikey", "create", "--scope", "sms"][..], &["apikey", "revoke", "1"]] {
        let output = process::run(&dir, command);
        assert!(output.status.success(), "{command:?}: {output:?}");
    }
    // A refusing provider, a changed key, a refused configuration and a refused plugin.
    let next =
        format!("{}[sms]\nservice = \"GONE\"\n", config.replace("[auth]", "[auth]\ntoken_key = \"hs256-2\""));
    let dead = "[provider.GONE]\nplugin = \"kavenegar\"\nhosts = [\"127.0.0.1\"]\n[provider.GONE.settings]\n\
                api_key = \"x\"\nbase_url = \"http://127.0.0.1:9\"\n";
    let next =
        format!("{next}{dead}").replace("token_key = ", "token_keys_old = [\"hs256-1\"]\ntoken_key = ");
    gateway.edit_config(&next);
    gateway.wait_for("the second key", |status| status["config"]["generation"] == 2).await;
    assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": "09120004023"})).await.status, 500);
    gateway.edit_config(&next.replace("otp_attempts_max = 1", "otp_attempts_max = 99"));
    gateway.wait_for("the refusal", |status| status["config"]["last_error"].is_string()).await;
    let plugin = dir.join("data/plugins/kavenegar.wasm");
    let good = std::fs::read(&plugin).expect("the plugin");
    std::fs::write(&plugin, b"no component").expect("written");
    recorded(&gateway, "plugin_refused", "").await;
    let mut other_bytes = good;
    // An empty custom section: the same program with different bytes.
    other_bytes.extend([0, 2, 1, b'x']);
    std::fs::write(&plugin, other_bytes).expect("written");
    recorded(&gateway, "plugin_changed", "").await;
    gateway.edit_config(&next.replace("token_keys_old = [\"hs256-1\"]", "token_keys_old = []"));
    gateway.wait_for("the old key's end", |status| status["config"]["generation"] == 3).await;

    let copies = tempfile::tempdir().expect("a folder");
    let backup = gateway.client.post(gateway.at("/operator/backup/"));
    let backup = backup.header("x-operator-token", &gateway.app.door.token);
    let backup = Answer::of(backup.json(&json!({"folder": copies.path().join("copy")}))).await;
    assert_eq!(backup.status, 200, "{backup:?}");

    gateway.app.live().identity.audit().flush().await;
    let query = chelseru_domain::operator::audit::AuditQuery { limit: 1000, ..Default::default() };
    let entries = gateway.app.live().identity.audit().page(query).await.expect("read").entries;
    let has = |event: &str, subject: &str, detail: &str| {
        entries.iter().any(|entry| {
            let draft = &entry.draft;
            draft.event == event && draft.subject.contains(subject) && draft.detail.contains(detail)
        })
    };
    // The journeys of restoring, importing, leaving and the console cover their events.
    let elsewhere = "backup_r store_i user_er user_ex console second oper list_ webh cap_ mess room_ ledger";
    let is_here = |kind: &&AuditKind| !elsewhere.split(' ').any(|start| kind.as_str().starts_with(start));
    let here = AuditKind::ALL.iter().filter(is_here);
    let missing: Vec<_> = here.filter(|kind| !has(kind.as_str(), "", "")).collect();
    assert!(missing.is_empty(), "{missing:?} never happened");
    for (event, subject, detail) in [
        ("otp_sent", "0912***4020", "by SANDBOX_SMS"),
        ("otp_sent", "0912***4020", "to reset a password, by SANDBOX_SMS"),
        ("otp_send_failed", "0912***4021", "of no account"),
        ("otp_send_failed", "0912***4023", ""),
        ("otp_burned", "0912***4020", "the last guess"),
        ("otp_burned", "0912***4021", "to reset a password"),
        ("login", "0912***4022", "by code, a new account"),
        ("login", "al***", "by password"),
        ("login_locked", "al***", ""),
        ("session_revoked", "", "gave way to a newer one"),
        ("session_revoked", "", "its own"),
        ("user_rights_changed", "", "command line"),
        ("key_created", "master key", ""),
        ("key_created", "API key 1", "sms"),
        ("key_revoked", "API key 1", ""),
        ("key_created", "token key hs256-2", "signs"),
        ("key_revoked", "token key hs256-1", ""),
        ("plugin_changed", "GONE", ""),
    ] {
        assert!(has(event, subject, detail), "no {event} of {subject:?} with {detail:?}: {entries:#?}");
    }
    let text = format!("{entries:?}");
    for secret in ["0004020", "0004021", "0004022", "kavir", "another horse", "ck_", &password, &root.access]
    {
        assert!(!text.contains(secret), "{secret}");
    }
}

/// Waits until an event (any, when empty) with a detail is recorded.
async fn recorded(gateway: &TestGateway, event: &str, detail: &str) {
    let until = std::time::Instant::now() + chelseru_tests::PATIENCE;
    loop {
        let live = gateway.app.live();
        live.identity.audit().flush().await;
        let event = Some(event.to_owned()).filter(|event| !event.is_empty());
        let query = chelseru_domain::operator::audit::AuditQuery { event, limit: 1000, ..Default::default() };
        let entries = live.identity.audit().page(query).await.expect("read").entries;
        if entries.iter().any(|entry| entry.draft.detail.contains(detail)) {
            return;
        }
        assert!(std::time::Instant::now() < until, "{detail:?} was never recorded: {entries:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_codes_alone_an_account_is_given_the_rights_to_read_the_log() {
    let gateway = TestGateway::start("").await;
    let phone = gateway.login("09120004030").await;
    assert_eq!(audit(&gateway, &phone.access, "").await.status, 403);
    let dir = gateway.dir.path().to_owned();
    user(&dir, &["set-rights", "09120004030", "staff"]);
    let me = gateway.get("/me/", Some(&phone.access)).await.body;
    assert_eq!((&me["is_staff"], &me["is_superuser"]), (&json!(true), &json!(false)));
    assert_eq!(audit(&gateway, &phone.access, "").await.status, 200);
    user(&dir, &["set-rights", "09120004030", "superuser"]);
    assert_eq!(gateway.get("/me/", Some(&phone.access)).await.body["is_superuser"], true);
    user(&dir, &["set-rights", "09120004030", "none"]);
    assert_eq!(audit(&gateway, &phone.access, "").await.status, 403);
    let wrong = process::run(&dir, &["user", "set-rights", "09120004030", "root"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_the_configuration_are_recorded() {
    let gateway = TestGateway::start(BOTH).await;
    let root = superuser(&gateway).await;
    gateway.edit_config(&format!("{BOTH}otp_length = 7\n"));
    gateway.wait_for("the reload", |status| status["config"]["generation"] == 2).await;
    gateway.edit_config(&format!("{BOTH}otp_length = 70\n"));
    gateway.wait_for("the refusal", |status| status["config"]["last_error"].is_string()).await;
    let happened = audit(&gateway, &root.access, "").await;
    assert_eq!(events(&happened)[..2], ["config_refused", "config_changed"], "{happened:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_trusted_proxies_say_who_the_client_is() {
    for (config, header, value, expected) in [
        ("", "x-forwarded-for", "198.51.100.7", "127.0.0.1"),
        (
            "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n",
            "x-forwarded-for",
            "6.6.6.6, 198.51.100.7",
            "198.51.100.7",
        ),
        (
            "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n",
            "forwarded",
            "for=6.6.6.6, for=\"[2a00::7]:1\"",
            "2a00::7",
        ),
        ("[server]\ntrusted_proxies = [\"10.0.0.0/8\"]\n", "forwarded", "for=198.51.100.7", "127.0.0.1"),
    ] {
        let gateway = TestGateway::start(config).await;
        let number = "09120004007";
        assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": number})).await.status, 200);
        let body = json!({"mobile_number": number, "code": gateway.sandbox_code(number).await});
        let request = gateway.client.post(gateway.at("/authenticate/")).header(header, value);
        let login = Answer::of(request.json(&body)).await.login();
        let sessions = gateway.get("/sessions/", Some(&login.access)).await.body;
        assert_eq!(sessions[0]["ip_address"], expected, "{config:?} {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_keeps_as_many_records_as_configured() {
    let gateway = TestGateway::start("[audit]\nrecords_max = 1000\n").await;
    let live = gateway.app.live();
    let log = live.identity.audit();
    for _ in 0..1300 {
        log.record(AuditEvent::new(AuditKind::OtpSent));
    }
    log.flush().await;
    let query = chelseru_domain::operator::audit::AuditQuery { limit: 5000, ..Default::default() };
    let page = log.page(query).await.expect("read");
    // Events of the start count as operator events, with their own limit.
    assert_eq!((page.entries.len(), page.entries[0].id), (1000 + 2, 1302));
    assert_eq!(page.entries[999].id, 303);
}

#[test]
fn a_password_may_come_from_standard_input() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let dir = folder(BOTH);
    let create = |password: &str| {
        let mut child = Command::new(process::binary())
            .args(["user", "create-superuser", "root", "--password-stdin"])
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        child.stdin.take().expect("piped").write_all(password.as_bytes()).expect("written");
        child.wait_with_output().expect("it ends")
    };
    let weak = create("12345678\n");
    assert_eq!(weak.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&weak.stderr).trim(), "This password is too common.");
    let made = create("kavir darya 7\n");
    assert!(made.status.success(), "{made:?}");
    assert_eq!(String::from_utf8_lossy(&made.stdout).trim(), "user root was created with all rights");
}
