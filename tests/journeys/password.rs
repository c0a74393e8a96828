//! User names and passwords: registration, login, guessing, change, reset; and the own account.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_tests::{Answer, Login, PATIENCE, TestGateway, process};
use serde_json::{Value, json};

const BOTH: &str = "[auth]\nmethod = [\"OTP\", \"PASSWD\"]\n";
const PASSWORD: &str = "S3cure-pass-77";

async fn register(gateway: &TestGateway, name: &str) {
    let body = json!({"username": name, "password": PASSWORD, "password2": PASSWORD});
    let answer = gateway.post("/register/", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

async fn login(gateway: &TestGateway, name: &str, password: &str) -> Answer {
    gateway.post("/login/", json!({"username": name, "password": password})).await
}

async fn post_as(gateway: &TestGateway, path: &str, login: &Login, body: Value) -> Answer {
    Answer::of(gateway.client.post(gateway.at(path)).bearer_auth(&login.access).json(&body)).await
}

async fn opens(gateway: &TestGateway, login: &Login) -> bool {
    gateway.get("/sessions/", Some(&login.access)).await.status == 200
}

/// The client's view of an answer that must not distinguish two cases.
fn seen(answer: &Answer) -> (u16, Value, Vec<String>) {
    let mut body = answer.body.clone();
    if let Some(body) = body.as_object_mut() {
        body.remove("request_id");
    }
    let mut names: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
    names.sort();
    (answer.status, body, names)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_and_a_password_open_a_session_like_a_code_does() {
    let gateway = TestGateway::start(BOTH).await;
    register(&gateway, "alice").await;
    let session = login(&gateway, "alice", PASSWORD).await.login();
    let me = gateway.get("/me/", Some(&session.access)).await.body;
    assert_eq!(
        (&me["username"], &me["mobile_number"], &me["has_password"]),
        (&json!("alice"), &json!(""), &json!(true))
    );
    // Defect 33: registered users had no wallet.
    let wallet = gateway.get("/wallet/", Some(&session.access)).await;
    assert_eq!((wallet.status, &wallet.body["balance"]), (200, &json!(0)), "{wallet:?}");
    let refreshed = gateway.post("/token/refresh/", json!({"refresh": session.refresh})).await.login();
    assert!(opens(&gateway, &refreshed).await);
    // The password is exactly what was typed, white space included.
    let spaced = json!({"username": "bob", "password": "  kavir dur  ", "password2": "  kavir dur  "});
    assert_eq!(gateway.post("/register/", spaced).await.status, 201);
    assert_eq!(login(&gateway, "bob", "kavir dur").await.status, 401);
    assert_eq!(login(&gateway, "bob", "  kavir dur  ").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_of_8_to_128_characters_are_taken_unless_everybody_has_them() {
    let gateway = TestGateway::start(BOTH).await;
    let long = "staple horse battery ".repeat(7);
    for (number, (password, status)) in [
        ("kq3 vzu", 400),
        ("kq3 vzux", 201),
        (&long[..128], 201),
        (&long[..129], 400),
        ("Password123", 400),
        ("12345678", 400),
        ("رمزعبور", 400),
        ("کویر باد", 201),
        ("user8-user8", 201),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("user{number}");
        let body = json!({"username": name, "password": password, "password2": password});
        let answer = gateway.post("/register/", body).await;
        assert_eq!(answer.status, status, "{password:?}: {answer:?}");
        if status == 400 {
            assert!(answer.body["password"][0].is_string(), "{answer:?}");
        } else {
            assert_eq!(login(&gateway, &name, password).await.status, 200, "{password:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_is_not_configured_answers_403() {
    let calls = [
        ("/register/", json!({"username": "a", "password": PASSWORD, "password2": PASSWORD})),
        ("/login/", json!({"username": "a", "password": PASSWORD})),
        ("/password/reset/send/", json!({"mobile_number": "09120002000"})),
        ("/password/reset/", json!({"mobile_number": "09120002000", "code": "1", "new_password": PASSWORD})),
        ("/otp/send/", json!({"mobile_number": "09120002000"})),
        ("/authenticate/", json!({"mobile_number": "09120002000", "code": "1"})),
    ];
    for (config, otp) in [("", true), ("[auth]\nmethod = \"PASSWD\"\n", false)] {
        let gateway = TestGateway::start(config).await;
        for (path, body) in &calls {
            let answer = gateway.post(path, body.clone()).await;
            let expected = otp == (path.contains("otp") || path.contains("authenticate"));
            assert_eq!(answer.status != 403, expected, "{config:?} {path}: {answer:?}");
            if !expected {
                assert_eq!(answer.body["code"], "auth_method_disabled");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guessed_account_waits_for_its_password_and_not_for_its_code() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let config = format!(
        "{BOTH}password_attempts_max = 3\npassword_lockout_seconds = 10\npassword_lockout_seconds_max = 15\n"
    );
    let gateway = TestGateway::start_at(&config, clock.clone()).await;
    // An account with a number and a password.
    let number = "09120002001";
    gateway.login(number).await;
    set_by_code(&gateway, number, PASSWORD).await;
    let name = format!("G0-{number}");
    let mut unknown = Vec::new();
    let mut known = Vec::new();
    for _ in 0..4 {
        known.push(seen(&login(&gateway, &name, "a wrong one").await));
        unknown.push(seen(&login(&gateway, "nobody.at.all", "a wrong one").await));
    }
    assert_eq!(known.iter().map(|(status, ..)| *status).collect::<Vec<_>>(), [401, 401, 401, 429]);
    assert_eq!(known, unknown, "the lockout tells nothing either");
    let locked = login(&gateway, &name, PASSWORD).await;
    assert_eq!((locked.status, locked.header("retry-after")), (429, "10"), "{locked:?}");
    assert_eq!(locked.body["code"], "password_locked");
    // The code still works.
    gateway.login(number).await;
    clock.advance(Duration::from_secs(9));
    assert_eq!(login(&gateway, &name, PASSWORD).await.status, 429);
    clock.advance(Duration::from_secs(1));
    assert_eq!(login(&gateway, &name, "a wrong one").await.status, 401);
    let locked = login(&gateway, &name, PASSWORD).await;
    assert_eq!((locked.status, locked.header("retry-after")), (429, "15"), "20 s is above the longest wait");
    clock.advance(Duration::from_secs(15));
    login(&gateway, &name, PASSWORD).await.login();
    for _ in 0..3 {
        assert_eq!(login(&gateway, &name, "a wrong one").await.status, 401, "a right password begins anew");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn known_and_unknown_accounts_are_answered_alike() {
    let gateway =
        TestGateway::start(&format!("{BOTH}password_attempts_max = 100\notp_resend_seconds = 1\n")).await;
    let known = "09120002002";
    let unknown = "09120002003";
    gateway.login(known).await;
    set_by_code(&gateway, known, PASSWORD).await;
    let wrong = |name: &str| login_body(name);
    let reset = |number: &str| json!({"mobile_number": number, "code": "000000", "new_password": PASSWORD});
    let cases = [
        ("/login/", wrong(&format!("G0-{known}")), wrong(&format!("G0-{unknown}"))),
        ("/otp/send/", json!({"mobile_number": known}), json!({"mobile_number": unknown})),
        (
            "/authenticate/",
            json!({"mobile_number": known, "code": "x"}),
            json!({"mobile_number": unknown, "code": "x"}),
        ),
        ("/password/reset/send/", json!({"mobile_number": known}), json!({"mobile_number": unknown})),
        ("/password/reset/", reset(known), reset(unknown)),
        (
            "/register/",
            json!({"username": format!("G0-{known}"), "password": PASSWORD, "password2": PASSWORD}),
            json!({"username": format!("G0-{unknown}"), "password": PASSWORD, "password2": PASSWORD}),
        ),
    ];
    for (path, known, unknown) in cases {
        let (one, other) =
            (gateway.post(path, known.clone()).await, gateway.post(path, unknown.clone()).await);
        assert_eq!(seen(&one), seen(&other), "{path}");
        assert!(path != "/register/" || one.status == 400, "{one:?}");
    }
}

/// Strangers have used up what codes to new numbers there are. The owner of an account still gets theirs, and no reply
/// tells who has one.
#[tokio::test(flavor = "multi_thread")]
async fn while_a_cap_is_used_up_known_and_unknown_numbers_are_answered_alike() {
    let config = format!(
        "{BOTH}otp_attempts_max = 2\n[sms.shield]\nnumber_gap_seconds = 0\nprefix_per_hour_max = 12\n"
    );
    let gateway = TestGateway::start(&config).await;
    let (known, unknown) = ("09120002101", "09120002102");
    gateway.login(known).await;
    // Read from here on: the inbox has the code of the login above.
    let codes = async |number: &str| {
        settled(&gateway).await;
        let inbox = gateway.get(&format!("/sandbox/inbox/?mobile_number={number}"), None).await;
        inbox.body["results"].as_array().expect("a list").len()
    };
    assert_eq!(codes(known).await, 1);
    // Three of twelve are kept.
    for n in 0..8 {
        let sent = gateway.post("/otp/send/", json!({"mobile_number": format!("0912000220{n}")})).await;
        assert_eq!(sent.status, 200, "{sent:?}");
        assert_eq!(codes(&format!("0912000220{n}")).await, 1);
    }
    let alike = async |path: &str, body: &dyn Fn(&str) -> Value, status: u16| {
        let one = gateway.post(path, body(known)).await;
        settled(&gateway).await;
        let other = gateway.post(path, body(unknown)).await;
        settled(&gateway).await;
        assert_eq!(seen(&one), seen(&other), "{path}");
        assert_eq!(one.status, status, "{one:?}");
        let wait = |answer: &Answer| answer.header("retry-after").parse::<u64>().unwrap_or(0);
        assert!(wait(&one).abs_diff(wait(&other)) <= 60, "{one:?} {other:?}");
        one
    };
    let number = |number: &str| json!({"mobile_number": number});
    let sent = gateway.post("/otp/send/", number(unknown)).await;
    assert!(sent.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 240), "{sent:?}");
    settled(&gateway).await;
    let sent = gateway.post("/otp/send/", number(known)).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    assert!(
        sent.body["details"].as_str().is_some_and(|text| text.contains("If this number has")),
        "{sent:?}"
    );
    assert_eq!((codes(known).await, codes(unknown).await), (2, 0), "only the account's owner gets one");
    // The second request and wrong guesses find the same traces.
    assert_eq!(gateway.post("/otp/send/", number(known)).await.status, 409);
    assert_eq!(gateway.post("/otp/send/", number(unknown)).await.status, 409);
    let code = gateway.sandbox_code(known).await;
    alike("/authenticate/", &|number| json!({"mobile_number": number, "code": "x"}), 401).await;
    let login = gateway.post("/authenticate/", json!({"mobile_number": known, "code": code})).await;
    login.login();
    alike("/password/reset/send/", &number, 200).await;
    assert_eq!((codes(known).await, codes(unknown).await), (3, 0));
    let guess = |number: &str| json!({"mobile_number": number, "code": "x", "new_password": PASSWORD});
    alike("/password/reset/", &guess, 401).await;
    let code = gateway.sandbox_code(known).await;
    let body = json!({"mobile_number": known, "code": code, "new_password": PASSWORD});
    assert_eq!(gateway.post("/password/reset/", body).await.status, 200);
}

/// Waits until nothing runs in the background.
async fn settled(gateway: &TestGateway) {
    let until = Instant::now() + PATIENCE;
    while !gateway.app.detached.is_empty() {
        assert!(Instant::now() < until, "work in the background never ends");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs `chelseru user reset-link` beside the running gateway; returns the token.
fn reset_link(gateway: &TestGateway, arguments: &[&str]) -> String {
    let output = process::run(gateway.dir.path(), &[&["user", "reset-link"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().last().expect("a token").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_token_sets_a_password_once_within_its_time() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let gateway = TestGateway::start_at(BOTH, clock.clone()).await;
    register(&gateway, "alice").await;
    register(&gateway, "bob").await;
    let session = login(&gateway, "alice", PASSWORD).await.login();
    let reset = async |token: &str, password: &str| {
        gateway.post("/password/reset/", json!({"token": token, "new_password": password})).await
    };
    let first = reset_link(&gateway, &["alice"]);
    let token = reset_link(&gateway, &["alice", "--hours", "2"]);
    let bobs = reset_link(&gateway, &["bob", "--page", "https://app.example/reset"]);
    let bobs = bobs.strip_prefix("https://app.example/reset#token=").expect("a link").to_owned();
    // A newer one replaced the first; made-up ones are refused; another account's secret opens nothing here.
    let (_, secret) = bobs.split_once('-').expect("an account and a secret");
    let (alice, _) = token.split_once('-').expect("an account and a secret");
    for wrong in [&first, "", "x", "1-x", "99999-x", &format!("{alice}-{secret}"), &token[..token.len() - 1]]
    {
        let refused = reset(wrong, "another horse").await;
        let expected = if wrong.is_empty() { 400 } else { 401 };
        assert_eq!(refused.status, expected, "{refused:?}");
        assert!(wrong.is_empty() || refused.body["code"] == "reset_token_wrong", "{refused:?}");
    }
    let both = json!({"token": token, "mobile_number": "09120002110", "new_password": "another horse"});
    assert_eq!(gateway.post("/password/reset/", both).await.status, 400);
    let weak = reset(&token, "12345678").await;
    assert_eq!((weak.status, weak.header("x-error-code")), (400, "invalid_fields"), "{weak:?}");
    assert!(opens(&gateway, &session).await, "nothing has happened yet");
    // Of many at once one wins.
    let answers = (0..4).map(|n| reset_owned(&gateway, &token, n));
    let answers: Vec<u16> = futures_util::future::join_all(answers).await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
    assert!(!opens(&gateway, &session).await, "the sessions of the old password ended");
    assert_eq!(login(&gateway, "alice", PASSWORD).await.status, 401);
    assert_eq!(reset(&token, "another horse").await.status, 401, "used");
    // Its time is over.
    clock.advance(Duration::from_secs(24 * 60 * 60));
    assert_eq!(reset(&bobs, "another horse").await.status, 401, "expired");
    // Any new password ends the token, and a disabled account has none.
    let token = reset_link(&gateway, &["bob"]);
    let bob = login(&gateway, "bob", PASSWORD).await.login();
    let change = json!({"old_password": PASSWORD, "new_password": "another horse"});
    assert_eq!(post_as(&gateway, "/password/change/", &bob, change).await.status, 200);
    assert_eq!(reset(&token, "kavir darya 7").await.status, 401, "an old token");
    let token = reset_link(&gateway, &["bob"]);
    let disabled = process::run(gateway.dir.path(), &["user", "disable", "bob"]);
    assert!(disabled.status.success(), "{disabled:?}");
    assert_eq!(reset(&token, "kavir darya 7").await.status, 401, "a disabled account");
    let refused = process::run(gateway.dir.path(), &["user", "reset-link", "bob"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}

async fn reset_owned(gateway: &TestGateway, token: &str, n: u32) -> u16 {
    let body = json!({"token": token, "new_password": format!("another horse {n}")});
    gateway.post("/password/reset/", body).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_of_one_address_are_limited_and_hold_no_right_one_up() {
    let proxied = "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    let gateway = TestGateway::start(&format!("{proxied}{BOTH}")).await;
    register(&gateway, "alice").await;
    register(&gateway, "bob").await;
    let (token, bobs) = (reset_link(&gateway, &["alice"]), reset_link(&gateway, &["bob"]));
    let reset = async |from: &str, token: &str| {
        let body = json!({"token": token, "new_password": "another horse"});
        let request = gateway.client.post(gateway.at("/password/reset/")).header("x-forwarded-for", from);
        Answer::of(request.json(&body)).await
    };
    for _ in 0..20 {
        assert_eq!(reset("203.0.113.1", "1-x").await.status, 401);
    }
    assert_eq!(reset("203.0.113.1", &token).await.status, 200, "a right one, from the same address");
    let limited = reset("203.0.113.1", &token).await;
    assert_eq!((limited.status, &limited.body["code"]), (429, &json!("password_locked")), "{limited:?}");
    assert!(limited.header("retry-after").parse::<u64>().is_ok(), "{limited:?}");
    assert_eq!(reset("203.0.113.2", &token).await.status, 401, "used");
    assert_eq!(reset("203.0.113.1", &bobs).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_added_by_its_code_and_opens_the_account() {
    let gateway = TestGateway::start(BOTH).await;
    let number = "09120002120";
    register(&gateway, "alice").await;
    let alice = login(&gateway, "alice", PASSWORD).await.login();
    let send = async |login: &Login, number: &str| {
        post_as(&gateway, "/me/mobile/send/", login, json!({"mobile_number": number})).await
    };
    let add = async |login: &Login, code: &str, password: &str| {
        let body = json!({"mobile_number": number, "code": code, "password": password});
        post_as(&gateway, "/me/mobile/", login, body).await
    };
    assert_eq!(gateway.post("/me/mobile/send/", json!({"mobile_number": number})).await.status, 401);
    assert_eq!(send(&alice, number).await.status, 200);
    let pending = send(&alice, number).await;
    assert_eq!((pending.status, &pending.body["code"]), (409, &json!("otp_pending")), "{pending:?}");
    let code = gateway.sandbox_code(number).await;
    // The code opens nothing else, and a session without the password adds nothing.
    let crossed = json!({"mobile_number": number, "code": code});
    assert_eq!(gateway.post("/authenticate/", crossed.clone()).await.status, 401);
    let refused = post_as(&gateway, "/me/mobile/", &alice, crossed).await;
    assert_eq!(refused.body["password"], json!(["This field is required."]), "{refused:?}");
    assert_eq!(add(&alice, &code, "not it").await.status, 400);
    assert_eq!(add(&alice, "x", PASSWORD).await.status, 401);
    // Another user's code for the same number is another code.
    register(&gateway, "bob").await;
    let bob = login(&gateway, "bob", PASSWORD).await.login();
    assert_eq!(add(&bob, &code, PASSWORD).await.status, 401);
    let added = add(&alice, &code, PASSWORD).await;
    assert_eq!((added.status, &added.body["mobile_number"]), (200, &json!(number)), "{added:?}");
    assert_eq!(added.body["username"], "alice");
    assert_eq!(send(&alice, "09120002121").await.body["code"], "number_present");
    let again = add(&alice, &code, PASSWORD).await;
    assert_eq!(again.body["code"], "number_present", "{again:?}");
    // It is a way back: by code, and by a reset.
    let by_code = gateway.login(number).await;
    let me = gateway.get("/me/", Some(&by_code.access)).await;
    assert_eq!(me.body["username"], "alice", "{me:?}");
    set_by_code(&gateway, number, "another horse").await;
    login(&gateway, "alice", "another horse").await.login();
}

/// Two numbers, one of them another account's: every reply to who does not have the phone is the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_another_account_is_refused_to_its_owner_only() {
    let gateway = TestGateway::start(BOTH).await;
    let (taken, free) = ("09120002130", "09120002131");
    gateway.login(taken).await;
    register(&gateway, "mallory").await;
    let mallory = login(&gateway, "mallory", PASSWORD).await.login();
    for (path, body) in [
        ("/me/mobile/send/", json!({})),
        ("/me/mobile/send/", json!({})),
        ("/me/mobile/", json!({"code": "x", "password": PASSWORD})),
        ("/me/mobile/", json!({"code": "000000", "password": PASSWORD})),
    ] {
        let [one, other] = [taken, free].map(|number| {
            let mut body = body.clone();
            body["mobile_number"] = json!(number);
            body
        });
        let one = post_as(&gateway, path, &mallory, one).await;
        let other = post_as(&gateway, path, &mallory, other).await;
        let (mut one, mut other) = (seen(&one), seen(&other));
        for seen in [&mut one, &mut other] {
            // The seconds of a pending code.
            seen.1["details"] = json!(seen.1["details"].as_str().map(|text| text.len() / 8));
        }
        assert_eq!(one, other, "{path}");
    }
    let code = gateway.sandbox_code(taken).await;
    let body = json!({"mobile_number": taken, "code": code, "password": PASSWORD});
    let refused = post_as(&gateway, "/me/mobile/", &mallory, body).await;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("number_taken")), "{refused:?}");
    let me = gateway.get("/me/", Some(&mallory.access)).await;
    assert_eq!(me.body["mobile_number"], "", "{me:?}");
}

fn login_body(name: &str) -> Value {
    json!({"username": name, "password": "a wrong one"})
}

#[tokio::test(flavor = "multi_thread")]
async fn known_and_unknown_accounts_cost_one_hash_each() {
    let gateway = TestGateway::start(&format!("{BOTH}password_attempts_max = 100\n")).await;
    let known = "09120002100";
    gateway.login(known).await;
    set_by_code(&gateway, known, PASSWORD).await;
    let name = format!("G0-{known}");
    // An answer costs one password hash; the domain's tests count codes and store changes.
    let hashes = || gateway.app.live().identity.hashes().done();
    for name in [&name, "nobody.at.all"] {
        let before = hashes();
        assert_eq!(login(&gateway, name, "a wrong one").await.status, 401);
        assert_eq!(hashes(), before + 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_ends_the_other_sessions() {
    let gateway = TestGateway::start(BOTH).await;
    register(&gateway, "alice").await;
    let here = login(&gateway, "alice", PASSWORD).await.login();
    let there = login(&gateway, "alice", PASSWORD).await.login();
    let change = |old: &str, new: &str| json!({"old_password": old, "new_password": new});

    let wrong = post_as(&gateway, "/password/change/", &here, change("not it", "another horse")).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.body["old_password"][0].is_string(), "{wrong:?}");
    let weak = post_as(&gateway, "/password/change/", &here, change(PASSWORD, "12345678")).await;
    assert_eq!((weak.status, &weak.body["new_password"][0]), (400, &json!("This password is too common.")));
    assert!(opens(&gateway, &there).await);

    let changed = post_as(&gateway, "/password/change/", &here, change(PASSWORD, "another horse")).await;
    assert_eq!((changed.status, &changed.body["ended"]), (200, &json!(1)), "{changed:?}");
    assert!(opens(&gateway, &here).await && !opens(&gateway, &there).await);
    let stolen = gateway.post("/token/refresh/", json!({"refresh": there.refresh})).await;
    assert_eq!(stolen.status, 401);
    assert_eq!(login(&gateway, "alice", PASSWORD).await.status, 401);
    login(&gateway, "alice", "another horse").await.login();
    let open = gateway.post("/password/change/", change("a", "b")).await;
    assert_eq!(open.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_the_old_password_wait_too() {
    let gateway = TestGateway::start(&format!("{BOTH}password_attempts_max = 2\n")).await;
    register(&gateway, "alice").await;
    let session = login(&gateway, "alice", PASSWORD).await.login();
    let guess = json!({"old_password": "not it", "new_password": "another horse"});
    for status in [400, 400, 429] {
        let answer = post_as(&gateway, "/password/change/", &session, guess.clone()).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

/// Sets the password of a number's account by code.
async fn set_by_code(gateway: &TestGateway, number: &str, password: &str) {
    let sent = gateway.post("/password/reset/send/", json!({"mobile_number": number})).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let body =
        json!({"mobile_number": number, "code": reset_code(gateway, number).await, "new_password": password});
    let answer = gateway.post("/password/reset/", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// The newest code to a number, once the background work is done.
async fn reset_code(gateway: &TestGateway, number: &str) -> String {
    let until = Instant::now() + chelseru_tests::PATIENCE;
    while !gateway.app.detached.is_empty() {
        assert!(Instant::now() < until, "the message was never sent");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    gateway.sandbox_code(number).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_set_and_reset_by_code_and_all_sessions_end() {
    let gateway = TestGateway::start(BOTH).await;
    let number = "09120002004";
    let first = gateway.login(number).await;
    set_by_code(&gateway, number, PASSWORD).await;
    assert!(!opens(&gateway, &first).await);
    let second = login(&gateway, &format!("G0-{number}"), PASSWORD).await.login();
    set_by_code(&gateway, number, "another horse").await;
    assert!(!opens(&gateway, &second).await);
    assert_eq!(login(&gateway, &format!("G0-{number}"), PASSWORD).await.status, 401);
    login(&gateway, &format!("G0-{number}"), "another horse").await.login();
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_for_login_and_for_reset_are_not_each_others() {
    let gateway = TestGateway::start(BOTH).await;
    let number = "09120002005";
    gateway.login(number).await;
    let with = |code: &str| json!({"mobile_number": number, "code": code, "new_password": "another horse"});
    assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": number})).await.status, 200);
    let login_code = gateway.sandbox_code(number).await;
    assert_eq!(gateway.post("/password/reset/", with(&login_code)).await.status, 401);
    gateway.post("/password/reset/send/", json!({"mobile_number": number})).await;
    let reset = reset_code(&gateway, number).await;
    if reset != login_code {
        let crossed = gateway.post("/authenticate/", json!({"mobile_number": number, "code": reset})).await;
        assert_eq!(crossed.status, 401);
    }
    gateway.post("/authenticate/", json!({"mobile_number": number, "code": login_code})).await.login();
    // A weak password does not consume the code.
    let weak = json!({"mobile_number": number, "code": reset, "new_password": "12345678"});
    assert_eq!(gateway.post("/password/reset/", weak).await.status, 400);
    assert_eq!(gateway.post("/password/reset/", with(&reset)).await.status, 200);
    assert_eq!(gateway.post("/password/reset/", with(&reset)).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_without_an_account_gets_no_message_and_its_code_cannot_be_guessed_for_ever() {
    let gateway = TestGateway::start(BOTH).await;
    let number = "09120002006";
    assert_eq!(gateway.post("/password/reset/send/", json!({"mobile_number": number})).await.status, 200);
    let until = Instant::now() + PATIENCE;
    while !gateway.app.detached.is_empty() {
        assert!(Instant::now() < until, "the work of a reset never ends");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let inbox = gateway.get(&format!("/sandbox/inbox/?mobile_number={number}"), None).await;
    assert_eq!(inbox.body["results"], json!([]));
    for n in 0..7 {
        let body =
            json!({"mobile_number": number, "code": format!("00000{n}"), "new_password": "another horse"});
        assert_eq!(gateway.post("/password/reset/", body).await.status, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_hashes_than_may_wait_are_refused_with_503() {
    let config = format!(
        "{BOTH}password_hashes_max = 1\npassword_hashes_queue_max = 0\npassword_attempts_max = 100\n"
    );
    let gateway = TestGateway::start(&config).await;
    let calls = (0..12).map(|_| login(&gateway, "nobody", "a wrong one"));
    let answers = futures_util::future::join_all(calls).await;
    let busy: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(!busy.is_empty() && busy.len() < 12, "{answers:?}");
    assert!(answers.iter().all(|answer| [401, 503].contains(&answer.status)), "{answers:?}");
    assert_eq!((&busy[0].body["code"], busy[0].header("retry-after")), (&json!("busy"), "1"));
    assert_eq!(login(&gateway, "nobody", "a wrong one").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_change_what_is_theirs_to_change_and_nothing_else() {
    let gateway = TestGateway::start(BOTH).await;
    let session = gateway.login("09120002007").await;
    let before = gateway.get("/me/", Some(&session.access)).await;
    assert_eq!(before.status, 200);
    assert_eq!(before.body["mobile_number"], "09120002007");
    let text = before.text.clone();
    assert!(!text.contains("argon2") && !text.contains("\"password\""), "{text}");

    let patch = async |body: Value| {
        let request = gateway.client.patch(gateway.at("/me/")).bearer_auth(&session.access);
        Answer::of(request.json(&body)).await
    };
    let wrong = json!({
        "first_name": "x", "is_staff": true, "is_superuser": true, "is_active": false, "has_password": true,
        "group": 5, "username": "root", "mobile_number": "09120000000", "id": 9,
    });
    let refused = patch(wrong.clone()).await;
    let named: Vec<&String> = refused.body.as_object().expect("field errors").keys().collect();
    let mut fixed: Vec<&String> =
        wrong.as_object().expect("fields").keys().filter(|key| *key != "first_name").collect();
    fixed.sort();
    assert_eq!((refused.status, named), (400, fixed), "{refused:?}");
    assert_eq!(gateway.get("/me/", Some(&session.access)).await.body, before.body);
    // What a client sends back as it got it, and what no account has, is fine.
    let mut whole = before.body.clone();
    whole["first_name"] = " آلیس ".into();
    whole["email"] = "a@example.com".into();
    whole["favourite"] = "tea".into();
    let changed = patch(whole).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let mut expected = before.body.clone();
    expected["first_name"] = "آلیس".into();
    expected["email"] = "a@example.com".into();
    assert_eq!(changed.body, expected);
    assert_eq!(patch(json!({"last_name": "ل", "first_name": ""})).await.body["last_name"], "ل");
    assert_eq!(gateway.get("/me/", Some(&session.access)).await.body["first_name"], "");

    for (body, field) in [
        (json!({"email": "nope"}), "email"),
        (json!({"first_name": "x".repeat(151)}), "first_name"),
        (json!({"last_name": ["x"]}), "last_name"),
    ] {
        let refused = patch(body).await;
        assert_eq!(refused.status, 400);
        assert!(refused.body[field][0].is_string(), "{refused:?}");
    }
    assert_eq!(patch(json!({"first_name": "x".repeat(150)})).await.status, 200);
    assert_eq!(gateway.get("/me/", None).await.status, 401);
    assert_eq!(gateway.post("/me/", json!({})).await.status, 401);
}
