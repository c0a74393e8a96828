//! What operators do with accounts, and what they can find out afterwards: the `user` command on a store and
//! through a gateway, the audit log, token keys, proxies, test numbers.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::audit::AuditEvent;
use chelseru_domain::audit::AuditKind;
use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_domain::identity::SessionsEnded;
use chelseru_domain::ids::UserId;
use chelseru_tests::{Answer, Login, TestGateway, folder, process};
use serde_json::{Value, json};

const BOTH: &str = "[auth]\nmethod = [\"OTP\", \"PASSWD\"]\n";

/// Runs `chelseru user` to a good end; what it says on standard output.
fn user(dir: &std::path::Path, arguments: &[&str]) -> String {
    let output = process::run(dir, &[&["user"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The same, to a bad end; what it says on standard error.
fn user_fails(dir: &std::path::Path, arguments: &[&str]) -> String {
    let output = process::run(dir, &[&["user"], arguments].concat());
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

async fn login(gateway: &TestGateway, name: &str, password: &str) -> Answer {
    gateway.post("/login/", json!({"username": name, "password": password})).await
}

/// A superuser made by command, logged in.
async fn superuser(gateway: &TestGateway) -> Login {
    let made = gateway.app.live();
    let password = chelseru_domain::password::Password::new("kavir darya 7");
    made.identity.superuser_create("root", &password, "").await.expect("made");
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
    assert!(user_fails(dir.path(), &["show", "nobody"]).contains("there is no user \"nobody\""));
    assert!(
        user_fails(dir.path(), &["create-superuser", "x", "--email", "nope"]).contains("no mail address")
    );

    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    let dir = gateway.dir.path().to_owned();
    let root = login(&gateway, "root", &password).await.login();
    let me = gateway.get("/me/", Some(&root.access)).await.body;
    assert_eq!((&me["is_superuser"], &me["is_staff"]), (&json!(true), &json!(true)));

    // The store is the gateway's now: the same commands go through it.
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
    assert!(user_fails(&dir, &["show", "nobody"]).contains("there is no user"));

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
    let ask = async |token: Option<&str>, forwarded: bool, body: Value| {
        let mut request = gateway.client.post(gateway.at("/operator/users/")).json(&body);
        if let Some(token) = token {
            request = request.header("x-operator-token", token);
        }
        if forwarded {
            request = request.header("x-forwarded-for", "127.0.0.1");
        }
        Answer::of(request).await
    };
    let list = || json!({"command": "list", "after": null});
    assert_eq!(ask(Some(&token), false, list()).await.status, 200);
    assert_eq!(ask(Some(&token), true, list()).await.status, 404, "not from this machine");
    for wrong in [None, Some(""), Some("0"), Some(&token[1..])] {
        assert_eq!(ask(wrong, false, list()).await.status, 403, "{wrong:?}");
    }
    for body in [json!({}), json!({"command": "drop"}), json!({"command": "list", "x": 1})] {
        assert_eq!(ask(Some(&token), false, body).await.status, 400);
    }
    // A restart makes another one.
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

    // Three pages, there and back.
    for _ in 0..120 {
        gateway.app.audit(AuditEvent::new(AuditKind::KeyCreated));
    }
    let ids = |page: &Answer| {
        let results = page.body["results"].as_array().expect("a list").clone();
        results.iter().map(|entry| entry["id"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    let follow = async |page: &Answer, key: &str| {
        let url = page.body[key].as_str().unwrap_or_else(|| panic!("no {key}: {page:?}")).to_owned();
        Answer::of(gateway.client.get(url).bearer_auth(&root.access)).await
    };
    let one = audit(&gateway, &root.access, "?event=key_created").await;
    let two = follow(&one, "next").await;
    let three = follow(&two, "next").await;
    assert_eq!((ids(&one).len(), ids(&two).len(), ids(&three).len()), (50, 50, 20));
    assert!([ids(&one), ids(&two), ids(&three)].concat().is_sorted_by(|one, next| *one == next + 1));
    assert_eq!(ids(&follow(&three, "previous").await), ids(&two));
    assert_eq!(ids(&follow(&two, "previous").await), ids(&one));
    assert_eq!(ids(&follow(&follow(&three, "previous").await, "next").await), ids(&three));

    // It outlives a restart.
    let dir = gateway.stop().await;
    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    assert_eq!(events(&audit(&gateway, &root.access, "?event=refresh_reused").await), ["refresh_reused"]);
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

const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIKTnu6QYMrfb1OGrxHVAeeZSFl+38pFdWOMxLGfE03gs\n-----END PRIVATE KEY-----\n";

#[tokio::test(flavor = "multi_thread")]
async fn token_keys_rotate_while_serving_and_public_ones_are_listed() {
    let gateway = TestGateway::start("").await;
    let first = gateway.login("09120004005").await;
    let jwks = "/.well-known/jwks.json";
    assert_eq!(gateway.get(jwks, None).await.status, 404, "an HMAC key has no public half");

    std::fs::write(gateway.dir.path().join("token.pem"), PEM).expect("a file");
    let rotated = "[auth]\ntoken_key = { file = \"token.pem\" }\ntoken_keys_old = [\"hs256-1\"]\n";
    gateway.edit_config(rotated);
    gateway.wait_for("the new key", |status| status["config"]["generation"] == 2).await;
    assert_eq!(gateway.get("/me/", Some(&first.access)).await.status, 200, "old tokens stay valid");
    let second = gateway.post("/token/refresh/", json!({"refresh": first.refresh})).await.login();
    let header = jsonwebtoken::decode_header(&second.access).expect("a header");
    assert_eq!(header.alg, jsonwebtoken::Algorithm::EdDSA);
    assert_eq!(gateway.get("/me/", Some(&second.access)).await.status, 200);

    // Another program checks a token with what is listed.
    let set = gateway.get(jwks, None).await;
    assert_eq!(set.status, 200);
    assert!(!set.text.contains("\"d\""), "{}", set.text);
    let key: jsonwebtoken::jwk::Jwk = serde_json::from_value(set.body["keys"][0].clone()).expect("a key");
    assert_eq!(key.common.key_id, header.kid);
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    validation.set_audience(&["chelseru"]);
    validation.set_issuer(&["chelseru"]);
    let checking = jsonwebtoken::DecodingKey::from_jwk(&key).expect("a key");
    let claims = jsonwebtoken::decode::<Value>(&second.access, &checking, &validation).expect("valid").claims;
    assert_eq!(claims["user_id"], "1");

    // The old key goes; so do its tokens. A key that cannot be read changes nothing.
    gateway.edit_config("[auth]\ntoken_key = { file = \"token.pem\" }\n");
    gateway.wait_for("the old key's end", |status| status["config"]["generation"] == 3).await;
    assert_eq!(gateway.get("/me/", Some(&first.access)).await.status, 401);
    gateway.edit_config("[auth]\ntoken_key = \"hs256-zero\"\n");
    let status = gateway.wait_for("the refusal", |status| status["config"]["last_error"].is_string()).await;
    let reason = status["config"]["last_error"].as_str().expect("a text");
    assert!(reason.contains("auth.token_key") && !reason.contains("zero"), "{reason}");
    assert_eq!(gateway.get("/me/", Some(&second.access)).await.status, 200);
    // hs256-2 is another key than hs256-1.
    gateway.edit_config("[auth]\ntoken_key = \"hs256-2\"\n");
    gateway.wait_for("the second HMAC key", |status| status["config"]["generation"] == 4).await;
    assert_eq!(gateway.get("/me/", Some(&second.access)).await.status, 401);
    let third = gateway.login("09120004005").await;
    assert_eq!(gateway.get("/me/", Some(&third.access)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_are_401() {
    let config = "[auth]\ntoken_issuer = \"https://a.example\"\ntoken_audience = \"app\"\n";
    let gateway = TestGateway::start(config).await;
    let login = gateway.login("09120004006").await;
    let parts: Vec<&str> = login.access.split('.').collect();
    // Base64 of {"alg":"none","typ":"JWT"} and of the same in capitals.
    for header in ["eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", "eyJhbGciOiJOT05FIiwidHlwIjoiSldUIn0"] {
        for signature in ["", parts[2]] {
            let token = format!("{header}.{}.{signature}", parts[1]);
            assert_eq!(gateway.get("/me/", Some(&token)).await.status, 401, "{token}");
        }
    }
    let bytes = std::fs::read(gateway.dir.path().join("data/master.key")).expect("the key");
    let master = chelseru_domain::secret::MasterKey::from_bytes(bytes.try_into().expect("32 bytes"));
    let derived = master.derive(chelseru_domain::secret::KeyUse::JwtHs256);
    let own = jsonwebtoken::EncodingKey::from_secret(derived.expose());
    let header = jsonwebtoken::decode_header(&login.access).expect("a header");
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(&login.access).expect("claims").claims;
    let sign = |header: &jsonwebtoken::Header, key: &str, value: Value| {
        let mut claims = claims.clone();
        claims[key] = value;
        jsonwebtoken::encode(header, &claims, &own).expect("signed")
    };
    let same = sign(&header, "iss", "https://a.example".into());
    assert_eq!(gateway.get("/me/", Some(&same)).await.status, 200);
    for (key, value) in [
        ("iss", json!("chelseru")),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("token_type", json!("refresh")),
        ("token_type", json!("id")),
        ("sid", json!(99)),
        ("exp", json!(1)),
    ] {
        let token = sign(&header, key, value.clone());
        assert_eq!(gateway.get("/me/", Some(&token)).await.status, 401, "{key} = {value}");
    }
    for change in [
        |header: &mut jsonwebtoken::Header| header.typ = Some("at+jwt".to_owned()),
        |header: &mut jsonwebtoken::Header| header.kid = Some("hs256-2".to_owned()),
    ] {
        let mut other = header.clone();
        change(&mut other);
        let token = sign(&other, "iss", "https://a.example".into());
        assert_eq!(gateway.get("/me/", Some(&token)).await.status, 401, "{other:?}");
    }
    let other = jsonwebtoken::EncodingKey::from_secret(&[0; 32]);
    let token = jsonwebtoken::encode(&header, &claims, &other).expect("signed");
    assert_eq!(gateway.get("/me/", Some(&token)).await.status, 401);
    assert_eq!(gateway.get("/me/", Some(&login.refresh)).await.status, 401);
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
async fn another_code_may_be_asked_for_after_the_gap_and_kills_the_one_before() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let gateway = TestGateway::start_at("[auth]\notp_resend_seconds = 30\n", clock.clone()).await;
    let number = "09120004008";
    let send = async || gateway.post("/otp/send/", json!({"mobile_number": number})).await;
    assert_eq!(send().await.status, 200);
    let first = gateway.sandbox_code(number).await;
    clock.advance(Duration::from_secs(29));
    let early = send().await;
    assert_eq!((early.status, early.header("retry-after")), (409, "1"));
    clock.advance(Duration::from_secs(1));
    assert_eq!(send().await.status, 200);
    let second = gateway.sandbox_code(number).await;
    if first != second {
        let dead = gateway.post("/authenticate/", json!({"mobile_number": number, "code": first})).await;
        assert_eq!(dead.status, 401);
    }
    gateway.post("/authenticate/", json!({"mobile_number": number, "code": second})).await.login();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_domain_the_message_ends_with_what_phones_fill_in() {
    let gateway = TestGateway::start("[auth]\notp_domain = \"login.example.com\"\n").await;
    let number = "09120004009";
    assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": number})).await.status, 200);
    let inbox = gateway.get(&format!("/sandbox/inbox/?mobile_number={number}"), None).await;
    let text = inbox.body["results"][0]["text"].as_str().expect("a text").to_owned();
    let (start, code) = text.rsplit_once('#').expect("a code last");
    assert_eq!(start, format!("Your code: {code}\n\n@login.example.com "), "{text}");
    gateway.post("/authenticate/", json!({"mobile_number": number, "code": code})).await.login();
}

#[tokio::test(flavor = "multi_thread")]
async fn test_numbers_have_a_fixed_code_only_when_configured() {
    let config = "[auth]\notp_test_numbers = { \"09120004010\" = \"424242\" }\n";
    let gateway = TestGateway::start(config).await;
    let number = "09120004010";
    assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": number})).await.status, 200);
    let inbox = gateway.get("/sandbox/inbox/", None).await;
    assert_eq!(inbox.body["results"], json!([]), "nothing is sent");
    assert_eq!(gateway.status().await["auth"]["test_numbers"], 1);
    let wrong = gateway.post("/authenticate/", json!({"mobile_number": number, "code": "424243"})).await;
    assert_eq!(wrong.status, 401);
    gateway.post("/authenticate/", json!({"mobile_number": number, "code": "424242"})).await.login();
    // Used once, like any other; and other numbers have codes of their own.
    let again = gateway.post("/authenticate/", json!({"mobile_number": number, "code": "424242"})).await;
    assert_eq!(again.status, 401);
    let other = "09120004011";
    assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": other})).await.status, 200);
    if gateway.sandbox_code(other).await != "424242" {
        let fixed = gateway.post("/authenticate/", json!({"mobile_number": other, "code": "424242"})).await;
        assert_eq!(fixed.status, 401);
    }
    // Without the key the number is like any other.
    gateway.edit_config("");
    gateway.wait_for("the reload", |status| status["config"]["generation"] == 2).await;
    assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": number})).await.status, 200);
    gateway.sandbox_code(number).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_keeps_as_many_records_as_configured() {
    let gateway = TestGateway::start("[audit]\nrecords_max = 1000\n").await;
    let live = gateway.app.live();
    let log = live.identity.audit();
    for _ in 0..1300 {
        log.record(AuditEvent::new(AuditKind::KeyCreated));
    }
    log.flush().await;
    let query = chelseru_domain::audit::AuditQuery { limit: 5000, ..Default::default() };
    let page = log.page(query).expect("read");
    assert_eq!((page.entries.len(), page.entries[0].id), (1000, 1300));
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
    assert_eq!(String::from_utf8_lossy(&made.stdout).trim(), "user root was made with all rights");
}
