//! Rules for every route: the spelling of numbers in paths, of idempotency keys and of cursors.
//!
//! The routes come from the gateway's own document, so a new route is covered without a change here.

use chelseru::config::Server;
use chelseru::http::openapi::{Audience, document};
use chelseru_domain::login::password::Password;
use chelseru_domain::operator::role::Reason;
use chelseru_tests::{Answer, TestGateway, machine};
use reqwest::Method;
use serde_json::{Value, json};

const CONFIG: &str = "[auth]\nmethod = [\"OTP\", \"PASSWD\"]\n";

/// Parameters of paths that are numbers.
const NUMBERS: [&str; 3] = ["{id}", "{user}", "{room}"];

/// A gateway with the access token of a superuser, who may use every user route.
async fn start() -> (TestGateway, String) {
    let gateway = TestGateway::start(CONFIG).await;
    let password = Password::new("kavir darya 7");
    gateway.app.live().identity.superuser_create(&machine(), "root", &password, "").await.expect("made");
    let body = json!({"username": "root", "password": "kavir darya 7"});
    let access = gateway.post("/login/", body).await.login().access;
    (gateway, access)
}

/// Method, path and description of every operation.
fn operations() -> Vec<(Method, String, Value)> {
    let document = document(&Server::default(), Audience::Everybody);
    let paths = document["paths"].as_object().expect("paths").clone();
    let mut operations = Vec::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("methods") {
            let method = method.to_uppercase().parse().expect("a method");
            operations.push((method, path.clone(), operation.clone()));
        }
    }
    operations
}

/// A request to the listener of a path, by somebody who may use every route of it.
async fn by_anybody(
    gateway: &TestGateway,
    method: Method,
    path: &str,
    access: &str,
) -> reqwest::RequestBuilder {
    let of_operators = path.starts_with("/drfchelseru/operator/v1/");
    let base = if of_operators { &gateway.operator_url } else { &gateway.url };
    let host = base.strip_suffix("/drfchelseru").expect("the default base path");
    let request = gateway.client.request(method, format!("{host}{path}"));
    if !of_operators {
        return request.bearer_auth(access);
    }
    let live = gateway.app.live();
    let desk = &live.generation.console.desk;
    let reason = Reason::of_command();
    let key = desk.api_key_create(&machine(), "", "operator:admin", None, &reason).await.expect("made");
    request.header("authorization", format!("Api-Key {}", key.token))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_in_a_path_has_one_spelling_on_every_route() {
    let (gateway, access) = start().await;
    let mut held = 0;
    for (method, path, _) in operations() {
        for number in NUMBERS.iter().filter(|number| path.contains(**number)) {
            for wrong in ["01", "+1", "%201", "1%20", "-1", "1.0", "18446744073709551616", "x"] {
                let mut asked = path.replace(number, wrong);
                for other in NUMBERS {
                    asked = asked.replace(other, "1");
                }
                let request = by_anybody(&gateway, method.clone(), &asked, &access).await;
                let answer = Answer::of(request.json(&json!({}))).await;
                assert_eq!(answer.status, 404, "{method} {asked}: {answer:?}");
            }
            held += 1;
        }
    }
    assert!(held >= 30, "only {held} numbers in paths");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_has_one_rule_on_every_route() {
    let (gateway, access) = start().await;
    // A body that satisfies every route that takes a key.
    let body = json!({"mobile_number": "09120000001", "message_text": "x", "amount": 1000});
    let long = "k".repeat(256);
    let mut held = 0;
    for (method, path, operation) in operations() {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        if !parameters.iter().any(|parameter| parameter["name"] == "Idempotency-Key") {
            continue;
        }
        let path = path.replace("{id}", "1");
        for keys in [vec![""], vec!["a b"], vec!["کلید"], vec![long.as_str()], vec!["a", "a"]] {
            let mut request = by_anybody(&gateway, method.clone(), &path, &access).await.json(&body);
            for key in &keys {
                let value = reqwest::header::HeaderValue::from_bytes(key.as_bytes()).expect("a value");
                request = request.header("idempotency-key", value);
            }
            let answer = Answer::of(request).await;
            let told = (answer.status, answer.header("x-error-code"));
            assert_eq!(told, (400, "idempotency_key_invalid"), "{method} {path} {keys:?}: {answer:?}");
        }
        held += 1;
    }
    assert!(held >= 4, "only {held} routes take a key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_one_form_of_pages_on_every_route() {
    use base64::Engine;
    let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let (gateway, access) = start().await;
    let room = gateway.client.post(gateway.at("/chat/chatrooms/")).bearer_auth(&access);
    let room = Answer::of(room.json(&json!({"users": [], "name": "x"}))).await.body["id"].to_string();
    let wrong = ["", "x", "====", "p=1"].map(str::to_owned).into_iter();
    let wrong: Vec<String> =
        wrong.chain(["p=-1", "p=18446744073709551616", "q=1", "p=1&p=2", "r=2&p=1"].map(encoded)).collect();
    let mut held = 0;
    for (method, path, operation) in operations() {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        if !parameters.iter().any(|parameter| parameter["name"] == "cursor") {
            continue;
        }
        let list = path.replace("{id}", "1");
        let ask = async |cursor: Option<&str>| {
            let cursor = cursor.map(|cursor| format!("&cursor={}", cursor.replace('=', "%3D")));
            let page = format!("{list}?chat_room={room}&q=word{}", cursor.unwrap_or_default());
            Answer::of(by_anybody(&gateway, method.clone(), &page, &access).await).await
        };
        let first = ask(None).await;
        assert_eq!(first.status, 200, "{method} {path}: {first:?}");
        // A list as CSV is one long page, and totals go on where they stopped.
        if !path.ends_with("/export/") && !path.ends_with("/totals/") {
            for key in ["next", "previous"] {
                assert!(
                    first.body[key].is_null() || first.body[key].is_string(),
                    "{method} {path}: {first:?}"
                );
            }
            assert!(first.body["results"].is_array(), "{method} {path}: {first:?}");
        }
        for cursor in &wrong {
            let answer = ask(Some(cursor)).await;
            let told = (answer.status, answer.header("x-error-code"));
            assert_eq!(told, (404, "invalid_cursor"), "{method} {path} {cursor}: {answer:?}");
        }
        held += 1;
    }
    assert!(held >= 6, "only {held} lists");
}
