//! Messages from a client to a provider and back: keys, idempotency, failover, retries, reports, shield, crashes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_domain::operator::api_key;
use chelseru_simulator::{Fault, FaultKind, Simulator};
use chelseru_store::{SmsContent, SmsFilter, SmsOrder, SmsRange, SmsReported};
use chelseru_tests::process::{self, Served};
use chelseru_tests::{Answer, PATIENCE, TestGateway, code_in};
use serde_json::{Value, json};

const KAVENEGAR: &str = r#"
[sms]
service = "KAVENEGAR_COM"
retry_seconds_min = 1
retry_seconds_max = 1
[sms.templates.1]
KAVENEGAR_COM = "welcome"
[provider.KAVENEGAR_COM]
hosts = ["SIMULATOR"]
[provider.KAVENEGAR_COM.settings]
api_key = "test-key"
base_url = "http://SIMULATOR"
request_timeout_ms = 5000
"#;

const TWO: &str = r#"
[sms]
service = ["KAVENEGAR_COM", "MELI_PAYAMAK_COM"]
circuit_failures = 3
[provider.KAVENEGAR_COM]
hosts = ["SIMULATOR"]
[provider.KAVENEGAR_COM.settings]
api_key = "test-key"
base_url = "http://SIMULATOR"
[provider.MELI_PAYAMAK_COM]
hosts = ["SIMULATOR"]
[provider.MELI_PAYAMAK_COM.settings]
username = "u"
password = "p"
sender = "50001"
base_url = "http://SIMULATOR"
"#;

/// A gateway behind a simulator, and an API key.
struct Shop {
    simulator: Simulator,
    gateway: TestGateway,
    clock: Arc<ManualClock>,
    token: String,
}

impl Shop {
    async fn open(config: &str) -> Shop {
        let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
        let config = config.replace("SIMULATOR", &simulator.addr.to_string());
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let gateway = TestGateway::start_at(&config, clock.clone()).await;
        let token = new_key(&gateway, None).await;
        Shop { simulator, gateway, clock, token }
    }

    fn request(&self, body: &Value) -> reqwest::RequestBuilder {
        let request = self.gateway.client.post(self.gateway.at("/message/send/")).json(body);
        request.header("authorization", format!("Api-Key {}", self.token))
    }

    async fn send(&self, body: Value) -> Answer {
        Answer::of(self.request(&body)).await
    }

    async fn get(&self, path: &str) -> Answer {
        let url = if path.starts_with("http") { path.to_owned() } else { self.gateway.at(path) };
        let request = self.gateway.client.get(url);
        Answer::of(request.header("authorization", format!("Api-Key {}", self.token))).await
    }

    /// Advances the clock until a message has a status.
    async fn wait_for(&self, id: &Value, status: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let message = self.get(&format!("/message/{id}/")).await.body;
            if message["status"] == status {
                return message;
            }
            assert!(Instant::now() < until, "never {status}: {message}");
            self.clock.advance(Duration::from_millis(500));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn new_key(gateway: &TestGateway, daily_cap: Option<u64>) -> String {
    let now = gateway.app.clock.now();
    api_key::create(&gateway.app.store, now, "test", "sms", daily_cap).await.expect("a key").token
}

fn hello(number: &str) -> Value {
    json!({"mobile_number": number, "message_text": "hello"})
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_holds_a_key_may_send_and_it_is_not_an_open_relay() {
    let shop = Shop::open(KAVENEGAR).await;
    let url = shop.gateway.at("/message/send/");
    let body = hello("09120000001");
    let anonymous = Answer::of(shop.gateway.client.post(&url).json(&body)).await;
    assert_eq!((anonymous.status, anonymous.header("www-authenticate")), (401, "Bearer realm=\"api\""));
    for wrong in ["Api-Key ck_1_00", "Api-Key", "Api-Key a b", "api-key x"] {
        let answer =
            Answer::of(shop.gateway.client.post(&url).json(&body).header("authorization", wrong)).await;
        assert_eq!(answer.status, 401, "{wrong}: {answer:?}");
    }
    for path in ["/message/", "/message/1/"] {
        assert_eq!(shop.gateway.get(path, None).await.status, 401, "{path}");
    }
    assert!(shop.simulator.requests().is_empty());

    // A logged-in user without the right may not send, either.
    shop.gateway.post("/otp/send/", json!({"mobile_number": "09120000002"})).await;
    let code = code_in(shop.simulator.messages()[0].text.as_deref().expect("a text"));
    let login = shop.gateway.post("/authenticate/", json!({"mobile_number": "09120000002", "code": code}));
    let user = login.await.login();
    let answer = Answer::of(shop.gateway.client.post(&url).json(&body).bearer_auth(user.access)).await;
    assert_eq!((answer.status, &answer.body["code"]), (403, &json!("permission_denied")));

    let sent = shop.send(body.clone()).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    assert_eq!(sent.body["details"], "The Message was sent correctly.");
    assert_eq!(sent.body["receiver"], "09120000001");
    assert_eq!(sent.body["message"], "hello");
    let messages = shop.simulator.messages();
    let message = messages.last().expect("a message");
    assert_eq!(sent.body["messageid"].to_string(), message.id);
    assert_eq!(message.localid.as_ref(), Some(&sent.body["id"].to_string()));

    assert!(shop.gateway.app.store.api_key_revoke(1, shop.clock.now()).await.expect("stored"));
    assert_eq!(shop.send(body).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_send_and_see_every_message_until_their_rights_end() {
    let config = format!("[auth]\nmethod = [\"OTP\", \"PASSWD\"]\n{KAVENEGAR}");
    let shop = Shop::open(&config).await;
    let by_key = shop.send(hello("09120000001")).await;
    let live = shop.gateway.app.live();
    let root = async |name: &str| {
        let password = chelseru_domain::login::password::Password::new("kavir darya 7");
        live.identity.superuser_create(&chelseru_tests::machine(), name, &password, "").await.expect("made");
        let login = json!({"username": name, "password": "kavir darya 7"});
        shop.gateway.post("/login/", login).await.login().access
    };
    let (first, second) = (root("root").await, root("other").await);
    let send = async |access: &str, key: &str| {
        let request = shop.gateway.client.post(shop.gateway.at("/message/send/")).json(&hello("09120000002"));
        Answer::of(request.bearer_auth(access).header("idempotency-key", key)).await
    };
    let sent = send(&first, "one").await;
    assert_eq!((sent.status, &sent.body["receiver"]), (200, &json!("09120000002")), "{sent:?}");
    assert_eq!(send(&first, "one").await.body, sent.body, "a repeat");
    assert_ne!(send(&second, "one").await.body["id"], sent.body["id"], "keys are not shared by the staff");
    assert_eq!(shop.simulator.accepted("kavenegar"), 3);

    let list = shop.gateway.get("/message/", Some(&first)).await.body;
    assert_eq!(list["results"].as_array().map(Vec::len), Some(3), "{list}");
    let path = format!("/message/{}/", by_key.body["id"]);
    assert_eq!(shop.gateway.get(&path, Some(&first)).await.status, 200);
    // A key sees only its own messages, and no key sees those of staff.
    assert_eq!(shop.get("/message/").await.body["results"].as_array().map(Vec::len), Some(1));

    let id = live.identity.user_find("root").await.expect("read").expect("known").id;
    let reason = chelseru_domain::operator::role::Reason::of_command();
    let permit = chelseru_tests::machine();
    live.identity.user_set_active(&permit, id, false, &reason).await.expect("stored");
    assert_eq!(send(&first, "two").await.status, 401);
    assert_eq!(shop.gateway.get("/message/", Some(&first)).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_idempotency_key_sends_nothing_and_answers_the_same() {
    let shop = Shop::open(KAVENEGAR).await;
    let send = |body: Value, key: &str| Answer::of(shop.request(&body).header("idempotency-key", key));
    let first = send(hello("09120000001"), "order-1").await;
    assert_eq!(first.status, 200, "{first:?}");
    let again = send(hello("+98 912 000 0001"), "order-1").await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    let other = send(json!({"mobile_number": "09120000001", "message_text": "bye"}), "order-1").await;
    assert_eq!((other.status, &other.body["code"]), (422, &json!("idempotency_key_reused")));
    assert_eq!(shop.simulator.accepted("kavenegar"), 1);
    // Another API key has its own idempotency keys.
    let token = new_key(&shop.gateway, None).await;
    let theirs = shop.gateway.client.post(shop.gateway.at("/message/send/")).json(&hello("09120000001"));
    let theirs =
        theirs.header("authorization", format!("Api-Key {token}")).header("idempotency-key", "order-1");
    assert_eq!(Answer::of(theirs).await.status, 200);
    assert_eq!(shop.simulator.accepted("kavenegar"), 2);

    // A failure is the first result, too.
    shop.simulator.fault(Fault::code("kavenegar", 411).times(1)).expect("a fault");
    let failed = send(hello("09120000002"), "order-2").await;
    assert_eq!(failed.status, 502, "{failed:?}");
    let again = send(hello("09120000002"), "order-2").await;
    assert_eq!((again.status, &again.body["id"]), (502, &failed.body["id"]));
    assert_eq!((&again.body["errorcode"], &again.body["tried"]), (&json!(411), &failed.body["tried"]));

    // While the first request runs, whichever comes second.
    shop.simulator.fault(Fault::delay("kavenegar", 1000).times(1)).expect("a fault");
    let (one, other) =
        tokio::join!(send(hello("09120000003"), "order-3"), send(hello("09120000003"), "order-3"));
    let (first, conflict) = if one.status == 200 { (one, other) } else { (other, one) };
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!((conflict.status, &conflict.body["code"]), (409, &json!("idempotency_running")));
    assert_eq!(shop.simulator.accepted("kavenegar"), 3);

    for (key, status) in [("x".repeat(255), 200), ("x".repeat(256), 400), (String::new(), 400)] {
        assert_eq!(send(hello("09120000004"), &key).await.status, status, "{} characters", key.len());
    }
    // After a day the key is free.
    shop.clock.advance(Duration::from_secs(24 * 60 * 60));
    assert_eq!(send(hello("09120000005"), "order-1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_a_text_costs_and_sends_nothing() {
    let shop = Shop::open(KAVENEGAR).await;
    let dry = |text: String| {
        shop.send(json!({"mobile_number": "09120000001", "message_text": text, "dry_run": true}))
    };
    let latin = dry("a".repeat(161)).await;
    assert_eq!(latin.status, 200, "{latin:?}");
    assert_eq!((&latin.body["encoding"], &latin.body["parts"]), (&json!("GSM-7"), &json!(2)));
    assert_eq!((&latin.body["ladder"], &latin.body["standard"]["parts"]), (&json!("latin"), &json!(2)));
    let persian = dry(format!("{} https://a.ir لغو۱۱", "س".repeat(71))).await;
    assert_eq!((&persian.body["encoding"], &persian.body["parts"]), (&json!("UCS-2"), &json!(2)));
    assert_eq!(persian.body["warnings"], json!(["link", "opt_out_word"]));
    // The provider's own limits apply, too: Kavenegar accepts 900 characters.
    assert_eq!(dry("a".repeat(900)).await.status, 200);
    let long = dry("a".repeat(901)).await;
    assert_eq!(long.status, 400);
    assert!(long.body["message_text"][0].as_str().is_some_and(|text| text.contains("900")), "{long:?}");
    assert!(shop.simulator.requests().is_empty());
    assert_eq!(shop.get("/message/").await.body["results"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_checked_and_numbers_are_one_form() {
    let shop = Shop::open(KAVENEGAR).await;
    for (body, field) in [
        (json!({"message_text": "x"}), "mobile_number"),
        (json!({"mobile_number": "anything", "message_text": "x"}), "mobile_number"),
        (json!({"mobile_number": "02112345678", "message_text": "x"}), "mobile_number"),
        (json!({"mobile_number": "09120000001", "message_text": " "}), "message_text"),
        (json!({"mobile_number": "09120000001", "message_text": "x", "template_id": 7}), "template_id"),
        (json!({"mobile_number": "09120000001", "message_text": "x", "dry_run": "maybe"}), "dry_run"),
        (
            json!({"mobile_number": "09120000001", "message_text": "x", "token2": {}, "template_id": 1}),
            "token2",
        ),
    ] {
        let answer = shop.send(body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert!(answer.body[field][0].is_string(), "{body}: {answer:?}");
    }
    assert!(shop.simulator.requests().is_empty());
    for number in ["9120000001", "00989120000001", "۰۹۱۲۰۰۰۰۰۰۱", "\u{202a}0912 000 0001\u{202c}"]
    {
        assert_eq!(shop.send(hello(number)).await.body["receiver"], "09120000001", "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn template_rules_are_checked_before_the_network() {
    let shop = Shop::open(KAVENEGAR).await;
    let template = |text: &str, token10: &str| {
        shop.send(json!({"mobile_number": "09120000001", "message_text": text, "token10": token10, "template_id": 1}))
    };
    for (text, token10) in [("a_b", ""), ("a", "1 2 3 4 5 6 7"), (&*"x".repeat(101), "")] {
        let answer = template(text, token10).await;
        assert_eq!(answer.status, 400, "{text} {token10}: {answer:?}");
    }
    assert!(shop.simulator.requests().is_empty());
    // The original turned spaces into dashes.
    let sent = template("a b", "1 2").await;
    assert_eq!((sent.status, &sent.body["message"]), (200, &json!("a-b")), "{sent:?}");
    let message = &shop.simulator.messages()[0];
    assert_eq!(message.template.as_deref(), Some("welcome"));
    let tokens: Vec<_> = message.tokens.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(tokens, [("token", "a-b"), ("token10", "1 2")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daily_cap_stops_a_key_until_the_next_day() {
    let mut shop = Shop::open(KAVENEGAR).await;
    shop.token = new_key(&shop.gateway, Some(2)).await;
    assert_eq!(shop.send(hello("09120000001")).await.status, 200);
    assert_eq!(shop.send(hello("09120000001")).await.status, 200);
    let stopped = shop.send(hello("09120000001")).await;
    assert_eq!((stopped.status, &stopped.body["code"]), (429, &json!("daily_cap_reached")));
    let wait: u64 = stopped.header("retry-after").parse().expect("seconds");
    shop.clock.advance(Duration::from_secs(wait));
    assert_eq!(shop.send(hello("09120000001")).await.status, 200);
    assert_eq!(shop.simulator.accepted("kavenegar"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reply_says_who_served_and_why_others_did_not() {
    let shop = Shop::open(TWO).await;
    for (code, reason) in [(403, "unauthorized"), (429, "throttled"), (403, "unauthorized")] {
        shop.simulator.faults_clear();
        shop.simulator.fault(Fault::code("kavenegar", code)).expect("a fault");
        let sent = shop.send(hello("09120000001")).await;
        assert_eq!((sent.status, &sent.body["provider"]), (200, &json!("MELI_PAYAMAK_COM")), "{sent:?}");
        assert_eq!(sent.body["tried"], json!([{"provider": "KAVENEGAR_COM", "reason": reason}]));
        assert!(sent.body["messageid"].is_string(), "too large for a number: {sent:?}");
    }
    // The third consecutive failure opened the circuit: the provider is not asked.
    let asked = shop.simulator.requests().iter().filter(|request| request.provider == "kavenegar").count();
    let sent = shop.send(hello("09120000001")).await;
    assert_eq!(sent.body["tried"][0]["reason"], "circuit_open", "{sent:?}");
    let now = shop.simulator.requests().iter().filter(|request| request.provider == "kavenegar").count();
    assert_eq!(now, asked);
    let circuit = async |state: &str, gauge: u8| {
        assert_eq!(shop.gateway.status().await["sms"]["providers"]["KAVENEGAR_COM"]["circuit"], state);
        let metrics = shop.gateway.get("/metrics/", None).await.text;
        let line = format!("chelseru_sms_circuit{{provider=\"KAVENEGAR_COM\"}} {gauge}\n");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    };
    circuit("open", 2).await;
    // After the open time one message tries, and closes the circuit.
    shop.simulator.faults_clear();
    shop.clock.advance(Duration::from_secs(15));
    circuit("half-open", 1).await;
    assert_eq!(shop.send(hello("09120000001")).await.body["provider"], "KAVENEGAR_COM");
    circuit("closed", 0).await;

    // A fault of the message is the same at every provider.
    for code in [411, 413] {
        shop.simulator.faults_clear();
        shop.simulator.fault(Fault::code("kavenegar", code)).expect("a fault");
        let refused = shop.send(hello("09120000001")).await;
        assert_eq!((refused.status, refused.body["tried"].as_array().map(Vec::len)), (502, Some(1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_says_it_failed_is_followed_by_the_next_and_its_proxy_is_not_believed() {
    for status in [500, 503] {
        let shop = Shop::open(TWO).await;
        shop.simulator.fault(Fault::status("kavenegar", status)).expect("a fault");
        let sent = shop.send(hello("09120000001")).await;
        assert_eq!((sent.status, &sent.body["provider"]), (200, &json!("MELI_PAYAMAK_COM")), "{sent:?}");
        assert_eq!(
            sent.body["tried"],
            json!([{"provider": "KAVENEGAR_COM", "reason": "unavailable"}]),
            "{status}"
        );
        assert_eq!(shop.simulator.messages().len(), 1, "{status}");
    }
    // Where our id is not known, each provider is asked once; then the outcome is unknown and nothing is retried.
    let turned = TWO.replace("[\"KAVENEGAR_COM\", \"MELI_PAYAMAK_COM\"]", "\"MELI_PAYAMAK_COM\"");
    let shop = Shop::open(&turned).await;
    shop.simulator.fault(Fault::status("meli_payamak", 503)).expect("a fault");
    let unknown = shop.send(hello("09120000001")).await;
    assert_eq!((unknown.status, &unknown.body["code"]), (500, &json!("sms_outcome_unknown")), "{unknown:?}");
    shop.clock.advance(Duration::from_secs(600));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(shop.simulator.requests().len(), 1);
    let stored = shop.get(&format!("/message/{}/", unknown.body["id"])).await.body;
    assert_eq!((&stored["status"], &stored["tried"][0]["reason"]), (&json!("unknown"), &json!("broke_down")));

    // A template has no id of ours at this provider, so it is not retried, either.
    let template = "[sms.templates.1]\nKAVENEGAR_COM = \"welcome\"\nMELI_PAYAMAK_COM = \"12345\"\n";
    let shop = Shop::open(&format!("{TWO}{template}")).await;
    shop.simulator.fault(Fault::status("kavenegar", 502)).expect("a fault");
    let body = json!({"mobile_number": "09120000002", "message_text": "x", "template_id": "1"});
    let unknown = shop.send(body).await;
    assert_eq!((unknown.status, &unknown.body["code"]), (500, &json!("sms_outcome_unknown")), "{unknown:?}");
    assert_eq!(shop.simulator.accepted("meli_payamak"), 0);
}

/// A proxy before the provider refused the request, so the provider did not take the message.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_with_a_redirect_or_a_client_error_leaves_the_message_to_the_next_provider() {
    let templates = "[sms.templates.1]\nKAVENEGAR_COM = \"welcome\"\nMELI_PAYAMAK_COM = \"12345\"\n";
    let config = format!("{}{templates}", TWO.replace("circuit_failures = 3", "circuit_failures = 100"));
    for (first, provider, second) in [
        ("KAVENEGAR_COM", "kavenegar", "MELI_PAYAMAK_COM"),
        ("MELI_PAYAMAK_COM", "meli_payamak", "KAVENEGAR_COM"),
    ] {
        let order = format!("[\"{first}\", \"{second}\"]");
        let shop = Shop::open(&config.replace("[\"KAVENEGAR_COM\", \"MELI_PAYAMAK_COM\"]", &order)).await;
        for (sent, status) in (1..).zip([302, 401, 403, 404, 405, 413, 429]) {
            shop.simulator.fault(Fault::page(provider, status).times(1)).expect("a fault");
            let template = json!({"mobile_number": "09120000001", "message_text": "x", "template_id": "1"});
            let body = if sent % 2 == 0 { hello("09120000001") } else { template };
            let answer = shop.send(body).await;
            assert_eq!(
                (answer.status, &answer.body["provider"]),
                (200, &json!(second)),
                "{status}: {answer:?}"
            );
            assert_eq!(shop.simulator.messages().len(), sent, "{status}: once");
            let reason = match status {
                401 | 403 => "unauthorized",
                429 => "throttled",
                _ => "unavailable",
            };
            assert_eq!(answer.body["tried"], json!([{"provider": first, "reason": reason}]), "{status}");
        }
        // 408 does not tell how far the request came.
        shop.simulator.fault(Fault::page(provider, 408).times(2)).expect("a fault");
        let template = json!({"mobile_number": "09120000001", "message_text": "x", "template_id": "1"});
        let unknown = shop.send(template).await;
        assert_eq!(
            (unknown.status, &unknown.body["code"]),
            (500, &json!("sms_outcome_unknown")),
            "{unknown:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_handed_no_more_than_its_entry_allows() {
    let entry = "[provider.KAVENEGAR_COM]\n";
    let served = |answers: &[Answer]| {
        let by = |name: &str| answers.iter().filter(|answer| answer.body["provider"] == name).count();
        assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
        (by("KAVENEGAR_COM"), by("MELI_PAYAMAK_COM"))
    };

    // Concurrency: messages wait for each other, so five take five times as long as one.
    let shop = Shop::open(&TWO.replace(entry, &format!("{entry}concurrency_max = 1\n"))).await;
    shop.simulator.fault(Fault::delay("kavenegar", 200).accept(true)).expect("a fault");
    let started = Instant::now();
    let sends = (0..5).map(|n| shop.send(hello(&format!("0912000000{n}"))));
    let answers = futures_util::future::join_all(sends).await;
    assert_eq!(served(&answers), (5, 0));
    assert!(started.elapsed() >= Duration::from_millis(1000), "two at once: {:?}", started.elapsed());

    // Rate, by the gateway's clock.
    let shop = Shop::open(&TWO.replace(entry, &format!("{entry}rate_per_second = 2\n"))).await;
    for _ in 0..2 {
        let mut answers = Vec::new();
        for n in 0..5 {
            answers.push(shop.send(hello(&format!("0912000000{n}"))).await);
        }
        assert_eq!(served(&answers), (2, 3));
        shop.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(shop.simulator.accepted("kavenegar"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_failure_is_tried_again_until_it_is_sent_or_expires() {
    let shop =
        Shop::open(&KAVENEGAR.replace("retry_seconds_min", "circuit_failures = 1000\nretry_seconds_min"))
            .await;
    shop.simulator.fault(Fault::code("kavenegar", 429).times(3)).expect("a fault");
    let queued = shop.send(hello("09120000001")).await;
    assert_eq!((queued.status, &queued.body["status"]), (202, &json!("queued")), "{queued:?}");
    let message = shop.wait_for(&queued.body["id"], "accepted").await;
    assert_eq!(message["tried"].as_array().map(Vec::len), Some(3), "{message}");
    assert_eq!(shop.simulator.accepted("kavenegar"), 1);

    // Without waiting for the first pass.
    let body = json!({"mobile_number": "09120000002", "message_text": "x", "wait": false});
    let queued = shop.send(body).await;
    assert_eq!(queued.status, 202);
    shop.wait_for(&queued.body["id"], "accepted").await;

    // An hour later it has expired.
    shop.simulator.fault(Fault::code("kavenegar", 429)).expect("a fault");
    let queued = shop.send(hello("09120000003")).await;
    assert_eq!(queued.status, 202);
    shop.clock.advance(Duration::from_secs(60 * 60));
    let message = shop.wait_for(&queued.body["id"], "expired").await;
    assert_eq!(message["error"], "throttled");
    assert_eq!(shop.gateway.status().await["sms"]["waiting"], 0);
    shop.simulator.faults_clear();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(shop.simulator.accepted("kavenegar"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_503() {
    let shop =
        Shop::open(&KAVENEGAR.replace("retry_seconds_min = 1", "queue_max = 2\nretry_seconds_min = 1")).await;
    shop.simulator.fault(Fault::code("kavenegar", 429)).expect("a fault");
    for number in ["09120000001", "09120000002"] {
        assert_eq!(shop.send(hello(number)).await.status, 202);
    }
    let body = json!({"mobile_number": "09120000003", "message_text": "x", "wait": false});
    let full = shop.send(body).await;
    assert_eq!((full.status, &full.body["code"]), (503, &json!("queue_full")), "{full:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_asked_again_only_where_our_id_is_known() {
    let shop = Shop::open(KAVENEGAR).await;
    shop.simulator.fault(Fault::new("kavenegar", FaultKind::CutAfter).times(1)).expect("a fault");
    let text = shop.send(hello("09120000001")).await;
    assert_eq!(text.status, 200, "{text:?}");
    let messages = shop.simulator.messages();
    assert_eq!((messages.len(), messages[0].times_asked), (1, 2));
    // A template has no such id at this provider.
    shop.simulator.fault(Fault::new("kavenegar", FaultKind::CutAfter).times(1)).expect("a fault");
    let body = json!({"mobile_number": "09120000002", "message_text": "x", "template_id": "1"});
    let unknown = shop.send(body).await;
    assert_eq!((unknown.status, &unknown.body["code"]), (500, &json!("sms_outcome_unknown")), "{unknown:?}");
    assert_eq!(shop.get(&format!("/message/{}/", unknown.body["id"])).await.body["status"], "unknown");
    shop.clock.advance(Duration::from_secs(600));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(shop.simulator.messages().len(), 2);
    // Defect 24: an unreadable answer was an empty success. The id makes a retry safe.
    shop.simulator.fault(Fault::new("kavenegar", FaultKind::Html).times(4)).expect("a fault");
    let unreadable = shop.send(hello("09120000003")).await;
    assert_eq!((unreadable.status, &unreadable.body["status"]), (202, &json!("queued")), "{unreadable:?}");
    shop.wait_for(&unreadable.body["id"], "accepted").await;
    let messages = shop.simulator.messages();
    assert_eq!(messages.len(), 3, "the provider has it once: {messages:?}");
    // Retried until the deadline; then the outcome is unknown.
    shop.simulator.fault(Fault::new("kavenegar", FaultKind::Html)).expect("a fault");
    let hopeless = shop.send(hello("09120000004")).await;
    assert_eq!(hopeless.status, 202, "{hopeless:?}");
    shop.clock.advance(Duration::from_secs(3590));
    shop.wait_for(&hopeless.body["id"], "unknown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_reports_move_a_message_only_forward() {
    let shop = Shop::open(KAVENEGAR).await;
    let sent = shop.send(hello("09120000001")).await;
    let (id, provider_id) = (sent.body["id"].clone(), sent.body["messageid"].clone());
    let path = shop.gateway.status().await["sms"]["providers"]["KAVENEGAR_COM"]["report_path"]
        .as_str()
        .expect("a path")
        .trim_start_matches("/drfchelseru")
        .to_owned();
    let report = |path: &str, id: &Value, status: i64| {
        let form = format!("messageid={id}&status={status}");
        let request = shop.gateway.client.post(shop.gateway.at(path)).body(form);
        Answer::of(request.header("content-type", "application/x-www-form-urlencoded"))
    };
    // A wrong address finds nothing.
    for wrong in ["/message/report/KAVENEGAR_COM/0123456789abcdef/", "/message/report/OTHER/x/"] {
        assert_eq!(report(wrong, &provider_id, 10).await.status, 404, "{wrong}");
    }
    let status = async || shop.get(&format!("/message/{id}/")).await.body["status"].clone();
    assert_eq!(status().await, "accepted");
    for (code, expected) in
        [(5, "accepted"), (11, "failed"), (1, "failed"), (10, "delivered"), (11, "delivered")]
    {
        assert_eq!(report(&path, &provider_id, code).await.status, 200);
        assert_eq!(status().await, expected, "after {code}");
    }
    assert_eq!(report(&path, &json!(999), 10).await.status, 200, "unknown ids are no errors");
    assert_eq!(report(&path, &json!("x"), 10).await.status, 400);
    let metrics = shop.gateway.get("/metrics/", None).await.text;
    for line in ["outcome=\"moved\"} 2", "outcome=\"unchanged\"} 3", "outcome=\"unknown_id\"} 1"] {
        assert!(metrics.contains(&format!("chelseru_sms_reports_total{{{line}")), "{line}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_are_asked_what_became_of_messages() {
    let shop = Shop::open(KAVENEGAR).await;
    let sent = shop.send(hello("09120000001")).await;
    let app = &shop.gateway.app;
    let poll = async || {
        let reported = app.sms_queue.poll(&app.live().sms).await.expect("polled");
        reported.iter().filter(|reported| **reported == SmsReported::Moved).count()
    };
    assert_eq!(poll().await, 0, "too early");
    shop.simulator.settings(|settings| settings.kavenegar.delivery_status = 4);
    shop.clock.advance(Duration::from_secs(60));
    assert_eq!(poll().await, 0, "on its way");
    shop.simulator.settings(|settings| settings.kavenegar.delivery_status = 10);
    assert_eq!(poll().await, 0, "asked again only later");
    shop.clock.advance(Duration::from_secs(5 * 60));
    assert_eq!(poll().await, 1);
    assert_eq!(shop.get(&format!("/message/{}/", sent.body["id"])).await.body["status"], "delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_listed_in_pages_to_who_sent_them() {
    let shop = Shop::open(KAVENEGAR).await;
    for n in 0..65 {
        let answer = shop.send(hello(&format!("091200000{:02}", n % 5))).await;
        assert_eq!(answer.status, 200);
        shop.clock.advance(Duration::from_secs(1));
    }
    let ids = |page: &Value| -> Vec<u64> {
        page["results"].as_array().expect("a list").iter().filter_map(|m| m["id"].as_u64()).collect()
    };
    let first = shop.get("/message/").await.body;
    assert_eq!((ids(&first).len(), &first["previous"]), (30, &Value::Null));
    let second = shop.get(first["next"].as_str().expect("a link")).await.body;
    let third = shop.get(second["next"].as_str().expect("a link")).await.body;
    assert_eq!((ids(&third).len(), &third["next"]), (5, &Value::Null));
    let mut all = [ids(&first), ids(&second), ids(&third)].concat();
    assert!(all.is_sorted_by(|a, b| a > b));
    all.dedup();
    assert_eq!(all.len(), 65);
    let back = shop.get(third["previous"].as_str().expect("a link")).await.body;
    assert_eq!(ids(&back), ids(&second));
    let back = shop.get(back["previous"].as_str().expect("a link")).await.body;
    assert_eq!((ids(&back), &back["previous"]), (ids(&first), &Value::Null));

    let count = async |query: &str| ids(&shop.get(&format!("/message/?{query}")).await.body).len();
    assert_eq!(count("mobile_number=%2B989120000001").await, 13);
    assert_eq!(count("mobile_number=09120000001&status=failed").await, 0);
    assert_eq!(count("status=accepted&provider=KAVENEGAR_COM").await, 30);
    assert_eq!(count("provider=OTHER").await, 0);
    let after = chelseru_domain::clock::rest_format(shop.clock.now().minus(Duration::from_millis(10_500)));
    assert_eq!(count(&format!("created_after={after}")).await, 10);
    for (query, status) in
        [("cursor=%21", 404), ("status=odd", 400), ("created_after=x", 400), ("mobile_number=1", 400)]
    {
        assert_eq!(shop.get(&format!("/message/?{query}")).await.status, status, "{query}");
    }
    assert_eq!(shop.get("/message/1/").await.status, 404);
    assert_eq!(shop.get("/message/x/").await.status, 404);

    // Another key sees none of it.
    let other = Shop { token: new_key(&shop.gateway, None).await, ..shop };
    assert_eq!(other.get("/message/").await.body["results"], json!([]));
    assert_eq!(other.get(&format!("/message/{}/", all[0])).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_on_record_without_its_digits() {
    let shop = Shop::open(KAVENEGAR).await;
    assert_eq!(shop.gateway.post("/otp/send/", json!({"mobile_number": "09120000001"})).await.status, 200);
    let all = SmsRange { from: 0, to: u64::MAX, order: SmsOrder::NewestFirst };
    let page = shop.gateway.app.store.sms_page(&SmsFilter::default(), all, 10, 10).await.expect("read");
    assert_eq!(page.messages.len(), 1);
    assert_eq!(page.messages[0].content, SmsContent::Hidden);
    assert_eq!(page.messages[0].provider.as_deref(), Some("KAVENEGAR_COM"));
}

const SHIELD: &str = "[sms]\nservice = \"SANDBOX_SMS\"\n[auth]\notp_resend_seconds = 1\n[sms.shield]\n";

/// Requests a code after two seconds; returns 200, or the limit's status.
async fn ask(shop: &Shop, number: &str) -> u16 {
    shop.clock.advance(Duration::from_secs(2));
    let answer = shop.gateway.post("/otp/send/", json!({"mobile_number": number})).await;
    if answer.status == 429 {
        assert_eq!(answer.body["code"], "sms_limited");
        assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{answer:?}");
    }
    answer.status
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cap_of_the_shield_stops() {
    let open = "number_gap_seconds = 0\nnumber_per_hour_max = 1000\nnumber_per_day_max = 1000\n";
    type Case = (&'static str, &'static str, fn(u32) -> String, u32);
    let cases: [Case; 5] = [
        ("number_gap", "number_gap_seconds = 60\n", |_| "09120000001".into(), 1),
        ("number_hour", "number_gap_seconds = 0\nnumber_per_hour_max = 2\n", |_| "09120000001".into(), 2),
        (
            "number_day",
            "number_gap_seconds = 0\nnumber_per_hour_max = 9\nnumber_per_day_max = 3\n",
            |_| "09120000001".into(),
            3,
        ),
        ("address", "address_per_hour_max = 4\n", |n| format!("0912{n:03}0001"), 4),
        ("network", "network_per_hour_max = 5\n", |n| format!("0912{n:03}0001"), 5),
    ];
    for (cap, config, number, max) in cases {
        let config = if config.contains("number") { config.to_owned() } else { format!("{open}{config}") };
        let shop = Shop::open(&format!("{SHIELD}{config}")).await;
        for n in 0..max {
            assert_eq!(ask(&shop, &number(n)).await, 200, "{cap}: {n}");
        }
        assert_eq!(ask(&shop, &number(max)).await, 429, "{cap}");
        // A forged header changes nothing.
        let forged =
            shop.gateway.client.post(shop.gateway.at("/otp/send/")).header("x-forwarded-for", "203.0.113.9");
        let forged = Answer::of(forged.json(&json!({"mobile_number": number(max)}))).await;
        assert_eq!(forged.status, 429, "{cap}");
        let metrics = shop.gateway.get("/metrics/", None).await.text;
        let line = format!("chelseru_sms_shield_refusals_total{{cap=\"{cap}\"}} 2");
        assert!(metrics.contains(&line), "{cap}: {metrics}");
        shop.clock.advance(Duration::from_secs(24 * 60 * 60));
        assert_eq!(ask(&shop, &number(max)).await, 200, "{cap}: a day later");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxys_clients_are_told_apart() {
    let config = format!("[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n{SHIELD}address_per_hour_max = 1\n");
    let shop = Shop::open(&config).await;
    let ask = |number: &str, forwarded: &str| {
        let request = shop.gateway.client.post(shop.gateway.at("/otp/send/"));
        Answer::of(request.header("x-forwarded-for", forwarded).json(&json!({"mobile_number": number})))
    };
    assert_eq!(ask("09120000001", "203.0.113.1").await.status, 200);
    assert_eq!(ask("09120010001", "203.0.113.1").await.status, 429);
    assert_eq!(ask("09120010001", "198.51.100.7, 203.0.113.1").await.status, 429, "written by the client");
    assert_eq!(ask("09120010001", "203.0.113.2").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_whose_codes_lead_to_no_login_is_slowed_by_itself() {
    let shop = Shop::open(&format!("{SHIELD}ratio_codes_min = 5\n")).await;
    for n in 0..5 {
        assert_eq!(ask(&shop, &format!("0912000{n:04}")).await, 200);
    }
    // The reply is the same for all numbers of the prefix; only one with an account would get a code.
    assert_eq!(ask(&shop, "09120000009").await, 200);
    assert!(!got_a_code(&shop, "09120000009").await, "slowed");
    let metrics = shop.gateway.get("/metrics/", None).await.text;
    assert!(metrics.contains("chelseru_sms_prefixes_slowed 1"), "{metrics}");
    assert_eq!(ask(&shop, "09130000009").await, 200);
    assert!(got_a_code(&shop, "09130000009").await, "another prefix");
    // One login in five is enough again.
    let code = shop.gateway.sandbox_code("09120000003").await;
    let login = json!({"mobile_number": "09120000003", "code": code});
    shop.gateway.post("/authenticate/", login).await.login();
    assert_eq!(ask(&shop, "09120000008").await, 200);
    assert!(got_a_code(&shop, "09120000008").await);
}

/// Whether a number got a code, once the work in the background is done.
async fn got_a_code(shop: &Shop, number: &str) -> bool {
    let until = std::time::Instant::now() + chelseru_tests::PATIENCE;
    while !shop.gateway.app.detached.is_empty() {
        assert!(std::time::Instant::now() < until, "the message was never sent");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let inbox = shop.gateway.get(&format!("/sandbox/inbox/?mobile_number={number}"), None).await;
    !inbox.body["results"].as_array().expect("a list").is_empty()
}

/// A quarter of these two caps is kept for numbers with an account.
#[tokio::test(flavor = "multi_thread")]
async fn past_the_prefix_and_the_total_a_new_number_gets_no_code_and_no_reply_of_its_own() {
    let open = "number_gap_seconds = 0\nnumber_per_hour_max = 1000\nnumber_per_day_max = 1000\n";
    type Case = (&'static str, fn(u32) -> String);
    let cases: [Case; 2] =
        [("prefix", |n| format!("0912000{n:04}")), ("total", |n| format!("0912{n:03}0001"))];
    for (cap, number) in cases {
        let shop = Shop::open(&format!("{SHIELD}{open}{cap}_per_hour_max = 8\n")).await;
        for n in 0..9 {
            assert_eq!(ask(&shop, &number(n)).await, 200, "{cap}: {n}");
            assert_eq!(got_a_code(&shop, &number(n)).await, n < 6, "{cap}: {n}");
        }
        let metrics = shop.gateway.get("/metrics/", None).await.text;
        let line = format!("chelseru_sms_shield_refusals_total{{cap=\"{cap}\"}} 3");
        assert!(metrics.contains(&line), "{cap}: {metrics}");
        shop.clock.advance(Duration::from_secs(60 * 60));
        assert_eq!(ask(&shop, &number(8)).await, 200);
        assert!(got_a_code(&shop, &number(8)).await, "{cap}: an hour later");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_the_wait_and_the_defaults_let_a_person_in() {
    let shop = Shop::open("[sms.shield]\n").await;
    for _ in 0..5 {
        shop.gateway.login("09120000001").await;
    }
    let sixth = shop.gateway.post("/otp/send/", json!({"mobile_number": "09120000001"})).await;
    assert_eq!(sixth.status, 429, "five an hour: {sixth:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_listed_and_revoked_beside_a_running_gateway_and_without_one() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let dir = chelseru_tests::folder(&KAVENEGAR.replace("SIMULATOR", &simulator.addr.to_string()));
    let run = |arguments: &[&str]| {
        let output = process::run(dir.path(), arguments);
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let (made, first) = run(&["apikey", "create", "--scope", "sms", "--name", "shop"]);
    assert!(made && first.starts_with("ck_1_"), "{first}");
    assert!(!run(&["apikey", "create", "--scope", "everything"]).0);

    let served = Served::start(dir.path());
    let address = served.url.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
    std::fs::write(dir.path().join("asking.toml"), format!("[server]\nlisten = \"{address}\"\n"))
        .expect("a file");
    let ask = |arguments: &[&str]| run(&[arguments, &["--config", "asking.toml"]].concat());
    let (made, second) = ask(&["apikey", "create", "--scope", "sms", "--daily-cap", "5"]);
    assert!(made && second.starts_with("ck_2_"), "{second}");
    assert!(!ask(&["apikey", "create", "--scope", "everything"]).0);
    let client = chelseru_tests::client();
    let send = async |token: &str| {
        let request = client.post(format!("{}/message/send/", served.url)).json(&hello("09120000001"));
        Answer::of(request.header("authorization", format!("Api-Key {token}"))).await.status
    };
    assert_eq!((send(&first).await, send(&second).await), (200, 200));
    assert!(ask(&["apikey", "revoke", "1"]).0);
    assert!(!ask(&["apikey", "revoke", "1"]).0);
    assert_eq!((send(&first).await, send(&second).await), (401, 200));
    let (_, list) = ask(&["apikey", "list", "--json"]);
    let list: Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!((list[0]["name"].as_str(), list[1]["daily_cap"].as_u64()), (Some("shop"), Some(5)));
    assert!(list[0]["revoked_at"].is_string() && list[1]["revoked_at"].is_null());
    assert!(!list.to_string().contains(&first[5..20]), "a list shows no secret");

    // Without the token in the data folder the route does not exist.
    let url = format!("{}/operator/apikeys/", served.operator_url);
    for token in ["", "00"] {
        let request = client.post(&url).json(&json!({"scope": "sms"})).header("x-operator-token", token);
        assert_eq!(Answer::of(request).await.status, 404, "{token:?}");
    }
    served.kill();
    assert!(run(&["apikey", "revoke", "2"]).0);
}

const PARSIAN: &str = r#"
[sms]
service = "PARSIAN_WEBCO_IR"
[sms.templates.1]
PARSIAN_WEBCO_IR = "55"
[provider.PARSIAN_WEBCO_IR]
hosts = ["SIMULATOR"]
[provider.PARSIAN_WEBCO_IR.settings]
api_key = "k"
base_url = "http://SIMULATOR"
"#;

const MELI: &str = r#"
[sms]
service = "MELI_PAYAMAK_COM"
[sms.templates.1]
MELI_PAYAMAK_COM = "12345"
[provider.MELI_PAYAMAK_COM]
hosts = ["SIMULATOR"]
[provider.MELI_PAYAMAK_COM.settings]
api = "API"
username = "u"
password = "p"
console_token = "t"
sender = "50001"
base_url = "http://SIMULATOR"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_plugin_carries_messages_through_a_gateway() {
    let meli = |api: &str| MELI.replace("API", api);
    for (config, name, text) in [
        (KAVENEGAR.to_owned(), "kavenegar", true),
        (PARSIAN.to_owned(), "parsian_webco", false),
        (meli("rest"), "meli_payamak", true),
        (meli("soap"), "meli_payamak", true),
        (meli("console"), "meli_payamak", true),
    ] {
        let shop = Shop::open(&config).await;
        if text {
            let sent = shop.send(hello("09120000001")).await;
            assert_eq!((sent.status, shop.simulator.accepted(name)), (200, 1), "{config}: {sent:?}");
        }
        let body = json!({"mobile_number": "09120000002", "message_text": "4711", "template_id": 1});
        let sent = shop.send(body).await;
        assert_eq!(sent.status, 200, "{config}: {sent:?}");
        let messages = shop.simulator.messages();
        let message = messages.last().expect("a message");
        assert_eq!(message.number, "09120000002");
        assert!(message.tokens.iter().any(|(_, value)| value.contains("4711")), "{message:?}");
        // The delivery state, as the provider reports it.
        shop.clock.advance(Duration::from_secs(60));
        let app = &shop.gateway.app;
        app.sms_queue.poll(&app.live().sms).await.expect("polled");
        let message = shop.get(&format!("/message/{}/", sent.body["id"])).await.body;
        assert!(["accepted", "delivered"].iter().any(|status| message["status"] == *status), "{message}");
    }
    // A provider with templates only reports that instead of sending.
    let shop = Shop::open(PARSIAN).await;
    let refused = shop.send(hello("09120000001")).await;
    assert_eq!((refused.status, refused.body["template_id"].is_array()), (400, true), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn meli_payamaks_failures_are_failures() {
    // Defect 23: "2" (no credit) and "0" (bad login) were answered with 200.
    for api in ["rest", "soap"] {
        for (code, reason) in [(2, "insufficient_credit"), (0, "unauthorized")] {
            let shop = Shop::open(&MELI.replace("API", api)).await;
            shop.simulator.fault(Fault::code("meli_payamak", code)).expect("a fault");
            let refused = shop.send(hello("09120000001")).await;
            assert_eq!((refused.status, &refused.body["code"]), (502, &json!("sms_refused")), "{api} {code}");
            assert_eq!(refused.body["tried"][0]["reason"], reason, "{api}: {refused:?}");
            let otp = shop.gateway.post("/otp/send/", json!({"mobile_number": "09120000002"})).await;
            assert_eq!(otp.status, 502, "{api} {code}: {otp:?}");
            assert_eq!(shop.simulator.accepted("meli_payamak"), 0);
        }
    }
}

const CRASH: &str = "[log]\nlevel = \"error\"\n";
/// Messages queued when the gateway is killed, and how many of them the provider has answered.
const QUEUED: usize = 1000;
const ANSWERED: u32 = 200;
/// Messages that may be on their way to the provider at the kill.
const IN_FLIGHT_MAX: usize = 64;

fn crash_number(n: usize) -> String {
    format!("0935{n:07}")
}

/// Queues 1,000 messages, kills the gateway while it sends them, restarts it, and waits for all outcomes. Returns the
/// outcomes by number, and how many messages the provider had at the kill.
async fn queue_and_kill(simulator: &Simulator, template: bool) -> (BTreeMap<String, String>, usize) {
    let config = format!("{CRASH}{}", KAVENEGAR.replace("SIMULATOR", &simulator.addr.to_string()));
    let dir = chelseru_tests::folder(&config);
    let key = process::run(dir.path(), &["apikey", "create", "--scope", "sms"]);
    let token = format!("Api-Key {}", String::from_utf8_lossy(&key.stdout).trim());
    let client = chelseru_tests::client();
    let served = Served::start(dir.path());
    // Some are answered; the next ones are accepted and held, so the kill strikes during sending.
    simulator.fault(Fault::delay("kavenegar", 1).accept(true).times(ANSWERED)).expect("a fault");
    simulator.fault(Fault::delay("kavenegar", 60_000).accept(true)).expect("a fault");
    let numbers: Vec<String> = (0..QUEUED).map(crash_number).collect();
    for some in numbers.chunks(64) {
        let sends = some.iter().map(|number| {
            let mut body = json!({"mobile_number": number, "message_text": "hello", "wait": false});
            if template {
                body["template_id"] = 1.into();
            }
            let request = client.post(format!("{}/message/send/", served.url)).json(&body);
            Answer::of(request.header("authorization", &token))
        });
        for answer in futures_util::future::join_all(sends).await {
            assert_eq!(answer.status, 202, "{answer:?}");
        }
    }
    let until = Instant::now() + PATIENCE;
    while simulator.accepted("kavenegar") <= u64::from(ANSWERED) {
        assert!(Instant::now() < until, "only {} were sent", simulator.accepted("kavenegar"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    served.kill();
    let before = usize::try_from(simulator.accepted("kavenegar")).expect("few");
    assert!(before < QUEUED, "all were sent before the kill");
    simulator.faults_clear();

    let served = Served::start(dir.path());
    let until = Instant::now() + PATIENCE;
    loop {
        let status = Answer::of(client.get(format!("{}/status/", served.operator_url))).await.body;
        let sending = client.get(format!("{}/message/?status=sending", served.url));
        let sending = Answer::of(sending.header("authorization", &token)).await.body;
        if status["sms"]["waiting"] == 0 && sending["results"] == json!([]) {
            break;
        }
        assert!(Instant::now() < until, "{status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut ends = BTreeMap::new();
    let mut next = Some(format!("{}/message/", served.url));
    while let Some(url) = next {
        let page = Answer::of(client.get(url).header("authorization", &token)).await.body;
        for message in page["results"].as_array().expect("a list") {
            let text = |key: &str| message[key].as_str().expect("text").to_owned();
            assert!(ends.insert(text("receiver"), text("status")).is_none(), "listed twice: {message}");
        }
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(ends.len(), QUEUED);
    (ends, before)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_every_queued_text_is_accepted_once() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let (ends, before) = queue_and_kill(&simulator, false).await;
    assert!(ends.values().all(|status| status == "accepted"), "{ends:?}");
    let messages = simulator.messages();
    assert_eq!(messages.len(), QUEUED, "each once");
    let asked_again = messages.iter().filter(|message| message.times_asked > 1).count();
    let begun = before + IN_FLIGHT_MAX;
    assert!((1..=begun).contains(&asked_again), "{asked_again} of {begun} were asked again by their id");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_no_template_whose_outcome_is_unknown_is_sent_again() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let (ends, before) = queue_and_kill(&simulator, true).await;
    let unknown = ends.values().filter(|status| *status == "unknown").count();
    let begun = before + IN_FLIGHT_MAX;
    assert!((1..=begun).contains(&unknown), "{unknown} of {begun} are unknown");
    assert!(ends.values().all(|status| status == "accepted" || status == "unknown"), "{ends:?}");
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for request in simulator.requests() {
        *asked.entry(request.fields.get("receptor").unwrap_or_default().to_owned()).or_default() += 1;
    }
    let twice: Vec<_> = asked.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "asked twice: {twice:?}");
}
