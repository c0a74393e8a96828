//! Scripted faults and the control API over real sockets: replies and accepted messages.

use std::time::{Duration, Instant};

use crate::client::{Answer, FORM, get, post, request, simulator};
use chelseru_simulator::{Fault, FaultKind, Limits, Simulator};
use serde_json::{Value, json};

const SEND: &str = "/v1/KEY/sms/send.json";
const MESSAGE: &str = "receptor=09121234567&message=hello";

async fn send(simulator: &Simulator) -> Result<Answer, hyper::Error> {
    request(simulator, "POST", SEND, FORM, MESSAGE).await
}

/// One send under a fault: the reply, and the number of messages it accepted.
async fn under(kind: FaultKind) -> (Result<Answer, hyper::Error>, u64) {
    let simulator = simulator();
    simulator.fault(Fault::new("kavenegar", kind).times(1)).unwrap();
    let answer = send(&simulator).await;
    let accepted = simulator.accepted("kavenegar");
    assert_eq!(simulator.requests()[0].accepted, accepted == 1);
    assert_eq!(send(&simulator).await.unwrap().status, 200, "the fault is spent");
    (answer, accepted)
}

#[tokio::test]
async fn a_cut_before_loses_the_message_and_a_cut_after_has_accepted_it() {
    let (answer, accepted) = under(FaultKind::CutBefore).await;
    assert!(answer.is_err());
    assert_eq!(accepted, 0);
    let (answer, accepted) = under(FaultKind::CutAfter).await;
    assert!(answer.is_err());
    assert_eq!(accepted, 1);
    let (answer, accepted) = under(FaultKind::CutBody).await;
    assert!(answer.is_err());
    assert_eq!(accepted, 1);
}

#[tokio::test]
async fn answers_that_are_no_answer_accept_nothing() {
    let (answer, accepted) = under(FaultKind::Status { code: 503, body: None }).await;
    assert_eq!((answer.unwrap().status, accepted), (503, 0));
    let (answer, accepted) = under(FaultKind::Html).await;
    let answer = answer.unwrap();
    assert!(answer.text().contains("<html>"));
    assert_eq!((answer.status, accepted), (200, 0));
    let (answer, accepted) = under(FaultKind::Empty).await;
    assert_eq!((answer.unwrap().body.len(), accepted), (0, 0));
    let (answer, accepted) = under(FaultKind::Huge { bytes: 3_000_001 }).await;
    assert_eq!((answer.unwrap().body.len(), accepted), (3_000_001, 0));
}

#[tokio::test]
async fn spoilt_answers_belong_to_an_accepted_message() {
    let (answer, accepted) = under(FaultKind::TruncatedJson).await;
    assert!(serde_json::from_slice::<Value>(&answer.unwrap().body).is_err());
    assert_eq!(accepted, 1);
    let (answer, accepted) = under(FaultKind::WrongType).await;
    assert_eq!(answer.unwrap().json()["return"]["status"], json!([200]));
    assert_eq!(accepted, 1);
}

#[tokio::test]
async fn every_documented_code_can_be_asked_for_with_either_http_status() {
    let simulator = simulator();
    for code in [400, 401, 402, 403, 409, 411, 413, 418, 424, 429, 431, 451, 501, 604, 607] {
        for (follows, status) in [(true, code), (false, 200)] {
            let kind = FaultKind::Code { code, http_status_follows_code: Some(follows) };
            simulator.fault(Fault::new("kavenegar", kind).times(1)).unwrap();
            let answer = send(&simulator).await.unwrap();
            assert_eq!(i64::from(answer.status), status);
            assert_eq!(answer.json()["return"]["status"], code);
        }
    }
    assert_eq!(simulator.accepted("kavenegar"), 0);
    assert!(simulator.fault(Fault::code("kavenegar", 299)).unwrap_err().contains("418"));
}

#[tokio::test]
async fn a_delay_comes_before_acceptance_unless_the_fault_accepts() {
    let simulator = simulator();
    simulator.fault(Fault::delay("kavenegar", 80).times(1)).unwrap();
    let started = Instant::now();
    assert_eq!(send(&simulator).await.unwrap().status, 200);
    assert!(started.elapsed() >= Duration::from_millis(80));
    simulator.reset();
    for (accept, accepted) in [(false, 0), (true, 1)] {
        simulator.fault(Fault::delay("kavenegar", 60_000).accept(accept).times(1)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let arrived = async {
            while !simulator.faults().is_empty() {
                assert!(Instant::now() < deadline, "the request never arrived");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Abandoned once it has arrived: the losing future is dropped together with its connection.
        tokio::select! {
            answer = send(&simulator) => panic!("answered within a minute: {:?}", answer.map(|answer| answer.status)),
            () = arrived => {}
        }
        // The server notices the closed connection by itself, so nothing else is awaited here.
        while simulator.requests().is_empty() {
            assert!(Instant::now() < deadline, "the abandoned request never reached the log");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(simulator.requests()[0].outcome, "client went away");
        assert_eq!(simulator.accepted("kavenegar"), accepted);
        simulator.reset();
    }
}

#[tokio::test]
async fn a_fault_over_http_strikes_its_number_only_and_is_listed_until_spent() {
    let simulator = simulator();
    let fault = r#"{"provider":"kavenegar","method":"sms/send","number":"+989121234567","kind":"status","code":500,"times":2}"#;
    assert_eq!(post(&simulator, "/_sim/faults", fault).await.status, 200);
    assert_eq!(post(&simulator, SEND, "receptor=09120000000&message=x").await.status, 200);
    assert_eq!(post(&simulator, SEND, MESSAGE).await.status, 500);
    let waiting = get(&simulator, "/_sim/faults").await.json();
    assert_eq!(
        (&waiting["faults"][0]["times"], &waiting["faults"][0]["kind"]),
        (&json!(1), &json!("status"))
    );
    assert_eq!(post(&simulator, SEND, MESSAGE).await.status, 500);
    assert_eq!(post(&simulator, SEND, MESSAGE).await.status, 200);
    assert_eq!(get(&simulator, "/_sim/faults").await.json(), json!({"faults": []}));
}

#[tokio::test]
async fn the_control_api_reads_back_requests_messages_and_counters() {
    let simulator = simulator();
    send(&simulator).await.unwrap();
    post(&simulator, SEND, "receptor=1&message=x").await;
    get(&simulator, "/nobody/home").await;
    let all = get(&simulator, "/_sim/requests").await.json();
    let outcomes: Vec<_> =
        all["requests"].as_array().unwrap().iter().map(|request| request["outcome"].clone()).collect();
    assert_eq!(outcomes, ["accepted", "refused 411", "no provider"]);
    assert_eq!(all["requests"][0]["fields"], json!({"receptor": "09121234567", "message": "hello"}));
    assert_eq!(all["requests"][0]["call"], "sms/send");
    let later = get(&simulator, "/_sim/requests?provider=kavenegar&since=1").await.json();
    assert_eq!(later["requests"].as_array().unwrap().len(), 1);
    let messages = get(&simulator, "/_sim/messages?number=09121234567").await.json();
    assert_eq!(messages["messages"][0]["text"], "hello");
    let counters = get(&simulator, "/_sim/counters").await.json();
    assert_eq!(
        counters["kavenegar"],
        json!({"messages_accepted": 1, "requests": {"accepted": 1, "refused 411": 1}})
    );
    post(&simulator, "/_sim/reset", "").await;
    assert_eq!(get(&simulator, "/_sim/requests").await.json()["requests"], json!([]));
    assert!(simulator.messages().is_empty());
    assert!(get(&simulator, "/_sim/").await.text().contains("verify/lookup"));
}

#[tokio::test]
async fn settings_are_merged_and_a_wrong_one_changes_nothing() {
    let simulator = simulator();
    let change = r#"{"kavenegar":{"lookup_entries":"object","templates":["login"]}}"#;
    assert_eq!(post(&simulator, "/_sim/settings", change).await.status, 200);
    let settings = get(&simulator, "/_sim/settings").await.json();
    assert_eq!(settings["kavenegar"]["lookup_entries"], "object");
    assert_eq!(settings["kavenegar"]["http_status_follows_code"], true);
    for (wrong, told) in [
        (r#"{"kavenegar":{"lookup_entrees":1}}"#, "lookup_entries"),
        (r#"{"kavenegar":{"lookup_entries":"list"}}"#, "array"),
        (r#"{"kavengar":{}}"#, "kavenegar"),
        ("[]", "object"),
        ("", "EOF"),
    ] {
        let answer = post(&simulator, "/_sim/settings", wrong).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(told), "{wrong}: {}", answer.text());
    }
    assert_eq!(get(&simulator, "/_sim/settings").await.json(), settings);
    post(&simulator, "/_sim/settings", r#"{"kavenegar":{"templates":null}}"#).await;
    assert_eq!(get(&simulator, "/_sim/settings").await.json()["kavenegar"]["templates"], Value::Null);
}

#[tokio::test]
async fn bad_control_input_is_refused_with_a_sentence() {
    let simulator = simulator();
    for (method, target, body, status, told) in [
        ("GET", "/_sim/nothing", "", 404, "/_sim/"),
        ("PUT", "/_sim/faults", "", 405, "DELETE"),
        ("GET", "/_sim/reset", "", 405, "POST"),
        ("POST", "/_sim/faults", "{}", 400, "provider"),
        ("GET", "/_sim/requests?provider=x", "", 400, "kavenegar"),
        ("GET", "/_sim/requests?since=x", "", 400, "since"),
        ("GET", "/_sim/requests?sinze=1", "", 400, "since"),
        ("POST", "/_sim/status", r#"{"provider":"kavenegar","id":"1","status":5}"#, 400, "no message"),
        ("POST", "/_sim/status", r#"{"id":"1"}"#, 400, "provider"),
    ] {
        let answer = request(&simulator, method, target, FORM, body).await.unwrap();
        assert_eq!(answer.status, status, "{method} {target}");
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(told), "{method} {target}: {error}");
    }
    assert!(get(&simulator, "/").await.json()["error"].as_str().unwrap().contains("/_sim/"));
}

#[tokio::test]
async fn a_body_over_the_bound_is_refused_and_one_at_it_is_read() {
    let simulator = simulator();
    let body = |length: usize| {
        let head = "receptor=09121234567&message=";
        format!("{head}{}", "x".repeat(length - head.len()))
    };
    let at = request(&simulator, "POST", SEND, FORM, body(1 << 20)).await.unwrap();
    assert_eq!(at.json()["return"]["status"], 413, "read whole, and too long for a message");
    // The server may close before it has read everything; in either case nothing is accepted.
    if let Ok(over) = request(&simulator, "POST", SEND, FORM, body((1 << 20) + 1)).await {
        assert_eq!(over.status, 413);
        assert!(over.json()["error"].as_str().unwrap().contains("1048576"));
    }
    assert_eq!(simulator.requests().len(), 1);
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let limits = Limits { requests_max: 3, messages_max: 2 };
    let simulator = Simulator::start_with(([127, 0, 0, 1], 0).into(), limits).unwrap();
    for _ in 0..5 {
        send(&simulator).await.unwrap();
    }
    assert_eq!((simulator.requests().len(), simulator.messages().len()), (3, 2));
    assert_eq!(simulator.accepted("kavenegar"), 5);
    assert_eq!(get(&simulator, "/_sim/requests").await.json()["dropped"], 2);
}

#[tokio::test]
async fn a_dropped_simulator_frees_its_port() {
    let simulator = simulator();
    let addr = simulator.addr;
    send(&simulator).await.unwrap();
    drop(simulator);
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
    let again = Simulator::start(addr).unwrap();
    assert_eq!(send(&again).await.unwrap().status, 200);
}
