//! Payments at simulated Zarinpal and PayPing, with every failure on the way.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_simulator::{Back, Fault, FaultKind, Paid, Simulator};
use chelseru_tests::Answer;
use serde_json::{Value, json};

use crate::payments::Shop;

const CONFIG: &str = r#"
[auth]
access_token_seconds = 86400

[payment]
gateway = "ZARINPAL_COM"
callback_urls = ["https://shop.example/pay"]
staff_users = [1]
reconcile_seconds = 1

[plugins]
wall_time_seconds = 3

[provider.ZARINPAL_COM]
hosts = ["SIMULATOR"]
[provider.ZARINPAL_COM.settings]
merchant_id = "00000000-0000-0000-0000-000000000000"
base_url = "http://SIMULATOR"
request_timeout_ms = 1500

[provider.PAYPING_IR]
hosts = ["SIMULATOR"]
[provider.PAYPING_IR.settings]
api_key = "payping-token"
base_url = "http://SIMULATOR"
request_timeout_ms = 1500
"#;

/// A shop with a simulated gateway.
pub(crate) struct Street {
    pub(crate) shop: Shop,
    pub(crate) simulator: Simulator,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) config: String,
}

impl Street {
    pub(crate) async fn open(gateway: &str) -> Street {
        Street::open_with(gateway, |config| config).await
    }

    pub(crate) async fn open_with(gateway: &str, change: impl FnOnce(String) -> String) -> Street {
        let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
        let config = CONFIG.replace("SIMULATOR", &simulator.addr.to_string());
        let config = config.replace("gateway = \"ZARINPAL_COM\"", &format!("gateway = \"{gateway}\""));
        let config = change(config);
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let shop = Shop::open_at(&config, clock.clone()).await;
        Street { shop, simulator, clock, config }
    }

    pub(crate) async fn create(&self, toman: u64) -> Value {
        // An order is paid once.
        let order = format!("o-{toman}-{}", self.simulator.sessions().len());
        self.shop.create(json!({"amount": toman, "order_id": order})).await
    }

    /// The configuration with PayPing only.
    pub(crate) fn without_zarinpal(&self) -> String {
        let start = self.config.find("[provider.ZARINPAL_COM]").expect("there");
        let end = self.config.find("[provider.PAYPING_IR]").expect("there");
        let without = format!("{}{}", &self.config[..start], &self.config[end..]);
        without.replace("gateway = \"ZARINPAL_COM\"", "gateway = \"PAYPING_IR\"")
    }

    pub(crate) async fn zarinpal_back(&self, details: &Value, status: &str) -> Answer {
        let url = self.callback_url(details);
        let url = format!("{url}&Authority={}&Status={status}", authority(details));
        Answer::of(self.shop.gateway.client.get(url)).await
    }

    /// The address that the gateway got for a payment.
    pub(crate) fn callback_url(&self, details: &Value) -> String {
        self.simulator.callback_url(authority(details)).expect("known to the bank")
    }

    /// PayPing's form, as browsers post it.
    pub(crate) async fn payping_back(&self, details: &Value) -> Answer {
        let sessions = self.simulator.sessions();
        let session = sessions.iter().find(|session| session.reference == authority(details)).expect("known");
        let paid = session.paid != Paid::Waiting && session.paid != Paid::Cancelled;
        let mut data = json!({
            "clientRefId": session.client_ref, "paymentCode": session.reference,
            "amount": session.amount, "gatewayAmount": session.amount,
        });
        if paid {
            data["paymentRefId"] = session.receipt.into();
        }
        let form = [
            ("status", if paid { "1" } else { "0" }),
            ("errorCode", if paid { "" } else { "127" }),
            ("data", &data.to_string()),
        ];
        Answer::of(self.shop.gateway.client.post(&session.callback_url).form(&form)).await
    }

    pub(crate) async fn settles(&self, details: &Value) {
        self.clock.advance(Duration::from_secs(61));
        self.shop.wait_for_state(details, "paid").await;
    }
}

pub(crate) fn authority(details: &Value) -> &str {
    details["authority"].as_str().expect("an authority")
}

pub(crate) fn is_pay(answer: &Answer) -> &Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    &answer.body["details"]["is_pay"]
}

/// Defect 21: the bodies are JSON, in rial, in both calls.
#[tokio::test(flavor = "multi_thread")]
async fn zarinpal_is_paid_and_the_wallet_charged() {
    let street = Street::open("ZARINPAL_COM").await;
    let details = street.create(5000).await;
    assert_eq!(
        details["gateway_url"],
        format!("{}/pg/StartPay/{}", street.simulator.url(), authority(&details))
    );
    assert!(street.simulator.pay(authority(&details)));
    let paid = street.zarinpal_back(&details, "OK").await;
    assert_eq!(is_pay(&paid), 1);
    let body = &paid.body["details"];
    assert_eq!((&body["status_code"], &body["card_pan"]), (&json!(100), &json!("502229******5995")));
    assert!(body["ref_id"].is_u64(), "{paid:?}");
    // A repeated request gets the first answer, without asking the gateway.
    assert_eq!(street.zarinpal_back(&details, "OK").await.body, paid.body);
    assert_eq!(street.shop.balance().await, 5000);
    let amounts: Vec<_> = street
        .simulator
        .requests()
        .iter()
        .filter(|request| request.provider == "zarinpal" && request.call != "unVerified")
        .map(|request| (request.call.clone(), request.fields.get("amount").map(str::to_owned)))
        .collect();
    let rial = Some("50000".to_owned());
    assert_eq!(amounts, [("request".to_owned(), rial.clone()), ("verify".to_owned(), rial)]);
    street.shop.check_ledger().await;
}

/// Defect 17.
#[tokio::test(flavor = "multi_thread")]
async fn a_nok_callback_cancels_and_a_false_one_does_not_hide_money() {
    let street = Street::open("ZARINPAL_COM").await;
    let details = street.create(5000).await;
    street.simulator.cancel(authority(&details));
    assert_eq!(is_pay(&street.zarinpal_back(&details, "NOK").await), 0);
    assert_eq!(street.shop.state(&details).await, "cancelled");
    let details = street.create(6000).await;
    street.simulator.pay(authority(&details));
    assert_eq!(is_pay(&street.zarinpal_back(&details, "NOK").await), 1);
    assert_eq!(street.shop.balance().await, 6000);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_after_paying_is_pending_and_settles_once() {
    for (gateway, provider) in [("ZARINPAL_COM", "zarinpal"), ("PAYPING_IR", "payping")] {
        let street = Street::open(gateway).await;
        let kinds = [
            FaultKind::CutAfter,
            FaultKind::CutBefore,
            FaultKind::CutBody,
            FaultKind::Html,
            FaultKind::Empty,
            FaultKind::TruncatedJson,
            FaultKind::Status { code: 500, body: None },
            FaultKind::Status { code: 503, body: Some("<html>".into()) },
        ];
        for (before, kind) in (0..).zip(kinds) {
            let details = street.create(5000).await;
            street.simulator.pay(authority(&details));
            // The receipt that a browser brings to PayPing is asked about first, and then none.
            let questions = if provider == "zarinpal" { 1 } else { 2 };
            let fault = Fault::new(provider, kind.clone()).method("verify").times(questions);
            street.simulator.fault(fault).expect("a fault");
            let back = if provider == "zarinpal" {
                street.zarinpal_back(&details, "OK").await
            } else {
                street.payping_back(&details).await
            };
            assert_eq!(is_pay(&back), 0, "{gateway} {kind:?}");
            assert_eq!(back.body["details"]["state"], "pending", "{gateway} {kind:?}");
            assert_eq!(street.shop.balance().await, 5000 * before, "{gateway} {kind:?}");
            street.settles(&details).await;
            assert_eq!(street.shop.balance().await, 5000 * (before + 1), "{gateway} {kind:?}");
            street.shop.check_ledger().await;
        }
    }
}

/// The browser brings the callback twice at once, as a query and as a form.
#[tokio::test(flavor = "multi_thread")]
async fn a_doubled_callback_credits_once_and_is_answered_alike() {
    for gateway in ["ZARINPAL_COM", "PAYPING_IR"] {
        let street = Street::open(gateway).await;
        for (toman, balance) in [(5000, 5000), (6000, 11_000)] {
            let details = street.create(toman).await;
            street.simulator.pay(authority(&details));
            let answers =
                street.simulator.come_back(authority(&details), Back::Twice).await.expect("answered");
            assert_eq!(answers.iter().map(|answer| answer.method).collect::<Vec<_>>(), ["GET", "POST"]);
            assert!(answers.iter().all(|answer| answer.status == 200), "{gateway}: {answers:?}");
            assert_eq!(answers[0].body, answers[1].body, "{gateway}");
            assert_eq!(street.shop.balance().await, balance, "{gateway}");
        }
        street.shop.check_ledger().await;
    }
}

/// The callback is lost and the gateway unreachable until it has returned the money by itself.
#[tokio::test(flavor = "multi_thread")]
async fn money_that_a_gateway_returned_is_marked_and_never_credited() {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    for (gateway, provider) in [("ZARINPAL_COM", "zarinpal"), ("PAYPING_IR", "payping")] {
        // The gateway is reachable before its time limit, and reports that nothing is paid.
        let street = Street::open(gateway).await;
        let details = street.create(5000).await;
        street.simulator.pay(authority(&details));
        assert!(street.simulator.give_back(authority(&details)));
        street.clock.advance(hours(1));
        // PayPing itself reports the end; at Zarinpal nobody can pay any more.
        let end = if provider == "payping" { "failed" } else { "expired" };
        street.shop.wait_for_state(&details, end).await;
        assert_eq!(street.shop.balance().await, 0, "{gateway}");
        assert!(!street.simulator.pay(authority(&details)), "it was paid before");

        // Nothing ever listens there again, so no question can have confirmed the payment.
        let details = street.create(6000).await;
        street.simulator.pay(authority(&details));
        let Street { mut shop, simulator, clock, .. } = street;
        drop(simulator);
        clock.advance(hours(1) / 60 * 2);
        let asked = std::time::Instant::now();
        let payments = &shop.gateway.app.store;
        let id = chelseru_store::PaymentId(details["id"].as_u64().expect("a number"));
        let attempts = async || payments.payment_get(id).await.expect("readable").expect("there").attempts;
        while attempts().await == 0 {
            assert!(asked.elapsed() < chelseru_tests::PATIENCE, "{provider}: nobody asks");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(shop.state(&details).await, "pending", "{gateway}");
        clock.advance(hours(26));
        // The token is a day old.
        shop.login = shop.gateway.login("09121234567").await;
        shop.wait_for_state(&details, "expired").await;
        let payment = shop.get(&format!("/payment/{}/", details["id"])).await;
        assert_eq!(payment.body["reason"], "returned", "{payment:?}");
        assert_eq!(shop.balance().await, 0, "{gateway}");
        shop.check_ledger().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_callback_settles_at_both_gateways() {
    for gateway in ["ZARINPAL_COM", "PAYPING_IR"] {
        let street = Street::open(gateway).await;
        let details = street.create(5000).await;
        street.simulator.pay(authority(&details));
        street.settles(&details).await;
        assert_eq!(street.shop.balance().await, 5000, "{gateway}");
        assert_eq!(street.simulator.sessions()[0].paid, Paid::Verified);
    }
}

/// Defect 20.
#[tokio::test(flavor = "multi_thread")]
async fn paypings_real_callback_is_understood_and_its_answer_compared() {
    let street = Street::open("PAYPING_IR").await;
    let details = street.create(5000).await;
    assert_eq!(street.simulator.sessions()[0].client_ref, details["id"].to_string(), "clientRefId is sent");
    assert_eq!(street.simulator.sessions()[0].amount, 5000, "toman");
    street.simulator.pay(authority(&details));
    let paid = street.payping_back(&details).await;
    assert_eq!(is_pay(&paid), 1, "{paid:?}");
    assert_eq!(street.payping_back(&details).await.body, paid.body);
    // As in the README: JSON, flat.
    let other = street.create(6000).await;
    street.simulator.pay(authority(&other));
    let receipt = street.simulator.sessions()[1].receipt.to_string();
    let body = json!({"paymentCode": authority(&other), "paymentRefId": receipt});
    assert_eq!(is_pay(&street.shop.gateway.post("/payment/verify/", body).await), 1);
    assert_eq!(street.shop.balance().await, 11_000);
    // And a cancelled one, which has no receipt.
    let cancelled = street.create(7000).await;
    street.simulator.cancel(authority(&cancelled));
    assert_eq!(is_pay(&street.payping_back(&cancelled).await), 0);
    assert_eq!(street.shop.state(&cancelled).await, "cancelled");
}

/// Defect 18.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_another_amount_or_receipt_is_not_credited() {
    let street = Street::open("PAYPING_IR").await;
    street.simulator.settings(|settings| settings.payping.wrong_amount = true);
    let details = street.create(5000).await;
    street.simulator.pay(authority(&details));
    assert_eq!(is_pay(&street.payping_back(&details).await), 0);
    let payment = street.shop.get(&format!("/payment/{}/", details["id"])).await;
    assert_eq!((&payment.body["state"], &payment.body["reason"]), (&json!("failed"), &json!("mismatch")));
    assert_eq!(street.shop.balance().await, 0);

    let street = Street::open("ZARINPAL_COM").await;
    street.simulator.settings(|settings| settings.zarinpal.same_receipt = Some(77));
    for (toman, paid) in [(5000, 1), (6000, 0)] {
        let details = street.create(toman).await;
        street.simulator.pay(authority(&details));
        assert_eq!(is_pay(&street.zarinpal_back(&details, "OK").await), paid);
    }
    assert_eq!(street.shop.balance().await, 5000);
    street.shop.check_ledger().await;
}

/// Questions, invented requests and a NOK before payment: a callback is a hint, and "not paid yet" is no end.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_the_payer_paid_ends_nothing() {
    for gateway in ["ZARINPAL_COM", "PAYPING_IR"] {
        let street = Street::open(gateway).await;
        let details = street.create(5000).await;
        let post = async |body: Value| {
            let back = street.shop.gateway.post("/payment/verify/", body).await;
            assert_eq!(
                (is_pay(&back), &back.body["details"]["state"]),
                (&json!(0), &json!("pending")),
                "{gateway}"
            );
            street.clock.advance(Duration::from_secs(11));
        };
        let code = authority(&details);
        if gateway == "ZARINPAL_COM" {
            for status in ["OK", "NOK", "NOK"] {
                let back = street.zarinpal_back(&details, status).await;
                assert_eq!(back.body["details"]["state"], "pending", "{status}: {back:?}");
                street.clock.advance(Duration::from_secs(11));
            }
        } else {
            // References are short, and anybody can invent a receipt.
            post(json!({"paymentCode": code, "paymentRefId": "123456789"})).await;
            post(json!({"paymentCode": code, "status": "0"})).await;
            post(json!({"paymentCode": code, "paymentRefId": "99"})).await;
        }
        street.simulator.pay(code);
        let back = street.simulator.come_back(code, Back::Once).await.expect("answered");
        assert!(back[0].body.contains("\"is_pay\":1"), "{gateway}: {back:?}");
        assert_eq!(street.shop.balance().await, 5000, "{gateway}");
        street.shop.check_ledger().await;
    }
}

/// An invented receipt arrives first, and the true callback never does.
#[tokio::test(flavor = "multi_thread")]
async fn an_invented_receipt_does_not_hide_the_true_one() {
    let street = Street::open("PAYPING_IR").await;
    let (details, other) = (street.create(5000).await, street.create(6000).await);
    street.simulator.pay(authority(&other));
    street.simulator.pay(authority(&details));
    // Not an invented number, but the receipt of another payment.
    let receipt = street.simulator.sessions()[1].receipt.to_string();
    let body = json!({"paymentCode": authority(&details), "paymentRefId": receipt});
    assert_eq!(is_pay(&street.shop.gateway.post("/payment/verify/", body).await), 1, "the bank knows better");
    street.settles(&other).await;
    assert_eq!(street.shop.balance().await, 11_000);
}

/// A wrong key is refused; the right one is in the gateway's callback address.
#[tokio::test(flavor = "multi_thread")]
async fn the_callback_address_has_an_unguessable_part() {
    let street = Street::open("ZARINPAL_COM").await;
    let details = street.create(5000).await;
    let url = street.simulator.sessions()[0].callback_url.clone();
    let (address, key) = url.split_once("?callback_key=").expect("a key");
    assert_eq!(details["callback_url"], address, "the client sees what it named");
    assert_eq!(key.len(), 32);
    street.simulator.pay(authority(&details));
    let path = |key: &str| {
        format!("/payment/verify/?callback_key={key}&Authority={}&Status=OK", authority(&details))
    };
    let wrong = street.shop.gateway.get(&path(&"0".repeat(32)), None).await;
    assert_eq!((wrong.status, street.shop.state(&details).await.as_str()), (404, "pending"), "{wrong:?}");
    assert_eq!(is_pay(&street.shop.gateway.get(&path(key), None).await), 1);
}

/// The bank reported a cancellation, and the payer retried in the same session.
#[tokio::test(flavor = "multi_thread")]
async fn money_that_a_gateway_takes_after_the_end_is_credited_from_its_list() {
    let street = Street::open("ZARINPAL_COM").await;
    let details = street.create(5000).await;
    street.simulator.cancel(authority(&details));
    street.zarinpal_back(&details, "NOK").await;
    assert_eq!(street.shop.state(&details).await, "cancelled");
    assert!(street.simulator.pay_again(authority(&details)));
    // Nothing is open any more, and no browser returns.
    street.clock.advance(Duration::from_secs(301));
    street.shop.wait_for_state(&details, "paid").await;
    let payment = street.shop.get(&format!("/payment/{}/", details["id"])).await;
    assert_eq!(payment.body["reason"], "after_cancelled", "{payment:?}");
    assert_eq!(street.shop.balance().await, 5000);
    street.shop.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_asked_too_often_is_left_alone_and_the_client_told_when_to_come_back() {
    let street = Street::open("ZARINPAL_COM").await;
    let fault = Fault::page("zarinpal", 429).retry_after(40).method("request").times(1);
    street.simulator.fault(fault).expect("a fault");
    for seconds in [40, 30] {
        let refused = street.shop.post("/payment/create/", json!({"amount": 5000})).await;
        assert_eq!(
            (refused.status, refused.header("x-error-code")),
            (503, "payment_throttled"),
            "{refused:?}"
        );
        assert_eq!(refused.header("retry-after"), seconds.to_string());
        street.clock.advance(Duration::from_secs(10));
    }
    let requests = street.simulator.requests();
    assert_eq!(requests.iter().filter(|request| request.call == "request").count(), 1, "it is left alone");
    street.clock.advance(Duration::from_secs(20));
    street.create(5000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payers_go_past_a_relay() {
    for gateway in ["ZARINPAL_COM", "PAYPING_IR"] {
        let payer_url =
            |config: String| config.replace("base_url =", "payer_url = \"https://pay.example/\"\nbase_url =");
        let street = Street::open_with(gateway, payer_url).await;
        let url = street.create(5000).await["gateway_url"].as_str().expect("an address").to_owned();
        assert!(url.starts_with("https://pay.example/"), "{gateway}: {url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn payping_still_working_on_it_is_pending() {
    let street = Street::open("PAYPING_IR").await;
    street.simulator.settings(|settings| settings.payping.processing = 1);
    let details = street.create(5000).await;
    street.simulator.pay(authority(&details));
    let back = street.payping_back(&details).await;
    assert_eq!((is_pay(&back), &back.body["details"]["state"]), (&json!(0), &json!("pending")));
    street.settles(&details).await;
    assert_eq!(street.shop.balance().await, 5000);
}

/// Defects 20 and 21: a failing gateway is neither a success nor a crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_take_it_is_a_502() {
    for (gateway, provider) in [("ZARINPAL_COM", "zarinpal"), ("PAYPING_IR", "payping")] {
        let street = Street::open(gateway).await;
        let code = if provider == "zarinpal" { -9 } else { 101 };
        for (fault, expected) in [
            (Fault::code(provider, code), "payment_refused"),
            (Fault::code(provider, if provider == "zarinpal" { -10 } else { 103 }), "payment_misconfigured"),
            (Fault::status(provider, 503), "payment_outcome_unknown"),
            (Fault::new(provider, FaultKind::Html), "payment_outcome_unknown"),
            (Fault::new(provider, FaultKind::CutBefore), "payment_outcome_unknown"),
            (Fault::delay(provider, 2500), "payment_outcome_unknown"),
        ] {
            let call = if provider == "zarinpal" { "request" } else { "pay" };
            street.simulator.fault(fault.clone().method(call).times(1)).expect("a fault");
            let refused =
                street.shop.post("/payment/create/", json!({"amount": 5000, "order_id": "o"})).await;
            assert_eq!(
                (refused.status, refused.header("x-error-code")),
                (502, expected),
                "{gateway} {fault:?}"
            );
            let details = &refused.body["details"];
            assert!(
                details.get("gateway_url").is_none() && details["callback_url"].is_string(),
                "{refused:?}"
            );
        }
        // None of them blocks the next payment.
        street.shop.create(json!({"amount": 5000, "order_id": "o"})).await;
    }
}

/// Closing the browser stops nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_does_not_stop_the_settling() {
    let street = Street::open("ZARINPAL_COM").await;
    let details = street.create(5000).await;
    street.simulator.pay(authority(&details));
    street.simulator.fault(Fault::delay("zarinpal", 600).method("verify").times(1)).expect("a fault");
    let path = format!("/payment/verify/?Authority={}&Status=OK", authority(&details));
    let request = street.shop.gateway.client.get(street.shop.gateway.at(&path));
    let until = std::time::Instant::now() + chelseru_tests::PATIENCE;
    let asking = tokio::spawn(request.send());
    while !street.simulator.faults().is_empty() {
        assert!(std::time::Instant::now() < until, "the bank was never asked");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    asking.abort();
    assert!(asking.await.is_err_and(|error| error.is_cancelled()), "it went away before the answer");
    street.shop.wait_for_state(&details, "paid").await;
    let verifies = street.simulator.requests().iter().filter(|request| request.call == "verify").count();
    assert_eq!(verifies, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_or_card_is_in_what_clients_and_operators_see() {
    let street = Street::open("PAYPING_IR").await;
    street.simulator.fault(Fault::status("payping", 401).times(1)).expect("a fault");
    let refused = street.shop.post("/payment/create/", json!({"amount": 5000})).await;
    let status = street.shop.gateway.status().await.to_string();
    let metrics = street.shop.gateway.get("/metrics/", None).await.text;
    for text in [refused.text, status, metrics] {
        assert!(!text.contains("payping-token"), "{text}");
    }
}
