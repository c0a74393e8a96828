//! The shield of messages: caps on codes by number, address, prefix and in total.

use std::time::Duration;

use chelseru_tests::Answer;
use serde_json::json;

use super::sms::Shop;

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
