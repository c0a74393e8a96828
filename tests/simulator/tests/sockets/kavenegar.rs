//! Kavenegar's stand-in over real sockets: what it accepts, what it refuses, and that it sends once.

use crate::client::{FORM, JSON, get, post, post_json, request, simulator};
use chelseru_simulator::{ErrorEntries, LookupEntries, Simulator};
use serde_json::json;

const SEND: &str = "/v1/KEY/sms/send.json";
const LOOKUP: &str = "/v1/KEY/verify/lookup.json";

/// Sends a form and compares the code in the body and, as in the default settings, the HTTP status.
async fn refused(simulator: &Simulator, target: &str, form: &str, code: i64) {
    let answer = post(simulator, target, form).await;
    assert_eq!(answer.json()["return"]["status"], code, "{target} {form}");
    assert_eq!(i64::from(answer.status), code, "{target} {form}");
    assert!(answer.json()["entries"].is_null());
}

#[tokio::test]
async fn a_send_is_accepted_and_can_be_read_back() {
    let simulator = simulator();
    let answer = post(&simulator, SEND, "receptor=%2B989121234567&message=hello&sender=10004346").await;
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    assert_eq!(answer["return"]["status"], 200);
    let entry = &answer["entries"][0];
    assert_eq!((&entry["status"], &entry["receptor"]), (&json!(1), &json!("09121234567")));
    let messages = simulator.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(json!(messages[0].id.parse::<i64>().unwrap()), entry["messageid"]);
    assert_eq!((messages[0].number.as_str(), messages[0].text.as_deref()), ("09121234567", Some("hello")));
    assert_eq!(simulator.accepted("kavenegar"), 1);
}

#[tokio::test]
async fn query_form_json_absolute_target_and_slash_at_the_end_all_mean_the_same() {
    let simulator = simulator();
    let fields = "receptor=09121234567&message=hi";
    let json_body = json!({"receptor": "09121234567", "message": "hi"}).to_string();
    for (method, target, kind, body) in [
        ("GET", format!("{SEND}?{fields}"), FORM, String::new()),
        ("POST", SEND.to_owned(), FORM, fields.to_owned()),
        ("POST", format!("{SEND}/"), FORM, fields.to_owned()),
        ("POST", SEND.to_owned(), JSON, json_body),
        ("POST", format!("http://api.kavenegar.com{SEND}"), FORM, fields.to_owned()),
    ] {
        let answer = request(&simulator, method, &target, kind, body).await.unwrap();
        assert_eq!(answer.status, 200, "{method} {target} {kind}: {}", answer.text());
    }
    assert_eq!(simulator.accepted("kavenegar"), 5);
}

#[tokio::test]
async fn a_known_local_id_answers_the_stored_record_and_sends_nothing() {
    let simulator = simulator();
    let form = "receptor=09121234567&message=one&localid=77";
    let first = post(&simulator, SEND, form).await.json();
    let again = post(&simulator, SEND, form).await.json();
    assert_eq!(first, again);
    let messages = simulator.messages();
    assert_eq!((messages.len(), messages[0].times_asked), (1, 2));
    assert_eq!(simulator.requests()[1].outcome, "repeated");
    // Another account does not know it.
    post(&simulator, "/v1/OTHER/sms/send.json", form).await;
    assert_eq!(simulator.accepted("kavenegar"), 2);
    let status = get(&simulator, "/v1/KEY/sms/statuslocalmessageid.json?localid=77,78").await.json();
    assert_eq!(status["entries"][0]["messageid"], first["entries"][0]["messageid"]);
    assert_eq!(
        (&status["entries"][0]["localid"], &status["entries"][0]["status"]),
        (&json!("77"), &json!(10))
    );
    assert_eq!(status["entries"][1]["status"], 100);
}

#[tokio::test]
async fn a_send_is_refused_with_the_documented_code() {
    let simulator = simulator();
    let many = vec!["09121234567"; 201].join(",");
    for (form, code) in [
        ("message=x".to_owned(), 400),
        ("receptor=09121234567".to_owned(), 400),
        ("receptor=&message=x".to_owned(), 406),
        ("receptor=0912&message=x".to_owned(), 411),
        ("receptor=09121234567,1&message=x".to_owned(), 411),
        ("receptor=%DB%B0%DB%B9121234567&message=x".to_owned(), 411),
        ("receptor=09121234567&message=".to_owned(), 413),
        (format!("receptor=09121234567&message={}", "x".repeat(901)), 413),
        (format!("receptor={many}&message=x"), 414),
        ("receptor=09121234567&message=x&sender=abc".to_owned(), 412),
        ("receptor=09121234567&message=x&date=tomorrow".to_owned(), 417),
        ("receptor=09121234567&message=x&localid=1,2".to_owned(), 419),
        ("receptor=09121234567&message=x&type=9".to_owned(), 400),
        ("receptor=09121234567&message=x&tag=a%20b".to_owned(), 607),
    ] {
        refused(&simulator, SEND, &form, code).await;
    }
    refused(&simulator, "/v1/0/sms/send.json", "receptor=09121234567&message=x", 403).await;
    refused(&simulator, "/v1/KEY/sms/nonsense.json", "", 404).await;
    assert_eq!(request(&simulator, "PUT", SEND, FORM, "").await.unwrap().status, 405);
    assert_eq!(request(&simulator, "POST", SEND, JSON, "{oops").await.unwrap().status, 400);
    assert!(simulator.messages().is_empty());
    // The largest accepted values.
    let edge = format!("receptor={}&message={}", vec!["09121234567"; 200].join(","), "x".repeat(900));
    assert_eq!(post(&simulator, SEND, &edge).await.status, 200);
    assert_eq!(simulator.accepted("kavenegar"), 200);
}

#[tokio::test]
async fn configured_keys_templates_senders_and_credit_are_enforced() {
    let simulator = simulator();
    simulator.settings(|settings| {
        settings.kavenegar.api_keys = Some(["KEY".to_owned()].into());
        settings.kavenegar.templates = Some(["login".to_owned()].into());
        settings.kavenegar.senders = Some(["2000660110".to_owned()].into());
        settings.kavenegar.credit_rial = 2_400;
    });
    let form = "receptor=09121234567&message=x&sender=2000660110";
    refused(&simulator, "/v1/BAD/sms/send.json", form, 403).await;
    refused(&simulator, SEND, "receptor=09121234567&message=x&sender=10004346", 412).await;
    refused(&simulator, LOOKUP, "receptor=09121234567&token=1&template=other", 424).await;
    assert_eq!(post(&simulator, LOOKUP, "receptor=09121234567&token=1&template=login").await.status, 200);
    assert_eq!(post(&simulator, SEND, form).await.status, 200);
    refused(&simulator, SEND, form, 418).await;
    let info = get(&simulator, "/v1/KEY/account/info.json").await.json();
    assert_eq!(info["entries"]["remaincredit"], 0);
}

#[tokio::test]
async fn a_lookup_checks_its_tokens_and_records_them() {
    let simulator = simulator();
    for (rest, code) in [
        ("template=login", 400),
        ("template=login&token=", 406),
        ("token=1", 400),
        ("template=login&token=a%20b", 431),
        ("template=login&token=a_b", 431),
        ("template=login&token=a%0Ab", 431),
        ("template=login&token=1&token2=a%20b", 431),
        ("template=login&token=1&token10=a+b+c+d+e+f+g", 431),
        ("template=login&token=x&type=call", 428),
    ] {
        refused(&simulator, LOOKUP, &format!("receptor=09121234567&{rest}"), code).await;
    }
    refused(&simulator, LOOKUP, "receptor=0912&template=login&token=1", 411).await;
    let form = "receptor=0097450000000&template=login&token=482913&token10=a+b+c&token2=null";
    let answer = post(&simulator, LOOKUP, form).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let message = &simulator.messages()[0];
    assert_eq!(message.template.as_deref(), Some("login"));
    let token = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(message.tokens, [token("token", "482913"), token("token10", "a b c")]);
    // A lookup takes no local id, so a repeated request sends twice.
    post(&simulator, LOOKUP, form).await;
    assert_eq!(simulator.accepted("kavenegar"), 2);
}

#[tokio::test]
async fn disputed_shapes_follow_the_settings() {
    let simulator = simulator();
    let form = "receptor=09121234567&template=login&token=1";
    assert!(post(&simulator, LOOKUP, form).await.json()["entries"].is_array());
    simulator.settings(|settings| {
        settings.kavenegar.lookup_entries = LookupEntries::Object;
        settings.kavenegar.error_entries = ErrorEntries::Absent;
        settings.kavenegar.http_status_follows_code = false;
    });
    assert!(post(&simulator, LOOKUP, form).await.json()["entries"].is_object());
    let refused = post(&simulator, SEND, "receptor=1&message=x").await;
    assert_eq!((refused.status, &refused.json()["return"]["status"]), (200, &json!(411)));
    assert!(refused.json().get("entries").is_none());
}

#[tokio::test]
async fn an_array_send_takes_every_spelling_of_local_ids_and_wants_equal_lengths() {
    let simulator = simulator();
    let target = "/v1/KEY/sms/sendarray.json";
    let base =
        "receptor=[\"09121234567\",\"09121234568\"]&sender=[\"10004346\",\"10004346\"]&message=[\"a\",\"b\"]";
    for (index, ids) in [
        "localmessageids=[1,2]",
        "localmessageid=[\"3\",\"4\"]",
        "localid=5,6",
        "localmessageid=null&type=null",
    ]
    .into_iter()
    .enumerate()
    {
        let answer = post(&simulator, target, &format!("{base}&{ids}")).await;
        assert_eq!(answer.status, 200, "{ids}: {}", answer.text());
        assert_eq!(simulator.accepted("kavenegar"), 2 * (index as u64 + 1));
    }
    refused(&simulator, target, &format!("{base}&localid=7"), 419).await;
    refused(&simulator, target, "receptor=[\"09121234567\"]&sender=[]&message=[\"a\"]", 419).await;
    refused(&simulator, target, "receptor=09121234567&sender=1000&message=a", 400).await;
    assert_eq!(get(&simulator, &format!("{target}?{}", base.replace('"', "%22"))).await.status, 405);
    let native = json!({"receptor": ["09121234567"], "sender": ["10004346"], "message": ["x"]});
    assert_eq!(post_json(&simulator, target, &native).await.status, 200);
}

#[tokio::test]
async fn status_calls_tell_delivery_and_unknown_ids() {
    let simulator = simulator();
    let sent = post(&simulator, SEND, "receptor=09121234567,09121234568&message=x").await.json();
    let ids: Vec<_> = (0..2).map(|index| sent["entries"][index]["messageid"].to_string()).collect();
    assert!(simulator.status_set("kavenegar", &ids[1], 11));
    let target = format!("/v1/KEY/sms/status.json?messageid={},{},5", ids[0], ids[1]);
    let states = get(&simulator, &target).await.json();
    let states: Vec<_> = (0..3).map(|index| states["entries"][index]["status"].clone()).collect();
    assert_eq!(states, [json!(10), json!(11), json!(100)]);
    // Another account's messages are unknown to this one.
    let other = get(&simulator, &format!("/v1/OTHER/sms/status.json?messageid={}", ids[0])).await.json();
    assert_eq!(other["entries"][0]["status"], 100);
    let many = vec!["1"; 501].join(",");
    refused(&simulator, "/v1/KEY/sms/status.json", &format!("messageid={many}"), 414).await;
    let start = simulator.messages()[0].accepted_at_ms / 1000 - 5;
    let by_receptor = format!("/v1/KEY/sms/statusbyreceptor.json?receptor=09121234568&startdate={start}");
    let found = get(&simulator, &by_receptor).await.json();
    assert_eq!(found["entries"].as_array().unwrap().len(), 1);
    assert_eq!(found["entries"][0]["messageid"].to_string(), ids[1]);
}

#[tokio::test]
async fn only_a_scheduled_message_can_be_cancelled_and_is_refunded() {
    let simulator = simulator();
    let before = get(&simulator, "/v1/KEY/account/info.json").await.json()["entries"]["remaincredit"].clone();
    let form = "receptor=09121234567&message=x&date=4102444800";
    let id = post(&simulator, SEND, form).await.json()["entries"][0]["messageid"].to_string();
    assert_eq!(simulator.messages()[0].status, 2);
    let cancel = format!("/v1/KEY/sms/cancel.json?messageid={id}");
    assert_eq!(get(&simulator, &cancel).await.json()["entries"][0]["status"], 13);
    let after = get(&simulator, "/v1/KEY/account/info.json").await.json()["entries"]["remaincredit"].clone();
    assert_eq!(before, after);
    let id = post(&simulator, SEND, "receptor=09121234567&message=x").await.json()["entries"][0]["messageid"]
        .to_string();
    let cancel = format!("/v1/KEY/sms/cancel.json?messageid={id}");
    assert_eq!(get(&simulator, &cancel).await.json()["entries"][0]["status"], 1);
}

#[tokio::test]
async fn the_time_needs_no_key_and_no_key_reaches_the_log() {
    let simulator = simulator();
    let answer = get(&simulator, "/v1/0/utils/getdate.json").await;
    assert_eq!(answer.status, 200);
    assert!(answer.json()["entries"]["unixtime"].as_u64().unwrap() > 1_700_000_000);
    post(&simulator, "/v1/53CR3T/sms/send.json", "receptor=09121234567&message=x").await;
    let log = get(&simulator, "/_sim/requests").await.text();
    assert!(log.contains("/v1/***/sms/send.json") && !log.contains("53CR3T"), "{log}");
}
