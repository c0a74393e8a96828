//! Webhooks: a shop's server receives a signed payment event, after it recovers, and on an operator's replay.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chelseru_domain::operator::webhook::signature;
use chelseru_tests::{PATIENCE, process};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::payments::Shop;

/// Base64 of 32 times the letter k.
pub(crate) const SECRET: &str = "whsec_a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";

/// A message received by the shop's server.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: String,
    timestamp: u64,
    signature: String,
    body: Bytes,
}

impl Message {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// Checks the signature as a receiver does.
    pub(crate) fn is_signed(&self) -> bool {
        use base64::Engine;
        let expected = signature(&[b'k'; 32], &self.id, self.timestamp, &self.body);
        let expected = format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(expected));
        self.signature.split(' ').any(|signature| signature == expected)
    }
}

/// The shop's server: answers with the scripted statuses, then with 200.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    statuses: Arc<Mutex<VecDeque<u16>>>,
    /// Bytes of each answer's body.
    body_bytes: Arc<AtomicUsize>,
    pub(crate) messages: Arc<Mutex<Vec<Message>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub(crate) async fn start(statuses: &[u16]) -> Receiver {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let statuses = Arc::new(Mutex::new(VecDeque::from(statuses.to_vec())));
        let messages = Arc::new(Mutex::new(Vec::new()));
        let body_bytes = Arc::new(AtomicUsize::new(0));
        let (script, seen, answer_bytes) = (statuses.clone(), messages.clone(), body_bytes.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen, answer_bytes) = (script.clone(), seen.clone(), answer_bytes.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                        let (script, seen) = (script.clone(), seen.clone());
                        let answer = vec![b'x'; answer_bytes.load(Ordering::Relaxed)];
                        async move {
                            let text = |name: &str| {
                                let value = request.headers().get(name).and_then(|value| value.to_str().ok());
                                value.unwrap_or_default().to_owned()
                            };
                            let (id, signature) = (text("webhook-id"), text("webhook-signature"));
                            let timestamp = text("webhook-timestamp").parse().unwrap_or(0);
                            let body = request.into_body().collect().await?.to_bytes();
                            seen.lock().expect("no panic").push(Message { id, timestamp, signature, body });
                            let status = script.lock().expect("no panic").pop_front().unwrap_or(200);
                            let response = Response::builder().status(status);
                            let response = response.header(header::LOCATION, "http://127.0.0.1:1/elsewhere");
                            Ok::<_, hyper::Error>(
                                response.body(Full::new(Bytes::from(answer))).expect("a response"),
                            )
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Receiver { address, statuses, body_bytes, messages, task }
    }

    pub(crate) fn config(&self, hosts: &str) -> String {
        format!(
            "[webhooks.endpoints.shop]\nurl = \"http://{}/hooks\"\nsecret = \"{SECRET}\"\n\
             events = [\"payment.paid\"]\n{hosts}",
            self.address
        )
    }

    pub(crate) fn granted(&self) -> String {
        self.config(&format!("hosts = [\"{}\"]\n", self.address))
    }

    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Message> {
        let until = Instant::now() + PATIENCE;
        loop {
            let messages = self.messages.lock().expect("no panic").clone();
            if messages.len() >= count {
                return messages;
            }
            assert!(Instant::now() < until, "only {messages:?} arrived");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Runs a command beside the gateway of this process.
async fn run(dir: &Path, arguments: &[&str]) -> Output {
    let (dir, arguments) =
        (dir.to_owned(), arguments.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
    let command = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        process::run(&dir, &arguments)
    };
    tokio::task::spawn_blocking(command).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_is_told_of_a_payment_signed_and_again_after_a_failure() {
    // A redirect is not followed and counts as a failure.
    let receiver = Receiver::start(&[307]).await;
    let shop = Shop::open(&receiver.granted()).await;
    let details = shop.charge(1000).await;
    let messages = receiver.wait_for(2).await;
    let (first, again) = (&messages[0], &messages[1]);
    assert!(first.is_signed() && again.is_signed(), "{messages:?}");
    assert_eq!((&first.id, &first.body), (&again.id, &again.body));
    let body = first.json();
    assert_eq!((&body["type"], &body["data"]["id"]), (&json!("payment.paid"), &details["id"]));
    assert_eq!(
        (&body["data"]["amount"], &body["data"]["currency"], &body["data"]["amount_rial"]),
        (&json!(1000), &json!("IRT"), &json!(10_000))
    );
    assert!(receiver.statuses.lock().expect("no panic").is_empty());

    // The operator sees the result and replays the event.
    let config = shop.gateway.config_file();
    let dir = config.parent().expect("a folder");
    let until = Instant::now() + PATIENCE;
    let event = loop {
        let listed = run(dir, &["webhooks", "list", "--json"]).await;
        let events: Value = serde_json::from_slice(&listed.stdout).unwrap_or_else(|_| panic!("{listed:?}"));
        let event = events
            .as_array()
            .and_then(|events| events.iter().find(|event| event["type"] == "payment.paid").cloned());
        let event = event.unwrap_or_else(|| panic!("{events}"));
        if event["deliveries"][0]["state"] == "delivered" {
            break event;
        }
        assert!(Instant::now() < until, "{event}");
    };
    assert_eq!(event["id"], first.id.as_str());
    let replayed = run(dir, &["webhooks", "replay", &first.id]).await;
    assert!(replayed.status.success(), "{replayed:?}");
    assert_eq!(receiver.wait_for(3).await[2].id, first.id);
    let unknown = run(dir, &["webhooks", "replay", "evt_0_999"]).await;
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_added_while_serving_and_a_private_one_must_be_granted() {
    let receiver = Receiver::start(&[]).await;
    let shop = Shop::open("").await;
    shop.gateway.edit_config(&receiver.config(""));
    let refused =
        shop.gateway.wait_for("a refusal", |status| !status["config"]["last_error"].is_null()).await;
    let reason = refused["config"]["last_error"].as_str().expect("a text").to_owned();
    assert!(reason.contains("webhooks.endpoints.shop.url") && !reason.contains("whsec_"), "{reason}");
    shop.gateway.edit_config(&receiver.granted());
    shop.gateway.wait_for("the endpoint", |status| status["config"]["generation"] == 2).await;
    shop.charge(1000).await;
    assert_eq!(receiver.wait_for(1).await[0].json()["type"], "payment.paid");
}

/// A receiver that answers with a page has understood all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_of_success_is_a_success() {
    let receiver = Receiver::start(&[]).await;
    receiver.body_bytes.store(3 << 20, Ordering::Relaxed);
    let shop = Shop::open(&receiver.granted()).await;
    shop.charge(1000).await;
    receiver.wait_for(1).await;
    let dir = shop.gateway.config_file().parent().expect("a folder").to_owned();
    let until = Instant::now() + PATIENCE;
    loop {
        let listed = run(&dir, &["webhooks", "list", "--json"]).await;
        let events: Value = serde_json::from_slice(&listed.stdout).unwrap_or_else(|_| panic!("{listed:?}"));
        let events = events.as_array().expect("a list").clone();
        let paid = events.iter().find(|event| event["type"] == "payment.paid").expect("it is written");
        assert_eq!(paid["deliveries"][0]["error"], "", "{paid}");
        if paid["deliveries"][0]["state"] == "delivered" {
            break;
        }
        assert!(Instant::now() < until, "{paid}");
    }
}

/// While a secret changes, receivers that know the old one and receivers that know the new one both accept a message.
/// And an operator can try an endpoint without a payment.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_changes_without_a_refused_message_and_an_endpoint_is_tried() {
    let receiver = Receiver::start(&[]).await;
    let new = "whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=";
    let both = receiver.granted().replace(
        &format!("secret = \"{SECRET}\""),
        &format!("secret = \"{new}\"\nsecret_previous = \"{SECRET}\""),
    );
    let shop = Shop::open(&both).await;
    let dir = shop.gateway.config_file().parent().expect("a folder").to_owned();
    let tried = run(&dir, &["webhooks", "test", "shop"]).await;
    assert!(tried.status.success(), "{tried:?}");
    let message = receiver.wait_for(1).await.remove(0);
    assert_eq!(message.json()["type"], "webhook.test", "it is sent whatever kinds the endpoint wants");
    assert_eq!(message.signature.split(' ').count(), 2, "{message:?}");
    assert!(message.is_signed(), "by the previous secret, too: {message:?}");
    let first = message.signature.split(' ').next().expect("one").to_owned();
    let expected =
        signature(b"newnewnewnewnewnewnewnewnewnewne", &message.id, message.timestamp, &message.body);
    use base64::Engine;
    assert_eq!(first, format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(expected)));
    let unknown = run(&dir, &["webhooks", "test", "nobody"]).await;
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    // What a payment was for is in its event.
    let details = shop.create(json!({"amount": 1000, "order_id": "o-9"})).await;
    shop.pay(&details).await;
    let data = receiver.wait_for(2).await[1].json()["data"].clone();
    assert_eq!((&data["order_id"], &data["pay_mode"]), (&json!("o-9"), &json!(1)), "{data}");
    assert_eq!(data["authority"], details["authority"]);
}
