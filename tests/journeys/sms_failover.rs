//! Messages past a provider that fails, is silent or reports late, and every plugin of messages.

use std::time::{Duration, Instant};

use chelseru_simulator::{Fault, FaultKind};
use chelseru_store::SmsReported;
use chelseru_tests::Answer;
use serde_json::{Value, json};

use super::sms::{KAVENEGAR, Shop, hello};

const TWO: &str = r#"
[sms]
service = ["KAVENEGAR_COM", "MELI_PAYAMAK_COM"]
circuit_failures = 3
[provider.KAVENEGAR_COM]
hosts = ["SIMULATOR"]
[provider.KAVENEGAR_COM.settings]
api_key = "test-key"
base_url = "http://SIMULATOR"
[provider.MELI_PAYAMAK_COM]
hosts = ["SIMULATOR"]
[provider.MELI_PAYAMAK_COM.settings]
username = "u"
password = "p"
sender = "50001"
base_url = "http://SIMULATOR"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_reply_says_who_served_and_why_others_did_not() {
    let shop = Shop::open(TWO).await;
    for (code, reason) in [(403, "unauthorized"), (429, "throttled"), (403, "unauthorized")] {
        shop.simulator.faults_clear();
        shop.simulator.fault(Fault::code("kavenegar", code)).expect("a fault");
        let sent = shop.send(hello("09120000001")).await;
        assert_eq!((sent.status, &sent.body["provider"]), (200, &json!("MELI_PAYAMAK_COM")), "{sent:?}");
        assert_eq!(sent.body["tried"], json!([{"provider": "KAVENEGAR_COM", "reason": reason}]));
        assert!(sent.body["messageid"].is_string(), "too large for a number: {sent:?}");
    }
    // The third consecutive failure opened the circuit: the provider is not asked.
    let asked = shop.simulator.requests().iter().filter(|request| request.provider == "kavenegar").count();
    let sent = shop.send(hello("09120000001")).await;
    assert_eq!(sent.body["tried"][0]["reason"], "circuit_open", "{sent:?}");
    let now = shop.simulator.requests().iter().filter(|request| request.provider == "kavenegar").count();
    assert_eq!(now, asked);
    let circuit = async |state: &str, gauge: u8| {
        assert_eq!(shop.gateway.status().await["sms"]["providers"]["KAVENEGAR_COM"]["circuit"], state);
        let metrics = shop.gateway.get("/metrics/", None).await.text;
        let line = format!("chelseru_sms_circuit{{provider=\"KAVENEGAR_COM\"}} {gauge}\n");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    };
    circuit("open", 2).await;
    // After the open time one message tries, and closes the circuit.
    shop.simulator.faults_clear();
    shop.clock.advance(Duration::from_secs(15));
    circuit("half-open", 1).await;
    assert_eq!(shop.send(hello("09120000001")).await.body["provider"], "KAVENEGAR_COM");
    circuit("closed", 0).await;

    // A fault of the message is the same at every provider.
    for code in [411, 413] {
        shop.simulator.faults_clear();
        shop.simulator.fault(Fault::code("kavenegar", code)).expect("a fault");
        let refused = shop.send(hello("09120000001")).await;
        assert_eq!((refused.status, refused.body["tried"].as_array().map(Vec::len)), (502, Some(1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_says_it_failed_is_followed_by_the_next_and_its_proxy_is_not_believed() {
    for status in [500, 503] {
        let shop = Shop::open(TWO).await;
        shop.simulator.fault(Fault::status("kavenegar", status)).expect("a fault");
        let sent = shop.send(hello("09120000001")).await;
        assert_eq!((sent.status, &sent.body["provider"]), (200, &json!("MELI_PAYAMAK_COM")), "{sent:?}");
        assert_eq!(
            sent.body["tried"],
            json!([{"provider": "KAVENEGAR_COM", "reason": "unavailable"}]),
            "{status}"
        );
        assert_eq!(shop.simulator.messages().len(), 1, "{status}");
    }
    // Where our id is not known, each provider is asked once; then the outcome is unknown and nothing is retried.
    let turned = TWO.replace("[\"KAVENEGAR_COM\", \"MELI_PAYAMAK_COM\"]", "\"MELI_PAYAMAK_COM\"");
    let shop = Shop::open(&turned).await;
    shop.simulator.fault(Fault::status("meli_payamak", 503)).expect("a fault");
    let unknown = shop.send(hello("09120000001")).await;
    assert_eq!((unknown.status, &unknown.body["code"]), (500, &json!("sms_outcome_unknown")), "{unknown:?}");
    shop.clock.advance(Duration::from_secs(600));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(shop.simulator.requests().len(), 1);
    let stored = shop.get(&format!("/message/{}/", unknown.body["id"])).await.body;
    assert_eq!((&stored["status"], &stored["tried"][0]["reason"]), (&json!("unknown"), &json!("broke_down")));

    // A template has no id of ours at this provider, so it is not retried, either.
    let template = "[sms.templates.1]\nKAVENEGAR_COM = \"welcome\"\nMELI_PAYAMAK_COM = \"12345\"\n";
    let shop = Shop::open(&format!("{TWO}{template}")).await;
    shop.simulator.fault(Fault::status("kavenegar", 502)).expect("a fault");
    let body = json!({"mobile_number": "09120000002", "message_text": "x", "template_id": "1"});
    let unknown = shop.send(body).await;
    assert_eq!((unknown.status, &unknown.body["code"]), (500, &json!("sms_outcome_unknown")), "{unknown:?}");
    assert_eq!(shop.simulator.accepted("meli_payamak"), 0);
}

/// A proxy before the provider refused the request, so the provider did not take the message.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_with_a_redirect_or_a_client_error_leaves_the_message_to_the_next_provider() {
    let templates = "[sms.templates.1]\nKAVENEGAR_COM = \"welcome\"\nMELI_PAYAMAK_COM = \"12345\"\n";
    let config = format!("{}{templates}", TWO.replace("circuit_failures = 3", "circuit_failures = 100"));
    for (first, provider, second) in [
        ("KAVENEGAR_COM", "kavenegar", "MELI_PAYAMAK_COM"),
        ("MELI_PAYAMAK_COM", "meli_payamak", "KAVENEGAR_COM"),
    ] {
        let order = format!("[\"{first}\", \"{second}\"]");
        let shop = Shop::open(&config.replace("[\"KAVENEGAR_COM\", \"MELI_PAYAMAK_COM\"]", &order)).await;
        for (sent, status) in (1..).zip([302, 401, 403, 404, 405, 413, 429]) {
            shop.simulator.fault(Fault::page(provider, status).times(1)).expect("a fault");
            let template = json!({"mobile_number": "09120000001", "message_text": "x", "template_id": "1"});
            let body = if sent % 2 == 0 { hello("09120000001") } else { template };
            let answer = shop.send(body).await;
            assert_eq!(
                (answer.status, &answer.body["provider"]),
                (200, &json!(second)),
                "{status}: {answer:?}"
            );
            assert_eq!(shop.simulator.messages().len(), sent, "{status}: once");
            let reason = match status {
                401 | 403 => "unauthorized",
                429 => "throttled",
                _ => "unavailable",
            };
            assert_eq!(answer.body["tried"], json!([{"provider": first, "reason": reason}]), "{status}");
        }
        // 408 does not tell how far the request came.
        shop.simulator.fault(Fault::page(provider, 408).times(2)).expect("a fault");
        let template = json!({"mobile_number": "09120000001", "message_text": "x", "template_id": "1"});
        let unknown = shop.send(template).await;
        assert_eq!(
            (unknown.status, &unknown.body["code"]),
            (500, &json!("sms_outcome_unknown")),
            "{unknown:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_handed_no_more_than_its_entry_allows() {
    let entry = "[provider.KAVENEGAR_COM]\n";
    let served = |answers: &[Answer]| {
        let by = |name: &str| answers.iter().filter(|answer| answer.body["provider"] == name).count();
        assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
        (by("KAVENEGAR_COM"), by("MELI_PAYAMAK_COM"))
    };

    // Concurrency: messages wait for each other, so five take five times as long as one.
    let shop = Shop::open(&TWO.replace(entry, &format!("{entry}concurrency_max = 1\n"))).await;
    shop.simulator.fault(Fault::delay("kavenegar", 200).accept(true)).expect("a fault");
    let started = Instant::now();
    let sends = (0..5).map(|n| shop.send(hello(&format!("0912000000{n}"))));
    let answers = futures_util::future::join_all(sends).await;
    assert_eq!(served(&answers), (5, 0));
    assert!(started.elapsed() >= Duration::from_millis(1000), "two at once: {:?}", started.elapsed());

    // Rate, by the gateway's clock.
    let shop = Shop::open(&TWO.replace(entry, &format!("{entry}rate_per_second = 2\n"))).await;
    for _ in 0..2 {
        let mut answers = Vec::new();
        for n in 0..5 {
            answers.push(shop.send(hello(&format!("0912000000{n}"))).await);
        }
        assert_eq!(served(&answers), (2, 3));
        shop.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(shop.simulator.accepted("kavenegar"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_failure_is_tried_again_until_it_is_sent_or_expires() {
    let shop =
        Shop::open(&KAVENEGAR.replace("retry_seconds_min", "circuit_failures = 1000\nretry_seconds_min"))
            .await;
    shop.simulator.fault(Fault::code("kavenegar", 429).times(3)).expect("a fault");
    let queued = shop.send(hello("09120000001")).await;
    assert_eq!((queued.status, &queued.body["status"]), (202, &json!("queued")), "{queued:?}");
    let message = shop.wait_for(&queued.body["id"], "accepted").await;
    assert_eq!(message["tried"].as_array().map(Vec::len), Some(3), "{message}");
    assert_eq!(shop.simulator.accepted("kavenegar"), 1);

    // Without waiting for the first pass.
    let body = json!({"mobile_number": "09120000002", "message_text": "x", "wait": false});
    let queued = shop.send(body).await;
    assert_eq!((queued.status, &queued.body["status"]), (202, &json!("queued")), "{queued:?}");
    shop.wait_for(&queued.body["id"], "accepted").await;

    // An hour later it has expired.
    shop.simulator.fault(Fault::code("kavenegar", 429)).expect("a fault");
    let queued = shop.send(hello("09120000003")).await;
    assert_eq!(queued.status, 202);
    shop.clock.advance(Duration::from_secs(60 * 60));
    let message = shop.wait_for(&queued.body["id"], "expired").await;
    assert_eq!(message["error"], "throttled");
    assert_eq!(shop.gateway.status().await["sms"]["waiting"], 0);
    shop.simulator.faults_clear();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(shop.simulator.accepted("kavenegar"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_503() {
    let shop =
        Shop::open(&KAVENEGAR.replace("retry_seconds_min = 1", "queue_max = 2\nretry_seconds_min = 1")).await;
    shop.simulator.fault(Fault::code("kavenegar", 429)).expect("a fault");
    for number in ["09120000001", "09120000002"] {
        assert_eq!(shop.send(hello(number)).await.status, 202);
    }
    let body = json!({"mobile_number": "09120000003", "message_text": "x", "wait": false});
    let full = shop.send(body).await;
    assert_eq!((full.status, &full.body["code"]), (503, &json!("queue_full")), "{full:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_asked_again_only_where_our_id_is_known() {
    let shop = Shop::open(KAVENEGAR).await;
    shop.simulator.fault(Fault::new("kavenegar", FaultKind::CutAfter).times(1)).expect("a fault");
    let text = shop.send(hello("09120000001")).await;
    assert_eq!(text.status, 200, "{text:?}");
    let messages = shop.simulator.messages();
    assert_eq!((messages.len(), messages[0].times_asked), (1, 2));
    // A template has no such id at this provider.
    shop.simulator.fault(Fault::new("kavenegar", FaultKind::CutAfter).times(1)).expect("a fault");
    let body = json!({"mobile_number": "09120000002", "message_text": "x", "template_id": "1"});
    let unknown = shop.send(body).await;
    assert_eq!((unknown.status, &unknown.body["code"]), (500, &json!("sms_outcome_unknown")), "{unknown:?}");
    assert_eq!(shop.get(&format!("/message/{}/", unknown.body["id"])).await.body["status"], "unknown");
    shop.clock.advance(Duration::from_secs(600));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(shop.simulator.messages().len(), 2);
    // Defect 24: an unreadable answer was an empty success. The id makes a retry safe.
    shop.simulator.fault(Fault::new("kavenegar", FaultKind::Html).times(4)).expect("a fault");
    let unreadable = shop.send(hello("09120000003")).await;
    assert_eq!((unreadable.status, &unreadable.body["status"]), (202, &json!("queued")), "{unreadable:?}");
    shop.wait_for(&unreadable.body["id"], "accepted").await;
    let messages = shop.simulator.messages();
    assert_eq!(messages.len(), 3, "the provider has it once: {messages:?}");
    // Retried until the deadline; then the outcome is unknown.
    shop.simulator.fault(Fault::new("kavenegar", FaultKind::Html)).expect("a fault");
    let hopeless = shop.send(hello("09120000004")).await;
    assert_eq!(hopeless.status, 202, "{hopeless:?}");
    shop.clock.advance(Duration::from_secs(3590));
    shop.wait_for(&hopeless.body["id"], "unknown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_reports_move_a_message_only_forward() {
    let shop = Shop::open(KAVENEGAR).await;
    let sent = shop.send(hello("09120000001")).await;
    let (id, provider_id) = (sent.body["id"].clone(), sent.body["messageid"].clone());
    let path = shop.gateway.status().await["sms"]["providers"]["KAVENEGAR_COM"]["report_path"]
        .as_str()
        .expect("a path")
        .trim_start_matches("/drfchelseru")
        .to_owned();
    let report = |path: &str, id: &Value, status: i64| {
        let form = format!("messageid={id}&status={status}");
        let request = shop.gateway.client.post(shop.gateway.at(path)).body(form);
        Answer::of(request.header("content-type", "application/x-www-form-urlencoded"))
    };
    // A wrong address finds nothing.
    for wrong in ["/message/report/KAVENEGAR_COM/0123456789abcdef/", "/message/report/OTHER/x/"] {
        assert_eq!(report(wrong, &provider_id, 10).await.status, 404, "{wrong}");
    }
    let status = async || shop.get(&format!("/message/{id}/")).await.body["status"].clone();
    assert_eq!(status().await, "accepted");
    for (code, expected) in
        [(5, "accepted"), (11, "failed"), (1, "failed"), (10, "delivered"), (11, "delivered")]
    {
        assert_eq!(report(&path, &provider_id, code).await.status, 200);
        assert_eq!(status().await, expected, "after {code}");
    }
    assert_eq!(report(&path, &json!(999), 10).await.status, 200, "unknown ids are no errors");
    assert_eq!(report(&path, &json!("x"), 10).await.status, 400);
    let metrics = shop.gateway.get("/metrics/", None).await.text;
    for line in ["outcome=\"moved\"} 2", "outcome=\"unchanged\"} 3", "outcome=\"unknown_id\"} 1"] {
        assert!(metrics.contains(&format!("chelseru_sms_reports_total{{{line}")), "{line}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_are_asked_what_became_of_messages() {
    let shop = Shop::open(KAVENEGAR).await;
    let sent = shop.send(hello("09120000001")).await;
    let app = &shop.gateway.app;
    let poll = async || {
        let reported = app.sms_queue.poll(&app.live().sms).await.expect("polled");
        reported.iter().filter(|reported| **reported == SmsReported::Moved).count()
    };
    assert_eq!(poll().await, 0, "too early");
    shop.simulator.settings(|settings| settings.kavenegar.delivery_status = 4);
    shop.clock.advance(Duration::from_secs(60));
    assert_eq!(poll().await, 0, "on its way");
    shop.simulator.settings(|settings| settings.kavenegar.delivery_status = 10);
    assert_eq!(poll().await, 0, "asked again only later");
    shop.clock.advance(Duration::from_secs(5 * 60));
    assert_eq!(poll().await, 1);
    assert_eq!(shop.get(&format!("/message/{}/", sent.body["id"])).await.body["status"], "delivered");
}

const PARSIAN: &str = r#"
[sms]
service = "PARSIAN_WEBCO_IR"
[sms.templates.1]
PARSIAN_WEBCO_IR = "55"
[provider.PARSIAN_WEBCO_IR]
hosts = ["SIMULATOR"]
[provider.PARSIAN_WEBCO_IR.settings]
api_key = "k"
base_url = "http://SIMULATOR"
"#;

const MELI: &str = r#"
[sms]
service = "MELI_PAYAMAK_COM"
[sms.templates.1]
MELI_PAYAMAK_COM = "12345"
[provider.MELI_PAYAMAK_COM]
hosts = ["SIMULATOR"]
[provider.MELI_PAYAMAK_COM.settings]
api = "API"
username = "u"
password = "p"
console_token = "t"
sender = "50001"
base_url = "http://SIMULATOR"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_plugin_carries_messages_through_a_gateway() {
    let meli = |api: &str| MELI.replace("API", api);
    for (config, name, text) in [
        (KAVENEGAR.to_owned(), "kavenegar", true),
        (PARSIAN.to_owned(), "parsian_webco", false),
        (meli("rest"), "meli_payamak", true),
        (meli("soap"), "meli_payamak", true),
        (meli("console"), "meli_payamak", true),
    ] {
        let shop = Shop::open(&config).await;
        if text {
            let sent = shop.send(hello("09120000001")).await;
            assert_eq!((sent.status, shop.simulator.accepted(name)), (200, 1), "{config}: {sent:?}");
        }
        let body = json!({"mobile_number": "09120000002", "message_text": "4711", "template_id": 1});
        let sent = shop.send(body).await;
        assert_eq!(sent.status, 200, "{config}: {sent:?}");
        let messages = shop.simulator.messages();
        let message = messages.last().expect("a message");
        assert_eq!(message.number, "09120000002");
        assert!(message.tokens.iter().any(|(_, value)| value.contains("4711")), "{message:?}");
        // The delivery state, as the provider reports it.
        shop.clock.advance(Duration::from_secs(60));
        let app = &shop.gateway.app;
        app.sms_queue.poll(&app.live().sms).await.expect("polled");
        let message = shop.get(&format!("/message/{}/", sent.body["id"])).await.body;
        assert!(["accepted", "delivered"].iter().any(|status| message["status"] == *status), "{message}");
    }
    // A provider with templates only reports that instead of sending.
    let shop = Shop::open(PARSIAN).await;
    let refused = shop.send(hello("09120000001")).await;
    assert_eq!((refused.status, refused.body["template_id"].is_array()), (400, true), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn meli_payamaks_failures_are_failures() {
    // Defect 23: "2" (no credit) and "0" (bad login) were answered with 200.
    for api in ["rest", "soap"] {
        for (code, reason) in [(2, "insufficient_credit"), (0, "unauthorized")] {
            let shop = Shop::open(&MELI.replace("API", api)).await;
            shop.simulator.fault(Fault::code("meli_payamak", code)).expect("a fault");
            let refused = shop.send(hello("09120000001")).await;
            assert_eq!((refused.status, &refused.body["code"]), (502, &json!("sms_refused")), "{api} {code}");
            assert_eq!(refused.body["tried"][0]["reason"], reason, "{api}: {refused:?}");
            let otp = shop.gateway.post("/otp/send/", json!({"mobile_number": "09120000002"})).await;
            assert_eq!(otp.status, 502, "{api} {code}: {otp:?}");
            assert_eq!(shop.simulator.accepted("meli_payamak"), 0);
        }
    }
}
