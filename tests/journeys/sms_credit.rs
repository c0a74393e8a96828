//! The credit of SMS providers: asked on a schedule, shown, warned about, and used to order them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_simulator::Simulator;
use chelseru_tests::{PATIENCE, TestGateway, process};
use serde_json::{Value, json};

use super::webhooks::{Receiver, SECRET};

const CONFIG: &str = r#"
[sms]
service = ["KAVENEGAR_COM", "MELI_PAYAMAK_COM"]
[sms.credit]
minutes = 30
[provider.KAVENEGAR_COM]
hosts = ["SIMULATOR"]
credit_min = 100000
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

struct Shop {
    simulator: Simulator,
    gateway: TestGateway,
    clock: Arc<ManualClock>,
    sent: std::sync::atomic::AtomicU64,
}

impl Shop {
    async fn open() -> Shop {
        Shop::open_with("").await
    }

    async fn open_with(more: &str) -> Shop {
        let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let config = CONFIG.replace("SIMULATOR", &simulator.addr.to_string()) + more;
        let gateway = TestGateway::start_at(&config, clock.clone()).await;
        Shop { simulator, gateway, clock, sent: 0.into() }
    }

    async fn provider(&self) -> Value {
        self.gateway.status().await["sms"]["providers"]["KAVENEGAR_COM"]["credit"].clone()
    }

    /// Waits until the first provider's credit is shown so.
    async fn wait(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let credit = self.provider().await;
            if fits(&credit) {
                return credit;
            }
            assert!(Instant::now() < until, "never {what}: {credit}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn set_credit(&self, rial: i64) {
        self.simulator.settings(|settings| settings.kavenegar.credit_rial = rial);
    }

    /// Sends a code to another number each time; returns which provider took it.
    async fn taken_by(&self) -> &'static str {
        let nth = self.sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let seen = self.simulator.requests().len();
        let body = json!({"mobile_number": format!("0912000{nth:04}")});
        let sent = self.gateway.post("/otp/send/", body).await;
        assert_eq!(sent.status, 200, "{sent:?}");
        let requests = self.simulator.requests();
        let taken = requests[seen..].iter().filter(|request| request.accepted);
        let providers: Vec<_> = taken.map(|request| request.provider).collect();
        assert_eq!(providers.len(), 1, "{providers:?}");
        providers[0]
    }

    async fn metric(&self, line: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let metrics = self.gateway.get("/metrics/", None).await.text;
            if metrics.lines().any(|one| one == line) {
                return;
            }
            assert!(Instant::now() < until, "no {line} in {metrics}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_without_credit_steps_back_until_it_has_some() {
    let shop = Shop::open().await;
    let credit = shop.wait("asked at the start", |credit| credit["amount"].is_i64()).await;
    assert_eq!((&credit["unit"], &credit["low"]), (&json!("rial"), &json!(false)), "{credit}");
    assert_eq!(shop.taken_by().await, "kavenegar");

    shop.set_credit(0);
    assert_eq!(shop.provider().await["stepped_back"], false, "not asked in between");
    shop.clock.advance(Duration::from_secs(30 * 60));
    shop.wait("empty", |credit| credit["stepped_back"] == true && credit["low"] == true).await;
    shop.metric("chelseru_sms_stepped_back{provider=\"KAVENEGAR_COM\"} 1").await;
    shop.metric("chelseru_sms_credit_low{provider=\"KAVENEGAR_COM\"} 1").await;
    let before = shop.simulator.requests().len();
    assert_eq!(shop.taken_by().await, "meli_payamak");
    let asked: Vec<_> = shop.simulator.requests()[before..].iter().map(|one| one.provider).collect();
    assert!(!asked.contains(&"kavenegar"), "no message waits for its refusal: {asked:?}");
    let list = process::run(shop.gateway.dir.path(), &["plugin", "list"]);
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.contains("KAVENEGAR_COM: credit: "), "{list}");
    assert!(list.contains("below credit_min, asked last until it has some"), "{list}");

    // Somebody pays; it is noticed within a minute, not half an hour.
    shop.set_credit(50_000);
    shop.clock.advance(Duration::from_secs(60));
    let credit = shop.wait("paid", |credit| credit["stepped_back"] == false).await;
    assert_eq!(credit["low"], true, "below credit_min: {credit}");
    assert_eq!(shop.taken_by().await, "kavenegar");
}

/// What the provider says of a message counts as well, between two questions.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_refused_for_want_of_credit_is_the_last_that_asks_that_provider_first() {
    let shop = Shop::open().await;
    shop.wait("asked at the start", |credit| credit["amount"].is_i64()).await;
    shop.set_credit(0);
    assert_eq!(shop.taken_by().await, "meli_payamak", "the next one took it");
    let asked = shop.simulator.requests().into_iter().filter(|one| one.provider == "kavenegar").count();
    assert_eq!(asked, 2, "for its credit, and for the message");
    assert_eq!(shop.provider().await["stepped_back"], true);
    let before = shop.simulator.requests().len();
    assert_eq!(shop.taken_by().await, "meli_payamak");
    let sends = &shop.simulator.requests()[before..];
    assert!(sends.iter().all(|one| one.provider != "kavenegar"), "{sends:?}");
}

/// An operator hears of it once when the credit falls below `credit_min`, not with each question.
#[tokio::test(flavor = "multi_thread")]
async fn a_low_credit_is_an_event_once_until_it_rises_again() {
    let receiver = Receiver::start(&[]).await;
    let endpoint = format!(
        "[webhooks.endpoints.shop]\nurl = \"http://{}/hooks\"\nsecret = \"{SECRET}\"\n\
         events = [\"sms.credit_low\"]\nhosts = [\"127.0.0.1\"]\n",
        receiver.address
    );
    let shop = Shop::open_with(&endpoint).await;
    let events = || {
        let messages = receiver.messages.lock().expect("no panic").clone();
        messages.iter().map(|message| message.json()["data"]["amount"].as_i64()).collect::<Vec<_>>()
    };
    let asked = async |rial: i64| {
        shop.set_credit(rial);
        shop.clock.advance(Duration::from_secs(30 * 60));
        shop.wait("asked", |credit| credit["amount"] == rial).await;
    };
    let heard = async |wanted: &[i64]| {
        let until = Instant::now() + PATIENCE;
        let wanted: Vec<_> = wanted.iter().map(|amount| Some(*amount)).collect();
        while events() != wanted {
            assert!(Instant::now() < until, "{:?} instead of {wanted:?}", events());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    shop.wait("asked at the start", |credit| credit["amount"].is_i64()).await;
    asked(99_999).await;
    heard(&[99_999]).await;
    asked(50_000).await;
    asked(40_000).await;
    asked(100_000).await;
    asked(70_000).await;
    // Those in between would have come first.
    heard(&[99_999, 70_000]).await;
    let message = receiver.messages.lock().expect("no panic")[0].json();
    assert_eq!(message["type"], "sms.credit_low", "{message}");
    assert_eq!(
        message["data"],
        json!({"provider": "KAVENEGAR_COM", "amount": 99_999, "unit": "rial", "credit_min": 100_000})
    );
}
