//! Login with a phone number: through the sandbox, through Kavenegar, alone and under load.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_simulator::{Fault, FaultKind, Simulator};
use chelseru_tests::{Answer, TestGateway, code_in, process::Served};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_number_logs_in_through_the_sandbox() {
    let gateway = TestGateway::start("").await;
    let login = gateway.login("09120000000").await;

    let payload = jsonwebtoken::dangerous::insecure_decode::<Value>(&login.access).expect("a token").claims;
    assert_eq!(payload["token_type"], "access");
    assert_eq!(payload["user_id"], "1");
    assert_eq!(payload["jti"].as_str().map(str::len), Some(32));
    let lifetime = payload["exp"].as_i64().expect("exp") - payload["iat"].as_i64().expect("iat");
    assert_eq!(lifetime, 300);

    let sessions = gateway.get("/sessions/", Some(&login.access)).await;
    assert_eq!(sessions.status, 200);
    let list = sessions.body.as_array().expect("a list");
    assert_eq!(list.len(), 1);
    assert_eq!(list[0]["user"], 1);
    assert_eq!(list[0]["ip_address"], "127.0.0.1");
    for key in ["id", "session_key", "user_agent", "device", "browser", "last_seen", "created_at"] {
        assert!(!list[0][key].is_null(), "{key} is missing: {list:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_may_name_its_device() {
    let gateway = TestGateway::start("[auth]\notp_test_numbers = { \"09120000001\" = \"482913\" }\n").await;
    let log_in = async |name: Value| {
        let sent = gateway.post("/otp/send/", json!({"mobile_number": "09120000001"})).await;
        assert!([200, 409].contains(&sent.status), "{sent:?}");
        let body = json!({"mobile_number": "09120000001", "code": "482913", "device_name": name});
        gateway.post("/authenticate/", body).await
    };
    let long = "ن".repeat(64);
    let mut access = String::new();
    for name in [json!(" Sara's phone "), json!(long), Value::Null, json!("")] {
        access = log_in(name).await.login().access;
    }
    let refused = log_in(json!("n".repeat(65))).await;
    assert!(refused.status == 400 && refused.body["device_name"][0].is_string(), "{refused:?}");
    let sessions = gateway.get("/sessions/", Some(&access)).await;
    let names: Vec<&Value> =
        sessions.body.as_array().expect("a list").iter().map(|one| &one["device_name"]).collect();
    assert_eq!(names, [&Value::Null, &Value::Null, &json!(long), &json!("Sara's phone")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_lists_only_the_callers_own() {
    let gateway = TestGateway::start("").await;
    let first = gateway.login("09120000001").await;
    let second = gateway.login("09120000002").await;
    let again = {
        let sent = gateway.post("/otp/send/", json!({"mobile_number": "09120000001"})).await;
        assert_eq!(sent.status, 200);
        let code = gateway.sandbox_code("09120000001").await;
        gateway.post("/authenticate/", json!({"mobile_number": "09120000001", "code": code})).await.login()
    };
    for (login, user, sessions) in [(&first, 1, 2), (&again, 1, 2), (&second, 2, 1)] {
        let answer = gateway.get("/sessions/", Some(&login.access)).await;
        let list = answer.body.as_array().expect("a list").clone();
        assert_eq!(list.len(), sessions, "{list:?}");
        assert!(list.iter().all(|session| session["user"] == user), "{list:?}");
        assert_eq!(list.iter().filter(|session| session["current"] == true).count(), 1, "{list:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_code_answers_409_with_the_seconds_to_wait() {
    let gateway = TestGateway::start("").await;
    let body = json!({"mobile_number": "09120000003"});
    assert_eq!(gateway.post("/otp/send/", body.clone()).await.status, 200);
    let again = gateway.post("/otp/send/", body).await;
    assert_eq!(again.status, 409);
    let seconds: u64 = again.header("retry-after").parse().expect("seconds");
    assert!((230..=240).contains(&seconds), "{seconds}");
    let text =
        format!("An OTP code has already been sent. Please wait {seconds} seconds before trying again.");
    assert_eq!(again.body["details"], text);
    assert_eq!(again.body["code"], "otp_pending");
    assert_eq!(again.body["request_id"], again.header("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_one_account_however_it_is_written() {
    let gateway = TestGateway::start("").await;
    assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": "+98 912 000 0004"})).await.status, 200);
    let code = gateway.sandbox_code("09120000004").await;
    let persian = json!({"mobile_number": "۰۹۱۲۰۰۰۰۰۰۴", "code": code});
    gateway.post("/authenticate/", persian).await.login();
    let pending = gateway.post("/otp/send/", json!({"mobile_number": "00989120000004"})).await;
    assert_eq!(pending.status, 200, "the used code is not pending: {pending:?}");
    let pending = gateway.post("/otp/send/", json!({"mobile_number": 9120000004_u64})).await;
    assert_eq!(pending.status, 409, "{pending:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_wrong_guesses_burn_a_code() {
    let gateway = TestGateway::start("").await;
    for (number, wrong, status) in [("09120000005", 4, 200), ("09120000006", 5, 401)] {
        assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": number})).await.status, 200);
        let code = gateway.sandbox_code(number).await;
        let other = if code == "000000" { "000001" } else { "000000" };
        for _ in 0..wrong {
            let guess = gateway.post("/authenticate/", json!({"mobile_number": number, "code": other})).await;
            assert_eq!(guess.status, 401);
        }
        let right = gateway.post("/authenticate/", json!({"mobile_number": number, "code": code})).await;
        assert_eq!(right.status, status, "after {wrong} wrong guesses: {right:?}");
    }
}

/// Every limit of a code, reached at both ends of its configurable range.
#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_codes_hold_in_every_configuration() {
    for (length, minutes, attempts, gap) in [(4, 1, 1, 1), (10, 10, 10, 0), (6, 3, 2, 180)] {
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let config = format!(
            "[auth]\notp_length = {length}\notp_expire_minutes = {minutes}\notp_attempts_max = {attempts}\n\
             otp_resend_seconds = {gap}\n[sms.shield]\nnumber_gap_seconds = 0\nnumber_per_hour_max = 100\n\
             number_per_day_max = 100\n"
        );
        let gateway = TestGateway::start_at(&config, clock.clone()).await;
        let send = async |number: &str| gateway.post("/otp/send/", json!({"mobile_number": number})).await;
        let verify = async |number: &str, code: &str| {
            gateway.post("/authenticate/", json!({"mobile_number": number, "code": code})).await.status
        };
        // Attempts: the last one may be right, and one more wrong guess burns the code.
        for (number, wrong, status) in [("09120000060", attempts - 1, 200), ("09120000061", attempts, 401)] {
            assert_eq!(send(number).await.status, 200);
            let code = gateway.sandbox_code(number).await;
            assert_eq!(code.len(), length);
            for _ in 0..wrong {
                assert_eq!(verify(number, "x").await, 401);
            }
            assert_eq!(verify(number, &code).await, status, "{wrong} of {attempts} guesses were wrong");
        }
        // A burned code does not block another one.
        assert_eq!(send("09120000061").await.status, 200);
        // Lifetime: valid until its last second, refused from then on.
        let lifetime = Duration::from_secs(minutes * 60);
        for (number, age, status) in
            [("09120000062", lifetime - Duration::from_secs(1), 200), ("09120000063", lifetime, 401)]
        {
            assert_eq!(send(number).await.status, 200);
            let code = gateway.sandbox_code(number).await;
            clock.advance(age);
            assert_eq!(verify(number, &code).await, status, "{age:?} of {lifetime:?}");
        }
        // The gap: another code is sent after it, not before; 0 means until the code expires.
        let gap = if gap == 0 { lifetime } else { Duration::from_secs(gap) };
        let number = "09120000064";
        assert_eq!(send(number).await.status, 200);
        clock.advance(gap - Duration::from_millis(1));
        assert_eq!(send(number).await.status, 409, "1 ms before {gap:?}");
        clock.advance(Duration::from_millis(1));
        assert_eq!(send(number).await.status, 200, "after {gap:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_code_is_one_login_under_50_parallel_verifies() {
    let gateway = TestGateway::start("").await;
    let number = "09120000007";
    assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": number})).await.status, 200);
    let code = gateway.sandbox_code(number).await;
    let attempts =
        (0..50).map(|_| gateway.post("/authenticate/", json!({"mobile_number": number, "code": code})));
    let answers = futures_util::future::join_all(attempts).await;
    let logins = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(logins, 1);
    assert!(answers.iter().all(|answer| [200, 401].contains(&answer.status)));
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_sends_to_one_number_are_one_message() {
    let gateway = TestGateway::start("").await;
    let sends = (0..8).map(|_| gateway.post("/otp/send/", json!({"mobile_number": "09120000008"})));
    let statuses: Vec<u16> =
        futures_util::future::join_all(sends).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
    let inbox = gateway.get("/sandbox/inbox/?mobile_number=09120000008", None).await;
    assert_eq!(inbox.body["results"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_differ_and_may_begin_with_a_zero() {
    let gateway = TestGateway::start("[auth]\notp_length = 4\n").await;
    let mut codes = BTreeSet::new();
    for n in 0..120 {
        let number = format!("0913000{n:04}");
        assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": number})).await.status, 200);
        let code = gateway.sandbox_code(&number).await;
        assert_eq!(code.len(), 4);
        codes.insert(code);
    }
    // 120 draws from 10,000: fewer than 100 distinct ones has a probability below 10^-15, none with a leading zero
    // below 10^-5.
    assert!(codes.len() > 100);
    assert!(codes.iter().any(|code| code.starts_with('0')));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_sent_as_a_number_keeps_the_zeros_it_begins_with() {
    let gateway = TestGateway::start("[auth]\notp_length = 4\n").await;
    for n in 0..500 {
        let number = format!("0914000{n:04}");
        assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": number})).await.status, 200);
        let code = gateway.sandbox_code(&number).await;
        if code.starts_with('0') {
            let code: u64 = code.parse().expect("digits");
            gateway.post("/authenticate/", json!({"mobile_number": number, "code": code})).await.login();
            return;
        }
    }
    // One code in ten begins with a zero, so this has a probability below 10^-22.
    panic!("no code of 500 began with a zero");
}

const KAVENEGAR: &str = r#"
[sms]
service = "KAVENEGAR_COM"
[provider.KAVENEGAR_COM]
hosts = ["SIMULATOR"]
[provider.KAVENEGAR_COM.settings]
api_key = "test-key"
base_url = "http://SIMULATOR"
request_timeout_ms = 1000
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_number_logs_in_through_kavenegar() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let gateway = TestGateway::start(&KAVENEGAR.replace("SIMULATOR", &simulator.addr.to_string())).await;
    let number = "09120000010";
    assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": number})).await.status, 200);
    let messages = simulator.messages();
    assert_eq!((messages.len(), messages[0].number.as_str()), (1, number));
    let code = code_in(messages[0].text.as_deref().expect("a text"));
    gateway.post("/authenticate/", json!({"mobile_number": number, "code": code})).await.login();
    // The sandbox route exists only while a sandbox provider is selected.
    assert_eq!(gateway.get("/sandbox/inbox/", None).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_frees_the_number_and_an_unknown_outcome_keeps_the_code() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let gateway = TestGateway::start(&KAVENEGAR.replace("SIMULATOR", &simulator.addr.to_string())).await;
    let body = json!({"mobile_number": "09120000011"});

    simulator.fault(Fault::code("kavenegar", 418).times(1)).expect("a fault");
    let refused = gateway.post("/otp/send/", body.clone()).await;
    assert_eq!((refused.status, &refused.body["code"]), (502, &json!("sms_refused")), "{refused:?}");

    // Accepted, then the connection breaks, also when asked again with the same id: the outcome is unknown, so
    // nothing is sent again.
    simulator.fault(Fault::new("kavenegar", FaultKind::CutAfter).times(2)).expect("a fault");
    let unknown = gateway.post("/otp/send/", body.clone()).await;
    assert_eq!((unknown.status, &unknown.body["code"]), (500, &json!("sms_outcome_unknown")), "{unknown:?}");
    let messages = simulator.messages();
    assert_eq!(messages.len(), 1, "{messages:?}");

    // The code that arrived works.
    let code = code_in(messages[0].text.as_deref().expect("a text"));
    let login = json!({"mobile_number": "09120000011", "code": code});
    gateway.post("/authenticate/", login).await.login();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_provider_takes_over_when_the_first_has_no_credit() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let config = KAVENEGAR.replace("SIMULATOR", &simulator.addr.to_string());
    let config =
        config.replace("service = \"KAVENEGAR_COM\"", "service = [\"KAVENEGAR_COM\", \"SANDBOX_SMS\"]");
    let gateway = TestGateway::start(&config).await;
    simulator.fault(Fault::code("kavenegar", 418)).expect("a fault");
    gateway.login("09120000012").await;
    // An invalid number is invalid everywhere, so no other provider is tried.
    simulator.faults_clear();
    simulator.fault(Fault::code("kavenegar", 411)).expect("a fault");
    // Changed, the provider is asked first again; without credit it was asked last.
    gateway.edit_config(&config.replace("test-key", "other-key"));
    let until = std::time::Instant::now() + chelseru_tests::PATIENCE;
    while gateway.status().await["sms"]["providers"]["KAVENEGAR_COM"]["credit"]["stepped_back"] == true {
        assert!(std::time::Instant::now() < until, "the edit never applies");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let refused = gateway.post("/otp/send/", json!({"mobile_number": "09120000013"})).await;
    assert_eq!(refused.status, 502, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_stays_valid_when_its_client_goes_away() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let gateway = TestGateway::start(&KAVENEGAR.replace("SIMULATOR", &simulator.addr.to_string())).await;
    simulator.fault(Fault::delay("kavenegar", 500).accept(false).times(1)).expect("a fault");
    let number = "09120000014";
    let request = gateway.client.post(gateway.at("/otp/send/")).json(&json!({"mobile_number": number}));
    let until = std::time::Instant::now() + chelseru_tests::PATIENCE;
    let sending = tokio::spawn(request.send());
    while !simulator.faults().is_empty() {
        assert!(std::time::Instant::now() < until, "the provider was never asked");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    sending.abort();
    assert!(sending.await.is_err_and(|error| error.is_cancelled()), "it went away before the answer");
    while simulator.messages().is_empty() {
        assert!(std::time::Instant::now() < until, "the message was never sent");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let code = code_in(simulator.messages()[0].text.as_deref().expect("a text"));
    gateway.post("/authenticate/", json!({"mobile_number": number, "code": code})).await.login();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_request_ids_and_neither_numbers_nor_codes_nor_tokens() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let config = KAVENEGAR.replace("SIMULATOR", &simulator.addr.to_string());
    let dir = chelseru_tests::folder(&format!("{config}\n[log]\nlevel = \"trace\"\nformat = \"json\"\n"));
    let log = dir.path().join("log");
    let served = Served::start_logging(dir.path(), &log);
    let client = chelseru_tests::client();
    let post = |path: &str, body: Value| Answer::of(client.post(format!("{}{path}", served.url)).json(&body));

    let number = "09127654321";
    simulator.fault(Fault::code("kavenegar", 418).times(1)).expect("a fault");
    assert_eq!(post("/otp/send/", json!({"mobile_number": number})).await.status, 502);
    let sent = post("/otp/send/", json!({"mobile_number": number})).await;
    assert_eq!(sent.status, 200);
    let code = code_in(simulator.messages()[0].text.as_deref().expect("a text"));
    assert_eq!(post("/authenticate/", json!({"mobile_number": number, "code": "000"})).await.status, 401);
    let login = post("/authenticate/", json!({"mobile_number": number, "code": code})).await.login();
    served.kill();

    let log = std::fs::read_to_string(log).expect("a log");
    assert!(log.contains(sent.header("x-request-id")), "{log}");
    assert!(log.contains("0912***4321"), "{log}");
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    for secret in [number, "+989127654321", &code, &login.access, &login.refresh, "test-key"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is in the log");
    }
}
