//! Replays the original's recorded requests and compares this gateway's answers: status, shape of the body, and the
//! texts that clients read.
//!
//! This file covers login, sessions and messages. Payments, chat and sockets have their own modules; shared parts are
//! in [`recorded`](crate::recorded). A recorded request is sent unchanged, with its placeholders (`<otp>`, `<jwt>`)
//! filled in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_domain::ids::UserId;
use chelseru_simulator::{Fault, FaultKind, Simulator};
use chelseru_tests::{Answer, TestGateway};
use serde_json::{Value, json};

use crate::recorded::{self, Case, Difference, Verdict, first_of_each, type_difference};

const AREA: [&str; 6] = [
    "/drfchelseru/otp/",
    "/drfchelseru/authenticate",
    "/drfchelseru/sessions",
    "/drfchelseru/register/",
    "/drfchelseru/login/",
    "/drfchelseru/message/send",
];

pub(crate) const DIFFERENCES: &[Difference] = &[
    ("otp_send.not_a_mobile_is_accepted", 400, "8: any string was taken as a number"),
    ("otp_send.spaces_are_trimmed", 400, "8: ten digits were taken as a number"),
    ("otp_send.accept_html", 405, "there is no browsable page; browsers get JSON"),
    ("authenticate.missing_mobile", 400, "11: 204 with a body"),
    ("authenticate.blank_mobile", 400, "11: 204 with a body"),
    ("authenticate.short_mobile", 400, "11: 204 with a body"),
    ("authenticate.letters_in_mobile", 400, "11: 204 with a body"),
    ("authenticate.not_09", 400, "11: 204 with a body"),
    ("authenticate.integer_mobile", 401, "11: 204 with a body; a number is its digits, as in otp/send/"),
    ("authenticate.missing_code", 400, "11: 204 with a body"),
    ("authenticate.malformed_json", 400, "12: bad JSON was a crash"),
    ("authenticate.unsupported_media", 415, "12: a wrong media type was a crash"),
    ("authenticate.body_is_array", 400, "11: 204 with a body"),
    ("authenticate.body_is_string", 400, "12: bad JSON was a crash"),
    ("authenticate.group_string_010", 400, "13: what is no integer was silently group 0"),
    ("authenticate.group_string_abc", 400, "13: what is no integer was silently group 0"),
    ("authenticate.group_string_minus_1", 400, "13: the client picked negative groups"),
    ("authenticate.group_string_huge", 400, "13: a huge group was a crash"),
    ("authenticate.expired", 401, "12: an expired code was a crash"),
    ("authenticate.after_200_wrong_codes_ok", 401, "7: codes could be guessed without end"),
    ("sessions.leak_all_users", 200, "2: everybody's sessions were listed; ours lists the caller's own"),
    ("sessions.two_rows_for_one_user_500", 200, "2: a second session made every request fail"),
    ("sessions.ok_empty_even_after_many_calls", 200, "2: no session was ever listed"),
    ("sessions.accept_format_query", 200, "2: no session was ever listed"),
    ("sessions.token_with_integer_user_id", 200, "2: no session was ever listed"),
    ("sessions.row_updated_by_request", 200, "2: another user's session was listed"),
    ("authenticate.squatted_number_500", 200, "14: a registered name locked the number's owner out"),
    (
        "otp_send.provider_entry_status_4_counts_as_failure",
        200,
        "status 4 is handed to the carrier (Kavenegar, section 7)",
    ),
    ("otp_send.provider_slow_20s", 500, "25: a slow provider held the request; now there is a deadline"),
    ("login_refresh_does_not_exist", 404, "the same status as JSON; the route is token/refresh/"),
    ("register.without_email_500", 201, "27: a missing mail address was a crash; it is optional"),
    ("register.squat_otp_username", 400, "14: the names of the login by code cannot be chosen"),
    ("otp_send.when_method_is_passwd", 403, "33: a method that is switched off was a crash"),
    ("authenticate.when_method_is_passwd", 403, "33: a method that is switched off was a crash"),
    ("message_send.mobile_not_checked", 400, "8: any string was taken as a number"),
    ("message_send.malformed_json_500", 400, "12: bad JSON was a crash"),
    (
        "message_send.provider_html_gives_200",
        202,
        "24: an unreadable answer was an empty success; by its id the provider is asked again",
    ),
    ("message_send.provider_dropped", 202, "the message is stored; by its id the provider is asked again"),
    ("message_send.tokens_integer", 200, "27: a number was a crash; it is its digits, as in every field"),
    (
        "otp_send.parsian_401",
        502,
        "the gateway's key is refused, not the client's: 401 would send it to log in",
    ),
    ("message_send.parsian_401", 502, "the gateway's key is refused, not the client's"),
    ("message_send.parsian_no_template", 400, "the provider sends templates only, which the client can mend"),
    ("message_send.meli_result_2_no_credit_reported_as_success", 502, "23: no credit was a success"),
    ("otp_send.meli_result_0_bad_credentials_reported_as_success", 502, "23: a bad login was a success"),
    (
        "message_send.meli_unreachable",
        202,
        "23: a failure was errorcode false; the message is kept and tried again",
    ),
    ("otp_send.client_chooses_template", 200, "9: the client chose the template; the configuration does"),
];

/// Recorded groups that another test replays, or none, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("passwd method", "replayed in `with_passwords_only_the_code_routes_are_switched_off`"),
    ("README-literal (no REST_FRAMEWORK setting)", "settings of the original's framework; defect 3"),
    ("DEBUG=1", "the original's debug pages"),
    ("phone home slow", "defect 25: nothing is sent home, so there is nothing to wait for"),
    ("uvicorn 1 worker", "the same requests under another server; defect 11"),
    ("gunicorn wsgi", "the same requests under another server; defect 11"),
    ("kavenegar without OTP template", "replayed in `without_a_template_the_text_is_sent`"),
];

/// The cases of this area, by the configuration of their recording.
fn cases() -> BTreeMap<String, Vec<Case>> {
    let mut groups: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for case in recorded::cases(&AREA) {
        groups.entry(case.group.clone()).or_default().push(case);
    }
    groups
}

const CONFIG: &str = r#"
[auth]
method = ["OTP", "PASSWD"]
otp_length = 8
otp_template = "otp"
groups = "any"

[sms]
service = "KAVENEGAR_COM"
[sms.templates.otp]
KAVENEGAR_COM = "otp-template"
[sms.templates.1]
KAVENEGAR_COM = "one"
[sms.templates.tpl]
KAVENEGAR_COM = "tpl"

[plugins]
wall_time_seconds = 3

[provider.KAVENEGAR_COM]
hosts = ["SIMULATOR"]
[provider.KAVENEGAR_COM.settings]
api_key = "test-key"
base_url = "http://SIMULATOR"
request_timeout_ms = 1500
"#;

/// A gateway behind a simulator, and the state of a replay.
struct Replay {
    simulator: Simulator,
    gateway: TestGateway,
    clock: Arc<ManualClock>,
    api_key: String,
    /// The first login's tokens: the `<jwt>` of the recordings.
    access: Option<String>,
    refresh: Option<String>,
}

impl Replay {
    async fn start(config: &str) -> Replay {
        let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
        let config = config.replace("SIMULATOR", &simulator.addr.to_string());
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let gateway = TestGateway::start_at(&config, clock.clone()).await;
        let (store, now) = (&gateway.app.store, clock.now());
        let api_key = chelseru_domain::operator::api_key::create(store, now, "", "sms", None)
            .await
            .expect("a key")
            .token;
        Replay { simulator, gateway, clock, api_key, access: None, refresh: None }
    }

    /// The code of the newest message to a number.
    fn code(&self, number: &str) -> String {
        let messages = self.simulator.messages();
        let message = messages.iter().rev().find(|message| message.number == number);
        let message = message.unwrap_or_else(|| panic!("no message to {number}"));
        let token = message.tokens.iter().find(|(name, _)| name == "token");
        match token {
            Some((_, value)) => value.clone(),
            None => chelseru_tests::code_in(message.text.as_deref().unwrap_or_default()),
        }
    }

    async fn send(&self, case: &Case, token: Option<&str>) -> Answer {
        let mut recorded = case.request.clone();
        recorded["body"] = self.filled(&recorded["body"]);
        let request = recorded::request(&self.gateway, &recorded, token);
        // Defect 8: the original sent for anybody; here a key is required.
        Answer::of(match recorded["path"].as_str() {
            Some("/drfchelseru/message/send/") => {
                request.header("authorization", format!("Api-Key {}", self.api_key))
            }
            _ => request,
        })
        .await
    }

    /// The recorded body with the code of its number.
    fn filled(&self, body: &Value) -> Value {
        let mut body = body.clone();
        let number = body["mobile_number"].as_str().map(fold_digits).unwrap_or_default();
        match body["code"].as_str() {
            Some("<otp>") => body["code"] = self.code(&number).into(),
            Some("<otp as JSON number>") => {
                body["code"] = self.code(&number).parse::<u64>().expect("digits").into();
            }
            _ => {}
        }
        body
    }
}

/// Persian digits as ASCII ones.
fn fold_digits(text: &str) -> String {
    let fold = |c: char| match c {
        '\u{6f0}'..='\u{6f9}' => char::from(b'0' + (c as u32 - 0x6f0) as u8),
        other => other,
    };
    text.chars().map(fold).collect()
}

/// The difference between a recorded response and an answer; `None` when a client sees the same.
fn difference(recorded: &Value, answer: &Answer) -> Option<String> {
    let body = &recorded["body"];
    recorded::head_difference(recorded, answer)
        .or_else(|| if body.is_null() { None } else { shape_difference("body", body, &answer.body) })
}

/// Keys that every error of ours adds (and `details`, which the original has in one of two similar cases), and keys
/// that the original has only sometimes.
const ADDED: [&str; 7] = ["code", "request_id", "details", "id", "status", "provider", "tried"];
const OPTIONAL: [&str; 3] = ["errorcode", "errortext", "message"];

fn shape_difference(at: &str, recorded: &Value, ours: &Value) -> Option<String> {
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => {
            for (key, value) in recorded {
                match ours.get(key) {
                    Some(our) => {
                        if let Some(found) = shape_difference(&format!("{at}.{key}"), value, our) {
                            return Some(found);
                        }
                    }
                    None if OPTIONAL.contains(&key.as_str()) => {}
                    None => return Some(format!("{at}.{key} is missing")),
                }
            }
            let added = ours.keys().find(|key| {
                !recorded.contains_key(*key)
                    && !ADDED.contains(&key.as_str())
                    && !OPTIONAL.contains(&key.as_str())
            });
            added.map(|key| format!("{at}.{key} is new"))
        }
        (Value::Array(recorded), Value::Array(ours)) => match first_of_each(at, recorded, ours) {
            Ok(Some((recorded, ours))) => shape_difference(&format!("{at}[0]"), recorded, ours),
            Ok(None) => None,
            Err(found) => Some(found),
        },
        (Value::String(recorded), Value::String(ours)) => {
            // Texts with placeholders, and those of parsers and field rules, may be worded differently.
            let fixed = (at.ends_with(".detail") || at.ends_with(".details") || at.ends_with(".message"))
                && !recorded.contains('<')
                && !recorded.starts_with("JSON parse error");
            (fixed && recorded != ours).then(|| format!("{at}: {recorded:?} became {ours:?}"))
        }
        _ => type_difference(at, recorded, ours),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_requests_are_answered_as_the_original_did() {
    let mut groups = cases();
    let mut replay = Replay::start(CONFIG).await;
    let mut verdict = Verdict::new(DIFFERENCES);
    let cases = groups.remove("kavenegar+zarinpal").expect("recorded");
    for case in &cases {
        prepare(&mut replay, case).await;
        let token = token_for(&replay, &case.name).await;
        let answer = replay.send(case, token.as_deref()).await;
        if case.name == "authenticate.ok_new_user" {
            let login = answer.login();
            (replay.access, replay.refresh) = (Some(login.access), Some(login.refresh));
        }
        verdict.judge(case, difference(&case.response, &answer), &answer);
    }
    verdict.end(60);
}

/// Sets up the state before a recorded request.
async fn prepare(replay: &mut Replay, case: &Case) {
    let number = case.request["body"]["mobile_number"].as_str().map(fold_digits);
    match case.name.as_str() {
        "authenticate.expired" => replay.clock.advance(Duration::from_secs(241)),
        // The recording logs in numbers whose codes were requested off the record.
        name if name.starts_with("authenticate.group_") || name == "authenticate.persian_digits_ok" => {
            let number = number.expect("a number");
            let sent = replay.gateway.post("/otp/send/", json!({"mobile_number": number})).await;
            // A code requested earlier in the recording may still be pending.
            assert!([200, 409].contains(&sent.status), "{name}: {sent:?}");
        }
        "authenticate.after_200_wrong_codes_ok" => {
            for _ in 0..200 {
                let guess = json!({"mobile_number": number, "code": "00000000"});
                assert_eq!(replay.gateway.post("/authenticate/", guess).await.status, 401);
            }
        }
        "sessions.user_inactive" => {
            let known = replay.gateway.app.store.user_set_active(UserId(1), false).await.expect("stored");
            assert!(known);
        }
        // The recording continues with an active user; being inactive ended the sessions.
        "sessions.ok_empty_even_after_many_calls" => {
            replay.gateway.app.store.user_set_active(UserId(1), true).await.expect("stored");
            log_in(replay).await;
        }
        // The recording's access token lives five minutes, and the clock was moved past it.
        "sessions.no_credentials" => log_in(replay).await,
        _ => {}
    }
}

/// Logs the recording's first user in again.
async fn log_in(replay: &mut Replay) {
    let number = "09120000001";
    let sent = replay.gateway.post("/otp/send/", json!({"mobile_number": number})).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let code = replay.code(number);
    let login =
        replay.gateway.post("/authenticate/", json!({"mobile_number": number, "code": code})).await.login();
    (replay.access, replay.refresh) = (Some(login.access), Some(login.refresh));
}

/// The `<jwt>` of a recorded request.
async fn token_for(replay: &Replay, case: &str) -> Option<String> {
    let access = replay.access.clone()?;
    Some(match case {
        "sessions.refresh_token_used" => replay.refresh.clone()?,
        "sessions.bad_signature" => {
            // A changed first character makes a different signature.
            let (rest, signature) = access.rsplit_once('.')?;
            let first = if signature.starts_with('A') { 'B' } else { 'A' };
            format!("{rest}.{first}{}", &signature[1..])
        }
        "sessions.expired_token" => resign(replay, &access, |claims| claims["exp"] = 1.into()),
        "sessions.user_deleted" => resign(replay, &access, |claims| claims["user_id"] = "999999".into()),
        "sessions.token_without_user_id" => resign(replay, &access, |claims| {
            claims.as_object_mut().expect("an object").remove("user_id");
        }),
        "sessions.token_with_integer_user_id" => resign(replay, &access, |claims| {
            let id: u64 = claims["user_id"].as_str().and_then(|id| id.parse().ok()).expect("a number");
            claims["user_id"] = id.into();
        }),
        _ => access,
    })
}

/// A token with changed claims, signed with the gateway's own key.
fn resign(replay: &Replay, token: &str, change: impl FnOnce(&mut Value)) -> String {
    use chelseru_domain::secret::{KeyUse, MasterKey};

    let bytes = std::fs::read(replay.gateway.dir.path().join("data/master.key")).expect("the key");
    let key = MasterKey::from_bytes(bytes.try_into().expect("32 bytes")).derive(KeyUse::JwtHs256);
    let header = jsonwebtoken::decode_header(token).expect("a header");
    let mut claims = jsonwebtoken::dangerous::insecure_decode::<Value>(token).expect("claims").claims;
    change(&mut claims);
    jsonwebtoken::encode(&header, &claims, &jsonwebtoken::EncodingKey::from_secret(key.expose()))
        .expect("signed")
}

fn answer(body: &str) -> Fault {
    Fault::new("kavenegar", FaultKind::Status { code: 200, body: Some(body.to_owned()) })
}

/// An answer whose one message has this status.
fn entry(status: i64) -> Fault {
    let entry = json!({"messageid": 1, "status": status, "statustext": "x", "receptor": "", "cost": 120});
    answer(&json!({"return": {"status": 200, "message": "x"}, "entries": [entry]}).to_string())
}

/// The provider's behaviour in each recorded case of the group "kavenegar errors".
fn provider_fault(case: &str) -> Option<Fault> {
    Some(match case {
        "otp_send.provider_entry_status_11" => entry(11),
        "otp_send.provider_entry_status_4_counts_as_failure" => entry(4),
        "otp_send.provider_entry_status_1_ok" => entry(1),
        "otp_send.provider_entry_status_10_ok" => entry(10),
        "otp_send.provider_http_418" => Fault::code("kavenegar", 418),
        "otp_send.provider_http_403_no_entries" => Fault::code("kavenegar", 403),
        "otp_send.provider_html" => Fault::new("kavenegar", FaultKind::Html),
        "otp_send.provider_empty_object" => answer("{}"),
        "otp_send.provider_connection_dropped" => Fault::new("kavenegar", FaultKind::CutBefore),
        "otp_send.provider_slow_20s" => Fault::delay("kavenegar", 20_000),
        // Twice, because a text is retried with the same id.
        "message_send.provider_411" => Fault::code("kavenegar", 411),
        "message_send.provider_html_gives_200" => Fault::new("kavenegar", FaultKind::Html).times(2),
        "message_send.provider_dropped" => Fault::new("kavenegar", FaultKind::CutBefore).times(2),
        _ => return None,
    })
}

/// The provider's behaviour in each recorded case of the other two providers.
fn other_providers_fault(case: &str) -> Option<Fault> {
    let body = |provider: &str, code: u16, body: &str| {
        Fault::new(provider, FaultKind::Status { code, body: Some(body.to_owned()) })
    };
    Some(match case.split_once('.').map_or("", |(_, name)| name) {
        "parsian_100" => body("parsian_webco", 200, r#"{"status": 100}"#),
        "parsian_401" => body("parsian_webco", 200, r#"{"status": 401}"#),
        "parsian_other_status" => body("parsian_webco", 200, r#"{"status": 500}"#),
        "parsian_not_json" => Fault::new("parsian_webco", FaultKind::Html),
        "meli_result_2_no_credit_reported_as_success" => Fault::code("meli_payamak", 2),
        "meli_result_0_bad_credentials_reported_as_success" => Fault::code("meli_payamak", 0),
        _ => return None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_providers_are_answered_as_the_original_did() {
    let meli = CONFIG
        .replace("KAVENEGAR_COM", "MELI_PAYAMAK_COM")
        .replace("otp_template = \"otp\"", "")
        .replace("= \"otp-template\"", "= \"1\"")
        .replace("= \"one\"", "= \"1\"")
        .replace("= \"tpl\"", "= \"1\"")
        .replace(
            "api_key = \"test-key\"",
            "username = \"u\"\npassword = \"p\"\nsender = \"50001\"\napi = \"soap\"",
        );
    let parsian = CONFIG
        .replace("KAVENEGAR_COM", "PARSIAN_WEBCO_IR")
        .replace("= \"otp-template\"", "= \"7\"")
        .replace("= \"one\"", "= \"1\"")
        .replace("= \"tpl\"", "= \"1\"");
    for (group, config, count) in [("parsian", parsian, 9), ("melipayamak", meli, 5)] {
        let cases = cases().remove(group).expect("recorded");
        assert_eq!(cases.len(), count, "{group}");
        let replay = Replay::start(&config).await;
        let mut verdict = Verdict::new(DIFFERENCES);
        for case in &cases {
            replay.simulator.faults_clear();
            replay.clock.advance(Duration::from_secs(241));
            if let Some(fault) = other_providers_fault(&case.name) {
                replay.simulator.fault(fault.times(1)).expect("a fault");
            }
            if case.name == "message_send.meli_unreachable" {
                // Nothing listens there, so the provider is unreachable.
                let gone = std::net::TcpListener::bind("127.0.0.1:0")
                    .expect("a port")
                    .local_addr()
                    .expect("an address");
                let config = config.replace("SIMULATOR", &gone.to_string());
                replay.gateway.edit_config(&config);
                replay
                    .gateway
                    .wait_for("the edit", |status| status["config"]["generation"] == json!(2))
                    .await;
            }
            let answer = replay.send(case, None).await;
            verdict.judge(case, difference(&case.response, &answer), &answer);
        }
        verdict.end(count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_failures_are_answered_as_the_original_did() {
    let cases = cases().remove("kavenegar errors").expect("recorded");
    let replay = Replay::start(CONFIG).await;
    let mut verdict = Verdict::new(DIFFERENCES);
    for case in &cases {
        replay.simulator.faults_clear();
        // The number is free again; each recording started from an empty table.
        replay.clock.advance(Duration::from_secs(241));
        if let Some(fault) = provider_fault(&case.name) {
            let times = fault.times.unwrap_or(1);
            replay.simulator.fault(fault.times(times)).expect("a fault");
        }
        let answer = replay.send(case, None).await;
        verdict.judge(case, difference(&case.response, &answer), &answer);
    }
    verdict.end(10);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_template_the_text_is_sent() {
    let cases = cases().remove("kavenegar without OTP template").expect("recorded");
    let config = CONFIG.replace("otp_template = \"otp\"", "otp_template = \"\"");
    let replay = Replay::start(&config).await;
    let mut verdict = Verdict::new(DIFFERENCES);
    for case in &cases {
        let answer = replay.send(case, None).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        if case.name != "otp_send.client_chooses_template" {
            verdict.judge(case, difference(&case.response, &answer), &answer);
        }
    }
    verdict.end(1);
    // Defect 9: neither the client's template nor its extra tokens reach the provider.
    let messages = replay.simulator.messages();
    assert_eq!(messages.len(), cases.len());
    for message in messages {
        assert_eq!(message.template, None, "{message:?}");
        assert!(message.text.as_ref().is_some_and(|text| text.starts_with("Your code: ")), "{message:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_passwords_only_the_code_routes_are_switched_off() {
    let cases = cases().remove("passwd method").expect("recorded");
    let config = CONFIG.replace("method = [\"OTP\", \"PASSWD\"]", "method = \"PASSWD\"");
    let replay = Replay::start(&config).await;
    let mut verdict = Verdict::new(DIFFERENCES);
    for case in &cases {
        let answer = replay.send(case, None).await;
        verdict.judge(case, difference(&case.response, &answer), &answer);
    }
    verdict.end(4);
}

#[test]
fn every_recorded_group_is_replayed_or_named() {
    let replayed = ["kavenegar+zarinpal", "kavenegar errors", "postgres", "parsian", "melipayamak"];
    for group in cases().keys() {
        let named = ELSEWHERE.iter().any(|(name, _)| name == group);
        assert!(named || replayed.contains(&group.as_str()), "{group:?} is not replayed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_recorded_on_another_database_are_answered() {
    let cases = cases().remove("postgres").expect("recorded");
    let replay = Replay::start(CONFIG).await;
    // Input that crashed the original is a client error here.
    let expected = BTreeMap::from([
        ("pg.authenticate.code_too_long", 401),
        ("pg.authenticate.nul_byte", 401),
        ("pg.authenticate.group_huge_500", 400),
    ]);
    for case in &cases {
        let number = case.request["body"]["mobile_number"].as_str().expect("a number").to_owned();
        let sent = replay.gateway.post("/otp/send/", json!({"mobile_number": number})).await;
        assert!([200, 409].contains(&sent.status), "{sent:?}");
        let answer = replay.send(case, None).await;
        assert_eq!(Some(&answer.status), expected.get(case.name.as_str()), "{}: {answer:?}", case.name);
    }
    assert_eq!(cases.len(), expected.len());
}
