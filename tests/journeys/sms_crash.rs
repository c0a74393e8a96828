//! A gateway that is killed while it sends: what was queued is sent once, and what may have been sent is not repeated.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chelseru_simulator::{Fault, Simulator};
use chelseru_tests::process::{self, Served};
use chelseru_tests::{Answer, PATIENCE};
use serde_json::json;

use super::sms::KAVENEGAR;

const CRASH: &str = "[log]\nlevel = \"error\"\n";
/// Messages queued when the gateway is killed, and how many of them the provider has answered.
const QUEUED: usize = 1000;
const ANSWERED: u32 = 200;
/// Messages that may be on their way to the provider at the kill.
const IN_FLIGHT_MAX: usize = 64;

fn crash_number(n: usize) -> String {
    format!("0935{n:07}")
}

/// Queues 1,000 messages, kills the gateway while it sends them, restarts it, and waits for all outcomes. Returns the
/// outcomes by number, and how many messages the provider had at the kill.
async fn queue_and_kill(simulator: &Simulator, template: bool) -> (BTreeMap<String, String>, usize) {
    let config = format!("{CRASH}{}", KAVENEGAR.replace("SIMULATOR", &simulator.addr.to_string()));
    let dir = chelseru_tests::folder(&config);
    let key = process::run(dir.path(), &["apikey", "create", "--scope", "sms"]);
    let token = format!("Api-Key {}", String::from_utf8_lossy(&key.stdout).trim());
    let client = chelseru_tests::client();
    let served = Served::start(dir.path());
    // Some are answered; the next ones are accepted and held, so the kill strikes during sending.
    simulator.fault(Fault::delay("kavenegar", 1).accept(true).times(ANSWERED)).expect("a fault");
    simulator.fault(Fault::delay("kavenegar", 60_000).accept(true)).expect("a fault");
    let numbers: Vec<String> = (0..QUEUED).map(crash_number).collect();
    for some in numbers.chunks(64) {
        let sends = some.iter().map(|number| {
            let mut body = json!({"mobile_number": number, "message_text": "hello", "wait": false});
            if template {
                body["template_id"] = 1.into();
            }
            let request = client.post(format!("{}/message/send/", served.url)).json(&body);
            Answer::of(request.header("authorization", &token))
        });
        for answer in futures_util::future::join_all(sends).await {
            assert_eq!(answer.status, 202, "{answer:?}");
        }
    }
    let until = Instant::now() + PATIENCE;
    while simulator.accepted("kavenegar") <= u64::from(ANSWERED) {
        assert!(Instant::now() < until, "only {} were sent", simulator.accepted("kavenegar"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    served.kill();
    let before = usize::try_from(simulator.accepted("kavenegar")).expect("few");
    assert!(before < QUEUED, "all were sent before the kill");
    simulator.faults_clear();

    let served = Served::start(dir.path());
    let until = Instant::now() + PATIENCE;
    loop {
        let status = Answer::of(client.get(format!("{}/status/", served.operator_url))).await.body;
        let sending = client.get(format!("{}/message/?status=sending", served.url));
        let sending = Answer::of(sending.header("authorization", &token)).await.body;
        if status["sms"]["waiting"] == 0 && sending["results"] == json!([]) {
            break;
        }
        assert!(Instant::now() < until, "{status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut ends = BTreeMap::new();
    let mut next = Some(format!("{}/message/", served.url));
    while let Some(url) = next {
        let page = Answer::of(client.get(url).header("authorization", &token)).await.body;
        for message in page["results"].as_array().expect("a list") {
            let text = |key: &str| message[key].as_str().expect("text").to_owned();
            assert!(ends.insert(text("receiver"), text("status")).is_none(), "listed twice: {message}");
        }
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(ends.len(), QUEUED);
    (ends, before)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_every_queued_text_is_accepted_once() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let (ends, before) = queue_and_kill(&simulator, false).await;
    assert!(ends.values().all(|status| status == "accepted"), "{ends:?}");
    let messages = simulator.messages();
    assert_eq!(messages.len(), QUEUED, "each once");
    let asked_again = messages.iter().filter(|message| message.times_asked > 1).count();
    let begun = before + IN_FLIGHT_MAX;
    assert!((1..=begun).contains(&asked_again), "{asked_again} of {begun} were asked again by their id");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_no_template_whose_outcome_is_unknown_is_sent_again() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let (ends, before) = queue_and_kill(&simulator, true).await;
    let unknown = ends.values().filter(|status| *status == "unknown").count();
    let begun = before + IN_FLIGHT_MAX;
    assert!((1..=begun).contains(&unknown), "{unknown} of {begun} are unknown");
    assert!(ends.values().all(|status| status == "accepted" || status == "unknown"), "{ends:?}");
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for request in simulator.requests() {
        *asked.entry(request.fields.get("receptor").unwrap_or_default().to_owned()).or_default() += 1;
    }
    let twice: Vec<_> = asked.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "asked twice: {twice:?}");
}
