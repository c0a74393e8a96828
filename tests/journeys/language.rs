//! `Accept-Language` chooses the language of sentences. Codes, fields and the answers to clients that do not ask stay.

use chelseru_tests::socket::Socket;
use chelseru_tests::{Answer, TestGateway};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// A request and how its sentence is found in the answer.
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    body: Value,
    token: bool,
    at: &'a str,
}

async fn told(
    gateway: &TestGateway,
    token: &str,
    asked: &Asked<'_>,
    language: Option<&str>,
) -> (Answer, String) {
    let method: Method = asked.method.parse().expect("a method");
    let mut request: RequestBuilder =
        gateway.client.request(method, gateway.at(asked.path)).json(&asked.body);
    if asked.token {
        request = request.bearer_auth(token);
    }
    if let Some(language) = language {
        request = request.header("accept-language", language);
    }
    let answer = Answer::of(request).await;
    let sentence = answer.body.pointer(asked.at).and_then(Value::as_str);
    let sentence = sentence.unwrap_or_else(|| panic!("{answer:?}")).to_owned();
    (answer, sentence)
}

fn is_persian(text: &str) -> bool {
    text.chars().any(|character| ('\u{600}'..='\u{6ff}').contains(&character))
}

#[tokio::test(flavor = "multi_thread")]
async fn sentences_are_in_the_language_that_a_client_prefers() {
    let gateway = TestGateway::start("").await;
    let token = gateway.login("09120000001").await.access;
    let ask = |method, path, body, token, at| Asked { method, path, body, token, at };
    for asked in [
        ask("GET", "/nothing/", Value::Null, false, "/detail"),
        ask("GET", "/me/", Value::Null, false, "/detail"),
        ask("POST", "/authenticate/", json!({"mobile_number": "09120000001", "code": "0"}), false, "/error"),
        ask("POST", "/otp/send/", json!({"mobile_number": "x"}), false, "/mobile_number/0"),
        ask("POST", "/chat/chatrooms/", json!({}), true, "/detail"),
        ask("POST", "/chat/messages/", json!({"text": "a"}), true, "/0"),
        ask("GET", "/chat/messages/7/?chat_room=1", Value::Null, true, "/detail"),
        ask("POST", "/chat/messages/", json!({"chat_room": 1, "text": " "}), true, "/text/0"),
    ] {
        let (plain, today) = told(&gateway, &token, &asked, None).await;
        assert_eq!(plain.header("content-language"), "");
        for unknown in ["de", "*", "fa;q=0"] {
            assert_eq!(told(&gateway, &token, &asked, Some(unknown)).await.1, today, "{}", asked.path);
        }
        for (header, tag) in [("fa-IR,fa;q=0.9,en;q=0.8", "fa"), ("en-US,en;q=0.9,fa;q=0.5", "en")] {
            let (answer, sentence) = told(&gateway, &token, &asked, Some(header)).await;
            assert_eq!(is_persian(&sentence), tag == "fa", "{}: {sentence}", asked.path);
            assert_eq!(answer.header("content-language"), tag);
            assert_eq!(answer.status, plain.status, "{}", asked.path);
            assert_eq!(answer.header("x-error-code"), plain.header("x-error-code"), "{}", asked.path);
            let keys =
                |body: &Value| body.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>());
            assert_eq!(keys(&answer.body), keys(&plain.body), "{}", asked.path);
            // A sentence that is in this language already says what it says today.
            assert!(is_persian(&today) != (tag == "fa") || sentence == today, "{sentence}");
        }
    }
    let send = ask("POST", "/otp/send/", json!({"mobile_number": "09120000002"}), false, "/details");
    let (sent, sentence) = told(&gateway, &token, &send, Some("fa")).await;
    assert_eq!((sent.status, sentence.as_str()), (200, "کد یک‌بار مصرف ارسال شد."));
}

#[tokio::test(flavor = "multi_thread")]
async fn error_frames_are_in_the_language_of_the_handshake() {
    let gateway = TestGateway::start("").await;
    let authorization = format!("Bearer {}", gateway.login("09120000001").await.access);
    for (language, detail) in [
        ("", "A frame must be a JSON object."),
        ("en", "A frame must be a JSON object."),
        ("fa", "محتوای پیام یک شیء JSON نیست."),
    ] {
        let mut headers = vec![("Authorization", authorization.as_str())];
        if !language.is_empty() {
            headers.push(("Accept-Language", language));
        }
        let mut socket = Socket::open(&gateway.at("/ws/"), &headers).await.expect("open");
        socket.json_of("hello").await;
        socket.send(&json!([])).await;
        let error = socket.json_of("error").await;
        assert_eq!(
            (&error["code"], &error["detail"]),
            (&json!("not_an_object"), &json!(detail)),
            "{language}"
        );
    }
}
