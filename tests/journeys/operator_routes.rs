//! The routes behind the operator commands, requested as the commands request them. The commands' tests cover their
//! output; this file covers the answers, which every journey checks against the OpenAPI document.

use std::time::{Duration, Instant};

use chelseru_tests::{Answer, PATIENCE, TestGateway};
use reqwest::Method;
use serde_json::{Value, json};

use super::payments::Shop;

async fn ask(gateway: &TestGateway, method: Method, path: &str, body: Value) -> Answer {
    let request = gateway.client.request(method, gateway.at(&format!("/operator/{path}")));
    let request = request.header("x-operator-token", &gateway.app.door.token);
    Answer::of(if body.is_null() { request } else { request.json(&body) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn api_keys_are_made_listed_and_revoked() {
    let gateway = TestGateway::start("").await;
    let wanted = json!({"scope": "sms", "name": "shop", "daily_cap": 7});
    let made = ask(&gateway, Method::POST, "apikeys/", wanted).await;
    assert_eq!((made.status, &made.body["daily_cap"]), (201, &json!(7)), "{made:?}");
    let token = made.body["token"].as_str().expect("a token");
    let plain = ask(&gateway, Method::POST, "apikeys/", json!({"scope": "sms"})).await;
    assert!(plain.body["daily_cap"].is_null(), "{plain:?}");

    let listed = ask(&gateway, Method::GET, "apikeys/", Value::Null).await;
    assert_eq!(listed.body["results"].as_array().map(Vec::len), Some(2), "{listed:?}");
    assert!(!listed.text.contains(token), "a token is shown once");

    let number = json!({"id": made.body["id"]});
    assert_eq!(ask(&gateway, Method::POST, "apikeys/revoke/", number.clone()).await.status, 200);
    assert_eq!(ask(&gateway, Method::POST, "apikeys/revoke/", number).await.status, 404);
    let listed = ask(&gateway, Method::GET, "apikeys/", Value::Null).await;
    let revoked = |key: &&Value| key["revoked_at"].is_string();
    assert_eq!(listed.body["results"].as_array().expect("keys").iter().filter(revoked).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_listed_with_their_deliveries_and_told_again() {
    // Nothing listens there.
    let endpoint = format!(
        "[webhooks.endpoints.SHOP]\nurl = \"http://127.0.0.1:9/hook\"\nsecret = \"whsec_{}=\"\n\
         hosts = [\"127.0.0.1:9\"]\n",
        "k".repeat(43)
    );
    let shop = Shop::open(&endpoint).await;
    shop.charge(1000).await;
    let gateway = &shop.gateway;
    // An event has deliveries once the webhook task has routed it.
    let until = Instant::now() + PATIENCE;
    let event = loop {
        let events = ask(gateway, Method::GET, "webhooks/", Value::Null).await;
        let event = events.body["results"][0].clone();
        if event["deliveries"][0]["endpoint"] == "SHOP" {
            break event;
        }
        assert!(event.is_object() && Instant::now() < until, "{events:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let again = json!({"event": event["id"], "endpoint": "SHOP"});
    let again = ask(gateway, Method::POST, "webhooks/", again).await;
    assert_eq!((again.status, &again.body["replayed"]), (200, &json!(1)), "{again:?}");
    let dead = ask(gateway, Method::GET, "webhooks/?dead=true", Value::Null).await;
    assert_eq!(dead.body["results"], json!([]), "{dead:?}");
}
