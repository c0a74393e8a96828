//! Messages from a client to a provider and back: keys, idempotency, failover, retries, reports, shield, crashes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_domain::operator::api_key;
use chelseru_simulator::{Fault, Simulator};
use chelseru_store::{SmsContent, SmsFilter, SmsOrder, SmsRange};
use chelseru_tests::process::{self, Served};
use chelseru_tests::{Answer, PATIENCE, TestGateway, code_in};
use serde_json::{Value, json};

pub(crate) const KAVENEGAR: &str = r#"
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

/// A gateway behind a simulator, and an API key.
pub(crate) struct Shop {
    pub(crate) simulator: Simulator,
    pub(crate) gateway: TestGateway,
    pub(crate) clock: Arc<ManualClock>,
    token: String,
}

impl Shop {
    pub(crate) async fn open(config: &str) -> Shop {
        let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
        let config = config.replace("SIMULATOR", &simulator.addr.to_string());
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let gateway = TestGateway::start_at(&config, clock.clone()).await;
        let token = new_key(&gateway, None).await;
        Shop { simulator, gateway, clock, token }
    }

    pub(crate) fn request(&self, body: &Value) -> reqwest::RequestBuilder {
        let request = self.gateway.client.post(self.gateway.at("/message/send/")).json(body);
        request.header("authorization", format!("Api-Key {}", self.token))
    }

    pub(crate) async fn send(&self, body: Value) -> Answer {
        Answer::of(self.request(&body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let url = if path.starts_with("http") { path.to_owned() } else { self.gateway.at(path) };
        let request = self.gateway.client.get(url);
        Answer::of(request.header("authorization", format!("Api-Key {}", self.token))).await
    }

    /// Advances the clock until a message has a status.
    pub(crate) async fn wait_for(&self, id: &Value, status: &str) -> Value {
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

pub(crate) fn hello(number: &str) -> Value {
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
