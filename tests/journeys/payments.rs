//! Payments over the API: from a client's order to a credited wallet, at the built-in bank and at simulated gateways.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_domain::money::payment::{SCAN_POINTS_MAX, SCAN_POINTS_MISS};
use chelseru_tests::{Answer, Login, PATIENCE, TestGateway};
use serde_json::{Value, json};

pub(crate) const NUMBER: &str = "09121234567";

const CONFIG: &str = r#"
[payment]
callback_urls = ["https://shop.example/pay"]
staff_users = [1]
reconcile_seconds = 1
"#;

/// A gateway and a logged-in user.
pub(crate) struct Shop {
    pub(crate) gateway: TestGateway,
    pub(crate) login: Login,
}

impl Shop {
    pub(crate) async fn open(config: &str) -> Shop {
        Shop::open_at(config, Arc::new(SystemClock)).await
    }

    pub(crate) async fn open_at(config: &str, clock: Arc<dyn Clock>) -> Shop {
        let gateway = TestGateway::start_at(config, clock).await;
        let login = gateway.login(NUMBER).await;
        Shop { gateway, login }
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_with(path, body, &[]).await
    }

    pub(crate) async fn post_with(&self, path: &str, body: Value, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.gateway.client.post(self.gateway.at(path)).json(&body);
        request = request.bearer_auth(&self.login.access);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request).await
    }

    async fn raw(&self, path: &str, body: &'static str) -> Answer {
        let request = self.gateway.client.post(self.gateway.at(path)).bearer_auth(&self.login.access);
        Answer::of(request.header("content-type", "application/json").body(body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.gateway.get(path, Some(&self.login.access)).await
    }

    pub(crate) async fn balance(&self) -> Value {
        let wallet = self.get("/wallet/").await;
        assert_eq!(wallet.body["currency"], "IRT", "{wallet:?}");
        wallet.body["balance"].clone()
    }

    /// A started payment's details.
    pub(crate) async fn create(&self, body: Value) -> Value {
        let created = self.post("/payment/create/", body).await;
        assert_eq!(created.status, 200, "{created:?}");
        created.body["details"].clone()
    }

    /// The payer's decision on the built-in bank's page, and the resulting redirect.
    pub(crate) async fn decide(&self, details: &Value, action: &str) -> Answer {
        let url = details["gateway_url"].as_str().expect("an address");
        Answer::of(self.gateway.client.post(url).form(&[("action", action)])).await
    }

    pub(crate) async fn pay(&self, details: &Value) -> Answer {
        let back = self.decide(details, "pay").await;
        assert_eq!(back.status, 303, "{back:?}");
        Answer::of(self.gateway.client.get(back.header("location"))).await
    }

    pub(crate) async fn charge(&self, toman: u64) -> Value {
        let details = self.create(json!({"amount": toman})).await;
        let paid = self.pay(&details).await;
        assert_eq!(paid.body["details"]["is_pay"], 1, "{paid:?}");
        details
    }

    pub(crate) async fn state(&self, details: &Value) -> String {
        let payment = self.get(&format!("/payment/{}/", details["id"])).await;
        payment.body["state"].as_str().unwrap_or_else(|| panic!("{payment:?}")).to_owned()
    }

    pub(crate) async fn wait_for_state(&self, details: &Value, wanted: &str) {
        let until = std::time::Instant::now() + PATIENCE;
        while self.state(details).await != wanted {
            assert!(std::time::Instant::now() < until, "it never is {wanted}: {}", self.state(details).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn check_ledger(&self) {
        let report = self.gateway.app.store.ledger_verify().await.expect("readable");
        assert_eq!(report.difference, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_pays_at_once() {
    let shop = Shop::open("").await;
    let details = shop.create(json!({"amount": 1000.0, "currency": "IRT", "order_id": "o-1"})).await;
    assert_eq!(details["gateway_title"], "SANDBOX_PAY");
    let page = Answer::of(shop.gateway.client.get(details["gateway_url"].as_str().expect("text"))).await;
    assert!(page.text.contains("10000 rial"), "{page:?}");
    let paid = shop.pay(&details).await;
    assert_eq!((paid.status, &paid.body["details"]["is_pay"]), (200, &json!(1)), "{paid:?}");
    assert_eq!(shop.balance().await, 1000);
    let lines = shop.get("/wallet/entries/").await;
    let line = &lines.body["results"][0];
    assert_eq!(
        (&line["kind"], &line["amount"], &line["balance"]),
        (&json!("payment"), &json!(1000), &json!(1000))
    );
    assert_eq!(shop.state(&details).await, "paid");
    // The same callback again changes nothing and gets the same answer.
    let url =
        format!("/payment/verify/?Authority={}&Status=OK", details["authority"].as_str().expect("text"));
    assert_eq!(shop.get(&url).await.body, paid.body);
    assert_eq!(shop.balance().await, 1000);
    shop.check_ledger().await;
}

/// References are guessable, and names, cards and amounts are not for guessers.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_see_whether_a_payment_is_paid_and_nothing_else() {
    let shop = Shop::open("[payment]\ncallback_urls = [\"https://shop.example/pay\"]\n").await;
    let target = "https://shop.example/pay";
    let plain = shop.create(json!({"amount": 1000, "order_id": "o-1"})).await;
    let framed =
        shop.create(json!({"amount": 1000, "order_id": "o-2", "frontend_callback_url": target})).await;
    let stranger = shop.gateway.login("09120000002").await;
    let verify = |details: &Value| {
        format!("/payment/verify/?Authority={}&Status=OK", details["authority"].as_str().expect("text"))
    };
    assert_eq!(
        shop.gateway.get(&verify(&plain), None).await.body,
        json!({"details": {"is_pay": 0, "state": "pending"}})
    );
    let paid = shop.pay(&plain).await;
    assert!(paid.body["details"]["card_pan"].is_string(), "the payer's own browser: {paid:?}");
    let expected = json!({"details": {"is_pay": 1, "state": "paid"}});
    assert_eq!(shop.gateway.get(&verify(&plain), None).await.body, expected);
    assert_eq!(shop.gateway.get(&verify(&plain), Some(&stranger.access)).await.body, expected);
    assert_eq!(shop.get(&verify(&plain)).await.body, paid.body, "the owner");
    let post = shop.gateway.post("/payment/verify/", json!({"Authority": plain["authority"]})).await;
    assert_eq!(post.body, expected);
    // The same on the way to the application.
    assert!(shop.pay(&framed).await.header("location").contains("order_id=o-2"));
    let seen = shop.gateway.get(&verify(&framed), None).await;
    let authority = framed["authority"].as_str().expect("text");
    let location = format!(
        "{target}?status=paid&order_id=&authority={authority}&ref_id=&amount=&message=&state=paid&currency="
    );
    assert_eq!((seen.status, seen.header("location")), (302, location.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_guesses_references_waits_and_the_payer_does_not() {
    let shop = Shop::open_at("", Arc::new(ManualClock::at(SystemClock.now()))).await;
    let details = shop.create(json!({"amount": 1000})).await;
    let guess =
        async |n: u32| shop.gateway.get(&format!("/payment/verify/?Authority=S{n}&Status=OK"), None).await;
    for n in 0..SCAN_POINTS_MAX / SCAN_POINTS_MISS {
        assert_ne!(guess(n).await.status, 429, "guess {n}");
    }
    let refused = guess(77).await;
    assert_eq!((refused.status, refused.header("x-error-code")), (429, "too_many_questions"), "{refused:?}");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds <= 60), "{refused:?}");
    let known =
        format!("/payment/verify/?Authority={}&Status=OK", details["authority"].as_str().expect("text"));
    assert_eq!(shop.gateway.get(&known, None).await.status, 429, "known and unknown ones look alike");
    assert_eq!(shop.get(&known).await.status, 200, "the owner");
    assert_eq!(shop.pay(&details).await.body["details"]["is_pay"], 1, "the payer's browser");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_payment_credits_nothing() {
    let shop = Shop::open("").await;
    let details = shop.create(json!({"amount": 1000})).await;
    let back = shop.decide(&details, "cancel").await;
    assert!(back.header("location").ends_with("&Status=NOK"), "{back:?}");
    let answer = Answer::of(shop.gateway.client.get(back.header("location"))).await;
    assert_eq!((answer.status, &answer.body["details"]["is_pay"]), (200, &json!(0)));
    assert_eq!(shop.state(&details).await, "cancelled");
    assert_eq!(shop.balance().await, 0);
    assert_eq!(shop.decide(&details, "pay").await.status, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_callback_is_settled_by_itself() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let shop = Shop::open_at(CONFIG, clock.clone()).await;
    let details = shop.create(json!({"amount": 1000})).await;
    assert_eq!(shop.decide(&details, "pay_lost").await.status, 200);
    clock.advance(Duration::from_secs(61));
    shop.wait_for_state(&details, "paid").await;
    assert_eq!(shop.balance().await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_no_payment_and_credits_none_twice() {
    let shop = Shop::open(CONFIG).await;
    shop.charge(1000).await;
    let Shop { gateway, login } = shop;
    let dir = gateway.stop().await;
    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    let shop = Shop { gateway, login };
    assert_eq!(shop.balance().await, 1000);
    shop.check_ledger().await;
}

/// Defect 15. All callbacks get the same answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callbacks_charge_the_wallet_once() {
    let shop = Shop::open("").await;
    let details = shop.create(json!({"amount": 5000})).await;
    let back = shop.decide(&details, "pay").await;
    let location = back.header("location").to_owned();
    let calls = (0..100).map(|n| {
        let (client, location) = (shop.gateway.client.clone(), location.clone());
        tokio::spawn(async move {
            // Half of them as forms.
            let (url, query) = location.split_once('?').expect("a query");
            let request = match n % 2 {
                0 => client.get(&location),
                _ => client
                    .post(format!("{url}?{}", query.split('&').next().expect("the key")))
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(query.to_owned()),
            };
            Answer::of(request).await.body
        })
    });
    let mut bodies = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        bodies.push(call.await.expect("answered"));
    }
    assert_eq!(bodies[0]["details"]["is_pay"], 1);
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(shop.balance().await, 5000);
    shop.check_ledger().await;
}

/// Defect 16.
#[tokio::test(flavor = "multi_thread")]
async fn the_clients_word_about_money_is_checked() {
    let shop = Shop::open("").await;
    for body in [
        r#"{"amount": -3000}"#,
        r#"{"amount": 0}"#,
        r#"{"amount": 1000.99}"#,
        r#"{"amount": 1000.0000000000000000000000001}"#,
        r#"{"amount": 1e4}"#,
        r#"{"amount": "1e4"}"#,
        r#"{"amount": 18446744073709551616}"#,
        r#"{"amount": "abc"}"#,
        r#"{"amount": true}"#,
        r#"{"amount": [1000]}"#,
    ] {
        let refused = shop.raw("/payment/create/", body).await;
        assert_eq!(refused.status, 400, "{body}: {refused:?}");
        assert!(refused.body["amount"][0].is_string(), "{body}: {refused:?}");
    }
    for (field, value) in [
        ("currency", json!("IRR")),
        ("currency", json!("USD")),
        ("pay_mode", json!("abc")),
        ("pay_mode", json!(99)),
        ("mobile", json!("12")),
    ] {
        let refused = shop.post("/payment/create/", json!({"amount": 1000, field: value})).await;
        assert_eq!(refused.status, 400, "{field}: {refused:?}");
        assert!(refused.body[field][0].is_string(), "{field}: {refused:?}");
    }
    for absent in [json!({}), json!({"amount": null})] {
        let refused = shop.post("/payment/create/", absent).await;
        assert_eq!((refused.status, &refused.body["error"]), (400, &json!("amount is required.")));
    }
    // Half a toman is exactly five rial.
    let details = shop.create(json!({"amount": 1000.5})).await;
    assert_eq!(details["amount"], 1000.5);
    shop.pay(&details).await;
    assert_eq!(shop.balance().await, 1000.5);
    let payment = shop.get(&format!("/payment/{}/", details["id"])).await;
    assert_eq!(payment.body["amount_rial"], 10_005);
}

/// Defect 22.
#[tokio::test(flavor = "multi_thread")]
async fn payers_are_sent_to_listed_addresses_only() {
    let shop = Shop::open(CONFIG).await;
    for field in ["callback_url", "frontend_callback_url"] {
        for url in [
            "https://evil.example/phish",
            "javascript:alert(1)",
            "https://shop.example.evil.example/pay",
            "//x",
        ] {
            let refused = shop.post("/payment/create/", json!({"amount": 1000, field: url})).await;
            assert_eq!(refused.status, 400, "{refused:?}");
            assert!(refused.body[field][0].is_string(), "{refused:?}");
        }
    }
    let target = "https://shop.example/pay/done?x=1#top";
    let details =
        shop.create(json!({"amount": 1000, "order_id": "o-2", "frontend_callback_url": target})).await;
    let paid = shop.pay(&details).await;
    assert_eq!(paid.status, 302);
    let authority = details["authority"].as_str().expect("text");
    let expected = format!(
        "https://shop.example/pay/done?x=1&status=paid&order_id=o-2&authority={authority}&ref_id=1&amount=1000.0&message=Paid&state=paid&currency=IRT#top"
    );
    assert_eq!(paid.header("location"), expected);
}

/// Defect 19: a body without a reference selects nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_callback_about_nothing_touches_nothing() {
    let shop = Shop::open("").await;
    let details = shop.create(json!({"amount": 1000})).await;
    shop.decide(&details, "pay_lost").await;
    for body in [
        json!({}),
        json!({"x": 1}),
        json!({"authority": ""}),
        json!({"paymentCode": "P1", "paymentRefId": "1"}),
    ] {
        let refused = shop.gateway.post("/payment/verify/", body).await;
        assert_eq!((refused.status, &refused.body["error"]), (404, &json!("payment not found.")));
    }
    for query in ["", "?Authority=S1", "?Status=OK"] {
        let refused = shop.gateway.get(&format!("/payment/verify/{query}"), None).await;
        assert_eq!(refused.status, 400, "{refused:?}");
    }
    let unknown = shop.gateway.get("/payment/verify/?Authority=A0&Status=OK", None).await;
    assert!([400, 404].contains(&unknown.status), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_makes_one_payment_and_one_spend() {
    let shop = Shop::open("").await;
    let key = [("Idempotency-Key", "k-1")];
    let first = shop.post_with("/payment/create/", json!({"amount": 1000}), &key).await;
    let again = shop.post_with("/payment/create/", json!({"amount": 1000}), &key).await;
    assert_eq!((first.status, &first.body), (200, &again.body));
    let replayed = |answer: &Answer| answer.header("idempotency-replayed").to_owned();
    assert_eq!((replayed(&first).as_str(), replayed(&again).as_str()), ("", "true"));
    let other = shop.post_with("/payment/create/", json!({"amount": 1001}), &key).await;
    assert_eq!((other.status, &other.body["code"]), (422, &json!("idempotency_key_reused")));
    let long = "k".repeat(256);
    for bad in ["", " ", long.as_str()] {
        let refused =
            shop.post_with("/payment/create/", json!({"amount": 1000}), &[("Idempotency-Key", bad)]).await;
        assert_eq!(refused.status, 400, "{refused:?}");
    }
    let longest = "k".repeat(255);
    let taken =
        shop.post_with("/payment/create/", json!({"amount": 1000}), &[("Idempotency-Key", &longest)]).await;
    assert_eq!(taken.status, 200);

    shop.charge(1000).await;
    let spend = json!({"amount": 300, "order_id": "o"});
    let first = shop.post_with("/wallet/spend/", spend.clone(), &key).await;
    assert_eq!((first.status, &first.body["balance_after"]), (201, &json!(700)), "{first:?}");
    let again = shop.post_with("/wallet/spend/", spend, &key).await;
    assert_eq!((&again.body, again.header("idempotency-replayed")), (&first.body, "true"));
    assert_eq!(first.header("idempotency-replayed"), "");
    let other = shop.post_with("/wallet/spend/", json!({"amount": 301}), &key).await;
    assert_eq!(other.status, 422);
    assert_eq!(shop.balance().await, 700);
    shop.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_are_captured_voided_and_refunds_bounded_by_the_staff() {
    let shop = Shop::open(CONFIG).await;
    let paid = shop.charge(1000).await;
    let held = shop.post("/wallet/spend/", json!({"amount": 400, "hold": true})).await;
    assert_eq!((held.status, &held.body["state"]), (201, &json!("held")), "{held:?}");
    let wallet = shop.get("/wallet/").await;
    assert_eq!((&wallet.body["balance"], &wallet.body["held"]), (&json!(600), &json!(400)));
    let path = |what: &str| format!("/wallet/spend/{}/{what}", held.body["id"]);

    let stranger = shop.gateway.login("09120000002").await;
    let as_stranger = |path: String| {
        let request =
            shop.gateway.client.post(shop.gateway.at(&path)).bearer_auth(&stranger.access).json(&json!({}));
        Answer::of(request)
    };
    assert_eq!(as_stranger(path("capture/")).await.status, 404, "another's spend does not exist for him");
    assert_eq!(as_stranger(format!("/payment/{}/refund/", paid["id"])).await.status, 403);
    let seen = shop.gateway.get(&format!("/payment/{}/", paid["id"]), Some(&stranger.access)).await;
    assert_eq!(seen.status, 404);

    assert_eq!(shop.post(&path("capture/"), json!({"amount": 401})).await.status, 400);
    let captured = shop.post(&path("capture/"), json!({"amount": 100})).await;
    assert_eq!((captured.status, &captured.body["captured"]), (200, &json!(100)), "{captured:?}");
    assert_eq!(shop.post(&path("void/"), json!({})).await.status, 409);
    assert_eq!(shop.balance().await, 900);
    assert_eq!(shop.post("/wallet/spend/", json!({"amount": 900.1})).await.status, 409);
    let other = shop.post("/wallet/spend/", json!({"amount": 5, "hold": true})).await;
    let other = format!("/wallet/spend/{}/", other.body["id"]);
    assert_eq!(shop.get(&other).await.body["state"], "held");
    let voided = shop.post(&format!("{other}void/"), json!({})).await;
    assert_eq!((voided.status, &voided.body["state"]), (200, &json!("voided")), "{voided:?}");
    assert_eq!(shop.balance().await, 900);

    let refund = format!("/payment/{}/refund/", paid["id"]);
    assert_eq!(shop.post(&refund, json!({"amount": 1000.1})).await.status, 400);
    assert_eq!(shop.post(&refund, json!({})).await.body["code"], "insufficient_funds");
    let part = shop.post(&refund, json!({"amount": 250, "note": "broken"})).await;
    assert_eq!((part.status, &part.body["payment"]["refunded"]), (201, &json!(250)), "{part:?}");
    assert_eq!(shop.post(&refund, json!({"amount": 750.1})).await.status, 400);
    assert_eq!(shop.balance().await, 650);
    shop.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_payments_and_lines_are_followed_by_their_next() {
    let shop = Shop::open("").await;
    shop.charge(100_000).await;
    for n in 1..=45 {
        assert_eq!(shop.post("/wallet/spend/", json!({"amount": n})).await.status, 201);
    }
    let mut url = shop.gateway.at("/wallet/entries/");
    let mut seen = 0;
    loop {
        let page = Answer::of(shop.gateway.client.get(&url).bearer_auth(&shop.login.access)).await;
        seen += page.body["results"].as_array().expect("results").len();
        match page.body["next"].as_str() {
            Some(next) => url = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, 46);
    let payments = shop.get("/payment/").await;
    assert_eq!(payments.body["results"][0]["state"], "paid");
    for bad in
        ["/payment/?cursor=x", "/wallet/entries/?cursor=-1", "/payment/99/", "/payment/x/", "/payment/01/"]
    {
        assert_eq!(shop.get(bad).await.status, 404, "{bad}");
    }
    for closed in ["/payment/", "/payment/1/", "/wallet/", "/wallet/entries/"] {
        assert_eq!(shop.gateway.get(closed, None).await.status, 401, "{closed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_virtual_bank_is_on_the_operators_listener() {
    let shop = Shop::open("").await;
    let details = shop.create(json!({"amount": 1000})).await;
    let url = details["gateway_url"].as_str().expect("text");
    let page = url.strip_prefix(&shop.gateway.operator_url).expect("an address of operators");
    let public = shop.gateway.client.get(format!("{}{page}", shop.gateway.url));
    assert_eq!(Answer::of(public).await.status, 404);
    let nonsense = Answer::of(shop.gateway.client.post(url).form(&[("action", "steal")])).await;
    assert_eq!(nonsense.status, 400);
    // The payer's return address never comes from the client.
    let begun =
        shop.post_with("/payment/create/", json!({"amount": 1000}), &[("host", "evil.example")]).await;
    let own = format!("{}/payment/verify/", shop.gateway.url);
    assert_eq!(begun.body["details"]["callback_url"], own, "{begun:?}");
}

/// Without a configured name, a public gateway does not know where payers return to.
#[tokio::test(flavor = "multi_thread")]
async fn a_public_gateway_has_a_callback_only_under_its_configured_address() {
    let public = "[server]\nlisten = \"0.0.0.0:0\"\n[sandbox]\npublic = true\n";
    let shop = Shop::open(public).await;
    let refused = shop.post("/payment/create/", json!({"amount": 1000})).await;
    assert!(refused.status == 400 && refused.text.contains("server.public_url"), "{refused:?}");
    drop(shop);
    let named = public.replace("0.0.0.0:0\"", "0.0.0.0:0\"\npublic_url = \"https://shop.example\"");
    let shop = Shop::open(&named).await;
    let details = shop.create(json!({"amount": 1000})).await;
    assert_eq!(details["callback_url"], "https://shop.example/drfchelseru/payment/verify/");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_payment_gateway_no_payment_begins() {
    let shop = Shop::open("[payment]\ngateway = \"\"\n").await;
    let refused = shop.post("/payment/create/", json!({"amount": 1000})).await;
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("payment_unavailable")), "{refused:?}");
}

/// Staff is decided by the account's own flag, without configuration; changed claims in a token grant nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_virtual_bank_gives_back_what_was_paid() {
    let shop = Shop::open(CONFIG).await;
    let paid = shop.charge(1000).await;
    let refund = format!("/payment/{}/refund/", paid["id"]);
    let given = shop.post(&refund, json!({"to": "reverse"})).await;
    assert_eq!(
        (given.status, &given.body["payment"]["reversal"]["state"]),
        (201, &json!("done")),
        "{given:?}"
    );
    assert_eq!(shop.balance().await, 0);
    let page = format!("/sandbox/pay/{}/", paid["authority"].as_str().expect("one"));
    assert!(shop.gateway.get(&page, None).await.text.contains("reversed"));
    assert_eq!(shop.gateway.status().await["payment"]["reversals"], 0);
    let wrong = shop.post(&refund, json!({"to": "me"})).await;
    assert!(wrong.status == 400 && wrong.text.contains("payer_outside"), "{wrong:?}");
    shop.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_staff_refunds_and_no_other_does() {
    let shop = Shop::open("[auth]\nmethod = [\"OTP\", \"PASSWD\"]\n").await;
    let paid = shop.charge(1000).await;
    let refund = format!("/payment/{}/refund/", paid["id"]);
    let refused = shop.post(&refund, json!({"amount": 10, "is_staff": true})).await;
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("permission_denied")), "{refused:?}");

    let password = chelseru_domain::login::password::Password::new("kavir darya 7");
    shop.gateway
        .app
        .live()
        .identity
        .superuser_create(&chelseru_tests::machine(), "root", &password, "")
        .await
        .expect("made");
    let body = json!({"username": "root", "password": "kavir darya 7"});
    let root = shop.gateway.post("/login/", body).await.login();
    let give = |amount: Value| {
        let request = shop.gateway.client.post(shop.gateway.at(&refund)).bearer_auth(&root.access);
        Answer::of(request.json(&json!({"amount": amount})))
    };
    let too_much = give(json!(1000.1)).await;
    assert_eq!(too_much.status, 400);
    assert!(too_much.text.contains("1000 IRT"), "the unit is named: {too_much:?}");
    let given = give(json!(1000)).await;
    assert_eq!((given.status, &given.body["payment"]["state"]), (201, &json!("refunded")), "{given:?}");
    assert_eq!(given.body["refund"]["currency"], "IRT");
    assert_eq!(give(json!(1)).await.status, 409, "all of it went back");
    assert_eq!(shop.balance().await, 0);
    shop.check_ledger().await;
}

/// An amount in the wrong unit is ten times too much or a tenth.
#[tokio::test(flavor = "multi_thread")]
async fn no_route_ignores_a_currency() {
    let shop = Shop::open(CONFIG).await;
    let paid = shop.charge(1000).await;
    let held = shop.post("/wallet/spend/", json!({"amount": 400, "hold": true, "currency": "IRT"})).await;
    assert_eq!(held.status, 201, "{held:?}");
    let spend = format!("/wallet/spend/{}", held.body["id"]);
    for path in [
        "/payment/create/".to_owned(),
        "/wallet/spend/".to_owned(),
        format!("{spend}/capture/"),
        format!("{spend}/void/"),
        format!("/payment/{}/refund/", paid["id"]),
    ] {
        for wrong in ["IRR", "USD"] {
            let refused = shop.post(&path, json!({"amount": 10, "currency": wrong})).await;
            assert_eq!(refused.status, 400, "{path}: {refused:?}");
            assert!(refused.body["currency"][0].is_string(), "{path}: {refused:?}");
        }
    }
    assert_eq!(shop.balance().await, 600);
    // A reply tells the balance of now, and not the one from when the hold was made.
    shop.charge(100).await;
    let captured = shop.post(&format!("{spend}/capture/"), json!({"amount": 100, "currency": "IRT"})).await;
    assert_eq!((captured.status, &captured.body["balance_after"]), (200, &json!(1000)), "{captured:?}");
    let held = shop.post("/wallet/spend/", json!({"amount": 400, "hold": true})).await;
    assert_eq!(held.body["balance_after"], 600);
    shop.charge(100).await;
    let void = shop.post(&format!("/wallet/spend/{}/void/", held.body["id"]), json!({})).await;
    assert_eq!((void.status, &void.body["balance_after"]), (200, &json!(1100)), "{void:?}");
    let again = shop.post(&format!("/wallet/spend/{}/void/", held.body["id"]), json!({})).await;
    assert_eq!(again.body, void.body);
    shop.post("/wallet/spend/", json!({"amount": 1})).await;
    let lines = shop.get("/wallet/entries/").await;
    let kinds: Vec<&str> = lines.body["results"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| line["kind"].as_str().expect("text"))
        .collect();
    assert_eq!(
        kinds,
        ["spend", "void", "payment", "hold", "capture", "payment", "hold", "payment"].as_slice(),
        "holds are told from spends"
    );
    assert_eq!(shop.balance().await, 1099);
    shop.check_ledger().await;
}

/// The unit of the configuration may change between a payment and its refund.
#[tokio::test(flavor = "multi_thread")]
async fn a_refund_counts_in_the_payments_own_unit() {
    let shop = Shop::open(CONFIG).await;
    let paid = shop.charge(1000).await;
    shop.gateway.edit_config(&CONFIG.replace("[payment]", "[payment]\ncurrency = \"IRR\""));
    let until = std::time::Instant::now() + PATIENCE;
    while shop.get("/wallet/").await.body["currency"] != "IRR" {
        assert!(std::time::Instant::now() < until, "the edit never applies");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refund = format!("/payment/{}/refund/", paid["id"]);
    let wrong = shop.post(&refund, json!({"amount": 100, "currency": "IRR"})).await;
    assert_eq!(wrong.status, 400, "{wrong:?}");
    let part = shop.post(&refund, json!({"amount": 100, "currency": "IRT"})).await;
    assert_eq!(part.status, 201, "{part:?}");
    assert_eq!(part.body["refund"]["amount"], 100);
    assert_eq!(
        (&part.body["refund"]["currency"], &part.body["refund"]["to"]),
        (&json!("IRT"), &json!("payer_outside"))
    );
    assert_eq!(shop.get("/wallet/").await.body["balance"], 9000, "rial");
    shop.check_ledger().await;
}

/// Banks and their pages do not agree on the form in which the payer returns.
#[tokio::test(flavor = "multi_thread")]
async fn a_callback_is_read_in_whatever_form_it_comes() {
    let shop = Shop::open("").await;
    let multipart = "--x\r\nContent-Disposition: form-data; name=\"Authority\"\r\n\r\nREF\r\n\
                     --x\r\nContent-Disposition: form-data; name=\"Status\"\r\n\r\nOK\r\n--x--\r\n";
    for (what, content_type, body) in [
        ("multipart", "multipart/form-data; boundary=x", multipart),
        ("JSON", "application/json", r#"{"Authority":"REF","Status":"OK"}"#),
        ("JSON with a mark", "application/json", "\u{feff}{\"Authority\":\"REF\"}"),
        ("JSON as text", "text/plain", r#"{"authority":"REF","status":"OK"}"#),
        ("JSON as a form", "application/x-www-form-urlencoded", r#"{"Authority":"REF"}"#),
        ("lower case", "application/x-www-form-urlencoded", "authority=REF&status=ok"),
        ("doubled names", "application/x-www-form-urlencoded", "Authority=&authority=REF&Authority=REF"),
        ("a form as text", "text/plain", "Authority=REF&Status=OK"),
        ("a form without a type", "", "Authority=REF&Status=OK"),
    ] {
        let details = shop.create(json!({"amount": 1000})).await;
        let back = shop.decide(&details, "pay").await;
        let (url, query) = back.header("location").split_once('?').expect("a query");
        let key = query.split('&').next().expect("a key");
        let body = body.replace("REF", details["authority"].as_str().expect("text"));
        let request = shop.gateway.client.post(format!("{url}?{key}")).body(body);
        let request =
            if content_type.is_empty() { request } else { request.header("content-type", content_type) };
        let paid = Answer::of(request).await;
        assert_eq!((paid.status, &paid.body["details"]["is_pay"]), (200, &json!(1)), "{what}: {paid:?}");
    }
    for without in ["status", "slash"] {
        let details = shop.create(json!({"amount": 1000})).await;
        let back = shop.decide(&details, "pay").await;
        let url = match without {
            "status" => back.header("location").replace("&Status=OK", ""),
            _ => back.header("location").replace("/verify/?", "/verify?"),
        };
        let paid = Answer::of(shop.gateway.client.get(&url)).await;
        assert_eq!((paid.status, &paid.body["details"]["is_pay"]), (200, &json!(1)), "{url}: {paid:?}");
    }
    // A form that is posted without the slash keeps its fields.
    let details = shop.create(json!({"amount": 1000})).await;
    let back = shop.decide(&details, "pay").await;
    let (url, query) = back.header("location").split_once('?').expect("a query");
    let form = [("Authority", details["authority"].as_str().expect("text")), ("Status", "OK")];
    let url = format!("{}?{query}", url.trim_end_matches('/'));
    assert_eq!(Answer::of(shop.gateway.client.post(url).form(&form)).await.body["details"]["is_pay"], 1);
    // Other paths without their slash are redirected as before.
    assert_eq!(shop.get("/wallet").await.status, 301);
    // A number longer than any type of ours is an order's name like any other.
    let body = r#"{"amount": 1000, "order_id": 123456789012345678901234567890}"#;
    let begun = shop.raw("/payment/create/", body).await;
    let payment = shop.get(&format!("/payment/{}/", begun.body["details"]["id"])).await;
    assert_eq!(payment.body["order_id"], "123456789012345678901234567890", "{payment:?}");
    shop.check_ledger().await;
}
