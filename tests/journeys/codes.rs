//! Codes of a login: asked for again, filled in by phones, and fixed for test numbers.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_tests::TestGateway;
use serde_json::json;

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
    // Used once, like any code; other numbers have their own codes.
    let again = gateway.post("/authenticate/", json!({"mobile_number": number, "code": "424242"})).await;
    assert_eq!(again.status, 401);
    let other = "09120004011";
    assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": other})).await.status, 200);
    if gateway.sandbox_code(other).await != "424242" {
        let fixed = gateway.post("/authenticate/", json!({"mobile_number": other, "code": "424242"})).await;
        assert_eq!(fixed.status, 401);
    }
    // Without the setting the number is like any other.
    gateway.edit_config("");
    gateway.wait_for("the reload", |status| status["config"]["generation"] == 2).await;
    assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": number})).await.status, 200);
    gateway.sandbox_code(number).await;
}
